//! Text without what looks like a secret. Rather too much goes than too little: evidence is for looking at failures.

/// What stands in the place of a secret.
const GONE: &str = "[redacted]";
/// Ends of names whose values are secrets, in lower case.
const NAMES: [&str; 17] = [
    "auth",
    "authorization",
    "token",
    "secret",
    "secret-data",
    "client-key-data",
    "private-key",
    "privatekey",
    "private_key",
    "apikey",
    "api-key",
    "api_key",
    "access_key",
    "pullsecret",
    "pull-secret",
    "dockerconfigjson",
    "dockercfg",
];
/// The same, where people choose the value: it may have spaces, so that without quotes the rest of the line belongs to it.
const PHRASES: [&str; 3] = ["password", "passwd", "passphrase"];
/// What introduces credentials without a name, each with how many letters make one: fewer are a word of some sentence. HTTP's
/// authorization, and the content of Ignition's files.
const SCHEMES: [(&str, usize); 3] = [("bearer ", 8), ("basic ", 16), ("base64,", 16)];
/// Begins a private key.
const KEY_BEGINS: &str = "-----BEGIN ";
/// Ends any such block.
const KEY_ENDS: &str = "-----END ";
/// What [`KEY_BEGINS`] is in base64, as kubeconfigs and Secrets hold keys.
const KEY_IN_BASE64: &str = "LS0tLS1CRUdJTi";
/// How JSON begins in base64, `{` and a quote or white space: web tokens, and pull secrets as Secrets hold them.
const JSON_IN_BASE64: [&str; 5] = ["eyJ", "eyA", "ewo", "ewk", "ew0"];
/// Fewer letters of it are a word.
const JSON_LENGTH: usize = 20;
/// Begins OpenShift's tokens.
const OPENSHIFT_TOKEN: &str = "sha256~";
/// Longest key in lines; what goes on longer without an end is none, or has lost it.
const KEY_LINES: usize = 200;

/// The text with [`GONE`] in place of private keys, bearer tokens, and values of names like `auth`, `password` and `token`. What
/// becomes of a line depends on it and on those before it alone.
pub fn redact(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    // Lines of a key that may still come.
    let mut key = 0_usize;
    for line in text.split_inclusive('\n') {
        if key > 0 {
            key = if line.contains(KEY_ENDS) { 0 } else { key - 1 };
            continue;
        }
        let mut rest = line;
        while let Some(at) = key_begins(rest) {
            let (before, block) = rest.split_at(at);
            redact_line(before, &mut told);
            told.push_str(GONE);
            rest = match block.split_once(KEY_ENDS) {
                // A key in one line, its own line ends written out.
                Some((_, behind)) => behind.split_once("-----").map_or("", |(_, behind)| behind),
                None => {
                    key = KEY_LINES;
                    told.push('\n');
                    ""
                }
            };
        }
        redact_line(rest, &mut told);
    }
    told
}

/// Where the next private key begins.
fn key_begins(line: &str) -> Option<usize> {
    let mut blocks = line.match_indices(KEY_BEGINS).map(|(at, _)| at);
    blocks.find(|at| {
        let label = line.get(at + KEY_BEGINS.len()..).unwrap_or_default();
        // Letters of one byte, as far as there is any label.
        let label = run(label, |c| {
            c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' '
        });
        let end = at + KEY_BEGINS.len() + label;
        line.get(*at..end)
            .is_some_and(|block| block.contains("PRIVATE KEY"))
    })
}

