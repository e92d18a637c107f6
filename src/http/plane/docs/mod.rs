//! `/docs` and `/openapi.json`: what is served, described. The list of routes is the router's own; what each of them is stands in the
//! YAML files beside this one. A route without a description, or a description without a route, fails a test.

mod document;
mod page;
mod schema;

use std::sync::{Arc, OnceLock};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, StatusCode};
use serde_json::Value;

use super::routes::{Known, Method, Routes, get};
use crate::fault::{Fault, Kind};
use crate::http::service::HOT;

/// The document, made when somebody first asks for it.
pub(super) struct Docs {
    served: Vec<Served>,
    made: OnceLock<Result<Made, String>>,
}

struct Made {
    json: Bytes,
    page: Bytes,
    /// What the page's style is allowed by.
    policy: HeaderValue,
}

/// A route, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Served {
    method: Method,
    path: &'static str,
    is_public: bool,
    is_admin: bool,
}

/// These routes themselves.
const OWN: [Known; 2] = [(Method::Get, "/docs"), (Method::Get, "/openapi.json")];

impl Docs {
    /// Of these routes of the public listener, and those of the operators'.
    pub(super) fn new(public: &[Known], admin: &[Known]) -> Self {
        let hot = HOT.iter().map(|(path, _)| (Method::Post, *path));
        let public: Vec<Known> = hot.chain(public.iter().copied()).chain(OWN).collect();
        let admin: Vec<Known> = admin.iter().copied().chain(OWN).collect();
        let mut served: Vec<Served> = Vec::new();
        for (method, path) in public.iter().chain(&admin).copied() {
            if !served.iter().any(|known| (known.method, known.path) == (method, path)) {
                let (is_public, is_admin) =
                    (public.contains(&(method, path)), admin.contains(&(method, path)));
                served.push(Served { method, path, is_public, is_admin });
            }
        }
        Self { served, made: OnceLock::new() }
    }

    fn made(&self) -> Result<&Made, Fault> {
        let made = self.made.get_or_init(|| {
            let document = document::made_of(&self.served)?;
            let (page, policy) = page::of(&document);
            let policy = HeaderValue::try_from(policy).map_err(|error| error.to_string())?;
            Ok(Made { json: Bytes::from(document.to_string()), page: Bytes::from(page), policy })
        });
        made.as_ref().map_err(|why| {
            Fault::gateway(Kind::Internal, "The documentation cannot be shown.").source(why.clone())
        })
    }
}

/// Serves them.
pub(super) fn routes(docs: Arc<Docs>) -> Routes {
    let for_page = Arc::clone(&docs);
    Routes::new()
        .route("/docs", get(move || std::future::ready(page_of(&for_page))))
        .route("/openapi.json", get(move || std::future::ready(json_of(&docs))))
}

fn json_of(docs: &Docs) -> Response {
    answer(docs.made().map(|made| (made.json.clone(), "application/json", None)))
}

fn page_of(docs: &Docs) -> Response {
    answer(docs.made().map(|made| (made.page.clone(), "text/html; charset=utf-8", Some(made.policy.clone()))))
}

fn answer(made: Result<(Bytes, &'static str, Option<HeaderValue>), Fault>) -> Response {
    let (body, kind, policy) = match made {
        Ok(made) => made,
        Err(fault) => return super::Refused(fault).into_response(),
    };
    let mut response = (StatusCode::OK, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.extend(policy.map(|policy| (CONTENT_SECURITY_POLICY, policy)));
    response
}

/// A text of a value.
fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_and_every_description_has_a_route() {
        let docs = Docs::new(super::super::public_routes().known(), super::super::admin_routes().known());
        let (unknown, unused) = document::compared(&docs.served).expect("the files are right");
        assert!(unknown.is_empty(), "no description: {unknown:#?}");
        assert!(unused.is_empty(), "no such route: {unused:#?}");
        let document = document::made_of(&docs.served).expect("made");
        let mut names = std::collections::HashSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in
                item.as_object().expect("methods").iter().filter(|(name, _)| *name != "servers")
            {
                let (Some(summary), Some(id)) = (text(operation, "summary"), text(operation, "operationId"))
                else {
                    panic!("{method} {path}: {operation}")
                };
                assert!(!summary.is_empty() && names.insert(id.to_owned()), "{method} {path}: {id}");
                assert!(
                    operation["responses"].as_object().is_some_and(|all| !all.is_empty()),
                    "{method} {path}"
                );
            }
        }
    }

    #[test]
    fn whatever_is_referred_to_is_there() {
        let docs = Docs::new(super::super::public_routes().known(), super::super::admin_routes().known());
        let document = document::made_of(&docs.served).expect("made");
        let all = document.to_string();
        let mut count = 0;
        for (at, mark) in all.match_indices("\"$ref\":\"#") {
            let rest = &all[at + mark.len()..];
            let place = &rest[..rest.find('"').expect("an end")];
            assert!(document.pointer(place).is_some(), "{place}");
            count += 1;
        }
        assert!(count > 50, "{count}");
    }

    #[test]
    fn the_page_brings_everything_with_it() {
        let docs = Docs::new(super::super::public_routes().known(), super::super::admin_routes().known());
        let made = docs.made().expect("made");
        let page = String::from_utf8(made.page.to_vec()).expect("text");
        for outside in ["<script", "src=", "http-equiv", "@import", "url(", "<link", "<img", "onclick"] {
            assert!(!page.contains(outside), "{outside}");
        }
        for served in &docs.served {
            assert!(page.contains(&super::document::path_of(served.path)), "{}", served.path);
        }
        assert!(made.policy.to_str().expect("text").starts_with("default-src 'none'"));
    }
}
