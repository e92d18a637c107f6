//! The keys that an issuer's tokens are verified with, wherever they come from: always one immutable set, replaced whole.

mod file;
mod set;
mod url;

use std::path::Path;
use std::sync::Arc;

use crate::clock::{Clock, Moment};
use crate::fault::{Fault, Kind};
use crate::identity::SettingsError;
use crate::identity::settings::{Issuer, KeySource};
use crate::web_url::{has_user, is_safe};

use file::FileKeys;
use url::UrlKeys;

pub(super) use set::{Found, KeySet};

/// Largest JWKS that is read, in bytes.
const MAX_JWKS: usize = 1024 * 1024;

/// Shortest shared secret, in bytes (RFC 7518: at least the hash's own length).
const MIN_SECRET: usize = 32;

/// Where one issuer's keys stand.
#[derive(Debug)]
pub(super) enum Keys {
    /// In the configuration.
    Fixed(Arc<KeySet>),
    File(FileKeys),
    Url(Arc<UrlKeys>),
}

impl Keys {
    /// Opens the source that `issuer` names. A file is read now; a URL at the first token.
    pub fn open(issuer: &Issuer, clock: &Clock, client: &reqwest::Client) -> Result<Self, SettingsError> {
        let algorithms = issuer.algorithms.as_slice();
        match &issuer.keys {
            KeySource::Secret(secret) if secret.expose().len() < MIN_SECRET => {
                Err(SettingsError::ShortSecret(issuer.issuer.clone()))
            }
            KeySource::Secret(secret) => Ok(Self::Fixed(Arc::new(KeySet::secret(secret, algorithms)))),
            KeySource::PublicKey(pem) => KeySet::public_key(pem, algorithms)
                .map(|set| Self::Fixed(Arc::new(set)))
                .map_err(|problem| SettingsError::Key { issuer: issuer.issuer.clone(), problem }),
            KeySource::JwksFile(path) => open_file(path, issuer, clock),
            KeySource::JwksUrl(url) if !is_fit(url) => Err(SettingsError::Url(issuer.issuer.clone())),
            KeySource::JwksUrl(url) => {
                Ok(Self::Url(UrlKeys::new(url.clone(), &issuer.issuer, clock.clone(), client.clone())))
            }
        }
    }

    /// The keys as they are known now.
    pub fn current(&self) -> Arc<KeySet> {
        match self {
            Keys::Fixed(set) => Arc::clone(set),
            Keys::File(file) => file.current(),
            Keys::Url(url) => url.current(),
        }
    }

    /// Whether the source should be looked at again before these keys (or what was verified with them) are used.
    pub fn is_due(&self, now: Moment) -> bool {
        match self {
            Keys::Fixed(_) => false,
            Keys::File(file) => file.is_due(now),
            Keys::Url(url) => url.is_due(now),
        }
    }

    /// Looks at the source where that is due, and gives the keys to use. A source that fails leaves the old keys in use.
    ///
    /// # Errors
    /// 503 where no keys could be had yet.
    pub async fn fresh(&self) -> Result<Arc<KeySet>, Fault> {
        match self {
            Keys::Fixed(_) => {}
            Keys::File(file) => file.check().await,
            Keys::Url(url) => url.freshen().await,
        }
        let set = self.current();
        if set.is_empty() {
            return Err(unavailable());
        }
        Ok(set)
    }

    /// The same for a token that the source's owner has just given us: soon after the last time, too.
    pub async fn seek_soon(&self) -> Arc<KeySet> {
        match self {
            Keys::Url(url) => url.seek_soon().await,
            other => return other.seek().await,
        }
        self.current()
    }

    /// After a token named a key that is not in the set: asks the source again, unless it was asked only just now.
    pub async fn seek(&self) -> Arc<KeySet> {
        if let Keys::Url(url) = self {
            url.seek().await;
        }
        self.current()
    }
}

fn open_file(path: &Path, issuer: &Issuer, clock: &Clock) -> Result<Keys, SettingsError> {
    FileKeys::open(path, &issuer.issuer, clock.clone())
        .map(Keys::File)
        .map_err(|problem| SettingsError::Key { issuer: issuer.issuer.clone(), problem })
}

fn unavailable() -> Fault {
    Fault::gateway(
        Kind::PoolUnavailable,
        "Tokens cannot be verified right now: the keys of their issuer are not available.",
    )
    .code("identity_unavailable")
}

/// Whether keys may come from `url`: nobody on the way can put in their own.
fn is_fit(url: &::url::Url) -> bool {
    is_safe(url) && !has_user(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for (url, expected) in [
            ("https://id.example.com/jwks", true),
            ("http://127.0.0.1:8080/jwks", true),
            ("http://[::1]/jwks", true),
            ("http://localhost/jwks", true),
            ("http://id.example.com/jwks", false),
            ("http://localhost.evil.example/jwks", false),
            ("http://127.0.0.1@evil.example/jwks", false),
            ("https://user:pw@id.example.com/jwks", false),
            ("file:///etc/passwd", false),
            ("ftp://localhost/jwks", false),
        ] {
            assert_eq!(is_fit(&url.parse().expect("url")), expected, "{url}");
        }
    }
}
