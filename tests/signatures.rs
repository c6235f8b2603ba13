//! Seeds that must be signed, on a node in the box: what `plan` and Prep say of each case. Signed is with openssl, in the
//! places where cosign puts its signatures.

#![expect(
    clippy::print_stdout,
    reason = "what users are told is part of the result"
)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boxed::site::{conditions, seed_image};
use boxed::{REGISTRY_PASSWORD, REGISTRY_USER, Release, Site, succeed};
use serde_json::{Value, json};

const DIGEST: &str = "lca.openshift.io/seed-digest";

/// Makes the keys `ours` and `theirs`, and prints the fingerprint of ours.
const KEYS: &str = r"
for name in ours theirs; do
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $name.key
    openssl pkey -in $name.key -pubout -out $name.pub
done
openssl pkey -pubin -in ours.pub -outform DER | sha256sum | cut -d' ' -f1
";

/// Arguments: registry, user, digest of the image, digest that is signed, key. Replaces the image's signatures by this one.
const SIGN: &str = r#"
url=https://$1/v2/seed
request() { curl --silent --show-error --fail --insecure --user "$user" "$@"; }
put() {
    digest=sha256:$(sha256sum "$1" | cut -d' ' -f1)
    place=$(request -X POST --dump-header - --output /dev/null $url/blobs/uploads/ | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
    request -X PUT -H 'Content-Type: application/octet-stream' --data-binary @"$1" "$place&digest=$digest"
}
user=$2
printf '{"critical":{"identity":{"docker-reference":"build.example/seed"},"image":{"docker-manifest-digest":"%s"},"type":"cosign container image signature"},"optional":null}' $4 >payload
openssl dgst -sha256 -sign $5.key -out signature payload
printf '{}' >config
put config
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"%s"},"layers":[' $digest >manifest
put payload
printf '{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","size":%s,"digest":"%s","annotations":{"dev.cosignproject.cosign/signature":"%s"}}]}' \
    $(stat -c %s payload) $digest $(openssl base64 -A -in signature) >>manifest
request -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary @manifest \
    $url/manifests/sha256-${3#sha256:}.sig
"#;

fn script(site: &Site, dir: &Path, text: &str, arguments: &[&str]) -> Result<String> {
    let mut command = site.lab.command("sh");
    let command = command.current_dir(dir).args(["-ec", text, "sh"]);
    succeed(command.args(arguments))
}

struct Plan {
    status: Option<i32>,
    digest: String,
    row: Value,
}

/// What `plan` says of a check.
fn plan(site: &Site, check: &str) -> Result<Plan> {
    let seed = seed_image(Release::V4_17_4);
    let arguments = ["lifecycle-agent", "plan", "-o", "json", "--image", &seed];
    let output = site.node.exec(&arguments)?;
    let document: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let mut rows = document["checks"].as_array().context("rows")?.iter();
    let row = rows.find(|row| row["name"] == check).context("the row")?;
    Ok(Plan {
        status: output.status.code(),
        digest: document["digest"].as_str().unwrap_or_default().to_owned(),
        row: row.clone(),
    })
}

/// Sets the ConfigMap.
fn configure(site: &Site, data: &Value) -> Result<()> {
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "lifecycle-agent-config", "namespace": "openshift-lifecycle-agent"},
        "data": data,
    });
    let write =
        "printf %s \"$1\" >/run/configuration.json && kubectl apply -f /run/configuration.json";
    let command = ["sh", "-ec", write, "sh", &object.to_string()];
    site.node.run(&command).map(drop)
}

