//! Schemas as the files beside this one write them, short enough to be read: `{id: string, models?: [string], limits: Limits}`.

use serde_json::{Map, Value, json};

/// Words that are types of JSON.
const TYPES: [&str; 6] = ["string", "integer", "number", "boolean", "object", "null"];

/// What stands between a type and its description.
const SAYS: &str = " -- ";

/// What any other member is.
const ANY: &str = "$any";

/// The schema that is written so.
pub(super) fn schema(written: &Value) -> Value {
    match written {
        Value::String(text) => of_text(text),
        Value::Array(items) => json!({"type": "array", "items": items.first().map_or(json!({}), schema)}),
        Value::Object(members) => of_members(members),
        // YAML's own null.
        _ => json!({"type": "null"}),
    }
}

/// A name as written, and whether it may be missing.
pub(super) fn name_of(written: &str) -> (&str, bool) {
    written.strip_suffix('?').map_or((written, false), |name| (name, true))
}

fn of_members(members: &Map<String, Value>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (written, value) in members.iter().filter(|(name, _)| *name != ANY) {
        let (name, is_optional) = name_of(written);
        if !is_optional {
            required.push(Value::from(name));
        }
        properties.insert(name.to_owned(), schema(value));
    }
    let mut made = json!({"type": "object"});
    if let Some(made) = made.as_object_mut() {
        if !properties.is_empty() {
            made.insert("properties".to_owned(), Value::Object(properties));
        }
        if !required.is_empty() {
            made.insert("required".to_owned(), Value::Array(required));
        }
        if let Some(any) = members.get(ANY) {
            made.insert("additionalProperties".to_owned(), schema(any));
        }
    }
    made
}

fn of_text(text: &str) -> Value {
    let (kind, says) = text.split_once(SAYS).unwrap_or((text, ""));
    let words: Vec<&str> = kind.trim().split('|').map(str::trim).collect();
    let is_name =
        |word: &&str| word.starts_with(char::is_uppercase) && word.len() > 1 && !TYPES.contains(word);
    let mut made = if kind.trim() == "any" {
        json!({})
    } else if words.iter().all(|word| TYPES.contains(word)) {
        match words.as_slice() {
            [one] => json!({"type": one}),
            several => json!({"type": several}),
        }
    } else if let Some(name) = words.first().filter(|word| is_name(word) && **word != "S256") {
        let place = json!({"$ref": format!("#/components/schemas/{name}")});
        if words.contains(&"null") { json!({"anyOf": [place, {"type": "null"}]}) } else { place }
    } else {
        json!({"type": "string", "enum": words})
    };
    if let (Some(made), false) = (made.as_object_mut(), says.is_empty()) {
        made.insert("description".to_owned(), Value::from(says));
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(yaml: &str) -> Value {
        schema(&serde_saphyr::from_str(yaml).unwrap())
    }

    #[test]
    fn what_is_written_is_meant() {
        assert_eq!(of("string"), json!({"type": "string"}));
        assert_eq!(
            of("integer|null -- Seconds"),
            json!({"type": ["integer", "null"], "description": "Seconds"})
        );
        assert_eq!(of("on|off"), json!({"type": "string", "enum": ["on", "off"]}));
        assert_eq!(of("any"), json!({}));
        assert_eq!(
            of("[Account]"),
            json!({"type": "array", "items": {"$ref": "#/components/schemas/Account"}})
        );
        assert_eq!(
            of("Account|null"),
            json!({"anyOf": [{"$ref": "#/components/schemas/Account"}, {"type": "null"}]})
        );
        assert_eq!(
            of("{a: string, b?: {c: boolean}, $any: number}"),
            json!({"type": "object", "required": ["a"], "additionalProperties": {"type": "number"}, "properties": {
                "a": {"type": "string"},
                "b": {"type": "object", "required": ["c"], "properties": {"c": {"type": "boolean"}}},
            }})
        );
    }
}
