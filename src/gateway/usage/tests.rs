//! Each attempt once: through flushes that fail, through maps that are full, over days and columns.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::prices::{Price, Prices};
use super::report::{Column, Query};
use super::*;
use crate::store::Store;

fn ledger() -> Ledger {
    Ledger::new(IntCounter::new("overflow", "x").expect("a counter"))
}

fn key(day: u64, tenant: &str, caller: &str, model: &str) -> Key {
    Key {
        day: Day(day),
        tenant: tenant.into(),
        caller: caller.into(),
        account: "a".into(),
        platform: "openai".into(),
        model: Arc::from(model),
    }
}

fn used(prompt: u64, completion: u64) -> Sums {
    Sums { requests: 1, prompt_tokens: prompt, completion_tokens: completion, ..Sums::default() }
}

fn day(text: &str) -> u64 {
    let date: Date = text.parse().expect("a day");
    let seconds = date.to_zoned(TimeZone::UTC).expect("a time").timestamp().as_second();
    u64::try_from(seconds).expect("after 1970") / 86_400
}

async fn report(store: &Store, by: &str, from: &str, to: &str) -> serde_json::Value {
    let today = "2026-11-21".parse().expect("a day");
    let query = Query::read(by, Some(from), Some(to), today).expect("a query");
    query.run(store).await.expect("a report").to_json()
}

