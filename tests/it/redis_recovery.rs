//! After a misfortune: how soon requests are served again, what is still held, and what is counted. The oracle is the
//! simulated platform's own count.

use std::cell::Cell;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::house::{House, PATIENCE, question, until};
use super::proxy::Proxy;
use super::replicas::{Redis, account, count, replicas, status, store, until_status};

/// Waits until leases have run out, so that what comes then is new.
async fn until_refused(house: &House) {
    until_status(house, 503, 429, PATIENCE).await;
}

async fn until_served(house: &House) -> Duration {
    until_status(house, 200, 429, PATIENCE).await
}

/// Q7: within two seconds of its end every misfortune is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q7_two_seconds_after_a_misfortune_all_is_well() {
    const ROUNDS: usize = 2;
    let mut redis = Redis::start(&[]);
    let line = Proxy::to(redis.port).await;
    let limits = account("daily_requests: 100000, concurrency: 5000, rpm: 100000");
    let mut house = House::start(&format!("{}{limits}", store(line.port))).await;
    until_served(&house).await;
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for _ in 0..ROUNDS {
        redis.signal("STOP");
        until_refused(&house).await;
        redis.signal("CONT");
        times.push(("Redis slept", until_served(&house).await));

        redis.kill();
        until_refused(&house).await;
        assert!(redis.launch());
        times.push(("Redis was killed", until_served(&house).await));

        // Nobody listens on port 0.
        line.lead_to(0);
        until_refused(&house).await;
        line.lead_to(redis.port);
        times.push(("the network was cut", until_served(&house).await));

        house.kill().await;
        house.launch(&[]);
        until("it listens", || async { tokio::net::TcpStream::connect(house.listen).await.is_ok() }).await;
        times.push(("the gateway was killed", until_served(&house).await));
    }
    println!("until the first answer: {times:?}");
    assert!(times.iter().all(|(_, time)| *time < Duration::from_secs(2)), "{times:?}");
}

fn kills() -> u64 {
    if super::misfortune::is_slow_wanted() { 100 } else { 10 }
}

const AT_ONCE: u64 = 40;

/// Requests under way at one gateway.
const HANDS: usize = 10;

/// Asks so long, many at once; what is not answered is dropped. How many were answered, to the last byte.
async fn storm(house: &House, length: Duration) -> u64 {
    let answered = Cell::new(0);
    let body = question("openai/gpt-4o", "@first=30 hi", false);
    let asks = (0..10_000).map(|_| async {
        let found = status(house.request(&body)).await;
        answered.set(answered.get() + u64::from(found == 200));
    });
    let asks = futures_util::stream::iter(asks).buffer_unordered(HANDS).collect::<()>();
    drop(tokio::time::timeout(length, asks).await);
    answered.get()
}

/// Q6: `kill -9` of one of two gateways, again and again under load. Nothing stays held, nothing that was spent is forgotten,
/// and nothing is counted twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q6_a_gateway_that_is_killed_holds_nothing_and_forgets_nothing() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let redis = Redis::start(&[]);
    let limits = account(&format!("daily_requests: 1000000, concurrency: {AT_ONCE}"));
    let mut houses = replicas(2, &format!("{}{limits}", redis.store())).await;
    let mut answered = 0;
    for _ in 0..kills() {
        let length = Duration::from_millis(random.random_range(50..500));
        let (one, other) = tokio::join!(storm(&houses[0], length), storm(&houses[1], length));
        answered += one + other;
        houses[1].kill().await;
        houses[1].restart().await;
    }
    let killed = Instant::now();
    for house in &houses {
        house.settled().await;
    }
    // Open reservations are places: all of them can be had again, at once, by one gateway.
    until("all places are free", || async {
        let body = question("openai/gpt-4o", "@first=1500 hi", false);
        let statuses = join_all((0..AT_ONCE).map(|_| status(houses[0].request(&body)))).await;
        count(&statuses, 200) == statuses.len()
    })
    .await;
    println!("all places are free {:?} after the last kill", killed.elapsed());
    assert!(
        killed.elapsed() < Duration::from_secs(12),
        "a dead gateway's places are free after five seconds"
    );
    for house in &houses {
        house.settled().await;
    }
    let (sent, most) =
        (houses[0].counted("openai", "requests").await, houses[0].counted("openai", "max_concurrent").await);
    assert!(most <= AT_ONCE, "seed {seed}: {most} at once");
    // What the holders of the day's budget have used, and hold.
    let (used, held) = held(&redis);
    // Whoever was killed may have told of less than it had done, and may have drawn for what did not get out any more.
    let unsent = HANDS as u64 * kills();
    assert!(held >= sent && used <= sent + unsent, "seed {seed}: {sent} sent, {used} used, {held} held");
    let booked = houses[0].admin(http::Method::GET, "/admin/usage?by=account").await.json();
    let booked = booked["total"]["requests"].as_u64().expect("a number");
    println!(
        "{sent} sent, {answered} answered, {booked} booked; the day's budget: {used} told as used, {held} held"
    );
    assert!((answered..=sent).contains(&booked), "seed {seed}: {booked} of {answered} to {sent}");
}

/// (used, held) of the day's requests, over all who ever held some.
fn held(redis: &Redis) -> (u64, u64) {
    let key = redis.tell(&["KEYS", "weir:1:{acct:a}:daily_requests*"]);
    let values = redis.tell(&["HVALS", &key]);
    let mut sums = (0, 0);
    for line in values.lines() {
        let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
        // Held, used, when last heard, and more; other fields are one number.
        if let [held, used, _, ..] = numbers[..] {
            sums = (sums.0 + used, sums.1 + held);
        }
    }
    sums
}
