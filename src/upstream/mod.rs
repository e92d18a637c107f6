//! Connections out. Why our own pool and our own HTTP/1.1: hyper-util's pooled client runs every connection in a task of
//! its own, so each event of a stream crosses between two tasks and is woken twice; and hyper's codec holds 34 KiB per
//! connection (two buffers and a channel) while a stream waits. Here the connection is driven by whoever waits for its
//! answer: one task from the platform's socket to the caller's, no buffer while nothing comes, and dropping the answer
//! closes the connection at once, which is how a platform learns that its caller has gone.
//!
//! HTTP/1.1 only, on purpose: a stream holds its connection anyway, and one stalled HTTP/2 connection would hold up all
//! the streams on it (R16.4). Redirects are never followed (a credential must not travel), and bodies are taken as they
//! are: nothing is asked for compressed, so a compressed answer is refused.

mod connect;
mod framing;
mod head;
mod line;
mod socket;
pub mod source;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;

use connect::Connector;
pub use connect::Origin;
pub use line::Body;
use line::{Failed, Line, Wire};
use source::Source;

use crate::clock::{Clock, Moment};

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection: the name does not resolve, nobody listens, the TLS handshake failed.
    #[error("could not connect: {0}")]
    Connect(String),
    /// No connection in time.
    #[error("no connection in time")]
    ConnectTimeout,
    /// No status line and headers in time: the platform may be working on it.
    #[error("no answer in time")]
    HeaderTimeout,
    /// The connection broke before an answer came.
    #[error("the connection broke before an answer: {0}")]
    Broken(String),
    /// The request cannot be put on the wire (our fault).
    #[error("the request could not be built: {0}")]
    Request(String),
}

/// One request to a platform.
#[derive(Debug)]
pub struct Request<'a> {
    pub origin: &'a Origin,
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The head of a platform's answer, and its body to come.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Source,
}

/// Time limits of one request.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub connect: Duration,
    pub response_header: Duration,
}

/// Idle connections are not used again after this time: most servers close theirs after 60 s or more.
const MAX_IDLE: Duration = Duration::from_secs(50);

/// Idle connections kept per origin and shard.
const MAX_IDLE_LINES: usize = 256;

type Shard = Mutex<HashMap<Origin, Vec<Idle>>>;

#[derive(Debug)]
struct Idle {
    line: Box<Line>,
    since: Moment,
}

/// Sends requests and keeps connections for the next ones.
#[derive(Debug)]
pub struct Upstream {
    connector: Connector,
    /// Idle connections. A worker thread looks into its own shard first, so that cores do not share a lock.
    shards: Box<[Shard]>,
    clock: Clock,
}

impl Upstream {
    /// A client for `workers` worker threads. `roots` are trusted besides the system's certificate authorities.
    pub fn new(workers: usize, roots: Vec<rustls_pki_types::CertificateDer<'static>>, clock: Clock) -> Self {
        let shards = (0..workers.max(1)).map(|_| Shard::default()).collect();
        Self { connector: Connector::new(roots, clock.clone()), shards, clock }
    }

    /// Sends one request and waits for the head of its answer.
    ///
    /// A connection from the pool that turns out to be closed without a byte of answer is replaced by a fresh one, once:
    /// that race is nobody's failure.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, request: Request<'_>, patience: Patience) -> Result<Answer, SendError> {
        let wire = Wire { head: head::write(&request)?, body: request.body.clone() };
        if let Some(line) = self.take_idle(request.origin) {
            match exchange(line, &wire, patience).await {
                Err(failed) if failed.is_untouched => {}
                Err(failed) => return Err(failed.error),
                Ok(answer) => return Ok(answer),
            }
        }
        let connecting = self.connector.connect(request.origin);
        let stream = match tokio::time::timeout(patience.connect, connecting).await {
            Ok(connected) => connected?,
            Err(_) => return Err(SendError::ConnectTimeout),
        };
        let line = Box::new(Line::new(stream, request.origin.clone()));
        exchange(line, &wire, patience).await.map_err(|failed| failed.error)
    }

    /// Takes back the connection of an answer that was read to its end.
    pub fn recycle(&self, body: Body) {
        let Some(line) = body.into_line() else { return };
        let now = self.clock.now();
        let origin = line.origin().clone();
        let Some(shard) = self.own_shard() else { return };
        let mut shard = shard.lock();
        let idle = shard.entry(origin).or_default();
        if idle.len() < MAX_IDLE_LINES {
            idle.push(Idle { line, since: now });
        }
    }

    /// Closes connections that were idle for too long. To be called every few seconds.
    pub fn sweep(&self) {
        let now = self.clock.now();
        for shard in &self.shards {
            shard.lock().retain(|_, idle| {
                idle.retain_mut(|idle| now.since(idle.since) < MAX_IDLE && idle.line.is_open());
                !idle.is_empty()
            });
        }
    }

    fn own_shard(&self) -> Option<&Shard> {
        let mut hasher = DefaultHasher::new();
        std::thread::current().id().hash(&mut hasher);
        let index = hasher.finish() % self.shards.len() as u64;
        self.shards.get(usize::try_from(index).ok()?)
    }

    fn take_idle(&self, origin: &Origin) -> Option<Box<Line>> {
        let own = self.own_shard()?;
        self.take_from(own, origin).or_else(|| {
            let others = self.shards.iter().filter(|shard| !std::ptr::eq(*shard, own));
            others.into_iter().find_map(|shard| self.take_from(shard, origin))
        })
    }

    fn take_from(&self, shard: &Shard, origin: &Origin) -> Option<Box<Line>> {
        let now = self.clock.now();
        let mut shard = shard.lock();
        let idle = shard.get_mut(origin)?;
        // The one used last is the least likely to have been closed meanwhile.
        while let Some(mut last) = idle.pop() {
            if now.since(last.since) < MAX_IDLE && last.line.is_open() {
                return Some(last.line);
            }
        }
        None
    }
}

async fn exchange(mut line: Box<Line>, wire: &Wire, patience: Patience) -> Result<Answer, Failed> {
    let head = line.exchange(wire, patience.response_header).await?;
    let body = Source::Http(Body::new(line, head.framing));
    Ok(Answer { status: head.status, headers: head.headers, body })
}

#[cfg(test)]
mod tests;
