//! Usage as somebody wants to see it: summed by some of its columns, over some days. Bounded on every side: by the rows
//! that it reads, and by those that it gives.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde_json::{Map, Value, json};

use super::{COLUMNS, Sums, csv};
use crate::store::{MAX_PAGE, Records, StoreError};

/// With what the keys of our totals begin.
pub(super) const PREFIX: &str = "usage/";

/// Rows of a report, unless another number is asked for, and at most.
pub const DEFAULT_ROWS: usize = 1000;
pub const MOST_ROWS: usize = 10_000;

/// Totals that one report reads at most.
const MOST_READ: usize = 1_000_000;

/// What may be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Day,
    Month,
    Tenant,
    /// A JWT's `sub`, or a key's id.
    Caller,
    Account,
    Platform,
    Model,
}

impl Column {
    /// All of them.
    pub const ALL: [Column; 7] = [
        Column::Day,
        Column::Month,
        Column::Tenant,
        Column::Caller,
        Column::Account,
        Column::Platform,
        Column::Model,
    ];

    /// Its name in queries, tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Column::Day => "day",
            Column::Month => "month",
            Column::Tenant => "tenant",
            Column::Caller => "caller",
            Column::Account => "account",
            Column::Platform => "platform",
            Column::Model => "model",
        }
    }

    fn of<'a>(self, day: &'a str, names: &'a [String; 5]) -> &'a str {
        let [tenant, caller, account, platform, model] = names;
        match self {
            Column::Day => day,
            Column::Month => day.get(..7).unwrap_or(day),
            Column::Tenant => tenant,
            Column::Caller => caller,
            Column::Account => account,
            Column::Platform => platform,
            Column::Model => model,
        }
    }
}

impl std::str::FromStr for Column {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Column::ALL.into_iter().find(|column| column.as_str() == text);
        found.ok_or_else(|| format!("'{text}' is none of {}", Column::ALL.map(Column::as_str).join(", ")))
    }
}

/// What somebody wants to see.
#[derive(Clone, Debug)]
pub struct Query {
    /// What is told apart; nothing: one row.
    pub by: Vec<Column>,
    /// The first day, and the last.
    pub from: Date,
    pub to: Date,
    /// Only what is exactly so.
    pub only: Vec<(Column, String)>,
    /// Rows at most.
    pub limit: usize,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug)]
pub struct Report {
    query: Query,
    rows: Vec<(Vec<String>, Sums)>,
    total: Sums,
    /// There is more than was read, or than is shown.
    is_cut: bool,
}

impl Query {
    /// From words as they are typed: `by` comma-separated, days as `2026-11-21`; both ends today where they are left out, or the
    /// first of the month where only the end is.
    ///
    /// # Errors
    /// What cannot be understood.
    pub fn read(by: &str, from: Option<&str>, to: Option<&str>, today: Date) -> Result<Self, String> {
        let date = |text: &str| {
            text.parse::<Date>().map_err(|_| format!("'{}' is no day such as {today}", text.escape_debug()))
        };
        let by = by.split(',').map(str::trim).filter(|word| !word.is_empty());
        let by = by.map(str::parse).collect::<Result<Vec<Column>, _>>()?;
        let to = to.map_or(Ok(today), date)?;
        let from = from.map_or_else(|| Ok(to.first_of_month()), date)?;
        if from > to {
            return Err(format!("the first day ({from}) is after the last ({to})"));
        }
        Ok(Self { by, from, to, only: Vec::new(), limit: DEFAULT_ROWS })
    }

