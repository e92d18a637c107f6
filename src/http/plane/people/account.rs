//! What somebody sees and changes of themselves: ways in, sessions, and the way out.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::super::browser::{go, wants_page};
use super::super::shape::Segment;
use super::{
    HOME, Plane, Present, Private, fault, guest, is_open, keep, page as pages, present, present_at_home,
    private, told,
};
use crate::fault::{Fault, Kind};
use crate::gateway::people::{Link, PersonRecord, SessionRecord};
use crate::gateway::provider::Params;
use crate::secret::Secret;

type Answered = Result<Response, Private>;

/// Somebody, as they and operators see them.
pub(super) fn person(plane: &Plane, person: &PersonRecord) -> Value {
    let ground = plane.people.ground();
    json!({
        "id": person.id,
        "tenant": ground.tenant_of(person),
        "name": person.name(),
        "email": person.email(),
        "picture": person.picture(),
        "scopes": ground.scopes_of(person),
        "models": ground.models_of(person),
        "created": person.created,
        "updated": person.updated,
    })
}

pub(super) fn link(link: &Link) -> Value {
    json!({
        "id": link.id,
        "provider": link.source,
        "subject": link.sids.first(),
        "name": link.name,
        "email": link.email,
        "email_is_verified": link.email_is_verified,
        "created": link.created,
        "used": link.used,
    })
}

fn session(session: &SessionRecord, current: &str) -> Value {
    json!({
        "id": session.id,
        "link": session.link,
        "agent": session.agent,
        "created": session.created,
        "expires": session.expires,
        "is_current": session.id == current,
    })
}

pub(super) async fn me(State(plane): State<Plane>, headers: HeaderMap) -> Answered {
    let Present { person: record, session: current, guest } =
        present(&plane, &headers).await.map_err(Private)?;
    let sessions = plane.people.sessions(&record.id).await;
    let sessions = sessions.map_err(|error| Private(fault(error.into())))?;
    Ok(private(&json!({
        "person": person(&plane, &record),
        "links": record.links.iter().map(link).collect::<Vec<_>>(),
        "sessions": sessions.iter().map(|one| session(one, &current.id)).collect::<Vec<_>>(),
        // For forms of ours.
        "ticket": guest.as_ref().map(|guest| guest.ticket.expose()),
    })))
}

/// What shows that a program's request is from a page of ours, where the browser is too old to say so.
fn ticket(headers: &HeaderMap) -> &str {
    headers.get("x-weir-ticket").and_then(|ticket| ticket.to_str().ok()).unwrap_or_default()
}

pub(super) async fn unlink(State(plane): State<Plane>, Segment(id): Segment, headers: HeaderMap) -> Answered {
    let present = present_at_home(&plane, &headers, ticket(&headers)).await.map_err(Private)?;
    let left = plane.people.unlink(&present.person.id, &id, &present.session.id).await;
    let left = left.map_err(|error| Private(fault(error)))?;
    Ok(private(&json!({"links": left.links.iter().map(link).collect::<Vec<_>>()})))
}

pub(super) async fn end_session(
    State(plane): State<Plane>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Answered {
    let present = present_at_home(&plane, &headers, ticket(&headers)).await.map_err(Private)?;
    plane.people.sign_out(&present.person, Some(&id)).await.map_err(|error| Private(fault(error)))?;
    Ok(private(&json!({"id": id, "deleted": true})))
}

/// Opened by hand, or by a link on whatever page: nobody is signed out by that alone.
pub(super) async fn ask_logout(State(plane): State<Plane>, headers: HeaderMap) -> Response {
    match guest(&plane, &headers).await {
        Ok(Some(guest)) => pages::ask_logout(&guest.ticket),
        Ok(None) => go(&Secret::new("/auth")),
        Err(fault) => told(&headers, fault),
    }
}

/// Ends this session, or with `everywhere=true` all of them, with their tokens. Whoever is signed out already stays so.
pub(super) async fn logout(
    State(plane): State<Plane>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match end(&plane, &query.unwrap_or_default(), &headers, &body).await {
        Ok(response) => response,
        Err(fault) => told(&headers, fault),
    }
}

async fn end(plane: &Plane, query: &str, headers: &HeaderMap, body: &[u8]) -> Result<Response, Fault> {
    is_open(plane)?;
    let (query, form) = (Params::read(query), Params::read(&String::from_utf8_lossy(body)));
    let one = |name| form.one(name).ok().flatten().or_else(|| query.one(name).ok().flatten());
    let is_by_token = headers.contains_key(header::AUTHORIZATION);
    if is_by_token || guest(plane, headers).await?.is_some() {
        let Present { person, session, .. } =
            present_at_home(plane, headers, one("ticket").unwrap_or_default()).await?;
        let session = (one("everywhere") != Some("true")).then_some(session.id.as_str());
        plane.people.sign_out(&person, session).await.map_err(fault)?;
    }
    let mut response = match wants_page(headers) {
        true => go(&Secret::new("/auth")),
        false => private(&json!({"signed_out": true})),
    };
    if !is_by_token {
        keep(plane, &mut response, None);
    }
    Ok(response)
}

pub(super) async fn page(State(plane): State<Plane>, headers: HeaderMap) -> Response {
    match shown(&plane, &headers).await {
        Ok(response) => response,
        Err(fault) => told(&headers, fault),
    }
}

async fn shown(plane: &Plane, headers: &HeaderMap) -> Result<Response, Fault> {
    is_open(plane)?;
    let Some(guest) = guest(plane, headers).await? else { return Ok(to_sign_in()) };
    let sessions = plane.people.sessions(&guest.person.id).await.map_err(|error| fault(error.into()))?;
    let has_apps = plane.provider.settings().enabled;
    Ok(pages::account(&plane.people.ground(), &guest, &sessions, has_apps))
}

fn to_sign_in() -> Response {
    go(&Secret::new(format!("/auth?redirect_after={HOME}")))
}

/// What the page's forms send.
pub(super) async fn change(State(plane): State<Plane>, headers: HeaderMap, body: Bytes) -> Response {
    let params = Params::read(&String::from_utf8_lossy(&body));
    match apply(&plane, &headers, &params).await {
        Ok(response) => response,
        Err(fault) => told(&headers, fault),
    }
}

async fn apply(plane: &Plane, headers: &HeaderMap, params: &Params) -> Result<Response, Fault> {
    is_open(plane)?;
    let Some(guest) = guest(plane, headers).await? else { return Ok(to_sign_in()) };
    let one = |name| params.one(name).ok().flatten().unwrap_or_default();
    super::check_origin(plane, headers, &guest, one("ticket"))?;
    let (person, id) = (&guest.person, one("id"));
    let done = match one("do") {
        "unlink" => plane.people.unlink(&person.id, id, &guest.session.id).await.map(drop),
        "end" => plane.people.sign_out(person, Some(id)).await,
        _ => return Err(Fault::client(Kind::BadRequest, "There is nothing of that name to do.")),
    };
    done.map_err(fault)?;
    Ok(go(&Secret::new(HOME)))
}
