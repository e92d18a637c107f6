//! From a configuration to a gateway: which part gets what. The only place that knows all of them.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::clock::Clock;
use crate::config::{Config, StoreUrl};
use crate::gateway::onboard::{Ground, Onboard};
use crate::gateway::rehearsal::Rehearsal;
use crate::gateway::{Gateway, World};
use crate::identity::Identity;
use crate::ids::random_name;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::secret::Secret;
use crate::store::{Keys, Store, StoreError};
use crate::upstream::Upstream;
use crate::vault::{KEY_FILE, MasterKey, Vault};

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

/// A whole gateway, without its sockets.
pub struct House {
    pub gateway: Arc<Gateway>,
    pub keys: Arc<Keys>,
    pub onboard: Arc<Onboard>,
}

/// A gateway as `config` wants it, over `store`.
///
/// # Errors
/// Where a part of it refuses its settings, or the store holds what cannot be read or decrypted.
pub async fn house(config: &Config, store: Arc<Store>, clock: &Clock) -> anyhow::Result<House> {
    let keys = Arc::new(Keys::load(store.clone()).await?);
    let gateway = Arc::new(gateway(config, &keys, clock)?);
    let ground = ground(config, vault(config, None)?);
    let onboard = Onboard::open(Arc::clone(&gateway), store, ground).await;
    let onboard = Arc::new(onboard.context("the accounts in the store cannot be used")?);
    Ok(House { gateway, keys, onboard })
}

fn gateway(config: &Config, keys: &Arc<Keys>, clock: &Clock) -> anyhow::Result<Gateway> {
    let identity = Identity::new(config.identity.clone(), keys.clone(), clock.clone(), back_office()?)?;
    let pool = Pool::new(config.pool.clone(), clock.clone(), None);
    pool.retry_budget().set_share(config.retry.budget);
    let upstream = Upstream::new(config.workers, Vec::new(), clock.clone());
    let mut gateway = Gateway::new(world(config, identity), pool, upstream, Metrics::new()?, clock.clone());
    gateway.rehearsal = Rehearsal::of(super::environment);
    Ok(gateway)
}

/// The keys of encryption at rest: those of the configuration, then the one in the store's folder, which is made where there
/// would be none. `old` is the vault in use, if there is one.
fn vault(config: &Config, old: Option<&Arc<Vault>>) -> anyhow::Result<Arc<Vault>> {
    let mut keys = config.vault.clone();
    match &config.store {
        StoreUrl::Embedded(folder) => match MasterKey::read(folder)? {
            Some(own) => keys.push(own),
            None if keys.is_empty() => {
                let made = MasterKey::make(folder)?;
                tracing::warn!(
                    id = made.id,
                    file = %folder.join(KEY_FILE).display(),
                    "made a key that encrypts the credentials in the store: back it up apart from the store, or name keys \
                     of your own under `vault.keys` and run `weir vault rotate`"
                );
                keys.push(made);
            }
            None => {}
        },
        StoreUrl::Memory => match old {
            Some(old) if keys.is_empty() => return Ok(Arc::clone(old)),
            None if keys.is_empty() => keys.push(MasterKey::for_this_process()),
            _ => {}
        },
        StoreUrl::Redis(_) => anyhow::ensure!(
            !keys.is_empty(),
            "a store in Redis needs a key under `vault.keys`: all replicas must have the same, and it must not stand beside \
             what it encrypts"
        ),
    }
    Ok(Arc::new(Vault::new(keys)?))
}

fn ground(config: &Config, vault: Arc<Vault>) -> Ground {
    let mut tenants: Vec<_> = config.identity.tenant_limits.keys().cloned().collect();
    tenants.sort();
    Ground {
        vault,
        platforms: config.platforms.clone(),
        accounts: config.accounts.clone(),
        tenants,
        implied_routes: config.implied_routes,
    }
}

/// What a reload replaces, as `config` wants it.
pub fn world(config: &Config, identity: Identity) -> World {
    World {
        identity: Arc::new(identity),
        routes: config.routes.clone(),
        retry: config.retry,
        timeouts: config.timeouts,
        sizes: config.sizes,
        heartbeat: config.heartbeat,
        model_field: config.model_field,
        prices: config.prices.clone(),
    }
}

/// Puts `config` in force, all of it or nothing. Requests under way keep what they began with.
///
/// # Errors
/// Where its identity settings are refused, or its vault cannot decrypt what is in the store: nothing has changed then.
pub fn apply(house: &House, config: &Config) -> anyhow::Result<()> {
    let identity = house.gateway.world().identity.renewed(config.identity.clone())?;
    let vault = vault(config, Some(&house.onboard.vault()))?;
    house.onboard.put_in_force(world(config, identity), ground(config, vault))?;
    house.gateway.pool.retry_budget().set_share(config.retry.budget);
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
