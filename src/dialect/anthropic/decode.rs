//! Reads Claude's answers. Why the finish waits for the end: `message_delta` may come several times, and an error may
//! still follow it; a finish that was passed on cannot be taken back.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::lenient::{self, count, json as read, object, raw, text};
use super::super::{Ending, Failure, Quirks};
use super::{BLOCKS, VENDOR};
use crate::api::piece::{FinishReason, Piece, Sink, Usage};
use crate::api::writer::mint_call_id;
use crate::sse::Event;

/// One event, or the whole answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wire<'a> {
    #[serde(rename = "type", borrow, deserialize_with = "text")]
    kind: Cow<'a, str>,
    #[serde(deserialize_with = "count")]
    index: Option<u64>,
    #[serde(borrow, deserialize_with = "raw")]
    message: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "raw")]
    content_block: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "raw")]
    delta: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "raw")]
    usage: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "raw")]
    error: Option<&'a RawValue>,
}

/// The answer's frame: in `message_start`, or as the whole answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow, deserialize_with = "text")]
    id: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "object")]
    content: Vec<&'a RawValue>,
    #[serde(deserialize_with = "object")]
    usage: Tokens,
}

/// What ends an answer: in `message_delta`, or in the whole answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stop<'a> {
    #[serde(borrow, deserialize_with = "text")]
    stop_reason: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "raw")]
    stop_details: Option<&'a RawValue>,
}

/// A content block, or a delta of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Block<'a> {
    #[serde(rename = "type", borrow, deserialize_with = "text")]
    kind: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "text")]
    text: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "text")]
    thinking: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "text")]
    signature: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "text")]
    data: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "text")]
    id: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "text")]
    name: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "raw")]
    input: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "text")]
    partial_json: Cow<'a, str>,
}

/// Claude's counts. All are running totals; one that is absent is unknown, not zero.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Tokens {
    #[serde(deserialize_with = "count")]
    input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    cache_read_input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    output_tokens: Option<u64>,
    #[serde(deserialize_with = "object")]
    output_tokens_details: OutputDetails,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    #[serde(deserialize_with = "count")]
    thinking_tokens: Option<u64>,
}

impl Tokens {
    fn update(&mut self, later: Tokens) {
        let take = |old: &mut Option<u64>, new: Option<u64>| *old = new.or(*old);
        take(&mut self.input_tokens, later.input_tokens);
        take(&mut self.cache_creation_input_tokens, later.cache_creation_input_tokens);
        take(&mut self.cache_read_input_tokens, later.cache_read_input_tokens);
        take(&mut self.output_tokens, later.output_tokens);
        take(&mut self.output_tokens_details.thinking_tokens, later.output_tokens_details.thinking_tokens);
    }

    /// In OpenAI's terms, where the prompt includes what the cache gave and took.
    fn usage(self) -> Usage {
        let cache = [self.cache_creation_input_tokens, self.cache_read_input_tokens];
        let cache = cache.into_iter().flatten().fold(0, u64::saturating_add);
        Usage {
            prompt: self.input_tokens.map(|input| input.saturating_add(cache)),
            completion: self.output_tokens,
            total: None,
            cached: self.cache_read_input_tokens,
            cache_write: self.cache_creation_input_tokens,
            reasoning: self.output_tokens_details.thinking_tokens,
        }
    }
}

/// A block that has begun and not ended.
#[derive(Debug)]
enum Open {
    Text,
    /// `whole` is false once the text became longer than what is kept.
    Thinking {
        text: String,
        signature: String,
        whole: bool,
    },
    Tool {
        key: u32,
        has_arguments: bool,
        input: Option<String>,
    },
    /// Nothing for an OpenAI caller (server tools, kinds of tomorrow): its deltas are not his either.
    Skipped,
}

/// The longest text of thinking that is kept for the next turn, in bytes; Claude's own bounds lie well below.
const KEPT: usize = 1 << 20;

/// Reads one answer.
#[derive(Debug, Default)]
pub struct Decoder {
    started: bool,
    stopped: bool,
    finished: bool,
    reason: Option<FinishReason>,
    tokens: Tokens,
    open: Vec<(u64, Open)>,
    /// Finished thinking, as it must come back.
    thinking: Vec<Value>,
    /// The ids of the tool calls, in order.
    calls: Vec<String>,
    details: Option<Value>,
}

impl Decoder {
    /// A decoder for one answer. No quirk changes how Claude answers.
    pub fn new(_: Quirks) -> Self {
        Self::default()
    }

