//! Who is calling, as established once and then shared by all requests with the same token.

use std::sync::Arc;

use crate::glob;
use crate::identity::limits::Limiter;
use crate::ids::{Subject, TenantId};
use crate::keybook::Scope;

/// A caller whose token or key has been verified.
#[derive(Debug)]
pub struct Caller {
    /// Whom it belongs to: what accounts, limits and usage are counted by.
    pub tenant: TenantId,
    /// Who within the tenant: a JWT's `sub`, or a key's id.
    pub subject: Subject,
    /// The issuer of the JWT; `None` for a key.
    pub issuer: Option<Arc<str>>,
    /// The id of the key; `None` for a JWT.
    pub key_id: Option<String>,
    pub models: ModelRules,
    pub scopes: Scopes,
    /// Shared by all requests of the tenant (or of the key, where it has limits of its own).
    pub limiter: Arc<Limiter>,
    /// Seconds since 1970 after which the token or key is no longer good; `None`: no end.
    pub expires: Option<u64>,
    /// Of a token that Weir made itself.
    pub ties: Option<Ties>,
}

/// What a token that Weir made itself hangs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ties {
    /// The app that holds it, or [`OWN_CLIENT`](super::OWN_CLIENT).
    pub client_id: Arc<str>,
    /// The grant or session: when that is revoked, the token is dead.
    pub session: Arc<str>,
    /// Its `jti`.
    pub token_id: Arc<str>,
    /// Names with spaces between, as granted.
    pub scope: Arc<str>,
    /// Seconds since 1970.
    pub issued: u64,
}

impl Ties {
    /// Whether a third party's app holds the token.
    pub fn is_app(&self) -> bool {
        &*self.client_id != super::OWN_CLIENT
    }

    /// Whether `scope` was granted, by its exact name.
    pub fn has(&self, scope: &str) -> bool {
        self.scope.split(' ').any(|one| one == scope)
    }
}

impl Caller {
    /// Whether this caller may ask for `model`.
    pub fn may_use(&self, model: &str) -> bool {
        self.models.allow(model)
    }

    /// Whether this caller has `scope`.
    pub fn has_scope(&self, scope: Scope) -> bool {
        self.scopes.has(scope)
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// What a caller has of whom nothing else is said: it may ask models.
    pub const CHAT: Scopes = Scopes(1 << Scope::Chat as u8);

    /// Whether `scope` is in it.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// The scopes among `names`; names that Weir does not know (`openid`, …) are passed over.
    pub fn from_names<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        names.into_iter().filter_map(|name| name.parse().ok()).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | 1 << scope as u8))
    }
}

/// Which models a caller may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ModelRules {
    /// Every model.
    #[default]
    All,
    /// Those that fit one of these names or globs (`*` stands for any run of characters); an empty list fits none.
    Only(Vec<String>),
}

impl ModelRules {
    /// Whether `model` is allowed.
    pub fn allow(&self, model: &str) -> bool {
        match self {
            ModelRules::All => true,
            ModelRules::Only(patterns) => patterns.iter().any(|pattern| glob::fits(pattern, model)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_allows_nothing() {
        assert!(!ModelRules::Only(vec![]).allow("gpt-4o"));
        assert!(ModelRules::All.allow("gpt-4o"));
    }

    #[test]
    fn unknown_scopes_are_passed_over_and_none_includes_another() {
        let scopes = Scopes::from_names("openid admin profile".split(' '));
        assert!(scopes.has(Scope::Admin));
        assert!(!scopes.has(Scope::Chat));
        assert!(!scopes.has(Scope::Accounts));
        assert_eq!(Scopes::from_names(["Admin", "ADMIN", "admin "]), Scopes::default());
        assert!(Scopes::CHAT.has(Scope::Chat));
    }
}
