//! Accounts over a store and providers of the tests' own: who is renewed when, and what a change costs.

mod changes;
mod issuers;
mod rounds;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::kit::{Kit, Tokens};
use super::record::sealed_row;
use super::*;
use crate::clock::{Clock, Hand};
use crate::dialect::Unsupported;
use crate::gateway::World;
use crate::gateway::route::RouteTable;
use crate::gateway::settings::{Retry, Sizes, Timeouts};
use crate::identity::Identity;
use crate::keybook::NoKeys;
use crate::metrics::Metrics;
use crate::oauth::{Provider, Row as ProviderRow};
use crate::pool::{self, Pool};
use crate::secret::Secret;
use crate::upstream::Upstream;
use crate::vault::MasterKey;

/// Now, in seconds since 1970, when a test begins.
const NOW: u64 = 1_800_000_000;

fn clock() -> (Clock, Arc<Hand>) {
    drop(rustls::crypto::ring::default_provider().install_default());
    Clock::manual(NOW * 1000)
}

fn vault() -> Arc<Vault> {
    Arc::new(Vault::new(vec![MasterKey::for_this_process()]).expect("a vault"))
}

fn defaults() -> Defaults {
    let second = Duration::from_secs(1);
    let timeouts = Timeouts {
        connect: second,
        response_header: second,
        first_token: second,
        idle: second,
        total: second,
        heartbeat: second,
        request_header: second,
        client_idle: second,
    };
    Defaults {
        strategy: pool::settings::Strategy::default(),
        unsupported: Unsupported::default(),
        timeouts,
        on_budget: Default::default(),
    }
}

/// What a configuration gives that names these providers, and no routes.
fn ground(vault: &Arc<Vault>, providers: &[&str]) -> Ground {
    let platforms = Platform::built_in().expect("platforms").into_iter().map(Arc::new).collect();
    let oauth = oauth::Settings {
        public_url: None,
        state_ttl: Duration::from_secs(600),
        return_to: Vec::new(),
        providers: providers.iter().map(|name| Arc::new(provider(name))).collect(),
    };
    Ground {
        vault: Arc::clone(vault),
        platforms,
        accounts: Vec::new(),
        oauth,
        browser: browser::Settings::default(),
        tenants: Vec::new(),
        implied_routes: Some(defaults()),
    }
}

fn provider(name: &str) -> Provider {
    let row = ProviderRow {
        authorize_url: Some(format!("https://{name}.example/authorize")),
        token_url: Some(format!("https://{name}.example/token")),
        client_id: Some("weir".to_owned()),
        ..ProviderRow::default()
    };
    Provider::compile(name, row).expect("a row")
}

/// A gateway with nothing in it but a pool.
fn gateway(clock: &Clock, ground: &Ground) -> Arc<Gateway> {
    let defaults = defaults();
    let settings = pool::settings::Settings {
        lease_ttl: Duration::from_secs(10),
        on_outage: pool::settings::OnOutage::default(),
    };
    let identity = crate::identity::settings::Settings::default();
    let identity = Identity::new(identity, Arc::new(NoKeys), clock.clone(), reqwest::Client::new());
    let sizes = Sizes { body: 1, header: 1, inflight_body_bytes: 1, answer: 1, event: 1 };
    let world = World {
        identity: Arc::new(identity.expect("settings")),
        routes: RouteTable::new(Vec::new(), &ground.platforms, defaults),
        retry: Retry { attempts: 1, budget: 0.0, deadline: Duration::from_secs(1) },
        timeouts: defaults.timeouts,
        sizes,
        heartbeat: Default::default(),
        model_field: Default::default(),
        prices: Default::default(),
    };
    let upstream = Upstream::new(1, Vec::new(), clock.clone());
    let pool = Pool::new(settings, clock.clone(), Some(1));
    Arc::new(Gateway::new(world, pool, upstream, Metrics::new().expect("metrics"), clock.clone()))
}

/// A gateway's accounts, over a store that others may have, too.
async fn replica(clock: &Clock, records: &Arc<dyn Records>, ground: Ground) -> Arc<Onboard> {
    let gateway = gateway(clock, &ground);
    Arc::new(Onboard::open(gateway, Arc::clone(records), ground).await.expect("opens"))
}

/// An account that lives on a consent and whose token ends in so many seconds.
fn consented(id: &str, provider: &str, lives: u64) -> (AccountRecord, Kit) {
    let consent = Consent {
        provider: provider.to_owned(),
        expires: Some(NOW + lives),
        lifetime: Some(3600),
        ..Consent::default()
    };
    let record = json!({
        "id": id, "platform": "openai", "name": id, "weight": 1, "priority": 0, "enabled": true,
        "created": 0, "updated": 0, "consent": consent,
    });
    let tokens = Tokens {
        access: Secret::new(format!("access of {id}")),
        refresh: Some(Secret::new(format!("refresh-of-{id}"))),
        carried: BTreeMap::new(),
    };
    (serde_json::from_value(record).expect("a record"), Kit::of_consent(tokens, None))
}

fn put((record, kit): &(AccountRecord, Kit), vault: &Vault) -> Write {
    let value = sealed_row(record, kit, vault).expect("sealed");
    Write::Put { table: TABLE, id: record.id.clone(), value, expect: Expect::Anything }
}
