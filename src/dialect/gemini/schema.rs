//! JSON Schema, cut down to what Gemini takes. Why an allow-list: the API answers 400 to any keyword that it does not
//! know, schemas come from generators that use all of them, and new ones appear (`behaviours.md` R19).
//!
//! Two targets: the OpenAPI subset ([`openapi`]), which has no references, no `const` and no `allOf`; and the real but
//! smaller JSON Schema of newer models ([`json`]).

use std::collections::HashSet;

use serde_json::{Map, Value, json};

/// How deep a schema may nest, references followed; below that it is cut.
const DEPTH: usize = 48;

/// How much one may unfold to, references followed (they can double at each step): each schema counts 1, and 1 more for
/// every 64 bytes that are copied with it.
const UNFOLDED: usize = 20_000;

/// Most members of a tuple that are looked at.
const TUPLE: usize = 64;

/// Fields that mean the same on both sides and hold no schema.
const PLAIN: &[&str] = &[
    "title",
    "description",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "example",
    "default",
];

/// As [`PLAIN`], for the JSON Schema target.
const JSON_PLAIN: &[&str] = &[
    "$id",
    "$anchor",
    "type",
    "format",
    "title",
    "description",
    "enum",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "required",
    "propertyOrdering",
];

/// A schema for `parameters` or `responseSchema`; `None` where it unfolds to more than anyone needs.
pub(super) fn openapi(schema: &Value) -> Option<Value> {
    let mut unfolding = Unfolding { root: schema, followed: Vec::new(), left: UNFOLDED };
    let out = unfolding.schema(schema, 0);
    (unfolding.left > 0).then_some(Value::Object(out))
}

/// Whether a function with these parameters has none: Gemini refuses an object without properties.
pub(super) fn is_empty_object(schema: &Value) -> bool {
    let Some(schema) = schema.as_object() else { return true };
    let none = |name: &str| schema.get(name).and_then(Value::as_object).is_none_or(Map::is_empty);
    let composed = ["$ref", "allOf", "anyOf", "oneOf"].iter().any(|name| schema.contains_key(*name));
    none("properties") && !composed && !schema.get("additionalProperties").is_some_and(Value::is_object)
}

struct Unfolding<'a> {
    root: &'a Value,
    /// References that are being followed: one of them again is a recursion.
    followed: Vec<&'a str>,
    left: usize,
}

impl<'a> Unfolding<'a> {
    fn schema(&mut self, schema: &'a Value, depth: usize) -> Map<String, Value> {
        let mut out = self.part(schema, depth);
        complete(&mut out);
        out
    }

    /// A schema that may still lack what Gemini demands, because it is to be merged into another.
    fn part(&mut self, schema: &'a Value, depth: usize) -> Map<String, Value> {
        let Value::Object(schema) = schema else { return any() };
        if depth >= DEPTH || self.left == 0 {
            return open_object(None);
        }
        self.left -= 1;
        if let Some(Value::String(reference)) = schema.get("$ref") {
            return self.reference(reference, schema, depth);
        }
        let mut out = self.node(schema, depth);
        for part in list(schema, "allOf") {
            if self.left == 0 {
                break;
            }
            let part = self.part(part, depth + 1);
            merge(&mut out, part);
        }
        self.either(schema, &mut out, depth);
        out
    }

    /// Puts what is referred to in its place; what stands beside the reference wins.
    fn reference(
        &mut self,
        reference: &'a str,
        beside: &'a Map<String, Value>,
        depth: usize,
    ) -> Map<String, Value> {
        let description = beside.get("description");
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let Some(target) = target.filter(|_| !self.followed.contains(&reference)) else {
            return open_object(description);
        };
        self.followed.push(reference);
        let mut out = self.part(target, depth + 1);
        self.followed.pop();
        for name in ["description", "title", "default"] {
            if let Some(value) = beside.get(name) {
                out.insert(name.to_owned(), value.clone());
            }
        }
        out
    }

