//! What estimates have been worth: for each platform and model, how many tokens a request really took for each one that
//! was guessed. Why learned: a tokenizer differs by model and costs more than everything else on the path; the ratio is
//! nearly a constant of the model, and every settled answer tells it.
//!
//! One atomic word for each model in a table of fixed size: reading it takes no lock, and names that callers make up cannot make it
//! grow. Two models may share a word once in millions of years; the estimate is then off, and nothing else.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::PlatformName;

/// Words in the table: more models than anybody serves.
const WORDS: usize = 2048;

/// Places where a model's word may stand.
const PROBES: usize = 8;

/// A ratio of 1 as it stands in a word.
const ONE: u16 = 8192;
/// Beyond these an answer was odd, and not the estimate wrong.
const LEAST: u16 = ONE / 4;
const MOST: u16 = ONE * 4 - 1;

/// From so many answers on, each further one weighs as if so many had come: what is old is forgotten.
const MEMORY: u64 = 16;

/// Answers that say less about the ratio than about what surrounds every request, in tokens.
const TOO_SHORT: u64 = 8;

/// Ratios of all models.
#[derive(Debug)]
pub struct Calibration {
    words: Box<[AtomicU64]>,
}

/// How a model's estimates are corrected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    key: u64,
    prompt: u16,
    answer: u16,
}

