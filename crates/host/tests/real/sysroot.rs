//! What the ostree port promises, on a sysroot in a directory, with whatever libostree is installed.

use std::cell::Cell;
use std::fs;

use crate::support::{NONE, Node};
use api::{DeploymentId, StaterootName};
use node::ports::{DeploymentSpec, Files, NodePath, Ostree, Root, Unwatched, Watch};
use node::{ErrorKind, contract};

fn name(text: &str) -> StaterootName {
    text.parse().unwrap()
}

fn spec(stateroot: &str, commit: &str) -> DeploymentSpec {
    DeploymentSpec {
        stateroot: name(stateroot),
        commit: commit.to_owned(),
        kernel_arguments: ["rw", "ibu=4.17.4", "note=\"two words\""]
            .map(str::to_owned)
            .into(),
        origin: "[origin]\nrefspec=seed:release\n".to_owned(),
    }
}

fn deploy(node: &Node, stateroot: &str, commit: &str) -> DeploymentId {
    node.ostree.ensure_stateroot(&name(stateroot)).unwrap();
    node.ostree.deploy(&spec(stateroot, commit)).unwrap()
}

fn order(node: &Node) -> Vec<DeploymentId> {
    node.ostree
        .deployments()
        .unwrap()
        .into_iter()
        .map(|deployment| deployment.id)
        .collect()
}

/// What the boot loader starts: the entry with the highest number.
fn boots(node: &Node) -> String {
    let entries = node.layout.sysroot().join("boot/loader/entries");
    let mut entries: Vec<_> = fs::read_dir(entries)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.sort();
    let entry = fs::read_to_string(entries.last().unwrap()).unwrap();
    let options = entry
        .lines()
        .find_map(|line| line.strip_prefix("options "))
        .unwrap();
    let link = options
        .split(' ')
        .find_map(|option| option.strip_prefix("ostree=/"))
        .unwrap();
    let target = fs::canonicalize(node.layout.sysroot().join(link)).unwrap();
    target.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_deployment_is_added_last_and_changes_nothing_else() {
    let node = Node::new();
    let [one, two] = &node.commits;
    let origin = deploy(&node, "rhcos", one);
    assert_eq!(origin.to_string(), format!("rhcos-{one}.0"));
    let target = deploy(&node, "rhcos_4.17.4", two);
    assert_eq!(order(&node), [origin.clone(), target.clone()]);
    assert_eq!(boots(&node), origin.directory());
    let listed = node.ostree.deployments().unwrap().pop().unwrap();
    assert_eq!(
        listed.kernel_arguments,
        ["rw", "ibu=4.17.4", "note=\"two words\""]
    );
    assert!(!listed.booted);
    let path = node.layout.deployment(&target);
    let origin_file = fs::read_to_string(format!("{}.origin", path.display())).unwrap();
    assert!(origin_file.contains("refspec=seed:release"));
    assert_eq!(fs::read_to_string(path.join("etc/release")).unwrap(), "two");
    let stateroots = node.ostree.stateroots().unwrap();
    assert_eq!(stateroots, [name("rhcos"), name("rhcos_4.17.4")]);
}

#[test]
fn the_same_commit_can_be_deployed_in_two_stateroots_and_twice_in_one() {
    let node = Node::new();
    let [one, _] = &node.commits;
    let ids = ["a", "b", "b"].map(|stateroot| deploy(&node, stateroot, one));
    assert_eq!(ids.clone().map(|id| id.serial), [0, 0, 1]);
    assert_eq!(order(&node), ids);
}

#[test]
fn the_default_moves_to_the_front_and_back() {
    let node = Node::new();
    let [one, two] = &node.commits;
    let [a, b, c] = [("a", one), ("b", two), ("c", one)].map(|(s, c)| deploy(&node, s, c));
    for (default, expect) in [(&c, [&c, &a, &b]), (&b, [&b, &c, &a]), (&b, [&b, &c, &a])] {
        node.ostree.set_default(default).unwrap();
        assert_eq!(order(&node).iter().collect::<Vec<_>>(), expect);
        assert_eq!(boots(&node), default.directory());
    }
    let missing = DeploymentId { serial: 7, ..a };
    let error = node.ostree.set_default(&missing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Contradiction);
}

#[test]
fn the_contract_is_kept() {
    let node = Node::new();
    let [one, two] = &node.commits;
    deploy(&node, "rhcos", one);
    contract::ostree(&node.ostree, &name("contract"), two);
}

/// The boot loader's id of a deployment's entry, found by what the entry starts.
fn entry_of(node: &Node, id: &DeploymentId) -> String {
    let directory = node.layout.sysroot().join("boot/loader/entries");
    let starts = |text: &str| {
        let link = text
            .split_whitespace()
            .find_map(|word| word.strip_prefix("ostree=/"));
        fs::canonicalize(node.layout.sysroot().join(link.unwrap())).unwrap()
    };
    let wanted = fs::canonicalize(node.layout.deployment(id)).unwrap();
    let mut found = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let found = found.find(|path| starts(&fs::read_to_string(path).unwrap()) == wanted);
    found
        .unwrap()
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

#[test]
fn an_entry_is_named_as_it_will_be_when_another_deployment_is_the_default() {
    let node = Node::new();
    let [one, two] = &node.commits;
    let mut deployed = vec![deploy(&node, "rhcos", one)];
    for (stateroot, commit) in [
        ("rhcos_4.17.4", two),
        ("rhcos_4.17.4", one),
        ("other-1", one),
    ] {
        deployed.push(deploy(&node, stateroot, commit));
        for default in &deployed {
            let told: Vec<String> = deployed
                .iter()
                .map(|of| node.ostree.entry_after(default, of).unwrap())
                .collect();
            node.ostree.set_default(default).unwrap();
            let found: Vec<String> = deployed.iter().map(|of| entry_of(&node, of)).collect();
            assert_eq!(told, found, "{default}");
        }
    }
    let missing = DeploymentId {
        serial: 7,
        ..deployed[0].clone()
    };
    for (default, of) in [(&missing, &deployed[0]), (&deployed[0], &missing)] {
        let error = node.ostree.entry_after(default, of).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Contradiction);
    }
    // Named by somebody else.
    let entries = node.layout.sysroot().join("boot/loader/entries");
    let name = entry_of(&node, &deployed[0]);
    fs::rename(
        entries.join(format!("{name}.conf")),
        entries.join("ostree-x.conf"),
    )
    .unwrap();
    let error = node
        .ostree
        .entry_after(&deployed[0], &deployed[1])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permanent);
}

