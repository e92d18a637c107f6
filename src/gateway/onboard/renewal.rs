//! Tokens that are renewed before they end. Exactly one process asks the provider: a lock in the store says who, and whoever
//! waits reads what came of it. The new refresh token is in the store before anybody uses the new access token.
//!
//! No clock is compared with another's: a lock that has not moved for long enough, by the watch of the one who looks at it, is a
//! dead process's. Should that one live after all, what it writes counts only where nobody wrote other tokens meanwhile.

mod desk;
mod keep;
mod rounds;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::consent::consent_of;
use super::record::Held;
use super::{Consent, Home, Onboard, OnboardError, TABLE};
use crate::gateway::tokens::Renew;
use crate::ids::{AccountId, random_name};
use crate::oauth::{Client, Engine, Grant, OAuthError, Provider, Refusal};
use crate::platform::auth::Credential;
use crate::secret::Secret;
use crate::store::{Expect, Name, StoreError, Write};

use desk::Desk;

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

/// What came of asking for newer tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// There are newer ones.
    Newer,
    /// Not now; perhaps later.
    NotNow,
    /// It was asked for by hand too often: not for so long.
    TooOften(Duration),
    /// Somebody must agree again, or it is not an account of a consent's.
    Never,
}

/// Why somebody wants newer tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// They end soon.
    Due,
    /// The platform refused the access token.
    Refused,
    /// Somebody asks by hand.
    Hand,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
enum Setback {
    #[error(transparent)]
    Onboard(#[from] OnboardError),
    #[error("{0}")]
    Provider(OAuthError),
}

/// Renews tokens.
#[derive(Debug)]
pub struct Renewals {
    onboard: Arc<Onboard>,
    engine: Engine,
    /// Who we are in locks.
    holder: String,
    desks: Mutex<HashMap<AccountId, Arc<Desk>>>,
    /// How many of a provider's accounts are renewed at once, of those that nobody asked for.
    rooms: Mutex<HashMap<String, Arc<Semaphore>>>,
    home: Arc<Home>,
    is_closed: AtomicBool,
}

impl Renewals {
    /// Over these parts. `home` is also where accounts are added by consent.
    pub fn new(onboard: Arc<Onboard>, engine: Engine, home: Arc<Home>) -> Arc<Self> {
        Arc::new(Self {
            onboard,
            engine,
            holder: random_name("ren_", 16),
            desks: Mutex::default(),
            rooms: Mutex::default(),
            home,
            is_closed: AtomicBool::new(false),
        })
    }

    /// Where to do the work from now on.
    pub fn live_on(&self, home: Handle) {
        self.home.settle(home);
    }

    /// Begins nothing any more, and waits until what has begun is in the store, for `patience` at most: a rotated token that is not
    /// kept is a consent that is lost, and so is one whose code has just been traded. Whether everything is.
    pub fn close(&self, patience: Duration) -> bool {
        self.is_closed.store(true, Ordering::SeqCst);
        let clock = &self.onboard.gateway.clock;
        let since = clock.now();
        while !self.home.is_quiet() && clock.now().since(since) < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.home.is_quiet()
    }

    /// Newer tokens than an account has, for whoever asks by hand.
    pub async fn renew_now(self: &Arc<Self>, id: &AccountId) -> Renewed {
        let known = self.onboard.state.lock().held.get(id.as_str()).and_then(|held| held.kit.tokens.clone());
        match known {
            Some(tokens) => self.renew(id, &tokens.access, Cause::Hand).await,
            None => Renewed::Never,
        }
    }

    /// Newer tokens than `stale` for an account, whoever gets them.
    async fn renew(self: &Arc<Self>, id: &AccountId, stale: &Secret, cause: Cause) -> Renewed {
        let (renewals, id, stale) = (Arc::clone(self), id.clone(), stale.clone());
        // On a task of its own: a caller that leaves must not leave a rotated token unkept.
        let task = self.home.begin(async move { renewals.renew_here(&id, &stale, cause).await });
        match tokio::time::timeout(PATIENCE, task).await {
            Ok(Ok(renewed)) => renewed,
            Ok(Err(_)) | Err(_) => Renewed::NotNow,
        }
    }

    fn desk(&self, id: &AccountId) -> Arc<Desk> {
        Arc::clone(self.desks.lock().entry(id.clone()).or_default())
    }

    async fn renew_here(&self, id: &AccountId, stale: &Secret, cause: Cause) -> Renewed {
        let desk = self.desk(id);
        let _turn = desk.turn.lock().await;
        let clock = &self.onboard.gateway.clock;
        let now = clock.now();
        let is_futile = cause == Cause::Refused && desk.is_futile(now);
        let too_often = desk.too_often(now).filter(|_| cause == Cause::Hand);
        let may_ask = !(is_futile || too_often.is_some() || desk.rests(now));
        match self.renew_alone(&desk, id, stale, cause, may_ask).await {
            Ok(Renewed::NotNow) => too_often.map_or(Renewed::NotNow, Renewed::TooOften),
            Ok(renewed) => {
                desk.is_done();
                renewed
            }
            Err(setback) => {
                let after = match &setback {
                    Setback::Provider(OAuthError::Unavailable { after, .. }) => *after,
                    _ => None,
                };
                let pause = desk.failed(clock.now(), after);
                if cause == Cause::Refused {
                    desk.want(stale);
                }
                self.tell(id, &setback, pause);
                Renewed::NotNow
            }
        }
    }

