//! What is fetched, and what comes of it.

use std::fs;

use api::Digest;
use node::ports::{DeploymentSpec, Ostree, Seeds, Unwatched};

use crate::faulty;
use crate::image::Image;
use crate::run::{How, Site, assert_same, serve, stateroot};
use crate::tree::seen;

#[test]
fn by_parts_and_by_the_whole_the_same_is_installed() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = Image::make(ground.path(), 900);
    let server = serve(&image);
    let [parts, whole] = [Site::new(&[&server]), Site::new(&[&server])];
    let announced = parts.install(&server, How::Missing);
    let by_parts = parts.install(&server, How::Parts);
    let by_the_whole = whole.install(&server, How::Whole);
    println!(
        "{} KiB by parts, {} KiB whole; {:.2} s, {:.2} s",
        by_parts.sent >> 10,
        by_the_whole.sent >> 10,
        by_parts.took.as_secs_f64(),
        by_the_whole.took.as_secs_f64()
    );
    assert_eq!(by_the_whole.sent, image.layer.len() as u64);
    assert_eq!(by_parts.sent, announced.number("bytes: "));
    assert_eq!(by_parts.sent, by_parts.number("told: "));
    assert_eq!(by_parts.sent, by_parts.number(" of "));
    assert!(by_parts.sent < by_the_whole.sent);
    assert!(
        !parts.node.layout.shared().join("seed/blobs").exists(),
        "there is a spool"
    );
    assert!(parts.is_whole(&image) && whole.is_whole(&image));
    assert_same("after the fetch", &parts.seen(&image), &whole.seen(&image));

    // Once more there is nothing to fetch but the index and the documents.
    let again = parts.install(&server, How::Parts);
    let index = image.index();
    let documents: u64 = index.documents.iter().map(|document| document.length).sum();
    assert_eq!(again.sent, image.place.length + documents);

    let trees = [parts, whole].map(|site| {
        let id = deploy(&site, &image);
        let tree = |path: &std::path::Path| {
            let mut tree = seen(path);
            tree.values_mut().for_each(|seen| seen.mtime = (0, 0));
            tree
        };
        let var = site.node.layout.stateroot(&stateroot()).join("var");
        (tree(&site.node.layout.deployment(&id)), tree(&var))
    });
    assert_same("deployment", &trees[0].0, &trees[1].0);
    let [one, other] = trees.map(|(_, mut var)| {
        // It names the seed, which both are.
        assert!(
            var.remove(std::path::Path::new("lib/lca/var-unpacked"))
                .is_some()
        );
        var
    });
    assert!(one.len() > 60 && one == other);
}

/// Does what follows a fetch. The registry is not asked.
fn deploy(site: &Site, image: &Image) -> api::DeploymentId {
    let seeds = host::HostSeeds::new(site.node.layout.clone());
    let pin = site.pin();
    let spec = DeploymentSpec {
        stateroot: stateroot(),
        commit: image.commit.clone(),
        kernel_arguments: vec![],
        origin: "[origin]\nrefspec=seed\n".to_owned(),
    };
    let id = site.node.ostree.deploy(&spec).unwrap();
    seeds.unpack_var(&pin, &stateroot(), &Unwatched).unwrap();
    seeds.unpack_etc(&pin, &id, &Unwatched).unwrap();
    if !site.node.layout.shared().join("seed/blobs").exists() {
        // What was taken is not there any more: the seed counts as not fetched.
        let again = seeds.unpack_var(&pin, &stateroot(), &Unwatched);
        assert_eq!(again.unwrap_err().kind(), node::ErrorKind::Transient);
    }
    id
}

#[test]
fn what_another_seed_has_begun_is_begun_anew() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = Image::make(ground.path(), 300);
    let server = serve(&image);
    let site = Site::new(&[&server]);
    let members = image.index().ostree.members;
    let long = members.iter().position(|member| member.continues).unwrap() - 1;
    let object = Digest::from_sha256(&members[long].objects[0].checksum);
    let growing = site
        .node
        .layout
        .sysroot()
        .join("ostree/repo/tmp/lca-import-long");
    fs::create_dir_all(&growing).unwrap();
    fs::write(growing.join(format!("{}.file", object.hex())), [0; 9000]).unwrap();
    // There it stood elsewhere.
    let seed = faulty::digest(b"another");
    let note = format!(r#"{{"seed":"{seed}","object":"{object}","content":2048,"written":9000}}"#);
    fs::write(growing.join("growth"), note).unwrap();
    let announced = site.install(&server, How::Missing).number("bytes: ");
    let outcome = site.install(&server, How::Parts);
    assert_eq!(outcome.sent, announced);
    assert!(outcome.sent < image.layer.len() as u64 && site.is_whole(&image));
}

#[test]
fn only_what_lacks_is_fetched() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = Image::make(ground.path(), 900);
    let server = serve(&image);
    let site = Site::new(&[&server]);
    site.install(&server, How::Parts);
    let index = image.index();
    let fixed = image.place.length
        + index
            .documents
            .iter()
            .map(|document| document.length)
            .sum::<u64>()
        + index.etc.length()
        + index.var.length();
    let check = |what: &str, fits: &dyn Fn(&str) -> bool| {
        let whole = site.seen(&image);
        let members = index.ostree.members.iter();
        let mut lacks = false;
        let wanted = members.filter(|member| {
            lacks = match member.continues {
                true => lacks,
                false => member.objects.iter().any(|id| fits(&id.path())),
            };
            lacks
        });
        let wanted: u64 = wanted.map(|member| u64::from(member.compressed)).sum();
        site.forget(&image, fits);
        let incoming = site.node.layout.stateroot(&stateroot()).join("incoming");
        fs::remove_dir_all(incoming).unwrap();
        let outcome = site.install(&server, How::Parts);
        let objects = outcome.sent - fixed;
        println!("{what}: {wanted} bytes lack, {objects} were fetched");
        assert!(
            objects >= wanted && objects <= wanted + wanted / 20,
            "{what}"
        );
        assert_eq!(outcome.sent, outcome.number(" of "), "{what}");
        assert!(site.is_whole(&image), "{what}");
        assert_same(what, &site.seen(&image), &whole);
    };
    check("nothing lacks", &|_| false);
    check("a tenth", &|path| {
        path.starts_with("1") && path.ends_with(".file")
    });
    check("directories", &|path| path.ends_with(".dirtree"));
    check("the commit", &|path| path.ends_with(".commit"));
    check("all", &|_| true);
}
