//! Where a gateway keeps what must outlive it, and who grants its leases: a file of its own, nothing but memory, or a Redis
//! that it shares with others.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::block_on;
use crate::clock::Clock;
use crate::config::{Config, StoreUrl};
use crate::redis_link::{self, Address, Link};
use crate::store::{self, Records, Store, StoreError};

/// The store that a configuration names, opened.
#[derive(Debug)]
pub enum Backing {
    /// A file, or memory.
    Own(Arc<Store>),
    /// A Redis: the line for leases, and the records over a line of their own, so that neither waits for the other.
    Shared { leases: Link, records: Arc<store::Redis> },
}

/// How long a Redis that does not answer is waited for at the start.
const PATIENCE: Duration = Duration::from_secs(10);

impl Backing {
    /// Opens it. `patience` is how long a file held by another process is waited for.
    ///
    /// # Errors
    /// It cannot be opened or reached, or is not fit.
    pub fn open(config: &Config, patience: Duration, clock: &Clock) -> anyhow::Result<Self> {
        let folder = match &config.store {
            StoreUrl::Embedded(folder) => folder,
            StoreUrl::Memory => return Ok(Self::Own(Arc::new(Store::in_memory()?))),
            StoreUrl::Redis(address) => return block_on(reach(address)),
        };
        let since = clock.now();
        loop {
            match Store::open(folder) {
                Ok(store) => return Ok(Self::Own(Arc::new(store))),
                Err(StoreError::Locked(_)) if clock.now().since(since) < patience => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error).context("the store cannot be opened"),
            }
        }
    }

    /// What is kept.
    pub fn records(&self) -> Arc<dyn Records> {
        match self {
            Self::Own(store) => store.clone(),
            Self::Shared { records, .. } => records.clone(),
        }
    }
}

/// Opens the Redis at `address`.
///
/// # Errors
/// It cannot be reached, or is not fit.
pub async fn reach(address: &Address) -> anyhow::Result<Backing> {
    // Said once, before the first TLS connection.
    drop(rustls::crypto::ring::default_provider().install_default());
    let shown = address.shown();
    let leases = Link::new(address.clone(), redis_link::QUICK)?;
    let records = Link::new(address.clone(), redis_link::CALM)?;
    let fitness = async {
        leases.wait(PATIENCE).await?;
        records.wait(PATIENCE).await?;
        leases.inspect().await
    };
    let fitness = fitness.await.with_context(|| format!("the store at {shown} cannot be used"))?;
    for warning in &fitness.warnings {
        tracing::warn!(redis = shown, "{warning}");
    }
    if let Some(why) = fitness.refused {
        anyhow::bail!("the store at {shown} cannot be used: {why}");
    }
    tracing::info!(redis = shown, version = fitness.version, "the store is shared");
    let records = Arc::new(store::Redis::new(records, fitness.confirms));
    Ok(Backing::Shared { leases, records })
}
