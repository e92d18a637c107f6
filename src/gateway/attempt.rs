//! One attempt: one account, one platform, one exchange, judged before anything reaches the caller. Why the first event
//! is held until it is judged: some platforms answer 200 and then an error, and such a refusal must still be able to move
//! on to another account.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method};

use super::chat::{LARGE_BODY, aside};
use super::estimate::tokens_of_bytes;
use super::recall::Remembering;
use super::relay::{Begun, Flow};
use super::route::{Route, Target};
use super::settings::{ModelField, Timeouts};
use super::{Gateway, World};
use crate::api::ask::{Ask, Task};
use crate::api::assemble::Assembler;
use crate::api::piece::Usage;
use crate::api::scan::{self, Object};
use crate::api::writer::{KEEP_ALIVE, Naming, Writer};
use crate::clock::Moment;
use crate::dialect::splice::{self, Splicer};
use crate::dialect::{Dialect, Encoded, Ending, Failure, Unsupported};
use crate::fault::{Fault, Kind};
use crate::platform::auth::{Outgoing, Token, TokenRefused, TokenScope};
use crate::platform::judge::{Judgement, NEVER, Scope, Verdict};
use crate::platform::profile::{BaseScheme, Platform};
use crate::pool::TransportFailure;
use crate::pool::settings::Account;
use crate::sse;
use crate::upstream::source::Source;
use crate::upstream::{self, Patience, SendError};

/// What all attempts of one request share.
pub struct Trip<'a> {
    pub gateway: &'a Arc<Gateway>,
    pub world: &'a World,
    pub ask: &'a Ask,
    pub route: &'a Route,
    pub timeouts: Timeouts,
    /// When to give up altogether.
    pub deadline: Moment,
    /// Time spent waiting for platforms: not ours.
    pub waited: Waited,
}

/// Time spent waiting for platforms, summed up.
#[derive(Debug, Default)]
pub struct Waited(AtomicU64);

impl Waited {
    /// Adds `length`.
    pub fn add(&self, length: Duration) {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The sum.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// What one attempt aims at.
pub struct Aim<'a> {
    pub target: &'a Target,
    pub account: Arc<Account>,
    /// The account's own id of the model.
    pub model: String,
}

impl Aim<'_> {
    fn platform(&self) -> &Platform {
        &self.account.platform
    }
}

/// An answer that may be given to the caller.
#[derive(Debug)]
pub enum Won {
    Whole { body: Bytes, is_stream: bool, usage: Option<Usage>, delivered_tokens: u64 },
    Stream { begun: Begun, pulse: Option<Bytes> },
}

/// A won answer, and what was left out of the request on the way.
#[derive(Debug)]
pub struct Victory {
    pub won: Won,
    pub dropped: Vec<String>,
}

/// Why an attempt brought no answer.
#[derive(Debug)]
pub enum Trouble {
    /// The request itself cannot be put to this platform.
    Unfit(Fault),
    /// The platform answered, and its answer was judged.
    Judged(Judgement),
    /// There was no answer to judge.
    Transport(TransportFailure, String),
}

/// A refused attempt reads at most this much of the platform's explanation, in bytes.
const MAX_EXPLANATION: usize = 64 * 1024;

/// At most so much memory is set aside on the word of an answer's `content-length`, in bytes.
const MAX_RESERVED: usize = 1024 * 1024;

/// Tries once.
///
/// # Errors
/// [`Trouble`]; the caller of this function settles and decides where to go next.
pub async fn attempt(trip: &Trip<'_>, aim: &Aim<'_>) -> Result<Victory, Trouble> {
    let is_chat = trip.ask.task == Task::Chat;
    let stream = is_chat && (trip.ask.stream || aim.platform().must_stream(trip.ask, &aim.model));
    let encoded = encode(trip, aim, stream).await?;
    let mut stale = None;
    loop {
        let token = token(trip, aim, stale.as_ref()).await?;
        let tried = exchange(trip, aim, &encoded, token.as_deref(), stream).await;
        match tried {
            Err(Trouble::Judged(judgement))
                if is_about_the_token(judgement.verdict) && token.is_some() && stale.is_none() =>
            {
                stale = token;
            }
            // A credential that cannot be renewed is not expired but refused.
            Err(Trouble::Judged(judgement))
                if judgement.verdict == Verdict::TokenExpired && token.is_none() =>
            {
                return Err(Trouble::Judged(Judgement { verdict: Verdict::AuthInvalid, ..judgement }));
            }
            Err(trouble) => return Err(trouble),
            Ok(won) => return Ok(Victory { won, dropped: encoded.dropped }),
        }
    }
}

