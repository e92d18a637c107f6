//! What a site left in the browser: the cookies and entries that its row names. All of it is read by the browser's own means, and no script
//! runs in the page for it.

use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::line::{Line, LineError};
use crate::browser::site::{Site, Source};
use crate::secret::Secret;

/// What a sign-in comes to.
#[derive(Clone, Debug)]
pub struct Haul {
    pub credential: Secret,
    /// When the first of its cookies ends, in seconds since 1970; `None`: nobody says.
    pub expires: Option<u64>,
}

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    All(Haul),
    /// Not all of it: what is missing, for people.
    Lacks(String),
    /// The entry is there, and nothing that could be a credential is in it.
    Unusable,
}

#[derive(Clone, Deserialize)]
struct Cookie {
    name: String,
    value: String,
    domain: String,
    #[serde(default)]
    path: String,
    /// Seconds since 1970; -1: when the browser ends.
    #[serde(default)]
    expires: f64,
}

/// Looks at what a page of the site and the browser's jar hold.
pub(super) async fn look(
    line: &Line,
    context: &str,
    session: &str,
    page: &Url,
    site: &Site,
) -> Result<Found, LineError> {
    let cookies = line.ask(None, "Storage.getCookies", json!({"browserContextId": context})).await?;
    let cookies = cookies.get("cookies").cloned().unwrap_or_default();
    let cookies: Vec<Cookie> = serde_json::from_value(cookies).unwrap_or_default();
    let is_stored = matches!(site.credential, Source::Storage { .. }) || !site.wait_for.storage.is_empty();
    let entries = if is_stored { entries(line, session, page).await? } else { Vec::new() };
    Ok(weigh(site, &cookies, &entries))
}

/// `localStorage` of a page's origin. Only the page's own: another origin's is not there.
async fn entries(line: &Line, session: &str, page: &Url) -> Result<Vec<(String, String)>, LineError> {
    let origin = page.origin().ascii_serialization();
    let storage = json!({"storageId": {"securityOrigin": origin, "isLocalStorage": true}});
    match line.ask(Some(session), "DOMStorage.getDOMStorageItems", storage).await {
        Ok(items) => {
            let entries = items.get("entries").cloned().unwrap_or_default();
            Ok(serde_json::from_value(entries).unwrap_or_default())
        }
        // The page is just going elsewhere, or stands still: what it asks is for its person to answer.
        Err(LineError::Refused(_) | LineError::Late) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// What of it the row wants.
fn weigh(site: &Site, cookies: &[Cookie], entries: &[(String, String)]) -> Found {
    let cookie = |name: &String| cookie(site, cookies, name);
    let entry =
        |key: &String| entries.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
    let (own_cookies, own_entry) = match &site.credential {
        Source::Cookies(names) => (names.as_slice(), None),
        Source::Storage { key, .. } => (&[][..], Some(key)),
    };
    let missing_cookies =
        own_cookies.iter().chain(&site.wait_for.cookies).filter(|name| cookie(name).is_none());
    let missing_entries =
        own_entry.into_iter().chain(&site.wait_for.storage).filter(|key| entry(key).is_none());
    let lacks: Vec<String> = missing_cookies
        .map(|name| format!("cookie `{name}`"))
        .chain(missing_entries.map(|key| format!("entry `{key}` in its storage")))
        .collect();
    if !lacks.is_empty() {
        return Found::Lacks(lacks.join(" and no "));
    }
    let (credential, expires) = match &site.credential {
        Source::Cookies(names) => {
            let found: Vec<&Cookie> = names.iter().filter_map(cookie).collect();
            let pairs: Vec<String> = found.iter().map(|one| format!("{}={}", one.name, one.value)).collect();
            (Some(pairs.join(";")), found.iter().filter_map(|one| end_of(one)).min())
        }
        Source::Storage { key, member } => {
            (entry(key).and_then(|value| member_of(value, member.as_deref())), None)
        }
    };
    let is_usable = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    match credential.filter(is_usable) {
        Some(credential) => Found::All(Haul { credential: Secret::new(credential), expires }),
        None => Found::Unusable,
    }
}

/// The site's cookie of that name; of several the one that is most its own.
fn cookie<'a>(site: &Site, cookies: &'a [Cookie], name: &str) -> Option<&'a Cookie> {
    let fits = |one: &&Cookie| one.name == name && !one.value.is_empty() && site.has_cookies_of(&one.domain);
    cookies.iter().filter(fits).max_by_key(|one| (one.domain.trim_start_matches('.').len(), one.path.len()))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time within reason, checked before"
)]
fn end_of(cookie: &Cookie) -> Option<u64> {
    (cookie.expires > 0.0 && cookie.expires < 1e11).then_some(cookie.expires as u64)
}

