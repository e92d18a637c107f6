//! All limits of one account, checked and reserved together. Why together: a request that gets its tokens but not its
//! slot must get neither, and whoever looks in between must not see half of it. The caller holds the account's lock.

use jiff::tz::TimeZone;
use smallvec::SmallVec;

use super::lease::{Authority, Dimension, Lease, Leased};
use super::limit::budget::Budget;
use super::limit::calendar::Span;
use super::limit::rate::Rate;
use super::limit::{Fit, Now};
use super::refusal::{Refusal, SOON, Why};
use crate::clock::Moment;
use crate::ids::AccountId;
use crate::limits::Limits;

/// What is used of each limit.
#[derive(Debug)]
pub(super) struct Ledger {
    zone: TimeZone,
    in_flight: u64,
    meters: Vec<Meter>,
}

/// One limit, its count, and the lease that it may draw from.
#[derive(Debug)]
struct Meter {
    dimension: Dimension,
    gauge: Gauge,
    lease: Lease,
}

#[derive(Debug)]
enum Gauge {
    Rate(Rate),
    Budget(Budget),
    /// Counted by the ledger itself, so that a limit which comes with a reload knows what is under way.
    Slots(u64),
}

/// What one attempt has set aside.
#[derive(Debug)]
pub(super) struct Hold {
    tokens: u64,
    at: Moment,
    marks: SmallVec<[Mark; 6]>,
}

/// Where in a meter something was set aside: the day it belongs to and the lease that it was drawn from.
#[derive(Clone, Copy, Debug)]
struct Mark {
    dimension: Dimension,
    period: i32,
    lease: u32,
}

/// What an attempt has really used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    pub tokens: u64,
    /// 1, or 0 where nothing reached the platform.
    pub requests: u64,
}

/// How much is left of one limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    /// The limit.
    pub dimension: Dimension,
    /// What a request could get now.
    pub units: u64,
    /// Of so much (for a rate: its burst).
    pub of: u64,
}

impl Left {
    /// The part that is left, 0 to 1.
    pub fn fraction(&self) -> f64 {
        if self.of == 0 { 0.0 } else { self.units as f64 / self.of as f64 }
    }
}

impl Hold {
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }
}

impl Ledger {
    pub(super) fn new(limits: &Limits, zone: TimeZone) -> Self {
        let mut ledger = Self { zone: TimeZone::UTC, in_flight: 0, meters: Vec::new() };
        ledger.set_limits(limits, zone);
        ledger
    }

    /// Takes new limits over. What was counted under a limit that stays is kept.
    pub(super) fn set_limits(&mut self, limits: &Limits, zone: TimeZone) {
        self.zone = zone;
        let mut old = std::mem::take(&mut self.meters);
        for (dimension, limit) in each_limit(limits) {
            let meter = match old.iter().position(|meter| meter.dimension == dimension) {
                Some(place) => old.swap_remove(place),
                None => Meter { dimension, gauge: fresh(dimension), lease: Lease::NOTHING },
            };
            self.meters.push(meter.with(limit, limits));
        }
    }

    /// Whether `tokens` and a slot would fit now. Says nothing about leases.
    pub(super) fn fit(&mut self, tokens: u64, now: &Now<'_>) -> Result<(), Refusal> {
        let (zone, in_flight) = (&self.zone, self.in_flight);
        let refusals = self.meters.iter_mut().filter_map(|meter| {
            meter.bring_up_to(now, zone);
            meter.refusal(meter.dimension.cost(tokens), in_flight, now)
        });
        refusals.reduce(Refusal::longer).map_or(Ok(()), Err)
    }

