//! Records of Weir's own keys: kept in the store by id, held in memory by hash. Why both: a key is looked up for every
//! request that nobody has made before, and is changed once a month.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::ids::random_name;
use crate::keybook::{self, KeyBook, KeyHash, KeyRecord, NewKey};
use crate::opaque::hex;
use crate::secret::Secret;

use super::audit::{Act, Audit};
use super::records::{Expect, Name, Records, Write, all};
use super::{Row, StoreError};

/// Rows by id, as JSON.
const TABLE: Name = "keys";

/// Longest name of a key, tenant or model rule, in bytes.
const MAX_NAME: usize = 256;

/// Most model rules of a key.
const MAX_MODELS: usize = 1000;

/// A record as it is kept: with the hash that the shown record leaves out.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// SHA-256 of the key, hexadecimal.
    hash: String,
    record: KeyRecord,
}

/// All keys.
#[derive(Debug)]
pub struct Keys {
    records: Arc<dyn Records>,
    audit: Audit,
    by_hash: RwLock<HashMap<KeyHash, Arc<KeyRecord>>>,
    generation: AtomicU64,
    /// The table's generation when it was last read. Held by whoever changes or reads: of two changes of one record the
    /// second sees the first, and a reader does not undo what was written while it read.
    seen: Mutex<u64>,
}

impl Keys {
    /// The keys that `records` hold.
    ///
    /// # Errors
    /// The store's.
    pub async fn load(records: Arc<dyn Records>) -> Result<Self, StoreError> {
        let keys = Self {
            audit: Audit::new(Arc::clone(&records)),
            records,
            by_hash: RwLock::default(),
            generation: AtomicU64::new(0),
            seen: Mutex::new(0),
        };
        keys.refresh().await?;
        Ok(keys)
    }

    /// Takes over what other processes have changed. Cheap where that is nothing.
    ///
    /// # Errors
    /// The store's; what is known stays then. A record that cannot be read is said in the log, and its key is refused: one row that
    /// a later version wrote must not keep the revocations of all others back.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let mut seen = self.seen.lock().await;
        let generation = self.records.generation(TABLE).await?;
        if generation == *seen {
            return Ok(());
        }
        let rows = all(&*self.records, TABLE).await?;
        let by_hash = rows.iter().filter_map(|row| match read(row) {
            Ok((hash, record)) => Some((hash, Arc::new(record))),
            Err(error) => {
                tracing::error!(key = row.id, %error, "a key cannot be read, and is refused");
                None
            }
        });
        *self.by_hash.write() = by_hash.collect();
        *seen = generation;
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Makes a key for `who` at `now` (seconds since 1970) and keeps its record, together with an entry in the audit log. The key itself is in the answer and nowhere else.
    ///
    /// # Errors
    /// A request that makes no sense, or the store's.
    pub async fn create(&self, who: &str, new: NewKey, now: u64) -> Result<(KeyRecord, Secret), StoreError> {
        check(&new, now)?;
        let key = keybook::random_key();
        let hash = KeyHash::of(key.expose().as_bytes());
        let record = KeyRecord {
            id: random_name("key_", 16),
            name: new.name,
            tenant: new.tenant,
            scopes: new.scopes,
            models: new.models,
            limits: new.limits,
            created: now,
            expires: new.expires,
            revoked: None,
            last4: keybook::last4(&key),
        };
        let _changing = self.seen.lock().await;
        self.write(act(who, "key.created", &record), now, hash, record.clone(), Expect::Absent).await?;
        Ok((record, key))
    }

    /// All keys, the newest first, the revoked among them.
    pub fn list(&self) -> Vec<Arc<KeyRecord>> {
        let mut records: Vec<Arc<KeyRecord>> = self.by_hash.read().values().cloned().collect();
        records.sort_by(|one, other| (other.created, &one.id).cmp(&(one.created, &other.id)));
        records
    }

