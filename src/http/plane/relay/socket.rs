//! The connection between a person's page and the browser: pictures and word of it out, clicks and keys in. A WebSocket that only a page of
//! ours gets, once, in a browser that has a seat.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::super::envelope::Enveloped;
use super::super::shape::Segment;
use super::{Plane, words};
use crate::browser::{Frame, Input, KeyPress, Mouse, Notice};
use crate::fault::{Fault, Kind};
use crate::gateway::onboard::browsing::{Outcome, Viewer};
use crate::http::wire::Phase;
use crate::secret::Secret;

/// What the page and we speak. The ticket stands beside it: in an address it would end up in logs.
const PROTOCOL: &str = "weir-relay";

/// Largest message of a page's, in bytes: something pasted.
const MAX_MESSAGE: usize = 16 << 10;

/// Pages are asked whether they are there, and told the time that is left; who says nothing for so long is gone.
const BEAT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(40);

/// A page that takes no picture for so long is gone, too.
const STALL: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What a page says.
#[derive(Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
enum Said {
    Size { width: u16, height: u16 },
    Mouse(Mouse),
    Key(KeyPress),
    Text { text: Secret },
    Shown,
    Answer { ok: bool, text: Option<Secret> },
    Back,
    Cancel,
}

/// Lets a page connect.
pub(super) async fn relay(
    State(plane): State<Plane>,
    Segment(id): Segment,
    mut request: Request,
) -> Result<Response, Enveloped> {
    let refuse = |why: &'static str| Enveloped(Fault::client(Kind::Forbidden, why));
    let headers = request.headers();
    let key = key_of(headers).ok_or_else(|| {
        Enveloped(Fault::client(Kind::BadRequest, "This is for a WebSocket of a page of the gateway's."))
    })?;
    let accept =
        HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| refuse("A bad key."))?;
    // Browsers always say where a page is from: another site's has no business here, whatever cookies come with it.
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    if origin != Some(plane.origin().as_str()) {
        return Err(refuse("This is for pages of the gateway's own."));
    }
    let sitting = plane.browsing.find(&id).filter(|sitting| plane.has_seat(sitting, headers));
    let viewer = sitting.and_then(|sitting| sitting.admit(&ticket_of(headers)?));
    let viewer =
        viewer.ok_or_else(|| refuse("Open the page anew: this one has been used, or is not yours."))?;
    let busy = request.extensions().get::<Arc<Phase>>().map(Phase::begin);
    let upgrade = hyper::upgrade::on(&mut request);
    let over = plane.gateway.drain.over();
    tokio::spawn(async move {
        // For as long as this goes on, the connection is not one that waits for a request.
        let _busy = busy;
        let Ok(upgraded) = upgrade.await else { return };
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(MAX_MESSAGE);
        config.max_frame_size = Some(MAX_MESSAGE);
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        tokio::select! {
            () = over => {}
            () = Relay::new(viewer, socket).run() => {}
        }
    });
    let headers: [(HeaderName, HeaderValue); 4] = [
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, accept),
        (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, HeaderMap::from_iter(headers)).into_response())
}

/// The key of a handshake, where it is one.
fn key_of(headers: &HeaderMap) -> Option<&str> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_websocket = text(UPGRADE).is_some_and(|to| to.eq_ignore_ascii_case("websocket"))
        && text(CONNECTION)
            .is_some_and(|all| all.split(',').any(|one| one.trim().eq_ignore_ascii_case("upgrade")))
        && text(SEC_WEBSOCKET_VERSION) == Some("13");
    text(SEC_WEBSOCKET_KEY).filter(|_| is_websocket)
}

/// The ticket beside our protocol.
fn ticket_of(headers: &HeaderMap) -> Option<Secret> {
    let offered = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let (protocol, ticket) = offered.split_once(',')?;
    (protocol.trim() == PROTOCOL).then(|| Secret::new(ticket.trim()))
}

struct Relay {
    viewer: Viewer,
    socket: Socket,
    heard: Instant,
}

/// The page is gone, or is to go.
struct Gone;

impl Relay {
    fn new(viewer: Viewer, socket: Socket) -> Self {
        Self { viewer, socket, heard: Instant::now() }
    }

    async fn run(mut self) {
        // A sign-in that is over takes nothing any more.
        drop(self.viewer.wings.inputs.try_send(Input::Arrived));
        self.viewer.wings.frames.mark_changed();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.turn(&mut beat).await.is_ok() {}
        drop(tokio::time::timeout(STALL, self.socket.close(None)).await);
    }

