use std::time::Duration;

use super::*;
use crate::clock::Hand;

const DAY: Duration = Duration::from_hours(24);

fn limiter(limits: Limits) -> (Arc<Limiter>, Arc<Hand>) {
    // Ten hours into a day; a month with 31 days, on its 15th.
    let (clock, hand) = Clock::manual(1_768_435_200_000 + 10 * 3_600_000);
    (Limiter::new(limits, clock), hand)
}

fn none() -> Limits {
    Limits::default()
}

fn refusal(limiter: &Arc<Limiter>, tokens: u64) -> Fault {
    limiter.admit(tokens).expect_err("over the limit")
}

#[test]
fn requests_per_minute_with_their_burst() {
    let (limiter, hand) = limiter(Limits { rpm: Some(60), ..none() });
    for _ in 0..6 {
        drop(limiter.admit(0).expect("a tenth of rpm at once"));
    }
    let fault = refusal(&limiter, 0);
    assert_eq!(fault.kind(), Kind::RateLimited);
    assert_eq!(fault.get_code(), Some("rate_limit_exceeded"));
    assert_eq!(fault.get_retry_after(), Some(Duration::from_secs(1)));
    hand.advance(Duration::from_millis(999));
    assert!(limiter.admit(0).is_err());
    hand.advance(Duration::from_millis(1));
    assert!(limiter.admit(0).is_ok());
    assert!(limiter.admit(0).is_err());
}

#[test]
fn an_hour_of_hammering_gets_the_rate_and_one_burst() {
    let (limiter, hand) = limiter(Limits { rpm: Some(100), burst: Some(7), ..none() });
    let mut admitted = 0;
    for _ in 0..36_000 {
        admitted += u32::from(limiter.admit(0).is_ok());
        hand.advance(Duration::from_millis(100));
    }
    assert!((6000..=6007).contains(&admitted), "{admitted}");
}

#[test]
fn tokens_per_minute_are_set_aside_settled_and_charged() {
    let (limiter, hand) = limiter(Limits { tpm: Some(6000), ..none() });
    let mut first = limiter.admit(4000).expect("fits");
    let fault = refusal(&limiter, 4000);
    assert_eq!(fault.get_retry_after(), Some(Duration::from_secs(20)));
    first.settle(1000);
    let mut second = limiter.admit(5000).expect("what was not used is free again");
    // More than was set aside is charged, even beyond the limit.
    second.settle(11_000);
    let fault = refusal(&limiter, 1);
    assert_eq!(fault.get_retry_after(), Some(Duration::from_millis(60_010)));
    hand.advance(Duration::from_secs(61));
    assert!(limiter.admit(1).is_ok());
    let fault = refusal(&limiter, 6001);
    assert_eq!((fault.kind(), fault.get_retry_after()), (Kind::RateLimited, None));
    assert_eq!(fault.should_retry(), Some(false));
}

#[test]
fn settling_again_corrects_what_was_settled_before() {
    let (limiter, _) = limiter(Limits { tpm: Some(1000), daily_tokens: Some(1000), ..none() });
    let mut admission = limiter.admit(800).expect("fits");
    for used in [100, 300, 200, 200] {
        admission.settle(used);
    }
    assert!(limiter.admit(801).is_err());
    assert!(limiter.admit(800).is_ok());
}

#[test]
fn a_refusal_charges_nothing() {
    let limits = Limits { rpm: Some(10), burst: Some(10), tpm: Some(100), ..none() };
    let (limiter, _) = limiter(Limits { daily_requests: Some(10), concurrency: Some(10), ..limits });
    for _ in 0..50 {
        assert!(limiter.admit(101).is_err());
    }
    let all: Vec<_> = (0..10).map(|_| limiter.admit(10).expect("nothing is used yet")).collect();
    assert_eq!(all.len(), 10);
}

