//! Weir as an OAuth 2.0 provider, through the real binary: an app, a browser and a person, on one gateway and on several that
//! share a Redis. Whoever is signed in has signed in, by a simulated provider.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use crate::browser::{Browser, doors, register, tell};
use crate::canary::Canaries;
use crate::house::{Answer, House, mint, question, start_fake, until, whole};
use crate::replicas::Redis;

const ACCOUNTS: &str = "accounts: [{id: a, platform: openai, api_key: sk-a}]\n";
const BACK: &str = "https://app.example/cb";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

const URL: &str = "https://weir.test";

/// A gateway, and who is signed in there in a browser of their own.
struct Stage {
    house: House,
    people: Arc<tokio::sync::Mutex<BTreeMap<String, Browser>>>,
}

impl std::ops::Deref for Stage {
    type Target = House;

    fn deref(&self) -> &House {
        &self.house
    }
}

impl std::ops::DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut House {
        &mut self.house
    }
}

async fn enabled(fake: SocketAddr, more: &str) -> String {
    let doors = doors(fake, &["oidc"], Some(URL), "tenant: alpha").await;
    format!("{ACCOUNTS}{doors}provider: {{enabled: true, topup_url: \"https://pay.example/up\"}}\n{more}")
}

async fn open(more: &str) -> Stage {
    let fake = fake().await;
    Stage::of(House::start_beside(fake, &enabled(fake, more).await, &[]).await)
}

/// A simulated provider with some people.
async fn fake() -> SocketAddr {
    let fake = start_fake("");
    register(fake, &["oidc"], URL).await;
    let mut people = serde_json::Map::new();
    for (number, name) in ["alice", "bob", "mallory"].into_iter().enumerate() {
        let person = json!({
            "id": 1000 + number, "name": format!("{name} <b>Example</b>"), "email": format!("{name}@example.com"),
        });
        people.insert(name.to_owned(), person);
    }
    tell(fake, "oidc", "people", &Value::Object(people)).await;
    fake
}

impl Stage {
    fn of(house: House) -> Self {
        Self { house, people: Arc::default() }
    }

    /// Another replica, with the same browsers before it.
    fn beside(&self, house: House) -> Self {
        Self { house, people: Arc::clone(&self.people) }
    }

    /// The cookie of somebody's session; they sign in where they have not yet.
    async fn cookie(&self, subject: &str) -> String {
        let mut people = self.people.lock().await;
        if !people.contains_key(subject) {
            let browser = Browser::new(self);
            browser.sign_in_as("oidc", subject).await;
            people.insert(subject.to_owned(), browser);
        }
        format!("__Host-weir-session={}", people[subject].cookie("__Host-weir-session").expect("a session"))
    }

    /// Who somebody is here.
    async fn id(&self, subject: &str) -> Value {
        let me = self.client.get(self.url("/auth/me")).header("cookie", self.cookie(subject).await);
        whole(me).await.json()["data"]["person"]["id"].clone()
    }
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

trait Forms {
    /// With a form for a body.
    fn form(self, pairs: &[(&str, &str)]) -> Self;
}

impl Forms for reqwest::RequestBuilder {
    fn form(self, pairs: &[(&str, &str)]) -> Self {
        self.header("content-type", "application/x-www-form-urlencoded").body(encoded(pairs))
    }
}

fn authorize(house: &Stage, query: &[(&str, &str)]) -> reqwest::RequestBuilder {
    house.client.get(house.url(&format!("/api/oauth2/authorize?{}", encoded(query))))
}

struct App {
    id: String,
    secret: Option<String>,
}

impl App {
    /// Registered over the API by tenant `dev`.
    async fn register(house: &Stage, is_public: bool) -> Self {
        Self::with(house, is_public, json!([BACK])).await
    }

    async fn with(house: &Stage, is_public: bool, uris: Value) -> Self {
        let new = json!({"name": "App <i>one</i>", "description": "does & shows", "redirect_uris": uris, "is_public": is_public});
        let answer = developer(house, "dev", Method::POST, "", Some(&new)).await;
        let data = success(&answer);
        assert_eq!(answer.header("cache-control"), "no-store");
        let text = |name: &str| data[name].as_str().map(str::to_owned);
        Self { id: text("client_id").expect("an id"), secret: text("client_secret") }
    }

    /// What says that it is this app, in a form.
    fn form(&self) -> Vec<(&str, &str)> {
        let mut form = vec![("client_id", self.id.as_str())];
        form.extend(self.secret.as_deref().map(|secret| ("client_secret", secret)));
        form
    }
}

async fn developer(house: &Stage, tenant: &str, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let token = mint(json!({"tenant": tenant, "sub": tenant, "scope": "accounts"}));
    let url = house.url(&format!("/api/oauth_apps{path}"));
    let mut request = house.client.request(method, url).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(body);
    }
    whole(request).await
}

fn success(answer: &Answer) -> Value {
    let body = answer.json();
    assert_eq!((answer.status, &body["success"]), (200, &json!(true)), "{body}");
    body["data"].clone()
}

/// A browser that opens the authorize page.
async fn visit(house: &Stage, subject: Option<&str>, query: &[(&str, &str)]) -> Answer {
    let mut request = authorize(house, query);
    if let Some(subject) = subject {
        request = request.header("cookie", house.cookie(subject).await);
    }
    whole(request.header("sec-fetch-dest", "document")).await
}

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

fn asking<'a>(app: &'a App, scope: &'a str, challenge: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("client_id", app.id.as_str()),
        ("redirect_uri", BACK),
        ("response_type", "code"),
        ("state", "st&te"),
        ("scope", scope),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
    ]
}

/// The value of a page's hidden field.
fn hidden(page: &Answer, name: &str) -> String {
    let text = page.text();
    let mark = format!("name=\"{name}\" value=\"");
    let (_, rest) = text.split_once(&mark).unwrap_or_else(|| panic!("no {name} in {text}"));
    rest.split('"').next().expect("a value").to_owned()
}

async fn say(house: &Stage, subject: &str, ticket: &str, answer: &str) -> Answer {
    let request =
        house.client.post(house.url("/api/oauth2/authorize")).header("cookie", house.cookie(subject).await);
    whole(request.header("sec-fetch-site", "same-origin").form(&[("ticket", ticket), ("answer", answer)]))
        .await
}

/// Where a redirect leads, which must be by 303 and kept by nobody.
fn location(answer: &Answer) -> Url {
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    Url::parse(answer.header("location")).expect("a whole URL")
}

fn found(url: &Url, name: &str) -> Option<String> {
    let all: Vec<String> =
        url.query_pairs().filter(|(known, _)| known == name).map(|(_, value)| value.into_owned()).collect();
    assert!(all.len() < 2, "{url}");
    all.into_iter().next()
}

