//! Quotas over several replicas and one Redis. The oracle is the simulated platform's own count.

use std::time::Duration;

use futures_util::future::join_all;

use super::house::{until, value_of};
use super::replicas::{Redis, account, count, question_of, replicas, status};

/// R2.1: limit 1000, 50 at once of 100 each, 3 processes: exactly 10, and never more than 1000 set aside.
#[tokio::test]
async fn r2_1_fifty_at_once_over_three_replicas_and_exactly_ten_get_through() {
    let redis = Redis::start(&[]);
    let houses = replicas(3, &format!("{}{}", redis.store(), account("daily_tokens: 1000"))).await;
    // Each is held by the platform until all others have had their answer.
    let body = question_of(100, "@first=4000 hi");
    let asked = (0..50).map(|number| status(houses[number % 3].request(&body)));
    let statuses = join_all(asked).await;
    assert_eq!((count(&statuses, 200), count(&statuses, 429)), (10, 40), "{statuses:?}");
    assert_eq!(houses[0].counted("openai", "requests").await, 10);
    assert_eq!(houses[0].counted("openai", "max_concurrent").await, 10, "all ten were under way at once");
}

/// Guarantee 9: what one replica was given and another needs comes back, and the day is used to its end.
#[tokio::test]
async fn what_one_replica_holds_another_can_have() {
    let redis = Redis::start(&[]);
    let houses = replicas(2, &format!("{}{}", redis.store(), account("daily_requests: 40"))).await;
    let body = question_of(100, "hi");
    for _ in 0..10 {
        assert_eq!(status(houses[0].request(&body)).await, 200);
    }
    let mut served = 10;
    while status(houses[1].request(&body)).await == 200 {
        served += 1;
    }
    // To the last one, and wherever it is asked for.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while served < 40 {
        assert!(tokio::time::Instant::now() < deadline, "only {served} were served");
        served += usize::from(status(houses[0].request(&body)).await == 200);
        served += usize::from(status(houses[1].request(&body)).await == 200);
    }
    for house in &houses {
        assert_eq!(status(house.request(&body)).await, 429);
    }
    assert_eq!(houses[0].counted("openai", "requests").await, 40);
}

/// Guarantee 3 over replicas: one that is killed forgets nothing, and one that stops gives back what it holds.
#[tokio::test]
async fn what_a_killed_replica_spent_stays_spent() {
    let redis = Redis::start(&[]);
    let mut houses = replicas(2, &format!("{}{}", redis.store(), account("daily_requests: 60"))).await;
    let body = question_of(100, "hi");
    let served = join_all((0..20).map(|_| status(houses[0].request(&body)))).await;
    assert_eq!(count(&served, 200), 20);
    houses[0].kill().await;
    houses[0].restart().await;
    let statuses = join_all((0..80).map(|number| status(houses[number % 2].request(&body)))).await;
    let total = houses[0].counted("openai", "requests").await;
    assert_eq!(total, 20 + count(&statuses, 200) as u64);
    assert!((40..=60).contains(&total), "{total}: {statuses:?}");
    // What the dead one held and did not use is told by those that live.
    let lost = || async {
        join_all((0..2).map(|number| status(houses[number].request(&body)))).await;
        let (one, other) = (houses[0].metrics().await, houses[1].metrics().await);
        value_of(&one, "weir_lease_lost_total") + value_of(&other, "weir_lease_lost_total")
    };
    until("all is explained", || async { lost().await + total as f64 >= 60.0 }).await;
    assert!(lost().await <= 40.0, "twenty were served");
    houses[1].signal("TERM");
    assert!(houses[1].ended().await.success());
}

/// A Redis that comes back empty is told again what was spent: budgets are absolute.
#[tokio::test]
async fn a_redis_that_forgot_everything_is_told_again() {
    let redis = Redis::start(&[]);
    let houses = replicas(2, &format!("{}{}", redis.store(), account("daily_requests: 30"))).await;
    let body = question_of(100, "hi");
    for number in 0..30 {
        assert_eq!(status(houses[number % 2].request(&body)).await, 200, "{number}");
    }
    // Long enough that nobody has anything new to say by himself.
    tokio::time::sleep(Duration::from_secs(7)).await;
    redis.tell(&["FLUSHALL"]);
    // The moment until they notice is what an empty Redis can be fooled for.
    until("all was told again", || async {
        redis.tell(&["KEYS", "*daily_requests*"]).contains("weir:1:{acct:a}")
    })
    .await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
    while tokio::time::Instant::now() < deadline {
        let statuses = join_all((0..4).map(|number| status(houses[number % 2].request(&body)))).await;
        assert_eq!(count(&statuses, 200), 0, "{statuses:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(houses[0].counted("openai", "requests").await, 30);
    assert_eq!(value_of(&houses[0].metrics().await, "weir_panics_total"), 0.0);
}
