//! A book as it lies on disk. Only what must outlive the process: what was granted, not to whom, and how long the account rests. There
//! is one process, and when the file is read again that process is no more.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::bid::{Dimension, Gauge, Rest};
use super::super::limit::rate::{Rate, RateRecord};
use super::Book;
use super::flow::Flow;
use super::stock::Stock;

/// What is written of a book.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::pool) struct Record {
    /// By the gauge's name.
    rates: Vec<(String, RateRecord)>,
    stocks: Vec<(String, StockRecord)>,
    /// Files of older versions have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rests: Vec<RestRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct RestRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<Arc<str>>,
    /// Milliseconds since 1970.
    until: u64,
    is_exhausted: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StockRecord {
    period: i32,
    granted: u64,
    used: u64,
}

/// A book that was read again.
#[derive(Debug)]
pub(in crate::pool) struct Restored {
    pub book: Book,
    /// Units of budgets that a process had been granted and did not live to use or to give back: they count as spent.
    pub lost: u64,
}

impl Record {
    pub(in crate::pool) fn of(book: &Book) -> Self {
        let rates = book.flows.iter().map(|(gauge, flow)| (gauge.name(), flow.rate.record()));
        // Places are free again when the process is gone.
        let budgets = book.stocks.iter().filter(|(gauge, _)| gauge.dimension != Dimension::Slots);
        let stocks = budgets.map(|(gauge, stock)| {
            let (granted, used) = stock.totals();
            (gauge.name(), StockRecord { period: stock.key, granted, used })
        });
        let rests = book.rests.iter().map(|rest| {
            let Rest { model, until, is_exhausted } = rest.clone();
            RestRecord { model, until, is_exhausted }
        });
        Self { rates: rates.collect(), stocks: stocks.collect(), rests: rests.collect() }
    }

    /// The book as it stands at `now` (milliseconds since 1970): what is over is left out.
    pub(in crate::pool) fn restore(&self, now: u64) -> Restored {
        let mut book = Book::default();
        let longest = u64::try_from(Rest::LONGEST_KEPT.as_millis()).unwrap_or(u64::MAX);
        let kept = self.rests.iter().filter(|rest| (1..=longest).contains(&rest.until.saturating_sub(now)));
        book.rests = kept
            .map(|rest| {
                let RestRecord { model, until, is_exhausted } = rest.clone();
                Rest { model, until, is_exhausted }
            })
            .collect();
        let mut lost = 0;
        for (name, rate) in &self.rates {
            if let Some(gauge) = Gauge::of_name(name) {
                book.flows.insert(gauge, Flow::of(Rate::of(rate)));
            }
        }
        for (name, stock) in &self.stocks {
            if let Some(gauge) = Gauge::of_name(name) {
                lost += stock.granted.saturating_sub(stock.used);
                book.stocks.insert(gauge, Stock::of(stock.period, stock.granted));
            }
        }
        Restored { book, lost }
    }
}
