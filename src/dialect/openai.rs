//! The `openai` wire, read to be written anew. Why: platforms that call themselves compatible are so with liberties (a role
//! in every delta, no finish reason, usage in the finish chunk, an error inside a 200) that break the SDKs' helpers; here
//! they become plain pieces. A platform without such liberties is never decoded: its bytes pass through.

use serde_json::{Map, Value};

use super::choices::{self, Choices, Form, Said};
use super::{Ending, Failure, Quirk, Quirks};
use crate::api::piece::{FinishReason, Piece, Sink, Usage};
use crate::sse::Event;

/// Reads one answer.
#[derive(Debug)]
pub struct Decoder {
    quirks: Quirks,
    choices: Choices,
    started: bool,
    done: bool,
    has_usage: bool,
    completion: Option<u64>,
    /// See [`super::Decoder::bounded`].
    pub(super) bound: Option<u64>,
    /// iFlytek's shape (`code` and `sid` beside `choices`): it knows no finish reason.
    is_spark: bool,
}

/// Top-level fields that say something about the transport only. All others that are not OpenAI's survive.
const CONSUMED: &[&str] = &["obfuscation", "is_end", "need_clear_history", "sentence_id"];
const SPARKS_OWN: &[&str] = &["code", "message", "sid"];

impl Decoder {
    /// A decoder for one answer. [`Quirk::ErrorsIn200`] lets a `code` beside `choices` be an error.
    pub fn new(quirks: Quirks) -> Self {
        Self {
            quirks,
            choices: Choices::default(),
            started: false,
            done: false,
            has_usage: false,
            completion: None,
            bound: None,
            is_spark: false,
        }
    }

    /// See [`super::Decoder::push`].
    ///
    /// # Errors
    /// [`Failure::Reported`] for an error object, an error code, an `event: error`, or an answer that the model broke off;
    /// [`Failure::Malformed`] for what is no JSON object.
    pub fn push(&mut self, event: Event<'_>, sink: &mut dyn Sink) -> Result<(), Failure> {
        if self.done {
            return Ok(());
        }
        let data = event.data.trim_ascii();
        if data.starts_with(b"[DONE]") {
            self.done = true;
            return Ok(());
        }
        if data.is_empty() || event.name == b"ping" {
            return Ok(());
        }
        if event.name == b"error" {
            return Err(Failure::Reported(choices::error_event(event.data)));
        }
        self.answer(choices::object(event.data)?, event.data, Form::Chunk, sink)
    }

    /// See [`super::Decoder::is_done`].
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// See [`super::Decoder::finish`]. An end mark without any choice before it is no answer, hence cut.
    pub fn finish(&mut self, sink: &mut dyn Sink) -> Ending {
        // iFlytek names usage with the last content only, so that a lost end mark loses nothing.
        if self.done || (self.is_spark && self.has_usage) {
            self.choices.finish_open(self.implied_reason(), sink);
        }
        if self.choices.are_finished() { Ending::Complete } else { Ending::Cut }
    }

    /// See [`super::Decoder::whole`].
    ///
    /// # Errors
    /// As [`Decoder::push`]; also [`Failure::Malformed`] where there is no choice, or a choice without a message.
    pub fn whole(&mut self, body: &[u8], sink: &mut dyn Sink) -> Result<(), Failure> {
        self.answer(choices::object(body)?, body, Form::Whole, sink)?;
        self.choices.finish_open(self.implied_reason(), sink);
        self.done = true;
        Ok(())
    }

    fn implied_reason(&self) -> Option<FinishReason> {
        choices::implied_reason(self.completion, self.bound)
    }

    fn answer(
        &mut self,
        mut top: Map<String, Value>,
        raw: &[u8],
        form: Form,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        self.is_spark |= top.contains_key("sid");
        let list = top.get_mut("choices").map(Value::take).unwrap_or_default();
        let list = if let Value::Array(list) = list { list } else { Vec::new() };
        let complaint = self.complaint(&top, list.is_empty());
        if complaint == Complaint::Error {
            return Err(Failure::Reported(raw.to_vec()));
        }
        if list.is_empty() && form == Form::Whole && complaint == Complaint::None {
            return Err(Failure::Malformed("an answer without choices".into()));
        }
        self.start(&top, sink);
        self.fields(&mut top, !list.is_empty(), sink);
        let around = Around {
            form,
            goes_on: top.get("is_end") == Some(&Value::Bool(false)),
            is_flagged: complaint == Complaint::Filtered
                || top.get("need_clear_history") == Some(&Value::Bool(true)),
        };
        for (position, choice) in list.into_iter().enumerate() {
            self.choice(choice, position, around, sink)?;
        }
        self.usage(top.get("usage"), sink);
        if complaint == Complaint::Filtered {
            if !self.choices.has_output() {
                return Err(Failure::Reported(raw.to_vec()));
            }
            self.choices.finish_open(Some(FinishReason::ContentFilter), sink);
            self.done = true;
        }
        Ok(())
    }

