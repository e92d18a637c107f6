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

/// Seconds that a request takes where places are scarce.
const SLOWEST: f64 = 1.5;

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
/// only if this is at most `burst + rate x ttl`. All windows at once, without looking at each.
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
    let mut steps: Vec<(f64, i64)> =
        visits.iter().flat_map(|visit| [(visit.came, 1), (visit.went, -1)]).collect();
    // Who goes in the very microsecond in which another comes is gone.
    steps.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
    let (mut now, mut most) = (0_i64, 0);
    for (_, step) in steps {
        now += step;
        most = most.max(now);
    }
    u64::try_from(most).expect("not negative")
}

/// What the account could have carried from `from` to `until`, and what it did, both in the units of what is scarce there. Rates: what
/// they had allowed one life of a lease before `until`; the guarantee gives it two to be used.
fn used(subject: &Subject, visits: &[Visit], from: f64, until: f64) -> (f64, f64) {
    let Bounds { rpm, burst, tpm, daily, slots } = subject.bounds;
    let tokens = || visits.iter().map(|visit| visit.tokens).sum::<f64>();
    let minutes = (until - TTL - from) / 60.0;
    match subject.scarce {
        Scarce::Requests => (burst as f64 + rpm as f64 * minutes, visits.len() as f64),
        Scarce::Tokens => (tpm as f64 + tpm as f64 * minutes, tokens()),
        Scarce::Day => (daily as f64, tokens()),
        Scarce::Slots => {
            // In seconds of places, over the second half: in the first there is enough elsewhere.
            let from = (from + until) / 2.0;
            let inside = |visit: &Visit| (visit.went.min(until) - visit.came.max(from)).max(0.0);
            (slots as f64 * (until - from), visits.iter().map(inside).sum())
        }
    }
}

/// Nothing of `bounds` is passed in any window. Gives back for how many seconds a window held more than burst and rate.
fn holds(subject: &Subject, visits: &[Visit]) -> f64 {
    let Subject { id, bounds, .. } = subject;
    let rates = [
        ("rpm", bounds.rpm, bounds.burst, excess(visits, bounds.rpm, |_| 1.0)),
        ("tpm", bounds.tpm, bounds.tpm, excess(visits, bounds.tpm, |visit| visit.tokens)),
    ];
    let mut longest = 0.0_f64;
    for (name, rate, burst, most) in rates {
        let allowed = burst as f64 + rate as f64 / 60.0 * TTL;
        assert!(most <= allowed, "{id}: {name} is passed: {most} above the rate, {allowed} allowed");
        longest = longest.max((most - burst as f64) / (rate as f64 / 60.0));
    }
    let tokens: f64 = visits.iter().map(|visit| visit.tokens).sum();
    assert!(tokens <= bounds.daily as f64, "{id}: {tokens} tokens of {} in a day", bounds.daily);
    let most = at_once(visits);
    assert!(most <= bounds.slots, "{id}: {most} at once of {}", bounds.slots);
    longest
}

/// How large a run is.
#[derive(Clone, Copy, Debug)]
struct Size {
    replicas: usize,
    accounts: usize,
    callers: usize,
    /// At least so long, in seconds, and longer where the machine is slow.
    length: f64,
    longest: f64,
    /// What is scarce, where it is.
    scarce: Bounds,
}

/// What was used of what is scarce: for each kind the least of the accounts, and their average.
type Parts = BTreeMap<Scarce, (f64, f64)>;

/// The callers are served until this part of rates and days was used (and nearly as much of places, which stand empty while one
/// goes and another comes), or it takes too long.
const ENOUGH: f64 = 0.99;

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
    let client =
        super::house::client().pool_max_idle_per_host(1).timeout(PATIENCE).build().expect("a client");
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

/// Gateways, and what they serve.
struct Stage {
    houses: Vec<House>,
    subjects: Vec<Subject>,
    _redis: Redis,
}

impl Stage {
    async fn new(size: &Size) -> Self {
        // What a disk takes its time for is another test's affair.
        let redis = Redis::start(&["--appendonly", "no"]);
        let subjects = subjects(size);
        let slow = subjects.iter().filter(|subject| subject.scarce == Scarce::Slots);
        let slow: Vec<String> =
            slow.map(|subject| format!("{}: {{latency_ms: {}}}", subject.id, SLOWEST * 1e3)).collect();
        let fake =
            start_fake(&format!("{{defaults: {{latency_ms: 60}}, accounts: {{{}}}}}", slow.join(", ")));
        let rows = subjects.iter().map(|subject| {
            let Subject { id, platform, bounds, .. } = subject;
            format!("  - {{id: {id}, platform: {platform}, api_key: {id}, limits: {}}}\n", bounds.yaml())
        });
        let rows: String = rows.collect();
        let fragment = format!("{}log: {{level: warn}}\naccounts:\n{rows}", redis.store());
        let mut houses = Vec::new();
        for _ in 0..size.replicas {
            houses.push(House::start_beside(fake, &fragment, &[]).await);
        }
        Self { houses, subjects, _redis: redis }
    }

