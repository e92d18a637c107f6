//! How wires are put to the test: what an encoder is asked, and samples with something wrong in them. What must hold of a
//! decoder's answers stands in [`laws`](super::laws).

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Encoded, Job, NoRecall, Quirk, Unsupported};
use crate::api::ask::Ask;
use crate::api::chat::ChatRequest;

fn replace(value: &mut Value, countdown: &mut usize, with: &Value) {
    if *countdown == 0 {
        *value = with.clone();
        *countdown = usize::MAX;
        return;
    }
    *countdown -= 1;
    match value {
        Value::Array(list) => list.iter_mut().for_each(|inner| replace(inner, countdown, with)),
        Value::Object(map) => map.values_mut().for_each(|inner| replace(inner, countdown, with)),
        _ => {}
    }
}

/// One of the samples with one to three of its values replaced by something else.
pub(super) fn mutated(samples: Vec<String>) -> impl Strategy<Value = String> {
    let odd = prop_oneof![
        Just(Value::Null),
        Just(json!(true)),
        Just(json!(-1)),
        Just(json!(0)),
        Just(json!(1e30)),
        Just(json!(4_294_967_296_u64)),
        Just(json!("")),
        Just(json!("null")),
        Just(json!("10014")),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null, 1, "x", {"index": 127, "text": "t"}])),
        Just(json!({"index": 3, "id": "i", "name": 5, "function": {"name": "f", "arguments": {"a": 1}}})),
    ];
    let swaps = prop::collection::vec((0usize..60, odd), 1..4);
    (prop::sample::select(samples), swaps).prop_map(|(sample, swaps)| {
        let mut value: Value = serde_json::from_str(&sample).expect("the sample is JSON");
        for (mut at, with) in swaps {
            replace(&mut value, &mut at, &with);
        }
        value.to_string()
    })
}

/// What an encoder is asked in a test.
#[derive(Clone)]
pub(super) struct Order {
    pub model: &'static str,
    pub stream: bool,
    pub unsupported: Unsupported,
    pub quirks: Vec<Quirk>,
    pub max_output: Option<u64>,
}

impl Order {
    /// For `model`: a stream, what is unsupported is refused, no quirks.
    pub(super) fn of(model: &'static str) -> Self {
        Self { model, stream: true, unsupported: Unsupported::Reject, quirks: Vec::new(), max_output: None }
    }

    pub(super) fn with(mut self, quirk: Quirk) -> Self {
        self.quirks.push(quirk);
        self
    }

    pub(super) fn dropping(mut self) -> Self {
        self.unsupported = Unsupported::Drop;
        self
    }

    pub(super) fn job(&self) -> Job<'_> {
        Job {
            model: self.model,
            stream: self.stream,
            unsupported: self.unsupported,
            quirks: self.quirks.iter().copied().collect(),
            max_output: self.max_output,
            recall: &NoRecall,
        }
    }
}

/// A caller's request: `fields` with a model, and one user message where it names none.
pub(super) fn request(mut fields: Value) -> ChatRequest<'static> {
    fields["model"] = json!("public-name");
    if fields.get("messages").is_none() {
        fields["messages"] = json!([{"role": "user", "content": "Hi"}]);
    }
    let ask = Ask::chat(fields.to_string().into()).expect("a valid ask");
    ChatRequest::parse(Box::leak(Box::new(ask))).expect("a valid request")
}

/// The body of an encoded request.
pub(super) fn body(encoded: &Encoded) -> Value {
    serde_json::from_slice(&encoded.body).expect("JSON")
}

/// A history with two parallel calls, answered out of order.
pub(super) fn parallel_history() -> Value {
    json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather"}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": "Looking.", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "b", "content": "from g"},
        {"role": "tool", "tool_call_id": "a", "content": "from f"},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "So?"},
    ])
}
