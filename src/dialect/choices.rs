//! The choices of an answer as OpenAI-like platforms write them. Why apart from the `openai` wire: Alibaba's native wire
//! wraps the same messages in another envelope, and the liberties taken inside a message (empty ids, missing names, nulls,
//! arguments as objects, a finish reason of the vendor's own) must be forgiven in one place.

use std::borrow::Cow;

use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::Failure;
use crate::api::piece::{FinishReason, Piece, Sink};

/// More choices than this no platform gives; OpenAI's own bound on `n`.
const MAX_CHOICES: u32 = 128;

/// More tool calls than this in one choice are an upstream gone wild, not an answer.
const MAX_CALLS: usize = 1024;

/// iFlytek's codes for an answer whose text was found objectionable after it had been given.
pub(super) const FILTERED_AFTERWARDS: [i64; 2] = [10014, 10019];

/// What is to be read: one event of a stream, or a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Chunk,
    Whole,
}

/// All choices of one answer, by the platform's own index.
#[derive(Debug, Default)]
pub(super) struct Choices(SmallVec<[Choice; 1]>);

/// One choice: what has been seen of it.
#[derive(Debug, Default)]
pub(super) struct Choice {
    index: u32,
    has_output: bool,
    filtered: bool,
    finished: bool,
    calls: Vec<Call>,
}

/// One tool call. It starts when its name is known; arguments that come earlier wait.
#[derive(Debug, Default)]
struct Call {
    /// The platform's own index, where it gives one.
    index: Option<u64>,
    id: String,
    started: bool,
    custom: bool,
    held: String,
    extra: Option<Value>,
}

/// A part of a tool call, as it came.
struct Fragment<'a> {
    index: Option<u64>,
    id: &'a str,
    name: &'a str,
    text: Cow<'a, str>,
    custom: bool,
    extra: Option<Value>,
}

impl Choices {
    /// The choice of that index, made where it is new.
    pub(super) fn at(&mut self, index: u64) -> Result<&mut Choice, Failure> {
        let index = u32::try_from(index).ok().filter(|index| *index < MAX_CHOICES);
        let index = index.ok_or_else(|| Failure::Malformed("a choice index of 128 or more".into()))?;
        let known = self.0.iter().position(|choice| choice.index == index);
        let at = known.unwrap_or(self.0.len());
        if known.is_none() {
            self.0.push(Choice { index, ..Choice::default() });
        }
        self.0.get_mut(at).ok_or_else(|| Failure::Malformed("no such choice".into()))
    }

    /// Whether anything of the model's has been handed on.
    pub(super) fn has_output(&self) -> bool {
        self.0.iter().any(|choice| choice.has_output)
    }

    /// Whether at least one choice began, and all that began have ended.
    pub(super) fn are_finished(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|choice| choice.finished)
    }

    /// Ends what has not ended, with `reason` or else with what OpenAI would have said.
    pub(super) fn finish_open(&mut self, reason: Option<FinishReason>, sink: &mut dyn Sink) {
        for choice in &mut self.0 {
            let usual = if choice.calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls };
            choice.finish(reason.unwrap_or(usual), sink);
        }
    }
}

impl Choice {
    /// Marks the choice as objectionable: it will end in `content_filter`.
    pub(super) fn mark_filtered(&mut self) {
        self.filtered = true;
    }

