//! OpenAI to OpenAI: events and answers passed on as they came, with the model's name put back and usage shown only to
//! those who asked. Why apart from [`super::openai`]: that one understands an answer and writes it anew; this one only
//! looks where it must, which is several times cheaper, and is right for platforms whose answers need no mending.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde_json::Value;

use super::{Ending, Failure};
use crate::api::piece::Usage;
use crate::api::scan::{self, Object, Rewriter};
use crate::api::writer::DONE;
use crate::sse::Event;

/// Bytes of `choices` in a chunk that are not the text it brings, about.
const CHOICE_FRAME: u64 = 60;

const FINISH_KEY: &[u8] = b"\"finish_reason\"";

/// Passes one stream on.
#[derive(Debug)]
pub struct Splicer {
    /// What `model` says to the caller, as quoted JSON; `None` keeps the platform's own name.
    model: Option<Vec<u8>>,
    shows_usage: bool,
    choices: u32,
    finished: u32,
    done: bool,
    /// Which choices have finished, where there are several: a bit for each of the first 128.
    ended: u128,
    text_bytes: u64,
    /// Bytes of `choices` in this stream's chunks that are not text, once a chunk with text has shown them.
    frame: Option<u64>,
    usage: Option<Usage>,
    /// What had been passed on when the platform last spoke of usage.
    usage_at: u64,
    /// Usage has been passed on to the caller.
    usage_told: bool,
    /// How the answer is named, for a chunk of ours.
    head: Vec<u8>,
    /// Made once: making it costs more than a search in one event.
    finish_key: memmem::Finder<'static>,
}

impl Splicer {
    /// For an answer with `choices` choices. `model` is the name to show; `shows_usage` what the caller asked for.
    pub fn new(model: Option<&str>, shows_usage: bool, choices: u32) -> Self {
        let model = model.map(|model| Value::from(model).to_string().into_bytes());
        let finish_key = memmem::Finder::new(FINISH_KEY);
        Self {
            model,
            shows_usage,
            choices,
            finished: 0,
            done: false,
            ended: 0,
            text_bytes: 0,
            frame: None,
            usage: None,
            usage_at: 0,
            usage_told: false,
            head: Vec::new(),
            finish_key,
        }
    }

    /// What the platform said of tokens so far.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Bytes of text passed on so far, about: what an estimate is made from where the platform names no usage.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Those of [`Self::text_bytes`] that its usage does not cover: they came after it.
    pub fn bytes_since_usage(&self) -> u64 {
        self.text_bytes - self.usage_at
    }

    /// Whether the end mark has come.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// How the stream stood when its bytes ended. An end mark alone ends nothing: a caller who got no finish reason cannot
    /// tell a whole answer from a broken one (a row with the quirk `normalise` says that it does, and mends it). With one,
    /// it also ends the choices that a platform never began because it does not know `n`.
    pub fn ending(&self) -> Ending {
        let ended = self.finished >= self.choices || (self.done && self.finished > 0);
        if ended { Ending::Complete } else { Ending::Cut }
    }

    /// Ends a complete answer: usage where it was asked for and has not come (`fallback` stands in where the platform
    /// named none), then the end mark.
    pub fn end(&mut self, fallback: Usage, out: &mut BytesMut) {
        if self.shows_usage && !std::mem::replace(&mut self.usage_told, true) {
            let usage = self.usage.unwrap_or(fallback).to_json().to_string();
            out.extend_from_slice(b"data: {");
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"\"choices\":[],\"usage\":");
            out.extend_from_slice(usage.as_bytes());
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(DONE);
    }

