//! A platform whose every byte is written by the test: for what the simulated platforms, which speak correct HTTP, cannot
//! do. Counts what reaches it and sees when the gateway goes away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The platform. Ends when dropped.
pub struct Puppet {
    pub address: SocketAddr,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
    open: AtomicUsize,
}

/// One connection of the gateway's, in the test's hand.
pub struct Hand {
    stream: TcpStream,
    counts: Arc<Counts>,
    buffer: Vec<u8>,
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Puppet {
    /// Plays `play` on each connection.
    pub async fn start<F, P>(play: F) -> Self
    where
        F: Fn(Hand) -> P + Send + Sync + 'static,
        P: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let counts: Arc<Counts> = Arc::default();
        let task = tokio::spawn({
            let counts = Arc::clone(&counts);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).expect("a socket");
                    counts.connections.fetch_add(1, Ordering::SeqCst);
                    counts.open.fetch_add(1, Ordering::SeqCst);
                    let hand = Hand { stream, counts: Arc::clone(&counts), buffer: Vec::new() };
                    tokio::spawn(play(hand));
                }
            }
        });
        Self { address, counts, task }
    }

    /// Answers each request with these bytes, and closes.
    pub async fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<[u8]> = bytes.into().into();
        Self::start(move |mut hand| {
            let bytes = Arc::clone(&bytes);
            async move {
                if hand.request().await.is_some() {
                    hand.say(&*bytes).await;
                    hand.close().await;
                }
            }
        })
        .await
    }

    /// Requests that came so far.
    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// Connections that came so far.
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// A configuration with one account, `p`, of an OpenAI-like platform `puppet` that is this, for every model.
    pub fn house(&self, more: &str) -> String {
        format!(
            "platforms:\n  puppet: {{dialect: openai, base_url: \"http://{}/v1\", auth: bearer, models: [m]}}\n\
             accounts: [{{id: p, platform: puppet, api_key: sk-puppet}}]\n{more}",
            self.address
        )
    }
}

impl Hand {
    /// Reads one whole request; `None` when the gateway closed instead.
    pub async fn request(&mut self) -> Option<String> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.trim().parse().expect("a length"));
        while self.buffer.len() < end + length {
            self.more().await?;
        }
        self.counts.requests.fetch_add(1, Ordering::SeqCst);
        Some(String::from_utf8_lossy(&self.buffer.drain(..end + length).collect::<Vec<_>>()).into_owned())
    }

    async fn more(&mut self) -> Option<()> {
        let mut piece = [0; 16 * 1024];
        let count = self.stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        self.buffer.extend_from_slice(&piece[..count]);
        Some(())
    }

    /// Writes; a gateway that has gone is no error here. False where it has.
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// The head of a stream without a length: it ends with the connection.
    pub async fn begin_events(&mut self) -> bool {
        self.say(EVENTS_HEAD).await
    }

    /// Closes in an orderly way.
    pub async fn close(mut self) {
        drop(self.stream.shutdown().await);
        // What the other side still sends is read, so that our close is not turned into a reset.
        drop(timeout(Duration::from_secs(5), async { while self.more().await.is_some() {} }).await);
    }

    /// Closes with a reset.
    pub fn reset(self) {
        drop(self.stream.set_zero_linger());
    }

    /// Waits until the gateway closes (or `limit` is over: false).
    pub async fn is_left_within(&mut self, limit: Duration) -> bool {
        timeout(limit, async { while self.more().await.is_some() {} }).await.is_ok()
    }
}

/// The head of a stream that ends with the connection.
pub const EVENTS_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// One chunk of text, as an event.
pub fn delta(text: &str) -> String {
    event(&json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [
        {"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
}

/// The chunk that says why the answer ended.
pub fn finish() -> String {
    event(&json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [
        {"index": 0, "delta": {}, "finish_reason": "stop"}]}))
}

/// The chunk with the usage: 11 and 7 tokens.
pub fn usage() -> String {
    event(&json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}}))
}

fn event(value: &serde_json::Value) -> String {
    format!("data: {value}\n\n")
}

/// The end mark.
pub const DONE: &str = "data: [DONE]\n\n";

/// A whole good stream: "Hello world", usage, end.
pub fn good_stream() -> String {
    ["Hello", " ", "world"].map(delta).concat() + &finish() + &usage() + DONE
}

/// A whole good answer as JSON.
pub fn good_json() -> String {
    json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hello world"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}})
    .to_string()
}

/// An answer with a length.
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

/// How a scripted answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// An orderly close.
    Close,
    /// A reset.
    Reset,
    /// Silence, until the gateway goes.
    Hang,
}

/// What a puppet says next: the bytes, in pieces of `piece`, and then the end.
#[derive(Clone, Debug)]
pub struct Play {
    pub bytes: Vec<u8>,
    pub piece: usize,
    pub end: End,
}

/// Sets what a puppet plays from now on.
#[derive(Clone)]
pub struct Script(Arc<parking_lot::Mutex<Play>>);

impl Script {
    /// These bytes in one piece.
    pub fn set(&self, bytes: impl Into<Vec<u8>>, end: End) {
        self.set_pieces(bytes, usize::MAX, end);
    }

    /// These bytes in pieces, each written by itself.
    pub fn set_pieces(&self, bytes: impl Into<Vec<u8>>, piece: usize, end: End) {
        *self.0.lock() = Play { bytes: bytes.into(), piece, end };
    }
}

impl Puppet {
    /// A puppet that plays what its script says at the time of each request.
    pub async fn scripted() -> (Self, Script) {
        let script =
            Script(Arc::new(parking_lot::Mutex::new(Play { bytes: Vec::new(), piece: 1, end: End::Close })));
        let plays = script.clone();
        let puppet = Self::start(move |mut hand| {
            let plays = plays.clone();
            async move {
                if hand.request().await.is_none() {
                    return;
                }
                let play = plays.0.lock().clone();
                for piece in play.bytes.chunks(play.piece.min(play.bytes.len().max(1))) {
                    if !hand.say(piece).await {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                match play.end {
                    End::Close => hand.close().await,
                    End::Hang => drop(hand.is_left_within(Duration::from_secs(60)).await),
                    End::Reset => {
                        // What was written is to be read first: a reset may overtake it otherwise.
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        hand.reset();
                    }
                }
            }
        })
        .await;
        (puppet, script)
    }
}
