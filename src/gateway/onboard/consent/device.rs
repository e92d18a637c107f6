//! Accounts by a code that is typed in elsewhere (RFC 8628). Nobody comes back: the provider is asked until the person has agreed.
//! One process asks, at the pace that the provider wants: whoever is about to ask says so in the row first, and whoever finds that said
//! waits. A process that dies is followed by another as soon as its question has had its time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use url::Url;

use super::places::Places;
use super::{
    AccountRecord, Beginner, ConsentError, Consents, Initiated, Login, MAX_WAITING, OnboardError, Wish,
    interrupted,
};
use crate::ids::AccountId;
use crate::oauth::{DeviceCode, OAuthError, Pending, PendingError, Polled, Refusal};
use crate::secret::Secret;
use crate::store::{self, Expect, Name, Row, StoreError, Write};
use crate::vault::{Sealed, Vault};
use crate::web_url::{has_user, is_safe};

pub(super) const DEVICES: Name = "device_sign_ins";

/// What the vault binds them to.
const KIND: &str = "device sign-in";

/// A question may take so long, on top of the pace.
const QUESTION: u64 = 15_000;

/// Longest pause between two questions, and longest life of a code, in seconds.
const MAX_PAUSE: u64 = 60;
pub(super) const MAX_LIFE: u64 = 3600;

/// How long it is told what became of a sign-in, in seconds after its end.
const TOLD_FOR: u64 = 600;

/// Questions under way at once.
const AT_ONCE: usize = 8;

/// What is to be shown to whoever began.
#[derive(Clone, Debug)]
pub struct DeviceShown {
    pub state: Secret,
    pub user_code: String,
    pub verification_uri: String,
    /// The same with the code in it, where the provider has that.
    pub complete: Option<String>,
    /// Seconds between two looks.
    pub interval: u64,
    /// Seconds until it ends.
    pub left: u64,
}

/// How a sign-in stands.
#[derive(Clone, Debug)]
pub enum Standing {
    Pending {
        /// Seconds between two looks.
        interval: u64,
        /// Seconds until it ends.
        left: u64,
    },
    /// The account was added; `None`: and is gone since.
    Done(Option<Box<AccountRecord>>),
    /// The person said no.
    Denied,
    /// Nobody agreed in time.
    Expired,
    /// The sentence is for whoever began.
    Failed(String),
}

/// What became of a sign-in, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Done(AccountId),
    Denied,
    Expired,
    Failed(String),
}

/// What is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    beginner: Beginner,
    /// Seconds since 1970.
    pub(super) ends: u64,
    /// Milliseconds since 1970 before which nobody asks.
    next: u64,
    /// Milliseconds between two questions.
    pace: u64,
    outcome: Option<Outcome>,
    what: Sealed,
}

/// What of it is nobody's to see.
#[derive(Serialize, Deserialize)]
struct Hidden {
    login: Login,
    device_code: String,
    verifier: Option<String>,
}

/// Those that are not over, as last read.
#[derive(Debug, Default)]
pub(super) struct Watch {
    generation: u64,
    /// Id, and when it is due.
    waiting: Vec<(String, u64)>,
}

impl Kept {
    /// Whether somebody may still agree.
    pub(super) fn is_under_way(&self, now: u64) -> bool {
        self.outcome.is_none() && self.ends > now
    }

    fn put(&self, id: &str, expect: Expect) -> Result<Write, StoreError> {
        Write::put(DEVICES, id, self, expect)
    }

    fn hidden(&self, id: &str, vault: &Vault) -> Option<Hidden> {
        serde_json::from_str(vault.open(KIND, id, &self.what).ok()?.expose()).ok()
    }

    /// Whether somebody may ask at `now`. A moment that is further away than any pause is another machine's wrong clock.
    fn is_due(next: u64, now: u64) -> bool {
        next <= now || next > now + MAX_PAUSE * 1000 + 2 * QUESTION
    }
}

