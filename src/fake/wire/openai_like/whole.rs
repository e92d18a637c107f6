//! Whole answers of the OpenAI-like platforms, each with what it leaves out or adds.

use serde_json::{Map, Value, json};

use super::rows::{Row, Style};
use crate::fake::brain::{Answer, Call, Finish, Question, pieces};
use crate::fake::wire::check::{put, put_in};
use crate::fake::wire::{Native, Scene};

/// The id of an answer, as the platform makes them.
pub fn id(style: Style, scene: &Scene<'_>) -> String {
    match style {
        Style::OpenAi | Style::AiHubMix | Style::HuggingFace => format!("chatcmpl-{}", scene.id),
        Style::Qwen => format!("chatcmpl-{}-9c55", scene.id),
        Style::Zhipu => format!("202611211000{}", scene.id),
        Style::Doubao => format!("021764{}", scene.id),
        Style::Baidu => format!("as-{}", scene.id),
        Style::Spark => format!("cha{}@dx1905cd86d6bb86d552", scene.id),
    }
}

/// Whether this Hugging Face model is served by a backend with odd habits.
pub fn odd(row: &Row, question: &Question) -> bool {
    row.style == Style::HuggingFace && question.model.ends_with(":hf-inference")
}

/// Why the answer ended, in the platform's words.
pub fn finish(row: &Row, question: &Question, answer: &Answer) -> &'static str {
    match (&answer.finish, row.style) {
        (Finish::Stop, _) if odd(row, question) => "eos_token",
        (Finish::StopSequence(_), _) if odd(row, question) => "stop_sequence",
        (Finish::Stop | Finish::StopSequence(_), _) => "stop",
        (Finish::Length, _) => "length",
        (Finish::Calls, _) => "tool_calls",
        (Finish::Filtered, Style::Zhipu) => "sensitive",
        (Finish::Filtered, _) => "content_filter",
    }
}

/// The name under which thinking is shown; OpenAI shows none.
pub fn thinking_name(row: &Row, question: &Question) -> Option<&'static str> {
    match row.style {
        Style::OpenAi => None,
        Style::HuggingFace if odd(row, question) => Some("reasoning"),
        _ => Some("reasoning_content"),
    }
}

pub fn usage(row: &Row, answer: &Answer) -> Value {
    let tokens = answer.tokens;
    let mut usage = json!({"prompt_tokens":tokens.prompt,"completion_tokens":tokens.completion,"total_tokens":tokens.total()});
    if matches!(row.style, Style::Spark | Style::Baidu) {
        return usage;
    }
    put(&mut usage, "prompt_tokens_details", json!({"cached_tokens":0}));
    if tokens.reasoning > 0 || matches!(row.style, Style::OpenAi | Style::Doubao) {
        put(&mut usage, "completion_tokens_details", json!({"reasoning_tokens":tokens.reasoning}));
    }
    if row.style == Style::OpenAi {
        put_in(&mut usage, "completion_tokens_details", "accepted_prediction_tokens", json!(0));
        put_in(&mut usage, "completion_tokens_details", "rejected_prediction_tokens", json!(0));
    }
    usage
}

/// The id of a call.
pub fn call_id(call: &Call) -> String {
    format!("call_{}", call.id)
}

fn calls(row: &Row, question: &Question, answer: &Answer) -> Option<Value> {
    if answer.calls.is_empty() {
        return None;
    }
    let told = answer.calls.iter().enumerate().map(|(index, call)| {
        let arguments = Value::Object(call.arguments.clone());
        let arguments = if odd(row, question) { arguments } else { Value::from(arguments.to_string()) };
        let mut told =
            json!({"id":call_id(call),"type":"function","function":{"name":call.name,"arguments":arguments}});
        if matches!(row.style, Style::Qwen | Style::Zhipu) {
            put(&mut told, "index", json!(index));
        }
        told
    });
    let mut told: Vec<Value> = told.collect();
    // Without the switch, Spark V1 knows one call, and no list.
    let single = row.style == Style::Spark && !question.calls_listed;
    Some(if single { told.swap_remove(0) } else { Value::Array(told) })
}

fn message(row: &Row, question: &Question, answer: &Answer) -> Value {
    let mut message = Map::new();
    message.insert("role".into(), json!("assistant"));
    let silent =
        !answer.calls.is_empty() && matches!(row.style, Style::OpenAi | Style::AiHubMix | Style::HuggingFace);
    message.insert("content".into(), if silent { Value::Null } else { json!(answer.text) });
    if row.style == Style::OpenAi {
        message.insert("refusal".into(), Value::Null);
        message.insert("annotations".into(), json!([]));
    }
    if let Some(name) = thinking_name(row, question).filter(|_| !answer.reasoning.is_empty()) {
        message.insert(name.into(), json!(answer.reasoning));
    }
    if let Some(calls) = calls(row, question, answer) {
        message.insert("tool_calls".into(), calls);
    }
    Value::Object(message)
}

