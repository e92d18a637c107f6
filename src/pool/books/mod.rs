//! The authority's side, as pure functions: what is known of one account's limits over all replicas, and what a bid makes
//! of it. Why pure: the embedded store runs this very code, the script in Redis is held against it by a test, and the
//! simulation drives it through schedules that no cluster would ever show.
//!
//! The rules: units are granted before they are used, and what was granted counts as used until the replica that holds
//! it says otherwise. A replica that dies says nothing any more: what it held counts for good (budgets), drains (rates)
//! or is free again after a time of silence (slots: its connections died with it).

mod flow;
mod record;
mod stock;

use std::collections::BTreeMap;

use self::flow::Flow;
use self::stock::Stock;
use super::bid::{Bid, Gauge, Grant, Line, Outcome, ReplicaId, Reply, Rest, Terms};

pub(super) use self::record::Record;

/// A replica is taken into account as a competitor for so long after its last bid, in milliseconds.
const COMPETES: u64 = 2_000;

/// Rests that are kept for an account.
const MAX_RESTS: usize = 64;

/// Replicas whose last answer is remembered.
const MAX_ANSWERS: usize = 256;

/// One account's limits, over all replicas.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    flows: BTreeMap<Gauge, Flow>,
    stocks: BTreeMap<Gauge, Stock>,
    /// The last bid of each replica, and what it was answered.
    answered: BTreeMap<ReplicaId, (u64, Reply)>,
    rests: Vec<Rest>,
}

impl Book {
    /// Carries `bid` of `replica` out at `now` (milliseconds on the authority's clock).
    pub(super) fn carry_out(&mut self, replica: &ReplicaId, bid: &Bid, now: u64) -> Outcome {
        if let Some((serial, reply)) = self.answered.get(replica) {
            match serial.cmp(&bid.serial) {
                std::cmp::Ordering::Greater => return Outcome::Stale,
                std::cmp::Ordering::Equal => {
                    let reply = reply.clone();
                    return if self.is_alive(replica, bid, now) {
                        Outcome::Answered(Box::new(reply))
                    } else {
                        Outcome::Stale
                    };
                }
                std::cmp::Ordering::Less => {}
            }
        }
        let mut lost = 0;
        let grants = bid.lines.iter().map(|line| self.grant(replica, line, now, &mut lost)).collect();
        bid.rests.iter().for_each(|rest| self.note_rest(rest));
        self.rests.retain(|rest| rest.until > now);
        let reply = Reply { now, lost, grants, rests: self.rests.iter().cloned().collect() };
        self.remember(replica, bid.serial, &reply);
        Outcome::Answered(Box::new(reply))
    }

    /// For tests of the tests: bids are carried out whenever they come.
    #[cfg(test)]
    pub(super) fn forget_answers(&mut self) {
        self.answered.clear();
    }

    /// Notes that `replica` was heard of: whoever repeats a bid since no answer reached it is slow and not dead. False where it was
    /// taken for dead before that: its places may be somebody else's by now.
    fn is_alive(&mut self, replica: &ReplicaId, bid: &Bid, now: u64) -> bool {
        let mut is_alive = true;
        for line in &bid.lines {
            if let Terms::Slots { .. } = line.terms {
                is_alive &= self.stocks.get_mut(&line.gauge).is_some_and(|stock| stock.hear(replica, now));
            }
        }
        is_alive
    }

    fn grant(&mut self, replica: &ReplicaId, line: &Line, now: u64, lost: &mut u64) -> Grant {
        match line.terms {
            Terms::Rate { per_minute, burst } => {
                let flow = self.flows.entry(line.gauge.clone()).or_default();
                flow.set(per_minute, burst);
                flow.grant(replica, line, now)
            }
            Terms::Budget { .. } | Terms::Slots { .. } => {
                self.stocks.entry(line.gauge.clone()).or_default().grant(replica, line, now, lost)
            }
        }
    }

    fn note_rest(&mut self, rest: &Rest) {
        if *rest == Rest::OVER {
            self.rests.clear();
        } else if let Some(known) = self.rests.iter_mut().find(|known| known.model == rest.model) {
            if known.until < rest.until {
                *known = rest.clone();
            }
        } else if self.rests.len() < MAX_RESTS {
            self.rests.push(rest.clone());
        }
    }

    fn remember(&mut self, replica: &ReplicaId, serial: u64, reply: &Reply) {
        if self.answered.len() >= MAX_ANSWERS && !self.answered.contains_key(replica) {
            let oldest = self.answered.iter().min_by_key(|(_, (_, reply))| reply.now);
            if let Some(oldest) = oldest.map(|(replica, _)| replica.clone()) {
                self.answered.remove(&oldest);
            }
        }
        self.answered.insert(replica.clone(), (serial, reply.clone()));
    }
}

/// How much of `left` one of `rivals` gets: what it wants, but near the end no more than its fair part; never less than
/// is of use to it, and where somebody waits a multiple of that, so that no rival is left with a piece too small for anything.
fn share(left: u64, need: u64, want: u64, rivals: u64) -> u64 {
    if need > left {
        return 0;
    }
    let fair = left / rivals.max(1);
    let useful = if need > 0 { fair - fair % need } else { fair };
    want.min(useful.max(need))
}

impl Grant {
    const NOTHING: Grant = Grant { units: 0, left: 0, wait: super::bid::Wait::Granted, recall: false };
}
