//! What one request may not do to others: a panic, a body of many megabytes, more requests than there is room for, hours of
//! faults (R7, R20, R1, R2 of the list of tests).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::house::{Events, House, question, until, whole};

const ONE: &str = "accounts: [{id: a, platform: openai, api_key: sk-a}]\n";

/// Whether the long runs are wanted, too.
pub fn is_slow_wanted() -> bool {
    std::env::var_os("WEIR_SLOW").is_some()
}

/// The panics are the debug build's own (`gateway/rehearsal.rs`).
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_a_panic_is_one_requests_500_and_nobody_elses() {
    use crate::house::{sum_of, value_of};
    const PANICS: &[(&str, &str)] =
        &[("WEIR_REHEARSE_PANIC", "request=boom,stream=bang"), ("RUST_BACKTRACE", "0")];
    let route =
        |name: &str| format!("  - {{model: {name}, targets: [{{platform: openai, model: gpt-4o}}]}}\n");
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
    let metrics = house.metrics().await;
    assert_eq!(value_of(&metrics, "weir_panics_total"), 62.0);
    assert_eq!(sum_of(&metrics, "weir_requests_total", "outcome=\"internal\""), 62.0);
    assert_eq!(sum_of(&metrics, "weir_requests_total", "outcome=\"client_gone\""), 0.0);
    house.settled().await;
}

/// A request with a picture of so many bytes.
fn picture(model: &str, bytes: usize, stream: bool) -> String {
    let data = "iVBORw0KGgo".repeat(bytes / 11 + 1);
    let url = format!("data:image/png;base64,{}", &data[..bytes / 4 * 4]);
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": [
        {"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": url}}]}]})
    .to_string()
}

/// R20.1: large bodies come through, cost little more than themselves, and hold nobody up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r20_1_a_picture_of_twenty_megabytes_goes_through() {
    const BYTES: usize = 20 << 20;
    // As in the image: glibc would keep what it has learned to be large, and one request would be counted for the next.
    const GIVES_BACK: &[(&str, &str)] = &[("MALLOC_MMAP_THRESHOLD_", "1048576")];
    let accounts: String = [("openai", "sk-a"), ("claude", "sk-ant-c"), ("gemini", "AIza-g")]
        .map(|(platform, key)| format!("  - {{id: {platform}, platform: {platform}, api_key: {key}}}\n"))
        .concat();
    let house = House::start_in(&format!("accounts:\n{accounts}"), "", GIVES_BACK).await;
    assert_eq!(house.chat("gpt-4o", "warm").await.status, 200);
    let beside = house.request(&question("gpt-4o", "@words=100 @gap=30", true));
    let beside = tokio::spawn(async move {
        let mut response = beside.send().await.expect("sent");
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        while let Some(_piece) = response.chunk().await.expect("a whole stream") {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        longest
    });
    let before = house.memory().0;
    // What is passed on as it came is held once; what is translated, as it came and as it goes, also where a field of it
    // is left out.
    for (model, stream, nothing, most) in [
        ("gpt-4o", false, "", 1.5),
        ("claude-sonnet-4-5", true, "", 2.5),
        ("claude-sonnet-4-5", false, "\"stop\":null,", 2.5),
        ("gemini-2.5-flash", false, "", 2.5),
        ("gemini-2.5-flash", true, "\"stop\":null,", 2.5),
    ] {
        house.forget_the_highest();
        let body = picture(model, BYTES, stream).replacen('{', &format!("{{{nothing}"), 1);
        let request = house.client.post(house.url("/v1/chat/completions")).bearer_auth(&house.token);
        let answer = whole(request.header("content-type", "application/json").body(body)).await;
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        let times = (house.memory().1 - before) as f64 / BYTES as f64;
        assert!(times < most, "{model}{nothing}: {times:.2} times the body");
        let requests = house.requests().await;
        let sent = requests.last().expect("a request")["body"].to_string();
        assert!(
            sent.len() > BYTES && sent.contains("iVBORw0KGgoiVBORw0KGgo"),
            "{model}: {} bytes",
            sent.len()
        );
        house.reset().await;
        let is_given_back = || async { house.memory().0 < before + BYTES as u64 / 2 };
        until("the memory is given back", is_given_back).await;
    }
    let longest = beside.await.expect("joined");
    assert!(longest < Duration::from_secs(2), "another stream stood still for {longest:?}");
    house.settled().await;
}

