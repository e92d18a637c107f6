//! What apps ask for with credentials of their own. Errors are in RFC 6749's words (5.2), and nothing here is kept by any cache.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::super::shape::{Shape, keep_from_caches};
use super::super::{Plane, Refused, verified};
use super::{failed, provider};
use crate::fault::{Fault, Kind};
use crate::gateway::provider::{App, GrantScope, Looked, OAuthCode, Params, Provider, ProviderError, Who};
use crate::http::reply::{allow_any, permission};
use crate::identity::{Caller, Ties};
use crate::secret::Secret;

/// An error of these endpoints.
pub(super) enum Wrong {
    OAuth(OAuthCode, &'static str),
    Fault(Fault),
}

impl From<ProviderError> for Wrong {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::OAuth(code, why) => Self::OAuth(code, why),
            other => Self::Fault(failed(other)),
        }
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let (status, error, why) = match &self {
            Self::OAuth(OAuthCode::InvalidClient, why) => (StatusCode::UNAUTHORIZED, "invalid_client", *why),
            Self::OAuth(code, why) => (StatusCode::BAD_REQUEST, code.as_str(), *why),
            Self::Fault(fault) => {
                if fault.kind() == Kind::Internal {
                    let cause = fault.cause().map(ToString::to_string).unwrap_or_default();
                    tracing::error!(%cause, "an app could not be answered");
                }
                return Shape::OAuth.answer(fault);
            }
        };
        let mut headers = private();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Basic realm="weir""#));
        }
        (status, headers, json!({"error": error, "error_description": why}).to_string()).into_response()
    }
}

/// Headers of something that is for one app alone, whatever its page's origin.
fn private() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    keep_from_caches(&mut headers);
    headers
}

pub(super) async fn preflight() -> Response {
    (StatusCode::NO_CONTENT, permission()).into_response()
}

