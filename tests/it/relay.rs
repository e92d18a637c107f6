//! Accounts by signing in at a platform's own page, in a real Chromium that a person uses over the relay, against a site with a password, a
//! second factor and a question for humans. What becomes of the browser and its profile is looked at on the disk and among the processes.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use weir::browser::users_of;
use weir::fake::PASSWORD;

use super::canary::Canaries;
use super::house::{House, PATIENCE, mint, question, until, value_of, whole};
use super::person::{Begun, Person, begin, connect, end, initiate, owner, read, state, ticket};

/// Where pages of the gateway's are from.
pub fn origin(house: &House) -> String {
    format!("http://{}", house.listen)
}

/// Chromium refuses its sandbox to root.
pub fn sandbox() -> bool {
    std::fs::metadata("/proc/self").expect("Linux").uid() != 0
}

/// A configuration with these settings and this row, and the platform that the site is the door of.
pub fn fragment(settings: &str, row: &str) -> String {
    format!(
        "platforms:\n  my-site: {{dialect: openai, base_url: \"http://$FAKE/site-api/v1\", auth: bearer, models: [gpt-4o]}}\n  \
         my-cookies: {{dialect: openai, base_url: \"http://$FAKE/site-api/v1\", auth: cookie, models: [gpt-4o]}}\n\
         oauth:\n  browser:\n    sandbox: {}\n    window: relayed\n{settings}    sites:\n      my-site: {{{row}}}\n      my-cookies: {{{COOKIES}}}\n\
         log: {{level: trace, format: json}}\n",
        sandbox()
    )
}

pub const STORAGE: &str = "title: My Site, login_url: \"http://$FAKE/site/login\", expect: \"#username\", \
    wait_for: {url: \"http://$FAKE/site/home\"}, credential: {storage: site_token}";

const COOKIES: &str = "login_url: \"http://$FAKE/site/login\", wait_for: {url: \"http://$FAKE/site/home*\"}, \
    credential: {cookies: [site_session]}";

async fn house() -> House {
    House::start(&fragment("", STORAGE)).await
}

/// Folders of browsers that are there.
fn profiles(house: &House) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(house.folder()).expect("a folder").flatten().map(|entry| entry.path());
    entries
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("weir-browser-"))
        })
        .collect()
}

/// The browser's processes, by their profile.
fn browsers(house: &House) -> Vec<i32> {
    profiles(house).iter().flat_map(|folder| users_of(folder)).collect()
}

