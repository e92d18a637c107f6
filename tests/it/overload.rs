//! More is asked for than there is, for seconds on end, through several replicas of which one gets most of it: every account
//! has all its limits at once, and another one of them binds at each. None may be passed in any window of time, and what is
//! to be had must be used (`pool.md`, guarantees 1, 2, 6 and 9). The oracle is the platform's own log of who came when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::house::{House, PATIENCE, start_fake, whole};
use super::misfortune::is_slow_wanted;
use super::replicas::{Redis, status};

/// Seconds for which a lease lives: the default.
const TTL: f64 = 1.0;

/// What two lifetimes of a lease may cost at the beginning: guarantee 9.
const SETTLING: f64 = 2.0 * TTL;

/// Limits of one account.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub rpm: u64,
    pub burst: u64,
    pub tpm: u64,
    pub daily: u64,
    pub slots: u64,
}

impl Bounds {
    fn yaml(&self) -> String {
        let Self { rpm, burst, tpm, daily, slots } = self;
        format!("{{rpm: {rpm}, burst: {burst}, tpm: {tpm}, daily_tokens: {daily}, concurrency: {slots}}}")
    }
}

/// Which of its limits an account meets first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scarce {
    Requests,
    Tokens,
    Day,
    Slots,
}

/// One account of the test, and what is scarce there.
#[derive(Clone, Debug)]
struct Subject {
    id: String,
    platform: &'static str,
    scarce: Scarce,
    bounds: Bounds,
}

/// One request at the platform, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    pub came: f64,
    pub went: f64,
    pub tokens: f64,
}

/// The platforms' log: by platform and key.
pub async fn visits(house: &House) -> BTreeMap<(String, String), Vec<Visit>> {
    let url = format!("http://{}/_fake/times", house.fake);
    let told = whole(house.client.get(url)).await.json();
    let mut all = BTreeMap::new();
    for (platform, keys) in told["platforms"].as_object().expect("platforms") {
        for (key, rows) in keys.as_object().expect("keys") {
            let number = |row: &Value, at: usize| row[at].as_f64().expect("a number");
            let rows = rows.as_array().expect("rows").iter().map(|row| Visit {
                came: number(row, 0) / 1e6,
                went: number(row, 1) / 1e6,
                tokens: number(row, 2),
            });
            let mut rows: Vec<Visit> = rows.collect();
            rows.sort_by(|one, other| one.came.total_cmp(&other.came));
            all.insert((platform.clone(), key.clone()), rows);
        }
    }
    all
}

/// The most by which any window `w` holds more than `rate x w`: no window holds more than `burst + rate x (w + ttl)` if and
/// only if this is at most `burst + rate x ttl`.
pub fn excess(visits: &[Visit], per_minute: u64, cost: impl Fn(&Visit) -> f64) -> f64 {
    let (mut level, mut last, mut most) = (0.0_f64, 0.0, 0.0_f64);
    for visit in visits {
        level = (level - per_minute as f64 / 60.0 * (visit.came - last)).max(0.0) + cost(visit);
        last = visit.came;
        most = most.max(level);
    }
    most
}

/// The most that were there at once.
pub fn at_once(visits: &[Visit]) -> u64 {
    let mut steps: Vec<(f64, i64)> = visits.iter().flat_map(|visit| [(visit.came, 1), (visit.went, -1)]).collect();
    // Who goes in the very microsecond in which another comes is gone.
    steps.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
    let (mut now, mut most) = (0_i64, 0);
    for (_, step) in steps {
        now += step;
        most = most.max(now);
    }
    u64::try_from(most).expect("not negative")
}

