//! Making room in container storage (contract 3.9).

mod boot;

use std::collections::BTreeSet;

use engine::{Progress, StepContext, Unit};
use planner::{ErrorKind, ImageCleanup, NeededImages};

use crate::ports::{FileKind, NodePath, Ports};
use crate::{PortError, PortResult};

/// Where kubelet finds its static pods.
const STATIC_PODS: &str = "/etc/kubernetes/manifests";

/// Longest manifest that is read, bytes.
const LIMIT: u64 = 4 << 20;

/// Removes images that nobody needs until the storage is no fuller than it may be. That it is fuller still in the end is told
/// and no failure.
pub(super) fn clean(
    ports: &Ports<'_>,
    cleanup: &ImageCleanup,
    keep: &[String],
    context: &StepContext<'_>,
) -> PortResult<()> {
    let threshold = match cleanup {
        ImageCleanup::Disabled => return Ok(()),
        ImageCleanup::Above(threshold) => *threshold,
        ImageCleanup::Unreadable(text) => {
            let annotation = api::annotation::IMAGE_CLEANUP_THRESHOLD;
            tracing::warn!(
                annotation,
                text,
                "images are not cleaned up: not an integer"
            );
            return Ok(());
        }
    };
    let exceeded = |usage| planner::exceeds(usage, threshold);
    let mut usage = ports.images.usage().map_err(again)?;
    if !exceeded(usage) {
        return Ok(());
    }
    let stop = || context.stopped();
    let held = ports.images.held(&stop).map_err(again)?;
    let Some(pods) = pods(ports)? else {
        return Ok(());
    };
    let Some(boot) = boot::images(ports)? else {
        return Ok(());
    };
    let needed = NeededImages {
        static_pods: static_pods(ports)?,
        pods,
        boot,
        precached: keep.iter().cloned().collect(),
    };
    let stored = ports.images.stored(&stop).map_err(again)?;
    let batches = planner::batches(stored, &held, &needed);
    let total = batches.iter().map(|batch| batch.len() as u64).sum();
    let mut done = 0;
    for batch in &batches {
        if !exceeded(usage) {
            break;
        }
        if context.stopped() {
            return Err(PortError::stopped("cleaning up images was stopped"));
        }
        for image in batch {
            tracing::info!(id = image.id, names = ?image.names, "removing an image");
        }
        ports.images.remove(batch, &stop)?;
        done += batch.len() as u64;
        let object = batch.last().and_then(|image| image.names.first()).cloned();
        context.progress(Progress {
            done,
            total: Some(total),
            unit: Unit::Items,
            object: object.unwrap_or_default(),
        });
        usage = ports.images.usage().map_err(again)?;
    }
    if exceeded(usage) {
        tracing::warn!(
            usage,
            threshold,
            removed = done,
            "container storage is still too full"
        );
    }
    Ok(())
}

/// Listing is tried again whatever was the matter (contract 3.9), but for a wish to stop.
fn again(error: PortError) -> PortError {
    match error.kind() {
        ErrorKind::Interrupted | ErrorKind::Transient => error,
        _ => PortError::new(
            ErrorKind::Transient,
            "finding out which images may be removed",
            error,
        ),
    }
}

/// What Pods name. A cluster that does not let us see them keeps all its images: nobody knows which ones it needs.
fn pods(ports: &Ports<'_>) -> PortResult<Option<BTreeSet<String>>> {
    match ports.cluster.pod_images() {
        Err(error) if error.kind() == ErrorKind::Permanent => {
            let error = engine::error_chain(&error);
            tracing::warn!(error, "images are not cleaned up");
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// What the manifests of static pods name, in JSON or YAML.
fn static_pods(ports: &Ports<'_>) -> PortResult<BTreeSet<String>> {
    let directory = NodePath::booted(STATIC_PODS);
    let mut images = BTreeSet::new();
    for name in ports.files.list(&directory)? {
        let path = directory.join(&name);
        if matches!(ports.files.kind(&path)?, Some(FileKind::File(size)) if size <= LIMIT)
            && let Some(bytes) = ports.files.read(&path, LIMIT)?
        {
            images.extend(images_in(&String::from_utf8_lossy(&bytes)));
        }
    }
    Ok(images)
}

/// Every value of a member `image`. Too many do no harm here: what is none names no image. So the text is looked through
/// instead of parsed, and a manifest that nobody can parse still protects its images.
fn images_in(text: &str) -> BTreeSet<String> {
    let end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '}');
    let values = text.split("image").skip(1).filter_map(|rest| {
        let rest = rest.trim_start_matches(['"', '\'']).trim_start();
        let rest = rest.strip_prefix(':')?.trim_start();
        let value = rest.trim_start_matches(['"', '\'']);
        let value = value.split(end).next()?;
        (!value.is_empty()).then(|| value.to_owned())
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_in_manifests() {
        let check = |text: &str, expect: &[&str]| {
            let found = images_in(text);
            assert_eq!(
                found.iter().map(String::as_str).collect::<Vec<_>>(),
                expect,
                "{text}"
            );
        };
        check("", &[]);
        check(
            "kind: Pod\nspec:\n  containers:\n  - image: q/a@sha256:1\n    name: a\n",
            &["q/a@sha256:1"],
        );
        check(
            "  - name: a\n    image: \"q/a:1\" # ours\n    imagePullPolicy: Always\n",
            &["q/a:1"],
        );
        check(
            r#"{"spec":{"initContainers":[{"image":"q/i:1","imagePullPolicy":"x"}],"containers":[{"name":"a","image" : "q/a:1"}]}}"#,
            &["q/a:1", "q/i:1"],
        );
        check("image: 'q/a:1'", &["q/a:1"]);
        check("image:", &[]);
        check("an image of : nothing", &[]);
    }
}
