//! Heads of HTTP/1.1: a request's as bytes, and an answer's out of bytes. Why not a client library's: this one knows that a
//! request is whole in memory and that whoever waits for the answer drives the connection, so there is no channel, no task
//! and no buffer that lives as long as the connection.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::framing::Framing;
use super::{Request, SendError};

/// Largest head of an answer, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;

/// Most headers of an answer.
const MAX_HEADERS: usize = 100;

/// The head of `request` as it goes over the wire.
///
/// # Errors
/// [`SendError::Request`] where path or host hold what would end the line.
pub fn write(request: &Request<'_>) -> Result<Vec<u8>, SendError> {
    let host = request.origin.authority();
    let is_visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !request.path.starts_with('/') || !is_visible(request.path) {
        return Err(SendError::Request("a bad path".into()));
    }
    if !is_visible(&host) {
        return Err(SendError::Request("a bad host".into()));
    }
    let mut head = Vec::with_capacity(512);
    for part in [request.method.as_str(), " ", request.path, " HTTP/1.1\r\nhost: ", &host, "\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    for (name, value) in &request.headers {
        // These are ours to say.
        if [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(name) {
            continue;
        }
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    if !request.body.is_empty() || request.method == Method::POST {
        head.extend_from_slice(b"content-length: ");
        head.extend_from_slice(request.body.len().to_string().as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    Ok(head)
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub framing: Framing,
    /// Whether the connection may carry another request after this answer.
    pub is_reusable: bool,
}

/// Reads a head from the beginning of `bytes`: with how many bytes it took, or `None` where it is not complete.
///
/// # Errors
/// Why it is no head of an answer.
pub fn read(bytes: &[u8]) -> Result<Option<(Head, usize)>, &'static str> {
    let mut space = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut space);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD => return Err("its head is too long"),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err("it has too many headers"),
        Err(_) => return Err("it is not HTTP"),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("it has no status")?;
    // One piece of memory, shared by all values.
    let own = Bytes::copy_from_slice(bytes.get(..length).unwrap_or_default());
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| "it has a bad header")?;
        let value = match header.value {
            [] => HeaderValue::from_static(""),
            value => HeaderValue::from_maybe_shared(slice_of(&own, bytes, value))
                .map_err(|_| "it has a bad header")?,
        };
        headers.append(name, value);
    }
    let is_current = parsed.version == Some(1);
    let (framing, is_framed) = framing(status, &headers, is_current)?;
    let closes = headers.get_all(CONNECTION).iter().any(|value| has_token(value, "close"));
    let is_reusable = is_current && is_framed && !closes;
    Ok(Some((Head { status, headers, framing, is_reusable }, length)))
}

/// The part of `own`, a copy of the beginning of `bytes`, that stands where `part` stands in `bytes`.
fn slice_of(own: &Bytes, bytes: &[u8], part: &[u8]) -> Bytes {
    let from = part.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
    match from.checked_add(part.len()) {
        Some(end) if end <= own.len() => own.slice(from..end),
        _ => Bytes::copy_from_slice(part),
    }
}

fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.to_str().is_ok_and(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case(token)))
}

/// How the body ends, and whether the platform said so without contradiction (else its connection is not used again).
fn framing(
    status: StatusCode,
    headers: &HeaderMap,
    is_current: bool,
) -> Result<(Framing, bool), &'static str> {
    if status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        return Ok((Framing::Done, true));
    }
    let length = length(headers)?;
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !is_chunked || codings.next().is_some() || !is_current {
            return Err("its transfer encoding is unknown");
        }
        return Ok((Framing::chunked(), length.is_none()));
    }
    Ok(match length {
        Some(length) => (Framing::length(length), true),
        None => (Framing::UntilClose, false),
    })
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut found = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let digits = value.as_bytes();
        let text = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
        let length: u64 = text.and_then(|text| text.parse().ok()).ok_or("its length is no number")?;
        if found.is_some_and(|before| before != length) {
            return Err("it has two lengths");
        }
        found = Some(length);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Origin;

    fn head(text: &str) -> Result<Head, &'static str> {
        read(text.as_bytes()).map(|head| head.expect("complete").0)
    }

    #[test]
    fn a_head_is_read_when_it_is_complete_and_not_before() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nx-empty:\r\nset-cookie: a\r\nset-cookie: b\r\ncontent-length: 3\r\n\r\nabc";
        for cut in 0..text.len() - 3 {
            assert!(read(&text[..cut]).expect("well so far").is_none(), "cut at {cut}");
        }
        let (head, length) = read(text).expect("well").expect("complete");
        assert_eq!(length, text.len() - 3);
        assert_eq!(head.headers["content-type"], "text/plain");
        assert_eq!(head.headers["x-empty"], "");
        assert_eq!(head.headers.get_all("set-cookie").iter().count(), 2);
        assert_eq!((head.framing, head.is_reusable), (Framing::length(3), true));
    }

    #[test]
    fn how_bodies_end() {
        let cases = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5", Ok((Framing::length(5), true))),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked", Ok((Framing::chunked(), true))),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5",
                Ok((Framing::chunked(), false)),
            ),
            (
                "HTTP/1.1 200 OK\r\nconnection: Keep-Alive, Close\r\ncontent-length: 5",
                Ok((Framing::length(5), false)),
            ),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5", Ok((Framing::length(5), false))),
            ("HTTP/1.1 200 OK\r\nx: y", Ok((Framing::UntilClose, false))),
            ("HTTP/1.1 204 No Content\r\ncontent-length: 5", Ok((Framing::Done, true))),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6", Err("it has two lengths")),
            ("HTTP/1.1 200 OK\r\ncontent-length: +5", Err("its length is no number")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5, 5", Err("its length is no number")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999", Err("its length is no number")),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked", Err("its transfer encoding is unknown")),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked",
                Err("its transfer encoding is unknown"),
            ),
            ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked", Err("its transfer encoding is unknown")),
            ("SSH-2.0-OpenSSH\r\nx: y", Err("it is not HTTP")),
        ];
        for (text, wanted) in cases {
            let found = head(&format!("{text}\r\n\r\n")).map(|head| (head.framing, head.is_reusable));
            assert_eq!(found, wanted, "{text}");
        }
    }

    #[test]
    fn a_head_without_end_is_given_up() {
        let text = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(MAX_HEAD));
        assert_eq!(read(text.as_bytes()).map(|head| head.is_some()), Err("its head is too long"));
        let text = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
        assert_eq!(read(text.as_bytes()).map(|head| head.is_some()), Err("it has too many headers"));
    }

    #[test]
    fn nothing_in_a_request_can_end_its_line() {
        let origin = Origin::new(false, "::1", 8080);
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("b"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("999"));
        let body = Bytes::from_static(b"{}");
        let mut request = Request { origin: &origin, method: Method::POST, path: "/x?y=z", headers, body };
        let text = String::from_utf8(write(&request).expect("fine")).expect("text");
        assert_eq!(text, "POST /x?y=z HTTP/1.1\r\nhost: [::1]:8080\r\nx-a: b\r\ncontent-length: 2\r\n\r\n");
        for bad in ["", "x", "/a b", "/a\r\nb: c", "/\u{e9}", "/a\0"] {
            request.path = bad;
            assert!(matches!(write(&request), Err(SendError::Request(_))), "{bad:?}");
        }
        let origin = Origin::new(false, "a\r\nb", 80);
        request = Request { origin: &origin, path: "/", ..request };
        assert!(matches!(write(&request), Err(SendError::Request(_))));
    }
}
