//! What a provider granted.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::secret::Secret;

/// Tokens, and what came with them.
#[derive(Clone, Debug)]
pub struct Grant {
    pub access: Secret,
    /// Absent where the provider gives none, or keeps the one that it gave before.
    pub refresh: Option<Secret>,
    /// How long the access token lives from the moment of the answer; `None`: until it is revoked.
    pub lifetime: Option<Duration>,
    /// Granted, which may be less than was asked for; empty where the provider does not say.
    pub scopes: Vec<String>,
    pub id_token: Option<Secret>,
    /// What the provider's row wants kept beside the tokens (`openid`, `uid`, `resource_url`).
    pub carried: BTreeMap<String, String>,
}
