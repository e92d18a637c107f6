//! To a provider and back. What must be known until then the browser that began [carries](crate::oauth::Carrier), and no
//! other. A callback that is not for anybody (a stale tab, a made-up state, another browser, another provider's answer) changes
//! nothing: the pending sign-in goes on.

use std::net::{IpAddr, Ipv4Addr};

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use super::session::cookies;
use super::{Guest, People, PeopleError, PersonRecord, SessionRecord};
use crate::gateway::onboard::consent::Back;
use crate::oauth::{CARRIED, Carried, Carrier, Cookie, Packed, PendingError};
use crate::opaque;
use crate::secret::Secret;

/// Where somebody is to be sent.
#[derive(Clone, Debug)]
pub struct Started {
    /// It holds the state.
    pub url: Secret,
    /// For this browser and no other.
    pub cookies: Vec<HeaderValue>,
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
    /// What the browser need not carry any more.
    pub cookies: Vec<HeaderValue>,
}

/// What is known until somebody comes back.
#[derive(Serialize, Deserialize)]
struct Login {
    provider: String,
    /// Whose words are waited for, should the configuration change meanwhile.
    issuer: Option<String>,
    client_id: String,
    redirect_uri: String,
    redirect_after: Option<String>,
    /// Of PKCE: a secret, sealed on its way.
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

    /// What stands before the names of cookies that are for this host alone.
    fn host_only(&self) -> &'static str {
        if self.is_https() { "__Host-" } else { "" }
    }

    /// The sign-ins that a browser carries.
    fn carried(&self, headers: &HeaderMap) -> Vec<Cookie> {
        let before = format!("{}{}.", self.host_only(), CARRIED);
        let ours = cookies(headers).filter(|(name, _)| name.starts_with(&before));
        let bare = |name: &str| name.strip_prefix(self.host_only()).unwrap_or(name).to_owned();
        ours.map(|(name, value)| (bare(name), Secret::new(value))).collect()
    }

    /// Has a browser carry this, and, with an empty value, no more.
    fn carry(&self, (name, value): &Cookie) -> Option<HeaderValue> {
        let life = if value.expose().is_empty() { 0 } else { self.oauth.state_ttl.as_secs() };
        let secure = if self.is_https() { "; Secure" } else { "" };
        let (before, value) = (self.host_only(), value.expose());
        let text = format!("{before}{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={life}{secure}");
        let mut header = HeaderValue::try_from(text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    fn carry_no_more(&self, names: Vec<String>) -> impl Iterator<Item = HeaderValue> {
        names.into_iter().filter_map(|name| self.carry(&(name, Secret::new(""))))
    }
}

impl People {
    /// Lets somebody at this address begin.
    ///
    /// # Errors
    /// Too many have: whoever has begun may come back, and each of those is written down and asked about at the provider before
    /// anybody knows who it is.
    pub fn let_begin(&self, from: Option<IpAddr>) -> Result<(), PeopleError> {
        let per_minute = self.ground().settings.starts_per_minute;
        let from = from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.turnstile.pass(from, per_minute).map_err(|wait| PeopleError::TooMany { wait })
    }

    /// Sends somebody to a provider: to sign in, or, where a `guest` says so, to add a way in. `headers` say what their browser
    /// carries already.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn start(
        &self,
        provider: &str,
        redirect_after: Option<&str>,
        headers: &HeaderMap,
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
        let state = Carrier::state();
        let nonce = known.provider.gives_id_tokens().then(opaque::random);
        let extra: Vec<(&str, &str)> = nonce.iter().map(|nonce| ("nonce", nonce.expose())).collect();
        let redirect_uri = ground.callback(provider);
        let authorization =
            self.engine.authorize(&known.provider, &known.client, &redirect_uri, &state, &extra)?;
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
        let (life, shown) = (ground.oauth.state_ttl, ground.carried(headers));
        let packed = self.carrier.pack(&ground.vault, (provider, &state), &login, life, &shown)?;
        let Packed { keep, drop } =
            packed.ok_or_else(|| PeopleError::Invalid("'redirect_after' is too long.".to_owned()))?;
        let cookies = keep.iter().filter_map(|cookie| ground.carry(cookie)).chain(ground.carry_no_more(drop));
        Ok(Started { url: Secret::new(authorization.url.as_str()), cookies: cookies.collect() })
    }

    /// Finishes what [`People::start`] began: verifies who comes back and by which way, trades the code, asks who that is, and
    /// lets them in. `headers` say what the browser carries, and what it says of itself; `guest` is who is signed in there already.
    ///
    /// # Errors
    /// See [`PeopleError`]. Where it is about the callback and not about what the provider said, nothing has changed.
    pub async fn finish(
        &self,
        provider: &str,
        back: Back,
        headers: &HeaderMap,
        guest: Option<&Guest>,
    ) -> Result<Landed, PeopleError> {
        let ground = self.ground();
        let door = ground.door(provider)?;
        let Some(state) = back.state.as_deref() else {
            return Err(PeopleError::Invalid("There is no 'state'.".to_owned()));
        };
        let carried = self.carrier.open(&ground.vault, (provider, state), &ground.carried(headers));
        let carried: Carried<Login> = carried.ok_or(PeopleError::NotPending)?;
        let known = self.known(door).await?;
        let login = &carried.what;
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
        if !self.carrier.take(&carried).await.map_err(PendingError::from)? {
            return Err(PeopleError::NotPending);
        }
        let cookies = ground.carry_no_more(carried.cookies.clone()).collect();
        let code = code_of(&back)?;
        let verifier = login.verifier.as_deref().map(Secret::new);
        let nonce = login.nonce.as_deref().map(Secret::new);
        let told = self.who(&known, &login.redirect_uri, code, verifier.as_ref(), nonce.as_ref()).await?;
        let redirect_after = login.redirect_after.clone();
        if let Some((person, _)) = &login.linking {
            let person = self.add_link(person, &known.provider, &told).await?;
            return Ok(Landed { person, session: None, is_new: false, redirect_after, cookies });
        }
        let (mut person, link, is_new) = self.let_in(&known.provider, &told).await?;
        let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let session = self.begin_session(&mut person, &link, agent).await?;
        // In this browser the new session stands in the old one's place.
        if let Some(guest) = guest {
            match self.sign_out(&guest.person, Some(&guest.session.id)).await {
                Ok(()) | Err(PeopleError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Landed { person, session: Some(session), is_new, redirect_after, cookies })
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
