//! The wires that platforms speak: a closed set. Why closed: each wire is code with laws that a test can hold it to
//! (any cut of the bytes gives the same pieces; a cut answer is never a finished one); what differs between two platforms
//! on one wire is data in their rows ([`Quirk`], rules, error tables), never another adaptor.
//!
//! Request: [`Job`] and a parsed or raw ask in, [`Encoded`] out. Answer: events in, [`Piece`](crate::api::piece::Piece)s out.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::piece::Sink;
use crate::fault::{Fault, Kind};
use crate::sse::Event;

pub mod anthropic;
mod choices;
pub mod dashscope;
pub mod ernie;
pub mod gemini;
mod history;
#[cfg(test)]
pub(crate) mod laws;
mod leftovers;
mod lenient;
mod media;
pub mod openai;
pub mod spark;
pub mod splice;
#[cfg(test)]
mod trial;
mod turns;

/// A wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// OpenAI's own: passed through, or normalised where the row names quirks.
    Openai,
    /// Anthropic's Messages API.
    Anthropic,
    /// Google's `generateContent`.
    Gemini,
    /// Alibaba's native text generation.
    Dashscope,
    /// Baidu's V1 ("wenxinworkshop").
    Ernie,
    /// iFlytek's WebSocket frames.
    Spark,
}

/// What to do with a parameter that the platform does not have: the route's `unsupported` setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsupported {
    /// Refuse the request, naming the parameter.
    #[default]
    Reject,
    /// Leave it out, and name it in the answer's `x-gateway-dropped-params`.
    Drop,
}

/// Named behaviour of one platform or one of its models, implemented in code here and in `platform/quirks`. Closed: a
/// row may only name what exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Quirk {
    /// Messages of role `developer` are sent as `system`.
    DeveloperToSystem,
    /// Only one leading system message is honoured: later ones are merged into it.
    OneSystemFirst,
    /// System text is folded into the first user message.
    SystemIntoUser,
    /// Neighbours of the same role are merged.
    AlternateRoles,
    /// `content` must be a string: text parts are joined (other parts are refused).
    TextContent,
    /// `tool_choice: required` is refused by the platform: refused here, or sent as `auto` where the route says to drop.
    NoRequiredTool,
    /// Only `tool_choice: auto` exists; another is refused here, or sent as `auto` where the route says to drop.
    OnlyAutoTool,
    /// `stop` must be an array of at most one.
    OneStop,
    /// The platform's default for parallel tool calls is off: asked for when tools are sent and the caller said nothing.
    AskParallelTools,
    /// The model only streams: a whole answer is assembled from a stream.
    StreamOnly,
    /// Thinking must be switched off for answers that are not streamed (`enable_thinking: false`).
    NoThinkingUnlessStream,
    /// `reasoning_effort` is translated to `enable_thinking`/`thinking_budget` (Qwen).
    QwenThinking,
    /// `reasoning_effort` is translated to `thinking: {type}` (Zhipu, Doubao, Spark X).
    ThinkingSwitch,
    /// `stream_options.include_usage` must be asked for to get usage (else it comes by itself, or the field is refused).
    AskUsage,
    /// Earlier turns' `reasoning_content` must be sent back; elsewhere it is stripped.
    WantsReasoningBack,
    /// `json_schema` is not known: sent as `json_object` with the schema in the system text.
    SchemaAsJsonObject,
    /// Answers deviate from OpenAI's shape: they are decoded and written anew instead of passed through.
    Normalise,
    /// `user` becomes `user_id`, and is left out where it is under 6 characters (Zhipu).
    UserId,
    /// `temperature` and friends are refused by the model: left out.
    NoSampling,
    /// The model takes `max_completion_tokens` and refuses `max_tokens`.
    CompletionTokensOnly,
    /// The model has effort levels (`output_config.effort`, Claude).
    Effort,
    /// The model thinks adaptively (`thinking: adaptive`, Claude).
    AdaptiveThinking,
    /// The model takes a JSON schema for its answer natively.
    StructuredOutput,
    /// Thinking is set by level (`thinkingLevel`, Gemini 3).
    ThinkingLevel,
    /// Thinking is set by budget (`thinkingBudget`, Gemini 2.5).
    ThinkingBudget,
    /// Tool calls of the current turn need their thought signature back (Gemini 3).
    ThoughtSignatures,
    /// Function schemas go by `parametersJsonSchema` (Gemini 2.5 and later) instead of the OpenAPI subset.
    JsonSchemaTools,
    /// Errors come with HTTP 200 (`error_code`, Baidu V1; `code` != 0, Spark).
    ErrorsIn200,
    /// Model ids may carry a `:provider` suffix (Hugging Face).
    ProviderSuffix,
    /// Vision content goes to the multimodal endpoint (DashScope native).
    Multimodal,
    /// A forced tool is named flat: `{"type":"function","name":"f"}` (Spark X).
    FlatToolChoice,
    /// `extra_content` of earlier turns (vendor state) must be sent back; elsewhere it is stripped.
    WantsExtraBack,
}

/// A set of quirks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks(u64);

impl Quirks {
    /// Whether `quirk` is in the set.
    pub const fn has(self, quirk: Quirk) -> bool {
        self.0 & (1 << quirk as u8) != 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Quirks) -> Quirks {
        Quirks(self.0 | other.0)
    }
}

impl FromIterator<Quirk> for Quirks {
    fn from_iter<T: IntoIterator<Item = Quirk>>(quirks: T) -> Self {
        Self(quirks.into_iter().fold(0, |set, quirk| set | 1 << quirk as u8))
    }
}

