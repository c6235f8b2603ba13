//! Parts of a blob, and what a registry can do wrong with them.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its table"
)]

mod blocking;
#[allow(dead_code, reason = "shared with tests that need more")]
mod faulty;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use blocking::block_on;
use faulty::{Fault, Faulty, digest, noise};
use seed::pin::Blob;
use seed::registry::{Batch, Piece, Pieces, Ranges, Registry, RegistryError, Sources};
use seed::watch::{Watch, Watching};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::channel;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The range that is fetched, in pieces of 100 KiB, of which every fifth only lies between.
const RANGE: Range<u64> = MIB..MIB + 3000 * KIB;
const PIECE: u64 = 100 * KIB;

fn layer() -> Vec<u8> {
    noise(5 << 20, 1)
}

fn blob(layer: &[u8]) -> Blob {
    Blob {
        digest: digest(layer),
        size: layer.len() as u64,
        media_type: String::new(),
    }
}

fn of(layer: &[u8], range: Range<u64>) -> &[u8] {
    let at = |at: u64| usize::try_from(at).unwrap();
    &layer[at(range.start)..at(range.end)]
}

/// The pieces, by numbers, each with its bytes.
fn pieces(layer: &[u8]) -> Vec<(Piece, &[u8])> {
    let starts = (RANGE.start..RANGE.end).step_by(100 << 10).enumerate();
    starts
        .map(|(number, start)| {
            let bytes = of(layer, start..start + PIECE);
            let piece = Piece {
                number,
                length: u32::try_from(PIECE).unwrap(),
                digest: (number % 5 != 3).then(|| Sha256::digest(bytes).into()),
            };
            (piece, bytes)
        })
        .collect()
}

/// Fetches the range; gives the outcome and how many pieces came. What came is right.
fn fetch(
    sources: Sources<'_>,
    layer: &[u8],
    watch: &mut dyn Watch,
) -> (Result<(), RegistryError>, usize) {
    let (blob, pieces) = (blob(layer), pieces(layer));
    let ranges = Ranges::new(sources, &blob);
    let allowance = Arc::new(Semaphore::new(8 << 20));
    let (out, mut batches) = channel::<Batch>(1000);
    let expected = pieces.iter().map(|(piece, _)| *piece);
    let mut sink = Pieces::new(expected, out, Arc::clone(&allowance));
    let result = block_on(async {
        let result = ranges.fetch(RANGE, &mut sink, watch).await;
        assert!(sink.finish().await);
        result
    });
    let (mut came, mut bytes) = (Vec::new(), 0);
    while let Ok(batch) = batches.try_recv() {
        bytes += batch.bytes.len();
        for (number, at) in batch.pieces {
            assert_eq!(batch.bytes[at], *pieces[number].1, "piece {number}");
            came.push(number);
        }
    }
    assert!(came.is_sorted() && came.iter().all(|number| number % 5 != 3));
    assert_eq!(
        (sink.passed_on(), allowance.available_permits()),
        (bytes, 8 << 20)
    );
    (result, came.len())
}

