//! Records in the embedded file. Why writers queue: one commit waits for the disk, and whoever comes while it does joins the
//! next one, so that a hundred writers at once cost two commits and not a hundred.
//!
//! | table of the file | key | value |
//! | --- | --- | --- |
//! | `rows` | table, id | version, bytes |
//! | `generations` | table | number |
//! | `changes` | table, generation | the id of the row that was changed then |
//! | `logs` | log, place | bytes |
//! | `totals` | key | columns of 8 bytes |
//! | `replicas` | replica | its last sequence |
//! | `leases` | account | bytes |

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use async_trait::async_trait;
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::records::{
    Change, Expect, MAX_PAGE, Mark, Name, News, REMEMBERED, Records, Row, Write, contradiction,
};
use super::{Inner, Store, StoreError};

const ROWS: TableDefinition<'_, (&str, &str), (u64, &[u8])> = TableDefinition::new("rows");
const GENERATIONS: TableDefinition<'_, &str, u64> = TableDefinition::new("generations");
const CHANGES: TableDefinition<'_, (&str, u64), &str> = TableDefinition::new("changes");
const LOGS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("logs");
const TOTALS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("totals");
const REPLICAS: TableDefinition<'_, &str, u64> = TableDefinition::new("replicas");
const LEASES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("leases");

/// Keys as version 1 of the file kept them: the same rows, without versions.
const KEYS_OF_SCHEMA_1: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");

/// What waits for the next commit.
pub(super) struct Job {
    work: Work,
    done: SyncSender<Result<Done, StoreError>>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Job")
    }
}

enum Work {
    Commit(Vec<Write>),
    Add { replica: String, sequence: u64, deltas: Vec<(String, Vec<i64>)> },
    Forget(Vec<String>),
    Leases(Vec<(String, Vec<u8>)>),
}

#[derive(Clone, Debug)]
enum Done {
    Numbers(Vec<u64>),
    Added(bool),
    Nothing,
}

/// Makes every table, and takes over what an older version kept.
pub(super) fn prepare(change: &WriteTransaction) -> Result<(), StoreError> {
    let mut rows = change.open_table(ROWS)?;
    let mut generations = change.open_table(GENERATIONS)?;
    change.open_table(CHANGES)?;
    change.open_table(LOGS)?;
    change.open_table(TOTALS)?;
    change.open_table(REPLICAS)?;
    change.open_table(LEASES)?;
    let mut version = 0;
    for row in change.open_table(KEYS_OF_SCHEMA_1)?.iter()? {
        let (id, value) = row?;
        version += 1;
        rows.insert(("keys", id.value()), (version, value.value()))?;
    }
    if version > 0 {
        generations.insert("keys", version)?;
    }
    change.delete_table(KEYS_OF_SCHEMA_1)?;
    Ok(())
}

impl Store {
    /// What each account's lease was when the process last wrote it down. Waits for the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn read_leases(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.0.look(|read| {
            let table = read.open_table(LEASES)?;
            let rows = table.iter()?.map(|row| {
                let (account, lease) = row?;
                Ok((account.value().to_owned(), lease.value().to_vec()))
            });
            rows.collect()
        })
    }

    /// Writes leases down, all of them or none; kept when this returns. An empty lease takes the account's row away; accounts
    /// that are not named keep theirs. Waits for the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_leases(&self, leases: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
        self.0.wait_for(Work::Leases(leases.to_vec())).map(drop)
    }

    /// Runs `work` where it may wait for the disk.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|_| StoreError::Interrupted)?
    }
}

impl Inner {
    fn look<T>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let db = self.db.read();
        look(&db.as_ref().ok_or(StoreError::Released)?.begin_read()?)
    }

    /// Queues `work`, and returns when it is on the disk: written by us together with all that has queued up by then, or by
    /// whoever was at it before us.
    fn wait_for(&self, work: Work) -> Result<Done, StoreError> {
        let (done, outcome) = sync_channel(1);
        self.queue.lock().push(Job { work, done });
        let turn = self.writing.lock();
        let jobs = std::mem::take(&mut *self.queue.lock());
        if !jobs.is_empty() {
            self.write(jobs);
        }
        drop(turn);
        received(&outcome)
    }

    /// One commit for all jobs. One whose condition fails changes nothing and does not hold the others up.
    fn write(&self, jobs: Vec<Job>) {
        let result = self.write_all(&jobs);
        match result {
            Ok(outcomes) => {
                for (job, outcome) in jobs.iter().zip(outcomes) {
                    drop(job.done.send(outcome));
                }
            }
            Err(error) => {
                let told = error.to_string();
                let mut first = Some(error);
                for job in &jobs {
                    let error = first.take().unwrap_or_else(|| StoreError::Shared(told.clone()));
                    drop(job.done.send(Err(error)));
                }
            }
        }
    }

    fn write_all(&self, jobs: &[Job]) -> Result<Vec<Result<Done, StoreError>>, StoreError> {
        let db = self.db.read();
        let change = db.as_ref().ok_or(StoreError::Released)?.begin_write()?;
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in jobs {
            outcomes.push(match self::write(&change, &job.work) {
                // What the disk says ends the whole transaction; what the job itself got wrong is its own matter.
                Err(error @ StoreError::Db(_)) => return Err(error),
                outcome => outcome,
            });
        }
        change.commit()?;
        Ok(outcomes)
    }
}