/// H5: a compressed body is refused by its head: nothing of it is unpacked, or even read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_compressed_bodies_are_refused_before_they_are_read() {
    let house = House::start(ONE).await;
    let before = house.memory().0;
    let encodings =
        ["gzip", "br", "zstd", "deflate", "compress", "GZIP", "gzip, gzip", "identity, gzip", "x-no-such"];
    // At once: each refusal waits a second for a client that goes on writing.
    let each = encodings.map(|encoding| {
        let house = &house;
        async move {
            let mut raw = house.connect().await;
            let head = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {}\r\n\
                 content-encoding: {encoding}\r\ncontent-length: 10000000\r\n\r\n",
                house.token
            );
            raw.send(head.as_bytes()).await;
            let answer = raw.answer().await.expect("an answer");
            assert_eq!(answer.error(415), "unsupported_media_type", "{encoding}");
            assert_eq!(answer.header("connection"), "close", "{encoding}");
        }
    });
    futures_util::future::join_all(each).await;
    // What hides behind a first header is no JSON, and nobody unpacks it.
    let hidden = "content-encoding: identity\r\ncontent-encoding: gzip\r\n";
    let bytes = house.wire("POST", "/v1/chat/completions", hidden, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    let mut raw = house.connect().await;
    raw.send(&bytes).await;
    assert!(matches!(raw.answer().await.expect("an answer").status, 400 | 415));
    assert_eq!(house.counted("openai", "requests").await, 0);
    let after = house.memory().0;
    assert!(after < before + (16 << 20), "memory went from {before} to {after}");
    house.settled().await;
}

/// A8: what lists things is quick, however many there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a8_lists_are_quick_with_very_many_accounts() {
    let accounts: String = (0..3000)
        .map(|n| format!("  - {{id: a{n}, platform: openai, api_key: sk-{n}, limits: {{rpm: 60}}}}\n"))
        .collect();
    let house = House::start(&format!("accounts:\n{accounts}")).await;
    let took = |path: &'static str, admin: bool| {
        let house = &house;
        async move {
            let mut best = Duration::MAX;
            for _ in 0..3 {
                let began = Instant::now();
                let answer =
                    if admin { house.admin(http::Method::GET, path).await } else { house.get(path).await };
                assert_eq!(answer.status, 200, "{path}");
                best = best.min(began.elapsed());
            }
            best
        }
    };
    // The bound is 50 ms for a release build; this is a debug build on a busy machine.
    for (path, admin) in [
        ("/v1/models", false),
        ("/v1/models/gpt-4o", false),
        ("/metrics", true),
        ("/admin/accounts", true),
        ("/admin/keys", true),
    ] {
        let took = took(path, admin).await;
        assert!(took < Duration::from_millis(500), "{path}: {took:?}");
    }
    // A pattern is a name like any other: nothing is searched.
    for id in ["%25%25%25", "*", "gpt*", "..%2f..", "a%00b"] {
        let answer = house.get(&format!("/v1/models/{id}")).await;
        assert!(matches!(answer.status, 400 | 404), "{id}: {}", answer.text());
    }
}

/// What a run of requests came to.
#[derive(Debug, Default)]
struct Tally {
    good: u64,
    refused: u64,
    slowest_refusal: Duration,
}

