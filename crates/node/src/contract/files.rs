//! The contract of [`Files`].

use super::{fails, succeeds};
use crate::ErrorKind;
use crate::ports::{Attributes, FileKind, Files, NodePath};

/// Asks everything of an implementation, in a directory that is not there yet and is removed in the end.
pub fn files(files: &dyn Files, directory: &NodePath) {
    nothing_is_there(files, directory);
    a_file_is_replaced_whole(files, directory);
    a_file_has_more_than_permissions(files, directory);
    a_file_is_created_once(files, directory);
    a_file_grows(files, directory);
    a_directory_is_made_and_listed(files, directory);
    a_tree_is_copied_over_another(files, directory);
    a_note_replaces_another(files, directory);
    what_is_no_path_is_refused(files, directory);
    everything_is_removed(files, directory);
}

fn content(files: &dyn Files, path: &NodePath) -> Option<Vec<u8>> {
    succeeds("reading", files.read(path, 1 << 20))
}

fn kind(files: &dyn Files, path: &NodePath) -> Option<FileKind> {
    succeeds("examining", files.kind(path))
}

fn list(files: &dyn Files, path: &NodePath) -> Vec<String> {
    succeeds("listing", files.list(path))
}

fn nothing_is_there(files: &dyn Files, directory: &NodePath) {
    for path in [directory.clone(), directory.join("deep/file")] {
        assert_eq!(content(files, &path), None, "{path}");
        assert_eq!(kind(files, &path), None, "{path}");
        assert_eq!(list(files, &path), Vec::<String>::new(), "{path}");
        succeeds("removing what is not there", files.remove(&path));
    }
}

fn a_file_is_replaced_whole(files: &dyn Files, directory: &NodePath) {
    let path = directory.join("deep/er/file");
    succeeds("writing", files.replace(&path, b"a longer text", 0o600));
    assert_eq!(
        content(files, &path).as_deref(),
        Some(b"a longer text".as_slice())
    );
    succeeds("replacing", files.replace(&path, b"text", 0o644));
    assert_eq!(content(files, &path).as_deref(), Some(b"text".as_slice()));
    assert_eq!(kind(files, &path), Some(FileKind::File(4)));
    // Nothing else is left beside it.
    assert_eq!(list(files, &directory.join("deep/er")), ["file"]);
    succeeds("emptying", files.replace(&path, b"", 0o600));
    assert_eq!(content(files, &path).as_deref(), Some(b"".as_slice()));
    succeeds("writing", files.replace(&path, b"text", 0o600));
    assert_eq!(
        succeeds("reading up to the limit", files.read(&path, 4)).as_deref(),
        Some(b"text".as_slice())
    );
    fails(
        "reading over the limit",
        files.read(&path, 3),
        ErrorKind::Permanent,
    );
    fails(
        "reading a directory",
        files.read(&directory.join("deep"), 1 << 20),
        ErrorKind::Permanent,
    );
}

fn a_note_replaces_another(files: &dyn Files, directory: &NodePath) {
    let path = directory.join("noted/file");
    for text in [b"a longer note".as_slice(), b"note"] {
        succeeds("noting", files.jot(&path, text));
        assert_eq!(content(files, &path).as_deref(), Some(text));
    }
    assert_eq!(list(files, &directory.join("noted")), ["file"]);
}

fn a_file_has_more_than_permissions(files: &dyn Files, directory: &NodePath) {
    let path = directory.join("deep/er/file");
    let nobody = directory.join("nobody");
    let attributes = Attributes {
        mode: 0o640,
        owned_like: Some(&nobody),
        label: Some("system_u:object_r:sshd_key_t:s0"),
    };
    for text in [b"owned".as_slice(), b"text"] {
        let replaced = files.replace_with(&path, text, &attributes);
        succeeds("replacing", replaced);
        assert_eq!(content(files, &path).as_deref(), Some(text));
    }
    assert_eq!(list(files, &directory.join("deep/er")), ["file"]);
}

fn a_file_is_created_once(files: &dyn Files, directory: &NodePath) {
    let path = directory.join("verdict/file");
    let create =
        |content: &[u8]| succeeds("creating", files.create_exclusively(&path, content, 0o600));
    assert!(create(b"first"));
    assert!(!create(b"second"));
    assert_eq!(content(files, &path).as_deref(), Some(b"first".as_slice()));
    assert_eq!(list(files, &directory.join("verdict")), ["file"]);
    for round in 0..20 {
        several_create_it(files, &directory.join(&format!("verdict/{round}")));
    }
    let made = list(files, &directory.join("verdict"));
    assert_eq!(made.len(), 21, "{made:?}");
}

