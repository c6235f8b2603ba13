//! Whether what podman says of a pull is the last word: the text is all that podman tells.
//!
//! Where mirrors are configured, one text has what became of every one of them and then of the image's own registry
//! (containers/image: `(Mirrors also failed: [mirror: text] [mirror: text]): own: text`). So what one of them refuses for
//! good another may be about to have.

/// Ends what mirrors said.
const BEHIND_MIRRORS: &str = "]): ";

/// What a registry says when another try will not help: it does not have the image or refuses the credentials (OCI
/// distribution specification: the codes `MANIFEST_UNKNOWN`, `NAME_UNKNOWN`, `UNAUTHORIZED`, `DENIED`).
const FINAL: [&str; 4] = ["manifest unknown", "name unknown", "unauthorized", "denied"];

/// What the network (Go's `net` and `net/http`) or a registry (RFC 9110 and 6585: 429 and 5xx) says when another try may help.
const PASSING: [&str; 25] = [
    "bad gateway",
    "broken pipe",
    "client.timeout",
    "connection aborted",
    "deadline exceeded",
    "eof",
    "internal server error",
    "lookup",
    "no route",
    "no such host",
    "refused",
    "reset",
    "server closed",
    "server misbehaving",
    "service unavailable",
    "status 429",
    "temporarily",
    "temporary failure",
    "timed out",
    "timeout",
    "too many requests",
    "toomanyrequests",
    "try again",
    "unavailable",
    "unreachable",
];

/// Whether another try will fail like this one. A full disk is final whatever else there is.
pub(super) fn is_final(text: &str) -> bool {
    let all = words(text);
    if has(&all, "no space left") {
        return true;
    }
    if PASSING.iter().any(|phrase| has(&all, phrase)) || has_server_error(&all) {
        return false;
    }
    let own = text
        .rsplit_once(BEHIND_MIRRORS)
        .map_or(text, |(_, own)| own);
    // Of a file or a socket of the node, not of a registry.
    let own = words(own).replace(" permission denied ", " ");
    FINAL.iter().any(|phrase| has(&own, phrase))
}

/// In small letters, with one space around every word and no punctuation at its ends: a phrase is a whole word then, and the
/// name of an image that has it in it is none.
fn words(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        word.to_ascii_lowercase()
    });
    words.fold(" ".to_owned(), |all, word| all + &word + " ")
}

fn has(words: &str, phrase: &str) -> bool {
    words.contains(&format!(" {phrase} "))
}

/// `... status: 503 Service Unavailable`, `... status code 502`.
fn has_server_error(words: &str) -> bool {
    let status = |(before, code): (&str, &str)| {
        matches!(before, "status" | "code" | "error")
            && code.len() == 3
            && code.starts_with('5')
            && code.bytes().all(|byte| byte.is_ascii_digit())
    };
    let words = words.split(' ');
    words.clone().zip(words.skip(1)).any(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_told_from_others() {
        let check = |text: &str, expect: bool| assert_eq!(is_final(text), expect, "{text}");
        check("", false);
        check("Error: something else", false);
        check(
            "Error: reading manifest 1 in q.io/a: manifest unknown",
            true,
        );
        check("name unknown: repository not found", true);
        check(
            "unauthorized: access to the requested resource is not authorized",
            true,
        );
        check("denied: requested access to the resource is denied", true);
        check("Error: writing blob: no space left on device", true);
        check("no space left on device: unexpected EOF", true);
        // What passes, whatever else there is.
        check(
            "pinging: Get \"https://q.io/v2/\": dial tcp 192.0.2.1:443: i/o timeout",
            false,
        );
        check("dial tcp: lookup q.io on 192.0.2.1:53: no such host", false);
        check("denied: too many requests to registry", false);
        check("unauthorized: Get \"https://q.io/token\": EOF", false);
        check("manifest unknown (status code 502 Bad Gateway)", false);
        check("unauthorized: received unexpected HTTP status: 599", false);
        check("denied: connection reset by peer", false);
        // A file's permissions are no registry's.
        check("open /run/auth.json: permission denied", false);
        check("permission denied; denied: no access", true);
    }

    #[test]
    fn mirrors_do_not_have_the_last_word() {
        let check = |mirrors: &str, own: &str, expect: bool| {
            let text = format!(
                "Error: initializing source docker://q.io/a@sha256:11: (Mirrors also failed: {mirrors}): q.io/a: {own}"
            );
            assert_eq!(is_final(&text), expect, "{text}");
        };
        check("[m:5000/a: manifest unknown]", "i/o timeout", false);
        check(
            "[m/a: unauthorized] [n/a: denied]",
            "connection refused",
            false,
        );
        check("[m/a: manifest unknown]", "something else", false);
        check("[m/a: manifest unknown]", "manifest unknown", true);
        check("[m/a: unauthorized] [n/a: denied]", "name unknown", true);
        // The mirror that has the image may come back.
        check("[m/a: i/o timeout]", "unauthorized", false);
        check("[m/a: manifest unknown]", "no space left on device", true);
    }

    #[test]
    fn names_are_no_words() {
        let check = |name: &str| {
            let text = format!("reading manifest 1 in {name}: manifest unknown");
            assert!(is_final(&text), "{text}");
        };
        check("q.io/a/reset-tool");
        check("q.io/timeout:eof");
        check("unavailable.site:500/geofence@sha256:503");
        assert!(!is_final("pulling q.io/denied/unauthorized: broken"));
    }
}
