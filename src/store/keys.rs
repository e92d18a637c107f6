//! Records of Weir's own keys, on disk by id and in memory by hash.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::ids::random_name;
use crate::keybook::{self, KeyBook, KeyHash, KeyRecord, NewKey};
use crate::secret::Secret;

use super::{Store, StoreError};

/// Record by id, as JSON.
pub(super) const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");

/// Longest name of a key, tenant or model rule, in bytes.
const MAX_NAME: usize = 256;

/// Most model rules of a key.
const MAX_MODELS: usize = 1000;

/// A record as it stands on disk: with the hash that the shown record leaves out.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// SHA-256 of the key, hexadecimal.
    hash: String,
    record: KeyRecord,
}

/// All records in memory.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_hash: RwLock<HashMap<KeyHash, Arc<KeyRecord>>>,
    generation: AtomicU64,
    /// Held by whoever changes records, so that two changes of one record do not undo each other.
    changing: Mutex<()>,
}

impl Index {
    pub fn load(db: &Database) -> Result<Self, StoreError> {
        let table = db.begin_read()?.open_table(TABLE)?;
        let mut by_hash = HashMap::new();
        for row in table.iter()? {
            let (id, bytes) = row?;
            let broken = |problem: String| StoreError::Record { id: id.value().to_owned(), problem };
            let stored: Stored =
                serde_json::from_slice(bytes.value()).map_err(|error| broken(error.to_string()))?;
            let hash = from_hex(&stored.hash).ok_or_else(|| broken("a hash that is none".to_owned()))?;
            by_hash.insert(hash, Arc::new(stored.record));
        }
        Ok(Self { by_hash: RwLock::new(by_hash), ..Self::default() })
    }

    /// The change becomes visible first and is announced after: who sees the new number sees the new record.
    fn set(&self, hash: KeyHash, record: KeyRecord) {
        self.by_hash.write().insert(hash, Arc::new(record));
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl KeyBook for Store {
    fn find(&self, hash: &KeyHash) -> Option<Arc<KeyRecord>> {
        let by_hash = self.keys.by_hash.read();
        // The map finds by a keyed hash of the key's SHA-256, so its time tells nothing; the last word is constant-time.
        by_hash.get_key_value(hash).filter(|(kept, _)| kept.same(hash)).map(|(_, record)| Arc::clone(record))
    }

    fn generation(&self) -> u64 {
        self.keys.generation.load(Ordering::Acquire)
    }
}

/// Makes a key at `now` (seconds since 1970) and keeps its record. The key itself is in the answer and nowhere else.
/// Waits for the disk.
///
/// # Errors
/// A request that makes no sense, or the disk's.
pub fn create_key(store: &Store, new: NewKey, now: u64) -> Result<(KeyRecord, Secret), StoreError> {
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
    let _changing = store.keys.changing.lock();
    store.change(|db| write(db, &hash, &record))?;
    store.keys.set(hash, record.clone());
    Ok((record, key))
}

/// All keys, the newest first, the revoked among them.
pub fn list_keys(store: &Store) -> Vec<Arc<KeyRecord>> {
    let mut records: Vec<Arc<KeyRecord>> = store.keys.by_hash.read().values().cloned().collect();
    records.sort_by(|one, other| (other.created, &one.id).cmp(&(one.created, &other.id)));
    records
}

/// Revokes a key at `now` (seconds since 1970), for good: the very next request with it is refused. To revoke it again
/// changes nothing. Waits for the disk.
///
/// # Errors
/// There is no such key, or the disk's.
pub fn revoke_key(store: &Store, id: &str, now: u64) -> Result<KeyRecord, StoreError> {
    let _changing = store.keys.changing.lock();
    let found = {
        let by_hash = store.keys.by_hash.read();
        by_hash.iter().find(|(_, record)| record.id == id).map(|(hash, record)| (*hash, Arc::clone(record)))
    };
    let (hash, record) = found.ok_or_else(|| StoreError::NotFound(id.to_owned()))?;
    if record.revoked.is_some() {
        return Ok(KeyRecord::clone(&record));
    }
    let record = KeyRecord { revoked: Some(now), ..KeyRecord::clone(&record) };
    store.change(|db| write(db, &hash, &record))?;
    store.keys.set(hash, record.clone());
    Ok(record)
}

fn write(db: &Database, hash: &KeyHash, record: &KeyRecord) -> Result<(), StoreError> {
    let stored = Stored { hash: to_hex(hash), record: record.clone() };
    let bytes = serde_json::to_vec(&stored)
        .map_err(|error| StoreError::Record { id: record.id.clone(), problem: error.to_string() })?;
    let change = db.begin_write()?;
    change.open_table(TABLE)?.insert(record.id.as_str(), bytes.as_slice())?;
    change.commit()?;
    Ok(())
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
    hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
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
