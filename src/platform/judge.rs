//! From a platform's answer to a verdict. (Tables to be written.)

use std::time::Duration;

/// What an upstream's answer means for the account and for the request (`pool.md`, the attempt loop).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ok,
    RateLimited,
    QuotaExhausted,
    TokenExpired,
    AuthInvalid,
    NotEntitled,
    Overloaded,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
}

/// What a verdict is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This account for this model.
    #[default]
    Model,
    /// This account for all models.
    Account,
    /// The platform as a whole: no account is to blame.
    Platform,
}

/// A verdict with what the platform said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub scope: Scope,
    /// When to try again, by the platform's own word (header, body or text).
    pub retry_after: Option<Duration>,
    /// The platform's message, safe to show to the caller who is at fault (secrets and hosts masked), bounded in length.
    pub message: String,
    /// The platform's own code, for the log and for OpenAI's `code` where it is one of OpenAI's.
    pub code: Option<String>,
    /// The parameter that the platform blames.
    pub param: Option<String>,
    /// The status to answer with where the request is at fault (400, 404, 413, 422).
    pub status: u16,
}
