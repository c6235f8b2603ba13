//! What a registry offers: seed images, and the commits in them.

use std::collections::BTreeMap;

use api::Digest;
use planner::{SeedContent, SeedPin, SeedSignature};

/// A commit: the files of a release below its root, and the objects that they are made of.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Commit {
    /// Content of files by path without leading slash (`usr/...`).
    pub files: BTreeMap<String, String>,
}

impl Commit {
    /// Names of the objects that the commit reaches.
    pub(crate) fn objects(&self, checksum: &str) -> Vec<(String, String)> {
        let content = self.files.values().cloned();
        let names = content.map(|content| (format!("{}.file", hex(&content)), content));
        let mut objects: Vec<_> = names.collect();
        objects.push((format!("{checksum}.commit"), checksum.to_owned()));
        objects
    }
}

/// A seed image in a registry.
#[derive(Clone, Debug)]
pub struct SeedImage {
    /// What resolving its reference answers.
    pub pin: SeedPin,
    /// Who signed it, if anybody did.
    pub signature: Option<SeedSignature>,
    /// The documents inside.
    pub content: SeedContent,
    /// `/var`: content by path below `/var`; a path that ends in `/` is a directory.
    pub var: BTreeMap<String, String>,
    /// `/etc`: content by path below `/etc`.
    pub etc: BTreeMap<String, String>,
    /// Paths below `/etc` that the seed's own release had and the seed has not.
    pub deleted: Vec<String>,
}

/// Stands in for SHA-256: 64 hexadecimal digits that differ where the text does.
pub(crate) fn hex(text: &str) -> String {
    let part = |salt: u64| {
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325 ^ salt, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        format!("{hash:016x}")
    };
    (1..=4).map(part).collect()
}

/// The digest of a text.
pub(crate) fn digest(text: &str) -> Digest {
    let hex = hex(text);
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let pair = hex.get(2 * at..2 * at + 2).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
    }
    Digest::from_sha256(&bytes)
}
