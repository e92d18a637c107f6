//! What the operator may say about accounts and about choosing among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;

use crate::ids::{AccountId, TenantId};
use crate::limits::Limits;
use crate::platform::auth::Credential;
use crate::platform::profile::Platform;

/// One upstream credential, as configured or onboarded.
#[derive(Clone, Debug)]
pub struct Account {
    pub id: AccountId,
    /// The platform's row, with this account's own `base_url` applied where it has one.
    pub platform: Arc<Platform>,
    pub credential: Credential,
    /// Whose consent the credential is a token of, and of when. Another token of the same consent is no other account at the
    /// platform: what it was told to wait for still holds.
    pub consent: Option<Arc<str>>,
    /// Who owns it: sees its id in answers and may manage it. `None`: the operator's.
    pub owner: Option<TenantId>,
    /// Tenants that it may carry; empty: every tenant.
    pub tenants: Vec<TenantId>,
    /// The platform's models that it serves, as (name in routes, the account's own id for it); empty: all of the platform's.
    pub models: Vec<(String, String)>,
    pub limits: Limits,
    /// Further limits for requests for one model, by its name in routes.
    pub model_limits: Vec<(Arc<str>, Limits)>,
    /// Share under `weighted`, relative to the others; at least 1.
    pub weight: u32,
    /// Under `priority`: the lowest number is used first.
    pub priority: u32,
    /// Switched off by hand.
    pub is_enabled: bool,
    /// When it last carried something.
    pub last_used: LastUsed,
}

/// When an account was last chosen, shared by all copies of it and kept over reloads.
#[derive(Clone, Debug, Default)]
pub struct LastUsed(Arc<AtomicU64>);

impl LastUsed {
    /// As of `seconds` since 1970; 0: never.
    pub fn at(seconds: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seconds)))
    }

    /// Notes a use, in seconds since 1970.
    pub fn note(&self, seconds: u64) {
        // Most requests come within the second of another one: the line is not written to for them.
        if self.0.load(Ordering::Relaxed) < seconds {
            self.0.store(seconds, Ordering::Relaxed);
        }
    }

    /// Seconds since 1970; `None`: never.
    pub fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|seconds| *seconds > 0)
    }
}

/// How an account is chosen among the eligible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The one with the largest remaining fraction of its scarcest limit.
    #[default]
    Headroom,
    RoundRobin,
    LeastInFlight,
    Weighted,
    Priority,
    /// The same caller and conversation keep their account while it is healthy.
    Sticky,
}

/// Settings of the pool as a whole.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a lease lives without renewal.
    pub lease_ttl: Duration,
    pub on_outage: OnOutage,
}

/// What to do while the authority cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOutage {
    /// `503 pool_unavailable` once the leases have run out.
    #[default]
    FailClosed,
    /// Keep going, counting locally.
    FailOpen,
}
