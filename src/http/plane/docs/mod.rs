//! `/openapi.json` and `/docs`: everything that is served, from one table. Each listener describes what it serves itself.

use std::fmt::Write;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::browser::{escaped, page as html};
use super::listed::{Routes, get};
use super::{Plane, Refused};
use crate::fault::{Fault, Kind};

const TABLE: &str = include_str!("endpoints.yaml");

/// The part that the admin port serves alone; it serves the health endpoints of the part before as well.
const OPERATORS: &str = "Operators";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    title: String,
    about: String,
    needs: Needs,
    errors: Errors,
    endpoints: IndexMap<String, Endpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    does: String,
    gives: String,
    /// Another path that does the same.
    alias: Option<String>,
    needs: Option<Needs>,
    #[serde(default)]
    query: IndexMap<String, Type>,
    #[serde(default)]
    body: IndexMap<String, Type>,
    #[serde(default)]
    form: IndexMap<String, Type>,
    /// It can answer with server-sent events, too.
    #[serde(default)]
    stream: bool,
    /// The answer is a page.
    #[serde(default)]
    page: bool,
    #[serde(default = "fine")]
    status: u16,
}

const fn fine() -> u16 {
    200
}

/// The part that only a gateway with browsers serves.
const BROWSERS: &str = "Sign-in at a platform's page";

/// Who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Needs {
    Open,
    /// A token or key with the scope `chat`.
    Caller,
    /// One with the scope `accounts`.
    Accounts,
    /// An app's token.
    Token,
    /// An app's id and secret.
    App,
    /// A person's session: its cookie, or its token.
    Session,
    /// The browser that began.
    Browser,
    Operator,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Errors {
    Openai,
    Envelope,
    Oauth,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Type {
    String,
    Integer,
    Number,
    Boolean,
    Array,
    Object,
    Any,
}

/// Which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Public,
    Admin,
}

pub(super) fn routes(side: Side) -> Routes {
    match side {
        Side::Public => Routes::new()
            .route("/docs", get(|plane| async { shown(Side::Public, plane) }))
            .route("/openapi.json", get(|plane| async { told(Side::Public, plane) })),
        Side::Admin => Routes::new()
            .route("/docs", get(|plane| async { shown(Side::Admin, plane) }))
            .route("/openapi.json", get(|plane| async { told(Side::Admin, plane) })),
    }
}

fn shown(side: Side, _: State<Plane>) -> Result<Response, Refused> {
    let text = read(side)?.iter().fold(String::new(), |mut text, part| {
        part.show(&mut text);
        text
    });
    let title = format!("Weir {}", env!("CARGO_PKG_VERSION"));
    let text = format!("<p>The same for programs: <a href=\"/openapi.json\">/openapi.json</a>.</p>{text}");
    Ok(html(StatusCode::OK, &title, &text))
}

fn told(side: Side, State(plane): State<Plane>) -> Result<axum::Json<Value>, Refused> {
    let url = match side {
        Side::Public => plane.public_url(),
        Side::Admin => "/".to_owned(),
    };
    Ok(axum::Json(document(&read(side)?, &url)))
}

fn read(side: Side) -> Result<Vec<Part>, Refused> {
    let broken = |error: serde_saphyr::Error| {
        Refused(Fault::gateway(Kind::Internal, "The table of endpoints cannot be read.").source(error))
    };
    let mut parts: Vec<Part> = serde_saphyr::from_str(TABLE).map_err(broken)?;
    match side {
        Side::Public => {
            parts.retain(|part| part.title != OPERATORS);
            if !cfg!(feature = "browser") {
                parts.retain(|part| part.title != BROWSERS);
            }
        }
        Side::Admin => {
            parts.retain(|part| part.needs == Needs::Operator || part.needs == Needs::Open);
            for part in &mut parts {
                part.endpoints.shift_remove("GET /");
            }
        }
    }
    Ok(parts)
}

