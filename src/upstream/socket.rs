//! A request over a WebSocket: one message out, messages back (iFlytek's legacy wire).

use bytes::Bytes;
use futures_util::SinkExt;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::source::Source;
use super::{Answer, Patience, Request, SendError, Upstream};

impl Upstream {
    /// Opens a WebSocket, sends the request's body as one text message, and gives the messages that come back as an
    /// event stream. A refused handshake is an answer with its status and body.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn converse(&self, request: Request<'_>, patience: Patience) -> Result<Answer, SendError> {
        let connecting = self.connector.connect(request.origin);
        let stream = match tokio::time::timeout(patience.connect, connecting).await {
            Ok(connected) => connected?,
            Err(_) => return Err(SendError::ConnectTimeout),
        };
        let authority = request.origin.authority();
        // The scheme only satisfies the handshake's form: the stream is connected (and secured) already.
        let mut handshake = format!("ws://{authority}{}", request.path)
            .into_client_request()
            .map_err(|_| SendError::Request("a bad socket URL".into()))?;
        if let Ok(host) = HeaderValue::from_str(&authority) {
            handshake.headers_mut().insert(HOST, host);
        }
        let opening = tokio_tungstenite::client_async(handshake, stream);
        let opened = tokio::time::timeout(patience.response_header, opening).await;
        let mut socket = match opened.map_err(|_| SendError::HeaderTimeout)? {
            Ok((socket, _)) => socket,
            Err(Error::Http(refusal)) => {
                let (head, body) = refusal.into_parts();
                let body = Source::Fixed(body.map(Bytes::from));
                return Ok(Answer { status: head.status, headers: head.headers, body });
            }
            Err(error) => return Err(SendError::Broken(error.to_string())),
        };
        let question = String::from_utf8_lossy(&request.body).into_owned();
        socket.send(Message::text(question)).await.map_err(|error| SendError::Broken(error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        Ok(Answer { status: StatusCode::OK, headers, body: Source::Socket(Box::new(socket)) })
    }
}
