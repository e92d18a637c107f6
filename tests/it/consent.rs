//! Accounts by consent, against a simulated provider that is strict: from the link to a chat completion, what a stranger who comes back is
//! told, and who renews a token.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::house::{Answer, House, mint, question, start_fake, until, value_of, whole};
use super::replicas::{Redis, count, status};

const MODEL: &str = "huggingface/deepseek-ai/DeepSeek-V4-Pro";

/// The configuration's part: Hugging Face is the fake's.
const OAUTH: &str = "oauth:\n  providers:\n    huggingface: {client_id: weir-huggingface, client_secret: secret-huggingface, \
    issuer: \"http://$FAKE/idp/huggingface\", authorize_url: \"http://$FAKE/idp/huggingface/oauth/authorize\", \
    token_url: \"http://$FAKE/idp/huggingface/oauth/token\", userinfo_url: \"http://$FAKE/idp/huggingface/oauth/userinfo\", \
    jwks_url: \"http://$FAKE/idp/huggingface/oauth/jwks\"}\n";

fn owner() -> String {
    mint(json!({"scope": "chat accounts"}))
}

/// Tells the simulated provider something.
async fn tell(house: &House, what: &str, body: Value) {
    let url = format!("http://{}/_fake/idp/huggingface/{what}", house.fake);
    let told = whole(house.client.post(url).json(&body)).await;
    assert_eq!(told.status, 200, "{}", told.text());
}

async fn provider(house: &House) -> Value {
    whole(house.client.get(format!("http://{}/_fake/idp/huggingface", house.fake))).await.json()
}

async fn initiate(house: &House, body: Value) -> Answer {
    whole(house.client.post(house.url("/api/v1/oauth/initiate")).bearer_auth(owner()).json(&body)).await
}

/// Somebody who began: where the provider sent them back to, and the browser's cookie.
struct Returning {
    address: String,
    cookie: String,
}

/// Begins, agrees at once, and stands before the callback.
async fn agree(house: &House, more: Value) -> Returning {
    let mut ask = json!({"platform": "huggingface", "account_name": "mine"});
    ask.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let begun = initiate(house, ask).await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    let cookie = begun.header("set-cookie").split(';').next().expect("a cookie").to_owned();
    let url = begun.json()["data"]["auth_url"].as_str().expect("a URL").to_owned();
    let sent = whole(house.client.get(url)).await;
    assert!(sent.status == 302 || sent.status == 303, "{} {}", sent.status, sent.text());
    Returning { address: sent.header("location").to_owned(), cookie }
}

impl Returning {
    async fn come_back(&self, house: &House) -> Answer {
        whole(house.client.get(&self.address).header("cookie", &self.cookie)).await
    }
}

async fn accounts(house: &House) -> Value {
    let list = whole(house.client.get(house.url("/api/v1/oauth/accounts")).bearer_auth(owner())).await;
    assert_eq!(list.status, 200, "{}", list.text());
    list.json()["data"].clone()
}

fn ask(house: &House) -> reqwest::RequestBuilder {
    let request = house.client.post(house.url("/v1/chat/completions")).bearer_auth(owner());
    request.json(&question(MODEL, "hi", false))
}

async fn house() -> House {
    let house = House::start(OAUTH).await;
    tell(&house, "settings", json!({"auto": "ann"})).await;
    house
}

