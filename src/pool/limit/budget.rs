//! So much per day or month. Why two numbers: `held` is what requests under way may still use, `spent` what is gone; a
//! request is admitted only if both and its own estimate fit, so a crowd at the limit cannot overspend it.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::Fit;
use super::calendar::{Period, Span};

/// How far the wall clock may go back before we believe it. A smaller step (a time server, a skewed host) must not open
/// a day that was closed; a larger one is somebody repairing a clock that ran years ahead.
const BELIEVED_STEP_BACK_MILLIS: u64 = 36 * 60 * 60 * 1000;

/// A calendar limit and what was used of it in the current period.
#[derive(Clone, Debug)]
pub(in crate::pool) struct Budget {
    span: Span,
    limit: u64,
    period: Period,
    spent: u64,
    held: u64,
}

impl Budget {
    pub(in crate::pool) fn new(span: Span, limit: u64) -> Self {
        Self { span, limit, period: Period::default(), spent: 0, held: 0 }
    }

    /// Takes a new limit over; what was spent stays spent. The period is worked out anew: the zone may have changed.
    pub(in crate::pool) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
        self.period.ends = self.period.starts;
    }

    /// Opens today's count if the day has turned. To be called before anything else.
    pub(in crate::pool) fn roll(&mut self, wall_millis: u64, zone: &TimeZone) {
        if self.period.contains(wall_millis) {
            return;
        }
        let today = Period::around(self.span, wall_millis, zone);
        if today.key > self.period.key {
            (self.period, self.spent, self.held) = (today, 0, 0);
        } else if today.key == self.period.key
            || wall_millis.saturating_add(BELIEVED_STEP_BACK_MILLIS) < self.period.starts
        {
            self.period = today;
        }
    }

    /// Whether `amount` fits into what is left.
    pub(in crate::pool) fn fit(&self, amount: u64, wall_millis: u64) -> Fit {
        if amount > self.limit {
            Fit::Never
        } else if self.spent.saturating_add(self.held).saturating_add(amount) <= self.limit {
            Fit::Now
        } else if self.spent.saturating_add(amount) <= self.limit {
            Fit::WhenOthersEnd
        } else {
            Fit::After(self.until_reset(wall_millis))
        }
    }

    /// The period that is counted now.
    pub(in crate::pool) fn key(&self) -> i32 {
        self.period.key
    }

    /// Sets `amount` aside and names the period that it belongs to.
    pub(in crate::pool) fn hold(&mut self, amount: u64) -> i32 {
        self.held = self.held.saturating_add(amount);
        self.period.key
    }

    /// Replaces what was `held` in the period `key` by what was `used`. A period that is over is not touched, and neither
    /// is the one after it.
    pub(in crate::pool) fn settle(&mut self, key: i32, held: u64, used: u64) {
        if key == self.period.key {
            self.held = self.held.saturating_sub(held);
            self.spent = self.spent.saturating_add(used);
        }
    }

    /// Counts what was never held here: a request that began before this limit did.
    pub(in crate::pool) fn spend(&mut self, used: u64) {
        self.spent = self.spent.saturating_add(used);
    }

    /// (neither spent nor held, the limit).
    pub(in crate::pool) fn left(&self) -> (u64, u64) {
        (self.limit.saturating_sub(self.spent.saturating_add(self.held)), self.limit)
    }

    pub(in crate::pool) fn until_reset(&self, wall_millis: u64) -> Duration {
        Duration::from_millis(self.period.ends.saturating_sub(wall_millis))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1000;

    fn at(text: &str) -> u64 {
        u64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_millisecond()).unwrap()
    }

    #[test]
    fn what_is_held_stands_in_the_way_and_says_so() {
        let mut budget = Budget::new(Span::Day, 100);
        budget.roll(at("2026-11-21T23:00:00Z"), &TimeZone::UTC);
        let key = budget.hold(90);
        assert_eq!(budget.fit(10, 0), Fit::Now);
        assert_eq!(budget.fit(11, 0), Fit::WhenOthersEnd);
        budget.settle(key, 90, 95);
        assert_eq!(budget.fit(6, at("2026-11-21T23:00:00Z")), Fit::After(Duration::from_secs(3600)));
        assert_eq!(budget.fit(101, 0), Fit::Never);
    }

    #[test]
    fn a_request_over_midnight_does_not_touch_the_next_day() {
        let mut budget = Budget::new(Span::Day, 100);
        budget.roll(at("2026-11-21T23:59:59Z"), &TimeZone::UTC);
        let key = budget.hold(60);
        budget.roll(at("2026-11-22T00:00:00Z"), &TimeZone::UTC);
        assert_eq!(budget.left(), (100, 100));
        budget.settle(key, 60, 500);
        assert_eq!(budget.left(), (100, 100));
    }

    #[test]
    fn settling_more_than_held_makes_the_account_rest_for_the_day_only() {
        let mut budget = Budget::new(Span::Day, 100);
        let morning = at("2026-11-21T08:00:00Z");
        budget.roll(morning, &TimeZone::UTC);
        let key = budget.hold(10);
        budget.settle(key, 10, 250);
        assert_eq!(budget.left(), (0, 100));
        budget.roll(morning + DAY, &TimeZone::UTC);
        assert_eq!(budget.left(), (100, 100));
    }

    #[test]
    fn a_clock_that_jumps_over_midnight_and_back_does_not_give_the_day_twice() {
        let mut budget = Budget::new(Span::Day, 100);
        let noon = at("2026-11-22T00:30:00Z");
        budget.roll(noon, &TimeZone::UTC);
        let key = budget.hold(100);
        budget.settle(key, 100, 100);
        for wall in [noon - 3_600_000, noon, noon - 7_200_000, noon + 3_600_000] {
            budget.roll(wall, &TimeZone::UTC);
            assert_eq!(budget.left(), (0, 100), "{wall}");
        }
    }

    #[test]
    fn a_clock_that_ran_years_ahead_does_not_close_the_account_for_years() {
        let mut budget = Budget::new(Span::Day, 100);
        budget.roll(at("2036-01-01T00:00:00Z"), &TimeZone::UTC);
        budget.spend(100);
        budget.roll(at("2026-01-01T00:00:00Z"), &TimeZone::UTC);
        assert_eq!(budget.left().0, 0, "the correction itself gives nothing back");
        budget.roll(at("2026-01-02T00:00:00Z"), &TimeZone::UTC);
        assert_eq!(budget.left().0, 100);
    }

    proptest! {
        /// The naive model: a map from day to what was admitted and what was used there.
        #[test]
        fn a_day_never_admits_more_than_its_limit(
            limit in 1_u64..500,
            steps in prop::collection::vec((0_u64..200, 0_u64..DAY / 4, any::<bool>(), 0_u64..150), 1..200),
        ) {
            let mut budget = Budget::new(Span::Day, limit);
            let mut wall = at("2026-03-07T00:00:00Z");
            let mut open: Vec<(i32, u64)> = Vec::new();
            let mut days: HashMap<u64, (u64, u64)> = HashMap::new();
            for (amount, pause, ends_one, used) in steps {
                wall += pause;
                let today = wall / DAY;
                budget.roll(wall, &TimeZone::UTC);
                let (held, spent) = *days.entry(today).or_default();
                let fits = held + spent + amount <= limit;
                prop_assert_eq!(budget.fit(amount, wall) == Fit::Now, fits);
                if fits {
                    open.push((budget.hold(amount), amount));
                    days.entry(today).or_default().0 += amount;
                }
                if ends_one && !open.is_empty() {
                    let (key, amount) = open.remove(0);
                    budget.settle(key, amount, used);
                    if key == budget.period.key {
                        let day = days.entry(today).or_default();
                        day.0 -= amount;
                        day.1 += used;
                    }
                }
                let (held, spent) = *days.entry(today).or_default();
                prop_assert_eq!(budget.left().0, limit.saturating_sub(held + spent));
            }
        }
    }
}
