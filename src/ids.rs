//! Names that must not be mixed up. Why newtypes: a tenant, an account and a model are all strings, and a pool that
//! confuses two of them hands one customer's account to another.

use std::fmt;
use std::sync::Arc;

use rand::Rng;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

name!(
    /// One upstream credential in the pool.
    AccountId
);
name!(
    /// Whom a caller belongs to, and who owns accounts.
    TenantId
);
name!(
    /// A platform's row, by name (`qwen`, `openai`, …).
    PlatformName
);
name!(
    /// Who calls, within a tenant: a JWT's `sub` or a key's id.
    Subject
);

/// The id of one request, as in `x-request-id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Longest id that is taken over from a caller, in bytes.
    pub const MAX_LEN: usize = 128;

    /// A new random id: `req_` and 24 characters.
    pub fn random() -> Self {
        Self(Arc::from(random_name("req_", 24)))
    }

    /// Takes the caller's own id where it is short and harmless; a new one otherwise.
    pub fn from_caller(text: Option<&str>) -> Self {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
        match text {
            Some(text) if !text.is_empty() && text.len() <= Self::MAX_LEN && text.bytes().all(safe) => {
                Self(Arc::from(text))
            }
            _ => Self::random(),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// `prefix` and `len` random characters of `[A-Za-z0-9]`.
pub fn random_name(prefix: &str, len: usize) -> String {
    let mut name = String::with_capacity(prefix.len() + len);
    name.push_str(prefix);
    let mut random = rand::rng();
    name.extend((0..len).map(|_| char::from(random.sample(rand::distr::Alphanumeric))));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_request_id_is_kept_only_when_harmless() {
        assert_eq!(RequestId::from_caller(Some("abc-1")).as_str(), "abc-1");
        for bad in ["", "a b", "a\r\nb", "ä", &"x".repeat(129)] {
            assert!(RequestId::from_caller(Some(bad)).as_str().starts_with("req_"), "{bad:?}");
        }
    }
}