    /// Whether the platform complains inside its 200.
    fn complaint(&self, top: &Map<String, Value>, is_empty: bool) -> Complaint {
        let error = top.get("error").filter(|error| is_truthy(error));
        let code = match error {
            Some(error) => choices::number(error.get("code")),
            None => choices::number(top.get("code")),
        };
        let is_iflytek = self.is_spark || self.quirks.has(Quirk::ErrorsIn200);
        let has_code = match top.get("code") {
            Some(Value::Number(code)) => code.as_f64() != Some(0.0),
            Some(Value::String(code)) => !matches!(code.as_str(), "" | "0"),
            _ => false,
        };
        if error.is_none() && !(has_code && (is_empty || is_iflytek)) {
            return Complaint::None;
        }
        if is_iflytek && code.is_some_and(|code| choices::FILTERED_AFTERWARDS.contains(&code)) {
            Complaint::Filtered
        } else {
            Complaint::Error
        }
    }

    fn start(&mut self, top: &Map<String, Value>, sink: &mut dyn Sink) {
        if self.started {
            return;
        }
        let name = |field: &str| top.get(field).and_then(Value::as_str).filter(|id| !id.is_empty());
        let id = name("id").or_else(|| name("sid"));
        let created = top.get("created").and_then(Value::as_u64);
        if id.is_some() || created.is_some() {
            self.started = true;
            sink.piece(Piece::Start { id, created });
        }
    }

    /// Passes on what we do not know, unless the event is no chunk of an answer at all (a ping of the vendor's own).
    fn fields(&self, top: &mut Map<String, Value>, has_choices: bool, sink: &mut dyn Sink) {
        if !has_choices && top.get("usage").is_none_or(Value::is_null) {
            return;
        }
        let but = if self.is_spark { SPARKS_OWN } else { CONSUMED };
        choices::unknown_fields(top, but, sink);
    }

    fn choice(
        &mut self,
        choice: Value,
        position: usize,
        around: Around,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let Value::Object(mut fields) = choice else {
            return Err(Failure::Malformed("a choice that is no object".into()));
        };
        let (form, position) = (around.form, position as u64);
        let given = fields.get("index").and_then(Value::as_u64);
        let index = given.filter(|_| form == Form::Chunk).unwrap_or(position);
        self.usage(fields.get("usage"), sink);
        let choice = self.choices.at(index)?;
        if let Some(logprobs) = fields.get_mut("logprobs").map(Value::take).filter(Value::is_object) {
            let choice = u32::try_from(index).unwrap_or_default();
            sink.piece(Piece::Logprobs { choice, value: logprobs });
        }
        let message = [fields.get_mut("delta").map(Value::take), fields.get_mut("message").map(Value::take)];
        let mut message = match message.into_iter().flatten().find(Value::is_object) {
            Some(Value::Object(message)) => message,
            _ if form == Form::Chunk => Map::new(),
            _ => return Err(Failure::Malformed("a choice without a message".into())),
        };
        let reason = fields.get_mut("finish_reason").map(Value::take);
        if around.is_flagged || fields.get("flag").and_then(Value::as_i64).is_some_and(|flag| flag != 0) {
            choice.mark_filtered();
        }
        for (name, value) in fields.into_iter().filter(|(name, value)| is_extra(name, value)) {
            message.entry(name).or_insert(value);
        }
        choice.message(message, form, sink)?;
        match choices::read_reason(reason.as_ref()) {
            Said::Ended(reason) if !around.goes_on => choice.finish(reason, sink),
            Said::Broken => return Err(choices::broken_off(&reason.unwrap_or_default())),
            _ => {}
        }
        Ok(())
    }

    fn usage(&mut self, usage: Option<&Value>, sink: &mut dyn Sink) {
        let Some(json) = usage else { return };
        let Some(mut usage) = Usage::from_json(json) else { return };
        // DeepSeek's and Moonshot's own names, which aggregators pass on.
        let other = |name| json.get(name).and_then(Value::as_u64);
        usage.cached = usage.cached.or(other("prompt_cache_hit_tokens")).or(other("cached_tokens"));
        if usage != Usage::default() {
            self.has_usage = true;
            self.completion = usage.completion.or(self.completion);
            sink.piece(Piece::Usage(usage));
        }
    }
}

/// What an event or answer says of all its choices.
#[derive(Clone, Copy, Debug)]
struct Around {
    form: Form,
    /// Baidu's older servers name a finish reason in every chunk, and say apart which chunk is the last.
    goes_on: bool,
    /// Baidu's verdict on the question, or iFlytek's on the answer.
    is_flagged: bool,
}

/// What the platform says about its own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Complaint {
    None,
    Error,
    /// The answer stands, but the platform would rather not have given it.
    Filtered,
}

/// Fields beside a choice's message that a caller may want (`moderation_hit_type`, a safety `flag` that is raised).
fn is_extra(name: &str, value: &Value) -> bool {
    let known =
        matches!(name, "index" | "delta" | "message" | "logprobs" | "finish_reason" | "usage" | "error");
    let quiet = name == "flag" && value.as_i64() == Some(0);
    !known && !quiet && !value.is_null()
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
