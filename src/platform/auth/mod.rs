//! How a platform wants to be told who calls: a closed set of schemes. Why code and not data: a signature is exact to the
//! byte, and a header with a secret in it must be marked so that nothing prints it.
//!
//! Some schemes first trade the account's credential for a short-lived token: [`Scheme::exchange`] says how to ask,
//! [`Scheme::read_token`] reads the answer, and whoever calls keeps the token and asks again before it ends.

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use crate::clock::Clock;
use crate::fault::{Fault, Kind};
use crate::secret::Secret;

mod baidu;
mod sign;
mod spark;
mod token;
mod volc;
mod zhipu;

pub use token::{Token, TokenRefused, TokenRequest, TokenScope};

/// What an account proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// One opaque key or token (also Zhipu's `id.secret`, Spark's APIPassword, Baidu's `bce-v3/…`).
    ApiKey(Secret),
    /// An access key and its secret (Baidu AK/SK, Volcengine AK/SK).
    KeyPair { access_key: Secret, secret_key: Secret },
    /// An application with key and secret (Spark's WebSocket).
    App { app_id: String, api_key: Secret, api_secret: Secret },
    /// Nothing: a local server without authentication.
    None,
}

/// A scheme as a row names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemeName {
    Bearer,
    XApiKey,
    XGoogApiKey,
    ZhipuJwt,
    SparkWs,
    BaiduV1Token,
    BaiduIam,
    VolcApiKey,
    Cookie,
    None,
}

/// A scheme, with the URL of its token endpoint where it has one (the row's `token_url`, or the vendor's).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `Authorization: Bearer …`.
    Bearer,
    /// `x-api-key: …` (Claude). OAuth tokens (`sk-ant-oat…`) go as bearer, with the beta flag that they need.
    XApiKey,
    /// `x-goog-api-key: …` (Gemini). OAuth tokens (`ya29.…`) go as bearer.
    XGoogApiKey,
    /// A JWT made from the key `id.secret`, as bearer (Zhipu).
    ZhipuJwt,
    /// A signed URL, and the application's id in the frame (Spark's WebSocket).
    SparkWs,
    /// AK/SK traded for an `access_token` that stands in the query (Baidu V1).
    BaiduV1Token(String),
    /// AK/SK traded for a bearer by a request signed with BCE v1 (Baidu V2). A plain key goes as bearer.
    BaiduIam(String),
    /// AK/SK traded for a key per endpoint by a signed control-plane call (Volcengine). A plain key goes as bearer.
    VolcApiKey(String),
    /// `cookie: name=value; …`: the session of somebody who signed in at the platform's own page. Kept as `name=value;name=value`.
    Cookie,
    /// No authentication.
    None,
}

/// A request on its way out, to be signed in place.
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub method: &'a str,
    /// Base path, encoded path and query. May hold a secret after signing: never to be logged.
    pub path: &'a mut String,
    /// Host, without port where it is the scheme's own.
    pub host: &'a str,
    pub headers: &'a mut HeaderMap,
    pub body: &'a mut Bytes,
}

/// The beta flag that Anthropic's OAuth tokens need.
const ANTHROPIC_OAUTH_BETA: &str = "oauth-2025-04-20";

impl SchemeName {
    /// The scheme, with the row's token endpoint or else the vendor's own.
    pub fn with_token_url(self, token_url: Option<&str>) -> Scheme {
        let url = |vendors: &str| token_url.unwrap_or(vendors).to_owned();
        match self {
            SchemeName::Bearer => Scheme::Bearer,
            SchemeName::XApiKey => Scheme::XApiKey,
            SchemeName::XGoogApiKey => Scheme::XGoogApiKey,
            SchemeName::ZhipuJwt => Scheme::ZhipuJwt,
            SchemeName::SparkWs => Scheme::SparkWs,
            SchemeName::BaiduV1Token => Scheme::BaiduV1Token(url(baidu::V1_TOKEN_URL)),
            SchemeName::BaiduIam => Scheme::BaiduIam(url(baidu::IAM_TOKEN_URL)),
            SchemeName::VolcApiKey => Scheme::VolcApiKey(url(volc::TOKEN_URL)),
            SchemeName::Cookie => Scheme::Cookie,
            SchemeName::None => Scheme::None,
        }
    }
}

