//! What a provider does otherwise than the standard, both ways: a standard request becomes what it wants to see, its answer becomes
//! what the standard would have said. Pure, so that each provider's oddities are a table of tests.

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value};
use url::Url;

use super::error::OAuthError;
use super::row::{Client, ClientAuth, Encoding, Provider, Quirk};
use super::web::{Answer, Outgoing};

/// Longest text of a provider's that is passed on.
const MAX_SAID: usize = 200;

/// Longest token, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// Longest life of a token that is believed: ten years.
const MAX_LIFETIME: u64 = 10 * 366 * 86_400;

/// Shortest: a provider that says 0 would be asked without end.
const MIN_LIFETIME: u64 = 60;

/// A request to a token endpoint, as this provider wants it. `given` are the standard's parameters without the client's.
pub(super) fn outgoing(
    provider: &Provider,
    client: &Client,
    url: &Url,
    given: &[(String, String)],
) -> Outgoing {
    let is_refresh = given.iter().any(|(name, value)| name == "grant_type" && value == "refresh_token");
    let without_secret = is_refresh && provider.has(Quirk::RefreshWithoutSecret);
    let secret = client.secret.as_ref().filter(|_| !without_secret);
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    for (name, value) in &provider.headers {
        headers.insert(name.clone(), value.clone());
    }
    let mut parameters: Vec<(String, String)> = Vec::new();
    match (provider.client_auth, secret) {
        (ClientAuth::Basic, Some(secret)) => {
            headers.insert(AUTHORIZATION, basic(&client.id, secret.expose()));
        }
        (ClientAuth::Body, Some(secret)) => {
            parameters.push(("client_id".to_owned(), client.id.clone()));
            parameters.push(("client_secret".to_owned(), secret.expose().to_owned()));
        }
        _ => parameters.push(("client_id".to_owned(), client.id.clone())),
    }
    parameters.extend(given.iter().cloned());
    parameters.retain(|(name, _)| !provider.omit.contains(name));
    for (name, _) in &mut parameters {
        if let Some(other) = provider.names.get(name) {
            name.clone_from(other);
        }
    }
    encoded(provider.token_request, url, headers, &parameters)
}

fn encoded(
    encoding: Encoding,
    url: &Url,
    mut headers: HeaderMap,
    parameters: &[(String, String)],
) -> Outgoing {
    let mut url = url.clone();
    let (method, body) = match encoding {
        Encoding::Form => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            (Method::POST, form(parameters).into_bytes())
        }
        Encoding::Json => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let members: Map<String, Value> =
                parameters.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
            (Method::POST, Value::from(members).to_string().into_bytes())
        }
        Encoding::Query => {
            url.query_pairs_mut().extend_pairs(parameters);
            (Method::GET, Vec::new())
        }
    };
    Outgoing { method, url, headers, body }
}

