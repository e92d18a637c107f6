//! Tokens of consents: who renews them, when, and what is kept whatever dies in between (R3.1-R3.7, O1-O3). Real processes, a real
//! Redis, strict simulated providers that rotate their refresh tokens and count how often one is shown.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::house::{Answer, House, start_fake, until, whole};
use super::idp::{Idp, accounts, agree, ask, chat, data, error, owner, providers, register};
use super::misfortune::is_slow_wanted;
use super::replicas::{Redis, count, status};

const MODEL: &str = "huggingface/deepseek-ai/DeepSeek-V4-Pro";

const ACCOUNTS: &str = "/api/v1/oauth/accounts";

/// Between a provider's answer and its being kept, so much time: for a test to act in it.
const PAUSE: &[(&str, &str)] = &[("WEIR_REHEARSE_PAUSE", "renewal=3000")];
const LONG_PAUSE: &[(&str, &str)] = &[("WEIR_REHEARSE_PAUSE", "renewal=600000")];

async fn alone() -> (House, Idp) {
    let house = House::start(&providers(&["huggingface"])).await;
    let idp = Idp::of(&house, "huggingface");
    idp.tell("settings", json!({"auto": "ann", "reuse_kills": true})).await;
    (house, idp)
}

/// Adds an account by consent; its id.
async fn consent(house: &House, name: &str) -> String {
    let ask = json!({"platform": "huggingface", "account_name": name});
    let back = agree(house, &owner(), ask).await.come_back(house).await;
    assert_eq!(back.status, 200, "{}", back.text());
    back.json()["account"]["id"].as_str().expect("an id").to_owned()
}

async fn refresh(house: &House, id: &str) -> Answer {
    ask(house, &owner(), "POST", &format!("{ACCOUNTS}/{id}/refresh"), None).await
}

async fn account(house: &House, id: &str) -> Value {
    let all = accounts(house, &owner()).await;
    all.into_iter().find(|account| account["id"] == id).unwrap_or_else(|| panic!("no account {id}"))
}

async fn expire(idp: &Idp) {
    idp.tell("expire", json!({"access": true})).await;
}

/// How often each refresh token was shown to the provider so far.
async fn shown(idp: &Idp) -> BTreeMap<String, u64> {
    let books = idp.books().await;
    let tokens = books["refresh_tokens"].as_object().expect("tokens");
    tokens.iter().map(|(token, known)| (token.clone(), known["uses"].as_u64().expect("a number"))).collect()
}

/// Gateways over one Redis and one simulated world; each with its own environment.
async fn beside(redis: &Redis, environments: &[&'static [(&'static str, &'static str)]]) -> Vec<House> {
    let fake = start_fake("");
    let fragment = format!("{}{}", redis.store(), providers(&["huggingface"]));
    let mut houses = Vec::new();
    for environment in environments {
        houses.push(House::start_beside(fake, &fragment, environment).await);
    }
    let idp = Idp::of(&houses[0], "huggingface");
    idp.tell("settings", json!({"auto": "ann", "reuse_kills": true})).await;
    houses
}

/// O1: a token ends, a thousand at once find it so, at four processes: one refresh, and nobody is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o1_one_refresh_for_a_thousand_over_four_processes() {
    let redis = Redis::start(&[]);
    let houses = beside(&redis, &[&[], &[], &[], &[]]).await;
    let idp = Idp::of(&houses[0], "huggingface");
    consent(&houses[0], "shared").await;
    for house in &houses {
        until("the account is known", || async { status(chat(house, MODEL)).await == 200 }).await;
    }
    let rounds = if is_slow_wanted() { 200 } else { 3 };
    for round in 1..=rounds {
        expire(&idp).await;
        let answers = join_all((0..1000).map(|number| status(chat(&houses[number % 4], MODEL)))).await;
        assert_eq!(
            count(&answers, 200),
            1000,
            "round {round}: {:?}",
            answers.iter().find(|status| **status != 200)
        );
        assert_eq!(idp.grants("refresh_token").await, round, "one a round");
    }
    let books = idp.books().await;
    assert_eq!(
        (&books["refresh_reuses"], &books["families"]["killed"]),
        (&json!(0), &json!(0)),
        "the family lives"
    );
}