    /// Reads what is kept and sums it up.
    ///
    /// # Errors
    /// The store's own.
    pub async fn run(self, records: &dyn Records) -> Result<Report, StoreError> {
        let mut groups: BTreeMap<Vec<String>, Sums> = BTreeMap::new();
        let (mut total, mut read, mut is_cut) = (Sums::default(), 0, false);
        let limit = self.limit.clamp(1, MOST_ROWS);
        let last = self.to.to_string();
        // Sorts before every key of its day.
        let mut after = format!("{PREFIX}{}", self.from);
        'pages: loop {
            let page = records.totals(PREFIX, Some(&after), MAX_PAGE).await?;
            let Some((end, _)) = page.last() else { break };
            after.clone_from(end);
            for (key, columns) in &page {
                let Some((day, names)) = parse(key) else { continue };
                if day > last.as_str() || read >= MOST_READ {
                    is_cut |= day <= last.as_str();
                    break 'pages;
                }
                read += 1;
                if !self.only.iter().all(|(column, wanted)| column.of(day, &names) == wanted) {
                    continue;
                }
                let sums = Sums::of_columns(columns.iter().map(|sum| u64::try_from(*sum).unwrap_or(0)));
                total.add(&sums);
                let group: Vec<String> =
                    self.by.iter().map(|column| column.of(day, &names).to_owned()).collect();
                if groups.len() < limit || groups.contains_key(&group) {
                    groups.entry(group).or_default().add(&sums);
                } else {
                    is_cut = true;
                }
            }
        }
        Ok(Report { query: self, rows: groups.into_iter().collect(), total, is_cut })
    }
}

pub(super) fn parse(key: &str) -> Option<(&str, [String; 5])> {
    let (day, names) = key.strip_prefix(PREFIX)?.split_once('/')?;
    Some((day, serde_json::from_str(names).ok()?))
}

fn fields(sums: &Sums) -> impl Iterator<Item = (String, Value)> {
    COLUMNS.into_iter().zip(sums.columns()).map(|(name, sum)| (name.to_owned(), sum.into()))
}

impl Report {
    /// As JSON.
    pub fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|(group, sums)| {
            let names = self.query.by.iter().zip(group);
            let names = names.map(|(column, name)| (column.as_str().to_owned(), Value::from(name.as_str())));
            Value::Object(names.chain(fields(sums)).collect::<Map<_, _>>())
        });
        json!({
            "from": self.query.from.to_string(),
            "to": self.query.to.to_string(),
            "by": self.query.by.iter().map(|column| column.as_str()).collect::<Vec<_>>(),
            "rows": rows.collect::<Vec<_>>(),
            "total": fields(&self.total).collect::<Map<_, _>>(),
            "truncated": self.is_cut,
        })
    }

    /// As CSV, with a line of names.
    pub fn to_csv(&self) -> String {
        let mut out = String::new();
        let names = self.query.by.iter().map(|column| column.as_str());
        csv::line(names.chain(COLUMNS), &mut out);
        for (group, sums) in &self.rows {
            let sums = sums.columns().map(|sum| sum.to_string());
            csv::line(group.iter().chain(&sums), &mut out);
        }
        out
    }

    /// As a table for a person.
    pub fn to_text(&self) -> String {
        const HEADS: [&str; 7] =
            ["requests", "failed", "estimated", "prompt", "completion", "cached", "reasoning"];
        let by = self.query.by.iter().map(|column| column.as_str());
        let mut lines: Vec<Vec<String>> =
            vec![by.chain(HEADS).chain(["cost"]).map(str::to_uppercase).collect()];
        let cells = |group: Vec<String>, sums: &Sums| {
            let numbers = sums.columns();
            let counts = numbers.iter().take(HEADS.len()).map(u64::to_string);
            let cost = format!("{}.{:06}", sums.cost_micros / 1_000_000, sums.cost_micros % 1_000_000);
            group.into_iter().chain(counts).chain([cost]).collect::<Vec<String>>()
        };
        let printable = |name: &String| name.chars().filter(|symbol| !symbol.is_control()).collect();
        for (group, sums) in &self.rows {
            lines.push(cells(group.iter().map(printable).collect(), sums));
        }
        let mut group = vec![String::new(); self.query.by.len()];
        if let Some(first) = group.first_mut() {
            "TOTAL".clone_into(first);
        }
        lines.push(cells(group, &self.total));
        aligned(&lines, self.query.by.len(), self.is_cut)
    }
}

/// Names to the left, numbers to the right.
fn aligned(lines: &[Vec<String>], names: usize, is_cut: bool) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let gap = if column > 0 { "  " } else { "" };
            let cell =
                if column < names { format!("{gap}{cell:<width$}") } else { format!("{gap}{cell:>width$}") };
            text.push_str(&cell);
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    if is_cut {
        out.push_str("There is more: name fewer days, fewer columns, or a higher limit.\n");
    }
    out
}
