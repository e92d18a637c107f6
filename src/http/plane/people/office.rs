//! `/admin/people`: who has signed in, who is kept out, and what somebody may do.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use serde_json::{Value, json};

use super::super::shape::Segment;
use super::super::{Paged, Plane, Refused, fault_of, operator, read_body};
use super::{account, fault};
use crate::fault::{Fault, Kind};
use crate::gateway::departures::DepartureError;
use crate::gateway::people::{Change, Loss, PeopleError, PersonRecord};
use crate::gateway::provider::ProviderError;

type Answered = Result<Response, Refused>;

fn refused(error: impl Into<PeopleError>) -> Refused {
    Refused(fault(error.into()))
}

fn shown(plane: &Plane, record: &PersonRecord) -> Value {
    let mut shown = account::person(plane, record);
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("is_blocked".to_owned(), json!(record.is_blocked));
        shown.insert("links".to_owned(), record.links.iter().map(account::link).collect());
    }
    shown
}

pub(super) async fn list(State(plane): State<Plane>, headers: HeaderMap, paged: Paged) -> Answered {
    operator(&plane, &headers).await?;
    let page = paged.read().map_err(Refused)?;
    // One more, to see whether there is a next page.
    let people = plane.people.list(page.after(), page.limit() + 1).await.map_err(refused)?;
    let (people, next) = page.cut(people, |person| person.id.clone());
    let people: Vec<Value> = people.iter().map(|person| shown(&plane, person)).collect();
    Ok(axum::Json(json!({"people": people, "next": next})).into_response())
}

pub(super) async fn one(State(plane): State<Plane>, Segment(id): Segment, headers: HeaderMap) -> Answered {
    operator(&plane, &headers).await?;
    let person = plane.people.get(&id).await.map_err(refused)?;
    Ok(axum::Json(shown(&plane, &person)).into_response())
}

pub(super) async fn change(
    State(plane): State<Plane>,
    Segment(id): Segment,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    let who = operator(&plane, &headers).await?;
    let change: Change = read_body(&body).map_err(Refused)?;
    let (before, loss) = plane.people.would_lose(&id, &change).await.map_err(refused)?;
    // First, so that whatever fails on the way leaves no app with more than its person has; and once more for what was let in
    // meanwhile.
    end(&plane, &before, loss).await?;
    let (_, after) = plane.people.change(&who, &id, &change).await.map_err(refused)?;
    end(&plane, &before, loss).await?;
    // What they own rests from now on, or serves again: here at once.
    plane.provider.heed_owners().await.map_err(refused)?;
    plane.onboard.refresh().await.map_err(refused)?;
    Ok(axum::Json(shown(&plane, &after)).into_response())
}

pub(super) async fn remove(State(plane): State<Plane>, Segment(id): Segment, headers: HeaderMap) -> Answered {
    let who = operator(&plane, &headers).await?;
    let is_done = plane.departures.remove(&who, &id).await.map_err(|error| match error {
        DepartureError::People(error) => refused(error),
        DepartureError::Store(error) => refused(error),
        DepartureError::Onboard(error) => Refused(fault_of(error)),
        DepartureError::Provider(error) => failed(error),
    })?;
    Ok(axum::Json(json!({"id": id, "deleted": true, "is_done": is_done})).into_response())
}

/// Takes back what somebody let in, as far as they have lost it.
async fn end(plane: &Plane, person: &PersonRecord, loss: Loss) -> Result<(), Refused> {
    let who = plane.people.who_is(person);
    let ended = match loss {
        Loss::Nothing => return Ok(()),
        Loss::Models => plane.provider.end_chats(&who).await,
        Loss::Everything => plane.provider.forget_person(&who).await,
    };
    match ended {
        Ok(()) | Err(ProviderError::NotFound) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: ProviderError) -> Refused {
    match error {
        ProviderError::Store(error) => refused(error),
        error => Refused(Fault::gateway(Kind::Internal, "The store failed.").source(error)),
    }
}
