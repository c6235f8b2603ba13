//! Files with credentials.

use seed::auth::AuthFile;

use crate::judge;

/// Shorter secrets are found in every text.
const SECRET: usize = 6;

pub(crate) fn file(bytes: &[u8]) {
    let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let (mut keys, mut secrets) = (Vec::new(), Vec::new());
    for (key, entry) in document["auths"].as_object().into_iter().flatten() {
        keys.push(key.as_str());
        for name in ["auth", "username", "password", "identitytoken"] {
            secrets.extend(entry[name].as_str());
        }
    }
    match AuthFile::parse(bytes) {
        Err(error) => hides(&judge::error(&error), &secrets, &keys),
        Ok(file) => {
            hides(&format!("{file:?}"), &secrets, &keys);
            for key in &keys {
                let (registry, repository) = key.split_once('/').unwrap_or((key, ""));
                if let Some(found) = file.find(registry, repository) {
                    let own = [found.username.as_str(), found.password.as_str()];
                    hides(&format!("{found:?}"), &own, &[]);
                    hides(&format!("{file:?}"), &own, &keys);
                }
            }
        }
    }
}

/// Checks that a text shows none of the secrets, but for those that a registry's name has in it.
fn hides(text: &str, secrets: &[&str], keys: &[&str]) {
    for secret in secrets.iter().filter(|secret| secret.len() >= SECRET) {
        let public = keys.iter().any(|key| key.contains(secret)) || OURS.contains(secret);
        assert!(public || !text.contains(secret), "{text:?} tells a secret");
    }
}

/// Our own words, which somebody may take for a password.
const OURS: &str = "Credentials(<redacted>) the auth file is not a JSON document of the form {\"auths\": {...}} (line \
    the auth file's entry for \" is an identity token; a user name and password are needed has only one of user name \
    and password is not of the form user:password is not base64 is not UTF-8";
