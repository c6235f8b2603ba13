//! The preview for people.

use std::fmt::Write;

use super::document::{
    CheckRow, Document, Fetch, FileChanges, ImageCounts, Objects, Outcome, SpaceRow,
};

/// The whole text.
pub(super) fn text(plan: &Document) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, plan);
    text
}

fn write(text: &mut String, plan: &Document) -> std::fmt::Result {
    let or_unknown = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".to_owned());
    let image = match plan.image.as_str() {
        "" => "(none is asked for)",
        image => image,
    };
    writeln!(text, "Seed:      {image}")?;
    writeln!(text, "Digest:    {}", or_unknown(&plan.digest))?;
    writeln!(text, "Signature: {}", plan.signature)?;
    writeln!(
        text,
        "Version:   {} -> {}",
        or_unknown(&plan.running_version),
        or_unknown(&plan.seed_version)
    )?;
    if let Some(fetch) = &plan.fetch {
        write_fetch(text, fetch)?;
    }
    for row in &plan.space {
        write_space(text, row)?;
    }
    if let Some(changes) = &plan.kernel_arguments {
        let added = changes.added.iter().map(|argument| format!("+{argument}"));
        let removed = changes
            .removed
            .iter()
            .map(|argument| format!("-{argument}"));
        let all: Vec<String> = added.chain(removed).collect();
        let all = if all.is_empty() {
            "unchanged".to_owned()
        } else {
            all.join(" ")
        };
        writeln!(text, "Arguments: {all}")?;
    }
    if let Some(files) = &plan.machine_config_files {
        write_files(text, files)?;
    }
    if let Some(images) = &plan.images {
        write_images(text, images)?;
    }
    if let Some(objects) = &plan.objects {
        write_objects(text, objects)?;
    }
    if let Some(estimate) = &plan.estimate {
        let minutes = estimate.seconds.div_ceil(60).max(1);
        writeln!(text, "Duration:  about {minutes} min ({})", estimate.basis)?;
    }
    text.push('\n');
    write_checks(text, &plan.checks)?;
    text.push('\n');
    let verdict = match plan.verdict {
        Outcome::Clear => "nothing blocks the upgrade",
        Outcome::Blocked => "the upgrade is blocked",
        Outcome::CouldNotTell => "nobody can tell whether the upgrade would work",
    };
    let count = |list: &[String], one: &str| match list.len() {
        0 => String::new(),
        1 => format!(", 1 {one}"),
        many => format!(", {many} {one}s"),
    };
    writeln!(
        text,
        "Verdict:   {verdict}{}{}{}",
        count(&plan.blockers, "blocker"),
        count(&plan.could_not_tell, "unknown"),
        count(&plan.warnings, "warning")
    )
}

fn write_fetch(text: &mut String, fetch: &Fetch) -> std::fmt::Result {
    writeln!(
        text,
        "To fetch:  {} of {}, {} are there",
        size(fetch.fetch_bytes),
        size(fetch.compressed_bytes),
        size(fetch.spooled_bytes)
    )?;
    if let (Some(objects), Some(missing)) = (fetch.objects, fetch.missing_objects) {
        writeln!(
            text,
            "           {missing} of {objects} objects are missing"
        )?;
    }
    for part in &fetch.parts {
        writeln!(text, "           {:26}  {}", part.name, size(part.bytes))?;
    }
    Ok(())
}

fn write_files(text: &mut String, files: &FileChanges) -> std::fmt::Result {
    let count = files.added.len() + files.removed.len() + files.changed.len() + files.omitted;
    writeln!(text, "Files:     {count} of the MachineConfig change")?;
    let signs = [
        ("+", &files.added),
        ("-", &files.removed),
        ("~", &files.changed),
    ];
    for (sign, paths) in signs {
        for path in paths {
            writeln!(text, "           {sign}{path}")?;
        }
    }
    write_omitted(text, files.omitted)
}

fn write_images(text: &mut String, images: &ImageCounts) -> std::fmt::Result {
    let bytes = match images.pull_bytes {
        Some(bytes) => size(bytes),
        None => format!(
            "? MiB: no registry tells what {} of them are made of",
            images.unknown
        ),
    };
    writeln!(
        text,
        "Images:    {} in all, {} present, {} to pull, {bytes}",
        images.total,
        images.present,
        images.to_pull.len()
    )?;
    for pull in &images.pulls {
        let bytes = pull.bytes.map_or_else(|| "? MiB".to_owned(), size);
        writeln!(text, "           {}  {bytes}", pull.image)?;
    }
    Ok(())
}

fn write_objects(text: &mut String, objects: &Objects) -> std::fmt::Result {
    if objects.sources.is_empty() {
        return writeln!(text, "Objects:   the spec refers to none");
    }
    writeln!(
        text,
        "Objects:   {} to apply, {} refused",
        objects.apply, objects.refused
    )?;
    for source in objects
        .sources
        .iter()
        .filter(|source| source.verdict != "found")
    {
        writeln!(
            text,
            "           spec.{}: ConfigMap {}: {}",
            source.member, source.config_map, source.text
        )?;
    }
    for row in &objects.objects {
        let or_unknown = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".to_owned());
        let line = format!(
            "           {}, {}: {} {}: {} {}",
            row.config_map,
            row.key,
            or_unknown(&row.kind),
            or_unknown(&row.name),
            row.verdict,
            row.text
        );
        writeln!(text, "{}", line.trim_end())?;
    }
    for fault in &objects.faults {
        writeln!(text, "           {fault}")?;
    }
    write_omitted(text, objects.omitted)
}

fn write_omitted(text: &mut String, omitted: usize) -> std::fmt::Result {
    match omitted {
        0 => Ok(()),
        more => writeln!(text, "           and {more} more"),
    }
}

fn write_space(text: &mut String, row: &SpaceRow) -> std::fmt::Result {
    let known = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), size);
    let basis = match row.basis.as_str() {
        "" => String::new(),
        basis => format!(" ({basis})"),
    };
    writeln!(
        text,
        "Space:     {} needs {}, {} of {} are free{basis}",
        row.filesystem,
        known(row.needed_bytes),
        known(row.available_bytes),
        known(row.total_bytes)
    )
}

fn write_checks(text: &mut String, rows: &[CheckRow]) -> std::fmt::Result {
    let name = rows.iter().map(|row| row.name.len()).fold(0, usize::max);
    writeln!(
        text,
        "{:name$}  {:8}  {:14}  TEXT",
        "CHECK", "VERDICT", "MEANS"
    )?;
    for row in rows {
        let told = row.text.replace("\n  - ", "; ");
        let line = format!(
            "{:name$}  {:8}  {:14}  {told}",
            row.name,
            row.verdict,
            row.severity.unwrap_or("-")
        );
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(())
}

fn size(bytes: u64) -> String {
    match bytes {
        1..0x10_0000 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        bytes => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}
