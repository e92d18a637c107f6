//! The flows, one method for each step. The `oauth2` crate builds the standard's requests and reads the standard's answers; between it
//! and the socket [`wire`](super::wire) translates for the provider. A code or a refresh token is sent once: whoever gets no
//! answer decides what that means.

mod standard;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, ClientId, CsrfToken, DeviceAuthorizationUrl,
    EmptyExtraDeviceAuthorizationFields, HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RefreshToken, Scope, StandardDeviceAuthorizationResponse,
};
use serde_json::{Value, json};
use url::Url;

use super::error::{OAuthError, Refusal};
use super::grant::Grant;
use super::row::{Client, Provider, Quirk, Separator};
use super::web::{Outgoing, Web};
use super::wire;
use crate::secret::Secret;
pub(super) use standard::refusal_of;
use standard::{Answered, Standard, at, error_of, grant, granted, in_its_words, no_token, standard};

/// Between two questions about a device code where the provider names no time (RFC 8628).
const INTERVAL: Duration = Duration::from_secs(5);

/// Where a person is sent, and what must be kept until they come back.
#[derive(Clone, Debug)]
pub struct Authorization {
    pub url: Url,
    /// PKCE: for the exchange of the code and for nobody's eyes.
    pub verifier: Option<Secret>,
}

/// What a person types in elsewhere.
#[derive(Clone, Debug)]
pub struct DeviceCode {
    pub device_code: Secret,
    pub user_code: String,
    pub verification_uri: String,
    /// The same with the code in it.
    pub complete: Option<String>,
    pub lifetime: Duration,
    pub interval: Duration,
    pub verifier: Option<Secret>,
}

/// What a question about a device code brought.
#[derive(Clone, Debug)]
pub enum Polled {
    /// Not yet. Not to be asked again before so long.
    Pending(Duration),
    Granted(Box<Grant>),
}

/// What the crate sends its requests by.
struct Carrier<'a> {
    engine: &'a Engine,
    provider: &'a Provider,
    client: &'a Client,
}

impl<'c> AsyncHttpClient<'c> for Carrier<'_> {
    type Error = OAuthError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, OAuthError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.engine.carry(self.provider, self.client, request))
    }
}

/// Talks to providers.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) web: Arc<dyn Web>,
}

impl Engine {
    /// Over this web, which must not follow redirects.
    pub fn new(web: Arc<dyn Web>) -> Self {
        Self { web }
    }

    /// As [`Engine::settled`], for tokens alone: whoever needs no ID token need not ask for the keys of them, and a document that
    /// cannot be had is no reason not to renew a token.
    ///
    /// # Errors
    /// As there.
    pub async fn settled_for_tokens(&self, provider: &Provider) -> Result<Provider, OAuthError> {
        match super::discovery::is_enough_for_tokens(provider) {
            true => Ok(provider.clone()),
            false => self.settled(provider).await,
        }
    }

    /// The provider with what its issuer says of itself, where its row leaves that open.
    ///
    /// # Errors
    /// The issuer's discovery document cannot be had or makes no sense.
    pub async fn settled(&self, provider: &Provider) -> Result<Provider, OAuthError> {
        super::discovery::settle(&*self.web, provider).await
    }

    /// Where to send a person who is to agree. `extra` are further parameters (`nonce`).
    ///
    /// # Errors
    /// The provider has no such page, or `redirect_uri` is none.
    pub fn authorize(
        &self,
        provider: &Provider,
        client: &Client,
        redirect_uri: &str,
        state: &Secret,
        extra: &[(&str, &str)],
    ) -> Result<Authorization, OAuthError> {
        let page = provider.authorize_url.clone().ok_or(OAuthError::NotOffered("page to authorize at"))?;
        let redirect = RedirectUrl::new(redirect_uri.to_owned())
            .map_err(|_| OAuthError::Nonsense("our redirect URI is not a URL".to_owned()))?;
        let standard =
            Standard::new(ClientId::new(client.id.clone())).set_auth_uri(AuthUrl::from_url(page.clone()));
        let standard = standard.set_redirect_uri(redirect);
        let state = CsrfToken::new(state.expose().to_owned());
        let mut request = standard.authorize_url(|| state);
        for scope in &provider.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        for (name, value) in provider.authorize.iter().map(|(name, value)| (name.as_str(), value.as_str())) {
            request = request.add_extra_param(name, value);
        }
        for (name, value) in extra {
            request = request.add_extra_param(*name, *value);
        }
        let mut verifier = None;
        if provider.pkce {
            let (challenge, kept) = PkceCodeChallenge::new_random_sha256();
            request = request.set_pkce_challenge(challenge);
            verifier = Some(Secret::new(kept.secret().as_str()));
        }
        let (url, _) = request.url();
        Ok(Authorization { url: in_its_words(provider, &page, &url), verifier })
    }

