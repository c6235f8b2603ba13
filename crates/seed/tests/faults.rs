//! What a registry can do wrong, and what it costs.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its table"
)]

mod blocking;
mod faulty;

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use blocking::block_on;
use faulty::{Fault, Faulty, digest, noise};
use seed::layout::Layout;
use seed::pipe::pipe;
use seed::registry::{Registry, RegistryError, Resolved, Sources};
use seed::spool::{pass, spool};
use seed::watch::Watching;

const MIB: u64 = 1 << 20;

fn resolved(client: &Registry) -> Resolved {
    block_on(client.resolve(&mut ())).unwrap()
}

/// One row: the faults of the requests for the layer, the outcome, and how many bytes of the layer were sent at most.
fn check(what: &str, faults: &[Fault], outcome: Result<(), &str>, most: u64) {
    let layer = noise(5 << 20, 1);
    let server = Faulty::start(layer.clone());
    if faults
        .iter()
        .any(|fault| matches!(fault, Fault::Expired(_)))
    {
        server.want_tokens();
    }
    let client = server.client();
    let resolved = resolved(&client);
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    server.will(faults);
    let result = block_on(spool((&client).into(), &resolved, &layout, None, &mut ()));
    let sent = server.sent();
    let told = result.as_ref().err().map_or("fetched".to_owned(), |error| {
        format!("{} (transient: {})", kind(error), error.is_transient())
    });
    println!("{what:28} {told:32} {:5} KiB sent", sent >> 10);
    match outcome {
        Ok(()) => {
            result.unwrap();
            assert!(layout.verified(&digest(&layer), &mut ()).unwrap(), "{what}");
        }
        Err(expected) => {
            let error = result.unwrap_err();
            assert_eq!(kind(&error), expected, "{what}: {error:?}");
            assert!(
                !layout.verified(&digest(&layer), &mut ()).unwrap(),
                "{what}"
            );
        }
    }
    assert!(sent <= most, "{what}: {sent} bytes were sent");
}

