//! The document as a page for people. Nothing on it comes from elsewhere and nothing on it runs: text, and a style whose hash the
//! policy names.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::text;

const STYLE: &str = include_str!("page.css");

/// How deep schemas are followed.
const DEPTH: usize = 6;

/// The methods of a path, in the order in which they are shown.
const METHODS: [&str; 5] = ["get", "post", "put", "delete", "options"];

/// The page, and the policy that it is served with.
pub(super) fn of(document: &Value) -> (String, String) {
    let mut out = String::with_capacity(128 * 1024);
    let version = document.pointer("/info/version").and_then(Value::as_str).unwrap_or_default();
    out.push_str(&format!("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Weir: API</title><style>{STYLE}</style></head><body><header><h1>Weir</h1><p>One door to every model. Version {}. \
         The same for programs: <a href=\"/openapi.json\">/openapi.json</a></p></header><nav>",
        escaped(version)
    ));
    let tags: Vec<&Value> = document.get("tags").and_then(Value::as_array).into_iter().flatten().collect();
    for tag in &tags {
        let name = text(tag, "name").unwrap_or_default();
        out.push_str(&format!("<a href=\"#{}\">{}</a>", anchor(name), escaped(name)));
    }
    out.push_str("</nav><main>");
    for tag in &tags {
        section(document, tag, &mut out);
    }
    out.push_str("</main></body></html>");
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    (out, policy)
}

fn section(document: &Value, tag: &Value, out: &mut String) {
    let (name, about) = (text(tag, "name").unwrap_or_default(), text(tag, "description").unwrap_or_default());
    out.push_str(&format!(
        "<section id=\"{}\"><h2>{}</h2><p>{}</p>",
        anchor(name),
        escaped(name),
        prose(about)
    ));
    for (path, item) in document.get("paths").and_then(Value::as_object).into_iter().flatten() {
        for method in METHODS {
            let Some(operation) = item.get(method) else { continue };
            if operation.pointer("/tags/0").and_then(Value::as_str) == Some(name) {
                shown(document, (method, path), operation, out);
            }
        }
    }
    out.push_str("</section>");
}

fn shown(document: &Value, (method, path): (&str, &str), operation: &Value, out: &mut String) {
    let (summary, more) = (text(operation, "summary").unwrap_or_default(), text(operation, "description"));
    out.push_str(&format!(
        "<details id=\"{}\"><summary><b class=\"{method}\">{}</b><code>{}</code><span>{}</span></summary>",
        escaped(text(operation, "operationId").unwrap_or_default()),
        method.to_ascii_uppercase(),
        escaped(path),
        escaped(summary)
    ));
    if let Some(more) = more {
        out.push_str(&format!("<p>{}</p>", prose(more)));
    }
    let parameters: Vec<&Value> =
        operation.get("parameters").and_then(Value::as_array).into_iter().flatten().collect();
    if !parameters.is_empty() {
        out.push_str("<h3>Parameters</h3><ul>");
        for parameter in parameters {
            let is_required = parameter.get("required") == Some(&Value::Bool(true));
            let name = text(parameter, "name").unwrap_or_default();
            let place = text(parameter, "in").unwrap_or_default();
            line(
                name,
                is_required,
                &format!("{} in the {place}", kind(&parameter["schema"])),
                text(parameter, "description"),
                out,
            );
            out.push_str("</li>");
        }
        out.push_str("</ul>");
    }
    for (kind, content) in
        operation.pointer("/requestBody/content").and_then(Value::as_object).into_iter().flatten()
    {
        out.push_str(&format!("<h3>Body <small>{}</small></h3>", escaped(kind)));
        schema(document, &content["schema"], DEPTH, out);
    }
    for (status, response) in operation.get("responses").and_then(Value::as_object).into_iter().flatten() {
        let says = text(response, "description").unwrap_or_default();
        out.push_str(&format!("<h3>{} <small>{}</small></h3>", escaped(status), escaped(says)));
        for (kind, content) in response.get("content").and_then(Value::as_object).into_iter().flatten() {
            if kind != "application/json" {
                out.push_str(&format!("<p><code>{}</code></p>", escaped(kind)));
                continue;
            }
            schema(document, &content["schema"], DEPTH, out);
        }
    }
    out.push_str("</details>");
}

/// The members of a schema as a list.
fn schema(document: &Value, given: &Value, depth: usize, out: &mut String) {
    let found = resolved(document, given);
    let members = found.get("properties").and_then(Value::as_object);
    let (Some(members), true) = (members, depth > 0) else {
        if let Some(items) = found.get("items") {
            out.push_str("<p>A list of:</p>");
            return schema(document, items, depth.saturating_sub(1), out);
        }
        out.push_str(&format!("<p>{}</p>", escaped(&kind(found))));
        return;
    };
    let required: Vec<&str> = found
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    out.push_str("<ul>");
    for (name, member) in members {
        line(name, required.contains(&name.as_str()), &kind(member), text(member, "description"), out);
        let inner = resolved(document, member.get("items").unwrap_or(member));
        if inner.get("properties").is_some() {
            schema(document, inner, depth - 1, out);
        }
        out.push_str("</li>");
    }
    out.push_str("</ul>");
}

fn line(name: &str, is_required: bool, kind: &str, says: Option<&str>, out: &mut String) {
    let mark = if is_required { "" } else { "?" };
    out.push_str(&format!("<li><code>{}{mark}</code> <i>{}</i>", escaped(name), escaped(kind)));
    if let Some(says) = says {
        out.push_str(&format!(" {}", prose(says)));
    }
}

fn resolved<'a>(document: &'a Value, given: &'a Value) -> &'a Value {
    let one = given.get("anyOf").and_then(|several| several.get(0)).unwrap_or(given);
    match text(one, "$ref").and_then(|place| document.pointer(place.strip_prefix('#')?)) {
        Some(found) => found,
        None => one,
    }
}

/// What a schema is, in a few words.
fn kind(given: &Value) -> String {
    let list = |value: &Value, between: &str| {
        let words = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        words.collect::<Vec<_>>().join(between)
    };
    if let Some(place) = text(given, "$ref") {
        return place.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(first) = given.get("anyOf").and_then(|several| several.get(0)) {
        return format!("{} or null", kind(first));
    }
    if let Some(words) = given.get("enum") {
        return list(words, " | ");
    }
    match given.get("type") {
        Some(Value::String(name)) if name == "array" => format!("list of {}", kind(&given["items"])),
        Some(Value::String(name)) => name.clone(),
        Some(several) => list(several, " or "),
        None => "anything".to_owned(),
    }
}

fn anchor(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Text, with what stands in backticks as code.
fn prose(given: &str) -> String {
    let mut out = String::new();
    for (number, piece) in given.split('`').enumerate() {
        let piece = escaped(piece);
        out.push_str(&if number % 2 == 1 { format!("<code>{piece}</code>") } else { piece });
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
