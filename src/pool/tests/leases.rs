//! Leases between one pool and its authority, step by step; `simulation.rs` has the wild schedules.

use super::super::bid::{Bid, Gauge, Line, Outcome, ReplicaId, Rest, Terms, Wait};
use super::super::books::{Book, Record};
use super::*;

/// A pool, its purser, and a book in place of an authority; nothing moves unless a round is made.
struct Desk {
    world: World,
    purser: Purser,
    book: Book,
    replica: ReplicaId,
}

impl Desk {
    fn new(account: Account) -> Self {
        let (clock, hand) = Clock::manual(NOON);
        let (pool, purser) = Pool::leased(&settings(), clock, Some(1), Arc::new(Nobody));
        pool.replace(vec![account]);
        let world = World { pool, hand, ..World::new(Vec::new()) };
        Self { world, purser, book: Book::default(), replica: ReplicaId(Arc::from("r")) }
    }

    /// A round, and what it asked for.
    fn round(&mut self) -> Vec<Bid> {
        let now = NOON + self.world.pool.core.clock.now().as_nanos() / 1_000_000;
        let (bidders, bids) = self.purser.gather(false);
        let outcomes = bids.iter().map(|bid| self.book.carry_out(&self.replica, bid, now)).collect();
        self.purser.hear(&bidders, &bids, outcomes);
        bids
    }

    fn pass(&self, millis: u64) {
        self.world.pass(Duration::from_millis(millis));
    }
}

fn daily(limit: u64) -> Limits {
    Limits { daily_tokens: Some(limit), ..Limits::default() }
}

#[test]
fn the_first_request_asks_and_the_next_ones_find_a_lease() {
    let mut desk = Desk::new(limited("a", daily(10_000)));
    assert_eq!(desk.world.refusal().0, Why::Asking);
    assert_eq!(desk.round().len(), 1);
    let mut taken = Vec::new();
    for _ in 0..3 {
        taken.push(desk.world.take().map_or_else(|refusal| Err(refusal.why), Ok));
        desk.pass(200);
        desk.round();
    }
    assert!(taken.iter().all(Result::is_ok), "{taken:?}");
}

#[test]
fn a_lease_that_is_not_renewed_is_not_drawn_from() {
    let mut desk = Desk::new(limited("a", daily(10_000)));
    desk.world.refusal();
    desk.round();
    desk.pass(1_000);
    assert_eq!(desk.world.refusal().0, Why::Asking);
}

#[test]
fn near_the_limit_the_last_request_is_still_served_and_the_next_is_told_when() {
    let mut desk = Desk::new(limited("a", daily(250)));
    let mut served = 0;
    for _ in 0..20 {
        match desk.world.take() {
            Ok(reservation) => {
                reservation.settle(used(100));
                served += 1;
            }
            Err(refusal) if refusal.why == Why::Asking => {}
            Err(refusal) => assert_eq!(refusal.why, Why::Exhausted),
        }
        desk.round();
        desk.pass(60);
    }
    assert_eq!(served, 2, "100 and 100 of 250; 50 are too few");
    desk.world.refusal();
    desk.round();
    let (why, wait) = desk.world.refusal();
    assert_eq!(why, Why::Exhausted);
    // Noon in London is the middle of the day there: this platform's day is of UTC.
    let wait = wait.expect("a time").as_secs();
    assert!((11 * 3600..=12 * 3600).contains(&wait), "{wait}");
}

#[test]
fn what_lies_idle_goes_back() {
    let mut desk = Desk::new(limited("a", daily(1_000)));
    desk.world.refusal();
    desk.round();
    desk.world.take().expect("leased").settle(used(100));
    for _ in 0..40 {
        desk.pass(200);
        desk.round();
    }
    assert!(desk.round().is_empty(), "an account that nobody uses costs nothing");
    let other = ReplicaId(Arc::from("other"));
    let mut desk_of_other = Desk::new(limited("a", daily(1_000)));
    std::mem::swap(&mut desk_of_other.book, &mut desk.book);
    desk_of_other.replica = other;
    desk_of_other.world.tokens = 900;
    assert_eq!(desk_of_other.world.refusal().0, Why::Asking);
    desk_of_other.round();
    assert!(desk_of_other.world.take().is_ok(), "all that was not used is there for another");
}

