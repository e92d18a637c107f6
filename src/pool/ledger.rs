//! All limits of one account, checked and reserved together. Why together: a request that gets its tokens but not its
//! slot must get neither, and whoever looks in between must not see half of it. The caller holds the account's lock.
//!
//! A limit is counted in one of two ways: by this process alone, to which it then belongs whole, or through a till that
//! draws on what an authority has granted.

mod meter;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use smallvec::SmallVec;

use super::bid::{Dimension, Gauge, Line, Reply, Terms};
use super::limit::Now;
use super::limit::budget::Budget;
use super::limit::calendar::Span;
use super::refusal::{Refusal, SOON, Why};
use super::till::{Rhythm, Till};
use crate::clock::Moment;
use crate::limits::Limits;
use meter::{Count, Meter, each_limit, fraction, fresh};
pub(super) use meter::{Hold, Spent};

/// What is used of each limit.
#[derive(Debug)]
pub(super) struct Ledger {
    zone: TimeZone,
    in_flight: u64,
    meters: Vec<Meter>,
    is_leased: bool,
}

/// What an account can do without asking the authority.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtHand {
    /// The tokens that a request may cost.
    pub tokens: u64,
    /// For so long.
    pub until: Moment,
    /// The remaining part of the scarcest limit, 0 to 1; 1 without limits.
    pub headroom: f64,
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

    /// What is at hand for requests for any model; `None` where that is not known without looking: a limit of one model's, or
    /// one that this process counts by itself, which changes with time alone.
    pub(super) fn at_hand(&self, now: &Now<'_>) -> Option<AtHand> {
        let mut least = AtHand { tokens: u64::MAX, until: Moment::from_nanos(u64::MAX), headroom: 1.0 };
        for meter in &self.meters {
            let Count::Till(till) = &meter.count else { return None };
            if meter.gauge.model.is_some() {
                return None;
            }
            let (units, until) = till.at_hand();
            if meter.counts_tokens() {
                least.tokens = least.tokens.min(units);
            } else if units == 0 {
                return None;
            }
            least.until = least.until.min(until);
            if let Terms::Budget { starts, ends, .. } = till.terms() {
                if !(starts..ends).contains(&now.wall_millis()) {
                    return None;
                }
                least.until = least.until.min(now.moment + Duration::from_millis(ends - now.wall_millis()));
            }
            least.headroom = least.headroom.min(meter.fraction(self.in_flight, now.moment));
        }
        Some(least)
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
    pub(super) fn until_tomorrow(&self, now: &Now<'_>) -> Duration {
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
