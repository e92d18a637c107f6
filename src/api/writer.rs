//! Writes OpenAI's stream. Why one writer for all wires: the SDKs' helpers break on small liberties (a role sent twice, a
//! tool index that starts at 1, a finish reason of the vendor's own; `behaviours.md` C1-C8), so the rules live here and
//! no decoder can break them.

use bytes::{BufMut, BytesMut};
use serde_json::Value;
use smallvec::SmallVec;

use super::piece::{FinishReason, Piece, Sink, Usage};
use crate::fault::Fault;
use crate::ids::random_name;

/// OpenAI's end mark, exactly as both SDKs want it.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// A comment that keeps proxies and read timeouts awake. Safe only because no `id:` or `retry:` is ever written.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// How one answer is named to the caller.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    /// The model as the caller wrote it.
    pub model: String,
    /// Seconds since 1970, used where the upstream names no time.
    pub created: u64,
    /// The caller speaks of functions in OpenAI's deprecated way: a call is a `function_call`, and there is only one.
    pub speaks_functions: bool,
}

/// Turns pieces into OpenAI's event stream, collected in a buffer that the relay drains.
#[derive(Debug)]
pub struct Writer {
    out: BytesMut,
    naming: Naming,
    id: String,
    /// `{"id":…,"object":…,"created":…,"model":…` ready to copy, once the first chunk was due.
    head: Vec<u8>,
    include_usage: bool,
    usage: Option<Usage>,
    choices: SmallVec<[Choice; 1]>,
    fields: Vec<(String, Value)>,
    text_bytes: u64,
    /// What had been written when the upstream last spoke of usage.
    usage_at: u64,
    /// It has done so since the bytes were last taken.
    has_new_usage: bool,
}

#[derive(Debug, Default)]
struct Choice {
    started: bool,
    tools: SmallVec<[Tool; 2]>,
    logprobs: Option<Value>,
    finished: Option<FinishReason>,
}

#[derive(Debug)]
struct Tool {
    key: u32,
    id: String,
    has_arguments: bool,
    /// One of OpenAI's custom tools: `input` instead of `arguments`.
    custom: bool,
}

impl Tool {
    fn new(key: u32, id: Option<&str>, custom: bool) -> Self {
        Self { key, id: id.unwrap_or_default().to_owned(), has_arguments: false, custom }
    }
}

impl Writer {
    /// A writer for one answer. `include_usage` is what the caller asked for in `stream_options`.
    pub fn new(naming: Naming, include_usage: bool) -> Self {
        Self {
            out: BytesMut::new(),
            naming,
            id: String::new(),
            head: Vec::new(),
            include_usage,
            usage: None,
            choices: SmallVec::new(),
            fields: Vec::new(),
            text_bytes: 0,
            usage_at: 0,
            has_new_usage: false,
        }
    }

    /// Bytes of text, thinking and arguments so far: what an estimate is made from where the platform names no usage.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Those of [`Self::text_bytes`] that the upstream's usage does not cover: they came after it.
    pub fn bytes_since_usage(&self) -> u64 {
        self.text_bytes - self.usage_at
    }

    /// The bytes written since the last call: after each event, so that usage covers all of the event that brought it.
    pub fn take(&mut self) -> BytesMut {
        if std::mem::take(&mut self.has_new_usage) {
            self.usage_at = self.text_bytes;
        }
        self.out.split()
    }

