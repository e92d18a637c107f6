//! The health of one account: what its platform's answers have done to it. Why apart from the ledger: limits are what we
//! allow ourselves, health is what the platform tells us; the table in `pool.md` is this file.

use std::sync::Arc;
use std::time::Duration;

use super::gate::{Event, Gate, Pass};
use super::refusal::{Refusal, Why};
use crate::clock::Moment;
use crate::platform::judge::Scope;

/// Models of one account whose gate is remembered. A caller may name any model, so there must be an
/// end; what is forgotten costs one failed try when it is asked for again.
const MAX_PAIRS: usize = 64;
/// Rest after a token that could not be refreshed: at most one try in this time.
const TOKEN_REST: Duration = Duration::from_secs(30);

/// Gates of one account.
#[derive(Debug, Default)]
pub(super) struct Health {
    account: Gate,
    /// Gates of (account, model), only where there is something to remember.
    pairs: Vec<(Arc<str>, Gate)>,
    is_expired: bool,
}

/// Which gates a reservation probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Probes {
    pub account: bool,
    pub pair: bool,
    pub platform: bool,
}

/// What an answer says about the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// The platform took the request.
    Accepted,
    RateLimited {
        scope: Scope,
        hint: Option<Duration>,
    },
    Exhausted {
        scope: Scope,
        rest: Duration,
    },
    NotEntitled,
    Failed {
        scope: Scope,
        hint: Option<Duration>,
    },
    /// The platform has too much to do; the account is not to blame.
    Overloaded {
        hint: Option<Duration>,
    },
    TokenExpired,
    AuthInvalid,
    /// Nothing: the request was at fault, or nobody knows.
    Neutral,
}

impl Health {
    pub(super) fn is_expired(&self) -> bool {
        self.is_expired
    }

    /// Whether a request for `model` may pass, and as which probes.
    pub(super) fn check(&self, model: &str, now: Moment) -> Result<Probes, Refusal> {
        if self.is_expired {
            return Err(Refusal::never(Why::Disabled));
        }
        let account = self.account.check(now);
        let pair = self.pairs.iter().find(|(name, _)| &**name == model);
        let pair = pair.map_or(Pass::Open, |(_, gate)| gate.check(now));
        match (account, pair) {
            (Pass::Closed(one), Pass::Closed(other)) => Err(one.longer(other)),
            (Pass::Closed(one), _) | (_, Pass::Closed(one)) => Err(one),
            _ => Ok(Probes { account: account == Pass::Probe, pair: pair == Pass::Probe, platform: false }),
        }
    }

    /// The request goes out as these probes.
    pub(super) fn begin(&mut self, probes: Probes, model: &str, now: Moment) {
        if probes.account {
            self.account.probe(now);
        }
        if probes.pair
            && let Some((_, gate)) = self.pairs.iter_mut().find(|(name, _)| &**name == model)
        {
            gate.probe(now);
        }
    }

    /// The answer came.
    pub(super) fn note(&mut self, sign: Sign, probes: Probes, model: &Arc<str>, event: Event) {
        match sign {
            Sign::Accepted => {
                self.account.accepted(event.taken);
                if let Some((_, gate)) = self.pairs.iter_mut().find(|(name, _)| name == model) {
                    gate.accepted(event.taken);
                }
            }
            Sign::RateLimited { scope, hint } => self.gate(scope, model).rate_limited(event, hint),
            Sign::Exhausted { scope, rest } => self.gate(scope, model).rest(event.now, rest, Why::Exhausted),
            Sign::NotEntitled => self.gate(Scope::Model, model).denied(event),
            Sign::Failed { scope, hint } => self.gate(scope, model).failed(event, hint),
            Sign::Overloaded { hint } => self.gate(Scope::Model, model).overloaded(event, hint),
            Sign::TokenExpired => self.account.rest(event.now, TOKEN_REST, Why::Cooling),
            Sign::AuthInvalid => self.is_expired = true,
            Sign::Neutral => {}
        }
        self.end(probes, model);
        self.pairs.retain(|(_, gate)| !gate.is_idle());
    }

    /// The probes are over; harmless where the answer already moved their gates.
    fn end(&mut self, probes: Probes, model: &str) {
        if probes.account {
            self.account.end_probe();
        }
        if probes.pair
            && let Some((_, gate)) = self.pairs.iter_mut().find(|(name, _)| &**name == model)
        {
            gate.end_probe();
        }
    }

    /// Another replica has been told to rest.
    pub(super) fn impose(&mut self, model: Option<&Arc<str>>, length: Duration, why: Why, now: Moment) {
        let gate = match model {
            Some(model) => self.gate(Scope::Model, model),
            None => &mut self.account,
        };
        if gate.closed(now).is_none_or(|(_, wait)| wait < length) {
            gate.rest(now, length, why);
        }
    }

    /// It has a new token, and is the same account.
    pub(super) fn renew(&mut self) {
        self.is_expired = false;
    }

    /// Forgets everything: the account has a new credential, or an operator says so.
    pub(super) fn forget(&mut self) {
        self.account.open();
        self.pairs.clear();
        self.is_expired = false;
    }

    /// Why and how long the account as a whole is closed.
    pub(super) fn closed(&self, now: Moment) -> Option<(Why, Duration)> {
        self.account.closed(now)
    }

    /// The models for which it is closed, and how long.
    pub(super) fn closed_models(&self, now: Moment) -> Vec<(Arc<str>, Why, Duration)> {
        let closed = |(model, gate): &(Arc<str>, Gate)| {
            gate.closed(now).map(|(why, wait)| (Arc::clone(model), why, wait))
        };
        self.pairs.iter().filter_map(closed).collect()
    }

    fn gate(&mut self, scope: Scope, model: &Arc<str>) -> &mut Gate {
        let place = match scope {
            Scope::Account | Scope::Platform => None,
            Scope::Model => Some(self.place_of(model)),
        };
        match place.and_then(|place| self.pairs.get_mut(place)) {
            Some((_, gate)) => gate,
            None => &mut self.account,
        }
    }

    /// Where the pair of `model` is; a new one takes the place of another where there are too many.
    fn place_of(&mut self, model: &Arc<str>) -> usize {
        if let Some(place) = self.pairs.iter().position(|(name, _)| name == model) {
            return place;
        }
        if self.pairs.len() >= MAX_PAIRS {
            self.pairs.swap_remove(0);
        }
        self.pairs.push((Arc::clone(model), Gate::default()));
        self.pairs.len() - 1
    }
}
