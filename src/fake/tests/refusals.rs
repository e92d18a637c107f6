//! Each class of error in each platform's own words and status.

use super::*;

async fn refused(fake: &Fake, platform: &str, class: &str) -> Reply {
    Door::named(platform).say(fake, &format!("hi @error={class}"), json!({})).await
}

/// Status and code as the facts have them.
#[tokio::test]
async fn openai_like_platforms_refuse_each_in_its_words() {
    let fake = Fake::start().await;
    let table: [(&str, &str, u16, Value); 40] = [
        ("openai", "rate_limited", 429, json!("rate_limit_exceeded")),
        ("openai", "quota_exhausted", 429, json!("insufficient_quota")),
        ("openai", "auth_invalid", 401, json!("invalid_api_key")),
        ("openai", "not_entitled", 404, json!("model_not_found")),
        ("openai", "overloaded", 503, json!("server_is_overloaded")),
        ("openai", "context_too_long", 400, json!("context_length_exceeded")),
        ("openai", "server_error", 500, Value::Null),
        ("qwen", "rate_limited", 429, json!("limit_requests")),
        ("qwen", "tokens_limited", 429, json!("insufficient_quota")),
        ("qwen", "quota_exhausted", 400, json!("Arrearage")),
        ("qwen", "content_filtered", 400, json!("data_inspection_failed")),
        ("qwen", "not_entitled", 404, json!("model_not_found")),
        ("zhipu", "rate_limited", 429, json!("1303")),
        ("zhipu", "concurrency", 429, json!("1302")),
        ("zhipu", "quota_exhausted", 429, json!("1113")),
        ("zhipu", "token_expired", 401, json!("1003")),
        ("zhipu", "overloaded", 429, json!("1305")),
        ("zhipu", "content_filtered", 400, json!("1301")),
        ("zhipu", "context_too_long", 400, json!("1261")),
        ("doubao", "rate_limited", 429, json!("ModelAccountRpmRateLimitExceeded")),
        ("doubao", "quota_exhausted", 403, json!("AccountOverdueError")),
        ("doubao", "auth_invalid", 401, json!("AuthenticationError")),
        ("doubao", "overloaded", 429, json!("ServerOverloaded")),
        ("doubao", "content_filtered", 400, json!("SensitiveContentDetected")),
        ("doubao", "context_too_long", 400, json!("OutofContextError")),
        ("baidu", "rate_limited", 429, json!("rpm_rate_limit_exceeded")),
        ("baidu", "not_entitled", 401, json!("invalid_model")),
        ("baidu", "overloaded", 429, json!("cluster_rate_limit_exceeded")),
        ("baidu", "quota_exhausted", 403, json!("account_overdue")),
        ("baidu", "auth_invalid", 401, json!("invalid_iam_token")),
        ("spark", "quota_exhausted", 500, json!("11200")),
        ("spark", "context_too_long", 400, json!("10907")),
        ("spark", "bad_request", 400, json!("10005")),
        ("huggingface", "not_entitled", 400, json!("model_not_supported")),
        ("huggingface", "content_filtered", 400, json!("content_filter")),
        ("aihubmix", "quota_exhausted", 403, json!("insufficient_user_quota")),
        ("aihubmix", "daily_quota", 403, json!("pre_consume_token_quota_failed")),
        ("aihubmix", "bad_request", 400, json!("bad_response_status_code")),
        ("aihubmix", "auth_invalid", 401, json!("")),
        ("aihubmix", "overloaded", 503, json!("")),
    ];
    for (platform, class, status, code) in table {
        let reply = refused(&fake, platform, class).await;
        assert_eq!(reply.status, status, "{platform} {class}: {}", reply.text());
        assert_eq!(reply.json()["error"]["code"], code, "{platform} {class}: {}", reply.text());
    }
}

