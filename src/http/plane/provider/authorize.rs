//! `/api/oauth2/authorize`: a person comes from an app, is asked, and goes back. For browsers alone; no CORS.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};

use super::super::browser::{go, is_embedded, is_foreign, onward, trouble};
use super::super::{Plane, Refused};
use super::{failed, page, provider};
use crate::fault::Fault;
use crate::gateway::provider::{Answer, Params, ProviderError, Step, Trouble, Visitor};
use crate::secret::Secret;

fn broken(fault: Fault) -> Response {
    Refused(fault).into_response()
}

/// Who is there; or where they sign in, to come back to `back`.
pub(super) async fn visitor(plane: &Plane, headers: &HeaderMap, back: &str) -> Result<Visitor, Response> {
    let visitors = plane.provider.visitors();
    match visitors.visitor(headers).await {
        Ok(Some(visitor)) => Ok(visitor),
        Ok(None) => Err(match visitors.sign_in(back) {
            Some(to) => go(&Secret::new(to)),
            None => {
                trouble(StatusCode::FORBIDDEN, "Nobody can sign in here: ask the operator to set that up.")
            }
        }),
        Err(error) => Err(broken(failed(error))),
    }
}

pub(super) async fn ask(
    State(plane): State<Plane>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let provider = provider(&plane).map_err(broken)?;
    if is_embedded(&headers) {
        return Err(trouble(StatusCode::BAD_REQUEST, "This page is to be opened by itself."));
    }
    let query = query.unwrap_or_default();
    let here = format!("/api/oauth2/authorize?{query}");
    let read = provider.read_request(&Params::read(&query)).await.map_err(|error| broken(failed(error)))?;
    let (app, request) = match read {
        Ok(right) => right,
        Err(Trouble::Page(why)) => return Err(trouble(StatusCode::BAD_REQUEST, why)),
        // Nobody is led anywhere before it is known who they are (RFC 9700, 4.11.2).
        Err(Trouble::Back(back)) => {
            let visitor = visitor(&plane, &headers, &here).await?;
            return Ok(told(provider.turn_back(&visitor, back).await, &visitor));
        }
    };
    let visitor = visitor(&plane, &headers, &here).await?;
    Ok(told(provider.begin(&visitor, app, request).await, &visitor))
}

fn told(step: Result<Step, ProviderError>, visitor: &Visitor) -> Response {
    match step {
        Ok(Step::Ask(asked)) => page::consent(&asked, visitor.person.name.as_deref()),
        Ok(Step::Go(allowed)) => go(&allowed.to),
        Ok(Step::Tell(back)) => page::turned_back(&back),
        Err(error) => broken(failed(error)),
    }
}

pub(super) async fn answer(
    State(plane): State<Plane>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Response> {
    let provider = provider(&plane).map_err(broken)?;
    let gone = || {
        trouble(
            StatusCode::FORBIDDEN,
            "This question is not open any more. Go back to the app and begin again.",
        )
    };
    let issuer = provider.settings().public_url.clone().unwrap_or_default();
    if is_foreign(&headers, &issuer, true) {
        return Err(gone());
    }
    let params = Params::read(&String::from_utf8_lossy(&body));
    let one = |name| params.one(name).ok().flatten();
    let answer = match one("answer") {
        Some("yes") => Answer::Yes,
        Some("no") => Answer::No,
        _ => return Err(gone()),
    };
    let Ok(Some(visitor)) = plane.provider.visitors().visitor(&headers).await else { return Err(gone()) };
    let ticket = one("ticket").unwrap_or_default();
    let answered = provider.answer(&visitor, ticket, answer).await.map_err(|error| broken(failed(error)))?;
    answered.map(|allowed| onward(&headers, &allowed.to)).ok_or_else(gone)
}
