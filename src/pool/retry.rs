//! How many requests may be retries. Why a budget: when everything fails, three attempts per request are three times the
//! load on a platform that is already down.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;

/// Length of the window, in slots of one second.
const SLOTS: u64 = 10;
/// Retries in a window that are always allowed: a quiet gateway must be able to retry its only request.
const FLOOR: u64 = 3;
/// Requests in one slot that are told apart; beyond it the slot counts as that many.
const MOST: u64 = (1 << 20) - 1;

/// A sliding window over requests and retries, shared by all threads without a lock.
#[derive(Debug)]
pub struct RetryBudget {
    clock: Clock,
    /// Share of requests that may be retries, in millionths.
    share_millionths: AtomicU64,
    /// Each slot: which second (24 bits), requests (20 bits), retries (20 bits), in one word.
    slots: [AtomicU64; SLOTS as usize],
}

#[derive(Clone, Copy, Default)]
struct Slot {
    second: u64,
    requests: u64,
    retries: u64,
}

impl RetryBudget {
    pub(super) fn new(clock: Clock, share: f64) -> Self {
        let budget = Self {
            clock,
            share_millionths: AtomicU64::new(0),
            slots: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        budget.set_share(share);
        budget
    }

    /// Sets the share of requests that may be retries, 0 to 1 (`retry.budget`).
    pub fn set_share(&self, share: f64) {
        let millionths = (share.clamp(0.0, 1.0) * 1e6).round() as u64;
        self.share_millionths.store(millionths, Ordering::Relaxed);
    }

    /// Counts a request (its first attempt).
    pub fn note_request(&self) {
        let second = self.second();
        self.change(second, |slot| Some(Slot { requests: (slot.requests + 1).min(MOST), ..slot }));
    }

    /// Takes one retry out of the budget; false where it is used up.
    pub fn try_retry(&self) -> bool {
        let second = self.second();
        let share = u128::from(self.share_millionths.load(Ordering::Relaxed));
        if share == 0 {
            return false;
        }
        self.change(second, |slot| {
            let (mut requests, mut retries) = (slot.requests, slot.retries);
            for back in 1..SLOTS {
                let past = self.read(second.wrapping_sub(back));
                requests += past.requests;
                retries += past.retries;
            }
            let allowed = u128::from(requests) * share / 1_000_000;
            let fits = u128::from(retries) < allowed.max(u128::from(FLOOR)) && slot.retries < MOST;
            fits.then_some(Slot { retries: slot.retries + 1, ..slot })
        })
    }

    fn second(&self) -> u64 {
        // One more than has passed, so that a slot of zeros is no second at all.
        self.clock.now().as_nanos() / 1_000_000_000 + SLOTS
    }

    fn read(&self, second: u64) -> Slot {
        let word = self.slots.get(place(second)).map_or(0, |slot| slot.load(Ordering::Acquire));
        let slot = unpack(word);
        if slot.second == second & 0xff_ffff { slot } else { Slot::default() }
    }

    /// Changes the slot of `second` in one step. All writers of a second write one word, so a change that was decided on a
    /// stale count of it is decided again. False where `to` declines.
    fn change(&self, second: u64, to: impl Fn(Slot) -> Option<Slot>) -> bool {
        let Some(cell) = self.slots.get(place(second)) else { return false };
        let changed = cell.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let slot = unpack(word);
            let fresh = Slot { second: second & 0xff_ffff, ..Slot::default() };
            let slot = if slot.second == fresh.second { slot } else { fresh };
            to(slot).map(pack)
        });
        changed.is_ok()
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % SLOTS).unwrap_or(0)
}

fn pack(slot: Slot) -> u64 {
    (slot.second << 40) | (slot.requests << 20) | slot.retries
}

fn unpack(word: u64) -> Slot {
    Slot { second: word >> 40, requests: (word >> 20) & MOST, retries: word & MOST }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_outage_is_amplified_by_the_share_and_no_more() {
        let (clock, hand) = Clock::manual(0);
        let budget = RetryBudget::new(clock, 0.2);
        let mut retries = 0;
        for _ in 0..1000 {
            budget.note_request();
            retries += (0..2).filter(|_| budget.try_retry()).count();
            hand.advance(Duration::from_millis(5));
        }
        assert!((190..=200).contains(&retries), "{retries}");
    }

    #[test]
    fn a_quiet_gateway_may_retry_and_an_old_window_is_forgotten() {
        let (clock, hand) = Clock::manual(0);
        let budget = RetryBudget::new(clock, 0.2);
        budget.note_request();
        assert_eq!((0..10).filter(|_| budget.try_retry()).count(), 3);
        hand.advance(Duration::from_secs(9));
        assert!(!budget.try_retry());
        hand.advance(Duration::from_secs(1));
        assert_eq!((0..10).filter(|_| budget.try_retry()).count(), 3);
    }

    #[test]
    fn a_share_of_nothing_means_no_retry() {
        let budget = RetryBudget::new(Clock::manual(0).0, 0.0);
        budget.note_request();
        assert!(!budget.try_retry());
    }

    #[test]
    fn threads_together_get_no_more_than_one_would() {
        let budget = RetryBudget::new(Clock::manual(0).0, 0.2);
        (0..1000).for_each(|_| budget.note_request());
        let won: usize = std::thread::scope(|scope| {
            let each: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..500).filter(|_| budget.try_retry()).count())).collect();
            each.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(won, 200);
    }
}
