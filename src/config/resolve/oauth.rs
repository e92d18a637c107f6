//! Providers: the built-in rows with the file's changes, and the file's own.

use std::sync::Arc;

use url::Url;

use super::super::field::Field;
use super::super::raw;
use super::super::report::{Position, Problems};
use super::{seconds, time};
use crate::oauth::{Provider, Row, RowError, Settings};
use crate::web_url::is_safe;

/// Longest that a sign-in may take.
const LONGEST: u64 = 3600;

pub(super) fn settings(raw: &raw::OAuth, problems: &Problems) -> Settings {
    let state_ttl = time(&raw.state_ttl, seconds(600), problems);
    if state_ttl > seconds(LONGEST) {
        problems.add(raw.state_ttl.at(Position::default()), "a sign-in may take an hour at most");
    }
    Settings {
        public_url: raw.public_url.placed().and_then(|(url, at)| public_url(url, at, problems)),
        state_ttl,
        return_to: raw.return_to.get().map_or_else(Vec::new, |given| {
            given
                .iter()
                .filter_map(|field| field.placed())
                .filter_map(|(url, at)| origin(url, at, problems))
                .collect()
        }),
        providers: providers(raw, problems),
    }
}

fn public_url(given: &str, at: Position, problems: &Problems) -> Option<Url> {
    let url = Url::parse(given).ok().filter(|url| {
        is_safe(url) && url.query().is_none() && url.fragment().is_none() && url.username().is_empty()
    });
    if url.is_none() {
        problems.add_with(at, "not the address of a site", "write it like `https://weir.example.com`");
    }
    url
}

fn origin(given: &str, at: Position, problems: &Problems) -> Option<String> {
    let url = Url::parse(given)
        .ok()
        .filter(|url| is_safe(url) && matches!(url.path(), "" | "/") && url.query().is_none());
    if url.is_none() {
        problems.add_with(at, "not an origin", "write it like `https://console.example.com`");
    }
    url.map(|url| url.origin().ascii_serialization())
}

fn providers(raw: &raw::OAuth, problems: &Problems) -> Vec<Arc<Provider>> {
    let mut found: Vec<Arc<Provider>> = Vec::new();
    for name in Provider::built_in() {
        match Row::built_in(name).and_then(|row| Provider::compile(name, row.unwrap_or_default())) {
            Ok(provider) => found.push(Arc::new(provider)),
            Err(wrong) => {
                problems.add(Position::default(), format!("the built-in provider `{name}` is wrong: {wrong}"))
            }
        }
    }
    for (key, field) in raw.providers.get().map_or(&[][..], |named| &named.0) {
        let (row, at) = match field {
            Field::Given(row, at) => (row.clone(), *at),
            Field::Absent => (Row::default(), key.at),
            Field::Failed(_) => continue,
        };
        if !super::super::platforms::is_name(&key.text) {
            problems.add(key.at, "a provider's name is 1 to 64 of the characters a-z, 0-9, `-`, `_` and `.`");
            continue;
        }
        let built_in = Row::built_in(&key.text).ok().flatten().unwrap_or_default();
        match Provider::compile(&key.text, built_in.merge(row)) {
            Ok(provider) => match found.iter_mut().find(|other| other.name == key.text) {
                Some(other) => *other = Arc::new(provider),
                None => found.push(Arc::new(provider)),
            },
            Err(RowError { field, why }) => {
                problems.add(at, format!("the provider `{}`: `{field}` {why}", key.text));
            }
        }
    }
    tell_apart(raw, &found, problems);
    found
}

/// Of several providers that send accounts' owners back to one address, all but one must say who they are: else one could pass on the
/// code of another as its own (RFC 9700, 4.4.2).
fn tell_apart(raw: &raw::OAuth, found: &[Arc<Provider>], problems: &Problems) {
    let named = raw.providers.get().map_or(&[][..], |named| &named.0);
    let silent = named.iter().filter(|(key, _)| {
        found.iter().any(|provider| provider.name == key.text && provider.is_silent_at_the_common_callback())
    });
    let silent: Vec<_> = silent.collect();
    let [(first, _), rest @ ..] = silent.as_slice() else { return };
    for (key, _) in rest {
        let why = format!(
            "accounts of `{}` and of `{}` would come back to the same address, and neither provider says which it is",
            first.text, key.text
        );
        let hint = format!(
            "give `{}` `own_callback: true` and register `<public_url>/api/v1/oauth/callback/{}` with it; or `says_issuer: true`, if what it sends back has `iss`",
            key.text, key.text
        );
        problems.add_with(key.at, why, hint);
    }
}
