//! Who added something, and who may see and change it. Accounts and apps belong to a tenant, and of several people who share one each
//! manages what they added themselves; what nobody in particular added (a key, an operator, a version that did not note it) is for
//! all of them. One place for accounts and apps alike, so that no door is forgotten. Whom an account *carries* is another matter:
//! the whole tenant.

use serde::{Deserialize, Serialize};

use crate::identity::Caller;
use crate::ids::{Subject, TenantId};
use crate::keybook::Scope;

/// Somebody in particular who adds something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Adder {
    /// Whose word the subject is: another issuer's subject of that name is somebody else. `None`: ours, a person's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    pub subject: Subject,
}

impl Adder {
    /// Who calls; `None` with a key, which is nobody in particular.
    pub fn of(caller: &Caller) -> Option<Self> {
        let issuer = caller.issuer.as_deref()?;
        // Our own name may change; people's ids do not.
        let issuer = caller.ties.is_none().then(|| issuer.to_owned());
        Some(Self { issuer, subject: caller.subject.clone() })
    }

    /// The id of the person that it is, if it is one who signs in here.
    pub fn person(&self) -> Option<&str> {
        self.issuer.is_none().then(|| self.subject.as_str())
    }
}

/// How far somebody sees, and may change what they see. What is beyond is not there for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// An operator's.
    Everything,
    /// Whatever a tenant owns: for those with the scope `admin`.
    Tenant(TenantId),
    /// What a tenant owns, as far as they or nobody in particular added it.
    Own(TenantId, Option<Adder>),
}

impl Reach {
    /// A caller's.
    pub fn of(caller: &Caller) -> Self {
        if caller.has_scope(Scope::Admin) {
            return Self::Tenant(caller.tenant.clone());
        }
        Self::Own(caller.tenant.clone(), Adder::of(caller))
    }

    /// Whether it goes as far as something that `owner` owns and `added_by` added.
    pub fn has(&self, owner: Option<&TenantId>, added_by: Option<&Adder>) -> bool {
        match self {
            Self::Everything => true,
            Self::Tenant(tenant) => owner == Some(tenant),
            Self::Own(tenant, own) => {
                owner == Some(tenant) && (added_by.is_none() || added_by == own.as_ref())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reaches_their_own_and_what_is_nobodys() {
        let adder = |issuer: Option<&str>, subject: &str| Adder {
            issuer: issuer.map(str::to_owned),
            subject: subject.into(),
        };
        let (ann, bob) = (adder(None, "per_ann"), adder(None, "per_bob"));
        // Whoever may name subjects elsewhere names nobody of ours.
        let false_ann = adder(Some("https://id.example"), "per_ann");
        let (acme, other) = (TenantId::from("acme"), TenantId::from("other"));
        let own = Reach::Own(acme.clone(), Some(ann.clone()));
        let nobody = Reach::Own(acme.clone(), None);
        assert!(own.has(Some(&acme), Some(&ann)) && own.has(Some(&acme), None));
        for stranger in [&bob, &false_ann] {
            assert!(!own.has(Some(&acme), Some(stranger)) && !nobody.has(Some(&acme), Some(stranger)));
        }
        assert!(nobody.has(Some(&acme), None));
        assert!(!own.has(Some(&other), Some(&ann)) && !own.has(None, None) && !nobody.has(None, None));
        let tenant = Reach::Tenant(acme.clone());
        assert!(
            tenant.has(Some(&acme), Some(&bob)) && !tenant.has(Some(&other), None) && !tenant.has(None, None)
        );
        assert!(Reach::Everything.has(None, None) && Reach::Everything.has(Some(&other), Some(&bob)));
        assert_eq!((ann.person(), false_ann.person()), (Some("per_ann"), None));
    }
}
