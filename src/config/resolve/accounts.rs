//! Accounts of the file: each with its platform, and with the credential that the platform's scheme asks for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::field::Field;
use super::super::platforms::{self, Platforms};
use super::super::raw::{self, Raw};
use super::super::report::{Position, Problems, check_name, suggestion};
use crate::ids::{AccountId, TenantId};
use crate::limits::Limits;
use crate::platform::auth::Credential;
use crate::platform::profile::Platform;
use crate::pool::settings::Account;

/// Ids that were taken, and where.
#[derive(Default)]
pub(super) struct Ids<'a>(HashMap<&'a str, Position>);

impl<'a> Ids<'a> {
    /// Takes the id in `field` of the thing at `owner`; notes where it is missing, odd or taken already.
    pub fn take(
        &mut self,
        key: &str,
        field: &'a Field<String>,
        owner: Position,
        problems: &Problems,
    ) -> Option<&'a str> {
        if field.is_absent() {
            problems.add(owner, format!("`{key}` is missing"));
        }
        let (id, at) = field.placed()?;
        if !is_id(id) {
            problems.add(at, "an id is 1 to 64 of the characters a-z, A-Z, 0-9, `-`, `_` and `.`");
            return None;
        }
        if let Some(first) = self.0.get(id.as_str()) {
            problems.add_with(
                at,
                format!("the id `{id}` is taken"),
                format!("it stands at line {} already", first.line),
            );
            return None;
        }
        self.0.insert(id, at);
        Some(id)
    }
}

/// Ids end up in headers, keys of the store and labels: nothing that one of them would have to quote.
fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// All accounts that can be made out.
pub(super) fn accounts(raw: &Raw, platforms: &Platforms, problems: &Problems) -> Vec<Account> {
    let tenants = known_tenants(raw);
    let mut ids = Ids::default();
    let given = raw.accounts.get().into_iter().flatten().filter_map(Field::placed);
    given
        .filter_map(|(account, at)| {
            let id = ids.take("id", &account.id, at, problems);
            let platform = self::platform(&account.platform, at, platforms, problems);
            let platform = platform.and_then(|platform| moved(platform, &account.base_url, problems));
            let platform = platform.and_then(|platform| match account.headers.get() {
                Some(headers) => platforms::with_headers(platform, headers, problems),
                None => Some(platform),
            });
            let credential = credential(account, at, platform.as_deref(), problems);
            limits(&account.limits, problems);
            if let Some((0, at)) = account.weight.placed() {
                problems.add_with(
                    at,
                    "a weight of 0 is never chosen",
                    "write `enabled: false` to rest an account",
                );
            }
            Some(Account {
                model_limits: model_limits(account, problems),
                models: models(account, problems),
                tenants: self::tenants(account, tenants.as_ref(), problems),
                owner: owner(account, tenants.as_ref(), problems),
                limits: account.limits.or(Limits::default()),
                weight: account.weight.or(1),
                priority: account.priority.or(0),
                is_enabled: account.enabled.or(true),
                consent: None,
                last_used: Default::default(),
                id: AccountId::from(id?),
                platform: platform?,
                credential: credential?,
            })
        })
        .collect()
}

/// The platform that `field` names.
pub(super) fn platform(
    field: &Field<String>,
    owner: Position,
    platforms: &Platforms,
    problems: &Problems,
) -> Option<Arc<Platform>> {
    if field.is_absent() {
        problems.add(owner, "`platform` is missing");
    }
    let (name, at) = field.placed()?;
    platforms.find(name, at, problems)
}

fn moved(platform: Arc<Platform>, base_url: &Field<String>, problems: &Problems) -> Option<Arc<Platform>> {
    let Some((url, at)) = base_url.placed() else {
        return if base_url.is_absent() { Some(platform) } else { None };
    };
    platforms::at_base_url(&platform, url, at, problems)
}

/// Every limit that was given must let something through.
pub(super) fn limits(field: &Field<Limits>, problems: &Problems) {
    let Some((limits, at)) = field.placed() else { return };
    let Limits { rpm, tpm, concurrency, daily_requests, daily_tokens, monthly_budget, burst } = *limits;
    let all = [
        ("rpm", rpm),
        ("tpm", tpm),
        ("concurrency", concurrency),
        ("daily_requests", daily_requests),
        ("daily_tokens", daily_tokens),
        ("monthly_budget", monthly_budget),
        ("burst", burst),
    ];
    for (name, _) in all.iter().filter(|(_, limit)| *limit == Some(0)) {
        problems.add_with(at, format!("`{name}: 0` lets nothing through"), "leave it out for no limit");
    }
}

