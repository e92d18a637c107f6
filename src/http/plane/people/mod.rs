//! `/auth` and `/account`: how people sign in, and what they see and change of themselves. For browsers with cookies: no CORS, and
//! what changes something comes from a page of ours. What a person's own program does with a session's token comes by
//! `Authorization`, which no other site's page can send for them. JSON is in the envelope of `/api/v1/oauth`.

mod account;
mod office;
mod page;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde_json::{Value, json};

use super::browser::{go, is_embedded, is_foreign, onward, trouble, wants_page};
use super::consent::read;
use super::envelope::success;
use super::listed::{Routes, delete, get, post, put};
use super::shape::{Segment, Shape};
use super::{Plane, away, verified};
use crate::fault::{Fault, Kind};
use crate::gateway::issuer::IssuerError;
use crate::gateway::people::{Guest, Landed, PeopleError, PersonRecord, SessionRecord};
use crate::gateway::provider::Params;
use crate::http::reply::refusal;
use crate::http::service::Peer;
use crate::identity::Minted;
use crate::oauth::{OAuthError, PendingError, Refusal};
use crate::secret::Secret;
use crate::store::StoreError;

/// Where somebody is who has signed in and wanted to go nowhere else.
const HOME: &str = "/account";

pub(super) fn routes() -> Routes {
    Routes::new()
        .route("/auth", get(choose))
        .route("/auth/me", get(account::me))
        .route("/auth/token", post(token))
        .route("/auth/logout", get(account::ask_logout).post(account::logout))
        .route("/auth/links/{id}", delete(account::unlink))
        .route("/auth/sessions/{id}", delete(account::end_session))
        .route("/auth/{provider}", get(start).post(add))
        .route("/auth/{provider}/callback", get(callback))
        .route(HOME, get(account::page).post(account::change))
}

pub(super) fn admin_routes() -> Routes {
    Routes::new()
        .route("/admin/people", get(office::list))
        .route("/admin/people/{id}", put(office::change).get(office::one).delete(office::remove))
}

/// What is told of a failure.
fn fault(error: PeopleError) -> Fault {
    let text = error.to_string();
    match error {
        PeopleError::Store(StoreError::Released) => {
            Fault::gateway(Kind::Shutdown, "The gateway is being replaced. Try again shortly.")
        }
        error if is_away(&error) => away(text),
        PeopleError::Store(_) | PeopleError::Pending(_) | PeopleError::Issuer(_) | PeopleError::Mint(_) => {
            Fault::gateway(Kind::Internal, "The store failed.").source(error)
        }
        PeopleError::Provider(error) => fault_of_provider(&error, text),
        PeopleError::NoSuchDoor | PeopleError::NotFound(_) => Fault::client(Kind::NotFound, text),
        PeopleError::NotAdmitted | PeopleError::Blocked => Fault::client(Kind::Forbidden, text),
        PeopleError::TooMany { wait } => Fault::client(Kind::RateLimited, text).retry_after(wait),
        PeopleError::Invalid(_)
        | PeopleError::NotPending
        | PeopleError::Denied(_)
        | PeopleError::Taken
        | PeopleError::LastDoor
        | PeopleError::SignedOut => Fault::client(Kind::BadRequest, text),
    }
}

/// Whether it is the store that cannot be reached.
const fn is_away(error: &PeopleError) -> bool {
    use PeopleError::{Issuer, Pending, Store};
    matches!(
        error,
        Store(StoreError::Unreachable(_))
            | Pending(PendingError::Store(StoreError::Unreachable(_)))
            | Issuer(IssuerError::Store(StoreError::Unreachable(_)))
    )
}

fn fault_of_provider(error: &OAuthError, text: String) -> Fault {
    let theirs = |public: &'static str| Fault::upstream(Kind::UpstreamError, public).source(text.clone());
    match error {
        OAuthError::Unavailable { .. } => {
            theirs("The provider could not be reached. Sign in again in a moment.")
        }
        OAuthError::Nonsense(_) | OAuthError::NotOffered(_) => {
            theirs("The provider's answer makes no sense.")
        }
        OAuthError::Refused { refusal, .. } => match refusal {
            Refusal::InvalidClient | Refusal::UnauthorizedClient => {
                theirs("The provider does not know this gateway. Tell whoever runs it.")
            }
            Refusal::AccessDenied => Fault::client(Kind::Forbidden, text),
            _ => Fault::client(Kind::BadRequest, text),
        },
    }
}

/// A failure, in the shape that whoever asked can read.
fn told(headers: &HeaderMap, fault: Fault) -> Response {
    match wants_page(headers) {
        true => {
            let refusal = refusal(&fault);
            let mut page = page::failed(refusal.status, fault.public());
            page.headers_mut()
                .extend(refusal.headers.get(RETRY_AFTER).map(|wait| (RETRY_AFTER, wait.clone())));
            page
        }
        false => Private(fault).into_response(),
    }
}

