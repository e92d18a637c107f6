//! Which account may carry this request, and how much of its quota is set aside for it (`pool.md`).
//!
//! ```text
//! obtain ─> take, and where the authority must be asked first: wait for its answer, a second at most
//! take ─> roster   who may carry it: by platform, tenant, model        (immutable, swapped by a reload)
//!      ─> weather  does the platform as a whole rest?                  (one flag, read)
//!      ─> choose   draw two, compare, or ask all                       (no lock but the accounts' own)
//!         └─ shown   what an account shows to those who pass by       (a hint, read without its lock)
//!      ─> member   health (gates) and ledger (limits), one lock: check and reserve in one step
//! reservation ─> settle | settle_error | settle_transport | drop: once, whatever happens
//!
//! in the background:
//! purse   which accounts have something to say        ─┐
//! purser  makes rounds: gathers bids, carries them     ├─> authority  embedded (books on the store's shelf), Redis
//! till    one limit here: what is held, drawn, wanted ─┘   books      pure: what a bid makes of a limit over all replicas
//! ```
//! [`Pool::take`] waits for nothing, and no lock is held across anything that does.
//!
//! # How a limit stays strict over replicas without a round trip
//! A till holds units that the authority has granted: a lease. Requests draw from it in memory. Every fifth of a lease's life the
//! purser bids: so much is used, so much is held, so much would be good to have. The authority adds up what all replicas
//! hold and never grants beyond the limit. What was granted counts as used until its holder says otherwise, so a replica that
//! dies takes with it what it held (`weir_lease_lost_total`) and nothing more. Near a limit grants shrink to the need of a
//! single request, and what others hold unused is recalled.
//!
//! Units of a rate are used within one life of a lease or go back; going back counts only as far as the bucket would be emptier
//! today. So in any window `w` at most `burst + rate x (w + lease_ttl)` is admitted, which `tests/simulation.rs` holds against
//! lost, late and doubled messages, deaths, outages and wrong clocks. Places for requests under way are free again when their replica has
//! been silent for five seconds; one that is cut off from its authority for longer, and alive, may until then have more under way than
//! the limit says.

mod bid;
mod books;
mod choose;
mod dice;
mod embedded;
mod facts;
mod gate;
mod health;
mod ledger;
mod limit;
mod member;
mod purse;
mod purser;
mod redis;
mod refusal;
mod reservation;
mod retry;
mod roster;
pub mod settings;
mod shown;
mod till;
mod weather;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use self::bid::ReplicaId;
use self::choose::Choice;
use self::dice::Dice;
use self::gate::Pass;
use self::limit::Now;
use self::member::Core;
use self::purse::Purse;
use self::roster::{Lane, Roster};
use self::settings::{Account, OnOutage, Settings, Strategy};
use self::shown::Board;
use crate::clock::{Clock, Moment};
use crate::ids::{AccountId, PlatformName, TenantId, random_name};

pub use self::bid::Dimension;
pub use self::embedded::{Embedded, Shelf};
pub use self::ledger::Left;
pub use self::member::{AccountState, Breaker};
pub use self::purse::{Authority, Outage};
pub use self::purser::{Purser, Settled};
pub use self::redis::Redis;
pub use self::refusal::{Refusal, Why};
pub use self::reservation::{Reservation, TransportFailure, Used};
pub use self::retry::RetryBudget;

/// Share of requests that may be retries, until [`RetryBudget::set_share`] says otherwise.
const DEFAULT_RETRY_SHARE: f64 = 0.2;

/// How long a request may wait for the authority's answer.
const ASKING_PATIENCE: Duration = Duration::from_secs(1);

/// All accounts of this process.
#[derive(Debug)]
pub struct Pool {
    roster: ArcSwap<Roster>,
    /// Held while a roster is built: of two reloads at once the second must see the first.
    rebuilding: Mutex<()>,
    core: Arc<Core>,
    retry_budget: RetryBudget,
}

/// What a request wants of an account.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    pub tenant: &'a TenantId,
    pub platform: &'a PlatformName,
    /// The platform's model, by its name in routes.
    pub model: &'a str,
    /// Estimate of prompt and completion together.
    pub tokens: u64,
    pub strategy: Strategy,
    /// Under `sticky`: what stays the same over a conversation, hashed.
    pub affinity: Option<u64>,
    /// Accounts that have been tried for this request.
    pub tried: &'a [AccountId],
}

/// What the pool has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reservations dropped without a settlement, and so settled by their whole estimate.
    pub dropped: u64,
    /// Settlements by an estimate of ours, those included.
    pub estimated: u64,
}

