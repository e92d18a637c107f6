//! Ways in. A door is a row under the hash of source and subject that leads to a person, and it is made, moved and taken away in
//! one commit with that person: whatever comes in between, nobody's door leads to somebody else.

use super::record::{Door, SessionRecord, Source};
use super::{DOORS, Link, PEOPLE, People, PeopleError, PersonRecord, TRIES};
use crate::ids::random_name;
use crate::oauth::{Person, Provider};
use crate::store::{Act, Expect, StoreError, Write};

/// Most of one person.
const MAX_LINKS: usize = 30;

fn source(provider: &Provider) -> Source<'_> {
    Source { name: &provider.name, issuer: provider.issuer.as_deref() }
}

/// Every name by which a provider knows somebody, the best first.
fn names(told: &Person) -> impl Iterator<Item = &String> {
    [&told.subject].into_iter().chain(&told.also)
}

pub(super) fn put_person(person: &PersonRecord, expect: Expect) -> Result<Write, StoreError> {
    Write::put(PEOPLE, person.id.as_str(), person, expect)
}

fn put_doors(person: &PersonRecord, keys: Vec<String>) -> Result<Vec<Write>, StoreError> {
    let door = Door { person: person.id.clone() };
    keys.into_iter().map(|id| Write::put(DOORS, id, &door, Expect::Absent)).collect()
}

/// Takes the doors of a way in away.
pub(super) fn shut(link: &Link) -> impl Iterator<Item = Write> + use<> {
    let keys = link.keys().into_iter();
    keys.map(|id| Write::Delete { table: DOORS, id, expect: Expect::Anything })
}

impl People {
    /// Whose door that is: the person's id, by the first name of theirs that leads to anybody.
    async fn behind(&self, source: Source<'_>, told: &Person) -> Result<Option<String>, StoreError> {
        for sid in names(told) {
            if let Some(row) = self.records.get(DOORS, &source.key(sid)).await? {
                return Ok(Some(row.read::<Door>()?.person));
            }
        }
        Ok(None)
    }

