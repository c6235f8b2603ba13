//! What the documents of a seed say.

use std::path::Path;

use api::machine_config::MachineConfig;
use api::{document, rpm_ostree, seed_format};
use node::ports::{SeedContent, SeedPin};
use node::{ErrorKind, PortError, PortResult};
use seed::reader::Documents;

use crate::directory::Anchor;
use crate::failure::Attempt;
use crate::seed_failure::read_error;
use crate::tree;

/// The documents of a seed.
pub(crate) fn content(pin: &SeedPin, documents: &Documents) -> PortResult<SeedContent> {
    let get = |name: &str| {
        let document = documents.get(name);
        document.map_err(|error| read_error("reading the documents of the seed".to_owned(), error))
    };
    fn bad<E: std::error::Error + Send + Sync + 'static>(name: &str) -> impl Fn(E) -> PortError {
        move |error| {
            PortError::new(
                ErrorKind::Permanent,
                format!("reading {name} of the seed"),
                error,
            )
        }
    }
    let info =
        document::parse(get(seed_format::SEED_INFO)?).map_err(bad(seed_format::SEED_INFO))?;
    let status: rpm_ostree::Status =
        document::parse(get(seed_format::RPM_OSTREE)?).map_err(bad(seed_format::RPM_OSTREE))?;
    let booted = status.booted().map_err(bad(seed_format::RPM_OSTREE))?;
    let config: MachineConfig = document::parse(get(seed_format::MACHINE_CONFIG)?)
        .map_err(bad(seed_format::MACHINE_CONFIG))?;
    let name = seed_format::origin_file(&booted);
    let origin = String::from_utf8(get(&name)?.to_vec()).map_err(bad(&name))?;
    let list = str::from_utf8(get(seed_format::CONTAINERS_LIST)?)
        .map_err(bad(seed_format::CONTAINERS_LIST))?;
    let images = api::containers_list::parse(list).map_err(bad(seed_format::CONTAINERS_LIST))?;
    Ok(SeedContent {
        digest: pin.digest.clone(),
        info,
        commit: booted.checksum,
        kernel_arguments: config.kernel_arguments(),
        files: config.file_paths().map(str::to_owned).collect(),
        file_marks: config.file_marks(),
        origin,
        images: images.iter().map(ToString::to_string).collect(),
    })
}

/// Removes what the seed says was deleted from `/etc`. What is gone already is fine, and directories go whole.
pub(crate) fn delete(etc: &Path, deletions: &str) -> PortResult<()> {
    let attempt = |line: &str| {
        format!(
            "removing {line} as the seed's {} says",
            seed_format::ETC_DELETIONS
        )
    };
    let anchor = Anchor::open(etc).attempt(|| attempt("files"))?;
    let Some(anchor) = anchor else { return Ok(()) };
    for line in deletions
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let rel = line
            .strip_prefix("/etc/")
            .unwrap_or_default()
            .trim_end_matches('/');
        if rel.split('/').any(|name| matches!(name, "" | "." | "..")) {
            let line: String = line.escape_debug().take(200).collect();
            let text = format!(
                "{} of the seed names {line}, which is not below /etc",
                seed_format::ETC_DELETIONS
            );
            return Err(PortError::plain(ErrorKind::Permanent, text));
        }
        let Some(place) = anchor.place(rel).attempt(|| attempt(line))? else {
            continue;
        };
        tree::remove(&place, &mut |_| true).attempt(|| attempt(line))?;
    }
    Ok(())
}
