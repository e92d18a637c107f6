//! A browser, and the simulated providers by which the person before it signs in. Why a jar of its own: which cookies go where is
//! half of what sign-in is about.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::Method;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use url::Url;

use super::house::{Answer, House, whole};

/// Every provider by which people sign in.
pub const DOORS: [&str; 10] = [
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
];

fn client() -> reqwest::Client {
    super::house::client().build().expect("a client")
}

/// The configuration's `oauth` and `sign_in`, with these providers at the simulated ones. `oidc` is no more than an issuer's
/// address. `public_url`: where browsers reach the gateway, if not where it listens. `more` goes into `sign_in`.
pub async fn doors(fake: SocketAddr, names: &[&str], public_url: Option<&str>, more: &str) -> String {
    let places = whole(client().get(format!("http://{fake}/_fake/idp"))).await.json();
    let mut providers = Map::new();
    for name in names {
        let places = &places[name];
        let mut row = json!({"client_id": format!("weir-{name}"), "client_secret": format!("secret-{name}")});
        let has_tokens = places["jwks"].is_string();
        let members: &[(&str, &str)] = match *name {
            "oidc" => &[("issuer", "issuer")],
            "github" => &[("emails", "emails_url")],
            _ if has_tokens => &[("issuer", "issuer"), ("jwks", "jwks_url")],
            _ => &[],
        };
        let usual = [
            ("authorize", "authorize_url"),
            ("token", "token_url"),
            ("refresh", "refresh_url"),
            ("userinfo", "userinfo_url"),
        ];
        let usual = usual.iter().filter(|_| *name != "oidc");
        for (theirs, ours) in usual.chain(members) {
            if let Some(place) = places[theirs].as_str() {
                row[ours] = json!(place);
            }
        }
        providers.insert((*name).to_owned(), row);
    }
    let url = public_url.map_or_else(String::new, |url| format!("public_url: \"{url}\", "));
    let admit = if more.contains("admit:") { "" } else { ", admit: [\"*\"]" };
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    format!(
        "oauth: {{{url}return_to: [\"https://console.example\"], providers: {}}}\nsign_in: {{providers: {}{admit}{more}}}\n",
        Value::Object(providers),
        json!(names)
    )
}

/// Tells the simulated providers where a gateway's callbacks are.
pub async fn register(fake: SocketAddr, names: &[&str], url: &str) {
    for name in names {
        let client = json!({
            "client_id": format!("weir-{name}"),
            "client_secret": format!("secret-{name}"),
            "redirect_uris": [format!("{url}/auth/{name}/callback")],
        });
        tell(fake, name, "clients", &client).await;
    }
}

/// Tells a simulated provider something.
pub async fn tell(fake: SocketAddr, name: &str, what: &str, body: &Value) {
    let told = whole(client().post(format!("http://{fake}/_fake/idp/{name}/{what}")).json(body)).await;
    assert_eq!(told.status, 200, "{}", told.text());
}

/// What a simulated provider has seen.
pub async fn seen(fake: SocketAddr, name: &str) -> Value {
    whole(client().get(format!("http://{fake}/_fake/idp/{name}"))).await.json()
}

/// A gateway on which people sign in by these providers, each of which sends `ann` back without asking her.
pub async fn open(names: &[&str], fragment: &str, more: &str) -> House {
    let fake = super::house::start_fake("");
    let house =
        House::start_beside(fake, &format!("{fragment}{}", doors(fake, names, None, more).await), &[]).await;
    register(fake, names, &house.url("")).await;
    for name in names {
        tell(fake, name, "settings", &json!({"auto": "ann"})).await;
    }
    house
}

/// A browser before a gateway.
pub struct Browser {
    client: reqwest::Client,
    gateway: SocketAddr,
    fake: SocketAddr,
    cookies: Mutex<BTreeMap<String, String>>,
}

impl Browser {
    pub fn new(house: &House) -> Self {
        Self { client: client(), gateway: house.listen, fake: house.fake, cookies: Mutex::default() }
    }

    /// The same browser, led to another replica.
    pub fn at(&self, house: &House) -> Self {
        Self { gateway: house.listen, cookies: Mutex::new(self.cookies.lock().clone()), ..Self::new(house) }
    }