impl Scheme {
    /// Whether the scheme can use this kind of credential.
    pub const fn takes(&self, credential: &Credential) -> bool {
        match self {
            Scheme::Bearer | Scheme::XApiKey | Scheme::XGoogApiKey | Scheme::ZhipuJwt | Scheme::Cookie => {
                matches!(credential, Credential::ApiKey(_))
            }
            Scheme::BaiduIam(_) | Scheme::VolcApiKey(_) => {
                matches!(credential, Credential::ApiKey(_) | Credential::KeyPair { .. })
            }
            Scheme::BaiduV1Token(_) => matches!(credential, Credential::KeyPair { .. }),
            Scheme::SparkWs => matches!(credential, Credential::App { .. }),
            Scheme::None => matches!(credential, Credential::None),
        }
    }

    /// What it takes, as the keys of a configuration or of a request.
    pub const fn wants(&self) -> &'static str {
        match self {
            Scheme::Bearer | Scheme::XApiKey | Scheme::XGoogApiKey | Scheme::ZhipuJwt => "`api_key`",
            Scheme::BaiduIam(_) | Scheme::VolcApiKey(_) => "`api_key`, or `access_key` and `secret_key`",
            Scheme::BaiduV1Token(_) => "`access_key` and `secret_key`",
            Scheme::SparkWs => "`app_id`, `api_key` and `api_secret`",
            Scheme::Cookie => "cookies as `api_key`, like `name=value;name=value`",
            Scheme::None => "no key",
        }
    }

    /// What a token of this scheme is good for; `None` where the scheme uses the credential as it is.
    pub fn token_scope(&self, credential: &Credential) -> Option<TokenScope> {
        match (self, credential) {
            (Scheme::BaiduV1Token(_) | Scheme::BaiduIam(_), Credential::KeyPair { .. }) => {
                Some(TokenScope::Account)
            }
            (Scheme::VolcApiKey(_), Credential::KeyPair { .. }) => Some(TokenScope::Model),
            _ => None,
        }
    }

    /// How to trade `credential` for a token; `None` where the scheme uses the credential as it is. For schemes whose
    /// tokens are good for one model only ([`TokenScope::Model`]) use [`Scheme::exchange_for`].
    pub fn exchange(&self, credential: &Credential, clock: &Clock) -> Option<TokenRequest> {
        self.exchange_for(credential, "", clock)
    }

    /// As [`Scheme::exchange`], for `model` by the platform's own name.
    pub fn exchange_for(&self, credential: &Credential, model: &str, clock: &Clock) -> Option<TokenRequest> {
        let Credential::KeyPair { access_key, secret_key } = credential else {
            return None;
        };
        match self {
            Scheme::BaiduV1Token(url) => Some(baidu::v1_token_request(url, access_key, secret_key)),
            Scheme::BaiduIam(url) => baidu::iam_token_request(url, access_key, secret_key, clock),
            Scheme::VolcApiKey(url) if !model.is_empty() => {
                volc::token_request(url, access_key, secret_key, model, clock)
            }
            _ => None,
        }
    }

    /// Reads the answer to an exchange. What the body says decides, not the status: Baidu reports errors with 200.
    ///
    /// # Errors
    /// [`TokenRefused`], which says whether the credential is to blame.
    pub fn read_token(&self, status: u16, body: &[u8], clock: &Clock) -> Result<Token, TokenRefused> {
        match self {
            Scheme::BaiduV1Token(_) => baidu::read_v1_token(status, body, clock),
            Scheme::BaiduIam(_) => baidu::read_iam_token(status, body),
            Scheme::VolcApiKey(_) => volc::read_token(status, body, clock),
            _ => Err(TokenRefused::transient("this scheme has no tokens".to_owned())),
        }
    }

    /// Puts the account's proof on a request. `token` is the one from the exchange, where the scheme has one; for the
    /// others it may be an OAuth access token to be used in place of the credential.
    ///
    /// # Errors
    /// A fault of ours where the credential is not of the kind that the scheme needs, or cannot stand in a header.
    pub fn apply(
        &self,
        credential: &Credential,
        token: Option<&Token>,
        request: &mut Outgoing<'_>,
        clock: &Clock,
    ) -> Result<(), Fault> {
        match (self, credential, token) {
            (Scheme::None, ..) => Ok(()),
            (Scheme::SparkWs, Credential::App { app_id, api_key, api_secret }, _) => {
                spark::sign(app_id, api_key, api_secret, request, clock)
            }
            (Scheme::BaiduV1Token(_), _, Some(token)) => {
                baidu::add_access_token(request, &token.secret);
                Ok(())
            }
            (Scheme::BaiduV1Token(_), Credential::ApiKey(key), None) => {
                baidu::add_access_token(request, key);
                Ok(())
            }
            (Scheme::Cookie, Credential::ApiKey(cookies), _) => {
                // As RFC 6265 has them on the wire.
                insert(request, COOKIE, &Secret::new(cookies.expose().replace(';', "; ")))
            }
            (Scheme::ZhipuJwt, Credential::ApiKey(key), _) => bearer(request, &zhipu::jwt(key, clock)?),
            (Scheme::XApiKey, _, Some(token)) => anthropic_oauth(request, &token.secret),
            (Scheme::XApiKey, Credential::ApiKey(key), None) if key.expose().starts_with("sk-ant-oat") => {
                anthropic_oauth(request, key)
            }
            (Scheme::XApiKey, Credential::ApiKey(key), None) => secret_header(request, "x-api-key", key),
            (Scheme::XGoogApiKey, _, Some(Token { secret, .. })) => bearer(request, secret),
            (Scheme::XGoogApiKey, Credential::ApiKey(key), None) if key.expose().starts_with("ya29.") => {
                bearer(request, key)
            }
            (Scheme::XGoogApiKey, Credential::ApiKey(key), None) => {
                secret_header(request, "x-goog-api-key", key)
            }
            (Scheme::Bearer | Scheme::BaiduIam(_) | Scheme::VolcApiKey(_), _, Some(token)) => {
                bearer(request, &token.secret)
            }
            (Scheme::Bearer | Scheme::BaiduIam(_) | Scheme::VolcApiKey(_), Credential::ApiKey(key), None) => {
                bearer(request, key)
            }
            _ => Err(unusable("the credential is not of the kind that the platform's scheme needs")),
        }
    }
}

