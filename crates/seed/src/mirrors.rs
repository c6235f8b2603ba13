//! Where else an image can be had: `registries.conf`(5), version 2, as the Machine Config Operator
//! writes it from the cluster's mirror sets.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use api::ImageRef;
use api::document::Malformed;
use serde::Deserialize;

/// Longest file that is read, in bytes.
const LIMIT: u64 = 4 << 20;

/// The registries of a node, as its files describe them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors {
    /// By prefix.
    registries: BTreeMap<String, RegistryEntry>,
}

/// Why the files are of no use.
#[derive(Debug, thiserror::Error)]
pub enum MirrorsError {
    /// One cannot be read.
    #[error("reading \"{}\"", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// One is not of the format.
    #[error("\"{}\" is not a registries.conf of version 2", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Malformed,
    },
    /// The node must not use the registry, and no mirror stands in for it.
    #[error(
        "the node's registries.conf blocks the registry of image {image} and names no mirror for it"
    )]
    Blocked {
        /// The image.
        image: ImageRef,
    },
    /// What stands there makes no reference.
    #[error("\"{location}\" in the node's registries.conf makes no reference of image {image}")]
    Location {
        /// What stands there.
        location: String,
        /// The image.
        image: ImageRef,
    },
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    registry: Vec<RegistryEntry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct RegistryEntry {
    prefix: String,
    location: String,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<MirrorEntry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct MirrorEntry {
    location: String,
    pull_from_mirror: String,
}

/// Where to ask for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Mirrors, best first.
    pub mirrors: Vec<ImageRef>,
    /// What counts when no mirror has it: what the reference itself names, after the node's
    /// rewriting. Where that is blocked the last mirror stands here instead.
    pub own: ImageRef,
}

impl Mirrors {
    /// Reads `registries.conf` and the files of `registries.conf.d` in a directory such as
    /// `/etc/containers`. Of tables with the same prefix the last one counts. That a registry is
    /// called insecure there changes nothing: certificates are always verified.
    ///
    /// # Errors
    ///
    /// When a file exists and cannot be read or understood.
    pub fn read(directory: &Path) -> Result<Self, MirrorsError> {
        let mut files = vec![directory.join("registries.conf")];
        let drop_ins = directory.join("registries.conf.d");
        let entries = match fs::read_dir(&drop_ins) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => Vec::new(),
        };
        let mut more: Vec<PathBuf> = entries
            .into_iter()
            .filter(|path| path.extension().is_some_and(|end| end == "conf"))
            .collect();
        more.sort();
        files.append(&mut more);
        let mut mirrors = Self::default();
        for path in files {
            let text = match read_bounded(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(MirrorsError::Read { path, source }),
            };
            mirrors
                .add(&text)
                .map_err(|source| MirrorsError::Malformed { path, source })?;
        }
        Ok(mirrors)
    }

    /// Adds the tables of one file; they override those of the same prefix.
    ///
    /// # Errors
    ///
    /// When it is no such file.
    pub fn add(&mut self, text: &str) -> Result<(), Malformed> {
        let document: Document = toml::from_str(text).map_err(|error| malformed(text, &error))?;
        for mut entry in document.registry {
            if entry.prefix.is_empty() {
                entry.prefix.clone_from(&entry.location);
            }
            let prefix = entry.prefix.trim_end_matches('/').to_owned();
            self.registries.insert(prefix, entry);
        }
        Ok(())
    }

    /// Where to ask for `image`, by the entry with the longest prefix that fits.
    ///
    /// # Errors
    ///
    /// When the registry is blocked and has no mirror that serves the image, or a location makes no
    /// reference.
    pub fn places(&self, image: &ImageRef) -> Result<Places, MirrorsError> {
        let fitting = self.registries.iter().filter_map(|(prefix, entry)| {
            let len = prefix_len(image.as_str(), prefix)?;
            Some((len, entry))
        });
        let Some((len, entry)) = fitting.max_by_key(|(len, _)| *len) else {
            return Ok(Places {
                mirrors: Vec::new(),
                own: image.clone(),
            });
        };
        let by_digest = image.as_str().contains('@');
        let serves = |mirror: &&MirrorEntry| match mirror.pull_from_mirror.as_str() {
            "digest-only" => by_digest,
            "tag-only" => !by_digest,
            _ => by_digest || !entry.mirror_by_digest_only,
        };
        let mirrors = entry.mirror.iter().filter(serves);
        let mirrors = mirrors.map(|mirror| rewritten(image, len, &mirror.location));
        let mut mirrors = mirrors.collect::<Result<Vec<_>, _>>()?;
        let own = match entry.location.as_str() {
            // `NeverContactSource` of a mirror set: the mirrors are asked and the source never is.
            _ if entry.blocked => mirrors.pop().ok_or_else(|| MirrorsError::Blocked {
                image: image.clone(),
            })?,
            "" => image.clone(),
            location => rewritten(image, len, location)?,
        };
        Ok(Places { mirrors, own })
    }
}

/// The parser's own text shows the lines around the place, over several of its own.
fn malformed(text: &str, error: &toml::de::Error) -> Malformed {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    let lines = before.matches('\n').count();
    Malformed::new(error.message(), lines + 1, line.chars().count() + 1)
}