/// R3.2, R3.3: whoever waits for the lock reads what came of it and asks nobody; and until the new refresh token is kept nobody
/// gets anything by the new access token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_2_and_3_nothing_is_used_before_it_is_kept() {
    let redis = Redis::start(&[]);
    let houses = beside(&redis, &[PAUSE, PAUSE]).await;
    let idp = Idp::of(&houses[0], "huggingface");
    consent(&houses[0], "shared").await;
    for house in &houses {
        until("the account is known", || async { status(chat(house, MODEL)).await == 200 }).await;
    }
    expire(&idp).await;
    let began = Instant::now();
    let answers = join_all((0..40).map(|number| {
        let request = chat(&houses[number % 2], MODEL);
        async move { (status(request).await, began.elapsed()) }
    }));
    for (status, after) in answers.await {
        assert_eq!(status, 200);
        assert!(after >= Duration::from_secs(3), "served {after:?} after, before the token was kept");
    }
    assert_eq!(idp.grants("refresh_token").await, 1);
    let shown = shown(&idp).await;
    assert_eq!(shown.values().max(), Some(&1), "{shown:?}");
}

/// R3.3: stopped between a provider's answer and its being kept: first kept, then gone. At SIGTERM, and at a hand-over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_3_a_gateway_that_is_stopped_keeps_what_it_was_just_given() {
    for is_upgrade in [false, true] {
        let mut house = House::start_in(&providers(&["huggingface"]), "", PAUSE).await;
        let idp = Idp::of(&house, "huggingface");
        idp.tell("settings", json!({"auto": "ann", "reuse_kills": true})).await;
        let id = consent(&house, "mine").await;
        let (client, url) = (house.client.clone(), house.url(&format!("{ACCOUNTS}/{id}/refresh")));
        let asked = tokio::spawn(client.post(url).bearer_auth(owner()).send());
        let has_answered = || async { idp.grants("refresh_token").await == 1 };
        until("the provider has answered", has_answered).await;
        // Whoever asked goes away: there is no request that a drain would wait for.
        asked.abort();
        drop(asked.await);
        if is_upgrade {
            let mut old = house.upgrade();
            assert!(super::house::ended(&mut old).await.success());
        } else {
            house.signal("TERM");
            assert!(house.ended().await.success());
            house.restart().await;
        }
        expire(&idp).await;
        until("it serves by what was kept", || async { status(chat(&house, MODEL)).await == 200 }).await;
        let books = idp.books().await;
        assert_eq!((&books["refresh_reuses"], &books["grants"]["refresh_token"]), (&json!(0), &json!(2)));
        assert_eq!(account(&house, &id).await["is_expired"], false);
    }
}

/// O2: killed between a provider's answer and its being kept, ten accounts at a time. Where the provider rotates its refresh tokens each
/// is flagged, where it does not each recovers; in either case it is asked once more, and the accounts of others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn o2_killed_between_the_answer_and_the_store() {
    let redis = Redis::start(&[]);
    let houses = beside(&redis, &[&[], &[]]).await;
    let idp = Idp::of(&houses[0], "huggingface");
    let bystander = consent(&houses[0], "bystander").await;
    let rounds = if is_slow_wanted() { 10 } else { 1 };
    for turns in (0..rounds).flat_map(|_| ["rotate", "same"]) {
        idp.tell("settings", json!({"refresh": turns})).await;
        let fragment = format!("{}{}", redis.store(), providers(&["huggingface"]));
        let mut victim = House::start_beside(houses[0].fake, &fragment, LONG_PAUSE).await;
        let shown_before = shown(&idp).await;
        let mut ids = Vec::new();
        for number in 0..10 {
            ids.push(consent(&victim, &format!("a{number}")).await);
        }
        let before = idp.grants("refresh_token").await;
        let refreshes = ids.iter().map(|id| {
            let url = victim.url(&format!("{ACCOUNTS}/{id}/refresh"));
            victim.client.post(url).bearer_auth(owner()).send()
        });
        let asking = tokio::spawn(join_all(refreshes.collect::<Vec<_>>()));
        until("ten are answered", || async { idp.grants("refresh_token").await == before + 10 }).await;
        victim.kill().await;
        drop(asking.await);
        expire(&idp).await;
        // The two that live notice what is left to do; whoever asks both of them finds that one works.
        let killed = Instant::now();
        let all = ids.iter().flat_map(|id| houses.iter().map(move |house| refresh(house, id)));
        let (_, served) = join(join_all(all), async {
            sleep(Duration::from_millis(500)).await;
            join_all(houses.iter().map(|house| refresh(house, &bystander))).await
        })
        .await;
        assert!(served.iter().any(|answer| answer.status == 200), "the bystander's token is renewed at once");
        let is_flagged = turns == "rotate";
        for id in &ids {
            let settled = || async {
                // In memory of either, sooner or later.
                let asked = refresh(&houses[0], id).await.status;
                let flagged = account(&houses[0], id).await["is_expired"] == true;
                if is_flagged { flagged } else { asked == 200 && !flagged }
            };
            let deadline = Instant::now() + Duration::from_secs(90);
            while !settled().await {
                assert!(Instant::now() < deadline, "{turns}: {}", account(&houses[0], id).await);
                sleep(Duration::from_millis(300)).await;
            }
        }
        if is_flagged {
            let in_this_turn = shown(&idp).await.into_iter().map(|(token, uses)| {
                let earlier = shown_before.get(&token).copied().unwrap_or(0);
                uses - earlier
            });
            assert_eq!(
                in_this_turn.max(),
                Some(2),
                "shown once more, and never again: {:?}",
                killed.elapsed()
            );
        }
        assert_eq!(account(&houses[1], &bystander).await["is_expired"], false);
        assert_eq!(whole(chat(&houses[1], MODEL)).await.status, 200, "the others go on");
    }
}

