//! The laws of OpenAI's stream, as the SDKs' helpers enforce them by breaking (`behaviours` C1 to C8). Why a checker of
//! our own: it is exact where an SDK is only sometimes strict, and it can itself be tested: seeded bugs must be caught.

use serde_json::{Map, Value, json};

/// What the caller asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub model: &'a str,
    pub include_usage: bool,
    pub choices: usize,
    /// Whether usage may lack although asked for: the platform broke off behind the finish, and its stream passes through.
    pub usage_may_lack: bool,
    /// The platform writes nonsense: its choices and the words of its calls are its own; our framing is still ours.
    pub is_wild: bool,
}

impl<'a> Asked<'a> {
    pub fn of(model: &'a str, include_usage: bool) -> Self {
        Self { model, include_usage, choices: 1, usage_may_lack: false, is_wild: false }
    }
}

/// What a lawful stream said.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// `choices` as in a whole answer.
    pub choices: Vec<Value>,
    pub usage: Option<Value>,
    /// The stream ended in an error.
    pub failed: bool,
    pub chunks: usize,
}

/// Reads a stream as a strict SDK would.
///
/// # Errors
/// Which law is broken, and where.
pub fn check(stream: &[u8], asked: Asked<'_>) -> Result<Seen, String> {
    let text = std::str::from_utf8(stream).map_err(|_| "not UTF-8")?;
    let mut reader = Reader { asked, head: None, choices: Vec::new(), usage: None, failed: false, chunks: 0 };
    let body =
        text.strip_suffix("data: [DONE]\n\n").ok_or("C4: the end mark is not exactly `data: [DONE]`")?;
    if !body.is_empty() && !body.ends_with("\n\n") {
        return Err("an event without its empty line".to_owned());
    }
    for (number, event) in body.split_terminator("\n\n").enumerate() {
        reader.event(event).map_err(|why| format!("event {number}: {why}: {event}"))?;
    }
    reader.end()
}

struct Reader<'a> {
    asked: Asked<'a>,
    /// `id` and `created`.
    head: Option<(String, u64)>,
    choices: Vec<Choice>,
    usage: Option<Value>,
    failed: bool,
    chunks: usize,
}

#[derive(Default)]
struct Choice {
    began: bool,
    message: Map<String, Value>,
    calls: Vec<Value>,
    logprobs: Option<Value>,
    finish: Option<String>,
}

type Law = Result<(), String>;

