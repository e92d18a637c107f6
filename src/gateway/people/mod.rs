//! People: who signs in, by which providers, and the sessions that come of it.
//!
//! ```text
//! sign_in   to a provider and back: carried by the browser that began, finished once              knock   who it is, by userinfo and ID token
//! links     ways in: found by source and subject, added, taken away                               record  what is kept
//! session   who is signed in, in which browser; tokens of a session                               office  what operators change
//! visitors  the same for Weir as a provider                                                       settings
//! ```
//! A person is an id of ours. What a provider calls them (`source` and `sid`) leads to it and nothing else does: not an address,
//! which changes hands, and not a name. Everything is in the store, or with the browser, and nothing in memory, so that any replica goes on with
//! what another began; a session that ends is dead on all of them within a second, with its tokens.

mod knock;
mod links;
mod office;
mod record;
mod session;
mod settings;
mod sign_in;
#[cfg(test)]
mod tests;
mod visitors;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::issuer::{IssuerError, Keeper};
use crate::clock::Clock;
use crate::identity::MintError;
use crate::identity::limits::Turnstile;
use crate::ids::TenantId;
use crate::keybook::Scope;
use crate::oauth::{self, Careful, Carrier, Engine, Hearsay, OAuthError, PendingError, Provider};
use crate::store::{Act, Audit, Name, Records, StoreError, Write};
use crate::vault::Vault;

pub use office::{Change, Loss};
pub use record::{Link, PersonRecord, SessionRecord};
pub use session::Guest;
pub use settings::{Admission, Settings, fit};
pub use sign_in::{Landed, Started};

/// People, by id.
const PEOPLE: Name = "people";

/// Where ways in lead to.
const DOORS: Name = "person_doors";

/// How often a change is tried again when somebody else was quicker.
const TRIES: usize = 10;

/// Why somebody did not get where they wanted.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Pending(#[from] PendingError),
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    #[error(transparent)]
    Mint(#[from] MintError),
    #[error(transparent)]
    Provider(#[from] OAuthError),
    /// For whoever asked.
    #[error("{0}")]
    Invalid(String),
    /// Nobody signs in here, or not by that.
    #[error("People do not sign in here by that.")]
    NoSuchDoor,
    #[error("There is no {0} of that id.")]
    NotFound(&'static str),
    /// It is over, was never begun, or not in this browser.
    #[error(
        "This sign-in is not pending in this browser: it took too long, was finished already, or was begun elsewhere. Sign in again."
    )]
    NotPending,
    /// The person said no, or the provider did.
    #[error("The provider did not agree: {0}")]
    Denied(String),
    /// Signed in there, and nobody here.
    #[error("You are not let in here. Ask whoever runs this gateway.")]
    NotAdmitted,
    #[error("You are kept out of here. Ask whoever runs this gateway.")]
    Blocked,
    /// What was to be added is somebody else's already.
    #[error("That account is somebody else's way in already: sign in with it, and take it away there first.")]
    Taken,
    /// What is to be taken away is what they come in by.
    #[error("This is your last way in: add another first.")]
    LastDoor,
    /// Whoever wanted to add a way in is not signed in any more.
    #[error("You are not signed in any more. Sign in, and try again.")]
    SignedOut,
    /// From that address.
    #[error("Too many sign-ins have begun from this address. Try again in a moment.")]
    TooMany { wait: Duration },
}

/// What is in force.
#[derive(Clone, Debug)]
pub struct Ground {
    pub settings: Settings,
    pub oauth: oauth::Settings,
    /// Where browsers reach us, without a slash at the end.
    pub url: String,
    pub vault: Arc<Vault>,
}

impl Ground {
    /// Whether browsers reach us by TLS.
    pub fn is_https(&self) -> bool {
        self.url.starts_with("https:")
    }

    /// The providers by which people sign in, in the order of the configuration.
    pub fn doors(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.settings.providers.iter().filter_map(|name| self.oauth.provider(name))
    }

