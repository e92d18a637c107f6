//! What may be limited, of accounts and of callers alike. Why on the ground floor: the pool and the caller's own limits
//! count the same things and neither may import the other.

use serde::Deserialize;

/// Limits; each optional, each at least 1 where given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
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