/// What the account could have carried in `length` seconds, what it did, both in the units of what is scarce there.
fn used(subject: &Subject, visits: &[Visit], from: f64, length: f64) -> (f64, f64) {
    let Bounds { rpm, burst, tpm, daily, slots } = subject.bounds;
    let tokens = || visits.iter().map(|visit| visit.tokens).sum::<f64>();
    match subject.scarce {
        Scarce::Requests => (burst as f64 + rpm as f64 / 60.0 * length, visits.len() as f64),
        Scarce::Tokens => (tpm as f64 + tpm as f64 / 60.0 * length, tokens()),
        Scarce::Day => (daily as f64, tokens()),
        Scarce::Slots => {
            // From when all are settled to the end, in seconds of places.
            let (from, until) = (from + SETTLING, from + length);
            let inside = |visit: &Visit| (visit.went.min(until) - visit.came.max(from)).max(0.0);
            (slots as f64 * (until - from), visits.iter().map(inside).sum())
        }
    }
}

/// Nothing of `bounds` is passed in any window.
fn holds(subject: &Subject, visits: &[Visit]) {
    let Subject { id, bounds, .. } = subject;
    let rates = [
        ("rpm", bounds.rpm, bounds.burst, excess(visits, bounds.rpm, |_| 1.0)),
        ("tpm", bounds.tpm, bounds.tpm, excess(visits, bounds.tpm, |visit| visit.tokens)),
    ];
    for (name, rate, burst, most) in rates {
        let allowed = burst as f64 + rate as f64 / 60.0 * TTL;
        assert!(most <= allowed, "{id}: {name} is passed: {most} above the rate, {allowed} allowed");
    }
    let tokens: f64 = visits.iter().map(|visit| visit.tokens).sum();
    assert!(tokens <= bounds.daily as f64, "{id}: {tokens} tokens of {} in a day", bounds.daily);
    let most = at_once(visits);
    assert!(most <= bounds.slots, "{id}: {most} at once of {}", bounds.slots);
}

/// How large a run is.
#[derive(Clone, Copy, Debug)]
struct Size {
    replicas: usize,
    accounts: usize,
    callers: usize,
    length: Duration,
    /// What is scarce, where it is.
    scarce: Bounds,
}

/// Far from scarce, and there all the same.
const PLENTY: Bounds = Bounds { rpm: 3_000, burst: 400, tpm: 60_000, daily: 200_000, slots: 30 };

fn subjects(size: &Size) -> Vec<Subject> {
    let each = (0..size.accounts).map(|number| {
        let (platform, prefix) = [("openai", "sk-"), ("claude", "sk-ant-")][number % 2];
        let scarce = [Scarce::Requests, Scarce::Tokens, Scarce::Day, Scarce::Slots][number / 2 % 4];
        let bounds = match scarce {
            Scarce::Requests => Bounds { rpm: size.scarce.rpm, burst: size.scarce.burst, ..PLENTY },
            Scarce::Tokens => Bounds { tpm: size.scarce.tpm, ..PLENTY },
            Scarce::Day => Bounds { daily: size.scarce.daily, ..PLENTY },
            Scarce::Slots => Bounds { slots: size.scarce.slots, ..PLENTY },
        };
        Subject { id: format!("{prefix}{number}"), platform, scarce, bounds }
    });
    each.collect()
}

/// One caller, who asks again and again.
async fn call(url: String, token: String, seed: u64, is_over: Arc<AtomicBool>) -> BTreeMap<u16, u64> {
    let mut random = SmallRng::seed_from_u64(seed);
    let client = super::house::client().pool_max_idle_per_host(1).timeout(PATIENCE).build().expect("a client");
    let model = ["openai/gpt-4o", "claude/claude-sonnet-4-5"][usize::try_from(seed % 2).expect("small")];
    let mut seen = BTreeMap::new();
    while !is_over.load(Ordering::Relaxed) {
        let words = random.random_range(20..=80);
        let text = format!("@words={words} go");
        let body = json!({
            "model": model, "max_completion_tokens": words, "messages": [{"role": "user", "content": text}],
        });
        let found = status(client.post(&url).bearer_auth(&token).json(&body)).await;
        *seen.entry(found).or_default() += 1;
        if found != 200 {
            sleep(Duration::from_millis(random.random_range(10..40))).await;
        }
    }
    seen
}

