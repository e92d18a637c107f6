//! A number of units that replicas share: a day's tokens, or places for requests under way. Each replica tells how many it
//! has used and how many it holds; the sum over all of them never passes the limit, but for what a request used beyond
//! its estimate.

use std::collections::BTreeMap;

use super::super::bid::{Grant, Line, ReplicaId, Terms, Wait};
use super::{COMPETES, share};

/// How long a recall stands after somebody was refused what others hold unused, in milliseconds.
const RECALL: u64 = 1_000;

/// After so much silence a replica's places are free again, in milliseconds: it is dead, and its connections with it. One
/// that is only cut off from the authority for longer may then have requests under way beyond the limit: those that it
/// began before.
const DEAD: u64 = 5_000;

/// After so much silence of all replicas it is the authority that was away: nobody is dead because of that.
const AWAY: u64 = 1_000;

#[derive(Clone, Debug, Default)]
pub(super) struct Stock {
    /// Which period this is; 0 for places.
    pub key: i32,
    /// Granted to replicas that are no more.
    pub gone: u64,
    holders: BTreeMap<ReplicaId, Holder>,
    /// Until when what is not in use shall come back.
    recall_until: u64,
    heard: u64,
    /// Since when bids have been coming without a pause.
    awake_since: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    /// Used and held together.
    held: u64,
    used: u64,
    seen: u64,
}

impl Stock {
    pub fn of(key: i32, gone: u64) -> Self {
        Self { key, gone, ..Self::default() }
    }

    /// Granted in all, and how much of that is known to be used.
    pub fn totals(&self) -> (u64, u64) {
        let sum = |part: fn(&Holder) -> u64| self.holders.values().map(part).sum::<u64>();
        (self.gone + sum(|holder| holder.held), self.gone + sum(|holder| holder.used))
    }

    pub fn grant(&mut self, replica: &ReplicaId, line: &Line, now: u64) -> Grant {
        let limit = line.terms.most();
        let ends = match line.terms {
            Terms::Budget { key, starts, ends, .. } => {
                if !(starts..ends).contains(&now) || key < self.key {
                    // The replica's idea of today is not ours: it learns our clock from the reply and asks again.
                    let wait = if line.need > 0 { Wait::Soon } else { Wait::Granted };
                    return Grant { wait, ..Grant::NOTHING };
                }
                if key > self.key {
                    *self = Self::of(key, 0);
                }
                Some(ends)
            }
            Terms::Slots { .. } | Terms::Rate { .. } => {
                self.bury(now);
                None
            }
        };
        let mine = self.holders.entry(replica.clone()).or_default();
        *mine = Holder { held: line.used.saturating_add(line.keep), used: line.used, seen: now };
        let left = limit.saturating_sub(self.totals().0);
        let rivals =
            self.holders.values().filter(|holder| holder.seen.saturating_add(COMPETES) > now).count();
        let units = share(left, line.need, line.want, rivals as u64);
        if let Some(mine) = self.holders.get_mut(replica) {
            mine.held = mine.held.saturating_add(units);
        }
        let is_refused = line.need > 0 && units == 0;
        let wait =
            if is_refused { self.wait(replica, line.need, limit, left, ends, now) } else { Wait::Granted };
        Grant { units, left: left - units, wait, recall: self.recall_until > now }
    }

    /// When to ask again for `need`; where others hold it unused, they are asked to give it back.
    fn wait(
        &mut self,
        replica: &ReplicaId,
        need: u64,
        limit: u64,
        left: u64,
        ends: Option<u64>,
        now: u64,
    ) -> Wait {
        let others = self
            .holders
            .iter()
            .filter(|(other, holder)| *other != replica && holder.seen.saturating_add(COMPETES) > now);
        let idle: u64 = others.map(|(_, holder)| holder.held.saturating_sub(holder.used)).sum();
        if need > limit {
            return Wait::Never;
        }
        if need <= left.saturating_add(idle) {
            self.recall_until = now.saturating_add(RECALL);
            return Wait::Soon;
        }
        match ends {
            Some(ends) => Wait::After(ends.saturating_sub(now).max(1)),
            None => Wait::OthersEnd,
        }
    }

    /// Frees the places of replicas that have not been heard of.
    fn bury(&mut self, now: u64) {
        if now.saturating_sub(self.heard) > AWAY {
            self.awake_since = now;
        }
        self.heard = self.heard.max(now);
        let awake_since = self.awake_since;
        self.holders.retain(|_, holder| now.saturating_sub(holder.seen.max(awake_since)) <= DEAD);
    }
}