#[tokio::test]
async fn shapes_and_headers_are_the_platforms_own() {
    let fake = Fake::start().await;
    let openai = refused(&fake, "openai", "rate_limited").await;
    assert_eq!((openai.header("retry-after"), openai.header("retry-after-ms")), ("20", "20000"));
    let keys: Vec<String> = openai.json()["error"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["message", "type", "param", "code"]);
    let quota = refused(&fake, "openai", "quota_exhausted").await;
    assert_eq!(quota.header("retry-after"), "");
    let qwen = refused(&fake, "qwen", "rate_limited").await.json();
    assert!(qwen["request_id"].is_string());
    assert_eq!(
        refused(&fake, "qwen", "tokens_limited").await.json()["error"]["message"],
        "Allocated quota exceeded, please increase your quota limit."
    );
    let zhipu = refused(&fake, "zhipu", "rate_limited").await;
    assert_eq!(zhipu.json()["error"].as_object().unwrap().len(), 2);
    assert_eq!(zhipu.header("retry-after"), "");
    assert_eq!(refused(&fake, "doubao", "rate_limited").await.json()["error"]["type"], "TooManyRequests");
    assert!(refused(&fake, "baidu", "rate_limited").await.json()["id"].as_str().unwrap().starts_with("as-"));
    let spark = refused(&fake, "spark", "rate_limited").await;
    assert_eq!((spark.status, &spark.json()["code"]), (429, &json!(11202)));
    assert_eq!(refused(&fake, "spark", "daily_quota").await.status, 200);
    let spark = refused(&fake, "spark", "auth_invalid").await;
    assert_eq!((spark.status, spark.json().as_object().unwrap().len()), (401, 1));
    let face = refused(&fake, "huggingface", "quota_exhausted").await;
    assert!(face.status == 402 && face.json()["error"].is_string());
    let face = refused(&fake, "huggingface", "overloaded").await;
    assert_eq!((face.status, &face.json()["estimated_time"]), (503, &json!(20.0)));
    let face = refused(&fake, "huggingface", "rate_limited").await;
    assert_eq!((face.header("ratelimit"), face.header("retry-after")), ("\"api\";r=0;t=20", "20"));
    assert_eq!(refused(&fake, "huggingface", "bad_request").await.json()["error_type"], "validation");
    assert!(refused(&fake, "aihubmix", "quota_exhausted").await.text().contains("(tid: "));
}

#[tokio::test]
async fn claude_refuses_in_its_words() {
    let fake = Fake::start().await;
    let table = [
        ("rate_limited", 429, "rate_limit_error"),
        ("quota_exhausted", 400, "invalid_request_error"),
        ("token_expired", 401, "authentication_error"),
        ("auth_invalid", 401, "authentication_error"),
        ("not_entitled", 404, "not_found_error"),
        ("overloaded", 529, "overloaded_error"),
        ("bad_request", 400, "invalid_request_error"),
        ("context_too_long", 400, "invalid_request_error"),
        ("server_error", 500, "api_error"),
    ];
    for (class, status, kind) in table {
        let reply = claude(&fake, &format!("@error={class}"), json!({})).await;
        let body = reply.json();
        assert_eq!((reply.status, body["error"]["type"].as_str().unwrap()), (status, kind), "{class}");
        assert_eq!(body["type"], "error");
        assert_eq!(body["request_id"], reply.header("request-id"));
        assert_eq!(reply.header("retry-after"), if class == "rate_limited" { "20" } else { "" });
    }
    let spent = claude(&fake, "@error=daily_quota", json!({})).await.json();
    assert_eq!(spent["error"]["details"]["error_code"], "enforced_spend_limit_reached");
    assert!(
        claude(&fake, "@error=quota_exhausted", json!({}))
            .await
            .text()
            .contains("Your credit balance is too low")
    );
}

#[tokio::test]
async fn gemini_refuses_in_its_words() {
    let fake = Fake::start().await;
    let table = [
        ("rate_limited", 429, "RESOURCE_EXHAUSTED"),
        ("quota_exhausted", 402, "RESOURCE_EXHAUSTED"),
        ("token_expired", 401, "UNAUTHENTICATED"),
        ("auth_invalid", 400, "INVALID_ARGUMENT"),
        ("not_entitled", 404, "NOT_FOUND"),
        ("overloaded", 503, "UNAVAILABLE"),
        ("bad_request", 400, "INVALID_ARGUMENT"),
        ("server_error", 500, "INTERNAL"),
    ];
    for (class, status, word) in table {
        let reply = gemini(&fake, "gemini-2.5-flash", false, &format!("@error={class}"), json!({})).await;
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status, error["status"].as_str().unwrap()), (status, word), "{class}");
        assert_eq!(error["code"], status);
        assert_eq!(reply.header("retry-after"), "", "Gemini tells the wait in the body");
        let details = error["details"].to_string();
        assert_eq!(
            details.contains("RetryInfo") && details.contains("PerMinute"),
            class == "rate_limited",
            "{details}"
        );
        assert_eq!(details.contains("API_KEY_INVALID"), class == "auth_invalid");
    }
    let day = gemini(&fake, "gemini-2.5-flash", false, "@error=daily_quota", json!({})).await.text();
    assert!(
        day.contains("GenerateRequestsPerDayPerProjectPerModel") && day.contains("\"retryDelay\":\"20s\""),
        "{day}"
    );
}

