//! What a person is asked, and what follows from the answer. A question is kept in the store under the hash of a random value
//! that only the page holds, and bound to the session that it was shown to: nobody else can answer it, nobody can answer
//! something else, and it is answered once.

use serde::{Deserialize, Serialize};

use super::app::{App, AppRecord};
use super::kept::{CODES, CONSENTS, Code, Consent, GRANTS, Grant, consent_id};
use super::request::{self, Back, Params, Request, Trouble};
use super::scope::{GrantScope, GrantScopes};
use super::visitors::{Visitor, Who};
use super::{Provider, ProviderError, TRIES, redirect};
use crate::gateway::reach::Reach;
use crate::opaque;
use crate::secret::Secret;
use crate::store::{self, Act, Expect, Name, StoreError, Write};

/// Questions, by person and the hash of what the page holds.
pub(super) const ASKS: Name = "oauth_asks";

/// Most open questions of one person. Whoever is asked once more cannot answer the one that was asked first.
const MAX_ASKS: usize = 20;

/// How long a question may be answered, in seconds.
const ASK_LIFE: u64 = 600;

/// How long a code is good, in seconds.
pub(super) const CODE_LIFE: u64 = 60;

/// A question that is open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    /// Hash of the session that it was shown to.
    session: String,
    /// `None`: the page where a person looks at what they granted, which asks nothing yet.
    about: Option<About>,
    /// Seconds since 1970.
    pub expires: u64,
}

/// What an app wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct About {
    client_id: String,
    redirect_uri: String,
    #[serde(default)]
    state: Option<String>,
    scope: GrantScopes,
    challenge: Option<String>,
}

/// A question for a person.
#[derive(Clone, Debug)]
pub struct Asked {
    /// For the page's form, and nobody else's eyes.
    pub ticket: Secret,
    pub app: AppRecord,
    pub scopes: GrantScopes,
    /// Where they will be sent, in words.
    pub goes_to: String,
}

/// What comes next for somebody who came with an authorize request.
#[derive(Clone, Debug)]
pub enum Step {
    /// To be shown.
    Ask(Box<Asked>),
    /// To be sent to.
    Go(Allowed),
    /// To be told of, by a page that leads nowhere by itself.
    Tell(Back),
}

/// Where a person is sent. It may hold a code.
#[derive(Clone, Debug)]
pub struct Allowed {
    pub to: Secret,
}

/// What a person said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No,
}

/// The id of a question to `who`.
fn ask_id(who: &Who, ticket: &str) -> String {
    format!("{}.{}", who.key(), opaque::hash(ticket))
}

impl Provider {
    /// Reads an authorize request.
    ///
    /// # Errors
    /// What is wrong with it, or the store's.
    pub async fn read_request(
        &self,
        params: &Params,
    ) -> Result<Result<(App, Request), Trouble>, ProviderError> {
        let client_id = match request::client(params) {
            Ok(client_id) => client_id,
            Err(trouble) => return Ok(Err(trouble)),
        };
        let Some(app) = self.app(client_id).await? else {
            return Ok(Err(Trouble::Page(
                "The link that brought you here names an app that is not registered.",
            )));
        };
        if self.is_suspended(&app) {
            return Ok(Err(Trouble::Page("The app that brought you here is out of use for now.")));
        }
        let read = request::read(params, &app.record, &self.issuer());
        Ok(read.map(|request| (app, request)))
    }

    pub(super) fn issuer(&self) -> String {
        self.settings().public_url.clone().unwrap_or_default()
    }

    /// What comes next for a visitor: a question, or, where the app asks for it and they agreed to all of it before, an answer.
    ///
    /// # Errors
    /// The store's.
    pub async fn begin(&self, visitor: &Visitor, app: App, request: Request) -> Result<Step, ProviderError> {
        if request.scopes.has(GrantScope::Chat) && !visitor.person.may_chat {
            let wrong = ("access_denied", "This person may not ask models.");
            let (uri, state) = (&request.redirect_uri, request.state.as_deref());
            let back = Back::new(&app.record.client_id, uri, &self.issuer(), state, wrong);
            return self.turn_back(visitor, back).await;
        }
        let about = About {
            client_id: app.record.client_id.clone(),
            redirect_uri: request.redirect_uri,
            state: request.state,
            scope: request.scopes,
            challenge: request.challenge,
        };
        if request.auto && is_assured(&app.record, &about.redirect_uri) {
            let consent = self.consent(&visitor.who, &about.client_id).await?;
            if consent.is_some_and(|(consent, _)| consent.scope.cover(about.scope)) {
                return Ok(Step::Go(self.allow(visitor, about, "without asking again").await?));
            }
        }
        let goes_to = redirect::shown(&about.redirect_uri);
        let scopes = about.scope;
        let ticket = self.open_ask(visitor, Some(about)).await?;
        Ok(Step::Ask(Box::new(Asked { ticket, app: app.record, scopes, goes_to })))
    }

