//! Which addresses a secret may be sent to, and people be led to: over TLS, or to this very machine. Why one place: each setting,
//! each row and each answer of a provider asks this, and one spelling that they read differently is a way out.

use url::{Host, Url};

/// Whether its host is a loopback address, by number: a name is whatever somebody's resolver says.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    }
}

/// Whether its host is this machine: a loopback address, or `localhost`, which is one by convention (RFC 6761, 6.3).
pub fn is_this_machine(url: &Url) -> bool {
    is_loopback(url) || url.host() == Some(Host::Domain("localhost"))
}

/// Whether nobody on the way can read or change what goes there: `https`, or plain `http` to this machine only.
pub fn is_safe(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => is_this_machine(url),
        _ => false,
    }
}

/// Whether a user or a password stands in it.
pub fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for (given, is_web, is_number) in [
            ("https://id.example.com/", true, false),
            ("https://10.0.0.1/", true, false),
            ("http://127.0.0.1:8080/x", true, true),
            ("http://127.9.9.9/", true, true),
            ("http://0x7f.1/", true, true),
            ("http://[::1]/", true, true),
            ("http://localhost:1/", true, false),
            ("http://LOCALHOST/", true, false),
            ("http://localhost./", false, false),
            ("http://localhost.example.com/", false, false),
            ("http://id.example.com/", false, false),
            ("http://0.0.0.0/", false, false),
            ("http://[::ffff:127.0.0.1]/", false, false),
            ("http://127.0.0.1.example.com/", false, false),
            ("http://127.0.0.1@evil.example/", false, false),
            ("ftp://127.0.0.1/", false, true),
            ("file:///etc/passwd", false, false),
            ("data:text/html,x", false, false),
            ("javascript:alert(1)", false, false),
        ] {
            let url = Url::parse(given).expect(given);
            assert_eq!((is_safe(&url), is_loopback(&url)), (is_web, is_number), "{given}");
        }
    }

    #[test]
    fn a_user_is_seen() {
        for (given, expected) in
            [("https://a@b/", true), ("https://:p@b/", true), ("https://b/", false), ("https://b/@c", false)]
        {
            assert_eq!(has_user(&Url::parse(given).expect(given)), expected, "{given}");
        }
    }
}
