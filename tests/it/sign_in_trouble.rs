//! Sign-ins in the middle of a misfortune: the store is away, or the process is killed, of accounts and of people. Whoever is in the
//! middle of one is told so in time, nothing hangs, nothing half is left, and afterwards all goes on.

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use super::browser::{Browser, doors, seen, tell};
use super::house::{Answer, House, PATIENCE, start_fake, until, whole};
use super::idp::{Idp, Returning, accounts, agree, ask, data, error, initiate, owner, providers};
use super::replicas::Redis;

fn wish(name: &str) -> Value {
    json!({"platform": "huggingface", "account_name": name})
}

async fn house(store: &str) -> (House, Idp) {
    let house = House::start(&format!("{store}{}", providers(&["huggingface"]))).await;
    let idp = Idp::of(&house, "huggingface");
    idp.tell("settings", json!({"auto": "ann"})).await;
    (house, idp)
}

/// Killed between the link and the way back, and between the token and the store.
async fn killed_in_the_middle(house: &mut House, idp: &Idp) {
    let back = agree(house, &owner(), wish("first")).await;
    house.kill().await;
    house.restart().await;
    data_of_page(&back.come_back(house).await);
    assert_eq!(accounts(house, &owner()).await.len(), 1);
    let back = agree(house, &owner(), wish("second")).await;
    idp.tell("faults", json!({"on": "userinfo", "delay_ms": 60_000})).await;
    let asked = house.client.get(&back.address).header("cookie", &back.cookie).send();
    let asked = tokio::spawn(asked);
    until("a token was given", async || idp.grants("authorization_code").await == 2).await;
    house.kill().await;
    assert!(asked.await.expect("joined").is_err(), "the connection is over with the process");
    idp.tell("faults", json!([])).await;
    house.restart().await;
    assert!(error(&back.come_back(house).await, 400).contains("Begin again"));
    assert_eq!(accounts(house, &owner()).await.len(), 1, "no half of an account");
    data_of_page(&agree(house, &owner(), wish("second")).await.come_back(house).await);
    assert_eq!(accounts(house, &owner()).await.len(), 2);
}

