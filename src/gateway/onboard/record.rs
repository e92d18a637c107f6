//! An account as it is kept: what anybody may know of it in plain JSON, and its credential encrypted.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::OnboardError;
use crate::ids::{AccountId, PlatformName, TenantId, random_name};
use crate::limits::Limits;
use crate::platform::auth::Credential;
use crate::platform::profile::Platform;
use crate::pool::settings::{Account, LastUsed};
use crate::secret::Secret;
use crate::store::{Row, StoreError};
use crate::vault::{Sealed, Vault};

/// What the vault binds credentials of accounts to.
const KIND: &str = "account";

/// Longest name, in bytes.
const MAX_NAME: usize = 256;

/// Longest part of a credential, in bytes: what still fits into a header.
const MAX_SECRET: usize = 8 * 1024;

/// Most models or tenants of an account.
const MAX_LIST: usize = 1000;

/// What is known of an account. Nothing in it opens anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// `acc_` and 16 characters.
    pub id: String,
    pub platform: PlatformName,
    /// What its owner calls it.
    pub name: String,
    /// Who sees and manages it; `None`: operators alone.
    #[serde(default)]
    pub owner: Option<TenantId>,
    /// Whom it carries; empty: everyone.
    #[serde(default)]
    pub tenants: Vec<TenantId>,
    /// (Name in routes, the account's own id for it); empty: all of the platform's.
    #[serde(default)]
    pub models: Vec<(String, String)>,
    #[serde(default)]
    pub limits: Limits,
    /// Further limits for one model, by its name in routes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub model_limits: BTreeMap<String, Limits>,
    pub weight: u32,
    pub priority: u32,
    pub enabled: bool,
    /// Where it is reached, if not where its platform is. Operators alone may say so.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970.
    pub updated: u64,
}

/// A row of the table of accounts.
#[derive(Serialize, Deserialize)]
struct Kept {
    record: AccountRecord,
    credential: Sealed,
}

/// What is asked for when an account is added.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    pub platform: String,
    #[serde(alias = "name")]
    pub account_name: String,
    pub api_key: Option<Secret>,
    pub access_key: Option<Secret>,
    pub secret_key: Option<Secret>,
    pub app_id: Option<Secret>,
    pub api_secret: Option<Secret>,
    #[serde(default)]
    pub models: Vec<String>,
    #[serde(default)]
    pub limits: Limits,
    /// Further limits for one model, by its name in routes.
    #[serde(default)]
    pub model_limits: BTreeMap<String, Limits>,
    pub weight: Option<u32>,
    pub priority: Option<u32>,
    /// For operators alone: whose it is. A caller's account is its tenant's.
    pub owner: Option<TenantId>,
    /// For operators alone: whom it carries, where that is not its owner alone (or everyone, without an owner).
    pub tenants: Option<Vec<TenantId>>,
    /// For operators alone: a caller would send the gateway, and the credential, wherever it likes.
    pub base_url: Option<String>,
}

/// A credential as it is encrypted.
#[derive(Default, Deserialize)]
struct Parts {
    api_key: Option<Secret>,
    access_key: Option<Secret>,
    secret_key: Option<Secret>,
    app_id: Option<Secret>,
    api_secret: Option<Secret>,
}

/// The same on its way out: a secret does not serialize by itself.
#[derive(Default, Serialize)]
struct Exposed<'a> {
    api_key: Option<&'a str>,
    access_key: Option<&'a str>,
    secret_key: Option<&'a str>,
    app_id: Option<&'a str>,
    api_secret: Option<&'a str>,
}

