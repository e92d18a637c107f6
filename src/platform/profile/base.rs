//! Where a platform is reached. Parsed once: a malformed URL is an error of the configuration, never of a request.

use std::fmt;

use url::Url;

/// The transport of a base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BaseScheme {
    Http,
    Https,
    Ws,
    Wss,
}

impl BaseScheme {
    /// Whether the connection is by TLS.
    pub const fn is_secure(self) -> bool {
        matches!(self, BaseScheme::Https | BaseScheme::Wss)
    }

    /// Whether it is a WebSocket.
    pub const fn is_websocket(self) -> bool {
        matches!(self, BaseScheme::Ws | BaseScheme::Wss)
    }

    /// As it stands in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            BaseScheme::Http => "http",
            BaseScheme::Https => "https",
            BaseScheme::Ws => "ws",
            BaseScheme::Wss => "wss",
        }
    }

    const fn port(self) -> u16 {
        if self.is_secure() { 443 } else { 80 }
    }
}

/// A base URL, in parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Base {
    pub scheme: BaseScheme,
    /// In lower case; an IPv6 address stands in brackets.
    pub host: String,
    pub port: u16,
    /// Begins with a slash where it is not empty, and has none at the end.
    pub path: String,
}

impl Base {
    /// Reads a base URL.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it (it may hold a password).
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|wrong| format!("is no URL: {wrong}"))?;
        let scheme = match url.scheme() {
            "http" => BaseScheme::Http,
            "https" => BaseScheme::Https,
            "ws" => BaseScheme::Ws,
            "wss" => BaseScheme::Wss,
            other => return Err(format!("has the scheme {other}; http, https, ws and wss are known")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user or a password".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must not hold a query or a fragment".to_owned());
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("has no host")?.to_owned();
        let path = url.path().trim_end_matches('/').to_owned();
        Ok(Self { scheme, host, port: url.port().unwrap_or_else(|| scheme.port()), path })
    }

    /// Host, and the port where it is not the scheme's own: as in the header `host`.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.port() {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}{}", self.scheme.as_str(), self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_parts_and_gives_them_back() {
        for (text, again, port) in [
            ("https://api.openai.com/v1", "https://api.openai.com/v1", 443),
            ("https://API.openai.com:443/v1/", "https://api.openai.com/v1", 443),
            ("http://10.0.0.5:8000", "http://10.0.0.5:8000", 8000),
            ("http://[::1]:8000/v1", "http://[::1]:8000/v1", 8000),
            ("wss://spark-api.xf-yun.com", "wss://spark-api.xf-yun.com", 443),
            ("ws://localhost", "ws://localhost", 80),
        ] {
            let base = Base::parse(text).expect(text);
            assert_eq!((base.to_string().as_str(), base.port), (again, port));
        }
    }

    #[test]
    fn refuses_what_is_no_base() {
        for bad in [
            "api.openai.com/v1",
            "ftp://x/",
            "https://",
            "https://user:pw@x/",
            "https://x/?key=1",
            "https://x/#a",
            "",
            "http://x:99999",
        ] {
            let wrong = Base::parse(bad).expect_err(bad);
            assert!(!wrong.contains("pw"));
        }
    }
}
