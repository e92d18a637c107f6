//! Choosing among the candidates. Why sampling: looking at every account of ten thousand for every request would cost more
//! than the rest of the gateway; the better of two drawn at random is nearly as even as the best of all.
//!
//! Sampling may miss; it never refuses. Only [`Choice::scan`], which asks every candidate, says no, and it knows from
//! each of them why and until when.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::Want;
use super::dice::{Throw, mix};
use super::limit::Now;
use super::member::{Core, Score};
use super::refusal::{Refusal, Why};
use super::reservation::Reservation;
use super::roster::{Bucket, Entry, Field};
use super::settings::Strategy;
use super::shown::Place;

/// Up to so many candidates are all compared.
const FEW: usize = 8;
/// Draws until two eligible ones are found.
const DRAWS: usize = 12;
/// Accounts that one request may have the authority asked about, before it waits for the answers.
const ASKS: usize = 16;
/// Candidates whose load is looked at to know what is usual.
const LOAD_SAMPLE: usize = 16;
/// So many more requests under way than at another account are no reason to wait for that one.
const SLACK: u64 = 4;
/// `sticky` never spills below so many requests under way: an idle pool must not scatter a conversation.
const SPILL_FLOOR: u64 = 4;
/// 2^64 over the golden ratio: steps of it fall evenly into the unit interval, for any number of steps.
const GOLDEN_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Candidates that lie side by side.
#[derive(Clone, Copy)]
pub(super) struct Slice<'a> {
    entries: &'a [Entry],
    /// What each of them shows.
    shown: &'a [Place],
}

impl<'a> Slice<'a> {
    pub(super) fn of(bucket: &'a Bucket) -> Self {
        Self { entries: &bucket.entries, shown: &bucket.shown }
    }

    /// Those before `place`, and the rest.
    fn split_at(self, place: usize) -> (Self, Self) {
        let (entries, later) = self.entries.split_at_checked(place).unwrap_or((self.entries, &[]));
        let (shown, shown_later) = self.shown.split_at_checked(place).unwrap_or((self.shown, &[]));
        (Self { entries, shown }, Self { entries: later, shown: shown_later })
    }
}

/// All candidates.
pub(super) type Slices<'a> = SmallVec<[Slice<'a>; 4]>;

/// One choice in the making.
pub(super) struct Choice<'a> {
    pub want: &'a Want<'a>,
    pub now: Now<'a>,
    pub core: &'a Core,
    pub throw: Throw,
}

/// What makes one account better than another.
#[derive(Clone, Copy)]
pub(super) enum By {
    Headroom,
    InFlight,
}

