//! One account in the pool: its limits and its health behind one small lock. Why a lock and not atomics: six limits, two
//! gates and a slot must change together or not at all; the lock is the account's own, is held for some fifty nanoseconds
//! and never across anything that waits, so two requests meet in it only when they want the same account.

mod state;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use super::bid::{Bid, Gauge, Line, Outcome, Rest};
use super::dice::{Dice, hash_of};
use super::facts::zone_of;
use super::gate::Event;
use super::health::{Health, Probes, Sign};
use super::ledger::{AtHand, Hold, Ledger, Spent};
use super::limit::Now;
use super::purse::Purse;
use super::refusal::{Refusal, Why};
use super::settings::Account;
use super::shown::{Board, Place, View};
use super::till::Rhythm;
use super::weather::Weather;
use crate::clock::{Clock, Moment};
use crate::ids::AccountId;
use crate::platform::judge::Scope;
pub use state::{AccountState, Breaker};

/// What every account needs and none owns.
#[derive(Debug)]
pub(super) struct Core {
    pub clock: Clock,
    pub dice: Dice,
    pub board: Board,
    /// Where limits are shared with other processes, or outlive this one.
    pub purse: Option<Arc<Purse>>,
    /// Reservations that were dropped without a settlement.
    pub dropped: AtomicU64,
    /// Settlements by estimate.
    pub estimated: AtomicU64,
}

/// An account as configured, with what outlives its configuration.
#[derive(Debug)]
pub(super) struct Seat {
    pub account: ArcSwap<Account>,
    pub member: Arc<Member>,
    pub weather: Arc<Weather>,
    pub core: Arc<Core>,
}

/// What is known of an account, kept over reloads.
#[derive(Debug)]
pub(super) struct Member {
    pub id: AccountId,
    pub hash: u64,
    /// What choices see of it without its lock.
    pub shown: Place,
    state: Mutex<State>,
    /// The purser knows of it.
    is_queued: AtomicBool,
}

#[derive(Debug)]
struct State {
    is_on: bool,
    last_taken: Moment,
    health: Health,
    ledger: Ledger,
    /// Apart: a choice looks at what is above, of many accounts, and this is large.
    talk: Box<Talk>,
}

/// What is said between this account and the authority.
#[derive(Debug, Default)]
struct Talk {
    serial: u64,
    /// On its way, and since when: the same goes out again until it is answered.
    out: Option<(Bid, Moment)>,
    last: Moment,
    /// Somebody waits.
    is_urgent: bool,
    /// Not to be asked again before: the last answer was that it takes a moment.
    not_before: Moment,
    rests: SmallVec<[Rest; 1]>,
    /// The authority has answered once, and so told of rests that are older than this process.
    is_introduced: bool,
}

/// What a choice compares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Score {
    /// Remaining part of the scarcest limit, 0 to 1.
    pub headroom: f64,
    /// It can be taken without asking the authority first.
    pub is_covered: bool,
    pub in_flight: u64,
    pub last_taken: Moment,
}

/// What a successful try gives.
#[derive(Debug)]
pub(super) struct Taken {
    pub hold: Hold,
    pub probes: Probes,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub spent: Spent,
    pub sign: Ended,
}

/// What its end says; as [`Sign`], but a rest until tomorrow is still to be worked out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    Sign(Sign),
    ExhaustedUntil { scope: Scope, hint: Option<Duration> },
}

impl Member {
    pub(super) fn new(account: &Account, core: &Core) -> Self {
        let state = State {
            is_on: account.is_enabled,
            last_taken: Moment::START,
            health: Health::default(),
            ledger: Ledger::new(
                &account.limits,
                &account.model_limits,
                zone_of(account),
                core.purse.is_some(),
            ),
            talk: Box::default(),
        };
        let hash = hash_of(account.id.as_str());
        let (state, is_queued) = (Mutex::new(state), AtomicBool::new(false));
        Self { id: account.id.clone(), hash, shown: core.board.place(), state, is_queued }
    }