fn law(holds: bool, what: &str) -> Law {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

impl Reader<'_> {
    fn event(&mut self, event: &str) -> Law {
        if event == ": keep-alive" {
            return Ok(());
        }
        law(!event.contains(['\n', '\r']), "C2: more than one line")?;
        let data = event.strip_prefix("data: ").ok_or("C1, C2: a field that is not `data: `")?;
        law(!self.failed, "C3: something after an error")?;
        let chunk: Value = serde_json::from_str(data).map_err(|wrong| format!("C1: no JSON ({wrong})"))?;
        let chunk = chunk.as_object().ok_or("no object")?;
        law(
            data.matches(r#""choices":"#).count() <= 1 || !has_key_twice(data),
            "a key twice: SDKs disagree on which counts",
        )?;
        if let Some(error) = chunk.get("error") {
            return self.error(error);
        }
        self.chunks += 1;
        law(self.usage.is_none(), "C5: something after the usage")?;
        self.heading(chunk)?;
        let choices = chunk.get("choices").and_then(Value::as_array).ok_or("C5: no list of choices")?;
        self.counts(chunk.get("usage"), choices.is_empty())?;
        choices.iter().try_for_each(|choice| self.choice(choice))
    }

    fn begun(&self) -> impl Iterator<Item = &Choice> {
        self.choices.iter().filter(|choice| choice.began)
    }

    fn error(&mut self, error: &Value) -> Law {
        let text = |name: &str| error.get(name).is_some_and(Value::is_string);
        law(text("message") && text("type"), "C3: an error without message or type")?;
        law(
            error.get("param").is_some() && error.get("code").is_some(),
            "C3: an error without param or code",
        )?;
        law(self.usage.is_none(), "an answer that broke names no usage")?;
        // A wild platform may have begun a choice of which nothing was said yet.
        let is_open = self.asked.is_wild || self.begun().any(|choice| choice.finish.is_none());
        law(is_open, "an error after a finished answer")?;
        self.failed = true;
        Ok(())
    }

    fn heading(&mut self, chunk: &Map<String, Value>) -> Law {
        let id = chunk.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).ok_or("no id")?;
        let created = chunk.get("created").and_then(Value::as_u64).ok_or("no time of creation")?;
        law(chunk.get("object") == Some(&json!("chat.completion.chunk")), "another object")?;
        law(chunk.get("model") == Some(&json!(self.asked.model)), "another model")?;
        let head = self.head.get_or_insert_with(|| (id.to_owned(), created));
        law(head.0 == id, "another id")?;
        law(head.1 == created, "another time of creation")
    }

    fn counts(&mut self, usage: Option<&Value>, is_bare: bool) -> Law {
        let Some(usage) = usage.filter(|usage| !usage.is_null()) else {
            return law(!is_bare || self.chunks == 1, "C5: no choices and no usage");
        };
        law(self.asked.include_usage, "C5: usage that nobody asked for")?;
        law(is_bare, "C5: usage beside choices")?;
        let count = |name: &str| usage.get(name).and_then(Value::as_u64).ok_or(format!("C5: no {name}"));
        let (prompt, completion) = (count("prompt_tokens")?, count("completion_tokens")?);
        law(count("total_tokens")? >= prompt.saturating_add(completion), "C5: a total below its parts")?;
        law(self.begun().all(|choice| choice.finish.is_some()), "C5: usage before the finish")?;
        self.usage = Some(usage.clone());
        Ok(())
    }

    fn choice(&mut self, part: &Value) -> Law {
        let index = part.get("index").and_then(Value::as_u64).ok_or("C8: a choice without index")?;
        let index = usize::try_from(index).map_err(|_| "C8: a huge index")?;
        let is_dense = index <= self.choices.len() && index < self.asked.choices;
        law(is_dense || (self.asked.is_wild && index < 128), "C8: choices are not dense from 0")?;
        while self.choices.len() <= index {
            self.choices.push(Choice::default());
        }
        let choice = &mut self.choices[index];
        let is_new = !std::mem::replace(&mut choice.began, true);
        law(choice.finish.is_none(), "C8: something after the finish")?;
        let delta = part.get("delta").and_then(Value::as_object).ok_or("C8: a choice without delta")?;
        let role = delta.get("role").filter(|role| !role.is_null());
        law(is_new == role.is_some(), "C6: the role stands in the first delta and nowhere else")?;
        law(role.is_none_or(|role| role == "assistant"), "C6: another role")?;
        choice.delta(delta)?;
        if let Some(logprobs) = part.get("logprobs").filter(|logprobs| !logprobs.is_null()) {
            join(choice.logprobs.get_or_insert_with(|| json!({})), logprobs);
        }
        let reason = part.get("finish_reason").ok_or("C8: no finish_reason, not even null")?;
        match reason {
            Value::Null => Ok(()),
            Value::String(reason) => choice.end(reason, delta, self.asked),
            _ => Err("C8: a finish_reason that is no text".to_owned()),
        }
    }

    fn end(self) -> Result<Seen, String> {
        if !self.failed {
            let is_complete = self.choices.len() == self.asked.choices || self.asked.is_wild;
            law(is_complete && self.begun().count() > 0, "a choice is missing")?;
            law(self.begun().all(|choice| choice.finish.is_some()), "C4: an end without finish or error")?;
            let is_due = self.asked.include_usage && !self.asked.usage_may_lack;
            law(self.usage.is_some() || !is_due, "C5: no usage, although asked for")?;
        }
        let choices =
            self.choices.into_iter().enumerate().map(|(index, choice)| choice.whole(index)).collect();
        Ok(Seen { choices, usage: self.usage, failed: self.failed, chunks: self.chunks })
    }
}

impl Choice {
    fn delta(&mut self, delta: &Map<String, Value>) -> Law {
        for (name, value) in delta {
            match (name.as_str(), value) {
                ("role", _) => {}
                ("content" | "refusal" | "reasoning_content", Value::String(_) | Value::Null) => {
                    join(self.message.entry(name.clone()).or_insert(Value::Null), value);
                }
                ("content" | "refusal" | "reasoning_content", _) => return Err(format!("{name} is no text")),
                ("tool_calls", Value::Array(calls)) => calls.iter().try_for_each(|call| self.call(call))?,
                ("tool_calls", Value::Null) => {}
                ("tool_calls", _) => return Err("C7: tool_calls is no list".to_owned()),
                _ => join(self.message.entry(name.clone()).or_insert(Value::Null), value),
            }
        }
        Ok(())
    }

