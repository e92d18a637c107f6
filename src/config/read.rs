//! From the tree to typed structs, collecting what is wrong instead of stopping at it. Why a deserializer of our own: it
//! knows the position of every node, checks the keys of every struct against the struct's own fields (so unknown and
//! duplicate keys are found everywhere, with a suggestion, and all at once), and no message of it repeats a value that
//! may be a credential.
//!
//! A struct whose fields are [`Field`](super::field::Field)s reads on after a wrong one; other types stop at their first mistake, which is
//! then the mistake of the field that holds them.

use std::collections::HashMap;
use std::fmt;

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::field::FIELD;
use super::report::{Position, Problem, Problems, suggestion};
use super::tree::{Entry, Node, Text, Value};
use parts::{FieldReader, ListReader, MapReader, VariantReader};

mod parts;

/// Reads `node` as a `T`. `None` where it cannot be one; what was wrong is in `problems` then.
pub(super) fn read<T: DeserializeOwned>(node: &Node, problems: &Problems) -> Option<T> {
    match T::deserialize(Reader { node, problems }) {
        Ok(value) => Some(value),
        Err(wrong) => {
            wrong.note(node.at, problems);
            None
        }
    }
}

/// Why a value cannot be read, and where if the reader knew.
#[derive(Debug)]
pub(super) struct Wrong {
    at: Option<Position>,
    what: String,
    help: Option<String>,
    /// Reported already (a hole that `${…}` left): stops the reading and nothing else.
    is_known: bool,
}

impl Wrong {
    fn new(at: Position, what: String, help: Option<String>) -> Self {
        Self { at: Some(at), what, help, is_known: false }
    }

    fn or_at(mut self, at: Position) -> Self {
        self.at.get_or_insert(at);
        self
    }

    fn note(self, at: Position, problems: &Problems) {
        if !self.is_known {
            problems.push(Problem { at: self.at.unwrap_or(at), what: self.what, help: self.help });
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.what)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self { at: None, what: text.to_string(), help: None, is_known: false }
    }

    // Serde's own wording repeats the value.
    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("expected {expected}"))
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("expected {expected}"))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::custom(format_args!("expected one of {}", known.join(", ")))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        let help = suggestion(key, known.iter().copied());
        Self { at: None, what: format!("unknown key `{key}`"), help, is_known: false }
    }

    fn missing_field(key: &'static str) -> Self {
        Self::custom(format_args!("`{key}` is missing"))
    }
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    problems: &'a Problems,
}