/// No browser and nothing of a profile is left.
pub async fn nothing_is_left(house: &House, profile: &[PathBuf]) {
    let since = Instant::now();
    while !profiles(house).is_empty() || profile.iter().any(|folder| !users_of(folder).is_empty()) {
        assert!(since.elapsed() < PATIENCE, "{:?} {:?}", profiles(house), browsers(house));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn accounts(house: &House) -> Value {
    let list = whole(house.client.get(house.url("/api/v1/oauth/accounts")).bearer_auth(owner())).await;
    assert_eq!(list.status, 200, "{}", list.text());
    list.json()["data"].clone()
}

pub async fn ask(house: &House, model: &str) -> u16 {
    let request = house.client.post(house.url("/v1/chat/completions")).bearer_auth(owner());
    whole(request.json(&question(model, "hi", false))).await.status
}

/// Lines are written by a thread of their own.
async fn is_logged(house: &House, what: &str) {
    until(what, || async { house.log().contains(what) }).await;
}

#[tokio::test]
async fn from_the_link_to_a_chat_completion_and_nothing_is_left_but_the_account() {
    let house = house().await;
    let platforms =
        whole(house.client.get(house.url("/api/v1/oauth/platforms")).bearer_auth(owner())).await.json();
    let platforms = platforms["data"].as_array().expect("a list").clone();
    let mine = platforms.iter().find(|platform| platform["platform_id"] == "my-site").expect("listed");
    assert_eq!(mine["onboarding"], json!(["api_key", "browser"]));
    let begun = begin(&house, "my-site").await;
    let profile = profiles(&house);
    assert_eq!(profile.len(), 2, "a folder and its lock: {profile:?}");
    for path in &profile {
        assert_eq!(std::fs::metadata(path).expect("there").mode() & 0o077, 0, "{}", path.display());
    }
    assert!(!browsers(&house).is_empty());
    // Nobody else on this machine can talk to it.
    assert_eq!(ports_of(&browsers(&house)), Vec::<String>::new());
    let own = ports_of(&[i32::try_from(house.process_id()).expect("a number")]);
    assert!(!own.is_empty(), "whoever listens is seen");
    assert_eq!(value_of(&house.metrics().await, "weir_browsers"), 1.0);
    if !sandbox() {
        is_logged(&house, "sandbox is off").await;
    }
    let page = whole(house.client.get(&begun.page).header("cookie", &begun.cookie)).await;
    let ticket_of_page = ticket(&page);
    let shown = connect(&house, &begun, &begun.cookie, Some(&origin(&house)), &ticket_of_page).await;
    drop(shown.expect("let in"));
    let mut person = Person::open(&house, &begun).await;
    person.waits_for_turn().await;
    assert_eq!(person.told["host"], json!(house.fake.to_string()));
    person.signs_in().await;
    person.sees("done", |told| told["state"] == "done").await;
    assert!(person.told["message"].as_str().expect("words").contains("mine"), "{}", person.told);
    assert_eq!(person.told["next"], "/console");
    // Gone before that was told.
    assert!(profiles(&house).is_empty(), "{:?}", profiles(&house));
    assert!(profile.iter().all(|folder| users_of(folder).is_empty()));
    let ended = state(&house, &begun).await;
    let listed = accounts(&house).await;
    assert_eq!((&listed[0]["id"], &listed[0]["account_name"]), (&ended["account_id"], &json!("mine")));
    assert_eq!(listed[0]["consent"]["provider"], "page:my-site");
    assert_eq!(ask(&house, "my-site/gpt-4o").await, 200);
    assert_eq!(value_of(&house.metrics().await, "weir_browsers"), 0.0);
    assert_eq!(value_of(&house.metrics().await, "weir_browser_sign_ins_total{outcome=\"done\"}"), 1.0);
    // What was typed and what was taken is in no log, at the finest level.
    let mut canaries = Canaries::default();
    canaries.spell("password", PASSWORD);
    canaries.spell("a key", "KeyPress");
    canaries.spell("what a page says", "\\\"t\\\":");
    canaries.spell("token", "sk-site-");
    canaries.spell("cookie", "site_session=");
    canaries.spell("ticket", &ticket_of_page);
    canaries.spell("seat", begun.cookie.split_once('=').expect("a pair").1);
    is_logged(&house, "a sign-in in a browser has ended").await;
    canaries.must_not_be_in("the log", house.log().as_bytes());
    canaries.must_not_be_in("what is listed", listed.to_string().as_bytes());
    canaries.must_not_be_in("the metrics", house.metrics().await.as_bytes());
    let audit = house.admin(http::Method::GET, "/admin/audit").await;
    assert!(audit.text().contains("account.signed_in"), "{}", audit.text());
    canaries.must_not_be_in("the audit log", &audit.body);
}

/// In a log two names may look the same: they are cut there.
#[tokio::test]
async fn whoever_is_called_like_the_owner_is_not_the_owner() {
    let house = house().await;
    let token = |letters: usize| mint(json!({"sub": "x".repeat(letters), "scope": "chat accounts"}));
    let begun = read(&initiate(&house, &token(200), "my-site", "mine").await);
    let url = house.url(&format!("/api/v1/oauth/browser/{}", begun.id));
    assert_eq!(whole(house.client.get(&url).bearer_auth(token(201))).await.status, 404);
    assert_eq!(whole(house.client.delete(&url).bearer_auth(token(200))).await.status, 200);
}

/// What its owner types goes through here: never over a network in plain text.
#[tokio::test]
async fn without_a_name_nobody_types_a_password_over_a_network() {
    let mut house = house().await;
    house.write(&format!("listen: 0.0.0.0:{}\n{}", house.listen.port(), fragment("", STORAGE)));
    house.signal("TERM");
    assert!(house.ended().await.success());
    house.restart().await;
    let refused = initiate(&house, &owner(), "my-site", "mine").await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("oauth.public_url"), "{}", refused.text());
    assert!(profiles(&house).is_empty());
}

#[tokio::test]
async fn a_session_that_ended_is_signed_in_to_again_and_cookies_are_credentials_too() {
    let house = house().await;
    for round in 1..=2 {
        let begun = begin(&house, "my-cookies").await;
        let mut person = Person::open(&house, &begun).await;
        person.waits_for_turn().await;
        person.signs_in().await;
        person.sees("done", |told| told["state"] == "done").await;
        assert_eq!(ask(&house, "my-cookies/gpt-4o").await, 200, "round {round}");
        assert_eq!(accounts(&house).await.as_array().map(Vec::len), Some(1), "the same account");
        let forget = house.client.post(format!("http://{}/_fake/site/expire", house.fake));
        assert_eq!(whole(forget).await.status, 200);
        assert_ne!(ask(&house, "my-cookies/gpt-4o").await, 200);
        until("it is told", || async { accounts(&house).await[0]["is_expired"] == true }).await;
    }
}

/// Two of one tenant, who call theirs the same: neither gets the other's session.
#[tokio::test]
async fn a_colleague_signs_in_to_an_account_of_their_own() {
    let house = house().await;
    let bob = mint(json!({"sub": "bob", "scope": "chat accounts"}));
    for token in [owner(), bob.clone()] {
        let begun = read(&initiate(&house, &token, "my-site", "mine").await);
        let mut person = Person::open(&house, &begun).await;
        person.waits_for_turn().await;
        person.signs_in().await;
        person.sees("done", |told| told["state"] == "done").await;
    }
    let list = house.client.get(house.url("/api/v1/oauth/accounts")).bearer_auth(bob);
    let (his, hers) = (whole(list).await.json()["data"].clone(), accounts(&house).await);
    assert_eq!((his.as_array().map(Vec::len), hers.as_array().map(Vec::len)), (Some(1), Some(1)));
    assert_ne!(his[0]["id"], hers[0]["id"]);
}

#[tokio::test]
async fn whoever_did_not_begin_does_not_get_to_see_it() {
    let house = house().await;
    let begun = begin(&house, "my-site").await;
    let own_origin = origin(&house);
    let get = async |cookie: &str| whole(house.client.get(&begun.page).header("cookie", cookie)).await;
    // The address alone is nothing.
    let foreign = format!("{}={}", begun.cookie.split_once('=').expect("a pair").0, "x".repeat(43));
    for cookie in ["", foreign.as_str(), "weir-begun=x"] {
        let page = get(cookie).await;
        assert_eq!(page.status, 403, "{cookie}");
        assert!(!page.text().contains("data-ticket") && page.text().contains("Who are you?"));
    }
    let page = get(&begun.cookie).await;
    for (name, part) in [
        ("content-security-policy", "frame-ancestors 'none'"),
        ("content-security-policy", "default-src 'none'"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert!(page.header(name).contains(part), "{name}: {}", page.header(name));
    }
    assert!(!page.header("content-security-policy").contains("unsafe"));
    let first = ticket(&page);
    // A good ticket, and something else that is wrong.
    for (cookie, origin, ticket) in [
        (foreign.as_str(), Some(own_origin.as_str()), first.as_str()),
        ("", Some(own_origin.as_str()), first.as_str()),
        (begun.cookie.as_str(), Some("https://evil.example"), first.as_str()),
        (begun.cookie.as_str(), Some("null"), first.as_str()),
        (begun.cookie.as_str(), None, first.as_str()),
        (begun.cookie.as_str(), Some(own_origin.as_str()), "made-up"),
    ] {
        let refused = connect(&house, &begun, cookie, origin, ticket).await;
        assert_eq!(refused.err(), Some(403), "{cookie} {origin:?} {ticket}");
    }
    let let_in = connect(&house, &begun, &begun.cookie, Some(&own_origin), &first).await;
    assert!(let_in.is_ok(), "none of these used the ticket up");
    let again = connect(&house, &begun, &begun.cookie, Some(&own_origin), &first).await;
    assert_eq!(again.err(), Some(403), "once");
    // Others, by their own names: not there, for them.
    for stranger in
        [json!({"sub": "bob", "scope": "accounts"}), json!({"tenant": "beta", "scope": "accounts"})]
    {
        let token = mint(stranger);
        let url = house.url(&format!("/api/v1/oauth/browser/{}", begun.id));
        assert_eq!(whole(house.client.get(&url).bearer_auth(&token)).await.status, 404);
        assert_eq!(whole(house.client.delete(&url).bearer_auth(&token)).await.status, 404);
        let shown = whole(house.client.post(&begun.page).body(format!("token={token}"))).await;
        assert!(shown.status == 403 && shown.header("set-cookie").is_empty(), "{}", shown.text());
    }
    assert_eq!(state(&house, &begun).await["message"], Value::Null, "and it goes on");
    // In another browser whoever began shows who they are; from a page of somebody else's that does not work.
    let prove = |more: (&'static str, &'static str)| {
        house.client.post(&begun.page).header(more.0, more.1).body(format!("token={}", owner()))
    };
    assert_eq!(whole(prove(("sec-fetch-site", "cross-site"))).await.status, 403);
    assert_eq!(whole(prove(("origin", "https://evil.example"))).await.status, 403);
    let proved = whole(prove(("sec-fetch-site", "same-origin"))).await;
    assert_eq!((proved.status, proved.header("location")), (303, format!("/browser/{}", begun.id).as_str()));
    let cookie = proved.header("set-cookie").split(';').next().expect("a cookie").to_owned();
    let mut person = Person::open(&house, &Begun { cookie, ..begun.clone() }).await;
    person.waits_for_turn().await;
    person.cancels().await;
    person.sees("cancelled", |told| told["state"] == "cancelled").await;
    nothing_is_left(&house, &[]).await;
}

/// Nobody comes; and somebody comes and takes their time, for longer than a request's head may take.
#[tokio::test]
async fn nobody_is_there_or_somebody_is_slow() {
    let settings =
        format!("{}timeouts: {{request_header: 1s}}\n", fragment("    time_limit: 12s\n", STORAGE));
    let house = House::start(&settings).await;
    let slow = async {
        let begun = begin(&house, "my-site").await;
        let mut person = Person::open(&house, &begun).await;
        person.waits_for_turn().await;
        person.looks_for(Duration::from_secs(8)).await;
        person.cancels().await;
        person.sees("cancelled", |told| told["state"] == "cancelled").await;
    };
    let none = async {
        let begun = begin(&house, "my-cookies").await;
        let ended = end(&house, &begun).await;
        assert!(ended["message"].as_str().expect("words").contains("Nobody was at the page"), "{ended}");
        assert!(ended["expires_in"].as_u64().expect("seconds") > 1, "{ended}");
    };
    // One after the other: nobody has two.
    slow.await;
    none.await;
    nothing_is_left(&house, &[]).await;
}

#[tokio::test]
async fn a_sign_in_is_cancelled_by_its_owner_and_by_the_clock() {
    let house = House::start(&fragment("    time_limit: 8s\n", STORAGE)).await;
    let begun = begin(&house, "my-site").await;
    let profile = profiles(&house);
    let url = house.url(&format!("/api/v1/oauth/browser/{}", begun.id));
    let cancelled = whole(house.client.delete(url).bearer_auth(owner())).await;
    assert_eq!((cancelled.status, &cancelled.json()["data"]["state"]), (200, &json!("cancelled")));
    assert!(profiles(&house).is_empty() && profile.iter().all(|folder| users_of(folder).is_empty()));
    let begun = begin(&house, "my-site").await;
    let profile = profiles(&house);
    let began = Instant::now();
    let mut person = Person::open(&house, &begun).await;
    person.waits_for_turn().await;
    person.sees("late", |told| told["state"] == "late").await;
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    nothing_is_left(&house, &profile).await;
    assert_eq!(accounts(&house).await.as_array().map(Vec::len), Some(0));
    // A page of it that is opened now says so.
    assert_eq!(state(&house, &begun).await["state"], "late");
}

#[tokio::test]
async fn a_site_that_has_changed_is_told_in_words() {
    for (row, state, words) in [
        (STORAGE.replace("#username", "#user-name"), "failed", "has no `#user-name`"),
        (STORAGE.replace("/site/login", "/nowhere/at/all"), "failed", "has no `#username`"),
        (
            STORAGE
                .replace("http://$FAKE/site/login", "http://127.0.0.1:1/")
                .replace("wait_for", "hosts: [\"$FAKE\"], wait_for"),
            "failed",
            "ERR_",
        ),
        (
            STORAGE.replace("/site/login", "/site/away?to=http://localhost:1/secret"),
            "failed",
            "leads to localhost, which is not among the `hosts`",
        ),
    ] {
        let house = House::start(&fragment("    time_limit: 12s\n", &row)).await;
        let begun = begin(&house, "my-site").await;
        let profile = profiles(&house);
        let ended = end(&house, &begun).await;
        assert_eq!(ended["state"], state, "{ended}");
        assert!(ended["message"].as_str().expect("words").contains(words), "{ended}");
        nothing_is_left(&house, &profile).await;
    }
    // Signed in, and what the row names is not what the site leaves.
    for (row, words) in [
        (STORAGE.replace("site_token", "token_of_old"), "left no entry `token_of_old`"),
        (
            STORAGE.replace(
                "credential: {storage: site_token}",
                "credential: {storage: site_token, member: user}",
            ),
            "cannot be used",
        ),
    ] {
        let house = House::start(&fragment("    time_limit: 30s\n", &row)).await;
        let begun = begin(&house, "my-site").await;
        let mut person = Person::open(&house, &begun).await;
        person.waits_for_turn().await;
        person.signs_in().await;
        person.sees("failed", |told| told["state"] == "failed").await;
        assert!(person.told["message"].as_str().expect("words").contains(words), "{}", person.told);
        nothing_is_left(&house, &[]).await;
    }
}

/// The browser's first process, which everything of it hangs on.
fn first(house: &House) -> i32 {
    let is_first = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == b"--remote-debugging-pipe")
    };
    browsers(house).into_iter().find(is_first).expect("a browser")
}

