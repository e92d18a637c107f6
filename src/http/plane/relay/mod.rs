//! Sign-ins at a platform's own page, on the wire: `/api/v1/oauth/browser/{id}` for programs (how far is it, end it), `/browser/{id}` for
//! the person, who sees the browser there and uses it ([`socket`]).
//!
//! The address of that page is no secret and opens nothing. A browser shows the cookie that it was given with the address; one without it
//! (a terminal began) has its person show that they are the one who began, by their token or key.

mod page;
mod socket;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

use super::accounts::owner;
use super::browser::is_foreign;
use super::envelope::{Enveloped, success};
use super::listed::{Routes, get};
use super::shape::Segment;
use super::{Plane, verified, who};
use crate::fault::{Fault, Kind};
use crate::gateway::onboard::browsing::{BrowseError, Outcome, Owner, Sitting};
use crate::gateway::onboard::consent::{Initiate, NOWHERE};
use crate::gateway::reach::{Adder, Reach};
use crate::identity::Caller;
use crate::keybook::Scope;
use crate::secret::Secret;

/// When it is worth asking again for a browser.
const LATER: Duration = Duration::from_secs(60);

pub(super) fn routes() -> Routes {
    Routes::new()
        .route("/api/v1/oauth/browser/{id}", get(state).delete(cancel))
        .route("/browser/{id}", get(show).post(prove))
        .route("/browser/{id}/relay", get(socket::relay))
}

