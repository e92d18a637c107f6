//! Random choice without a lock, repeatable from a seed. Why not a generator per thread: a test that found a bad sequence
//! must be able to play it again, and one counter is all the state there is (SplitMix64).

use std::sync::atomic::{AtomicU64, Ordering};

/// Where chance comes from.
#[derive(Debug)]
pub(super) struct Dice {
    seed: u64,
    throws: AtomicU64,
}

/// The chances of one decision: a throw, and as many further numbers from it as are needed.
#[derive(Clone, Debug)]
pub(super) struct Throw(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Dice {
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self { seed: seed.unwrap_or_else(rand::random), throws: AtomicU64::new(0) }
    }

    pub(super) fn throw(&self) -> Throw {
        let number = self.throws.fetch_add(1, Ordering::Relaxed);
        Throw(mix(self.seed ^ mix(number.wrapping_mul(GOLDEN))))
    }
}

impl Throw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let scaled = (u128::from(self.next()) * end as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }

    /// 0 to 1, 1 excluded.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Spreads the bits of `number`: the finalizer of SplitMix64.
pub(super) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The same number for the same name in every process and every release: replicas must agree.
pub(super) fn hash_of(name: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_game_and_another_seed_another() {
        let game = |seed| {
            let dice = Dice::new(Some(seed));
            (0..20).map(|_| dice.throw().below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(game(1), game(1));
        assert_ne!(game(1), game(2));
    }

    #[test]
    fn every_side_comes_up_about_as_often() {
        let dice = Dice::new(Some(7));
        let mut counts = [0_u32; 10];
        for _ in 0..50_000 {
            let mut throw = dice.throw();
            counts[throw.below(10)] += 1;
            counts[throw.below(10)] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn names_keep_their_number_between_releases() {
        assert_eq!(hash_of("qwen-a"), 13_468_493_741_717_169_861);
    }
}
