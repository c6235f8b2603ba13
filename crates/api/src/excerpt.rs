//! Quoting outside input in error texts without letting it grow or break the line.

/// The longest excerpt, in characters, before it is cut.
const LIMIT: usize = 80;

/// The text with control characters escaped, cut after 80 characters with `...`.
pub(crate) fn excerpt(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(LIMIT)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(LIMIT).is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn long_and_odd_input_is_cut_and_escaped() {
        assert_eq!(excerpt("4.17.4"), "4.17.4");
        assert_eq!(excerpt("a\nb"), "a\\nb");
        let cut = excerpt(&"ä".repeat(1000));
        assert_eq!(cut, format!("{}...", "ä".repeat(80)));
    }
}
