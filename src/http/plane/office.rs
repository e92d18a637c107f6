//! `/admin`: what operators see and change, of all tenants.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::listed::{Routes, delete, get, post, put};
use super::shape::Segment;
use super::{Paged, Plane, Refused, accounts_page, fault_of, operator, read_body, read_optional_body};
use crate::fault::{Fault, Kind};
use crate::gateway::onboard::{Listed, NewAccount, OnboardError};
use crate::gateway::reach::Reach;
use crate::keybook::NewKey;
use crate::pool::AccountState;
use crate::store::{Act, StoreError};

type Answered = Result<Response, Refused>;

pub(super) fn routes() -> Routes {
    Routes::new()
        .route("/admin/reload", post(reload))
        .route("/admin/tenants", get(tenants))
        .route("/admin/accounts", get(list_accounts).post(add_account))
        .route("/admin/accounts/{id}", delete(remove_account))
        .route("/admin/accounts/{id}/toggle", put(toggle_account))
        .route("/admin/accounts/{id}/test", post(test_account))
        .route("/admin/keys", get(list_keys).post(create_key))
        .route("/admin/keys/{id}", delete(revoke_key))
        .route("/admin/audit", get(list_audit))
        .route("/admin/audit/verify", get(verify_audit))
        .route("/admin/vault/rotate", post(rotate))
}

fn refused(error: impl Into<OnboardError>) -> Refused {
    Refused(fault_of(error.into()))
}

pub(super) fn answer(value: &Value) -> Response {
    axum::Json(value).into_response()
}

async fn reload(State(plane): State<Plane>, headers: HeaderMap) -> Answered {
    let who = operator(&plane, &headers).await?;
    if let Err(report) = plane.operations.reload() {
        return Err(Refused(Fault::client(Kind::BadRequest, report)));
    }
    let act = Act::new(&who, "configuration.reloaded", "", "");
    plane.onboard.note(act).await.map_err(refused)?;
    Ok(answer(&json!({"reloaded": true})))
}

/// Every tenant that the configuration, a key or an account names.
async fn tenants(State(plane): State<Plane>, headers: HeaderMap, paged: Paged) -> Answered {
    operator(&plane, &headers).await?;
    let mut tenants: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for name in plane.onboard.tenants() {
        tenants.entry(name.as_str().to_owned()).or_default();
    }
    let now = plane.gateway.clock.wall_seconds();
    for key in plane.keys.list().iter().filter(|key| key.is_live(now)) {
        tenants.entry(key.tenant.as_str().to_owned()).or_default().0 += 1;
    }
    for listed in plane.onboard.list(&Reach::Everything) {
        if let Some(owner) = &listed.record.owner {
            tenants.entry(owner.as_str().to_owned()).or_default().1 += 1;
        }
        for carried in &listed.record.tenants {
            tenants.entry(carried.as_str().to_owned()).or_default();
        }
    }
    let tenants = tenants.into_iter().collect();
    let (tenants, next) = paged.read().map_err(Refused)?.cut(tenants, |(name, _)| name.clone());
    let tenants: Vec<Value> = (tenants.into_iter())
        .map(|(name, (keys, accounts))| json!({"id": name, "keys": keys, "accounts": accounts}))
        .collect();
    Ok(answer(&json!({"tenants": tenants, "next": next})))
}

async fn list_accounts(State(plane): State<Plane>, headers: HeaderMap, paged: Paged) -> Answered {
    operator(&plane, &headers).await?;
    let (listed, next) = accounts_page(&plane, paged, &Reach::Everything).map_err(Refused)?;
    let accounts: Vec<Value> = listed.iter().map(account).collect();
    Ok(answer(&json!({"accounts": accounts, "next": next})))
}

fn account(listed: &Listed) -> Value {
    let record = &listed.record;
    let mut shown = json!({
        "id": record.id,
        "platform": record.platform,
        "name": record.name,
        "owner": record.owner,
        "added_by": record.added_by,
        "tenants": record.tenants,
        "models": record.models.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "limits": record.limits,
        "weight": record.weight,
        "priority": record.priority,
        "source": if listed.is_of_file { "configuration" } else { "store" },
        "created": record.created,
        "updated": record.updated,
        "last_used": listed.last_used,
        "is_available": listed.state.is_some(),
        "is_enabled": record.enabled,
        "is_expired": false,
        "in_flight": 0,
        "consent": record.consent,
        "is_owner_kept_out": listed.is_resting,
    });
    let has_ended = record.consent.as_ref().is_some_and(|consent| consent.needs_reauth.is_some());
    if let (Some(shown), Some(state)) = (shown.as_object_mut(), &listed.state) {
        shown.extend(standing(state));
        if has_ended || listed.is_resting {
            // Kept from being used for as long as nobody agrees again, or lets its owner in, which is not the switch.
            shown.insert("is_enabled".to_owned(), json!(record.enabled));
        }
        if has_ended {
            shown.insert("is_expired".to_owned(), json!(true));
        }
    }
    shown
}

