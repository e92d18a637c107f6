//! Platforms that are silent, slow or endless: each time limit fires in its time, callers are kept awake meanwhile, and
//! nothing grows (U3, U4, R5).

use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

use crate::house::{Answer, House, until};
use crate::puppet::{DONE, EVENTS_HEAD, End, Hand, Puppet, delta, finish, good_json};

/// Runs `work` and says how long it took.
async fn timed(work: impl Future<Output = Answer>) -> (Answer, Duration) {
    let began = Instant::now();
    let answer = work.await;
    (answer, began.elapsed())
}

/// Not before its time, and soon after: the machine may be loaded, the limits next to it are far away.
fn assert_about(took: Duration, limit: u64, what: &str) {
    let limit = Duration::from_millis(limit);
    assert!(took >= limit.mul_f64(0.9), "{what}: {took:?}, {limit:?} was set");
    assert!(took < limit + Duration::from_secs(3), "{what}: {took:?}, {limit:?} was set");
}

/// Writes `bytes` again and again with `pause` between, until the gateway goes.
async fn trickle(mut hand: Hand, head: String, bytes: String, pause: Duration) {
    hand.request().await;
    hand.say(head).await;
    while hand.say(&bytes).await {
        sleep(pause).await;
    }
}

const LATE: &str = "20s";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u4_no_head_in_time_is_a_504_and_not_paid_for_twice() {
    let (puppet, script) = Puppet::scripted().await;
    script.set("", End::Hang);
    let fragment = format!(
        "platforms:\n  puppet: {{dialect: openai, base_url: \"http://{}/v1\", auth: bearer, models: [m]}}\n\
         accounts: [{{id: p, platform: puppet, api_key: sk-p}}, {{id: q, platform: puppet, api_key: sk-q}}]\n\
         timeouts: {{response_header: 400ms, first_token: {LATE}, idle: {LATE}, total: {LATE}}}\n",
        puppet.address
    );
    let house = House::start(&fragment).await;
    for stream in [false, true] {
        let body = crate::house::question("m", "x", stream);
        let (answer, took) = timed(house.post("/v1/chat/completions", &body)).await;
        assert_eq!(answer.error(504), "upstream_timeout");
        assert_eq!(answer.header("x-should-retry"), "false");
        assert_about(took, 400, "response_header");
    }
    assert_eq!(puppet.requests(), 2, "a request that a platform had taken was sent again");
    until("the connections are closed", || async { puppet.open() == 0 }).await;
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u4_a_platform_that_cannot_be_reached_in_time_is_given_up_for_the_next() {
    // A queue of one that nobody empties: once it is full, the system drops whoever knocks.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let wall = socket.listen(1).expect("listening");
    let address = wall.local_addr().expect("bound");
    let knock = || tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address));
    let mut kept = Vec::new();
    let is_full = loop {
        match knock().await {
            Ok(stream) if kept.len() < 64 => kept.push(stream),
            Ok(_) => break false,
            Err(_) => break true,
        }
    };
    assert!(is_full, "this system lets everybody in");
    let (puppet, script) = Puppet::scripted().await;
    script
        .set(crate::puppet::answer("200 OK", "content-type: application/json\r\n", &good_json()), End::Close);
    let fragment = format!(
        "platforms:\n  puppet: {{dialect: openai, base_url: \"http://{}/v1\", auth: bearer, models: [m]}}\n\
         accounts:\n  - {{id: wall, platform: puppet, api_key: sk-p, base_url: \"http://{address}/v1\"}}\n  \
         - {{id: good, platform: puppet, api_key: sk-q, priority: 1}}\n\
         routes: [{{model: m, targets: [{{platform: puppet}}], strategy: priority}}]\n\
         timeouts: {{connect: 400ms}}\n",
        puppet.address
    );
    let house = House::start(&fragment).await;
    let (answer, took) = timed(house.chat("m", "x")).await;
    assert_eq!((answer.status, answer.header("x-weir-attempts")), (200, "2"), "{}", answer.text());
    assert_about(took, 400, "connect");
    house.settled().await;
}

/// R5.6: while nothing was sent, a failure is still a true status.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u4_no_first_event_in_time_is_a_504_before_the_first_heartbeat() {
    let (puppet, script) = Puppet::scripted().await;
    script.set(EVENTS_HEAD, End::Hang);
    let times = format!("timeouts: {{first_token: 400ms, heartbeat: 10s, idle: {LATE}, total: {LATE}}}\n");
    let house = House::start(&puppet.house(&times)).await;
    let (answer, took) = timed(house.stream("m", "x")).await;
    assert_eq!(answer.error(504), "upstream_timeout");
    assert_about(took, 400, "first_token");
    house.settled().await;
}

