//! From a configuration to a gateway: which part gets what. The only place that knows all of them.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::clock::Clock;
use crate::config::{Config, StoreUrl};
use crate::gateway::rehearsal::Rehearsal;
use crate::gateway::{Gateway, World};
use crate::identity::Identity;
use crate::ids::random_name;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::secret::Secret;
use crate::store::{Keys, Store, StoreError};
use crate::upstream::Upstream;

/// Opens the store that the configuration names. `patience` is how long a store held by another process is waited for.
pub fn open_store(config: &Config, patience: Duration, clock: &Clock) -> anyhow::Result<Arc<Store>> {
    let StoreUrl::Embedded(folder) = &config.store else {
        return Ok(Arc::new(Store::in_memory()?));
    };
    let since = clock.now();
    loop {
        match Store::open(folder) {
            Ok(store) => return Ok(Arc::new(store)),
            Err(StoreError::Locked(_)) if clock.now().since(since) < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error).context("the store cannot be opened"),
        }
    }
}

/// The folder for what belongs to one running gateway (its hand-over socket, its process id).
pub fn state_folder(config: &Config) -> PathBuf {
    match &config.store {
        StoreUrl::Embedded(folder) => folder.clone(),
        _ => std::env::temp_dir().join(format!("weir-{}", config.listen.address.port())),
    }
}

/// A client for back-office calls (JWKS): bounded in time, never redirected.
pub fn back_office() -> anyhow::Result<reqwest::Client> {
    // Said once, before the first TLS connection: reqwest brings no provider of its own.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(5))
        .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(client)
}

/// A gateway as `config` wants it.
pub fn gateway(config: &Config, keys: &Arc<Keys>, clock: &Clock) -> anyhow::Result<Gateway> {
    let identity = Identity::new(config.identity.clone(), keys.clone(), clock.clone(), back_office()?)?;
    let pool = Pool::new(config.pool.clone(), clock.clone(), None);
    pool.retry_budget().set_share(config.retry.budget);
    pool.replace(config.accounts.clone());
    let upstream = Upstream::new(config.workers, Vec::new(), clock.clone());
    let mut gateway = Gateway::new(world(config, identity), pool, upstream, Metrics::new()?, clock.clone());
    gateway.rehearsal = Rehearsal::of(super::environment);
    Ok(gateway)
}

/// What a reload replaces, as `config` wants it.
pub fn world(config: &Config, identity: Identity) -> World {
    World {
        identity,
        routes: config.routes.clone(),
        retry: config.retry,
        timeouts: config.timeouts,
        sizes: config.sizes,
        heartbeat: config.heartbeat,
        model_field: config.model_field,
        prices: config.prices.clone(),
    }
}

/// Puts `config` in force. Requests under way keep what they began with.
///
/// # Errors
/// Where its identity settings are refused: nothing has changed then.
pub fn apply(gateway: &Gateway, config: &Config) -> anyhow::Result<()> {
    let identity = gateway.world().identity.renewed(config.identity.clone())?;
    gateway.pool.replace(config.accounts.clone());
    gateway.pool.retry_budget().set_share(config.retry.budget);
    gateway.replace_world(world(config, identity));
    Ok(())
}

/// The file in which a running gateway leaves the token for its own operator's commands.
const OPERATOR_TOKEN: &str = "operator.token";

/// Makes a token for operators on this machine, and leaves it in `folder` for the gateway's own user to read.
///
/// # Errors
/// Where the file cannot be written.
pub fn leave_operator_token(folder: &Path) -> anyhow::Result<Secret> {
    let token = Secret::new(random_name("operator-", 43));
    let path = folder.join(OPERATOR_TOKEN);
    drop(std::fs::remove_file(&path));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(token.expose().as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(token)
}

/// The token that a running gateway left in `folder`.
pub fn read_operator_token(folder: &Path) -> Option<Secret> {
    std::fs::read_to_string(folder.join(OPERATOR_TOKEN)).ok().map(Secret::new)
}

/// The process id in `file`.
pub fn read_process_id(file: &Path) -> Option<i32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}
