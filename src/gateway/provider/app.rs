//! Third-party apps: who may ask a person for anything at all. They are a tenant's, and whoever registered one manages it.

use serde::{Deserialize, Serialize};

use super::{OAuthCode, Provider, ProviderError, TRIES, redirect, refuse};
use crate::gateway::reach::{Adder, Reach};
use crate::ids::{TenantId, random_name};
use crate::opaque;
use crate::secret::Secret;
use crate::store::{self, Act, Expect, Name, Row, StoreError, Write};

pub(super) const TABLE: Name = "oauth_apps";

/// Most apps of one tenant.
const MAX_PER_TENANT: usize = 100;

/// Most redirect URIs of one app.
const MAX_URIS: usize = 20;

/// Longest name, in characters: it is shown to people.
const MAX_NAME: usize = 80;

/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 500;

/// How a client's secret begins, so that a scanner of leaked secrets knows it.
const SECRET_PREFIX: &str = "weir-app-";

/// What is known of an app. Nothing in it opens anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRecord {
    /// `app_` and 22 characters; never used again.
    pub client_id: String,
    /// Shown to people.
    pub name: String,
    /// Shown to people.
    pub description: String,
    pub redirect_uris: Vec<String>,
    /// Runs where it cannot keep a secret: in a browser, on a phone.
    pub is_public: bool,
    /// Who manages it.
    pub owner: TenantId,
    /// Who of them registered it, and alone manages it; `None`: nobody in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_by: Option<Adder>,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970.
    pub updated: u64,
}

/// An app, with what proves that it is it.
#[derive(Clone, Debug)]
pub struct App {
    pub record: AppRecord,
    /// SHA-256 of its secret, hexadecimal; `None` for a public app.
    secret: Option<String>,
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    record: AppRecord,
    secret: Option<String>,
}

/// What is asked for when an app is registered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewApp {
    pub name: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// One more of them.
    pub redirect_uri: Option<String>,
    #[serde(default)]
    pub is_public: bool,
}

impl NewApp {
    fn read(
        self,
        (owner, added_by): (&TenantId, Option<Adder>),
        now: u64,
    ) -> Result<AppRecord, ProviderError> {
        let wrong = |why: &str| Err(ProviderError::Invalid(why.to_owned()));
        let (name, description) = (self.name.trim(), self.description.trim());
        if name.is_empty() || !is_shown(name, MAX_NAME) {
            return wrong("The name is 1 to 80 characters on one line.");
        }
        if !is_shown(description, MAX_DESCRIPTION) {
            return wrong("The description is at most 500 characters on one line.");
        }
        let mut redirect_uris = self.redirect_uris;
        redirect_uris.extend(self.redirect_uri);
        if redirect_uris.is_empty() || redirect_uris.len() > MAX_URIS {
            return wrong("An app has 1 to 20 redirect URIs.");
        }
        for (at, uri) in redirect_uris.iter().enumerate() {
            if let Err(why) = redirect::check(uri, self.is_public) {
                return Err(ProviderError::Invalid(format!("redirect_uris[{at}]: {why}")));
            }
        }
        Ok(AppRecord {
            client_id: random_name("app_", 22),
            name: name.to_owned(),
            description: description.to_owned(),
            redirect_uris,
            is_public: self.is_public,
            owner: owner.clone(),
            added_by,
            created: now,
            updated: now,
        })
    }
}

/// Text that looks like what it is: no line breaks, nothing invisible, nothing that turns the direction of what follows.
fn is_shown(text: &str, most: usize) -> bool {
    let is_odd = |char: char| {
        char.is_control()
            || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().count() <= most && !text.contains(is_odd)
}

impl App {
    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        let Kept { record, secret } = row.read()?;
        Ok(Self { record, secret, version: row.version })
    }

    /// Whether somebody with this reach may see and change it.
    fn is_within(&self, reach: &Reach) -> bool {
        reach.has(Some(&self.record.owner), self.record.added_by.as_ref())
    }

    fn put(&self, expect: Expect) -> Result<Write, StoreError> {
        let id = self.record.client_id.clone();
        let kept = Kept { record: self.record.clone(), secret: self.secret.clone() };
        Write::put(TABLE, id, &kept, expect)
    }
}

impl Provider {
    /// Registers an app of `owner` that `added_by` adds, for `who`. Its secret is in the answer and nowhere else; a public app has none.
    ///
    /// # Errors
    /// What is asked for makes no sense, or the store's.
    pub async fn register(
        &self,
        who: &str,
        (owner, added_by): (&TenantId, Option<Adder>),
        new: NewApp,
    ) -> Result<(AppRecord, Option<Secret>), ProviderError> {
        let record = new.read((owner, added_by), self.now())?;
        if self.apps(&Reach::Tenant(owner.clone())).await?.len() >= MAX_PER_TENANT {
            return Err(ProviderError::Invalid(format!("There are {MAX_PER_TENANT} apps already.")));
        }
        let secret = (!record.is_public).then(new_secret);
        let kept = secret.as_ref().map(|secret| opaque::hash(secret.expose()));
        let app = App { record, secret: kept, version: 0 };
        let act = Act::new(who, "app.registered", &app.record.client_id, noted(&app.record));
        self.note(act, vec![app.put(Expect::Absent)?]).await?;
        Ok((app.record, secret))
    }

