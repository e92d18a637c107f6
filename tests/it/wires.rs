//! TLS and HTTP/2 towards callers: the same answers on every wire, and certificates that change under load.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::house::{Answer, House, PATIENCE, question, until, whole};

const ONE: &str = "accounts: [{id: a, platform: openai, api_key: sk-a}]\n";

type H2 = SendRequest<Full<Bytes>>;

async fn h2_over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> H2 {
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

fn h2_request(house: &House, path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::post(format!("http://{}{path}", house.listen))
        .header("authorization", format!("Bearer {}", house.token))
        .body(Full::new(Bytes::from(body.to_owned())))
        .expect("a request")
}

async fn read(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.expect("in time").expect("a body");
    Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes().to_vec() }
}

async fn ask_h2(sender: &H2, house: &House, body: &str) -> Answer {
    let sent = sender.clone().send_request(h2_request(house, "/v1/chat/completions", body));
    read(timeout(PATIENCE, sent).await.expect("in time").expect("an answer")).await
}

/// Makes a certificate of its own authority, and writes the pair.
fn certify(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    // One after the other, as tools do: the gateway must not stumble over the moment between.
    std::fs::write(folder.join("tls.crt"), made.cert.pem()).expect("written");
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).expect("written");
    made.cert.der().clone()
}

