//! `containers.list`: the images that a seed wants precached (S 1.2, 1.3.1).

use crate::image::{ImageRef, InvalidImageRef};

/// A line that is no image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of containers.list is not an image reference")]
pub struct InvalidLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    #[source]
    pub source: InvalidImageRef,
}

/// The images in their order; blank lines are skipped, white space around a line is dropped.
///
/// # Errors
/// [`InvalidLine`] for the first line that is no image reference.
pub fn parse(text: &str) -> Result<Vec<ImageRef>, InvalidLine> {
    let mut images = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() {
            let image = line.parse().map_err(|source| InvalidLine {
                line: index + 1,
                source,
            })?;
            images.push(image);
        }
    }
    Ok(images)
}

/// One line per image, without a final line end, as the Go original writes it.
#[must_use]
pub fn print(images: &[ImageRef]) -> String {
    images
        .iter()
        .map(ImageRef::as_str)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_back() {
        let text = "\nquay.io/a/b@sha256:00\n\nquay.io/c/d:v1 \r\n";
        let images = parse(text).unwrap();
        assert_eq!(print(&images), "quay.io/a/b@sha256:00\nquay.io/c/d:v1");
        assert_eq!(parse(&print(&images)), Ok(images));
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn the_first_bad_line_is_named() {
        let error = parse("quay.io/a\n\nquay.io/b c\n-x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 3 of containers.list is not an image reference"
        );
    }
}
