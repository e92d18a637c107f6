//! `/api/v1/oauth/initiate` and the callbacks: how an account is added by its owner's consent. JSON in the envelope for programs, a small
//! page that closes its pop-up for browsers.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, REFERRER_POLICY, SET_COOKIE,
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde_json::json;

use super::accounts::owner;
use super::envelope::{Enveloped, success};
use super::{Plane, fault_of, read_body, verified, who};
use crate::fault::{Fault, Kind};
use crate::gateway::onboard::consent::{Back, Beginner, Comer, ConsentError, Initiate, Landed};
use crate::keybook::Scope;
use crate::oauth::OAuthError;
use crate::secret::Secret;

/// Where providers send browsers back to.
const CALLBACK: &str = "/api/v1/oauth/callback";
const HUGGING_FACE: &str = "/huggingface-callback";

pub(super) fn routes() -> Router<Plane> {
    Router::new()
        .route("/api/v1/oauth/initiate", post(initiate))
        .route(CALLBACK, get(callback).post(pasted))
        .route(HUGGING_FACE, get(hugging_face))
        .route("/huggingface-callback/html", get(hugging_face_page))
}

/// The callback of accounts of a platform.
fn callback_of(platform: &str) -> &'static str {
    if platform == "huggingface" { HUGGING_FACE } else { CALLBACK }
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
        return super::browser::initiate(&plane, &caller, ask).await;
    }
    let beginner = Beginner { tenant: caller.tenant.clone(), who: who(&caller) };
    let redirect_uri = format!("{}{}", plane.public_url(), callback_of(&ask.platform));
    let initiated = plane.consents.initiate(beginner, ask, &redirect_uri).await.map_err(refused)?;
    let data = json!({"auth_url": initiated.auth_url, "state": initiated.begun.state.expose()});
    let mut response = success(&data);
    let cookie = plane.cookie(initiated.begun.browser.expose());
    if let Ok(mut cookie) = HeaderValue::try_from(cookie) {
        cookie.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn callback(State(plane): State<Plane>, uri: Uri, headers: HeaderMap) -> Response {
    let landed = land(&plane, &uri, &headers, CALLBACK).await;
    let wants_page = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    if wants_page { page(landed) } else { as_json(landed) }
}

/// The address that a browser came back to, pasted by whoever began, with credentials of their own.
async fn pasted(State(plane): State<Plane>, headers: HeaderMap, body: Bytes) -> Result<Response, Enveloped> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pasted {
        url: String,
    }
    owner(&plane, &headers).await?;
    let pasted: Pasted = read_body(&body).map_err(Enveloped)?;
    let wrong = || {
        Enveloped(Fault::client(
            Kind::BadRequest,
            "'url' is the whole address that the browser came back to.",
        ))
    };
    let url = url::Url::parse(pasted.url.trim()).map_err(|_| wrong())?;
    let came_to = [CALLBACK, HUGGING_FACE].into_iter().find(|path| url.path() == *path).ok_or_else(wrong)?;
    let uri = Uri::try_from(format!("{came_to}?{}", url.query().unwrap_or_default())).map_err(|_| wrong())?;
    Ok(as_json(land(&plane, &uri, &headers, came_to).await))
}

async fn hugging_face(State(plane): State<Plane>, uri: Uri, headers: HeaderMap) -> Response {
    let back = read(&uri);
    match land(&plane, &uri, &headers, HUGGING_FACE).await {
        Err(error) => refused(error).into_response(),
        Ok(landed) => {
            let back = back.unwrap_or_default();
            let body = json!({
                "message": "The account was added.",
                "code": back.code.as_ref().map(Secret::expose),
                "state": back.state,
                "next_steps": ["The code has been exchanged: it is of no more use.", "Use the account: POST /v1/chat/completions with a model of Hugging Face's."],
                "account": {"id": landed.record.id, "account_name": landed.record.name, "platform_id": landed.record.platform},
            });
            let mut response = axum::Json(body).into_response();
            harden(response.headers_mut());
            response
        }
    }
}

async fn hugging_face_page(State(plane): State<Plane>, uri: Uri, headers: HeaderMap) -> Response {
    page(land(&plane, &uri, &headers, HUGGING_FACE).await)
}

/// Verifies who comes back, and with what, and adds the account.
async fn land(plane: &Plane, uri: &Uri, headers: &HeaderMap, came_to: &str) -> Result<Landed, ConsentError> {
    let back = read(uri)?;
    let caller = match headers.contains_key(http::header::AUTHORIZATION) {
        true => verified(plane, headers).await.ok().filter(|caller| caller.has_scope(Scope::Accounts)),
        false => None,
    };
    let comer = Comer {
        browser: plane.shown(headers),
        caller: caller.map(|caller| Beginner { tenant: caller.tenant.clone(), who: who(&caller) }),
    };
    plane.consents.finish(back, &comer, &format!("{}{came_to}", plane.public_url())).await
}

/// Each parameter once: of two states or two issuers nobody knows which one counts.
fn read(uri: &Uri) -> Result<Back, ConsentError> {
    let mut back = Back::default();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
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
    let text = error.to_string();
    Enveloped(match error {
        ConsentError::Onboard(error) => fault_of(error),
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
    })
}

fn as_json(landed: Result<Landed, ConsentError>) -> Response {
    let mut response = match landed {
        Err(error) => refused(error).into_response(),
        Ok(Landed { record, redirect_after }) => success(&json!({
            "id": record.id,
            "platform_id": record.platform,
            "account_name": record.name,
            "redirect_after": redirect_after,
        })),
    };
    harden(response.headers_mut());
    response
}

/// What a browser is shown. Nothing on it is anybody else's, and it tells its address to nobody.
fn page(landed: Result<Landed, ConsentError>) -> Response {
    let (status, title, text, next) = match landed {
        Ok(landed) => {
            let text = format!("The account {} was added. You can close this window.", landed.record.name);
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
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title} - Weir</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem}}</style>\
         <h1>{title}</h1><p id=\"text\">{}</p>{link}<script>{CLOSE}</script></html>",
        escaped(&text)
    );
    let mut response = (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response();
    harden(response.headers_mut());
    response
}

/// A pop-up closes itself; a window that a person opened stays.
const CLOSE: &str = "if(window.opener){setTimeout(function(){window.close()},800)}";

/// The hash of [`CLOSE`]: no other script runs on the page.
fn policy() -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(CLOSE));
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
}

fn harden(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(policy) = HeaderValue::try_from(policy()) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

impl Plane {
    /// Where browsers reach us, without a slash at the end.
    pub(super) fn public_url(&self) -> String {
        match &self.onboard.ground().oauth.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => self.own_url.to_string(),
        }
    }

    pub(super) fn is_https(&self) -> bool {
        self.public_url().starts_with("https:")
    }

    /// The browser's half of a sign-in.
    fn cookie(&self, value: &str) -> String {
        let life = self.onboard.ground().oauth.state_ttl.as_secs();
        let (name, secure) =
            if self.is_https() { ("__Host-weir-begun", "; Secure") } else { ("weir-begun", "") };
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={life}{secure}")
    }

    /// What the browser shows of it.
    fn shown(&self, headers: &HeaderMap) -> Option<Secret> {
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