    /// The one of that name.
    fn door(&self, name: &str) -> Result<&Arc<Provider>, PeopleError> {
        self.doors().find(|provider| provider.name == name).ok_or(PeopleError::NoSuchDoor)
    }

    /// On whose limits and accounts somebody lives.
    pub fn tenant_of(&self, person: &PersonRecord) -> TenantId {
        let said = person.tenant.clone().or_else(|| self.settings.tenant.clone());
        said.unwrap_or_else(|| TenantId::from(person.id.as_str()))
    }

    /// What somebody may do.
    pub fn scopes_of<'a>(&'a self, person: &'a PersonRecord) -> &'a [Scope] {
        person.scopes.as_deref().unwrap_or(&self.settings.scopes)
    }

    /// Which models somebody may ask; `None`: every one.
    pub fn models_of<'a>(&'a self, person: &'a PersonRecord) -> Option<&'a [String]> {
        person.models.as_deref().or(self.settings.models.as_deref())
    }
}

/// See the module.
#[derive(Debug)]
pub struct People {
    keeper: Arc<Keeper>,
    records: Arc<dyn Records>,
    audit: Audit,
    engine: Engine,
    /// For issuers' keys, too.
    web: Arc<Careful>,
    carrier: Carrier,
    ground: ArcSwap<Ground>,
    clock: Clock,
    /// Providers with what their issuers say of themselves, by name.
    known: Hearsay<knock::Known>,
    /// Before which whoever begins is nobody yet.
    turnstile: Turnstile,
}

impl People {
    /// People over these parts.
    pub fn new(
        keeper: Arc<Keeper>,
        records: Arc<dyn Records>,
        web: Arc<Careful>,
        ground: Ground,
        clock: Clock,
    ) -> Self {
        Self {
            keeper,
            audit: Audit::new(Arc::clone(&records)),
            engine: Engine::new(web.clone()),
            web,
            carrier: Carrier::new(Arc::clone(&records), clock.clone()),
            records,
            ground: ArcSwap::from_pointee(ground),
            turnstile: Turnstile::new(clock.clone()),
            known: Hearsay::new(clock.clone()),
            clock,
        }
    }

    /// On this ground from now on.
    pub fn put_in_force(&self, ground: Ground) {
        self.ground.store(Arc::new(ground));
    }

    /// What is in force.
    pub fn ground(&self) -> Arc<Ground> {
        self.ground.load_full()
    }

    /// What is due twice a second: the keys that sessions' tokens are signed with are there before the first of them.
    ///
    /// # Errors
    /// The store's.
    pub async fn tick(&self) -> Result<(), IssuerError> {
        if self.ground.load().settings.is_on() { self.keeper.ensure().await } else { Ok(()) }
    }

    /// Somebody, and their row's version; whether they may come in or not.
    pub(super) async fn find(&self, id: &str) -> Result<Option<(PersonRecord, u64)>, StoreError> {
        let Some(row) = self.records.get(PEOPLE, id).await? else { return Ok(None) };
        Ok(Some((row.read()?, row.version)))
    }

    /// Somebody who may come in.
    async fn welcome(&self, id: &str) -> Result<Option<(PersonRecord, u64)>, StoreError> {
        let may = |person: &PersonRecord| !person.is_blocked && self.admits(&person.links);
        Ok(self.find(id).await?.filter(|(person, _)| may(person)))
    }

    /// Whether one of these ways in is open now.
    fn admits<'l>(&self, links: impl IntoIterator<Item = &'l Link>) -> bool {
        self.ground().settings.admit(links, self.now())
    }

    /// Somebody's name in the audit log.
    fn shown(&self, person: &PersonRecord) -> String {
        format!("{}/{}", super::chat::printable(self.ground().tenant_of(person).as_str()), person.id)
    }

    async fn note(&self, act: Act, changes: Vec<Write>) -> Result<Vec<u64>, StoreError> {
        self.audit.note(act, self.clock.wall_millis(), changes).await
    }

    fn now(&self) -> u64 {
        self.clock.wall_seconds()
    }
}
