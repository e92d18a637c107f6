//! What accounts show to a choice that passes by is what they would answer if they were asked; so held against every account after
//! every step of a long random history.

use super::super::bid::ReplicaId;
use super::super::books::Book;
use super::super::dice::Dice;
use super::*;

const ACCOUNTS: usize = 4;

/// Accounts with all that may change what they show: every kind of limit, few of each.
fn configured(dailies: u64) -> Vec<Account> {
    let limits = Limits {
        rpm: Some(6000),
        tpm: Some(200_000),
        daily_tokens: Some(dailies),
        concurrency: Some(6),
        ..Limits::default()
    };
    (0..ACCOUNTS).map(|number| limited(&format!("a{number}"), limits)).collect()
}

struct Desk {
    world: World,
    purser: Purser,
    books: std::collections::HashMap<AccountId, Book>,
    held: Vec<Reservation>,
}

impl Desk {
    fn new() -> Self {
        let (clock, hand) = Clock::manual(NOON);
        let (pool, purser) = Pool::leased(&settings(), clock, Some(1), Arc::new(Nobody));
        pool.replace(configured(1_000_000));
        let world = World { pool, hand, ..World::new(Vec::new()) };
        Self { world, purser, books: Default::default(), held: Vec::new() }
    }

    fn round(&mut self) {
        let millis = NOON + self.world.pool.core.clock.now().as_nanos() / 1_000_000;
        let (bidders, bids) = self.purser.gather(false);
        let replica = ReplicaId(Arc::from("r"));
        let books = &mut self.books;
        let answers = bids
            .iter()
            .map(|bid| books.entry(bid.account.clone()).or_default().carry_out(&replica, bid, millis));
        let answers = answers.collect();
        self.purser.hear(&bidders, &bids, answers);
    }

    fn step(&mut self, throw: &mut dice::Throw) {
        let id = AccountId::from(format!("a{}", throw.below(ACCOUNTS)));
        match throw.below(20) {
            0..8 => {
                self.world.tokens = 1 + throw.below(400) as u64;
                self.held.extend(self.world.take());
            }
            8..13 if !self.held.is_empty() => {
                let mut taken = self.held.swap_remove(throw.below(self.held.len()));
                match throw.below(12) {
                    0 => taken.settle_error(&judged(Verdict::RateLimited, Scope::Account, Some(1))),
                    1 => taken.settle_error(&judged(Verdict::RateLimited, Scope::Model, Some(1))),
                    2 => taken.settle_transport(TransportFailure::Connect),
                    3 => {
                        taken.extend(300);
                        self.held.push(taken);
                    }
                    _ => {
                        taken.accepted();
                        taken.settle(used(throw.below(800) as u64));
                    }
                }
            }
            13..17 => self.round(),
            17 => {
                self.world.pool.set_enabled(&id, throw.below(3) > 0);
            }
            18 => {
                self.world.pool.revive(&id);
            }
            _ if throw.below(30) == 0 => self.world.pool.replace(configured(500_000 + throw.below(2) as u64)),
            _ => {}
        }
        let hours = throw.below(2000) == 0;
        self.world.pass(Duration::from_millis(if hours { 12 * 3_600_000 } else { throw.below(150) as u64 }));
    }

    /// (accounts that show something, those that would have something to show).
    fn compare(&self) -> (usize, usize) {
        let (now, roster) = (self.world.pool.core.now(), self.world.pool.roster.load());
        let (mut shown, mut could) = (0, 0);
        for (seat, _) in roster.everyone() {
            let tokens = self.world.tokens;
            let said = seat.member.shown.read(tokens, now.moment);
            let true_score = seat.member.score("m", tokens, &now);
            could += usize::from(true_score.as_ref().is_ok_and(|score| score.is_covered));
            let Some(said) = said else { continue };
            let score = true_score.expect("what shows something may be taken");
            let is_same = (said.headroom - score.headroom).abs() < 1e-6
                && said.in_flight == score.in_flight
                && said.last_taken == score.last_taken;
            assert!(score.is_covered && is_same, "it shows {said:?}, and says {score:?}");
            shown += 1;
        }
        (shown, could)
    }
}

#[test]
fn accounts_show_what_they_would_answer() {
    let mut desk = Desk::new();
    let dice = Dice::new(Some(11));
    let (mut shown, mut could) = (0, 0);
    for _ in 0..60_000 {
        desk.step(&mut dice.throw());
        // Looking makes an account show what it says: seldom, so that it is left to itself mostly.
        if dice.throw().below(4) == 0 {
            let (now_shown, now_could) = desk.compare();
            (shown, could) = (shown + now_shown, could + now_could);
        }
    }
    assert!(could > 5_000 && shown * 100 > could * 60, "{shown} of {could} showed what they could do");
}
