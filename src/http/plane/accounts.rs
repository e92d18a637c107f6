//! `/api/v1/oauth`: what callers with the scope `accounts` see and change of their own accounts: those of their tenant that they, or
//! nobody in particular, added. Somebody else's account is not there for them: 404, as for one that never was.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::envelope::{Enveloped, page, success};
use super::listed::{Routes, delete, get, post, put};
use super::shape::Segment;
use super::{Paged, Plane, accounts_page, fault_of, read_body, read_optional_body, verified, who};
use crate::fault::{Fault, Kind};
use crate::gateway::onboard::renewal::Renewed;
use crate::gateway::onboard::{Ground, Listed, NewAccount};
use crate::gateway::reach::{Adder, Reach};
use crate::identity::Caller;
use crate::keybook::Scope;
use crate::oauth::Flow;
use crate::platform::auth::Scheme;
use crate::platform::profile::Platform;
use crate::pool::Dimension;

type Answered = Result<Response, Enveloped>;

pub(super) fn routes() -> Routes {
    Routes::new()
        .route("/api/v1/oauth/platforms", get(platforms))
        .route("/api/v1/oauth/accounts", get(list).post(add))
        .route("/api/v1/oauth/accounts/{id}", delete(remove))
        .route("/api/v1/oauth/accounts/{id}/toggle", put(toggle))
        .route("/api/v1/oauth/accounts/{id}/refresh", post(refresh))
}

/// Who calls, if they may manage accounts.
pub(super) async fn owner(plane: &Plane, headers: &HeaderMap) -> Result<std::sync::Arc<Caller>, Enveloped> {
    let caller = verified(plane, headers).await.map_err(Enveloped)?;
    if caller.has_scope(Scope::Accounts) {
        return Ok(caller);
    }
    Err(Enveloped(Fault::client(Kind::Forbidden, "This endpoint needs the scope 'accounts'.")))
}

async fn platforms(State(plane): State<Plane>, headers: HeaderMap) -> Answered {
    owner(&plane, &headers).await?;
    let ground = plane.onboard.ground();
    let platforms: Vec<Value> = ground.platforms.iter().map(|one| platform(one, &ground)).collect();
    Ok(success(&Value::from(platforms)))
}

/// By which ways accounts of a platform are added.
fn ways(platform: &Platform, ground: &Ground) -> Vec<&'static str> {
    let keys: &[&str] = match &platform.scheme {
        Scheme::BaiduIam(_) | Scheme::VolcApiKey(_) => &["api_key", "key_pair"],
        Scheme::BaiduV1Token(_) => &["client_credentials"],
        Scheme::SparkWs => &["app_key"],
        Scheme::None => &["none"],
        Scheme::Bearer | Scheme::XApiKey | Scheme::XGoogApiKey | Scheme::ZhipuJwt | Scheme::Cookie => {
            &["api_key"]
        }
    };
    let row =
        ground.oauth.for_platform(platform.name.as_str()).and_then(|provider| provider.account.as_ref());
    let flows = row.into_iter().flat_map(|row| &row.flows).map(|flow| match flow {
        Flow::Code => "oauth",
        Flow::Device => "device_code",
    });
    let page = ground.has_page(platform.name.as_str()).then_some("browser");
    keys.iter().copied().chain(flows).chain(page).collect()
}

fn platform(platform: &Platform, ground: &Ground) -> Value {
    json!({
        "platform_id": platform.name,
        "platform_name": platform.title,
        "description": platform.description,
        "is_enabled": true,
        "available_models": platform.models,
        "onboarding": ways(platform, ground),
        "credential": platform.scheme.wants().replace('`', ""),
    })
}

async fn list(State(plane): State<Plane>, headers: HeaderMap, paged: Paged) -> Answered {
    let caller = owner(&plane, &headers).await?;
    plane.onboard.refresh().await.map_err(|error| Enveloped(fault_of(error.into())))?;
    let (listed, next) = accounts_page(&plane, paged, &Reach::of(&caller)).map_err(Enveloped)?;
    let names = plane.onboard.platforms();
    let title = |listed: &Listed| {
        let platform = names.iter().find(|platform| platform.name == listed.record.platform);
        platform.map_or_else(|| listed.record.platform.to_string(), |platform| platform.title.clone())
    };
    let data: Vec<Value> = listed.iter().map(|listed| account(listed, &title(listed))).collect();
    Ok(page(&data, next.as_deref()))
}

/// Of a day's tokens, or else of a day's requests: what is used, and of how much.
fn quota(listed: &Listed) -> (Option<u64>, Option<u64>) {
    let left = listed.state.iter().flat_map(|state| &state.left);
    let daily =
        left.filter(|left| matches!(left.dimension, Dimension::DailyTokens | Dimension::DailyRequests));
    let daily = daily.max_by_key(|left| left.dimension == Dimension::DailyTokens);
    match daily {
        Some(left) => (Some(left.of.saturating_sub(left.units)), Some(left.of)),
        None => (None, listed.record.limits.daily_tokens.or(listed.record.limits.daily_requests)),
    }
}

