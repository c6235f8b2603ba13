//! Making a seed of the running node.
//!
//! Nothing durable of the node is altered: what the seed shall have differently is put in place of what is on disk while the
//! archives are written. The control plane is stopped meanwhile, because its data must lie still, and stays enabled: a node
//! that loses power in the middle comes up as before. What is made before the push lies in one directory that is
//! removed at the end, and at the next run if this one was cut short.

mod error;
mod etc_changes;
mod etcd_copy;
mod repository;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use api::seed_info::SeedClusterInfo;
use api::seed_node::{InstalledSize, SeedNodeFacts};
use api::{DeploymentId, ImageRef, label, names, path, rpm_ostree, seed_format};
use node::ports::{Ostree, Units};
use node::{ErrorKind, PortError, PortResult};
use seed::archive::{ArchiveWriter, Capture, Captured, Excludes, MemberPath, Node, Overlay, Time};
use seed::auth::AuthFile;
use seed::registry::Registry;
use seed::trust::Trust;
use seed::writer::SeedWriter;
use seed::{reader::Part, watch::Watch};

use self::error::{PartError, permanent, registry_error};
pub use self::repository::capture_repository;
use crate::command::Command;
use crate::failure::Attempt;
use crate::layout::Layout;
use crate::machine::HostMachine;

/// Begins the name of the directory for what is made.
const WORK_PREFIX: &str = "lca-seed-";
/// Where it is made: excluded from the seed like everything temporary.
const WORK_PARENT: &str = "/var/tmp";

/// The pull secret of a seed: valid and empty, as the Go original writes it (contract S 0.1).
const EMPTY_PULL_SECRET: &str = r#"{"auths":{"registry.connect.redhat.com":{"username":"empty","password":"empty","auth":"ZW1wdHk6ZW1wdHk=","email":""}}}"#;

/// What `/var` in a seed leaves out (contract S 1.3.2).
const VAR_EXCLUDES: [&str; 9] = [
    "*/.bash_history",
    "/var/tmp/*",
    "/var/log/*",
    "/var/lib/lca",
    "/var/lib/log/*",
    "/var/lib/cni/bin/*",
    "/var/lib/containers/*",
    "/var/lib/kubelet/pods/*",
    "/var/lib/ovn-ic/etc/*",
];

/// What `/etc` in a seed leaves out (contract S 1.3.3).
const ETC_EXCLUDES: [&str; 6] = [
    "/etc/NetworkManager/system-connections",
    "/etc/machine-config-daemon/orig/var/lib/kubelet",
    "/etc/openvswitch/conf.db",
    "/etc/openvswitch/.conf.db.~lock~",
    "/etc/hostname",
    "/etc/cni/multus",
];

/// Our program under the names that a target's units look for.
const PROGRAM_NAMES: [&str; 2] = ["usrlocal/bin/lca-cli", "usrlocal/bin/lifecycle-agent"];

/// The link that enables kubelet, below `/etc`.
const KUBELET_ENABLED: &str = "systemd/system/multi-user.target.wants/kubelet.service";

/// What to make of this node.
#[derive(Debug)]
pub struct SeedRequest {
    /// The image, with a tag.
    pub image: ImageRef,
    /// Credentials: the content of a docker configuration file.
    pub credentials: Vec<u8>,
    /// What the cluster says of itself, asked while it still ran.
    pub info: SeedClusterInfo,
    /// What the node is like; what an installation occupies is added here.
    pub node: SeedNodeFacts,
    /// Images to precache on targets.
    pub images: Vec<ImageRef>,
    /// Units that targets run.
    pub units: Vec<SeedUnit>,
    /// The program that they start.
    pub program: PathBuf,
}

/// A unit that a seed brings, enabled.
#[derive(Clone, Copy, Debug)]
pub struct SeedUnit {
    /// File name.
    pub name: &'static str,
    /// Text.
    pub text: &'static str,
    /// The target that starts it, as the text's `WantedBy=` has it.
    pub wanted_by: &'static [&'static str],
}

/// A seed that was made and pushed.
#[derive(Debug)]
pub struct MadeSeed {
    /// Digest of its manifest.
    pub digest: api::Digest,
    /// Bytes of its layer.
    pub size: u64,
    /// What is not in it as it was on disk.
    pub warnings: Vec<String>,
}