/// How an account stands in this process.
fn standing(state: &AccountState) -> Map<String, Value> {
    let left: Map<String, Value> = state
        .left
        .iter()
        .map(|left| (format!("{:?}", left.dimension), json!({"left": left.units, "of": left.of})))
        .collect();
    let rest = state.rest.map(|(why, wait)| json!({"why": format!("{why:?}"), "seconds": wait.as_secs()}));
    let standing = [
        ("in_flight", json!(state.in_flight)),
        ("is_enabled", json!(state.is_enabled)),
        ("is_expired", json!(state.is_expired)),
        ("is_leaving", json!(state.is_leaving)),
        ("breaker", json!(format!("{:?}", state.breaker))),
        ("rest", json!(rest)),
        ("left", Value::Object(left)),
    ];
    standing.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn add_account(State(plane): State<Plane>, headers: HeaderMap, body: Bytes) -> Answered {
    let who = operator(&plane, &headers).await?;
    let new: NewAccount = read_body(&body).map_err(Refused)?;
    let record = plane.onboard.add(&who, new).await.map_err(refused)?;
    Ok(answer(&json!({"record": record})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Switch {
    enabled: bool,
}

async fn toggle_account(
    State(plane): State<Plane>,
    Segment(id): Segment,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    let who = operator(&plane, &headers).await?;
    let wanted: Option<Switch> = read_optional_body(&body).map_err(Refused)?;
    let on = wanted.map(|switch| switch.enabled);
    let record = plane.onboard.switch(&who, &Reach::Everything, &id, on).await.map_err(refused)?;
    Ok(answer(&json!({"record": record})))
}

async fn remove_account(State(plane): State<Plane>, Segment(id): Segment, headers: HeaderMap) -> Answered {
    let who = operator(&plane, &headers).await?;
    let (record, is_revoked) = plane.consents.remove(&who, &Reach::Everything, &id).await.map_err(refused)?;
    Ok(answer(&json!({"record": record, "revoked": is_revoked})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    model: Option<String>,
}

async fn test_account(
    State(plane): State<Plane>,
    Segment(id): Segment,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    operator(&plane, &headers).await?;
    let wanted: Option<Wanted> = read_optional_body(&body).map_err(Refused)?;
    let model = wanted.and_then(|wanted| wanted.model);
    let trial = plane.onboard.test(&Reach::Everything, &id, model.as_deref()).await.map_err(refused)?;
    Ok(axum::Json(trial).into_response())
}

async fn list_keys(State(plane): State<Plane>, headers: HeaderMap, paged: Paged) -> Answered {
    operator(&plane, &headers).await?;
    let paged = paged.read().map_err(Refused)?;
    // The newest first: what comes after an id is what stands behind it.
    let keys = plane.keys.list();
    let from = paged.after().and_then(|id| keys.iter().position(|key| key.id == id)).map_or(0, |at| at + 1);
    let rest = keys.get(from..).unwrap_or_default();
    let keys = rest.get(..paged.limit()).unwrap_or(rest);
    let next = keys.last().filter(|_| keys.len() < rest.len()).map(|key| key.id.clone());
    Ok(answer(&json!({"keys": keys, "next": next})))
}

async fn create_key(State(plane): State<Plane>, headers: HeaderMap, body: Bytes) -> Answered {
    let who = operator(&plane, &headers).await?;
    let new: NewKey = serde_json::from_slice(&body).map_err(|wrong| {
        Refused(Fault::client(Kind::BadRequest, format!("The key could not be read: {wrong}.")))
    })?;
    let now = plane.gateway.clock.wall_seconds();
    let (record, key) = plane.keys.create(&who, new, now).await.map_err(refused)?;
    let mut response = answer(&json!({"key": key.expose(), "record": record}));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn revoke_key(State(plane): State<Plane>, Segment(id): Segment, headers: HeaderMap) -> Answered {
    let who = operator(&plane, &headers).await?;
    let now = plane.gateway.clock.wall_seconds();
    let record = plane.keys.revoke(&who, &id, now).await.map_err(refused)?;
    Ok(answer(&json!({"record": record})))
}

async fn list_audit(State(plane): State<Plane>, headers: HeaderMap, paged: Paged) -> Answered {
    operator(&plane, &headers).await?;
    let paged = paged.read().map_err(Refused)?;
    let not_a_place = || Refused(Fault::bad("after", "'after' is the place of an entry."));
    let from = match paged.after() {
        Some(after) => after.parse::<u64>().map_err(|_| not_a_place())?.saturating_add(1),
        None => 0,
    };
    let audit = plane.onboard.audit();
    let page = audit.list(from, paged.limit()).await.map_err(refused)?;
    let end = audit.count().await.map_err(refused)?;
    let next = page.last().map(|(place, _)| *place).filter(|last| last + 1 < end);
    let entries = page.into_iter().map(|(place, entry)| {
        let mut shown = json!({"place": place});
        if let (Some(shown), Ok(Value::Object(entry))) = (shown.as_object_mut(), serde_json::to_value(entry))
        {
            shown.extend(entry);
        }
        shown
    });
    Ok(answer(&json!({"entries": entries.collect::<Vec<_>>(), "next": next})))
}

async fn verify_audit(State(plane): State<Plane>, headers: HeaderMap) -> Answered {
    operator(&plane, &headers).await?;
    let verified = plane.onboard.audit().verify().await.map_err(|error: StoreError| refused(error))?;
    Ok(axum::Json(verified).into_response())
}

async fn rotate(State(plane): State<Plane>, headers: HeaderMap) -> Answered {
    let who = operator(&plane, &headers).await?;
    // On a task of its own: who asked may go away, and it goes on.
    let (onboard, keeper) = (Arc::clone(&plane.onboard), Arc::clone(plane.provider.keeper()));
    let work = tokio::spawn(async move { (onboard.rotate(&who).await, keeper.reseal().await) }).await;
    let (rotated, resealed) = work.map_err(|_| refused(StoreError::Interrupted))?;
    let rotated = rotated.map_err(refused)?;
    let (signing, moved) = resealed.map_err(|error| {
        Refused(Fault::gateway(Kind::Internal, "The signing keys could not be encrypted anew.").source(error))
    })?;
    let (changed, of) = (rotated.changed + moved, rotated.of + signing);
    Ok(answer(&json!({"changed": changed, "of": of, "key": rotated.key})))
}
