//! `/docs` and `/openapi.json` against the router that serves them: whatever is described is there, and takes what it is said to take
//! and nothing else.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::house::{House, client, mint, question, whole};
use super::idp::{Idp, accounts, agree, providers};

/// With everything switched on that can be.
const ALL: &str = "provider: {enabled: true}\nadmin: {metrics: operators}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_described_is_served_and_what_is_served_is_described() {
    let house = House::start(ALL).await;
    let document = whole(house.client.get(house.url("/openapi.json"))).await;
    assert_eq!((document.status, document.header("content-type")), (200, "application/json"));
    let same = whole(house.client.get(house.admin_url("/openapi.json"))).await;
    assert_eq!(same.body, document.body, "one document on both ports");
    let document = document.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 55, "{}", paths.len());
    let mut operations = 0;
    for (path, item) in paths {
        let is_admin = item.get("servers").is_some();
        assert_eq!(is_admin, path.starts_with("/admin") || path == "/metrics", "{path}");
        let real = path.replace("{id}", "x").replace("{provider}", "x");
        assert!(!real.contains('{'), "{path}");
        let url = if is_admin { house.admin_url(&real) } else { house.url(&real) };
        let mut described = BTreeSet::new();
        for (method, operation) in
            item.as_object().expect("methods").iter().filter(|(name, _)| *name != "servers")
        {
            operations += 1;
            described.insert(method.to_uppercase());
            for part in path.split('/').filter_map(|part| part.strip_prefix('{')) {
                let name = part.trim_end_matches('}');
                let is_it = |parameter: &&Value| parameter["name"] == name && parameter["in"] == "path";
                assert!(
                    operation["parameters"].as_array().expect("a list").iter().any(|one| is_it(&one)),
                    "{path}"
                );
            }
            let asked = house.client.request(method.to_uppercase().parse().expect("a method"), &url);
            let answer = whole(asked).await;
            assert!(
                !matches!(answer.status, 404 | 405),
                "{method} {path}: {} {}",
                answer.status,
                answer.text()
            );
            // What is open to anybody is; what is not, is not.
            let security = &operation["security"];
            if *security == json!([{"caller": []}]) {
                assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text());
            } else if *security == json!([]) {
                assert_ne!(answer.status, 401, "{method} {path}: {}", answer.text());
            }
        }
        // The router's own word on what it takes there.
        let other = whole(house.client.request(http::Method::PATCH, &url)).await;
        assert_eq!(other.status, 405, "{path}: {}", other.text());
        let takes: BTreeSet<String> = other
            .header("allow")
            .split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| name != "HEAD" && !name.is_empty())
            .collect();
        assert_eq!(takes, described, "{path}");
    }
    assert!(operations > 70, "{operations}");
    assert_eq!(whole(house.client.get(house.url("/nothing"))).await.error(404), "not_found");
    assert_eq!(whole(house.client.get(house.url("/admin/accounts"))).await.error(404), "not_found");
}

/// What is wrong with a value by its schema, as far as our schemas go.
fn misfit(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(place) = schema["$ref"].as_str() {
        return misfit(document, document.pointer(&place[1..]).expect("it is there"), value, at);
    }
    if let Some(several) = schema["anyOf"].as_array() {
        let all: Vec<String> = several.iter().filter_map(|one| misfit(document, one, value, at)).collect();
        return (all.len() == several.len()).then(|| all.join(" / "));
    }
    if let Some(words) = schema["enum"].as_array() {
        return (!words.contains(value)).then(|| format!("{at}: {value} is none of {words:?}"));
    }
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        _ => value.is_object(),
    };
    let is_good = match &schema["type"] {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().any(|name| is(name.as_str().expect("a name"))),
        _ => true,
    };
    if !is_good {
        return Some(format!("{at}: {value} is no {}", schema["type"]));
    }
    let missing = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|name| value.get(name.as_str().expect("a name")).is_none());
    if let Some(name) = missing {
        return Some(format!("{at}: no {name} in {value}"));
    }
    if let (Some(items), Some(each)) = (schema.get("items"), value.as_array()) {
        return each.iter().find_map(|one| misfit(document, items, one, &format!("{at}[]")));
    }
    let members = schema["properties"].as_object()?;
    value.as_object()?.iter().find_map(|(name, inner)| match members.get(name) {
        Some(known) => misfit(document, known, inner, &format!("{at}.{name}")),
        None if schema.get("additionalProperties").is_some() => None,
        None => Some(format!("{at}: nothing is said of {name}")),
    })
}

