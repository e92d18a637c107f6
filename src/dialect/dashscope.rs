//! Alibaba's native wire. Why beside the compatible one: some models and accounts are only served there, and it is the
//! wire on which a default (`incremental_output: false`, every chunk repeats all text so far) silently multiplies an answer.
//! We always ask for increments, and a stream of repeats cannot be told from a model that repeats itself: it is not guessed at.

use serde_json::{Map, Value, json};

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
}

impl Decoder {
    /// A decoder for one answer.
    pub fn new(_quirks: Quirks) -> Self {
        Self { choices: Choices::default(), started: false }
    }

    /// See [`super::Decoder::push`].
    ///
    /// # Errors
    /// [`Failure::Reported`] for an `event:error` or a `code`; [`Failure::Malformed`] for what is no JSON object.
    pub fn push(&mut self, event: Event<'_>, sink: &mut dyn Sink) -> Result<(), Failure> {
        if event.data.trim_ascii().is_empty() {
            return Ok(());
        }
        if event.name == b"error" {
            return Err(Failure::Reported(choices::error_event(event.data)));
        }
        self.answer(choices::object(event.data)?, event.data, Form::Chunk, sink)
    }

    /// See [`super::Decoder::is_done`]. This wire has no end mark: the connection just ends.
    pub fn is_done(&self) -> bool {
        false
    }

    /// See [`super::Decoder::finish`].
    pub fn finish(&mut self, _sink: &mut dyn Sink) -> Ending {
        if self.choices.are_finished() { Ending::Complete } else { Ending::Cut }
    }

    /// See [`super::Decoder::whole`]. A call that Alibaba cut at its time limit is a 200 without a finish reason: `length`.
    ///
    /// # Errors
    /// As [`Decoder::push`]; also [`Failure::Malformed`] where there is no choice.
    pub fn whole(&mut self, body: &[u8], sink: &mut dyn Sink) -> Result<(), Failure> {
        self.answer(choices::object(body)?, body, Form::Whole, sink)?;
        self.choices.finish_open(Some(FinishReason::Length), sink);
        Ok(())
    }

    fn answer(
        &mut self,
        mut top: Map<String, Value>,
        raw: &[u8],
        form: Form,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let code = top.get("code").and_then(Value::as_str).unwrap_or_default();
        if !code.is_empty() && !matches!(top.get("output"), Some(Value::Object(_))) {
            return Err(Failure::Reported(raw.to_vec()));
        }
        if let Some(id) = top.get("request_id").and_then(Value::as_str).filter(|_| !self.started) {
            self.started = true;
            sink.piece(Piece::Start { id: Some(id).filter(|id| !id.is_empty()), created: None });
        }
        let list = match top.get_mut("output").map(Value::take) {
            Some(Value::Object(output)) => into_choices(output, sink),
            _ => Vec::new(),
        };
        if list.is_empty() && form == Form::Whole {
            return Err(Failure::Malformed("an answer without choices".into()));
        }
        for (position, choice) in list.into_iter().enumerate() {
            self.choice(choice, position, form, sink)?;
        }
        if let Some(usage) = top.get("usage").and_then(read_usage) {
            sink.piece(Piece::Usage(usage));
        }
        Ok(())
    }

    fn choice(
        &mut self,
        choice: Value,
        position: usize,
        form: Form,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let Value::Object(mut fields) = choice else {
            return Err(Failure::Malformed("a choice that is no object".into()));
        };
        let given = fields.get("index").and_then(Value::as_u64).filter(|_| form == Form::Chunk);
        let index = given.unwrap_or(position as u64);
        let choice = self.choices.at(index)?;
        if let Some(value) = fields.get_mut("logprobs").map(Value::take).filter(Value::is_object) {
            sink.piece(Piece::Logprobs { choice: u32::try_from(index).unwrap_or_default(), value });
        }
        if let Some(Value::Object(message)) = fields.get_mut("message").map(Value::take) {
            choice.message(message, form, sink)?;
        }
        match choices::read_reason(fields.get("finish_reason")) {
            Said::Ended(reason) => choice.finish(reason, sink),
            Said::Broken => {
                return Err(choices::broken_off(fields.get("finish_reason").unwrap_or(&Value::Null)));
            }
            Said::Nothing => {}
        }
        Ok(())
    }
}

/// The choices of an `output`; the form `text`, which has no list, becomes one choice. What else it holds survives.
fn into_choices(mut output: Map<String, Value>, sink: &mut dyn Sink) -> Vec<Value> {
    choices::unknown_fields(&mut output, &["text", "finish_reason"], sink);
    match output.get_mut("choices").map(Value::take) {
        Some(Value::Array(list)) if !list.is_empty() => return list,
        _ => {}
    }
    let mut field = |name| output.get_mut(name).map(Value::take).unwrap_or_default();
    match field("text") {
        Value::Null => Vec::new(),
        text => vec![json!({"message": {"content": text}, "finish_reason": field("finish_reason")})],
    }
}

/// Tokens so far, as this wire names them.
fn read_usage(usage: &Value) -> Option<Usage> {
    let number = |name: &str| usage.get(name).and_then(Value::as_u64);
    let detail = |outer: &str, name: &str| usage.get(outer)?.get(name)?.as_u64();
    let read = Usage {
        prompt: number("input_tokens"),
        completion: number("output_tokens"),
        total: number("total_tokens"),
        cached: detail("prompt_tokens_details", "cached_tokens")
            .or_else(|| detail("input_tokens_details", "cached_tokens")),
        cache_write: None,
        reasoning: detail("output_tokens_details", "reasoning_tokens"),
    };
    Some(read).filter(|read| *read != Usage::default())
}

#[cfg(test)]
mod tests;