#[test]
fn undeploying_and_removing_leave_nothing() {
    let node = Node::new();
    let [one, two] = &node.commits;
    let origin = deploy(&node, "rhcos", one);
    let target = deploy(&node, "new", two);
    let stateroot = name("new");
    let error = node
        .ostree
        .remove_stateroot(&stateroot, &Unwatched)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Contradiction);
    for _ in 0..2 {
        node.ostree.undeploy(&target).unwrap();
        assert_eq!(order(&node), std::slice::from_ref(&origin));
        assert!(!node.layout.deployment(&target).exists());
    }
    // What a deploy that was cut short leaves: an immutable directory that no list names.
    let orphan = node.layout.deployment(&DeploymentId {
        serial: 5,
        ..target
    });
    fs::create_dir_all(orphan.join("etc")).unwrap();
    let flags = rustix::fs::IFlags::IMMUTABLE;
    rustix::fs::ioctl_setflags(fs::File::open(&orphan).unwrap(), flags).unwrap();
    for _ in 0..2 {
        node.ostree
            .remove_stateroot(&stateroot, &Unwatched)
            .unwrap();
        assert!(!node.layout.stateroot(&stateroot).exists());
    }
    assert!(node.ostree.has_commit(two).unwrap());
    node.ostree.prune().unwrap();
    assert!(!node.ostree.has_commit(two).unwrap());
    assert!(node.ostree.has_commit(one).unwrap());
}

#[test]
fn a_deploy_that_was_cut_short_does_not_take_the_serial_number() {
    let node = Node::new();
    let [one, two] = &node.commits;
    deploy(&node, "rhcos", one);
    node.ostree.ensure_stateroot(&name("new")).unwrap();
    let half = DeploymentId {
        stateroot: name("new"),
        checksum: two.clone(),
        serial: 0,
    };
    fs::create_dir_all(node.layout.deployment(&half).join("usr")).unwrap();
    assert_eq!(node.ostree.deploy(&spec("new", two)).unwrap(), half);
}

#[test]
fn a_stateroot_that_was_begun_is_finished() {
    let node = Node::new();
    let stateroot = name("new");
    fs::create_dir(node.layout.stateroot(&stateroot)).unwrap();
    for _ in 0..2 {
        node.ostree.ensure_stateroot(&stateroot).unwrap();
        assert!(node.layout.stateroot(&stateroot).join("var").is_dir());
    }
}

