//! The stock way, command by command (contract C 4.2).

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::ground::{Ground, STATEROOT, TAR};
use crate::usage::{Meter, Usage, run};

/// Installs the seed once.
pub(crate) fn install(ground: &Ground) -> Result<Usage> {
    let place = ground.place("stock")?;
    let sysroot = place.join("sysroot");
    ground.sysroot(&sysroot)?;
    let (podman, workspace) = (place.join("podman"), place.join("workspace"));
    fs::create_dir_all(&workspace)?;
    let certs = ground.dir.join("certs");
    let meter = Meter::start()?;
    let image = ground.image();
    let mut pull = ground.podman(&podman);
    run(pull
        .args(["pull", "-q", "--cert-dir"])
        .arg(&certs)
        .arg(&image))?;
    let mounted = run(ground.podman(&podman).args(["image", "mount", &image]))?;
    let untar = |archive: &str, to: &std::path::Path| {
        let archive = format!("{mounted}/{archive}");
        run(Command::new("tar")
            .args(["xzf", &archive, "-C"])
            .arg(to)
            .args(TAR))
        .map(drop)
    };
    untar("ostree.tgz", &workspace)?;
    let repo = format!("--repo={}", sysroot.join("ostree/repo").display());
    run(Command::new("ostree")
        .arg(&repo)
        .arg("pull-local")
        .arg(&workspace)
        .arg("seed"))?;
    let admin = |arguments: &[&str]| {
        let option = format!("--sysroot={}", sysroot.display());
        let (verb, rest) = arguments.split_first().context("an ostree command")?;
        run(Command::new("ostree")
            .args(["admin", verb, &option])
            .args(rest))
        .map(drop)
    };
    admin(&["os-init", STATEROOT])?;
    let commit = ground.seed.commit.as_str();
    admin(&["deploy", "--os", STATEROOT, "--no-prune", commit])?;
    let stateroot = sysroot.join("ostree/deploy").join(STATEROOT);
    untar("var.tgz", &stateroot)?;
    untar(
        "etc.tgz",
        &stateroot.join("deploy").join(format!("{commit}.0")),
    )?;
    let usage = meter.stop(&place, &[&sysroot])?;
    run(ground.podman(&podman).args(["image", "unmount", "--all"]))?;
    Ok(usage)
}
