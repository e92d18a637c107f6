//! From what was typed to what runs. Why every function here takes a wrong value, notes it and goes on with the default:
//! the next mistake must be found in the same run; a configuration with a note in it is never used.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::field::Field;
use super::quantity::{Length, Size, typed};
use super::raw::{self, Raw};
use super::report::{Position, Problems};
use super::{Config, Drain, Log, platforms};
use crate::gateway::route::Defaults;
use crate::gateway::settings::{Retry, Sizes, Timeouts};
use crate::pool;

mod accounts;
mod callers;
mod oauth;
mod prices;
mod process;
mod provider;
mod routes;
mod sign_in;

/// Resolves a whole file.
pub(super) fn config(raw: &Raw, problems: &Problems, secret_files: Vec<PathBuf>) -> Config {
    let platforms = platforms::resolve(raw.platforms.get(), problems);
    let (listen, admin_listen) = (process::listen(raw, problems), process::admin_listen(raw, problems));
    let identity = callers::identity(raw, problems);
    let accounts = accounts::accounts(raw, &platforms, problems);
    let timeouts = timeouts(raw.timeouts.get().unwrap_or(&raw::Timeouts::default()), problems);
    let defaults = Defaults {
        strategy: Default::default(),
        unsupported: Default::default(),
        timeouts,
        on_budget: raw.on_budget.or(Default::default()),
    };
    let oauth = oauth::settings(raw.oauth.get().unwrap_or(&raw::OAuth::default()), problems);
    let provider = provider::settings(raw, &oauth, &listen, problems);
    Config {
        sign_in: sign_in::settings(raw, &oauth, provider.public_url.as_deref(), problems),
        provider,
        listen,
        implied_routes: raw.routes.get().is_none_or(Vec::is_empty).then_some(defaults),
        routes: routes::table(raw, &platforms, &accounts, defaults, problems),
        metrics: process::metrics(raw, admin_listen),
        admin_listen,
        store: process::store(&raw.store, problems),
        vault: process::vault(raw, problems),
        identity,
        platforms: platforms.good,
        accounts,
        retry: retry(raw.retry.get().unwrap_or(&raw::Retry::default()), problems),
        timeouts,
        sizes: sizes(raw.limits.get().unwrap_or(&raw::Sizes::default()), problems),
        heartbeat: raw.heartbeat.or(Default::default()),
        model_field: raw.model_field.or(Default::default()),
        prices: prices::table(raw, problems),
        pool: pool(raw.pool.get().unwrap_or(&raw::Pool::default()), problems),
        oauth,
        drain: drain(raw.drain.get().unwrap_or(&raw::Drain::default())),
        workers: workers(&raw.workers, problems),
        log: log(raw.log.get().unwrap_or(&raw::Log::default()), problems),
        secret_files,
    }
}

const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// A time that must not be zero.
fn time(field: &Field<Length>, default: Duration, problems: &Problems) -> Duration {
    match field.placed() {
        Some((Length(Duration::ZERO), at)) => {
            problems.add(at, "a time of zero would end everything at once");
            default
        }
        Some((Length(time), _)) => *time,
        None => default,
    }
}

fn timeouts(raw: &raw::Timeouts, problems: &Problems) -> Timeouts {
    let time = |field, default| time(field, seconds(default), problems);
    let timeouts = Timeouts {
        connect: time(&raw.connect, 5),
        response_header: time(&raw.response_header, 600),
        first_token: time(&raw.first_token, 120),
        idle: time(&raw.idle, 120),
        total: time(&raw.total, 1800),
        heartbeat: time(&raw.heartbeat, 15),
        request_header: time(&raw.request_header, 10),
        client_idle: time(&raw.client_idle, 60),
    };
    let at = if raw.heartbeat.is_absent() { &raw.idle } else { &raw.heartbeat };
    heartbeat_before_idle(&timeouts, at.at(Position::default()), problems);
    timeouts
}