impl Choice<'_> {
    /// Takes an account out of `field` by the wanted strategy.
    pub(super) fn take(&mut self, field: &Field<'_>) -> Result<Reservation, Refusal> {
        let all: Slices<'_> = field.iter().map(|bucket| Slice::of(bucket)).collect();
        match (self.want.strategy, self.want.affinity) {
            (Strategy::Sticky, Some(key)) => self.sticky(field, &all, key),
            (Strategy::Headroom | Strategy::Sticky, _) => self.best(&all, By::Headroom),
            (Strategy::LeastInFlight, _) => self.best(&all, By::InFlight),
            (Strategy::RoundRobin, _) => {
                let start = field.first().map_or(0, |bucket| bucket.cursor.fetch_add(1, Ordering::Relaxed));
                self.scan(&all, usize::try_from(start % len(&all).max(1) as u64).unwrap_or(0), 1)
            }
            (Strategy::Weighted, _) => self.weighted(field, &all),
            (Strategy::Priority, _) => self.priority(&all),
        }
    }

    /// The best of a few, or the better of two, by what they show.
    pub(super) fn glance<'a>(&mut self, slices: &Slices<'a>, by: By) -> Option<&'a Entry> {
        if !self.want.tried.is_empty() {
            return None;
        }
        let count = len(slices);
        let is_few = count <= FEW;
        let start = self.throw.below(count);
        // Both are drawn before either is looked at: the machine then fetches them side by side.
        let places = [start, if is_few { start } else { self.throw.below(count) }];
        let mut best: Option<(Score, Slice<'_>, usize)> = None;
        for step in 0..if is_few { count } else { places.len() } {
            let place = if is_few { (start + step) % count } else { *places.get(step)? };
            let (slice, place) = locate(slices, place)?;
            let score = slice.shown.get(place)?.read(self.want.tokens, self.now.moment)?;
            if best.is_none_or(|(known, ..)| is_better(&score, &known, by)) {
                best = Some((score, slice, place));
            }
        }
        best.and_then(|(_, slice, place)| slice.entries.get(place))
    }

    /// The best of a few, or the better of two.
    fn best(&mut self, slices: &Slices<'_>, by: By) -> Result<Reservation, Refusal> {
        if let Some(entry) = self.glance(slices, by)
            && let Ok(taken) = self.try_take(entry)
        {
            return Ok(taken);
        }
        self.look(slices, by)
    }

    /// As [`Self::glance`], but asks them.
    fn look(&mut self, slices: &Slices<'_>, by: By) -> Result<Reservation, Refusal> {
        let count = len(slices);
        let is_few = count <= FEW;
        let start = self.throw.below(count);
        let mut best: Option<(Score, &Entry)> = None;
        let mut cold: Option<(Score, &Entry)> = None;
        let mut seen = 0;
        for step in 0..if is_few { count } else { DRAWS } {
            let place = if is_few { (start + step) % count } else { self.throw.below(count) };
            let Some(entry) = get(slices, place) else { continue };
            if best.is_some_and(|(_, known)| std::ptr::eq(known, entry)) {
                continue;
            }
            let Some(score) = self.score(entry) else { continue };
            if best.is_none_or(|(known, _)| is_better(&score, &known, by)) {
                best = Some((score, entry));
            }
            if !score.is_covered {
                // It would have to wait: others are looked for, and the next request shall find it ready.
                if cold.is_none_or(|(known, _)| score.in_flight < known.in_flight) {
                    cold = Some((score, entry));
                }
                continue;
            }
            seen += 1;
            if seen == 2 && !is_few {
                break;
            }
        }
        if let Some((score, mut entry)) = best {
            if let Some((other, cold)) = cold.filter(|_| score.is_covered) {
                if is_left_behind(&other, &score) && self.core.authority_answers() {
                    entry = cold;
                } else {
                    cold.member.prepare(self.want.model, self.want.tokens, &self.now, self.core);
                }
            }
            match self.try_take(entry) {
                Err(refusal) if refusal.why != Why::Asking => {}
                decided => return decided,
            }
        }
        self.scan(slices, start, ASKS)
    }

    /// Draws by weight. The draws follow each other by golden steps, so that shares come out even after few of them.
    fn weighted(&mut self, field: &Field<'_>, all: &Slices<'_>) -> Result<Reservation, Refusal> {
        let total: u64 = field.iter().filter_map(|bucket| bucket.heights.last()).sum();
        for _ in 0..DRAWS {
            let Some(first) = field.first() else { break };
            let step = first.cursor.fetch_add(1, Ordering::Relaxed);
            let height = (u128::from(step.wrapping_mul(GOLDEN_STEP)) * u128::from(total)) >> 64;
            let entry = at_height(field, u64::try_from(height).unwrap_or(0));
            if let Some(entry) = entry
                && !self.is_tried(entry)
            {
                // Its turn is its turn: where the authority must be asked, the request waits.
                match self.try_take(entry) {
                    Err(refusal) if refusal.why != Why::Asking => {}
                    decided => return decided,
                }
            }
        }
        let start = self.throw.below(len(all));
        self.scan(all, start, ASKS)
    }

    /// The lowest number that has an eligible account; within it as `headroom`.
    fn priority(&mut self, all: &Slices<'_>) -> Result<Reservation, Refusal> {
        let mut rest = all.clone();
        let mut refusal: Option<Refusal> = None;
        loop {
            let first = rest.iter().filter_map(|slice| slice.entries.first().map(priority_of)).min();
            let Some(level) = first else { break };
            let mut tier = Slices::new();
            for slice in &mut rest {
                let end = slice.entries.partition_point(|entry| priority_of(entry) <= level);
                let (here, later) = slice.split_at(end);
                tier.push(here);
                *slice = later;
            }
            match self.best(&tier, By::Headroom) {
                Ok(taken) => return Ok(taken),
                Err(other) if other.why == Why::Asking => return Err(other),
                Err(other) => refusal = Some(refusal.map_or(other, |known| known.sooner(other))),
            }
        }
        Err(refusal.unwrap_or(Refusal::never(Why::NoneConfigured)))
    }

    /// Rendezvous: of all candidates the one whose hash with the key is the highest, so that the key moves only when its own account
    /// goes. Where that one carries twice what is usual, the next one. Reads one number for each candidate.
    fn sticky(&mut self, field: &Field<'_>, all: &Slices<'_>, key: u64) -> Result<Reservation, Refusal> {
        let most = self.spill_at(all);
        for may_be_busy in [false, true] {
            let mut best: Option<(u64, &Entry)> = None;
            for bucket in field {
                for (hash, entry) in bucket.hashes.iter().zip(&bucket.entries) {
                    let rank = mix(hash ^ key);
                    // Asking an account costs a lock: only one that would win is asked.
                    if best.is_none_or(|(highest, _)| rank > highest)
                        && self.score(entry).is_some_and(|score| may_be_busy || score.in_flight < most)
                    {
                        best = Some((rank, entry));
                    }
                }
            }
            if let Some((_, entry)) = best {
                match self.try_take(entry) {
                    Err(refusal) if refusal.why != Why::Asking => {}
                    decided => return decided,
                }
            }
        }
        let start = self.throw.below(len(all));
        self.scan(all, start, ASKS)
    }

    /// Twice the usual number of requests under way.
    fn spill_at(&mut self, all: &Slices<'_>) -> u64 {
        let count = len(all);
        let sample = count.min(LOAD_SAMPLE);
        let start = self.throw.below(count);
        let places = (0..sample).map(|step| (start + step * count / sample.max(1)) % count.max(1));
        let load: u64 =
            places.filter_map(|place| get(all, place)).map(|entry| entry.member.in_flight()).sum();
        (2 * (load + 1)).div_ceil(sample.max(1) as u64).max(SPILL_FLOOR)
    }

    /// The first from `start` on that can; the only way to a refusal. Where the authority must be asked about some first,
    /// it is asked about at most so many.
    fn scan(&mut self, slices: &Slices<'_>, start: usize, asks: usize) -> Result<Reservation, Refusal> {
        let count = len(slices);
        let mut asked: Option<Refusal> = None;
        let mut asks = asks;
        let mut refusal: Option<Refusal> = None;
        for step in 0..count {
            let Some(entry) = get(slices, (start + step) % count) else { continue };
            let one = if self.is_tried(entry) {
                let state = entry.member.score(self.want.model, self.want.tokens, &self.now);
                state.err().unwrap_or(Refusal::never(Why::AllTried))
            } else {
                match self.try_take(entry) {
                    Ok(taken) => return Ok(taken),
                    Err(one) if one.why == Why::Asking => {
                        asked = Some(one);
                        asks -= 1;
                        if asks == 0 {
                            break;
                        }
                        continue;
                    }
                    Err(one) => one,
                }
            };
            refusal = Some(refusal.map_or(one, |known| known.sooner(one)));
        }
        Err(asked.or(refusal).unwrap_or(Refusal::never(Why::NoneConfigured)))
    }

    fn is_tried(&self, entry: &Entry) -> bool {
        self.want.tried.contains(&entry.member.id)
    }

    fn score(&self, entry: &Entry) -> Option<Score> {
        if self.is_tried(entry) {
            return None;
        }
        entry.member.score(self.want.model, self.want.tokens, &self.now).ok()
    }

    fn try_take(&self, entry: &Entry) -> Result<Reservation, Refusal> {
        let taken = entry.member.take(self.want.model, self.want.tokens, &self.now, self.core)?;
        let (model, upstream) = match &entry.model {
            Some((model, own)) => (Arc::clone(model), Arc::clone(own)),
            None => {
                let model: Arc<str> = Arc::from(self.want.model);
                (Arc::clone(&model), model)
            }
        };
        Ok(Reservation::new(Arc::clone(&entry.seat), model, upstream, taken, self.now.moment))
    }
}