fn is_about_the_token(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::TokenExpired | Verdict::AuthInvalid)
}

async fn encode(trip: &Trip<'_>, aim: &Aim<'_>, stream: bool) -> Result<Encoded, Trouble> {
    let unsupported = trip.route.unsupported;
    if trip.ask.body().len() <= LARGE_BODY {
        return encode_here(trip.gateway, trip.ask, &aim.account, &aim.model, stream, unsupported)
            .map_err(Trouble::Unfit);
    }
    let (gateway, ask) = (Arc::clone(trip.gateway), trip.ask.clone());
    let (account, model) = (Arc::clone(&aim.account), aim.model.clone());
    let encoded = aside(move || encode_here(&gateway, &ask, &account, &model, stream, unsupported)).await;
    encoded.and_then(|encoded| encoded).map_err(Trouble::Unfit)
}

fn encode_here(
    gateway: &Gateway,
    ask: &Ask,
    account: &Account,
    model: &str,
    stream: bool,
    unsupported: Unsupported,
) -> Result<Encoded, Fault> {
    match ask.task {
        Task::Chat => account.platform.encode_chat(ask, model, stream, unsupported, &gateway.recall),
        Task::Embeddings => account.platform.encode_embeddings(ask, model, unsupported),
    }
}

async fn token(
    trip: &Trip<'_>,
    aim: &Aim<'_>,
    stale: Option<&Arc<Token>>,
) -> Result<Option<Arc<Token>>, Trouble> {
    let gateway = trip.gateway;
    let scheme = &aim.platform().scheme;
    let Some(scope) = scheme.token_scope(&aim.account.credential) else { return Ok(None) };
    let Some(request) = scheme.exchange_for(&aim.account.credential, &aim.model, &gateway.clock) else {
        return Err(broken("no token can be asked for"));
    };
    let model = (scope == TokenScope::Model).then_some(aim.model.as_str());
    let exchange = || async {
        let origin =
            upstream::Origin::of_url(request.url.expose()).ok_or_else(|| broken("a bad token URL"))?;
        let wire = upstream::Request {
            origin: &origin.0,
            method: request.method.clone(),
            path: &origin.1,
            headers: request.headers.clone(),
            body: request.body.clone(),
        };
        let answer = gateway.upstream.send(wire, patience(trip)).await.map_err(|error| trouble_of(&error))?;
        let status = answer.status.as_u16();
        let mut source = answer.body;
        let body = read_all(trip, &mut source, MAX_EXPLANATION).await?;
        scheme.read_token(status, &body, &gateway.clock).map_err(no_token)
    };
    match gateway.tokens.token(&aim.account.id, model, stale, exchange).await {
        Ok(token) => Ok(Some(token)),
        Err(Some(trouble)) => Err(trouble),
        Err(None) => Err(broken("the token exchange failed a moment ago")),
    }
}

fn no_token(refused: TokenRefused) -> Trouble {
    tracing::info!(%refused, "a token exchange was refused");
    Trouble::Judged(Judgement {
        verdict: refused.verdict,
        scope: Scope::Account,
        retry_after: None,
        message: String::new(),
        code: None,
        param: None,
        status: 401,
    })
}

fn broken(why: &str) -> Trouble {
    Trouble::Transport(TransportFailure::Cut, why.to_owned())
}

fn patience(trip: &Trip<'_>) -> Patience {
    let left = trip.deadline.since(trip.gateway.clock.now());
    Patience {
        connect: trip.timeouts.connect.min(left),
        response_header: trip.timeouts.response_header.min(left),
    }
}

