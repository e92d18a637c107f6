//! Where the browser may go. Why: it runs in the gateway's network, and somebody elsewhere sees its pages; a link to an address inside
//! must not show them what is there.
//!
//! A page may be opened from hosts of the site's row only. What it embeds (captchas are frames of somebody else's) and whatever its
//! scripts ask for may come from any named host over HTTPS, which nothing inside can pass for. What is no request that the protocol
//! shows (WebSockets, calls) is kept from this machine and from bare addresses by names that are not found: see [`not_found`]. A public name
//! may still lead inside: Chromium itself (from 142 on) then asks for a permission that nobody gives.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc;
use url::{Host, Url};

use super::line::{Event, Line};
use crate::browser::site::Site;

/// Endings of names that are of a network's own.
const INSIDE: [&str; 4] = [".localhost", ".local", ".internal", ".home.arpa"];

/// Names of this machine and of a network's own, and every bare address (they end in a digit, or have a `:`), as Chromium's rules for names
/// spell them.
const HERE: [&str; 16] = [
    "localhost",
    "*.localhost",
    "*.local",
    "*.internal",
    "*.home.arpa",
    "*:*",
    "*0",
    "*1",
    "*2",
    "*3",
    "*4",
    "*5",
    "*6",
    "*7",
    "*8",
    "*9",
];

/// A document that was not fetched.
#[derive(Debug)]
pub(super) struct TurnedAway {
    pub host: String,
    /// The page that wanted to go there; a frame in one otherwise.
    pub page: Option<String>,
}

/// Keeps the gate for as long as the browser lives. Documents that were turned away go to `turned_away`.
pub(super) async fn keep(
    line: Line,
    site: Arc<Site>,
    mut events: mpsc::Receiver<Event>,
    turned_away: mpsc::Sender<TurnedAway>,
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
                let is_document = text("/resourceType") == "Document";
                let is_page = is_document && pages.contains(text("/frameId"));
                let is_own = |url: &Url| !is_document && matches!(url.scheme(), "blob" | "data");
                if url.as_ref().is_some_and(|url| is_own(url) || is_let_out(&site, url, is_page)) {
                    line.tell(None, "Fetch.continueRequest", json!({"requestId": request}));
                    continue;
                }
                // Where it was to be a page, the one before stays.
                let reason = if is_page { "Aborted" } else { "BlockedByClient" };
                line.tell(None, "Fetch.failRequest", json!({"requestId": request, "errorReason": reason}));
                if let Some(host) = url.as_ref().filter(|_| is_document).and_then(Url::host_str) {
                    let page = is_page.then(|| text("/frameId").to_owned());
                    drop(turned_away.try_send(TurnedAway { host: host.to_owned(), page }));
                }
            }
            // In a box that nobody elsewhere sees. A page that was asked for without shows what it has to say.
            "Fetch.authRequired" => {
                let answer = json!({"response": "CancelAuth"});
                let answer = json!({"requestId": text("/requestId"), "authChallengeResponse": answer});
                line.tell(None, "Fetch.continueWithAuth", answer);
            }
            _ => {}
        }
    }
}

/// Whether what is at this address may be fetched: as a page, or into one.
fn is_let_out(site: &Site, url: &Url, is_page: bool) -> bool {
    site.has(url) || (!is_page && url.scheme() == "https" && is_public(url))
}

/// Whether this is a name that a stranger can have.
fn is_public(url: &Url) -> bool {
    let Some(Host::Domain(name)) = url.host() else { return false };
    let name = name.trim_end_matches('.');
    name.contains('.') && !INSIDE.iter().any(|ending| name.ends_with(ending))
}

/// Chromium's rules for names, of which the first that fits counts: nothing inside is found, but where a site is there itself.
pub(super) fn not_found(sites: &[Arc<Site>]) -> String {
    let mut rules = Vec::new();
    for (name, port) in sites.iter().flat_map(|site| site.host_names()) {
        let is_here = name == "localhost" || matches!(Host::parse(&name), Ok(Host::Ipv4(_) | Host::Ipv6(_)));
        match (is_here, port) {
            // Not its other ports.
            (true, Some(port)) => rules.push(format!("MAP {name}:{port} {name}:{port}")),
            (true, None) => rules.extend([80, 443].map(|port| format!("MAP {name}:{port} {name}:{port}"))),
            (false, _) => rules.push(format!("EXCLUDE {name}")),
        }
    }
    rules.extend(HERE.iter().map(|name| format!("MAP {name} ~NOTFOUND")));
    rules.join(",")
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
            "https://localhost./",
            "https://a.localhost/",
            "https://metadata.google.internal/",
            "https://printer.local./",
            "wss://captcha.example.net/",
        ] {
            assert!(!is(inside, false) && !is(inside, true), "{inside}");
        }
    }

    #[test]
    fn this_machine_has_no_name_but_a_sites() {
        let site = |login: &str, hosts: &[&str]| {
            let row = Row {
                login_url: Some(login.into()),
                hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
                credential: SourceRow { cookies: vec!["c".into()], ..SourceRow::default() },
                ..Row::default()
            };
            Arc::new(Site::compile("example", row).expect("right"))
        };
        let begins = |sites: &[Arc<Site>]| {
            let rules = not_found(sites);
            let (own, rest) =
                rules.split_once("MAP localhost ~NOTFOUND,MAP *.localhost ~NOTFOUND,").expect("always there");
            assert!(
                rest.contains("MAP *.local ~NOTFOUND,")
                    && rest.contains("MAP *:* ~NOTFOUND,MAP *0 ~NOTFOUND,"),
                "{rest}"
            );
            own.to_owned()
        };
        let named = [site("https://a.example/", &["*.b.example:8443"])];
        assert_eq!(begins(&named), "EXCLUDE a.example,EXCLUDE *.b.example,");
        let here = [site("http://127.0.0.1:1/", &[]), site("http://[::1]/", &[])];
        assert_eq!(
            begins(&here),
            "MAP 127.0.0.1:1 127.0.0.1:1,MAP [::1]:80 [::1]:80,MAP [::1]:443 [::1]:443,"
        );
        assert_eq!(begins(&[]), "");
    }
}
