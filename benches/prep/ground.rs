//! The seed to install, the registry that has it, and empty places to install it to.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use boxed::{Image, Release};

use crate::usage::{bytes_below, run};

/// Changes when the seed is made differently.
const EDITION: &str = "bench-prep-1";

/// Options of every archive in a seed (contract S 0.1).
pub(crate) const TAR: [&str; 4] = ["--selinux", "--xattrs", "--xattrs-include=*", "--acls"];

/// The stateroot that is installed.
pub(crate) const STATEROOT: &str = "rhcos_4.17.4";

/// The made seed.
pub(crate) struct Seed {
    /// Checksum of its commit.
    pub(crate) commit: String,
    /// Bytes of its layer.
    pub(crate) compressed: u64,
    /// Bytes of its repository and `/var`.
    pub(crate) bytes: u64,
    /// Files of both.
    pub(crate) files: u64,
}

/// Everything that the installations need. The registry ends with it.
pub(crate) struct Ground {
    /// What both kinds of installation start from, and the seed's trees.
    pub(crate) dir: PathBuf,
    /// The seed.
    pub(crate) seed: Seed,
    registry: Child,
    port: u16,
}

impl Drop for Ground {
    fn drop(&mut self) {
        drop(self.registry.kill());
        drop(self.registry.wait());
    }
}

impl Ground {
    /// Takes the seed from the cache, or makes it, and starts the registry.
    pub(crate) fn prepare() -> Result<Ground> {
        let dir = boxed::cache_dir().join(EDITION);
        fs::create_dir_all(&dir)?;
        certificates(&dir)?;
        let (registry, port) = serve(&dir)?;
        let mut ground = Ground {
            dir,
            seed: Seed {
                commit: String::new(),
                compressed: 0,
                bytes: 0,
                files: 0,
            },
            registry,
            port,
        };
        if !ground.dir.join("made").exists() {
            eprintln!("making the seed (some minutes, once)");
            ground.make()?;
            fs::write(ground.dir.join("made"), "")?;
        }
        ground.seed = ground.read()?;
        Ok(ground)
    }

    /// The seed's reference.
    pub(crate) fn image(&self) -> String {
        format!("127.0.0.1:{}/seed:1", self.port)
    }

