//! Points in time as Kubernetes writes them.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::excerpt::excerpt;

/// A wall clock time: RFC 3339, UTC, whole seconds, `Z` (C 1.3).
///
/// Reading accepts any offset and fraction and drops the fraction, so a value that was read
/// prints what the API server stores. The default is the Unix epoch and stands for "never set".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

/// A text that is not an RFC 3339 time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not an RFC 3339 time")]
pub struct InvalidTimestamp {
    /// The text, bounded and escaped.
    text: String,
}

impl Timestamp {
    /// From seconds since the Unix epoch; beyond the years -9999 to 9999 the nearest bound.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Self {
        let bound = if seconds < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        }
        .as_second();
        let time = jiff::Timestamp::from_second(seconds)
            .or_else(|_| jiff::Timestamp::from_second(bound))
            .unwrap_or_default();
        Self(time)
    }

    /// From the system's clock type, rounded down to a second.
    #[must_use]
    pub fn from_system_time(time: SystemTime) -> Self {
        let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
        };
        Self::from_unix(seconds)
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn unix(self) -> i64 {
        self.0.as_second()
    }

    /// The time so many seconds later (earlier if negative), bounded as in [`Self::from_unix`].
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self::from_unix(self.unix().saturating_add(seconds))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let time: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp {
            text: excerpt(text),
        })?;
        Ok(Self::from_unix(time.as_second()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_in_whole_utc_seconds() {
        let check = |text: &str, printed: &str| {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(time.to_string(), printed);
            assert_eq!(printed.parse(), Ok(time));
        };
        check("2024-02-01T19:20:40Z", "2024-02-01T19:20:40Z");
        check("2024-02-01T19:20:40.999999Z", "2024-02-01T19:20:40Z");
        check("2024-02-01T20:20:40+01:00", "2024-02-01T19:20:40Z");
        check("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "yesterday",
            "2024-02-01",
            "2024-02-30T00:00:00Z",
            "1706815240",
        ] {
            let error = text.parse::<Timestamp>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("\"{text}\" is not an RFC 3339 time")
            );
        }
    }

    #[test]
    fn seconds_are_bounded() {
        assert_eq!(
            Timestamp::from_unix(1_706_815_240).to_string(),
            "2024-02-01T19:20:40Z"
        );
        assert!(
            Timestamp::from_unix(i64::MAX)
                .to_string()
                .starts_with("9999-12-30T")
        );
        assert!(
            Timestamp::from_unix(i64::MIN)
                .to_string()
                .starts_with("-009999-01-")
        );
        assert_eq!(
            Timestamp::from_unix(5).plus_seconds(i64::MAX),
            Timestamp::from_unix(i64::MAX)
        );
        assert_eq!(
            Timestamp::from_system_time(SystemTime::UNIX_EPOCH),
            Timestamp::default()
        );
    }
}