fn account(listed: &Listed, title: &str) -> Value {
    let record = &listed.record;
    let (used, limit) = quota(listed);
    let state = listed.state.as_ref();
    json!({
        "id": record.id,
        "platform_id": record.platform,
        "platform_name": title,
        "account_name": record.name,
        "models": record.models.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "limits": record.limits,
        "weight": record.weight,
        "priority": record.priority,
        "quota_used": used,
        "quota_limit": limit,
        "is_active": record.enabled && (record.consent.is_some() || state.is_none_or(|state| state.is_enabled)),
        "is_expired": state.is_some_and(|state| state.is_expired)
            || record.consent.as_ref().is_some_and(|consent| consent.needs_reauth.is_some()),
        "consent": record.consent,
        "is_available": state.is_some(),
        "added_by": record.added_by.as_ref().map(|by| &by.subject),
        "source": if listed.is_of_file { "configuration" } else { "store" },
        "last_used_at": listed.last_used,
        "created_at": record.created,
        "updated_at": record.updated,
    })
}

async fn add(State(plane): State<Plane>, headers: HeaderMap, body: Bytes) -> Answered {
    let caller = owner(&plane, &headers).await?;
    let mut new: NewAccount = read_body(&body).map_err(Enveloped)?;
    if new.owner.is_some() || new.tenants.is_some() || new.base_url.is_some() {
        let why = "'owner', 'tenants' and 'base_url' are for operators: your account is your tenant's.";
        return Err(Enveloped(Fault::client(Kind::BadRequest, why)));
    }
    (new.owner, new.added_by) = (Some(caller.tenant.clone()), Adder::of(&caller));
    let record = plane.onboard.add(&who(&caller), new).await.map_err(refused)?;
    shown(&plane, &caller, &record.id)
}

fn refused(error: crate::gateway::onboard::OnboardError) -> Enveloped {
    Enveloped(fault_of(error))
}

/// The account as a list would show it.
fn shown(plane: &Plane, caller: &Caller, id: &str) -> Answered {
    let listed = plane.onboard.one(&Reach::of(caller), id);
    let listed = listed.ok_or_else(|| refused(crate::gateway::onboard::OnboardError::NotFound))?;
    let names = plane.onboard.platforms();
    let platform = names.iter().find(|platform| platform.name == listed.record.platform);
    Ok(success(&account(&listed, platform.map_or("", |platform| &platform.title))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Switch {
    is_active: bool,
}

async fn toggle(
    State(plane): State<Plane>,
    Segment(id): Segment,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    let caller = owner(&plane, &headers).await?;
    let wanted: Option<Switch> = read_optional_body(&body).map_err(Enveloped)?;
    let on = wanted.map(|switch| switch.is_active);
    plane.onboard.switch(&who(&caller), &Reach::of(&caller), &id, on).await.map_err(refused)?;
    shown(&plane, &caller, &id)
}

async fn remove(State(plane): State<Plane>, Segment(id): Segment, headers: HeaderMap) -> Answered {
    let caller = owner(&plane, &headers).await?;
    let removed = plane.consents.remove(&who(&caller), &Reach::of(&caller), &id).await;
    let (record, is_revoked) = removed.map_err(refused)?;
    Ok(success(&json!({"id": record.id, "deleted": true, "revoked": is_revoked})))
}

async fn refresh(State(plane): State<Plane>, Segment(id): Segment, headers: HeaderMap) -> Answered {
    let caller = owner(&plane, &headers).await?;
    // Another process may have just added it, or renewed it.
    plane.onboard.refresh().await.map_err(|error| refused(error.into()))?;
    let Some(listed) = plane.onboard.one(&Reach::of(&caller), &id) else {
        return Err(refused(crate::gateway::onboard::OnboardError::NotFound));
    };
    if listed.record.consent.is_some() {
        return match plane.renewals.renew_now(&crate::ids::AccountId::from(id.as_str())).await {
            Renewed::Newer => shown(&plane, &caller, &id),
            Renewed::NotNow => {
                let why = "The provider does not renew the token just now. Try again in a minute.";
                Err(Enveloped(Fault::upstream(Kind::UpstreamError, why)))
            }
            Renewed::TooOften(wait) => {
                let why = "This account's token was renewed by hand too often.";
                Err(Enveloped(Fault::client(Kind::RateLimited, why).retry_after(wait)))
            }
            Renewed::Never => {
                let why =
                    "Its token cannot be renewed (any more): add the account again with its owner's sign-in.";
                Err(Enveloped(Fault::client(Kind::BadRequest, why)))
            }
        };
    }
    match plane.onboard.trade_anew(&Reach::of(&caller), &id).await.map_err(refused)? {
        Some(true) => shown(&plane, &caller, &id),
        Some(false) => {
            let why = "The platform gave no token for this account's credential.";
            Err(Enveloped(Fault::upstream(Kind::UpstreamError, why)))
        }
        None => {
            let why = "There is nothing to refresh: this account has a key, which does not expire by itself.";
            Err(Enveloped(Fault::client(Kind::BadRequest, why)))
        }
    }
}
