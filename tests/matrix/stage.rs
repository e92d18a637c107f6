//! One exchange without a network: an ask is encoded as for a platform, and a platform's answer becomes what the caller
//! gets. It walks the same path as `gateway::attempt` and `gateway::relay`, with bytes at hand in place of connections.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use weir::api::ask::Ask;
use weir::api::assemble::Assembler;
use weir::api::piece::Usage;
use weir::api::scan::Object;
use weir::api::writer::{DONE, Naming, Writer};
use weir::clock::Clock;
use weir::dialect::splice::{self, Splicer};
use weir::dialect::{Decoder, Ending, Failure, Unsupported};
use weir::fault::{Fault, Kind};
use weir::gateway::attempt::fault_of;
use weir::gateway::estimate::{Estimate, tokens_of_bytes};
use weir::gateway::recall::{Memory, Remembering};
use weir::gateway::trip::Trouble;
use weir::platform::judge::Judgement;
use weir::platform::profile::Platform;
use weir::pool::TransportFailure;
use weir::sse;

/// 2026-11-21T02:00:00Z, in milliseconds since 1970.
pub const NOW: u64 = 1_795_226_400_000;

/// Largest event of a stream, in bytes.
const EVENT_LIMIT: usize = 1 << 20;

/// What a platform answers.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// A WebSocket: the body is already framed as the source of a socket frames its messages.
    pub is_socket: bool,
}

impl Reply {
    /// Reads a file: `HTTP <status>` or `WebSocket 101`, headers, an empty line, then the body as it is (of a WebSocket:
    /// one message in each line).
    pub fn parse(file: &[u8]) -> Self {
        let end = memchr::memmem::find(file, b"\n\n").expect("an empty line after the head");
        let mut lines = std::str::from_utf8(&file[..end]).expect("a head of text").lines();
        let (kind, status) = lines.next().expect("a first line").split_once(' ').expect("two words");
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").expect("a header");
                (HeaderName::try_from(name).expect("a name"), HeaderValue::try_from(value).expect("a value"))
            })
            .collect();
        let (is_socket, body) = (kind == "WebSocket", &file[end + 2..]);
        let body = if is_socket { framed(body) } else { body.to_vec() };
        Self { status: status.parse().expect("a status"), headers, body, is_socket }
    }

    /// Whether it comes as events.
    pub fn is_events(&self) -> bool {
        let kind = self.headers.get("content-type").map_or(&b""[..], HeaderValue::as_bytes);
        self.is_socket || kind.starts_with(b"text/event-stream")
    }
}

fn framed(messages: &[u8]) -> Vec<u8> {
    let mut events = Vec::new();
    for message in messages.split(|byte| *byte == b'\n').filter(|message| !message.is_empty()) {
        events.extend_from_slice(b"data: ");
        events.extend_from_slice(message);
        events.extend_from_slice(b"\n\n");
    }
    events
}

/// What the caller gets.
#[derive(Debug)]
pub enum Got {
    /// 200 and this body.
    Whole(Bytes),
    /// 200 and these events.
    Stream(Bytes),
    /// No answer: another account may be tried, else the caller gets the fault.
    Refused(Option<Judgement>, Fault),
}

/// A platform and one of its models.
pub struct Stage {
    pub platform: Platform,
    pub model: String,
    memory: Memory,
}

impl Stage {
    pub fn new(platform: Platform, model: &str) -> Self {
        let (clock, _) = Clock::manual(NOW);
        Self { platform, model: model.to_owned(), memory: Memory::new(clock, Duration::from_secs(60), 100) }
    }

    /// Whether the platform is asked for a stream.
    pub fn streams(&self, ask: &Ask) -> bool {
        ask.stream || self.platform.must_stream(ask, &self.model)
    }

    /// What goes out for `ask`, but for the credential.
    pub fn request(&self, ask: &Ask) -> Result<Value, Fault> {
        let stream = self.streams(ask);
        let how = Unsupported::Reject;
        let encoded = self.platform.encode_chat(ask, &self.model, stream, how, &self.memory)?;
        let headers = self.platform.headers(&encoded);
        let mut shown: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
        shown.sort_unstable();
        let base = &self.platform.base;
        let body: Value = serde_json::from_slice(&encoded.body).expect("a request is JSON");
        Ok(json!({
            "url": format!("{}://{}{}{}", base.scheme.as_str(), base.host, base.path, encoded.path),
            "headers": shown.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "body": body,
            "dropped": encoded.dropped,
        }))
    }

