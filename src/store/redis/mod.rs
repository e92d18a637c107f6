//! Records in Redis, for many processes. Why one hash tag for all of them: a change is atomic only within one slot of a
//! cluster, and there are few records; what is many, the counters of accounts, lies elsewhere and spread out.
//!
//! | key | type | what |
//! | --- | --- | --- |
//! | `weir:1:{records}:rows:TABLE` | hash | by id: version, a space, bytes |
//! | `weir:1:{records}:ids:TABLE` | sorted set | ids in order |
//! | `weir:1:{records}:generations` | hash | by table |
//! | `weir:1:{records}:changes:TABLE` | sorted set | by generation: that, a word by chance, the row's id |
//! | `weir:1:{records}:log:LOG` | list | entries |
//! | `weir:1:{records}:sums`, `…:totals` | hash, sorted set | columns of totals; their keys in order |
//! | `weir:1:{records}:sequences` | hash | each replica's last |

use async_trait::async_trait;
use redis::{FromRedisValue, Script, Value};

use super::StoreError;
use super::records::{
    Change, Expect, MAX_PAGE, Mark, Name, News, REMEMBERED, Records, Row, Write, contradiction,
};
use crate::ids::random_name;
use crate::redis_link::{Link, LinkError};

/// A script and its text.
#[derive(Debug)]
struct Code {
    script: Script,
    text: &'static str,
}

impl Code {
    fn new(text: &'static str) -> Self {
        Self { script: Script::new(text), text }
    }
}

/// Records in Redis.
#[derive(Debug)]
pub struct Redis {
    link: Link,
    /// Whether the server can say that a change is on its disk, and is to be asked.
    confirms: bool,
    commit: Code,
    changes: Code,
    list: Code,
    add: Code,
    totals: Code,
    forget: Code,
}

/// Sequences are compared by the script, in doubles.
const MOST_SEQUENCE: u64 = 1 << 53;

impl Redis {
    /// Over this line. With `confirms` a change counts only once the server has it on its disk.
    pub fn new(link: Link, confirms: bool) -> Self {
        Self {
            link,
            confirms,
            commit: Code::new(include_str!("commit.lua")),
            changes: Code::new(include_str!("changes.lua")),
            list: Code::new(include_str!("list.lua")),
            add: Code::new(include_str!("add.lua")),
            totals: Code::new(include_str!("totals.lua")),
            forget: Code::new(include_str!("forget.lua")),
        }
    }

    async fn run<T: FromRedisValue>(
        &self,
        code: &Code,
        keys: &[String],
        words: &[Vec<u8>],
    ) -> Result<T, StoreError> {
        Ok(self.link.run(&code.script, code.text, keys, words).await?)
    }
}

fn key(name: &str) -> String {
    format!("weir:1:{{records}}:{name}")
}

fn rows(table: &str) -> String {
    key(&format!("rows:{table}"))
}

fn ids(table: &str) -> String {
    key(&format!("ids:{table}"))
}

fn changes(table: &str) -> String {
    key(&format!("changes:{table}"))
}

fn log(log: &str) -> String {
    key(&format!("log:{log}"))
}

fn number(number: impl ToString) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// The end of a range that begins after `after`, or at `otherwise`.
fn beginning(after: Option<&str>, otherwise: &str) -> Vec<u8> {
    match after {
        Some(after) if after >= otherwise => [b"(", after.as_bytes()].concat(),
        _ if otherwise.is_empty() => b"-".to_vec(),
        _ => [b"[", otherwise.as_bytes()].concat(),
    }
}

fn row(id: &str, kept: &[u8]) -> Result<Row, StoreError> {
    let mut parts = kept.splitn(2, |byte| *byte == b' ');
    let version = parts.next().and_then(|version| std::str::from_utf8(version).ok()?.parse().ok());
    let (Some(version), Some(value)) = (version, parts.next()) else {
        return Err(StoreError::record(id, &"it has no version"));
    };
    Ok(Row { id: id.to_owned(), version, value: value.to_vec() })
}

/// `generation`, a space, a word, a space, the row's id.
fn change(kept: &str) -> Option<Change> {
    let mut parts = kept.splitn(3, ' ');
    let (generation, token, id) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    Some(Change { generation, token: token.to_owned(), id: id.to_owned() })
}

#[async_trait]
impl Records for Redis {
    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>, StoreError> {
        if let Some(problem) = contradiction(&writes) {
            return Err(StoreError::Invalid(problem));
        }
        let mut keys = vec![key("generations")];
        // A word that no other commit has: a server that lost its last changes counts the next ones by the same numbers.
        let token = random_name("", 16).into_bytes();
        let mut words = vec![number(writes.len()), token, number(REMEMBERED)];
        for write in &writes {
            let (kind, name, id, value, expect) = match write {
                Write::Put { table, id, value, expect } => {
                    ("p", *table, id.as_str(), value.as_slice(), condition(*expect))
                }
                Write::Delete { table, id, expect } => {
                    ("d", *table, id.as_str(), [].as_slice(), condition(*expect))
                }
                Write::Append { log, entry, at } => {
                    ("a", *log, "", entry.as_slice(), at.map_or_else(Vec::new, number))
                }
            };
            keys.extend(match kind {
                "a" => [log(name), log(name), log(name)],
                _ => [rows(name), ids(name), changes(name)],
            });
            words.extend([kind.into(), name.into(), id.into(), value.to_vec(), expect]);
        }
        let given: Value = if self.confirms {
            self.link.run_to_disk(self.commit.text, &keys, &words).await?
        } else {
            self.run(&self.commit, &keys, &words).await?
        };
        match given {
            Value::Array(_) => redis::from_redis_value(given)
                .map_err(|error| StoreError::Unreachable(format!("an answer that is none: {error}"))),
            _ => Err(StoreError::Conflict),
        }
    }

