//! From a configuration to a gateway: which part gets what. The only place that knows all of them.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::clock::Clock;
use crate::config::{Config, StoreUrl};
use crate::gateway::departures::Departures;
use crate::gateway::issuer::Keeper;
use crate::gateway::onboard::consent::Consents;
use crate::gateway::onboard::renewal::Renewals;
use crate::gateway::onboard::{Ground, Home, Onboard};
use crate::gateway::people::{self, People};
use crate::gateway::provider::{Provider, Visitors};
use crate::gateway::rehearsal::Rehearsal;
use crate::gateway::{Gateway, World};
use crate::identity::{Identity, OwnIssuer};
use crate::ids::random_name;
use crate::metrics::Metrics;
use crate::oauth::{Careful, Engine, Pending};
use crate::pool::Pool;
use crate::secret::Secret;
use crate::store::{Keys, Records};
use crate::upstream::Upstream;
use crate::vault::{KEY_FILE, MasterKey, Vault};

/// The folder for what belongs to one running gateway (its hand-over socket, its process id).
pub fn state_folder(config: &Config) -> PathBuf {
    match &config.store {
        StoreUrl::Embedded(folder) => folder.clone(),
        _ => std::env::temp_dir().join(format!("weir-{}", config.listen.address.port())),
    }
}

/// Makes the state folder, for the owner's eyes alone.
///
/// # Errors
/// It cannot be made, or is somebody else's: a temporary one has a name that anybody can guess.
pub fn make_state_folder(config: &Config) -> anyhow::Result<PathBuf> {
    let folder = state_folder(config);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.with_context(|| format!("cannot make {}", folder.display()))?;
    if !matches!(config.store, StoreUrl::Embedded(_)) {
        let own = our_number(&folder).with_context(|| format!("cannot write in {}", folder.display()))?;
        let found = std::fs::symlink_metadata(&folder)?;
        anyhow::ensure!(
            found.is_dir() && found.uid() == own && found.mode() & 0o022 == 0,
            "{} belongs to somebody else: remove it, or let TMPDIR name a folder of your own",
            folder.display()
        );
    }
    Ok(folder)
}

/// The number of the user that we are, as the system has it: that of the owner of a file that we make in `folder`.
fn our_number(folder: &Path) -> std::io::Result<u32> {
    let path = folder.join(random_name("whose-", 12));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let owner = file.metadata()?.uid();
    std::fs::remove_file(&path)?;
    Ok(owner)
}

/// Removes what stands in the state folder where that is a temporary one: nobody has taken over.
pub fn leave_state_folder(config: &Config) {
    if !matches!(config.store, StoreUrl::Embedded(_)) {
        let folder = state_folder(config);
        for name in [OPERATOR_TOKEN, HANDOVER_SOCKET] {
            drop(std::fs::remove_file(folder.join(name)));
        }
        // Only if nothing else is in it.
        drop(std::fs::remove_dir(&folder));
    }
}

/// A client for back-office calls (JWKS): bounded in time, never redirected.
pub fn back_office() -> anyhow::Result<reqwest::Client> {
    Ok(back_office_builder().build()?)
}

fn back_office_builder() -> reqwest::ClientBuilder {
    // Said once, before the first TLS connection: reqwest brings no provider of its own.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(5))
        .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
}

/// A client for addresses that somebody else may have named: they lead inside only where the configuration does.
fn careful(onboard: &Arc<Onboard>) -> anyhow::Result<Arc<Careful>> {
    let ours = Arc::clone(onboard);
    let is_named = move |url: &url::Url| ours.ground().oauth.names(url);
    Ok(Arc::new(Careful::new(back_office_builder, Arc::new(is_named))?))
}

/// What goes on beside requests: what adds accounts by consent, what renews their tokens, and what gives them up with their owners.
#[derive(Clone)]
pub struct Staff {
    pub consents: Arc<Consents>,
    pub renewals: Arc<Renewals>,
    pub departures: Arc<Departures>,
}

/// The staff of a house.
pub fn staff(house: &House, records: Arc<dyn Records>, clock: &Clock) -> anyhow::Result<Staff> {
    let onboard = &house.onboard;
    let engine = Engine::new(careful(onboard)?);
    let pending = Pending::new(Arc::clone(&records), clock.clone());
    let home = Arc::new(Home::default());
    let consents = Consents::new(Arc::clone(onboard), engine.clone(), pending, Arc::clone(&home));
    let consents = Arc::new(consents);
    let renewals = Renewals::new(Arc::clone(onboard), engine, home);
    onboard.renew_by(&renewals);
    let (people, provider) = (Arc::clone(&house.people), Arc::clone(&house.provider));
    let parts = (Arc::clone(onboard), Arc::clone(&consents), people, provider);
    let departures = Departures::new(records, parts, clock.clone());
    Ok(Staff { consents, renewals, departures })
}

