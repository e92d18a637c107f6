//! Accounts' sign-ins that have begun and not ended: what must be kept until somebody comes back from a provider. In the store, so that
//! they may come back to any replica; encrypted, since a PKCE verifier is among it; under the hash of `state`, so that
//! whoever reads the store cannot come back in somebody's place. Each is taken once.
//!
//! Whoever begins very many pushes out their own oldest, and nobody else's: rows are sorted by who began them. Those who come to
//! sign in are nobody yet, and nothing is kept of them here: see [`Carrier`](super::Carrier).

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::opaque::{hash, is_opaque, random};
use crate::secret::Secret;
use crate::store::{self, Expect, Name, Records, StoreError, Write};
use crate::vault::{Sealed, Vault, VaultError};

const TABLE: Name = "pending_sign_ins";

/// What the vault binds them to.
const KIND: &str = "sign-in";

/// Most at a time for one who begins them.
const MAX_EACH: usize = 20;

/// Longest `state` that is looked at, in bytes.
const MAX_STATE: usize = 200;

/// What could not be kept or found again.
#[derive(Debug, thiserror::Error)]
pub enum PendingError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// What goes out when a sign-in begins.
#[derive(Clone, Debug)]
pub struct Begun {
    /// For the provider, which gives it back.
    pub state: Secret,
    /// For the browser that began, and for no other.
    pub browser: Secret,
}

/// What is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Hash of what the browser shows.
    browser: String,
    /// Milliseconds since 1970.
    began: u64,
    /// Seconds since 1970.
    ends: u64,
    what: Sealed,
}

/// A pending sign-in that was found again.
#[derive(Debug)]
pub struct Found<T> {
    pub what: T,
    id: String,
    version: u64,
    browser: String,
}

impl<T> Found<T> {
    /// Whether the browser that comes back is the one that began.
    pub fn is_of(&self, shown: &Secret) -> bool {
        Secret::new(self.browser.as_str()) == Secret::new(hash(shown.expose()))
    }
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Pending {
    records: Arc<dyn Records>,
    clock: Clock,
}

impl Pending {
    /// In this store.
    pub fn new(records: Arc<dyn Records>, clock: Clock) -> Self {
        Self { records, clock }
    }

    /// What rows of one who begins have in front.
    pub fn owner_of(who: &str) -> String {
        hash(who).get(..16).unwrap_or_default().to_owned()
    }

    /// Under what a state's row is kept, here or elsewhere.
    pub fn row_of(state: &str) -> String {
        id_of(state)
    }

    /// How many sign-ins of `who` are pending, and when the first of them ends by itself, in seconds since 1970.
    ///
    /// # Errors
    /// The store's.
    pub async fn waiting(&self, who: &str) -> Result<(usize, u64), StoreError> {
        let (owner, now) = (Self::owner_of(who), self.clock.wall_seconds());
        let rows = self.records.list(TABLE, Some(&owner), MAX_EACH + 1).await?;
        let own = rows.iter().filter(|row| row.id.starts_with(&format!("{owner}.")));
        let ends = own.filter_map(|row| Some(row.read::<Kept>().ok()?.ends));
        let ends: Vec<u64> = ends.filter(|ends| *ends > now).collect();
        Ok((ends.len(), ends.iter().min().copied().unwrap_or(now)))
    }

    /// A `state` and a browser's half for a sign-in that `who` is about to begin. A browser that shows a half of ours keeps it, so
    /// that it may begin in two tabs and finish both.
    pub fn fresh(who: &str, shown: Option<&Secret>) -> Begun {
        let state = Secret::new(format!("{}.{}", Self::owner_of(who), random().expose()));
        let known = shown.filter(|shown| is_opaque(shown.expose())).cloned();
        Begun { state, browser: known.unwrap_or_else(random) }
    }

    /// Keeps `what` until somebody comes back with the state, for `life` at most.
    ///
    /// # Errors
    /// The store's or the vault's.
    pub async fn keep<T: Serialize>(
        &self,
        vault: &Vault,
        begun: &Begun,
        what: &T,
        life: Duration,
    ) -> Result<(), PendingError> {
        let id = id_of(begun.state.expose());
        let owner = id.split('.').next().unwrap_or_default().to_owned();
        self.make_room(&owner).await?;
        let plain = serde_json::to_string(what).map_err(|error| StoreError::record(&id, &error))?;
        let kept = Kept {
            browser: hash(begun.browser.expose()),
            began: self.clock.wall_millis(),
            ends: self.clock.wall_seconds().saturating_add(life.as_secs()),
            what: vault.seal(KIND, &id, &Secret::new(plain))?,
        };
        self.records.commit(vec![Write::put(TABLE, id, &kept, Expect::Absent)?]).await?;
        Ok(())
    }

    /// Leaves room for one more of this owner's.
    async fn make_room(&self, owner: &str) -> Result<(), StoreError> {
        let rows = self.records.list(TABLE, Some(owner), MAX_EACH + 1).await?;
        let mut own: Vec<_> = rows.iter().filter(|row| row.id.starts_with(&format!("{owner}."))).collect();
        if own.len() < MAX_EACH {
            return Ok(());
        }
        own.sort_by_key(|row| row.read::<Kept>().map_or(0, |kept| kept.began));
        let oldest = own.iter().take(own.len() + 1 - MAX_EACH);
        let deletes = oldest.map(|row| self.delete(row.id.clone(), Expect::Anything)).collect();
        self.records.commit(deletes).await.map(drop)
    }

    /// The sign-in of this state, if it is pending and its key is still in the vault. It stays so.
    ///
    /// # Errors
    /// The store's.
    pub async fn find<T: DeserializeOwned>(
        &self,
        vault: &Vault,
        state: &str,
    ) -> Result<Option<Found<T>>, PendingError> {
        if state.len() > MAX_STATE {
            return Ok(None);
        }
        let id = id_of(state);
        let Some(row) = self.records.get(TABLE, &id).await? else { return Ok(None) };
        let kept: Kept = row.read()?;
        if kept.ends <= self.clock.wall_seconds() {
            return Ok(None);
        }
        // A key that was taken out meanwhile: whoever comes back begins again.
        let plain = match vault.open(KIND, &id, &kept.what) {
            Ok(plain) => plain,
            Err(error) => {
                tracing::warn!(%error, "a sign-in that is pending cannot be read");
                return Ok(None);
            }
        };
        let what = serde_json::from_str(plain.expose()).map_err(|error| StoreError::record(&id, &error))?;
        Ok(Some(Found { what, id, version: row.version, browser: kept.browser }))
    }

    /// Ends it. False where somebody else was quicker: what was found is then not this one's to use.
    ///
    /// # Errors
    /// The store's.
    pub async fn take<T>(&self, found: &Found<T>) -> Result<bool, StoreError> {
        match self.records.commit(vec![self.delete(found.id.clone(), Expect::Version(found.version))]).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn delete(&self, id: String, expect: Expect) -> Write {
        Write::Delete { table: TABLE, id, expect }
    }

    /// Forgets those whose time is over.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now = self.clock.wall_seconds();
        let is_over = |row: &store::Row| row.read::<Kept>().map_or(true, |kept| kept.ends <= now);
        store::sweep(&*self.records, TABLE, is_over).await
    }
}

/// Who began it, in front, and the hash of the whole.
fn id_of(state: &str) -> String {
    let owner = state.split('.').next().unwrap_or_default();
    let owner: String = owner.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    format!("{owner}.{}", hash(state))
}
