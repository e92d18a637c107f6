//! What somebody owns who is kept out or removed: accounts that live on their consent, and apps that others have let in. On one gateway
//! and on two that share a Redis, with a crash in between.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::sleep;
use url::Url;

use super::browser::{Browser, doors, person_of, register, tell, token_of};
use super::house::{Answer, House, question, start_fake, until, whole};
use super::idp::{Idp, Returning, accounts, agree, ask, data};
use super::replicas::Redis;

const URL: &str = "https://weir.test";
pub const BACK: &str = "https://app.example/cb";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// Everybody's, so that an app's questions are answered whoever is kept out.
const SHARED: &str = "accounts: [{id: a, platform: openai, api_key: sk-a}]\n";

/// People sign in by GitHub; accounts of the platform `house` come by a provider that takes tokens back.
async fn fragment(fake: SocketAddr, sign_in: &str) -> String {
    let doors = doors(fake, &["github", "oidc"], Some(URL), sign_in).await;
    let secret = "\"client_secret\":\"secret-oidc\"";
    assert!(doors.contains(secret), "{doors}");
    let account = "\"says_issuer\": true, \"scopes\": [\"openid\", \"profile\", \"offline_access\"], \
                   \"person\": {\"subject\": [[\"sub\"]]}, \"account\": {\"platform\": \"house\", \"flows\": [\"code\", \"device\"]}";
    let doors = doors.replace(secret, &format!("{secret}, {account}"));
    let house = format!(
        "platforms:\n  house: {{dialect: openai, base_url: \"http://{fake}/doubao/api/v3\", auth: bearer, models: [doubao-seed-2-1-pro-260915]}}\n"
    );
    format!("{SHARED}{doors}{house}provider: {{enabled: true}}\n")
}

async fn told_fake() -> SocketAddr {
    let fake = start_fake("");
    register(fake, &["github"], URL).await;
    let uris: Vec<String> = ["/api/v1/oauth/callback", "/api/v1/oauth/callback/oidc"]
        .iter()
        .map(|path| format!("{URL}{path}"))
        .collect();
    let client = json!({"client_id": "weir-oidc", "client_secret": "secret-oidc", "redirect_uris": uris});
    tell(fake, "oidc", "clients", &client).await;
    tell(fake, "oidc", "settings", &json!({"auto": "ann"})).await;
    fake
}

pub async fn open(sign_in: &str) -> House {
    let fake = told_fake().await;
    House::start_beside(fake, &fragment(fake, sign_in).await, &[]).await
}

async fn two() -> (Redis, House, House) {
    let redis = Redis::start(&[]);
    let fake = told_fake().await;
    let fragment = format!("{}{}", redis.store(), fragment(fake, "").await);
    let one = House::start_beside(fake, &fragment, &[]).await;
    let other = House::start_beside(fake, &fragment, &[]).await;
    (redis, one, other)
}

/// Somebody who is signed in.
pub struct Person {
    pub browser: Browser,
    pub id: String,
    pub token: String,
}

impl Person {
    pub async fn comes(house: &House, name: &str) -> Self {
        let browser = Browser::new(house);
        let landed = browser.sign_in_as("github", name).await;
        Self { browser, id: person_of(&landed), token: token_of(&landed) }
    }

    /// Who is not signed in, and may be given a token.
    pub fn nobody(house: &House) -> Self {
        Self { browser: Browser::new(house), id: String::new(), token: String::new() }
    }

    /// Begins an account by consent and agrees: whoever comes back has it.
    pub async fn agrees(&self, house: &House, name: &str) -> Returning {
        let back = agree(house, &self.token, json!({"platform": "house", "account_name": name})).await;
        Returning { address: back.address.replace(URL, &house.url("")), ..back }
    }

    pub async fn consents(&self, house: &House, name: &str) -> String {
        let landed = self.agrees(house, name).await.come_back(house).await;
        data(&landed)["id"].as_str().expect("an id").to_owned()
    }