#[test]
fn a_seed_is_fetched_only_with_the_signature_that_is_required() -> Result<()> {
    let site = Site::boot("signatures")?;
    let dir = site.lab.dir().join("signing");
    fs::create_dir_all(&dir)?;
    let fingerprint = script(&site, &dir, KEYS, &[])?;
    let fingerprint = fingerprint.trim();
    let ours = fs::read_to_string(dir.join("ours.pub"))?;
    let required = json!({"signaturePolicy": "required", "signatureKeys": ours});
    let check =
        |input: &str, check: &str, verdict: &str, part: &str, exit: i32| -> Result<String> {
            let told = plan(&site, check)?;
            let text = told.row["text"].as_str().unwrap_or_default();
            let found = told.row["verdict"].as_str().unwrap_or_default();
            println!(
                "{input:44} | exit {} | {found}: {text}",
                told.status.unwrap_or(-1)
            );
            ensure!(found == verdict, "{input}: {found}: {text}");
            ensure!(text.contains(part), "{input}: {text:?} lacks {part:?}");
            ensure!(told.status == Some(exit), "{input}: exit {:?}", told.status);
            Ok(told.digest)
        };
    let address = site.registry.address();
    let user = format!("{REGISTRY_USER}:{REGISTRY_PASSWORD}");
    let sign = |image: &str, signed: &str, key: &str| {
        script(&site, &dir, SIGN, &[&address, &user, image, signed, key]).map(drop)
    };

    let digest = check("no ConfigMap", "signature", "passed", "not asked for", 0)?;
    configure(
        &site,
        &json!({"signaturePolicy": "off", "signatureKeys": ours}),
    )?;
    check("off, not signed", "signature", "passed", "not asked for", 0)?;
    configure(&site, &required)?;
    check(
        "required, not signed",
        "signature",
        "failed",
        "is not signed",
        1,
    )?;

    // Prep refuses it too, and fetches nothing.
    site.request_prep()?;
    let ibu = site.wait(Duration::from_secs(60), |ibu| {
        conditions(ibu).contains(&("PrepCompleted", "False"))
    })?;
    let told = ibu["status"]["conditions"].to_string();
    println!("Prep: {told}");
    for part in [
        "failed to validate seed image info: ",
        "is not signed",
        &digest,
    ] {
        ensure!(told.contains(part), "{told}");
    }
    let spooled = "find /var/lib/containers/lca/seed -type f 2>/dev/null | wc -l";
    let spooled = site.node.run(&["sh", "-c", spooled])?;
    ensure!(spooled.trim() == "0", "{spooled} files are fetched");
    site.go("Idle")?;

    sign(&digest, &digest, "theirs")?;
    check(
        "signed with another key",
        "signature",
        "failed",
        "made with another key",
        1,
    )?;
    let other = format!("sha256:{}", "07".repeat(32));
    sign(&digest, &other, "ours")?;
    check(
        "signature of another image",
        "signature",
        "failed",
        "of another image: sha256:0707",
        1,
    )?;
    sign(&digest, &digest, "ours")?;
    let good = format!("with key sha256:{fingerprint}, as build.example/seed");
    check("signed", "signature", "passed", &good, 0)?;
    for (input, data, part) in [
        (
            "policy with a typing error",
            json!({"signaturePolicy": "require"}),
            "\"require\"; it must be",
        ),
        (
            "keys without a policy",
            json!({"signatureKeys": ours}),
            "signaturePolicy is not",
        ),
        (
            "required without keys",
            json!({"signaturePolicy": "required"}),
            "holds no key",
        ),
    ] {
        // What an earlier configuration had is not to stay.
        site.node.kubectl(&[
            "delete",
            "configmap",
            "lifecycle-agent-config",
            "-n",
            "openshift-lifecycle-agent",
        ])?;
        configure(&site, &data)?;
        check(input, "signature-policy", "failed", part, 1)?;
    }
    configure(&site, &required)?;

    site.request_prep()?;
    let ibu = site.wait_stage("Prep")?;
    ensure!(
        ibu["metadata"]["annotations"][DIGEST] == digest.as_str(),
        "{ibu:#}"
    );
    let status = site.node.run(&["lifecycle-agent", "status"])?;
    for part in [&digest, fingerprint] {
        ensure!(status.contains(part), "{status}");
    }
    site.go("Idle")?;
    let gone = |ibu: &Value| ibu["metadata"]["annotations"][DIGEST].is_null();
    site.wait(Duration::from_secs(10), gone).map(drop)
}
