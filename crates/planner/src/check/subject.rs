//! What the rows look at.

use api::network_limits::NetworkLimits;
use api::seed_info::SeedClusterInfo;
use api::seed_node::SeedNodeFacts;
use api::{DeploymentId, ImageBasedUpgradeSpec, ImageRef, OcpVersion, StaterootName, Timestamp};

use super::{Fault, unknown};
use crate::facts::{
    ClusterFacts, ClusterKnowledge, Facts, NodeFacts, NodeKnowledge, SeedContent, SeedPin, Told,
};
use crate::failure::ErrorKind;
use crate::image_facts::PrecachePolicy;

/// Everything that is checked. Facts that are missing carry the reason.
pub struct Subject<'a> {
    /// What is asked for.
    pub spec: Result<&'a ImageBasedUpgradeSpec, &'a str>,
    /// The booted deployment.
    pub booted: Result<&'a DeploymentId, &'a str>,
    /// Wall clock.
    pub now: Timestamp,
    /// The cluster.
    pub cluster: Result<&'a ClusterFacts, &'a str>,
    /// The node.
    pub node: Result<&'a NodeFacts, &'a str>,
    /// The seed, resolved.
    pub pin: Result<&'a SeedPin, &'a str>,
    /// There is no such seed, or nobody may have it: asking again changes nothing.
    pub refused: bool,
    /// Why no signature was found, by who looked for one.
    pub signature_fault: Option<(ErrorKind, &'a str)>,
    /// The documents in the seed.
    pub content: Option<&'a SeedContent>,
    /// Space is reserved: the installation has begun.
    pub reserved: bool,
    /// Compressed bytes of the images that precaching will pull; `None` = not known.
    pub images: Option<u64>,
    /// What annotations of the upgrade say of the network, or what is wrong with them.
    pub limits: Result<&'a NetworkLimits, &'a str>,
    /// How images are precached where no object says it.
    pub precaching: PrecachePolicy,
}

impl<'a> Subject<'a> {
    /// The subject of a pass: what was found for another image than the one asked for does not count.
    pub fn of(spec: &'a ImageBasedUpgradeSpec, facts: &'a Facts) -> Self {
        let image = spec.seed_image_ref.as_ref().map(|seed| &seed.image);
        let image = image.and_then(|image| image.parse::<ImageRef>().ok());
        let pin = facts
            .pin
            .as_ref()
            .filter(|pin| image.as_ref() == Some(&pin.image));
        let content = facts.content.as_ref();
        Self {
            spec: Ok(spec),
            booted: facts.booted.as_ref().map_err(String::as_str),
            now: facts.now,
            cluster: match &facts.cluster {
                ClusterKnowledge::Known(cluster) => Ok(cluster),
                ClusterKnowledge::NotAsked => Err("the API server has not answered yet"),
                ClusterKnowledge::Unknown { error, .. } => Err(error),
            },
            node: match &facts.node {
                NodeKnowledge::Known(node) => Ok(node),
                NodeKnowledge::NotLooked => Err("nobody has looked at the node yet"),
                NodeKnowledge::Unknown(error) => Err(error),
            },
            content: content.filter(|content| pin.is_some_and(|pin| pin.digest == content.digest)),
            pin: pin.ok_or("the image is not resolved yet"),
            refused: false,
            signature_fault: None,
            reserved: facts.reserved,
            images: None,
            limits: facts.limits.as_ref().map_err(String::as_str),
            precaching: facts.images.policy,
        }
    }

    pub(super) fn spec(&self) -> Result<&'a ImageBasedUpgradeSpec, Fault> {
        self.spec
            .or_else(|error| unknown(format!("what is asked for is not known: {error}")))
    }

    /// The image that is asked for.
    pub(super) fn image(&self) -> Result<ImageRef, Fault> {
        let seed = self.spec()?.seed_image_ref.as_ref();
        let image = seed.map_or("", |seed| &seed.image);
        if image.is_empty() {
            let text = format!(
                "spec.seedImageRef.image is not set: {}",
                super::request::NEXT
            );
            return Err(Fault::Failed(text));
        }
        image.parse().map_err(|error: api::image::InvalidImageRef| {
            let next = super::request::NEXT;
            Fault::Failed(format!("spec.seedImageRef.image: {error}: {next}"))
        })
    }

    /// The version that is asked for.
    pub(super) fn version(&self) -> Result<OcpVersion, Fault> {
        let text = self.spec()?.seed_version();
        text.parse().map_err(|error: api::version::InvalidVersion| {
            let text = api::message::seed_version_unreadable(text, &error.to_string());
            Fault::Failed(super::request::unfit_version(text))
        })
    }

    /// The stateroot of the target.
    pub(super) fn stateroot(&self) -> Result<StaterootName, Fault> {
        Ok(StaterootName::for_version(&self.version()?))
    }

    pub(super) fn cluster(&self) -> Result<&'a ClusterFacts, Fault> {
        self.cluster
            .or_else(|error| unknown(format!("the cluster could not be asked: {error}")))
    }

    pub(super) fn node(&self) -> Result<&'a NodeFacts, Fault> {
        self.node
            .or_else(|error| unknown(format!("the node could not be examined: {error}")))
    }

    pub(super) fn pin(&self) -> Result<&'a SeedPin, Fault> {
        self.pin
            .or_else(|error| unknown(format!("the seed image is not known: {error}")))
    }

    /// What the seed says of its cluster: its documents, else its label. Nothing where there is no label or it does not
    /// parse, which is a row of its own.
    pub(super) fn info(&self) -> Result<SeedClusterInfo, Fault> {
        if let Some(content) = self.content {
            return Ok(content.info.clone());
        }
        let label = self.pin()?.cluster_info.as_deref();
        let info = label.and_then(|text| serde_json::from_str(text).ok());
        Ok(info.unwrap_or_default())
    }

    /// What the seed's label says of its node; nothing in seeds of the Go original.
    pub(super) fn seed_node(&self) -> Result<SeedNodeFacts, Fault> {
        let label = self.pin()?.node_facts.as_deref();
        let facts = label.and_then(|text| serde_json::from_str(text).ok());
        Ok(facts.unwrap_or_default())
    }
}

/// A fact, or that `what` of this cluster or node is not known.
pub(super) fn known<'t, T>(what: &str, told: &'t Told<T>) -> Result<&'t T, Fault> {
    match told {
        Told::Known(value) => Ok(value),
        Told::Unknown(error) => unknown(format!("{what} could not be read: {error}")),
    }
}

/// What the seed says, or that it does not.
pub(super) fn says<T>(what: &str, value: Option<T>) -> Result<T, Fault> {
    value.map_or_else(|| unknown(format!("the seed does not say {what}")), Ok)
}