/// Where this process is reached, for links to itself.
pub fn own_url(config: &Config) -> Arc<str> {
    let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
    Arc::from(format!("{scheme}://{}", config.listen.address))
}

/// A whole gateway, without its sockets. Clones are the same one.
#[derive(Clone)]
pub struct House {
    pub gateway: Arc<Gateway>,
    pub keys: Arc<Keys>,
    pub onboard: Arc<Onboard>,
    pub people: Arc<People>,
    pub provider: Arc<Provider>,
}

/// A gateway as `config` wants it, over `records`, with `pool` to take accounts from. Where it is to serve, `journals` is the
/// folder in which it writes down what was used.
///
/// # Errors
/// Where a part of it refuses its settings, or the records hold what cannot be read or decrypted.
pub async fn house(
    config: &Config,
    records: Arc<dyn Records>,
    pool: Pool,
    journals: Option<&Path>,
    clock: &Clock,
) -> anyhow::Result<House> {
    let keys = Arc::new(Keys::load(Arc::clone(&records)).await?);
    let own = Arc::new(OwnIssuer::new(clock.clone()));
    name(&own, config);
    let mut gateway = gateway(config, &keys, Arc::clone(&own), pool, clock)?;
    if let Some(folder) = journals {
        gateway.ledger.write_down(folder.to_owned()).context("usage cannot be written down")?;
    }
    let gateway = Arc::new(gateway);
    let vault = vault(config, None)?;
    let keeper = Keeper::open(own, Arc::clone(&records), Arc::clone(&vault), clock.clone()).await;
    let keeper = Arc::new(keeper.context("the signing keys in the store cannot be used")?);
    let entrance = entrance(config, Arc::clone(&vault));
    let onboard = Onboard::open(Arc::clone(&gateway), Arc::clone(&records), ground(config, vault)).await;
    let onboard = Arc::new(onboard.context("the accounts in the store cannot be used")?);
    let web = careful(&onboard)?;
    let people = People::new(Arc::clone(&keeper), Arc::clone(&records), web, entrance, clock.clone());
    let people = Arc::new(people);
    let visitors: Arc<dyn Visitors> = people.clone();
    let provider = Provider::new(keeper, records, visitors, config.provider.clone(), clock.clone());
    // Before the first request: it may be of an app whose owner is kept out.
    provider.heed_owners().await.context("who is kept out cannot be read")?;
    Ok(House { gateway, keys, onboard, people, provider: Arc::new(provider) })
}

/// Under which name tokens are made and taken here.
fn name(own: &OwnIssuer, config: &Config) {
    own.rename(config.provider.public_url.as_deref(), config.provider.enabled);
}

/// What people sign in on. Where the configuration lets them in, it says under which name we are reached.
fn entrance(config: &Config, vault: Arc<Vault>) -> people::Ground {
    let url = config.provider.public_url.clone().unwrap_or_default();
    people::Ground { settings: config.sign_in.clone(), oauth: config.oauth.clone(), url, vault }
}

