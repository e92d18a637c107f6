//! What the operator says, in one YAML file. Why two stages: [`raw`] is the file as typed, every key optional and every
//! value with its place; [`Config`] is what the program runs on, complete and checked, made of each module's own settings.
//! Between them every mistake is found at once and named with its place, and nothing below this floor knows of files.
//!
//! [`tree`] YAML with positions · [`interpolate`] `${…}` · [`read`] and [`field`] tree to structs · [`raw`] the structs ·
//! [`quantity`] `30s`, `32MiB` · [`resolve`] structs to [`Config`] · [`platforms`] rows · [`report`] mistakes · [`watch`]
//! reload.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::gateway::route::{Defaults, RouteTable};
use crate::gateway::settings::{Heartbeat, ModelField, Retry, Sizes, Timeouts};
use crate::gateway::usage::prices::Prices;
use crate::gateway::{people, provider};
use crate::platform::profile::Platform;
use crate::redis_link::Address;
use crate::vault::MasterKey;
use crate::{identity, oauth, pool};

mod field;
mod interpolate;
mod platforms;
mod quantity;
mod raw;
mod read;
mod report;
mod resolve;
#[cfg(test)]
mod tests;
mod tree;
pub mod watch;

pub use interpolate::Environment;
pub use report::{Position, Problem, Report};

/// The commented reference: every key, its default and what it does. What `weir config reference` prints.
pub const REFERENCE: &str = include_str!("../../config/weir.yaml");

/// Largest configuration file, in bytes.
const LARGEST_FILE: u64 = 32 * 1024 * 1024;

/// A whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The public listener.
    pub listen: Listen,
    /// The operators' listener: metrics, health, administration.
    pub admin_listen: SocketAddr,
    /// Who reads the metrics there.
    pub metrics: Openness,
    pub store: StoreUrl,
    /// Keys of encryption at rest: the first encrypts, all decrypt. May be empty.
    pub vault: Vec<MasterKey>,
    pub identity: identity::settings::Settings,
    /// Every platform: the built-in ones, as overridden, and the file's own.
    pub platforms: Vec<Arc<Platform>>,
    /// The file's accounts.
    pub accounts: Vec<pool::settings::Account>,
    pub routes: RouteTable,
    /// Where the file names no routes: what those have in common that follow from the accounts, also from the store's.
    pub implied_routes: Option<Defaults>,
    pub retry: Retry,
    pub timeouts: Timeouts,
    pub sizes: Sizes,
    pub heartbeat: Heartbeat,
    pub model_field: ModelField,
    pub prices: Prices,
    pub pool: pool::settings::Settings,
    pub oauth: oauth::Settings,
    /// Who signs in, and by what.
    pub sign_in: people::Settings,
    /// Third-party apps, and the name under which Weir makes tokens itself.
    pub provider: provider::Settings,
    pub drain: Drain,
    /// Threads that serve requests, at least 1.
    pub workers: usize,
    pub log: Log,
    /// Files that `${file:…}` was read from: when one changes, so does the configuration.
    pub secret_files: Vec<PathBuf>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub address: SocketAddr,
    /// HTTPS where given.
    pub tls: Option<TlsFiles>,
}

/// PEM files of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and its chain.
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Where records and counters are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// In this folder, for one process.
    Embedded(PathBuf),
    /// Nowhere: all is forgotten at the end.
    Memory,
    /// In Redis, for many processes.
    Redis(Address),
}

/// How the process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long it still accepts while it says that it is not ready; may be zero.
    pub delay: Duration,
    /// How long requests under way may go on after that; may be zero.
    pub timeout: Duration,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Levels as `tracing` filters write them: `info`, or `warn,weir::pool=debug`.
    pub level: String,
    pub format: LogFormat,
}

/// Who may read something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Openness {
    /// Whoever reaches the listener.
    Open,
    /// Operators: the scope `admin`, or the token in the store's folder.
    Operators,
}

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    #[default]
    Auto,
    Pretty,
    Json,
}

/// Reads the configuration at `path`; the defaults where there is none.
///
/// # Errors
/// Everything that is wrong with it, with places.
pub fn load(path: Option<&Path>, environment: Environment<'_>) -> Result<Config, Report> {
    let Some(path) = path else {
        return parse("{}", "defaults", environment);
    };
    let name = path.display().to_string();
    let unreadable = |error: std::io::Error| Report::of_file(&name, format!("cannot be read: {error}"));
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > LARGEST_FILE {
        return Err(Report::of_file(&name, "is larger than 32 MiB".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text =
        String::from_utf8(bytes).map_err(|_| Report::of_file(&name, "is not UTF-8 text".to_owned()))?;
    // An editor may have emptied it a moment before it writes: never mistake that for "all defaults, no accounts".
    if text.trim().is_empty() {
        return Err(Report::of_file(&name, "is empty".to_owned()));
    }
    parse(&text, &name, environment)
}

/// Reads a configuration from `text`; `file_name` is what a report calls it.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, file_name: &str, environment: Environment<'_>) -> Result<Config, Report> {
    let problems = report::Problems::default();
    let config = resolved(text, environment, &problems);
    match (problems.into_report(file_name), config) {
        (None, Some(config)) => Ok(config),
        (Some(report), _) => Err(report),
        (None, None) => Err(Report::of_file(file_name, "cannot be read".to_owned())),
    }
}

fn resolved(text: &str, environment: Environment<'_>, problems: &report::Problems) -> Option<Config> {
    let mut root = match tree::parse(text) {
        Ok(root) => root,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    let mut secret_files = Vec::new();
    interpolate::fill_in(&mut root, environment, problems, &mut secret_files);
    let raw = match root.value {
        tree::Value::Null => raw::Raw::default(),
        _ => read::read(&root, problems)?,
    };
    Some(resolve::config(&raw, problems, secret_files))
}
