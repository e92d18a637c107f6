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

/// Whose token: an account's, or an account's for one model.
type Holder = (AccountId, Option<String>);

/// Tokens by account.
#[derive(Debug)]
pub struct TokenDesk {
    slots: Mutex<HashMap<Holder, Arc<Slot>>>,
    clock: Clock,
}

/// One account's token. The async lock is what makes the others wait.
#[derive(Debug, Default)]
struct Slot {
    token: tokio::sync::Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    token: Option<Arc<Token>>,
    /// When the token was obtained, or the last attempt failed.
    since: Option<Moment>,
    failed: bool,
}

/// A token this close to its end is renewed first.
const MARGIN: Duration = Duration::from_secs(60);

/// After a failed exchange, and between two forced ones, at least this long.
const PAUSE: Duration = Duration::from_secs(5);

impl TokenDesk {
    /// An empty desk.
    pub fn new(clock: Clock) -> Self {
        Self { slots: Mutex::default(), clock }
    }

    /// The token of `account` (for `model`, where its tokens are good for one only): the one at hand while it is good, else what `exchange` brings. `stale` is a token that
    /// the platform has just refused: it is not given again.
    ///
    /// # Errors
    /// What `exchange` said, or `None` where it failed a moment ago and is not tried again yet.
    pub async fn token<E, F>(
        &self,
        account: &AccountId,
        model: Option<&str>,
        stale: Option<&Arc<Token>>,
        exchange: impl FnOnce() -> F,
    ) -> Result<Arc<Token>, Option<E>>
    where
        F: Future<Output = Result<Token, E>>,
    {
        let slot =
            Arc::clone(self.slots.lock().entry((account.clone(), model.map(str::to_owned))).or_default());
        let mut kept = slot.token.lock().await;
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
