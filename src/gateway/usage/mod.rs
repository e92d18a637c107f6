//! What was used, by day and by whom: every attempt counts once. Why summed in memory first: a request must not wait for a
//! disk, and a thousand requests of one caller are one row. Once a second the sums go to the store, as one batch with a
//! number, so that a batch which has to be sent again still counts once.
//!
//! [`Ledger`] collects and flushes · [`prices`] what tokens cost · [`report`] sums by whatever is asked for · [`csv`] for
//! spreadsheets · [`spool`] what is left when the store has gone before us.

pub mod csv;
pub mod prices;
pub mod report;
pub mod spool;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use prometheus::IntCounter;

use self::prices::Prices;
use crate::ids::{AccountId, PlatformName, Subject, TenantId};
use crate::store::{Records, StoreError};

/// Maps that the sums are spread over, so that two threads seldom meet.
const SHARDS: usize = 16;

/// Sums that one map holds between two flushes; beyond that callers and models are no longer told apart.
const MOST: usize = 4096;

/// Stands for callers and models that are not told apart.
const OTHERS: &str = "(others)";

/// Stands for the model of attempts that a platform refused: their names may be anything that callers made up.
pub const REFUSED: &str = "(refused)";

/// Totals in one batch.
const BATCH: usize = 10_000;

/// A day of UTC, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Day(u64);

/// Whose usage, of what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub day: Day,
    pub tenant: TenantId,
    /// A JWT's `sub`, or a key's id.
    pub caller: Subject,
    pub account: AccountId,
    pub platform: PlatformName,
    /// The platform's model.
    pub model: Arc<str>,
}

/// How much. Prompt tokens include cached ones, completion tokens include those of reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sums {
    /// Attempts that reached a platform.
    pub requests: u64,
    /// Those of them that brought no answer.
    pub failed: u64,
    /// Those of them whose tokens are our estimate.
    pub estimated: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cached_tokens: u64,
    pub reasoning_tokens: u64,
    /// In millionths of the currency of the price table, by the prices at the time of the flush.
    pub cost_micros: u64,
}

/// Names of the columns of [`Sums`], in their order.
pub const COLUMNS: [&str; 8] = [
    "requests",
    "failed",
    "estimated",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost_micros",
];

/// Totals as they go to the store: key, and what is added to each column.
pub type Batch = Vec<(String, Vec<i64>)>;

/// Sums of what has not reached the store yet.
#[derive(Debug)]
pub struct Ledger {
    shards: Vec<Mutex<HashMap<Key, Sums>>>,
    overflow: IntCounter,
    outbox: tokio::sync::Mutex<Outbox>,
}

#[derive(Debug, Default)]
struct Outbox {
    /// Under which the last batch was added; `None` until the store was asked.
    sequence: Option<u64>,
    batch: Batch,
    /// The batch has been sent, and nobody knows whether it arrived.
    is_in_doubt: bool,
}

impl Day {
    /// The day at `millis` since 1970.
    pub const fn at(millis: u64) -> Self {
        Self(millis / 86_400_000)
    }

    /// As `2026-11-21`.
    pub fn date(self) -> Date {
        let seconds = i64::try_from(self.0.saturating_mul(86_400)).unwrap_or(i64::MAX);
        let instant = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        instant.to_zoned(TimeZone::UTC).date()
    }
}

impl Sums {
    /// Adds `more`.
    pub fn add(&mut self, more: &Sums) {
        let both = self.columns().into_iter().zip(more.columns());
        *self = Self::of_columns(both.map(|(one, other)| one.saturating_add(other)));
    }

    /// In the order of [`COLUMNS`].
    pub const fn columns(&self) -> [u64; 8] {
        [
            self.requests,
            self.failed,
            self.estimated,
            self.prompt_tokens,
            self.completion_tokens,
            self.cached_tokens,
            self.reasoning_tokens,
            self.cost_micros,
        ]
    }

