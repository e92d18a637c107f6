//! What can go wrong between us and a provider, sorted by what is to be done about it.

use std::time::Duration;

/// A provider's refusal, in the words of RFC 6749 and RFC 8628.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The code or the refresh token is no longer good (or never was): consent is needed again.
    InvalidGrant,
    /// The provider does not know this client, or not with this secret: the operator's matter.
    InvalidClient,
    /// This client may not do that: the operator's matter.
    UnauthorizedClient,
    InvalidRequest,
    InvalidScope,
    UnsupportedGrantType,
    /// The person said no.
    AccessDenied,
    /// A device code that nobody used in time.
    ExpiredToken,
    /// Device code: the person has not finished yet.
    Pending,
    /// Device code: too many questions.
    SlowDown,
    /// Any other.
    Other,
}

impl Refusal {
    /// The refusal of that name; a provider's own names are translated by its row first.
    pub fn of_name(name: &str) -> Self {
        match name {
            "invalid_grant" | "invalid_token" => Refusal::InvalidGrant,
            "invalid_client" => Refusal::InvalidClient,
            "unauthorized_client" => Refusal::UnauthorizedClient,
            "invalid_request" => Refusal::InvalidRequest,
            "invalid_scope" => Refusal::InvalidScope,
            "unsupported_grant_type" => Refusal::UnsupportedGrantType,
            "access_denied" => Refusal::AccessDenied,
            "expired_token" => Refusal::ExpiredToken,
            "authorization_pending" => Refusal::Pending,
            "slow_down" => Refusal::SlowDown,
            _ => Refusal::Other,
        }
    }
}

/// Why a flow went no further. The texts hold no secret; what a provider said is bounded and printable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OAuthError {
    /// The provider said no, and would say it again.
    #[error("the provider refused: {said}")]
    Refused { refusal: Refusal, said: String },
    /// It could not be asked, or has trouble of its own: to be tried again, not before `after` where it said so.
    #[error("the provider could not be reached: {why}")]
    Unavailable { why: String, after: Option<Duration> },
    /// It answered, and not with what was asked for.
    #[error("the provider's answer makes no sense: {0}")]
    Nonsense(String),
    /// Its row has no endpoint for that.
    #[error("the provider has no {0}")]
    NotOffered(&'static str),
}

impl OAuthError {
    /// The refusal, where it is one.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            OAuthError::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        }
    }

    /// Whether the same may go well a little later, with nothing changed.
    pub fn is_transient(&self) -> bool {
        matches!(self, OAuthError::Unavailable { .. } | OAuthError::Nonsense(_))
    }
}
