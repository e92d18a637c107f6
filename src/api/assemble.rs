//! Puts a whole answer together from pieces. Why: a platform that only streams must still serve a caller who does not,
//! and a platform's own whole answer is read by the same decoder as its stream, so both say the same.

use serde_json::{Map, Value, json};

use super::piece::{FinishReason, Piece, Sink, Usage};
use super::writer::{Naming, own_call_id, settle_reason};
use crate::ids::random_name;

/// Collects pieces into one `chat.completion` object.
#[derive(Debug)]
pub struct Assembler {
    naming: Naming,
    id: String,
    usage: Option<Usage>,
    choices: Vec<Choice>,
    fields: Map<String, Value>,
}

#[derive(Debug, Default)]
struct Choice {
    /// Something was said of it. A platform may leave a choice out; one that never came is none.
    began: bool,
    text: Option<String>,
    reasoning: Option<String>,
    refusal: Option<String>,
    tools: Vec<Tool>,
    logprobs: Option<Value>,
    extra: Map<String, Value>,
    finished: Option<FinishReason>,
}

#[derive(Debug)]
struct Tool {
    key: u32,
    id: String,
    name: String,
    arguments: String,
    extra: Option<Value>,
    /// One of OpenAI's custom tools: `input` instead of `arguments`.
    custom: bool,
}

impl Assembler {
    /// An assembler for one answer.
    pub fn new(naming: Naming) -> Self {
        Self { naming, id: String::new(), usage: None, choices: Vec::new(), fields: Map::new() }
    }

    /// Whether every choice that began has also finished (and one did begin).
    pub fn is_finished(&self) -> bool {
        let mut begun = self.choices.iter().filter(|choice| choice.began).peekable();
        begun.peek().is_some() && begun.all(|choice| choice.finished.is_some())
    }

    /// What the upstream said of tokens.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Bytes of text, thinking and arguments so far: what an estimate is made from where the platform names no usage.
    pub fn text_bytes(&self) -> u64 {
        let texts = |choice: &Choice| {
            let said = [&choice.text, &choice.reasoning, &choice.refusal];
            let said: usize = said.into_iter().flatten().map(String::len).sum();
            said + choice.tools.iter().map(|tool| tool.arguments.len()).sum::<usize>()
        };
        self.choices.iter().map(|choice| texts(choice) as u64).sum()
    }

    /// The answer as OpenAI would have sent it. `fallback` stands in where the upstream named no usage.
    pub fn into_json(self, fallback: Usage) -> Value {
        let id = if self.id.is_empty() { random_name("chatcmpl-", 29) } else { self.id };
        let begun = self.choices.into_iter().filter(|choice| choice.began);
        let choices: Vec<Value> = begun
            .enumerate()
            .map(|(index, choice)| choice.into_json(index, self.naming.speaks_functions))
            .collect();
        let mut answer = json!({
            "id": id,
            "object": "chat.completion",
            "created": self.naming.created,
            "model": self.naming.model,
            "choices": choices,
            "usage": self.usage.unwrap_or(fallback).to_json(),
        });
        if let Some(object) = answer.as_object_mut() {
            object.extend(self.fields);
        }
        answer
    }

    fn choice(&mut self, index: u32) -> Option<&mut Choice> {
        let index = index as usize;
        if index >= 128 {
            return None;
        }
        while self.choices.len() <= index {
            self.choices.push(Choice::default());
        }
        self.choices.get_mut(index)
    }
}

