//! Baidu's two ways from AK/SK to a token: V1's client credentials (the token stands in the query of each call) and V2's
//! bearer, asked for by a request signed with "BCE v1".

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::token::{Token, TokenRefused, TokenRequest, end_of_life};
use super::{Outgoing, sign};
use crate::clock::Clock;
use crate::platform::judge::mask;
use crate::secret::Secret;

/// V1's token endpoint.
pub const V1_TOKEN_URL: &str = "https://aip.baidubce.com/oauth/2.0/token";

/// V2's token endpoint; tokens live for a day.
pub const IAM_TOKEN_URL: &str = "https://iam.bj.baidubce.com/v1/BCE-BEARER/token?expireInSeconds=86400";

/// How long a BCE signature holds, in seconds.
const SIGNATURE_SECONDS: u32 = 300;

/// OAuth errors that are not the credential's fault.
const TRANSIENT: [&str; 3] = ["temporarily_unavailable", "server_error", "internal_error"];

/// V1: AK and SK in the query, an empty body.
pub fn v1_token_request(url: &str, access_key: &Secret, secret_key: &Secret) -> TokenRequest {
    let url = format!(
        "{url}?grant_type=client_credentials&client_id={}&client_secret={}",
        sign::percent(access_key.expose()),
        sign::percent(secret_key.expose())
    );
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    TokenRequest { method: http::Method::POST, url: Secret::new(url), headers, body: bytes::Bytes::new() }
}

/// V1's answer. An error may come with 200, so the body decides.
pub fn read_v1_token(status: u16, body: &[u8], clock: &Clock) -> Result<Token, TokenRefused> {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return Err(TokenRefused::by_status(status));
    };
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        let words = answer.get("error_description").and_then(Value::as_str).unwrap_or_default();
        let reason = mask::mask(&format!("{error}: {words}"));
        let is_transient = status >= 500 || TRANSIENT.contains(&error);
        return Err(if is_transient {
            TokenRefused::transient(reason)
        } else {
            TokenRefused::invalid(reason)
        });
    }
    match answer.get("access_token").and_then(Value::as_str).filter(|token| !token.is_empty()) {
        Some(token) => Ok(Token {
            secret: Secret::new(token),
            expires_at_millis: end_of_life(answer.get("expires_in"), clock.wall_millis()),
        }),
        None => Err(TokenRefused::by_status(status)),
    }
}

/// V1: the token goes into the query of the call.
pub fn add_access_token(request: &mut Outgoing<'_>, token: &Secret) {
    request.path.push(if request.path.contains('?') { '&' } else { '?' });
    request.path.push_str("access_token=");
    request.path.push_str(&sign::percent(token.expose()));
}

/// V2: a signed GET. `None` where the URL is none.
pub fn iam_token_request(
    url: &str,
    access_key: &Secret,
    secret_key: &Secret,
    clock: &Clock,
) -> Option<TokenRequest> {
    let parsed = url::Url::parse(url).ok()?;
    let host = match parsed.port() {
        Some(port) => format!("{}:{port}", parsed.host_str()?),
        None => parsed.host_str()?.to_owned(),
    };
    let date = sign::utc(clock.wall_millis(), "%Y-%m-%dT%H:%M:%SZ");
    let signed_headers = [("host", host.as_str()), ("x-bce-date", date.as_str())];
    let signature = bce_authorization(
        access_key,
        secret_key,
        "GET",
        parsed.path(),
        parsed.query().unwrap_or_default(),
        &signed_headers,
        &date,
    );
    let mut authorization = HeaderValue::from_str(&signature).ok()?;
    authorization.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, authorization);
    headers.insert(HeaderName::from_static("x-bce-date"), HeaderValue::from_str(&date).ok()?);
    Some(TokenRequest {
        method: http::Method::GET,
        url: Secret::new(url),
        headers,
        body: bytes::Bytes::new(),
    })
}

/// `Authorization` of a request signed with BCE v1. `headers` in lower case; `query` as it stands in the URL.
pub fn bce_authorization(
    access_key: &Secret,
    secret_key: &Secret,
    method: &str,
    path: &str,
    query: &str,
    headers: &[(&str, &str)],
    date: &str,
) -> String {
    let prefix = format!("bce-auth-v1/{}/{date}/{SIGNATURE_SECONDS}", access_key.expose());
    let key = sign::hex(&sign::hmac_sha256(secret_key.expose().as_bytes(), prefix.as_bytes()));
    let mut query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let mut lines: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}:{}", sign::percent(value.trim()))).collect();
    lines.sort_unstable();
    let mut names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let text = format!("{method}\n{path}\n{}\n{}", query.join("&"), lines.join("\n"));
    let signature = sign::hex(&sign::hmac_sha256(key.as_bytes(), text.as_bytes()));
    format!("{prefix}/{}/{signature}", names.join(";"))
}

/// V2's answer.
pub fn read_iam_token(status: u16, body: &[u8]) -> Result<Token, TokenRefused> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| TokenRefused::by_status(status))?;
    let text = |name: &str| answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let end = text("expireTime").and_then(|end| end.parse::<jiff::Timestamp>().ok());
    match (text("token"), end) {
        (Some(token), Some(end)) => Ok(Token {
            secret: Secret::new(token),
            expires_at_millis: u64::try_from(end.as_millisecond()).unwrap_or_default(),
        }),
        _ => {
            let mut refused = TokenRefused::by_status(status);
            if let Some(code) = text("code") {
                refused.reason = mask::mask(&format!("{code}: {}", text("message").unwrap_or_default()));
            }
            Err(refused)
        }
    }
}
