//! The simulated OAuth servers against their vendors' facts, through a real listener.

mod devices;
mod faulty;
mod issuer;
mod pages;
mod platforms;
mod quirks;
mod refreshes;
mod sites;
mod strict;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::fake::tests::{Fake, Reply, request};

/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Where the tests' client wants to be sent back to.
const BACK: &str = "https://gw.example/cb";

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn encoded(pairs: Pairs<'_>) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// One provider, with a client `app` / `s3cret` that a test registered, and `ann` who consents without pages.
struct Idp {
    fake: Fake,
    name: &'static str,
}

/// Authorize path, token path, userinfo path.
fn paths(name: &str) -> (&'static str, &'static str, &'static str) {
    match name {
        "github" => ("/login/oauth/authorize", "/login/oauth/access_token", "/user"),
        "google" => ("/o/oauth2/v2/auth", "/token", "/v1/userinfo"),
        "gitee" => ("/oauth/authorize", "/oauth/token", "/api/v5/user"),
        "oschina" => ("/action/oauth2/authorize", "/action/openapi/token", "/action/openapi/user"),
        "linuxdo" => ("/oauth2/authorize", "/oauth2/token", "/api/user"),
        "feishu" => ("/open-apis/authen/v1/authorize", "/oauth/v3/token", "/open-apis/authen/v1/user_info"),
        "wechat-open" => ("/connect/qrconnect", "/sns/oauth2/access_token", "/sns/userinfo"),
        "wechat-mp" => ("/connect/oauth2/authorize", "/sns/oauth2/access_token", "/sns/userinfo"),
        "huggingface" => ("/oauth/authorize", "/oauth/token", "/oauth/userinfo"),
        "oidc" => ("/authorize", "/token", "/userinfo"),
        "qwen" => ("", "/api/v1/oauth2/token", ""),
        "aihubmix" => ("/api/oauth2/authorize", "/api/oauth2/token", "/api/oauth2/userinfo"),
        other => panic!("{other}"),
    }
}

/// All with an authorize page.
const WITH_PAGES: [&str; 11] = [
    "github",
    "google",
    "gitee",
    "oschina",
    "linuxdo",
    "feishu",
    "wechat-open",
    "wechat-mp",
    "huggingface",
    "oidc",
    "aihubmix",
];

/// Scopes that a client would ask for.
fn scopes(name: &str) -> &'static str {
    match name {
        "github" => "read:user user:email",
        "google" => "openid email profile",
        "gitee" => "user_info emails",
        "feishu" => "contact:user.base:readonly offline_access",
        "wechat-open" => "snsapi_login",
        "wechat-mp" => "snsapi_userinfo",
        "huggingface" => "openid profile email inference-api",
        "oidc" => "openid profile email offline_access",
        "aihubmix" => "profile balance",
        _ => "",
    }
}

impl Idp {
    async fn new(name: &'static str) -> Self {
        let idp = Self { fake: Fake::start().await, name };
        let client = json!({"client_id":"app","client_secret":"s3cret","redirect_uris":[BACK]});
        idp.set("clients", client).await;
        // An RSA key takes a third of a second to make; only the tests about keys wait for one.
        let settings = json!({"auto":"ann","resource_url":"http://127.0.0.1:1/qwen","alg":"ES256"});
        idp.set("settings", settings).await;
        idp
    }

    /// A control call.
    async fn set(&self, action: &str, body: Value) -> Value {
        let reply = self.fake.post(&format!("/_fake/idp/{}/{action}", self.name), &[], &body).await;
        assert_eq!(reply.status, 200, "{action}: {}", reply.text());
        reply.json()
    }

    async fn report(&self) -> Value {
        self.fake.get(&format!("/_fake/idp/{}", self.name), &[]).await.json()
    }

    fn wechat(&self) -> bool {
        self.name.starts_with("wechat")
    }

    /// GETs below the provider.
    async fn get(&self, path: &str, headers: Pairs<'_>) -> Reply {
        self.fake.get(&format!("/idp/{}{path}", self.name), headers).await
    }

    async fn form(&self, path: &str, headers: Pairs<'_>, pairs: Pairs<'_>) -> Reply {
        let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        let path = format!("/idp/{}{path}", self.name);
        self.fake.send(request("POST", &path, &all, encoded(pairs))).await.unwrap()
    }

