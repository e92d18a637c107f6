//! `GET /admin/usage`: what was used, summed by whatever is asked for, as JSON or CSV.
//!
//! `by` names columns (`tenant,model,day`), `from` and `to` are days, `tenant`, `caller`, `account`, `platform` and `model` keep only
//! what is exactly so, `limit` bounds the rows, `format` is `json`, `csv` or `text`.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde::Deserialize;

use super::{Plane, Refused, fault_of, operator};
use crate::fault::{Fault, Kind};
use crate::gateway::usage::Day;
use crate::gateway::usage::report::{self, Column, MOST_ROWS};
use crate::store::StoreError;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asked {
    by: String,
    from: Option<String>,
    to: Option<String>,
    tenant: Option<String>,
    caller: Option<String>,
    account: Option<String>,
    platform: Option<String>,
    model: Option<String>,
    limit: Option<usize>,
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Csv,
    Text,
}

pub(super) async fn usage(
    State(plane): State<Plane>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Refused> {
    operator(&plane, &headers).await?;
    let Query(asked) = asked.map_err(|wrong| bad(wrong.body_text()))?;
    let format = asked.format;
    let query = read(asked, &plane).map_err(bad)?;
    // So that what has just been answered is in it.
    let prices = &plane.gateway.world().prices;
    plane.gateway.ledger.flush(&*plane.records, prices).await.map_err(refused)?;
    let report = query.run(&*plane.records).await.map_err(refused)?;
    Ok(match format {
        Format::Json => axum::Json(report.to_json()).into_response(),
        Format::Text => report.to_text().into_response(),
        Format::Csv => {
            let headers = [
                (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
                (header::CONTENT_DISPOSITION, "attachment; filename=\"usage.csv\""),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, report.to_csv()).into_response()
        }
    })
}

fn refused(error: StoreError) -> Refused {
    Refused(fault_of(error.into()))
}

fn bad(what: String) -> Refused {
    Refused(Fault::client(Kind::BadRequest, what))
}

fn read(asked: Asked, plane: &Plane) -> Result<report::Query, String> {
    let today = Day::at(plane.gateway.clock.wall_millis()).date();
    let mut query = report::Query::read(&asked.by, asked.from.as_deref(), asked.to.as_deref(), today)?;
    let only = [
        (Column::Tenant, asked.tenant),
        (Column::Caller, asked.caller),
        (Column::Account, asked.account),
        (Column::Platform, asked.platform),
        (Column::Model, asked.model),
    ];
    query.only = only.into_iter().filter_map(|(column, wanted)| Some((column, wanted?))).collect();
    if let Some(limit) = asked.limit {
        if !(1..=MOST_ROWS).contains(&limit) {
            return Err(format!("The limit is 1 to {MOST_ROWS}."));
        }
        query.limit = limit;
    }
    Ok(query)
}