    /// Ends the choice; a second end is ignored.
    pub(super) fn finish(&mut self, reason: FinishReason, sink: &mut dyn Sink) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        for key in 0..self.calls.len() {
            self.start_call(key, "", sink);
        }
        let reason = if self.filtered { FinishReason::ContentFilter } else { reason };
        sink.piece(Piece::Finish { choice: self.index, reason });
    }

    /// Passes visible text on; empty text says nothing.
    pub(super) fn text(&mut self, text: &str, sink: &mut dyn Sink) {
        if !text.is_empty() {
            self.has_output = true;
            sink.piece(Piece::Text { choice: self.index, text });
        }
    }

    /// Reads a `delta` or a `message`.
    pub(super) fn message(
        &mut self,
        message: Map<String, Value>,
        form: Form,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let choice = self.index;
        let mut extras = Vec::new();
        let (mut content, mut refusal, mut calls) = (Value::Null, Value::Null, Value::Null);
        let (mut reasoning, mut other_reasoning) = (Value::Null, Value::Null);
        for (name, value) in message {
            match name.as_str() {
                "role" => {}
                "content" => content = value,
                "refusal" => refusal = value,
                "tool_calls" => calls = value,
                "reasoning_content" => reasoning = value,
                "reasoning" if value.is_string() => other_reasoning = value,
                _ if value.is_null() => {}
                _ => extras.push((name, value)),
            }
        }
        // Some send the same thinking under both names.
        let first = text_of(&reasoning);
        let thinking = if first.is_empty() { text_of(&other_reasoning) } else { first };
        if !thinking.is_empty() {
            self.has_output = true;
            sink.piece(Piece::Reasoning { choice, text: &thinking });
        }
        self.text(&text_of(&content), sink);
        let refusal = text_of(&refusal);
        if !refusal.is_empty() {
            self.has_output = true;
            sink.piece(Piece::Refusal { choice, text: &refusal });
        }
        self.tool_calls(calls, form, sink)?;
        for (name, value) in extras {
            self.has_output = true;
            sink.piece(Piece::Extra { choice, name: &name, value });
        }
        Ok(())
    }

    /// Reads `tool_calls`: a list, or (Spark) one object.
    fn tool_calls(&mut self, calls: Value, form: Form, sink: &mut dyn Sink) -> Result<(), Failure> {
        let list = match calls {
            Value::Array(list) => list,
            Value::Object(_) => vec![calls],
            _ => return Ok(()),
        };
        for call in list.iter().filter_map(Value::as_object) {
            self.take_fragment(&Fragment::read(call), form, sink)?;
        }
        Ok(())
    }

    fn take_fragment(&mut self, part: &Fragment<'_>, form: Form, sink: &mut dyn Sink) -> Result<(), Failure> {
        self.has_output = true;
        let known = if form == Form::Whole { None } else { self.find_call(part) };
        let key = known.unwrap_or(self.calls.len());
        if known.is_none() {
            if key >= MAX_CALLS {
                return Err(Failure::Malformed(format!("more than {MAX_CALLS} tool calls")));
            }
            self.calls.push(Call {
                index: part.index,
                custom: part.custom,
                extra: part.extra.clone(),
                ..Call::default()
            });
        }
        let choice = self.index;
        let Some(call) = self.calls.get_mut(key) else { return Ok(()) };
        if call.id.is_empty() {
            part.id.clone_into(&mut call.id);
        }
        if !part.name.is_empty() {
            self.start_call(key, part.name, sink);
        }
        let Some(call) = self.calls.get_mut(key) else { return Ok(()) };
        if !call.started {
            call.held.push_str(&part.text);
        } else if !part.text.is_empty() {
            sink.piece(Piece::ToolArguments { choice, key: as_key(key), text: &part.text });
        }
        Ok(())
    }

    /// The call that a fragment of a stream belongs to; none where it begins a new one. Platforms merge by index, but
    /// some give every parallel call the same index, and some give none: a new name under a new id is a new call.
    fn find_call(&self, part: &Fragment<'_>) -> Option<usize> {
        let with_id = || self.calls.iter().rposition(|call| !part.id.is_empty() && call.id == part.id);
        let found = match part.index {
            Some(index) => self.calls.iter().rposition(|call| call.index == Some(index))?,
            None => match with_id() {
                Some(found) => found,
                None if !part.name.is_empty() => return None,
                None => self.calls.len().checked_sub(1)?,
            },
        };
        let call = self.calls.get(found)?;
        let another =
            !part.name.is_empty() && !part.id.is_empty() && !call.id.is_empty() && call.id != part.id;
        if another { with_id() } else { Some(found) }
    }

    /// Announces a call, once, with what was held back for it.
    fn start_call(&mut self, key: usize, name: &str, sink: &mut dyn Sink) {
        let choice = self.index;
        let Some(call) = self.calls.get_mut(key).filter(|call| !call.started) else { return };
        call.started = true;
        let id = Some(call.id.as_str()).filter(|id| !id.is_empty());
        let number = as_key(key);
        sink.piece(if call.custom {
            Piece::CustomToolStart { choice, key: number, id, name }
        } else {
            Piece::ToolStart { choice, key: number, id, name, extra: call.extra.take() }
        });
        let held = std::mem::take(&mut call.held);
        if !held.is_empty() {
            sink.piece(Piece::ToolArguments { choice, key: number, text: &held });
        }
    }
}

