//! Brings what was used to the store: each second, and once more at the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::gateway::Gateway;
use crate::gateway::usage::spool;
use crate::store::{Records, StoreError};

/// How often.
const EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone)]
pub struct Bookkeeper {
    pub gateway: Arc<Gateway>,
    pub records: Arc<dyn Records>,
    /// Whose numbers the batches carry.
    pub replica: Arc<str>,
    /// Where processes leave what they could not bring to the store any more; `None` where the store is nobody else's.
    pub spool: Option<PathBuf>,
}

impl Bookkeeper {
    /// Works until the process ends.
    pub async fn work(self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            ticks.tick().await;
            let flushed = self.flush().await;
            // Told once, not each second.
            match &flushed {
                Err(error) if !is_failing => {
                    tracing::error!(%error, "usage cannot be brought to the store; it is kept and tried again");
                }
                Ok(()) if is_failing => tracing::info!("usage is brought to the store again"),
                _ => {}
            }
            is_failing = flushed.is_err();
        }
    }

    async fn flush(&self) -> Result<(), spool::SpoolError> {
        let prices = &self.gateway.world().prices;
        match self.gateway.ledger.flush(&*self.records, &self.replica, prices).await {
            // A successor has it: the rest goes through the spool.
            Ok(()) | Err(StoreError::Released) => {}
            Err(error) => {
                self.gateway.metrics.usage_unflushed.inc();
                return Err(error.into());
            }
        }
        match &self.spool {
            Some(folder) => match spool::take_in(folder, &*self.records).await {
                Err(spool::SpoolError::Store(StoreError::Released)) => Ok(()),
                taken => taken,
            },
            None => Ok(()),
        }
    }

    /// The last flush: what the store does not take is left for the next process.
    pub async fn close(self) -> anyhow::Result<()> {
        let prices = &self.gateway.world().prices;
        let Err(error) = self.gateway.ledger.flush(&*self.records, &self.replica, prices).await else {
            return Ok(());
        };
        let rest = self.gateway.ledger.rest(prices).await;
        match &self.spool {
            Some(folder) => Ok(spool::leave(folder, &rest)?),
            None => Err(error.into()),
        }
    }
}
