//! Everything goes wrong at once: replicas are killed and started again, Redis sleeps, dies and comes back, the line between
//! is cut and stalls, while callers never stop. Whatever the order, no account is ever used beyond its limits. A seed is
//! printed; the order of events follows from it, the machine's timing does not. The oracle is the platform's own count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use super::house::{House, question, start_fake};
use super::proxy::Proxy;
use super::replicas::{Redis, status, store};

/// One caller, who never stops.
async fn call(
    doors: Vec<SocketAddr>,
    token: String,
    seed: u64,
    is_over: Arc<AtomicBool>,
    seen: Arc<[AtomicU64; 600]>,
) {
    let mut random = SmallRng::seed_from_u64(seed);
    let client = super::house::client().timeout(Duration::from_secs(20)).build().expect("a client");
    while !is_over.load(Ordering::SeqCst) {
        let door = doors[random.random_range(0..doors.len())];
        let text = if random.random_bool(0.2) { "@first=150 hi" } else { "hi" };
        let request = client.post(format!("http://{door}/v1/chat/completions")).bearer_auth(&token);
        let began = Instant::now();
        let found = status(request.json(&question("openai/gpt-4o", text, false))).await;
        assert!(began.elapsed() < Duration::from_secs(10), "a request hung: {found}");
        seen[usize::from(found)].fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(random.random_range(1..40))).await;
    }
}

/// One thing that goes wrong, and is put right again.
async fn misfortune(
    random: &mut SmallRng,
    houses: &mut [House],
    redis: &mut Redis,
    proxy: &Proxy,
) -> &'static str {
    let some = |random: &mut SmallRng, most: u64| Duration::from_millis(random.random_range(10..most));
    match random.random_range(0..7) {
        0..=2 => {
            let house = random.random_range(0..houses.len());
            houses[house].kill().await;
            sleep(some(random, 300)).await;
            houses[house].restart().await;
            "a replica was killed"
        }
        3 => {
            redis.signal("STOP");
            sleep(some(random, 2_500)).await;
            redis.signal("CONT");
            "Redis slept"
        }
        4 => {
            redis.kill();
            sleep(some(random, 1_500)).await;
            while !redis.launch() {}
            "Redis was killed"
        }
        5 => {
            for _ in 0..random.random_range(1..6) {
                proxy.cut();
                sleep(some(random, 200)).await;
            }
            "the line was cut"
        }
        _ => {
            proxy.stall(true);
            sleep(some(random, 1_500)).await;
            proxy.stall(false);
            "the line stalled"
        }
    }
}

const LIMIT: u64 = 250;
const AT_ONCE: u64 = 4;

/// Holds the platform's books against the limits.
async fn judge(house: &House, seed: u64, after: &str) -> u64 {
    let books = house.counters().await;
    let accounts = books["openai"].as_object().cloned().unwrap_or_default();
    let mut served = 0;
    for (key, numbers) in &accounts {
        let number = |name: &str| numbers[name].as_u64().expect("a number");
        assert!(
            number("requests") <= LIMIT,
            "seed {seed}, {after}: {} of {LIMIT} for {key}",
            number("requests")
        );
        let most = number("max_concurrent");
        assert!(most <= AT_ONCE, "seed {seed}, {after}: {most} at once of {AT_ONCE} for {key}");
        served += number("requests");
    }
    served
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_no_limit_is_passed() {
    let is_slow = super::misfortune::is_slow_wanted();
    let seed: u64 = std::env::var_os("WEIR_SEED")
        .and_then(|seed| seed.to_str()?.parse().ok())
        .unwrap_or_else(|| rand::rng().random());
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut redis = Redis::start(&[]);
    let proxy = Proxy::to(redis.port).await;
    let accounts: Vec<String> = ["a", "b", "c"]
        .iter()
        .map(|id| {
            let limits = format!("{{daily_requests: {LIMIT}, concurrency: {AT_ONCE}}}");
            format!("{{id: {id}, platform: openai, api_key: sk-{id}, limits: {limits}}}")
        })
        .collect();
    let fragment = format!("{}accounts: [{}]\n", store(proxy.port), accounts.join(", "));
    let fake = start_fake("");
    let mut houses = Vec::new();
    for _ in 0..4 {
        houses.push(House::start_beside(fake, &fragment, &[]).await);
    }
    let (is_over, seen) = (Arc::new(AtomicBool::new(false)), Arc::new([const { AtomicU64::new(0) }; 600]));
    let doors: Vec<SocketAddr> = houses.iter().map(|house| house.listen).collect();
    let callers: Vec<_> = (0..8)
        .map(|number| {
            let token = houses[0].token.clone();
            tokio::spawn(call(doors.clone(), token, seed ^ number, Arc::clone(&is_over), Arc::clone(&seen)))
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(if is_slow { 300 } else { 15 });
    while Instant::now() < until {
        sleep(Duration::from_millis(random.random_range(50..700))).await;
        let what = misfortune(&mut random, &mut houses, &mut redis, &proxy).await;
        judge(&houses[0], seed, what).await;
    }
    // All is well again: they are served or told that it is enough, and nothing else.
    for house in &houses {
        super::house::until("it serves again", || async {
            [200, 429].contains(&status(house.request(&question("openai/gpt-4o", "hi", false))).await)
        })
        .await;
    }
    is_over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.expect("a caller without a panic");
    }
    let served = judge(&houses[0], seed, "at the end").await;
    let times = |status: usize| seen[status].load(Ordering::SeqCst);
    let known: u64 = [0, 200, 429, 502, 503].iter().map(|status| times(*status)).sum();
    let all: u64 = seen.iter().map(|count| count.load(Ordering::SeqCst)).sum();
    println!("{served} served; {} answered, {} refused, {} unavailable", times(200), times(429), times(503));
    assert_eq!(known, all, "seed {seed}: an answer that should not be");
    assert!(served > 200, "seed {seed}: hardly anything was served: {served}");
    for house in &houses {
        assert_eq!(house.metric("weir_panics_total").await, 0.0);
    }
}
