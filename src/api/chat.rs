//! A chat request in full, typed, with a `rest` map at every level. Why: a wire that is not OpenAI's has to be told every
//! part of the request; and a field that we do not know today must survive, or be named when it cannot.
//!
//! Only translating dialects pay for this; a same-dialect request stays bytes (see [`super::ask`]). What may be many megabytes,
//! pictures and files, stays where it came in ([`Data`]).

use std::borrow::Cow;
use std::ops::Deref;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::ask::Ask;
use crate::fault::Fault;

/// `POST /v1/chat/completions`, parsed. Fields that are `null` count as absent.
#[derive(Debug, Clone, Default)]
pub struct ChatRequest<'a> {
    pub messages: Vec<Message<'a>>,
    pub params: Params,
    /// How long it was as it came, in bytes: what is made of it is hardly longer.
    pub length: usize,
}

/// Everything but the messages.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Params {
    pub model: String,
    pub max_completion_tokens: Option<u64>,
    pub max_tokens: Option<u64>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub n: Option<u32>,
    pub stream: Option<bool>,
    pub stream_options: Option<Value>,
    pub stop: Option<Stop>,
    pub seed: Option<i64>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    pub logit_bias: Option<Value>,
    pub logprobs: Option<bool>,
    pub top_logprobs: Option<u32>,
    pub tools: Option<Vec<Tool>>,
    pub tool_choice: Option<ToolChoice>,
    pub parallel_tool_calls: Option<bool>,
    pub response_format: Option<ResponseFormat>,
    pub reasoning_effort: Option<String>,
    pub modalities: Option<Vec<String>>,
    pub audio: Option<Value>,
    pub prediction: Option<Value>,
    pub service_tier: Option<String>,
    pub user: Option<String>,
    pub safety_identifier: Option<String>,
    pub metadata: Option<Value>,
    pub store: Option<bool>,
    pub functions: Option<Value>,
    pub function_call: Option<Value>,
    /// Fields that OpenAI's API does not name (SDK users put vendors' fields into `extra_body`).
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Params {
    /// The caller's bound on the answer's tokens, under either name.
    pub fn max_answer_tokens(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens)
    }
}

/// `stop`: one or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Stop {
    One(String),
    Many(Vec<String>),
}

impl Stop {
    /// As a list.
    pub fn list(&self) -> &[String] {
        match self {
            Stop::One(one) => std::slice::from_ref(one),
            Stop::Many(many) => many,
        }
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    Function,
}

/// One turn.
#[derive(Debug, Clone, Deserialize)]
pub struct Message<'a> {
    pub role: Role,
    #[serde(default, borrow)]
    pub content: Content<'a>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub refusal: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub tool_calls: Vec<ToolCall>,
    #[serde(default)]
    pub tool_call_id: Option<String>,
    /// Visible thinking of an earlier turn, sent back.
    #[serde(default)]
    pub reasoning_content: Option<String>,
    /// Vendor state of an earlier turn, sent back: `{"anthropic": {…}, "google": {…}}`.
    #[serde(default)]
    pub extra_content: Option<Value>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

fn null_is_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ToolCall>, D::Error> {
    Option::<Vec<ToolCall>>::deserialize(from).map(Option::unwrap_or_default)
}

/// `content`: none, text or parts.
#[derive(Debug, Clone, Default)]
pub enum Content<'a> {
    Text(String),
    Parts(Vec<Part<'a>>),
    #[default]
    None,
}

/// By hand, as that of [`Part`]: what serde derives for such an enum copies everything before it looks at it.
impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(from)?.get();
        let read = match raw.bytes().next() {
            Some(b'"') => serde_json::from_str(raw).map(Content::Text),
            Some(b'[') => serde_json::from_str(raw).map(Content::Parts),
            Some(b'n') => Ok(Content::None),
            _ => return Err(D::Error::custom("'content' must be a string or an array of parts")),
        };
        read.map_err(D::Error::custom)
    }
}

impl<'a> Content<'a> {
    /// Its parts of the kinds that OpenAI names; none where it is text.
    pub fn known_parts(&self) -> impl Iterator<Item = &KnownPart<'a>> {
        let parts = if let Content::Parts(parts) = self { parts.as_slice() } else { &[] };
        parts.iter().filter_map(|part| if let Part::Known(known) = part { Some(known) } else { None })
    }

    /// All text in it, joined; parts that are no text are left out.
    pub fn text(&self) -> String {
        match self {
            Content::None => String::new(),
            Content::Text(text) => text.clone(),
            Content::Parts(parts) => parts
                .iter()
                .filter_map(|part| match part {
                    Part::Known(KnownPart::Text { text, .. }) => Some(text.as_str()),
                    Part::Known(KnownPart::Refusal { refusal, .. }) => Some(refusal.as_str()),
                    _ => None,
                })
                .collect::<Vec<_>>()
                .join(""),
        }
    }
}

/// One part of a message: a kind that OpenAI names, or anything else as it came.
#[derive(Debug, Clone)]
pub enum Part<'a> {
    Known(KnownPart<'a>),
    Other(Value),
}

