//! A strict look at a JWT before any key is touched. Why our own: libraries have taken a textual `exp` for an absent one,
//! the second of two equal keys for the only one, and a header for an order to fetch a key. What is not exactly a signed
//! token as RFC 7519 draws it ends here, cheaply, whoever sent it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use http::header::WWW_AUTHENTICATE;
use jsonwebtoken::Algorithm;

use crate::api::scan::{self, Object};
use crate::fault::{Fault, Kind};

/// Longest token or key that is looked at, in bytes.
pub(super) const MAX_LEN: usize = 16 * 1024;

/// Most claims (and header fields) of a token.
const MAX_FIELDS: usize = 128;

/// Longest `sub`, tenant or `kid`, in bytes.
const MAX_NAME: usize = 256;

/// The last second of the year 9999: what lies beyond is no date (milliseconds, most likely).
const LAST_SECOND: f64 = 253_402_300_799.0;

/// Header fields that bring their own key, change what is signed, or must be understood: none of them has a place here.
const REFUSED_HEADERS: [&str; 9] = ["crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc", "epk"];

/// Why a caller was not let in. The reason within is for the operator's log and holds nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Missing,
    Malformed(&'static str),
    Invalid(&'static str),
    Expired,
    NotYet,
}

/// What is asked of whoever shows nothing.
const CHALLENGE: &str = r#"Bearer realm="weir""#;

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        let (public, reason) = match refusal {
            Refusal::Missing => {
                ("No credentials: send `Authorization: Bearer` and a token or key.", "missing")
            }
            Refusal::Malformed(reason) => {
                ("The Authorization header holds no well-formed token or key.", reason)
            }
            Refusal::Invalid(reason) => ("The token or key is not valid.", reason),
            Refusal::Expired => ("The token or key has expired.", "expired"),
            Refusal::NotYet => ("The token is not valid yet.", "not valid yet"),
        };
        let fault = Fault::client(Kind::Unauthenticated, public).source(reason);
        // Who shows nothing is told what to show, and of no error (RFC 6750, 3.1).
        match refusal {
            Refusal::Missing => fault.headers([(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE))]),
            _ => fault,
        }
    }
}

/// A token in its three parts, of which nothing has been verified.
#[derive(Debug)]
pub(super) struct Unverified<'t> {
    /// Header and payload as signed, with the dot between them.
    pub signed: &'t str,
    /// The signature, base64url.
    pub signature: &'t str,
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    /// The header's `typ`, in small letters.
    pub kind: Option<String>,
    pub claims: Claims,
}

impl<'t> Unverified<'t> {
    /// Takes a token apart.
    pub fn parse(token: &'t str) -> Result<Self, Refusal> {
        if token.len() > MAX_LEN {
            return Err(Refusal::Malformed("longer than 16 KiB"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Malformed("not three parts"));
        };
        if signature.is_empty() {
            return Err(Refusal::Malformed("no signature"));
        }
        let (algorithm, kid, kind) = read_header(&Claims::decode(header)?)?;
        let signed = token.get(..header.len() + 1 + payload.len()).unwrap_or_default();
        Ok(Self { signed, signature, algorithm, kid, kind, claims: Claims::decode(payload)? })
    }
}

fn read_header(header: &Claims) -> Result<(Algorithm, Option<String>, Option<String>), Refusal> {
    if REFUSED_HEADERS.iter().any(|name| header.raw(name).is_some()) {
        return Err(Refusal::Malformed("a header field that is not taken"));
    }
    let kind = header.text("typ")?.map(|kind| kind.to_ascii_lowercase());
    if kind.as_deref().is_some_and(|kind| !["jwt", "at+jwt", "application/at+jwt"].contains(&kind)) {
        return Err(Refusal::Malformed("a typ that is no access token"));
    }
    let algorithm = header.text("alg")?.ok_or(Refusal::Malformed("no alg"))?;
    // `none`, in any spelling, is no algorithm.
    let algorithm = algorithm.parse().map_err(|_| Refusal::Invalid("an alg that is not taken"))?;
    Ok((algorithm, header.name("kid")?, kind))
}

/// A JSON object out of a token: its claims, or its header.
#[derive(Debug)]
pub(super) struct Claims {
    bytes: Vec<u8>,
    fields: Object,
}

impl Claims {
    fn decode(part: &str) -> Result<Self, Refusal> {
        let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed("not base64url"))?;
        let fields = Object::scan_at_most(&bytes, MAX_FIELDS)
            .map_err(|_| Refusal::Malformed("not a JSON object with each key once"))?;
        Ok(Self { bytes, fields })
    }

