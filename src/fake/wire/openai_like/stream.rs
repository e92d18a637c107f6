//! Streams of the OpenAI-like platforms. Why text and no JSON values: this is also what the benches stream, and an event
//! must cost the simulated platform next to nothing. Each platform's liberties are taken from its published samples.

use serde_json::Value;

use super::rows::{Row, Style};
use super::whole::{self, call_id, finish, odd, thinking_name};
use crate::fake::brain::{Answer, Call, Question, pieces, words};
use crate::fake::stream::{Frame, Kind, Roll};
use crate::fake::wire::check::{quoted, shreds};
use crate::fake::wire::{Events, Scene};

/// A stream under way.
struct Pen<'a> {
    row: &'a Row,
    question: &'a Question,
    /// Everything of a chunk before its choices.
    head: String,
    /// `,"usage":null` where chunks carry it.
    no_usage_yet: &'static str,
    /// Whether usage is due.
    usage: bool,
    roll: Roll,
}

impl Pen<'_> {
    /// One chunk with one choice. `more` follows the delta within the choice, `tail` the choices.
    fn chunk(&mut self, kind: Kind, tokens: u64, index: usize, delta: &str, more: &str, tail: &str) {
        let head = &self.head;
        self.roll.add(kind, tokens, |out| {
            for part in
                [head, "{\"index\":", &index.to_string(), ",\"delta\":", delta, more, "}]", tail, "}\n\n"]
            {
                out.push_str(part);
            }
        });
    }

    fn part(&mut self, tokens: u64, index: usize, delta: &str) {
        let more = match self.row.style {
            Style::Zhipu | Style::Spark => "",
            Style::Baidu => ",\"finish_reason\":null,\"flag\":0",
            _ => ",\"logprobs\":null,\"finish_reason\":null",
        };
        let tail = self.no_usage_yet;
        self.chunk(Kind::Part, tokens, index, delta, more, tail);
    }
}

/// `"content":…` with the role where the platform repeats it.
fn text_delta(style: Style, text: &str, after_thinking: bool, first: bool) -> String {
    let text = quoted(text);
    match style {
        Style::Zhipu | Style::Doubao | Style::Spark => {
            format!("{{\"role\":\"assistant\",\"content\":{text}}}")
        }
        Style::Baidu if first => format!("{{\"role\":\"assistant\",\"content\":{text}}}"),
        Style::Qwen if after_thinking => format!("{{\"content\":{text},\"reasoning_content\":null}}"),
        _ => format!("{{\"content\":{text}}}"),
    }
}

fn thought_delta(style: Style, name: &str, text: &str) -> String {
    let text = quoted(text);
    match style {
        Style::Qwen => format!("{{\"content\":null,\"{name}\":{text}}}"),
        Style::Zhipu => format!("{{\"role\":\"assistant\",\"{name}\":{text}}}"),
        Style::Doubao | Style::Baidu | Style::Spark => {
            format!("{{\"role\":\"assistant\",\"content\":\"\",\"{name}\":{text}}}")
        }
        _ => format!("{{\"{name}\":{text}}}"),
    }
}

/// The chunk before any content, where there is one.
fn opening(pen: &mut Pen<'_>, answer: &Answer, index: usize) {
    let delta = match pen.row.style {
        Style::OpenAi if !answer.calls.is_empty() => {
            "{\"role\":\"assistant\",\"content\":null,\"refusal\":null}"
        }
        Style::OpenAi => "{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}",
        Style::AiHubMix | Style::HuggingFace => "{\"role\":\"assistant\",\"content\":\"\"}",
        Style::Qwen if !answer.reasoning.is_empty() => {
            "{\"content\":null,\"role\":\"assistant\",\"reasoning_content\":\"\"}"
        }
        Style::Qwen if answer.calls.is_empty() => "{\"content\":\"\",\"role\":\"assistant\"}",
        _ => return,
    };
    pen.part(0, index, delta);
}

fn content(pen: &mut Pen<'_>, answer: &Answer, index: usize) {
    let style = pen.row.style;
    let thinking = !answer.reasoning.is_empty();
    match thinking_name(pen.row, pen.question) {
        Some(name) => {
            for piece in pieces(&answer.reasoning) {
                let delta = thought_delta(style, name, piece);
                pen.part(1, index, &delta);
            }
        }
        // Thinking that is not shown is paid for all the same.
        None if thinking => pen.part(words(&answer.reasoning), index, "{}"),
        None => {}
    }
    let all = pieces(&answer.text);
    // Spark V1 sends usage with the last words.
    let last = all.len().saturating_sub(1);
    let spark_v1 = style == Style::Spark && !late_usage(pen.row, pen.question);
    for (at, piece) in all.iter().enumerate() {
        let delta = text_delta(style, piece, thinking, at == 0 && !thinking);
        if spark_v1 && at == last {
            let tail = if pen.usage { usage_tail(pen.row, answer) } else { String::new() };
            pen.chunk(Kind::Part, 1, index, &delta, "", &tail);
        } else if let Some(top) = pen.question.logprobs {
            let more = format!(",\"logprobs\":{},\"finish_reason\":null", whole::logprobs(&[*piece], top));
            let tail = pen.no_usage_yet;
            pen.chunk(Kind::Part, 1, index, &delta, &more, tail);
        } else {
            pen.part(1, index, &delta);
        }
        if style == Style::Baidu && at == 0 {
            pen.roll.add(Kind::Part, 0, |out| out.push_str(": keep-alive\n\n"));
        }
    }
}

