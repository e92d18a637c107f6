//! Google's Gemini API: the model in the path, parts instead of text, quota told in error details, signatures on calls.

mod parts;
mod read;
mod render;
mod schema;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fake::fault::{Class, Refusal};
use crate::fake::server::World;
use crate::fake::wire::check::put;
use crate::fake::wire::{Asked, Caller, Embed, Native, Want};

pub use render::{stream, whole};

/// Who calls: `x-goog-api-key`, `?key=` or a bearer token; exactly one.
pub fn caller(asked: &Asked, world: &World) -> Result<Caller, Refusal> {
    let invalid =
        || Refusal::of(Class::AuthInvalid).saying("API key not valid. Please pass a valid API key.");
    let query = asked.query("key").unwrap_or_default();
    let bearer = asked.bearer().unwrap_or_default();
    let all = [asked.header("x-goog-api-key"), &query, bearer];
    let mut given = all.iter().filter(|key| !key.is_empty());
    let key = match (given.next(), given.next()) {
        (Some(key), None) => (*key).to_owned(),
        (None, _) => {
            return Err(Refusal::of(Class::AuthInvalid).code("PERMISSION_DENIED").saying(
                "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API consumer identity to call this API.",
            ));
        }
        _ => return Err(Refusal::bad("Multiple authentication credentials received. Please pass only one.")),
    };
    let listed = world.script().account("gemini", &key).1;
    let wanted = if bearer.is_empty() { "AIza" } else { "ya29" };
    if listed || key.starts_with(wanted) { Ok(Caller::new(key)) } else { Err(invalid()) }
}

/// Reads a request.
pub fn read(asked: &Asked, rest: &str, key: &str) -> Result<Want, Refusal> {
    let path = rest.split('?').next().unwrap_or_default();
    let nowhere = || Refusal::of(Class::NoSuchPath);
    let below = path.strip_prefix("/v1beta").or_else(|| path.strip_prefix("/v1")).ok_or_else(nowhere)?;
    if asked.method == Method::GET && below == "/models" {
        return Ok(Want::Told(models()));
    }
    let (model, action) =
        below.strip_prefix("/models/").and_then(|call| call.split_once(':')).ok_or_else(nowhere)?;
    if !MODELS.iter().any(|(name, _)| *name == model) && !model.starts_with("gemini-") {
        return Err(Refusal::of(Class::NotEntitled).saying(format!(
            "models/{model} is not found for API version v1beta, or is not supported for generateContent. Call ListModels to see the list of available models and their supported methods."
        )));
    }
    if asked.method != Method::POST {
        return Err(nowhere());
    }
    match action {
        "generateContent" => Ok(Want::Chat(Box::new(read::question(&asked.object()?, model, key)?))),
        "streamGenerateContent" => {
            let mut question = read::question(&asked.object()?, model, key)?;
            question.stream = true;
            question.in_array = asked.query("alt").as_deref() != Some("sse");
            Ok(Want::Chat(Box::new(question)))
        }
        "countTokens" => {
            let question = read::question(&asked.object()?, model, key)?;
            let tokens = crate::fake::brain::prompt_tokens(&question);
            Ok(Want::Told(Native::json(200, &json!({ "totalTokens": tokens }))))
        }
        "embedContent" | "batchEmbedContents" => {
            embed_ask(asked, model, action == "embedContent").map(Want::Embed)
        }
        _ => Err(nowhere()),
    }
}

/// Models, and whether they think.
const MODELS: [(&str, bool); 5] = [
    ("gemini-3.8-flash", true),
    ("gemini-3-pro", true),
    ("gemini-2.5-flash", true),
    ("gemini-2.0-flash", false),
    ("gemini-embedding-001", false),
];

fn thinks(model: &str) -> bool {
    model.starts_with("gemini-3") || model.starts_with("gemini-2.5")
}

fn models() -> Native {
    let told = MODELS.iter().map(|(name, thinking)| {
        json!({"name":format!("models/{name}"),"version":"001","displayName":name,"inputTokenLimit":1_048_576,
            "outputTokenLimit":65_536,"supportedGenerationMethods":["generateContent","countTokens"],"thinking":thinking})
    });
    Native::json(200, &json!({ "models": told.collect::<Vec<_>>() }))
}

/// The signature of a call: it holds for this model, this key and this function.
fn signature(model: &str, key: &str, function: &str) -> String {
    STANDARD.encode(Sha256::digest(format!("{model}\n{key}\n{function}")))
}

