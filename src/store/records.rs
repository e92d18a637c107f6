//! What must outlive a process, as a small set of operations. Why so few: two very different stores keep them, one file of
//! this process's own ([`Store`](super::Store)) and a Redis that many processes share, and whatever is built on top (keys,
//! accounts, audit, usage) must not know which.
//!
//! *Tables* hold rows by id. Each row has a version that never comes again, so that a change can be made on condition that
//! nobody was quicker ([`Expect`]). Each table has a generation that grows with every change, by which other processes
//! notice, and remembers its last changes, by which they read only what is new ([`News`]).
//! *Logs* only grow. *Totals* are sums that are added to exactly once, whoever repeats the addition.

use std::collections::{BTreeSet, HashSet};

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// Name of a table or of a log: a word of ours, never a caller's.
pub type Name = &'static str;

/// Most rows, entries or totals in one answer, whatever is asked for.
pub const MAX_PAGE: usize = 1000;

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: String,
    /// Of this very value: another write gives another one, also after the row was deleted and made again.
    pub version: u64,
    pub value: Vec<u8>,
}

impl Row {
    /// What it holds, of a table whose rows are JSON.
    ///
    /// # Errors
    /// [`StoreError::Record`] where it is no such value.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, StoreError> {
        serde_json::from_slice(&self.value).map_err(|error| StoreError::record(&self.id, &error))
    }
}

/// A condition on the row before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// None.
    Anything,
    /// There is no such row.
    Absent,
    /// It is the one that was read.
    Version(u64),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Makes or replaces a row. Gives its new version.
    Put { table: Name, id: String, value: Vec<u8>, expect: Expect },
    /// Removes a row. Gives 0. Where it is gone already and that was not asked about, nothing happens.
    Delete { table: Name, id: String, expect: Expect },
    /// Adds an entry to the end of a log. Gives its place, counted from 0. With `at`, only if that is its place.
    Append { log: Name, entry: Vec<u8>, at: Option<u64> },
}

impl Write {
    /// Makes or replaces a row that holds this, as JSON.
    ///
    /// # Errors
    /// [`StoreError::Record`] where it cannot be written so.
    pub fn put<T: Serialize + ?Sized>(
        table: Name,
        id: impl Into<String>,
        value: &T,
        expect: Expect,
    ) -> Result<Self, StoreError> {
        let id = id.into();
        let value = serde_json::to_vec(value).map_err(|error| StoreError::record(&id, &error))?;
        Ok(Self::Put { table, id, value, expect })
    }
}

/// So many changes of a table are remembered: who has missed more reads all of it.
pub(super) const REMEMBERED: u64 = 1000;

/// A moment in a table's life, to ask later what has changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(super) generation: u64,
    /// Of the change that made this generation: where a store has forgotten its last changes, and made others in their place, it
    /// is another one. Empty where that change is not known.
    pub(super) token: String,
}

impl Mark {
    /// Whether it is no earlier than the other one, as far as the table's generations tell.
    pub fn is_as_late_as(&self, other: &Self) -> bool {
        self.generation >= other.generation
    }
}

/// What has changed in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The moment up to which this tells.
    pub mark: Mark,
    /// The rows that were written or deleted since. `None`: that is not known (any more), and all of them are to be read.
    pub ids: Option<BTreeSet<String>>,
}

/// A change of a table as it is remembered.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub generation: u64,
    pub token: String,
    pub id: String,
}

impl News {
    /// What a table that is at `generation` tells whoever knew it at `since`, by the changes that it remembers from then on, in
    /// order. They count only where none is missing: a version of Weir that remembers none may have written between them.
    pub(super) fn of(since: Option<&Mark>, generation: u64, changes: Vec<Change>) -> Self {
        let last = changes.last().filter(|last| last.generation == generation);
        let token = last.map_or_else(String::new, |last| last.token.clone());
        let mark = Mark { generation, token };
        if since == Some(&mark) {
            return Self { mark, ids: Some(BTreeSet::new()) };
        }
        let is_known = |since: &&Mark| {
            let first = changes.first().is_some_and(|first| first.token == since.token);
            let whole = changes.iter().map(|change| change.generation).eq(since.generation..=generation);
            first && whole
        };
        let ids =
            since.filter(is_known).map(|_| changes.iter().skip(1).map(|change| change.id.clone()).collect());
        Self { mark, ids }
    }
}

/// What makes no sense about changes, whatever there was before.
pub(super) fn contradiction(writes: &[Write]) -> Option<&'static str> {
    let (mut written, mut grown) = (HashSet::new(), HashSet::new());
    writes.iter().find_map(|write| match write {
        Write::Put { table, id, .. } | Write::Delete { table, id, .. } => {
            (!written.insert((*table, id.as_str()))).then_some("two changes of one row in one commit")
        }
        Write::Append { log, at, .. } => (!grown.insert(*log) && at.is_some())
            .then_some("a place is asked for after another entry of one commit"),
    })
}

