//! Every scheme, with the test vectors that were checked against the vendors' own SDKs.

use super::*;
use crate::platform::judge::Verdict;
use serde_json::{Value, json};

fn key(text: &str) -> Credential {
    Credential::ApiKey(Secret::new(text))
}

fn pair(access: &str, secret: &str) -> Credential {
    Credential::KeyPair { access_key: Secret::new(access), secret_key: Secret::new(secret) }
}

/// 2026-11-21T02:00:00Z.
fn clock() -> Clock {
    Clock::manual(1_795_226_400_000).0
}

struct Sent {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

fn send(
    scheme: &Scheme,
    credential: &Credential,
    token: Option<&Token>,
    path: &str,
    body: &str,
) -> Result<Sent, Fault> {
    let mut sent =
        Sent { path: path.to_owned(), headers: HeaderMap::new(), body: Bytes::from(body.to_owned()) };
    sent.headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    let mut outgoing = Outgoing {
        method: "POST",
        path: &mut sent.path,
        host: "spark-api.xf-yun.com",
        headers: &mut sent.headers,
        body: &mut sent.body,
    };
    scheme.apply(credential, token, &mut outgoing, &clock()).map(|()| sent)
}

fn header<'a>(sent: &'a Sent, name: &str) -> Option<&'a str> {
    let value = sent.headers.get(name)?;
    assert!(name == "anthropic-beta" || value.is_sensitive(), "{name} must not be printed");
    value.to_str().ok()
}

#[test]
fn bearer_and_key_headers_are_marked_as_secret() {
    let sent = send(&Scheme::Bearer, &key("sk-1"), None, "/", "").expect("sent");
    assert_eq!(header(&sent, "authorization"), Some("Bearer sk-1"));
    assert!(!format!("{:?}", sent.headers).contains("sk-1"));
    let sent = send(&Scheme::XGoogApiKey, &key("AIza1"), None, "/", "").expect("sent");
    assert_eq!(header(&sent, "x-goog-api-key"), Some("AIza1"));
    assert_eq!(sent.path, "/", "a key never stands in the URL");
    let sent = send(&Scheme::XGoogApiKey, &key("ya29.a"), None, "/", "").expect("sent");
    assert_eq!(header(&sent, "authorization"), Some("Bearer ya29.a"));
    assert_eq!(header(&sent, "x-goog-api-key"), None);
    let sent = send(&Scheme::Cookie, &key("a=1;b=2"), None, "/", "").expect("sent");
    assert_eq!((header(&sent, "cookie"), header(&sent, "authorization")), (Some("a=1; b=2"), None));
    let sent = send(&Scheme::None, &Credential::None, None, "/", "").expect("sent");
    assert_eq!(sent.headers.len(), 1);
}

#[test]
fn an_oauth_token_takes_the_place_of_the_key() {
    let token = Token { secret: Secret::new("t"), expires_at_millis: 0 };
    for scheme in [Scheme::Bearer, Scheme::XGoogApiKey, Scheme::XApiKey] {
        let sent = send(&scheme, &key("k"), Some(&token), "/", "").expect("sent");
        assert_eq!(header(&sent, "authorization"), Some("Bearer t"));
    }
}

#[test]
fn claude_takes_keys_by_their_own_header_and_oauth_tokens_as_bearer() {
    let sent = send(&Scheme::XApiKey, &key("sk-ant-api03-x"), None, "/", "").expect("sent");
    assert_eq!(header(&sent, "x-api-key"), Some("sk-ant-api03-x"));
    assert_eq!(header(&sent, "authorization"), None);
    let sent = send(&Scheme::XApiKey, &key("sk-ant-oat01-x"), None, "/", "").expect("sent");
    assert_eq!(header(&sent, "authorization"), Some("Bearer sk-ant-oat01-x"));
    assert_eq!(header(&sent, "anthropic-beta"), Some("oauth-2025-04-20"));
    assert_eq!(header(&sent, "x-api-key"), None);
}

