//! Gateways whose clocks are wrong, by libfaketime, around one Redis whose clock is right: limits and books hold, since only
//! Redis' clock counts. The oracle is the simulated platform's own count.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::house::{House, mint, question, start_fake, until};
use super::replicas::{Redis, status};

/// The library, wherever its package puts it.
fn libfaketime() -> PathBuf {
    let folders = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
        "/usr/local/lib",
    ];
    let found = folders.iter().map(|folder| Path::new(folder).join("faketime/libfaketimeMT.so.1"));
    found.into_iter().find(|file| file.exists()).unwrap_or_else(|| {
        panic!("libfaketime is needed for this test (package libfaketime): it is in none of {folders:?}")
    })
}

pub type Environment = &'static [(&'static str, &'static str)];

/// An environment whose wall clock is as `what` says; the monotonic clock, which no operator sets, stays as it is.
pub fn clock(what: &[(&str, &str)]) -> Environment {
    let library = libfaketime().display().to_string();
    let usual =
        [("LD_PRELOAD", library.as_str()), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("FAKETIME_NO_CACHE", "1")];
    let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    let all: Vec<_> = usual.iter().chain(what).map(|(name, value)| (leak(name), leak(value))).collect();
    Box::leak(all.into_boxed_slice())
}

fn right_now() -> jiff::Timestamp {
    let seconds = weir::clock::Clock::system().wall_seconds();
    jiff::Timestamp::from_second(seconds.try_into().expect("a time")).expect("a time")
}

/// A zone in which it is now `hour` o'clock and some minutes.
fn zone(now: jiff::Timestamp, hour: i64) -> String {
    let ahead = (hour - now.as_second().rem_euclid(86_400) / 3600 + 36).rem_euclid(24) - 12;
    // What lies ahead of Greenwich has a minus there.
    if ahead > 0 { format!("Etc/GMT-{ahead}") } else { format!("Etc/GMT+{}", -ahead) }
}

/// What the clock said for each line of a gateway's log.
fn times(house: &House) -> Vec<jiff::Timestamp> {
    let log = house.log();
    let times = log.lines().filter_map(|line| line.split('"').find_map(|word| word.parse().ok()));
    times.collect()
}

const DAILY: u64 = 90;
const AT_ONCE: u64 = 3;
const PER_MINUTE: u64 = 120;

/// Three accounts: it is an hour before midnight for the first, an hour after it for the second; the third has a rate.
fn fragment(redis: &Redis, fake: std::net::SocketAddr, now: jiff::Timestamp) -> String {
    let endpoints = weir::fake::endpoints(fake);
    let base = |name: &str| endpoints.iter().find(|(known, _)| known == name).expect("a platform").1.clone();
    let row = |name: &str, hour: i64| {
        format!("  {name}: {{base_url: \"{}\", quota: {{timezone: \"{}\"}}}}\n", base(name), zone(now, hour))
    };
    format!(
        "{}platforms:\n{}{}accounts:\n  - {{id: a, platform: openai, api_key: sk-a, limits: {{daily_requests: {DAILY}, \
         concurrency: {AT_ONCE}}}}}\n  - {{id: b, platform: qwen, api_key: sk-b, limits: {{daily_requests: {DAILY}}}}}\n  \
         - {{id: c, platform: zhipu, api_key: id.secret, limits: {{rpm: {PER_MINUTE}, burst: 10}}}}\n",
        redis.store(),
        row("openai", 23),
        row("qwen", 0),
    )
}

/// The same requests of all kinds at one house, until `end`.
async fn press(house: &House, end: Instant) {
    while Instant::now() < end {
        let asks = ["openai/gpt-4o", "qwen/qwen-max", "zhipu/glm-4.6", "openai/gpt-4o"];
        let asks = asks.map(|model| status(house.request(&question(model, "@first=40 hi", false))));
        for found in join_all(asks).await {
            assert!([200, 429].contains(&found), "{found}");
        }
        sleep(Duration::from_millis(15)).await;
    }
}

