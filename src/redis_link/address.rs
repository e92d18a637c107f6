//! A store's URL as people write it, taken apart: one server, a Sentinel's ward, or a cluster.
//!
//! | form | reaches |
//! | --- | --- |
//! | `redis://[user:password@]host[:6379][/db]` | one server |
//! | `rediss://…` | the same over TLS |
//! | `redis-sentinel://[user:password@]host[:26379],host…/master[/db]` | the server that Sentinels name |
//! | `redis-cluster://[user:password@]host[:6379],host…` | a cluster |
//!
//! | after `?` | means |
//! | --- | --- |
//! | `tls=true` | TLS for the last two |
//! | `ca=FILE` | trust the certificates that this authority signs, and no others (without: those of the system) |
//! | `cert=FILE&key=FILE` | show this certificate: a server may want one |
//! | `strict=true` | refuse to start on a server that may forget |

use std::path::PathBuf;

use redis::{ConnectionInfo, IntoConnectionInfo};

use crate::secret::Secret;

/// Where Redis is, and how to log in. Never prints its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// What is reached.
    pub shape: Shape,
    /// `redis://user:password@host:port/db` of each node.
    nodes: Vec<Secret>,
    /// Whether a server that may lose what it was told is refused.
    pub is_strict: bool,
    /// What TLS needs besides the system's own.
    pub(super) files: TlsFiles,
}

/// Files in PEM, read anew for every connection: whoever renews them need not restart anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    /// Whom to trust instead of the system's authorities.
    pub authority: Option<PathBuf>,
    /// Our own certificate and its key.
    pub ours: Option<(PathBuf, PathBuf)>,
}

/// How many servers there are, and who knows which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One server.
    One,
    /// The server that Sentinels name as the master of this name.
    Sentinel { master: String },
    /// Many, each with some of the keys.
    Cluster,
}

const FORMS: &str = "write `redis://host:6379`, `rediss://user:password@host:6379/0`, \
                     `redis-sentinel://host:26379,host:26379/master` or `redis-cluster://host:6379,host:6379`";

impl Address {
    /// Takes `url` apart.
    ///
    /// # Errors
    /// It is none; the text says what to write, and never repeats the URL.
    pub fn parse(url: &Secret) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}: {FORMS}");
        let (scheme, rest) = url.expose().split_once("://").ok_or_else(|| wrong("not a Redis URL"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let Options { is_tls, is_strict, files } =
            Options::parse(query, scheme == "rediss").map_err(wrong)?;
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (format!("{login}@"), rest),
            None => (String::new(), rest),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (shape, db, port) = match scheme {
            "redis" | "rediss" if !hosts.contains(',') => (Shape::One, path, 6379),
            "redis-cluster" if path.is_empty() => (Shape::Cluster, "", 6379),
            "redis-sentinel" => {
                let (master, db) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err(wrong("the master's name is missing"));
                }
                (Shape::Sentinel { master: master.to_owned() }, db, 26379)
            }
            _ => return Err(wrong("not a Redis URL")),
        };
        if !db.is_empty() && db.parse::<u16>().is_err() {
            return Err(wrong("the database is a number"));
        }
        let scheme = if is_tls { "rediss" } else { "redis" };
        let nodes = hosts.split(',').map(|host| {
            let port = if has_port(host) { String::new() } else { format!(":{port}") };
            Secret::new(format!("{scheme}://{login}{host}{port}/{db}"))
        });
        let address = Self { shape, nodes: nodes.collect(), is_strict, files };
        // The crate's own errors may quote the URL.
        if address.infos().is_err() || hosts.split(',').any(str::is_empty) {
            return Err(wrong("not a Redis URL"));
        }
        Ok(address)
    }

    /// How each node is reached.
    pub(super) fn infos(&self) -> redis::RedisResult<Vec<ConnectionInfo>> {
        self.nodes.iter().map(|node| node.expose().into_connection_info()).collect()
    }

    /// Whether it is reached over TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.nodes.iter().any(|node| node.expose().starts_with("rediss:"))
    }

    /// Hosts and ports, without a word of how to log in: for messages.
    pub fn shown(&self) -> String {
        let infos = self.infos().unwrap_or_default();
        let hosts: Vec<String> = infos.iter().map(|info| info.addr().to_string()).collect();
        hosts.join(",")
    }
}

