//! What a platform's refusals do to its accounts over time: how long they rest, what wakes them, and what never does
//! (R4.2 to R4.5, R4.8).

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::house::{Answer, House, question, until, whole};
use crate::puppet::{End, Puppet, Script, answer, good_json};
use crate::replicas::Redis;

const JSON: &str = "content-type: application/json\r\n";

fn says(script: &Script, status: &str, headers: &str, code: &str) {
    let body = format!(r#"{{"error":{{"message":"no","type":"x","code":"{code}"}}}}"#);
    script.set(answer(status, &format!("{JSON}{headers}"), &body), End::Close);
}

fn is_well(script: &Script) {
    script.set(answer("200 OK", JSON, &good_json()), End::Close);
}

/// Asks until the platform is asked once more; what came of it, and how long that took.
async fn next_try(house: &House, puppet: &Puppet) -> (Answer, Duration) {
    let (before, since) = (puppet.requests(), Instant::now());
    loop {
        let answer = house.chat("m", "x").await;
        if puppet.requests() > before {
            return (answer, since.elapsed());
        }
        assert!(matches!(answer.status, 429 | 503), "{}", answer.text());
        assert!(since.elapsed() < Duration::from_secs(20), "it rests on and on: {}", answer.text());
        sleep(Duration::from_millis(20)).await;
    }
}

fn retry_after(answer: &Answer) -> u64 {
    answer.header("retry-after").parse().expect("whole seconds")
}

/// R4.2, R4.3: a 429 that names no time costs a short pause; failures of the platform rest it on another ramp.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_2_without_a_hint_the_pause_is_short_and_r4_3_failures_do_not_lengthen_it() {
    let (puppet, script) = Puppet::scripted().await;
    let house = House::start(&puppet.house("retry: {budget: 1}\n")).await;
    says(&script, "500 Internal Server Error", "", "server_error");
    for _ in 0..3 {
        assert_ne!(house.chat("m", "x").await.status, 200);
    }
    // So many failures in a row rest it; when it is looked at again and still fails, for longer.
    let (still, took) = next_try(&house, &puppet).await;
    assert!(took > Duration::from_millis(500), "it was asked again after {took:?}");
    assert!(matches!(still.status, 502 | 503), "{}", still.text());
    says(&script, "429 Too Many Requests", "", "rate_limit_exceeded");
    let (limited, _) = next_try(&house, &puppet).await;
    assert_eq!(limited.error(429), "rate_limit_exceeded");
    assert!(retry_after(&limited) <= 2, "the first pause after a 429: {:?}", limited.headers);
    let refused = house.chat("m", "x").await;
    assert_eq!(refused.error(429), "rate_limit_exceeded");
    assert!((1..=2).contains(&retry_after(&refused)), "{:?}", refused.headers);
    is_well(&script);
    let (back, took) = next_try(&house, &puppet).await;
    assert_eq!(back.status, 200);
    assert!(took < Duration::from_secs(5), "{took:?}");
    // And the success has cleared everything: the next pause is a first one again.
    says(&script, "429 Too Many Requests", "", "rate_limit_exceeded");
    assert!(retry_after(&house.chat("m", "x").await) <= 2);
    house.settled().await;
}

