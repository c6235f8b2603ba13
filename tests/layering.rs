//! The layering of `ARCHITECTURE.md`, as far as manifests and sources show it: which crate may use which, which
//! library belongs to which crate, and what must not be written where.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use serde_json::Value;

/// Crates of the workspace, lowest first, with the crates of the workspace that they may use: in the product, and
/// besides in their tests. `tests` stands for the whole-program tests, which belong to the root package.
const EDGES: [(&str, &[&str], &[&str]); 13] = [
    ("api", &[], &[]),
    ("planner", &["api"], &[]),
    ("engine", &[], &[]),
    ("node", &["api", "engine", "planner"], &[]),
    ("seed", &["api"], &[]),
    ("host", &["api", "node", "seed"], &[]),
    ("cluster", &["api", "node"], &["testenv"]),
    ("sim", &["api", "engine", "node", "planner"], &[]),
    ("testenv", &[], &[]),
    ("boxed", &["testenv"], &[]),
    ("vm", &["boxed", "testenv"], &[]),
    ("fuzz", &["api", "seed"], &[]),
    (
        "lifecycle-agent",
        &[
            "api", "cluster", "engine", "host", "node", "planner", "seed",
        ],
        &["boxed", "sim", "testenv", "vm"],
    ),
];

/// Libraries that tie a crate to something outside, and the crates that may be tied to it.
const LIBRARIES: [(&str, &[&str]); 19] = [
    ("ostree", &["host"]),
    ("zbus", &["host"]),
    ("nix", &["boxed", "host", "lifecycle-agent"]),
    ("rustix", &["boxed", "host", "seed"]),
    ("kube", &["cluster"]),
    ("k8s-openapi", &["cluster"]),
    ("oci-client", &["seed"]),
    ("oci-spec", &["seed"]),
    ("tar", &["seed"]),
    ("flate2", &["seed"]),
    ("libdeflater", &["seed"]),
    ("zstd", &["seed"]),
    ("libfuzzer-sys", &["fuzz"]),
    ("tokio", &["cluster", "host", "lifecycle-agent", "seed"]),
    (
        "tracing",
        &["cluster", "host", "lifecycle-agent", "node", "seed"],
    ),
    ("clap", &["boxed", "lifecycle-agent", "vm"]),
    ("hyper", &["lifecycle-agent"]),
    ("tokio-rustls", &["lifecycle-agent"]),
    ("prometheus-client", &["lifecycle-agent"]),
];

/// The one file of the product that starts processes.
const STARTS_PROCESSES: &str = "crates/host/src/command.rs";

/// Files with unsafe code, each with its reason.
const UNSAFE: [(&str, &str); 3] = [
    (
        "crates/host/src/boot_flush.rs",
        "flushing a journal: system calls that no library here has",
    ),
    (
        "crates/host/src/footprint.rs",
        "giving back mapped text: advice on memory is unsafe in every library",
    ),
    (
        "crates/host/src/priority.rs",
        "the I/O class of a thread: a system call that no library here has",
    ),
];

/// Words that say nothing of a file's subject.
const BANNED_NAMES: [&str; 14] = [
    "base",
    "common",
    "handler",
    "handlers",
    "helper",
    "helpers",
    "manager",
    "managers",
    "misc",
    "op",
    "ops",
    "util",
    "utils",
    "utilities",
];

/// The program `manager`, which enters the host for the agent. The process of the Deployment's container is called so,
/// banned or not. It shares the root package with the agent, and is to share nothing else.
const MANAGER: &str = "src/bin/manager/";

#[test]
fn crates_use_only_crates_below_them() {
    let packages = packages();
    let known: BTreeSet<&str> = EDGES.iter().map(|(name, ..)| *name).collect();
    let found: BTreeSet<&str> = packages.keys().map(String::as_str).collect();
    assert_eq!(found, known, "the table of crates is not the workspace's");
    let mut wrong = Vec::new();
    for (name, product, tests) in EDGES {
        for Dependency { on, for_tests } in &packages[name] {
            let allowed = product.contains(&on.as_str())
                || *for_tests && tests.contains(&on.as_str())
                || !known.contains(on.as_str());
            if !allowed {
                let what = if *for_tests { "its tests use" } else { "uses" };
                wrong.push(format!(
                    "crate {name}: {what} crate {on}, which its layer may not"
                ));
            }
        }
    }
    none(&wrong);
}

#[test]
fn the_table_has_no_way_up() {
    for (at, (name, product, _)) in EDGES.iter().enumerate() {
        for on in *product {
            let below = EDGES[..at].iter().any(|(lower, ..)| lower == on);
            assert!(below, "{name} may use {on}, which does not stand below it");
        }
    }
}

#[test]
fn libraries_stay_where_they_belong() {
    let packages = packages();
    let mut wrong = Vec::new();
    for (name, dependencies) in &packages {
        for Dependency { on, for_tests } in dependencies {
            let owners = LIBRARIES.iter().find(|(library, _)| library == on);
            if !for_tests && owners.is_some_and(|(_, owners)| !owners.contains(&name.as_str())) {
                wrong.push(format!(
                    "crate {name}: uses {on}, which is not its business"
                ));
            }
        }
    }
    none(&wrong);
}

