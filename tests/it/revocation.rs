//! What becomes of tokens that are not used any more: a removed account's are forgotten where they came from, as far as that can be
//! done at once, and the audit log tells. And what becomes of those that are, when the vault's key changes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::house::{House, until};
use super::idp::{Idp, accounts, agree, ask, befriend, caller, chat, data, error, owner, providers};
use super::replicas::status;

const ACCOUNTS: &str = "/api/v1/oauth/accounts";

async fn house() -> (House, Idp) {
    let house = House::start(&providers(&["oidc", "huggingface"])).await;
    let idp = Idp::of(&house, "oidc");
    befriend(&house, &[idp.name]).await;
    (house, idp)
}

async fn consent(house: &House, token: &str, platform: &str, name: &str) -> String {
    let back =
        agree(house, token, json!({"platform": platform, "account_name": name})).await.come_back(house).await;
    assert_eq!(back.status, 200, "{}", back.text());
    let listed = accounts(house, token).await;
    let found = listed.iter().find(|one| one["account_name"] == name).expect("it is listed");
    found["id"].as_str().expect("an id").to_owned()
}

async fn remove(house: &House, token: &str, id: &str) -> Value {
    data(&ask(house, token, "DELETE", &format!("{ACCOUNTS}/{id}"), None).await)
}

/// What the audit log says of an account's removal.
async fn farewell(house: &House, id: &str) -> String {
    let log = house.admin(http::Method::GET, "/admin/audit").await.json();
    let entries = log["entries"].as_array().expect("entries");
    let entry = entries.iter().find(|entry| entry["on"] == id && entry["what"] == "account.removed");
    entry.expect("it is told")["note"].as_str().expect("text").to_owned()
}

#[tokio::test]
async fn what_is_removed_is_revoked() {
    let (house, idp) = house().await;
    let id = consent(&house, &owner(), "house", "mine").await;
    assert_eq!(status(chat(&house, "house/doubao-seed-2-1-pro-260915")).await, 200);
    let removed = remove(&house, &owner(), &id).await;
    assert_eq!(removed, json!({"id": id, "deleted": true, "revoked": true}));
    assert!(accounts(&house, &owner()).await.is_empty());
    let books = idp.books().await;
    assert_eq!(books["families"]["alive"], 0, "{}", books["families"]);
    assert!(farewell(&house, &id).await.ends_with("its token was revoked"));
    // By an operator, all the same.
    let id = consent(&house, &owner(), "house", "mine").await;
    let path = format!("/admin/accounts/{id}");
    assert_eq!(house.admin(http::Method::DELETE, &path).await.json()["revoked"], true);
    assert_eq!(idp.books().await["families"]["alive"], 0);
    // Somebody else's is not there to be removed, and goes on.
    let id = consent(&house, &owner(), "house", "mine").await;
    let asked = idp.asked("revoke").await;
    for (method, path) in [
        ("DELETE", format!("{ACCOUNTS}/{id}")),
        ("POST", format!("{ACCOUNTS}/{id}/refresh")),
        ("PUT", format!("{ACCOUNTS}/{id}/toggle")),
    ] {
        error(&ask(&house, &caller("eve", "beta"), method, &path, None).await, 404);
    }
    assert_eq!(
        (idp.asked("revoke").await, idp.books().await["families"]["alive"].as_u64()),
        (asked, Some(1))
    );
}

/// Providers forget a person's whole consent, whichever token of it they are shown.
#[tokio::test]
async fn what_another_account_lives_on_stays() {
    let (house, idp) = house().await;
    let one = consent(&house, &owner(), "house", "one").await;
    let other = consent(&house, &caller("bob", "beta"), "house", "other").await;
    assert_eq!(remove(&house, &owner(), &one).await["revoked"], false);
    assert!(farewell(&house, &one).await.contains("another account lives on the same consent"));
    assert_eq!(idp.asked("revoke").await, 0);
    assert_eq!(remove(&house, &caller("bob", "beta"), &other).await["revoked"], true);
}