/// R3.3: the store is gone when the answer comes. It is kept once the store is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_3_a_token_waits_for_the_store() {
    let mut redis = Redis::start(&[]);
    let houses = beside(&redis, &[PAUSE]).await;
    let (house, idp) = (&houses[0], Idp::of(&houses[0], "huggingface"));
    let id = consent(house, "mine").await;
    let url = house.url(&format!("{ACCOUNTS}/{id}/refresh"));
    let asked = tokio::spawn(house.client.post(url).bearer_auth(owner()).send());
    until("the provider has answered", || async { idp.grants("refresh_token").await == 1 }).await;
    redis.kill();
    sleep(Duration::from_secs(6)).await;
    assert!(redis.launch());
    assert_eq!(
        asked.await.expect("joined").expect("an answer").status(),
        200,
        "whoever asked has waited for it"
    );
    expire(&idp).await;
    until("it serves", || async { status(chat(house, MODEL)).await == 200 }).await;
    let books = idp.books().await;
    assert_eq!((&books["refresh_reuses"], &books["grants"]["refresh_token"]), (&json!(0), &json!(2)));
}

/// What others do to the account meanwhile: it is switched off, somebody agrees again, it is removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_3_a_token_is_kept_whatever_became_of_its_account_meanwhile() {
    let house = House::start_in(&providers(&["huggingface"]), "", PAUSE).await;
    let idp = Idp::of(&house, "huggingface");
    idp.tell("settings", json!({"auto": "ann", "reuse_kills": true})).await;
    let id = consent(&house, "mine").await;
    let renew = || {
        let url = house.url(&format!("{ACCOUNTS}/{id}/refresh"));
        tokio::spawn(house.client.post(url).bearer_auth(owner()).send())
    };
    let is_answered = async |wanted: u64| {
        until("the provider has answered", || async { idp.grants("refresh_token").await == wanted }).await;
    };
    let asked = renew();
    is_answered(1).await;
    let toggle = format!("{ACCOUNTS}/{id}/toggle");
    data(&ask(&house, &owner(), "PUT", &toggle, Some(&json!({"is_active": false}))).await);
    assert_eq!(asked.await.expect("joined").expect("an answer").status(), 200);
    assert_eq!(account(&house, &id).await["is_active"], false, "it stays off");
    data(&ask(&house, &owner(), "PUT", &toggle, Some(&json!({"is_active": true}))).await);
    expire(&idp).await;
    until("and serves by the new token", || async { status(chat(&house, MODEL)).await == 200 }).await;
    assert_eq!(idp.grants("refresh_token").await, 2);
    // Agreed to again: what comes of that stands above.
    let asked = renew();
    is_answered(3).await;
    assert_eq!(consent(&house, "mine").await, id);
    assert_eq!(asked.await.expect("joined").expect("an answer").status(), 200);
    expire(&idp).await;
    until("it serves", || async { status(chat(&house, MODEL)).await == 200 }).await;
    let books = idp.books().await;
    assert_eq!(books["refresh_reuses"], 0);
    assert_eq!(books["families"]["list"][1]["refreshes"], 1, "the second consent's: {}", books["families"]);
    // Removed: nothing comes back.
    let asked = renew();
    is_answered(5).await;
    data(&ask(&house, &owner(), "DELETE", &format!("{ACCOUNTS}/{id}"), None).await);
    assert_ne!(asked.await.expect("joined").expect("an answer").status(), 200);
    assert!(accounts(&house, &owner()).await.is_empty());
}

