//! `/api/v1/oauth/initiate` and the callbacks: how an account is added by its owner's consent. JSON in the envelope for programs, a small
//! page that closes its pop-up for browsers.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde_json::{Value, json};

use super::accounts::owner;
use super::browser::{closing, escaped, guarded, wants_page};
use super::envelope::{Enveloped, success};
use super::listed::{Routes, get, post};
use super::shape::{CALLBACK, HUGGING_FACE, Segment, Shape};
use super::{Plane, fault_of, read_body, verified, who};
use crate::fault::{Fault, Kind};
use crate::gateway::onboard::AccountRecord;
use crate::gateway::onboard::consent::{
    Back, Beginner, Comer, ConsentError, DeviceShown, Initiate, Initiated, Landed, Standing,
};
use crate::keybook::Scope;
use crate::oauth::{OAuthError, PendingError};
use crate::secret::Secret;
use crate::web_url::is_loopback;

pub(super) fn routes() -> Routes {
    Routes::new()
        .route("/api/v1/oauth/initiate", post(initiate))
        .route("/api/v1/oauth/status", get(standing))
        .route(CALLBACK, get(callback).post(pasted))
        .route("/api/v1/oauth/callback/{provider}", get(own_callback))
        .route(HUGGING_FACE, get(hugging_face))
        .route("/huggingface-callback/html", get(hugging_face_page))
}

