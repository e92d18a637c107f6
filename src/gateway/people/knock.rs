//! Who it is that a provider sends back: its userinfo, and its ID token, which must be for this very sign-in. What issuers say
//! of themselves is asked once in a while and not for every visitor ([`Hearsay`](crate::oauth::Hearsay)).

use std::sync::Arc;

use jsonwebtoken::Algorithm;

use super::{People, PeopleError};
use crate::fault::Kind;
use crate::identity::{IdTokens, Sought};
use crate::oauth::{Client, Grant, OAuthError, Person, Provider, Quirk};
use crate::secret::Secret;

/// A provider, ready for a sign-in.
#[derive(Debug)]
pub(super) struct Known {
    pub provider: Provider,
    pub client: Client,
    /// Who verifies its ID tokens; more than one where it goes by more than one name; none where it gives none.
    tokens: Vec<IdTokens>,
}

impl People {
    /// The provider with its endpoints, who we are to it, and who verifies its tokens.
    pub(super) async fn known(&self, provider: &Arc<Provider>) -> Result<Arc<Known>, PeopleError> {
        let client = provider.client.clone().ok_or(PeopleError::NoSuchDoor)?;
        Ok(self.known.of(provider, self.ask(provider, client)).await?)
    }

    async fn ask(&self, provider: &Provider, client: Client) -> Result<Known, OAuthError> {
        let settled = self.engine.settled(provider).await?;
        let tokens = match settled.gives_id_tokens() {
            true => self.verifiers(&settled, &client)?,
            false => Vec::new(),
        };
        Ok(Known { provider: settled, client, tokens })
    }

    fn verifiers(&self, provider: &Provider, client: &Client) -> Result<Vec<IdTokens>, OAuthError> {
        let keys = provider.jwks_url.clone().ok_or(OAuthError::NotOffered("keys for its ID tokens"))?;
        let algorithms: Vec<Algorithm> =
            provider.algorithms.iter().filter_map(|name| name.parse().ok()).collect();
        let issuer = provider.issuer.as_deref().unwrap_or_default();
        let bare = issuer.strip_prefix("https://").filter(|_| provider.has(Quirk::BareIssuer));
        let nowhere = || OAuthError::Nonsense("its keys are nowhere".to_owned());
        let way = self.web.way_to(&keys).ok_or_else(nowhere)?;
        let of = |issuer: &str| {
            let (keys, clock) = (keys.clone(), self.clock.clone());
            let made = IdTokens::new(issuer, &client.id, keys, &algorithms, clock, way);
            made.map_err(|_| nowhere())
        };
        let mut all = vec![of(issuer)?];
        all.extend(bare.map(of).transpose()?);
        Ok(all)
    }

    /// Trades a code and asks who that is.
    pub(super) async fn who(
        &self,
        known: &Known,
        redirect_uri: &str,
        code: &Secret,
        verifier: Option<&Secret>,
        nonce: Option<&Secret>,
    ) -> Result<Person, PeopleError> {
        let Known { provider, client, .. } = known;
        let grant = self.engine.exchange(provider, client, redirect_uri, code, verifier).await?;
        let id = match known.tokens.is_empty() {
            true => None,
            false => Some(known.claims(&grant, nonce).await?),
        };
        Ok(self.engine.who(provider, client, &grant, id.as_ref()).await?)
    }
}

impl Known {
    /// What the ID token says.
    async fn claims(&self, grant: &Grant, nonce: Option<&Secret>) -> Result<serde_json::Value, OAuthError> {
        let nonsense = |what: &str| OAuthError::Nonsense(what.to_owned());
        let token = grant.id_token.as_ref().ok_or_else(|| nonsense("there is no ID token in it"))?;
        let mut wrong = nonsense("its ID token is not for this sign-in");
        for tokens in &self.tokens {
            match tokens.claims(token, Sought { nonce, access: &grant.access }).await {
                Ok(claims) => return Ok(claims),
                Err(fault) if fault.kind() == Kind::Unauthenticated => {}
                Err(_) => {
                    let why = "its keys could not be had".to_owned();
                    wrong = OAuthError::Unavailable { why, after: None };
                }
            }
        }
        Err(wrong)
    }
}