/// R4.3: a platform that says it is overloaded is asked once every few seconds, not by everybody; callers are told when.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_3_an_overloaded_platform_is_left_alone_for_a_moment() {
    let (puppet, script) = Puppet::scripted().await;
    let accounts: String =
        (0..9).map(|n| format!("  - {{id: p{n}, platform: puppet, api_key: sk-{n}}}\n")).collect();
    let one = "accounts: [{id: p, platform: puppet, api_key: sk-puppet}]\n";
    let fragment = puppet.house("retry: {budget: 1}\n").replace(one, &format!("accounts:\n{accounts}"));
    let house = House::start(&fragment).await;
    says(&script, "503 Service Unavailable", "", "busy");
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(2500) {
        let refused = house.chat("m", "x").await;
        assert!(matches!(refused.status, 502 | 503), "{}", refused.text());
    }
    let most = 3 + since.elapsed().as_secs() as usize + 1;
    assert!((3..=most).contains(&puppet.requests()), "{} requests", puppet.requests());
    let refused = house.chat("m", "x").await;
    assert!(refused.status == 502 || (1..=5).contains(&retry_after(&refused)), "{:?}", refused.headers);
    // No pause was longer than the one before it, and the accounts' own ramp is untouched.
    is_well(&script);
    let (back, took) = next_try(&house, &puppet).await;
    assert_eq!(back.status, 200);
    assert!(took < Duration::from_secs(8), "{took:?}");
    for _ in 0..9 {
        assert_eq!(house.chat("m", "x").await.status, 200);
    }
    says(&script, "429 Too Many Requests", "", "rate_limit_exceeded");
    assert!(retry_after(&house.chat("m", "x").await) <= 2);
    house.settled().await;
}

/// R4.4: an account that cannot pay or is not wanted any more is left alone; no timer asks it again, a new credential does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_4_what_time_does_not_heal_is_not_tried_again() {
    let cases = [
        ("429 Too Many Requests", "insufficient_quota"),
        ("401 Unauthorized", "invalid_api_key"),
        ("401 Unauthorized", "account_deactivated"),
        ("402 Payment Required", "no_credit"),
    ];
    let each = cases.into_iter().map(|(status, code)| async move {
        let (puppet, script) = Puppet::scripted().await;
        let fragment = |key: &str| {
            format!(
                "platforms:\n  openai: {{base_url: \"http://{}/v1\"}}\n\
                 accounts: [{{id: p, platform: openai, api_key: {key}}}]\n\
                 routes: [{{model: m, targets: [{{platform: openai, model: gpt-4o}}]}}]\n",
                puppet.address
            )
        };
        let house = House::start(&fragment("sk-old")).await;
        // A hint of seconds is not believed.
        says(&script, status, "retry-after: 1\r\n", code);
        assert_ne!(house.chat("m", "x").await.status, 200);
        is_well(&script);
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(1500) {
            let refused = house.chat("m", "x").await;
            assert!(matches!(refused.status, 429 | 503), "{code}: {}", refused.text());
            let is_hopeless = refused.status == 503 || refused.header("x-should-retry") == "false";
            assert!(is_hopeless, "{code}: {:?}", refused.headers);
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(puppet.requests(), 1, "{status} {code}");
        house.write(&fragment("sk-new"));
        until("a new credential is tried", || async { house.chat("m", "x").await.status == 200 }).await;
    });
    futures_util::future::join_all(each).await;
}

/// R4.5: the same refusal from one account after the other is the platform's, and the rest of the pool is spared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_5_a_platform_that_refuses_everyone_does_not_burn_the_pool() {
    let (puppet, script) = Puppet::scripted().await;
    let accounts: String =
        (0..20).map(|n| format!("  - {{id: p{n}, platform: puppet, api_key: sk-{n}}}\n")).collect();
    let one = "accounts: [{id: p, platform: puppet, api_key: sk-puppet}]\n";
    let fragment = puppet.house("retry: {budget: 1}\n").replace(one, &format!("accounts:\n{accounts}"));
    let house = House::start(&fragment).await;
    says(&script, "429 Too Many Requests", "retry-after: 3\r\n", "ip_rate_limit");
    for _ in 0..30 {
        let refused = house.chat("m", "x").await;
        assert_eq!(refused.error(429), "rate_limit_exceeded");
        assert!((1..=3).contains(&retry_after(&refused)), "{:?}", refused.headers);
    }
    let burnt = puppet.requests();
    assert!((5..=8).contains(&burnt), "{burnt} accounts were asked");
    let all = house.admin(http::Method::GET, "/admin/accounts").await.json();
    let all = all["accounts"].as_array().expect("accounts").clone();
    let rest = all.iter().filter(|account| !account["rest"].is_null()).count();
    assert!(rest <= burnt, "{rest} accounts rest");
    assert!(all.iter().all(|account| account["is_enabled"] == true && account["is_expired"] == false));
    is_well(&script);
    let (back, took) = next_try(&house, &puppet).await;
    assert_eq!(back.status, 200, "{}", back.text());
    assert!(took < Duration::from_secs(8), "{took:?}");
    for _ in 0..5 {
        assert_eq!(house.chat("m", "x").await.status, 200);
    }
    house.settled().await;
}

