//! Sessions: who is signed in, in which browser. A session is a row of the store, so it holds on every replica and ends on all of
//! them; the browser shows 256 random bits, of which the store has the hash. A session's tokens are JWTs that hang on it: when
//! it ends, so do they.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::record::{PersonRecord, SessionRecord};
use super::{People, PeopleError, TRIES};
use crate::identity::{Claims, Minted, OWN_CLIENT};
use crate::ids::{Subject, random_name};
use crate::keybook::Scope;
use crate::opaque::{fits, hash, random};
use crate::secret::Secret;
use crate::store::{self, Act, Expect, MAX_PAGE, Name, Row, StoreError, Write};

/// By person and session.
pub(super) const SESSIONS: Name = "person_sessions";

/// Most of one person. Whoever signs in once more ends the one that began first.
const MAX_EACH: usize = 50;

/// Longest that is kept of what a browser says of itself.
const MAX_AGENT: usize = 120;

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub struct Guest {
    pub person: PersonRecord,
    pub session: SessionRecord,
    /// For forms on pages of this session, and nobody else's eyes: it shows that a request comes from such a page.
    pub ticket: Secret,
}

/// What a session's cookie says.
struct Shown<'c> {
    person: &'c str,
    session: &'c str,
    secret: &'c str,
}

impl<'c> Shown<'c> {
    fn read(value: &'c str) -> Option<Self> {
        let mut parts = value.split('.');
        let (Some(person), Some(session), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let is_id = |text: &str, start: &str| text.starts_with(start) && text.len() < 64;
        (is_id(person, "per_") && is_id(session, "ses_")).then_some(Self { person, session, secret })
    }
}

fn row_id(person: &str, session: &str) -> String {
    format!("{person}.{session}")
}

/// What a page of a session shows to say that it is one.
fn ticket_of(secret: &str) -> Secret {
    Secret::new(hash(&format!("a page of {secret}")))
}

/// Names and values of all cookies.
pub(super) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

/// The value of a cookie.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    cookies(headers).find(|(known, _)| *known == name).map(|(_, value)| value)
}

impl People {
    /// Who is signed in by this request's cookies; `None` also where they are blocked, or not let in any more.
    ///
    /// # Errors
    /// The store's.
    pub async fn guest(&self, headers: &HeaderMap) -> Result<Option<Guest>, StoreError> {
        let ground = self.ground();
        let Some(shown) = cookie(headers, ground.session_cookie()).and_then(Shown::read) else {
            return Ok(None);
        };
        let Some(session) = self.session(shown.person, shown.session).await? else { return Ok(None) };
        if !fits(shown.secret, &session.secret) {
            return Ok(None);
        }
        let Some((person, _)) = self.welcome(shown.person).await? else { return Ok(None) };
        Ok(Some(Guest { person, session, ticket: ticket_of(shown.secret) }))
    }

    /// Who a session's token is of, as of now.
    ///
    /// # Errors
    /// The store's.
    pub async fn of_token(
        &self,
        subject: &Subject,
        session: &str,
    ) -> Result<Option<(PersonRecord, SessionRecord)>, StoreError> {
        let Some(session) = self.session(subject.as_str(), session).await? else { return Ok(None) };
        Ok(self.welcome(subject.as_str()).await?.map(|(person, _)| (person, session)))
    }

    /// Whether a request with this guest's cookies shows that it comes from one of their pages.
    pub fn is_of_page(&self, guest: &Guest, ticket: &str) -> bool {
        Secret::new(ticket) == guest.ticket
    }

    /// A session that goes on.
    pub(super) async fn session(
        &self,
        person: &str,
        session: &str,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let Some(row) = self.records.get(SESSIONS, &row_id(person, session)).await? else { return Ok(None) };
        let session: SessionRecord = row.read()?;
        Ok(Some(session).filter(|session| self.now() < session.expires))
    }