    /// To look, or to change what no choice compares.
    fn look(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// To change it. What is shown of it afterwards is true at `now`; without that, one has to look.
    fn change<'a>(&'a self, now: Option<&'a Now<'a>>) -> Change<'a> {
        Change { state: self.state.lock(), shown: &self.shown, now }
    }

    /// Takes a new configuration over. A switch thrown by hand stays, unless the configuration's own was
    /// changed too. With a new credential, or switched on again, it begins anew.
    pub(super) fn reconfigure(self: &Arc<Self>, old: &Account, new: &Account, core: &Core) {
        let mut state = self.change(None);
        state.ledger.set_limits(&new.limits, &new.model_limits, zone_of(new));
        let was_off = !state.is_on;
        if old.is_enabled != new.is_enabled {
            state.is_on = new.is_enabled;
        }
        let is_back = was_off && state.is_on;
        let is_same = old.credential == new.credential;
        let is_renewed = !is_same && new.consent.is_some() && old.consent == new.consent;
        if is_renewed {
            state.health.renew();
        }
        drop(state);
        if is_back || !(is_same || is_renewed) {
            self.forget_failures(core);
        }
    }

    /// How it would compare, if it could carry the request now.
    pub(super) fn score(&self, model: &str, tokens: u64, now: &Now<'_>) -> Result<Score, Refusal> {
        let mut state = self.change(Some(now));
        state.check(model, now)?;
        let is_covered = state.ledger.fit(model, tokens, now)?;
        let (in_flight, headroom) = (state.ledger.in_flight(), state.ledger.headroom(model, now.moment));
        Ok(Score { headroom, is_covered, in_flight, last_taken: state.last_taken })
    }

    /// Checks and reserves in one step.
    pub(super) fn take(
        self: &Arc<Self>,
        model: &str,
        tokens: u64,
        now: &Now<'_>,
        core: &Core,
    ) -> Result<Taken, Refusal> {
        let mut state = self.change(Some(now));
        let probes = state.check(model, now)?;
        let hold = match state.ledger.reserve(model, tokens, now) {
            Ok(hold) => hold,
            Err(refusal) => {
                if let Some(purse) = core.purse.as_ref().filter(|_| refusal.why == Why::Asking) {
                    state.talk.is_urgent = true;
                    drop(state);
                    purse.tell(self);
                }
                return Err(refusal);
            }
        };
        state.health.begin(probes, model, now.moment);
        state.last_taken = now.moment;
        Ok(Taken { hold, probes })
    }

    /// Has the authority asked for what a request like this would have taken here, for the next one. With the next bid: nobody waits.
    /// Every such request counts, or whoever has units at hand is chosen, has more of them next time, and the others starve.
    pub(super) fn prepare(self: &Arc<Self>, model: &str, tokens: u64, now: &Now<'_>, core: &Core) {
        let Some(purse) = &core.purse else { return };
        if self.is_queued.load(Ordering::Relaxed) {
            self.look().ledger.wish(model, tokens, now.moment);
        } else {
            self.look().ledger.ask(model, tokens, now.moment);
            purse.tell(self);
        }
    }

    /// Sets aside `more` tokens for an attempt under way. False where they cannot be had at once; then they are asked for.
    pub(super) fn extend(self: &Arc<Self>, hold: &mut Hold, more: u64, now: &Now<'_>, core: &Core) -> bool {
        let mut state = self.change(Some(now));
        let is_done = state.ledger.extend(hold, more, now);
        if let Some(purse) = core.purse.as_ref().filter(|_| !is_done) {
            state.talk.is_urgent = true;
            drop(state);
            purse.tell(self);
        }
        is_done
    }

    /// Puts it on the purser's list. True where it was not there.
    pub(super) fn queue(&self) -> bool {
        !self.is_queued.swap(true, Ordering::Relaxed)
    }

    /// Whether the purser must go on looking after it; where not, it is off the list.
    pub(super) fn stays_warm(&self, now: Moment) -> bool {
        let state = self.look();
        let talk = &state.talk;
        let has_to_say = talk.out.is_some() || !talk.rests.is_empty() || !talk.is_introduced;
        let stays = has_to_say || state.ledger.is_warm(now);
        if !stays {
            self.is_queued.store(false, Ordering::Relaxed);
        }
        stays
    }

    /// Whether the authority has told what it knows of it.
    pub(super) fn is_introduced(&self) -> bool {
        self.look().talk.is_introduced
    }

    /// The authority may have forgotten everything. True where it has to hear of this account again, at once.
    pub(super) fn retell(&self) -> bool {
        let mut state = self.look();
        let has_to = state.ledger.retell();
        state.talk.is_urgent |= has_to;
        has_to
    }

    /// The bid that is due, where one is. With `is_last` everything goes back that is not in use.
    pub(super) fn bid(&self, now: &Now<'_>, rhythm: &Rhythm, is_last: bool) -> Option<Bid> {
        let mut state = self.change(Some(now));
        let State { ledger, talk, .. } = &mut *state;
        if let Some((bid, _)) = &talk.out {
            return Some(bid.clone());
        }
        let is_due = now.moment.since(talk.last) >= rhythm.every
            || (talk.is_urgent && now.moment >= talk.not_before)
            || !talk.rests.is_empty()
            || !talk.is_introduced;
        if !(is_due || is_last) {
            return None;
        }
        let lines = ledger.lines(now, is_last, rhythm);
        // Whoever has nothing to say yet asks how things stand.
        let asks = !talk.is_introduced && !is_last;
        if lines.is_empty() && talk.rests.is_empty() && !asks {
            return None;
        }
        talk.serial += 1;
        talk.is_urgent = false;
        talk.last = now.moment;
        let rests = std::mem::take(&mut talk.rests);
        let bid = Bid { account: self.id.clone(), serial: talk.serial, lines, rests };
        talk.out = Some((bid.clone(), now.moment));
        Some(bid)
    }

    /// The authority's word on the bid `serial`.
    pub(super) fn hear(&self, serial: u64, outcome: &Outcome, now: &Now<'_>, rhythm: &Rhythm) {
        let mut state = self.change(Some(now));
        let State { ledger, talk, health, .. } = &mut *state;
        let Some((bid, sent)) = talk.out.take_if(|(bid, _)| bid.serial == serial) else { return };
        let Outcome::Answered(reply) = outcome else { return };
        let lines: &[Line] = &bid.lines;
        ledger.take_reply(lines, reply, sent, now, rhythm);
        if reply.grants.iter().any(|grant| grant.recall || grant.wait == super::bid::Wait::Soon) {
            talk.not_before = now.moment + rhythm.every / 4;
            talk.is_urgent = true;
        }
        let is_first = !std::mem::replace(&mut talk.is_introduced, true);
        if talk.rests.contains(&Rest::OVER) {
            // The authority will hear of that with the next bid.
            return;
        }
        for rest in &reply.rests {
            let length = Duration::from_millis(rest.until.saturating_sub(reply.now));
            if is_first && length > Rest::LONGEST_KEPT {
                continue;
            }
            let why = if rest.is_exhausted { Why::Exhausted } else { Why::Cooling };
            health.impose(rest.model.as_ref(), length, why, now.moment);
        }
    }

    /// What was left of a limit for everybody, as the authority last said.
    pub(super) fn authority_left(&self, gauge: &Gauge) -> u64 {
        self.look().ledger.authority_left(gauge)
    }

    /// The platform took the request; its end is still to come. Opens what was shut, if anything: of that nothing was shown.
    pub(super) fn accepted(&self, probes: Probes, model: &Arc<str>, event: Event) {
        self.look().health.note(Sign::Accepted, probes, model, event);
    }

    /// Settles and draws the conclusions.
    pub(super) fn end(
        self: &Arc<Self>,
        hold: &Hold,
        ending: Ending,
        probes: Probes,
        model: &Arc<str>,
        event: Event,
        core: &Core,
    ) {
        let now = &core.now();
        let mut state = self.change(Some(now));
        state.ledger.settle(hold, ending.spent, now);
        let sign = match ending.sign {
            Ended::Sign(sign) => sign,
            Ended::ExhaustedUntil { scope, hint } => {
                let rest = hint.unwrap_or_else(|| state.ledger.until_tomorrow(now));
                Sign::Exhausted { scope, rest }
            }
        };
        state.health.note(sign, probes, model, event);
        if let Some(purse) = core.purse.as_ref().filter(|_| is_rest(sign)) {
            let rests = rests_of(&state.health, now, purse);
            state.talk.rests.retain(|rest| *rest == Rest::OVER);
            state.talk.rests.extend(rests);
            drop(state);
            purse.tell(self);
        }
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.look().ledger.in_flight()
    }

    pub(super) fn is_on(&self) -> bool {
        self.look().is_on
    }

    /// Its credential is no longer accepted.
    pub(super) fn is_expired(&self) -> bool {
        self.look().health.is_expired()
    }

    pub(super) fn switch(&self, is_on: bool) {
        self.change(None).is_on = is_on;
    }

    /// Forgets what stands against it, here and with the authority.
    pub(super) fn forget_failures(self: &Arc<Self>, core: &Core) {
        let mut state = self.change(None);
        state.health.forget();
        let Some(purse) = &core.purse else { return };
        state.talk.rests.clear();
        state.talk.rests.push(Rest::OVER);
        drop(state);
        purse.tell(self);
    }
}

