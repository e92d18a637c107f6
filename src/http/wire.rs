//! A caller's connection, with the time limits and manners that a codec does not have: a head that trickles in is cut
//! off, a caller that does not read is cut off, and a head that cannot be parsed is answered in OpenAI's shape.
//!
//! Why around the socket: only here is it known whether bytes are moving.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::fault::{Fault, Kind};

/// Where a connection stands. Shared between the socket, the service and the answer's body; over HTTP/2 these are in tasks
/// of their own.
#[derive(Debug, Default)]
pub struct Phase {
    state: AtomicU8,
    /// Requests that are being served.
    open: AtomicU32,
    /// Requests that have been served; wraps.
    served: AtomicU32,
}

/// A request that is being served, until this is dropped.
#[derive(Debug)]
pub struct Busy(Arc<Phase>);

impl Drop for Busy {
    fn drop(&mut self) {
        let others = self.0.open.fetch_sub(1, Ordering::Relaxed) - 1;
        self.0.served.fetch_add(1, Ordering::Relaxed);
        // Over HTTP/1 there are others where the connection went on as something else: it stays busy with that.
        if others == 0 {
            self.0.advance(ANSWERED);
        }
    }
}

/// No byte of a request has come yet.
const IDLE: u8 = 0;
/// Some of a head has come.
const HEAD: u8 = 1;
/// A request is being served.
const BUSY: u8 = 2;
/// A request has been answered; the next one may come.
const ANSWERED: u8 = 3;
/// HTTP/2: many requests at once.
const MULTIPLEXED: u8 = 4;

impl Phase {
    /// A request's head is complete. To be dropped when its answer has been handed out, or will not be.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.advance(BUSY);
        Busy(Arc::clone(self))
    }

    /// The connection speaks HTTP/2.
    pub fn multiplex(&self) {
        self.state.store(MULTIPLEXED, Ordering::Relaxed);
    }

    /// Whether the connection speaks HTTP/2.
    pub fn is_multiplexed(&self) -> bool {
        self.get() == MULTIPLEXED
    }

    /// Whether the connection has brought a request, or at least shown which version of HTTP it speaks.
    pub fn has_begun(&self) -> bool {
        !matches!(self.get(), IDLE | HEAD)
    }

    fn advance(&self, to: u8) {
        if !self.is_multiplexed() {
            self.state.store(to, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    /// How long the caller may now be silent, and the name of this silence; `None` where we are the ones to speak.
    fn silence(&self, patience: &Patience) -> Option<(Silence, Duration)> {
        let (state, served) = (self.get(), self.served.load(Ordering::Relaxed));
        let limit = match state {
            BUSY => return None,
            MULTIPLEXED if self.open.load(Ordering::Relaxed) > 0 => return None,
            MULTIPLEXED if served > 0 => patience.keep_alive,
            ANSWERED => patience.keep_alive,
            _ => patience.head,
        };
        Some(((state, served), limit))
    }
}

/// One stretch of waiting for a caller: the state, and how many requests came before it.
type Silence = (u8, u32);

/// Time limits of a caller's connection.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a whole head, from its first byte (or from the connection's beginning).
    pub head: Duration,
    /// For a write to make progress.
    pub stall: Duration,
    /// Between two requests.
    pub keep_alive: Duration,
}

/// The connection.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    phase: Arc<Phase>,
    patience: Patience,
    /// Read already, to see what is spoken; to be read again.
    opening: BytesMut,
    /// The silence that is being waited through, and until when.
    awaiting: Option<(Silence, Instant)>,
    /// Strikes at the end of a silence, or earlier. One for the connection's life: to set a timer up for every request
    /// would cost more than to be woken in vain now and then.
    reading: Option<Pin<Box<Sleep>>>,
    /// Runs while the caller does not take what we write.
    writing: Option<Pin<Box<Sleep>>>,
    /// Our own words in place of the codec's bare refusal: how much of them is out.
    refusal: Option<(Vec<u8>, usize)>,
}

impl<S> Wire<S> {
    /// Watches over `stream`.
    pub fn new(stream: S, phase: Arc<Phase>, patience: Patience) -> Self {
        let (opening, awaiting, reading) = (BytesMut::new(), None, None);
        Self { stream, phase, patience, opening, awaiting, reading, writing: None, refusal: None }
    }
}

