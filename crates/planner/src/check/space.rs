//! Does it fit? Known before the first byte, with the numbers.

use api::seed_node::InstalledSize;

use super::{Fault, Judged, Subject, failed, unknown};
use crate::facts::{Filesystem, Space};
use crate::step::{BOOT_RESERVE, SYSROOT_RESERVE};

/// Bytes on disk for each byte of a compressed seed, as a ratio: what is assumed of a seed that does not say. Gzip takes
/// the files of an operating system to between 40 % and 45 % of their size.
const EXPANSION: (u64, u64) = (5, 2);

/// What an installation writes to one filesystem.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Need {
    /// Which one.
    pub filesystem: Filesystem,
    /// Bytes; for paths on one filesystem each has its own.
    pub bytes: u64,
    /// How the number was found; empty where there is nothing to say.
    pub basis: String,
    /// It is an estimate.
    pub estimated: bool,
}

/// What is needed of every filesystem from now on; nothing until the image is resolved.
pub fn needs(subject: &Subject<'_>) -> Option<Vec<Need>> {
    needed(subject).ok()
}

fn needed(subject: &Subject<'_>) -> Result<Vec<Need>, Fault> {
    let (pin, node) = (subject.pin()?, subject.node()?);
    let compressed: u64 = pin.layers.iter().map(|(_, size)| size).sum();
    let installed = subject.seed_node()?.installed;
    let (factor, divisor) = EXPANSION;
    let kept = |bytes: u64| format!("{} MiB kept for the way back", mib_up(bytes));
    let (sysroot, boot) = match installed {
        Some(InstalledSize { sysroot, boot }) => (
            (sysroot, String::new(), false),
            (boot, String::new(), false),
        ),
        None => {
            let bytes = compressed.saturating_mul(factor) / divisor;
            let basis = format!(
                "estimated as {:.1} times its compressed size of {} MiB",
                factor as f64 / divisor as f64,
                mib_up(compressed)
            );
            let boot = "estimated as what the running release has there".to_owned();
            ((bytes, basis, true), (node.boot_files, boot, true))
        }
    };
    let with = |filesystem, (bytes, basis, estimated): (u64, String, bool), reserve: u64| Need {
        filesystem,
        bytes: bytes.saturating_add(reserve),
        basis: match basis.as_str() {
            "" => format!("with {}", kept(reserve)),
            basis => format!("{basis}, with {}", kept(reserve)),
        },
        estimated,
    };
    let images = subject
        .images
        .map_or(0, |bytes| bytes.saturating_mul(factor) / divisor);
    let left = compressed.saturating_sub(node.spooled);
    Ok(vec![
        with(Filesystem::Sysroot, sysroot, SYSROOT_RESERVE),
        with(Filesystem::Boot, boot, BOOT_RESERVE),
        Need {
            filesystem: Filesystem::Containers,
            bytes: left.saturating_add(images),
            basis: {
                let seed = match node.spooled {
                    0 if pin.index.is_some() => {
                        "the compressed seed, should its index not be usable".to_owned()
                    }
                    0 => "the compressed seed".to_owned(),
                    spooled => format!(
                        "the compressed seed without {} MiB that are there",
                        spooled >> 20
                    ),
                };
                match subject.images {
                    None | Some(0) => seed,
                    Some(compressed) => format!(
                        "{seed}, and {} MiB for images to pull, estimated as {:.1} times their compressed size of {} MiB",
                        mib_up(images),
                        factor as f64 / divisor as f64,
                        mib_up(compressed)
                    ),
                }
            },
            estimated: images > 0,
        },
    ])
}

pub(super) fn sysroot(subject: &Subject<'_>) -> Judged {
    fits(subject, Filesystem::Sysroot)
}

pub(super) fn boot(subject: &Subject<'_>) -> Judged {
    fits(subject, Filesystem::Boot)
}

pub(super) fn containers(subject: &Subject<'_>) -> Judged {
    // Prep decides about the spool before it knows of images.
    let alone = Subject {
        images: None,
        ..*subject
    };
    match fits(&alone, Filesystem::Containers) {
        Err(Fault::Failed(text)) => {
            let indexed = subject.pin().is_ok_and(|pin| pin.index.is_some());
            let follows = if indexed { NO_SPOOL_INDEXED } else { NO_SPOOL };
            failed(format!("{text}: {follows}"))
        }
        Err(unknown) => Err(unknown),
        Ok(_) => match fits(subject, Filesystem::Containers) {
            Err(Fault::Failed(text)) => failed(format!("{text}: {NO_IMAGES}")),
            other => other,
        },
    }
}

/// What it means that container storage has no room for the compressed seed.
const NO_SPOOL: &str =
    "resuming is off, the seed is installed while it arrives and an interruption begins anew";

/// The same for a seed with an index, which is not kept: it is resumed by what is installed.
const NO_SPOOL_INDEXED: &str = "should the seed's index not be usable, it is installed while it arrives and an interruption begins anew";

/// What it means that it has room for that, and not for the images too.
const NO_IMAGES: &str = "precaching may fail unless the clean-up of images makes room";

/// Whether the compressed seed may be kept, so that an interruption costs little. So it is where nobody knows.
pub(crate) fn spools(subject: &Subject<'_>) -> bool {
    // Asked anew after an interruption, when the rows are not: what is there already is not needed again.
    !matches!(
        compared(subject, Filesystem::Containers),
        Err(Fault::Failed(_))
    )
}

/// Where paths share a filesystem, what is needed for all of them has to fit.
fn fits(subject: &Subject<'_>, filesystem: Filesystem) -> Judged {
    if subject.reserved {
        return Ok("the installation has begun".to_owned());
    }
    compared(subject, filesystem)
}

fn compared(subject: &Subject<'_>, filesystem: Filesystem) -> Judged {
    let needs = needed(subject)?;
    let spaces = &subject.node()?.spaces;
    let space = |wanted: Filesystem| spaces.iter().find(|space| space.filesystem == wanted);
    let path = filesystem.path();
    let Some(&Space {
        device, available, ..
    }) = space(filesystem)
    else {
        return unknown(format!("nobody knows how full {path} is"));
    };
    // Only container storage asks for room for the compressed seed, which can do without.
    let shared = needs
        .iter()
        .filter(|need| {
            filesystem == Filesystem::Containers || need.filesystem != Filesystem::Containers
        })
        .filter(|need| space(need.filesystem).is_some_and(|space| space.device == device));
    let (mut bytes, mut own, mut others) = (0_u64, None, Vec::new());
    for need in shared {
        bytes = bytes.saturating_add(need.bytes);
        if need.filesystem == filesystem {
            own = Some(need);
        } else {
            others.push(need.filesystem.path());
        }
    }
    let basis = own.map_or("", |need| &need.basis);
    let together = match others.as_slice() {
        [] => String::new(),
        others => format!(
            ", together with {} on the same filesystem",
            others.join(" and ")
        ),
    };
    let numbers = format!(
        "needs {} MiB ({basis}{together}), {} MiB are free",
        mib_up(bytes),
        available >> 20
    );
    if bytes <= available {
        Ok(numbers)
    } else {
        let short = mib_up(bytes - available);
        failed(format!(
            "{path} is too full: the seed {numbers}, {short} MiB are missing"
        ))
    }
}

fn mib_up(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
