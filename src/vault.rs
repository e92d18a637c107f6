//! Encryption at rest: what a credential looks like outside of this process. Why an envelope: each record is encrypted by a
//! key of its own, and only that key by the master key, so a master key touches 32 random bytes per record and nothing
//! that anybody can guess. Both layers are bound to the record's kind and id: a ciphertext that is moved to another record
//! does not open there.
//!
//! There is no plaintext beside it: what cannot be encrypted is not kept, and what cannot be decrypted is an error.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::opaque::hex;
use crate::secret::Secret;

/// Bytes of an AES-256 key.
const KEY_BYTES: usize = 32;

/// Bytes of a nonce; random, and in front of each ciphertext.
const NONCE_BYTES: usize = 12;

/// Name of the file in the store's folder that holds a key which Weir made itself.
pub const KEY_FILE: &str = "vault.key";

/// One master key.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    /// Stored beside what it encrypted.
    pub id: String,
    /// For AES-256-GCM.
    pub key: Zeroizing<[u8; KEY_BYTES]>,
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("MasterKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What is kept in place of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Id of the master key that wraps the record's own.
    key: String,
    /// The record's own key, encrypted by the master key; base64.
    wrapped: String,
    /// The secret, encrypted by the record's own key; base64.
    data: String,
}

impl Sealed {
    /// As it stands in a cookie, or wherever else a word without spaces, commas and quotes must do.
    pub fn to_text(&self) -> String {
        format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(&self.key), self.wrapped, self.data)
    }

    /// The same back; `None` where it is none.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (key, wrapped, data) = (parts.next()?, parts.next()?.to_owned(), parts.next()?.to_owned());
        let key = String::from_utf8(URL_SAFE_NO_PAD.decode(key).ok()?).ok()?;
        parts.next().is_none().then_some(Self { key, wrapped, data })
    }
}

/// What cannot be encrypted or decrypted, and why. Never what it is.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is nothing to encrypt with.
    #[error("there is no key to encrypt with: name one under `vault.keys`")]
    NoKey,
    /// Encrypted with a key that is not here.
    #[error(
        "{kind} {id:?} was encrypted with the key {key:?}, which is neither in `vault.keys` nor in the store's folder ({KEY_FILE})"
    )]
    UnknownKey { kind: &'static str, id: String, key: String },
    /// The key of that id is another one, or the record was changed.
    #[error(
        "{kind} {id:?} cannot be decrypted: the key {key:?} is not the one that encrypted it, or the record was tampered with"
    )]
    Refused { kind: &'static str, id: String, key: String },
    /// The cipher failed.
    #[error("the secret could not be encrypted")]
    Cipher,
    /// The file with a key of our own cannot be used.
    #[error("the key file {} cannot be used: {why}", path.display())]
    KeyFile { path: PathBuf, why: String },
}

/// The master keys.
#[derive(Debug)]
pub struct Vault {
    keys: Vec<MasterKey>,
}

impl Vault {
    /// A vault that encrypts with the first of `keys` and decrypts with all.
    ///
    /// # Errors
    /// There is none.
    pub fn new(keys: Vec<MasterKey>) -> Result<Self, VaultError> {
        if keys.is_empty() { Err(VaultError::NoKey) } else { Ok(Self { keys }) }
    }

    /// Encrypts `secret` for the record `id` of `kind`.
    ///
    /// # Errors
    /// None that is known.
    pub fn seal(&self, kind: &'static str, id: &str, secret: &Secret) -> Result<Sealed, VaultError> {
        let master = self.keys.first().ok_or(VaultError::NoKey)?;
        let own = random_key();
        let data = encrypt(&own, secret.expose().as_bytes(), &bound("data", "", kind, id))?;
        let wrapped = encrypt(&master.key, own.as_slice(), &bound("key", &master.id, kind, id))?;
        Ok(Sealed { key: master.id.clone(), wrapped, data })
    }

    /// Decrypts what was encrypted for the record `id` of `kind`.
    ///
    /// # Errors
    /// The key is missing or another one, or the record was tampered with.
    pub fn open(&self, kind: &'static str, id: &str, sealed: &Sealed) -> Result<Secret, VaultError> {
        let key = || (id.to_owned(), sealed.key.clone());
        let master = self.keys.iter().find(|master| master.id == sealed.key).ok_or_else(|| {
            let (id, key) = key();
            VaultError::UnknownKey { kind, id, key }
        })?;
        self::open(master, kind, id, sealed).ok_or_else(|| {
            let (id, key) = key();
            VaultError::Refused { kind, id, key }
        })
    }

