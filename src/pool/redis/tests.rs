//! The script against the books, with a real server: same bids, same times, same outcomes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::bid::{Dimension, Gauge, Line, Rest, Terms, Wait};
use super::super::books::Book;
use super::*;
use crate::redis_link::server::Server;

async fn authority(server: &Server) -> Redis {
    Redis::new(server.link().await)
}

const NOON: u64 = 1_800_014_400_000;
const DAY: u64 = 86_400_000;

fn gauge(dimension: Dimension, model: Option<&str>) -> Gauge {
    Gauge { dimension, model: model.map(Arc::from) }
}

/// The terms of one schedule: small numbers, so that limits are met, or the largest that are exact.
fn terms(random: &mut SmallRng, now: u64) -> Vec<(Gauge, Terms)> {
    let large = random.random_bool(0.2);
    let most = if large { 1 << 32 } else { 3_000 };
    let rate = |random: &mut SmallRng| Terms::Rate {
        per_minute: random.random_range(1..most),
        burst: random.random_range(1..most),
    };
    let starts = now - now % DAY;
    let key = i32::try_from(now / DAY).unwrap();
    let limit = random.random_range(1..if large { 1 << 49 } else { 5_000 });
    vec![
        (gauge(Dimension::Requests, None), rate(random)),
        (gauge(Dimension::Tokens, Some("a model: with {words}")), rate(random)),
        (gauge(Dimension::DailyTokens, None), Terms::Budget { limit, key, starts, ends: starts + DAY }),
        (gauge(Dimension::Slots, None), Terms::Slots { limit: random.random_range(1..20) }),
    ]
}

fn line(random: &mut SmallRng, gauge: Gauge, terms: Terms, now: u64) -> Line {
    let most = terms.most().max(2);
    let mut some = |share: u64| {
        if random.random_bool(0.4) { 0 } else { random.random_range(0..(most / share).max(2)) }
    };
    let (used, keep, back, over) = (some(4), some(8), some(3), some(6));
    let need = some(1);
    let want = need + some(2);
    let longest = if random.random_bool(0.8) { 60_000 } else { 600_000 };
    let back_since = now - random.random_range(0..longest);
    let back_since = if back == 0 { u64::MAX } else { back_since };
    Line { gauge, terms, used, keep, need, want, back, back_since, over }
}

fn rest(random: &mut SmallRng, now: u64) -> Rest {
    if random.random_bool(0.1) {
        return Rest::OVER;
    }
    let model = ["", "gpt", "other model"][random.random_range(0..3)];
    Rest {
        model: Some(model).filter(|model| !model.is_empty()).map(Arc::from),
        until: now + random.random_range(0..100_000),
        is_exhausted: random.random_bool(0.5),
    }
}

fn sorted(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Answered(mut reply) => {
            reply.rests.sort_by(|one, other| one.model.cmp(&other.model));
            for grant in &mut reply.grants {
                // The book's wait ends after 584 years, in nanoseconds.
                if let Wait::After(millis) = &mut grant.wait {
                    *millis = (*millis).min(u64::MAX / 1_000_000);
                }
            }
            Outcome::Answered(reply)
        }
        Outcome::Stale => Outcome::Stale,
    }
}

