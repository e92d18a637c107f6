//! A simulated provider from a test's side: what it is told, what it has seen, and a person who agrees at once.

use serde_json::{Value, json};

use super::house::{Answer, House, mint, question, whole};

/// One of the simulated providers.
pub struct Idp {
    pub name: &'static str,
    fake: std::net::SocketAddr,
    client: reqwest::Client,
}

/// A token of `sub` in `tenant` that may ask models and manage accounts.
pub fn caller(sub: &str, tenant: &str) -> String {
    mint(json!({"sub": sub, "tenant": tenant, "scope": "chat accounts"}))
}

/// The usual one.
pub fn owner() -> String {
    caller("alice", "alpha")
}

impl Idp {
    pub fn of(house: &House, name: &'static str) -> Self {
        Self { name, fake: house.fake, client: house.client.clone() }
    }

    /// Tells it something.
    pub async fn tell(&self, what: &str, body: Value) {
        let url = format!("http://{}/_fake/idp/{}/{what}", self.fake, self.name);
        let told = whole(self.client.post(url).json(&body)).await;
        assert_eq!(told.status, 200, "{}", told.text());
    }

    /// Its books.
    pub async fn books(&self) -> Value {
        whole(self.client.get(format!("http://{}/_fake/idp/{}", self.fake, self.name))).await.json()
    }

    /// How often an endpoint was asked.
    pub async fn asked(&self, endpoint: &str) -> u64 {
        self.books().await["endpoints"][endpoint].as_u64().unwrap_or(0)
    }

    /// How often a grant was asked for.
    pub async fn grants(&self, grant: &str) -> u64 {
        self.books().await["grants"][grant].as_u64().unwrap_or(0)
    }
}

/// Asks with a token and, where there is one, a body.
pub async fn ask(house: &House, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let method: http::Method = method.parse().expect("a method");
    let mut request = house.client.request(method, house.url(path)).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(body);
    }
    whole(request).await
}

/// `data` of a good answer in the envelope.
pub fn data(answer: &Answer) -> Value {
    let body = answer.json();
    assert_eq!((answer.status, body["code"].as_u64()), (200, Some(200)), "{body}");
    assert_eq!(body["message"], "success");
    body["data"].clone()
}

/// `message` of an error in the envelope.
pub fn error(answer: &Answer, status: u16) -> String {
    let body = answer.json();
    assert_eq!((answer.status, body["code"].as_u64()), (status, Some(u64::from(status))), "{body}");
    assert!(body["data"].is_null(), "{body}");
    assert_eq!(body.as_object().expect("an object").len(), 3, "{body}");
    body["message"].as_str().expect("a message").to_owned()
}

pub async fn initiate(house: &House, token: &str, body: Value) -> Answer {
    ask(house, token, "POST", "/api/v1/oauth/initiate", Some(&body)).await
}

pub async fn accounts(house: &House, token: &str) -> Vec<Value> {
    let listed = data(&ask(house, token, "GET", "/api/v1/oauth/accounts", None).await);
    listed.as_array().expect("a list").clone()
}

/// A chat request of the usual caller's.
pub fn chat(house: &House, model: &str) -> reqwest::RequestBuilder {
    let request = house.client.post(house.url("/v1/chat/completions")).bearer_auth(owner());
    request.json(&question(model, "hi", false))
}

/// Somebody who began and agreed: where the provider sent them back to, and the browser's cookie.
pub struct Returning {
    pub address: String,
    pub cookie: String,
    pub state: String,
}

impl Returning {
    pub async fn come_back(&self, house: &House) -> Answer {
        whole(house.client.get(&self.address).header("cookie", &self.cookie)).await
    }

    /// The same with another query.
    pub async fn come_back_with(&self, house: &House, query: &str) -> Answer {
        let (path, _) = self.address.split_once('?').expect("a query");
        whole(house.client.get(format!("{path}?{query}")).header("cookie", &self.cookie)).await
    }
}

