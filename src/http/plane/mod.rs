//! The control plane: everything but the hot path, on axum. Thin handlers over the gateway: here what both listeners share,
//! in [`accounts`] what callers see of their own accounts, in [`docs`] what there is, in [`login`] what `weir account login` asks, in [`office`] what operators see of everything,
//! in [`people`] how they sign in, in [`provider`] what third-party apps and their people do, in `relay` a browser's page for whoever signs in with it, in [`usage`] what was used.

mod accounts;
mod browser;
mod consent;
mod docs;
pub mod envelope;
mod listed;
mod login;
mod office;
mod people;
mod provider;
#[cfg(feature = "browser")]
mod relay;
pub mod shape;
mod usage;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use self::docs::Side;
use self::listed::{Routes, get};
use self::shape::{Segment, Shape};
use super::reply::note;
use crate::fault::{Fault, Kind};
use crate::gateway::Gateway;
use crate::gateway::departures::Departures;
use crate::gateway::onboard::consent::Consents;
use crate::gateway::onboard::renewal::Renewals;
use crate::gateway::onboard::{Listed, Onboard, OnboardError};
use crate::gateway::people::People;
use crate::gateway::provider::Provider;
use crate::gateway::reach::Reach;
use crate::identity::Caller;
use crate::keybook::Scope;
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
    pub onboard: Arc<Onboard>,
    pub consents: Arc<Consents>,
    pub renewals: Arc<Renewals>,
    #[cfg(feature = "browser")]
    pub browsing: Arc<crate::gateway::onboard::browsing::Browsing>,
    /// Where this very process is reached, for whoever names no other address.
    pub own_url: Arc<str>,
    pub people: Arc<People>,
    pub provider: Arc<Provider>,
    pub departures: Arc<Departures>,
    /// What operators on this machine show (they can read it from the store's folder).
    pub operator: Arc<Secret>,
    /// Whether the metrics are for whoever reaches the operators' listener.
    pub metrics_are_open: bool,
}

/// A fault as axum answers it.
struct Refused(Fault);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        Shape::OpenAi.answer(&self.0)
    }
}

/// What the public listener serves besides the hot path.
pub fn public(plane: Plane) -> Router {
    finish(public_routes(), plane)
}

/// What the admin listener serves.
pub fn admin(plane: Plane) -> Router {
    finish(admin_routes(), plane)
}

fn public_routes() -> Routes {
    let routes = Routes::new()
        .route("/", get(root))
        .route("/v1/models", get(list_models))
        .route("/models", get(list_models))
        .route("/v1/models/{*id}", get(one_model))
        .route("/models/{*id}", get(one_model));
    let routes = routes.merge(accounts::routes()).merge(consent::routes()).merge(people::routes());
    #[cfg(feature = "browser")]
    let routes = routes.merge(relay::routes());
    health(routes.merge(provider::routes()).merge(docs::routes(Side::Public)))
}

fn admin_routes() -> Routes {
    let routes = office::routes().route("/metrics", get(metrics)).route("/admin/usage", get(usage::usage));
    let routes = routes.merge(login::routes()).merge(provider::admin_routes()).merge(people::admin_routes());
    health(routes.merge(docs::routes(Side::Admin)))
}

fn health(routes: Routes) -> Routes {
    routes.route("/healthz", get(alive)).route("/livez", get(alive)).route("/readyz", get(ready))
}

fn finish(routes: Routes, plane: Plane) -> Router {
    routes.into_router().fallback(not_found).method_not_allowed_fallback(wrong_method).with_state(plane)
}

async fn root() -> &'static str {
    "Weir: one door to every model. Point an OpenAI SDK's base_url at /v1.\n"
}

async fn not_found(State(plane): State<Plane>, uri: Uri) -> Response {
    let path: String = crate::gateway::chat::printable(uri.path());
    let fault = Fault::client(Kind::NotFound, format!("There is nothing at {path}. The API begins at /v1."));
    note(&fault, None, &plane.gateway.metrics);
    Shape::of(uri.path()).answer(&fault)
}

/// The router adds which methods the path takes.
async fn wrong_method(uri: Uri) -> Response {
    let fault = Fault::client(Kind::MethodNotAllowed, "This endpoint does not take that method.");
    Shape::of(uri.path()).answer(&fault)
}

async fn alive() -> &'static str {
    "ok\n"
}

async fn ready(State(plane): State<Plane>) -> Response {
    if plane.gateway.drain.has_begun() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    if plane.gateway.pool.is_cut_off() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the pool's authority does not answer\n").into_response();
    }
    "ok\n".into_response()
}

/// Who calls.
async fn verified(plane: &Plane, headers: &HeaderMap) -> Result<Arc<Caller>, Fault> {
    let caller = plane.gateway.world().identity.verify(headers).await;
    caller.inspect_err(|fault| note(fault, None, &plane.gateway.metrics))
}

async fn identify(plane: &Plane, headers: &HeaderMap) -> Result<Arc<Caller>, Refused> {
    verified(plane, headers).await.map_err(Refused)
}

