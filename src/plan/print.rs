//! The preview for people.

use std::fmt::Write;

use super::{CheckRow, Document, Outcome, SpaceRow};

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
        writeln!(
            text,
            "To fetch:  {} of {}, {} are there",
            size(fetch.fetch_bytes),
            size(fetch.compressed_bytes),
            size(fetch.spooled_bytes)
        )?;
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
    if let Some(images) = &plan.images {
        writeln!(
            text,
            "Images:    {} in all, {} present, {} to pull",
            images.total,
            images.present,
            images.to_pull.len()
        )?;
        for image in &images.to_pull {
            writeln!(text, "           {image}")?;
        }
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
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
