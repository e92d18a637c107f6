//! So much per minute, with a burst: the generic cell rate algorithm, told as a bucket that leaks. Why not a counter per
//! minute: at the turn of the minute it would admit twice its limit.
//!
//! Everything is a whole number: the level is counted in units of 1/60,000,000,000 of a request (or token), of which
//! `per_minute` leak out in each nanosecond. Nothing is rounded, so nothing drifts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Fit;
use super::lows::Lows;
use crate::clock::Moment;

/// One request or token, in units of the level.
const ONE: u128 = 60_000_000_000;
/// How finely the past is remembered for giving back (see [`Rate::settle`]), in nanoseconds: four seconds, and four minutes.
const FINE: u64 = 250_000_000;
const COARSE: u64 = 15_000_000_000;
/// Lows are kept in steps of so many units (1.1 tokens), rounded down, to take half the room. A multiple of what a request
/// is worth in a millisecond, 1,000,000: the script in Redis counts in those, and comes to the same numbers.
const STEP: u128 = 1_000_000 << LOW_SHIFT;
const LOW_SHIFT: u32 = 16;

/// A rate, its burst, and how full the bucket is.
#[derive(Clone, Debug)]
pub(in crate::pool) struct Rate {
    per_minute: u64,
    burst: u64,
    /// What was admitted and has not leaked out, as of `as_of`.
    level: u128,
    as_of: Moment,
    /// The lowest levels of the past. Apart, since only admissions and settlements touch them and a choice that only looks
    /// should not have to fetch them.
    lows: Box<(Lows<FINE>, Lows<COARSE>)>,
}

impl Rate {
    pub(in crate::pool) fn new(per_minute: u64, burst: u64) -> Self {
        let (per_minute, burst) = (per_minute.max(1), burst.max(1));
        Self { per_minute, burst, level: 0, as_of: Moment::START, lows: Box::default() }
    }

    /// Takes new numbers over; what was admitted stays admitted.
    pub(in crate::pool) fn set(&mut self, per_minute: u64, burst: u64) {
        (self.per_minute, self.burst) = (per_minute.max(1), burst.max(1));
    }

    /// What has not leaked out by `now`.
    fn level_at(&self, now: Moment) -> u128 {
        let passed = u128::from(now.as_nanos().saturating_sub(self.as_of.as_nanos()));
        self.level.saturating_sub(passed * u128::from(self.per_minute))
    }

    /// Lets leak out what has leaked since the last admission, and remembers how low it came.
    fn leak(&mut self, now: Moment) {
        if now <= self.as_of {
            return;
        }
        self.level = self.level_at(now);
        let (before, now, low) = (self.as_of.as_nanos(), now.as_nanos(), self.low());
        self.lows.0.pass(before, now, low);
        self.lows.1.pass(before, now, low);
        self.as_of = Moment::from_nanos(now);
    }

