//! Who somebody is to a provider. A person is `(provider, subject)` and nothing else: names and addresses change hands.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::OAuthError;
use super::row::PersonRow;

/// Longest subject; OpenID Connect allows 255 characters, and two parts may make one of ours.
const MAX_SUBJECT: usize = 512;

/// What a provider says of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Never changes and never comes again, at this provider.
    pub subject: String,
    /// Further names of the same person there, which may have been the only one before (WeChat's, per application).
    pub also: Vec<String>,
    pub name: Option<String>,
    pub email: Option<String>,
    /// The provider says that the address is this person's.
    pub email_is_verified: bool,
    pub picture: Option<String>,
}

impl Person {
    /// Reads userinfo by its provider's row. `carried` is what came with the token.
    ///
    /// # Errors
    /// There is no subject in it, or the person is not as the row demands.
    pub(super) fn read(
        row: &PersonRow,
        userinfo: &Value,
        carried: &BTreeMap<String, String>,
    ) -> Result<Self, OAuthError> {
        if let Some((member, _)) = row.must.iter().find(|(path, wanted)| at(userinfo, path) != Some(*wanted))
        {
            let said = format!("the provider's account is not as it must be: '{member}'");
            return Err(OAuthError::Refused { refusal: super::Refusal::AccessDenied, said });
        }
        let part = |path: &String| match path.strip_prefix('$') {
            Some(name) => carried.get(name).cloned(),
            None => at(userinfo, path).and_then(text),
        };
        let is_subject =
            |subject: &String| subject.len() <= MAX_SUBJECT && !subject.contains(char::is_control);
        let found = row.subject.iter().filter_map(|parts| {
            let parts: Option<Vec<String>> = parts.iter().map(part).collect();
            parts
                .filter(|parts| !parts.is_empty() && parts.iter().all(|part| !part.is_empty()))
                .map(|parts| parts.join("/"))
        });
        let mut subjects: Vec<String> = Vec::new();
        for subject in found.filter(is_subject) {
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
        if subjects.is_empty() {
            return Err(OAuthError::Nonsense("it does not say who that is".to_owned()));
        }
        let also = subjects.split_off(1);
        let subject = subjects.concat();
        let first = |paths: &[String]| {
            let found = paths
                .iter()
                .find_map(|path| at(userinfo, path).and_then(text).filter(|text| !text.is_empty()));
            found.map(|found| super::wire::printable(&found))
        };
        Ok(Self {
            subject,
            also,
            name: first(&row.name),
            email: first(&row.email),
            email_is_verified: row
                .email_verified
                .iter()
                .filter_map(|path| at(userinfo, path))
                // Some write it in quotes.
                .any(|said| *said == Value::Bool(true) || said.as_str() == Some("true")),
            picture: first(&row.picture),
        })
    }
}

fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, step| value.get(step)).filter(|value| !value.is_null())
}

/// A string or a whole number, digit by digit: 64 bits do not fit into a float.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}
