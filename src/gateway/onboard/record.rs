//! An account as it is kept: what anybody may know of it in plain JSON, and its credential encrypted.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::OnboardError;
use super::kit::{Kit, Parts};
use crate::gateway::reach::{Adder, Reach};
use crate::ids::{AccountId, PlatformName, TenantId, random_name};
use crate::limits::Limits;
use crate::oauth;
use crate::platform::auth::Credential;
use crate::platform::profile::Platform;
use crate::pool::settings::{Account, LastUsed};
use crate::secret::Secret;
use crate::store::{Row, StoreError};
use crate::vault::{Sealed, Vault};

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
    /// Who of them added it, and alone manages it; `None`: nobody in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_by: Option<Adder>,
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
    /// Given where it came by OAuth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
}

/// Whose consent an account lives on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// Through which provider.
    pub provider: String,
    /// Who agreed, as the provider knows them.
    #[serde(default)]
    pub subject: Option<String>,
    /// Their name there.
    #[serde(default)]
    pub person: Option<String>,
    #[serde(default)]
    pub scopes: Vec<String>,
    /// When they agreed, in seconds since 1970.
    #[serde(default)]
    pub given: u64,
    /// When the access token ends, in seconds since 1970; `None`: not by itself.
    #[serde(default)]
    pub expires: Option<u64>,
    /// How long it lived when it was new, in seconds.
    #[serde(default)]
    pub lifetime: Option<u64>,
    /// Why it cannot be renewed any more: somebody must agree again.
    #[serde(default)]
    pub needs_reauth: Option<String>,
}

impl Consent {
    /// What is the same for all tokens of one consent.
    fn key(&self) -> Arc<str> {
        Arc::from(format!("{}/{}/{}", self.provider, self.subject.as_deref().unwrap_or_default(), self.given))
    }
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
    /// Nobody says it of themselves.
    #[serde(skip)]
    pub added_by: Option<Adder>,
    /// For operators alone: whom it carries, where that is not its owner alone (or everyone, without an owner).
    pub tenants: Option<Vec<TenantId>>,
    /// For operators alone: a caller would send the gateway, and the credential, wherever it likes.
    pub base_url: Option<String>,
}

fn check_names(account_name: &str, models: &[String]) -> Result<(), OnboardError> {
    if !is_name(account_name) {
        let why = "'account_name' is 1 to 256 bytes without control characters.";
        return Err(OnboardError::Invalid(why.to_owned()));
    }
    if models.len() > MAX_LIST || !models.iter().all(|model| is_name(model)) {
        return Err(OnboardError::Invalid("'models' are at most 1000 names of 1 to 256 bytes.".to_owned()));
    }
    Ok(())
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
            added_by,
            tenants,
            base_url,
            ..
        } = self;
        check_names(&account_name, &models)?;
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
        let credential =
            Parts { api_key, access_key, secret_key, app_id, api_secret, ..Parts::default() }.credential();
        let Some(credential) = credential.filter(|credential| platform.scheme.takes(credential)) else {
            return invalid(format!("{} takes {}.", platform.name, platform.scheme.wants()));
        };
        let record = AccountRecord {
            id: random_name("acc_", 16),
            platform: platform.name.clone(),
            name: account_name,
            owner,
            added_by,
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
            consent: None,
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
    pub kit: Kit,
}

impl Held {
    /// Reads a row.
    pub fn read(row: &Row, vault: &Vault) -> Result<Self, OnboardError> {
        let kept: Kept = row.read()?;
        // A row under another's id would be that other's account.
        if kept.record.id != row.id {
            return Err(StoreError::record(&row.id, &"it belongs to another id").into());
        }
        let kit = Kit::open(&kept.record.id, &kept.credential, vault)?;
        Ok(Self { version: row.version, record: Arc::new(kept.record), sealed: kept.credential, kit })
    }

    /// Whether somebody with this reach may see and change it.
    pub fn is_within(&self, reach: &Reach) -> bool {
        reach.has(self.record.owner.as_ref(), self.record.added_by.as_ref())
    }

