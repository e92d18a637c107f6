//! A new master key: every account's credential is encrypted anew while requests go on.

use std::sync::Arc;

use super::record::{Held, sealed_row};
use super::{Onboard, OnboardError, TABLE, TRIES};
use crate::store::{self, Act, Expect, StoreError, Write};
use crate::vault::Vault;

/// How a rotation went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Records that were encrypted anew.
    pub changed: usize,
    /// All records.
    pub of: usize,
    /// Id of the key that holds them all now.
    pub key: String,
}

impl Onboard {
    /// Encrypts every record with the vault's first key that is not yet: one by one, so that requests go on, and each is
    /// readable before and after, wherever this stops.
    ///
    /// # Errors
    /// A record that cannot be decrypted, or the store's.
    pub async fn rotate(&self, who: &str) -> Result<Rotated, OnboardError> {
        let ground = Arc::clone(&self.state.lock().ground);
        let key = ground.vault.current().to_owned();
        let told = |what: &str, note: String| Act::new(who, what, &key, note);
        self.note(told("vault.rotation_began", String::new())).await?;
        let rows = store::all(&*self.records, TABLE).await?;
        let mut changed = 0;
        for row in &rows {
            changed += usize::from(self.reseal(&row.id, &ground.vault).await?);
        }
        self.refresh().await?;
        let of = rows.len();
        self.note(told("vault.rotated", format!("{changed} of {of} records"))).await?;
        Ok(Rotated { changed, of, key })
    }

    /// Encrypts one record anew; false where there was no need.
    async fn reseal(&self, id: &str, vault: &Vault) -> Result<bool, OnboardError> {
        for _ in 0..TRIES {
            let Some(row) = self.records.get(TABLE, id).await? else { return Ok(false) };
            let held = Held::read(&row, vault)?;
            if vault.is_current(&held.sealed) {
                return Ok(false);
            }
            let value = sealed_row(&held.record, &held.kit, vault)?;
            let expect = Expect::Version(row.version);
            match self.records.commit(vec![Write::Put { table: TABLE, id: row.id, value, expect }]).await {
                Err(StoreError::Conflict) => {}
                other => return Ok(other.map(|_| true)?),
            }
        }
        Err(StoreError::Conflict.into())
    }
}
