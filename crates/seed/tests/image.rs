//! Seeds in a layout: written, read, and read from layers that others made.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sample;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use api::{Digest, ImageRef, label, seed_format};
use flate2::Compression;
use flate2::write::GzEncoder;
use seed::index::{Index, ObjectId, ObjectKind, Place};
use seed::layout::Layout;
use seed::pin::{Blob, SeedPin};
use seed::reader::{Part, ReadError, SeedReader};
use seed::watch::Watching;
use seed::writer::{SeedWriter, WriteError};

fn reference() -> ImageRef {
    "registry.example/org/seed:4.17.4".parse().unwrap()
}

fn pin(layers: Vec<Digest>) -> SeedPin {
    let blob = |digest| Blob {
        digest,
        size: 0,
        media_type: String::new(),
    };
    SeedPin {
        reference: reference(),
        digest: layers[0].clone(),
        labels: BTreeMap::new(),
        config: blob(layers[0].clone()),
        layers: layers.into_iter().map(blob).collect(),
    }
}

#[test]
fn a_seed_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let written = sample::write(dir.path(), &reference());
    let layout = Layout::create(dir.path()).unwrap();
    let pin = pin(vec![written.layer.clone()]);
    sample::check(&SeedReader::open(&layout, &pin, &mut ()).unwrap());
    assert!(layout.verified(&written.layer, &mut ()).unwrap());
    assert_eq!(
        layout
            .open(&written.layer)
            .unwrap()
            .metadata()
            .unwrap()
            .len(),
        written.size
    );
    // The same input gives the same image.
    let again = tempfile::tempdir().unwrap();
    let size = sample::write(again.path(), &reference()).size;
    assert_eq!(size, written.size);
    let mut names: Vec<_> = fs::read_dir(dir.path().join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name.contains("partial"));
    assert_eq!(names, Vec::<String>::new());
}

#[test]
fn an_unfinished_seed_leaves_nothing_and_lacks_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    let mut writer = SeedWriter::create(layout, sample::STAMP).unwrap();
    writer.document(seed_format::SEED_INFO, b"{}").unwrap();
    let twice = writer.document(seed_format::SEED_INFO, b"{}");
    assert!(matches!(twice, Err(WriteError::Name { .. })), "{twice:?}");
    let path = writer.document("a/b", b"");
    assert!(matches!(path, Err(WriteError::Name { .. })), "{path:?}");
    let done = writer.finish(&reference(), &BTreeMap::new(), "", &mut ());
    assert_eq!(
        done.unwrap_err().to_string(),
        "the seed has no \"containers.list\" yet"
    );
    assert_eq!(
        fs::read_dir(dir.path().join("blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_seed_whose_objects_are_known_is_indexed() {
    let write = |listed: u8| {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let mut writer = SeedWriter::create(layout, sample::STAMP).unwrap();
        for (name, text) in sample::DOCUMENTS {
            writer.document(name, text.as_bytes()).unwrap();
        }
        for part in [Part::Etc, Part::Var] {
            let produce = |out: &mut dyn Write| out.write_all(&[0; 1024]);
            let produced = writer.part(part, |out| -> Result<_, WriteError> { Ok(produce(out)) });
            produced.unwrap().unwrap();
        }
        let commit = ObjectId {
            checksum: [listed; 32],
            kind: ObjectKind::Commit,
        };
        writer
            .repository([1; 32], |chain| -> Result<_, WriteError> {
                chain.begin(Some(commit)).unwrap();
                chain.write_all(&[1; 512]).unwrap();
                Ok(())
            })
            .unwrap();
        let written = writer.finish(&reference(), &sample::labels(), "", &mut ());
        written.map(|written| (dir, written))
    };
    let (dir, written) = write(1).unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    let blob = |digest: &Digest| {
        let mut bytes = Vec::new();
        layout
            .open(digest)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    };
    let manifest: serde_json::Value = serde_json::from_slice(&blob(&written.manifest)).unwrap();
    let config = manifest["config"]["digest"].as_str().unwrap().parse();
    let labels = seed::pin::parse_labels(&blob(&config.unwrap())).unwrap();
    let pin = pin(vec![written.layer.clone()]);
    let layer = Blob {
        size: written.size,
        ..pin.layers[0].clone()
    };
    let place = Place::parse(&labels[label::SEED_INDEX], &[layer]).unwrap();
    assert_eq!(Some(&place), written.index.as_ref());
    let bytes = blob(&written.layer);
    let range = |range: std::ops::Range<u64>| &bytes[range.start as usize..range.end as usize];
    let index = range(place.range());
    assert_eq!(layout.store(index).unwrap(), place.sha256);
    let index = Index::decode(index, &place, written.size).unwrap();
    let documents = index.documents.iter().map(|document| {
        let content = range(document.offset..document.offset + document.length);
        (document.name.as_str(), str::from_utf8(content).unwrap())
    });
    assert!(documents.eq(sample::DOCUMENTS));
    assert_eq!(index.ostree.members.len(), 1);

    // A caller that does not list the commit that it names.
    let error = write(2).unwrap_err();
    assert!(matches!(error, WriteError::Index(_)), "{error:?}");

    // Where nobody tells the objects, there is no index.
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(sample::write(dir.path(), &reference()).index, None);
}

/// Root members of a layer, each a regular file.
fn layer(members: &[(&str, &[u8])], compress: Option<&str>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    let plain = builder.into_inner().unwrap();
    match compress {
        Some("gzip") => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&plain).unwrap();
            encoder.finish().unwrap()
        }
        Some(_) => zstd::stream::encode_all(plain.as_slice(), 1).unwrap(),
        None => plain,
    }
}

