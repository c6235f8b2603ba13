//! Precaching on a node in the box: what is pulled, what is kept from the garbage collectors, and what makes room for it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use boxed::Site;
use boxed::site::{WORKLOADS, conditions, message};
use serde_json::{Value, json};

const TARGET: &str = "rhcos_4.17.4";
const DROP_IN: &str = "/etc/crio/crio.conf.d/99-lifecycle-agent-pinned-images";
const STATUS: &str = "/var/lib/lca/workspace/precache_status.json";

/// Images of the running release, by what keeps them, and one that nothing does.
const OLD: [&str; 5] = ["pinned", "used", "static", "named", "stale"];

/// A stand-in for CRI-O: a service that can be reloaded, a socket that answers, and a `crictl` that says what is in files.
const RUNTIME: &str = r#"
set -e
cat >/etc/systemd/system/crio.service <<'END'
[Service]
ExecStart=/bin/sleep infinity
ExecReload=/bin/sh -c 'echo reloaded >>/run/reloads'
END
mkdir -p /var/usrlocal/bin /run/crio /etc/crio/crio.conf.d /etc/kubernetes/manifests
cat >/var/usrlocal/bin/crictl <<'END'
#!/bin/sh
for word; do case $word in ps|images) exec cat /run/crio/$word.json;; esac; done
exit 1
END
chmod 755 /var/usrlocal/bin/crictl
printf '[crio.image]\npinned_images = ["quay.io/theirs:1"]\n' >/etc/crio/crio.conf.d/50-pinned-images
systemctl daemon-reload
systemctl start crio
systemd-run --quiet --unit=cri --socket-property=ListenStream=/run/crio/crio.sock /bin/sleep infinity
for name in pinned used static named stale; do
    mkdir -p /tmp/content
    echo $name >/tmp/content/name
    tar -C /tmp/content -c name | podman import --quiet - localhost/$name:1 >/run/crio/$name.id
done
id() { sed 's/^sha256://' /run/crio/$1.id; }
echo '{"images":[{"id":"'$(id pinned)'","repoTags":["localhost/pinned:1"],"pinned":true}]}' >/run/crio/images.json
echo '{"containers":[{"id":"c","image":{"image":"'$(id used)'"}}]}' >/run/crio/ps.json
printf 'kind: Pod\nspec:\n  containers:\n  - image: localhost/static:1\n' >/etc/kubernetes/manifests/static.yaml
"#;

fn images(site: &Site) -> Result<Vec<String>> {
    let format = "{{.Repository}}:{{.Tag}}";
    let list = site.node.run(&["podman", "images", "--format", format])?;
    Ok(list.lines().map(str::to_owned).collect())
}

fn exists(site: &Site, path: &str) -> Result<bool> {
    Ok(site.node.exec(&["test", "-e", path])?.status.success())
}

fn reloads(site: &Site) -> Result<usize> {
    let text = site
        .node
        .run(&["sh", "-c", "cat /run/reloads 2>/dev/null || true"])?;
    Ok(text.lines().count())
}

/// How often each blob of the images to precache was fetched.
fn fetches(site: &Site) -> Result<BTreeMap<String, usize>> {
    let log = std::fs::read(site.registry.log()).context("the registry's log")?;
    let mut counts = BTreeMap::new();
    for line in String::from_utf8_lossy(&log).lines() {
        let Some((_, rest)) = line.split_once("\"GET /v2/workload/") else {
            continue;
        };
        if let Some((_, rest)) = rest.split_once("/blobs/")
            && rest.contains("\" 200 ")
        {
            let digest = rest.split_whitespace().next().unwrap_or_default();
            *counts.entry(digest.to_owned()).or_default() += 1;
        }
    }
    Ok(counts)
}

#[test]
fn images_are_pulled_once_and_kept_until_idle() -> Result<()> {
    let site = Site::boot("precache")?;
    site.node.run(&["sh", "-c", RUNTIME])?;
    site.node
        .kubectl(&["create", "serviceaccount", "default"])?;
    site.node
        .kubectl(&["run", "named", "--image=localhost/named:1"])?;
    let low = json!({"image-cleanup.lca.openshift.io/disk-usage-threshold-percent": "0"});
    site.patch(&json!({"metadata": {"annotations": low}}))?;

    let ibu = site.go("Prep")?;
    let told = message(&ibu, "PrepInProgress");
    assert_eq!(
        told,
        "Prep completed: total: 4 (pulled: 4, skipped: 0, failed: 0)"
    );
    assert_eq!(
        message(&ibu, "PrepCompleted"),
        "Prep stage completed successfully"
    );
    let status: Value = serde_json::from_str(&site.node.run(&["cat", STATUS])?)?;
    assert_eq!(
        status,
        json!({"total": 4, "pulled": 4, "failed": 0, "failed_pulls": null})
    );

    let present = images(&site)?;
    let here = |name: &str| present.iter().any(|image| image == name);
    for name in OLD {
        assert_eq!(
            here(&format!("localhost/{name}:1")),
            name != "stale",
            "{name}: {present:?}"
        );
    }
    for image in WORKLOADS {
        assert!(here(image), "{image}: {present:?}");
    }
    let fetches = fetches(&site)?;
    ensure!(fetches.len() >= 2 * WORKLOADS.len(), "{fetches:?}");
    assert!(fetches.values().all(|count| *count == 1), "{fetches:?}");

    // Before the pivot and behind it, and what others have pinned too.
    let drop_in = site.node.run(&["cat", DROP_IN])?;
    for image in WORKLOADS.into_iter().chain(["quay.io/theirs:1"]) {
        assert!(
            drop_in.contains(&format!("\"{image}\"")),
            "{image}: {drop_in}"
        );
    }
    let in_target = std::fs::read_to_string(site.node.path_in_stateroot(TARGET, DROP_IN)?)?;
    assert!(
        in_target.contains(WORKLOADS[0]) && !in_target.contains("theirs"),
        "{in_target}"
    );
    let told = reloads(&site)?;
    assert!(told >= 1);

    let ibu = site.go("Idle")?;
    assert_eq!(conditions(&ibu), [("Idle", "True")]);
    assert!(!exists(&site, DROP_IN)?);
    assert!(exists(&site, "/etc/crio/crio.conf.d/50-pinned-images")?);
    assert_eq!(reloads(&site)?, told + 1);

    // What was precached stays, but for the clean-up, which is not asked for any more.
    site.patch(&json!({"metadata": {"annotations": {"image-cleanup.lca.openshift.io/on-prep": "Disabled"}}}))?;
    let ibu = site.go("Prep")?;
    let told = message(&ibu, "PrepInProgress");
    assert_eq!(
        told,
        "Prep completed: total: 4 (pulled: 0, skipped: 4, failed: 0)"
    );
    Ok(())
}