/// A credential that cannot be used: the operator's matter, not the caller's.
fn unusable(why: &'static str) -> Fault {
    Fault::gateway(Kind::UpstreamAuth, "The account's credential cannot be used with this platform.")
        .source(why)
}

fn bearer(request: &mut Outgoing<'_>, secret: &Secret) -> Result<(), Fault> {
    let value = Secret::new(format!("Bearer {}", secret.expose()));
    insert(request, AUTHORIZATION, &value)
}

fn secret_header(request: &mut Outgoing<'_>, name: &'static str, secret: &Secret) -> Result<(), Fault> {
    insert(request, HeaderName::from_static(name), secret)
}

fn insert(request: &mut Outgoing<'_>, name: HeaderName, secret: &Secret) -> Result<(), Fault> {
    let mut value = HeaderValue::from_str(secret.expose())
        .map_err(|_| unusable("the credential holds characters that cannot stand in a header"))?;
    value.set_sensitive(true);
    request.headers.insert(name, value);
    Ok(())
}

/// An OAuth token goes as bearer, never beside a key, and with its beta flag.
fn anthropic_oauth(request: &mut Outgoing<'_>, secret: &Secret) -> Result<(), Fault> {
    let name = HeaderName::from_static("anthropic-beta");
    let flags = request.headers.get(&name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !flags.split(',').any(|flag| flag.trim() == ANTHROPIC_OAUTH_BETA) {
        let flags = if flags.is_empty() {
            ANTHROPIC_OAUTH_BETA.to_owned()
        } else {
            format!("{flags},{ANTHROPIC_OAUTH_BETA}")
        };
        let flags =
            HeaderValue::from_str(&flags).map_err(|_| unusable("the beta flags cannot stand in a header"))?;
        request.headers.insert(name, flags);
    }
    bearer(request, secret)
}

#[cfg(test)]
mod tests;
