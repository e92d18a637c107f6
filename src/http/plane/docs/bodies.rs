//! What is described of a JSON body is what its handler takes, no less and no more: the names are asked of the very type that reads it.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};
use serde_json::Value;

use super::super::{accounts, consent, login, office};
use super::*;
use crate::gateway::onboard::NewAccount;
use crate::gateway::onboard::consent::Initiate;
use crate::gateway::people::Change;
use crate::gateway::provider::NewApp;
use crate::keybook::NewKey;

/// Reads nothing, and notes what would be read.
struct Names<'a>(&'a mut BTreeSet<&'static str>);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Error::custom("no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.extend(fields);
        Err(Error::custom("only looked at"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

/// A type that reads a body: its members' names, and whether it takes a given body.
struct Taken {
    names: BTreeSet<&'static str>,
    takes: fn(Value) -> bool,
}

fn taken<T: DeserializeOwned>() -> Taken {
    let mut names = BTreeSet::new();
    assert!(T::deserialize(Names(&mut names)).is_err());
    Taken { names, takes: |body| serde_json::from_value::<T>(body).is_ok() }
}

/// Who reads which body, and what of that is not for whoever asks there (or an older name).
fn readers() -> BTreeMap<&'static str, (Taken, &'static [&'static str])> {
    let operators = &["name", "owner", "tenants", "base_url"];
    BTreeMap::from([
        ("POST /api/v1/oauth/initiate", (taken::<Initiate>(), &[][..])),
        ("POST /api/v1/oauth/callback", (taken::<consent::Pasted>(), &[])),
        ("POST /api/v1/oauth/accounts", (taken::<NewAccount>(), operators)),
        ("PUT /api/v1/oauth/accounts/{id}/toggle", (taken::<accounts::Switch>(), &[])),
        ("POST /api/oauth_apps", (taken::<NewApp>(), &[])),
        ("POST /admin/accounts", (taken::<NewAccount>(), &["name"])),
        ("POST /admin/accounts/login", (taken::<login::Login>(), &[])),
        ("POST /admin/accounts/login/callback", (taken::<consent::Pasted>(), &[])),
        ("PUT /admin/accounts/{id}/toggle", (taken::<office::Switch>(), &[])),
        ("POST /admin/accounts/{id}/test", (taken::<office::Wanted>(), &[])),
        ("POST /admin/keys", (taken::<NewKey>(), &[])),
        ("PUT /admin/people/{id}", (taken::<Change>(), &[])),
    ])
}

/// Their readers take whatever a platform may know, or are private to their module.
const OTHERS: [&str; 4] = [
    "POST /v1/chat/completions",
    "POST /v1/embeddings",
    "POST /api/v1/oauth/chat/completions",
    "POST /admin/provider/rotate-key",
];

fn sample(kind: Type) -> Value {
    match kind {
        Type::String | Type::Any => json!("x"),
        Type::Integer => json!(1),
        Type::Number => json!(0.5),
        Type::Boolean => json!(true),
        Type::Array => json!([]),
        Type::Object => json!({}),
    }
}

#[test]
fn what_is_described_of_a_body_is_what_is_taken() {
    let readers = readers();
    let mut seen = BTreeSet::new();
    let mut parts = read(Side::Public).unwrap_or_default();
    parts.extend(read(Side::Admin).unwrap_or_default());
    let all = parts.iter().flat_map(|part| &part.endpoints);
    for (name, endpoint) in all.filter(|(_, endpoint)| !endpoint.body.is_empty()) {
        let Some((taken, hidden)) = readers.get(name.as_str()) else {
            assert!(OTHERS.contains(&name.as_str()), "nobody says who reads the body of {name}");
            continue;
        };
        seen.insert(name.as_str());
        let described: BTreeSet<&str> = endpoint.body.keys().map(|key| key.trim_end_matches('!')).collect();
        let wanted: BTreeSet<&str> =
            taken.names.iter().copied().filter(|name| !hidden.contains(name)).collect();
        assert_eq!(described, wanted, "{name}");
        // What must be there, and that it is enough.
        let needed: Map<String, Value> = endpoint
            .body
            .iter()
            .filter_map(|(key, kind)| Some((key.strip_suffix('!')?.to_owned(), sample(*kind))))
            .collect();
        assert!((taken.takes)(needed.clone().into()), "{name}: {needed:?} is not enough");
        for left_out in needed.keys() {
            let mut rest = needed.clone();
            rest.remove(left_out);
            assert!(!(taken.takes)(rest.into()), "{name}: {left_out} may be left out");
        }
    }
    assert_eq!(seen, readers.keys().copied().collect(), "a body that nothing describes");
}
