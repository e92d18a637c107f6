//! The file as typed, with the position of everything. Why a tree between the YAML and the typed structs: a reader that
//! goes straight from text to structs must stop at its first mistake, cannot fill in `${…}` before a value is judged,
//! and loses positions where a value is handed to a type that knows nothing of them (a platform's row).

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

use super::report::{Position, Problem};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    pub at: Position,
    pub value: Value,
}

/// A value as typed.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing, `~` or `null`: the same as if the key were not there.
    Null,
    Bool(bool),
    /// A number, as typed.
    Number(String),
    Text(Text),
    List(Vec<Node>),
    /// In the order of the file; a key may occur twice (that is reported when the map is read).
    Map(Vec<Entry>),
    /// What `${…}` stood for could not be found out: reported, and not to be complained about again.
    Unknown,
}

/// Text, after `${…}` was filled in.
#[derive(Clone)]
pub struct Text {
    pub value: String,
    /// How it was typed, where `${…}` was filled in: what a message may show.
    pub typed: Option<String>,
}

/// Not what it holds: it may hold a credential.
impl fmt::Debug for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[text]")
    }
}

/// One `key: value`.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_at: Position,
    pub node: Node,
}

/// Reads YAML.
///
/// # Errors
/// The first place where the text is not YAML.
pub fn parse(text: &str) -> Result<Node, Problem> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_merge_keys: MAX_REPLAYED,
            max_aliases: MAX_REPLAYED,
            // Ten thousand accounts may share one anchor; what that costs is bounded by `MAX_REPLAYED`.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    };
    let typed: Typed = serde_saphyr::from_str_with_options(text, options).map_err(|error| problem(&error))?;
    Ok(typed.into_node(text))
}

/// Twice as deep as any setting lies, and far from the end of a thread's stack of 2 MiB: a level of maps takes 60 KiB of it
/// in a build without optimisation.
const MAX_DEPTH: usize = 16;
/// Enough for a hundred thousand accounts.
const MAX_NODES: usize = 4_000_000;
/// Enough for ten thousand accounts that share their limits by `*alias`; a bomb is stopped in a blink.
const MAX_REPLAYED: usize = 200_000;

fn problem(error: &serde_saphyr::Error) -> Problem {
    let error = error.without_snippet();
    let at = error.location().map_or_else(Position::default, |location| position(&location));
    let text = error.to_string();
    // The library ends its sentences with the place, which the report has already.
    let what = text.split(" at line ").next().unwrap_or_default();
    Problem { at, what: format!("not valid YAML: {what}"), help: None }
}

fn position(location: &serde_saphyr::Location) -> Position {
    Position { line: location.line(), column: location.column() }
}

/// A node on its way in: numbers are still to be looked up in the source.
struct Typed(Spanned<Shape>);

enum Shape {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Typed>),
    Map(Vec<(Spanned<String>, Typed)>),
}

impl Typed {
    fn into_node(self, source: &str) -> Node {
        let Spanned { value, referenced, defined, .. } = self.0;
        let value = match value {
            Shape::Null => Value::Null,
            Shape::Bool(value) => Value::Bool(value),
            // `007` and `1_000` are numbers to YAML, but may be meant as text: keep what was typed.
            Shape::Number(read) => Value::Number(slice(source, &defined).map_or(read, str::to_owned)),
            Shape::Text(value) => Value::Text(Text { value, typed: None }),
            Shape::List(nodes) => Value::List(nodes.into_iter().map(|node| node.into_node(source)).collect()),
            Shape::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, node)| Entry {
                        key_at: position(&key.referenced),
                        key: key.value,
                        node: node.into_node(source),
                    })
                    .collect(),
            ),
        };
        Node { at: position(&referenced), value }
    }
}

fn slice<'a>(source: &'a str, location: &serde_saphyr::Location) -> Option<&'a str> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let len = usize::try_from(span.byte_len()?).ok()?;
    let text = source.get(start..start.checked_add(len)?)?.trim();
    text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')).then_some(text)
}

impl<'de> Deserialize<'de> for Typed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Spanned::<Shape>::deserialize(from).map(Typed)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a setting")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Number(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Number(value.to_string()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Shape, E> {
        Ok(Shape::Number(value.to_string()))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Shape, E> {
        Ok(Shape::Number(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Shape, E> {
        Ok(Shape::Number(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Shape, E> {
        Ok(Shape::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Shape, E> {
        Ok(Shape::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Shape::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Shape::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value with its place, one a line.
    fn shown(text: &str) -> String {
        fn walk(node: &Node, path: &str, out: &mut String) {
            let Position { line, column } = node.at;
            let value = match &node.value {
                Value::Null => "null".to_owned(),
                Value::Bool(value) => format!("bool {value}"),
                Value::Number(typed) => format!("number {typed}"),
                Value::Text(text) => format!("text {}", text.value),
                Value::List(_) => "list".to_owned(),
                Value::Map(_) => "map".to_owned(),
                Value::Unknown => "unknown".to_owned(),
            };
            out.push_str(&format!("{path}@{line}:{column} {value}\n"));
            match &node.value {
                Value::List(nodes) => nodes.iter().for_each(|node| walk(node, &format!("{path}[]"), out)),
                Value::Map(entries) => {
                    for entry in entries {
                        let Position { line, column } = entry.key_at;
                        walk(&entry.node, &format!("{path}/{}({line}:{column})", entry.key), out);
                    }
                }
                _ => {}
            }
        }
        let mut out = String::new();
        walk(&parse(text).unwrap(), "", &mut out);
        out
    }

    #[test]
    fn everything_keeps_its_place_and_numbers_their_digits() {
        let text = "a: 007\nb: [1_000, 1.50, \"5\", yes, true]\nc: {d: &x 12345678901234567890123, e: *x}\nä: 'q'\nf:\na: 2\n";
        insta::assert_snapshot!(shown(text));
    }

    #[test]
    fn merge_keys_work() {
        let text = "base: &base {a: 1, b: 2}\nuse:\n  <<: *base\n  b: 3\n";
        insta::assert_snapshot!(shown(text));
    }

    #[test]
    fn what_is_not_yaml_has_a_place() {
        for (text, line) in
            [("a: [1\nb: 2\n", 2), ("a: 1\n\tb: 2\n", 2), ("a: 'x\n", 2), ("a: *nope\n", 1), ("a: b: c\n", 1)]
        {
            let problem = parse(text).unwrap_err();
            assert!(problem.at.line >= 1 && problem.at.line <= line, "{text:?} -> {problem:?}");
        }
    }

    #[test]
    fn alias_bombs_and_towers_are_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        parse(&bomb).unwrap_err();
        let wide = |uses: usize| {
            format!("a: &a [{}]\nb: [{}]\n", vec!["x"; 1000].join(", "), vec!["*a"; uses].join(", "))
        };
        assert!(parse(&wide(150)).is_ok());
        parse(&wide(250)).unwrap_err();
        for depth in [17, 64, 5000] {
            parse(&format!("a: {}{}", "[".repeat(depth), "]".repeat(depth))).unwrap_err();
            parse(&format!("a: {}1{}", "{b: ".repeat(depth), "}".repeat(depth))).unwrap_err();
        }
        assert!(parse(&format!("a: {}1{}", "{b: ".repeat(12), "}".repeat(12))).is_ok());
    }
}
