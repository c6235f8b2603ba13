//! How fast a seed is fetched from a real registry where that is limited.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(
    dead_code,
    reason = "the registry and the sample serve several test binaries"
)]

mod blocking;
mod loopback;
mod sample;
mod upload;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blocking::block_on;
use loopback::Loopback;
use seed::layout::Layout;
use seed::registry::{Budget, Ranges};
use seed::spool::spool;
use upload::{client, pushed};

/// Fetches the sample seed so many times at once, each over connections of its own, within one budget that lets a single
/// fetch take half a second. Only the shortest time is asserted: a busy machine takes any.
fn check(fetches: u32) {
    let registry = Loopback::start();
    let from = tempfile::tempdir().unwrap();
    let size = pushed(&registry, "seed:1", from.path()).size;
    let rate = NonZeroU64::new(2 * size).unwrap();
    let budget = Arc::new(Budget::new(rate));
    let fetch = async || {
        let to = tempfile::tempdir().unwrap();
        let layout = Layout::create(to.path()).unwrap();
        let client = client(&registry, "seed:1").limited(Some(Arc::clone(&budget)));
        let resolved = client.resolve(&mut ()).await.unwrap();
        spool((&client).into(), &resolved, &layout, None, &mut ())
            .await
            .unwrap();
    };
    let begun = Instant::now();
    block_on(futures::future::join_all((0..fetches).map(|_| fetch())));
    let elapsed = begun.elapsed();
    // No more than 20 % above the limit.
    let least = (Duration::from_millis(500) * fetches).mul_f64(1.0 / 1.2);
    assert!(
        elapsed >= least,
        "{size} bytes {fetches} times in {elapsed:?}"
    );
}

#[test]
fn a_fetch_keeps_to_its_limit() {
    check(1);
}

#[test]
fn fetches_share_one_limit() {
    check(4);
}

/// An indexed seed comes in ranges, over several connections at a time.
#[test]
fn ranges_share_one_limit() {
    let registry = Loopback::start();
    let from = tempfile::tempdir().unwrap();
    let size = pushed(&registry, "seed:1", from.path()).size;
    let rate = NonZeroU64::new(size).unwrap();
    let budget = Some(Arc::new(Budget::new(rate)));
    let client = client(&registry, "seed:1").limited(budget);
    let (bytes, elapsed) = block_on(async {
        let resolved = client.resolve(&mut ()).await.unwrap();
        let layer = &resolved.pin.layers[0];
        let ranges = Ranges::new((&client).into(), layer);
        let fetch = async |quarter: u64| {
            let mut bytes = Vec::new();
            let range = layer.size * quarter / 4..layer.size * (quarter + 1) / 4;
            ranges.fetch(range, &mut bytes, &mut ()).await.unwrap();
            bytes.len() as u64
        };
        let begun = Instant::now();
        let fetched = futures::future::join_all((0..4).map(fetch)).await;
        (fetched.into_iter().sum::<u64>(), begun.elapsed())
    });
    // No more than 20 % above the limit.
    let least = Duration::from_secs_f64(bytes as f64 / rate.get() as f64 / 1.2);
    assert!(bytes > size / 2, "{bytes} of {size}");
    assert!(elapsed >= least, "{bytes} bytes in {elapsed:?}");
}
