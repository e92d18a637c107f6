//! What a request holds and owes: its account's reservation, its caller's admission, its place in the metrics. Why one
//! thing: however a request ends (finished, cut, refused, caller gone, task dropped) this settles exactly once, in its
//! `drop` at the latest.

use std::sync::Arc;

use super::Gateway;
use super::calibrate::Gauge;
use super::estimate::{Estimate, bytes_of_tokens, tokens_of_bytes};
use super::usage::{Day, Key, REFUSED, Sums};
use crate::api::piece::Usage;
use crate::clock::Moment;
use crate::fault::{Fault, Kind};
use crate::identity::Caller;
use crate::identity::limits::Admission;
use crate::ids::{PlatformName, RequestId, Subject, TenantId};
use crate::pool::{Reservation, Used};

/// How a request ended, for the metrics: `ok`, or the label of the fault.
pub type Outcome = &'static str;

/// The request was answered in full.
pub const OK: Outcome = "ok";

/// The stream was ended because no more tokens could be set aside.
pub const BUDGET: Outcome = "budget_stop";

/// What has come of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// What the platform said of tokens.
    pub usage: Option<Usage>,
    /// Bytes of text, about.
    pub bytes: u64,
    /// Those of them that came after it said so.
    pub bytes_since_usage: u64,
}

/// What an attempt that brought no answer has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// It did not reach the platform.
    Nothing,
    /// The platform refused it.
    Request,
    /// The platform may have read it, and nobody said what became of it.
    Prompt,
}

/// Where a stream stands that has used up what is set aside for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// It may go on, and is to be looked at again from so many bytes of text on.
    Until(u64),
    /// There is no more, under this side's limits (`account` or `caller`).
    Dry(&'static str),
}

/// At least so many tokens are asked for at a time.
const LEAST_STEP: u64 = 256;

/// More is asked for when so much of a step is left...
const RESERVE: u64 = 4;

/// ...and so often while that lasts, before the stream is ended.
const TRIES: u64 = 4;

/// What one request holds until it ends.
#[derive(Debug)]
pub struct Ticket {
    gateway: Arc<Gateway>,
    id: RequestId,
    tenant: TenantId,
    caller: Subject,
    admission: Admission,
    /// The account at work, once there is one.
    reservation: Option<Reservation>,
    /// Its platform, for the metrics; stays when the reservation is settled.
    platform: Option<PlatformName>,
    route: Arc<str>,
    /// As guessed, whatever the model.
    guess: Estimate,
    /// How guesses are corrected for the model at work.
    gauge: Gauge,
    arrived: Moment,
    first_token_seen: bool,
    closed: bool,
}

/// Label of what has no platform (refused before one was chosen).
const NO_PLATFORM: &str = "none";

impl Ticket {
    /// Opens the books for one admitted request.
    pub fn open(
        gateway: Arc<Gateway>,
        caller: &Caller,
        admission: Admission,
        id: RequestId,
        route: Arc<str>,
        guess: Estimate,
        arrived: Moment,
    ) -> Self {
        gateway.metrics.in_flight.inc();
        Self {
            gateway,
            id,
            tenant: caller.tenant.clone(),
            caller: caller.subject.clone(),
            admission,
            reservation: None,
            platform: None,
            route,
            guess,
            gauge: Gauge::default(),
            arrived,
            first_token_seen: false,
            closed: false,
        }
    }

    /// The request's id, for the log.
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// The route's name, as the metrics show it.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// What the request will take, as far as is known of the model at work.
    pub fn estimate(&self) -> Estimate {
        self.guess.corrected(self.gauge)
    }

    /// What it would take of a model whose guesses are corrected so.
    pub fn estimate_by(&self, gauge: Gauge) -> Estimate {
        self.guess.corrected(gauge)
    }

    /// When the request came.
    pub fn arrived(&self) -> Moment {
        self.arrived
    }

    /// The caller's own standing, for the answer's headers.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Takes an account's reservation in, for the attempt that begins.
    pub fn hold(&mut self, reservation: Reservation, gauge: Gauge) {
        self.gauge = gauge;
        self.platform = Some(reservation.account().platform.name.clone());
        self.reservation = Some(reservation);
    }

    /// The platform has taken the request: its answer has begun.
    pub fn accepted(&mut self) {
        if let Some(reservation) = &mut self.reservation {
            reservation.accepted();
        }
    }

