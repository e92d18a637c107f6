//! All limits of one account, checked and reserved together. Why together: a request that gets its tokens but not its
//! slot must get neither, and whoever looks in between must not see half of it. The caller holds the account's lock.
//!
//! A limit is counted in one of two ways: by this process alone, to which it then belongs whole, or through a till that
//! draws on what an authority has granted.

use std::sync::Arc;

use jiff::tz::TimeZone;
use smallvec::SmallVec;

use super::bid::{Dimension, Gauge, Line, Reply, Terms};
use super::limit::budget::Budget;
use super::limit::calendar::{Period, Span};
use super::limit::rate::Rate;
use super::limit::{Fit, Now};
use super::refusal::{Refusal, SOON, Why};
use super::till::{Draw, Rhythm, Till};
use crate::clock::Moment;
use crate::limits::Limits;

/// What is used of each limit.
#[derive(Debug)]
pub(super) struct Ledger {
    zone: TimeZone,
    in_flight: u64,
    meters: Vec<Meter>,
    is_leased: bool,
}

/// One limit and its count.
#[derive(Debug)]
struct Meter {
    gauge: Gauge,
    count: Count,
}

/// Tills are large, and lie side by side all the same: a choice looks at the limits of accounts that it has not seen for long, and each step to
/// another place in memory costs it more than all its arithmetic.
#[derive(Debug)]
enum Count {
    Rate(Rate),
    Budget(Budget),
    /// (limit, in use). The account's own is counted by the ledger itself, so that a limit which comes with a reload
    /// knows what is under way.
    Slots(u64, u64),
    Till(Till),
}

/// What one attempt has set aside.
#[derive(Debug)]
pub(super) struct Hold {
    tokens: u64,
    at: Moment,
    marks: SmallVec<[Mark; 6]>,
    /// Given where the account limits this model by itself.
    model: Option<Arc<str>>,
}

/// Where in a meter something was set aside: the period it belongs to, and what it was drawn from.
#[derive(Clone, Copy, Debug)]
struct Mark {
    dimension: Dimension,
    is_of_model: bool,
    draw: Draw,
}

/// What an attempt has really used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    pub tokens: u64,
    /// 1, or 0 where nothing reached the platform.
    pub requests: u64,
}

/// How much is left of one limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// The limit.
    pub dimension: Dimension,
    /// Given where it limits one model only.
    pub model: Option<Arc<str>>,
    /// What a request could get now.
    pub units: u64,
    /// Of so much (for a rate: its burst).
    pub of: u64,
}

impl Left {
    /// The part that is left, 0 to 1.
    pub fn fraction(&self) -> f64 {
        fraction(self.units, self.of)
    }
}

fn fraction(units: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { units as f64 / of as f64 }
}

impl Hold {
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    fn mark(&self, gauge: &Gauge) -> Option<&Mark> {
        let is_of_model = gauge.model.is_some();
        let concerns = gauge.model.is_none() || gauge.model == self.model;
        let is_it = |mark: &&Mark| mark.dimension == gauge.dimension && mark.is_of_model == is_of_model;
        self.marks.iter().find(is_it).filter(|_| concerns)
    }
}

/// The limits of one model, where an account has such.
pub(super) type OfModel = (Arc<str>, Limits);

impl Ledger {
    pub(super) fn new(limits: &Limits, models: &[OfModel], zone: TimeZone, is_leased: bool) -> Self {
        let mut ledger = Self { zone: TimeZone::UTC, in_flight: 0, meters: Vec::new(), is_leased };
        ledger.set_limits(limits, models, zone);
        ledger
    }

