//! Between the hot path and the authority: which accounts have something to say, what is known of the authority's clock
//! and health, and who waits. The hot path leaves a name here and goes on; the purser comes by and carries the bids.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::bid::{Bid, Outcome, ReplicaId};
use super::member::Member;
use super::settings::OnOutage;
use super::till::Rhythm;
use crate::clock::{Clock, Moment};

/// The authority cannot be reached, or does not do what it should. The text never holds a secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Outage(pub String);

/// Whoever grants leases: a book in memory, a file, Redis.
#[async_trait]
pub trait Authority: Send + Sync + Debug {
    /// Carries bids out, each at most once, and answers them in order.
    ///
    /// # Errors
    /// Nothing is known: some of them may have been carried out. The same bids, sent again, are answered as if they had
    /// come once.
    async fn carry_out(&self, replica: &ReplicaId, bids: &[Bid]) -> Result<Vec<Outcome>, Outage>;

    /// `replica` is there; gives how many there are, itself included.
    ///
    /// # Errors
    /// Nothing is known.
    async fn greet(&self, _replica: &ReplicaId) -> Result<u64, Outage> {
        Ok(1)
    }

    /// `replica` leaves.
    ///
    /// # Errors
    /// It could not be told; it will be missed after some seconds.
    async fn part(&self, _replica: &ReplicaId) -> Result<(), Outage> {
        Ok(())
    }

    /// Units of budgets that were found lost when it was opened.
    fn lost(&self) -> u64 {
        0
    }

    /// Whether it is there, as far as is known without asking: whoever has nothing to say should notice, too.
    fn is_up(&self) -> bool {
        true
    }

    /// A number that changes whenever it may have forgotten what it was told; budgets are then told again.
    fn epoch(&self) -> u64 {
        0
    }

    /// After so much silence it is taken to be out. Callers are told within half a second.
    fn patience(&self) -> Duration {
        Duration::from_millis(400)
    }
}

/// What the pool keeps for its purser.
#[derive(Debug)]
pub(super) struct Purse {
    pub replica: ReplicaId,
    pub rhythm: Rhythm,
    pub on_outage: OnOutage,
    dirty: Mutex<Vec<Arc<Member>>>,
    pub wake: Notify,
    /// Counts the rounds of replies; read by every request, so it stands apart from what wakes those that wait.
    round: AtomicU64,
    rounds: watch::Sender<()>,
    /// The authority's clock (milliseconds since 1970) less ours (milliseconds of the monotonic clock).
    offset: AtomicI64,
    is_out: AtomicBool,
    replicas: AtomicU64,
    lost: AtomicU64,
}

impl Purse {
    pub(super) fn new(replica: ReplicaId, ttl: Duration, on_outage: OnOutage, clock: &Clock) -> Self {
        let purse = Self {
            replica,
            rhythm: Rhythm::of(ttl),
            on_outage,
            dirty: Mutex::default(),
            wake: Notify::new(),
            round: AtomicU64::new(0),
            rounds: watch::Sender::new(()),
            offset: AtomicI64::new(0),
            is_out: AtomicBool::new(false),
            replicas: AtomicU64::new(1),
            lost: AtomicU64::new(0),
        };
        // Until the authority has spoken, our own wall clock must do.
        purse.set_authority_clock(clock.wall_millis(), clock.now());
        purse
    }

    /// A member has something to say.
    pub(super) fn tell(&self, member: &Arc<Member>) {
        if member.queue() {
            self.dirty.lock().push(Arc::clone(member));
        }
        self.wake.notify_one();
    }

    /// The members that have something to say, and are new to the purser.
    pub(super) fn take_dirty(&self) -> Vec<Arc<Member>> {
        std::mem::take(&mut *self.dirty.lock())
    }

    /// What the authority's clock says at `now`.
    pub(super) fn authority_millis(&self, now: Moment) -> u64 {
        let offset = self.offset.load(Ordering::Relaxed);
        (now.as_nanos() / 1_000_000).saturating_add_signed(offset)
    }

    pub(super) fn set_authority_clock(&self, millis: u64, now: Moment) {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.offset.store(signed(millis) - signed(now.as_nanos() / 1_000_000), Ordering::Relaxed);
    }

    /// Tells those who wait that replies have come, or that none will.
    pub(super) fn announce(&self) {
        self.round.fetch_add(1, Ordering::Release);
        self.rounds.send_replace(());
    }

    /// How many rounds have ended.
    pub(super) fn round(&self) -> u64 {
        self.round.load(Ordering::Acquire)
    }

    /// Wakes its owner when a round ends after this.
    pub(super) fn rounds(&self) -> watch::Receiver<()> {
        self.rounds.subscribe()
    }

    /// Notes whether the authority answers. True where that is news.
    pub(super) fn set_out(&self, is_out: bool) -> bool {
        self.is_out.swap(is_out, Ordering::Relaxed) != is_out
    }

    pub(super) fn is_out(&self) -> bool {
        self.is_out.load(Ordering::Relaxed)
    }

    pub(super) fn set_replicas(&self, count: u64) {
        self.replicas.store(count.max(1), Ordering::Relaxed);
    }

    /// How many replicas there were when the authority last said so, this one included.
    pub(super) fn replicas(&self) -> u64 {
        self.replicas.load(Ordering::Relaxed)
    }

    /// Notes units of budgets that nobody can use any more.
    pub(super) fn note_lost(&self, units: u64) {
        self.lost.fetch_add(units, Ordering::Relaxed);
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
