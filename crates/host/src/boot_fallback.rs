//! The boot fallback port: variables in GRUB's environment block count the attempts of a new release, where the node's GRUB
//! has a configuration that reads a file of ours.
//!
//! The variables have names of their own, so that greenboot's `boot_counter` counts what it counts. The block is overwritten
//! in place and synced, never renamed: GRUB writes to the sectors that it found. What is renamed is flushed out of the
//! filesystem's journal.

mod drop_in;
mod environment;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use node::ports::{BootFallback, FallbackState};
use node::{ErrorKind, PortError, PortResult};
use rustix::fs::{Mode, OFlags};

use self::environment::{Environment, SIZE};
use crate::boot_flush::flush;
use crate::directory::Anchor;
use crate::failure::Attempt;
use crate::layout::Layout;
use crate::sysroot_writer::writing;

/// Our variables: attempts that are left, and the entry behind them.
const COUNTER: &str = "lca_boot_counter";
const ENTRY: &str = "lca_fallback_entry";

/// GRUB's directories, below `/boot`.
const DIRECTORIES: [&str; 2] = ["grub2", "grub"];
const CONFIGURATION: &str = "grub.cfg";
const BLOCK: &str = "grubenv";

/// The longest file of GRUB's configuration that is read, bytes. Generated ones have some 10 KiB.
const LIMIT: u64 = 1 << 20;

/// Filesystems that GRUB writes a block to (statfs(2)): ext2 to ext4, XFS, FAT. On others a block's place on the disk may
/// change, or has a checksum.
const WRITABLE: [i64; 3] = [0xef53, 0x5846_5342, 0x4d44];

/// The boot loader of a node.
#[derive(Clone, Debug)]
pub struct HostFallback {
    layout: Layout,
}

/// A GRUB that can count.
struct Grub {
    /// Its directory.
    directory: PathBuf,
    /// The file for our part of its configuration.
    file: &'static str,
    /// The block as it is; `None` = there is none yet.
    environment: Option<Environment>,
}

/// What a node has, or why that is of no use.
enum Found {
    Grub(Grub),
    None(String),
}

impl HostFallback {
    /// The boot loader of the node that lies there.
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }

    /// Whether the boot loader can return by itself; `Err` says why not.
    pub(crate) fn usable(&self) -> Result<(), String> {
        match self.state() {
            Ok(FallbackState::None(why)) => Err(why),
            Ok(_) => Ok(()),
            Err(error) => Err(node::error_chain(&error)),
        }
    }

    fn find(&self) -> PortResult<Found> {
        let boot = self.layout.boot();
        for name in DIRECTORIES {
            let directory = boot.join(name);
            if let Some(bytes) = read(&directory.join(CONFIGURATION))? {
                return self.examine(directory, &String::from_utf8_lossy(&bytes));
            }
        }
        let (first, second) = (DIRECTORIES[0], DIRECTORIES[1]);
        let boot = boot.display();
        let text = format!("there is no {CONFIGURATION} in {boot}/{first} or {boot}/{second}");
        Ok(Found::None(text))
    }

    fn examine(&self, directory: PathBuf, configuration: &str) -> PortResult<Found> {
        let useless = |file: &str, why: &dyn std::fmt::Display| {
            Found::None(format!("{}: {why}", directory.join(file).display()))
        };
        let file = match drop_in::file_in(configuration) {
            Ok(file) => file,
            Err(why) => return Ok(useless(CONFIGURATION, &why)),
        };
        if self.layout.is_running()
            && let Some(why) = unwritable(&directory)?
        {
            return Ok(useless(BLOCK, &why));
        }
        let block = directory.join(BLOCK);
        let environment = match fs::symlink_metadata(&block) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).attempt(|| format!("examining {}", block.display())),
            // GRUB follows a link within the filesystem only, and does not write through one.
            Ok(found) if !found.is_file() => return Ok(useless(BLOCK, &"it is no regular file")),
            Ok(_) => {
                let bytes = read(&block)?.unwrap_or_default();
                match Environment::parse(&bytes) {
                    Ok(environment) => Some(environment),
                    Err(error) => return Ok(useless(BLOCK, &error)),
                }
            }
        };
        let mut longest = environment.clone().unwrap_or_else(Environment::empty);
        longest.set(COUNTER, "0");
        longest.set(ENTRY, &"x".repeat(LONGEST_ENTRY));
        if let Err(error) = longest.print() {
            return Ok(useless(BLOCK, &error));
        }
        Ok(Found::Grub(Grub {
            directory,
            file,
            environment,
        }))
    }

    /// Runs `work` where `/boot` can be written.
    fn change(
        &self,
        work: impl FnOnce(&Grub) -> io::Result<()> + Send,
        grub: &Grub,
    ) -> PortResult<()> {
        let attempt = || format!("writing to {}", grub.directory.display());
        writing(&self.layout, || work(grub).attempt(attempt))
    }
}

/// Longest id of an entry that room is asked for: one with the name of a stateroot of an upgrade in it.
const LONGEST_ENTRY: usize = 64;

impl BootFallback for HostFallback {
    fn state(&self) -> PortResult<FallbackState> {
        let grub = match self.find()? {
            Found::None(why) => return Ok(FallbackState::None(why)),
            Found::Grub(grub) => grub,
        };
        let Some(environment) = grub.environment else {
            return Ok(FallbackState::Disarmed);
        };
        Ok(match (environment.get(ENTRY), environment.get(COUNTER)) {
            (Some(entry), Some(left)) if !entry.is_empty() && !left.is_empty() => {
                FallbackState::Armed {
                    entry: entry.to_owned(),
                    // As our part of the configuration takes what is none of ours.
                    left: left.parse().unwrap_or(0),
                }
            }
            _ => FallbackState::Disarmed,
        })
    }

