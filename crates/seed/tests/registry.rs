//! Seeds through a real registry.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod blocking;
mod loopback;
mod sample;
mod upload;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use api::ImageRef;
use blocking::block_on;
use loopback::{Loopback, PASSWORD};
use seed::auth::AuthFile;
use seed::layout::Layout;
use seed::reader::SeedReader;
use seed::registry::{Registry, RegistryError, Resolved};
use seed::spool::spool;
use seed::trust::Trust;
use seed::watch::Watching;
use upload::{client, pushed};

fn resolved(registry: &Loopback, image: &str) -> Resolved {
    block_on(client(registry, image).resolve(&mut ())).unwrap()
}

#[test]
fn a_seed_goes_there_and_back() {
    let registry = Loopback::start();
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let written = pushed(&registry, "org/seed:4.17.4", from.path());
    let client = client(&registry, "org/seed:4.17.4");
    let sent = AtomicU64::new(0);
    let mut watch = Watching {
        advanced: |bytes| {
            sent.fetch_add(bytes, Ordering::Relaxed);
        },
        stop: || false,
    };
    let layout = Layout::create(from.path()).unwrap();
    block_on(client.push(&layout, &written.manifest, &mut watch)).unwrap();
    assert!(sent.into_inner() >= written.size);

    let resolved = resolved(&registry, "org/seed:4.17.4");
    let pin = &resolved.pin;
    assert_eq!(pin.digest, written.manifest);
    assert_eq!(pin.layers[0].digest, written.layer);
    assert_eq!(pin.size(), written.size);
    assert_eq!(pin.labels, sample::labels());
    let by_digest = format!("org/seed@{}", pin.digest);
    assert_eq!(self::resolved(&registry, &by_digest).pin.layers, pin.layers);

    let layout = Layout::create(to.path()).unwrap();
    block_on(spool((&client).into(), &resolved, &layout, None, &mut ())).unwrap();
    let reader = SeedReader::open(&layout, pin, &mut ()).unwrap();
    sample::check(&reader);
    let index = fs::read_to_string(to.path().join("index.json")).unwrap();
    assert!(index.contains(pin.digest.as_str()), "{index}");
}

#[test]
fn a_restart_continues() {
    let mut registry = Loopback::start();
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let written = pushed(&registry, "seed:1", from.path());
    let client = client(&registry, "seed:1");
    let resolved = resolved(&registry, "seed:1");
    let layout = Layout::create(to.path()).unwrap();
    let fetch = |limit: u64| {
        let got = AtomicU64::new(0);
        let mut watch = Watching {
            advanced: |bytes| {
                got.fetch_add(bytes, Ordering::Relaxed);
            },
            stop: || got.load(Ordering::Relaxed) >= limit,
        };
        let result = block_on(spool(
            (&client).into(),
            &resolved,
            &layout,
            None,
            &mut watch,
        ));
        (result, got.into_inner())
    };
    let (result, got) = fetch(1 << 20);
    assert!(
        matches!(result, Err(RegistryError::Stopped { .. })),
        "{result:?}"
    );
    assert!(got < written.size / 2, "{got} of {}", written.size);
    let partial = to
        .path()
        .join(format!("blobs/sha256/{}.partial", written.layer.hex()));
    assert_eq!(fs::metadata(&partial).unwrap().len(), got);

    // What a power cut may leave: the right length, the wrong content.
    let file = fs::File::options().write(true).open(&partial).unwrap();
    file.write_all_at(&[0; 4096], 8192).unwrap();
    drop(file);
    fetch(u64::MAX).0.unwrap();
    assert!(!partial.exists());

    // A damaged beginning of a blob that the registry no longer gives is not taken for the blob.
    registry.stop();
    fetch(u64::MAX).0.unwrap();
    let blob = to.path().join("blobs/sha256").join(written.layer.hex());
    let file = fs::File::options().write(true).open(&blob).unwrap();
    file.write_all_at(&[0; 4096], 8192).unwrap();
    drop(file);
    let (result, _) = fetch(u64::MAX);
    assert!(
        result.as_ref().is_err_and(RegistryError::is_transient),
        "{result:?}"
    );
    assert!(!blob.exists());
}

#[test]
fn an_undamaged_beginning_is_not_fetched_again() {
    let registry = Loopback::start();
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let written = pushed(&registry, "seed:1", from.path());
    let resolved = resolved(&registry, "seed:1");
    let layout = Layout::create(to.path()).unwrap();
    let client = client(&registry, "seed:1");
    let got = AtomicU64::new(0);
    let mut watch = Watching {
        advanced: |bytes| {
            got.fetch_add(bytes, Ordering::Relaxed);
        },
        stop: || got.load(Ordering::Relaxed) >= written.size / 2,
    };
    let stopped = block_on(spool(
        (&client).into(),
        &resolved,
        &layout,
        None,
        &mut watch,
    ));
    assert!(matches!(stopped, Err(RegistryError::Stopped { .. })));
    // The registry's copy of the first half is destroyed: only a reader that does not ask for it
    // again can succeed.
    let half = usize::try_from(written.size / 2).unwrap();
    let file = fs::File::options()
        .write(true)
        .open(registry.blob(written.layer.hex()))
        .unwrap();
    file.write_all_at(&vec![0; half], 0).unwrap();
    block_on(spool((&client).into(), &resolved, &layout, None, &mut ())).unwrap();
    sample::check(&SeedReader::open(&layout, &resolved.pin, &mut ()).unwrap());
}