/// R3.4: the provider says that the consent has ended while somebody agrees again: the new one stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_4_a_consent_that_ended_and_one_that_began() {
    let (house, idp) = alone().await;
    let id = consent(&house, "mine").await;
    let slow = json!({"on": "token", "grant": "refresh_token", "delay_ms": 2500, "error": "invalid_grant"});
    idp.tell("faults", slow).await;
    let url = house.url(&format!("{ACCOUNTS}/{id}/refresh"));
    let asked = tokio::spawn(house.client.post(url).bearer_auth(owner()).send());
    until("the provider is asked", || async { idp.grants("refresh_token").await == 1 }).await;
    assert_eq!(consent(&house, "mine").await, id);
    assert_eq!(asked.await.expect("joined").expect("an answer").status(), 200, "there is a newer one");
    assert_eq!(account(&house, &id).await["is_expired"], false);
    assert_eq!(status(chat(&house, MODEL)).await, 200);
    assert_eq!(house.metric("weir_accounts_need_consent_total").await, 0.0);
    // And without anybody: flagged, told, excluded, in the audit log.
    idp.tell("faults", json!({"on": "token", "error": "invalid_grant"})).await;
    let why = error(&refresh(&house, &id).await, 400);
    assert!(why.contains("again"), "{why}");
    let listed = account(&house, &id).await;
    assert_eq!((&listed["is_expired"], &listed["is_active"]), (&json!(true), &json!(true)));
    assert!(listed["consent"]["needs_reauth"].as_str().expect("why").contains("invalid_grant"));
    assert_eq!(house.metric("weir_accounts_need_consent_total").await, 1.0);
    let log = house.admin(http::Method::GET, "/admin/audit").await.json();
    let entry = |entry: &&Value| entry["what"] == "account.needs_reauth";
    assert_eq!(log["entries"].as_array().expect("entries").iter().filter(entry).count(), 1, "{log}");
    let platform = house.requests().await.len();
    assert_eq!(whole(chat(&house, MODEL)).await.error(503), "no_account_available");
    assert_eq!(house.requests().await.len(), platform, "the platform is not asked with it");
    error(&refresh(&house, &id).await, 400);
    assert_eq!(idp.grants("refresh_token").await, 2, "nor the provider");
}

/// R3.5: an account that rests for an hour is renewed ahead all the same.
#[tokio::test]
async fn r3_5_an_account_that_rests_is_renewed_ahead() {
    let script = "accounts: {\"huggingface:ann\": {daily_tokens: 1}}";
    let house = House::start_with(&providers(&["huggingface"]), script).await;
    let idp = Idp::of(&house, "huggingface");
    idp.tell("settings", json!({"auto": "ann", "access_s": 64})).await;
    let id = consent(&house, "mine").await;
    let began = Instant::now();
    assert_eq!(status(chat(&house, MODEL)).await, 429);
    assert!(!house.account(&id).await["rest"].is_null(), "it rests");
    while idp.grants("refresh_token").await == 0 {
        assert!(began.elapsed() < Duration::from_secs(63), "it ended without being renewed");
        sleep(Duration::from_millis(500)).await;
    }
    assert!(!house.account(&id).await["rest"].is_null(), "and rests on");
}

/// R3.6: a platform that refuses every token, however new: one refresh, one more try, and no loop, on two processes either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_6_a_platform_that_takes_no_token_is_no_reason_to_renew_without_end() {
    let redis = Redis::start(&[]);
    let houses = beside(&redis, &[&[], &[]]).await;
    let idp = Idp::of(&houses[0], "huggingface");
    let id = consent(&houses[0], "mine").await;
    for house in &houses {
        until("the account is known", || async { status(chat(house, MODEL)).await == 200 }).await;
    }
    houses[0].script("accounts: {\"huggingface:ann\": {revoked: true}}").await;
    let began = Instant::now();
    let mut refused = 0;
    while began.elapsed() < Duration::from_secs(12) {
        for house in &houses {
            let answer = whole(chat(house, MODEL)).await;
            assert!(matches!(answer.status, 502 | 503), "{} {}", answer.status, answer.text());
            refused += 1;
            // What one of them renews the other has by then, and may try.
            sleep(Duration::from_millis(700)).await;
        }
    }
    let asked = idp.grants("refresh_token").await;
    assert!(asked <= 2, "{asked} refreshes for {refused} requests");
    let tries = houses[0].counted("huggingface", "requests").await;
    assert!(tries < 20, "{tries} requests reached the platform");
    // It takes them again; somebody switches the account off and on.
    houses[0].script("").await;
    let toggle = format!("{ACCOUNTS}/{id}/toggle");
    for _ in 0..2 {
        data(&ask(&houses[0], &owner(), "PUT", &toggle, None).await);
    }
    until("it serves again", || async { status(chat(&houses[0], MODEL)).await == 200 }).await;
}

