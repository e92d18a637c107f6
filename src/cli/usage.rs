//! `weir usage`: what was used. The store belongs to one process: while the gateway runs, it is asked over its admin port, and
//! while it does not, the store is read here.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use url::Url;

use super::wiring;
use crate::clock::Clock;
use crate::config::{Config, StoreUrl};
use crate::gateway::usage::report::{Column, Query};
use crate::gateway::usage::{Day, journal};
use crate::store::{Store, StoreError};

/// For the running gateway to answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is to be shown.
#[derive(clap::Args, Debug)]
pub struct Wish {
    /// What to tell apart, comma-separated: day, month, tenant, caller, account, platform, model.
    #[arg(long, default_value = "tenant,model")]
    by: String,
    /// The first day (UTC), as 2026-11-01; default: the first of the month.
    #[arg(long)]
    from: Option<String>,
    /// The last day; default: today.
    #[arg(long)]
    to: Option<String>,
    /// Only this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Only this caller: a token's `sub`, or a key's id.
    #[arg(long)]
    caller: Option<String>,
    /// Only this account.
    #[arg(long)]
    account: Option<String>,
    /// Only this platform.
    #[arg(long)]
    platform: Option<String>,
    /// Only this model, by the platform's name for it.
    #[arg(long)]
    model: Option<String>,
    /// Rows at most.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// Print JSON, also on a terminal.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV.
    #[arg(long)]
    csv: bool,
}

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Csv,
}

impl Wish {
    fn form(&self, is_terminal: bool) -> Form {
        match () {
            () if self.csv => Form::Csv,
            () if self.json || !is_terminal => Form::Json,
            () => Form::Text,
        }
    }

    fn only(&self) -> impl Iterator<Item = (Column, &String)> {
        let all = [
            (Column::Tenant, &self.tenant),
            (Column::Caller, &self.caller),
            (Column::Account, &self.account),
            (Column::Platform, &self.platform),
            (Column::Model, &self.model),
        ];
        all.into_iter().filter_map(|(column, wanted)| Some((column, wanted.as_ref()?)))
    }

    fn query(&self, clock: &Clock) -> Result<Query, String> {
        let today = Day::at(clock.wall_millis()).date();
        let mut query = Query::read(&self.by, self.from.as_deref(), self.to.as_deref(), today)?;
        query.only = self.only().map(|(column, wanted)| (column, wanted.clone())).collect();
        query.limit = usize::from(self.limit);
        Ok(query)
    }
}

/// What is to be printed.
///
/// # Errors
/// What cannot be understood; the store's, or the running gateway's.
pub async fn run(config: &Config, wish: &Wish, is_terminal: bool, clock: &Clock) -> anyhow::Result<String> {
    anyhow::ensure!(matches!(config.store, StoreUrl::Embedded(_)), "a store in memory keeps no usage");
    let query = wish.query(clock).map_err(anyhow::Error::msg)?;
    let form = wish.form(is_terminal);
    let folder = wiring::state_folder(config);
    let store = match Store::open(&folder) {
        Ok(store) => store,
        Err(StoreError::Locked(_)) => return ask(config, wish, form, &folder).await,
        Err(error) => return Err(error.into()),
    };
    journal::take_in(&folder, &store, &config.prices).await?;
    let report = query.run(&store).await?;
    Ok(match form {
        Form::Text => report.to_text(),
        Form::Csv => report.to_csv(),
        Form::Json => format!("{}\n", report.to_json()),
    })
}

/// Asks the gateway that has the store.
async fn ask(config: &Config, wish: &Wish, form: Form, folder: &Path) -> anyhow::Result<String> {
    let mut url: Url = format!("http://{}/admin/usage", config.admin_listen).parse()?;
    let format = match form {
        Form::Text => "text",
        Form::Json => "json",
        Form::Csv => "csv",
    };
    {
        let mut pairs = url.query_pairs_mut();
        pairs.append_pair("format", format).append_pair("by", &wish.by);
        pairs.append_pair("limit", &wish.limit.to_string());
        for (name, value) in [("from", &wish.from), ("to", &wish.to)] {
            value.as_ref().map(|value| pairs.append_pair(name, value));
        }
        for (column, wanted) in wish.only() {
            pairs.append_pair(column.as_str(), wanted);
        }
    }
    let mut request = wiring::back_office()?.get(url).timeout(TIMEOUT);
    if let Some(token) = wiring::read_operator_token(folder) {
        request = request.bearer_auth(token.expose());
    }
    let answer = request.send().await.context("the running gateway cannot be asked")?;
    let status = answer.status();
    let text = answer.text().await.context("the running gateway cannot be asked")?;
    if !status.is_success() {
        let why = super::key::message(text.as_bytes());
        anyhow::bail!("the running gateway refused (status {}): {why}", status.as_u16());
    }
    Ok(if form == Form::Json { format!("{text}\n") } else { text })
}
