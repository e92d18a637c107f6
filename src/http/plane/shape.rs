//! In which shape an error is told. By path, in one place: a client of one API knows one shape, and whoever finds out that something is
//! wrong (the router, whoever reads the body, a handler) must not make a difference.

use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, PRAGMA, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use serde_json::json;

use super::Plane;
use super::browser::guarded;
use crate::fault::{Fault, Kind};
use crate::http::reply::{Refusal, allow_any, note, refusal};

/// Where providers send browsers back to.
pub(super) const CALLBACK: &str = "/api/v1/oauth/callback";
pub(super) const HUGGING_FACE: &str = "/huggingface-callback";

/// How an error looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// OpenAI's.
    OpenAi,
    /// `{"code", "message", "data"}`.
    Envelope,
    /// The same where browsers come by: kept by nobody, framed by nobody, told to nobody.
    Guarded,
    /// `{"success", "message", "data"}`.
    Apps,
    /// `{"error", "error_description"}` (RFC 6749, 5.2), for pages of any origin.
    OAuth,
}

/// Everything at or below a path has this shape, unless a line above says otherwise.
const BELOW: [(&str, Shape); 9] = [
    (CALLBACK, Shape::Guarded),
    (HUGGING_FACE, Shape::Guarded),
    ("/api/v1/oauth", Shape::Envelope),
    ("/auth", Shape::Guarded),
    ("/browser", Shape::Guarded),
    ("/api/oauth_apps", Shape::Apps),
    ("/api/oauth2/token", Shape::OAuth),
    ("/api/oauth2/revoke", Shape::OAuth),
    ("/api/oauth2/introspect", Shape::OAuth),
];

impl Shape {
    /// The one of a path, as it was asked for.
    pub fn of(path: &str) -> Self {
        let is_at_or_below =
            |top: &str| path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        match path {
            // Not `/account/apps`, which is the provider's.
            "/account" => Self::Guarded,
            _ => BELOW.iter().find(|(top, _)| is_at_or_below(top)).map_or(Self::OpenAi, |(_, shape)| *shape),
        }
    }

    /// A fault in this shape, ready to be sent.
    pub fn refusal(self, fault: &Fault) -> Refusal {
        let mut refusal = refusal(fault);
        let why = fault.public();
        refusal.body = match self {
            Self::OpenAi => return refusal,
            Self::Envelope | Self::Guarded => Bytes::from(
                json!({"code": refusal.status.as_u16(), "message": why, "data": null}).to_string(),
            ),
            Self::Apps => Bytes::from(json!({"success": false, "message": why, "data": null}).to_string()),
            Self::OAuth => {
                let word = word_of(refusal.status.as_u16());
                Bytes::from(json!({"error": word, "error_description": why}).to_string())
            }
        };
        match self {
            Self::Guarded => refusal.headers.extend(guarded()),
            Self::OAuth => keep_from_caches(&mut refusal.headers),
            Self::OpenAi | Self::Envelope | Self::Apps => {}
        }
        refusal
    }

    /// The same as axum sends it.
    pub(super) fn answer(self, fault: &Fault) -> Response {
        let refusal = self.refusal(fault);
        (refusal.status, refusal.headers, refusal.body).into_response()
    }
}

/// What RFC 6749 has for a status.
const fn word_of(status: u16) -> &'static str {
    match status {
        429 | 503 => "temporarily_unavailable",
        500.. => "server_error",
        _ => "invalid_request",
    }
}

/// What is for one app alone, whatever its page's origin.
pub(super) fn keep_from_caches(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    allow_any(headers);
}

/// What stands in a path where a route has a name in braces. As axum's own, but that what is no text is refused in the path's shape.
pub(super) struct Segment(pub String);

impl FromRequestParts<Plane> for Segment {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, plane: &Plane) -> Result<Self, Response> {
        match Path::<String>::from_request_parts(parts, plane).await {
            Ok(Path(segment)) => Ok(Self(segment)),
            Err(_) => {
                let fault = Fault::client(Kind::BadRequest, "What stands in the path is no text in UTF-8.");
                note(&fault, None, &plane.gateway.metrics);
                Err(Shape::of(parts.uri.path()).answer(&fault))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_begins_alike_is_something_else() {
        for (path, shape) in [
            ("/api/v1/oauth", Shape::Envelope),
            ("/api/v1/oauth/callback", Shape::Guarded),
            ("/api/v1/oauth/callback/google", Shape::Guarded),
            ("/api/v1/oauth/callbackx", Shape::Envelope),
            ("/huggingface-callback/html", Shape::Guarded),
            ("/api/v1/oauthx", Shape::OpenAi),
            ("/account/apps", Shape::OpenAi),
            ("/authx", Shape::OpenAi),
            ("/api/oauth2/tokens", Shape::OpenAi),
            ("/api/oauth2/userinfo", Shape::OpenAi),
            ("/", Shape::OpenAi),
            ("", Shape::OpenAi),
        ] {
            assert_eq!(Shape::of(path), shape, "{path}");
        }
    }

    #[test]
    fn every_kind_of_failure_has_a_word_of_oauths() {
        for kind in Kind::ALL {
            let told = Shape::OAuth.refusal(&Fault::gateway(kind, "x"));
            let body: serde_json::Value = serde_json::from_slice(&told.body).expect("JSON");
            let expected = match told.status.as_u16() {
                429 | 503 => "temporarily_unavailable",
                400..500 => "invalid_request",
                _ => "server_error",
            };
            assert_eq!(body["error"], expected, "{kind:?}");
        }
    }
}
