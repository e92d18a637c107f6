//! What Weir needs to make tokens itself, kept where all replicas find it: signing keys, encrypted by the vault, and what was
//! revoked while tokens of it may still be alive. The tokens are made and verified in memory, by
//! [`OwnIssuer`](crate::identity::OwnIssuer); here that memory is kept in step with the store.
//!
//! A key is known to everybody [`AHEAD`] before it signs, and stays in the JWKS until the last token that it signed is dead.
//! Replicas notice by the tables' generations ([`Keeper::refresh`], twice a second), so a revocation holds everywhere within one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Moment};
use crate::identity::{KeyError, MAX_LIFETIME, OwnIssuer, SigningKey, Timed};
use crate::store::{self, Act, Audit, Expect, Name, Records, StoreError, Write};
use crate::vault::{Sealed, Vault, VaultError};

/// One row, [`RING`]: all keys together, so that no two replicas make the first one.
const KEYS: Name = "signing_keys";

const RING: &str = "ring";

/// By the id of a grant, a session or an app: until when it must be remembered.
const REVOKED: Name = "revoked";

/// What the vault binds signing keys to.
const KIND: &str = "signing_key";

/// How long a new key is known before it signs.
pub const AHEAD: Duration = Duration::from_secs(30);

/// What replicas' clocks may differ by, in seconds.
const SKEW: u64 = 60;

/// How often what is over is looked for and forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// How often a change is tried again when somebody else was quicker.
const TRIES: usize = 10;

/// Why keys could not be made, changed or read.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A key as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    kid: String,
    /// Seconds since 1970.
    signs_from: u64,
    key: Sealed,
}

impl Kept {
    fn of(key: &SigningKey, signs_from: u64, vault: &Vault) -> Result<Self, VaultError> {
        let sealed = vault.seal(KIND, key.kid(), key.kept())?;
        Ok(Self { kid: key.kid().to_owned(), signs_from, key: sealed })
    }

    fn open(&self, vault: &Vault) -> Result<Timed, IssuerError> {
        let key = SigningKey::read(&vault.open(KIND, &self.kid, &self.key)?)?;
        Ok(Timed { key, signs_from: self.signs_from })
    }
}

/// A revocation as it is kept.
#[derive(Serialize, Deserialize)]
struct Until {
    /// Seconds since 1970 from which no token can be alive that it is about.
    until: u64,
}

/// What of the store is known here.
#[derive(Debug, Default)]
struct Known {
    keys: Option<u64>,
    revoked: Option<u64>,
    swept: Option<Moment>,
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    own: Arc<OwnIssuer>,
    records: Arc<dyn Records>,
    audit: Audit,
    clock: Clock,
    vault: Mutex<Arc<Vault>>,
    ring: Mutex<Vec<Kept>>,
    /// Held by whoever reads or changes, so that a reader does not undo what was written while it read.
    known: tokio::sync::Mutex<Known>,
}

impl Keeper {
    /// Keeps `own` in step with what `records` hold.
    ///
    /// # Errors
    /// What is in the store cannot be read or decrypted.
    pub async fn open(
        own: Arc<OwnIssuer>,
        records: Arc<dyn Records>,
        vault: Arc<Vault>,
        clock: Clock,
    ) -> Result<Self, IssuerError> {
        let keeper = Self {
            own,
            audit: Audit::new(Arc::clone(&records)),
            records,
            clock,
            vault: Mutex::new(vault),
            ring: Mutex::default(),
            known: tokio::sync::Mutex::default(),
        };
        keeper.refresh().await?;
        Ok(keeper)
    }

    /// Who makes and verifies the tokens.
    pub fn own(&self) -> &Arc<OwnIssuer> {
        &self.own
    }