fn gateway(
    config: &Config,
    keys: &Arc<Keys>,
    own: Arc<OwnIssuer>,
    pool: Pool,
    clock: &Clock,
) -> anyhow::Result<Gateway> {
    let identity = Identity::new(config.identity.clone(), keys.clone(), clock.clone(), back_office()?)?;
    let identity = identity.with_own(own);
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
                tracing::info!(
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
        oauth: config.oauth.clone(),
        browser: config.browser.clone(),
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
    let keeper = house.provider.keeper();
    keeper.check(&vault).context("the signing keys in the store cannot be used")?;
    house.onboard.put_in_force(world(config, identity), ground(config, Arc::clone(&vault)))?;
    house.people.put_in_force(entrance(config, Arc::clone(&vault)));
    keeper.put_vault(vault);
    house.provider.put_in_force(config.provider.clone());
    name(keeper.own(), config);
    house.gateway.pool.retry_budget().set_share(config.retry.budget);
    Ok(())
}

/// The socket over which a successor asks for the listening ones.
pub const HANDOVER_SOCKET: &str = "handover.sock";

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
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
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

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;
    use crate::gateway::onboard::{NewAccount, OnboardError};
    use crate::gateway::reach::Reach;
    use crate::ids::{PlatformName, TenantId};
    use crate::keybook::{KeyBook, KeyHash, NewKey};
    use crate::store::Store;
    use crate::vault::VaultError;

    const K1: (&str, &str) = ("k1", "MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE=");
    const K2: (&str, &str) = ("k2", "MjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjI=");

    fn config(keys: &[(&str, &str)]) -> Config {
        let keys: Vec<String> = keys.iter().map(|(id, key)| format!("{{id: {id}, key: '{key}'}}")).collect();
        let text = format!("store: memory\nvault: {{keys: [{}]}}\n", keys.join(", "));
        crate::config::parse(&text, "test", &|_| None).expect("right")
    }

    /// One of several processes over one store.
    async fn replica(store: &Store, keys: &[(&str, &str)]) -> anyhow::Result<House> {
        let (config, clock) = (config(keys), Clock::system());
        let pool = Pool::new(config.pool.clone(), clock.clone(), None);
        house(&config, Arc::new(store.clone()), pool, None, &clock).await
    }

    fn account(name: &str) -> NewAccount {
        NewAccount {
            platform: "openai".to_owned(),
            account_name: name.to_owned(),
            api_key: Some(Secret::new(format!("sk-{name}"))),
            owner: Some("alpha".into()),
            ..NewAccount::default()
        }
    }

    fn has_any(house: &House) -> bool {
        house.gateway.pool.has_any(&PlatformName::from("openai"), &TenantId::from("alpha"))
    }

    #[tokio::test]
    async fn what_one_process_changes_another_notices() {
        let store = Store::in_memory().expect("a store");
        let one = replica(&store, &[K1]).await.expect("opens");
        let other = replica(&store, &[K2, K1]).await.expect("opens");
        let added = one.onboard.add("t", account("a")).await.expect("added");
        assert!(has_any(&one) && !has_any(&other));
        other.onboard.tick().await.expect("read");
        assert!(has_any(&other));
        assert!(other.gateway.world().routes.find("gpt-4o").is_some(), "its models are routed, too");
        other.onboard.switch("t", &Reach::Everything, &added.id, Some(false)).await.expect("off");
        one.onboard.tick().await.expect("read");
        assert!(!has_any(&one));
        // Encrypted there with a key that is not known here: said, and what was known stays.
        other.onboard.switch("t", &Reach::Everything, &added.id, Some(true)).await.expect("on");
        one.onboard.tick().await.expect("read");
        other.onboard.rotate("t").await.expect("rotated");
        one.onboard.tick().await.expect("read");
        assert!(has_any(&one));
        other.onboard.remove("t", &Reach::Tenant("alpha".into()), &added.id, "").await.expect("gone");
        one.onboard.tick().await.expect("read");
        assert!(!has_any(&one) && one.onboard.list(&Reach::Everything).is_empty());
        let new = NewKey {
            name: "k".into(),
            tenant: "alpha".into(),
            scopes: vec![crate::keybook::Scope::Chat],
            models: None,
            limits: None,
            expires: None,
        };
        let (_, key) = one.keys.create("t", new, 1_000).await.expect("made");
        other.keys.refresh().await.expect("read");
        assert!(other.keys.find(&KeyHash::of(key.expose().as_bytes())).is_some());
        let verified = one.onboard.audit().verify().await.expect("read");
        assert_eq!((verified.good, verified.broken), (7, None));
    }

    #[tokio::test]
    async fn a_rotation_that_stops_anywhere_leaves_everything_readable() {
        let store = Store::in_memory().expect("a store");
        let old = replica(&store, &[K1]).await.expect("opens");
        for number in 0..30 {
            old.onboard.add("t", account(&number.to_string())).await.expect("added");
        }
        let mut were_between = false;
        for steps in 1..1000 {
            let new = replica(&store, &[K2, K1]).await.expect("both are known");
            // Stopped by steps and not by time, of which a busy machine has too little or too much.
            let (mut rotating, mut left) = (std::pin::pin!(new.onboard.rotate("t")), steps);
            let is_done = std::future::poll_fn(|context| {
                left -= 1;
                match rotating.as_mut().poll(context) {
                    Poll::Pending if left == 0 => Poll::Ready(false),
                    polled => polled.map(|rotated| rotated.is_ok()),
                }
            });
            let is_done = is_done.await;
            let (first, second) = (replica(&store, &[K1]).await, replica(&store, &[K2]).await);
            were_between |= first.is_err() && second.is_err();
            assert_eq!(
                replica(&store, &[K1, K2]).await.expect("readable").onboard.list(&Reach::Everything).len(),
                30
            );
            if is_done {
                break;
            }
        }
        assert!(were_between, "it never stopped in the middle");
        let rotated = replica(&store, &[K2, K1]).await.expect("opens").onboard.rotate("t").await;
        assert_eq!(rotated.expect("rotated").of, 30);
        assert!(replica(&store, &[K2]).await.is_ok());
        let Err(error) = replica(&store, &[K1]).await else { panic!("the key is gone") };
        let Some(OnboardError::Vault(VaultError::UnknownKey { key, .. })) = error.downcast_ref() else {
            panic!("{error:#}")
        };
        assert_eq!(key, "k2");
    }
}
