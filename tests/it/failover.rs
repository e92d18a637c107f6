//! Accounts that refuse or fail: the next one is asked, within bounds, and the caller learns what helps (R4, R10, R16, U5).

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::house::{House, question, sum_of};
use crate::puppet::{End, Puppet, answer, good_json};

/// Two accounts of one platform, the first of which is always asked first.
fn pair(platform: &str, credentials: [&str; 2]) -> String {
    format!(
        "accounts:\n  - {{id: first, platform: {platform}, {}, priority: 0}}\n  \
         - {{id: second, platform: {platform}, {}, priority: 1}}\n\
         routes: [{{model: \"*\", targets: [{{platform: {platform}}}], strategy: priority}}]\n",
        credentials[0], credentials[1]
    )
}

const KEYS: [&str; 2] = ["api_key: sk-first", "api_key: sk-second"];

/// U5, R4: what an account's refusal does to the request and to the account, through the whole path, per platform.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u5_each_refusal_of_an_account_moves_on_and_leaves_its_mark_on_every_platform() {
    // Class of the refusal; whether the account rests afterwards; whether it is expired.
    let classes = [
        ("rate_limited", true, false),
        ("quota_exhausted", true, false),
        ("auth_invalid", false, true),
        ("overloaded", false, false),
        ("server_error", false, false),
    ];
    let platforms = [
        ("openai", "gpt-4o", KEYS),
        ("claude", "claude-sonnet-4-5", ["api_key: sk-ant-first", "api_key: sk-ant-second"]),
        ("gemini", "gemini-2.5-flash", ["api_key: AIzaFirst", "api_key: AIzaSecond"]),
        ("qwen", "qwen-plus", KEYS),
        ("dashscope", "qwen-plus", KEYS),
        ("zhipu", "glm-4.6", ["api_key: first.secretsecret", "api_key: second.secretsecret"]),
    ];
    let each = platforms.into_iter().map(|(platform, model, credentials)| async move {
        for (class, rests, is_expired) in classes {
            let key = credentials[0].trim_start_matches("api_key: ");
            let script = format!("accounts: {{{key}: {{directives: \"@error={class}\"}}}}");
            let house = House::start_with(&pair(platform, credentials), &script).await;
            for (stream, is_first) in [(false, true), (true, false)] {
                let answer = house.post("/v1/chat/completions", &question(model, "hello", stream)).await;
                let what = format!("{class} on {platform} (stream: {stream}): {}", answer.text());
                assert_eq!(answer.status, 200, "{what}");
                // The second time, an account that rests is not asked at all.
                let is_resting = !is_first && (rests || is_expired);
                assert_eq!(answer.header("x-weir-attempts"), if is_resting { "1" } else { "2" }, "{what}");
            }
            let first = house.account("first").await;
            assert_eq!(first["is_expired"], is_expired, "{class} on {platform}: {first}");
            assert!(house.account("second").await["rest"].is_null());
            house.settled().await;
        }
    });
    futures_util::future::join_all(each).await;
}

/// R4.6: the caller's own fault is told at once, tried once, and held against nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_6_the_callers_fault_is_not_retried_and_not_counted_against_the_account() {
    let house = House::start(&pair("openai", KEYS)).await;
    let mut asked = 0;
    for (class, code) in [
        ("bad_request", None),
        ("content_filtered", Some("content_filter")),
        ("context_too_long", Some("context_length_exceeded")),
    ] {
        for stream in [false, true] {
            for _ in 0..3 {
                let answer = house
                    .post("/v1/chat/completions", &question("gpt-4o", &format!("@error={class}"), stream))
                    .await;
                let told = answer.error(400);
                assert!(code.is_none_or(|code| told == code), "{class}: {}", answer.text());
                asked += 1;
            }
        }
    }
    assert_eq!(house.counted("openai", "requests").await, asked);
    let first = house.account("first").await;
    assert!(first["rest"].is_null() && first["is_expired"] == false, "{first}");
    house.settled().await;
}

const BY_PRIORITY: &str = "routes: [{model: \"*\", targets: [{platform: openai}], strategy: priority}]\n";