#[tokio::test]
async fn credentials_are_looked_at_in_each_platforms_way() {
    let fake = Fake::start().await;
    let table = [
        ("openai", 401),
        ("qwen", 401),
        ("zhipu", 401),
        ("doubao", 401),
        ("baidu", 401),
        ("spark", 401),
        ("huggingface", 401),
        ("aihubmix", 401),
    ];
    for (platform, status) in table {
        let door = Door::named(platform);
        assert_eq!(
            fake.post(door.path, &[], &door.body("hi")).await.status,
            status,
            "{platform} without a key"
        );
    }
    for platform in ["openai", "qwen", "baidu", "huggingface", "aihubmix", "zhipu"] {
        let door = Door { key: "wrong", ..Door::named(platform) };
        assert_eq!(door.say(&fake, "hi", json!({})).await.status, 401, "{platform} with a malformed key");
    }
    let missing = fake.post("/zhipu/api/paas/v4/chat/completions", &[], &json!({})).await;
    assert_eq!(missing.json()["error"]["code"], "1001");
    let body =
        json!({"model":"claude-sonnet-4-5","max_tokens":10,"messages":[{"role":"user","content":"hi"}]});
    let version = ("anthropic-version", "2023-06-01");
    for (headers, status) in [
        (vec![version], 401),
        (vec![("x-api-key", "sk-ant-a")], 400),
        (vec![("x-api-key", "sk-ant-a"), ("anthropic-version", "1999")], 400),
        (vec![("x-api-key", "sk-ant-a"), version], 200),
        (vec![("authorization", "Bearer sk-ant-a"), version], 200),
        (vec![("authorization", "Bearer sk-ant-oat01-a"), version], 401),
        (
            vec![
                ("authorization", "Bearer sk-ant-oat01-a"),
                version,
                ("anthropic-beta", "x,oauth-2025-04-20"),
            ],
            200,
        ),
        (vec![("authorization", "Bearer sk-ant-a"), ("x-api-key", "sk-ant-a"), version], 401),
        (vec![("x-api-key", "sk-ant-a"), version, ("origin", "http://a")], 401),
    ] {
        assert_eq!(fake.post("/claude/v1/messages", &headers, &body).await.status, status, "{headers:?}");
    }
    let path = "/gemini/v1beta/models/gemini-2.5-flash:generateContent";
    let body = json!({"contents":[{"parts":[{"text":"hi"}]}]});
    for (path, headers, status) in [
        (path.to_owned(), vec![], 403),
        (path.to_owned(), vec![("x-goog-api-key", "AIza-a")], 200),
        (format!("{path}?key=AIza-a"), vec![], 200),
        (path.to_owned(), vec![("authorization", "Bearer ya29.a")], 200),
        (path.to_owned(), vec![("x-goog-api-key", "nonsense")], 400),
        (path.to_owned(), vec![("x-goog-api-key", "AIza-a"), ("authorization", "Bearer ya29.a")], 400),
    ] {
        assert_eq!(fake.post(&path, &headers, &body).await.status, status, "{path} {headers:?}");
    }
}

/// The test vector of the facts, at the time that it was signed for.
#[tokio::test]
async fn zhipus_signed_token_is_verified() {
    let key = "0123456789abcdef0123456789abcdef.AbCdEfGhIjKlMnOp";
    let token = "eyJhbGciOiJIUzI1NiIsInNpZ25fdHlwZSI6IlNJR04iLCJ0eXAiOiJKV1QifQ.eyJhcGlfa2V5IjoiMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYiLCJleHAiOjE3OTUyMjY2MTAwMDAsInRpbWVzdGFtcCI6MTc5NTIyNjQwMDAwMH0.tyX-OSq9IjittmnoAQH5vqlczyKgNwd-o1iiW_TWCWU";
    let fake = Fake::with(&format!("accounts: {{\"{key}\": {{}}}}")).await;
    let door = Door { key: token, ..Door::named("zhipu") };
    let reply = door.say(&fake, "hi", json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(fake.counters("zhipu", key).await["requests"], 1);
    let bare = fake.post(door.path, &[("authorization", token)], &door.body("hi")).await;
    assert_eq!(bare.status, 200, "without Bearer");
    let forged = Door { key: &token.replace("tyX-", "tyX_"), ..door }.say(&fake, "hi", json!({})).await;
    assert_eq!((forged.status, &forged.json()["error"]["code"]), (401, &json!("1002")));
    fake.hand.advance(Duration::from_secs(210));
    let late = door.say(&fake, "hi", json!({})).await;
    assert_eq!((late.status, &late.json()["error"]["code"]), (401, &json!("1003")));
}