fn received(outcome: &Receiver<Result<Done, StoreError>>) -> Result<Done, StoreError> {
    outcome.recv().map_err(|_| StoreError::Interrupted)?
}

fn write(change: &WriteTransaction, work: &Work) -> Result<Done, StoreError> {
    match work {
        Work::Commit(writes) => {
            check(change, writes)?;
            writes.iter().map(|write| apply(change, write)).collect::<Result<_, _>>().map(Done::Numbers)
        }
        Work::Add { replica, sequence, deltas } => add(change, replica, *sequence, deltas).map(Done::Added),
        Work::Forget(keys) => {
            let mut totals = change.open_table(TOTALS)?;
            for key in keys {
                totals.remove(key.as_str())?;
            }
            Ok(Done::Nothing)
        }
        Work::Leases(leases) => {
            let mut table = change.open_table(LEASES)?;
            for (account, lease) in leases {
                if lease.is_empty() {
                    table.remove(account.as_str())?;
                } else {
                    table.insert(account.as_str(), lease.as_slice())?;
                }
            }
            Ok(Done::Nothing)
        }
    }
}

/// Whether every condition holds, before anything is written.
fn check(change: &WriteTransaction, writes: &[Write]) -> Result<(), StoreError> {
    if let Some(problem) = contradiction(writes) {
        return Err(StoreError::Invalid(problem));
    }
    let rows = change.open_table(ROWS)?;
    for write in writes {
        let holds = match write {
            Write::Put { table, id, expect, .. } | Write::Delete { table, id, expect } => {
                let version = rows.get((*table, id.as_str()))?.map(|row| row.value().0);
                match expect {
                    Expect::Anything => true,
                    Expect::Absent => version.is_none(),
                    Expect::Version(expected) => version == Some(*expected),
                }
            }
            Write::Append { log, at, .. } => {
                at.map_or(Ok(true), |at| end(change, log).map(|end| at == end))?
            }
        };
        if !holds {
            return Err(StoreError::Conflict);
        }
    }
    Ok(())
}

fn apply(change: &WriteTransaction, write: &Write) -> Result<u64, StoreError> {
    match write {
        Write::Put { table, id, value, .. } => {
            let version = advance(change, table, id)?;
            change.open_table(ROWS)?.insert((*table, id.as_str()), (version, value.as_slice()))?;
            Ok(version)
        }
        Write::Delete { table, id, .. } => {
            if change.open_table(ROWS)?.remove((*table, id.as_str()))?.is_some() {
                advance(change, table, id)?;
            }
            Ok(0)
        }
        Write::Append { log, entry, .. } => {
            let place = end(change, log)?;
            change.open_table(LOGS)?.insert((*log, place), entry.as_slice())?;
            Ok(place)
        }
    }
}

/// The table's next generation, which is also the version of the row that is about to be written.
fn advance(change: &WriteTransaction, table: &str, id: &str) -> Result<u64, StoreError> {
    let mut generations = change.open_table(GENERATIONS)?;
    let next = generations.get(table)?.map_or(0, |number| number.value()) + 1;
    generations.insert(table, next)?;
    let mut changes = change.open_table(CHANGES)?;
    changes.insert((table, next), id)?;
    let old = (table, 0)..=(table, next.saturating_sub(REMEMBERED));
    changes.retain_in(old, |_, _| false)?;
    Ok(next)
}

fn end(change: &WriteTransaction, log: &str) -> Result<u64, StoreError> {
    end_of(&change.open_table(LOGS)?, log)
}