    /// Everything of one schema but what composes it.
    fn node(&mut self, schema: &'a Map<String, Value>, depth: usize) -> Map<String, Value> {
        let mut out = Map::new();
        types(schema, &mut out);
        for name in PLAIN {
            if let Some(value) = schema.get(*name).filter(|value| !value.is_null()) {
                self.left = self.left.saturating_sub(weight(value));
                out.insert((*name).to_owned(), value.clone());
            }
        }
        for name in ["enum", "const", "required", "propertyOrdering"] {
            self.left = self.left.saturating_sub(schema.get(name).map_or(0, weight));
        }
        if schema.get("nullable") == Some(&Value::Bool(true)) {
            out.insert("nullable".to_owned(), Value::Bool(true));
        }
        choices(schema, &mut out);
        format(schema, &mut out);
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            let mut cut = Map::new();
            for (name, property) in properties {
                if self.left == 0 {
                    break;
                }
                cut.insert(name.clone(), Value::Object(self.schema(property, depth + 1)));
            }
            out.insert("properties".to_owned(), Value::Object(cut));
        }
        for name in ["required", "propertyOrdering"] {
            if let Some(names) = schema.get(name).filter(|names| names.is_array()) {
                out.insert(name.to_owned(), names.clone());
            }
        }
        if let Some(items) = self.items(schema, depth) {
            out.insert("items".to_owned(), Value::Object(items));
        }
        out
    }

    /// One schema for all items; a tuple becomes "any of these".
    fn items(&mut self, schema: &'a Map<String, Value>, depth: usize) -> Option<Map<String, Value>> {
        let tuple = match (schema.get("items"), schema.get("prefixItems")) {
            (Some(items @ Value::Object(_)), _) => return Some(self.schema(items, depth + 1)),
            (Some(Value::Array(tuple)), _) | (_, Some(Value::Array(tuple))) => tuple,
            _ => return None,
        };
        let mut kinds: Vec<Value> = Vec::new();
        for item in tuple.iter().take(TUPLE) {
            let item = Value::Object(self.schema(item, depth + 1));
            if !kinds.contains(&item) {
                kinds.push(item);
            }
        }
        match (kinds.len(), kinds.first()) {
            (0, _) => None,
            (1, Some(Value::Object(only))) => Some(only.clone()),
            _ => Some(Map::from_iter([("anyOf".to_owned(), Value::Array(kinds))])),
        }
    }

    /// `anyOf` and `oneOf` (which Gemini does not have): null becomes `nullable`, a single branch its parent.
    fn either(&mut self, schema: &'a Map<String, Value>, out: &mut Map<String, Value>, depth: usize) {
        let all: Vec<&'a Value> = list(schema, "anyOf").chain(list(schema, "oneOf")).collect();
        let is_null = |branch: &Value| branch.get("type").and_then(Value::as_str) == Some("null");
        let nullable = all.iter().any(|branch| is_null(branch));
        // An object's branches that only say which fields must be there together cannot be expressed.
        let is_object =
            out.get("properties").and_then(Value::as_object).is_some_and(|fields| !fields.is_empty());
        let mut branches: Vec<Map<String, Value>> = Vec::new();
        for branch in all.into_iter().filter(|branch| !is_object && !is_null(branch)) {
            if self.left == 0 {
                break;
            }
            branches.push(self.part(branch, depth + 1));
        }
        if branches.len() > 1 {
            for name in ["type", "format", "enum", "items"] {
                out.remove(name);
            }
            branches.iter_mut().for_each(complete);
            let branches = branches.into_iter().map(Value::Object).collect();
            out.insert("anyOf".to_owned(), Value::Array(branches));
        } else if let Some(only) = branches.pop() {
            merge(out, only);
        }
        if nullable {
            out.insert("nullable".to_owned(), Value::Bool(true));
        }
    }
}

/// What a copy of `value` costs.
fn weight(value: &Value) -> usize {
    fn bytes(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len(),
            Value::Array(list) => list.iter().map(bytes).sum::<usize>() + 8 * list.len(),
            Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + bytes(value)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        }
    }
    bytes(value) / 64
}

fn list<'a>(schema: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    schema.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// Anything at all: Gemini wants a type, and text can hold all others.
fn any() -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), json!("string"))])
}

/// An object whose fields are unknown (free-form, or a recursion that was cut). Gemini refuses one without properties.
fn open_object(description: Option<&Value>) -> Map<String, Value> {
    let mut out = Map::from_iter([("type".to_owned(), json!("object"))]);
    if let Some(description) = description {
        out.insert("description".to_owned(), description.clone());
    }
    complete(&mut out);
    out
}

