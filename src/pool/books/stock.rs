//! A number of units that replicas share: a day's tokens, or places for requests under way. Each replica tells how many it
//! has used and how many it holds; the sum over all of them never passes the limit, but for what a request used beyond
//! its estimate.

use std::collections::BTreeMap;

use super::super::bid::{Grant, Line, ReplicaId, Terms, Wait};
use super::{COMPETES, share};

/// How long a recall stands after somebody was refused what others hold unused, in milliseconds.
const RECALL: u64 = 1_000;

/// After so much silence a replica is dead, in milliseconds. Its places are free again: its connections died with it. One
/// that is only cut off from the authority for longer may then have requests under way beyond the limit: those that it
/// began before. What it held of a budget is lost.
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
    /// Since when bids have been coming without a pause.
    awake_since: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    /// Used and held together.
    held: u64,
    used: u64,
    seen: u64,
    /// Dead, and that was told.
    is_told: bool,
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

    /// What `replica` gets; adds to `lost` what dead ones took with them.
    pub fn grant(&mut self, replica: &ReplicaId, line: &Line, now: u64, lost: &mut u64) -> Grant {
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
                *lost += self.mourn(now);
                Some(ends)
            }
            Terms::Slots { .. } | Terms::Rate { .. } => {
                self.bury(now);
                None
            }
        };
        let mine = self.holders.entry(replica.clone()).or_default();
        *mine =
            Holder { held: line.used.saturating_add(line.keep), used: line.used, seen: now, is_told: false };
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

    /// Notes that `replica` was heard of. False where it holds nothing here any more.
    pub fn hear(&mut self, replica: &ReplicaId, now: u64) -> bool {
        let holder = self.holders.get_mut(replica);
        holder.map(|holder| holder.seen = now).is_some()
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

    /// Frees the places of the dead.
    fn bury(&mut self, now: u64) {
        let awake_since = self.awake_since(now);
        self.holders.retain(|_, holder| !holder.is_dead(awake_since, now));
    }

    /// What the dead held of a budget and did not use, each told once. Should one speak again, it was not lost after all.
    fn mourn(&mut self, now: u64) -> u64 {
        let awake_since = self.awake_since(now);
        let dead = self.holders.values_mut().filter(|holder| holder.is_dead(awake_since, now));
        let news = dead.filter(|holder| !holder.is_told);
        let lost = news.map(|holder| {
            holder.is_told = true;
            holder.held.saturating_sub(holder.used)
        });
        lost.sum()
    }

    /// Since when bids have been coming without a pause, the one that comes now included.
    fn awake_since(&mut self, now: u64) -> u64 {
        let heard = self.holders.values().map(|holder| holder.seen).max().unwrap_or(0);
        if now.saturating_sub(heard) > AWAY {
            self.awake_since = now;
        }
        self.awake_since
    }
}

impl Holder {
    fn is_dead(&self, awake_since: u64, now: u64) -> bool {
        now.saturating_sub(self.seen.max(awake_since)) > DEAD
    }
}
