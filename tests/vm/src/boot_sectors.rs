//! What a BIOS starts GRUB from.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Bytes of a sector, the unit of every number in here.
pub(crate) const SECTOR: u64 = 512;
/// Where boot.img keeps the number of core.img's first sector.
const KERNEL_SECTOR: usize = 0x5c;
/// Where core.img's first sector says where its others are: first sector, how many, segment to load them to.
const BLOCK_LIST: usize = 0x1f4;
/// The segment behind the one that the first sector is loaded to.
const NEXT_SEGMENT: u16 = 0x820;
/// Where the partition table's part of the first sector begins.
const DISK_SIGNATURE: usize = 440;

/// Writes `boot.img` and `core.img` of `grub` to `disk`, `core.img` from `sector` on, where there is room for `room`.
/// It is what grub-install does, without its search for what the disk is.
pub(crate) fn write(disk: &Path, grub: &Path, sector: u64, room: u64) -> Result<()> {
    let read = |name: &str| {
        let path = grub.join(name);
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    };
    let (boot, core) = images(read("boot.img")?, read("core.img")?, sector)?;
    ensure!(
        core.len() as u64 <= room * SECTOR,
        "core.img has {} bytes, more than its partition",
        core.len()
    );
    let put = || {
        let file = OpenOptions::new().write(true).open(disk)?;
        file.write_all_at(&boot[..DISK_SIGNATURE], 0)?;
        file.write_all_at(&core, sector * SECTOR)
    };
    put().with_context(|| format!("writing GRUB to {}", disk.display()))
}

/// The two images with the places filled in.
fn images(mut boot: Vec<u8>, mut core: Vec<u8>, sector: u64) -> Result<(Vec<u8>, Vec<u8>)> {
    let size = usize::try_from(SECTOR)?;
    ensure!(boot.len() == size, "boot.img has {} bytes", boot.len());
    ensure!(core.len() > size, "core.img has {} bytes", core.len());
    core.resize(core.len().next_multiple_of(size), 0);
    let others = u16::try_from(core.len() / size - 1).context("core.img is too long")?;
    boot[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&sector.to_le_bytes());
    let list = &mut core[BLOCK_LIST..size];
    list[..8].copy_from_slice(&(sector + 1).to_le_bytes());
    list[8..10].copy_from_slice(&others.to_le_bytes());
    list[10..].copy_from_slice(&NEXT_SEGMENT.to_le_bytes());
    Ok((boot, core))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_says_where_the_next_sectors_are() {
        let (boot, core) = images(vec![1; 512], vec![2; 1300], 2048).unwrap();
        assert_eq!(boot[0x5c..0x64], 2048_u64.to_le_bytes());
        assert_eq!(core.len(), 1536);
        assert_eq!(core[0x1f4..0x1fc], 2049_u64.to_le_bytes());
        assert_eq!(core[0x1fc..0x200], [2, 0, 0x20, 0x08]);
        assert!(images(vec![1; 511], vec![2; 1300], 2048).is_err());
    }
}
