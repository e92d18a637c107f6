//! Callers who leave, and callers who do not read: the platform stops at once or waits, the slot is free, the books are
//! closed (R6, R7, U6, U7).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep};

use futures_util::StreamExt as _;
use serde_json::json;

use crate::house::{House, PATIENCE, Raw, mint, question, sum_of, until, whole};
use crate::puppet::{EVENTS_HEAD, Puppet, delta};
use crate::replicas::{Redis, replicas, status};

const ONE: &str = "accounts: [{id: a, platform: openai, api_key: sk-a}]\n";

/// Ways to be waiting for a platform: before its head, before its first event, between events, for a whole answer.
const WAITS: [(&str, bool); 4] =
    [("@stall=60000", true), ("@first=60000", true), ("@gap=60000", true), ("@stall=60000", false)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u6_a_hundred_callers_leave_and_every_platform_connection_is_closed_within_a_second() {
    let house = House::start(ONE).await;
    let mut callers: Vec<Raw> = Vec::new();
    for number in 0..100 {
        let (wait, stream) = WAITS[number % WAITS.len()];
        let mut raw = house.connect().await;
        raw.send(&house.wire_chat("gpt-4o", &format!("{wait} caller {number}"), stream)).await;
        callers.push(raw);
    }
    until("all wait", || async { house.counted("openai", "in_flight").await == 100 }).await;
    let left = Instant::now();
    for (number, raw) in callers.into_iter().enumerate() {
        // Half of them as a crashed process does.
        if (number / WAITS.len()).is_multiple_of(2) { drop(raw) } else { raw.reset() }
    }
    until("all are gone", || async { house.counted("openai", "client_gone").await == 100 }).await;
    // A second is promised; a loaded machine is given another.
    assert!(left.elapsed() < Duration::from_secs(2), "it took {:?}", left.elapsed());
    house.settled().await;
    assert_eq!(house.account("a").await["in_flight"], 0);
    let metrics = house.metrics().await;
    assert_eq!(sum_of(&metrics, "weir_requests_total", "outcome=\"client_gone\""), 100.0);
    assert_eq!(sum_of(&metrics, "weir_requests_total", ""), 100.0, "each is counted once");
    assert_eq!(house.chat("gpt-4o", "and the next one").await.status, 200);
}

/// How a request may end without an answer.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Its caller leaves in mid-stream.
    Abort,
    /// The platform does not answer in time.
    Late,
    /// The platform's answer is none.
    Broken,
}

/// Has one request of `tenant` end like this. False where it was refused: the account's only place was not free.
async fn ends(house: &House, token: &str, end: End) -> bool {
    let text = match end {
        End::Abort => "@words=50 @gap=60000 go",
        End::Late => "@stall=60000 go",
        End::Broken => "@html go",
    };
    let request = house.client.post(house.url("/v1/chat/completions")).bearer_auth(token);
    let request = request.json(&question("openai/gpt-4o", text, matches!(end, End::Abort)));
    let (found, wanted) = match end {
        // Dropped with its head read and its stream open.
        End::Abort => (status(request).await, 200),
        End::Late => (whole(request).await.status, 504),
        End::Broken => (whole(request).await.status, 502),
    };
    assert!(found == wanted || found == 429, "{end:?}: {found}");
    found == wanted
}

/// R7.1: a thousand requests end badly, on accounts with one place each, and at one of two replicas: the place is free within one
/// lifetime of a lease, whoever wants it next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_1_a_thousand_requests_that_end_badly_leave_every_place_free() {
    const ACCOUNTS: usize = 334;
    let redis = Redis::start(&["--appendonly", "no"]);
    let account = |number| {
        format!(
            "  - {{id: a{number}, platform: openai, api_key: sk-{number}, tenants: [t{number}], limits: {{concurrency: 1}}}}\n"
        )
    };
    let accounts: String = (0..ACCOUNTS).map(account).collect();
    let houses = replicas(
        2,
        &format!(
            "{}log: {{level: warn}}\ntimeouts: {{response_header: 1s}}\naccounts:\n{accounts}",
            redis.store()
        ),
    )
    .await;
    let work = (0..ACCOUNTS).map(|number| {
        let (token, houses) = (mint(json!({"tenant": format!("t{number}")})), &houses);
        async move {
            let mut longest = Duration::ZERO;
            // At the one replica and at the other in turn.
            for (step, end) in [End::Abort, End::Late, End::Broken, End::Abort].into_iter().enumerate() {
                let began = Instant::now();
                while !ends(&houses[(number + step) % 2], &token, end).await {
                    assert!(began.elapsed() < PATIENCE, "the place of a{number} is never free: {end:?}");
                    longest = began.elapsed();
                }
            }
            longest
        }
    });
    let waits: Vec<Duration> = futures_util::stream::iter(work).buffer_unordered(60).collect().await;
    let ended = Instant::now();
    for house in &houses {
        house.settled().await;
    }
    let longest = waits.iter().max().expect("some");
    println!("refused for {longest:?} at most; all free {:?} after the last", ended.elapsed());
    assert!(ended.elapsed() < Duration::from_secs(2), "{:?}", ended.elapsed());
    assert!(*longest < Duration::from_secs(2), "a place was not free for {longest:?}");
    assert_eq!(
        houses[0].metric("weir_panics_total").await + houses[1].metric("weir_panics_total").await,
        0.0
    );
    until("nothing is held in Redis", || async { redis.stock("a*", "concurrency").1 == 0 }).await;
}

