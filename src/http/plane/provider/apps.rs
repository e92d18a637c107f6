//! `/api/oauth_apps`: one's own apps: those of the tenant that the caller, or nobody in particular, registered. Answers are in the shape that apps of this kind of service know:
//! `{"success", "message", "data"}`.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::super::shape::{Segment, Shape};
use super::super::{Paged, Plane, Refused, operator, read_body, verified, who};
use super::{failed, fault_of, provider};
use crate::fault::{Fault, Kind};
use crate::gateway::provider::{AppRecord, NewApp, Provider};
use crate::gateway::reach::{Adder, Reach};
use crate::identity::Caller;
use crate::keybook::Scope;

/// A fault in this shape.
pub(in crate::http::plane) struct Wrapped(Fault);

impl IntoResponse for Wrapped {
    fn into_response(self) -> Response {
        Shape::Apps.answer(&self.0)
    }
}

type Answered = Result<Response, Wrapped>;

fn success(data: &Value, next: Option<&str>) -> Response {
    let mut body = json!({"success": true, "message": "success", "data": data});
    if let (Some(body), Some(next)) = (body.as_object_mut(), next) {
        body.insert("next".to_owned(), json!(next));
    }
    // A secret may be in it.
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
}

fn shown(app: &AppRecord) -> Value {
    json!({
        "id": app.client_id,
        "client_id": app.client_id,
        "name": app.name,
        "description": app.description,
        "redirect_uri": app.redirect_uris.first(),
        "redirect_uris": app.redirect_uris,
        "is_public": app.is_public,
        "added_by": app.added_by.as_ref().map(|by| &by.subject),
        "created_time": app.created,
        "updated_time": app.updated,
    })
}

fn with_secret(app: &AppRecord, secret: &str) -> Value {
    let mut data = shown(app);
    if let Some(data) = data.as_object_mut() {
        data.insert("client_secret".to_owned(), json!(secret));
    }
    data
}

/// Who calls, if they may manage apps. An app may not: no token of one has the scope.
async fn owner<'p>(
    plane: &'p Plane,
    headers: &HeaderMap,
) -> Result<(&'p Provider, std::sync::Arc<Caller>), Wrapped> {
    let provider = provider(plane).map_err(Wrapped)?;
    let caller = verified(plane, headers).await.map_err(Wrapped)?;
    if caller.has_scope(Scope::Accounts) {
        return Ok((provider, caller));
    }
    Err(Wrapped(Fault::client(Kind::Forbidden, "This endpoint needs the scope 'accounts'.")))
}

pub(super) async fn register(State(plane): State<Plane>, headers: HeaderMap, body: Bytes) -> Answered {
    let (provider, caller) = owner(&plane, &headers).await?;
    let new: NewApp = read_body(&body).map_err(Wrapped)?;
    let registered = provider.register(&who(&caller), (&caller.tenant, Adder::of(&caller)), new).await;
    let (app, secret) = registered.map_err(|error| Wrapped(fault_of(error)))?;
    Ok(match secret {
        Some(secret) => success(&with_secret(&app, secret.expose()), None),
        None => success(&shown(&app), None),
    })
}

pub(super) async fn list(State(plane): State<Plane>, headers: HeaderMap, paged: Paged) -> Answered {
    let (provider, caller) = owner(&plane, &headers).await?;
    let paged = paged.read().map_err(Wrapped)?;
    let apps = provider.apps(&Reach::of(&caller)).await.map_err(|error| Wrapped(failed(error)))?;
    let (apps, next) = paged.cut(apps, |app| app.client_id.clone());
    let data: Vec<Value> = apps.iter().map(shown).collect();
    Ok(success(&Value::from(data), next.as_deref()))
}

pub(super) async fn remove(State(plane): State<Plane>, Segment(id): Segment, headers: HeaderMap) -> Answered {
    let (provider, caller) = owner(&plane, &headers).await?;
    let deleted = provider.delete_app(&who(&caller), &Reach::of(&caller), &id).await;
    let app = deleted.map_err(|error| Wrapped(fault_of(error)))?;
    Ok(success(&json!({"id": app.client_id, "deleted": true}), None))
}

pub(super) async fn rotate_secret(
    State(plane): State<Plane>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Answered {
    let (provider, caller) = owner(&plane, &headers).await?;
    let rotated = provider.rotate_secret(&who(&caller), &Reach::of(&caller), &id).await;
    let (app, secret) = rotated.map_err(|error| Wrapped(fault_of(error)))?;
    Ok(success(&with_secret(&app, secret.expose()), None))
}

/// Of all tenants, for operators.
pub(super) async fn list_all(
    State(plane): State<Plane>,
    headers: HeaderMap,
    paged: Paged,
) -> Result<Response, Refused> {
    operator(&plane, &headers).await?;
    let paged = paged.read().map_err(Refused)?;
    let apps = plane.provider.apps(&Reach::Everything).await.map_err(|error| Refused(failed(error)))?;
    let (apps, next) = paged.cut(apps, |app| app.client_id.clone());
    Ok(axum::Json(json!({"apps": apps, "next": next})).into_response())
}

pub(super) async fn remove_any(
    State(plane): State<Plane>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let who = operator(&plane, &headers).await?;
    let app = plane
        .provider
        .delete_app(&who, &Reach::Everything, &id)
        .await
        .map_err(|error| Refused(fault_of(error)))?;
    Ok(axum::Json(json!({"record": app})).into_response())
}
