//! The body of an answer from the request path: whole, streamed, or an early refusal that still reads what is being sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::relay::Relay;

/// An answer's body.
#[derive(Debug)]
pub enum Answer {
    /// All of it, known.
    Whole(Bytes),
    /// Relayed as it comes.
    Stream(Box<Relay>),
    /// An answer to a request whose body is still on its way.
    Early(Box<Early>),
}

impl Answer {
    /// An early refusal with `text`, reading on from `rest` for a while.
    pub fn early(text: Bytes, rest: Incoming) -> Self {
        Answer::Early(Box::new(Early {
            text: Some(text),
            rest,
            patience: Box::pin(tokio::time::sleep(READ_ON_FOR)),
            quiet: Box::pin(tokio::time::sleep(READ_ON_QUIET)),
            left: READ_ON_BYTES,
        }))
    }
}

/// A refusal sent before the request's body was read. Why it reads on: a connection that is closed with unread bytes is
/// reset, and a client that is still writing then never sees the refusal (R20.2).
#[derive(Debug)]
pub struct Early {
    text: Option<Bytes>,
    rest: Incoming,
    patience: Pin<Box<Sleep>>,
    /// Runs while nothing comes: who has stopped writing (or asked first, with `expect`) waits for our last byte.
    quiet: Pin<Box<Sleep>>,
    left: usize,
}

const READ_ON_FOR: Duration = Duration::from_secs(10);
const READ_ON_QUIET: Duration = Duration::from_secs(1);
const READ_ON_BYTES: usize = 256 << 20;

impl Early {
    /// Resolves when the client has sent everything, or enough.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if Future::poll(self.patience.as_mut(), context).is_ready() {
            return Poll::Ready(());
        }
        loop {
            match Pin::new(&mut self.rest).poll_frame(context) {
                Poll::Pending => return Future::poll(self.quiet.as_mut(), context),
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(()),
                Poll::Ready(Some(Ok(frame))) => {
                    self.quiet.as_mut().reset(tokio::time::Instant::now() + READ_ON_QUIET);
                    let read = frame.data_ref().map_or(0, Bytes::len);
                    self.left = self.left.saturating_sub(read);
                    if self.left == 0 {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Answer::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Answer::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Answer::Stream(relay) => {
                relay.poll_bytes(context).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
            }
            Answer::Early(early) => match early.text.take() {
                Some(text) => Poll::Ready(Some(Ok(Frame::data(text)))),
                None => early.poll_rest(context).map(|()| None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Whole(bytes) => bytes.is_empty(),
            Answer::Stream(relay) => relay.is_over(),
            Answer::Early(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Answer::Stream(_) | Answer::Early(_) => SizeHint::default(),
        }
    }
}
