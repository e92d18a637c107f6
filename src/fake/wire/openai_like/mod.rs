//! The OpenAI wire and the seven platforms that speak it with small liberties.

pub mod auth;
pub mod errors;
pub mod fields;
pub mod messages;
pub mod rows;
pub mod stream;
pub mod usual;
pub mod whole;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::fake::fault::{Class, Refusal};
use crate::fake::server::World;
use crate::fake::wire::check::{self, Object, put};
use crate::fake::wire::{Asked, Embed, Native, Want};
use rows::{Row, Style};

/// Reads a request.
pub fn read(row: &Row, asked: &Asked, rest: &str, world: &World) -> Result<Want, Refusal> {
    let path = rest.split('?').next().unwrap_or_default();
    let nowhere = || Refusal::of(Class::NoSuchPath);
    let below = match (row.style, path) {
        (Style::Spark, _) => spark_path(path).ok_or_else(nowhere)?,
        // Where Qwen's OAuth accounts are served: `<resource_url>/v1`.
        (Style::Qwen, _) if path.starts_with("/v1/") => path.strip_prefix("/v1").ok_or_else(nowhere)?,
        _ => path.strip_prefix(row.base).ok_or_else(nowhere)?,
    };
    match (&asked.method, below) {
        (&Method::POST, "/chat/completions") => {
            let question = fields::read(row, &asked.object()?, path)?;
            unique(row, asked, world)?;
            Ok(Want::Chat(Box::new(question)))
        }
        (&Method::POST, "/embeddings") if row.embeds => embed_ask(row, &asked.object()?).map(Want::Embed),
        (&Method::GET, "/models") => Ok(Want::Told(models(row))),
        (&Method::GET, one) if one.starts_with("/models/") => {
            let id = one.trim_start_matches("/models/");
            let known = row.models.contains(&id);
            if known {
                Ok(Want::Told(Native::json(200, &model(row, id))))
            } else {
                Err(Refusal::of(Class::NotEntitled))
            }
        }
        _ => Err(nowhere()),
    }
}

/// Spark's paths depend on the model; all lead to the same place.
fn spark_path(path: &str) -> Option<&str> {
    ["/v1", "/v2", "/x2", "/agent/v1"].iter().find_map(|base| path.strip_prefix(base))
}

/// Zhipu refuses a `request_id` that it has seen.
fn unique(row: &Row, asked: &Asked, world: &World) -> Result<(), Refusal> {
    if row.style != Style::Zhipu {
        return Ok(());
    }
    let fields = asked.object()?;
    match check::text(&fields, "request_id")? {
        Some(id) if !world.new_request_id(id) => {
            Err(Refusal::bad("request_id 重复，请更换 request_id。").code("1231"))
        }
        _ => Ok(()),
    }
}

fn model(row: &Row, id: &str) -> Value {
    let mut told = json!({"id":id,"object":"model","created":1_686_935_002,"owned_by":row.name});
    if row.style == Style::HuggingFace {
        put(
            &mut told,
            "providers",
            json!([{"provider":"novita","status":"live","context_length":131_072,
            "pricing":{"input":1.69,"output":3.38},"supports_tools":true}]),
        );
    }
    told
}

fn models(row: &Row) -> Native {
    let data: Vec<Value> = row.models.iter().map(|id| model(row, id)).collect();
    Native::json(200, &json!({"object":"list","data":data}))
}

fn embed_ask(row: &Row, fields: &Object) -> Result<Embed, Refusal> {
    let known = ["model", "input", "encoding_format", "dimensions", "user"];
    check::only(fields, &known, "", fields::unknown)?;
    let model = check::text(fields, "model")?.ok_or_else(|| fields::missing("model"))?.to_owned();
    let input = check::get(fields, "input").ok_or_else(|| fields::missing("input"))?;
    let texts = embed_texts(input).filter(|texts| !texts.is_empty() && texts.len() <= 2048);
    let texts = texts.ok_or_else(|| Refusal::bad("'$.input' is invalid.").at("input"))?;
    let encoding = check::one_of(fields, "encoding_format", &["float", "base64"])?;
    if encoding == Some("base64")
        && !matches!(row.style, Style::OpenAi | Style::Qwen | Style::Doubao | Style::AiHubMix)
    {
        return Err(Refusal::bad("encoding_format base64 is not supported").at("encoding_format"));
    }
    let dimensions = check::count(fields, "dimensions")?.unwrap_or(8);
    if !(1..=4096).contains(&dimensions) {
        return Err(Refusal::bad("Invalid 'dimensions'.").at("dimensions"));
    }
    let dimensions = usize::try_from(dimensions).unwrap_or(8);
    Ok(Embed { model, texts, dimensions, base64: encoding == Some("base64") })
}

/// The inputs as texts; tokens as their numbers, in words.
fn embed_texts(input: &Value) -> Option<Vec<String>> {
    let tokens = |items: &Vec<Value>| -> Option<String> {
        let numbers: Option<Vec<String>> =
            items.iter().map(|item| item.as_u64().map(|id| id.to_string())).collect();
        numbers.filter(|numbers| !numbers.is_empty()).map(|numbers| numbers.join(" "))
    };
    match input {
        Value::String(text) if !text.is_empty() => Some(vec![text.clone()]),
        Value::Array(items) if items.first().is_some_and(Value::is_number) => {
            tokens(items).map(|text| vec![text])
        }
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::String(text) if !text.is_empty() => Some(text.clone()),
                Value::Array(inner) => tokens(inner),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

/// The vectors.
pub fn embed(row: &Row, embed: &Embed) -> Native {
    let data = embed.vectors().into_iter().enumerate().map(|(index, vector)| {
        let told = if embed.base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            Value::from(STANDARD.encode(bytes))
        } else {
            json!(vector)
        };
        json!({"object":"embedding","index":index,"embedding":told})
    });
    let tokens = embed.tokens();
    let mut body = json!({"object":"list","model":embed.model,"data":data.collect::<Vec<_>>(),
        "usage":{"prompt_tokens":tokens,"total_tokens":tokens}});
    if row.style == Style::Qwen {
        put(&mut body, "id", Value::from(crate::ids::random_name("", 32)));
    }
    Native::json(200, &body)
}