/// One schedule: several replicas, bids in order, again, late and out of date, time that runs, leaps and stands still.
async fn run(authority: &Redis, seed: u64, steps: u32) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut now = NOON + random.random_range(0..DAY);
    let mut numbers = terms(&mut random, now);
    let account = |number: u64| crate::ids::AccountId::from(format!("{seed}-{number}"));
    let mut books = [Book::default(), Book::default()];
    let mut sent: Vec<(ReplicaId, Vec<Bid>)> = Vec::new();
    let mut serial = 0;
    for step in 0..steps {
        now += match random.random_range(0..20) {
            0 => random.random_range(0..100_000),
            1 => 0,
            2 => random.random_range(1_000..7_000),
            _ => random.random_range(0..400),
        };
        match random.random_range(0..100) {
            // Another day, other limits, a server whose clock is behind.
            0 => now += DAY,
            1 if now % DAY > 3_000 => now -= random.random_range(0..3_000),
            2..=4 => numbers = terms(&mut random, now),
            _ => {}
        }
        if random.random_bool(0.8) {
            let (starts, key) = (now - now % DAY, i32::try_from(now / DAY).unwrap());
            for (_, terms) in &mut numbers {
                if let Terms::Budget { limit, .. } = *terms {
                    *terms = Terms::Budget { limit, key, starts, ends: starts + DAY };
                }
            }
        }
        let is_again = random.random_bool(0.1) && !sent.is_empty();
        let (replica, bids) = match is_again {
            true => sent[random.random_range(sent.len().saturating_sub(6)..sent.len())].clone(),
            false => {
                // Some speak seldom: they are taken for dead, and turn out not to be.
                let number: u32 = random.random_range(0..5) * random.random_range(0..5) / 4;
                let replica = ReplicaId(Arc::from(format!("r{number}")));
                let bids = (0..random.random_range(1..3)).map(|number| {
                    serial += 1;
                    let lines =
                        numbers.iter().filter(|_| random.random_bool(0.8)).cloned().collect::<Vec<_>>();
                    let lines = lines.into_iter().map(|(gauge, terms)| line(&mut random, gauge, terms, now));
                    let lines = lines.collect();
                    let rests = (0..random.random_range(0..3) / 2).map(|_| rest(&mut random, now)).collect();
                    Bid { account: account(number), serial, lines, rests }
                });
                (replica, bids.collect())
            }
        };
        authority.now.store(now, Ordering::SeqCst);
        let theirs = authority.carry_out(&replica, &bids).await.unwrap();
        let ours = bids.iter().zip(&mut books).map(|(bid, book)| book.carry_out(&replica, bid, now));
        for ((ours, theirs), bid) in ours.zip(theirs).zip(&bids) {
            assert_eq!(
                sorted(ours),
                sorted(theirs),
                "the book and the script; seed {seed}, step {step}, {replica:?}: {bid:#?}"
            );
        }
        sent.push((replica, bids));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_does_what_the_books_do() {
    let server = Server::start();
    let authority = authority(&server).await;
    #[expect(clippy::disallowed_methods, reason = "a test's own size is no matter of configuration")]
    let seeds = std::env::var("WEIR_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        run(&authority, seed, 150).await;
    }
}

/// Replicas are counted; one that leaves at once, one that dies after five seconds, and none because Redis was away.
#[tokio::test]
async fn replicas_are_counted() {
    let server = Server::start();
    let authority = authority(&server).await;
    let replica = |name: &str| ReplicaId(Arc::from(name));
    let greet = async |name: &str, second: u64| {
        authority.now.store(NOON + second * 1_000, Ordering::SeqCst);
        authority.greet(&replica(name)).await.unwrap()
    };
    assert_eq!([greet("a", 0).await, greet("b", 0).await, greet("c", 1).await], [1, 2, 3]);
    assert_eq!(greet("a", 4).await, 3);
    assert_eq!(greet("a", 6).await, 2, "b has not been heard of for six seconds, c for five");
    assert_eq!(greet("a", 60).await, 2, "nobody has: Redis was away");
    assert_eq!(greet("c", 60).await, 2);
    authority.part(&replica("a")).await.unwrap();
    assert_eq!(greet("c", 61).await, 1);
}

/// The same by way of a cluster, an account at a time, and of a Sentinel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_and_sentinels_lead_to_the_same() {
    let cluster = Server::start_cluster();
    run(&Redis::new(cluster.link_by("redis-cluster", "").await), 1, 80).await;
    let ward = Server::start();
    let sentinel = Server::start_sentinel(&ward);
    run(&Redis::new(sentinel.link_by("redis-sentinel", "/main").await), 2, 80).await;
}