impl<'a> Fragment<'a> {
    fn read(call: &'a Map<String, Value>) -> Self {
        let text = |value: Option<&'a Value>| value.and_then(Value::as_str).unwrap_or_default();
        let custom = call.get("custom").filter(|custom| custom.is_object());
        let inner = custom.or_else(|| call.get("function"));
        let field = |name| inner.and_then(|inner| inner.get(name));
        let arguments = field(if custom.is_some() { "input" } else { "arguments" });
        Self {
            index: call.get("index").and_then(Value::as_u64),
            id: text(call.get("id")),
            name: text(field("name")),
            text: match arguments {
                None | Some(Value::Null) => Cow::Borrowed(""),
                Some(Value::String(text)) => Cow::Borrowed(text),
                // Some backends send the arguments parsed.
                Some(other) => Cow::Owned(other.to_string()),
            },
            custom: custom.is_some(),
            extra: call.get("extra_content").filter(|extra| !extra.is_null()).cloned(),
        }
    }
}

fn as_key(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// The text of a `content`: a string, or the text parts of a list, joined.
pub(super) fn text_of(content: &Value) -> Cow<'_, str> {
    match content {
        Value::String(text) => Cow::Borrowed(text),
        Value::Array(parts) => {
            let text = |part: &'_ Value| part.get("text").and_then(Value::as_str).map(str::to_owned);
            Cow::Owned(parts.iter().filter_map(text).collect())
        }
        _ => Cow::Borrowed(""),
    }
}

/// What a `finish_reason` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing yet: absent, null, empty, or Alibaba's string `"null"`.
    Nothing,
    /// The choice has ended.
    Ended(FinishReason),
    /// The model broke off (Zhipu's `network_error`): no end of an answer.
    Broken,
}

/// Why an answer ended for which the platform gives no reason; `None` leaves it to what it holds.
pub(super) fn implied_reason(completion: Option<u64>, bound: Option<u64>) -> Option<FinishReason> {
    let is_cut = completion.zip(bound).is_some_and(|(tokens, bound)| tokens >= bound);
    is_cut.then_some(FinishReason::Length)
}

/// Reads a `finish_reason`, other vendors' spellings included: an aggregator lets them through.
pub(super) fn read_reason(value: Option<&Value>) -> Said {
    let text = value.and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    match text.as_str() {
        "" | "null" => Said::Nothing,
        "network_error" | "error" => Said::Broken,
        "tool_use" => Said::Ended(FinishReason::ToolCalls),
        "max_output_tokens" => Said::Ended(FinishReason::Length),
        "safety" | "recitation" | "blocklist" | "prohibited_content" | "spii" | "refusal" => {
            Said::Ended(FinishReason::ContentFilter)
        }
        text => Said::Ended(FinishReason::lenient(text)),
    }
}

/// The report of an answer that the model broke off, in the shape that verdicts are read from.
pub(super) fn broken_off(reason: &Value) -> Failure {
    let code = reason.as_str().unwrap_or_default();
    let report = serde_json::json!({"error": {
        "message": "The platform broke off in the middle of the answer.",
        "type": "server_error",
        "param": null,
        "code": code,
    }});
    Failure::Reported(report.to_string().into_bytes())
}

/// An event or a body as a JSON object.
///
/// The error says where, never what: answers are not logged.
pub(super) fn object(data: &[u8]) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_slice(data) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Failure::Malformed("JSON, but no object".into())),
        Err(wrong) => Err(Failure::Malformed(format!("no JSON ({} bytes): {wrong}", data.len()))),
    }
}

/// The body of an `event: error`, as JSON whatever it was.
pub(super) fn error_event(data: &[u8]) -> Vec<u8> {
    if object(data).is_ok() {
        return data.to_vec();
    }
    serde_json::json!({"error": String::from_utf8_lossy(data)}).to_string().into_bytes()
}

/// Fields of an answer that are ours to write, never a platform's.
const OWN_FIELDS: &[&str] = &["id", "object", "created", "model", "choices", "usage", "error"];

/// Passes on, and takes out, the fields of an answer that we do not know; `but` names those that the wire consumes.
pub(super) fn unknown_fields(top: &mut Map<String, Value>, but: &[&str], sink: &mut dyn Sink) {
    for (name, value) in top.iter_mut() {
        let known = OWN_FIELDS.contains(&name.as_str()) || but.contains(&name.as_str());
        if !known && !value.is_null() {
            sink.piece(Piece::Field { name, value: value.take() });
        }
    }
}

/// A number that may have been written as text; `None` where it is neither.
pub(super) fn number(value: Option<&Value>) -> Option<i64> {
    let value = value?;
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}
