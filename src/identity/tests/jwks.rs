//! Keys from a URL and from a file: floods, outages, rotation (R14.3). The URL is a real HTTP server on this machine.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

use super::*;

/// An issuer's key endpoint, as scripted.
#[derive(Default)]
struct Endpoint {
    fetches: AtomicUsize,
    others: AtomicUsize,
    status: Mutex<u16>,
    body: Mutex<String>,
    location: Mutex<Option<String>>,
    delay: Mutex<Duration>,
}

impl Endpoint {
    async fn start(body: String) -> (Arc<Self>, SocketAddr) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let endpoint = Arc::new(Self { status: Mutex::new(200), body: Mutex::new(body), ..Self::default() });
        let shared = Arc::clone(&endpoint);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let shared = Arc::clone(&shared);
                    async move { Ok::<_, Infallible>(shared.answer(request.uri().path()).await) }
                });
                let io = TokioIo::new(stream);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        (endpoint, address)
    }

    async fn answer(&self, path: &str) -> http::Response<Full<Bytes>> {
        let counter = if path == "/jwks" { &self.fetches } else { &self.others };
        counter.fetch_add(1, Ordering::SeqCst);
        let delay = *self.delay.lock();
        tokio::time::sleep(delay).await;
        let mut answer = http::Response::builder().status(*self.status.lock());
        if let Some(location) = &*self.location.lock() {
            answer = answer.header("location", location);
        }
        answer.body(Full::new(Bytes::from(self.body.lock().clone()))).expect("an answer")
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

/// An identity that gets the keys of `signer` from an endpoint.
async fn with_endpoint(signer: &Signer) -> (Arc<Identity>, Arc<Hand>, Arc<Endpoint>) {
    let (endpoint, address) = Endpoint::start(jwks(&[signer])).await;
    let url = format!("http://{address}/jwks").parse().expect("url");
    let (identity, hand) = identity(vec![signer.settings(KeySource::JwksUrl(url))]);
    (Arc::new(identity), hand, endpoint)
}

async fn is_let_in(identity: &Identity, token: &str) -> bool {
    identity.verify(&headers(token)).await.is_ok()
}

/// Lets tasks in the background come to their end.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn nothing_is_fetched_before_the_first_token_and_then_once() {
    let signer = Signer::ed("a");
    let (identity, _, endpoint) = with_endpoint(&signer).await;
    assert_eq!(endpoint.fetches(), 0);
    *endpoint.delay.lock() = Duration::from_millis(50);
    let together: Vec<_> = (0..50)
        .map(|number| {
            let identity = Arc::clone(&identity);
            let token = signer.claiming("sub", json!(number.to_string()));
            tokio::spawn(async move { is_let_in(&identity, &token).await })
        })
        .collect();
    for one in together {
        assert!(one.await.expect("no panic"));
    }
    assert_eq!(endpoint.fetches(), 1);
}

#[tokio::test]
async fn a_flood_of_unknown_kids_makes_one_fetch_per_cooldown() {
    let signer = Signer::ed("a");
    let (identity, hand, endpoint) = with_endpoint(&signer).await;
    assert!(is_let_in(&identity, &signer.good()).await);
    for round in 1..=3 {
        hand.advance(Duration::from_secs(31));
        // The first wave comes while the fetch is under way, the others after it and within the cooldown.
        for wave in 0..4 {
            let flood: Vec<_> = (0..250)
                .map(|number| {
                    let identity = Arc::clone(&identity);
                    let token = signer.heading("kid", json!(format!("forged-{round}-{wave}-{number}")));
                    tokio::spawn(async move { is_let_in(&identity, &token).await })
                })
                .collect();
            for one in flood {
                assert!(!one.await.expect("no panic"));
            }
            settle().await;
            hand.advance(Duration::from_secs(7));
        }
        assert_eq!(endpoint.fetches(), 1 + round, "one more in round {round}");
    }
    assert!(is_let_in(&identity, &signer.good()).await);
}

#[tokio::test]
async fn a_new_key_is_taken_within_one_fetch_and_an_old_one_dropped() {
    let old = Signer::ed("old");
    let (identity, hand, endpoint) = with_endpoint(&old).await;
    assert!(is_let_in(&identity, &old.good()).await);
    let new = Signer::ed("new");
    *endpoint.body.lock() = jwks(&[&old, &new]);
    hand.advance(Duration::from_secs(31));
    assert!(is_let_in(&identity, &new.good()).await, "its first token fetches");
    assert!(is_let_in(&identity, &old.good()).await);
    assert_eq!(endpoint.fetches(), 2);
    // The old key is withdrawn. What was verified with it is refused 60 s later, cached or not.
    *endpoint.body.lock() = jwks(&[&new]);
    hand.advance(Duration::from_secs(60));
    assert!(identity.verify_cached(&headers(&old.good())).is_none());
    assert!(!is_let_in(&identity, &old.good()).await);
    assert!(is_let_in(&identity, &new.good()).await);
}

#[tokio::test]
async fn a_withdrawn_key_under_traffic_is_refused_without_anybody_waiting() {
    let old = Signer::ed("old");
    let (identity, hand, endpoint) = with_endpoint(&old).await;
    assert!(is_let_in(&identity, &old.good()).await);
    *endpoint.body.lock() = jwks(&[&Signer::ed("new")]);
    hand.advance(Duration::from_secs(46));
    assert!(is_let_in(&identity, &old.good()).await, "the fetch goes on behind it");
    settle().await;
    assert_eq!(endpoint.fetches(), 2);
    assert!(identity.verify_cached(&headers(&old.good())).is_none());
    assert!(!is_let_in(&identity, &old.good()).await);
}

