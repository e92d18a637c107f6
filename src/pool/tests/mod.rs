//! The pool as a whole, held against what `pool.md` promises. One file for each promise.

mod choice;
mod leases;
mod model;
mod quota;
mod reload;
mod simulation;
mod speed;
mod verdicts;

use std::sync::Arc;
use std::time::Duration;

use super::settings::{Account, OnOutage, Settings, Strategy};
use super::*;
use crate::clock::Hand;
use crate::limits::Limits;
use crate::platform::auth::Credential;
use crate::platform::judge::{Judgement, Scope, Verdict};
use crate::platform::profile::Platform;
use crate::secret::Secret;

/// 2026-11-21 12:00:00 UTC.
pub(super) const NOON: u64 = 1_795_262_400_000;

pub(super) fn platform(name: &str) -> Arc<Platform> {
    let row = serde_json::json!({
        "name": name,
        "base_url": "http://127.0.0.1:1",
        "dialect": "openai",
        "quota": {"timezone": "UTC"},
        "models": ["m", "n"],
    });
    Arc::new(Platform::compile(serde_json::from_value(row).expect("a row")).expect("a platform"))
}

pub(super) fn account(id: &str) -> Account {
    Account {
        model_limits: Vec::new(),
        id: AccountId::from(id),
        platform: platform("qwen"),
        credential: Credential::ApiKey(Secret::new(format!("sk-{id}"))),
        owner: None,
        tenants: Vec::new(),
        models: Vec::new(),
        limits: Limits::default(),
        weight: 1,
        priority: 0,
        is_enabled: true,
        consent: None,
        last_used: Default::default(),
    }
}

pub(super) fn accounts(count: usize) -> Vec<Account> {
    (0..count).map(|number| account(&format!("a{number}"))).collect()
}

pub(super) fn limited(id: &str, limits: Limits) -> Account {
    Account { limits, ..account(id) }
}

pub(super) fn settings() -> Settings {
    Settings { lease_ttl: Duration::from_secs(1), on_outage: OnOutage::FailClosed }
}

/// A pool with a clock that is turned by hand, and a caller who wants something of it.
pub(super) struct World {
    pub pool: Pool,
    pub hand: Arc<Hand>,
    pub tenant: TenantId,
    pub platform: PlatformName,
    pub tokens: u64,
    pub strategy: Strategy,
}

impl World {
    pub fn new(accounts: Vec<Account>) -> Self {
        let (clock, hand) = Clock::manual(NOON);
        let pool = Pool::new(settings(), clock, Some(1));
        pool.replace(accounts);
        let (tenant, platform) = (TenantId::from("t"), PlatformName::from("qwen"));
        Self { pool, hand, tenant, platform, tokens: 100, strategy: Strategy::Headroom }
    }

    pub fn want(&self) -> Want<'_> {
        Want {
            tenant: &self.tenant,
            platform: &self.platform,
            model: "m",
            tokens: self.tokens,
            strategy: self.strategy,
            affinity: None,
            tried: &[],
        }
    }

    pub fn take(&self) -> Result<Reservation, Refusal> {
        self.pool.take(&self.want())
    }

    pub fn take_for(&self, model: &str) -> Result<Reservation, Refusal> {
        self.pool.take(&Want { model, ..self.want() })
    }

    pub fn refusal(&self) -> (Why, Option<Duration>) {
        let refusal = self.take().map(|taken| taken.account().id.clone()).unwrap_err();
        (refusal.why, refusal.retry_after)
    }

    pub fn pass(&self, length: Duration) {
        self.hand.advance(length);
    }

    pub fn state(&self, id: &str) -> AccountState {
        self.pool.states().into_iter().find(|state| state.id.as_str() == id).unwrap()
    }

    pub fn left(&self, id: &str, dimension: Dimension) -> u64 {
        self.state(id).left.iter().find(|left| left.dimension == dimension).unwrap().units
    }
}

/// An authority that never answers: for tests that carry bids by hand.
#[derive(Debug)]
pub(super) struct Nobody;

#[async_trait::async_trait]
impl Authority for Nobody {
    async fn carry_out(&self, _: &ReplicaId, _: &[bid::Bid]) -> Result<Vec<bid::Outcome>, Outage> {
        Err(Outage("nobody is here".to_owned()))
    }
}

pub(super) fn used(tokens: u64) -> Used {
    Used { tokens, estimated: false }
}

pub(super) fn judged(verdict: Verdict, scope: Scope, retry_after: Option<u64>) -> Judgement {
    Judgement {
        verdict,
        scope,
        retry_after: retry_after.map(Duration::from_secs),
        message: String::new(),
        code: None,
        param: None,
        status: 429,
    }
}

pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