    /// One at a time over all processes.
    async fn renew_alone(
        &self,
        desk: &Desk,
        id: &AccountId,
        stale: &Secret,
        cause: Cause,
        may_ask: bool,
    ) -> Result<Renewed, Setback> {
        let now = || self.onboard.gateway.clock.wall_seconds();
        let lock = loop {
            let Some(held) = self.read(id).await? else { return Ok(Renewed::Never) };
            if let Some(known) = settled(&held, stale, cause, now()) {
                return Ok(known);
            }
            if !may_ask || self.is_closed.load(Ordering::SeqCst) {
                return Ok(Renewed::NotNow);
            }
            if let Some(lock) = self.lock(id).await? {
                break lock;
            }
        };
        // Read again inside the lock: whoever held it before may have been quicker.
        let Some(held) = self.read(id).await? else { return Ok(Renewed::Never) };
        if let Some(known) = settled(&held, stale, cause, now()) {
            self.unlock(id, lock).await?;
            return Ok(known);
        }
        if cause == Cause::Hand {
            desk.is_asked_by_hand(self.onboard.gateway.clock.now());
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

    /// Asks the provider, and keeps what it says.
    async fn ask(&self, held: &Held, lock: u64) -> Result<Renewed, Setback> {
        let id = AccountId::from(held.record.id.as_str());
        let counted = |outcome: &str| {
            let platform = held.record.platform.as_str();
            self.onboard.gateway.metrics.renewals.with_label_values(&[platform, outcome]).inc();
        };
        let answered = match self.provider_of(held).await {
            Ok((provider, client)) => self.refreshed(held, &provider, &client).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok((consent, grant)) => {
                self.onboard.gateway.rehearsal.pause_in("renewal").await;
                let renewed = self.keep(held, consent, &grant, lock).await?;
                counted("renewed");
                Ok(renewed)
            }
            Err(OAuthError::Refused { refusal: Refusal::InvalidGrant | Refusal::AccessDenied, said }) => {
                let renewed = self.give_up(held, said, lock).await?;
                counted("ended");
                Ok(renewed)
            }
            Err(error) => {
                counted("failed");
                self.unlock(&id, lock).await?;
                Err(Setback::Provider(error))
            }
        }
    }

    async fn provider_of(&self, held: &Held) -> Result<(Provider, Client), OAuthError> {
        let ground = self.onboard.ground();
        let name = held.record.consent.as_ref().map_or("", |consent| consent.provider.as_str());
        let provider = ground.oauth.provider(name).ok_or(OAuthError::NotOffered("client for us"))?;
        self.onboard.settled(&self.engine, provider).await
    }

    /// What the provider makes of the refresh token.
    async fn refreshed(
        &self,
        held: &Held,
        provider: &Provider,
        client: &Client,
    ) -> Result<(Consent, Grant), OAuthError> {
        let known = held.record.consent.clone().unwrap_or_default();
        let refresh = held.kit.tokens.as_ref().and_then(|tokens| tokens.refresh.as_ref());
        let Some(refresh) = refresh else {
            let said = "the provider gave no refresh token".to_owned();
            return Err(OAuthError::Refused { refusal: Refusal::InvalidGrant, said });
        };
        let grant = self.engine.refresh(provider, client, refresh).await?;
        let now = self.onboard.gateway.clock.wall_seconds();
        let fresh = consent_of(provider, &grant, None, now);
        let scopes = if fresh.scopes.is_empty() { known.scopes } else { fresh.scopes };
        let (subject, person, given) = (known.subject, known.person, known.given);
        let consent = Consent { subject, person, given, scopes, ..fresh };
        Ok((consent, grant))
    }

    /// Says what stood in the way: to the operator, since nobody else can do anything about it.
    fn tell(&self, id: &AccountId, setback: &Setback, pause: Duration) {
        use Refusal::{InvalidClient, UnauthorizedClient};
        match setback {
            Setback::Provider(OAuthError::Refused {
                refusal: InvalidClient | UnauthorizedClient, ..
            }) => {
                tracing::error!(account = %id, error = %setback, again_in = ?pause,
                    "the provider does not take our client id and secret: none of its accounts can be renewed");
            }
            _ => {
                tracing::warn!(account = %id, error = %setback, again_in = ?pause, "an account's token could not be renewed");
            }
        }
    }
}

#[async_trait]
impl Renew for Arc<Renewals> {
    async fn newer(&self, account: &AccountId, stale: &Credential) -> Option<Credential> {
        let Credential::ApiKey(stale) = stale else { return None };
        let known = || self.onboard.state.lock().held.get(account.as_str()).cloned();
        known()?.kit.access()?;
        if self.renew(account, stale, Cause::Refused).await != Renewed::Newer {
            return None;
        }
        // Another process may have been the one; then it is not in our memory yet.
        self.onboard.refresh().await.ok()?;
        Some(known()?.kit.credential())
    }

    fn was_futile(&self, account: &AccountId) {
        self.desk(account).was_futile(self.onboard.gateway.clock.now());
    }
}

/// What is known without asking anybody; `None`: the provider must be asked.
fn settled(held: &Held, stale: &Secret, cause: Cause, now: u64) -> Option<Renewed> {
    let Some(tokens) = &held.kit.tokens else { return Some(Renewed::Never) };
    if tokens.access != *stale {
        return Some(Renewed::Newer);
    }
    let is_over = held.record.consent.as_ref().is_none_or(|consent| consent.needs_reauth.is_some());
    // Some providers give the same token again, with a later end: somebody else was quicker all the same.
    if cause == Cause::Due && !is_over && !is_due(held, now) {
        return Some(Renewed::Newer);
    }
    // A token that is good and cannot be renewed stays as it is, whoever asks.
    let is_last = tokens.refresh.is_none() && cause == Cause::Hand;
    (is_over || is_last).then_some(Renewed::Never)
}

/// Whether an account's token is to be renewed by now: also while it rests, and while nobody uses it.
fn is_due(held: &Held, now: u64) -> bool {
    let Some(consent) = held.record.consent.as_ref().filter(|consent| consent.needs_reauth.is_none()) else {
        return false;
    };
    let has_refresh = held.kit.tokens.as_ref().is_some_and(|tokens| tokens.refresh.is_some());
    let Some(expires) = consent.expires.filter(|_| has_refresh) else { return false };
    now >= due_at(&held.record.id, expires, consent.lifetime)
}

/// When a token is renewed: five minutes before its end or a tenth of its life, and up to half as much earlier, each account at its
/// own moment, so that those that came together do not go together.
fn due_at(id: &str, expires: u64, lifetime: Option<u64>) -> u64 {
    let ahead = AHEAD.min(lifetime.unwrap_or(3600) / 10);
    let mut hasher = std::hash::DefaultHasher::new();
    (id, expires).hash(&mut hasher);
    let jitter = hasher.finish() % (ahead / 2).max(1);
    expires.saturating_sub(ahead + jitter)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn r3_5_ten_thousand_that_end_together_are_not_renewed_together() {
        let mut per_second: HashMap<u64, u32> = HashMap::new();
        for number in 0..10_000 {
            let at = due_at(&format!("acc_{number}"), 1_000_000, Some(3600));
            assert!((1_000_000 - 450..=1_000_000 - 300).contains(&at), "{at}");
            *per_second.entry(at).or_default() += 1;
        }
        let most = per_second.values().max().expect("some");
        assert!(per_second.len() == 150 && *most < 110, "{most} in one second");
        // A short life: a tenth of it.
        assert!((910..=940).contains(&due_at("a", 1_000, Some(600))));
        assert_eq!(due_at("a", 10, Some(0)), 10);
    }

    /// An account whose token ends at `expires`.
    fn held(expires: u64) -> Held {
        use crate::gateway::onboard::kit::{Kit, Tokens};
        use crate::vault::{MasterKey, Vault};
        let consent = Consent { expires: Some(expires), lifetime: Some(3600), ..Consent::default() };
        let record = json!({
            "id": "acc_1", "platform": "openai", "name": "n", "weight": 1, "priority": 0, "enabled": true,
            "created": 0, "updated": 0, "consent": consent,
        });
        let tokens =
            Tokens { access: Secret::new("same"), refresh: Some(Secret::new("r")), carried: BTreeMap::new() };
        let kit = Kit::of_consent(tokens, None);
        let vault = Vault::new(vec![MasterKey::for_this_process()]).expect("a vault");
        let sealed = kit.seal("acc_1", &vault).expect("sealed");
        let record = Arc::new(serde_json::from_value(record).expect("a record"));
        Held { version: 1, record, sealed, kit }
    }

    #[test]
    fn the_same_token_with_a_later_end_is_a_newer_one() {
        let same = Secret::new("same");
        assert_eq!(settled(&held(10_000), &same, Cause::Due, 9_900), None, "it is due");
        assert_eq!(settled(&held(13_600), &same, Cause::Due, 9_900), Some(Renewed::Newer));
        // Whoever saw it refused, or asks by hand, asks all the same.
        assert_eq!(settled(&held(13_600), &same, Cause::Refused, 9_900), None);
        assert_eq!(settled(&held(13_600), &same, Cause::Hand, 9_900), None);
    }
}
