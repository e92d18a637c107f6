//! Volcengine's control plane: a signed call trades AK/SK for a key that is good for one endpoint. The signature is like
//! AWS SigV4 with another name, no `AWS4` before the key, and `request` at the end of the scope.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::sign;
use super::token::{Token, TokenRefused, TokenRequest, end_of_life};
use crate::clock::Clock;
use crate::platform::judge::mask;
use crate::secret::Secret;

/// The control plane.
pub const TOKEN_URL: &str = "https://open.volcengineapi.com/?Action=GetApiKey&Version=2024-01-01";

const REGION: &str = "cn-beijing";
const SERVICE: &str = "ark";

/// How long a key shall live, in seconds: the vendor's SDK asks for a week.
const KEY_SECONDS: u32 = 604_800;

/// What the control plane says where the key pair itself is wrong or may not do this.
const INVALID: [&str; 5] = [
    "InvalidAccessKey",
    "SignatureDoesNotMatch",
    "AccessDenied",
    "InvalidCredential",
    "InvalidAuthorization",
];

/// Asks for a key for `model`: an endpoint's id or a model's.
pub fn token_request(
    url: &str,
    access_key: &Secret,
    secret_key: &Secret,
    model: &str,
    clock: &Clock,
) -> Option<TokenRequest> {
    let parsed = url::Url::parse(url).ok()?;
    let host = match parsed.port() {
        Some(port) => format!("{}:{port}", parsed.host_str()?),
        None => parsed.host_str()?.to_owned(),
    };
    let body = body(model);
    let date = sign::utc(clock.wall_millis(), "%Y%m%dT%H%M%SZ");
    let hash = sha(&body);
    let signed =
        Signed { host: &host, path: parsed.path(), query: parsed.query().unwrap_or_default(), date: &date };
    let mut authorization =
        HeaderValue::from_str(&signed.authorization(access_key, secret_key, &hash)).ok()?;
    authorization.set_sensitive(true);
    let headers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (HeaderName::from_static("x-date"), HeaderValue::from_str(&date).ok()?),
        (HeaderName::from_static("x-content-sha256"), HeaderValue::from_str(&hash).ok()?),
        (AUTHORIZATION, authorization),
    ]);
    Some(TokenRequest { method: http::Method::POST, url: Secret::new(url), headers, body: Bytes::from(body) })
}

/// What to ask for: the kind of resource follows from the name.
fn body(model: &str) -> String {
    let model_json = Value::from(model);
    let (kind, project) = match model {
        _ if model.starts_with("bot-") => ("bot", ""),
        _ if model.starts_with("ep-") && !model.starts_with("ep-m-") => ("endpoint", ""),
        _ => ("presetendpoint", r#","ProjectName":"default""#),
    };
    format!(
        r#"{{"DurationSeconds":{KEY_SECONDS},"ResourceType":"{kind}","ResourceIds":[{model_json}]{project}}}"#
    )
}

fn sha(body: &str) -> String {
    sign::sha256_hex(body.as_bytes())
}

/// What a signature covers, besides the body.
struct Signed<'a> {
    host: &'a str,
    path: &'a str,
    query: &'a str,
    /// `20261121T020000Z`.
    date: &'a str,
}

impl Signed<'_> {
    fn authorization(&self, access_key: &Secret, secret_key: &Secret, body_hash: &str) -> String {
        const NAMES: &str = "content-type;host;x-content-sha256;x-date";
        let Signed { host, path, query, date } = self;
        let mut query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
        query.sort_unstable();
        let canonical = format!(
            "POST\n{path}\n{}\ncontent-type:application/json\nhost:{host}\nx-content-sha256:{body_hash}\nx-date:{date}\n\n{NAMES}\n{body_hash}",
            query.join("&")
        );
        let day = date.get(..8).unwrap_or_default();
        let scope = format!("{day}/{REGION}/{SERVICE}/request");
        let text = format!("HMAC-SHA256\n{date}\n{scope}\n{}", sign::sha256_hex(canonical.as_bytes()));
        let key = [day, REGION, SERVICE, "request"]
            .iter()
            .fold(secret_key.expose().as_bytes().to_vec(), |key, word| {
                sign::hmac_sha256(&key, word.as_bytes())
            });
        let signature = sign::hex(&sign::hmac_sha256(&key, text.as_bytes()));
        format!(
            "HMAC-SHA256 Credential={}/{scope}, SignedHeaders={NAMES}, Signature={signature}",
            access_key.expose()
        )
    }
}

/// The control plane's answer: `Result.ApiKey` and `Result.ExpiredTime` (seconds since 1970), or
/// `ResponseMetadata.Error`.
pub fn read_token(status: u16, body: &[u8], clock: &Clock) -> Result<Token, TokenRefused> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| TokenRefused::by_status(status))?;
    if let Some(error) = answer.pointer("/ResponseMetadata/Error") {
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let reason = mask::mask(&format!("{}: {}", text("Code"), text("Message")));
        let is_invalid = INVALID.iter().any(|code| text("Code").starts_with(code));
        return Err(if is_invalid {
            TokenRefused::invalid(reason)
        } else {
            TokenRefused { reason, ..TokenRefused::by_status(status) }
        });
    }
    let Some(key) = answer.pointer("/Result/ApiKey").and_then(Value::as_str).filter(|key| !key.is_empty())
    else {
        return Err(TokenRefused::by_status(status));
    };
    let end = answer
        .pointer("/Result/ExpiredTime")
        .and_then(Value::as_u64)
        .map(|seconds| seconds.saturating_mul(1000));
    Ok(Token {
        secret: Secret::new(key),
        expires_at_millis: end.unwrap_or_else(|| end_of_life(None, clock.wall_millis())),
    })
}