fn connector(trusted: &[CertificateDer<'static>], alpn: &[&[u8]], is_old: bool) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&rustls::SupportedProtocolVersion] =
        if is_old { &[&rustls::version::TLS12] } else { rustls::ALL_VERSIONS };
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
    let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // Each handshake in full: a resumed one would not show the certificate.
    config.resumption = rustls::client::Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

async fn tls(house: &House, connector: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(house.listen).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    timeout(PATIENCE, connector.connect(name, stream)).await.expect("in time")
}

/// One request over HTTP/1.1 on any stream.
async fn ask_h1(house: &House, mut stream: impl AsyncRead + AsyncWrite + Unpin, body: &str) -> String {
    let bytes = house.wire("POST", "/v1/chat/completions", "connection: close\r\n", body.as_bytes());
    stream.write_all(&bytes).await.expect("sent");
    let mut text = Vec::new();
    drop(timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("in time"));
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_without_tls_carries_many_streams_and_refusals_on_one_connection() {
    let house = House::start(ONE).await;
    let sender = h2_over(TcpStream::connect(house.listen).await.expect("connected")).await;
    let stream = question("gpt-4o", "@words=20 @gap=5 hello", true).to_string();
    let asked = (0..60).map(|n| {
        let (sender, house, stream) = (&sender, &house, &stream);
        async move {
            match n % 3 {
                0 => assert_eq!(ask_h2(sender, house, "{").await.error(400), ""),
                1 => assert_eq!(
                    ask_h2(sender, house, &question("none", "x", true).to_string()).await.error(404),
                    "model_not_found"
                ),
                _ => {
                    let answer = ask_h2(sender, house, stream).await;
                    assert!(answer.events().is_whole(), "{}", answer.text());
                    assert!(!answer.headers.contains_key("connection"));
                }
            }
        }
    });
    futures_util::future::join_all(asked).await;
    let large = " ".repeat(33 << 20);
    assert_eq!(ask_h2(&sender, &house, &large).await.error(413), "request_too_large");
    // The connection outlives all of it.
    assert_eq!(ask_h2(&sender, &house, &question("gpt-4o", "x", false).to_string()).await.status, 200);
    house.settled().await;
}

/// R6.1 on HTTP/2: a reset stream closes the platform's connection, and its neighbours run on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u6_a_reset_h2_stream_stops_its_platform_and_nothing_else() {
    let house = House::start(ONE).await;
    let sender = h2_over(TcpStream::connect(house.listen).await.expect("connected")).await;
    let neighbour = tokio::spawn({
        let sent = sender.clone().send_request(h2_request(
            &house,
            "/v1/chat/completions",
            &question("gpt-4o", "@words=60 @gap=50 stay", true).to_string(),
        ));
        async move { read(sent.await.expect("an answer")).await }
    });
    let mut left = Vec::new();
    for n in 0..30 {
        let wait = ["@stall=60000", "@first=60000", "@gap=60000"][n % 3];
        let body = question("gpt-4o", &format!("{wait} leave {n}"), n % 2 == 0 || n % 3 != 0).to_string();
        let sent = sender.clone().send_request(h2_request(&house, "/v1/chat/completions", &body));
        left.push(tokio::spawn(sent));
    }
    until("all wait", || async { house.counted("openai", "in_flight").await == 31 }).await;
    let since = Instant::now();
    for task in &left {
        task.abort();
    }
    drop(left);
    until("they are gone", || async { house.counted("openai", "client_gone").await == 30 }).await;
    assert!(since.elapsed() < Duration::from_secs(2), "it took {:?}", since.elapsed());
    assert!(neighbour.await.expect("joined").events().is_whole());
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_speaks_both_versions_of_http_and_only_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = certify(folder.path());
    let house = House::start(&with_tls(folder.path())).await;
    let stream = question("gpt-4o", "hello", true).to_string();
    let chosen = |stream: &TlsStream<TcpStream>| stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let both = tls(&house, &connector(std::slice::from_ref(&certificate), &[b"h2", b"http/1.1"], false))
        .await
        .expect("TLS");
    assert_eq!(chosen(&both).as_deref(), Some(&b"h2"[..]));
    assert!(ask_h2(&h2_over(both).await, &house, &stream).await.events().is_whole());
    for (alpn, is_old) in [(&[&b"http/1.1"[..]][..], false), (&[], false), (&[&b"http/1.1"[..]][..], true)] {
        let one =
            tls(&house, &connector(std::slice::from_ref(&certificate), alpn, is_old)).await.expect("TLS");
        let text = ask_h1(&house, one, &stream).await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("data: [DONE]\n\n"), "{text}");
    }
    let plain = house.raw(&house.wire_chat("gpt-4o", "hello", false)).await;
    assert!(!String::from_utf8_lossy(&plain).contains("HTTP/1.1 200"), "plain text was answered");
    house.settled().await;
    assert_eq!(house.counted("openai", "requests").await, 4);
}

fn with_tls(folder: &Path) -> String {
    let (cert, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    format!("{ONE}tls: {{cert: \"{}\", key: \"{}\"}}\n", cert.display(), key.display())
}

/// H8: a certificate is replaced while callers come and go; nobody notices but by its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h8_a_new_certificate_takes_over_under_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = certify(folder.path());
    let house = House::start(&with_tls(folder.path())).await;
    let body = question("gpt-4o", "hello", false).to_string();
    let running =
        tls(&house, &connector(std::slice::from_ref(&old), &[b"http/1.1"], false)).await.expect("TLS");
    let long = question("gpt-4o", "@words=80 @gap=50 long", true).to_string();
    let running = ask_h1(&house, running, &long);
    // Others come and go meanwhile, over either version and each on a connection of its own; none may fail.
    let stop = Arc::new(AtomicBool::new(false));
    let hands: Vec<_> = [true, true, false]
        .map(|is_h2| {
            let client = crate::house::client().danger_accept_invalid_certs(true);
            let client = if is_h2 { client } else { client.http1_only() }.build().expect("a client");
            let url = format!("https://{}/v1/chat/completions", house.listen);
            let request = client.post(url).bearer_auth(&house.token).body(body.clone());
            let request = request.header("content-type", "application/json");
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut asked = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = whole(request.try_clone().expect("a copy")).await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    asked += 1;
                }
                asked
            })
        })
        .into();
    let replaced = async {
        let new = certify(folder.path());
        assert_ne!(old, new);
        let trusting = connector(&[old.clone(), new.clone()], &[b"http/1.1"], false);
        let (mut asked, since) = (0, Instant::now());
        loop {
            let stream = tls(&house, &trusting).await.expect("TLS while the certificate changes");
            let shown = stream.get_ref().1.peer_certificates().expect("a certificate")[0].clone();
            let text = ask_h1(&house, stream, &body).await;
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            asked += 1;
            if shown == new {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "the old certificate is still shown");
        }
        // A pair that does not fit changes nothing.
        std::fs::write(folder.path().join("tls.key"), "no key").expect("written");
        until("it is noticed", || async { house.log().contains("the new certificate is refused") }).await;
        let stream = tls(&house, &connector(&[new], &[b"http/1.1"], false)).await.expect("TLS");
        assert!(ask_h1(&house, stream, &body).await.starts_with("HTTP/1.1 200"));
        asked
    };
    let (text, asked): (String, u32) = futures_util::future::join(running, replaced).await;
    assert!(text.contains("data: [DONE]\n\n") && !text.contains("\"error\""), "{text}");
    assert!(asked > 3);
    stop.store(true, Ordering::Relaxed);
    for hand in hands {
        let asked: u32 = hand.await.expect("no request failed");
        assert!(asked > 20, "{asked}");
    }
    house.settled().await;
}
