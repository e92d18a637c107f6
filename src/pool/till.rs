//! A replica's side of one limit: what it holds, what it draws, what it will ask for. Why apart from the ledger: the ledger
//! knows what this process has done, the till what it may do; with one process alone they agree, with many they do not.
//!
//! Units of a rate live in two tranches. With every bid the newer becomes the older, and what is left of the older goes
//! back: no unit is used much later than it was granted, so that a window of time holds no more than the limit allows.

use std::time::Duration;

use super::bid::{Gauge, Grant, Line, Terms, Wait};
use super::refusal::{Refusal, SOON, Why};
use crate::clock::Moment;

/// How far ahead a till provides for what is drawn, in times between two bids.
const AHEAD: f64 = 2.5;

/// Over how long the pace is averaged, in seconds. By time and not by bids: under haste bids come in quick succession, and a
/// pace counted by bids would sink with them, ask for less, and so make more of them.
const MEMORY: f64 = 0.3;

/// A limit that nobody has drawn from for so long is left alone.
const WARM: Duration = Duration::from_secs(5);

/// A refusal is believed for so long; then the authority is asked again, whatever time it named: others give back.
const BELIEVED: Duration = Duration::from_millis(200);

/// What was asked for counts for so long, unless a bid carries it.
const ASKED: Duration = Duration::from_millis(500);

/// The life of leases and how often bids are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    /// A lease that was not renewed for so long is no longer drawn from.
    pub ttl: Duration,
    /// Between two bids for an account that is in use.
    pub every: Duration,
}

impl Rhythm {
    pub(super) fn of(ttl: Duration) -> Self {
        Self { ttl, every: (ttl / 5).max(Duration::from_millis(20)) }
    }
}

/// Units that were granted together.
#[derive(Clone, Copy, Debug, Default)]
struct Tranche {
    units: u64,
    until: Moment,
    /// When they were granted, on the authority's clock.
    since: u64,
}

impl Tranche {
    fn at(&self, now: Moment) -> u64 {
        if now < self.until { self.units } else { 0 }
    }
}

/// What one attempt has drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Draw {
    /// The period that it belongs to.
    pub key: i32,
    /// Rates: when the oldest of its units was granted.
    pub since: u64,
}

/// One limit, as far as this replica goes.
#[derive(Debug)]
pub(super) struct Till {
    terms: Terms,
    newer: Tranche,
    /// Rates only.
    older: Tranche,
    /// Budgets: in this period. Slots: at present.
    used: u64,
    back: u64,
    back_since: u64,
    over: u64,
    /// The smallest request that waits; what all of them want together, and those that did not wait.
    need: u64,
    waiting: u64,
    asked_since: Moment,
    /// Since the last bid.
    drawn: u64,
    /// Units drawn in a second, averaged.
    pace: f64,
    paced: Option<Moment>,
    /// Slots: the most in use since the last bid, and what that usually is.
    high: u64,
    peak: f64,
    /// What a request costs, averaged.
    usual: f64,
    last_drawn: Option<Moment>,
    left: u64,
    /// Seldom there, and large.
    refused: Option<Box<Refused>>,
    recall: bool,
    /// The authority may have forgotten what it was told: it is to be told again.
    retell: bool,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    need: u64,
    believed_until: Moment,
    why: Why,
    /// When it will be different; `None`: never.
    until: Option<Moment>,
}