/// Whether an account that the authority must be asked about carries so much less than one that could be had at once that a request
/// rather waits: else whoever was asked about first would carry a rush alone.
fn is_left_behind(cold: &Score, covered: &Score) -> bool {
    cold.in_flight + cold.in_flight / 8 + SLACK < covered.in_flight
}

fn is_better(one: &Score, other: &Score, by: By) -> bool {
    if one.is_covered != other.is_covered {
        return one.is_covered;
    }
    let by_load = one.in_flight.cmp(&other.in_flight).then(one.last_taken.cmp(&other.last_taken)).is_lt();
    match by {
        By::InFlight => by_load,
        By::Headroom => match one.headroom.total_cmp(&other.headroom) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => by_load,
        },
    }
}

fn priority_of(entry: &Entry) -> u32 {
    entry.priority
}

fn len(slices: &Slices<'_>) -> usize {
    slices.iter().map(|slice| slice.entries.len()).sum()
}

fn get<'a>(slices: &Slices<'a>, place: usize) -> Option<&'a Entry> {
    locate(slices, place).and_then(|(slice, place)| slice.entries.get(place))
}

/// The slice that the candidate at `place` lies in, and where in it.
fn locate<'a>(slices: &Slices<'a>, mut place: usize) -> Option<(Slice<'a>, usize)> {
    for slice in slices {
        if place < slice.entries.len() {
            return Some((*slice, place));
        }
        place -= slice.entries.len();
    }
    None
}

/// The entry in whose part of the summed weights `height` lies.
fn at_height<'a>(field: &Field<'a>, mut height: u64) -> Option<&'a Entry> {
    let pick = |bucket: &'a Bucket, height: u64| {
        bucket.entries.get(bucket.heights.partition_point(|top| *top <= height))
    };
    for bucket in field {
        let top = bucket.heights.last().copied().unwrap_or(0);
        if height < top {
            return pick(bucket, height);
        }
        height -= top;
    }
    None
}
