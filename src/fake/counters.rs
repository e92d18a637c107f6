//! What the simulated platform saw. Why: it is the oracle of the tests about quota, settlement and callers who leave;
//! the gateway's own books are compared with these. Limits are kept here too, beside the numbers that they bound.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::clock::{Clock, Moment};
use crate::fake::fault::{Class, Refusal};
use crate::fake::script::Account;
use crate::fake::wire::Asked;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// Requests that are remembered, and the bytes of their bodies.
const JOURNAL: usize = 256;
const JOURNAL_BYTES: usize = 64 << 20;
/// Departures whose time is remembered, per key.
const DEPARTURES: usize = 1000;
/// Ended requests whose times and tokens are remembered, per key.
const ENDED: usize = 50_000;

/// Counters of all keys, and the last requests.
#[derive(Default)]
pub struct Counters {
    keys: Mutex<HashMap<(&'static str, String), Arc<Tally>>>,
    journal: Mutex<Journal>,
}

#[derive(Default)]
struct Journal {
    entries: VecDeque<Arc<Asked>>,
    bytes: usize,
}

/// Counters of one key on one platform.
#[derive(Default)]
pub struct Tally(Mutex<Numbers>);

#[derive(Default)]
struct Numbers {
    requests: u64,
    streams: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    in_flight: u64,
    /// Those in flight that were admitted.
    running: u64,
    max_concurrent: u64,
    client_gone: u64,
    gone_at_ms: VecDeque<u64>,
    /// The last that ended, in the order of their ends.
    ended: VecDeque<Ended>,
    statuses: BTreeMap<u16, u64>,
    minute: Window,
    day: Window,
}

/// A request that is over: when it came, when it ended, the tokens that it cost.
struct Ended {
    came: Moment,
    went: Moment,
    tokens: u64,
}

/// Requests and tokens since a moment.
#[derive(Default)]
struct Window {
    began: Option<Moment>,
    requests: u64,
    tokens: u64,
}

impl Window {
    /// The window that holds `now`: this one, or a new one. What is left of it comes back.
    fn turn(&mut self, now: Moment, length: Duration) -> Duration {
        match self.began {
            Some(began) if now.since(began) < length => length.saturating_sub(now.since(began)),
            _ => {
                *self = Self { began: Some(now), ..Self::default() };
                length
            }
        }
    }
}

/// What is left of an account's limits, for the headers that tell it.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    pub requests: u64,
    pub requests_limit: u64,
    pub tokens: u64,
    pub tokens_limit: u64,
    pub reset: Duration,
}

/// Limits told where none is set.
const UNLIMITED: u64 = 1_000_000;

impl Counters {
    /// Opens the books for one request.
    pub fn open(&self, platform: &'static str, key: &str, clock: &Clock) -> Exchange {
        let tally = Arc::clone(self.keys.lock().entry((platform, key.to_owned())).or_default());
        {
            let mut numbers = tally.0.lock();
            numbers.requests += 1;
            numbers.in_flight += 1;
            numbers.max_concurrent = numbers.max_concurrent.max(numbers.in_flight);
        }
        Exchange {
            tally,
            came: clock.now(),
            tokens: AtomicU64::new(0),
            clock: clock.clone(),
            admitted: AtomicBool::new(false),
            done: false,
        }
    }

    /// Remembers a request.
    pub fn note(&self, asked: &Arc<Asked>) {
        let mut journal = self.journal.lock();
        journal.bytes += asked.body.len();
        journal.entries.push_back(Arc::clone(asked));
        while journal.entries.len() > JOURNAL || (journal.bytes > JOURNAL_BYTES && journal.entries.len() > 1)
        {
            let Some(oldest) = journal.entries.pop_front() else { break };
            journal.bytes -= oldest.body.len();
        }
    }

    /// Forgets everything. Requests in flight end in books that nobody reads.
    pub fn reset(&self) {
        self.keys.lock().clear();
        *self.journal.lock() = Journal::default();
    }

    /// All counters: platform, then key.
    pub fn report(&self) -> Value {
        let mut platforms: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
        for ((platform, key), tally) in self.keys.lock().iter() {
            let numbers = tally.0.lock();
            let statuses: BTreeMap<String, u64> =
                numbers.statuses.iter().map(|(status, count)| (status.to_string(), *count)).collect();
            let told = json!({
                "requests": numbers.requests, "streams": numbers.streams,
                "prompt_tokens": numbers.prompt_tokens, "completion_tokens": numbers.completion_tokens,
                "in_flight": numbers.in_flight, "max_concurrent": numbers.max_concurrent,
                "client_gone": numbers.client_gone, "client_gone_at_ms": numbers.gone_at_ms, "statuses": statuses,
            });
            platforms.entry(platform).or_default().insert(key.clone(), told);
        }
        json!({ "platforms": platforms })
    }

    /// Every request that has ended, as far as is remembered: platform, then key, then for each request when it came and
    /// when it ended (microseconds on the fake's own clock) and its tokens. From it a test can look into any window of time.
    pub fn times(&self) -> Value {
        let mut platforms: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
        let micros = |moment: Moment| moment.as_nanos() / 1000;
        for ((platform, key), tally) in self.keys.lock().iter() {
            let numbers = tally.0.lock();
            let rows = numbers.ended.iter();
            let rows = rows.map(|ended| json!([micros(ended.came), micros(ended.went), ended.tokens]));
            platforms.entry(platform).or_default().insert(key.clone(), rows.collect());
        }
        json!({ "platforms": platforms })
    }

