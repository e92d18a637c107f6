//! Accounts that are added while the gateway runs, beside those of the configuration. Why here and not in the pool: the
//! pool spends what it is given; this decides what that is, from the store, the vault and the configuration, and none of
//! the three knows the others.
//!
//! A change is written to the store together with its entry in the audit log, then taken over into the pool. What other
//! processes change is noticed by [`Onboard::tick`].

#[cfg(feature = "browser")]
pub mod browsing;
pub mod consent;
mod home;
mod kit;
mod listing;
mod places;
mod record;
pub mod renewal;
mod resting;
mod rotation;
mod trial;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Gateway;
use super::reach::Reach;
use super::route::Defaults;
use crate::browser;
use crate::ids::{AccountId, TenantId};
use crate::oauth::{self, Client, Engine, Hearsay, OAuthError, Provider};
use crate::platform::auth::Credential;
use crate::platform::profile::Platform;
use crate::pool::settings::{Account, LastUsed};
use crate::store::{self, Act, Audit, Expect, Mark, Name, Records, StoreError, Write};
use crate::vault::{Vault, VaultError};

pub use home::Home;
use kit::Kit;
pub use listing::Listed;
use places::Places;
pub use record::{AccountRecord, Consent, NewAccount};
use record::{Held, row, sealed_row};
use resting::Resting;
pub use rotation::Rotated;
pub use trial::Trial;

const TABLE: Name = "accounts";

/// When accounts were last used, apart from the accounts: that changes all the time, and is nobody's change.
const USES: Name = "account_uses";

/// Most accounts of one tenant in the store.
const MAX_PER_TENANT: usize = 1000;

/// How often a change is tried again when somebody else was quicker.
const TRIES: usize = 10;

/// Why an account could not be added, changed or read.
#[derive(Debug, thiserror::Error)]
pub enum OnboardError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What was asked for makes no sense; the sentence is for whoever asked.
    #[error("{0}")]
    Invalid(String),
    /// There is none, or it is somebody else's: which of the two is not told.
    #[error("There is no account of that id.")]
    NotFound,
}

/// What the configuration gives.
#[derive(Debug)]
pub struct Ground {
    pub vault: Arc<Vault>,
    pub platforms: Vec<Arc<Platform>>,
    /// Accounts of the file. Where an account of the store has the same id, the file's counts.
    pub accounts: Vec<Account>,
    /// Through whom accounts are added by consent.
    pub oauth: oauth::Settings,
    /// Where accounts are added by signing in at a page.
    pub browser: browser::Settings,
    /// Tenants that the file names.
    pub tenants: Vec<TenantId>,
    /// Where the file names no routes: what those that follow from the accounts have in common.
    pub implied_routes: Option<Defaults>,
}

impl Ground {
    /// Whether accounts of a platform are added by signing in at its page: it has one here, and no provider that is asked instead.
    pub fn has_page(&self, platform: &str) -> bool {
        self.browser.for_platform(platform).is_some() && self.oauth.for_platform(platform).is_none()
    }
}

/// The accounts of the store, and their way into the pool.
#[derive(Debug)]
pub struct Onboard {
    gateway: Arc<Gateway>,
    records: Arc<dyn Records>,
    audit: Audit,
    /// Providers of accounts, with what their issuers say of themselves.
    known: Hearsay<Provider>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ground: Arc<Ground>,
    held: BTreeMap<String, Held>,
    /// Up to when `held` shows the table at least; `None`: all of it is to be read again.
    mark: Option<Mark>,
    /// Of a row that is in the store `held` shows nothing, or what it was before: it could not be read with this vault.
    has_unread: bool,
    /// What the pool was given of it.
    places: Places,
    uses: HashMap<AccountId, LastUsed>,
    /// What of `uses` the store knows.
    kept_uses: HashMap<AccountId, u64>,
    /// Accounts whose credential the platform no longer took, when last looked at.
    expired: HashSet<AccountId>,
    /// Whose accounts rest.
    resting: Resting,
}