fn document(parts: &[Part], url: &str) -> Value {
    let mut paths = Map::new();
    for part in parts {
        for (method, path, endpoint) in part.each() {
            let methods = paths.entry(path).or_insert_with(|| json!({}));
            if let Some(methods) = methods.as_object_mut() {
                methods.insert(method.to_lowercase(), part.operation(endpoint, path));
            }
        }
    }
    let tags: Vec<Value> =
        parts.iter().map(|part| json!({"name": part.title, "description": part.about})).collect();
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Weir", "version": env!("CARGO_PKG_VERSION"), "description": "One door to every model."},
        "servers": [{"url": url}],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A JWT of a configured issuer, a token of a session or of an app, or a key of Weir's own."},
                "session": {"type": "apiKey", "in": "cookie", "name": "weir-session", "description": "`__Host-weir-session` under https:."},
                "app": {"type": "http", "scheme": "basic", "description": "An app's client_id and client_secret; public clients send `client_id` in the form."},
            },
            "schemas": {
                "OpenaiError": {"type": "object", "properties": {"error": {"type": "object", "properties": {
                    "message": {"type": "string"}, "type": {"type": "string"},
                    "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]},
                }}}},
                "EnvelopeError": {"type": "object", "properties": {
                    "code": {"type": "integer"}, "message": {"type": "string"}, "data": {"type": "null"},
                }},
                "OauthError": {"type": "object", "properties": {
                    "error": {"type": "string"}, "error_description": {"type": "string"},
                }},
            },
        },
    })
}

impl Part {
    /// Method, path and what is there; aliases as well.
    fn each(&self) -> impl Iterator<Item = (&str, &str, &Endpoint)> {
        self.endpoints.iter().flat_map(|(name, endpoint)| {
            let (method, path) = name.split_once(' ').unwrap_or(("GET", name));
            let alias = endpoint.alias.as_deref().map(|alias| (method, alias, endpoint));
            [(method, path, endpoint)].into_iter().chain(alias)
        })
    }

    fn operation(&self, endpoint: &Endpoint, path: &str) -> Value {
        let wrong = json!({"application/json": {"schema": {"$ref": self.errors.schema()}}});
        let mut operation = Map::new();
        let mut put = |name: &str, value| operation.insert(name.to_owned(), value);
        put("tags", json!([self.title]));
        put("summary", json!(endpoint.does));
        put("security", endpoint.needs.unwrap_or(self.needs).security());
        put(
            "responses",
            json!({
                endpoint.status.to_string(): endpoint.answer(),
                "default": {"description": "What is wrong.", "content": wrong},
            }),
        );
        let parameters = parameters(path, &endpoint.query);
        if !parameters.is_empty() {
            put("parameters", parameters.into());
        }
        for (kind, members) in
            [("application/json", &endpoint.body), ("application/x-www-form-urlencoded", &endpoint.form)]
        {
            if !members.is_empty() {
                put("requestBody", json!({"content": {kind: {"schema": object(members)}}}));
            }
        }
        operation.into()
    }

    fn show(&self, text: &mut String) {
        // A string takes whatever is written to it.
        let _ = write!(text, "<h2>{}</h2><p>{}</p>", escaped(&self.title), escaped(&self.about));
        for (name, endpoint) in &self.endpoints {
            let needs = endpoint.needs.unwrap_or(self.needs).words();
            let _ = write!(
                text,
                "<p><b>{}</b><br>{} Gives: {}<br><span class=\"quiet\">{needs}</span>",
                escaped(name),
                escaped(&endpoint.does),
                escaped(&endpoint.gives)
            );
            for (what, members) in
                [("Query", &endpoint.query), ("JSON", &endpoint.body), ("Form", &endpoint.form)]
            {
                if !members.is_empty() {
                    let names: Vec<String> = members.keys().map(|name| name.replace('!', "*")).collect();
                    let _ = write!(
                        text,
                        "<br><span class=\"quiet\">{what}: {}</span>",
                        escaped(&names.join(", "))
                    );
                }
            }
            if let Some(alias) = &endpoint.alias {
                let _ = write!(text, "<br><span class=\"quiet\">Also {}</span>", escaped(alias));
            }
            text.push_str("</p>");
        }
    }
}

impl Endpoint {
    fn answer(&self) -> Value {
        let mut content = Map::new();
        if self.page {
            content.insert("text/html".to_owned(), json!({}));
        } else if self.status == fine() {
            content.insert("application/json".to_owned(), json!({"schema": {}}));
        }
        if self.stream {
            content.insert("text/event-stream".to_owned(), json!({"schema": {"type": "string"}}));
        }
        json!({"description": self.gives, "content": content})
    }
}

