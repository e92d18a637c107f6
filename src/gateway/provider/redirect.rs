//! Where an answer may be sent. A code that goes to the wrong place is somebody else's: URIs are compared character by
//! character, never parsed first, since two parsers never agree (RFC 9700, 2.1 and 4.1). The one exception is the port of a
//! loopback address, which a native app cannot choose beforehand (RFC 8252, 7.3).

use url::{Host, Url};

/// Longest URI, in bytes.
const MAX_LEN: usize = 512;

/// The loopback addresses that an app on the person's own machine may listen at. Not `localhost`, which is whatever the
/// machine's resolver says (RFC 8252, 8.3).
const LOOPBACK: [&str; 2] = ["http://127.0.0.1", "http://[::1]"];

/// Whether an app may register `uri`. The sentence says why not.
pub(super) fn check(uri: &str, is_public: bool) -> Result<(), &'static str> {
    // What a URI needs to have escaped (RFC 3986, 2), and what some parser takes for a slash.
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !br#""<>\^`{|}"#.contains(&byte);
    if uri.is_empty() || uri.len() > MAX_LEN || !uri.bytes().all(is_plain) {
        return Err("A redirect URI is at most 512 plain characters; everything else is percent-encoded.");
    }
    if uri.contains('#') {
        return Err("A redirect URI has no fragment.");
    }
    let Ok(url) = Url::parse(uri) else { return Err("A redirect URI is a whole URL.") };
    let is_normal = url.as_str() == uri || url.as_str().strip_suffix('/') == Some(uri);
    if !is_normal {
        return Err(
            "The redirect URI has to be written in its normal form: small letters, no default port, no dots.",
        );
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("A redirect URI has no user and no password.");
    }
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => Ok(()),
        ("http", Some(Host::Ipv4(ip))) if ip == std::net::Ipv4Addr::LOCALHOST => Ok(()),
        ("http", Some(Host::Ipv6(ip))) if ip == std::net::Ipv6Addr::LOCALHOST => Ok(()),
        ("http", _) => Err("A redirect URI is https, or http at 127.0.0.1 or [::1]."),
        // RFC 8252, 7.1: a name that somebody owns, turned around.
        (scheme, None) if is_public && scheme.contains('.') => Ok(()),
        _ => Err(
            "A redirect URI is https; a public app may have a scheme of its own, like com.example.app:/callback.",
        ),
    }
}

/// Whether `asked` is one of those that the app registered.
pub(super) fn is_registered(registered: &[String], is_public: bool, asked: &str) -> bool {
    let is_same = |one: &String| {
        if one == asked {
            return true;
        }
        is_public
            && match (loopback(one), loopback(asked)) {
                (Some(one), Some(asked)) => one == asked,
                _ => false,
            }
    };
    registered.iter().any(is_same)
}

/// A loopback URI without its port: the host, and what follows the port.
fn loopback(uri: &str) -> Option<(&str, &str)> {
    let host = LOOPBACK.into_iter().find(|host| uri.starts_with(host))?;
    let rest = uri.get(host.len()..)?;
    let rest = match rest.strip_prefix(':') {
        Some(rest) => {
            let end = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
            let (port, rest) = rest.split_at_checked(end)?;
            let is_port = !port.starts_with('0') && port.parse::<u16>().is_ok();
            if !is_port {
                return None;
            }
            rest
        }
        None => rest,
    };
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some((host, rest))
}

/// `uri` with these parameters added to its query.
pub(super) fn with(uri: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    let joint = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{joint}{}", query.finish())
}

