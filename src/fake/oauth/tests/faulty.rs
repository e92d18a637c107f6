//! Faults on command.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn answers_are_replaced_lost_and_spoilt() {
    let idp = Idp::new("gitee").await;
    let told = idp.grant(&[]).await;
    let mut token = text(&told, "refresh_token").to_owned();
    for (fault, status) in [
        (json!({"status":500}), 500),
        (json!({"status":429,"retry_after":"7"}), 429),
        (json!({"html":true}), 200),
        (json!({"body":""}), 200),
        (json!({"body":{"error":"temporarily_unavailable"}}), 200),
        (json!({"status":307,"location":"https://evil.example/"}), 307),
    ] {
        idp.set("faults", fault.clone()).await;
        let reply = idp.refresh(&token).await;
        assert_eq!(reply.status, status, "{fault}");
        assert!(!reply.text().contains("access_token"), "{fault}");
        if status == 429 {
            assert_eq!(reply.header("retry-after"), "7");
        }
    }
    // Nothing was used up by any of them.
    assert_eq!(idp.report().await["refresh_tokens"][&token]["uses"], 0);
    for (fault, member, wanted) in [
        (json!({"set":{"expires_in":"3600"}}), "expires_in", json!("3600")),
        (json!({"set":{"expires_in":1e12}}), "expires_in", json!(1e12)),
        (json!({"set":{"expires_in":-1}}), "expires_in", json!(-1)),
        (json!({"drop":["expires_in"]}), "expires_in", Value::Null),
    ] {
        idp.set("faults", fault.clone()).await;
        let told = idp.refresh(&token).await.json();
        assert_eq!(told[member], wanted, "{fault}");
        token = text(&told, "refresh_token").to_owned();
    }
    idp.set("faults", json!({"big":10 << 20})).await;
    let big = idp.refresh(&token).await;
    assert!(big.body.len() > 10 << 20);
    token = text(&big.json(), "refresh_token").to_owned();
    idp.set("faults", json!({"truncate":true})).await;
    assert!(serde_json::from_slice::<Value>(&idp.refresh(&token).await.body).is_err());
}

#[tokio::test]
async fn an_answer_may_be_lost_after_the_work_was_done() {
    let idp = Idp::new("gitee").await;
    let told = idp.grant(&[]).await;
    let token = text(&told, "refresh_token");
    idp.set("faults", json!({"nothing":true,"done":true})).await;
    let pairs = encoded(&[
        ("client_id", "app"),
        ("client_secret", "s3cret"),
        ("grant_type", "refresh_token"),
        ("refresh_token", token),
    ]);
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let lost = idp.fake.send(request("POST", "/idp/gitee/oauth/token", &kind, pairs)).await;
    assert!(lost.is_err());
    assert_eq!(idp.refresh(token).await.json()["error"], "invalid_grant");
    assert_eq!(idp.report().await["families"]["list"][0]["refreshes"], 1);
}

#[tokio::test]
async fn slow_and_silent() {
    let idp = Idp::new("gitee").await;
    let code = idp.code(&[]).await;
    idp.set("faults", json!([{"delay_ms":150,"error":"slow_down"},{"hang_s":0.1}])).await;
    let began = tokio::time::Instant::now();
    assert_eq!(idp.exchange(&code).await.json()["error"], "slow_down");
    assert!(began.elapsed() >= Duration::from_millis(150));
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    assert!(idp.fake.send(request("POST", "/idp/gitee/oauth/token", &kind, String::new())).await.is_err());
    assert_eq!(idp.exchange(&code).await.status, 200);
}

#[tokio::test]
async fn faults_wait_for_their_turn_and_for_ever() {
    let idp = Idp::new("oidc").await;
    idp.set("faults", json!([{"on":"userinfo","status":503,"skip":1,"times":2},{"grant":"refresh_token","status":500,"times":null}]))
        .await;
    let told = idp.grant(&[]).await;
    for status in [200, 503, 503, 200] {
        assert_eq!(idp.who(&told).await.status, status);
    }
    for _ in 0..3 {
        assert_eq!(idp.refresh(text(&told, "refresh_token")).await.status, 500);
    }
    idp.set("faults", json!([])).await;
    assert_eq!(idp.refresh(text(&told, "refresh_token")).await.status, 200);
    for wrong in [json!({"on":"nowhere"}), json!({"stauts":500})] {
        let reply = idp.fake.post("/_fake/idp/oidc/faults", &[], &wrong).await;
        assert_eq!(reply.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn the_way_back_may_be_wrong() {
    let idp = Idp::new("github").await;
    idp.set("settings", json!({"auto":null})).await;
    idp.set("faults", json!({"on":"authorize","error":"access_denied"})).await;
    assert_eq!(value(&idp.authorize(&[]).await, "error"), "access_denied");
    idp.set("settings", json!({"auto":"ann"})).await;
    idp.set(
        "faults",
        json!([{"on":"redirect","drop":["state"]},{"on":"redirect","twice":["code"]},
        {"on":"redirect","error":"server_error"}]),
    )
    .await;
    assert!(idp.authorize(&[]).await.iter().all(|(name, _)| name != "state"));
    let codes = idp.authorize(&[]).await.into_iter().filter(|(name, _)| name == "code").count();
    assert_eq!(codes, 2);
    assert_eq!(value(&idp.authorize(&[]).await, "error"), "server_error");
    // Errors by name come in the provider's own shape.
    idp.set("faults", json!({"error":"invalid_client"})).await;
    assert_eq!(idp.exchange("x").await.json()["error"], "incorrect_client_credentials");
    let feishu = Idp::new("feishu").await;
    feishu.set("faults", json!({"error":"invalid_grant"})).await;
    assert_eq!(feishu.refresh("x").await.json()["code"], 20_026);
}
