//! A chat request in full, typed, with a `rest` map at every level. Why: a wire that is not OpenAI's has to be told every
//! part of the request; and a field that we do not know today must survive, or be named when it cannot.
//!
//! Only translating dialects pay for this; a same-dialect request stays bytes (see [`super::ask`]).

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::ask::Ask;
use crate::fault::Fault;

/// `POST /v1/chat/completions`, parsed. Fields that are `null` count as absent.
#[derive(Debug, Clone, Default)]
pub struct ChatRequest {
    pub messages: Vec<Message>,
    pub params: Params,
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
pub struct Message {
    pub role: Role,
    #[serde(default)]
    pub content: Content,
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

fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<ToolCall>, D::Error> {
    Option::<Vec<ToolCall>>::deserialize(from).map(Option::unwrap_or_default)
}

/// `content`: none, text or parts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
    #[default]
    None,
}

impl Content {
    /// Its parts of the kinds that OpenAI names; none where it is text.
    pub fn known_parts(&self) -> impl Iterator<Item = &KnownPart> {
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
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Part {
    Known(KnownPart),
    Other(Value),
}

/// What somebody else put beside the fields that OpenAI names (`cache_control`, `max_pixels`…).
pub type Rest = Map<String, Value>;

/// The kinds of parts that OpenAI names.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum KnownPart {
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
        image_url: ImageUrl,
        #[serde(flatten)]
        rest: Rest,
    },
    InputAudio {
        input_audio: InputAudio,
        #[serde(flatten)]
        rest: Rest,
    },
    File {
        file: File,
        #[serde(flatten)]
        rest: Rest,
    },
}

impl KnownPart {
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
pub struct ImageUrl {
    pub url: String,
    #[serde(default)]
    pub detail: Option<String>,
}

/// Audio: base64 and `wav` or `mp3`.
#[derive(Debug, Clone, Deserialize)]
pub struct InputAudio {
    pub data: String,
    pub format: String,
}

/// A file: uploaded before, or inline as a `data:` URL.
#[derive(Debug, Clone, Deserialize)]
pub struct File {
    #[serde(default)]
    pub file_id: Option<String>,
    #[serde(default)]
    pub file_data: Option<String>,
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

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
    #[serde(flatten)]
    params: Map<String, Value>,
}

impl ChatRequest {
    /// Parses the whole of `ask`.
    ///
    /// # Errors
    /// A bad request that names the parameter (`messages[3]`, `temperature`…) whose type or shape is wrong.
    pub fn parse(ask: &Ask) -> Result<Self, Fault> {
        let raw: Raw<'_> = serde_json::from_slice(ask.body())
            .map_err(|wrong| Fault::bad("messages", format!("The request could not be read: {wrong}.")))?;
        let mut messages = Vec::with_capacity(raw.messages.len());
        for (index, message) in raw.messages.into_iter().enumerate() {
            messages.push(serde_json::from_str(message.get()).map_err(|wrong| {
                Fault::bad(format!("messages[{index}]"), format!("messages[{index}] is malformed: {wrong}."))
            })?);
        }
        Ok(Self { messages, params: parse_params(raw.params)? })
    }
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

    fn parse(body: &str) -> Result<ChatRequest, Fault> {
        Ask::chat(Bytes::copy_from_slice(body.as_bytes())).and_then(|ask| ChatRequest::parse(&ask))
    }

    #[test]
    fn reads_every_part_and_keeps_the_rest() {
        let request = parse(
            r#"{"model":"m","temperature":null,"stop":"x","enable_thinking":true,"messages":[
                {"role":"developer","content":"d"},
                {"role":"user","content":[{"type":"text","text":"t"},{"type":"text","text":"t","cache_control":{}},{"type":"image_url","image_url":{"url":"u"},"max_pixels":9},{"type":"video_url","video_url":{}}]},
                {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":""}}],"odd":1},
                {"role":"tool","tool_call_id":"c","content":"r"}]}"#,
        )
        .expect("valid");
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
        assert_eq!((image_url.url.as_str(), &rest["max_pixels"]), ("u", &Value::from(9)));
    }

    #[test]
    fn names_what_is_wrong() {
        let wrong = parse(r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"wizard"}]}"#);
        assert_eq!(wrong.expect_err("bad role").get_param(), Some("messages[1]"));
    }
}
