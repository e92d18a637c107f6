//! L1 for sign-ins: of every kind, good and bad, with renewals and removals, and the log at its most talkative. No token, code, state,
//! cookie or secret of it all is in any log, metric, list or entry of the audit log, nor in the store's file.

use serde_json::{Value, json};

use super::canary::Canaries;
use super::house::{House, mint, until, whole};
use super::idp::{Idp, accounts, agree, ask, chat, data, initiate, owner, parameter, providers, register};
use super::replicas::status;

const HUGGING: &str = "huggingface/deepseek-ai/DeepSeek-V4-Pro";
const HOUSE: &str = "house/doubao-seed-2-1-pro-260915";

/// What token endpoints and others are to do wrong; nothing at first.
fn faults() -> [Value; 6] {
    [
        json!([]),
        json!({"on": "token", "error": "invalid_grant"}),
        json!({"on": "token", "truncate": true}),
        json!({"on": "token", "set": {"scope": "openid"}}),
        json!({"on": "userinfo", "status": 500}),
        json!({"on": "token", "html": true}),
    ]
}

/// By browsers, with everything that can go wrong on the way back.
async fn by_browser(house: &House, idp: &Idp, platform: &str, canaries: &mut Canaries) {
    for fault in faults() {
        let back = agree(house, &owner(), json!({"platform": platform, "account_name": "x"})).await;
        canaries.watch("code", &parameter(&back.address, "code"));
        canaries.watch("state", &back.state);
        canaries.watch("cookie", back.cookie.split_once('=').expect("a value").1);
        idp.tell("faults", fault).await;
        back.come_back(house).await;
        back.come_back(house).await;
        idp.tell("faults", json!([])).await;
    }
}

/// Every token that was ever given, and what was last shown of codes: how many secrets that are.
async fn watch(idp: &Idp, canaries: &mut Canaries) -> usize {
    let books = idp.books().await;
    let mut count = 0;
    for kind in ["access_tokens", "refresh_tokens"] {
        for token in books[kind].as_object().expect("tokens").keys() {
            canaries.watch(kind, token);
            count += 1;
        }
    }
    let last = books["last"].to_string();
    for name in ["device_code", "code_verifier"] {
        let shown = last.split(&format!("\"{name}\":\"")).nth(1).and_then(|rest| rest.split('"').next());
        if let Some(shown) = shown {
            canaries.watch(name, shown);
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_nothing_of_a_sign_in_is_written_down() {
    let rows = providers(&["huggingface", "oidc", "qwen"]);
    let house = House::start(&format!("log: {{level: trace, format: json}}\n{rows}")).await;
    let [hugging, oidc, qwen] = ["huggingface", "oidc", "qwen"].map(|name| Idp::of(&house, name));
    register(&house, &oidc).await;
    let mut canaries = Canaries::default();
    for secret in ["secret-huggingface", "secret-oidc"] {
        canaries.watch("client secret", secret);
    }
    for (idp, platform, model) in [(&hugging, "huggingface", HUGGING), (&oidc, "house", HOUSE)] {
        idp.tell("settings", json!({"auto": "ann"})).await;
        by_browser(&house, idp, platform, &mut canaries).await;
        assert_eq!(status(chat(&house, model)).await, 200);
    }
    // Renewed, withdrawn, and by a device's code.
    hugging.tell("expire", json!({"access": true})).await;
    assert_eq!(status(chat(&house, HUGGING)).await, 200);
    hugging.tell("withdraw", json!({})).await;
    assert_ne!(status(chat(&house, HUGGING)).await, 200);
    qwen.tell("settings", json!({"interval_s": 1, "auto": "ann"})).await;
    let begun = data(&initiate(&house, &owner(), json!({"platform": "qwen", "account_name": "q"})).await);
    canaries.watch("state", begun["state"].as_str().expect("text"));
    let is_there =
        || async { accounts(&house, &owner()).await.iter().any(|one| one["platform_id"] == "qwen") };
    until("it is there", is_there).await;
    let mut told = String::new();
    for account in accounts(&house, &owner()).await {
        let id = account["id"].as_str().expect("an id");
        let path = format!("/api/v1/oauth/accounts/{id}");
        told += &ask(&house, &owner(), "POST", &format!("{path}/refresh"), None).await.text();
        told += &format!("{account}{}", house.account(id).await);
        told += &ask(&house, &owner(), "DELETE", &path, None).await.text();
    }
    let mut count = 0;
    for idp in [&hugging, &oidc, &qwen] {
        count += watch(idp, &mut canaries).await;
    }
    assert!(count > 15, "{count} secrets");
    told +=
        &whole(house.client.get(house.admin_url("/admin/audit")).bearer_auth(mint(json!({})))).await.text();
    told += &house.metrics().await;
    canaries.must_not_be_in("answers", told.as_bytes());
    assert!(house.log().contains("\"TRACE\"") || house.log().contains("\"DEBUG\""), "it is talkative");
    canaries.must_not_be_in("the log", house.log().as_bytes());
    let file = std::fs::read(house.folder().join("store/weir.redb")).expect("a file");
    canaries.must_not_be_in("the store", &file);
}