/// How probable these tokens were, each with `top` alternatives.
pub fn logprobs(tokens: &[&str], top: usize) -> Value {
    let one = |token: &str, logprob: f64| json!({"token":token,"logprob":logprob,"bytes":token.as_bytes()});
    let content = tokens.iter().map(|token| {
        let rank = |rank: usize| match rank {
            0 => one(token, -0.25),
            rank => one(&format!("other{rank}"), -1.5 - rank as f64),
        };
        let mut told = one(token, -0.25);
        if let Some(told) = told.as_object_mut() {
            told.insert("top_logprobs".into(), (0..top).map(rank).collect());
        }
        told
    });
    json!({"content":content.collect::<Vec<_>>(),"refusal":null})
}

fn choice(row: &Row, question: &Question, answer: &Answer, index: usize) -> Value {
    let message = message(row, question, answer);
    let reason = finish(row, question, answer);
    match row.style {
        Style::Spark => json!({"message":message,"index":index}),
        Style::Zhipu => json!({"finish_reason":reason,"index":index,"message":message}),
        Style::Baidu => {
            let flag = i32::from(answer.finish == Finish::Filtered);
            json!({"index":index,"message":message,"finish_reason":reason,"flag":flag})
        }
        _ => {
            let probable = question.logprobs.map(|top| logprobs(&pieces(&answer.text), top));
            json!({"index":index,"message":message,"logprobs":probable,"finish_reason":reason})
        }
    }
}

/// A length of time as Go prints it: `1m0s`.
pub fn go_time(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Headers of a good answer.
pub fn headers(row: &Row, scene: &Scene<'_>) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    match (row.style, scene.left) {
        (Style::OpenAi, Some(left)) => {
            headers.push(("x-request-id", format!("req_{}", scene.id)));
            headers.push(("openai-processing-ms", "12".to_owned()));
            headers.push(("openai-version", "2020-10-01".to_owned()));
            headers.push(("x-ratelimit-limit-requests", left.requests_limit.to_string()));
            headers.push(("x-ratelimit-remaining-requests", left.requests.to_string()));
            headers.push(("x-ratelimit-reset-requests", go_time(left.reset.as_secs())));
            headers.push(("x-ratelimit-limit-tokens", left.tokens_limit.to_string()));
            headers.push(("x-ratelimit-remaining-tokens", left.tokens.to_string()));
            headers.push(("x-ratelimit-reset-tokens", go_time(left.reset.as_secs())));
        }
        (Style::Qwen, _) => {
            headers.push(("x-request-id", scene.id.clone()));
            headers.push(("req-cost-time", "12".to_owned()));
            headers.push(("x-dashscope-call-gateway", "true".to_owned()));
            headers.push(("set-cookie", "acw_tc=fake;path=/;HttpOnly;Max-Age=1800".to_owned()));
        }
        (Style::Zhipu, _) => {
            headers.push(("set-cookie", "acw_tc=fake;path=/;HttpOnly;Max-Age=1800".to_owned()))
        }
        (Style::Baidu, Some(left)) => {
            headers.push(("x-baidu-request-id", scene.id.clone()));
            headers.push(("x-ratelimit-limit-requests", left.requests_limit.to_string()));
            headers.push(("x-ratelimit-limit-tokens", left.tokens_limit.to_string()));
        }
        (Style::HuggingFace, Some(left)) => {
            let (requests, reset) = (left.requests, left.reset.as_secs());
            headers.push(("ratelimit", format!("\"api\";r={requests};t={reset}")));
        }
        (Style::Doubao, _) => headers.push(("x-request-id", format!("021764{}", scene.id))),
        _ => {}
    }
    headers
}

/// A whole answer.
pub fn render(row: &Row, question: &Question, answer: &Answer, scene: &Scene<'_>) -> Native {
    let choices: Vec<Value> = (0..answer.copies).map(|index| choice(row, question, answer, index)).collect();
    let id = id(row.style, scene);
    let mut body = match row.style {
        Style::Spark => json!({"code":0,"message":"Success","sid":id,"choices":choices}),
        Style::Zhipu => json!({"choices":choices,"created":scene.created,"id":id,"model":question.model,
            "object":"chat.completion","request_id":id}),
        _ => {
            json!({"id":id,"object":"chat.completion","created":scene.created,"model":question.model,"choices":choices})
        }
    };
    match row.style {
        Style::OpenAi => {
            put(&mut body, "service_tier", json!("default"));
            put(&mut body, "system_fingerprint", json!("fp_44709d6fcb"));
        }
        Style::Qwen => put(&mut body, "system_fingerprint", Value::Null),
        Style::Doubao => put(&mut body, "service_tier", json!("default")),
        _ => {}
    }
    if !scene.no_usage {
        put(&mut body, "usage", usage(row, answer));
    }
    let mut native = Native::json(200, &body);
    native.headers.extend(headers(row, scene));
    native
}