async fn exchange(
    trip: &Trip<'_>,
    aim: &Aim<'_>,
    encoded: &Encoded,
    token: Option<&Token>,
    stream: bool,
) -> Result<Won, Trouble> {
    let gateway = trip.gateway;
    let platform = aim.platform();
    let mut path = format!("{}{}", platform.base.path, encoded.path);
    let mut headers = platform.headers(encoded);
    headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    let mut body = encoded.body.clone();
    let origin = origin_of(platform);
    let authority = origin.authority();
    let mut outgoing = Outgoing {
        method: "POST",
        path: &mut path,
        host: &authority,
        headers: &mut headers,
        body: &mut body,
    };
    platform
        .scheme
        .apply(&aim.account.credential, token, &mut outgoing, &gateway.clock)
        .map_err(Trouble::Unfit)?;
    let request = upstream::Request { origin: &origin, method: Method::POST, path: &path, headers, body };
    let asked_at = gateway.clock.now();
    let answered = if platform.dialect == Dialect::Spark {
        gateway.upstream.converse(request, patience(trip)).await
    } else {
        gateway.upstream.send(request, patience(trip)).await
    };
    trip.waited.add(gateway.clock.now().since(asked_at));
    let answer = answered.map_err(|error| trouble_of(&error))?;
    read_answer(trip, aim, answer, stream).await
}

const USER_AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));

fn origin_of(platform: &Platform) -> upstream::Origin {
    let is_tls = matches!(platform.base.scheme, BaseScheme::Https | BaseScheme::Wss);
    upstream::Origin::new(is_tls, &platform.base.host, platform.base.port)
}

fn trouble_of(error: &SendError) -> Trouble {
    let failure = match error {
        SendError::Connect(_) | SendError::ConnectTimeout => TransportFailure::Connect,
        SendError::HeaderTimeout => TransportFailure::Timeout,
        SendError::Request(_) => TransportFailure::NotTaken,
        SendError::Broken(_) => TransportFailure::Cut,
    };
    Trouble::Transport(failure, error.to_string())
}