/// Stops the control plane, captures a changed copy of the node, starts the control plane again and pushes the image.
///
/// # Errors
/// Whatever went wrong; the control plane runs again by then.
pub fn create_seed(
    layout: &Layout,
    ostree: &dyn Ostree,
    units: &dyn Units,
    request: &SeedRequest,
    watch: &mut dyn Watch,
) -> PortResult<MadeSeed> {
    sweep()?;
    let work = tempfile::Builder::new()
        .prefix(WORK_PREFIX)
        .tempdir_in(WORK_PARENT)
        .attempt(|| format!("making a directory in {WORK_PARENT}"))?;
    let (written, warnings) = {
        let _stopped = Stopped::control_plane(units)?;
        capture(layout, ostree, request, work.path(), watch)?
    };
    push(request, work.path(), &written.manifest, watch)?;
    Ok(MadeSeed {
        digest: written.manifest,
        size: written.size,
        warnings,
    })
}

/// Removes what runs that were cut short have left.
fn sweep() -> PortResult<()> {
    let attempt = || format!("removing left-overs from {WORK_PARENT}");
    for entry in fs::read_dir(WORK_PARENT).attempt(attempt)? {
        let entry = entry.attempt(attempt)?;
        if entry.file_name().to_string_lossy().starts_with(WORK_PREFIX) {
            fs::remove_dir_all(entry.path()).attempt(attempt)?;
        }
    }
    Ok(())
}

/// The control plane while it is stopped; starts again when this goes.
struct Stopped<'a>(&'a dyn Units);

impl<'a> Stopped<'a> {
    fn control_plane(units: &'a dyn Units) -> PortResult<Self> {
        let stopped = Self(units);
        tracing::info!(unit = names::KUBELET_UNIT, "stopping the control plane");
        units.stop(names::KUBELET_UNIT)?;
        // On a real node the static pods outlive kubelet; here stops what runs them.
        if units.state("crio.service")? == node::ports::UnitState::Active {
            let deadline = std::time::Duration::from_secs(120);
            Command::new("crictl", deadline)
                .args(["rmp", "--all", "--force"])
                .run()
                .map_err(|error| permanent("stopping the pods of the node", error))?;
            units.stop("crio.service")?;
        }
        Ok(stopped)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        tracing::info!(
            unit = names::KUBELET_UNIT,
            "starting the control plane again"
        );
        if let Err(error) = self.0.start(names::KUBELET_UNIT) {
            let error = node::error_chain(&error);
            tracing::error!(
                error,
                "starting kubelet failed: start it by hand or reboot the node"
            );
        }
    }
}

/// Writes the image into `<work>/image`.
fn capture(
    layout: &Layout,
    ostree: &dyn Ostree,
    request: &SeedRequest,
    work: &Path,
    watch: &mut dyn Watch,
) -> PortResult<(seed::writer::Written, Vec<String>)> {
    let booted = booted(ostree)?;
    let etcd = etcd_copy::without_our_object(Path::new("/var/lib/etcd"), &work.join("etcd"))?;
    let info = serde_json::to_vec(&request.info)
        .map_err(|error| permanent("writing the description of the seed cluster", error))?;
    let stamp = Time {
        secs: unix_now(),
        nanos: 0,
    };
    let wrong = |error| permanent("writing the seed image", error);
    let image = seed::layout::Layout::create(&work.join("image"))
        .map_err(|error| permanent("making the seed's image", error))?;
    let mut writer = SeedWriter::create(image, stamp).map_err(wrong)?;

    let status = rpm_ostree_status(ostree)?;
    let config = fs::read(path::CURRENT_MACHINE_CONFIG)
        .attempt(|| format!("reading {}", path::CURRENT_MACHINE_CONFIG))?;
    let origin = layout
        .deployment(&booted)
        .with_extension(format!("{}.origin", booted.serial));
    let origin = fs::read(&origin).attempt(|| format!("reading {}", origin.display()))?;
    let changes = etc_changes::observe(
        &layout.deployment(&booted).join("usr/etc"),
        Path::new("/etc"),
    )?;
    let list = api::containers_list::print(&request.images);
    let deletions = deletions(&changes, request);
    for (name, content) in [
        (seed_format::CONTAINERS_LIST, list.as_bytes()),
        (seed_format::SEED_INFO, &info),
        (seed_format::RPM_OSTREE, &status),
        (seed_format::MACHINE_CONFIG, &config),
        (&seed_format::origin_file(&booted), &origin),
        (seed_format::ETC_DELETIONS, &deletions),
    ] {
        writer.document(name, content).map_err(wrong)?;
    }
    writer
        .file(seed_format::LCA_CLI, &request.program, 0o755)
        .map_err(wrong)?;

    let mut warnings = Vec::new();
    let mut installed = 0;
    let mut kept = |captured: Captured| {
        installed += occupied(&captured);
        warnings.extend(captured.warnings);
    };
    tracing::info!("capturing /etc");
    kept(capture_etc(&mut writer, request, &changes, stamp, watch)?);
    tracing::info!("capturing /var");
    kept(capture_var(
        &mut writer,
        request,
        &info,
        &etcd,
        stamp,
        watch,
    )?);
    tracing::info!("capturing the ostree repository");
    let repository = layout.sysroot().join("ostree/repo");
    let commit = &booted.checksum;
    kept(capture_repository(
        &mut writer,
        &repository,
        commit,
        stamp,
        watch,
    )?);
    let labels = BTreeMap::from([
        (
            label::SEED_FORMAT_VERSION.to_owned(),
            seed_format::VERSION.to_owned(),
        ),
        (
            label::SEED_CLUSTER_INFO.to_owned(),
            String::from_utf8_lossy(&info).into_owned(),
        ),
        (
            label::SEED_NODE_FACTS.to_owned(),
            node_label(layout, request, installed)?,
        ),
    ]);
    let created = api::Timestamp::from_unix(stamp.secs).to_string();
    let written = writer
        .finish(&request.image, &labels, &created, watch)
        .map_err(wrong)?;
    Ok((written, warnings))
}

