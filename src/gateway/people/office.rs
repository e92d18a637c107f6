//! What operators see of people, and change: who is kept out, on whose limits somebody lives, what they may do. Whatever is
//! changed, their sessions end: no token goes about that says what held before. What they let in is for the caller to end, by what
//! [`Loss`] they have. What they own rests with them, or goes with them: see [`kept_out`].

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};

use super::links::{put_person, shut};
use super::settings::fit;
use super::{PEOPLE, People, PeopleError, PersonRecord, TRIES};
use crate::gateway::kept_out::{self, KeptOut};
use crate::ids::TenantId;
use crate::keybook::Scope;
use crate::store::{self, Act, Expect, Row, StoreError, Write};

/// Longest name of a tenant or model, in bytes.
const MAX_NAME: usize = 256;

/// What an operator changes of a person. `null` is what the configuration says again; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    pub is_blocked: Option<bool>,
    #[serde(deserialize_with = "given")]
    pub tenant: Option<Option<TenantId>>,
    #[serde(deserialize_with = "given")]
    pub scopes: Option<Option<Vec<Scope>>>,
    #[serde(deserialize_with = "given")]
    pub models: Option<Option<Vec<String>>>,
}

/// A value that is there, also where it is `null`.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What apps have of somebody no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Nothing,
    /// Some models, or all of them: it stands in the apps' tokens which.
    Models,
    /// They are kept out, or live on others' limits.
    Everything,
}

impl Change {
    fn check(&self) -> Result<(), PeopleError> {
        let is_name = |text: &str| (1..=MAX_NAME).contains(&text.len()) && !text.contains(char::is_control);
        let is_good = self.tenant.iter().flatten().all(|tenant| is_name(tenant.as_str()))
            && self
                .models
                .iter()
                .flatten()
                .all(|models| fit(models) && models.iter().all(|model| is_name(model)));
        let why = "A tenant and models are names of 1 to 256 bytes, all models together of 4096.";
        if is_good { Ok(()) } else { Err(PeopleError::Invalid(why.to_owned())) }
    }

    fn apply(self, person: &mut PersonRecord) {
        person.is_blocked = self.is_blocked.unwrap_or(person.is_blocked);
        if let Some(tenant) = self.tenant {
            person.tenant = tenant;
        }
        if let Some(scopes) = self.scopes {
            person.scopes = scopes;
        }
        if let Some(models) = self.models {
            person.models = models;
        }
    }
}

impl People {
    /// People by ascending id, those after `after`.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<PersonRecord>, StoreError> {
        self.records.list(PEOPLE, after, limit).await?.iter().map(Row::read).collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// There is none, or the store's.
    pub async fn get(&self, id: &str) -> Result<PersonRecord, PeopleError> {
        Ok(self.find(id).await?.ok_or(PeopleError::NotFound("person"))?.0)
    }

    /// What somebody would lose by a change, of what apps may have of them. Nothing is changed.
    ///
    /// # Errors
    /// There is none, or what is asked for makes no sense; the store's.
    pub async fn would_lose(&self, id: &str, change: &Change) -> Result<(PersonRecord, Loss), PeopleError> {
        change.check()?;
        let before = self.get(id).await?;
        let mut after = before.clone();
        change.clone().apply(&mut after);
        let ground = self.ground();
        let may_chat = |person: &PersonRecord| ground.scopes_of(person).contains(&Scope::Chat);
        let models = ground.models_of(&after);
        let loss = if after.is_blocked || self.who_is(&before) != self.who_is(&after) {
            Loss::Everything
        } else if (may_chat(&before) && !may_chat(&after))
            || (models.is_some() && models != ground.models_of(&before))
        {
            Loss::Models
        } else {
            Loss::Nothing
        };
        Ok((before, loss))
    }

