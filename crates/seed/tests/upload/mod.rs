//! The sample seed in the loopback registry.

use std::path::Path;

use api::ImageRef;
use seed::layout::Layout;
use seed::registry::Registry;
use seed::writer::Written;

use crate::blocking::block_on;
use crate::loopback::Loopback;
use crate::sample;

pub(crate) fn client(registry: &Loopback, image: &str) -> Registry {
    let image: ImageRef = registry.image(image).parse().unwrap();
    Registry::new(&image, &registry.auth(), &registry.trust()).unwrap()
}

pub(crate) fn pushed(registry: &Loopback, image: &str, dir: &Path) -> Written {
    let client = client(registry, image);
    let written = sample::write(dir, client.image());
    let layout = Layout::create(dir).unwrap();
    block_on(client.push(&layout, &written.manifest, &mut ())).unwrap();
    written
}
