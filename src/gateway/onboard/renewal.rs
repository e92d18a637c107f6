//! Tokens that are renewed before they end. Exactly one process asks the provider: a lock in the store says who, and whoever
//! waits reads what came of it. The new refresh token is in the store before anybody uses the new access token.
//!
//! No clock is compared with another's: a lock that has not moved for long enough, by the watch of the one who looks at it, is a
//! dead process's. Should that one live after all, its write fails, since the account is no longer the one that it read.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::consent::consent_of;
use super::record::{Held, sealed_row};
use super::{AccountRecord, Consent, Onboard, OnboardError, TABLE, act};
use crate::clock::Moment;
use crate::gateway::tokens::Renew;
use crate::ids::{AccountId, random_name};
use crate::oauth::{Engine, Grant, OAuthError, Refusal};
use crate::platform::auth::Credential;
use crate::secret::Secret;
use crate::store::{Expect, Name, StoreError, Write};

/// Who renews which account at the moment.
const LOCKS: Name = "renewals";

/// A lock that has not moved for so long is a dead process's: longer than a provider may take.
const DEAD: Duration = Duration::from_secs(30);

/// Between two looks at a lock of somebody else's.
const LOOK: Duration = Duration::from_millis(100);

/// A request waits for so long at most; the renewal goes on without it.
const PATIENCE: Duration = Duration::from_secs(15);

/// Tokens are renewed so long before their end, or a tenth of their life where that is less.
const AHEAD: u64 = 300;

/// After a failure that may pass; doubled each time, up to the second.
const PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

/// Renewals under way at once.
const AT_ONCE: usize = 8;

/// What came of asking for newer tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// There are newer ones.
    Newer,
    /// Not now; perhaps later.
    NotNow,
    /// Somebody must agree again, or it is not an account of a consent's.
    Never,
}

/// Renews tokens.
#[derive(Debug)]
pub struct Renewals {
    onboard: Arc<Onboard>,
    engine: Engine,
    /// Who we are in locks.
    holder: String,
    desks: Mutex<HashMap<AccountId, Arc<Desk>>>,
}

/// One account's, in this process: whoever comes while one is at it waits.
#[derive(Debug, Default)]
struct Desk {
    turn: tokio::sync::Mutex<()>,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    count: u32,
    until: Option<Moment>,
}

impl Renewals {
    /// Over these parts.
    pub fn new(onboard: Arc<Onboard>, engine: Engine) -> Arc<Self> {
        Arc::new(Self { onboard, engine, holder: random_name("ren_", 16), desks: Mutex::default() })
    }

    /// Newer tokens than an account has, for whoever asks by hand.
    pub async fn renew_now(self: &Arc<Self>, id: &AccountId) -> Renewed {
        let known = self.onboard.state.lock().held.get(id.as_str()).and_then(|held| held.kit.tokens.clone());
        match known {
            Some(tokens) => self.renew(id, &tokens.access).await,
            None => Renewed::Never,
        }
    }

    /// Newer tokens than `stale` for an account, whoever gets them.
    pub async fn renew(self: &Arc<Self>, id: &AccountId, stale: &Secret) -> Renewed {
        let (renewals, id, stale) = (Arc::clone(self), id.clone(), stale.clone());
        // On a task of its own: a caller that leaves must not leave a rotated token unkept.
        let task = tokio::spawn(async move { renewals.renew_here(&id, &stale).await });
        match tokio::time::timeout(PATIENCE, task).await {
            Ok(Ok(renewed)) => renewed,
            Ok(Err(_)) | Err(_) => Renewed::NotNow,
        }
    }

    async fn renew_here(&self, id: &AccountId, stale: &Secret) -> Renewed {
        let desk = Arc::clone(self.desks.lock().entry(id.clone()).or_default());
        let _turn = desk.turn.lock().await;
        let now = self.onboard.gateway.clock.now();
        if desk.trouble.lock().until.is_some_and(|until| now < until) {
            return Renewed::NotNow;
        }
        match self.renew_alone(id, stale).await {
            Ok(renewed) => {
                *desk.trouble.lock() = Trouble::default();
                renewed
            }
            Err(error) => {
                let mut trouble = desk.trouble.lock();
                trouble.count = trouble.count.saturating_add(1);
                let pause =
                    PAUSE.saturating_mul(1 << trouble.count.min(6).saturating_sub(1)).min(LONGEST_PAUSE);
                trouble.until = Some(self.onboard.gateway.clock.now() + pause);
                tracing::warn!(account = %id, %error, again_in = ?pause, "an account's token could not be renewed");
                Renewed::NotNow
            }
        }
    }