/// Limits for single models. A name that the account does not serve would limit nothing.
fn model_limits(account: &raw::Account, problems: &Problems) -> Vec<(Arc<str>, Limits)> {
    let named = account.model_limits.get().map_or(&[][..], |named| &named.0);
    let of_models = named.iter().map(|(key, field)| {
        limits(field, problems);
        (Arc::from(key.text.as_str()), field.or(Limits::default()))
    });
    of_models.collect()
}

/// The credential, from whichever keys were given.
fn credential(
    account: &raw::Account,
    at: Position,
    platform: Option<&Platform>,
    problems: &Problems,
) -> Option<Credential> {
    let raw::Account { api_key, access_key, secret_key, app_id, api_secret, .. } = account;
    let parts = [
        ("api_key", api_key.is_absent()),
        ("access_key", access_key.is_absent()),
        ("secret_key", secret_key.is_absent()),
        ("app_id", app_id.is_absent()),
        ("api_secret", api_secret.is_absent()),
    ];
    let given: Vec<&str> = parts.iter().filter(|(_, absent)| !absent).map(|(name, _)| *name).collect();
    let credential = match given.as_slice() {
        [] => Credential::None,
        ["api_key"] => Credential::ApiKey(secret(api_key, problems)?),
        ["access_key", "secret_key"] => {
            let (access_key, secret_key) = (secret(access_key, problems), secret(secret_key, problems));
            Credential::KeyPair { access_key: access_key?, secret_key: secret_key? }
        }
        ["api_key", "app_id", "api_secret"] => {
            let (api_key, api_secret) = (secret(api_key, problems), secret(api_secret, problems));
            Credential::App { app_id: app_id.get()?.clone(), api_key: api_key?, api_secret: api_secret? }
        }
        _ => {
            problems.add_with(
                at,
                format!("{} do not make up a credential", given.join(" and ")),
                "give `api_key`, or `access_key` and `secret_key`, or `app_id`, `api_key` and `api_secret`",
            );
            return None;
        }
    };
    platforms::check_credential(platform?, &credential, at, problems).then_some(credential)
}

fn secret(field: &Field<crate::secret::Secret>, problems: &Problems) -> Option<crate::secret::Secret> {
    let (secret, at) = field.placed()?;
    let text = secret.expose();
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        problems.add(at, "a key is not empty and has no spaces or line breaks in it");
        return None;
    }
    Some(secret.clone())
}

fn models(account: &raw::Account, problems: &Problems) -> Vec<(String, String)> {
    let Some((models, at)) = account.models.placed() else { return Vec::new() };
    let mut seen = HashSet::new();
    for (name, own) in &models.0 {
        check_name("a model's name", name, at, problems);
        check_name("a model's name", own, at, problems);
        if !seen.insert(name) {
            problems.add(at, format!("the model `{name}` stands there twice"));
        }
    }
    models.0.clone()
}

/// The tenants that the file names, where it names any: then a name that is not among them is a slip.
fn known_tenants(raw: &Raw) -> Option<HashSet<&str>> {
    let tenants = raw.callers.get()?.tenants.get()?;
    Some(tenants.0.iter().map(|(key, _)| key.text.as_str()).collect())
}

fn check_tenant(tenant: &str, at: Position, known: Option<&HashSet<&str>>, problems: &Problems) {
    check_name("a tenant's name", tenant, at, problems);
    let Some(known) = known.filter(|known| !known.is_empty() && !known.contains(tenant)) else { return };
    let add = format!("a tenant with no limits of its own stands there as `{tenant}: {{}}`");
    let help = match suggestion(tenant, known.iter().copied()) {
        Some(meant) if meant.starts_with("did you mean") => format!("{meant} ({add})"),
        _ => add,
    };
    problems.add_with(at, format!("there is no tenant `{tenant}` in `callers.tenants`"), help);
}

fn tenants(account: &raw::Account, known: Option<&HashSet<&str>>, problems: &Problems) -> Vec<TenantId> {
    let given = account.tenants.get().into_iter().flatten().filter_map(Field::placed);
    given
        .map(|(tenant, at)| {
            check_tenant(tenant, at, known, problems);
            TenantId::from(tenant.as_str())
        })
        .collect()
}

fn owner(account: &raw::Account, known: Option<&HashSet<&str>>, problems: &Problems) -> Option<TenantId> {
    let (owner, at) = account.owner.placed()?;
    check_tenant(owner, at, known, problems);
    Some(TenantId::from(owner.as_str()))
}
