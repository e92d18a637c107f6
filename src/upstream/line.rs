//! One connection to a platform, and the answer that comes over it. Bytes are read into space on the stack and go from
//! there to whoever wants them: a stream that waits holds no buffer at all.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::SendError;
use super::connect::{Origin, Stream};
use super::framing::Framing;
use super::head::{self, Head};

/// Bytes taken from the socket at once.
const READ: usize = 16 * 1024;

/// Interim answers (`100 Continue`, `103 Early Hints`) that are skipped before the real one.
const MAX_INTERIM: u32 = 8;

/// A request as it goes over the wire.
#[derive(Debug)]
pub struct Wire {
    pub head: Vec<u8>,
    pub body: Bytes,
}

impl Wire {
    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// What is left of head and body after `sent` bytes.
    fn after(&self, sent: usize) -> [IoSlice<'_>; 2] {
        let head = self.head.get(sent..).unwrap_or_default();
        let body = self.body.get(sent.saturating_sub(self.head.len())..).unwrap_or_default();
        [IoSlice::new(head), IoSlice::new(body)]
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Failed {
    pub error: SendError,
    /// Whether the connection was closed before a byte of answer came: where it was used before, that is nobody's failure.
    pub is_untouched: bool,
}

/// A connection, driven by whoever waits for its answer.
#[derive(Debug)]
pub struct Line {
    stream: Stream,
    origin: Origin,
    /// What came after the head, or before it was complete.
    input: BytesMut,
    /// Kept between requests: to wind a running timer further costs nothing, to set up a new one does.
    timer: Pin<Box<Sleep>>,
    /// Whether another request may follow.
    is_reusable: bool,
}

impl Line {
    /// A line over `stream`.
    pub fn new(stream: Stream, origin: Origin) -> Self {
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { stream, origin, input: BytesMut::new(), timer, is_reusable: true }
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether the connection can carry another request, as far as the operating system has told: it is there, and
    /// nothing has come that nobody asked for.
    pub fn is_open(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let mut space = [MaybeUninit::uninit(); 1];
        let mut read = ReadBuf::uninit(&mut space);
        self.is_reusable
            && self.input.is_empty()
            && Pin::new(&mut self.stream).poll_read(&mut context, &mut read).is_pending()
    }

    /// Sends `wire` and waits for the head of the answer, at most for `patience`.
    pub async fn exchange(&mut self, wire: &Wire, patience: Duration) -> Result<Head, Failed> {
        self.timer.as_mut().reset(Instant::now() + patience);
        let (mut sent, mut is_broken, mut interim) = (0, false, 0);
        poll_fn(|context| {
            loop {
                if !is_broken && let Poll::Ready(Err(_)) = self.poll_send(context, wire, &mut sent) {
                    // A platform that refuses a large request may stop listening and answer all the same.
                    is_broken = true;
                }
                match self.poll_head(context) {
                    Poll::Ready(Ok(head)) if head.status.is_informational() && interim < MAX_INTERIM => {
                        interim += 1;
                    }
                    Poll::Ready(Ok(head)) => {
                        self.is_reusable = head.is_reusable && sent == wire.len() && !is_broken;
                        return Poll::Ready(accept(head));
                    }
                    Poll::Ready(Err(failed)) => return Poll::Ready(Err(failed)),
                    Poll::Pending => {
                        ready!(self.timer.as_mut().poll(context));
                        let failed = Failed { error: SendError::HeaderTimeout, is_untouched: false };
                        return Poll::Ready(Err(failed));
                    }
                }
            }
        })
        .await
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        wire: &Wire,
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(&mut self.stream);
        if *sent == wire.len() {
            return Poll::Ready(Ok(()));
        }
        while *sent < wire.len() {
            match ready!(stream.as_mut().poll_write_vectored(context, &wire.after(*sent)))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *sent += more,
            }
        }
        stream.poll_flush(context)
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Head, Failed>> {
        loop {
            if !self.input.is_empty() {
                match head::read(&self.input) {
                    Ok(Some((head, length))) => {
                        self.input.advance(length);
                        return Poll::Ready(Ok(head));
                    }
                    Ok(None) => {}
                    Err(why) => return Poll::Ready(Err(broken(why))),
                }
            }
            let before = self.input.len();
            match ready!(poll_read(&mut self.stream, context, &mut self.input)) {
                Ok(()) if self.input.len() > before => {}
                Ok(()) => return Poll::Ready(Err(closed(before == 0, "closed"))),
                Err(error) => return Poll::Ready(Err(closed(before == 0, &error.to_string()))),
            }
        }
    }
}

fn poll_read(stream: &mut Stream, context: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<()>> {
    let mut space = [MaybeUninit::uninit(); READ];
    let mut read = ReadBuf::uninit(&mut space);
    ready!(Pin::new(stream).poll_read(context, &mut read))?;
    into.extend_from_slice(read.filled());
    Poll::Ready(Ok(()))
}

fn broken(why: &str) -> Failed {
    let error = SendError::Broken(format!("the answer cannot be read: {why}"));
    Failed { error, is_untouched: false }
}

fn closed(is_untouched: bool, why: &str) -> Failed {
    Failed { error: SendError::Broken(why.to_owned()), is_untouched }
}

/// An answer that only says to go on speaking is none.
fn accept(head: Head) -> Result<Head, Failed> {
    if head.status.is_informational() { Err(broken("no answer follows an interim one")) } else { Ok(head) }
}

/// The body of an answer. Dropping it before its end closes the connection.
#[derive(Debug)]
pub struct Body {
    line: Box<Line>,
    framing: Framing,
}

impl Body {
    pub(super) fn new(line: Box<Line>, framing: Framing) -> Self {
        Self { line, framing }
    }

    /// How many bytes are still to come, where the platform has said so.
    pub fn left(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(left) => Some(left),
            Framing::Done => Some(0),
            Framing::Chunked(_) | Framing::UntilClose => None,
        }
    }

    /// Appends the next bytes to `out`; `None` at the proper end.
    pub fn poll_into(
        &mut self,
        context: &mut Context<'_>,
        out: &mut BytesMut,
    ) -> Poll<Option<Result<(), String>>> {
        let before = out.len();
        let early = std::mem::take(&mut self.line.input);
        let mut taken = self.take(&early, out);
        while taken.is_ok() && out.len() == before && !self.framing.is_done() {
            let mut space = [MaybeUninit::uninit(); READ];
            let mut read = ReadBuf::uninit(&mut space);
            taken = match ready!(Pin::new(&mut self.line.stream).poll_read(context, &mut read)) {
                Ok(()) if read.filled().is_empty() => {
                    self.line.is_reusable = false;
                    self.framing.close().map_err(|cut| cut.to_string())
                }
                Ok(()) => self.take(read.filled(), out),
                Err(error) => Err(error.to_string()),
            };
        }
        Poll::Ready(match taken {
            Err(why) => {
                self.line.is_reusable = false;
                Some(Err(why))
            }
            Ok(()) => (out.len() > before).then_some(Ok(())),
        })
    }

    fn take(&mut self, input: &[u8], out: &mut BytesMut) -> Result<(), String> {
        let taken = self.framing.take(input, out).map_err(|broken| broken.to_string())?;
        if taken < input.len() {
            // Bytes after the end: nobody asked for them, and whoever asks next must not get them.
            self.line.is_reusable = false;
        }
        Ok(())
    }

    /// After the answer's own end mark: takes the body's formal end, where it came along, so that the connection can be
    /// used again. Waits for nothing.
    pub fn skim(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let mut rest = BytesMut::new();
        for _ in 0..4 {
            if self.framing.is_done()
                || !matches!(self.poll_into(&mut context, &mut rest), Poll::Ready(Some(Ok(()))))
            {
                return;
            }
        }
    }

    /// The connection, where the answer was read to its end and the platform keeps it open.
    pub(super) fn into_line(mut self) -> Option<Box<Line>> {
        (self.framing.is_done() && self.line.is_open()).then_some(self.line)
    }
}
