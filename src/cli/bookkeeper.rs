//! Brings what was used to the store: each second, and once more at the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::gateway::Gateway;
use crate::gateway::usage::journal::{self, JournalError};
use crate::store::{Records, StoreError};

/// How often.
const EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone)]
pub struct Bookkeeper {
    pub gateway: Arc<Gateway>,
    pub records: Arc<dyn Records>,
    /// Where processes that died have left what they could not bring to the store any more.
    pub journals: PathBuf,
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

    async fn flush(&self) -> Result<(), JournalError> {
        let prices = &self.gateway.world().prices;
        match self.gateway.ledger.flush(&*self.records, prices).await {
            // A successor has the store: what is written down it takes in when we have gone.
            Ok(()) | Err(StoreError::Released) => {}
            Err(error) => {
                self.gateway.metrics.usage_unflushed.inc();
                return Err(error.into());
            }
        }
        match journal::take_in(&self.journals, &*self.records, prices).await {
            Err(JournalError::Store(StoreError::Released)) => Ok(()),
            taken => taken,
        }
    }

    /// The last flush: what the store does not take is there for the next process.
    pub async fn close(self) {
        let prices = &self.gateway.world().prices;
        if let Err(error) = self.gateway.ledger.close(&*self.records, prices).await {
            tracing::info!(%error, folder = %self.journals.display(), "the last usage is left for the next process");
        }
    }
}
