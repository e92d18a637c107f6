//! Keys out of a JWKS file. It is read again (at most once a second, and only while tokens come) and compared as a whole:
//! a time stamp would miss a second change within its own grain, and the file is a few kilobytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;

use crate::clock::{Clock, Moment};

use super::{KeySet, MAX_JWKS};

const INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct FileKeys {
    path: PathBuf,
    issuer: String,
    clock: Clock,
    set: ArcSwap<KeySet>,
    /// What the file held when last read, good or bad.
    last: Mutex<Vec<u8>>,
    /// Nanoseconds of the moment at which it is to be read again.
    due: AtomicU64,
}

impl FileKeys {
    /// Reads the file for the first time: it must be there and hold a usable key.
    pub fn open(path: &Path, issuer: &str, clock: Clock) -> Result<Self, &'static str> {
        let bytes = std::fs::read(path).map_err(|_| "the JWKS file cannot be read")?;
        if bytes.len() > MAX_JWKS {
            return Err("the JWKS file is larger than 1 MiB");
        }
        let set = KeySet::jwks(&bytes)?;
        let due = AtomicU64::new((clock.now() + INTERVAL).as_nanos());
        Ok(Self {
            path: path.to_owned(),
            issuer: issuer.to_owned(),
            clock,
            set: ArcSwap::from_pointee(set),
            last: Mutex::new(bytes),
            due,
        })
    }

    /// The keys as last read.
    pub fn current(&self) -> Arc<KeySet> {
        self.set.load_full()
    }

    /// Whether it is time to read the file again.
    pub fn is_due(&self, now: Moment) -> bool {
        now.as_nanos() >= self.due.load(Ordering::Acquire)
    }

    /// Reads the file again where that is due. One reader at a time; the others go on with what is known.
    pub async fn check(&self) {
        let now = self.clock.now();
        let due = self.due.load(Ordering::Acquire);
        let next = (now + INTERVAL).as_nanos();
        if now.as_nanos() < due
            || self.due.compare_exchange(due, next, Ordering::AcqRel, Ordering::Acquire).is_err()
        {
            return;
        }
        match read(&self.path).await {
            Ok(bytes) => self.take(bytes),
            Err(problem) => {
                tracing::warn!(issuer = self.issuer, %problem, "the JWKS file cannot be read; its last keys stay in use");
            }
        }
    }

    fn take(&self, bytes: Vec<u8>) {
        let mut last = self.last.lock();
        if *last == bytes {
            return;
        }
        match KeySet::jwks(&bytes) {
            Ok(set) => {
                if let Some(set) = set.after(&self.set.load()) {
                    self.set.store(Arc::new(set));
                    tracing::info!(issuer = self.issuer, "new keys from the JWKS file");
                }
            }
            Err(problem) => {
                tracing::warn!(
                    issuer = self.issuer,
                    problem,
                    "the JWKS file is not usable; its last keys stay in use"
                );
            }
        }
        *last = bytes;
    }
}

async fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_JWKS).unwrap_or(u64::MAX) + 1;
    tokio::fs::File::open(path).await?.take(limit).read_to_end(&mut bytes).await?;
    if bytes.len() > MAX_JWKS {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    Ok(bytes)
}
