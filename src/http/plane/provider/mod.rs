//! Weir as an OAuth 2.0 provider, on the wire: thin handlers over [`Provider`](crate::gateway::provider::Provider). Two worlds
//! that share nothing: `authorize` and `/account/apps` are for browsers, with cookies and without CORS; `token` and the others
//! are for apps, with credentials of their own, without cookies, and for pages of any origin (RFC 9700, 2.6).

mod apps;
mod authorize;
mod grants;
mod page;
mod token;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use super::listed::{Routes, delete, get, post};
use super::{Plane, Refused, operator};
use crate::fault::{Fault, Kind};
use crate::gateway::issuer::IssuerError;
use crate::gateway::provider::{GrantScope, Provider, ProviderError};
use crate::http::reply::allow_any;
use crate::store::StoreError;

/// Sign-in by pop-up for apps that run in a browser.
const SDK: &str = include_str!("weir-oauth.js");

/// How long a browser may keep what hardly changes, in seconds.
const SHORT: &str = "public, max-age=30";

pub(super) fn routes() -> Routes {
    Routes::new()
        .route("/.well-known/oauth-authorization-server", get(metadata).options(token::preflight))
        .route("/.well-known/jwks.json", get(jwks).options(token::preflight))
        .route("/sdk/weir-oauth.js", get(sdk))
        .route("/api/oauth_apps", get(apps::list).post(apps::register))
        .route("/api/oauth_apps/{id}", delete(apps::remove))
        .route("/api/oauth_apps/{id}/secret", post(apps::rotate_secret))
        .route("/api/oauth2/authorize", get(authorize::ask).post(authorize::answer))
        .route("/api/oauth2/token", post(token::token).options(token::preflight))
        .route("/api/oauth2/revoke", post(token::revoke).options(token::preflight))
        .route("/api/oauth2/introspect", post(token::introspect))
        .route("/api/oauth2/userinfo", get(token::userinfo).post(token::userinfo).options(token::preflight))
        .route("/api/oauth2/topup", get(token::topup).options(token::preflight))
        .route("/api/oauth2/grants", get(grants::list))
        .route("/api/oauth2/grants/{id}", delete(grants::take_back))
        .route("/account/apps", get(grants::page).post(grants::answer))
}

pub(super) fn admin_routes() -> Routes {
    Routes::new()
        .route("/admin/oauth_apps", get(apps::list_all))
        .route("/admin/oauth_apps/{id}", delete(apps::remove_any))
        .route("/admin/provider/rotate-key", post(rotate_key))
}

/// The provider, where there is one.
fn provider(plane: &Plane) -> Result<&Provider, Fault> {
    if plane.provider.settings().enabled {
        return Ok(&plane.provider);
    }
    Err(Fault::client(Kind::NotFound, "Third-party apps are not served here (`provider.enabled`)."))
}

/// A failure of ours.
fn failed(error: impl Into<ProviderError>) -> Fault {
    match error.into() {
        ProviderError::Store(StoreError::Released) => {
            Fault::gateway(Kind::Shutdown, "The gateway is being replaced. Try again shortly.")
        }
        other => Fault::gateway(Kind::Internal, "The store failed.").source(other),
    }
}

/// What is told of an app that could not be had.
fn fault_of(error: ProviderError) -> Fault {
    match error {
        ProviderError::NotFound => Fault::client(Kind::NotFound, error.to_string()),
        ProviderError::Invalid(why) => Fault::client(Kind::BadRequest, why),
        ProviderError::OAuth(..) => Fault::client(Kind::BadRequest, error.to_string()),
        other => failed(other),
    }
}

/// RFC 8414. Our name is an origin, so there is no path to put in between.
async fn metadata(State(plane): State<Plane>) -> Result<Response, Refused> {
    let settings = provider(&plane).map_err(Refused)?.settings();
    let issuer = settings.public_url.as_deref().unwrap_or_default();
    let at = |path: &str| format!("{issuer}{path}");
    let scopes: Vec<&str> = GrantScope::ALL.into_iter().map(GrantScope::as_str).collect();
    let by_secret = ["client_secret_basic", "client_secret_post"];
    let any = ["client_secret_basic", "client_secret_post", "none"];
    let document = json!({
        "issuer": issuer,
        "authorization_endpoint": at("/api/oauth2/authorize"),
        "token_endpoint": at("/api/oauth2/token"),
        "userinfo_endpoint": at("/api/oauth2/userinfo"),
        "revocation_endpoint": at("/api/oauth2/revoke"),
        "introspection_endpoint": at("/api/oauth2/introspect"),
        "jwks_uri": at("/.well-known/jwks.json"),
        "scopes_supported": scopes,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": any,
        "revocation_endpoint_auth_methods_supported": any,
        "introspection_endpoint_auth_methods_supported": by_secret,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    });
    Ok((shared("application/json", SHORT), document.to_string()).into_response())
}

async fn jwks(State(plane): State<Plane>) -> Result<Response, Refused> {
    let own = plane.provider.keeper().own();
    if own.name().is_none() {
        return Err(Refused(Fault::client(
            Kind::NotFound,
            "No tokens are made here (`provider.public_url`).",
        )));
    }
    Ok((shared("application/jwk-set+json", SHORT), own.jwks()).into_response())
}

async fn sdk() -> Response {
    let mut headers = shared("text/javascript; charset=utf-8", "public, max-age=3600");
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    (headers, SDK).into_response()
}

/// Headers of something that any page may read.
fn shared(kind: &'static str, cache: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    put(header::CONTENT_TYPE, kind);
    put(header::CACHE_CONTROL, cache);
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    allow_any(&mut headers);
    headers
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rotation {
    /// Whether the old keys end now, with all tokens.
    at_once: bool,
}

async fn rotate_key(
    State(plane): State<Plane>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Response, Refused> {
    let who = operator(&plane, &headers).await?;
    let Rotation { at_once } = match body.as_ref() {
        b"" => Rotation::default(),
        body => super::read_body(body).map_err(Refused)?,
    };
    let rotated = plane.provider.keeper().rotate(&who, at_once).await;
    let kid = rotated.map_err(|error| match error {
        IssuerError::Store(error) => Refused(failed(error)),
        other => Refused(Fault::gateway(Kind::Internal, "The keys could not be changed.").source(other)),
    })?;
    Ok((StatusCode::OK, axum::Json(json!({"kid": kid, "at_once": at_once}))).into_response())
}
