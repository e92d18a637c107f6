//! What comes back from a provider, or from somebody who says so: states of every wrong kind, codes of other providers, addresses that lead
//! elsewhere, texts that would be scripts (O4, O5, S2).

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::house::{Answer, House, whole};
use super::idp::{
    Idp, Returning, accounts, agree, befriend, caller, data, error, initiate, owner, parameter as of,
    providers,
};

async fn house() -> (House, Idp) {
    house_with("").await
}

async fn house_with(more: &str) -> (House, Idp) {
    let text = providers(&["huggingface", "google", "aihubmix", "oidc"]);
    let house = House::start(&text.replace("oauth:\n", &format!("oauth:\n{more}"))).await;
    befriend(&house, &["google", "aihubmix", "oidc", "huggingface"]).await;
    let idp = Idp::of(&house, "huggingface");
    (house, idp)
}

fn hugging(name: &str) -> Value {
    json!({"platform": "huggingface", "account_name": name})
}

async fn page(house: &House, back: &Returning) -> Answer {
    whole(house.client.get(&back.address).header("cookie", &back.cookie).header("accept", "text/html,*/*"))
        .await
}

/// O4: states that are missing, made up, somebody else's, used, over, or a megabyte long. The one that is awaited goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o4_every_wrong_state() {
    let (house, idp) = house().await;
    let awaited = agree(&house, &owner(), hugging("one")).await;
    let second = agree(&house, &owner(), hugging("two")).await;
    let other = agree(&house, &caller("eve", "beta"), hugging("eve's")).await;
    let (state, code) = (of(&awaited.address, "state"), of(&awaited.address, "code"));
    let cut = &state[..state.len() - 1];
    for query in [
        format!("code={code}"),
        format!("code={code}&state="),
        format!("code={code}&state=x"),
        format!("code={code}&state={cut}"),
        format!("code={code}&state={state}x"),
        format!("code={code}&state={}", state.to_uppercase()),
        format!("code={code}&state={state}&state={state}"),
        format!("code={code}&code=other&state={state}"),
        format!("code={code}&state={}", of(&other.address, "state")),
        format!("code={code}&state=%00"),
        format!("code={code}&state={}", "x".repeat(7000)),
        "error=access_denied".to_owned(),
        String::new(),
    ] {
        let answer = awaited.come_back_with(&house, &query).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
        assert_eq!((answer.json()["code"].as_u64(), &answer.json()["data"]), (Some(400), &Value::Null));
    }
    // Not even read.
    let long = format!("code={code}&state={}", "x".repeat(1 << 20));
    let asked =
        house.raw(format!("GET /huggingface-callback?{long} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
    let answered = String::from_utf8_lossy(&asked).into_owned();
    assert!(
        asked.is_empty() || answered.starts_with("HTTP/1.1 4"),
        "{}",
        &answered[..80.min(answered.len())]
    );
    // Another's cookie, none, and somebody else's of the same tenant.
    for cookie in [other.cookie.as_str(), second.cookie.as_str(), "", "weir-begun="] {
        let stolen =
            Returning { address: awaited.address.clone(), cookie: cookie.to_owned(), state: String::new() };
        assert_eq!(stolen.come_back(&house).await.status, 400, "{cookie}");
    }
    assert_eq!(idp.grants("authorization_code").await, 0, "no code went anywhere");
    // Two at a time, each to its own, in the other order; each once.
    for back in [&second, &awaited] {
        assert_eq!(back.come_back(&house).await.status, 200);
        error(&back.come_back_with(&house, back.address.split_once('?').expect("a query").1).await, 400);
    }
    assert_eq!(idp.grants("authorization_code").await, 2);
    let names: Vec<Value> =
        accounts(&house, &owner()).await.iter().map(|one| one["account_name"].clone()).collect();
    assert!(names.len() == 2 && names.contains(&json!("one")) && names.contains(&json!("two")), "{names:?}");
    assert!(accounts(&house, &caller("eve", "beta")).await.is_empty());
}

#[tokio::test]
async fn o4_a_sign_in_that_took_too_long_is_over() {
    let (house, idp) = house_with("  state_ttl: 1s\n").await;
    let late = agree(&house, &owner(), hugging("late")).await;
    sleep(Duration::from_millis(2100)).await;
    assert!(error_of(&late.come_back(&house).await).contains("Begin again"));
    assert_eq!(idp.grants("authorization_code").await, 0);
}

fn error_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 400, "{}", answer.text());
    answer.json()["message"].as_str().expect("a message").to_owned()
}

