//! What a provider has said is kept, whatever happens to the store or to the account meanwhile: the old refresh token may be dead
//! from the moment of the answer on. Only newer tokens than those that were renewed stand above it (somebody agreed again).

use std::time::Duration;

use super::{LOCKS, Renewals, Renewed, Setback, TABLE};
use crate::gateway::onboard::consent::forget;
use crate::gateway::onboard::kit::{Kit, Tokens};
use crate::gateway::onboard::record::{Held, sealed_row};
use crate::gateway::onboard::{AccountRecord, Consent, OnboardError, act};
use crate::ids::AccountId;
use crate::oauth::Grant;
use crate::store::{Expect, StoreError, Write};

/// How long a store that cannot be reached is tried again.
const LONGEST: Duration = Duration::from_secs(600);

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(250);

/// What one try came to.
enum Try {
    Kept,
    /// The account is another one by now: to be read and tried again.
    Changed,
    /// The store does not answer.
    Later(StoreError),
}

impl Renewals {
    /// Keeps new tokens.
    pub(super) async fn keep(
        &self,
        held: &Held,
        consent: Consent,
        grant: &Grant,
        lock: u64,
    ) -> Result<Renewed, Setback> {
        let tokens = held.kit.tokens.as_ref().map(|tokens| tokens.renewed(grant));
        let kit = tokens.map_or_else(|| held.kit.clone(), |tokens| held.kit.with(tokens));
        match self.insist(held, &kit, &consent, lock).await {
            // Removed while the provider was asked: nobody will ever use what came.
            Ok(Renewed::Never) => {
                self.hand_back(held, grant).await;
                Ok(Renewed::Never)
            }
            other => other,
        }
    }

    /// Notes that the consent has ended; unless somebody agreed again, or another process was the one that renewed it.
    pub(super) async fn give_up(&self, held: &Held, said: String, lock: u64) -> Result<Renewed, Setback> {
        let known = held.record.consent.clone().unwrap_or_default();
        let consent = Consent { needs_reauth: Some(said), ..known };
        let renewed = self.insist(held, &held.kit, &consent, lock).await?;
        if renewed == Renewed::Newer && !self.is_over(held).await? {
            return Ok(Renewed::Newer);
        }
        Ok(Renewed::Never)
    }

    async fn is_over(&self, held: &Held) -> Result<bool, OnboardError> {
        let now = self.read(&AccountId::from(held.record.id.as_str())).await?;
        Ok(now.is_none_or(|now| now.record.consent.as_ref().is_none_or(|known| known.needs_reauth.is_some())))
    }

    /// Writes until it is written, or until there is nothing to be written any more.
    async fn insist(&self, held: &Held, kit: &Kit, consent: &Consent, lock: u64) -> Result<Renewed, Setback> {
        let id = AccountId::from(held.record.id.as_str());
        let clock = &self.onboard.gateway.clock;
        let since = clock.now();
        let (mut base, mut lock_at) = (held.clone(), Some(lock));
        loop {
            match self.try_to_keep(&base, kit, consent, lock_at).await? {
                Try::Kept => {
                    if lock_at.is_none() {
                        self.unlock(&id, lock).await?;
                    }
                    // Other processes notice by themselves; this one now.
                    if let Err(error) = self.onboard.refresh().await {
                        tracing::debug!(account = %id, %error, "new tokens are taken over later");
                    }
                    return Ok(Renewed::Newer);
                }
                Try::Changed => match self.read(&id).await {
                    Ok(None) => {
                        self.unlock(&id, lock).await?;
                        return Ok(Renewed::Never);
                    }
                    Ok(Some(now)) if !is_of_the_same_consent(&now, held) => {
                        self.unlock(&id, lock).await?;
                        return Ok(Renewed::Newer);
                    }
                    Ok(Some(now)) => (base, lock_at) = (now, None),
                    Err(error) => tracing::debug!(account = %id, %error, "it cannot be read just now"),
                },
                Try::Later(error) => {
                    if clock.now().since(since) > LONGEST {
                        return Err(OnboardError::from(error).into());
                    }
                    tracing::warn!(account = %id, %error, "new tokens wait for the store");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn try_to_keep(
        &self,
        base: &Held,
        kit: &Kit,
        consent: &Consent,
        lock: Option<u64>,
    ) -> Result<Try, Setback> {
        let updated = self.onboard.gateway.clock.wall_seconds();
        let record =
            AccountRecord { consent: Some(consent.clone()), updated, ..AccountRecord::clone(&base.record) };
        let value = sealed_row(&record, kit, &self.onboard.vault())?;
        let id = record.id.clone();
        let put = Write::Put { table: TABLE, id: id.clone(), value, expect: Expect::Version(base.version) };
        let done = lock.map(|lock| Write::Delete { table: LOCKS, id, expect: Expect::Version(lock) });
        let writes = [Some(put), done].into_iter().flatten().collect();
        // A renewal is nothing that anybody did; its end is.
        let written = match &consent.needs_reauth {
            None => self.onboard.records.commit(writes).await.map(drop),
            Some(said) => {
                let mut act = act("weir", "account.needs_reauth", &record);
                act.note = format!("{}: {said}", act.note);
                let at = self.onboard.gateway.clock.wall_millis();
                self.onboard.audit.note(act, at, writes).await.map(drop)
            }
        };
        match written {
            Ok(()) => {
                if consent.needs_reauth.is_some() {
                    self.onboard.gateway.metrics.needs_reauth.inc();
                }
                Ok(Try::Kept)
            }
            Err(StoreError::Conflict) => Ok(Try::Changed),
            // Handed over: this process can write nothing any more.
            Err(error @ StoreError::Released) => Err(OnboardError::from(error).into()),
            Err(error) => Ok(Try::Later(error)),
        }
    }

    /// Has tokens forgotten that came for an account that is gone; unless another one lives on the same consent.
    async fn hand_back(&self, held: &Held, grant: &Grant) {
        let Some(consent) = &held.record.consent else { return };
        // What cannot be known is no reason to end anybody's consent.
        if self.onboard.refresh().await.is_err()
            || self.onboard.shares_consent(&held.record.id, &consent.provider, consent.subject.as_deref())
        {
            return;
        }
        let Ok((provider, client)) = self.provider_of(held).await else { return };
        if let Err(error) = forget(&self.engine, &provider, &client, &Tokens::of(grant)).await {
            tracing::info!(account = held.record.id, %error, "a token outlives its account");
        }
    }
}

/// Whether an account still has the tokens that were renewed. Otherwise somebody agreed again, or another process was quicker.
fn is_of_the_same_consent(now: &Held, then: &Held) -> bool {
    now.kit.has_tokens_of(&then.kit)
}
