//! The OpenAPI document: the router's list, joined with the descriptions.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Served;
use super::schema::{name_of, schema};
use crate::http::plane::routes::Method;

/// The descriptions, in the order in which they are shown.
const FILES: &[(&str, &str)] = &[
    ("openai", include_str!("openai.yaml")),
    ("accounts", include_str!("accounts.yaml")),
    ("provider", include_str!("provider.yaml")),
    ("admin", include_str!("admin.yaml")),
    ("service", include_str!("service.yaml")),
];

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tag: String,
    about: String,
    needs: Needs,
    errors: Errors,
    /// Whether good answers stand in the envelope.
    #[serde(default)]
    envelope: bool,
    #[serde(default)]
    schemas: Map<String, Value>,
    routes: BTreeMap<String, Route>,
}

/// One route, as described.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Route {
    summary: String,
    more: Option<String>,
    /// Described as that one.
    same: Option<String>,
    needs: Option<Needs>,
    errors: Option<Errors>,
    query: Map<String, Value>,
    body: Option<Value>,
    optional_body: Option<Value>,
    form: Option<Value>,
    answer: Option<Value>,
    /// What kind of text a good answer is.
    text: Option<String>,
    /// The answer is a page of a list: `next` stands beside `data`.
    list: bool,
    /// Without the file's envelope.
    bare: bool,
    /// Further statuses.
    also: BTreeMap<String, String>,
}

/// What whoever asks must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Needs {
    None,
    Chat,
    Accounts,
    Admin,
    /// A token that a person granted an app.
    App,
    /// An app's own id and secret.
    Client,
    /// A person's session.
    Person,
    /// Cookies of a browser.
    Browser,
}

impl Needs {
    /// The security schemes of which one is needed, and a sentence.
    const fn told(self) -> (&'static [&'static str], &'static str) {
        match self {
            Needs::None => (&[], "Open to anybody."),
            Needs::Chat => (&["caller"], "Needs the scope `chat`."),
            Needs::Accounts => (&["caller"], "Needs the scope `accounts`."),
            Needs::Admin => (&["caller"], "Needs the scope `admin`, or the operator's token."),
            Needs::App => (&["caller"], "Needs a token that a person granted an app."),
            Needs::Client => (&["client"], "Needs the app's id and secret, in the header or in the body."),
            Needs::Person => (&["caller", "session"], "Needs a person's session."),
            Needs::Browser => (&[], "For browsers, which show a cookie of ours."),
        }
    }
}

/// How errors look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Errors {
    None,
    Openai,
    Envelope,
    Oauth,
    Apps,
}

impl Errors {
    const fn schema(self) -> Option<&'static str> {
        match self {
            Errors::None => None,
            Errors::Openai => Some("Error"),
            Errors::Envelope => Some("Wrapped"),
            Errors::Oauth => Some("OAuthError"),
            Errors::Apps => Some("AppError"),
        }
    }
}

fn files() -> Result<Vec<File>, String> {
    let read = |(name, text): &(&str, &str)| {
        serde_saphyr::from_str::<File>(text).map_err(|wrong| format!("{name}.yaml: {wrong}"))
    };
    FILES.iter().map(read).collect()
}

/// A path as OpenAPI writes it.
pub(super) fn path_of(path: &str) -> String {
    path.replace("{*", "{")
}

fn key_of(served: &Served) -> String {
    format!("{} {}", served.method.name(), path_of(served.path))
}

/// Routes without a description, and descriptions without a route.
///
/// # Errors
/// A file that cannot be read.
#[cfg(test)]
pub(super) fn compared(served: &[Served]) -> Result<(Vec<String>, Vec<String>), String> {
    let files = files()?;
    let described: Vec<&String> = files.iter().flat_map(|file| file.routes.keys()).collect();
    let keys: Vec<String> = served.iter().filter(|one| one.method != Method::Options).map(key_of).collect();
    let unknown = keys.iter().filter(|key| !described.contains(key)).cloned().collect();
    let unused = described.into_iter().filter(|key| !keys.contains(key)).cloned().collect();
    Ok((unknown, unused))
}

/// The document.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn made_of(served: &[Served]) -> Result<Value, String> {
    let files = files()?;
    let mut paths: Map<String, Value> = Map::new();
    for one in served {
        let operation = match one.method {
            Method::Options => preflight(one),
            _ => operation(one, &files),
        };
        let item = paths.entry(path_of(one.path)).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert(one.method.name().to_ascii_lowercase(), operation);
            if !one.is_public {
                item.insert(
                    "servers".to_owned(),
                    json!([{"url": "http://127.0.0.1:9090", "description": "the operators' port"}]),
                );
            }
        }
    }
    let tags: Vec<Value> =
        files.iter().map(|file| json!({"name": file.tag, "description": file.about})).collect();
    let schemas: Map<String, Value> = files
        .iter()
        .flat_map(|file| &file.schemas)
        .map(|(name, written)| (name.clone(), schema(written)))
        .collect();
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weir",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "One door to every model",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "caller": {"type": "http", "scheme": "bearer", "description": "A JWT of a configured issuer, a key (`sk-weir-…`), or a token that is made here."},
                "client": {"type": "http", "scheme": "basic", "description": "An app's id and secret."},
                "session": {"type": "apiKey", "in": "cookie", "name": "weir-session"},
            },
        },
    }))
}

