//! The volume that brings its configuration to a node which is being installed from a seed (S 3.3, step 1).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use node::ports::Unwatched;
use node::{ErrorKind, PortError, PortResult};
use serde::Deserialize;

use crate::command::{Command, CommandError};
use crate::failure::Attempt;
use crate::layout::Layout;
use crate::sysroot_writer::{private_mounts, relayed};

/// Names of the volume's filesystem; the second is what older tools give it.
const LABELS: [&str; 2] = ["cluster-config", "relocation-config"];
/// How long looking for the volume or mounting it may take: drives that have to spin up, at worst.
const DEADLINE: Duration = Duration::from_secs(60);
/// The part of the volume that begins a first boot. It gets its name last, when all else is in place and durable.
const BEGINS: &str = "cluster-configuration";
/// That part until then.
const INCOMING: &str = ".cluster-configuration.incoming";

/// What `lsblk` lists.
#[derive(Deserialize)]
struct Listing {
    blockdevices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    /// Its path.
    name: PathBuf,
    label: Option<String>,
}

/// Copies what the volume has to where first boots look for it; `false` = there is no such volume.
pub(super) fn take(layout: &Layout) -> PortResult<bool> {
    let Some(device) = find()? else {
        return Ok(false);
    };
    tracing::info!(device = %device.display(), "taking this node's configuration");
    let on = tempfile::tempdir_in("/run")
        .attempt(|| "making a directory to mount a volume on".to_owned())?;
    // What is mounted there is seen by this thread only, and gone with it.
    relayed(&Unwatched, |_| {
        private_mounts()?;
        command(
            "mount",
            [
                "-o".as_ref(),
                "ro".as_ref(),
                device.as_os_str(),
                on.path().as_os_str(),
            ],
        )?;
        copy(on.path(), layout.booted())
    })
    .map_err(|error| {
        let text = format!("taking this node's configuration from {}", device.display());
        PortError::new(error.kind(), text, error)
    })?;
    Ok(true)
}

fn find() -> PortResult<Option<PathBuf>> {
    let arguments = ["--json", "--list", "--paths", "--output", "NAME,LABEL"];
    let listed = command("lsblk", arguments.map(OsStr::new))?;
    labelled(&listed)
}

/// The first device that has one of the labels; also a partition, which a memory stick may have.
fn labelled(listing: &[u8]) -> PortResult<Option<PathBuf>> {
    let listing: Listing = serde_json::from_slice(listing).map_err(|error| {
        let text = "reading what lsblk lists";
        PortError::new(ErrorKind::Transient, text, error)
    })?;
    let wanted = |device: &Device| {
        let label = device.label.as_deref();
        label.is_some_and(|label| LABELS.contains(&label))
    };
    let found = listing.blockdevices.into_iter().find(wanted);
    Ok(found.map(|device| device.name))
}

fn command<'a>(
    program: &str,
    arguments: impl IntoIterator<Item = &'a OsStr>,
) -> PortResult<Vec<u8>> {
    let run = Command::new(program, DEADLINE).args(arguments).run();
    run.map_err(|error: CommandError| {
        PortError::new(ErrorKind::Transient, format!("running {program}"), error)
    })
}

/// Copies the volume's tree. Cut off anywhere, it leaves nothing that begins a first boot, and is made again.
fn copy(volume: &Path, booted: &Path) -> PortResult<()> {
    let whole = volume.join(BEGINS).join("manifest.json");
    if !whole.is_file() {
        let text = format!("the volume has no {BEGINS}/manifest.json");
        return Err(PortError::plain(ErrorKind::Permanent, text));
    }
    let target = booted.join(api::path::OPENSHIFT.trim_start_matches('/'));
    let copied = || -> io::Result<()> {
        // Of an earlier attempt or of the seed: without the document nothing there counts.
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        copy_below(volume, &target, &|name| match name {
            BEGINS => INCOMING,
            name => name,
        })?;
        let directory = File::open(&target)?;
        rustix::fs::syncfs(&directory)?;
        fs::rename(target.join(INCOMING), target.join(BEGINS))?;
        directory.sync_all()
    };
    copied().attempt(|| format!("copying the volume to {}", api::path::OPENSHIFT))
}

/// Copies directories and files alone, for nobody but root: owners, modes and labels of a removable filesystem mean nothing here.
/// What has no name in UTF-8 is none of the parts.
fn copy_below(from: &Path, to: &Path, named: &dyn Fn(&str) -> &str) -> io::Result<()> {
    fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let to = to.join(named(name));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_below(&entry.path(), &to, &|name| name)?;
        } else if kind.is_file() {
            let mut options = File::options();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&to)?;
            io::copy(&mut File::open(entry.path())?, &mut file)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volume_is_found_by_its_label_also_on_a_partition() {
        let check = |rows: &str, expect: Option<&str>| {
            let listing = format!("{{\"blockdevices\":[{rows}]}}");
            let found = labelled(listing.as_bytes()).unwrap();
            assert_eq!(found.as_deref(), expect.map(Path::new), "{rows}");
        };
        check("", None);
        check(
            r#"{"name":"/dev/vda","label":null},{"name":"/dev/vda1","label":"boot"}"#,
            None,
        );
        check(
            r#"{"name":"/dev/vda","label":null},{"name":"/dev/sr0","label":"cluster-config"}"#,
            Some("/dev/sr0"),
        );
        check(
            r#"{"name":"/dev/sdb1","label":"relocation-config"}"#,
            Some("/dev/sdb1"),
        );
        assert!(labelled(b"lsblk: not JSON").is_err());
    }

    #[test]
    fn a_volume_is_copied_whole_or_begins_nothing() {
        let (volume, node) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let part = |path: &str| volume.path().join(path);
        fs::create_dir_all(part("cluster-configuration/manifests")).unwrap();
        fs::create_dir_all(part("extra-manifests")).unwrap();
        fs::write(part("extra-manifests/a.yaml"), "a").unwrap();
        let target = node.path().join("var/opt/openshift");
        let error = copy(volume.path(), node.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the volume has no cluster-configuration/manifest.json"
        );
        assert!(!target.exists());
        fs::write(part("cluster-configuration/manifest.json"), "{}").unwrap();
        // What an attempt left that was cut off.
        fs::create_dir_all(target.join(INCOMING)).unwrap();
        fs::write(target.join(INCOMING).join("manifest.json"), "").unwrap();
        copy(volume.path(), node.path()).unwrap();
        let read = |path: &str| fs::read_to_string(target.join(path)).unwrap();
        assert_eq!(read("cluster-configuration/manifest.json"), "{}");
        assert_eq!(read("extra-manifests/a.yaml"), "a");
        assert!(target.join("cluster-configuration/manifests").is_dir());
        assert!(!target.join(INCOMING).exists());
    }
}