#[tokio::test]
async fn from_the_link_to_a_chat_completion() {
    let house = house().await;
    let back = agree(&house, json!({"redirect_after": "/console"})).await.come_back(&house).await;
    assert_eq!(back.status, 200, "{}", back.text());
    for member in ["message", "code", "state", "next_steps"] {
        assert!(!back.json()[member].is_null(), "{member} in {}", back.text());
    }
    let listed = accounts(&house).await;
    assert_eq!(listed[0]["consent"]["provider"], "huggingface");
    assert_eq!((&listed[0]["account_name"], &listed[0]["is_expired"]), (&json!("mine"), &json!(false)));
    let answer = whole(ask(&house)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // The token dies before its time: one renewal, and nobody notices.
    tell(&house, "expire", json!({"access": true})).await;
    let answers = join_all((0..20).map(|_| status(ask(&house)))).await;
    assert_eq!(count(&answers, 200), 20, "{answers:?}");
    assert_eq!(provider(&house).await["grants"]["refresh_token"], 1, "twenty found it dead, one renewed it");
    // Agreed to once more: the same account, with new tokens.
    assert_eq!(agree(&house, json!({})).await.come_back(&house).await.status, 200);
    assert_eq!(accounts(&house).await.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn whoever_did_not_begin_changes_nothing() {
    let house = house().await;
    let begun = agree(&house, json!({})).await;
    let refused = async |address: &str, cookie: &str| {
        let answer = whole(house.client.get(address).header("cookie", cookie)).await;
        assert_eq!(answer.status, 400, "{address}: {}", answer.text());
        assert_eq!(answer.json()["code"], 400);
    };
    let other = format!("weir-begun={}", "x".repeat(43));
    refused(&begun.address, &other).await;
    refused(&begun.address, "").await;
    refused(&begun.address.replace("state=", "state=x"), &begun.cookie).await;
    refused(&format!("{}&state=y", begun.address), &begun.cookie).await;
    refused(&format!("{}&iss=http%3A%2F%2Fevil.example", begun.address), &begun.cookie).await;
    refused(&begun.address.replace("/huggingface-callback", "/api/v1/oauth/callback"), &begun.cookie).await;
    refused(&house.url("/api/v1/oauth/callback"), &begun.cookie).await;
    refused(
        &house.url(&format!("/api/v1/oauth/callback?code=c&state={}", "s".repeat(1 << 12))),
        &begun.cookie,
    )
    .await;
    assert_eq!(
        provider(&house).await["grants"]["authorization_code"].as_u64().unwrap_or(0),
        0,
        "no code went out"
    );
    assert_eq!(begun.come_back(&house).await.status, 200, "and the one who began is still expected");
    assert_eq!(begun.come_back(&house).await.status, 400, "once");
    assert_eq!(accounts(&house).await.as_array().map(Vec::len), Some(1));
    // By hand, with credentials of one's own: for whoever began, and for nobody else of that name or tenant.
    let begun = agree(&house, json!({"account_name": "pasted"})).await;
    let paste = |token: String| {
        let url = house.url("/api/v1/oauth/callback");
        house.client.post(url).bearer_auth(token).json(&json!({"url": begun.address}))
    };
    for stranger in [json!({"tenant": "beta"}), json!({"sub": "bob"})] {
        let mut claims = json!({"scope": "chat accounts"});
        claims.as_object_mut().expect("an object").extend(stranger.as_object().expect("an object").clone());
        assert_eq!(whole(paste(mint(claims))).await.status, 400);
    }
    assert_eq!(whole(paste(owner())).await.status, 200);
}

#[tokio::test]
async fn what_goes_wrong_is_told_and_nothing_is_left_behind() {
    let house = house().await;
    for (body, why) in [
        (json!({"platform": "nobody", "account_name": "a"}), "no platform"),
        (json!({"platform": "openai", "account_name": "a"}), "has no sign-in"),
        (json!({"platform": "huggingface", "account_name": ""}), "account_name"),
        (
            json!({"platform": "huggingface", "account_name": "a", "redirect_after": "//evil.example"}),
            "redirect_after",
        ),
        (
            json!({"platform": "huggingface", "account_name": "a", "redirect_uri": "https://evil"}),
            "unknown field",
        ),
    ] {
        let refused = initiate(&house, body).await;
        assert!(refused.status == 400 && refused.text().contains(why), "{why}: {}", refused.text());
    }
    let bare = whole(house.client.post(house.url("/api/v1/oauth/initiate")).json(&json!({}))).await;
    assert_eq!(bare.status, 401);
    // The person says no; in words that would be a script.
    tell(&house, "settings", json!({"auto": "ann", "auto_deny": true})).await;
    let denied = agree(&house, json!({})).await;
    let page = whole(
        house
            .client
            .get(
                denied.address.replace("/huggingface-callback?", "/huggingface-callback/html?")
                    + "%3Cscript%3E",
            )
            .header("cookie", &denied.cookie)
            .header("accept", "text/html"),
    )
    .await;
    assert_eq!(page.status, 400);
    assert!(page.header("content-type").starts_with("text/html") && !page.text().contains("<script>alert"));
    assert!(page.header("content-security-policy").contains("frame-ancestors 'none'"));
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    tell(&house, "settings", json!({"auto": "ann", "auto_deny": null})).await;
    // The provider's token endpoint in every state it can be in.
    for (fault, wanted) in [
        (json!({"on": "token", "status": 500}), 502),
        (json!({"on": "token", "html": true}), 502),
        (json!({"on": "token", "error": "invalid_grant"}), 400),
        (json!({"on": "token", "truncate": true}), 502),
        (json!({"on": "token", "set": {"scope": "openid"}}), 400),
    ] {
        tell(&house, "faults", json!([])).await;
        let begun = agree(&house, json!({})).await;
        tell(&house, "faults", fault.clone()).await;
        let answer = begun.come_back(&house).await;
        assert_eq!(answer.status, wanted, "{fault}: {}", answer.text());
    }
    tell(&house, "faults", json!([])).await;
    assert_eq!(accounts(&house).await.as_array().map(Vec::len), Some(0));
    // No secret of it all in any log.
    let log = house.log();
    assert!(!log.contains("secret-huggingface") && !log.contains("hf_oauth_"), "{log}");
}

/// Ten thousand that begin are not ten thousand that are kept: they are told so, and what was begun before goes on.
#[tokio::test]
async fn whoever_begins_very_often_is_told_so() {
    let house = house().await;
    let first = agree(&house, json!({})).await;
    let mut begun = 1;
    for number in 0..60 {
        let answer =
            initiate(&house, json!({"platform": "huggingface", "account_name": format!("a{number}")})).await;
        begun += u32::from(answer.status == 200);
        assert!(answer.status == 200 || (answer.status == 429 && answer.json()["code"] == 429));
        if answer.status == 429 {
            assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds <= 600));
        }
    }
    assert_eq!(begun, 20);
    assert_eq!(first.come_back(&house).await.status, 200, "nobody was pushed out");
}

/// R3.1: a token that ended, two hundred requests over three processes: one asks the provider.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_1_one_of_three_processes_renews() {
    let redis = Redis::start(&[]);
    let fake = start_fake("");
    let mut houses = Vec::new();
    for _ in 0..3 {
        houses.push(House::start_beside(fake, &format!("{}{OAUTH}", redis.store()), &[]).await);
    }
    tell(&houses[0], "settings", json!({"auto": "ann"})).await;
    let back = agree(&houses[0], json!({})).await;
    // The callback may land at any of them.
    let elsewhere = back.address.replace(&houses[0].listen.to_string(), &houses[1].listen.to_string());
    let landed = whole(houses[1].client.get(&elsewhere).header("cookie", &back.cookie)).await;
    assert_eq!(landed.status, 400, "by another address: that is another callback");
    assert_eq!(back.come_back(&houses[0]).await.status, 200);
    for house in &houses {
        until("the account is known", || async { status(ask(house)).await == 200 }).await;
    }
    for round in 1..=3 {
        tell(&houses[0], "expire", json!({"access": true})).await;
        let answers = join_all((0..200).map(|number| status(ask(&houses[number % 3])))).await;
        assert_eq!(count(&answers, 200), 200, "{answers:?}");
        assert_eq!(provider(&houses[0]).await["grants"]["refresh_token"], round);
    }
    assert_eq!(provider(&houses[0]).await["refresh_reuses"], 0);
}