async fn initiate(
    State(plane): State<Plane>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Enveloped> {
    let caller = owner(&plane, &headers).await?;
    let ask: Initiate = read_body(&body).map_err(Enveloped)?;
    #[cfg(feature = "browser")]
    if plane.onboard.ground().has_page(&ask.platform) {
        return super::relay::initiate(&plane, &caller, ask).await;
    }
    let beginner = Beginner::caller(&caller, who(&caller));
    let redirect_uri = plane.reached().map(|url| format!("{url}{}", plane.callback_of(&ask.platform)));
    let initiated = plane
        .consents
        .initiate(beginner, ask, redirect_uri.as_deref(), plane.shown(&headers).as_ref())
        .await
        .map_err(refused)?;
    let mut response = success(&begun(&initiated));
    if let Initiated::Browser { begun, .. } = &initiated
        && let Ok(mut cookie) = HeaderValue::try_from(plane.cookie(begun.browser.expose()))
    {
        cookie.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Where somebody is to be sent, as JSON.
pub(super) fn begun(initiated: &Initiated) -> Value {
    match initiated {
        Initiated::Browser { auth_url, begun } => {
            json!({"auth_url": auth_url, "state": begun.state.expose()})
        }
        Initiated::Device(DeviceShown { state, user_code, verification_uri, complete, interval, left }) => {
            json!({
                "auth_url": complete.as_ref().unwrap_or(verification_uri),
                "state": state.expose(),
                "user_code": user_code,
                "verification_uri": verification_uri,
                "verification_uri_complete": complete,
                "interval": interval,
                "expires_in": left,
            })
        }
    }
}

async fn standing(State(plane): State<Plane>, uri: Uri, headers: HeaderMap) -> Result<Response, Enveloped> {
    let caller = owner(&plane, &headers).await?;
    let asker = Beginner::caller(&caller, who(&caller));
    let state = read(&uri).map_err(refused)?.state.unwrap_or_default();
    let standing = plane.consents.standing(&asker, &state).await.map_err(refused)?;
    let mut response = success(&stands(&standing));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// How a sign-in stands, as JSON.
pub(super) fn stands(standing: &Standing) -> Value {
    match standing {
        Standing::Pending { interval, left } => {
            json!({"status": "pending", "interval": interval, "expires_in": left})
        }
        Standing::Done(record) => json!({"status": "done", "account": record.as_deref().map(added)}),
        Standing::Denied => json!({"status": "denied", "message": "The person said no."}),
        Standing::Expired => {
            json!({"status": "expired", "message": "Nobody typed the code in, in time. Begin again."})
        }
        Standing::Failed(why) => json!({"status": "failed", "message": why}),
    }
}

/// An account that was just added, as JSON.
pub(super) fn added(record: &AccountRecord) -> Value {
    json!({"id": record.id, "account_name": record.name, "platform_id": record.platform})
}

async fn callback(State(plane): State<Plane>, uri: Uri, headers: HeaderMap) -> Response {
    let landed = land(&plane, &uri, &headers, CALLBACK).await;
    if wants_page(&headers) { page(landed) } else { as_json(landed, &read(&uri).unwrap_or_default()) }
}

async fn own_callback(
    State(plane): State<Plane>,
    Segment(provider): Segment,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let landed = land(&plane, &uri, &headers, &format!("{CALLBACK}/{provider}")).await;
    if wants_page(&headers) { page(landed) } else { as_json(landed, &read(&uri).unwrap_or_default()) }
}

/// What a browser came back with, brought by hand.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pasted {
    /// The whole address that it came back to; or `code#state`, as some providers show it.
    url: Option<String>,
    code: Option<Secret>,
    state: Option<String>,
}

impl Pasted {
    /// What came back, and to which address, where that is known.
    ///
    /// # Errors
    /// It is none of the three.
    pub(super) fn read(self) -> Result<(Back, Option<String>), ConsentError> {
        match (self.url.as_deref().map(str::trim), self.code, self.state) {
            (Some(given), None, None) => match url::Url::parse(given) {
                Ok(url) => {
                    // As the browser shows it, whole: that is what must be the redirect URI, to the character.
                    let came_to = address_of(&url).ok_or_else(Self::wrong)?;
                    let back = read_query(url.query().unwrap_or_default())?;
                    Ok((back, Some(came_to)))
                }
                Err(_) => match given.split_once('#') {
                    Some((code, state)) => Self::of_two(Secret::new(code), state),
                    None => Err(Self::wrong()),
                },
            },
            (None, Some(code), Some(state)) => Self::of_two(code, &state),
            _ => Err(Self::wrong()),
        }
    }

    fn of_two(code: Secret, state: &str) -> Result<(Back, Option<String>), ConsentError> {
        let is_one = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '#');
        if !is_one(code.expose()) || !is_one(state) {
            return Err(Self::wrong());
        }
        Ok((Back { state: Some(state.to_owned()), code: Some(code), ..Back::default() }, None))
    }

    fn wrong() -> ConsentError {
        let why = "'url' is the whole address that the browser came back to, or `code#state`; \
                   or give 'code' and 'state'.";
        ConsentError::Invalid(why.to_owned())
    }
}

/// What a browser came back with, pasted by whoever began, with credentials of their own.
async fn pasted(State(plane): State<Plane>, headers: HeaderMap, body: Bytes) -> Response {
    let work = async {
        owner(&plane, &headers).await?;
        let pasted: Pasted = read_body(&body).map_err(Enveloped)?;
        let (back, came_to) = pasted.read().map_err(refused)?;
        let landed = land_at(&plane, back.clone(), &headers, came_to.as_deref()).await;
        Ok(as_json(landed, &back))
    };
    work.await.unwrap_or_else(|Enveloped(fault)| Shape::Guarded.answer(&fault))
}

async fn hugging_face(State(plane): State<Plane>, uri: Uri, headers: HeaderMap) -> Response {
    let back = read(&uri).unwrap_or_default();
    let landed = land(&plane, &uri, &headers, HUGGING_FACE).await;
    match landed {
        landed if wants_page(&headers) => page(landed),
        Err(error) => Shape::Guarded.answer(&fault_of_consent(error)),
        Ok(landed) => {
            let mut body = reported(&back, landed.record.as_ref());
            if let (Some(body), Some(record)) = (body.as_object_mut(), &landed.record) {
                body.insert("account".to_owned(), added(record));
            }
            let mut response = axum::Json(body).into_response();
            harden(response.headers_mut());
            response
        }
    }
}

/// What came back, and what is to be done with it.
fn reported(back: &Back, record: Option<&AccountRecord>) -> Value {
    let (message, next_steps) = match record {
        Some(_) => (
            "The account was added.",
            [
                "The code has been exchanged: it is of no more use.",
                "Use the account: POST /v1/chat/completions with a model of its platform's.",
            ],
        ),
        None => (
            "The state is right. The code was not exchanged here.",
            [
                "Exchange the code at the provider's token endpoint, with this very redirect URI and the client's secret.",
                "Add the account with the token that comes of it: POST /api/v1/oauth/accounts.",
            ],
        ),
    };
    let code = back.code.as_ref().map(Secret::expose);
    json!({"message": message, "code": code, "state": back.state, "next_steps": next_steps})
}

async fn hugging_face_page(State(plane): State<Plane>, uri: Uri, headers: HeaderMap) -> Response {
    page(land(&plane, &uri, &headers, HUGGING_FACE).await)
}

/// An address without what a provider adds to it; `None` where it has what no redirect URI of ours has.
fn address_of(url: &url::Url) -> Option<String> {
    let is_plain = url.username().is_empty() && url.password().is_none();
    is_plain.then(|| format!("{}{}", url.origin().ascii_serialization(), url.path()))
}

/// Verifies who comes back to a path of ours, and with what, and adds the account.
async fn land(plane: &Plane, uri: &Uri, headers: &HeaderMap, came_to: &str) -> Result<Landed, ConsentError> {
    let came_to = format!("{}{came_to}", plane.public_url());
    land_at(plane, read(uri)?, headers, Some(&came_to)).await
}

async fn land_at(
    plane: &Plane,
    back: Back,
    headers: &HeaderMap,
    came_to: Option<&str>,
) -> Result<Landed, ConsentError> {
    let caller = match headers.contains_key(http::header::AUTHORIZATION) {
        true => verified(plane, headers).await.ok().filter(|caller| caller.has_scope(Scope::Accounts)),
        false => None,
    };
    let comer = Comer {
        // What is brought by hand says nothing of where a browser came to: then only whoever began may bring it.
        browser: plane.shown(headers).filter(|_| came_to.is_some()),
        caller: caller.map(|caller| Beginner::caller(&caller, who(&caller))),
    };
    plane.consents.finish(back, &comer, came_to).await
}

/// Each parameter once: of two states or two issuers nobody knows which one counts.
pub(super) fn read(uri: &Uri) -> Result<Back, ConsentError> {
    read_query(uri.query().unwrap_or_default())
}

fn read_query(query: &str) -> Result<Back, ConsentError> {
    let mut back = Back::default();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if value.is_empty() {
            continue;
        }
        if seen.iter().any(|known| *known == name) {
            return Err(ConsentError::Invalid("A parameter comes twice.".to_owned()));
        }
        let value = value.into_owned();
        match &*name {
            "state" => back.state = Some(value),
            "code" => back.code = Some(Secret::new(value)),
            "error" => back.error = Some(value),
            "error_description" => back.error_description = Some(value),
            "iss" => back.iss = Some(value),
            _ => {}
        }
        seen.push(name.into_owned());
    }
    Ok(back)
}

fn refused(error: ConsentError) -> Enveloped {
    Enveloped(fault_of_consent(error))
}

/// What is told of a sign-in that came to nothing.
pub(super) fn fault_of_consent(error: ConsentError) -> Fault {
    let text = error.to_string();
    match error {
        ConsentError::Onboard(error) => fault_of(error),
        ConsentError::Pending(PendingError::Store(error)) => fault_of(error.into()),
        ConsentError::Pending(error) => Fault::gateway(Kind::Internal, "The store failed.").source(error),
        ConsentError::Provider(OAuthError::Unavailable { .. }) => Fault::upstream(
            Kind::UpstreamError,
            "The provider could not be reached. Begin again in a moment.",
        )
        .source(text),
        ConsentError::Provider(OAuthError::Refused { .. }) => Fault::client(Kind::BadRequest, text),
        ConsentError::Provider(_) => {
            Fault::upstream(Kind::UpstreamError, "The provider's answer makes no sense.").source(text)
        }
        ConsentError::Invalid(_)
        | ConsentError::NotPending
        | ConsentError::OtherBrowser
        | ConsentError::Denied(_) => Fault::client(Kind::BadRequest, text),
        ConsentError::NoSuch => Fault::client(Kind::NotFound, text),
        ConsentError::TooMany { wait } => {
            Fault::client(Kind::RateLimited, text).retry_after(std::time::Duration::from_secs(wait))
        }
    }
}

fn as_json(landed: Result<Landed, ConsentError>, back: &Back) -> Response {
    let mut response = match landed {
        Err(error) => return Shape::Guarded.answer(&fault_of_consent(error)),
        Ok(Landed { record: Some(record), redirect_after }) => {
            let mut data = added(&record);
            if let Some(data) = data.as_object_mut() {
                data.insert("redirect_after".to_owned(), json!(redirect_after));
            }
            success(&data)
        }
        Ok(Landed { record: None, redirect_after }) => {
            let mut data = reported(back, None);
            if let Some(data) = data.as_object_mut() {
                data.insert("redirect_after".to_owned(), json!(redirect_after));
            }
            success(&data)
        }
    };
    harden(response.headers_mut());
    response
}

/// What a browser is shown. Nothing on it is anybody else's, and it tells its address to nobody.
fn page(landed: Result<Landed, ConsentError>) -> Response {
    let (status, title, text, next) = match landed {
        Ok(landed) => {
            let text = match &landed.record {
                Some(record) => format!("The account {} was added. You can close this window.", record.name),
                None => {
                    "The sign-in is right; its code was not exchanged here. It stands in this page's address."
                        .to_owned()
                }
            };
            (StatusCode::OK, "Done", text, landed.redirect_after)
        }
        Err(error) => {
            let fault = refused(error).0;
            let refusal = crate::http::reply::refusal(&fault);
            (refusal.status, "That did not work", fault.public().to_owned(), None)
        }
    };
    let link = next.map_or_else(String::new, |next| {
        format!("<p><a id=\"next\" href=\"{}\">Go on</a></p>", escaped(&next))
    });
    closing(status, title, &format!("<p id=\"text\">{}</p>{link}", escaped(&text)))
}

fn harden(headers: &mut HeaderMap) {
    headers.extend(guarded());
}

/// Whether an address of ours is for this machine only.
fn is_own_machine(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| is_loopback(&url))
}

