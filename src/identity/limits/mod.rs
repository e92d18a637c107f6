//! How much each caller may ask for. A request is admitted with an estimate of its tokens, which is set aside at once, and
//! settled with what it really used; a refusal changes nothing and says when to come back.
//!
//! Counted in this process's memory: a restart forgets what was used, and each replica counts by itself.

mod bucket;
mod calendar;
mod headers;
mod registry;
mod turnstile;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Moment};
use crate::fault::{Fault, Kind};
use crate::limits::Limits;

use bucket::{Bucket, Full, Rate};
use calendar::{Today, Used};
use headers::{Meter, go_duration};

pub use headers::{Headers, Standing};
pub(super) use registry::Limiters;
pub use turnstile::Turnstile;

/// When to come back if too many requests are under way: nobody can say, so soon.
const CONCURRENCY_WAIT: Duration = Duration::from_secs(1);

/// The limits of one tenant (or one key) and what has been used of them.
#[derive(Debug)]
pub struct Limiter {
    limits: Limits,
    clock: Clock,
    /// Shared with the limiters of other configurations, before and after.
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    requests: Bucket,
    tokens: Bucket,
    under_way: u64,
    used: Used,
}

/// One quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Quota {
    #[serde(rename = "limit")]
    pub of: u64,
    #[serde(rename = "remaining")]
    pub left: u64,
}

/// What is left of a caller's quotas; `None`: no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Left {
    pub daily_requests: Option<Quota>,
    pub daily_tokens: Option<Quota>,
    pub monthly_tokens: Option<Quota>,
}

/// Leave for one request. Gives back its place among those under way when dropped; its tokens stay charged as estimated
/// unless it is settled.
#[derive(Debug)]
pub struct Admission {
    limiter: Arc<Limiter>,
    charged: u64,
    day: Today,
    standing: Standing,
}

impl Limiter {
    /// Nothing used yet.
    pub fn new(limits: Limits, clock: Clock) -> Arc<Self> {
        Arc::new(Self { limits, clock, state: Arc::default() })
    }

    /// Other limits for the same caller: what has been used still counts.
    fn with_limits(&self, limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, clock: self.clock.clone(), state: Arc::clone(&self.state) })
    }

    fn request_rate(&self) -> Option<Rate> {
        let per_minute = self.limits.rpm?;
        Some(Rate { per_minute, burst: self.limits.burst.unwrap_or(per_minute / 10).max(1) })
    }

    fn token_rate(&self) -> Option<Rate> {
        self.limits.tpm.map(|per_minute| Rate { per_minute, burst: per_minute })
    }

    /// Lets in a request that will use about `tokens` (prompt and completion).
    ///
    /// # Errors
    /// `RateLimited` with the time to wait, or `QuotaExhausted` until the next day or month. Nothing is charged then.
    pub fn admit(self: &Arc<Self>, tokens: u64) -> Result<Admission, Fault> {
        let (now, millis) = (self.clock.now(), self.clock.wall_millis());
        let day = Today::at(millis);
        let mut state = self.state.lock();
        let mut next = *state;
        next.used = state.used.on(day);
        self.check_quota(&next.used, tokens, millis)?;
        if let Some(rate) = self.request_rate() {
            next.requests =
                rate.put(state.requests, 1, now).map_err(|full| too_fast(full, rate, "requests"))?;
        }
        if let Some(rate) = self.token_rate() {
            next.tokens =
                rate.put(state.tokens, tokens, now).map_err(|full| too_fast(full, rate, "tokens"))?;
        }
        if let Some(most) = self.limits.concurrency.filter(|most| state.under_way >= *most) {
            let public = format!("Rate limit reached: {most} requests at once.");
            return Err(Fault::client(Kind::RateLimited, public).retry_after(CONCURRENCY_WAIT));
        }
        next.used.add(tokens);
        next.under_way += 1;
        *state = next;
        drop(state);
        let standing = self.standing_of(&next, now, millis);
        Ok(Admission { limiter: Arc::clone(self), charged: tokens, day, standing })
    }

    fn check_quota(&self, used: &Used, tokens: u64, millis: u64) -> Result<(), Fault> {
        let limits = &self.limits;
        let day = calendar::until_tomorrow(millis);
        let is_over = |limit: Option<u64>, used: u64, more: u64| {
            limit.filter(|limit| used.checked_add(more).is_none_or(|total| total > *limit))
        };
        let exhausted = |limit: u64, what: &str, wait: Duration| {
            let public = format!("Quota exhausted: {limit} {what}. It begins anew in {}.", go_duration(wait));
            Err(Fault::client(Kind::QuotaExhausted, public).retry_after(wait))
        };
        if let Some(limit) = is_over(limits.daily_requests, used.day_requests, 1) {
            return exhausted(limit, "requests per day", day);
        }
        if let Some(limit) = is_over(limits.daily_tokens, used.day_tokens, tokens) {
            return exhausted(limit, "tokens per day", day);
        }
        if let Some(limit) = is_over(limits.monthly_budget, used.month_tokens, tokens) {
            return exhausted(limit, "tokens per month", calendar::until_next_month(millis));
        }
        Ok(())
    }

    /// How the limits stand now: for the headers of a refusal.
    pub fn standing(&self) -> Standing {
        let (now, millis) = (self.clock.now(), self.clock.wall_millis());
        let mut state = *self.state.lock();
        state.used = state.used.on(Today::at(millis));
        self.standing_of(&state, now, millis)
    }

    fn standing_of(&self, state: &State, now: Moment, millis: u64) -> Standing {
        let by_rate = |rate: Option<Rate>, bucket: Bucket| {
            rate.map(|rate| {
                let room = rate.room(bucket, now);
                Meter { limit: rate.per_minute, remaining: room.cells, reset: room.reset }
            })
        };
        let by_day = |limit: Option<u64>, used: u64| {
            limit.map(|limit| Meter {
                limit,
                remaining: limit.saturating_sub(used),
                reset: calendar::until_tomorrow(millis),
            })
        };
        let daily_requests = by_day(self.limits.daily_requests, state.used.day_requests);
        let daily_tokens = by_day(self.limits.daily_tokens, state.used.day_tokens);
        Standing {
            requests: by_rate(self.request_rate(), state.requests).or(daily_requests),
            tokens: by_rate(self.token_rate(), state.tokens).or(daily_tokens),
        }
    }

    /// What is left of the quotas of the day and the month, as this process has counted.
    pub fn left(&self) -> Left {
        let mut state = *self.state.lock();
        state.used = state.used.on(Today::at(self.clock.wall_millis()));
        let of = |limit: Option<u64>, used: u64| limit.map(|of| Quota { of, left: of.saturating_sub(used) });
        Left {
            daily_requests: of(self.limits.daily_requests, state.used.day_requests),
            daily_tokens: of(self.limits.daily_tokens, state.used.day_tokens),
            monthly_tokens: of(self.limits.monthly_budget, state.used.month_tokens),
        }
    }

    /// Whether forgetting this limiter would lose nothing.
    fn is_idle(&self) -> bool {
        let (now, state) = (self.clock.now(), *self.state.lock());
        let is_empty = |rate: Option<Rate>, bucket: Bucket| {
            rate.is_none_or(|rate| rate.room(bucket, now).reset == Duration::ZERO)
        };
        let used = state.used.on(Today::at(self.clock.wall_millis()));
        let has_daily = self.limits.daily_requests.is_some() || self.limits.daily_tokens.is_some();
        state.under_way == 0
            && is_empty(self.request_rate(), state.requests)
            && is_empty(self.token_rate(), state.tokens)
            && !(has_daily && used.day_requests > 0)
            && !(self.limits.monthly_budget.is_some() && used.month_tokens > 0)
    }
}

