//! One limit of an account and its count: what is left, what a request would cost of it, what was set aside and what was really used.
//! Why apart from the ledger: the ledger takes all of them together or none, and need not know in which of the two ways each counts.

use std::sync::Arc;

use jiff::tz::TimeZone;
use smallvec::SmallVec;

use super::super::bid::{Dimension, Gauge, Terms};
use super::super::limit::budget::Budget;
use super::super::limit::calendar::{Period, Span};
use super::super::limit::rate::Rate;
use super::super::limit::{Fit, Now};
use super::super::refusal::{Refusal, SOON, Why};
use super::super::till::{Draw, Till};
use crate::clock::Moment;
use crate::limits::Limits;

/// One limit and its count.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) gauge: Gauge,
    pub(super) count: Count,
}

/// Tills are large, and lie side by side all the same: a choice looks at the limits of accounts that it has not seen for long, and each step to
/// another place in memory costs it more than all its arithmetic.
#[derive(Debug)]
pub(super) enum Count {
    Rate(Rate),
    Budget(Budget),
    /// (limit, in use). The account's own is counted by the ledger itself, so that a limit which comes with a reload
    /// knows what is under way.
    Slots(u64, u64),
    Till(Till),
}

/// What one attempt has set aside.
#[derive(Debug)]
pub(in crate::pool) struct Hold {
    pub(super) tokens: u64,
    pub(super) at: Moment,
    pub(super) marks: SmallVec<[Mark; 6]>,
    /// Given where the account limits this model by itself.
    pub(super) model: Option<Arc<str>>,
}

/// Where in a meter something was set aside: the period it belongs to, and what it was drawn from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) dimension: Dimension,
    is_of_model: bool,
    pub(super) draw: Draw,
}

/// What an attempt has really used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pool) struct Spent {
    pub tokens: u64,
    /// 1, or 0 where nothing reached the platform.
    pub requests: u64,
}

pub(super) fn fraction(units: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { units as f64 / of as f64 }
}

impl Hold {
    pub(in crate::pool) fn tokens(&self) -> u64 {
        self.tokens
    }

    pub(super) fn mark(&self, gauge: &Gauge) -> Option<&Mark> {
        let is_of_model = gauge.model.is_some();
        let concerns = gauge.model.is_none() || gauge.model == self.model;
        let is_it = |mark: &&Mark| mark.dimension == gauge.dimension && mark.is_of_model == is_of_model;
        self.marks.iter().find(is_it).filter(|_| concerns)
    }
}

impl Meter {
    pub(super) fn leased(gauge: Gauge, limit: u64, limits: &Limits) -> Self {
        let terms = terms_of(gauge.dimension, limit, limits);
        Self { count: Count::Till(Till::new(terms)), gauge }
    }

    pub(super) fn with(mut self, limit: u64, limits: &Limits) -> Self {
        let dimension = self.gauge.dimension;
        match &mut self.count {
            Count::Rate(rate) => rate.set(limit, burst_of(dimension, limit, limits)),
            Count::Budget(budget) => budget.set_limit(limit),
            Count::Slots(slots, _) => *slots = limit,
            Count::Till(till) => {
                let terms = match (till.terms(), terms_of(dimension, limit, limits)) {
                    // The period stays until the clock says otherwise.
                    (Terms::Budget { key, starts, ends, .. }, Terms::Budget { limit, .. }) => {
                        Terms::Budget { limit, key, starts, ends }
                    }
                    (_, terms) => terms,
                };
                till.set_terms(terms);
            }
        }
        self
    }

    /// Whether a request for `model` counts here.
    pub(super) fn concerns(&self, model: &str) -> bool {
        self.gauge.model.as_deref().is_none_or(|own| own == model)
    }

    pub(super) fn counts_tokens(&self) -> bool {
        matches!(self.gauge.dimension, Dimension::Tokens | Dimension::DailyTokens | Dimension::MonthlyTokens)
    }

    pub(super) fn bring_up_to(&mut self, now: &Now<'_>, zone: &TimeZone) {
        match &mut self.count {
            Count::Budget(budget) => budget.roll(now.wall_millis(), zone),
            Count::Till(till) => {
                if let Terms::Budget { limit, starts, ends, .. } = till.terms()
                    && !(starts..ends).contains(&now.wall_millis())
                {
                    let Period { key, starts, ends } =
                        Period::around(span_of(self.gauge.dimension), now.wall_millis(), zone);
                    till.set_terms(Terms::Budget { limit, key, starts, ends });
                }
            }
            Count::Rate(_) | Count::Slots(..) => {}
        }
    }

    pub(super) fn refusal(&self, cost: u64, in_flight: u64, now: &Now<'_>) -> Option<Refusal> {
        let (fit, why) = match &self.count {
            Count::Rate(rate) => (rate.fit(cost, now.moment), Why::LimitReached),
            Count::Budget(budget) => (budget.fit(cost, now.wall_millis()), Why::Exhausted),
            Count::Slots(slots, used) if self.used_slots(*used, in_flight) < *slots => {
                (Fit::Now, Why::LimitReached)
            }
            Count::Slots(..) => (Fit::WhenOthersEnd, Why::LimitReached),
            Count::Till(till) if till.covers(cost, now.moment) => return None,
            Count::Till(till) => return till.refusal(cost, now.moment),
        };
        match fit {
            Fit::Now => None,
            Fit::After(wait) => Some(Refusal::after(why, wait)),
            Fit::WhenOthersEnd => Some(Refusal::after(Why::LimitReached, SOON)),
            Fit::Never => Some(Refusal::never(Why::LimitReached)),
        }
    }

