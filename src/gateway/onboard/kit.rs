//! What an account proves itself with, as the vault keeps it: a credential of its owner's, or the tokens of a consent, or (where a
//! consent says who it is and does not open the platform) both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::OnboardError;
use crate::oauth::Grant;
use crate::platform::auth::Credential;
use crate::secret::Secret;
use crate::store::StoreError;
use crate::vault::{Sealed, Vault};

/// What the vault binds credentials of accounts to.
const KIND: &str = "account";

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Kit {
    own: Credential,
    pub tokens: Option<Tokens>,
}

/// The tokens of a consent.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    pub access: Secret,
    pub refresh: Option<Secret>,
    /// What the provider's row wants kept beside them.
    pub carried: BTreeMap<String, String>,
}

impl Tokens {
    pub(super) fn of(grant: &Grant) -> Self {
        Self { access: grant.access.clone(), refresh: grant.refresh.clone(), carried: grant.carried.clone() }
    }

    /// What a provider's answer to the refresh token makes of them.
    pub(super) fn renewed(&self, grant: &Grant) -> Self {
        let mut carried = self.carried.clone();
        carried.extend(grant.carried.clone());
        let refresh = grant.refresh.clone().or_else(|| self.refresh.clone());
        Self { access: grant.access.clone(), refresh, carried }
    }
}

impl Kit {
    /// Of a credential alone.
    pub(super) fn of(own: Credential) -> Self {
        Self { own, tokens: None }
    }

    /// Of a consent; with `key` where its tokens do not open the platform.
    pub(super) fn of_consent(tokens: Tokens, key: Option<Secret>) -> Self {
        Self { own: key.map_or(Credential::None, Credential::ApiKey), tokens: Some(tokens) }
    }

    /// The same with other tokens.
    pub(super) fn with(&self, tokens: Tokens) -> Self {
        Self { own: self.own.clone(), tokens: Some(tokens) }
    }

    /// What goes to the platform.
    pub(super) fn credential(&self) -> Credential {
        match (&self.own, &self.tokens) {
            (Credential::None, Some(tokens)) => Credential::ApiKey(tokens.access.clone()),
            (own, _) => own.clone(),
        }
    }

    /// The access token, where that is what goes to the platform.
    pub(super) fn access(&self) -> Option<&Secret> {
        match (&self.own, &self.tokens) {
            (Credential::None, Some(tokens)) => Some(&tokens.access),
            _ => None,
        }
    }

    /// Whether both have the same tokens.
    pub(super) fn has_tokens_of(&self, other: &Kit) -> bool {
        match (&self.tokens, &other.tokens) {
            (Some(own), Some(other)) => own.access == other.access && own.refresh == other.refresh,
            _ => false,
        }
    }

    /// Where the provider says that the tokens are good: somebody else's word, for [`crate::oauth::Provider::resource`] to judge.
    pub(super) fn resource_url(&self) -> Option<&str> {
        self.tokens.as_ref()?.carried.get("resource_url").map(String::as_str)
    }

    /// Encrypts it for the account `id`.
    pub(super) fn seal(&self, id: &str, vault: &Vault) -> Result<Sealed, OnboardError> {
        let mut shown = Exposed::of(&self.own);
        if let Some(tokens) = &self.tokens {
            shown.access_token = Some(tokens.access.expose());
            shown.refresh_token = tokens.refresh.as_ref().map(Secret::expose);
            shown.carried = Some(&tokens.carried);
        }
        let plain = serde_json::to_string(&shown).map(Secret::new);
        let plain = plain.map_err(|error| StoreError::record(id, &error))?;
        Ok(vault.seal(KIND, id, &plain)?)
    }

    /// Decrypts it.
    pub(super) fn open(id: &str, sealed: &Sealed, vault: &Vault) -> Result<Self, OnboardError> {
        let opened = vault.open(KIND, id, sealed)?;
        let unknown = || StoreError::record(id, &"its credential is of no known kind");
        let mut parts: Parts = serde_json::from_str(opened.expose()).map_err(|_| unknown())?;
        let tokens = parts.access_token.take().map(|access| Tokens {
            access,
            refresh: parts.refresh_token.take(),
            carried: parts.carried.take().unwrap_or_default(),
        });
        let own = parts.credential().ok_or_else(unknown)?;
        Ok(Self { own, tokens })
    }
}

/// A credential as it is encrypted.
#[derive(Default, Deserialize)]
pub(super) struct Parts {
    pub api_key: Option<Secret>,
    pub access_key: Option<Secret>,
    pub secret_key: Option<Secret>,
    pub app_id: Option<Secret>,
    pub api_secret: Option<Secret>,
    pub access_token: Option<Secret>,
    pub refresh_token: Option<Secret>,
    pub carried: Option<BTreeMap<String, String>>,
}

/// The same on its way out: a secret does not serialize by itself.
#[derive(Default, Serialize)]
struct Exposed<'a> {
    api_key: Option<&'a str>,
    access_key: Option<&'a str>,
    secret_key: Option<&'a str>,
    app_id: Option<&'a str>,
    api_secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    carried: Option<&'a BTreeMap<String, String>>,
}

impl Parts {
    /// The credential that the parts make up.
    pub(super) fn credential(self) -> Option<Credential> {
        match (self.api_key, self.access_key, self.secret_key, self.app_id, self.api_secret) {
            (None, None, None, None, None) => Some(Credential::None),
            (Some(key), None, None, None, None) => Some(Credential::ApiKey(key)),
            (None, Some(access_key), Some(secret_key), None, None) => {
                Some(Credential::KeyPair { access_key, secret_key })
            }
            (Some(api_key), None, None, Some(app_id), Some(api_secret)) => {
                Some(Credential::App { app_id: app_id.expose().to_owned(), api_key, api_secret })
            }
            _ => None,
        }
    }
}

impl<'a> Exposed<'a> {
    fn of(credential: &'a Credential) -> Self {
        match credential {
            Credential::ApiKey(key) => Self { api_key: Some(key.expose()), ..Self::default() },
            Credential::KeyPair { access_key, secret_key } => Self {
                access_key: Some(access_key.expose()),
                secret_key: Some(secret_key.expose()),
                ..Self::default()
            },
            Credential::App { app_id, api_key, api_secret } => Self {
                app_id: Some(app_id),
                api_key: Some(api_key.expose()),
                api_secret: Some(api_secret.expose()),
                ..Self::default()
            },
            Credential::None => Self::default(),
        }
    }
}
