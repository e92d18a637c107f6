//! Short-lived tokens that an account's credential is traded for.

use http::HeaderMap;

use crate::platform::judge::Verdict;
use crate::secret::Secret;

/// How long a token is taken to live where its answer does not say, in seconds.
const DEFAULT_LIFE_SECONDS: u64 = 3600;

/// The longest life that is believed, in seconds: Baidu's 30 days.
const MAX_LIFE_SECONDS: u64 = 2_592_000;

/// A short-lived token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub secret: Secret,
    /// When it ends, in milliseconds since 1970 on the wall clock.
    pub expires_at_millis: u64,
}

/// What a token is good for, and so under which key it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenScope {
    Account,
    /// This account for one model.
    Model,
}

/// A request for a token.
#[derive(Debug)]
pub struct TokenRequest {
    pub method: http::Method,
    /// The whole URL; it may hold the credential itself.
    pub url: Secret,
    pub headers: HeaderMap,
    pub body: bytes::Bytes,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token ({verdict:?}): {reason}")]
pub struct TokenRefused {
    /// `AuthInvalid` where the credential is to blame; `RateLimited` or `Overloaded` where trying again may help.
    pub verdict: Verdict,
    /// For the operator's log: the platform's own words, masked.
    pub reason: String,
}

impl TokenRefused {
    /// The credential is to blame.
    pub fn invalid(reason: String) -> Self {
        Self { verdict: Verdict::AuthInvalid, reason }
    }

    /// Trying again may help.
    pub fn transient(reason: String) -> Self {
        Self { verdict: Verdict::Overloaded, reason }
    }

    /// What a status alone says, where the body says nothing.
    pub fn by_status(status: u16) -> Self {
        let reason = format!("status {status} without an answer that can be read");
        match status {
            400 | 401 | 403 => Self::invalid(reason),
            429 => Self { verdict: Verdict::RateLimited, reason },
            _ => Self::transient(reason),
        }
    }
}

/// The end of a token that lives `seconds` from now: a number or a numeral, as platforms write both. Lives that make no
/// sense are bounded, so that no answer leads to a token that is always dead or never.
pub fn end_of_life(seconds: Option<&serde_json::Value>, wall_millis: u64) -> u64 {
    let seconds = seconds.and_then(|value| match value {
        serde_json::Value::String(text) => text.trim().parse::<f64>().ok(),
        other => other.as_f64(),
    });
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded before the cast")]
    let seconds = match seconds {
        Some(seconds) if seconds >= 1.0 => seconds.min(MAX_LIFE_SECONDS as f64) as u64,
        _ => DEFAULT_LIFE_SECONDS,
    };
    wall_millis.saturating_add(seconds * 1000)
}
