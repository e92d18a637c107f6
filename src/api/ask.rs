//! What a caller asked, read just far enough to route it. Why not a parsed tree: the common case forwards the bytes with
//! one field changed; [`super::chat`] parses the rest for those wires that need it.

use bytes::Bytes;

use super::scan::{self, Object};
use crate::fault::{Fault, Kind};

/// Which endpoint was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Chat,
    Embeddings,
}

/// A request body that is a valid JSON object, with what routing, limits and the relay need to know of it.
#[derive(Clone, Debug)]
pub struct Ask {
    body: Bytes,
    fields: Object,
    /// Which endpoint was asked.
    pub task: Task,
    /// The model as the caller wrote it.
    pub model: String,
    /// Whether the caller wants a stream.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// The caller's bound on the answer, in tokens, if any.
    pub max_answer_tokens: Option<u64>,
    /// How many choices are wanted; at least 1.
    pub choices: u32,
}

/// JSON types that a known top-level field may have (`null` is always taken).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Number,
    Whole,
    Flag,
    List,
    Map,
    TextOrList,
    TextOrMap,
}

/// The fields of a chat request that OpenAI names, and their types. A wrong type is a clear error from us, the same on
/// all platforms; the ranges are the platform's to judge.
#[rustfmt::skip]
const CHAT_FIELDS: &[(&str, Shape)] = &[
    ("model", Shape::Text), ("messages", Shape::List), ("stream", Shape::Flag), ("stream_options", Shape::Map),
    ("max_tokens", Shape::Whole), ("max_completion_tokens", Shape::Whole), ("temperature", Shape::Number),
    ("top_p", Shape::Number), ("n", Shape::Whole), ("stop", Shape::TextOrList), ("seed", Shape::Number),
    ("presence_penalty", Shape::Number), ("frequency_penalty", Shape::Number), ("logit_bias", Shape::Map),
    ("logprobs", Shape::Flag), ("top_logprobs", Shape::Whole), ("tools", Shape::List),
    ("tool_choice", Shape::TextOrMap), ("parallel_tool_calls", Shape::Flag), ("response_format", Shape::Map),
    ("reasoning_effort", Shape::Text), ("modalities", Shape::List), ("metadata", Shape::Map), ("user", Shape::Text),
    ("store", Shape::Flag), ("service_tier", Shape::Text), ("functions", Shape::List),
    ("function_call", Shape::TextOrMap), ("audio", Shape::Map), ("prediction", Shape::Map),
    ("safety_identifier", Shape::Text), ("verbosity", Shape::Text), ("prompt_cache_key", Shape::Text),
    ("web_search_options", Shape::Map),
];

const EMBEDDING_FIELDS: &[(&str, Shape)] = &[
    ("model", Shape::Text),
    ("input", Shape::TextOrList),
    ("encoding_format", Shape::Text),
    ("dimensions", Shape::Whole),
    ("user", Shape::Text),
];

impl Shape {
    fn fits(self, raw: &[u8]) -> bool {
        let first = raw.first().copied().unwrap_or_default();
        let number = first == b'-' || first.is_ascii_digit();
        match self {
            Shape::Text => first == b'"',
            Shape::Number => number,
            Shape::Whole => scan::as_u64(raw).is_some(),
            Shape::Flag => scan::as_bool(raw).is_some(),
            Shape::List => first == b'[',
            Shape::Map => first == b'{',
            Shape::TextOrList => matches!(first, b'"' | b'['),
            Shape::TextOrMap => matches!(first, b'"' | b'{'),
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Shape::Text => "a string",
            Shape::Number => "a number",
            Shape::Whole => "a whole number, not negative",
            Shape::Flag => "a boolean",
            Shape::List => "an array",
            Shape::Map => "an object",
            Shape::TextOrList => "a string or an array",
            Shape::TextOrMap => "a string or an object",
        }
    }
}

impl Ask {
    /// Reads a chat request.
    ///
    /// # Errors
    /// A bad request where the body is no JSON object, a known field has a wrong type, or `model` or `messages` is
    /// missing or empty.
    pub fn chat(body: Bytes) -> Result<Self, Fault> {
        let ask = Self::read(body, Task::Chat, CHAT_FIELDS)?;
        let messages = ask.raw("messages").ok_or_else(|| missing("messages"))?;
        if is_empty_list(messages) {
            return Err(Fault::bad("messages", "'messages' must hold at least one message."));
        }
        if ask.raw("stream_options").is_some() && !ask.stream {
            return Err(Fault::bad(
                "stream_options",
                "'stream_options' is only allowed when 'stream' is true.",
            ));
        }
        Ok(ask)
    }

