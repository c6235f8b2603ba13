//! `autorollback_config.json`: when the target returns to the origin by itself (C 9.2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::annotation;
use crate::image_based_upgrade::ImageBasedUpgrade;
use crate::null;

/// The init monitor's deadline where none is given, seconds.
pub const DEFAULT_TIMEOUT: i64 = 1800;
/// A component that no shipped unit has any more, written for readers that look for it.
pub const COMPONENT_CONFIG: &str = "config";
/// The post-pivot service.
pub const COMPONENT_POST_PIVOT: &str = "postpivot";

/// The document. A reader that finds a field absent assumes: no monitor, [`DEFAULT_TIMEOUT`], no
/// component. `monitor_enabled` is not written when false, the timeout not when 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackConfig {
    /// Whether the init monitor runs.
    #[serde(
        default,
        deserialize_with = "null::as_default",
        skip_serializing_if = "null::is_false"
    )]
    pub monitor_enabled: bool,
    /// How long the upgrade may take after the pivot, seconds; 0 or less reads as "no monitor".
    #[serde(
        default = "default_timeout",
        deserialize_with = "timeout",
        skip_serializing_if = "is_zero"
    )]
    pub monitor_timeout: i64,
    /// Which services' failures lead to a rollback.
    #[serde(default, deserialize_with = "null::as_default")]
    pub enabled_components: BTreeMap<String, bool>,
}

fn default_timeout() -> i64 {
    DEFAULT_TIMEOUT
}

fn timeout<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(DEFAULT_TIMEOUT))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

impl Default for RollbackConfig {
    /// What an absent field means.
    fn default() -> Self {
        Self {
            monitor_enabled: false,
            monitor_timeout: DEFAULT_TIMEOUT,
            enabled_components: BTreeMap::new(),
        }
    }
}

impl RollbackConfig {
    /// What the object's spec and annotations ask for.
    #[must_use]
    pub fn for_upgrade(ibu: &ImageBasedUpgrade) -> Self {
        let enabled = |key: &str| {
            ibu.metadata
                .annotations
                .get(key)
                .is_none_or(|value| value != annotation::DISABLED)
        };
        let timeout = ibu
            .spec
            .auto_rollback_on_failure
            .as_ref()
            .and_then(|config| config.init_monitor_timeout_seconds)
            .filter(|seconds| *seconds > 0)
            .unwrap_or(DEFAULT_TIMEOUT);
        let post_reboot = enabled(annotation::AUTO_ROLLBACK_POST_REBOOT_CONFIG);
        Self {
            monitor_enabled: enabled(annotation::AUTO_ROLLBACK_INIT_MONITOR),
            monitor_timeout: timeout,
            enabled_components: [COMPONENT_CONFIG, COMPONENT_POST_PIVOT]
                .map(|component| (component.to_owned(), post_reboot))
                .into(),
        }
    }

    /// Whether a failure of the component leads to a rollback.
    #[must_use]
    pub fn component_enabled(&self, component: &str) -> bool {
        self.enabled_components
            .get(component)
            .copied()
            .unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_upgrade_arms_everything() {
        let config = RollbackConfig::for_upgrade(&ImageBasedUpgrade::initial());
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"monitor_enabled":true,"monitor_timeout":1800,"enabled_components":{"config":true,"postpivot":true}}"#
        );
    }

    #[test]
    fn annotations_and_spec_change_it() {
        let check = |annotation: &str, value: &str, seconds: i64, text: &str| {
            let mut ibu = ImageBasedUpgrade::initial();
            ibu.metadata
                .annotations
                .insert(annotation.to_owned(), value.to_owned());
            ibu.spec.auto_rollback_on_failure = Some(crate::AutoRollbackOnFailure {
                init_monitor_timeout_seconds: Some(seconds),
            });
            let config = RollbackConfig::for_upgrade(&ibu);
            assert_eq!(serde_json::to_string(&config).unwrap(), text);
            assert_eq!(
                serde_json::from_str::<RollbackConfig>(text).unwrap(),
                config
            );
        };
        check(
            annotation::AUTO_ROLLBACK_INIT_MONITOR,
            "Disabled",
            3600,
            r#"{"monitor_timeout":3600,"enabled_components":{"config":true,"postpivot":true}}"#,
        );
        check(
            annotation::AUTO_ROLLBACK_INIT_MONITOR,
            "disabled",
            0,
            r#"{"monitor_enabled":true,"monitor_timeout":1800,"enabled_components":{"config":true,"postpivot":true}}"#,
        );
        check(
            annotation::AUTO_ROLLBACK_POST_REBOOT_CONFIG,
            "Disabled",
            1,
            r#"{"monitor_enabled":true,"monitor_timeout":1,"enabled_components":{"config":false,"postpivot":false}}"#,
        );
    }

    #[test]
    fn absent_fields_disarm() {
        for text in [
            "{}",
            r#"{"monitor_timeout":null,"enabled_components":null}"#,
        ] {
            let config: RollbackConfig = serde_json::from_str(text).unwrap();
            assert_eq!(config, RollbackConfig::default());
            assert!(!config.component_enabled(COMPONENT_POST_PIVOT));
        }
    }
}