/// A word: the model's tag (24 bits), answers seen (8), the two ratios (16 each).
#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    fn new(tag: u64, seen: u64, prompt: u16, answer: u16) -> Self {
        Self((tag & 0xff_ffff) << 40 | seen.min(0xff) << 32 | u64::from(prompt) << 16 | u64::from(answer))
    }

    fn tag(self) -> u64 {
        self.0 >> 40
    }

    fn seen(self) -> u64 {
        self.0 >> 32 & 0xff
    }

    fn prompt(self) -> u16 {
        (self.0 >> 16 & 0xffff) as u16
    }

    fn answer(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

impl Default for Calibration {
    fn default() -> Self {
        Self { words: (0..WORDS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Default for Gauge {
    fn default() -> Self {
        Self { key: 0, prompt: ONE, answer: ONE }
    }
}

impl Gauge {
    /// Tokens of a prompt of which `guessed` were guessed.
    pub fn prompt(self, guessed: u64) -> u64 {
        scaled(guessed, self.prompt)
    }

    /// Tokens of an answer of which `guessed` were guessed.
    pub fn answer(self, guessed: u64) -> u64 {
        scaled(guessed, self.answer)
    }

    /// The guess that stands for so many tokens of an answer: the inverse of [`Self::answer`].
    pub fn guess_of_answer(self, tokens: u64) -> u64 {
        tokens.saturating_mul(u64::from(ONE)) / u64::from(self.answer.max(1))
    }
}

fn scaled(guessed: u64, ratio: u16) -> u64 {
    let exact = u128::from(guessed) * u128::from(ratio);
    u64::try_from(exact.div_ceil(u128::from(ONE))).unwrap_or(u64::MAX)
}

impl Calibration {
    /// How estimates for `model` of `platform` are corrected at present.
    pub fn gauge(&self, platform: &PlatformName, model: &str) -> Gauge {
        let mut hasher = DefaultHasher::new();
        (platform.as_str(), model).hash(&mut hasher);
        // Zero is nobody's key.
        let key = hasher.finish() | 1;
        match self.places(key).find(|word| Word(word.load(Ordering::Relaxed)).tag() == tag(key)) {
            Some(word) => {
                let word = Word(word.load(Ordering::Relaxed));
                Gauge { key, prompt: word.prompt(), answer: word.answer() }
            }
            None => Gauge { key, ..Gauge::default() },
        }
    }

    /// Learns from one answer: pairs of what was guessed (uncorrected) and what it was, for the prompt and the answer.
    pub fn learn(&self, gauge: Gauge, prompt: (u64, u64), answer: Option<(u64, u64)>) {
        if gauge.key == 0 {
            return;
        }
        let (prompt, answer) = (ratio(prompt), answer.and_then(ratio));
        if prompt.is_none() && answer.is_none() {
            return;
        }
        let Some(place) = self.place_for(gauge.key) else { return };
        // Of two at once one may be lost: another will come.
        let _ = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let old = Word(word);
            let seen = old.seen();
            let mix = |old: u16, new: Option<u16>| new.map_or(old, |new| mixed(old, new, seen));
            Some(Word::new(tag(gauge.key), seen + 1, mix(old.prompt(), prompt), mix(old.answer(), answer)).0)
        });
    }

    fn places(&self, key: u64) -> impl Iterator<Item = &AtomicU64> {
        let first = usize::try_from(key >> 1).unwrap_or(0) % WORDS;
        (0..PROBES).filter_map(move |step| self.words.get((first + step) % WORDS))
    }

    /// The model's word, made where there is none. Where all places are taken the least used of them ages, and gives way
    /// in the end.
    fn place_for(&self, key: u64) -> Option<&AtomicU64> {
        let known = |word: &&AtomicU64| Word(word.load(Ordering::Relaxed)).tag() == tag(key);
        if let Some(place) = self.places(key).find(known) {
            return Some(place);
        }
        let place = self.places(key).min_by_key(|word| Word(word.load(Ordering::Relaxed)).seen())?;
        let old = Word(place.load(Ordering::Relaxed));
        if old.seen() > 0 {
            let aged = Word::new(old.tag(), old.seen() - 1, old.prompt(), old.answer());
            let _ = place.compare_exchange(old.0, aged.0, Ordering::Relaxed, Ordering::Relaxed);
            return None;
        }
        let fresh = Word::new(tag(key), 0, ONE, ONE);
        place.compare_exchange(old.0, fresh.0, Ordering::Relaxed, Ordering::Relaxed).ok().map(|_| place)
    }
}

/// Never 0, which is the tag of an empty word.
fn tag(key: u64) -> u64 {
    (key >> 40).max(1)
}

fn ratio((guessed, real): (u64, u64)) -> Option<u16> {
    if guessed < TOO_SHORT || real == 0 {
        return None;
    }
    let exact = u128::from(real) * u128::from(ONE) / u128::from(guessed);
    Some(u16::try_from(exact).unwrap_or(u16::MAX).clamp(LEAST, MOST))
}

/// The mean of the first answers, and then a mean that forgets.
fn mixed(old: u16, new: u16, seen: u64) -> u16 {
    let weight = (seen + 1).min(MEMORY);
    let sum = u64::from(old) * (weight - 1) + u64::from(new);
    u16::try_from((sum + weight / 2) / weight).unwrap_or(ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PlatformName {
        text.into()
    }

    #[test]
    fn after_fifty_answers_the_estimate_is_within_fifteen_percent() {
        let calibration = Calibration::default();
        let platform = name("qwen");
        // Tokens for each guessed one: a model of long tokens, one of short ones; each request is off by up to 20 %.
        for (model, true_ratio) in [("a", 0.55), ("b", 1.0), ("c", 1.9)] {
            for round in 0..50_u64 {
                let guessed = 100 + round * 37 % 900;
                let noise = 0.8 + 0.4 * (round * 7 % 10) as f64 / 9.0;
                let real = (guessed as f64 * true_ratio * noise) as u64;
                let gauge = calibration.gauge(&platform, model);
                calibration.learn(gauge, (guessed, real), Some((guessed, real / 2)));
            }
            let gauge = calibration.gauge(&platform, model);
            for guessed in [100, 1000, 100_000] {
                let off =
                    |corrected: u64, ratio: f64| (corrected as f64 / (guessed as f64 * ratio) - 1.0).abs();
                assert!(off(gauge.prompt(guessed), true_ratio) < 0.15, "{model}: {gauge:?}");
                assert!(off(gauge.answer(guessed), true_ratio / 2.0) < 0.15, "{model}: {gauge:?}");
            }
        }
        assert_eq!(calibration.gauge(&name("other"), "a").prompt(1000), 1000, "nothing is known of it");
    }

    #[test]
    fn odd_answers_are_bounded_and_old_ones_forgotten() {
        let calibration = Calibration::default();
        let platform = name("p");
        let gauge = calibration.gauge(&platform, "m");
        calibration.learn(gauge, (10, u64::MAX), None);
        assert_eq!(calibration.gauge(&platform, "m").prompt(1000), 4000);
        for _ in 0..100 {
            calibration.learn(gauge, (1000, 1), None);
        }
        assert!((250..300).contains(&calibration.gauge(&platform, "m").prompt(1000)));
        // Says nothing.
        calibration.learn(gauge, (1, 100), None);
        calibration.learn(gauge, (100, 0), Some((0, 9)));
        assert!(calibration.gauge(&platform, "m").prompt(1000) < 300);
        assert!(calibration.gauge(&platform, "m").prompt(u64::MAX) > u64::MAX / 5, "no overflow");
    }

    #[test]
    fn names_without_end_neither_fill_it_nor_push_out_what_is_used() {
        let calibration = Calibration::default();
        let platform = name("p");
        for round in 0..50_000 {
            let made_up = calibration.gauge(&platform, &format!("made-up-{round}"));
            calibration.learn(made_up, (100, 400), None);
            if round % 10 == 0 {
                let used = calibration.gauge(&platform, "used");
                calibration.learn(used, (100, 50), None);
            }
        }
        assert_eq!(calibration.gauge(&platform, "used").prompt(1000), 500);
    }

    #[test]
    fn what_bytes_a_budget_is_worth_is_the_inverse() {
        let calibration = Calibration::default();
        let gauge = calibration.gauge(&name("p"), "m");
        calibration.learn(gauge, (100, 100), Some((100, 37)));
        let gauge = calibration.gauge(&name("p"), "m");
        for tokens in [1, 10, 1000, 123_456] {
            let there_and_back = gauge.answer(gauge.guess_of_answer(tokens));
            assert!(there_and_back.abs_diff(tokens) <= 1, "{tokens} {there_and_back}");
        }
    }
}