    /// From columns in the order of [`COLUMNS`]; those that are missing are zero.
    pub fn of_columns(columns: impl IntoIterator<Item = u64>) -> Self {
        let mut columns = columns.into_iter();
        let mut next = || columns.next().unwrap_or(0);
        Self {
            requests: next(),
            failed: next(),
            estimated: next(),
            prompt_tokens: next(),
            completion_tokens: next(),
            cached_tokens: next(),
            reasoning_tokens: next(),
            cost_micros: next(),
        }
    }
}

impl Key {
    /// As the store keeps it: by day first. JSON, so that no name can be mistaken for two.
    fn stored(&self) -> String {
        let names = [
            self.tenant.as_str(),
            self.caller.as_str(),
            self.account.as_str(),
            self.platform.as_str(),
            self.model.as_ref(),
        ];
        format!("{}{}/{}", report::PREFIX, self.day.date(), serde_json::Value::from(names.as_slice()))
    }

    fn shard(&self) -> usize {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or(0)
    }

    fn merged(self) -> Self {
        Self { caller: OTHERS.into(), model: OTHERS.into(), ..self }
    }
}

impl Ledger {
    /// Nothing used yet. `overflow` counts what could not be told apart for want of room.
    pub fn new(overflow: IntCounter) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, overflow, outbox: tokio::sync::Mutex::default() }
    }

    /// Counts one attempt. Never waits for anything.
    pub fn note(&self, key: Key, used: &Sums) {
        let Some(shard) = self.shards.get(key.shard()) else { return };
        let mut sums = shard.lock();
        if let Some(sum) = sums.get_mut(&key) {
            return sum.add(used);
        }
        let key = if sums.len() < MOST {
            key
        } else {
            self.overflow.inc();
            key.merged()
        };
        sums.entry(key).or_default().add(used);
    }

    /// Brings everything to the store, under `replica`'s next number.
    ///
    /// # Errors
    /// The store's own. Nothing is lost then: it is tried again with the next flush.
    pub async fn flush(
        &self,
        records: &dyn Records,
        replica: &str,
        prices: &Prices,
    ) -> Result<(), StoreError> {
        let mut outbox = self.outbox.lock().await;
        loop {
            if outbox.batch.is_empty() {
                outbox.batch = self.drain(prices);
                if outbox.batch.is_empty() {
                    return Ok(());
                }
            }
            outbox.send(records, replica).await?;
        }
    }

    /// Takes out everything that has not reached the store, for whoever can still reach it.
    pub async fn rest(&self, prices: &Prices) -> Batch {
        let mut outbox = self.outbox.lock().await;
        let mut rest = std::mem::take(&mut outbox.batch);
        loop {
            let more = self.drain(prices);
            if more.is_empty() {
                return rest;
            }
            rest.extend(more);
        }
    }

    fn drain(&self, prices: &Prices) -> Batch {
        let mut batch = Batch::new();
        for shard in &self.shards {
            if batch.len() >= BATCH {
                break;
            }
            for (key, mut sums) in std::mem::take(&mut *shard.lock()) {
                sums.cost_micros = prices.cost(key.platform.as_str(), &key.model, &sums);
                let columns = sums.columns().map(|column| i64::try_from(column).unwrap_or(i64::MAX));
                batch.push((key.stored(), columns.to_vec()));
            }
        }
        batch
    }
}

impl Outbox {
    async fn send(&mut self, records: &dyn Records, replica: &str) -> Result<(), StoreError> {
        loop {
            let sequence = match self.sequence {
                Some(last) => last + 1,
                None => records.added(replica).await? + 1,
            };
            let was_in_doubt = std::mem::replace(&mut self.is_in_doubt, true);
            self.sequence = Some(sequence - 1);
            let added = records.add(replica, sequence, self.batch.clone()).await?;
            self.is_in_doubt = false;
            if added || was_in_doubt {
                self.sequence = Some(sequence);
                self.batch.clear();
                return Ok(());
            }
            // Somebody else of our name has taken that number: ours was not added.
            self.sequence = None;
        }
    }
}

#[cfg(test)]
mod tests;
