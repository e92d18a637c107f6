//! To a provider and back. What is kept until then is in [`Pending`](crate::oauth::Pending), for the browser that began and no
//! other. A callback that is not for anybody (a stale tab, a made-up state, another browser, another provider's answer) changes
//! nothing: the pending sign-in goes on.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{Guest, People, PeopleError, PersonRecord, SessionRecord};
use crate::gateway::onboard::consent::Back;
use crate::oauth::{Found, Pending, PendingError};
use crate::opaque;
use crate::secret::Secret;

/// Where somebody is to be sent.
#[derive(Clone, Debug)]
pub struct Started {
    /// It holds the state.
    pub url: Secret,
    /// For this browser and no other.
    pub browser: Secret,
}

/// Somebody who came back and is who they are.
#[derive(Clone, Debug)]
pub struct Landed {
    pub person: PersonRecord,
    /// Begun by this sign-in, with what the browser shows from now on; `None` where a way in was added to who is signed in.
    pub session: Option<(SessionRecord, Secret)>,
    /// Whether nobody knew them before.
    pub is_new: bool,
    pub redirect_after: Option<String>,
}

/// What is kept until somebody comes back.
#[derive(Serialize, Deserialize)]
struct Login {
    provider: String,
    /// Whose words are waited for, should the configuration change meanwhile.
    issuer: Option<String>,
    client_id: String,
    redirect_uri: String,
    redirect_after: Option<String>,
    /// Of PKCE: a secret, encrypted where it lies.
    verifier: Option<String>,
    /// Likewise: what the ID token must say.
    nonce: Option<String>,
    /// To whom a way in is added: a person, and the session in which they asked.
    linking: Option<(String, String)>,
}

impl super::Ground {
    /// Where a provider sends people back to.
    fn callback(&self, provider: &str) -> String {
        format!("{}/auth/{provider}/callback", self.url)
    }
}

impl People {
    /// Lets somebody at this address begin.
    ///
    /// # Errors
    /// Too many have: what is begun is written down before anybody knows who it is.
    pub fn let_begin(&self, from: Option<IpAddr>) -> Result<(), PeopleError> {
        let per_minute = self.ground().settings.starts_per_minute;
        let from = from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.turnstile.pass(from, per_minute).map_err(|wait| PeopleError::TooMany { wait })
    }

    /// Sends somebody to a provider: to sign in, or, where a `guest` says so, to add a way in. `shown` is what their browser has of
    /// us already.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn start(
        &self,
        provider: &str,
        redirect_after: Option<&str>,
        shown: Option<&Secret>,
        guest: Option<&Guest>,
    ) -> Result<Started, PeopleError> {
        let ground = self.ground();
        let known = self.known(ground.door(provider)?).await?;
        let place = |given: &str| {
            ground.oauth.place(given).ok_or_else(|| {
                let why = "'redirect_after' is a path here, or a page of an origin under `oauth.return_to`.";
                PeopleError::Invalid(why.to_owned())
            })
        };
        let redirect_after = redirect_after.map(place).transpose()?;
        let begun = Pending::fresh_of_nobody(shown);
        let nonce = known.provider.gives_id_tokens().then(opaque::random);
        let extra: Vec<(&str, &str)> = nonce.iter().map(|nonce| ("nonce", nonce.expose())).collect();
        let redirect_uri = ground.callback(provider);
        let authorization =
            self.engine.authorize(&known.provider, &known.client, &redirect_uri, &begun.state, &extra)?;
        let login = Login {
            provider: provider.to_owned(),
            issuer: known.provider.issuer.clone(),
            client_id: known.client.id.clone(),
            redirect_uri,
            redirect_after,
            verifier: authorization.verifier.map(|verifier| verifier.expose().to_owned()),
            nonce: nonce.map(|nonce| nonce.expose().to_owned()),
            linking: guest.map(|guest| (guest.person.id.clone(), guest.session.id.clone())),
        };
        self.pending.keep(&ground.vault, &begun, &login, ground.oauth.state_ttl).await?;
        Ok(Started { url: Secret::new(authorization.url.as_str()), browser: begun.browser })
    }

    /// Finishes what [`People::start`] began: verifies who comes back and by which way, trades the code, asks who that is, and
    /// lets them in. `agent` is the browser in its own words; `guest` who is signed in there already.
    ///
    /// # Errors
    /// See [`PeopleError`]. Where it is about the callback and not about what the provider said, nothing has changed.
    pub async fn finish(
        &self,
        provider: &str,
        back: Back,
        shown: Option<&Secret>,
        guest: Option<&Guest>,
        agent: &str,
    ) -> Result<Landed, PeopleError> {
        let ground = self.ground();
        let door = ground.door(provider)?;
        let Some(state) = back.state.as_deref() else {
            return Err(PeopleError::Invalid("There is no 'state'.".to_owned()));
        };
        let found: Option<Found<Login>> = self.pending.find(&ground.vault, state).await?;
        let found = found.ok_or(PeopleError::NotPending)?;
        if !shown.is_some_and(|shown| found.is_of(shown)) {
            return Err(PeopleError::OtherBrowser);
        }
        let known = self.known(door).await?;
        let login = &found.what;
        // Another provider's answer, another callback's, or one that was asked for under another configuration (mix-up).
        let is_same = login.provider == provider
            && login.redirect_uri == ground.callback(provider)
            && login.issuer == known.provider.issuer
            && login.client_id == known.client.id;
        if !is_same || !known.provider.may_be(back.iss.as_deref()) {
            return Err(PeopleError::NotPending);
        }
        // Whoever began to add a way in is who is signed in here, in the same session.
        if let Some((person, session)) = &login.linking
            && !guest.is_some_and(|guest| guest.person.id == *person && guest.session.id == *session)
        {
            return Err(PeopleError::SignedOut);
        }
        if !self.pending.take(&found).await.map_err(PendingError::from)? {
            return Err(PeopleError::NotPending);
        }
        let code = code_of(&back)?;
        let verifier = login.verifier.as_deref().map(Secret::new);
        let nonce = login.nonce.as_deref().map(Secret::new);
        let told = self.who(&known, &login.redirect_uri, code, verifier.as_ref(), nonce.as_ref()).await?;
        let redirect_after = login.redirect_after.clone();
        if let Some((person, _)) = &login.linking {
            let person = self.add_link(person, &known.provider, &told).await?;
            return Ok(Landed { person, session: None, is_new: false, redirect_after });
        }
        let (mut person, link, is_new) = self.let_in(&known.provider, &told).await?;
        let session = self.begin_session(&mut person, &link, agent).await?;
        // In this browser the new session stands in the old one's place.
        if let Some(guest) = guest {
            match self.sign_out(&guest.person, Some(&guest.session.id)).await {
                Ok(()) | Err(PeopleError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Landed { person, session: Some(session), is_new, redirect_after })
    }
}

/// The code that came back, or why there is none.
fn code_of(back: &Back) -> Result<&Secret, PeopleError> {
    if let Some(error) = &back.error {
        let said = back.error_description.as_deref().unwrap_or_default();
        return Err(PeopleError::Denied(crate::gateway::chat::printable(&format!("{error} {said}"))));
    }
    // WeChat says no by saying nothing.
    back.code.as_ref().ok_or_else(|| PeopleError::Denied("it sent nothing back".to_owned()))
}