    /// Hands the reservation of a failed attempt out, to be settled by what failed. `spent` is what it goes into the usage
    /// with.
    pub fn release(&mut self, spent: Spent) -> Option<Reservation> {
        let reservation = self.reservation.take()?;
        let failed = Sums { requests: 1, failed: 1, ..Sums::default() };
        match spent {
            Spent::Nothing => {}
            Spent::Request => self.book(&reservation, REFUSED.into(), &failed),
            Spent::Prompt => {
                let prompt_tokens = self.estimate().prompt;
                let sums = Sums { estimated: 1, prompt_tokens, ..failed };
                self.book(&reservation, Arc::clone(reservation.model()), &sums);
            }
        }
        Some(reservation)
    }

    fn book(&self, reservation: &Reservation, model: Arc<str>, sums: &Sums) {
        let account = reservation.account();
        let key = Key {
            day: Day::at(self.gateway.clock.wall_millis()),
            tenant: self.tenant.clone(),
            caller: self.caller.clone(),
            account: account.id.clone(),
            platform: account.platform.name.clone(),
            model,
        };
        self.gateway.ledger.note(key, sums);
    }

    /// Notes the first content, once.
    pub fn note_first_token(&mut self) {
        if std::mem::replace(&mut self.first_token_seen, true) {
            return;
        }
        let waited = self.gateway.clock.now().since(self.arrived);
        let platform = self.platform_label();
        self.gateway.metrics.first_token.with_label_values(&[platform]).observe(waited.as_secs_f64());
    }

    /// What an answer has used: what the platform said, and an estimate of what came after that. A `whole` answer is
    /// believed as it is.
    pub fn measure(&self, delivered: Delivered, is_whole: bool) -> (Usage, Used) {
        let told = delivered.usage.filter(|usage| usage.total() > 0);
        match told {
            Some(usage) if is_whole || delivered.bytes_since_usage == 0 => {
                (usage, Used { tokens: usage.total(), estimated: false })
            }
            told => {
                let since = if told.is_some() { delivered.bytes_since_usage } else { delivered.bytes };
                let told = told.unwrap_or_default();
                let more = self.gauge.answer(tokens_of_bytes(since));
                let usage = Usage {
                    prompt: told.prompt.or_else(|| Some(self.estimate().prompt)),
                    completion: Some(told.completion.unwrap_or(0).saturating_add(more)),
                    total: told.total.map(|total| total.saturating_add(more)),
                    ..told
                };
                (usage, Used { tokens: usage.total(), estimated: true })
            }
        }
    }

    /// Whether a stream of which so much has been delivered may go on: sets aside more, in steps, where it has nearly used
    /// up what it has. Cheap to call seldom: the answer says when to call again.
    pub fn cover(&mut self, delivered: Delivered) -> Budget {
        let estimate = self.estimate();
        let (_, used) = self.measure(delivered, false);
        let step = (estimate.total() / 4).max(LEAST_STEP);
        // An answer whose length the caller has bounded was paid for in advance: it is no longer than that, whatever its bytes
        // look like, unless the platform does not keep to it.
        let (reserve, early, late) = match estimate.is_bounded {
            true => (0, estimate.answer / 4, estimate.answer / 2),
            false => (step / RESERVE, 0, 0),
        };
        let next = |tokens: u64| {
            let guess = self.gauge.guess_of_answer(tokens).max(1);
            Budget::Until(delivered.bytes.saturating_add(bytes_of_tokens(guess)))
        };
        let (later, soon) = (next(step), next(reserve.max(late - early) / TRIES));
        let needed = used.tokens.saturating_add(reserve);
        let enough = self.held().saturating_add(early);
        if needed < enough {
            return next(enough - needed);
        }
        if self.grow(needed.saturating_add(step)).is_ok() {
            return later;
        }
        // Near the end of a quota a small step may still fit.
        match self.grow(needed) {
            Ok(()) => soon,
            Err(_) if used.tokens < self.held().saturating_add(late) => soon,
            Err(side) => Budget::Dry(side),
        }
    }

    /// The tokens set aside on both sides.
    fn held(&self) -> u64 {
        self.reservation.as_ref().map_or(u64::MAX, Reservation::tokens).min(self.admission.tokens())
    }