    /// The same, as `vault` reads it.
    pub fn reopened(&self, vault: &Vault) -> Result<Self, OnboardError> {
        Ok(Self { kit: Kit::open(&self.record.id, &self.sealed, vault)?, ..self.clone() })
    }

    /// Where its tokens are good, if they may go there by the configuration of today.
    fn resource(&self, oauth: &oauth::Settings) -> Option<String> {
        let name = &self.record.consent.as_ref()?.provider;
        let provider = oauth.providers.iter().find(|provider| provider.name == *name)?;
        provider.resource(self.kit.resource_url()?)
    }

    /// What the pool is given; an error where the configuration has no place for it.
    pub fn account(
        &self,
        platforms: &[Arc<Platform>],
        oauth: &oauth::Settings,
        last_used: LastUsed,
    ) -> Result<Account, String> {
        let record = &self.record;
        let platform = platforms.iter().find(|platform| platform.name == record.platform);
        let platform =
            platform.ok_or_else(|| format!("there is no platform '{}' any more", record.platform))?;
        let credential = self.kit.credential();
        if !platform.scheme.takes(&credential) {
            return Err(format!("{} takes {} now", platform.name, platform.scheme.wants()));
        }
        let platform = match record.base_url.clone().or_else(|| self.resource(oauth)) {
            None => Arc::clone(platform),
            Some(url) => Arc::new(platform.with_base_url(&url).map_err(|wrong| wrong.why.to_string())?),
        };
        let platform = match &record.consent {
            None => platform,
            Some(consent) => with_headers(&platform, consent, oauth)?,
        };
        Ok(Account {
            id: AccountId::from(record.id.as_str()),
            platform,
            credential,
            consent: record.consent.as_ref().map(Consent::key),
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
            // Nobody asks a platform with a token that is known to be dead.
            is_enabled: record.enabled
                && record.consent.as_ref().is_none_or(|consent| consent.needs_reauth.is_none()),
            last_used,
        })
    }
}

/// The platform, with what goes out with every request of an account that came this way.
fn with_headers(
    platform: &Arc<Platform>,
    consent: &Consent,
    oauth: &oauth::Settings,
) -> Result<Arc<Platform>, String> {
    let provider = oauth.providers.iter().find(|provider| provider.name == consent.provider);
    let Some(row) = provider.and_then(|provider| provider.account.as_ref()) else {
        return Ok(Arc::clone(platform));
    };
    let mut changed = Platform::clone(platform);
    for (name, value) in &row.headers {
        changed = changed
            .with_fixed_header(name, value)
            .map_err(|wrong| format!("{} {}", wrong.field, wrong.why))?;
    }
    Ok(Arc::new(changed))
}

/// The bytes of a row, its credential encrypted anew.
pub(super) fn sealed_row(record: &AccountRecord, kit: &Kit, vault: &Vault) -> Result<Vec<u8>, OnboardError> {
    row(record, kit.seal(&record.id, vault)?)
}

/// The bytes of a row.
pub(super) fn row(record: &AccountRecord, credential: Sealed) -> Result<Vec<u8>, OnboardError> {
    let kept = Kept { record: record.clone(), credential };
    serde_json::to_vec(&kept).map_err(|error| StoreError::record(&record.id, &error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever was written before it was noted who adds an account is nobody's in particular, and is written as it was.
    #[test]
    fn an_older_record_is_nobodys_in_particular() {
        let old = r#"{"id":"acc_1","platform":"openai","name":"n","owner":"acme","tenants":["acme"],"models":[],"limits":{},"weight":1,"priority":0,"enabled":true,"base_url":null,"created":1,"updated":1}"#;
        let record: AccountRecord = serde_json::from_str(old).expect("readable");
        assert_eq!(record.added_by, None);
        assert!(!serde_json::to_string(&record).expect("written").contains("added_by"));
        let adder = Adder { issuer: None, subject: "per_1".into() };
        let record = AccountRecord { added_by: Some(adder), ..record };
        let text = serde_json::to_string(&record).expect("written");
        assert!(text.contains(r#""added_by":{"subject":"per_1"}"#), "{text}");
        assert_eq!(serde_json::from_str::<AccountRecord>(&text).expect("readable"), record);
    }
}
