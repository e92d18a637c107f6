//! A person, a way in and a session, as they are kept. No provider's token is among it: who somebody is was asked once, and the
//! tokens for it are thrown away.

use serde::{Deserialize, Serialize};

use crate::ids::{Subject, TenantId};
use crate::keybook::Scope;
use crate::oauth;
use crate::opaque::hash;

/// Somebody, by nothing but an id of ours: names and addresses change, and so do the ways in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonRecord {
    /// `per_` and 20 characters.
    pub id: String,
    /// Given where an operator has said so; else as the configuration has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// Kept out by an operator.
    #[serde(default)]
    pub is_blocked: bool,
    /// In the order in which they were added; never none.
    pub links: Vec<Link>,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970.
    pub updated: u64,
}

/// A way in: who somebody is to a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// `lnk_` and 12 characters.
    pub id: String,
    /// The provider, by its name here.
    pub source: String,
    /// The issuer behind that name, where it has one: under the same name, another one's subjects are other people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What the provider calls them: the best name first, then those that they were known by before.
    pub sids: Vec<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub email: Option<String>,
    #[serde(default)]
    pub email_is_verified: bool,
    #[serde(default)]
    pub picture: Option<String>,
    /// Seconds since 1970.
    pub created: u64,
    /// When somebody last came in by it; seconds since 1970.
    pub used: u64,
}

/// Most further names of a person at one provider.
const MAX_SIDS: usize = 8;

impl Link {
    /// The way in that `told` is, as of `now`.
    pub(super) fn new(id: String, source: Source<'_>, told: &oauth::Person, now: u64) -> Self {
        let mut link = Self {
            id,
            source: source.name.to_owned(),
            issuer: source.issuer.map(str::to_owned),
            created: now,
            ..Self::default()
        };
        link.take(told, now);
        link
    }

    /// Takes over what the provider says now. True where it knows the person by a name that was not kept yet.
    pub(super) fn take(&mut self, told: &oauth::Person, now: u64) -> bool {
        let new: Vec<&String> = [&told.subject]
            .into_iter()
            .chain(&told.also)
            .filter(|sid| !self.sids.contains(sid))
            .take(MAX_SIDS.saturating_sub(self.sids.len()))
            .collect();
        let is_more = !new.is_empty();
        let mut sids: Vec<String> = new.into_iter().chain(&self.sids).cloned().collect();
        // A stable sort: the one that the provider puts first, then the others as they were.
        sids.sort_by_key(|sid| *sid != told.subject);
        self.sids = sids;
        self.name.clone_from(&told.name);
        self.email.clone_from(&told.email);
        self.email_is_verified = told.email_is_verified;
        self.picture.clone_from(&told.picture);
        self.used = now;
        is_more
    }

    /// The address, where the provider says that it is theirs.
    pub fn verified_email(&self) -> Option<&str> {
        self.email.as_deref().filter(|_| self.email_is_verified)
    }

    pub(super) fn source(&self) -> Source<'_> {
        Source { name: &self.source, issuer: self.issuer.as_deref() }
    }

    /// Under which ids it is found.
    pub(super) fn keys(&self) -> Vec<String> {
        self.sids.iter().map(|sid| self.source().key(sid)).collect()
    }
}

impl PersonRecord {
    /// Whether the same holds of them as of `other`, whatever they are called and however they come in.
    pub fn holds_as(&self, other: &Self) -> bool {
        let what = |of: &Self| (of.is_blocked, of.tenant.clone(), of.scopes.clone(), of.models.clone());
        what(self) == what(other)
    }

    /// What they are called: by whoever was asked first and said something.
    pub fn name(&self) -> Option<&str> {
        self.links.iter().find_map(|link| link.name.as_deref())
    }

    /// An address that is theirs.
    pub fn email(&self) -> Option<&str> {
        self.links.iter().find_map(Link::verified_email)
    }

    /// A picture of them: an address, which somebody else wrote.
    pub fn picture(&self) -> Option<&str> {
        let is_web = |url: &&str| url.starts_with("https://");
        self.links.iter().filter_map(|link| link.picture.as_deref()).find(is_web)
    }

    pub(super) fn subject(&self) -> Subject {
        Subject::from(self.id.as_str())
    }
}

/// Whose words a subject is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub name: &'a str,
    pub issuer: Option<&'a str>,
}

impl Source<'_> {
    /// The id under which a way in is found. Every part with its length, so that no two ways share one.
    pub fn key(&self, sid: &str) -> String {
        let issuer = self.issuer.unwrap_or_default();
        let text = format!("{}:{}{}:{issuer}{sid}", self.name.len(), self.name, issuer.len());
        hash(&text)
    }
}

/// What a way in leads to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Door {
    /// The id of a person.
    pub person: String,
}

/// A sign-in of somebody in one browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// `ses_` and 22 characters: the `sid` of its tokens.
    pub id: String,
    /// Hash of what the browser shows.
    pub(super) secret: String,
    /// The way in by which it began.
    pub link: String,
    /// The browser, in its own words.
    pub agent: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970.
    pub expires: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ways_in_share_a_key() {
        let key = |name, issuer, sid| Source { name, issuer }.key(sid);
        let all = [
            key("a", None, "1"),
            key("a", None, "11"),
            key("a1", None, "1"),
            key("b", None, "1"),
            key("a", Some("https://x"), "1"),
            key("a", Some("https://x1"), ""),
            key("a", Some("https://y"), "1"),
            key("a", None, "https://x1"),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn the_best_name_comes_first_and_old_ones_stay() {
        let told = |subject: &str, also: &[&str]| oauth::Person {
            subject: subject.to_owned(),
            also: also.iter().map(|&sid| sid.to_owned()).collect(),
            name: None,
            email: None,
            email_is_verified: false,
            picture: None,
        };
        let source = Source { name: "wechat-mp", issuer: None };
        let mut link = Link::new("lnk_1".to_owned(), source, &told("app/open", &[]), 1);
        assert!(link.take(&told("union", &["app/open"]), 2));
        assert_eq!(link.sids, ["union", "app/open"]);
        assert!(!link.take(&told("app/open", &[]), 3));
        assert_eq!(link.sids, ["app/open", "union"]);
    }
}
