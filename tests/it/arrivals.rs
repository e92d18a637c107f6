//! What becomes of a consent once its code is traded, whatever happens meanwhile: whoever came back leaves, the provider is in trouble, the
//! account changes or goes under one's hands. It ends in an account, or in tokens that are given back.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::house::{House, until};
use super::idp::{
    Idp, accounts, agree, ask, befriend, caller, data, error, initiate, owner, parameter, providers,
};

const ACCOUNTS: &str = "/api/v1/oauth/accounts";

/// Between a provider's answer and its being kept, so much time: for a test to act in it.
const PAUSE: &[(&str, &str)] = &[("WEIR_REHEARSE_PAUSE", "renewal=3000")];

async fn house() -> (House, Idp) {
    house_in(&[]).await
}

async fn house_in(environment: &'static [(&'static str, &'static str)]) -> (House, Idp) {
    let house = House::start_in(&providers(&["oidc", "google"]), "", environment).await;
    let google = Idp::of(&house, "google");
    befriend(&house, &[google.name]).await;
    let idp = Idp::of(&house, "oidc");
    befriend(&house, &[idp.name]).await;
    (house, idp)
}

fn wish(name: &str) -> Value {
    json!({"platform": "house", "account_name": name})
}

async fn consent(house: &House, token: &str, name: &str) -> String {
    let landed = data(&agree(house, token, wish(name)).await.come_back(house).await);
    landed["id"].as_str().expect("an id").to_owned()
}

async fn alive(idp: &Idp) -> u64 {
    idp.books().await["families"]["alive"].as_u64().expect("a number")
}

/// The code is spent and cannot be had again: whoever leaves, the account comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_takes_nothing_with_him() {
    let (house, idp) = house().await;
    let back = agree(&house, &owner(), wish("mine")).await;
    idp.tell("faults", json!({"on": "userinfo", "delay_ms": 2000, "times": 1})).await;
    let leaving = house.client.get(&back.address).header("cookie", &back.cookie);
    let left = leaving.timeout(Duration::from_millis(700)).send().await;
    assert!(left.is_err(), "it was not slow");
    assert_eq!(idp.asked("token").await, 1, "he left too early");
    until("the account is there", || async { accounts(&house, &owner()).await.len() == 1 }).await;
    assert_eq!((alive(&idp).await, idp.asked("revoke").await), (1, 0));
}

/// A provider that does not say at once who agreed is asked again; where it never says, what it granted is given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_which_nothing_comes_are_given_back() {
    let (house, idp) = house().await;
    let back = agree(&house, &owner(), wish("first")).await;
    idp.tell("faults", json!({"on": "userinfo", "status": 503, "times": 2})).await;
    let first = data(&back.come_back(&house).await)["id"].as_str().expect("an id").to_owned();
    // Somebody else's consent may live on the same grant: who agreed is not known, so it stays.
    let back = agree(&house, &owner(), wish("second")).await;
    idp.tell("faults", json!({"on": "userinfo", "status": 503, "times": 3})).await;
    error(&back.come_back(&house).await, 502);
    assert_eq!(idp.asked("revoke").await, 0, "the first one lives");
    data(&ask(&house, &owner(), "DELETE", &format!("{ACCOUNTS}/{first}"), None).await);
    let revoked = idp.asked("revoke").await;
    let back = agree(&house, &owner(), wish("third")).await;
    idp.tell("faults", json!({"on": "userinfo", "status": 503, "times": 3})).await;
    error(&back.come_back(&house).await, 502);
    assert!(idp.asked("revoke").await > revoked, "nobody lives on it");
    let families = idp.books().await["families"].clone();
    assert!(!families["list"][2]["killed"].is_null(), "{families}");
    assert!(accounts(&house, &owner()).await.is_empty());
    // A consent to less than is needed.
    let google = Idp::of(&house, "google");
    google.tell("settings", json!({"auto": "ann", "grant_only": ["openid", "email"]})).await;
    let back = agree(&house, &owner(), json!({"platform": "gemini", "account_name": "g"})).await;
    let told = error(&back.come_back(&house).await, 400);
    assert!(told.contains("does not hold"), "{told}");
    assert!(google.asked("revoke").await > 0 && alive(&google).await == 0, "{}", google.books().await);
}

/// One agrees again just when the account is under others' hands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_consent_stands_above_whatever_was() {
    let (house, _idp) = house().await;
    let id = consent(&house, &owner(), "mine").await;
    let path = format!("{ACCOUNTS}/{id}/toggle");
    let switcher = caller("x", "alpha");
    for _ in 0..6 {
        let back = agree(&house, &owner(), wish("mine")).await;
        let switched = join_all((0..12).map(|_| ask(&house, &switcher, "PUT", &path, None)));
        let (landed, _) = futures_util::future::join(back.come_back(&house), switched).await;
        assert_eq!(data(&landed)["id"], id.as_str());
    }
}