/// R3.7: a provider that moved. Where it is stands in the configuration, which is read again while the gateway runs.
#[tokio::test]
async fn r3_7_a_provider_that_moved_is_found_where_the_configuration_says() {
    let (house, idp) = alone().await;
    let id = consent(&house, "mine").await;
    let elsewhere = start_fake("");
    let old = providers(&["huggingface"]);
    let moved = old.replace(
        "token_url: \"http://$FAKE/idp/huggingface/oauth/token\"",
        &format!("token_url: \"http://{elsewhere}/idp/huggingface/oauth/token\""),
    );
    assert_ne!(moved, old);
    let reloads = "weir_config_reloads_total{result=\"ok\"}";
    house.write(&moved);
    until("it is read", || async { house.metric(reloads).await > 0.0 }).await;
    // The new one knows nothing of us: it says so.
    error(&refresh(&house, &id).await, 400);
    assert_eq!(account(&house, &id).await["is_expired"], true);
    let before = idp.grants("refresh_token").await;
    let known = house.metric(reloads).await;
    house.write(&old);
    until("it is read", || async { house.metric(reloads).await > known }).await;
    assert_eq!(consent(&house, "mine").await, id, "agreed to again, where it was");
    data(&refresh(&house, &id).await);
    // So often within a minute, and then the provider is left alone; whoever comes with another shares what that one gets.
    let mut answers = Vec::new();
    for _ in 0..12 {
        answers.push(join_all((0..3).map(|_| refresh(&house, &id))).await);
    }
    let last = answers.pop().expect("some");
    assert!(
        last.iter().all(|answer| answer.status == 429 && !answer.header("retry-after").is_empty()),
        "{last:?}"
    );
    let shared = answers.iter().filter(|rush| rush.iter().all(|answer| answer.status == 200)).count();
    assert!(shared >= 2, "{answers:?}");
    let asked = idp.grants("refresh_token").await;
    assert!((before + 1..=before + 10).contains(&asked), "{asked}");
    assert!(idp.grants("refresh_token").await > before);
}

/// O3: whatever a token endpoint says. Where it says something that can be used, that is what counts; else the account goes on with what it
/// has for as long as that lives, and the provider is not asked again at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o3_what_a_token_endpoint_may_say() {
    let good = |members: Value| json!({"on": "token", "set": members});
    let without = |name: &str| json!({"on": "token", "drop": [name]});
    // What it says, and the seconds that the token then lives; null: not renewed.
    let cases = [
        (json!({"on": "token", "status": 500}), Value::Null),
        (json!({"on": "token", "status": 429, "retry_after": "120"}), Value::Null),
        (json!({"on": "token", "status": 503, "retry_after": "99999999999999999999"}), Value::Null),
        (json!({"on": "token", "hang_s": 30}), Value::Null),
        (json!({"on": "token", "nothing": true}), Value::Null),
        (json!({"on": "token", "html": true}), Value::Null),
        (json!({"on": "token", "big": 10_000_000}), Value::Null),
        (json!({"on": "token", "truncate": true}), Value::Null),
        (json!({"on": "token", "body": "null"}), Value::Null),
        (json!({"on": "token", "body": "[]"}), Value::Null),
        (json!({"on": "token", "error": "invalid_client"}), Value::Null),
        (json!({"on": "token", "error": "temporarily_unavailable"}), Value::Null),
        (json!({"on": "token", "status": 302, "location": "http://127.0.0.1:1/"}), Value::Null),
        (good(json!({"access_token": ""})), Value::Null),
        (good(json!({"access_token": 7})), Value::Null),
        (good(json!({"access_token": "a\r\nhost: evil"})), Value::Null),
        (without("access_token"), Value::Null),
        (without("expires_in"), json!(3600)),
        (good(json!({"expires_in": 0})), json!(60)),
        (good(json!({"expires_in": -1})), json!(60)),
        (good(json!({"expires_in": "3600"})), json!(3600)),
        (good(json!({"expires_in": 1e12})), json!(316_224_000)),
        (good(json!({"expires_in": "soon"})), json!(3600)),
        (good(json!({"refresh_token": ""})), json!(28_800)),
        (without("token_type"), json!(28_800)),
    ];
    for part in cases.chunks(6) {
        join_all(part.iter().map(|(fault, lifetime)| o3(fault, lifetime))).await;
    }
}