/// O5: what one provider gave brought to the callback of another; issuers that are missing, wrong or twice; providers that did not
/// say what they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o5_the_answer_of_one_provider_is_none_of_anothers() {
    let (house, _) = house().await;
    let (google, hub, oidc) =
        (Idp::of(&house, "google"), Idp::of(&house, "aihubmix"), Idp::of(&house, "oidc"));
    let hub_wish = json!({"platform": "aihubmix", "account_name": "h", "api_key": "sk-h"});
    let from_google = agree(&house, &owner(), json!({"platform": "gemini", "account_name": "g"})).await;
    let from_hub = agree(&house, &owner(), hub_wish.clone()).await;
    assert!(from_hub.address.contains("/api/v1/oauth/callback/aihubmix?"), "{}", from_hub.address);
    // Each answer whole, at the other's address; with either cookie.
    for (one, other) in [(&from_google, &from_hub), (&from_hub, &from_google)] {
        let (place, _) = other.address.split_once('?').expect("a query");
        let (_, query) = one.address.split_once('?').expect("a query");
        for cookie in [&one.cookie, &other.cookie] {
            let mixed = Returning {
                address: format!("{place}?{query}"),
                cookie: cookie.clone(),
                state: String::new(),
            };
            error(&mixed.come_back(&house).await, 400);
        }
    }
    for name in ["nobody", "huggingface", "..%2Fcallback", "aihubmix%2F", "AIHUBMIX"] {
        let (_, query) = from_hub.address.split_once('?').expect("a query");
        let url = house.url(&format!("/api/v1/oauth/callback/{name}?{query}"));
        error(&whole(house.client.get(url).header("cookie", &from_hub.cookie)).await, 400);
    }
    assert_eq!((google.asked("token").await, hub.asked("token").await), (0, 0), "no code went anywhere");
    // The code of one with the other's own state: it goes to the one that the state is of, which never gave it.
    let code = of(&from_google.address, "code");
    let mixed = format!("code={code}&state={}", of(&from_hub.address, "state"));
    error(&from_hub.come_back_with(&house, &mixed).await, 400);
    assert_eq!((google.asked("token").await, hub.asked("token").await), (0, 1));
    data(&from_google.come_back(&house).await);
    // Who says who it is, must.
    let back = agree(&house, &owner(), json!({"platform": "house", "account_name": "o"})).await;
    let (code, state, iss) =
        (of(&back.address, "code"), of(&back.address, "state"), of(&back.address, "iss"));
    assert!(iss.ends_with("/idp/oidc"), "{iss}");
    for iss in [
        "",
        "&iss=",
        "&iss=https%3A%2F%2Fevil.example",
        &format!("&iss={iss}%2F"),
        &format!("&iss={iss}&iss={iss}"),
        &format!("&iss={}", iss.replace("127.0.0.1", "localhost")),
    ] {
        error(&back.come_back_with(&house, &format!("code={code}&state={state}{iss}")).await, 400);
    }
    assert_eq!(oidc.asked("token").await, 0, "no code went anywhere");
    data(&back.come_back(&house).await);
    // PKCE, always by S256, and never the same.
    let mut challenges = std::collections::HashSet::new();
    for platform in ["huggingface", "gemini", "house"] {
        for name in ["x", "y"] {
            let begun =
                data(&initiate(&house, &owner(), json!({"platform": platform, "account_name": name})).await);
            let url = begun["auth_url"].as_str().expect("a URL");
            assert_eq!(
                (of(url, "code_challenge_method").as_str(), of(url, "code_challenge").len()),
                ("S256", 43)
            );
            assert!(challenges.insert(of(url, "code_challenge")) && of(url, "code_verifier").is_empty());
        }
    }
}

/// Where a browser may be sent afterwards, in forty-odd spellings of elsewhere.
const ELSEWHERE: [&str; 48] = [
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "/%2fevil.example",
    "/%2Fevil.example",
    "/%5cevil.example",
    "/%5Cevil.example",
    "%2f%2fevil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r\nlocation: https://evil.example",
    "/ /evil.example",
    " //evil.example",
    "\t//evil.example",
    "//evil.example/console.example",
    "//console.example@evil.example",
    "https://evil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "HTTPS://EVIL.example",
    "http://console.example",
    "ftp://console.example",
    "https://console.example.evil.example",
    "https://console.example@evil.example",
    "https://user@console.example",
    "https://user:pw@console.example",
    "https://console.example:444",
    "https://console.example%2f@evil.example",
    "https://console.example%00.evil.example",
    "https://console.example\\@evil.example",
    "https://evil.example/console.example",
    "https://evil.example?console.example",
    "https://evil.example#console.example",
    "https://evilconsole.example",
    "https://sub.console.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\nscript:alert(1)",
    "data:text/html,x",
    "vbscript:x",
    "file:///etc/passwd",
    "blob:https://console.example/x",
    "console.example",
    "?next=//evil.example",
];

