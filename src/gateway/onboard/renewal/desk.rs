//! What a process remembers of renewing one account's tokens: when it may ask again after a failure, and whether asking is of any
//! use. In memory, since it is about this process's own questions; what must hold over all of them is in the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;

use crate::clock::Moment;
use crate::secret::Secret;

/// After a failure that may pass; doubled each time, up to the second, and up to a fifth longer by chance.
const PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

/// A provider that asks for more time than this is asked earlier all the same.
const LONGEST_ASKED_FOR: Duration = Duration::from_secs(3600);

/// One account's, in this process: whoever comes while one is at it waits.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub turn: tokio::sync::Mutex<()>,
    failures: Mutex<Row>,
    futile: Mutex<Row>,
    /// When somebody last asked by hand, of the last minute.
    asked: Mutex<Vec<Moment>>,
    /// A token that the platform refused and that could not be renewed: to be tried again without anybody asking.
    wanted: Mutex<Option<Secret>>,
    /// It is being renewed, or waits for its turn to be, without anybody asking.
    is_begun: AtomicBool,
}

/// For as long as an account is renewed without anybody asking, or waits for that.
pub(super) struct Begun(Arc<Desk>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.is_begun.store(false, Ordering::SeqCst);
    }
}

/// So often anybody may ask by hand, within so long: a provider that is asked without end limits us for everybody.
const BY_HAND: usize = 10;
const WITHIN: Duration = Duration::from_secs(60);

/// Failures one after another.
#[derive(Debug, Default)]
struct Row {
    count: u32,
    until: Option<Moment>,
}

impl Row {
    fn lengthen(&mut self, now: Moment, at_least: Duration) -> Duration {
        // What lies long behind is another story.
        if self.until.is_some_and(|until| now > until && now.since(until) > LONGEST_PAUSE) {
            self.count = 0;
        }
        let doubled = PAUSE.saturating_mul(1 << self.count.min(5)).min(LONGEST_PAUSE);
        self.count = self.count.saturating_add(1);
        let pause = doubled.max(at_least.min(LONGEST_ASKED_FOR));
        let pause = pause.mul_f64(rand::rng().random_range(1.0..1.2));
        self.until = Some(now + pause);
        pause
    }

    fn holds(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

impl Desk {
    /// Notes that it is about to be renewed without anybody asking; `None` where it is already.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Begun> {
        (!self.is_begun.swap(true, Ordering::SeqCst)).then(|| Begun(Arc::clone(self)))
    }

    /// Whether the provider failed a moment ago.
    pub(super) fn rests(&self, now: Moment) -> bool {
        self.failures.lock().holds(now)
    }

    /// The provider failed; how long nobody asks. `after` is what it asked for.
    pub(super) fn failed(&self, now: Moment, after: Option<Duration>) -> Duration {
        self.failures.lock().lengthen(now, after.unwrap_or_default())
    }

    /// How long nobody may ask by hand, where that was done too often.
    pub(super) fn too_often(&self, now: Moment) -> Option<Duration> {
        let mut asked = self.asked.lock();
        asked.retain(|then| now.since(*then) < WITHIN);
        let first = asked.first().filter(|_| asked.len() >= BY_HAND);
        first.map(|first| WITHIN.saturating_sub(now.since(*first)))
    }

    /// Somebody asks by hand: the provider is asked, and not only who asked it just before.
    pub(super) fn is_asked_by_hand(&self, now: Moment) {
        self.asked.lock().push(now);
    }

    /// It did not, or will not any more.
    pub(super) fn is_done(&self) {
        *self.failures.lock() = Row::default();
        *self.wanted.lock() = None;
    }

    /// Whether the platform refused new tokens, too, a moment ago.
    pub(super) fn is_futile(&self, now: Moment) -> bool {
        self.futile.lock().holds(now)
    }

    /// The platform refused a new token.
    pub(super) fn was_futile(&self, now: Moment) {
        self.futile.lock().lengthen(now, Duration::ZERO);
    }

    /// Notes a token that the platform refuses.
    pub(super) fn want(&self, stale: &Secret) {
        *self.wanted.lock() = Some(stale.clone());
    }

    /// Whether that token waits to be renewed, and may be by now.
    pub(super) fn wants(&self, current: &Secret, now: Moment) -> bool {
        !self.rests(now) && self.wanted.lock().as_ref() == Some(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn pauses_grow_and_never_end_before_what_was_asked_for() {
        let (clock, hand) = Clock::manual(0);
        let desk = Desk::default();
        let mut last = Duration::ZERO;
        for wanted in [30, 60, 120, 240, 480, 900, 900] {
            let pause = desk.failed(clock.now(), None);
            let (least, most) = (Duration::from_secs(wanted), Duration::from_secs(wanted * 6 / 5));
            assert!(pause >= least && pause <= most && pause > last / 2, "{pause:?} for {wanted}");
            last = pause;
            hand.advance(pause - Duration::from_millis(1));
            assert!(desk.rests(clock.now()));
            hand.advance(Duration::from_millis(2));
            assert!(!desk.rests(clock.now()));
        }
        desk.is_done();
        let asked_for = desk.failed(clock.now(), Some(Duration::from_secs(300)));
        assert!(asked_for >= Duration::from_secs(300));
        assert!(desk.failed(clock.now(), Some(Duration::MAX)) <= Duration::from_secs(3600 * 6 / 5));
    }

    #[test]
    fn whoever_asks_by_hand_asks_ten_times_a_minute() {
        let (clock, hand) = Clock::manual(0);
        let desk = Desk::default();
        for _ in 0..BY_HAND {
            assert_eq!(desk.too_often(clock.now()), None);
            desk.is_asked_by_hand(clock.now());
            hand.advance(Duration::from_secs(1));
        }
        let wait = WITHIN - Duration::from_secs(BY_HAND as u64);
        assert_eq!(desk.too_often(clock.now()), Some(wait));
        hand.advance(wait);
        assert_eq!(desk.too_often(clock.now()), None, "the first is a minute ago");
        desk.is_asked_by_hand(clock.now());
        assert_eq!(desk.too_often(clock.now()), Some(Duration::from_secs(1)));
    }

    #[test]
    fn an_account_is_begun_once_at_a_time() {
        let desk = Arc::new(Desk::default());
        let begun = desk.begin();
        assert!(begun.is_some() && desk.begin().is_none());
        drop(begun);
        assert!(desk.begin().is_some(), "and again afterwards");
    }

    #[test]
    fn a_refused_token_is_wanted_until_there_is_another() {
        let (clock, hand) = Clock::manual(0);
        let (desk, stale) = (Desk::default(), Secret::new("t1"));
        desk.want(&stale);
        desk.failed(clock.now(), None);
        assert!(!desk.wants(&stale, clock.now()));
        hand.advance(Duration::from_secs(40));
        assert!(desk.wants(&stale, clock.now()) && !desk.wants(&Secret::new("t2"), clock.now()));
        desk.is_done();
        assert!(!desk.wants(&stale, clock.now()));
    }
}