    /// What comes next where a request cannot be. Who has let the app in goes back to it with the error; who has not is told, and goes
    /// by hand: else an app that anybody registered would make of our address one that leads wherever they like (RFC 9700,
    /// 4.11.2).
    ///
    /// # Errors
    /// The store's.
    pub async fn turn_back(&self, visitor: &Visitor, back: Back) -> Result<Step, ProviderError> {
        Ok(match self.consent(&visitor.who, &back.client_id).await? {
            Some(_) => Step::Go(Allowed { to: back.to }),
            None => Step::Tell(back),
        })
    }

    fn error(&self, uri: &str, state: Option<&str>, error: &str, why: &str) -> Allowed {
        Allowed { to: Secret::new(request::answer_error(uri, &self.issuer(), state, error, why)) }
    }

    async fn open_ask(&self, visitor: &Visitor, about: Option<About>) -> Result<Secret, ProviderError> {
        let ticket = opaque::random();
        let ask = Ask { session: opaque::hash(&visitor.session), about, expires: self.now() + ASK_LIFE };
        let id = ask_id(&visitor.who, ticket.expose());
        let mut open = self.rows_of(ASKS, &visitor.who).await?;
        open.sort_by_key(|row| row.read::<Ask>().map_or(0, |ask| ask.expires));
        let too_many = (open.len() + 1).saturating_sub(MAX_ASKS);
        let oldest = open.into_iter().take(too_many.min(store::MAX_PAGE));
        let mut writes: Vec<Write> =
            oldest.map(|row| Write::Delete { table: ASKS, id: row.id, expect: Expect::Anything }).collect();
        writes.push(Write::put(ASKS, id, &ask, Expect::Absent)?);
        self.records.commit(writes).await?;
        Ok(ticket)
    }

    /// What the page where a person takes grants back shows that it was really this page. Good for ten minutes.
    ///
    /// # Errors
    /// The store's.
    pub async fn open_page(&self, visitor: &Visitor) -> Result<Secret, ProviderError> {
        self.open_ask(visitor, None).await
    }

    /// Whether this ticket was given to this session's page.
    ///
    /// # Errors
    /// The store's.
    pub async fn is_of_page(&self, visitor: &Visitor, ticket: &str) -> Result<bool, ProviderError> {
        let ask = self.ask(visitor, ticket).await?;
        Ok(ask.is_some_and(|(ask, _)| ask.about.is_none()))
    }

    /// An open question that was shown to this session, and its row's version.
    async fn ask(&self, visitor: &Visitor, ticket: &str) -> Result<Option<(Ask, u64)>, ProviderError> {
        let Some(row) = self.records.get(ASKS, &ask_id(&visitor.who, ticket)).await? else { return Ok(None) };
        let ask: Ask = row.read()?;
        let is_theirs = opaque::fits(&visitor.session, &ask.session) && self.now() < ask.expires;
        Ok(is_theirs.then_some((ask, row.version)))
    }

    /// Takes a person's answer. `None` where the question was not put to this session, or is answered.
    ///
    /// # Errors
    /// The store's.
    pub async fn answer(
        &self,
        visitor: &Visitor,
        ticket: &str,
        answer: Answer,
    ) -> Result<Option<Allowed>, ProviderError> {
        let Some((Ask { about: Some(about), .. }, version)) = self.ask(visitor, ticket).await? else {
            return Ok(None);
        };
        let delete =
            Write::Delete { table: ASKS, id: ask_id(&visitor.who, ticket), expect: Expect::Version(version) };
        match self.records.commit(vec![delete]).await {
            Err(StoreError::Conflict) => return Ok(None),
            other => drop(other?),
        }
        // The app may have changed or gone since the question was put.
        let app = self.app(&about.client_id).await?;
        let is_right = |app: &App| {
            redirect::is_registered(&app.record.redirect_uris, app.record.is_public, &about.redirect_uri)
        };
        if !app.as_ref().is_some_and(|app| is_right(app) && !self.is_suspended(app)) {
            return Ok(None);
        }
        match answer {
            Answer::Yes => Ok(Some(self.allow(visitor, about, "").await?)),
            Answer::No => {
                let act =
                    Act::new(&visitor.who.shown(), "app.denied", &about.client_id, about.scope.to_string());
                self.note(act, Vec::new()).await?;
                let why = "The person said no.";
                Ok(Some(self.error(&about.redirect_uri, about.state.as_deref(), "access_denied", why)))
            }
        }
    }

