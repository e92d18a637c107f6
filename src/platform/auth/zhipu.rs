//! Zhipu's JWT, made locally from the key `id.secret`. Built by hand because `exp` and `timestamp` count milliseconds,
//! which JWT libraries will not do.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{sign, unusable};
use crate::clock::Clock;
use crate::fault::Fault;
use crate::secret::Secret;

/// The vendor's own SDK lets a token live for this long, in milliseconds.
const LIFE_MILLIS: u64 = 210_000;

const HEADER: &str = r#"{"alg":"HS256","sign_type":"SIGN","typ":"JWT"}"#;

/// A token that is good from now for [`LIFE_MILLIS`].
pub fn jwt(key: &Secret, clock: &Clock) -> Result<Secret, Fault> {
    let Some((id, secret)) =
        key.expose().split_once('.').filter(|(id, secret)| !id.is_empty() && !secret.is_empty())
    else {
        return Err(unusable("the key is not of the form id.secret"));
    };
    let now = clock.wall_millis();
    let id = serde_json::Value::from(id);
    let payload =
        format!(r#"{{"api_key":{id},"exp":{},"timestamp":{now}}}"#, now.saturating_add(LIFE_MILLIS));
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(payload));
    let signature = sign::hmac_sha256(secret.as_bytes(), signed.as_bytes());
    Ok(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
}
