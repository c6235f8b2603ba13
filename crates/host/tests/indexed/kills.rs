//! Kills at random moments.

use std::time::Duration;

use crate::faulty::{Fault, noise};
use crate::image::Image;
use crate::run::{How, Site, assert_same, serve};

const KILLS: usize = 30;

/// What one kill may cost (issue 4, item 4).
const PRICE: u64 = 8 << 20;

#[test]
fn kills_cost_at_most_eight_mib_each() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = Image::make(ground.path(), 900);
    let server = serve(&image);
    let whole = Site::new(&[&server]);
    let unique = whole.install(&server, How::Parts).sent;
    let site = Site::new(&[&server]);
    server.always(Some(Fault::Slow));
    let begun = server.sent();
    let random = noise(2 * KILLS, 7);
    let (mut worst, mut last) = (0, announced(&site, &server));
    for random in random.chunks(2) {
        let before = server.sent();
        let mut child = site.start(&server, How::Parts);
        // Any moment will do: when a random number of bytes was sent, up to 8 MiB, and some milliseconds later.
        let bytes = before + (u64::from(random[0]) << 15);
        while server.sent() <= bytes && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(u64::from(random[1]) / 4));
        child.kill().unwrap();
        child.wait().unwrap();
        let sent = server.sent() - before;
        let left = announced(&site, &server);
        // What was sent and is still to be fetched was lost.
        worst = worst.max((sent + left).saturating_sub(last));
        last = left;
    }
    let killed = server.sent() - begun;
    server.always(None);
    site.install(&server, How::Parts);
    let all = server.sent() - begun;
    println!(
        "{KILLS} kills: {} KiB while killed, {} KiB in all, of {} KiB; the worst cost {} KiB",
        killed >> 10,
        all >> 10,
        unique >> 10,
        worst >> 10
    );
    assert!(killed > unique / 2 && worst <= PRICE, "{killed} {worst}");
    assert!(all <= unique + KILLS as u64 * PRICE);
    assert_same("after kills", &site.seen(&image), &whole.seen(&image));
}

/// What is still to be fetched. The question itself is not counted.
fn announced(site: &Site, server: &crate::faulty::Faulty) -> u64 {
    site.install(server, How::Missing).number("bytes: ")
}
