//! How low a bucket has been, by slices of time: what bounds how much may come back (see [`super::rate::Rate::settle`]). Why twice:
//! a lease goes back after a fraction of a second, a request is settled after minutes. What goes back lowers the past, and
//! a slice knows only one lowest level: where short and long were told in the same long slices, a few seconds of leases coming and
//! going made a full bucket look as if it had been empty, and what came back after that was lost.

/// Slices that are remembered.
const SLICES: u64 = 16;

/// The lowest levels in slices of so many nanoseconds each, a ring by slice number, for the time that `SLICES` of them cover.
#[derive(Clone, Debug, Default)]
pub(super) struct Lows<const NANOS: u64>([u64; SLICES as usize]);

impl<const NANOS: u64> Lows<NANOS> {
    /// Lows as they lie on disk; what is not known there counts as empty.
    pub(super) fn of(kept: &[u64]) -> Self {
        let mut lows = Self::default();
        for (low, kept) in lows.0.iter_mut().zip(kept) {
            *low = *kept;
        }
        lows
    }

    pub(super) fn to_vec(&self) -> Vec<u64> {
        self.0.to_vec()
    }

    /// From `before` on nothing was admitted; at `now` the level is `low`.
    pub(super) fn pass(&mut self, before: u64, now: u64, low: u64) {
        let (first, last) = (before / NANOS, now / NANOS);
        // The slice that we left gets the level of now too, which is lower than it was: cautious.
        self.change(first, |old| old.min(low));
        for slice in (first + 1).max(last.saturating_sub(SLICES - 1))..=last {
            self.change(slice, |_| low);
        }
    }

    /// The lowest level from `since` to `now`; `None`: that is too long ago.
    pub(super) fn lowest(&self, since: u64, now: u64) -> Option<u64> {
        let (first, last) = (since / NANOS, now / NANOS);
        if first + SLICES <= last {
            return None;
        }
        (first..=last).filter_map(|slice| self.0.get(place(slice)).copied()).min()
    }

    /// From `since` to `now` all levels were lower by so much than had been thought.
    pub(super) fn lower(&mut self, since: u64, now: u64, by: u64) {
        let (first, last) = (since / NANOS, now / NANOS);
        for slice in first.max((last + 1).saturating_sub(SLICES))..=last {
            self.change(slice, |old| old.saturating_sub(by));
        }
    }

    fn change(&mut self, slice: u64, change: impl FnOnce(u64) -> u64) {
        if let Some(low) = self.0.get_mut(place(slice)) {
            *low = change(*low);
        }
    }
}

fn place(slice: u64) -> usize {
    usize::try_from(slice % SLICES).unwrap_or(0)
}
