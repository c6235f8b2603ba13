//! A seed image pinned by digest.

use std::collections::BTreeMap;

use api::document::{self, Malformed};
use api::seed_info::SeedClusterInfo;
use api::{Digest, ImageRef};
use serde::{Deserialize, Serialize};

use crate::index::PlaceError;

/// One blob of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Digest of the blob as stored, compressed.
    pub digest: Digest,
    /// Bytes as stored.
    pub size: u64,
    /// Media type from the manifest.
    pub media_type: String,
}

/// What a reference named when it was resolved. Everything that is read afterwards is checked
/// against these digests, so a tag that moves changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedPin {
    /// The reference as the user gave it.
    pub reference: ImageRef,
    /// Digest of the image's own manifest, also when the reference named an index.
    pub digest: Digest,
    /// Labels of the image configuration.
    pub labels: BTreeMap<String, String>,
    /// The file system layers, lowest first; never empty.
    pub layers: Vec<Blob>,
    /// The image configuration.
    pub config: Blob,
}

impl SeedPin {
    /// The seed format's version as its label has it; only [`api::seed_format::VERSION`] is known.
    pub fn format_version(&self) -> Option<&str> {
        self.labels
            .get(api::label::SEED_FORMAT_VERSION)
            .map(String::as_str)
    }

    /// The seed info in the label; `None` when there is no label (contract C 3.3 row 3).
    ///
    /// # Errors
    ///
    /// When the label does not parse.
    pub fn seed_info(&self) -> Result<Option<SeedClusterInfo>, Malformed> {
        let label = self.labels.get(api::label::SEED_CLUSTER_INFO);
        label
            .map(|label| document::parse(label.as_bytes()))
            .transpose()
    }

    /// The label that says where the seed's index lies, as it is.
    ///
    /// # Errors
    ///
    /// When a layer is compressed: ranges of it are no ranges of the archive that an index speaks of.
    pub fn index(&self) -> Result<Option<&str>, PlaceError> {
        let Some(label) = self.labels.get(api::label::SEED_INDEX) else {
            return Ok(None);
        };
        match self.layers.iter().all(|layer| is_plain(&layer.media_type)) {
            true => Ok(Some(label)),
            false => Err(PlaceError::Wrong("the layer is compressed")),
        }
    }

    /// Bytes of all layers as stored.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}

/// Why a manifest or image configuration cannot be a seed's.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It does not parse.
    #[error("the image {document} is malformed")]
    Malformed {
        /// Manifest or configuration.
        document: &'static str,
        /// Why.
        #[source]
        source: Malformed,
    },
    /// It says something that no seed says.
    #[error("{0}")]
    NotASeed(String),
}

/// The parts of an image manifest that are read (OCI image spec; Docker schema 2 is the same here).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: i64,
}

/// The parts of an image configuration that are read.
#[derive(Deserialize)]
struct Config {
    config: Option<ConfigLabels>,
    architecture: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigLabels {
    labels: Option<BTreeMap<String, String>>,
}

/// Most bytes of all layers together, so that sums of sizes never overflow: more than any disk has.
const SIZE_LIMIT: u64 = 1 << 60;

/// The configuration and layers that an image manifest names.
///
/// # Errors
///
/// When it is not an image manifest of schema 2 with at least one layer and SHA-256 digests.
pub fn parse_manifest(bytes: &[u8]) -> Result<(Blob, Vec<Blob>), ImageError> {
    let manifest: Manifest = document::parse(bytes).map_err(|source| ImageError::Malformed {
        document: "manifest",
        source,
    })?;
    if manifest.schema_version != 2 {
        let version = manifest.schema_version;
        return Err(ImageError::NotASeed(format!(
            "the image manifest has schema version {version}, not 2"
        )));
    }
    let config = blob(manifest.config)?;
    let layers: Vec<_> = manifest
        .layers
        .into_iter()
        .map(blob)
        .collect::<Result<_, _>>()?;
    if layers.is_empty() {
        return Err(ImageError::NotASeed("the image has no layers".to_owned()));
    }
    let sizes = || layers.iter().map(|layer| layer.size).chain([config.size]);
    let total = sizes().try_fold(0, u64::checked_add);
    if total.is_none_or(|total| total > SIZE_LIMIT) {
        return Err(ImageError::NotASeed(
            "the image manifest gives the image more than 1 EiB".to_owned(),
        ));
    }
    if let Some(layer) = layers.iter().find(|layer| !is_tar(&layer.media_type)) {
        let kind: String = layer.media_type.escape_debug().take(100).collect();
        return Err(ImageError::NotASeed(format!(
            "the image has a layer of type \"{kind}\""
        )));
    }
    Ok((config, layers))
}

/// Media types of layers that are not compressed; those of others begin like them.
const PLAIN: [&str; 2] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
];

fn is_tar(media_type: &str) -> bool {
    PLAIN.iter().any(|plain| media_type.starts_with(plain))
}

fn is_plain(media_type: &str) -> bool {
    PLAIN.contains(&media_type)
}

