//! The schemas that Gemini takes. Why checked to the last keyword: OpenAI callers send any JSON Schema, and the real
//! platform answers 400 to the first keyword that it does not know.

use serde_json::Value;

use crate::fake::fault::Refusal;

/// Keywords of `parameters` and `responseSchema`.
const SUBSET: [&str; 22] = [
    "type",
    "format",
    "title",
    "description",
    "nullable",
    "enum",
    "items",
    "minItems",
    "maxItems",
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "example",
    "anyOf",
    "propertyOrdering",
    "default",
];

const TYPES: [&str; 7] = ["STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"];

fn unknown(name: &str, at: &str) -> Refusal {
    Refusal::bad(format!(
        "Invalid JSON payload received. Unknown name \"{name}\" at '{at}': Cannot find field."
    ))
}

/// Checks a schema of the old subset.
pub fn subset(schema: &Value, at: &str, depth: u8) -> Result<(), Refusal> {
    let fields = schema.as_object().ok_or_else(|| Refusal::bad(format!("{at}: schema must be an object")))?;
    if depth > 32 {
        return Err(Refusal::bad(format!("{at}: schema exceeds maximum allowed nesting depth")));
    }
    if let Some(name) = fields.keys().find(|name| !SUBSET.contains(&name.as_str())) {
        return Err(unknown(name, at));
    }
    let kind = match fields.get("type") {
        None => String::new(),
        Some(Value::String(kind)) if TYPES.contains(&kind.to_uppercase().as_str()) => kind.to_uppercase(),
        Some(other) => {
            return Err(Refusal::bad(format!(
                "Invalid value at '{at}.type' (type.googleapis.com/google.ai.generativelanguage.v1beta.Type), {other}"
            )));
        }
    };
    match (kind.as_str(), fields.get("properties").and_then(Value::as_object), fields.get("items")) {
        ("OBJECT", properties, _) if properties.is_none_or(serde_json::Map::is_empty) => {
            return Err(Refusal::bad(format!(
                "* GenerateContentRequest.{at}.properties: should be non-empty for OBJECT type"
            )));
        }
        ("ARRAY", _, None) => {
            return Err(Refusal::bad(format!("* GenerateContentRequest.{at}.items: missing field.")));
        }
        ("STRING", ..) => {
            let format = fields.get("format").and_then(Value::as_str);
            if format.is_some_and(|format| !["enum", "date-time"].contains(&format)) {
                return Err(Refusal::bad(format!(
                    "* GenerateContentRequest.{at}.format: only 'enum' and 'date-time' are supported for STRING type"
                )));
            }
        }
        _ => {}
    }
    let values = fields.get("enum").and_then(Value::as_array).into_iter().flatten();
    if values.clone().any(|value| !value.is_string()) {
        return Err(Refusal::bad(format!("Invalid value at '{at}.enum' (TYPE_STRING)")));
    }
    for (name, inner) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
        subset(inner, &format!("{at}.properties[{name}]"), depth + 1)?;
    }
    if let Some(items) = fields.get("items") {
        subset(items, &format!("{at}.items"), depth + 1)?;
    }
    for inner in fields.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        subset(inner, &format!("{at}.any_of"), depth + 1)?;
    }
    Ok(())
}

/// Checks a `…JsonSchema`: any schema, as long as it is one.
pub fn json_schema(schema: &Value, at: &str) -> Result<(), Refusal> {
    let whole = schema.as_object().ok_or_else(|| Refusal::bad(format!("{at}: schema must be an object")))?;
    match whole.get("type") {
        None => Ok(()),
        Some(Value::String(kind)) if kind.chars().all(|symbol| symbol.is_ascii_lowercase()) => Ok(()),
        Some(Value::Array(_)) => Ok(()),
        Some(other) => Err(Refusal::bad(format!("{at}.type: {other} is not a JSON Schema type"))),
    }
}