/// Bytes of a block of the filesystem, which every member ends in one of: what seeds are installed on has these.
const DISK_BLOCK: u64 = 4096;

/// What the members occupy where they are unpacked, at most.
fn occupied(captured: &Captured) -> u64 {
    captured.bytes + captured.members * DISK_BLOCK
}

/// The label that tells targets what this node is like.
fn node_label(layout: &Layout, request: &SeedRequest, installed: u64) -> PortResult<String> {
    let facts = SeedNodeFacts {
        installed: Some(InstalledSize {
            sysroot: installed,
            boot: HostMachine::new(layout.clone()).boot_files(),
        }),
        ..request.node.clone()
    };
    serde_json::to_string(&facts)
        .map_err(|error| permanent("writing the description of the seed's node", error))
}

fn booted(ostree: &dyn Ostree) -> PortResult<DeploymentId> {
    let deployments = ostree.deployments()?;
    deployments
        .into_iter()
        .find(|found| found.booted)
        .map(|found| found.id)
        .ok_or_else(|| {
            PortError::plain(
                ErrorKind::Contradiction,
                "no deployment is known to be booted",
            )
        })
}

fn rpm_ostree_status(ostree: &dyn Ostree) -> PortResult<Vec<u8>> {
    let deployments = ostree.deployments()?;
    let deployments = deployments
        .iter()
        .map(|found| rpm_ostree::Deployment::new(&found.id, "", found.booted));
    let status = rpm_ostree::Status {
        deployments: deployments.collect(),
    };
    serde_json::to_vec(&status).map_err(|error| permanent("writing the list of deployments", error))
}

fn unix_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or_default())
}

fn member(text: &str) -> PortResult<MemberPath> {
    MemberPath::parse(text.as_bytes())
        .map_err(|error| permanent("naming a member of the seed", error))
}

/// What the target has to delete: what this node deleted, and the link that enables kubelet where the release has it.
fn deletions(changes: &etc_changes::Changes, _request: &SeedRequest) -> Vec<u8> {
    let mut lines = Vec::new();
    let kubelet = changes
        .release_has(KUBELET_ENABLED)
        .then(|| KUBELET_ENABLED.as_bytes().to_vec());
    let deleted: BTreeSet<Vec<u8>> = changes.deleted.iter().cloned().chain(kubelet).collect();
    for deleted in deleted {
        lines.extend_from_slice(b"/etc/");
        lines.extend_from_slice(&deleted);
        lines.push(b'\n');
    }
    lines
}

fn capture_etc(
    writer: &mut SeedWriter,
    request: &SeedRequest,
    changes: &etc_changes::Changes,
    stamp: Time,
    watch: &mut dyn Watch,
) -> PortResult<Captured> {
    let mut overlay = Overlay::default();
    overlay.insert(member(&format!("etc/{KUBELET_ENABLED}"))?, Node::Absent);
    for SeedUnit {
        name,
        text,
        wanted_by,
    } in &request.units
    {
        let unit = format!("etc/systemd/system/{name}");
        let file = Node::File {
            content: (*text).into(),
            mode: 0o644,
        };
        overlay.insert(member(&unit)?, file);
        for target in *wanted_by {
            let enabled = format!("etc/systemd/system/{target}.wants/{name}");
            let link = Node::Symlink(format!("/{unit}").into_bytes());
            overlay.insert(member(&enabled)?, link);
        }
    }
    let mut paths = Vec::new();
    for changed in &changes.changed {
        let path = [b"etc/", changed.as_slice()].concat();
        paths.push(
            MemberPath::parse(&path)
                .map_err(|error| permanent("naming a changed file of /etc", error))?,
        );
    }
    part(
        writer,
        Part::Etc,
        overlay,
        &ETC_EXCLUDES,
        stamp,
        watch,
        |capture| capture.paths(Path::new("/"), paths),
    )
}