#[test]
fn the_day_begins_anew_at_midnight() {
    let (limiter, hand) = limiter(Limits { daily_tokens: Some(100), daily_requests: Some(3), ..none() });
    let mut first = limiter.admit(100).expect("fits");
    let fault = refusal(&limiter, 1);
    assert_eq!((fault.kind(), fault.should_retry()), (Kind::QuotaExhausted, Some(false)));
    assert_eq!(fault.get_retry_after(), Some(Duration::from_hours(14)));
    first.settle(98);
    drop(limiter.admit(2).expect("the rest"));
    drop(limiter.admit(0).expect("the third"));
    assert!(refusal(&limiter, 0).public().contains("requests per day"));
    hand.advance(Duration::from_hours(14) - Duration::from_millis(1));
    assert!(limiter.admit(0).is_err());
    hand.advance(Duration::from_millis(1));
    drop(limiter.admit(100).expect("a new day"));
    // Yesterday's request ends today: nothing of today's quota comes back.
    first.settle(0);
    assert!(limiter.admit(1).is_err());
}

#[test]
fn the_month_begins_anew_on_its_first() {
    let (limiter, hand) = limiter(Limits { monthly_budget: Some(100), ..none() });
    drop(limiter.admit(100).expect("fits"));
    let fault = refusal(&limiter, 1);
    assert_eq!(fault.get_retry_after(), Some(16 * DAY + Duration::from_hours(14)));
    hand.advance(16 * DAY);
    assert!(limiter.admit(1).is_err());
    hand.advance(Duration::from_hours(14));
    assert!(limiter.admit(100).is_ok());
}

#[test]
fn a_place_is_given_back_when_the_admission_is_dropped() {
    let (limiter, _) = limiter(Limits { concurrency: Some(2), ..none() });
    let first = limiter.admit(0).expect("one");
    let _second = limiter.admit(0).expect("two");
    let fault = refusal(&limiter, 0);
    assert_eq!((fault.kind(), fault.get_retry_after()), (Kind::RateLimited, Some(Duration::from_secs(1))));
    drop(first);
    let _third = limiter.admit(0).expect("a free place");
    assert!(limiter.admit(0).is_err());
}

#[test]
fn many_threads_never_exceed_a_limit_together() {
    let (limiter, _) = limiter(Limits { daily_tokens: Some(1000), ..none() });
    let admitted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..500).filter(|_| limiter.admit(1).is_ok()).count())).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(admitted, 1000);
}

#[test]
fn headers_look_like_openais() {
    let (limiter, _) = limiter(Limits { rpm: Some(600), tpm: Some(60_000), ..none() });
    let admission = limiter.admit(6000).expect("fits");
    let headers: Vec<_> = admission
        .headers()
        .into_iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ascii")))
        .collect();
    assert_eq!(
        headers,
        [
            "x-ratelimit-limit-requests: 600",
            "x-ratelimit-remaining-requests: 59",
            "x-ratelimit-reset-requests: 100ms",
            "x-ratelimit-limit-tokens: 60000",
            "x-ratelimit-remaining-tokens: 54000",
            "x-ratelimit-reset-tokens: 6s",
        ]
    );
    assert!(Limiter::new(none(), Clock::manual(0).0).admit(1).expect("no limit").headers().is_empty());
}

#[test]
fn a_request_that_outgrows_its_estimate_gets_more_while_the_day_holds_it() {
    let (limiter, hand) = limiter(Limits { tpm: Some(500), daily_tokens: Some(1000), ..none() });
    let mut admission = limiter.admit(400).expect("fits");
    // Beyond the minute's tokens: what has begun goes on, and is charged.
    assert!(admission.extend(500));
    assert_eq!(admission.tokens(), 900);
    assert_eq!(refusal(&limiter, 1).kind(), Kind::RateLimited);
    assert!(!admission.extend(101));
    assert_eq!(admission.tokens(), 900, "a refusal sets nothing aside");
    assert!(admission.extend(100));
    admission.settle(300);
    hand.advance(Duration::from_secs(60));
    assert!(limiter.admit(500).is_ok(), "what was not used is given back");
}
