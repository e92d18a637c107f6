//! People as Weir's own apps meet them: who sits before the browser, and who they are now.

use async_trait::async_trait;
use http::HeaderMap;

use super::{People, PersonRecord};
use crate::gateway::provider::{Person, Visitor, Visitors, Who};
use crate::keybook::Scope;
use crate::store::StoreError;

impl People {
    /// Somebody as apps know them.
    pub fn who_is(&self, person: &PersonRecord) -> Who {
        Who { tenant: self.ground().tenant_of(person), subject: person.subject() }
    }

    /// What apps may be told of somebody, and what they may do.
    fn told_of(&self, person: &PersonRecord) -> Person {
        let ground = self.ground();
        Person {
            name: person.name().map(str::to_owned),
            // An address that nobody has verified may be somebody else's.
            email: person.email().map(str::to_owned),
            picture: person.picture().map(str::to_owned),
            may_chat: ground.scopes_of(person).contains(&Scope::Chat),
            models: ground.models_of(person).map(<[String]>::to_vec),
        }
    }
}

#[async_trait]
impl Visitors for People {
    async fn visitor(&self, headers: &HeaderMap) -> Result<Option<Visitor>, StoreError> {
        let guest = self.guest(headers).await?;
        Ok(guest.map(|guest| Visitor {
            who: self.who_is(&guest.person),
            person: self.told_of(&guest.person),
            session: guest.session.id,
        }))
    }

    fn sign_in(&self, back: &str) -> Option<String> {
        let query =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("redirect_after", back).finish();
        self.ground().settings.is_on().then(|| format!("/auth?{query}"))
    }

    async fn person(&self, who: &Who) -> Result<Option<Person>, StoreError> {
        let person = self.welcome(who.subject.as_str()).await?.map(|(person, _)| person);
        // On somebody else's limits now: what was granted was on those of before.
        let person = person.filter(|person| self.ground().tenant_of(person) == who.tenant);
        Ok(person.map(|person| self.told_of(&person)))
    }
}
