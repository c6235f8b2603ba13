//! What the built programs ask of the machine that runs them: nothing that RHCOS 9 lacks.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;

use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn, FileHeader, SectionTable};

/// Version of a versioned library, as far as its symbols tell: numbers, compared one by one.
type Version = Vec<u32>;

/// Newest versions of symbols that may be asked for: RHCOS 9 has glibc 2.34 with the compiler's runtime of GCC 11,
/// and libostree not older than 2022.7.
const NEWEST: [(&str, &[u32]); 3] = [
    ("GLIBC", &[2, 34]),
    ("GCC", &[11]),
    ("LIBOSTREE", &[2022, 7]),
];

/// What `manager` may link, which runs in an image without the agent's libraries.
const OF_EVERY_SYSTEM: [&str; 4] = [
    "libc.so.6",
    "libgcc_s.so.1",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
];

#[test]
fn the_agent_runs_on_rhcos_9() {
    let agent = Program::read(env!("CARGO_BIN_EXE_lifecycle-agent"));
    assert!(
        agent.links("libostree-1.so.1"),
        "the agent links {:?}",
        agent.libraries
    );
    agent.check_versions();
}

#[test]
fn the_manager_needs_no_library_of_the_agents() {
    let manager = Program::read(env!("CARGO_BIN_EXE_manager"));
    manager.check_versions();
    let others: Vec<&String> = manager
        .libraries
        .iter()
        .filter(|library| !OF_EVERY_SYSTEM.contains(&library.as_str()))
        .collect();
    assert!(others.is_empty(), "{}: links {others:?}", manager.path);
}

#[test]
fn versions_are_compared_as_numbers() {
    let check = |asked: &str, fits: bool| assert_eq!(misfit(asked).is_none(), fits, "{asked}");
    check("GLIBC_2.2.5", true);
    check("GLIBC_2.9", true);
    check("GLIBC_2.34", true);
    check("GLIBC_2.34.1", false);
    check("GLIBC_2.35", false);
    check("GLIBC_3", false);
    // Asked for by linkers that pack relocations; glibc has it since 2.36.
    check("GLIBC_ABI_DT_RELR", false);
    check("GLIBC_PRIVATE", false);
    check("GCC_4.2.0", true);
    check("GCC_12.0.0", false);
    check("LIBOSTREE_2016.3", true);
    check("LIBOSTREE_2022.7", true);
    check("LIBOSTREE_2023.1", false);
    check("ZLIB_1.2", false);
}

/// Why a version may not be asked for.
fn misfit(asked: &str) -> Option<&'static str> {
    let Some((library, newest)) = NEWEST.iter().find(|(library, _)| {
        asked
            .strip_prefix(library)
            .is_some_and(|rest| rest.starts_with('_'))
    }) else {
        return Some("is of a library that nobody has thought of");
    };
    match version(&asked[library.len() + 1..]) {
        None => Some("has no number to compare"),
        Some(version) if version.as_slice() > *newest => Some("is too new"),
        Some(_) => None,
    }
}

fn version(text: &str) -> Option<Version> {
    text.split('.').map(|number| number.parse().ok()).collect()
}

/// What a program's dynamic section and symbols ask for.
struct Program {
    path: &'static str,
    libraries: Vec<String>,
    /// Version and symbol, such as `GLIBC_2.34` and `__libc_start_main`; a version that no symbol has goes with the
    /// library that shall have it.
    versions: BTreeSet<(String, String)>,
}

impl Program {
    fn read(path: &'static str) -> Self {
        let data = fs::read(path).unwrap();
        Self::parse(path, &data).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn parse(path: &'static str, data: &[u8]) -> object::Result<Self> {
        let header = FileHeader64::<Endianness>::parse(data)?;
        let endian = header.endian()?;
        let sections: SectionTable<'_, FileHeader64<Endianness>> = header.sections(endian, data)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();

        let mut libraries = Vec::new();
        if let Some((entries, strings)) = sections.dynamic(endian, data)? {
            let strings = sections.strings(endian, data, strings)?;
            for entry in entries
                .iter()
                .filter(|entry| entry.tag(endian) == DT_NEEDED)
            {
                libraries.push(text(entry.string(endian, strings)?));
            }
        }

        let mut versions = BTreeSet::new();
        let mut named = BTreeSet::new();
        let symbols = sections.symbols(endian, data, object::elf::SHT_DYNSYM)?;
        if let Some(table) = sections.versions(endian, data)? {
            for (index, symbol) in symbols.enumerate() {
                let Some(version) = table.version(table.version_index(endian, index))? else {
                    continue;
                };
                let version = text(version.name());
                named.insert(version.clone());
                versions.insert((version, text(symbols.symbol_name(endian, symbol)?)));
            }
        }
        if let Some((mut needed, strings)) = sections.gnu_verneed(endian, data)? {
            let strings = sections.strings(endian, data, strings)?;
            while let Some((library, mut asked)) = needed.next()? {
                let library = text(library.file(endian, strings)?);
                while let Some(asked) = asked.next()? {
                    let version = text(asked.name(endian, strings)?);
                    if !named.contains(&version) {
                        versions.insert((version, library.clone()));
                    }
                }
            }
        }
        Ok(Self {
            path,
            libraries,
            versions,
        })
    }

    fn links(&self, library: &str) -> bool {
        self.libraries.iter().any(|linked| linked == library)
    }

    fn check_versions(&self) {
        let linked_to_libc = self
            .versions
            .iter()
            .any(|(version, _)| version == "GLIBC_2.34");
        assert!(
            linked_to_libc || !self.links("libc.so.6"),
            "{}: asks for nothing of GLIBC_2.34, as every program built since then does: is the table read rightly?",
            self.path
        );
        let wrong: Vec<String> = self
            .versions
            .iter()
            .filter_map(|(version, symbol)| {
                misfit(version).map(|why| format!("{}: {symbol}: {version} {why}", self.path))
            })
            .collect();
        assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    }
}