    /// Takes new limits over. What was counted under a limit that stays is kept.
    pub(super) fn set_limits(&mut self, limits: &Limits, models: &[OfModel], zone: TimeZone) {
        self.zone = zone;
        let mut old = std::mem::take(&mut self.meters);
        let each = each_limit(limits).map(|(dimension, limit)| (dimension, None, limit, *limits));
        let of_models = models.iter().flat_map(|(model, limits)| {
            each_limit(limits).map(|(dimension, limit)| (dimension, Some(Arc::clone(model)), limit, *limits))
        });
        for (dimension, model, limit, limits) in each.chain(of_models) {
            let gauge = Gauge { dimension, model };
            let meter = match old.iter().position(|meter| meter.gauge == gauge) {
                Some(place) => old.swap_remove(place),
                None if self.is_leased => Meter::leased(gauge, limit, &limits),
                None => Meter { count: fresh(dimension), gauge },
            };
            self.meters.push(meter.with(limit, &limits));
        }
    }

    /// Whether `tokens` and a slot would fit now; true in the answer where they could be had without asking anybody.
    pub(super) fn fit(&mut self, model: &str, tokens: u64, now: &Now<'_>) -> Result<bool, Refusal> {
        let (zone, in_flight) = (&self.zone, self.in_flight);
        let mut refusal: Option<Refusal> = None;
        let mut is_covered = true;
        for meter in self.meters.iter_mut().filter(|meter| meter.concerns(model)) {
            meter.bring_up_to(now, zone);
            let cost = meter.gauge.dimension.cost(tokens);
            if let Some(one) = meter.refusal(cost, in_flight, now) {
                refusal = Some(refusal.map_or(one, |known| known.longer(one)));
            }
            is_covered &= meter.covers(cost, now.moment);
        }
        refusal.map_or(Ok(is_covered), Err)
    }

    /// Sets aside one request, one slot and `tokens`: under all limits, or none. Where the authority must be asked first,
    /// what is missing is noted for the next bid.
    pub(super) fn reserve(&mut self, model: &str, tokens: u64, now: &Now<'_>) -> Result<Hold, Refusal> {
        if !self.fit(model, tokens, now)? {
            self.ask(model, tokens, now.moment);
            return Err(Refusal::after(Why::Asking, SOON));
        }
        self.in_flight += 1;
        let mut of_model = None;
        let mut marks = SmallVec::new();
        for meter in self.meters.iter_mut().filter(|meter| meter.concerns(model)) {
            marks.push(meter.take(tokens, now.moment));
            of_model = of_model.or_else(|| meter.gauge.model.clone());
        }
        Ok(Hold { tokens, at: now.moment, marks, model: of_model })
    }

    /// Notes what a request for `tokens` would need and is not there.
    pub(super) fn ask(&mut self, model: &str, tokens: u64, now: Moment) {
        self.lacking(model, tokens, now).for_each(|(_, till, cost)| till.ask(cost, now));
    }

    /// Notes what a request for `tokens` would have taken, and did not wait for. Of places alone: units of a rate that are wished for
    /// and not used go back, and not all of them come back.
    pub(super) fn wish(&mut self, model: &str, tokens: u64, now: Moment) {
        let places =
            self.lacking(model, tokens, now).filter(|(dimension, ..)| *dimension == Dimension::Slots);
        places.for_each(|(_, till, cost)| till.wish(cost, now));
    }

    /// The tills that do not hold what a request for `tokens` would cost, and what that is.
    fn lacking(
        &mut self,
        model: &str,
        tokens: u64,
        now: Moment,
    ) -> impl Iterator<Item = (Dimension, &mut Till, u64)> {
        self.meters.iter_mut().filter(move |meter| meter.concerns(model)).filter_map(move |meter| {
            let (dimension, cost) = (meter.gauge.dimension, meter.gauge.dimension.cost(tokens));
            match &mut meter.count {
                Count::Till(till) if !till.covers(cost, now) => Some((dimension, till, cost)),
                _ => None,
            }
        })
    }