#[tokio::test]
async fn what_is_noted_is_reported_by_any_columns_and_days() {
    let store = Store::in_memory().expect("a store");
    let ledger = ledger();
    let (first, second) = (day("2026-11-20"), day("2026-11-21"));
    ledger.note(key(first, "alpha", "alice", "m"), &used(10, 1));
    ledger.note(key(second, "alpha", "alice", "m"), &used(20, 2));
    ledger.note(key(second, "alpha", "bob", "n"), &used(40, 4));
    ledger.note(key(second, "beta", "[\"x\",\"/", "m"), &used(80, 8));
    let prices =
        Prices::new(vec![("m".into(), Price { input: 1_000_000, output: 0, cached_input: 0, reasoning: 0 })]);
    ledger.flush(&store, &prices).await.expect("flushed");
    // The second flush adds to what is there.
    ledger.note(key(second, "alpha", "alice", "m"), &used(100, 0));
    ledger.flush(&store, &prices).await.expect("flushed");
    ledger.flush(&store, &prices).await.expect("nothing to do");
    let all = report(&store, "", "2026-11-01", "2026-11-30").await;
    assert_eq!((&all["total"]["prompt_tokens"], &all["total"]["requests"]), (&250.into(), &5.into()));
    assert_eq!(all["total"]["cost_micros"], 10 + 20 + 80 + 100);
    assert_eq!((all["rows"].as_array().map(Vec::len), &all["truncated"]), (Some(1), &false.into()));
    let days = report(&store, "day,tenant", "2026-11-20", "2026-11-21").await;
    let rows: Vec<String> = days["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| format!("{} {} {}", row["day"], row["tenant"], row["prompt_tokens"]))
        .collect();
    assert_eq!(
        rows,
        ["\"2026-11-20\" \"alpha\" 10", "\"2026-11-21\" \"alpha\" 160", "\"2026-11-21\" \"beta\" 80",]
    );
    let one = report(&store, "caller", "2026-11-20", "2026-11-20").await;
    assert_eq!((&one["rows"][0]["caller"], &one["total"]["prompt_tokens"]), (&"alice".into(), &10.into()));
    let today = "2026-11-21".parse().expect("a day");
    let mut query = Query::read("caller", None, None, today).expect("a query");
    query.only = vec![(Column::Tenant, "beta".into())];
    let only = query.clone().run(&store).await.expect("a report").to_json();
    assert_eq!(only["rows"].as_array().expect("rows").len(), 1);
    assert_eq!(only["rows"][0]["caller"], "[\"x\",\"/", "no name is mistaken for two");
    query.only.clear();
    query.limit = 2;
    let cut = query.run(&store).await.expect("a report").to_json();
    assert_eq!((&cut["truncated"], &cut["total"]["requests"]), (&true.into(), &5.into()));
    assert_eq!(cut["rows"].as_array().expect("rows").len(), 2);
}

fn drained(ledger: &Ledger, prices: &Prices) -> Batch {
    let mut outbox = Outbox::default();
    ledger.drain(&mut outbox, prices);
    outbox.batches.into_iter().flat_map(|(_, batch)| batch).collect()
}

async fn prompt_tokens(store: &Store) -> i64 {
    let totals = store.totals(report::PREFIX, None, 1000).await.expect("totals");
    totals.iter().map(|(_, sums)| sums[3]).sum()
}

#[tokio::test]
async fn a_batch_counts_once_however_often_it_is_sent() {
    let store = Store::in_memory().expect("a store");
    let ledger = ledger();
    let none = Prices::default();
    ledger.note(key(20_000, "t", "c", "m"), &used(7, 0));
    let mut outbox = ledger.outbox.lock().await;
    assert!(ledger.drain(&mut outbox, &none));
    // It arrived, and the answer was lost: it is sent again.
    let (sequence, batch) = outbox.batches.front().cloned().expect("a batch");
    assert!(store.add(&ledger.owner, sequence, batch).await.expect("added"));
    drop(outbox);
    ledger.note(key(20_000, "t", "c", "m"), &used(5, 0));
    ledger.flush(&store, &none).await.expect("flushed");
    assert_eq!(prompt_tokens(&store).await, 12);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    paths
}

/// A copy of what the process would leave behind if it died now, which is nobody's.
fn dead(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    for path in files(folder) {
        std::fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("copied");
    }
    copy
}

#[tokio::test]
async fn whenever_a_process_dies_what_it_had_noted_counts_once() {
    let (store, folder) = (Store::in_memory().expect("a store"), tempfile::tempdir().expect("a folder"));
    let none = Prices::default();
    let mut ledger = ledger();
    ledger.write_down(folder.path().to_owned()).expect("a journal");
    let mut noted = 0;
    for round in 0..6_u64 {
        for caller in 0..50 {
            ledger.note(key(20_000, "t", &format!("c{caller}\n\t\0"), "m"), &used(round + 1, 0));
            noted += i64::try_from(round).expect("small") + 1;
        }
        // It dies before the flush, in the middle of one, and after it.
        if round % 3 == 1 {
            let mut outbox = ledger.outbox.lock().await;
            ledger.drain(&mut outbox, &none);
            if round > 3 {
                let (sequence, batch) = outbox.batches.front().cloned().expect("a batch");
                store.add(&ledger.owner, sequence, batch).await.expect("added");
            }
        } else if round % 3 == 2 {
            ledger.flush(&store, &none).await.expect("flushed");
        }
        let left = dead(folder.path());
        // The living keep theirs: their successor counts nothing of it.
        let before = prompt_tokens(&store).await;
        journal::take_in(folder.path(), &store, &none).await.expect("nothing to take");
        assert_eq!(prompt_tokens(&store).await, before);
        let successor = Store::in_memory().expect("a store");
        let rows = store.totals(report::PREFIX, None, 1000).await.expect("totals");
        successor.add("before", 1, rows).await.expect("as the store stands");
        // What the store had of that process, by its own account.
        let last = store.added(&ledger.owner).await.expect("a number");
        if last > 0 {
            successor.add(&ledger.owner, last, Vec::new()).await.expect("known");
        }
        let again = dead(left.path());
        journal::take_in(left.path(), &successor, &none).await.expect("taken in");
        assert_eq!(files(left.path()), Vec::<PathBuf>::new(), "nothing stays");
        journal::take_in(again.path(), &successor, &none).await.expect("as if they could not be removed");
        let totals = successor.totals(report::PREFIX, None, 1000).await.expect("totals");
        assert_eq!(totals.iter().map(|(_, sums)| sums[3]).sum::<i64>(), noted, "round {round}");
    }
    ledger.close(&store, &none).await.expect("closed");
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn half_a_line_is_left_out_and_what_is_no_journal_is_put_aside() {
    let (store, folder) = (Store::in_memory().expect("a store"), tempfile::tempdir().expect("a folder"));
    let mut ledger = ledger();
    ledger.write_down(folder.path().to_owned()).expect("a journal");
    for prompt in [1, 2, 4, 8] {
        ledger.note(key(20_000, "t", "c", "m"), &used(prompt, 0));
    }
    let left = dead(folder.path());
    let path = files(left.path()).remove(0);
    let mut bytes = std::fs::read(&path).expect("read");
    let ends: Vec<usize> =
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    // The second line has a hole, the last is cut.
    bytes[ends[1] + 1..ends[1] + 20].fill(0);
    bytes.truncate(ends[4] - 1);
    std::fs::write(&path, bytes).expect("written");
    std::fs::write(left.path().join("usage_x-1.journal"), "else").expect("written");
    let prices =
        Prices::new(vec![("m".into(), Price { input: 1_000_000, output: 0, cached_input: 0, reasoning: 0 })]);
    let mut is_told = false;
    for _ in 0..2 {
        is_told |= journal::take_in(left.path(), &store, &prices).await.is_err();
    }
    assert!(is_told && left.path().join("usage_x-1.damaged").exists());
    let report = report(&store, "", "2020-01-01", "2030-01-01").await;
    assert_eq!((&report["total"]["prompt_tokens"], &report["total"]["cost_micros"]), (&5.into(), &5.into()));
}

#[test]
fn callers_without_end_are_counted_in_bounded_room_and_none_is_lost() {
    let ledger = ledger();
    for number in 0..200_000 {
        ledger.note(key(1, "t", &format!("caller-{number}"), "m"), &used(1, 1));
    }
    let batch = drained(&ledger, &Prices::default());
    assert!(batch.len() <= SHARDS * (MOST + 1), "{}", batch.len());
    assert_eq!(batch.iter().map(|(_, sums)| sums[0]).sum::<i64>(), 200_000);
    let others: i64 = batch.iter().filter(|(key, _)| key.contains(OTHERS)).map(|(_, sums)| sums[0]).sum();
    assert_eq!(u64::try_from(others).expect("positive"), ledger.overflow.get());
}

#[test]
fn many_threads_lose_nothing() {
    let ledger = ledger();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let ledger = &ledger;
            scope.spawn(move || {
                for number in 0..5000 {
                    ledger.note(
                        key(number % 3, "t", &format!("c{}", (number + thread) % 40), "m"),
                        &used(2, 3),
                    );
                }
            });
        }
    });
    let batch = drained(&ledger, &Prices::default());
    assert_eq!(batch.iter().map(|(_, sums)| sums[3]).sum::<i64>(), 8 * 5000 * 2);
}