    /// The apps within `reach`, in the order of their ids.
    ///
    /// # Errors
    /// The store's.
    pub async fn apps(&self, reach: &Reach) -> Result<Vec<AppRecord>, StoreError> {
        let rows = store::all(&*self.records, TABLE).await?;
        let mut found = Vec::new();
        for row in &rows {
            let app = App::read(row)?;
            if app.is_within(reach) {
                found.push(app.record);
            }
        }
        Ok(found)
    }

    /// The app of that id.
    ///
    /// # Errors
    /// The store's.
    pub async fn app(&self, client_id: &str) -> Result<Option<App>, StoreError> {
        self.records.get(TABLE, client_id).await?.as_ref().map(App::read).transpose()
    }

    async fn app_of(&self, reach: &Reach, client_id: &str) -> Result<App, ProviderError> {
        let app = self.app(client_id).await?;
        app.filter(|app| app.is_within(reach)).ok_or(ProviderError::NotFound)
    }

    /// Gives an app another secret: the one before is refused from now on. Only of one within `reach`.
    ///
    /// # Errors
    /// There is none, it is public, or the store's.
    pub async fn rotate_secret(
        &self,
        who: &str,
        reach: &Reach,
        client_id: &str,
    ) -> Result<(AppRecord, Secret), ProviderError> {
        for _ in 0..TRIES {
            let mut app = self.app_of(reach, client_id).await?;
            if app.record.is_public {
                return Err(ProviderError::Invalid("A public app has no secret.".to_owned()));
            }
            let secret = new_secret();
            app.secret = Some(opaque::hash(secret.expose()));
            app.record.updated = self.now();
            let put = app.put(Expect::Version(app.version))?;
            let act = Act::new(who, "app.secret_rotated", client_id, noted(&app.record));
            match self.note(act, vec![put]).await {
                Err(StoreError::Conflict) => {}
                other => return Ok(other.map(|_| (app.record, secret))?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Forgets an app: every token of it is dead. Only one within `reach`.
    ///
    /// # Errors
    /// There is none, or the store's.
    pub async fn delete_app(
        &self,
        who: &str,
        reach: &Reach,
        client_id: &str,
    ) -> Result<AppRecord, ProviderError> {
        let app = self.app_of(reach, client_id).await?;
        let delete = Write::Delete { table: TABLE, id: client_id.to_owned(), expect: Expect::Anything };
        let act = Act::new(who, "app.deleted", client_id, noted(&app.record));
        self.keeper.revoke(act, &[client_id.to_owned()], vec![delete]).await?;
        Ok(app.record)
    }

    /// The app that these credentials are of: with its secret, or, for a public one, with none.
    ///
    /// # Errors
    /// `invalid_client`, whatever is wrong; `unauthorized_client` where its owner is kept out; the store's.
    pub async fn authenticate(&self, client_id: &str, secret: Option<&Secret>) -> Result<App, ProviderError> {
        let app = self.app(client_id).await?;
        let kept = app.as_ref().and_then(|app| app.secret.as_deref());
        // Compared in any case, so that the time tells nothing of which apps there are.
        let fits = opaque::fits(secret.map_or("", Secret::expose), kept.unwrap_or_default());
        let is_it = |app: &App| match (&app.secret, secret) {
            (Some(_), Some(_)) => fits,
            (None, None) => app.record.is_public,
            _ => false,
        };
        match app.filter(is_it) {
            Some(app) => self.in_use(app),
            None => {
                refuse(OAuthCode::InvalidClient, "The client is unknown, or did not prove that it is it.")
            }
        }
    }
}

fn new_secret() -> Secret {
    Secret::new(format!("{SECRET_PREFIX}{}", opaque::random().expose()))
}

fn noted(record: &AppRecord) -> String {
    let kind = if record.is_public { "public" } else { "confidential" };
    format!("{:?} of {:?}, {kind}", record.name, record.owner.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever was registered before it was noted by whom is nobody's in particular, and is written as it was.
    #[test]
    fn an_older_app_is_nobodys_in_particular() {
        let old = r#"{"client_id":"app_1","name":"n","description":"","redirect_uris":[],"is_public":true,"owner":"t","created":1,"updated":1}"#;
        let record: AppRecord = serde_json::from_str(old).expect("readable");
        assert_eq!(record.added_by, None);
        assert_eq!(serde_json::to_string(&record).expect("written"), old);
    }

    #[test]
    fn what_people_are_shown_looks_like_what_it_is() {
        assert!(is_shown("Été 天气 app (2)", MAX_NAME));
        for odd in ["a\nb", "a\u{202e}b", "a\u{200b}b", "a\u{2066}b", "\u{feff}", &"x".repeat(81)] {
            assert!(!is_shown(odd, MAX_NAME), "{odd:?}");
        }
    }
}
