//! The route table, from the file's routes or, without any, from the models that the accounts serve.

use super::super::field::Field;
use super::super::platforms::Platforms;
use super::super::quantity::Length;
use super::super::raw::{self, Raw};
use super::super::report::{Position, Problems, check_name};
use super::{accounts::platform, heartbeat_before_idle, time};
use crate::gateway::route::{Defaults, Route, RouteTable, Target};
use crate::gateway::settings::Timeouts;
use crate::glob;
use crate::pool::settings::Account;

/// The whole table.
pub(super) fn table(
    raw: &Raw,
    platforms: &Platforms,
    accounts: &[Account],
    defaults: Defaults,
    problems: &Problems,
) -> RouteTable {
    let given: Vec<(&raw::Route, Position)> =
        raw.routes.get().into_iter().flatten().filter_map(Field::placed).collect();
    if given.is_empty() {
        return RouteTable::by_accounts(accounts, &platforms.good, defaults);
    }
    unreachable(&given, problems);
    let routes = given
        .into_iter()
        .filter_map(|(route, at)| self::route(route, at, platforms, defaults, problems))
        .collect();
    RouteTable::new(routes, &platforms.good, defaults)
}

/// Notes routes that an earlier one leaves nothing to.
fn unreachable(given: &[(&raw::Route, Position)], problems: &Problems) {
    let mut earlier: Vec<(&str, u64)> = Vec::new();
    for (model, at) in given.iter().filter_map(|(route, _)| route.model.placed()) {
        // Fits the pattern itself, `*` read as any other character: then it fits all that the pattern fits.
        if let Some((name, line)) = earlier.iter().find(|(pattern, _)| glob::fits(pattern, model)) {
            problems.add_with(
                at,
                format!("never reached: `{name}` at line {line} comes first"),
                "the first route that fits wins; put the narrower one above",
            );
        }
        earlier.push((model, at.line));
    }
}

fn route(
    raw: &raw::Route,
    at: Position,
    platforms: &Platforms,
    defaults: Defaults,
    problems: &Problems,
) -> Option<Route> {
    if raw.model.is_absent() {
        problems.add(at, "`model` is missing");
    }
    if let Some((model, at)) = raw.model.placed() {
        check_name("the model's name", model, at, problems);
    }
    let targets = targets(&raw.targets, platforms, problems);
    if raw.targets.is_absent() || raw.targets.get().is_some_and(Vec::is_empty) {
        let help = "write `targets: [{platform: …}]`";
        problems.add_with(raw.targets.at(at), "the route leads nowhere: `targets` is missing", help);
    }
    let fallback = self::targets(&raw.fallback, platforms, problems);
    Some(Route {
        strategy: raw.strategy.or(defaults.strategy),
        unsupported: raw.unsupported.or(defaults.unsupported),
        on_budget: raw.on_budget.or(defaults.on_budget),
        timeouts: timeouts(&raw.timeouts, defaults.timeouts, problems),
        name: raw.model.get()?.clone(),
        targets,
        fallback,
    })
}

fn targets(
    field: &Field<Vec<Field<raw::Target>>>,
    platforms: &Platforms,
    problems: &Problems,
) -> Vec<Target> {
    let given = field.get().into_iter().flatten().filter_map(Field::placed);
    given
        .filter_map(|(target, at)| {
            if let Some((0, at)) = target.weight.placed() {
                problems.add_with(
                    at,
                    "a weight of 0 is never chosen",
                    "put it under `fallback`, or leave it out",
                );
            }
            if let Some((model, at)) = target.model.placed() {
                check_name("the model's name", model, at, problems);
            }
            Some(Target {
                platform: platform(&target.platform, at, platforms, problems)?,
                model: target.model.get().cloned(),
                weight: target.weight.or(1),
                prefix_len: 0,
            })
        })
        .collect()
}

fn timeouts(field: &Field<raw::RouteTimeouts>, defaults: Timeouts, problems: &Problems) -> Timeouts {
    let Some((own, at)) = field.placed() else { return defaults };
    let time = |field: &Field<Length>, default| time(field, default, problems);
    let timeouts = Timeouts {
        first_token: time(&own.first_token, defaults.first_token),
        idle: time(&own.idle, defaults.idle),
        total: time(&own.total, defaults.total),
        ..defaults
    };
    if !own.idle.is_absent() {
        heartbeat_before_idle(&timeouts, own.idle.at(at), problems);
    }
    timeouts
}
