//! Who sits before the browser. Why a trait: an app is let in by a person, and how people sign in is another part's affair; the
//! two agree in these three questions.

use async_trait::async_trait;
use http::HeaderMap;

use crate::ids::{Subject, TenantId};
use crate::opaque;
use crate::store::StoreError;

/// A person, by what never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub tenant: TenantId,
    /// Unique within this Weir, never given to somebody else.
    pub subject: Subject,
}

impl Who {
    /// Hexadecimal and of a fixed length, so that everything of one person stands together in a table.
    pub(super) fn key(&self) -> String {
        let (tenant, subject) = (self.tenant.as_str(), self.subject.as_str());
        let mut hash = opaque::hash(&format!("{}:{tenant}{subject}", tenant.len()));
        hash.truncate(32);
        hash
    }

    /// For the audit log: bounded, whatever a token said.
    pub(super) fn shown(&self) -> String {
        use crate::gateway::chat::printable;
        format!("{}/{}", printable(self.tenant.as_str()), printable(self.subject.as_str()))
    }
}

/// What may be told of a person, and what they may do, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    pub name: Option<String>,
    pub email: Option<String>,
    pub picture: Option<String>,
    /// Whether they may ask models at all.
    pub may_chat: bool,
    /// Names and globs; `None`: every model.
    pub models: Option<Vec<String>>,
}

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub who: Who,
    pub person: Person,
    /// Of this sign-in in this browser; never shown.
    pub session: String,
}

/// Answers for the sign-in of people.
#[async_trait]
pub trait Visitors: Send + Sync + std::fmt::Debug {
    /// Who is signed in by this request's cookies.
    ///
    /// # Errors
    /// The store's.
    async fn visitor(&self, headers: &HeaderMap) -> Result<Option<Visitor>, StoreError>;

    /// Where to send somebody to sign in who is then to come back to `back`, a path with its query on this host. `None` where
    /// nobody can sign in.
    fn sign_in(&self, back: &str) -> Option<String>;

    /// The person as they are now; `None` where they are gone or blocked: nothing is granted or renewed any more.
    ///
    /// # Errors
    /// The store's.
    async fn person(&self, who: &Who) -> Result<Option<Person>, StoreError>;
}