    /// Trades a code for tokens. Sent once, whatever happens.
    ///
    /// # Errors
    /// See [`OAuthError`].
    pub async fn exchange(
        &self,
        provider: &Provider,
        client: &Client,
        redirect_uri: &str,
        code: &Secret,
        verifier: Option<&Secret>,
    ) -> Result<Grant, OAuthError> {
        let redirect = RedirectUrl::new(redirect_uri.to_owned())
            .map_err(|_| OAuthError::Nonsense("our redirect URI is not a URL".to_owned()))?;
        let standard = standard(provider, client)?.set_redirect_uri(redirect);
        let mut request = standard.exchange_code(AuthorizationCode::new(code.expose().to_owned()));
        if let Some(verifier) = verifier {
            request = request.set_pkce_verifier(PkceCodeVerifier::new(verifier.expose().to_owned()));
        }
        let answered = request.request_async(&Carrier { engine: self, provider, client }).await;
        grant(provider, answered)
    }

    /// Trades a refresh token for new tokens.
    ///
    /// # Errors
    /// See [`OAuthError`].
    pub async fn refresh(
        &self,
        provider: &Provider,
        client: &Client,
        token: &Secret,
    ) -> Result<Grant, OAuthError> {
        let url = provider.refresh_url.clone().or_else(|| provider.token_url.clone());
        let standard = at(url, client)?;
        let token = RefreshToken::new(token.expose().to_owned());
        let answered = standard
            .exchange_refresh_token(&token)
            .request_async(&Carrier { engine: self, provider, client })
            .await;
        match grant(provider, answered) {
            // What a provider cannot say straight is no reason to throw a token away.
            Err(OAuthError::Refused { refusal: Refusal::Other, said })
                if provider.has(Quirk::UnsteadyRefresh) =>
            {
                Err(OAuthError::Nonsense(said))
            }
            other => other,
        }
    }

    /// Tokens for ourselves, with nobody's consent.
    ///
    /// # Errors
    /// See [`OAuthError`].
    pub async fn client_credentials(
        &self,
        provider: &Provider,
        client: &Client,
    ) -> Result<Grant, OAuthError> {
        let standard = standard(provider, client)?;
        let scopes = provider.scopes.iter().map(|scope| Scope::new(scope.clone()));
        let answered = standard
            .exchange_client_credentials()
            .add_scopes(scopes)
            .request_async(&Carrier { engine: self, provider, client })
            .await;
        grant(provider, answered)
    }

