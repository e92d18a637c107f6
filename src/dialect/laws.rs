//! What must hold for every wire, whatever it carries. Why here: a decoder is only as good as the worst cut of its bytes,
//! and each wire's tests should say in one line that it obeys.

use serde_json::{Map, Value, json};

use super::{Decoder, Dialect, Ending, Failure, Quirks};
use crate::api::assemble::Assembler;
use crate::api::piece::{Piece, Sink, Usage};
use crate::api::writer::{Naming, Writer};
use crate::sse;

/// The largest event that a test may hold.
const EVENT_LIMIT: usize = 1 << 20;

/// Everything that one reading of a stream gave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    /// Each piece as text, with ids that were minted replaced by their number.
    pub pieces: Vec<String>,
    pub end: Result<Ending, Failure>,
}

impl Reading {
    /// How many choices were finished.
    pub(crate) fn finishes(&self) -> usize {
        self.pieces.iter().filter(|piece| piece.starts_with("Finish")).count()
    }
}

/// Writes down every piece; ids that were minted are numbered.
#[derive(Debug, Default)]
pub(super) struct Record(pub Vec<String>, Vec<String>);

impl Sink for Record {
    fn piece(&mut self, piece: Piece<'_>) {
        let text = number_ids(&format!("{piece:?}"), &mut self.1);
        self.0.push(text);
    }
}

impl Record {
    /// Whether a choice was declared ended.
    pub(super) fn has_finish(&self) -> bool {
        self.0.iter().any(|piece| piece.starts_with("Finish"))
    }
}

/// Replaces each minted id (`call_` and 24 characters) by its order of appearance.
fn number_ids(text: &str, minted: &mut Vec<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("call_") {
        let len = rest[start + 5..].bytes().take_while(u8::is_ascii_alphanumeric).count();
        let id = &rest[start..start + 5 + len];
        out.push_str(&rest[..start]);
        if len == 24 {
            let position = minted.iter().position(|known| known == id).unwrap_or_else(|| {
                minted.push(id.to_owned());
                minted.len() - 1
            });
            out.push_str(&format!("call_#{position}"));
        } else {
            out.push_str(id);
        }
        rest = &rest[start + 5 + len..];
    }
    out.push_str(rest);
    out
}

/// Reads `chunks` as the relay does: event by event, up to the wire's own end.
fn feed<'a>(
    mut decoder: Decoder,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    sink: &mut dyn Sink,
) -> Result<Ending, Failure> {
    let mut events = sse::Decoder::new(EVENT_LIMIT);
    for chunk in chunks {
        events.feed(chunk);
        while let Some(event) = events.next().expect("no event is too long") {
            if decoder.is_done() {
                break;
            }
            decoder.push(event, sink)?;
        }
    }
    Ok(decoder.finish(sink))
}

fn plain(dialect: Dialect) -> Decoder {
    Decoder::new(dialect, Quirks::default())
}

/// One reading of `chunks`.
pub(crate) fn read<'a>(dialect: Dialect, chunks: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    let mut record = Record::default();
    let end = feed(plain(dialect), chunks, &mut record);
    Reading { pieces: record.0, end }
}

