//! Where a token says that it is good (`resource_url`, Qwen's). The account's token goes there with every request, so the answer
//! of one server does not decide alone: the host must be one that the provider's row lists. What is kept is the address as our
//! own parser reads it, so that nobody further on reads another host out of it.

use url::Url;

use super::row::Provider;

use crate::web_url::{has_user, is_loopback};

/// Longest address, in bytes.
const MAX: usize = 512;

/// What is below every such address.
const VERSION: &str = "/v1";

impl Provider {
    /// The base URL that `given` stands for, if a token of this provider's may be sent there: a bare host, or an https address, of
    /// a listed host and the usual port. On this machine, where that is listed, it may be plain HTTP and have a port.
    pub fn resource(&self, given: &str) -> Option<String> {
        if given.len() > MAX || !given.bytes().all(|byte| byte.is_ascii_graphic()) || given.contains('\\') {
            return None;
        }
        let whole = if given.contains("://") { given.to_owned() } else { format!("https://{given}") };
        let url = Url::parse(&whole).ok()?;
        let is_plain = !has_user(&url) && url.query().is_none() && url.fragment().is_none();
        let is_local = is_loopback(&url);
        let has_way = match url.scheme() {
            "https" => is_local || url.port().is_none(),
            "http" => is_local,
            _ => false,
        };
        let host = url.host_str().filter(|_| is_plain && has_way)?;
        if !self.resource_hosts.iter().any(|known| is_below(known, host)) {
            return None;
        }
        let base = url.as_str().trim_end_matches('/');
        Some(if base.ends_with(VERSION) { base.to_owned() } else { format!("{base}{VERSION}") })
    }
}

/// Whether `host` is the one that is listed, or below it where `*.` stands in front.
fn is_below(listed: &str, host: &str) -> bool {
    match listed.strip_prefix("*.") {
        Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => listed == host,
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Row;
    use super::*;

    fn provider(hosts: &[&str]) -> Provider {
        let row = Row {
            token_url: Some("https://t.example/token".to_owned()),
            resource_hosts: Some(hosts.iter().map(|&host| host.to_owned()).collect()),
            ..Row::default()
        };
        Provider::compile("made-up", row).unwrap()
    }

    #[test]
    fn a_token_goes_to_listed_hosts_and_nowhere_else() {
        let provider = provider(&["*.qwen.ai", "*.aliyuncs.com", "exact.example"]);
        for (given, wanted) in [
            ("portal.qwen.ai", "https://portal.qwen.ai/v1"),
            ("https://portal.qwen.ai/", "https://portal.qwen.ai/v1"),
            ("PORTAL.qwen.ai:443", "https://portal.qwen.ai/v1"),
            (
                "https://dashscope.aliyuncs.com/compatible-mode/v1",
                "https://dashscope.aliyuncs.com/compatible-mode/v1",
            ),
            ("exact.example/x", "https://exact.example/x/v1"),
        ] {
            assert_eq!(provider.resource(given).as_deref(), Some(wanted), "{given}");
        }
        for bad in [
            "",
            "evil.example",
            "qwen.ai",
            ".qwen.ai",
            "evilqwen.ai",
            "portal.qwen.ai.evil.example",
            "portal.qwen.ai@evil.example",
            "https://portal.qwen.ai:x@evil.example",
            "evil.example/portal.qwen.ai",
            "evil.example#.qwen.ai",
            "evil.example?.qwen.ai",
            "evil.example\\.qwen.ai",
            "https:\\\\evil.example\\portal.qwen.ai",
            "evil.example%2f.qwen.ai",
            "http://portal.qwen.ai",
            "ftp://portal.qwen.ai",
            "file:///etc/passwd",
            "gopher://portal.qwen.ai",
            "javascript://portal.qwen.ai/%0aalert(1)",
            "https://portal.qwen.ai:22",
            "portal.qwen.ai:8443",
            "portal.qwen.ai?x=y",
            "portal.qwen.ai#x",
            "portal.qwen.ai.",
            "portal.qwen.ai\r\nhost: evil.example",
            "portal.qwen.ai evil.example",
            "sub.exact.example",
            "127.0.0.1",
            "http://127.0.0.1:6379",
            "https://2130706433",
            "[::1]",
            "169.254.169.254",
            "//evil.example",
            "https:evil.example",
            "https:///evil.example",
            "\u{ff50}ortal.qwen.ai",
            "https://портал.qwen.ai@evil.example",
        ] {
            assert_eq!(provider.resource(bad), None, "{bad:?}");
        }
        assert_eq!(provider.resource(&format!("portal.qwen.ai/{}", "x".repeat(MAX))), None);
    }

    #[test]
    fn s2_a_token_goes_nowhere_inside() {
        let provider = provider(&["*.qwen.ai", "*.aliyuncs.com", "exact.example"]);
        for host in include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inside.txt")).lines() {
            for given in [
                host.to_owned(),
                format!("https://{host}"),
                format!("http://{host}:80/"),
                format!("https://portal.qwen.ai@{host}/v1"),
                format!("{host}/.qwen.ai"),
            ] {
                assert_eq!(provider.resource(&given), None, "{given:?}");
            }
        }
    }

    #[test]
    fn this_machine_only_where_it_is_listed() {
        let provider = provider(&["127.0.0.1", "localhost"]);
        assert_eq!(
            provider.resource("http://127.0.0.1:9/qwen").as_deref(),
            Some("http://127.0.0.1:9/qwen/v1")
        );
        // A name is whatever somebody's resolver says.
        assert_eq!(provider.resource("http://localhost:9"), None);
        assert_eq!(provider.resource("http://[::1]:9"), None);
    }
}
