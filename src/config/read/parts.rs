//! What the reader hands out piece by piece: the entries of lists and maps, keys, variants, and the places of fields. Why
//! apart: serde wants a type for each of these, and none of them decides anything.

use serde::de::{self, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::super::field::KEY;
use super::super::report::{Problems, suggestion};
use super::super::tree::{Entry, Node};
use super::{Reader, Wrong};

pub(super) struct ListReader<'a> {
    pub(super) nodes: std::slice::Iter<'a, Node>,
    pub(super) problems: &'a Problems,
}

impl<'de> de::SeqAccess<'de> for ListReader<'_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let Some(node) = self.nodes.next() else { return Ok(None) };
        seed.deserialize(Reader { node, problems: self.problems })
            .map(Some)
            .map_err(|wrong| wrong.or_at(node.at))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.nodes.len())
    }
}

pub(super) struct MapReader<'a> {
    pub(super) entries: std::vec::IntoIter<&'a Entry>,
    pub(super) value: Option<&'a Node>,
    pub(super) problems: &'a Problems,
}

impl<'de> de::MapAccess<'de> for MapReader<'_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(&entry.node);
        seed.deserialize(KeyReader { entry }).map(Some).map_err(|wrong| wrong.or_at(entry.key_at))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let node = self.value.take().ok_or_else(|| Wrong::custom("a value was read before its key"))?;
        seed.deserialize(Reader { node, problems: self.problems }).map_err(|wrong| wrong.or_at(node.at))
    }
}

struct KeyReader<'a> {
    entry: &'a Entry,
}

impl<'de> Deserializer<'de> for KeyReader<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_str(&self.entry.key)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        if name != KEY {
            return visitor.visit_newtype_struct(self);
        }
        visitor.visit_seq(KeyParts { entry: self.entry, step: 0 })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let name = self.entry.key.as_str();
        if variants.contains(&name) {
            return visitor.visit_enum(VariantReader { name, content: None });
        }
        let help = suggestion(name, variants.iter().copied());
        Err(Wrong::new(self.entry.key_at, format!("unknown key `{name}`"), help))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

pub(super) struct VariantReader<'a> {
    pub(super) name: &'a str,
    pub(super) content: Option<Reader<'a>>,
}

impl<'de, 'a> de::EnumAccess<'de> for VariantReader<'a> {
    type Error = Wrong;
    type Variant = VariantReader<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Wrong> {
        let name: de::value::StrDeserializer<'_, Wrong> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'a> VariantReader<'a> {
    fn content(self) -> Result<Reader<'a>, Wrong> {
        self.content.ok_or_else(|| {
            Wrong::custom(format_args!("`{}` needs a value: `{{{}: …}}`", self.name, self.name))
        })
    }
}

impl<'de> de::VariantAccess<'de> for VariantReader<'_> {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        match self.content {
            None => Ok(()),
            Some(content) => <()>::deserialize(content),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Wrong> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.content()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.content()?.deserialize_struct("", fields, visitor)
    }
}

/// Hands a [`Key`](super::field::Key) its line, its column and its text.
struct KeyParts<'a> {
    entry: &'a Entry,
    step: u8,
}

impl<'de> de::SeqAccess<'de> for KeyParts<'_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let at = self.entry.key_at;
        self.step += 1;
        match self.step {
            1 => seed.deserialize(number(at.line)).map(Some),
            2 => seed.deserialize(number(at.column)).map(Some),
            _ => seed.deserialize(KeyReader { entry: self.entry }).map(Some),
        }
    }
}

fn number(number: u64) -> de::value::U64Deserializer<Wrong> {
    number.into_deserializer()
}

/// Hands a [`Field`](super::field::Field) its line, its column and, where it can be read, its value.
pub(super) struct FieldReader<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) step: u8,
}

impl<'de> de::SeqAccess<'de> for FieldReader<'_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let at = self.reader.node.at;
        self.step += 1;
        match self.step {
            1 => seed.deserialize(number(at.line)).map(Some),
            2 => seed.deserialize(number(at.column)).map(Some),
            _ => match seed.deserialize(self.reader) {
                Ok(value) => Ok(Some(value)),
                Err(wrong) => {
                    wrong.note(at, self.reader.problems);
                    Ok(None)
                }
            },
        }
    }
}
