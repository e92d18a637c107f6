//! The table in `pool.md`, row by row, and what follows from it: cooldowns, circuits, probes and storms.

use super::*;

fn verdict(world: &World, verdict: Verdict, scope: Scope, hint: Option<u64>) {
    world.take().unwrap().settle_error(&judged(verdict, scope, hint));
}

fn wait(world: &World) -> u64 {
    world.refusal().1.unwrap().as_millis().div_ceil(1000) as u64
}

#[test]
fn rate_limited_with_a_hint_rests_exactly_that_long() {
    let world = World::new(accounts(1));
    verdict(&world, Verdict::RateLimited, Scope::Account, Some(30));
    assert_eq!(world.refusal(), (Why::Cooling, Some(seconds(30))));
    world.pass(Duration::from_millis(29_999));
    assert_eq!(world.refusal().0, Why::Cooling);
    world.pass(Duration::from_millis(1));
    assert!(world.take().is_ok());
}

#[test]
fn a_cooling_account_gets_no_request_until_then() {
    let world = World::new(accounts(10));
    let first = world.take().unwrap();
    let cooling = first.account().id.clone();
    first.settle_error(&judged(Verdict::RateLimited, Scope::Account, Some(30)));
    for _ in 0..3000 {
        let taken = world.take().unwrap();
        assert_ne!(taken.account().id, cooling);
        taken.settle(used(1));
        world.pass(Duration::from_millis(9));
    }
}

#[test]
fn rate_limited_without_a_hint_rests_five_seconds_at_most_at_first_and_longer_each_time() {
    let world = World::new(accounts(1));
    let mut last = 0;
    for round in 0..7 {
        verdict(&world, Verdict::RateLimited, Scope::Account, None);
        let rest = world.refusal().1.unwrap();
        assert!(if round == 0 { rest <= seconds(5) } else { rest <= seconds(60) }, "{round}: {rest:?}");
        assert!(rest.as_millis() > last / 2, "{round}");
        last = rest.as_millis();
        world.pass(rest);
    }
    assert!(last >= 30_000);
}

#[test]
fn a_429_for_one_model_leaves_the_others_alone() {
    let world = World::new(accounts(1));
    verdict(&world, Verdict::RateLimited, Scope::Model, Some(30));
    assert_eq!(world.refusal().0, Why::Cooling);
    assert!(world.take_for("other").is_ok());
    verdict_for(&world, "other", Verdict::RateLimited, Scope::Account);
    assert!(world.take_for("third").is_err());
}

fn verdict_for(world: &World, model: &str, verdict: Verdict, scope: Scope) {
    world.take_for(model).unwrap().settle_error(&judged(verdict, scope, Some(30)));
}

#[test]
fn quota_exhausted_rests_until_the_platforms_word_or_its_midnight() {
    let world = World::new(accounts(1));
    verdict(&world, Verdict::QuotaExhausted, Scope::Account, Some(7 * 3600));
    assert_eq!(world.refusal(), (Why::Exhausted, Some(seconds(7 * 3600))));
    let world = World::new(accounts(1));
    verdict(&world, Verdict::QuotaExhausted, Scope::Account, None);
    assert_eq!(world.refusal(), (Why::Exhausted, Some(seconds(12 * 3600))));
    world.pass(seconds(12 * 3600 - 1));
    assert!(world.take().is_err());
    world.pass(seconds(1));
    assert!(world.take().is_ok());
}

#[test]
fn auth_invalid_ends_the_account_without_a_timer() {
    let world = World::new(accounts(1));
    verdict(&world, Verdict::AuthInvalid, Scope::Model, None);
    world.pass(seconds(30 * 24 * 3600));
    assert_eq!(world.refusal(), (Why::Disabled, None));
    assert!(world.state("a0").is_expired);
    assert!(world.pool.revive(&AccountId::from("a0")));
    assert!(world.take().is_ok());
}

#[test]
fn a_token_that_cannot_be_refreshed_is_tried_every_thirty_seconds_at_most() {
    let world = World::new(accounts(1));
    verdict(&world, Verdict::TokenExpired, Scope::Account, None);
    assert_eq!(wait(&world), 30);
    assert!(world.pool.revive(&AccountId::from("a0")), "a refreshed token ends the rest");
    assert!(world.take().is_ok());
}

