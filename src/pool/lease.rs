//! What a replica may spend without asking: a lease, and the authority that grants it. Why here already, where the only
//! authority grants everything at once: the hot path draws from leases in memory whoever grants them, so a durable store
//! or a server shared by many replicas changes who answers [`Authority::extend`], not how an account is taken.

use std::fmt::Debug;

use crate::clock::Moment;
use crate::ids::AccountId;

/// What is counted: one for each limit that an account may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Requests per minute.
    Requests,
    /// Tokens per minute.
    Tokens,
    /// Requests under way.
    Slots,
    /// Requests per day.
    DailyRequests,
    /// Tokens per day.
    DailyTokens,
    /// Tokens per month.
    MonthlyTokens,
}

impl Dimension {
    /// The name of the limit as in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Dimension::Requests => "rpm",
            Dimension::Tokens => "tpm",
            Dimension::Slots => "concurrency",
            Dimension::DailyRequests => "daily_requests",
            Dimension::DailyTokens => "daily_tokens",
            Dimension::MonthlyTokens => "monthly_budget",
        }
    }

    /// What one request of `tokens` costs in it.
    pub(super) const fn cost(self, tokens: u64) -> u64 {
        match self {
            Dimension::Tokens | Dimension::DailyTokens | Dimension::MonthlyTokens => tokens,
            Dimension::Requests | Dimension::Slots | Dimension::DailyRequests => 1,
        }
    }
}

/// A chunk of one limit of one account, granted to this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which lease this is: what an older one lent out does not come back into it.
    pub serial: u32,
    /// What may still be drawn.
    pub units: u64,
    /// When it ends. What was not drawn by then is the authority's again.
    pub until: Moment,
}

impl Lease {
    /// The whole limit, for good: the limit itself is then the only bound.
    pub const EVERYTHING: Lease = Lease { serial: 0, units: u64::MAX, until: Moment::from_nanos(u64::MAX) };
    /// Nothing: what an account begins with before the authority was asked.
    pub const NOTHING: Lease = Lease { serial: 0, units: 0, until: Moment::START };

    fn covers(&self, amount: u64, now: Moment) -> bool {
        self.units >= amount && now < self.until
    }

    /// Draws `amount`; asks the authority first where the lease does not cover it. False where it still does not.
    pub(super) fn secure(&mut self, of: Leased<'_>, amount: u64, now: Moment) -> bool {
        if !self.covers(amount, now) {
            *self = of.authority.extend(of.account, of.dimension, *self, amount, now);
        }
        self.covers(amount, now)
    }

    pub(super) fn draw(&mut self, amount: u64) -> u32 {
        if self.units != u64::MAX {
            self.units = self.units.saturating_sub(amount);
        }
        self.serial
    }

    /// Takes back what was drawn from the lease `serial` and not used; or draws what was used beyond it.
    pub(super) fn settle(&mut self, serial: u32, drawn: u64, used: u64) {
        if self.serial != serial || self.units == u64::MAX {
            return;
        }
        self.units = self.units.saturating_add(drawn).saturating_sub(used);
    }
}

/// Which limit a lease belongs to and whom to ask for more.
#[derive(Clone, Copy)]
pub(super) struct Leased<'a> {
    pub authority: &'a dyn Authority,
    pub account: &'a AccountId,
    pub dimension: Dimension,
}

/// Whoever grants leases.
pub trait Authority: Send + Sync + Debug {
    /// The lease to go on with, in exchange for `held`, of which at least `need` units are wanted now. Called with an
    /// account's lock held: it must not wait. An authority that lies beyond a network or a disk answers with what it has
    /// fetched ahead (or with `held`, unchanged) and fetches more in the background.
    fn extend(&self, account: &AccountId, dimension: Dimension, held: Lease, need: u64, now: Moment)
    -> Lease;
}

/// The authority of a single process without a store: every limit belongs to it whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct InMemory;

impl Authority for InMemory {
    fn extend(&self, _: &AccountId, _: Dimension, _: Lease, _: u64, _: Moment) -> Lease {
        Lease::EVERYTHING
    }
}
