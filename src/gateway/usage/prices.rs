//! What tokens cost. Why at the flush and not at the request: a price is looked up by name, and a row of a thousand requests
//! needs it once.

use super::Sums;
use crate::glob;

/// Prices of one family of models, in millionths of the currency for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    pub input: u64,
    pub output: u64,
    /// Of prompt tokens that came out of the platform's cache.
    pub cached_input: u64,
    /// Of completion tokens that were spent on thinking.
    pub reasoning: u64,
}

/// The price table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// By a model's name or `platform/model`; `*` stands for anything. The first that fits counts.
    rows: Vec<(String, Price)>,
}

impl Price {
    /// What these tokens cost, in millionths, rounded to the nearest.
    fn of(&self, sums: &Sums) -> u64 {
        let part = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        let cached = sums.cached_tokens.min(sums.prompt_tokens);
        let reasoning = sums.reasoning_tokens.min(sums.completion_tokens);
        let total = part(sums.prompt_tokens - cached, self.input)
            + part(cached, self.cached_input)
            + part(sums.completion_tokens - reasoning, self.output)
            + part(reasoning, self.reasoning);
        u64::try_from((total + 500_000) / 1_000_000).unwrap_or(u64::MAX)
    }
}

impl Prices {
    /// A table of these rows, in their order.
    pub fn new(rows: Vec<(String, Price)>) -> Self {
        Self { rows }
    }

    /// What `sums` of `model` on `platform` cost, in millionths; 0 where no price is known.
    pub fn cost(&self, platform: &str, model: &str, sums: &Sums) -> u64 {
        if self.rows.is_empty() {
            return 0;
        }
        let full = format!("{platform}/{model}");
        let row = self.rows.iter().find(|(name, _)| glob::fits(name, model) || glob::fits(name, &full));
        row.map_or(0, |(_, price)| price.of(sums))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: Price =
        Price { input: 2_500_000, output: 10_000_000, cached_input: 1_250_000, reasoning: 20_000_000 };

    fn sums(prompt: u64, cached: u64, completion: u64, reasoning: u64) -> Sums {
        Sums {
            prompt_tokens: prompt,
            cached_tokens: cached,
            completion_tokens: completion,
            reasoning_tokens: reasoning,
            ..Sums::default()
        }
    }

    #[test]
    fn each_kind_of_token_has_its_price() {
        assert_eq!(PRICE.of(&sums(1000, 0, 0, 0)), 2500);
        assert_eq!(PRICE.of(&sums(1000, 400, 0, 0)), 1500 + 500);
        assert_eq!(PRICE.of(&sums(0, 0, 100, 0)), 1000);
        assert_eq!(PRICE.of(&sums(0, 0, 100, 100)), 2000);
        // A platform that counts more cached tokens than prompt tokens.
        assert_eq!(PRICE.of(&sums(10, 1000, 0, 0)), 13);
        assert_eq!(PRICE.of(&sums(u64::MAX, 0, u64::MAX, 0)), u64::MAX);
        let cheap = Price { input: 150_000, ..PRICE };
        assert_eq!((cheap.of(&sums(3, 0, 0, 0)), cheap.of(&sums(4, 0, 0, 0))), (0, 1), "to the nearest");
    }

    #[test]
    fn the_first_row_that_fits_counts() {
        let other = Price { input: 1_000_000, ..PRICE };
        let prices = Prices::new(vec![
            ("gpt-4o-mini".into(), other),
            ("azure/gpt-*".into(), other),
            ("gpt-*".into(), PRICE),
            ("huggingface/meta-llama/*".into(), other),
        ]);
        let cost = |platform: &str, model: &str| prices.cost(platform, model, &sums(1000, 0, 0, 0));
        assert_eq!(cost("openai", "gpt-4o-mini"), 1000);
        assert_eq!(cost("openai", "gpt-4o"), 2500);
        assert_eq!(cost("azure", "gpt-4o"), 1000);
        assert_eq!(cost("huggingface", "meta-llama/Llama-3"), 1000);
        assert_eq!(cost("claude", "claude-opus"), 0);
    }
}
