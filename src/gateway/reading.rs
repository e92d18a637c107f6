//! The reading of answers: whole or as a stream, whichever way the platform sends and the caller wants. Why the first event
//! is held until it is judged: some platforms answer 200 and then an error, and such a refusal must still be able to move
//! on to another account.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};

use super::estimate::tokens_of_bytes;
use super::recall::Remembering;
use super::relay::{Begun, Flow};
use super::settings::ModelField;
use super::ticket::Delivered;
use super::trip::{Aim, Trip, Trouble, Won, broken};
use crate::api::ask::Task;
use crate::api::assemble::Assembler;
use crate::api::piece::Usage;
use crate::api::scan::{self, Object};
use crate::api::writer::{KEEP_ALIVE, Naming, Writer};
use crate::dialect::splice::{self, Splicer};
use crate::dialect::{Ending, Failure};
use crate::pool::TransportFailure;
use crate::sse;
use crate::upstream;
use crate::upstream::source::Source;

/// A refused attempt reads at most this much of the platform's explanation, in bytes.
pub(super) const MAX_EXPLANATION: usize = 64 * 1024;

/// At most so much memory is set aside on the word of an answer's `content-length`, in bytes.
const MAX_RESERVED: usize = 1024 * 1024;

/// Reads what the platform answered.
///
/// # Errors
/// [`Trouble`] where it is a refusal, or no answer at all.
pub(super) async fn read_answer(
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
///
/// # Errors
/// [`Trouble::Transport`].
pub(super) async fn read_all(trip: &Trip<'_>, source: &mut Source, limit: usize) -> Result<Bytes, Trouble> {
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
    let bytes = assembler.text_bytes();
    let completion = Some(tokens_of_bytes(bytes));
    let prompt = super::estimate::Estimate::of(trip.ask).prompt;
    let fallback = Usage { prompt: Some(prompt), completion, ..Usage::default() };
    let body = Bytes::from(assembler.into_json(fallback).to_string());
    Won::Whole { body, is_stream: false, delivered: Delivered { usage, bytes, bytes_since_usage: bytes } }
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
        let (body, usage) = splice::whole(body, scanned, model).map_err(trouble)?;
        // Where the platform says what it took, nobody asks for bytes that are mostly no text.
        let bytes = if usage.is_some() { 0 } else { body.len() as u64 };
        let delivered = Delivered { usage, bytes, bytes_since_usage: bytes };
        return Ok(Won::Whole { body, is_stream: false, delivered });
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
    let (usage, bytes) = (writer.usage(), writer.text_bytes());
    let prompt = super::estimate::Estimate::of(trip.ask).prompt;
    let completion = Some(tokens_of_bytes(bytes));
    writer.end(Usage { prompt: Some(prompt), completion, ..Usage::default() });
    let delivered = Delivered { usage, bytes, bytes_since_usage: bytes };
    Ok(Won::Whole { body: writer.take().freeze(), is_stream: true, delivered })
}

fn embeddings(trip: &Trip<'_>, aim: &Aim<'_>, body: &[u8], headers: &HeaderMap) -> Result<Won, Trouble> {
    let decoded = aim.platform().decode_embeddings(body, trip.ask);
    let body = decoded.map_err(|failure| trouble_of_failure(trip, aim, headers, failure))?;
    let usage = Object::scan(&body).ok().and_then(|fields| {
        let usage = serde_json::from_slice(fields.get(&body, "usage")?).ok()?;
        Usage::from_json(&usage)
    });
    Ok(Won::Whole { body, is_stream: false, delivered: Delivered { usage, ..Delivered::default() } })
}
