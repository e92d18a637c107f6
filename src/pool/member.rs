//! One account in the pool: its limits and its health behind one small lock. Why a lock and not atomics: six limits, two
//! gates and a slot must change together or not at all; the lock is the account's own, is held for some fifty nanoseconds
//! and never across anything that waits, so two requests meet in it only when they want the same account.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::dice::{Dice, hash_of};
use super::facts::{platform_of, zone_of};
use super::gate::Event;
use super::health::{Health, Probes, Sign};
use super::lease::Authority;
use super::ledger::{Hold, Ledger, Left, Spent};
use super::limit::Now;
use super::refusal::{Refusal, Why};
use super::settings::Account;
use super::weather::Weather;
use crate::clock::{Clock, Moment};
use crate::ids::{AccountId, PlatformName, TenantId};
use crate::platform::auth::Credential;
use crate::platform::judge::Scope;

/// What every account needs and none owns.
#[derive(Debug)]
pub(super) struct Core {
    pub clock: Clock,
    pub dice: Dice,
    pub authority: Box<dyn Authority>,
    /// Reservations that were dropped without a settlement.
    pub dropped: AtomicU64,
    /// Settlements by estimate.
    pub estimated: AtomicU64,
}

/// An account as configured, with what outlives its configuration.
#[derive(Debug)]
pub(super) struct Seat {
    pub account: Arc<Account>,
    pub member: Arc<Member>,
    pub weather: Arc<Weather>,
    pub core: Arc<Core>,
}

/// What is known of an account, kept over reloads.
#[derive(Debug)]
pub(super) struct Member {
    pub id: AccountId,
    pub hash: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    is_on: bool,
    last_taken: Moment,
    health: Health,
    ledger: Ledger,
}

/// What a choice compares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Score {
    /// Remaining part of the scarcest limit, 0 to 1.
    pub headroom: f64,
    pub in_flight: u64,
    pub last_taken: Moment,
}

/// What a successful try gives.
#[derive(Debug)]
pub(super) struct Taken {
    pub hold: Hold,
    pub probes: Probes,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub spent: Spent,
    pub sign: Ended,
}

/// What its end says; as [`Sign`], but a rest until tomorrow is still to be worked out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    Sign(Sign),
    ExhaustedUntil { scope: Scope, hint: Option<Duration> },
}

/// One account, for metrics and for the admin's table. Never a credential.
#[derive(Clone, Debug)]
pub struct AccountState {
    pub id: AccountId,
    pub platform: PlatformName,
    pub owner: Option<TenantId>,
    /// Requests under way.
    pub in_flight: u64,
    pub is_enabled: bool,
    /// Its credential is no longer accepted.
    pub is_expired: bool,
    /// No longer configured; gone once nothing is under way.
    pub is_leaving: bool,
    pub breaker: Breaker,
    /// Why it rests as a whole, and how long until it is looked at again (zero: the next request is the probe).
    pub rest: Option<(Why, Duration)>,
    /// The same for single models.
    pub models: Vec<(Arc<str>, Why, Duration)>,
    /// What is left of each limit.
    pub left: Vec<Left>,
}

/// State of an account's circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Breaker {
    Closed,
    Open,
    /// Waiting for its probe, or for the probe's answer.
    HalfOpen,
}

impl Member {
    pub(super) fn new(account: &Account) -> Self {
        let state = State {
            is_on: account.is_enabled,
            last_taken: Moment::START,
            health: Health::default(),
            ledger: Ledger::new(&account.limits, zone_of(account)),
        };
        Self { id: account.id.clone(), hash: hash_of(account.id.as_str()), state: Mutex::new(state) }
    }

    /// Takes a new configuration over. A switch thrown by hand stays, unless the configuration's own was changed too.
    pub(super) fn reconfigure(&self, old: &Account, new: &Account) {
        let mut state = self.state.lock();
        state.ledger.set_limits(&new.limits, zone_of(new));
        if old.is_enabled != new.is_enabled {
            state.is_on = new.is_enabled;
        }
        if !is_same_credential(&old.credential, &new.credential) {
            state.health.forget();
        }
    }