    /// An account by a key.
    pub async fn adds(&self, house: &House, name: &str) -> String {
        let key = json!({"platform": "openai", "account_name": name, "api_key": format!("sk-{name}")});
        let added = ask(house, &self.token, "POST", "/api/v1/oauth/accounts", Some(&key)).await;
        data(&added)["id"].as_str().expect("an id").to_owned()
    }

    /// An app, and its secret.
    pub async fn registers(&self, house: &House, name: &str) -> App {
        let new = json!({"name": name, "redirect_uris": [BACK]});
        let app = ask(house, &self.token, "POST", "/api/oauth_apps", Some(&new)).await;
        assert_eq!(app.status, 200, "{}", app.text());
        let text = |name: &str| app.json()["data"][name].as_str().expect("text").to_owned();
        App { id: text("client_id"), secret: text("client_secret") }
    }

    /// Lets an app in: a code for it.
    pub async fn lets_in(&self, house: &House, app: &App) -> String {
        let page = self.browser.at(house).open(&app.authorize()).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let (_, rest) = page
            .text()
            .split_once("name=\"ticket\" value=\"")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("a ticket");
        let ticket = rest.split('"').next().expect("its end").to_owned();
        let said = self
            .browser
            .at(house)
            .submit("/api/oauth2/authorize", &[("ticket", &ticket), ("answer", "yes")])
            .await;
        let to = Url::parse(&Browser::led(&said)).expect("a URL");
        let code = to.query_pairs().find(|(name, _)| name == "code");
        code.unwrap_or_else(|| panic!("no code in {to}")).1.into_owned()
    }
}

pub struct App {
    pub id: String,
    pub secret: String,
}

impl App {
    fn authorize(&self) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("client_id", self.id.as_str()),
                ("redirect_uri", BACK),
                ("response_type", "code"),
                ("state", "s"),
                ("scope", "profile chat"),
                ("code_challenge", &challenge),
                ("code_challenge_method", "S256"),
            ])
            .finish();
        format!("/api/oauth2/authorize?{query}")
    }

    pub async fn post(&self, house: &House, path: &str, more: &[(&str, &str)]) -> Answer {
        let mut form = vec![("client_id", self.id.as_str()), ("client_secret", self.secret.as_str())];
        form.extend(more);
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = house.client.post(house.url(&format!("/api/oauth2/{path}"))).body(body);
        whole(request.header("content-type", "application/x-www-form-urlencoded")).await
    }

    pub async fn trades(&self, house: &House, code: &str) -> Answer {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", BACK),
            ("code_verifier", VERIFIER),
        ];
        self.post(house, "token", &form).await
    }

    pub async fn renews(&self, house: &House, refresh: &str) -> Answer {
        self.post(house, "token", &[("grant_type", "refresh_token"), ("refresh_token", refresh)]).await
    }
}

/// The access and the refresh token of an answer.
pub fn tokens(answer: &Answer) -> (String, String) {
    let body = answer.json();
    assert_eq!(answer.status, 200, "{body}");
    let text = |name: &str| body[name].as_str().expect(name).to_owned();
    (text("access_token"), text("refresh_token"))
}

/// The OAuth error of a refusal.
pub fn refused(answer: &Answer) -> (u16, String) {
    let error = answer.json()["error"].as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned();
    (answer.status, error)
}

pub async fn chats(house: &House, token: &str, model: &str) -> u16 {
    let body = question(model, "hello", false);
    whole(house.client.post(house.url("/v1/chat/completions")).bearer_auth(token).json(&body)).await.status
}

/// The operators' view of the accounts of a tenant.
pub async fn listed(house: &House, tenant: &str) -> Vec<Value> {
    let all = house.admin(Method::GET, "/admin/accounts").await.json();
    let all = all["accounts"].as_array().expect("a list").clone();
    all.into_iter().filter(|account| account["owner"] == tenant).collect()
}

