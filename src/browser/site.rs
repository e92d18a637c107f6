//! A site as a row of data: where its login page is, which hosts belong to it, what shows that somebody is signed in, and what of that is the
//! account's credential. How that is sent then is the `auth` of the platform's row.

use serde::Deserialize;
use url::{Host, Url};

use crate::glob;
use crate::web_url::is_safe;

/// A row as written. [`Site::compile`] says what is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Row {
    /// Its name for people.
    pub title: Option<String>,
    /// Whose accounts are signed in to here; default: the platform of the row's own name.
    pub platform: Option<String>,
    pub login_url: Option<String>,
    /// Hosts that the browser may open besides the login page's own: `id.example.com`, `*.example.com`, with `:port` where it is not
    /// the usual one.
    pub hosts: Vec<String>,
    /// A selector (CSS) for something that the login page has: where it is not there, the page is not what this row is for.
    pub expect: Option<String>,
    pub wait_for: WaitRow,
    pub credential: SourceRow,
}

/// What shows that somebody is signed in: all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WaitRow {
    /// The address that they have come to, without what follows a `?` or `#`; `*` for any run of characters.
    pub url: Option<String>,
    /// Cookies beside the credential's own.
    pub cookies: Vec<String>,
    /// Entries of `localStorage` beside the credential's own.
    pub storage: Vec<String>,
}

/// Where the credential is: in cookies, or in an entry of `localStorage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceRow {
    pub cookies: Vec<String>,
    pub storage: Option<String>,
    /// Where the entry is JSON: the member that counts, as a path with dots.
    pub member: Option<String>,
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {why}")]
pub struct RowError {
    pub field: &'static str,
    pub why: String,
}

/// A site, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub name: String,
    pub title: String,
    pub platform: String,
    pub login_url: Url,
    hosts: Vec<HostPattern>,
    pub expect: Option<String>,
    pub wait_for: Wanted,
    pub credential: Source,
}

/// What is waited for beside the credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub url: Option<String>,
    pub cookies: Vec<String>,
    pub storage: Vec<String>,
}

/// Where the credential is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// These cookies, as `name=value`, in this order.
    Cookies(Vec<String>),
    /// An entry of `localStorage`, or a member of it.
    Storage { key: String, member: Option<String> },
}

/// `host`, `*.host`, either with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HostPattern {
    name: String,
    /// Hosts below `name`, and not `name` itself.
    is_below: bool,
    port: Option<u16>,
}

fn wrong(field: &'static str, why: impl Into<String>) -> RowError {
    RowError { field, why: why.into() }
}

impl Site {
    /// Checks a row.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn compile(name: &str, row: Row) -> Result<Self, RowError> {
        let given = row.login_url.ok_or_else(|| wrong("login_url", "is missing"))?;
        let login_url = Url::parse(&given).ok().filter(|url| {
            is_safe(url) && url.username().is_empty() && url.password().is_none() && url.fragment().is_none()
        });
        let login_url = login_url.ok_or_else(|| {
            wrong("login_url", "is an https URL without user and password (http on this machine only)")
        })?;
        let own = login_url.host_str().map(|name| HostPattern {
            name: name.to_owned(),
            is_below: false,
            port: login_url.port(),
        });
        let hosts = row.hosts.iter().map(|host| HostPattern::read(host)).collect::<Result<Vec<_>, _>>()?;
        let hosts: Vec<HostPattern> = own.into_iter().chain(hosts).collect();
        let wait_for = wanted(row.wait_for)?;
        if wait_for.url.as_deref().is_some_and(|pattern| !may_come_to(&hosts, pattern)) {
            return Err(wrong("wait_for.url", "is at none of the row's hosts: nobody would come there"));
        }
        let selector = row.expect.filter(|selector| !selector.trim().is_empty());
        Ok(Self {
            name: name.to_owned(),
            title: row.title.unwrap_or_else(|| name.to_owned()),
            platform: row.platform.unwrap_or_else(|| name.to_owned()),
            login_url,
            hosts,
            expect: selector,
            wait_for,
            credential: source(row.credential)?,
        })
    }

    /// Whether pages at this address belong to the site.
    pub fn has(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        is_safe(url) && self.hosts.iter().any(|pattern| pattern.fits(host, url.port()))
    }

    /// Its hosts, with a `*` for whatever is below one, and their ports where they are not the usual one.
    pub fn host_names(&self) -> impl Iterator<Item = (String, Option<u16>)> {
        let name =
            |host: &HostPattern| if host.is_below { format!("*.{}", host.name) } else { host.name.clone() };
        self.hosts.iter().map(move |host| (name(host), host.port))
    }

    /// Its origins, as far as the row names them.
    pub fn origins(&self) -> impl Iterator<Item = String> {
        let origin = |host: &HostPattern| {
            Url::parse(&format!("https://{}", host.name)).ok().map(|mut url| {
                // An https URL has a host, and takes any port.
                let _ = url.set_port(host.port);
                url.origin().ascii_serialization()
            })
        };
        let named = self.hosts.iter().filter(|host| !host.is_below).filter_map(origin);
        named.chain(std::iter::once(self.login_url.origin().ascii_serialization()))
    }

    /// Whether a cookie of this domain belongs to the site: to one of its hosts, or to a domain above one.
    pub fn has_cookies_of(&self, domain: &str) -> bool {
        let bare = domain.trim_start_matches('.');
        let is_above = |name: &str| domain.starts_with('.') && name.ends_with(domain);
        self.hosts.iter().any(|pattern| {
            if pattern.is_below {
                bare.ends_with(&format!(".{}", pattern.name)) || bare == pattern.name
            } else {
                bare == pattern.name || is_above(&pattern.name)
            }
        })
    }

    /// Whether somebody at this address may be signed in.
    pub fn is_waited_for(&self, url: &Url) -> bool {
        let bare = format!("{}{}", url.origin().ascii_serialization(), url.path());
        self.has(url) && self.wait_for.url.as_deref().is_none_or(|pattern| glob::fits(pattern, &bare))
    }
}