/// A code for `subject`: asked at `first`, answered to `second`.
async fn code(first: &Stage, second: &Stage, app: &App, subject: &str, scope: &str) -> String {
    let page = visit(first, Some(subject), &asking(app, scope, &challenge())).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let url = location(&say(second, subject, &hidden(&page, "ticket"), "yes").await);
    assert!(url.as_str().starts_with("https://app.example/cb?"), "{url}");
    assert_eq!(found(&url, "state").as_deref(), Some("st&te"));
    assert_eq!(found(&url, "iss").as_deref(), Some("https://weir.test"));
    assert_eq!(found(&url, "error"), None);
    found(&url, "code").expect("a code")
}

async fn post(house: &Stage, path: &str, form: &[(&str, &str)]) -> Answer {
    whole(house.client.post(house.url(&format!("/api/oauth2/{path}"))).form(form)).await
}

async fn trade(house: &Stage, app: &App, code: &str) -> Answer {
    let mut form = app.form();
    form.extend([
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
    ]);
    post(house, "token", &form).await
}

async fn renew(house: &Stage, app: &App, token: &str) -> Answer {
    let mut form = app.form();
    form.extend([("grant_type", "refresh_token"), ("refresh_token", token)]);
    post(house, "token", &form).await
}

#[derive(Clone)]
struct Tokens {
    access: String,
    refresh: String,
}

fn tokens(answer: &Answer) -> Tokens {
    let body = answer.json();
    assert_eq!(answer.status, 200, "{body}");
    assert_eq!((answer.header("cache-control"), answer.header("pragma")), ("no-store", "no-cache"));
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(7200)));
    let text = |name: &str| body[name].as_str().expect(name).to_owned();
    Tokens { access: text("access_token"), refresh: text("refresh_token") }
}

async fn granted(house: &Stage, app: &App, subject: &str, scope: &str) -> Tokens {
    tokens(&trade(house, app, &code(house, house, app, subject, scope).await).await)
}