    /// One at a time over all processes.
    async fn renew_alone(&self, id: &AccountId, stale: &Secret) -> Result<Renewed, OnboardError> {
        let lock = loop {
            let Some(held) = self.read(id).await? else { return Ok(Renewed::Never) };
            if let Some(known) = settled(&held, stale) {
                return Ok(known);
            }
            if let Some(lock) = self.lock(id).await? {
                break lock;
            }
        };
        // Read again inside the lock: whoever held it before may have been quicker.
        let Some(held) = self.read(id).await? else { return Ok(Renewed::Never) };
        if let Some(known) = settled(&held, stale) {
            self.unlock(id, lock).await?;
            return Ok(known);
        }
        self.ask(&held, lock).await
    }

    async fn read(&self, id: &AccountId) -> Result<Option<Held>, OnboardError> {
        let Some(row) = self.onboard.records.get(TABLE, id.as_str()).await? else { return Ok(None) };
        Held::read(&row, &self.onboard.vault()).map(Some)
    }

    /// Takes the lock; where somebody else has it, waits until it moves, and gives `None`: look again.
    async fn lock(&self, id: &AccountId) -> Result<Option<u64>, OnboardError> {
        let records = &self.onboard.records;
        let clock = &self.onboard.gateway.clock;
        let Some(first) = records.get(LOCKS, id.as_str()).await? else {
            return self.take(id, Expect::Absent).await;
        };
        let since = clock.now();
        while clock.now().since(since) < DEAD {
            tokio::time::sleep(LOOK).await;
            match records.get(LOCKS, id.as_str()).await? {
                Some(row) if row.version == first.version => {}
                _ => return Ok(None),
            }
        }
        self.take(id, Expect::Version(first.version)).await
    }

