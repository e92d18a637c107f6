//! Accounts by signing in at a platform's own page. Each sign-in is a [`Sitting`]: a browser that this process has open for one person, on
//! one site, for a while. What it comes to is an account like any other.
//!
//! A sitting is where its browser is: in the process that was asked, and not in the store. Nothing of it survives that process.

mod sitting;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::consent::{ConsentError, Initiate, check_name};
use super::kit::Kit;
use super::record::{Held, sealed_row};
use super::{AccountRecord, Consent, Ground, NewAccount, Onboard, OnboardError, TABLE, act};
use crate::browser::settings::Surroundings;
use crate::browser::{Browser, BrowserError, Events, Haul, Settings, Stage, sign_in, stage};
use crate::store::{Expect, Write};

pub use sitting::{Outcome, Owner, Sitting, Viewer};

/// Sittings that are over, kept to be asked about.
const MAX_OVER: usize = 200;

/// A beginner's sitting before this one may take so long to be gone.
const GIVES_WAY: Duration = Duration::from_secs(10);

/// At the end of the process browsers may take so long to be gone.
const LAST_CALL: Duration = Duration::from_secs(10);

/// Why no browser was opened.
#[derive(Debug, thiserror::Error)]
pub enum BrowseError {
    #[error("{0}")]
    Invalid(String),
    /// All browsers are in use.
    #[error("All browsers are in use for other sign-ins. Try again in a few minutes.")]
    Full,
    /// Who asks again before the first is there.
    #[error("Another sign-in of yours is just being opened. Try again in a moment.")]
    Hasty,
    /// The operator's matter.
    #[error("The gateway cannot open a browser: its operator finds why in the log.")]
    NoBrowser(#[source] BrowserError),
    #[error("The gateway is shutting down. Begin again shortly.")]
    Closing,
}

/// The sittings of this process.
#[derive(Debug)]
pub struct Browsing {
    onboard: Arc<Onboard>,
    surroundings: Surroundings,
    /// Where browsers are attended to, from the first on: as long as the process lives, whatever listener a request came from.
    runtime: OnceLock<Handle>,
    desk: Mutex<Desk>,
}

#[derive(Debug, Default)]
struct Desk {
    sittings: HashMap<String, Arc<Sitting>>,
    is_closing: bool,
}

impl Browsing {
    /// Over these parts.
    pub fn new(onboard: Arc<Onboard>, surroundings: Surroundings) -> Arc<Self> {
        Arc::new(Self { onboard, surroundings, runtime: OnceLock::new(), desk: Mutex::default() })
    }

    /// A thread that no listener's end ends.
    fn runtime(&self) -> Result<&Handle, BrowseError> {
        if let Some(known) = self.runtime.get() {
            return Ok(known);
        }
        let failed =
            |error: std::io::Error| BrowseError::NoBrowser(BrowserError::Unstartable(error.to_string()));
        let made = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = made.handle().clone();
        let work = move || made.block_on(std::future::pending::<()>());
        std::thread::Builder::new().name("browsers".into()).spawn(work).map_err(failed)?;
        // Where two come at once, one of the threads has nothing to do.
        Ok(self.runtime.get_or_init(|| handle))
    }

    /// Opens a browser on the login page of the platform that is asked for. Whoever begins another one gives up the one before: nobody
    /// has two.
    ///
    /// # Errors
    /// See [`BrowseError`].
    pub async fn begin(
        self: &Arc<Self>,
        owner: Owner,
        mut ask: Initiate,
    ) -> Result<Arc<Sitting>, BrowseError> {
        let ground = self.onboard.ground();
        let no_site = || BrowseError::Invalid("There is no page to sign in at for that platform.".to_owned());
        let site = ground.browser.for_platform(&ask.platform).cloned().ok_or_else(no_site)?;
        check(&mut ask, &ground)?;
        self.give_up(&owner).await;
        let (stage, wings) = stage();
        let only_here = ground.oauth.public_url.as_ref().is_none_or(|url| url.scheme() == "http");
        let on_desktop = ground.browser.is_on_desktop(&self.surroundings, only_here);
        let clock = &self.onboard.gateway.clock;
        let ends = clock.now() + ground.browser.time_limit;
        let sitting =
            Arc::new(Sitting::new(owner, Arc::clone(&site), ask, wings, !on_desktop, ends, clock.clone()));
        let runtime = self.runtime()?;
        self.seat(&sitting, ground.browser.at_once)?;
        let (opening, opened) = oneshot::channel();
        let (browsing, sat) = (Arc::clone(self), Arc::clone(&sitting));
        let settings = ground.browser.clone();
        runtime.spawn(async move { browsing.attend(&sat, stage, settings, opening).await });
        match opened.await {
            Ok(Ok(())) => Ok(sitting),
            Ok(Err(error)) => {
                tracing::error!(site = site.name, %error, "no browser could be opened for a sign-in");
                Err(BrowseError::NoBrowser(error))
            }
            Err(_) => Err(BrowseError::Closing),
        }
    }