/// A heartbeat that comes after the idle timeout never comes.
fn heartbeat_before_idle(timeouts: &Timeouts, at: Position, problems: &Problems) {
    if timeouts.heartbeat >= timeouts.idle {
        let what = format!(
            "the heartbeat ({}) must be shorter than the idle timeout ({})",
            typed(timeouts.heartbeat),
            typed(timeouts.idle)
        );
        problems.add(at, what);
    }
}

fn retry(raw: &raw::Retry, problems: &Problems) -> Retry {
    if let Some((0, at)) = raw.attempts.placed() {
        problems.add_with(at, "no attempt at all would be made", "`1` means: no retries");
    }
    match raw.budget.placed() {
        Some((budget, at)) if !(0.0..=1.0).contains(budget) => {
            problems.add_with(
                at,
                "the retry budget is a share from 0 to 1",
                "`0.2` means: one request in five",
            );
        }
        _ => {}
    }
    Retry {
        attempts: raw.attempts.or(3),
        budget: raw.budget.or(0.2),
        deadline: time(&raw.deadline, seconds(600), problems),
    }
}

fn sizes(raw: &raw::Sizes, problems: &Problems) -> Sizes {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    let size = |field: &Field<Size>, least: u64, default: u64| {
        let bytes = match field.placed() {
            Some((Size(bytes), at)) if *bytes < least => {
                problems.add(at, format!("must be at least {}KiB", least / KIB));
                default
            }
            Some((Size(bytes), _)) => *bytes,
            None => default,
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    };
    let sizes = Sizes {
        body: size(&raw.body, KIB, 32 * MIB),
        // Less than the reader of heads can work with.
        header: size(&raw.header, 8 * KIB, 64 * KIB),
        inflight_body_bytes: size(&raw.inflight_body_bytes, KIB, 512 * MIB),
        answer: size(&raw.answer, KIB, 64 * MIB),
        event: size(&raw.event, KIB, 8 * MIB),
    };
    if sizes.inflight_body_bytes < sizes.body {
        let at = if raw.inflight_body_bytes.is_absent() { &raw.body } else { &raw.inflight_body_bytes };
        problems.add(
            at.at(Position::default()),
            "`inflight_body_bytes` is smaller than `body`: the largest request could never be taken",
        );
    }
    sizes
}

fn pool(raw: &raw::Pool, problems: &Problems) -> pool::settings::Settings {
    pool::settings::Settings {
        lease_ttl: time(&raw.lease_ttl, seconds(1), problems),
        on_outage: raw.on_outage.or(Default::default()),
    }
}

/// Together under the 30 s that Kubernetes and Docker's successors give before they kill.
fn drain(raw: &raw::Drain) -> Drain {
    Drain { delay: raw.delay.or(Length(seconds(3))).0, timeout: raw.timeout.or(Length(seconds(25))).0 }
}

fn workers(field: &Field<usize>, problems: &Problems) -> usize {
    const MOST: usize = 1024;
    match field.placed() {
        Some((1..=MOST, _)) | None => {}
        Some((_, at)) => {
            problems.add_with(at, "must be 1 to 1024", "leave it out for one worker per processor");
        }
    }
    field.or(std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

fn log(raw: &raw::Log, problems: &Problems) -> Log {
    const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];
    if let Some((level, at)) = raw.level.placed() {
        // The filter's own reader takes any word for the name of a module, so `inof` would silence everything.
        let is_level = |part: &str| LEVELS.contains(&part.rsplit('=').next().unwrap_or_default().trim());
        if !level.split(',').all(is_level) {
            problems.add_with(
                at,
                "not a log level",
                format!("one of {}, or `warn,weir::pool=debug`", LEVELS.join(", ")),
            );
        }
    }
    Log {
        level: raw.level.get().map_or("info", String::as_str).to_owned(),
        format: raw.format.or(Default::default()),
    }
}