    /// Ends the answer here, though the platform would go on: every choice that is still open ends in `length`; then usage
    /// (`told`) for a caller who asked for it, and the end mark.
    pub fn cut(&mut self, told: Usage, out: &mut BytesMut) {
        let is_open = |index: &u32| self.choices == 1 || *index >= 128 || self.ended & (1 << index) == 0;
        for index in (0..self.choices).filter(is_open) {
            out.extend_from_slice(b"data: {");
            out.extend_from_slice(&self.head);
            let end = format!(r#""choices":[{{"index":{index},"delta":{{}},"finish_reason":"length"}}]"#);
            out.extend_from_slice(end.as_bytes());
            out.extend_from_slice(if self.shows_usage { b",\"usage\":null}\n\n" } else { b"}\n\n" });
        }
        self.usage = Some(told);
        self.usage_told = false;
        self.end(told, out);
    }

    /// Passes one event on into `out`.
    ///
    /// # Errors
    /// [`Failure`] where the event is an error report or no JSON object; nothing has been written then.
    pub fn push(&mut self, event: Event<'_>, out: &mut BytesMut) -> Result<(), Failure> {
        if event.is_done() {
            self.done = true;
            return Ok(());
        }
        let data = event.data;
        if data.is_empty() {
            // A ping by another name.
            return Ok(());
        }
        let object = Object::scan(data).map_err(|wrong| Failure::Malformed(wrong.to_string()))?;
        refuse_error(&object, data)?;
        // A ping object without choices would crash an SDK's helper.
        let Some(choices) = object.get(data, "choices").filter(|raw| raw.first() == Some(&b'[')) else {
            return Ok(());
        };
        let has_usage = self.note_usage(&object, data);
        let is_bare = choices == b"[]";
        if is_bare && has_usage && !self.shows_usage {
            self.usage_at = self.text_bytes;
            return Ok(());
        }
        let finishes = count_finishes(choices, &self.finish_key);
        self.finished += finishes;
        if finishes > 0 && self.choices > 1 {
            self.ended |= ended(choices);
        }
        self.usage_told |= has_usage && self.shows_usage;
        if self.head.is_empty() {
            self.head = naming(&object, data, self.model.as_deref());
        }
        self.weigh(choices);
        if has_usage {
            self.usage_at = self.text_bytes;
        }
        out.extend_from_slice(b"data: ");
        let from = out.len();
        if has_usage && !self.shows_usage {
            out.extend_from_slice(&rewrite(&object, data, self.model.as_deref(), &["usage"]));
        } else {
            splice_model(&object, data, self.model.as_deref(), out);
        }
        flatten_lines(out, from);
        out.extend_from_slice(b"\n\n");
        Ok(())
    }

    /// Adds the text in `choices`, by its bytes.
    fn weigh(&mut self, choices: &[u8]) {
        let length = choices.len() as u64;
        if self.frame.is_none() {
            self.frame = content_bytes(choices).map(|text| length.saturating_sub(text));
        }
        self.text_bytes += length.saturating_sub(self.frame.unwrap_or(CHOICE_FRAME)).max(1);
    }

    fn note_usage(&mut self, object: &Object, data: &[u8]) -> bool {
        let Some(raw) = object.get(data, "usage").filter(|raw| !scan::is_null(raw)) else { return false };
        let usage = Usage::read(raw);
        if let Some(usage) = usage {
            self.usage.get_or_insert_default().update(usage);
        }
        true
    }
}

fn refuse_error(object: &Object, data: &[u8]) -> Result<(), Failure> {
    match object.get(data, "error") {
        Some(raw) if !scan::is_null(raw) && raw != b"false" && raw != b"\"\"" => {
            Err(Failure::Reported(data.to_vec()))
        }
        _ => Ok(()),
    }
}

/// How many choices end here. Text cannot fake one: a quote inside a JSON string is always escaped.
fn count_finishes(choices: &[u8], key: &memmem::Finder<'_>) -> u32 {
    let mut finishes = 0;
    for at in key.find_iter(choices) {
        let rest = choices.get(at + FINISH_KEY.len()..).unwrap_or_default();
        let mut rest = rest.iter().filter(|byte| !byte.is_ascii_whitespace());
        // An empty reason is one-api's word for none.
        if rest.next() == Some(&b':') && rest.next() == Some(&b'"') && rest.next() != Some(&b'"') {
            finishes += 1;
        }
    }
    finishes
}

/// Which choices end here, a bit for each.
fn ended(choices: &[u8]) -> u128 {
    let choices: Vec<Value> = serde_json::from_slice(choices).unwrap_or_default();
    let ends =
        choices.iter().filter(|choice| choice["finish_reason"].as_str().is_some_and(|why| !why.is_empty()));
    ends.filter_map(|choice| choice["index"].as_u64())
        .filter(|index| *index < 128)
        .fold(0, |bits, index| bits | 1 << index)
}

/// Bytes of the text that `choices` bring, where they bring any.
fn content_bytes(choices: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"content\":\"";
    let text = choices.get(memmem::find(choices, KEY)? + KEY.len()..)?;
    let mut is_escaped = false;
    let end = text.iter().position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    });
    end.filter(|length| *length > 0).map(|length| length as u64)
}

