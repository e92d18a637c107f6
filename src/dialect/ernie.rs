//! Baidu's V1 wire ("wenxinworkshop"). Why still: Baidu retired it in August 2026, but it is spoken by private installations
//! and by old accounts' tests, and it is the hardest wire of all: errors come as HTTP 200, a finish reason stands in every
//! chunk, turns must alternate, and there are functions but no tools.

use serde_json::{Map, Value};

use super::choices::{self, Choices, Form, Said};
use super::{Ending, Failure, Quirks};
use crate::api::piece::{FinishReason, Piece, Sink, Usage};
use crate::sse::Event;

mod request;

pub use request::encode;

/// Reads one answer.
#[derive(Debug)]
pub struct Decoder {
    choices: Choices,
    started: bool,
    /// A chunk said that the text is at the model's bound.
    is_truncated: bool,
    done: bool,
}

/// Fields that are read here, or that say something about the transport only. All others that are not OpenAI's survive.
const CONSUMED: &[&str] = &[
    "result",
    "function_call",
    "finish_reason",
    "is_end",
    "is_truncated",
    "need_clear_history",
    "sentence_id",
    "error_code",
    "error_msg",
];

impl Decoder {
    /// A decoder for one answer.
    pub fn new(_quirks: Quirks) -> Self {
        Self { choices: Choices::default(), started: false, is_truncated: false, done: false }
    }

    /// See [`super::Decoder::push`].
    ///
    /// # Errors
    /// [`Failure::Reported`] for an `error_code`; [`Failure::Malformed`] for what is no JSON object.
    pub fn push(&mut self, event: Event<'_>, sink: &mut dyn Sink) -> Result<(), Failure> {
        if self.done || event.data.trim_ascii().is_empty() {
            return Ok(());
        }
        self.answer(event.data, Form::Chunk, sink)
    }

    /// See [`super::Decoder::is_done`]: `is_end` came.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// See [`super::Decoder::finish`].
    pub fn finish(&mut self, _sink: &mut dyn Sink) -> Ending {
        if self.done { Ending::Complete } else { Ending::Cut }
    }

    /// See [`super::Decoder::whole`]. Also for the bare JSON that answers a stream request with an error.
    ///
    /// # Errors
    /// As [`Decoder::push`]; also [`Failure::Malformed`] where there is neither a result nor a call.
    pub fn whole(&mut self, body: &[u8], sink: &mut dyn Sink) -> Result<(), Failure> {
        self.answer(body, Form::Whole, sink)
    }

    fn answer(&mut self, raw: &[u8], form: Form, sink: &mut dyn Sink) -> Result<(), Failure> {
        let mut top = choices::object(raw)?;
        if is_error(&top) {
            return Err(Failure::Reported(raw.to_vec()));
        }
        let has_answer = top.get("result").is_some_and(Value::is_string)
            || top.get("function_call").is_some_and(Value::is_object);
        if form == Form::Whole && !has_answer {
            return Err(Failure::Malformed("an answer without a result".into()));
        }
        let is_last = form == Form::Whole || top.get("is_end") == Some(&Value::Bool(true));
        if !has_answer && !is_last {
            return Ok(());
        }
        self.start(&top, sink);
        choices::unknown_fields(&mut top, CONSUMED, sink);
        self.is_truncated |= top.get("is_truncated") == Some(&Value::Bool(true));
        self.content(&mut top, form, sink)?;
        if let Some(usage) = top.get("usage").and_then(Usage::from_json) {
            sink.piece(Piece::Usage(usage));
        }
        if is_last {
            self.end(&top, sink)?;
        }
        Ok(())
    }

    fn start(&mut self, top: &Map<String, Value>, sink: &mut dyn Sink) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let id = top.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
        let created = top.get("created").and_then(Value::as_u64);
        sink.piece(Piece::Start { id, created });
    }

    fn content(
        &mut self,
        top: &mut Map<String, Value>,
        form: Form,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let choice = self.choices.at(0)?;
        if top.get("need_clear_history") == Some(&Value::Bool(true)) {
            choice.mark_filtered();
        }
        let mut message = Map::new();
        if let Some(call) = top.get_mut("function_call").map(Value::take).filter(Value::is_object) {
            if let Some(thoughts) = call.get("thoughts").and_then(Value::as_str) {
                message.insert("reasoning_content".into(), thoughts.into());
            }
            message.insert("tool_calls".into(), serde_json::json!([{"index": 0, "function": call}]));
        }
        if let Some(text) = top.get_mut("result").map(Value::take) {
            message.insert("content".into(), text);
        }
        choice.message(message, form, sink)
    }

    fn end(&mut self, top: &Map<String, Value>, sink: &mut dyn Sink) -> Result<(), Failure> {
        let reason = match choices::read_reason(top.get("finish_reason")) {
            Said::Broken => {
                return Err(choices::broken_off(top.get("finish_reason").unwrap_or(&Value::Null)));
            }
            Said::Ended(FinishReason::FunctionCall) => Some(FinishReason::ToolCalls),
            Said::Ended(FinishReason::Stop) | Said::Nothing if self.is_truncated => {
                Some(FinishReason::Length)
            }
            Said::Ended(FinishReason::Stop) | Said::Nothing => None,
            Said::Ended(reason) => Some(reason),
        };
        self.choices.finish_open(reason, sink);
        self.done = true;
        Ok(())
    }
}

/// A non-zero `error_code`, or the token endpoint's `error`: both come with HTTP 200.
fn is_error(top: &Map<String, Value>) -> bool {
    let code = match top.get("error_code") {
        None | Some(Value::Null) => false,
        value => choices::number(value) != Some(0),
    };
    code || top.get("error").is_some_and(|error| !error.is_null())
}

#[cfg(test)]
mod tests;