/// What a person is told of where they will be sent.
pub(super) fn shown(uri: &str) -> String {
    let Ok(url) = Url::parse(uri) else { return String::new() };
    match url.host_str() {
        Some(_) if LOOPBACK.iter().any(|host| uri.starts_with(host)) => "an app on this computer".to_owned(),
        Some(host) => host.to_owned(),
        None => format!("the app {} on this device", url.scheme()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_registered() {
        for (uri, public, confidential) in [
            ("https://app.example/cb", true, true),
            ("https://app.example", true, true),
            ("https://app.example/cb?a=b", true, true),
            ("https://app.example:8443/cb", true, true),
            ("http://127.0.0.1/cb", true, true),
            ("http://127.0.0.1:3000/cb", true, true),
            ("http://[::1]:3000/cb", true, true),
            ("com.example.app:/cb", true, false),
            ("http://app.example/cb", false, false),
            ("http://localhost/cb", false, false),
            ("http://127.0.0.2/cb", false, false),
            ("http://127.1/cb", false, false),
            ("https://app.example/cb#x", false, false),
            ("https://app.example/cb#", false, false),
            ("https://u:p@app.example/cb", false, false),
            ("https://u@app.example/cb", false, false),
            ("https://APP.example/cb", false, false),
            ("https://app.example:443/cb", false, false),
            ("https://app.example/a/../cb", false, false),
            ("https://app.example\\cb", false, false),
            ("https://app.example/c b", false, false),
            ("https://app.example/cb\r\nx: y", false, false),
            ("https://äpp.example/cb", false, false),
            ("//app.example/cb", false, false),
            ("/cb", false, false),
            ("app.example/cb", false, false),
            ("javascript:alert(1)", false, false),
            ("data:text/html,x", false, false),
            ("ftp://app.example/", false, false),
            ("myapp:/cb", false, false),
            ("", false, false),
        ] {
            assert_eq!(check(uri, true).is_ok(), public, "{uri}");
            assert_eq!(check(uri, false).is_ok(), confidential, "{uri}");
        }
    }

    /// Every one of them would send a code to somebody else in some parser.
    #[test]
    fn no_other_spelling_is_the_same() {
        let registered = ["https://app.example/cb".to_owned()];
        for public in [true, false] {
            assert!(is_registered(&registered, public, "https://app.example/cb"));
        }
        for trick in TRICKS {
            for public in [true, false] {
                assert!(!is_registered(&registered, public, trick), "{trick:?}");
            }
        }
    }

    const TRICKS: [&str; 44] = [
        "https://app.example/cb/",
        "https://app.example/cb/evil",
        "https://app.example/cbx",
        "https://app.example/c",
        "https://app.example/CB",
        "https://app.example/%63b",
        "https://app.example/cb%2f",
        "https://app.example/cb%2f..",
        "https://app.example/cb/../evil",
        "https://app.example/./cb",
        "https://app.example//cb",
        "https://app.example/cb?",
        "https://app.example/cb?x=y",
        "https://app.example/cb&x=y",
        "https://app.example/cb;x=y",
        "https://app.example/cb#",
        "https://app.example/cb#@evil.example",
        "https://app.example/cb ",
        " https://app.example/cb",
        "https://app.example/cb\0",
        "https://app.example/cb\r\nLocation: https://evil.example",
        "https://app.example/cb%0d%0aLocation:%20https://evil.example",
        "https://app.example/cb\t",
        "https://app.example:443/cb",
        "https://app.example:8443/cb",
        "https://app.example./cb",
        "https://APP.EXAMPLE/cb",
        "HTTPS://app.example/cb",
        "http://app.example/cb",
        "https:app.example/cb",
        "https:/app.example/cb",
        "https:///app.example/cb",
        "https:\\\\app.example/cb",
        "https://app.example\\cb",
        "https://app.example@evil.example/cb",
        "https://evil.example\\@app.example/cb",
        "https://evil.example#@app.example/cb",
        "https://evil.example?@app.example/cb",
        "https://app.example.evil.example/cb",
        "https://evilapp.example/cb",
        "//app.example/cb",
        "//evil.example/cb",
        "\\\\evil.example",
        "javascript:alert(1)//https://app.example/cb",
    ];

    #[test]
    fn a_loopback_port_is_free_for_public_apps_and_nothing_else_is() {
        let registered = ["http://127.0.0.1/cb".to_owned(), "http://[::1]:1/cb?a=b".to_owned()];
        for good in [
            "http://127.0.0.1/cb",
            "http://127.0.0.1:80/cb",
            "http://127.0.0.1:65535/cb",
            "http://[::1]:2/cb?a=b",
        ] {
            assert!(is_registered(&registered, true, good), "{good}");
        }
        assert!(
            !is_registered(&registered, false, "http://127.0.0.1:80/cb"),
            "a confidential app knows its port"
        );
        for bad in [
            "http://127.0.0.1:/cb",
            "http://127.0.0.1:0/cb",
            "http://127.0.0.1:01/cb",
            "http://127.0.0.1:65536/cb",
            "http://127.0.0.1:80:80/cb",
            "http://127.0.0.1:80@evil.example/cb",
            "http://127.0.0.1@evil.example/cb",
            "http://127.0.0.1.evil.example/cb",
            "http://127.0.0.1evil.example/cb",
            "http://127.0.0.1:+80/cb",
            "http://127.0.0.1:80\\@evil.example/cb",
            "http://127.0.0.1:80/cb/",
            "http://127.0.0.1:80/cb#x",
            "http://127.0.0.1:80/",
            "http://127.0.0.1:80",
            "http://127.1:80/cb",
            "http://127.0.0.2:80/cb",
            "http://0x7f000001:80/cb",
            "http://2130706433:80/cb",
            "http://localhost:80/cb",
            "http://[::1]:2/cb",
            "http://[0:0:0:0:0:0:0:1]:2/cb?a=b",
            "http://[::ffff:127.0.0.1]:80/cb",
            "https://127.0.0.1:80/cb",
            "http:127.0.0.1:80/cb",
        ] {
            assert!(!is_registered(&registered, true, bad), "{bad}");
        }
        // And the exception is for loopback alone.
        assert!(!is_registered(&["https://app.example/cb".to_owned()], true, "https://app.example:8443/cb"));
    }

    #[test]
    fn answers_are_added_to_the_query_and_nothing_breaks_out_of_it() {
        let evil = "a&b=c\r\nLocation: x #é";
        let with_none = with("https://app.example/cb", &[("code", "c"), ("state", evil)]);
        assert_eq!(with_none, "https://app.example/cb?code=c&state=a%26b%3Dc%0D%0ALocation%3A+x+%23%C3%A9");
        assert_eq!(with("com.example.app:/cb?a=b", &[("code", "c")]), "com.example.app:/cb?a=b&code=c");
    }
}
