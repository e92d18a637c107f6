//! Against a scripted server on a socket of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(2), response_header: Duration::from_secs(2) };

/// Serves every request with `answer`; after it the connection stays open, or closes where `closes` says so.
async fn server(answer: &'static [u8], closes: bool) -> (Origin, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    stream.write_all(answer).await.expect("write");
                    if closes {
                        return;
                    }
                }
            });
        }
    });
    (Origin::new(false, "127.0.0.1", port), accepted)
}

async fn ask(upstream: &Upstream, origin: &Origin) -> Result<String, String> {
    let request = Request {
        origin,
        method: Method::POST,
        path: "/x",
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{}"),
    };
    let mut answer = upstream.send(request, PATIENCE).await.map_err(|error| error.to_string())?;
    let mut text = BytesMut::new();
    while let Some(read) = answer.body.read_into(&mut text).await {
        read?;
    }
    answer.body.recycle(upstream);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn a_finished_answer_gives_its_connection_back() {
    let (origin, accepted) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false).await;
    let upstream = Upstream::new(1, Vec::new(), Clock::system());
    for _ in 0..20 {
        assert_eq!(ask(&upstream, &origin).await.as_deref(), Ok("ok"));
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced_unseen() {
    let (origin, accepted) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", true).await;
    let upstream = Upstream::new(1, Vec::new(), Clock::system());
    for _ in 0..50 {
        assert_eq!(ask(&upstream, &origin).await.as_deref(), Ok("ok"));
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 50);
}

#[tokio::test]
async fn a_cut_body_is_an_error_and_its_connection_is_not_used_again() {
    let (origin, _) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nok", true).await;
    let upstream = Upstream::new(1, Vec::new(), Clock::system());
    assert!(ask(&upstream, &origin).await.is_err());
    assert!(upstream.take_idle(&origin).is_none());
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    drop(listener);
    let upstream = Upstream::new(1, Vec::new(), Clock::system());
    let error = ask(&upstream, &Origin::new(false, "127.0.0.1", port)).await.expect_err("refused");
    assert!(error.starts_with("could not connect"), "{error}");
}

#[tokio::test]
async fn dropping_a_body_closes_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let gone = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut buffer = vec![0; 4096];
        assert!(stream.read(&mut buffer).await.expect("request") > 0);
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n";
        stream.write_all(head).await.expect("write");
        stream.read(&mut buffer).await.unwrap_or(0)
    });
    let upstream = Upstream::new(1, Vec::new(), Clock::system());
    let origin = Origin::new(false, "127.0.0.1", port);
    let request = Request {
        origin: &origin,
        method: Method::POST,
        path: "/",
        headers: HeaderMap::new(),
        body: Bytes::new(),
    };
    let mut answer = upstream.send(request, PATIENCE).await.expect("head");
    let mut text = BytesMut::new();
    answer.body.read_into(&mut text).await.expect("some").expect("bytes");
    assert_eq!(text, "hi");
    drop(answer);
    let left = tokio::time::timeout(Duration::from_secs(1), gone).await.expect("closed within a second");
    assert_eq!(left.expect("joined"), 0);
}

#[tokio::test]
async fn silence_is_a_header_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let upstream = Upstream::new(1, Vec::new(), Clock::system());
    let origin = Origin::new(false, "127.0.0.1", port);
    let request = Request {
        origin: &origin,
        method: Method::POST,
        path: "/",
        headers: HeaderMap::new(),
        body: Bytes::new(),
    };
    let patience = Patience { response_header: Duration::from_millis(50), ..PATIENCE };
    assert!(matches!(upstream.send(request, patience).await, Err(SendError::HeaderTimeout)));
    drop(listener);
}