impl Choice {
    fn into_json(self, index: usize, speaks_functions: bool) -> Value {
        let has_tools = !self.tools.is_empty();
        let calls: Vec<Value> = self.tools.into_iter().map(Tool::into_json).collect();
        let content = match self.text {
            Some(text) if !(has_tools && text.is_empty()) => Value::String(text),
            Some(_) => Value::Null,
            None if has_tools || self.refusal.is_some() => Value::Null,
            None => Value::String(String::new()),
        };
        let mut message = json!({"role": "assistant", "content": content, "refusal": self.refusal});
        if let Some(object) = message.as_object_mut() {
            if let Some(reasoning) = self.reasoning {
                object.insert("reasoning_content".into(), Value::String(reasoning));
            }
            if has_tools && speaks_functions {
                // There is only one in that shape.
                let call =
                    calls.into_iter().next().and_then(|mut call| Some(call.get_mut("function")?.take()));
                object.insert("function_call".into(), call.unwrap_or_default());
            } else if has_tools {
                object.insert("tool_calls".into(), Value::Array(calls));
            }
            object.extend(self.extra);
        }
        let reason = self.finished.map(|reason| settle_reason(reason, has_tools, speaks_functions).as_str());
        json!({"index": index, "message": message, "logprobs": self.logprobs, "finish_reason": reason})
    }
}

impl Tool {
    fn into_json(self) -> Value {
        if self.custom {
            let custom = json!({"name": self.name, "input": self.arguments});
            return json!({"id": self.id, "type": "custom", "custom": custom});
        }
        let arguments = if self.arguments.is_empty() { "{}".to_owned() } else { self.arguments };
        let mut call = json!({
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": arguments},
        });
        if let (Some(extra), Some(object)) = (self.extra, call.as_object_mut()) {
            object.insert("extra_content".into(), extra);
        }
        call
    }
}

fn append(to: &mut Option<String>, text: &str) {
    to.get_or_insert_default().push_str(text);
}