    /// Whether `amount` fits at `now`.
    pub(in crate::pool) fn fit(&self, amount: u64, now: Moment) -> Fit {
        if amount > self.burst {
            return Fit::Never;
        }
        let level = self.level_at(now) + u128::from(amount) * ONE;
        let over = level.saturating_sub(u128::from(self.burst) * ONE);
        if over == 0 {
            return Fit::Now;
        }
        let nanos = over.div_ceil(u128::from(self.per_minute));
        Fit::After(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Admits `amount` at `now`.
    pub(in crate::pool) fn admit(&mut self, amount: u64, now: Moment) {
        self.leak(now);
        self.level = self.level.saturating_add(u128::from(amount) * ONE);
    }

    /// Replaces, at `now`, the `held` amount that was admitted at `since` by what was `used`.
    ///
    /// What was too much comes back only as far as the bucket would be emptier today: had the bucket run low since, it
    /// would have stood idle instead, and that time is gone. So giving back is bounded by the lowest level since, which
    /// makes the result never more generous than if the true amount had been known from the start. That lowest level is
    /// known by slices, which may reach back before `since`; but it was never below what this amount alone has left behind.
    pub(in crate::pool) fn settle(&mut self, held: u64, used: u64, since: Moment, now: Moment) {
        if used >= held {
            return self.admit(used - held, now);
        }
        self.leak(now);
        let (from, until) = (since.as_nanos(), self.as_of.as_nanos());
        // Both are cautious: the higher one is nearer to the truth.
        let by_slices = self.lows.0.lowest(from, until).max(self.lows.1.lowest(from, until));
        let passed = u128::from(until.saturating_sub(from));
        let alone = (u128::from(held) * ONE).saturating_sub(passed * u128::from(self.per_minute));
        let lowest = (u128::from(by_slices.unwrap_or(0)) * STEP).max(alone).min(self.level);
        let back = (u128::from(held - used) * ONE).min(lowest);
        self.level = self.level.saturating_sub(back);
        let steps = u64::try_from(back.div_ceil(STEP)).unwrap_or(u64::MAX);
        self.lows.0.lower(from, until, steps);
        self.lows.1.lower(from, until, steps);
    }

    /// (what fits at `now`, the burst).
    pub(in crate::pool) fn left(&self, now: Moment) -> (u64, u64) {
        let left = (u128::from(self.burst) * ONE).saturating_sub(self.level_at(now)) / ONE;
        (u64::try_from(left).unwrap_or(u64::MAX), self.burst)
    }

    /// The part of the burst that fits at `now`, 0 to 1.
    pub(in crate::pool) fn fraction(&self, now: Moment) -> f64 {
        // Narrowed first: turning 128 bits into a float costs more than all the rest.
        let narrow = |level: u128| u64::try_from(level >> 16).unwrap_or(u64::MAX) as f64;
        (1.0 - narrow(self.level_at(now)) / narrow(u128::from(self.burst) * ONE)).max(0.0)
    }

    fn low(&self) -> u64 {
        // Shifted first: dividing 128 bits costs more than all the rest.
        u64::try_from(self.level >> LOW_SHIFT).unwrap_or(u64::MAX) / 1_000_000
    }
}

/// A rate as it lies on disk: everything but its numbers, which the configuration has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::pool) struct RateRecord {
    /// The level's upper and lower half.
    level: (u64, u64),
    as_of_nanos: u64,
    lows: Vec<u64>,
    /// The same for the last seconds.
    #[serde(default)]
    fine_lows: Vec<u64>,
}

impl Rate {
    pub(in crate::pool) fn record(&self) -> RateRecord {
        let (upper, lower) = (self.level >> 64, self.level & u128::from(u64::MAX));
        let narrow = |half: u128| u64::try_from(half).unwrap_or(u64::MAX);
        RateRecord {
            level: (narrow(upper), narrow(lower)),
            as_of_nanos: self.as_of.as_nanos(),
            lows: self.lows.1.to_vec(),
            fine_lows: self.lows.0.to_vec(),
        }
    }