    fn call(&mut self, part: &Value) -> Law {
        let index = part.get("index").and_then(Value::as_u64).ok_or("C7: a call without index")?;
        let index = usize::try_from(index).map_err(|_| "C7: a huge index")?;
        law(index <= self.calls.len(), "C7: calls are not dense from 0")?;
        let kind = if part.get("custom").is_some() { "custom" } else { "function" };
        let field = if kind == "custom" { "input" } else { "arguments" };
        let inner = part.get(kind).and_then(Value::as_object).ok_or("C7: a call without function")?;
        let text = inner.get(field).and_then(Value::as_str).ok_or("C7: arguments are no text")?;
        if index == self.calls.len() {
            let id = part.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).ok_or("C7: no id")?;
            law(part.get("type") == Some(&json!(kind)), "C7: no type")?;
            law(inner.get("name").is_some_and(Value::is_string), "C7: no name")?;
            law(self.calls.iter().all(|call| call["id"] != id), "C7: one id for two calls")?;
            let mut call = part.clone();
            call.as_object_mut().ok_or("C7: no object")?.shift_remove("index");
            self.calls.push(call);
            return Ok(());
        }
        law(
            part.get("id").is_none() && part.get("type").is_none() && inner.get("name").is_none(),
            "C7: id, type and name come once",
        )?;
        let call = &mut self.calls[index][kind][field];
        *call = json!(call.as_str().unwrap_or_default().to_owned() + text);
        Ok(())
    }

    fn end(&mut self, reason: &str, delta: &Map<String, Value>, asked: Asked<'_>) -> Law {
        law(
            matches!(reason, "stop" | "length" | "tool_calls" | "content_filter" | "function_call"),
            "C8: a finish_reason of the vendor's own",
        )?;
        law(delta.is_empty(), "C8: the finish comes with an empty delta")?;
        law(reason != "stop" || self.calls.is_empty(), "R9.4: calls, and yet `stop`")?;
        law(reason != "tool_calls" || !self.calls.is_empty(), "R9.4: `tool_calls`, and no call")?;
        if !asked.is_wild && reason == "tool_calls" {
            for call in self.calls.iter().filter(|call| call["type"] == "function") {
                let text = call["function"]["arguments"].as_str().unwrap_or_default();
                let is_json = serde_json::from_str::<Map<String, Value>>(text).is_ok();
                law(is_json, "R9.2: arguments that are no JSON object")?;
                law(call["function"]["name"] != "", "C7: no name")?;
            }
        }
        self.finish = Some(reason.to_owned());
        Ok(())
    }

    /// As the choice of a whole answer.
    fn whole(mut self, index: usize) -> Value {
        if !self.calls.is_empty() {
            self.message.insert("tool_calls".to_owned(), Value::Array(self.calls));
        }
        json!({"index": index, "message": self.message, "logprobs": self.logprobs, "finish_reason": self.finish})
    }
}

/// Whether the object of an event has the same key twice.
fn has_key_twice(data: &str) -> bool {
    matches!(weir::api::scan::Object::scan(data.as_bytes()), Err(weir::api::scan::Error::Duplicate(_)))
}