    /// Ends the owner's sitting, and waits until its browser is gone.
    async fn give_up(&self, owner: &Owner) {
        let own = |sitting: &&Arc<Sitting>| sitting.is_of(owner) && sitting.outcome().is_none();
        let before: Vec<Arc<Sitting>> = self.desk.lock().sittings.values().filter(own).cloned().collect();
        for sitting in before {
            sitting.stop(Outcome::Ended("Another sign-in was begun.".to_owned()));
            drop(tokio::time::timeout(GIVES_WAY, sitting.over()).await);
        }
    }

    /// Gives a sitting its place, if there is one.
    fn seat(&self, sitting: &Arc<Sitting>, places: usize) -> Result<(), BrowseError> {
        let mut desk = self.desk.lock();
        if desk.is_closing {
            return Err(BrowseError::Closing);
        }
        let open = || desk.sittings.values().filter(|other| other.outcome().is_none());
        // Of several that came at once, the first.
        if open().any(|other| other.is_of(&sitting.owner)) {
            return Err(BrowseError::Hasty);
        }
        if open().count() >= places {
            return Err(BrowseError::Full);
        }
        let mut over: Vec<(crate::clock::Moment, String)> = desk
            .sittings
            .values()
            .filter(|other| other.outcome().is_some())
            .map(|other| (other.ends, other.id.clone()))
            .collect();
        over.sort();
        for (_, id) in over.iter().take(over.len().saturating_sub(MAX_OVER)) {
            desk.sittings.remove(id);
        }
        desk.sittings.insert(sitting.id.clone(), Arc::clone(sitting));
        self.onboard.gateway.metrics.browsers.inc();
        Ok(())
    }

    /// The sitting of that id, for whoever began it.
    pub fn of_owner(&self, id: &str, owner: &Owner) -> Option<Arc<Sitting>> {
        self.find(id).filter(|sitting| sitting.is_of(owner))
    }

    /// The sitting of that id. Whose it is, is still to be shown.
    pub fn find(&self, id: &str) -> Option<Arc<Sitting>> {
        self.desk.lock().sittings.get(id).cloned()
    }

    /// Ends all sittings, for this reason; no other begins.
    pub fn stop(&self, why: &str) -> Vec<Arc<Sitting>> {
        let mut desk = self.desk.lock();
        desk.is_closing = true;
        for sitting in desk.sittings.values() {
            sitting.stop(Outcome::Ended(why.to_owned()));
        }
        desk.sittings.values().cloned().collect()
    }

    /// As [`Browsing::stop`], and waits until their browsers are gone.
    pub async fn close(&self, why: &str) {
        let sittings = self.stop(why);
        let all = futures_util::future::join_all(sittings.iter().map(|sitting| sitting.over()));
        drop(tokio::time::timeout(LAST_CALL, all).await);
    }

    /// One sitting, from its browser's start to its end. Whatever comes of it, the browser and its profile are gone before that is told.
    async fn attend(
        &self,
        sitting: &Arc<Sitting>,
        stage: Stage,
        settings: Settings,
        opening: oneshot::Sender<Result<(), BrowserError>>,
    ) {
        let metrics = &self.onboard.gateway.metrics;
        let _place = Place { sitting, open: &metrics.browsers };
        if !settings.sandbox {
            let site = sitting.site.name.as_str();
            tracing::warn!(
                site,
                "Chromium's sandbox is off (`oauth.browser.sandbox`): a page that breaks out has the rights of the gateway"
            );
        }
        let outcome = match Browser::open(&settings, &self.surroundings, !sitting.is_relayed).await {
            Err(error) => {
                let outcome = Outcome::Failed(told(&error));
                // Whoever asked may have gone; the log has it then.
                drop(opening.send(Err(error)));
                outcome
            }
            Ok((browser, events)) => {
                drop(opening.send(Ok(())));
                let came = watch(&browser, events, stage, sitting, &settings).await;
                browser.close().await;
                match came {
                    Ok(haul) => self.keep(sitting, haul).await,
                    Err(outcome) => outcome,
                }
            }
        };
        metrics.browser_sign_ins.with_label_values(&[outcome.label()]).inc();
        tracing::info!(
            site = sitting.site.name,
            outcome = outcome.label(),
            "a sign-in in a browser has ended"
        );
        sitting.end(outcome);
    }

