//! What the operator says about OAuth.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::row::Provider;

/// Longest place that a browser may be sent to afterwards, in bytes: as long as a path that is taken at all.
const MAX_PLACE: usize = 8 * 1024;

/// Providers, and where we are reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where browsers reach the gateway, without a slash at the end: callbacks and links are made of it. `None`: this machine
    /// only, by the listener's own address.
    pub public_url: Option<Url>,
    /// How long a sign-in may take.
    pub state_ttl: Duration,
    /// Origins that `redirect_after` may lead to, beside paths of our own.
    pub return_to: Vec<String>,
    /// Every provider: the built-in ones, as overridden, and the file's own. Those without a client are not offered.
    pub providers: Vec<Arc<Provider>>,
}

impl Settings {
    /// The provider of that name, if we are a client of it.
    pub fn provider(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| provider.name == name && provider.client.is_some())
    }

    /// The provider through which accounts of a platform are added.
    pub fn for_platform(&self, platform: &str) -> Option<&Arc<Provider>> {
        let fits = |provider: &&Arc<Provider>| {
            provider.client.is_some()
                && provider.account.as_ref().is_some_and(|account| account.platform == platform)
        };
        self.providers.iter().find(fits)
    }

    /// `given` as a place that a browser may be sent to afterwards: a path of ours, or a page of an origin that is listed.
    /// Everything else is nowhere: an open redirect lends our name to whoever wants it.
    pub fn place(&self, given: &str) -> Option<String> {
        let is_plain = !given.contains(|c: char| c.is_control() || c == '\\' || c.is_whitespace());
        if !is_plain || given.len() > MAX_PLACE {
            return None;
        }
        if given.starts_with('/') {
            // `//host` is another host to a browser, and so may be what follows an encoded slash.
            let rest = given.get(1..).unwrap_or_default().to_ascii_lowercase();
            let is_ours = !rest.starts_with('/') && !rest.starts_with("%2f") && !rest.starts_with("%5c");
            return is_ours.then(|| given.to_owned());
        }
        let url = Url::parse(given).ok()?;
        let is_listed = self.return_to.iter().any(|origin| *origin == url.origin().ascii_serialization());
        // A `blob:` has the origin of what is in it.
        let is_web = matches!(url.scheme(), "https" | "http");
        let is_good = is_listed && is_web && url.username().is_empty() && url.password().is_none();
        is_good.then(|| url.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_anywhere_else() {
        let settings = Settings {
            public_url: None,
            state_ttl: Duration::from_secs(600),
            return_to: vec!["https://console.example".to_owned()],
            providers: Vec::new(),
        };
        for good in ["/", "/console?x=1#y", "https://console.example/done", "https://console.example"] {
            assert!(settings.place(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "//evil",
            "//evil.example/x",
            "/\\evil",
            "\\\\evil",
            "/%2fevil",
            "/%2Fevil",
            "/%5cevil",
            "/ /evil",
            "/\tevil",
            "/\r\nset-cookie: a=b",
            "https://evil.example",
            "https://console.example.evil",
            "https://console.example@evil",
            "https://user@console.example/",
            "https://user:pw@console.example/",
            "http://console.example/",
            "https://console.example:8443/",
            "javascript:alert(1)",
            "data:text/html,x",
            "console.example",
            "https:console.example.evil",
            "https:///console.example.evil",
            "HTTPS://EVIL",
            "ftp://console.example",
            " https://console.example",
            "///evil",
            "https://console.example\\@evil",
            "//console.example@evil",
            "/\u{85}/evil",
            "?next=//evil",
            "#x",
            "./x",
            "../x",
            "https://xn--console.example/",
            "https://console.example%2f@evil",
            "https://console.example%00.evil",
            "file:///etc/passwd",
            "blob:https://console.example/x",
        ] {
            assert_eq!(settings.place(bad), None, "{bad:?}");
        }
    }
}