/// For pages of other origins.
fn preflight(served: &Served) -> Value {
    json!({
        "tags": ["Apps"],
        "operationId": id_of(served),
        "summary": "Whether a page of another origin may ask (CORS)",
        "responses": {"204": {"description": "It may"}},
        "security": [],
    })
}

/// A name for programs that make clients of the document.
fn id_of(served: &Served) -> String {
    let words = served.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<&str> = [served.method.name()].into_iter().chain(words).collect();
    words.join("_").to_ascii_lowercase()
}

fn operation(served: &Served, files: &[File]) -> Value {
    let find = |key: &str| files.iter().find_map(|file| Some((file, file.routes.get(key)?)));
    let described = find(&key_of(served)).and_then(|(file, route)| match &route.same {
        Some(other) => find(other),
        None => Some((file, route)),
    });
    let Some((file, route)) = described else { return json!({"responses": {}}) };
    let needs = route.needs.unwrap_or(file.needs);
    let (schemes, sentence) = needs.told();
    let more = route.more.as_ref().map_or_else(|| sentence.to_owned(), |more| format!("{more} {sentence}"));
    let security: Vec<Value> = schemes.iter().map(|scheme| json!({*scheme: []})).collect();
    let mut made = json!({
        "tags": [file.tag],
        "operationId": id_of(served),
        "summary": route.summary,
        "description": more,
        "security": security,
        "parameters": parameters(served, route),
        "responses": responses(file, route),
    });
    if let (Some(made), Some(body)) = (made.as_object_mut(), body(route)) {
        made.insert("requestBody".to_owned(), body);
    }
    made
}

fn parameters(served: &Served, route: &Route) -> Vec<Value> {
    let path = path_of(served.path);
    let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let in_query = route.query.iter().map(|(written, value)| {
        let (name, is_optional) = name_of(written);
        let mut schema = schema(value);
        let says = schema.as_object_mut().and_then(|schema| schema.shift_remove("description"));
        let mut made = json!({"name": name, "in": "query", "required": !is_optional, "schema": schema});
        if let (Some(made), Some(says)) = (made.as_object_mut(), says) {
            made.insert("description".to_owned(), says);
        }
        made
    });
    in_path.chain(in_query).collect()
}

fn body(route: &Route) -> Option<Value> {
    let of = |kind: &str, written: &Value, required: bool| json!({"required": required, "content": {kind: {"schema": schema(written)}}});
    let json = |written| of("application/json", written, true);
    let optional = || Some(of("application/json", route.optional_body.as_ref()?, false));
    let form = || Some(of("application/x-www-form-urlencoded", route.form.as_ref()?, true));
    route.body.as_ref().map(json).or_else(optional).or_else(form)
}

fn responses(file: &File, route: &Route) -> Map<String, Value> {
    let mut all = Map::new();
    let good = match (&route.answer, &route.text) {
        (Some(written), _) => {
            let mut schema = schema(written);
            if file.envelope && !route.bare {
                let mut whole = json!({"type": "object", "required": ["code", "message", "data"], "properties": {
                    "code": {"type": "integer"}, "message": {"type": "string"}, "data": schema,
                }});
                if let (Some(members), true) =
                    (whole.pointer_mut("/properties").and_then(Value::as_object_mut), route.list)
                {
                    members.insert(
                        "next".to_owned(),
                        json!({"type": ["string", "null"], "description": "What the next page comes after"}),
                    );
                }
                schema = whole;
            }
            json!({"description": "Done", "content": {"application/json": {"schema": schema}}})
        }
        (None, Some(kind)) => {
            json!({"description": "Done", "content": {kind: {"schema": {"type": "string"}}}})
        }
        (None, None) => json!({"description": "Done"}),
    };
    all.insert("200".to_owned(), good);
    all.extend(route.also.iter().map(|(status, says)| (status.clone(), json!({"description": says}))));
    if let Some(name) = route.errors.unwrap_or(file.errors).schema() {
        let place = json!({"$ref": format!("#/components/schemas/{name}")});
        let of = |says: &str| json!({"description": says, "content": {"application/json": {"schema": place.clone()}}});
        all.insert("4XX".to_owned(), of("What is wrong with the request"));
        all.insert("5XX".to_owned(), of("What went wrong here, or at the platform"));
    }
    all
}
