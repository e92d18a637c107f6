//! Where requests may go. Addresses that the operator wrote may be anywhere, also inside a network; those that somebody else wrote (an
//! issuer's document names its endpoints) may not lead inside, whatever their names resolve to and however often they are asked: what is
//! looked at is the very address that is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::error::OAuthError;
use super::settings::Settings;
use super::web::{Answer, Outgoing, Web};

/// Whether the operator named the host and port of an address.
pub type Named = Arc<dyn Fn(&Url) -> bool + Send + Sync>;

/// A web with a door inside for the operator's own addresses.
pub struct Careful {
    /// Goes anywhere.
    free: reqwest::Client,
    /// Goes to no inner address.
    guarded: reqwest::Client,
    is_named: Named,
}

impl std::fmt::Debug for Careful {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Careful")
    }
}

impl Careful {
    /// Over clients that are made by `client`: one as it is, and one that resolves names with care.
    ///
    /// # Errors
    /// A client that cannot be made.
    pub fn new(client: impl Fn() -> reqwest::ClientBuilder, is_named: Named) -> Result<Self, reqwest::Error> {
        let guarded = client().dns_resolver(Arc::new(Outside(lookup))).build()?;
        Ok(Self { free: client().build()?, guarded, is_named })
    }

    /// With what an address is asked; `None` where it leads inside and nobody who may has said so.
    pub fn way_to(&self, url: &Url) -> Option<&reqwest::Client> {
        match (self.is_named)(url) {
            true => Some(&self.free),
            false => (!is_inner(url)).then_some(&self.guarded),
        }
    }
}

#[async_trait]
impl Web for Careful {
    async fn send(&self, outgoing: Outgoing) -> Result<Answer, OAuthError> {
        let inside = || OAuthError::Nonsense("it leads to an address inside".to_owned());
        self.way_to(&outgoing.url).ok_or_else(inside)?.send(outgoing).await
    }
}

impl Settings {
    /// Whether an address is at a host and port that a provider's row names.
    pub fn names(&self, url: &Url) -> bool {
        let place = |url: &Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
        let wanted = place(url);
        self.providers.iter().any(|provider| {
            let issuer = provider.issuer.as_deref().and_then(|issuer| Url::parse(issuer).ok());
            let endpoints = [
                &provider.authorize_url,
                &provider.token_url,
                &provider.refresh_url,
                &provider.device_url,
                &provider.revoke_url,
                &provider.userinfo_url,
                &provider.emails_url,
                &provider.jwks_url,
            ];
            endpoints.into_iter().flatten().chain(&issuer).any(|known| place(known) == wanted)
        })
    }
}

/// Whether an address leads inside by its very text.
pub(super) fn is_inner(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_inner_v4(address),
        Some(Host::Ipv6(address)) => is_inner_v6(address),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        None => true,
    }
}

fn is_inner_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_inner_v4(address),
        IpAddr::V6(address) => is_inner_v6(address),
    }
}

fn is_inner_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let is_shared = first == 100 && (64..128).contains(&second);
    let is_special = (first, second, third) == (192, 0, 0) || (first == 198 && matches!(second, 18 | 19));
    address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || first == 0
        || first >= 224
        || is_shared
        || is_special
}

fn is_inner_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, ..] = address.segments();
    let [.., a, b, c, d] = address.octets();
    // Addresses of the old kind in clothes of the new.
    let old = match (first, second) {
        (0, 0) if address.to_ipv4_mapped().is_some() || third == 0 => Some(Ipv4Addr::new(a, b, c, d)),
        (0x64, 0xff9b) => Some(Ipv4Addr::new(a, b, c, d)),
        (0x2002, _) => {
            let [_, _, a, b, c, d, ..] = address.octets();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    };
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || (first & 0xfe00) == 0xfc00
        || (first & 0xffc0) == 0xfe80
        || (first & 0xffc0) == 0xfec0
        || (first, second) == (0x2001, 0xdb8)
        || old.is_some_and(is_inner_v4)
}

type Lookup = fn(String) -> Found;
type Found = std::pin::Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + Send>>;

