//! What an OpenID Connect issuer says of itself. Its document is somebody else's word: it must name the very issuer that was asked
//! (OpenID Connect Discovery 1.0, 4.3), and its endpoints go through the same checks as an operator's. What the operator has
//! written counts before it.

use http::{HeaderMap, HeaderValue, Method, header::ACCEPT};
use serde::Deserialize;
use url::Url;

use super::careful::is_inner;
use super::error::OAuthError;
use super::row::{ClientAuth, Flow, Provider, endpoint};
use super::web::{Outgoing, Web};

/// The document, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    jwks_uri: Option<String>,
    #[serde(default)]
    id_token_signing_alg_values_supported: Vec<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// `provider` with what its issuer says where its row is silent. Asks nobody where there is nothing to ask for.
///
/// # Errors
/// The document cannot be had or makes no sense.
pub(super) async fn settle(web: &dyn Web, provider: &Provider) -> Result<Provider, OAuthError> {
    let Some(issuer) = provider.issuer.as_ref() else { return Ok(provider.clone()) };
    let has_all =
        provider.authorize_url.is_some() && provider.token_url.is_some() && provider.jwks_url.is_some();
    if has_all {
        return Ok(provider.clone());
    }
    let nonsense = |what: &str| OAuthError::Nonsense(format!("its discovery document {what}"));
    let place = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let url = Url::parse(&place).map_err(|_| nonsense("has no address"))?;
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let answer = web.send(Outgoing { method: Method::GET, url, headers, body: Vec::new() }).await?;
    if answer.status != 200 {
        let why = format!("its discovery document came with status {}", answer.status);
        return Err(OAuthError::Unavailable { why, after: answer.retry_after });
    }
    let document: Document = serde_json::from_slice(&answer.body).map_err(|_| nonsense("cannot be read"))?;
    if document.issuer != *issuer {
        return Err(nonsense("is another issuer's"));
    }
    let mut settled = provider.clone();
    let own = Url::parse(issuer).map_err(|_| nonsense("has no address"))?;
    let checked = |given: Option<String>| match endpoint("endpoint", given) {
        Ok(found) if found.as_ref().is_none_or(|url| is_fit(&own, url)) => Ok(found),
        _ => Err(nonsense("names an unsafe endpoint")),
    };
    let fill = |own: &mut Option<Url>, said: Option<String>| -> Result<(), OAuthError> {
        if own.is_none() {
            *own = checked(said)?;
        }
        Ok(())
    };
    fill(&mut settled.authorize_url, document.authorization_endpoint)?;
    fill(&mut settled.token_url, document.token_endpoint)?;
    fill(&mut settled.userinfo_url, document.userinfo_endpoint)?;
    fill(&mut settled.device_url, document.device_authorization_endpoint)?;
    fill(&mut settled.revoke_url, document.revocation_endpoint)?;
    fill(&mut settled.jwks_url, document.jwks_uri)?;
    if settled.token_url.is_none() {
        return Err(nonsense("names no token endpoint"));
    }
    // PKCE is sent whether the document tells of it or not: who does not know it lets it lie (RFC 6749, 3.1), and a document that
    // lost a line is no way to do without it. Only the operator's row is (`pkce: false`).
    if !settled.client_auth_is_given
        && settled.client_auth == ClientAuth::Body
        && !document.token_endpoint_auth_methods_supported.iter().any(|method| method == "client_secret_post")
    {
        // Absent means Basic (RFC 8414, 2).
        settled.client_auth = ClientAuth::Basic;
    }
    settled.says_issuer |= document.authorization_response_iss_parameter_supported;
    settled.algorithms = document.id_token_signing_alg_values_supported;
    Ok(settled)
}

/// Whether a row says everything itself that tokens are asked and shown for.
pub(super) fn is_enough_for_tokens(provider: &Provider) -> bool {
    let needs_device = provider.account.as_ref().is_some_and(|account| account.flows.contains(&Flow::Device));
    provider.token_url.is_some()
        && provider.authorize_url.is_some()
        && provider.userinfo_url.is_some()
        && provider.client_auth_is_given
        && (provider.device_url.is_some() || !needs_device)
}

/// Whether an issuer may send us there: to its own host, or to one that is not this machine or this network by its very name.
/// The document is what somebody else writes, and what is behind our firewall is not theirs to name (RFC 8414, 6).
/// What a name resolves to is looked at when it is asked ([`Careful`](super::Careful)).
fn is_fit(issuer: &Url, place: &Url) -> bool {
    place.host() == issuer.host() || (!is_inner(place) && place.scheme() == "https")
}