/// What the pool knows of those whom it shares its limits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Units of budgets that a process was granted and did not live to use or to give back.
    pub lost: u64,
    /// The authority does not answer.
    pub is_out: bool,
    /// How many processes there were when it last answered.
    pub replicas: u64,
}

impl Pool {
    /// An empty pool whose limits belong to this process alone. With a `seed` every choice can be repeated.
    pub fn new(_settings: Settings, clock: Clock, seed: Option<u64>) -> Self {
        Self::with_purse(clock, seed, None)
    }

    /// An empty pool that spends what `authority` grants, and the purser that must run for it.
    pub fn leased(
        settings: &Settings,
        clock: Clock,
        seed: Option<u64>,
        authority: Arc<dyn Authority>,
    ) -> (Self, Purser) {
        let replica = ReplicaId(Arc::from(random_name("r_", 16)));
        let purse = Arc::new(Purse::new(replica, settings.lease_ttl, settings.on_outage, &clock));
        purse.note_lost(authority.lost());
        let pool = Self::with_purse(clock, seed, Some(Arc::clone(&purse)));
        let purser = Purser::new(Arc::clone(&pool.core), purse, authority);
        (pool, purser)
    }

    fn with_purse(clock: Clock, seed: Option<u64>, purse: Option<Arc<Purse>>) -> Self {
        let retry_budget = RetryBudget::new(clock.clone(), DEFAULT_RETRY_SHARE);
        let (dropped, estimated) = (AtomicU64::new(0), AtomicU64::new(0));
        let core = Core { clock, dice: Dice::new(seed), board: Board::default(), purse, dropped, estimated };
        Self { roster: ArcSwap::default(), rebuilding: Mutex::new(()), core: Arc::new(core), retry_budget }
    }

    /// Replaces the accounts. Those that are the very same cost next to nothing, those with a known id keep their state; removed ones vanish once nothing is under way;
    /// reservations stay valid. Of two with the same id the first counts.
    pub fn replace<A: Into<Arc<Account>>>(&self, accounts: impl IntoIterator<Item = A>) {
        let _turn = self.rebuilding.lock();
        let accounts = accounts.into_iter().map(Into::into);
        let roster = Roster::build(accounts, &self.roster.load(), &self.core);
        self.roster.store(Arc::new(roster));
    }

    /// Takes over one account that is candidate for the same requests as before, with another token, say, whatever the number of
    /// accounts. False where it is not: then [`Self::replace`] does.
    pub fn put(&self, account: &Arc<Account>) -> bool {
        let _turn = self.rebuilding.lock();
        self.roster.load().put(account, &self.core)
    }

    /// Waits until the authority has told which accounts rest, since before this process began, for `patience` at most.
    /// False where it has not: those that have no limits may then be tried before their time.
    pub async fn introduced(&self, patience: Duration) -> bool {
        let Some(purse) = &self.core.purse else { return true };
        let mut rounds = purse.rounds();
        let give_up_at = self.core.clock.now() + patience;
        loop {
            if self.roster.load().everyone().all(|(seat, _)| seat.member.is_introduced()) {
                return true;
            }
            let left = give_up_at.since(self.core.clock.now());
            if left.is_zero() || purse.is_out() {
                return false;
            }
            drop(tokio::time::timeout(left, rounds.changed()).await);
        }
    }

    /// Takes an account and sets aside one request, one slot and the estimated tokens.
    ///
    /// # Errors
    /// No account is eligible; the refusal says why and when to come back.
    pub fn take(&self, want: &Want<'_>) -> Result<Reservation, Refusal> {
        let roster = self.roster.load();
        let lane = roster.lane(want.platform)?;
        let field = lane.field(want.tenant, want.model)?;
        let now = self.core.now();
        let is_probe = may_go(lane, &now)?;
        let mut choice = Choice { want, now, core: &self.core, throw: self.core.dice.throw() };
        let taken = choice.take(&field);
        match taken {
            Ok(mut reservation) if is_probe => {
                reservation.probe_platform();
                Ok(reservation)
            }
            Err(refusal) if is_probe => {
                lane.weather.end_probe();
                Err(refusal)
            }
            other => other,
        }
    }

