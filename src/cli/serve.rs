//! `weir serve`: load, wire, serve, drain.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::backing::Backing;
use super::bookkeeper::Bookkeeper;
use super::browsers::Browsers;
use super::purse::Purse;
use super::wiring::{self, House, Staff};
use super::{block_on, environment, logs};
use crate::clock::Clock;
use crate::config::watch::{Live, watch};
use crate::config::{Config, Openness};
use crate::gateway::departures::Departures;
use crate::gateway::issuer::IssuerError;
use crate::gateway::onboard::Onboard;
use crate::gateway::onboard::renewal::Renewals;
use crate::gateway::people::People;
use crate::http::plane::{self, Operations, Plane};
use crate::http::serve::{self, Connections, Ending, Handover, Listener, Told};
use crate::http::service::Desk;
use crate::http::tls::{self, Certificate};
use crate::http::wire::Patience;
use crate::pool::Pool;
use crate::secret::Secret;
use crate::store::{Act, StoreError};

/// How long a successor waits for the old process to let the store go.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(30);

/// How long the start waits to hear which accounts rest.
const INTRODUCTIONS: Duration = Duration::from_secs(2);

/// How long a provider that is just renewing a token is waited for at the end: its answer must be kept.
const LAST_TOKENS: Duration = Duration::from_secs(10);

/// Between two requests on one connection.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

struct Reload {
    live: Arc<Live>,
    house: House,
}

impl Reload {
    fn put_in_force(&self, config: &Config) -> Result<(), String> {
        let applied = wiring::apply(&self.house, config).map_err(|error| format!("{error:#}"));
        let result = if applied.is_ok() { "ok" } else { "refused" };
        self.house.gateway.metrics.reloads.with_label_values(&[result]).inc();
        applied
    }
}

impl Operations for Reload {
    fn reload(&self) -> Result<(), String> {
        match self.live.reload() {
            Ok(config) => self.put_in_force(&config),
            Err(report) => {
                self.house.gateway.metrics.reloads.with_label_values(&["refused"]).inc();
                Err(report.to_string())
            }
        }
    }
}

/// Serves until told to stop.
///
/// # Errors
/// Where the configuration, the store or a listener cannot be used.
pub fn run(path: Option<&Path>, is_successor: bool) -> anyhow::Result<()> {
    let clock = Clock::system();
    let live =
        Arc::new(Live::load(path, Box::new(environment)).map_err(|report| anyhow::anyhow!("{report}"))?);
    let config = live.current();
    let _logging = logs::start(&config.log, clock.clone())?;
    run_config(live, &config, is_successor, clock, CancellationToken::new())
}

/// Waits for what is known of accounts since before this process began; not for long.
async fn introductions(pool: &Pool) -> anyhow::Result<()> {
    if !pool.introduced(INTRODUCTIONS).await {
        tracing::warn!("it is not known which accounts rest: some may be tried before their time");
    }
    Ok(())
}

/// Serves `config` until a signal, or `stop`, ends it.
///
/// # Errors
/// As [`run`].
pub fn run_config(
    live: Arc<Live>,
    config: &Config,
    is_successor: bool,
    clock: Clock,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let folder = wiring::make_state_folder(config)?;
    let handover =
        Handover { socket: folder.join(wiring::HANDOVER_SOCKET).display().to_string(), is_successor };
    let process_file = folder.join("weir.pid");
    if is_successor {
        call_predecessor(&process_file)?;
    }
    let patience = if is_successor { HANDOVER_PATIENCE } else { Duration::ZERO };
    let backing = Backing::open(config, patience, &clock)?;
    let (pool, purse) = Purse::open(&config.pool, &backing, &clock)?;
    let house = block_on(wiring::house(config, backing.records(), pool, Some(&folder), &clock))?;
    block_on(introductions(&house.gateway.pool))?;
    let purse = Arc::new(purse);
    let (gateway, onboard, people) = (house.gateway.clone(), house.onboard.clone(), house.people.clone());
    let staff = wiring::staff(&house, backing.records(), &clock)?;
    let renewals = Arc::clone(&staff.renewals);
    let reload = Arc::new(Reload { live: Arc::clone(&live), house });
    let operator = wiring::leave_operator_token(&folder)?;
    let plane = plane(config, &reload, &backing, staff.clone(), operator);
    let browsers = Browsers::of(&plane);
    let public = Arc::new(Desk {
        gateway: Arc::clone(&gateway),
        plane: plane::public(plane.clone()),
        is_public: true,
    });
    let admin =
        Arc::new(Desk { gateway: Arc::clone(&gateway), plane: plane::admin(plane), is_public: false });
    let certificate = certificate(config)?;
    let connections: Arc<Connections> = Arc::default();
    let ending = Ending { delay: config.drain.delay, timeout: config.drain.timeout };
    let listeners = listeners(config, &public, &admin, certificate.clone())?;
    let (listen, admin) = (config.listen.address, config.admin_listen);
    let opened = Box::new(move || tracing::info!(%listen, %admin, "weir is up"));
    let server = serve::build(listeners, &handover, &connections, ending, opened)?;
    std::fs::write(&process_file, std::process::id().to_string()).context("cannot write the process id")?;
    let bookkeeper = Bookkeeper { gateway, records: backing.records(), journals: folder };
    attend(live, reload, certificate, bookkeeper.clone())?;
    keep_consents(staff, people)?;
    let let_go = release(&backing, &purse, &renewals, browsers.clone());
    serve::run(server, &public, &connections, ending, Told { before_handover: Box::new(let_go), stop });
    browsers.close();
    renewals.close(LAST_TOKENS);
    purse.close();
    block_on(async {
        bookkeeper.close().await;
        Ok(())
    })?;
    // Best effort: a successor may have the store by now.
    drop(block_on(async { Ok(onboard.keep_uses().await?) }));
    if wiring::read_process_id(&process_file) == i32::try_from(std::process::id()).ok() {
        drop(std::fs::remove_file(&process_file));
        wiring::leave_state_folder(config);
    }
    tracing::info!("weir is down");
    Ok(())
}

