//! The few pages that people see. Without scripts, so that nothing can be run in them; everything that somebody wrote is
//! escaped; nobody frames them, keeps them or is told of them by the next site.

use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::gateway::provider::{Asked, GrantedApp};
use crate::secret::Secret;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f4f5f7;color:#1c1e21}\
main{max-width:30rem;margin:10vh auto;padding:2rem;background:#fff;border-radius:12px;box-shadow:0 2px 12px #0002}\
h1{font-size:1.3rem;margin-top:0}.quiet{color:#5a6068;font-size:.9rem}\
button{font:inherit;padding:.5rem 1.2rem;border-radius:8px;border:1px solid #8a9099;background:#fff;cursor:pointer}\
button.yes{background:#1a56db;border-color:#1a56db;color:#fff}form{display:inline}li{margin:.4rem 0}\
@media(prefers-color-scheme:dark){body{background:#16181b;color:#e8eaed}main{background:#22252a}button{background:#22252a;color:inherit}.quiet{color:#a3a9b1}}";

/// Text as it stands in HTML, in an element or in a quoted attribute.
pub fn escaped(text: &str) -> String {
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

/// Headers of everything that a browser with cookies gets here. `form_action`: where forms may lead besides this site.
pub(super) fn guarded(form_action: &str) -> HeaderMap {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self' {form_action}; frame-ancestors 'none'; base-uri 'none'"
    );
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

fn page(status: StatusCode, form_action: &str, title: &str, body: &str) -> Response {
    let title = escaped(title);
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    let mut headers = guarded(form_action);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    (status, headers, html).into_response()
}

/// Something that cannot go on, in words for a person.
pub(super) fn trouble(status: StatusCode, why: &str) -> Response {
    page(status, "", "This cannot go on", &format!("<p>{}</p>", escaped(why)))
}

/// To another page, by GET whatever it was before: never 307, which would carry a form along (RFC 9700, 4.12).
pub(super) fn go(to: &Secret) -> Response {
    let mut headers = guarded("");
    let Ok(mut location) = HeaderValue::from_str(to.expose()) else {
        return trouble(StatusCode::INTERNAL_SERVER_ERROR, "The way back could not be written.");
    };
    location.set_sensitive(true);
    headers.insert(header::LOCATION, location);
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// The question.
pub(super) fn consent(asked: &Asked, name: Option<&str>) -> Response {
    let app = escaped(&asked.app.name);
    let scopes: Vec<String> =
        asked.scopes.iter().map(|scope| format!("<li>{}</li>", escaped(scope.told()))).collect();
    let description = match asked.app.description.as_str() {
        "" => String::new(),
        text => format!("<p class=\"quiet\">{app} says of itself: {}</p>", escaped(text)),
    };
    let signed_in =
        name.map(|name| format!("<p class=\"quiet\">You are signed in as {}.</p>", escaped(name)));
    let body = format!(
        "<p><b>{app}</b> wants to:</p><ul>{scopes}</ul>{description}{signed_in}\
         <p class=\"quiet\">Either answer sends you to <b>{goes_to}</b>. You can take this back at any time under \
         <a href=\"/account/apps\">your apps</a>.</p>\
         <form method=\"post\" action=\"/api/oauth2/authorize\">\
         <input type=\"hidden\" name=\"ticket\" value=\"{ticket}\">\
         <button class=\"yes\" name=\"answer\" value=\"yes\">Allow</button> \
         <button name=\"answer\" value=\"no\">Do not allow</button></form>",
        scopes = scopes.concat(),
        signed_in = signed_in.unwrap_or_default(),
        goes_to = escaped(&asked.goes_to),
        ticket = escaped(asked.ticket.expose()),
    );
    page(StatusCode::OK, &asked.form_action, &format!("{} asks for access", asked.app.name), &body)
}

/// The apps that somebody let in.
pub(super) fn apps(granted: &[GrantedApp], ticket: &Secret, name: Option<&str>) -> Response {
    let mut body = match name {
        Some(name) => format!("<p class=\"quiet\">You are signed in as {}.</p>", escaped(name)),
        None => String::new(),
    };
    if granted.is_empty() {
        body.push_str("<p>You have let in no app.</p>");
    }
    for app in granted {
        let scopes: Vec<&str> = app.scope.iter().map(|scope| scope.told()).collect();
        body.push_str(&format!(
            "<p><b>{}</b><br><span class=\"quiet\">{}<br>since {}</span></p>\
             <form method=\"post\" action=\"/account/apps\">\
             <input type=\"hidden\" name=\"ticket\" value=\"{}\">\
             <input type=\"hidden\" name=\"client_id\" value=\"{}\">\
             <button>Take back</button></form>",
            escaped(&app.name),
            escaped(&scopes.join("; ")),
            escaped(&day(app.granted_at)),
            escaped(ticket.expose()),
            escaped(&app.client_id),
        ));
    }
    page(StatusCode::OK, "", "Apps that you let in", &body)
}

fn day(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or_else(|| "long ago".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
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
        let headers = guarded("https://app.example");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(
            policy.contains("frame-ancestors 'none'")
                && policy.contains("form-action 'self' https://app.example;")
        );
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"));
        assert!(!STYLE.contains('<'));
    }
}