fn data_of_page(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json()["account"]["id"].is_string(), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_outlives_the_process_in_a_file() {
    let (mut house, idp) = house("").await;
    killed_in_the_middle(&mut house, &idp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_outlives_the_process_in_a_redis() {
    let redis = Redis::start(&[]);
    let (mut house, idp) = house(&redis.store()).await;
    killed_in_the_middle(&mut house, &idp).await;
}

/// Longest that anybody waits for a store that is away.
const IN_TIME: Duration = Duration::from_secs(8);

/// What is told while the store is away: at once, to be tried again, as a program and as a browser read it.
async fn told_in_time(what: &str, request: impl Fn() -> reqwest::RequestBuilder) {
    for is_browser in [false, true] {
        let since = Instant::now();
        let request = if is_browser { request().header("accept", "text/html") } else { request() };
        let told = whole(request).await;
        assert!(since.elapsed() < IN_TIME, "{what}: {:?}", since.elapsed());
        assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE.as_u16(), "{what}: {}", told.text());
        assert!(told.text().contains("Try again"), "{what}: {}", told.text());
        assert!(!told.text().contains("127.0.0.1"), "{what}: {}", told.text());
        match told.header("content-type").starts_with("text/html") {
            true => assert!(is_browser, "{what}"),
            false => drop(error(&told, 503)),
        }
    }
}

/// Two misfortunes of a Redis, and how each ends.
async fn away_and_back(redis: &mut Redis, way: &str, meanwhile: impl AsyncFn()) {
    match way {
        "asleep" => redis.signal("STOP"),
        _ => redis.kill(),
    }
    meanwhile().await;
    match way {
        "asleep" => redis.signal("CONT"),
        _ => assert!(redis.launch()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_waits_for_a_redis_that_is_away() {
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let (house, idp) = house(&redis.store()).await;
    for (count, way) in ["killed", "asleep"].into_iter().enumerate() {
        let back = agree(&house, &owner(), wish(way)).await;
        let given = idp.grants("authorization_code").await;
        away_and_back(&mut redis, way, async || {
            // So that what was known before is known no longer.
            sleep(Duration::from_millis(200)).await;
            let begin = || {
                house.client.post(house.url("/api/v1/oauth/initiate")).bearer_auth(owner()).json(&wish("x"))
            };
            told_in_time("initiate", begin).await;
            told_in_time("callback", || house.client.get(&back.address).header("cookie", &back.cookie)).await;
            let paste = || {
                let request = house.client.post(house.url("/api/v1/oauth/callback")).bearer_auth(owner());
                request.json(&json!({"url": back.address}))
            };
            told_in_time("pasted", paste).await;
            let status = format!("/api/v1/oauth/status?state={}", back.state);
            told_in_time("status", || house.client.get(house.url(&status)).bearer_auth(owner())).await;
        })
        .await;
        until("it is back", async || initiate(&house, &owner(), wish("x")).await.status == 200).await;
        assert_eq!(idp.grants("authorization_code").await, given, "no code went out meanwhile");
        data_of_page(&back.come_back(&house).await);
        assert_eq!(accounts(&house, &owner()).await.len(), count + 1);
    }
    // Away just when the token has come: the consent came to nothing, it is told, and the next one does not.
    idp.tell("faults", json!({"on": "userinfo", "delay_ms": 2000})).await;
    let back: Returning = agree(&house, &owner(), wish("between")).await;
    let given = idp.grants("authorization_code").await;
    let request = house.client.get(&back.address).header("cookie", &back.cookie);
    let asked = tokio::spawn(whole(request));
    until("a token was given", async || idp.grants("authorization_code").await == given + 1).await;
    redis.kill();
    let told = asked.await.expect("told");
    assert!(error(&told, 503).contains("Try again"));
    assert!(redis.launch());
    until("it is back", async || initiate(&house, &owner(), wish("x")).await.status == 200).await;
    assert_eq!(accounts(&house, &owner()).await.len(), 2);
    data_of_page(&agree(&house, &owner(), wish("between")).await.come_back(&house).await);
    let listed = data(&ask(&house, &owner(), "GET", "/api/v1/oauth/accounts", None).await);
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
}

async fn people(store: &str) -> House {
    let fake = start_fake("");
    let house =
        House::start_beside(fake, &format!("{store}{}", doors(fake, &["oidc"], None, "").await), &[]).await;
    super::browser::register(fake, &["oidc"], &house.url("")).await;
    tell(fake, "oidc", "settings", &json!({"auto": "ann"})).await;
    house
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_signs_in_outlives_the_process() {
    let redis = Redis::start(&[]);
    for store in [String::new(), redis.store()] {
        let mut house = people(&store).await;
        let browser = Browser::new(&house);
        let back = browser.away("/auth/oidc").await;
        house.kill().await;
        house.restart().await;
        assert_eq!(browser.get(&back).await.status, 200);
        assert!(browser.is_signed_in().await);
        let other = Browser::new(&house);
        let back = other.away("/auth/oidc").await;
        tell(house.fake, "oidc", "faults", &json!({"on": "userinfo", "delay_ms": 60_000})).await;
        let asked = tokio::spawn(other.request(http::Method::GET, &back).send());
        until("a token was given", async || {
            seen(house.fake, "oidc").await["grants"]["authorization_code"] == 2
        })
        .await;
        house.kill().await;
        assert!(asked.await.expect("joined").is_err());
        tell(house.fake, "oidc", "faults", &json!([])).await;
        house.restart().await;
        error(&other.get(&back).await, 400);
        assert!(!other.is_signed_in().await && browser.is_signed_in().await);
        other.sign_in("oidc").await;
        tell(house.fake, "oidc", "reset", &json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_signs_in_waits_for_a_redis_that_is_away() {
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let house = people(&redis.store()).await;
    for way in ["killed", "asleep"] {
        let browser = Browser::new(&house);
        let back = browser.away("/auth/oidc").await;
        away_and_back(&mut redis, way, async || {
            // To begin takes no store.
            let since = Instant::now();
            assert_eq!(Browser::new(&house).get("/auth/oidc").await.status, 303);
            assert!(since.elapsed() < IN_TIME, "start: {:?}", since.elapsed());
            told_in_time("callback", || browser.request(http::Method::GET, &back)).await;
        })
        .await;
        until("it is back", async || house.get("/readyz").await.status == 200).await;
        // What could not be looked up was not used up, either.
        let land = async {
            loop {
                let landed = browser.get(&back).await;
                if landed.status != 503 {
                    break landed;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        let landed = tokio::time::timeout(PATIENCE, land).await.expect("in time");
        assert_eq!(landed.status, 200, "{way}: {}", landed.text());
        assert!(browser.is_signed_in().await);
    }
}
