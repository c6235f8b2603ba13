//! A small seed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use api::seed_format::{
    CONTAINERS_LIST, ETC_DELETIONS, LCA_CLI, MACHINE_CONFIG, RPM_OSTREE, SEED_INFO,
};
use api::{ImageRef, label};
use seed::archive::{ArchiveWriter, Capture, CaptureError, Excludes, MemberPath, Overlay, Time};
use seed::layout::Layout;
use seed::reader::{Part, SeedReader};
use seed::writer::{SeedWriter, WriteError, Written};

pub(crate) const STAMP: Time = Time {
    secs: 1_700_000_000,
    nanos: 5,
};

pub(crate) const ORIGIN: &str =
    "ostree-ed4a0d25a3f1c3e5b0aa4ee5a3ddc1f2e35e0e4b3c1a8f0c5d66a6d9a5ab719c.0.origin";

pub(crate) const INFO: &str = r#"{"seed_cluster_ocp_version":"4.17.4","has_proxy":false,
    "has_fips":false,"additionalTrustBundle":null,"unknown":1}"#;

pub(crate) const DOCUMENTS: [(&str, &str); 6] = [
    (CONTAINERS_LIST, "quay.io/a/b:1\n\n"),
    (SEED_INFO, INFO),
    (RPM_OSTREE, r#"{"deployments":[]}"#),
    (MACHINE_CONFIG, r#"{"spec":{}}"#),
    (ETC_DELETIONS, "/etc/gone\n"),
    (ORIGIN, "[origin]\nrefspec=x\n"),
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("write")]
    Write(#[from] WriteError),
    #[error("capture")]
    Capture(#[from] CaptureError),
}

pub(crate) fn labels() -> BTreeMap<String, String> {
    [
        (label::SEED_FORMAT_VERSION, "4"),
        (label::SEED_CLUSTER_INFO, INFO),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The text that the part of a sample holds, too random to compress.
pub(crate) fn content(part: Part) -> Vec<u8> {
    let mut state = 1 + part as u64;
    let mut bytes = Vec::new();
    while bytes.len() < 3_000_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_be_bytes()[..4]);
    }
    bytes
}

/// Writes a sample seed into the layout at `dir`.
pub(crate) fn write(dir: &Path, reference: &ImageRef) -> Written {
    let trees = tempfile::tempdir().unwrap();
    let mut writer = SeedWriter::create(Layout::create(dir).unwrap(), STAMP).unwrap();
    for (name, text) in DOCUMENTS {
        writer.document(name, text.as_bytes()).unwrap();
    }
    let program = trees.path().join("program");
    fs::write(&program, "#!").unwrap();
    writer.file(LCA_CLI, &program, 0o777).unwrap();
    for part in [Part::Etc, Part::Ostree, Part::Var] {
        let tree = trees.path().join(part.file_name());
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), content(part)).unwrap();
        let produce = |out: &mut dyn Write| -> Result<(), Failed> {
            let watch = &mut ();
            let out = ArchiveWriter::new(out);
            let mut capture =
                Capture::new(out, Excludes::default(), Overlay::default(), STAMP, watch);
            capture.tree(
                &tree,
                &MemberPath::parse(part.file_name().as_bytes()).unwrap(),
            )?;
            capture.finish()?;
            Ok(())
        };
        writer.part(part, produce).unwrap();
    }
    writer
        .finish(reference, &labels(), "2026-11-21T16:00:00Z", &mut ())
        .unwrap()
}

/// Checks that a reader finds in a seed what [`write`] put there.
pub(crate) fn check(reader: &SeedReader<'_>) {
    for (name, text) in DOCUMENTS {
        assert_eq!(
            reader.documents().get(name).unwrap(),
            text.as_bytes(),
            "{name}"
        );
    }
    assert_eq!(reader.documents().names().count(), DOCUMENTS.len());
    for part in Part::ALL {
        let found = reader.with_part(part, |input| {
            let names = seed::archive::Names::none();
            let mut archive = seed::archive::ArchiveReader::decoding(input, names).unwrap();
            assert_eq!(
                archive.next_entry().unwrap().unwrap().path.to_string(),
                part.file_name()
            );
            let file = archive.next_entry().unwrap().unwrap();
            assert_eq!(file.path.to_string(), format!("{}/file", part.file_name()));
            let mut bytes = Vec::new();
            archive.content().read_to_end(&mut bytes).unwrap();
            assert_eq!(archive.next_entry().unwrap(), None);
            bytes
        });
        assert!(found.unwrap() == content(part), "{part:?}");
    }
}
