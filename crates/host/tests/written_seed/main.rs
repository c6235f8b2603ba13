//! A seed with an index, read by programs that are not ours: GNU tar and gzip as the Go original runs them, and a reader of
//! single ranges that knows only the format's document.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test, and its figures"
)]

#[path = "../../../seed/tests/tree/mod.rs"]
#[allow(dead_code, reason = "shared with tests that need more")]
mod tree;

mod release;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use api::label;
use host::capture_repository;
use seed::archive::{ArchiveReader, ArchiveWriter, Capture, CaptureError, Excludes, MemberPath};
use seed::archive::{Names, Overlay, Time};
use seed::layout::Layout;
use seed::pin::{Blob, SeedPin};
use seed::reader::{Part, SeedReader};
use seed::writer::{SeedWriter, WriteError, Written};

use release::Release;
use tree::{plant, run, seen};

const STAMP: Time = Time {
    secs: 1_700_000_000,
    nanos: 0,
};

/// As the Go original calls tar (contract S 0.1).
const TAR: [&str; 4] = ["--selinux", "--xattrs", "--xattrs-include=*", "--acls"];

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("write")]
    Write(#[from] WriteError),
    #[error("capture")]
    Capture(#[from] CaptureError),
}

/// Writes a seed of the release into the layout.
fn write(layout: &Path, release: &Release, root: &Path) -> Written {
    let mut writer = SeedWriter::create(Layout::create(layout).unwrap(), STAMP).unwrap();
    for name in release.documents() {
        let text = format!("the content of {name}");
        writer.document(&name, text.as_bytes()).unwrap();
    }
    for (part, name) in [(Part::Etc, "etc"), (Part::Var, "var")] {
        let produce = |out: &mut dyn std::io::Write| -> Result<(), Failed> {
            let (out, watch) = (ArchiveWriter::new(out), &mut ());
            let none = (Excludes::default(), Overlay::default());
            let mut capture = Capture::new(out, none.0, none.1, STAMP, watch);
            capture.tree(
                &root.join(name),
                &MemberPath::parse(name.as_bytes()).unwrap(),
            )?;
            capture.finish()?;
            Ok(())
        };
        writer.part(part, produce).unwrap();
    }
    let watch = &mut ();
    let captured = capture_repository(
        &mut writer,
        &release.repository,
        &release.commit,
        STAMP,
        watch,
    );
    assert_eq!(captured.unwrap().warnings, Vec::<String>::new());
    let image = "registry.example/seed:1".parse().unwrap();
    let labels = BTreeMap::from([(label::SEED_FORMAT_VERSION.to_owned(), "4".to_owned())]);
    let created = "2026-11-21T22:00:00Z";
    writer.finish(&image, &labels, created, watch).unwrap()
}

/// What is below a directory but for what a seed leaves out. Directories get their times while they are filled.
fn content(dir: &Path) -> BTreeMap<PathBuf, tree::Seen> {
    let mut seen = seen(dir);
    let left_out =
        |path: &Path| path.parent() == Some(Path::new("tmp")) || path == Path::new(".lock");
    seen.retain(|path, _| !left_out(path) && !path.starts_with("tmp/cache"));
    for (path, seen) in &mut seen {
        if dir.join(path).is_dir() {
            seen.mtime = (0, 0);
        }
    }
    seen
}

fn same(ours: &Path, source: &Path) {
    let (ours, source) = (content(ours), content(source));
    for (path, file) in &source {
        assert!(ours.get(path) == Some(file), "{}", path.display());
    }
    let more = ours.keys().find(|path| !source.contains_key(*path));
    assert_eq!(more, None);
}

#[test]
fn programs_of_others_read_what_we_write() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let root = dir.path().join("root");
    for name in ["etc", "var"] {
        fs::create_dir_all(root.join(name)).unwrap();
        plant(&root.join(name));
    }
    let release = Release::make(dir.path());
    let layout = dir.path().join("layout");
    let written = write(&layout, &release, &root);
    let layer = layout.join("blobs/sha256").join(written.layer.hex());

    // As the Go original unpacks it.
    let unpacked = dir.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let layer_text = layer.display().to_string();
    run("tar", &["xf", &layer_text], &unpacked);
    for (archive, into, source) in [
        ("etc.tgz", "etc-out", root.join("etc")),
        ("var.tgz", "var-out", root.join("var")),
        ("ostree.tgz", "ostree-out", release.repository.clone()),
    ] {
        run("gzip", &["-t", archive], &unpacked);
        fs::create_dir(unpacked.join(into)).unwrap();
        let arguments = [&["xzf", archive, "-C", into], &TAR[..]].concat();
        run("tar", &arguments, &unpacked);
        let member = archive.trim_end_matches(".tgz");
        let unpacked = unpacked.join(into);
        match archive {
            "ostree.tgz" => same(&unpacked, &source),
            _ => same(&unpacked.join(member), &source),
        }
    }

    stock_reader(&layout, &written, &unpacked.join("ostree-out"));
    reader_of_ranges(&layer, &written, &release);

    let arguments = [&["czf", "../stock.tgz"], &TAR[..], &["."]].concat();
    run("tar", &arguments, &release.repository);
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    let stock = length(&release.repository.with_file_name("stock.tgz"));
    let (ours, index) = (
        length(&unpacked.join("ostree.tgz")),
        written.index.unwrap().length,
    );
    let ratio = (ours + index) as f64 / stock as f64;
    println!("{ours} bytes and an index of {index}; tar czf makes {stock}: {ratio:.3}");
    assert!(ratio <= 1.05);
}