fn kind(error: &RegistryError) -> String {
    let text = format!("{error:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

/// One row: the faults of the requests, the outcome, and how many bytes were sent at most.
fn check(what: &str, faults: &[Fault], outcome: Result<(), &str>, most: u64) {
    let layer = layer();
    let server = Faulty::start(layer.clone());
    if faults
        .iter()
        .any(|fault| matches!(fault, Fault::Expired(_)))
    {
        server.want_tokens();
    }
    let client = server.client();
    server.will(faults);
    let (result, came) = fetch((&client).into(), &layer, &mut ());
    let sent = server.sent();
    let told = result.as_ref().map_err(kind).map(|()| "fetched");
    println!("{what:28} {told:?} {came} pieces, {} KiB sent", sent >> 10);
    assert_eq!(
        result.map_err(|error| kind(&error)),
        outcome.map_err(str::to_owned),
        "{what}"
    );
    assert!(sent <= most, "{what}: {sent} bytes were sent");
    assert!(outcome.is_err() || came == 24, "{what}");
}

#[test]
fn every_fault_of_a_part_has_its_outcome_and_its_price() {
    let range = RANGE.end - RANGE.start;
    let again = |fault| [fault; 4];
    let part = 1_234_567;
    check("none", &[], Ok(()), range);
    check("401 once", &[Fault::Status(401, None)], Ok(()), range);
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
    check("416", &[Fault::Status(416, None)], Err("RangesIgnored"), 0);
    check(
        "429, Retry-After",
        &[Fault::Status(429, Some(1))],
        Ok(()),
        range,
    );
    check(
        "429",
        &again(Fault::Status(429, Some(0))),
        Err("Unreachable"),
        0,
    );
    let busy = [500, 502, 503].map(|status| Fault::Status(status, None));
    check("500, 502, 503", &busy, Ok(()), range);
    check(
        "503",
        &again(Fault::Status(503, None)),
        Err("Unreachable"),
        0,
    );
    let resets = [Fault::Reset(300_000); 12];
    check("reset 12 times", &resets, Ok(()), range + 12 * MIB);
    check("truncated", &[Fault::Truncated(part); 2], Ok(()), range);
    check("stalled", &[Fault::Stall(part)], Ok(()), range);
    check("slow", &[Fault::Slow], Ok(()), range);
    check("expired token", &[Fault::Expired(part); 2], Ok(()), range);
    check("wrong byte", &[Fault::WrongByte], Err("WrongDigest"), range);
    let after = |fault| [Fault::Truncated(part), fault];
    let wrong = Err("WrongDigest");
    check(
        "wrong byte, resumed",
        &after(Fault::WrongByte),
        wrong,
        2 * range,
    );
    // What is on its way when the connection is given up.
    let ignored = Err("RangesIgnored");
    check("ignored range", &[Fault::IgnoredRange], ignored, 5 * MIB);
    let sent = 6 * MIB + part as u64;
    check(
        "ignored range, resumed",
        &after(Fault::IgnoredRange),
        ignored,
        sent,
    );
    check(
        "wrong Content-Range",
        &[Fault::WrongRange],
        ignored,
        5 * MIB,
    );
    check(
        "redirect, refused there",
        &[Fault::RefusedElsewhere],
        Err("NotFound"),
        0,
    );
}

#[test]
fn a_mirror_that_fails_is_asked_once() {
    let layer = layer();
    let (mirror, own) = (Faulty::start(layer.clone()), Faulty::start(layer.clone()));
    let (mirrors, client): ([Registry; 1], _) = ([mirror.client()], own.client());
    let range = RANGE.end - RANGE.start;
    let check = |what: &str, fault: Option<Fault>, of_own: Range<u64>| {
        mirror.always(fault);
        let sources = Sources {
            mirrors: &mirrors,
            own: &client,
        };
        let before = own.sent();
        let (result, came) = fetch(sources, &layer, &mut ());
        result.unwrap();
        let sent = own.sent() - before;
        println!("mirror: {what:20} {} KiB of the source", sent >> 10);
        assert_eq!(came, 24, "{what}");
        assert!(of_own.contains(&sent), "{what}: {sent}");
    };
    check("good", None, 0..1);
    check("403", Some(Fault::Status(403, None)), range..range + 1);
    check("503", Some(Fault::Status(503, None)), range..range + 1);
    check("ignored range", Some(Fault::IgnoredRange), range..range + 1);
    // What was right of it is not fetched again.
    check(
        "wrong byte",
        Some(Fault::WrongByte),
        range / 3..range * 2 / 3,
    );

    // A second range of the same blob does not go there any more.
    let blob = blob(&layer);
    let sources = Sources {
        mirrors: &mirrors,
        own: &client,
    };
    let ranges = Ranges::new(sources, &blob);
    let sha256 = digest(of(&layer, 10..20));
    let asked = mirror.sent();
    for _ in 0..2 {
        let bytes = block_on(ranges.exact(10..20, &sha256, &mut ())).unwrap();
        assert_eq!(bytes, of(&layer, 10..20));
    }
    assert_eq!(mirror.sent() - asked, 10);
}

/// On a disconnected site nothing but the mirrors answers. What the whole of the blob may be had from is told, not that the
/// other cannot be reached: that would only be tried again.
#[test]
fn where_only_a_mirror_can_be_reached_its_error_is_told() {
    let layer = layer();
    let (mirror, own) = (Faulty::start(layer.clone()), Faulty::start(layer.clone()));
    let mirrors: [Registry; 1] = [mirror.client()];
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = port.local_addr().unwrap();
    drop(port);
    let closed = faulty::client(&format!("{closed}/seed:1").parse().unwrap(), &mirror.pem);
    let check = |fault: Fault, own: &Registry, expect: &str, of: &str| {
        mirror.always(Some(fault));
        let sources = Sources {
            mirrors: &mirrors,
            own,
        };
        let (result, _) = fetch(sources, &layer, &mut ());
        let error = result.unwrap_err();
        println!("{fault:?}: {error}");
        assert_eq!(kind(&error), expect, "{fault:?}");
        assert!(error.to_string().contains(of), "{fault:?}: {error}");
    };
    let (place, elsewhere) = (mirror.image(), own.image());
    let place = place.as_str();
    check(Fault::IgnoredRange, &closed, "RangesIgnored", place);
    check(Fault::WrongRange, &closed, "RangesIgnored", place);
    check(Fault::WrongByte, &closed, "WrongDigest", place);
    // These may pass.
    let dead = closed.image().as_str();
    check(Fault::Status(503, None), &closed, "Unreachable", dead);
    check(Fault::Status(404, None), &closed, "Unreachable", dead);
    // And so the own registry's, other than those of parts.
    own.always(Some(Fault::Status(403, None)));
    let client = own.client();
    check(Fault::IgnoredRange, &client, "RangesIgnored", place);
    own.always(Some(Fault::WrongByte));
    let elsewhere = elsewhere.as_str();
    check(Fault::IgnoredRange, &client, "WrongDigest", elsewhere);

    // Each connection hears it.
    mirror.always(Some(Fault::IgnoredRange));
    let blob = blob(&layer);
    let sources = Sources {
        mirrors: &mirrors,
        own: &closed,
    };
    let ranges = Ranges::new(sources, &blob);
    let sha256 = digest(of(&layer, 10..20));
    for _ in 0..2 {
        let error = block_on(ranges.exact(10..20, &sha256, &mut ())).unwrap_err();
        assert_eq!(kind(&error), "RangesIgnored");
    }
}

#[test]
fn a_stop_ends_a_fetch_and_keeps_what_came() {
    let layer = layer();
    let server = Faulty::start(layer.clone());
    let client = server.client();
    let seen = AtomicU64::new(0);
    let mut stopping = Watching {
        advanced: |bytes| {
            seen.fetch_add(bytes, Relaxed);
        },
        stop: || seen.load(Relaxed) >= MIB,
    };
    let (result, came) = fetch((&client).into(), &layer, &mut stopping);
    assert_eq!(kind(&result.unwrap_err()), "Stopped");
    assert!((8..20).contains(&came), "{came}");
}

#[test]
fn a_receiver_that_goes_ends_the_fetch() {
    let layer = layer();
    let server = Faulty::start(layer.clone());
    let client = server.client();
    let (blob, pieces) = (blob(&layer), pieces(&layer));
    let ranges = Ranges::new((&client).into(), &blob);
    let check = |what: &str, close: bool| {
        let allowance = Arc::new(Semaphore::new(8 << 20));
        let (out, batches) = channel::<Batch>(1);
        // It lives on, and nobody takes permits any more.
        let kept = close.then_some(batches);
        if close {
            // There is no room, and nobody makes any.
            out.try_send(Batch::default()).unwrap();
            allowance.close();
        }
        let expected = pieces.iter().map(|(piece, _)| *piece);
        let mut sink = Pieces::new(expected, out, allowance);
        let fetched = async {
            let result = ranges.fetch(RANGE, &mut sink, &mut ()).await;
            (result, sink.finish().await)
        };
        let limit = std::time::Duration::from_secs(20);
        let ended = block_on(async { tokio::time::timeout(limit, fetched).await });
        let (result, taken) = ended.unwrap();
        assert_eq!(kind(&result.unwrap_err()), "Store", "{what}");
        assert!(!taken, "{what}");
        drop(kept);
    };
    check("gone", false);
    check("closed", true);
}