fn send(signal: &str, pid: i32) {
    let sent = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

#[tokio::test]
async fn a_browser_that_dies_in_the_middle_is_told_and_leaves_nothing() {
    let house = house().await;
    let begun = begin(&house, "my-site").await;
    let profile = profiles(&house);
    let mut person = Person::open(&house, &begun).await;
    person.waits_for_turn().await;
    send("KILL", first(&house));
    person.sees("failed", |told| told["state"] == "failed").await;
    assert!(person.told["message"].as_str().expect("words").contains("browser ended"), "{}", person.told);
    nothing_is_left(&house, &profile).await;
    // The next one works.
    let begun = begin(&house, "my-site").await;
    Person::open(&house, &begun).await.waits_for_turn().await;
}

#[tokio::test]
async fn a_gateway_that_is_killed_takes_its_browser_along_and_the_next_one_wipes_up() {
    let mut house = house().await;
    begin(&house, "my-site").await;
    let profile = profiles(&house);
    house.kill().await;
    until("the browser goes by itself", || async { browsers(&house).is_empty() }).await;
    assert_eq!(profiles(&house).len(), profile.len(), "nobody was there to wipe it");
    house.restart().await;
    nothing_is_left(&house, &profile).await;
}

/// One that hears nothing does not go by itself: the next gateway ends it.
#[tokio::test]
async fn a_browser_that_outlives_a_killed_gateway_is_ended_by_the_next() {
    let mut house = House::start(&fragment("    program: $FOLDER/deaf\n", STORAGE)).await;
    let deaf = house.folder().join("deaf");
    std::fs::write(&deaf, "#!/bin/sh\ntrap '' HUP TERM\nwhile :; do sleep 1; done\n").expect("written");
    std::fs::set_permissions(&deaf, PermissionsExt::from_mode(0o755)).expect("set");
    let ask = json!({"platform": "my-site", "account_name": "mine"});
    let asking = house.client.post(house.url("/api/v1/oauth/initiate")).bearer_auth(owner()).json(&ask);
    let asking = tokio::spawn(asking.send());
    until("it has started", || async { !browsers(&house).is_empty() }).await;
    let (profile, deaf) = (profiles(&house), browsers(&house));
    house.kill().await;
    assert!(asking.await.expect("ran").is_err());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(browsers(&house), deaf, "it heard something");
    house.restart().await;
    nothing_is_left(&house, &profile).await;
    is_logged(&house, "wiped what a gateway that was killed had left").await;
}

#[tokio::test]
async fn a_gateway_that_stops_leaves_no_browser() {
    let mut house = house().await;
    let begun = begin(&house, "my-site").await;
    let profile = profiles(&house);
    let _person = Person::open(&house, &begun).await;
    // Another takes its place: it could keep nothing any more.
    let mut old = house.upgrade();
    nothing_is_left(&house, &profile).await;
    until("the old one has ended", || std::future::ready(old.try_wait().expect("a child").is_some())).await;
    until("the new one is there", || async { ask(&house, "my-site/gpt-4o").await == 503 }).await;
    let begun = begin(&house, "my-site").await;
    let profile = profiles(&house);
    let _person = Person::open(&house, &begun).await;
    house.signal("TERM");
    assert!(house.ended().await.success());
    assert!(profiles(&house).is_empty(), "{:?}", profiles(&house));
    assert!(profile.iter().all(|folder| users_of(folder).is_empty()));
}

#[tokio::test]
async fn browsers_are_few_and_each_person_has_one() {
    let house = House::start(&fragment("", STORAGE)).await;
    // Many at once: one browser.
    let owner = owner();
    let many = futures_util::future::join_all((0..20).map(|at| {
        let platform = if at % 2 == 0 { "my-site" } else { "my-cookies" };
        initiate(&house, &owner, platform, "mine")
    }))
    .await;
    let (good, hasty): (Vec<_>, Vec<_>) = many.iter().partition(|answer| answer.status == 200);
    assert!(hasty.iter().all(|answer| answer.status == 503 && answer.text().contains("just being opened")));
    assert_eq!(value_of(&house.metrics().await, "weir_browsers"), 1.0, "{} were let in", good.len());
    assert_eq!(profiles(&house).len(), 2, "{:?}", profiles(&house));
    // Whoever begins again gives up the one before, wherever it is; others have their place.
    let first = begin(&house, "my-cookies").await;
    let other = |name: &str| mint(json!({"sub": name, "scope": "chat accounts"}));
    let bob = initiate(&house, &other("bob"), "my-site", "his").await;
    assert_eq!(bob.status, 200, "{}", bob.text());
    let second = begin(&house, "my-site").await;
    assert_eq!(state(&house, &first).await["state"], "ended");
    let refused = initiate(&house, &other("carol"), "my-site", "hers").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("in use") && !refused.header("retry-after").is_empty());
    let url = house.url(&format!("/api/v1/oauth/browser/{}", second.id));
    assert_eq!(whole(house.client.delete(url).bearer_auth(&owner)).await.status, 200);
    let let_in = initiate(&house, &other("carol"), "my-site", "hers").await;
    assert_eq!(let_in.status, 200, "{}", let_in.text());
}

