//! One request, from its bytes to its answer: who calls, what is wanted, what shall go wrong, what the account may.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;

use crate::fake::brain::{self, Answer, Question};
use crate::fake::counters::{Exchange, Left};
use crate::fake::fault::{Class, Directives, Refusal, Wreck};
use crate::fake::oauth::{self, Held};
use crate::fake::script::Account;
use crate::fake::server::{Hang, World, respond, standing};
use crate::fake::stream::{Body, bend, gzip_bomb};
use crate::fake::wire::{Asked, Caller, Front, Native, Scene, Want};
use crate::ids::random_name;

/// Key under which requests without a credential are counted.
const NOBODY: &str = "-";

/// Answers one request to a platform.
pub async fn answer(
    front: Front,
    asked: &Arc<Asked>,
    rest: &str,
    world: &World,
) -> Result<Response<Body>, Hang> {
    let rest = below(asked, rest);
    let caller = match holder(front, asked, world) {
        Some(Ok(caller)) => Ok(Some(caller)),
        Some(Err((key, native))) => {
            let exchange = world.counters.open(front.name(), &key, &world.clock);
            return Ok(told(native, 0, exchange));
        }
        None => front.caller(asked, &rest, world),
    };
    let caller = match caller {
        Ok(caller) => caller.unwrap_or_else(|| Caller::new(NOBODY)),
        Err(refusal) => {
            let exchange = world.counters.open(front.name(), NOBODY, &world.clock);
            return Ok(refused(front, &refusal, exchange));
        }
    };
    let exchange = world.counters.open(front.name(), &caller.key, &world.clock);
    let script = world.script();
    let (account, listed) = script.account(front.name(), &caller.key);
    let read = || {
        if caller.key != NOBODY {
            standing(account, listed, &script)?;
        }
        // Where tokens are exchanged, the token says whether it is past its time; elsewhere the script does.
        if caller.expired || (account.expired && caller.token == caller.key) {
            return Err(Refusal::of(Class::TokenExpired));
        }
        front.read(asked, &rest, world, &caller.key)
    };
    let want = match read() {
        Ok(want) => want,
        Err(refusal) => return Ok(refused(front, &refusal, exchange)),
    };
    match want {
        Want::Told(native) => Ok(told(native, 0, exchange)),
        Want::Embed(embed) => {
            let tokens = embed.tokens();
            Ok(match entitled(account, &embed.model).and_then(|()| exchange.admit(account, tokens, 0)) {
                Ok(_) => {
                    exchange.served(tokens, 0);
                    told(front.embed(&embed), 0, exchange)
                }
                Err(refusal) => refused(front, &refusal, exchange),
            })
        }
        Want::Chat(question) if !oauth::entitled(&world.providers, &caller.key, &question.model) => {
            Ok(refused(front, &Refusal::of(Class::NotEntitled), exchange))
        }
        Want::Chat(question) => {
            let chat = Chat { front, world, question: &question, caller: &caller, account };
            chat.answer(exchange).await
        }
    }
}

/// Who calls with an access token of a simulated OAuth server; a refusal in the platform's words, counted under a name.
fn holder(front: Front, asked: &Asked, world: &World) -> Option<Result<Caller, (String, Native)>> {
    let token = asked.bearer().filter(|_| asked.header("x-goog-api-key").is_empty())?;
    let refuse = |class| front.refuse(&Refusal::of(class));
    Some(match world.providers.held(front.name(), token, world.clock.wall_millis())? {
        Held::Good(key) => Ok(Caller { key, token: token.to_owned(), expired: false }),
        Held::Dead(key) => Err((key, refuse(Class::TokenExpired))),
        Held::Foreign(key) => Err((key, refuse(Class::AuthInvalid))),
        Held::Narrow(key, username) => Err((key, oauth::narrow(front.name(), &username))),
    })
}

/// The path below the platform, with its query.
fn below(asked: &Asked, rest: &str) -> String {
    match asked.target.split_once('?') {
        Some((_, query)) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    }
}

fn entitled(account: &Account, model: &str) -> Result<(), Refusal> {
    match &account.models {
        Some(models) if !models.iter().any(|known| known == model) => Err(Refusal::of(Class::NotEntitled)),
        _ => Ok(()),
    }
}

/// A refusal, in the platform's words.
fn refused(front: Front, refusal: &Refusal, exchange: Exchange) -> Response<Body> {
    told(front.refuse(refusal), 0, exchange)
}

fn told(native: Native, tokens: u64, exchange: Exchange) -> Response<Body> {
    exchange.answered(native.status, false);
    respond(native.status, &native.headers, Body::whole(native.body, tokens, Some(exchange)))
}

