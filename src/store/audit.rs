//! Who did what, and when: a log that cannot be changed without it showing. Why a chain: each entry holds the SHA-256 of the
//! one before it, so whoever changes, removes or inserts an entry has to change all that follow, and the last hash is in
//! the hands of whoever noted it down. An entry is written together with what it tells of, or neither is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::StoreError;
use super::records::{MAX_PAGE, Name, Records, Write};
use crate::opaque::hex;

const LOG: Name = "audit";

/// What stands in place of a hash before the first entry.
const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// How often a change is tried again when somebody else was quicker to write the next entry.
const TRIES: u32 = 50;

/// What was done. Never a secret: names, ids and numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// Who: a caller as `tenant/subject`, `operator`, `command line` or `weir` itself.
    pub who: String,
    /// What, as `account.added`.
    pub what: String,
    /// To which: an id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub on: String,
    /// Anything else worth knowing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Act {
    /// Who did what, to which id, and a note; empty where there is nothing to say.
    pub fn new(who: &str, what: &str, on: &str, note: impl Into<String>) -> Self {
        Self { who: who.to_owned(), what: what.to_owned(), on: on.to_owned(), note: note.into() }
    }
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Milliseconds since 1970.
    pub at: u64,
    #[serde(flatten)]
    pub act: Act,
    /// Hash of the entry before.
    pub previous: String,
    /// Of this one: SHA-256 of its place, its time, its act and the hash before; hexadecimal.
    pub hash: String,
}

/// What a look through the whole log found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Entries from the first on that are as they were written.
    pub good: u64,
    /// Hash of the last of them: to be noted down somewhere else, where the end of the log matters.
    pub last: String,
    /// The first place that is not right, and why.
    pub broken: Option<Broken>,
}

/// Where the chain is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    pub place: u64,
    pub why: String,
}

/// The log.
#[derive(Clone, Debug)]
pub struct Audit {
    records: Arc<dyn Records>,
    /// Those who write by this or a copy of it take turns, so that only others can be quicker.
    turn: Arc<Mutex<()>>,
}

impl Audit {
    /// The log that `records` keep.
    pub fn new(records: Arc<dyn Records>) -> Self {
        Self { records, turn: Arc::default() }
    }

    /// Notes `act` at `now` (milliseconds since 1970) and makes `changes`, both or neither. What the changes give.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where a condition of the changes does not hold; the store's.
    pub async fn note(&self, act: Act, now: u64, changes: Vec<Write>) -> Result<Vec<u64>, StoreError> {
        let _turn = self.turn.lock().await;
        let mut tries = 0;
        loop {
            let place = self.records.end(LOG).await?;
            let entry = entry(place, now, act.clone(), self.hash_before(place).await?);
            let bytes = serde_json::to_vec(&entry).map_err(|error| StoreError::record("audit", &error))?;
            let mut writes = changes.clone();
            writes.push(Write::Append { log: LOG, entry: bytes, at: Some(place) });
            match self.records.commit(writes).await {
                // Somebody else's entry took the place? Then once more; else a condition of the caller's failed.
                Err(StoreError::Conflict) if tries < TRIES && self.records.end(LOG).await? != place => {
                    tries += 1
                }
                Err(error) => return Err(error),
                Ok(mut numbers) => {
                    numbers.pop();
                    return Ok(numbers);
                }
            }
        }
    }

    async fn hash_before(&self, place: u64) -> Result<String, StoreError> {
        let Some(before) = place.checked_sub(1) else { return Ok(BEGINNING.to_owned()) };
        let page = self.records.read(LOG, before, 1).await?;
        match page.first() {
            Some((at, bytes)) if *at == before => Ok(read(before, bytes)?.hash),
            _ => Err(StoreError::record("audit", &format!("the entry {before} is missing"))),
        }
    }

    /// Entries with their places, from `from` on, at most `limit` (and [`MAX_PAGE`]).
    ///
    /// # Errors
    /// An entry that cannot be read, or the store's.
    pub async fn list(&self, from: u64, limit: usize) -> Result<Vec<(u64, Entry)>, StoreError> {
        let page = self.records.read(LOG, from, limit).await?;
        page.iter().map(|(place, bytes)| Ok((*place, read(*place, bytes)?))).collect()
    }

    /// How many entries there are.
    ///
    /// # Errors
    /// The store's.
    pub async fn count(&self) -> Result<u64, StoreError> {
        self.records.end(LOG).await
    }

    /// Reads the whole log, page by page, and compares.
    ///
    /// # Errors
    /// The store's. What is wrong with the log is in the answer.
    pub async fn verify(&self) -> Result<Verified, StoreError> {
        let mut found = Verified { good: 0, last: BEGINNING.to_owned(), broken: None };
        loop {
            let page = self.records.read(LOG, found.good, MAX_PAGE).await?;
            for (place, bytes) in &page {
                match follows(*place, bytes, found.good, &found.last) {
                    Ok(hash) => (found.good, found.last) = (found.good + 1, hash),
                    Err(why) => {
                        found.broken = Some(Broken { place: found.good, why });
                        return Ok(found);
                    }
                }
            }
            if page.len() < MAX_PAGE {
                return Ok(found);
            }
        }
    }
}

