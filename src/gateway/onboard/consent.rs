//! Accounts by consent: somebody is sent to a provider, agrees there, and comes back with a code; or types one in elsewhere. What is
//! kept until then is in [`Pending`]; who may come back is the browser that began, or whoever began, shown by the same
//! credentials.
//!
//! A callback that is not for anybody (a stale tab, a made-up state, another browser) changes nothing: the pending one goes on.

mod arrival;
mod device;
mod farewell;
mod landing;
mod places;

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{AccountRecord, Consent, Home, Onboard, OnboardError};
use crate::gateway::reach::{Adder, Reach};
use crate::identity::Caller;
use crate::ids::TenantId;
use crate::keybook::Scope;
use crate::oauth::{
    Begun, Client, Engine, Flow, Found, Grant, OAuthError, Pending, PendingError, Person, Provider, Refusal,
};
use crate::secret::Secret;

use device::Watch;
pub use device::{DeviceShown, Standing};
pub(super) use farewell::forget;

/// Most sign-ins of one who begins them that wait at a time.
const MAX_WAITING: usize = 20;

/// Where no provider, and no browser over a network, could come back to.
pub const NOWHERE: &str =
    "Nobody could be sent back here: the operator has to write `oauth.public_url`, which is https.";

/// Who begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginner {
    /// Whose account it is to be; `None`: the operators'.
    pub tenant: Option<TenantId>,
    /// For the audit log.
    pub who: String,
    /// An operator may begin for any tenant.
    #[serde(default)]
    pub is_operator: bool,
    /// Who in particular, for the account to be theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Adder>,
    /// Whether they manage whatever their tenant owns.
    #[serde(default)]
    pub is_admin: bool,
}

impl Beginner {
    /// A caller, for the tenant that it belongs to.
    pub fn caller(caller: &Caller, who: String) -> Self {
        let (tenant, is_admin) = (Some(caller.tenant.clone()), caller.has_scope(Scope::Admin));
        Self { tenant, who, is_operator: false, by: Adder::of(caller), is_admin }
    }

    /// An operator, for a tenant or for nobody else.
    pub fn operator(tenant: Option<TenantId>, who: String) -> Self {
        Self { tenant, who, is_operator: true, by: None, is_admin: false }
    }

    /// Whether `other` is the same one. For whom an operator began does not matter.
    fn is(&self, other: &Self) -> bool {
        // A version that did not note who in particular has noted the name.
        let is_somebody_else = self.by.is_some() && other.by.is_some() && self.by != other.by;
        let is_same = self.who == other.who && self.is_operator == other.is_operator && !is_somebody_else;
        is_same && (self.is_operator || self.tenant == other.tenant)
    }

    /// Which accounts are theirs to manage.
    fn reach(&self) -> Reach {
        match &self.tenant {
            Some(tenant) if self.is_admin => Reach::Tenant(tenant.clone()),
            Some(tenant) if !self.is_operator => Reach::Own(tenant.clone(), self.by.clone()),
            _ => Reach::Everything,
        }
    }

    /// Under what their sign-ins are counted.
    fn key(&self) -> String {
        let tenant = self.tenant.as_ref().filter(|_| !self.is_operator).map_or("", |tenant| tenant.as_str());
        format!("{} {tenant:?} {}", self.is_operator, self.who)
    }
}

/// What is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Initiate {
    pub platform: String,
    pub account_name: String,
    /// Where the browser goes afterwards: a path of ours, or a page of a listed origin.
    pub redirect_after: Option<String>,
    /// Where the consent does not open the platform.
    pub api_key: Option<Secret>,
    /// By which way, where the platform has several; the first of its row if not given.
    pub flow: Option<Flow>,
}

/// Where somebody is to be sent.
#[derive(Clone, Debug)]
pub enum Initiated {
    /// To a page, from which they come back.
    Browser { auth_url: String, begun: Begun },
    /// To a page with a code, and nobody comes back.
    Device(DeviceShown),
}

/// What came back from a provider.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Back {
    pub state: Option<String>,
    pub code: Option<Secret>,
    pub error: Option<String>,
    pub error_description: Option<String>,
    pub iss: Option<String>,
}

