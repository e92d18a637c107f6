//! Each attempt once: through flushes that fail, through maps that are full, over days and columns.

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
    ledger.flush(&store, "local", &prices).await.expect("flushed");
    // The second flush adds to what is there.
    ledger.note(key(second, "alpha", "alice", "m"), &used(100, 0));
    ledger.flush(&store, "local", &prices).await.expect("flushed");
    ledger.flush(&store, "local", &prices).await.expect("nothing to do");
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

#[tokio::test]
async fn a_batch_counts_once_however_often_it_is_sent() {
    let store = Store::in_memory().expect("a store");
    let ledger = ledger();
    let none = Prices::default();
    ledger.note(key(20_000, "t", "c", "m"), &used(7, 0));
    let batch = ledger.drain(&none);
    // It arrived, and the answer was lost: it is sent again.
    assert!(store.add("local", 1, batch.clone()).await.expect("added"));
    *ledger.outbox.lock().await = Outbox { sequence: Some(0), batch, is_in_doubt: true };
    ledger.note(key(20_000, "t", "c", "m"), &used(5, 0));
    ledger.flush(&store, "local", &none).await.expect("flushed");
    let total = |store: Store| async move {
        store
            .totals(report::PREFIX, None, 10)
            .await
            .expect("totals")
            .iter()
            .map(|(_, sums)| sums[3])
            .sum::<i64>()
    };
    assert_eq!(total(store.clone()).await, 12);
    // Another process of our name has gone on counting: nothing of ours is taken for sent.
    store.add("local", 9, vec![]).await.expect("added");
    ledger.note(key(20_000, "t", "c", "m"), &used(3, 0));
    ledger.flush(&store, "local", &none).await.expect("flushed");
    assert_eq!(total(store.clone()).await, 15);
    // The store has gone: what is left goes through a file, once.
    store.release();
    ledger.note(key(20_000, "t", "c", "m"), &used(1, 0));
    assert!(ledger.flush(&store, "local", &none).await.is_err());
    ledger.note(key(20_000, "t", "c", "m"), &used(1, 0));
    let folder = tempfile::tempdir().expect("a folder");
    spool::leave(folder.path(), &ledger.rest(&none).await).expect("left");
    let successor = Store::in_memory().expect("a store");
    let copy =
        std::fs::read_dir(folder.path()).expect("a folder").next().expect("a file").expect("a file").path();
    let bytes = std::fs::read(&copy).expect("read");
    spool::take_in(folder.path(), &successor).await.expect("taken in");
    assert!(!copy.exists());
    std::fs::write(&copy, bytes).expect("as if it could not be removed");
    spool::take_in(folder.path(), &successor).await.expect("taken in");
    assert_eq!(total(successor).await, 2);
}

#[test]
fn callers_without_end_are_counted_in_bounded_room_and_none_is_lost() {
    let ledger = ledger();
    for number in 0..200_000 {
        ledger.note(key(1, "t", &format!("caller-{number}"), "m"), &used(1, 1));
    }
    let batch: Vec<_> =
        std::iter::from_fn(|| Some(ledger.drain(&Prices::default())).filter(|batch| !batch.is_empty()))
            .flatten()
            .collect();
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
    let batch = ledger.drain(&Prices::default());
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
    ledger.flush(&store, "local", &Prices::default()).await.expect("flushed");
    let query =
        Query::read("tenant,caller", None, None, "2026-11-21".parse().expect("a day")).expect("a query");
    let report = query.run(&store).await.expect("a report");
    let csv = report.to_csv();
    assert!(csv.starts_with("tenant,caller,requests,failed,"), "{csv}");
    assert!(csv.contains("\r\n\"'=HYPERLINK(1)\",alice\u{1b}[31m,1,0,0,10,1,0,0,0\r\n"), "{csv:?}");
    let text = report.to_text();
    assert!(!text.contains('\u{1b}') && text.contains("TOTAL") && text.contains("0.000000"), "{text}");
}