    /// The link to the authorize page, with the usual parameters; `more` replaces, and removes where empty.
    fn link(&self, more: Pairs<'_>) -> String {
        let id = if self.wechat() { "appid" } else { "client_id" };
        let usual = [
            (id, "app"),
            ("redirect_uri", BACK),
            ("response_type", "code"),
            ("scope", scopes(self.name)),
            ("state", "st&te="),
        ];
        let replaced = |name: &str| more.iter().any(|(other, _)| *other == name);
        let mut pairs: Vec<_> = usual.into_iter().filter(|(name, _)| !replaced(name)).collect();
        pairs.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        format!("{}?{}", paths(self.name).0, encoded(&pairs))
    }

    /// The way back.
    async fn authorize(&self, more: Pairs<'_>) -> Vec<(String, String)> {
        let reply = self.get(&self.link(more), &[]).await;
        assert_eq!(reply.status, 302, "{}: {}", self.name, reply.text());
        let place = url::Url::parse(reply.header("location")).unwrap();
        assert!(reply.header("location").starts_with(BACK), "{place}");
        place.query_pairs().into_owned().collect()
    }

    async fn code(&self, more: Pairs<'_>) -> String {
        value(&self.authorize(more).await, "code")
    }

    /// A token request, the vendor's way; `client` are id and secret, empty where there is none.
    async fn token_as(&self, client: (&str, &str), pairs: Pairs<'_>) -> Reply {
        let path = paths(self.name).1;
        let mut all: Vec<(&str, &str)> = pairs.to_vec();
        let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", client.0, client.1)));
        let json_too = ("accept", "application/json");
        match self.name {
            "linuxdo" => return self.form(path, &[("authorization", &basic)], &all).await,
            "wechat-open" | "wechat-mp" => {
                all.retain(|(name, _)| *name != "redirect_uri");
                all.push(("appid", client.0));
                let refreshes = pairs.contains(&("grant_type", "refresh_token"));
                let path = if refreshes { "/sns/oauth2/refresh_token" } else { path };
                if !refreshes {
                    all.push(("secret", client.1));
                }
                return self.get(&format!("{path}?{}", encoded(&all)), &[]).await;
            }
            _ => {}
        }
        all.push(("client_id", client.0));
        if !client.1.is_empty() {
            all.push(("client_secret", client.1));
        }
        if self.name == "feishu" {
            let members: serde_json::Map<String, Value> =
                all.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
            let path = format!("/idp/feishu{path}");
            let kind = [("content-type", "application/json; charset=utf-8")];
            let body = Value::Object(members).to_string();
            return self.fake.send(request("POST", &path, &kind, body)).await.unwrap();
        }
        self.form(path, &[json_too], &all).await
    }

    async fn token(&self, pairs: Pairs<'_>) -> Reply {
        self.token_as(("app", "s3cret"), pairs).await
    }

    async fn exchange(&self, code: &str) -> Reply {
        self.token(&[("grant_type", "authorization_code"), ("code", code), ("redirect_uri", BACK)]).await
    }

    async fn refresh(&self, token: &str) -> Reply {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    /// Tokens of a whole flow.
    async fn grant(&self, more: Pairs<'_>) -> Value {
        let reply = self.exchange(&self.code(more).await).await;
        let told = reply.json();
        assert!(told["access_token"].is_string(), "{}: {}", self.name, reply.text());
        told
    }

    /// Userinfo, the vendor's way.
    async fn who(&self, grant: &Value) -> Reply {
        let token = grant["access_token"].as_str().unwrap();
        let path = paths(self.name).2;
        if self.wechat() {
            let openid = grant["openid"].as_str().unwrap();
            let query = encoded(&[("access_token", token), ("openid", openid), ("lang", "zh_CN")]);
            return self.get(&format!("{path}?{query}"), &[]).await;
        }
        self.get(path, &[("authorization", &format!("Bearer {token}")), ("user-agent", "t")]).await
    }
}

fn value(pairs: &[(String, String)], name: &str) -> String {
    let mut found = pairs.iter().filter(|(known, _)| known == name);
    let first = found.next().unwrap_or_else(|| panic!("no {name} in {pairs:?}")).1.clone();
    assert!(found.next().is_none(), "{name} twice in {pairs:?}");
    first
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}
