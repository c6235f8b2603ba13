//! The contract of [`Ostree`].

use api::{DeploymentId, StaterootName};

use super::{fails, succeeds};
use crate::ErrorKind;
use crate::ports::{DeploymentSpec, Ostree, Unwatched};

/// Asks the basics of an implementation: a stateroot that is not there yet, a commit that is in the repository, whole. In the
/// end the stateroot is gone again.
pub fn ostree(ostree: &dyn Ostree, stateroot: &StaterootName, commit: &str) {
    let before = listed(ostree);
    assert!(!stateroots(ostree).contains(stateroot), "{stateroot}");
    assert!(succeeds(
        "looking for the commit",
        ostree.has_commit(commit)
    ));
    assert!(!succeeds(
        "looking for no commit",
        ostree.has_commit(&"0".repeat(64))
    ));

    for _ in 0..2 {
        succeeds("making the stateroot", ostree.ensure_stateroot(stateroot));
    }
    let names = stateroots(ostree);
    assert!(names.contains(stateroot) && names.is_sorted(), "{names:?}");
    assert_eq!(listed(ostree), before);

    let first = deploy(ostree, stateroot, commit, "ibu=1");
    let second = deploy(ostree, stateroot, commit, "ibu=2");
    assert_ne!(first.serial, second.serial);
    let deployed = [before.as_slice(), &[first.clone(), second.clone()]].concat();
    assert_eq!(listed(ostree), deployed, "a new deployment is the last");
    fails(
        "removing a stateroot with deployments",
        ostree.remove_stateroot(stateroot, &Unwatched),
        ErrorKind::Contradiction,
    );

    let named = |default: &DeploymentId| -> Vec<String> {
        let entry = |of| ostree.entry_after(default, of);
        let entries = deployed
            .iter()
            .map(|of| succeeds("naming its entry", entry(of)));
        entries.collect()
    };
    let told = named(&second);
    for _ in 0..2 {
        succeeds("making it the default", ostree.set_default(&second));
        assert_eq!(named(&second), told, "named as told before");
    }
    let different: std::collections::BTreeSet<&String> = told.iter().collect();
    assert_eq!(different.len(), deployed.len(), "each by a name of its own");
    let others: Vec<_> = deployed
        .iter()
        .filter(|id| **id != second)
        .cloned()
        .collect();
    assert_eq!(
        listed(ostree),
        [std::slice::from_ref(&second), &others].concat()
    );
    let nobody = DeploymentId {
        serial: 99,
        ..first.clone()
    };
    fails(
        "an unknown default",
        ostree.set_default(&nobody),
        ErrorKind::Contradiction,
    );
    fails(
        "the entry of nobody",
        ostree.entry_after(&second, &nobody),
        ErrorKind::Contradiction,
    );
    succeeds("removing nothing", ostree.undeploy(&nobody));
    if let Some(default) = before.first() {
        succeeds("returning to the default", ostree.set_default(default));
        let rest = before.iter().skip(1).chain([&first]).cloned();
        let returned: Vec<_> = [default.clone(), second.clone()]
            .into_iter()
            .chain(rest)
            .collect();
        assert_eq!(listed(ostree), returned, "the others keep their order");
    }

    for id in [&first, &first, &second] {
        succeeds("removing a deployment", ostree.undeploy(id));
        assert!(!listed(ostree).contains(id), "{id}");
    }
    assert_eq!(listed(ostree), before);
    for _ in 0..2 {
        succeeds(
            "removing the stateroot",
            ostree.remove_stateroot(stateroot, &Unwatched),
        );
        assert!(!stateroots(ostree).contains(stateroot));
    }
    succeeds("pruning", ostree.prune());
    for id in &before {
        let kept = succeeds("looking for the commit", ostree.has_commit(&id.checksum));
        assert!(kept, "{id} is deployed and its commit was pruned");
    }
}

fn listed(ostree: &dyn Ostree) -> Vec<DeploymentId> {
    let deployments = succeeds("listing deployments", ostree.deployments());
    deployments.into_iter().map(|found| found.id).collect()
}

fn stateroots(ostree: &dyn Ostree) -> Vec<StaterootName> {
    succeeds("listing stateroots", ostree.stateroots())
}

fn deploy(
    ostree: &dyn Ostree,
    stateroot: &StaterootName,
    commit: &str,
    argument: &str,
) -> DeploymentId {
    let spec = DeploymentSpec {
        stateroot: stateroot.clone(),
        commit: commit.to_owned(),
        kernel_arguments: vec!["root=UUID=1".to_owned(), argument.to_owned()],
        origin: "[origin]\nrefspec=contract\n".to_owned(),
    };
    let id = succeeds("deploying", ostree.deploy(&spec));
    assert_eq!((&id.stateroot, id.checksum.as_str()), (stateroot, commit));
    let deployments = succeeds("listing deployments", ostree.deployments());
    let found = deployments.iter().find(|found| found.id == id);
    let arguments = found.map(|found| found.kernel_arguments.clone());
    assert_eq!(
        arguments,
        Some(spec.kernel_arguments),
        "in their order and complete"
    );
    assert!(found.is_some_and(|found| !found.booted));
    id
}