/// Whether Spark's usage comes in a chunk after the content (V2 and later).
fn late_usage(row: &Row, question: &Question) -> bool {
    row.style != Style::Spark || question.model.starts_with("spark-x") || question.model == "x1"
}

fn usage_tail(row: &Row, answer: &Answer) -> String {
    format!(",\"usage\":{}", whole::usage(row, answer))
}

/// One call, in as many chunks as the platform needs.
fn call(pen: &mut Pen<'_>, call: &Call, at: usize, answer: &Answer) {
    let style = pen.row.style;
    let (id, name) = (quoted(&call_id(call)), quoted(&call.name));
    let arguments = Value::Object(call.arguments.clone()).to_string();
    let tokens = words(&call.name) + words(&arguments);
    let opened = |arguments: &str| {
        format!(
            "\"tool_calls\":[{{\"index\":{at},\"id\":{id},\"type\":\"function\",\"function\":{{\"name\":{name},\"arguments\":{arguments}}}}}]"
        )
    };
    match style {
        Style::Zhipu => {
            pen.part(tokens, 0, &format!("{{\"role\":\"assistant\",{}}}", opened(&quoted(&arguments))))
        }
        Style::Baidu => {
            let delta = format!("{{{}}}", opened(&quoted(&arguments)));
            if at + 1 == answer.calls.len() {
                return; // the last one ends the stream as well
            }
            pen.part(tokens, 0, &delta);
        }
        Style::Spark => {
            let one = format!(
                "{{\"type\":\"function\",\"id\":{id},\"function\":{{\"name\":{name},\"arguments\":{}}}}}",
                quoted(&arguments)
            );
            let told = if pen.question.calls_listed { format!("[{one}]") } else { one };
            let now = pen.usage && !late_usage(pen.row, pen.question);
            let tail = if now { usage_tail(pen.row, answer) } else { String::new() };
            let delta = format!("{{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":{told}}}");
            pen.chunk(Kind::Part, tokens, 0, &delta, "", &tail);
        }
        Style::HuggingFace if odd(pen.row, pen.question) => {
            pen.part(tokens, 0, &format!("{{{}}}", opened(&arguments)))
        }
        _ => {
            let (before, later) = match style {
                Style::Doubao => ("\"role\":\"assistant\",\"content\":\"\",", ""),
                Style::Qwen if at == 0 => {
                    ("\"content\":null,\"role\":\"assistant\",", ",\"id\":\"\",\"type\":\"function\"")
                }
                Style::Qwen => ("\"content\":null,", ",\"id\":\"\",\"type\":\"function\""),
                _ => ("", ""),
            };
            let again = if style == Style::Doubao { before } else { "" };
            pen.part(tokens, 0, &format!("{{{before}{}}}", opened("\"\"")));
            for shred in shreds(&arguments) {
                let shred = quoted(shred);
                let delta = format!(
                    "{{{again}\"tool_calls\":[{{\"index\":{at},\"function\":{{\"arguments\":{shred}}}{later}}}]}}"
                );
                match style {
                    // Some of Qwen's chunks lack the keys that the others have.
                    Style::Qwen => pen.chunk(Kind::Part, 0, 0, &delta, "", ",\"usage\":null"),
                    _ => pen.part(0, 0, &delta),
                }
            }
        }
    }
}