/// The entry, or a member of what it is in JSON (`.`: all of it, which is then a text).
fn member_of(value: &str, member: Option<&str>) -> Option<String> {
    let Some(path) = member else { return Some(value.to_owned()) };
    let whole: Value = serde_json::from_str(value).ok()?;
    let mut found = &whole;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        found = match found {
            Value::Array(list) => list.get(part.parse::<usize>().ok()?)?,
            other => other.get(part)?,
        };
    }
    found.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::browser::{Row, SourceRow, WaitRow};

    fn site(credential: SourceRow, wait_for: WaitRow) -> Site {
        let login_url = Some("https://chat.example.com/login".to_owned());
        Site::compile("example", Row { login_url, credential, wait_for, ..Row::default() }).expect("right")
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn jar(cookies: &[(&str, &str, &str, f64)]) -> Vec<Cookie> {
        let cookie = |(name, value, domain, expires): &(&str, &str, &str, f64)| Cookie {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            domain: (*domain).to_owned(),
            path: "/".to_owned(),
            expires: *expires,
        };
        cookies.iter().map(cookie).collect()
    }

    fn all(found: Found) -> (String, Option<u64>) {
        match found {
            Found::All(haul) => (haul.credential.expose().to_owned(), haul.expires),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cookies_are_taken_in_the_rows_order_and_from_nobody_else() {
        let site =
            site(SourceRow { cookies: names(&["b", "a"]), ..SourceRow::default() }, WaitRow::default());
        let cookies = jar(&[
            ("a", "1", ".example.com", 2e9),
            ("a", "evil", "evil.example.net", 1e9),
            ("b", "far", ".example.com", -1.0),
            ("b", "2", "chat.example.com", 1.9e9),
        ]);
        assert_eq!(all(weigh(&site, &cookies, &[])), ("b=2;a=1".to_owned(), Some(1_900_000_000)));
        let lacks = weigh(&site, &jar(&[("a", "", "chat.example.com", -1.0)]), &[]);
        assert!(matches!(lacks, Found::Lacks(what) if what == "cookie `b` and no cookie `a`"));
    }

    #[test]
    fn an_entry_may_be_json() {
        let of = |member: Option<&str>, value: &str| {
            let source = SourceRow {
                storage: Some("t".into()),
                member: member.map(str::to_owned),
                ..SourceRow::default()
            };
            weigh(&site(source, WaitRow::default()), &[], &[("t".to_owned(), value.to_owned())])
        };
        assert_eq!(all(of(None, "tok")).0, "tok");
        assert_eq!(all(of(Some("."), "\"tok\"")).0, "tok");
        assert_eq!(all(of(Some("user.tokens.1"), r#"{"user":{"tokens":["a","tok"]}}"#)).0, "tok");
        for (member, value) in [
            (None, ""),
            (None, "two words"),
            (Some("a"), "{}"),
            (Some("a"), "no json"),
            (Some("a"), r#"{"a":7}"#),
            (Some("9"), "[]"),
        ] {
            assert!(matches!(of(member, value), Found::Unusable), "{member:?} {value}");
        }
    }

    #[test]
    fn what_is_waited_for_beside_it_must_be_there_too() {
        let wait_for = WaitRow { cookies: names(&["who"]), storage: names(&["ready"]), ..WaitRow::default() };
        let site = site(SourceRow { storage: Some("t".into()), ..SourceRow::default() }, wait_for);
        let entries = vec![("t".to_owned(), "tok".to_owned())];
        let lacks = weigh(&site, &[], &entries);
        assert!(
            matches!(lacks, Found::Lacks(what) if what == "cookie `who` and no entry `ready` in its storage")
        );
        let entries = [entries, vec![("ready".to_owned(), "1".to_owned())]].concat();
        assert_eq!(all(weigh(&site, &jar(&[("who", "ann", "chat.example.com", -1.0)]), &entries)).0, "tok");
    }
}
