//! Where an answer's bytes come from: an HTTP body, the messages of a WebSocket, or bytes already at hand.

use std::pin::Pin;
use std::task::{Context, Poll};

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
    Http(Box<Body>),
    /// Each message comes as one server-sent event, so that the relay knows one framing only.
    Socket(Box<WebSocketStream<Stream>>),
    Fixed(Option<Bytes>),
}

impl Source {
    /// The next bytes; `None` at the end.
    pub fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        match self {
            Source::Http(body) => body
                .poll_bytes(context)
                .map(|next| next.map(|bytes| bytes.map_err(|error| error.to_string()))),
            Source::Socket(socket) => poll_socket(socket, context),
            Source::Fixed(bytes) => Poll::Ready(bytes.take().map(Ok)),
        }
    }

    /// The next bytes, awaited.
    pub async fn next(&mut self) -> Option<Result<Bytes, String>> {
        std::future::poll_fn(|context| self.poll_bytes(context)).await
    }

    /// Gives the connection back where the answer has come to its end and the platform keeps it open.
    pub fn recycle(self, upstream: &Upstream) {
        if let Source::Http(mut body) = self {
            body.skim();
            upstream.recycle(*body);
        }
    }
}

fn poll_socket(
    socket: &mut WebSocketStream<Stream>,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, String>>> {
    loop {
        return match Pin::new(&mut *socket).poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None | Some(Ok(Message::Close(_)))) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.to_string()))),
            Poll::Ready(Some(Ok(Message::Text(text)))) => Poll::Ready(Some(Ok(event_of(text.as_bytes())))),
            Poll::Ready(Some(Ok(Message::Binary(bytes)))) => Poll::Ready(Some(Ok(event_of(&bytes)))),
            Poll::Ready(Some(Ok(_))) => continue,
        };
    }
}

/// One message as one event. Line ends can only stand between JSON tokens, where a space does as well.
fn event_of(message: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(message.len() + 8);
    event.extend_from_slice(b"data: ");
    event.extend(message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    event.extend_from_slice(b"\n\n");
    event.freeze()
}