fn capture_var(
    writer: &mut SeedWriter,
    request: &SeedRequest,
    info: &[u8],
    etcd: &Path,
    stamp: Time,
    watch: &mut dyn Watch,
) -> PortResult<Captured> {
    let mut overlay = Overlay::default();
    for name in PROGRAM_NAMES {
        overlay.insert(
            member(&format!("var/{name}"))?,
            Node::Source(request.program.clone()),
        );
    }
    let file = |content: &[u8]| Node::File {
        content: content.to_vec(),
        mode: 0o600,
    };
    overlay.insert(member(path::SEED_INFO)?, file(info));
    overlay.insert(
        member(path::PULL_SECRET)?,
        file(EMPTY_PULL_SECRET.as_bytes()),
    );
    overlay.insert(member("var/lib/etcd")?, Node::Source(etcd.to_owned()));
    // Files that the machine configuration puts below /var/lib survive the excludes (contract S 1.3.2).
    for managed in managed_files()? {
        overlay.insert(member(&managed)?, Node::Keep);
    }
    part(
        writer,
        Part::Var,
        overlay,
        &VAR_EXCLUDES,
        stamp,
        watch,
        |capture| capture.tree(Path::new("/var"), &member_var()),
    )
}

fn member_var() -> MemberPath {
    MemberPath::parse(b"var").unwrap_or_else(|_| MemberPath::root())
}

/// Paths of the machine configuration's files below `/var/lib/` that exist.
fn managed_files() -> PortResult<Vec<String>> {
    let config = fs::read(path::CURRENT_MACHINE_CONFIG)
        .attempt(|| format!("reading {}", path::CURRENT_MACHINE_CONFIG))?;
    let config: serde_json::Value = serde_json::from_slice(&config)
        .map_err(|error| permanent("reading the current machine configuration", error))?;
    let files = config
        .pointer("/spec/config/storage/files")
        .and_then(|files| files.as_array());
    let paths = files
        .into_iter()
        .flatten()
        .filter_map(|file| file.get("path")?.as_str());
    let wanted = |path: &&str| {
        path.starts_with("/var/lib/") && *path != path::PULL_SECRET && Path::new(path).is_file()
    };
    Ok(paths.filter(wanted).map(ToOwned::to_owned).collect())
}

fn part(
    writer: &mut SeedWriter,
    part: Part,
    overlay: Overlay,
    excludes: &[&str],
    stamp: Time,
    watch: &mut dyn Watch,
    fill: impl FnOnce(&mut Capture<'_, &mut dyn Write>) -> Result<(), seed::archive::CaptureError>,
) -> PortResult<Captured> {
    writer
        .part(part, |out: &mut dyn Write| {
            let out = ArchiveWriter::new(out);
            let mut capture = Capture::new(out, Excludes::new(excludes), overlay, stamp, watch);
            fill(&mut capture)?;
            capture
                .finish()
                .map(|(_, captured)| captured)
                .map_err(PartError::from)
        })
        .map_err(|error: PartError| permanent(format!("capturing {}", part.file_name()), error))
}

fn push(
    request: &SeedRequest,
    work: &Path,
    manifest: &api::Digest,
    watch: &mut dyn Watch,
) -> PortResult<()> {
    tracing::info!(image = %request.image, "pushing the seed");
    let context = || format!("pushing {}", request.image);
    let auth = AuthFile::parse(&request.credentials)
        .map_err(|error| permanent("reading the credentials for the push", error))?;
    let layout = seed::layout::Layout::create(&work.join("image"))
        .map_err(|error| permanent("opening the seed's image", error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .attempt(|| "starting the asynchronous runtime".to_owned())?;
    runtime.block_on(async {
        let registry = Registry::new(&request.image, &auth, &Trust::system())
            .map_err(|error| registry_error(context(), error))?;
        registry
            .push(&layout, manifest, watch)
            .await
            .map_err(|error| registry_error(context(), error))
    })
}