#[test]
fn a_replica_that_starves_gets_what_another_holds_unused() {
    let mut rich = Desk::new(limited("a", Limits { concurrency: Some(2), ..Limits::default() }));
    rich.world.refusal();
    rich.round();
    let held = rich.world.take().expect("leased");
    rich.pass(200);
    rich.round();
    // One in use, one at hand. Another replica asks for one.
    let line = rich.round();
    assert!(line.is_empty());
    let mut poor = Desk::new(limited("a", Limits { concurrency: Some(2), ..Limits::default() }));
    poor.replica = ReplicaId(Arc::from("poor"));
    poor.pass(200);
    std::mem::swap(&mut poor.book, &mut rich.book);
    poor.world.refusal();
    let asked = poor.round();
    assert_eq!(asked.len(), 1);
    let mut got = false;
    for _ in 0..10 {
        std::mem::swap(&mut poor.book, &mut rich.book);
        rich.pass(100);
        rich.round();
        std::mem::swap(&mut poor.book, &mut rich.book);
        poor.pass(100);
        got = got || poor.world.take().is_ok();
        poor.round();
    }
    assert!(got, "the idle slot came over");
    drop(held);
}

#[test]
fn a_bid_that_is_lost_goes_out_again_as_it_was() {
    let mut desk = Desk::new(limited("a", daily(1_000)));
    desk.world.refusal();
    let (_, first) = desk.purser.gather(false);
    desk.pass(500);
    let (bidders, again) = desk.purser.gather(false);
    assert_eq!(first, again);
    let now = NOON + 500;
    let one = desk.book.carry_out(&desk.replica, &first[0], now);
    let two = desk.book.carry_out(&desk.replica, &again[0], now + 5);
    assert_eq!(one, two, "carried out once, answered twice");
    desk.purser.hear(&bidders, &again, vec![two]);
    assert!(desk.world.take().is_ok());
}

#[test]
fn a_rest_that_one_replica_hears_of_is_kept_by_all() {
    let mut desk = Desk::new(limited("a", daily(100_000)));
    desk.world.refusal();
    desk.round();
    let refused = judged(Verdict::RateLimited, Scope::Account, Some(30));
    desk.world.take().expect("leased").settle_error(&refused);
    desk.round();
    let mut other = Desk::new(limited("a", daily(100_000)));
    other.replica = ReplicaId(Arc::from("other"));
    std::mem::swap(&mut other.book, &mut desk.book);
    assert_eq!(other.world.refusal().0, Why::Asking);
    other.round();
    let (why, wait) = other.world.refusal();
    assert_eq!(why, Why::Cooling);
    assert!((29..=30).contains(&wait.expect("a time").as_secs()), "{wait:?}");
}

#[test]
fn a_limit_for_one_model_holds_that_model_alone() {
    let model_limits = vec![(Arc::from("m"), Limits { rpm: Some(1), burst: Some(1), ..Limits::default() })];
    let account = Account { model_limits, ..account("a") };
    let world = World::new(vec![account.clone()]);
    world.take_for("m").expect("the first").settle(used(1));
    assert_eq!(world.take_for("m").unwrap_err().why, Why::LimitReached);
    world.take_for("n").expect("another model").settle(used(1));
    let mut desk = Desk::new(account);
    assert_eq!(desk.world.take_for("m").unwrap_err().why, Why::Asking);
    desk.round();
    desk.world.take_for("m").expect("leased").settle(used(1));
    desk.world.take_for("n").expect("not limited, not asked for").settle(used(1));
    drop(desk.world.take_for("m"));
    desk.pass(100);
    let bids = desk.round();
    assert_eq!(bids[0].lines[0].gauge.name(), "rpm/m");
    assert_eq!(desk.world.take_for("m").unwrap_err().why, Why::LimitReached);
}

#[test]
fn a_wrong_clock_of_ours_decides_nothing() {
    let (clock, hand) = Clock::manual(NOON + 13 * 3_600_000);
    let (pool, purser) = Pool::leased(&settings(), clock, Some(1), Arc::new(Nobody));
    pool.replace(vec![limited("a", daily(1_000))]);
    let world = World { pool, hand, ..World::new(Vec::new()) };
    let mut desk = Desk { world, purser, book: Book::default(), replica: ReplicaId(Arc::from("r")) };
    // Our clock says tomorrow, the authority's today: the first bid is for a day that is not.
    desk.world.refusal();
    let bids = desk.round();
    let outcome = desk.book.carry_out(&ReplicaId(Arc::from("x")), &bids[0], NOON);
    let Outcome::Answered(reply) = outcome else { panic!("late?") };
    assert_eq!((reply.grants[0].units, reply.grants[0].wait), (0, Wait::Soon));
    desk.world.refusal();
    desk.pass(100);
    desk.round();
    assert!(desk.world.take().is_ok(), "and the second for today");
}