    fn raw(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(&self.bytes, name)
    }

    /// All of them, as JSON.
    pub fn all(&self) -> Result<serde_json::Value, Refusal> {
        serde_json::from_slice(&self.bytes).map_err(|_| Refusal::Malformed("not a JSON object"))
    }

    /// A claim that must be a string where it is given.
    pub fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        let text = |raw| scan::as_str(raw).map(std::borrow::Cow::into_owned);
        self.raw(name)
            .map(|raw| text(raw).ok_or(Refusal::Malformed("a claim that must be a string")))
            .transpose()
    }

    /// A claim that names something: a short string without control characters.
    pub fn name(&self, name: &str) -> Result<Option<String>, Refusal> {
        match self.text(name)? {
            Some(text) if text.is_empty() || text.len() > MAX_NAME || text.contains(char::is_control) => {
                Err(Refusal::Malformed("a claim that must be a short plain string"))
            }
            text => Ok(text),
        }
    }

    /// A claim that is a list: an array of strings, or one string with spaces between.
    pub fn list(&self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        match self.raw(name) {
            None => Ok(None),
            Some([b'"', ..]) => {
                let text = self.text(name)?.unwrap_or_default();
                Ok(Some(text.split_whitespace().map(str::to_owned).collect()))
            }
            Some(raw) => serde_json::from_slice(raw)
                .map(Some)
                .map_err(|_| Refusal::Malformed("a claim that must be a list of strings")),
        }
    }

    /// A claim that is a time: seconds since 1970, perhaps with a fraction, never text, never negative.
    pub fn time(&self, name: &str) -> Result<Option<f64>, Refusal> {
        self.raw(name).map(|raw| seconds(raw).ok_or(Refusal::Malformed("a time that is none"))).transpose()
    }

    /// Whether `aud`, a string or an array of strings, holds one of `audiences`.
    pub fn is_for(&self, audiences: &[String]) -> Result<bool, Refusal> {
        let given = match self.raw("aud") {
            None => return Ok(false),
            Some([b'"', ..]) => vec![self.text("aud")?.unwrap_or_default()],
            Some(_) => self.list("aud")?.unwrap_or_default(),
        };
        Ok(given.iter().any(|given| audiences.contains(given)))
    }
}

fn seconds(raw: &[u8]) -> Option<f64> {
    if !raw.first()?.is_ascii_digit() {
        return None;
    }
    let seconds: f64 = std::str::from_utf8(raw).ok()?.parse().ok()?;
    (0.0..=LAST_SECOND).contains(&seconds).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_plain_number_within_reason() {
        assert_eq!(seconds(b"1700000000"), Some(1_700_000_000.0));
        assert_eq!(seconds(b"1.7e9"), Some(1_700_000_000.0));
        assert_eq!(seconds(b"0.5"), Some(0.5));
        for bad in
            ["\"1700000000\"", "null", "true", "-1", "-0", "1e400", "253402300800", "1700000000000", "[1]"]
        {
            assert_eq!(seconds(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_a_caller_reads_holds_nothing_of_the_token() {
        for refusal in [
            Refusal::Missing,
            Refusal::Malformed("not three parts"),
            Refusal::Invalid("x"),
            Refusal::Expired,
            Refusal::NotYet,
        ] {
            let fault = Fault::from(refusal);
            assert_eq!(fault.kind(), Kind::Unauthenticated);
            assert_eq!(fault.get_code(), Some("invalid_api_key"));
        }
    }

    #[test]
    fn an_oversized_token_is_refused_before_it_is_read() {
        let token = format!("{}.e30.x", "a".repeat(MAX_LEN));
        assert_eq!(Unverified::parse(&token).err(), Some(Refusal::Malformed("longer than 16 KiB")));
    }
}