/// How a connection begins that speaks HTTP/2; a request of HTTP/1 could begin like the first line of it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that are read at most to see what is spoken: most requests are whole by then.
const OPENING: usize = 4096;

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Waits for the first bytes and says whether they begin HTTP/2. Whoever reads next gets them, too. May be given up
    /// and asked again.
    ///
    /// # Errors
    /// As reading itself, a caller's patience included.
    pub async fn is_http2(&mut self) -> io::Result<bool> {
        poll_fn(|context| {
            loop {
                let mut space = [MaybeUninit::uninit(); OPENING];
                let mut read = ReadBuf::uninit(&mut space);
                ready!(self.poll_fresh(context, &mut read))?;
                self.opening.extend_from_slice(read.filled());
                let is_http2 = self.opening.starts_with(PREFACE);
                if is_http2 {
                    self.phase.multiplex();
                }
                if is_http2 || read.filled().is_empty() || !PREFACE.starts_with(&self.opening) {
                    return Poll::Ready(Ok(is_http2));
                }
            }
        })
        .await
    }

    /// Reads what has not been read yet.
    fn poll_fresh(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(read) => {
                if buffer.filled().len() > before && matches!(self.phase.get(), IDLE | ANSWERED) {
                    self.phase.advance(HEAD);
                }
                Poll::Ready(read)
            }
            Poll::Pending => self.poll_patience(context).map(Err),
        }
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// While nothing comes: has the caller's time for it run out?
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Some((silence, limit)) = self.phase.silence(&self.patience) else {
            self.awaiting = None;
            return Poll::Pending;
        };
        let until = match self.awaiting {
            Some((waited_through, until)) if waited_through == silence => until,
            _ => self.awaiting.insert((silence, Instant::now() + limit)).1,
        };
        let timer = self.reading.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        loop {
            ready!(Future::poll(timer.as_mut(), context));
            if Instant::now() >= until {
                break;
            }
            timer.as_mut().reset(until);
        }
        if self.phase.get() == HEAD {
            let late = Fault::client(Kind::SlowClient, "The request's head did not arrive in time.");
            let text = refusal_text(&late);
            // One try: a caller too slow to send is not waited for to read.
            drop(Pin::new(&mut self.stream).poll_write(context, &text));
        }
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    fn poll_refusal(&mut self, context: &mut Context<'_>, instead_of: usize) -> Poll<io::Result<usize>> {
        while let Some((text, sent)) = &mut self.refusal {
            let rest = text.get(*sent..).unwrap_or_default();
            if rest.is_empty() {
                self.refusal = None;
                break;
            }
            *sent += ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
        }
        Poll::Ready(Ok(instead_of))
    }
}

/// A refusal by the codec (`HTTP/1.1 4xx …` without a body), told in our own words.
fn refusal_for(bytes: &[u8]) -> Option<Vec<u8>> {
    let status = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?.get(..3)?;
    let fault = match status {
        b"431" => Fault::client(Kind::HeadersTooLarge, "The request's headers are too large."),
        b"414" => Fault::client(Kind::UriTooLong, "The request's path is too long."),
        [b'4', ..] => Fault::client(Kind::BadRequest, "The request is not well-formed HTTP."),
        _ => return None,
    };
    Some(refusal_text(&fault))
}