/// R16.1: at most N attempts, each on another account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r16_1_at_most_three_attempts_each_on_another_account() {
    let accounts: String = (0..6)
        .map(|n| format!("  - {{id: a{n}, platform: openai, api_key: sk-{n}, priority: {n}}}\n"))
        .collect();
    let house = House::start(&format!("accounts:\n{accounts}{BY_PRIORITY}")).await;
    let answer = house.chat("gpt-4o", "@error=server_error always").await;
    assert_eq!(answer.error(502), "upstream_error");
    assert_eq!(answer.header("x-should-retry"), "false");
    let books = house.counters().await;
    let keys = books["openai"].as_object().expect("keys");
    assert_eq!(keys.len(), 3, "{books}");
    assert!(keys.values().all(|numbers| numbers["requests"] == 1), "an account was asked twice: {books}");
    house.settled().await;
}

/// U5: an outage is never amplified beyond the budget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u5_a_platform_that_always_fails_sees_little_more_than_the_requests() {
    // So many accounts that circuit breakers do not hide what the budget does.
    let accounts: String =
        (0..600).map(|n| format!("  - {{id: a{n}, platform: openai, api_key: sk-{n}}}\n")).collect();
    let house = House::start(&format!("accounts:\n{accounts}")).await;
    let requests = 300_u32;
    let mut failed = 0;
    for _ in 0..requests / 20 {
        let asked = (0..20).map(|_| house.chat("gpt-4o", "@error=server_error always"));
        for answer in futures_util::future::join_all(asked).await {
            failed += u32::from(answer.status == 502);
        }
    }
    let seen = house.counted("openai", "requests").await;
    let most = requests * 12 / 10 + 3 * 10;
    assert!(seen >= u64::from(failed) && seen <= u64::from(most), "{seen} attempts for {requests} requests");
    assert!(seen > u64::from(requests), "no retry at all");
    assert!(house.metric("weir_retries_refused_total").await > 0.0);
    house.settled().await;
}

/// R4.7: all accounts cooling: an answer at once, with the soonest reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_7_when_all_accounts_cool_the_429_comes_at_once_and_says_when() {
    let house = House::start(&pair("openai", KEYS)).await;
    let first = house.chat("gpt-4o", "@error=rate_limited").await;
    assert_eq!(first.error(429), "rate_limit_exceeded");
    let before = house.counted("openai", "requests").await;
    for stream in [false, true] {
        let began = Instant::now();
        let answer = house.post("/v1/chat/completions", &question("gpt-4o", "hello?", stream)).await;
        assert!(began.elapsed() < Duration::from_secs(1), "it waited");
        assert_eq!(answer.error(429), "rate_limit_exceeded");
        let wait: u64 = answer.header("retry-after").parse().expect("whole seconds");
        assert!((1..=3600).contains(&wait), "{wait}");
        assert!(answer.header("retry-after-ms").parse::<u64>().is_ok());
        assert_eq!(wait > 60, answer.header("x-should-retry") == "false", "{:?}", answer.headers);
    }
    assert_eq!(house.counted("openai", "requests").await, before, "a resting account was asked");
    house.settled().await;
}

/// R4.1: after the time that the platform named, one request is let through, and its success opens the account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_1_an_account_comes_back_when_the_platform_said() {
    let (puppet, script) = Puppet::scripted().await;
    let house = House::start(&puppet.house("")).await;
    let limited = r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
    let headers = "content-type: application/json\r\nretry-after: 2\r\n";
    script.set(answer("429 Too Many Requests", headers, limited), End::Close);
    let began = Instant::now();
    let refused = house.chat("m", "x").await;
    assert_eq!(refused.error(429), "rate_limit_exceeded");
    assert!(["1", "2"].contains(&refused.header("retry-after")), "{:?}", refused.headers);
    script.set(answer("200 OK", "content-type: application/json\r\n", &good_json()), End::Close);
    let back = loop {
        let next = house.chat("m", "x").await;
        if next.status == 200 {
            break began.elapsed();
        }
        assert_eq!(next.error(429), "rate_limit_exceeded");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(back >= Duration::from_millis(1900), "asked again after {back:?}");
    assert!(back < Duration::from_secs(6), "rested {back:?}");
    assert!(house.account("p").await["rest"].is_null());
    assert_eq!(puppet.requests(), 2);
}