fn lookup(name: String) -> Found {
    Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
}

/// Resolves names to addresses outside, and to nothing else.
#[derive(Clone, Copy)]
struct Outside(Lookup);

impl Resolve for Outside {
    fn resolve(&self, name: Name) -> Resolving {
        let lookup = self.0;
        Box::pin(async move {
            let found = lookup(name.as_str().to_owned()).await?;
            let outside: Vec<SocketAddr> =
                found.into_iter().filter(|address| !is_inner_address(address.ip())).collect();
            if outside.is_empty() {
                return Err("it resolves to addresses inside, or to none".into());
            }
            Ok(Box::new(outside.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Where nobody but the operator may send us.
    const INSIDE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inside.txt"));

    #[test]
    fn s2_inside_by_any_spelling() {
        assert!(INSIDE.lines().count() > 60);
        for host in INSIDE.lines().chain(["localhost", "LOCALHOST.", "x.localhost"]) {
            let url = Url::parse(&format!("https://{host}/x")).unwrap_or_else(|_| panic!("{host}"));
            assert!(is_inner(&url), "{host} is {url}");
        }
        for host in [
            "1.1.1.1",
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "198.20.0.1",
            "[2606:4700::1111]",
            "[64:ff9b::808:808]",
            "[2002:808:808::]",
        ] {
            let url = Url::parse(&format!("https://{host}/x")).unwrap();
            assert!(!is_inner(&url), "{host}");
        }
    }

    /// First outside, then inside: whoever checks a name and resolves it again is told two things.
    fn rebinding(_: String) -> Found {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let is_first = ASKED.fetch_add(1, Ordering::SeqCst) == 0;
        let address: SocketAddr = if is_first { "192.0.2.7:0" } else { "127.0.0.1:0" }.parse().unwrap();
        Box::pin(async move { Ok(vec![address]) })
    }

    fn both(_: String) -> Found {
        Box::pin(async { Ok(vec!["127.0.0.1:0".parse().unwrap(), "1.1.1.1:0".parse().unwrap()]) })
    }

    #[tokio::test]
    async fn s2_what_a_name_resolves_to_is_what_is_connected_to() {
        let resolved = async |lookup: Lookup| {
            let name: Name = "rebinding.example".parse().unwrap();
            Outside(lookup)
                .resolve(name)
                .await
                .map(|found| found.map(|address| address.ip()).collect::<Vec<_>>())
        };
        assert_eq!(resolved(both).await.unwrap(), [IpAddr::from([1, 1, 1, 1])], "and never the other one");
        // Documentation's addresses are nobody's: also inside.
        assert!(resolved(rebinding).await.is_err());
        assert!(resolved(rebinding).await.is_err());
        let local = |_: String| -> Found { Box::pin(async { Ok(vec!["[::1]:0".parse().unwrap()]) }) };
        assert!(resolved(local).await.is_err());
    }

    /// A listener that nobody may come to.
    async fn trap() -> (tokio::net::TcpListener, u16) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn s2_no_connection_inside_but_to_what_the_operator_named() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let (listener, port) = trap().await;
        let named = format!("http://127.0.0.1:{port}/named");
        let only: Named = {
            let named = named.clone();
            Arc::new(move |url: &Url| url.as_str() == named)
        };
        let web = Careful::new(|| reqwest::Client::builder().no_proxy(), only).unwrap();
        let ask = |url: String| Outgoing {
            method: http::Method::GET,
            url: Url::parse(&url).unwrap(),
            headers: http::HeaderMap::new(),
            body: Vec::new(),
        };
        for host in
            ["127.0.0.1", "2130706433", "localhost", "localhost.", "[::ffff:127.0.0.1]", "x.localhost"]
        {
            assert!(web.send(ask(format!("http://{host}:{port}/"))).await.is_err(), "{host}");
        }
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept()).await.is_err(),
            "somebody came"
        );
        let asked = tokio::spawn(async move { web.send(ask(named)).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(asked.await.unwrap().unwrap().status, 200);
    }
}
