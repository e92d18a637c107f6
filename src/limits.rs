//! What may be limited, of accounts and of callers alike. Why on the ground floor: the pool and the caller's own limits
//! count the same things and neither may import the other.

use serde::{Deserialize, Serialize};

/// Limits; each optional, each at least 1 where given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests per minute.
    pub rpm: Option<u64>,
    /// Tokens (prompt and completion) per minute.
    pub tpm: Option<u64>,
    /// Requests under way at once.
    pub concurrency: Option<u64>,
    /// Requests per calendar day.
    pub daily_requests: Option<u64>,
    /// Tokens per calendar day.
    pub daily_tokens: Option<u64>,
    /// Tokens per calendar month.
    pub monthly_budget: Option<u64>,
    /// Requests that may come at once under `rpm`; default: a tenth of `rpm`, at least 1.
    pub burst: Option<u64>,
}

impl Limits {
    /// The name of a limit that is given as 0, which would be no limit but a closed door.
    pub fn first_zero(&self) -> Option<&'static str> {
        let all = [
            ("rpm", self.rpm),
            ("tpm", self.tpm),
            ("concurrency", self.concurrency),
            ("daily_requests", self.daily_requests),
            ("daily_tokens", self.daily_tokens),
            ("monthly_budget", self.monthly_budget),
            ("burst", self.burst),
        ];
        all.into_iter().find(|(_, limit)| *limit == Some(0)).map(|(name, _)| name)
    }
}