/// Who comes back.
#[derive(Clone, Debug, Default)]
pub struct Comer {
    /// What the browser shows.
    pub browser: Option<Secret>,
    /// Whoever shows credentials of their own.
    pub caller: Option<Beginner>,
}

/// An account that was added.
#[derive(Clone, Debug)]
pub struct Landed {
    /// `None`: the code is not traded here (`exchange: false`), and nothing was added.
    pub record: Option<AccountRecord>,
    pub redirect_after: Option<String>,
}

/// What is kept until somebody comes back.
#[derive(Serialize, Deserialize)]
struct Login {
    provider: String,
    platform: String,
    account_name: String,
    beginner: Beginner,
    redirect_uri: String,
    redirect_after: Option<String>,
    /// Of PKCE, and a key: secrets, encrypted where they lie.
    verifier: Option<String>,
    api_key: Option<String>,
}

/// Why nobody could be sent, or came back in vain.
#[derive(Debug, thiserror::Error)]
pub enum ConsentError {
    #[error(transparent)]
    Onboard(#[from] OnboardError),
    #[error(transparent)]
    Pending(#[from] PendingError),
    #[error(transparent)]
    Provider(OAuthError),
    /// For whoever asked.
    #[error("{0}")]
    Invalid(String),
    /// No such sign-in is pending: it is over, was never begun, or is somebody else's.
    #[error(
        "This sign-in is not pending: it took too long, was finished already, or was begun elsewhere. Begin again."
    )]
    NotPending,
    /// The right state, and not the browser that began.
    #[error(
        "This browser did not begin the sign-in. Paste this page's whole address into where it was begun."
    )]
    OtherBrowser,
    /// The person said no, or the provider did.
    #[error("The provider did not agree: {0}")]
    Denied(String),
    /// To be asked about later, or finished first.
    #[error(
        "{MAX_WAITING} sign-ins that you began are not finished yet. Finish one, or wait until it ends by itself."
    )]
    TooMany {
        /// Seconds until the first of them ends.
        wait: u64,
    },
    /// Nobody began it, or somebody else did.
    #[error("There is no sign-in of that state.")]
    NoSuch,
}

/// The flows by which accounts are added.
#[derive(Debug)]
pub struct Consents {
    onboard: Arc<Onboard>,
    engine: Engine,
    pending: Pending,
    devices: Mutex<Watch>,
    home: Arc<Home>,
}

/// What an account is to come of, once somebody agrees.
struct Wish {
    provider: Provider,
    client: Client,
    login: Login,
    /// What the browser has of us already.
    shown: Option<Secret>,
}

impl Consents {
    /// Over these parts.
    pub fn new(onboard: Arc<Onboard>, engine: Engine, pending: Pending, home: Arc<Home>) -> Self {
        Self { onboard, engine, pending, devices: Mutex::default(), home }
    }

    /// Where work goes on though whoever began it leaves.
    pub(in crate::gateway) fn home(&self) -> &Arc<Home> {
        &self.home
    }

    /// Sends somebody to a provider. `redirect_uri` is where it sends them back to, if there is such a place; `shown` is what their
    /// browser has of us already.
    ///
    /// # Errors
    /// See [`ConsentError`].
    pub async fn initiate(
        self: &Arc<Self>,
        beginner: Beginner,
        ask: Initiate,
        redirect_uri: Option<&str>,
        shown: Option<&Secret>,
    ) -> Result<Initiated, ConsentError> {
        let flow = self.flow_of(&ask)?;
        let redirect_after = self.place(ask.redirect_after.as_deref())?;
        // What an account of that name would be refused for is told before anybody is sent away.
        check_name(&ask.account_name)?;
        if flow == Flow::Code && redirect_uri.is_none() {
            return Err(ConsentError::Invalid(NOWHERE.to_owned()));
        }
        self.check_account(&beginner, &ask).await?;
        self.leave_room(&beginner).await?;
        let ground = self.onboard.ground();
        let provider = ground.oauth.for_platform(&ask.platform).ok_or(ConsentError::NotPending)?;
        let (provider, client) = self.settled(provider).await?;
        let login = Login {
            provider: provider.name.clone(),
            platform: ask.platform,
            account_name: ask.account_name,
            beginner,
            redirect_uri: redirect_uri.unwrap_or_default().to_owned(),
            redirect_after,
            verifier: None,
            api_key: ask.api_key.map(|key| key.expose().to_owned()),
        };
        let wish = Wish { provider, client, login, shown: shown.cloned() };
        match flow {
            Flow::Code => self.begin_code(wish).await,
            Flow::Device => self.begin_device(wish).await,
        }
    }