    /// Revokes a key at `now` (seconds since 1970), for good: the very next request with it is refused here, and within a
    /// second by other processes. To revoke it again changes nothing.
    ///
    /// # Errors
    /// There is no such key, or the store's.
    pub async fn revoke(&self, who: &str, id: &str, now: u64) -> Result<KeyRecord, StoreError> {
        let _changing = self.seen.lock().await;
        let row = self.records.get(TABLE, id).await?;
        let row = row.ok_or_else(|| StoreError::NotFound { what: "key", id: id.to_owned() })?;
        let (hash, record) = read(&row)?;
        if record.revoked.is_some() {
            return Ok(record);
        }
        let record = KeyRecord { revoked: Some(now), ..record };
        // Nobody changes a key but to revoke it: whoever was quicker did the same.
        self.write(act(who, "key.revoked", &record), now, hash, record.clone(), Expect::Anything).await?;
        Ok(record)
    }

    /// The change becomes visible first and is announced after: who sees the new number sees the new record.
    async fn write(
        &self,
        act: Act,
        now: u64,
        hash: KeyHash,
        record: KeyRecord,
        expect: Expect,
    ) -> Result<(), StoreError> {
        let broken = |error: serde_json::Error| StoreError::record(&record.id, &error);
        let value =
            serde_json::to_vec(&Stored { hash: to_hex(&hash), record: record.clone() }).map_err(broken)?;
        let put = Write::Put { table: TABLE, id: record.id.clone(), value, expect };
        self.audit.note(act, now.saturating_mul(1000), vec![put]).await?;
        self.by_hash.write().insert(hash, Arc::new(record));
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

fn act(who: &str, what: &str, record: &KeyRecord) -> Act {
    let note = format!("{:?} of {:?}", record.name, record.tenant.as_str());
    Act::new(who, what, &record.id, note)
}

fn read(row: &Row) -> Result<(KeyHash, KeyRecord), StoreError> {
    let stored: Stored = row.read()?;
    let hash = from_hex(&stored.hash).ok_or_else(|| StoreError::record(&row.id, &"a hash that is none"))?;
    Ok((hash, stored.record))
}

impl KeyBook for Keys {
    fn find(&self, hash: &KeyHash) -> Option<Arc<KeyRecord>> {
        let by_hash = self.by_hash.read();
        // The map finds by a keyed hash of the key's SHA-256, so its time tells nothing; the last word is constant-time.
        by_hash.get_key_value(hash).filter(|(kept, _)| kept.same(hash)).map(|(_, record)| Arc::clone(record))
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

fn check(new: &NewKey, now: u64) -> Result<(), StoreError> {
    let is_name = |text: &str| !text.is_empty() && text.len() <= MAX_NAME && !text.contains(char::is_control);
    if !is_name(&new.name) {
        return Err(StoreError::Invalid("a key's name is 1 to 256 bytes without control characters"));
    }
    if !is_name(new.tenant.as_str()) {
        return Err(StoreError::Invalid("a tenant's name is 1 to 256 bytes without control characters"));
    }
    if new.scopes.is_empty() {
        return Err(StoreError::Invalid("a key without a scope opens nothing"));
    }
    let models = new.models.as_deref().unwrap_or_default();
    if models.len() > MAX_MODELS || !models.iter().all(|model| is_name(model)) {
        return Err(StoreError::Invalid("models are at most 1000 names of 1 to 256 bytes"));
    }
    if new.expires.is_some_and(|expires| expires <= now) {
        return Err(StoreError::Invalid("the key would have expired already"));
    }
    if new.limits.is_some_and(|limits| limits.first_zero().is_some()) {
        return Err(StoreError::Invalid("a limit of 0: leave it out for no limit"));
    }
    Ok(())
}

fn to_hex(hash: &KeyHash) -> String {
    hex(hash.as_bytes())
}

fn from_hex(text: &str) -> Option<KeyHash> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(KeyHash::from_bytes(bytes))
}