    /// Sets aside `more` tokens for an attempt under way. False where they cannot be had at once.
    pub(super) fn extend(&mut self, hold: &mut Hold, more: u64, now: &Now<'_>) -> bool {
        for meter in &mut self.meters {
            meter.bring_up_to(now, &self.zone);
        }
        // What was set aside yesterday stays yesterday's affair, whatever it grows to.
        let counts = |meter: &Meter| {
            let mark = hold.mark(&meter.gauge).filter(|_| meter.counts_tokens());
            mark.is_some_and(|mark| mark.draw.key == meter.key())
        };
        let mut all_fit = true;
        for meter in self.meters.iter_mut().filter(|meter| counts(meter)) {
            let fits = meter.refusal(more, 0, now).is_none();
            let is_covered = meter.covers(more, now.moment);
            if let Count::Till(till) = &mut meter.count
                && fits
                && !is_covered
            {
                till.ask(more, now.moment);
            }
            all_fit &= fits && is_covered;
        }
        if all_fit {
            for meter in self.meters.iter_mut().filter(|meter| counts(meter)) {
                meter.take_units(more, now.moment);
            }
            hold.tokens = hold.tokens.saturating_add(more);
        }
        all_fit
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
    pub(super) fn headroom(&self, model: &str, now: Moment) -> f64 {
        let concerned = self.meters.iter().filter(|meter| meter.concerns(model));
        concerned.map(|meter| meter.fraction(self.in_flight, now)).fold(1.0, f64::min)
    }

    /// What is left of each limit.
    pub(super) fn left(&mut self, now: &Now<'_>) -> Vec<Left> {
        let (zone, in_flight) = (&self.zone, self.in_flight);
        let each = self.meters.iter_mut().map(|meter| {
            meter.bring_up_to(now, zone);
            let (units, of) = meter.left(in_flight, now.moment);
            Left { dimension: meter.gauge.dimension, model: meter.gauge.model.clone(), units, of }
        });
        each.collect()
    }

    /// How long until the platform's day turns.
    pub(super) fn until_tomorrow(&self, now: &Now<'_>) -> std::time::Duration {
        let mut day = Budget::new(Span::Day, 0);
        day.roll(now.wall_millis(), &self.zone);
        day.until_reset(now.wall_millis())
    }

    /// Whether the authority should hear of this account.
    pub(super) fn is_warm(&self, now: Moment) -> bool {
        self.tills().any(|till| till.is_warm(now))
    }

    /// The authority may have forgotten everything. True where it has to hear of this account again.
    pub(super) fn retell(&mut self) -> bool {
        let tills = self.meters.iter_mut().filter_map(|meter| match &mut meter.count {
            Count::Till(till) => Some(till),
            Count::Rate(_) | Count::Budget(_) | Count::Slots(..) => None,
        });
        let mut any = false;
        for till in tills {
            any |= till.retell();
        }
        any
    }

    fn tills(&self) -> impl Iterator<Item = &Till> {
        self.meters.iter().filter_map(|meter| match &meter.count {
            Count::Till(till) => Some(till),
            Count::Rate(_) | Count::Budget(_) | Count::Slots(..) => None,
        })
    }

    /// The lines of the next bid. With `rests` everything goes back that is not in use.
    pub(super) fn lines(&mut self, now: &Now<'_>, rests: bool, rhythm: &Rhythm) -> SmallVec<[Line; 4]> {
        let zone = &self.zone;
        let lines = self.meters.iter_mut().filter_map(|meter| {
            meter.bring_up_to(now, zone);
            match &mut meter.count {
                Count::Till(till) if till.is_warm(now.moment) => {
                    Some(till.line(&meter.gauge, now.moment, rests, rhythm))
                }
                _ => None,
            }
        });
        lines.collect()
    }

    /// What was left of a limit for everybody, as the authority last said.
    pub(super) fn authority_left(&self, gauge: &Gauge) -> u64 {
        let meter = self.meters.iter().find(|meter| meter.gauge == *gauge);
        meter.map_or(0, |meter| match &meter.count {
            Count::Till(till) => till.authority_left(),
            Count::Rate(_) | Count::Budget(_) | Count::Slots(..) => 0,
        })
    }

    /// Takes the answer to `lines` over, which were sent at `sent`.
    pub(super) fn take_reply(
        &mut self,
        lines: &[Line],
        reply: &Reply,
        sent: Moment,
        now: &Now<'_>,
        rhythm: &Rhythm,
    ) {
        for (line, grant) in lines.iter().zip(&reply.grants) {
            let meter = self.meters.iter_mut().find(|meter| meter.gauge == line.gauge);
            if let Some(Meter { count: Count::Till(till), .. }) = meter {
                till.take(line, grant, reply.now, sent, now.moment, rhythm);
            }
        }
    }
}

impl Meter {
    fn leased(gauge: Gauge, limit: u64, limits: &Limits) -> Self {
        let terms = terms_of(gauge.dimension, limit, limits);
        Self { count: Count::Till(Till::new(terms)), gauge }
    }

