//! Who signs in, and by what. Closed unless the file opens it: a provider that is there for accounts lets nobody in, and whom a
//! provider of the whole world sends is let in only where the file says so.

use super::super::field::Field;
use super::super::raw::{self, Raw};
use super::super::report::{Position, Problems};
use super::{seconds, time};
use crate::gateway::people::{Admission, Settings, fit};
use crate::identity::MAX_LIFETIME;
use crate::ids::TenantId;
use crate::keybook::Scope;
use crate::oauth;

/// Longest that somebody stays signed in.
const LONGEST: u64 = 90 * 86_400;

/// What stands at `/auth/<name>` beside providers.
const TAKEN: [&str; 5] = ["logout", "token", "me", "links", "sessions"];

pub(super) fn settings(
    raw: &Raw,
    oauth: &oauth::Settings,
    public_url: Option<&str>,
    problems: &Problems,
) -> Settings {
    let (raw_default, default) = (raw::SignIn::default(), Settings::default());
    let section = raw.sign_in.get().unwrap_or(&raw_default);
    let providers: Vec<String> =
        each(&section.providers).filter_map(|(name, at)| provider(name, at, oauth, problems)).collect();
    let admit =
        each(&section.admit).filter_map(|(line, at)| admission(line, at, &providers, problems)).collect();
    let settings = Settings {
        admit,
        tenant: section.tenant.placed().and_then(|(name, at)| tenant(name, at, problems)),
        scopes: match section.scopes.get() {
            None => default.scopes,
            Some(_) => each(&section.scopes).filter_map(|(name, at)| scope(name, at, problems)).collect(),
        },
        models: section
            .models
            .get()
            .map(|_| each(&section.models).map(|(name, _)| name.to_owned()).collect()),
        session_ttl: time(&section.session_ttl, default.session_ttl, problems),
        token_ttl: time(&section.token_ttl, default.token_ttl, problems),
        starts_per_minute: section.starts_per_minute.get().copied().unwrap_or(default.starts_per_minute),
        providers,
    };
    check(section, &settings, public_url, problems);
    settings
}

/// The values of a list, with their places.
fn each(list: &Field<Vec<Field<String>>>) -> impl Iterator<Item = (&str, Position)> {
    let fields = list.get().map_or(&[][..], Vec::as_slice).iter();
    fields.filter_map(Field::placed).map(|(text, at)| (text.as_str(), at))
}

/// What the parts make together.
fn check(section: &raw::SignIn, settings: &Settings, public_url: Option<&str>, problems: &Problems) {
    let at = section.providers.at(Position::default());
    if settings.is_on() {
        match public_url {
            None => problems.add_with(
                at,
                "providers would not know where to send people back to",
                "write `oauth: {public_url: \"https://weir.example.com\"}`",
            ),
            Some(url) if url.matches('/').count() > 2 => problems.add_with(
                at,
                "people sign in at a host of its own",
                "`oauth.public_url` without a path",
            ),
            Some(_) => {}
        }
        if section.admit.get().is_none_or(Vec::is_empty) {
            problems.add_with(
                section.admit.at(at),
                "nobody would be let in",
                "write `admit: [\"*@example.com\"]`, or `admit: [\"*\"]` for everybody whom these providers know",
            );
        }
    }
    if settings.models.as_deref().is_some_and(|models| !fit(models)) {
        problems.add_with(
            section.models.at(at),
            "more names than fit into a token",
            "all together 4096 bytes: use globs",
        );
    }
    if settings.starts_per_minute == 0 {
        problems.add(section.starts_per_minute.at(at), "nobody could sign in");
    }
    if settings.session_ttl > seconds(LONGEST) {
        problems.add(section.session_ttl.at(at), "somebody stays signed in for 90 days at most");
    }
    if settings.token_ttl > MAX_LIFETIME {
        problems.add(
            section.token_ttl.at(at),
            "a session's token lives for a day at most: it is made anew while the session lasts",
        );
    }
}

fn provider(name: &str, at: Position, oauth: &oauth::Settings, problems: &Problems) -> Option<String> {
    let known = oauth.providers.iter().find(|provider| provider.name == name);
    let (what, hint) = match known {
        None => (format!("there is no provider `{name}`"), "it stands under `oauth.providers`".to_owned()),
        Some(_) if TAKEN.contains(&name) => {
            ("something else stands at that address".to_owned(), "give the provider another name".to_owned())
        }
        Some(known) if known.client.is_none() => (
            format!("this gateway is no client of `{name}`"),
            format!("write `oauth: {{providers: {{{name}: {{client_id: …, client_secret: …}}}}}}`"),
        ),
        Some(known) if !known.knows_people() || (known.authorize_url.is_none() && known.issuer.is_none()) => {
            (
                format!("nobody can sign in with `{name}`"),
                "its row has no `authorize_url`, or does not say how a person is called (`person`)"
                    .to_owned(),
            )
        }
        Some(_) => return Some(name.to_owned()),
    };
    problems.add_with(at, what, hint);
    None
}

fn admission(line: &str, at: Position, providers: &[String], problems: &Problems) -> Option<Admission> {
    let read = Admission::read(line);
    match &read {
        None => problems.add_with(
            at,
            "not somebody to let in",
            "`*`, an address such as `*@example.com`, or a provider and what it calls them, such as `github:583231`",
        ),
        Some(Admission::Subject { source, .. }) if !providers.contains(source) => {
            problems.add_with(at, format!("nobody signs in with `{source}`"), "it stands under `sign_in.providers`");
        }
        Some(_) => {}
    }
    read
}

fn tenant(name: &str, at: Position, problems: &Problems) -> Option<TenantId> {
    let is_name = (1..=256).contains(&name.len()) && !name.contains(char::is_control);
    if !is_name {
        problems.add(at, "a tenant's name is 1 to 256 bytes");
    }
    is_name.then(|| TenantId::from(name))
}

/// Not `admin`: everybody whom `admit` lets in would be an operator.
fn scope(name: &str, at: Position, problems: &Problems) -> Option<Scope> {
    match name.parse() {
        Ok(Scope::Admin) => {
            problems.add_with(
                at,
                "everybody who signs in would be an operator",
                "make single people operators: PUT /admin/people/{id}",
            );
            None
        }
        Ok(scope) => Some(scope),
        Err(_) => {
            problems.add_with(at, "not a scope", "`chat` or `accounts`");
            None
        }
    }
}
