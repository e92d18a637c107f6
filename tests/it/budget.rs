//! Streams that turn out longer than was set aside for them: they get more while there is more, and end properly where
//! there is not (pool.md 1, R8).

use serde_json::{Value, json};

use crate::house::{Events, House, mint, sum_of, until, whole};

/// One account that may spend `limits`, on a platform that is passed on as it comes and on one that is translated.
fn houses(limits: &str, more: &str) -> [(String, &'static str, &'static str); 2] {
    let account = |platform| {
        format!("accounts: [{{id: a, platform: {platform}, api_key: sk-ant-a, limits: {limits}}}]\n{more}")
    };
    [(account("openai"), "openai", "gpt-4o"), (account("claude"), "claude", "claude-sonnet-4-5")]
}

fn long(model: &str, words: u64, usage: bool) -> Value {
    let gap = if words > 5000 { "@gap=1 " } else { "" };
    let text = format!("@words={words} {gap}tell me");
    let mut body = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": text}]});
    if usage {
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

fn used(events: &Events) -> u64 {
    let usage: Vec<&Value> = events.chunks.iter().filter(|chunk| chunk["usage"].is_object()).collect();
    assert_eq!(usage.len(), 1, "usage comes once");
    usage[0]["usage"]["total_tokens"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_outgrows_its_accounts_day_ends_in_length_and_the_platform_is_told_at_once() {
    for (fragment, platform, model) in houses("{daily_tokens: 1300}", "") {
        let house = House::start(&fragment).await;
        let answer = whole(house.request(&long(model, 20_000, true))).await;
        let events = answer.events();
        assert!(events.is_whole(), "{platform}: {:?}", events.chunks.last());
        assert_eq!(events.finish().as_deref(), Some("length"), "{platform}");
        let told = used(&events);
        assert!((1150..1500).contains(&told), "{platform}: {told} of 1300");
        assert!(events.text().contains("w500"), "{platform}: {}", events.text());
        until("the platform is left", || async { house.counted(platform, "client_gone").await == 1 }).await;
        house.settled().await;
        assert!(house.counted(platform, "completion_tokens").await < 10_000, "{platform}");
        let metrics = house.metrics().await;
        assert_eq!(sum_of(&metrics, "weir_requests_total", "outcome=\"budget_stop\""), 1.0, "{metrics}");
        assert_eq!(sum_of(&metrics, "weir_budget_stops_total", "side=\"account\""), 1.0);
        assert_eq!(sum_of(&metrics, "weir_settlements_total", "basis=\"estimated\""), 1.0);
        let settled = sum_of(&metrics, "weir_tokens_total", "");
        assert_eq!(settled, told as f64, "{platform}: what is told is what is settled");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_outgrows_its_callers_day_ends_in_length_too() {
    let callers = "callers: {default: {daily_tokens: 1300}}\n";
    for (fragment, platform, model) in houses("{}", callers) {
        let house = House::start(&fragment).await;
        let events = whole(house.request(&long(model, 20_000, false))).await.events();
        assert!(events.is_whole(), "{platform}");
        assert_eq!(events.finish().as_deref(), Some("length"), "{platform}");
        assert!(events.chunks.iter().all(|chunk| !chunk["usage"].is_object()), "nobody asked for usage");
        until("the platform is left", || async { house.counted(platform, "client_gone").await == 1 }).await;
        let metrics = house.metrics().await;
        assert_eq!(sum_of(&metrics, "weir_budget_stops_total", "side=\"caller\""), 1.0, "{metrics}");
        // Others are not held to it.
        let mut request = house.request(&long(model, 10, false)).build().expect("a request");
        let bearer = format!("Bearer {}", mint(json!({"tenant": "beta"}))).parse().expect("a value");
        request.headers_mut().insert("authorization", bearer);
        assert_eq!(house.client.execute(request).await.expect("an answer").status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_outgrows_its_estimate_goes_on_while_the_day_holds_it() {
    for (fragment, platform, model) in
        houses("{daily_tokens: 12000}", "callers: {default: {daily_tokens: 12000}}\n")
    {
        let house = House::start(&fragment).await;
        let answer = whole(house.request(&long(model, 4000, true))).await;
        let events = answer.events();
        assert_eq!(events.finish().as_deref(), Some("stop"), "{platform}");
        assert!(events.text().ends_with("w4000") || events.text().contains("w3999"), "{platform}");
        house.settled().await;
        let metrics = house.metrics().await;
        assert_eq!(sum_of(&metrics, "weir_budget_stops_total", ""), 0.0);
        let real = house.counted(platform, "prompt_tokens").await
            + house.counted(platform, "completion_tokens").await;
        assert_eq!(sum_of(&metrics, "weir_tokens_total", ""), real as f64, "{platform}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_operator_wants_an_error_the_stream_ends_with_one() {
    for (fragment, platform, model) in houses("{daily_tokens: 1300}", "on_budget: error\n") {
        let house = House::start(&fragment).await;
        let events = whole(house.request(&long(model, 20_000, true))).await.events();
        assert!(events.is_broken_with("insufficient_quota"), "{platform}: {:?}", events.chunks.last());
        until("the platform is left", || async { house.counted(platform, "client_gone").await == 1 }).await;
        let metrics = house.metrics().await;
        assert_eq!(sum_of(&metrics, "weir_requests_total", "outcome=\"budget_stop\""), 1.0);
    }
}

/// An answer within the bound that the caller named was paid for in advance, whatever its bytes look like.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounded_answer_is_never_cut_by_its_own_estimate() {
    for (fragment, platform, model) in houses("{daily_tokens: 700}", "") {
        let house = House::start(&fragment).await;
        let mut body = long(model, 600, false);
        body["max_tokens"] = json!(600);
        let events = whole(house.request(&body)).await.events();
        assert_eq!(events.finish().as_deref(), Some("stop"), "{platform}");
    }
}