#[test]
fn failures_are_told_apart() {
    let mut registry = Loopback::start();
    let from = tempfile::tempdir().unwrap();
    let written = pushed(&registry, "org/seed:1", from.path());
    let resolve = |image: &str, auth: &AuthFile, trust: &Trust| {
        let image: ImageRef = image.parse().unwrap();
        block_on(async { Registry::new(&image, auth, trust)?.resolve(&mut ()).await })
    };
    let check = |image: &str, auth: &AuthFile, trust: &Trust, expect: &str| {
        let error = resolve(image, auth, trust).unwrap_err();
        let kind = format!("{error:?}");
        assert!(kind.starts_with(expect), "{image}: {kind}");
        assert!(error.to_string().contains(image), "{error}");
        assert!(!kind.contains(PASSWORD), "{kind}");
        assert_eq!(error.is_transient(), expect == "Unreachable");
    };
    let (auth, trust) = (registry.auth(), registry.trust());
    let image = registry.image("org/seed:1");
    let wrong = AuthFile::parse(registry.auth_json("wrong").as_bytes()).unwrap();
    check(&image, &wrong, &trust, "Unauthorized");
    check(&image, &AuthFile::anonymous(), &trust, "Unauthorized");
    check(&image, &auth, &Trust::system(), "Untrusted");
    check(&registry.image("org/seed:2"), &auth, &trust, "NotFound");
    check(
        &registry.image("nobody/nothing:1"),
        &auth,
        &trust,
        "NotFound",
    );
    let absent = format!("{}@sha256:{}", registry.image("org/seed"), "0".repeat(64));
    check(&absent, &auth, &trust, "NotFound");
    check(
        &registry.image("Org/Seed:1"),
        &auth,
        &trust,
        "InvalidReference",
    );

    // Pushing fails the same way.
    let layout = Layout::create(from.path()).unwrap();
    let push = |auth: &AuthFile| {
        let client = Registry::new(&image.parse().unwrap(), auth, &trust).unwrap();
        block_on(client.push(&layout, &written.manifest, &mut ()))
    };
    let result = push(&wrong);
    assert!(
        matches!(result, Err(RegistryError::Unauthorized { .. })),
        "{result:?}"
    );

    // A damaged layer, then a damaged configuration.
    let resolved = resolve(&image, &auth, &trust).unwrap();
    let damage = |hex: &str| {
        let file = fs::File::options()
            .write(true)
            .open(registry.blob(hex))
            .unwrap();
        file.write_all_at(b"X", 20).unwrap();
    };
    damage(written.layer.hex());
    let to = tempfile::tempdir().unwrap();
    let spooled = Layout::create(to.path()).unwrap();
    let client = client(&registry, "org/seed:1");
    let result = block_on(spool((&client).into(), &resolved, &spooled, None, &mut ()));
    assert!(
        matches!(result, Err(RegistryError::WrongDigest { .. })),
        "{result:?}"
    );
    assert!(!spooled.verified(&written.layer, &mut ()).unwrap());
    let blob = registry.blob(written.layer.hex());
    fs::write(&blob, &fs::read(&blob).unwrap()[..1000]).unwrap();
    let result = block_on(spool((&client).into(), &resolved, &spooled, None, &mut ()));
    assert!(
        result.as_ref().is_err_and(RegistryError::is_transient),
        "{result:?}"
    );
    damage(resolved.pin.config.digest.hex());
    check(&image, &auth, &trust, "WrongDigest");

    registry.stop();
    check(&image, &auth, &trust, "Unreachable");
    let result = push(&auth);
    assert!(
        result.as_ref().is_err_and(RegistryError::is_transient),
        "{result:?}"
    );
}