    /// What the caller gets of `reply`.
    pub fn answer(&self, ask: &Ask, reply: &Reply) -> Got {
        self.answer_in_pieces(ask, reply, [reply.body.as_slice()])
    }

    /// The same where the body arrives in `pieces`.
    pub fn answer_in_pieces<'a>(
        &self,
        ask: &Ask,
        reply: &Reply,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Got {
        let is_success = matches!(reply.status, 200..=299) || reply.is_socket;
        if !is_success {
            return self.judged(reply.status, &reply.headers, &reply.body);
        }
        match self.streams(ask) && reply.is_events() {
            true if ask.stream => self.relay(ask, &reply.headers, pieces),
            true => self.assemble(ask, &reply.headers, pieces),
            false => self.whole(ask, reply),
        }
    }

    fn judged(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Got {
        let judgement = self.platform.judge(status, headers, body, NOW);
        let fault = fault_of(Trouble::Judged(judgement.clone()));
        Got::Refused(Some(judgement), fault)
    }

    fn failed(&self, headers: &HeaderMap, failure: Failure) -> Got {
        match failure {
            Failure::Reported(report) => self.judged(200, headers, &report),
            Failure::Malformed(why) => broken(why),
        }
    }

    fn naming(&self, ask: &Ask) -> Naming {
        Naming { model: ask.model.clone(), created: NOW / 1000, speaks_functions: ask.speaks_functions() }
    }

    fn relay<'a>(&self, ask: &Ask, headers: &HeaderMap, pieces: impl IntoIterator<Item = &'a [u8]>) -> Got {
        let mut flow = self.flow(ask);
        let mut events = sse::Decoder::new(EVENT_LIMIT);
        let mut out = BytesMut::new();
        let mut opening = Vec::new();
        'bytes: for piece in pieces {
            if out.is_empty() {
                opening.extend_from_slice(piece);
            }
            events.feed(piece);
            loop {
                let event = match events.next() {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(wrong) => {
                        return self.broken_off(headers, Failure::Malformed(wrong.to_string()), out);
                    }
                };
                let before = out.len();
                if let Err(failure) = flow.push(event, &self.memory, &mut out) {
                    if flow.is_told() {
                        break 'bytes;
                    }
                    if before == 0 {
                        out.clear();
                    }
                    return self.broken_off(headers, failure, out);
                }
                if flow.is_done() {
                    break 'bytes;
                }
            }
        }
        if out.is_empty() {
            let is_report =
                !flow.is_done() && self.platform.is_error_in_200(&opening, &Object::scan(&opening));
            return match is_report {
                true => self.judged(200, headers, &opening),
                false => broken("a stream that ended before it began".to_owned()),
            };
        }
        let prompt = Estimate::of(ask).prompt;
        if flow.finish(&self.memory, prompt, &mut out) == Ending::Cut {
            let sentence = "The platform's stream ended before the answer was complete.";
            fail(&Fault::upstream(Kind::UpstreamIncomplete, sentence), &mut out);
        }
        Got::Stream(out.freeze())
    }

    /// A failure before anything was said is a refusal, later an error within the stream.
    fn broken_off(&self, headers: &HeaderMap, failure: Failure, mut out: BytesMut) -> Got {
        if out.is_empty() {
            return self.failed(headers, failure);
        }
        let sentence = match failure {
            Failure::Malformed(_) => "The platform's stream could not be read any further.",
            Failure::Reported(_) => "The platform reported an error in mid-stream.",
        };
        fail(&Fault::upstream(Kind::UpstreamIncomplete, sentence), &mut out);
        Got::Stream(out.freeze())
    }

    fn flow(&self, ask: &Ask) -> Flow {
        if self.platform.splices(&self.model) {
            return Flow::Splice(Box::new(Splicer::new(Some(&ask.model), ask.include_usage, ask.choices)));
        }
        let writer = Writer::new(self.naming(ask), ask.include_usage);
        Flow::Translate(Box::new((self.platform.decoder(&self.model, ask), writer)))
    }

    /// A stream, put together for a caller who wants none.
    pub fn assemble<'a>(
        &self,
        ask: &Ask,
        headers: &HeaderMap,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Got {
        let mut decoder = self.platform.decoder(&self.model, ask);
        let mut assembler = Assembler::new(self.naming(ask));
        let mut sink = Remembering { memory: &self.memory, inner: &mut assembler };
        let mut events = sse::Decoder::new(EVENT_LIMIT);
        for piece in pieces {
            events.feed(piece);
            loop {
                let event = match events.next() {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(wrong) => return broken(wrong.to_string()),
                };
                if let Err(failure) = decoder.push(event, &mut sink) {
                    return self.failed(headers, failure);
                }
            }
        }
        if decoder.finish(&mut sink) == Ending::Cut {
            return broken("the stream ended before the answer was complete".to_owned());
        }
        Got::Whole(json_of(ask, assembler))
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Got {
        let Reply { headers, body, .. } = reply;
        if self.platform.is_error_in_200(body, &Object::scan(body)) {
            return self.judged(200, headers, body);
        }
        if !ask.stream && self.platform.splices(&self.model) {
            return match splice::whole(Bytes::copy_from_slice(body), Object::scan(body), Some(&ask.model)) {
                Ok((body, _)) => Got::Whole(body),
                Err(failure) => self.failed(headers, failure),
            };
        }
        let mut decoder = self.platform.decoder(&self.model, ask);
        if !ask.stream {
            let mut assembler = Assembler::new(self.naming(ask));
            let mut sink = Remembering { memory: &self.memory, inner: &mut assembler };
            return match decoder.whole(body, &mut sink) {
                Ok(()) => Got::Whole(json_of(ask, assembler)),
                Err(failure) => self.failed(headers, failure),
            };
        }
        let mut writer = Writer::new(self.naming(ask), ask.include_usage);
        let mut sink = Remembering { memory: &self.memory, inner: &mut writer };
        match decoder.whole(body, &mut sink) {
            Ok(()) => {
                let guess = estimated(ask, writer.text_bytes());
                writer.end(guess);
                Got::Stream(writer.take().freeze())
            }
            Err(failure) => self.failed(headers, failure),
        }
    }
}