fn blob(descriptor: Descriptor) -> Result<Blob, ImageError> {
    let digest = descriptor
        .digest
        .parse()
        .map_err(|error: api::digest::InvalidDigest| {
            ImageError::NotASeed(format!("the image manifest is malformed: {error}"))
        })?;
    let size = u64::try_from(descriptor.size).map_err(|_| {
        ImageError::NotASeed(format!("the image manifest gives {digest} a negative size"))
    })?;
    Ok(Blob {
        digest,
        size,
        media_type: descriptor.media_type,
    })
}

/// The labels in an image configuration.
///
/// # Errors
///
/// When it does not parse.
pub fn parse_labels(bytes: &[u8]) -> Result<BTreeMap<String, String>, ImageError> {
    let config: Config = document::parse(bytes).map_err(|source| ImageError::Malformed {
        document: "configuration",
        source,
    })?;
    Ok(config
        .config
        .and_then(|config| config.labels)
        .unwrap_or_default())
}

/// The architecture that an image configuration is for, as OCI calls it; `None` when it does not say.
#[must_use]
pub fn parse_architecture(bytes: &[u8]) -> Option<String> {
    let config: Config = document::parse(bytes).ok()?;
    config.architecture.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures() {
        let check = |config: &str, expect: Option<&str>| {
            assert_eq!(parse_architecture(config.as_bytes()).as_deref(), expect);
        };
        check(r#"{"architecture":"arm64","config":{}}"#, Some("arm64"));
        check(r#"{"architecture":"","config":null}"#, None);
        check(r#"{"config":null}"#, None);
        check("[", None);
    }

    #[test]
    fn only_layers_that_are_not_compressed_have_an_index() {
        let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let blob = |media_type: &str| Blob {
            digest: digest.clone(),
            size: 1,
            media_type: media_type.to_owned(),
        };
        let check = |label: Option<&str>, layers: &[&str], expect: Option<Option<&str>>| {
            let label = label.map(|label| (api::label::SEED_INDEX.to_owned(), label.to_owned()));
            let pin = SeedPin {
                reference: "registry.example/seed:1".parse().unwrap(),
                digest: digest.clone(),
                labels: label.into_iter().collect(),
                layers: layers.iter().map(|kind| blob(kind)).collect(),
                config: blob(""),
            };
            assert_eq!(pin.index().ok(), expect, "{layers:?}");
        };
        let [oci, docker] = PLAIN;
        check(Some("{}"), &[oci], Some(Some("{}")));
        check(Some("{}"), &[docker], Some(Some("{}")));
        for end in ["+gzip", "+zstd", ".gzip", "x"] {
            check(Some("{}"), &[&format!("{oci}{end}")], None);
        }
        check(Some("{}"), &[oci, &format!("{oci}+gzip")], None);
        check(None, &[&format!("{oci}+gzip")], Some(None));
    }

    #[test]
    fn manifests() {
        fn check(layers: &str, expect: Result<usize, &str>) {
            let digest = format!("sha256:{}", "ab".repeat(32));
            let layers = layers.replace("DIGEST", &digest);
            let manifest = format!(
                r#"{{"schemaVersion":2,"unknown":1,"layers":{layers},
                "config":{{"mediaType":"application/json","digest":"{digest}","size":2}}}}"#
            );
            match (parse_manifest(manifest.as_bytes()), expect) {
                (Ok((_, layers)), Ok(count)) => assert_eq!(layers.len(), count),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, _) => panic!("{got:?}"),
            }
        }
        let tar = "application/vnd.oci.image.layer.v1.tar";
        let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let layer = |kind: &str, digest: &str, size: &str| {
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
        };
        let (plain, gzip) = (layer(tar, "DIGEST", "1"), layer(docker, "DIGEST", "1"));
        check(&format!("[{plain},{gzip}]"), Ok(2));
        check("[]", Err("no layers"));
        check(
            &format!("[{}]", layer("text/plain", "DIGEST", "1")),
            Err("\"text/plain\""),
        );
        check(
            &format!("[{}]", layer(tar, "sha256:../x", "1")),
            Err("not a digest"),
        );
        check(
            &format!("[{}]", layer(tar, "DIGEST", "-1")),
            Err("negative"),
        );
        let most = layer(tar, "DIGEST", &i64::MAX.to_string());
        check(&format!("[{most},{most},{most}]"), Err("1 EiB"));
        check(
            &format!("[{}]", layer(tar, "DIGEST", "\"x\"")),
            Err("malformed"),
        );
        assert!(
            parse_manifest(
                br#"{"schemaVersion":1,"config":{"mediaType":"","digest":"","size":0}}"#
            )
            .is_err()
        );
    }

    #[test]
    fn labels() {
        fn check(config: &str, expect: &[(&str, &str)]) {
            let labels = parse_labels(config.as_bytes()).unwrap();
            let got: Vec<_> = labels
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect();
            assert_eq!(got, expect);
        }
        check(
            r#"{"config":{"Labels":{"b":"2","a":"1"}},"os":"linux"}"#,
            &[("a", "1"), ("b", "2")],
        );
        check(r#"{"config":{"Labels":null}}"#, &[]);
        check(r#"{"config":{}}"#, &[]);
        check("{}", &[]);
        parse_labels(b"[").unwrap_err();
    }
}