impl Plane {
    /// Where accounts of a platform come back to.
    pub(super) fn callback_of(&self, platform: &str) -> String {
        if platform == "huggingface" {
            return HUGGING_FACE.to_owned();
        }
        let ground = self.onboard.ground();
        match ground.oauth.for_platform(platform).filter(|provider| provider.own_callback) {
            Some(provider) => format!("{CALLBACK}/{}", provider.name),
            None => CALLBACK.to_owned(),
        }
    }

    /// Where browsers reach us, without a slash at the end.
    pub(super) fn public_url(&self) -> String {
        match &self.onboard.ground().oauth.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => self.own_url.to_string(),
        }
    }

    /// The same for providers, which send a code there: never over a network in plain text. `None`: there is no such place.
    pub(super) fn reached(&self) -> Option<String> {
        let url = self.public_url();
        let is_named = self.onboard.ground().oauth.public_url.is_some();
        (is_named || is_own_machine(&url)).then_some(url)
    }

    pub(super) fn is_https(&self) -> bool {
        self.public_url().starts_with("https:")
    }

    /// The browser's half of a sign-in.
    pub(super) fn cookie(&self, value: &str) -> String {
        let life = self.onboard.ground().oauth.state_ttl.as_secs();
        let (name, secure) =
            if self.is_https() { ("__Host-weir-begun", "; Secure") } else { ("weir-begun", "") };
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={life}{secure}")
    }

    /// What the browser shows of it.
    pub(super) fn shown(&self, headers: &HeaderMap) -> Option<Secret> {
        let name = if self.is_https() { "__Host-weir-begun" } else { "weir-begun" };
        let pairs = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'));
        let found = pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(known, _)| *known == name);
        found.map(|(_, value)| Secret::new(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pasted(body: serde_json::Value) -> Option<(String, String, Option<String>)> {
        let pasted: Pasted = serde_json::from_value(body).ok()?;
        let (back, came_to) = pasted.read().ok()?;
        Some((back.code?.expose().to_owned(), back.state?, came_to))
    }

    #[test]
    fn r22_2_an_address_or_code_and_state() {
        let two = Some(("c".to_owned(), "1a.s".to_owned(), None));
        assert_eq!(pasted(json!({"url": "c#1a.s"})), two);
        assert_eq!(pasted(json!({"url": " c#1a.s\n"})), two);
        assert_eq!(pasted(json!({"code": "c", "state": "1a.s"})), two);
        let came_to = Some("https://weir.example/api/v1/oauth/callback".to_owned());
        let whole = "https://weir.example/api/v1/oauth/callback?code=c&state=1a.s#_";
        assert_eq!(pasted(json!({"url": whole})), Some(("c".to_owned(), "1a.s".to_owned(), came_to)));
        for bad in [
            json!({}),
            json!({"url": ""}),
            json!({"url": "c"}),
            json!({"url": "#s"}),
            json!({"url": "c#"}),
            json!({"url": "c#s#t"}),
            json!({"url": "c c#s"}),
            json!({"code": "c"}),
            json!({"state": "s"}),
            json!({"code": "", "state": "s"}),
            json!({"url": "c#s", "code": "c", "state": "s"}),
            json!({"url": "https://u:p@weir.example/?code=c&state=s"}),
            json!({"url": "https://weir.example/?code=c&state=s&state=t"}),
        ] {
            assert_eq!(pasted(bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine() {
        for own in ["http://127.0.0.1:8080", "http://[::1]:8080", "https://127.0.0.1:1"] {
            assert!(is_own_machine(own), "{own}");
        }
        for other in
            ["http://0.0.0.0:8080", "http://[::]:8080", "http://10.0.0.5:8080", "https://0.0.0.0:1", ""]
        {
            assert!(!is_own_machine(other), "{other}");
        }
    }
}
