//! Refresh tokens: how they turn, what a second use does, what kills a family.

use super::*;

#[tokio::test]
async fn each_turns_as_its_vendor_does() {
    for (name, rotates) in [
        ("gitee", true),
        ("oschina", true),
        ("linuxdo", true),
        ("feishu", true),
        ("huggingface", true),
        ("oidc", true),
        ("aihubmix", true),
        ("wechat-open", false),
    ] {
        let idp = Idp::new(name).await;
        let told = idp.grant(&[]).await;
        let old = text(&told, "refresh_token").to_owned();
        let new = idp.refresh(&old).await.json();
        assert_eq!(text(&new, "refresh_token") != old, rotates, "{name}");
        let report = idp.report().await;
        assert_eq!(report["refresh_tokens"][&old]["uses"], 1, "{name}");
        assert_eq!(report["grants"]["refresh_token"], 1, "{name}");
        let again = idp.refresh(&old).await.text();
        assert_eq!(again.contains("access_token"), !rotates, "{name}: {again}");
    }
}

#[tokio::test]
async fn reuse_kills_the_family_where_it_is_detected() {
    for (name, kills) in [("oidc", true), ("gitee", false)] {
        let idp = Idp::new(name).await;
        let told = idp.grant(&[]).await;
        let old = text(&told, "refresh_token");
        let new = idp.refresh(old).await.json();
        idp.refresh(old).await;
        let report = idp.report().await;
        assert_eq!(
            (&report["refresh_reuses"], &report["families"]["killed"]),
            (&json!(1), &json!(u64::from(kills)))
        );
        let heir = idp.refresh(text(&new, "refresh_token")).await.status;
        assert_eq!(heir == 200, !kills, "{name}");
        assert_eq!(idp.who(&new).await.status == 200, !kills, "{name}");
    }
}

#[tokio::test]
async fn a_test_may_say_how_they_turn() {
    let idp = Idp::new("aihubmix").await;
    for (how, comes_back) in [("same", Some(true)), ("omit", None), ("rotate", Some(false))] {
        idp.set("settings", json!({"refresh":how})).await;
        let told = idp.grant(&[]).await;
        let old = text(&told, "refresh_token");
        let new = idp.refresh(old).await.json();
        assert_eq!(new["refresh_token"].as_str().map(|new| new == old), comes_back, "{how}");
    }
    idp.set("settings", json!({"refresh":"never"})).await;
    assert!(idp.grant(&[]).await["refresh_token"].is_null());
    let typo = idp.fake.post("/_fake/idp/aihubmix/settings", &[], &json!({"refersh":"same"})).await;
    assert_eq!(typo.status, 400);
}

#[tokio::test]
async fn they_end_with_time_with_consent_and_for_other_clients() {
    let idp = Idp::new("oidc").await;
    idp.set("clients", json!({"client_id":"other","client_secret":"o","redirect_uris":[BACK]})).await;
    let told = idp.grant(&[]).await;
    let refresh = text(&told, "refresh_token");
    let pairs = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let foreign = idp.token_as(("other", "o"), &pairs).await;
    assert_eq!((foreign.status, &foreign.json()["error"]), (400, &json!("invalid_grant")));
    let wider = [pairs[0], pairs[1], ("scope", "openid admin")];
    assert_eq!(idp.token(&wider).await.json()["error"], "invalid_scope");
    idp.fake.hand.advance(std::time::Duration::from_secs(30 * 86_400));
    assert_eq!(idp.refresh(refresh).await.json()["error"], "invalid_grant");
    let told = idp.grant(&[]).await;
    idp.set("withdraw", json!({})).await;
    assert_eq!(idp.refresh(text(&told, "refresh_token")).await.json()["error"], "invalid_grant");
    idp.set("reset", json!({})).await;
    let report = idp.report().await;
    assert_eq!((&report["endpoints"], &report["families"]["alive"]), (&json!({}), &json!(0)));
    assert_eq!(report["clients"], json!(["app", "other", "weir-oidc"]));
}

#[tokio::test]
async fn revoking_asks_who_and_is_always_content() {
    let idp = Idp::new("oidc").await;
    let told = idp.grant(&[]).await;
    let (access, refresh) = (text(&told, "access_token"), text(&told, "refresh_token"));
    let client = [("client_id", "app"), ("client_secret", "s3cret")];
    let revoke = async |token: &str, client: Pairs<'_>| {
        let mut pairs = vec![("token", token)];
        pairs.extend_from_slice(client);
        idp.form("/revoke", &[], &pairs).await.status
    };
    assert_eq!(revoke(access, &[]).await, 400);
    assert_eq!(revoke(access, &[("client_id", "app"), ("client_secret", "wrong")]).await, 401);
    assert_eq!(revoke("made-up", &client).await, 200);
    let basic = format!("Basic {}", STANDARD.encode("app:s3cret"));
    let active = async |token: &str| {
        let reply = idp.form("/introspect", &[("authorization", &basic)], &[("token", token)]).await;
        reply.json()["active"].as_bool().unwrap()
    };
    assert!(active(access).await);
    assert_eq!(revoke(access, &client).await, 200);
    assert!(!active(access).await);
    assert_eq!(idp.refresh(refresh).await.status, 200);
    let next = idp.grant(&[]).await;
    assert_eq!(revoke(text(&next, "refresh_token"), &client).await, 200);
    assert!(!active(text(&next, "access_token")).await);
}
