//! Where the browser may go. Why: it runs in the gateway's network, and somebody elsewhere sees its pages; a link to an address inside
//! must not show them what is there.
//!
//! A page may be opened from hosts of the site's row only. What it embeds (captchas are frames of somebody else's) may come from any
//! named host over HTTPS, which nothing inside can pass for.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc;
use url::{Host, Url};

use super::line::{Event, Line};
use crate::browser::site::Site;

/// Keeps the gate for as long as the browser lives. The hosts of pages that were turned away go to `turned_away`.
pub(super) async fn keep(
    line: Line,
    site: Arc<Site>,
    mut events: mpsc::Receiver<Event>,
    turned_away: mpsc::Sender<String>,
) {
    let mut pages: HashSet<String> = HashSet::new();
    while let Some(event) = events.recv().await {
        let text =
            |path: &str| event.params.pointer(path).and_then(|value| value.as_str()).unwrap_or_default();
        match event.method.as_str() {
            // A page's own frame has the page's id.
            "Target.targetCreated" => drop(pages.insert(text("/targetInfo/targetId").to_owned())),
            "Target.targetDestroyed" => drop(pages.remove(text("/targetId"))),
            "Fetch.requestPaused" => {
                let request = text("/requestId");
                let url = Url::parse(text("/request/url")).ok();
                let is_page = pages.contains(text("/frameId"));
                if url.as_ref().is_some_and(|url| is_let_out(&site, url, is_page)) {
                    line.tell(None, "Fetch.continueRequest", json!({"requestId": request}));
                    continue;
                }
                let refusal = json!({"requestId": request, "errorReason": "BlockedByClient"});
                line.tell(None, "Fetch.failRequest", refusal);
                if let Some(host) = url.as_ref().and_then(Url::host_str) {
                    drop(turned_away.try_send(host.to_owned()));
                }
            }
            _ => {}
        }
    }
}

/// Whether a document at this address may be fetched: as a page, or into one.
fn is_let_out(site: &Site, url: &Url, is_page: bool) -> bool {
    let is_named = matches!(url.host(), Some(Host::Domain(name)) if name.contains('.'));
    site.has(url) || (!is_page && url.scheme() == "https" && is_named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::browser::{Row, SourceRow};

    #[test]
    fn pages_are_the_sites_and_frames_are_of_the_public() {
        let row = Row {
            login_url: Some("https://chat.example.com/login".into()),
            credential: SourceRow { cookies: vec!["c".into()], ..SourceRow::default() },
            ..Row::default()
        };
        let site = Site::compile("example", row).expect("right");
        let is = |url: &str, is_page| is_let_out(&site, &Url::parse(url).expect("a URL"), is_page);
        assert!(is("https://chat.example.com/x", true) && is("https://chat.example.com/x", false));
        assert!(is("https://captcha.example.net/frame", false));
        assert!(!is("https://captcha.example.net/frame", true));
        for inside in [
            "http://169.254.169.254/latest/meta-data",
            "https://169.254.169.254/",
            "http://localhost:9090/metrics",
            "https://localhost/",
            "https://[::1]/",
            "http://captcha.example.net/frame",
            "file:///etc/passwd",
            "https://2130706433/",
        ] {
            assert!(!is(inside, false) && !is(inside, true), "{inside}");
        }
    }
}
