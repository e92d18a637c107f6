//! What `weir account login` asks: an operator begins a sign-in from a terminal, for a tenant or for everybody, and comes back with the
//! address that the browser ended up at. Why not the callers' endpoints: no cookie binds a terminal to a browser, and a provider may
//! send the browser back to the terminal itself, which listens on the machine that it runs on (RFC 8252, 7.3).

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::consent::{Pasted, added, begun, fault_of_consent, read, stands};
use super::listed::{Routes, get, post};
use super::{Plane, Refused, operator, read_body};
use crate::fault::{Fault, Kind};
use crate::gateway::onboard::consent::{Beginner, Comer, ConsentError, Initiate};
use crate::ids::TenantId;
use crate::oauth::Flow;
use crate::secret::Secret;
use crate::web_url::{has_user, is_loopback};

type Answered = Result<Response, Refused>;

pub(super) fn routes() -> Routes {
    Routes::new()
        .route("/admin/accounts/login", post(begin))
        .route("/admin/accounts/login/status", get(standing))
        .route("/admin/accounts/login/callback", post(come_back))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    platform: String,
    account_name: String,
    /// Whose account it is to be; operators alone see it otherwise.
    owner: Option<TenantId>,
    api_key: Option<Secret>,
    flow: Option<Flow>,
    /// Where the terminal listens, as `http://127.0.0.1:49152`; the gateway's own callback if not given.
    loopback: Option<String>,
}

fn refused(error: ConsentError) -> Refused {
    use ConsentError::{Invalid, NotPending, OtherBrowser};
    let is_stray = matches!(error, NotPending | OtherBrowser | Invalid(_));
    let fault = fault_of_consent(error);
    // Whoever waits need not stop for somebody else's callback.
    Refused(if is_stray { fault.code("not_pending") } else { fault })
}

async fn begin(State(plane): State<Plane>, headers: HeaderMap, body: Bytes) -> Answered {
    let who = operator(&plane, &headers).await?;
    let Login { platform, account_name, owner, api_key, flow, loopback } =
        read_body(&body).map_err(Refused)?;
    if owner.as_ref().is_some_and(|owner| !is_name(owner.as_str())) {
        let why = "'owner' is a tenant's name, 1 to 256 bytes without control characters.";
        return Err(Refused(Fault::client(Kind::BadRequest, why)));
    }
    let origin = match &loopback {
        None => plane.reached(),
        Some(given) => Some(loopback_of(given).ok_or_else(|| {
            let why = "'loopback' is a port of this machine, as http://127.0.0.1:49152.";
            Refused(Fault::client(Kind::BadRequest, why))
        })?),
    };
    let redirect_uri = origin.map(|origin| format!("{origin}{}", plane.callback_of(&platform)));
    let ask = Initiate { platform, account_name, redirect_after: None, api_key, flow };
    let beginner = Beginner::operator(owner, who);
    let initiated = plane.consents.initiate(beginner, ask, redirect_uri.as_deref(), None).await;
    let initiated = initiated.map_err(refused)?;
    let mut told = begun(&initiated);
    if let Some(told) = told.as_object_mut() {
        let life = plane.onboard.ground().oauth.state_ttl.as_secs();
        told.entry("expires_in").or_insert(json!(life));
        told.insert("redirect_uri".to_owned(), json!(redirect_uri));
    }
    Ok(super::office::answer(&told))
}

fn is_name(text: &str) -> bool {
    (1..=256).contains(&text.len()) && !text.contains(char::is_control)
}

/// A loopback address by number: a name is whatever somebody's resolver says.
fn loopback_of(given: &str) -> Option<String> {
    let url = Url::parse(given).ok()?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_plain = !has_user(&url) && url.port().is_some();
    (is_loopback(&url) && is_bare && is_plain && url.scheme() == "http")
        .then(|| url.origin().ascii_serialization())
}

async fn standing(State(plane): State<Plane>, headers: HeaderMap, uri: Uri) -> Answered {
    let asker = Beginner::operator(None, operator(&plane, &headers).await?);
    let state = read(&uri).map_err(refused)?.state.unwrap_or_default();
    let standing = plane.consents.standing(&asker, &state).await.map_err(refused)?;
    Ok(super::office::answer(&stands(&standing)))
}

async fn come_back(State(plane): State<Plane>, headers: HeaderMap, body: Bytes) -> Answered {
    let who = operator(&plane, &headers).await?;
    let pasted: Pasted = read_body(&body).map_err(Refused)?;
    let (back, came_to) = pasted.read().map_err(refused)?;
    let comer = Comer { browser: None, caller: Some(Beginner::operator(None, who)) };
    let landed = plane.consents.finish(back, &comer, came_to.as_deref()).await.map_err(refused)?;
    Ok(super::office::answer(&json!({"account": landed.record.as_ref().map(added)})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_listens_on_its_own_machine() {
        assert_eq!(loopback_of("http://127.0.0.1:49152").as_deref(), Some("http://127.0.0.1:49152"));
        assert_eq!(loopback_of("http://[::1]:8000/").as_deref(), Some("http://[::1]:8000"));
        for bad in [
            "http://localhost:1",
            "http://10.0.0.1:1",
            "https://127.0.0.1:1",
            "http://127.0.0.1",
            "http://127.0.0.1:1/x",
            "http://127.0.0.1:1/?x",
            "http://u@127.0.0.1:1",
            "http://127.0.0.1:1@evil.example",
            "http://127.0.0.1.evil.example:1",
            "127.0.0.1:1",
            "",
        ] {
            assert_eq!(loopback_of(bad), None, "{bad}");
        }
    }
}