/// `type`: lists of types become `nullable` and `anyOf`.
fn types(schema: &Map<String, Value>, out: &mut Map<String, Value>) {
    let names: Vec<&str> = match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let real: Vec<&str> = names.iter().copied().filter(|name| *name != "null").collect();
    if real.len() < names.len() && !real.is_empty() {
        out.insert("nullable".to_owned(), Value::Bool(true));
    }
    match real.as_slice() {
        [] if names.is_empty() => {}
        [] => {
            out.insert("type".to_owned(), json!("null"));
        }
        [one] => {
            out.insert("type".to_owned(), json!(one));
        }
        several => {
            let branches: Vec<Value> = several.iter().map(|name| Value::Object(bare_type(name))).collect();
            out.insert("anyOf".to_owned(), Value::Array(branches));
        }
    }
}

fn bare_type(name: &str) -> Map<String, Value> {
    let mut out = Map::from_iter([("type".to_owned(), json!(name))]);
    complete(&mut out);
    out
}

/// `const` and `enum`: Gemini's are strings only; other values go into the description.
fn choices(schema: &Map<String, Value>, out: &mut Map<String, Value>) {
    let values: Vec<&Value> = match (schema.get("const"), schema.get("enum")) {
        (Some(only), _) => vec![only],
        (None, Some(Value::Array(values))) => values.iter().collect(),
        _ => return,
    };
    let (nulls, values): (Vec<&Value>, Vec<&Value>) = values.into_iter().partition(|value| value.is_null());
    if !nulls.is_empty() {
        out.insert("nullable".to_owned(), Value::Bool(true));
    }
    if values.iter().all(|value| value.is_string()) {
        let mut seen = HashSet::new();
        let texts = values.iter().filter_map(|value| value.as_str());
        let texts: Vec<Value> =
            texts.filter(|text| !text.is_empty() && seen.insert(*text)).map(|text| json!(text)).collect();
        if !texts.is_empty() {
            out.insert("enum".to_owned(), Value::Array(texts));
            out.insert("type".to_owned(), json!("string"));
        }
        return;
    }
    let shown: Vec<String> = values.iter().map(|value| value.to_string()).collect();
    let note = format!("One of: {}.", shown.join(", "));
    let note = match out.get("description").and_then(Value::as_str) {
        Some(description) => format!("{description} {note}"),
        None => note,
    };
    out.insert("description".to_owned(), Value::String(note));
    if let Some(name) = values.first().map(|value| type_of(value)).filter(|_| !out.contains_key("type")) {
        out.insert("type".to_owned(), json!(name));
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::String(_) | Value::Null => "string",
    }
}

fn format(schema: &Map<String, Value>, out: &mut Map<String, Value>) {
    let Some(format) = schema.get("format").and_then(Value::as_str) else { return };
    let known: &[&str] = match out.get("type").and_then(Value::as_str).unwrap_or_default() {
        "string" | "STRING" => &["enum", "date-time"],
        "number" | "NUMBER" => &["float", "double"],
        "integer" | "INTEGER" => &["int32", "int64"],
        _ => &[],
    };
    if known.contains(&format) {
        out.insert("format".to_owned(), json!(format));
    }
}

/// Puts `more` into `out`: fields of objects come together, for the rest `out` wins.
fn merge(out: &mut Map<String, Value>, more: Map<String, Value>) {
    for (name, value) in more {
        match (out.get_mut(&name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                for (name, value) in new {
                    old.entry(name).or_insert(value);
                }
            }
            (Some(Value::Array(old)), Value::Array(new))
                if name == "required" || name == "propertyOrdering" =>
            {
                let known: HashSet<String> =
                    old.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                old.extend(
                    new.into_iter().filter(|value| value.as_str().is_some_and(|name| !known.contains(name))),
                );
            }
            (Some(_), _) => {}
            (None, value) => {
                out.insert(name, value);
            }
        }
    }
}

