//! iFlytek's WebSocket frames. Why beside its HTTP interface: accounts of the older kind (an application with key and
//! secret) have no password for HTTP; for them one signed connection carries one request and its answer.
//!
//! Signing belongs to authentication, which also fills `header.app_id`: [`encode`] leaves it as `"app_id":""`.

use serde_json::Value;

use super::choices::{self, Choices, Form};
use super::{Ending, Failure, Quirks};
use crate::api::piece::{FinishReason, Piece, Sink, Usage};
use crate::sse::Event;

mod request;

pub use request::encode;

/// Reads one answer: each WebSocket message as the `data` of an event.
#[derive(Debug)]
pub struct Decoder {
    choices: Choices,
    started: bool,
    calls: u64,
    done: bool,
    /// See [`super::Decoder::bounded`].
    pub(super) bound: Option<u64>,
}

/// `header.status` and `choices.status` of the last frame.
const LAST: u64 = 2;

impl Decoder {
    /// A decoder for one answer.
    pub fn new(_quirks: Quirks) -> Self {
        Self { choices: Choices::default(), started: false, calls: 0, done: false, bound: None }
    }

    /// See [`super::Decoder::push`].
    ///
    /// # Errors
    /// [`Failure::Reported`] for a non-zero `header.code`; [`Failure::Malformed`] for what is no frame.
    pub fn push(&mut self, event: Event<'_>, sink: &mut dyn Sink) -> Result<(), Failure> {
        if self.done {
            return Ok(());
        }
        let mut frame = choices::object(event.data)?;
        let Some(header) = frame.get("header").and_then(Value::as_object) else {
            return Err(Failure::Malformed("a frame without a header".into()));
        };
        let code = match header.get("code") {
            None | Some(Value::Null) => 0,
            value => choices::number(value).unwrap_or(-1),
        };
        let is_last = header.get("status").and_then(Value::as_u64) == Some(LAST);
        let filtered = choices::FILTERED_AFTERWARDS.contains(&code);
        if code != 0 && !filtered {
            return Err(Failure::Reported(event.data.to_vec()));
        }
        if !std::mem::replace(&mut self.started, true) {
            let id = header.get("sid").and_then(Value::as_str).filter(|id| !id.is_empty());
            sink.piece(Piece::Start { id, created: None });
        }
        let payload = frame.get_mut("payload").map(Value::take).unwrap_or_default();
        self.text(payload.pointer("/choices/text"), sink)?;
        let usage = payload.pointer("/usage/text").and_then(Usage::from_json);
        let usage = usage.filter(|usage| *usage != Usage::default());
        if let Some(usage) = usage {
            sink.piece(Piece::Usage(usage));
        }
        if filtered && !self.choices.has_output() {
            return Err(Failure::Reported(event.data.to_vec()));
        }
        if filtered || is_last || payload.pointer("/choices/status").and_then(Value::as_u64) == Some(LAST) {
            // An answer may be empty: the choice is there all the same.
            self.choices.at(0)?;
            let completion = usage.and_then(|usage| usage.completion);
            let implied = choices::implied_reason(completion, self.bound);
            self.choices.finish_open(filtered.then_some(FinishReason::ContentFilter).or(implied), sink);
            self.done = true;
        }
        Ok(())
    }

    /// See [`super::Decoder::is_done`]: the frame of status 2, or a filter's verdict, came.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// See [`super::Decoder::finish`].
    pub fn finish(&mut self, _sink: &mut dyn Sink) -> Ending {
        if self.done { Ending::Complete } else { Ending::Cut }
    }

    /// This wire has no whole answers.
    ///
    /// # Errors
    /// Always [`Failure::Malformed`].
    pub fn whole(&mut self, _body: &[u8], _sink: &mut dyn Sink) -> Result<(), Failure> {
        Err(Failure::Malformed("a whole answer on a wire of frames".into()))
    }

    /// Reads `payload.choices.text`. Each call of a function comes whole, under no index and no id.
    fn text(&mut self, list: Option<&Value>, sink: &mut dyn Sink) -> Result<(), Failure> {
        for text in list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
            let mut message = text.clone();
            message.shift_remove("index");
            message.shift_remove("content_type");
            if let Some(call) = message.shift_remove("function_call").filter(Value::is_object) {
                let call = serde_json::json!([{"index": self.calls, "function": call}]);
                self.calls += 1;
                message.insert("tool_calls".into(), call);
            }
            self.choices.at(0)?.message(message, Form::Chunk, sink)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
