//! How hard Prep may work the network, as users write it: annotations of the upgrade and keys of the ConfigMap
//! `lifecycle-agent-config`. Ours: the Go original has none of it.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;

use crate::excerpt::excerpt;
use crate::{annotation, configuration, names};

/// Limits on bandwidth that are taken, in bytes per second: from 64 KiB, below which a seed takes days and registries give
/// up, to 1 TiB, above which nothing is limited.
pub const BANDWIDTHS: RangeInclusive<u64> = (64 << 10)..=(1 << 40);
/// Connections at a time that are taken.
pub const CONNECTIONS: RangeInclusive<u8> = 1..=16;
/// Pulls at a time that are taken: each is a process of some 60 MiB.
pub const PULLS: RangeInclusive<u8> = 1..=32;

/// The value that says that bandwidth is not limited, whatever the ConfigMap says.
pub const UNLIMITED: &str = "unlimited";

/// How fast may be fetched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bandwidth {
    /// As fast as it goes.
    Unlimited,
    /// At most so many bytes per second, all connections together.
    BytesPerSecond(NonZeroU64),
}

/// Limits as one object sets them; `None` = it does not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NetworkLimits {
    /// For fetching the seed.
    pub fetch_bandwidth: Option<Bandwidth>,
    /// Connections at a time over which the seed is fetched, where it is indexed.
    pub fetch_connections: Option<u8>,
    /// Images that are pulled at a time.
    pub precache_pulls: Option<u8>,
}

/// A limit that cannot be kept; it is never taken for none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{object}: {text}")]
pub struct InvalidLimit {
    object: String,
    text: String,
}

/// An object that limits stand in.
struct Place<'a> {
    object: String,
    entries: &'a BTreeMap<String, String>,
    /// Keys for bandwidth, connections and pulls.
    keys: [&'static str; 3],
    /// Whether a key looks as if it was meant to be one of them.
    is_meant: fn(&str) -> bool,
}

impl NetworkLimits {
    /// What the annotations of the upgrade say.
    ///
    /// # Errors
    ///
    /// When a value is none of those that are taken, or a key looks like a misspelt one.
    pub fn of_annotations(annotations: &BTreeMap<String, String>) -> Result<Self, InvalidLimit> {
        Place {
            object: format!("annotations of ImageBasedUpgrade {}", names::IBU),
            entries: annotations,
            keys: [
                annotation::FETCH_BANDWIDTH,
                annotation::FETCH_CONNECTIONS,
                annotation::PRECACHE_PULLS,
            ],
            is_meant: |key| key.starts_with(annotation::NETWORK_LIMITS_PREFIX),
        }
        .read()
    }

    /// What the ConfigMap's data says.
    ///
    /// # Errors
    ///
    /// As [`Self::of_annotations`].
    pub fn of_config_map(data: &BTreeMap<String, String>) -> Result<Self, InvalidLimit> {
        Place {
            object: format!("ConfigMap {}", configuration::CONFIG_MAP),
            entries: data,
            keys: [
                configuration::FETCH_BANDWIDTH,
                configuration::FETCH_CONNECTIONS,
                configuration::PRECACHE_PULLS,
            ],
            is_meant: |key| {
                let key = key.to_ascii_lowercase();
                key.starts_with("fetch") || key.starts_with("precache")
            },
        }
        .read()
    }

    /// These limits, and where they are silent the others.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            fetch_bandwidth: self.fetch_bandwidth.or(others.fetch_bandwidth),
            fetch_connections: self.fetch_connections.or(others.fetch_connections),
            precache_pulls: self.precache_pulls.or(others.precache_pulls),
        }
    }
}