#[tokio::test]
async fn an_outage_leaves_the_keys_in_use() {
    let signer = Signer::ed("a");
    let (identity, hand, endpoint) = with_endpoint(&signer).await;
    assert!(is_let_in(&identity, &signer.good()).await);
    let good_body = endpoint.body.lock().clone();
    for (status, body) in
        [(503, ""), (200, "<html>"), (200, "{\"keys\":[]}"), (200, ""), (404, &good_body), (206, "")]
    {
        *endpoint.status.lock() = status;
        *endpoint.body.lock() = body.to_owned();
        for _ in 0..3 {
            hand.advance(Duration::from_secs(100));
            let fresh = signer.claiming("jti", json!(format!("{status} {body}")));
            assert!(is_let_in(&identity, &fresh).await, "{status} {body}");
            settle().await;
            assert!(is_let_in(&identity, &signer.good()).await);
        }
    }
    assert!(endpoint.fetches() >= 19, "it was asked again each time: {}", endpoint.fetches());
}

#[tokio::test]
async fn a_document_over_a_megabyte_is_not_read() {
    let (old, new) = (Signer::ed("old"), Signer::ed("new"));
    let (identity, hand, endpoint) = with_endpoint(&old).await;
    assert!(is_let_in(&identity, &old.good()).await);
    for (size, expected) in [(1024 * 1024 + 1, false), (1024 * 1024, true)] {
        let document = jwks(&[&new]);
        *endpoint.body.lock() = " ".repeat(size - document.len()) + &document;
        hand.advance(Duration::from_secs(31));
        assert_eq!(is_let_in(&identity, &new.good()).await, expected, "{size}");
    }
}

#[tokio::test]
async fn without_any_keys_it_is_our_fault_and_not_the_callers() {
    let signer = Signer::ed("a");
    let (identity, hand, endpoint) = with_endpoint(&signer).await;
    *endpoint.status.lock() = 500;
    let fault = identity.verify(&headers(&signer.good())).await.expect_err("no keys");
    assert_eq!((fault.kind().row().status, fault.get_code()), (503, Some("identity_unavailable")));
    for _ in 0..100 {
        assert!(!is_let_in(&identity, &signer.good()).await);
    }
    assert_eq!(endpoint.fetches(), 1, "not asked again within two seconds");
    *endpoint.status.lock() = 200;
    hand.advance(Duration::from_secs(2));
    assert!(is_let_in(&identity, &signer.good()).await);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let signer = Signer::ed("a");
    let (identity, _, endpoint) = with_endpoint(&signer).await;
    for status in [301, 302, 303, 307, 308] {
        *endpoint.status.lock() = status;
        *endpoint.location.lock() = Some("/elsewhere".to_owned());
        assert!(!is_let_in(&identity, &signer.good()).await);
    }
    assert_eq!(endpoint.others.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_token_never_says_where_keys_are_fetched() {
    let signer = Signer::ed("a");
    let (identity, hand, endpoint) = with_endpoint(&signer).await;
    let attacker = Signer::ed("mine");
    let (trap, address) = Endpoint::start(jwks(&[&attacker])).await;
    assert!(is_let_in(&identity, &signer.good()).await);
    for name in ["jku", "x5u", "kid", "iss"] {
        hand.advance(Duration::from_secs(31));
        let url = json!(format!("http://{address}/jwks"));
        let bad = if name == "iss" { attacker.claiming(name, url) } else { attacker.heading(name, url) };
        assert!(!is_let_in(&identity, &bad).await, "{name}");
    }
    settle().await;
    assert_eq!(trap.fetches() + trap.others.load(Ordering::SeqCst), 0);
    assert!(endpoint.fetches() >= 1);
}

#[tokio::test]
async fn a_fetch_goes_on_when_the_caller_that_began_it_goes_away() {
    let signer = Signer::ed("a");
    let (identity, _, endpoint) = with_endpoint(&signer).await;
    *endpoint.delay.lock() = Duration::from_millis(200);
    let token = headers(&signer.good());
    let gone = tokio::time::timeout(Duration::from_millis(50), identity.verify(&token)).await;
    assert!(gone.is_err(), "it was still waiting");
    assert!(is_let_in(&identity, &signer.good()).await);
    assert_eq!(endpoint.fetches(), 1);
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes() {
    let (old, new) = (Signer::ed("old"), Signer::ed("new"));
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("jwks.json");
    std::fs::write(&path, jwks(&[&old])).expect("written");
    let (identity, hand) = identity(vec![old.settings(KeySource::JwksFile(path.clone()))]);
    assert!(is_let_in(&identity, &old.good()).await);
    std::fs::write(&path, jwks(&[&new])).expect("written");
    assert!(!is_let_in(&identity, &new.good()).await, "not within the same second");
    hand.advance(Duration::from_secs(1));
    assert!(is_let_in(&identity, &new.good()).await);
    assert!(!is_let_in(&identity, &old.good()).await);
    // A file half-written, or gone, leaves the last good keys.
    for bad in ["{\"keys\":[", ""] {
        std::fs::write(&path, bad).expect("written");
        hand.advance(Duration::from_secs(1));
        assert!(is_let_in(&identity, &new.good()).await, "{bad}");
    }
    std::fs::remove_file(&path).expect("removed");
    hand.advance(Duration::from_secs(1));
    assert!(is_let_in(&identity, &new.good()).await);
    std::fs::write(&path, jwks(&[&old])).expect("written");
    hand.advance(Duration::from_secs(1));
    assert!(is_let_in(&identity, &old.good()).await);
    assert!(!is_let_in(&identity, &new.good()).await);
}
