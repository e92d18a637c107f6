//! How often somebody may come of whom nothing is known but an address: a bucket for each. Why: what they are given costs a write
//! in the store before anybody knows who they are.
//!
//! Counted in this process's memory, of addresses up to a number; whoever comes beyond that shares one bucket with the others
//! beyond it, so that neither memory nor writes grow with how many addresses somebody has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;

use super::bucket::{Bucket, Full, Rate};
use crate::clock::{Clock, Moment};

/// Most addresses that are told apart.
const MOST: usize = 10_000;

/// Between two searches for addresses that may be forgotten.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct Turnstile {
    clock: Clock,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    buckets: HashMap<IpAddr, Bucket>,
    /// Of all who do not fit in there.
    others: Bucket,
    swept: Option<Moment>,
}

impl Turnstile {
    /// Nobody has come yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, seen: Mutex::default() }
    }

    /// Lets one in from an address, of which so many may come in a minute, all of them at once or not.
    ///
    /// # Errors
    /// How long to wait; nothing is counted then.
    pub fn pass(&self, from: IpAddr, per_minute: u64) -> Result<(), Duration> {
        let rate = Rate { per_minute: per_minute.max(1), burst: per_minute.max(1) };
        let now = self.clock.now();
        let mut seen = self.seen.lock();
        let place = network(from);
        if !seen.buckets.contains_key(&place) {
            seen.make_room(rate, now);
        }
        let is_known = seen.buckets.contains_key(&place) || seen.buckets.len() < MOST;
        let bucket = match is_known {
            true => seen.buckets.entry(place).or_default(),
            false => &mut seen.others,
        };
        match rate.put(*bucket, 1, now) {
            Ok(fuller) => {
                *bucket = fuller;
                Ok(())
            }
            Err(Full::For(wait)) => Err(wait),
            Err(Full::Forever) => Err(PAUSE),
        }
    }
}

impl Seen {
    /// Forgets addresses of which nothing counts any more, where there are very many.
    fn make_room(&mut self, rate: Rate, now: Moment) {
        let is_due = self.swept.is_none_or(|swept| now.since(swept) >= PAUSE);
        if self.buckets.len() >= MOST && is_due {
            self.buckets.retain(|_, bucket| !rate.room(*bucket, now).reset.is_zero());
            self.swept = Some(now);
        }
    }
}

/// An address as one counts: of the new kind, whoever has one has 2^64 of them.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_address_has_its_own_and_knows_when_to_come_back() {
        let (clock, hand) = Clock::manual(0);
        let stile = Turnstile::new(clock);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..30 {
            assert_eq!(stile.pass(one, 30), Ok(()));
        }
        let wait = stile.pass(one, 30).expect_err("full");
        assert_eq!(wait, Duration::from_secs(2));
        assert_eq!(stile.pass(address("::ffff:192.0.2.1"), 30), Err(wait), "the same one in other clothes");
        assert_eq!(stile.pass(other, 30), Ok(()));
        hand.advance(wait);
        assert_eq!(stile.pass(one, 30), Ok(()));
        assert!(stile.pass(one, 30).is_err());
    }

    #[test]
    fn a_network_of_the_new_kind_is_one() {
        let (clock, _) = Clock::manual(0);
        let stile = Turnstile::new(clock);
        assert_eq!(stile.pass(address("2001:db8:1:2::1"), 1), Ok(()));
        assert!(stile.pass(address("2001:db8:1:2:ffff:ffff:ffff:ffff"), 1).is_err());
        assert_eq!(stile.pass(address("2001:db8:1:3::1"), 1), Ok(()));
    }

    #[test]
    fn whoever_has_very_many_addresses_is_bounded_too() {
        let (clock, hand) = Clock::manual(0);
        let stile = Turnstile::new(clock);
        let many = |from: u32| (from..from + 30_000).map(|bits| IpAddr::V4(bits.into()));
        let passed = many(1 << 24).filter(|from| stile.pass(*from, 1).is_ok()).count();
        assert_eq!((passed, stile.seen.lock().buckets.len()), (MOST + 1, MOST));
        // A minute later all of it is forgotten.
        hand.advance(Duration::from_secs(61));
        assert!(many(2 << 24).take(5).all(|from| stile.pass(from, 1).is_ok()));
        assert_eq!(stile.seen.lock().buckets.len(), 5);
    }
}
