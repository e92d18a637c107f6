//! Refusals in each OpenAI-like platform's shape. Why apart from the table of words: eight platforms have eight shapes
//! for the same four facts, some of them two.

use bytes::Bytes;
use serde_json::{Value, json};

use super::rows::{Row, Style};
use super::usual::usual;
use super::whole::go_time;
use crate::fake::fault::{Class, Refusal};
use crate::fake::wire::Native;
use crate::ids::random_name;

/// The parts of a refusal that the shapes are made of.
struct Said {
    status: u16,
    kind: &'static str,
    code: &'static str,
    message: String,
    param: Option<String>,
}

fn say(row: &Row, refusal: &Refusal) -> Said {
    let (status, mut kind, mut code, message) = usual(row.style, refusal.class);
    if let Some(own) = refusal.code {
        match row.style {
            Style::OpenAi | Style::Zhipu | Style::Spark => code = own,
            Style::HuggingFace if own.is_empty() => code = own,
            Style::Doubao if own == "unknown_parameter" => code = "InvalidParameter.UnsupportedParameter",
            Style::Doubao if own == "missing_required_parameter" => code = "MissingParameter",
            _ => {}
        }
    }
    if refusal.class == Class::BadRequest && code == "gateway" {
        kind = "gateway";
    }
    if row.style == Style::Zhipu && code.parse::<u32>().is_err() && refusal.class == Class::BadRequest {
        code = "1210";
    }
    if row.style == Style::Spark && refusal.class == Class::BadRequest {
        code = "10005";
    }
    let mut message = refusal.message.clone().unwrap_or_else(|| message.to_owned());
    let wait = refusal.retry_after.map_or(20.0, |wait| wait.as_secs_f64());
    message = message.replace("{wait}", &format!("{wait}s"));
    Said { status, kind, code, message, param: refusal.param.clone() }
}

fn or_null(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { Value::from(text) }
}

/// The body of a refusal.
fn body(style: Style, said: &Said) -> Value {
    let Said { kind, code, message, param, .. } = said;
    let sid = || format!("cha{}@dx{}", random_name("", 8), random_name("", 12));
    match style {
        Style::OpenAi => json!({"error":{"message":message,"type":kind,"param":param,"code":or_null(code)}}),
        Style::Qwen => json!({"error":{"message":message,"type":kind,"param":param,"code":or_null(code)},
            "request_id":random_name("", 32)}),
        Style::Zhipu if code.is_empty() => {
            json!({"timestamp":1_764_000_000_000_u64,"status":said.status,"error":message,"path":"/"})
        }
        Style::Zhipu => json!({"error":{"code":code,"message":message}}),
        Style::Doubao => {
            json!({"error":{"code":code,"message":format!("{message} Request id: {}", random_name("021764", 16)),
            "param":param.clone().unwrap_or_default(),"type":kind}})
        }
        Style::Baidu => {
            json!({"error":{"code":code,"message":message,"type":kind},"id":random_name("as-", 10)})
        }
        Style::Spark if *kind == "gateway" => json!({ "message": message }),
        Style::Spark if kind.is_empty() => {
            json!({"code":code.parse::<u32>().unwrap_or(10005),"message":message,"sid":sid()})
        }
        Style::Spark => {
            json!({"error":{"message":format!("{message} (sid: {})", sid()),"type":kind,"param":null,"code":code}})
        }
        Style::HuggingFace if said.status == 503 => json!({"error":message,"estimated_time":20.0}),
        Style::HuggingFace if said.status == 422 => {
            json!({"error":format!("Input validation error: {message}"),"error_type":"validation"})
        }
        Style::HuggingFace if code.is_empty() => json!({ "error": message }),
        Style::HuggingFace => json!({"error":{"message":message,"type":kind,"param":"model","code":code}}),
        Style::AiHubMix => {
            json!({"error":{"message":format!("{message} (tid: {})", random_name("2025121504014619744820", 10)),
            "type":kind,"param":if *kind == "upstream_error" { "400" } else { "" },"code":code}})
        }
    }
}

/// A refusal, whole.
pub fn refuse(row: &Row, refusal: &Refusal) -> Native {
    let said = say(row, refusal);
    let native = Native::json(said.status, &body(row.style, &said));
    let wait = refusal.retry_after.map(|wait| wait.as_secs().max(1));
    let limited = matches!(refusal.class, Class::RateLimited | Class::TokensLimited | Class::Concurrency);
    match row.style {
        Style::OpenAi if limited => {
            let wait = wait.unwrap_or(20);
            native
                .with("x-request-id", random_name("req_", 24))
                .with("retry-after", wait.to_string())
                .with("retry-after-ms", (wait * 1000).to_string())
                .with("x-ratelimit-remaining-requests", "0")
                .with("x-ratelimit-reset-requests", go_time(wait))
        }
        Style::OpenAi => native.with("x-request-id", random_name("req_", 24)),
        Style::HuggingFace if limited => {
            let wait = wait.unwrap_or(20);
            native
                .with("ratelimit", format!("\"api\";r=0;t={wait}"))
                .with("ratelimit-policy", "\"fixed window\";\"api\";q=500;w=300")
                .with("retry-after", wait.to_string())
        }
        Style::Qwen => native.with("x-request-id", random_name("", 32)),
        Style::Baidu => native.with("x-baidu-request-id", random_name("", 32)),
        Style::Doubao => native.with("x-request-id", random_name("021764", 16)),
        _ => native,
    }
}

/// An error after the 200.
pub fn in_stream(row: &Row, refusal: &Refusal, begun: bool) -> Bytes {
    let told = body(row.style, &say(row, refusal));
    Bytes::from(match row.style {
        // Zhipu breaks off with a finish reason of its own, and no error follows.
        Style::Zhipu if begun => format!(
            "data: {}\n\n",
            json!({"id":random_name("2026", 20),"created":1_764_000_000,"object":"chat.completion.chunk",
                "choices":[{"index":0,"finish_reason":"network_error","delta":{"role":"assistant","content":""}}]})
        ),
        Style::Spark => {
            let (_, _, code, message) = usual(row.style, refusal.class);
            let code: u32 = code.parse().unwrap_or(10012);
            format!("data:{}\n\n", json!({"code":code,"message":message,"sid":random_name("cha", 12)}))
        }
        Style::HuggingFace => format!("event: error\ndata: {told}\n\n"),
        _ => format!("data: {told}\n\n"),
    })
}
