//! Accounts of people who are kept out: they rest. Nobody's request goes by them, and nothing else happens to them: their tokens are
//! renewed, so that they serve again as soon as their owner is let in.

use std::collections::HashSet;

use super::Onboard;
use crate::gateway::kept_out;
use crate::ids::TenantId;
use crate::pool::settings::Account;
use crate::store::{Records, StoreError};

/// Whose accounts rest, as last read.
#[derive(Debug, Default)]
pub(super) struct Resting {
    tenants: HashSet<TenantId>,
    generation: u64,
}

impl Resting {
    pub async fn read(records: &dyn Records) -> Result<Self, StoreError> {
        // Before the rows: what changes in between is read again.
        let generation = records.generation(kept_out::TABLE).await?;
        Ok(Self { tenants: kept_out::tenants(&kept_out::all(records).await?), generation })
    }

    /// Whether an account of this owner rests.
    pub fn has(&self, owner: Option<&TenantId>) -> bool {
        owner.is_some_and(|owner| self.tenants.contains(owner))
    }

    /// What the pool is given of an account: it is off where it must rest.
    pub fn laid(&self, account: Account) -> Account {
        let is_enabled = account.is_enabled && !self.has(account.owner.as_ref());
        Account { is_enabled, ..account }
    }
}

impl Onboard {
    /// Takes over whose accounts rest by now. Cheap where nothing has changed.
    pub(super) async fn take_resting(&self) -> Result<(), StoreError> {
        let generation = self.records.generation(kept_out::TABLE).await?;
        if generation == self.state.lock().resting.generation {
            return Ok(());
        }
        let resting = Resting::read(&*self.records).await?;
        let mut state = self.state.lock();
        if resting.generation < state.resting.generation {
            return Ok(());
        }
        state.resting = resting;
        self.place_all(&mut state);
        Ok(())
    }

    /// The accounts of the store that a tenant owns, by id.
    ///
    /// # Errors
    /// The store's.
    pub(in crate::gateway) async fn of_tenant(&self, tenant: &TenantId) -> Result<Vec<String>, StoreError> {
        self.refresh().await?;
        let state = self.state.lock();
        let own = state.held.values().filter(|held| held.record.owner.as_ref() == Some(tenant));
        // Where both have an id the file's counts, and is changed there.
        let is_of_file = |id: &str| state.ground.accounts.iter().any(|account| account.id.as_str() == id);
        Ok(own.map(|held| held.record.id.clone()).filter(|id| !is_of_file(id)).collect())
    }
}