impl Place<'_> {
    fn read(&self) -> Result<NetworkLimits, InvalidLimit> {
        let mut keys = self.entries.keys();
        let unknown = keys.find(|key| (self.is_meant)(key) && !self.keys.contains(&key.as_str()));
        if let Some(key) = unknown {
            let [bandwidth, connections, pulls] = self.keys;
            let key = excerpt(key);
            return self.invalid(format!(
                "there is no key {key}; the keys are {bandwidth}, {connections} and {pulls}"
            ));
        }
        let [bandwidth, connections, pulls] = self.keys;
        let allowed = format!(
            "bytes per second as a quantity from 64Ki to 1Ti, such as 20Mi, or {UNLIMITED}"
        );
        Ok(NetworkLimits {
            fetch_bandwidth: self.value(bandwidth, allowed, parse_bandwidth)?,
            fetch_connections: self.number(connections, CONNECTIONS)?,
            precache_pulls: self.number(pulls, PULLS)?,
        })
    }

    fn number(
        &self,
        key: &'static str,
        range: RangeInclusive<u8>,
    ) -> Result<Option<u8>, InvalidLimit> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.value(key, allowed, |text| {
            let number = text.parse().ok();
            number.filter(|number| range.contains(number))
        })
    }

    fn value<T>(
        &self,
        key: &'static str,
        allowed: impl fmt::Display,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, InvalidLimit> {
        let Some(text) = self.entries.get(key) else {
            return Ok(None);
        };
        match parse(text.trim()) {
            Some(value) => Ok(Some(value)),
            None => {
                let text = excerpt(text);
                self.invalid(format!("{key} is \"{text}\"; it must be {allowed}"))
            }
        }
    }

    fn invalid<T>(&self, text: String) -> Result<T, InvalidLimit> {
        Err(InvalidLimit {
            object: self.object.clone(),
            text,
        })
    }
}

fn parse_bandwidth(text: &str) -> Option<Bandwidth> {
    if text == UNLIMITED {
        return Some(Bandwidth::Unlimited);
    }
    let bytes = parse_quantity(text).filter(|bytes| BANDWIDTHS.contains(bytes))?;
    NonZeroU64::new(bytes).map(Bandwidth::BytesPerSecond)
}

/// Digits in a quantity beyond which it is none: 2^63 has 19.
const DIGITS: usize = 24;

/// A quantity as Kubernetes writes it, rounded down: digits with or without a fraction, and a suffix, binary (`Ki`) or
/// decimal (`k`), or an exponent (`e3`). No sign.
fn parse_quantity(text: &str) -> Option<u64> {
    let end = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > DIGITS || fraction.contains('.') {
        return None;
    }
    let digits: u128 = digits.parse().ok()?;
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (factor, divisor) = factor(suffix)?;
    let value = digits.checked_mul(factor)? / scale / divisor;
    u64::try_from(value).ok()
}