/// As the SDKs join deltas: text and lists grow, objects are joined, the rest is replaced.
fn join(into: &mut Value, more: &Value) {
    match (into, more) {
        (_, Value::Null) => {}
        (Value::String(old), Value::String(new)) => old.push_str(new),
        (Value::Array(old), Value::Array(new)) => old.extend(new.iter().cloned()),
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in new {
                join(old.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, value) => *into = value.clone(),
    }
}

/// A choice in the form in which two tellings of the same answer are equal: no difference between nothing and no text, ids
/// of our making by their order, arguments as what they mean.
pub fn meaning(choices: &[Value]) -> Value {
    let mut choices = Value::Array(choices.to_vec());
    for choice in choices.as_array_mut().into_iter().flatten() {
        if choice["logprobs"].is_null() {
            choice.as_object_mut().map(|fields| fields.shift_remove("logprobs"));
        }
        let Some(message) = choice["message"].as_object_mut() else { continue };
        message
            .retain(|name, value| name != "role" && !value.is_null() && value != "" && *value != json!([]));
        message.sort_keys();
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            let arguments = &mut call["function"]["arguments"];
            if let Ok(meant) = serde_json::from_str(arguments.as_str().unwrap_or_default()) {
                *arguments = meant;
            }
        }
    }
    serde_json::from_str(&crate::golden::comparable(&choices.to_string())).expect("JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A good stream of everything: thinking, text, two calls, usage.
    fn good() -> String {
        let chunk = |delta: Value, finish: Value| {
            let choices = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
            json!({"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "smart", "choices": choices, "usage": null})
        };
        let call = |index: u32, id: &str| json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": "f", "arguments": ""}}]});
        let more = |index: u32, text: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]});
        let mut usage = chunk(json!({}), Value::Null);
        usage["choices"] = json!([]);
        usage["usage"] = json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7});
        let chunks = [
            chunk(json!({"role": "assistant", "content": null, "reasoning_content": "hm"}), Value::Null),
            chunk(json!({"content": "Hello"}), Value::Null),
            chunk(call(0, "call_a"), Value::Null),
            chunk(more(0, "{\"x\":"), Value::Null),
            chunk(more(0, "1}"), Value::Null),
            chunk(call(1, "call_b"), Value::Null),
            chunk(more(1, "{}"), Value::Null),
            chunk(json!({}), json!("tool_calls")),
            usage,
        ];
        let events: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        format!(": keep-alive\n\n{events}data: [DONE]\n\n")
    }

    /// A bug: what it is called, and what it does to the events of a good stream.
    type Bug = (&'static str, fn(&mut Vec<String>));

    fn swap(events: &mut [String], at: usize, old: &str, new: &str) {
        assert!(events[at].contains(old), "{old} is not in {}", events[at]);
        events[at] = events[at].replacen(old, new, 1);
    }

    /// Seeded bugs, after those that gateways really had.
    #[rustfmt::skip]
    const BUGS: &[Bug] = &[
        ("the end mark is lost", |events| drop(events.pop())),
        ("the end mark comes twice", |events| events.push("data: [DONE]".into())),
        ("the end mark has a space behind it", |events| swap(events, 10, "[DONE]", "[DONE] ")),
        ("the usage is lost", |events| drop(events.remove(9))),
        ("the usage comes twice", |events| events.insert(10, events[9].clone())),
        ("the usage comes before the finish", |events| events.swap(8, 9)),
        ("the usage stands beside a choice", |events| { swap(events, 8, "\"usage\":null", "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}"); }),
        ("the total is off by one", |events| swap(events, 9, "\"total_tokens\":7", "\"total_tokens\":6")),
        ("a count is a text", |events| swap(events, 9, "\"prompt_tokens\":3", "\"prompt_tokens\":\"3\"")),
        ("a chunk follows the usage", |events| events.insert(10, events[2].clone())),
        ("the finish is lost", |events| drop(events.remove(8))),
        ("the finish comes twice", |events| events.insert(9, events[8].clone())),
        ("the finish carries content", |events| swap(events, 8, "\"delta\":{}", "\"delta\":{\"content\":\"x\"}")),
        ("text after the finish", |events| events.insert(9, events[2].clone())),
        ("a finish reason of the vendor's own", |events| swap(events, 8, "tool_calls", "end_turn")),
        ("calls, and yet stop", |events| swap(events, 8, "tool_calls", "stop")),
        ("the role is lost", |events| swap(events, 1, "\"role\":\"assistant\",", "")),
        ("the role comes twice", |events| swap(events, 2, "\"content\":", "\"role\":\"assistant\",\"content\":")),
        ("the first event is lost", |events| drop(events.remove(1))),
        ("a choice index from 1", |events| for event in events.iter_mut() { *event = event.replace("[{\"index\":0,\"delta\"", "[{\"index\":1,\"delta\""); }),
        ("call indices from 1", |events| for event in events.iter_mut() { *event = event.replace("[{\"index\":1,\"f", "[{\"index\":2,\"f").replace("[{\"index\":1,\"i", "[{\"index\":2,\"i").replace("\"tool_calls\":[{\"index\":0", "\"tool_calls\":[{\"index\":1"); }),
        ("both calls under index 0", |events| { swap(events, 6, "[{\"index\":1", "[{\"index\":0"); swap(events, 7, "[{\"index\":1", "[{\"index\":0"); }),
        ("a call without an index", |events| swap(events, 3, "\"tool_calls\":[{\"index\":0,", "\"tool_calls\":[{")),
        ("a call without an id", |events| swap(events, 3, "\"id\":\"call_a\",", "")),
        ("an empty id", |events| swap(events, 3, "call_a", "")),
        ("one id for both calls", |events| swap(events, 6, "call_b", "call_a")),
        ("a call without a type", |events| swap(events, 3, "\"type\":\"function\",", "")),
        ("a call without a name", |events| swap(events, 3, "\"name\":\"f\",", "")),
        ("the name comes with each fragment", |events| swap(events, 4, "{\"arguments\"", "{\"name\":\"f\",\"arguments\"")),
        ("the id comes with each fragment", |events| swap(events, 4, "\"function\"", "\"id\":\"call_a\",\"function\"")),
        ("arguments as an object", |events| swap(events, 7, "\"{}\"", "{}")),
        ("a fragment is lost", |events| drop(events.remove(5))),
        ("a fragment comes twice", |events| events.insert(5, events[4].clone())),
        ("fragments change places", |events| events.swap(4, 5)),
        ("a call without arguments", |events| drop(events.remove(7))),
        ("another id in one chunk", |events| swap(events, 2, "\"id\":\"c1\"", "\"id\":\"c2\"")),
        ("no id in one chunk", |events| swap(events, 2, "\"id\":\"c1\",", "")),
        ("another time in one chunk", |events| swap(events, 2, "\"created\":7", "\"created\":8")),
        ("the platform's model shows", |events| swap(events, 2, "smart", "gpt-5.4")),
        ("the object of a whole answer", |events| swap(events, 2, "chat.completion.chunk", "chat.completion")),
        ("no choices", |events| swap(events, 2, "\"choices\"", "\"choces\"")),
        ("choices: null", |events| { let at = events[9].find("[]").expect("a list"); events[9].replace_range(at..at + 2, "null"); }),
        ("no delta", |events| swap(events, 2, "\"delta\":{\"content\":\"Hello\"},", "")),
        ("no finish_reason", |events| swap(events, 2, ",\"finish_reason\":null", "")),
        ("content as a list", |events| swap(events, 2, "\"Hello\"", "[\"Hello\"]")),
        ("half an event", |events| { let half = events[2].len() / 2; events[2].truncate(half); }),
        ("two events run together", |events| { let next = events.remove(3); events[2].push_str(&next); }),
        ("an event over two lines", |events| swap(events, 2, ",\"object\"", ",\ndata: \"object\"")),
        ("an event with a name", |events| events[2].insert_str(0, "event: message\n")),
        ("an id that browsers keep", |events| events[2].insert_str(0, "id: 1\n")),
        ("an empty event", |events| events.insert(2, "data:".into())),
        ("a ping as data", |events| events.insert(2, "data: {\"type\":\"ping\"}".into())),
        ("CRLF", |events| events[2].push('\r')),
        ("an error and then the rest", |events| events.insert(5, "data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"param\":null,\"code\":null}}".into())),
        ("an error that is a text", |events| { events.truncate(5); events.push("data: {\"error\":\"broke\"}".into()); events.push("data: [DONE]".into()); }),
        ("an error behind a finished answer", |events| { events.remove(9); events.insert(9, "data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"param\":null,\"code\":null}}".into()); }),
    ];

    #[test]
    fn a_good_stream_is_good_and_every_seeded_bug_is_caught() {
        let good = good();
        let asked = Asked::of("smart", true);
        let seen = check(good.as_bytes(), asked).expect("good");
        assert_eq!(seen.choices[0]["message"]["tool_calls"][0]["function"]["arguments"], "{\"x\":1}");
        assert_eq!((seen.failed, seen.chunks), (false, 9));
        assert!(BUGS.len() > 50);
        for (name, bug) in BUGS {
            let mut events: Vec<String> = good.split_terminator("\n\n").map(str::to_owned).collect();
            bug(&mut events);
            let bad = events.join("\n\n") + "\n\n";
            assert_ne!(bad, good, "{name} changes nothing");
            assert!(check(bad.as_bytes(), asked).is_err(), "not caught: {name}\n{bad}");
        }
        let cut = good.strip_suffix("\n").expect("an empty line");
        assert!(check(cut.as_bytes(), asked).is_err(), "the last empty line is lost");
        assert!(check(good.as_bytes(), Asked::of("smart", false)).is_err(), "usage that nobody asked for");
    }
}
