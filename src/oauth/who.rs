//! Who agreed, as the provider tells it: its userinfo, and its list of addresses where userinfo has none.

use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value};
use url::Url;

use super::engine::{Engine, refusal_of};
use super::error::{OAuthError, Refusal};
use super::grant::Grant;
use super::person::Person;
use super::row::{Client, Provider, UserinfoAuth};
use super::web::Outgoing;
use super::wire;
use crate::secret::Secret;

impl Engine {
    /// Who agreed. `id`: what a verified ID token says, where there is one. It counts: userinfo that is about somebody else is
    /// thrown away (OpenID Connect Core, 5.3.2), and where there is no userinfo the token is all that is known.
    ///
    /// # Errors
    /// See [`OAuthError`].
    pub async fn who(
        &self,
        provider: &Provider,
        client: &Client,
        grant: &Grant,
        id: Option<&Value>,
    ) -> Result<Person, OAuthError> {
        let told = match (&provider.userinfo_url, id) {
            (None, Some(id)) => id.clone(),
            _ => self.userinfo(provider, client, grant).await?,
        };
        if id.is_some_and(|id| id.get("sub") != told.get("sub")) {
            return Err(OAuthError::Nonsense("userinfo is about somebody else".to_owned()));
        }
        let mut carried = grant.carried.clone();
        carried.insert("client_id".to_owned(), client.id.clone());
        let mut person = Person::read(&provider.person, &told, &carried)?;
        if let (None, Some(url)) = (&person.email, provider.emails_url.clone()) {
            (person.email, person.email_is_verified) =
                self.main_email(provider, url, grant).await.unwrap_or((None, false));
        }
        Ok(person)
    }

    /// What the provider says of whoever agreed, as it says it.
    ///
    /// # Errors
    /// See [`OAuthError`].
    pub async fn userinfo(
        &self,
        provider: &Provider,
        client: &Client,
        grant: &Grant,
    ) -> Result<Value, OAuthError> {
        let mut url = provider.userinfo_url.clone().ok_or(OAuthError::NotOffered("userinfo"))?;
        for (name, value) in &provider.userinfo_query {
            let value = match value.strip_prefix('$') {
                Some("client_id") => client.id.as_str(),
                Some(carried) => grant.carried.get(carried).map_or("", String::as_str),
                None => value,
            };
            url.query_pairs_mut().append_pair(name, value);
        }
        let answer = self.look(provider, url, grant).await?;
        Ok(Value::from(answer))
    }

    async fn look(
        &self,
        provider: &Provider,
        mut url: Url,
        grant: &Grant,
    ) -> Result<Map<String, Value>, OAuthError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in &provider.headers {
            headers.insert(name.clone(), value.clone());
        }
        match provider.userinfo_auth {
            UserinfoAuth::Bearer => {
                headers.insert(AUTHORIZATION, bearer(&grant.access)?);
            }
            UserinfoAuth::Query => {
                url.query_pairs_mut().append_pair("access_token", grant.access.expose());
            }
        }
        let answer = self.web.send(Outgoing { method: Method::GET, url, headers, body: Vec::new() }).await?;
        if answer.status == 401 {
            let said = "the token is not accepted (status 401)".to_owned();
            return Err(OAuthError::Refused { refusal: Refusal::InvalidGrant, said });
        }
        match wire::normalised(provider, &answer)? {
            (true, body) => Ok(body),
            (false, body) => Err(match refusal_of(&body) {
                // No client is shown here: what is not accepted is the token.
                OAuthError::Refused { refusal: Refusal::InvalidClient, said } => {
                    OAuthError::Refused { refusal: Refusal::InvalidGrant, said }
                }
                other => other,
            }),
        }
    }

    /// The first address that the provider says is the person's main one, else the first that is verified.
    async fn main_email(
        &self,
        provider: &Provider,
        url: Url,
        grant: &Grant,
    ) -> Option<(Option<String>, bool)> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, bearer(&grant.access).ok()?);
        for (name, value) in &provider.headers {
            headers.insert(name.clone(), value.clone());
        }
        let answer =
            self.web.send(Outgoing { method: Method::GET, url, headers, body: Vec::new() }).await.ok()?;
        let list: Vec<Value> = serde_json::from_slice(&answer.body).ok()?;
        let is = |one: &Value, name: &str| one.get(name).and_then(Value::as_bool) == Some(true);
        let verified = || list.iter().filter(|one| is(one, "verified"));
        let best = verified().find(|one| is(one, "primary")).or_else(|| verified().next())?;
        Some((best.get("email").and_then(Value::as_str).map(wire::printable), true))
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, OAuthError> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
    let mut value =
        value.map_err(|_| OAuthError::Nonsense("its token does not fit into a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
