//! People who sign in, through the real binary and strict simulated providers: by every provider, over both stores, and with
//! everything that can be wrong about a callback.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use url::Url;

use super::browser::{Browser, DOORS, doors, open, person_of, register, seen, tell, token_of};
use super::canary::Canaries;
use super::house::{Answer, House, question, start_fake, until, whole};
use super::replicas::Redis;

const ACCOUNTS: &str = "accounts: [{id: a, platform: openai, api_key: sk-a}]\n";

async fn chat(house: &House, token: &str) -> u16 {
    let body = question("gpt-4o", "hello", false);
    whole(house.client.post(house.url("/v1/chat/completions")).bearer_auth(token).json(&body)).await.status
}

/// What a query says.
fn found(url: &str, name: &str) -> Option<String> {
    let url = Url::parse("http://weir").expect("a URL").join(url).expect("a URL");
    let all: Vec<String> =
        url.query_pairs().filter(|(known, _)| known == name).map(|(_, value)| value.into_owned()).collect();
    assert!(all.len() < 2, "{name} comes twice in {url}");
    all.into_iter().next()
}

/// A refusal as a program gets it, in the envelope.
fn refused(answer: &Answer, status: u16) -> String {
    let body = answer.json();
    assert_eq!(
        (answer.status, &body["code"], &body["data"]),
        (status, &json!(status), &Value::Null),
        "{body}"
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(!answer.headers.contains_key("set-cookie"), "nobody comes in by that");
    body["message"].as_str().expect("a message").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_come_in_by_every_provider() {
    let house = open(&DOORS, ACCOUNTS, "").await;
    let listed = Browser::new(&house).get("/auth").await.json();
    assert_eq!(listed["data"]["providers"].as_array().map(Vec::len), Some(DOORS.len()), "{listed}");
    let page = Browser::new(&house).open("/auth?redirect_after=%2Fx%3Fa%3Db%26c").await;
    for text in ["GitHub", "WeChat", "/auth/feishu?redirect_after=%2Fx%3Fa%3Db%26c"] {
        assert!(page.text().contains(text), "{text} in {}", page.text());
    }
    let mut known = Vec::new();
    for door in DOORS {
        // Whose id is above 2^53.
        tell(house.fake, door, "settings", &json!({"auto": "bob"})).await;
        let browser = Browser::new(&house);
        let sent = browser.open(&format!("/auth/{door}")).await;
        assert_eq!((sent.status, sent.header("cache-control")), (303, "no-store"), "{}", sent.text());
        assert_eq!(sent.header("referrer-policy"), "no-referrer");
        let to = sent.header("location");
        assert!(found(to, "state").is_some_and(|state| state.len() > 40), "{to}");
        let callback = format!("{}/auth/{door}/callback", house.url(""));
        assert_eq!(found(to, "redirect_uri").as_deref(), Some(callback.as_str()));
        let has_pkce = ["github", "google", "feishu", "huggingface", "oidc"].contains(&door);
        assert_eq!(found(to, "code_challenge_method").as_deref(), has_pkce.then_some("S256"), "{to}");
        assert_eq!(found(to, "code_challenge").is_some(), has_pkce);
        assert_eq!(found(to, "nonce").is_some(), ["google", "huggingface", "oidc"].contains(&door), "{to}");
        assert_eq!(door.starts_with("wechat"), to.ends_with("#wechat_redirect"));
        let landed = browser.get(&browser.agree(to).await).await;
        let data = landed.json()["data"].clone();
        assert_eq!((landed.status, &data["is_new"]), (200, &json!(true)), "{door}: {}", landed.text());
        assert_eq!(data["person"]["name"], "Bob <b>&\"O'Neil\"", "{door}");
        assert_eq!(chat(&house, &token_of(&landed)).await, 200, "{door}: /v1 takes the session's token");
        let me = browser.me().await;
        let link = &me["links"][0];
        let subject = link["subject"].as_str().expect("a subject");
        let expected = match door {
            "google" => "100009007199254740993",
            "huggingface" => subject,
            "feishu" | "wechat-open" | "wechat-mp" => subject,
            "oidc" => "sub-9007199254740993",
            _ => "9007199254740993",
        };
        assert_eq!((link["provider"].as_str(), subject), (Some(door), expected));
        let has_mail = !["oschina", "linuxdo", "feishu", "gitee", "wechat-open", "wechat-mp"].contains(&door);
        assert_eq!(me["person"]["email"].is_string(), has_mail, "only what is verified: {door} {me}");
        // In another browser, renamed and with another address: the same person.
        let renamed = json!({"bob": {"username": "robert", "name": "Robert", "email": "ann@example.com"}});
        tell(house.fake, door, "people", &renamed).await;
        let again = Browser::new(&house).sign_in(door).await;
        assert_eq!((person_of(&again), &again.json()["data"]["is_new"]), (person_of(&landed), &json!(false)));
        assert_eq!(again.json()["data"]["person"]["name"], "Robert", "{door}");
        // Somebody with the same address is somebody else; without any address, too.
        let ann = person_of(&Browser::new(&house).sign_in_as(door, "ann").await);
        let cy = person_of(&Browser::new(&house).sign_in_as(door, "cy").await);
        known.extend([person_of(&landed), ann, cy]);
    }
    let distinct: std::collections::HashSet<&String> = known.iter().collect();
    assert_eq!(distinct.len(), 3 * DOORS.len(), "no two are one, by whatever they have in common");
    // Blocked over there.
    tell(house.fake, "linuxdo", "settings", &json!({"auto": "dot"})).await;
    let browser = Browser::new(&house);
    let back = browser.away("/auth/linuxdo").await;
    refused(&browser.get(&back).await, 403);
    house.settled().await;
}

/// Feishu's house has the same words; the page is the same for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_sees_pages() {
    let house = open(&["github", "oidc"], ACCOUNTS, "").await;
    let browser = Browser::new(&house);
    let away = browser.open("/account").await;
    assert_eq!((away.status, away.header("location")), (303, "/auth?redirect_after=/account"));
    tell(house.fake, "github", "settings", &json!({"auto": "bob"})).await;
    let back = browser.away("/auth/github?redirect_after=/account%3Fx%3Dy").await;
    let landed = browser.open(&back).await;
    assert_eq!((landed.status, landed.header("location")), (303, "/account?x=y"));
    assert!(
        !landed.text().contains("token") && !landed.header("location").contains("ses_"),
        "no token in sight"
    );
    let page = browser.open("/account").await;
    assert_eq!((page.status, page.header("cache-control")), (200, "no-store"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let text = page.text();
    assert!(text.contains("Bob &lt;b&gt;&amp;") && text.contains("A browser/1.0 &lt;b&gt;"), "{text}");
    assert!(!text.contains("<b>&") && !text.contains("<script"), "{text}");
    // By the page's own forms; what opens them stands in no address.
    assert!(
        text.contains("<form method=\"post\" action=\"/auth/oidc\">") && !text.contains("link="),
        "{text}"
    );
    let landed = browser.open(&browser.away_to_link("oidc").await).await;
    assert_eq!((landed.status, landed.header("location")), (303, "/account"));
    let me = browser.me().await;
    assert_eq!(me["links"].as_array().map(Vec::len), Some(2), "{me}");
    let ticket = me["ticket"].as_str().expect("a ticket");
    let second = me["links"][1]["id"].as_str().expect("an id");
    let taken = browser.submit("/account", &[("ticket", ticket), ("do", "unlink"), ("id", second)]).await;
    assert_eq!((taken.status, taken.header("location")), (303, "/account"));
    assert_eq!(browser.me().await["links"].as_array().map(Vec::len), Some(1));
    let asked = browser.open("/auth/logout").await;
    assert!(asked.text().contains("<form method=\"post\" action=\"/auth/logout\">"), "{}", asked.text());
    assert!(browser.is_signed_in().await, "nobody is signed out by a link");
    let out = browser.submit("/auth/logout", &[("ticket", ticket)]).await;
    assert_eq!((out.status, out.header("location")), (303, "/auth"));
    assert!(!browser.is_signed_in().await && browser.cookie("weir-session").is_none());
    // What goes wrong is told on a page, without what anybody wrote in it.
    let wrong = browser.open("/auth/github/callback?state=%3Cscript%3E&code=x").await;
    assert_eq!((wrong.status, wrong.header("cache-control")), (400, "no-store"));
    assert!(wrong.header("content-type").starts_with("text/html") && !wrong.text().contains("<script"));
    let nobody = browser.open("/auth/nobody").await;
    assert!(nobody.status == 404 && nobody.header("content-type").starts_with("text/html"));
    let frame = browser.request(Method::GET, "/auth/github").header("sec-fetch-dest", "iframe");
    assert_eq!(whole(frame).await.status, 400, "not in a frame, not as a picture");
}

/// One suite for both stores.
async fn ways_in_sessions_and_the_way_out(one: &House, two: &House) {
    let first = Browser::new(one);
    let landed = first.sign_in_as("github", "ann").await;
    let (ann, token) = (person_of(&landed), token_of(&landed));
    let mine = first.link("gitee", "bob").await;
    assert_eq!((mine.status, person_of(&mine)), (200, ann.clone()), "{}", mine.text());
    assert!(mine.json()["data"]["token"].is_null(), "who is signed in stays so");
    // By either, in any browser, at any replica.
    let second = Browser::new(two);
    assert_eq!(person_of(&second.sign_in("gitee").await), ann);
    let third = Browser::new(two);
    let back = third.away("/auth/github").await;
    let elsewhere = third.at(one);
    assert_eq!(person_of(&elsewhere.get(&back).await), ann, "begun at one, finished at the other");
    assert!(first.at(two).is_signed_in().await && second.at(one).is_signed_in().await);
    // What is somebody else's stays theirs.
    let stranger = Browser::new(one);
    let strange = person_of(&stranger.sign_in_as("github", "cy").await);
    assert_ne!(strange, ann);
    let taken = stranger.link("gitee", "bob").await;
    assert!(refused(&taken, 400).contains("somebody else's way in"));
    assert_eq!(stranger.me().await["links"].as_array().map(Vec::len), Some(1));
    // Of others nothing is seen and nothing changed.
    let me = first.me().await;
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let gitee = me["links"].as_array().expect("links").iter().find(|link| link["provider"] == "gitee");
    let gitee = text(&gitee.expect("linked")["id"]);
    let sessions: Vec<String> =
        me["sessions"].as_array().expect("sessions").iter().map(|one| text(&one["id"])).collect();
    assert_eq!(sessions.len(), 3, "{me}");
    assert_eq!(
        me["sessions"].as_array().expect("sessions").iter().filter(|one| one["is_current"] == true).count(),
        1
    );
    for path in [format!("/auth/links/{gitee}"), format!("/auth/sessions/{}", sessions[0])] {
        refused(&stranger.script(Method::DELETE, &path).await, 404);
    }
    // A way in that is taken away takes the sessions with it that came by it.
    let second_token = token_of(&second.script(Method::POST, "/auth/token").await);
    assert_eq!((chat(two, &second_token).await, chat(one, &token).await), (200, 200));
    let gone = first.script(Method::DELETE, &format!("/auth/links/{gitee}")).await;
    assert_eq!((gone.status, gone.json()["data"]["links"].as_array().map(Vec::len)), (200, Some(1)));
    assert!(!second.is_signed_in().await && first.is_signed_in().await && elsewhere.is_signed_in().await);
    until("a token of a session that is over", async || chat(two, &second_token).await == 401).await;
    assert_ne!(person_of(&Browser::new(one).sign_in("gitee").await), ann);
    let last = text(&first.me().await["links"][0]["id"]);
    refused(&first.script(Method::DELETE, &format!("/auth/links/{last}")).await, 400);
    the_way_out(one, two, (&first, &token), &elsewhere).await;
    assert!(stranger.is_signed_in().await, "theirs goes on");
}

/// Of one session alone, with its tokens, everywhere within a second or so; then of all of them.
async fn the_way_out(one: &House, two: &House, (first, token): (&Browser, &String), elsewhere: &Browser) {
    let ann = person_of(&elsewhere.get("/auth/me").await);
    let more = token_of(&first.script(Method::POST, "/auth/token").await);
    assert_eq!((chat(two, &more).await, chat(one, &more).await), (200, 200));
    let out = first.script(Method::POST, "/auth/logout").await;
    assert_eq!((out.status, &out.json()["data"]["signed_out"]), (200, &json!(true)));
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    for dead in [token, &more] {
        assert_eq!(chat(one, dead).await, 401, "at once where it was said");
        let since = Instant::now();
        until("a dead token", async || chat(two, dead).await == 401).await;
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    }
    assert!(elsewhere.at(two).is_signed_in().await);
    assert_eq!(first.script(Method::POST, "/auth/logout").await.status, 200, "once more is as well");
    // Of all of them, by a token instead of a cookie.
    let (here, there) = (Browser::new(one), Browser::new(two));
    let token = token_of(&here.sign_in_as("github", "ann").await);
    there.sign_in("github").await;
    let by_token = async |method: Method, path: &str| {
        whole(two.client.request(method, two.url(path)).bearer_auth(&token)).await
    };
    assert_eq!(person_of(&by_token(Method::GET, "/auth/me").await), ann);
    refused(&by_token(Method::POST, "/auth/token").await, 401);
    let out = by_token(Method::POST, "/auth/logout?everywhere=true").await;
    assert_eq!(out.status, 200, "{}", out.text());
    for browser in [&here, &there, elsewhere] {
        assert!(!browser.is_signed_in().await && !browser.at(one).is_signed_in().await);
    }
}

const SUITE: [&str; 2] = ["github", "gitee"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ways_in_sessions_and_the_way_out_in_a_file() {
    let mut house = open(&SUITE, ACCOUNTS, "").await;
    ways_in_sessions_and_the_way_out(&house, &house).await;
    // Known to the next process.
    let browser = Browser::new(&house);
    let token = token_of(&browser.sign_in_as("github", "ann").await);
    house.kill().await;
    house.restart().await;
    assert!(browser.is_signed_in().await);
    assert_eq!(chat(&house, &token).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ways_in_sessions_and_the_way_out_in_a_redis() {
    let redis = Redis::start(&[]);
    let fake = start_fake("");
    let url = "https://weir.test";
    let fragment = format!("{}{ACCOUNTS}{}", redis.store(), doors(fake, &SUITE, Some(url), "").await);
    register(fake, &SUITE, url).await;
    let one = House::start_beside(fake, &fragment, &[]).await;
    let two = House::start_beside(fake, &fragment, &[]).await;
    ways_in_sessions_and_the_way_out(&one, &two).await;
}

/// What is not quite the cookie of one browser's only sign-in.
fn guesses(browser: &Browser, other: &Browser) -> [(String, String); 5] {
    let carried = browser.cookies_of("weir-sign-in.");
    let [(name, value)] = carried.as_slice() else { panic!("one sign-in: {carried:?}") };
    assert!(value.len() < 1500, "{} bytes", value.len());
    let theirs = other.cookies_of("weir-sign-in.").remove(0).1;
    [
        (name.clone(), "x".repeat(43)),
        (name.clone(), theirs),
        (name.clone(), value.replace('.', "")),
        (name.clone(), format!("{value}A")),
        (format!("__Host-{name}"), value.clone()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_did_not_begin_changes_nothing() {
    let house = open(&["oidc", "github", "wechat-open"], "", "").await;
    let (browser, other) = (Browser::new(&house), Browser::new(&house));
    other.away("/auth/oidc").await;
    let back = browser.away("/auth/oidc").await;
    let state = found(&back, "state").expect("a state");
    let long = "s".repeat(60_000);
    let strays = [
        // Nobody's, somebody else's, one of another kind.
        back.replace("state=", "state=x"),
        back.replace(&state, ""),
        back.replace("state=", "stat="),
        back.replace(&state, &state.to_uppercase()),
        back.replace(&state, &state[..state.len() - 1]),
        format!("/auth/oidc/callback?code=c&state={}", "s".repeat(4096)),
        format!("{back}&state={state}"),
        format!("{back}&state=y"),
        format!("{back}&code=y"),
        "/auth/oidc/callback".to_owned(),
        "/auth/oidc/callback?error=access_denied".to_owned(),
        // Another provider's answer, or another issuer's.
        back.replace("/auth/oidc/", "/auth/github/"),
        back.replace("iss=", "iss=x"),
        back.replace("iss=", "is="),
        format!("{back}&iss=https%3A%2F%2Fevil.example"),
        // Another flow's callback.
        back.replace("/auth/oidc/callback", "/api/v1/oauth/callback"),
        back.replace("/auth/oidc/callback", "/huggingface-callback"),
        back.replace("/auth/oidc/", "/auth/OIDC/"),
    ];
    for stray in &strays {
        let answer = browser.get(stray).await;
        assert!([400, 404].contains(&answer.status), "{stray}: {} {}", answer.status, answer.text());
        assert!(!answer.headers.contains_key("set-cookie"), "{stray}");
    }
    let too_long = browser.get(&format!("/auth/oidc/callback?code=c&state={long}")).await;
    assert!([400, 414, 431].contains(&too_long.status), "{}", too_long.status);
    // The right answer in another browser, one without cookies, one with a guess.
    for stranger in [&other, &Browser::new(&house)] {
        assert!(refused(&stranger.get(&back).await, 400).contains("browser"));
    }
    for (name, value) in guesses(&browser, &other) {
        let guess = Browser::new(&house);
        guess.put_cookie(&name, &value);
        refused(&guess.get(&back).await, 400);
    }
    let books = seen(house.fake, "oidc").await;
    assert_eq!(books["endpoints"]["token"].as_u64().unwrap_or(0), 0, "no code went out: {books}");
    // And the one who began is still expected: once.
    let landed = browser.get(&back).await;
    assert_eq!(landed.status, 200, "{}", landed.text());
    assert!(refused(&browser.get(&back).await, 400).contains("not pending"));
    assert!(browser.is_signed_in().await, "a replay changes nothing");
    assert_eq!(seen(house.fake, "oidc").await["grants"]["authorization_code"], 1);
    // Ten at once with one state: one of them.
    let racer = Browser::new(&house);
    let back = racer.away("/auth/oidc").await;
    let all = join_all((0..10).map(|_| racer.get(&back))).await;
    let (good, bad): (Vec<&Answer>, Vec<&Answer>) = all.iter().partition(|answer| answer.status == 200);
    assert_eq!((good.len(), bad.iter().filter(|answer| answer.status == 400).count()), (1, 9));
}

/// Several windows of one browser, which come back in another order than they left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_of_one_browser_sign_in_beside_each_other() {
    let house = open(&["oidc", "github"], "", "").await;
    let tabs = Browser::new(&house);
    let mut backs = Vec::new();
    for door in ["oidc", "github", "oidc", "github", "oidc"] {
        backs.push(tabs.away(&format!("/auth/{door}")).await);
    }
    for at in [3, 0, 4, 1, 2] {
        assert_eq!(tabs.get(&backs[at]).await.status, 200, "{at}");
    }
    assert!(tabs.cookies_of("weir-sign-in.").is_empty(), "nothing is carried on");
    // As many as one pleases: the browser carries the last of them, and no head of a request becomes too large.
    for _ in 0..40 {
        backs.push(tabs.away("/auth/oidc?redirect_after=/account").await);
    }
    assert!(tabs.cookies().len() < 8 * 1024, "{} bytes", tabs.cookies().len());
    assert_eq!(tabs.get(backs.last().expect("one")).await.status, 200);
    assert!(refused(&tabs.get(&backs[5]).await, 400).contains("not pending"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_too_long_begins_again() {
    let fake = start_fake("");
    let fragment = doors(fake, &["github"], None, "").await.replace("return_to", "state_ttl: 2s, return_to");
    let house = House::start_beside(fake, &fragment, &[]).await;
    register(fake, &["github"], &house.url("")).await;
    tell(fake, "github", "settings", &json!({"auto": "ann"})).await;
    let (slow, quick) = (Browser::new(&house), Browser::new(&house));
    let (late, soon) = (slow.away("/auth/github").await, quick.away("/auth/github").await);
    assert_eq!(quick.get(&soon).await.status, 200);
    sleep(Duration::from_secs(3)).await;
    assert!(refused(&slow.get(&late).await, 400).contains("too long"));
    assert_eq!(seen(fake, "github").await["grants"]["authorization_code"], 1, "no code went out");
}

/// Nobody leads anybody elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_ends_where_it_may() {
    let house = open(&["github"], "", "").await;
    let browser = Browser::new(&house);
    for bad in [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "https:evil.example",
        "http:/evil.example",
        "https://console.example.evil",
        "https://console.example@evil.example",
        "http://console.example",
        "https://console.example:444",
        "javascript:alert(1)",
        "data:text/html,x",
        "/%2fevil.example",
        "/%5cevil.example",
        "/a\r\nlocation: https://evil.example",
        "/\t/evil.example",
        "evil.example",
        " /x",
        "?x",
        "#x",
    ] {
        let query =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("redirect_after", bad).finish();
        let answer = browser.get(&format!("/auth/github?{query}")).await;
        assert!(refused(&answer, 400).contains("redirect_after"), "{bad}: {}", answer.text());
        let page = browser.open(&format!("/auth?{query}")).await;
        assert!(
            !page.text().contains("href=\"//") && !page.text().contains("href=\"http"),
            "{}",
            page.text()
        );
    }
    // The last is as long as what an app may ask for, and more than a cookie takes.
    let long = format!("/api/oauth2/authorize?state={}", "x".repeat(4300));
    for good in ["/", "/a?b=c#d", "https://console.example/x", &long] {
        let query =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("redirect_after", good).finish();
        let landed = browser.open(&browser.away(&format!("/auth/github?{query}")).await).await;
        assert_eq!((landed.status, landed.header("location")), (303, good));
        assert!(browser.cookies_of("weir-sign-in.").is_empty());
    }
    let longer = browser.get(&format!("/auth/github?redirect_after=/{}", "x".repeat(7000))).await;
    assert!(refused(&longer, 400).contains("too long"));
    let twice = browser.get("/auth/github?redirect_after=/a&redirect_after=/b").await;
    refused(&twice, 400);
}

/// What a provider answers instead of a token, and what is told.
fn instead_of_tokens() -> Vec<(&'static str, Value, u16)> {
    let token = |what: Value| {
        let mut fault = json!({"on": "token"});
        fault.as_object_mut().expect("an object").extend(what.as_object().expect("an object").clone());
        fault
    };
    vec![
        ("oidc", token(json!({"status": 500})), 502),
        ("oidc", token(json!({"html": true})), 502),
        ("oidc", token(json!({"nothing": true})), 502),
        ("oidc", token(json!({"truncate": true})), 502),
        ("oidc", token(json!({"big": 10_000_000})), 502),
        ("oidc", token(json!({"body": "[]"})), 502),
        ("oidc", token(json!({"status": 302, "location": "http://127.0.0.1:1/"})), 502),
        ("oidc", token(json!({"error": "invalid_grant"})), 400),
        ("oidc", token(json!({"error": "invalid_client"})), 502),
        ("oidc", token(json!({"drop": ["access_token"]})), 502),
        ("github", token(json!({"error": "bad_verification_code"})), 400),
        ("wechat-open", token(json!({"error": "40029"})), 400),
    ]
}

/// ID tokens that are none for this sign-in.
fn id_tokens() -> Vec<(&'static str, Value, u16)> {
    let claims = |claims: Value| json!({"on": "token", "claims": claims});
    vec![
        // ID tokens: missing, unsigned, signed by somebody else, of another sign-in, client, issuer or time.
        ("oidc", json!({"on": "token", "drop": ["id_token"]}), 502),
        ("oidc", json!({"on": "token", "jwt": "none"}), 502),
        ("oidc", json!({"on": "token", "jwt": "broken"}), 502),
        ("oidc", json!({"on": "token", "jwt": "hmac"}), 502),
        ("oidc", json!({"on": "token", "jwt": "unknown_kid"}), 502),
        ("oidc", claims(json!({"nonce": "another"})), 502),
        ("oidc", json!({"on": "token", "drop_claims": ["nonce"]}), 502),
        ("oidc", claims(json!({"aud": "another"})), 502),
        ("oidc", claims(json!({"aud": ["weir-oidc", "another"], "azp": "another"})), 502),
        ("oidc", claims(json!({"iss": "https://evil.example"})), 502),
        ("oidc", claims(json!({"exp": 1})), 502),
        ("oidc", claims(json!({"iat": 9_999_999_999_u64})), 502),
        ("oidc", claims(json!({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"})), 502),
        ("oidc", claims(json!({"sub": "sub-1"})), 502),
        ("oidc", json!({"on": "token", "drop_claims": ["sub"]}), 502),
        ("oidc", json!({"on": "token", "drop_claims": ["iss"]}), 502),
        ("oidc", json!({"on": "token", "drop_claims": ["aud"]}), 502),
        ("oidc", json!({"on": "token", "drop_claims": ["exp"]}), 502),
        ("oidc", json!({"on": "token", "drop_claims": ["iat"]}), 502),
        ("oidc", claims(json!({"nonce": ""})), 502),
        ("oidc", claims(json!({"aud": []})), 502),
        ("oidc", claims(json!({"sub": ""})), 502),
        ("oidc", claims(json!({"sub": 9_007_199_254_740_993_u64})), 502),
        ("oidc", claims(json!({"exp": "never"})), 502),
        ("oidc", claims(json!({"nbf": 9_999_999_999_u64})), 502),
        ("google", claims(json!({"iss": "accounts.google.com.evil"})), 502),
    ]
}

/// Who a provider does not say that it is, and every way to say no.
fn instead_of_people() -> Vec<(&'static str, Value, u16)> {
    vec![
        // Userinfo: down, another's, nobody's.
        ("oidc", json!({"on": "userinfo", "status": 503}), 502),
        ("oidc", json!({"on": "userinfo", "set": {"sub": "sub-1"}}), 502),
        ("github", json!({"on": "userinfo", "drop": ["id"]}), 502),
        ("github", json!({"on": "userinfo", "set": {"id": ""}}), 502),
        ("github", json!({"on": "userinfo", "set": {"id": {"a": 1}}}), 502),
        // No, in every way to say so.
        ("oidc", json!({"on": "redirect", "error": "access_denied"}), 400),
        ("wechat-open", json!({"on": "redirect", "error": "access_denied"}), 400),
        ("github", json!({"on": "redirect", "set": {"error": "application_suspended"}}), 400),
        (
            "oidc",
            json!({"on": "redirect", "set": {"error_description": "<script>alert(1)</script>"}, "error": "x"}),
            400,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_provider_does_wrong_lets_nobody_in() {
    let house = open(&["oidc", "github", "wechat-open", "google"], "", "").await;
    let all = [instead_of_tokens(), id_tokens(), instead_of_people()].concat();
    for (door, fault, status) in all {
        tell(house.fake, door, "faults", &fault).await;
        let browser = Browser::new(&house);
        let back = browser.away(&format!("/auth/{door}")).await;
        let answer = browser.get(&back).await;
        let said = refused(&answer, status);
        assert!(!browser.is_signed_in().await, "{door} {fault}");
        assert!(!said.contains("eyJ") && !said.contains("gho_") && !said.contains("127.0.0.1"), "{said}");
        refused(&browser.get(&back).await, 400);
        tell(house.fake, door, "faults", &json!([])).await;
    }
    assert_eq!(
        house.admin(Method::GET, "/admin/people").await.json()["people"],
        json!([]),
        "nobody was made"
    );
    // Google names itself in two ways.
    tell(house.fake, "oidc", "faults", &json!({"on": "discovery", "status": 500})).await;
    for door in ["oidc", "google"] {
        Browser::new(&house).sign_in(door).await;
    }
    let log = house.log();
    assert!(
        log.contains("somebody could not sign in") && !log.contains("secret-oidc"),
        "the operator is told"
    );
}

/// An issuer that is away is not asked without end, and whoever began before goes on afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_is_away() {
    let house = open(&["oidc"], "", "").await;
    tell(house.fake, "oidc", "faults", &json!({"on": "discovery", "status": 500, "times": null})).await;
    let browser = Browser::new(&house);
    let all = join_all((0..20).map(|_| browser.get("/auth/oidc"))).await;
    assert!(all.iter().all(|answer| refused(answer, 502).contains("could not be reached")));
    assert_eq!(seen(house.fake, "oidc").await["endpoints"]["discovery"], 1, "one asks for all");
    tell(house.fake, "oidc", "faults", &json!([])).await;
    until("it is asked again", async || browser.get("/auth/oidc").await.status == 303).await;
    for _ in 0..5 {
        Browser::new(&house).sign_in("oidc").await;
    }
    let books = seen(house.fake, "oidc").await;
    assert_eq!(books["endpoints"]["discovery"], 2, "asked once for all: {books}");
    assert!(books["endpoints"]["jwks"].as_u64().is_some_and(|times| times <= 2), "{books}");
    // A slow one: whoever waits is told in time, and nobody else waits.
    tell(house.fake, "oidc", "faults", &json!({"on": "token", "hang_s": 60.0})).await;
    let back = browser.away("/auth/oidc").await;
    let since = Instant::now();
    let waiting = browser.get(&back);
    let quick = async {
        Browser::new(&house).sign_in("oidc").await;
        since.elapsed()
    };
    // The fault is the first one's.
    let (slow, quick) = tokio::join!(waiting, async {
        sleep(Duration::from_millis(500)).await;
        quick.await
    });
    refused(&slow, 502);
    assert!(since.elapsed() < Duration::from_secs(20) && quick < Duration::from_secs(8), "{quick:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_is_let_in_comes_in() {
    let admit =
        "admit: [\"*@example.com\", \"gitee:124\"], tenant: team, scopes: [chat], models: [\"gpt-*\"]";
    let house = open(&["github", "gitee", "oidc"], ACCOUNTS, admit).await;
    let comes_in = async |door: &str, person: &str| {
        tell(house.fake, door, "settings", &json!({"auto": person})).await;
        let browser = Browser::new(&house);
        let back = browser.away(&format!("/auth/{door}")).await;
        let answer = browser.get(&back).await;
        if answer.status != 200 {
            assert!(refused(&answer, 403).contains("not let in"), "{door} {person}");
        }
        answer.status == 200
    };
    assert!(comes_in("github", "ann").await, "a verified address");
    assert!(!comes_in("github", "cy").await, "none");
    assert!(!comes_in("oidc", "dot").await, "one that is not verified");
    assert!(!comes_in("gitee", "ann").await, "Gitee does not say whether it is");
    assert!(comes_in("gitee", "cy").await, "by what Gitee calls them");
    // What they may do is what the operator says.
    let browser = Browser::new(&house);
    let token = token_of(&browser.sign_in_as("github", "ann").await);
    let person = browser.me().await["person"].clone();
    assert_eq!((&person["tenant"], &person["scopes"]), (&json!("team"), &json!(["chat"])));
    assert_eq!(chat(&house, &token).await, 200);
    let other = question("qwen-max", "hello", false);
    let other =
        whole(house.client.post(house.url("/v1/chat/completions")).bearer_auth(&token).json(&other)).await;
    assert_eq!(other.error(403), "model_not_allowed");
    let accounts = whole(house.client.get(house.url("/api/v1/oauth/accounts")).bearer_auth(&token)).await;
    assert_eq!(accounts.status, 403);
}

/// An operator sees them, and changes what one of them may do: whoever is signed in is signed out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_says_who_somebody_is() {
    let house = open(&["github"], ACCOUNTS, "scopes: [chat]").await;
    let browser = Browser::new(&house);
    Browser::new(&house).sign_in_as("github", "bob").await;
    let token = token_of(&browser.sign_in_as("github", "ann").await);
    let id = browser.me().await["person"]["id"].as_str().expect("an id").to_owned();
    let put = async |body: Value| {
        let request =
            house.client.put(house.admin_url(&format!("/admin/people/{id}"))).bearer_auth(&house.token);
        whole(request.json(&body)).await
    };
    for wrong in [
        json!({"isblocked": true}),
        json!({"tenant": ""}),
        json!({"scopes": ["fly"]}),
        json!({"models": ["m".repeat(257)]}),
        json!({"models": vec!["m".repeat(200); 21]}),
    ] {
        assert_eq!(put(wrong.clone()).await.status, 400, "{wrong}");
    }
    let changed = put(json!({"scopes": ["chat", "admin"], "tenant": "alpha", "models": null})).await;
    assert_eq!((changed.status, &changed.json()["tenant"]), (200, &json!("alpha")), "{}", changed.text());
    assert_eq!(chat(&house, &token).await, 401);
    let token = token_of(&browser.sign_in("github").await);
    let seen = whole(house.client.get(house.admin_url("/admin/people")).bearer_auth(&token)).await;
    assert_eq!(seen.json()["people"].as_array().map(Vec::len), Some(2), "{}", seen.text());
    assert_eq!(put(json!({"is_blocked": true})).await.status, 200);
    assert_eq!(chat(&house, &token).await, 401);
    assert!(!browser.is_signed_in().await);
    let back = browser.away("/auth/github").await;
    assert!(refused(&browser.get(&back).await, 403).contains("kept out"));
    // Every road to the list without the right to it.
    for token in [None, Some(super::house::mint(json!({"scope": "chat accounts"})))] {
        let mut request = house.client.get(house.admin_url("/admin/people"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        assert!([401, 403].contains(&whole(request).await.status));
    }
    assert_eq!(
        whole(house.client.get(house.url("/admin/people"))).await.status,
        404,
        "not on the public port"
    );
    let gone = house.admin(Method::DELETE, &format!("/admin/people/{id}")).await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_ne!(person_of(&browser.sign_in("github").await), id, "somebody new");
    let audit = house.admin(Method::GET, "/admin/audit").await.text();
    for act in ["person.signed_up", "person.signed_in", "person.changed", "person.removed"] {
        assert!(audit.contains(act), "no {act} in {audit}");
    }
    assert_eq!(house.admin(Method::GET, "/admin/audit/verify").await.json()["broken"], Value::Null);
}

/// A provider that is there for accounts lets nobody in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_unless_the_file_opens_it() {
    let fake = start_fake("");
    let whole_file = doors(fake, &["github"], None, "session_ttl: 3s").await;
    let (accounts_only, _) = whole_file.split_once("sign_in:").expect("two sections");
    let house = House::start_beside(fake, &format!("{ACCOUNTS}{accounts_only}"), &[]).await;
    register(fake, &["github"], &house.url("")).await;
    tell(fake, "github", "settings", &json!({"auto": "ann"})).await;
    let browser = Browser::new(&house);
    for path in ["/auth", "/auth/github", "/auth/github/callback?state=x&code=y", "/auth/me", "/account"] {
        assert_eq!(browser.get(path).await.status, 404, "{path}");
    }
    assert_eq!(browser.script(Method::POST, "/auth/token").await.status, 404);
    // Opened while it runs; and a session ends by itself, with its token.
    house.write(&format!("{ACCOUNTS}{whole_file}"));
    until("the new configuration", async || browser.get("/auth").await.status == 200).await;
    let landed = browser.sign_in("github").await;
    assert!(landed.json()["data"]["expires_in"].as_u64().is_some_and(|left| left <= 3), "{}", landed.text());
    assert_eq!(chat(&house, &token_of(&landed)).await, 200);
    until("the session is over", async || !browser.is_signed_in().await).await;
    assert_eq!(chat(&house, &token_of(&landed)).await, 401);
    // Shut again: whoever is signed in is not, at once.
    house.write(&format!("{ACCOUNTS}{}", whole_file.replace("session_ttl: 3s", "session_ttl: 1d")));
    until("a longer session", async || {
        browser.sign_in("github").await;
        sleep(Duration::from_secs(4)).await;
        browser.is_signed_in().await
    })
    .await;
    house.write(&format!("{ACCOUNTS}{accounts_only}"));
    until("shut", async || browser.get("/auth/me").await.status == 404).await;
}

/// Other sites' pages, with this browser's cookies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_sites_can_do_nothing_with_a_session() {
    let house = open(&["github", "gitee"], ACCOUNTS, "").await;
    let browser = Browser::new(&house);
    browser.sign_in("github").await;
    assert_eq!(browser.link("gitee", "ann").await.status, 200);
    let me = browser.me().await;
    let (link, session) = (&me["links"][0]["id"], &me["sessions"][0]["id"]);
    let link = format!("/auth/links/{}", link.as_str().expect("an id"));
    let session = format!("/auth/sessions/{}", session.as_str().expect("an id"));
    let stranger = Browser::new(&house);
    stranger.sign_in_as("github", "bob").await;
    let theirs = stranger.me().await["ticket"].as_str().expect("a ticket").to_owned();
    let own = house.url("");
    for (site, origin) in [
        (Some("cross-site"), None),
        (Some("same-site"), None),
        (Some("none"), None),
        (Some("cross-site"), Some(own.as_str())),
        (None, Some("https://evil.example")),
        (None, Some("null")),
    ] {
        for (method, path) in [
            (Method::POST, "/auth/token"),
            (Method::POST, "/auth/logout"),
            (Method::POST, "/account"),
            (Method::DELETE, link.as_str()),
            (Method::DELETE, session.as_str()),
        ] {
            let mut request = browser.request(method, path).header("x-weir-ticket", &theirs);
            for (name, value) in [("sec-fetch-site", site), ("origin", origin)] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            let answer = browser.send(request.body(format!("ticket={theirs}&do=end"))).await;
            assert_eq!(answer.status, 403, "{path} {site:?} {origin:?}: {}", answer.text());
            assert_eq!(answer.header("access-control-allow-origin"), "");
        }
    }
    // A way in is added by a form of the page's own only.
    let add = async |browser: &Browser, site: &str, ticket: &str| {
        let form = browser.request(Method::POST, "/auth/gitee").header("sec-fetch-site", site);
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        browser.send(form.body(format!("ticket={ticket}"))).await
    };
    let mine = me["ticket"].as_str().expect("a ticket").to_owned();
    for ticket in ["x", "", theirs.as_str()] {
        refused(&add(&browser, "same-origin", ticket).await, 403);
    }
    refused(&add(&browser, "cross-site", &mine).await, 403);
    refused(&add(&Browser::new(&house), "same-origin", &theirs).await, 401);
    refused(&browser.get(&format!("/auth/gitee?link={mine}")).await, 400);
    // Begun by one and finished by another who is signed in in the same browser by then: nothing is added.
    tell(house.fake, "gitee", "settings", &json!({"auto": "cy"})).await;
    let back = browser.away_to_link("gitee").await;
    browser.sign_in_as("github", "bob").await;
    assert!(refused(&browser.get(&back).await, 400).contains("not signed in any more"));
    assert_eq!(browser.me().await["links"].as_array().map(Vec::len), Some(1));
    assert!(stranger.is_signed_in().await && browser.is_signed_in().await);
}

/// WeChat: known by the id of one application, until there is one for all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_better_name_is_the_same_person() {
    let house = open(&["wechat-mp"], "", "").await;
    tell(house.fake, "wechat-mp", "settings", &json!({"unionid": false})).await;
    let before = person_of(&Browser::new(&house).sign_in("wechat-mp").await);
    tell(house.fake, "wechat-mp", "settings", &json!({"unionid": null})).await;
    let browser = Browser::new(&house);
    assert_eq!(person_of(&browser.sign_in("wechat-mp").await), before);
    assert!(
        browser.me().await["links"][0]["subject"].as_str().is_some_and(|subject| subject.starts_with('u'))
    );
    tell(house.fake, "wechat-mp", "settings", &json!({"unionid": false})).await;
    assert_eq!(person_of(&Browser::new(&house).sign_in("wechat-mp").await), before);
    assert_ne!(person_of(&Browser::new(&house).sign_in_as("wechat-mp", "bob").await), before);
}

/// Whoever begins without end costs no row, and pushes nobody out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_begin_and_never_come_back() {
    let redis = Redis::start(&["--appendfsync", "no"]);
    let fake = start_fake("");
    let more = "starts_per_minute: 100000";
    let fragment = format!("{}{}", redis.store(), doors(fake, &["github"], None, more).await);
    let house = House::start_beside(fake, &fragment, &[]).await;
    register(fake, &["github"], &house.url("")).await;
    tell(fake, "github", "settings", &json!({"auto": "ann"})).await;
    let first = Browser::new(&house);
    let back = first.away("/auth/github").await;
    let kept = || {
        let tables = redis.tell(&["KEYS", "weir:1:{records}:rows:*"]);
        tables
            .lines()
            .map(|table| redis.tell(&["HLEN", table]).parse::<u64>().expect("a number"))
            .sum::<u64>()
    };
    let before = kept();
    for _ in 0..50 {
        let all = join_all((0..20).map(|_| whole(house.client.get(house.url("/auth/github"))))).await;
        assert!(all.iter().all(|answer| answer.status == 303));
    }
    assert_eq!(kept(), before, "nothing is written down of who is nobody yet");
    let landed = first.get(&back).await;
    assert_eq!(landed.status, 200, "a thousand do not push one out: {}", landed.text());
}

/// Whoever has begun may come back, which costs a write and a question to the provider before anybody knows who it is: so many from one
/// address in a minute, told in either shape. Who has begun goes on, and so does who is signed in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_begins_so_often_and_no_more() {
    let house = open(&["oidc"], "", "starts_per_minute: 20").await;
    let browser = Browser::new(&house);
    let back = browser.away("/auth/oidc").await;
    // Others at that address, and not this browser: what that carries is its own.
    let others = Browser::new(&house);
    for _ in 1..20 {
        assert_eq!(others.get("/auth/oidc").await.status, 303);
    }
    for _ in 0..200 {
        let answer = others.get("/auth/oidc").await;
        // What drains meanwhile may come in.
        if answer.status == 303 {
            continue;
        }
        assert!(refused(&answer, 429).contains("from this address"));
        assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| (1..=3).contains(&seconds)));
    }
    let page = others.open("/auth/oidc?redirect_after=/x").await;
    assert!([303, 429].contains(&page.status), "{}", page.status);
    let page = if page.status == 303 { others.open("/auth/oidc").await } else { page };
    assert!(page.status == 429 && page.header("content-type").starts_with("text/html"), "{}", page.text());
    assert!(page.text().contains("from this address") && !page.header("retry-after").is_empty());
    assert_eq!(browser.get(&back).await.status, 200, "who has begun goes on");
    assert!(browser.is_signed_in().await);
    until("it drains", async || browser.get("/auth/oidc").await.status == 303).await;
}

/// S2: keys that an issuer says are inside are not fetched from there; nor is anything else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_an_issuer_leads_nobody_inside() {
    let trap = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    trap.set_nonblocking(true).expect("a socket");
    let port = trap.local_addr().expect("bound").port();
    for endpoint in ["jwks_uri", "userinfo_endpoint", "token_endpoint"] {
        for host in ["127.0.0.1", "2130706433", "localhost", "[::ffff:127.0.0.1]"] {
            let house = open(&["oidc"], "", "").await;
            let place = format!("http://{host}:{port}/x");
            let fault = json!({"on": "discovery", "times": null, "set": {endpoint: place}});
            tell(house.fake, "oidc", "faults", &fault).await;
            let browser = Browser::new(&house);
            let sent = browser.open("/auth/oidc").await;
            if sent.status == 303 {
                let back = browser.agree(sent.header("location")).await;
                refused(&browser.get(&back).await, 502);
            } else {
                assert_eq!(sent.status, 502, "{place}: {}", sent.text());
            }
            assert!(!browser.is_signed_in().await);
        }
    }
    assert!(trap.accept().is_err(), "somebody came");
}

/// O6: the issuer's keys roll over, again and again, while five hundred sign in: nobody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o6_keys_that_roll_over_while_five_hundred_sign_in() {
    let house = open(&["oidc"], "", "starts_per_minute: 100000").await;
    let one = async || Browser::new(&house).sign_in("oidc").await.status;
    for round in 0..5 {
        let all = join_all((0..5).map(|_| async {
            let mut good = 0;
            for _ in 0..20 {
                good += usize::from(one().await == 200);
            }
            good
        }));
        let roll = async {
            sleep(Duration::from_millis(300)).await;
            tell(house.fake, "oidc", "rollover", &json!({"drop_old": false})).await;
        };
        let (good, ()) = tokio::join!(all, roll);
        assert_eq!(good.iter().sum::<usize>(), 100, "round {round}: {good:?}");
    }
}

/// Codes, states, cookies, tokens and secrets: in no log line however talkative, in no answer that is not theirs, and not in the
/// store as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_opens_anything_is_written_down() {
    let fragment = format!("log: {{level: \"trace\", format: json}}\n{ACCOUNTS}");
    let mut house = open(&DOORS, &fragment, "").await;
    let mut canaries = Canaries::default();
    let mut seen_by_others = Vec::new();
    for door in DOORS {
        let browser = Browser::new(&house);
        let sent = browser.open(&format!("/auth/{door}")).await;
        let to = sent.header("location").to_owned();
        canaries.watch(&format!("{door}: state"), &found(&to, "state").expect("a state")[17..]);
        for name in ["nonce", "code_challenge"] {
            if let Some(value) = found(&to, name) {
                canaries.watch(&format!("{door}: {name}"), &value);
            }
        }
        let (_, carried) = browser.cookies_of("weir-sign-in.").remove(0);
        canaries.watch(&format!("{door}: browser"), carried.rsplit('.').next().expect("what is sealed"));
        let back = browser.agree(&to).await;
        canaries.watch(&format!("{door}: code"), &found(&back, "code").expect("a code"));
        seen_by_others.push(Browser::new(&house).get(&back).await);
        let landed = browser.get(&back).await;
        let token = token_of(&landed);
        canaries.watch(&format!("{door}: token"), token.rsplit('.').next().expect("a signature"));
        let session = browser.cookie("weir-session").expect("a session");
        canaries.watch(&format!("{door}: session"), session.rsplit('.').next().expect("a secret"));
        canaries.watch(&format!("{door}: ticket"), browser.me().await["ticket"].as_str().expect("a ticket"));
        canaries.watch(&format!("{door}: client secret"), &format!("secret-{door}"));
        for token in seen(house.fake, door).await["access_tokens"].as_object().expect("tokens").keys() {
            canaries.watch(&format!("{door}: provider's token"), token);
        }
        seen_by_others.push(browser.get(&back).await);
        assert_eq!(chat(&house, &token).await, 200);
        browser.script(Method::POST, "/auth/logout").await;
        seen_by_others.push(whole(house.client.get(house.url("/auth/me")).bearer_auth(&token)).await);
    }
    canaries.watch("LinuxDo's key", "CANARY-linuxdo-api-key-must-never-be-kept");
    for path in ["/admin/people", "/admin/audit", "/metrics"] {
        seen_by_others.push(house.admin(Method::GET, path).await);
    }
    for answer in &seen_by_others {
        canaries.must_not_be_in("an answer", &answer.body);
    }
    canaries.must_not_be_in("the log", house.log().as_bytes());
    house.kill().await;
    let store = std::fs::read(house.folder().join("store/weir.redb")).expect("the store");
    assert!(memchr::memmem::find(&store, b"per_").is_some(), "the search finds what is there");
    canaries.must_not_be_in("the store", &store);
}