impl Till {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            left: terms.most(),
            terms,
            newer: Tranche::default(),
            older: Tranche::default(),
            used: 0,
            back: 0,
            back_since: u64::MAX,
            over: 0,
            need: 0,
            waiting: 0,
            asked_since: Moment::START,
            drawn: 0,
            pace: 0.0,
            paced: None,
            high: 0,
            peak: 0.0,
            usual: 0.0,
            last_drawn: None,
            refused: None,
            recall: false,
            retell: false,
        }
    }

    /// Takes other numbers over, or another period.
    pub(super) fn set_terms(&mut self, terms: Terms) {
        if let (Terms::Budget { key: old, .. }, Terms::Budget { key, limit, .. }) = (self.terms, terms)
            && old != key
        {
            // Yesterday's units are not today's. What is still under way belongs to yesterday and is settled there.
            (self.newer, self.used, self.left) = (Tranche::default(), 0, limit);
        }
        if terms != self.terms {
            self.refused = None;
        }
        self.terms = terms;
    }

    pub(super) fn terms(&self) -> Terms {
        self.terms
    }

    fn is_rate(&self) -> bool {
        matches!(self.terms, Terms::Rate { .. })
    }

    /// The period that is counted now; 0 where there are none.
    pub(super) fn key(&self) -> i32 {
        match self.terms {
            Terms::Budget { key, .. } => key,
            Terms::Rate { .. } | Terms::Slots { .. } => 0,
        }
    }

    pub(super) fn covers(&self, cost: u64, now: Moment) -> bool {
        self.newer.at(now) + self.older.at(now) >= cost
    }

    /// Why `cost` cannot be had, where that is known; `None`: the authority must be asked.
    pub(super) fn refusal(&self, cost: u64, now: Moment) -> Option<Refusal> {
        if cost > self.terms.most() {
            return Some(Refusal::never(Why::LimitReached));
        }
        let refused = self.refused.as_ref()?;
        if cost < refused.need || now >= refused.believed_until {
            return None;
        }
        Some(match refused.until {
            None => Refusal::never(refused.why),
            Some(until) => Refusal::after(refused.why, until.since(now).max(Duration::from_millis(1))),
        })
    }

    /// A request waits for `cost`.
    pub(super) fn ask(&mut self, cost: u64, now: Moment) {
        self.forget_asked(now);
        self.need = if self.need == 0 { cost } else { self.need.min(cost) };
        self.waiting = self.waiting.saturating_add(cost);
    }

    /// Whoever still waits asks again with every round; what was asked for long ago is nobody's wish any more. While an authority is out it
    /// would add up to everything there is.
    fn forget_asked(&mut self, now: Moment) {
        if now.since(self.asked_since) >= ASKED {
            (self.need, self.waiting, self.asked_since) = (0, 0, now);
        }
    }

    /// A request would have taken `cost` here, and went elsewhere since it was not at hand: nobody waits for it.
    pub(super) fn wish(&mut self, cost: u64, now: Moment) {
        self.forget_asked(now);
        self.waiting = self.waiting.saturating_add(cost);
    }

    /// Draws `cost`, which is covered.
    pub(super) fn draw(&mut self, cost: u64, now: Moment) -> Draw {
        let from_older = self.older.at(now).min(cost);
        self.older.units -= from_older;
        self.newer.units = self.newer.units.saturating_sub(cost - from_older);
        let since = if from_older > 0 { self.older.since } else { self.newer.since };
        self.used = self.used.saturating_add(cost);
        self.drawn = self.drawn.saturating_add(cost);
        self.high = self.high.max(self.used);
        self.usual =
            if self.usual == 0.0 { cost as f64 } else { self.usual + (cost as f64 - self.usual) / 16.0 };
        self.last_drawn = Some(now);
        Draw { key: self.key(), since }
    }

    /// Replaces what was drawn by what was used.
    pub(super) fn settle(&mut self, draw: Draw, drawn: u64, used: u64) {
        if draw.key != self.key() {
            return;
        }
        let (less, more) = (drawn.saturating_sub(used), used.saturating_sub(drawn));
        let from_held = self.newer.units.min(more);
        self.newer.units -= from_held;
        if self.is_rate() {
            self.over = self.over.saturating_add(more - from_held);
            if less > 0 {
                self.give_back(less, draw.since);
            }
        } else {
            self.used = self.used.saturating_add(more).saturating_sub(less);
            self.newer.units = self.newer.units.saturating_add(less);
        }
    }

    fn give_back(&mut self, units: u64, since: u64) {
        if units > 0 {
            self.back = self.back.saturating_add(units);
            self.back_since = self.back_since.min(since);
        }
    }

    /// The authority may have forgotten everything. True where it has to hear of this limit again: of budgets, since others
    /// would be given what was used here; rates and places heal by themselves.
    pub(super) fn retell(&mut self) -> bool {
        self.retell = matches!(self.terms, Terms::Budget { .. }) && self.used > 0;
        self.retell
    }

    /// Whether there is anything to tell the authority.
    pub(super) fn is_warm(&self, now: Moment) -> bool {
        let holds = self.newer.units + self.older.units + self.back + self.over + self.waiting > 0;
        let counts = matches!(self.terms, Terms::Slots { .. }) && self.used > 0;
        holds || counts || self.retell || self.is_used(now)
    }

    fn is_used(&self, now: Moment) -> bool {
        self.last_drawn.is_some_and(|last| now.since(last) < WARM)
    }

    /// The line of the next bid, about `gauge`. With `rests` everything goes back that is not in use.
    pub(super) fn line(&mut self, gauge: &Gauge, now: Moment, rests: bool, rhythm: &Rhythm) -> Line {
        self.keep_pace(now);
        self.retell = false;
        let target = if rests || !self.is_used(now) { 0 } else { self.target(rhythm) };
        let target = target.saturating_add(self.waiting).min(self.terms.most());
        let keep = if self.is_rate() {
            self.give_back(self.older.units, self.older.since);
            self.older = std::mem::take(&mut self.newer);
            if target == 0 {
                self.give_back(self.older.units, self.older.since);
                self.older = Tranche::default();
            }
            self.older.at(now)
        } else {
            // Of a budget what was granted stays granted, but places of a lease that has ended may be somebody else's by now.
            let held = match self.terms {
                Terms::Slots { .. } => self.newer.at(now),
                Terms::Rate { .. } | Terms::Budget { .. } => self.newer.units,
            };
            // Too little for anybody here, and somebody starves: together such pieces may be enough for one.
            let is_scrap = self.recall && held < self.need;
            self.newer.units = if is_scrap { 0 } else { held.min(target) };
            self.newer.units
        };
        let need = self.need.saturating_sub(keep);
        let line = Line {
            gauge: gauge.clone(),
            terms: self.terms,
            used: self.used,
            keep,
            need,
            want: target.saturating_sub(keep).max(need),
            back: std::mem::take(&mut self.back),
            back_since: std::mem::replace(&mut self.back_since, u64::MAX),
            over: std::mem::take(&mut self.over),
        };
        (self.need, self.waiting) = (0, 0);
        line
    }

    /// Brings the averages up to `now`.
    fn keep_pace(&mut self, now: Moment) {
        if let Some(last) = self.paced.replace(now) {
            let passed = now.since(last).as_secs_f64().max(0.001);
            self.pace += (self.drawn as f64 / passed - self.pace) * (passed / MEMORY).min(1.0);
            let high = self.high as f64;
            self.peak = high.max(self.peak + (high - self.peak) * (passed / MEMORY / 8.0).min(1.0));
        }
        (self.drawn, self.high) = (0, self.used);
    }

    /// What it would be good to hold: for what is usually drawn until after the next bid, and for one request.
    fn target(&self, rhythm: &Rhythm) -> u64 {
        if self.recall {
            return 0;
        }
        let ahead = match self.terms {
            // Half as many again as were in use at the busiest moment, whatever is in use just now.
            Terms::Slots { .. } => (self.peak * 1.5 - self.used as f64).max(0.0),
            Terms::Rate { .. } | Terms::Budget { .. } => self.pace * rhythm.every.as_secs_f64() * AHEAD,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative; a cast saturates"
        )]
        let units = ahead.max(self.usual).ceil() as u64;
        units
    }

    /// Takes the answer to `line` over, which was sent at `sent`.
    pub(super) fn take(
        &mut self,
        line: &Line,
        grant: &Grant,
        authority_now: u64,
        sent: Moment,
        now: Moment,
        rhythm: &Rhythm,
    ) {
        if !self.terms.is_same_period(&line.terms) {
            return;
        }
        let life = match self.terms {
            Terms::Budget { ends, .. } => {
                rhythm.ttl.min(Duration::from_millis(ends.saturating_sub(authority_now)))
            }
            Terms::Rate { .. } | Terms::Slots { .. } => rhythm.ttl,
        };
        self.newer.units = self.newer.units.saturating_add(grant.units);
        self.newer.until = sent + life;
        self.newer.since = authority_now;
        self.left = grant.left;
        self.recall = grant.recall;
        self.refused = match (grant.wait, line.need) {
            (Wait::Granted | Wait::Soon, _) | (_, 0) => None,
            (wait, need) => {
                Some(Box::new(refused(wait, need.saturating_add(line.keep), self.key() != 0, now)))
            }
        };
    }

    /// What was left for everybody, as the authority last said; before it has said anything, all.
    pub(super) fn authority_left(&self) -> u64 {
        self.left
    }

    /// (what this replica believes to be left, of how many).
    pub(super) fn left(&self) -> (u64, u64) {
        (self.left.saturating_add(self.newer.units).saturating_add(self.older.units), self.terms.most())
    }
}

fn refused(wait: Wait, need: u64, is_budget: bool, now: Moment) -> Refused {
    let why = if is_budget { Why::Exhausted } else { Why::LimitReached };
    let (why, until) = match wait {
        Wait::After(millis) => (why, Some(now + Duration::from_millis(millis))),
        Wait::OthersEnd | Wait::Soon | Wait::Granted => (Why::LimitReached, Some(now + SOON)),
        Wait::Never => (Why::LimitReached, None),
    };
    let believed_until = until.map_or(now + BELIEVED, |until| until.min(now + BELIEVED));
    Refused { need, believed_until, why, until }
}