    /// The person that a provider told of, now known by what it says; made where nobody knew them. With the way by which they came.
    pub(super) async fn let_in(
        &self,
        provider: &Provider,
        told: &Person,
    ) -> Result<(PersonRecord, String, bool), PeopleError> {
        for _ in 0..TRIES {
            let done = match self.behind(source(provider), told).await? {
                Some(id) => self.recognise(&id, provider, told).await,
                None => self.sign_up(provider, told).await,
            };
            match done {
                // Somebody else was quicker: perhaps the very same, in another tab.
                Err(PeopleError::Store(StoreError::Conflict)) => {}
                other => return other,
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn sign_up(
        &self,
        provider: &Provider,
        told: &Person,
    ) -> Result<(PersonRecord, String, bool), PeopleError> {
        let now = self.now();
        let link = Link::new(random_name("lnk_", 12), source(provider), told, now);
        if !self.admits([&link]) {
            return Err(PeopleError::NotAdmitted);
        }
        let (id, keys) = (link.id.clone(), link.keys());
        let person = PersonRecord {
            id: random_name("per_", 20),
            links: vec![link],
            created: now,
            updated: now,
            ..PersonRecord::default()
        };
        let mut writes = put_doors(&person, keys)?;
        writes.push(put_person(&person, Expect::Absent)?);
        self.note(Act::new(&self.shown(&person), "person.signed_up", &id, provider.name.clone()), writes)
            .await?;
        Ok((person, id, true))
    }

    async fn recognise(
        &self,
        id: &str,
        provider: &Provider,
        told: &Person,
    ) -> Result<(PersonRecord, String, bool), PeopleError> {
        // A door that leads to nobody is one that is being taken away.
        let Some((mut person, version)) = self.find(id).await? else {
            return Err(StoreError::Conflict.into());
        };
        let source = source(provider);
        let Some(place) = person.links.iter().position(|link| is_known(link, source, told)) else {
            return Err(StoreError::Conflict.into());
        };
        let told = self.without_others_names(source, told, person.links.get(place)).await?;
        let Some(link) = person.links.get_mut(place) else { return Err(StoreError::Conflict.into()) };
        let before = link.keys();
        let is_more = link.take(&told, self.now());
        let (link, mut after) = (link.id.clone(), link.keys());
        after.retain(|key| !before.contains(key));
        if person.is_blocked {
            return Err(PeopleError::Blocked);
        }
        person.updated = self.now();
        let mut writes = put_doors(&person, after)?;
        writes.push(put_person(&person, Expect::Version(version))?);
        if !self.admits(&person.links) {
            // What they are known by now is kept: by what they were known by before nobody comes in.
            self.shut_out(&person, writes).await?;
            return Err(PeopleError::NotAdmitted);
        }
        match is_more {
            true => {
                let note = "known by another name now".to_owned();
                self.note(Act::new(&self.shown(&person), "person.linked", &link, note), writes).await?;
            }
            false => drop(self.records.commit(writes).await?),
        }
        Ok((person, link, false))
    }

    /// Writes that somebody is not let in any more, and ends their sessions.
    async fn shut_out(&self, person: &PersonRecord, writes: Vec<Write>) -> Result<(), StoreError> {
        let ended: Vec<String> =
            self.sessions(&person.id).await?.into_iter().map(|session| session.id).collect();
        if ended.is_empty() {
            return self.records.commit(writes).await.map(drop);
        }
        let act = Act::new(&self.shown(person), "person.not_let_in", &person.id, "");
        self.end(act, &person.id, &ended, writes).await
    }

    /// What was told, without names that lead to somebody else: who they came as is who they are.
    async fn without_others_names(
        &self,
        source: Source<'_>,
        told: &Person,
        link: Option<&Link>,
    ) -> Result<Person, StoreError> {
        let is_theirs = |sid: &String| link.is_some_and(|link| link.sids.contains(sid));
        let mut also = Vec::new();
        for sid in &told.also {
            if is_theirs(sid) || self.records.get(DOORS, &source.key(sid)).await?.is_none() {
                also.push(sid.clone());
            }
        }
        Ok(Person { also, ..told.clone() })
    }

    /// Adds a way in to somebody who is signed in.
    pub(super) async fn add_link(
        &self,
        id: &str,
        provider: &Provider,
        told: &Person,
    ) -> Result<PersonRecord, PeopleError> {
        for _ in 0..TRIES {
            match self.behind(source(provider), told).await? {
                // Theirs already: now known by what it says.
                Some(holder) if holder == id => {
                    let (person, ..) = self.let_in(provider, told).await?;
                    return Ok(person);
                }
                Some(_) => return Err(PeopleError::Taken),
                None => {}
            }
            let Some((mut person, version)) = self.welcome(id).await? else {
                return Err(PeopleError::SignedOut);
            };
            if person.links.len() >= MAX_LINKS {
                return Err(PeopleError::Invalid(format!("{MAX_LINKS} ways in are enough.")));
            }
            let link = Link::new(random_name("lnk_", 12), source(provider), told, self.now());
            let (on, keys) = (link.id.clone(), link.keys());
            person.links.push(link);
            person.updated = self.now();
            let mut writes = put_doors(&person, keys)?;
            writes.push(put_person(&person, Expect::Version(version))?);
            let act = Act::new(&self.shown(&person), "person.linked", &on, provider.name.clone());
            match self.note(act, writes).await {
                Err(StoreError::Conflict) => {}
                other => return Ok(other.map(|_| person)?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Takes a way in away, with the sessions that came by it; the one `in_session` goes on.
    ///
    /// # Errors
    /// It is the last by which they come in, or there is none of that id; the store's.
    pub async fn unlink(&self, id: &str, link: &str, in_session: &str) -> Result<PersonRecord, PeopleError> {
        for _ in 0..TRIES {
            let Some((mut person, version)) = self.welcome(id).await? else {
                return Err(PeopleError::SignedOut);
            };
            let place = person.links.iter().position(|held| held.id == link);
            let gone = person.links.remove(place.ok_or(PeopleError::NotFound("way in"))?);
            if !self.admits(&person.links) {
                return Err(PeopleError::LastDoor);
            }
            person.updated = self.now();
            let mut ended: Vec<String> = Vec::new();
            for session in self.sessions(id).await? {
                if session.link == gone.id && session.id != in_session {
                    ended.push(session.id);
                }
            }
            let mut writes = vec![put_person(&person, Expect::Version(version))?];
            writes.extend(shut(&gone));
            let act = Act::new(&self.shown(&person), "person.unlinked", link, gone.source.clone());
            match self.end(act, id, &ended, writes).await {
                Err(StoreError::Conflict) => {}
                other => {
                    other?;
                    let by_it = |session: &SessionRecord| session.link == gone.id && session.id != in_session;
                    self.end_late(&self.shown(&person), id, by_it).await?;
                    return Ok(person);
                }
            }
        }
        Err(StoreError::Conflict.into())
    }
}

/// Whether a way in is the one that a provider tells of.
fn is_known(link: &Link, source: Source<'_>, told: &Person) -> bool {
    let held = link.source();
    held.name == source.name && held.issuer == source.issuer && names(told).any(|sid| link.sids.contains(sid))
}
