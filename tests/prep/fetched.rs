//! What `plan` announces is what is fetched: from nothing, after a kill in the middle, and while somebody prunes the object
//! store; and what was pruned is there again in the end.
//!
//! `LCA_ROWS` (default 3) is how many rows there are, of five; `LCA_RANDOM` repeats the moments of an earlier run; it is printed.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boxed::moment::{Random, count};
use boxed::{REGISTRY_ADDRESS, REGISTRY_PASSWORD, REGISTRY_USER, Site, succeed};
use serde_json::{Value, json};

use super::ORIGIN;

const TARGET: &str = "rhcos_4.17.4";

/// Limit of the brief (issue 4, "Must show"): a share of what is fetched.
const TOLERANCE: f64 = 0.01;

/// So slow is the registry while something is done to Prep.
const BYTES_PER_SECOND: u64 = 32 << 20;

/// Between two prunings, at most; none where objects get their names.
const PRUNE_PAUSE: Duration = Duration::from_secs(2);

/// After that time without an answer a registry has none to give.
const QUIET: Duration = Duration::from_millis(500);

/// How long a node may take for what is waited for here.
const LIMIT: Duration = Duration::from_secs(60);

/// Tag of the seed as `seed create` made it.
const OWN: &str = "4.17.4";
/// Tag of the same seed without the labels that the Go original does not write.
const STOCK: &str = "stock";

/// Arguments: registry, user, then what to do: `get PATH` or `put FILE` (a blob, its digest is printed) or `tag FILE TAG`.
const REQUEST: &str = r#"
url=https://$1/v2/seed
user=$2
request() { curl --silent --show-error --fail --insecure --user "$user" "$@"; }
case $3 in
get) request -H "Accept: application/vnd.oci.image.manifest.v1+json" $url/$4 ;;
put)
    digest=sha256:$(sha256sum "$4" | cut -d' ' -f1)
    place=$(request -X POST --dump-header - --output /dev/null $url/blobs/uploads/ | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
    request -X PUT -H 'Content-Type: application/octet-stream' --data-binary @"$4" "$place&digest=$digest"
    printf %s $digest
    ;;
tag) request -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary @"$4" $url/manifests/$5 ;;
esac
"#;

fn request(site: &Site, arguments: &[&str]) -> Result<String> {
    let user = format!("{REGISTRY_USER}:{REGISTRY_PASSWORD}");
    let mut command = site.lab.command("sh");
    command.args(["-ec", REQUEST, "sh", &site.registry.address(), &user]);
    succeed(command.args(arguments))
}

fn request_json(site: &Site, path: &str) -> Result<Value> {
    serde_json::from_str(&request(site, &["get", path])?).with_context(|| path.to_owned())
}

fn file(site: &Site, name: &str, document: &Value) -> Result<String> {
    let path = site.lab.dir().join(name);
    fs::write(&path, document.to_string()).with_context(|| format!("writing {name}"))?;
    Ok(path.display().to_string())
}

/// Tags the site's seed once more, without our labels.
fn tag_stock(site: &Site) -> Result<()> {
    let mut manifest = request_json(site, &format!("manifests/{OWN}"))?;
    let digest = manifest["config"]["digest"].as_str().context("digest")?;
    let mut config = request_json(site, &format!("blobs/{digest}"))?;
    let labels = config["config"]["Labels"].as_object_mut();
    let labels = labels.context("labels")?;
    let contract = [
        api::label::SEED_FORMAT_VERSION,
        api::label::SEED_CLUSTER_INFO,
    ];
    labels.retain(|name, _| contract.contains(&name.as_str()));
    let path = file(site, "config.json", &config)?;
    manifest["config"]["digest"] = request(site, &["put", &path])?.into();
    manifest["config"]["size"] = config.to_string().len().into();
    let path = file(site, "manifest.json", &manifest)?;
    request(site, &["tag", &path, STOCK]).map(drop)
}

fn image(tag: &str) -> String {
    format!("{REGISTRY_ADDRESS}/seed:{tag}")
}

fn request_prep(site: &Site, tag: &str) -> Result<()> {
    let seed = json!({"image": image(tag), "version": "4.17.4"});
    site.patch(&json!({"spec": {"stage": "Prep", "seedImageRef": seed}}))
}

/// What `plan` says of a seed, in bytes.
struct Announced {
    seed: u64,
    /// Known when it is known which images the seed names.
    images: Option<u64>,
    document: Value,
}

/// What `plan` says of a seed.
fn announced(site: &Site, tag: &str) -> Result<Announced> {
    let command = [
        "lifecycle-agent",
        "plan",
        "-o",
        "json",
        "--image",
        &image(tag),
    ];
    let output = site.node.exec(&command)?;
    let document: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok(Announced {
        seed: document["fetch"]["fetchBytes"]
            .as_u64()
            .context("fetchBytes")?,
        images: document["images"]["pullBytes"].as_u64(),
        document,
    })
}