/// What the handlers of the control plane have at hand.
fn plane(
    config: &Config,
    reload: &Arc<Reload>,
    backing: &Backing,
    Staff { consents, renewals, departures }: Staff,
    operator: Secret,
) -> Plane {
    let House { gateway, keys, onboard, people, provider } = reload.house.clone();
    Plane {
        #[cfg(feature = "browser")]
        browsing: Browsers::browsing(&onboard),
        gateway,
        operations: reload.clone(),
        keys,
        records: backing.records(),
        onboard,
        consents,
        renewals,
        own_url: wiring::own_url(config),
        people,
        provider,
        departures,
        operator: Arc::new(operator),
        metrics_are_open: config.metrics == Openness::Open,
    }
}

/// Tells the running gateway to hand its sockets over.
fn call_predecessor(process_file: &Path) -> anyhow::Result<()> {
    let id = wiring::read_process_id(process_file).with_context(|| {
        format!("no running gateway to take over from: {} is missing", process_file.display())
    })?;
    // pingora's side waits for us on the socket, and we for it: the order does not matter.
    let told = std::process::Command::new("kill").args(["-QUIT", &id.to_string()]).status();
    let told = told.context("cannot signal the running gateway")?;
    anyhow::ensure!(told.success(), "the running gateway (process {id}) cannot be signalled");
    Ok(())
}

/// What is let go of before the sockets are handed over: the embedded store can be open in one process only.
fn release(
    backing: &Backing,
    purse: &Arc<Purse>,
    renewals: &Arc<Renewals>,
    browsers: Browsers,
) -> impl Fn() + Send + Sync + 'static {
    let store = match backing {
        Backing::Own(store) => Some(Arc::clone(store)),
        Backing::Shared { .. } => None,
    };
    let (purse, renewals) = (Arc::clone(purse), Arc::clone(renewals));
    move || {
        browsers.hand_over();
        if let Some(store) = &store {
            renewals.close(LAST_TOKENS);
            purse.hand_over();
            store.release();
        }
    }
}

fn certificate(config: &Config) -> anyhow::Result<Option<Arc<Certificate>>> {
    let Some(files) = &config.listen.tls else { return Ok(None) };
    Ok(Some(Arc::new(Certificate::load(&files.cert, &files.key).context("listen.tls")?)))
}

fn listeners(
    config: &Config,
    public: &Arc<Desk>,
    admin: &Arc<Desk>,
    certificate: Option<Arc<Certificate>>,
) -> anyhow::Result<Vec<Listener>> {
    let patience = Patience {
        head: config.timeouts.request_header,
        stall: config.timeouts.client_idle,
        keep_alive: KEEP_ALIVE,
    };
    let head_limit = config.sizes.header;
    Ok(vec![
        Listener {
            address: config.listen.address,
            tls: certificate.map(tls::server_config).transpose()?,
            desk: Arc::clone(public),
            patience,
            head_limit,
            workers: config.workers,
        },
        // The last: where it answers, callers are served.
        Listener {
            address: config.admin_listen,
            tls: None,
            desk: Arc::clone(admin),
            patience,
            head_limit,
            workers: 1,
        },
    ])
}

