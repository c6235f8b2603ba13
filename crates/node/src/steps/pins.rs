//! Keeping images from the garbage collection of kubelet, which asks CRI-O which images it may remove.

use std::collections::BTreeSet;

use api::{StaterootName, path};

use crate::PortResult;
use crate::ports::{FileKind, NodePath, Ports, UnitState};

/// Longest configuration file of CRI-O that is read, bytes.
const LIMIT: u64 = 4 << 20;

/// CRI-O's unit.
const UNIT: &str = "crio.service";

/// Writes the drop-in into the running system's `/etc` and into the target's, and lets CRI-O read it. A drop-in's list takes
/// the place of every one before it, so ours has theirs in it. A target without our program has none: nobody would remove it.
pub(super) fn pin(
    ports: &Ports<'_>,
    images: &[String],
    stateroot: &StaterootName,
) -> PortResult<()> {
    let deployment = super::stateroot::deployment(ports, stateroot)?;
    let etc = |rel: &str| NodePath::in_deployment(&deployment, rel);
    if super::can_declare(ports, &deployment)? {
        write(ports, &etc, images)?;
    }
    write(ports, &|rel| NodePath::booted(rel), images)?;
    reload(ports)
}

/// Removes the drop-in of the running system; the target's goes with the target. What an ended pull left goes too.
pub(super) fn unpin(ports: &Ports<'_>) -> PortResult<()> {
    ports
        .files
        .remove(&NodePath::shared(super::precache::PULLS))?;
    let path = NodePath::booted(path::PINNED_IMAGES);
    if ports.files.kind(&path)?.is_none() {
        return Ok(());
    }
    ports.files.remove(&path)?;
    reload(ports)
}

/// Whether the drop-in is gone, and what pulls left.
pub(crate) fn unpinned(ports: &Ports<'_>) -> PortResult<bool> {
    let drop_in = NodePath::booted(path::PINNED_IMAGES);
    let pulls = NodePath::shared(super::precache::PULLS);
    Ok(ports.files.kind(&drop_in)?.is_none() && ports.files.kind(&pulls)?.is_none())
}

fn write(ports: &Ports<'_>, etc: &dyn Fn(&str) -> NodePath, images: &[String]) -> PortResult<()> {
    let mut pinned: BTreeSet<String> = images.iter().cloned().collect();
    pinned.extend(others(ports, etc)?);
    ports.files.replace(
        &etc(path::PINNED_IMAGES),
        drop_in(&pinned).as_bytes(),
        0o644,
    )
}

/// What the configuration pins without us: the last list counts.
fn others(ports: &Ports<'_>, etc: &dyn Fn(&str) -> NodePath) -> PortResult<Vec<String>> {
    let directory = etc(path::CRIO_DROP_INS);
    let ours = path::PINNED_IMAGES.rsplit('/').next().unwrap_or_default();
    let names = ports.files.list(&directory)?;
    let names = names.iter().filter(|name| *name != ours);
    let files = names.map(|name| directory.join(name));
    let mut pinned = Vec::new();
    for file in [etc(path::CRIO_CONFIG)].into_iter().chain(files) {
        if let Some(FileKind::File(_)) = ports.files.kind(&file)?
            && let Some(text) = ports.files.read(&file, LIMIT)?
            && let Some(list) = parse(&String::from_utf8_lossy(&text))
        {
            pinned = list;
        }
    }
    Ok(pinned)
}

/// The list of `pinned_images` in a configuration file of CRI-O; `None` = it has none. Only what CRI-O's own files and those
/// of the machine-config operator look like is understood: an array of plain strings.
fn parse(text: &str) -> Option<Vec<String>> {
    let lines = text.lines().map(|line| line.trim());
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with('#')).collect();
    let at = lines.iter().position(|line| {
        line.strip_prefix("pinned_images")
            .is_some_and(|rest| rest.trim_start().starts_with('='))
    })?;
    let rest = lines[at..].join("\n");
    let (_, rest) = rest.split_once('[')?;
    let (list, _) = rest.split_once(']')?;
    // Strings stand between quotes: every second part.
    let parts = list.split(['"', '\'']).skip(1).step_by(2);
    Some(parts.map(ToOwned::to_owned).collect())
}

/// The drop-in that pins these images, and nothing else (crio.conf.d(5)).
fn drop_in(images: &BTreeSet<String>) -> String {
    let mut text = String::from(
        "# Written by lifecycle-agent while an upgrade is prepared; removed when stage Idle is reached.\n\
         [crio.image]\npinned_images = [\n",
    );
    for image in images.iter().filter(|image| is_plain(image)) {
        text.push_str(&format!("  \"{image}\",\n"));
    }
    text.push_str("]\n");
    text
}

/// What may stand in a quoted string as it is; no image's name has anything else in it.
fn is_plain(image: &str) -> bool {
    image
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

/// Lets a running CRI-O read its configuration. One that will not has read it at its next start at the latest, and what is
/// pinned is present meanwhile: no reason to fail.
fn reload(ports: &Ports<'_>) -> PortResult<()> {
    if ports.units.state(UNIT)? != UnitState::Active {
        return Ok(());
    }
    if let Err(error) = ports.units.reload(UNIT) {
        if error.kind() == planner::ErrorKind::Interrupted {
            return Err(error);
        }
        let error = engine::error_chain(&error);
        tracing::warn!(error, "{UNIT} goes on with its old list of pinned images");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_others_are_found() {
        let check = |text: &str, expect: Option<&[&str]>| {
            let found = parse(text);
            let found = found
                .as_ref()
                .map(|list| list.iter().map(String::as_str).collect());
            assert_eq!(found, expect.map(<[&str]>::to_vec), "{text}");
        };
        check("", None);
        check("[crio.image]\npause_image = \"a\"\n", None);
        check("# pinned_images = [\"a\"]\n", None);
        check("pinned_images = []\n", Some(&[]));
        check("pinned_images=[\"a:1\"]", Some(&["a:1"]));
        check(
            "[crio]\n[crio.image]\n  pinned_images = [\n    \"a@sha256:1\",\n    # a comment\n    'b*',\n  ]\nx = [\"c\"]\n",
            Some(&["a@sha256:1", "b*"]),
        );
        check("pinned_images_file = [\"a\"]", None);
        check("pinned_images = [\"a\"", None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let images = ["b:1", "a@sha256:2", "bad\"name", "worse\nname"];
        let text = drop_in(&images.map(str::to_owned).into());
        assert_eq!(
            text,
            "# Written by lifecycle-agent while an upgrade is prepared; removed when stage Idle is reached.\n\
             [crio.image]\npinned_images = [\n  \"a@sha256:2\",\n  \"b:1\",\n]\n"
        );
        assert_eq!(parse(&text).unwrap(), ["a@sha256:2", "b:1"]);
    }
}
