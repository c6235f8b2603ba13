//! The API server's audit log, as tests read it.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// Who asked for what, with the answer's code, for every request; no bodies.
pub(crate) const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";

/// The events of a log. The last line may be half written while the server runs: it is left out.
pub(crate) fn read(log: &Path) -> Result<Vec<Value>> {
    let text =
        std::fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("audit event: {line}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Option<usize>) {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("audit.log");
        std::fs::write(&log, text).unwrap();
        assert_eq!(
            read(&log).ok().map(|events| events.len()),
            expect,
            "{text:?}"
        );
    }

    #[test]
    fn whole_lines_count() {
        check("", Some(0));
        check("{\"verb\":\"get\"}\n{\"verb\":\"list\"}\n", Some(2));
        check("{\"verb\":\"get\"}\n{\"verb\":\"li", Some(1));
        check("{\"verb\":\"get\n{}\n", None);
    }
}