    /// How it would compare, if it could carry the request now.
    pub(super) fn score(&self, model: &str, tokens: u64, now: &Now<'_>) -> Result<Score, Refusal> {
        let mut state = self.state.lock();
        state.check(model, now)?;
        state.ledger.fit(tokens, now)?;
        let (in_flight, headroom) = (state.ledger.in_flight(), state.ledger.headroom(now.moment));
        Ok(Score { headroom, in_flight, last_taken: state.last_taken })
    }

    /// Checks and reserves in one step.
    pub(super) fn take(
        &self,
        model: &str,
        tokens: u64,
        now: &Now<'_>,
        core: &Core,
    ) -> Result<Taken, Refusal> {
        let mut state = self.state.lock();
        let probes = state.check(model, now)?;
        let hold = state.ledger.reserve(tokens, now, &self.id, &*core.authority)?;
        state.health.begin(probes, model, now.moment);
        state.last_taken = now.moment;
        Ok(Taken { hold, probes })
    }

    /// Sets aside `more` tokens for what is under way; false where they cannot be had now.
    pub(super) fn extend(&self, hold: &mut Hold, more: u64, now: &Now<'_>, core: &Core) -> bool {
        self.state.lock().ledger.extend(hold, more, now, &self.id, &*core.authority)
    }

    /// The platform took the request; its end is still to come.
    pub(super) fn accepted(&self, probes: Probes, model: &Arc<str>, event: Event) {
        self.state.lock().health.note(Sign::Accepted, probes, model, event);
    }

    /// Settles and draws the conclusions.
    pub(super) fn end(
        &self,
        hold: &Hold,
        ending: Ending,
        probes: Probes,
        model: &Arc<str>,
        event: Event,
        now: &Now<'_>,
    ) {
        let mut state = self.state.lock();
        state.ledger.settle(hold, ending.spent, now);
        let sign = match ending.sign {
            Ended::Sign(sign) => sign,
            Ended::ExhaustedUntil { scope, hint } => {
                let rest = hint.unwrap_or_else(|| state.ledger.until_tomorrow(now));
                Sign::Exhausted { scope, rest }
            }
        };
        state.health.note(sign, probes, model, event);
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.state.lock().ledger.in_flight()
    }

    pub(super) fn is_on(&self) -> bool {
        self.state.lock().is_on
    }

    pub(super) fn switch(&self, is_on: bool) {
        self.state.lock().is_on = is_on;
    }

    pub(super) fn forget_failures(&self) {
        self.state.lock().health.forget();
    }
}

impl State {
    fn check(&self, model: &str, now: &Now<'_>) -> Result<Probes, Refusal> {
        if self.is_on { self.health.check(model, now.moment) } else { Err(Refusal::never(Why::Disabled)) }
    }
}

impl Seat {
    /// What there is to tell about it.
    pub(super) fn state(&self, is_leaving: bool, now: &Now<'_>) -> AccountState {
        let mut state = self.member.state.lock();
        let rest = state.health.closed(now.moment);
        let breaker = match rest {
            Some((Why::Broken, wait)) if wait.is_zero() => Breaker::HalfOpen,
            Some((Why::Broken, _)) => Breaker::Open,
            _ => Breaker::Closed,
        };
        AccountState {
            id: self.account.id.clone(),
            platform: platform_of(&self.account).clone(),
            owner: self.account.owner.clone(),
            in_flight: state.ledger.in_flight(),
            is_enabled: state.is_on,
            is_expired: state.health.is_expired(),
            is_leaving,
            breaker,
            rest,
            models: state.health.closed_models(now.moment),
            left: state.ledger.left(now),
        }
    }
}

impl Core {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether an account still proves itself with the same. Where we cannot tell it counts as new: that costs one try.
fn is_same_credential(old: &Credential, new: &Credential) -> bool {
    match (old, new) {
        (Credential::ApiKey(old), Credential::ApiKey(new)) => old == new,
        (
            Credential::KeyPair { access_key: old_access, secret_key: old_secret },
            Credential::KeyPair { access_key, secret_key },
        ) => old_access == access_key && old_secret == secret_key,
        (
            Credential::App { app_id: old_id, api_key: old_key, api_secret: old_secret },
            Credential::App { app_id, api_key, api_secret },
        ) => old_id == app_id && old_key == api_key && old_secret == api_secret,
        (Credential::None, Credential::None) => true,
        _ => false,
    }
}