/// So many hands, each asking again as soon as it is answered, for so long.
async fn press(house: &House, hands: usize, length: Duration) -> Tally {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut tasks = JoinSet::new();
    for _ in 0..hands {
        let request = client.post(house.url("/v1/chat/completions")).bearer_auth(&house.token);
        let request = request.json(&question("gpt-4o", "@words=2 x", false));
        tasks.spawn(async move {
            let (mut tally, end) = (Tally::default(), Instant::now() + length);
            while Instant::now() < end {
                let began = Instant::now();
                let answer = whole(request.try_clone().expect("a copy")).await;
                if answer.status == 200 {
                    tally.good += 1;
                    continue;
                }
                assert!(matches!(answer.status, 429 | 503), "{}", answer.text());
                assert!(
                    answer.header("retry-after").parse::<u64>().is_ok_and(|wait| wait >= 1),
                    "{:?}",
                    answer.headers
                );
                tally.refused += 1;
                tally.slowest_refusal = tally.slowest_refusal.max(began.elapsed());
                // Impatient, but not mad.
                sleep(Duration::from_millis(50)).await;
            }
            tally
        });
    }
    let mut all = Tally::default();
    while let Some(tally) = tasks.join_next().await {
        let tally = tally.expect("joined");
        all.good += tally.good;
        all.refused += tally.refused;
        all.slowest_refusal = all.slowest_refusal.max(tally.slowest_refusal);
    }
    all
}

/// R2: with ten times the load that the accounts take, they stay busy, the rest is told so at once, and health answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_overload_is_refused_quickly_and_costs_the_admitted_nothing() {
    let limits = "limits: {concurrency: 4}";
    let house = House::start_with(
        &format!("accounts: [{{id: a, platform: openai, api_key: sk-a, {limits}}}, {{id: b, platform: openai, api_key: sk-b, {limits}}}]\n"),
        "defaults: {latency_ms: 100}",
    )
    .await;
    let length = Duration::from_secs(2);
    let peak = press(&house, 8, length).await;
    assert!(peak.good > 20, "{peak:?}");
    for times in [2, 10] {
        let done = Arc::new(AtomicBool::new(false));
        let health: JoinHandle<Duration> = {
            let (done, client) = (Arc::clone(&done), house.client.clone());
            let urls = [house.url("/healthz"), house.admin_url("/readyz"), house.admin_url("/metrics")];
            tokio::spawn(async move {
                let mut slowest = Duration::ZERO;
                while !done.load(Ordering::Relaxed) {
                    for url in &urls {
                        let began = Instant::now();
                        assert_eq!(whole(client.get(url)).await.status, 200, "{url}");
                        slowest = slowest.max(began.elapsed());
                    }
                    sleep(Duration::from_millis(20)).await;
                }
                slowest
            })
        };
        let tally = press(&house, 8 * times, length).await;
        done.store(true, Ordering::Relaxed);
        let slowest = health.await.expect("joined");
        assert!(tally.good * 10 >= peak.good * 6, "{times} x: {tally:?} of {peak:?}");
        assert!(tally.refused > 0, "{times} x: {tally:?}");
        assert!(tally.slowest_refusal < Duration::from_secs(1), "{times} x: {tally:?}");
        assert!(slowest < Duration::from_secs(1), "{times} x: health took {slowest:?}");
    }
    let after = press(&house, 8, length).await;
    assert!(after.good * 10 >= peak.good * 6, "{after:?} of {peak:?}");
    house.settled().await;
}

/// Open files of a process.
fn files(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).expect("Linux").count()
}

