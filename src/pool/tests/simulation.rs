//! Several replicas and one authority, in one thread and in made-up time: messages are lost, late, doubled and out of order,
//! replicas die and are born again, clocks are wrong, the authority is away. A seed repeats a schedule to the last step.
//!
//! The oracle counts what was really admitted and really used, at the true time, and knows nothing of leases.

use std::collections::{BTreeMap, HashMap};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::bid::{Bid, Outcome, ReplicaId};
use super::super::books::Book;
use super::super::member::Member;
use super::super::purser::Purser;
use super::*;

/// Bugs that the simulation must find; each is planted around the code and not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// A bid that comes again is carried out again.
    Again,
    /// A bid that was overtaken by a later one is carried out all the same.
    Overtaken,
    /// What a dead replica held is handed out anew.
    Resurrected,
    /// A grant is used before the authority has it on disk, and the authority restarts.
    Forgotten,
    /// A lease is drawn from after its end.
    Undying,
    /// Every replica keeps a limit of its own.
    Apart,
}

const TTL: u64 = 1_000;

/// What really happened to one limit.
#[derive(Debug, Default)]
struct Truth {
    /// (true milliseconds, cost) of every admission by rate; what was given back is taken off.
    admitted: Vec<(u64, u64)>,
    tokens_today: u64,
    /// Used beyond estimates.
    beyond: u64,
    under_way: u64,
}

struct Replica {
    pool: Pool,
    purser: Purser,
    hand: Arc<Hand>,
    id: ReplicaId,
    under_way: Vec<(Reservation, u64, usize)>,
    /// Requests that wait for the authority: how large, and until when.
    waiting: Vec<(u64, u64)>,
    /// The round that is out: its bids and bidders, and how often it went out.
    out: Option<(Vec<Arc<Member>>, Vec<Bid>)>,
    sent: u64,
    /// When the authority last heard of it.
    heard: u64,
}

/// On its way: to the authority (`None`) or back.
struct Message {
    arrives: u64,
    from: usize,
    born: u32,
    round: u64,
    bids: Vec<Bid>,
    outcomes: Option<Vec<Outcome>>,
}

struct Sim {
    now: u64,
    random: SmallRng,
    limits: Limits,
    replicas: Vec<Replica>,
    births: Vec<u32>,
    rounds: Vec<u64>,
    books: BTreeMap<AccountId, Book>,
    /// As on disk: without what was granted since.
    safe: BTreeMap<AccountId, Book>,
    away_until: u64,
    wire: Vec<Message>,
    truth: Truth,
    served: u64,
    bug: Option<Bug>,
    is_calm: bool,
    was_cut_off: bool,
    /// Many requests at the moment, or few.
    is_storm: bool,
    account: Account,
}

/// Where a schedule broke a promise.
type Broken = String;