impl Needs {
    fn security(self) -> Value {
        match self {
            Self::Open | Self::Browser => json!([]),
            Self::Caller | Self::Accounts | Self::Token | Self::Operator => json!([{"bearer": []}]),
            Self::App => json!([{"app": []}, {}]),
            Self::Session => json!([{"session": []}, {"bearer": []}]),
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Open => "For anybody.",
            Self::Caller => "Needs a token or key with the scope chat.",
            Self::Accounts => "Needs a token or key with the scope accounts.",
            Self::Token => "Needs an app's token.",
            Self::App => "Needs an app's id, and its secret unless the app is public.",
            Self::Session => "Needs a session: its cookie or its token.",
            Self::Browser => "For the browser that began.",
            Self::Operator => "Needs the scope admin, or the operator's token of this machine.",
        }
    }
}

impl Errors {
    const fn schema(self) -> &'static str {
        match self {
            Self::Openai => "#/components/schemas/OpenaiError",
            Self::Envelope => "#/components/schemas/EnvelopeError",
            Self::Oauth => "#/components/schemas/OauthError",
        }
    }
}

impl Type {
    fn schema(self) -> Value {
        let name = match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Array => return json!({"type": "array", "items": {}}),
            Self::Object => "object",
            Self::Any => return json!({}),
        };
        json!({"type": name})
    }
}

fn parameters(path: &str, query: &IndexMap<String, Type>) -> Vec<Value> {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let of_path =
        names.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let of_query =
        query.iter().map(|(name, kind)| json!({"name": name, "in": "query", "schema": kind.schema()}));
    of_path.chain(of_query).collect()
}

/// `name!` is required.
fn object(members: &IndexMap<String, Type>) -> Value {
    let properties: Map<String, Value> =
        members.iter().map(|(name, kind)| (name.trim_end_matches('!').to_owned(), kind.schema())).collect();
    let required: Vec<&str> = members.keys().filter_map(|name| name.strip_suffix('!')).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

#[cfg(test)]
mod bodies;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::Method;

    use super::super::{admin_routes, public_routes};
    use super::*;
    use crate::http::service::HOT;

    fn described(side: Side) -> Vec<(Method, String)> {
        let parts = read(side).unwrap_or_default();
        let each = parts.iter().flat_map(Part::each);
        each.map(|(method, path, _)| (method.parse().expect("a method"), path.to_owned())).collect()
    }

    fn names(all: impl IntoIterator<Item = (Method, String)>) -> BTreeSet<String> {
        all.into_iter().map(|(method, path)| format!("{method} {}", path.replace("{*", "{"))).collect()
    }

    fn served(routes: &Routes) -> BTreeSet<String> {
        names(routes.listed().iter().map(|(method, path)| (method.clone(), (*path).to_owned())))
    }

    #[test]
    fn what_is_served_is_described_and_the_other_way_round() {
        let mut public = served(&public_routes());
        public.extend(HOT.iter().map(|path| format!("POST {path}")));
        assert_eq!(public, names(described(Side::Public)));
        assert_eq!(served(&admin_routes()), names(described(Side::Admin)));
    }

    #[test]
    fn the_document_is_one_that_tools_read() {
        for side in [Side::Public, Side::Admin] {
            let Ok(parts) = read(side) else { panic!("the table cannot be read") };
            let document = document(&parts, "http://127.0.0.1");
            let paths = document["paths"].as_object().expect("paths");
            for (path, methods) in paths {
                for (method, operation) in methods.as_object().expect("methods") {
                    let wanted: BTreeSet<&str> =
                        path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
                    let named = operation["parameters"].as_array().into_iter().flatten();
                    let named = named.filter(|one| one["in"] == "path");
                    let named: BTreeSet<&str> = named.filter_map(|one| one["name"].as_str()).collect();
                    assert_eq!(wanted, named, "{method} {path}");
                    assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{path}");
                    let of =
                        operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"]
                            .as_str()
                            .expect("a reference");
                    assert!(document.pointer(of.trim_start_matches('#')).is_some(), "{of}");
                }
            }
        }
    }
}