    /// See [`super::super::Decoder::push`].
    ///
    /// # Errors
    /// As there.
    pub fn push(&mut self, event: Event<'_>, sink: &mut dyn Sink) -> Result<(), Failure> {
        if self.stopped {
            return Ok(());
        }
        let wire: Wire<'_> = read(event.data)?;
        match &*wire.kind {
            "message_start" => {
                let message: Message<'_> = inner(wire.message)?;
                self.start(&message.id, sink);
                self.count(message.usage, sink);
            }
            "content_block_start" => {
                let block: Block<'_> = inner(wire.content_block)?;
                self.begin(wire.index.unwrap_or_default(), &block, sink);
            }
            "content_block_delta" => {
                let delta: Block<'_> = inner(wire.delta)?;
                self.extend(wire.index.unwrap_or_default(), &delta, sink);
            }
            "content_block_stop" => self.close(wire.index.unwrap_or_default(), sink),
            "message_delta" => {
                self.stop(&inner(wire.delta)?);
                self.count(inner(wire.usage)?, sink);
            }
            "message_stop" => {
                self.stopped = true;
                self.settle(sink);
            }
            "error" => return Err(Failure::Reported(event.data.to_vec())),
            _ if wire.error.is_some() => return Err(Failure::Reported(event.data.to_vec())),
            // `ping`, and events of tomorrow.
            _ => {}
        }
        Ok(())
    }

    /// See [`super::super::Decoder::is_done`].
    pub fn is_done(&self) -> bool {
        self.stopped
    }

    /// See [`super::super::Decoder::finish`].
    pub fn finish(&mut self, sink: &mut dyn Sink) -> Ending {
        if !self.stopped && self.reason.is_none() {
            return Ending::Cut;
        }
        self.settle(sink);
        Ending::Complete
    }