#[test]
fn removing_a_stateroot_stops_when_told() {
    struct Stop(Cell<u64>);
    impl Watch for Stop {
        fn progress(&self, done: u64, _total: Option<u64>, _object: &str) -> bool {
            self.0.set(done);
            false
        }
    }
    let node = Node::new();
    let stateroot = name("new");
    node.ostree.ensure_stateroot(&stateroot).unwrap();
    let var = node.layout.stateroot(&stateroot).join("var");
    for number in 0..2000 {
        fs::write(var.join(number.to_string()), "").unwrap();
    }
    let watch = Stop(Cell::new(0));
    let error = node
        .ostree
        .remove_stateroot(&stateroot, &watch)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(watch.0.get(), 256);
    assert!(fs::read_dir(&var).unwrap().count() > 1000);
}

#[test]
fn a_commit_counts_only_when_every_object_is_there() {
    let node = Node::new();
    let [one, two] = &node.commits;
    let repo = ostree::Repo::new_for_path(node.layout.sysroot().join("ostree/repo"));
    repo.open(NONE).unwrap();
    assert!(node.ostree.has_commit(one).unwrap());
    assert!(!node.ostree.has_commit(&"0".repeat(64)).unwrap());
    repo.mark_commit_partial(one, true).unwrap();
    assert!(!node.ostree.has_commit(one).unwrap());
    repo.mark_commit_partial(one, false).unwrap();
    for object in repo.traverse_commit(two, 0, NONE).unwrap() {
        let checksum = object.checksum();
        let kind = match object.object_type() {
            ostree::ObjectType::File => "file",
            ostree::ObjectType::DirTree => "dirtree",
            ostree::ObjectType::DirMeta => "dirmeta",
            ostree::ObjectType::Commit => "commit",
            other => panic!("{other:?}"),
        };
        let path = format!(
            "ostree/repo/objects/{}/{}.{kind}",
            &checksum[..2],
            &checksum[2..]
        );
        let (path, away) = (
            node.layout.sysroot().join(path),
            node.dir.path().join("away"),
        );
        fs::rename(&path, &away).unwrap();
        assert!(!node.ostree.has_commit(two).unwrap(), "{kind} {checksum}");
        fs::rename(&away, &path).unwrap();
    }
    assert!(node.ostree.has_commit(two).unwrap());
}

#[test]
fn a_held_lock_is_busy_and_reading_goes_on() {
    let node = Node::new();
    deploy(&node, "rhcos", &node.commits[0]);
    let other = ostree::Sysroot::new(Some(&ostree::gio::File::for_path(node.layout.sysroot())));
    other.load(NONE).unwrap();
    other.lock().unwrap();
    assert_eq!(order(&node).len(), 1);
    let error = node.ostree.ensure_stateroot(&name("new")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    other.unlock();
    node.ostree.ensure_stateroot(&name("new")).unwrap();
}

#[test]
fn files_reach_stateroots_and_deployments() {
    let node = Node::new();
    let id = deploy(&node, "rhcos", &node.commits[0]);
    let in_etc = NodePath::in_deployment(&id, "etc/release");
    assert_eq!(node.files.read(&in_etc, 100).unwrap().unwrap(), b"one");
    node.files.replace(&in_etc, b"changed", 0o644).unwrap();
    assert_eq!(node.files.read(&in_etc, 100).unwrap().unwrap(), b"changed");
    // The commit's own copy is another file.
    let in_usr = NodePath::in_deployment(&id, "usr/etc/release");
    assert_eq!(node.files.read(&in_usr, 100).unwrap().unwrap(), b"one");
    let in_var = NodePath::in_stateroot(&id.stateroot, "/opt/openshift/x");
    node.files.replace(&in_var, b"x", 0o600).unwrap();
    let path = node
        .layout
        .stateroot(&id.stateroot)
        .join("var/opt/openshift/x");
    assert_eq!(fs::read(path).unwrap(), b"x");
    for root in [
        Root::Stateroot(id.stateroot.clone()),
        Root::Deployment(id),
        Root::Booted,
    ] {
        node.files.sync(&root).unwrap();
    }
    let nowhere = NodePath::in_stateroot(&name("none"), "/var/x");
    assert_eq!(node.files.read(&nowhere, 1).unwrap(), None);
    assert!(node.files.replace(&nowhere, b"x", 0o600).is_err());
}