/// Who calls, if they may ask models. An app that somebody let in for less is told of none.
async fn asker(plane: &Plane, headers: &HeaderMap) -> Result<Arc<Caller>, Refused> {
    let caller = identify(plane, headers).await?;
    if caller.ties.is_some() && !caller.has_scope(Scope::Chat) {
        return Err(Refused(Fault::client(Kind::Forbidden, "This token lacks the scope 'chat'.")));
    }
    Ok(caller)
}

async fn list_models(State(plane): State<Plane>, headers: HeaderMap) -> Result<Response, Refused> {
    let caller = asker(&plane, &headers).await?;
    Ok(axum::Json(plane.gateway.list_models(&caller)).into_response())
}

async fn one_model(
    State(plane): State<Plane>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let caller = asker(&plane, &headers).await?;
    let model = plane.gateway.one_model(&caller, &id).map_err(Refused)?;
    Ok(axum::Json(model).into_response())
}

/// A caller's name for the audit log: bounded, whatever a token says.
fn who(caller: &Caller) -> String {
    use crate::gateway::chat::printable;
    format!("{}/{}", printable(caller.tenant.as_str()), printable(caller.subject.as_str()))
}

/// Who operates, by name for the audit log.
async fn operator(plane: &Plane, headers: &HeaderMap) -> Result<String, Refused> {
    let shown =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if shown.is_some_and(|shown| Secret::new(shown) == *plane.operator) {
        return Ok("operator".to_owned());
    }
    let caller = identify(plane, headers).await?;
    if caller.has_scope(Scope::Admin) {
        return Ok(who(&caller));
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

/// Most entries of a list in one answer, and how many come where nobody says.
const MAX_LISTED: usize = 100;

/// Which page of a list is wanted.
#[derive(Debug, Default, Deserialize)]
struct Page {
    /// The last id of the page before.
    after: Option<String>,
    limit: Option<usize>,
}

/// The query of a list, still to be read: what is wrong with it is told in the shape of the endpoint's own errors.
struct Paged(Result<Query<Page>, QueryRejection>);

impl<S: Send + Sync> FromRequestParts<S> for Paged {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self(Query::from_request_parts(parts, state).await))
    }
}

impl Paged {
    fn read(self) -> Result<Page, Fault> {
        let wrong = |_| {
            Fault::client(Kind::BadRequest, "'limit' is a number, 'after' the last id of the page before.")
        };
        self.0.map(|Query(page)| page).map_err(wrong)
    }
}

impl Page {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(MAX_LISTED).clamp(1, MAX_LISTED)
    }

    fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// The page of a list in ascending order, and what the next page comes after, if there is one.
    fn cut<T>(&self, all: Vec<T>, id: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
        let is_behind = |one: &T| self.after().is_none_or(|after| id(one).as_str() > after);
        let mut rest: Vec<T> = all.into_iter().filter(is_behind).collect();
        let is_last = rest.len() <= self.limit();
        rest.truncate(self.limit());
        let next = rest.last().filter(|_| !is_last).map(&id);
        (rest, next)
    }
}

/// A page of the accounts within `reach`, and what the next page comes after.
fn accounts_page(plane: &Plane, paged: Paged, reach: &Reach) -> Result<(Vec<Listed>, Option<String>), Fault> {
    let page = paged.read()?;
    Ok(page.cut(plane.onboard.list(reach), |listed| listed.record.id.clone()))
}

/// Reads a body. What is said of a wrong one never quotes it: a credential may stand in the wrong place.
fn read_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|wrong| {
        let text = wrong.to_string();
        let harmless = ["missing field", "unknown field", "duplicate field", "expected", "EOF"];
        let quotes = text.starts_with("invalid type: string") || text.starts_with("invalid value");
        let why = if !quotes && harmless.iter().any(|start| text.starts_with(start)) {
            crate::gateway::chat::printable(&text)
        } else {
            format!("a value of the wrong kind at line {} column {}", wrong.line(), wrong.column())
        };
        Fault::client(Kind::BadRequest, format!("The request's body could not be read: {why}."))
    })
}

/// Reads a body that may be left out.
fn read_optional_body<T: DeserializeOwned>(body: &[u8]) -> Result<Option<T>, Fault> {
    if body.is_empty() { Ok(None) } else { read_body(body).map(Some) }
}

/// What the caller is told of an account or a key that could not be had.
fn fault_of(error: OnboardError) -> Fault {
    match error {
        OnboardError::NotFound => Fault::client(Kind::NotFound, error.to_string()),
        OnboardError::Invalid(why) => Fault::client(Kind::BadRequest, why),
        OnboardError::Store(StoreError::NotFound { what, .. }) => {
            Fault::client(Kind::NotFound, format!("There is no {what} of that id."))
        }
        OnboardError::Store(StoreError::Invalid(why)) => Fault::client(Kind::BadRequest, why),
        OnboardError::Store(StoreError::Released) => {
            Fault::gateway(Kind::Shutdown, "The gateway is being replaced. Try again shortly.")
        }
        OnboardError::Store(error @ StoreError::Unreachable(_)) => away(error),
        failed => Fault::gateway(Kind::Internal, "The store failed.").source(failed),
    }
}

/// The store is somewhere else, and not to be reached: that passes.
fn away(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Fault {
    Fault::gateway(Kind::PoolUnavailable, "The store cannot be reached at the moment. Try again shortly.")
        .source(source)
}
