//! The authority of one process: books in memory, written to the store's file before a grant is used. One commit covers
//! every bid of a round, and a grant covers many requests, so the disk is never on a request's way.
//!
//! What is granted is on disk before it is used; what is given back may be lost with the process. So after `kill -9` at any
//! instant the file says at least what was spent, and at most by the grants in hand too much.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::bid::{Bid, Outcome, ReplicaId};
use super::books::{Book, Record};
use super::purse::{Authority, Outage};
use crate::clock::{Clock, Moment};
use crate::ids::AccountId;

/// Where records of books lie: the store, without the pool knowing it.
pub trait Shelf: Send + Sync + Debug {
    /// All records, by account.
    ///
    /// # Errors
    /// They cannot be read.
    fn read(&self) -> Result<Vec<(String, Vec<u8>)>, String>;

    /// Writes records, all or none, and returns once they would outlive a crash.
    ///
    /// # Errors
    /// They could not be written.
    fn write(&self, records: &[(String, Vec<u8>)]) -> Result<(), String>;
}

/// Books on a shelf.
#[derive(Debug)]
pub struct Embedded {
    desk: Arc<Mutex<Desk>>,
    clock: Clock,
    /// The wall clock when this began, and the moment: from then on time only runs, whatever happens to the wall clock.
    began: (u64, Moment),
    lost: u64,
}

#[derive(Debug)]
struct Desk {
    shelf: Box<dyn Shelf>,
    books: HashMap<AccountId, Book>,
    /// The file belongs to another process now.
    is_detached: bool,
    /// Changed and not yet written: a round whose writing failed is answered only once it has been made up for.
    unwritten: Vec<AccountId>,
}

impl Embedded {
    /// Reads what the shelf has. What an earlier process was granted counts as spent.
    ///
    /// # Errors
    /// A record cannot be read: nothing is forgotten in silence.
    pub fn open(shelf: Box<dyn Shelf>, clock: Clock) -> Result<Self, String> {
        let began = (clock.wall_millis(), clock.now());
        let mut books = HashMap::new();
        let mut lost = 0;
        for (account, bytes) in shelf.read()? {
            let record: Record = serde_json::from_slice(&bytes)
                .map_err(|error| format!("what is known of account {account:?} cannot be read: {error}"))?;
            let restored = record.restore(began.0);
            lost += restored.lost;
            books.insert(AccountId::from(account), restored.book);
        }
        let desk = Arc::new(Mutex::new(Desk { shelf, books, is_detached: false, unwritten: Vec::new() }));
        Ok(Self { desk, clock, began, lost })
    }

    /// Lets the file go: another process takes over, and knows what stands there. The requests that this one still has are
    /// served from memory; what they use beyond what was written is not known to the other.
    pub fn detach(&self) {
        self.desk.lock().is_detached = true;
    }

    fn now(&self) -> u64 {
        let (wall, moment) = self.began;
        let passed = self.clock.now().since(moment).as_millis();
        wall.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}

impl Desk {
    fn carry_out(&mut self, replica: &ReplicaId, bids: &[Bid], now: u64) -> Result<Vec<Outcome>, Outage> {
        let mut outcomes = Vec::with_capacity(bids.len());
        for bid in bids {
            let book = self.books.entry(bid.account.clone()).or_default();
            outcomes.push(book.carry_out(replica, bid, now));
            if bid.says_anything() {
                self.unwritten.push(bid.account.clone());
            }
        }
        self.write()?;
        Ok(outcomes)
    }

    fn write(&mut self) -> Result<(), Outage> {
        if self.is_detached {
            self.unwritten.clear();
            return Ok(());
        }
        if self.unwritten.is_empty() {
            return Ok(());
        }
        self.unwritten.sort_unstable();
        self.unwritten.dedup();
        let mut records = Vec::with_capacity(self.unwritten.len());
        for account in &self.unwritten {
            let Some(book) = self.books.get(account) else { continue };
            let record = serde_json::to_vec(&Record::of(book)).map_err(|error| Outage(error.to_string()))?;
            records.push((account.as_str().to_owned(), record));
        }
        self.shelf.write(&records).map_err(Outage)?;
        self.unwritten.clear();
        Ok(())
    }
}

/// A disk may pause; leases in hand bridge most of it.
const DISK_PATIENCE: Duration = Duration::from_secs(5);

#[async_trait]
impl Authority for Embedded {
    /// What an earlier process was granted and neither used nor gave back before it ended.
    fn lost(&self) -> u64 {
        self.lost
    }

    fn patience(&self) -> Duration {
        DISK_PATIENCE
    }

    async fn carry_out(&self, replica: &ReplicaId, bids: &[Bid]) -> Result<Vec<Outcome>, Outage> {
        let (desk, replica, bids, now) = (Arc::clone(&self.desk), replica.clone(), bids.to_vec(), self.now());
        let carried = tokio::task::spawn_blocking(move || desk.lock().carry_out(&replica, &bids, now));
        carried.await.unwrap_or_else(|error| Err(Outage(error.to_string())))
    }
}