/// What outlives a process. Whoever waits for an answer to a change knows that it is kept.
#[async_trait]
pub trait Records: Send + Sync + std::fmt::Debug {
    /// Makes all of these changes, or none, and gives what each of them gives. Conditions are about what was there before
    /// the first of them; no two of them may write the same row.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where a condition does not hold; the store's own. Over a network an answer may be lost: after an
    /// error the changes may have been made all the same, and a Conflict may be with oneself, where a client sent again
    /// what had arrived. Whoever must know looks at what is there.
    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>, StoreError>;

    /// Rows by ascending id, those after `after`, at most `limit` (and [`MAX_PAGE`]).
    ///
    /// # Errors
    /// The store's own.
    async fn list(&self, table: Name, after: Option<&str>, limit: usize) -> Result<Vec<Row>, StoreError>;

    /// One row.
    ///
    /// # Errors
    /// The store's own.
    async fn get(&self, table: Name, id: &str) -> Result<Option<Row>, StoreError>;

    /// A number that grows with every change of the table; 0 for a table that was never written.
    ///
    /// # Errors
    /// The store's own.
    async fn generation(&self, table: Name) -> Result<u64, StoreError>;

    /// What has changed in a table since an earlier moment; without one, only what moment this is.
    ///
    /// # Errors
    /// The store's own.
    async fn changes(&self, table: Name, since: Option<&Mark>) -> Result<News, StoreError>;

    /// Entries of a log with their places, from `from` on, at most `limit` (and [`MAX_PAGE`]).
    ///
    /// # Errors
    /// The store's own.
    async fn read(&self, log: Name, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError>;

    /// The place that the next entry of a log gets: how many there are.
    ///
    /// # Errors
    /// The store's own.
    async fn end(&self, log: Name) -> Result<u64, StoreError>;

    /// Adds to totals by key, column by column, all or nothing and exactly once: false where `replica` has added under this
    /// `sequence` or a later one before. A total that is shorter than its delta grows; sums stop at the ends of an `i64`.
    ///
    /// `replica` names the counter of sequences, which is kept for ever: a name that a process keeps over its restarts.
    ///
    /// # Errors
    /// The store's own; whether it was added is then not known, and the same call may be made again.
    async fn add(
        &self,
        replica: &str,
        sequence: u64,
        deltas: Vec<(String, Vec<i64>)>,
    ) -> Result<bool, StoreError>;

    /// The last sequence under which `replica` has added; 0 where it never has.
    ///
    /// # Errors
    /// The store's own.
    async fn added(&self, replica: &str) -> Result<u64, StoreError>;

    /// Totals whose keys begin with `prefix`, by ascending key, those after `after`, at most `limit` (and [`MAX_PAGE`]).
    ///
    /// # Errors
    /// The store's own.
    async fn totals(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<i64>)>, StoreError>;

    /// Forgets these totals: their time is over.
    ///
    /// # Errors
    /// The store's own.
    async fn forget(&self, keys: Vec<String>) -> Result<(), StoreError>;
}

/// All rows of a table, page by page. Rows that change meanwhile are there as before or after.
///
/// # Errors
/// The store's own.
pub async fn all(records: &dyn Records, table: Name) -> Result<Vec<Row>, StoreError> {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.id.clone());
        let page = records.list(table, after.as_deref(), MAX_PAGE).await?;
        let is_last = page.len() < MAX_PAGE;
        rows.extend(page);
        if is_last {
            return Ok(rows);
        }
    }
}

/// Forgets the rows of a table that are over, all of them, page by page: whoever writes them may be quick. What somebody else changes
/// meanwhile stays until the next time, with its page.
///
/// # Errors
/// The store's own.
pub async fn sweep(
    records: &dyn Records,
    table: Name,
    is_over: impl Fn(&Row) -> bool + Send + Sync,
) -> Result<(), StoreError> {
    let mut after: Option<String> = None;
    loop {
        let page = records.list(table, after.as_deref(), MAX_PAGE).await?;
        let is_last = page.len() < MAX_PAGE;
        after = page.last().map(|row| row.id.clone());
        let over = page.into_iter().filter(|row| is_over(row));
        let deletes: Vec<Write> = over
            .map(|row| Write::Delete { table, id: row.id, expect: Expect::Version(row.version) })
            .collect();
        if !deletes.is_empty() {
            match records.commit(deletes).await {
                Err(StoreError::Conflict) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        if is_last {
            return Ok(());
        }
    }
}
