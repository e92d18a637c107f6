//! What a choice costs. Not part of the ordinary run: a loaded machine would make it lie. Run with
//! `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test --lib how_long -- --ignored --nocapture`.

use super::*;

fn measure(name: &str, world: &World, rounds: u32) {
    let want = Want { affinity: Some(7), ..world.want() };
    for _ in 0..rounds / 10 {
        world.pool.take(&want).unwrap().settle(used(1));
    }
    let clock = Clock::system();
    let (mut taking, start) = (Duration::ZERO, clock.now());
    let mut held = Vec::with_capacity(64);
    for _ in 0..rounds / 64 {
        let before = clock.now();
        for _ in 0..64 {
            held.push(world.pool.take(&want).unwrap());
        }
        taking += clock.now().since(before);
        held.drain(..).for_each(|taken| taken.settle(used(1)));
    }
    let each = |length: Duration| length.as_nanos() / u128::from(rounds);
    println!(
        "{name:>24}: take {:>6} ns, take and settle {:>6} ns",
        each(taking),
        each(clock.now().since(start))
    );
}

#[test]
#[ignore = "a measurement"]
fn how_long_does_choosing_among_10_000_accounts_take() {
    let limits = Limits {
        rpm: Some(1_000_000_000),
        burst: Some(1_000_000_000),
        daily_tokens: Some(u64::MAX / 2),
        concurrency: Some(1000),
        ..Limits::default()
    };
    for strategy in [
        Strategy::Headroom,
        Strategy::LeastInFlight,
        Strategy::RoundRobin,
        Strategy::Weighted,
        Strategy::Priority,
        Strategy::Sticky,
    ] {
        for (name, limits) in [("no limits", Limits::default()), ("3 limits", limits)] {
            let accounts = (0..10_000).map(|n| limited(&format!("a{n}"), limits)).collect();
            let pool = Pool::new(settings(), Clock::system(), Some(1));
            pool.replace(accounts);
            let world = World { pool, strategy, ..World::new(Vec::new()) };
            let rounds = if strategy == Strategy::Sticky { 20_000 } else { 400_000 };
            measure(&format!("{strategy:?}, {name}"), &world, rounds);
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn how_long_does_a_refusal_by_10_000_accounts_take() {
    let world = World::new(accounts(10_000));
    for number in 0..10_000 {
        world.pool.set_enabled(&AccountId::from(format!("a{number}")), false);
    }
    let clock = Clock::system();
    let start = clock.now();
    (0..1000).for_each(|_| assert!(world.take().is_err()));
    println!("refused by all: {} ns", clock.now().since(start).as_nanos() / 1000);
}