async fn read_answer(
    trip: &Trip<'_>,
    aim: &Aim<'_>,
    answer: upstream::Answer,
    stream: bool,
) -> Result<Won, Trouble> {
    let upstream::Answer { status, headers, body: mut source } = answer;
    if !status.is_success() {
        let body = read_all(trip, &mut source, MAX_EXPLANATION).await.unwrap_or_default();
        source.recycle(&trip.gateway.upstream);
        let wall = trip.gateway.clock.wall_millis();
        return Err(Trouble::Judged(aim.platform().judge(status.as_u16(), &headers, &body, wall)));
    }
    if headers.get(http::header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(broken("a compressed answer, which was not asked for"));
    }
    let content_type = headers.get(http::header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is_events = content_type.to_ascii_lowercase().starts_with(b"text/event-stream");
    match (trip.ask.task, stream && is_events) {
        (Task::Chat, true) if trip.ask.stream => begin(trip, aim, source, &headers).await,
        (Task::Chat, true) => assemble(trip, aim, source, &headers).await,
        (task, _) => {
            let body = read_all(trip, &mut source, trip.world.sizes.answer).await?;
            source.recycle(&trip.gateway.upstream);
            let scanned = Object::scan(&body);
            if aim.platform().is_error_in_200(&body, &scanned) {
                return Err(judge_report(trip, aim, &headers, &body));
            }
            match task {
                Task::Chat => whole(trip, aim, body, scanned, &headers),
                Task::Embeddings => embeddings(trip, aim, &body, &headers),
            }
        }
    }
}

/// Reads a body to its end, bounded in size, in the time between two reads and in all.
async fn read_all(trip: &Trip<'_>, source: &mut Source, limit: usize) -> Result<Bytes, Trouble> {
    let asked_at = trip.gateway.clock.now();
    let known = source.left().and_then(|left| usize::try_from(left).ok()).unwrap_or(0);
    let mut body = BytesMut::with_capacity(known.min(limit).min(MAX_RESERVED));
    loop {
        // The common answer has come together with its head: no timer is set up for it.
        let read = match futures_util::FutureExt::now_or_never(source.read_into(&mut body)) {
            Some(read) => read,
            None => {
                let left = trip.timeouts.total.saturating_sub(trip.gateway.clock.now().since(asked_at));
                let reading = tokio::time::timeout(trip.timeouts.idle.min(left), source.read_into(&mut body));
                reading
                    .await
                    .map_err(|_| Trouble::Transport(TransportFailure::Timeout, "the body stalled".into()))?
            }
        };
        match read {
            Some(Ok(())) if body.len() > limit => return Err(broken("the answer is larger than the limit")),
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(broken(&error)),
            None => break,
        }
    }
    trip.waited.add(trip.gateway.clock.now().since(asked_at));
    Ok(body.freeze())
}

fn judge_report(trip: &Trip<'_>, aim: &Aim<'_>, headers: &HeaderMap, report: &[u8]) -> Trouble {
    Trouble::Judged(aim.platform().judge(200, headers, report, trip.gateway.clock.wall_millis()))
}

fn trouble_of_failure(trip: &Trip<'_>, aim: &Aim<'_>, headers: &HeaderMap, failure: Failure) -> Trouble {
    match failure {
        Failure::Reported(report) => judge_report(trip, aim, headers, &report),
        Failure::Malformed(why) => broken(&why),
    }
}

/// The model's name in answers: the caller's own word for it, unless the operator wants the platform's.
fn shown_model<'a>(trip: &'a Trip<'_>, aim: &'a Aim<'_>) -> &'a str {
    match trip.world.model_field {
        ModelField::Requested => &trip.ask.model,
        ModelField::Resolved => &aim.model,
    }
}

fn naming(trip: &Trip<'_>, aim: &Aim<'_>) -> Naming {
    Naming {
        model: shown_model(trip, aim).to_owned(),
        created: trip.gateway.clock.wall_seconds(),
        speaks_functions: trip.ask.speaks_functions(),
    }
}

fn flow_for(trip: &Trip<'_>, aim: &Aim<'_>) -> Flow {
    let ask = trip.ask;
    if aim.platform().splices(&aim.model) {
        let model = (trip.world.model_field == ModelField::Requested).then_some(ask.model.as_str());
        return Flow::Splice(Box::new(Splicer::new(model, ask.include_usage, ask.choices)));
    }
    let writer = Writer::new(naming(trip, aim), ask.include_usage);
    Flow::Translate(Box::new((aim.platform().decoder(&aim.model, ask), writer)))
}

/// Waits for the first event that says something, and judges it.
async fn begin(
    trip: &Trip<'_>,
    aim: &Aim<'_>,
    mut source: Source,
    headers: &HeaderMap,
) -> Result<Won, Trouble> {
    let clock = &trip.gateway.clock;
    let asked_at = clock.now();
    let mut flow = flow_for(trip, aim);
    let mut sse = sse::Decoder::new(trip.world.sizes.event);
    let mut out = BytesMut::new();
    // What came before the first event: an error may stand there as bare JSON, without any `data:`.
    let mut opening = BytesMut::new();
    let ready = loop {
        while let Some(event) = sse.next().map_err(|too_long| broken(&too_long.to_string()))? {
            flow.push(event, trip.gateway, &mut out)
                .map_err(|failure| trouble_of_failure(trip, aim, headers, failure))?;
            if !out.is_empty() || flow.is_done() {
                break;
            }
        }
        if !out.is_empty() {
            break true;
        }
        if flow.is_done() {
            return Err(broken("a stream without content"));
        }
        let silent = clock.now().since(asked_at);
        let patience = trip.timeouts.first_token.min(trip.timeouts.heartbeat).saturating_sub(silent);
        let before = sse.input().len();
        match tokio::time::timeout(patience, source.read_into(sse.input())).await {
            Ok(Some(Ok(()))) => {
                let room = MAX_EXPLANATION.saturating_sub(opening.len());
                let bytes = sse.input().get(before..).unwrap_or_default();
                opening.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            }
            Ok(Some(Err(error))) => return Err(broken(&error)),
            Ok(None) if aim.platform().is_error_in_200(&opening, &Object::scan(&opening)) => {
                return Err(judge_report(trip, aim, headers, &opening));
            }
            Ok(None) => return Err(broken("the stream ended before it began")),
            Err(_) if clock.now().since(asked_at) >= trip.timeouts.first_token => {
                return Err(Trouble::Transport(TransportFailure::Timeout, "no first event".into()));
            }
            // Accepted, but silent: from here on the caller is kept awake, and there is no way back to a status.
            Err(_) => break false,
        }
    };
    trip.waited.add(clock.now().since(asked_at));
    let pulse = (trip.world.heartbeat == super::settings::Heartbeat::Data).then(|| {
        let mut pulse = Writer::new(naming(trip, aim), false);
        pulse.keep_alive_chunk();
        pulse.take().freeze()
    });
    if !ready {
        out.extend_from_slice(pulse.as_deref().unwrap_or(KEEP_ALIVE));
    }
    Ok(Won::Stream { begun: Begun { source, sse, flow, out, asked_at, is_silent: !ready }, pulse })
}

/// Reads a stream to its end for a caller who did not ask for one.
async fn assemble(
    trip: &Trip<'_>,
    aim: &Aim<'_>,
    mut source: Source,
    headers: &HeaderMap,
) -> Result<Won, Trouble> {
    let asked_at = trip.gateway.clock.now();
    let mut decoder = aim.platform().decoder(&aim.model, trip.ask);
    let mut assembler = Assembler::new(naming(trip, aim));
    let mut sink = Remembering { memory: &trip.gateway.recall, inner: &mut assembler };
    let mut sse = sse::Decoder::new(trip.world.sizes.event);
    let mut patience = trip.timeouts.first_token;
    let mut taken = 0;
    while !decoder.is_done() {
        let before = sse.input().len();
        let left = trip.timeouts.total.saturating_sub(trip.gateway.clock.now().since(asked_at));
        match tokio::time::timeout(patience.min(left), source.read_into(sse.input())).await {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(error))) => return Err(broken(&error)),
            Ok(None) => break,
            Err(_) => return Err(Trouble::Transport(TransportFailure::Timeout, "the stream stalled".into())),
        }
        patience = trip.timeouts.idle;
        taken += sse.input().len() - before;
        if taken > trip.world.sizes.answer {
            return Err(broken("the answer is larger than the limit"));
        }
        while let Some(event) = sse.next().map_err(|too_long| broken(&too_long.to_string()))? {
            decoder
                .push(event, &mut sink)
                .map_err(|failure| trouble_of_failure(trip, aim, headers, failure))?;
        }
    }
    if decoder.finish(&mut sink) == Ending::Cut {
        return Err(broken("the stream ended before the answer was complete"));
    }
    source.recycle(&trip.gateway.upstream);
    trip.waited.add(trip.gateway.clock.now().since(asked_at));
    Ok(json_of(trip, assembler))
}