    /// Whether there may be one more account; tokens for one that is there are welcome all the same.
    async fn check_account(&self, beginner: &Beginner, ask: &Initiate) -> Result<(), ConsentError> {
        self.onboard.refresh().await.map_err(OnboardError::from)?;
        if self.onboard.has_consented(beginner, &ask.platform, &ask.account_name) {
            return Ok(());
        }
        Ok(self.onboard.check_room(beginner.tenant.as_ref())?)
    }

    /// By which way the platform's accounts are added.
    fn flow_of(&self, ask: &Initiate) -> Result<Flow, ConsentError> {
        let ground = self.onboard.ground();
        let platform = ground.platforms.iter().find(|platform| platform.name.as_str() == ask.platform);
        let Some(platform) = platform else {
            let named = crate::gateway::chat::printable(&ask.platform);
            return Err(ConsentError::Invalid(format!("There is no platform '{named}'.")));
        };
        let row = ground.oauth.for_platform(platform.name.as_str()).and_then(|row| row.account.as_ref());
        let Some(row) = row else {
            let why = format!("{} has no sign-in here: add the account with its key.", platform.name);
            return Err(ConsentError::Invalid(why));
        };
        if row.needs_key && ask.api_key.is_none() {
            let why = format!(
                "{} needs an 'api_key' beside the sign-in: its token does not open it.",
                platform.name
            );
            return Err(ConsentError::Invalid(why));
        }
        let found = match ask.flow {
            Some(wanted) => row.flows.iter().find(|flow| **flow == wanted),
            None => row.flows.first(),
        };
        found.copied().ok_or_else(|| ConsentError::Invalid(format!("{} has no such flow.", platform.name)))
    }

    fn place(&self, given: Option<&str>) -> Result<Option<String>, ConsentError> {
        let Some(given) = given else { return Ok(None) };
        self.onboard.ground().oauth.place(given).map(Some).ok_or_else(|| {
            let why = "'redirect_after' is a path here, or a page of an origin under `oauth.return_to`.";
            ConsentError::Invalid(why.to_owned())
        })
    }

    /// Whether one more may be begun: whoever begins without end is told so, and what they began before goes on. Where a provider is
    /// asked for each, [`Places`](places::Places) see to it that no more of them are begun at once, either.
    async fn leave_room(&self, beginner: &Beginner) -> Result<(), ConsentError> {
        let key = beginner.key();
        let (codes, first) = self.pending.waiting(&key).await.map_err(PendingError::from)?;
        let taken = self.places().taken(&Pending::owner_of(&key)).await;
        let (devices, other) = taken.map_err(PendingError::from)?;
        if codes + devices < MAX_WAITING {
            return Ok(());
        }
        let now = self.onboard.gateway.clock.wall_seconds();
        let ends = [(codes, first), (devices, other)].into_iter().filter(|(count, _)| *count > 0);
        let first = ends.map(|(_, ends)| ends).min().unwrap_or(now);
        Err(ConsentError::TooMany { wait: first.saturating_sub(now).max(1) })
    }

    async fn begin_code(&self, wish: Wish) -> Result<Initiated, ConsentError> {
        let ground = self.onboard.ground();
        let Wish { mut provider, client, login, shown } = wish;
        // Whoever trades the code elsewhere has no verifier for it.
        provider.pkce &= provider.exchange;
        let begun = Pending::fresh(&login.beginner.key(), shown.as_ref());
        let authorization = self
            .engine
            .authorize(&provider, &client, &login.redirect_uri, &begun.state, &[])
            .map_err(ConsentError::Provider)?;
        let verifier = authorization.verifier.map(|verifier| verifier.expose().to_owned());
        let login = Login { verifier, ..login };
        self.pending.keep(&ground.vault, &begun, &login, ground.oauth.state_ttl).await?;
        Ok(Initiated::Browser { auth_url: authorization.url.to_string(), begun })
    }