/// The laws of streams, for a stream that is written with LF:
/// 1. Any cut of the bytes, any kind of line end and a byte order mark give the same pieces.
/// 2. A stream that ends early is cut, or it is complete; one that is cut has no finish, and what is complete stays so.
/// 3. The writer's stream, put together as an SDK does, is the assembler's answer.
pub(crate) fn law(dialect: Dialect, stream: &[u8]) {
    let whole = read(dialect, [stream]);
    for cut in 0..=stream.len() {
        let (left, right) = stream.split_at(cut);
        assert_eq!(read(dialect, [left, right]), whole, "cut at {cut}");
    }
    assert_eq!(read(dialect, stream.chunks(1)), whole, "byte by byte");
    let text = std::str::from_utf8(stream).expect("UTF-8");
    for ends in ["\r\n", "\r"] {
        assert_eq!(read(dialect, [text.replace('\n', ends).as_bytes()]), whole, "line ends {ends:?}");
    }
    assert_eq!(
        read(dialect, [format!("\u{FEFF}: hi\n\n{text}").as_bytes()]),
        whole,
        "byte order mark and comment"
    );
    let mut is_over = false;
    for len in 0..=stream.len() {
        let part = read(dialect, [&stream[..len]]);
        match part.end {
            Ok(Ending::Cut) => {
                assert!(!is_over, "complete before, and cut at {len}");
                assert_eq!(part.finishes(), 0, "cut at {len}, and yet finished: {:?}", part.pieces);
            }
            Ok(Ending::Complete) => {
                assert!(len > 0, "nothing is a complete answer");
                is_over = true;
            }
            Err(_) => assert_eq!(part.end, whole.end, "failed at {len}"),
        }
    }
    if whole.end == Ok(Ending::Complete) {
        assert_eq!(written(dialect, stream), streamed(dialect, stream));
    }
}

/// The law of whole answers: half a body is no answer.
pub(crate) fn whole_law(dialect: Dialect, body: &[u8]) {
    assert!(whole(dialect, body).is_ok());
    for len in 0..body.len() {
        assert!(whole(dialect, &body[..len]).is_err(), "an answer of {len} bytes");
    }
}

/// Whatever a peer sends, a decoder says so and does not panic. `words` are what the wire's events are made of: each is
/// put where another was.
pub(crate) fn nonsense_law(dialect: Dialect, stream: &[u8], words: &[&str]) {
    let text = std::str::from_utf8(stream).expect("UTF-8");
    for old in words {
        for new in
            words.iter().chain(&["null", "5", "[]", "{}", "\"\"", "[null]", "1e999", "-1", "\"\\ud800\""])
        {
            let _ = read(dialect, [text.replace(old, new).as_bytes()]);
            for event in text.split("data: ").skip(1) {
                let _ = whole(dialect, event.replace(old, new).as_bytes());
            }
        }
    }
}

fn naming() -> Naming {
    Naming { model: "smart".into(), created: 7, ..Naming::default() }
}

/// A stream's answer, assembled.
pub(crate) fn streamed(dialect: Dialect, stream: &[u8]) -> Value {
    let mut sink = Assembler::new(naming());
    assert_eq!(feed(plain(dialect), [stream], &mut sink), Ok(Ending::Complete));
    without_minted_ids(sink.into_json(Usage::default()))
}

/// A whole answer.
pub(crate) fn whole(dialect: Dialect, body: &[u8]) -> Result<Value, Failure> {
    let mut sink = Assembler::new(naming());
    plain(dialect).whole(body, &mut sink)?;
    Ok(without_minted_ids(sink.into_json(Usage::default())))
}

/// A streamed answer and a whole one must say the same (a call's arguments may be spaced otherwise).
pub(crate) fn same_answer(dialect: Dialect, stream: &[u8], body: &[u8]) {
    let spaceless = |mut answer: Value| {
        for choice in answer["choices"].as_array_mut().expect("choices") {
            for call in choice["message"]["tool_calls"].as_array_mut().into_iter().flatten() {
                let arguments = call["function"]["arguments"].as_str().expect("text");
                call["function"]["arguments"] = serde_json::from_str(arguments).expect("JSON");
            }
        }
        answer
    };
    assert_eq!(spaceless(streamed(dialect, stream)), spaceless(whole(dialect, body).expect("whole")));
}

/// The answer with ids of our making made comparable.
fn without_minted_ids(mut answer: Value) -> Value {
    if answer["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-") && id.len() == 9 + 29) {
        answer["id"] = json!("chatcmpl-#");
    }
    serde_json::from_str(&number_ids(&answer.to_string(), &mut Vec::new())).expect("JSON")
}

