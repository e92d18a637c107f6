//! One limiter for each tenant that has called, and for each key with limits of its own.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::identity::SettingsError;
use crate::ids::TenantId;
use crate::limits::Limits;

use super::Limiter;

/// Size from which limiters are looked through for some that may be forgotten.
const SWEEP_FROM: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Tenant(TenantId),
    Key { id: String, tenant: TenantId, own: Limits },
}

/// See the module.
#[derive(Debug)]
pub(in crate::identity) struct Limiters {
    default: Limits,
    tenants: HashMap<TenantId, Limits>,
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    limiters: HashMap<Owner, Arc<Limiter>>,
    /// The size at which to sweep next: twice what the last sweep left, so that sweeping costs little per limiter made.
    sweep_at: usize,
}

impl Limiters {
    /// # Errors
    /// A limit of zero, which would be no limit but a closed door.
    pub fn new(
        default: Limits,
        tenants: HashMap<TenantId, Limits>,
        clock: Clock,
    ) -> Result<Self, SettingsError> {
        std::iter::once(&default).chain(tenants.values()).try_for_each(check)?;
        let known = Mutex::new(Known { limiters: HashMap::new(), sweep_at: SWEEP_FROM });
        Ok(Self { default, tenants, clock, known })
    }

    /// Under other limits; what has been used still counts.
    pub fn renewed(
        &self,
        default: Limits,
        tenants: HashMap<TenantId, Limits>,
    ) -> Result<Self, SettingsError> {
        let next = Self::new(default, tenants, self.clock.clone())?;
        {
            let before = self.known.lock();
            let mut after = next.known.lock();
            for (owner, limiter) in &before.limiters {
                after.limiters.insert(owner.clone(), limiter.with_limits(next.limits_of(owner)));
            }
        }
        Ok(next)
    }

    /// The limiter that all callers of a tenant share.
    pub fn of_tenant(&self, tenant: &TenantId) -> Arc<Limiter> {
        self.of(Owner::Tenant(tenant.clone()))
    }

    /// The limiter of a key with limits of its own: a limit given there replaces the tenant's.
    pub fn of_key(&self, id: &str, tenant: &TenantId, own: &Limits) -> Arc<Limiter> {
        self.of(Owner::Key { id: id.to_owned(), tenant: tenant.clone(), own: *own })
    }

    fn of(&self, owner: Owner) -> Arc<Limiter> {
        let mut known = self.known.lock();
        if let Some(limiter) = known.limiters.get(&owner) {
            return Arc::clone(limiter);
        }
        if known.limiters.len() >= known.sweep_at {
            // One that a caller holds is in use; one that has something counted must not be forgotten.
            known.limiters.retain(|_, limiter| Arc::strong_count(limiter) > 1 || !limiter.is_idle());
            known.sweep_at = (known.limiters.len() * 2).max(SWEEP_FROM);
        }
        let limiter = Limiter::new(self.limits_of(&owner), self.clock.clone());
        known.limiters.insert(owner, Arc::clone(&limiter));
        limiter
    }

    fn limits_of(&self, owner: &Owner) -> Limits {
        let tenant = |tenant| self.tenants.get(tenant).map_or(self.default, |own| over(&self.default, own));
        match owner {
            Owner::Tenant(name) => tenant(name),
            Owner::Key { tenant: name, own, .. } => over(&tenant(name), own),
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.lock().limiters.len()
    }
}

/// `own` where it says something, else `base`. A burst belongs to the `rpm` beside it.
fn over(base: &Limits, own: &Limits) -> Limits {
    let burst = if own.rpm.is_some() { own.burst } else { own.burst.or(base.burst) };
    Limits {
        rpm: own.rpm.or(base.rpm),
        tpm: own.tpm.or(base.tpm),
        concurrency: own.concurrency.or(base.concurrency),
        daily_requests: own.daily_requests.or(base.daily_requests),
        daily_tokens: own.daily_tokens.or(base.daily_tokens),
        monthly_budget: own.monthly_budget.or(base.monthly_budget),
        burst,
    }
}

fn check(limits: &Limits) -> Result<(), SettingsError> {
    limits.first_zero().map_or(Ok(()), |name| Err(SettingsError::ZeroLimit(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_a_tenant_replaces_the_default_and_a_keys_replaces_both() {
        let (clock, _) = Clock::manual(0);
        let default = Limits { rpm: Some(60), tpm: Some(100), ..Limits::default() };
        let tenants = HashMap::from([("t".into(), Limits { tpm: Some(200), ..Limits::default() })]);
        let limiters = Limiters::new(default, tenants, clock).expect("limits");
        assert_eq!(limiters.of_tenant(&"other".into()).limits, default);
        let expected = Limits { rpm: Some(60), tpm: Some(200), ..Limits::default() };
        assert_eq!(limiters.of_tenant(&"t".into()).limits, expected);
        let own = Limits { rpm: Some(1), ..Limits::default() };
        let of_key = limiters.of_key("k", &"t".into(), &own);
        assert_eq!(of_key.limits, Limits { rpm: Some(1), tpm: Some(200), ..Limits::default() });
        assert!(Arc::ptr_eq(&of_key, &limiters.of_key("k", &"t".into(), &own)));
        assert!(!Arc::ptr_eq(&of_key, &limiters.of_key("k2", &"t".into(), &own)));
    }

    #[test]
    fn a_limit_of_zero_is_refused() {
        let (clock, _) = Clock::manual(0);
        let zero = Limits { tpm: Some(0), ..Limits::default() };
        assert_eq!(
            Limiters::new(zero, HashMap::new(), clock.clone()).err(),
            Some(SettingsError::ZeroLimit("tpm"))
        );
        let tenants = HashMap::from([("t".into(), zero)]);
        assert!(Limiters::new(Limits::default(), tenants, clock).is_err());
    }

    #[test]
    fn idle_limiters_are_forgotten_and_those_in_debt_are_not() {
        let (clock, _) = Clock::manual(0);
        let default = Limits { daily_tokens: Some(10), ..Limits::default() };
        let limiters = Limiters::new(default, HashMap::new(), clock).expect("limits");
        drop(limiters.of_tenant(&"spent".into()).admit(10).expect("fits"));
        for number in 0..3 * SWEEP_FROM {
            drop(limiters.of_tenant(&number.to_string().into()));
        }
        assert!(limiters.len() <= SWEEP_FROM + 1, "{}", limiters.len());
        assert!(limiters.of_tenant(&"spent".into()).admit(1).is_err());
    }

    #[test]
    fn new_settings_keep_what_was_used() {
        let (clock, _) = Clock::manual(0);
        let daily = |tokens| Limits { daily_tokens: Some(tokens), ..Limits::default() };
        let limiters = Limiters::new(daily(10), HashMap::new(), clock).expect("limits");
        drop(limiters.of_tenant(&"t".into()).admit(10).expect("fits"));
        let after = limiters.renewed(daily(12), HashMap::new()).expect("limits");
        assert!(after.of_tenant(&"t".into()).admit(3).is_err());
        assert!(after.of_tenant(&"t".into()).admit(2).is_ok());
        // And a request that began before the change ends in the same books.
        assert!(limiters.of_tenant(&"t".into()).admit(1).is_err());
    }
}