impl<'de: 'a, 'a> Deserialize<'de> for Part<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(from)?.get();
        let known = serde_json::from_str(raw).map(Part::Known);
        known.or_else(|_| serde_json::from_str(raw).map(Part::Other)).map_err(D::Error::custom)
    }
}

/// A URL or base64: the bytes of the request itself, unless something in it is escaped.
#[derive(Debug, Clone, Deserialize)]
pub struct Data<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Data<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// What somebody else put beside the fields that OpenAI names (`cache_control`, `max_pixels`…).
pub type Rest = Map<String, Value>;

/// The kinds of parts that OpenAI names.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum KnownPart<'a> {
    Text {
        text: String,
        #[serde(flatten)]
        rest: Rest,
    },
    Refusal {
        refusal: String,
        #[serde(flatten)]
        rest: Rest,
    },
    ImageUrl {
        #[serde(borrow)]
        image_url: ImageUrl<'a>,
        #[serde(flatten)]
        rest: Rest,
    },
    InputAudio {
        #[serde(borrow)]
        input_audio: InputAudio<'a>,
        #[serde(flatten)]
        rest: Rest,
    },
    File {
        #[serde(borrow)]
        file: File<'a>,
        #[serde(flatten)]
        rest: Rest,
    },
}

impl KnownPart<'_> {
    /// Its fields that OpenAI does not name.
    pub fn rest(&self) -> &Rest {
        match self {
            KnownPart::Text { rest, .. }
            | KnownPart::Refusal { rest, .. }
            | KnownPart::ImageUrl { rest, .. }
            | KnownPart::InputAudio { rest, .. }
            | KnownPart::File { rest, .. } => rest,
        }
    }
}

/// An image: an `https:` URL or a `data:` URL.
#[derive(Debug, Clone, Deserialize)]
pub struct ImageUrl<'a> {
    #[serde(borrow)]
    pub url: Data<'a>,
    #[serde(default)]
    pub detail: Option<String>,
}

/// Audio: base64 and `wav` or `mp3`.
#[derive(Debug, Clone, Deserialize)]
pub struct InputAudio<'a> {
    #[serde(borrow)]
    pub data: Data<'a>,
    pub format: String,
}

/// A file: uploaded before, or inline as a `data:` URL.
#[derive(Debug, Clone, Deserialize)]
pub struct File<'a> {
    #[serde(default)]
    pub file_id: Option<String>,
    #[serde(default, borrow)]
    pub file_data: Option<Data<'a>>,
    #[serde(default)]
    pub filename: Option<String>,
}

/// A call that the model made in an earlier turn.
#[derive(Debug, Clone, Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub function: FunctionCall,
    /// Vendor state of this call, sent back: `{"google": {"thought_signature": …}}`.
    #[serde(default)]
    pub extra_content: Option<Value>,
}

/// Name and arguments (JSON text, possibly empty) of a call.
#[derive(Debug, Clone, Deserialize)]
pub struct FunctionCall {
    pub name: String,
    #[serde(default)]
    pub arguments: String,
}

impl FunctionCall {
    /// The arguments as an object; `""` counts as `{}`, and `None` means that they are not a JSON object.
    pub fn object(&self) -> Option<Map<String, Value>> {
        if self.arguments.trim().is_empty() {
            return Some(Map::new());
        }
        serde_json::from_str(&self.arguments).ok()
    }
}

/// A tool on offer.
#[derive(Debug, Clone, Deserialize)]
pub struct Tool {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub function: Option<Function>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A function on offer.
#[derive(Debug, Clone, Deserialize)]
pub struct Function {
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    /// JSON Schema.
    #[serde(default)]
    pub parameters: Option<Value>,
    #[serde(default)]
    pub strict: Option<bool>,
    #[serde(flatten)]
    pub rest: Rest,
}

/// `tool_choice`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum ToolChoice {
    Mode(String),
    Named(Value),
}

impl ToolChoice {
    /// The function's name, where one function is forced.
    pub fn function_name(&self) -> Option<&str> {
        match self {
            ToolChoice::Mode(_) => None,
            ToolChoice::Named(value) => value.get("function")?.get("name")?.as_str(),
        }
    }
}

/// `response_format`.
#[derive(Debug, Clone, Deserialize)]
pub struct ResponseFormat {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub json_schema: Option<JsonSchema>,
}

/// A named schema that the answer must fit.
#[derive(Debug, Clone, Deserialize)]
pub struct JsonSchema {
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub schema: Option<Value>,
    #[serde(default)]
    pub strict: Option<bool>,
}

impl<'a> ChatRequest<'a> {
    /// Parses the whole of `ask`.
    ///
    /// # Errors
    /// A bad request that names the parameter (`messages[3]`, `temperature`…) whose type or shape is wrong.
    pub fn parse(ask: &'a Ask) -> Result<Self, Fault> {
        let fields = ask.fields().iter(ask.body()).filter(|(name, ..)| name != "messages");
        let fields = fields.map(|(name, _, raw)| Ok((name.into_owned(), serde_json::from_slice(raw)?)));
        let fields: Result<Map<String, Value>, serde_json::Error> = fields.collect();
        Self::read(ask, fields.map_err(unreadable)?)
    }

