//! The control plane: everything but the hot path, on axum. Thin handlers over the gateway.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::json;

use super::reply::{note, refusal};
use crate::fault::{Fault, Kind};
use crate::gateway::Gateway;
use crate::identity::Caller;
use crate::keybook::{NewKey, Scope};
use crate::pool::AccountState;
use crate::secret::Secret;
use crate::store::{Keys, Records, StoreError};

/// What the operator's endpoints can do besides looking.
pub trait Operations: Send + Sync + 'static {
    /// Reads the configuration again. The text says what is wrong, with positions.
    ///
    /// # Errors
    /// Where the configuration is refused; the old one stays in force.
    fn reload(&self) -> Result<(), String>;
}

/// State of the handlers.
#[derive(Clone)]
pub struct Plane {
    pub gateway: Arc<Gateway>,
    pub operations: Arc<dyn Operations>,
    pub keys: Arc<Keys>,
    pub records: Arc<dyn Records>,
    /// What operators on this machine show (they can read it from the store's folder).
    pub operator: Arc<Secret>,
    /// Whether the metrics are for whoever reaches the operators' listener.
    pub metrics_are_open: bool,
}

/// A fault as axum answers it.
pub(super) struct Refused(pub(super) Fault);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let refusal = refusal(&self.0);
        (refusal.status, refusal.headers, refusal.body).into_response()
    }
}

/// What the public listener serves besides the hot path.
pub fn public(plane: Plane) -> Router {
    let router = Router::new()
        .route("/", get(root))
        .route("/v1/models", get(list_models))
        .route("/models", get(list_models))
        .route("/v1/models/{*id}", get(one_model))
        .route("/models/{*id}", get(one_model));
    finish(health(router), plane)
}

/// What the admin listener serves.
pub fn admin(plane: Plane) -> Router {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/admin/reload", post(reload))
        .route("/admin/accounts", get(accounts))
        .route("/admin/usage", get(super::usage::usage))
        .route("/admin/keys", get(list_keys).post(create_key))
        .route("/admin/keys/{id}", delete(revoke_key));
    finish(health(router), plane)
}

fn health(router: Router<Plane>) -> Router<Plane> {
    router.route("/healthz", get(alive)).route("/livez", get(alive)).route("/readyz", get(ready))
}

fn finish(router: Router<Plane>, plane: Plane) -> Router {
    router.fallback(not_found).method_not_allowed_fallback(wrong_method).with_state(plane)
}

async fn root() -> &'static str {
    "Weir: one door to every model. Point an OpenAI SDK's base_url at /v1.\n"
}

async fn not_found(State(plane): State<Plane>, uri: Uri) -> Response {
    let path: String = crate::gateway::chat::printable(uri.path());
    let fault = Fault::client(Kind::NotFound, format!("There is nothing at {path}. The API begins at /v1."));
    note(&fault, None, &plane.gateway.metrics);
    Refused(fault).into_response()
}

/// The router adds which methods the path takes.
async fn wrong_method() -> Response {
    Refused(Fault::client(Kind::MethodNotAllowed, "This endpoint does not take that method.")).into_response()
}

async fn alive() -> &'static str {
    "ok\n"
}

async fn ready(State(plane): State<Plane>) -> Response {
    if plane.gateway.drain.has_begun() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    "ok\n".into_response()
}

async fn identify(plane: &Plane, headers: &HeaderMap) -> Result<Arc<Caller>, Refused> {
    plane.gateway.world().identity.verify(headers).await.map_err(|fault| {
        note(&fault, None, &plane.gateway.metrics);
        Refused(fault)
    })
}

async fn list_models(State(plane): State<Plane>, headers: HeaderMap) -> Result<Response, Refused> {
    let caller = identify(&plane, &headers).await?;
    Ok(axum::Json(plane.gateway.list_models(&caller)).into_response())
}

