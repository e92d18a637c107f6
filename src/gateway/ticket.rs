//! What a request holds and owes: its account's reservation, its caller's admission, its place in the metrics. Why one
//! thing: however a request ends (finished, cut, refused, caller gone, task dropped) this settles exactly once, in its
//! `drop` at the latest.

use std::sync::Arc;

use super::Gateway;
use super::estimate::Estimate;
use crate::api::piece::Usage;
use crate::clock::Moment;
use crate::fault::{Fault, Kind};
use crate::identity::limits::Admission;
use crate::ids::{PlatformName, RequestId};
use crate::pool::{Reservation, Used};

/// How a request ended, for the metrics: `ok`, or the label of the fault.
pub type Outcome = &'static str;

/// The request was answered in full.
pub const OK: Outcome = "ok";

/// What one request holds until it ends.
#[derive(Debug)]
pub struct Ticket {
    gateway: Arc<Gateway>,
    id: RequestId,
    admission: Admission,
    /// The account at work, once there is one.
    reservation: Option<Reservation>,
    /// Its platform, for the metrics; stays when the reservation is settled.
    platform: Option<PlatformName>,
    route: Arc<str>,
    estimate: Estimate,
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
        admission: Admission,
        id: RequestId,
        route: Arc<str>,
        estimate: Estimate,
        arrived: Moment,
    ) -> Self {
        gateway.metrics.in_flight.inc();
        Self {
            gateway,
            id,
            admission,
            reservation: None,
            platform: None,
            route,
            estimate,
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

    /// The guess with which the request was admitted.
    pub fn estimate(&self) -> Estimate {
        self.estimate
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
    pub fn hold(&mut self, reservation: Reservation) {
        self.platform = Some(reservation.account().platform.name.clone());
        self.reservation = Some(reservation);
    }

    /// The platform has taken the request: its answer has begun.
    pub fn accepted(&mut self) {
        if let Some(reservation) = &mut self.reservation {
            reservation.accepted();
        }
    }

    /// Hands the reservation of a failed attempt out, to be settled by what failed.
    pub fn release(&mut self) -> Option<Reservation> {
        self.reservation.take()
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

    /// Settles: with the platform's own usage, or else with the prompt's estimate and what was delivered.
    pub fn close(&mut self, outcome: Outcome, usage: Option<Usage>, delivered_tokens: u64) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let exact = usage.filter(|usage| usage.total() > 0);
        let guess = || self.estimate.prompt.saturating_add(delivered_tokens);
        let used =
            Used { tokens: exact.map_or_else(guess, |usage| usage.total()), estimated: exact.is_none() };
        self.admission.settle(if self.reservation.is_some() { used.tokens } else { 0 });
        if let Some(reservation) = self.reservation.take() {
            self.count_tokens(exact, used);
            reservation.settle(used);
        }
        self.count_end(outcome);
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

    fn count_tokens(&self, exact: Option<Usage>, used: Used) {
        let platform = self.platform_label();
        let metrics = &self.gateway.metrics;
        let basis = if used.estimated { "estimated" } else { "exact" };
        metrics.settlements.with_label_values(&[platform, basis]).inc();
        let count = |kind: &str, tokens: Option<u64>| {
            if let Some(tokens) = tokens.filter(|tokens| *tokens > 0) {
                metrics.tokens.with_label_values(&[platform, kind]).inc_by(tokens);
            }
        };
        match exact {
            Some(usage) => {
                count("prompt", usage.prompt);
                count("completion", usage.completion);
                count("cached", usage.cached);
                count("reasoning", usage.reasoning);
            }
            None => {
                count("prompt", Some(self.estimate.prompt));
                count("completion", Some(used.tokens.saturating_sub(self.estimate.prompt)));
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
        self.close(kind.row().label, None, 0);
    }
}
