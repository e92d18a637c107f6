//! What is kept of what people granted: consents, codes and grants. Apart from what is done with them: agreeing writes the first two, trading
//! a code reads both and writes the third, and taking back ends all of it.

use serde::{Deserialize, Serialize};

use super::scope::GrantScopes;
use super::visitors::Who;
use crate::store::{Expect, Name, Write};

/// Who agreed to what, by person and app.
pub(super) const CONSENTS: Name = "oauth_consents";

/// Codes, by hash.
pub(super) const CODES: Name = "oauth_codes";

/// Grants, by id.
pub(super) const GRANTS: Name = "oauth_grants";

/// What a person agreed to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Consent {
    pub client_id: String,
    pub who: String,
    pub scope: GrantScopes,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970.
    pub updated: u64,
}

/// A code, as kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Code {
    pub client_id: String,
    pub redirect_uri: String,
    pub challenge: Option<String>,
    pub tenant: String,
    pub subject: String,
    pub scope: GrantScopes,
    /// Seconds since 1970.
    pub expires: u64,
    /// The grant that it was traded for.
    pub grant: Option<String>,
}

/// A grant, as kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Grant {
    pub client_id: String,
    pub tenant: String,
    pub subject: String,
    pub scope: GrantScopes,
    /// Seconds since 1970.
    pub created: u64,
    /// When it was last renewed; seconds since 1970.
    pub used: u64,
    /// Seconds since 1970 from which its refresh token is dead.
    pub expires: u64,
    /// Hash of what all refresh tokens of the chain share.
    pub family: String,
    /// Hash of what the newest of them has of its own.
    pub turn: String,
}

impl Grant {
    pub fn who(&self) -> Who {
        Who { tenant: self.tenant.as_str().into(), subject: self.subject.as_str().into() }
    }
}

/// The id of what `who` agreed to.
pub(super) fn consent_id(who: &Who, client_id: &str) -> String {
    format!("{}.{client_id}", who.key())
}

/// Forgets a grant.
pub(super) fn drop_grant(id: &str) -> Write {
    Write::Delete { table: GRANTS, id: id.to_owned(), expect: Expect::Anything }
}