/// The lock on an account that is being changed. Shows the outcome when it ends.
struct Change<'a> {
    state: MutexGuard<'a, State>,
    shown: &'a Place,
    now: Option<&'a Now<'a>>,
}

impl Deref for Change<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Change<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.shown.show(self.now.and_then(|now| self.state.view(now)));
    }
}

impl State {
    /// What choices may see; `None` where they have to look.
    fn view(&self, now: &Now<'_>) -> Option<View> {
        if !self.is_on || !self.health.is_open() {
            return None;
        }
        let AtHand { tokens, until, headroom } = self.ledger.at_hand(now)?;
        Some(View {
            tokens,
            until,
            headroom,
            in_flight: self.ledger.in_flight(),
            last_taken: self.last_taken,
        })
    }

    fn check(&self, model: &str, now: &Now<'_>) -> Result<Probes, Refusal> {
        if self.is_on { self.health.check(model, now.moment) } else { Err(Refusal::never(Why::Disabled)) }
    }
}

/// Whether other replicas should hear of it: what the platform asks for, and not what only we have seen.
fn is_rest(sign: Sign) -> bool {
    matches!(sign, Sign::RateLimited { .. } | Sign::Exhausted { .. })
}

fn rests_of(health: &Health, now: &Now<'_>, purse: &Purse) -> SmallVec<[Rest; 1]> {
    let whole = health.closed(now.moment).map(|(why, wait)| (None, why, wait));
    let models =
        health.closed_models(now.moment).into_iter().map(|(model, why, wait)| (Some(model), why, wait));
    let told =
        whole.into_iter().chain(models).filter(|(_, why, _)| matches!(why, Why::Cooling | Why::Exhausted));
    let millis = purse.authority_millis(now.moment);
    told.map(|(model, why, wait)| Rest {
        model,
        until: millis.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        is_exhausted: why == Why::Exhausted,
    })
    .collect()
}

impl Core {
    /// Now, with the authority's wall clock where there is one.
    pub(super) fn now(&self) -> Now<'_> {
        Now::of(&self.clock, self.purse.as_deref())
    }

    /// Whether it makes sense to wait for an answer of the authority's.
    pub(super) fn authority_answers(&self) -> bool {
        self.purse.as_ref().is_some_and(|purse| !purse.is_out())
    }

    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