    fn with(mut self, limit: u64, limits: &Limits) -> Self {
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
    fn concerns(&self, model: &str) -> bool {
        self.gauge.model.as_deref().is_none_or(|own| own == model)
    }

    fn counts_tokens(&self) -> bool {
        matches!(self.gauge.dimension, Dimension::Tokens | Dimension::DailyTokens | Dimension::MonthlyTokens)
    }

    fn bring_up_to(&mut self, now: &Now<'_>, zone: &TimeZone) {
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

    fn refusal(&self, cost: u64, in_flight: u64, now: &Now<'_>) -> Option<Refusal> {
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
    fn key(&self) -> i32 {
        match &self.count {
            Count::Budget(budget) => budget.key(),
            Count::Till(till) => till.key(),
            Count::Rate(_) | Count::Slots(..) => 0,
        }
    }

    fn used_slots(&self, of_model: u64, in_flight: u64) -> u64 {
        if self.gauge.model.is_some() { of_model } else { in_flight }
    }

    fn covers(&self, cost: u64, now: Moment) -> bool {
        match &self.count {
            Count::Till(till) => till.covers(cost, now),
            Count::Rate(_) | Count::Budget(_) | Count::Slots(..) => true,
        }
    }

    fn take(&mut self, tokens: u64, now: Moment) -> Mark {
        let draw = self.take_units(self.gauge.dimension.cost(tokens), now);
        Mark { dimension: self.gauge.dimension, is_of_model: self.gauge.model.is_some(), draw }
    }

    fn take_units(&mut self, cost: u64, now: Moment) -> Draw {
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

    fn settle(&mut self, hold: &Hold, spent: Spent, now: Moment) {
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

    fn left(&self, in_flight: u64, now: Moment) -> (u64, u64) {
        match &self.count {
            Count::Rate(rate) => rate.left(now),
            Count::Budget(budget) => budget.left(),
            Count::Slots(slots, used) => (slots.saturating_sub(self.used_slots(*used, in_flight)), *slots),
            Count::Till(till) => till.left(),
        }
    }

    fn fraction(&self, in_flight: u64, now: Moment) -> f64 {
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

fn fresh(dimension: Dimension) -> Count {
    match dimension {
        Dimension::Requests | Dimension::Tokens => Count::Rate(Rate::new(1, 1)),
        Dimension::Slots => Count::Slots(0, 0),
        Dimension::DailyRequests | Dimension::DailyTokens | Dimension::MonthlyTokens => {
            Count::Budget(Budget::new(span_of(dimension), 0))
        }
    }
}

fn terms_of(dimension: Dimension, limit: u64, limits: &Limits) -> Terms {
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

fn span_of(dimension: Dimension) -> Span {
    if dimension == Dimension::MonthlyTokens { Span::Month } else { Span::Day }
}

/// How much may come at once. Requests: as configured, else a tenth of the rate. Tokens: a whole minute's worth, since
/// one long request may need that much and must not be refused for good.
fn burst_of(dimension: Dimension, per_minute: u64, limits: &Limits) -> u64 {
    match dimension {
        Dimension::Requests => limits.burst.unwrap_or((per_minute / 10).max(1)),
        _ => per_minute,
    }
}