/// The OAuth error of a refusal.
fn refused(answer: &Answer, status: u16) -> String {
    let body = answer.json();
    assert_eq!(answer.status, status, "{body}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(body["error_description"].is_string(), "{body}");
    body["error"].as_str().expect("an error").to_owned()
}

async fn chat(house: &Stage, token: &str) -> Answer {
    let body = question("gpt-4o", "hello", false);
    whole(house.client.post(house.url("/v1/chat/completions")).bearer_auth(token).json(&body)).await
}

async fn get(house: &Stage, token: &str, path: &str) -> Answer {
    whole(house.client.get(house.url(path)).bearer_auth(token)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_asked_on_a_page_that_nobody_else_can_use() {
    let house = open("").await;
    let metadata = whole(house.client.get(house.url("/.well-known/oauth-authorization-server"))).await;
    assert_eq!(metadata.header("access-control-allow-origin"), "*");
    let metadata = metadata.json();
    assert_eq!(metadata["issuer"], "https://weir.test");
    assert_eq!(metadata["token_endpoint"], "https://weir.test/api/oauth2/token");
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
    let app = App::register(&house, true).await;
    assert_eq!(app.secret, None);
    // Nobody is signed in: there first, and back here.
    let away = visit(&house, None, &asking(&app, "profile", &challenge())).await;
    assert_eq!((away.status, away.header("cache-control")), (303, "no-store"));
    let to = Url::parse("http://x").expect("a URL").join(away.header("location")).expect("a place");
    assert!(
        found(&to, "redirect_after").expect("a way back").starts_with("/api/oauth2/authorize?client_id=")
    );
    let page = visit(&house, Some("alice"), &asking(&app, "profile chat", &challenge())).await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"), "{policy}");
    assert!(policy.contains("form-action 'self'") && !policy.contains("app.example"), "{policy}");
    for (name, value) in
        [("cache-control", "no-store"), ("referrer-policy", "no-referrer"), ("x-frame-options", "DENY")]
    {
        assert_eq!(page.header(name), value);
    }
    assert_eq!(page.header("access-control-allow-origin"), "", "authorize has no CORS");
    let text = page.text();
    assert!(text.contains("App &lt;i&gt;one&lt;/i&gt;") && text.contains("does &amp; shows"), "{text}");
    assert!(
        text.contains("alice &lt;b&gt;Example") && !text.contains("<b>Example") && !text.contains("<script"),
        "{text}"
    );
    house.settled().await;
}

const QUOTAS: &str = "callers: {tenants: {alpha: {daily_requests: 10, monthly_budget: 100000}, dev: {}}}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_a_jwt_that_anybody_can_verify() {
    let house = open("").await;
    let app = App::register(&house, true).await;
    let all = granted(&house, &app, "alice", "profile balance chat").await;
    let jwks: Value = whole(house.client.get(house.url("/.well-known/jwks.json"))).await.json();
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(jwks).expect("a set");
    let header = jsonwebtoken::decode_header(&all.access).expect("a header");
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    let key = jsonwebtoken::DecodingKey::from_jwk(set.find(&header.kid.expect("a kid")).expect("the key"))
        .expect("a key");
    let mut wanted = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    wanted.set_audience(&["https://weir.test"]);
    wanted.set_issuer(&["https://weir.test"]);
    let claims = jsonwebtoken::decode::<Value>(&all.access, &key, &wanted).expect("verified").claims;
    assert_eq!(
        (&claims["sub"], &claims["client_id"], &claims["scope"]),
        (&house.id("alice").await, &json!(app.id), &json!("profile balance chat"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_gets_what_was_granted_and_no_more_until_it_is_let_go() {
    let house = open(QUOTAS).await;
    let app = App::register(&house, true).await;
    let all = granted(&house, &app, "alice", "profile balance chat").await;
    // On the person's own quota.
    assert_eq!(chat(&house, &all.access).await.status, 200);
    let info = get(&house, &all.access, "/api/oauth2/userinfo").await;
    assert_eq!((info.header("cache-control"), info.header("access-control-allow-origin")), ("no-store", "*"));
    let info = info.json();
    assert_eq!((&info["sub"], &info["email"]), (&house.id("alice").await, &json!("alice@example.com")));
    assert_eq!(info["balance"]["quotas"]["daily_requests"], json!({"limit": 10, "remaining": 9}), "{info}");
    assert!(info["balance"]["quotas"]["monthly_tokens"]["remaining"].as_u64() < Some(100_000));
    assert_eq!(info["balance"]["quotas"]["daily_tokens"], Value::Null);
    assert_eq!(
        get(&house, &all.access, "/api/oauth2/topup").await.json()["topup_url"],
        "https://pay.example/up"
    );
    // No more than was granted, and nothing of the person's own.
    let little = granted(&house, &app, "alice", "profile").await;
    assert_eq!(chat(&house, &little.access).await.error(403), "insufficient_permissions");
    assert_eq!(get(&house, &all.access, "/v1/models").await.status, 200);
    assert_eq!(get(&house, &little.access, "/v1/models").await.error(403), "insufficient_permissions");
    assert_eq!(get(&house, &little.access, "/v1/models/gpt-4o").await.error(403), "insufficient_permissions");
    let info = get(&house, &little.access, "/api/oauth2/userinfo").await.json();
    assert_eq!((&info["sub"], &info["balance"]), (&house.id("alice").await, &Value::Null));
    let topup = get(&house, &little.access, "/api/oauth2/topup").await;
    assert_eq!(topup.status, 403);
    assert!(topup.header("www-authenticate").contains("insufficient_scope"), "{:?}", topup.headers);
    for path in ["/api/v1/oauth/accounts", "/api/oauth_apps", "/api/oauth2/grants"] {
        assert_eq!(get(&house, &all.access, path).await.status, 403, "{path}");
    }
    let admin = whole(house.client.get(house.admin_url("/admin/keys")).bearer_auth(&all.access)).await;
    assert_eq!(admin.status, 403);
    assert_eq!(get(&house, &house.token, "/api/oauth2/userinfo").await.status, 403, "not an app's token");
    assert_eq!(get(&house, "nonsense", "/api/oauth2/userinfo").await.error(401), "invalid_api_key");
    let next = tokens(&renew(&house, &app, &all.refresh).await);
    assert_ne!(next.refresh, all.refresh);
    assert_eq!(chat(&house, &next.access).await.status, 200);
    let gone = post(&house, "revoke", &[("client_id", &app.id), ("token", &next.refresh)]).await;
    assert_eq!(gone.status, 200);
    for token in [&all.access, &next.access] {
        assert_eq!(chat(&house, token).await.error(401), "invalid_api_key", "remembered, and dead at once");
    }
    assert_eq!(refused(&renew(&house, &app, &next.refresh).await, 400), "invalid_grant");
    assert_eq!(get(&house, &little.access, "/api/oauth2/userinfo").await.status, 200, "another grant");
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_go_on_with_what_others_began_and_end_it_everywhere() {
    let redis = Redis::start(&[]);
    let fake = fake().await;
    let fragment = format!("{}{}", redis.store(), enabled(fake, "").await);
    let one = Stage::of(House::start_beside(fake, &fragment, &[]).await);
    let two = one.beside(House::start_beside(fake, &fragment, &[]).await);
    let three = one.beside(House::start_beside(fake, &fragment, &[]).await);
    let jwks = async |at: &Stage| whole(at.client.get(at.url("/.well-known/jwks.json"))).await.text();
    until("one key for all", async || {
        let all = [jwks(&one).await, jwks(&two).await, jwks(&three).await];
        all.iter().all(|set| *set == all[0] && set.contains("\"kid\""))
    })
    .await;
    let app = App::register(&one, false).await;
    // Asked at one, answered to the second, traded at the third.
    let first = code(&one, &two, &app, "alice", "chat").await;
    let mine = tokens(&trade(&three, &app, &first).await);
    for at in [&one, &two, &three] {
        assert_eq!(chat(at, &mine.access).await.status, 200, "taken everywhere");
    }
    // Traded again, elsewhere: refused, and dead everywhere within a second or so.
    assert_eq!(refused(&trade(&one, &app, &first).await, 400), "invalid_grant");
    let dies = async |tokens: &Tokens| {
        for at in [&one, &two, &three] {
            let since = tokio::time::Instant::now();
            until("a dead token", async || chat(at, &tokens.access).await.status == 401).await;
            assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
            assert_eq!(refused(&renew(at, &app, &tokens.refresh).await, 400), "invalid_grant");
        }
    };
    dies(&mine).await;
    // A refresh token used again, elsewhere.
    let old = tokens(&trade(&two, &app, &code(&three, &one, &app, "alice", "chat").await).await);
    let new = tokens(&renew(&one, &app, &old.refresh).await);
    for at in [&one, &two, &three] {
        assert_eq!(chat(at, &new.access).await.status, 200);
    }
    assert_eq!(refused(&renew(&three, &app, &old.refresh).await, 400), "invalid_grant");
    dies(&new).await;
    // What a person takes back at one is dead at the others.
    let taken = tokens(&trade(&one, &app, &code(&one, &one, &app, "alice", "chat").await).await);
    assert_eq!(chat(&three, &taken.access).await.status, 200);
    let path = format!("/api/oauth2/grants/{}", app.id);
    let back = whole(two.client.delete(two.url(&path)).header("cookie", two.cookie("alice").await)).await;
    assert_eq!(back.status, 200, "{}", back.text());
    dies(&taken).await;
    // A secret that was replaced, a key that was replaced, an app that is gone.
    let kept = tokens(&trade(&one, &app, &code(&one, &one, &app, "alice", "chat").await).await);
    let new = success(&developer(&two, "dev", Method::POST, &format!("/{}/secret", app.id), None).await);
    assert_eq!(refused(&renew(&three, &app, &kept.refresh).await, 401), "invalid_client");
    let app = App { id: app.id, secret: new["client_secret"].as_str().map(str::to_owned) };
    let kept = tokens(&renew(&three, &app, &kept.refresh).await);
    let (done, said) = two.run(&["provider", "rotate-key", "--at-once"]).await;
    assert!(done, "{said}");
    for at in [&one, &two, &three] {
        until("a token of a dead key", async || chat(at, &kept.access).await.status == 401).await;
    }
    let kept = tokens(&renew(&one, &app, &kept.refresh).await);
    for at in [&one, &two, &three] {
        until("a token of the new key", async || chat(at, &kept.access).await.status == 200).await;
    }
    success(&developer(&one, "dev", Method::DELETE, &format!("/{}", app.id), None).await);
    for at in [&one, &two, &three] {
        until("a token of no app", async || chat(at, &kept.access).await.status == 401).await;
        assert_eq!(refused(&renew(at, &app, &kept.refresh).await, 401), "invalid_client");
    }
}

/// What one replica cannot read of keys keeps it from hearing of no revocation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_cannot_be_read_keeps_nobodys_token_alive() {
    let redis = Redis::start(&[]);
    let fake = fake().await;
    let fragment = format!("{}{}", redis.store(), enabled(fake, "").await);
    let one = Stage::of(House::start_beside(fake, &fragment, &[]).await);
    let two = one.beside(House::start_beside(fake, &fragment, &[]).await);
    let app = App::register(&one, true).await;
    let mine = granted(&one, &app, "alice", "chat").await;
    until("known there", async || chat(&two, &mine.access).await.status == 200).await;
    redis.tell(&["HSET", "weir:1:{records}:rows:keys", "key_broken", "no-version"]);
    redis.tell(&["ZADD", "weir:1:{records}:ids:keys", "0", "key_broken"]);
    redis.tell(&["HINCRBY", "weir:1:{records}:generations", "keys", "1"]);
    until("it is said", async || two.log().contains("not all of the store can be read")).await;
    let gone = post(&one, "revoke", &[("client_id", &app.id), ("token", &mine.refresh)]).await;
    assert_eq!(gone.status, 200);
    until("a dead token", async || chat(&two, &mine.access).await.status == 401).await;
}

/// Ways to write a redirect URI that some parser takes for the registered one, or for somebody else's.
fn tricks() -> Vec<String> {
    let host = "https://app.example";
    vec![
        format!("{host}/cb/"),
        format!("{host}/cb/evil"),
        format!("{host}/cbx"),
        format!("{host}/CB"),
        format!("{host}/%63b"),
        format!("{host}/cb%2f"),
        format!("{host}/cb%2f.."),
        format!("{host}/cb/../evil"),
        format!("{host}//cb"),
        format!("{host}/cb?"),
        format!("{host}/cb?x=y"),
        format!("{host}/cb;x=y"),
        format!("{host}/cb#"),
        format!("{host}/cb#@evil.example"),
        format!("{host}/cb "),
        format!(" {host}/cb"),
        format!("{host}/cb\0"),
        format!("{host}/cb\r\nLocation: https://evil.example"),
        format!("{host}/cb%0d%0aLocation:%20https://evil.example"),
        format!("{host}:443/cb"),
        format!("{host}:8443/cb"),
        format!("{host}./cb"),
        format!("{host}.evil.example/cb"),
        format!("{host}@evil.example/cb"),
        format!("{host}\\cb"),
        "https://APP.example/cb".into(),
        "HTTPS://app.example/cb".into(),
        "http://app.example/cb".into(),
        "https:app.example/cb".into(),
        "https:/app.example/cb".into(),
        "https:///app.example/cb".into(),
        "https:\\\\app.example/cb".into(),
        "https://evil.example\\@app.example/cb".into(),
        "https://evil.example#@app.example/cb".into(),
        "https://evil.example?@app.example/cb".into(),
        "https://evil.example/https://app.example/cb".into(),
        "//app.example/cb".into(),
        "//evil.example".into(),
        "/\\evil.example".into(),
        "javascript:alert(1)//https://app.example/cb".into(),
        "data:text/html,https://app.example/cb".into(),
        "http://localhost/cb".into(),
        "http://127.0.0.1:80@evil.example/cb".into(),
        "http://127.0.0.1.evil.example/cb".into(),
        "http://127.0.0.2/cb".into(),
        "http://127.0.0.1:80/cb/".into(),
        "com.example.app://evil.example/cb".into(),
        "com.example.app:/cb2".into(),
        "com.example.app.evil:/cb".into(),
    ]
}

/// Whatever is asked, the only places that a browser is sent to are those that the app registered, and our own sign-in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_a_redirect_leads_elsewhere() {
    let house = open("").await;
    let web = App::register(&house, true).await;
    let native = App::with(&house, true, json!(["http://127.0.0.1/cb", "com.example.app:/cb"])).await;
    let tricks = tricks();
    for trick in &tricks {
        for app in [&web, &native] {
            for auto in ["false", "true"] {
                let challenge = challenge();
                let mut query = asking(app, "profile", &challenge);
                query.retain(|(name, _)| *name != "redirect_uri");
                query.extend([("redirect_uri", trick.as_str()), ("auto_authorize", auto)]);
                for who in [Some("alice"), None] {
                    let answer = visit(&house, who, &query).await;
                    assert_eq!((answer.status, answer.header("location")), (400, ""), "{trick:?}");
                    assert!(answer.header("content-type").starts_with("text/html"));
                    assert!(!answer.text().contains("evil"), "{trick:?}");
                }
            }
        }
    }
    // The one freedom: the port of a native app.
    let challenge = challenge();
    let mut query = asking(&native, "profile", &challenge);
    query.retain(|(name, _)| *name != "redirect_uri");
    query.push(("redirect_uri", "http://127.0.0.1:49152/cb"));
    let page = visit(&house, Some("alice"), &query).await;
    let url = location(&say(&house, "alice", &hidden(&page, "ticket"), "yes").await);
    assert!(url.as_str().starts_with("http://127.0.0.1:49152/cb?code="), "{url}");
    // Two of them, or a client that is none, or two.
    for more in [("redirect_uri", "https://evil.example"), ("redirect_uri", BACK), ("client_id", "app_x")] {
        let mut query = asking(&web, "profile", &challenge);
        query.push(more);
        assert_eq!(visit(&house, Some("alice"), &query).await.status, 400, "{more:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_registered_is_one_clear_place() {
    let house = open("").await;
    let tricks = tricks();
    for trick in tricks.iter().filter(|trick| {
        !trick.starts_with("https://app.example") || trick.contains(['#', '\\', ' ', '\0', '\r'])
    }) {
        let fine = ["https://evil.example?@app.example/cb", "https://evil.example/https://app.example/cb"];
        if fine.contains(&trick.as_str())
            || trick.starts_with("com.example.app")
            || trick.starts_with("http://127.0.0.1:80/")
        {
            continue;
        }
        let new = json!({"name": "n", "redirect_uris": [trick], "is_public": true});
        let answer = developer(&house, "dev", Method::POST, "", Some(&new)).await;
        assert_eq!(answer.status, 400, "{trick:?}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_request_goes_back_to_the_app() {
    let house = open("").await;
    let app = App::register(&house, true).await;
    code(&house, &house, &app, "alice", "profile").await;
    let challenge = challenge();
    for (name, value, error) in [
        ("response_type", "token", "unsupported_response_type"),
        ("response_type", "id_token", "unsupported_response_type"),
        ("scope", "profile admin", "invalid_scope"),
        ("scope", "accounts", "invalid_scope"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge_method", "", "invalid_request"),
        ("code_challenge", "", "invalid_request"),
        ("response_mode", "fragment", "invalid_request"),
        ("request_uri", "https://evil.example", "request_not_supported"),
        ("resource", "https://evil.example", "invalid_target"),
    ] {
        let mut query = asking(&app, "profile", &challenge);
        query.retain(|(known, _)| *known != name);
        query.push((name, value));
        let url = location(&visit(&house, Some("alice"), &query).await);
        assert_eq!(found(&url, "error").as_deref(), Some(error), "{name}={value}");
        assert_eq!(found(&url, "state").as_deref(), Some("st&te"));
        assert_eq!(found(&url, "iss").as_deref(), Some("https://weir.test"));
        assert_eq!(found(&url, "code"), None);
        // Who has not let it in is led nowhere by an address that somebody made up: they see it, and go by hand or not at all.
        let page = visit(&house, Some("bob"), &query).await;
        assert_eq!((page.status, page.header("location")), (400, ""), "{name}={value}");
        let text = page.text();
        assert!(text.contains("app.example") && !text.contains("http-equiv"), "{text}");
        let link = text.split("href=\"").nth(1).and_then(|part| part.split('"').next()).expect("a link");
        assert!(link.starts_with("https://app.example/cb?") && link.contains(error), "{link}");
        let away = visit(&house, None, &query).await;
        assert!(away.status == 303 && away.header("location").starts_with("/auth?redirect_after="));
    }
    // Without a state PKCE tells the app that the answer is to its own question.
    let mut query = asking(&app, "profile", &challenge);
    query.retain(|(known, _)| *known != "state");
    let page = visit(&house, Some("alice"), &query).await;
    let url = location(&say(&house, "alice", &hidden(&page, "ticket"), "yes").await);
    assert_eq!(found(&url, "state"), None);
    assert_eq!(trade(&house, &app, &found(&url, "code").expect("a code")).await.status, 200);
}

/// A person without the right to ask models, and an app that wants it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_chat_is_led_nowhere_by_a_stranger() {
    let house = open("").await;
    let app = App::register(&house, true).await;
    let url = house.admin_url(&format!("/admin/people/{}", house.id("alice").await.as_str().expect("an id")));
    let silent = json!({"scopes": ["accounts"]});
    assert_eq!(whole(house.client.put(url).bearer_auth(&house.token).json(&silent)).await.status, 200);
    house.people.lock().await.remove("alice");
    let challenge = challenge();
    let page = visit(&house, Some("alice"), &asking(&app, "chat", &challenge)).await;
    assert_eq!((page.status, page.header("location")), (400, ""), "{}", page.text());
    assert!(page.text().contains("error=access_denied"), "{}", page.text());
    let page = visit(&house, Some("alice"), &asking(&app, "profile", &challenge)).await;
    location(&say(&house, "alice", &hidden(&page, "ticket"), "yes").await);
    let url = location(&visit(&house, Some("alice"), &asking(&app, "chat", &challenge)).await);
    assert_eq!(found(&url, "error").as_deref(), Some("access_denied"), "they have let it in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_answered_by_the_person_on_our_own_page() {
    let house = open("").await;
    let app = App::register(&house, true).await;
    let challenge = challenge();
    let good = asking(&app, "profile", &challenge);
    let no = visit(&house, Some("alice"), &good).await;
    let url = location(&say(&house, "alice", &hidden(&no, "ticket"), "no").await);
    assert_eq!((found(&url, "error").as_deref(), found(&url, "code")), (Some("access_denied"), None));
    // Not as a picture, a frame or a script's request.
    for what in ["image", "iframe", "empty", "script"] {
        let request = authorize(&house, &good).header("cookie", house.cookie("alice").await);
        assert_eq!(whole(request.header("sec-fetch-dest", what)).await.status, 400, "{what}");
    }
    let page = visit(&house, Some("alice"), &good).await;
    let ticket = hidden(&page, "ticket");
    let send = async |headers: &[(&str, &str)], form: &[(&str, &str)]| {
        let mut request = house.client.post(house.url("/api/oauth2/authorize")).form(form);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        whole(request).await.status
    };
    let (alice, mallory) = (house.cookie("alice").await, house.cookie("mallory").await);
    let yes = [("ticket", ticket.as_str()), ("answer", "yes")];
    assert_eq!(send(&[("cookie", &alice), ("sec-fetch-site", "cross-site")], &yes).await, 403);
    assert_eq!(send(&[("cookie", &alice), ("sec-fetch-site", "same-site")], &yes).await, 403);
    assert_eq!(send(&[("cookie", &alice), ("origin", "https://evil.example")], &yes).await, 403);
    assert_eq!(send(&[("cookie", &mallory)], &yes).await, 403, "another session's question");
    assert_eq!(send(&[], &yes).await, 403, "nobody");
    assert_eq!(send(&[("cookie", &alice)], &[("answer", "yes")]).await, 403);
    assert_eq!(send(&[("cookie", &alice)], &[("ticket", "guess"), ("answer", "yes")]).await, 403);
    assert_eq!(send(&[("cookie", &alice)], &[("ticket", &ticket)]).await, 403, "no answer");
    assert_eq!(send(&[("cookie", &alice), ("origin", "null")], &yes).await, 303, "as a browser sends it");
    assert_eq!(send(&[("cookie", &alice)], &yes).await, 403, "answered");
    // By, once agreed, without being asked; and with more, asked.
    let auto = |scope| [asking(&app, scope, &challenge), vec![("auto_authorize", "true")]].concat();
    assert!(found(&location(&visit(&house, Some("alice"), &auto("profile")).await), "code").is_some());
    assert_eq!(visit(&house, Some("alice"), &auto("profile chat")).await.status, 200);
    assert_eq!(visit(&house, Some("bob"), &auto("profile")).await.status, 200);
}

fn basic(id: &str, secret: &str) -> Option<String> {
    Some(format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))))
}

/// A form for the token endpoint, with this header for authorization.
async fn send(house: &Stage, authorization: Option<&String>, body: &str) -> Answer {
    let mut request = house.client.post(house.url("/api/oauth2/token")).body(body.to_owned());
    request = request.header("content-type", "application/x-www-form-urlencoded");
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    whole(request).await
}

fn code_form(code: &str) -> String {
    let grant = ("grant_type", "authorization_code");
    encoded(&[grant, ("code", code), ("redirect_uri", BACK), ("code_verifier", VERIFIER)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_endpoint_is_strict_and_speaks_the_standard() {
    let house = open("").await;
    let app = App::register(&house, false).await;
    let (public, other) = (App::register(&house, true).await, App::register(&house, false).await);
    let secret = app.secret.clone().expect("a secret");
    let fresh = async || code(&house, &house, &app, "alice", "chat").await;
    let mine = basic(&app.id, &secret);
    // By header, and by body.
    tokens(&send(&house, mine.as_ref(), &code_form(&fresh().await)).await);
    tokens(&trade(&house, &app, &fresh().await).await);
    let good = code_form(&fresh().await);
    let wrong = send(&house, basic(&app.id, "wrong").as_ref(), &good).await;
    assert_eq!(refused(&wrong, 401), "invalid_client");
    assert!(wrong.header("www-authenticate").starts_with("Basic"));
    let stranger = basic(&other.id, other.secret.as_deref().expect("a secret"));
    let bearer = Some("Bearer x".to_owned());
    let refresh = "grant_type=refresh_token";
    for (authorization, body, expected) in [
        (&basic(&other.id, &secret), good.clone(), "401 invalid_client"),
        (&bearer, good.clone(), "401 invalid_client"),
        (&None, format!("{good}&client_id={}", app.id), "401 invalid_client"),
        (&None, good.clone(), "401 invalid_client"),
        (&mine, format!("{good}&client_secret={secret}"), "400 invalid_request"),
        (&mine, format!("{good}&client_id={}", other.id), "400 invalid_request"),
        (&mine, format!("{good}&code=x"), "400 invalid_request"),
        (&mine, "grant_type=authorization_code".to_owned(), "400 invalid_request"),
        (&mine, refresh.to_owned(), "400 invalid_request"),
        (&mine, good.replace("grant_type", "grant"), "400 invalid_request"),
        (&mine, "grant_type=password&username=a&password=b".to_owned(), "400 unsupported_grant_type"),
        (&mine, "grant_type=client_credentials".to_owned(), "400 unsupported_grant_type"),
        (&mine, format!("{refresh}&refresh_token=weir-rt-x~y~z"), "400 invalid_grant"),
        (&mine, format!("{refresh}&refresh_token=x&scope=admin"), "400 invalid_scope"),
        (&mine, code_form("nonsense"), "400 invalid_grant"),
        // Somebody else's code, whoever proves to be whom.
        (&stranger, good.clone(), "400 invalid_grant"),
        (&None, format!("{good}&client_id={}", public.id), "400 invalid_grant"),
    ] {
        let answer = send(&house, authorization.as_ref(), &body).await;
        let error = refused(&answer, answer.status);
        assert_eq!(format!("{} {error}", answer.status), expected, "{body}");
    }
    let url = house.url("/api/oauth2/token");
    let in_url = house.client.post(format!("{url}?client_id={}&client_secret={secret}", app.id));
    assert_eq!(
        refused(&whole(in_url.form(&[("grant_type", "refresh_token")])).await, 400),
        "invalid_request"
    );
    let as_json = whole(house.client.post(&url).json(&json!({"grant_type": "authorization_code"}))).await;
    assert_eq!(refused(&as_json, 400), "invalid_request");
    assert_eq!(whole(house.client.get(&url)).await.status, 405);
    // None of that spoiled the code.
    let issued = tokens(&send(&house, mine.as_ref(), &good).await);
    let theirs = renew(&house, &other, &issued.refresh).await;
    assert_eq!(refused(&theirs, 400), "invalid_grant", "another client's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_looked_at_and_ended_by_its_own_client() {
    let house = open("").await;
    let (app, other) = (App::register(&house, false).await, App::register(&house, false).await);
    let public = App::register(&house, true).await;
    let mine = granted(&house, &app, "alice", "chat").await;
    // Introspection: of one's own, with a secret.
    let look = async |app: &App, token: &str| {
        let mut form = app.form();
        form.push(("token", token));
        post(&house, "introspect", &form).await
    };
    let told = look(&app, &mine.access).await.json();
    assert_eq!(
        (&told["active"], &told["client_id"], &told["scope"]),
        (&json!(true), &json!(app.id), &json!("chat"))
    );
    assert_eq!(look(&other, &mine.access).await.json(), json!({"active": false}));
    assert_eq!(look(&app, "garbage").await.json(), json!({"active": false}));
    assert_eq!(refused(&look(&public, &mine.access).await, 401), "invalid_client");
    // Revocation: of one's own; what is unknown is no error.
    let end = async |app: &App, token: &str| {
        let mut form = app.form();
        form.push(("token", token));
        post(&house, "revoke", &form).await
    };
    assert_eq!(refused(&end(&other, &mine.access).await, 400), "unauthorized_client");
    assert_eq!(end(&other, "garbage").await.status, 200);
    assert_eq!(look(&app, &mine.access).await.json()["active"], true);
    assert_eq!(end(&app, &mine.access).await.status, 200);
    assert_eq!(look(&app, &mine.access).await.json(), json!({"active": false}));
    assert_eq!(refused(&renew(&house, &app, &mine.refresh).await, 400), "invalid_grant");
    // A page of any origin may use them, without cookies.
    for path in ["token", "revoke", "userinfo"] {
        let asked = house.client.request(Method::OPTIONS, house.url(&format!("/api/oauth2/{path}")));
        let allowed = whole(asked.header("origin", "https://app.example")).await;
        assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (204, "*"), "{path}");
        assert_eq!(allowed.header("access-control-allow-credentials"), "");
    }
}

/// From the app to the page where somebody signs in, to their provider, and back to the app's question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_not_signed_in_is_asked_after_they_are() {
    let house = open("").await;
    tell(house.fake, "oidc", "settings", &json!({"auto": "alice"})).await;
    let app = App::register(&house, true).await;
    let browser = Browser::new(&house);
    let away = browser
        .open(&format!("/api/oauth2/authorize?{}", encoded(&asking(&app, "chat", &challenge()))))
        .await;
    let page = browser.open(away.header("location")).await;
    let text = page.text().replace("&amp;", "&");
    let link = text.split("href=\"").find_map(|part| part.strip_prefix("/auth/oidc?")).expect("a link");
    let link = format!("/auth/oidc?{}", link.split('"').next().expect("its end"));
    let landed = browser.open(&browser.away(&link).await).await;
    assert_eq!(landed.status, 303, "{}", landed.text());
    let page = browser.open(landed.header("location")).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let ticket = hidden(&page, "ticket");
    // Not by a redirect: browsers hold wherever the app's callback goes on to, to the form's policy.
    let answered = browser.submit("/api/oauth2/authorize", &[("ticket", &ticket), ("answer", "yes")]).await;
    let url = Url::parse(&Browser::led(&answered)).expect("a URL");
    assert_eq!(found(&url, "state").as_deref(), Some("st&te"), "nothing of the app's question is lost");
    assert_eq!(trade(&house, &app, &found(&url, "code").expect("a code")).await.status, 200);
}

/// What somebody let in goes with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_of_a_person_who_is_kept_out_end_with_them() {
    let house = open("").await;
    let app = App::register(&house, true).await;
    for (method, body) in [
        (Method::PUT, json!({"is_blocked": true})),
        (Method::PUT, json!({"tenant": "other"})),
        (Method::DELETE, json!({})),
    ] {
        let mine = granted(&house, &app, "alice", "profile chat").await;
        assert_eq!(chat(&house, &mine.access).await.status, 200);
        let id = house.id("alice").await;
        let url = house.admin_url(&format!("/admin/people/{}", id.as_str().expect("an id")));
        let change = async |method: Method, body: &Value| {
            whole(house.client.request(method, &url).bearer_auth(&house.token).json(body)).await
        };
        assert_eq!(change(method.clone(), &body).await.status, 200);
        assert_eq!(chat(&house, &mine.access).await.status, 401, "{body}");
        assert_eq!(refused(&renew(&house, &app, &mine.refresh).await, 400), "invalid_grant", "{body}");
        if method == Method::PUT {
            assert_eq!(change(method, &json!({"is_blocked": false, "tenant": null})).await.status, 200);
        }
        assert_eq!(refused(&renew(&house, &app, &mine.refresh).await, 400), "invalid_grant", "gone is gone");
        house.people.lock().await.remove("alice");
    }
}

/// Whatever an operator takes from somebody, their apps have no longer than they have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_of_a_person_may_no_more_than_they() {
    let house = open("").await;
    let app = App::register(&house, true).await;
    let url = house.admin_url(&format!("/admin/people/{}", house.id("alice").await.as_str().expect("an id")));
    let change =
        async |body: &Value| whole(house.client.put(&url).bearer_auth(&house.token).json(body)).await.status;
    for less in [json!({"scopes": ["accounts"]}), json!({"models": ["qwen-*"]})] {
        let mine = granted(&house, &app, "alice", "profile chat").await;
        let harmless = granted(&house, &app, "alice", "profile").await;
        assert_eq!(chat(&house, &mine.access).await.status, 200);
        assert_eq!(change(&less).await, 200);
        assert_eq!(chat(&house, &mine.access).await.status, 401, "{less}");
        assert_eq!(refused(&renew(&house, &app, &mine.refresh).await, 400), "invalid_grant", "{less}");
        // What asks no model goes on, and what they agreed to stays.
        assert_eq!(get(&house, &harmless.access, "/api/oauth2/userinfo").await.status, 200);
        tokens(&renew(&house, &app, &harmless.refresh).await);
        house.people.lock().await.remove("alice");
        let grants = house.client.get(house.url("/api/oauth2/grants"));
        let grants = whole(grants.header("cookie", house.cookie("alice").await)).await.json();
        assert_eq!(grants["grants"].as_array().map(Vec::len), Some(1), "{grants}");
        // More, or the same again, ends nothing of theirs.
        assert_eq!(change(&json!({"scopes": null, "models": null})).await, 200);
        house.people.lock().await.remove("alice");
    }
    let mine = granted(&house, &app, "alice", "chat").await;
    assert_eq!(change(&json!({"scopes": ["chat"], "models": null})).await, 200);
    assert_eq!(chat(&house, &mine.access).await.status, 200);
    assert_eq!(change(&json!({"models": [""]})).await, 400);
    assert_eq!(chat(&house, &mine.access).await.status, 200, "what is refused changes nothing");
}

/// A page of any origin asks models with a token that its app was given, as the script for browsers has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_in_a_browser_asks_models() {
    let house = open("").await;
    let app = App::register(&house, true).await;
    let mine = granted(&house, &app, "alice", "chat").await;
    for (path, method) in [
        ("/v1/chat/completions", "POST"),
        ("/chat/completions", "POST"),
        ("/v1/embeddings", "POST"),
        ("/v1/models", "GET"),
        ("/v1/models/gpt-4o", "GET"),
    ] {
        let asked =
            house.client.request(Method::OPTIONS, house.url(path)).header("origin", "https://app.example");
        let asked = asked.header("access-control-request-method", method);
        let allowed =
            whole(asked.header("access-control-request-headers", "authorization,content-type")).await;
        assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (204, "*"), "{path}");
        // An SDK has many of its own beside that one, for which no star stands.
        assert_eq!(allowed.header("access-control-allow-headers"), "authorization, content-type, *");
        assert!(allowed.header("access-control-allow-methods").contains(method), "{path}");
        assert_eq!((allowed.header("access-control-allow-credentials"), allowed.body.len()), ("", 0));
    }
    let body = question("gpt-4o", "hello", false);
    let url = house.url("/v1/chat/completions");
    for (token, status) in [(mine.access.as_str(), 200), ("nonsense", 401)] {
        let asked =
            house.client.post(&url).bearer_auth(token).json(&body).header("origin", "https://app.example");
        let answer = whole(asked).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, "*"));
        let told = answer.header("access-control-expose-headers");
        assert!(told.contains("x-request-id") && told.contains("retry-after"), "{told}");
    }
    let models = house.client.get(house.url("/v1/models")).bearer_auth(&mine.access);
    let models = whole(models.header("origin", "https://app.example")).await;
    assert_eq!((models.status, models.header("access-control-allow-origin")), (200, "*"));
    // Who is no browser is not told; and what is read with cookies, or by operators, is nobody else's.
    assert_eq!(chat(&house, &mine.access).await.header("access-control-allow-origin"), "");
    for url in [house.url("/auth/me"), house.url("/api/v1/oauth/accounts"), house.admin_url("/admin/people")]
    {
        let answer = whole(house.client.get(url).header("origin", "https://app.example")).await;
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    let asked =
        house.client.request(Method::OPTIONS, house.url("/auth/me")).header("origin", "https://evil.example");
    assert_eq!(whole(asked).await.header("access-control-allow-origin"), "");
}

/// RFC 6750, 3.1: who shows nothing is told what to show, and of no error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_nothing_made_no_error() {
    let house = open("").await;
    let bare = whole(house.client.get(house.url("/api/oauth2/userinfo"))).await;
    assert_eq!((bare.status, bare.header("www-authenticate")), (401, r#"Bearer realm="weir""#));
    let wrong = get(&house, "nonsense", "/api/oauth2/userinfo").await;
    assert_eq!(
        (wrong.status, wrong.header("www-authenticate")),
        (401, r#"Bearer realm="weir", error="invalid_token""#)
    );
    for answer in [bare, wrong] {
        assert!(answer.header("access-control-expose-headers").contains("www-authenticate"));
    }
    let chat =
        whole(house.client.post(house.url("/v1/chat/completions")).json(&question("gpt-4o", "hello", false)))
            .await;
    assert_eq!((chat.status, chat.header("www-authenticate")), (401, r#"Bearer realm="weir""#));
}

/// The account's name is for its owner, and not for whom they let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_is_not_told_which_account_answered() {
    let fake = fake().await;
    let fragment = enabled(fake, "").await.replace(ACCOUNTS, OWNED);
    let house = Stage::of(House::start_beside(fake, &fragment, &[]).await);
    let app = App::register(&house, true).await;
    let mine = granted(&house, &app, "alice", "chat").await;
    let answer = chat(&house, &mine.access).await;
    assert_eq!((answer.status, answer.header("x-weir-account")), (200, ""), "{}", answer.text());
    let token = house.client.post(house.url("/auth/token")).header("cookie", house.cookie("alice").await);
    let token = whole(token.header("sec-fetch-site", "same-origin")).await.json();
    let own = chat(&house, token["data"]["token"].as_str().expect("a token")).await;
    assert_eq!((own.status, own.header("x-weir-account")), (200, "of-alpha"), "{}", own.text());
}

const OWNED: &str = "accounts: [{id: of-alpha, platform: openai, api_key: sk-a, owner: alpha}]\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_sees_and_takes_back_what_they_let_in() {
    let house = open("").await;
    let (app, other) = (App::register(&house, true).await, App::register(&house, true).await);
    let mine = granted(&house, &app, "alice", "profile chat").await;
    let others = granted(&house, &other, "alice", "profile").await;
    let bobs = granted(&house, &app, "bob", "profile").await;
    let list = async |subject: &str| {
        whole(house.client.get(house.url("/api/oauth2/grants")).header("cookie", house.cookie(subject).await))
            .await
    };
    let listed = list("alice").await.json();
    let ids: Vec<&str> = listed["grants"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["client_id"].as_str())
        .collect();
    assert!(ids.len() == 2 && ids.contains(&app.id.as_str()), "{listed}");
    assert!(!listed.to_string().contains(&mine.refresh) && !listed.to_string().contains("secret"));
    assert_eq!(whole(house.client.get(house.url("/api/oauth2/grants"))).await.status, 401);
    let visit = async |subject: &str| {
        whole(house.client.get(house.url("/account/apps")).header("cookie", house.cookie(subject).await))
            .await
    };
    let page = visit("alice").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("App &lt;i&gt;one") && page.text().contains(&app.id));
    assert!(page.header("content-security-policy").contains("frame-ancestors 'none'"));
    assert_eq!(whole(house.client.get(house.url("/account/apps"))).await.status, 303, "to sign in");
    let ticket = hidden(&page, "ticket");
    let send = async |who: Option<&str>, site: &str, ticket: &str, id: &str| {
        let mut request = house.client.post(house.url("/account/apps")).header("sec-fetch-site", site);
        if let Some(who) = who {
            request = request.header("cookie", house.cookie(who).await);
        }
        whole(request.form(&[("ticket", ticket), ("client_id", id)])).await.status
    };
    let bobs_ticket = hidden(&visit("bob").await, "ticket");
    assert_eq!(send(Some("alice"), "cross-site", &ticket, &app.id).await, 403);
    assert_eq!(send(Some("alice"), "same-origin", &bobs_ticket, &app.id).await, 403);
    assert_eq!(send(Some("alice"), "same-origin", "guess", &app.id).await, 403);
    let foreign = house
        .client
        .delete(house.url(&format!("/api/oauth2/grants/{}", app.id)))
        .header("cookie", house.cookie("alice").await);
    assert_eq!(whole(foreign.header("sec-fetch-site", "cross-site")).await.status, 403);
    assert_eq!(get(&house, &mine.access, "/api/oauth2/userinfo").await.status, 200);
    assert_eq!(send(Some("alice"), "same-origin", &ticket, &app.id).await, 303);
    assert_eq!(get(&house, &mine.access, "/api/oauth2/userinfo").await.status, 401);
    assert_eq!(refused(&renew(&house, &app, &mine.refresh).await, 400), "invalid_grant");
    for alive in [&others, &bobs] {
        assert_eq!(get(&house, &alive.access, "/api/oauth2/userinfo").await.status, 200);
    }
    assert_eq!(list("alice").await.json()["grants"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_see_their_own_apps_and_operators_all_that_was_done() {
    let house = open("").await;
    let (app, _) = (App::register(&house, true).await, App::register(&house, true).await);
    granted(&house, &app, "alice", "profile").await;
    let path = format!("/api/oauth2/grants/{}", app.id);
    let back = house.client.delete(house.url(&path)).header("cookie", house.cookie("alice").await);
    assert_eq!(whole(back).await.status, 200);
    for (method, path) in
        [(Method::DELETE, format!("/{}", app.id)), (Method::POST, format!("/{}/secret", app.id))]
    {
        assert_eq!(developer(&house, "stranger", method, &path, None).await.status, 404);
    }
    assert_eq!(success(&developer(&house, "stranger", Method::GET, "", None).await), json!([]));
    assert_eq!(
        success(&developer(&house, "dev", Method::GET, "", None).await).as_array().map(Vec::len),
        Some(2)
    );
    let audit = house.admin(Method::GET, "/admin/audit").await.text();
    for act in ["app.registered", "app.authorized", "grant.created", "grant.taken_back", "issuer.key_made"] {
        assert!(audit.contains(act), "no {act} in {audit}");
    }
    let verified = house.admin(Method::GET, "/admin/audit/verify").await.json();
    assert_eq!(verified["broken"], Value::Null, "{verified}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_replaced_while_tokens_live_and_a_reload_shuts_the_door() {
    let mut house = open("").await;
    let app = App::register(&house, true).await;
    let mine = granted(&house, &app, "alice", "chat").await;
    let (done, said) = house.run(&["provider", "rotate-key"]).await;
    assert!(done, "{said}");
    let (done, said) = house.run(&["vault", "rotate"]).await;
    assert!(done, "{said}");
    assert_eq!(chat(&house, &mine.access).await.status, 200);
    let jwks: Value = whole(house.client.get(house.url("/.well-known/jwks.json"))).await.json();
    assert_eq!(jwks["keys"].as_array().map(Vec::len), Some(2), "{jwks}");
    house.kill().await;
    house.restart().await;
    assert_eq!(chat(&house, &mine.access).await.status, 200, "known to the next process");
    let next = tokens(&renew(&house, &app, &mine.refresh).await);
    // Off: nothing is served, and no app's token is taken any more.
    house.write(&format!("{ACCOUNTS}oauth: {{public_url: \"https://weir.test\"}}\n"));
    until("the new configuration", async || chat(&house, &next.access).await.status == 401).await;
    for path in [
        "/.well-known/oauth-authorization-server",
        "/api/oauth2/authorize",
        "/api/oauth2/grants",
        "/account/apps",
    ] {
        assert_eq!(whole(house.client.get(house.url(path))).await.status, 404, "{path}");
    }
    assert_eq!(renew(&house, &app, &next.refresh).await.status, 404);
    let again = enabled(house.fake, "").await;
    house.write(&again);
    until("on again", async || chat(&house, &next.access).await.status == 200).await;
}

/// Codes, tokens, secrets, cookies and tickets: in no log line however talkative, in no audit entry, in no metric.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_opens_anything_is_written_down() {
    let house = open("log: {level: \"trace\", format: json}\n").await;
    let mut canaries = Canaries::default();
    let mut seen = Vec::new();
    let app = App::register(&house, false).await;
    canaries.watch("client secret", app.secret.as_deref().expect("a secret"));
    let page = visit(&house, Some("alice"), &asking(&app, "profile chat", &challenge())).await;
    canaries.watch("ticket", &hidden(&page, "ticket"));
    let session = house.cookie("alice").await;
    canaries.watch("cookie", session.rsplit('.').next().expect("a secret"));
    canaries.watch("verifier", VERIFIER);
    let fresh = code(&house, &house, &app, "alice", "profile chat").await;
    canaries.watch("code", &fresh);
    let mine = tokens(&trade(&house, &app, &fresh).await);
    let next = tokens(&renew(&house, &app, &mine.refresh).await);
    for (name, token) in [("first", &mine), ("second", &next)] {
        canaries
            .watch(&format!("{name} access token"), token.access.rsplit('.').next().expect("a signature"));
        for half in token.refresh.rsplit('~').take(2) {
            canaries.watch(&format!("{name} refresh token"), half);
        }
    }
    chat(&house, &next.access).await;
    get(&house, &next.access, "/api/oauth2/userinfo").await;
    // Whatever can go wrong with them.
    seen.push(trade(&house, &app, &fresh).await);
    seen.push(renew(&house, &app, &mine.refresh).await);
    seen.push(chat(&house, &next.access).await);
    let secret = app.secret.clone().expect("a secret");
    seen.push(
        whole(house.client.post(house.url(&format!("/api/oauth2/token?client_secret={secret}")))).await,
    );
    seen.push(
        whole(
            house
                .client
                .post(house.url("/api/oauth2/token"))
                .basic_auth(&app.id, Some(&format!("{secret}x"))),
        )
        .await,
    );
    seen.push(whole(house.client.get(house.url("/api/oauth2/nothing")).bearer_auth(&next.access)).await);
    seen.push(post(&house, "introspect", &[("token", &next.refresh), ("client_id", &app.id)]).await);
    seen.push(house.admin(Method::GET, "/admin/audit").await);
    seen.push(house.admin(Method::GET, "/admin/oauth_apps").await);
    seen.push(house.admin(Method::GET, "/metrics").await);
    for answer in &seen {
        canaries.must_not_be_in("an answer", &answer.body);
    }
    let log = house.log();
    assert!(log.contains("grant.code_replayed"), "the operator is told: {log}");
    canaries.must_not_be_in("the log", log.as_bytes());
}