async fn one_model(
    State(plane): State<Plane>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let caller = identify(&plane, &headers).await?;
    let model = plane.gateway.one_model(&caller, &id).map_err(Refused)?;
    Ok(axum::Json(model).into_response())
}

pub(super) async fn operator(plane: &Plane, headers: &HeaderMap) -> Result<(), Refused> {
    let shown =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if shown.is_some_and(|shown| Secret::new(shown) == *plane.operator) {
        return Ok(());
    }
    let caller = identify(plane, headers).await?;
    if caller.has_scope(Scope::Admin) {
        return Ok(());
    }
    Err(Refused(Fault::client(Kind::Forbidden, "This endpoint needs the scope 'admin'.")))
}

async fn metrics(State(plane): State<Plane>, headers: HeaderMap) -> Result<Response, Refused> {
    if !plane.metrics_are_open {
        operator(&plane, &headers).await?;
    }
    plane.gateway.count_accounts();
    let text = plane.gateway.metrics.render().map_err(|error| {
        Refused(Fault::gateway(Kind::Internal, "The metrics could not be written.").source(error))
    })?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

async fn reload(State(plane): State<Plane>, headers: HeaderMap) -> Result<Response, Refused> {
    operator(&plane, &headers).await?;
    match plane.operations.reload() {
        Ok(()) => Ok(axum::Json(json!({"reloaded": true})).into_response()),
        Err(report) => Err(Refused(Fault::client(Kind::BadRequest, report))),
    }
}

async fn accounts(State(plane): State<Plane>, headers: HeaderMap) -> Result<Response, Refused> {
    operator(&plane, &headers).await?;
    let accounts: Vec<_> = plane.gateway.pool.states().iter().map(account).collect();
    Ok(axum::Json(json!({"accounts": accounts})).into_response())
}

fn account(state: &AccountState) -> serde_json::Value {
    let left: serde_json::Map<String, serde_json::Value> = state
        .left
        .iter()
        .map(|left| (format!("{:?}", left.dimension), json!({"left": left.units, "of": left.of})))
        .collect();
    json!({
        "id": state.id,
        "platform": state.platform,
        "owner": state.owner,
        "in_flight": state.in_flight,
        "is_enabled": state.is_enabled,
        "is_expired": state.is_expired,
        "breaker": format!("{:?}", state.breaker),
        "rest": state.rest.map(|(why, wait)| json!({"why": format!("{why:?}"), "seconds": wait.as_secs()})),
        "left": left,
    })
}

async fn list_keys(State(plane): State<Plane>, headers: HeaderMap) -> Result<Response, Refused> {
    operator(&plane, &headers).await?;
    Ok(axum::Json(json!({"keys": plane.keys.list()})).into_response())
}

async fn create_key(
    State(plane): State<Plane>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Response, Refused> {
    operator(&plane, &headers).await?;
    let new: NewKey = serde_json::from_slice(&body).map_err(|wrong| {
        Refused(Fault::client(Kind::BadRequest, format!("The key could not be read: {wrong}.")))
    })?;
    let now = plane.gateway.clock.wall_seconds();
    let (record, key) = plane.keys.create(new, now).await.map_err(of_store)?;
    Ok(axum::Json(json!({"key": key.expose(), "record": record})).into_response())
}

async fn revoke_key(
    State(plane): State<Plane>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    operator(&plane, &headers).await?;
    let now = plane.gateway.clock.wall_seconds();
    let record = plane.keys.revoke(&id, now).await.map_err(of_store)?;
    Ok(axum::Json(json!({"record": record})).into_response())
}

pub(super) fn of_store(error: StoreError) -> Refused {
    Refused(match &error {
        StoreError::NotFound { what, .. } => {
            Fault::client(Kind::NotFound, format!("There is no {what} of that id."))
        }
        StoreError::Invalid(why) => Fault::client(Kind::BadRequest, *why),
        _ => Fault::gateway(Kind::Internal, "The store failed.").source(error),
    })
}