/// Asks, and holds what is answered against the description.
struct Reader {
    house: House,
    token: String,
    document: Value,
}

impl Reader {
    fn fits(&self, method: &str, path: &str, status: &str, body: &Value) {
        let place = format!(
            "/paths/{}/{}/responses/{status}/content/application~1json/schema",
            path.replace('/', "~1"),
            method.to_lowercase()
        );
        let schema = self.document.pointer(&place).unwrap_or_else(|| panic!("nothing is said of {place}"));
        assert_eq!(misfit(&self.document, schema, body, path), None, "{body}");
    }

    /// `id` stands for what is in braces.
    async fn of(&self, method: &str, path: &str, id: &str, body: Option<Value>) -> Value {
        let real = path.replace("{id}", id);
        let url =
            if path.starts_with("/admin") { self.house.admin_url(&real) } else { self.house.url(&real) };
        let request =
            self.house.client.request(method.parse().expect("a method"), url).bearer_auth(&self.token);
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = whole(request).await;
        let status = match answer.status / 100 {
            2 => "200",
            4 => "4XX",
            _ => "5XX",
        };
        self.fits(method, path.split('?').next().expect("a path"), status, &answer.json());
        answer.json()
    }

    async fn at(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        self.of(method, path, "", body).await
    }
}

async fn reader() -> Reader {
    let house = House::start(&format!("{ALL}{}", providers(&["huggingface"]))).await;
    let idp = Idp::of(&house, "huggingface");
    idp.tell("settings", json!({"auto": "ann", "interval_s": 1})).await;
    let document = whole(house.client.get(house.url("/openapi.json"))).await.json();
    Reader { house, token: mint(json!({"scope": "chat accounts admin"})), document }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_callers_are_as_they_are_described() {
    let reader = reader().await;
    let (house, token) = (&reader.house, &reader.token);
    let hf = json!({"platform": "huggingface", "account_name": "hf"});
    let back = agree(house, token, hf).await.come_back(house).await;
    reader.fits("GET", "/huggingface-callback", "200", &back.json());
    let key = json!({"platform": "openai", "account_name": "k", "api_key": "sk-k", "limits": {"rpm": 10}});
    let added = reader.at("POST", "/api/v1/oauth/accounts", Some(key)).await;
    let id = added["data"]["id"].as_str().expect("an id").to_owned();
    reader.at("GET", "/api/v1/oauth/platforms", None).await;
    reader.at("GET", "/api/v1/oauth/accounts", None).await;
    let listed = accounts(house, token).await;
    assert_eq!(listed.len(), 2, "one with a consent and one without");
    for account in &listed {
        let id = account["id"].as_str().expect("an id");
        reader.of("POST", "/api/v1/oauth/accounts/{id}/refresh", id, None).await;
        reader.of("PUT", "/api/v1/oauth/accounts/{id}/toggle", id, Some(json!({"is_active": true}))).await;
    }
    for flow in ["oauth", "device_code"] {
        let ask = json!({"platform": "huggingface", "account_name": "x", "flow": flow});
        let begun = reader.at("POST", "/api/v1/oauth/initiate", Some(ask)).await;
        let state = begun["data"]["state"].as_str().expect("text").to_owned();
        reader.at("GET", &format!("/api/v1/oauth/status?state={state}"), None).await;
    }
    let mut chat = question("gpt-4o", "hi", false);
    reader.at("POST", "/v1/chat/completions", Some(chat.clone())).await;
    reader.at("POST", "/v1/chat/completions", Some(json!({}))).await;
    chat["platform"] = json!("openai");
    reader.at("POST", "/api/v1/oauth/chat/completions", Some(chat)).await;
    reader.at("GET", "/v1/models", None).await;
    reader.of("GET", "/v1/models/{id}", "gpt-4o", None).await;
    let app = json!({"name": "App", "redirect_uris": ["https://app.example/cb"]});
    let app = reader.at("POST", "/api/oauth_apps", Some(app)).await;
    let app = app["data"]["id"].as_str().expect("an id");
    reader.at("GET", "/api/oauth_apps", None).await;
    reader.of("POST", "/api/oauth_apps/{id}/secret", app, None).await;
    reader.of("DELETE", "/api/oauth_apps/{id}", app, None).await;
    reader.of("DELETE", "/api/v1/oauth/accounts/{id}", &id, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_operators_are_as_they_are_described() {
    let reader = reader().await;
    let hf = json!({"platform": "huggingface", "account_name": "hf"});
    agree(&reader.house, &reader.token, hf).await.come_back(&reader.house).await;
    let key = json!({"platform": "openai", "account_name": "k", "api_key": "sk-k"});
    let added = reader.at("POST", "/admin/accounts", Some(key)).await;
    let id = added["record"]["id"].as_str().expect("an id").to_owned();
    reader.at("GET", "/admin/accounts", None).await;
    reader.at("GET", "/admin/tenants", None).await;
    let made = reader.at("POST", "/admin/keys", Some(json!({"name": "k", "tenant": "alpha"}))).await;
    let made = made["record"]["id"].as_str().expect("an id").to_owned();
    reader.at("GET", "/admin/keys", None).await;
    reader.of("DELETE", "/admin/keys/{id}", &made, None).await;
    reader.of("POST", "/admin/accounts/{id}/test", &id, None).await;
    reader.of("PUT", "/admin/accounts/{id}/toggle", &id, None).await;
    let login = json!({"platform": "huggingface", "account_name": "x", "flow": "device_code"});
    let begun = reader.at("POST", "/admin/accounts/login", Some(login)).await;
    let state = begun["state"].as_str().expect("text");
    reader.at("GET", &format!("/admin/accounts/login/status?state={state}"), None).await;
    let nowhere = json!({"url": "http://127.0.0.1:1/x?state=y"});
    reader.at("POST", "/admin/accounts/login/callback", Some(nowhere)).await;
    reader.at("GET", "/admin/usage", None).await;
    reader.at("POST", "/admin/vault/rotate", None).await;
    reader.at("POST", "/admin/provider/rotate-key", None).await;
    reader.at("GET", "/admin/oauth_apps", None).await;
    reader.of("DELETE", "/admin/accounts/{id}", &id, None).await;
    reader.at("GET", "/admin/audit", None).await;
    reader.at("GET", "/admin/audit/verify", None).await;
    reader.at("POST", "/admin/reload", None).await;
}

#[tokio::test]
async fn the_page_is_whole_by_itself() {
    let house = House::start(ALL).await;
    for url in [house.url("/docs"), house.admin_url("/docs")] {
        let page = whole(client().build().expect("a client").get(url)).await;
        assert_eq!(page.status, 200);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        let policy = page.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-")
                && policy.contains("frame-ancestors 'none'")
        );
        let text = page.text();
        let links: BTreeSet<&str> =
            text.split("href=\"").skip(1).map(|rest| rest.split('"').next().expect("an end")).collect();
        assert!(links.iter().all(|link| link.starts_with('#') || *link == "/openapi.json"), "{links:?}");
        for word in ["/v1/chat/completions", "/api/v1/oauth/initiate", "/admin/vault/rotate", "/healthz"] {
            assert!(text.contains(word), "{word}");
        }
    }
}
