//! What podman says of the images in its storage.

use std::collections::BTreeSet;

use node::ports::StoredImage;
use serde::Deserialize;

/// An image in the output of `podman images --format json`.
#[derive(Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[derive(Default)]
pub(super) struct Listed {
    id: String,
    created: i64,
    dangling: bool,
    names: Option<Vec<String>>,
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
}

/// The output of `podman images --format json`.
pub(super) fn parse(json: &[u8]) -> Result<Vec<Listed>, serde_json::Error> {
    // An empty storage is an empty list, or null in some versions.
    let images: Option<Vec<Listed>> = serde_json::from_slice(json)?;
    Ok(images.unwrap_or_default())
}

/// Every name of every image.
pub(super) fn all_names(images: Vec<Listed>) -> BTreeSet<String> {
    let names = |image: Listed| [image.names, image.repo_tags, image.repo_digests];
    images
        .into_iter()
        .flat_map(names)
        .flatten()
        .flatten()
        .collect()
}

/// One reference by which each image can be pulled: its tags, or where it has none its digests (contract S 1.3.1).
pub(super) fn pull_names(images: Vec<Listed>) -> BTreeSet<String> {
    let names = |image: Listed| {
        let tags = image.names.into_iter().chain(image.repo_tags).flatten();
        let tags: Vec<String> = tags.filter(|name| !name.contains('@')).collect();
        if tags.is_empty() {
            image.repo_digests.unwrap_or_default()
        } else {
            tags
        }
    };
    images.into_iter().flat_map(names).collect()
}

/// Every image, as the clean-up looks at it.
pub(super) fn stored(images: Vec<Listed>) -> Vec<StoredImage> {
    let stored = |image: Listed| {
        let names = [image.names, image.repo_tags, image.repo_digests];
        let names: BTreeSet<String> = names.into_iter().flatten().flatten().collect();
        StoredImage {
            id: image.id,
            names: names.into_iter().collect(),
            created: image.created,
            dangling: image.dangling,
        }
    };
    images.into_iter().map(stored).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_listed() {
        let check = |json: &str, names: &[&str]| {
            let found = all_names(parse(json.as_bytes()).unwrap());
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), names);
        };
        check("[]", &[]);
        check("null", &[]);
        check(
            r#"[{"Id":"1","RepoTags":null,"RepoDigests":["r/a@sha256:1"],"Names":["r/a:1"]},
                {"Id":"2","Dangling":true},
                {"Id":"3","RepoTags":["r/b:2"],"RepoDigests":["r/b@sha256:2","r/b@sha256:3"]}]"#,
            &[
                "r/a:1",
                "r/a@sha256:1",
                "r/b:2",
                "r/b@sha256:2",
                "r/b@sha256:3",
            ],
        );
        assert!(parse(b"{}").is_err());
    }

    #[test]
    fn images_are_read_as_the_clean_up_needs_them() {
        let json = r#"[{"Id":"1","RepoTags":["r/a:1"],"RepoDigests":["r/a@sha256:1"],"Names":["r/a:1"],
            "Created":1700000000,"CreatedAt":"2023-11-14T22:13:20Z","Dangling":false},
            {"Id":"2","RepoTags":null,"Created":5,"Dangling":true,"Names":null}]"#;
        let image = |id: &str, names: &[&str], created, dangling| StoredImage {
            id: id.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            created,
            dangling,
        };
        assert_eq!(
            stored(parse(json.as_bytes()).unwrap()),
            [
                image("1", &["r/a:1", "r/a@sha256:1"], 1_700_000_000, false),
                image("2", &[], 5, true),
            ]
        );
    }
}