    pub(in crate::pool) fn of(record: &RateRecord) -> Self {
        let mut rate = Self::new(1, 1);
        rate.level = (u128::from(record.level.0) << 64) | u128::from(record.level.1);
        rate.as_of = Moment::from_nanos(record.as_of_nanos);
        *rate.lows = (Lows::of(&record.fine_lows), Lows::of(&record.lows));
        rate
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(seconds: u64) -> Moment {
        Moment::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_burst_at_once_and_then_one_each_interval() {
        let mut rate = Rate::new(60, 6);
        for _ in 0..6 {
            assert_eq!(rate.fit(1, second(0)), Fit::Now);
            rate.admit(1, second(0));
        }
        assert_eq!(rate.fit(1, second(0)), Fit::After(Duration::from_secs(1)));
        assert_eq!(rate.fit(1, second(1)), Fit::Now);
        assert_eq!(rate.fit(7, second(1)), Fit::Never);
    }

    #[test]
    fn a_rate_that_does_not_divide_the_minute_is_exact() {
        let mut rate = Rate::new(7, 7);
        (0..7).for_each(|_| rate.admit(1, second(0)));
        assert_ne!(rate.fit(1, second(0)), Fit::Now);
        assert_eq!(
            rate.left(second(60)),
            (7, 7),
            "after a whole minute exactly seven, not six and a rounding error"
        );
    }

    #[test]
    fn what_was_not_used_comes_back_at_once_while_the_bucket_is_busy() {
        let mut rate = Rate::new(1000, 1000);
        rate.admit(600, second(0));
        rate.admit(400, second(0));
        let soon = Moment::from_nanos(1);
        rate.settle(600, 100, Moment::START, soon);
        let (left, _) = rate.left(soon);
        assert!((498..=500).contains(&left), "{left}");
    }

    /// One replica holds units and gives them back unused, ten times a second; another one uses what it can get. The bucket is
    /// full all the time, and must know that: leases that came and went once made it look as if it had been empty, and what came
    /// back was lost.
    #[test]
    fn leases_that_come_and_go_cost_nothing() {
        let mut rate = Rate::new(600, 40);
        let mut idle = std::collections::VecDeque::new();
        let mut served = 0;
        for tick in 1..=300 {
            let moment = Moment::from_nanos(tick * 100_000_000);
            if idle.len() == 4 {
                let (units, since) = idle.pop_front().unwrap();
                rate.settle(units, 0, since, moment);
            }
            let units = rate.left(moment).0.min(5);
            rate.admit(units, moment);
            idle.push_back((units, moment));
            let units = rate.left(moment).0;
            rate.admit(units, moment);
            served += units;
        }
        let held: u64 = idle.iter().map(|(units, _)| units).sum();
        // A burst, and thirty seconds; a few are lost at the beginning, when the bucket really was empty.
        assert!((330..=340).contains(&(served + held)), "{served} were served and {held} are held, of 340");
    }

    #[test]
    fn what_had_leaked_out_anyway_does_not_come_back() {
        let mut rate = Rate::new(60, 60);
        rate.admit(60, second(0));
        rate.admit(60, second(60));
        rate.settle(60, 0, second(0), second(60));
        assert_eq!(
            rate.left(second(60)).0,
            0,
            "the second admission fills the burst, whatever the first one used"
        );
    }

    #[test]
    fn using_more_than_was_held_is_a_debt() {
        let mut rate = Rate::new(60, 60);
        rate.admit(10, second(0));
        rate.settle(10, 180, second(0), second(0));
        assert_eq!(rate.fit(1, second(0)), Fit::After(Duration::from_secs(121)));
    }

    /// The naive model: every admission with its instant and its true amount, played from the start.
    fn replay(history: &[(u64, u64)], now: u64, per_minute: u64) -> u128 {
        let (mut level, mut last) = (0_u128, 0_u64);
        for (at, amount) in history {
            level = level.saturating_sub(u128::from(at - last) * u128::from(per_minute));
            level += u128::from(*amount) * ONE;
            last = *at;
        }
        level.saturating_sub(u128::from(now - last) * u128::from(per_minute))
    }

    proptest! {
        #[test]
        fn without_settlements_it_is_exactly_the_model_and_no_window_admits_too_much(
            per_minute in 1_u64..2000, burst in 1_u64..300,
            steps in prop::collection::vec((1_u64..100, 0_u64..10_000_000_000), 1..150),
        ) {
            let mut rate = Rate::new(per_minute, burst);
            let mut history: Vec<(u64, u64)> = Vec::new();
            let mut now = 0;
            for (amount, pause) in steps {
                now += pause;
                let moment = Moment::from_nanos(now);
                let level = replay(&history, now, per_minute);
                let fits = level + u128::from(amount) * ONE <= u128::from(burst) * ONE;
                prop_assert_eq!(rate.fit(amount, moment) == Fit::Now, fits);
                if let Fit::After(wait) = rate.fit(amount, moment) {
                    let nanos = wait.as_nanos() as u64;
                    let fits_at = |at| replay(&history, at, per_minute) + u128::from(amount) * ONE <= u128::from(burst) * ONE;
                    prop_assert!(fits_at(now + nanos) && !fits_at(now + nanos - 1), "the wait is exact");
                }
                if fits {
                    rate.admit(amount, moment);
                    history.push((now, amount));
                }
            }
            for (index, (start, _)) in history.iter().enumerate() {
                let mut sum = 0_u128;
                for (at, amount) in &history[index..] {
                    sum += u128::from(*amount) * ONE;
                    prop_assert!(sum <= u128::from(burst) * ONE + u128::from(at - start) * u128::from(per_minute));
                }
            }
        }

        #[test]
        fn with_settlements_it_is_never_more_generous_than_knowing_the_true_amounts_would_have_been(
            per_minute in 1_u64..2000, burst in 1_u64..300, longest in prop::sample::select(vec![40_000_u64, 3_000, 300]),
            steps in prop::collection::vec(
                (1_u64..300, 0_u64..1_000_000, any::<bool>(), 0_u64..300, any::<prop::sample::Index>()), 1..150),
        ) {
            let mut rate = Rate::new(per_minute, burst);
            let mut history: Vec<(u64, u64)> = Vec::new();
            let mut open: Vec<usize> = Vec::new();
            let mut now = 0;
            for (amount, pause, ends_one, used, which) in steps {
                now += pause * longest;
                let moment = Moment::from_nanos(now);
                if rate.fit(amount, moment) == Fit::Now {
                    rate.admit(amount, moment);
                    open.push(history.len());
                    history.push((now, amount));
                }
                if ends_one && !open.is_empty() {
                    let index = open.remove(which.index(open.len()));
                    let (at, held) = history[index];
                    let used = used.min(held);
                    rate.settle(held, used, Moment::from_nanos(at), moment);
                    history[index].1 = used;
                }
                prop_assert!(rate.level_at(moment) >= replay(&history, now, per_minute));
            }
        }
    }
}
