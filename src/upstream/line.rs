//! One connection to a platform, and the answer that comes over it.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use super::SendError;
use super::connect::{Origin, Stream};

/// A request as hyper takes it.
pub type Wire = http::Request<Full<Bytes>>;

/// Largest head of an answer, in bytes; also bounds the read buffer.
const MAX_BUFFER: usize = 64 * 1024;

/// A connection, driven by whoever waits for its answer.
#[derive(Debug)]
pub struct Line {
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<TokioIo<Stream>, Full<Bytes>>,
    closed: bool,
    origin: Origin,
}

impl Line {
    /// Speaks HTTP/1.1 over `stream`.
    pub async fn open(stream: Stream, origin: Origin) -> Result<Self, SendError> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| SendError::Connect(error.to_string()))?;
        Ok(Self { sender, connection, closed: false, origin })
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether the connection is still there, as far as the operating system has told.
    pub fn is_open(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.drive(&mut context);
        !self.closed && self.sender.is_ready()
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        if !self.closed && Pin::new(&mut self.connection).poll(context).is_ready() {
            self.closed = true;
        }
    }

    /// Sends `wire` and waits for the head of the answer. With the error comes the request, where the platform has not
    /// sent a byte in return and the connection was one used before.
    pub async fn exchange(
        &mut self,
        wire: Wire,
    ) -> Result<http::Response<Incoming>, (SendError, Option<Wire>)> {
        let spare = Wire::clone(&wire);
        let mut answer = std::pin::pin!(self.sender.try_send_request(wire));
        let (connection, closed) = (&mut self.connection, &mut self.closed);
        let result = poll_fn(|context| {
            if !*closed && Pin::new(&mut *connection).poll(context).is_ready() {
                *closed = true;
            }
            answer.as_mut().poll(context)
        })
        .await;
        result.map_err(|failed| {
            let error = failed.error();
            let no_byte_came =
                error.is_canceled() || error.is_incomplete_message() || error.is_closed() || is_reset(error);
            let broken = SendError::Broken(error.to_string());
            (broken, no_byte_came.then_some(spare))
        })
    }
}

/// Whether the other side had closed before it saw the request: its system then answers with a reset.
fn is_reset(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| matches!(cause.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
}

/// The body of an answer. Dropping it before its end closes the connection.
#[derive(Debug)]
pub struct Body {
    line: Box<Line>,
    incoming: Incoming,
    ended: bool,
}

impl Body {
    pub(super) fn new(line: Box<Line>, incoming: Incoming) -> Self {
        let ended = incoming.is_end_stream();
        Self { line, incoming, ended }
    }

    /// The next bytes; `None` at the proper end.
    pub fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        loop {
            // First the body, which says that it wants more; then the connection, which may now read; then the body again.
            if let Poll::Ready(frame) = self.poll_frame(context) {
                return Poll::Ready(frame);
            }
            if self.line.closed {
                return self.poll_frame(context);
            }
            self.line.drive(context);
            match self.poll_frame(context) {
                Poll::Pending if self.line.closed => {}
                polled => return polled,
            }
        }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        loop {
            return match Pin::new(&mut self.incoming).poll_frame(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(None) => {
                    self.ended = true;
                    Poll::Ready(None)
                }
                Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) if bytes.is_empty() => continue,
                    Ok(bytes) => Poll::Ready(Some(Ok(bytes))),
                    Err(_trailers) => continue,
                },
            };
        }
    }

    /// The next bytes, awaited.
    pub async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        poll_fn(|context| self.poll_bytes(context)).await
    }

    /// After the answer's own end mark: takes the body's formal end, where it came along, so that the connection can be
    /// used again. Waits for nothing.
    pub fn skim(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..4 {
            match self.poll_bytes(&mut context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) | Poll::Pending => return,
            }
        }
    }

    /// The connection, where the answer was read to its end and the platform keeps it open.
    pub(super) fn into_line(mut self) -> Option<Box<Line>> {
        (self.ended && self.line.is_open()).then_some(self.line)
    }
}