#[test]
fn not_entitled_rests_the_pair_whatever_its_scope_and_for_long() {
    let world = World::new(accounts(1));
    verdict(&world, Verdict::NotEntitled, Scope::Account, None);
    assert_eq!(world.refusal(), (Why::Exhausted, Some(seconds(600))));
    assert!(world.take_for("other").is_ok());
}

#[test]
fn overload_and_lost_connections_open_the_circuit_after_failures_in_a_row() {
    let overloaded = |taken: Reservation| {
        taken.settle_error(&judged(Verdict::Overloaded, Scope::Account, None));
    };
    let ends: [fn(Reservation); 4] = [
        overloaded,
        |taken| taken.settle_transport(TransportFailure::Connect),
        |taken| taken.settle_transport(TransportFailure::Timeout),
        |taken| taken.settle_transport(TransportFailure::Cut),
    ];
    for end in ends {
        let world = World::new(accounts(1));
        end(world.take().unwrap());
        end(world.take().unwrap());
        assert_eq!(world.state("a0").breaker, Breaker::Closed);
        end(world.take().unwrap());
        assert_eq!(world.refusal().0, Why::Broken);
        assert_eq!(world.state("a0").breaker, Breaker::Open);
        world.pass(seconds(2));
        assert_eq!(world.state("a0").breaker, Breaker::HalfOpen);
        let probe = world.take().unwrap();
        assert_eq!(world.refusal().0, Why::Broken, "exactly one probe at a time");
        probe.settle(used(1));
        assert_eq!(world.state("a0").breaker, Breaker::Closed);
        let all: Vec<_> = (0..10).map(|_| world.take().unwrap()).collect();
        all.into_iter().for_each(|taken| taken.settle(used(1)));
    }
}

#[test]
fn an_overload_of_one_model_does_not_close_the_account() {
    let world = World::new(accounts(1));
    (0..3).for_each(|_| verdict(&world, Verdict::Overloaded, Scope::Model, None));
    assert_eq!(world.refusal().0, Why::Broken);
    assert!(world.take_for("other").is_ok());
}

#[test]
fn a_dead_account_costs_one_failed_try_for_each_probe() {
    let world = World::new(accounts(2));
    let mut failed_at = Vec::new();
    for millis in (0..300_000_u64).step_by(50) {
        let taken = world.take().unwrap();
        if taken.account().id.as_str() == "a0" {
            failed_at.push(millis);
            taken.settle_transport(TransportFailure::Connect);
        } else {
            taken.settle(used(1));
        }
        world.pass(Duration::from_millis(50));
    }
    // Three to open it; then probes after pauses that double from 1..2 s up to 30..60 s.
    assert!((8..=17).contains(&failed_at.len()), "{failed_at:?}");
    for pair in failed_at[2..].windows(2) {
        assert!(pair[1] - pair[0] >= 1000, "{failed_at:?}");
    }
}

#[test]
fn overload_never_lengthens_the_rest_after_the_next_429() {
    let world = World::new(accounts(1));
    for _ in 0..12 {
        verdict(&world, Verdict::Overloaded, Scope::Account, None);
        world.pass(seconds(60));
    }
    verdict(&world, Verdict::RateLimited, Scope::Account, None);
    assert!(wait(&world) <= 5);
}

#[test]
fn faults_of_the_request_do_not_count_against_the_account() {
    let world = World::new(accounts(1));
    for fault in [Verdict::BadRequest, Verdict::ContentFiltered, Verdict::ContextTooLong] {
        for scope in [Scope::Model, Scope::Account, Scope::Platform] {
            (0..20).for_each(|_| verdict(&world, fault, scope, Some(30)));
        }
    }
    let taken = world.take().unwrap();
    (0..50).for_each(|_| world.take().unwrap().settle_transport(TransportFailure::NotTaken));
    taken.settle(used(1));
    assert_eq!(world.state("a0").rest, None);
}

