//! Tokens as credentials at the simulated platforms.

use super::*;
use crate::fake::tests::Door;

async fn chat(fake: &Fake, platform: &str, token: &str) -> Reply {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    match platform {
        "gemini" => {
            let body = json!({"contents":[{"role":"user","parts":[{"text":"Hi"}]}]});
            fake.post("/gemini/v1beta/models/gemini-2.0-flash:generateContent", &headers, &body).await
        }
        "qwen" => {
            let body = json!({"model":"coder-model","messages":[{"role":"user","content":"Hi"}]});
            fake.post("/qwen/v1/chat/completions", &headers, &body).await
        }
        _ => {
            let door = Door::named(if platform == "aihubmix" { "aihubmix" } else { "huggingface" });
            fake.post(door.path, &headers, &door.body("Hi")).await
        }
    }
}

/// An access token, of an authorize page or of a device.
async fn granted(idp: &Idp, scope: &str) -> String {
    if idp.name != "qwen" {
        return text(&idp.grant(&[("scope", scope)]).await, "access_token").to_owned();
    }
    idp.set("clients", json!({"client_id":"app"})).await;
    let pairs = [
        ("client_id", "app"),
        ("scope", scope),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let told = idp.form("/api/v1/oauth2/device/code", &[], &pairs).await.json();
    let code = text(&told, "device_code");
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    let pairs = [("grant_type", grant), ("device_code", code), ("code_verifier", VERIFIER)];
    text(&idp.token_as(("app", ""), &pairs).await.json(), "access_token").to_owned()
}

#[tokio::test]
async fn a_token_opens_its_platform_until_it_ends() {
    const GEMINI: &str = "https://www.googleapis.com/auth/cloud-platform";
    for (name, platform, scope, narrow, dead, words) in [
        ("google", "gemini", GEMINI, "openid", 401, "UNAUTHENTICATED"),
        ("huggingface", "huggingface", "inference-api", "openid", 401, "Invalid username or password."),
        ("qwen", "qwen", "model.completion", "openid", 401, "invalid access token or token expired"),
    ] {
        let idp = Idp::new(name).await;
        let token = granted(&idp, scope).await;
        let reply = chat(&idp.fake, platform, &token).await;
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        let key = format!("{name}:ann");
        assert_eq!(idp.fake.counters(platform, &key).await["statuses"]["200"], 1);
        let other = granted(&idp, narrow).await;
        let reply = chat(&idp.fake, platform, &other).await;
        assert_eq!(reply.status, 403, "{name}: {}", reply.text());
        idp.set("expire", json!({"access":true})).await;
        let reply = chat(&idp.fake, platform, &token).await;
        assert_eq!((reply.status, reply.text().contains(words)), (dead, true), "{name}: {}", reply.text());
        let fresh = granted(&idp, scope).await;
        assert_eq!(chat(&idp.fake, platform, &fresh).await.status, 200);
        idp.set("withdraw", json!({})).await;
        assert_eq!(chat(&idp.fake, platform, &fresh).await.status, 401, "{name}");
        idp.set("reset", json!({})).await;
        assert_eq!(chat(&idp.fake, platform, &fresh).await.status, 401, "{name}: forgotten");
    }
}

#[tokio::test]
async fn aihubmixs_tokens_open_no_chat_and_qwens_one_model() {
    let idp = Idp::new("aihubmix").await;
    let token = granted(&idp, "profile balance").await;
    let reply = chat(&idp.fake, "aihubmix", &token).await;
    assert_eq!(reply.status, 401, "{}", reply.text());
    let idp = Idp::new("qwen").await;
    let token = granted(&idp, "model.completion").await;
    let bearer = format!("Bearer {token}");
    let body = json!({"model":"qwen-plus","messages":[{"role":"user","content":"Hi"}]});
    let ask = async || {
        let path = "/qwen/compatible-mode/v1/chat/completions";
        idp.fake.post(path, &[("authorization", &bearer)], &body).await.status
    };
    assert_eq!(ask().await, 404);
    idp.set("settings", json!({"any_model":true})).await;
    assert_eq!(ask().await, 200);
}

#[tokio::test]
async fn the_script_limits_a_person_and_registers_clients() {
    let script = "accounts: {'huggingface:ann': {rpm: 1}}
idp: {huggingface: {clients: [{client_id: app, client_secret: s3cret, redirect_uris: ['https://gw.example/cb']}], settings: {auto: ann}}}";
    let idp = Idp { fake: Fake::with(script).await, name: "huggingface" };
    let token = granted(&idp, "inference-api").await;
    assert_eq!(chat(&idp.fake, "huggingface", &token).await.status, 200);
    assert_eq!(chat(&idp.fake, "huggingface", &token).await.status, 429);
}