    async fn take(&self, id: &AccountId, expect: Expect) -> Result<Option<u64>, OnboardError> {
        let value = self.holder.clone().into_bytes();
        let put = Write::Put { table: LOCKS, id: id.as_str().to_owned(), value, expect };
        match self.onboard.records.commit(vec![put]).await {
            Ok(versions) => Ok(versions.first().copied()),
            Err(StoreError::Conflict) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn unlock(&self, id: &AccountId, lock: u64) -> Result<(), OnboardError> {
        let delete =
            Write::Delete { table: LOCKS, id: id.as_str().to_owned(), expect: Expect::Version(lock) };
        match self.onboard.records.commit(vec![delete]).await {
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks the provider, and keeps what it says together with the end of the lock.
    async fn ask(&self, held: &Held, lock: u64) -> Result<Renewed, OnboardError> {
        let id = AccountId::from(held.record.id.as_str());
        let answered = self.refreshed(held).await;
        let (record, kit, what, renewed) = match answered {
            Ok((consent, grant)) => {
                let tokens = held.kit.tokens.as_ref().map(|tokens| tokens.renewed(&grant));
                let kit = tokens.map_or_else(|| held.kit.clone(), |tokens| held.kit.with(tokens));
                (self.changed(held, consent), kit, "account.renewed", Renewed::Newer)
            }
            Err(OAuthError::Refused { refusal: Refusal::InvalidGrant | Refusal::AccessDenied, said }) => {
                let known = held.record.consent.clone().unwrap_or_default();
                let consent = Consent { needs_reauth: Some(said), ..known };
                self.onboard.gateway.metrics.needs_reauth.inc();
                (self.changed(held, consent), held.kit.clone(), "account.needs_reauth", Renewed::Never)
            }
            Err(error) => {
                self.unlock(&id, lock).await?;
                return Err(OnboardError::Invalid(error.to_string()));
            }
        };
        let value = sealed_row(&record, &kit, &self.onboard.vault())?;
        let put =
            Write::Put { table: TABLE, id: record.id.clone(), value, expect: Expect::Version(held.version) };
        let done = Write::Delete { table: LOCKS, id: record.id.clone(), expect: Expect::Version(lock) };
        match self.onboard.write(act("weir", what, &record), vec![put, done]).await {
            Ok(()) => Ok(renewed),
            Err(StoreError::Conflict) => {
                // Changed meanwhile (toggled, renamed): the tokens must be kept all the same.
                self.keep_anyway(&id, &kit, &record, lock).await?;
                Ok(renewed)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps tokens in an account that somebody changed while the provider was asked.
    async fn keep_anyway(
        &self,
        id: &AccountId,
        kit: &super::kit::Kit,
        wanted: &AccountRecord,
        lock: u64,
    ) -> Result<(), OnboardError> {
        for _ in 0..super::TRIES {
            let Some(held) = self.read(id).await? else { return self.unlock(id, lock).await };
            let record =
                AccountRecord { consent: wanted.consent.clone(), ..AccountRecord::clone(&held.record) };
            let value = sealed_row(&record, kit, &self.onboard.vault())?;
            let expect = Expect::Version(held.version);
            let put = Write::Put { table: TABLE, id: record.id.clone(), value, expect };
            match self.onboard.write(act("weir", "account.renewed", &record), vec![put]).await {
                Err(StoreError::Conflict) => {}
                other => {
                    other?;
                    return self.unlock(id, lock).await;
                }
            }
        }
        Err(StoreError::Conflict.into())
    }

    fn changed(&self, held: &Held, consent: Consent) -> AccountRecord {
        let updated = self.onboard.gateway.clock.wall_seconds();
        AccountRecord { consent: Some(consent), updated, ..AccountRecord::clone(&held.record) }
    }

    /// What the provider makes of the refresh token.
    async fn refreshed(&self, held: &Held) -> Result<(Consent, Grant), OAuthError> {
        let ground = self.onboard.ground();
        let known = held.record.consent.clone().unwrap_or_default();
        let provider =
            ground.oauth.provider(&known.provider).ok_or(OAuthError::NotOffered("client for us"))?;
        let client = provider.client.clone().ok_or(OAuthError::NotOffered("client for us"))?;
        let provider = self.engine.settled(&provider.for_accounts()).await?;
        let refresh = held.kit.tokens.as_ref().and_then(|tokens| tokens.refresh.as_ref());
        let Some(refresh) = refresh else {
            let said = "the provider gave no refresh token".to_owned();
            return Err(OAuthError::Refused { refusal: Refusal::InvalidGrant, said });
        };
        let grant = self.engine.refresh(&provider, &client, refresh).await?;
        let now = self.onboard.gateway.clock.wall_seconds();
        let fresh = consent_of(&provider, &grant, None, now);
        let scopes = if fresh.scopes.is_empty() { known.scopes } else { fresh.scopes };
        let consent = Consent { subject: known.subject, person: known.person, scopes, ..fresh };
        Ok((consent, grant))
    }

    /// Renews what is due, a few at a time. To be called every second or so.
    pub async fn tick(self: &Arc<Self>) {
        use futures_util::StreamExt as _;
        let now = self.onboard.gateway.clock.wall_seconds();
        let due: Vec<(AccountId, Secret)> = {
            let state = self.onboard.state.lock();
            let due = state.held.values().filter(|held| is_due(held, now));
            due.filter_map(|held| {
                let access = held.kit.tokens.as_ref()?.access.clone();
                Some((AccountId::from(held.record.id.as_str()), access))
            })
            .collect()
        };
        let each = due.into_iter().map(|(id, stale)| async move { self.renew(&id, &stale).await });
        futures_util::stream::iter(each).buffer_unordered(AT_ONCE).for_each(|_| async {}).await;
    }
}

#[async_trait]
impl Renew for Arc<Renewals> {
    async fn newer(&self, account: &AccountId, stale: &Credential) -> Option<Credential> {
        let Credential::ApiKey(stale) = stale else { return None };
        let known = || self.onboard.state.lock().held.get(account.as_str()).cloned();
        known()?.kit.tokens?;
        if self.renew(account, stale).await != Renewed::Newer {
            return None;
        }
        // Another process may have been the one; then it is not in our memory yet.
        self.onboard.refresh().await.ok()?;
        Some(known()?.kit.credential())
    }
}

/// What is known without asking anybody; `None`: the provider must be asked.
fn settled(held: &Held, stale: &Secret) -> Option<Renewed> {
    let Some(tokens) = &held.kit.tokens else { return Some(Renewed::Never) };
    if tokens.access != *stale {
        return Some(Renewed::Newer);
    }
    let is_over = held.record.consent.as_ref().is_none_or(|consent| consent.needs_reauth.is_some());
    is_over.then_some(Renewed::Never)
}

/// Whether an account's token is to be renewed by now: also while it rests, and while nobody uses it. Each at its own moment within the
/// last stretch, so that those that came together do not go together.
fn is_due(held: &Held, now: u64) -> bool {
    let Some(consent) = held.record.consent.as_ref().filter(|consent| consent.needs_reauth.is_none()) else {
        return false;
    };
    let has_refresh = held.kit.tokens.as_ref().is_some_and(|tokens| tokens.refresh.is_some());
    let Some(expires) = consent.expires.filter(|_| has_refresh) else { return false };
    let ahead = AHEAD.min(consent.lifetime.unwrap_or(3600) / 10);
    let mut hasher = std::hash::DefaultHasher::new();
    held.record.id.hash(&mut hasher);
    let jitter = hasher.finish() % (ahead / 2).max(1);
    now.saturating_add(ahead + jitter) >= expires
}