/// One chat request.
struct Chat<'a> {
    front: Front,
    world: &'a World,
    question: &'a Question,
    caller: &'a Caller,
    account: &'a Account,
}

impl Chat<'_> {
    async fn answer(self, mut exchange: Exchange) -> Result<Response<Body>, Hang> {
        let (text, images) = brain::last_words(self.question);
        let mut asked = Directives::default();
        asked.take(&self.account.directives);
        let said = asked.take(&text);
        if asked.once && asked.harmful() && !self.world.first(self.front.name(), &text, &self.caller.token) {
            asked.heal();
        }
        let answer = brain::think(self.question, &said, images, &asked);
        let left = match self.admit(&answer, &asked, &exchange) {
            Ok(left) => left,
            Err(refusal) => return Ok(refused(self.front, &refusal, exchange)),
        };
        // A slow answer holds its place: admitted first, then late.
        let wait = asked.stall + Duration::from_millis(self.account.latency_ms);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        match (asked.wreck, asked.error) {
            (Some(Wreck::Nothing), _) => {
                exchange.finish();
                Err(Hang)
            }
            (Some(other), _) => Ok(self.wreck(other, &asked, exchange)),
            (None, Some(class)) => Ok(refused(self.front, &Refusal::of(class), exchange)),
            (None, None) => Ok(self.render(&answer, &asked, left, exchange)),
        }
    }

    fn admit(&self, answer: &Answer, asked: &Directives, exchange: &Exchange) -> Result<Left, Refusal> {
        entitled(self.account, &self.question.model)?;
        let tokens = answer.tokens;
        if tokens.prompt > self.world.script().context_tokens {
            return Err(Refusal::of(Class::ContextTooLong));
        }
        // What fails costs a request, and no tokens.
        match asked.error.is_some() || asked.wreck.is_some() {
            true => exchange.admit(self.account, 0, 0),
            false => exchange.admit(self.account, tokens.prompt, tokens.completion),
        }
    }

    fn render(&self, answer: &Answer, asked: &Directives, left: Left, exchange: Exchange) -> Response<Body> {
        let scene = Scene {
            id: random_name("", 16),
            created: self.world.clock.wall_seconds(),
            key: &self.caller.key,
            left: Some(left),
            no_usage: asked.no_usage,
        };
        exchange.served(answer.tokens.prompt, 0);
        if !self.question.stream {
            let native = self.front.whole(self.question, answer, &scene);
            exchange.answered(native.status, false);
            let body = Body::whole(native.body, answer.tokens.completion, Some(exchange)).paced(asked);
            return respond(native.status, &native.headers, body);
        }
        let mut events = self.front.stream(self.question, answer, &scene);
        let error = asked.inband.or(asked.midstream);
        let error = error.map(|class| self.front.stream_error(&Refusal::of(class), asked.inband.is_none()));
        bend(&mut events.frames, asked, &self.front.ping(), error);
        exchange.answered(200, true);
        respond(200, &events.headers, Body::events(events.frames, Some(exchange)).paced(asked))
    }

    /// An answer that is no answer.
    fn wreck(&self, wreck: Wreck, asked: &Directives, exchange: Exchange) -> Response<Body> {
        let kind = if self.question.stream { "text/event-stream" } else { "application/json" };
        let mut headers = vec![("content-type", kind.to_owned())];
        exchange.answered(200, self.question.stream);
        let exchange = Some(exchange);
        let body = match wreck {
            Wreck::Garbage => Body::whole(&b"data: {\"choices\": [{]]\n\n\xff\xfe\x00garbage\n\ndata: nonsense\n\n"[..], 0, exchange),
            Wreck::Html => {
                headers = vec![("content-type", "text/html; charset=utf-8".to_owned())];
                Body::whole(&b"<!DOCTYPE html><html><head><title>Web Application Firewall</title></head><body><h1>Blocked</h1></body></html>"[..], 0, exchange)
            }
            Wreck::Empty | Wreck::Nothing => Body::whole(Bytes::new(), 0, exchange),
            Wreck::EndlessLine => Body::repeat(Bytes::from(vec![b'a'; 64 << 10]), u64::MAX, exchange),
            Wreck::EndlessStream => {
                Body::repeat(Bytes::from_static(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"again \"},\"finish_reason\":null}]}\n\n"), u64::MAX, exchange)
            }
            Wreck::GzipBomb => {
                headers.push(("content-encoding", "gzip".to_owned()));
                let (head, block) = gzip_bomb();
                Body::bomb(head, block, exchange)
            }
        };
        respond(200, &headers, body.paced(asked))
    }
}