    /// Somebody's sessions, the youngest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn sessions(&self, person: &str) -> Result<Vec<SessionRecord>, StoreError> {
        let now = self.now();
        let rows = self.session_rows(person).await?;
        let mut all = rows.iter().map(Row::read).collect::<Result<Vec<SessionRecord>, _>>()?;
        all.retain(|session| now < session.expires);
        all.sort_by(|one, other| (other.created, &other.id).cmp(&(one.created, &one.id)));
        Ok(all)
    }

    pub(super) async fn session_rows(&self, person: &str) -> Result<Vec<Row>, StoreError> {
        let prefix = row_id(person, "");
        let mut rows = self.records.list(SESSIONS, Some(&prefix), MAX_PAGE).await?;
        rows.retain(|row| row.id.starts_with(&prefix));
        Ok(rows)
    }

    /// Begins a session of `person`, who is from here on what they are now; what their browser shows from now on.
    pub(super) async fn begin_session(
        &self,
        person: &mut PersonRecord,
        link: &str,
        agent: &str,
    ) -> Result<(SessionRecord, Secret), PeopleError> {
        for _ in 0..TRIES {
            // An operator may have changed them since they were recognised.
            let Some((now, _)) = self.welcome(&person.id).await? else {
                return Err(PeopleError::NotAdmitted);
            };
            *person = now;
            let begun = self.begin(person, link, agent).await?;
            // Or while it began. Who changes somebody looks for their sessions afterwards: this one is there by now, or sees the change. Not
            // written with their row: of five windows that sign in at once all shall come in.
            let now = self.welcome(&person.id).await?;
            if now.is_some_and(|(now, _)| now.holds_as(person)) {
                return Ok(begun);
            }
            let act = Act::new(&self.shown(person), "person.signed_out", &begun.0.id, "");
            self.end(act, &person.id, std::slice::from_ref(&begun.0.id), Vec::new()).await?;
        }
        Err(StoreError::Conflict.into())
    }

    async fn begin(
        &self,
        person: &PersonRecord,
        link: &str,
        agent: &str,
    ) -> Result<(SessionRecord, Secret), PeopleError> {
        let (now, ground) = (self.now(), self.ground());
        let secret = random();
        let session = SessionRecord {
            id: random_name("ses_", 22),
            secret: hash(secret.expose()),
            link: link.to_owned(),
            agent: agent.chars().filter(|char| !char.is_control()).take(MAX_AGENT).collect(),
            created: now,
            expires: now.saturating_add(ground.settings.session_ttl.as_secs()),
        };
        let all = self.sessions(&person.id).await?;
        let oldest: Vec<String> = all.iter().skip(MAX_EACH - 1).map(|session| session.id.clone()).collect();
        let id = row_id(&person.id, &session.id);
        let mut writes = vec![Write::put(SESSIONS, id, &session, Expect::Absent)?];
        writes.extend(self.end_rows(&person.id, &oldest));
        let act = Act::new(&self.shown(person), "person.signed_in", &session.id, "");
        self.keeper.revoke(act, &oldest, writes).await?;
        let cookie = Secret::new(format!("{}.{}.{}", person.id, session.id, secret.expose()));
        Ok((session, cookie))
    }

    fn end_rows(&self, person: &str, sessions: &[String]) -> Vec<Write> {
        let delete =
            |id: &String| Write::Delete { table: SESSIONS, id: row_id(person, id), expect: Expect::Anything };
        sessions.iter().map(delete).collect()
    }

    /// Ends sessions of somebody's, with every token of theirs, together with `changes`.
    pub(super) async fn end(
        &self,
        act: crate::store::Act,
        person: &str,
        sessions: &[String],
        mut changes: Vec<Write>,
    ) -> Result<(), StoreError> {
        changes.extend(self.end_rows(person, sessions));
        self.keeper.revoke(act, sessions, changes).await
    }

    /// Ends what began while somebody was being changed by `who`, of what `is_meant`.
    pub(super) async fn end_late(
        &self,
        who: &str,
        person: &str,
        is_meant: impl Fn(&SessionRecord) -> bool,
    ) -> Result<(), StoreError> {
        let late = self.sessions(person).await?.into_iter().filter(is_meant);
        let late: Vec<String> = late.map(|session| session.id).collect();
        if late.is_empty() {
            return Ok(());
        }
        self.end(Act::new(who, "person.signed_out", person, ""), person, &late, Vec::new()).await
    }

    /// Signs somebody out: of one session, or of all.
    ///
    /// # Errors
    /// There is no such session, or the store's.
    pub async fn sign_out(&self, person: &PersonRecord, session: Option<&str>) -> Result<(), PeopleError> {
        let all = self.sessions(&person.id).await?;
        let mut ended: Vec<String> = all.into_iter().map(|session| session.id).collect();
        if let Some(one) = session {
            ended.retain(|id| id == one);
            if ended.is_empty() {
                return Err(PeopleError::NotFound("session"));
            }
        }
        let on = session.unwrap_or("all sessions");
        let act = Act::new(&self.shown(person), "person.signed_out", on, "");
        Ok(self.end(act, &person.id, &ended, Vec::new()).await?)
    }

    /// A token of this session, which `/v1` and whatever else takes callers' tokens takes.
    ///
    /// # Errors
    /// The store's, or no token can be made.
    pub async fn mint(&self, person: &PersonRecord, session: &SessionRecord) -> Result<Minted, PeopleError> {
        self.keeper.ensure().await?;
        let ground = self.ground();
        let left = std::time::Duration::from_secs(session.expires.saturating_sub(self.now()));
        let (subject, tenant) = (person.subject(), ground.tenant_of(person));
        let scopes: Vec<&str> = ground.scopes_of(person).iter().map(|scope| Scope::as_str(*scope)).collect();
        let claims = Claims {
            subject: &subject,
            tenant: &tenant,
            client_id: OWN_CLIENT,
            session: &session.id,
            scope: &scopes.join(" "),
            models: ground.models_of(person),
        };
        Ok(self.keeper.own().mint(&claims, ground.settings.token_ttl.min(left))?)
    }

    /// Forgets sessions that are over, and sign-ins that nobody can come back to any more.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        self.carrier.sweep().await?;
        let now = self.now();
        let is_over = |row: &Row| row.read::<SessionRecord>().is_ok_and(|session| session.expires <= now);
        store::sweep(&*self.records, SESSIONS, is_over).await
    }
}

impl super::Ground {
    /// The cookie of a session.
    pub(super) fn session_cookie(&self) -> &'static str {
        if self.is_https() { "__Host-weir-session" } else { "weir-session" }
    }

    /// Has a browser keep a session, or, with `None`, forget it.
    pub fn keep_cookie(&self, value: Option<&Secret>) -> Option<HeaderValue> {
        let life = if value.is_some() { self.settings.session_ttl.as_secs() } else { 0 };
        let secure = if self.is_https() { "; Secure" } else { "" };
        let value = value.map_or("", Secret::expose);
        let text = format!(
            "{}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={life}{secure}",
            self.session_cookie()
        );
        let mut header = HeaderValue::try_from(text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}
