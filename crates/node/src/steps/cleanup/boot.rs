//! Images that the node's own units start: RHCOS boots through several that run one by podman (nodeip-configuration.service
//! and others). No container is left of them and no Pod names them, so nothing but the text of a unit, or of a script that a
//! unit runs, tells that the next boot needs them.

use std::collections::BTreeSet;

use planner::ErrorKind;

use crate::PortResult;
use crate::ports::{FileKind, NodePath, Ports};

/// Where the MachineConfig operator and administrators put units and their drop-ins, and the scripts that these run.
const PLACES: [&str; 2] = ["/etc/systemd/system", "/usr/local/bin"];

/// Longest file that is read, bytes: units and scripts have a few thousand, programs many more.
const LIMIT: u64 = 1 << 20;

/// Files and directories that are looked at. A node has a few hundred.
const COUNT: usize = 10_000;

/// Directories below directories that are looked into; drop-ins stand one deep.
const DEPTH: usize = 4;

/// What a digest begins with in a reference (OCI image specification), and its hexadecimal digits.
const DIGEST: &str = "@sha256:";
const DIGITS: usize = 64;

/// References by digest in the units and scripts of the running system; `None` when there are more than anybody looks through.
pub(super) fn images(ports: &Ports<'_>) -> PortResult<Option<BTreeSet<String>>> {
    let mut images = BTreeSet::new();
    let mut places: Vec<_> = PLACES
        .iter()
        .map(|place| (NodePath::booted(place), 0))
        .collect();
    let mut count = 0;
    while let Some((directory, depth)) = places.pop() {
        for name in ports.files.list(&directory)? {
            count += 1;
            if count > COUNT {
                tracing::warn!(
                    COUNT,
                    "images are not cleaned up: too many units and scripts to look through"
                );
                return Ok(None);
            }
            let path = directory.join(&name);
            let text = match ports.files.kind(&path)? {
                Some(FileKind::Directory) if depth < DEPTH => {
                    places.push((path, depth + 1));
                    None
                }
                Some(FileKind::File(size)) if size <= LIMIT => ports.files.read(&path, LIMIT)?,
                Some(FileKind::Other) => linked(ports, &path)?,
                _ => None,
            };
            images.extend(references(&String::from_utf8_lossy(
                &text.unwrap_or_default(),
            )));
        }
    }
    Ok(Some(images))
}

/// The text of a file that a link leads to, if it does: a masked unit leads to a device.
fn linked(ports: &Ports<'_>, path: &NodePath) -> PortResult<Option<Vec<u8>>> {
    match ports.files.read(path, LIMIT) {
        Err(error) if error.kind() == ErrorKind::Permanent => Ok(None),
        other => other,
    }
}

/// Every reference by digest in a text, whatever stands around it.
fn references(text: &str) -> BTreeSet<String> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ':');
    let found = text.match_indices(DIGEST).filter_map(|(at, _)| {
        let (before, rest) = (text.get(..at)?, text.get(at + DIGEST.len()..)?);
        let digits = rest.get(..DIGITS)?;
        let name = before.rsplit(|c| !of_name(c)).next()?;
        let whole = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        whole.then(|| format!("{name}{DIGEST}{}", digits.to_ascii_lowercase()))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_found_in_units_and_scripts() {
        let digest = "0123456789abcdef".repeat(4);
        let check = |text: &str, expect: &[&str]| {
            let text = text.replace('%', &digest);
            let expect: BTreeSet<_> = expect
                .iter()
                .map(|name| name.replace('%', &digest))
                .collect();
            assert_eq!(references(&text), expect, "{text}");
        };
        check("", &[]);
        check(
            "ExecStart=/usr/bin/podman run --rm \\\n  quay.io/a/b@sha256:% \\\n  node-ip set\n",
            &["quay.io/a/b@sha256:%"],
        );
        check(
            "Environment=\"A=r:5000/a@sha256:%\" 'B=b:1@sha256:%'",
            &["r:5000/a@sha256:%", "b:1@sha256:%"],
        );
        // Whatever is before it: the digest counts.
        check("${NAME}@sha256:%", &["@sha256:%"]);
        check("a@sha256:%,é@sha256:%", &["a@sha256:%", "@sha256:%"]);
        check("a@sha256:0123", &[]);
        check(&format!("a@sha256:{}", "g".repeat(64)), &[]);
        check(&format!("a@sha256:{}é", "0".repeat(63)), &[]);
        check("user@sha256: @sha256:", &[]);
    }
}
