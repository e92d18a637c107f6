//! What somebody leaves behind who is removed: what they granted to apps, and, where the tenant was theirs alone, its accounts (given back
//! to their providers) and its apps (with all that people granted to these). Why not in one change with the removal: providers are
//! asked, and that takes as long as it takes.
//!
//! The removal itself leaves a note in the store ([`kept_out`]), and the note stays until all is done: whoever finds one that nobody
//! is at goes on with it, after a crash or on another replica. It stays for two hours more, because a sign-in that was under way
//! may end in an account as late as that. Until then such an account rests, and then it is gone like the others.
//! It stays for longer where they registered apps of a tenant that others share: these are the tenant's, and out of use until an
//! operator removes them.

use std::sync::Arc;
use std::time::Duration;

use super::kept_out::{self, Gone, KeptOut};
use super::onboard::consent::Consents;
use super::onboard::{Onboard, OnboardError};
use super::people::{People, PeopleError};
use super::provider::{Provider, ProviderError, Who};
use super::reach::{Adder, Reach};
use crate::clock::Clock;
use crate::ids::{Subject, TenantId};
use crate::store::{Expect, Records, StoreError};

/// Whoever is at it says so anew before each step, none of which takes so long, in milliseconds.
const STEP: u64 = 15_000;

/// Whoever asked for it waits for so long; the work goes on without them.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a change is tried again when somebody else was quicker.
const TRIES: usize = 10;

