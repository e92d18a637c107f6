//! The gateway: every dependency of the request path in one place, and the path itself ([`chat`]). Why one struct: a
//! request is then a linear function over it, tests build it with a manual clock and a fake platform, and there are no
//! globals.

pub mod answer;
mod aside;
pub mod attempt;
pub mod body;
pub mod calibrate;
pub mod chat;
pub mod departures;
pub mod drain;
pub mod estimate;
pub mod issuer;
mod kept_out;
pub mod models;
pub mod onboard;
pub mod people;
pub mod provider;
pub mod reach;
mod reading;
pub mod recall;
pub mod rehearsal;
pub mod relay;
pub mod route;
pub mod settings;
pub mod ticket;
pub mod tokens;
pub mod trip;
pub mod usage;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::pool::{Breaker, Pool, Why};
use crate::upstream::Upstream;

use calibrate::Calibration;
use drain::Drain;
use recall::Memory;
use rehearsal::Rehearsal;
use route::RouteTable;
use settings::{Heartbeat, ModelField, Retry, Sizes, Timeouts};
use tokens::{Renew, TokenDesk};
use usage::Ledger;
use usage::prices::Prices;

/// Everything that a reload replaces at once. A request keeps the one with which it began.
#[derive(Clone, Debug)]
pub struct World {
    pub identity: Arc<Identity>,
    pub routes: RouteTable,
    pub retry: Retry,
    pub timeouts: Timeouts,
    pub sizes: Sizes,
    pub heartbeat: Heartbeat,
    pub model_field: ModelField,
    pub prices: Prices,
}

/// The gateway.
#[derive(Debug)]
pub struct Gateway {
    world: ArcSwap<World>,
    pub clock: Clock,
    pub metrics: Metrics,
    pub pool: Pool,
    pub upstream: Upstream,
    pub recall: Memory,
    pub calibration: Calibration,
    pub ledger: Ledger,
    pub tokens: TokenDesk,
    /// Set once, where accounts live on consents.
    pub renew: OnceLock<Box<dyn Renew>>,
    pub drain: Drain,
    /// What is to fail on purpose: in tests of a debug build, and never else.
    pub rehearsal: Rehearsal,
    /// Bytes of request bodies held now, over all requests.
    body_bytes: AtomicUsize,
    /// Seconds since 1970 at which the gateway began: `created` of every model in the list.
    pub began_at: u64,
}

/// How long vendor state of a turn is kept, and for how many tool calls.
const RECALL_LIFE: Duration = Duration::from_secs(3600);
const RECALL_ENTRIES: usize = 50_000;

impl Gateway {
    /// A gateway over its parts.
    pub fn new(world: World, pool: Pool, upstream: Upstream, metrics: Metrics, clock: Clock) -> Self {
        Self {
            world: ArcSwap::from_pointee(world),
            recall: Memory::new(clock.clone(), RECALL_LIFE, RECALL_ENTRIES),
            calibration: Calibration::default(),
            ledger: Ledger::new(metrics.usage_overflow.clone()),
            tokens: TokenDesk::new(clock.clone()),
            renew: OnceLock::new(),
            drain: Drain::default(),
            rehearsal: Rehearsal::default(),
            body_bytes: AtomicUsize::new(0),
            began_at: clock.wall_seconds(),
            clock,
            metrics,
            pool,
            upstream,
        }
    }

    /// Counts accounts by state anew, for the metrics.
    pub fn count_accounts(&self) {
        let tally = self.pool.tally();
        self.metrics.leases_lost.inc_by(tally.lost.saturating_sub(self.metrics.leases_lost.get()));
        self.metrics.authority_up.set(i64::from(!tally.is_out));
        self.metrics.replicas.set(i64::try_from(tally.replicas).unwrap_or(i64::MAX));
        self.metrics.accounts.reset();
        for state in self.pool.states() {
            let label = match (&state.rest, state.breaker) {
                _ if !state.is_enabled => "disabled",
                _ if state.is_expired => "expired",
                (Some((Why::Exhausted, _)), _) => "resting",
                (Some(_), _) => "cooling",
                (None, Breaker::Open | Breaker::HalfOpen) => "broken",
                (None, Breaker::Closed) => "ready",
            };
            self.metrics.accounts.with_label_values(&[state.platform.as_str(), label]).inc();
        }
    }

    /// The configuration in force.
    pub fn world(&self) -> Arc<World> {
        self.world.load_full()
    }

    /// Puts a new configuration in force, for requests that begin from now on.
    pub fn replace_world(&self, world: World) {
        self.world.store(Arc::new(world));
    }
}
