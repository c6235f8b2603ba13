//! Credentials for registries, as pull secrets and auth files hold them.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// A user name and password. Neither shows in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or robot token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(<redacted>)")
    }
}

/// Credentials by registry and repository: a Docker configuration (`{"auths": {...}}`), as in
/// `.dockerconfigjson` of a pull secret and `/var/lib/kubelet/config.json`.
#[derive(Clone, Default)]
pub struct AuthFile {
    entries: BTreeMap<String, Option<Credentials>>,
}

impl fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

/// Why an auth file is of no use. The text holds nothing of the secret but a registry's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It is not a Docker configuration.
    #[error(
        "the auth file is not a JSON document of the form {{\"auths\": {{...}}}} (line {line})"
    )]
    Malformed {
        /// Where the parser gave up.
        line: usize,
    },
    /// An entry that cannot be used.
    #[error("the auth file's entry for \"{registry}\" {reason}")]
    Entry {
        /// Its key.
        registry: String,
        /// What is wrong.
        reason: &'static str,
    },
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl AuthFile {
    /// No credentials: access is anonymous.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Parses a Docker configuration.
    ///
    /// # Errors
    ///
    /// When it does not parse or an entry is neither `auth` (base64 of `user:password`) nor a user
    /// name with a password.
    pub fn parse(bytes: &[u8]) -> Result<Self, AuthError> {
        // The parser's own text could quote the secret.
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| AuthError::Malformed { line: error.line() })?;
        let mut entries = BTreeMap::new();
        for (key, entry) in document.auths {
            let credentials = entry.credentials().map_err(|reason| AuthError::Entry {
                registry: key.escape_debug().take(100).collect(),
                reason,
            })?;
            entries.insert(normal(&key), credentials);
        }
        Ok(Self { entries })
    }

    /// The credentials for a repository: the entry with the longest key that is the registry or the
    /// registry with leading path components of the repository (containers-auth.json(5)).
    pub fn find(&self, registry: &str, repository: &str) -> Option<&Credentials> {
        let mut key = format!("{registry}/{repository}");
        loop {
            if let Some(found) = self.entries.get(&key) {
                return found.as_ref();
            }
            let slash = key.rfind('/')?;
            key.truncate(slash);
        }
    }
}

impl Entry {
    /// `None` for an entry that holds nothing, as `podman logout` leaves it.
    fn credentials(self) -> Result<Option<Credentials>, &'static str> {
        let text = self.auth.filter(|auth| !auth.is_empty());
        if let Some(text) = text {
            let bytes = STANDARD.decode(text.trim()).map_err(|_| "is not base64")?;
            let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
            let (username, password) = text
                .split_once(':')
                .ok_or("is not of the form user:password")?;
            let password = password.trim_end_matches('\0').to_owned();
            return Ok(Some(Credentials {
                username: username.to_owned(),
                password,
            }));
        }
        match (self.username, self.password) {
            (Some(username), Some(password)) => Ok(Some(Credentials { username, password })),
            (None, None) if self.identitytoken.is_some() => {
                Err("is an identity token; a user name and password are needed")
            }
            (None, None) => Ok(None),
            _ => Err("has only one of user name and password"),
        }
    }
}

/// A key as it is looked up: old Docker writes URLs.
fn normal(key: &str) -> String {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let host = match bare {
        Some(url) => url.split('/').next().unwrap_or(url),
        None => key.trim_end_matches('/'),
    };
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"auths":{
        "quay.io":{"auth":"cXVheTpwYXNz","email":""},
        "quay.io/org":{"auth":"b3JnOnBhOnNz"},
        "quay.io/org/repo/":{"username":"repo","password":"p"},
        "quay.io/gone":{},
        "https://index.docker.io/v1/":{"auth":"aHViOng="},
        "10.0.0.1:5000":{"auth":"bG9jYWw6eAAA"}},"credsStore":"x"}"#;

    #[test]
    fn longest_match() {
        let file = AuthFile::parse(FILE.as_bytes()).unwrap();
        let check = |registry: &str, repository: &str, expect: Option<(&str, &str)>| {
            let found = file.find(registry, repository);
            let found = found.map(|found| (found.username.as_str(), found.password.as_str()));
            assert_eq!(found, expect, "{registry}/{repository}");
        };
        check("quay.io", "other", Some(("quay", "pass")));
        check("quay.io", "organ/repo", Some(("quay", "pass")));
        check("quay.io", "org/x", Some(("org", "pa:ss")));
        check("quay.io", "org/repo", Some(("repo", "p")));
        check("quay.io", "org/repo/deep", Some(("repo", "p")));
        check("quay.io", "gone/x", None);
        check("docker.io", "library/x", Some(("hub", "x")));
        check("10.0.0.1:5000", "seed", Some(("local", "x")));
        check("10.0.0.1", "seed", None);
    }

    #[test]
    fn refusals_hold_no_secret() {
        fn check(file: &str, part: &str) {
            let error = AuthFile::parse(file.as_bytes()).unwrap_err().to_string();
            assert!(
                error.contains(part) && !error.contains("hunter2"),
                "{error}"
            );
        }
        check("", "line 1");
        check("\n[hunter2", "line 2");
        check(
            r#"{"auths":{"r":{"auth":"hunter2!"}}}"#,
            "\"r\" is not base64",
        );
        check(
            r#"{"auths":{"r":{"auth":"aHVudGVyMg=="}}}"#,
            "user:password",
        );
        check(r#"{"auths":{"r":{"username":"hunter2"}}}"#, "only one");
        check(
            r#"{"auths":{"r":{"identitytoken":"hunter2"}}}"#,
            "identity token",
        );
        check(r#"{"auths":"hunter2"}"#, "line 1");
    }

    #[test]
    fn debug_holds_no_secret() {
        let file = AuthFile::parse(FILE.as_bytes()).unwrap();
        let text = format!("{file:?} {:?}", file.find("quay.io", "org/x"));
        assert!(
            text.contains("quay.io/org") && !text.contains("pa:ss"),
            "{text}"
        );
    }
}
