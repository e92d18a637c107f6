//! What the operator may say about callers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::ids::TenantId;
use crate::limits::Limits;
use crate::secret::Secret;

/// Who may call, and how much.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Issuers of JWTs that are trusted.
    pub jwt: Vec<Issuer>,
    /// Whether `sk-weir-…` keys are accepted too.
    pub keys: bool,
    /// Limits for callers whose tenant is not named in `tenants`.
    pub default_limits: Limits,
    /// Limits by tenant: a field given here replaces the default's.
    pub tenant_limits: HashMap<TenantId, Limits>,
}

/// One trusted issuer. Issuer and audience are mandatory: a token made for another service must not open this one.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Exactly the token's `iss`.
    pub issuer: String,
    /// The token's `aud` must hold one of these; at least one.
    pub audience: Vec<String>,
    pub keys: KeySource,
    /// Names as in JOSE (`RS256`…); at least one, and all of the kind that `keys` can verify.
    pub algorithms: Vec<jsonwebtoken::Algorithm>,
    pub claims: ClaimNames,
    /// Clock difference that is forgiven, at most 60 s.
    pub leeway: Duration,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A shared secret (HS*), at least 32 bytes.
    Secret(Secret),
    /// A public key, PEM.
    PublicKey(String),
    /// A JWKS file, read again when it changes.
    JwksFile(PathBuf),
    /// A JWKS URL: `https:`, or `http:` on a loopback host.
    JwksUrl(url::Url),
}

/// Which claims say what. `None`: the claim is not read.
#[derive(Clone, Debug)]
pub struct ClaimNames {
    /// The tenant; without the claim (or without this name) the tenant is the token's `sub`.
    pub tenant: Option<String>,
    /// Allowed models: an array or a space-separated string of names and globs.
    pub models: Option<String>,
    /// Scopes: an array or a space-separated string.
    pub scope: Option<String>,
}