fn kind(error: &RegistryError) -> String {
    let text = format!("{error:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

#[test]
fn every_fault_has_its_outcome_and_its_price() {
    let whole = 5 * MIB;
    let again = |fault| [fault; 4];
    check("none", &[], Ok(()), whole);
    check("401 once", &[Fault::Status(401, None)], Ok(()), whole);
    check(
        "401",
        &again(Fault::Status(401, None)),
        Err("Unauthorized"),
        0,
    );
    check(
        "403",
        &again(Fault::Status(403, None)),
        Err("Unauthorized"),
        0,
    );
    check("404", &again(Fault::Status(404, None)), Err("NotFound"), 0);
    check(
        "429, Retry-After",
        &[Fault::Status(429, Some(1))],
        Ok(()),
        whole,
    );
    check(
        "429",
        &again(Fault::Status(429, Some(0))),
        Err("Unreachable"),
        0,
    );
    check(
        "500, 502, 503",
        &[500, 502, 503].map(|status| Fault::Status(status, None)),
        Ok(()),
        whole,
    );
    check(
        "503",
        &again(Fault::Status(503, None)),
        Err("Unreachable"),
        0,
    );
    check("418", &[Fault::Status(418, None)], Err("Protocol"), 0);
    let part = 1_500_000;
    let resets = vec![Fault::Reset(300_000); 12];
    check("reset 12 times", &resets, Ok(()), whole + 12 * MIB);
    check(
        "reset, never a byte",
        &again(Fault::Reset(0)),
        Err("Unreachable"),
        0,
    );
    check("truncated", &[Fault::Truncated(part); 3], Ok(()), whole);
    check("stalled", &[Fault::Stall(part)], Ok(()), whole);
    check(
        "stalled at once",
        &again(Fault::Stall(0)),
        Err("Unreachable"),
        0,
    );
    check("slow", &[Fault::Slow], Ok(()), whole);
    check("wrong byte", &[Fault::WrongByte], Ok(()), 2 * whole);
    check(
        "wrong byte twice",
        &[Fault::WrongByte; 2],
        Err("WrongDigest"),
        2 * whole,
    );
    let after = |fault| [Fault::Truncated(part), fault];
    check(
        "wrong byte, resumed",
        &after(Fault::WrongByte),
        Ok(()),
        2 * whole,
    );
    check(
        "ignored range",
        &after(Fault::IgnoredRange),
        Ok(()),
        whole + part as u64,
    );
    let wrong = [
        Fault::Truncated(part),
        Fault::WrongRange,
        Fault::IgnoredRange,
    ];
    check(
        "wrong Content-Range",
        &wrong,
        Ok(()),
        2 * whole + part as u64,
    );
    check(
        "expired token in mid-blob",
        &[Fault::Expired(part); 2],
        Ok(()),
        whole,
    );
    check(
        "redirect, refused there",
        &[Fault::RefusedElsewhere],
        Err("NotFound"),
        0,
    );
}

#[test]
fn a_tag_that_moves_changes_nothing() {
    let layer = noise(2 << 20, 2);
    let server = Faulty::start(layer.clone());
    let client = server.client();
    let resolved = resolved(&client);
    server.tag(&noise(100, 3));
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    block_on(spool((&client).into(), &resolved, &layout, None, &mut ())).unwrap();
    assert!(layout.verified(&digest(&layer), &mut ()).unwrap());
    // A restart asks nobody for what the spool has.
    let again = Resolved::spooled(&layout, &server.image(), &resolved.pin.digest).unwrap();
    assert_eq!(again.pin.layers, resolved.pin.layers);
}

#[test]
fn a_bad_mirror_is_passed_over() {
    let layer = noise(3 << 20, 4);
    let (mirror, own) = (Faulty::start(layer.clone()), Faulty::start(layer.clone()));
    let mirrors = [mirror.client()];
    let client = own.client();
    let sources = Sources {
        mirrors: &mirrors,
        own: &client,
    };
    let check = |what: &str, fault: Fault, of_own: u64| {
        mirror.always(Some(fault));
        let before = own.sent();
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let resolved = block_on(sources.resolve(&mut ())).unwrap();
        assert_eq!(resolved.pin.reference, own.image());
        block_on(spool(sources, &resolved, &layout, None, &mut ())).unwrap();
        assert!(layout.verified(&digest(&layer), &mut ()).unwrap(), "{what}");
        let sent = own.sent() - before;
        println!("mirror: {what:20} {:5} KiB of the source", sent >> 10);
        assert_eq!(sent, of_own, "{what}");
    };
    check("slow", Fault::Slow, 0);
    check("403", Fault::Status(403, None), 3 * MIB);
    check("503", Fault::Status(503, None), 3 * MIB);
    check("wrong byte", Fault::WrongByte, 3 * MIB);
}

/// Without a spool: outcome, whether the consumer got the whole layer, and who sent bytes: the mirror and the source.
#[test]
fn a_damaged_layer_that_is_not_kept_is_fetched_again() {
    let layer = noise(3 << 20, 6);
    let (mirror, own) = (Faulty::start(layer.clone()), Faulty::start(layer.clone()));
    let (mirrors, client) = ([mirror.client()], own.client());
    let sources = Sources {
        mirrors: &mirrors,
        own: &client,
    };
    let resolved = block_on(sources.resolve(&mut ())).unwrap();
    let check = |what: &str, outcome: Result<(), &str>, asked: (bool, bool)| {
        let before = (mirror.sent(), own.sent());
        let (writer, mut reader) = pipe(2, 64 << 10);
        let (fetched, whole) = std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                let mut bytes = Vec::new();
                let read = reader
                    .next_stream()
                    .and_then(|_| reader.read_to_end(&mut bytes));
                read.is_ok().then_some(bytes)
            });
            let fetched = block_on(pass(sources, &resolved, writer, &mut ()));
            (fetched, reading.join().unwrap())
        });
        let told = fetched.map_err(|error| (kind(&error), error.is_transient()));
        let transient = |text: &str| text != "WrongDigest";
        let expect = outcome.map_err(|text| (text.to_owned(), transient(text)));
        assert_eq!(told, expect, "{what}");
        assert_eq!(whole.as_ref() == Some(&layer), outcome.is_ok(), "{what}");
        let sent = (mirror.sent() > before.0, own.sent() > before.1);
        assert_eq!(sent, asked, "{what}");
    };
    mirror.always(Some(Fault::WrongByte));
    check("a damaged mirror", Err("Damaged"), (true, false));
    check("without that mirror", Ok(()), (false, true));
    own.always(Some(Fault::Status(503, None)));
    check("nobody else", Err("Unreachable"), (false, false));
    mirror.always(None);
    check("the repaired mirror", Ok(()), (true, false));
    mirror.always(Some(Fault::Status(403, None)));
    own.always(None);
    own.will(&[Fault::WrongByte]);
    check("the source, once", Err("Damaged"), (false, true));
    own.always(Some(Fault::WrongByte));
    check("the source", Err("WrongDigest"), (false, true));
}

