//! The control plane: everything but the hot path, on axum. Thin handlers over the gateway.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::json;

use super::reply::{note, refusal};
use crate::fault::{Fault, Kind};
use crate::gateway::Gateway;
use crate::identity::{Caller, Scope};

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
}

/// A fault as axum answers it.
struct Refused(Fault);

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
        .route("/admin/accounts", get(accounts));
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
    note(&fault, &plane.gateway.metrics);
    Refused(fault).into_response()
}

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
        note(&fault, &plane.gateway.metrics);
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

async fn operator(plane: &Plane, headers: &HeaderMap) -> Result<Arc<Caller>, Refused> {
    let caller = identify(plane, headers).await?;
    if caller.has_scope(Scope::Admin) {
        return Ok(caller);
    }
    Err(Refused(Fault::client(Kind::Forbidden, "This endpoint needs the scope 'admin'.")))
}

async fn metrics(State(plane): State<Plane>) -> Response {
    plane.gateway.count_accounts();
    match plane.gateway.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            Refused(Fault::gateway(Kind::Internal, "The metrics could not be written.").source(error)).into_response()
        }
    }
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
    let accounts: Vec<_> = plane.gateway.pool.states().iter().map(|state| state.to_json()).collect();
    Ok(axum::Json(json!({"accounts": accounts})).into_response())
}
