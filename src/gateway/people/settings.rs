//! What the operator says of those who sign in.

use std::time::Duration;

use super::record::Link;
use crate::glob;
use crate::ids::TenantId;
use crate::keybook::Scope;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// By which providers, in the order in which they are shown; none: nobody signs in.
    pub providers: Vec<String>,
    /// Who may come in.
    pub admit: Vec<Admission>,
    /// Whose limits and accounts they live on; `None`: each is a tenant of their own.
    pub tenant: Option<TenantId>,
    /// What they may do, unless an operator has said otherwise of one of them.
    pub scopes: Vec<Scope>,
    /// Names and globs of what they may ask; `None`: every model.
    pub models: Option<Vec<String>>,
    /// How long somebody stays signed in.
    pub session_ttl: Duration,
    /// How long a token of a session lives; at most [`MAX_LIFETIME`](crate::identity::MAX_LIFETIME).
    pub token_ttl: Duration,
    /// How many may begin to sign in from one address.
    pub starts_per_minute: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            providers: Vec::new(),
            admit: Vec::new(),
            tenant: None,
            scopes: vec![Scope::Chat, Scope::Accounts],
            models: None,
            session_ttl: Duration::from_secs(14 * 24 * 3600),
            token_ttl: Duration::from_secs(3600),
            starts_per_minute: 300,
        }
    }
}

impl Settings {
    /// Whether anybody signs in at all.
    pub fn is_on(&self) -> bool {
        !self.providers.is_empty()
    }

    /// Whether one of these ways in is open at `now` to whoever has it. What a provider said of them holds for as long as a
    /// session: who left the company whose address let them in comes by none of their other ways later.
    pub(super) fn admit<'l>(&self, links: impl IntoIterator<Item = &'l Link>, now: u64) -> bool {
        let is_open = |link: &Link| self.providers.contains(&link.source);
        let fits = |link: &Link| {
            let is_fresh = now < link.used.saturating_add(self.session_ttl.as_secs());
            self.admit.iter().any(|one| (is_fresh || *one == Admission::Everybody) && one.fits(link))
        };
        links.into_iter().filter(|link| is_open(link)).any(fits)
    }
}

/// Whether a list of models fits into a token beside what else it says.
pub fn fit(models: &[String]) -> bool {
    models.iter().map(String::len).sum::<usize>() <= 4096
}

/// Whom a line of `admit` lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    Everybody,
    /// Whom a provider calls so: its name, and a name or glob of its subjects.
    Subject {
        source: String,
        subject: String,
    },
    /// Whose address a provider has verified: a name or glob, in small letters.
    Email(String),
}

impl Admission {
    /// Reads `*`, `provider:subject` or an address; the last two may hold stars. `None` where it is none of them.
    pub fn read(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everybody);
        }
        if let Some((source, subject)) = text.split_once(':') {
            let is_whole = !source.is_empty() && !subject.is_empty() && !source.contains('*');
            return is_whole
                .then(|| Self::Subject { source: source.to_owned(), subject: subject.to_owned() });
        }
        let (name, domain) = text.split_once('@')?;
        let is_address = !name.is_empty() && !domain.is_empty() && !domain.contains('@');
        is_address.then(|| Self::Email(text.to_lowercase()))
    }

    fn fits(&self, link: &Link) -> bool {
        match self {
            Self::Everybody => true,
            Self::Subject { source, subject } => {
                link.source == *source && link.sids.iter().any(|sid| glob::fits(subject, sid))
            }
            Self::Email(pattern) => link.verified_email().is_some_and(|email| {
                // With two of them it is not clear whose address that is.
                email.matches('@').count() == 1 && glob::fits(pattern, &email.to_lowercase())
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(source: &str, sid: &str, email: Option<&str>, is_verified: bool) -> Link {
        Link {
            source: source.to_owned(),
            sids: vec![sid.to_owned()],
            email: email.map(str::to_owned),
            email_is_verified: is_verified,
            ..Link::default()
        }
    }

    #[test]
    fn whoever_fits_a_line_comes_in() {
        let settings = |lines: &[&str]| Settings {
            providers: vec!["github".to_owned(), "id".to_owned()],
            admit: lines.iter().map(|line| Admission::read(line).expect("a line")).collect(),
            ..Settings::default()
        };
        let ann = || link("github", "583231", Some("Ann@Example.com"), true);
        for (lines, is_let_in) in [
            (&["*"][..], true),
            (&["github:583231"], true),
            (&["github:*"], true),
            (&["github:58323"], false),
            (&["github:583231x", "id:583231"], false),
            (&["ann@example.com"], true),
            (&["*@EXAMPLE.com"], true),
            (&["*@example.co", "*@xample.com", "*ample.com@*"], false),
            (&[], false),
        ] {
            assert_eq!(settings(lines).admit([&ann()], 0), is_let_in, "{lines:?}");
        }
        let by_mail = settings(&["*@example.com"]);
        for (email, is_verified) in [
            (Some("ann@example.com"), false),
            (None, true),
            (Some("x@evil.com@example.com"), true),
            (Some("@"), true),
        ] {
            assert!(!by_mail.admit([&link("id", "1", email, is_verified)], 0), "{email:?}");
        }
        // Through a way that is not open any more nobody comes.
        assert!(!settings(&["*"]).admit([&link("gitee", "1", None, false)], 0));
        assert!(settings(&["*"]).admit([&link("gitee", "1", None, false), &ann()], 0));
        for wrong in ["", "ann", ":", "github:", ":1", "*:1", "@example.com", "ann@", "a@b@c"] {
            assert_eq!(Admission::read(wrong), None, "{wrong}");
        }
    }
}
