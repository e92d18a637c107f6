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

impl Grant {
    /// This grant, renewed by `newer`: what the newer one does not say stays.
    #[must_use]
    pub fn renewed(self, newer: Grant) -> Grant {
        let scopes = if newer.scopes.is_empty() { self.scopes } else { newer.scopes };
        let mut carried = self.carried;
        carried.extend(newer.carried);
        Grant {
            refresh: newer.refresh.or(self.refresh),
            id_token: newer.id_token.or(self.id_token),
            scopes,
            carried,
            ..newer
        }
    }
}
