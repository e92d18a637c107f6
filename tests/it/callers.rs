//! Callers: keys, limits, models, scopes, and that no tenant ever has anything of another's (A5, A7, R23).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::house::{Answer, House, mint, question, until, whole};

const ONE: &str = "accounts: [{id: a, platform: openai, api_key: sk-a}]\n";

async fn ask_as(house: &House, token: &str, body: &Value) -> Answer {
    whole(house.client.post(house.url("/v1/chat/completions")).bearer_auth(token).json(body)).await
}

async fn models_of(house: &House, token: &str) -> Vec<String> {
    let answer = whole(house.client.get(house.url("/v1/models")).bearer_auth(token)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = answer.json();
    assert_eq!(list["object"], "list");
    let models = list["data"].as_array().expect("a list").iter();
    models
        .map(|model| {
            assert!(model["object"] == "model" && model["created"].is_u64() && model["owned_by"].is_string());
            model["id"].as_str().expect("an id").to_owned()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_made_while_the_gateway_runs_work_at_once_and_stop_within_a_second() {
    let mut house = House::start(ONE).await;
    let create = ["key", "create", "--name", "ci", "--tenant", "beta", "--models", "gpt-*", "--rpm", "600"];
    let (made, printed) = house.run(&create).await;
    assert!(made, "{printed}");
    let printed: Value = serde_json::from_str(&printed).expect("JSON where it is not a terminal");
    let key = printed["key"].as_str().expect("a key").to_owned();
    let id = printed["record"]["id"].as_str().expect("an id").to_owned();
    assert!(key.starts_with("sk-weir-"));
    let body = question("gpt-4o", "hello", false);
    let answer = ask_as(&house, &key, &body).await;
    assert_eq!(
        (answer.status, answer.header("x-ratelimit-limit-requests")),
        (200, "600"),
        "{}",
        answer.text()
    );
    let other = ask_as(&house, &key, &question("qwen-plus", "hello", false)).await;
    assert_eq!(other.error(403), "model_not_allowed");
    let (listed, list) = house.run(&["key", "list"]).await;
    assert!(listed && list.contains(&id) && !list.contains(&key), "{list}");
    // It outlives the process.
    house.signal("TERM");
    assert!(house.ended().await.success());
    house.restart().await;
    assert_eq!(ask_as(&house, &key, &body).await.status, 200);
    let (revoked, printed) = house.run(&["key", "revoke", &id]).await;
    assert!(revoked, "{printed}");
    let since = Instant::now();
    until("it is refused", || async { ask_as(&house, &key, &body).await.status == 401 }).await;
    assert!(since.elapsed() < Duration::from_secs(1), "still good after {:?}", since.elapsed());
    assert_eq!(ask_as(&house, &key, &body).await.error(401), "invalid_api_key");
    let (again, _) = house.run(&["key", "revoke", "no-such-key"]).await;
    assert!(!again);
    assert!(!house.log().contains(&key), "a key is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_limits_hold_are_told_in_headers_and_are_its_own() {
    let house = House::start(&format!(
        "{ONE}callers: {{default: {{}}, tenants: {{alpha: {{rpm: 30, burst: 3, tpm: 100000}}, beta: {{}}, gamma: {{concurrency: 2}}, \
         delta: {{daily_requests: 2}}}}}}\n"
    ))
    .await;
    let body = question("gpt-4o", "hello", false);
    let mut left = Vec::new();
    let refused = loop {
        let answer = ask_as(&house, &house.token, &body).await;
        if answer.status != 200 {
            break answer;
        }
        assert_eq!(answer.header("x-ratelimit-limit-requests"), "30");
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), "100000");
        for name in ["x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"]
        {
            assert!(!answer.header(name).is_empty(), "{name}: {:?}", answer.headers);
        }
        left.push(answer.header("x-ratelimit-remaining-requests").parse::<u64>().expect("a number"));
        assert!(left.len() < 12, "no limit: {left:?}");
    };
    assert!(left.len() >= 3, "{left:?}");
    assert_eq!(refused.error(429), "rate_limit_exceeded");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|wait| (1..=60).contains(&wait)));
    // Somebody else is not touched by it.
    let beta = mint(json!({"tenant": "beta", "sub": "bob"}));
    for _ in 0..10 {
        assert_eq!(ask_as(&house, &beta, &body).await.status, 200);
    }
    // So many at once, and a place that becomes free is free.
    let gamma = mint(json!({"tenant": "gamma", "sub": "gus"}));
    let slow = question("gpt-4o", "@stall=1500 slow", false);
    let asked = (0..5).map(|_| ask_as(&house, &gamma, &slow));
    let statuses: Vec<u16> =
        futures_util::future::join_all(asked).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
    assert_eq!(ask_as(&house, &gamma, &body).await.status, 200);
    let delta = mint(json!({"tenant": "delta", "sub": "dan"}));
    for _ in 0..2 {
        assert_eq!(ask_as(&house, &delta, &body).await.status, 200);
    }
    let over = ask_as(&house, &delta, &body).await;
    assert_eq!(over.error(429), "insufficient_quota");
    assert_eq!(over.header("x-should-retry"), "false");
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_may_what_it_says_and_nothing_more() {
    let house = House::start(
        "accounts:\n  - {id: a, platform: openai, api_key: sk-a}\n  - {id: q, platform: qwen, api_key: sk-q}\n",
    )
    .await;
    let some = mint(json!({"models": ["gpt-4o*"]}));
    let none = mint(json!({"models": []}));
    let accounts = mint(json!({"scope": "accounts"}));
    let body = question("gpt-4o", "x", false);
    assert_eq!(ask_as(&house, &some, &body).await.status, 200);
    assert_eq!(
        ask_as(&house, &some, &question("qwen-plus", "x", true)).await.error(403),
        "model_not_allowed"
    );
    // By its other name neither.
    assert_eq!(
        ask_as(&house, &some, &question("qwen/qwen-plus", "x", true)).await.error(403),
        "model_not_allowed"
    );
    assert_eq!(ask_as(&house, &none, &body).await.error(403), "model_not_allowed");
    assert_eq!(ask_as(&house, &accounts, &body).await.error(403), "insufficient_permissions");
    // Nothing in the request widens it.
    let mut wide = question("qwen-plus", "x", false);
    wide["models"] = json!(["*"]);
    wide["user"] = json!("admin");
    let spoofed = house
        .client
        .post(house.url("/v1/chat/completions?key=admin"))
        .bearer_auth(&some)
        .header("x-forwarded-user", "admin")
        .header("x-api-key", &house.token)
        .json(&wide);
    assert_eq!(whole(spoofed).await.error(403), "model_not_allowed");
    let seen = models_of(&house, &some).await;
    assert!(!seen.is_empty() && seen.iter().all(|model| model.starts_with("gpt-4o")), "{seen:?}");
    assert!(models_of(&house, &none).await.is_empty());
    let all = models_of(&house, &house.token).await;
    assert!(
        all.iter().any(|model| model == "qwen-plus") && all.iter().any(|model| model == "gpt-4o"),
        "{all:?}"
    );
    let page = |token: &str, id: &str| {
        whole(house.client.get(house.url(&format!("/v1/models/{id}"))).bearer_auth(token.to_owned()))
    };
    assert_eq!(page(&some, "gpt-4o").await.json()["id"], "gpt-4o");
    assert_eq!(page(&some, "qwen-plus").await.error(404), "model_not_found");
    for id in ["qwen/qwen-plus", "qwen%2Fqwen-plus"] {
        assert_eq!(page(&house.token, id).await.json()["id"], "qwen/qwen-plus");
    }
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_never_uses_sees_or_names_anothers_account() {
    let house = House::start(
        "callers: {tenants: {alpha: {}, beta: {}, nobody: {}}}\naccounts:\n  \
         - {id: of-alpha, platform: openai, api_key: sk-alpha, tenants: [alpha], owner: alpha}\n  \
         - {id: of-beta, platform: openai, api_key: sk-beta, tenants: [beta], owner: beta}\n  \
         - {id: qwen-of-beta, platform: qwen, api_key: sk-beta-qwen, tenants: [beta]}\n",
    )
    .await;
    let beta = mint(json!({"tenant": "beta", "sub": "bob"}));
    let nobody = mint(json!({"tenant": "nobody", "sub": "nik"}));
    let body = question("gpt-4o", "x", false);
    for _ in 0..20 {
        let alphas = ask_as(&house, &house.token, &body).await;
        assert_eq!((alphas.status, alphas.header("x-weir-account")), (200, "of-alpha"), "{}", alphas.text());
        assert_eq!(ask_as(&house, &beta, &body).await.header("x-weir-account"), "of-beta");
    }
    let books = house.counters().await;
    assert_eq!(books["openai"]["sk-alpha"]["requests"], 20);
    assert_eq!(books["openai"]["sk-beta"]["requests"], 20);
    // Even when one's own fails, another's is not used.
    let failing = question("gpt-4o", "@error=server_error", false);
    assert_eq!(ask_as(&house, &house.token, &failing).await.error(502), "upstream_error");
    assert_eq!(house.counters().await["openai"]["sk-beta"]["requests"], 20);
    for token in [&house.token, &nobody] {
        let refused = ask_as(&house, token, &question("qwen-plus", "x", false)).await;
        assert_eq!(refused.error(403), "model_not_allowed");
        assert!(!refused.text().contains("beta"), "{}", refused.text());
        assert!(!models_of(&house, token).await.iter().any(|model| model == "qwen-plus"));
    }
    assert!(models_of(&house, &nobody).await.is_empty());
    assert!(models_of(&house, &beta).await.iter().any(|model| model == "qwen-plus"));
    house.settled().await;
}

/// R23.1: whatever callers call models, themselves or their requests, the number of series stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r23_1_ten_thousand_names_add_no_series() {
    let house = House::start(
        "accounts: [{id: a, platform: openai, api_key: sk-a}]\nroutes: [{model: \"any-*\", targets: [{platform: openai}]}]\n",
    )
    .await;
    let series = |metrics: &str| metrics.lines().filter(|line| !line.starts_with('#')).count();
    let names = |round: usize, n: usize| {
        if n.is_multiple_of(10) { format!("any-{round}-{n}") } else { format!("no-{round}-{n}") }
    };
    let bodies = |round: usize, number: usize| {
        let requests = (0..number).flat_map(move |n| {
            let body = question(&names(round, n), "@words=1 x", false).to_string();
            let id = format!("x-request-id: r{round}-{n}\r\nuser-agent: agent-{n}\r\n");
            house_wire(&id, &body)
        });
        requests.collect::<Vec<u8>>()
    };
    let send = |round: usize, number: usize| {
        let (house, bytes) = (&house, bodies(round, number));
        async move {
            let mut raw = house.connect().await;
            let bytes = String::from_utf8(bytes).expect("text").replace("$TOKEN", &house.token).into_bytes();
            let (mut answered, mut at) = (0, 0);
            while answered < number {
                // In batches: all at once would fill both directions.
                let end = nth_request(&bytes, at, 50);
                raw.send(&bytes[at..end]).await;
                at = end;
                let batch = (number - answered).min(50);
                for _ in 0..batch {
                    let answer = raw.answer().await.expect("an answer");
                    assert!(matches!(answer.status, 200 | 404), "{}", answer.text());
                }
                answered += batch;
            }
        }
    };
    send(0, 200).await;
    let before = series(&house.metrics().await);
    futures_util::future::join_all((1..=4).map(|round| send(round, 2500))).await;
    let metrics = house.metrics().await;
    assert_eq!(series(&metrics), before, "{metrics}");
    assert!(!metrics.contains("no-1-1") && !metrics.contains("any-1-0"));
    house.settled().await;
}

fn house_wire(more: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer $TOKEN\r\n{more}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Where the request after the next `number` ones begins.
fn nth_request(bytes: &[u8], from: usize, number: usize) -> usize {
    let starts = memchr::memmem::find_iter(&bytes[from..], b"POST /v1");
    starts.skip(1).nth(number - 1).map_or(bytes.len(), |at| from + at)
}

/// A platform that is not built in is one row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_of_ones_own_is_one_row_of_yaml() {
    let house = House::start(
        "platforms:\n  my-vllm: {dialect: openai, base_url: \"http://$FAKE/openai/v1\", auth: bearer, models: [gpt-4o]}\n\
         accounts: [{id: v, platform: my-vllm, api_key: sk-v, models: {llama: gpt-4o}}]\n",
    )
    .await;
    for stream in [false, true] {
        let answer = house.post("/v1/chat/completions", &question("llama", "x", stream)).await;
        assert_eq!((answer.status, answer.header("x-weir-platform")), (200, "my-vllm"), "{}", answer.text());
        assert_eq!(answer.header("x-gateway-model"), "gpt-4o");
        let shown =
            if stream { answer.events().chunks[0]["model"].clone() } else { answer.json()["model"].clone() };
        assert_eq!(shown, "llama", "R24.1: the caller's own name for it");
    }
    let sent = house.requests().await;
    assert!(sent.iter().all(|request| request.to_string().contains("gpt-4o")), "{sent:?}");
    let (checked, table) = house.run(&["check"]).await;
    assert!(checked && table.contains("my-vllm"), "{table}");
}