#[test]
fn queries_are_read_strictly() {
    let today: Date = "2026-11-21".parse().expect("a day");
    let query = Query::read("tenant, model", None, None, today).expect("a query");
    assert_eq!((query.from.to_string(), query.to.to_string()), ("2026-11-01".into(), "2026-11-21".into()));
    assert_eq!(query.by, [Column::Tenant, Column::Model]);
    for (by, from, to) in [
        ("tenants", None, None),
        ("", Some("yesterday"), None),
        ("", Some("2026-11-31"), None),
        ("", Some("2026-11-22"), Some("2026-11-21")),
    ] {
        assert!(Query::read(by, from, to, today).is_err(), "{by} {from:?} {to:?}");
    }
}

#[tokio::test]
async fn tables_of_every_kind_say_the_same() {
    let store = Store::in_memory().expect("a store");
    let ledger = ledger();
    ledger.note(key(day("2026-11-21"), "=HYPERLINK(1)", "alice\u{1b}[31m", "m"), &used(10, 1));
    ledger.flush(&store, &Prices::default()).await.expect("flushed");
    let query =
        Query::read("tenant,caller", None, None, "2026-11-21".parse().expect("a day")).expect("a query");
    let report = query.run(&store).await.expect("a report");
    let csv = report.to_csv();
    assert!(csv.starts_with("tenant,caller,requests,failed,"), "{csv}");
    assert!(csv.contains("\r\n\"'=HYPERLINK(1)\",alice\u{1b}[31m,1,0,0,10,1,0,0,0\r\n"), "{csv:?}");
    let text = report.to_text();
    assert!(!text.contains('\u{1b}') && text.contains("TOTAL") && text.contains("0.000000"), "{text}");
}