async fn o3(fault: &Value, lifetime: &Value) {
    let (house, idp) = alone().await;
    let id = consent(&house, "mine").await;
    let mut fault = fault.clone();
    fault["grant"] = json!("refresh_token");
    idp.tell("faults", fault.clone()).await;
    let answer = refresh(&house, &id).await;
    assert_eq!(answer.status, if lifetime.is_null() { 502 } else { 200 }, "{fault}: {}", answer.text());
    let listed = account(&house, &id).await;
    assert_eq!(listed["is_expired"], false, "{fault}: {listed}");
    assert_eq!(status(chat(&house, MODEL)).await, 200, "{fault}: it serves by what it has");
    if lifetime.is_null() {
        let why = error(&answer, 502);
        assert!(!why.contains("127.0.0.1"), "{fault}: {why}");
        // Asked again, by hand and by the clock: not before the pause is over.
        error(&refresh(&house, &id).await, 502);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(idp.grants("refresh_token").await, 1, "{fault}");
    } else {
        assert_eq!(listed["consent"]["lifetime"], *lifetime, "{fault}");
        sleep(Duration::from_secs(3)).await;
        assert!(idp.grants("refresh_token").await <= 2, "{fault}: no loop");
        // Whatever it said of the refresh token: the one that counts is kept.
        idp.tell("settings", json!({"refresh": "same"})).await;
        if fault["set"]["refresh_token"].is_null() {
            assert_eq!(refresh(&house, &id).await.status, 200, "{fault}");
        }
    }
}

/// A refresh token that does not come again stays as it is (Google); one that never came is no reason to give up what lives.
#[tokio::test]
async fn o3_providers_that_keep_or_never_give_refresh_tokens() {
    let house = House::start(&providers(&["google"])).await;
    let google = Idp::of(&house, "google");
    register(&house, &google).await;
    google.tell("settings", json!({"auto": "ann"})).await;
    let consent = async || {
        let ask = json!({"platform": "gemini", "account_name": "g"});
        let back = agree(&house, &owner(), ask).await.come_back(&house).await;
        data(&back)["id"].as_str().expect("an id").to_owned()
    };
    let id = consent().await;
    for _ in 0..3 {
        assert_eq!(refresh(&house, &id).await.status, 200);
    }
    assert_eq!(status(chat(&house, "gemini/gemini-2.5-flash")).await, 200);
    let removed = data(&ask(&house, &owner(), "DELETE", &format!("{ACCOUNTS}/{id}"), None).await);
    assert_eq!(removed["revoked"], true);
    google.tell("settings", json!({"refresh": "never"})).await;
    let id = consent().await;
    error(&refresh(&house, &id).await, 400);
    assert_eq!(account(&house, &id).await["is_expired"], false, "its token lives");
    assert_eq!(status(chat(&house, "gemini/gemini-2.5-flash")).await, 200);
    google.tell("expire", json!({"access": true})).await;
    assert_ne!(status(chat(&house, "gemini/gemini-2.5-flash")).await, 200);
    until("it is told", || async { account(&house, &id).await["is_expired"] == true }).await;
}

/// A token that the platform refuses while the provider has trouble: nobody need ask again for it to be renewed once that is over.
#[tokio::test]
async fn r3_4_trouble_at_the_provider_passes_without_anybody() {
    let (house, idp) = alone().await;
    consent(&house, "mine").await;
    idp.tell("faults", json!({"on": "token", "status": 503})).await;
    expire(&idp).await;
    assert_ne!(status(chat(&house, MODEL)).await, 200);
    let asked = idp.grants("refresh_token").await;
    for _ in 0..20 {
        assert_ne!(status(chat(&house, MODEL)).await, 200);
    }
    assert_eq!(idp.grants("refresh_token").await, asked, "not asked again for each request");
    let began = Instant::now();
    while idp.grants("refresh_token").await == asked {
        assert!(began.elapsed() < Duration::from_secs(50), "never asked again");
        sleep(Duration::from_millis(500)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(20), "nor at once");
    until("it serves", || async { status(chat(&house, MODEL)).await == 200 }).await;
}