    /// The value of a cookie.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.lock().get(name).cloned()
    }

    /// Names and values of the cookies whose names begin so.
    pub fn cookies_of(&self, start: &str) -> Vec<(String, String)> {
        let cookies = self.cookies.lock();
        let found = cookies.iter().filter(|(name, _)| name.starts_with(start));
        found.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    pub fn put_cookie(&self, name: &str, value: &str) {
        self.cookies.lock().insert(name.to_owned(), value.to_owned());
    }

    /// What is sent as `Cookie`.
    pub fn cookies(&self) -> String {
        let pairs: Vec<String> =
            self.cookies.lock().iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("http://{}{path}", self.gateway));
        request.header("cookie", self.cookies()).header("user-agent", "A browser/1.0 <b>")
    }

    /// Sends a request and keeps the cookies of its answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = whole(request).await;
        for line in answer.headers.get_all("set-cookie") {
            let line = line.to_str().expect("text");
            let (pair, attributes) = line.split_once(';').expect("attributes");
            let (name, value) = pair.split_once('=').expect("a pair");
            assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Lax"), "{line}");
            assert!(attributes.contains("Path=/") && !attributes.contains("Domain"), "{line}");
            assert_eq!(name.starts_with("__Host-"), attributes.contains("Secure"), "{line}");
            match attributes.contains("Max-Age=0") {
                true => drop(self.cookies.lock().remove(name)),
                false => drop(self.cookies.lock().insert(name.to_owned(), value.to_owned())),
            }
        }
        answer
    }

    /// Opens a page.
    pub async fn open(&self, path: &str) -> Answer {
        let request = self.request(Method::GET, path).header("accept", "text/html,*/*;q=0.8");
        self.send(request.header("sec-fetch-dest", "document")).await
    }

    /// Asks as a program does.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// Sends a form of a page of the gateway's own.
    pub async fn submit(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.request(Method::POST, path).header("accept", "text/html").body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        self.send(request.header("sec-fetch-site", "same-origin")).await
    }

    /// What a page of the gateway's own asks for by a script.
    pub async fn script(&self, method: Method, path: &str) -> Answer {
        self.send(self.request(method, path).header("sec-fetch-site", "same-origin")).await
    }

    /// Where a page that leads on by itself leads: the answer to a form whose end is somebody else's.
    pub fn led(answer: &Answer) -> String {
        let text = answer.text();
        assert_eq!((answer.status, answer.header("location")), (200, ""), "{text}");
        assert_eq!(
            (answer.header("cache-control"), answer.header("referrer-policy")),
            ("no-store", "no-referrer")
        );
        let mark = "<meta http-equiv=\"refresh\" content=\"0;url=";
        let (_, rest) = text.split_once(mark).unwrap_or_else(|| panic!("it leads nowhere: {text}"));
        let to = rest.split('"').next().expect("an end");
        assert!(text.contains(&format!("<a href=\"{to}\"")), "nor by hand: {text}");
        to.replace("&amp;", "&").replace("&#39;", "'")
    }

    /// Begins at `path` and agrees at the provider: the path of the way back.
    pub async fn away(&self, path: &str) -> String {
        let sent = self.open(path).await;
        assert_eq!(sent.status, 303, "{path}: {}", sent.text());
        self.agree(sent.header("location")).await
    }

    /// Agrees at a provider: the path of the way back, at whatever host.
    pub async fn agree(&self, url: &str) -> String {
        let back = whole(self.client.get(url)).await;
        assert!([302, 303].contains(&back.status), "{url}: {} {}", back.status, back.text());
        let url = Url::parse(back.header("location")).expect("a URL");
        format!("{}?{}", url.path(), url.query().unwrap_or_default())
    }

    /// Signs in by `provider`, as a program.
    pub async fn sign_in(&self, provider: &str) -> Answer {
        let back = self.away(&format!("/auth/{provider}")).await;
        let landed = self.get(&back).await;
        assert_eq!(landed.status, 200, "{}", landed.text());
        landed
    }

    /// The same, as somebody at that provider.
    pub async fn sign_in_as(&self, provider: &str, person: &str) -> Answer {
        tell(self.fake, provider, "settings", &json!({"auto": person})).await;
        self.sign_in(provider).await
    }

    /// What the gateway knows of whoever is signed in.
    pub async fn me(&self) -> Value {
        let me = self.get("/auth/me").await;
        assert_eq!((me.status, me.header("cache-control")), (200, "no-store"), "{}", me.text());
        me.json()["data"].clone()
    }

    pub async fn is_signed_in(&self) -> bool {
        self.get("/auth/me").await.status == 200
    }

    /// Adds a way in, as somebody at that provider.
    pub async fn link(&self, provider: &str, person: &str) -> Answer {
        tell(self.fake, provider, "settings", &json!({"auto": person})).await;
        let back = self.away_to_link(provider).await;
        self.get(&back).await
    }

    /// Begins to add a way in and agrees at the provider: the path of the way back.
    pub async fn away_to_link(&self, provider: &str) -> String {
        let ticket = self.me().await["ticket"].as_str().expect("a ticket").to_owned();
        let sent = self.submit(&format!("/auth/{provider}"), &[("ticket", &ticket)]).await;
        self.agree(&Self::led(&sent)).await
    }
}

/// The id of the person that an answer is about.
pub fn person_of(answer: &Answer) -> String {
    answer.json()["data"]["person"]["id"].as_str().expect("an id").to_owned()
}

/// The session's token in an answer.
pub fn token_of(answer: &Answer) -> String {
    answer.json()["data"]["token"].as_str().expect("a token").to_owned()
}
