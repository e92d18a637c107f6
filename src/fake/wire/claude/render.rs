//! Answers in blocks, whole and streamed.

use serde_json::{Value, json};

use super::signature;
use crate::fake::brain::{Answer, Call, Finish, Question, pieces, words};
use crate::fake::stream::{Kind, Roll};
use crate::fake::wire::check::{put, quoted, shreds};
use crate::fake::wire::{Events, Native, Scene};

fn stop_reason(answer: &Answer) -> (&'static str, Value) {
    match &answer.finish {
        Finish::Stop => ("end_turn", Value::Null),
        Finish::StopSequence(stop) => ("stop_sequence", json!(stop)),
        Finish::Length => ("max_tokens", Value::Null),
        Finish::Calls => ("tool_use", Value::Null),
        Finish::Filtered => ("refusal", Value::Null),
    }
}

fn stop_details(answer: &Answer) -> Value {
    match answer.finish {
        Finish::Filtered => json!({"type":"refusal","category":"general_harms","explanation":null}),
        _ => Value::Null,
    }
}

fn headers(scene: &Scene<'_>) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("request-id", format!("req_011{}", scene.id)),
        ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000".to_owned()),
    ];
    if let Some(left) = scene.left {
        let reset = i64::try_from(scene.created + left.reset.as_secs()).unwrap_or(i64::MAX);
        let reset = jiff::Timestamp::from_second(reset).map(|time| time.to_string()).unwrap_or_default();
        headers.push(("anthropic-ratelimit-requests-limit", left.requests_limit.to_string()));
        headers.push(("anthropic-ratelimit-requests-remaining", left.requests.to_string()));
        headers.push(("anthropic-ratelimit-requests-reset", reset.clone()));
        headers.push(("anthropic-ratelimit-tokens-limit", left.tokens_limit.to_string()));
        // Remaining tokens are told in thousands.
        headers
            .push(("anthropic-ratelimit-tokens-remaining", (left.tokens.div_ceil(1000) * 1000).to_string()));
        headers.push(("anthropic-ratelimit-tokens-reset", reset));
    }
    headers
}

fn tool_id(call: &Call) -> String {
    format!("toolu_01{}", call.id)
}

/// A whole answer.
pub fn whole(question: &Question, answer: &Answer, scene: &Scene<'_>) -> Native {
    let mut content = Vec::new();
    if !answer.reasoning.is_empty() {
        let thinking = &answer.reasoning;
        content.push(json!({"type":"thinking","thinking":thinking,"signature":signature(thinking)}));
    }
    if !answer.text.is_empty() {
        content.push(json!({"type":"text","text":answer.text}));
    }
    for call in &answer.calls {
        content.push(json!({"type":"tool_use","id":tool_id(call),"name":call.name,"input":call.arguments}));
    }
    let (reason, sequence) = stop_reason(answer);
    let tokens = answer.tokens;
    let mut body = json!({"id":format!("msg_01{}", scene.id),"type":"message","role":"assistant","model":question.model,
        "content":content,"stop_reason":reason,"stop_sequence":sequence,"stop_details":stop_details(answer)});
    if !scene.no_usage {
        put(
            &mut body,
            "usage",
            json!({"input_tokens":tokens.prompt,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,
            "cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},
            "output_tokens":tokens.completion,"output_tokens_details":{"thinking_tokens":tokens.reasoning},"service_tier":"standard"}),
        );
    }
    let mut native = Native::json(200, &body);
    native.headers.extend(headers(scene));
    native
}

/// Events under construction: blocks are numbered as they come.
#[derive(Default)]
struct Pen {
    roll: Roll,
    block: usize,
}

impl Pen {
    fn event(&mut self, kind: Kind, tokens: u64, name: &str, data: &str) {
        self.roll.add(kind, tokens, |out| {
            for part in ["event: ", name, "\ndata: ", data, "\n\n"] {
                out.push_str(part);
            }
        });
    }