fn embed_ask(asked: &Asked, model: &str, single: bool) -> Result<Embed, Refusal> {
    let body = asked.object()?;
    let of = |request: &Value| {
        let parts =
            request.get("content").and_then(|content| content.get("parts")).and_then(Value::as_array)?;
        let texts: Vec<&str> =
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
        Some(texts.join(" "))
    };
    let texts: Option<Vec<String>> = match single {
        true => of(&Value::Object(body)).map(|text| vec![text]),
        false => body.get("requests").and_then(Value::as_array).and_then(|all| all.iter().map(of).collect()),
    };
    let texts =
        texts.ok_or_else(|| Refusal::bad("* EmbedContentRequest.content: contents is not specified"))?;
    // The shape of the answer follows the shape of the question; `base64` marks the single one.
    Ok(Embed { model: model.to_owned(), texts, dimensions: 8, base64: single })
}

/// The vectors.
pub fn embed(embed: &Embed) -> Native {
    let mut all: Vec<Value> = embed.vectors().into_iter().map(|values| json!({ "values": values })).collect();
    let body = match (embed.base64, all.pop()) {
        (true, Some(one)) => json!({ "embedding": one }),
        (_, last) => {
            all.extend(last);
            json!({ "embeddings": all })
        }
    };
    Native::json(200, &body)
}

/// HTTP status, status word, message.
fn usual(class: Class) -> (u16, &'static str, &'static str) {
    const QUOTA: &str = "You exceeded your current quota, please check your plan and billing details. For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.";
    match class {
        Class::RateLimited | Class::TokensLimited | Class::Concurrency | Class::DailyQuota => {
            (429, "RESOURCE_EXHAUSTED", QUOTA)
        }
        Class::QuotaExhausted => (
            402,
            "RESOURCE_EXHAUSTED",
            "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing.",
        ),
        Class::TokenExpired => (
            401,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.",
        ),
        Class::AuthInvalid => (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
        Class::NotEntitled => (
            404,
            "NOT_FOUND",
            "models/x is not found for API version v1beta, or is not supported for generateContent.",
        ),
        Class::Overloaded => (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
        Class::BadRequest => (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
        Class::ContentFiltered => (400, "INVALID_ARGUMENT", "The input was blocked by a safety policy."),
        Class::ContextTooLong => (
            400,
            "INVALID_ARGUMENT",
            "The input token count (1300000) exceeds the maximum number of tokens allowed (1048576).",
        ),
        Class::ServerError => (
            500,
            "INTERNAL",
            "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting",
        ),
        Class::NoSuchPath => (404, "NOT_FOUND", "Requested entity was not found."),
    }
}

fn body(refusal: &Refusal) -> (u16, Value) {
    let (mut code, mut status, usual) = usual(refusal.class);
    if refusal.code == Some("PERMISSION_DENIED") {
        (code, status) = (403, "PERMISSION_DENIED");
    }
    let mut message = refusal.message.clone().unwrap_or_else(|| usual.to_owned());
    let info = |reason: &str| {
        json!([{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":reason,"domain":"googleapis.com",
            "metadata":{"service":"generativelanguage.googleapis.com"}}])
    };
    let wait = refusal.retry_after.map_or(20, |wait| wait.as_secs().max(1));
    let quota = match refusal.class {
        Class::TokensLimited => Some((
            "generate_content_free_tier_input_token_count",
            "GenerateContentInputTokensPerModelPerMinute-FreeTier",
        )),
        Class::DailyQuota => {
            Some(("generate_content_free_tier_requests", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"))
        }
        Class::RateLimited | Class::Concurrency => Some((
            "generate_content_free_tier_requests",
            "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
        )),
        _ => None,
    };
    let details = match (refusal.class, quota) {
        (_, Some((metric, id))) => {
            let metric = format!("generativelanguage.googleapis.com/{metric}");
            message = format!(
                "{message}\n* Quota exceeded for metric: {metric}, limit: 20, model: gemini-2.5-flash\nPlease retry in {wait}s."
            );
            json!([
                {"@type":"type.googleapis.com/google.rpc.Help","links":[{"description":"Learn more about Gemini API quotas",
                    "url":"https://ai.google.dev/gemini-api/docs/rate-limits"}]},
                {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaMetric":metric,"quotaId":id,
                    "quotaDimensions":{"location":"global","model":"gemini-2.5-flash"},"quotaValue":"20"}]},
                {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":format!("{wait}s")}])
        }
        (Class::AuthInvalid, _) if code == 400 => info("API_KEY_INVALID"),
        (Class::TokenExpired, _) => info("ACCESS_TOKEN_EXPIRED"),
        _ => Value::Null,
    };
    let mut error = json!({"code":code,"message":message,"status":status});
    if !details.is_null() {
        put(&mut error, "details", details);
    }
    (code, json!({ "error": error }))
}

/// A refusal.
pub fn refuse(refusal: &Refusal) -> Native {
    let (status, body) = body(refusal);
    let mut native = Native::json(status, &body);
    native.headers = vec![("content-type", "application/json; charset=UTF-8".to_owned())];
    native
}

/// An error after the 200.
pub fn stream_error(refusal: &Refusal) -> Bytes {
    Bytes::from(format!("data: {}\r\n\r\n", body(refusal).1))
}