    /// Whether bytes are waiting to be taken.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// What the upstream said of tokens so far.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether every choice that began has also finished (and one did begin).
    pub fn is_finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.finished.is_some())
    }

    /// Ends a complete answer: the usage chunk where it was asked for, then the end mark. `fallback` stands in where the
    /// upstream named no usage.
    pub fn end(&mut self, fallback: Usage) {
        if self.include_usage {
            let usage = self.usage.unwrap_or(fallback);
            self.open();
            self.put(b",\"choices\":[],\"usage\":");
            self.put_json(&usage.to_json());
            self.put(b"}\n\n");
        }
        self.put(DONE);
    }

    /// Ends the answer here, though the upstream would go on: every choice that is still open ends in `length` (a tool
    /// call's arguments stay as far as they came), then as [`Self::end`] with `told` for usage.
    pub fn cut(&mut self, told: Usage) {
        if self.choices.is_empty() {
            self.text_delta(0, "content", "");
        }
        for index in 0..self.choices.len() {
            self.finish_as(u32::try_from(index).unwrap_or(u32::MAX), FinishReason::Length);
        }
        self.usage = Some(told);
        self.end(told);
    }

    /// Ends an answer that broke: an in-band error, then the end mark, and no finish reason of ours.
    pub fn fail(&mut self, fault: &Fault) {
        self.put(b"data: ");
        self.put(fault.body().as_bytes());
        self.put(b"\n\n");
        self.put(DONE);
    }

    /// A comment that keeps the connection awake.
    pub fn keep_alive(&mut self) {
        self.put(KEEP_ALIVE);
    }

    /// A chunk without content, for watchdogs that do not see comments.
    pub fn keep_alive_chunk(&mut self) {
        self.open();
        self.put(b",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":null}]");
        self.close();
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn put_json<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        // Writing to memory cannot fail, and none of our values has a key that is not a string.
        drop(serde_json::to_writer((&mut self.out).writer(), value));
    }

    fn open(&mut self) {
        if self.head.is_empty() {
            if self.id.is_empty() {
                self.id = random_name("chatcmpl-", 29);
            }
            let head = serde_json::json!({
                "id": self.id,
                "object": "chat.completion.chunk",
                "created": self.naming.created,
                "model": self.naming.model,
            });
            self.head = head.to_string().into_bytes();
            self.head.pop();
        }
        self.out.extend_from_slice(b"data: ");
        self.out.extend_from_slice(&self.head);
        for (name, value) in std::mem::take(&mut self.fields) {
            self.put(b",");
            self.put_json(&name);
            self.put(b":");
            self.put_json(&value);
        }
    }

    fn close(&mut self) {
        if self.include_usage {
            self.put(b",\"usage\":null");
        }
        self.put(b"}\n\n");
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

    /// One chunk with one delta; `body` writes the fields inside `delta`. Nothing is written after the finish.
    fn delta(&mut self, index: u32, body: impl FnOnce(&mut Self, bool)) {
        let Some(choice) = self.choice(index) else { return };
        if choice.finished.is_some() {
            return;
        }
        let first = !choice.started;
        let logprobs = choice.logprobs.take();
        if first && logprobs.is_some() {
            // OpenAI's first chunk brings the role alone, and a helper counts probabilities in the first one twice.
            self.text_delta(index, "content", "");
            if let Some(choice) = self.choice(index) {
                choice.logprobs = logprobs;
            }
            return self.delta(index, body);
        }
        choice.started = true;
        self.open();
        self.put(b",\"choices\":[{\"index\":");
        self.put_json(&index);
        self.put(b",\"delta\":{");
        if first {
            self.put(b"\"role\":\"assistant\",");
        }
        body(self, first);
        self.put(b"}");
        if let Some(logprobs) = logprobs {
            self.put(b",\"logprobs\":");
            self.put_json(&logprobs);
        }
        self.put(b",\"finish_reason\":null}]");
        self.close();
    }

    fn text_delta(&mut self, index: u32, field: &str, text: &str) {
        self.text_bytes += text.len() as u64;
        if text.is_empty() && self.choice(index).is_some_and(|choice| choice.started) {
            return;
        }
        self.delta(index, |writer, first| {
            if first && field != "content" {
                writer.put(b"\"content\":null,");
            }
            writer.put_json(field);
            writer.put(b":");
            writer.put_json(text);
        });
    }

    fn tool_start(&mut self, index: u32, mut tool: Tool, name: &str, extra: Option<Value>) {
        let custom = tool.custom;
        let speaks_functions = self.naming.speaks_functions;
        let Some(choice) = self.choice(index) else { return };
        if choice.tools.iter().any(|known| known.key == tool.key) {
            return;
        }
        let position = choice.tools.len();
        if speaks_functions && position > 0 {
            return;
        }
        tool.id = own_call_id(tool.id, choice.tools.iter().map(|known| known.id.as_str()));
        let id = tool.id.clone();
        choice.tools.push(tool);
        let (kind, body) = if custom {
            ("custom", serde_json::json!({"name": name, "input": ""}))
        } else {
            ("function", serde_json::json!({"name": name, "arguments": ""}))
        };
        let mut call = serde_json::json!({"index": position, "id": id, "type": kind, kind: body});
        if let (Some(extra), Some(object)) = (extra, call.as_object_mut()) {
            object.insert("extra_content".to_owned(), extra);
        }
        self.delta(index, |writer, first| {
            if first {
                writer.put(b"\"content\":null,");
            }
            if speaks_functions {
                writer.put(b"\"function_call\":");
                return writer.put_json(call.get(kind).unwrap_or_default());
            }
            writer.put(b"\"tool_calls\":[");
            writer.put_json(&call);
            writer.put(b"]");
        });
    }

    fn tool_arguments(&mut self, index: u32, key: u32, text: &str) {
        let Some(choice) = self.choice(index) else { return };
        let Some(position) = choice.tools.iter().position(|tool| tool.key == key) else { return };
        if text.is_empty() {
            return;
        }
        self.text_bytes += text.len() as u64;
        let Some(tool) = self.choice(index).and_then(|choice| choice.tools.get_mut(position)) else { return };
        tool.has_arguments = true;
        let field: &[u8] =
            if tool.custom { b",\"custom\":{\"input\":" } else { b",\"function\":{\"arguments\":" };
        self.delta(index, |writer, _| {
            if writer.naming.speaks_functions {
                writer.put(b"\"function_call\":{\"arguments\":");
                writer.put_json(text);
                return writer.put(b"}");
            }
            writer.put(b"\"tool_calls\":[{\"index\":");
            writer.put_json(&position);
            writer.put(field);
            writer.put_json(text);
            writer.put(b"}}]");
        });
    }

    fn finish(&mut self, index: u32, reason: FinishReason) {
        let Some(choice) = self.choice(index) else { return };
        if choice.finished.is_some() {
            return;
        }
        let bare: SmallVec<[u32; 2]> = choice
            .tools
            .iter()
            .filter(|tool| !tool.has_arguments && !tool.custom)
            .map(|tool| tool.key)
            .collect();
        let calls = !choice.tools.is_empty();
        let reason = settle_reason(reason, calls, self.naming.speaks_functions);
        for key in bare {
            self.tool_arguments(index, key, "{}");
        }
        self.finish_as(index, reason);
    }

    /// The chunk with the finish reason, where the choice has not finished.
    fn finish_as(&mut self, index: u32, reason: FinishReason) {
        let Some(choice) = self.choice(index).filter(|choice| choice.finished.is_none()) else { return };
        if !choice.started {
            self.text_delta(index, "content", "");
        }
        let logprobs = self.choice(index).and_then(|choice| choice.logprobs.take());
        self.open();
        self.put(b",\"choices\":[{\"index\":");
        self.put_json(&index);
        self.put(b",\"delta\":{}");
        if let Some(logprobs) = logprobs {
            self.put(b",\"logprobs\":");
            self.put_json(&logprobs);
        }
        self.put(b",\"finish_reason\":");
        self.put_json(reason.as_str());
        self.put(b"}]");
        self.close();
        if let Some(choice) = self.choice(index) {
            choice.finished = Some(reason);
        }
    }
}

