//! Makes a platform's words fit for a caller. Why: platforms quote keys back, name the organisation that pays and the
//! address behind an account; and a self-hosted one names hosts of the operator's network. A word too many masked costs a
//! caller little; one too few costs the operator a key.

/// Longest message, in characters.
const MAX_LEN: usize = 500;

/// What stands in for a masked word.
const MASKED: &str = "[masked]";

/// Beginnings of credentials and of names of those who pay, in lower case.
const PREFIXES: [&str; 24] = [
    "sk-", "sk_", "pk-", "rk-", "hf_", "gsk_", "xai-", "aiza", "ya29.", "bce-v3/", "bce-auth", "eyj", "org-",
    "org_", "proj-", "proj_", "user-", "acct", "akl", "altak", "ghp_", "glpat-", "bearer", "app-",
];

/// Ends of host names.
#[rustfmt::skip]
const DOMAINS: [&str; 41] = [
    "com", "net", "org", "io", "ai", "cn", "dev", "co", "app", "cloud", "local", "localdomain", "internal", "lan",
    "corp", "svc", "intra", "intranet", "test", "example", "invalid", "localhost", "home", "us", "eu", "uk", "de", "fr",
    "jp", "kr", "hk", "sg", "tw", "in", "ru", "info", "biz", "tech", "xyz", "gov", "edu",
];

/// Masks what a caller must not see and bounds the length. Line ends become spaces.
pub fn mask(words: &str) -> String {
    let mut out = String::with_capacity(words.len().min(MAX_LEN * 2));
    let mut rest = words;
    let mut after_bearer = false;
    while !rest.is_empty() {
        let gap = rest.find(|character| !is_gap(character)).unwrap_or(rest.len());
        out.extend(rest.chars().take_while(|character| is_gap(*character)).map(printable));
        rest = rest.get(gap..).unwrap_or_default();
        let end = rest.find(is_gap).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        let bare = word.trim_end_matches(['.', ':', ';', '!', '?']);
        let is_bearer = bare.eq_ignore_ascii_case("bearer");
        if !bare.is_empty() && !is_bearer && (after_bearer || is_private(bare)) {
            out.push_str(MASKED);
            out.push_str(word.get(bare.len()..).unwrap_or_default());
        } else {
            out.push_str(word);
        }
        after_bearer = is_bearer;
        rest = tail;
    }
    bound(out)
}

/// What stands between words.
fn is_gap(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || matches!(
            character,
            '"' | '\''
                | '`'
                | '('
                | ')'
                | '['
                | ']'
                | '{'
                | '}'
                | '<'
                | '>'
                | ','
                | '，'
                | '。'
                | '='
                | '|'
                | '“'
                | '”'
                | '：'
        )
}

fn printable(character: char) -> char {
    if character.is_control() { ' ' } else { character }
}

fn bound(text: String) -> String {
    match text.char_indices().nth(MAX_LEN) {
        None => text,
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// Whether a word may be a credential, an address, or a name of who pays.
fn is_private(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let begins_secretly = |piece: &str| {
        PREFIXES.iter().any(|prefix| {
            piece.starts_with(prefix) && piece.len() > prefix.len() && is_more_than_a_word(piece, prefix)
        })
    };
    begins_secretly(&lower)
        || lower.split([':', ';']).any(begins_secretly)
        || lower.contains("://")
        || (lower.contains('@') && lower.contains('.'))
        || is_host(&lower)
        || is_uuid(&lower)
        || word.split(['-', '.', '/', ':', '_']).any(is_opaque)
}

/// After a prefix that also begins plain words (`user-defined`, `app-level`, `account`) there must be a digit.
fn is_more_than_a_word(piece: &str, prefix: &str) -> bool {
    let begins_words = matches!(prefix, "user-" | "app-" | "acct" | "akl" | "eyj" | "aiza" | "bearer");
    let rest = piece.get(prefix.len()..).unwrap_or_default();
    !begins_words || rest.bytes().any(|byte| byte.is_ascii_digit())
}

/// A host name or address, perhaps with port or path.
fn is_host(lower: &str) -> bool {
    let host = lower.split(['/', '?']).next().unwrap_or_default();
    let (host, port) = host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port)));
    let has_port =
        port.is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    let labels: Vec<&str> = host.split('.').collect();
    let is_name = labels.iter().all(|label| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    let is_address = labels.len() == 4 && labels.iter().all(|label| label.parse::<u8>().is_ok());
    let last = labels.last().copied().unwrap_or_default();
    is_name
        && (host == "localhost" || is_address || (labels.len() > 1 && (has_port || DOMAINS.contains(&last))))
}

