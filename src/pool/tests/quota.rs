//! Strict limits: what is reserved never exceeds them, whoever asks at the same time and however attempts end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

fn daily(tokens: u64) -> Limits {
    Limits { daily_tokens: Some(tokens), ..Limits::default() }
}

#[test]
fn of_fifty_threads_that_want_a_tenth_of_the_limit_exactly_ten_get_it() {
    for limits in [daily(1000), Limits { tpm: Some(1000), ..Limits::default() }] {
        let world = World::new(vec![limited("a", limits)]);
        let start = std::sync::Barrier::new(50);
        let results: Vec<_> = std::thread::scope(|scope| {
            let each: Vec<_> = (0..50)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        world.take()
                    })
                })
                .collect();
            each.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (10, 40));
        for refusal in lost {
            let fault = refusal.unwrap_err().into_fault();
            assert_eq!(fault.kind().row().status, 429);
            assert!(fault.get_retry_after().is_some());
        }
    }
}

#[test]
fn the_sum_of_reservations_never_exceeds_the_limit_at_any_instant() {
    let world = World::new(vec![limited("a", Limits { concurrency: Some(7), ..daily(10_000) })]);
    let (held, slots, most) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let spent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for number in 0..8_u64 {
            let (world, held, slots, most, spent) = (&world, &held, &slots, &most, &spent);
            scope.spawn(move || {
                for round in 0..400 {
                    let tokens = 10 + (number * 31 + round) % 90;
                    let Ok(taken) = world.pool.take(&Want { tokens, ..world.want() }) else { continue };
                    most.fetch_max(slots.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let sum = held.fetch_add(tokens, Ordering::SeqCst) + tokens;
                    assert!(sum <= 10_000, "{sum}");
                    // Leaves the sum before it leaves the pool, so that the sum is never the smaller one.
                    let back = round % tokens;
                    spent.fetch_add(tokens - back, Ordering::SeqCst);
                    held.fetch_sub(back, Ordering::SeqCst);
                    slots.fetch_sub(1, Ordering::SeqCst);
                    taken.settle(used(tokens - back));
                }
            });
        }
    });
    assert!(most.into_inner() <= 7);
    assert_eq!(world.left("a", Dimension::DailyTokens), 10_000 - spent.into_inner());
    assert_eq!(world.state("a").in_flight, 0);
}

#[test]
fn a_refusal_says_when_the_day_turns() {
    let world = World::new(vec![limited("a", daily(100))]);
    world.take().unwrap().settle(used(100));
    assert_eq!(world.refusal(), (Why::Exhausted, Some(seconds(12 * 3600))));
    world.pass(seconds(12 * 3600));
    assert!(world.take().is_ok());
}

#[test]
fn all_limits_or_none() {
    let limits =
        Limits { rpm: Some(10), burst: Some(10), tpm: Some(1000), concurrency: Some(1), ..daily(1000) };
    let world = World::new(vec![limited("a", limits)]);
    let first = world.take().unwrap();
    let before: Vec<_> = world.state("a").left;
    assert_eq!(world.refusal(), (Why::LimitReached, Some(seconds(1))));
    assert_eq!(world.state("a").left, before, "a refused request has reserved nothing anywhere");
    first.settle(used(100));
}

#[test]
fn a_request_larger_than_the_limit_goes_to_a_larger_account_or_nowhere() {
    let world = World::new(vec![limited("small", daily(50)), limited("large", daily(500))]);
    for _ in 0..3 {
        assert_eq!(world.take().unwrap().account().id.as_str(), "large");
    }
    let world = World::new(vec![limited("small", daily(50))]);
    let refusal = world.take().unwrap_err();
    assert_eq!(refusal, Refusal { why: Why::LimitReached, retry_after: None });
    assert_eq!(refusal.into_fault().should_retry(), Some(false));
}

#[test]
fn settling_less_gives_back_and_settling_more_makes_the_account_rest() {
    let world = World::new(vec![limited("a", daily(1000))]);
    world.take().unwrap().settle(used(30));
    assert_eq!(world.left("a", Dimension::DailyTokens), 970);
    world.take().unwrap().settle(used(5000));
    assert_eq!(world.left("a", Dimension::DailyTokens), 0);
    world.tokens_are_refused();
    world.pass(seconds(12 * 3600));
    assert_eq!(world.left("a", Dimension::DailyTokens), 1000);
}

impl World {
    fn tokens_are_refused(&self) {
        assert_eq!(self.refusal().0, Why::Exhausted);
    }
}

#[test]
fn every_way_to_end_frees_the_slot_and_settles_once() {
    let limits = Limits { concurrency: Some(1), daily_requests: Some(100), ..daily(10_000) };
    let bad = judged(Verdict::BadRequest, Scope::Model, None);
    let (stale, timeout) = (TransportFailure::NotTaken, TransportFailure::Timeout);
    type End = Box<dyn Fn(Reservation)>;
    let ends: Vec<(&str, u64, u64, End)> = vec![
        ("settled", 40, 1, Box::new(|taken| taken.settle(used(40)))),
        (
            "accepted, then settled",
            40,
            1,
            Box::new(|mut taken| {
                taken.accepted();
                taken.settle(used(40));
            }),
        ),
        ("refused", 0, 1, Box::new(move |taken| taken.settle_error(&bad))),
        ("not taken", 0, 0, Box::new(move |taken| taken.settle_transport(stale))),
        ("no connection", 0, 0, Box::new(|taken| taken.settle_transport(TransportFailure::Connect))),
        ("timeout", 100, 1, Box::new(move |taken| taken.settle_transport(timeout))),
        ("cut", 100, 1, Box::new(|taken| taken.settle_transport(TransportFailure::Cut))),
        ("dropped", 100, 1, Box::new(drop)),
        (
            "panic",
            100,
            1,
            Box::new(|taken| {
                let result = catch_unwind(AssertUnwindSafe(move || {
                    let _held = taken;
                    panic!("in the middle of a request");
                }));
                assert!(result.is_err());
            }),
        ),
    ];
    for (name, tokens, requests, end) in ends {
        let world = World::new(vec![limited("a", limits)]);
        end(world.take().unwrap());
        assert_eq!(world.state("a").in_flight, 0, "{name}");
        assert_eq!(world.left("a", Dimension::DailyTokens), 10_000 - tokens, "{name}");
        assert_eq!(world.left("a", Dimension::DailyRequests), 100 - requests, "{name}");
    }
}

#[test]
fn what_was_dropped_is_counted_and_marked_as_estimated() {
    let world = World::new(accounts(1));
    drop(world.take().unwrap());
    world.take().unwrap().settle(Used { tokens: 1, estimated: true });
    world.take().unwrap().settle(used(1));
    assert_eq!(world.pool.counts(), Counts { dropped: 1, estimated: 2 });
}

#[test]
fn the_day_belongs_to_the_platform() {
    let mut shanghai = limited("a", daily(100));
    let mut row = Platform::clone(&shanghai.platform);
    row.timezone = "Asia/Shanghai".to_owned();
    shanghai.platform = Arc::new(row);
    let world = World::new(vec![shanghai]);
    world.take().unwrap().settle(used(100));
    assert_eq!(world.refusal().1, Some(seconds(4 * 3600)), "noon in Greenwich is 20:00 in Shanghai");
}
