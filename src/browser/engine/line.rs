//! The line to a browser: Chromium's DevTools protocol, JSON between NUL bytes over two pipes. Nothing that goes over it is ever logged:
//! passwords and cookies do.
//!
//! The line ends when the browser does, and the browser when the line does. A browser that sends more than anybody could want, or
//! reads nothing, is given up.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Largest message, in bytes: a picture of a large page has a few MiB.
const MAX_MESSAGE: usize = 32 << 20;

/// Messages on their way, either way.
const MAX_QUEUE: usize = 4096;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the browser says by itself.
#[derive(Clone)]
pub struct Event {
    pub method: String,
    pub params: Value,
    /// Which page it is of; `None`: the browser.
    pub session: Option<String>,
}

impl fmt::Debug for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Event({})", self.method)
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("the browser has ended")]
    Gone,
    #[error("the browser does not answer")]
    Late,
    /// It said no, in its own words.
    #[error("the browser refused: {0}")]
    Refused(String),
}

type Answer = Result<Value, LineError>;
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>;

/// Our end of the line. Clones are the same one; when the last is dropped, the browser ends.
#[derive(Clone, Debug)]
pub struct Line {
    out: mpsc::Sender<Vec<u8>>,
    waiting: Waiting,
    next: Arc<AtomicU64>,
    gone: CancellationToken,
}

/// What the browser says by itself, in order. Ends when the browser does.
#[derive(Debug)]
pub struct Events {
    /// Everything but what is for the gate.
    pub rest: mpsc::Receiver<Event>,
    /// Requests that wait to be let out, and which pages there are.
    pub gate: mpsc::Receiver<Event>,
}

#[derive(Deserialize)]
struct Incoming {
    id: Option<u64>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    error: Option<Refusal>,
    #[serde(rename = "sessionId")]
    session: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
}

impl Line {
    /// Opens the line over what the browser reads and what it writes.
    pub fn open(
        to: impl AsyncWrite + Send + Unpin + 'static,
        from: impl AsyncRead + Send + Unpin + 'static,
    ) -> (Self, Events) {
        let (out, queue) = mpsc::channel(MAX_QUEUE);
        let (rest_in, rest) = mpsc::channel(MAX_QUEUE);
        let (gate_in, gate) = mpsc::channel(MAX_QUEUE);
        let (waiting, gone) = (Waiting::default(), CancellationToken::new());
        tokio::spawn(write(to, queue));
        let end = gone.clone().drop_guard();
        tokio::spawn(read(from, Arc::clone(&waiting), rest_in, gate_in, end));
        (Self { out, waiting, next: Arc::default(), gone }, Events { rest, gate })
    }

    /// Tells the browser, or one of its pages, something; what comes of it is not waited for.
    pub fn tell(&self, session: Option<&str>, method: &str, params: Value) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // A browser that does not read is one that soon does not answer either: that is seen there.
        drop(self.out.try_send(message(id, session, method, &params)));
    }

    /// Asks the browser, or one of its pages, for something.
    ///
    /// # Errors
    /// See [`LineError`].
    pub async fn ask(&self, session: Option<&str>, method: &str, params: Value) -> Answer {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        if self.out.try_send(message(id, session, method, &params)).is_err() {
            self.waiting.lock().remove(&id);
            return Err(LineError::Gone);
        }
        let answered = tokio::select! {
            // What was answered before the end counts.
            biased;
            answer = answer => answer.unwrap_or(Err(LineError::Gone)),
            () = self.gone.cancelled() => Err(LineError::Gone),
            () = tokio::time::sleep(PATIENCE) => Err(LineError::Late),
        };
        self.waiting.lock().remove(&id);
        answered
    }

    /// Resolves when the browser has ended.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }
}

fn message(id: u64, session: Option<&str>, method: &str, params: &Value) -> Vec<u8> {
    let mut message = json!({"id": id, "method": method, "params": params});
    if let (Some(session), Some(members)) = (session, message.as_object_mut()) {
        members.insert("sessionId".to_owned(), session.into());
    }
    let mut bytes = message.to_string().into_bytes();
    bytes.push(0);
    bytes
}

async fn write(mut to: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(message) = queue.recv().await {
        if to.write_all(&message).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

async fn read(
    mut from: impl AsyncRead + Unpin,
    waiting: Waiting,
    rest: mpsc::Sender<Event>,
    gate: mpsc::Sender<Event>,
    _end: DropGuard,
) {
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut sought = 0;
    'line: while from.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        while let Some(end) = buffer.get(sought..).and_then(|fresh| memchr::memchr(0, fresh)) {
            let end = sought + end;
            let is_taken = take(buffer.get(..end).unwrap_or_default(), &waiting, &rest, &gate);
            buffer.drain(..=end);
            sought = 0;
            if !is_taken {
                break 'line;
            }
        }
        sought = buffer.len();
        if sought > MAX_MESSAGE {
            break;
        }
    }
}

