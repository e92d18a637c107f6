//! What a table tells of its last changes, and when it says that it does not know.

use std::collections::BTreeSet;

use redb::ReadableTable;

use super::*;
use crate::redis_link::server::Server;
use crate::store::records::{Change, REMEMBERED};

fn delete(id: &str) -> Write {
    Write::Delete { table: "things", id: id.to_owned(), expect: Expect::Anything }
}

fn ids(news: &News) -> Option<Vec<&str>> {
    Some(news.ids.as_ref()?.iter().map(String::as_str).collect())
}

/// A table whose last changes are told.
struct Told<'a>(&'a dyn Records);

impl Told<'_> {
    async fn mark(&self) -> Mark {
        let news = self.0.changes("things", None).await.expect("read");
        assert_eq!(news.ids, None, "all of it is to be read first");
        assert_eq!(news.mark.generation, self.0.generation("things").await.expect("read"));
        news.mark
    }

    async fn since(&self, mark: &Mark) -> News {
        self.0.changes("things", Some(mark)).await.expect("read")
    }
}

/// What every keeper of records must do.
pub(super) async fn tells_its_changes(records: &dyn Records) {
    let table = Told(records);
    let mark = table.mark().await;
    assert_eq!(ids(&table.since(&mark).await), Some(vec![]));
    let note = Write::Append { log: "notes", entry: vec![1], at: None };
    records
        .commit(vec![put("a 1", "x", Expect::Anything), put("b", "x", Expect::Anything), note])
        .await
        .expect("written");
    let first = table.since(&mark).await;
    assert_eq!(ids(&first), Some(vec!["a 1", "b"]));
    // Nobody's row was deleted: that is no change. One that fails is none, nor is one of another table.
    records.commit(vec![delete("none")]).await.expect("nothing");
    assert!(records.commit(vec![put("c", "x", Expect::Version(1 << 40))]).await.is_err());
    let elsewhere =
        Write::Put { table: "things2", id: "y".to_owned(), value: vec![1], expect: Expect::Anything };
    records.commit(vec![elsewhere]).await.expect("written");
    let second = table.since(&first.mark).await;
    assert_eq!((&second.mark, ids(&second)), (&first.mark, Some(vec![])));
    // Deleted, made again, changed twice: each once.
    records.commit(vec![delete("b")]).await.expect("gone");
    assert_eq!(ids(&table.since(&first.mark).await), Some(vec!["b"]));
    for value in ["y", "z"] {
        records.commit(vec![put("b", value, Expect::Anything)]).await.expect("written");
    }
    let third = table.since(&first.mark).await;
    assert_eq!(ids(&third), Some(vec!["b"]));
    assert_eq!(ids(&table.since(&mark).await), Some(vec!["a 1", "b"]));
    // So many are remembered, and not one more.
    let many = |from: u64, to: u64| {
        (from..to).map(|number| put(&format!("n{number:04}"), "x", Expect::Anything)).collect::<Vec<_>>()
    };
    records.commit(many(0, REMEMBERED - 1)).await.expect("written");
    assert_eq!(table.since(&third.mark).await.ids.map(|ids| ids.len()), Some(999));
    records.commit(many(REMEMBERED - 1, REMEMBERED)).await.expect("written");
    let last = table.since(&third.mark).await;
    assert_eq!(last.ids, None, "it is too long ago");
    assert_eq!(last.mark, table.mark().await);
    let deletes = (0..REMEMBERED).map(|number| delete(&format!("n{number:04}")));
    records.commit(deletes.chain([delete("a 1")]).collect()).await.expect("gone");
}

/// A version that remembers no changes writes beside this one, or has written before it.
#[tokio::test]
async fn changes_that_nobody_remembers_are_noticed() {
    let store = Store::in_memory().expect("opens");
    let older = async |is_new: bool| {
        let guard = store.0.db.read();
        let change = guard.as_ref().expect("open").begin_write().expect("write");
        if is_new {
            change.delete_table(TableDefinition::<(&str, u64), &str>::new("changes")).expect("gone");
        }
        let generations: TableDefinition<'_, &str, u64> = TableDefinition::new("generations");
        let mut table = change.open_table(generations).expect("table");
        let next = table.get("things").expect("read").map_or(0, |number| number.value()) + 1;
        table.insert("things", next).expect("insert");
        drop(table);
        change.commit().expect("commit");
    };
    skips(&store, older).await;
    let server = Server::start();
    let link = server.link().await;
    let older = async |_| {
        let mut command = ::redis::cmd("HINCRBY");
        let _: u64 = link
            .ask(command.arg("weir:1:{records}:generations").arg("things").arg(1))
            .await
            .expect("written");
    };
    skips(&Redis::new(server.link().await, false), older).await;
}