/// Parameters as a form.
pub(super) fn form(parameters: &[(String, String)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

/// HTTP Basic, both parts form-encoded first (RFC 6749, 2.3.1). Marked, so that nothing prints it.
pub(super) fn basic(id: &str, secret: &str) -> HeaderValue {
    use base64::Engine as _;
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(id), encoded(secret));
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut value = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

/// A provider's answer as the standard would have it: the status, and a JSON object.
///
/// # Errors
/// It has trouble, or that was no answer of an OAuth server's.
pub(super) fn normalised(
    provider: &Provider,
    answer: &Answer,
) -> Result<(bool, Map<String, Value>), OAuthError> {
    if answer.status >= 500 || (answer.status == 429 && !is_about_a_device(provider, &answer.body)) {
        let why = format!("it answered with status {}", answer.status);
        return Err(OAuthError::Unavailable { why, after: answer.retry_after });
    }
    let Some(mut body) = object_of(&answer.body) else {
        let what = if answer.body.iter().all(u8::is_ascii_whitespace) { "nothing" } else { "no JSON" };
        return Err(OAuthError::Nonsense(format!("status {} and {what}", answer.status)));
    };
    if let Some((code, said)) = vendor_error(provider, &body) {
        return Ok((false, refused(provider, &code, &said)));
    }
    if let Some(inner) = provider.envelope.as_ref().and_then(|name| body.remove(name)) {
        let Value::Object(inner) = inner else {
            return Err(OAuthError::Nonsense("its envelope holds no object".to_owned()));
        };
        body = inner;
    }
    if let Some(code) = body.get("error").filter(|error| !error.is_null()) {
        let code = code.as_str().map_or_else(|| code.to_string(), str::to_owned);
        let said = ["error_description", "message", "msg"].iter().find_map(|name| body.get(*name)?.as_str());
        let said = said.unwrap_or_default().to_owned();
        return Ok((false, refused(provider, &code, &said)));
    }
    for (theirs, ours) in &provider.members {
        if let Some(value) = body.remove(theirs) {
            body.insert(ours.clone(), value);
        }
    }
    if !(200..300).contains(&answer.status) {
        let said = body.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
        let code = if answer.status == 401 { "invalid_client" } else { "invalid_request" };
        return Ok((false, refused(provider, code, &format!("status {} {said}", answer.status))));
    }
    tidy(&mut body);
    Ok((true, body))
}

/// Whether an answer is one of those to a device's question that come with 429 at some providers: everything else with that status
/// is about how often we ask, and no refusal.
fn is_about_a_device(provider: &Provider, body: &[u8]) -> bool {
    let Some(body) = object_of(body) else { return false };
    let code = body.get("error").and_then(Value::as_str).unwrap_or_default();
    let name = provider.errors.get(code).map_or(code, String::as_str);
    matches!(name, "slow_down" | "authorization_pending")
}

/// JSON, whatever its content type says; or, from servers that do not know better, a form.
fn object_of(body: &[u8]) -> Option<Map<String, Value>> {
    if let Ok(object) = serde_json::from_slice(body) {
        return Some(object);
    }
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_form = !text.is_empty() && !text.starts_with(['{', '[', '<', '"']) && text.contains('=');
    let pairs = is_form.then(|| url::form_urlencoded::parse(text.as_bytes()))?;
    Some(pairs.map(|(name, value)| (name.into_owned(), Value::from(value.into_owned()))).collect())
}

/// An error that stands in a member of the vendor's own, whatever the status.
fn vendor_error(provider: &Provider, body: &Map<String, Value>) -> Option<(String, String)> {
    let code = provider.zero.iter().filter_map(|name| body.get(name)).find_map(|value| match value {
        Value::Number(number) if number.as_i64() != Some(0) => Some(number.to_string()),
        Value::String(text) if text != "0" && !text.is_empty() => Some(text.clone()),
        _ => None,
    })?;
    let said =
        ["error_description", "errmsg", "msg", "message"].iter().find_map(|name| body.get(*name)?.as_str());
    Some((code, said.unwrap_or_default().to_owned()))
}

fn refused(provider: &Provider, code: &str, said: &str) -> Map<String, Value> {
    let name = provider.errors.get(code).map_or(code, String::as_str);
    let said = if name == code { printable(said) } else { printable(&format!("{code} {said}")) };
    let mut body = Map::new();
    body.insert("error".to_owned(), Value::from(printable(name)));
    body.insert("error_description".to_owned(), Value::from(said));
    body
}

/// What the standard wants and some leave out, or write in their own way.
fn tidy(body: &mut Map<String, Value>) {
    if body.get("token_type").is_none_or(|kind| kind.as_str().is_none_or(str::is_empty)) {
        body.insert("token_type".to_owned(), Value::from("bearer"));
    }
    let lifetime = body.remove("expires_in").as_ref().and_then(whole);
    if let Some(seconds) = lifetime {
        body.insert("expires_in".to_owned(), Value::from(seconds.clamp(MIN_LIFETIME, MAX_LIFETIME)));
    }
    if let Some(Value::String(scope)) = body.get_mut("scope") {
        *scope = scope.split([' ', ',']).filter(|one| !one.is_empty()).collect::<Vec<_>>().join(" ");
    }
    if body.get("refresh_token").is_some_and(|token| token.as_str().is_none_or(|token| !is_token(token))) {
        body.remove("refresh_token");
    }
}

/// Whether that can be a token: something that fits into a header.
pub(super) fn is_token(text: &str) -> bool {
    (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A number, also one in quotes or with a point; below zero it is 0.
fn whole(value: &Value) -> Option<u64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse::<f64>().ok()?,
        _ => return None,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    let seconds = number.max(0.0) as u64;
    number.is_finite().then_some(seconds)
}

/// What somebody else wrote, fit to be shown: bounded, without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
}