    /// The period that is counted now; 0 where there are none.
    pub(super) fn key(&self) -> i32 {
        match &self.count {
            Count::Budget(budget) => budget.key(),
            Count::Till(till) => till.key(),
            Count::Rate(_) | Count::Slots(..) => 0,
        }
    }

    pub(super) fn used_slots(&self, of_model: u64, in_flight: u64) -> u64 {
        if self.gauge.model.is_some() { of_model } else { in_flight }
    }

    pub(super) fn covers(&self, cost: u64, now: Moment) -> bool {
        match &self.count {
            Count::Till(till) => till.covers(cost, now),
            Count::Rate(_) | Count::Budget(_) | Count::Slots(..) => true,
        }
    }

    pub(super) fn take(&mut self, tokens: u64, now: Moment) -> Mark {
        let draw = self.take_units(self.gauge.dimension.cost(tokens), now);
        Mark { dimension: self.gauge.dimension, is_of_model: self.gauge.model.is_some(), draw }
    }

    pub(super) fn take_units(&mut self, cost: u64, now: Moment) -> Draw {
        match &mut self.count {
            Count::Rate(rate) => {
                rate.admit(cost, now);
                Draw::default()
            }
            Count::Budget(budget) => Draw { key: budget.hold(cost), since: 0 },
            Count::Slots(_, used) => {
                *used += 1;
                Draw::default()
            }
            Count::Till(till) => till.draw(cost, now),
        }
    }

    pub(super) fn settle(&mut self, hold: &Hold, spent: Spent, now: Moment) {
        let held = self.gauge.dimension.cost(hold.tokens);
        let used = match self.gauge.dimension {
            Dimension::Tokens | Dimension::DailyTokens | Dimension::MonthlyTokens => spent.tokens,
            Dimension::Requests | Dimension::DailyRequests => spent.requests,
            Dimension::Slots => 0,
        };
        let mark = hold.mark(&self.gauge).map(|mark| mark.draw);
        if mark.is_none() && self.gauge.model.is_some() {
            return;
        }
        match (&mut self.count, mark) {
            (Count::Rate(rate), Some(_)) => rate.settle(held, used, hold.at, now),
            (Count::Rate(rate), None) => rate.admit(used, now),
            (Count::Budget(budget), Some(draw)) => budget.settle(draw.key, held, used),
            (Count::Budget(budget), None) => budget.spend(used),
            (Count::Slots(_, in_use), Some(_)) => *in_use = in_use.saturating_sub(1),
            (Count::Till(till), Some(draw)) => till.settle(draw, held, used),
            (Count::Till(_) | Count::Slots(..), None) => {}
        }
    }

    pub(super) fn left(&self, in_flight: u64, now: Moment) -> (u64, u64) {
        match &self.count {
            Count::Rate(rate) => rate.left(now),
            Count::Budget(budget) => budget.left(),
            Count::Slots(slots, used) => (slots.saturating_sub(self.used_slots(*used, in_flight)), *slots),
            Count::Till(till) => till.left(),
        }
    }

    pub(super) fn fraction(&self, in_flight: u64, now: Moment) -> f64 {
        match &self.count {
            Count::Rate(rate) => rate.fraction(now),
            Count::Till(till) if matches!(till.terms(), Terms::Slots { .. }) => {
                // By what is in use here: what others use was heard a moment ago, and to follow that sends a rush of requests to
                // whichever account was asked about first.
                let limit = till.terms().most();
                fraction(limit.saturating_sub(in_flight), limit)
            }
            Count::Budget(_) | Count::Slots(..) | Count::Till(_) => {
                let (units, of) = self.left(in_flight, now);
                fraction(units, of)
            }
        }
    }
}

pub(super) fn each_limit(limits: &Limits) -> impl Iterator<Item = (Dimension, u64)> {
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

pub(super) fn fresh(dimension: Dimension) -> Count {
    match dimension {
        Dimension::Requests | Dimension::Tokens => Count::Rate(Rate::new(1, 1)),
        Dimension::Slots => Count::Slots(0, 0),
        Dimension::DailyRequests | Dimension::DailyTokens | Dimension::MonthlyTokens => {
            Count::Budget(Budget::new(span_of(dimension), 0))
        }
    }
}

pub(super) fn terms_of(dimension: Dimension, limit: u64, limits: &Limits) -> Terms {
    match dimension {
        Dimension::Requests | Dimension::Tokens => {
            Terms::Rate { per_minute: limit, burst: burst_of(dimension, limit, limits) }
        }
        Dimension::Slots => Terms::Slots { limit },
        Dimension::DailyRequests | Dimension::DailyTokens | Dimension::MonthlyTokens => {
            Terms::Budget { limit, key: 0, starts: 0, ends: 0 }
        }
    }
}

pub(super) fn span_of(dimension: Dimension) -> Span {
    if dimension == Dimension::MonthlyTokens { Span::Month } else { Span::Day }
}

/// How much may come at once. Requests: as configured, else a tenth of the rate. Tokens: a whole minute's worth, since
/// one long request may need that much and must not be refused for good.
pub(super) fn burst_of(dimension: Dimension, per_minute: u64, limits: &Limits) -> u64 {
    match dimension {
        Dimension::Requests => limits.burst.unwrap_or((per_minute / 10).max(1)),
        _ => per_minute,
    }
}
