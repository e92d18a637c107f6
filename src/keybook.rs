//! The records of Weir's own keys (`sk-weir-…`). Why below both of its users: identity reads them and the store keeps
//! them, and neither may import the other.
//!
//! Only the SHA-256 of a key is kept. A slow hash (bcrypt, argon2) protects passwords because people choose guessable
//! ones; a key is 256 random bits, which no one guesses at any speed, and a slow hash would hand anybody who sends wrong
//! keys a way to burn our CPU.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ids::TenantId;
use crate::limits::Limits;
use crate::secret::Secret;

/// How every key begins.
pub const PREFIX: &str = "sk-weir-";

/// Random bytes in a key; 43 characters of base64url.
const RANDOM_BYTES: usize = 32;

/// SHA-256 of a whole key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key as a caller sent it.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// From the 32 bytes themselves.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Equality whose time does not depend on where the two differ.
    pub fn same(&self, other: &KeyHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("KeyHash")
    }
}

/// What a caller may do, beyond being known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Ask models: `/v1/*`.
    Chat,
    /// See and change one's own upstream accounts: `/api/v1/oauth/*`.
    Accounts,
    /// Operate the gateway: `/admin/*`. Includes no other scope.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 3] = [Scope::Chat, Scope::Accounts, Scope::Admin];

    /// Its name in tokens, records and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Chat => "chat",
            Scope::Accounts => "accounts",
            Scope::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Scope::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| format!("no such scope: {text:?} (there are chat, accounts and admin)"))
    }
}

/// One key, as kept and as shown: nothing in it opens anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// `key_` and 16 characters.
    pub id: String,
    /// What its maker calls it.
    pub name: String,
    /// Whose requests it makes.
    pub tenant: TenantId,
    pub scopes: Vec<Scope>,
    /// Names and globs; `None`: every model.
    #[serde(default)]
    pub models: Option<Vec<String>>,
    /// Limits of this key alone, over those of its tenant; `None`: it shares its tenant's.
    #[serde(default)]
    pub limits: Option<Limits>,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970 from which it is refused.
    #[serde(default)]
    pub expires: Option<u64>,
    /// Seconds since 1970 at which it was revoked.
    #[serde(default)]
    pub revoked: Option<u64>,
    /// Its last four characters, so that a person can tell keys apart.
    pub last4: String,
}

impl KeyRecord {
    /// Whether it opens the door at `now`, in seconds since 1970.
    pub fn is_live(&self, now: u64) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| now < expires)
    }
}

/// What is asked for when a key is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    pub name: String,
    pub tenant: TenantId,
    /// Default: `chat` alone.
    #[serde(default = "chat_alone")]
    pub scopes: Vec<Scope>,
    #[serde(default)]
    pub models: Option<Vec<String>>,
    #[serde(default)]
    pub limits: Option<Limits>,
    /// Seconds since 1970.
    #[serde(default)]
    pub expires: Option<u64>,
}

fn chat_alone() -> Vec<Scope> {
    vec![Scope::Chat]
}

/// Where keys are looked up, by hash. Both calls are on the hot path: memory only, no waiting.
pub trait KeyBook: Send + Sync {
    /// The record of a key, live or not.
    fn find(&self, hash: &KeyHash) -> Option<Arc<KeyRecord>>;

    /// A number that grows whenever any record changes: what was looked up under another number is looked up again.
    fn generation(&self) -> u64;
}

/// A book without keys, for a gateway that takes none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKeys;

impl KeyBook for NoKeys {
    fn find(&self, _: &KeyHash) -> Option<Arc<KeyRecord>> {
        None
    }

    fn generation(&self) -> u64 {
        0
    }
}

/// A new key of 256 random bits.
pub fn random_key() -> Secret {
    let mut bytes = zeroize::Zeroizing::new([0_u8; RANDOM_BYTES]);
    rand::rng().fill(&mut *bytes);
    Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}

/// The last four characters of a key, for its record.
pub fn last4(key: &Secret) -> String {
    let text = key.expose();
    text.get(text.len().saturating_sub(4)..).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_url_safe_and_never_the_same() {
        let keys: std::collections::HashSet<String> =
            (0..1000).map(|_| random_key().expose().to_owned()).collect();
        assert_eq!(keys.len(), 1000);
        for key in keys {
            let random = key.strip_prefix(PREFIX).expect("the prefix");
            assert!(random.len() >= 43, "{key}");
            assert!(
                random.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
                "{key}"
            );
        }
    }

    #[test]
    fn a_record_dies_when_revoked_and_at_its_end() {
        let live = KeyRecord {
            id: "key_1".into(),
            name: "n".into(),
            tenant: "t".into(),
            scopes: vec![Scope::Chat],
            models: None,
            limits: None,
            created: 0,
            expires: Some(10),
            revoked: None,
            last4: "abcd".into(),
        };
        assert!(live.is_live(9));
        assert!(!live.is_live(10));
        assert!(!KeyRecord { revoked: Some(1), ..live.clone() }.is_live(1));
        assert!(KeyRecord { expires: None, ..live }.is_live(u64::MAX));
    }

    #[test]
    fn hashes_are_the_same_only_for_the_same_key() {
        assert!(KeyHash::of(b"a").same(&KeyHash::of(b"a")));
        assert!(!KeyHash::of(b"a").same(&KeyHash::of(b"b")));
        assert_eq!(format!("{:?}", KeyHash::of(b"a")), "KeyHash");
    }
}