impl Sim {
    fn new(seed: u64, bug: Option<Bug>, is_calm: bool, account: &Account) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let some = |random: &mut SmallRng, low: u64, high: u64| {
            random.random_bool(0.7).then(|| random.random_range(low..high))
        };
        let limits = Limits {
            rpm: some(&mut random, 60, 3_000),
            tpm: some(&mut random, 20_000, 200_000),
            concurrency: some(&mut random, 1, 12),
            daily_tokens: Some(random.random_range(2_000..30_000)),
            ..Limits::default()
        };
        let mut sim = Self {
            now: NOON,
            limits,
            replicas: Vec::new(),
            births: Vec::new(),
            rounds: Vec::new(),
            books: BTreeMap::new(),
            safe: BTreeMap::new(),
            away_until: 0,
            wire: Vec::new(),
            truth: Truth::default(),
            served: 0,
            bug,
            is_calm,
            is_storm: true,
            was_cut_off: false,
            account: Account { limits, ..account.clone() },
            random,
        };
        for place in 0..sim.random.random_range(2..5) {
            let replica = sim.born(place);
            sim.replicas.push(replica);
            sim.births.push(0);
            sim.rounds.push(0);
        }
        sim
    }

    fn born(&mut self, place: usize) -> Replica {
        // Its wall clock may be ten minutes off: no decision may rest on it.
        let skew = if self.is_calm { 600_000 } else { self.random.random_range(0..1_200_000) };
        let (clock, hand) = Clock::manual(self.now - 600_000 + skew);
        let lease_ttl = if self.bug == Some(Bug::Undying) { 20 * TTL } else { TTL };
        let settings = Settings { lease_ttl: Duration::from_millis(lease_ttl), ..settings() };
        let unused = Arc::new(Nobody);
        let (pool, purser) = Pool::leased(&settings, clock, Some(self.random.random()), unused);
        pool.replace(vec![self.account.clone()]);
        let id = ReplicaId(Arc::from(format!("r{place}-{}", self.random.random::<u32>())));
        Replica {
            pool,
            purser,
            hand,
            id,
            under_way: Vec::new(),
            waiting: Vec::new(),
            out: None,
            sent: 0,
            heard: self.now,
        }
    }

    fn step(&mut self) -> Result<(), Broken> {
        if self.random.random_bool(0.03) {
            self.is_storm = !self.is_storm;
        }
        let passed = self.random.random_range(1..if self.is_storm { 20 } else { 400 });
        self.now += passed;
        for replica in &self.replicas {
            replica.hand.advance(Duration::from_millis(passed));
        }
        let cut_off = |replica: &Replica| !replica.under_way.is_empty() && self.now > replica.heard + 4_000;
        self.was_cut_off |= self.replicas.iter().any(cut_off);
        let place = self.random.random_range(0..self.replicas.len());
        match self.random.random_range(0..100) {
            0..=54 if self.is_storm => self.request(place)?,
            0..=9 => self.request(place)?,
            40..=69 => self.end_one(place),
            70 if !self.is_calm => self.kill(place),
            71 if !self.is_calm => self.away_until = self.now + self.random.random_range(100..3_000),
            72 if !self.is_calm && self.bug == Some(Bug::Forgotten) => self.books = self.safe.clone(),
            _ => {}
        }
        (0..self.replicas.len()).for_each(|place| self.send(place));
        self.deliver()
    }

    fn request(&mut self, place: usize) -> Result<(), Broken> {
        let tokens = self.random.random_range(1..400);
        self.try_request(place, tokens, self.now + 1_000)
    }

    fn try_request(&mut self, place: usize, tokens: u64, until: u64) -> Result<(), Broken> {
        let Some(replica) = self.replicas.get_mut(place) else { return Ok(()) };
        let (tenant, platform) = (TenantId::from("t"), PlatformName::from("qwen"));
        let want = Want {
            tenant: &tenant,
            platform: &platform,
            model: "m",
            tokens,
            strategy: Strategy::Headroom,
            affinity: None,
            tried: &[],
        };
        match replica.pool.take(&want) {
            Ok(reservation) => {
                let number = self.truth.admitted.len();
                replica.under_way.push((reservation, tokens, number));
                self.truth.admitted.push((self.now, tokens));
                self.truth.tokens_today += tokens;
                self.truth.under_way += 1;
                self.served += 1;
                self.judge()
            }
            Err(refusal) if refusal.why == Why::Asking && self.now < until => {
                replica.waiting.push((tokens, until));
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// Holds the truth against the limits.
    fn judge(&self) -> Result<(), Broken> {
        let Truth { admitted, tokens_today, beyond, under_way } = &self.truth;
        if let Some(limit) = self.limits.daily_tokens
            && *tokens_today > limit + beyond
        {
            return Err(format!("{tokens_today} tokens today, {limit} allowed, {beyond} beyond estimates"));
        }
        // One that is cut off for seconds is taken for dead; what it began before is then beyond the limit, as told there.
        if let Some(limit) = self.limits.concurrency
            && !self.was_cut_off
            && *under_way > limit
        {
            return Err(format!("{under_way} requests at once, {limit} allowed"));
        }
        let requests = self.limits.rpm.map(|rpm| (rpm, (rpm / 10).max(1), true));
        let tokens = self.limits.tpm.map(|tpm| (tpm, tpm, false));
        for (rate, burst, is_requests) in requests.into_iter().chain(tokens) {
            let mut sum = 0;
            for (at, cost) in admitted.iter().rev() {
                sum += if is_requests { 1 } else { *cost };
                let window = self.now - at + TTL;
                let allowed =
                    burst + (rate * window).div_ceil(60_000) + if is_requests { 0 } else { *beyond };
                if sum > allowed {
                    return Err(format!(
                        "{sum} within {} ms, {allowed} allowed at {rate} a minute",
                        self.now - at
                    ));
                }
            }
        }
        Ok(())
    }

    fn end_one(&mut self, place: usize) {
        let chance = self.random.random_range(0..100);
        let Some(replica) = self.replicas.get_mut(place) else { return };
        if replica.under_way.is_empty() {
            return;
        }
        let (reservation, tokens, number) = replica.under_way.swap_remove(0);
        self.truth.under_way -= 1;
        let really = match chance {
            0..=69 => tokens * chance / 70,
            70..=89 => tokens,
            _ => tokens + chance,
        };
        if chance == 99 {
            // Dropped: its whole estimate counts.
            return drop(reservation);
        }
        reservation.settle(used(really));
        self.truth.tokens_today = self.truth.tokens_today + really - tokens;
        self.truth.beyond += really.saturating_sub(tokens);
        if let Some((_, cost)) = self.truth.admitted.get_mut(number) {
            *cost = really;
        }
    }

    /// Its requests die with it; what they were admitted for stays used.
    fn kill(&mut self, place: usize) {
        let newborn = self.born(place);
        let Some(replica) = self.replicas.get_mut(place) else { return };
        let dead = std::mem::replace(replica, newborn);
        self.truth.under_way -= dead.under_way.len() as u64;
        if self.bug == Some(Bug::Resurrected) {
            let bid = Bid {
                account: AccountId::from("a"),
                serial: u64::MAX,
                lines: dead.purser_lines(),
                rests: Default::default(),
            };
            if let Some(book) = self.books.get_mut(&bid.account) {
                book.carry_out(&dead.id, &bid, self.now);
            }
        }
        for (reservation, ..) in dead.under_way {
            std::mem::forget(reservation);
        }
        if let Some(births) = self.births.get_mut(place) {
            *births += 1;
        }
    }

    fn send(&mut self, place: usize) {
        let (Some(replica), Some(born), Some(round)) =
            (self.replicas.get_mut(place), self.births.get(place), self.rounds.get_mut(place))
        else {
            return;
        };
        // A round that was lost goes out again, as it was.
        if replica.out.is_some() && self.now < replica.sent + 1_000 {
            return;
        }
        let (bidders, bids) = replica.purser.gather(false);
        if bids.is_empty() {
            return;
        }
        *round += 1;
        replica.sent = self.now;
        replica.out = Some((bidders, bids.clone()));
        let message = |random: &mut SmallRng| Message {
            arrives: self.now + random.random_range(0..if self.is_calm { 3 } else { 120 }),
            from: place,
            born: *born,
            round: *round,
            bids: bids.clone(),
            outcomes: None,
        };
        let first = message(&mut self.random);
        self.wire.push(first);
        if !self.is_calm && self.random.random_bool(0.05) {
            let mut double = message(&mut self.random);
            double.arrives += self.random.random_range(0..2_000);
            self.wire.push(double);
        }
    }

    fn deliver(&mut self) -> Result<(), Broken> {
        let (due, later): (Vec<Message>, Vec<Message>) =
            std::mem::take(&mut self.wire).into_iter().partition(|message| message.arrives <= self.now);
        self.wire = later;
        for message in due {
            if !self.is_calm && self.random.random_bool(0.03) {
                continue;
            }
            match message.outcomes {
                None if self.now < self.away_until => {}
                None => self.carry_out(message),
                Some(_) => self.hear(message)?,
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, mut message: Message) {
        let Some(replica) = self
            .replicas
            .get_mut(message.from)
            .filter(|_| self.births.get(message.from) == Some(&message.born))
        else {
            // From a dead replica: it is carried out all the same, and nobody hears the answer.
            return;
        };
        replica.heard = self.now;
        let id = replica.id.clone();
        if self.random.random_bool(0.1) {
            self.safe = self.books.clone();
        }
        let outcomes = message.bids.iter().map(|bid| {
            let key =
                if self.bug == Some(Bug::Apart) { AccountId::from(&*id.0) } else { bid.account.clone() };
            let book = self.books.entry(key).or_default();
            match self.bug {
                Some(Bug::Again) => {
                    let mut bid = bid.clone();
                    bid.serial = self.served * 1_000 + self.now;
                    book.carry_out(&id, &bid, self.now)
                }
                Some(Bug::Overtaken) => {
                    book.forget_answers();
                    book.carry_out(&id, bid, self.now)
                }
                _ => book.carry_out(&id, bid, self.now),
            }
        });
        message.outcomes = Some(outcomes.collect());
        message.arrives = self.now + self.random.random_range(0..if self.is_calm { 3 } else { 120 });
        self.wire.push(message);
    }

    fn hear(&mut self, message: Message) -> Result<(), Broken> {
        let place = message.from;
        if self.births.get(place) != Some(&message.born) || self.rounds.get(place) != Some(&message.round) {
            return Ok(());
        }
        let Some(replica) = self.replicas.get_mut(place) else { return Ok(()) };
        let (Some(outcomes), Some((bidders, bids))) = (message.outcomes, replica.out.take()) else {
            return Ok(());
        };
        replica.purser.hear(&bidders, &bids, outcomes);
        for (tokens, until) in std::mem::take(&mut replica.waiting) {
            self.try_request(place, tokens, until)?;
        }
        Ok(())
    }
}

impl Replica {
    /// What it would say if everything it held were free.
    fn purser_lines(&self) -> smallvec::SmallVec<[super::super::bid::Line; 4]> {
        let Some((_, bids)) = &self.out else { return Default::default() };
        let lines = bids.iter().flat_map(|bid| bid.lines.iter().cloned());
        lines.map(|line| super::super::bid::Line { used: 0, keep: 0, need: 0, want: 0, ..line }).collect()
    }
}

fn run(seed: u64, bug: Option<Bug>, account: &Account) -> Result<u64, Broken> {
    let mut sim = Sim::new(seed, bug, false, account);
    for _ in 0..400 {
        sim.step().map_err(|broken| format!("seed {seed}: {broken}; {:?}", sim.limits))?;
    }
    Ok(sim.served)
}

/// How many schedules; another number with `WEIR_SCHEDULES`.
#[expect(clippy::disallowed_methods, reason = "a test's own size is no matter of configuration")]
fn schedules() -> u64 {
    std::env::var("WEIR_SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(2_000)
}

#[test]
fn no_schedule_breaks_a_limit() {
    let (mut served, account) = (0, account("a"));
    for seed in 0..schedules() {
        served += run(seed, None, &account).unwrap();
    }
    assert!(served > schedules() * 20, "hardly anything was admitted: {served}");
}

#[test]
fn bugs_planted_on_purpose_are_found() {
    let account = account("a");
    let bugs = [Bug::Again, Bug::Overtaken, Bug::Resurrected, Bug::Forgotten, Bug::Undying, Bug::Apart];
    let missed: HashMap<u8, Bug> = (0..)
        .zip(bugs)
        .filter(|(_, bug)| (0..schedules() * 10).all(|seed| run(seed, Some(*bug), &account).is_ok()))
        .collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn without_trouble_nothing_is_stranded() {
    for seed in 0..schedules() / 50 {
        let mut sim = Sim::new(seed, None, true, &account("a"));
        sim.limits = Limits { daily_tokens: Some(20_000), ..Limits::default() };
        let limits = sim.limits;
        for replica in &sim.replicas {
            replica.pool.replace(vec![limited("a", limits)]);
        }
        for _ in 0..4_000 {
            sim.step().unwrap();
        }
        let left = 20_000 - sim.truth.tokens_today.min(20_000);
        // No request is smaller than 1 token; most are larger than what is left at the very end.
        assert!(left <= 200, "seed {seed}: {left} tokens of 20000 were never used");
    }
}