/// One of several wins, and nobody ever sees anything but the winner's whole content.
fn several_create_it(files: &dyn Files, path: &NodePath) {
    let contents = [1_u8, 2, 3, 4].map(|number| vec![number; 100_000]);
    let created: Vec<bool> = std::thread::scope(|scope| {
        let running = contents.each_ref().map(|content| {
            scope.spawn(move || {
                let created = succeeds("creating", files.create_exclusively(path, content, 0o600));
                let seen = self::content(files, path).unwrap_or_default();
                assert_eq!(seen.len(), content.len());
                assert!(seen.iter().all(|byte| Some(byte) == seen.first()));
                assert!(!created || seen == *content);
                created
            })
        });
        let joined = running.into_iter().map(|thread| thread.join());
        joined.map(|won| won.unwrap_or_default()).collect()
    });
    let winners = created.iter().filter(|created| **created).count();
    assert_eq!(winners, 1, "{path}");
}

fn a_file_grows(files: &dyn Files, directory: &NodePath) {
    let path = directory.join("journal/file");
    succeeds("appending to nothing", files.append(&path, b"one\n"));
    succeeds("appending", files.append(&path, b"two\n"));
    succeeds("appending nothing", files.append(&path, b""));
    assert_eq!(
        content(files, &path).as_deref(),
        Some(b"one\ntwo\n".as_slice())
    );
}

fn a_directory_is_made_and_listed(files: &dyn Files, directory: &NodePath) {
    let path = directory.join("made/here");
    for _ in 0..2 {
        succeeds("making a directory", files.ensure_directory(&path, 0o700));
    }
    assert_eq!(kind(files, &path), Some(FileKind::Directory));
    for name in ["b", "a", "a-b", "ab"] {
        succeeds("writing", files.replace(&path.join(name), b"", 0o600));
    }
    succeeds(
        "making a directory",
        files.ensure_directory(&path.join("aa"), 0o755),
    );
    assert_eq!(list(files, &path), ["a", "a-b", "aa", "ab", "b"]);
    // Only what is directly inside.
    assert_eq!(list(files, &directory.join("made")), ["here"]);
    assert_eq!(list(files, &path.join("a")), Vec::<String>::new());
}

fn a_tree_is_copied_over_another(files: &dyn Files, directory: &NodePath) {
    let (from, to) = (directory.join("from"), directory.join("copies/to"));
    assert!(!succeeds("copying nothing", files.copy_tree(&from, &to)));
    assert_eq!(kind(files, &to), None);
    for (name, text) in [("same", "new"), ("inner/only-here", "text")] {
        succeeds(
            "writing",
            files.replace(&from.join(name), text.as_bytes(), 0o600),
        );
    }
    for (name, text) in [("same", "old"), ("inner/only-there", "kept")] {
        succeeds(
            "writing",
            files.replace(&to.join(name), text.as_bytes(), 0o600),
        );
    }
    for _ in 0..2 {
        assert!(succeeds("copying", files.copy_tree(&from, &to)));
    }
    let expected = [
        ("same", "new"),
        ("inner/only-here", "text"),
        ("inner/only-there", "kept"),
    ];
    for (name, text) in expected {
        assert_eq!(
            content(files, &to.join(name)).as_deref(),
            Some(text.as_bytes()),
            "{name}"
        );
    }
    assert_eq!(list(files, &to), ["inner", "same"]);
    assert_eq!(list(files, &from), ["inner", "same"]);
    assert_eq!(list(files, &from.join("inner")), ["only-here"]);
}

fn what_is_no_path_is_refused(files: &dyn Files, directory: &NodePath) {
    for rel in [
        "",
        "..",
        "../outside",
        "a/../../outside",
        "/absolute",
        "a//b",
        "a/.",
    ] {
        let path = NodePath {
            root: directory.root.clone(),
            rel: rel.to_owned(),
        };
        fails(rel, files.read(&path, 1), ErrorKind::Permanent);
        fails(rel, files.replace(&path, b"", 0o600), ErrorKind::Permanent);
        fails(rel, files.remove(&path), ErrorKind::Permanent);
    }
}

fn everything_is_removed(files: &dyn Files, directory: &NodePath) {
    succeeds("syncing", files.sync(&directory.root));
    let file = directory.join("deep/er/file");
    succeeds("removing a file", files.remove(&file));
    assert_eq!(kind(files, &file), None);
    assert_eq!(
        kind(files, &directory.join("deep/er")),
        Some(FileKind::Directory)
    );
    for _ in 0..2 {
        succeeds("removing a directory", files.remove(directory));
    }
    nothing_is_there(files, directory);
}
