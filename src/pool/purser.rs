//! Carries bids to the authority and replies back, in the background, so that a request finds its units already granted.
//! One round at a time: what is asked for meanwhile goes together into the next, so under load rounds grow and do not
//! multiply.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::bid::{Bid, Gauge, Line, Outcome, Terms};
use super::books::Book;
use super::member::{Core, Member};
use super::purse::{Authority, Outage, Purse};
use super::settings::OnOutage;
use crate::clock::Moment;
use crate::ids::AccountId;

/// Between two tries while the authority is out.
const AGAIN: Duration = Duration::from_millis(100);

/// Between two greetings.
const GREETING: Duration = Duration::from_secs(1);

/// Bids in one round at most.
const MOST: usize = 2_000;

/// Told when everything was given back that was not in use.
pub type Settled = std::sync::mpsc::SyncSender<()>;

/// What carries bids. Runs until its pool is told to stop.
#[derive(Debug)]
pub struct Purser {
    core: Arc<Core>,
    purse: Arc<Purse>,
    authority: Arc<dyn Authority>,
    /// Accounts in use.
    warm: Vec<Arc<Member>>,
    /// Accounts that were in use: should the authority forget them, it must be told of them again.
    cold: HashMap<AccountId, Weak<Member>>,
    epoch: u64,
    greet_at: Moment,
    /// Where accounts are counted while the authority is out and the operator wants to go on.
    makeshift: HashMap<AccountId, Makeshift>,
}

/// An account while the authority is out and the operator wants to go on.
#[derive(Debug, Default)]
struct Makeshift {
    book: Book,
    /// This replica's part of what the limits were when the authority fell silent.
    shares: HashMap<Gauge, Terms>,
}

impl Makeshift {
    /// `line`, under this replica's part of its limit: of a rate or of places an equal one, of a budget an equal one of what was
    /// left when that was last heard, besides what it has used and holds. So all replicas together stay within the limit,
    /// as far as nobody's knowledge was old.
    fn share(&mut self, line: &Line, member: &Member, replicas: u64) -> Line {
        let is_current = |terms: &&Terms| terms.is_same_period(&line.terms);
        let terms = self.shares.get(&line.gauge).filter(is_current).copied().unwrap_or_else(|| {
            let begun = line.used.saturating_add(line.keep);
            let left = member.authority_left(&line.gauge);
            let terms = line.terms.part(begun, left, replicas);
            self.shares.insert(line.gauge.clone(), terms);
            terms
        });
        Line { terms, ..line.clone() }
    }
}

/// What a round brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Nothing,
    Done,
    Failed,
}

impl Purser {
    pub(super) fn new(core: Arc<Core>, purse: Arc<Purse>, authority: Arc<dyn Authority>) -> Self {
        let (warm, cold, makeshift) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { core, purse, authority, warm, cold, epoch: 0, greet_at: Moment::START, makeshift }
    }

    /// Carries bids until `stop`, then gives everything back that is not in use. Does that also, and goes on, whenever it is
    /// asked for over `settle`.
    pub async fn run(mut self, stop: CancellationToken, mut settle: mpsc::Receiver<Settled>) {
        while !stop.is_cancelled() {
            let pause = match self.round(false).await {
                Round::Failed => AGAIN,
                Round::Done | Round::Nothing => self.purse.rhythm.every / 4,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                Some(settled) = settle.recv() => {
                    self.farewell().await;
                    // Nobody waits any more: that is their affair.
                    settled.send(()).unwrap_or_default();
                }
                () = self.purse.wake.notified(), if !self.purse.is_out() => {}
                () = tokio::time::sleep(pause) => {}
            }
            if !self.purse.is_out() && self.core.clock.now() >= self.greet_at {
                self.greet().await;
            }
        }
        self.farewell().await;
        // An authority that does not hear it misses this replica after some seconds.
        drop(self.in_time(self.authority.part(&self.purse.replica)).await);
    }

    /// Says that this replica is there, and hears how many there are.
    async fn greet(&mut self) {
        self.greet_at = self.core.clock.now() + GREETING;
        if let Ok(count) = self.in_time(self.authority.greet(&self.purse.replica)).await {
            self.purse.set_replicas(count);
        }
    }

    /// What the authority answers, or that it does not.
    async fn in_time<T>(&self, question: impl Future<Output = Result<T, Outage>>) -> Result<T, Outage> {
        let answer = tokio::time::timeout(self.authority.patience(), question).await;
        answer.unwrap_or_else(|_| Err(Outage("it did not answer in time".to_owned())))
    }