    /// One thing that happens.
    async fn turn(&mut self, beat: &mut tokio::time::Interval) -> Result<(), Gone> {
        let Viewer { wings, outcome, .. } = &mut self.viewer;
        tokio::select! {
            biased;
            said = self.socket.next() => {
                let said = said.and_then(Result::ok).ok_or(Gone)?;
                self.heard = Instant::now();
                self.take(said).await
            }
            // Their senders are the sitting's and the sign-in's: where that is gone, the outcome is there, or comes.
            Ok(()) = outcome.changed() => self.tell().await,
            Ok(()) = wings.view.changed() => self.tell().await,
            Ok(()) = wings.frames.changed() => {
                let frame = wings.frames.borrow_and_update().clone();
                match frame {
                    Some(frame) => self.send(Message::Binary(framed(&frame))).await,
                    None => Ok(()),
                }
            }
            _ = beat.tick() => {
                if self.heard.elapsed() > SILENCE {
                    return Err(Gone);
                }
                self.tell().await?;
                self.send(Message::Ping(Bytes::new())).await
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        let sent = tokio::time::timeout(STALL, self.socket.send(message)).await;
        sent.ok().and_then(Result::ok).ok_or(Gone)
    }

    /// Tells the page how things are; at the end, for the last time.
    async fn tell(&mut self) -> Result<(), Gone> {
        let outcome = self.viewer.outcome.borrow_and_update().clone();
        let text = told(&self.viewer, outcome.as_ref()).to_string();
        self.send(Message::text(text)).await?;
        if outcome.is_some() { Err(Gone) } else { Ok(()) }
    }

    async fn take(&mut self, message: Message) -> Result<(), Gone> {
        let text = match message {
            Message::Text(text) => text,
            Message::Close(_) => return Err(Gone),
            _ => return Ok(()),
        };
        let said: Said = serde_json::from_str(&text).map_err(|_| Gone)?;
        let input = match said {
            Said::Cancel => {
                self.viewer.sitting.stop(Outcome::Cancelled);
                return Ok(());
            }
            Said::Size { width, height } => Input::Size { width, height },
            Said::Mouse(mouse) => Input::Mouse(mouse),
            Said::Key(key) => Input::Key(key),
            Said::Text { text } => Input::Text(text),
            Said::Shown => Input::Shown,
            Said::Answer { ok, text } => Input::Answer { ok, text },
            Said::Back => Input::Back,
        };
        // Where the sign-in is over, nobody takes it, and the outcome comes.
        drop(self.viewer.wings.inputs.send(input).await);
        Ok(())
    }
}

/// A picture behind the page's width and height, which clicks are counted in.
fn framed(frame: &Frame) -> Bytes {
    let mut bytes = BytesMut::with_capacity(4 + frame.jpeg.len());
    bytes.put_u16(frame.width);
    bytes.put_u16(frame.height);
    bytes.extend_from_slice(&frame.jpeg);
    bytes.freeze()
}

fn told(viewer: &Viewer, outcome: Option<&Outcome>) -> Value {
    let (sitting, view) = (&viewer.sitting, viewer.sitting.view());
    let notice = view.notice.map(|notice| match notice {
        Notice::TurnedAway(host) => {
            format!("The page wanted to go to {host}, which is not among this sign-in's sites: it was not let there.")
        }
        Notice::LooksOdd => "The page does not look as it should. Is it still the sign-in page?".to_owned(),
    });
    let dialog = view.dialog.map(|dialog| json!({"kind": dialog.kind, "message": dialog.message}));
    json!({
        "state": sitting.state(),
        "host": view.host,
        "secure": view.is_secure,
        "notice": notice,
        "dialog": dialog,
        "message": outcome.map(words),
        "left": sitting.left().as_secs(),
        "next": outcome.and(sitting.redirect_after.as_deref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).expect("a name"), HeaderValue::try_from(*value).expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_handshake_is_told_from_other_requests() {
        let good = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "k"),
        ];
        assert_eq!(key_of(&headers(&good)), Some("k"));
        for left_out in 0..good.len() {
            let rest: Vec<_> =
                good.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, pair)| *pair).collect();
            assert_eq!(key_of(&headers(&rest)), None, "without {}", good[left_out].0);
        }
    }

    #[test]
    fn a_ticket_stands_beside_our_protocol() {
        let of = |text: &str| ticket_of(&headers(&[("sec-websocket-protocol", text)]));
        assert_eq!(of("weir-relay, abc"), Some(Secret::new("abc")));
        assert!(of("abc").is_none() && of("other, abc").is_none());
    }

    #[test]
    fn what_a_page_says_is_read_strictly() {
        let read = |text: &str| serde_json::from_str::<Said>(text);
        assert!(matches!(read(r#"{"t":"shown"}"#), Ok(Said::Shown)));
        assert!(matches!(
            read(r#"{"t":"mouse","kind":"down","x":1.5,"y":2,"button":"left","clicks":1}"#),
            Ok(Said::Mouse(mouse)) if mouse.clicks == 1
        ));
        assert!(matches!(read(r#"{"t":"key","down":true,"key":"a","text":"a"}"#), Ok(Said::Key(_))));
        for bad in [
            "",
            "[]",
            r#"{"t":"navigate","url":"file:///etc/passwd"}"#,
            r#"{"t":"mouse","kind":"jump","x":1,"y":2}"#,
            r#"{"t":"key","down":true,"key":"a","method":"Browser.close"}"#,
            r#"{"t":"size","width":70000,"height":1}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
