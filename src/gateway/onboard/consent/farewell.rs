//! An account that is removed: its consent is given back to the provider, as far as that can be done in a few seconds. Why before
//! the account is forgotten: afterwards nobody would have the token to do it with.

use std::time::Duration;

use super::Consents;
use crate::gateway::onboard::kit::Tokens;
use crate::gateway::onboard::record::Held;
use crate::gateway::onboard::{AccountRecord, Consent, Onboard, OnboardError};
use crate::gateway::reach::Reach;
use crate::oauth::{Client, Engine, OAuthError, Provider, Quirk};

/// For everything that is said to the provider.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of the consent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Farewell {
    /// There was none: the account has a key.
    None,
    Revoked,
    /// It lives on, and why.
    Kept(String),
}

impl Consents {
    /// Forgets an account, and has its tokens forgotten where they came from. Whether they were; `None`: there were none.
    ///
    /// # Errors
    /// As [`Onboard::remove`](crate::gateway::onboard::Onboard::remove). That a token could not be revoked is none: it is
    /// told in the audit log.
    pub async fn remove(
        &self,
        who: &str,
        reach: &Reach,
        id: &str,
    ) -> Result<(AccountRecord, Option<bool>), OnboardError> {
        let held = self.onboard.find(reach, id).await?;
        let farewell = match tokio::time::timeout(PATIENCE, self.revoke(&held)).await {
            Ok(farewell) => farewell,
            Err(_) => Farewell::Kept("the provider did not answer in time".to_owned()),
        };
        let (said, is_revoked) = match &farewell {
            Farewell::None => (String::new(), None),
            Farewell::Revoked => ("; its token was revoked".to_owned(), Some(true)),
            Farewell::Kept(why) => (format!("; its token was not revoked: {why}"), Some(false)),
        };
        let record = self.onboard.remove(who, reach, id, &said).await?;
        Ok((record, is_revoked))
    }

    async fn revoke(&self, held: &Held) -> Farewell {
        let (Some(tokens), Some(consent)) = (&held.kit.tokens, &held.record.consent) else {
            return Farewell::None;
        };
        if self.onboard.shares_consent(&held.record.id, &consent.provider, consent.subject.as_deref()) {
            return Farewell::Kept("another account lives on the same consent".to_owned());
        }
        let ground = self.onboard.ground();
        let Some(provider) = ground.oauth.provider(&consent.provider) else {
            return Farewell::Kept("the provider is no longer configured".to_owned());
        };
        let (provider, client) = match self.settled(provider).await {
            Ok(settled) => settled,
            Err(error) => return Farewell::Kept(error.to_string()),
        };
        match forget(&self.engine, &provider, &client, tokens).await {
            Ok(()) => Farewell::Revoked,
            Err(OAuthError::NotOffered(_)) => Farewell::Kept("the provider has no way to".to_owned()),
            Err(error) => Farewell::Kept(error.to_string()),
        }
    }

    /// Has tokens forgotten that came for nobody, as far as that can be done in a few seconds.
    pub(super) async fn forget(&self, provider: &Provider, client: &Client, tokens: &Tokens) {
        match tokio::time::timeout(PATIENCE, forget(&self.engine, provider, client, tokens)).await {
            Ok(Ok(()) | Err(OAuthError::NotOffered(_))) => {}
            Ok(Err(error)) => tracing::info!(%error, "a token outlives its sign-in"),
            Err(_) => tracing::info!("a token outlives its sign-in: the provider did not answer in time"),
        }
    }
}

/// Has tokens forgotten where they came from.
pub(in crate::gateway::onboard) async fn forget(
    engine: &Engine,
    provider: &Provider,
    client: &Client,
    tokens: &Tokens,
) -> Result<(), OAuthError> {
    // Its row may leave that to what its issuer says.
    let settled = match provider.revoke_url {
        Some(_) => provider.clone(),
        None => engine.settled(provider).await?,
    };
    let provider = &settled;
    let wants_access = provider.has(Quirk::GithubRevoke) || tokens.refresh.is_none();
    let first = tokens.refresh.as_ref().filter(|_| !wants_access).map(|token| (token, "refresh_token"));
    let (token, hint) = first.unwrap_or((&tokens.access, "access_token"));
    engine.revoke(provider, client, token, hint).await?;
    if !wants_access {
        // It ends with the other one, by the standard; not everywhere.
        drop(engine.revoke(provider, client, &tokens.access, "access_token").await);
    }
    Ok(())
}

impl Onboard {
    /// Whether another account than `id` came of the same person's consent: providers forget the person's whole consent, whichever
    /// token they are shown.
    pub(in crate::gateway::onboard) fn shares_consent(
        &self,
        id: &str,
        provider: &str,
        subject: Option<&str>,
    ) -> bool {
        let is_theirs = |known: &Consent| subject.is_some() && known.subject.as_deref() == subject;
        self.has_living(id, |known| known.provider == provider && is_theirs(known))
    }

    /// Whether any account came through this provider.
    pub(in crate::gateway::onboard) fn has_account_of(&self, provider: &str) -> bool {
        self.has_living("", |known| known.provider == provider)
    }

    fn has_living(&self, beside: &str, is_it: impl Fn(&Consent) -> bool) -> bool {
        let state = self.state.lock();
        let mut others = state.held.values().filter(|other| other.record.id != beside);
        others.any(|other| {
            let consent = other.record.consent.as_ref().filter(|known| known.needs_reauth.is_none());
            consent.is_some_and(&is_it)
        })
    }
}