    /// Trades a token of somebody else's for one of the provider's (RFC 8693).
    ///
    /// # Errors
    /// See [`OAuthError`].
    pub async fn token_exchange(
        &self,
        provider: &Provider,
        client: &Client,
        subject_token: &Secret,
        subject_token_type: &str,
    ) -> Result<Grant, OAuthError> {
        let given = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", subject_token.expose()),
            ("subject_token_type", subject_token_type),
        ];
        self.ask(provider, client, &given).await
    }

    /// Begins a flow for a device without a browser.
    ///
    /// # Errors
    /// See [`OAuthError`].
    pub async fn device_code(&self, provider: &Provider, client: &Client) -> Result<DeviceCode, OAuthError> {
        let url = provider.device_url.clone().ok_or(OAuthError::NotOffered("device flow"))?;
        let standard = Standard::new(ClientId::new(client.id.clone()))
            .set_auth_type(AuthType::RequestBody)
            .set_device_authorization_url(DeviceAuthorizationUrl::from_url(url));
        let scopes = provider.scopes.iter().map(|scope| Scope::new(scope.clone()));
        let mut request = standard.exchange_device_code().add_scopes(scopes);
        let mut verifier = None;
        if provider.has(Quirk::DevicePkce) {
            let (challenge, kept) = PkceCodeChallenge::new_random_sha256();
            let text = challenge.as_str().to_owned();
            request = request
                .add_extra_param("code_challenge", text)
                .add_extra_param("code_challenge_method", "S256");
            verifier = Some(Secret::new(kept.secret().as_str()));
        }
        let answered: Result<StandardDeviceAuthorizationResponse, _> =
            request.request_async(&Carrier { engine: self, provider, client }).await;
        let details = answered.map_err(error_of)?;
        let _: &EmptyExtraDeviceAuthorizationFields = details.extra_fields();
        Ok(DeviceCode {
            device_code: Secret::new(details.device_code().secret().as_str()),
            user_code: wire::printable(details.user_code().secret()),
            verification_uri: details.verification_uri().to_string(),
            complete: details.verification_uri_complete().map(|uri| uri.secret().clone()),
            lifetime: details.expires_in(),
            interval: details.interval().max(Duration::from_secs(1)),
            verifier,
        })
    }

    /// Asks once whether the person has finished. After so long an interval as was said last.
    ///
    /// # Errors
    /// The person refused, or was too late; see [`OAuthError`].
    pub async fn poll(
        &self,
        provider: &Provider,
        client: &Client,
        code: &Secret,
        verifier: Option<&Secret>,
        interval: Duration,
    ) -> Result<Polled, OAuthError> {
        let mut given = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", code.expose()),
        ];
        given.extend(verifier.map(|verifier| ("code_verifier", verifier.expose())));
        match self.ask(provider, client, &given).await {
            Ok(grant) => Ok(Polled::Granted(Box::new(grant))),
            Err(OAuthError::Refused { refusal: Refusal::Pending, .. }) => Ok(Polled::Pending(interval)),
            Err(OAuthError::Refused { refusal: Refusal::SlowDown, .. }) => {
                Ok(Polled::Pending(interval + INTERVAL))
            }
            // A pause that grows, as for any server in trouble.
            Err(error) if error.is_transient() => {
                let asked_for = match error {
                    OAuthError::Unavailable { after, .. } => after.unwrap_or_default(),
                    _ => Duration::ZERO,
                };
                Ok(Polled::Pending((interval * 2).max(asked_for).min(Duration::from_secs(60))))
            }
            Err(error) => Err(error),
        }
    }

    /// Has a token forgotten. Ok also where it was unknown.
    ///
    /// # Errors
    /// [`OAuthError::NotOffered`], or it is still alive.
    pub async fn revoke(
        &self,
        provider: &Provider,
        client: &Client,
        token: &Secret,
        hint: &str,
    ) -> Result<(), OAuthError> {
        let url = provider.revoke_url.clone().ok_or(OAuthError::NotOffered("way to revoke a token"))?;
        let outgoing = if provider.has(Quirk::GithubRevoke) {
            let secret = client.secret.as_ref().map_or("", Secret::expose);
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, wire::basic(&client.id, secret));
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let path = url.path().replace("%7Bclient_id%7D", &client.id);
            let mut url = url;
            url.set_path(&path);
            let body = json!({"access_token": token.expose()}).to_string().into_bytes();
            Outgoing { method: Method::DELETE, url, headers, body }
        } else {
            let given = [
                ("token".to_owned(), token.expose().to_owned()),
                ("token_type_hint".to_owned(), hint.to_owned()),
            ];
            wire::outgoing(provider, client, &url, &given)
        };
        let answer = self.web.send(outgoing).await?;
        match answer.status {
            200..300 | 404 | 422 => Ok(()),
            503 | 500.. | 429 => Err(OAuthError::Unavailable {
                why: format!("it answered with status {}", answer.status),
                after: answer.retry_after,
            }),
            // 400 `invalid_token`: it is gone already.
            _ => match wire::normalised(provider, &answer)? {
                (false, body) if body.get("error").and_then(Value::as_str) == Some("invalid_token") => Ok(()),
                (_, body) => Err(refusal_of(&body)),
            },
        }
    }

    /// A request to the token endpoint that the crate has no words for.
    async fn ask(
        &self,
        provider: &Provider,
        client: &Client,
        given: &[(&str, &str)],
    ) -> Result<Grant, OAuthError> {
        let url = provider.token_url.clone().ok_or(OAuthError::NotOffered("token endpoint"))?;
        let given: Vec<_> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let answer = self.web.send(wire::outgoing(provider, client, &url, &given)).await?;
        match wire::normalised(provider, &answer)? {
            (false, body) => Err(refusal_of(&body)),
            (true, body) => {
                let answered: Result<Answered, _> = serde_json::from_value(Value::from(body));
                granted(provider, &answered.map_err(|_| no_token())?)
            }
        }
    }

    /// Carries one of the crate's requests to the provider in its own words, and the answer back in the crate's.
    async fn carry(
        &self,
        provider: &Provider,
        client: &Client,
        request: HttpRequest,
    ) -> Result<HttpResponse, OAuthError> {
        let url = Url::parse(&request.uri().to_string())
            .map_err(|_| OAuthError::Nonsense("its endpoint is not a URL".to_owned()))?;
        let given = url::form_urlencoded::parse(request.body());
        let given: Vec<_> = given
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .filter(|(name, _)| name != "client_id" && name != "client_secret")
            .map(|(name, value)| match provider.scope_separator {
                Separator::Comma if name == "scope" => (name, value.replace(' ', ",")),
                _ => (name, value),
            })
            .collect();
        let answer = self.web.send(wire::outgoing(provider, client, &url, &given)).await?;
        let (is_success, body) = wire::normalised(provider, &answer)?;
        let response = http::Response::builder()
            .status(if is_success { 200 } else { 400 })
            .header(CONTENT_TYPE, "application/json")
            .body(Value::from(body).to_string().into_bytes());
        response.map_err(|_| OAuthError::Nonsense("it cannot be read".to_owned()))
    }
}