fn redact_line(line: &str, told: &mut String) {
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let taken = match secret(rest, told.chars().next_back()) {
            Some((kept, taken)) => {
                told.push_str(rest.get(..kept).unwrap_or_default());
                told.push_str(GONE);
                taken
            }
            None => {
                told.push(first);
                first.len_utf8()
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
}

/// Whether a secret, or what introduces one, begins here: how many bytes are kept before it, and where it ends. Looks far ahead only
/// where a word begins, so that no line takes more than a few times its length.
fn secret(rest: &str, before: Option<char>) -> Option<(usize, usize)> {
    if let Some(found) = user_of_address(rest) {
        return Some(found);
    }
    if before.is_some_and(in_name) {
        return None;
    }
    for (scheme, shortest) in SCHEMES {
        if names_scheme(rest, scheme) {
            let length = run(rest.get(scheme.len()..)?, in_token);
            if length >= shortest {
                return Some((scheme.len(), scheme.len() + length));
            }
        }
    }
    if rest.starts_with(KEY_IN_BASE64) || rest.starts_with(OPENSHIFT_TOKEN) {
        return Some((0, run(rest, in_token)));
    }
    if JSON_IN_BASE64.iter().any(|begin| rest.starts_with(begin)) {
        let word = run(rest, in_token);
        if word >= JSON_LENGTH {
            return Some((0, word));
        }
    }
    value(rest)
}

fn names_scheme(text: &str, scheme: &str) -> bool {
    let named = text.get(..scheme.len());
    named.is_some_and(|named| named.eq_ignore_ascii_case(scheme))
}

/// `://user:password@`: both go.
fn user_of_address(rest: &str) -> Option<(usize, usize)> {
    let behind = rest.strip_prefix("://")?;
    let length = run(behind, |c| {
        !c.is_whitespace() && !matches!(c, '/' | '@' | '"' | '\'')
    });
    let named = behind.get(length..)?.starts_with('@') && behind.get(..length)?.contains(':');
    named.then_some((3, 3 + length))
}

/// `name: value`, `name=value`, `"name":"value"`, also where quotes are written out as `\"`; `--name value` and `"--name","value"`,
/// as command lines have it.
fn value(rest: &str) -> Option<(usize, usize)> {
    let name = run(rest, in_name);
    let lower = rest.get(..name)?.to_ascii_lowercase();
    let ends = |end: &&str| {
        let before = lower.strip_suffix(*end)?;
        // `oauth: ` is no credential, `registry_auth` and `bootstrapToken` are.
        Some(before.is_empty() || *end != "auth" || before.ends_with(['-', '_', '.']))
    };
    let phrase = PHRASES.iter().any(|end| lower.ends_with(end));
    if !phrase && !NAMES.iter().any(|end| ends(end) == Some(true)) {
        return None;
    }
    let quoted = |from: usize| {
        run(rest.get(from..).unwrap_or_default(), |c| {
            matches!(c, '"' | '\'' | '\\')
        })
    };
    let mut at = name + quoted(name);
    at += run(rest.get(at..)?, |c| matches!(c, ' ' | '\t'));
    let option = lower.starts_with("--");
    match rest.get(at..)?.chars().next()? {
        ':' | '=' => at += 1,
        ',' if option => at += 1,
        _ if option && at > name => {}
        _ => return None,
    }
    at += run(rest.get(at..)?, |c| matches!(c, ' ' | '\t'));
    let opening = quoted(at);
    let quotes = rest.get(at..at + opening)?;
    let behind = rest.get(at + opening..)?;
    let length = if quotes.is_empty() && phrase {
        behind.trim_end_matches(['\r', '\n']).len()
    } else if quotes.is_empty() {
        bare(behind)
    } else {
        quoted_length(behind, quotes.matches('\\').count())
    };
    (length > 0).then_some((at + opening, at + opening + length))
}

/// Length of a value without quotes, with the scheme that it may begin with.
fn bare(text: &str) -> usize {
    let scheme = SCHEMES.iter().map(|(scheme, _)| *scheme);
    let mut scheme = scheme.filter(|scheme| names_scheme(text, scheme));
    let scheme = scheme.next().map_or(0, str::len);
    let inside = |c: char| {
        !c.is_whitespace() && !matches!(c, ',' | ';' | '"' | '\'' | '{' | '[' | '}' | ']')
    };
    scheme + run(text.get(scheme..).unwrap_or_default(), inside)
}

/// Length of a value up to its closing quote, which has as many backslashes before it as the opening one; more are of a quote inside.
fn quoted_length(text: &str, escapes: usize) -> usize {
    let mut before = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '\\' => before += 1,
            '"' | '\'' if before <= escapes => return at - before,
            '\n' => return at,
            _ => before = 0,
        }
    }
    text.len()
}

/// Bytes at the beginning that are all like this.
fn run(text: &str, like: impl Fn(char) -> bool) -> usize {
    text.find(|c| !like(c)).unwrap_or(text.len())
}

fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn in_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '/' | '=' | '~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let check = |text: &str, expect: &str| assert_eq!(redact(text), expect, "{text}");
        check("plain text: 5 of 6\n", "plain text: 5 of 6\n");
        check(
            "Authorization: Bearer abcdefgh.ijk x",
            "Authorization: [redacted] x",
        );
        check("got bearer abcdefgh.ijk back", "got bearer [redacted] back");
        check(
            "the bearer of it, a basic question",
            "the bearer of it, a basic question",
        );
        check(
            r#"{"auths":{"quay.io":{"auth":"dXNlcjpwYXNz","email":""}}}"#,
            r#"{"auths":{"quay.io":{"auth":"[redacted]","email":""}}}"#,
        );
        check(
            r#"config={\"auth\":\"dXNl\\\"cjp=\",\"x\":1}"#,
            r#"config={\"auth\":\"[redacted]\",\"x\":1}"#,
        );
        check(
            "password = 'two words' next",
            "password = '[redacted]' next",
        );
        check("TOKEN=abc,user=me", "TOKEN=[redacted],user=me");
        check("db_password: hunter2", "db_password: [redacted]");
        check("oauth: started", "oauth: started");
        check(
            "authentication: on, author: me",
            "authentication: on, author: me",
        );
        check("the token is wrong: 401", "the token is wrong: 401");
        check(
            "pull https://me:secret1@quay.io/x",
            "pull https://[redacted]@quay.io/x",
        );
        check(
            "see https://quay.io:443/a@sha256:1",
            "see https://quay.io:443/a@sha256:1",
        );
        let web = format!("eyJ{}.{}.sig", "a".repeat(30), "b".repeat(30));
        check(&format!("jwt {web} end"), "jwt [redacted] end");
        check(
            "client-certificate-data: LS0tLS1CRUdJTiBD",
            "client-certificate-data: [redacted]",
        );
        let pull_secret = "eyJhdXRocyI6eyJxdWF5LmlvIjp7ImF1dGgiOiJ4In19fQ==";
        let check_gone = |before: &str, secret: &str, behind: &str| {
            let text = format!("{before}{secret}{behind}");
            check(&text, &format!("{before}[redacted]{behind}"));
        };
        check_gone(".dockerconfigjson: ", pull_secret, "\n");
        check_gone(".dockercfg: ", "ZXhhbXBsZQ==", "\n");
        check_gone("data:;base64,", pull_secret, "\"}");
        check_gone("data:text/plain;base64,", "H4sIAAAAAAAAA6tWKkktLgEA", "");
        check_gone("it read ", pull_secret, " and");
        check_gone("/config/", pull_secret, " and");
        check_gone("it read ", "ewogICJhdXRocyI6IHsK", " and");
        check_gone("x-api-key: ", "abc", "");
        check_gone("oc login --token ", "abc", " --server x");
        check_gone("got ", "sha256~abc", " back");
        check_gone(r#"["--token","#, r#"abc"#, r#",5]"#);
        check_gone(r#"["--token",""#, "abc", r#"","--server"]"#);
        check_gone("--password ", "x", "\n");
        check_gone("password: ", "two words, or three", "\n");
        check("--token-file /etc/x", "--token-file /etc/x");
        check("a token of mine", "a token of mine");
        check("größe=5 Secret=ü", "größe=5 Secret=[redacted]");
    }

    #[test]
    fn private_keys_go_whole() {
        let key = "a -----BEGIN EC PRIVATE KEY-----\nMHc\nAoG\n-----END EC PRIVATE KEY-----\nb\n";
        assert_eq!(redact(key), "a [redacted]\nb\n");
        let line = r"x -----BEGIN PRIVATE KEY-----\nMHc\n-----END PRIVATE KEY----- token=t y";
        assert_eq!(redact(line), "x [redacted] token=[redacted] y");
        let torn = format!(
            "-----BEGIN RSA PRIVATE KEY-----\n{}z\n",
            "k\n".repeat(KEY_LINES)
        );
        assert_eq!(redact(&torn), "[redacted]\nz\n");
        // One key behind another, in one line and beyond it.
        let block = r"-----BEGIN PRIVATE KEY-----\nMHc\n-----END PRIVATE KEY----- ";
        let many = block.repeat(50_000);
        assert_eq!(redact(&many), "[redacted] ".repeat(50_000));
        let open = format!("{block}-----BEGIN PRIVATE KEY-----\nMHc\n-----END PRIVATE KEY-----\nb");
        assert_eq!(redact(&open), "[redacted] [redacted]\nb");
        let certificate = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n";
        assert_eq!(redact(certificate), certificate);
    }
}
