//! Browsers, and the sites where people sign in with them.

use std::sync::Arc;
use std::time::Duration;

use super::super::field::{Field, Key};
use super::super::platforms::{Platforms, is_name};
use super::super::raw::{self, Raw};
use super::super::report::{Position, Problems};
use super::time;
use crate::browser::{Row, RowError, Settings, Site, Source};
use crate::platform::auth::{Credential, Scheme};
use crate::secret::Secret;

/// Longest that a person may take.
const LONGEST: Duration = Duration::from_secs(3600);

/// Each has some hundred MiB.
const MOST: usize = 64;

pub(super) fn settings(raw: &Raw, platforms: &Platforms, problems: &Problems) -> Settings {
    let (oauth, section, default) = (raw::OAuth::default(), raw::Browser::default(), Settings::default());
    let section = raw.oauth.get().unwrap_or(&oauth).browser.get().unwrap_or(&section);
    let time_limit = time(&section.time_limit, default.time_limit, problems);
    if time_limit > LONGEST {
        problems.add(section.time_limit.at(Position::default()), "a sign-in may take an hour at most");
    }
    if let Some((_, at)) = section.at_once.placed().filter(|(count, _)| !(1..=MOST).contains(*count)) {
        problems.add(at, format!("must be 1 to {MOST}"));
    }
    let sites = sites(section, platforms, problems);
    if !cfg!(feature = "browser") && !sites.is_empty() {
        let at = section.sites.at(Position::default());
        problems.add_with(at, "this weir was built without browsers", "build it with the feature `browser`");
    }
    Settings {
        program: section.program.get().filter(|path| !path.is_empty()).map(Into::into),
        window: section.window.or(default.window),
        sandbox: section.sandbox.or(default.sandbox),
        time_limit,
        at_once: section.at_once.or(default.at_once),
        sites,
    }
}

fn sites(section: &raw::Browser, platforms: &Platforms, problems: &Problems) -> Vec<Arc<Site>> {
    let mut found: Vec<Arc<Site>> = Vec::new();
    for (key, field) in section.sites.get().map_or(&[][..], |named| &named.0) {
        let (row, at) = match field {
            Field::Given(row, at) => (row.clone(), *at),
            Field::Absent => (Row::default(), key.at),
            Field::Failed(_) => continue,
        };
        let Some(site) = site(key, row, at, platforms, problems) else { continue };
        match found.iter().find(|other| other.platform == site.platform) {
            Some(other) => {
                let what =
                    format!("accounts of `{}` are signed in to at `{}` already", site.platform, other.name);
                problems.add(key.at, what);
            }
            None => found.push(Arc::new(site)),
        }
    }
    found
}

fn site(key: &Key, row: Row, at: Position, platforms: &Platforms, problems: &Problems) -> Option<Site> {
    if !is_name(&key.text) {
        problems.add(key.at, "a site's name is 1 to 64 of the characters a-z, 0-9, `-`, `_` and `.`");
        return None;
    }
    let site = match Site::compile(&key.text, row) {
        Ok(site) => site,
        Err(RowError { field, why }) => {
            problems.add(at, format!("the site `{}`: `{field}` {why}", key.text));
            return None;
        }
    };
    let platform = platforms.find(&site.platform, at, problems)?;
    let is_cookie = matches!(site.credential, Source::Cookies(_));
    if is_cookie != (platform.scheme == Scheme::Cookie) {
        let what = match is_cookie {
            true => format!("`{}` does not send cookies: `auth: cookie` in its row does", platform.name),
            false => {
                format!("`{}` sends cookies, and here is no `credential: {{cookies: …}}`", platform.name)
            }
        };
        problems.add(at, what);
        return None;
    }
    if !platform.scheme.takes(&Credential::ApiKey(Secret::new(""))) {
        problems
            .add(at, format!("`{}` takes {}, which no page leaves", platform.name, platform.scheme.wants()));
        return None;
    }
    Some(site)
}