/// Watches the configuration and the certificate, and sweeps idle connections, on a thread of its own.
fn attend(
    live: Arc<Live>,
    reload: Arc<Reload>,
    certificate: Option<Arc<Certificate>>,
    bookkeeper: Bookkeeper,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("attendant".into()).spawn(move || {
        runtime.block_on(async move {
            tokio::spawn(housekeeping(Arc::clone(&reload), certificate));
            tokio::spawn(bookkeeper.work());
            let watched = watch(&live, |outcome| match outcome {
                Ok(config) => {
                    if let Err(error) = reload.put_in_force(&config) {
                        tracing::error!(%error, "the new configuration is refused; the old one stays in force");
                    } else {
                        tokio::spawn(note_reload(Arc::clone(&reload.house.onboard)));
                    }
                }
                Err(_) => reload.house.gateway.metrics.reloads.with_label_values(&["refused"]).inc(),
            });
            if let Err(error) = watched.await {
                tracing::error!(%error, "the configuration is not watched");
            }
        });
    })?;
    Ok(())
}

/// Nobody asked for it but the file itself.
async fn note_reload(onboard: Arc<Onboard>) {
    let act = Act::new("weir", "configuration.reloaded", "", "its file changed, or SIGHUP came");
    if let Err(error) = onboard.note(act).await {
        tracing::error!(%error, "the reload is not in the audit log");
    }
}

/// Between two looks at what is due of sign-ins and tokens.
const LOOK: Duration = Duration::from_secs(1);

/// Between two looks at what people who were removed have left.
const FAREWELLS: Duration = Duration::from_secs(5);

/// Renews tokens ahead of their end, asks what became of devices, gives up what people left who were removed, and forgets sign-ins
/// that nobody finished and sessions that are over, for as long as the process lives. Side by side: a provider that is slow to renew
/// keeps nobody from signing in.
fn keep_consents(staff: Staff, people: Arc<People>) -> anyhow::Result<()> {
    let Staff { consents, renewals, departures } = staff;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let at_work = Arc::clone(&renewals);
    let renew = async move {
        loop {
            tokio::time::sleep(LOOK).await;
            at_work.tick();
        }
    };
    let seen_off = see_off(departures, Arc::clone(&people));
    let sign_in = async move {
        for tick in 0_u32.. {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = consents.ask_devices().await {
                tracing::debug!(%error, "devices are asked about later");
            }
            if tick % 60 != 0 {
                continue;
            }
            for swept in [consents.sweep().await, people.sweep().await] {
                if let Err(error) = swept {
                    tracing::debug!(%error, "old sign-ins stay for now");
                }
            }
        }
    };
    renewals.live_on(runtime.handle().clone());
    let work = async move {
        tokio::spawn(renew);
        tokio::spawn(seen_off);
        sign_in.await;
    };
    std::thread::Builder::new().name("renewals".into()).spawn(move || runtime.block_on(work))?;
    Ok(())
}

/// Gives up what people left who were removed, also before this process began.
async fn see_off(departures: Arc<Departures>, people: Arc<People>) {
    let mut is_noted = false;
    loop {
        tokio::time::sleep(LOOK).await;
        if !is_noted {
            match people.note_kept_out().await {
                Ok(()) => is_noted = true,
                Err(error) => tracing::debug!(%error, "who is kept out is noted later"),
            }
        }
        if let Err(error) = departures.tick().await {
            tracing::debug!(%error, "who was removed is seen off later");
        }
        tokio::time::sleep(FAREWELLS).await;
    }
}

/// When accounts were last used is written down once in so many ticks.
const USES_EVERY: u32 = 60;

/// What is due twice a second: a key that another replica revoked is to be refused here within one.
async fn housekeeping(reload: Arc<Reload>, certificate: Option<Arc<Certificate>>) {
    let House { gateway, keys, onboard, people, provider } = &reload.house;
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_reachable = true;
    for tick in 1_u32.. {
        ticks.tick().await;
        // Each for itself: what one of them cannot read must not keep the others from hearing of a revocation.
        let told: [Result<(), IssuerError>; 5] = [
            keys.refresh().await.map_err(Into::into),
            onboard.tick().await.map_err(Into::into),
            provider.tick().await,
            people.tick().await,
            match tick % USES_EVERY {
                0 => onboard.keep_uses().await.map_err(Into::into),
                _ => Ok(()),
            },
        ];
        is_reachable = match told.into_iter().collect::<Result<(), _>>() {
            Ok(()) => true,
            // A successor has it.
            Err(IssuerError::Store(StoreError::Released)) => is_reachable,
            Err(error) => {
                if is_reachable {
                    tracing::error!(%error, "not all of the store can be read: what cannot stays as it is known here");
                }
                false
            }
        };
        gateway.upstream.sweep();
        match certificate.as_ref().map(|certificate| certificate.refresh()) {
            Some(Ok(true)) => tracing::info!("a new certificate is in force"),
            Some(Err(error)) => {
                tracing::error!(%error, "the new certificate is refused; the old one stays in force")
            }
            _ => {}
        }
    }
}