impl Onboard {
    /// Reads the store's accounts and gives them to the gateway's pool, beside those of the file.
    ///
    /// # Errors
    /// A record that cannot be read or decrypted: nothing starts with half of its accounts, and nothing has changed.
    pub async fn open(
        gateway: Arc<Gateway>,
        records: Arc<dyn Records>,
        ground: Ground,
    ) -> Result<Self, OnboardError> {
        let mark = records.changes(TABLE, None).await?.mark;
        let rows = store::all(&*records, TABLE).await?;
        let held = rows.iter().map(|row| Ok((row.id.clone(), Held::read(row, &ground.vault)?)));
        let held = held.collect::<Result<BTreeMap<_, _>, OnboardError>>()?;
        let mut uses = HashMap::new();
        let mut kept_uses = HashMap::new();
        for row in store::all(&*records, USES).await? {
            let (id, seconds) = (AccountId::from(row.id.as_str()), seconds_of(&row.value));
            uses.insert(id.clone(), LastUsed::at(seconds));
            kept_uses.insert(id, seconds);
        }
        let state = State {
            ground: Arc::new(ground),
            held,
            mark: Some(mark),
            has_unread: false,
            places: Places::default(),
            uses,
            kept_uses,
            expired: HashSet::new(),
            resting: Resting::read(&*records).await?,
        };
        let audit = Audit::new(Arc::clone(&records));
        let known = Hearsay::new(gateway.clock.clone());
        let onboard = Self { gateway, records, audit, known, state: Mutex::new(state) };
        onboard.place_all(&mut onboard.state.lock());
        Ok(onboard)
    }

    /// The log of what was done.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The vault in use.
    pub fn vault(&self) -> Arc<Vault> {
        Arc::clone(&self.state.lock().ground.vault)
    }

    /// Notes an act that changes nothing in the store, now.
    ///
    /// # Errors
    /// The store's.
    pub async fn note(&self, act: Act) -> Result<(), StoreError> {
        self.audit.note(act, self.gateway.clock.wall_millis(), Vec::new()).await.map(drop)
    }

    /// Lets requests that find a token refused ask for a newer one.
    pub fn renew_by(&self, renewals: &Arc<renewal::Renewals>) {
        let is_first = self.gateway.renew.set(Box::new(Arc::clone(renewals))).is_ok();
        debug_assert!(is_first, "set once, at the start");
    }

    /// A provider as accounts need it, with its endpoints, and who we are to it.
    async fn settled(
        &self,
        engine: &Engine,
        provider: &Arc<Provider>,
    ) -> Result<(Provider, Client), OAuthError> {
        let client = provider.client.clone().ok_or(OAuthError::NotOffered("client for us"))?;
        let ask = async { engine.settled_for_tokens(&provider.for_accounts()).await };
        let settled = self.known.of(provider, ask).await?;
        Ok((Provider::clone(&settled), client))
    }

    /// What the configuration gives.
    pub(crate) fn ground(&self) -> Arc<Ground> {
        Arc::clone(&self.state.lock().ground)
    }

    /// Adds an account, for `who`. It may be used at once.
    ///
    /// # Errors
    /// What is asked for makes no sense, or the store's.
    pub async fn add(&self, who: &str, new: NewAccount) -> Result<AccountRecord, OnboardError> {
        let (record, credential) = self.read(new)?;
        let value = sealed_row(&record, &Kit::of(credential), &self.vault())?;
        let put = Write::Put { table: TABLE, id: record.id.clone(), value, expect: Expect::Absent };
        self.write(act(who, "account.added", &record), vec![put]).await?;
        Ok(record)
    }

    /// What is asked for, checked against the platform and against how many there may be.
    fn read(&self, new: NewAccount) -> Result<(AccountRecord, Credential), OnboardError> {
        let ground = Arc::clone(&self.state.lock().ground);
        let platform = ground.platforms.iter().find(|platform| platform.name.as_str() == new.platform);
        let Some(platform) = platform else {
            let named = super::chat::printable(&new.platform);
            return Err(OnboardError::Invalid(format!("There is no platform '{named}'.")));
        };
        let (record, credential) = new.read(platform, self.gateway.clock.wall_seconds())?;
        self.check_room(record.owner.as_ref())?;
        Ok((record, credential))
    }

    /// Whether a tenant may have one more.
    fn check_room(&self, owner: Option<&TenantId>) -> Result<(), OnboardError> {
        let Some(owner) = owner else { return Ok(()) };
        let state = self.state.lock();
        let count = state.held.values().filter(|held| held.record.owner.as_ref() == Some(owner)).count();
        if count < MAX_PER_TENANT {
            return Ok(());
        }
        Err(OnboardError::Invalid(format!("There are {MAX_PER_TENANT} accounts already.")))
    }