fn splice_model(object: &Object, data: &[u8], model: Option<&[u8]>, out: &mut BytesMut) {
    let range = object.range(data, "model");
    match (model, range) {
        (Some(model), Some(range)) => {
            out.extend_from_slice(data.get(..range.start).unwrap_or_default());
            out.extend_from_slice(model);
            out.extend_from_slice(data.get(range.end..).unwrap_or_default());
        }
        _ => out.extend_from_slice(data),
    }
}

/// Fields with which every chunk of an answer begins, for a chunk of our own.
fn naming(object: &Object, data: &[u8], model: Option<&[u8]>) -> Vec<u8> {
    let mut head = Vec::with_capacity(160);
    for name in ["id", "object", "created", "model"] {
        let raw = object.get(data, name).filter(|raw| !raw.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
        if let Some(raw) = if name == "model" { model.or(raw) } else { raw } {
            head.push(b'"');
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b"\":");
            head.extend_from_slice(raw);
            head.push(b',');
        }
    }
    head
}

fn rewrite(object: &Object, data: &[u8], model: Option<&[u8]>, without: &[&str]) -> Vec<u8> {
    let mut again = Rewriter::new(data.len());
    for (name, written, raw) in object.iter(data) {
        match model {
            _ if without.contains(&name.as_ref()) => {}
            Some(model) if name == "model" => again.copy(written, model),
            _ => again.copy(written, raw),
        }
    }
    again.finish()
}

/// One event is one `data:` line: line ends between JSON tokens become spaces.
fn flatten_lines(out: &mut BytesMut, from: usize) {
    let written = out.get_mut(from..).unwrap_or_default();
    if memchr::memchr2(b'\n', b'\r', written).is_some() {
        for byte in written.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
    }
}