#[tokio::test]
async fn o5_nobody_is_sent_elsewhere() {
    let (house, _) = house_with("  return_to: [https://console.example]\n").await;
    for place in ELSEWHERE {
        let mut ask = hugging("x");
        ask["redirect_after"] = json!(place);
        let refused = initiate(&house, &owner(), ask).await;
        assert!(
            refused.status == 400 && refused.text().contains("redirect_after"),
            "{place:?}: {}",
            refused.text()
        );
    }
    for (place, shown) in [
        ("/console?x=1&y=%2f#z", "/console?x=1&amp;y=%2f#z"),
        ("https://console.example/done", "https://console.example/done"),
        ("/\"onmouseover=alert(1)", "/&quot;onmouseover=alert(1)"),
    ] {
        let mut ask = hugging("good");
        ask["redirect_after"] = json!(place);
        let back = agree(&house, &owner(), ask).await;
        let told = page(&house, &back).await;
        assert_eq!(told.status, 200);
        assert!(told.text().contains(&format!("<a id=\"next\" href=\"{shown}\">")), "{}", told.text());
    }
    // A page that closes its pop-up by the one script that the policy lets run.
    let back = agree(&house, &owner(), hugging("good")).await;
    let told = page(&house, &back).await;
    let text = told.text();
    let script = text.split("<script>").nth(1).expect("one").split("</script>").next().expect("an end");
    use base64::Engine;
    let hash =
        base64::engine::general_purpose::STANDARD.encode(<sha2::Sha256 as sha2::Digest>::digest(script));
    assert!(script.contains("window.close") && text.matches("<script").count() == 1, "{text}");
    assert!(told.header("content-security-policy").contains(&format!("script-src 'sha256-{hash}'")));
    assert_eq!((told.header("cache-control"), told.header("referrer-policy")), ("no-store", "no-referrer"));
}

/// Fifty texts that would like to be more than texts.
const SCRIPTS: [&str; 50] = [
    "<script>alert(1)</script>",
    "<ScRiPt>alert(1)</sCrIpT>",
    "<script src=//evil.example></script>",
    "<script>alert(1)//",
    "</p><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img/src=x/onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<body onload=alert(1)>",
    "<iframe src=javascript:alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href=\"jav&#x09;ascript:alert(1)\">x</a>",
    "<form action=javascript:alert(1)><button>",
    "<math><mi//xlink:href=\"data:x,<script>alert(1)</script>\">",
    "<video><source onerror=alert(1)>",
    "<audio src onerror=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<marquee onstart=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<select autofocus onfocus=alert(1)>",
    "<textarea autofocus onfocus=alert(1)>",
    "<keygen autofocus onfocus=alert(1)>",
    "<meta http-equiv=refresh content=0;url=//evil>",
    "<link rel=stylesheet href=//evil.example>",
    "<base href=//evil.example>",
    "<style>@import '//evil.example'</style>",
    "\"><script>alert(1)</script>",
    "'><script>alert(1)</script>",
    "\" onmouseover=alert(1) x=\"",
    "' onmouseover=alert(1) x='",
    "`onmouseover=alert(1)`",
    "<!--<script>alert(1)</script>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<x onclick=alert(1)>click",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)",
    "\u{2028}<script>alert(1)</script>",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "\u{ff1c}script\u{ff1e}alert(1)",
    "%3Cscript%3Ealert(1)%3C/script%3E",
];

