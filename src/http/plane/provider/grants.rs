//! What a person let in, to look at and to take back: `/account/apps` for people, `/api/oauth2/grants` for programs (a console)
//! with the person's own session, as a cookie or as a token. An app's token opens neither: it could hide that it is there.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use super::super::browser::{go, is_foreign, trouble};
use super::super::shape::Segment;
use super::super::{Plane, Refused, verified};
use super::authorize::visitor;
use super::{failed, fault_of, page, provider};
use crate::fault::{Fault, Kind};
use crate::gateway::provider::{Params, ProviderError, Who};
use crate::secret::Secret;

const HERE: &str = "/account/apps";

/// Whose session it is.
async fn person(plane: &Plane, headers: &HeaderMap) -> Result<Who, Refused> {
    provider(plane).map_err(Refused)?;
    if headers.contains_key(header::AUTHORIZATION) {
        let caller = verified(plane, headers).await.map_err(Refused)?;
        if caller.ties.as_ref().is_some_and(|ties| !ties.is_app()) {
            return Ok(Who { tenant: caller.tenant.clone(), subject: caller.subject.clone() });
        }
        return Err(Refused(Fault::client(Kind::Forbidden, "This is for a person's own session.")));
    }
    match plane.provider.visitors().visitor(headers).await {
        Ok(Some(visitor)) => Ok(visitor.who),
        Ok(None) => Err(Refused(Fault::client(Kind::Unauthenticated, "Nobody is signed in."))),
        Err(error) => Err(Refused(failed(error))),
    }
}

pub(super) async fn list(State(plane): State<Plane>, headers: HeaderMap) -> Result<Response, Refused> {
    let who = person(&plane, &headers).await?;
    let granted = plane.provider.granted(&who).await.map_err(|error| Refused(fault_of(error)))?;
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(json!({"grants": granted}))).into_response())
}

pub(super) async fn take_back(
    State(plane): State<Plane>,
    Segment(client_id): Segment,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let issuer = plane.provider.settings().public_url.clone().unwrap_or_default();
    if !headers.contains_key(header::AUTHORIZATION) && is_foreign(&headers, &issuer, false) {
        return Err(Refused(Fault::client(Kind::Forbidden, "Not from another site.")));
    }
    let who = person(&plane, &headers).await?;
    plane.provider.take_back(&who, &client_id).await.map_err(|error| Refused(fault_of(error)))?;
    Ok(axum::Json(json!({"client_id": client_id, "deleted": true})).into_response())
}

pub(super) async fn page(State(plane): State<Plane>, headers: HeaderMap) -> Result<Response, Response> {
    let broken = |error| Refused(fault_of(error)).into_response();
    let provider = provider(&plane).map_err(|fault| Refused(fault).into_response())?;
    let visitor = visitor(&plane, &headers, HERE).await?;
    let granted = provider.granted(&visitor.who).await.map_err(broken)?;
    let ticket = provider.open_page(&visitor).await.map_err(broken)?;
    Ok(page::apps(&granted, &ticket, visitor.person.name.as_deref()))
}

pub(super) async fn answer(
    State(plane): State<Plane>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Response> {
    let broken = |error| Refused(fault_of(error)).into_response();
    let provider = provider(&plane).map_err(|fault| Refused(fault).into_response())?;
    let issuer = provider.settings().public_url.clone().unwrap_or_default();
    if is_foreign(&headers, &issuer, true) {
        return Err(trouble(StatusCode::FORBIDDEN, "Not from another site."));
    }
    let visitor = visitor(&plane, &headers, HERE).await?;
    let params = Params::read(&String::from_utf8_lossy(&body));
    let one = |name| params.one(name).ok().flatten().unwrap_or_default();
    let is_ours = provider.is_of_page(&visitor, one("ticket")).await.map_err(broken)?;
    if !is_ours {
        return Err(trouble(
            StatusCode::FORBIDDEN,
            "This page was open for too long. Go back and try again.",
        ));
    }
    match provider.take_back(&visitor.who, one("client_id")).await {
        // Gone already: as wanted.
        Ok(()) | Err(ProviderError::NotFound) => Ok(go(&Secret::new(HERE))),
        Err(error) => Err(broken(error)),
    }
}