fn json_of(trip: &Trip<'_>, assembler: Assembler) -> Won {
    let usage = assembler.usage();
    let delivered_tokens = tokens_of_bytes(assembler.text_bytes());
    let prompt = super::estimate::Estimate::of(trip.ask).prompt;
    let fallback = Usage { prompt: Some(prompt), completion: Some(delivered_tokens), ..Usage::default() };
    let body = Bytes::from(assembler.into_json(fallback).to_string());
    Won::Whole { body, is_stream: false, usage, delivered_tokens }
}

/// Reads a whole answer, for a caller who wants it so, or as a stream of one piece for one who wanted a stream.
fn whole(
    trip: &Trip<'_>,
    aim: &Aim<'_>,
    body: Bytes,
    scanned: Result<Object, scan::Error>,
    headers: &HeaderMap,
) -> Result<Won, Trouble> {
    let trouble = |failure| trouble_of_failure(trip, aim, headers, failure);
    if !trip.ask.stream && aim.platform().splices(&aim.model) {
        let model = (trip.world.model_field == ModelField::Requested).then_some(trip.ask.model.as_str());
        let delivered_tokens = tokens_of_bytes(body.len() as u64);
        let (body, usage) = splice::whole(body, scanned, model).map_err(trouble)?;
        return Ok(Won::Whole { body, is_stream: false, usage, delivered_tokens });
    }
    let mut decoder = aim.platform().decoder(&aim.model, trip.ask);
    if !trip.ask.stream {
        let mut assembler = Assembler::new(naming(trip, aim));
        let mut sink = Remembering { memory: &trip.gateway.recall, inner: &mut assembler };
        decoder.whole(&body, &mut sink).map_err(trouble)?;
        return Ok(json_of(trip, assembler));
    }
    let mut writer = Writer::new(naming(trip, aim), trip.ask.include_usage);
    let mut sink = Remembering { memory: &trip.gateway.recall, inner: &mut writer };
    decoder.whole(&body, &mut sink).map_err(trouble)?;
    let (usage, delivered_tokens) = (writer.usage(), tokens_of_bytes(writer.text_bytes()));
    let prompt = super::estimate::Estimate::of(trip.ask).prompt;
    writer.end(Usage { prompt: Some(prompt), completion: Some(delivered_tokens), ..Usage::default() });
    Ok(Won::Whole { body: writer.take().freeze(), is_stream: true, usage, delivered_tokens })
}