/// Passes a whole answer on, with what a scan of it gave: the bytes for the caller and what the platform said of tokens.
///
/// # Errors
/// [`Failure`] where the answer is an error, is cut, or holds no choice.
pub fn whole(
    body: Bytes,
    scanned: Result<Object, scan::Error>,
    model: Option<&str>,
) -> Result<(Bytes, Option<Usage>), Failure> {
    let object = scanned.map_err(|wrong| Failure::Malformed(wrong.to_string()))?;
    refuse_error(&object, &body)?;
    match object.get(&body, "choices") {
        Some(choices)
            if choices.first() == Some(&b'[') && !choices.iter().all(|b| b"[] \r\n\t".contains(b)) => {}
        _ => return Err(Failure::Malformed("an answer without choices".into())),
    }
    let usage = object.get(&body, "usage").and_then(Usage::read);
    let quoted = model.map(|model| Value::from(model).to_string().into_bytes());
    let same = object.get(&body, "model") == quoted.as_deref();
    if quoted.is_none() || same {
        return Ok((body, usage));
    }
    let mut out = BytesMut::with_capacity(body.len() + 64);
    splice_model(&object, &body, quoted.as_deref(), &mut out);
    Ok((out.freeze(), usage))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(splicer: &mut Splicer, events: &[&str]) -> Result<String, Failure> {
        let mut out = BytesMut::new();
        for event in events {
            splicer.push(Event { name: b"", data: event.as_bytes() }, &mut out)?;
        }
        Ok(String::from_utf8(out.to_vec()).expect("utf-8"))
    }

    #[test]
    fn puts_the_callers_model_back_and_changes_nothing_else() {
        let mut splicer = Splicer::new(Some("smart"), false, 1);
        let event = r#"{"id":"x","model":"gpt-5","choices":[{"index":0,"delta":{"content":"\"model\":\"gpt-5\""},"finish_reason":null}],"odd":[1, 2]}"#;
        let out = run(&mut splicer, &[event]).expect("fine");
        assert_eq!(out, format!("data: {}\n\n", event.replacen("gpt-5", "smart", 1)));
        assert_eq!(splicer.ending(), Ending::Cut);
    }

    #[test]
    fn usage_is_noted_always_and_shown_only_when_asked_for() {
        let events = [
            r#"{"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
            r#"{"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
            "[DONE]",
        ];
        for shows in [false, true] {
            let mut splicer = Splicer::new(None, shows, 1);
            let out = run(&mut splicer, &events).expect("fine");
            assert_eq!(out.matches("data: ").count(), if shows { 2 } else { 1 });
            assert_eq!(splicer.usage().map(|usage| usage.total()), Some(7));
            assert!(splicer.is_done());
            assert_eq!(splicer.ending(), Ending::Complete);
        }
    }

    #[test]
    fn usage_that_was_asked_for_and_never_came_is_told_by_estimate() {
        let finish = r#"{"id":"x","object":"chat.completion.chunk","created":7,"model":"gpt-5","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
        let bare = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
        let guess = Usage { prompt: Some(5), completion: Some(6), ..Usage::default() };
        let end = |shows: bool, events: &[&str]| {
            let mut splicer = Splicer::new(Some("smart"), shows, 1);
            run(&mut splicer, events).expect("fine");
            let mut out = BytesMut::new();
            splicer.end(guess, &mut out);
            String::from_utf8(out.to_vec()).expect("utf-8")
        };
        assert_eq!(end(false, &[finish]), "data: [DONE]\n\n");
        assert_eq!(end(true, &[finish, bare]), "data: [DONE]\n\n");
        let told = end(true, &[finish]);
        let chunk = told.strip_suffix("\n\ndata: [DONE]\n\n").and_then(|told| told.strip_prefix("data: "));
        let chunk: Value = serde_json::from_str(chunk.expect("a chunk")).expect("json");
        assert_eq!(
            (&chunk["id"], &chunk["object"], &chunk["created"], &chunk["model"], &chunk["choices"]),
            (&"x".into(), &"chat.completion.chunk".into(), &7.into(), &"smart".into(), &Value::Array(vec![]))
        );
        assert_eq!(
            (&chunk["usage"]["prompt_tokens"], &chunk["usage"]["total_tokens"]),
            (&5.into(), &11.into())
        );
    }

    #[test]
    fn what_is_cut_ends_in_length_for_every_open_choice() {
        let chunk = |index: u32, rest: &str| {
            format!(
                r#"{{"id":"x","object":"chat.completion.chunk","created":7,"model":"gpt-5","choices":[{{"index":{index},{rest}}}]}}"#
            )
        };
        let text = |index| chunk(index, r#""delta":{"content":"a"},"finish_reason":null"#);
        let stop = |index| chunk(index, r#""delta":{},"finish_reason":"stop""#);
        let told = Usage { prompt: Some(5), completion: Some(6), ..Usage::default() };
        for (choices, events, shows, open) in [
            (1, vec![text(0)], false, vec![0]),
            (1, vec![text(0)], true, vec![0]),
            (3, vec![text(0), text(1), stop(1), text(2)], true, vec![0, 2]),
        ] {
            let mut splicer = Splicer::new(Some("smart"), shows, choices);
            run(&mut splicer, &events.iter().map(String::as_str).collect::<Vec<_>>()).expect("fine");
            let mut out = BytesMut::new();
            splicer.cut(told, &mut out);
            let out = String::from_utf8(out.to_vec()).expect("utf-8");
            let out = out.strip_suffix("data: [DONE]\n\n").expect("an end mark");
            let chunks: Vec<Value> = out
                .split_terminator("\n\n")
                .map(|event| serde_json::from_str(event.strip_prefix("data: ").expect("data")).expect("json"))
                .collect();
            let (ends, usage): (Vec<&Value>, Vec<&Value>) =
                chunks.iter().partition(|chunk| chunk["choices"] != serde_json::json!([]));
            let ended: Vec<u64> =
                ends.iter().filter_map(|chunk| chunk["choices"][0]["index"].as_u64()).collect();
            assert_eq!(ended, open);
            assert!(ends.iter().all(|chunk| chunk["choices"][0]["finish_reason"] == "length"));
            assert!(chunks.iter().all(|chunk| chunk["model"] == "smart" && chunk["id"] == "x"));
            assert_eq!(usage.len(), usize::from(shows));
            assert!(usage.iter().all(|chunk| chunk["usage"]["total_tokens"] == 11), "{out}");
        }
    }

    #[test]
    fn text_weighs_its_own_bytes_whatever_stands_around_it() {
        for around in ["", r#""logprobs":null,"#, r#""logprobs":null,"content_filter_results":{},"#] {
            let event = |text: &str| {
                format!(
                    r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}},{around}"finish_reason":null}}]}}"#
                )
            };
            let events: Vec<String> = (0..100).map(|_| event(" word\\n")).collect();
            let mut splicer = Splicer::new(None, false, 1);
            run(&mut splicer, &events.iter().map(String::as_str).collect::<Vec<_>>()).expect("fine");
            assert_eq!(splicer.text_bytes(), 700, "{around}");
        }
    }

    #[test]
    fn usage_covers_what_came_before_it() {
        let text = r#"{"choices":[{"index":0,"delta":{"content":"abcd"},"finish_reason":null}]}"#;
        let with_usage =
            r#"{"choices":[{"index":0,"delta":{"content":"abcd"}}],"usage":{"completion_tokens":2}}"#;
        let mut splicer = Splicer::new(None, false, 1);
        run(&mut splicer, &[text, with_usage]).expect("fine");
        assert_eq!(splicer.bytes_since_usage(), 0);
        run(&mut splicer, &[text]).expect("fine");
        assert_eq!(splicer.bytes_since_usage(), 4);
    }

    #[test]
    fn an_end_mark_without_a_finish_reason_ends_nothing() {
        let text = r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#;
        let finish = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
        for (choices, events, ending) in [
            (1, &[text, "[DONE]"][..], Ending::Cut),
            (1, &[text, finish, "[DONE]"], Ending::Complete),
            (1, &[text, finish], Ending::Complete),
            (2, &[text, finish, "[DONE]"], Ending::Complete),
            (2, &[text, finish], Ending::Cut),
        ] {
            let mut splicer = Splicer::new(None, false, choices);
            run(&mut splicer, events).expect("fine");
            assert_eq!(splicer.ending(), ending, "{choices} {events:?}");
        }
    }

    #[test]
    fn every_choice_must_have_finished() {
        let mut splicer = Splicer::new(None, false, 2);
        let finish =
            |index| format!(r#"{{"choices":[{{"index":{index},"delta":{{}},"finish_reason" : "stop"}}]}}"#);
        run(&mut splicer, &[&finish(0)]).expect("fine");
        assert_eq!(splicer.ending(), Ending::Cut);
        run(&mut splicer, &[&finish(1)]).expect("fine");
        assert_eq!(splicer.ending(), Ending::Complete);
    }

    #[test]
    fn an_error_inside_the_stream_is_a_failure_and_text_cannot_fake_one() {
        let mut splicer = Splicer::new(None, false, 1);
        let fake = r#"{"choices":[{"delta":{"content":"\"error\":{} \"finish_reason\":\"stop\""},"finish_reason":null}],"error":null}"#;
        assert!(run(&mut splicer, &[fake]).is_ok());
        assert_eq!(splicer.ending(), Ending::Cut);
        let real = r#"{"error":{"message":"no"},"choices":[]}"#;
        assert_eq!(run(&mut splicer, &[real]), Err(Failure::Reported(real.as_bytes().to_vec())));
        assert!(matches!(run(&mut splicer, &["<html>"]), Err(Failure::Malformed(_))));
    }

    #[test]
    fn a_whole_answer_without_choices_is_no_answer() {
        let whole = |text: &str| {
            whole(Bytes::copy_from_slice(text.as_bytes()), Object::scan(text.as_bytes()), Some("smart"))
        };
        assert!(matches!(whole(r#"{"choices":[ ]}"#), Err(Failure::Malformed(_))));
        assert!(matches!(whole(r#"{"choices":[{"#), Err(Failure::Malformed(_))));
        let (body, usage) =
            whole(r#"{"model":"a","choices":[{}],"usage":{"prompt_tokens":1}}"#).expect("fine");
        assert_eq!(body, r#"{"model":"smart","choices":[{}],"usage":{"prompt_tokens":1}}"#.as_bytes());
        assert_eq!(usage.and_then(|usage| usage.prompt), Some(1));
    }
}