    /// Whether it was encrypted with the key that encrypts now.
    pub fn is_current(&self, sealed: &Sealed) -> bool {
        self.keys.first().is_some_and(|master| master.id == sealed.key)
    }

    /// Id of the key that encrypts now.
    pub fn current(&self) -> &str {
        self.keys.first().map_or("", |master| &master.id)
    }
}

fn open(master: &MasterKey, kind: &str, id: &str, sealed: &Sealed) -> Option<Secret> {
    let own = decrypt(&master.key, &sealed.wrapped, &bound("key", &master.id, kind, id))?;
    let own = Zeroizing::new(<[u8; KEY_BYTES]>::try_from(own.as_slice()).ok()?);
    let plain = decrypt(&own, &sealed.data, &bound("data", "", kind, id))?;
    std::str::from_utf8(&plain).ok().map(Secret::new)
}

/// What a ciphertext is bound to. Each part with its length, so that no two lists of parts give the same bytes.
fn bound(layer: &str, master: &str, kind: &str, id: &str) -> Vec<u8> {
    let mut bytes = b"weir-vault-1".to_vec();
    for part in [layer, master, kind, id] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

fn random_key() -> Zeroizing<[u8; KEY_BYTES]> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    rand::rng().fill(&mut *key);
    key
}

fn encrypt(key: &[u8; KEY_BYTES], plain: &[u8], aad: &[u8]) -> Result<String, VaultError> {
    let mut nonce = [0; NONCE_BYTES];
    rand::rng().fill(&mut nonce);
    let cipher = Aes256Gcm::new(key.into());
    let sealed = cipher.encrypt(&Nonce::from(nonce), Payload { msg: plain, aad });
    let sealed = sealed.map_err(|_| VaultError::Cipher)?;
    Ok(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
}

fn decrypt(key: &[u8; KEY_BYTES], sealed: &str, aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let sealed = STANDARD.decode(sealed).ok()?;
    let (nonce, msg) = sealed.split_at_checked(NONCE_BYTES)?;
    let nonce = Nonce::from(<[u8; NONCE_BYTES]>::try_from(nonce).ok()?);
    let cipher = Aes256Gcm::new(key.into());
    cipher.decrypt(&nonce, Payload { msg, aad }).ok().map(Zeroizing::new)
}

impl MasterKey {
    /// A random key that is gone with the process, for a store that is too.
    pub fn for_this_process() -> Self {
        Self::named_after(random_key())
    }

    /// The key in the store's folder, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or holds no key.
    pub fn read(folder: &Path) -> Result<Option<Self>, VaultError> {
        let path = folder.join(KEY_FILE);
        let wrong = |why: String| VaultError::KeyFile { path: path.clone(), why };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default());
        let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice());
        let key = key.map_err(|_| wrong("it does not hold 32 bytes in base64".to_owned()))?;
        Ok(Some(Self::named_after(Zeroizing::new(key))))
    }

    /// Makes a key and leaves it in the store's folder, for the owner's eyes alone. It is on the disk when this returns.
    ///
    /// # Errors
    /// It cannot be written, or there is one already.
    pub fn make(folder: &Path) -> Result<Self, VaultError> {
        let path = folder.join(KEY_FILE);
        let made = Self::named_after(random_key());
        let text = Zeroizing::new(format!("{}\n", STANDARD.encode(*made.key)));
        let written = (|| {
            // Never half a key under the name that counts, and never over another one.
            let draft = folder.join(format!("{KEY_FILE}.new"));
            drop(std::fs::remove_file(&draft));
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::hard_link(&draft, &path)?;
            std::fs::remove_file(&draft)?;
            File::open(folder)?.sync_all()
        })();
        written.map_err(|error| VaultError::KeyFile { path, why: error.to_string() })?;
        Ok(made)
    }

    /// Named by its own hash: a key that was lost and replaced has another name.
    fn named_after(key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let hash = Sha256::digest(key.as_slice());
        let name = hex(hash.get(..4).unwrap_or_default());
        Self { id: format!("local-{name}"), key }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn key(id: &str, byte: u8) -> MasterKey {
        MasterKey { id: id.to_owned(), key: Zeroizing::new([byte; KEY_BYTES]) }
    }

    fn vault(keys: &[MasterKey]) -> Vault {
        Vault::new(keys.to_vec()).expect("keys")
    }

    #[test]
    fn what_is_sealed_opens_again_and_looks_like_nothing() {
        let vault = vault(&[key("k1", 1)]);
        let secret = Secret::new("sk-canary-0123456789");
        let (one, two) = (vault.seal("account", "a", &secret), vault.seal("account", "a", &secret));
        let (one, two) = (one.expect("sealed"), two.expect("sealed"));
        assert_ne!(one, two, "no two ciphertexts are the same");
        assert_eq!(vault.open("account", "a", &one).expect("opens"), secret);
        let text = format!("{one:?} {vault:?} {}", serde_json::to_string(&one).expect("json"));
        assert!(!text.contains("canary"));
        let back: Sealed = serde_json::from_str(&serde_json::to_string(&one).expect("json")).expect("read");
        assert_eq!(vault.open("account", "a", &back).expect("opens"), secret);
    }

    #[test]
    fn it_opens_for_its_own_record_only() {
        let vault = vault(&[key("k1", 1)]);
        let sealed = vault.seal("account", "ab", &Secret::new("s")).expect("sealed");
        for (kind, id) in [("account", "a"), ("account", "ac"), ("oauth", "ab"), ("accounta", "b")] {
            assert!(matches!(vault.open(kind, id, &sealed), Err(VaultError::Refused { .. })), "{kind} {id}");
        }
        // Half of one and half of another does not either.
        let other = vault.seal("account", "ab", &Secret::new("t")).expect("sealed");
        let mixed = Sealed { data: other.data, ..sealed };
        assert!(vault.open("account", "ab", &mixed).is_err());
    }

    #[test]
    fn any_changed_character_is_noticed() {
        let vault = vault(&[key("k1", 1)]);
        let sealed = vault.seal("account", "a", &Secret::new("a secret")).expect("sealed");
        let turned = |text: &str, at: usize| {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).expect("text")
        };
        for at in 0..sealed.data.trim_end_matches('=').len() - 1 {
            let bad = Sealed { data: turned(&sealed.data, at), ..sealed.clone() };
            assert!(vault.open("account", "a", &bad).is_err(), "data {at}");
        }
        for at in 0..sealed.wrapped.trim_end_matches('=').len() - 1 {
            let bad = Sealed { wrapped: turned(&sealed.wrapped, at), ..sealed.clone() };
            assert!(vault.open("account", "a", &bad).is_err(), "wrapped {at}");
        }
        for odd in ["", "=", "AAAA", "not base64 at all"] {
            assert!(vault.open("account", "a", &Sealed { data: odd.into(), ..sealed.clone() }).is_err());
        }
    }

    #[test]
    fn the_first_key_encrypts_and_all_decrypt() {
        let (old, new) = (key("old", 1), key("new", 2));
        let sealed =
            vault(std::slice::from_ref(&old)).seal("account", "a", &Secret::new("s")).expect("sealed");
        let both = vault(&[new.clone(), old]);
        assert_eq!(both.open("account", "a", &sealed).expect("opens"), Secret::new("s"));
        assert!(!both.is_current(&sealed));
        assert!(both.is_current(&both.seal("account", "a", &Secret::new("s")).expect("sealed")));
        let lost = vault(&[new]).open("account", "a", &sealed).expect_err("the key is gone").to_string();
        assert!(lost.contains("\"old\"") && lost.contains("\"a\""), "{lost}");
        let wrong = vault(&[key("old", 3)]).open("account", "a", &sealed).expect_err("another key");
        assert!(matches!(wrong, VaultError::Refused { .. }));
        assert!(matches!(Vault::new(Vec::new()), Err(VaultError::NoKey)));
    }

    #[test]
    fn a_key_of_our_own_is_made_once_and_for_the_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(MasterKey::read(folder.path()).expect("none").is_none());
        let made = MasterKey::make(folder.path()).expect("made");
        assert_eq!(MasterKey::read(folder.path()).expect("read"), Some(made.clone()));
        assert!(MasterKey::make(folder.path()).is_err(), "never over another one");
        let path = folder.path().join(KEY_FILE);
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_ne!(MasterKey::for_this_process().id, made.id);
        std::fs::write(&path, "half").expect("written");
        let error = MasterKey::read(folder.path()).expect_err("no key").to_string();
        assert!(error.contains("32 bytes") && !error.contains("half"), "{error}");
    }
}