/// Vendor state of earlier turns, by tool call id: what a vendor demands back and OpenAI's clients drop (thought
/// signatures, signed thinking). Implemented by a bounded cache with a time limit.
pub trait Recall: Send + Sync {
    /// What was kept under `tool_call_id`.
    fn recall(&self, tool_call_id: &str) -> Option<Value>;
}

/// Remembers nothing.
#[derive(Debug)]
pub struct NoRecall;

impl Recall for NoRecall {
    fn recall(&self, _: &str) -> Option<Value> {
        None
    }
}

/// What an encoder has to know besides the ask.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The platform's own name of the model.
    pub model: &'a str,
    /// Whether to ask the platform for a stream (it may differ from what the caller asked).
    pub stream: bool,
    /// What to do with what the platform cannot do.
    pub unsupported: Unsupported,
    /// Quirks of the platform and of this model.
    pub quirks: Quirks,
    /// The model's bound on an answer, in tokens, where the row knows it.
    pub max_output: Option<u64>,
    /// Vendor state of earlier turns.
    pub recall: &'a dyn Recall,
}

/// A request, ready but for its credential.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    /// What to append to the platform's base URL, query included.
    pub path: String,
    /// Extra headers of this request (`accept`, `X-DashScope-SSE`, …); names in lower case.
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    /// Parameters that were left out, by their OpenAI names.
    pub dropped: Vec<String>,
}

/// Bytes by which a small request may grow when it is written anew: platforms have longer names for things.
const HEADROOM: usize = 1024;

/// A body for a platform, made of a request of `length` bytes: with room for all of it from the start, since a buffer that
/// has to grow holds it twice for a moment.
fn written<T: Serialize>(body: &T, length: usize) -> Result<Bytes, Fault> {
    let mut out = Vec::with_capacity(length + length / 8 + HEADROOM);
    serde_json::to_writer(&mut out, body)
        .map_err(|wrong| Fault::gateway(Kind::Internal, "The request could not be written.").source(wrong))?;
    Ok(out.into())
}

/// Why an answer cannot be used.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The platform reported an error inside a 200: its JSON, for [`judge`](crate::platform) to read.
    Reported(Vec<u8>),
    /// Not what this wire allows; for the operator's log.
    Malformed(String),
}

/// How a stream stood when its bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The platform had said that it was done.
    Complete,
    /// It had not: the answer was cut.
    Cut,
}

/// Reads one answer of one wire: a stream event by event, or a whole body at once. Sans-IO.
#[derive(Debug)]
pub enum Decoder {
    Openai(openai::Decoder),
    Anthropic(anthropic::Decoder),
    Gemini(gemini::Decoder),
    Dashscope(dashscope::Decoder),
    Ernie(ernie::Decoder),
    Spark(spark::Decoder),
}

macro_rules! each {
    ($decoder:expr, $inner:ident => $body:expr) => {
        match $decoder {
            Decoder::Openai($inner) => $body,
            Decoder::Anthropic($inner) => $body,
            Decoder::Gemini($inner) => $body,
            Decoder::Dashscope($inner) => $body,
            Decoder::Ernie($inner) => $body,
            Decoder::Spark($inner) => $body,
        }
    };
}

impl Decoder {
    /// A decoder for one answer.
    pub fn new(dialect: Dialect, quirks: Quirks) -> Self {
        match dialect {
            Dialect::Openai => Decoder::Openai(openai::Decoder::new(quirks)),
            Dialect::Anthropic => Decoder::Anthropic(anthropic::Decoder::new(quirks)),
            Dialect::Gemini => Decoder::Gemini(gemini::Decoder::new(quirks)),
            Dialect::Dashscope => Decoder::Dashscope(dashscope::Decoder::new(quirks)),
            Dialect::Ernie => Decoder::Ernie(ernie::Decoder::new(quirks)),
            Dialect::Spark => Decoder::Spark(spark::Decoder::new(quirks)),
        }
    }

    /// The caller's bound on the answer, in tokens: iFlytek's wires give no reason for an end, so that an answer of so many
    /// tokens must be taken for one that was cut short.
    #[must_use]
    pub fn bounded(mut self, bound: Option<u64>) -> Self {
        match &mut self {
            Decoder::Openai(inner) => inner.bound = bound,
            Decoder::Spark(inner) => inner.bound = bound,
            Decoder::Anthropic(_) | Decoder::Gemini(_) | Decoder::Dashscope(_) | Decoder::Ernie(_) => {}
        }
        self
    }

    /// Reads one event of a stream (for [`Dialect::Spark`]: one WebSocket message as `data`).
    ///
    /// # Errors
    /// [`Failure`] where the event is an error report or not of this wire; the answer is over then.
    pub fn push(&mut self, event: Event<'_>, sink: &mut dyn Sink) -> Result<(), Failure> {
        // A ping by another name.
        if event.data.is_empty() {
            return Ok(());
        }
        each!(self, inner => inner.push(event, sink))
    }

    /// Whether the wire's own end mark has come: nothing after it matters.
    pub fn is_done(&self) -> bool {
        each!(self, inner => inner.is_done())
    }

    /// The bytes have ended: says what is still owed (a finish that the wire implies) and whether the answer is whole.
    pub fn finish(&mut self, sink: &mut dyn Sink) -> Ending {
        each!(self, inner => inner.finish(sink))
    }

    /// Reads a whole answer that was not streamed.
    ///
    /// # Errors
    /// As [`Decoder::push`].
    pub fn whole(&mut self, body: &[u8], sink: &mut dyn Sink) -> Result<(), Failure> {
        each!(self, inner => inner.whole(body, sink))
    }
}