/// What Gemini demands of a schema and JSON Schema does not: a type, items, properties, and no unknown required names.
fn complete(out: &mut Map<String, Value>) {
    if !out.contains_key("type") && !out.contains_key("anyOf") {
        let name = match () {
            () if out.contains_key("properties") => "object",
            () if out.contains_key("items") => "array",
            () => "string",
        };
        out.insert("type".to_owned(), json!(name));
    }
    match out.get("type").and_then(Value::as_str).map(str::to_ascii_lowercase).as_deref() {
        Some("array") => {
            out.entry("items").or_insert_with(|| Value::Object(any()));
        }
        Some("object") => {
            let properties = out.entry("properties").or_insert_with(|| json!({}));
            if properties.as_object().is_none_or(Map::is_empty) {
                let field =
                    json!({"type": "string", "description": "Any fields, as JSON text.", "nullable": true});
                *properties = json!({"fields": field});
            }
        }
        _ => {}
    }
    for name in ["required", "propertyOrdering"] {
        let Some(Value::Array(mut names)) = out.remove(name) else { continue };
        let fields = out.get("properties").and_then(Value::as_object);
        names.retain(|name| {
            name.as_str().is_some_and(|name| fields.is_some_and(|all| all.contains_key(name)))
        });
        if !names.is_empty() {
            out.insert(name.to_owned(), Value::Array(names));
        }
    }
}

/// A schema for `parametersJsonSchema` or `responseJsonSchema`.
pub(super) fn json(schema: &Value) -> Value {
    keep(schema, 0)
}

fn keep(schema: &Value, depth: usize) -> Value {
    let Value::Object(schema) = schema else { return schema.clone() };
    if depth >= DEPTH {
        return json!({});
    }
    // Beside a reference nothing may stand but its own kind.
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let mut out =
            Map::from_iter([("$ref".to_owned(), json!(reference.replacen("#/definitions/", "#/$defs/", 1)))]);
        keep_named(schema, &mut out, depth);
        return Value::Object(out);
    }
    let mut out = Map::new();
    for (name, value) in schema.iter().filter(|(name, _)| JSON_PLAIN.contains(&name.as_str())) {
        out.insert(name.clone(), value.clone());
    }
    if let Some(only) = schema.get("const") {
        out.insert("enum".to_owned(), json!([only]));
    }
    keep_named(schema, &mut out, depth);
    for (name, value) in schema {
        match (name.as_str(), value) {
            ("properties", Value::Object(_)) => {
                out.insert(name.clone(), keep_each(value, depth));
            }
            ("items" | "additionalProperties", Value::Object(_) | Value::Bool(_)) => {
                out.insert(name.clone(), keep(value, depth + 1));
            }
            ("anyOf" | "oneOf" | "prefixItems", Value::Array(list)) => {
                let name = if name == "oneOf" && !schema.contains_key("anyOf") { "anyOf" } else { name };
                out.insert(name.to_owned(), list.iter().map(|one| keep(one, depth + 1)).collect());
            }
            _ => {}
        }
    }
    keep_all_of(schema, &mut out, depth);
    if schema.get("nullable") == Some(&Value::Bool(true))
        && let Some(Value::String(name)) = out.get("type").cloned()
    {
        out.insert("type".to_owned(), json!([name, "null"]));
    }
    Value::Object(out)
}

/// Named schemas, under the one name that Gemini knows.
fn keep_named(schema: &Map<String, Value>, out: &mut Map<String, Value>, depth: usize) {
    for name in ["definitions", "$defs"] {
        if let Some(Value::Object(named)) = schema.get(name).map(|named| keep_each(named, depth)) {
            let target = out.entry("$defs").or_insert_with(|| json!({}));
            if let Some(target) = target.as_object_mut() {
                target.extend(named);
            }
        }
    }
}

fn keep_each(schemas: &Value, depth: usize) -> Value {
    let Value::Object(schemas) = schemas else { return json!({}) };
    schemas.iter().map(|(name, schema)| (name.clone(), keep(schema, depth + 1))).collect()
}

/// `allOf` is not honoured: its parts are merged. A lone reference stays one.
fn keep_all_of(schema: &Map<String, Value>, out: &mut Map<String, Value>, depth: usize) {
    let parts: Vec<Value> = list(schema, "allOf").map(|part| keep(part, depth + 1)).collect();
    match parts.as_slice() {
        [Value::Object(only)] if only.contains_key("$ref") && !out.contains_key("properties") => {
            out.retain(|name, _| name.starts_with('$'));
            out.extend(only.clone());
        }
        parts => {
            for part in parts.iter().filter_map(Value::as_object).filter(|part| !part.contains_key("$ref")) {
                merge(out, part.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
