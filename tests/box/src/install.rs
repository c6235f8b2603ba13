//! Putting a node on disk.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use testenv::{Program, Version};

use crate::cache;
use crate::cluster::KERNEL_ARGUMENTS;
use crate::command::succeed;
use crate::image::{Image, Release};
use crate::network::LAB_ADDRESS;
use crate::pki::write;
use crate::sysroot::Sysroot;
use crate::template;

/// The stateroot that an installer makes.
const FIRST_STATEROOT: &str = "rhcos";

/// The agent as a service of the host; on a real node it is a pod.
pub const AGENT_UNIT: &str = "\
[Unit]
Description=Lifecycle Agent
After=dbus.service network.target

[Service]
Environment=MALLOC_ARENA_MAX=2
Environment=KUBECONFIG=/etc/kubernetes/static-pod-resources/kube-apiserver-certs/secrets/node-kubeconfigs/lb-ext.kubeconfig
ExecStart=/usr/local/bin/lifecycle-agent controller
Restart=always
RestartSec=1s

[Install]
WantedBy=multi-user.target
";

/// What to install.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Names the node within its lab.
    pub name: String,
    /// The release it runs.
    pub release: Release,
    /// Its address in `192.168.127.0/24`; the last number has to differ between nodes of a lab.
    pub address: Ipv4Addr,
    /// Its hostname, which is its Node's name.
    pub hostname: String,
    /// The `lifecycle-agent` program: installed as `/usr/local/bin/lifecycle-agent` and started as
    /// `lifecycle-agent.service`. Without it the node has no agent.
    pub agent_binary: Option<PathBuf>,
}

impl NodeConfig {
    /// A node without agent, called `name`, at `192.168.127.<number>`.
    #[must_use]
    pub fn new(name: &str, release: Release, number: u8) -> NodeConfig {
        let [a, b, c, _] = LAB_ADDRESS.octets();
        NodeConfig {
            name: name.to_owned(),
            release,
            address: Ipv4Addr::new(a, b, c, number),
            hostname: name.to_owned(),
            agent_binary: None,
        }
    }

    /// The same with an agent.
    #[must_use]
    pub fn with_agent(mut self, binary: &Path) -> NodeConfig {
        self.agent_binary = Some(binary.to_owned());
        self
    }
}

/// Where the parts of an installed node lie on the host.
#[derive(Clone, Debug)]
pub struct Disk {
    pub(crate) dir: PathBuf,
    /// What is its `/sysroot`.
    pub sysroot: Sysroot,
    /// `/var/lib/containers`, shared by all stateroots.
    pub containers: PathBuf,
}

/// Installs `config` into `dir`, which is created if it is not there: into `sysroot` and `containers` below it, in which
/// filesystems may be mounted.
///
/// # Errors
/// When the image cannot be built, or a step of the installation fails.
pub fn install(dir: &Path, config: &NodeConfig) -> Result<Disk> {
    let image = Image::ensure()?;
    let template = template::ensure(config.release, &config.hostname, config.address)?;
    let root = dir.join("sysroot");
    let containers = dir.join("containers");
    let programs = containers.join("mini-sno");
    for dir in [&root, &programs] {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    for (name, program) in [
        ("etcd", Program::Etcd),
        ("kube-apiserver", Program::KubeApiserver(Version::Pinned)),
        ("kubectl", Program::Kubectl),
    ] {
        link_or_copy(&program.path()?, &programs.join(name))?;
    }
    deploy(&image, &root, config.release)?;
    let sysroot = Sysroot::new(root);
    let deployment = sysroot.default_deployment()?;
    let var = sysroot.var(&deployment.stateroot);
    for (from, to) in [("etc", &deployment.dir.join("etc")), ("var", &var)] {
        succeed(
            Command::new("cp")
                .args(["-a", "--sparse=always"])
                .arg(template.join(from).join("."))
                .arg(to),
        )?;
    }
    if let Some(binary) = &config.agent_binary {
        let bin = var.join("usrlocal/bin");
        fs::create_dir_all(&bin).with_context(|| format!("creating {}", bin.display()))?;
        fs::copy(binary, bin.join("lifecycle-agent"))
            .with_context(|| format!("copying {}", binary.display()))?;
        let units = deployment.dir.join("etc/systemd/system");
        write(&units.join("lifecycle-agent.service"), 0o644, AGENT_UNIT)?;
        symlink(
            "/etc/systemd/system/lifecycle-agent.service",
            units.join("multi-user.target.wants/lifecycle-agent.service"),
        )
        .context("enabling lifecycle-agent.service")?;
    }
    Ok(Disk {
        dir: dir.to_owned(),
        sysroot,
        containers,
    })
}

/// A name for all that [`install`] would write: another one when anything of it changes.
///
/// # Errors
/// When the image cannot be built.
pub fn content_key(config: &NodeConfig) -> Result<String> {
    let template = template::ensure(config.release, &config.hostname, config.address)?;
    let repo = Image::ensure()?.repo();
    let agent = match &config.agent_binary {
        Some(binary) => {
            fs::read(binary).with_context(|| format!("reading {}", binary.display()))?
        }
        None => vec![],
    };
    Ok(cache::key([
        include_bytes!("install.rs").as_slice(),
        template.as_os_str().as_encoded_bytes(),
        repo.as_os_str().as_encoded_bytes(),
        &agent,
    ]))
}

/// Makes the ostree sysroot with its one deployment.
fn deploy(image: &Image, root: &Path, release: Release) -> Result<()> {
    let reference = release.reference();
    let repo = format!("--repo={}", root.join("ostree/repo").display());
    let sysroot = format!("--sysroot={}", root.display());
    let ostree = |args: &[&str]| {
        succeed(
            Command::new("ostree")
                .env("OSTREE_SYSROOT_DEBUG", "mutable-deployments")
                .args(args),
        )
    };
    ostree(&["admin", "init-fs", "--modern", &root.display().to_string()])?;
    ostree(&["config", &repo, "set", "sysroot.bootloader", "none"])?;
    ostree(&["config", &repo, "set", "sysroot.readonly", "true"])?;
    // Nothing here has to survive the host's own power failure.
    ostree(&["config", &repo, "set", "core.fsync", "false"])?;
    ostree(&[
        "pull-local",
        &repo,
        &image.repo().display().to_string(),
        &reference,
    ])?;
    ostree(&["admin", "os-init", &sysroot, FIRST_STATEROOT])?;
    let arguments = ["root=LABEL=root", "rw"]
        .into_iter()
        .chain(KERNEL_ARGUMENTS)
        .map(|argument| format!("--karg={argument}"))
        .collect::<Vec<_>>();
    let os = format!("--os={FIRST_STATEROOT}");
    let mut deploy = vec!["admin", "deploy", &sysroot, &os];
    deploy.extend(arguments.iter().map(String::as_str));
    deploy.push(&reference);
    ostree(&deploy)?;
    Ok(())
}

fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    }
    Ok(())
}
