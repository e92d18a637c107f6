//! TLS for callers: rustls, HTTP/2 by ALPN, and certificates that are replaced while connections run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {why}")]
    File { path: String, why: String },
    #[error("the key cannot be used: {0}")]
    Key(String),
    #[error("the certificate and the key do not belong together: {0}")]
    Mismatch(String),
}

/// A certificate and its key, read again when the files change.
#[derive(Debug)]
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
    seen: parking_lot::Mutex<Stamps>,
}

type Stamps = (Option<SystemTime>, Option<SystemTime>);

impl Certificate {
    /// Reads both files (PEM).
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let stamps = (stamp(cert), stamp(key));
        let current = ArcSwap::from_pointee(read(cert, key)?);
        let (cert, key) = (cert.to_owned(), key.to_owned());
        Ok(Self { cert, key, current, seen: parking_lot::Mutex::new(stamps) })
    }

    /// Reads the files again where they have changed. A pair that does not fit leaves the old one in force: between
    /// writing one file and the other there is always such a moment.
    ///
    /// # Errors
    /// See [`TlsError`]; told again only when the files change again.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let stamps = (stamp(&self.cert), stamp(&self.key));
        if std::mem::replace(&mut *self.seen.lock(), stamps) == stamps {
            return Ok(false);
        }
        self.current.store(Arc::new(read(&self.cert, &self.key)?));
        Ok(true)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn stamp(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn read(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let trouble = |path: &Path, why: String| TlsError::File { path: path.display().to_string(), why };
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| trouble(cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(trouble(cert, "no certificate in it".into()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| trouble(key, error.to_string()))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|error| TlsError::Key(error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| TlsError::Mismatch(error.to_string()))?;
    Ok(certified)
}

/// How to speak TLS with callers: 1.2 and 1.3, HTTP/2 and HTTP/1.1.
///
/// # Errors
/// Where the crypto provider lacks what rustls needs, which ring does not.
pub fn server_config(certificate: Arc<Certificate>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Key(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