impl HostPattern {
    fn read(given: &str) -> Result<Self, RowError> {
        let why =
            "are names like `id.example.com` or `*.example.com`, with `:port` where it is not the usual one";
        let bad = || wrong("hosts", format!("{why}, and not `{given}`"));
        let (is_below, rest) = given.strip_prefix("*.").map_or((false, given), |rest| (true, rest));
        // Read as a URL's host is: spelled as a browser will spell it.
        let url = Url::parse(&format!("https://{rest}/")).map_err(|_| bad())?;
        let name = url.host_str().ok_or_else(bad)?;
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && !rest.contains(['*', '/', '@']);
        // `*.com` would be half of the world.
        let is_narrow = !is_below || (name.contains('.') && matches!(url.host(), Some(Host::Domain(_))));
        if !is_plain || !is_narrow {
            return Err(bad());
        }
        Ok(Self { name: name.to_owned(), is_below, port: url.port() })
    }

    fn fits(&self, host: &str, port: Option<u16>) -> bool {
        let is_named = match host.strip_suffix(self.name.as_str()) {
            Some("") => !self.is_below,
            Some(before) => self.is_below && before.ends_with('.'),
            None => false,
        };
        is_named && port == self.port
    }
}

/// Whether an address may fit the pattern. Where its host is a pattern, too, nobody knows.
fn may_come_to(hosts: &[HostPattern], pattern: &str) -> bool {
    let origin = pattern.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    let Ok(url) = Url::parse(&origin) else { return origin.contains('*') };
    let Some(host) = url.host_str() else { return false };
    origin.contains('*') || (is_safe(&url) && hosts.iter().any(|known| known.fits(host, url.port())))
}

fn wanted(row: WaitRow) -> Result<Wanted, RowError> {
    if let Some(pattern) = &row.url {
        let is_web = pattern.starts_with("https://") || pattern.starts_with("http://");
        if !is_web || pattern.contains(['?', '#', ' ']) {
            return Err(wrong(
                "wait_for.url",
                "is a whole address without `?` and `#`, with `*` where it varies",
            ));
        }
    }
    names("wait_for.cookies", &row.cookies)?;
    names("wait_for.storage", &row.storage)?;
    Ok(Wanted { url: row.url, cookies: row.cookies, storage: row.storage })
}

fn source(row: SourceRow) -> Result<Source, RowError> {
    match (row.cookies.is_empty(), row.storage) {
        (false, None) if row.member.is_none() => {
            names("credential.cookies", &row.cookies)?;
            Ok(Source::Cookies(row.cookies))
        }
        (true, Some(key)) if !key.is_empty() => Ok(Source::Storage { key, member: row.member }),
        _ => Err(wrong(
            "credential",
            "is `cookies: [names]`, or `storage: key` (with `member` where it is JSON)",
        )),
    }
}

