//! Container storage.

use std::collections::BTreeSet;

use node::ports::{Images, PullSecret};
use node::{PortError, PortResult};

use crate::machine::CONTAINERS;
use crate::node::Node;

pub(crate) fn stored(image: &str) -> String {
    format!("{CONTAINERS}/storage/{}", image.replace('/', "_"))
}

impl Images for Node {
    fn present(&self) -> PortResult<BTreeSet<String>> {
        self.operation("present", &"")?;
        Ok(self.see(|machine| {
            let storage = format!("{CONTAINERS}/storage");
            machine
                .cache
                .below(&storage)
                .filter_map(|(path, _)| machine.cache.text(path).map(str::to_owned))
                .collect()
        }))
    }

    fn pull(&self, image: &str, _secret: &PullSecret, stop: &dyn Fn() -> bool) -> PortResult<()> {
        self.operation("pull", &image)?;
        self.operation("pull: layers", &image)?;
        if stop() {
            return Err(PortError::stopped(format!("pulling {image}")));
        }
        self.effect(|machine| {
            machine.cache.write(&stored(image), 0o600, image.as_bytes());
        })?;
        self.operation("pulled", &image)
    }
}