/// R5.1, R5.2: headers and heartbeats come while the platform thinks; the limit for the first event still holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u4_no_first_event_in_time_ends_a_stream_that_was_kept_awake() {
    let (puppet, script) = Puppet::scripted().await;
    script.set(EVENTS_HEAD, End::Hang);
    let times = format!("timeouts: {{first_token: 1s, heartbeat: 150ms, idle: {LATE}, total: {LATE}}}\n");
    let house = House::start(&puppet.house(&times)).await;
    let (answer, took) = timed(house.stream("m", "x")).await;
    let events = answer.events();
    assert_eq!(answer.status, 200);
    assert!(events.is_broken_with("upstream_timeout"), "{}", answer.text());
    assert!((2..=7).contains(&events.comments), "{} heartbeats in a second", events.comments);
    assert_about(took, 1000, "first_token");
    // No content came: nothing is to be counted as its time.
    let seen = house.metric("weir_time_to_first_token_seconds_count{platform=\"puppet\"}").await;
    assert_eq!(seen, 0.0, "a heartbeat was taken for the first token");
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u4_silence_in_mid_stream_and_in_a_body_ends_at_idle() {
    let (puppet, script) = Puppet::scripted().await;
    let times = format!("timeouts: {{idle: 600ms, heartbeat: 150ms, first_token: {LATE}, total: {LATE}}}\n");
    let house = House::start(&puppet.house(&times)).await;
    script.set(format!("{EVENTS_HEAD}{}", delta("Half")), End::Hang);
    let (answer, took) = timed(house.stream("m", "x")).await;
    let events = answer.events();
    assert!(events.is_broken_with("upstream_timeout") && events.text() == "Half", "{}", answer.text());
    assert!(events.comments >= 1, "{}", answer.text());
    assert_about(took, 600, "idle of a stream");
    let half = &good_json()[..40];
    script.set(format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{half}"), End::Hang);
    let (answer, took) = timed(house.chat("m", "x")).await;
    assert_eq!(answer.error(504), "upstream_timeout");
    assert_about(took, 600, "idle of a body");
    until("the connections are closed", || async { puppet.open() == 0 }).await;
    house.settled().await;
}

/// A route's own limit may be shorter than the heartbeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u4_a_limit_shorter_than_the_heartbeat_is_kept() {
    let (puppet, script) = Puppet::scripted().await;
    let route = "routes: [{model: m, targets: [{platform: puppet}], timeouts: {total: 500ms}}]\n";
    let house = House::start(&puppet.house(route)).await;
    script.set(format!("{EVENTS_HEAD}{}", delta("Half")), End::Hang);
    let (answer, took) = timed(house.stream("m", "x")).await;
    assert!(answer.events().is_broken_with("upstream_timeout"), "{}", answer.text());
    assert_about(took, 500, "a route's total");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u4_an_answer_that_trickles_for_ever_ends_at_total() {
    let pause = Duration::from_millis(40);
    let stream = Puppet::start(move |hand| trickle(hand, EVENTS_HEAD.into(), delta("on "), pause)).await;
    let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"choices\":[";
    let body = Puppet::start(move |hand| trickle(hand, json.into(), " ".into(), pause)).await;
    let times = format!("timeouts: {{total: 1s, heartbeat: 200ms, idle: {LATE}, first_token: {LATE}}}\n");
    let house = House::start(&stream.house(&times)).await;
    let (answer, took) = timed(house.stream("m", "x")).await;
    let events = answer.events();
    assert!(events.is_broken_with("upstream_timeout") && events.chunks.len() > 5, "{}", answer.text());
    assert_about(took, 1000, "total of a stream");
    let house = House::start(&body.house(&times)).await;
    let (answer, took) = timed(house.chat("m", "x")).await;
    assert_eq!(answer.error(504), "upstream_timeout");
    assert_about(took, 1000, "total of a body");
    until("the connections are closed", || async { stream.open() + body.open() == 0 }).await;
    house.settled().await;
}

/// A stream that is never quiet for a moment has a total all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u4_a_stream_without_a_pause_ends_at_total() {
    let times = "timeouts: {total: 700ms, heartbeat: 200ms}\nlimits: {answer: 16GiB}\n";
    let house =
        House::start(&format!("accounts: [{{id: a, platform: openai, api_key: sk-a}}]\n{times}")).await;
    let began = Instant::now();
    let mut response = house.open("gpt-4o", "@endless_stream go").await;
    let mut tail = Vec::new();
    while let Some(bytes) = response.chunk().await.expect("a clean end") {
        tail.extend_from_slice(&bytes);
        tail.drain(..tail.len().saturating_sub(4096));
        assert!(began.elapsed() < Duration::from_secs(15), "it goes on and on");
    }
    let tail = String::from_utf8_lossy(&tail).into_owned();
    assert!(tail.contains("upstream_timeout") && tail.ends_with(DONE), "{tail}");
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_heartbeats_as_data_are_empty_chunks_and_come_only_between_events() {
    let puppet = Puppet::start(|mut hand| async move {
        hand.request().await;
        hand.begin_events().await;
        let event = delta("Hello world");
        let (half, rest) = event.split_at(event.len() / 2);
        sleep(Duration::from_millis(400)).await;
        hand.say(half).await;
        sleep(Duration::from_millis(400)).await;
        hand.say(format!("{rest}{}{DONE}", finish())).await;
        hand.close().await;
    })
    .await;
    let times = "timeouts: {heartbeat: 100ms}\nheartbeat: data\n";
    let house = House::start(&puppet.house(times)).await;
    let answer = house.stream("m", "x").await;
    let events = answer.events();
    assert!(events.is_whole() && events.text() == "Hello world", "{}", answer.text());
    let empty = json!([{"index": 0, "delta": {}, "finish_reason": null}]);
    let beats = events.chunks.iter().filter(|chunk| chunk["choices"] == empty).count();
    assert!(beats >= 3 && events.comments == 0, "{beats}: {}", answer.text());
}

/// R5.4: a platform's pings are for us; the caller has heartbeats of our own, in our own time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_a_platforms_pings_are_not_passed_on_and_do_not_silence_ours() {
    let pings = ": ping\n\nevent: ping\ndata:\n\n".to_owned();
    let pause = Duration::from_millis(40);
    let puppet = Puppet::start(move |hand| trickle(hand, EVENTS_HEAD.into(), pings.clone(), pause)).await;
    let times = format!("timeouts: {{total: 1s, heartbeat: 200ms, idle: {LATE}, first_token: {LATE}}}\n");
    let house = House::start(&puppet.house(&times)).await;
    let answer = house.stream("m", "x").await;
    let events = answer.events();
    assert!(events.is_broken_with("upstream_timeout"), "{}", answer.text());
    assert_eq!(events.chunks.len(), 1, "{}", answer.text());
    assert!((2..=6).contains(&events.comments), "{} heartbeats: {}", events.comments, answer.text());
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u3_endless_answers_are_cut_at_the_limit_and_held_in_little_memory() {
    let house = House::start(
        "accounts: [{id: a, platform: openai, api_key: sk-a}]\nlimits: {answer: 8MiB, event: 1MiB}\n",
    )
    .await;
    house.chat("gpt-4o", "warm up").await;
    let (before, _) = house.memory();
    let answer = house.stream("gpt-4o", "@endless_stream go").await;
    assert!(answer.events().is_broken_with("upstream_stream_incomplete"));
    assert!((4 << 20..20 << 20).contains(&answer.body.len()), "{} bytes", answer.body.len());
    for stream in [true, false] {
        for wreck in ["@endless_line", "@gzip_bomb"] {
            let body = crate::house::question("gpt-4o", &format!("{wreck} go {stream}"), stream);
            let answer = house.post("/v1/chat/completions", &body).await;
            assert_eq!(answer.error(502), "upstream_error", "{wreck}");
            house.chat("gpt-4o", "well again").await;
        }
    }
    let (_, most) = house.memory();
    assert!(most.saturating_sub(before) < 64 << 20, "{before} before, {most} at most");
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u3_very_many_empty_events_cost_nothing_and_a_long_argument_comes_through() {
    let empty = ["\n\n", "data:\n\n", ": x\n\n", "event: y\n\n"].concat().repeat(100_000);
    let stream = format!("{EVENTS_HEAD}{}{empty}{}{}{DONE}", delta("Hello"), delta(" world"), finish());
    let puppet = Puppet::saying(stream).await;
    let house = House::start(&puppet.house("")).await;
    let (before, _) = house.memory();
    let answer = house.stream("m", "x").await;
    assert!(answer.events().is_whole() && answer.events().text() == "Hello world");
    let (_, most) = house.memory();
    assert!(most.saturating_sub(before) < 48 << 20, "{before} before, {most} at most");
    house.settled().await;
}