    /// The last requests, oldest first.
    pub fn requests(&self, last: usize) -> Value {
        let journal = self.journal.lock();
        let skipped = journal.entries.len().saturating_sub(last);
        Value::Array(journal.entries.iter().skip(skipped).map(|asked| asked.report()).collect())
    }
}

/// One request's entry in the books, until its answer is complete or its caller has gone.
pub struct Exchange {
    tally: Arc<Tally>,
    clock: Clock,
    came: Moment,
    tokens: AtomicU64,
    admitted: AtomicBool,
    done: bool,
}

impl Exchange {
    /// Holds the request against the account's limits; takes its place and its tokens, or refuses.
    pub fn admit(&self, account: &Account, prompt: u64, completion: u64) -> Result<Left, Refusal> {
        let now = self.clock.now();
        let tokens = prompt + completion;
        let mut numbers = self.tally.0.lock();
        let wait = numbers.minute.turn(now, MINUTE);
        let night = numbers.day.turn(now, DAY);
        if account.concurrency.is_some_and(|limit| numbers.running >= limit) {
            return Err(Refusal::of(Class::Concurrency).after(Duration::from_secs(1)));
        }
        if account.daily_tokens.is_some_and(|limit| numbers.day.tokens + tokens > limit) {
            return Err(Refusal::of(Class::DailyQuota).after(night));
        }
        if account.rpm.is_some_and(|limit| numbers.minute.requests >= limit) {
            return Err(Refusal::of(Class::RateLimited).after(wait));
        }
        if account.tpm.is_some_and(|limit| numbers.minute.tokens + tokens > limit) {
            return Err(Refusal::of(Class::TokensLimited).after(wait));
        }
        if !self.admitted.swap(true, Ordering::SeqCst) {
            numbers.running += 1;
        }
        numbers.minute.requests += 1;
        numbers.minute.tokens += tokens;
        numbers.day.tokens += tokens;
        let requests_limit = account.rpm.unwrap_or(UNLIMITED);
        let tokens_limit = account.tpm.unwrap_or(UNLIMITED);
        Ok(Left {
            requests: requests_limit.saturating_sub(numbers.minute.requests),
            requests_limit,
            tokens: tokens_limit.saturating_sub(numbers.minute.tokens),
            tokens_limit,
            reset: wait,
        })
    }

    /// Counts a status, and a stream.
    pub fn answered(&self, status: u16, stream: bool) {
        let mut numbers = self.tally.0.lock();
        *numbers.statuses.entry(status).or_default() += 1;
        numbers.streams += u64::from(stream);
    }

    /// Counts tokens that were read or written.
    pub fn served(&self, prompt: u64, completion: u64) {
        if prompt + completion > 0 {
            let mut numbers = self.tally.0.lock();
            numbers.prompt_tokens += prompt;
            numbers.completion_tokens += completion;
            self.tokens.fetch_add(prompt + completion, Ordering::Relaxed);
        }
    }

    /// The answer is complete, or ended by the platform itself.
    pub fn finish(&mut self) {
        self.done = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut numbers = self.tally.0.lock();
        numbers.in_flight = numbers.in_flight.saturating_sub(1);
        if self.admitted.load(Ordering::SeqCst) {
            numbers.running = numbers.running.saturating_sub(1);
        }
        if numbers.ended.len() == ENDED {
            numbers.ended.pop_front();
        }
        let (went, tokens) = (self.clock.now(), self.tokens.load(Ordering::Relaxed));
        numbers.ended.push_back(Ended { came: self.came, went, tokens });
        if !self.done {
            numbers.client_gone += 1;
            if numbers.gone_at_ms.len() == DEPARTURES {
                numbers.gone_at_ms.pop_front();
            }
            numbers.gone_at_ms.push_back(self.clock.wall_millis());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_admits_its_limit_and_turns() {
        let (clock, hand) = Clock::manual(0);
        let counters = Counters::default();
        let account = Account { rpm: Some(2), tpm: Some(100), ..Account::default() };
        let ask = |tokens| {
            let mut exchange = counters.open("openai", "sk-a", &clock);
            exchange.finish();
            exchange.admit(&account, tokens, 0).map(|left| left.requests).map_err(|refusal| refusal.class)
        };
        assert_eq!(ask(60), Ok(1));
        assert_eq!(ask(60), Err(Class::TokensLimited));
        assert_eq!(ask(40), Ok(0));
        assert_eq!(ask(0), Err(Class::RateLimited));
        hand.advance(MINUTE);
        assert_eq!(ask(60), Ok(1));
    }

    #[test]
    fn a_request_that_ended_is_remembered_with_its_times_and_tokens() {
        let (clock, hand) = Clock::manual(0);
        let counters = Counters::default();
        let exchange = counters.open("openai", "sk-a", &clock);
        hand.advance(Duration::from_millis(3));
        exchange.served(5, 0);
        exchange.served(0, 2);
        assert_eq!(counters.times()["platforms"]["openai"]["sk-a"], json!([]), "not over");
        drop(exchange);
        assert_eq!(counters.times()["platforms"]["openai"]["sk-a"], json!([[0, 3000, 7]]));
    }

    #[test]
    fn a_caller_who_leaves_is_counted_with_the_time() {
        let (clock, _hand) = Clock::manual(77);
        let counters = Counters::default();
        drop(counters.open("openai", "sk-a", &clock));
        let report = counters.report();
        let told = &report["platforms"]["openai"]["sk-a"];
        assert_eq!((&told["client_gone"], &told["in_flight"]), (&json!(1), &json!(0)));
        assert_eq!(told["client_gone_at_ms"], json!([77]));
    }
}