    /// Sets aside one request, one slot and `tokens`: under all limits, or none.
    pub(super) fn reserve(
        &mut self,
        tokens: u64,
        now: &Now<'_>,
        account: &AccountId,
        authority: &dyn Authority,
    ) -> Result<Hold, Refusal> {
        self.fit(tokens, now)?;
        for meter in &mut self.meters {
            let of = Leased { authority, account, dimension: meter.dimension };
            if !meter.lease.secure(of, meter.dimension.cost(tokens), now.moment) {
                return Err(Refusal::after(Why::Unavailable, SOON));
            }
        }
        self.in_flight += 1;
        let marks = self.meters.iter_mut().map(|meter| meter.take(tokens, now.moment)).collect();
        Ok(Hold { tokens, at: now.moment, marks })
    }

    /// Sets aside `more` tokens for a request under way: under all limits that count them, or none.
    pub(super) fn extend(
        &mut self,
        hold: &mut Hold,
        more: u64,
        now: &Now<'_>,
        account: &AccountId,
        authority: &dyn Authority,
    ) -> bool {
        let is_held = |meter: &Meter| {
            meter.dimension.cost(2) == 2 && hold.marks.iter().any(|mark| mark.dimension == meter.dimension)
        };
        for meter in self.meters.iter_mut().filter(|meter| is_held(meter)) {
            meter.bring_up_to(now, &self.zone);
            let of = Leased { authority, account, dimension: meter.dimension };
            if meter.refusal(more, 0, now).is_some() || !meter.lease.secure(of, more, now.moment) {
                return false;
            }
        }
        for meter in self.meters.iter_mut().filter(|meter| is_held(meter)) {
            meter.take(more, now.moment);
        }
        hold.tokens = hold.tokens.saturating_add(more);
        true
    }

    /// Replaces what was set aside by what was used, and frees the slot.
    pub(super) fn settle(&mut self, hold: &Hold, spent: Spent, now: &Now<'_>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        for meter in &mut self.meters {
            meter.bring_up_to(now, &self.zone);
            meter.settle(hold, spent, now.moment);
        }
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The remaining part of the scarcest limit, 0 to 1; 1 without limits.
    pub(super) fn headroom(&self, now: Moment) -> f64 {
        self.meters.iter().map(|meter| meter.fraction(self.in_flight, now)).fold(1.0, f64::min)
    }

    /// What is left of each limit.
    pub(super) fn left(&mut self, now: &Now<'_>) -> Vec<Left> {
        let (zone, in_flight) = (&self.zone, self.in_flight);
        let each = self.meters.iter_mut().map(|meter| {
            meter.bring_up_to(now, zone);
            let (units, of) = meter.left(in_flight, now.moment);
            Left { dimension: meter.dimension, units, of }
        });
        each.collect()
    }

    /// How long until the platform's day turns.
    pub(super) fn until_tomorrow(&self, now: &Now<'_>) -> std::time::Duration {
        let mut day = Budget::new(Span::Day, 0);
        day.roll(now.wall_millis(), &self.zone);
        day.until_reset(now.wall_millis())
    }
}

impl Meter {
    fn with(mut self, limit: u64, limits: &Limits) -> Self {
        match &mut self.gauge {
            Gauge::Rate(rate) => rate.set(limit, burst_of(self.dimension, limit, limits)),
            Gauge::Budget(budget) => budget.set_limit(limit),
            Gauge::Slots(slots) => *slots = limit,
        }
        self
    }

    fn bring_up_to(&mut self, now: &Now<'_>, zone: &TimeZone) {
        match &mut self.gauge {
            Gauge::Budget(budget) => budget.roll(now.wall_millis(), zone),
            Gauge::Rate(_) | Gauge::Slots(_) => {}
        }
    }

    fn refusal(&self, cost: u64, in_flight: u64, now: &Now<'_>) -> Option<Refusal> {
        let (fit, why) = match &self.gauge {
            Gauge::Rate(rate) => (rate.fit(cost, now.moment), Why::LimitReached),
            Gauge::Budget(budget) => (budget.fit(cost, now.wall_millis()), Why::Exhausted),
            Gauge::Slots(slots) if in_flight < *slots => (Fit::Now, Why::LimitReached),
            Gauge::Slots(_) => (Fit::WhenOthersEnd, Why::LimitReached),
        };
        match fit {
            Fit::Now => None,
            Fit::After(wait) => Some(Refusal::after(why, wait)),
            Fit::WhenOthersEnd => Some(Refusal::after(Why::LimitReached, SOON)),
            Fit::Never => Some(Refusal::never(Why::LimitReached)),
        }
    }

