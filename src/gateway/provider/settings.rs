//! What the operator may say about third-party apps.

use std::time::Duration;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether there are any.
    pub enabled: bool,
    /// Where browsers and apps reach this gateway, without a slash at the end: the issuer's name.
    pub public_url: Option<String>,
    /// Where a person gets more quota.
    pub topup_url: Option<String>,
    /// How long an access token lives; at most [`MAX_LIFETIME`](crate::identity::MAX_LIFETIME).
    pub access_ttl: Duration,
    /// How long a refresh token lives if it is not used.
    pub refresh_ttl: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            public_url: None,
            topup_url: None,
            access_ttl: Duration::from_secs(2 * 3600),
            refresh_ttl: Duration::from_secs(30 * 24 * 3600),
        }
    }
}