fn broken(why: String) -> Got {
    Got::Refused(None, fault_of(Trouble::Transport(TransportFailure::Cut, why)))
}

fn estimated(ask: &Ask, bytes: u64) -> Usage {
    let (prompt, completion) = (Some(Estimate::of(ask).prompt), Some(tokens_of_bytes(bytes)));
    Usage { prompt, completion, ..Usage::default() }
}

fn json_of(ask: &Ask, assembler: Assembler) -> Bytes {
    let guess = estimated(ask, assembler.text_bytes());
    Bytes::from(assembler.into_json(guess).to_string())
}

fn fail(fault: &Fault, out: &mut BytesMut) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(fault.body().as_bytes());
    out.extend_from_slice(b"\n\n");
    out.extend_from_slice(DONE);
}

/// As `gateway::relay::Flow`.
enum Flow {
    Splice(Box<Splicer>),
    Translate(Box<(Decoder, Writer)>),
}

impl Flow {
    fn push(&mut self, event: sse::Event<'_>, memory: &Memory, out: &mut BytesMut) -> Result<(), Failure> {
        match self {
            Flow::Splice(splicer) => splicer.push(event, out),
            Flow::Translate(both) => {
                let (decoder, writer) = &mut **both;
                let pushed = decoder.push(event, &mut Remembering { memory, inner: writer });
                out.unsplit(writer.take());
                pushed
            }
        }
    }

    fn is_told(&self) -> bool {
        match self {
            Flow::Splice(splicer) => splicer.ending() == Ending::Complete,
            Flow::Translate(both) => both.1.is_finished(),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Flow::Splice(splicer) => splicer.is_done(),
            Flow::Translate(both) => both.0.is_done(),
        }
    }

    fn finish(&mut self, memory: &Memory, prompt: u64, out: &mut BytesMut) -> Ending {
        match self {
            Flow::Splice(splicer) => {
                if splicer.ending() == Ending::Complete {
                    let completion = Some(tokens_of_bytes(splicer.text_bytes()));
                    splicer.end(Usage { prompt: Some(prompt), completion, ..Usage::default() }, out);
                }
                splicer.ending()
            }
            Flow::Translate(both) => {
                let (decoder, writer) = &mut **both;
                let completion = Some(tokens_of_bytes(writer.text_bytes()));
                let ending = decoder.finish(&mut Remembering { memory, inner: writer });
                if ending == Ending::Complete {
                    writer.end(Usage { prompt: Some(prompt), completion, ..Usage::default() });
                }
                out.unsplit(writer.take());
                ending
            }
        }
    }
}
