//! Typed values that know where they stand. Why: what is wrong with a setting often shows only beside another one (a name
//! that nobody defined, a limit above a limit), long after it was read; its place must come along.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::report::Position;

/// The name by which a [`Field`] asks the reader for its place.
pub(super) const FIELD: &str = "$weir:field";
/// The name by which a [`Key`] asks the reader for its place.
pub(super) const KEY: &str = "$weir:key";

/// A setting that may be given, and where.
#[derive(Clone, Copy, Debug, Default)]
pub enum Field<T> {
    /// Not given (or given as nothing).
    #[default]
    Absent,
    /// Given, but wrong: reported already, so nobody may complain that it is missing.
    Failed(Position),
    Given(T, Position),
}

impl<T> Field<T> {
    /// The value, where one was given.
    pub fn get(&self) -> Option<&T> {
        match self {
            Field::Given(value, _) => Some(value),
            Field::Absent | Field::Failed(_) => None,
        }
    }

    /// The value with its place, where one was given.
    pub fn placed(&self) -> Option<(&T, Position)> {
        match self {
            Field::Given(value, at) => Some((value, *at)),
            Field::Absent | Field::Failed(_) => None,
        }
    }

    /// Whether nothing was given.
    pub fn is_absent(&self) -> bool {
        matches!(self, Field::Absent)
    }

    /// Where it stands; `owner`'s place where it was not given.
    pub fn at(&self, owner: Position) -> Position {
        match self {
            Field::Absent => owner,
            Field::Failed(at) | Field::Given(_, at) => *at,
        }
    }
}

impl<T: Copy> Field<T> {
    /// The value, or `default` where none was given.
    pub fn or(&self, default: T) -> T {
        self.get().copied().unwrap_or(default)
    }
}

/// A key of a map, and where it stands.
#[derive(Clone, Debug)]
pub struct Key {
    pub text: String,
    pub at: Position,
}

/// A map whose keys the operator chooses, in the order of the file.
#[derive(Clone, Debug)]
pub struct Named<T>(pub Vec<(Key, Field<T>)>);

/// Names with what they stand for: a list (each for itself) or a map.
#[derive(Clone, Debug)]
pub struct Names(pub Vec<(String, String)>);

/// One text or a list of texts.
#[derive(Clone, Debug)]
pub struct OneOrMore(pub Vec<String>);

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a setting")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Field<T>, E> {
        Ok(Field::Absent)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut parts: A) -> Result<Field<T>, A::Error> {
        let line = parts.next_element()?.unwrap_or_default();
        let column = parts.next_element()?.unwrap_or_default();
        let at = Position { line, column };
        Ok(parts.next_element()?.map_or(Field::Failed(at), |value| Field::Given(value, at)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_newtype_struct(FIELD, FieldVisitor(PhantomData))
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a name")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut parts: A) -> Result<Key, A::Error> {
        let line = parts.next_element()?.unwrap_or_default();
        let column = parts.next_element()?.unwrap_or_default();
        let text = parts.next_element()?.unwrap_or_default();
        Ok(Key { text, at: Position { line, column } })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_newtype_struct(KEY, KeyVisitor)
    }
}

struct NamedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
    type Value = Named<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a map")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Named(entries))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(NamedVisitor(PhantomData))
    }
}

struct OneOrMoreVisitor;

impl<'de> Visitor<'de> for OneOrMoreVisitor {
    type Value = OneOrMore;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("text or a list of texts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMore, E> {
        Ok(OneOrMore(vec![text.to_owned()]))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMore, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(OneOrMore(texts))
    }
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OneOrMoreVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of names, or a map from names to the account's own")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element::<String>()? {
            names.push((name.clone(), name));
        }
        Ok(Names(names))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
        let mut names = Vec::new();
        while let Some(entry) = map.next_entry()? {
            names.push(entry);
        }
        Ok(Names(names))
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NamesVisitor)
    }
}