    fn arm(&self, entry: &str, attempts: u32) -> PortResult<()> {
        let refuse = |text: String| Err(PortError::plain(ErrorKind::Permanent, text));
        let grub = match self.find()? {
            Found::None(why) => return refuse(format!("there is no boot fallback here: {why}")),
            Found::Grub(grub) => grub,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        if entry.is_empty() || entry.len() > LONGEST_ENTRY || !entry.chars().all(plain) {
            return refuse(format!("{entry:?} cannot be the id of a boot entry"));
        }
        if attempts > drop_in::MOST_ATTEMPTS {
            return refuse(format!("{attempts} attempts are more than can be counted"));
        }
        let mut environment = grub.environment.clone().unwrap_or_else(Environment::empty);
        environment.set(COUNTER, &attempts.to_string());
        environment.set(ENTRY, entry);
        // That it fits was looked at.
        let Ok(block) = environment.print() else {
            return refuse(format!("{} is full", grub.directory.join(BLOCK).display()));
        };
        let work = |grub: &Grub| {
            // First what counts, then what is counted.
            grub.configure(drop_in::with_part)?;
            grub.write(&block)
        };
        self.change(work, &grub)
    }

    fn disarm(&self) -> PortResult<()> {
        let Found::Grub(grub) = self.find()? else {
            // What GRUB cannot read either has nothing of ours in effect.
            return Ok(());
        };
        let mut environment = grub.environment.clone().unwrap_or_else(Environment::empty);
        environment.unset(COUNTER);
        environment.unset(ENTRY);
        let work = |grub: &Grub| {
            // Without it the variables have no effect; while there are any, it counts as armed, and is disarmed again.
            grub.configure(drop_in::without_part)?;
            if let (true, Ok(block)) = (grub.environment.is_some(), environment.print()) {
                grub.write(&block)?;
            }
            Ok(())
        };
        self.change(work, &grub)
    }
}

impl Grub {
    /// Changes the file that has our part of the configuration; one that is empty then goes.
    fn configure(&self, change: impl FnOnce(&str) -> String) -> io::Result<()> {
        let path = self.directory.join(self.file);
        let before = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            file => Some(text_of(file?)?),
        };
        let after = change(before.as_deref().unwrap_or_default());
        if before.as_ref() == Some(&after) || before.is_none() && after.is_empty() {
            // Also then: whoever wrote it may have been killed before it was on the disk.
            return flush(&self.directory);
        }
        if after.is_empty() {
            fs::remove_file(&path)?;
            File::open(&self.directory)?.sync_all()?;
        } else {
            let mode = fs::metadata(&path).map_or(0o600, |found| found.mode() & 0o7777);
            let anchor = Anchor::open(&self.directory)?.ok_or(io::ErrorKind::NotFound)?;
            anchor.ensure_place(self.file)?.replace(|file| {
                file.write_all(&bytes_of(&after))?;
                Ok(rustix::fs::fchmod(&*file, Mode::from_raw_mode(mode))?)
            })?;
        }
        flush(&self.directory)
    }

    /// Overwrites the block in place. Its 1024 bytes lie within one block of any filesystem, and reach the disk in one write.
    fn write(&self, block: &[u8; SIZE]) -> io::Result<()> {
        let is_new = self.environment.is_none();
        let mut file = OpenOptions::new()
            .write(true)
            .create(is_new)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(self.directory.join(BLOCK))?;
        file.write_all(block)?;
        file.sync_all()?;
        if is_new {
            File::open(&self.directory)?.sync_all()?;
            flush(&self.directory)?;
        }
        Ok(())
    }
}

/// The lines of a file that others write too, in whatever encoding: each byte as the character of its number, so that none of
/// theirs is lost. One that is too long to be meant for GRUB is an error.
fn text_of(file: File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        let text = format!("longer than {LIMIT} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes.into_iter().map(char::from).collect())
}

/// The bytes of [`text_of`]'s text, with ours, which is ASCII.
fn bytes_of(text: &str) -> Vec<u8> {
    text.chars()
        .filter_map(|letter| u8::try_from(letter).ok())
        .collect()
}

/// A file of GRUB's; `None` when there is none.
fn read(path: &Path) -> PortResult<Option<Vec<u8>>> {
    let attempt = || format!("reading {}", path.display());
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.attempt(attempt)?,
    };
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).attempt(attempt)?;
    Ok(Some(bytes))
}

/// Why GRUB could not write where this directory lies; `None` = it can.
fn unwritable(directory: &Path) -> PortResult<Option<String>> {
    let attempt = || format!("examining the filesystem of {}", directory.display());
    let found = rustix::fs::statfs(directory).attempt(attempt)?;
    #[expect(
        clippy::useless_conversion,
        reason = "its type differs between architectures"
    )]
    let kind = i64::try_from(found.f_type).unwrap_or_default();
    if !WRITABLE.contains(&kind) {
        return Ok(Some(format!(
            "GRUB does not write to filesystems of type {kind:#x}"
        )));
    }
    let device = fs::metadata(directory).attempt(attempt)?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let device = format!("/sys/dev/block/{major}:{minor}");
    // sysfs-block: what the device mapper and the software RAID make have these.
    for layer in ["dm", "md"] {
        if Path::new(&device).join(layer).exists() {
            return Ok(Some(format!(
                "GRUB does not write through a {layer} device"
            )));
        }
    }
    Ok(None)
}