fn too_fast(full: Full, rate: Rate, what: &str) -> Fault {
    let per_minute = rate.per_minute;
    match full {
        Full::For(wait) => {
            let public = format!(
                "Rate limit reached: {per_minute} {what} per minute. Try again in {}.",
                go_duration(wait)
            );
            Fault::client(Kind::RateLimited, public).retry_after(wait)
        }
        Full::Forever => {
            let public = format!("The request needs more {what} than the {per_minute} allowed per minute.");
            Fault::client(Kind::RateLimited, public).no_retry()
        }
    }
}

impl Admission {
    /// Says what the request really used so far: gives back or charges the difference to what was charged before. May be
    /// called again. `settle(0)` for a request that was never sent.
    pub fn settle(&mut self, used_tokens: u64) {
        let limiter = &self.limiter;
        let (now, today) = (limiter.clock.now(), Today::at(limiter.clock.wall_millis()));
        let mut state = limiter.state.lock();
        state.used = state.used.on(today);
        state.used.correct(self.charged, used_tokens, self.day);
        if let Some(rate) = limiter.token_rate() {
            state.tokens = rate.correct(state.tokens, self.charged, used_tokens, now);
        }
        self.charged = used_tokens;
    }

    /// Sets aside `more` tokens: the request turns out larger than was estimated. False, and nothing set aside, where the
    /// day's or the month's quota does not hold them. Tokens per minute do not end what has begun: they are charged, and
    /// the next request waits the longer.
    pub fn extend(&mut self, more: u64) -> bool {
        let limiter = &self.limiter;
        let (now, millis) = (limiter.clock.now(), limiter.clock.wall_millis());
        let mut state = limiter.state.lock();
        let mut used = state.used.on(Today::at(millis));
        let total = self.charged.saturating_add(more);
        used.correct(self.charged, total, self.day);
        let is_over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used > limit);
        if is_over(limiter.limits.daily_tokens, used.day_tokens)
            || is_over(limiter.limits.monthly_budget, used.month_tokens)
        {
            return false;
        }
        state.used = used;
        if let Some(rate) = limiter.token_rate() {
            state.tokens = rate.correct(state.tokens, self.charged, total, now);
        }
        drop(state);
        self.charged = total;
        true
    }

    /// The tokens that are set aside.
    pub fn tokens(&self) -> u64 {
        self.charged
    }

    /// How the caller's limits stood with this request let in, for its answer.
    pub fn headers(&self) -> Headers {
        self.standing.headers()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = self.limiter.state.lock();
        state.under_way = state.under_way.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests;