const ARCHIVES: [(&str, &[u8]); 3] = [("etc.tgz", b"E"), ("ostree.tgz", b"O"), ("var.tgz", b"V")];

fn read(dir: &Path, layers: &[Vec<u8>]) -> Result<BTreeMap<String, String>, ReadError> {
    let layout = Layout::create(dir).unwrap();
    let layers = layers
        .iter()
        .map(|layer| layout.store(layer).unwrap())
        .collect();
    let pin = pin(layers);
    let reader = SeedReader::open(&layout, &pin, &mut ())?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let documents = reader.documents();
    let mut all: BTreeMap<_, _> = documents
        .names()
        .map(|name| (name.to_owned(), text(documents.get(name).unwrap())))
        .collect();
    for part in Part::ALL {
        let found = reader.with_part(part, |input| std::io::read_to_string(input).unwrap())?;
        assert_eq!(reader.part_size(part), found.len() as u64);
        all.insert(part.file_name().to_owned(), found);
    }
    Ok(all)
}

#[test]
fn layers_of_any_order_compression_and_number() {
    fn check(layers: &[Vec<u8>], expect: &[(&str, &str)]) {
        let dir = tempfile::tempdir().unwrap();
        let all = read(dir.path(), layers).unwrap();
        let all: Vec<_> = all.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(all, expect);
    }
    let archives = [("etc.tgz", "E"), ("ostree.tgz", "O"), ("var.tgz", "V")];
    for compress in [None, Some("gzip"), Some("zstd")] {
        let mut members = ARCHIVES.to_vec();
        check(&[layer(&members, compress)], &archives);
        members.reverse();
        members.push(("stray", b"x"));
        members.push(("sub/manifest.json", b"x"));
        check(&[layer(&members, compress)], &archives);
        let over: &[(&str, &[u8])] = &[("var.tgz", b"V2"), ("./etc.deletions", b"D")];
        check(
            &[layer(&ARCHIVES, compress), layer(over, None)],
            &[
                ("etc.deletions", "D"),
                archives[0],
                archives[1],
                ("var.tgz", "V2"),
            ],
        );
        let below: &[(&str, &[u8])] = &[("etc.deletions", b"D"), ("manifest.json", b"M")];
        let without: &[(&str, &[u8])] = &[(".wh.etc.deletions", b"")];
        check(
            &[
                layer(below, compress),
                layer(&ARCHIVES, compress),
                layer(without, compress),
            ],
            &[
                archives[0],
                ("manifest.json", "M"),
                archives[1],
                archives[2],
            ],
        );
        let mut opaque = ARCHIVES.to_vec();
        opaque.push((".wh..wh..opq", b""));
        check(
            &[layer(below, compress), layer(&opaque, compress)],
            &archives,
        );
    }
}

#[test]
fn what_is_no_seed_is_refused() {
    fn check(layers: &[Vec<u8>], expect: &str) {
        let dir = tempfile::tempdir().unwrap();
        let error = read(dir.path(), layers).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
    check(
        &[layer(&[("bin/sh", b"x")], Some("gzip"))],
        "no file \"ostree.tgz\"",
    );
    check(
        &[layer(&ARCHIVES, None), layer(&[(".wh.var.tgz", b"")], None)],
        "\"var.tgz\"",
    );
    check(
        &[layer(&[("etc.tgz", b"E"), ("ostree.tgz", b"O")], None)],
        "\"var.tgz\"",
    );
    check(&[b"not a tar".repeat(100)], "is damaged");
    let cut = layer(&ARCHIVES, Some("gzip"));
    check(&[cut[..cut.len() - 20].to_vec()], "is damaged");
    let long = vec![b' '; (1 << 20) + 1];
    check(
        &[layer(&[("manifest.json", &long)], None)],
        "longer than 1048576 bytes",
    );
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder
        .append_link(&mut header, "manifest.json", "/etc/shadow")
        .unwrap();
    check(
        &[builder.into_inner().unwrap()],
        "\"manifest.json\" in the seed is not a regular file",
    );
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    let pin = pin(vec![format!("sha256:{}", "0".repeat(64)).parse().unwrap()]);
    let error = SeedReader::open(&layout, &pin, &mut ()).unwrap_err();
    assert!(matches!(error, ReadError::Layout(_)), "{error:?}");
}

#[test]
fn opening_heeds_a_stop_inside_a_member() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    let digest = layout
        .store(&layer(&[("etc.tgz", &vec![0; 64 << 20])], Some("gzip")))
        .unwrap();
    let pin = pin(vec![digest]);
    let looks = std::sync::atomic::AtomicU32::new(0);
    let mut watch = Watching {
        advanced: |_| (),
        stop: || looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 2,
    };
    let error = SeedReader::open(&layout, &pin, &mut watch).unwrap_err();
    assert!(matches!(error, ReadError::Stopped), "{error:?}");
}

#[test]
fn labels_of_a_pin() {
    let mut pin = pin(vec![format!("sha256:{}", "0".repeat(64)).parse().unwrap()]);
    assert_eq!(pin.format_version(), None);
    assert_eq!(pin.seed_info().unwrap(), None);
    pin.labels = sample::labels();
    assert_eq!(pin.format_version(), Some("4"));
    assert_eq!(
        pin.seed_info().unwrap().unwrap().seed_cluster_ocp_version,
        "4.17.4"
    );
    pin.labels
        .insert(api::label::SEED_CLUSTER_INFO.to_owned(), "{".to_owned());
    pin.seed_info().unwrap_err();
}