/// R1: everything at once, over and over: what is right is answered, what is faulty fails as it should, and nothing grows.
/// Twenty seconds; half an hour where `WEIR_SLOW` is set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_an_endurance_run_grows_nothing_and_fails_only_what_is_faulty() {
    let length = Duration::from_secs(if is_slow_wanted() { 1800 } else { 20 });
    let house = House::start(
        "accounts:\n  - {id: a, platform: openai, api_key: sk-a}\n  - {id: c, platform: claude, api_key: sk-ant-c}\n  \
         - {id: q, platform: qwen, api_key: sk-q}\nlog: {level: warn}\n",
    )
    .await;
    let house = Arc::new(house);
    let end = Instant::now() + length;
    let mut hands = JoinSet::new();
    for hand in 0..12_usize {
        let house = Arc::clone(&house);
        hands.spawn(async move {
            let (mut asked, mut number) = (0_u64, hand);
            while Instant::now() < end {
                number += 12;
                let model = ["gpt-4o", "claude-sonnet-4-5", "qwen-plus"][number % 3];
                match number % 50 {
                    0 => {
                        // Cut in the middle.
                        let answer = house.stream(model, "@words=20 @cut=5").await;
                        let events = Events::read(&answer.text());
                        assert!(answer.status == 502 || events.error().is_some(), "{}", answer.text());
                    }
                    1 => {
                        let answer = house.chat(model, "@error=bad_request").await;
                        assert_eq!(answer.status, 400, "{}", answer.text());
                    }
                    2 => assert_eq!(house.chat("no-such-model", "x").await.status, 404),
                    3 => {
                        // Leaves in the middle.
                        let mut response = house.open(model, "@words=200 @gap=10").await;
                        drop(response.chunk().await);
                    }
                    4 => {
                        let mut raw = house.connect().await;
                        raw.send(b"GET /nonsense HTTP/1.1\r\nbad header\r\n\r\n").await;
                        raw.reset();
                    }
                    _ => {
                        let answer = house.stream(model, "@words=20 @gap=2 hello").await;
                        assert!(answer.events().is_whole(), "{}", answer.text());
                    }
                }
                asked += 1;
            }
            asked
        });
    }
    // Warm: pools, caches and the allocator have what they need.
    sleep(length / 3).await;
    let (warm, warm_files) = (house.memory().0, files(house.process_id()));
    let mut asked = 0;
    while let Some(hand) = hands.join_next().await {
        asked += hand.expect("nothing but the faulty failed");
    }
    let (after, metrics) = (house.memory().0, house.metrics().await);
    assert!(asked > 200, "{asked}");
    assert!(after < warm + (8 << 20), "memory went from {warm} to {after}");
    assert!(metrics.contains("weir_panics_total 0"));
    house.settled().await;
    let left = files(house.process_id());
    assert!(left <= warm_files + 4, "{warm_files} files, then {left}");
}

/// A4: how long a refusal takes says nothing of how much of a key was right. Coarse, and only where `WEIR_SLOW` is set: it
/// needs a quiet machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a4_a_key_that_begins_right_is_refused_no_later_than_any_other() {
    if !is_slow_wanted() {
        return;
    }
    let house = House::start(ONE).await;
    let (made, printed) = house.run(&["key", "create", "--name", "k", "--tenant", "alpha"]).await;
    assert!(made, "{printed}");
    let key = serde_json::from_str::<serde_json::Value>(&printed).expect("JSON")["key"].clone();
    let key = key.as_str().expect("a key").to_owned();
    let wrong = |right: usize, n: usize| {
        let rest: String = key[right..]
            .bytes()
            .enumerate()
            .map(|(at, byte)| char::from(b'a' + (byte ^ 7).wrapping_add((at * 31 + n) as u8) % 26))
            .collect();
        format!("{}{rest}", &key[..right])
    };
    let begins = ["sk-weir-".len(), key.len() - 1];
    let mut times = [Vec::new(), Vec::new()];
    let mut raw = house.connect().await;
    for n in 0..20_000 {
        let which = n % 2;
        let bytes = format!(
            "GET /v1/models HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {}\r\n\r\n",
            wrong(begins[which], n)
        );
        let began = Instant::now();
        raw.send(bytes.as_bytes()).await;
        assert_eq!(raw.answer().await.expect("an answer").status, 401);
        times[which].push(began.elapsed());
    }
    let [far, near] = times.map(|mut times| {
        times.sort_unstable();
        (times[times.len() / 4], times[times.len() / 2], times[times.len() * 3 / 4])
    });
    println!("quartiles: {far:?} of random keys, {near:?} of nearly right ones");
    let noise = far.2.saturating_sub(far.0).max(Duration::from_micros(20));
    assert!(near.1.abs_diff(far.1) < noise, "{far:?} {near:?}");
}
