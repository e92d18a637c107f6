//! Callers that were verified a moment ago, by the SHA-256 of the whole token: never by a part of it, which two tokens can
//! share (that mistake has let callers in under others' names). An entry dies with its token, and when the keys or records
//! that it was verified with change.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::identity::caller::Caller;
use crate::keybook::KeyHash;

const SHARDS: usize = 16;

/// What an entry was verified with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// An issuer, by its place in the settings, and the generation of its keys.
    Issuer { place: usize, generation: u64 },
    /// The key book, in this generation.
    Book { generation: u64 },
    /// Weir itself, in this generation of its keys and settings.
    Own { generation: u64 },
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub caller: Arc<Caller>,
    pub source: Source,
}

impl Entry {
    fn is_dead(&self, now: u64) -> bool {
        self.caller.expires.is_some_and(|expires| now >= expires)
    }
}

type Shard = RwLock<HashMap<KeyHash, Entry>>;

/// A bounded map from token to caller.
#[derive(Debug)]
pub(super) struct Cache {
    shards: [Shard; SHARDS],
    most_in_shard: usize,
}

impl Cache {
    /// For at most `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self { shards: std::array::from_fn(|_| Shard::default()), most_in_shard: (capacity / SHARDS).max(1) }
    }

    fn shard(&self, hash: &KeyHash) -> Option<&Shard> {
        let [first, ..] = hash.as_bytes();
        self.shards.get(usize::from(*first) % SHARDS)
    }

    /// The entry of a token that has not ended by `now`, in seconds since 1970. Its source is for the caller to judge.
    pub fn get(&self, hash: &KeyHash, now: u64) -> Option<Entry> {
        let entry = self.shard(hash)?.read().get(hash).cloned()?;
        (!entry.is_dead(now)).then_some(entry)
    }

    /// Remembers a token. In a full shard the dead give way, else the one that ends first.
    pub fn put(&self, hash: KeyHash, entry: Entry, now: u64) {
        let Some(shard) = self.shard(&hash) else { return };
        if entry.is_dead(now) {
            return;
        }
        let mut shard = shard.write();
        if shard.len() >= self.most_in_shard && !shard.contains_key(&hash) {
            shard.retain(|_, entry| !entry.is_dead(now));
        }
        if shard.len() >= self.most_in_shard && !shard.contains_key(&hash) {
            let end = |entry: &Entry| entry.caller.expires.unwrap_or(u64::MAX);
            let first = shard.iter().min_by_key(|(_, entry)| end(entry)).map(|(hash, _)| *hash);
            first.and_then(|first| shard.remove(&first));
        }
        shard.insert(hash, entry);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::identity::caller::{ModelRules, Scopes};
    use crate::identity::limits::Limiter;
    use crate::limits::Limits;

    fn entry(expires: Option<u64>) -> Entry {
        let (clock, _) = Clock::manual(0);
        let caller = Caller {
            tenant: "t".into(),
            subject: "s".into(),
            issuer: None,
            key_id: None,
            models: ModelRules::All,
            scopes: Scopes::CHAT,
            limiter: Limiter::new(Limits::default(), clock),
            expires,
            ties: None,
        };
        Entry { caller: Arc::new(caller), source: Source::Book { generation: 0 } }
    }

    #[test]
    fn an_entry_dies_at_its_end_and_not_before() {
        let cache = Cache::new(100);
        let hash = KeyHash::of(b"token");
        cache.put(hash, entry(Some(10)), 0);
        assert!(cache.get(&hash, 9).is_some());
        assert!(cache.get(&hash, 10).is_none());
    }

    #[test]
    fn it_never_grows_over_its_bound_and_keeps_the_newest() {
        let cache = Cache::new(160);
        for number in 0..5_000_u64 {
            let hash = KeyHash::of(&number.to_be_bytes());
            cache.put(hash, entry(Some(1_000 + number)), 0);
            assert!(cache.get(&hash, 0).is_some());
        }
        assert_eq!(cache.len(), 160);
    }
}
