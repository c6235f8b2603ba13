//! How hard Prep may work the network: what annotations, the ConfigMap and the environment say together.

use std::fmt;
use std::num::NonZeroU64;

use api::network_limits::{Bandwidth, NetworkLimits};
use serde::{Deserialize, Serialize};

use crate::image_facts::PrecachePolicy;

/// How a seed is fetched.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchLimits {
    /// Most bytes per second, over all connections and from all registries together; `None` = as fast as it goes.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Connections at a time, of a seed that is indexed; any other one comes over one. At least 1.
    pub connections: u8,
}

impl Default for FetchLimits {
    /// Four connections: enough that the pauses of one are filled by the others, few enough for a registry that counts them.
    fn default() -> Self {
        Self {
            bytes_per_second: None,
            connections: 4,
        }
    }
}

impl FetchLimits {
    /// What was set, and the default for the rest.
    #[must_use]
    pub fn of(set: NetworkLimits) -> Self {
        let usual = Self::default();
        Self {
            bytes_per_second: match set.fetch_bandwidth {
                Some(Bandwidth::BytesPerSecond(bytes)) => Some(bytes),
                Some(Bandwidth::Unlimited) | None => usual.bytes_per_second,
            },
            connections: set.fetch_connections.unwrap_or(usual.connections),
        }
    }
}

/// All limits of a Prep.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    /// For the seed.
    pub fetch: FetchLimits,
    /// For the images.
    pub precache: PrecachePolicy,
}

impl Limits {
    /// What the objects of the cluster set, and where they are silent the environment or the default.
    pub(crate) fn of(set: NetworkLimits, environment: PrecachePolicy) -> Self {
        Self {
            fetch: FetchLimits::of(set),
            precache: PrecachePolicy {
                pulls: set.precache_pulls.map_or(environment.pulls, usize::from),
                ..environment
            },
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fetch, precache } = self;
        match fetch.bytes_per_second {
            // Rounded down; the smallest limit is of many KiB.
            Some(bytes) => write!(f, "seed: {} KiB/s", bytes.get() >> 10)?,
            None => f.write_str("seed: bandwidth not limited")?,
        }
        write!(
            f,
            ", {} connections at most; images: {} pulls at a time, bandwidth not limited",
            fetch.connections, precache.pulls
        )
    }
}