/// A renewal that finds its account gone gives the tokens back, and leaves alone what another account lives on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_goes_while_it_is_renewed_takes_no_other_with_it() {
    let (house, idp) = house_in(PAUSE).await;
    let bob = caller("bob", "beta");
    let (one, other) = (consent(&house, &owner(), "one").await, consent(&house, &bob, "other").await);
    let asked = |token: String, id: &str| {
        let url = house.url(&format!("{ACCOUNTS}/{id}/refresh"));
        tokio::spawn(house.client.post(url).bearer_auth(token).send())
    };
    let renewed = asked(owner(), &one);
    until("the provider has answered", || async { idp.grants("refresh_token").await == 1 }).await;
    data(&ask(&house, &owner(), "DELETE", &format!("{ACCOUNTS}/{one}"), None).await);
    assert_ne!(renewed.await.expect("joined").expect("an answer").status(), 200);
    assert_eq!(idp.asked("revoke").await, 0, "the other one lives on it");
    // The last one's are given back.
    let renewed = asked(bob.clone(), &other);
    until("the provider has answered", || async { idp.grants("refresh_token").await == 2 }).await;
    data(&ask(&house, &bob, "DELETE", &format!("{ACCOUNTS}/{other}"), None).await);
    let before = idp.asked("revoke").await;
    assert_ne!(renewed.await.expect("joined").expect("an answer").status(), 200);
    assert!(idp.asked("revoke").await > before, "nobody lives on it");
}

/// R22.2: `code#state`, or the two apart; for whoever began alone, and where the provider need not say who it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r22_2_a_code_and_a_state_by_hand() {
    let (house, idp) = house().await;
    let google = Idp::of(&house, "google");
    let gemini = |name: &str| json!({"platform": "gemini", "account_name": name});
    for (number, form) in ["one", "two"].into_iter().enumerate() {
        let back = agree(&house, &owner(), gemini(form)).await;
        let (code, state) = (parameter(&back.address, "code"), parameter(&back.address, "state"));
        let body = match number {
            0 => json!({"url": format!("{code}#{state}")}),
            _ => json!({"code": code, "state": state}),
        };
        let path = "/api/v1/oauth/callback";
        let before = google.asked("token").await;
        for stranger in [caller("bob", "alpha"), caller("alice", "beta")] {
            // Not even with the cookie: it says where a browser is, and none came anywhere.
            let asked =
                house.client.post(house.url(path)).bearer_auth(stranger).header("cookie", &back.cookie);
            error(&super::house::whole(asked.json(&body)).await, 400);
        }
        assert_eq!(google.asked("token").await, before, "no code went out");
        let landed = data(&ask(&house, &owner(), "POST", path, Some(&body)).await);
        assert_eq!(landed["account_name"], form);
        error(&ask(&house, &owner(), "POST", path, Some(&body)).await, 400);
    }
    // Who says who it is, must: its whole address.
    let back = agree(&house, &owner(), wish("o")).await;
    let two = format!("{}#{}", parameter(&back.address, "code"), parameter(&back.address, "state"));
    let path = "/api/v1/oauth/callback";
    error(&ask(&house, &owner(), "POST", path, Some(&json!({"url": two}))).await, 400);
    assert_eq!(idp.asked("token").await, 0);
    data(&ask(&house, &owner(), "POST", path, Some(&json!({"url": back.address}))).await);
}

/// The key of a sign-in under way is taken out of the vault: it is begun again, and nothing has failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_whose_key_is_gone_is_over() {
    let with = |id: &str, digits: &str| {
        format!("vault: {{keys: [{{id: {id}, key: \"{}\"}}]}}\n{}", digits.repeat(32), providers(&["oidc"]))
    };
    let house = House::start(&with("k1", "ab")).await;
    let idp = Idp::of(&house, "oidc");
    befriend(&house, &[idp.name]).await;
    let back = agree(&house, &owner(), wish("mine")).await;
    house.write(&with("k2", "cd"));
    until("the new key is known", || async {
        house.metric("weir_config_reloads_total{result=\"ok\"}").await > 0.0
    })
    .await;
    assert!(error(&back.come_back(&house).await, 400).contains("Begin again"));
    let back = agree(&house, &owner(), wish("mine")).await;
    data(&back.come_back(&house).await);
}

/// Somebody who has as many accounts as there may be is told so before a provider is asked, and may agree again to one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_too_many_is_told_first() {
    let (house, idp) = house().await;
    consent(&house, &owner(), "mine").await;
    let key = |number: usize| json!({"platform": "openai", "account_name": format!("k{number}"), "api_key": "sk-k"});
    for chunk in (1..1000).collect::<Vec<_>>().chunks(50) {
        let bodies: Vec<Value> = chunk.iter().map(|number| key(*number)).collect();
        let owner = owner();
        let added =
            join_all(bodies.iter().map(|body| ask(&house, &owner, "POST", ACCOUNTS, Some(body)))).await;
        assert!(added.iter().all(|answer| answer.status == 200), "{}", added[0].text());
    }
    assert!(error(&initiate(&house, &owner(), wish("other")).await, 400).contains("1000 accounts already"));
    assert_eq!(idp.asked("authorize").await, 1);
    consent(&house, &owner(), "mine").await;
}

/// A code travels to where the redirect URI says: never over a network in plain text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_name_nobody_is_sent_over_a_network() {
    let (mut house, idp) = house().await;
    house.write(&format!("listen: 0.0.0.0:{}\n{}", house.listen.port(), providers(&["oidc"])));
    house.signal("TERM");
    assert!(house.ended().await.success());
    house.restart().await;
    let told = error(&initiate(&house, &owner(), wish("mine")).await, 400);
    assert!(told.contains("oauth.public_url"), "{told}");
    assert_eq!(idp.asked("authorize").await, 0);
    // Nobody comes back from a device.
    let device = json!({"platform": "house", "account_name": "d", "flow": "device_code"});
    data(&initiate(&house, &owner(), device).await);
}
