//! The pure core of limits per minute: a bucket that drains steadily, as a function of (rate, level, now). The design is
//! governor's; that crate itself can neither give back what a request did not use nor charge what it used beyond its
//! estimate, and tokens need both. All in whole numbers, so no rate is rounded.

use std::time::Duration;

use crate::clock::Moment;

/// One cell (a request, a token) in units of the level. In these units a rate of n per minute drains n per nanosecond.
const CELL: u128 = 60_000_000_000;

/// So much per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Cells per minute, at least 1.
    pub per_minute: u64,
    /// Cells that may come at once, at least 1.
    pub burst: u64,
}

/// How full a bucket was at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    level: u128,
    at: Moment,
}

/// Why cells did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// They will fit after this time, if nothing else comes.
    For(Duration),
    /// More than the bucket ever holds.
    Forever,
}

/// What a bucket still takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub cells: u64,
    /// Time until it is empty again.
    pub reset: Duration,
}

impl Rate {
    fn capacity(self) -> u128 {
        u128::from(self.burst) * CELL
    }

    /// Time that `amount` takes to drain, rounded up to a nanosecond.
    fn time(self, amount: u128) -> Duration {
        let nanos = amount.div_ceil(u128::from(self.per_minute.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn drained(self, level: u128, since: Duration) -> u128 {
        level.saturating_sub(since.as_nanos().saturating_mul(u128::from(self.per_minute)))
    }

    /// The bucket as it is at `now`.
    fn level(self, bucket: Bucket, now: Moment) -> u128 {
        self.drained(bucket.level, now.since(bucket.at))
    }

    /// The bucket with `cells` more in it, or why they do not fit.
    pub fn put(self, bucket: Bucket, cells: u64, now: Moment) -> Result<Bucket, Full> {
        let level = self.level(bucket, now) + u128::from(cells) * CELL;
        if cells > self.burst {
            return Err(Full::Forever);
        }
        match level.checked_sub(self.capacity()) {
            Some(over) if over > 0 => Err(Full::For(self.time(over))),
            _ => Ok(Bucket { level, at: now }),
        }
    }

    /// Corrects `was` cells that were put in to `is`. More is charged, even over the brim. Less is given back, as far as
    /// there is something left: what has drained meanwhile is gone. So what was really used, from the beginning on,
    /// never exceeds the rate and one burst, whatever the estimates were.
    pub fn correct(self, bucket: Bucket, was: u64, is: u64, now: Moment) -> Bucket {
        let level = self.level(bucket, now);
        let level = if is >= was {
            level.saturating_add(u128::from(is - was) * CELL)
        } else {
            level.saturating_sub(u128::from(was - is) * CELL)
        };
        Bucket { level, at: now }
    }

    /// What still fits at `now`.
    pub fn room(self, bucket: Bucket, now: Moment) -> Room {
        let level = self.level(bucket, now);
        let cells = self.capacity().saturating_sub(level) / CELL;
        Room { cells: u64::try_from(cells).unwrap_or(u64::MAX), reset: self.time(level) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Moment {
        Moment::START + Duration::from_millis(millis)
    }

    #[test]
    fn takes_the_burst_at_once_and_then_the_rate() {
        let rate = Rate { per_minute: 60, burst: 5 };
        let mut bucket = Bucket::default();
        for _ in 0..5 {
            bucket = rate.put(bucket, 1, at(0)).expect("fits");
        }
        assert_eq!(rate.put(bucket, 1, at(0)).err(), Some(Full::For(Duration::from_secs(1))));
        assert_eq!(rate.put(bucket, 1, at(999)).err(), Some(Full::For(Duration::from_millis(1))));
        assert!(rate.put(bucket, 1, at(1000)).is_ok());
        assert_eq!(rate.put(bucket, 6, at(100_000)).err(), Some(Full::Forever));
        assert_eq!(rate.room(bucket, at(0)), Room { cells: 0, reset: Duration::from_secs(5) });
        assert_eq!(rate.room(bucket, at(2500)), Room { cells: 2, reset: Duration::from_millis(2500) });
    }

    #[test]
    fn no_number_overflows() {
        let rate = Rate { per_minute: u64::MAX, burst: u64::MAX };
        let bucket = rate.put(Bucket::default(), u64::MAX, at(0)).expect("fits");
        let bucket = rate.correct(bucket, u64::MAX, 0, at(u64::MAX / 2_000_000));
        assert!(rate.put(bucket, u64::MAX, Moment::from_nanos(u64::MAX)).is_ok());
        let slow = Rate { per_minute: 1, burst: 1 };
        let bucket = slow.put(Bucket::default(), 1, at(0)).expect("fits");
        let bucket = slow.correct(bucket, 1, u64::MAX, at(0));
        assert_eq!(slow.put(bucket, 1, at(0)).err(), Some(Full::For(Duration::from_nanos(u64::MAX))));
    }

    #[test]
    fn what_was_not_used_fits_again_at_once() {
        let rate = Rate { per_minute: 1000, burst: 1000 };
        let bucket = rate.put(Bucket::default(), 1000, at(0)).expect("fits");
        let bucket = rate.correct(bucket, 1000, 400, at(0));
        assert_eq!(rate.room(bucket, at(0)).cells, 600);
        let bucket = rate.correct(bucket, 400, 500, at(0));
        assert_eq!(rate.room(bucket, at(0)).cells, 500);
    }

    proptest! {
        /// However requests are estimated, and in whatever order settled, what was really used never exceeds the rate
        /// and one burst, plus what estimates fell short.
        #[test]
        fn never_lets_in_more_than_the_rate(
            steps in prop::collection::vec((0u64..20_000, 1u64..800, 0u64..1000, 0usize..4), 1..60),
            per_minute in 1u64..3000,
        ) {
            let rate = Rate { per_minute, burst: 1000 };
            let (mut bucket, mut now, mut total, mut short) = (Bucket::default(), 0, 0, 0);
            let mut open: Vec<(u64, u64)> = vec![];
            for (wait, estimate, used, settle) in steps {
                now += wait;
                if let Ok(fuller) = rate.put(bucket, estimate, at(now)) {
                    bucket = fuller;
                    total += u128::from(used);
                    short += u128::from(used.saturating_sub(estimate));
                    open.push((estimate, used));
                }
                if settle < open.len() {
                    let (estimate, used) = open.remove(settle);
                    bucket = rate.correct(bucket, estimate, used, at(now));
                }
                let most = rate.capacity() + u128::from(now) * 1_000_000 * u128::from(per_minute);
                prop_assert!((total - short) * CELL <= most);
            }
        }

        /// A refusal's hint is exact: not a nanosecond earlier, and then surely.
        #[test]
        fn a_refusal_knows_when_to_come_back(per_minute in 1u64..100_000, burst in 1u64..1000, cells in 1u64..1000) {
            let rate = Rate { per_minute, burst };
            let cells = cells.min(burst);
            let bucket = rate.put(Bucket::default(), burst, at(0)).expect("fits");
            let Err(Full::For(wait)) = rate.put(bucket, cells, at(0)) else { panic!("it is full") };
            prop_assert!(rate.put(bucket, cells, at(0) + wait).is_ok());
            prop_assert!(rate.put(bucket, cells, at(0) + (wait - Duration::from_nanos(1))).is_err());
        }
    }
}