    fn begin(&mut self, block: &str) {
        let data = format!(
            "{{\"type\":\"content_block_start\",\"index\":{},\"content_block\":{block}}}",
            self.block
        );
        self.event(Kind::Part, 0, "content_block_start", &data);
    }

    fn delta(&mut self, tokens: u64, delta: &str) {
        let data = format!("{{\"type\":\"content_block_delta\",\"index\":{},\"delta\":{delta}}}", self.block);
        self.event(Kind::Part, tokens, "content_block_delta", &data);
    }

    fn end(&mut self) {
        let data = format!("{{\"type\":\"content_block_stop\",\"index\":{}}}", self.block);
        self.event(Kind::Part, 0, "content_block_stop", &data);
        self.block += 1;
    }
}

/// A stream.
pub fn stream(question: &Question, answer: &Answer, scene: &Scene<'_>) -> Events {
    let mut pen = Pen::default();
    let tokens = answer.tokens;
    let mut message = json!({"id":format!("msg_01{}", scene.id),"type":"message","role":"assistant","model":question.model,
        "content":[],"stop_reason":null,"stop_sequence":null});
    if !scene.no_usage {
        put(
            &mut message,
            "usage",
            json!({"input_tokens":tokens.prompt,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"output_tokens":1}),
        );
    }
    pen.event(
        Kind::Part,
        0,
        "message_start",
        &format!("{{\"type\":\"message_start\",\"message\":{message}}}"),
    );
    if !answer.reasoning.is_empty() {
        pen.begin("{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}");
        for piece in pieces(&answer.reasoning) {
            pen.delta(1, &format!("{{\"type\":\"thinking_delta\",\"thinking\":{}}}", quoted(piece)));
        }
        let signed = signature(&answer.reasoning);
        pen.delta(0, &format!("{{\"type\":\"signature_delta\",\"signature\":{}}}", quoted(&signed)));
        pen.end();
    }
    if !answer.text.is_empty() {
        pen.begin("{\"type\":\"text\",\"text\":\"\"}");
        pen.event(Kind::Part, 0, "ping", "{\"type\":\"ping\"}");
        for piece in pieces(&answer.text) {
            pen.delta(1, &format!("{{\"type\":\"text_delta\",\"text\":{}}}", quoted(piece)));
        }
        pen.end();
    }
    for call in &answer.calls {
        calling(&mut pen, call);
    }
    let (reason, sequence) = stop_reason(answer);
    let mut data = json!({"type":"message_delta","delta":{"stop_reason":reason,"stop_sequence":sequence,"stop_details":stop_details(answer)}});
    if !scene.no_usage {
        put(
            &mut data,
            "usage",
            json!({"output_tokens":tokens.completion,"output_tokens_details":{"thinking_tokens":tokens.reasoning}}),
        );
    }
    pen.event(Kind::Finish, 0, "message_delta", &data.to_string());
    pen.event(Kind::End, 0, "message_stop", "{\"type\":\"message_stop\"}");
    let mut headers = headers(scene);
    headers.push(("content-type", "text/event-stream; charset=utf-8".to_owned()));
    Events { headers, frames: pen.roll.cut() }
}

/// A call: its arguments come in pieces, or as one empty piece where there are none.
fn calling(pen: &mut Pen, call: &Call) {
    let (id, name) = (quoted(&tool_id(call)), quoted(&call.name));
    pen.begin(&format!("{{\"type\":\"tool_use\",\"id\":{id},\"name\":{name},\"input\":{{}}}}"));
    let arguments = Value::Object(call.arguments.clone()).to_string();
    pen.delta(words(&call.name) + words(&arguments), "{\"type\":\"input_json_delta\",\"partial_json\":\"\"}");
    if !call.arguments.is_empty() {
        for shred in shreds(&arguments) {
            pen.delta(0, &format!("{{\"type\":\"input_json_delta\",\"partial_json\":{}}}", quoted(shred)));
        }
    }
    pen.end();
}
