//! Registries that misbehave in the middle, stops, and a prune.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::faulty::{Fault, Faulty};
use crate::image::Image;
use crate::run::{How, Site, assert_same, serve};

#[test]
fn faults_that_pass_cost_little() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = Image::make(ground.path(), 300);
    let server = serve(&image);
    let site = Site::new(&[&server]);
    let plain = site.install(&server, How::Parts);
    let expect = site.seen(&image);
    let check = |what: &str, faults: &[Fault], tokens: bool, most: u64| {
        let server = serve(&image);
        if tokens {
            server.want_tokens();
        }
        server.will(faults);
        let site = Site::new(&[&server]);
        let outcome = site.install(&server, How::Parts);
        println!("{what}: {} KiB sent", outcome.sent >> 10);
        assert!(
            outcome.sent <= plain.sent + most,
            "{what}: {}",
            outcome.sent
        );
        assert_same(what, &site.seen(&image), &expect);
    };
    let again = |fault| vec![fault; 20];
    // What is in a connection's buffers when it ends counts as sent.
    check("truncated", &again(Fault::Truncated(5_000)), false, 0);
    check("429", &again(Fault::Status(429, Some(0)))[..2], false, 0);
    check("503", &[Fault::Status(503, None); 2], false, 0);
    check(
        "expired token",
        &again(Fault::Expired(7_000)),
        true,
        20 * 60_000,
    );
    check("reset", &again(Fault::Reset(60_000)), false, 20 * 60_000);
}

#[test]
fn a_stop_ends_it_within_seconds() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = Image::make(ground.path(), 300);
    let server = serve(&image);
    server.always(Some(Fault::Slow));
    let site = Site::new(&[&server]);
    let stopped = site.run(&server, How::Stopped);
    assert!(!stopped.succeeded, "{}", stopped.output);
    assert!(
        stopped.output.contains("error: Interrupted"),
        "{}",
        stopped.output
    );
    let took = stopped.number("stopped for: ");
    println!("stopped within {took} ms");
    assert!(took < 5000 && stopped.sent >= 2 << 20, "{}", stopped.sent);
    server.always(None);
    let rest = site.install(&server, How::Parts);
    let all = stopped.sent + rest.sent;
    println!("{} KiB, then {} KiB", stopped.sent >> 10, rest.sent >> 10);
    assert!(all <= image.layer.len() as u64 + (8 << 20));
    assert!(site.is_whole(&image));
}

/// Lets the node ask the mirror before the registry that images name.
fn set_mirror(site: &Site, own: &Faulty, mirror: &Faulty) {
    let place = |server: &Faulty| {
        let image = server.image();
        let (place, _) = image.as_str().rsplit_once(':').unwrap();
        place.to_owned()
    };
    let containers = site.node.layout.booted().join("etc/containers");
    fs::create_dir_all(&containers).unwrap();
    let text = format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        place(own),
        place(mirror)
    );
    fs::write(containers.join("registries.conf"), text).unwrap();
}

/// As on a disconnected site.
#[test]
fn a_bad_mirror_is_enough_where_nothing_else_answers() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = Image::make(ground.path(), 300);
    let own = serve(&image);
    let whole = Site::new(&[&own]);
    whole.install(&own, How::Whole);
    let expect = whole.seen(&image);
    own.end();
    let check = |what: &str, prepare: &dyn Fn(&Faulty)| {
        let mirror = serve(&image);
        prepare(&mirror);
        let site = Site::new(&[&own, &mirror]);
        set_mirror(&site, &own, &mirror);
        let outcome = site.install(&own, How::Parts);
        println!("{what}: {} KiB, {:?}", mirror.sent() >> 10, outcome.took);
        // All of it came, as one stream.
        assert!(mirror.sent() >= image.layer.len() as u64, "{what}");
        assert!(site.is_whole(&image), "{what}");
        assert_same(what, &site.seen(&image), &expect);
    };
    check("ignored range", &|mirror| {
        mirror.always(Some(Fault::IgnoredRange));
    });
    check("wrong byte, once", &|mirror| {
        mirror.will(&[Fault::WrongByte])
    });
}

#[test]
fn a_bad_mirror_is_passed_over() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = Image::make(ground.path(), 300);
    let own = serve(&image);
    let plain = Site::new(&[&own]);
    let alone = plain.install(&own, How::Parts);
    let expect = plain.seen(&image);
    let check = |what: &str, fault: Option<Fault>, of_own: &dyn Fn(u64) -> bool| {
        let mirror: Faulty = serve(&image);
        mirror.always(fault);
        let site = Site::new(&[&own, &mirror]);
        set_mirror(&site, &own, &mirror);
        let outcome = site.install(&own, How::Parts);
        println!("{what}: {} KiB of the source", outcome.sent >> 10);
        assert!(of_own(outcome.sent), "{what}: {}", outcome.sent);
        assert_same(what, &site.seen(&image), &expect);
    };
    check("good", None, &|sent| sent == 0);
    check("403", Some(Fault::Status(403, None)), &|sent| {
        sent == alone.sent
    });
    check("ignored range", Some(Fault::IgnoredRange), &|sent| {
        sent == alone.sent
    });
    let most = |sent: u64| sent > alone.sent / 2 && sent <= alone.sent;
    check("wrong byte", Some(Fault::WrongByte), &most);
}

/// A filesystem of its own, for as long as this is there.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(path: &'a Path, options: &str) -> Self {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(path);
        assert!(mount.status().unwrap().success());
        Self(path)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0).status().ok();
    }
}

/// All who write fail, while more waits than there is room for.
#[test]
fn a_full_disk_ends_it() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = Image::make(ground.path(), 900);
    let server = serve(&image);
    let site = Site::new(&[&server]);
    site.install(&server, How::Parts);
    let objects = site.objects();
    let is_short = |path: &str| {
        let size = objects.join(path).symlink_metadata().unwrap().len();
        path.ends_with(".file") && size < 20_000
    };
    site.forget(&image, is_short);
    let before = server.sent();
    let staging = site.node.layout.sysroot().join("ostree/repo/tmp");
    let small = Small::mount(&staging, "size=256k");
    let mut child = site.start(&server, How::Parts);
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    drop(small);
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(text.contains("No space left on device"), "{text}");
    // The whole would not find room either.
    assert!(server.sent() - before < image.layer.len() as u64);
    site.install(&server, How::Parts);
    assert!(site.is_whole(&image));
}

#[test]
fn a_prune_in_the_middle_costs_time_only() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = Image::make(ground.path(), 300);
    let server = serve(&image);
    let site = Site::new(&[&server]);
    site.install(&server, How::Whole);
    let expect = site.seen(&image);
    let site = Site::new(&[&server]);
    server.always(Some(Fault::Slow));
    let mut child = site.start(&server, How::Parts);
    let repo = site.node.layout.sysroot().join("ostree/repo");
    let mut pruned = 0;
    while child.try_wait().unwrap().is_none() {
        let output = Command::new("ostree")
            .args(["prune", "--refs-only", "--repo"])
            .arg(&repo)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        pruned += 1;
    }
    println!("pruned {pruned} times");
    assert!(pruned > 3);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(site.is_whole(&image));
    assert_same("pruned", &site.seen(&image), &expect);
}
