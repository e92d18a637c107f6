//! What a choice costs. Not part of the ordinary run: a loaded machine would make it lie. Run with
//! `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test --lib how_long -- --ignored --nocapture`.

use super::*;

/// Requests in one batch, which is timed as a whole: a clock read costs a good part of a choice.
const BATCH: u32 = 64;

/// The lower quartile over many batches: other work on the machine makes the rest longer, nothing makes it shorter.
fn measure(name: &str, world: &World, batches: u32, mut between_batches: impl FnMut()) {
    let want = Want { affinity: Some(7), ..world.want() };
    let clock = Clock::system();
    let (mut taking, mut settling) = (Vec::new(), Vec::new());
    for _ in 0..batches {
        between_batches();
        let before = clock.now();
        let held: Vec<_> = (0..BATCH).filter_map(|_| world.pool.take(&want).ok()).collect();
        let between = clock.now();
        if held.len() < BATCH as usize {
            // Not every account has been asked for yet.
            continue;
        }
        held.into_iter().for_each(|taken| taken.settle(used(1)));
        taking.push(between.since(before) / BATCH);
        settling.push(clock.now().since(between) / BATCH);
    }
    let quartile = |mut lengths: Vec<Duration>| {
        lengths.sort();
        lengths[lengths.len() / 4].as_nanos()
    };
    println!("{name:>26}: take {:>6} ns, settle {:>4} ns", quartile(taking), quartile(settling));
}

/// Requests between two batches of choices: enough that none of ten thousand accounts lies idle for long and has its leases called in.
const BUSY: u32 = 2000;

/// The choice alone: which account, without setting anything aside. Between the batches others are chosen and used, so
/// that what is looked at was not looked at just now.
fn measure_choice(name: &str, world: &World, batches: u32, mut between_batches: impl FnMut()) {
    let want = world.want();
    let clock = Clock::system();
    let (mut lengths, mut shown) = (Vec::new(), 0);
    for _ in 0..batches {
        between_batches();
        (0..BUSY).filter_map(|_| world.pool.take(&want).ok()).for_each(|taken| taken.settle(used(1)));
        let roster = world.pool.roster.load();
        let before = clock.now();
        let chosen = (0..BATCH).filter(|_| {
            let field = roster.lane(want.platform).and_then(|lane| lane.field(want.tenant, want.model));
            let all = field.expect("there are some").into_iter().map(choose::Slice::of);
            let core = &world.pool.core;
            let mut choice = Choice { want: &want, now: core.now(), core, throw: core.dice.throw() };
            choice.glance(&all.collect(), choose::By::Headroom).is_some()
        });
        shown += chosen.count();
        lengths.push(clock.now().since(before) / BATCH);
    }
    lengths.sort();
    let of = lengths.len() * BATCH as usize;
    println!(
        "{name:>26}: choose {:>4} ns ({shown} of {of} by a glance)",
        lengths[lengths.len() / 4].as_nanos()
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
            let accounts: Vec<Account> = (0..10_000).map(|n| limited(&format!("a{n}"), limits)).collect();
            let pool = Pool::new(settings(), Clock::system(), Some(1));
            pool.replace(accounts);
            let world = World { pool, strategy, ..World::new(Vec::new()) };
            let batches = if strategy == Strategy::Sticky { 300 } else { 6000 };
            measure(&format!("{strategy:?}, {name}"), &world, batches, || {});
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn how_long_does_choosing_among_10_000_leased_accounts_take() {
    let limits = Limits {
        rpm: Some(1_000_000_000),
        burst: Some(1_000_000_000),
        daily_tokens: Some(1 << 50),
        concurrency: Some(1000),
        ..Limits::default()
    };
    for count in [4, 10_000] {
        let clock = Clock::system();
        let (pool, mut purser) = Pool::leased(&settings(), clock.clone(), Some(1), Arc::new(Nobody));
        let accounts = (0..count).map(|n| limited(&format!("a{n}"), limits));
        pool.replace(accounts);
        let world = World { pool, ..World::new(Vec::new()) };
        let mut books: std::collections::HashMap<AccountId, books::Book> = Default::default();
        let replica = ReplicaId(Arc::from("r"));
        let mut round = || {
            let (bidders, bids) = purser.gather(false);
            let millis = clock.wall_millis();
            let outcomes = bids
                .iter()
                .map(|bid| books.entry(bid.account.clone()).or_default().carry_out(&replica, bid, millis));
            let outcomes = outcomes.collect();
            purser.hear(&bidders, &bids, outcomes);
        };
        measure(&format!("leased, {count} accounts"), &world, 4000, &mut round);
        measure_choice(&format!("leased, {count} accounts"), &world, 4000, &mut round);
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