#[tokio::test]
async fn what_makes_no_sense_and_what_is_missing_is_told() {
    let house = House::start(&fragment("    program: /nowhere/chromium\n", STORAGE)).await;
    let refused = initiate(&house, &owner(), "my-site", "mine").await;
    assert_eq!(refused.status, 500, "{}", refused.text());
    assert!(refused.text().contains("cannot open a browser") && !refused.text().contains("/nowhere"));
    is_logged(&house, "there is no program /nowhere/chromium").await;
    let ask = async |more: Value| {
        let mut body = json!({"platform": "my-site", "account_name": "mine"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let url = house.url("/api/v1/oauth/initiate");
        whole(house.client.post(url).bearer_auth(owner()).json(&body)).await
    };
    for (more, why) in [
        (json!({"account_name": ""}), "account_name"),
        (json!({"redirect_after": "//evil.example"}), "redirect_after"),
        (json!({"api_key": "sk-1"}), "api_key"),
        (json!({"login_url": "http://169.254.169.254/"}), "unknown field"),
    ] {
        let refused = ask(more).await;
        assert!(refused.status == 400 && refused.text().contains(why), "{why}: {}", refused.text());
    }
    assert_eq!(whole(house.client.get(house.url("/browser/bs_nothing"))).await.status, 410);
    let id = format!("bs_{}", "x".repeat(32));
    let url = house.url(&format!("/api/v1/oauth/browser/{id}"));
    assert_eq!(whole(house.client.get(url).bearer_auth(owner())).await.status, 404);
    let bare = whole(house.client.get(house.url("/browser/x/relay"))).await;
    assert_eq!(bare.status, 400, "{}", bare.text());
    if !sandbox() {
        // As root, with the sandbox wanted: Chromium refuses, and why is for the operator.
        let wanted = fragment("", STORAGE).replace("sandbox: false", "sandbox: true");
        let house = House::start(&wanted).await;
        let refused = initiate(&house, &owner(), "my-site", "mine").await;
        assert_eq!(refused.status, 500, "{}", refused.text());
        is_logged(&house, "sandbox cannot be used here").await;
        nothing_is_left(&house, &[]).await;
    }
}

/// A page that tries everything to reach what else is on the gateway's machine.
#[tokio::test]
async fn nothing_inside_is_reached_by_a_page() {
    let inside = tokio::net::TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let calls = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let port = |address: std::io::Result<std::net::SocketAddr>| address.expect("bound").port();
    let (tcp, udp) = (port(inside.local_addr()), port(calls.local_addr()));
    // Its address in a network, where it is in one.
    let out = tokio::net::UdpSocket::bind("0.0.0.0:0").await.expect("a port");
    let own = out.connect("192.0.2.1:9").await.and_then(|()| out.local_addr()).map(|address| address.ip());
    let own = own.unwrap_or(std::net::Ipv4Addr::LOCALHOST.into());
    let row = STORAGE.replace("/site/login", &format!("/site/reach?port={tcp}&udp={udp}&inside={own}"));
    let house = House::start(&fragment("", &row.replace("expect: \"#username\", ", ""))).await;
    let begun = begin(&house, "my-site").await;
    let mut person = Person::open(&house, &begun).await;
    // Its script has come to its end, and requests to the site itself go through.
    let fake = format!("http://{}/_fake/site", house.fake);
    let comes = async {
        until("the page has tried", || async {
            whole(house.client.get(&fake)).await.json()["wrong"]["password"] == 1
        })
        .await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    let mut reached = Vec::new();
    let mut datagram = [0; 64];
    let comes = std::pin::pin!(comes);
    let mut comes = Some(comes);
    while let Some(coming) = comes.as_mut() {
        tokio::select! {
            () = coming => comes = None,
            Ok((mut stream, _)) = inside.accept() => {
                let mut head = [0; 128];
                let read = tokio::time::timeout(Duration::from_millis(300), tokio::io::AsyncReadExt::read(&mut stream, &mut head));
                let read = read.await.ok().and_then(Result::ok).unwrap_or_default();
                let line = String::from_utf8_lossy(&head[..read]).into_owned();
                reached.push(line.lines().next().unwrap_or("a connection without a word").to_owned());
            }
            Ok(_) = calls.recv(&mut datagram) => reached.push("a datagram".to_owned()),
            _ = person.looks_for(Duration::from_secs(600)) => {}
        }
    }
    assert!(reached.is_empty(), "{reached:#?}");
    person
        .sees("where it wanted to go", |told| {
            told["notice"].as_str().is_some_and(|words| words.contains("localhost"))
        })
        .await;
    assert!(person.told["host"].as_str().expect("a host").starts_with("127.0.0.1"), "{}", person.told);
    person.cancels().await;
}

/// Ports that these processes listen on, by the system's own account.
fn ports_of(pids: &[i32]) -> Vec<String> {
    let sockets: Vec<String> = pids
        .iter()
        .filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).ok())
        .flat_map(|open| open.flatten())
        .filter_map(|fd| Some(std::fs::read_link(fd.path()).ok()?.to_string_lossy().into_owned()))
        .filter_map(|to| Some(to.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables = ["tcp", "tcp6"]
        .map(|table| std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines());
    let columns = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    // 0A: it listens.
    columns
        .filter(|line| line.len() > 9 && line[3] == "0A" && sockets.iter().any(|inode| inode == line[9]))
        .map(|line| line[1].to_owned())
        .collect()
}

/// Pop-ups, questions in boxes of the browser's own, and links that lead where nobody is to go.
#[tokio::test]
async fn pop_ups_boxes_and_links_elsewhere() {
    let row = STORAGE.replace("/site/login", "/site/popup").replace("expect: \"#username\", ", "");
    let house = House::start(&fragment("", &row)).await;
    let begun = begin(&house, "my-site").await;
    let mut person = Person::open(&house, &begun).await;
    person.waits_for_turn().await;
    let before = person.pictures;
    person.click(weir::fake::BUTTON).await;
    person.settles(before).await;
    person.signs_in().await;
    person.sees("done", |told| told["state"] == "done").await;
    assert_eq!(ask(&house, "my-site/gpt-4o").await, 200);

    let row = STORAGE.replace("/site/login", "/site/ask").replace("expect: \"#username\", ", "");
    let house = House::start(&fragment("", &row)).await;
    let begun = begin(&house, "my-site").await;
    let mut person = Person::open(&house, &begun).await;
    person.sees("asked", |told| told["dialog"]["message"] == "Are you of age?").await;
    assert_eq!(person.told["dialog"]["kind"], "confirm");
    person.answers(true).await;
    person.sees("answered", |told| told["dialog"].is_null()).await;
    person.waits_for_turn().await;
    person.signs_in().await;
    person.sees("done", |told| told["state"] == "done").await;

    // A window that leads elsewhere does not stay in the way.
    let row = STORAGE.replace("/site/login", "/site/terms").replace("expect: \"#username\", ", "");
    let house = House::start(&fragment("", &row)).await;
    let begun = begin(&house, "my-site").await;
    let mut person = Person::open(&house, &begun).await;
    person.waits_for_turn().await;
    person.click(weir::fake::BUTTON).await;
    let here = json!(house.fake.to_string());
    person
        .sees("it was not let there", |told| {
            told["notice"].as_str().is_some_and(|words| words.contains("localhost"))
        })
        .await;
    person.sees("the page before", |told| told["host"] == here).await;
    person.looks_for(Duration::from_secs(1)).await;
    assert_eq!(person.told["host"], here);
    person.cancels().await;
}
