//! Time, injected. Why: every decision of the pool, of a cooldown or of a token's life is a function of "now", and a
//! test must be able to say what now is. No other module may ask the operating system for the time (see `.clippy.toml`).

use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// An instant on the monotonic clock, in nanoseconds since the clock was made. Never goes backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The moment at which its clock began.
    pub const START: Moment = Moment(0);

    /// From nanoseconds since the clock began.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock began.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time that has passed since `earlier`; zero where `earlier` lies ahead.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, length: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Where "now" comes from: the machine's clocks, or a hand that a test turns.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { origin: Instant },
    Manual(Arc<Hand>),
}

/// The hand of a manual clock: turned by tests, shared with every clone of the clock.
#[derive(Debug)]
pub struct Hand {
    monotonic_nanos: AtomicU64,
    wall_millis: AtomicU64,
}

impl Hand {
    /// Turns both the monotonic and the wall clock forward by `length`.
    pub fn advance(&self, length: Duration) {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        self.monotonic_nanos.fetch_add(nanos, Ordering::SeqCst);
        self.wall_millis.fetch_add(nanos / 1_000_000, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an operator or a time server may, in milliseconds since 1970.
    pub fn set_wall_millis(&self, millis: u64) {
        self.wall_millis.store(millis, Ordering::SeqCst);
    }
}

impl Clock {
    /// The machine's own clocks.
    #[expect(clippy::disallowed_methods, reason = "the one place where the system's time comes in")]
    pub fn system() -> Self {
        Self(Source::System { origin: Instant::now() })
    }

    /// A clock that stands still until its hand is turned. `wall_millis` counts from 1970.
    pub fn manual(wall_millis: u64) -> (Self, Arc<Hand>) {
        let hand =
            Arc::new(Hand { monotonic_nanos: AtomicU64::new(0), wall_millis: AtomicU64::new(wall_millis) });
        (Self(Source::Manual(Arc::clone(&hand))), hand)
    }

    /// Now, on the monotonic clock.
    pub fn now(&self) -> Moment {
        match &self.0 {
            Source::System { origin } => {
                Moment(u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
            }
            Source::Manual(hand) => Moment(hand.monotonic_nanos.load(Ordering::SeqCst)),
        }
    }

    /// Milliseconds since 1970 on the wall clock (which may jump).
    #[expect(clippy::disallowed_methods, reason = "the one place where the system's time comes in")]
    pub fn wall_millis(&self) -> u64 {
        match &self.0 {
            Source::System { .. } => SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)),
            Source::Manual(hand) => hand.wall_millis.load(Ordering::SeqCst),
        }
    }

    /// Whole seconds since 1970 on the wall clock.
    pub fn wall_seconds(&self) -> u64 {
        self.wall_millis() / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_its_hand() {
        let (clock, hand) = Clock::manual(1_000);
        let before = clock.now();
        assert_eq!(clock.now(), before);
        hand.advance(Duration::from_millis(1500));
        assert_eq!(clock.now().since(before), Duration::from_millis(1500));
        assert_eq!(clock.wall_millis(), 2_500);
    }

    #[test]
    fn an_earlier_moment_is_never_negative_time() {
        assert_eq!(Moment::START.since(Moment::from_nanos(5)), Duration::ZERO);
    }
}