    /// Changes somebody on behalf of `who`. As they were, and as they are.
    ///
    /// # Errors
    /// There is none, or what is asked for makes no sense; the store's.
    pub async fn change(
        &self,
        who: &str,
        id: &str,
        change: &Change,
    ) -> Result<(PersonRecord, PersonRecord), PeopleError> {
        change.check()?;
        for _ in 0..TRIES {
            let (before, version) = self.find(id).await?.ok_or(PeopleError::NotFound("person"))?;
            let mut person = before.clone();
            change.clone().apply(&mut person);
            person.updated = self.now();
            let note = format!("blocked: {}", person.is_blocked);
            let ended: Vec<String> = self.sessions(id).await?.into_iter().map(|session| session.id).collect();
            let mut writes = vec![put_person(&person, Expect::Version(version))?];
            if person.is_blocked {
                let out = KeptOut { is_alone: self.is_alone(id).await?, gone: None };
                writes.push(out.put(id, Expect::Anything)?);
            } else if before.is_blocked {
                writes.push(kept_out::lift(id, Expect::Anything));
            }
            match self.end(Act::new(who, "person.changed", id, note), id, &ended, writes).await {
                Err(StoreError::Conflict) => {}
                other => {
                    other?;
                    self.end_late(who, id, |_| true).await?;
                    return Ok((before, person));
                }
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Forgets somebody on behalf of `who`, and notes that what they leave behind is to be given up. Should they come again, they are
    /// somebody new.
    ///
    /// # Errors
    /// There is none, or the store's.
    pub async fn remove(&self, who: &str, id: &str) -> Result<PersonRecord, PeopleError> {
        for _ in 0..TRIES {
            let (person, version) = self.find(id).await?.ok_or(PeopleError::NotFound("person"))?;
            let ended: Vec<String> = self.sessions(id).await?.into_iter().map(|session| session.id).collect();
            let delete = Write::Delete { table: PEOPLE, id: id.to_owned(), expect: Expect::Version(version) };
            let (is_alone, tenant) = (self.is_alone(id).await?, self.ground().tenant_of(&person));
            let gone = KeptOut::gone(is_alone, who, tenant, self.now());
            let mut writes = vec![delete, gone.put(id, Expect::Anything)?];
            writes.extend(person.links.iter().flat_map(shut));
            let note = String::new();
            match self.end(Act::new(who, "person.removed", id, note), id, &ended, writes).await {
                Err(StoreError::Conflict) => {}
                other => {
                    other?;
                    self.end_late(who, id, |_| true).await?;
                    return Ok(person);
                }
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Whether nobody else was put on the tenant that bears somebody's name.
    async fn is_alone(&self, id: &str) -> Result<bool, StoreError> {
        let is_it = |tenant: Option<&TenantId>| tenant.is_some_and(|tenant| tenant.as_str() == id);
        if is_it(self.ground().settings.tenant.as_ref()) {
            return Ok(false);
        }
        let all = self.everybody().await?;
        Ok(!all.iter().any(|(person, _)| person.id != id && is_it(person.tenant.as_ref())))
    }

    /// Everybody who can be read, and their rows' versions.
    async fn everybody(&self) -> Result<Vec<(PersonRecord, u64)>, StoreError> {
        let rows = store::all(&*self.records, PEOPLE).await?;
        Ok(rows.iter().filter_map(|row| Some((row.read().ok()?, row.version))).collect())
    }

    /// Notes of those who are kept out that they are, and of others that they are not, where that was said to a version that notes
    /// nothing.
    ///
    /// # Errors
    /// The store's.
    pub async fn note_kept_out(&self) -> Result<(), StoreError> {
        let known: HashMap<String, KeptOut> = kept_out::all(&*self.records).await?.into_iter().collect();
        for (person, version) in self.everybody().await? {
            let id = &person.id;
            let note = match (person.is_blocked, known.get(id)) {
                (true, None) => {
                    let out = KeptOut { is_alone: self.is_alone(id).await?, gone: None };
                    out.put(id, Expect::Absent)?
                }
                (false, Some(KeptOut { gone: None, .. })) => kept_out::lift(id, Expect::Anything),
                _ => continue,
            };
            // Written again as it was: of an operator who says otherwise and this, one is the first.
            let writes = vec![put_person(&person, Expect::Version(version))?, note];
            match self.records.commit(writes).await {
                Err(StoreError::Conflict) => {}
                other => drop(other?),
            }
        }
        Ok(())
    }
}
