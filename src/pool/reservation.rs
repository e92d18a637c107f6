//! What one attempt has set aside, as a value that cannot be forgotten. Why by drop: an attempt ends in success, error,
//! time-out, a caller that went away, a cancelled task or a panic, and each of them must free the slot and settle exactly once.

use std::sync::Arc;
use std::time::Duration;

use super::gate::Event;
use super::health::{Probes, Sign};
use super::ledger::{Hold, Spent};
use super::member::{Core, Ended, Ending, Seat, Taken};
use super::settings::Account;
use crate::clock::Moment;
use crate::platform::judge::{Judgement, Scope, Verdict};

/// An account for one attempt, with quota set aside. Ends by one of its `settle` functions; dropped without one, the
/// whole estimate counts as spent: rather too much than unpaid.
#[derive(Debug)]
#[must_use = "dropping a reservation spends its whole estimate"]
pub struct Reservation {
    seat: Arc<Seat>,
    /// As it was when it was taken.
    account: Arc<Account>,
    model: Arc<str>,
    upstream: Arc<str>,
    taken: Moment,
    probes: Probes,
    /// Its acceptance has been told: the end of a stream says nothing about the platform as it is then.
    is_accepted: bool,
    /// Taken out by the settlement.
    hold: Option<Hold>,
}

/// What an attempt has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Prompt and completion together.
    pub tokens: u64,
    /// Not the platform's own count but ours.
    pub estimated: bool,
}

/// How an attempt failed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportFailure {
    /// No connection (address, TCP, TLS): nothing was sent.
    Connect,
    /// A kept connection turned out closed, or the server said that it did not take the request: nothing was used and nobody is to
    /// blame.
    NotTaken,
    /// Sent, and no answer in time: it may be working on it.
    Timeout,
    /// Sent, and the connection broke before an answer was complete.
    Cut,
}

impl Reservation {
    pub(super) fn new(
        seat: Arc<Seat>,
        model: Arc<str>,
        upstream: Arc<str>,
        taken: Taken,
        now: Moment,
    ) -> Self {
        Self {
            account: seat.account.load_full(),
            seat,
            model,
            upstream,
            taken: now,
            probes: taken.probes,
            is_accepted: false,
            hold: Some(taken.hold),
        }
    }

    /// It is the one request that is let through to a platform which rests.
    pub(super) fn probe_platform(&mut self) {
        self.probes.platform = true;
    }

    /// The account, as it was configured when it was taken.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The account's own id for the model.
    pub fn upstream_model(&self) -> &str {
        &self.upstream
    }

    /// The model, by its name in routes.
    pub fn model(&self) -> &Arc<str> {
        &self.model
    }

    /// The tokens that are set aside.
    pub fn tokens(&self) -> u64 {
        self.hold.as_ref().map_or(0, Hold::tokens)
    }

    /// Sets aside `more` tokens: the attempt turns out larger than was estimated. False where they cannot be had at once;
    /// they are then asked for, and a later try may find them.
    pub fn extend(&mut self, more: u64) -> bool {
        let Some(hold) = &mut self.hold else { return false };
        let core = &self.seat.core;
        self.seat.member.extend(hold, more, &core.now(), core)
    }

    /// The platform took the request: its answer has begun and is no error. To be called as soon as that is known: an
    /// account that comes back from a pause is opened by this and not by the end of a stream minutes later.
    pub fn accepted(&mut self) {
        let event = self.event(self.seat.core.clock.now());
        self.seat.member.accepted(self.probes, &self.model, event);
        self.seat.weather.accepted(self.taken);
        self.probes = Probes::default();
        self.is_accepted = true;
    }

    /// The attempt succeeded and used so much.
    pub fn settle(mut self, used: Used) {
        let sign = if self.is_accepted { Sign::Neutral } else { Sign::Accepted };
        self.end(used, 1, Ended::Sign(sign));
    }

    /// The platform answered with an error that cost nothing.
    pub fn settle_error(self, judgement: &Judgement) {
        let tokens = match judgement.verdict {
            Verdict::Ok => self.tokens(),
            _ => 0,
        };
        self.settle_error_used(judgement, Used { tokens, estimated: judgement.verdict == Verdict::Ok });
    }