/// Bytes that the registry has given of a repository's manifests and blobs since it had answered `since` requests.
fn fetched(site: &Site, repository: &str, since: usize) -> Result<u64> {
    let served = site.registry.served()?;
    let requests = served.iter().skip(since).filter(|served| {
        served.method == "GET" && served.path.starts_with(repository) && served.status < 300
    });
    Ok(requests.map(|served| served.bytes).sum())
}

const SEED: &str = "/v2/seed/";
const IMAGES: &str = "/v2/workload/";

/// Prunes what no ref names, as an administrator would; gives how many objects went. `before` comes first.
fn prune(site: &Site, before: &str) -> Result<u64> {
    let script = format!(
        "mount -o remount,rw,bind /sysroot; cd /sysroot/ostree; {before} ostree prune --refs-only --repo=repo"
    );
    let told = site
        .node
        .run(&["unshare", "--mount", "sh", "-ec", &script])?;
    // "Deleted 7 objects, 1.2 MB freed", or "No unreachable objects".
    let words = told.lines().find_map(|line| line.strip_prefix("Deleted "));
    let number = words.and_then(|rest| rest.split(' ').next());
    Ok(number.and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// Deletes every ref but those of deployments: what was imported a moment ago goes, too.
const WITH_OUR_REFS: &str =
    "ostree refs --repo=repo | grep -v ^ostree/ | xargs -r ostree refs --repo=repo --delete;";

/// How often there is no pause between two prunings: who never stops it lets nobody import anything.
const AT_ONCE: u32 = 10;

/// Prunes at random moments until `done`, and a few times at once from when `bytes` have arrived; gives how often, and how many
/// objects went.
fn keep_pruning(
    site: &Site,
    bytes: u64,
    random: &mut Random,
    done: &AtomicBool,
) -> Result<(u32, u64)> {
    let meter = site.registry.meter()?;
    let until = meter.bytes() + bytes;
    let (mut times, mut objects, mut at_once) = (0, 0, 0);
    while !done.load(Ordering::Relaxed) {
        if meter.bytes() >= until && at_once < AT_ONCE {
            at_once += 1;
        } else {
            thread::sleep(random.moment(PRUNE_PAUSE));
        }
        objects += prune(site, "")?;
        times += 1;
    }
    Ok((times, objects))
}

/// Checks the whole store, and that the target's commit is complete in it.
fn check_store(site: &Site) -> Result<()> {
    let deployments = site.node.deployments()?;
    let target = deployments.iter().find(|found| found.stateroot == TARGET);
    let target = target.context("the target has no deployment")?;
    let name = target.dir.file_name().unwrap_or_default().to_string_lossy();
    let commit = name.split('.').next().unwrap_or_default();
    let repo = format!(
        "--repo={}",
        site.node.sysroot().dir().join("ostree/repo").display()
    );
    let told = succeed(std::process::Command::new("ostree").args(["fsck", &repo]))?;
    ensure!(!told.contains("partial"), "{told}");
    succeed(std::process::Command::new("ostree").args([
        "ls",
        "--recursive",
        "--checksum",
        &repo,
        commit,
    ]))?;
    println!("ostree fsck: {}", told.lines().last().unwrap_or_default());
    Ok(())
}

fn differ(announced: u64, fetched: u64) -> f64 {
    announced.abs_diff(fetched) as f64 / fetched.max(1) as f64
}

/// One row: announces, lets `during` happen in Prep, and compares.
fn row(site: &Site, what: &str, tag: &str, during: impl FnOnce() -> Result<()>) -> Result<()> {
    let told = announced(site, tag)?;
    let since = site.registry.served()?.len();
    let begun = Instant::now();
    during()?;
    let took = begun.elapsed();
    let mut rows = vec![(what.to_owned(), told.seed, fetched(site, SEED, since)?)];
    let fetch = &told.document["fetch"];
    if let (Some(missing), Some(all)) =
        (fetch["missingObjects"].as_u64(), fetch["objects"].as_u64())
    {
        rows[0].0 += &format!(" ({missing} of {all} objects missing)");
    }
    if let Some(images) = told.images {
        rows.push((
            "  its images".to_owned(),
            images,
            fetched(site, IMAGES, since)?,
        ));
    }
    for (what, announced, fetched) in &rows {
        println!(
            "{what:80} {announced:>12} {fetched:>12} {:>9.3} {:>6.1}",
            differ(*announced, *fetched) * 100.0,
            took.as_secs_f32()
        );
    }
    let served = site.registry.served()?;
    for (what, announced, fetched) in rows {
        ensure!(
            differ(announced, fetched) <= TOLERANCE,
            "{what}: {:#} {:#} {:#?}",
            told.document["fetch"],
            told.document["images"],
            served
                .iter()
                .skip(since)
                .filter(|served| served.bytes > 1 << 20)
                .collect::<Vec<_>>()
        );
    }
    Ok(())
}

/// Begins Prep, and kills the agent for good when `moment` has come.
fn begin_and_kill(site: &Site, tag: &str, moment: impl Fn() -> Result<bool>) -> Result<()> {
    let meter = site.registry.meter()?;
    let since = site.registry.served()?.len();
    meter.limit(Some(BYTES_PER_SECOND));
    request_prep(site, tag)?;
    let begun = Instant::now();
    while !moment()? {
        ensure!(begun.elapsed() < LIMIT, "the moment does not come");
        thread::sleep(Duration::from_millis(5));
    }
    // In one go: systemd would start it again after a second.
    let script = "systemctl kill --signal=SIGKILL lifecycle-agent; systemctl stop lifecycle-agent";
    site.node.run(&["sh", "-ec", script])?;
    // What was cut off is in the registry's log as soon as it has noticed.
    let mut answered = since;
    loop {
        thread::sleep(QUIET);
        let now = site.registry.served()?.len();
        if now > since && now == answered {
            break;
        }
        answered = now;
        ensure!(begun.elapsed() < LIMIT, "the registry goes on");
    }
    meter.limit(None);
    Ok(())
}

fn go_on(site: &Site) -> Result<()> {
    site.node
        .run(&["systemctl", "start", "lifecycle-agent.service"])?;
    site.wait_stage("Prep").map(drop)
}

/// Removes what was precached, so that it is fetched again.
fn forget_images(site: &Site) -> Result<()> {
    let command = ["podman", "rmi", "--all", "--force"];
    site.node.run(&command).map(drop)
}

/// Prep while somebody prunes the store all the time: it costs time, and not a byte.
fn pruned(site: &Site, what: &str, tag: &str, random: &mut Random) -> Result<()> {
    let meter = site.registry.meter()?;
    forget_images(site)?;
    let (done, whole) = (AtomicBool::new(false), announced(site, tag)?.seed);
    let pruned = thread::scope(|scope| {
        let pruning = scope.spawn(|| keep_pruning(site, whole, random, &done));
        let told = row(site, &format!("{what}, store pruned"), tag, || {
            meter.limit(Some(BYTES_PER_SECOND));
            request_prep(site, tag)?;
            site.wait_stage("Prep").map(drop)
        });
        done.store(true, Ordering::Relaxed);
        let pruned = pruning.join();
        let pruned = pruned.map_err(|_| anyhow::anyhow!("the pruning has panicked"))?;
        told.and(pruned)
    });
    let (times, objects) = pruned?;
    println!("  pruned {times} times meanwhile, {objects} objects went");
    ensure!(times >= 3);
    check_store(site)?;
    site.go("Idle").map(drop)
}

/// Prep, killed when a third of the seed was there.
fn killed(site: &Site, what: &str, tag: &str) -> Result<()> {
    let meter = site.registry.meter()?;
    forget_images(site)?;
    let until = meter.bytes() + announced(site, tag)?.seed / 3;
    begin_and_kill(site, tag, || Ok(meter.bytes() >= until))?;
    let what = format!("{what}, killed when a third was there");
    row(site, &what, tag, || go_on(site))?;
    site.go("Idle").map(drop)
}

/// Prep, killed between import and deployment, and with its import lost.
fn lost(site: &Site, what: &str, tag: &str) -> Result<()> {
    let run = site.last_run(ORIGIN)?;
    begin_and_kill(site, tag, || {
        let now = site.last_run(ORIGIN)?;
        Ok(now != run && now.contains("\"deploy-stateroot\""))
    })?;
    let objects = prune(site, WITH_OUR_REFS)?;
    ensure!(objects > 0);
    let what = format!("{what}, killed when imported, {objects} objects pruned");
    row(site, &what, tag, || go_on(site))?;
    check_store(site)?;
    site.go("Idle").map(drop)
}

/// With what the agent said, for who has to find out why.
fn explained(site: &Site, told: Result<()>) -> Result<()> {
    if told.is_err() {
        let command = [
            "journalctl",
            "--unit=lifecycle-agent",
            "--lines=150",
            "--output=cat",
        ];
        println!("{}", site.node.run(&command)?);
    }
    told
}

#[test]
fn what_plan_announces_is_fetched_and_what_is_pruned_comes_back() -> Result<()> {
    let site = Site::boot("fetched")?;
    let told = tables(&site);
    explained(&site, told)
}

/// What makes a row of the table, with its random moments.
type Row<'a> = &'a dyn Fn(&mut Random) -> Result<()>;

fn tables(site: &Site) -> Result<()> {
    let mut random = Random::from_environment();
    tag_stock(site)?;
    println!(
        "{:80} {:>12} {:>12} {:>9} {:>6}",
        "", "announced", "fetched", "differ %", "Prep s"
    );
    let (own, stock) = ("as seed create makes it", "as the Go original makes it");
    let rows: [Row<'_>; 5] = [
        &|_| killed(site, stock, STOCK),
        &|random| pruned(site, own, OWN, random),
        &|_| lost(site, stock, STOCK),
        &|_| killed(site, own, OWN),
        &|random| pruned(site, stock, STOCK, random),
    ];
    for row in rows.into_iter().take(count("LCA_ROWS", 3)) {
        row(&mut random)?;
    }
    Ok(())
}
