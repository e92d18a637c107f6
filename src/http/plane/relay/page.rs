//! The pages of a sign-in in a browser: the one on which its person uses it, and the one that asks who they are. One script and one style,
//! ours, named by their hashes; nothing of anybody else's; everything that somebody wrote is escaped; nobody frames or keeps them.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::super::browser::{escaped, guarded_with, source_of};
use crate::gateway::onboard::browsing::Sitting;
use crate::secret::Secret;

const SCRIPT: &str = include_str!("relay.js");
const STYLE: &str = include_str!("relay.css");

/// Headers of these pages. `socket`: where their script may connect to, if it may.
pub(super) fn guarded(socket: &str) -> HeaderMap {
    let socket = if socket.is_empty() { "'none'" } else { socket };
    let (script, style) = (source_of(SCRIPT), source_of(STYLE));
    let mut headers =
        guarded_with(&format!("script-src '{script}'; style-src '{style}'; connect-src {socket}"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers
}

fn page(status: StatusCode, socket: &str, title: &str, body: &str) -> Response {
    let title = escaped(title);
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body>{body}</body></html>"
    );
    (status, guarded(socket), html).into_response()
}

/// The page on which a person uses the browser.
pub(super) fn relay(sitting: &Sitting, ticket: &Secret, socket: &str) -> Response {
    let title = escaped(&sitting.site.title);
    let body = format!(
        "<header><h1>Sign in to {title}</h1>\
         <button id=\"back\" aria-label=\"Back\" title=\"Back\"{hidden}></button><p id=\"where\"><span id=\"lock\" title=\"The connection to the site is secure\" hidden></span><span id=\"host\">…</span></p>\
         <span class=\"gap\"></span><span id=\"left\" role=\"timer\"></span>\
         <button id=\"type\"{hidden}>Keyboard</button><button id=\"cancel\">Cancel</button></header>\
         <main id=\"main\" data-ticket=\"{ticket}\" data-relayed=\"{relayed}\" data-state=\"opening\">\
         <div id=\"view\"><canvas id=\"page\" width=\"1\" height=\"1\" role=\"img\" aria-label=\"The sign-in page of {title}\"></canvas>\
         <textarea id=\"keys\" aria-label=\"What you type goes to the page\" autocapitalize=\"off\" autocomplete=\"off\" autocorrect=\"off\" \
         spellcheck=\"false\"></textarea></div>\
         <div id=\"cover\" role=\"status\" aria-live=\"polite\"><div id=\"mark\"></div><h2 id=\"title\">Opening the page…</h2>\
         <p id=\"text\"></p><a id=\"next\" class=\"button\" hidden>Go on</a></div>\
         <p id=\"notice\" role=\"alert\" hidden></p>\
         <div id=\"box\" role=\"alertdialog\" aria-labelledby=\"question\" hidden><div><p id=\"question\"></p><input id=\"answer\" \
         aria-label=\"Answer\" hidden><div class=\"row\"><button id=\"no\">Cancel</button><button id=\"yes\" class=\"yes\">OK</button></div></div></div>\
         <noscript><p>This page needs JavaScript.</p></noscript></main>\
         <footer>A browser of the gateway's, opened for you. What you type goes to the site above and is not kept. What the site leaves once \
         you are signed in is kept, encrypted, as your account “{name}”.<span id=\"hint\"> F6 takes you from the page to the buttons.</span></footer>\
         <script>{SCRIPT}</script>",
        hidden = if sitting.is_relayed { "" } else { " hidden" },
        ticket = escaped(ticket.expose()),
        relayed = sitting.is_relayed,
        name = escaped(&sitting.account_name),
    );
    page(StatusCode::OK, socket, &format!("Sign in to {}", sitting.site.title), &body)
}

/// Somebody without a seat.
pub(super) fn who_are_you(sitting: &Sitting, wrong: Option<&str>) -> Response {
    let wrong = wrong.map(|why| format!("<p class=\"wrong\" role=\"alert\">{}</p>", escaped(why)));
    let body = format!(
        "<main class=\"plain\"><h1>Who are you?</h1>\
         <p>A sign-in is open here, begun from somewhere else. If you began it, show the token or key that you began it with.</p>{wrong}\
         <form method=\"post\" action=\"/browser/{id}\"><input type=\"password\" name=\"token\" aria-label=\"Token or key\" \
         placeholder=\"Token or key of this gateway\" autocomplete=\"off\" autofocus required><button class=\"yes\">Go on</button></form>\
         <p class=\"quiet\">If you did not begin it, close this page: somebody wants you to sign in for them.</p></main>",
        wrong = wrong.unwrap_or_default(),
        id = escaped(&sitting.id),
    );
    page(StatusCode::FORBIDDEN, "", "Who are you?", &body)
}

/// There is no such sitting (any more).
pub(super) fn gone() -> Response {
    let body = "<main class=\"plain\"><h1>Nothing is open here</h1><p>This sign-in is over, or was begun at another gateway. Begin again \
                where you began.</p></main>";
    page(StatusCode::GONE, "", "Nothing is open here", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_lets_in_nothing_but_our_own() {
        let headers = guarded("wss://weir.example.com");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(!policy.contains("unsafe") && policy.contains("connect-src wss://weir.example.com;"));
        assert!(policy.contains("frame-ancestors 'none'") && policy.starts_with("default-src 'none';"));
        // Both stand in the page as they are.
        assert!(!SCRIPT.contains("</") && !STYLE.contains('<'));
    }
}