    /// The platform answered with an error, after it had used so much.
    pub fn settle_error_used(mut self, judgement: &Judgement, used: Used) {
        let (scope, hint) = (judgement.scope, judgement.retry_after);
        let is_platform = scope == Scope::Platform;
        let sign = match judgement.verdict {
            Verdict::Ok => Ended::Sign(Sign::Accepted),
            Verdict::RateLimited | Verdict::QuotaExhausted if is_platform => {
                let event = self.event(self.seat.core.clock.now());
                self.seat.weather.rate_limited(event, hint);
                Ended::Sign(Sign::Neutral)
            }
            Verdict::RateLimited => self.rate_limited(judgement),
            Verdict::QuotaExhausted => Ended::ExhaustedUntil { scope, hint },
            Verdict::NotEntitled => Ended::Sign(Sign::NotEntitled),
            Verdict::TokenExpired => Ended::Sign(Sign::TokenExpired),
            Verdict::AuthInvalid => Ended::Sign(Sign::AuthInvalid),
            Verdict::Overloaded if is_platform => self.overloaded(hint),
            Verdict::Overloaded => Ended::Sign(Sign::Failed { scope, hint }),
            Verdict::BadRequest | Verdict::ContentFiltered | Verdict::ContextTooLong => {
                Ended::Sign(Sign::Neutral)
            }
        };
        self.end(used, 1, sign);
    }

    /// There was no answer.
    pub fn settle_transport(mut self, kind: TransportFailure) {
        let failed = Ended::Sign(Sign::Failed { scope: Scope::Account, hint: None });
        match kind {
            TransportFailure::Connect => self.end(Used { tokens: 0, estimated: false }, 0, failed),
            TransportFailure::NotTaken => {
                self.end(Used { tokens: 0, estimated: false }, 0, Ended::Sign(Sign::Neutral));
            }
            TransportFailure::Timeout | TransportFailure::Cut => {
                let used = Used { tokens: self.tokens(), estimated: true };
                self.end(used, 1, failed);
            }
        }
    }

    /// The account is to blame, unless the platform refuses all of them.
    fn rate_limited(&self, judgement: &Judgement) -> Ended {
        let event = self.event(self.seat.core.clock.now());
        let (hint, code) = (judgement.retry_after, judgement.code.as_deref());
        if self.seat.weather.suspect(self.seat.member.hash, code, event, hint) {
            return Ended::Sign(Sign::Neutral);
        }
        Ended::Sign(Sign::RateLimited { scope: judgement.scope, hint })
    }

    /// The platform has too much to do: for this model here or, where other accounts hear the same, as a whole.
    fn overloaded(&self, hint: Option<Duration>) -> Ended {
        let event = self.event(self.seat.core.clock.now());
        if self.seat.weather.overloaded(self.seat.member.hash, event, hint) {
            return Ended::Sign(Sign::Neutral);
        }
        Ended::Sign(Sign::Overloaded { hint })
    }

    fn event(&self, now: Moment) -> Event {
        Event { taken: self.taken, now, jitter: self.seat.core.dice.throw().fraction() }
    }

    fn end(&mut self, used: Used, requests: u64, sign: Ended) {
        let Some(hold) = self.hold.take() else { return };
        let core = &self.seat.core;
        if used.estimated {
            Core::count(&core.estimated);
        }
        let event = self.event(core.clock.now());
        let ending = Ending { spent: Spent { tokens: used.tokens, requests }, sign };
        self.seat.member.end(&hold, ending, self.probes, &self.model, event, core);
        if matches!(sign, Ended::Sign(Sign::Accepted)) {
            self.seat.weather.accepted(self.taken);
        }
        if self.probes.platform {
            self.seat.weather.end_probe();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.hold.is_some() {
            Core::count(&self.seat.core.dropped);
            let used = Used { tokens: self.tokens(), estimated: true };
            self.end(used, 1, Ended::Sign(Sign::Neutral));
        }
    }
}