/// The chunk that says why the answer ended, and usage where the platform puts it.
fn closing(pen: &mut Pen<'_>, answer: &Answer, index: usize) {
    let (row, question, usage) = (pen.row, pen.question, pen.usage);
    let reason = finish(row, question, answer);
    let said = match row.style {
        Style::Zhipu => format!(",\"finish_reason\":\"{reason}\""),
        Style::Baidu => {
            let flag = u8::from(reason == "content_filter");
            format!(",\"finish_reason\":\"{reason}\",\"flag\":{flag}")
        }
        Style::Doubao => format!(",\"finish_reason\":\"{reason}\""),
        Style::Spark => String::new(),
        _ => format!(",\"logprobs\":null,\"finish_reason\":\"{reason}\""),
    };
    let inside = matches!(row.style, Style::Zhipu | Style::Baidu) && usage;
    let tail = if inside { usage_tail(row, answer) } else { pen.no_usage_yet.to_owned() };
    let mut tokens = 0;
    let delta = match (row.style, answer.calls.last()) {
        (Style::Baidu, Some(last)) => {
            let (id, name, at) = (quoted(&call_id(last)), quoted(&last.name), answer.calls.len() - 1);
            let arguments = Value::Object(last.arguments.clone()).to_string();
            tokens = words(&last.name) + words(&arguments);
            let arguments = quoted(&arguments);
            format!(
                "{{\"tool_calls\":[{{\"index\":{at},\"id\":{id},\"type\":\"function\",\"function\":{{\"name\":{name},\"arguments\":{arguments}}}}}]}}"
            )
        }
        (Style::Zhipu | Style::Doubao, _) => "{\"role\":\"assistant\",\"content\":\"\"}".to_owned(),
        (Style::Baidu, None) => "{\"content\":\"\"}".to_owned(),
        (Style::Qwen, None) => "{\"content\":\"\"}".to_owned(),
        (Style::Spark, _) => {
            if late_usage(row, question) && usage {
                let tail = usage_tail(row, answer);
                pen.chunk(Kind::Usage, 0, index, "{\"role\":\"assistant\",\"content\":\"\"}", "", &tail);
            }
            return;
        }
        _ => "{}".to_owned(),
    };
    pen.chunk(Kind::Finish, tokens, index, &delta, &said, &tail);
}

/// What every chunk begins with.
fn head(row: &Row, question: &Question, scene: &Scene<'_>) -> String {
    let id = if odd(row, question) { String::new() } else { whole::id(row.style, scene) };
    let (model, created) = (quoted(&question.model), scene.created);
    let space = if row.style == Style::Spark || odd(row, question) { "" } else { " " };
    if row.style == Style::Spark {
        return format!(
            "data:{space}{{\"code\":0,\"message\":\"Success\",\"sid\":\"{id}\",\"id\":\"{id}\",\"created\":{created},\"choices\":["
        );
    }
    let extra = match row.style {
        Style::OpenAi => ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\"",
        Style::Qwen => ",\"system_fingerprint\":null",
        Style::Doubao => ",\"service_tier\":\"default\"",
        _ => "",
    };
    format!(
        "data:{space}{{\"id\":\"{id}\",\"object\":\"chat.completion.chunk\",\"created\":{created},\"model\":{model}{extra},\"choices\":["
    )
}

/// Several choices take turns.
fn interleaved(mut rolls: Vec<Vec<Frame>>) -> Vec<Frame> {
    if rolls.len() < 2 {
        return rolls.pop().unwrap_or_default();
    }
    let mut rolls: Vec<_> = rolls.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(rolls.iter_mut().filter_map(Iterator::next));
        if all.len() == before {
            return all;
        }
    }
}

/// A stream.
pub fn render(row: &Row, question: &Question, answer: &Answer, scene: &Scene<'_>) -> Events {
    let usage = !scene.no_usage
        && (question.usage || matches!(row.style, Style::Zhipu | Style::Spark))
        && !odd(row, question);
    let no_usage_yet = match row.style {
        Style::Qwen | Style::Doubao => ",\"usage\":null",
        Style::OpenAi | Style::AiHubMix if question.usage => ",\"usage\":null",
        _ => "",
    };
    let mut pen =
        Pen { row, question, head: head(row, question, scene), no_usage_yet, usage, roll: Roll::default() };
    let mut rolls = Vec::new();
    for index in 0..answer.copies {
        opening(&mut pen, answer, index);
        content(&mut pen, answer, index);
        let mut frames = std::mem::take(&mut pen.roll).cut();
        let calls = answer.calls.iter().enumerate().map(|(at, one)| {
            call(&mut pen, one, at, answer);
            std::mem::take(&mut pen.roll).cut()
        });
        // One call after the other: the SDKs' helpers take the next call for the end of the one before.
        frames.extend(calls.flatten());
        closing(&mut pen, answer, index);
        frames.extend(std::mem::take(&mut pen.roll).cut());
        rolls.push(frames);
    }
    if usage && !matches!(row.style, Style::Zhipu | Style::Baidu | Style::Spark) {
        let told = whole::usage(row, answer);
        let head = &pen.head;
        pen.roll.add(Kind::Usage, 0, |out| {
            out.push_str(head);
            out.push_str("],\"usage\":");
            out.push_str(&told.to_string());
            out.push_str("}\n\n");
        });
    }
    let space = if row.style == Style::Spark { "" } else { " " };
    pen.roll.add(Kind::End, 0, |out| {
        out.push_str("data:");
        out.push_str(space);
        out.push_str("[DONE]\n\n");
    });
    let mut headers = whole::headers(row, scene);
    let kind = if row.style == Style::Qwen { "text/event-stream;charset=UTF-8" } else { "text/event-stream" };
    headers.push(("content-type", kind.to_owned()));
    let mut frames = interleaved(rolls);
    frames.extend(pen.roll.cut());
    Events { headers, frames }
}
