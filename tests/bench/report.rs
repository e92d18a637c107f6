//! The table: medians over the rounds, and the ratio to nginx.

use std::fmt;

use serde_json::{Value, json};

/// What one subject measured under one name, round by round.
#[derive(Default)]
struct Row {
    name: &'static str,
    /// By subject.
    rounds: Vec<Vec<f64>>,
}

/// All that was measured.
pub struct Report {
    subjects: Vec<String>,
    rows: Vec<Row>,
}

/// The value below which `share` of all lie; 0 where there are none. Sorts `values`.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a list, computed from a share of it"
)]
pub fn quantile(values: &mut [u64], share: f64) -> f64 {
    values.sort_unstable();
    let at = ((values.len() as f64) * share) as usize;
    values.get(at.min(values.len().saturating_sub(1))).map_or(0.0, |value| *value as f64)
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied()?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    values.get(middle.checked_sub(1)?).map(|lower| f64::midpoint(*lower, upper))
}

impl Report {
    /// An empty one.
    pub fn new(subjects: Vec<String>) -> Self {
        Self { subjects, rows: Vec::new() }
    }

    /// Adds one round's value.
    pub fn note(&mut self, subject: usize, name: &'static str, value: f64) {
        if !self.rows.iter().any(|row| row.name == name) {
            self.rows.push(Row { name, rounds: vec![Vec::new(); self.subjects.len()] });
        }
        let row = self.rows.iter_mut().find(|row| row.name == name);
        if let Some(rounds) = row.and_then(|row| row.rounds.get_mut(subject)) {
            rounds.push(value);
        }
    }

    /// Everything, with each round.
    pub fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let by_subject = self.subjects.iter().zip(&row.rounds).map(|(subject, rounds)| {
                (subject.clone(), json!({"median": median(rounds), "rounds": rounds}))
            });
            (row.name.to_owned(), Value::Object(by_subject.collect()))
        });
        Value::Object(rows.collect())
    }

    fn floor(&self) -> Option<usize> {
        self.subjects.iter().position(|subject| subject == "nginx")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = 14;
        write!(out, "\n{:<36}", "median")?;
        for subject in &self.subjects {
            write!(out, "{subject:>width$}")?;
        }
        writeln!(out, "   last / nginx")?;
        for row in &self.rows {
            let medians: Vec<Option<f64>> = row.rounds.iter().map(|rounds| median(rounds)).collect();
            write!(out, "{:<36}", row.name)?;
            for value in &medians {
                match value {
                    Some(value) => write!(out, "{value:>width$.1}")?,
                    None => write!(out, "{:>width$}", "-")?,
                }
            }
            let floor = self.floor().and_then(|floor| *medians.get(floor)?);
            match (medians.last(), floor) {
                (Some(Some(ours)), Some(floor)) if floor > 0.0 => writeln!(out, "{:>14.2}x", ours / floor)?,
                _ => writeln!(out)?,
            }
        }
        Ok(())
    }
}