fn names(field: &'static str, names: &[String]) -> Result<(), RowError> {
    let is_name = |name: &String| {
        !name.is_empty() && !name.contains(|c: char| c.is_control() || matches!(c, ';' | '=' | ' '))
    };
    if names.iter().all(is_name) { Ok(()) } else { Err(wrong(field, "are names, without `=` and `;`")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            login_url: Some("https://chat.example.com/login".to_owned()),
            hosts: vec!["*.id.example.com".to_owned(), "pay.example.com:8443".to_owned()],
            wait_for: WaitRow {
                url: Some("https://chat.example.com/home*".to_owned()),
                ..WaitRow::default()
            },
            credential: SourceRow { cookies: vec!["session".to_owned()], ..SourceRow::default() },
            ..Row::default()
        }
    }

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn a_site_has_its_hosts_and_no_other() {
        let site = Site::compile("example", row()).expect("right");
        for good in [
            "https://chat.example.com/x",
            "https://CHAT.example.com:443/",
            "https://a.id.example.com/",
            "https://a.b.id.example.com/",
            "https://pay.example.com:8443/",
        ] {
            assert!(site.has(&url(good)), "{good}");
        }
        for bad in [
            "http://chat.example.com/",
            "https://example.com/",
            "https://id.example.com/",
            "https://evilid.example.com/",
            "https://chat.example.com.evil/",
            "https://evil/chat.example.com",
            "https://chat.example.com@evil/",
            "https://chat.example.com:8443/",
            "https://pay.example.com/",
            "https://169.254.169.254/",
            "http://localhost/",
            "file:///etc/passwd",
            "about:blank",
            "data:text/html,x",
        ] {
            assert!(!site.has(&url(bad)), "{bad}");
        }
    }

    #[test]
    fn cookies_are_the_sites_or_those_of_a_domain_above() {
        let site = Site::compile("example", row()).expect("right");
        for good in ["chat.example.com", ".chat.example.com", ".example.com", "a.id.example.com"] {
            assert!(site.has_cookies_of(good), "{good}");
        }
        for bad in ["example.com", "other.example.com", "evilexample.com", ".evil", "", ".", "at.example.com"]
        {
            assert!(!site.has_cookies_of(bad), "{bad:?}");
        }
    }

    #[test]
    fn somebody_is_waited_for_at_an_address_without_its_query() {
        let site = Site::compile("example", row()).expect("right");
        assert!(site.is_waited_for(&url("https://chat.example.com/home?welcome=1#top")));
        assert!(!site.is_waited_for(&url("https://chat.example.com/login?next=/home")));
        assert!(!site.is_waited_for(&url("https://evil.example/?https://chat.example.com/home")));
        let anywhere = Row { wait_for: WaitRow::default(), ..row() };
        let site = Site::compile("example", anywhere).expect("right");
        assert!(site.is_waited_for(&url("https://chat.example.com/login")));
        assert!(!site.is_waited_for(&url("https://evil.example/")));
    }

    #[test]
    fn what_is_wrong_with_a_row_is_named() {
        let of = |row: Row| Site::compile("example", row).expect_err("wrong").field;
        for bad in [
            "",
            "chat.example.com",
            "http://chat.example.com/",
            "https://me:pw@chat.example.com/",
            "file:///x",
        ] {
            assert_eq!(of(Row { login_url: Some(bad.to_owned()), ..row() }), "login_url", "{bad}");
        }
        assert_eq!(of(Row { login_url: None, ..row() }), "login_url");
        for bad in
            ["", "*", "*.com", "https://x", "a/b", "a b", "*.127.0.0.1", "a.*.b", "me@x", "*.", "x:port"]
        {
            assert_eq!(of(Row { hosts: vec![bad.to_owned()], ..row() }), "hosts", "{bad:?}");
        }
        for bad in ["home", "https://x/?a", "https://x/#a"] {
            let wait_for = WaitRow { url: Some(bad.to_owned()), ..WaitRow::default() };
            assert_eq!(of(Row { wait_for, ..row() }), "wait_for.url", "{bad}");
        }
        for bad in
            ["https://chat.exmaple.com/home*", "https://chat.example.com:8443/", "http://chat.example.com/"]
        {
            let wait_for = WaitRow { url: Some(bad.to_owned()), ..WaitRow::default() };
            assert_eq!(of(Row { wait_for, ..row() }), "wait_for.url", "{bad}");
        }
        for good in ["https://a.id.example.com/*", "https://*.id.example.com/", "https://chat.example.com*"] {
            let wait_for = WaitRow { url: Some(good.to_owned()), ..WaitRow::default() };
            assert!(Site::compile("example", Row { wait_for, ..row() }).is_ok(), "{good}");
        }
        let credentials = [
            SourceRow::default(),
            SourceRow { storage: Some("k".into()), cookies: vec!["c".into()], member: None },
            SourceRow { member: Some("m".into()), cookies: vec!["c".into()], storage: None },
            SourceRow { storage: Some(String::new()), ..SourceRow::default() },
        ];
        for credential in credentials {
            assert_eq!(of(Row { credential, ..row() }), "credential");
        }
        let credential = SourceRow { cookies: vec!["a=b".into()], ..SourceRow::default() };
        assert_eq!(of(Row { credential, ..row() }), "credential.cookies");
    }
}