    /// Switches an account on (and forgets what stood against it) or off; to the other of the two where `on` is `None`.
    /// Only one within `reach`.
    ///
    /// # Errors
    /// There is none, it stands in the configuration's file, or the store's.
    pub async fn switch(
        &self,
        who: &str,
        reach: &Reach,
        id: &str,
        on: Option<bool>,
    ) -> Result<AccountRecord, OnboardError> {
        for _ in 0..TRIES {
            let held = self.find(reach, id).await?;
            let enabled = on.unwrap_or(!held.record.enabled);
            let updated = self.gateway.clock.wall_seconds();
            let record = AccountRecord { enabled, updated, ..AccountRecord::clone(&held.record) };
            let value = row(&record, held.sealed.clone())?;
            let expect = Expect::Version(held.version);
            let put = Write::Put { table: TABLE, id: id.to_owned(), value, expect };
            let what = if enabled { "account.enabled" } else { "account.disabled" };
            match self.write(act(who, what, &record), vec![put]).await {
                Err(StoreError::Conflict) => continue,
                other => other?,
            }
            if enabled {
                self.gateway.pool.revive(&AccountId::from(id));
            }
            return Ok(record);
        }
        Err(StoreError::Conflict.into())
    }

    /// Forgets an account. Requests under way on it go on. Only one within `reach`. `said` goes into the audit log beside it.
    ///
    /// # Errors
    /// As [`Onboard::switch`].
    pub async fn remove(
        &self,
        who: &str,
        reach: &Reach,
        id: &str,
        said: &str,
    ) -> Result<AccountRecord, OnboardError> {
        for _ in 0..TRIES {
            let held = self.find(reach, id).await?;
            let expect = Expect::Version(held.version);
            let delete = Write::Delete { table: TABLE, id: id.to_owned(), expect };
            let unused = Write::Delete { table: USES, id: id.to_owned(), expect: Expect::Anything };
            let mut act = act(who, "account.removed", &held.record);
            act.note.push_str(said);
            match self.write(act, vec![delete, unused]).await {
                Err(StoreError::Conflict) => {}
                other => return Ok(other.map(|()| AccountRecord::clone(&held.record))?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn write(&self, act: Act, changes: Vec<Write>) -> Result<(), StoreError> {
        self.audit.note(act, self.gateway.clock.wall_millis(), changes).await?;
        self.refresh().await
    }

    /// The account `id` as the store holds it now, if it is within `reach`.
    async fn find(&self, reach: &Reach, id: &str) -> Result<Held, OnboardError> {
        self.refresh().await?;
        let state = self.state.lock();
        let of_file = state.ground.accounts.iter().find(|account| account.id.as_str() == id);
        if of_file.is_some_and(|account| reach.has(account.owner.as_ref(), None)) {
            let why = "The account stands in the gateway's configuration and is changed there.";
            return Err(OnboardError::Invalid(why.to_owned()));
        }
        let held = state.held.get(id).filter(|held| held.is_within(reach));
        held.cloned().ok_or(OnboardError::NotFound)
    }

    /// Tenants that the configuration names.
    pub fn tenants(&self) -> Vec<TenantId> {
        self.state.lock().ground.tenants.clone()
    }

    /// Every platform that an account can be added for.
    pub fn platforms(&self) -> Vec<Arc<Platform>> {
        self.state.lock().ground.platforms.clone()
    }

    /// What is due every second or so: takes over what other processes changed, notes accounts whose credential the
    /// platform no longer takes, and keeps when accounts were used.
    ///
    /// # Errors
    /// The store's.
    pub async fn tick(&self) -> Result<(), StoreError> {
        self.refresh().await?;
        let expired: HashSet<AccountId> = self.gateway.pool.expired().into_iter().collect();
        let before = std::mem::replace(&mut self.state.lock().expired, expired.clone());
        for id in expired.difference(&before) {
            tracing::warn!(account = %id, "the platform no longer takes this account's credential");
            let why = "the platform no longer takes its credential";
            self.note(Act::new("weir", "account.expired", id.as_str(), why)).await?;
        }
        Ok(())
    }

    /// Keeps when accounts were last used.
    ///
    /// # Errors
    /// The store's.
    pub async fn keep_uses(&self) -> Result<(), StoreError> {
        let mut fresh = Vec::new();
        {
            let state = self.state.lock();
            for (id, used) in state.uses.iter().filter_map(|(id, used)| Some((id, used.get()?))) {
                if state.kept_uses.get(id).is_none_or(|kept| *kept < used) {
                    fresh.push((id.clone(), used));
                }
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let put = |(id, used): &(AccountId, u64)| Write::Put {
            table: USES,
            id: id.as_str().to_owned(),
            value: used.to_string().into_bytes(),
            expect: Expect::Anything,
        };
        self.records.commit(fresh.iter().map(put).collect()).await?;
        self.state.lock().kept_uses.extend(fresh);
        Ok(())
    }
}

fn seconds_of(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn act(who: &str, what: &str, record: &AccountRecord) -> Act {
    let owner = record.owner.as_ref().map_or("", |owner| owner.as_str());
    let note = format!("{} {:?} of {owner:?}", record.platform, record.name);
    Act::new(who, what, &record.id, note)
}

#[cfg(test)]
mod tests;