/// O4: what a provider says is text, on pages and in JSON.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o4_what_is_said_is_text() {
    let (house, idp) = house().await;
    idp.tell("settings", json!({"auto": "ann", "auto_deny": true})).await;
    let plain = page(&house, &agree(&house, &owner(), hugging("x")).await).await;
    let tags = plain.text().matches('<').count();
    for script in SCRIPTS {
        let back = agree(&house, &owner(), hugging("x")).await;
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("state", &back.state)
            .append_pair("error", script)
            .append_pair("error_description", script);
        let query = query.finish();
        let (path, _) = back.address.split_once('?').expect("a query");
        let told = page(&house, &Returning { address: format!("{path}?{query}"), ..back }).await;
        let text = told.text();
        assert_eq!(told.status, 400, "{script}");
        let said =
            text.split("<p id=\"text\">").nth(1).expect("a text").split("</p>").next().expect("its end");
        assert!(!said.contains(['<', '>', '"', '\'']) && said.contains("did not agree"), "{script}: {said}");
        assert_eq!(
            (text.matches('<').count(), text.matches("<script").count()),
            (tags, 1),
            "{script}: {text}"
        );
        assert!(told.header("content-type").starts_with("text/html; charset=utf-8"));
        // As JSON it is a string, of a type that no browser takes for a page.
        let back = agree(&house, &owner(), hugging("x")).await;
        let told = back
            .come_back_with(&house, &query.replace(&of(&format!("http://x/?{query}"), "state"), &back.state))
            .await;
        assert!(told.header("content-type") == "application/json" && told.status == 400, "{script}");
        assert!(told.json()["message"].as_str().expect("text").len() < 600);
    }
    // Account names are shown, too.
    idp.tell("settings", json!({"auto": "ann", "auto_deny": null})).await;
    let back = agree(&house, &owner(), hugging("<script>alert(1)</script>")).await;
    let told = page(&house, &back).await;
    assert!(told.status == 200 && told.text().matches("<script").count() == 1, "{}", told.text());
}

/// Inside, in sixty spellings of addresses, and in some of names.
const INSIDE: &str = include_str!("../inside.txt");
const NAMES: [&str; 4] = ["localhost", "localhost.", "x.localhost", "LOCALHOST"];

/// What an issuer's document may name, and by which way it is asked: when a sign-in begins, or when somebody comes back.
const NAMED: [(&str, &str); 5] = [
    ("token_endpoint", "oauth"),
    ("userinfo_endpoint", "oauth"),
    ("jwks_uri", "oauth"),
    ("revocation_endpoint", "oauth"),
    ("device_authorization_endpoint", "device_code"),
];

/// S2: endpoints that an issuer names and that lead inside are asked nothing. Only the operator may lead there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_an_issuer_leads_nowhere_inside() {
    let (house, _) = house().await;
    let idp = Idp::of(&house, "oidc");
    let trap = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    trap.set_nonblocking(true).expect("a socket");
    let port = trap.local_addr().expect("bound").port();
    let hosts: Vec<&str> = INSIDE.lines().chain(NAMES).collect();
    assert!(hosts.len() > 60);
    let places = hosts.iter().flat_map(|host| {
        let whole = |scheme: &str| format!("{scheme}://{host}:{port}/x");
        [whole("http"), whole("https")]
    });
    let others =
        ["file:///etc/passwd", "gopher://x/", "ftp://x/", "data:,x", "//x/", "x", "http://x.example/"];
    let places: Vec<String> = places.chain(others.map(str::to_owned)).collect();
    for place in &places {
        for (endpoint, flow) in NAMED {
            says(&house, &idp, json!({"on": "discovery", "times": null, "set": {(endpoint): place}})).await;
            let wish = json!({"platform": "house", "account_name": "x", "flow": flow});
            let begun = initiate(&house, &owner(), wish).await;
            if begun.status == 200 && flow == "oauth" {
                // At the issuer's own host: what is asked is looked at when it is asked, and these two are not.
                let told = begin_again(&house, &begun).await.come_back(&house).await;
                let is_asked = endpoint == "token_endpoint" || endpoint == "userinfo_endpoint";
                assert_eq!(
                    told.status,
                    if is_asked { 502 } else { 200 },
                    "{endpoint} {place}: {}",
                    told.text()
                );
                continue;
            }
            error(&begun, 502);
        }
    }
    assert!(trap.accept().is_err(), "somebody came");
    leads_nowhere_by_other_ways(&house, &idp, port).await;
    assert!(trap.accept().is_err(), "somebody came");
}