    /// The certificate that the registry's is signed with.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.join("certs/ca.crt")
    }

    /// An empty directory for an installation.
    pub(crate) fn place(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if path.exists() {
            // Deployments are immutable.
            let clear = "chattr -i ostree/deploy/*/deploy/* sysroot/ostree/deploy/*/deploy/* 2>/dev/null; true";
            run(Command::new("sh").args(["-c", clear]).current_dir(&path))?;
            run(Command::new("rm").arg("-rf").arg(&path))?;
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// A sysroot without deployments.
    pub(crate) fn sysroot(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path)?;
        run(Command::new("ostree").args(["admin", "init-fs"]).arg(path))?;
        let repo = format!("--repo={}", path.join("ostree/repo").display());
        let set = ["config", "set", "sysroot.bootloader", "none"];
        run(Command::new("ostree").arg(repo).args(set))?;
        Ok(())
    }

    /// A podman that knows the registry, with its storage in `root`.
    pub(crate) fn podman(&self, root: &Path) -> Command {
        let mut command = Command::new("podman");
        command
            .arg("--root")
            .arg(root.join("storage"))
            // Podman wants a short path there.
            .args(["--runroot", "/run/lca-bench"])
            .args([
                "--storage-driver",
                "overlay",
                "--cgroup-manager",
                "cgroupfs",
            ]);
        command
    }

    fn read(&self) -> Result<Seed> {
        let text = |name: &str| -> Result<String> {
            Ok(fs::read_to_string(self.dir.join(name))?.trim().to_owned())
        };
        let repo = self.dir.join("repo");
        let trees = [repo.as_path(), &self.dir.join("capture/var")];
        let count = "find repo capture/var -type f -o -type l | wc -l";
        let files = run(Command::new("sh")
            .args(["-c", count])
            .current_dir(&self.dir))?;
        Ok(Seed {
            commit: text("commit")?,
            compressed: text("compressed")?.parse()?,
            bytes: trees
                .iter()
                .map(|tree| bytes_below(tree))
                .sum::<Result<u64>>()?,
            files: files.parse()?,
        })
    }

    fn make(&self) -> Result<()> {
        let image = Image::ensure()?;
        let script = format!(
            r#"set -e
            rm -rf os repo capture context podman
            mkdir -p os capture/var/lib capture/etc context
            ostree --repo={repo} checkout {reference} os/tree
            cp -a /usr/share os/tree/usr/share/bench
            cp -a /usr/bin os/tree/usr/lib/bench-bin
            cp -a /usr/sbin os/tree/usr/lib/bench-sbin
            cp -a /usr/lib/x86_64-linux-gnu os/tree/usr/lib/bench-lib
            ostree --repo=repo init --mode=bare
            ostree --repo=repo commit --branch=seed --tree=dir=os/tree --owner-uid=0 --owner-gid=0 > commit
            cp -a /usr/local capture/var/lib/bench
            cp -a /usr/include capture/var/lib/include
            cp -a os/tree/usr/etc/. capture/etc/ 2>/dev/null || true
            rm -rf os
            tar czf context/ostree.tgz -C repo . {tar}
            tar czf context/var.tgz -C capture var {tar}
            tar czf context/etc.tgz -C capture etc {tar}
            commit=$(cat commit)
            : > context/etc.deletions
            : > context/containers.list
            echo '{{"seed_cluster_ocp_version":"4.17.4","has_proxy":false,"has_fips":false,"additionalTrustBundle":null}}' > context/manifest.json
            echo '{{"spec":{{}}}}' > context/mco-currentconfig.json
            printf '[origin]\nrefspec=seed\n' > context/ostree-$commit.0.origin
            echo '{{"deployments":[{{"id":"rhcos-'$commit'.0","booted":true,"checksum":"'$commit'","osname":"rhcos","serial":0,"origin":"seed"}}]}}' > context/rpm-ostree.json
            printf 'FROM scratch\nCOPY . /\n' > Containerfile
            "#,
            repo = image.repo().display(),
            reference = Release::V4_17_4.reference(),
            tar = TAR.join(" "),
        );
        run(Command::new("bash")
            .args(["-c", &script])
            .current_dir(&self.dir))?;
        let root = self.dir.join("podman");
        let label = "com.openshift.lifecycle-agent.seed_format_version=4";
        run(self
            .podman(&root)
            .args([
                "build",
                "-q",
                "--label",
                label,
                "--file",
                "Containerfile",
                "--tag",
            ])
            .args([&self.image(), "context"])
            .current_dir(&self.dir))?;
        run(self
            .podman(&root)
            .args(["push", "-q", "--cert-dir", "certs", &self.image()])
            .current_dir(&self.dir))?;
        run(Command::new("rm")
            .args(["-rf", "podman", "context"])
            .current_dir(&self.dir))?;
        let url = format!("https://127.0.0.1:{}/v2/seed/manifests/1", self.port);
        let manifest = run(Command::new("curl")
            .args([
                "-fsS",
                "-H",
                "Accept: application/vnd.oci.image.manifest.v1+json",
                "--cacert",
            ])
            .arg(self.authority())
            .arg(url))?;
        let manifest: serde_json::Value = serde_json::from_str(&manifest)?;
        let layers = manifest["layers"]
            .as_array()
            .context("layers of the seed")?;
        let size: u64 = layers
            .iter()
            .filter_map(|layer| layer["size"].as_u64())
            .sum();
        fs::write(self.dir.join("compressed"), size.to_string())?;
        Ok(())
    }
}

fn certificates(dir: &Path) -> Result<()> {
    if dir.join("certs/ca.crt").exists() {
        return Ok(());
    }
    let script = r#"set -e
        mkdir -p certs; mkdir -p tls
        key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30"
        openssl req -x509 $key -subj /CN=bench-ca -keyout tls/ca.key -out tls/ca.crt
        openssl req -x509 $key -subj /CN=registry -CA tls/ca.crt -CAkey tls/ca.key -keyout tls/tls.key -out tls/tls.crt \
            -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE
        cp tls/ca.crt certs/ca.crt"#;
    run(Command::new("bash").args(["-c", script]).current_dir(dir))?;
    Ok(())
}

fn serve(dir: &Path) -> Result<(Child, u16)> {
    let path = |name: &str| dir.join(name).display().to_string();
    let config = format!(
        "version: 0.1\nlog:\n  accesslog: {{disabled: true}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  \
         addr: 127.0.0.1:0\n  secret: bench\n  tls: {{certificate: {}, key: {}}}\n",
        path("registry"),
        path("tls/tls.crt"),
        path("tls/tls.key"),
    );
    fs::write(dir.join("config.yml"), config)?;
    let mut process = Command::new("docker-registry")
        .args(["serve", &path("config.yml")])
        .env("OTEL_TRACES_EXPORTER", "none")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting docker-registry")?;
    let mut lines = BufReader::new(process.stderr.take().context("its log")?).lines();
    let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    // Nobody reads on, but the registry must be able to write.
    std::thread::spawn(move || lines.count());
    Ok((
        process,
        port.context("the registry does not say where it listens")?,
    ))
}