async fn skips(records: &dyn Records, older: impl AsyncFn(bool)) {
    let table = Told(records);
    let nothing = table.mark().await;
    older(true).await;
    let mark = table.mark().await;
    assert_ne!(mark, nothing);
    assert_eq!(ids(&table.since(&nothing).await), None, "nobody knows what it was");
    assert_eq!(ids(&table.since(&mark).await), Some(vec![]), "since then nothing");
    records.commit(vec![put("a", "x", Expect::Anything)]).await.expect("written");
    let ours = table.since(&mark).await;
    older(false).await;
    records.commit(vec![put("b", "x", Expect::Anything)]).await.expect("written");
    assert_eq!(ids(&table.since(&ours.mark).await), None, "one is missing between");
    let now = table.mark().await;
    records.commit(vec![put("c", "x", Expect::Anything)]).await.expect("written");
    assert_eq!(ids(&table.since(&now).await), Some(vec!["c"]));
}

/// A failover forgets the last changes, and others are made under the same numbers.
#[tokio::test]
async fn a_server_that_lost_changes_tells_no_half_of_a_story() {
    let server = Server::start();
    let (store, link) = (Redis::new(server.link().await, false), server.link().await);
    let table = Told(&store);
    let write = async |id: &str| {
        store.commit(vec![put(id, "x", Expect::Anything)]).await.expect("written");
    };
    for id in ["a", "b", "c"] {
        write(id).await;
    }
    let mark = table.mark().await;
    let back_to = async |generation: u64| {
        let mut command = ::redis::cmd("HSET");
        command.arg("weir:1:{records}:generations").arg("things").arg(generation);
        let _: u64 = link.ask(&command).await.expect("written");
        let mut command = ::redis::cmd("ZREMRANGEBYSCORE");
        command.arg("weir:1:{records}:changes:things").arg(generation + 1).arg("+inf");
        let _: u64 = link.ask(&command).await.expect("written");
    };
    back_to(1).await;
    assert_eq!(ids(&table.since(&mark).await), None, "it was further before");
    write("d").await;
    write("c").await;
    // The same number by the same row.
    assert_eq!(ids(&table.since(&mark).await), None);
    write("e").await;
    assert_eq!(ids(&table.since(&mark).await), None);
    let now = table.mark().await;
    write("f").await;
    assert_eq!(ids(&table.since(&now).await), Some(vec!["f"]));
}

/// By the letter: known is what follows the very change that was the last, without a gap.
#[test]
fn only_a_whole_story_is_news() {
    let change = |generation: u64, token: &str| Change {
        generation,
        token: token.into(),
        id: format!("{generation}"),
    };
    let at = |generation: u64, token: &str| Mark { generation, token: token.into() };
    let story = || vec![change(5, "e"), change(6, "f"), change(7, "g")];
    let of = |since: &Mark, generation: u64, story: Vec<Change>| News::of(Some(since), generation, story).ids;
    let known = |ids: &[&str]| Some(ids.iter().map(|&id| id.to_owned()).collect::<BTreeSet<_>>());
    assert_eq!(of(&at(5, "e"), 7, story()), known(&["6", "7"]));
    assert_eq!(of(&at(7, "g"), 7, vec![change(7, "g")]), known(&[]));
    assert_eq!(of(&at(5, "x"), 7, story()), None, "another change had that number");
    assert_eq!(of(&at(7, "x"), 7, vec![change(7, "g")]), None);
    assert_eq!(of(&at(4, "d"), 7, story()), None, "it is forgotten");
    assert_eq!(of(&at(8, "h"), 7, Vec::new()), None, "it never was");
    assert_eq!(of(&at(5, "e"), 8, story()), None, "the last is missing");
    let gap = vec![change(5, "e"), change(7, "g")];
    assert_eq!(of(&at(5, "e"), 7, gap), None);
    let twice = vec![change(5, "e"), change(6, "f"), change(6, "x"), change(7, "g")];
    assert_eq!(of(&at(5, "e"), 7, twice), None);
    assert_eq!(News::of(None, 7, story()), News { mark: at(7, "g"), ids: None });
    assert_eq!(News::of(None, 8, story()).mark, at(8, ""));
}