    /// Whether `vault` opens every key.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self, vault: &Vault) -> Result<(), IssuerError> {
        self.ring.lock().iter().try_for_each(|kept| kept.open(vault).map(drop))
    }

    /// Another vault from now on.
    pub fn put_vault(&self, vault: Arc<Vault>) {
        *self.vault.lock() = vault;
    }

    /// Makes the first key, where there is none: before the first token is made. Cheap where there is one.
    ///
    /// # Errors
    /// The store's.
    pub async fn ensure(&self) -> Result<(), IssuerError> {
        if self.own.name().is_none() || self.own.is_ready() {
            return Ok(());
        }
        self.refresh().await?;
        if self.own.is_ready() {
            return Ok(());
        }
        let (key, now, vault) = (SigningKey::random()?, self.clock.wall_seconds(), self.vault());
        let put = Write::put(KEYS, RING, &[Kept::of(&key, now, &vault)?], Expect::Absent)?;
        let act = Act::new("weir", "issuer.key_made", key.kid(), "");
        match self.audit.note(act, self.clock.wall_millis(), vec![put]).await {
            Ok(_) | Err(StoreError::Conflict) => self.refresh().await,
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a new key for `who`, which signs after [`AHEAD`]; the old ones verify as long as they must. With `at_once` the old
    /// ones are gone, with every token that they signed: for a key that somebody else may have. The new key's name.
    ///
    /// # Errors
    /// The store's.
    pub async fn rotate(&self, who: &str, at_once: bool) -> Result<String, IssuerError> {
        for _ in 0..TRIES {
            let row = self.records.get(KEYS, RING).await?;
            let (mut ring, expect) = match &row {
                Some(row) => (row.read()?, Expect::Version(row.version)),
                None => (Vec::new(), Expect::Absent),
            };
            let (key, vault) = (SigningKey::random()?, self.vault());
            let mut signs_from = self.clock.wall_seconds();
            if at_once {
                ring.clear();
            } else if !ring.is_empty() {
                signs_from += AHEAD.as_secs();
            }
            ring.push(Kept::of(&key, signs_from, &vault)?);
            let put = Write::put(KEYS, RING, &ring, expect)?;
            let what = if at_once { "issuer.keys_replaced" } else { "issuer.key_rotated" };
            let act = Act::new(who, what, key.kid(), "");
            match self.audit.note(act, self.clock.wall_millis(), vec![put]).await {
                Err(StoreError::Conflict) => continue,
                other => drop(other?),
            }
            self.refresh().await?;
            return Ok(key.kid().to_owned());
        }
        Err(StoreError::Conflict.into())
    }

    /// Encrypts the keys with the vault's first key where they are not yet. How many there are, and how many were changed.
    ///
    /// # Errors
    /// A key that cannot be decrypted, or the store's.
    pub async fn reseal(&self) -> Result<(usize, usize), IssuerError> {
        let vault = self.vault();
        let changed = self.change_ring(|kept| {
            if vault.is_current(&kept.key) {
                return Ok(Some(kept));
            }
            let timed = kept.open(&vault)?;
            Ok(Some(Kept::of(&timed.key, timed.signs_from, &vault)?))
        });
        let changed = changed.await?;
        Ok((self.ring.lock().len(), changed))
    }

    /// Changes, or leaves out, keys one by one; how many came out otherwise.
    async fn change_ring(
        &self,
        change: impl Fn(Kept) -> Result<Option<Kept>, IssuerError>,
    ) -> Result<usize, IssuerError> {
        for _ in 0..TRIES {
            let Some(row) = self.records.get(KEYS, RING).await? else { return Ok(0) };
            let (mut changed, mut after) = (0, Vec::new());
            for kept in row.read::<Vec<Kept>>()? {
                let before = kept.key.clone();
                let kept = change(kept)?;
                changed += usize::from(kept.as_ref().is_none_or(|kept| kept.key != before));
                after.extend(kept);
            }
            if changed == 0 {
                return Ok(0);
            }
            let expect = Expect::Version(row.version);
            let put = Write::put(KEYS, RING, &after, expect)?;
            match self.records.commit(vec![put]).await {
                Err(StoreError::Conflict) => continue,
                other => drop(other?),
            }
            self.refresh().await?;
            return Ok(changed);
        }
        Err(StoreError::Conflict.into())
    }

    /// Revokes grants, sessions or apps, for good, together with `changes` and an entry in the audit log: every token of theirs
    /// is dead here when this returns, and on other replicas within a second.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where a condition of the changes does not hold; the store's.
    pub async fn revoke(&self, act: Act, ids: &[String], changes: Vec<Write>) -> Result<(), StoreError> {
        let mut writes = changes;
        let until = self.clock.wall_seconds() + MAX_LIFETIME.as_secs() + SKEW;
        let until = Until { until };
        let value = serde_json::to_vec(&until).map_err(|error| StoreError::record(REVOKED, &error))?;
        let distinct: HashSet<&String> = ids.iter().collect();
        writes.extend(distinct.into_iter().map(|id| Write::Put {
            table: REVOKED,
            id: id.clone(),
            value: value.clone(),
            expect: Expect::Anything,
        }));
        let _known = self.known.lock().await;
        self.audit.note(act, self.clock.wall_millis(), writes).await?;
        self.own.add_revoked(ids);
        Ok(())
    }

    /// Takes over what other processes have changed. Cheap where that is nothing.
    ///
    /// # Errors
    /// What is in the store cannot be read or decrypted; what is known stays then.
    pub async fn refresh(&self) -> Result<(), IssuerError> {
        let mut known = self.known.lock().await;
        // Each for itself: a key that cannot be read here must keep nobody's token alive.
        let revoked = self.take_revoked(&mut known).await;
        let keys = self.take_keys(&mut known).await;
        revoked.map_err(IssuerError::from).and(keys)
    }

    async fn take_keys(&self, known: &mut Known) -> Result<(), IssuerError> {
        let generation = self.records.generation(KEYS).await?;
        if known.keys != Some(generation) {
            let row = self.records.get(KEYS, RING).await?;
            let ring: Vec<Kept> = row.as_ref().map(store::Row::read).transpose()?.unwrap_or_default();
            let vault = self.vault();
            let timed = ring.iter().map(|kept| kept.open(&vault)).collect::<Result<Vec<_>, _>>()?;
            self.own.put_keys(timed);
            *self.ring.lock() = ring;
            known.keys = Some(generation);
        }
        Ok(())
    }

    async fn take_revoked(&self, known: &mut Known) -> Result<(), StoreError> {
        let generation = self.records.generation(REVOKED).await?;
        if known.revoked != Some(generation) {
            let rows = store::all(&*self.records, REVOKED).await?;
            self.own.put_revoked(rows.into_iter().map(|row| row.id).collect());
            known.revoked = Some(generation);
        }
        Ok(())
    }

    /// What is due twice a second: takes over what others changed, and now and then forgets what is over.
    ///
    /// # Errors
    /// As [`Keeper::refresh`].
    pub async fn tick(&self) -> Result<(), IssuerError> {
        self.refresh().await?;
        let now = self.clock.now();
        {
            let mut known = self.known.lock().await;
            if known.swept.is_some_and(|swept| now.since(swept) < SWEEP_EVERY) {
                return Ok(());
            }
            known.swept = Some(now);
        }
        self.sweep().await
    }

    /// Forgets keys whose tokens are all dead, and revocations of such.
    async fn sweep(&self) -> Result<(), IssuerError> {
        let now = self.clock.wall_seconds();
        let ring = self.ring.lock().clone();
        let is_over = |kept: &Kept| {
            let next = ring.iter().map(|other| other.signs_from).filter(|from| *from > kept.signs_from).min();
            next.is_some_and(|next| next + MAX_LIFETIME.as_secs() + SKEW < now)
        };
        if ring.iter().any(is_over) {
            self.change_ring(|kept| Ok(Some(kept).filter(|kept| !is_over(kept)))).await?;
        }
        let is_past = |row: &store::Row| row.read().is_ok_and(|Until { until }| until < now);
        Ok(store::sweep(&*self.records, REVOKED, is_past).await?)
    }

    fn vault(&self) -> Arc<Vault> {
        Arc::clone(&self.vault.lock())
    }
}

#[cfg(test)]
mod tests;