    /// The messages of `ask` with other parameters: those of the JSON object `params`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn with_params(ask: &'a Ask, params: &[u8]) -> Result<Self, Fault> {
        Self::read(ask, serde_json::from_slice(params).map_err(unreadable)?)
    }

    fn read(ask: &'a Ask, params: Map<String, Value>) -> Result<Self, Fault> {
        let raw: Vec<&'a RawValue> =
            serde_json::from_slice(ask.raw("messages").unwrap_or(b"[]")).map_err(unreadable)?;
        let mut messages = Vec::with_capacity(raw.len());
        for (index, message) in raw.into_iter().enumerate() {
            messages.push(serde_json::from_str(message.get()).map_err(|wrong| {
                Fault::bad(format!("messages[{index}]"), format!("messages[{index}] is malformed: {wrong}."))
            })?);
        }
        Ok(Self { messages, params: parse_params(params)?, length: ask.body().len() })
    }
}

fn unreadable(wrong: serde_json::Error) -> Fault {
    Fault::bad("messages", format!("The request could not be read: {wrong}."))
}

fn parse_params(mut fields: Map<String, Value>) -> Result<Params, Fault> {
    fields.retain(|_, value| !value.is_null());
    serde_json::from_value(Value::Object(fields.clone())).map_err(|wrong| {
        // Find the field at fault, so that the caller need not guess.
        let culprit = fields.iter().find_map(|(name, value)| {
            let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
            serde_json::from_value::<Params>(alone).is_err().then(|| name.clone())
        });
        let name = culprit.unwrap_or_default();
        Fault::bad(name.clone(), format!("Invalid value for {name:?}: {wrong}."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn ask(body: &str) -> Ask {
        Ask::chat(Bytes::copy_from_slice(body.as_bytes())).expect("an ask")
    }

    #[test]
    fn reads_every_part_and_keeps_the_rest() {
        let ask = ask(r#"{"model":"m","temperature":null,"stop":"x","enable_thinking":true,"messages":[
                {"role":"developer","content":"d"},
                {"role":"user","content":[{"type":"text","text":"t"},{"type":"text","text":"t","cache_control":{}},{"type":"image_url","image_url":{"url":"u"},"max_pixels":9},{"type":"video_url","video_url":{}}]},
                {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":""}}],"odd":1},
                {"role":"tool","tool_call_id":"c","content":"r"}]}"#);
        let request = ChatRequest::parse(&ask).expect("valid");
        assert_eq!(request.messages.len(), 4);
        assert_eq!(request.params.rest["enable_thinking"], true);
        assert!(request.params.temperature.is_none());
        assert_eq!(request.messages[2].rest["odd"], 1);
        assert_eq!(request.messages[2].tool_calls[0].function.object(), Some(Map::new()));
        let Content::Parts(parts) = &request.messages[1].content else { panic!("parts") };
        assert!(matches!(parts[3], Part::Other(_)));
        let marked: Vec<_> =
            request.messages[1].content.known_parts().map(|part| part.rest().len()).collect();
        assert_eq!(marked, [0, 1, 1]);
        let Part::Known(KnownPart::ImageUrl { image_url, rest }) = &parts[2] else { panic!("image") };
        assert_eq!((&*image_url.url, &rest["max_pixels"]), ("u", &Value::from(9)));
    }

    #[test]
    fn names_what_is_wrong() {
        for message in [r#"{"role":"wizard"}"#, r#"{"role":"user","content":{"text":"b"}}"#] {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"a"}},{message}]}}"#);
            let ask = ask(&body);
            let wrong = ChatRequest::parse(&ask).expect_err(message);
            assert_eq!(wrong.get_param(), Some("messages[1]"));
        }
    }

    /// Pictures, sounds and files are the request's own bytes, wherever they stand.
    #[test]
    fn what_may_be_large_is_not_copied() {
        let ask = ask(r#"{"model":"m","messages":[{"role":"user","content":[
                {"type":"image_url","image_url":{"url":"data:one"}},{"type":"input_audio","input_audio":{"data":"two","format":"wav"}},
                {"type":"file","file":{"file_data":"three"},"odd":1},{"image_url":{"url":"data:\/four"},"type":"image_url"}]}]}"#);
        let request = ChatRequest::parse(&ask).expect("valid");
        let found: Vec<(&str, bool)> = request.messages[0]
            .content
            .known_parts()
            .map(|part| match part {
                KnownPart::ImageUrl { image_url, .. } => &image_url.url,
                KnownPart::InputAudio { input_audio, .. } => &input_audio.data,
                KnownPart::File { file, .. } => file.file_data.as_ref().expect("data"),
                other => panic!("{other:?}"),
            })
            .map(|data| (&**data, ask.body().as_ptr_range().contains(&data.as_ptr())))
            .collect();
        let escaped = ("data:/four", false);
        assert_eq!(found, [("data:one", true), ("two", true), ("three", true), escaped]);
    }
}
