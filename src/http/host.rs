//! Whom a request is for: one clear `Host` (RFC 9112 section 3.2). Why it matters to a gateway that has one host: a proxy
//! in front may choose by one of two names, or by a name that it reads differently, and what it then keeps apart (or logs,
//! or caches) must not meet here.

use http::header::HOST;
use http::{Request, Version};

use crate::fault::{Fault, Kind};

/// Refuses a request of HTTP/1 without exactly one well-formed `Host`, or with another one in its target. HTTP/2 has its
/// own pseudo-header, which the codec checks.
///
/// # Errors
/// A bad request.
pub fn check<B>(request: &Request<B>) -> Result<(), Fault> {
    if request.version() > Version::HTTP_11 {
        return Ok(());
    }
    let mut hosts = request.headers().get_all(HOST).iter().map(http::HeaderValue::as_bytes);
    let (host, second) = (hosts.next(), hosts.next());
    let is_missing = host.is_none() && request.version() == Version::HTTP_11;
    let is_good = second.is_none() && host.is_none_or(is_well_formed);
    if is_missing || !is_good {
        return Err(Fault::client(Kind::BadRequest, "A request needs exactly one valid Host header."));
    }
    match (request.uri().authority(), host) {
        (Some(target), Some(host)) if !host.eq_ignore_ascii_case(target.as_str().as_bytes()) => {
            Err(Fault::client(Kind::BadRequest, "The Host header and the request's target disagree."))
        }
        _ => Ok(()),
    }
}

/// A name or an address, with or without a port; may be empty (for targets that have no host).
fn is_well_formed(host: &[u8]) -> bool {
    let (name, port) = match host.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let (address, after) = rest.split_at(end);
            let is_address =
                address.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
            if !is_address || address.is_empty() {
                return false;
            }
            (&b""[..], after.get(1..).unwrap_or_default())
        }
        None => host.split_at(memchr::memchr(b':', host).unwrap_or(host.len())),
    };
    let is_name =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%');
    let is_port = port.is_empty()
        || port
            .strip_prefix(b":")
            .is_some_and(|digits| digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit));
    name.iter().all(is_name) && is_port
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken(version: Version, target: &str, hosts: &[&str]) -> bool {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        check(&request.body(()).expect("a request")).is_ok()
    }

    #[test]
    fn one_clear_host() {
        for host in [
            "weir",
            "weir.example:8080",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:8080",
            "xn--e1afmkfd.example",
            "",
            "x:",
        ] {
            assert!(is_taken(Version::HTTP_11, "/", &[host]), "{host}");
        }
        for host in
            ["x y", "x/y", "x, y", "u@x", "x:y", "x:123456", "[::1", "[]", "[::1]x", "x\\y", "x?", "http://x"]
        {
            assert!(!is_taken(Version::HTTP_11, "/", &[host]), "{host}");
        }
        assert!(!is_taken(Version::HTTP_11, "/", &[]));
        assert!(!is_taken(Version::HTTP_11, "/", &["x", "x"]));
        assert!(is_taken(Version::HTTP_10, "/", &[]));
        assert!(is_taken(Version::HTTP_2, "/", &[]));
        assert!(is_taken(Version::HTTP_11, "http://X:80/", &["x:80"]));
        assert!(!is_taken(Version::HTTP_11, "http://y/", &["x"]));
        assert!(!is_taken(Version::HTTP_11, "http://u:p@x/", &["x"]));
    }
}
