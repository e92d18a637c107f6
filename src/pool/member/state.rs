//! How an account stands, for whoever asks from outside the pool.

use std::sync::Arc;
use std::time::Duration;

use super::super::facts::platform_of;
use super::super::ledger::Left;
use super::super::limit::Now;
use super::super::refusal::Why;
use super::Seat;
use crate::ids::{AccountId, PlatformName, TenantId};

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

impl Seat {
    /// What there is to tell about it.
    pub(in crate::pool) fn state(&self, is_leaving: bool, now: &Now<'_>) -> AccountState {
        let account = self.account.load();
        let mut state = self.member.look();
        let rest = state.health.closed(now.moment);
        let breaker = match rest {
            Some((Why::Broken, wait)) if wait.is_zero() => Breaker::HalfOpen,
            Some((Why::Broken, _)) => Breaker::Open,
            _ => Breaker::Closed,
        };
        AccountState {
            id: account.id.clone(),
            platform: platform_of(&account).clone(),
            owner: account.owner.clone(),
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
