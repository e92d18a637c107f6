//! The standard in the `oauth2` crate's types, and what its answers come to in ours. Why apart from the flows: which of the crate's many
//! types are meant is said once, and each answer is read in one way, whichever flow asked.

use std::collections::BTreeMap;

use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AuthType, ClientId, ExtraTokenFields, RequestTokenError, StandardRevocableToken, StandardTokenResponse,
    TokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use super::super::error::{OAuthError, Refusal};
use super::super::grant::Grant;
use super::super::row::{Client, Provider, Separator};
use super::super::wire;
use crate::secret::Secret;

/// Members of a token's answer that the standard names: what is carried is something else.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Extra {
    #[serde(flatten)]
    pub(super) all: BTreeMap<String, Value>,
}

impl ExtraTokenFields for Extra {}

pub(super) type Answered = StandardTokenResponse<Extra, BasicTokenType>;

pub(super) type Standard = oauth2::Client<
    BasicErrorResponse,
    Answered,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
>;

pub(super) type Ready = oauth2::Client<
    BasicErrorResponse,
    Answered,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointSet,
>;

/// The crate's client. It does not know our secret: how that is shown is the provider's affair.
pub(super) fn standard(provider: &Provider, client: &Client) -> Result<Ready, OAuthError> {
    at(provider.token_url.clone(), client)
}

pub(super) fn at(url: Option<Url>, client: &Client) -> Result<Ready, OAuthError> {
    let url = url.ok_or(OAuthError::NotOffered("token endpoint"))?;
    Ok(Standard::new(ClientId::new(client.id.clone()))
        .set_auth_type(AuthType::RequestBody)
        .set_token_uri(TokenUrl::from_url(url)))
}

pub(super) fn no_token() -> OAuthError {
    OAuthError::Nonsense("there is no token in it".to_owned())
}

pub(super) fn grant(
    provider: &Provider,
    answered: Result<Answered, RequestTokenError<OAuthError, BasicErrorResponse>>,
) -> Result<Grant, OAuthError> {
    granted(provider, &answered.map_err(error_of)?)
}

/// Never with the answer's text: a token may stand in it.
pub(super) fn error_of(error: RequestTokenError<OAuthError, BasicErrorResponse>) -> OAuthError {
    match error {
        RequestTokenError::Request(error) => error,
        RequestTokenError::ServerResponse(response) => {
            let name = response.error().as_ref();
            let said = response.error_description().map_or("", String::as_str);
            let said = wire::printable(&format!("{name} {said}"));
            OAuthError::Refused { refusal: Refusal::of_name(name), said: said.trim().to_owned() }
        }
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => no_token(),
    }
}

pub(in crate::oauth) fn refusal_of(body: &Map<String, Value>) -> OAuthError {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let said = wire::printable(&format!("{} {}", text("error"), text("error_description")));
    OAuthError::Refused { refusal: Refusal::of_name(text("error")), said: said.trim().to_owned() }
}

pub(super) fn granted(provider: &Provider, answered: &Answered) -> Result<Grant, OAuthError> {
    if !wire::is_token(answered.access_token().secret()) {
        return Err(no_token());
    }
    // Of another kind it would be sent as what it is not (RFC 6749, 7.1).
    if *answered.token_type() != BasicTokenType::Bearer {
        return Err(OAuthError::Nonsense("its token is none that can be sent as it is (bearer)".to_owned()));
    }
    let extra = &answered.extra_fields().all;
    let text = |name: &str| match extra.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let carried = provider.carry.iter().filter_map(|name| Some((name.clone(), text(name)?)));
    let carried = carried.filter_map(|(name, value)| match name.as_str() {
        "resource_url" => Some((name, provider.resource(&value)?)),
        _ => Some((name, value)),
    });
    Ok(Grant {
        access: Secret::new(answered.access_token().secret().as_str()),
        refresh: answered.refresh_token().map(|token| Secret::new(token.secret().as_str())),
        lifetime: answered.expires_in().or(provider.default_lifetime),
        scopes: answered.scopes().into_iter().flatten().map(|scope| scope.to_string()).collect(),
        id_token: text("id_token").map(Secret::new),
        carried: carried.collect(),
    })
}

/// The authorize URL with the provider's names for things, in the order in which its own pages have them.
pub(super) fn in_its_words(provider: &Provider, page: &Url, standard: &Url) -> Url {
    let own = page.query_pairs().count();
    let mut pairs: Vec<(String, String)> = standard
        .query_pairs()
        .skip(own)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let order = ["client_id", "redirect_uri", "response_type", "scope", "state"];
    pairs.sort_by_key(|(name, _)| order.iter().position(|known| known == name).unwrap_or(order.len()));
    let mut url = page.clone();
    for (name, value) in &pairs {
        let value = match provider.scope_separator {
            Separator::Comma if name == "scope" => value.replace(' ', ","),
            _ => value.clone(),
        };
        url.query_pairs_mut().append_pair(provider.names.get(name).unwrap_or(name), &value);
    }
    if let Some(fragment) = provider.authorize_suffix.strip_prefix('#') {
        url.set_fragment(Some(fragment));
    }
    url
}
