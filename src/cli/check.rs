//! `weir check`: is this configuration right, and what does it mean? Why it prints what was resolved: globs, defaults and
//! implied routes decide where money goes, and nobody should have to send a request to find out.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::{self, Config, Environment, Report};
use crate::gateway::route::{Route, Target};
use crate::identity::Identity;
use crate::keybook::NoKeys;
use crate::limits::Limits;
use crate::pool::settings::{Account, Strategy};

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: one JSON document.
    Json,
}

/// Reads the configuration at `path` (the defaults where there is none) and writes what it means to `out`, or what is wrong
/// with it: to `errors` line by line, or as JSON to `out`. Whether it is right; no credential is ever written.
///
/// # Errors
/// Where `out` or `errors` cannot be written to.
pub fn run(
    path: Option<&Path>,
    format: Format,
    environment: Environment<'_>,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> io::Result<bool> {
    let result = config::load(path, environment).and_then(|config| try_out(config, path));
    match (&result, format) {
        (Ok(config), Format::Table) => table(config, path, out)?,
        (Ok(config), Format::Json) => writeln!(out, "{:#}", document(config))?,
        (Err(report), Format::Table) => {
            writeln!(errors, "{report}")?;
            let count = report.problems().len();
            writeln!(errors, "{count} {}", if count == 1 { "problem" } else { "problems" })?;
        }
        (Err(report), Format::Json) => writeln!(out, "{:#}", wrong(report))?,
    }
    Ok(result.is_ok())
}

/// What only shows when the parts are built as `weir serve` builds them: issuers whose keys cannot be used.
fn try_out(config: Config, path: Option<&Path>) -> Result<Config, Report> {
    let file = path.map_or_else(|| "the defaults".to_owned(), |path| path.display().to_string());
    let trouble = |what: String| Report::of_file(&file, what);
    let client = super::wiring::back_office().map_err(|error| trouble(error.to_string()))?;
    Identity::new(config.identity.clone(), Arc::new(NoKeys), Clock::system(), client)
        .map_err(|error| trouble(error.to_string()))?;
    Ok(config)
}

fn wrong(report: &Report) -> Value {
    let problems = report.problems().iter().map(|problem| {
        json!({
            "line": problem.at.line,
            "column": problem.at.column,
            "problem": problem.what,
            "help": problem.help,
        })
    });
    json!({"ok": false, "file": report.file(), "problems": problems.collect::<Vec<_>>()})
}

fn document(config: &Config) -> Value {
    let targets = |targets: &[Target]| -> Vec<Value> {
        let target = |target: &Target| json!({"platform": platform(target), "model": target.model, "weight": target.weight});
        targets.iter().map(target).collect()
    };
    let route = |route: &Route| {
        json!({
            "model": route.name,
            "targets": targets(&route.targets),
            "fallback": targets(&route.fallback),
            "strategy": strategy(route.strategy),
        })
    };
    let account = |account: &Account| {
        json!({
            "id": account.id,
            "platform": account.platform.name.as_str(),
            "models": account.models.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "tenants": account.tenants,
            "limits": limits(&account.limits).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "enabled": account.is_enabled,
        })
    };
    json!({
        "ok": true,
        "listen": config.listen.address.to_string(),
        "tls": config.listen.tls.is_some(),
        "admin_listen": config.admin_listen.to_string(),
        "routes": config.routes.routes().iter().map(route).collect::<Vec<_>>(),
        "accounts": config.accounts.iter().map(account).collect::<Vec<_>>(),
    })
}

