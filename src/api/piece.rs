//! What an answer is made of, whatever wire it came on. Why: ten platforms' decoders say *what* arrived, and one writer
//! and one assembler say how OpenAI would have put it; so index, role, finish and usage rules cannot differ by platform.

use serde::Serialize;
use serde_json::Value;

use super::scan::{self, Object};

/// Where decoders put what they find, in the order in which it arrived.
pub trait Sink {
    /// Takes the next piece.
    fn piece(&mut self, piece: Piece<'_>);
}

/// One part of an answer. `choice` is OpenAI's choice index, dense from 0.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece<'a> {
    /// The upstream's own id of the answer and its creation time (seconds since 1970), where it names them.
    Start { id: Option<&'a str>, created: Option<u64> },
    /// Visible text.
    Text { choice: u32, text: &'a str },
    /// Visible thinking, as `reasoning_content`.
    Reasoning { choice: u32, text: &'a str },
    /// A refusal by the model.
    Refusal { choice: u32, text: &'a str },
    /// A tool call begins. `key` is the upstream's own way to tell calls apart (block index, position…): the sink maps
    /// keys to OpenAI's dense indices. Without `id` the sink mints one. `extra` becomes `extra_content`.
    ToolStart { choice: u32, key: u32, id: Option<&'a str>, name: &'a str, extra: Option<Value> },
    /// A call of one of OpenAI's custom tools begins: its [`Piece::ToolArguments`] are free text, its `input`.
    CustomToolStart { choice: u32, key: u32, id: Option<&'a str>, name: &'a str },
    /// A part of the call's arguments (JSON text).
    ToolArguments { choice: u32, key: u32, text: &'a str },
    /// OpenAI's `logprobs` object for what comes with it.
    Logprobs { choice: u32, value: Value },
    /// A field that OpenAI does not know and a caller may want (`extra_content`, `annotations`, …), for delta or message.
    Extra { choice: u32, name: &'a str, value: Value },
    /// A field of the chunk or answer itself (`system_fingerprint`, `service_tier`, `citations`, …).
    Field { name: &'a str, value: Value },
    /// The choice has ended.
    Finish { choice: u32, reason: FinishReason },
    /// Tokens so far: totals, never increments. A later one replaces the fields that it knows.
    Usage(Usage),
    /// Vendor state for the next turn, to be kept under the ids of the tool calls of this answer (`dialect::Recall`).
    Remember { tool_call_id: &'a str, value: Value },
}

/// OpenAI's closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
    FunctionCall,
}

impl FinishReason {
    /// As it stands in `finish_reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ToolCalls => "tool_calls",
            FinishReason::ContentFilter => "content_filter",
            FinishReason::FunctionCall => "function_call",
        }
    }

    /// Reads what an OpenAI-like platform wrote, vendors' spellings included. Unknown ones mean `stop`.
    pub fn lenient(text: &str) -> Self {
        match text {
            "length" | "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
            "tool_calls" => FinishReason::ToolCalls,
            "function_call" => FinishReason::FunctionCall,
            "content_filter" | "sensitive" => FinishReason::ContentFilter,
            _ => FinishReason::Stop,
        }
    }
}

/// Token counts of one answer. `prompt` includes cached tokens; `completion` includes reasoning tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt: Option<u64>,
    pub completion: Option<u64>,
    pub total: Option<u64>,
    pub cached: Option<u64>,
    pub cache_write: Option<u64>,
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Takes every field that `later` knows: usage is a running total, never a sum.
    pub fn update(&mut self, later: Usage) {
        let take = |old: &mut Option<u64>, new: Option<u64>| *old = new.or(*old);
        take(&mut self.prompt, later.prompt);
        take(&mut self.completion, later.completion);
        take(&mut self.total, later.total);
        take(&mut self.cached, later.cached);
        take(&mut self.cache_write, later.cache_write);
        take(&mut self.reasoning, later.reasoning);
    }

    /// Prompt and completion together: the platform's own total where it is larger than the sum of what it named.
    pub fn total(&self) -> u64 {
        let sum = self.prompt.unwrap_or(0).saturating_add(self.completion.unwrap_or(0));
        self.total.unwrap_or(0).max(sum)
    }

    /// OpenAI's `usage` object.
    pub fn to_json(self) -> Value {
        serde_json::json!({
            "prompt_tokens": self.prompt.unwrap_or(0),
            "completion_tokens": self.completion.unwrap_or(0),
            "total_tokens": self.total(),
            "prompt_tokens_details": {
                "cached_tokens": self.cached.unwrap_or(0),
                "audio_tokens": 0,
                "cache_write_tokens": self.cache_write.unwrap_or(0),
            },
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning.unwrap_or(0),
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        })
    }

    /// As [`Usage::from_json`], from a raw object: several times cheaper, and every answer has one.
    pub fn read(raw: &[u8]) -> Option<Self> {
        let object = Object::scan(raw).ok()?;
        let number = |name: &str| object.get(raw, name).and_then(scan::as_u64);
        let details = |outer: &str| {
            let raw = object.get(raw, outer)?;
            Some((raw, Object::scan(raw).ok()?))
        };
        let prompt = details("prompt_tokens_details");
        let completion = details("completion_tokens_details");
        let detail = |details: &Option<(&[u8], Object)>, name: &str| {
            details.as_ref().and_then(|(raw, object)| object.get(raw, name)).and_then(scan::as_u64)
        };
        Some(Self {
            prompt: number("prompt_tokens"),
            completion: number("completion_tokens"),
            total: number("total_tokens"),
            cached: detail(&prompt, "cached_tokens"),
            cache_write: detail(&prompt, "cache_write_tokens"),
            reasoning: detail(&completion, "reasoning_tokens"),
        })
    }

    /// Reads an OpenAI-shaped `usage` object, leniently: a field that is missing or of another type is unknown.
    pub fn from_json(value: &Value) -> Option<Self> {
        let object = value.as_object()?;
        let number = |name: &str| object.get(name).and_then(Value::as_u64);
        let detail = |outer: &str, name: &str| {
            object.get(outer).and_then(|details| details.get(name)).and_then(Value::as_u64)
        };
        Some(Self {
            prompt: number("prompt_tokens"),
            completion: number("completion_tokens"),
            total: number("total_tokens"),
            cached: detail("prompt_tokens_details", "cached_tokens"),
            cache_write: detail("prompt_tokens_details", "cache_write_tokens"),
            reasoning: detail("completion_tokens_details", "reasoning_tokens"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_reads_the_same_raw_and_parsed() {
        for text in [
            r#"{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":5},"completion_tokens_details":{"reasoning_tokens":6}}"#,
            r#"{"prompt_tokens":1.0,"completion_tokens":"2","total_tokens":-3,"prompt_tokens_details":null,"completion_tokens_details":[]}"#,
            r#"{"prompt_tokens":18446744073709551616,"prompt_tokens_details":7}"#,
            "{}",
            "null",
            "[]",
        ] {
            let parsed: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(Usage::read(text.as_bytes()), Usage::from_json(&parsed), "{text}");
        }
        assert_eq!(Usage::read(b"{"), None);
    }
}
