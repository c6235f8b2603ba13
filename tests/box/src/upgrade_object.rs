//! The upgrade object of a node, used as a person with kubectl would.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::Release;
use crate::site::{conditions, seed_image};

/// Runs kubectl against the node that has the object.
pub type Kubectl<'a> = &'a dyn Fn(&[&str]) -> Result<String>;

/// The object `upgrade` of one node.
pub struct UpgradeObject<'a> {
    /// The way to it.
    pub kubectl: Kubectl<'a>,
    /// How long a stage may take before nobody waits for it any more.
    pub stage_limit: Duration,
    /// How long to wait between two looks at it.
    pub pause: Duration,
}

impl UpgradeObject<'_> {
    /// The object.
    ///
    /// # Errors
    /// When the API server does not answer, or there is none.
    pub fn get(&self) -> Result<Value> {
        let text = (self.kubectl)(&[
            "get",
            "ibu",
            "upgrade",
            "--request-timeout=3s",
            "-o",
            "json",
        ])?;
        serde_json::from_str(&text).context("reading the upgrade object")
    }

    /// Merges `patch` into it, as `kubectl patch` does.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn patch(&self, patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        (self.kubectl)(&["patch", "ibu", "upgrade", "--type=merge", "-p", &patch]).map(drop)
    }

    /// Asks for Prep with the lab's seed of `release`.
    ///
    /// # Errors
    /// As [`UpgradeObject::patch`].
    pub fn request_prep(&self, release: Release) -> Result<()> {
        let seed = json!({"image": seed_image(release), "version": release.version()});
        self.patch(&json!({"spec": {"stage": "Prep", "seedImageRef": seed}}))
    }

    /// Asks for a stage.
    ///
    /// # Errors
    /// As [`UpgradeObject::patch`].
    pub fn request(&self, stage: &str) -> Result<()> {
        self.patch(&json!({"spec": {"stage": stage}}))
    }

    /// Waits until it satisfies `wanted`, however often the node reboots meanwhile.
    ///
    /// # Errors
    /// When it does not within `limit`; the error shows the last conditions, or why there were none.
    pub fn wait(&self, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let started = Instant::now();
        let mut last = "never asked".to_owned();
        while started.elapsed() < limit {
            match self.get() {
                Ok(object) if wanted(&object) => return Ok(object),
                Ok(object) => last = object["status"]["conditions"].to_string(),
                // The conditions say more than that nobody answers any more.
                Err(_) if last.starts_with('[') => {}
                Err(error) => last = format!("{error:#}"),
            }
            std::thread::sleep(self.pause);
        }
        bail!("not within {} s; last seen: {last}", limit.as_secs())
    }

    /// Waits until a stage has ended well.
    ///
    /// # Errors
    /// When it fails or takes longer than the limit.
    pub fn wait_stage(&self, stage: &str) -> Result<Value> {
        self.wait_ended(stage, self.stage_limit)
    }

    /// As [`UpgradeObject::wait_stage`], with a limit of its own.
    ///
    /// # Errors
    /// When it fails or takes longer than `limit`.
    pub fn wait_ended(&self, stage: &str, limit: Duration) -> Result<Value> {
        let completed = if stage == "Idle" {
            "Idle".to_owned()
        } else {
            format!("{stage}Completed")
        };
        let object = self.wait(limit, |object| {
            let conditions = conditions(object);
            conditions.contains(&(&completed, "True"))
                || stage != "Idle" && conditions.contains(&(&completed, "False"))
        })?;
        ensure!(
            conditions(&object).contains(&(&completed, "True")),
            "{stage} failed: {}",
            object["status"]["conditions"]
        );
        Ok(object)
    }
}
