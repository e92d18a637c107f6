//! How the OpenAI-like and the older Chinese wires are put to the test: the same laws for each, whatever its samples.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Decoder, Dialect, Encoded, Ending, Failure, Job, NoRecall, Quirk, Quirks, Unsupported};
use crate::api::ask::Ask;
use crate::api::assemble::Assembler;
use crate::api::chat::ChatRequest;
use crate::api::piece::{Piece, Sink, Usage};
use crate::api::writer::Naming;
use crate::sse;

/// Writes down what arrives.
#[derive(Debug, Default)]
pub(super) struct Record(pub Vec<String>);

impl Sink for Record {
    fn piece(&mut self, piece: Piece<'_>) {
        self.0.push(format!("{piece:?}"));
    }
}

impl Record {
    /// Whether a choice was declared ended.
    pub(super) fn has_finish(&self) -> bool {
        self.0.iter().any(|piece| piece.starts_with("Finish"))
    }
}

/// One wire with its quirks, and how its bytes are framed.
#[derive(Clone, Copy)]
pub(super) struct Wire {
    pub dialect: Dialect,
    pub quirks: Quirks,
}

impl Wire {
    /// Feeds the stream piece by piece.
    pub(super) fn stream(self, parts: &[&[u8]], sink: &mut dyn Sink) -> Result<Ending, Failure> {
        let mut framing = sse::Decoder::new(1 << 20);
        let mut decoder = Decoder::new(self.dialect, self.quirks);
        for part in parts {
            framing.feed(part);
            while let Some(event) = framing.next().expect("within the limit") {
                if decoder.is_done() {
                    break;
                }
                decoder.push(event, sink)?;
            }
        }
        Ok(decoder.finish(sink))
    }

    /// The pieces of a stream, and how it ended.
    pub(super) fn pieces(self, stream: &str) -> (Vec<String>, Result<Ending, Failure>) {
        let mut record = Record::default();
        let ending = self.stream(&[stream.as_bytes()], &mut record);
        (record.0, ending)
    }

    /// The answer that a stream amounts to.
    pub(super) fn assembled(self, stream: &str) -> Value {
        let mut whole = assembler();
        assert_eq!(self.stream(&[stream.as_bytes()], &mut whole), Ok(Ending::Complete));
        assert!(whole.is_finished());
        whole.into_json(Usage::default())
    }

    /// A whole answer, read and written anew.
    pub(super) fn whole(self, body: &str) -> Result<Value, Failure> {
        let mut whole = assembler();
        Decoder::new(self.dialect, self.quirks).whole(body.as_bytes(), &mut whole)?;
        assert!(whole.is_finished());
        Ok(whole.into_json(Usage::default()))
    }

    /// Law: wherever the bytes are cut, the same pieces come out.
    pub(super) fn any_cut_gives_the_same(self, stream: &str) {
        let (whole, ending) = self.pieces(stream);
        for cut in 0..=stream.len() {
            let (left, right) = stream.as_bytes().split_at(cut);
            let mut record = Record::default();
            assert_eq!(self.stream(&[left, right], &mut record), ending, "cut at {cut}");
            assert_eq!(record.0, whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        let mut record = Record::default();
        assert_eq!(self.stream(&single, &mut record), ending);
        assert_eq!(record.0, whole);
    }

    /// Law: a stream that stops before its `complete_after`th event was cut, and no finish is invented for it.
    pub(super) fn cut_short_is_never_finished(self, stream: &str, complete_after: usize) {
        let events: Vec<&str> = stream.split_inclusive("\n\n").collect();
        assert!(complete_after <= events.len());
        for count in 0..=events.len() {
            let mut record = Record::default();
            let ending = self.stream(&[events[..count].concat().as_bytes()], &mut record);
            if count < complete_after {
                assert_eq!(ending, Ok(Ending::Cut), "{count} events");
                assert!(!record.has_finish(), "{count} events: {:?}", record.0);
            } else {
                assert_eq!(ending, Ok(Ending::Complete), "{count} events");
                assert!(record.has_finish());
            }
        }
    }

    /// Law: whatever JSON a platform sends, we answer or refuse; we never panic. Fed as a whole answer and as an event.
    pub(super) fn swallow(self, json: &str) {
        let mut decoder = Decoder::new(self.dialect, self.quirks);
        let mut record = Record::default();
        drop(decoder.whole(json.as_bytes(), &mut record));
        let mut decoder = Decoder::new(self.dialect, self.quirks);
        let event = sse::Event { name: b"", data: json.as_bytes() };
        let mut whole = assembler();
        drop((decoder.push(event, &mut whole), decoder.push(event, &mut whole)));
        decoder.finish(&mut whole);
        drop(whole.into_json(Usage::default()));
    }
}

/// An assembler with fixed naming, so that answers can be compared.
pub(super) fn assembler() -> Assembler {
    Assembler::new(Naming { model: "m".into(), created: 7, ..Naming::default() })
}

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
pub(super) fn request(mut fields: Value) -> ChatRequest {
    fields["model"] = json!("public-name");
    if fields.get("messages").is_none() {
        fields["messages"] = json!([{"role": "user", "content": "Hi"}]);
    }
    let ask = Ask::chat(fields.to_string().into()).expect("a valid ask");
    ChatRequest::parse(&ask).expect("a valid request")
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