/// What follows the `?`.
struct Options {
    is_tls: bool,
    is_strict: bool,
    files: TlsFiles,
}

impl Options {
    fn parse(query: &str, mut is_tls: bool) -> Result<Self, &'static str> {
        let (mut is_strict, mut files, mut cert, mut key) = (false, TlsFiles::default(), None, None);
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("tls", "true")) => is_tls = true,
                Some(("strict", "true")) => is_strict = true,
                Some(("tls" | "strict", "false")) => {}
                Some(("ca", file)) if !file.is_empty() => files.authority = Some(PathBuf::from(file)),
                Some(("cert", file)) if !file.is_empty() => cert = Some(PathBuf::from(file)),
                Some(("key", file)) if !file.is_empty() => key = Some(PathBuf::from(file)),
                _ => {
                    return Err(
                        "only `tls` and `strict` (true or false) and `ca`, `cert` and `key` (files) \
                                may follow the `?`",
                    );
                }
            }
        }
        files.ours = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err("`cert` and `key` belong together"),
        };
        if !is_tls && files != TlsFiles::default() {
            return Err("`ca`, `cert` and `key` are for `rediss://`, or go with `tls=true`");
        }
        Ok(Self { is_tls, is_strict, files })
    }
}

fn has_port(host: &str) -> bool {
    // `[::1]:6379` has one, `[::1]` has none.
    host.rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use redis::ConnectionAddr;

    use super::*;

    fn parse(url: &str) -> Result<Address, String> {
        Address::parse(&Secret::new(url))
    }

    #[test]
    fn every_form_is_understood() {
        let one = parse("redis://localhost").expect("an address");
        assert_eq!((one.shape.clone(), one.shown().as_str()), (Shape::One, "localhost:6379"));
        let tls = parse("rediss://weir:s%40cret@10.0.0.1:7000/3?strict=true").expect("an address");
        let infos = tls.infos().expect("infos");
        let login = infos[0].redis_settings();
        assert_eq!((login.username(), login.password(), login.db()), (Some("weir"), Some("s@cret"), 3));
        assert!(tls.is_strict);
        assert!(matches!(infos[0].addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
        let sentinel = parse("redis-sentinel://:pw@a,b:1/main/2?tls=true").expect("an address");
        assert_eq!(sentinel.shape, Shape::Sentinel { master: "main".to_owned() });
        assert_eq!(sentinel.shown(), "a:26379,b:1");
        assert_eq!(parse("redis-cluster://[::1],h:2").expect("an address").shape, Shape::Cluster);
    }

    #[test]
    fn mistakes_are_told_without_the_url() {
        let bad = [
            "redis:pw",
            "http://pw@h",
            "redis://pw@h/x",
            "redis-sentinel://pw@h",
            "redis-cluster://pw@h/1",
            "redis://a:pw@",
            "redis://h,pw",
            "redis://h?pw=1",
            "redis-cluster://h,,pw",
            "redis://u:pw@h:99999",
            "redis://h?ca=pw",
            "rediss://h?cert=pw",
            "rediss://h?ca=",
        ];
        for url in bad {
            let told = parse(url).expect_err(url);
            assert!(!told.contains("pw"), "{told}");
        }
    }

    #[test]
    fn tls_may_have_files_of_its_own() {
        let url = "redis-cluster://h?tls=true&ca=/ca.pem&cert=/ours.pem&key=/ours.key";
        let files = parse(url).expect("an address").files;
        assert_eq!(files.authority, Some(PathBuf::from("/ca.pem")));
        assert_eq!(files.ours, Some((PathBuf::from("/ours.pem"), PathBuf::from("/ours.key"))));
        assert_eq!(parse("rediss://h").expect("an address").files, TlsFiles::default());
    }

    #[test]
    fn a_password_is_never_printed() {
        let address = parse("redis://u:canary@h/1").expect("an address");
        assert!(!format!("{address:?} {}", address.shown()).contains("canary"));
    }
}
