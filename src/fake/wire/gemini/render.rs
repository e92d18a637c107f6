//! Answers as candidates with parts, whole and streamed.

use serde_json::{Value, json};

use super::signature;
use crate::fake::brain::{Answer, Finish, Question, pieces, words};
use crate::fake::stream::{Frame, Kind, Roll};
use crate::fake::wire::check::{put, quoted};
use crate::fake::wire::{Events, Native, Scene};

fn finish_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::Calls => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::Filtered => "SAFETY",
    }
}

/// Usage; what is zero is left out, as the real platform does.
fn usage(answer: &Answer, so_far: Option<u64>) -> Value {
    let tokens = answer.tokens;
    let spoken = so_far.unwrap_or(tokens.completion - tokens.reasoning);
    let mut usage = json!({"promptTokenCount":tokens.prompt});
    if spoken > 0 {
        put(&mut usage, "candidatesTokenCount", json!(spoken));
    }
    if tokens.reasoning > 0 {
        put(&mut usage, "thoughtsTokenCount", json!(tokens.reasoning));
    }
    put(&mut usage, "totalTokenCount", json!(tokens.prompt + spoken + tokens.reasoning));
    put(&mut usage, "promptTokensDetails", json!([{"modality":"TEXT","tokenCount":tokens.prompt}]));
    usage
}

/// Function calls as parts. Gemini 2 gives calls no id; Gemini 3 signs the first of them.
fn calls(question: &Question, answer: &Answer, scene: &Scene<'_>) -> Vec<Value> {
    let third = question.model.starts_with("gemini-3");
    let part = |(index, call): (usize, &crate::fake::brain::Call)| {
        let mut told = json!({"functionCall":{"name":call.name,"args":call.arguments}});
        if third && index == 0 {
            put(&mut told, "thoughtSignature", json!(signature(&question.model, scene.key, &call.name)));
        }
        told
    };
    answer.calls.iter().enumerate().map(part).collect()
}

fn thoughts_shown(question: &Question, answer: &Answer) -> bool {
    !answer.reasoning.is_empty() && !question.hide_thoughts
}

/// A whole answer.
pub fn whole(question: &Question, answer: &Answer, scene: &Scene<'_>) -> Native {
    let candidate = |index: usize| {
        let mut parts = Vec::new();
        if thoughts_shown(question, answer) {
            parts.push(json!({"text":answer.reasoning,"thought":true}));
        }
        if !answer.text.is_empty() {
            parts.push(json!({"text":answer.text}));
        }
        parts.extend(calls(question, answer, scene));
        let mut content = json!({"role":"model"});
        if !parts.is_empty() {
            put(&mut content, "parts", Value::Array(parts));
        }
        let mut told = json!({"content":content,"finishReason":finish_reason(answer)});
        if index > 0 {
            put(&mut told, "index", json!(index));
        }
        told
    };
    let candidates: Vec<Value> = (0..answer.copies).map(candidate).collect();
    let mut body = json!({"candidates":candidates,"modelVersion":question.model,"responseId":scene.id});
    if !scene.no_usage {
        put(&mut body, "usageMetadata", usage(answer, None));
    }
    let mut native = Native::json(200, &body);
    native.headers = headers("application/json; charset=UTF-8");
    native
}

fn headers(kind: &str) -> Vec<(&'static str, String)> {
    vec![
        ("content-type", kind.to_owned()),
        ("server", "scaffolding on HTTPServer2".to_owned()),
        ("vary", "Origin".to_owned()),
    ]
}

/// A stream under way.
struct Pen<'a> {
    answer: &'a Answer,
    /// Everything after the candidates, but for the usage.
    tail: String,
    no_usage: bool,
    spoken: u64,
    roll: Roll,
}

impl Pen<'_> {
    fn chunk(&mut self, kind: Kind, tokens: u64, index: usize, parts: &str, reason: Option<&str>) {
        let usage = match self.no_usage {
            true => String::new(),
            false => format!(",\"usageMetadata\":{}", usage(self.answer, Some(self.spoken))),
        };
        let reason = reason.map(|reason| format!(",\"finishReason\":\"{reason}\"")).unwrap_or_default();
        let tail = &self.tail;
        self.roll.add(kind, tokens, |out| {
            out.push_str(&format!("data: {{\"candidates\":[{{\"content\":{{\"role\":\"model\",\"parts\":[{parts}]}}{reason},\"index\":{index}}}]{usage}{tail}}}\r\n\r\n"));
        });
    }
}

/// A stream: events with CR LF and no end mark, or one array in pieces.
pub fn stream(question: &Question, answer: &Answer, scene: &Scene<'_>) -> Events {
    let tail = format!(",\"modelVersion\":{},\"responseId\":{}", quoted(&question.model), quoted(&scene.id));
    let mut pen = Pen { answer, tail, no_usage: scene.no_usage, spoken: 0, roll: Roll::default() };
    for index in 0..answer.copies {
        if thoughts_shown(question, answer) {
            let said = quoted(&answer.reasoning);
            pen.chunk(
                Kind::Part,
                words(&answer.reasoning),
                index,
                &format!("{{\"text\":{said},\"thought\":true}}"),
                None,
            );
        }
        let reason = finish_reason(answer);
        let texts = pieces(&answer.text);
        // The last words bring the reason along.
        for (at, piece) in texts.iter().enumerate() {
            pen.spoken += words(piece);
            let part = format!("{{\"text\":{}}}", quoted(piece));
            let last = at + 1 == texts.len();
            let kind = if last { Kind::Finish } else { Kind::Part };
            pen.chunk(kind, 1, index, &part, last.then_some(reason));
        }
        for (part, call) in calls(question, answer, scene).iter().zip(&answer.calls) {
            let tokens = words(&call.name) + words(&Value::Object(call.arguments.clone()).to_string());
            pen.spoken += tokens;
            pen.chunk(Kind::Part, tokens, index, &part.to_string(), None);
        }
        if texts.is_empty() {
            pen.chunk(Kind::Finish, 0, index, "{\"text\":\"\"}", Some(reason));
        }
    }
    let frames = pen.roll.cut();
    match question.in_array {
        true => Events { headers: headers("application/json; charset=UTF-8"), frames: array(&frames) },
        false => Events { headers: headers("text/event-stream"), frames },
    }
}

/// The same chunks as one JSON array.
fn array(frames: &[Frame]) -> Vec<Frame> {
    let mut roll = Roll::default();
    for (index, frame) in frames.iter().enumerate() {
        let text = String::from_utf8_lossy(&frame.bytes);
        let text = text.trim().trim_start_matches("data: ");
        let begin = if index == 0 { "[" } else { ",\r\n" };
        roll.add(frame.kind, frame.tokens, |out| {
            out.push_str(begin);
            out.push_str(text);
        });
    }
    roll.add(Kind::End, 0, |out| out.push_str("]\n"));
    roll.cut()
}
