//! A book as it lies on disk. Only what must outlive the process: what was granted, not to whom. There is one process, and
//! when the file is read again that process is no more.

use serde::{Deserialize, Serialize};

use super::super::bid::{Dimension, Gauge};
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
        Self { rates: rates.collect(), stocks: stocks.collect() }
    }

    pub(in crate::pool) fn restore(&self) -> Restored {
        let mut book = Book::default();
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