    /// The last words: an authority that hears them need not wait for this replica.
    async fn farewell(&mut self) {
        for _ in 0..2 {
            if self.round(true).await == Round::Failed {
                tracing::warn!(
                    "the authority could not be told what this process leaves unused; it counts as used"
                );
                return;
            }
        }
    }

    /// Has everything told again that an authority may have forgotten.
    fn retell(&mut self) {
        let epoch = self.authority.epoch();
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        for member in &self.warm {
            member.retell();
        }
        self.cold.retain(|_, member| member.strong_count() > 0);
        let forgotten = self.cold.values().filter_map(Weak::upgrade).filter(|member| member.retell());
        self.warm.extend(forgotten.filter(|member| member.queue()));
    }

    async fn round(&mut self, is_last: bool) -> Round {
        self.retell();
        let (bidders, bids) = self.gather(is_last);
        if bids.is_empty() {
            return self.look();
        }
        let done = match self.in_time(self.authority.carry_out(&self.purse.replica, &bids)).await {
            Ok(outcomes) if outcomes.len() == bids.len() => {
                self.hear(&bidders, &bids, outcomes);
                Round::Done
            }
            Ok(_) => self.miss(&Outage("its answer is not one to our question".to_owned()), &bidders, &bids),
            Err(outage) => self.miss(&outage, &bidders, &bids),
        };
        self.purse.announce();
        done
    }

    /// With nothing to say: whether there is somebody to say it to.
    fn look(&mut self) -> Round {
        match (self.authority.is_up(), self.purse.is_out()) {
            (false, false) => self.miss(&Outage("there is no connection".to_owned()), &[], &[]),
            (true, true) => {
                self.hear(&[], &[], Vec::new());
                Round::Nothing
            }
            _ => Round::Nothing,
        }
    }

    /// The bids that are due, and whose they are.
    pub(super) fn gather(&mut self, is_last: bool) -> (Vec<Arc<Member>>, Vec<Bid>) {
        self.warm.extend(self.purse.take_dirty());
        let now = self.core.now();
        let (mut bidders, mut bids) = (Vec::new(), Vec::new());
        self.warm.retain(|member| {
            if bids.len() < MOST
                && let Some(bid) = member.bid(&now, &self.purse.rhythm, is_last)
            {
                bids.push(bid);
                bidders.push(Arc::clone(member));
                return true;
            }
            let stays = member.stays_warm(now.moment);
            if !stays {
                self.cold.insert(member.id.clone(), Arc::downgrade(member));
            }
            stays
        });
        (bidders, bids)
    }

    pub(super) fn hear(&mut self, bidders: &[Arc<Member>], bids: &[Bid], outcomes: Vec<Outcome>) {
        let now = self.core.now();
        if self.purse.set_out(false) {
            tracing::info!("the pool's authority answers again");
            self.makeshift.clear();
        }
        let replies = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Answered(reply) => Some(reply),
            Outcome::Stale => None,
        });
        if let Some(latest) = replies.clone().map(|reply| reply.now).max() {
            self.purse.set_authority_clock(latest, now.moment);
        }
        self.purse.note_lost(replies.map(|reply| reply.lost).sum());
        let now = self.core.now();
        for ((member, bid), outcome) in bidders.iter().zip(bids).zip(&outcomes) {
            member.hear(bid.serial, outcome, &now, &self.purse.rhythm);
        }
    }

    /// The authority did not answer. Its bids stay as they are and go out again; where the operator wants so, they are
    /// answered from a makeshift book meanwhile.
    fn miss(&mut self, outage: &Outage, bidders: &[Arc<Member>], bids: &[Bid]) -> Round {
        let now = self.core.now();
        if self.purse.set_out(true) {
            tracing::error!(why = %outage, on_outage = ?self.purse.on_outage, "the pool's authority does not answer");
        }
        if self.purse.on_outage == OnOutage::FailOpen {
            let millis = self.purse.authority_millis(now.moment);
            for (member, bid) in bidders.iter().zip(bids) {
                let makeshift = self.makeshift.entry(bid.account.clone()).or_default();
                let own = bid.lines.iter().map(|line| makeshift.share(line, member, self.purse.replicas()));
                let bid = &Bid { lines: own.collect(), ..bid.clone() };
                let outcome = makeshift.book.carry_out(&self.purse.replica, bid, millis);
                member.hear(bid.serial, &outcome, &now, &self.purse.rhythm);
            }
        }
        Round::Failed
    }
}
