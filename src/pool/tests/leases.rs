//! The hot path draws from leases, whoever grants them: two pools that share a grudging authority keep one limit together.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::*;
use crate::clock::Moment;

/// Grants chunks of `chunk` units out of `left`, each living for a minute.
#[derive(Debug)]
struct Grudging {
    chunk: u64,
    left: Mutex<HashMap<&'static str, u64>>,
    serial: Mutex<u32>,
}

impl Grudging {
    fn new(chunk: u64, left: &[(&'static str, u64)]) -> Arc<Self> {
        let left = Mutex::new(left.iter().copied().collect());
        Arc::new(Self { chunk, left, serial: Mutex::new(0) })
    }
}

impl Authority for Arc<Grudging> {
    fn extend(&self, _: &AccountId, dimension: Dimension, held: Lease, need: u64, now: Moment) -> Lease {
        let mut left = self.left.lock();
        let left = left.get_mut(dimension.as_str()).unwrap();
        // What an ended lease still held is lost: counted as spent.
        let kept = if now < held.until { held.units } else { 0 };
        let grant = self.chunk.max(need.saturating_sub(kept)).min(*left);
        *left -= grant;
        let mut serial = self.serial.lock();
        *serial += 1;
        Lease { serial: *serial, units: kept + grant, until: now + seconds(60) }
    }
}

fn world(authority: &Arc<Grudging>, limits: Limits) -> World {
    let mut world = World::new(Vec::new());
    let (clock, hand) = Clock::manual(NOON);
    world.pool = Pool::with_authority(settings(), clock, Some(1), Box::new(Arc::clone(authority)));
    world.hand = hand;
    world.pool.replace(vec![limited("a", limits)]);
    world
}

const DAILY: Limits = Limits {
    daily_tokens: Some(1000),
    rpm: None,
    tpm: None,
    concurrency: None,
    daily_requests: None,
    monthly_budget: None,
    burst: None,
};

#[test]
fn two_replicas_together_admit_one_limit_and_not_two() {
    let authority = Grudging::new(150, &[("daily_tokens", 1000)]);
    let replicas = [world(&authority, DAILY), world(&authority, DAILY)];
    let mut admitted = 0;
    let mut held = Vec::new();
    for round in 0..40 {
        if let Ok(taken) = replicas[round % 2].take() {
            admitted += taken.tokens();
            held.push(taken);
        }
    }
    assert!((900..=1000).contains(&admitted), "{admitted}");
    assert_eq!(replicas[0].refusal(), (Why::Unavailable, Some(seconds(1))));
    assert_eq!(replicas[0].take().unwrap_err().into_fault().get_code(), Some("pool_unavailable"));
}

#[test]
fn what_was_not_used_goes_back_into_its_own_lease_and_never_into_a_later_one() {
    let authority = Grudging::new(1000, &[("daily_tokens", 1000)]);
    let world = world(&authority, DAILY);
    let early = world.take().unwrap();
    world.take().unwrap().settle(used(0));
    let all: Vec<_> = (0..9).map(|_| world.take().unwrap()).collect();
    assert!(world.take().is_err());
    all.into_iter().for_each(|taken| taken.settle(used(0)));
    world.pass(seconds(61));
    *authority.left.lock().get_mut("daily_tokens").unwrap() = 100;
    let late = world.take().unwrap();
    early.settle(used(0));
    assert_eq!(world.refusal().0, Why::Unavailable, "the early lease has ended: what it lent out is gone");
    late.settle(used(0));
}

#[test]
fn a_lease_that_is_short_in_one_limit_reserves_in_none() {
    let authority = Grudging::new(1, &[("daily_tokens", 1000), ("concurrency", 0)]);
    let world = world(&authority, Limits { concurrency: Some(5), ..DAILY });
    assert_eq!(world.refusal().0, Why::Unavailable);
    assert_eq!((world.state("a").in_flight, world.left("a", Dimension::DailyTokens)), (0, 1000));
    authority.left.lock().insert("concurrency", 5);
    assert!(world.take().is_ok(), "and the tokens that were fetched for it are still there");
}