    /// What `who` agreed to for this app, and its row's version.
    pub(super) async fn consent(
        &self,
        who: &Who,
        client_id: &str,
    ) -> Result<Option<(Consent, u64)>, StoreError> {
        let row = self.records.get(CONSENTS, &consent_id(who, client_id)).await?;
        row.map(|row| Ok((row.read()?, row.version))).transpose()
    }

    /// Remembers the consent and makes a code.
    async fn allow(&self, visitor: &Visitor, about: About, how: &str) -> Result<Allowed, ProviderError> {
        let (who, now) = (&visitor.who, self.now());
        let note = format!("{}{}{how}", about.scope, if how.is_empty() { "" } else { ", " });
        for _ in 0..TRIES {
            let before = self.consent(who, &about.client_id).await?;
            let expect = before.as_ref().map_or(Expect::Absent, |(_, version)| Expect::Version(*version));
            let consent = Consent {
                client_id: about.client_id.clone(),
                who: who.shown(),
                scope: before.as_ref().map_or(about.scope, |(before, _)| before.scope.and(about.scope)),
                created: before.map_or(now, |(before, _)| before.created),
                updated: now,
            };
            let code = opaque::random();
            let kept = Code {
                client_id: about.client_id.clone(),
                redirect_uri: about.redirect_uri.clone(),
                challenge: about.challenge.clone(),
                tenant: who.tenant.as_str().to_owned(),
                subject: who.subject.as_str().to_owned(),
                scope: about.scope,
                expires: now + CODE_LIFE,
                grant: None,
            };
            let (of_consent, of_code) = (consent_id(who, &about.client_id), opaque::hash(code.expose()));
            let puts = vec![
                Write::put(CONSENTS, of_consent, &consent, expect)?,
                Write::put(CODES, of_code, &kept, Expect::Absent)?,
            ];
            let act = Act::new(&who.shown(), "app.authorized", &about.client_id, note.clone());
            match self.note(act, puts).await {
                Err(StoreError::Conflict) => continue,
                other => drop(other?),
            }
            let state = about.state.as_deref();
            let to = request::answer_code(&about.redirect_uri, &self.issuer(), state, code.expose());
            return Ok(Allowed { to: Secret::new(to) });
        }
        Err(StoreError::Conflict.into())
    }

    /// Forgets, now and then, what is over: questions, codes, grants, and whatever hangs on an app that is gone.
    pub(super) async fn sweep_now_and_then(&self) -> Result<(), StoreError> {
        const EVERY: std::time::Duration = std::time::Duration::from_secs(600);
        let now = self.clock.now();
        {
            let mut swept = self.swept.lock();
            if swept.is_some_and(|swept| now.since(swept) < EVERY) {
                return Ok(());
            }
            *swept = Some(now);
        }
        let (apps, seconds) = (self.apps(&Reach::Everything).await?, self.now());
        let is_gone = |client_id: &str| !apps.iter().any(|app| app.client_id == client_id);
        self.sweep::<Ask>(ASKS, |ask| ask.expires < seconds).await?;
        // A code that was traded is remembered for a while, so that a second trade is noticed.
        self.sweep::<Code>(CODES, |code| code.expires + ASK_LIFE < seconds).await?;
        self.sweep::<Consent>(CONSENTS, |consent| is_gone(&consent.client_id)).await?;
        let is_over = |grant: &Grant| grant.expires < seconds || is_gone(&grant.client_id);
        self.sweep::<Grant>(GRANTS, is_over).await
    }

    async fn sweep<T: serde::de::DeserializeOwned>(
        &self,
        table: Name,
        is_over: impl Fn(&T) -> bool + Send + Sync,
    ) -> Result<(), StoreError> {
        let is_over = |row: &store::Row| row.read::<T>().is_ok_and(|value| is_over(&value));
        store::sweep(&*self.records, table, is_over).await
    }
}

/// Whether it is sure that the answer reaches the app and nobody who only calls themselves so: it has a secret, or its redirect
/// URI is a site that it holds (RFC 6749, 10.2; RFC 8252, 8.6).
fn is_assured(app: &AppRecord, redirect_uri: &str) -> bool {
    !app.is_public || redirect_uri.starts_with("https://")
}
