//! What a platform does to all of its accounts at once. Why: a 429 for our address, not for an account, comes from every
//! account in turn; going on would burn them all one after the other and help nobody.
//!
//! The sign of it: so many accounts refused within a short time, and not one request taken in between. A pool that
//! is merely busy has successes in between.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::gate::{Event, Gate, Pass};
use super::refusal::Why;
use crate::clock::Moment;

/// So many different accounts make a storm …
const STORM_ACCOUNTS: usize = 5;
/// … within this time.
const STORM_WITHIN: Duration = Duration::from_secs(10);

/// So many different accounts in a row, within that time, make an overload of the whole platform.
const OVERLOADED_ACCOUNTS: usize = 3;

/// The state of one platform.
#[derive(Debug, Default)]
pub(super) struct Weather {
    /// Whether `sky` has anything to say: the only thing that the hot path reads.
    is_cloudy: AtomicBool,
    sky: Mutex<Sky>,
}

#[derive(Debug, Default)]
struct Sky {
    gate: Gate,
    /// The code of the 429s that are being counted.
    code: Option<String>,
    suspects: Vec<Suspect>,
    /// Accounts whose platform had too much to do, and not one request taken since.
    overloaded: Vec<(u64, Moment)>,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    account: u64,
    at: Moment,
    hint: Option<Duration>,
}

impl Weather {
    /// Whether requests to the platform may go out at all.
    pub(super) fn check(&self, now: Moment) -> Pass {
        if self.is_cloudy.load(Ordering::Acquire) { self.sky.lock().gate.check(now) } else { Pass::Open }
    }

    /// The probe goes; false where another one was faster.
    pub(super) fn begin_probe(&self, now: Moment) -> bool {
        let mut sky = self.sky.lock();
        let is_probe = sky.gate.check(now) == Pass::Probe;
        if is_probe {
            sky.gate.probe(now);
        }
        is_probe
    }

    pub(super) fn end_probe(&self) {
        self.sky.lock().gate.end_probe();
    }

    /// The platform took a request.
    pub(super) fn accepted(&self, taken: Moment) {
        if !self.is_cloudy.load(Ordering::Acquire) {
            return;
        }
        let mut sky = self.sky.lock();
        sky.gate.accepted(taken);
        sky.suspects.clear();
        sky.overloaded.clear();
        self.is_cloudy.store(!sky.gate.is_idle(), Ordering::Release);
    }

    /// An account (by the hash of its id) was rate limited. True where the platform as a whole is to blame and was so before
    /// this answer: then the account is not.
    pub(super) fn suspect(
        &self,
        account: u64,
        code: Option<&str>,
        event: Event,
        hint: Option<Duration>,
    ) -> bool {
        let mut sky = self.sky.lock();
        self.is_cloudy.store(true, Ordering::Release);
        if matches!(sky.gate.closed(event.now), Some((Why::Cooling, _))) {
            // Only its probe may close it for longer; the others were under way.
            if !sky.gate.is_stale(event.taken) {
                sky.gate.rate_limited(event, hint);
            }
            return true;
        }
        if sky.code.as_deref() != code {
            sky.code = code.map(str::to_owned);
            sky.suspects.clear();
        }
        sky.suspects
            .retain(|suspect| suspect.account != account && event.now.since(suspect.at) <= STORM_WITHIN);
        sky.suspects.push(Suspect { account, at: event.now, hint });
        if sky.suspects.len() >= STORM_ACCOUNTS {
            let soonest = sky.suspects.iter().filter_map(|suspect| suspect.hint).min();
            sky.suspects.clear();
            sky.gate.rate_limited(event, soonest);
        }
        false
    }

    /// An account (by the hash of its id) was told that the platform has too much to do. True where that was known of the platform
    /// as a whole before this answer.
    pub(super) fn overloaded(&self, account: u64, event: Event, hint: Option<Duration>) -> bool {
        let mut sky = self.sky.lock();
        self.is_cloudy.store(true, Ordering::Release);
        if sky.gate.closed(event.now).is_some() {
            sky.gate.overloaded(event, hint);
            return true;
        }
        sky.overloaded.retain(|(other, at)| *other != account && event.now.since(*at) <= STORM_WITHIN);
        sky.overloaded.push((account, event.now));
        if sky.overloaded.len() >= OVERLOADED_ACCOUNTS {
            sky.overloaded.clear();
            sky.gate.breathe(event, hint);
        }
        false
    }

    /// The platform says itself that no account is to blame.
    pub(super) fn rate_limited(&self, event: Event, hint: Option<Duration>) {
        let mut sky = self.sky.lock();
        self.is_cloudy.store(true, Ordering::Release);
        sky.gate.rate_limited(event, hint);
    }
}
