//! What the pool spends from, for as long as the process serves: its authority, and the thread that talks to it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::backing::Backing;
use crate::clock::Clock;
use crate::pool::settings::Settings;
use crate::pool::{Embedded, Pool, Purser, Redis, Settled, Shelf};
use crate::store::Store;

/// What is known of accounts' limits, kept in the store.
#[derive(Debug)]
struct StoreShelf(Arc<Store>);

impl Shelf for StoreShelf {
    fn read(&self) -> Result<Vec<(String, Vec<u8>)>, String> {
        self.0.read_leases().map_err(|error| error.to_string())
    }

    fn write(&self, records: &[(String, Vec<u8>)]) -> Result<(), String> {
        self.0.write_leases(records).map_err(|error| error.to_string())
    }
}

/// The pool's connection to its authority, on a thread of its own: a busy worker must not make a request elsewhere wait.
#[derive(Debug)]
pub struct Purse {
    /// The embedded authority, where it is that.
    embedded: Option<Arc<Embedded>>,
    settle: mpsc::Sender<Settled>,
    stop: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How long the last word to the authority may take.
const LAST_WORD: Duration = Duration::from_secs(3);

impl Purse {
    /// A pool that spends what `backing` grants, and its purse.
    ///
    /// # Errors
    /// What the store knows of limits cannot be read.
    pub fn open(settings: &Settings, backing: &Backing, clock: &Clock) -> anyhow::Result<(Pool, Self)> {
        let store = match backing {
            Backing::Own(store) => store,
            Backing::Shared { leases, .. } => {
                let authority = Arc::new(Redis::new(leases.clone()));
                let (pool, purser) = Pool::leased(settings, clock.clone(), None, authority);
                return Ok((pool, Self::start(purser, None)?));
            }
        };
        let shelf = Box::new(StoreShelf(Arc::clone(store)));
        let authority = Arc::new(Embedded::open(shelf, clock.clone()).map_err(anyhow::Error::msg)?);
        let (pool, purser) = Pool::leased(settings, clock.clone(), None, authority.clone());
        Ok((pool, Self::start(purser, Some(authority))?))
    }

    fn start(purser: Purser, embedded: Option<Arc<Embedded>>) -> anyhow::Result<Self> {
        let (settle, settles) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let until = stop.clone();
        let work = move || runtime.block_on(purser.run(until, settles));
        let thread = std::thread::Builder::new().name("purser".into()).spawn(work)?;
        Ok(Self { embedded, settle, stop, thread: Mutex::new(Some(thread)) })
    }

    /// Gives back what is not in use and lets the store go; requests under way are served from memory.
    pub fn hand_over(&self) {
        let (settled, done) = std::sync::mpsc::sync_channel(1);
        if self.settle.try_send(settled).is_ok() && done.recv_timeout(LAST_WORD).is_err() {
            tracing::warn!("what the pool leaves unused could not be given back in time");
        }
        if let Some(embedded) = &self.embedded {
            embedded.detach();
        }
    }

    /// Gives back what is not in use, for good.
    pub fn close(&self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.lock().take() {
            drop(thread.join());
        }
    }
}