/// What a suffix multiplies by, and divides by.
fn factor(suffix: &str) -> Option<(u128, u128)> {
    let times = |factor: u128| Some((factor, 1));
    match suffix {
        "" => times(1),
        "Ki" => times(1 << 10),
        "Mi" => times(1 << 20),
        "Gi" => times(1 << 30),
        "Ti" => times(1 << 40),
        "k" => times(1_000),
        "M" => times(1_000_000),
        "G" => times(1_000_000_000),
        "T" => times(1_000_000_000_000),
        // Thousandths: what "20m" means, whoever writes it thinks of millions.
        "m" => Some((1, 1_000)),
        _ => {
            let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (exponent <= 12)
                .then(|| 10_u128.pow(exponent))
                .and_then(times)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        let entries = entries.iter();
        entries
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn bandwidths() {
        let check = |text: &str, expect: Option<u64>| {
            let expect = expect.map(|bytes| match NonZeroU64::new(bytes) {
                None => Bandwidth::Unlimited,
                Some(bytes) => Bandwidth::BytesPerSecond(bytes),
            });
            let found = NetworkLimits::of_config_map(&map(&[("fetchBandwidth", text)]));
            match (found, expect) {
                (Ok(limits), Some(_)) => assert_eq!(limits.fetch_bandwidth, expect, "{text}"),
                (Err(error), None) => {
                    let error = error.to_string();
                    let begins = "ConfigMap lifecycle-agent-config: fetchBandwidth is \"";
                    assert!(error.starts_with(begins), "{error}");
                    let ends = "\"; it must be bytes per second as a quantity from 64Ki to 1Ti, such as 20Mi, or unlimited";
                    assert!(error.ends_with(ends), "{error}");
                    assert!(error.len() < 300, "{error}");
                }
                (found, expect) => panic!("{text}: {found:?} instead of {expect:?}"),
            }
        };
        check("20Mi", Some(20 << 20));
        check(" 20Mi\n", Some(20 << 20));
        check("1.5Gi", Some(3 << 29));
        check(".5Mi", Some(1 << 19));
        check("20M", Some(20_000_000));
        check("200k", Some(200_000));
        check("65536", Some(65_536));
        check("64Ki", Some(64 << 10));
        check("1Ti", Some(1 << 40));
        check("2e7", Some(20_000_000));
        check("2E7", Some(20_000_000));
        check("unlimited", Some(0));
        for text in [
            "",
            "0",
            "-1",
            "+20Mi",
            "65535",
            "63Ki",
            "1.1Ti",
            "20m",
            "20MB",
            "20 Mi",
            "20Mi/s",
            "20mi",
            "20K",
            "Mi",
            "1.2.3Mi",
            ".",
            "1e99",
            "1e",
            "٢٠Mi",
            "Unlimited",
            "none",
            "0x20Mi",
            "99999999999999999999999999",
            "1E",
        ] {
            check(text, None);
        }
        check(&"9".repeat(100_000), None);
    }

    #[test]
    fn numbers() {
        let check = |key: &str, text: &str, expect: Result<u8, &str>| {
            let data = map(&[(key, text)]);
            match (NetworkLimits::of_config_map(&data), expect) {
                (Ok(limits), Ok(number)) => {
                    let found = limits.fetch_connections.or(limits.precache_pulls);
                    assert_eq!(found, Some(number), "{key} {text}");
                }
                (Err(error), Err(part)) => {
                    let error = error.to_string();
                    assert!(error.contains(part), "{error}");
                }
                (found, expect) => panic!("{key} {text}: {found:?} instead of {expect:?}"),
            }
        };
        check("fetchConnections", "1", Ok(1));
        check("fetchConnections", "16", Ok(16));
        check(
            "fetchConnections",
            "17",
            Err("fetchConnections is \"17\"; it must be a whole number from 1 to 16"),
        );
        check("fetchConnections", "0", Err("from 1 to 16"));
        check("precachePulls", "32", Ok(32));
        check(
            "precachePulls",
            "33",
            Err("precachePulls is \"33\"; it must be a whole number from 1 to 32"),
        );
        check("precachePulls", "many", Err("is \"many\""));
        check("precachePulls", "-1", Err("is \"-1\""));
        check("precachePulls", "2.0", Err("is \"2.0\""));
        check(
            "precacheParallel",
            "4",
            Err(
                "no key precacheParallel; the keys are fetchBandwidth, fetchConnections and precachePulls",
            ),
        );
        check("FetchBandwidth", "20Mi", Err("no key FetchBandwidth"));
    }

    #[test]
    fn annotations_go_before_the_config_map() {
        let both = |annotations: &[(&str, &str)], data: &[(&str, &str)]| {
            let annotations = NetworkLimits::of_annotations(&map(annotations)).unwrap();
            annotations.or(NetworkLimits::of_config_map(&map(data)).unwrap())
        };
        let bandwidth = |bytes| NonZeroU64::new(bytes).map(Bandwidth::BytesPerSecond);
        let found = both(
            &[
                (annotation::FETCH_BANDWIDTH, "1Mi"),
                ("lca.openshift.io/other", "x"),
            ],
            &[
                ("fetchBandwidth", "2Mi"),
                ("fetchConnections", "2"),
                ("signaturePolicy", "off"),
            ],
        );
        assert_eq!(
            found,
            NetworkLimits {
                fetch_bandwidth: bandwidth(1 << 20),
                fetch_connections: Some(2),
                precache_pulls: None,
            }
        );
        let found = both(
            &[(annotation::FETCH_BANDWIDTH, "unlimited")],
            &[("fetchBandwidth", "2Mi")],
        );
        assert_eq!(found.fetch_bandwidth, Some(Bandwidth::Unlimited));
        let misspelt = map(&[("network-limits.lca.openshift.io/bandwidth", "1Mi")]);
        let error = NetworkLimits::of_annotations(&misspelt).unwrap_err();
        let expect = "annotations of ImageBasedUpgrade upgrade: there is no key \
                      network-limits.lca.openshift.io/bandwidth; the keys are ";
        assert!(error.to_string().starts_with(expect), "{error}");
    }
}