/// Passes a message on; false where nobody can take it any more, or there is too much of it.
fn take(bytes: &[u8], waiting: &Waiting, rest: &mpsc::Sender<Event>, gate: &mpsc::Sender<Event>) -> bool {
    let Ok(incoming) = serde_json::from_slice::<Incoming>(bytes) else { return false };
    if let Some(id) = incoming.id {
        if let Some(waits) = waiting.lock().remove(&id) {
            let answer = match incoming.error {
                Some(refusal) => Err(LineError::Refused(refusal.message.chars().take(200).collect())),
                None => Ok(incoming.result),
            };
            // Nobody waits any more: that is theirs to decide.
            drop(waits.send(answer));
        }
        return true;
    }
    let Some(method) = incoming.method else { return true };
    let event = Event { method, params: incoming.params, session: incoming.session };
    let is_known_to_gate = event.method.starts_with("Target.target");
    if event.method.starts_with("Fetch.") {
        return gate.try_send(event).is_ok();
    }
    (!is_known_to_gate || gate.try_send(event.clone()).is_ok()) && rest.try_send(event).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Other {
        reads: tokio::io::DuplexStream,
        writes: tokio::io::DuplexStream,
    }

    fn line() -> (Line, Events, Other) {
        let (ours, reads) = tokio::io::duplex(1 << 16);
        let (writes, from) = tokio::io::duplex(1 << 16);
        let (line, events) = Line::open(ours, from);
        (line, events, Other { reads, writes })
    }

    impl Other {
        async fn heard(&mut self) -> Value {
            let mut bytes = Vec::new();
            loop {
                match self.reads.read_u8().await.expect("a byte") {
                    0 => return serde_json::from_slice(&bytes).expect("JSON"),
                    byte => bytes.push(byte),
                }
            }
        }

        async fn say(&mut self, text: &str) {
            self.writes.write_all(text.as_bytes()).await.expect("written");
        }
    }

    #[tokio::test]
    async fn answers_find_who_asked_whatever_their_order_and_wherever_they_are_cut() {
        let (line, mut events, mut other) = line();
        let (one, two) = (line.clone(), line.clone());
        let first = tokio::spawn(async move { one.ask(None, "A.a", json!({})).await });
        let a = other.heard().await;
        let second = tokio::spawn(async move { two.ask(Some("S"), "B.b", json!({"x": 1})).await });
        let b = other.heard().await;
        assert_eq!((&a["method"], a.get("sessionId")), (&json!("A.a"), None));
        assert_eq!((&b["params"]["x"], &b["sessionId"]), (&json!(1), &json!("S")));
        let text = format!(
            "{{\"id\":{},\"result\":{{\"y\":2}}}}\0{{\"method\":\"Page.x\",\"params\":{{\"z\":3}},\"sessionId\":\"S\"}}\0\
             {{\"id\":{},\"error\":{{\"message\":\"no\"}}}}\0{{\"id\":999,\"result\":{{}}}}\0{{\"method\":\"Fetch.f\"}}\0{{\"method\":\"Target.targetCreated\"}}\0",
            b["id"], a["id"]
        );
        for byte in text.chars() {
            other.say(&byte.to_string()).await;
        }
        assert_eq!(second.await.expect("ran"), Ok(json!({"y": 2})));
        assert_eq!(first.await.expect("ran"), Err(LineError::Refused("no".to_owned())));
        let event = events.rest.recv().await.expect("an event");
        assert_eq!((event.params, event.session), (json!({"z": 3}), Some("S".to_owned())));
        assert_eq!(events.gate.recv().await.expect("for the gate").method, "Fetch.f");
        assert_eq!(events.gate.recv().await.expect("for both").method, "Target.targetCreated");
        assert_eq!(events.rest.recv().await.expect("for both").method, "Target.targetCreated");
    }

    #[tokio::test]
    async fn who_waits_hears_of_the_end() {
        let (line, mut events, mut other) = line();
        let asking = line.clone();
        let asked = tokio::spawn(async move { asking.ask(None, "A.a", json!({})).await });
        other.heard().await;
        drop(other);
        assert_eq!(asked.await.expect("ran"), Err(LineError::Gone));
        assert!(events.rest.recv().await.is_none());
        assert_eq!(line.ask(None, "A.a", json!({})).await, Err(LineError::Gone));
    }

    #[tokio::test]
    async fn no_line_of_ours_left_is_the_browsers_end() {
        let (line, _events, mut other) = line();
        drop(line);
        assert!(other.reads.read_u8().await.is_err());
    }

    #[tokio::test]
    async fn nonsense_and_floods_end_the_line() {
        let (_line, mut events, mut other) = line();
        other.say("no json\0").await;
        assert!(events.rest.recv().await.is_none());
        let (_line, mut events, mut other) = self::line();
        let flood = tokio::spawn(async move {
            for _ in 0..=MAX_QUEUE {
                if other.writes.write_all(b"{\"method\":\"Page.x\"}\0").await.is_err() {
                    return;
                }
            }
        });
        flood.await.expect("ran");
        let mut count = 0;
        while events.rest.recv().await.is_some() {
            count += 1;
        }
        assert_eq!(count, MAX_QUEUE);
    }

    #[test]
    fn an_event_says_nothing_of_what_it_holds() {
        let event = Event { method: "Page.x".into(), params: json!({"key": "secret"}), session: None };
        assert_eq!(format!("{event:?}"), "Event(Page.x)");
    }
}