/// Joins logprobs of several deltas: both lists grow.
fn join_logprobs(into: &mut Option<Value>, later: Value) {
    let Some(Value::Object(old)) = into else {
        *into = Some(later);
        return;
    };
    let Value::Object(later) = later else { return };
    for (name, value) in later {
        match (old.get_mut(&name), value) {
            (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
            (_, value) => {
                old.insert(name, value);
            }
        }
    }
}

/// Joins extra fields of several deltas: text grows, lists grow, objects merge, the rest is replaced.
fn join_extra(into: &mut Map<String, Value>, name: &str, value: Value) {
    match (into.get_mut(name), value) {
        (Some(Value::String(old)), Value::String(new)) => old.push_str(&new),
        (Some(Value::Array(old)), Value::Array(new)) => old.extend(new),
        (Some(Value::Object(old)), Value::Object(new)) => {
            for (name, value) in new {
                join_extra(old, &name, value);
            }
        }
        (_, value) => {
            into.insert(name.to_owned(), value);
        }
    }
}

impl Sink for Assembler {
    fn piece(&mut self, piece: Piece<'_>) {
        let index = match &piece {
            Piece::Start { id, created } => {
                self.id = id.unwrap_or_default().to_owned();
                self.naming.created = created.unwrap_or(self.naming.created);
                return;
            }
            Piece::Usage(usage) => return self.usage.get_or_insert_default().update(*usage),
            Piece::Field { name, value } => {
                self.fields.insert((*name).to_owned(), value.clone());
                return;
            }
            Piece::Remember { .. } => return,
            Piece::Text { choice, .. }
            | Piece::Reasoning { choice, .. }
            | Piece::Refusal { choice, .. }
            | Piece::ToolStart { choice, .. }
            | Piece::CustomToolStart { choice, .. }
            | Piece::ToolArguments { choice, .. }
            | Piece::Logprobs { choice, .. }
            | Piece::Extra { choice, .. }
            | Piece::Finish { choice, .. } => *choice,
        };
        if let Some(choice) = self.choice(index) {
            choice.take(piece);
        }
    }
}

impl Choice {
    fn tool_start(&mut self, key: u32, id: Option<&str>, name: &str, extra: Option<Value>, custom: bool) {
        if self.tools.iter().all(|tool| tool.key != key) {
            let id = id.unwrap_or_default().to_owned();
            let id = own_call_id(id, self.tools.iter().map(|known| known.id.as_str()));
            let (name, arguments) = (name.to_owned(), String::new());
            self.tools.push(Tool { key, id, name, arguments, extra, custom });
        }
    }

    fn take(&mut self, piece: Piece<'_>) {
        self.began = true;
        match piece {
            Piece::Text { text, .. } => append(&mut self.text, text),
            Piece::Reasoning { text, .. } => append(&mut self.reasoning, text),
            Piece::Refusal { text, .. } => append(&mut self.refusal, text),
            Piece::ToolStart { key, id, name, extra, .. } => self.tool_start(key, id, name, extra, false),
            Piece::CustomToolStart { key, id, name, .. } => self.tool_start(key, id, name, None, true),
            Piece::ToolArguments { key, text, .. } => {
                if let Some(tool) = self.tools.iter_mut().find(|tool| tool.key == key) {
                    tool.arguments.push_str(text);
                }
            }
            Piece::Logprobs { value, .. } => join_logprobs(&mut self.logprobs, value),
            Piece::Extra { name, value, .. } => join_extra(&mut self.extra, name, value),
            Piece::Finish { reason, .. } => {
                self.finished.get_or_insert(reason);
            }
            Piece::Start { .. } | Piece::Usage(_) | Piece::Field { .. } | Piece::Remember { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streamed_answer_becomes_a_whole_one() {
        let mut whole = Assembler::new(Naming { model: "smart".into(), created: 7, ..Naming::default() });
        whole.piece(Piece::Start { id: Some("msg_1"), created: None });
        whole.piece(Piece::Reasoning { choice: 0, text: "hm" });
        whole.piece(Piece::Text { choice: 0, text: "Hel" });
        whole.piece(Piece::Text { choice: 0, text: "lo" });
        whole.piece(Piece::ToolStart { choice: 0, key: 2, id: Some("c"), name: "f", extra: None });
        whole.piece(Piece::Finish { choice: 0, reason: FinishReason::Stop });
        whole.piece(Piece::ToolArguments { choice: 0, key: 2, text: "{}" });
        assert!(whole.is_finished());
        assert_eq!(whole.text_bytes(), 9);
        let answer = whole.into_json(Usage { prompt: Some(3), completion: Some(2), ..Usage::default() });
        let choice = &answer["choices"][0];
        assert_eq!(choice["message"]["content"], "Hello");
        assert_eq!(choice["message"]["reasoning_content"], "hm");
        assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], "{}");
        assert_eq!(choice["finish_reason"], "tool_calls");
        assert_eq!(answer["usage"]["total_tokens"], 5);
    }

    #[test]
    fn who_speaks_of_functions_gets_one_function_call() {
        let naming = Naming { speaks_functions: true, ..Naming::default() };
        let mut whole = Assembler::new(naming);
        for (key, name) in [(2, "f"), (3, "g")] {
            whole.piece(Piece::ToolStart { choice: 0, key, id: None, name, extra: None });
        }
        whole.piece(Piece::Finish { choice: 0, reason: FinishReason::ToolCalls });
        let answer = whole.into_json(Usage::default());
        let choice = &answer["choices"][0];
        assert_eq!(
            choice["message"],
            json!({"role": "assistant", "content": null, "refusal": null, "function_call": {"name": "f", "arguments": "{}"}})
        );
        assert_eq!(choice["finish_reason"], "function_call");
    }

    #[test]
    fn a_choice_that_never_came_is_none() {
        let mut whole = Assembler::new(Naming { model: "smart".into(), created: 7, ..Naming::default() });
        whole.piece(Piece::Text { choice: 3, text: "a" });
        whole.piece(Piece::Finish { choice: 3, reason: FinishReason::Stop });
        assert!(whole.is_finished());
        let answer = whole.into_json(Usage::default());
        assert_eq!(answer["choices"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            (&answer["choices"][0]["index"], &answer["choices"][0]["finish_reason"]),
            (&json!(0), &json!("stop"))
        );
    }
}
