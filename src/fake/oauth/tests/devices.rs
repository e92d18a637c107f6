//! Device flows.

use std::time::Duration;

use super::*;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

async fn start(idp: &Idp, scope: &str) -> Value {
    let path = match idp.name {
        "github" => "/login/device/code",
        "google" => "/device/code",
        "qwen" => "/api/v1/oauth2/device/code",
        "huggingface" => "/oauth/device",
        _ => "/device",
    };
    let mut pairs = vec![("client_id", "app"), ("scope", scope)];
    if idp.name == "qwen" {
        pairs.extend([("code_challenge", CHALLENGE), ("code_challenge_method", "S256")]);
    }
    idp.form(path, &[("accept", "application/json")], &pairs).await.json()
}

async fn poll(idp: &Idp, code: &str) -> Reply {
    let mut pairs = vec![("grant_type", GRANT), ("device_code", code)];
    if idp.name == "qwen" {
        pairs.push(("code_verifier", VERIFIER));
        return idp.token_as(("app", ""), &pairs).await;
    }
    idp.token(&pairs).await
}

async fn device(name: &'static str) -> Idp {
    let idp = Idp::new(name).await;
    idp.set("settings", json!({"auto":null})).await;
    if name == "qwen" {
        idp.set("clients", json!({"client_id":"app"})).await;
    }
    idp
}

#[tokio::test]
async fn pending_too_fast_and_done_in_each_vendors_words() {
    for (name, scope, pending, fast) in [
        ("github", "read:user", 200, 200),
        ("google", "openid email", 428, 403),
        ("huggingface", "openid inference-api", 400, 400),
        ("oidc", "openid offline_access", 400, 400),
        ("qwen", "openid profile email model.completion", 400, 429),
    ] {
        let idp = device(name).await;
        let told = start(&idp, scope).await;
        let code = text(&told, "device_code");
        let address = if name == "google" { "verification_url" } else { "verification_uri" };
        assert!(text(&told, address).starts_with(&format!("http://fake.test/idp/{name}/")), "{told}");
        let first = poll(&idp, code).await;
        assert_eq!(
            (first.status, &first.json()["error"]),
            (pending, &json!("authorization_pending")),
            "{name}"
        );
        let second = poll(&idp, code).await;
        assert_eq!((second.status, &second.json()["error"]), (fast, &json!("slow_down")), "{name}");
        if name == "github" {
            assert_eq!(second.json()["interval"], 10);
        }
        idp.set("device", json!({"user_code":told["user_code"],"person":"bob"})).await;
        idp.fake.hand.advance(Duration::from_secs(11));
        let done = poll(&idp, code).await;
        assert!(done.json()["access_token"].is_string(), "{name}: {}", done.text());
        idp.fake.hand.advance(Duration::from_secs(11));
        assert!(!poll(&idp, code).await.text().contains("access_token"), "{name}: the code was used");
        assert_eq!(idp.report().await["families"]["list"][0]["person"], "bob");
    }
}

#[tokio::test]
async fn denied_expired_and_unknown() {
    for (name, denied, unknown) in [("huggingface", 400, 400), ("google", 403, 400), ("qwen", 400, 401)] {
        let idp = device(name).await;
        let told = start(&idp, "openid").await;
        idp.set("device", json!({"user_code":told["user_code"],"answer":"deny"})).await;
        let reply = poll(&idp, text(&told, "device_code")).await;
        assert_eq!((reply.status, &reply.json()["error"]), (denied, &json!("access_denied")), "{name}");
        let told = start(&idp, "openid").await;
        idp.fake.hand.advance(Duration::from_secs(1800));
        let reply = poll(&idp, text(&told, "device_code")).await;
        assert_eq!((reply.status, &reply.json()["error"]), (400, &json!("expired_token")), "{name}");
        assert_eq!(poll(&idp, "made-up").await.status, unknown, "{name}");
    }
}

#[tokio::test]
async fn what_a_device_may_not() {
    let google = device("google").await;
    let scope = "openid https://www.googleapis.com/auth/cloud-platform";
    assert_eq!(start(&google, scope).await["error"], "invalid_scope");
    let told = start(&google, "openid").await;
    let pairs = [("grant_type", GRANT), ("device_code", text(&told, "device_code"))];
    assert_eq!(google.token_as(("app", ""), &pairs).await.json()["error"], "invalid_client");
    let github = device("github").await;
    github.set("clients", json!({"client_id":"app","client_secret":"s3cret","device":false})).await;
    assert_eq!(start(&github, "read:user").await["error"], "device_flow_disabled");
    let qwen = device("qwen").await;
    let bare = [("client_id", "app"), ("scope", "openid")];
    assert_eq!(qwen.form("/api/v1/oauth2/device/code", &[], &bare).await.status, 400);
    let told = start(&qwen, "openid model.completion").await;
    assert!(told["interval"].is_null());
    let pairs =
        [("grant_type", GRANT), ("device_code", text(&told, "device_code")), ("code_verifier", CHALLENGE)];
    assert_eq!(qwen.token_as(("app", ""), &pairs).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn qwen_names_the_platforms_address_and_may_show_a_firewall() {
    let idp = device("qwen").await;
    idp.set("settings", json!({"auto":"ann","interval_s":0,"pending":2})).await;
    let told = start(&idp, "openid model.completion").await;
    assert_eq!(told["interval"], 0);
    let code = text(&told, "device_code");
    for _ in 0..2 {
        assert_eq!(poll(&idp, code).await.json()["error"], "authorization_pending");
    }
    let done = poll(&idp, code).await.json();
    assert_eq!(
        (&done["resource_url"], &done["expires_in"]),
        (&json!("http://127.0.0.1:1/qwen"), &json!(21_600))
    );
    idp.set("settings", json!({"resource_url":"portal.example"})).await;
    let refresh = async |token: &str| {
        idp.token_as(("app", ""), &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    };
    idp.set("faults", json!({"grant":"refresh_token","html":true})).await;
    let page = refresh(text(&done, "refresh_token")).await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("waf"));
    let new = refresh(text(&done, "refresh_token")).await.json();
    assert_eq!(new["resource_url"], "portal.example");
    assert_eq!(refresh("made-up").await.status, 400);
}

#[tokio::test]
async fn the_person_types_the_code_in() {
    let idp = device("huggingface").await;
    let told = start(&idp, "openid inference-api").await;
    let page = idp.get("/oauth/device", &[]).await.text();
    assert!(page.contains("id=\"user_code\"") && page.contains("id=\"continue\""));
    let wrong = idp.form("/_device", &[], &[("user_code", "XXXX-XXXX")]).await.text();
    assert!(wrong.contains("id=\"problem\""));
    let lower = text(&told, "user_code").to_lowercase();
    let page = idp.form("/_device", &[], &[("user_code", &lower)]).await.text();
    let ticket = pages::ticket(&page);
    idp.form("/_signin", &[], &[("ticket", &ticket), ("username", "cy")]).await;
    let done = idp.form("/_consent", &[], &[("ticket", &ticket), ("answer", "allow")]).await.text();
    assert!(done.contains("id=\"done\""), "{done}");
    assert!(poll(&idp, text(&told, "device_code")).await.json()["access_token"].is_string());
}
