//! What is known on the way of one request: where it goes, what an attempt aims at, and what came of it. Plain data, for the
//! attempt, the reading of its answer and the path that tries one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::relay::Begun;
use super::route::{Route, Target};
use super::settings::Timeouts;
use super::ticket::Delivered;
use super::{Gateway, World};
use crate::api::ask::Ask;
use crate::clock::Moment;
use crate::fault::Fault;
use crate::platform::judge::Judgement;
use crate::platform::profile::Platform;
use crate::pool::TransportFailure;
use crate::pool::settings::Account;

/// What all attempts of one request share.
pub struct Trip<'a> {
    pub gateway: &'a Arc<Gateway>,
    pub world: &'a World,
    pub ask: &'a Ask,
    pub route: &'a Route,
    pub timeouts: Timeouts,
    /// When to give up altogether.
    pub deadline: Moment,
    /// Time spent waiting for platforms: not ours.
    pub waited: Waited,
}

/// Time spent waiting for platforms, summed up.
#[derive(Debug, Default)]
pub struct Waited(AtomicU64);

impl Waited {
    /// Adds `length`.
    pub fn add(&self, length: Duration) {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The sum.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// What one attempt aims at.
pub struct Aim<'a> {
    pub target: &'a Target,
    pub account: Arc<Account>,
    /// The account's own id of the model.
    pub model: String,
}

impl Aim<'_> {
    /// The account's platform.
    pub fn platform(&self) -> &Platform {
        &self.account.platform
    }
}

/// An answer that may be given to the caller.
#[derive(Debug)]
pub enum Won {
    Whole { body: Bytes, is_stream: bool, delivered: Delivered },
    Stream { begun: Begun, pulse: Option<Bytes> },
}

/// A won answer, and what was left out of the request on the way.
#[derive(Debug)]
pub struct Victory {
    pub won: Won,
    pub dropped: Vec<String>,
}

/// Why an attempt brought no answer.
#[derive(Debug)]
pub enum Trouble {
    /// The request itself cannot be put to this platform.
    Unfit(Fault),
    /// The platform answered, and its answer was judged.
    Judged(Judgement),
    /// There was no answer to judge.
    Transport(TransportFailure, String),
}

/// The platform's answer is none that can be used.
pub fn broken(why: &str) -> Trouble {
    Trouble::Transport(TransportFailure::Cut, why.to_owned())
}