/// C9: the SDKs close right after the end mark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_a_caller_who_closes_right_after_the_end_mark_is_a_success() {
    let house = House::start(ONE).await;
    for number in 0..20 {
        let mut raw = house.connect().await;
        raw.send(&house.wire_chat("gpt-4o", "short", true)).await;
        raw.until(b"data: [DONE]\n\n").await;
        if number % 2 == 0 { drop(raw) } else { raw.reset() }
    }
    house.settled().await;
    let metrics = house.metrics().await;
    assert_eq!(sum_of(&metrics, "weir_requests_total", "outcome=\"ok\""), 20.0, "{metrics}");
    assert_eq!(house.counted("openai", "client_gone").await, 0);
}

/// R8: who leaves in mid-stream has used the prompt and what was delivered, not nothing and not everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q5_who_leaves_in_mid_stream_pays_for_what_was_delivered() {
    let house = House::start(ONE).await;
    let mut raw = house.connect().await;
    raw.send(&house.wire_chat("gpt-4o", "@words=1000 @gap=5 tell me", true)).await;
    raw.until(b"w200").await;
    drop(raw);
    house.settled().await;
    let metrics = house.metrics().await;
    let settled = sum_of(&metrics, "weir_tokens_total", "kind=\"completion\"");
    assert!((100.0..900.0).contains(&settled), "{settled} tokens for 200 of 1000 words");
    assert_eq!(sum_of(&metrics, "weir_settlements_total", "basis=\"estimated\""), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_never_reads_is_cut_off_and_holds_little_memory() {
    let house =
        House::start(&format!("{ONE}timeouts: {{client_idle: 700ms}}\nlimits: {{answer: 16GiB}}\n")).await;
    house.chat("gpt-4o", "warm up").await;
    let (before, _) = house.memory();
    let mut deaf = Vec::new();
    for number in 0..5 {
        let mut raw = house.connect().await;
        raw.send(&house.wire_chat("gpt-4o", &format!("@endless_stream {number}"), true)).await;
        deaf.push(raw);
    }
    until("they are cut off", || async { house.counted("openai", "client_gone").await == 5 }).await;
    house.settled().await;
    let (_, most) = house.memory();
    assert!(most.saturating_sub(before) < 32 << 20, "{before} before, {most} at most");
    drop(deaf);
}

/// U7: a slow caller slows its platform down, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u7_a_slow_caller_slows_its_platform_down() {
    let written = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&written);
    let puppet = Puppet::start(move |mut hand| {
        let written = Arc::clone(&count);
        async move {
            if hand.request().await.is_none() {
                return;
            }
            hand.say(EVENTS_HEAD).await;
            let event = delta(&"x".repeat(8000));
            while hand.say(&event).await {
                written.fetch_add(event.len() as u64, Ordering::Relaxed);
            }
        }
    })
    .await;
    let house = House::start(&puppet.house("limits: {answer: 16GiB}\n")).await;
    house.get("/v1/models").await;
    let (before, _) = house.memory();
    let mut slow = house.connect().await;
    slow.send(&house.wire_chat("m", "x", true)).await;
    let mut piece = [0; 1024];
    let mut last = 0;
    let mut still = 0;
    for _ in 0..200 {
        slow.stream.read_exact(&mut piece).await.expect("bytes");
        sleep(Duration::from_millis(10)).await;
        let now = written.load(Ordering::Relaxed);
        still = if now == last { still + 1 } else { 0 };
        last = now;
        if still > 30 {
            break;
        }
    }
    // What fits into the sockets' buffers of two connections, and then no more.
    assert!(still > 30, "the platform was never slowed down: {last} bytes and on");
    assert!(last < 64 << 20, "{last} bytes were taken from the platform");
    let (_, most) = house.memory();
    assert!(most.saturating_sub(before) < 16 << 20, "{before} before, {most} at most");
    drop(slow);
    until("the platform is left", || async { puppet.open() == 0 }).await;
    house.settled().await;
}
