//! The boot fallback of a node whose `/boot` lies in a plain directory.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use host::{HostFallback, Layout};
use node::ports::{BootFallback, FallbackState};
use node::{ErrorKind, contract};
use tempfile::TempDir;

const CONFIGURATION: &str =
    "load_env\nblscfg\nsource $prefix/user.cfg\nsource $prefix/custom.cfg\n";

struct Boot {
    _dir: TempDir,
    grub: PathBuf,
    fallback: HostFallback,
}

impl Boot {
    fn new(directory: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let grub = layout.boot().join(directory);
        fs::create_dir_all(&grub).unwrap();
        fs::create_dir_all(dir.path().join("root")).unwrap();
        fs::write(grub.join("grub.cfg"), CONFIGURATION).unwrap();
        fs::write(grub.join("grubenv"), block("boot_counter=1\n")).unwrap();
        let fallback = HostFallback::new(layout);
        Self {
            _dir: dir,
            grub,
            fallback,
        }
    }

    fn why_not(&self) -> String {
        let FallbackState::None(why) = self.fallback.state().unwrap() else {
            return String::new();
        };
        why
    }
}

fn block(text: &str) -> Vec<u8> {
    let mut block = format!("# GRUB Environment Block\n{text}").into_bytes();
    block.resize(1024, b'#');
    block
}

fn armed(left: u32) -> FallbackState {
    FallbackState::Armed {
        entry: "ostree-1".to_owned(),
        left,
    }
}

/// Everything below a directory: path, mode and content.
fn content(directory: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let mode = fs::metadata(&path).unwrap().mode();
            let bytes = fs::read(&path).unwrap();
            (path, mode, bytes)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn the_boot_loader_keeps_the_contract() {
    contract::boot_fallback(&Boot::new("grub2").fallback);
}

#[test]
fn it_is_armed_and_disarmed_without_a_trace() {
    for directory in ["grub2", "grub"] {
        let boot = Boot::new(directory);
        let before = content(&boot.grub);
        let inode = || fs::metadata(boot.grub.join("grubenv")).unwrap().ino();
        let same = inode();
        assert_eq!(boot.fallback.state().unwrap(), FallbackState::Disarmed);
        for left in [3, 3, 2] {
            boot.fallback.arm("ostree-1", left).unwrap();
            assert_eq!(boot.fallback.state().unwrap(), armed(left));
            let expected =
                format!("boot_counter=1\nlca_boot_counter={left}\nlca_fallback_entry=ostree-1\n");
            let environment = fs::read(boot.grub.join("grubenv")).unwrap();
            assert_eq!(environment, block(&expected));
        }
        let part = fs::read_to_string(boot.grub.join("custom.cfg")).unwrap();
        assert!(part.contains("set default=\"${lca_fallback_entry}\""));
        for _ in 0..2 {
            boot.fallback.disarm().unwrap();
            assert_eq!(boot.fallback.state().unwrap(), FallbackState::Disarmed);
            assert_eq!(content(&boot.grub), before);
        }
        // GRUB's own writes go to where the block lay when it was found.
        assert_eq!(inode(), same);
    }
}

#[test]
fn what_users_have_in_the_same_file_stays() {
    let boot = Boot::new("grub2");
    let custom = boot.grub.join("custom.cfg");
    // In whatever encoding they wrote it.
    fs::write(&custom, b"# \xe9t\xe9\nset timeout=5\n").unwrap();
    fs::set_permissions(&custom, fs::Permissions::from_mode(0o640)).unwrap();
    let before = content(&boot.grub);
    boot.fallback.arm("ostree-2-rhcos_4.16.9", 3).unwrap();
    let with = fs::read(&custom).unwrap();
    assert!(with.starts_with(b"# \xe9t\xe9\nset timeout=5\n"));
    assert!(String::from_utf8_lossy(&with).contains("lca_boot_counter"));
    assert_eq!(fs::metadata(&custom).unwrap().mode() & 0o777, 0o640);
    boot.fallback.disarm().unwrap();
    assert_eq!(content(&boot.grub), before);
}

#[test]
fn a_file_that_is_none_for_grub_is_left_alone() {
    let boot = Boot::new("grub2");
    fs::write(boot.grub.join("custom.cfg"), vec![b'#'; 2 << 20]).unwrap();
    let before = content(&boot.grub);
    let error = boot.fallback.arm("ostree-1", 3).unwrap_err();
    let chain = node::error_chain(&error);
    assert!(chain.contains("longer than 1048576 bytes"), "{chain}");
    assert_eq!(content(&boot.grub), before);
}

#[test]
fn a_block_is_made_where_there_is_none() {
    let boot = Boot::new("grub2");
    fs::remove_file(boot.grub.join("grubenv")).unwrap();
    assert_eq!(boot.fallback.state().unwrap(), FallbackState::Disarmed);
    boot.fallback.disarm().unwrap();
    assert!(!boot.grub.join("grubenv").exists());
    boot.fallback.arm("ostree-1", 3).unwrap();
    assert_eq!(boot.fallback.state().unwrap(), armed(3));
    boot.fallback.disarm().unwrap();
    assert_eq!(fs::read(boot.grub.join("grubenv")).unwrap(), block(""));
}

#[test]
fn a_boot_loader_that_cannot_count_is_left_alone() {
    let check = |change: fn(&Path), why: &str| {
        let boot = Boot::new("grub2");
        change(&boot.grub);
        let before = content(&boot.grub);
        assert!(boot.why_not().contains(why), "{}", boot.why_not());
        let error = boot.fallback.arm("ostree-1", 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permanent);
        boot.fallback.disarm().unwrap();
        assert_eq!(content(&boot.grub), before);
    };
    check(
        |grub| fs::remove_file(grub.join("grub.cfg")).unwrap(),
        "there is no grub.cfg in ",
    );
    check(
        |grub| fs::write(grub.join("grub.cfg"), "load_env\nblscfg\n").unwrap(),
        "it reads neither custom.cfg nor user.cfg",
    );
    for length in [0, 1, 25, 512, 1023] {
        let torn = block("a=1\n")[..length].to_vec();
        let boot = Boot::new("grub2");
        fs::write(boot.grub.join("grubenv"), &torn).unwrap();
        let why = format!("grubenv: it has {length} bytes and not 1024");
        assert!(boot.why_not().ends_with(&why), "{}", boot.why_not());
    }
    check(
        |grub| fs::write(grub.join("grubenv"), [0; 1024]).unwrap(),
        "it does not begin with GRUB's signature",
    );
    check(
        |grub| {
            let full = format!("a={}\n", "x".repeat(900));
            fs::write(grub.join("grubenv"), block(&full)).unwrap();
        },
        "there is no room in it",
    );
    check(
        |grub| {
            fs::rename(grub.join("grubenv"), grub.join("elsewhere")).unwrap();
            symlink("elsewhere", grub.join("grubenv")).unwrap();
        },
        "it is no regular file",
    );
}

#[test]
fn what_grub_would_take_for_a_syntax_is_no_entry() {
    let boot = Boot::new("grub2");
    let before = content(&boot.grub);
    let long = "x".repeat(65);
    for entry in ["", "a b", "a\nb=c", "a\\", "$x", "a>b", "\"", &long] {
        let error = boot.fallback.arm(entry, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permanent, "{entry:?}");
    }
    assert!(boot.fallback.arm("ostree-1", 6).is_err());
    assert_eq!(content(&boot.grub), before);
}