/// A stream's answer as OpenAI's SDKs would put it together from what the caller gets.
pub(crate) fn written(dialect: Dialect, stream: &[u8]) -> Value {
    let mut writer = Writer::new(naming(), true);
    assert_eq!(feed(plain(dialect), [stream], &mut writer), Ok(Ending::Complete));
    writer.end(Usage::default());
    let text = String::from_utf8(writer.take().to_vec()).expect("UTF-8");
    let mut answer = json!({});
    let mut choices: Vec<Value> = Vec::new();
    let events: Vec<&str> = text.split_terminator("\n\n").collect();
    let (done, chunks) = events.split_last().expect("an end mark");
    assert_eq!(*done, "data: [DONE]");
    for chunk in chunks {
        let chunk: Value =
            serde_json::from_str(chunk.strip_prefix("data: ").expect("data only")).expect("JSON");
        for name in ["id", "created", "model"] {
            answer[name] = chunk[name].clone();
        }
        if !chunk["usage"].is_null() {
            answer["usage"] = chunk["usage"].clone();
        }
        for part in chunk["choices"].as_array().expect("choices") {
            let index = usize::try_from(part["index"].as_u64().expect("index")).expect("small");
            while choices.len() <= index {
                choices.push(json!({"index": choices.len(), "message": {"content": null, "refusal": null}, "logprobs": null, "finish_reason": null}));
            }
            take_delta(&mut choices[index], part);
        }
    }
    answer["object"] = json!("chat.completion");
    answer["choices"] = Value::Array(choices);
    without_minted_ids(answer)
}

fn take_delta(choice: &mut Value, part: &Value) {
    assert!(choice["finish_reason"].is_null(), "a delta after the finish: {part}");
    choice["finish_reason"] = part["finish_reason"].clone();
    if let Some(logprobs) = part["logprobs"].as_object() {
        let mut joined = choice["logprobs"].as_object().cloned().unwrap_or_default();
        join(&mut joined, logprobs);
        choice["logprobs"] = Value::Object(joined);
    }
    let mut delta = part["delta"].as_object().expect("delta").clone();
    let message = choice["message"].as_object_mut().expect("message");
    if let Some(role) = delta.remove("role") {
        assert!(message.insert("role".into(), role).is_none(), "the role twice");
    }
    for call in delta.remove("tool_calls").and_then(|calls| calls.as_array().cloned()).unwrap_or_default() {
        take_call(message, &call);
    }
    join(message, &delta);
}

fn take_call(message: &mut Map<String, Value>, call: &Value) {
    let calls = message.entry("tool_calls").or_insert_with(|| json!([])).as_array_mut().expect("calls");
    let index = usize::try_from(call["index"].as_u64().expect("index")).expect("small");
    assert!(index <= calls.len(), "indices are dense");
    if index == calls.len() {
        let mut call = call.clone();
        call.as_object_mut().expect("call").shift_remove("index");
        assert!(call["id"].is_string() && call["type"] == "function" && call["function"]["name"].is_string());
        return calls.push(call);
    }
    assert!(call.get("id").is_none() && call["function"].get("name").is_none(), "id and name come once");
    let more = call["function"]["arguments"].as_str().expect("text");
    let so_far = calls[index]["function"]["arguments"].as_str().expect("text").to_owned();
    calls[index]["function"]["arguments"] = json!(so_far + more);
}

/// As the SDKs: text and lists grow, objects are joined, the rest is replaced.
fn join(into: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (name, value) in more {
        match (into.get_mut(name), value) {
            (Some(Value::String(old)), Value::String(new)) => old.push_str(new),
            (Some(Value::Array(old)), Value::Array(new)) => old.extend(new.iter().cloned()),
            (Some(Value::Object(old)), Value::Object(new)) => join(old, new),
            (Some(_), Value::Null) => {}
            (_, value) => {
                into.insert(name.clone(), value.clone());
            }
        }
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
        feed(self.decoder(), parts.iter().copied(), sink)
    }

    fn decoder(self) -> Decoder {
        Decoder::new(self.dialect, self.quirks)
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
        self.decoder().whole(body.as_bytes(), &mut whole)?;
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
        let mut decoder = self.decoder();
        let mut record = Record::default();
        drop(decoder.whole(json.as_bytes(), &mut record));
        let mut decoder = self.decoder();
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
