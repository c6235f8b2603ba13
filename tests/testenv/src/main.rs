//! A control plane to try things on by hand: `cargo run -p testenv`. It prints how to reach it and
//! ends with its standard input (Ctrl-D), or Ctrl-C.

use std::io::{self, Read, Write};

use anyhow::Result;

fn main() -> Result<()> {
    let plane = testenv::ControlPlane::start()?;
    let [etcd, apiserver] = plane.pids();
    writeln!(
        io::stdout(),
        "export KUBECONFIG={}\n# kube-apiserver {} (pid {apiserver}), etcd {} (pid {etcd})",
        plane.kubeconfig_path().display(),
        plane.url(),
        plane.etcd_url(),
    )?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