    /// Finishes what [`Consents::initiate`] began: verifies who comes back, trades the code, and adds the account. `came_to` is the
    /// address that they came back to; `None`: they brought what it said by hand.
    ///
    /// # Errors
    /// See [`ConsentError`]. Where it is [`ConsentError::NotPending`] or [`ConsentError::OtherBrowser`] nothing has changed.
    pub async fn finish(
        self: &Arc<Self>,
        back: Back,
        comer: &Comer,
        came_to: Option<&str>,
    ) -> Result<Landed, ConsentError> {
        let ground = self.onboard.ground();
        let state =
            back.state.as_deref().ok_or_else(|| ConsentError::Invalid("There is no 'state'.".to_owned()))?;
        let found: Option<Found<Login>> = self.pending.find(&ground.vault, state).await?;
        let found = found.ok_or(ConsentError::NotPending)?;
        if !is_of(&found, comer) {
            return Err(ConsentError::OtherBrowser);
        }
        let login = &found.what;
        // A provider's answer to another callback is another provider's answer (mix-up).
        if came_to.is_some_and(|came_to| login.redirect_uri != came_to) {
            return Err(ConsentError::NotPending);
        }
        let provider = ground.oauth.provider(&login.provider).ok_or(ConsentError::NotPending)?;
        let (provider, client) = self.settled(provider).await?;
        if !provider.may_be(back.iss.as_deref()) {
            return Err(ConsentError::NotPending);
        }
        // What follows cannot be had again: it goes on though whoever came back leaves.
        let consents = Arc::clone(self);
        let arrived = self.home.begin(async move { consents.arrive(found, back, provider, client).await });
        arrived.await.unwrap_or_else(|_| Err(ConsentError::Provider(interrupted())))
    }

    /// Forgets sign-ins that nobody finished in time.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep(&self) -> Result<(), crate::store::StoreError> {
        self.pending.sweep().await?;
        self.sweep_devices().await
    }

    /// The provider with its endpoints, and who we are to it.
    async fn settled(&self, provider: &Arc<Provider>) -> Result<(Provider, Client), ConsentError> {
        self.onboard.settled(&self.engine, provider).await.map_err(ConsentError::Provider)
    }
}

/// Whether the one who comes back is the one who began: by the browser's half, or by the same credentials.
fn is_of(found: &Found<Login>, comer: &Comer) -> bool {
    comer.browser.as_ref().is_some_and(|shown| found.is_of(shown))
        || comer.caller.as_ref().is_some_and(|caller| caller.is(&found.what.beginner))
}

/// What is told where this process ends meanwhile.
fn interrupted() -> OAuthError {
    OAuthError::Unavailable { why: "this gateway is going".to_owned(), after: None }
}

pub(super) fn check_name(name: &str) -> Result<(), ConsentError> {
    let is_name = (1..=256).contains(&name.len()) && !name.contains(char::is_control);
    let why = "'account_name' is 1 to 256 bytes without control characters.";
    if is_name { Ok(()) } else { Err(ConsentError::Invalid(why.to_owned())) }
}

/// What is known of a consent at `now`.
pub(super) fn consent_of(provider: &Provider, grant: &Grant, person: Option<&Person>, now: u64) -> Consent {
    Consent {
        provider: provider.name.clone(),
        subject: person.map(|person| person.subject.clone()),
        person: person.and_then(|person| person.name.clone().or_else(|| person.email.clone())),
        scopes: grant.scopes.clone(),
        given: now,
        expires: grant.lifetime.map(|lifetime| now.saturating_add(lifetime.as_secs())),
        lifetime: grant.lifetime.map(|lifetime| lifetime.as_secs()),
        needs_reauth: None,
    }
}

impl ConsentError {
    /// Whether the provider, and not whoever asks, is in trouble.
    pub fn is_of_provider(&self) -> bool {
        match self {
            ConsentError::Provider(OAuthError::Refused { refusal, .. }) => *refusal == Refusal::InvalidClient,
            ConsentError::Provider(_) => true,
            _ => false,
        }
    }
}
