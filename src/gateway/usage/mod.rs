//! What was used, by day and by whom: every attempt counts once. Why summed in memory first: a request must not wait for a
//! disk, and a thousand requests of one caller are one row. Once a second the sums go to the store, in batches with
//! numbers, so that a batch which has to be sent again still counts once.
//!
//! [`Ledger`] collects and flushes · [`journal`] what a process that dies has not brought to the store · [`prices`] what tokens
//! cost · [`report`] sums by whatever is asked for · [`csv`] for spreadsheets.

pub mod csv;
pub mod journal;
pub mod prices;
pub mod report;

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use prometheus::IntCounter;

use self::journal::{Journal, Segment};
use self::prices::Prices;
use crate::ids::{AccountId, PlatformName, Subject, TenantId, random_name};
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

/// Numbers that a flush has for its batches: more than all maps together can fill.
const NUMBERS: u64 = 16;

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
    shards: Vec<Mutex<Shard>>,
    overflow: IntCounter,
    /// Under which the store counts our batches: no other process has it, nor has one before us.
    owner: String,
    journal: Option<Journal>,
    outbox: tokio::sync::Mutex<Outbox>,
}

#[derive(Debug, Default)]
struct Shard {
    sums: HashMap<Key, Noted>,
    /// Where the sums are written down as well.
    segment: Option<Arc<Segment>>,
}

#[derive(Debug)]
struct Noted {
    /// The key as the store has it.
    stored: String,
    sums: Sums,
}

/// What is on its way to the store.
#[derive(Debug, Default)]
struct Outbox {
    /// The flush that is being sent or was sent last.
    number: u64,
    /// Of that flush, what the store has not confirmed yet.
    batches: VecDeque<(u64, Batch)>,
    /// Where it was written down, too.
    done: Option<Arc<Segment>>,
    /// Where the next one is.
    segment: Option<Arc<Segment>>,
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

impl Noted {
    fn add(&mut self, used: &Sums, segment: Option<&Segment>) {
        self.sums.add(used);
        if let Some(segment) = segment {
            segment.write(&self.stored, used);
        }
    }
}

impl Ledger {
    /// Nothing used yet. `overflow` counts what could not be told apart for want of room.
    pub fn new(overflow: IntCounter) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            overflow,
            owner: random_name("usage_", 16),
            journal: None,
            outbox: tokio::sync::Mutex::default(),
        }
    }

    /// From now on everything is also written down in `folder`, where others find it should this process die.
    ///
    /// # Errors
    /// Where nothing can be written there.
    pub fn write_down(&mut self, folder: PathBuf) -> std::io::Result<()> {
        let journal = Journal::new(folder, self.owner.clone());
        let segment = Arc::new(journal.begin(1)?);
        self.shards.iter_mut().for_each(|shard| shard.get_mut().segment = Some(Arc::clone(&segment)));
        self.outbox.get_mut().segment = Some(segment);
        self.journal = Some(journal);
        Ok(())
    }

    /// Counts one attempt. Waits for nothing but the kernel, which takes a line of the journal.
    pub fn note(&self, key: Key, used: &Sums) {
        let Some(shard) = self.shards.get(key.shard()) else { return };
        let mut shard = shard.lock();
        let Shard { sums, segment } = &mut *shard;
        let segment = segment.as_deref();
        if let Some(noted) = sums.get_mut(&key) {
            return noted.add(used, segment);
        }
        let key = if sums.len() < MOST {
            key
        } else {
            self.overflow.inc();
            key.merged()
        };
        let stored = key.stored();
        sums.entry(key).or_insert_with(|| Noted { stored, sums: Sums::default() }).add(used, segment);
    }

    /// Brings everything to the store.
    ///
    /// # Errors
    /// The store's own. Nothing is lost then: it is tried again with the next flush.
    pub async fn flush(&self, records: &dyn Records, prices: &Prices) -> Result<(), StoreError> {
        let mut outbox = self.outbox.lock().await;
        loop {
            outbox.send(records, &self.owner).await?;
            if !self.drain(&mut outbox, prices) {
                return Ok(());
            }
        }
    }

    /// The last flush of a process that ends.
    ///
    /// # Errors
    /// The store's own. What was written down is there for whoever comes next.
    pub async fn close(&self, records: &dyn Records, prices: &Prices) -> Result<(), StoreError> {
        self.flush(records, prices).await?;
        if let Some(empty) = self.outbox.lock().await.segment.take() {
            empty.remove();
        }
        Ok(())
    }

    /// Puts what was noted into the empty `outbox`, and begins the next segment. False where nothing was noted.
    fn drain(&self, outbox: &mut Outbox, prices: &Prices) -> bool {
        if self.shards.iter().all(|shard| shard.lock().sums.is_empty()) {
            return false;
        }
        outbox.number += 1;
        let next = self.begin(outbox.number + 1).map(Arc::new);
        let mut rows = Vec::new();
        for shard in &self.shards {
            // What is noted from here on belongs to the next flush, in memory and in the journal.
            let mut shard = shard.lock();
            shard.segment.clone_from(&next);
            let drained = std::mem::take(&mut shard.sums);
            drop(shard);
            rows.extend(drained.into_iter().map(|(key, mut noted)| {
                noted.sums.cost_micros = prices.cost(key.platform.as_str(), &key.model, &noted.sums);
                (noted.stored, noted.sums)
            }));
        }
        outbox.batches = batches(outbox.number, rows);
        outbox.done = std::mem::replace(&mut outbox.segment, next);
        true
    }

    fn begin(&self, number: u64) -> Option<Segment> {
        let begun = self.journal.as_ref()?.begin(number);
        begun
            .inspect_err(
                |error| tracing::error!(%error, "usage cannot be written down: a crash would lose it"),
            )
            .ok()
    }
}

/// The rows of flush `number` in batches, each with its number. The same rows make the same batches, whoever sends them.
fn batches(number: u64, mut rows: Vec<(String, Sums)>) -> VecDeque<(u64, Batch)> {
    rows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let first = number.saturating_mul(NUMBERS);
    let chunks = (first..).zip(rows.chunks(BATCH));
    chunks
        .map(|(sequence, chunk)| {
            let rows = chunk.iter().map(|(key, sums)| {
                let columns = sums.columns().map(|column| i64::try_from(column).unwrap_or(i64::MAX));
                (key.clone(), columns.to_vec())
            });
            (sequence, rows.collect())
        })
        .collect()
}

impl Outbox {
    /// Sends what is in it. A batch that may have arrived is sent again under its number.
    async fn send(&mut self, records: &dyn Records, owner: &str) -> Result<(), StoreError> {
        while let Some((sequence, batch)) = self.batches.front() {
            records.add(owner, *sequence, batch.clone()).await?;
            self.batches.pop_front();
        }
        if let Some(done) = self.done.take() {
            done.remove();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