#[test]
fn an_index_leads_to_the_image_of_this_machine() {
    let registry = Loopback::start();
    let from = tempfile::tempdir().unwrap();
    let written = pushed(&registry, "seed:amd64", from.path());
    let layout = Layout::create(from.path()).unwrap();
    let size = layout.read(&written.manifest, 1 << 20).unwrap().len();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        _ => "arm64",
    };
    let push = |tag: &str, architectures: &[&str]| {
        let entries: Vec<_> = architectures
            .iter()
            .map(|architecture| {
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": written.manifest,
                    "size": size,
                    "platform": { "os": "linux", "architecture": architecture },
                })
            })
            .collect();
        let kind = "application/vnd.oci.image.index.v1+json";
        let index =
            serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries});
        let url = registry.image(&format!("v2/seed/manifests/{tag}"));
        let status = Command::new("curl")
            .args([
                "-fsS",
                "-X",
                "PUT",
                "-H",
                &format!("Content-Type: {kind}"),
                "--data",
            ])
            .args([
                &index.to_string(),
                "-u",
                &format!("{}:{PASSWORD}", loopback::USER),
            ])
            .arg("--cacert")
            .arg(registry.ca())
            .arg(format!("https://{url}"))
            .status()
            .unwrap();
        assert!(status.success());
    };
    push("multi", &["s390x", architecture]);
    push("foreign", &["s390x"]);
    let pin = resolved(&registry, "seed:multi").pin;
    assert_eq!(pin.digest, written.manifest);
    let error = block_on(client(&registry, "seed:foreign").resolve(&mut ())).unwrap_err();
    assert!(matches!(error, RegistryError::NotASeed { .. }), "{error:?}");
}

#[test]
fn the_system_bundle_is_trusted() {
    const IMAGE: &str = "SEED_TEST_IMAGE";
    const AUTH: &str = "SEED_TEST_AUTH";
    if let (Ok(image), Ok(auth)) = (std::env::var(IMAGE), std::env::var(AUTH)) {
        let auth = AuthFile::parse(auth.as_bytes()).unwrap();
        let client = Registry::new(&image.parse().unwrap(), &auth, &Trust::system());
        block_on(client.unwrap().resolve(&mut ())).unwrap();
        return;
    }
    let registry = Loopback::start();
    let from = tempfile::tempdir().unwrap();
    pushed(&registry, "seed:1", from.path());
    let run = |bundle: &Path| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_system_bundle_is_trusted"])
            .env(IMAGE, registry.image("seed:1"))
            .env(AUTH, registry.auth_json(PASSWORD))
            .env("SSL_CERT_FILE", bundle)
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(
        run(&registry.ca()),
        "the bundle with the registry's CA was not used"
    );
    assert!(!run(Path::new("/etc/ssl/certs/ca-certificates.crt")));
}

#[test]
fn podman_builds_what_we_read_and_pulls_what_we_write() {
    let registry = Loopback::start();
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = |name: &str| ground.path().join(name);
    for name in ["certs", "context", "to"] {
        fs::create_dir(path(name)).unwrap();
    }
    fs::copy(registry.ca(), path("certs/ca.crt")).unwrap();
    fs::write(path("auth.json"), registry.auth_json(PASSWORD)).unwrap();
    let podman = |args: &[&str]| {
        let output = Command::new("podman")
            .arg("--root")
            .arg(path("root"))
            .arg("--runroot")
            .arg(path("runroot"))
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"])
            .args(args)
            .current_dir(ground.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "podman {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let login = ["--authfile", "auth.json", "--cert-dir", "certs"];

    // Ours, in podman.
    let from = tempfile::tempdir().unwrap();
    pushed(&registry, "seed:ours", from.path());
    let ours = registry.image("seed:ours");
    podman(&[&["pull", "-q"], &login[..], &[&ours]].concat());
    let labels = podman(&["image", "inspect", "--format", "{{json .Labels}}", &ours]);
    let labels: std::collections::BTreeMap<String, String> = serde_json::from_str(&labels).unwrap();
    assert_eq!(labels, sample::labels());
    let mounted = podman(&["image", "mount", &ours]);

    // Podman's, by us: the same files through COPY.
    let copied = Command::new("cp")
        .args(["-a", &format!("{mounted}/."), "context"])
        .current_dir(ground.path())
        .status()
        .unwrap();
    assert!(copied.success());
    fs::write(path("Containerfile"), "\nFROM scratch\nCOPY . /\n").unwrap();
    let theirs = registry.image("seed:theirs");
    let mut build = vec!["build", "-q", "--file", "Containerfile", "--tag", &theirs];
    let label_args: Vec<_> = sample::labels()
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    for label in &label_args {
        build.extend(["--label", label]);
    }
    build.push("context");
    podman(&build);
    podman(&[&["push", "-q"], &login[..], &[&theirs]].concat());
    let resolved = resolved(&registry, "seed:theirs");
    assert_eq!(resolved.pin.format_version(), Some("4"));
    assert_eq!(resolved.pin.layers.len(), 1);
    assert!(resolved.pin.layers[0].media_type.ends_with("gzip"));
    let layout = Layout::create(&path("to")).unwrap();
    block_on(spool(
        (&client(&registry, "seed:theirs")).into(),
        &resolved,
        &layout,
        None,
        &mut (),
    ))
    .unwrap();
    sample::check(&SeedReader::open(&layout, &resolved.pin, &mut ()).unwrap());
    podman(&["image", "unmount", "--all"]);
}