/// An answer with tool calls ends in `tool_calls`, whatever the platform called it, unless it was cut or filtered; in
/// `function_call` for a caller who speaks of functions.
pub(super) fn settle_reason(reason: FinishReason, has_tools: bool, speaks_functions: bool) -> FinishReason {
    match reason {
        FinishReason::Stop | FinishReason::FunctionCall | FinishReason::ToolCalls if has_tools => {
            if speaks_functions {
                FinishReason::FunctionCall
            } else {
                FinishReason::ToolCalls
            }
        }
        FinishReason::ToolCalls => FinishReason::Stop,
        other => other,
    }
}

/// A tool call id of ours: unique over turns, and within what every platform accepts back.
pub fn mint_call_id() -> String {
    random_name("call_", 24)
}

/// The platform's id of a call, unless it gave none, or the same to an earlier call: results could not be told apart.
pub(super) fn own_call_id<'a>(id: String, mut earlier: impl Iterator<Item = &'a str>) -> String {
    if id.is_empty() || earlier.any(|known| known == id) { mint_call_id() } else { id }
}

impl Sink for Writer {
    fn piece(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Start { id, created } => {
                if self.head.is_empty() {
                    self.id = id.unwrap_or_default().to_owned();
                    self.naming.created = created.unwrap_or(self.naming.created);
                }
            }
            Piece::Text { choice, text } => self.text_delta(choice, "content", text),
            Piece::Reasoning { choice, text } => self.text_delta(choice, "reasoning_content", text),
            Piece::Refusal { choice, text } => self.text_delta(choice, "refusal", text),
            Piece::ToolStart { choice, key, id, name, extra } => {
                self.tool_start(choice, Tool::new(key, id, false), name, extra)
            }
            Piece::CustomToolStart { choice, key, id, name } => {
                self.tool_start(choice, Tool::new(key, id, true), name, None)
            }
            Piece::ToolArguments { choice, key, text } => self.tool_arguments(choice, key, text),
            Piece::Logprobs { choice, value } => {
                if let Some(choice) = self.choice(choice) {
                    choice.logprobs = Some(value);
                }
            }
            Piece::Extra { choice, name, value } => self.delta(choice, |writer, _| {
                writer.put_json(name);
                writer.put(b":");
                writer.put_json(&value);
            }),
            Piece::Field { name, value } => {
                // A field may come again before a chunk was due: a key must not stand twice in one object.
                self.fields.retain(|(waiting, _)| waiting != name);
                self.fields.push((name.to_owned(), value));
            }
            Piece::Finish { choice, reason } => self.finish(choice, reason),
            Piece::Usage(usage) => {
                self.usage.get_or_insert_default().update(usage);
                self.has_new_usage = true;
            }
            Piece::Remember { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_ends_in_length_and_completes_no_call() {
        let mut cut = writer(true);
        cut.piece(Piece::Usage(Usage { prompt: Some(3), completion: Some(1), ..Usage::default() }));
        drop(cut.take());
        cut.piece(Piece::Text { choice: 0, text: "whole" });
        cut.piece(Piece::Finish { choice: 0, reason: FinishReason::Stop });
        cut.piece(Piece::ToolStart { choice: 1, key: 0, id: None, name: "bare", extra: None });
        cut.piece(Piece::ToolStart { choice: 1, key: 1, id: None, name: "begun", extra: None });
        cut.piece(Piece::ToolArguments { choice: 1, key: 1, text: "{\"a" });
        assert_eq!(cut.bytes_since_usage(), 8);
        drop(cut.take());
        cut.cut(Usage { prompt: Some(3), completion: Some(9), ..Usage::default() });
        let text = String::from_utf8(cut.take().to_vec()).expect("utf-8");
        let events: Vec<&str> = text.split_terminator("\n\n").map(|event| &event[6..]).collect();
        assert_eq!((events.len(), events[2]), (3, "[DONE]"), "{text}");
        let end: Value = serde_json::from_str(events[0]).expect("json");
        assert_eq!(
            (&end["choices"][0]["index"], &end["choices"][0]["delta"]),
            (&1.into(), &serde_json::json!({}))
        );
        assert_eq!(end["choices"][0]["finish_reason"], "length");
        let usage: Value = serde_json::from_str(events[1]).expect("json");
        assert_eq!(usage["usage"]["total_tokens"], 12);
        assert!(cut.is_finished());
        let mut silent = writer(false);
        silent.cut(Usage::default());
        let text = String::from_utf8(silent.take().to_vec()).expect("utf-8");
        assert!(
            text.contains("\"finish_reason\":\"length\"") && text.ends_with("data: [DONE]\n\n"),
            "{text}"
        );
    }

    fn writer(include_usage: bool) -> Writer {
        Writer::new(Naming { model: "smart".into(), created: 7, speaks_functions: false }, include_usage)
    }

    fn chunks(writer: &mut Writer) -> Vec<Value> {
        let text = String::from_utf8(writer.take().to_vec()).expect("utf-8");
        text.split("\n\n")
            .filter(|event| !event.is_empty() && *event != "data: [DONE]")
            .map(|event| {
                serde_json::from_str(event.strip_prefix("data: ").expect("data only")).expect("json")
            })
            .collect()
    }

    #[test]
    fn who_speaks_of_functions_gets_one_function_call() {
        let naming = Naming { model: "smart".into(), created: 7, speaks_functions: true };
        let mut writer = Writer::new(naming, false);
        for (key, name) in [(4, "f"), (5, "g")] {
            writer.piece(Piece::ToolStart { choice: 0, key, id: Some("c"), name, extra: None });
            writer.piece(Piece::ToolArguments { choice: 0, key, text: "{}" });
        }
        writer.piece(Piece::Finish { choice: 0, reason: FinishReason::ToolCalls });
        let chunks = chunks(&mut writer);
        assert_eq!(chunks.len(), 3);
        assert_eq!(
            chunks[0]["choices"][0]["delta"],
            serde_json::json!({"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": ""}})
        );
        assert_eq!(
            chunks[1]["choices"][0]["delta"],
            serde_json::json!({"function_call": {"arguments": "{}"}})
        );
        assert_eq!(chunks[2]["choices"][0]["finish_reason"], "function_call");
    }

    #[test]
    fn the_role_comes_once_and_the_finish_once() {
        let mut writer = writer(false);
        writer.piece(Piece::Text { choice: 0, text: "a" });
        writer.piece(Piece::Text { choice: 0, text: "b" });
        writer.piece(Piece::Finish { choice: 0, reason: FinishReason::Stop });
        writer.piece(Piece::Finish { choice: 0, reason: FinishReason::Length });
        writer.piece(Piece::Text { choice: 0, text: "late" });
        let chunks = chunks(&mut writer);
        assert_eq!(chunks.len(), 3);
        assert_eq!(
            chunks[0]["choices"][0]["delta"],
            serde_json::json!({"role": "assistant", "content": "a"})
        );
        assert_eq!(chunks[1]["choices"][0]["delta"], serde_json::json!({"content": "b"}));
        assert_eq!(chunks[2]["choices"][0]["finish_reason"], "stop");
        assert!(writer.is_finished());
    }

    #[test]
    fn the_first_chunk_has_no_probabilities_since_a_helper_would_count_them_twice() {
        let mut writer = writer(false);
        let probable = serde_json::json!({"content": [{"token": "a", "logprob": -0.1}], "refusal": null});
        writer.piece(Piece::Logprobs { choice: 0, value: probable.clone() });
        writer.piece(Piece::Text { choice: 0, text: "a" });
        let chunks = chunks(&mut writer);
        assert_eq!(chunks.len(), 2);
        assert_eq!(chunks[0]["choices"][0]["delta"], serde_json::json!({"role": "assistant", "content": ""}));
        assert_eq!(chunks[0]["choices"][0].get("logprobs"), None);
        assert_eq!(chunks[1]["choices"][0]["delta"], serde_json::json!({"content": "a"}));
        assert_eq!(chunks[1]["choices"][0]["logprobs"], probable);
    }

    #[test]
    fn tool_indices_are_dense_and_bare_calls_get_an_empty_object() {
        let mut writer = writer(false);
        let start = |key, id| Piece::ToolStart { choice: 0, key, id, name: "f", extra: None };
        writer.piece(start(4, Some("toolu_1")));
        writer.piece(Piece::ToolArguments { choice: 0, key: 4, text: "{\"a\":1}" });
        writer.piece(start(9, None));
        writer.piece(Piece::Finish { choice: 0, reason: FinishReason::Stop });
        let chunks = chunks(&mut writer);
        let call = |n: usize| &chunks[n]["choices"][0]["delta"]["tool_calls"][0];
        assert_eq!(call(0)["index"], 0);
        assert_eq!(call(0)["id"], "toolu_1");
        assert_eq!(call(1), &serde_json::json!({"index": 0, "function": {"arguments": "{\"a\":1}"}}));
        assert_eq!(call(2)["index"], 1);
        assert!(call(2)["id"].as_str().expect("minted").starts_with("call_"));
        assert_eq!(call(3)["function"]["arguments"], "{}");
        assert_eq!(chunks[4]["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn a_custom_tool_keeps_its_kind_and_gets_no_invented_input() {
        let mut writer = writer(false);
        writer.piece(Piece::CustomToolStart { choice: 0, key: 0, id: Some("c"), name: "sql" });
        writer.piece(Piece::ToolArguments { choice: 0, key: 0, text: "SELECT" });
        writer.piece(Piece::CustomToolStart { choice: 0, key: 1, id: Some("d"), name: "bare" });
        writer.piece(Piece::Finish { choice: 0, reason: FinishReason::ToolCalls });
        let chunks = chunks(&mut writer);
        let call = |n: usize| &chunks[n]["choices"][0]["delta"]["tool_calls"][0];
        assert_eq!(
            call(0),
            &serde_json::json!({"index": 0, "id": "c", "type": "custom", "custom": {"name": "sql", "input": ""}})
        );
        assert_eq!(call(1), &serde_json::json!({"index": 0, "custom": {"input": "SELECT"}}));
        assert_eq!(call(2)["index"], 1);
        assert_eq!(chunks.len(), 4);
        assert_eq!(chunks[3]["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn a_field_that_comes_twice_before_a_chunk_is_written_once() {
        let mut writer = writer(false);
        for tier in ["default", "scale"] {
            writer.piece(Piece::Field { name: "service_tier", value: Value::from(tier) });
        }
        writer.piece(Piece::Text { choice: 0, text: "a" });
        let text = String::from_utf8(writer.take().to_vec()).expect("utf-8");
        assert_eq!(text.matches("service_tier").count(), 1);
        assert!(text.contains("scale"));
    }

    #[test]
    fn two_calls_under_one_id_get_two() {
        let mut writer = writer(false);
        for key in 0..2 {
            writer.piece(Piece::ToolStart { choice: 0, key, id: Some("0"), name: "f", extra: None });
        }
        let chunks = chunks(&mut writer);
        let id = |n: usize| chunks[n]["choices"][0]["delta"]["tool_calls"][0]["id"].as_str().expect("an id");
        assert_eq!(id(0), "0");
        assert!(id(1).starts_with("call_"), "{}", id(1));
    }

    #[test]
    fn usage_is_one_last_chunk_and_only_when_asked_for() {
        for asked in [false, true] {
            let mut writer = writer(asked);
            writer.piece(Piece::Usage(Usage { prompt: Some(25), completion: Some(1), ..Usage::default() }));
            writer.piece(Piece::Text { choice: 0, text: "a" });
            writer.piece(Piece::Usage(Usage { completion: Some(15), ..Usage::default() }));
            writer.piece(Piece::Finish { choice: 0, reason: FinishReason::Stop });
            writer.end(Usage::default());
            let chunks = chunks(&mut writer);
            assert_eq!(chunks.len(), if asked { 3 } else { 2 });
            if asked {
                assert_eq!(chunks[0]["usage"], Value::Null);
                assert_eq!(chunks[2]["choices"], serde_json::json!([]));
                assert_eq!(chunks[2]["usage"]["total_tokens"], 40);
            } else {
                assert!(chunks[0].get("usage").is_none());
            }
        }
    }
}