/// R3.4: what a provider will not renew any more is left alone, and told.
#[tokio::test]
async fn r3_4_a_consent_that_ended_is_told_and_not_asked_for_again() {
    let house = house().await;
    assert_eq!(agree(&house, json!({})).await.come_back(&house).await.status, 200);
    assert_eq!(status(ask(&house)).await, 200);
    tell(&house, "withdraw", json!({})).await;
    assert_ne!(status(ask(&house)).await, 200);
    until("it is told", || async { accounts(&house).await[0]["is_expired"] == true }).await;
    assert_eq!(value_of(&house.metrics().await, "weir_accounts_need_consent_total"), 1.0);
    let asked = provider(&house).await["endpoints"]["token"].clone();
    for _ in 0..10 {
        assert_ne!(status(ask(&house)).await, 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(provider(&house).await["endpoints"]["token"], asked, "nobody asks again");
    // Agreed to again: it lives.
    assert_eq!(agree(&house, json!({})).await.come_back(&house).await.status, 200);
    until("it serves again", || async { status(ask(&house)).await == 200 }).await;
    assert_eq!(accounts(&house).await.as_array().map(Vec::len), Some(1));
}

/// R3.5: ahead of its end, though nobody uses it.
#[tokio::test]
async fn r3_5_an_idle_account_is_renewed_ahead() {
    let house = house().await;
    tell(&house, "settings", json!({"auto": "ann", "access_s": 64})).await;
    assert_eq!(agree(&house, json!({})).await.come_back(&house).await.status, 200);
    let began = tokio::time::Instant::now();
    let refreshes = || async { provider(&house).await["grants"]["refresh_token"].as_u64().unwrap_or(0) };
    while refreshes().await == 0 {
        assert!(began.elapsed() < Duration::from_secs(63), "it ended without being renewed");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(45), "not before its last stretch");
}