/// Our reader of whole streams, as every version of it reads.
fn stock_reader(layout: &Path, written: &Written, unpacked: &Path) {
    let blob = |size| Blob {
        digest: written.layer.clone(),
        size,
        media_type: String::new(),
    };
    let pin = SeedPin {
        reference: "registry.example/seed:1".parse().unwrap(),
        digest: written.manifest.clone(),
        labels: BTreeMap::new(),
        layers: vec![blob(written.size)],
        config: blob(0),
    };
    let layout = Layout::create(layout).unwrap();
    let reader = SeedReader::open(&layout, &pin, &mut ()).unwrap();
    let read = reader.with_part(Part::Ostree, |input| {
        let mut archive = ArchiveReader::decoding(input, Names::none()).unwrap();
        let mut read = BTreeSet::new();
        while let Some(entry) = archive.next_entry().unwrap() {
            let mut bytes = Vec::new();
            archive.content().read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, entry.size);
            assert!(
                read.insert(entry.path.to_string()),
                "{} comes twice",
                entry.path
            );
        }
        read
    });
    let name = |path: &PathBuf| match path.to_str().unwrap() {
        "" => ".".to_owned(),
        path => path.to_owned(),
    };
    assert_eq!(read.unwrap(), seen(unpacked).keys().map(name).collect());
}

fn reader_of_ranges(layer: &Path, written: &Written, release: &Release) {
    let place = written.index.as_ref().unwrap();
    assert_eq!(place.layer, written.layer);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/written_seed/reader.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(layer)
        .args([place.offset.to_string(), place.length.to_string()])
        .arg(&release.repository)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = String::from_utf8_lossy(&output.stdout);
    let of = |word: &str| -> Vec<String> {
        let lines = output.lines().filter_map(|line| line.strip_prefix(word));
        lines.map(|line| line.trim().to_owned()).collect()
    };
    assert_eq!(of("document "), release.documents());
    assert!(of("var ")[0].starts_with("var var/"), "{:?}", of("var "));
    assert!(of("etc ")[0].starts_with("etc etc/"), "{:?}", of("etc "));
    let objects = of("object ");
    println!("{} objects; {}", objects.len(), of("members")[0]);
    assert_eq!(objects, release.objects());
}
