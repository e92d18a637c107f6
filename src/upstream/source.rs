//! Where an answer's bytes come from: an HTTP body, the messages of a WebSocket, or bytes already at hand.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::Stream as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::Upstream;
use super::connect::Stream;
use super::line::Body;

/// A platform's answer as bytes that arrive over time.
#[derive(Debug)]
pub enum Source {
    Http(Body),
    /// Each message comes as one server-sent event, so that the relay knows one framing only.
    Socket(Box<WebSocketStream<Stream>>),
    Fixed(Option<Bytes>),
}

impl Source {
    /// Appends the next bytes to `out`; `None` at the end.
    pub fn poll_into(
        &mut self,
        context: &mut Context<'_>,
        out: &mut BytesMut,
    ) -> Poll<Option<Result<(), String>>> {
        match self {
            Source::Http(body) => body.poll_into(context, out),
            Source::Socket(socket) => poll_socket(socket, context, out),
            Source::Fixed(bytes) => Poll::Ready(bytes.take().map(|bytes| {
                out.extend_from_slice(&bytes);
                Ok(())
            })),
        }
    }

    /// Appends the next bytes to `out`, awaited.
    pub async fn read_into(&mut self, out: &mut BytesMut) -> Option<Result<(), String>> {
        std::future::poll_fn(|context| self.poll_into(context, out)).await
    }

    /// How many bytes are still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Source::Http(body) => body.left(),
            Source::Socket(_) => None,
            Source::Fixed(bytes) => Some(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }

    /// Gives the connection back where the answer has come to its end and the platform keeps it open.
    pub fn recycle(self, upstream: &Upstream) {
        if let Source::Http(mut body) = self {
            body.skim();
            upstream.recycle(body);
        }
    }
}

fn poll_socket(
    socket: &mut WebSocketStream<Stream>,
    context: &mut Context<'_>,
    out: &mut BytesMut,
) -> Poll<Option<Result<(), String>>> {
    loop {
        let message = match ready!(Pin::new(&mut *socket).poll_next(context)) {
            None | Some(Ok(Message::Close(_))) => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error.to_string()))),
            Some(Ok(Message::Text(text))) => Bytes::from(text),
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(_)) => continue,
        };
        write_event(&message, out);
        return Poll::Ready(Some(Ok(())));
    }
}

/// One message as one event. Line ends can only stand between JSON tokens, where a space does as well.
fn write_event(message: &[u8], out: &mut BytesMut) {
    out.reserve(message.len() + 8);
    out.extend_from_slice(b"data: ");
    out.extend(message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    out.extend_from_slice(b"\n\n");
}