fn refusal_text(fault: &Fault) -> Vec<u8> {
    let body = fault.body();
    let status = fault.kind().row().status;
    let reason =
        http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or_default();
    let id = crate::ids::RequestId::random();
    format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         x-request-id: {id}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.opening.is_empty() {
            return wire.poll_fresh(context, buffer);
        }
        let now = wire.opening.split_to(wire.opening.len().min(buffer.remaining()));
        buffer.put_slice(&now);
        if wire.opening.is_empty() {
            wire.opening = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        if wire.refusal.is_none() && matches!(wire.phase.get(), IDLE | HEAD) {
            wire.refusal = refusal_for(bytes).map(|text| (text, 0));
        }
        let polled = if wire.refusal.is_some() {
            wire.poll_refusal(context, bytes.len())
        } else {
            Pin::new(&mut wire.stream).poll_write(context, bytes)
        };
        match polled {
            Poll::Ready(written) => {
                wire.writing = None;
                Poll::Ready(written)
            }
            Poll::Pending => {
                let deadline = Instant::now() + wire.patience.stall;
                let timer = wire.writing.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                ready!(Future::poll(timer.as_mut(), context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PATIENCE: Patience = Patience {
        head: Duration::from_millis(100),
        stall: Duration::from_millis(100),
        keep_alive: Duration::from_secs(5),
    };

    #[tokio::test]
    async fn a_head_that_trickles_is_cut_off_with_a_word() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut wire = Wire::new(ours, Arc::default(), PATIENCE);
        theirs.write_all(b"GET").await.expect("write");
        let mut buffer = [0; 64];
        assert_eq!(wire.read(&mut buffer).await.expect("read"), 3);
        let error = wire.read(&mut buffer).await.expect_err("too slow");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(wire);
        let mut text = String::new();
        theirs.read_to_string(&mut text).await.expect("read");
        assert!(text.starts_with("HTTP/1.1 400") && text.contains("request_timeout"), "{text}");
    }

    #[tokio::test]
    async fn a_caller_that_does_not_read_is_cut_off() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let phase: Arc<Phase> = Arc::default();
        let _busy = phase.begin();
        let mut wire = Wire::new(ours, phase, PATIENCE);
        let error = wire.write_all(&[0; 64]).await.expect_err("stalled");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn the_codecs_bare_refusal_is_told_in_our_words_and_an_answer_of_ours_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let phase: Arc<Phase> = Arc::default();
        let mut wire = Wire::new(ours, Arc::clone(&phase), PATIENCE);
        wire.write_all(b"HTTP/1.1 431 x\r\ncontent-length: 0\r\n\r\n").await.expect("write");
        drop(phase.begin());
        wire.write_all(b"HTTP/1.1 404 ours").await.expect("write");
        drop(wire);
        let mut text = String::new();
        theirs.read_to_string(&mut text).await.expect("read");
        assert!(text.contains("headers_too_large") && text.ends_with("HTTP/1.1 404 ours"), "{text}");
    }

    #[tokio::test]
    async fn what_is_spoken_is_seen_at_any_cut_and_nothing_is_lost() {
        let cases: [(&[u8], bool); 5] = [
            (b"PRI * HTTP/2.0\r\nhost: hiding in HTTP/1.1\r\n", false),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n and frames", true),
            (b"PRI * HTTP/1.1\r\nhost: odd but HTTP/1.1\r\n", false),
            (b"POST /v1/chat/completions HTTP/1.1\r\n", false),
            (b"P", false),
        ];
        for (text, is_http2) in cases {
            for cut in 0..text.len() {
                let (ours, mut theirs) = tokio::io::duplex(1024);
                let mut wire = Wire::new(ours, Arc::default(), PATIENCE);
                let (now, later) = text.split_at(cut);
                theirs.write_all(now).await.expect("write");
                // Asked twice, the first time in vain at some cuts: nothing may be lost by that.
                let early = futures_util::FutureExt::now_or_never(wire.is_http2());
                theirs.write_all(later).await.expect("write");
                drop(theirs);
                let seen = match early {
                    Some(seen) => seen,
                    None => wire.is_http2().await,
                };
                assert_eq!(seen.expect("read"), is_http2, "{text:?} cut at {cut}");
                let mut all = Vec::new();
                // In small pieces: what was read early may be asked for bit by bit.
                while wire.read_buf(&mut bytes::BufMut::limit(&mut all, 7)).await.expect("read") > 0 {}
                assert_eq!(all, text, "cut at {cut}");
            }
        }
    }

    #[tokio::test]
    async fn the_timer_of_an_earlier_wait_does_not_end_a_later_one() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let phase: Arc<Phase> = Arc::default();
        let mut wire = Wire::new(ours, Arc::clone(&phase), PATIENCE);
        let mut buffer = [0; 4];
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, wire.read(&mut buffer)).await.is_err(), "waits for a head");
        drop(phase.begin());
        let later = PATIENCE.head * 3;
        assert!(tokio::time::timeout(later, wire.read(&mut buffer)).await.is_err(), "may wait for the next");
        theirs.write_all(b"G").await.expect("write");
        assert_eq!(wire.read(&mut buffer).await.expect("read"), 1);
        let error = wire.read(&mut buffer).await.expect_err("a head that does not go on");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn http_2_without_a_request_is_cut_off_and_with_one_it_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let phase: Arc<Phase> = Arc::default();
        let mut wire = Wire::new(ours, Arc::clone(&phase), PATIENCE);
        theirs.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("write");
        assert!(wire.is_http2().await.expect("read"));
        let mut buffer = [0; 64];
        assert_eq!(wire.read(&mut buffer).await.expect("read"), 24);
        let busy = phase.begin();
        let waited = tokio::time::timeout(Duration::from_millis(300), wire.read(&mut buffer)).await;
        assert!(waited.is_err(), "cut off in the middle of a request");
        drop(busy);
        let waited = tokio::time::timeout(Duration::from_millis(300), wire.read(&mut buffer)).await;
        assert!(waited.is_err(), "cut off before the next request could come");
        let idle: Arc<Phase> = Arc::default();
        idle.multiplex();
        let (ours, _theirs) = tokio::io::duplex(1024);
        let error = Wire::new(ours, idle, PATIENCE).read(&mut buffer).await.expect_err("too slow");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
