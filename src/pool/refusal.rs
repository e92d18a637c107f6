//! Why no account could be taken, and when one can. Why a type of its own: the same answer is given for one account (its
//! limits, its cooldown) and, merged, for the whole pool, and the caller must get one clear error that says why and when.

use std::time::Duration;

use crate::fault::{Fault, Kind};

/// What stands in the way. Closed: each has its answer in [`Refusal::into_fault`].
///
/// The order is the order of precedence where several accounts are refused without saying when: the later one is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// No account of this platform is configured.
    NoneConfigured,
    /// There are some, but none for this tenant.
    NotThisTenant,
    /// There are some for this tenant, but none serves this model.
    NotThisModel,
    /// Switched off by hand, or its credential is no longer accepted.
    Disabled,
    /// The authority cannot be reached, or did not answer in time.
    Unavailable,
    /// The authority is being asked; it answers within milliseconds.
    Asking,
    /// The circuit is open: it failed several times in a row.
    Broken,
    /// Its quota is used up until a reset, or it may not use this model.
    Exhausted,
    /// A limit of ours is reached, or the request is larger than the limit.
    LimitReached,
    /// The platform asked for a pause.
    Cooling,
    /// Every account that could has been tried for this request.
    AllTried,
}

/// No account, why, and when to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub why: Why,
    /// The soonest time at which one becomes eligible; `None` where waiting does not help or nobody knows.
    pub retry_after: Option<Duration>,
}

/// Quotas come back within a month; what rests for longer waits for a person.
const LONGEST_WAIT: Duration = Duration::from_secs(366 * 86_400);

/// What is said where the true wait depends on requests under way.
pub(super) const SOON: Duration = Duration::from_secs(1);

impl Refusal {
    pub(super) fn never(why: Why) -> Self {
        Self { why, retry_after: None }
    }

    pub(super) fn after(why: Why, wait: Duration) -> Self {
        Self { why, retry_after: Some(wait) }
    }

    /// Of two limits of one account, both of which stand in the way: the one that does so longer.
    pub(super) fn longer(self, other: Self) -> Self {
        match (self.retry_after, other.retry_after) {
            (None, _) => self,
            (_, None) => other,
            (Some(ours), Some(theirs)) if theirs > ours => other,
            _ => self,
        }
    }

    /// Of two accounts, either of which would do: the one that is ready sooner.
    /// Used also for several targets of one route.
    pub fn sooner(self, other: Self) -> Self {
        match (self.retry_after, other.retry_after) {
            (Some(ours), Some(theirs)) if theirs < ours => other,
            (Some(_), _) => self,
            (None, Some(_)) => other,
            (None, None) if other.why > self.why => other,
            (None, None) => self,
        }
    }

    /// The answer to the caller. It names no account.
    pub fn into_fault(self) -> Fault {
        let fault = match self.why {
            Why::NoneConfigured => Fault::gateway(Kind::NoAccount, "No account is configured for this model."),
            Why::NotThisTenant => {
                Fault::client(Kind::ModelNotAllowed, "No account that you may use serves this model.")
            }
            Why::NotThisModel => Fault::client(Kind::ModelNotFound, "No account that you may use serves this model."),
            Why::Disabled => Fault::gateway(Kind::NoAccount, "No account for this model is in service.").no_retry(),
            Why::Unavailable | Why::Asking => {
                Fault::gateway(Kind::PoolUnavailable, "Quota cannot be reserved at the moment. Try again shortly.")
            }
            Why::Broken => {
                Fault::gateway(Kind::NoAccount, "Every account for this model fails at the moment. Try again shortly.")
            }
            Why::AllTried => {
                Fault::gateway(Kind::NoAccount, "Every account for this model was tried without success.")
            }
            Why::Cooling => {
                Fault::gateway(Kind::RateLimited, "The platform asks to slow down. Try again after the given time.")
            }
            Why::Exhausted => {
                Fault::gateway(Kind::RateLimited, "The quota of every account for this model is used up for now.")
            }
            Why::LimitReached if self.retry_after.is_some() => {
                Fault::gateway(Kind::RateLimited, "Every account for this model is at its limit. Try again shortly.")
            }
            Why::LimitReached => Fault::client(
                Kind::RateLimited,
                "This request is larger than the token limit of every account for this model. Make it smaller or lower max_completion_tokens.",
            )
            .no_retry(),
        };
        match self.retry_after {
            // Until a person helps: a time would be a lie.
            Some(wait) if wait > LONGEST_WAIT => fault.no_retry(),
            Some(wait) => fault.retry_after(wait),
            None if self.why == Why::Unavailable => fault.retry_after(SOON),
            None => fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(why: Why, seconds: Option<u64>) -> (u16, Option<String>, Option<u64>, Option<bool>) {
        let fault = Refusal { why, retry_after: seconds.map(Duration::from_secs) }.into_fault();
        let wait = fault.get_retry_after().map(|wait| wait.as_secs());
        (fault.kind().row().status, fault.get_code().map(str::to_owned), wait, fault.should_retry())
    }

    #[test]
    fn every_reason_has_its_answer() {
        let code = |text: &str| Some(text.to_owned());
        let table = [
            (Why::NoneConfigured, None, (503, code("no_account_available"), None, None)),
            (Why::NotThisTenant, None, (403, code("model_not_allowed"), None, None)),
            (Why::NotThisModel, None, (404, code("model_not_found"), None, None)),
            (Why::Disabled, None, (503, code("no_account_available"), None, Some(false))),
            (Why::Unavailable, None, (503, code("pool_unavailable"), Some(1), None)),
            (Why::Broken, Some(3), (503, code("no_account_available"), Some(3), None)),
            (Why::AllTried, None, (503, code("no_account_available"), None, None)),
            (Why::Cooling, Some(30), (429, code("rate_limit_exceeded"), Some(30), None)),
            (Why::LimitReached, Some(1), (429, code("rate_limit_exceeded"), Some(1), None)),
            (Why::LimitReached, None, (429, code("rate_limit_exceeded"), None, Some(false))),
            (Why::Exhausted, Some(315_359_999), (429, code("rate_limit_exceeded"), None, Some(false))),
            (Why::Exhausted, Some(7200), (429, code("rate_limit_exceeded"), Some(7200), Some(false))),
        ];
        for (why, wait, expected) in table {
            assert_eq!(answer(why, wait), expected, "{why:?}");
        }
    }

    #[test]
    fn the_pool_is_ready_when_its_first_account_is_and_an_account_when_its_last_limit_is() {
        let short = Refusal::after(Why::Cooling, Duration::from_secs(3));
        let long = Refusal::after(Why::Exhausted, Duration::from_secs(9));
        let never = Refusal::never(Why::LimitReached);
        for (a, b) in [(short, long), (long, short)] {
            assert_eq!(a.sooner(b), short);
            assert_eq!(a.longer(b), long);
        }
        for (a, b) in [(short, never), (never, short)] {
            assert_eq!(a.sooner(b), short);
            assert_eq!(a.longer(b), never);
        }
    }
}