/// R10.3, R10.4: our credential's trouble is not the caller's, and nothing of it reaches them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r10_3_a_refused_credential_is_a_502_and_its_words_stay_inside() {
    let (puppet, script) = Puppet::scripted().await;
    let house = House::start(&puppet.house("")).await;
    let leak = r#"{"error":{"message":"Incorrect API key sk-puppet of org-leaked, see leaked.internal","code":"invalid_api_key"}}"#;
    let headers = "content-type: application/json\r\nopenai-organization: org-leaked\r\nset-cookie: leaked=1\r\nx-leaked: 1\r\n";
    script.set(answer("401 Unauthorized", headers, leak), End::Close);
    let refused = house.stream("m", "x").await;
    assert_eq!(refused.error(502), "upstream_auth_failed");
    let next = house.chat("m", "x").await;
    assert_eq!(next.error(503), "no_account_available");
    for told in [&refused, &next] {
        let all = format!("{} {:?}", told.text(), told.headers);
        assert!(!all.contains("leaked") && !all.contains("sk-puppet"), "{all}");
    }
    assert_eq!(house.account("p").await["is_expired"], true);
    let log = house.log();
    assert!(!log.contains("sk-puppet") && !house.metrics().await.contains("leaked"));
    house.settled().await;
}

/// Response headers are an allow-list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r10_4_a_platforms_headers_stay_inside_and_the_callers_too() {
    let (puppet, script) = Puppet::scripted().await;
    let house = House::start(&puppet.house("")).await;
    let headers =
        "content-type: application/json\r\nset-cookie: leaked=1\r\nx-leaked: 1\r\nserver: leaked\r\n";
    script.set(answer("200 OK", headers, &good_json()), End::Close);
    let answer = house.chat("m", "x").await;
    assert_eq!(answer.status, 200);
    assert!(!format!("{:?}", answer.headers).contains("leaked"), "{:?}", answer.headers);
    assert_eq!(answer.header("x-weir-account"), "", "an account is named to who does not own it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_falls_back_to_another_platform_in_its_order() {
    let house = House::start(
        "retry: {budget: 1}\naccounts:\n  - {id: c, platform: claude, api_key: sk-ant-c}\n  - {id: g, platform: gemini, api_key: AIzaG}\n  \
         - {id: q, platform: qwen, api_key: sk-q}\n\
         routes:\n  - model: smart\n    targets: [{platform: claude, model: claude-sonnet-4-5}]\n    \
         fallback: [{platform: gemini, model: gemini-2.5-flash}, {platform: qwen, model: qwen-plus}]\n",
    )
    .await;
    for (class, stream) in [("overloaded", true), ("server_error", false), ("rate_limited", false)] {
        house.script(&format!("accounts: {{sk-ant-c: {{directives: \"@error={class}\"}}}}")).await;
        let answer = house.post("/v1/chat/completions", &question("smart", "fall", stream)).await;
        assert_eq!((answer.status, answer.header("x-weir-attempts")), (200, "2"), "{}", answer.text());
        assert_eq!(answer.header("x-weir-platform"), "gemini");
        if !stream {
            assert_eq!(answer.json()["model"], "smart");
        }
    }
    // Claude rests now; the next request goes to the fallback without asking it.
    let before = house.counted("claude", "requests").await;
    assert_eq!(house.chat("smart", "hello").await.header("x-weir-platform"), "gemini");
    assert_eq!(house.counted("claude", "requests").await, before);
    // The first fallback fails too: on to the second.
    house.script("accounts: {AIzaG: {directives: \"@error=server_error\"}}").await;
    assert_eq!(house.chat("smart", "hello").await.header("x-weir-platform"), "qwen");
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u5_a_refused_connection_and_a_name_that_does_not_resolve_go_on_to_the_next_at_once() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    for base_url in [format!("http://{gone}/v1"), "http://no-such-host.invalid/v1".to_owned()] {
        let credentials = [&format!("api_key: sk-first, base_url: \"{base_url}\""), KEYS[1]];
        let house = House::start(&pair("openai", [credentials[0], credentials[1]])).await;
        let began = Instant::now();
        for _ in 0..4 {
            let answer = house.stream("gpt-4o", "go on").await;
            assert!(answer.status == 200 && answer.events().is_whole(), "{base_url}: {}", answer.text());
        }
        assert!(began.elapsed() < Duration::from_secs(4), "{base_url}: {:?}", began.elapsed());
        // Three failures open its circuit: the fourth request no longer tries it.
        assert_eq!(house.account("first").await["breaker"], "Open", "{}", house.account("first").await);
        house.settled().await;
    }
}

