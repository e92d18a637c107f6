//! One test for what each provider does otherwise.

use super::*;

#[tokio::test]
async fn github_hides_errors_in_200_and_speaks_form_unless_asked() {
    let idp = Idp::new("github").await;
    let path = paths("github").1;
    let code = idp.code(&[]).await;
    let pairs = [("client_id", "app"), ("client_secret", "s3cret"), ("code", code.as_str())];
    let reply = idp.form(path, &[], &pairs).await;
    assert!(reply.header("content-type").starts_with("application/x-www-form-urlencoded"));
    assert!(reply.text().starts_with("access_token=gho_"), "{}", reply.text());
    assert!(
        reply.text().ends_with("&token_type=bearer&scope=read%3Auser%2Cuser%3Aemail"),
        "{}",
        reply.text()
    );
    let again = idp.form(path, &[], &pairs).await;
    assert!(again.text().starts_with("error=bad_verification_code"), "{}", again.text());
    for (client, secret, code, error) in [
        ("app", "s3cret", "x", "bad_verification_code"),
        ("app", "wrong", "x", "incorrect_client_credentials"),
        ("nobody", "s3cret", "x", "incorrect_client_credentials"),
    ] {
        let pairs = [("client_id", client), ("client_secret", secret), ("code", code)];
        let reply = idp.form(path, &[("accept", "application/json")], &pairs).await;
        assert_eq!((reply.status, &reply.json()["error"]), (200, &json!(error)));
    }
    let code = idp.code(&[]).await;
    let elsewhere =
        [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", "https://x.example/")];
    assert_eq!(idp.token(&elsewhere).await.json()["error"], "redirect_uri_mismatch");
}

#[tokio::test]
async fn github_wants_an_agent_and_keeps_the_address_apart() {
    let idp = Idp::new("github").await;
    let told = idp.grant(&[]).await;
    let bearer = format!("Bearer {}", text(&told, "access_token"));
    let nobody = idp.get("/user", &[("authorization", &bearer)]).await;
    assert_eq!(nobody.status, 403);
    assert!(nobody.text().contains("User-Agent"));
    let person = idp.who(&told).await.json();
    assert_eq!((&person["id"], &person["email"]), (&json!(583_231), &Value::Null));
    let emails = idp.get("/user/emails", &[("authorization", &bearer), ("user-agent", "t")]).await.json();
    assert_eq!((&emails[1]["email"], &emails[1]["primary"]), (&json!("ann@example.com"), &json!(true)));
    let narrow = idp.grant(&[("scope", "read:user")]).await;
    let narrow = format!("Bearer {}", text(&narrow, "access_token"));
    let hidden = idp.get("/user/emails", &[("authorization", &narrow), ("user-agent", "t")]).await;
    assert_eq!(hidden.status, 404);
    let wrong = idp.get("/user", &[("authorization", "Bearer gho_x"), ("user-agent", "t")]).await;
    assert_eq!((wrong.status, &wrong.json()["message"]), (401, &json!("Bad credentials")));
}

#[tokio::test]
async fn github_revokes_in_its_own_way() {
    let idp = Idp::new("github").await;
    let told = idp.grant(&[]).await;
    let body = json!({"access_token":text(&told, "access_token")}).to_string();
    let basic = |secret: &str| format!("Basic {}", STANDARD.encode(format!("app:{secret}")));
    let delete = async |secret: &str| {
        let (basic, path) = (basic(secret), "/idp/github/applications/app/token");
        let headers = [("authorization", basic.as_str()), ("content-type", "application/json")];
        idp.fake.send(request("DELETE", path, &headers, body.clone())).await.unwrap().status
    };
    assert_eq!(delete("wrong").await, 404);
    assert_eq!(idp.who(&told).await.status, 200);
    assert_eq!(delete("s3cret").await, 204);
    assert_eq!(idp.who(&told).await.status, 401);
}

#[tokio::test]
async fn a_github_apps_tokens_expire_and_rotate() {
    let idp = Idp::new("github").await;
    let client = json!({"client_id":"app","client_secret":"s3cret","redirect_uris":[BACK],"expiring":true});
    idp.set("clients", client).await;
    let told = idp.grant(&[]).await;
    assert!(text(&told, "access_token").starts_with("ghu_"));
    assert_eq!(
        (&told["expires_in"], &told["refresh_token_expires_in"]),
        (&json!(28_800), &json!(15_897_600))
    );
    let old = text(&told, "refresh_token");
    let new = idp.refresh(old).await.json();
    assert!(text(&new, "refresh_token").starts_with("ghr_"));
    let again = idp.refresh(old).await;
    assert_eq!((again.status, &again.json()["error"]), (200, &json!("bad_refresh_token")));
}

#[tokio::test]
async fn google_gives_a_refresh_token_once_and_only_offline() {
    let idp = Idp::new("google").await;
    let offline = [("access_type", "offline")];
    assert!(idp.grant(&[]).await["refresh_token"].is_null());
    // The person consented a moment ago: only who asks again gets one.
    assert!(idp.grant(&offline).await["refresh_token"].is_null());
    let told = idp.grant(&[("access_type", "offline"), ("prompt", "consent")]).await;
    let refresh = text(&told, "refresh_token");
    let new = idp.refresh(refresh).await.json();
    assert!(new["refresh_token"].is_null() && new["id_token"].is_string(), "{new}");
    assert_eq!(idp.refresh(refresh).await.status, 200);
    let person = idp.who(&told).await.json();
    let token = format!("Bearer {}", text(&told, "access_token"));
    let old = idp.get("/oauth2/v1/userinfo", &[("authorization", &token)]).await.json();
    assert_eq!((&old["id"], &old["verified_email"]), (&person["sub"], &person["email_verified"]));
    assert_eq!(text(&person, "sub").len(), 21);
    // Revoking an access token kills its refresh token.
    let revoke = async |token: &str| idp.form("/revoke", &[], &[("token", token)]).await;
    assert_eq!(revoke(text(&told, "access_token")).await.status, 200);
    let dead = idp.refresh(refresh).await;
    assert_eq!((dead.status, &dead.json()["error"]), (400, &json!("invalid_grant")));
    let unknown = revoke("ya29.x").await;
    assert_eq!((unknown.status, &unknown.json()["error"]), (400, &json!("invalid_token")));
    assert_eq!(idp.token_as(("nobody", "x"), &[("grant_type", "refresh_token")]).await.status, 401);
}

#[tokio::test]
async fn gitee_says_why_a_token_is_refused() {
    let idp = Idp::new("gitee").await;
    idp.set("settings", json!({"auto":"cy"})).await;
    let told = idp.grant(&[]).await;
    assert!(told["created_at"].is_u64() && told["expires_in"] == 86_400, "{told}");
    assert_eq!(idp.who(&told).await.json()["email"], Value::Null);
    idp.set("expire", json!({})).await;
    let expired = idp.who(&told).await;
    assert_eq!(expired.status, 401);
    assert!(expired.json()["message"].as_str().unwrap().contains("expired"));
    let new = idp.refresh(text(&told, "refresh_token")).await.json();
    assert_eq!(idp.who(&new).await.status, 200);
    // The query does as well as the header.
    let query = format!("/api/v5/user?access_token={}", text(&new, "access_token"));
    assert_eq!(idp.get(&query, &[]).await.status, 200);
    assert_eq!(idp.refresh("made-up").await.status, 401);
}

#[tokio::test]
async fn oschina_hides_errors_in_200_and_tells_the_uid() {
    let idp = Idp::new("oschina").await;
    idp.set("settings", json!({"auto":"bob","bearer":false})).await;
    let told = idp.grant(&[]).await;
    // More than a float holds.
    assert!(told.to_string().contains("\"uid\":9007199254740993"), "{told}");
    let refused = idp.who(&told).await;
    assert_eq!((refused.status, &refused.json()["error"]), (200, &json!("invalid_token")));
    let query = format!("/action/openapi/user?dataType=json&access_token={}", text(&told, "access_token"));
    assert!(idp.get(&query, &[]).await.text().contains("\"id\":9007199254740993"));
    let wrong = idp.exchange("made-up").await;
    assert_eq!((wrong.status, &wrong.json()["error"]), (200, &json!("invalid_grant")));
    // Everything in the query, as others do it.
    let code = idp.code(&[]).await;
    let pairs = [
        ("client_id", "app"),
        ("client_secret", "s3cret"),
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", BACK),
        ("dataType", "json"),
    ];
    let told = idp.get(&format!("/action/openapi/token?{}", encoded(&pairs)), &[]).await.json();
    assert!(told["access_token"].is_string());
}

#[tokio::test]
async fn linuxdo_takes_basic_alone_and_carries_a_canary() {
    let idp = Idp::new("linuxdo").await;
    let code = idp.code(&[]).await;
    let pairs = [
        ("client_id", "app"),
        ("client_secret", "s3cret"),
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", BACK),
    ];
    let refused = idp.form("/oauth2/token", &[], &pairs).await;
    assert_eq!(refused.status, 401);
    assert!(refused.json()["message"].is_string() && refused.json()["error"].is_null());
    let told = idp.exchange(&code).await.json();
    let person = idp.who(&told).await;
    assert!(person.text().contains("CANARY"));
    assert_eq!((&person.json()["active"], &person.json()["trust_level"]), (&json!(true), &json!(2)));
    idp.set("settings", json!({"auto":"dot"})).await;
    let person = idp.who(&idp.grant(&[]).await).await.json();
    assert_eq!((&person["active"], &person["silenced"]), (&json!(false), &json!(true)));
    let nobody = json!({"access_token":"made-up"});
    assert!(idp.who(&nobody).await.json()["message"].is_string());
}

#[tokio::test]
async fn feishu_takes_json_and_numbers_its_errors() {
    let idp = Idp::new("feishu").await;
    let told = idp.grant(&[]).await;
    assert_eq!((&told["code"], &told["refresh_token_expires_in"]), (&json!(0), &json!(604_800)));
    let person = idp.who(&told).await.json();
    assert_eq!(person["code"], 0);
    assert!(text(&person["data"], "union_id").starts_with("on_"));
    let wrong = idp.exchange("made-up").await;
    assert_eq!((wrong.status, &wrong.json()["code"]), (200, &json!(20_003)));
    let wrong = idp.who(&json!({"access_token":"made-up"})).await;
    assert_eq!((wrong.status, &wrong.json()["code"]), (200, &json!(20_005)));
    let form = idp.form("/oauth/v3/token", &[], &[("grant_type", "refresh_token")]).await;
    assert_eq!(form.json()["code"], 20_063);
    // Single use, and only with the scope for it.
    let refresh = text(&told, "refresh_token");
    assert_eq!(idp.refresh(refresh).await.json()["code"], 0);
    assert_eq!(idp.refresh(refresh).await.json()["code"], 20_064);
    let brief = idp.grant(&[("scope", "contact:user.base:readonly")]).await;
    assert!(brief["refresh_token"].is_null(), "{brief}");
}

#[tokio::test]
async fn feishus_second_version_does_not_look_at_a_verifier_and_the_oldest_takes_forms() {
    let idp = Idp::new("feishu").await;
    let code = idp.code(&[]).await;
    let body = json!({"grant_type":"authorization_code","client_id":"app","client_secret":"s3cret","code":code,
        "redirect_uri":BACK,"code_verifier":VERIFIER});
    let json_too = [("content-type", "application/json")];
    let path = "/idp/feishu/open-apis/authen/v2/oauth/token";
    assert_eq!(idp.fake.post(path, &json_too, &body).await.json()["code"], 0);
    let code = idp.code(&[]).await;
    let pairs = [
        ("client_id", "app"),
        ("client_secret", "s3cret"),
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", BACK),
    ];
    let told = idp.form("/suite/passport/oauth/token", &[], &pairs).await.json();
    assert!(told["code"].is_null() && told["refresh_expires_in"].is_u64(), "{told}");
    let bearer = format!("Bearer {}", text(&told, "access_token"));
    let person = idp.get("/suite/passport/oauth/userinfo", &[("authorization", &bearer)]).await.json();
    assert!(person["data"].is_null() && person["union_id"].is_string(), "{person}");
}

#[tokio::test]
async fn wechat_speaks_by_query_and_hides_errors_in_text() {
    for name in ["wechat-open", "wechat-mp"] {
        let idp = Idp::new(name).await;
        let reply = idp.exchange(&idp.code(&[]).await).await;
        assert_eq!(reply.header("content-type"), "text/plain");
        let told = reply.json();
        assert!(told["token_type"].is_null() && told["openid"].is_string() && told["unionid"].is_string());
        let error = async |pairs: Pairs<'_>| {
            let reply = idp.get(&format!("/sns/oauth2/access_token?{}", encoded(pairs)), &[]).await;
            assert_eq!((reply.status, reply.header("content-type")), (200, "text/plain"));
            reply.json()["errcode"].as_i64().unwrap()
        };
        let grant = ("grant_type", "authorization_code");
        assert_eq!(error(&[("client_id", "app"), ("secret", "s3cret"), ("code", "x"), grant]).await, 41_002);
        assert_eq!(
            error(&[("appid", "app"), ("client_secret", "s3cret"), ("code", "x"), grant]).await,
            41_004
        );
        assert_eq!(error(&[("appid", "app"), ("secret", "wrong"), ("code", "x"), grant]).await, 40_125);
        assert_eq!(error(&[("appid", "nobody"), ("secret", "x"), ("code", "x"), grant]).await, 40_013);
        assert_eq!(error(&[("appid", "app"), ("secret", "s3cret"), ("code", "x"), grant]).await, 40_029);
        let used = value(&idp.authorize(&[]).await, "code");
        idp.exchange(&used).await;
        assert_eq!(idp.exchange(&used).await.json()["errcode"], 40_163);
        let posted = idp.form("/sns/oauth2/access_token", &[], &[grant]).await.json();
        assert_eq!(posted["errcode"], 43_001);
        let mut other = told.clone();
        other["openid"] = json!("o-of-somebody-else");
        assert_eq!(idp.who(&other).await.json()["errcode"], 40_003);
        let query =
            encoded(&[("access_token", text(&told, "access_token")), ("openid", text(&told, "openid"))]);
        assert_eq!(idp.get(&format!("/sns/auth?{query}"), &[]).await.json()["errcode"], 0);
    }
}