/// The hash of an entry that is as it was written, after one whose hash was `previous`.
fn follows(place: u64, bytes: &[u8], expected: u64, previous: &str) -> Result<String, String> {
    if place != expected {
        return Err("the entry is missing".to_owned());
    }
    let found: Entry = serde_json::from_slice(bytes).map_err(|_| "the entry cannot be read".to_owned())?;
    if found.previous != previous {
        return Err("the entry does not follow the one before it".to_owned());
    }
    let right = entry(place, found.at, found.act.clone(), found.previous.clone());
    // Byte for byte: there is no second way to write an entry down.
    if serde_json::to_vec(&right).ok().as_deref() != Some(bytes) {
        return Err("the entry was changed".to_owned());
    }
    Ok(found.hash)
}

fn read(place: u64, bytes: &[u8]) -> Result<Entry, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::record(&format!("audit {place}"), &error))
}

fn entry(place: u64, at: u64, act: Act, previous: String) -> Entry {
    let mut hasher = Sha256::new();
    hasher.update(place.to_be_bytes());
    hasher.update(at.to_be_bytes());
    for part in [&act.who, &act.what, &act.on, &act.note, &previous] {
        // With its length: no two acts are the same bytes.
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let hash = hex(&hasher.finalize());
    Entry { at, act, previous, hash }
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::super::records::{Expect, all};
    use super::*;

    fn act(number: u64) -> Act {
        Act {
            who: "t/alice".into(),
            what: "account.added".into(),
            on: format!("acc_{number}"),
            note: String::new(),
        }
    }

    async fn filled(store: &Store, count: u64) -> Audit {
        let audit = Audit::new(Arc::new(store.clone()));
        for number in 0..count {
            audit.note(act(number), 1_000 + number, Vec::new()).await.expect("noted");
        }
        audit
    }

    /// Copies the log, changed by `change`, into a store of its own and looks through it.
    async fn verified_after(change: impl Fn(u64, Vec<u8>) -> Vec<Vec<u8>>) -> Verified {
        let store = Store::in_memory().expect("a store");
        filled(&store, 6).await;
        let copy = Store::in_memory().expect("a store");
        for (place, bytes) in store.read(LOG, 0, 100).await.expect("read") {
            for entry in change(place, bytes) {
                copy.commit(vec![Write::Append { log: LOG, entry, at: None }]).await.expect("written");
            }
        }
        Audit::new(Arc::new(copy)).verify().await.expect("read")
    }

    #[tokio::test]
    async fn an_untouched_log_is_right_and_any_touch_is_found_at_its_place() {
        let whole = verified_after(|_, bytes| vec![bytes]).await;
        assert_eq!((whole.good, whole.broken), (6, None));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let changed = |from: &'static str, to: &'static str| {
            move |place: u64, bytes: Vec<u8>| {
                let touched = text(&bytes).replace(from, to).into_bytes();
                vec![if place == 3 { touched } else { bytes }]
            }
        };
        for (from, to) in [
            ("alice", "mallo"),
            ("acc_3", "acc_9"),
            ("1003", "1004"),
            ("{\"at\"", "{ \"at\""),
            ("account", "bccount"),
        ] {
            let found = verified_after(changed(from, to)).await;
            assert_eq!(found.broken.map(|broken| broken.place), Some(3), "{from} to {to}");
            assert_eq!(found.good, 3);
        }
        // One is taken out, one is there twice, two are swapped.
        let out = verified_after(|place, bytes| if place == 2 { vec![] } else { vec![bytes] }).await;
        assert_eq!(out.broken.map(|broken| broken.place), Some(2));
        let twice =
            verified_after(|place, bytes| if place == 1 { vec![bytes.clone(), bytes] } else { vec![bytes] })
                .await;
        assert_eq!(twice.broken.map(|broken| broken.place), Some(2));
        // The whole of it written anew with its hashes is right in itself, and its last hash is another one.
        let forged = Store::in_memory().expect("a store");
        let audit = filled(&forged, 5).await;
        audit.note(act(77), 1_005, Vec::new()).await.expect("noted");
        assert_ne!(audit.verify().await.expect("read").last, whole.last);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_note_at_once_and_the_chain_holds() {
        let store = Store::in_memory().expect("a store");
        let audit = Audit::new(Arc::new(store.clone()));
        let noting = (0..40).map(|number| {
            let audit = audit.clone();
            tokio::spawn(async move {
                let put = Write::Put {
                    table: "things",
                    id: format!("{number}"),
                    value: vec![1],
                    expect: Expect::Absent,
                };
                audit.note(act(number), number, vec![put]).await.expect("noted");
            })
        });
        for done in noting.collect::<Vec<_>>() {
            done.await.expect("no panic");
        }
        let found = audit.verify().await.expect("read");
        assert_eq!((found.good, found.broken), (40, None));
        assert_eq!(all(&store, "things").await.expect("read").len(), 40);
        assert_eq!(audit.list(38, 100).await.expect("read").len(), 2);
        // A condition that fails is told at once, and nothing is noted.
        let put = Write::Put { table: "things", id: "1".into(), value: vec![], expect: Expect::Absent };
        assert!(matches!(audit.note(act(0), 0, vec![put]).await, Err(StoreError::Conflict)));
        assert_eq!(audit.count().await.expect("read"), 40);
    }
}
