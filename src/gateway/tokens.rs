//! Short-lived upstream tokens of accounts whose credential must first be exchanged (Baidu's AK/SK, Volcengine's). Why a
//! desk: a thousand requests that find the token expired must make one exchange, and the others wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Moment};
use crate::ids::AccountId;
use crate::platform::auth::{Credential, Token};

/// Who can get a newer credential for an account than one that its platform has just refused.
#[async_trait::async_trait]
pub trait Renew: Send + Sync + std::fmt::Debug {
    /// A newer one than `stale`, whoever got it; `None` where there is none to be had now.
    async fn newer(&self, account: &AccountId, stale: &Credential) -> Option<Credential>;

    /// The platform has refused that newer one, too: asking for another is of no use for a while.
    fn was_futile(&self, account: &AccountId);
}

/// Whose token: an account's, or an account's for one model, and by which credential of its own: what was bought with another one is
/// no longer this account's.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    pub account: &'a AccountId,
    pub model: Option<&'a str>,
    pub credential: &'a Credential,
}

/// Tokens by account.
#[derive(Debug)]
pub struct TokenDesk {
    slots: Mutex<Slots>,
    clock: Clock,
}

/// By account, and by model.
#[derive(Debug, Default)]
struct Slots {
    all: HashMap<(AccountId, Option<String>), Arc<Slot>>,
    /// How many there may be before those are forgotten that nobody has asked for lately.
    most: usize,
}

/// One account's token. The async lock is what makes the others wait.
#[derive(Debug, Default)]
struct Slot {
    token: tokio::sync::Mutex<Kept>,
    used: Mutex<Option<Moment>>,
}

#[derive(Debug, Default)]
struct Kept {
    token: Option<Arc<Token>>,
    /// By what the token was obtained, or was not.
    credential: Option<Credential>,
    /// When the token was obtained, or the last attempt failed.
    since: Option<Moment>,
    failed: bool,
}

/// A token this close to its end is renewed first.
const MARGIN: Duration = Duration::from_secs(60);

/// After a failed exchange, and between two forced ones, at least this long.
const PAUSE: Duration = Duration::from_secs(5);

/// What nobody has asked for in so long is forgotten, when there is much of it. Callers choose names of models.
const IDLE: Duration = Duration::from_secs(3600);

/// So many are never looked through.
const FEW: usize = 1024;

impl Slots {
    /// The slot of that name, as of `now`.
    fn of(&mut self, name: (AccountId, Option<String>), now: Moment) -> Arc<Slot> {
        if self.all.len() >= self.most.max(FEW) {
            let is_fresh = |slot: &Slot| slot.used.lock().is_some_and(|used| now.since(used) < IDLE);
            self.all.retain(|_, slot| Arc::strong_count(slot) > 1 || is_fresh(slot));
            // Where all are in use: looked through again when there are twice as many.
            self.most = self.all.len() * 2;
        }
        let slot = Arc::clone(self.all.entry(name).or_default());
        *slot.used.lock() = Some(now);
        slot
    }
}

impl TokenDesk {
    /// An empty desk.
    pub fn new(clock: Clock) -> Self {
        Self { slots: Mutex::default(), clock }
    }

    /// The token of an account (for a model, where its tokens are good for one only): the one at hand while it is good, else what
    /// `exchange` brings. `stale` is a token that the platform has just refused: it is not given again.
    ///
    /// # Errors
    /// What `exchange` said, or `None` where it failed a moment ago and is not tried again yet.
    pub async fn token<E, F>(
        &self,
        holder: Holder<'_>,
        stale: Option<&Arc<Token>>,
        exchange: impl FnOnce() -> F,
    ) -> Result<Arc<Token>, Option<E>>
    where
        F: Future<Output = Result<Token, E>>,
    {
        let name = (holder.account.clone(), holder.model.map(str::to_owned));
        let slot = self.slots.lock().of(name, self.clock.now());
        let mut kept = slot.token.lock().await;
        if kept.credential.as_ref() != Some(holder.credential) {
            *kept = Kept { credential: Some(holder.credential.clone()), ..Kept::default() };
        }
        let now = self.clock.now();
        let rested = kept.since.is_none_or(|since| now.since(since) >= PAUSE);
        if let Some(token) = &kept.token {
            let margin_millis = u64::try_from(MARGIN.as_millis()).unwrap_or(0);
            let good = token.expires_at_millis > self.clock.wall_millis().saturating_add(margin_millis);
            let refused = stale.is_some_and(|stale| Arc::ptr_eq(stale, token));
            if good && (!refused || !rested) {
                return Ok(Arc::clone(token));
            }
        }
        if kept.failed && !rested {
            return Err(None);
        }
        let exchanged = exchange().await;
        kept.since = Some(self.clock.now());
        kept.failed = exchanged.is_err();
        let token = Arc::new(exchanged.map_err(Some)?);
        kept.token = Some(Arc::clone(&token));
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn pair(secret: &str) -> Credential {
        Credential::KeyPair { access_key: Secret::new("ak"), secret_key: Secret::new(secret) }
    }

    async fn ask(desk: &TokenDesk, clock: &Clock, model: Option<&str>, by: &Credential) -> Option<String> {
        let account = AccountId::from("acc_1");
        let holder = Holder { account: &account, model, credential: by };
        let secret = match by {
            Credential::KeyPair { secret_key, .. } => format!("of {}", secret_key.expose()),
            _ => String::new(),
        };
        let expires_at_millis = clock.wall_millis() + 30 * 86_400_000;
        let exchange = async || match secret.as_str() {
            "of wrong" => Err("refused"),
            _ => Ok(Token { secret: Secret::new(secret.as_str()), expires_at_millis }),
        };
        let token = desk.token(holder, None, exchange).await.ok()?;
        Some(token.secret.expose().to_owned())
    }

    #[tokio::test]
    async fn another_credential_is_another_token() {
        let (clock, _hand) = Clock::manual(0);
        let desk = TokenDesk::new(clock.clone());
        assert_eq!(ask(&desk, &clock, None, &pair("leaked")).await.as_deref(), Some("of leaked"));
        assert_eq!(ask(&desk, &clock, None, &pair("new")).await.as_deref(), Some("of new"));
        // A credential that was wrong holds up none that is right.
        assert_eq!(ask(&desk, &clock, None, &pair("wrong")).await, None);
        assert_eq!(ask(&desk, &clock, None, &pair("new")).await.as_deref(), Some("of new"));
    }

    #[tokio::test]
    async fn names_that_callers_make_up_are_forgotten() {
        let (clock, hand) = Clock::manual(0);
        let desk = TokenDesk::new(clock.clone());
        for round in 0..4 {
            for number in 0..FEW {
                ask(&desk, &clock, Some(&format!("model-{round}-{number}")), &pair("k")).await;
            }
            hand.advance(IDLE);
        }
        let count = desk.slots.lock().all.len();
        assert!(count <= 2 * FEW, "{count}");
    }
}