/// Lets everybody loose, then holds the platforms' log against the limits, and gives back how much of what was scarce was used: the least and the
/// average of the accounts, for each kind.
async fn run(size: &Size) -> BTreeMap<Scarce, (f64, f64)> {
    let redis = Redis::start(&[]);
    let subjects = subjects(size);
    let slow = subjects.iter().filter(|subject| subject.scarce == Scarce::Slots);
    let slow: Vec<String> = slow.map(|subject| format!("{}: {{latency_ms: 1500}}", subject.id)).collect();
    let fake = start_fake(&format!("{{defaults: {{latency_ms: 60}}, accounts: {{{}}}}}", slow.join(", ")));
    let rows: Vec<String> = subjects
        .iter()
        .map(|subject| {
            let Subject { id, platform, bounds, .. } = subject;
            format!("{{id: {id}, platform: {platform}, api_key: {id}, limits: {}}}", bounds.yaml())
        })
        .collect();
    let fragment = format!("{}log: {{level: warn}}\naccounts:\n  - {}\n", redis.store(), rows.join("\n  - "));
    let mut houses = Vec::new();
    for _ in 0..size.replicas {
        houses.push(House::start_beside(fake, &fragment, &[]).await);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..size.callers)
        .map(|number| {
            // Of ten callers seven are at the first replica.
            let place = if number % 10 < 7 { 0 } else { 1 + number % (size.replicas - 1) };
            let url = houses[place].url("/v1/chat/completions");
            tokio::spawn(call(url, houses[0].token.clone(), number as u64, Arc::clone(&is_over)))
        })
        .collect();
    let began = Instant::now();
    sleep(size.length).await;
    is_over.store(true, Ordering::Relaxed);
    let length = began.elapsed().as_secs_f64();
    let mut seen: BTreeMap<u16, u64> = BTreeMap::new();
    for caller in callers {
        for (status, count) in caller.await.expect("a caller without a panic") {
            *seen.entry(status).or_default() += count;
        }
    }
    for house in &houses {
        house.settled().await;
        assert_eq!(house.metric("weir_panics_total").await, 0.0);
    }
    println!("{} replicas, {} accounts, {length:.1} s: {seen:?}", size.replicas, size.accounts);
    let log = visits(&houses[0]).await;
    let from = log.values().flatten().map(|visit| visit.came).fold(f64::MAX, f64::min);
    let mut parts: BTreeMap<Scarce, Vec<f64>> = BTreeMap::new();
    for subject in &subjects {
        let key = (subject.platform.to_owned(), subject.id.clone());
        let visits = log.get(&key).map_or(&[][..], Vec::as_slice);
        holds(subject, visits);
        let (could, did) = used(subject, visits, from, length);
        parts.entry(subject.scarce).or_default().push(did / could);
        println!("{} {:?}: {did:.0} of {could:.0}, {} requests", subject.id, subject.scarce, visits.len());
    }
    assert!(seen.keys().all(|status| [200, 429].contains(status)), "{seen:?}");
    let told = parts.into_iter().map(|(scarce, parts)| {
        let least = parts.iter().copied().fold(f64::MAX, f64::min);
        let average = parts.iter().sum::<f64>() / parts.len() as f64;
        println!("{scarce:?}: {:.2} % used at least, {:.2} % on average", least * 100.0, average * 100.0);
        (scarce, (least, average))
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_scarce_is_used_up_and_never_passed() {
    let scarce = Bounds { rpm: 900, burst: 40, tpm: 9_000, daily: 10_000, slots: 2 };
    let size = match is_slow_wanted() {
        false => Size { replicas: 4, accounts: 24, callers: 60, length: Duration::from_secs(14), scarce },
        true => Size { replicas: 4, accounts: 200, callers: 200, length: Duration::from_secs(60), scarce },
    };
    run(&size).await;
}