#[test]
fn a_stop_while_the_spool_is_checked_loses_nothing() {
    let layer = noise(4 << 20, 8);
    let server = Faulty::start(layer.clone());
    let client = server.client();
    let resolved = resolved(&client);
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    let gone = [Fault::Status(503, None); 4];
    server.will(&[&[Fault::Truncated(3 << 20)], &gone[..]].concat());
    block_on(spool((&client).into(), &resolved, &layout, None, &mut ())).unwrap_err();
    let seen = AtomicU64::new(0);
    let mut stopping = Watching {
        advanced: |bytes| {
            seen.fetch_add(bytes, Relaxed);
        },
        stop: || seen.load(Relaxed) >= MIB,
    };
    let stopped = block_on(spool(
        (&client).into(),
        &resolved,
        &layout,
        None,
        &mut stopping,
    ));
    assert!(stopped.is_err());
    let before = server.sent();
    block_on(spool((&client).into(), &resolved, &layout, None, &mut ())).unwrap();
    assert!(server.sent() - before <= MIB + (256 << 10));
}

/// What comes through the pipe is the layer, once, whatever happens on the way.
#[test]
fn a_consumer_sees_each_byte_once() {
    let layer = noise(4 << 20, 5);
    let server = Faulty::start(layer.clone());
    let client = server.client();
    let resolved = resolved(&client);
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    let run = |faults: &[Fault], keep: bool| {
        server.will(faults);
        let (writer, mut reader) = pipe(2, 64 << 10);
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                let mut bytes = Vec::new();
                let whole = reader
                    .next_stream()
                    .and_then(|_| reader.read_to_end(&mut bytes));
                (whole.is_ok(), bytes)
            });
            let fetched = block_on(async {
                let sources = Sources::from(&client);
                match keep {
                    true => spool(sources, &resolved, &layout, Some(writer), &mut ()).await,
                    false => pass(sources, &resolved, writer, &mut ()).await,
                }
            });
            let (whole, bytes) = reading.join().unwrap();
            (fetched.is_ok(), whole, bytes == layer)
        })
    };
    let part = Fault::Truncated(900_000);
    assert_eq!(
        run(&[part, Fault::Reset(50_000), part], false),
        (true, true, true)
    );
    // Left off in the middle, then taken up from the disk.
    let gone = [Fault::Status(503, None); 4];
    assert_eq!(
        run(&[&[part], &gone[..]].concat(), true),
        (false, false, false)
    );
    let before = server.sent();
    assert_eq!(run(&[], true), (true, true, true));
    assert!(server.sent() - before < 4 * MIB - 800_000);
    // All from the disk.
    let before = server.sent();
    assert_eq!(run(&[], true), (true, true, true));
    assert_eq!(server.sent(), before);
}

/// Environment of the process that is killed: where the registry is, its certificate, and the spool.
const CHILD: [&str; 3] = ["SEED_TEST_IMAGE", "SEED_TEST_PEM", "SEED_TEST_SPOOL"];

#[test]
fn two_hundred_kills_cost_at_most_eight_mib_each() {
    let setting = CHILD.map(|name| std::env::var(name).ok());
    if let [Some(image), Some(pem), Some(dir)] = setting {
        let client = faulty::client(&image.parse().unwrap(), &pem);
        let resolved = resolved(&client);
        let layout = Layout::create(Path::new(&dir)).unwrap();
        block_on(spool((&client).into(), &resolved, &layout, None, &mut ())).unwrap();
        return;
    }
    const KILLS: u64 = 200;
    let layer = noise(64 << 20, 6);
    let server = Faulty::start(layer.clone());
    server.always(Some(Fault::Slow));
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let values = [
        server.image().to_string(),
        server.pem.clone(),
        dir.path().display().to_string(),
    ];
    let spawn = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "two_hundred_kills_cost_at_most_eight_mib_each"])
            .envs(CHILD.iter().zip(&values))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let delays = noise(2 * KILLS as usize, 7);
    for delay in delays.chunks(2) {
        let before = server.sent();
        let mut child = spawn();
        // From the first byte on any moment will do: in the middle, or between two syncs.
        let waiting = std::time::Instant::now();
        while server.sent() == before && waiting.elapsed().as_secs() < 10 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let after = u64::from(delay[0]) / 2;
        std::thread::sleep(std::time::Duration::from_millis(after));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let killed = server.sent();
    server.always(None);
    assert!(spawn().wait().unwrap().success());
    let layout = Layout::create(dir.path()).unwrap();
    assert!(layout.verified(&digest(&layer), &mut ()).unwrap());
    let sent = server.sent();
    println!(
        "{KILLS} kills: {} MiB while killed, {} MiB in all, of 64 MiB",
        killed / MIB,
        sent / MIB
    );
    assert!(killed > 0 && sent <= 64 * MIB + KILLS * 8 * MIB);
}
