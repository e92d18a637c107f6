//! Platforms' rows and what the rest of the configuration asks of them: the one place here that knows how a row looks.

use std::collections::HashSet;
use std::sync::Arc;

use super::field::{Field, Named};
use super::report::{Position, Problem, Problems, suggestion};
use crate::platform::auth::Credential;
use crate::platform::profile::{Platform, Row, RowError};

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
    let mut platforms = Platforms { good: built_in(problems), failed: HashSet::new() };
    for (key, field) in given.map_or(&[][..], |named| &named.0) {
        if !is_name(&key.text) {
            problems.add(key.at, "a platform's name is 1 to 64 of the characters a-z, 0-9, `-`, `_` and `.`");
            platforms.failed.insert(key.text.clone());
            continue;
        }
        // A name with nothing behind it is a row without changes.
        let (row, at) = match field {
            Field::Given(row, at) => (row.clone(), *at),
            Field::Absent => (Row::default(), key.at),
            Field::Failed(_) => {
                platforms.failed.insert(key.text.clone());
                continue;
            }
        };
        match compiled(&key.text, row) {
            Ok(platform) => match platforms.good.iter_mut().find(|other| name(other) == key.text) {
                Some(built_in) => *built_in = Arc::new(platform),
                None => platforms.good.push(Arc::new(platform)),
            },
            Err(RowError { field, why, .. }) => {
                problems.add(at, format!("the platform `{}`: `{field}` {why}", key.text));
                platforms.failed.insert(key.text.clone());
            }
        }
    }
    platforms
}

fn built_in(problems: &Problems) -> Vec<Arc<Platform>> {
    match Platform::built_in() {
        Ok(platforms) => platforms.into_iter().map(Arc::new).collect(),
        Err(error) => {
            problems.add(Position::default(), format!("a built-in row is wrong: {error}"));
            Vec::new()
        }
    }
}

/// The row that the file gives, over the built-in one of that name.
fn compiled(name: &str, row: Row) -> Result<Platform, RowError> {
    let row = Row { name: Some(name.to_owned()), ..row };
    Platform::compile(match Row::built_in(name)? {
        Some(built_in) => built_in.merge(row),
        None => row,
    })
}

/// Names stand in front of `/` in model names, in labels and in keys.
pub(super) fn is_name(name: &str) -> bool {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(is_plain)
}

/// The platform's name.
pub(super) fn name(platform: &Platform) -> &str {
    platform.name.as_str()
}

/// The platform, reached at another address.
pub(super) fn at_base_url(
    platform: &Platform,
    url: &str,
    at: Position,
    problems: &Problems,
) -> Option<Arc<Platform>> {
    match platform.with_base_url(url) {
        Ok(platform) => Some(Arc::new(platform)),
        Err(RowError { field, why, .. }) => {
            problems.add_with(at, format!("`{field}` {why}"), "write it like `https://host/v1`");
            None
        }
    }
}

/// The platform, with headers of an account's own.
pub(super) fn with_headers(
    platform: Arc<Platform>,
    headers: &Named<String>,
    problems: &Problems,
) -> Option<Arc<Platform>> {
    let mut changed = Platform::clone(&platform);
    for (key, field) in &headers.0 {
        let value = match field {
            Field::Given(value, _) => value.as_str(),
            Field::Absent => "",
            Field::Failed(_) => return None,
        };
        match changed.with_header(&key.text, value) {
            Ok(platform) => changed = platform,
            Err(RowError { field, why, .. }) => {
                problems.add(key.at, format!("`{field}` {why}"));
                return None;
            }
        }
    }
    Some(Arc::new(changed))
}

/// Whether the platform's scheme can use this kind of credential; notes where it cannot.
pub(super) fn check_credential(
    platform: &Platform,
    credential: &Credential,
    at: Position,
    problems: &Problems,
) -> bool {
    let fits = platform.scheme.takes(credential);
    if !fits {
        let found = match credential {
            Credential::ApiKey(_) => "`api_key`",
            Credential::KeyPair { .. } => "`access_key` and `secret_key`",
            Credential::App { .. } => "`app_id`, `api_key` and `api_secret`",
            Credential::None => "no key",
        };
        let what = format!("{} takes {}, and here is {found}", name(platform), platform.scheme.wants());
        problems.add(at, what);
    }
    fits
}