#[test]
fn the_manager_and_the_agent_share_nothing() {
    let manager: Vec<&str> = EDGES.iter().map(|(name, ..)| *name).collect();
    let agent = ["nix"];
    let mut wrong = Vec::new();
    let sources = sources(&["src"]);
    assert!(
        sources
            .iter()
            .any(|source| source.path.starts_with(MANAGER)),
        "{MANAGER} is empty"
    );
    for source in sources {
        let foreign = match source.path.starts_with(MANAGER) {
            true => manager.as_slice(),
            false => agent.as_slice(),
        };
        for used in foreign.iter().filter(|name| source.uses(name)) {
            wrong.push(format!(
                "{}: uses {used}, which the other program of src has",
                source.path
            ));
        }
    }
    none(&wrong);
}

#[test]
fn the_engine_knows_nothing_of_what_it_runs() {
    let engine: Vec<Source> = sources(&["crates/engine"]);
    let wrong: Vec<String> = engine
        .iter()
        .filter(|source| source.text.to_lowercase().contains("ostree"))
        .map(|source| {
            format!(
                "{}: says ostree; the engine runs steps of any kind",
                source.path
            )
        })
        .collect();
    none(&wrong);
}

#[test]
fn one_file_starts_processes() {
    let mut wrong = Vec::new();
    for source in product() {
        if source.path == STARTS_PROCESSES {
            assert!(
                source.starts_processes().is_some(),
                "{STARTS_PROCESSES}: starts no processes: is the rule looking for the wrong words?"
            );
        } else if let Some(line) = source.starts_processes() {
            wrong.push(format!(
                "{}:{line}: starts a process; that is for {STARTS_PROCESSES} only",
                source.path
            ));
        }
    }
    none(&wrong);
}

#[test]
fn processes_are_recognized() {
    let check = |text: &str, starts: bool| {
        assert_eq!(example(text).starts_processes().is_some(), starts, "{text}");
    };
    check("use std::process::Command;", true);
    check("use std::process::{Child, Command as C};", true);
    check("use std::process::*;", true);
    check(
        "use std::{fs, process::{self, Stdio}}; fn f() { process::Command::new(\"a\"); }",
        true,
    );
    check("use std::process as p;", true);
    check("use tokio::process;", true);
    check("use nix::unistd::{fork, getpid};", true);
    check("gio::Subprocess::newv(&[], flags)", true);
    check(
        "#[cfg(test)] mod tests { fn f() { std::process::Command::new(\"a\"); } }",
        true,
    );
    check("use std::process::{self, ExitCode};", false);
    check("enum Command { Run } // std::process::Command", false);
    check(
        "/// `std::process::Command`\nconst A: &str = \"std::process::Command\";",
        false,
    );
}

#[test]
fn paths_are_the_hosts_own() {
    let mut wrong = Vec::new();
    for source in product() {
        if let Some(line) = source.has_host_prefix() {
            wrong.push(format!(
                "{}:{line}: has the prefix /host; the agent runs in the host's mount namespace",
                source.path
            ));
        }
    }
    none(&wrong);
}

#[test]
fn host_prefixes_are_recognized() {
    let check = |text: &str, prefixed: bool| {
        assert_eq!(
            example(text).has_host_prefix().is_some(),
            prefixed,
            "{text}"
        );
    };
    check("const A: &str = \"/host\";", true);
    check("const A: &str = r#\"/host/var\"#;", true);
    check("fn f() { format!(\"/host{a}\"); }", true);
    check(
        "fn f() { a.join(\"hostname\").join(\"/etc/hosts\").join(\"/hostroot\"); }",
        false,
    );
    check(
        "/// A path below \"/host/var\".\nconst A: u8 = 1; // \"/host\"",
        false,
    );
}

#[test]
fn files_are_named_after_their_subject() {
    let mut wrong = Vec::new();
    for source in sources(&["crates", "src", "tests"]) {
        let banned = Path::new(source.path.strip_prefix(MANAGER).unwrap_or(&source.path))
            .with_extension("")
            .iter()
            .filter_map(|part| part.to_str())
            .any(|part| {
                part.split(['_', '-'])
                    .any(|word| BANNED_NAMES.contains(&word))
            });
        if banned {
            wrong.push(format!(
                "{}: its name says nothing of its subject",
                source.path
            ));
        }
    }
    none(&wrong);
}

#[test]
fn unsafe_code_is_where_the_list_says() {
    let found: BTreeSet<String> = sources(&["crates", "src"])
        .iter()
        .filter(|source| {
            let mut tokens = source.tokens().into_iter();
            tokens.any(|token| ["unsafe", "unsafe_code"].contains(&token.word.as_str()))
        })
        .map(|source| source.path.clone())
        .collect();
    let listed: BTreeSet<String> = UNSAFE.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(
        found, listed,
        "files with unsafe code (left) are not those of the list (right)"
    );
}