/// Why somebody is not gone yet.
#[derive(Debug, thiserror::Error)]
pub enum DepartureError {
    #[error(transparent)]
    People(#[from] PeopleError),
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Onboard(#[from] OnboardError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See the module.
#[derive(Debug)]
pub struct Departures {
    records: Arc<dyn Records>,
    onboard: Arc<Onboard>,
    consents: Arc<Consents>,
    people: Arc<People>,
    provider: Arc<Provider>,
    clock: Clock,
}

/// Whose accounts and apps are given up, and who wants that.
pub type Parts = (Arc<Onboard>, Arc<Consents>, Arc<People>, Arc<Provider>);

impl Departures {
    /// Over these parts.
    pub fn new(
        records: Arc<dyn Records>,
        (onboard, consents, people, provider): Parts,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self { records, onboard, consents, people, provider, clock })
    }

    /// Forgets somebody on behalf of `who`, with what they leave behind. Whether that is done: with many accounts it may go on for a
    /// while. Asked for once more it is finished, where it was not.
    ///
    /// # Errors
    /// There is nobody of that id; the store's.
    pub async fn remove(self: &Arc<Self>, who: &str, id: &str) -> Result<bool, DepartureError> {
        let (departures, who, id) = (Arc::clone(self), who.to_owned(), id.to_owned());
        // On a task of its own: who asked may go away, and it goes on.
        let work = self.consents.home().begin(async move { departures.see_off(&who, &id).await });
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(Ok(done)) => done.map(|()| true),
            Ok(Err(_)) => Err(StoreError::Interrupted.into()),
            Err(_) => Ok(false),
        }
    }

    async fn see_off(&self, who: &str, id: &str) -> Result<(), DepartureError> {
        match self.people.get(id).await {
            Ok(person) => {
                // Should that fail, the person is still there to be removed once more.
                self.forget_grants(&self.people.who_is(&person)).await?;
                match self.people.remove(who, id).await {
                    // Somebody else was quicker.
                    Err(PeopleError::NotFound(_)) => {}
                    other => drop(other?),
                }
            }
            Err(PeopleError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        match kept_out::find(&*self.records, id).await? {
            Some((KeptOut { gone: Some(Gone { is_done: false, .. }), .. }, _)) => {
                self.give_up(id, None).await
            }
            _ => Err(PeopleError::NotFound("person").into()),
        }
    }

    async fn forget_grants(&self, whom: &Who) -> Result<(), ProviderError> {
        match self.provider.forget_person(whom).await {
            Err(ProviderError::NotFound) => Ok(()),
            other => other,
        }
    }

    /// Says that somebody is at it, for one more step; with `seen`, only if nobody has said so since. What is to be done; `None`: nothing any
    /// more, or somebody else does it.
    async fn hold(&self, id: &str, seen: Option<u64>) -> Result<Option<(KeptOut, Gone)>, StoreError> {
        for _ in 0..TRIES {
            let Some((mut out, version)) = kept_out::find(&*self.records, id).await? else { return Ok(None) };
            let Some(gone) = &mut out.gone else { return Ok(None) };
            if seen.is_some_and(|seen| seen != gone.busy) {
                return Ok(None);
            }
            gone.busy = self.clock.wall_millis() + STEP;
            let gone = gone.clone();
            match self.records.commit(vec![out.put(id, Expect::Version(version))?]).await {
                Err(StoreError::Conflict) => {}
                other => return other.map(|_| Some((out, gone))),
            }
        }
        Err(StoreError::Conflict)
    }

    /// Gives up what somebody left who is gone; with `seen`, as in `hold`.
    async fn give_up(&self, id: &str, seen: Option<u64>) -> Result<(), DepartureError> {
        let Some((out, gone)) = self.hold(id, seen).await? else { return Ok(()) };
        let whom = Who { tenant: gone.tenant.clone(), subject: Subject::from(id) };
        self.forget_grants(&whom).await?;
        if out.is_alone {
            let tenant = TenantId::from(id);
            for app in self.provider.apps(&Reach::Tenant(tenant.clone())).await? {
                match self.provider.delete_app(&gone.who, &Reach::Everything, &app.client_id).await {
                    Ok(_) | Err(ProviderError::NotFound) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // One after the other: of two that live on one consent the last one's end is the consent's.
            for account in self.onboard.of_tenant(&tenant).await? {
                if self.hold(id, None).await?.is_none() {
                    return Ok(());
                }
                match self.consents.remove(&gone.who, &Reach::Everything, &account).await {
                    Ok(_) | Err(OnboardError::NotFound) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(self.close(id).await?)
    }

    /// Notes that it is done, and forgets the note once nothing can arrive any more.
    async fn close(&self, id: &str) -> Result<(), StoreError> {
        let apps = self.provider.apps(&Reach::Everything).await?;
        let is_named = apps.iter().any(|app| app.added_by.as_ref().and_then(Adder::person) == Some(id));
        for _ in 0..TRIES {
            let Some((mut out, version)) = kept_out::find(&*self.records, id).await? else { return Ok(()) };
            let Some(gone) = &mut out.gone else { return Ok(()) };
            let expect = Expect::Version(version);
            let write = if gone.until <= self.clock.wall_seconds() && !is_named {
                kept_out::lift(id, expect)
            } else {
                gone.done(self.clock.wall_seconds());
                out.put(id, expect)?
            };
            match self.records.commit(vec![write]).await {
                Err(StoreError::Conflict) => {}
                other => return other.map(drop),
            }
        }
        Err(StoreError::Conflict)
    }

    /// Goes on with whatever nobody is at. To be called every few seconds.
    ///
    /// # Errors
    /// The store's. What cannot be done for one of them is said in the log, and keeps nobody else.
    pub async fn tick(&self) -> Result<(), StoreError> {
        for (id, out) in kept_out::all(&*self.records).await? {
            let Some(gone) = &out.gone else { continue };
            if self.is_busy(gone.busy) || !self.is_due(&id, &out, gone).await? {
                continue;
            }
            if let Err(error) = self.give_up(&id, Some(gone.busy)).await {
                tracing::warn!(person = id, %error, "what somebody left who was removed is given up later");
            }
        }
        Ok(())
    }

    /// Whether there is anything to do.
    async fn is_due(&self, id: &str, out: &KeptOut, gone: &Gone) -> Result<bool, StoreError> {
        if !gone.is_done || gone.until <= self.clock.wall_seconds() {
            return Ok(true);
        }
        Ok(out.is_alone && !self.onboard.of_tenant(&TenantId::from(id)).await?.is_empty())
    }

    /// Whether somebody is at it. A moment that is further away than any step is another machine's wrong clock.
    fn is_busy(&self, until: u64) -> bool {
        let now = self.clock.wall_millis();
        (now + 1..=now + 2 * STEP).contains(&until)
    }
}