impl Consents {
    pub(super) fn places(&self) -> Places<'_> {
        Places::new(&self.onboard.records, &self.onboard.gateway.clock)
    }

    /// Asks the provider for a code, and keeps what is needed to ask what became of it. Whoever wants it may leave: what the provider
    /// has given counts.
    pub(super) async fn begin_device(self: &Arc<Self>, wish: Wish) -> Result<Initiated, ConsentError> {
        let consents = Arc::clone(self);
        let begun = self.home.begin(async move { consents.begin_device_here(wish).await });
        begun.await.unwrap_or_else(|_| Err(ConsentError::Provider(interrupted())))
    }

    async fn begin_device_here(&self, wish: Wish) -> Result<Initiated, ConsentError> {
        let key = wish.login.beginner.key();
        let state = Pending::fresh(&key, None).state;
        let id = Pending::row_of(state.expose());
        self.take_place(&key, &id).await?;
        let (kept, shown) = match self.ask_for_code(wish, state, &id).await {
            Ok(given) => given,
            Err(error) => {
                self.places().leave(&Pending::owner_of(&key), &id).await;
                return Err(error);
            }
        };
        // A process that was asleep for long may have lost it meanwhile.
        self.take_place(&key, &id).await?;
        let put = kept.put(&id, Expect::Absent).map_err(PendingError::from)?;
        self.onboard.records.commit(vec![put]).await.map_err(PendingError::from)?;
        Ok(Initiated::Device(shown))
    }

    /// Takes a place for the sign-in that is to be kept under `id`; it may be taken already.
    async fn take_place(&self, key: &str, id: &str) -> Result<(), ConsentError> {
        let (codes, first) = self.pending.waiting(key).await.map_err(PendingError::from)?;
        let most = MAX_WAITING.saturating_sub(codes);
        let taken = self.places().take(&Pending::owner_of(key), id, most).await;
        taken.map_err(PendingError::from)?.map_err(|free| {
            let now = self.onboard.gateway.clock.wall_seconds();
            let first = if codes > 0 { first.min(free) } else { free };
            ConsentError::TooMany { wait: first.saturating_sub(now).max(1) }
        })
    }

    /// What is to be kept under `id`, and what is to be shown.
    async fn ask_for_code(
        &self,
        wish: Wish,
        state: Secret,
        id: &str,
    ) -> Result<(Kept, DeviceShown), ConsentError> {
        let Wish { provider, client, login, .. } = wish;
        let code = self.engine.device_code(&provider, &client).await.map_err(ConsentError::Provider)?;
        let page = page(&code.verification_uri).ok_or_else(|| {
            ConsentError::Provider(OAuthError::Nonsense("its page for the code is none".to_owned()))
        })?;
        let DeviceCode { device_code, user_code, complete, lifetime, interval, verifier, .. } = code;
        let (interval, left) = (interval.as_secs().clamp(1, MAX_PAUSE), lifetime.as_secs().min(MAX_LIFE));
        let beginner = login.beginner.clone();
        let device_code = device_code.expose().to_owned();
        let verifier = verifier.map(|verifier| verifier.expose().to_owned());
        let plain = serde_json::to_string(&Hidden { login, device_code, verifier });
        let plain = Secret::new(plain.map_err(|error| PendingError::from(StoreError::record(id, &error)))?);
        let clock = &self.onboard.gateway.clock;
        let kept = Kept {
            beginner,
            ends: clock.wall_seconds() + left,
            next: clock.wall_millis() + interval * 1000,
            pace: interval * 1000,
            outcome: None,
            what: self.onboard.vault().seal(KIND, id, &plain).map_err(PendingError::from)?,
        };
        let complete = complete.as_deref().and_then(self::page);
        let shown = DeviceShown { state, user_code, verification_uri: page, complete, interval, left };
        Ok((kept, shown))
    }

    /// How a sign-in stands that `asker` began. Asks the provider where that is due.
    ///
    /// # Errors
    /// [`ConsentError::NoSuch`], or the store's.
    pub async fn standing(self: &Arc<Self>, asker: &Beginner, state: &str) -> Result<Standing, ConsentError> {
        let id = Pending::row_of(state);
        let read = async || -> Result<Kept, ConsentError> {
            let row = self.onboard.records.get(DEVICES, &id).await.map_err(PendingError::from)?;
            let kept = row.map(|row| row.read::<Kept>()).transpose().map_err(PendingError::from)?;
            kept.filter(|kept| kept.beginner.is(asker)).ok_or(ConsentError::NoSuch)
        };
        read().await?;
        self.ask_about(&id).await.map_err(PendingError::from)?;
        let Kept { outcome, ends, pace, beginner, .. } = read().await?;
        Ok(match outcome {
            None => {
                let left = ends.saturating_sub(self.onboard.gateway.clock.wall_seconds());
                Standing::Pending { interval: pace.div_ceil(1000), left }
            }
            Some(Outcome::Done(account)) => {
                // Another process may have been the one that added it.
                self.onboard.refresh().await.map_err(OnboardError::from)?;
                let listed = self.onboard.one(&beginner.reach(), account.as_str());
                Standing::Done(listed.map(|listed| Box::new(listed.record)))
            }
            Some(Outcome::Denied) => Standing::Denied,
            Some(Outcome::Expired) => Standing::Expired,
            Some(Outcome::Failed(why)) => Standing::Failed(why),
        })
    }

    /// Asks the providers about every sign-in that is due. To be called every second or so.
    ///
    /// # Errors
    /// The store's.
    pub async fn ask_devices(self: &Arc<Self>) -> Result<(), StoreError> {
        let records = &self.onboard.records;
        let generation = records.generation(DEVICES).await?;
        if self.devices.lock().generation != generation {
            let rows = store::all(&**records, DEVICES).await?;
            let waiting = rows.iter().filter_map(|row| {
                let kept = row.read::<Kept>().ok().filter(|kept| kept.outcome.is_none())?;
                Some((row.id.clone(), kept.next))
            });
            *self.devices.lock() = Watch { generation, waiting: waiting.collect() };
        }
        let now = self.onboard.gateway.clock.wall_millis();
        let due: Vec<String> = {
            let watch = self.devices.lock();
            let due = watch.waiting.iter().filter(|(_, next)| Kept::is_due(*next, now));
            due.map(|(id, _)| id.clone()).collect()
        };
        let each = due.into_iter().map(|id| async move { self.ask_about(&id).await });
        let asked: Vec<_> = futures_util::stream::iter(each).buffer_unordered(AT_ONCE).collect().await;
        asked.into_iter().collect()
    }

    /// Asks the provider about one, if it is time and nobody else does. Whoever wants to know may leave: what the provider says can
    /// be what it says once.
    async fn ask_about(self: &Arc<Self>, id: &str) -> Result<(), StoreError> {
        let (consents, id) = (Arc::clone(self), id.to_owned());
        let asked = self.home.begin(async move { consents.ask_about_here(&id).await });
        // A process that goes: another one asks.
        asked.await.unwrap_or(Ok(()))
    }

    async fn ask_about_here(&self, id: &str) -> Result<(), StoreError> {
        let (records, clock) = (&self.onboard.records, &self.onboard.gateway.clock);
        let Some(row) = records.get(DEVICES, id).await? else { return Ok(()) };
        let mut kept = row.read::<Kept>()?;
        let now = clock.wall_millis();
        let is_over = kept.ends <= clock.wall_seconds();
        if kept.outcome.is_some() || !(is_over || Kept::is_due(kept.next, now)) {
            return Ok(());
        }
        kept.next = now + kept.pace + QUESTION;
        let version = match records.commit(vec![kept.put(id, Expect::Version(row.version))?]).await {
            Ok(versions) => versions.first().copied().unwrap_or_default(),
            Err(StoreError::Conflict) => return Ok(()),
            Err(error) => return Err(error),
        };
        if is_over {
            kept.outcome = Some(Outcome::Expired);
        } else {
            match self.asked(&kept, id).await {
                Ok(pause) => {
                    kept.pace =
                        u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).clamp(1000, MAX_PAUSE * 1000);
                    kept.next = clock.wall_millis() + kept.pace;
                }
                Err(outcome) => kept.outcome = Some(outcome),
            }
        }
        match records.commit(vec![kept.put(id, Expect::Version(version))?]).await {
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// One question: a pause until the next one, or the end.
    async fn asked(&self, kept: &Kept, id: &str) -> Result<Duration, Outcome> {
        let failed = |why: &str| Outcome::Failed(why.to_owned());
        let ground = self.onboard.ground();
        let hidden =
            kept.hidden(id, &ground.vault).ok_or_else(|| failed("The vault's key is gone: begin again."))?;
        let Hidden { login, device_code, verifier } = hidden;
        let provider = ground.oauth.provider(&login.provider);
        let provider = provider.ok_or_else(|| failed("The provider is no longer configured."))?;
        let pace = Duration::from_millis(kept.pace);
        let (provider, client) = match self.settled(provider).await {
            Ok(settled) => settled,
            Err(ConsentError::Provider(error)) if error.is_transient() => return Ok(pace),
            Err(error) => return Err(Outcome::Failed(error.to_string())),
        };
        let verifier = verifier.map(Secret::new);
        let device_code = Secret::new(device_code);
        match self.engine.poll(&provider, &client, &device_code, verifier.as_ref(), pace).await {
            Ok(Polled::Pending(pause)) => Ok(pause),
            Ok(Polled::Granted(grant)) => match self.take_in(&provider, &client, &login, &grant).await {
                Ok(record) => Err(Outcome::Done(AccountId::from(record.id.as_str()))),
                Err(error) => {
                    tracing::warn!(%error, "a device's sign-in brought no account");
                    Err(Outcome::Failed(error.to_string()))
                }
            },
            Err(OAuthError::Refused { refusal: Refusal::AccessDenied, .. }) => Err(Outcome::Denied),
            // Some say of a code that is too old that they never knew it.
            Err(OAuthError::Refused { refusal: Refusal::ExpiredToken | Refusal::InvalidGrant, .. }) => {
                Err(Outcome::Expired)
            }
            Err(error) => Err(Outcome::Failed(error.to_string())),
        }
    }

    /// Forgets those of which everything has been told.
    pub(super) async fn sweep_devices(&self) -> Result<(), StoreError> {
        let now = self.onboard.gateway.clock.wall_seconds();
        let is_old = |row: &Row| row.read::<Kept>().map_or(true, |kept| kept.ends + TOLD_FOR <= now);
        store::sweep(&*self.onboard.records, DEVICES, is_old).await?;
        self.places().sweep().await
    }
}

/// A page that a person may be sent to: somebody else's word, which consoles make links of.
fn page(given: &str) -> Option<String> {
    let url = Url::parse(given).ok()?;
    (is_safe(&url) && !has_user(&url)).then(|| url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_sent_to_web_pages_only() {
        assert!(page("https://chat.example/authorize?user_code=A-B").is_some());
        assert!(page("http://127.0.0.1:1/authorize").is_some());
        for bad in [
            "javascript:alert(1)",
            "data:text/html,x",
            "http://evil.example/",
            "https://u:p@evil.example/",
            "//evil.example",
            "file:///etc/passwd",
            "",
        ] {
            assert_eq!(page(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_wrong_clock_stops_nobody_for_ever() {
        assert!(Kept::is_due(1_000, 1_000) && !Kept::is_due(1_001, 1_000) && !Kept::is_due(61_000, 1_000));
        assert!(Kept::is_due(3_600_000, 1_000), "an hour ahead");
    }
}