#[test]
fn what_a_filtered_answer_used_is_settled() {
    let limits = Limits { daily_tokens: Some(1000), ..Limits::default() };
    let world = World::new(vec![limited("a", limits)]);
    let filtered = judged(Verdict::ContentFiltered, Scope::Model, None);
    world.take().unwrap().settle_error_used(&filtered, used(25));
    assert_eq!(world.left("a", Dimension::DailyTokens), 975);
}

#[test]
fn after_a_pause_one_request_goes_first_and_its_beginning_opens_the_account() {
    let world = World::new(accounts(1));
    verdict(&world, Verdict::RateLimited, Scope::Account, Some(5));
    world.pass(seconds(5));
    let mut probe = world.take().unwrap();
    assert_eq!(world.refusal(), (Why::Cooling, Some(seconds(1))));
    probe.accepted();
    assert!(world.take().is_ok(), "long before the stream ends");
    probe.settle(used(1));
}

#[test]
fn a_probe_that_is_dropped_makes_room_for_the_next() {
    let world = World::new(accounts(1));
    (0..3).for_each(|_| verdict(&world, Verdict::Overloaded, Scope::Account, None));
    world.pass(seconds(2));
    drop(world.take().unwrap());
    let second = world.take().unwrap();
    assert!(world.take().is_err());
    second.settle(used(1));
}

#[test]
fn long_streams_that_end_well_do_not_hide_that_nothing_new_gets_through() {
    let world = World::new(accounts(1));
    let streams: Vec<_> = (0..5)
        .map(|_| {
            let mut taken = world.take().unwrap();
            taken.accepted();
            taken
        })
        .collect();
    for stream in streams {
        if let Ok(taken) = world.take() {
            taken.settle_transport(TransportFailure::Connect);
        }
        stream.settle(used(1));
    }
    assert_eq!(world.refusal().0, Why::Broken);
}

#[test]
fn a_storm_of_429s_rests_the_platform_and_spares_the_other_accounts() {
    let world = World::new(accounts(50));
    let mut burnt = 0;
    while let Ok(taken) = world.take() {
        burnt += 1;
        taken.settle_error(&judged(Verdict::RateLimited, Scope::Account, Some(20 + burnt)));
    }
    assert_eq!(burnt, 5);
    assert_eq!(world.refusal(), (Why::Cooling, Some(seconds(21))), "the soonest reset");
    assert_eq!(world.pool.states().iter().filter(|state| state.rest.is_some()).count(), 5);
    world.pass(seconds(21));
    let probe = world.take().unwrap();
    assert!(world.take().is_err(), "one probe for the whole platform");
    let id = probe.account().id.clone();
    probe.settle_error(&judged(Verdict::RateLimited, Scope::Account, None));
    assert_eq!(world.refusal().0, Why::Cooling);
    assert_eq!(world.state(id.as_str()).rest, None, "the account is not to blame");
    world.pass(seconds(60));
    world.take().unwrap().settle(used(1));
    assert!(world.take().is_ok() && world.take().is_ok());
}

#[test]
fn a_busy_pool_with_successes_in_between_is_no_storm() {
    let world = World::new(accounts(50));
    for _ in 0..20 {
        verdict(&world, Verdict::RateLimited, Scope::Account, Some(30));
        let mut taken = world.take().unwrap();
        taken.accepted();
        taken.settle(used(1));
    }
    assert!(world.take().is_ok());
}

#[test]
fn slow_429s_or_different_ones_are_no_storm() {
    let world = World::new(accounts(50));
    for _ in 0..10 {
        verdict(&world, Verdict::RateLimited, Scope::Account, Some(300));
        world.pass(seconds(3));
    }
    for code in 0..10 {
        let code = Some(format!("code-{code}"));
        let judgement = Judgement { code, ..judged(Verdict::RateLimited, Scope::Account, Some(300)) };
        world.take().unwrap().settle_error(&judgement);
    }
    assert!(world.take().is_ok());
}

#[test]
fn a_429_that_names_the_platform_rests_it_and_no_account() {
    let world = World::new(accounts(3));
    verdict(&world, Verdict::RateLimited, Scope::Platform, Some(10));
    assert_eq!(world.refusal(), (Why::Cooling, Some(seconds(10))));
    assert!(world.pool.states().iter().all(|state| state.rest.is_none()));
}

