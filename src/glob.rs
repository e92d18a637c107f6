//! Names with `*` in them. Why not a regular expression: rows, routes and keys say "this family of models" or "codes that begin so", and a
//! star says that in a way that cannot be got wrong.

/// Whether `text` fits `pattern`, where each `*` stands for any run of characters (also none). Case matters.
/// Linear in `text` for each star: every piece is found at its first place and never sought again.
pub fn fits(pattern: &str, text: &str) -> bool {
    // By bytes: a row has a dozen of these, and every request goes through them.
    let Some(star) = memchr::memchr(b'*', pattern.as_bytes()) else {
        return pattern == text;
    };
    let (head, tail) = (pattern.get(..star).unwrap_or_default(), pattern.get(star + 1..).unwrap_or_default());
    let Some(mut rest) = text.strip_prefix(head) else {
        return false;
    };
    let mut parts = tail.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, text, fit) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*", "", true),
            ("*b", "aab", true),
            ("qwen3-*b", "qwen3-32b", true),
            ("qwen3-*b", "qwen3-32b-x", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("a*a", "a", false),
            ("*PerDay*", "RequestsPerDayPerProject", true),
        ] {
            assert_eq!(fits(pattern, text), fit, "{pattern} {text}");
        }
    }
}
