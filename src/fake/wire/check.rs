//! Looking at a JSON value the strict way. Why shared by the fronts: "unknown field", "wrong type" and "out of range"
//! are asked of every field of every dialect, and only the words of the refusal differ.

use serde_json::{Map, Value};

use crate::fake::fault::Refusal;

pub type Object = Map<String, Value>;

/// Refuses fields that are not in `known`, in the words that `words` makes of the name.
pub fn only(
    fields: &Object,
    known: &[&str],
    path: &str,
    words: impl Fn(&str) -> Refusal,
) -> Result<(), Refusal> {
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) if path.is_empty() => Err(words(name)),
        Some(name) => Err(words(&format!("{path}.{name}"))),
    }
}

/// The field, unless absent or null.
pub fn get<'a>(fields: &'a Object, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

fn wrong(name: &str, wanted: &str) -> Refusal {
    Refusal::bad(format!("Invalid type for '{name}': expected {wanted}.")).at(name).code("invalid_type")
}

/// A string field.
pub fn text<'a>(fields: &'a Object, name: &str) -> Result<Option<&'a str>, Refusal> {
    get(fields, name).map(|value| value.as_str().ok_or_else(|| wrong(name, "a string"))).transpose()
}

/// A boolean field; false when absent.
pub fn flag(fields: &Object, name: &str) -> Result<Option<bool>, Refusal> {
    get(fields, name).map(|value| value.as_bool().ok_or_else(|| wrong(name, "a boolean"))).transpose()
}

/// A whole number that is not negative.
pub fn count(fields: &Object, name: &str) -> Result<Option<u64>, Refusal> {
    get(fields, name).map(|value| value.as_u64().ok_or_else(|| wrong(name, "an integer"))).transpose()
}

/// A list.
pub fn list<'a>(fields: &'a Object, name: &str) -> Result<Option<&'a Vec<Value>>, Refusal> {
    get(fields, name).map(|value| value.as_array().ok_or_else(|| wrong(name, "an array"))).transpose()
}

/// An object.
pub fn object<'a>(fields: &'a Object, name: &str) -> Result<Option<&'a Object>, Refusal> {
    get(fields, name).map(|value| as_object(value, name)).transpose()
}

/// The value as an object.
pub fn as_object<'a>(value: &'a Value, name: &str) -> Result<&'a Object, Refusal> {
    value.as_object().ok_or_else(|| wrong(name, "an object"))
}

/// Which numbers a field takes.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub min: f64,
    pub max: f64,
    /// Whether `min` itself is refused.
    pub above_min: bool,
    /// Whether `max` itself is refused.
    pub below_max: bool,
}

impl Range {
    /// `[min, max]`.
    pub const fn closed(min: f64, max: f64) -> Self {
        Self { min, max, above_min: false, below_max: false }
    }

    /// `(min, max]`.
    pub const fn above(min: f64, max: f64) -> Self {
        Self { min, max, above_min: true, below_max: false }
    }

    /// `[min, max)`.
    pub const fn below(min: f64, max: f64) -> Self {
        Self { min, max, above_min: false, below_max: true }
    }

    fn holds(&self, number: f64) -> bool {
        let low = if self.above_min { number > self.min } else { number >= self.min };
        let high = if self.below_max { number < self.max } else { number <= self.max };
        low && high
    }
}

/// A number within `range`.
pub fn number(fields: &Object, name: &str, range: Range) -> Result<Option<f64>, Refusal> {
    let Some(value) = get(fields, name) else { return Ok(None) };
    let number = value.as_f64().ok_or_else(|| wrong(name, "a number"))?;
    if range.holds(number) {
        return Ok(Some(number));
    }
    let (open, close) = (if range.above_min { '(' } else { '[' }, if range.below_max { ')' } else { ']' });
    let Range { min, max, .. } = range;
    Err(Refusal::bad(format!("Invalid '{name}': {number} is not in {open}{min}, {max}{close}."))
        .at(name)
        .code("invalid_value"))
}

/// One of a closed set of strings.
pub fn one_of<'a>(fields: &'a Object, name: &str, known: &[&str]) -> Result<Option<&'a str>, Refusal> {
    let Some(value) = text(fields, name)? else { return Ok(None) };
    if known.contains(&value) {
        return Ok(Some(value));
    }
    let all = known.join("', '");
    Err(Refusal::bad(format!("Invalid value: '{value}'. Supported values are: '{all}'."))
        .at(name)
        .code("invalid_value"))
}

/// Whether a name is letters, digits and `marks`, and 1 to 64 characters long.
pub fn good_name(name: &str, marks: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.chars().all(|symbol| symbol.is_ascii_alphanumeric() || marks.contains(symbol))
}

/// Sets a field of an object.
pub fn put(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Value::Object(fields) = object {
        fields.insert(name.to_owned(), value.into());
    }
}

/// Sets a field of an object within an object.
pub fn put_in(object: &mut Value, outer: &str, name: &str, value: impl Into<Value>) {
    if let Some(inner) = object.get_mut(outer) {
        put(inner, name, value);
    }
}

/// Text as a JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// Cuts arguments into the pieces in which a stream tells them.
pub fn shreds(text: &str) -> Vec<&str> {
    let size = (text.len() / 6).clamp(6, 4096);
    let mut rest = text;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let mut end = size.min(rest.len());
        while !rest.is_char_boundary(end) {
            end += 1;
        }
        let (head, tail) = rest.split_at(end);
        all.push(head);
        rest = tail;
    }
    all
}