/// A failure as a program reads it. Kept by nobody, as what would have been told.
struct Private(Fault);

impl IntoResponse for Private {
    fn into_response(self) -> Response {
        Shape::Guarded.answer(&self.0)
    }
}

/// Whatever a person's own page or program is told is theirs alone.
fn private(data: &Value) -> Response {
    let mut response = success(data);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether people sign in here at all.
fn is_open(plane: &Plane) -> Result<(), Fault> {
    match plane.people.ground().settings.is_on() {
        true => Ok(()),
        false => Err(Fault::client(Kind::NotFound, "People do not sign in here (`sign_in.providers`).")),
    }
}

/// Who is signed in by this request's cookies.
async fn guest(plane: &Plane, headers: &HeaderMap) -> Result<Option<Guest>, Fault> {
    plane.people.guest(headers).await.map_err(|error| fault(error.into()))
}

/// The same, who must be there.
async fn some_guest(plane: &Plane, headers: &HeaderMap) -> Result<Guest, Fault> {
    let nobody = || Fault::client(Kind::Unauthenticated, "Nobody is signed in.");
    guest(plane, headers).await?.ok_or_else(nobody)
}

/// Whether a request that changes something comes from a page of ours.
fn check_origin(plane: &Plane, headers: &HeaderMap, guest: &Guest, ticket: &str) -> Result<(), Fault> {
    match is_foreign(headers, &plane.public_url(), plane.people.is_of_page(guest, ticket)) {
        true => Err(Fault::client(Kind::Forbidden, "Not from another site.")),
        false => Ok(()),
    }
}

/// Somebody, and in which session: by cookie, or by the session's own token.
struct Present {
    person: PersonRecord,
    session: SessionRecord,
    /// Where it is by cookie.
    guest: Option<Guest>,
}

async fn present(plane: &Plane, headers: &HeaderMap) -> Result<Present, Fault> {
    is_open(plane)?;
    if !headers.contains_key(AUTHORIZATION) {
        let guest = some_guest(plane, headers).await?;
        return Ok(Present {
            person: guest.person.clone(),
            session: guest.session.clone(),
            guest: Some(guest),
        });
    }
    let caller = verified(plane, headers).await?;
    // An app's token opens nothing here: it could hide that it is there.
    let Some(ties) = caller.ties.as_ref().filter(|ties| !ties.is_app()) else {
        return Err(Fault::client(Kind::Forbidden, "This is for a person's own session."));
    };
    let found =
        plane.people.of_token(&caller.subject, &ties.session).await.map_err(|error| fault(error.into()))?;
    let gone = || Fault::client(Kind::Unauthenticated, "Nobody is signed in.");
    let (person, session) = found.ok_or_else(gone)?;
    Ok(Present { person, session, guest: None })
}

/// The same, for what changes something.
async fn present_at_home(plane: &Plane, headers: &HeaderMap, ticket: &str) -> Result<Present, Fault> {
    let present = present(plane, headers).await?;
    if let Some(guest) = &present.guest {
        check_origin(plane, headers, guest, ticket)?;
    }
    Ok(present)
}

/// By what people sign in.
async fn choose(State(plane): State<Plane>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    if let Err(fault) = is_open(&plane) {
        return told(&headers, fault);
    }
    let params = Params::read(&query.unwrap_or_default());
    let after = params.one("redirect_after").ok().flatten();
    let ground = plane.people.ground();
    if wants_page(&headers) {
        return page::choose(&ground, after);
    }
    let doors: Vec<Value> = ground
        .doors()
        .map(|door| json!({"id": door.name, "title": door.title, "url": page::start_of(&door.name, after)}))
        .collect();
    private(&json!({"providers": doors}))
}

/// To a provider.
async fn start(
    State(plane): State<Plane>,
    Segment(provider): Segment,
    RawQuery(query): RawQuery,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Response {
    if is_embedded(&headers) {
        return trouble(StatusCode::BAD_REQUEST, "This page is to be opened by itself.");
    }
    if let Err(error) = plane.people.let_begin(peer.map(|Extension(Peer(address))| address)) {
        return told(&headers, noted(&provider, error));
    }
    let params = Params::read(&query.unwrap_or_default());
    if params.one("link") != Ok(None) {
        // What shows that a page is ours stands in no address: that is kept in histories and logs.
        return told(&headers, Fault::client(Kind::BadRequest, "A way in is added by POST."));
    }
    match send(&plane, &provider, &params, &headers, None).await {
        Ok(response) => response,
        Err(fault) => told(&headers, fault),
    }
}

/// The same, to add a way in to who is signed in.
async fn add(
    State(plane): State<Plane>,
    Segment(provider): Segment,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let params = Params::read(&String::from_utf8_lossy(&body));
    let work = async {
        is_open(&plane)?;
        let guest = some_guest(&plane, &headers).await?;
        let ticket = params.one("ticket").ok().flatten().unwrap_or_default();
        // Not a form on somebody else's page, nor a script's request without the ticket: what is added is a way in.
        check_origin(&plane, &headers, &guest, ticket)?;
        if !plane.people.is_of_page(&guest, ticket) {
            return Err(Fault::client(Kind::Forbidden, "Not from another site."));
        }
        send(&plane, &provider, &params, &headers, Some(&guest)).await
    };
    work.await.unwrap_or_else(|fault| told(&headers, fault))
}

async fn send(
    plane: &Plane,
    provider: &str,
    params: &Params,
    headers: &HeaderMap,
    guest: Option<&Guest>,
) -> Result<Response, Fault> {
    is_open(plane)?;
    let after = params.one("redirect_after");
    let after = after.map_err(|_| Fault::client(Kind::BadRequest, "A parameter comes twice."))?;
    let started = plane.people.start(provider, after, headers, guest).await;
    let started = started.map_err(|error| noted(provider, error))?;
    let mut response = if guest.is_some() { onward(headers, &started.url) } else { go(&started.url) };
    carry(&mut response, started.cookies);
    Ok(response)
}

/// From a provider.
async fn callback(
    State(plane): State<Plane>,
    Segment(provider): Segment,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match land(&plane, &provider, &uri, &headers).await {
        Ok(response) => response,
        Err(fault) => told(&headers, fault),
    }
}

async fn land(plane: &Plane, provider: &str, uri: &Uri, headers: &HeaderMap) -> Result<Response, Fault> {
    is_open(plane)?;
    let back = read(uri).map_err(|error| Fault::client(Kind::BadRequest, error.to_string()))?;
    let guest = guest(plane, headers).await?;
    let landed = plane.people.finish(provider, back, headers, guest.as_ref()).await;
    let mut landed = landed.map_err(|error| noted(provider, error))?;
    let mut response = match wants_page(headers) {
        true => go(&Secret::new(landed.redirect_after.as_deref().unwrap_or(HOME))),
        false => as_json(plane, &landed).await?,
    };
    if let Some((_, secret)) = &landed.session {
        keep(plane, &mut response, Some(secret));
    }
    carry(&mut response, std::mem::take(&mut landed.cookies));
    Ok(response)
}

/// Tells the operator what went wrong with a provider, and whoever asked what they may know.
fn noted(provider: &str, error: PeopleError) -> Fault {
    let provider = crate::gateway::chat::printable(provider);
    match &error {
        PeopleError::Provider(wrong) if wrong.refusal() != Some(Refusal::AccessDenied) => {
            tracing::warn!(provider, why = %wrong, "somebody could not sign in");
        }
        other => tracing::debug!(provider, why = %other, "somebody could not sign in"),
    }
    fault(error)
}

/// Has the browser keep a session, or forget it.
fn keep(plane: &Plane, response: &mut Response, session: Option<&Secret>) {
    if let Some(cookie) = plane.people.ground().keep_cookie(session) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

/// Has the browser carry a sign-in, or no more.
fn carry(response: &mut Response, cookies: Vec<HeaderValue>) {
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

async fn as_json(plane: &Plane, landed: &Landed) -> Result<Response, Fault> {
    let mut data = json!({
        "person": account::person(plane, &landed.person),
        "is_new": landed.is_new,
        "redirect_after": landed.redirect_after,
    });
    if let (Some(data), Some((session, _))) = (data.as_object_mut(), &landed.session) {
        let minted = plane.people.mint(&landed.person, session).await.map_err(fault)?;
        data.extend(token_of(plane, &minted));
    }
    Ok(private(&data))
}

fn token_of(plane: &Plane, minted: &Minted) -> serde_json::Map<String, Value> {
    let left = minted.expires.saturating_sub(plane.gateway.clock.wall_seconds());
    let pairs = [
        ("token", json!(minted.token.expose())),
        ("token_type", json!("Bearer")),
        ("expires_in", json!(left)),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A token of the session that this browser is in: for a page of ours that asks models.
async fn token(State(plane): State<Plane>, headers: HeaderMap) -> Result<Response, Private> {
    is_open(&plane).map_err(Private)?;
    let guest = some_guest(&plane, &headers).await.map_err(Private)?;
    check_origin(&plane, &headers, &guest, "").map_err(Private)?;
    let minted = plane.people.mint(&guest.person, &guest.session).await;
    let minted = minted.map_err(|error| Private(fault(error)))?;
    Ok(private(&Value::from(token_of(&plane, &minted))))
}
