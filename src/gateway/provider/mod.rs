//! Weir as an OAuth 2.0 provider: third-party apps that may know who somebody is, see what is left of their quota, or ask models
//! on it, because that person said so. RFC 6749 without what RFC 9700 took out of it: codes with PKCE and refresh tokens, no
//! other grant.
//!
//! ```text
//! app       who may ask at all: name, redirect URIs, a secret's hash          redirect  where an answer may go, to the character
//! request   what an authorize request asks for, or what is wrong with it      scope     profile, balance, chat
//! consent   what a person is asked, once answered, and the code that follows   visitors  who the person is (the sign-in answers)
//! token     a code or a refresh token for new ones; revocation, introspection   grant     what a person granted, to look at and take back
//! kept      what is kept of all that                                           owner    what becomes of an app whose owner is kept out
//! ```
//! Everything is in the store and nothing in memory: any replica goes on with what another began. Codes, secrets and refresh
//! tokens are 256 random bits and kept as SHA-256 (see [`keybook`](crate::keybook) for why not slower). Access tokens are
//! JWTs of [`OwnIssuer`](crate::identity::OwnIssuer), and die with their grant.

mod app;
mod consent;
mod grant;
mod kept;
mod owner;
mod redirect;
mod request;
mod scope;

mod settings;
#[cfg(test)]
mod tests;
mod token;
mod visitors;

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::issuer::{IssuerError, Keeper};
use crate::clock::{Clock, Moment};
use crate::identity::MintError;
use crate::store::{Act, Audit, Records, StoreError, Write};

pub use app::{App, AppRecord, NewApp};
pub use consent::{Allowed, Answer, Asked, Step};
pub use grant::GrantedApp;
pub use request::{Back, Params, Trouble};
pub use scope::{GrantScope, GrantScopes};
pub use settings::Settings;
pub use token::{Issued, Looked};
pub use visitors::{Person, Visitor, Visitors, Who};

/// How often a change is tried again when somebody else was quicker.
const TRIES: usize = 10;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// A refusal as OAuth writes it: the error's name, and a sentence for the app's developer.
    #[error("{0}: {1}")]
    OAuth(OAuthCode, &'static str),
    /// What was asked for makes no sense; the sentence is for whoever asked.
    #[error("{0}")]
    Invalid(String),
    /// There is none, or it is somebody else's: which of the two is not told.
    #[error("There is no app of that id.")]
    NotFound,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Mint(#[from] MintError),
}

/// The errors of RFC 6749 (5.2) and what builds on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OAuthCode {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    UnauthorizedClient,
    UnsupportedGrantType,
    InvalidScope,
}

impl OAuthCode {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
        }
    }
}

impl std::fmt::Display for OAuthCode {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.as_str())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Provider {
    keeper: Arc<Keeper>,
    records: Arc<dyn Records>,
    audit: Audit,
    visitors: Arc<dyn Visitors>,
    settings: ArcSwap<Settings>,
    clock: Clock,
    swept: Mutex<Option<Moment>>,
    /// What of the store is known of apps whose owners are kept out.
    owners: tokio::sync::Mutex<owner::Known>,
}

impl Provider {
    /// A provider over these parts, under `settings`.
    pub fn new(
        keeper: Arc<Keeper>,
        records: Arc<dyn Records>,
        visitors: Arc<dyn Visitors>,
        settings: Settings,
        clock: Clock,
    ) -> Self {
        let audit = Audit::new(Arc::clone(&records));
        let settings = ArcSwap::from_pointee(settings);
        let (swept, owners) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { keeper, records, audit, visitors, settings, clock, swept, owners }
    }

    /// Under these settings from now on. Whose tokens are taken is for the keeper's issuer to know.
    pub fn put_in_force(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// What the operator wants.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// The keys that tokens are signed with.
    pub fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    /// Who is signed in.
    pub fn visitors(&self) -> &dyn Visitors {
        &*self.visitors
    }

    /// What is due twice a second.
    ///
    /// # Errors
    /// The store's.
    pub async fn tick(&self) -> Result<(), IssuerError> {
        // Each for itself: a key that cannot be read here must keep nobody's app alive.
        let owners = self.heed_owners().await;
        self.keeper.tick().await?;
        owners?;
        if self.settings().enabled {
            self.keeper.ensure().await?;
        }
        Ok(self.sweep_now_and_then().await?)
    }

    async fn note(&self, act: Act, changes: Vec<Write>) -> Result<Vec<u64>, StoreError> {
        self.audit.note(act, self.clock.wall_millis(), changes).await
    }

    fn now(&self) -> u64 {
        self.clock.wall_seconds()
    }
}

/// Refuses in OAuth's words.
fn refuse<T>(code: OAuthCode, why: &'static str) -> Result<T, ProviderError> {
    Err(ProviderError::OAuth(code, why))
}
