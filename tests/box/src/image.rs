//! The operating system image that nodes are installed from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache;

/// A release of the mini-SNO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// 4.16.9, where upgrades start.
    V4_16_9,
    /// 4.17.4, where they lead.
    V4_17_4,
    /// 4.17.5, which brings the very operating system of 4.17.4.
    V4_17_5,
    /// 4.18.1, two minor versions ahead of the first.
    V4_18_1,
}

/// All of them, oldest first.
const RELEASES: [Release; 4] = [
    Release::V4_16_9,
    Release::V4_17_4,
    Release::V4_17_5,
    Release::V4_18_1,
];

impl Release {
    /// The version as `ClusterVersion` shows it.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Release::V4_16_9 => "4.16.9",
            Release::V4_17_4 => "4.17.4",
            Release::V4_17_5 => "4.17.5",
            Release::V4_18_1 => "4.18.1",
        }
    }

    /// The release whose operating system it brings, which may be another's.
    #[must_use]
    pub fn system(self) -> Release {
        match self {
            Release::V4_17_5 => Release::V4_17_4,
            other => other,
        }
    }

    /// Name of the commit in the image's repository.
    #[must_use]
    pub fn reference(self) -> String {
        format!("mini-sno/{}", self.system().version())
    }
}

impl std::str::FromStr for Release {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Release> {
        RELEASES
            .into_iter()
            .find(|release| release.version() == text)
            .with_context(|| {
                let known = RELEASES.map(Release::version).join(", ");
                format!("release {text:?}: known are {known}")
            })
    }
}

/// The built image: an ostree repository with one commit for each release.
#[derive(Clone, Debug)]
pub struct Image {
    dir: PathBuf,
}

impl Image {
    /// The image of this source tree, built by `hack/mini-sno/build` unless it is in the cache
    /// (about 90 s and 600 MB of disk the first time).
    ///
    /// # Errors
    /// When the build fails; it says why on standard error.
    pub fn ensure() -> Result<Image> {
        let dir = cache::built_by(&source_dir().join("build"))?;
        Ok(Image { dir })
    }

    /// The repository that holds the commits.
    #[must_use]
    pub fn repo(&self) -> PathBuf {
        self.dir.join("repo")
    }

    /// Bytes of the root filesystem of one release.
    ///
    /// # Errors
    /// When the build did not leave the figure.
    pub fn root_bytes(&self) -> Result<u64> {
        let path = self.dir.join("size");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        text.trim_end()
            .parse()
            .with_context(|| format!("number in {}", path.display()))
    }
}

/// `hack/mini-sno` of this source tree.
pub(crate) fn source_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack/mini-sno")
}
