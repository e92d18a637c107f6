//! What an app may be granted.

use serde::{Deserialize, Serialize};

/// One thing that an app may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantScope {
    /// Know who somebody is.
    Profile,
    /// See what is left of their quota.
    Balance,
    /// Ask models on it.
    Chat,
}

impl GrantScope {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Profile, Self::Balance, Self::Chat];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Balance => "balance",
            Self::Chat => "chat",
        }
    }

    /// What a person is told of it.
    pub const fn told(self) -> &'static str {
        match self {
            Self::Profile => "See who you are: your name, picture and e-mail address",
            Self::Balance => "See what is left of your quota",
            Self::Chat => "Ask models in your name, on your quota",
        }
    }
}

/// A set of them. On the wire and in records: names with spaces between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct GrantScopes(u8);

impl GrantScopes {
    /// What is granted where an app asks for nothing: to know who it is.
    pub const LEAST: Self = Self(1 << GrantScope::Profile as u8);

    /// From names with spaces between; `None` where one of them is unknown, or there is none. Names are case-sensitive, and
    /// their order says nothing.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bits = 0;
        for name in text.split(' ').filter(|name| !name.is_empty()) {
            let scope = GrantScope::ALL.into_iter().find(|scope| scope.as_str() == name)?;
            bits |= 1 << scope as u8;
        }
        (bits != 0).then_some(Self(bits))
    }

    /// Whether it is one of them.
    pub const fn has(self, scope: GrantScope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Whether all of `others` are among them.
    pub const fn cover(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// One by one.
    pub fn iter(self) -> impl Iterator<Item = GrantScope> {
        GrantScope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

impl std::fmt::Display for GrantScopes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.iter().map(GrantScope::as_str).collect();
        out.write_str(&names.join(" "))
    }
}

impl From<GrantScopes> for String {
    fn from(scopes: GrantScopes) -> Self {
        scopes.to_string()
    }
}

impl TryFrom<String> for GrantScopes {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("an unknown scope")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_and_their_order_says_nothing() {
        let both = GrantScopes::parse("chat profile").expect("two");
        assert_eq!(both.to_string(), "profile chat");
        assert_eq!(GrantScopes::parse("profile  chat chat"), Some(both));
        assert!(both.cover(GrantScopes::LEAST) && !GrantScopes::LEAST.cover(both));
        for bad in
            ["", " ", "Chat", "accounts", "admin", "profile admin", "profile,chat", "profile\tchat", "openid"]
        {
            assert_eq!(GrantScopes::parse(bad), None, "{bad:?}");
        }
    }
}