    /// Which door a caller goes through: of ten callers seven go through the first.
    fn door(&self, caller: usize) -> String {
        let place = if caller % 10 < 7 { 0 } else { 1 + caller % (self.houses.len() - 1) };
        self.houses[place].url("/v1/chat/completions")
    }

    /// Holds the platform's log against the limits, and tells what was used until an instant on the log's clock (`None`: the
    /// last that is known of, since the log has only what has ended), what that instant is, and what [`holds`] gives back.
    async fn judge(&self, until: Option<f64>) -> (Parts, f64, f64) {
        let log = visits(&self.houses[0]).await;
        let all = || log.values().flatten();
        let from = all().map(|visit| visit.came).fold(f64::MAX, f64::min);
        let until =
            until.unwrap_or_else(|| all().map(|visit| visit.came).fold(from, f64::max) - SLOWEST - 0.5);
        let mut parts: BTreeMap<Scarce, Vec<f64>> = BTreeMap::new();
        let mut longest = 0.0_f64;
        for subject in &self.subjects {
            let visits = log.get(&(subject.platform.to_owned(), subject.id.clone()));
            let visits = visits.map_or(&[][..], Vec::as_slice);
            longest = longest.max(holds(subject, visits));
            let before: Vec<Visit> = visits.iter().filter(|visit| visit.came <= until).copied().collect();
            let (could, did) = used(subject, &before, from, until);
            parts.entry(subject.scarce).or_default().push((did / could).min(1.0));
        }
        let summed = parts.into_iter().map(|(scarce, parts)| {
            let least = parts.iter().copied().fold(f64::MAX, f64::min);
            (scarce, (least, parts.iter().sum::<f64>() / parts.len() as f64))
        });
        (summed.collect(), until, longest)
    }
}

fn is_enough(parts: &Parts) -> bool {
    parts
        .iter()
        .all(|(scarce, (_, average))| *average >= if *scarce == Scarce::Slots { 0.98 } else { ENOUGH })
}

/// Lets everybody loose until what is scarce was used up as it should be, or for as long as `size` says.
async fn run(size: &Size) -> Parts {
    let stage = Stage::new(size).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let token = &stage.houses[0].token;
    let callers: Vec<_> = (0..size.callers)
        .map(|caller| {
            tokio::spawn(call(stage.door(caller), token.clone(), caller as u64, Arc::clone(&is_over)))
        })
        .collect();
    let began = Instant::now();
    let length = || began.elapsed().as_secs_f64();
    sleep(Duration::from_secs_f64(size.length)).await;
    let mut judged = stage.judge(None).await;
    while length() < size.longest && !is_enough(&judged.0) {
        sleep(Duration::from_secs(1)).await;
        judged = stage.judge(None).await;
    }
    let (length, until) = (length(), judged.1);
    is_over.store(true, Ordering::Relaxed);
    let mut seen: BTreeMap<u16, u64> = BTreeMap::new();
    for caller in callers {
        for (status, count) in caller.await.expect("a caller without a panic") {
            *seen.entry(status).or_default() += count;
        }
    }
    for house in &stage.houses {
        house.settled().await;
        assert_eq!(house.metric("weir_panics_total").await, 0.0);
    }
    // Once more, with those that were still under way.
    let (parts, _, longest) = stage.judge(Some(until)).await;
    println!("{} replicas, {} accounts, {length:.1} s, answers: {seen:?}", size.replicas, size.accounts);
    println!("no window holds more than burst + rate x (w + {longest:.2} s)");
    for (scarce, (least, average)) in &parts {
        println!("{scarce:?}: {:.2} % used at least, {:.2} % on average", least * 100.0, average * 100.0);
    }
    // 503: on a machine that has no time for it Redis is not heard in its 400 ms.
    assert!(seen.keys().all(|status| [200, 429, 503].contains(status)), "{seen:?}");
    parts
}

/// What must be used of each kind, on average and by the account that is used least.
fn is_used_up(parts: &Parts) {
    for (scarce, (least, average)) in parts {
        let (low, high) = if *scarce == Scarce::Slots { (0.90, 0.97) } else { (0.96, ENOUGH) };
        assert!(*least >= low && *average >= high, "{scarce:?}: {least} at least, {average} on average");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_scarce_is_used_up_and_never_passed() {
    let scarce = Bounds { rpm: 900, burst: 40, tpm: 9_000, daily: 10_000, slots: 2 };
    let few = Size { replicas: 4, accounts: 16, callers: 50, length: 13.0, longest: 45.0, scarce };
    // What is never passed is looked at in every run. That all is used needs a machine that has time to use it: if not this time,
    // then the next.
    let mut parts = run(&few).await;
    for _ in 0..2 {
        if is_enough(&parts) {
            break;
        }
        parts = run(&few).await;
    }
    is_used_up(&parts);
    if is_slow_wanted() {
        for replicas in [2, 8] {
            is_used_up(&run(&Size { replicas, ..few }).await);
        }
        let scarce = Bounds { rpm: 120, burst: 20, tpm: 2_000, daily: 5_000, slots: 2 };
        let many = Size { replicas: 4, accounts: 200, callers: 500, length: 60.0, longest: 150.0, scarce };
        is_used_up(&run(&many).await);
    }
}