/// R16.3: an idle connection that the platform has closed meanwhile is nobody's failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r16_3_a_platform_that_closes_idle_connections_is_never_noticed() {
    let json = answer("200 OK", "content-type: application/json\r\n", &good_json());
    let puppet = Puppet::start(move |mut hand| {
        let json = json.clone();
        async move {
            // Two answers on a connection, as if it could be used again; then it is closed without a word.
            for _ in 0..2 {
                if hand.request().await.is_none() {
                    return;
                }
                hand.say(&json).await;
            }
        }
    })
    .await;
    let house = House::start(&puppet.house("")).await;
    for round in 0..10 {
        let asked = (0..20).map(|_| house.chat("m", "x"));
        for answer in futures_util::future::join_all(asked).await {
            assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
            assert_eq!(answer.header("x-weir-attempts"), "1");
        }
    }
    assert_eq!(puppet.requests(), 200, "a request was sent twice");
    assert!(puppet.connections() < 190, "no connection was used again");
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_share_and_sticky_stays() {
    let house = House::start(
        "accounts:\n  - {id: heavy, platform: openai, api_key: sk-heavy, weight: 3}\n  \
         - {id: light, platform: openai, api_key: sk-light}\n  - {id: q, platform: qwen, api_key: sk-q}\n\
         routes:\n  - {model: weighted, targets: [{platform: openai, model: gpt-4o}], strategy: weighted}\n  \
         - {model: sticky, targets: [{platform: openai, model: gpt-4o}], strategy: sticky}\n  \
         - model: split\n    targets: [{platform: openai, model: gpt-4o, weight: 3}, {platform: qwen, model: qwen-plus}]\n",
    )
    .await;
    let requests =
        |books: &serde_json::Value, key: &str| books["openai"][key]["requests"].as_u64().unwrap_or(0);
    for _ in 0..200 {
        assert_eq!(house.chat("weighted", "x").await.status, 200);
    }
    let books = house.counters().await;
    let (heavy, light) = (requests(&books, "sk-heavy"), requests(&books, "sk-light"));
    assert_eq!(heavy + light, 200);
    assert!((110..190).contains(&heavy), "{heavy} of 200 went to the one of weight 3 of 4");
    house.reset().await;
    for _ in 0..120 {
        assert_eq!(house.chat("split", "x").await.status, 200);
    }
    let qwen = house.counted("qwen", "requests").await;
    assert!((10..60).contains(&qwen), "{qwen} of 120 went to the target of weight 1 of 4");
    house.reset().await;
    let conversation = json!({"model": "sticky", "messages": [
        {"role": "system", "content": "be brief"}, {"role": "user", "content": "one"}]});
    for turn in 0..20 {
        let mut body = conversation.clone();
        body["messages"]
            .as_array_mut()
            .expect("a list")
            .push(json!({"role": "assistant", "content": format!("{turn}")}));
        body["messages"].as_array_mut().expect("a list").push(json!({"role": "user", "content": "and?"}));
        assert_eq!(house.post("/v1/chat/completions", &body).await.status, 200);
    }
    let books = house.counters().await;
    let shares = [requests(&books, "sk-heavy"), requests(&books, "sk-light")];
    assert!(shares.contains(&20), "a conversation changed its account: {shares:?}");
    let metrics = house.metrics().await;
    assert_eq!(sum_of(&metrics, "weir_requests_total", "outcome=\"ok\""), 340.0);
}