    async fn list(&self, table: Name, after: Option<&str>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let words = [beginning(after, ""), number(limit.min(MAX_PAGE))];
        let found: Vec<(String, Vec<u8>)> = self.run(&self.list, &[rows(table), ids(table)], &words).await?;
        found.iter().map(|(id, kept)| row(id, kept)).collect()
    }

    async fn get(&self, table: Name, id: &str) -> Result<Option<Row>, StoreError> {
        let kept: Option<Vec<u8>> = self.link.ask(redis::cmd("HGET").arg(rows(table)).arg(id)).await?;
        kept.map(|kept| row(id, &kept)).transpose()
    }

    async fn generation(&self, table: Name) -> Result<u64, StoreError> {
        let found: Option<u64> = self.link.ask(redis::cmd("HGET").arg(key("generations")).arg(table)).await?;
        Ok(found.unwrap_or(0))
    }

    async fn changes(&self, table: Name, since: Option<&Mark>) -> Result<News, StoreError> {
        let from = since.map_or_else(Vec::new, |since| number(since.generation));
        let keys = [key("generations"), changes(table)];
        let (generation, kept): (u64, Vec<String>) =
            self.run(&self.changes, &keys, &[table.into(), from]).await?;
        // What cannot be read is as good as missing.
        let known = kept.iter().filter_map(|kept| change(kept)).collect();
        Ok(News::of(since, generation, known))
    }

    async fn read(&self, name: Name, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let limit = limit.min(MAX_PAGE) as u64;
        let Some(last) = from.saturating_add(limit).checked_sub(1).filter(|_| limit > 0) else {
            return Ok(Vec::new());
        };
        let signed = |place: u64| i64::try_from(place).unwrap_or(i64::MAX);
        let mut question = redis::cmd("LRANGE");
        question.arg(log(name)).arg(signed(from)).arg(signed(last));
        let entries: Vec<Vec<u8>> = self.link.ask(&question).await?;
        Ok((from..).zip(entries).collect())
    }

    async fn end(&self, name: Name) -> Result<u64, StoreError> {
        Ok(self.link.ask(redis::cmd("LLEN").arg(log(name))).await?)
    }

    async fn add(
        &self,
        replica: &str,
        sequence: u64,
        deltas: Vec<(String, Vec<i64>)>,
    ) -> Result<bool, StoreError> {
        if sequence >= MOST_SEQUENCE {
            return Err(StoreError::Invalid("a sequence that cannot be counted to"));
        }
        let mut words = vec![replica.as_bytes().to_vec(), number(sequence)];
        for (total, columns) in &deltas {
            words.extend([total.as_bytes().to_vec(), number(columns.len())]);
            words.extend(columns.iter().map(number));
        }
        self.run(&self.add, &[key("sequences"), key("sums"), key("totals")], &words).await
    }

    async fn added(&self, replica: &str) -> Result<u64, StoreError> {
        let last: Option<u64> = self.link.ask(redis::cmd("HGET").arg(key("sequences")).arg(replica)).await?;
        Ok(last.unwrap_or(0))
    }

    async fn totals(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<i64>)>, StoreError> {
        // Nothing in UTF-8 has a byte of 255.
        let end = if prefix.is_empty() { b"+".to_vec() } else { [b"(", prefix.as_bytes(), &[255]].concat() };
        let words = [beginning(after, prefix), end, number(limit.min(MAX_PAGE))];
        let found: Vec<Vec<String>> = self.run(&self.totals, &[key("sums"), key("totals")], &words).await?;
        let total = |mut parts: Vec<String>| {
            let columns = parts.split_off(parts.len().min(1));
            let total = parts.pop().unwrap_or_default();
            let columns = columns.iter().map(|column| column.parse());
            let columns =
                columns.collect::<Result<_, _>>().map_err(|error| StoreError::record(&total, &error))?;
            Ok((total, columns))
        };
        found.into_iter().map(total).collect()
    }

    async fn forget(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let words: Vec<Vec<u8>> = keys.into_iter().map(String::into_bytes).collect();
        if words.is_empty() {
            return Ok(());
        }
        self.run(&self.forget, &[key("sums"), key("totals")], &words).await
    }
}

/// A condition as the script compares it.
fn condition(expect: Expect) -> Vec<u8> {
    match expect {
        Expect::Anything => Vec::new(),
        Expect::Absent => b"absent".to_vec(),
        Expect::Version(version) => number(version),
    }
}

impl From<LinkError> for StoreError {
    fn from(error: LinkError) -> Self {
        Self::Unreachable(error.to_string())
    }
}