    /// Adds the account, or gives the one of that name what its owner has brought.
    async fn keep(&self, sitting: &Sitting, haul: Haul) -> Outcome {
        match self.onboard.signed_in(sitting, haul).await {
            Ok(record) => Outcome::Done { id: record.id, name: record.name },
            Err(OnboardError::Invalid(why)) => Outcome::Failed(why),
            Err(error) => {
                tracing::error!(site = sitting.site.name, %error, "an account that was signed in to could not be kept");
                Outcome::Failed("The account could not be kept: the store failed. Begin again.".to_owned())
            }
        }
    }
}

/// Waits for what comes first: the sign-in's end, the end of its time, or somebody's word.
async fn watch(
    browser: &Browser,
    events: Events,
    mut stage: Stage,
    sitting: &Sitting,
    settings: &Settings,
) -> Result<Haul, Outcome> {
    let (limit, site) = (settings.time_limit, Arc::clone(&sitting.site));
    let signing = sign_in(&browser.line, events, site, &mut stage, sitting.is_relayed, limit);
    tokio::select! {
        biased;
        stopped = sitting.stopped() => Err(stopped),
        came = signing => came.map_err(|error| {
            tracing::warn!(site = sitting.site.name, %error, "a sign-in in a browser came to nothing");
            Outcome::Failed(told(&error))
        }),
        () = tokio::time::sleep(limit) => Err(Outcome::Late),
    }
}

/// What a person is told: what is the operator's matter is in the log.
fn told(error: &BrowserError) -> String {
    if error.is_of_operator() {
        return BrowseError::NoBrowser(error.clone()).to_string();
    }
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

/// A place at the desk, until the sitting is over: also where its attendance ends in a way that nobody thought of.
struct Place<'a> {
    sitting: &'a Sitting,
    open: &'a prometheus::IntGauge,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.open.dec();
        self.sitting.end(Outcome::Failed("The sign-in broke off. Begin again.".to_owned()));
    }
}

/// What can be said before a browser is opened.
fn check(ask: &mut Initiate, ground: &Ground) -> Result<(), BrowseError> {
    if ask.api_key.is_some() {
        let why = "No 'api_key' goes with a sign-in at the platform's page.";
        return Err(BrowseError::Invalid(why.to_owned()));
    }
    if let Some(given) = ask.redirect_after.take() {
        let why = "'redirect_after' is a path here, or a page of an origin under `oauth.return_to`.";
        let place = ground.oauth.place(&given).ok_or_else(|| BrowseError::Invalid(why.to_owned()))?;
        ask.redirect_after = Some(place);
    }
    check_name(&ask.account_name).map_err(|error: ConsentError| BrowseError::Invalid(error.to_string()))
}

impl Onboard {
    /// Adds the account that somebody signed in to; where there is one of that name that came the same way, it gets the new credential.
    async fn signed_in(&self, sitting: &Sitting, haul: Haul) -> Result<AccountRecord, OnboardError> {
        let Owner { who, tenant: owner, by, reach, .. } = &sitting.owner;
        let name = sitting.account_name.as_str();
        let consent = Consent { provider: sitting.provider(), expires: haul.expires, ..Consent::default() };
        // Checked as any key of that platform.
        let new = NewAccount {
            platform: sitting.site.platform.clone(),
            account_name: name.to_owned(),
            owner: Some(owner.clone()),
            added_by: by.clone(),
            api_key: Some(haul.credential.clone()),
            ..NewAccount::default()
        };
        self.refresh().await?;
        let known = {
            let state = self.state.lock();
            let is_it = |held: &&Held| {
                let record = &held.record;
                record.owner.as_ref() == Some(owner)
                    && held.is_within(reach)
                    && record.platform.as_str() == sitting.site.platform
                    && record.name == name
                    && record.consent.as_ref().is_some_and(|known| known.provider == consent.provider)
            };
            // Their own before those of nobody in particular.
            state.held.values().filter(is_it).min_by_key(|held| held.record.added_by != *by).cloned()
        };
        let (fresh, credential) = self.read(new)?;
        let (record, what, expect) = match known {
            Some(held) => {
                let updated = self.gateway.clock.wall_seconds();
                let record = AccountRecord { updated, ..AccountRecord::clone(&held.record) };
                (record, "account.signed_in_again", Expect::Version(held.version))
            }
            None => (fresh, "account.signed_in", Expect::Absent),
        };
        let record = AccountRecord { consent: Some(consent), ..record };
        let value = sealed_row(&record, &Kit::of(credential), &self.vault())?;
        let put = Write::Put { table: TABLE, id: record.id.clone(), value, expect };
        self.write(act(who, what, &record), vec![put]).await?;
        Ok(record)
    }
}

impl Sitting {
    /// What its accounts are marked with. No provider has such a name.
    fn provider(&self) -> String {
        format!("page:{}", self.site.name)
    }
}