#[test]
fn a_beta_flag_is_added_once_to_what_is_there() {
    let mut headers = HeaderMap::new();
    headers.insert("anthropic-beta", HeaderValue::from_static("a-2025"));
    let (mut path, mut body) = (String::new(), Bytes::new());
    let mut outgoing =
        Outgoing { method: "POST", path: &mut path, host: "h", headers: &mut headers, body: &mut body };
    for _ in 0..2 {
        Scheme::XApiKey.apply(&key("sk-ant-oat01-x"), None, &mut outgoing, &clock()).expect("applied");
    }
    assert_eq!(headers["anthropic-beta"], "a-2025,oauth-2025-04-20");
}

#[test]
fn a_credential_of_another_kind_is_a_fault_that_names_no_secret() {
    let schemes = [
        (Scheme::Bearer, pair("canary", "canary")),
        (Scheme::SparkWs, key("canary")),
        (Scheme::ZhipuJwt, key("canary")),
        (Scheme::Bearer, key("canary\r\nx: y")),
        (SchemeName::BaiduV1Token.with_token_url(None), pair("canary", "canary")),
        (Scheme::XApiKey, Credential::None),
    ];
    for (scheme, credential) in schemes {
        let fault = send(&scheme, &credential, None, "/", "{}").err().expect("refused");
        assert_eq!(fault.kind(), Kind::UpstreamAuth);
        assert!(!format!("{fault:?}").contains("canary"));
    }
}

#[test]
fn zhipus_jwt_is_the_vendors_own() {
    let credential = key("0123456789abcdef0123456789abcdef.AbCdEfGhIjKlMnOp");
    let sent = send(&Scheme::ZhipuJwt, &credential, None, "/", "").expect("sent");
    assert_eq!(
        header(&sent, "authorization"),
        Some(
            "Bearer eyJhbGciOiJIUzI1NiIsInNpZ25fdHlwZSI6IlNJR04iLCJ0eXAiOiJKV1QifQ.eyJhcGlfa2V5IjoiMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYiLCJleHAiOjE3OTUyMjY2MTAwMDAsInRpbWVzdGFtcCI6MTc5NTIyNjQwMDAwMH0.tyX-OSq9IjittmnoAQH5vqlczyKgNwd-o1iiW_TWCWU"
        )
    );
}

#[test]
fn sparks_signature_is_the_vendors_own() {
    let secret = Secret::new("api-secret-for-tests");
    let (host, path, date) = ("spark-api.xf-yun.com", "/v3.5/chat", "Sat, 21 Nov 2026 02:00:00 GMT");
    assert_eq!(spark::signature(&secret, host, path, date), "aKdxC8wgaZMJ5FhgKoMAUGYsowA6GxZiz/j8ulDnwt0=");
    let authorization = spark::authorization(&Secret::new("api-key-for-tests"), &secret, host, path, date);
    assert!(authorization.starts_with("YXBpX2tleT0iYXBpLWtleS1mb3ItdGVzdHMi"));
    assert_eq!(
        sign::sha256_hex(authorization.as_bytes()),
        "0f7c00585a7be33c02704112036f223c8364141d58bc0dd94a6407dbe624426c"
    );
}

#[test]
fn sparks_url_is_signed_and_the_frame_names_the_application() {
    let credential = Credential::App {
        app_id: "12345678".to_owned(),
        api_key: Secret::new("api-key-for-tests"),
        api_secret: Secret::new("api-secret-for-tests"),
    };
    let frame = r#"{"header":{"uid":"u1"},"payload":{"a":1}}"#;
    let sent = send(&Scheme::SparkWs, &credential, None, "/v3.5/chat?old=1", frame).expect("sent");
    let url = url::Url::parse(&format!("wss://spark-api.xf-yun.com{}", sent.path)).expect("url");
    let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(url.path(), "/v3.5/chat");
    assert_eq!(query["date"], "Sat, 21 Nov 2026 02:00:00 GMT");
    assert_eq!(query["host"], "spark-api.xf-yun.com");
    assert_eq!(
        sign::sha256_hex(query["authorization"].as_bytes()),
        "0f7c00585a7be33c02704112036f223c8364141d58bc0dd94a6407dbe624426c"
    );
    let frame: Value = serde_json::from_slice(&sent.body).expect("json");
    assert_eq!(frame, json!({"header": {"uid": "u1", "app_id": "12345678"}, "payload": {"a": 1}}));
}