fn embeddings(trip: &Trip<'_>, aim: &Aim<'_>, body: &[u8], headers: &HeaderMap) -> Result<Won, Trouble> {
    let decoded = aim.platform().decode_embeddings(body, trip.ask);
    let body = decoded.map_err(|failure| trouble_of_failure(trip, aim, headers, failure))?;
    let usage = Object::scan(&body).ok().and_then(|fields| {
        let usage = serde_json::from_slice(fields.get(&body, "usage")?).ok()?;
        Usage::from_json(&usage)
    });
    Ok(Won::Whole { body, is_stream: false, usage, delivered_tokens: 0 })
}

/// What the caller is told where no further attempt follows.
pub fn fault_of(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::Unfit(fault) => fault,
        Trouble::Transport(TransportFailure::Timeout, why) => {
            Fault::upstream(Kind::UpstreamTimeout, "The platform did not answer in time.").source(why)
        }
        Trouble::Transport(_, why) => Fault::upstream(
            Kind::UpstreamError,
            "The platform could not be reached or gave no usable answer.",
        )
        .source(why),
        Trouble::Judged(judgement) => fault_of_judgement(judgement),
    }
}

fn fault_of_judgement(judgement: Judgement) -> Fault {
    let code = judgement.openai_code();
    let Judgement { verdict, retry_after, message, param, status, .. } = judgement;
    let blame = |kind: Kind| {
        let sentence =
            if message.is_empty() { "The platform refused the request.".to_owned() } else { message.clone() };
        let fault = Fault::upstream(kind, sentence);
        let fault = match &param {
            Some(param) => fault.param(param.clone()),
            None => fault,
        };
        match code {
            Some(code) if kind == Kind::BadRequest => fault.code(code),
            _ => fault,
        }
    };
    match verdict {
        Verdict::Ok | Verdict::Overloaded => {
            Fault::upstream(Kind::UpstreamError, "The platform is overloaded or failed. Try again shortly.")
        }
        Verdict::RateLimited | Verdict::QuotaExhausted => {
            let sentence = "All accounts for this model are at their platform's limit.";
            let fault = Fault::upstream(Kind::RateLimited, sentence);
            match retry_after {
                Some(NEVER) => fault.no_retry(),
                wait => fault.retry_after(wait.unwrap_or(Duration::from_secs(1))),
            }
        }
        Verdict::TokenExpired | Verdict::AuthInvalid => {
            Fault::upstream(Kind::UpstreamAuth, "The platform did not accept the gateway's credential.")
        }
        Verdict::NotEntitled => {
            Fault::upstream(Kind::ModelNotFound, "The model is not available on the platform behind it.")
                .param("model")
        }
        Verdict::BadRequest if status == 404 => blame(Kind::ModelNotFound),
        Verdict::BadRequest if status == 413 => blame(Kind::TooLarge),
        Verdict::BadRequest => blame(Kind::BadRequest),
        Verdict::ContentFiltered => blame(Kind::ContentFiltered),
        Verdict::ContextTooLong => blame(Kind::ContextTooLong),
    }
}