/// Opens a browser; answers where its person finds it.
pub(super) async fn initiate(plane: &Plane, caller: &Caller, ask: Initiate) -> Result<Response, Enveloped> {
    // What is typed on the page goes through here: never over a network in plain text.
    let base = plane.reached().ok_or(Enveloped(Fault::client(Kind::BadRequest, NOWHERE)))?;
    let begun = plane.browsing.begin(name_of(caller), ask).await;
    let sitting = begun.map_err(refused)?;
    let data = json!({
        "auth_url": format!("{base}/browser/{}", sitting.id),
        "state": sitting.id,
        "kind": "browser",
        "status_url": format!("{base}/api/v1/oauth/browser/{}", sitting.id),
        "is_relayed": sitting.is_relayed,
        "expires_in": sitting.left().as_secs(),
    });
    let mut response = success(&data);
    plane.seat(&sitting, response.headers_mut());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn refused(error: BrowseError) -> Enveloped {
    let text = error.to_string();
    Enveloped(match error {
        BrowseError::Invalid(_) => Fault::client(Kind::BadRequest, text),
        BrowseError::Full | BrowseError::Hasty => Fault::gateway(Kind::Overloaded, text).retry_after(LATER),
        BrowseError::NoBrowser(why) => Fault::gateway(Kind::Internal, text).source(why),
        BrowseError::Closing => Fault::gateway(Kind::Shutdown, text),
    })
}

fn name_of(caller: &Caller) -> Owner {
    Owner {
        tenant: caller.tenant.clone(),
        subject: caller.subject.clone(),
        by: Adder::of(caller),
        reach: Reach::of(caller),
        who: who(caller),
    }
}

/// The caller's own sitting; somebody else's is not there.
async fn own(plane: &Plane, headers: &HeaderMap, id: &str) -> Result<Arc<Sitting>, Enveloped> {
    let caller = owner(plane, headers).await?;
    let found = plane.browsing.of_owner(id, &name_of(&caller));
    found.ok_or_else(|| {
        let why = "There is no such sign-in: it was over long ago, or was begun elsewhere.";
        Enveloped(Fault::client(Kind::NotFound, why))
    })
}

async fn state(
    State(plane): State<Plane>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Enveloped> {
    let sitting = own(&plane, &headers, &id).await?;
    Ok(success(&shown(&sitting)))
}

/// Ends it. Its browser may be there for another moment.
async fn cancel(
    State(plane): State<Plane>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Enveloped> {
    let sitting = own(&plane, &headers, &id).await?;
    sitting.stop(Outcome::Cancelled);
    sitting.over().await;
    Ok(success(&shown(&sitting)))
}

fn shown(sitting: &Sitting) -> Value {
    let outcome = sitting.outcome();
    let account = match &outcome {
        Some(Outcome::Done { id, .. }) => Some(id.as_str()),
        _ => None,
    };
    json!({
        "id": sitting.id,
        "platform_id": sitting.site.platform,
        "account_name": sitting.account_name,
        "state": sitting.state(),
        "message": outcome.as_ref().map(words),
        "account_id": account,
        "redirect_after": sitting.redirect_after,
        "expires_in": sitting.left().as_secs(),
    })
}

/// What a person is told at the end.
fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { name, .. } => format!("The account {name} was added. You can close this window."),
        Outcome::Failed(why) | Outcome::Ended(why) => why.clone(),
        Outcome::Cancelled => "The sign-in was cancelled. Nothing was kept.".to_owned(),
        Outcome::Late => "The sign-in took too long. Begin again.".to_owned(),
    }
}

/// The page on which its person sees the browser.
async fn show(State(plane): State<Plane>, Segment(id): Segment, headers: HeaderMap) -> Response {
    let Some(sitting) = plane.browsing.find(&id) else { return page::gone() };
    if plane.has_seat(&sitting, &headers) {
        return page::relay(&sitting, &sitting.give_ticket(), &plane.socket_origin());
    }
    page::who_are_you(&sitting, None)
}

/// Somebody without a seat shows who they are.
async fn prove(
    State(plane): State<Plane>,
    Segment(id): Segment,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(sitting) = plane.browsing.find(&id) else { return page::gone() };
    if is_foreign(&headers, &plane.origin(), false) {
        return page::who_are_you(&sitting, Some("That came from another site's page."));
    }
    let token = url::form_urlencoded::parse(&body).find(|(name, _)| name == "token");
    let token = token.map(|(_, value)| Secret::new(value.trim()));
    let caller = match token {
        Some(token) => prover(&plane, &token).await,
        None => None,
    };
    if !caller.is_some_and(|caller| sitting.is_of(&name_of(&caller))) {
        return page::who_are_you(
            &sitting,
            Some("That is not the token or key that this sign-in was begun with."),
        );
    }
    let mut response = (StatusCode::SEE_OTHER, page::guarded("")).into_response();
    plane.seat(&sitting, response.headers_mut());
    if let Ok(place) = HeaderValue::try_from(format!("/browser/{}", sitting.id)) {
        response.headers_mut().insert(LOCATION, place);
    }
    response
}

/// Whose token or key this is, if they may add accounts.
async fn prover(plane: &Plane, token: &Secret) -> Option<Arc<Caller>> {
    let mut headers = HeaderMap::new();
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    verified(plane, &headers).await.ok().filter(|caller| caller.has_scope(Scope::Accounts))
}

impl Plane {
    /// What browsers call the place where our pages are from.
    fn origin(&self) -> String {
        let url = url::Url::parse(&self.public_url());
        url.map_or_else(|_| self.public_url(), |url| url.origin().ascii_serialization())
    }

    /// The same, for WebSockets.
    fn socket_origin(&self) -> String {
        self.origin().replacen("http", "ws", 1)
    }

    fn seat_name(&self, sitting: &Sitting) -> String {
        let prefix = if self.is_https() { "__Host-" } else { "" };
        format!("{prefix}weir-{}", sitting.id)
    }

    /// Gives a browser a seat.
    fn seat(&self, sitting: &Sitting, headers: &mut HeaderMap) {
        let secure = if self.is_https() { "; Secure" } else { "" };
        let cookie = format!(
            "{}={}; Path=/; HttpOnly; SameSite=Lax; Max-Age={}{secure}",
            self.seat_name(sitting),
            sitting.give_seat().expose(),
            sitting.left().as_secs() + 60,
        );
        if let Ok(mut cookie) = HeaderValue::try_from(cookie) {
            cookie.set_sensitive(true);
            headers.append(SET_COOKIE, cookie);
        }
    }

    /// Whether a browser has one.
    fn has_seat(&self, sitting: &Sitting, headers: &HeaderMap) -> bool {
        let name = self.seat_name(sitting);
        let pairs = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'));
        let mut shown =
            pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(known, _)| *known == name);
        shown.any(|(_, value)| sitting.is_seat(&Secret::new(value)))
    }
}
