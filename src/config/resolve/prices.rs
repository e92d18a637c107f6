//! The price table: from what is typed in units of a currency to whole millionths, so that sums never drift.

use super::super::field::Field;
use super::super::raw::{self, Raw};
use super::super::report::{Position, Problems, check_name};
use crate::gateway::usage::prices::{Price, Prices};
use crate::glob;

/// Dearer than any model: a mistake in the unit.
const MOST: f64 = 1_000_000.0;

/// The table, in the order of the file.
pub(super) fn table(raw: &Raw, problems: &Problems) -> Prices {
    let mut rows: Vec<(String, Price)> = Vec::new();
    for (name, row) in raw.prices.get().map(|named| named.0.as_slice()).unwrap_or_default() {
        check_name("the model's name", &name.text, name.at, problems);
        if let Some((earlier, _)) = rows.iter().find(|(pattern, _)| glob::fits(pattern, &name.text)) {
            let what = format!("never reached: `{earlier}` comes first");
            problems.add_with(name.at, what, "the first row that fits counts; put the narrower one above");
        }
        if let Some((typed, at)) = row.placed() {
            rows.push((name.text.clone(), price(typed, at, problems)));
        }
    }
    Prices::new(rows)
}

fn price(typed: &raw::Price, at: Position, problems: &Problems) -> Price {
    if typed.input.is_absent() && typed.output.is_absent() {
        problems.add_with(at, "a price without `input` and `output`", "write `{input: 2.5, output: 10}`");
    }
    let micros = |field: &Field<f64>| match field.placed() {
        Some((amount, _)) if (0.0..=MOST).contains(amount) => Some((amount * 1_000_000.0).round() as u64),
        Some((_, at)) => {
            problems.add_with(at, "not a price", "an amount for a million tokens, from 0 to 1000000");
            None
        }
        None => None,
    };
    let (input, output) = (micros(&typed.input).unwrap_or(0), micros(&typed.output).unwrap_or(0));
    Price {
        input,
        output,
        cached_input: micros(&typed.cached_input).unwrap_or(input),
        reasoning: micros(&typed.reasoning).unwrap_or(output),
    }
}