/// Bytes of `image` that `prefix` stands for; `None` when it is not one of the image's. `*.example.com`
/// stands for every host below `example.com`.
fn prefix_len(image: &str, prefix: &str) -> Option<usize> {
    let len = match prefix.strip_prefix("*.") {
        Some(domain) => {
            let host = image.split('/').next()?;
            let matched = match domain.contains(':') {
                true => host,
                false => host.split(':').next()?,
            };
            matched
                .strip_suffix(domain)?
                .ends_with('.')
                .then_some(matched.len())?
        }
        None => image.starts_with(prefix).then_some(prefix.len())?,
    };
    let after = image.get(len..)?.bytes().next();
    matches!(after, None | Some(b'/' | b':' | b'@')).then_some(len)
}

/// The image with its first `len` bytes replaced.
fn rewritten(image: &ImageRef, len: usize, location: &str) -> Result<ImageRef, MirrorsError> {
    let rest = image.as_str().get(len..).unwrap_or_default();
    let text = format!("{}{rest}", location.trim_end_matches('/'));
    text.parse().map_err(|_| MirrorsError::Location {
        location: location.escape_debug().take(200).collect(),
        image: image.clone(),
    })
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(fs::File::open(path)?, LIMIT), &mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"
        unqualified-search-registries = ["docker.io"]
        [[registry]]
          prefix = ""
          location = "quay.io/org"
          mirror-by-digest-only = true
          [[registry.mirror]]
            location = "mirror.lab:5000/org"
            insecure = true
          [[registry.mirror]]
            location = "second.lab/any"
            pull-from-mirror = "tag-only"
        [[registry]]
          prefix = "quay.io/org/deep"
          location = "quay.io/other"
          [[registry.mirror]]
            location = "deep.lab/d/"
        [[registry]]
          prefix = "*.example.com"
          [[registry.mirror]]
            location = "all.lab/example"
        [[registry]]
          location = "evil.io"
          blocked = true
        [[registry]]
          location = "shut.io"
          mirror-by-digest-only = true
          blocked = true
          [[registry.mirror]]
            location = "first.lab/shut"
          [[registry.mirror]]
            location = "second.lab/shut"
    "#;

    #[test]
    fn the_longest_prefix_leads() {
        let mut mirrors = Mirrors::default();
        mirrors.add(CONF).unwrap();
        let check = |image: &str, expect: Result<(&[&str], &str), &str>| {
            let places = mirrors.places(&image.parse().unwrap());
            match (places, expect) {
                (Ok(places), Ok((others, own))) => {
                    let found: Vec<_> = places.mirrors.iter().map(ImageRef::as_str).collect();
                    assert_eq!(found, others, "{image}");
                    assert_eq!(places.own.as_str(), own, "{image}");
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (places, _) => panic!("{image}: {places:?}"),
            }
        };
        let digest = format!("@sha256:{}", "ab".repeat(32));
        let with = |name: &str| format!("{name}{digest}");
        check(
            &with("quay.io/org/seed"),
            Ok((
                &[&with("mirror.lab:5000/org/seed")],
                &with("quay.io/org/seed"),
            )),
        );
        check(
            "quay.io/org/seed:1",
            Ok((&["second.lab/any/seed:1"], "quay.io/org/seed:1")),
        );
        check("quay.io/organ/seed:1", Ok((&[], "quay.io/organ/seed:1")));
        check(
            "quay.io/org/deep/seed:1",
            Ok((&["deep.lab/d/seed:1"], "quay.io/other/seed:1")),
        );
        check(
            "a.b.example.com/x/seed:1",
            Ok((&["all.lab/example/x/seed:1"], "a.b.example.com/x/seed:1")),
        );
        check("example.com/seed:1", Ok((&[], "example.com/seed:1")));
        check("evil.io/seed:1", Err("blocks"));
        check(
            &with("shut.io/seed"),
            Ok((
                &[&with("first.lab/shut/seed")],
                &with("second.lab/shut/seed"),
            )),
        );
        check("shut.io/seed:1", Err("blocks"));
        check("evil.io.net/seed:1", Ok((&[], "evil.io.net/seed:1")));
    }

    #[test]
    fn files_are_read_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(Mirrors::read(dir.path()).unwrap(), Mirrors::default());
        fs::create_dir(dir.path().join("registries.conf.d")).unwrap();
        write(
            "registries.conf",
            "[[registry]]\nlocation = \"a.io\"\nblocked = true",
        );
        let image: ImageRef = "a.io/seed:1".parse().unwrap();
        let read = || Mirrors::read(dir.path()).unwrap().places(&image);
        read().unwrap_err();
        write(
            "registries.conf.d/1.conf",
            "[[registry]]\nlocation = \"a.io\"",
        );
        read().unwrap();
        write("registries.conf.d/2.conf", "[[registry]\nlocation = ");
        let error = Mirrors::read(dir.path()).unwrap_err();
        assert!(error.to_string().contains("2.conf"), "{error}");
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            why.ends_with("at line 1 column 12") && !why.contains('\n'),
            "{why}"
        );
    }
}