fn end_of(
    logs: &impl ReadableTable<(&'static str, u64), &'static [u8]>,
    log: &str,
) -> Result<u64, StoreError> {
    let last = logs.range((log, 0)..=(log, u64::MAX))?.next_back().transpose()?;
    Ok(last.map_or(0, |(key, _)| key.value().1 + 1))
}

fn add(
    change: &WriteTransaction,
    replica: &str,
    sequence: u64,
    deltas: &[(String, Vec<i64>)],
) -> Result<bool, StoreError> {
    let mut replicas = change.open_table(REPLICAS)?;
    if replicas.get(replica)?.is_some_and(|last| last.value() >= sequence) {
        return Ok(false);
    }
    replicas.insert(replica, sequence)?;
    let mut totals = change.open_table(TOTALS)?;
    for (key, delta) in deltas {
        let mut columns = totals.get(key.as_str())?.map_or_else(Vec::new, |bytes| columns(bytes.value()));
        columns.resize(columns.len().max(delta.len()), 0);
        for (column, delta) in columns.iter_mut().zip(delta) {
            *column = column.saturating_add(*delta);
        }
        let bytes: Vec<u8> = columns.iter().flat_map(|column| column.to_le_bytes()).collect();
        totals.insert(key.as_str(), bytes.as_slice())?;
    }
    Ok(true)
}

fn row_of(id: &str, (version, value): (u64, &[u8])) -> Row {
    Row { id: id.to_owned(), version, value: value.to_vec() }
}

fn columns(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks().0.iter().map(|column| i64::from_le_bytes(*column)).collect()
}

#[async_trait]
impl Records for Store {
    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>, StoreError> {
        match self.aside(|inner| inner.wait_for(Work::Commit(writes))).await? {
            Done::Numbers(numbers) => Ok(numbers),
            _ => Err(StoreError::Interrupted),
        }
    }

    async fn list(&self, table: Name, after: Option<&str>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let after = after.map(str::to_owned);
        self.aside(move |inner| {
            inner.look(|read| {
                let rows = read.open_table(ROWS)?;
                let from = after.as_deref().unwrap_or_default();
                let mut found = Vec::new();
                for row in rows.range((table, from)..)? {
                    let (key, value) = row?;
                    let (of, id) = key.value();
                    if of != table || found.len() >= limit.min(MAX_PAGE) {
                        break;
                    }
                    if after.as_deref() != Some(id) {
                        found.push(row_of(id, value.value()));
                    }
                }
                Ok(found)
            })
        })
        .await
    }

    async fn get(&self, table: Name, id: &str) -> Result<Option<Row>, StoreError> {
        let id = id.to_owned();
        self.aside(move |inner| {
            inner.look(|read| {
                let found = read.open_table(ROWS)?.get((table, id.as_str()))?;
                Ok(found.map(|kept| row_of(&id, kept.value())))
            })
        })
        .await
    }

    async fn generation(&self, table: Name) -> Result<u64, StoreError> {
        self.aside(move |inner| {
            inner
                .look(|read| Ok(read.open_table(GENERATIONS)?.get(table)?.map_or(0, |number| number.value())))
        })
        .await
    }

    async fn changes(&self, table: Name, since: Option<&Mark>) -> Result<News, StoreError> {
        let since = since.cloned();
        self.aside(move |inner| {
            inner.look(|read| {
                let generations = read.open_table(GENERATIONS)?;
                let generation = generations.get(table)?.map_or(0, |number| number.value());
                let from = since.as_ref().map_or(generation, |since| since.generation);
                let mut known = Vec::new();
                match read.open_table(CHANGES) {
                    Ok(changes) if from <= generation => {
                        for change in changes.range((table, from)..=(table, generation))? {
                            let (key, id) = change?;
                            let id = id.value().to_owned();
                            known.push(Change { generation: key.value().1, token: id.clone(), id });
                        }
                    }
                    // A file of an earlier version, before its first change.
                    Ok(_) | Err(TableError::TableDoesNotExist(_)) => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(News::of(since.as_ref(), generation, known))
            })
        })
        .await
    }

    async fn read(&self, log: Name, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.aside(move |inner| {
            inner.look(|read| {
                let logs = read.open_table(LOGS)?;
                let entries = logs.range((log, from)..=(log, u64::MAX))?.take(limit.min(MAX_PAGE));
                let entries = entries.map(|entry| {
                    let (key, entry) = entry?;
                    Ok((key.value().1, entry.value().to_vec()))
                });
                entries.collect()
            })
        })
        .await
    }

    async fn end(&self, log: Name) -> Result<u64, StoreError> {
        self.aside(move |inner| inner.look(|read| end_of(&read.open_table(LOGS)?, log))).await
    }

    async fn add(
        &self,
        replica: &str,
        sequence: u64,
        deltas: Vec<(String, Vec<i64>)>,
    ) -> Result<bool, StoreError> {
        let replica = replica.to_owned();
        match self.aside(move |inner| inner.wait_for(Work::Add { replica, sequence, deltas })).await? {
            Done::Added(added) => Ok(added),
            _ => Err(StoreError::Interrupted),
        }
    }

    async fn added(&self, replica: &str) -> Result<u64, StoreError> {
        let replica = replica.to_owned();
        self.aside(move |inner| {
            inner.look(|read| {
                Ok(read.open_table(REPLICAS)?.get(replica.as_str())?.map_or(0, |last| last.value()))
            })
        })
        .await
    }

    async fn totals(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<i64>)>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.aside(move |inner| {
            inner.look(|read| {
                let totals = read.open_table(TOTALS)?;
                let from = after.as_deref().unwrap_or_default().max(prefix.as_str());
                let mut found = Vec::new();
                for total in totals.range(from..)? {
                    let (key, bytes) = total?;
                    if !key.value().starts_with(&prefix) || found.len() >= limit.min(MAX_PAGE) {
                        break;
                    }
                    if after.as_deref() != Some(key.value()) {
                        found.push((key.value().to_owned(), columns(bytes.value())));
                    }
                }
                Ok(found)
            })
        })
        .await
    }

    async fn forget(&self, keys: Vec<String>) -> Result<(), StoreError> {
        self.aside(move |inner| inner.wait_for(Work::Forget(keys))).await.map(drop)
    }
}