fn is_uuid(lower: &str) -> bool {
    let groups: Vec<&str> = lower.split('-').collect();
    groups.len() == 5
        && groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A run of 20 or more letters and digits, both: no word of any language, but every key and token.
fn is_opaque(run: &str) -> bool {
    run.len() >= 20
        && run.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'*' | b'~' | b'%'))
        && run.bytes().any(|byte| byte.is_ascii_digit())
        && run.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_addresses_and_payers_are_masked() {
        for (words, secret) in [
            ("Incorrect API key provided: sk-ab***yz. You can", "sk-ab"),
            ("Incorrect API key provided: sk-proj-AbC123dEf456.", "AbC123"),
            ("token hf_abcdEFGH is bad", "hf_abcd"),
            ("key AIzaSyD-1234567 blocked", "AIzaSyD"),
            ("bearer bce-v3/ALTAK-x/yyyy1 refused", "ALTAK"),
            ("Authorization: Bearer abcdef refused", "abcdef"),
            ("Rate limit reached for gpt-4o in organization org-x on tokens", "org-x"),
            ("project proj_abc1 has no access", "proj_abc1"),
            ("account ann@example.com is locked", "ann@"),
            ("see https://platform.openai.com/account/api-keys.", "platform.openai"),
            ("dial tcp 10.0.0.5:8000: refused", "10.0.0.5"),
            ("no route to vllm-7.models.svc.cluster.local:8000", "vllm-7"),
            ("upstream gpu.corp/v1 failed", "gpu.corp"),
            ("at localhost:8080", "localhost"),
            ("jwt eyJhbGciOiJIUzI1NiJ9.e30.abc", "eyJhbGci"),
            ("key 3fa85f64-5717-4562-b3fc-2c963f66afa6 unknown", "3fa85f64"),
            ("access_token=24.c3d4e5f6a7b8c9d0e1f2a3b4c5.2592000 invalid", "c3d4e5"),
            ("secret 'q7Zp2Lx9Vb4Nc8Md1Ks6Jh3G' wrong", "q7Zp2L"),
            ("{\"key\":\"sk-canary\"}", "canary"),
            ("ak AKLTabc123 wrong", "AKLTabc"),
        ] {
            let masked = mask(words);
            assert!(!masked.contains(secret) && masked.contains(MASKED), "{words} -> {masked}");
        }
    }

    #[test]
    fn what_helps_the_caller_stays() {
        for words in [
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            "messages.0.content.1.text: Field required",
            "The model `claude-sonnet-4-5-20250929` does not exist, nor meta-llama/Llama-3.3-70B-Instruct.",
            "doubao-seed-2-1-pro-260915 and qwen3-235b-a22b-thinking-2507 at temperature 0.7",
            "prompt is too long: 210000 tokens > 200000 maximum",
            "tools[0].function.parameters must be an object, not user-defined, at app-level",
            "Limit 30000, Used 29937, Requested 385. Please try again in 644ms.",
            "输入的 tokens 数量超过限制，最大 8192。",
        ] {
            assert_eq!(mask(words), words);
        }
    }

    #[test]
    fn length_is_bounded_in_characters_and_lines_are_one() {
        assert_eq!(mask(&"字".repeat(600)).chars().count(), 501);
        assert_eq!(mask("a\r\nb\tc\u{1b}[31m"), "a  b c [31m");
    }
}
