//! What all pages for people have in common, and what browsers say of where they come from. The pages are without scripts, so that
//! nothing can be run in them; everything that somebody wrote is escaped; nobody frames them, keeps them or is told of them by the
//! next site.

use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::secret::Secret;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f4f5f7;color:#1c1e21}\
main{max-width:30rem;margin:10vh auto;padding:2rem;background:#fff;border-radius:12px;box-shadow:0 2px 12px #0002}\
h1{font-size:1.3rem;margin-top:0}h2{font-size:1.05rem;margin:1.5rem 0 .3rem}.quiet{color:#5a6068;font-size:.9rem}\
button{font:inherit;padding:.5rem 1.2rem;border-radius:8px;border:1px solid #8a9099;background:#fff;cursor:pointer;margin:.15rem 0}\
button.yes{background:#1a56db;border-color:#1a56db;color:#fff}form{display:inline}li{margin:.4rem 0}\
@media(prefers-color-scheme:dark){body{background:#16181b;color:#e8eaed}main{background:#22252a}button{background:#22252a;color:inherit}a{color:#8ab4f8}.quiet{color:#a3a9b1}}";

/// Text as it stands in HTML, in an element or in a quoted attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char => out.push(char),
        }
    }
    out
}

/// Headers of everything that a browser with cookies gets here.
pub(super) fn guarded() -> HeaderMap {
    guarded_with(&format!("style-src '{}'", source_of(STYLE)))
}

/// A script or a style as a policy names it.
pub(super) fn source_of(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// The same, where other things than our style may be on the page: what `more` of the policy says.
pub(super) fn guarded_with(more: &str) -> HeaderMap {
    let policy =
        format!("default-src 'none'; {more}; form-action 'self'; frame-ancestors 'none'; base-uri 'none'");
    let mut headers = HeaderMap::new();
    let mut put = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    put(header::CACHE_CONTROL, "no-store");
    put(header::PRAGMA, "no-cache");
    put(header::REFERRER_POLICY, "no-referrer");
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(header::X_FRAME_OPTIONS, "DENY");
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers
}

/// Whether it is a person who looks, and not a program.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// A whole page; `body` is HTML.
pub(super) fn page(status: StatusCode, title: &str, body: &str) -> Response {
    document(status, "", title, body)
}

/// A page with something more in its head.
fn document(status: StatusCode, head: &str, title: &str, body: &str) -> Response {
    let title = escaped(title);
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\">{head}<title>{title}</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    let mut headers = guarded();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    (status, headers, html).into_response()
}

/// A pop-up closes itself; a window that a person opened stays.
const CLOSE: &str = "if(window.opener){setTimeout(function(){window.close()},800)}";

/// As [`page`], at the end of a way that may have begun in a pop-up: the one page with a script, and with this one alone.
pub(super) fn closing(status: StatusCode, title: &str, body: &str) -> Response {
    let mut response = page(status, title, &format!("{body}<script>{CLOSE}</script>"));
    let headers = response.headers_mut();
    let policy = headers.get(header::CONTENT_SECURITY_POLICY).and_then(|policy| policy.to_str().ok());
    let policy = format!("{}; script-src '{}'", policy.unwrap_or("default-src 'none'"), source_of(CLOSE));
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Something that cannot go on, in words for a person.
pub(super) fn trouble(status: StatusCode, why: &str) -> Response {
    page(status, "This cannot go on", &format!("<p>{}</p>", escaped(why)))
}

/// To another page, by GET whatever it was before: never 307, which would carry a form along (RFC 9700, 4.12).
pub(super) fn go(to: &Secret) -> Response {
    let mut headers = guarded();
    let Ok(mut location) = HeaderValue::from_str(to.expose()) else {
        return trouble(StatusCode::INTERNAL_SERVER_ERROR, "The way back could not be written.");
    };
    location.set_sensitive(true);
    headers.insert(header::LOCATION, location);
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// The same, as the answer to a form, where it leads to somebody else's site: a page that leads on by itself. Browsers hold each step of
/// a redirect that a form began to the policy of the form's page, and where an app's callback or a provider leads on to is
/// not known here. A program, which follows no page, gets the redirect.
pub(super) fn onward(headers: &HeaderMap, to: &Secret) -> Response {
    if !wants_page(headers) {
        return go(to);
    }
    let to = escaped(to.expose());
    let head = format!("<meta http-equiv=\"refresh\" content=\"0;url={to}\">");
    document(StatusCode::OK, &head, "One moment", &format!("<p><a href=\"{to}\">Go on</a></p>"))
}

/// Whether a request with cookies comes from a page of somebody else's. Browsers say where it comes from; what says nothing is
/// no browser of today, and has no cookies but those that it was given on purpose. `null` is what an old one says of a form on a
/// page that tells nobody of itself, as ours: there the form's ticket decides.
pub(super) fn is_foreign(headers: &HeaderMap, issuer: &str, has_ticket: bool) -> bool {
    match (headers.get("sec-fetch-site"), headers.get(header::ORIGIN)) {
        (Some(site), _) => site != "same-origin",
        (None, Some(origin)) => origin != issuer && !(has_ticket && origin == "null"),
        (None, None) => false,
    }
}

/// Whether the browser says that this is not a page being opened: a picture, a frame, a script's request.
pub(super) fn is_embedded(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-dest").is_some_and(|what| what != "document")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_somebody_wrote_is_markup() {
        let evil = "<script>alert(1)</script>\"'&";
        assert_eq!(escaped(evil), "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;");
    }

    #[test]
    fn the_style_is_the_one_that_the_policy_names() {
        let headers = guarded();
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'self';"));
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"));
        assert!(!STYLE.contains('<'));
    }
}