/// R4.8: an operator takes one account out of service and back, without touching what runs on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_8_an_operator_disables_and_enables_an_account() {
    let fragment = |enabled: bool| {
        format!(
            "accounts:\n  - {{id: first, platform: openai, api_key: sk-first, priority: 0, enabled: {enabled}}}\n  \
             - {{id: second, platform: openai, api_key: sk-second, priority: 1}}\n\
             routes: [{{model: \"*\", targets: [{{platform: openai}}], strategy: priority}}]\n"
        )
    };
    let house = House::start(&fragment(true)).await;
    let asked = |key: &'static str| {
        let house = &house;
        async move { house.counters().await["openai"][key]["requests"].as_u64().unwrap_or(0) }
    };
    let running = house.request(&question("gpt-4o", "@words=40 @gap=50", true));
    let running = tokio::spawn(async move { whole(running).await });
    until("it runs", || async { asked("sk-first").await == 1 }).await;
    house.write(&fragment(false));
    until("it is out", || async { house.account("first").await["is_enabled"] == false }).await;
    for _ in 0..10 {
        assert_eq!(house.chat("gpt-4o", "x").await.status, 200);
    }
    assert_eq!((asked("sk-first").await, asked("sk-second").await), (1, 10));
    let answer = running.await.expect("joined");
    assert!(answer.events().is_whole(), "what ran was broken: {}", answer.text());
    house.write(&fragment(true));
    until("it is back", || async { house.account("first").await["is_enabled"] == true }).await;
    assert_eq!(house.chat("gpt-4o", "x").await.status, 200);
    assert_eq!(asked("sk-first").await, 2);
    house.settled().await;
}

/// What a platform asked for outlives the process that heard it: the next one does not ask before the time, and tells its
/// callers how long that is. The account has no limits: nothing else would make it ask the authority first.
async fn a_rest_outlives(store: &str, is_kept: impl AsyncFn(&House) -> bool) {
    let (puppet, script) = Puppet::scripted().await;
    let mut house = House::start(&puppet.house(&format!("retry: {{budget: 1}}\n{store}"))).await;
    says(&script, "429 Too Many Requests", "retry-after: 60\r\n", "rate_limit_exceeded");
    let began = Instant::now();
    assert_eq!(house.chat("m", "x").await.error(429), "rate_limit_exceeded");
    until("the rest is kept", || is_kept(&house)).await;
    house.kill().await;
    is_well(&script);
    house.restart().await;
    let refused = house.chat("m", "x").await;
    assert_eq!(refused.error(429), "rate_limit_exceeded");
    let (left, passed) = (retry_after(&refused), began.elapsed().as_secs());
    assert!((59 - passed..=60).contains(&left), "{left} s are left after {passed} s");
    assert_eq!(puppet.requests(), 1, "asked before its time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rest_outlives_the_process_in_the_embedded_store() {
    let is_in_the_file = async |house: &House| {
        let file = std::fs::read(house.folder().join("store/weir.redb")).expect("the store");
        file.windows(9).any(|bytes| bytes == b"\"rests\":[")
    };
    a_rest_outlives("", is_in_the_file).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rest_outlives_the_process_in_redis() {
    let redis = Redis::start(&[]);
    let is_in_redis = async |_: &House| redis.tell(&["HGETALL", "weir:1:{acct:p}:rests"]).contains("=m");
    a_rest_outlives(&redis.store(), is_in_redis).await;
}
