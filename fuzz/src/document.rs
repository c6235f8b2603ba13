//! The documents of a seed.

use std::fmt::Debug;

use api::machine_config::MachineConfig;
use api::seed_info::SeedClusterInfo;
use api::seed_node::SeedNodeFacts;
use api::{containers_list, document, names, rpm_ostree};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::judge;

pub(crate) fn seed_info(bytes: &[u8]) {
    if let Some(info) = stable::<SeedClusterInfo>(bytes) {
        assert!(info.addresses().len() <= bytes.len());
    }
}

pub(crate) fn seed_node_facts(bytes: &[u8]) {
    stable::<SeedNodeFacts>(bytes);
}

pub(crate) fn rpm_ostree(bytes: &[u8]) {
    let Some(status) = stable::<rpm_ostree::Status>(bytes) else {
        return;
    };
    match status.booted() {
        Ok(id) => {
            assert_eq!(id.to_string().parse(), Ok(id.clone()));
            let directory = id.directory();
            assert!(
                !directory.contains('/') && !directory.starts_with('.'),
                "{directory:?} is no plain name"
            );
        }
        Err(error) => drop(judge::error(&error)),
    }
}

pub(crate) fn machine_config(bytes: &[u8]) {
    let config = match document::parse::<MachineConfig>(bytes) {
        Ok(config) => config,
        Err(error) => return drop(judge::error(&error)),
    };
    let arguments = config.kernel_arguments();
    let own = config.spec.kernel_arguments.len();
    let added = if config.spec.fips {
        names::FIPS_KERNEL_ARGUMENTS.len()
    } else {
        0
    };
    assert_eq!(arguments.len(), own + added);
    assert!(config.file_paths().count() <= bytes.len());
}

pub(crate) fn containers_list(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let images = match containers_list::parse(text) {
        Ok(images) => images,
        Err(error) => return drop(judge::error(&error)),
    };
    for image in &images {
        judge::line(image);
        assert!(!image.as_str().starts_with('-'), "{image} is an option");
        assert!(image.as_str().starts_with(image.registry()));
    }
    assert_eq!(
        containers_list::parse(&containers_list::print(&images)),
        Ok(images)
    );
}

/// Parses a document; what it prints reads back as the same.
fn stable<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let document: T = match document::parse(bytes) {
        Ok(document) => document,
        Err(error) => {
            judge::error(&error);
            return None;
        }
    };
    let printed = serde_json::to_vec(&document);
    let again = printed.map(|printed| document::parse::<T>(&printed));
    assert!(
        matches!(&again, Ok(Ok(again)) if *again == document),
        "{document:?} became {again:?}"
    );
    Some(document)
}
