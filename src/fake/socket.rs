//! Spark over WebSocket, from handshake to close. Why apart from `answer`: there is no response body to pace; frames are
//! sent one by one on a connection that the platform closes.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::fake::brain::{self, Question};
use crate::fake::counters::Exchange;
use crate::fake::fault::{Class, Directives, Refusal, Wreck};
use crate::fake::server::{World, respond, standing};
use crate::fake::stream::{Body, Frame, bend};
use crate::fake::wire::{Asked, Scene, spark_ws};

/// The platform's name in counters and script.
pub const NAME: &str = "spark-ws";

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Takes the request for an upgrade out of a request, where it is one.
pub fn upgrade<B>(request: &mut Request<B>) -> Option<OnUpgrade> {
    let wanted = request
        .headers()
        .get("upgrade")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    wanted.then(|| hyper::upgrade::on(request))
}

/// Answers the handshake; the conversation goes on by itself.
pub fn answer(
    asked: &Arc<Asked>,
    path: &str,
    rest: &str,
    upgrade: Option<OnUpgrade>,
    world: &Arc<World>,
) -> Response<Body> {
    let refuse = |native: crate::fake::wire::Native| {
        respond(native.status, &native.headers, Body::whole(native.body, 0, None))
    };
    let key = match spark_ws::verify(asked, path, world) {
        Ok(key) => key,
        Err(native) => {
            let mut exchange = world.counters.open(NAME, "-", &world.clock);
            exchange.answered(native.status, false);
            exchange.finish();
            return refuse(native);
        }
    };
    let Some(upgrade) = upgrade.filter(|_| spark_ws::known_path(rest)) else {
        return respond(
            404,
            &[],
            Body::whole(&b"{\"message\":\"no Route matched with those values\"}"[..], 0, None),
        );
    };
    let exchange = world.counters.open(NAME, &key, &world.clock);
    exchange.answered(101, true);
    let accept = derive_accept_key(asked.header("sec-websocket-key").as_bytes());
    let (world, rest) = (Arc::clone(world), rest.to_owned());
    tokio::spawn(async move {
        if let Ok(io) = upgrade.await {
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await;
            let talk = Talk { world: &world, key: &key, path: &rest };
            talk.run(socket, exchange).await;
        }
    });
    let headers = [
        ("connection", "Upgrade".to_owned()),
        ("upgrade", "websocket".to_owned()),
        ("sec-websocket-accept", accept),
    ];
    respond(101, &headers, Body::whole(bytes::Bytes::new(), 0, None))
}

/// One conversation: one question, its frames, the close.
struct Talk<'a> {
    world: &'a World,
    key: &'a str,
    path: &'a str,
}

impl Talk<'_> {
    async fn run(self, mut socket: Socket, mut exchange: Exchange) {
        let text = loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => break text,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return,
            }
        };
        let mut asked = Directives::default();
        let thought = tokio::select! {
            thought = self.frames(text.as_str(), &mut asked, &exchange) => thought,
            // Nothing but the end of the conversation comes from the caller here.
            _ = socket.next() => return,
        };
        let (frames, harm) = match thought {
            Ok(frames) => (frames, asked.wreck),
            Err(refusal) => {
                let frame = spark_ws::error_frame(&refusal).into();
                (vec![Frame { bytes: frame, kind: crate::fake::stream::Kind::Finish, tokens: 0 }], None)
            }
        };
        if harm.is_some() {
            exchange.finish(); // the socket drops, without a close
            return;
        }
        if self.send(&mut socket, &frames, &asked, &exchange).await.is_some() {
            exchange.finish();
        }
    }

    /// Sends the frames and closes. `None`: the caller has gone.
    async fn send(
        &self,
        socket: &mut Socket,
        frames: &[Frame],
        asked: &Directives,
        exchange: &Exchange,
    ) -> Option<()> {
        for (index, frame) in frames.iter().enumerate() {
            if asked.cut.is_some_and(|after| index >= after) {
                return Some(());
            }
            let pause = if index == 0 { asked.first } else { asked.gap };
            if !pause.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = socket.next() => return None,
                }
            }
            exchange.served(0, frame.tokens);
            let text = String::from_utf8_lossy(&frame.bytes).into_owned();
            socket.send(Message::text(text)).await.ok()?;
        }
        let _ = socket.close(None).await;
        Some(())
    }

    async fn frames(
        &self,
        text: &str,
        asked: &mut Directives,
        exchange: &Exchange,
    ) -> Result<Vec<Frame>, Refusal> {
        let script = self.world.script();
        let (account, listed) = script.account(NAME, self.key);
        standing(account, listed, &script)?;
        let question: Question = spark_ws::question(text, self.path)?;
        let (words, images) = brain::last_words(&question);
        asked.take(&account.directives);
        let said = asked.take(&words);
        if asked.once && asked.harmful() && !self.world.first(NAME, &words, self.key) {
            asked.heal();
        }
        let wait = asked.stall + std::time::Duration::from_millis(account.latency_ms);
        tokio::time::sleep(wait).await;
        if let Some(class) = asked.error {
            return Err(Refusal::of(class));
        }
        if let Some(wreck) = asked.wreck {
            return Ok(garbage(wreck));
        }
        if account.models.as_ref().is_some_and(|models| !models.contains(&question.model)) {
            return Err(Refusal::of(Class::NotEntitled));
        }
        let answer = brain::think(&question, &said, images, asked);
        if answer.tokens.prompt > script.context_tokens {
            return Err(Refusal::of(Class::ContextTooLong));
        }
        let left = exchange.admit(account, answer.tokens.prompt, answer.tokens.completion)?;
        exchange.served(answer.tokens.prompt, 0);
        let scene = Scene {
            id: crate::ids::random_name("", 9),
            created: self.world.clock.wall_seconds(),
            key: self.key,
            left: Some(left),
            no_usage: asked.no_usage,
        };
        let mut frames = spark_ws::frames(&answer, &scene);
        let error =
            asked.inband.or(asked.midstream).map(|class| spark_ws::error_frame(&Refusal::of(class)).into());
        let bent = Directives { ping: false, crlf: false, ..asked.clone() };
        bend(&mut frames, &bent, &bytes::Bytes::new(), error);
        Ok(frames)
    }
}

/// There is little to wreck on a socket: it drops.
fn garbage(_: Wreck) -> Vec<Frame> {
    Vec::new()
}