#[test]
fn when_all_rest_the_answer_names_the_soonest_of_them() {
    let world = World::new(accounts(4));
    for (number, hint) in [300, 40, 900, 60].into_iter().enumerate() {
        let taken = world.take().unwrap();
        taken.settle_error(&judged(Verdict::RateLimited, Scope::Account, Some(hint)));
        assert!(number < 4);
    }
    let fault = world.take().unwrap_err().into_fault();
    assert_eq!((fault.kind().row().status, fault.get_code()), (429, Some("rate_limit_exceeded")));
    assert_eq!(fault.get_retry_after(), Some(seconds(40)));
}

#[test]
fn a_tried_account_that_cools_is_counted_in_the_wait() {
    let world = World::new(accounts(1));
    let taken = world.take().unwrap();
    let tried = [taken.account().id.clone()];
    taken.settle_error(&judged(Verdict::RateLimited, Scope::Account, Some(7)));
    let refusal = world.pool.take(&Want { tried: &tried, ..world.want() }).unwrap_err();
    assert_eq!(refusal, Refusal { why: Why::Cooling, retry_after: Some(seconds(7)) });
}

#[test]
fn a_caller_who_names_a_thousand_models_does_not_close_the_account() {
    let world = World::new(accounts(1));
    for number in 0..1000 {
        let taken = world.take_for(&format!("model-{number}")).unwrap();
        taken.settle_error(&judged(Verdict::NotEntitled, Scope::Model, None));
    }
    assert!(world.take().is_ok());
    assert!(world.state("a0").models.len() <= 64);
}

/// R4.3: a platform that has too much to do is left alone for a moment, not for long, and no account is blamed for it.
#[test]
fn a_platform_that_is_overloaded_rests_shortly_and_its_accounts_do_not() {
    let world = World::new(accounts(20));
    for _ in 0..3 {
        // By three accounts: whichever was taken last is not taken again.
        world.pass(Duration::from_millis(1));
        verdict(&world, Verdict::Overloaded, Scope::Platform, None);
    }
    let (why, rest) = world.refusal();
    assert_eq!(why, Why::Broken);
    assert!((seconds(1)..=seconds(5)).contains(&rest.unwrap()), "{rest:?}");
    assert!(world.pool.states().iter().all(|state| state.rest.is_none() && state.models.is_empty()));
    world.pass(rest.unwrap());
    let probe = world.take().unwrap();
    assert!(world.take().is_err(), "one probe for the whole platform");
    probe.settle_error(&judged(Verdict::Overloaded, Scope::Platform, None));
    let again = world.refusal().1.unwrap();
    assert!(again <= seconds(5), "{again:?}");
    world.pass(again);
    world.take().unwrap().settle(used(1));
    assert!((0..10).map(|_| world.take()).all(|taken| taken.is_ok()));
    verdict(&world, Verdict::RateLimited, Scope::Account, None);
    assert!(world.pool.states().iter().filter_map(|state| state.rest).all(|(_, rest)| rest <= seconds(2)));
}

#[test]
fn an_overload_now_and_then_rests_nobody() {
    let world = World::new(accounts(20));
    for _ in 0..50 {
        verdict(&world, Verdict::Overloaded, Scope::Platform, None);
        verdict(&world, Verdict::Overloaded, Scope::Platform, None);
        world.take().unwrap().settle(used(1));
    }
    // Nor does one that is over: somebody's answer has begun since.
    let mut under_way = world.take().unwrap();
    (0..3).for_each(|_| verdict(&world, Verdict::Overloaded, Scope::Platform, None));
    assert_eq!(world.refusal().0, Why::Broken);
    under_way.accepted();
    assert!(world.take().is_ok());
}

#[test]
fn an_account_that_is_alone_with_its_overload_rests_alone_and_for_that_model() {
    let world = World::new(accounts(1));
    (0..3).for_each(|_| verdict(&world, Verdict::Overloaded, Scope::Platform, None));
    let (why, rest) = world.refusal();
    assert_eq!((why, rest.unwrap() <= seconds(5)), (Why::Broken, true));
    assert!(world.take_for("other").is_ok());
    world.pass(rest.unwrap());
    world.take().unwrap().settle(used(1));
    assert!(world.take().is_ok());
}