    fn take(&mut self, tokens: u64, now: Moment) -> Mark {
        let cost = self.dimension.cost(tokens);
        let period = match &mut self.gauge {
            Gauge::Rate(rate) => {
                rate.admit(cost, now);
                0
            }
            Gauge::Budget(budget) => budget.hold(cost),
            Gauge::Slots(_) => 0,
        };
        Mark { dimension: self.dimension, period, lease: self.lease.draw(cost) }
    }

    fn settle(&mut self, hold: &Hold, spent: Spent, now: Moment) {
        let held = self.dimension.cost(hold.tokens);
        let used = match self.dimension {
            Dimension::Tokens | Dimension::DailyTokens | Dimension::MonthlyTokens => spent.tokens,
            Dimension::Requests | Dimension::DailyRequests => spent.requests,
            Dimension::Slots => 0,
        };
        match (&mut self.gauge, hold.marks.iter().find(|mark| mark.dimension == self.dimension)) {
            (Gauge::Rate(rate), Some(_)) => rate.settle(held, used, hold.at, now),
            (Gauge::Rate(rate), None) => rate.admit(used, now),
            (Gauge::Budget(budget), Some(mark)) => budget.settle(mark.period, held, used),
            (Gauge::Budget(budget), None) => budget.spend(used),
            (Gauge::Slots(_), _) => {}
        }
        if let Some(mark) = hold.marks.iter().find(|mark| mark.dimension == self.dimension) {
            self.lease.settle(mark.lease, held, used);
        }
    }

    fn left(&self, in_flight: u64, now: Moment) -> (u64, u64) {
        match &self.gauge {
            Gauge::Rate(rate) => rate.left(now),
            Gauge::Budget(budget) => budget.left(),
            Gauge::Slots(slots) => (slots.saturating_sub(in_flight), *slots),
        }
    }

    fn fraction(&self, in_flight: u64, now: Moment) -> f64 {
        match &self.gauge {
            Gauge::Rate(rate) => rate.fraction(now),
            Gauge::Budget(_) | Gauge::Slots(_) => {
                let (units, of) = self.left(in_flight, now);
                Left { dimension: self.dimension, units, of }.fraction()
            }
        }
    }
}

fn each_limit(limits: &Limits) -> impl Iterator<Item = (Dimension, u64)> {
    let all = [
        (Dimension::Slots, limits.concurrency),
        (Dimension::Requests, limits.rpm),
        (Dimension::Tokens, limits.tpm),
        (Dimension::DailyRequests, limits.daily_requests),
        (Dimension::DailyTokens, limits.daily_tokens),
        (Dimension::MonthlyTokens, limits.monthly_budget),
    ];
    all.into_iter().filter_map(|(dimension, limit)| Some((dimension, limit?)))
}

fn fresh(dimension: Dimension) -> Gauge {
    match dimension {
        Dimension::Requests | Dimension::Tokens => Gauge::Rate(Rate::new(1, 1)),
        Dimension::Slots => Gauge::Slots(0),
        Dimension::DailyRequests | Dimension::DailyTokens => Gauge::Budget(Budget::new(Span::Day, 0)),
        Dimension::MonthlyTokens => Gauge::Budget(Budget::new(Span::Month, 0)),
    }
}

/// How much may come at once. Requests: as configured, else a tenth of the rate. Tokens: a whole minute's worth, since
/// one long request may need that much and must not be refused for good.
fn burst_of(dimension: Dimension, per_minute: u64, limits: &Limits) -> u64 {
    match dimension {
        Dimension::Requests => limits.burst.unwrap_or((per_minute / 10).max(1)),
        _ => per_minute,
    }
}
