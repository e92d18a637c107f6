//! Everything that may be wrong about an account's consent, as one list: each line of what may come back, each in the shape that
//! whoever asked can read, and each without harm to the sign-in that is awaited (R22.3, O6).

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::house::{Answer, House, start_fake, until, whole};
use super::idp::{
    Idp, Returning, accounts, agree, ask, befriend, caller, data, error, initiate, owner, parameter,
    providers,
};
use super::replicas::Redis;
use super::skew::clock;

const ACCOUNTS: &str = "/api/v1/oauth/accounts";

async fn house() -> (House, Idp) {
    let house = House::start(&providers(&["huggingface", "oidc"])).await;
    befriend(&house, &["huggingface", "oidc"]).await;
    let idp = Idp::of(&house, "oidc");
    (house, idp)
}

fn wish(name: &str) -> Value {
    json!({"platform": "house", "account_name": name})
}

/// A stray: what another query, another cookie or another address would be, made of the right ones.
enum Stray {
    /// In the same browser, with this query, in which `$CODE`, `$STATE` and `$ISS` are the right ones, `$OTHER` another sign-in's.
    Query(&'static str),
    /// The right query, in a browser with this cookie.
    Cookie(&'static str),
    /// Pasted by whoever began, as if it had ended up at this address: `$HOST` and `$PORT` are the right ones.
    Address(&'static str),
}

use Stray::{Address, Cookie, Query};

/// Lines of the list that must change nothing.
const STRAYS: [(&str, Stray); 36] = [
    ("no state", Query("code=$CODE&iss=$ISS")),
    ("an empty state", Query("code=$CODE&state=&iss=$ISS")),
    ("a made-up state", Query("code=$CODE&state=x&iss=$ISS")),
    ("a longer state", Query("code=$CODE&state=$STATEx&iss=$ISS")),
    ("a state of somebody else", Query("code=$CODE&state=$OTHER&iss=$ISS")),
    ("two states", Query("code=$CODE&state=$STATE&state=$OTHER&iss=$ISS")),
    ("two codes", Query("code=$CODE&code=x&state=$STATE&iss=$ISS")),
    ("a NUL", Query("code=$CODE&state=$STATE%00&iss=$ISS")),
    ("a refusal of nobody's", Query("error=access_denied")),
    ("nothing", Query("")),
    ("no issuer where it says that it tells", Query("code=$CODE&state=$STATE")),
    ("another provider (mix-up)", Query("code=$CODE&state=$STATE&iss=https%3A%2F%2Fevil.example")),
    ("its issuer with a slash", Query("code=$CODE&state=$STATE&iss=$ISS%2F")),
    ("two issuers", Query("code=$CODE&state=$STATE&iss=$ISS&iss=$ISS")),
    (
        "a refusal of another provider",
        Query("error=access_denied&state=$STATE&iss=https%3A%2F%2Fevil.example"),
    ),
    ("no cookie", Cookie("")),
    ("an empty cookie", Cookie("weir-begun=")),
    ("another browser's cookie", Cookie("weir-begun=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
    ("a cookie of another name", Cookie("__Host-weir-begun=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
    ("prefix: longer", Address("http://$HOST:$PORT/api/v1/oauth/callbackx")),
    ("prefix: below", Address("http://$HOST:$PORT/api/v1/oauth/callback/house")),
    ("prefix: a slash more", Address("http://$HOST:$PORT/api/v1/oauth/callback/")),
    ("prefix: shorter", Address("http://$HOST:$PORT/api/v1/oauth/callbac")),
    ("prefix: another one of ours", Address("http://$HOST:$PORT/huggingface-callback")),
    ("another spelling", Address("http://$HOST:$PORT/api/v1/oauth/c%61llback")),
    ("two slashes", Address("http://$HOST:$PORT//api/v1/oauth/callback")),
    ("a parameter of the path", Address("http://$HOST:$PORT/api/v1/oauth/callback;x")),
    ("case", Address("http://$HOST:$PORT/API/v1/oauth/callback")),
    ("port", Address("http://$HOST:1/api/v1/oauth/callback")),
    ("no port", Address("http://$HOST/api/v1/oauth/callback")),
    ("host", Address("http://localhost:$PORT/api/v1/oauth/callback")),
    ("a host in front", Address("http://$HOST:$PORT.evil.example/api/v1/oauth/callback")),
    ("somebody in front", Address("http://$HOST:$PORT@evil.example/api/v1/oauth/callback")),
    ("somebody at ours", Address("http://evil@$HOST:$PORT/api/v1/oauth/callback")),
    ("scheme", Address("https://$HOST:$PORT/api/v1/oauth/callback")),
    ("what follows a fragment is none of it", Address("http://$HOST:$PORT/api/v1/oauth/callback#")),
];

/// Asks what `weir account login` asks.
async fn operate(house: &House, path: &str, body: Value) -> Answer {
    let asked = house.client.post(house.admin_url(&format!("/admin/accounts/login{path}")));
    whole(asked.bearer_auth(super::house::mint(json!({}))).json(&body)).await
}

/// As a program and as a browser are told.
async fn in_both_shapes(what: &str, request: impl Fn() -> reqwest::RequestBuilder) {
    let told = whole(request()).await;
    error(&told, 400);
    assert!(told.header("content-type").starts_with("application/json"), "{what}");
    assert!(!told.headers.contains_key("set-cookie"), "{what}");
    let page = whole(request().header("accept", "text/html,*/*;q=0.8")).await;
    assert_eq!(page.status, 400, "{what}: {}", page.text());
    assert!(page.header("content-type").starts_with("text/html"), "{what}");
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"), "{what}");
    assert!(page.text().contains("<p id=\"text\">"), "{what}: {}", page.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o6_what_is_nobodys_changes_nothing() {
    let (house, idp) = house().await;
    let other = agree(&house, &caller("eve", "beta"), wish("eve's")).await;
    let back = agree(&house, &owner(), wish("mine")).await;
    // An operator's, from a terminal, which is pasted.
    let begun = operate(&house, "", wish("operator's")).await.json();
    let operators = whole(house.client.get(begun["auth_url"].as_str().expect("a URL"))).await;
    let operators = operators.header("location").to_owned();
    let (place, right) = back.address.split_once('?').expect("a query");
    let of = |name: &str| {
        url::form_urlencoded::byte_serialize(parameter(&back.address, name).as_bytes()).collect::<String>()
    };
    for (what, stray) in &STRAYS {
        match stray {
            Query(query) => {
                let query = query.replace("$CODE", &of("code")).replace("$ISS", &of("iss"));
                let query = query.replace("$STATE", &back.state).replace("$OTHER", &other.state);
                let url = format!("{place}?{query}");
                in_both_shapes(what, || house.client.get(&url).header("cookie", &back.cookie)).await;
            }
            Cookie(cookie) => {
                in_both_shapes(what, || house.client.get(&back.address).header("cookie", *cookie)).await;
            }
            Address(address) => {
                let (host, port) = (house.listen.ip().to_string(), house.listen.port().to_string());
                let url = format!("{}?{right}", address.replace("$HOST", &host).replace("$PORT", &port));
                let body = json!({"url": url});
                error(&ask(&house, &owner(), "POST", "/api/v1/oauth/callback", Some(&body)).await, 400);
                let url = url.replace(right, operators.split_once('?').expect("a query").1);
                let asked = operate(&house, "/callback", json!({"url": url})).await;
                assert_eq!(asked.error(400), "not_pending", "{what}");
            }
        }
    }
    assert_eq!(idp.asked("token").await, 0, "no code went anywhere");
    // Whoever was awaited still is, once; pasted, too.
    data(&back.come_back(&house).await);
    error(&back.come_back(&house).await, 400);
    assert_eq!(operate(&house, "/callback", json!({"url": operators})).await.status, 200);
    let pasted = json!({"url": format!("  {}\n", other.address)});
    data(&ask(&house, &caller("eve", "beta"), "POST", "/api/v1/oauth/callback", Some(&pasted)).await);
    // A code that was used, in a sign-in of its own.
    let again = agree(&house, &owner(), wish("again")).await;
    let query = format!("code={}&state={}&iss={}", of("code"), again.state, of("iss"));
    assert!(error(&again.come_back_with(&house, &query).await, 400).contains("refused"));
    assert_eq!(accounts(&house, &owner()).await.len(), 1, "one came of it all");
}

/// What a provider does wrong: what it says, what whoever asked is told, and the words that they can go by.
fn wrongs() -> Vec<(&'static str, Value, u16, &'static str)> {
    let made = |on: &str, more: Value| {
        let mut fault = json!({"on": on});
        fault.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        fault
    };
    vec![
        ("access_denied", made("redirect", json!({"error": "access_denied"})), 400, "did not agree"),
        (
            "an error of its own",
            made("redirect", json!({"error": "temporarily_unavailable"})),
            400,
            "did not agree",
        ),
        ("the token endpoint is down", made("token", json!({"status": 503})), 502, "could not be reached"),
        ("it says nothing", made("token", json!({"nothing": true})), 502, "could not be reached"),
        ("it is slow", made("token", json!({"hang_s": 60.0})), 502, "could not be reached"),
        (
            "it says too many",
            made("token", json!({"status": 429, "retry_after": "7"})),
            502,
            "could not be reached",
        ),
        ("HTML", made("token", json!({"html": true})), 502, "makes no sense"),
        (
            "200 with an error",
            made("token", json!({"status": 200, "body": {"error": "invalid_grant"}})),
            400,
            "refused",
        ),
        ("200 with nothing", made("token", json!({"status": 200, "body": {}})), 502, "makes no sense"),
        ("half of it", made("token", json!({"truncate": true})), 502, "makes no sense"),
        ("a list", made("token", json!({"body": "[]"})), 502, "makes no sense"),
        ("ten megabytes", made("token", json!({"big": 10_000_000})), 502, "makes no sense"),
        ("no token", made("token", json!({"drop": ["access_token"]})), 502, "makes no sense"),
        (
            "it sends elsewhere",
            made("token", json!({"status": 302, "location": "http://127.0.0.1:1/"})),
            502,
            "makes no sense",
        ),
        ("the code is not good", made("token", json!({"error": "invalid_grant"})), 400, "refused"),
        ("it does not know us", made("token", json!({"error": "invalid_client"})), 400, "refused"),
        ("userinfo is down", made("userinfo", json!({"status": 500})), 502, "could not be reached"),
        ("userinfo is of nobody", made("userinfo", json!({"drop": ["sub"]})), 502, "makes no sense"),
        (
            "the document is another's",
            made("discovery", json!({"set": {"issuer": "https://evil.example"}})),
            502,
            "makes no sense",
        ),
        ("the document is HTML", made("discovery", json!({"html": true})), 502, "makes no sense"),
        ("the document is large", made("discovery", json!({"big": 3_000_000})), 502, "makes no sense"),
        ("the document is away", made("discovery", json!({"status": 500})), 502, "could not be reached"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o6_what_a_provider_does_wrong_is_told() {
    let (house, idp) = house().await;
    for (what, mut fault, status, words) in wrongs() {
        // Who somebody is is asked again: what passes is no trouble.
        if fault["on"] == "userinfo" {
            fault["times"] = Value::Null;
        }
        for is_browser in [false, true] {
            let is_of_the_way = fault["on"] == "redirect";
            if is_of_the_way {
                idp.tell("faults", fault.clone()).await;
            }
            let back = agree(&house, &owner(), wish("x")).await;
            if !is_of_the_way {
                idp.tell("faults", fault.clone()).await;
            }
            // What an issuer says of itself is asked once in a while: from here on anew.
            let reload = async || {
                if fault["on"] == "discovery" {
                    assert_eq!(house.admin(Method::POST, "/admin/reload").await.status, 200);
                }
            };
            reload().await;
            let since = Instant::now();
            let mut request = house.client.get(&back.address).header("cookie", &back.cookie);
            if is_browser {
                request = request.header("accept", "text/html");
            }
            let told = whole(request).await;
            assert!(since.elapsed() < Duration::from_secs(12), "{what}: {:?}", since.elapsed());
            let said = match is_browser {
                true => {
                    assert_eq!(told.status, status, "{what}");
                    assert!(told.header("content-type").starts_with("text/html"), "{what}");
                    told.text()
                }
                false => error(&told, status),
            };
            assert!(said.contains(words), "{what}: {said}");
            assert!(!said.contains("127.0.0.1") && !said.contains("secret-"), "{what}: {said}");
            idp.tell("faults", json!([])).await;
            reload().await;
            if fault["on"] == "discovery" {
                data(&back.come_back(&house).await);
                let id = accounts(&house, &owner()).await[0]["id"].as_str().expect("an id").to_owned();
                data(&ask(&house, &owner(), "DELETE", &format!("{ACCOUNTS}/{id}"), None).await);
            } else {
                error(&back.come_back(&house).await, 400);
            }
        }
    }
    assert!(accounts(&house, &owner()).await.is_empty(), "nothing is left behind");
    data(&agree(&house, &owner(), wish("x")).await.come_back(&house).await);
}

/// PKCE is not something that a document can talk us out of.
#[tokio::test]
async fn o4_no_document_takes_pkce_away() {
    let (house, idp) = house().await;
    for fault in [
        json!({"on": "discovery", "times": null, "drop": ["code_challenge_methods_supported"]}),
        json!({"on": "discovery", "times": null, "set": {"code_challenge_methods_supported": ["plain"]}}),
        json!({"on": "discovery", "times": null, "set": {"code_challenge_methods_supported": []}}),
    ] {
        idp.tell("faults", json!([])).await;
        idp.tell("faults", fault).await;
        assert_eq!(house.admin(Method::POST, "/admin/reload").await.status, 200);
        let begun = data(&initiate(&house, &owner(), wish("x")).await);
        let url = begun["auth_url"].as_str().expect("a URL");
        assert_eq!(parameter(url, "code_challenge_method"), "S256", "{url}");
        assert_eq!(parameter(url, "code_challenge").len(), 43);
        data(&agree(&house, &owner(), wish("x")).await.come_back(&house).await);
        assert!(idp.books().await["last"]["token"].to_string().contains("code_verifier"));
    }
}

/// Device codes: one that has ended, and a provider that is asked too often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o6_device_codes_end_and_slow_down() {
    let (house, idp) = house().await;
    idp.tell("settings", json!({"interval_s": 1, "auto": null})).await;
    let device = json!({"platform": "house", "account_name": "d", "flow": "device_code"});
    let look = async |state: &str| {
        data(&ask(&house, &owner(), "GET", &format!("/api/v1/oauth/status?state={state}"), None).await)
    };
    let begun = data(&initiate(&house, &owner(), device.clone()).await);
    let state = begun["state"].as_str().expect("text").to_owned();
    idp.tell("faults", json!({"on": "token", "grant": "device_code", "error": "slow_down"})).await;
    until("it asks less often", async || {
        look(&state).await["interval"].as_u64().is_some_and(|pause| pause >= 6)
    })
    .await;
    idp.tell("expire", json!({"codes": true})).await;
    until("it is over", async || look(&state).await["status"] == "expired").await;
    assert!(look(&state).await["message"].as_str().expect("text").contains("Begin again"));
    // Of somebody else there is nothing to be seen, nor of what never was.
    for (token, state) in [(caller("eve", "beta"), state.as_str()), (owner(), "x"), (owner(), "")] {
        let told = ask(&house, &token, "GET", &format!("/api/v1/oauth/status?state={state}"), None).await;
        assert!([400, 404].contains(&told.status), "{}", told.text());
        error(&told, told.status);
    }
}

/// An account of another tenant's is not there, by whatever one does with it.
#[tokio::test]
async fn o6_an_account_of_another_tenant_is_not_there() {
    let (house, _) = house().await;
    data(&agree(&house, &owner(), wish("mine")).await.come_back(&house).await);
    let id = accounts(&house, &owner()).await[0]["id"].as_str().expect("an id").to_owned();
    let eve = caller("eve", "beta");
    let mut told = Vec::new();
    for id in [id.as_str(), "no-such-account"] {
        for (method, path) in [("DELETE", ""), ("PUT", "/toggle"), ("POST", "/refresh")] {
            told.push(error(&ask(&house, &eve, method, &format!("{ACCOUNTS}/{id}{path}"), None).await, 404));
        }
    }
    assert!(told.iter().all(|words| *words == told[0]), "as one that never was: {told:?}");
    assert!(accounts(&house, &eve).await.is_empty());
    assert_eq!(accounts(&house, &owner()).await.len(), 1);
}

/// Two replicas whose clocks differ: what one began the other finishes, and what is over for the one that is ahead goes on for the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o6_clocks_that_differ() {
    let redis = Redis::start(&[]);
    let fake = start_fake("");
    let url = "http://127.0.0.1:1";
    let rows = providers(&["huggingface"]).replace("oauth:\n", &format!("oauth:\n  public_url: {url}\n"));
    let fragment = format!("{}{rows}", redis.store());
    let right = House::start_beside(fake, &fragment, &[]).await;
    let ahead = House::start_beside(fake, &fragment, clock(&[("FAKETIME", "+40s")])).await;
    let far = House::start_beside(fake, &fragment, clock(&[("FAKETIME", "+2h")])).await;
    let idp = Idp::of(&right, "huggingface");
    idp.tell(
        "clients",
        json!({"client_id": "weir-huggingface", "client_secret": "secret-huggingface",
        "redirect_uris": [format!("{url}/huggingface-callback")]}),
    )
    .await;
    idp.tell("settings", json!({"auto": "ann"})).await;
    let hugging = |name: &str| json!({"platform": "huggingface", "account_name": name});
    let at = |back: &Returning, house: &House| Returning {
        address: back.address.replace(url, &house.url("")),
        cookie: back.cookie.clone(),
        state: back.state.clone(),
    };
    for (from, to) in [(&right, &ahead), (&ahead, &right)] {
        let back = agree(from, &token_of_all_times(), hugging("x")).await;
        assert_eq!(at(&back, to).come_back(to).await.status, 200);
    }
    let back = agree(&right, &token_of_all_times(), hugging("late")).await;
    let told: Answer = at(&back, &far).come_back(&far).await;
    assert!(error(&told, 400).contains("Begin again"));
    assert_eq!(at(&back, &right).come_back(&right).await.status, 200, "it is not over here");
}

/// Good for whoever's clock is two hours ahead, too.
fn token_of_all_times() -> String {
    let now = weir::clock::Clock::system().wall_seconds();
    super::house::mint(
        json!({"sub": "alice", "tenant": "alpha", "scope": "chat accounts", "exp": now + 20_000}),
    )
}
