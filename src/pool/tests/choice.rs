//! Fair and cheap choice: even spread, weights, priorities, affinity, and no refusal while one account could carry it.

use std::collections::BTreeMap;

use super::*;

fn ids(held: &[Reservation]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for taken in held {
        *counts.entry(taken.account().id.to_string()).or_default() += 1;
    }
    counts
}

fn spread(counts: &BTreeMap<String, usize>, of: usize) -> f64 {
    assert_eq!(counts.len(), of, "every account is used");
    *counts.values().max().unwrap() as f64 / *counts.values().min().unwrap() as f64
}

fn settle_all(held: Vec<Reservation>) {
    held.into_iter().for_each(|taken| taken.settle(used(1)));
}

#[test]
fn a_thousand_cold_requests_at_once_spread_evenly_over_ten_accounts() {
    for strategy in [Strategy::Headroom, Strategy::LeastInFlight, Strategy::RoundRobin, Strategy::Weighted] {
        let world = World { strategy, ..World::new(accounts(10)) };
        let held: Vec<Reservation> = std::thread::scope(|scope| {
            let each: Vec<_> = (0..20)
                .map(|_| scope.spawn(|| (0..50).map(|_| world.take().unwrap()).collect::<Vec<_>>()))
                .collect();
            each.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let ratio = spread(&ids(&held), 10);
        assert!(ratio <= 1.3, "{strategy:?}: {ratio}");
        settle_all(held);
    }
}

#[test]
fn three_processes_that_do_not_know_of_each_other_spread_evenly_too() {
    let mut held = Vec::new();
    for seed in 0..3 {
        let pool = Pool::new(settings(), Clock::manual(NOON).0, Some(seed));
        pool.replace(accounts(10));
        let world = World { pool, ..World::new(Vec::new()) };
        held.extend((0..333).map(|_| world.take().unwrap()));
    }
    assert!(spread(&ids(&held), 10) <= 1.3, "{:?}", ids(&held));
}

#[test]
fn requests_one_after_the_other_do_not_all_go_to_the_first_account() {
    let world = World::new(accounts(10));
    let mut counts = BTreeMap::new();
    for _ in 0..1000 {
        let taken = world.take().unwrap();
        *counts.entry(taken.account().id.to_string()).or_default() += 1;
        taken.settle(used(1));
        world.pass(Duration::from_millis(1));
    }
    assert!(spread(&counts, 10) <= 1.3, "{counts:?}");
}

#[test]
fn with_a_thousand_accounts_picks_follow_the_weights_within_five_percent() {
    let weighted = (0..1000_u32).map(|n| Account { weight: 1 + n % 4, ..account(&format!("a{n}")) });
    let world = World { strategy: Strategy::Weighted, ..World::new(weighted.collect()) };
    let mut counts: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    // 100 picks for each unit of weight.
    for _ in 0..250_000 {
        let taken = world.take().unwrap();
        let weight = taken.account().weight;
        counts.entry(taken.account().id.to_string()).or_insert((0, weight)).0 += 1;
        taken.settle(used(1));
    }
    assert_eq!(counts.len(), 1000);
    for (id, (picks, weight)) in counts {
        let share = f64::from(picks) / f64::from(weight * 100);
        assert!((0.95..=1.05).contains(&share), "{id}: {picks} picks with weight {weight}");
    }
}

#[test]
fn weights_hold_among_those_that_are_left() {
    let weighted = (0..4_u32).map(|n| Account { weight: n + 1, ..account(&format!("a{n}")) }).collect();
    let world = World { strategy: Strategy::Weighted, ..World::new(weighted) };
    world.pool.set_enabled(&AccountId::from("a3"), false);
    let held: Vec<_> = (0..6000).map(|_| world.take().unwrap()).collect();
    let counts = ids(&held);
    let share = |id: &str| counts[id] as f64 / 1000.0;
    assert!((share("a0") - 1.0).abs() < 0.1 && (share("a1") - 2.0).abs() < 0.1, "{counts:?}");
    settle_all(held);
}

#[test]
fn round_robin_goes_round() {
    let world = World { strategy: Strategy::RoundRobin, ..World::new(accounts(5)) };
    let mut seen = Vec::new();
    for _ in 0..10 {
        let taken = world.take().unwrap();
        seen.push(taken.account().id.to_string());
        taken.settle(used(1));
    }
    assert_eq!(seen[..5], seen[5..]);
    seen.truncate(5);
    seen.sort();
    assert_eq!(seen, ["a0", "a1", "a2", "a3", "a4"]);
}

#[test]
fn headroom_takes_the_account_with_the_largest_remaining_part() {
    let daily = |tokens| Limits { daily_tokens: Some(tokens), ..Limits::default() };
    let world = World::new(vec![limited("small", daily(1000)), limited("large", daily(9000))]);
    let held: Vec<_> = (0..100).map(|_| world.take().unwrap()).collect();
    assert_eq!(ids(&held), BTreeMap::from([("small".to_owned(), 10), ("large".to_owned(), 90)]));
    settle_all(held);
}

#[test]
fn least_in_flight_looks_at_nothing_else() {
    let daily = |tokens| Limits { daily_tokens: Some(tokens), ..Limits::default() };
    let accounts = vec![limited("small", daily(5000)), limited("large", daily(90_000))];
    let world = World { strategy: Strategy::LeastInFlight, ..World::new(accounts) };
    let held: Vec<_> = (0..20).map(|_| world.take().unwrap()).collect();
    assert_eq!(ids(&held), BTreeMap::from([("small".to_owned(), 10), ("large".to_owned(), 10)]));
    settle_all(held);
}

#[test]
fn priority_uses_the_next_number_only_when_the_lower_ones_cannot() {
    let one = Limits { concurrency: Some(1), ..Limits::default() };
    let accounts = [("c", 3), ("b", 2), ("a", 1), ("a2", 1)]
        .map(|(id, priority)| Account { priority, ..limited(id, one) })
        .to_vec();
    let world = World { strategy: Strategy::Priority, ..World::new(accounts) };
    let held: Vec<_> = (0..4).map(|_| world.take().unwrap()).collect();
    let order: Vec<_> = held.iter().map(|taken| taken.account().priority).collect();
    assert_eq!(order, [1, 1, 2, 3]);
    assert_eq!(world.refusal().0, Why::LimitReached);
    settle_all(held);
}

/// Where `key` goes.
fn home(world: &World, key: u64) -> String {
    let taken = world.pool.take(&Want { affinity: Some(key), ..world.want() }).unwrap();
    let id = taken.account().id.to_string();
    taken.settle(used(1));
    id
}

fn sticky(accounts: Vec<Account>) -> World {
    World { strategy: Strategy::Sticky, ..World::new(accounts) }
}

#[test]
fn a_key_keeps_its_account_and_only_the_keys_of_a_removed_account_move() {
    let world = sticky(accounts(20));
    let before: Vec<_> = (0..500).map(|key| home(&world, key)).collect();
    assert_eq!(before, (0..500).map(|key| home(&world, key)).collect::<Vec<_>>());
    assert_eq!(before.iter().collect::<std::collections::BTreeSet<_>>().len(), 20);
    let rest: Vec<Account> = accounts(20).into_iter().filter(|account| account.id.as_str() != "a7").collect();
    world.pool.replace(rest);
    for (key, before) in before.iter().enumerate() {
        let after = home(&world, key as u64);
        assert!(if before == "a7" { after != "a7" } else { after == *before }, "{key}");
    }
}

#[test]
fn a_key_returns_to_its_account_when_that_is_well_again() {
    let world = sticky(accounts(20));
    let first = home(&world, 1);
    let id = AccountId::from(first.as_str());
    world.pool.set_enabled(&id, false);
    let second = home(&world, 1);
    assert_ne!(first, second);
    assert_eq!(second, home(&world, 1), "and has one substitute, not any");
    world.pool.set_enabled(&id, true);
    assert_eq!(home(&world, 1), first);
}

#[test]
fn a_key_with_twice_the_usual_load_spills() {
    let world = sticky(accounts(10));
    let want = Want { affinity: Some(1), ..world.want() };
    let held: Vec<_> = (0..100).map(|_| world.pool.take(&want).unwrap()).collect();
    let counts = ids(&held);
    assert!(*counts.values().max().unwrap() <= 20, "{counts:?}");
    assert!(counts.len() >= 5, "{counts:?}");
    settle_all(held);
    let held: Vec<_> = (0..4).map(|_| world.pool.take(&want).unwrap()).collect();
    assert_eq!(ids(&held).len(), 1, "an idle pool does not scatter a conversation");
    settle_all(held);
}

#[test]
fn never_refused_while_one_account_of_a_thousand_could() {
    for strategy in [
        Strategy::Headroom,
        Strategy::RoundRobin,
        Strategy::LeastInFlight,
        Strategy::Weighted,
        Strategy::Priority,
        Strategy::Sticky,
    ] {
        let world = World { strategy, ..World::new(accounts(1000)) };
        for number in (0..1000).filter(|number| *number != 617) {
            world.pool.set_enabled(&AccountId::from(format!("a{number}")), false);
        }
        for _ in 0..20 {
            let taken = world.pool.take(&Want { affinity: Some(3), ..world.want() }).unwrap();
            assert_eq!(taken.account().id.as_str(), "a617");
            taken.settle(used(1));
        }
        let tried = [AccountId::from("a617")];
        let refusal = world.pool.take(&Want { tried: &tried, ..world.want() }).unwrap_err();
        assert_eq!(refusal.why, Why::AllTried, "{strategy:?}");
    }
}

#[test]
fn what_was_tried_is_not_given_again() {
    for strategy in [Strategy::Headroom, Strategy::Weighted, Strategy::Sticky, Strategy::RoundRobin] {
        let world = World { strategy, ..World::new(accounts(30)) };
        let mut tried = Vec::new();
        while let Ok(taken) = world.pool.take(&Want { tried: &tried, affinity: Some(9), ..world.want() }) {
            assert!(!tried.contains(&taken.account().id), "{strategy:?}");
            tried.push(taken.account().id.clone());
            taken.settle(used(1));
        }
        assert_eq!(tried.len(), 30);
    }
}

#[test]
fn the_same_seed_makes_the_same_choices() {
    let game = || {
        let world = World::new(accounts(50));
        let held: Vec<_> = (0..100).map(|_| world.take().unwrap()).collect();
        let game: Vec<_> = held.iter().map(|taken| taken.account().id.to_string()).collect();
        settle_all(held);
        game
    };
    assert_eq!(game(), game());
}

#[test]
fn a_name_that_one_account_made_up_is_not_tried_on_another() {
    let mapped = |id: &str, name: &str, own: &str| Account {
        models: vec![(name.to_owned(), own.to_owned())],
        ..account(id)
    };
    let known = platform("openai").models[0].clone();
    let world = World::new(vec![
        mapped("a", "best", "ep-1"),
        mapped("b", &known, "ep-2"),
        mapped("c", "gpt-new", "gpt-new"),
        account("any"),
    ]);
    let takers = |model: &str| {
        let held: Vec<Reservation> = (0..40).filter_map(|_| world.take_for(model).ok()).collect();
        let takers: Vec<String> = ids(&held).into_keys().collect();
        settle_all(held);
        takers
    };
    assert_eq!(takers("best"), ["a"]);
    // What the platform has, or what was listed under its own name, is every such account's.
    assert_eq!(takers(&known), ["any", "b"]);
    assert_eq!(takers("gpt-new"), ["any", "c"]);
    assert_eq!(takers("other"), ["any"]);
}