/// Begins, agrees at once (the provider is told `auto`), and stands before the callback.
pub async fn agree(house: &House, token: &str, ask: Value) -> Returning {
    let begun = initiate(house, token, ask).await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    let cookie = begun.header("set-cookie").split(';').next().expect("a cookie").to_owned();
    let told = begun.json();
    let text = |name: &str| told["data"][name].as_str().expect("text").to_owned();
    let sent = whole(house.client.get(text("auth_url"))).await;
    assert!(sent.status == 302 || sent.status == 303, "{} {}", sent.status, sent.text());
    Returning { address: sent.header("location").to_owned(), cookie, state: text("state") }
}

/// Rows of `oauth.providers` at the simulated ones. `house` is a provider that nobody has heard of, an issuer of OpenID Connect, for
/// a platform of the operator's own.
const ROWS: [(&str, &str); 5] = [
    (
        "huggingface",
        "client_id: weir-huggingface, client_secret: secret-huggingface, issuer: \"$IDP\", \
         authorize_url: \"$IDP/oauth/authorize\", token_url: \"$IDP/oauth/token\", device_url: \"$IDP/oauth/device\", \
         userinfo_url: \"$IDP/oauth/userinfo\", jwks_url: \"$IDP/oauth/jwks\"",
    ),
    (
        "google",
        "client_id: weir-google, client_secret: secret-google, issuer: \"$IDP\", authorize_url: \"$IDP/o/oauth2/v2/auth\", \
         token_url: \"$IDP/token\", revoke_url: \"$IDP/revoke\", userinfo_url: \"$IDP/v1/userinfo\", \
         jwks_url: \"$IDP/oauth2/v3/certs\"",
    ),
    (
        "aihubmix",
        "client_id: weir-aihubmix, client_secret: secret-aihubmix, authorize_url: \"$IDP/api/oauth2/authorize\", \
         token_url: \"$IDP/api/oauth2/token\", userinfo_url: \"$IDP/api/oauth2/userinfo\"",
    ),
    (
        "qwen",
        "client_id: weir-qwen, token_url: \"$IDP/api/v1/oauth2/token\", device_url: \"$IDP/api/v1/oauth2/device/code\", \
         resource_hosts: [\"127.0.0.1\"]",
    ),
    (
        "oidc",
        "client_id: weir-oidc, client_secret: secret-oidc, issuer: \"$IDP\", says_issuer: true, scopes: [openid, profile, email, offline_access], \
         person: {subject: [[sub]], name: [name]}, account: {platform: house, flows: [code, device]}",
    ),
];

/// The part of a configuration that names these providers; `oidc` with a platform of its own, `house`.
pub fn providers(names: &[&str]) -> String {
    let mut text = "oauth:\n  providers:\n".to_owned();
    for name in names {
        let (_, row) = ROWS.iter().find(|(known, _)| known == name).expect("a row");
        text.push_str(&format!(
            "    {name}: {{{}}}\n",
            row.replace("$IDP", &format!("http://$FAKE/idp/{name}"))
        ));
    }
    if names.contains(&"oidc") {
        text.push_str("platforms:\n  house: {dialect: openai, base_url: \"http://$FAKE/doubao/api/v3\", auth: bearer, models: [doubao-seed-2-1-pro-260915]}\n");
    }
    text
}

/// Tells a provider that takes no address but those it was told where this gateway's callbacks are.
pub async fn register(house: &House, idp: &Idp) {
    let name = idp.name;
    let paths = [
        "/api/v1/oauth/callback".to_owned(),
        format!("/api/v1/oauth/callback/{name}"),
        "/huggingface-callback".to_owned(),
    ];
    let uris: Vec<String> = paths.iter().map(|path| house.url(path)).collect();
    let client = json!({"client_id": format!("weir-{name}"), "client_secret": format!("secret-{name}"), "redirect_uris": uris});
    idp.tell("clients", client).await;
}

/// Has each of these providers know this gateway's callbacks, and ann agree there without being asked.
pub async fn befriend(house: &House, names: &[&'static str]) {
    for name in names {
        let idp = Idp::of(house, name);
        register(house, &idp).await;
        idp.tell("settings", json!({"auto": "ann"})).await;
    }
}

/// A parameter of an address; nothing where it has none.
pub fn parameter(address: &str, name: &str) -> String {
    let url = url::Url::parse(address).expect("a URL");
    let found = url.query_pairs().find(|(known, _)| known == name);
    found.map_or_else(String::new, |(_, value)| value.into_owned())
}