/// Best effort, and for a few seconds.
#[tokio::test]
async fn a_provider_that_does_not_forget_holds_nothing_up() {
    let (house, idp) = house().await;
    for (fault, why) in [
        (json!({"on": "revoke", "status": 503, "retry_after": "60", "times": 2}), "503"),
        (json!({"on": "revoke", "error": "invalid_client", "times": 2}), "invalid_client"),
        (json!({"on": "revoke", "html": true, "status": 400, "times": 2}), "no JSON"),
        (json!({"on": "revoke", "status": 302, "location": "http://127.0.0.1:1/", "times": 2}), "redirects"),
        (json!({"on": "revoke", "hang_s": 60, "times": 2}), "in time"),
    ] {
        let id = consent(&house, &owner(), "house", "mine").await;
        idp.tell("faults", fault.clone()).await;
        let began = Instant::now();
        assert_eq!(remove(&house, &owner(), &id).await["revoked"], false, "{fault}");
        assert!(began.elapsed() < Duration::from_secs(8), "{fault}: {:?}", began.elapsed());
        assert!(accounts(&house, &owner()).await.is_empty(), "{fault}");
        let told = farewell(&house, &id).await;
        assert!(told.contains("was not revoked") && told.contains(why), "{fault}: {told}");
        idp.tell("faults", json!([])).await;
    }
    // Gone there already: good.
    let id = consent(&house, &owner(), "house", "mine").await;
    idp.tell("withdraw", json!({})).await;
    assert_eq!(remove(&house, &owner(), &id).await["revoked"], true);
    let hugging = Idp::of(&house, "huggingface");
    hugging.tell("settings", json!({"auto": "ann"})).await;
    let id = consent(&house, &owner(), "huggingface", "hf").await;
    assert_eq!(remove(&house, &owner(), &id).await["revoked"], false);
    assert!(farewell(&house, &id).await.contains("has no way to"));
    let key = json!({"platform": "openai", "account_name": "k", "api_key": "sk-k"});
    let id = data(&ask(&house, &owner(), "POST", ACCOUNTS, Some(&key)).await)["id"].clone();
    assert!(
        remove(&house, &owner(), id.as_str().expect("an id")).await["revoked"].is_null(),
        "a key has no consent"
    );
}

/// Tokens are encrypted anew with everything else, while they are used; and those that come afterwards are under the new key.
#[tokio::test]
async fn tokens_live_on_under_a_new_key() {
    let key =
        |id: &str| format!("{{id: {id}, key: \"{}\"}}", if id == "k1" { "ab" } else { "cd" }.repeat(32));
    let with = |keys: &[&str]| {
        let keys: Vec<String> = keys.iter().map(|id| key(id)).collect();
        format!("vault: {{keys: [{}]}}\n{}", keys.join(", "), providers(&["huggingface"]))
    };
    let mut house = House::start(&with(&["k1"])).await;
    let idp = Idp::of(&house, "huggingface");
    idp.tell("settings", json!({"auto": "ann", "reuse_kills": true})).await;
    let model = "huggingface/deepseek-ai/DeepSeek-V4-Pro";
    consent(&house, &owner(), "huggingface", "mine").await;
    house.write(&with(&["k2", "k1"]));
    until("both keys are known", || async {
        house.log().contains("configuration")
            && house.metric("weir_config_reloads_total{result=\"ok\"}").await > 0.0
    })
    .await;
    // Renewed in the midst of it.
    idp.tell("expire", json!({"access": true})).await;
    let (asked, rotated) =
        futures_util::future::join(status(chat(&house, model)), house.run(&["vault", "rotate"])).await;
    assert!(asked == 200 && rotated.0, "{asked} {}", rotated.1);
    let (is_good, again) = house.run(&["vault", "rotate"]).await;
    assert!(is_good && again.contains("\"changed\":0") || again.contains("0 of"), "{again}");
    house.write(&with(&["k2"]));
    house.signal("TERM");
    assert!(house.ended().await.success());
    house.restart().await;
    idp.tell("expire", json!({"access": true})).await;
    until("it serves", || async { status(chat(&house, model)).await == 200 }).await;
    let books = idp.books().await;
    assert_eq!((&books["refresh_reuses"], &books["grants"]["refresh_token"]), (&json!(0), &json!(2)));
}
