//! Who calls an OpenAI-like platform. Why apart: all take a bearer token, but Zhipu also takes a token that the caller
//! signs, and Hugging Face shows its models to everyone.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::rows::{Row, Style};
use crate::fake::fault::{Class, Refusal};
use crate::fake::server::World;
use crate::fake::wire::{Asked, Caller};

/// Who calls; `None` where nobody needs to.
pub fn caller(row: &Row, asked: &Asked, rest: &str, world: &World) -> Result<Option<Caller>, Refusal> {
    let header = asked.header("authorization");
    let token = match row.style {
        Style::HuggingFace if rest.starts_with("/v1/models") => return Ok(None),
        // The JWT may also come without "Bearer".
        Style::Zhipu if !header.is_empty() && !header.contains(' ') => Some(header),
        _ => asked.bearer(),
    };
    let Some(token) = token else { return Err(missing(row)) };
    if row.style == Style::Zhipu {
        return zhipu(token, world).map(Some);
    }
    let listed = world.script().account(row.name, token).1;
    if listed || (token.starts_with(row.key_prefix) && token.len() > row.key_prefix.len()) {
        return Ok(Some(Caller::new(token)));
    }
    Err(Refusal::of(Class::AuthInvalid).saying(wrong(row, token)))
}

fn missing(row: &Row) -> Refusal {
    let refusal = Refusal::of(Class::AuthInvalid);
    match row.style {
        Style::OpenAi => refusal
            .saying("You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).")
            .code(""),
        Style::Zhipu => refusal.saying("Header 中未收到 Authentication 参数，无法进行身份验证").code("1001"),
        Style::Spark => refusal.saying("Unauthorized").code("gateway"),
        _ => refusal,
    }
}

fn wrong(row: &Row, token: &str) -> String {
    let start: String = token.chars().take(5).collect();
    match row.style {
        Style::OpenAi => format!(
            "Incorrect API key provided: {start}***. You can find your API key at https://platform.openai.com/account/api-keys."
        ),
        _ => super::usual::usual(row.style, Class::AuthInvalid).3.to_owned(),
    }
}

/// `id.secret`, or a JWT signed with the secret of a listed key. Its times are in milliseconds.
fn zhipu(token: &str, world: &World) -> Result<Caller, Refusal> {
    let invalid = || {
        Refusal::of(Class::AuthInvalid)
            .code("1002")
            .saying("Authorization Token非法，请确认Authorization Token正确传递。")
    };
    let parts: Vec<&str> = token.split('.').collect();
    match parts.as_slice() {
        [id, secret] if !id.is_empty() && !secret.is_empty() => Ok(Caller::new(token)),
        [head, body, signature] => {
            let read = |part: &str| -> Option<Value> {
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
            };
            let header = read(head).ok_or_else(invalid)?;
            let claims = read(body).ok_or_else(invalid)?;
            if header.get("alg") != Some(&Value::from("HS256"))
                || header.get("sign_type") != Some(&Value::from("SIGN"))
            {
                return Err(invalid());
            }
            let id = claims.get("api_key").and_then(Value::as_str).ok_or_else(invalid)?;
            let script = world.script();
            let key =
                script.accounts.keys().find(|key| key.split_once('.').is_some_and(|(known, _)| known == id));
            let key = key.ok_or_else(invalid)?;
            let secret = key.split_once('.').map(|(_, secret)| secret).unwrap_or_default();
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| invalid())?;
            mac.update(format!("{head}.{body}").as_bytes());
            let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| invalid())?;
            mac.verify_slice(&signature).map_err(|_| invalid())?;
            let expires = claims.get("exp").and_then(Value::as_u64).ok_or_else(invalid)?;
            claims.get("timestamp").and_then(Value::as_u64).ok_or_else(invalid)?;
            Ok(Caller {
                key: key.clone(),
                token: token.to_owned(),
                expired: expires <= world.clock.wall_millis(),
            })
        }
        _ => Err(invalid()),
    }
}
