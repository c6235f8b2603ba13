//! Container storage, and what a container runtime and podman say of it.

use std::collections::{BTreeMap, BTreeSet};

use node::ports::{HeldImages, Images, Layer, PullSecret, StoredImage};
use node::{PortError, PortResult};

use crate::machine::{CONTAINERS, Machine};
use crate::node::Node;
use crate::template::{RUNNING, STALE};

/// How much of the disk an image takes, per cent.
const EACH: u8 = 25;

pub(crate) fn stored(image: &str) -> String {
    format!("{CONTAINERS}/storage/{}", image.replace('/', "_"))
}

/// The names of the images in the storage; each has one.
fn names(machine: &Machine) -> BTreeSet<String> {
    let storage = format!("{CONTAINERS}/storage");
    let below = machine.cache.below(&storage);
    below
        .filter_map(|(path, _)| machine.cache.text(path).map(str::to_owned))
        .collect()
}

fn unless(stop: &dyn Fn() -> bool, attempted: &str) -> PortResult<()> {
    if stop() {
        return Err(PortError::stopped(attempted));
    }
    Ok(())
}

impl Images for Node {
    fn present(&self, stop: &dyn Fn() -> bool) -> PortResult<BTreeSet<String>> {
        self.operation("present", &"")?;
        unless(stop, "listing images")?;
        Ok(self.see(names))
    }

    /// Advice that does not fail is no operation: when it is asked for is a matter of time.
    fn layers(
        &self,
        images: &[String],
        _secret: &PullSecret,
        _stop: &dyn Fn() -> bool,
    ) -> BTreeMap<String, Vec<Layer>> {
        let layer = |name: &str| Layer {
            digest: format!("layer of {name}"),
            size: 1 << 20,
        };
        let layers = |image: &String| (image.clone(), vec![layer("all"), layer(image)]);
        images.iter().map(layers).collect()
    }

    fn present_layers(&self) -> BTreeSet<String> {
        let images = self.see(names);
        let layers = images.iter().map(|image| format!("layer of {image}"));
        layers.chain(["layer of all".to_owned()]).collect()
    }

    fn pull(&self, image: &str, _secret: &PullSecret, stop: &dyn Fn() -> bool) -> PortResult<()> {
        self.operation("pull", &image)?;
        self.operation("pull: layers", &image)?;
        unless(stop, &format!("pulling {image}"))?;
        self.effect(|machine| {
            machine.cache.write(&stored(image), 0o600, image.as_bytes());
        })?;
        self.operation("pulled", &image)
    }

    fn stored(&self, stop: &dyn Fn() -> bool) -> PortResult<Vec<StoredImage>> {
        self.operation("stored", &"")?;
        unless(stop, "listing images")?;
        let image = |name: String| StoredImage {
            id: name.rsplit(':').next().unwrap_or_default().to_owned(),
            created: if name == STALE { 1 } else { 2 },
            names: vec![name],
            dangling: false,
        };
        Ok(self.see(names).into_iter().map(image).collect())
    }

    fn held(&self, stop: &dyn Fn() -> bool) -> PortResult<HeldImages> {
        self.operation("held", &"")?;
        unless(stop, "listing containers")?;
        Ok(HeldImages {
            used: BTreeSet::from([RUNNING.to_owned()]),
            pinned: BTreeSet::new(),
        })
    }

    fn usage(&self) -> PortResult<u8> {
        self.operation("usage", &"")?;
        let count = u8::try_from(self.see(names).len()).unwrap_or(u8::MAX);
        Ok(count.saturating_mul(EACH).min(100))
    }

    fn remove(&self, images: &[StoredImage], stop: &dyn Fn() -> bool) -> PortResult<()> {
        self.operation("remove images", &"")?;
        for name in images.iter().flat_map(|image| &image.names) {
            unless(stop, "removing images")?;
            self.effect(|machine| machine.cache.remove(&stored(name)))?;
            self.operation("removed image", name)?;
        }
        Ok(())
    }
}