/// Fails with all that is wrong, one line each.
#[track_caller]
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

struct Dependency {
    on: String,
    for_tests: bool,
}

/// Direct dependencies of every crate of the workspace, those of build scripts among the product's.
fn packages() -> BTreeMap<String, Vec<Dependency>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {said}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let dependencies = |package: &Value| {
        let list = package["dependencies"].as_array().unwrap().iter();
        list.map(|dependency| Dependency {
            on: text(&dependency["name"]),
            for_tests: dependency["kind"] == "dev",
        })
        .collect()
    };
    packages
        .iter()
        .map(|package| (text(&package["name"]), dependencies(package)))
        .collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A Rust source file.
struct Source {
    /// Relative to the tree.
    path: String,
    text: String,
}

fn example(text: &str) -> Source {
    Source {
        path: "example.rs".to_owned(),
        text: text.to_owned(),
    }
}

/// A word, sign or literal of a source; comments are none.
struct Token {
    word: String,
    line: usize,
    is_text: bool,
}

/// What the agent is made of, with its unit tests.
fn product() -> Vec<Source> {
    let mut sources = sources(&["crates", "src"]);
    sources.retain(|source| {
        source.path.starts_with("src/") || source.path.split('/').nth(2) == Some("src")
    });
    sources
}

/// All Rust sources below directories.
fn sources(directories: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for directory in directories {
        let before = found.len();
        collect(&root().join(directory), &mut found);
        assert!(found.len() > before, "there are no sources in {directory}");
    }
    found
}

fn collect(directory: &Path, found: &mut Vec<Source>) {
    let entries = fs::read_dir(directory).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(Source {
                path: path
                    .strip_prefix(root())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned(),
                text: fs::read_to_string(&path).unwrap(),
            });
        }
    }
}

impl Source {
    fn tokens(&self) -> Vec<Token> {
        let stream: TokenStream = match self.text.parse() {
            Ok(stream) => stream,
            Err(error) => panic!("{}: is no Rust: {error}", self.path),
        };
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        tokens
    }

    /// Whether a path of the source begins with a crate.
    fn uses(&self, name: &str) -> bool {
        let tokens = self.tokens();
        let words: Vec<&str> = tokens.iter().map(|token| token.word.as_str()).collect();
        let name = name.replace('-', "_");
        words
            .windows(3)
            .enumerate()
            .any(|(at, found)| found == [&name, ":", ":"] && (at == 0 || words[at - 1] != ":"))
    }

    /// The line where a process is started, or where what can do it is brought in.
    fn starts_processes(&self) -> Option<usize> {
        let tokens = self.tokens();
        let word = |at: usize| tokens.get(at).map_or("", |token| token.word.as_str());
        let path = |at: usize| word(at) == ":" && word(at + 1) == ":";
        let found = (0..tokens.len()).find(|&at| match word(at) {
            "Subprocess" | "fork" | "vfork" | "posix_spawn" | "posix_spawnp" => true,
            "tokio" => path(at + 1) && word(at + 3) == "process",
            "process" if word(at + 1) == "as" => true,
            "process" if path(at + 1) => match word(at + 3) {
                "Command" | "*" => true,
                "{" => {
                    let group = tokens[at + 4..].iter().map(|token| token.word.as_str());
                    let mut group = group.take_while(|word| *word != "}");
                    group.any(|word| word == "Command" || word == "*")
                }
                _ => false,
            },
            _ => false,
        });
        found.map(|at| tokens[at].line)
    }

    /// The line of a text that begins with the path under which pods see the host's root.
    fn has_host_prefix(&self) -> Option<usize> {
        let prefixed = |word: &str| {
            word.split_once("\"/host")
                .is_some_and(|(_, rest)| rest.starts_with(['/', '"', '{']))
        };
        let found = self.tokens().into_iter();
        let mut found = found.filter(|token| token.is_text && prefixed(&token.word));
        found.next().map(|token| token.line)
    }
}

/// Tokens in order of the text. Documentation, which the parser gives as attributes, is left out.
fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        let mut push = |word: &str, is_text| {
            let word = word.to_owned();
            tokens.push(Token {
                word,
                line,
                is_text,
            });
        };
        match tree {
            TokenTree::Group(group) if is_documentation(&group.stream()) => {}
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(open, false);
                flatten(group.stream(), tokens);
                let line = group.span_close().start().line;
                let word = close.to_owned();
                tokens.push(Token {
                    word,
                    line,
                    is_text: false,
                });
            }
            TokenTree::Literal(literal) => push(&literal.to_string(), true),
            TokenTree::Ident(ident) => push(&ident.to_string(), false),
            TokenTree::Punct(sign) => push(&sign.as_char().to_string(), false),
        }
    }
}

fn is_documentation(attribute: &TokenStream) -> bool {
    let mut trees = attribute.clone().into_iter();
    matches!(trees.next(), Some(TokenTree::Ident(word)) if word == "doc")
        && matches!(trees.next(), Some(TokenTree::Punct(sign)) if sign.as_char() == '=')
}