#[tokio::test]
async fn wechat_refreshes_without_a_secret_and_keeps_a_token_that_holds() {
    let idp = Idp::new("wechat-open").await;
    let told = idp.grant(&[]).await;
    idp.fake.hand.advance(std::time::Duration::from_secs(3600));
    let longer = idp.refresh(text(&told, "refresh_token")).await.json();
    assert_eq!(longer["access_token"], told["access_token"]);
    idp.fake.hand.advance(std::time::Duration::from_secs(7199));
    assert_eq!(idp.who(&told).await.json()["nickname"], "Ann Lee");
    idp.fake.hand.advance(std::time::Duration::from_secs(1));
    assert_eq!(idp.who(&told).await.json()["errcode"], 42_001);
    let new = idp.refresh(text(&told, "refresh_token")).await.json();
    assert_ne!(new["access_token"], told["access_token"]);
    idp.fake.hand.advance(std::time::Duration::from_secs(30 * 86_400));
    assert_eq!(idp.refresh(text(&told, "refresh_token")).await.json()["errcode"], 42_002);
    assert_eq!(idp.refresh("made-up").await.json()["errcode"], 40_030);
}

#[tokio::test]
async fn wechats_union_id_may_come_later_and_a_denial_says_nothing() {
    let idp = Idp::new("wechat-open").await;
    idp.set("settings", json!({"unionid":false})).await;
    let told = idp.grant(&[]).await;
    let person = idp.who(&told).await.json();
    assert!(told["unionid"].is_null() && person["unionid"].is_null());
    idp.set("settings", json!({"unionid":true})).await;
    let later = idp.grant(&[]).await;
    assert_eq!(later["openid"], told["openid"]);
    assert!(later["unionid"].is_string() && idp.who(&later).await.json()["unionid"].is_string());
    idp.set("settings", json!({"auto_deny":true})).await;
    let back = idp.authorize(&[]).await;
    assert_eq!(back, [("state".to_owned(), "st&te=".to_owned())]);
    let mp = Idp::new("wechat-mp").await;
    let surplus = mp.get(&mp.link(&[("client_id", "app")]), &[]).await;
    assert_eq!((surplus.status, surplus.header("location")), (200, ""));
    let silent = mp.grant(&[("scope", "snsapi_base")]).await;
    assert_eq!(mp.who(&silent).await.json()["errcode"], 48_001);
}