    /// As [`Self::take`]; where the authority must be asked first, waits for its answer, a second at most.
    ///
    /// # Errors
    /// No account is eligible, or the authority does not answer.
    pub async fn obtain(&self, want: &Want<'_>) -> Result<Reservation, Refusal> {
        let Some(purse) = &self.core.purse else { return self.take(want) };
        let mut seen = purse.round();
        let mut waiting: Option<(watch::Receiver<()>, Moment)> = None;
        let mut heard = false;
        loop {
            match self.take(want) {
                Err(refusal) if refusal.why == Why::Asking => {}
                decided => return decided,
            }
            if purse.is_out() && purse.on_outage == OnOutage::FailClosed {
                return Err(Refusal::after(Why::Unavailable, refusal::SOON));
            }
            let now = self.core.clock.now();
            let (rounds, give_up_at) = waiting.get_or_insert_with(|| (purse.rounds(), now + ASKING_PATIENCE));
            let left = give_up_at.since(now);
            if left.is_zero() {
                // Where it answers, what is asked for is held by others who do not give it back in time.
                let why = if heard { Why::LimitReached } else { Why::Unavailable };
                return Err(Refusal::after(why, refusal::SOON));
            }
            // A round may have ended before there was anybody to wake.
            heard |= purse.round() != seen || tokio::time::timeout(left, rounds.changed()).await.is_ok();
            seen = purse.round();
        }
    }

    /// Whether `tenant` has an account of `platform` that is switched on, whatever its state at the moment.
    pub fn has_any(&self, platform: &PlatformName, tenant: &TenantId) -> bool {
        let roster = self.roster.load();
        roster.lane(platform).is_ok_and(|lane| lane.members(tenant).any(|member| member.is_on()))
    }

    /// Whether `tenant` has an account of `platform` for `model` that is switched on, whatever its state at the moment.
    pub fn serves(&self, platform: &PlatformName, tenant: &TenantId, model: &str) -> bool {
        let roster = self.roster.load();
        let field = roster.lane(platform).and_then(|lane| lane.field(tenant, model));
        field.is_ok_and(|field| {
            field.iter().flat_map(|bucket| &bucket.entries).any(|entry| entry.member.is_on())
        })
    }

    /// Every account, for metrics and administration.
    pub fn states(&self) -> Vec<AccountState> {
        let now = self.core.now();
        let roster = self.roster.load();
        roster.everyone().map(|(seat, is_leaving)| seat.state(is_leaving, &now)).collect()
    }

    /// The accounts whose credential their platform no longer takes.
    pub fn expired(&self) -> Vec<AccountId> {
        let roster = self.roster.load();
        let expired = roster.everyone().filter(|(seat, _)| seat.member.is_expired());
        expired.map(|(seat, _)| seat.member.id.clone()).collect()
    }

    /// Switches one account on or off by hand. False where there is none of that id.
    pub fn set_enabled(&self, id: &AccountId, is_on: bool) -> bool {
        let roster = self.roster.load();
        let seat = roster.seat(id);
        seat.inspect(|seat| seat.member.switch(is_on)).is_some()
    }

    /// Forgets what stands against an account: it was given a new token, or an operator has put it right. False where
    /// there is none of that id.
    pub fn revive(&self, id: &AccountId) -> bool {
        let roster = self.roster.load();
        let seat = roster.seat(id);
        seat.inspect(|seat| seat.member.forget_failures(&self.core)).is_some()
    }

    /// Whether the authority does not answer and that matters: only leases in hand are served, for as long as they last.
    pub fn is_cut_off(&self) -> bool {
        let is_closed = |purse: &Arc<Purse>| purse.is_out() && purse.on_outage == OnOutage::FailClosed;
        self.core.purse.as_ref().is_some_and(is_closed)
    }

    /// What is known of the authority and of other processes.
    pub fn tally(&self) -> Tally {
        match &self.core.purse {
            Some(purse) => Tally { lost: purse.lost(), is_out: purse.is_out(), replicas: purse.replicas() },
            None => Tally { lost: 0, is_out: false, replicas: 1 },
        }
    }

    /// How many requests may be retries.
    pub fn retry_budget(&self) -> &RetryBudget {
        &self.retry_budget
    }

    /// What was counted since the start.
    pub fn counts(&self) -> Counts {
        Counts {
            dropped: self.core.dropped.load(Ordering::Relaxed),
            estimated: self.core.estimated.load(Ordering::Relaxed),
        }
    }
}

/// Whether requests to the platform may go out; true where this one is the probe.
fn may_go(lane: &Lane, now: &Now<'_>) -> Result<bool, Refusal> {
    match lane.weather.check(now.moment) {
        Pass::Open => Ok(false),
        Pass::Closed(refusal) => Err(refusal),
        Pass::Probe if lane.weather.begin_probe(now.moment) => Ok(true),
        Pass::Probe => Err(Refusal::after(Why::Cooling, refusal::SOON)),
    }
}
