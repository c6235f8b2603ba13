//! Exclude patterns as GNU tar's `--exclude` understands them.

/// Patterns of paths that are left out of a capture.
///
/// A pattern is matched against the absolute path on the captured system (`/var/log/x`) and against
/// every rest of it that follows a slash, as GNU tar does without `--anchored`. `*` and `?` match
/// slashes too. A directory that matches is left out with everything below; `/var/log/*` leaves
/// the directory itself, empty.
#[derive(Debug, Clone, Default)]
pub struct Excludes(Vec<Vec<u8>>);

impl Excludes {
    /// Takes patterns as they stand.
    pub fn new<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Self {
        Self(
            patterns
                .into_iter()
                .map(|pattern| pattern.as_ref().to_vec())
                .collect(),
        )
    }

    /// True when `path` (absolute) is to be left out.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.0.iter().any(|pattern| {
            let starts = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            matches(pattern, path)
                || starts
                    .into_iter()
                    .any(|(at, _)| matches(pattern, &path[at + 1..]))
        })
    }
}

/// Whole match of a glob with `*` and `?`; a backslash takes the next byte literally.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let (step, fits) = match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            (Some(b'?'), Some(_)) => (1, true),
            (Some(b'\\'), Some(byte)) => (2, pattern.get(p + 1) == Some(byte)),
            (Some(wanted), Some(byte)) => (1, wanted == byte),
            _ => (0, false),
        };
        if fits {
            p += step;
            t += 1;
            continue;
        }
        // Let the last star take one byte more.
        match retry {
            Some((after, from)) if from < text.len() => {
                retry = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        fn check(pattern: &str, path: &str, expect: bool) {
            assert_eq!(
                Excludes::new([pattern]).matches(path.as_bytes()),
                expect,
                "{pattern} {path}"
            );
        }
        check("/var/log/*", "/var/log/a", true);
        check("/var/log/*", "/var/log/a/b", true);
        check("/var/log/*", "/var/log", false);
        check("/var/log/*", "/x/var/log/a", false);
        check("/var/lib/lca", "/var/lib/lca", true);
        check("/var/lib/lca", "/var/lib/lcab", false);
        check("*/.bash_history", "/var/home/core/.bash_history", true);
        check("*/.bash_history", "/var/home/core/.bash_history2", false);
        check("core", "/var/home/core", true);
        check("home/core", "/var/home/core", true);
        check("a?c", "/x/abc", true);
        check("a?c", "/x/ac", false);
        check("a\\*c", "/x/a*c", true);
        check("a\\*c", "/x/abc", false);
        check("*a*b*c*", "/xaxbxc", true);
        check(
            "/*a*a*a*a*a*a*a*a*a*b",
            &format!("/{}", "a".repeat(2000)),
            false,
        );
    }
}