impl<'a> Reader<'a> {
    fn wrong(self, expected: &str) -> Wrong {
        let found = match &self.node.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Unknown => return Wrong { at: None, what: String::new(), help: None, is_known: true },
        };
        Wrong::new(self.node.at, format!("expected {expected}, found {found}"), None)
    }

    /// The text of a scalar as typed, `${…}` filled in.
    fn text(self) -> Result<&'a str, Wrong> {
        match &self.node.value {
            Value::Text(text) => Ok(&text.value),
            Value::Number(typed) => Ok(typed),
            Value::Bool(true) => Ok("true"),
            Value::Bool(false) => Ok("false"),
            _ => Err(self.wrong("text")),
        }
    }

    /// The text of a number: typed as one, or filled in.
    fn number(self, expected: &str) -> Result<String, Wrong> {
        match &self.node.value {
            Value::Number(typed) => Ok(typed.replace('_', "")),
            Value::Text(Text { value, typed: Some(_) }) => Ok(value.trim().to_owned()),
            _ => Err(self.wrong(expected)),
        }
    }

    fn parsed<T: std::str::FromStr>(self, expected: &str) -> Result<T, Wrong> {
        self.number(expected)?
            .parse()
            .map_err(|_| Wrong::new(self.node.at, format!("expected {expected}"), None))
    }

    fn list(self) -> Result<&'a [Node], Wrong> {
        match &self.node.value {
            Value::List(nodes) => Ok(nodes),
            _ => Err(self.wrong("a list (`- …` lines, or `[…]`)")),
        }
    }

    /// The entries of a map; what occurs twice is reported and the first one kept, what `known` does not name is reported
    /// and left out.
    fn entries(self, known: Option<&'static [&'static str]>) -> Result<Vec<&'a Entry>, Wrong> {
        let Value::Map(entries) = &self.node.value else {
            return Err(self.wrong("a map (`key: value` lines, or `{…}`)"));
        };
        let mut seen = HashMap::<&str, Position>::new();
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = entry.key.as_str();
            if let Some(first) = seen.get(key) {
                let help = format!("it stands at line {} already", first.line);
                self.problems.add_with(entry.key_at, format!("duplicate key `{key}`"), help);
                continue;
            }
            seen.insert(key, entry.key_at);
            match known {
                // Nothing given is the same as no key: somebody commented the content out.
                Some(known) if known.contains(&key) && matches!(entry.node.value, Value::Null) => {}
                Some(known) if !known.contains(&key) => {
                    let help = suggestion(key, known.iter().copied());
                    let what = format!("unknown key `{key}`");
                    self.problems.push(Problem { at: entry.key_at, what, help });
                }
                _ => kept.push(entry),
            }
        }
        Ok(kept)
    }

    fn map<'de, V: Visitor<'de>>(
        self,
        known: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let entries = self.entries(known)?;
        let access = MapReader { entries: entries.into_iter(), value: None, problems: self.problems };
        visitor.visit_map(access).map_err(|wrong| wrong.or_at(self.node.at))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty, $expected:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            let number = self.parsed::<$type>($expected)?;
            visitor.$visit(number).map_err(|wrong: Wrong| wrong.or_at(self.node.at))
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Wrong;

    numbers! {
        deserialize_u8 visit_u8 u8, "a whole number up to 255";
        deserialize_u16 visit_u16 u16, "a whole number up to 65535";
        deserialize_u32 visit_u32 u32, "a whole number";
        deserialize_u64 visit_u64 u64, "a whole number";
        deserialize_u128 visit_u128 u128, "a whole number";
        deserialize_i8 visit_i8 i8, "a whole number";
        deserialize_i16 visit_i16 i16, "a whole number";
        deserialize_i32 visit_i32 i32, "a whole number";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_i128 visit_i128 i128, "a whole number";
        deserialize_f32 visit_f32 f32, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let value = match &self.node.value {
            Value::Bool(value) => *value,
            Value::Text(Text { value, typed: Some(_) }) if value == "true" => true,
            Value::Text(Text { value, typed: Some(_) }) if value == "false" => false,
            _ => return Err(self.wrong("`true` or `false`")),
        };
        visitor.visit_bool(value)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_str(self.text()?).map_err(|wrong: Wrong| wrong.or_at(self.node.at))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match (name, &self.node.value) {
            (FIELD, Value::Null) => visitor.visit_unit(),
            (FIELD, _) => visitor.visit_seq(FieldReader { reader: self, step: 0 }),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let nodes = self.list()?.iter();
        visitor
            .visit_seq(ListReader { nodes, problems: self.problems })
            .map_err(|wrong| wrong.or_at(self.node.at))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.map(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        #[cfg_attr(not(test), expect(unused_variables, reason = "names matter to a test only"))]
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        #[cfg(test)]
        self.problems.saw_struct(name, fields, &self.node.value);
        self.map(Some(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let (name, at, content) = match &self.node.value {
            Value::Map(entries) => match entries.as_slice() {
                [entry] => (entry.key.as_str(), entry.key_at, Some(&entry.node)),
                _ => return Err(self.wrong("a word, or a map with one key")),
            },
            _ => (self.text()?, self.node.at, None),
        };
        if !variants.contains(&name) {
            let shown = match &self.node.value {
                Value::Text(Text { typed: Some(typed), .. }) => typed.as_str(),
                _ => name,
            };
            return Err(Wrong::new(
                at,
                format!("`{shown}` is not possible here"),
                suggestion(name, variants.iter().copied()),
            ));
        }
        let content = content.map(|node| Reader { node, problems: self.problems });
        visitor.visit_enum(VariantReader { name, content }).map_err(|wrong| wrong.or_at(at))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let at = self.node.at;
        let value = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Text(text) => visitor.visit_str(&text.value),
            Value::Number(typed) => {
                let typed = typed.replace('_', "");
                if let Ok(number) = typed.parse::<u64>() {
                    visitor.visit_u64(number)
                } else if let Ok(number) = typed.parse::<i64>() {
                    visitor.visit_i64(number)
                } else {
                    visitor.visit_f64(self.parsed("a number")?)
                }
            }
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
            Value::Unknown => Err(self.wrong("")),
        };
        value.map_err(|wrong| wrong.or_at(at))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.node.value {
            Value::Null => visitor.visit_unit(),
            _ => Err(self.wrong("nothing")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { char bytes byte_buf unit_struct tuple_struct identifier }
}