/// Three replicas, each with a third of what one request needs: they starved side by side until the day turned.
#[test]
fn pieces_too_small_for_anybody_come_together() {
    let mut desks: Vec<Desk> = (0..3)
        .map(|number| {
            let mut desk = Desk::new(limited("a", daily(300)));
            desk.replica = ReplicaId(Arc::from(format!("r{number}")));
            desk
        })
        .collect();
    let mut book = Book::default();
    // Small requests bring each of them a piece.
    for desk in &mut desks {
        std::mem::swap(&mut desk.book, &mut book);
        desk.world.tokens = 100;
        desk.world.refusal();
        desk.round();
        desk.world.take().expect("leased").settle(used(60));
        std::mem::swap(&mut desk.book, &mut book);
    }
    let mut served = 0;
    for _ in 0..20 {
        for desk in &mut desks {
            std::mem::swap(&mut desk.book, &mut book);
            desk.pass(60);
            if let Ok(reservation) = desk.world.take() {
                reservation.settle(used(100));
                served += 1;
            }
            desk.round();
            std::mem::swap(&mut desk.book, &mut book);
        }
    }
    assert_eq!(served, 1, "180 of 300 were used, and 100 more fit");
}

/// Leases were sized by the bid and not by time: under load each bid asked for less than the one before it, ran dry sooner, and
/// hundreds of bids a second did the work of five.
#[test]
fn under_steady_load_bids_keep_their_rhythm() {
    let limits = Limits {
        rpm: Some(1_000_000),
        burst: Some(100_000),
        tpm: Some(1_000_000_000),
        concurrency: Some(1_000),
        daily_requests: Some(1_000_000_000),
        ..Limits::default()
    };
    let mut desk = Desk::new(limited("a", limits));
    let (mut under_way, mut bids, mut random) = (Vec::new(), 0, 7_u64);
    for millisecond in 0..4_000 {
        if millisecond == 2_000 {
            bids = 0;
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Some three a millisecond, by chance between none and six, each for up to sixteen milliseconds.
        let mut wanted = (random >> 40) % 7;
        while wanted > 0 {
            match desk.world.take() {
                Ok(reservation) => under_way.push((millisecond + 1 + (random >> 33) % 16, reservation)),
                Err(refusal) => assert_eq!(refusal.why, Why::Asking),
            }
            wanted -= 1;
        }
        let (ended, rest): (Vec<_>, Vec<_>) =
            under_way.into_iter().partition(|(ends, _)| *ends <= millisecond);
        ended.into_iter().for_each(|(_, reservation)| reservation.settle(used(90)));
        under_way = rest;
        desk.pass(1);
        bids += desk.round().len();
    }
    // Ten in two seconds, and a few for bursts.
    assert!(bids <= 20, "{bids} bids in two seconds");
    under_way.into_iter().for_each(|(_, reservation)| reservation.settle(used(90)));
}

/// What a dead replica held counts as spent for good; that is told once, and not because the authority was away.
#[test]
fn what_the_dead_took_with_them_is_told_once() {
    let replica = |name: &str| ReplicaId(Arc::from(name));
    let terms = Terms::Budget { limit: 100, key: 1, starts: 0, ends: 2 * NOON };
    let gauge = Gauge { dimension: Dimension::DailyTokens, model: None };
    let mut book = Book::default();
    let mut serial = 0;
    let mut say = |name: &str, used: u64, keep: u64, want: u64, now: u64| {
        serial += 1;
        let (gauge, back_since) = (gauge.clone(), u64::MAX);
        let line = Line { gauge, terms, used, keep, need: 0, want, back: 0, back_since, over: 0 };
        let bid = Bid {
            account: "a".into(),
            serial,
            lines: [line].into_iter().collect(),
            rests: Default::default(),
        };
        match book.carry_out(&replica(name), &bid, NOON + now) {
            Outcome::Answered(reply) => (reply.grants[0].units, reply.grants[0].left, reply.lost),
            Outcome::Stale => panic!("late?"),
        }
    };
    assert_eq!(say("dead", 10, 0, 30, 0), (30, 60, 0));
    let mut told = Vec::new();
    for second in 1..20 {
        // Between the fourth second and the twelfth nobody could speak to the authority.
        if !(4..12).contains(&second) {
            for tenth in 0..10 {
                told.push((second, say("alive", 5, 0, 0, second * 1_000 + tenth * 100).2));
            }
        }
    }
    let news: Vec<_> = told.into_iter().filter(|(_, lost)| *lost > 0).collect();
    assert_eq!(news, [(17, 30)], "five seconds after the authority was there again");
    assert_eq!(say("alive", 5, 0, 90, 20_000).0, 55, "and it counts as spent");
}

/// Where the operator wants to go on without an authority, all replicas together stay within what was left.
#[test]
fn without_an_authority_each_replica_has_its_part() {
    let budget = |limit| Terms::Budget { limit, key: 1, starts: 0, ends: 1 };
    assert_eq!(budget(1_000).part(100, 600, 3), budget(300), "100 that it had, and a third of 600");
    assert_eq!(budget(1_000).part(900, 900, 1), budget(1_000), "never more than the limit");
    assert_eq!(budget(1_000).part(400, 0, 3), budget(400), "nothing was left");
    let rate = |per_minute, burst| Terms::Rate { per_minute, burst };
    assert_eq!(rate(100, 10).part(0, 0, 4), rate(25, 2));
    assert_eq!(Terms::Slots { limit: 2 }.part(1, 0, 4), Terms::Slots { limit: 1 }, "one at least");
}

/// A rest is known before the first request: the authority is asked about every account once, in few bids that change
/// nothing. One that only a person can end is tried once more by whoever starts anew.
#[test]
fn who_starts_anew_hears_first_which_accounts_rest() {
    let rest = |millis: u64| Rest { model: None, until: NOON + millis, is_exhausted: true };
    for (millis, expected) in [(3_600_000, Some(3_600)), (10 * 366 * 86_400_000, None)] {
        let mut desk = Desk::new(account("a"));
        let teller = ReplicaId(Arc::from("earlier"));
        let told = Bid {
            account: "a".into(),
            serial: 1,
            lines: Default::default(),
            rests: std::iter::once(rest(millis)).collect(),
        };
        desk.book.carry_out(&teller, &told, NOON);
        let asked = desk.round();
        assert!(asked.len() == 1 && !asked[0].says_anything(), "{asked:?}");
        match (desk.world.take(), expected) {
            (Ok(taken), None) => taken.settle(used(1)),
            (Err(refusal), Some(seconds)) => {
                assert_eq!(
                    (refusal.why, refusal.retry_after),
                    (Why::Exhausted, Some(Duration::from_secs(seconds)))
                );
            }
            (taken, _) => panic!("{taken:?}"),
        }
        assert!(desk.round().is_empty(), "asked once");
    }
}

/// What stands in the file is what was there before; a file without rests is read as it always was.
#[test]
fn rests_are_kept_as_far_as_they_lie_ahead() {
    let mut book = Book::default();
    let rest = |model: &str, millis: u64| Rest {
        model: Some(Arc::from(model)),
        until: NOON + millis,
        is_exhausted: false,
    };
    let rests = [rest("over", 10), rest("ahead", 60_000), rest("for ever", 10 * 366 * 86_400_000)];
    let told = Bid {
        account: "a".into(),
        serial: 1,
        lines: Default::default(),
        rests: rests.iter().cloned().collect(),
    };
    book.carry_out(&ReplicaId(Arc::from("r")), &told, NOON);
    let written = serde_json::to_string(&Record::of(&book)).unwrap();
    let read: Record = serde_json::from_str(&written).unwrap();
    let mut book = read.restore(NOON + 10).book;
    let asks = Bid { rests: Default::default(), ..told };
    let Outcome::Answered(reply) = book.carry_out(&ReplicaId(Arc::from("s")), &asks, NOON + 10) else {
        panic!("no answer")
    };
    assert_eq!(reply.rests.as_slice(), &rests[1..2]);
    assert!(serde_json::from_str::<Record>(r#"{"rates":[],"stocks":[]}"#).is_ok());
}

/// What was put right is put right for good: the authority hears of it, too, and does not bring it back with its next reply,
/// nor with one that is under way.
#[test]
fn a_rest_that_is_forgotten_does_not_come_back_from_the_authority() {
    for has_limits in [false, true] {
        let limits = if has_limits { daily(10_000) } else { Limits::default() };
        let mut desk = Desk::new(limited("a", limits));
        drop(desk.world.take());
        desk.round();
        let exhausted = judged(Verdict::QuotaExhausted, Scope::Account, Some(3_600));
        desk.world.take().expect("leased").settle_error(&exhausted);
        desk.pass(200);
        desk.round();
        assert_eq!(desk.world.refusal().0, Why::Exhausted);
        desk.pass(200);
        let (bidders, bids) = desk.purser.gather(false);
        assert!(desk.world.pool.revive(&"a".into()));
        let carried = bids.iter().map(|bid| desk.book.carry_out(&desk.replica, bid, NOON + 400)).collect();
        desk.purser.hear(&bidders, &bids, carried);
        for _ in 0..3 {
            desk.pass(200);
            desk.round();
            assert!(desk.world.take().is_ok(), "{has_limits}");
        }
        let mut after = Desk::new(limited("a", limits));
        std::mem::swap(&mut after.book, &mut desk.book);
        after.replica = ReplicaId(Arc::from("after"));
        after.round();
        assert_ne!(after.world.take().map_or_else(|refusal| refusal.why, |_| Why::Asking), Why::Exhausted);
    }
}

/// A replica that hears no answers sends the same bid again and again: slow, and not dead. Its places were once given to others while
/// its requests were under way.
#[test]
fn whoever_repeats_a_bid_is_alive() {
    let gauge = Gauge { dimension: Dimension::Slots, model: None };
    let bid = |serial: u64, used: u64, want: u64| {
        let (gauge, terms, back_since) = (gauge.clone(), Terms::Slots { limit: 2 }, u64::MAX);
        let line = Line { gauge, terms, used, keep: 0, need: want, want, back: 0, back_since, over: 0 };
        Bid { account: "a".into(), serial, lines: [line].into_iter().collect(), rests: Default::default() }
    };
    let units = |outcome: &Outcome| match outcome {
        Outcome::Answered(reply) => reply.grants[0].units,
        Outcome::Stale => panic!("late?"),
    };
    let (slow, other) = (ReplicaId(Arc::from("slow")), ReplicaId(Arc::from("other")));
    let mut book = Book::default();
    assert_eq!(units(&book.carry_out(&slow, &bid(1, 0, 2), NOON)), 2);
    for tenth in 1..100 {
        let now = NOON + tenth * 100;
        assert_eq!(units(&book.carry_out(&other, &bid(tenth, 0, 1), now)), 0, "after {tenth} tenths");
        if tenth % 20 == 0 {
            assert_eq!(units(&book.carry_out(&slow, &bid(1, 0, 2), now)), 2, "the same answer");
        }
    }
    // Silent for more than five seconds: now it is dead, and what it was once granted is nobody's answer any more.
    let mut got = 0;
    for tenth in 100..200 {
        got += units(&book.carry_out(&other, &bid(tenth, got, 1), NOON + tenth * 100));
    }
    assert_eq!(got, 2);
    assert_eq!(book.carry_out(&slow, &bid(1, 0, 2), NOON + 20_000), Outcome::Stale);
}

/// While an authority is out, requests come, ask, and go away. What they asked for once added up, and the first bid after it wanted all.
#[test]
fn what_was_asked_for_long_ago_is_not_wanted_any_more() {
    let mut desk = Desk::new(limited("a", Limits { concurrency: Some(10_000), ..Limits::default() }));
    for _ in 0..50 {
        (0..20).for_each(|_| assert_eq!(desk.world.refusal().0, Why::Asking));
        desk.pass(100);
    }
    let want = desk.round()[0].lines[0].want;
    assert!((20..=100).contains(&want), "20 wait, and {want} places are wanted");
}

/// A replica that nobody heard for long enough is dead to the authority, and its places are given away. When it is heard again it must
/// not go on holding them: only what is under way there is its own.
#[test]
fn places_of_a_lease_that_has_ended_are_not_kept() {
    let mut desk = Desk::new(limited("a", Limits { concurrency: Some(2), ..Limits::default() }));
    desk.world.refusal();
    desk.world.refusal();
    desk.round();
    let held = [desk.world.take().expect("leased"), desk.world.take().expect("leased")];
    desk.pass(6_000);
    held.into_iter().for_each(|reservation| reservation.settle(used(1)));
    assert_eq!(desk.round()[0].lines[0].keep, 0);
}