    /// See [`super::super::Decoder::whole`].
    ///
    /// # Errors
    /// As there.
    pub fn whole(&mut self, body: &[u8], sink: &mut dyn Sink) -> Result<(), Failure> {
        let wire: Wire<'_> = read(body)?;
        if wire.kind == "error" || wire.error.is_some() {
            return Err(Failure::Reported(body.to_vec()));
        }
        if wire.kind != "message" {
            return Err(Failure::Malformed("the answer is no message".into()));
        }
        let message: Message<'_> = read(body)?;
        self.start(&message.id, sink);
        for (index, block) in (0..).zip(message.content) {
            self.begin(index, &read::<Block<'_>>(block.get().as_bytes())?, sink);
            self.close(index, sink);
        }
        self.stop(&read(body)?);
        if self.reason.is_none() {
            return Err(Failure::Malformed("the answer has no stop_reason".into()));
        }
        self.count(message.usage, sink);
        self.stopped = true;
        self.settle(sink);
        Ok(())
    }

    fn start(&mut self, id: &str, sink: &mut dyn Sink) {
        if !std::mem::replace(&mut self.started, true) {
            sink.piece(Piece::Start { id: Some(id).filter(|id| !id.is_empty()), created: None });
        }
    }

    fn count(&mut self, tokens: Tokens, sink: &mut dyn Sink) {
        self.tokens.update(tokens);
        let usage = self.tokens.usage();
        if usage != Usage::default() {
            sink.piece(Piece::Usage(usage));
        }
    }

    fn begin(&mut self, index: u64, block: &Block<'_>, sink: &mut dyn Sink) {
        let state = match &*block.kind {
            "text" => {
                say(&block.text, sink);
                Open::Text
            }
            "thinking" => {
                think(&block.thinking, sink);
                Open::Thinking {
                    text: block.thinking.to_string(),
                    signature: block.signature.to_string(),
                    whole: true,
                }
            }
            "redacted_thinking" => {
                self.keep(json!({"type": "redacted_thinking", "data": block.data}), sink);
                Open::Skipped
            }
            "tool_use" => {
                let key = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
                let id = Some(block.id.to_string()).filter(|id| !id.is_empty()).unwrap_or_else(mint_call_id);
                sink.piece(Piece::ToolStart {
                    choice: 0,
                    key,
                    id: Some(&id),
                    name: &block.name,
                    extra: None,
                });
                self.calls.push(id);
                let input = block.input.map(RawValue::get).filter(|input| !is_empty_object(input));
                Open::Tool { key, has_arguments: false, input: input.map(str::to_owned) }
            }
            _ => Open::Skipped,
        };
        self.open.push((index, state));
    }

    fn extend(&mut self, index: u64, delta: &Block<'_>, sink: &mut dyn Sink) {
        let Some((_, open)) = self.open.iter_mut().find(|(at, _)| *at == index) else { return };
        match (open, &*delta.kind) {
            (Open::Text, "text_delta") => say(&delta.text, sink),
            (Open::Thinking { text, whole, .. }, "thinking_delta") => {
                *whole = *whole && text.len() + delta.thinking.len() <= KEPT;
                if *whole {
                    text.push_str(&delta.thinking);
                }
                think(&delta.thinking, sink);
            }
            (Open::Thinking { signature, .. }, "signature_delta") => signature.push_str(&delta.signature),
            (Open::Tool { key, has_arguments, .. }, "input_json_delta") if !delta.partial_json.is_empty() => {
                *has_arguments = true;
                sink.piece(Piece::ToolArguments { choice: 0, key: *key, text: &delta.partial_json });
            }
            // Deltas of tomorrow, citations, and those of blocks that are skipped.
            _ => {}
        }
    }

    fn close(&mut self, index: u64, sink: &mut dyn Sink) {
        let Some(position) = self.open.iter().position(|(at, _)| *at == index) else { return };
        match self.open.swap_remove(position).1 {
            Open::Thinking { text, signature, whole: true } => {
                self.keep(json!({"type": "thinking", "thinking": text, "signature": signature}), sink);
            }
            // Some servers send the input at once instead of in deltas.
            Open::Tool { key, has_arguments: false, input: Some(input) } => {
                sink.piece(Piece::ToolArguments { choice: 0, key, text: &input });
            }
            Open::Text | Open::Thinking { .. } | Open::Tool { .. } | Open::Skipped => {}
        }
    }

    /// Keeps a block of thinking for the next turn and shows it to the caller, in case that the client gives it back.
    fn keep(&mut self, block: Value, sink: &mut dyn Sink) {
        // The position first: SDKs that join deltas need it to tell the blocks apart.
        let mut shown = json!({"index": self.thinking.len()});
        if let (Some(shown), Some(block)) = (shown.as_object_mut(), block.as_object()) {
            shown.extend(block.clone());
        }
        self.thinking.push(block);
        sink.piece(Piece::Extra {
            choice: 0,
            name: "extra_content",
            value: json!({VENDOR: {BLOCKS: [shown]}}),
        });
    }

    fn stop(&mut self, stop: &Stop<'_>) {
        if !stop.stop_reason.is_empty() {
            self.reason = Some(reason(&stop.stop_reason));
        }
        if let Some(details) = stop.stop_details {
            self.details = serde_json::from_str(details.get()).ok();
        }
    }

    /// Says everything that waits for the end, once.
    fn settle(&mut self, sink: &mut dyn Sink) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        if let Some(details) = self.details.take() {
            let value = json!({VENDOR: {"stop_details": details}});
            sink.piece(Piece::Extra { choice: 0, name: "extra_content", value });
        }
        if !self.thinking.is_empty() {
            let value = json!({VENDOR: {BLOCKS: std::mem::take(&mut self.thinking)}});
            for id in &self.calls {
                sink.piece(Piece::Remember { tool_call_id: id, value: value.clone() });
            }
        }
        sink.piece(Piece::Finish { choice: 0, reason: self.reason.unwrap_or(FinishReason::Stop) });
    }
}

fn inner<'a, T: Deserialize<'a> + Default>(raw: Option<&'a RawValue>) -> Result<T, Failure> {
    raw.map_or_else(|| Ok(T::default()), |raw| lenient::json(raw.get().as_bytes()))
}

fn say(text: &str, sink: &mut dyn Sink) {
    if !text.is_empty() {
        sink.piece(Piece::Text { choice: 0, text });
    }
}

fn think(text: &str, sink: &mut dyn Sink) {
    if !text.is_empty() {
        sink.piece(Piece::Reasoning { choice: 0, text });
    }
}

fn is_empty_object(json: &str) -> bool {
    json.bytes().filter(|byte| !byte.is_ascii_whitespace()).eq(*b"{}")
}

fn reason(stop: &str) -> FinishReason {
    match stop {
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        // The turn is not over, so `stop` would pass half an answer off as a whole one.
        "pause_turn" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::ContentFilter,
        // `end_turn`, `stop_sequence`, and reasons of tomorrow: a caller must never see a value that is not OpenAI's.
        _ => FinishReason::Stop,
    }
}

#[cfg(test)]
mod tests;