fn table(config: &Config, path: Option<&Path>, out: &mut dyn Write) -> io::Result<()> {
    let file = path.map_or_else(|| "the defaults".to_owned(), |path| path.display().to_string());
    let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
    writeln!(out, "{file}: right")?;
    writeln!(
        out,
        "listens on {scheme}://{}, for operators on {}",
        config.listen.address, config.admin_listen
    )?;
    writeln!(out)?;
    let routes = config.routes.routes().iter().map(|route| {
        [
            route.name.clone(),
            targets(&route.targets, route.targets.len() > 1),
            targets(&route.fallback, false),
            strategy(route.strategy).to_owned(),
        ]
    });
    columns(["ROUTE", "TARGETS", "FALLBACK", "STRATEGY"], routes.collect(), out)?;
    writeln!(out, "Every PLATFORM/MODEL goes to its platform.\n")?;
    let accounts = config.accounts.iter().map(|account| {
        let joined = |names: Vec<&str>, none: &str| {
            if names.is_empty() { none.to_owned() } else { names.join(" ") }
        };
        let limits: Vec<String> =
            limits(&account.limits).iter().map(|(name, limit)| format!("{name}={limit}")).collect();
        [
            format!("{}{}", account.id, if account.is_enabled { "" } else { " (off)" }),
            account.platform.name.to_string(),
            joined(account.models.iter().map(|(name, _)| name.as_str()).collect(), "all"),
            joined(account.tenants.iter().map(|tenant| tenant.as_str()).collect(), "everyone"),
            joined(limits.iter().map(String::as_str).collect(), "none"),
        ]
    });
    columns(["ACCOUNT", "PLATFORM", "MODELS", "CARRIES", "LIMITS"], accounts.collect(), out)
}

fn platform(target: &Target) -> &str {
    target.platform.name.as_str()
}

fn targets(targets: &[Target], with_weights: bool) -> String {
    let shown = targets.iter().map(|target| {
        let model = target.model.as_deref().unwrap_or("*");
        let weight = if with_weights { format!(" x{}", target.weight) } else { String::new() };
        format!("{}/{model}{weight}", platform(target))
    });
    shown.collect::<Vec<_>>().join(", ")
}

const fn strategy(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Headroom => "headroom",
        Strategy::RoundRobin => "round_robin",
        Strategy::LeastInFlight => "least_in_flight",
        Strategy::Weighted => "weighted",
        Strategy::Priority => "priority",
        Strategy::Sticky => "sticky",
    }
}

fn limits(limits: &Limits) -> Vec<(&'static str, u64)> {
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
    all.into_iter().filter_map(|(name, limit)| Some((name, limit?))).collect()
}

/// Rows under their titles, each column as wide as its widest cell.
fn columns<const N: usize>(titles: [&str; N], rows: Vec<[String; N]>, out: &mut dyn Write) -> io::Result<()> {
    let mut widths = titles.map(|title| title.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(titles.map(str::to_owned)).chain(rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, format: Format) -> (bool, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.yaml");
        std::fs::write(&path, text).unwrap();
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let is_right =
            run(Some(&path), format, &|_| Some("sk-canary".to_owned()), &mut out, &mut errors).unwrap();
        let plain = |bytes| String::from_utf8(bytes).unwrap().replace(path.to_str().unwrap(), "weir.yaml");
        (is_right, plain(out), plain(errors))
    }

    const GOOD: &str = "
accounts:
  - {id: claude-a, platform: claude, api_key: '${K}', tenants: [research, ops], limits: {rpm: 50, tpm: 40000}}
  - {id: qwen-a, platform: qwen, api_key: '${K}', models: {smart: qwen-max}, enabled: false}
routes:
  - model: smart
    targets: [{platform: claude, model: claude-sonnet-4-5, weight: 3}, {platform: qwen, model: qwen-max}]
    fallback: [{platform: openai, model: gpt-4o}]
  - {model: 'gpt-*', targets: [{platform: openai}], strategy: sticky}
";

    #[test]
    fn a_right_file_is_shown_resolved() {
        let (is_right, out, errors) = checked(GOOD, Format::Table);
        assert!(is_right && errors.is_empty());
        insta::assert_snapshot!(out);
        let (is_right, out, _) = checked(GOOD, Format::Json);
        assert!(is_right && !out.contains("canary"));
        let document: Value = serde_json::from_str(&out).unwrap();
        insta::assert_json_snapshot!(document);
    }

    #[test]
    fn a_wrong_file_is_shown_with_places() {
        const WRONG: &str = "acounts: []\nretry: {attempts: 0}\n";
        let (is_right, out, errors) = checked(WRONG, Format::Table);
        assert!(!is_right && out.is_empty());
        insta::assert_snapshot!(errors, @"
        weir.yaml:1:1: unknown key `acounts`; did you mean `accounts`?
        weir.yaml:2:19: no attempt at all would be made; `1` means: no retries
        2 problems
        ");
        let (is_right, out, errors) = checked(WRONG, Format::Json);
        assert!(!is_right && errors.is_empty());
        let document: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(document["problems"][1]["line"], 2);
        assert_eq!(document["problems"][0]["help"], "did you mean `accounts`?");
    }
}
