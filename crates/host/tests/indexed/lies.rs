//! An index that is not true: the seed is installed all the same.

use seed::index::{Index, Member, ObjectId, ObjectKind};

use crate::faulty::{Fault, Faulty};
use crate::image::Image;
use crate::run::{How, Site, assert_same, label_image, serve};

#[test]
fn an_index_that_lies_costs_time_only() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = Image::make(ground.path(), 300);
    let honest = serve(&image);
    let site = Site::new(&[&honest]);
    site.install(&honest, How::Whole);
    let expect = site.seen(&image);
    let check = |what: &str, layer: Vec<u8>, label: &str| {
        let size = layer.len() as u64;
        let server = Faulty::start(layer.clone());
        label_image(&server, &layer, label);
        let site = Site::new(&[&server]);
        let announced = site.install(&server, How::Missing);
        let outcome = site.install(&server, How::Parts);
        println!(
            "{what}: {} KiB of {} KiB sent",
            outcome.sent >> 10,
            size >> 10
        );
        assert!(outcome.sent >= size, "{what}: it was believed");
        assert!(site.is_whole(&image), "{what}");
        let mut seen = site.seen(&image);
        // They name the seed's digest, which is another one here.
        for (path, own) in &expect {
            let is_mark = path.ends_with("etc-complete") || path.ends_with("var-unpacked");
            if let (true, Some(seen)) = (is_mark, seen.get_mut(path)) {
                seen.content.clone_from(&own.content);
            }
        }
        assert_same(what, &seen, &expect);
        drop(announced);
    };
    let changed = |change: &dyn Fn(&mut Index)| image.with_index(|index| change(index));
    let lie = |what: &str, change: &dyn Fn(&mut Index)| {
        let (layer, label) = changed(change);
        check(what, layer, &label);
    };
    check("no JSON", image.layer.clone(), "{");
    let wrong = image.label().replace("\"offset\":", "\"offset\":1");
    check("another place", image.layer.clone(), &wrong);
    lie("a digest of an object's member", &|index| {
        let member = index
            .ostree
            .members
            .iter_mut()
            .rev()
            .find(|m| !m.objects.is_empty());
        member.unwrap().digest[0] ^= 1;
    });
    lie("a digest of /var", &|index| {
        index.var.members[1].digest[0] ^= 1
    });
    lie("a digest of /etc", &|index| {
        index.etc.members[0].digest[0] ^= 1
    });
    lie("a digest of a document", &|index| {
        index.documents[0].sha256[0] ^= 1
    });
    lie("another commit", &|index| {
        index.commit[0] ^= 1;
        let objects = index.ostree.members.iter_mut().flat_map(|m| &mut m.objects);
        let commit = objects
            .into_iter()
            .find(|id| id.kind == seed::index::ObjectKind::Commit);
        commit.unwrap().checksum[0] ^= 1;
    });
    lie("an object that is another", &|index| {
        let last = index
            .ostree
            .members
            .iter_mut()
            .rev()
            .find(|m| !m.objects.is_empty());
        last.unwrap().objects[0].checksum[0] ^= 1;
    });
    lie("an object that is not listed", &|index| {
        let last = index
            .ostree
            .members
            .iter_mut()
            .rev()
            .find(|m| !m.objects.is_empty());
        last.unwrap().objects.clear();
    });
    lie("the commit elsewhere", &|index| {
        let is_commit = |id: &ObjectId| id.kind == ObjectKind::Commit;
        let members = &mut index.ostree.members;
        let real = members.iter().position(|m| m.objects.iter().any(is_commit));
        let real = &mut members[real.unwrap()].objects;
        let at = real.iter().position(is_commit).unwrap();
        let commit = real.remove(at);
        let is_metadata =
            |m: &&mut Member| m.objects.iter().any(|id| id.kind == ObjectKind::DirTree);
        let other = members.iter_mut().rev().find(is_metadata);
        other.unwrap().objects.push(commit);
    });
    lie("a long object that is another", &|index| {
        let members = &mut index.ostree.members;
        let long = members.iter().position(|member| member.continues).unwrap() - 1;
        members[long].objects[0].checksum[0] ^= 1;
    });
    lie("sizes", &|index| index.ostree.members[2].inflated += 512);
    lie("a document less", &|index| drop(index.documents.pop()));
}

#[test]
fn a_registry_that_gives_no_parts_gives_the_whole() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = Image::make(ground.path(), 300);
    let server = serve(&image);
    let whole = Site::new(&[&server]);
    whole.install(&server, How::Whole);
    let expect = whole.seen(&image);
    let check = |what: &str, fault: Fault, most: u64| {
        let server = serve(&image);
        server.will(&[fault]);
        let site = Site::new(&[&server]);
        let outcome = site.install(&server, How::Parts);
        println!("{what}: {} KiB sent", outcome.sent >> 10);
        assert!(outcome.sent >= image.layer.len() as u64, "{what}");
        assert!(outcome.sent <= image.layer.len() as u64 + most, "{what}");
        assert_same(what, &site.seen(&image), &expect);
    };
    // What is in the buffers of the connection when it is given up counts as sent.
    check("ignored range", Fault::IgnoredRange, 24 << 20);
    check("wrong Content-Range", Fault::WrongRange, 24 << 20);
    check("a damaged index", Fault::WrongByte, 24 << 20);
}