impl Parts {
    /// The credential that the parts make up.
    fn credential(self) -> Option<Credential> {
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

fn plain(credential: &Credential) -> Result<Secret, serde_json::Error> {
    let parts = match credential {
        Credential::ApiKey(key) => Exposed { api_key: Some(key.expose()), ..Exposed::default() },
        Credential::KeyPair { access_key, secret_key } => Exposed {
            access_key: Some(access_key.expose()),
            secret_key: Some(secret_key.expose()),
            ..Exposed::default()
        },
        Credential::App { app_id, api_key, api_secret } => Exposed {
            app_id: Some(app_id),
            api_key: Some(api_key.expose()),
            api_secret: Some(api_secret.expose()),
            ..Exposed::default()
        },
        Credential::None => Exposed::default(),
    };
    serde_json::to_string(&parts).map(Secret::new)
}

fn check_limits(limits: &Limits, of_models: &BTreeMap<String, Limits>) -> Result<(), OnboardError> {
    if of_models.len() > MAX_LIST || !of_models.keys().all(|model| is_name(model)) {
        let why = "'model_limits' are at most 1000 names of 1 to 256 bytes.";
        return Err(OnboardError::Invalid(why.to_owned()));
    }
    match of_models.values().chain([limits]).find_map(Limits::first_zero) {
        Some(limit) => {
            Err(OnboardError::Invalid(format!("The limit '{limit}' is 0: leave it out for no limit.")))
        }
        None => Ok(()),
    }
}

impl NewAccount {
    /// The record and the credential that are asked for, checked against the platform.
    pub(super) fn read(
        self,
        platform: &Platform,
        now: u64,
    ) -> Result<(AccountRecord, Credential), OnboardError> {
        let invalid = |why: String| Err(OnboardError::Invalid(why));
        let Self {
            account_name,
            models,
            limits,
            model_limits,
            weight,
            priority,
            owner,
            tenants,
            base_url,
            ..
        } = self;
        if !is_name(&account_name) {
            return invalid("'account_name' is 1 to 256 bytes without control characters.".to_owned());
        }
        if models.len() > MAX_LIST || !models.iter().all(|model| is_name(model)) {
            return invalid("'models' are at most 1000 names of 1 to 256 bytes.".to_owned());
        }
        check_limits(&limits, &model_limits)?;
        if weight == Some(0) {
            return invalid("A 'weight' of 0 is never chosen.".to_owned());
        }
        let owned: Vec<TenantId> = owner.iter().cloned().collect();
        let tenants = tenants.unwrap_or(owned);
        if tenants.len() > MAX_LIST || !tenants.iter().chain(&owner).all(|tenant| is_name(tenant.as_str())) {
            return invalid("Tenants are at most 1000 names of 1 to 256 bytes.".to_owned());
        }
        if let Some(Err(wrong)) = base_url.as_deref().map(|url| platform.with_base_url(url)) {
            return invalid(format!("'base_url' {}.", wrong.why));
        }
        let parts = [self.api_key, self.access_key, self.secret_key, self.app_id, self.api_secret];
        if !parts.iter().flatten().all(is_usable) {
            return invalid(
                "A credential is 1 to 8192 printable characters without spaces in it.".to_owned(),
            );
        }
        let [api_key, access_key, secret_key, app_id, api_secret] = parts;
        let credential = Parts { api_key, access_key, secret_key, app_id, api_secret }.credential();
        let Some(credential) = credential.filter(|credential| platform.scheme.takes(credential)) else {
            return invalid(format!("{} takes {}.", platform.name, platform.scheme.wants()));
        };
        let record = AccountRecord {
            id: random_name("acc_", 16),
            platform: platform.name.clone(),
            name: account_name,
            owner,
            tenants,
            models: models.into_iter().map(|model| (model.clone(), model)).collect(),
            limits,
            model_limits,
            weight: weight.unwrap_or(1),
            priority: priority.unwrap_or(0),
            enabled: true,
            base_url,
            created: now,
            updated: now,
        };
        Ok((record, credential))
    }
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.contains(char::is_control)
}

fn is_usable(secret: &Secret) -> bool {
    let text = secret.expose();
    (1..=MAX_SECRET).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// An account of the store, in memory.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub version: u64,
    pub record: Arc<AccountRecord>,
    pub sealed: Sealed,
    pub credential: Credential,
}

impl Held {
    /// Reads a row.
    pub fn read(row: &Row, vault: &Vault) -> Result<Self, OnboardError> {
        let kept: Kept =
            serde_json::from_slice(&row.value).map_err(|error| StoreError::record(&row.id, &error))?;
        // A row under another's id would be that other's account.
        if kept.record.id != row.id {
            return Err(StoreError::record(&row.id, &"it belongs to another id").into());
        }
        let credential = open(&kept.record.id, &kept.credential, vault)?;
        Ok(Self { version: row.version, record: Arc::new(kept.record), sealed: kept.credential, credential })
    }

    /// The same, as `vault` reads it.
    pub fn reopened(&self, vault: &Vault) -> Result<Self, OnboardError> {
        Ok(Self { credential: open(&self.record.id, &self.sealed, vault)?, ..self.clone() })
    }

    /// What the pool is given; an error where the configuration has no place for it.
    pub fn account(&self, platforms: &[Arc<Platform>], last_used: LastUsed) -> Result<Account, String> {
        let record = &self.record;
        let platform = platforms.iter().find(|platform| platform.name == record.platform);
        let platform =
            platform.ok_or_else(|| format!("there is no platform '{}' any more", record.platform))?;
        if !platform.scheme.takes(&self.credential) {
            return Err(format!("{} takes {} now", platform.name, platform.scheme.wants()));
        }
        let platform = match &record.base_url {
            None => Arc::clone(platform),
            Some(url) => Arc::new(platform.with_base_url(url).map_err(|wrong| wrong.why.to_string())?),
        };
        Ok(Account {
            id: AccountId::from(record.id.as_str()),
            platform,
            credential: self.credential.clone(),
            owner: record.owner.clone(),
            tenants: record.tenants.clone(),
            models: record.models.clone(),
            limits: record.limits,
            model_limits: record
                .model_limits
                .iter()
                .map(|(model, limits)| (Arc::from(model.as_str()), *limits))
                .collect(),
            weight: record.weight,
            priority: record.priority,
            is_enabled: record.enabled,
            last_used,
        })
    }
}

fn open(id: &str, sealed: &Sealed, vault: &Vault) -> Result<Credential, OnboardError> {
    let opened = vault.open(KIND, id, sealed)?;
    let parts: Option<Parts> = serde_json::from_str(opened.expose()).ok();
    let credential = parts.and_then(Parts::credential);
    credential.ok_or_else(|| StoreError::record(id, &"its credential is of no known kind").into())
}

/// The bytes of a row, its credential encrypted anew.
pub(super) fn sealed_row(
    record: &AccountRecord,
    credential: &Credential,
    vault: &Vault,
) -> Result<Vec<u8>, OnboardError> {
    let plain = plain(credential).map_err(|error| StoreError::record(&record.id, &error))?;
    row(record, vault.seal(KIND, &record.id, &plain)?)
}

/// The bytes of a row.
pub(super) fn row(record: &AccountRecord, credential: Sealed) -> Result<Vec<u8>, OnboardError> {
    let kept = Kept { record: record.clone(), credential };
    serde_json::to_vec(&kept).map_err(|error| StoreError::record(&record.id, &error).into())
}