pub async fn apps(house: &House) -> usize {
    let all = house.admin(Method::GET, "/admin/oauth_apps").await.json();
    all["apps"].as_array().expect("a list").len()
}

/// What the audit log says was done to what.
pub async fn acts(house: &House) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all = Vec::new();
    let mut path = "/admin/audit".to_owned();
    loop {
        let page = house.admin(Method::GET, &path).await.json();
        let entries = page["entries"].as_array().expect("entries");
        all.extend(entries.iter().map(|one| (text(&one["what"]), text(&one["on"]), text(&one["note"]))));
        match page["next"].as_u64() {
            Some(next) => path = format!("/admin/audit?after={next}"),
            None => return all,
        }
    }
}

pub async fn put(house: &House, person: &str, change: Value) {
    let request = house.client.put(house.admin_url(&format!("/admin/people/{person}")));
    let answer = whole(request.bearer_auth(&house.token).json(&change)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// How many of the provider's consents are alive.
pub async fn alive(house: &House) -> u64 {
    Idp::of(house, "oidc").books().await["families"]["alive"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_removed_person_owned_goes_with_them() {
    let (_redis, one, other) = two().await;
    let ann = Person::comes(&one, "ann").await;
    let bob = Person::comes(&one, "bob").await;
    let (by_consent, by_key) = (ann.consents(&one, "mine").await, ann.adds(&one, "k").await);
    let theirs = bob.adds(&one, "b").await;
    let (app, his) = (ann.registers(&one, "hers").await, bob.registers(&one, "his").await);
    let (access, refresh) = tokens(&app.trades(&other, &bob.lets_in(&one, &app).await).await);
    let (kept, _) = tokens(&his.trades(&one, &bob.lets_in(&one, &his).await).await);
    for house in [&one, &other] {
        assert_eq!(chats(house, &access, "gpt-4o").await, 200);
        until("both accounts", async || listed(house, &ann.id).await.len() == 2).await;
    }
    // A sign-in that is under way when she is removed.
    let late = ann.agrees(&one, "late").await;
    let gone = one.admin(Method::DELETE, &format!("/admin/people/{}", ann.id)).await;
    assert_eq!((gone.status, &gone.json()["is_done"]), (200, &json!(true)), "{}", gone.text());
    assert!(listed(&one, &ann.id).await.is_empty(), "nothing of hers is in the pool");
    assert_eq!(alive(&one).await, 0, "and her consent has ended where it was given");
    assert_eq!((chats(&one, &access, "gpt-4o").await, apps(&one).await), (401, 1));
    assert_eq!(refused(&app.renews(&one, &refresh).await), (401, "invalid_client".to_owned()));
    until("the other hears of it", async || {
        listed(&other, &ann.id).await.is_empty() && chats(&other, &access, "gpt-4o").await == 401
    })
    .await;
    let grants =
        whole(one.client.get(one.url("/api/oauth2/grants")).header("cookie", bob.browser.cookies())).await;
    assert!(!grants.text().contains(&app.id) && grants.text().contains(&his.id), "{}", grants.text());
    let acts_of = acts(&one).await;
    let done = |what: &str, on: &str| acts_of.iter().filter(|act| act.0 == what && act.1 == on).count();
    for account in [&by_consent, &by_key] {
        assert_eq!(done("account.removed", account), 1, "{acts_of:?}");
    }
    assert!(acts_of.iter().any(|act| act.1 == by_consent && act.2.ends_with("its token was revoked")));
    assert_eq!((done("app.deleted", &app.id), done("person.removed", &ann.id)), (1, 1));
    let again = one.admin(Method::DELETE, &format!("/admin/people/{}", ann.id)).await;
    assert_eq!(again.status, 404, "{}", again.text());
    // Nobody else's.
    assert_eq!((chats(&one, &kept, "gpt-4o").await, chats(&one, &bob.token, "gpt-4o").await), (200, 200));
    assert_eq!(listed(&one, &bob.id).await[0]["id"], json!(theirs));
    // What arrives afterwards goes as well, and serves nobody meanwhile.
    let landed = data(&late.come_back(&one).await);
    until("the late one is given up", async || {
        listed(&other, &ann.id).await.is_empty() && alive(&one).await == 0
    })
    .await;
    let id = landed["id"].as_str().expect("an id");
    let acts = acts(&one).await;
    assert!(acts.iter().any(|act| act.0 == "account.removed" && act.1 == id), "{acts:?}");
    assert_eq!(one.admin(Method::GET, "/admin/audit/verify").await.json()["broken"], Value::Null);
    // Should she come again, she is somebody new with nothing.
    let back = Person::comes(&other, "ann").await;
    assert!(back.id != ann.id && accounts(&other, &back.token).await.is_empty());
}

/// Killed while the provider is asked to forget a token: whoever starts next, or an operator who asks once more, finishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_is_cut_short_is_finished() {
    for asks_again in [false, true] {
        let mut house = open("").await;
        let idp = Idp::of(&house, "oidc");
        let ann = Person::comes(&house, "ann").await;
        for (name, whose) in [("one", "ann"), ("two", "bob")] {
            idp.tell("settings", json!({"auto": whose})).await;
            ann.consents(&house, name).await;
        }
        ann.adds(&house, "k").await;
        ann.registers(&house, "hers").await;
        idp.tell("faults", json!({"on": "revoke", "hang_s": 60, "times": 1})).await;
        let path = format!("/admin/people/{}", ann.id);
        let (url, token, client) = (house.admin_url(&path), house.token.clone(), house.client.clone());
        let asked = tokio::spawn(async move { drop(client.delete(url).bearer_auth(token).send().await) });
        until("the provider is asked", async || idp.asked("revoke").await == 1).await;
        house.kill().await;
        drop(asked.await);
        house.restart().await;
        assert_eq!(house.admin(Method::GET, &path).await.status, 404, "she herself is gone");
        assert!(!listed(&house, &ann.id).await.is_empty(), "it was cut short");
        if asks_again {
            let gone = house.admin(Method::DELETE, &path).await;
            assert_eq!((gone.status, &gone.json()["is_done"]), (200, &json!(true)), "{}", gone.text());
            assert!(listed(&house, &ann.id).await.is_empty());
        }
        until("all of it is given up", async || {
            listed(&house, &ann.id).await.is_empty() && alive(&house).await == 0 && apps(&house).await == 0
        })
        .await;
    }
}

/// For as long as somebody is kept out, and not a moment longer.
async fn what_a_blocked_person_owns_rests(one: &House, other: &House) {
    let ann = Person::comes(one, "ann").await;
    let bob = Person::comes(one, "bob").await;
    let account = ann.consents(one, "mine").await;
    let (app, his) = (ann.registers(one, "hers").await, bob.registers(one, "his").await);
    let (access, refresh) = tokens(&app.trades(one, &bob.lets_in(one, &app).await).await);
    let (kept, _) = tokens(&his.trades(one, &bob.lets_in(one, &his).await).await);
    let new = json!({"tenant": ann.id, "name": "k", "scopes": ["chat"]});
    let key = one.client.post(one.admin_url("/admin/keys")).bearer_auth(&one.token).json(&new);
    let key = whole(key).await.json()["key"].as_str().expect("a key").to_owned();
    let hers = "house/doubao-seed-2-1-pro-260915";
    until("it serves everywhere", async || {
        chats(one, &key, hers).await == 200 && chats(other, &key, hers).await == 200
    })
    .await;
    let code = bob.lets_in(one, &app).await;
    put(one, &ann.id, json!({"is_blocked": true})).await;
    assert_eq!(chats(one, &access, "gpt-4o").await, 401, "remembered, and refused at once");
    assert_ne!(chats(one, &key, hers).await, 200, "her account is not chosen");
    until("the other hears of it", async || {
        chats(other, &access, "gpt-4o").await == 401 && chats(other, &key, hers).await != 200
    })
    .await;
    for house in [one, other] {
        assert_eq!(refused(&app.renews(house, &refresh).await), (400, "unauthorized_client".to_owned()));
        assert_eq!(refused(&app.trades(house, &code).await), (400, "unauthorized_client".to_owned()));
        let page = bob.browser.at(house).open(&app.authorize()).await;
        assert!(page.status == 400 && page.text().contains("out of use"), "{}", page.text());
        let info = whole(house.client.get(house.url("/api/oauth2/userinfo")).bearer_auth(&access)).await;
        assert_eq!(info.status, 401);
        assert_eq!(chats(house, &kept, "gpt-4o").await, 200, "somebody else's app goes on");
        let account_now = listed(house, &ann.id).await.remove(0);
        assert_eq!(
            (&account_now["is_owner_kept_out"], &account_now["is_enabled"]),
            (&json!(true), &json!(true))
        );
    }
    // Whatever an operator switches meanwhile.
    for _ in 0..2 {
        let path = format!("/admin/accounts/{account}/toggle");
        assert_eq!(whole(one.client.put(one.admin_url(&path)).bearer_auth(&one.token)).await.status, 200);
        assert_ne!(chats(one, &key, hers).await, 200);
    }
    assert_eq!((alive(one).await, apps(one).await), (1, 2), "nothing is gone");
    put(other, &ann.id, json!({"is_blocked": false})).await;
    assert_eq!((chats(other, &access, "gpt-4o").await, chats(other, &key, hers).await), (200, 200));
    until("the first hears of it", async || {
        chats(one, &access, "gpt-4o").await == 200 && chats(one, &key, hers).await == 200
    })
    .await;
    tokens(&app.renews(one, &refresh).await);
    tokens(&app.trades(one, &code).await);
    assert_eq!(listed(one, &ann.id).await[0]["is_owner_kept_out"], json!(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_blocked_person_owns_rests_in_a_redis() {
    let (_redis, one, other) = two().await;
    what_a_blocked_person_owns_rests(&one, &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_blocked_person_owns_rests_in_a_file_and_after_a_start() {
    let mut house = open("").await;
    what_a_blocked_person_owns_rests(&house, &house).await;
    let ann = Person::comes(&house, "ann").await;
    let bob = Person::comes(&house, "bob").await;
    let app = ann.registers(&house, "more").await;
    let (access, _) = tokens(&app.trades(&house, &bob.lets_in(&house, &app).await).await);
    put(&house, &ann.id, json!({"is_blocked": true})).await;
    house.kill().await;
    house.restart().await;
    assert_eq!(chats(&house, &access, "gpt-4o").await, 401, "from the first request on");
    put(&house, &ann.id, json!({"is_blocked": false})).await;
    assert_eq!(chats(&house, &access, "gpt-4o").await, 200);
    // Others were put on her tenant: what it has is not hers alone, and stays.
    ann_of(&house, &bob, &Person::comes(&house, "ann").await).await;
}

async fn ann_of(house: &House, bob: &Person, ann: &Person) {
    put(house, &bob.id, json!({"tenant": ann.id})).await;
    let account = ann.adds(house, "shared").await;
    put(house, &ann.id, json!({"is_blocked": true})).await;
    let find = async || listed(house, &ann.id).await.into_iter().find(|one| one["id"] == account.as_str());
    assert_eq!(find().await.expect("it is there")["is_owner_kept_out"], json!(false));
    let gone = house.admin(Method::DELETE, &format!("/admin/people/{}", ann.id)).await;
    assert_eq!((gone.status, &gone.json()["is_done"]), (200, &json!(true)), "{}", gone.text());
    sleep(Duration::from_secs(7)).await;
    assert!(find().await.is_some(), "somebody else lives on it");
}