    /// Reads an embeddings request.
    ///
    /// # Errors
    /// As [`Ask::chat`], for `model` and `input`.
    pub fn embeddings(body: Bytes) -> Result<Self, Fault> {
        let ask = Self::read(body, Task::Embeddings, EMBEDDING_FIELDS)?;
        let input = ask.raw("input").ok_or_else(|| missing("input"))?;
        if is_empty_list(input) || input == b"\"\"" {
            return Err(Fault::bad("input", "'input' must not be empty."));
        }
        Ok(ask)
    }

    fn read(body: Bytes, task: Task, known: &[(&str, Shape)]) -> Result<Self, Fault> {
        let fields = Object::scan(&body).map_err(not_json)?;
        for (name, raw) in fields.iter(&body).map(|(name, _, raw)| (name, raw)) {
            let shape = known.iter().find(|(known, _)| *known == name).map(|(_, shape)| *shape);
            if let Some(shape) = shape.filter(|shape| !scan::is_null(raw) && !shape.fits(raw)) {
                let sentence = format!("Invalid type for '{name}': expected {}.", shape.wanted());
                return Err(Fault::bad(name.into_owned(), sentence).code("invalid_type"));
            }
        }
        let mut ask = Self {
            body,
            fields,
            task,
            model: String::new(),
            stream: false,
            include_usage: false,
            max_answer_tokens: None,
            choices: 1,
        };
        ask.model = ask.raw("model").and_then(scan::as_str).ok_or_else(|| missing("model"))?.into_owned();
        if ask.model.is_empty() {
            return Err(missing("model"));
        }
        ask.stream = ask.raw("stream").and_then(scan::as_bool).unwrap_or(false);
        ask.include_usage = ask.reads_include_usage();
        ask.max_answer_tokens = ask.whole("max_completion_tokens").or_else(|| ask.whole("max_tokens"));
        ask.choices = ask.choices_wanted()?;
        Ok(ask)
    }

    fn choices_wanted(&self) -> Result<u32, Fault> {
        match self.whole("n") {
            None => Ok(1),
            Some(n @ 1..=128) => Ok(u32::try_from(n).unwrap_or(1)),
            Some(_) => Err(Fault::bad("n", "'n' must lie between 1 and 128.")),
        }
    }

    fn reads_include_usage(&self) -> bool {
        self.raw("stream_options")
            .and_then(|options| Object::scan(options).ok().map(|object| (options, object)))
            .and_then(|(options, object)| object.get(options, "include_usage").and_then(scan::as_bool))
            .unwrap_or(false)
    }

    fn whole(&self, name: &str) -> Option<u64> {
        self.raw(name).and_then(scan::as_u64)
    }

    /// Whether the caller speaks of functions in OpenAI's deprecated way, and must be answered so.
    pub fn speaks_functions(&self) -> bool {
        self.raw("functions").is_some_and(|raw| !is_empty_list(raw))
    }

    /// The request as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Its top-level fields.
    pub fn fields(&self) -> &Object {
        &self.fields
    }

    /// The raw value of a top-level field; `None` where it is absent or `null`.
    pub fn raw(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(&self.body, name).filter(|raw| !scan::is_null(raw))
    }
}

fn is_empty_list(raw: &[u8]) -> bool {
    raw.iter().filter(|byte| !byte.is_ascii_whitespace()).eq(b"[]")
}

fn missing(name: &'static str) -> Fault {
    Fault::bad(name, format!("You must provide the parameter '{name}'.")).code("missing_required_parameter")
}

fn not_json(wrong: scan::Error) -> Fault {
    Fault::client(Kind::BadRequest, format!("We could not read the body of your request: {wrong}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &str) -> Result<Ask, Fault> {
        Ask::chat(Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn reads_what_routing_needs() {
        let ask = chat(
            r#"{"model":"smart","messages":[{}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":9,"n":2}"#,
        )
        .expect("valid");
        assert_eq!((ask.model.as_str(), ask.stream, ask.include_usage), ("smart", true, true));
        assert_eq!((ask.max_answer_tokens, ask.choices), (Some(9), 2));
    }

    #[test]
    fn names_the_parameter_at_fault() {
        let param = |body: &str| chat(body).expect_err(body).get_param().map(str::to_owned);
        assert_eq!(param(r#"{"messages":[{}]}"#).as_deref(), Some("model"));
        assert_eq!(param(r#"{"model":7,"messages":[{}]}"#).as_deref(), Some("model"));
        assert_eq!(param(r#"{"model":"m"}"#).as_deref(), Some("messages"));
        assert_eq!(param(r#"{"model":"m","messages":[ ]}"#).as_deref(), Some("messages"));
        assert_eq!(param(r#"{"model":"m","messages":[{}],"stream":"yes"}"#).as_deref(), Some("stream"));
        assert_eq!(param(r#"{"model":"m","messages":[{}],"max_tokens":-1}"#).as_deref(), Some("max_tokens"));
        assert_eq!(param(r#"{"model":"m","messages":[{}],"n":0}"#).as_deref(), Some("n"));
        assert_eq!(param("{"), None);
    }
}
