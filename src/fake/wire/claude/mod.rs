//! Anthropic's Messages API: named events, blocks, signatures, and no end mark but `message_stop`.

mod read;
mod render;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fake::fault::{Class, Refusal};
use crate::fake::server::World;
use crate::fake::wire::check::put;
use crate::fake::wire::{Asked, Caller, Native, Want};
use crate::ids::random_name;

pub use render::{stream, whole};

/// Who calls: `x-api-key`, or a bearer token, never both.
pub fn caller(asked: &Asked, world: &World) -> Result<Caller, Refusal> {
    let refuse = |words: &str| Refusal::of(Class::AuthInvalid).saying(words);
    if asked.headers.contains_key("origin") {
        return Err(refuse("CORS requests are not allowed for this organization."));
    }
    let (key, bearer) = match (asked.header("x-api-key"), asked.bearer()) {
        ("", None) => return Err(refuse("x-api-key header is required")),
        ("", Some(token)) => (token, true),
        (key, None) => (key, false),
        (_, Some(_)) => return Err(refuse("x-api-key and Authorization may not both be sent")),
    };
    let listed = world.script().account("claude", key).1;
    if !listed && !key.starts_with("sk-ant-") {
        return Err(refuse(if bearer { "Invalid bearer token" } else { "invalid x-api-key" }));
    }
    let flagged = || asked.header("anthropic-beta").split(',').any(|flag| flag.trim() == "oauth-2025-04-20");
    if key.starts_with("sk-ant-oat") && (!bearer || !flagged()) {
        return Err(refuse("OAuth authentication is currently not supported."));
    }
    Ok(Caller::new(key))
}

/// Reads a request.
pub fn read(asked: &Asked, rest: &str) -> Result<Want, Refusal> {
    let version = asked.header("anthropic-version");
    match version {
        "2023-06-01" | "2026-10-21" => {}
        "" => return Err(Refusal::bad("anthropic-version: header is required")),
        other => return Err(Refusal::bad(format!("anthropic-version: \"{other}\" is not a valid version"))),
    }
    let path = rest.split('?').next().unwrap_or_default();
    match (&asked.method, path) {
        (&Method::POST, "/v1/messages") => {
            let question = read::question(&asked.object()?, version == "2026-10-21", true)?;
            Ok(Want::Chat(Box::new(question)))
        }
        (&Method::POST, "/v1/messages/count_tokens") => {
            let question = read::question(&asked.object()?, version == "2026-10-21", false)?;
            let tokens = crate::fake::brain::prompt_tokens(&question);
            Ok(Want::Told(Native::json(200, &json!({ "input_tokens": tokens }))))
        }
        (&Method::GET, "/v1/models") => Ok(Want::Told(models())),
        _ => Err(Refusal::of(Class::NoSuchPath)),
    }
}

const MODELS: [&str; 4] =
    ["claude-opus-5-5", "claude-sonnet-4-5", "claude-haiku-4-5", "claude-3-haiku-20240307"];

fn models() -> Native {
    let model = |id: &&str| {
        json!({"type":"model","id":id,"display_name":id,"created_at":"2026-01-01T00:00:00Z","lifecycle":"active",
            "max_input_tokens":200_000,"max_tokens":64_000,"capabilities":{}})
    };
    let data: Vec<Value> = MODELS.iter().map(model).collect();
    Native::json(
        200,
        &json!({"data":data,"has_more":false,"first_id":MODELS.first(),"last_id":MODELS.last()}),
    )
}

/// The signature of a thinking block: it holds for this text only.
fn signature(thinking: &str) -> String {
    let digest = Sha256::digest(thinking.as_bytes());
    format!("EqQB{}", STANDARD.encode(digest))
}

/// Status, `type`, message, `details.error_code`.
fn usual(class: Class) -> (u16, &'static str, &'static str, &'static str) {
    const BAD: &str = "invalid_request_error";
    match class {
        Class::RateLimited | Class::Concurrency => (
            429,
            "rate_limit_error",
            "This request would exceed your organization's rate limit of requests per minute.",
            "",
        ),
        Class::TokensLimited => (
            429,
            "rate_limit_error",
            "This request would exceed your organization's rate limit of input tokens per minute.",
            "",
        ),
        Class::DailyQuota => (
            429,
            "rate_limit_error",
            "This request would exceed your organization's spend limit.",
            "enforced_spend_limit_reached",
        ),
        Class::QuotaExhausted => (
            400,
            BAD,
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
            "",
        ),
        Class::TokenExpired => (
            401,
            "authentication_error",
            "OAuth token has expired. Please obtain a new token or refresh your existing token.",
            "",
        ),
        Class::AuthInvalid => (401, "authentication_error", "invalid x-api-key", ""),
        Class::NotEntitled => (404, "not_found_error", "model not found", ""),
        Class::Overloaded => (529, "overloaded_error", "Overloaded", ""),
        Class::BadRequest => (400, BAD, "messages: invalid", ""),
        Class::ContentFiltered => (400, BAD, "Output blocked by content filtering policy", ""),
        Class::ContextTooLong => (400, BAD, "prompt is too long: 210000 tokens > 200000 maximum", ""),
        Class::ServerError => (500, "api_error", "Internal server error", ""),
        Class::NoSuchPath => (404, "not_found_error", "Not found", ""),
    }
}

fn body(refusal: &Refusal, id: &str) -> (u16, Value) {
    let (status, kind, message, code) = usual(refusal.class);
    let message = refusal.message.as_deref().unwrap_or(message);
    let mut error = json!({"type":kind,"message":message});
    if !code.is_empty() {
        put(&mut error, "details", json!({ "error_code": code }));
    }
    (status, json!({"type":"error","error":error,"request_id":id}))
}

/// A refusal.
pub fn refuse(refusal: &Refusal) -> Native {
    let id = random_name("req_011", 21);
    let (status, body) = body(refusal, &id);
    let native = Native::json(status, &body).with("request-id", id);
    match refusal.class {
        Class::RateLimited | Class::TokensLimited | Class::Concurrency => {
            let wait = refusal.retry_after.map_or(20, |wait| wait.as_secs().max(1));
            native.with("retry-after", wait.to_string()).with("x-should-retry", "true")
        }
        Class::DailyQuota | Class::QuotaExhausted => native.with("x-should-retry", "false"),
        _ => native,
    }
}

/// An error after the 200.
pub fn stream_error(refusal: &Refusal) -> Bytes {
    let (_, body) = body(refusal, &random_name("req_011", 21));
    Bytes::from(format!("event: error\ndata: {body}\n\n"))
}
