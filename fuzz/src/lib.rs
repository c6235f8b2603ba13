//! Every parser of the product that reads bytes from outside, with what must hold whatever the bytes are.
//!
//! A target is a plain function that panics when something does not hold. It is run by libFuzzer (`hack/fuzz`, for as long
//! as one likes) and for a moment on each run of the tests (`tests/short.rs`); both begin with the documents in `corpus/`.
//! Every target bounds the memory and the time that it takes by what it hands to the parser.

mod archive;
mod auth;
mod document;
mod image;
mod index;
mod judge;
mod signature;

/// A parser under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of the directory in `corpus/` too.
    pub name: &'static str,
    /// Hands bytes to the parser and panics when a property does not hold.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 15] = [
    Target {
        name: "archive",
        run: archive::read,
    },
    Target {
        name: "auth-file",
        run: auth::file,
    },
    Target {
        name: "containers-list",
        run: document::containers_list,
    },
    Target {
        name: "extraction",
        run: archive::extract,
    },
    Target {
        name: "image-config",
        run: image::config,
    },
    Target {
        name: "image-manifest",
        run: image::manifest,
    },
    Target {
        name: "layer",
        run: archive::layer,
    },
    Target {
        name: "machine-config",
        run: document::machine_config,
    },
    Target {
        name: "registries-conf",
        run: image::registries,
    },
    Target {
        name: "rpm-ostree",
        run: document::rpm_ostree,
    },
    Target {
        name: "seed-index",
        run: index::read,
    },
    Target {
        name: "seed-info",
        run: document::seed_info,
    },
    Target {
        name: "seed-node-facts",
        run: document::seed_node_facts,
    },
    Target {
        name: "signature-keys",
        run: signature::keys,
    },
    Target {
        name: "signature-manifest",
        run: signature::manifest,
    },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