#[tokio::test]
async fn aihubmix_needs_a_state_and_tells_the_balance_when_asked() {
    let idp = Idp::new("aihubmix").await;
    assert_eq!(idp.get(&idp.link(&[("state", "")]), &[]).await.status, 400);
    let told = idp.grant(&[]).await;
    let person = idp.who(&told).await.json();
    assert_eq!((&person["quota"], &person["status"]), (&json!(1_000_000), &json!(1)));
    let narrow = idp.grant(&[("scope", "profile")]).await;
    assert!(idp.who(&narrow).await.json()["quota"].is_null());
    let bearer = format!("Bearer {}", text(&told, "access_token"));
    let topup = idp.get("/api/oauth2/topup", &[("authorization", &bearer)]).await;
    assert!(topup.json()["topup_url"].is_string());
    let app = json!({"name":"gw","description":"","redirect_uri":BACK});
    let path = "/idp/aihubmix/api/oauth_apps";
    assert_eq!(idp.fake.post(path, &[], &app).await.status, 401);
    let made = idp.fake.post(path, &[("authorization", "Bearer dev")], &app).await.json();
    assert_eq!(made["success"], true);
    let id = made["data"]["client_id"].as_str().unwrap();
    let secret = made["data"]["client_secret"].as_str().unwrap();
    let code = idp.code(&[("client_id", id)]).await;
    let pairs = [("grant_type", "authorization_code"), ("code", code.as_str()), ("redirect_uri", BACK)];
    assert_eq!(idp.token_as((id, secret), &pairs).await.status, 200);
}

#[tokio::test]
async fn a_denial_goes_back_with_the_state() {
    for name in WITH_PAGES {
        let idp = Idp::new(name).await;
        idp.set("settings", json!({"auto_deny":true})).await;
        let back = idp.authorize(&[]).await;
        assert_eq!(value(&back, "state"), "st&te=");
        if !idp.wechat() {
            assert_eq!(value(&back, "error"), "access_denied", "{name}");
        }
        assert!(back.iter().all(|(name, _)| name != "code"), "{name}");
    }
}