    /// Sets aside what is lacking to `tokens`, on both sides; or names the side where it cannot be had.
    fn grow(&mut self, tokens: u64) -> Result<(), &'static str> {
        let lack = |held: u64| tokens.saturating_sub(held);
        if let Some(reservation) = &mut self.reservation {
            let lack = lack(reservation.tokens());
            if lack > 0 && !reservation.extend(lack) {
                return Err("account");
            }
        }
        let lack = lack(self.admission.tokens());
        if lack > 0 && !self.admission.extend(lack) { Err("caller") } else { Ok(()) }
    }

    /// The stream is ended for want of tokens under this side's limits.
    pub fn note_dry(&self, side: &str) {
        self.gateway.metrics.budget_stops.with_label_values(&[self.platform_label(), side]).inc();
        tracing::info!(id = %self.id, route = %self.route, side, "a stream was ended: no more tokens can be set aside");
    }

    /// Settles: with the platform's own usage, or else with the prompt's estimate and what was delivered.
    pub fn close(&mut self, outcome: Outcome, delivered: Delivered) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let (usage, used) = self.measure(delivered, outcome == OK);
        self.admission.settle(if self.reservation.is_some() { used.tokens } else { 0 });
        if let Some(reservation) = self.reservation.take() {
            self.count_tokens(usage, used);
            let sums = Sums {
                requests: 1,
                failed: 0,
                estimated: u64::from(used.estimated),
                prompt_tokens: usage.prompt.unwrap_or(0),
                completion_tokens: usage.completion.unwrap_or(0),
                cached_tokens: usage.cached.unwrap_or(0),
                reasoning_tokens: usage.reasoning.unwrap_or(0),
                cost_micros: 0,
            };
            self.book(&reservation, Arc::clone(reservation.model()), &sums);
            if outcome == OK && !used.estimated {
                self.learn(usage, delivered.bytes);
            }
            reservation.settle(used);
        }
        self.count_end(outcome);
    }

    /// Learns how far the guesses were off.
    fn learn(&self, usage: Usage, bytes: u64) {
        // Thinking that is paid for and not shown says nothing about how long the words are.
        let is_all_seen = usage.reasoning.unwrap_or(0) == 0;
        let answer = usage.completion.filter(|_| is_all_seen).map(|real| (tokens_of_bytes(bytes), real));
        let prompt = (self.guess.prompt, usage.prompt.unwrap_or(0));
        self.gateway.calibration.learn(self.gauge, prompt, answer);
    }

    /// Settles a request that failed before anything was delivered. What its last account used is settled already.
    pub fn fail(&mut self, fault: &Fault) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.admission.settle(0);
        self.count_end(fault.kind().row().label);
    }

    fn platform_label(&self) -> &str {
        self.platform.as_ref().map_or(NO_PLATFORM, PlatformName::as_str)
    }

    fn count_tokens(&self, usage: Usage, used: Used) {
        let platform = self.platform_label();
        let metrics = &self.gateway.metrics;
        let basis = if used.estimated { "estimated" } else { "exact" };
        metrics.settlements.with_label_values(&[platform, basis]).inc();
        let kinds = [
            ("prompt", usage.prompt),
            ("completion", usage.completion),
            ("cached", usage.cached),
            ("reasoning", usage.reasoning),
        ];
        for (kind, tokens) in kinds {
            if let Some(tokens) = tokens.filter(|tokens| *tokens > 0) {
                metrics.tokens.with_label_values(&[platform, kind]).inc_by(tokens);
            }
        }
    }

    fn count_end(&self, outcome: Outcome) {
        let platform = self.platform_label();
        let metrics = &self.gateway.metrics;
        metrics.in_flight.dec();
        metrics.requests.with_label_values(&[&self.route, platform, outcome]).inc();
        let took = self.gateway.clock.now().since(self.arrived);
        metrics.duration.with_label_values(&[platform]).observe(took.as_secs_f64());
        tracing::debug!(target: "weir::access", id = %self.id, route = %self.route, platform, outcome, ?took);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Nobody closed it: the caller went away while the platform was at work, or we are the ones who gave up.
        let kind = match () {
            () if std::thread::panicking() => Kind::Internal,
            () if self.gateway.drain.is_over() => Kind::Shutdown,
            () => Kind::ClientGone,
        };
        self.close(kind.row().label, Delivered::default());
    }
}
