//! The authority of many processes: bids carried out inside Redis, by a script that does what the books do, with the server's
//! clock. Why a script: it runs alone, so what is granted to one replica is seen by the next, in one round trip.
//!
//! One server gets the bids of a round in a few scripts, a cluster one for each account, since an account's keys lie together
//! (`{acct:ID}`) and two accounts' do not. All are under way at once on one connection.

mod words;

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use futures_util::future::join_all;
use redis::Script;

use super::bid::{Bid, Outcome, ReplicaId, Terms, Wait};
use super::purse::{Authority, Outage};
use crate::redis_link::{Link, LinkError};

const BIDS: &str = include_str!("bids.lua");
const REPLICAS: &str = include_str!("replicas.lua");

/// Bids in one script: it is alone with the server while it runs, some 50 microseconds for each.
const TOGETHER: usize = 50;

/// Redis as the authority.
#[derive(Debug)]
pub struct Redis {
    link: Link,
    bids: Script,
    replicas: Script,
    /// For tests: what the clock says.
    #[cfg(test)]
    now: std::sync::atomic::AtomicU64,
}

impl Redis {
    /// Over this line.
    pub fn new(link: Link) -> Self {
        Self {
            link,
            bids: Script::new(BIDS),
            replicas: Script::new(REPLICAS),
            #[cfg(test)]
            now: std::sync::atomic::AtomicU64::new(0),
        }
    }

    #[cfg(test)]
    fn made_up_time(&self) -> Option<u64> {
        Some(self.now.load(std::sync::atomic::Ordering::SeqCst)).filter(|now| *now > 0)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "in tests it has one")]
    fn made_up_time(&self) -> Option<u64> {
        None
    }

    async fn count(&self, replica: &ReplicaId, stays: bool) -> Result<u64, Outage> {
        let (keys, words) = words::presence(replica, stays, self.made_up_time());
        Ok(self.link.run(&self.replicas, REPLICAS, &keys, &words).await?)
    }

    async fn send(&self, replica: &ReplicaId, bids: &[Bid]) -> Result<Vec<Outcome>, Outage> {
        let (keys, words) = words::question(replica, bids, self.made_up_time());
        let replies: Vec<Vec<Vec<u8>>> = self.link.run(&self.bids, BIDS, &keys, &words).await?;
        let outcomes = bids.iter().zip(&replies).map(|(bid, reply)| words::outcome(bid, reply));
        let outcomes: Option<Vec<Outcome>> = outcomes.collect();
        outcomes
            .filter(|outcomes| outcomes.len() == bids.len())
            .ok_or_else(|| Outage("its answer is not one to our question".to_owned()))
    }
}

#[async_trait]
impl Authority for Redis {
    fn is_up(&self) -> bool {
        self.link.is_up()
    }

    fn epoch(&self) -> u64 {
        self.link.epoch()
    }

    async fn greet(&self, replica: &ReplicaId) -> Result<u64, Outage> {
        self.count(replica, true).await
    }

    async fn part(&self, replica: &ReplicaId) -> Result<(), Outage> {
        self.count(replica, false).await.map(drop)
    }

    async fn carry_out(&self, replica: &ReplicaId, bids: &[Bid]) -> Result<Vec<Outcome>, Outage> {
        if self.link.is_recollecting().await? {
            let outcomes = self.deliver(replica, &modest(bids)).await?;
            return Ok(put_off(bids, outcomes));
        }
        self.deliver(replica, bids).await
    }
}

impl Redis {
    async fn deliver(&self, replica: &ReplicaId, bids: &[Bid]) -> Result<Vec<Outcome>, Outage> {
        let together = if self.link.is_cluster() { 1 } else { TOGETHER };
        let parts = join_all(bids.chunks(together).map(|part| self.send(replica, part))).await;
        let parts: Result<Vec<Vec<Outcome>>, Outage> = parts.into_iter().collect();
        Ok(parts?.into_iter().flatten().collect())
    }
}

/// The same bids, telling what they tell and asking for nothing more of what others may have used: a server that took over
/// from another, or lost its data, hears from all who live before it grants anything.
fn modest(bids: &[Bid]) -> Vec<Bid> {
    let mut bids = bids.to_vec();
    for line in bids.iter_mut().flat_map(|bid| &mut bid.lines) {
        if !matches!(line.terms, Terms::Rate { .. }) {
            (line.need, line.want) = (0, 0);
        }
    }
    bids
}

/// Whoever asked for more is to ask again soon.
fn put_off(bids: &[Bid], mut outcomes: Vec<Outcome>) -> Vec<Outcome> {
    for (bid, outcome) in bids.iter().zip(&mut outcomes) {
        let Outcome::Answered(reply) = outcome else { continue };
        for (line, grant) in bid.lines.iter().zip(&mut reply.grants) {
            if line.need > 0 && grant.units == 0 && grant.wait == Wait::Granted {
                grant.wait = Wait::Soon;
            }
        }
    }
    outcomes
}

impl From<LinkError> for Outage {
    fn from(error: LinkError) -> Self {
        Self(error.to_string())
    }
}