/// A form, and the app that proved to be it.
async fn read<'p>(
    plane: &'p Plane,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(&'p Provider, App, Params), Wrong> {
    let invalid = |why| Err(Wrong::OAuth(OAuthCode::InvalidRequest, why));
    let provider = provider(plane).map_err(Wrong::Fault)?;
    if query.is_some_and(|query| !query.is_empty()) {
        return invalid("Parameters go into the body, never into the URL.");
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let text = std::str::from_utf8(body);
    let (true, Ok(text)) = (essence.eq_ignore_ascii_case("application/x-www-form-urlencoded"), text) else {
        return invalid("The body is application/x-www-form-urlencoded.");
    };
    let params = Params::read(text);
    if params.has_twins() {
        return invalid("A parameter stands there twice.");
    }
    let (client_id, secret) = credentials(headers, &params)?;
    let app = provider.authenticate(&client_id, secret.as_ref()).await?;
    Ok((provider, app, params))
}

/// Who the client says it is: in the header or in the body, never both (RFC 6749, 2.3).
fn credentials(headers: &HeaderMap, params: &Params) -> Result<(String, Option<Secret>), Wrong> {
    let invalid = |why| Err(Wrong::OAuth(OAuthCode::InvalidRequest, why));
    let one = |name| params.one(name).ok().flatten();
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let in_body = one("client_secret");
    match (values.next(), values.next()) {
        (Some(_), Some(_)) => invalid("There are two Authorization headers."),
        (Some(_), None) if in_body.is_some() => invalid("The client is authenticated in two ways."),
        (Some(value), None) => {
            let Some((client_id, secret)) = value.to_str().ok().and_then(basic) else {
                return Err(Wrong::OAuth(OAuthCode::InvalidClient, "The Authorization header is not Basic."));
            };
            if one("client_id").is_some_and(|other| other != client_id) {
                return invalid("The header and the body name two clients.");
            }
            Ok((client_id, Some(secret).filter(|secret| !secret.is_empty())))
        }
        (None, _) => match one("client_id") {
            Some(client_id) => Ok((client_id.to_owned(), in_body.map(Secret::new))),
            None => Err(Wrong::OAuth(OAuthCode::InvalidClient, "Nothing says which client this is.")),
        },
    }
}

/// `Basic`: both are form-encoded, then joined by a colon, then base64 (RFC 6749, 2.3.1).
fn basic(value: &str) -> Option<(String, Secret)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = zeroize::Zeroizing::new(STANDARD.decode(encoded.trim()).ok()?);
    let (id, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    let decode = |text: &str| {
        let plain = format!("x={}", text.replace('&', "%26"));
        url::form_urlencoded::parse(plain.as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    Some((decode(id)?, Secret::new(decode(secret)?)))
}

pub(super) async fn token(
    State(plane): State<Plane>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    let (provider, app, params) = read(&plane, query.as_deref(), &headers, &body).await?;
    let issued = provider.trade(&app, &params).await?;
    let answer = json!({
        "access_token": issued.access_token.expose(),
        "token_type": "Bearer",
        "expires_in": issued.expires_in,
        "refresh_token": issued.refresh_token.expose(),
        "scope": issued.scope,
    });
    Ok((private(), answer.to_string()).into_response())
}

fn the_token(params: &Params) -> Result<&str, Wrong> {
    let token = params.one("token").ok().flatten();
    token.ok_or(Wrong::OAuth(OAuthCode::InvalidRequest, "token is missing."))
}

pub(super) async fn revoke(
    State(plane): State<Plane>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    let (provider, app, params) = read(&plane, query.as_deref(), &headers, &body).await?;
    provider.revoke(&app, the_token(&params)?).await?;
    Ok((private(), "{}").into_response())
}

pub(super) async fn introspect(
    State(plane): State<Plane>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    let (provider, app, params) = read(&plane, query.as_deref(), &headers, &body).await?;
    if app.record.is_public {
        let why = "A public app cannot prove that it is it, so it is told nothing of tokens.";
        return Err(Wrong::OAuth(OAuthCode::InvalidClient, why));
    }
    let answer = match provider.introspect(&app, the_token(&params)?).await? {
        Looked::Active(answer) => answer,
        Looked::Inactive => json!({"active": false}),
    };
    Ok((private(), answer.to_string()).into_response())
}

/// A caller with a token that a person granted an app, for at least one of `scopes`.
async fn app_token(plane: &Plane, headers: &HeaderMap, scopes: &[GrantScope]) -> Result<Granted, Response> {
    provider(plane).map_err(|fault| Refused(fault).into_response())?;
    let caller = match verified(plane, headers).await {
        Ok(caller) => caller,
        Err(fault) => return Err(with_cors(Refused(fault).into_response())),
    };
    let is_enough = |ties: &Ties| ties.is_app() && scopes.iter().any(|scope| ties.has(scope.as_str()));
    if let Some(ties) = caller.ties.clone().filter(is_enough) {
        return Ok(Granted { caller, ties });
    }
    let names: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    let why = format!("This needs a token that a person granted an app, for {}.", names.join(" or "));
    let challenge =
        format!(r#"Bearer realm="weir", error="insufficient_scope", scope="{}""#, names.join(" "));
    let mut response = Refused(Fault::client(Kind::Forbidden, why)).into_response();
    if let Ok(challenge) = HeaderValue::from_str(&challenge) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    Err(with_cors(response))
}

struct Granted {
    caller: std::sync::Arc<Caller>,
    ties: Ties,
}

fn with_cors(mut response: Response) -> Response {
    allow_any(response.headers_mut());
    response
}

pub(super) async fn userinfo(State(plane): State<Plane>, headers: HeaderMap) -> Result<Response, Response> {
    let scopes = [GrantScope::Profile, GrantScope::Balance];
    let Granted { caller, ties } = app_token(&plane, &headers, &scopes).await?;
    let who = Who { tenant: caller.tenant.clone(), subject: caller.subject.clone() };
    let person = plane.provider.visitors().person(&who).await;
    let person = person.map_err(|error| with_cors(Refused(failed(error)).into_response()))?;
    let Some(person) = person else {
        let gone = Fault::client(Kind::Unauthenticated, "The person of this token is gone.");
        return Err(with_cors(Refused(gone).into_response()));
    };
    let mut answer = json!({"sub": who.subject});
    let mut put = |name: &str, value: Value| {
        if let (Some(answer), false) = (answer.as_object_mut(), value.is_null()) {
            answer.insert(name.to_owned(), value);
        }
    };
    if ties.has(GrantScope::Profile.as_str()) {
        put("name", json!(person.name));
        put("email", json!(person.email));
        put("picture", json!(person.picture));
    }
    if ties.has(GrantScope::Balance.as_str()) {
        put("balance", balance(&caller));
    }
    Ok((private(), answer.to_string()).into_response())
}

/// What is left of the quotas that this person's requests are counted on. A quota that there is not is not in it.
fn balance(caller: &Caller) -> Value {
    let left = caller.limiter.left();
    let all = [
        ("daily_requests", left.daily_requests),
        ("daily_tokens", left.daily_tokens),
        ("monthly_tokens", left.monthly_tokens),
    ];
    let quotas = all.into_iter().filter_map(|(name, quota)| Some((name.to_owned(), json!(quota?))));
    let quotas: serde_json::Map<String, Value> = quotas.collect();
    // Each process counts by itself: nobody is to take this for the sum over replicas.
    json!({"unlimited": quotas.is_empty(), "quotas": quotas, "counted_by": "this process, since it began"})
}

pub(super) async fn topup(State(plane): State<Plane>, headers: HeaderMap) -> Result<Response, Response> {
    app_token(&plane, &headers, &[GrantScope::Balance]).await?;
    match &plane.provider.settings().topup_url {
        Some(url) => Ok((private(), json!({"topup_url": url}).to_string()).into_response()),
        None => {
            let none = Fault::client(Kind::NotFound, "There is no place to get more quota.");
            Err(with_cors(Refused(none).into_response()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: Option<&str>, body: &str) -> Result<(String, Option<Secret>), &'static str> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(header::AUTHORIZATION, header.parse().expect("a header"));
        }
        credentials(&headers, &Params::read(body)).map_err(|wrong| match wrong {
            Wrong::OAuth(code, _) => code.as_str(),
            Wrong::Fault(_) => "fault",
        })
    }

    fn encoded(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn a_client_is_named_in_one_way() {
        let good = |id: &str, secret: &str| Ok((id.to_owned(), Some(Secret::new(secret))));
        assert_eq!(read(Some(&encoded("app:se%2Fcret+x")), ""), good("app", "se/cret x"));
        assert_eq!(read(Some(&encoded("app:a:b")), "client_id=app"), good("app", "a:b"));
        assert_eq!(read(Some(&encoded("app:")), ""), Ok(("app".to_owned(), None)));
        assert_eq!(read(None, "client_id=app&client_secret=s"), good("app", "s"));
        assert_eq!(read(None, "client_id=app"), Ok(("app".to_owned(), None)));
        assert_eq!(read(Some(&encoded("app:s")), "client_secret=s"), Err("invalid_request"));
        assert_eq!(read(Some(&encoded("app:s")), "client_id=other"), Err("invalid_request"));
        assert_eq!(read(None, ""), Err("invalid_client"));
        for bad in ["Bearer x", "Basic", "Basic !", &encoded("no-colon"), "Basic \u{e9}"] {
            assert_eq!(read(Some(bad), "client_id=app"), Err("invalid_client"), "{bad}");
        }
    }
}