/// Q3: ten minutes ahead, ten behind, and one that leaps by hours, also over midnight, beside one that is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q3_wrong_clocks_change_no_limit_and_no_book() {
    let mut now = right_now();
    // A real midnight within the test would be one too many.
    while now.as_second() % 3600 > 3600 - 60 {
        sleep(Duration::from_secs(1)).await;
        now = right_now();
    }
    let leaps = tempfile::NamedTempFile::new().expect("a file");
    let leap = |to: &str| std::fs::write(leaps.path(), format!("{to}\n")).expect("written");
    let leaping = clock(&[("FAKETIME_TIMESTAMP_FILE", leaps.path().to_str().expect("text"))]);
    // The two that leap begin on another day, one for each of the accounts.
    let clocks = [
        (&[][..], ""),
        (clock(&[("FAKETIME", "+10m")]), ""),
        (clock(&[("FAKETIME", "-10m")]), ""),
        (leaping, "+1h"),
        (leaping, "-1h"),
    ];
    let redis = Redis::start(&[]);
    let fake = start_fake("");
    let fragment = fragment(&redis, fake, now);
    let seconds = now.as_second();
    let mut houses = Vec::new();
    for (clock, first) in clocks {
        leap(first);
        let mut house = House::start_beside(fake, &fragment, clock).await;
        // Tokens are held against the gateway's own clock: this one is good for all of them.
        house.token = mint(json!({"iat": seconds - 7_200, "exp": seconds + 86_400}));
        houses.push(house);
    }
    let began = Instant::now();
    let end = began + Duration::from_secs(8);
    let leaper = async {
        for to in ["+1h", "-1h", "+0", "-1h", "+1h", "+5", "-5"].iter().cycle() {
            leap(to);
            sleep(Duration::from_millis(600)).await;
            if Instant::now() >= end {
                break;
            }
        }
    };
    tokio::join!(leaper, join_all(houses.iter().map(|house| press(house, end))));
    let (passed, counters) = (began.elapsed(), houses[0].counters().await);
    let number =
        |platform: &str, key: &str, what: &str| counters[platform][key][what].as_u64().expect("a number");
    assert_eq!(number("openai", "sk-a", "requests"), DAILY, "an hour before midnight");
    assert_eq!(number("qwen", "sk-b", "requests"), DAILY, "after midnight");
    assert!(number("openai", "sk-a", "max_concurrent") <= AT_ONCE);
    let most = 10 + PER_MINUTE * (u64::try_from(passed.as_millis()).expect("short") + 1_000) / 60_000;
    let zhipu = houses[0].counted("zhipu", "requests").await;
    assert!((most / 2..=most).contains(&zhipu), "{zhipu} of {most} by rate");
    are_settled_once(&houses, 2 * DAILY + zhipu).await;
    // The clocks were wrong indeed: the first and the last time in each log, in seconds from ours.
    let away = |house: &House| {
        let times = times(house).into_iter().map(|time| time.as_second() - seconds);
        times.fold((i64::MAX, i64::MIN), |(low, high), time| (low.min(time), high.max(time)))
    };
    assert!(away(&houses[0]).0 > -60 && away(&houses[0]).1 < 120);
    assert!(away(&houses[1]).0 > 500 && away(&houses[2]).1 < -400);
    assert!(away(&houses[3]).1 > 3_000 && away(&houses[4]).0 < -3_000);
    for house in &houses[3..] {
        let (first, last) = away(house);
        assert!(last - first > 3_000, "it never leapt: {first} to {last}");
    }
}

/// Every request is in the books of usage, and in them once, on whichever day its gateway believed it to be.
async fn are_settled_once(houses: &[House], requests: u64) {
    let today = right_now().as_second() / 86_400;
    let day = |number: i64| {
        jiff::Timestamp::from_second(number * 86_400).expect("a day").to_string()[..10].to_owned()
    };
    let query = format!("/admin/usage?by=account&from={}&to={}", day(today - 2), day(today + 2));
    let booked = || async {
        // Whoever is asked writes down what it knows first.
        let asked = houses.iter().map(|house| house.admin(http::Method::GET, &query));
        drop(join_all(asked).await);
        let report = houses[0].admin(http::Method::GET, &query).await.json();
        report["total"]["requests"].as_u64().unwrap_or_else(|| panic!("{report}"))
    };
    until("all is booked", || async { booked().await >= requests }).await;
    assert_eq!(booked().await, requests);
}