#[test]
fn bce_signature_is_the_vendors_own() {
    let scheme = SchemeName::BaiduIam.with_token_url(None);
    let request = scheme.exchange(&pair("AKfortests", "SKfortests"), &clock()).expect("exchange");
    assert_eq!(request.method, "GET");
    assert_eq!(request.url.expose(), "https://iam.bj.baidubce.com/v1/BCE-BEARER/token?expireInSeconds=86400");
    assert_eq!(request.headers["x-bce-date"], "2026-11-21T02:00:00Z");
    assert_eq!(
        request.headers["authorization"],
        "bce-auth-v1/AKfortests/2026-11-21T02:00:00Z/300/host;x-bce-date/bd3a6549fcf062b29be4db62f58fc5603e0bc5b0e325891ada2d085bcb8c35e6"
    );
    assert!(request.headers["authorization"].is_sensitive());
    let answer = br#"{"userId":"u","token":"bce-v3/x","status":"enable","createTime":"2026-11-21T10:00:00Z","expireTime":"2026-11-22T02:00:00Z"}"#;
    let token = scheme.read_token(200, answer, &clock()).expect("token");
    assert_eq!(token.secret.expose(), "bce-v3/x");
    assert_eq!(token.expires_at_millis, 1_795_226_400_000 + 86_400_000);
    let refused =
        scheme.read_token(403, br#"{"code":"AccessDenied","message":"no"}"#, &clock()).expect_err("refused");
    assert_eq!((refused.verdict, refused.reason.as_str()), (Verdict::AuthInvalid, "AccessDenied: no"));
    let sent = send(&scheme, &pair("a", "b"), Some(&token), "/", "").expect("sent");
    assert_eq!(header(&sent, "authorization"), Some("Bearer bce-v3/x"));
    assert!(scheme.exchange(&key("bce-v3/ALTAK-x/y"), &clock()).is_none(), "a key needs no exchange");
    let sent = send(&scheme, &key("bce-v3/ALTAK-x/y"), None, "/", "").expect("sent");
    assert_eq!(header(&sent, "authorization"), Some("Bearer bce-v3/ALTAK-x/y"));
}

#[test]
fn volcengines_signature_is_the_vendors_own() {
    let scheme = SchemeName::VolcApiKey.with_token_url(None);
    let credential = pair("AKLTfortests", "SKfortests");
    assert_eq!(scheme.token_scope(&credential), Some(TokenScope::Model));
    assert!(scheme.exchange(&credential, &clock()).is_none(), "without a model there is nothing to ask for");
    let request = scheme.exchange_for(&credential, "ep-20261121100000-abcde", &clock()).expect("exchange");
    assert_eq!(
        &request.body[..],
        br#"{"DurationSeconds":604800,"ResourceType":"endpoint","ResourceIds":["ep-20261121100000-abcde"]}"#
    );
    assert_eq!(
        request.headers["x-content-sha256"],
        "26e53df49256be9c7d52b637057e2fa02930ba4a342d9dc25663aaf5c8bc5053"
    );
    assert_eq!(request.headers["x-date"], "20261121T020000Z");
    assert_eq!(
        request.headers["authorization"],
        "HMAC-SHA256 Credential=AKLTfortests/20261121/cn-beijing/ark/request, SignedHeaders=content-type;host;x-content-sha256;x-date, Signature=370b27839ac25b4772862027531b1b81e8c25dbe2fae9ae050a6bcffd630c10a"
    );
    let kind = |model: &str| {
        let request = scheme.exchange_for(&credential, model, &clock()).expect("exchange");
        serde_json::from_slice::<Value>(&request.body).expect("json")["ResourceType"].clone()
    };
    assert_eq!(kind("bot-1"), "bot");
    assert_eq!(kind("ep-m-1"), "presetendpoint");
    assert_eq!(kind("doubao-seed-2-1-pro-260915"), "presetendpoint");
}

#[test]
fn volcengines_answer_is_a_key_or_a_reason() {
    let scheme = SchemeName::VolcApiKey.with_token_url(None);
    let answer =
        br#"{"ResponseMetadata":{"RequestId":"r"},"Result":{"ApiKey":"k","ExpiredTime":1764600000}}"#;
    let token = scheme.read_token(200, answer, &clock()).expect("token");
    assert_eq!((token.secret.expose(), token.expires_at_millis), ("k", 1_764_600_000_000));
    let refused = |status: u16, code: &str| {
        let body = json!({"ResponseMetadata": {"Error": {"Code": code, "Message": "m"}}}).to_string();
        scheme.read_token(status, body.as_bytes(), &clock()).expect_err(code).verdict
    };
    assert_eq!(refused(401, "SignatureDoesNotMatch"), Verdict::AuthInvalid);
    assert_eq!(refused(429, "FlowLimitExceeded"), Verdict::RateLimited);
    assert_eq!(refused(500, "InternalError"), Verdict::Overloaded);
}

#[test]
fn baidu_v1_trades_keys_in_the_query_and_reads_the_body_not_the_status() {
    let scheme = SchemeName::BaiduV1Token.with_token_url(None);
    let request = scheme.exchange(&pair("a k", "s&k"), &clock()).expect("exchange");
    assert_eq!(
        request.url.expose(),
        "https://aip.baidubce.com/oauth/2.0/token?grant_type=client_credentials&client_id=a%20k&client_secret=s%26k"
    );
    assert!(request.body.is_empty() && request.method == "POST");
    assert!(!format!("{request:?}").contains("a%20k"));
    let token = |body: &str| scheme.read_token(200, body.as_bytes(), &clock());
    let good = r#"{"refresh_token":"25.a","expires_in":2592000,"access_token":"24.c3d4","scope":"public"}"#;
    let good = token(good).expect("token");
    assert_eq!(good.expires_at_millis, 1_795_226_400_000 + 2_592_000_000);
    let sent = send(&scheme, &pair("a", "b"), Some(&good), "/chat/completions?x=1", "").expect("sent");
    assert_eq!(sent.path, "/chat/completions?x=1&access_token=24.c3d4");
    for wrong in ["unknown client id", "Client authentication failed"] {
        let body = json!({"error": "invalid_client", "error_description": wrong}).to_string();
        assert_eq!(token(&body).expect_err("refused").verdict, Verdict::AuthInvalid);
    }
    assert_eq!(token("<html>").expect_err("html").verdict, Verdict::Overloaded);
    assert_eq!(token("{}").expect_err("empty").verdict, Verdict::Overloaded);
}

#[test]
fn odd_lives_of_tokens_are_bounded() {
    let scheme = SchemeName::BaiduV1Token.with_token_url(None);
    let life = |expires_in: Value| {
        let body = json!({"access_token": "t", "expires_in": expires_in}).to_string();
        let token = scheme.read_token(200, body.as_bytes(), &clock()).expect("token");
        (token.expires_at_millis - 1_795_226_400_000) / 1000
    };
    assert_eq!(life(json!("3600")), 3600);
    assert_eq!(life(json!(0)), 3600);
    assert_eq!(life(json!(-1)), 3600);
    assert_eq!(life(Value::Null), 3600);
    assert_eq!(life(json!(1e12)), 2_592_000);
}

#[test]
fn a_rows_own_token_endpoint_is_asked() {
    let scheme = SchemeName::BaiduV1Token.with_token_url(Some("http://127.0.0.1:9/token"));
    let request = scheme.exchange(&pair("a", "b"), &clock()).expect("exchange");
    assert!(request.url.expose().starts_with("http://127.0.0.1:9/token?grant_type="));
}