/// When an account goes; by redirects, with a secret in hand or without; and in a document that is none.
async fn leads_nowhere_by_other_ways(house: &House, idp: &Idp, port: u16) {
    let place = format!("http://127.0.0.1:{port}/x");
    says(house, idp, json!({"on": "discovery", "times": null, "set": {"revocation_endpoint": place}})).await;
    let listed = accounts(house, &owner()).await;
    assert!(!listed.is_empty());
    for account in listed {
        let path = format!("/api/v1/oauth/accounts/{}", account["id"].as_str().expect("an id"));
        let gone = data(&super::idp::ask(house, &owner(), "DELETE", &path, None).await);
        assert_eq!(gone["revoked"], false, "{gone}");
    }
    // Nor by a redirect, with a secret in hand or without.
    for on in ["discovery", "userinfo"] {
        says(house, idp, json!({"on": on, "times": null, "status": 302, "location": place})).await;
        let begun = initiate(house, &owner(), json!({"platform": "house", "account_name": "x"})).await;
        let told =
            if on == "discovery" { begun } else { begin_again(house, &begun).await.come_back(house).await };
        error(&told, 502);
    }
    says(house, idp, json!({"on": "token", "times": null, "status": 307, "location": place})).await;
    let wish = json!({"platform": "house", "account_name": "x"});
    let back = agree(house, &owner(), wish).await;
    assert_eq!(back.come_back(house).await.status, 502);
    // And an issuer that is another one, or none.
    for document in [
        json!({"set": {"issuer": "https://evil.example"}}),
        json!({"html": true}),
        json!({"body": "[]"}),
        json!({"big": 3_000_000}),
    ] {
        let mut fault = json!({"on": "discovery"});
        fault.as_object_mut().expect("an object").extend(document.as_object().expect("an object").clone());
        says(house, idp, fault).await;
        error(&initiate(house, &owner(), json!({"platform": "house", "account_name": "x"})).await, 502);
    }
}

/// From now on the provider does only this wrong, and the gateway asks it anew what it says of itself.
async fn says(house: &House, idp: &Idp, fault: Value) {
    idp.tell("faults", json!([])).await;
    idp.tell("faults", fault).await;
    assert_eq!(house.admin(Method::POST, "/admin/reload").await.status, 200);
}

async fn begin_again(house: &House, begun: &Answer) -> Returning {
    let cookie = begun.header("set-cookie").split(';').next().expect("a cookie").to_owned();
    let url = begun.json()["data"]["auth_url"].as_str().expect("a URL").to_owned();
    let sent = whole(house.client.get(url)).await;
    Returning { address: sent.header("location").to_owned(), cookie, state: String::new() }
}

/// `exchange: false`: the state is verified, the code is reported and left to whoever asked.
#[tokio::test]
async fn a_code_may_only_be_reported() {
    let text = providers(&["huggingface"])
        .replace("client_id: weir-huggingface", "exchange: false, client_id: weir-huggingface");
    let house = House::start(&text).await;
    let idp = Idp::of(&house, "huggingface");
    idp.tell("settings", json!({"auto": "ann"})).await;
    let back = agree(&house, &owner(), hugging("mine")).await;
    assert_eq!(
        back.come_back_with(&house, "code=x&state=y").await.status,
        400,
        "a wrong state is one all the same"
    );
    let told = back.come_back(&house).await;
    let code = of(&back.address, "code");
    assert_eq!(
        (told.status, &told.json()["code"], &told.json()["state"]),
        (200, &json!(code), &json!(back.state))
    );
    assert!(
        told.json()["next_steps"][0].as_str().expect("text").contains("Exchange")
            && told.json()["account"].is_null()
    );
    assert_eq!(back.come_back(&house).await.status, 400, "once");
    assert_eq!((idp.asked("token").await, accounts(&house, &owner()).await.len()), (0, 0));
    // It is good for whoever trades it: nothing binds it to a verifier that they do not have.
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", &house.url("/huggingface-callback")),
    ];
    let url = format!("http://{}/idp/huggingface/oauth/token", house.fake);
    let traded = house
        .client
        .post(url)
        .basic_auth("weir-huggingface", Some("secret-huggingface"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish());
    assert_eq!(whole(traded).await.status, 200);
    for missing in ["", "?state=x", "?error=access_denied", "?code=c"] {
        let answer = whole(house.client.get(house.url(&format!("/huggingface-callback{missing}")))).await;
        assert_eq!((answer.status, answer.json()["code"].as_u64()), (400, Some(400)), "{missing}");
        let page = whole(house.client.get(house.url(&format!("/huggingface-callback/html{missing}")))).await;
        assert!(page.status == 400 && page.header("content-type").starts_with("text/html"), "{missing}");
    }
}
