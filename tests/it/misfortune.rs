//! What one request may not do to others: a panic, a body of many megabytes, more requests than there is room for, hours of
//! faults (R7, R20, R1, R2 of the list of tests).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::house::{Answer, House, question, until, value_of, whole};

const ONE: &str = "accounts: [{id: a, platform: openai, api_key: sk-a}]\n";

/// Whether the long runs are wanted, too.
fn is_slow_wanted() -> bool {
    std::env::var_os("WEIR_SLOW").is_some()
}

/// The panics are the debug build's own (`gateway/rehearsal.rs`).
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_a_panic_is_one_requests_500_and_nobody_elses() {
    const PANICS: &[(&str, &str)] = 
        &[("WEIR_REHEARSE_PANIC", "request=boom,stream=bang"), ("RUST_BACKTRACE", "0")];
    let route = |name: &str| format!("  - {{model: {name}, targets: [{{platform: openai, model: gpt-4o}}]}}\n");
    let routes = format!("routes:\n{}", ["boom", "bang", "good"].map(route).concat());
    let house = House::start_in(&format!("{ONE}{routes}"), "", PANICS).await;
    let good = house.request(&question("good", "@words=60 @gap=30", true));
    let good = tokio::spawn(async move { whole(good).await });
    // On one connection with others: over HTTP/1 the next request works, over HTTP/2 so do those beside it.
    let h2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().expect("a client");
    let beside = h2.post(house.url("/v1/chat/completions")).bearer_auth(&house.token);
    let beside = beside.json(&question("good", "@words=60 @gap=30", true));
    let beside = tokio::spawn(async move { whole(beside).await });
    until("they run", || async { house.metric("weir_open_streams").await == 2.0 }).await;
    let mut kept = house.connect().await;
    for round in 1..=30 {
        let stream = round % 2 == 0;
        kept.send(&house.wire_chat("boom", "x", stream)).await;
        let answer = kept.answer().await.expect("the connection is cut");
        assert_eq!(answer.error(500), "internal_error");
        assert!(!answer.text().contains("rehearsed"), "{}", answer.text());
        let request = h2.post(house.url("/v1/chat/completions")).bearer_auth(&house.token);
        assert_eq!(whole(request.json(&question("boom", "x", stream))).await.error(500), "internal_error");
        kept.send(&house.wire_chat("good", "x", false)).await;
        assert_eq!(kept.answer().await.expect("an answer").status, 200);
    }
    assert_eq!(house.metric("weir_panics_total").await, 60.0);
    // In mid-stream the status is out: what is wrong is said in the stream, and nothing else on the connection breaks.
    for client in [&house.client, &h2] {
        let request = client.post(house.url("/v1/chat/completions")).bearer_auth(&house.token);
        let answer = whole(request.json(&question("bang", "@words=50 @gap=10", true))).await;
        assert!(answer.events().is_broken_with("internal_error"), "{}", answer.text());
    }
    for other in [good, beside] {
        let answer = other.await.expect("joined");
        assert!(answer.events().is_whole(), "another stream was broken: {}", answer.text());
    }
    assert_eq!(house.metric("weir_panics_total").await, 62.0);
    house.settled().await;
}
