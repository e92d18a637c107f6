mod changes;

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::keybook::{KeyBook, KeyHash, NewKey, Scope};
use crate::limits::Limits;

fn new_key(name: &str) -> NewKey {
    NewKey {
        name: name.to_owned(),
        tenant: "research".into(),
        scopes: vec![Scope::Chat, Scope::Accounts],
        models: Some(vec!["gpt-*".to_owned()]),
        limits: Some(Limits { rpm: Some(5), ..Limits::default() }),
        expires: Some(2_000),
    }
}

/// The keys of a store.
async fn keys(store: &Store) -> Keys {
    Keys::load(Arc::new(store.clone())).await.expect("keys")
}

fn hash(key: &crate::secret::Secret) -> KeyHash {
    KeyHash::of(key.expose().as_bytes())
}

#[tokio::test]
async fn records_outlive_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let dir = dir.path().join("deep/store");
    let (kept, kept_key, revoked, revoked_key) = {
        let store = keys(&Store::open(&dir).expect("opens")).await;
        let (kept, kept_key) = store.create("test", new_key("a"), 1_000).await.expect("key");
        let (gone, revoked_key) = store.create("test", new_key("b"), 1_001).await.expect("key");
        let revoked = store.revoke("test", &gone.id, 1_500).await.expect("revoked");
        (kept, kept_key, revoked, revoked_key)
    };
    let store = keys(&Store::open(&dir).expect("opens again")).await;
    assert_eq!(store.find(&hash(&kept_key)).as_deref(), Some(&kept));
    assert_eq!(store.find(&hash(&revoked_key)).as_deref(), Some(&revoked));
    assert_eq!(revoked.revoked, Some(1_500));
    assert!(store.find(&KeyHash::of(b"sk-weir-guess")).is_none());
    let names: Vec<_> = store.list().iter().map(|record| record.name.clone()).collect();
    assert_eq!(names, ["b", "a"]);
}

#[tokio::test]
async fn neither_key_nor_half_of_it_is_on_the_disk() {
    let dir = tempfile::tempdir().expect("dir");
    let (record, key) = {
        let store = keys(&Store::open(dir.path()).expect("opens")).await;
        store.create("test", new_key("a"), 1_000).await.expect("key")
    };
    let bytes = std::fs::read(dir.path().join(FILE_NAME)).expect("file");
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&record.id), "the search finds what is there");
    assert!(key.expose().ends_with(&record.last4));
    assert!(!holds(&key.expose()["sk-weir-".len()..]));
    assert!(!holds(&key.expose()["sk-weir-".len()..][..12]));
}

#[test]
fn only_the_owner_may_look() {
    let dir = tempfile::tempdir().expect("dir");
    let dir = dir.path().join("store");
    drop(Store::open(&dir).expect("opens"));
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join(FILE_NAME)), 0o600);
}

#[test]
fn a_store_in_use_is_refused_and_free_again_when_closed() {
    let dir = tempfile::tempdir().expect("dir");
    let first = Store::open(dir.path()).expect("opens");
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Locked(_))));
    drop(first);
    assert!(Store::open(dir.path()).is_ok());
}

#[tokio::test]
async fn damage_is_an_error_and_never_a_panic() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join(FILE_NAME);
    std::fs::write(&path, b"this is no store, but long enough to look at".repeat(100)).expect("written");
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Corrupt { .. })));
    std::fs::remove_file(&path).expect("removed");
    let store = keys(&Store::open(dir.path()).expect("opens")).await;
    for number in 0..50 {
        store.create("test", new_key(&number.to_string()), 1_000).await.expect("key");
    }
    let whole = store.list();
    drop(store);
    let good = std::fs::read(&path).expect("file");
    // Cut short, or with one byte wrong: an error or the records, as long as it is said.
    for cut in [1, 100, 320, 4096, good.len() / 2, good.len() - 1] {
        std::fs::write(&path, &good[..cut]).expect("written");
        assert!(Store::open(dir.path()).is_err(), "cut at {cut}");
    }
    for at in (0..good.len()).step_by(good.len() / 200) {
        let mut bad = good.clone();
        bad[at] ^= 0xFF;
        std::fs::write(&path, &bad).expect("written");
        match Store::open(dir.path()) {
            Ok(store) => assert_eq!(keys(&store).await.list(), whole, "byte {at}"),
            Err(StoreError::Corrupt { .. } | StoreError::Newer { .. }) => {}
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    std::fs::write(&path, &good).expect("written");
    assert_eq!(keys(&Store::open(dir.path()).expect("whole again")).await.list().len(), 50);
}

#[test]
fn a_newer_schema_is_not_touched() {
    let dir = tempfile::tempdir().expect("dir");
    let store = Store::open(dir.path()).expect("opens");
    let guard = store.0.db.write();
    let change = guard.as_ref().expect("open").begin_write().expect("write");
    change.open_table(META).expect("table").insert("schema", SCHEMA + 1).expect("insert");
    change.commit().expect("commit");
    drop(guard);
    drop(store);
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Newer { found: 3, .. })));
}

#[tokio::test]
async fn every_change_is_announced() {
    let file = Store::in_memory().expect("opens");
    let (store, elsewhere) = (keys(&file).await, keys(&file).await);
    let before = store.generation();
    let (record, key) = store.create("test", new_key("a"), 1_000).await.expect("key");
    let created = store.generation();
    assert!(elsewhere.find(&hash(&key)).is_none());
    elsewhere.refresh().await.expect("read again");
    assert!(elsewhere.find(&hash(&key)).expect("known").is_live(1_001));
    store.revoke("test", &record.id, 1_001).await.expect("revoked");
    let revoked = store.generation();
    elsewhere.refresh().await.expect("read again");
    assert!(!elsewhere.find(&hash(&key)).expect("known").is_live(1_001));
    assert!(before < created && created < revoked);
    assert!(!store.find(&hash(&key)).expect("still known").is_live(1_001));
    assert_eq!(store.revoke("test", &record.id, 1_900).await.expect("again").revoked, Some(1_001));
    assert!(matches!(store.revoke("test", "key_none", 1).await, Err(StoreError::NotFound { .. })));
}

/// As a later version beside this one may write it.
#[tokio::test]
async fn a_row_that_cannot_be_read_keeps_no_revocation_back() {
    let file = Store::in_memory().expect("opens");
    let (store, elsewhere) = (keys(&file).await, keys(&file).await);
    let (record, key) = store.create("test", new_key("a"), 1_000).await.expect("key");
    elsewhere.refresh().await.expect("read");
    let value = br#"{"of": "tomorrow"}"#.to_vec();
    let put = Write::Put { table: "keys", id: "key_new".to_owned(), value, expect: Expect::Absent };
    file.commit(vec![put]).await.expect("written");
    store.revoke("test", &record.id, 1_001).await.expect("revoked");
    elsewhere.refresh().await.expect("what can be read is read");
    assert!(!elsewhere.find(&hash(&key)).expect("known").is_live(1_001));
    assert_eq!(keys(&file).await.list().len(), 1, "and a process that starts now does start");
}

#[tokio::test]
async fn keys_that_make_no_sense_are_refused() {
    let store = keys(&Store::in_memory().expect("opens")).await;
    let good = new_key("a");
    let zero = Limits { tpm: Some(0), ..Limits::default() };
    for bad in [
        NewKey { name: String::new(), ..good.clone() },
        NewKey { name: "a\nb".to_owned(), ..good.clone() },
        NewKey { tenant: "".into(), ..good.clone() },
        NewKey { scopes: vec![], ..good.clone() },
        NewKey { models: Some(vec![String::new()]), ..good.clone() },
        NewKey { expires: Some(1_000), ..good.clone() },
        NewKey { limits: Some(zero), ..good.clone() },
    ] {
        let error = store.create("test", bad.clone(), 1_000).await.expect_err("makes no sense");
        assert!(matches!(error, StoreError::Invalid(_)), "{bad:?}");
    }
    assert!(store.list().is_empty());
    assert!(store.create("test", good, 1_000).await.is_ok());
}

fn put(id: &str, value: &str, expect: Expect) -> Write {
    Write::Put { table: "things", id: id.to_owned(), value: value.into(), expect }
}

fn append(entry: &str, at: Option<u64>) -> Write {
    Write::Append { log: "book", entry: entry.into(), at }
}

/// What every keeper of records must do: other implementations run it too.
async fn keeps_records(records: &dyn Records) {
    assert_eq!(records.generation("things").await.expect("read"), 0);
    let versions = records.commit(vec![put("b", "1", Expect::Absent), put("a", "1", Expect::Anything)]).await;
    let versions = versions.expect("written");
    let generation = records.generation("things").await.expect("read");
    assert!(generation > 0);
    // A condition that fails, fails everything beside it.
    for wrong in [put("a", "2", Expect::Absent), put("a", "2", Expect::Version(versions[1] + 100))] {
        let both = vec![put("c", "1", Expect::Absent), append("x", None), wrong];
        assert!(matches!(records.commit(both).await, Err(StoreError::Conflict)));
    }
    assert!(matches!(records.commit(vec![append("x", Some(1))]).await, Err(StoreError::Conflict)));
    assert!(records.get("things", "c").await.expect("read").is_none());
    assert_eq!(records.end("book").await.expect("read"), 0);
    assert_eq!(records.generation("things").await.expect("read"), generation);
    // Read, change, write; whoever read the same loses.
    let changed = records.commit(vec![put("a", "2", Expect::Version(versions[1]))]).await.expect("written");
    assert!(matches!(
        records.commit(vec![put("a", "3", Expect::Version(versions[1]))]).await,
        Err(StoreError::Conflict)
    ));
    let row = records.get("things", "a").await.expect("read").expect("there");
    assert_eq!((row.value.as_slice(), row.version), (b"2".as_slice(), changed[0]));
    // Deleted and made again it is another row.
    let delete = |expect| Write::Delete { table: "things", id: "a".to_owned(), expect };
    assert!(matches!(
        records.commit(vec![delete(Expect::Version(1 << 40))]).await,
        Err(StoreError::Conflict)
    ));
    records.commit(vec![delete(Expect::Version(changed[0]))]).await.expect("gone");
    records.commit(vec![delete(Expect::Anything)]).await.expect("gone already");
    assert!(records.get("things", "a").await.expect("read").is_none());
    let again = records.commit(vec![put("a", "2", Expect::Absent)]).await.expect("written")[0];
    assert!(again > changed[0]);
    assert!(records.generation("things").await.expect("read") > generation);
    changes::tells_its_changes(records).await;
    lists_and_logs(records).await;
    adds_once(records).await;
}

async fn lists_and_logs(records: &dyn Records) {
    let ids = |rows: Vec<Row>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
    records
        .commit(vec![Write::Put {
            table: "thingsx",
            id: "z".to_owned(),
            value: vec![0, 255],
            expect: Expect::Anything,
        }])
        .await
        .expect("written");
    assert_eq!(ids(records.list("things", None, 10).await.expect("read")), ["a", "b"]);
    assert_eq!(ids(records.list("things", None, 1).await.expect("read")), ["a"]);
    assert_eq!(ids(records.list("things", Some("a"), 10).await.expect("read")), ["b"]);
    assert_eq!(ids(records.list("things", Some("aa"), 10).await.expect("read")), ["b"]);
    assert_eq!(ids(records.list("things", Some("b"), 10).await.expect("read")), Vec::<String>::new());
    assert_eq!(ids(all(records, "thingsx").await.expect("read")), ["z"]);
    let places = records.commit(vec![append("zero", Some(0)), append("one", None)]).await.expect("written");
    assert_eq!(places, [0, 1]);
    assert_eq!(records.commit(vec![append("two", Some(2))]).await.expect("written"), [2]);
    let entries = records.read("book", 1, 1).await.expect("read");
    assert_eq!(entries, [(1, b"one".to_vec())]);
    assert_eq!(records.read("book", 0, usize::MAX).await.expect("read").len(), 3);
    assert_eq!(records.end("book").await.expect("read"), 3);
    assert!(records.read("boo", 0, 10).await.expect("read").is_empty());
}

async fn adds_once(records: &dyn Records) {
    let delta = |key: &str, columns: &[i64]| (key.to_owned(), columns.to_vec());
    assert_eq!(records.added("r1").await.expect("read"), 0);
    assert!(records.add("r1", 1, vec![delta("day:a", &[1, 2]), delta("day:b", &[5])]).await.expect("added"));
    for _ in 0..3 {
        assert!(!records.add("r1", 1, vec![delta("day:a", &[1, 2])]).await.expect("known"));
    }
    assert!(records.add("r1", 2, vec![delta("day:a", &[-1, 0, 7])]).await.expect("added"));
    assert!(!records.add("r1", 1, vec![delta("day:a", &[100])]).await.expect("late"));
    assert!(
        records.add("r2", 1, vec![delta("day:b", &[i64::MAX]), delta("other", &[1])]).await.expect("added")
    );
    assert_eq!(records.added("r1").await.expect("read"), 2);
    let totals = records.totals("day:", None, 10).await.expect("read");
    assert_eq!(totals, [delta("day:a", &[0, 2, 7]), delta("day:b", &[i64::MAX])]);
    assert_eq!(records.totals("day:", Some("day:a"), 10).await.expect("read").len(), 1);
    records.forget(vec!["day:a".to_owned(), "none".to_owned()]).await.expect("forgotten");
    assert_eq!(records.totals("", None, 10).await.expect("read").len(), 2);
}

/// A server that can say when it is on its disk is asked, and believed.
#[tokio::test]
async fn a_change_that_is_not_on_the_disk_is_not_kept() {
    for (disks, is_kept) in [(1, true), (0, false)] {
        let answer = move |word: &str| match word {
            "EVAL" => "*1\r\n:7\r\n".to_owned(),
            "WAITAOF" => format!("*2\r\n:{disks}\r\n:0\r\n"),
            _ => "+OK\r\n".to_owned(),
        };
        let records = Redis::new(crate::redis_link::server::start_puppet(answer).await, true);
        match records.commit(vec![put("a", "x", Expect::Anything)]).await {
            Ok(versions) => assert!(is_kept && versions == [7], "{versions:?}"),
            Err(StoreError::Unreachable(why)) => assert!(!is_kept && why.contains("disk"), "{why}"),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_cluster_keeps_records() {
    let server = crate::redis_link::server::Server::start_cluster();
    keeps_records(&Redis::new(server.link_by("redis-cluster", "").await, false)).await;
}

#[tokio::test]
async fn redis_keeps_records() {
    let server = crate::redis_link::server::Server::start();
    let store = Redis::new(server.link().await, false);
    keeps_records(&store).await;
    let store = Redis::new(server.link().await, false);
    assert_eq!(all(&store, "things").await.expect("read").len(), 2);
    assert_eq!(store.end("book").await.expect("read"), 3);
    assert!(!store.add("r1", 2, vec![("day:b".to_owned(), vec![-1])]).await.expect("known"));
    drop(server);
    assert!(matches!(
        store.commit(vec![put("a", "x", Expect::Anything)]).await,
        Err(StoreError::Unreachable(_))
    ));
}

#[tokio::test]
async fn the_embedded_store_keeps_records() {
    keeps_records(&Store::in_memory().expect("opens")).await;
    let dir = tempfile::tempdir().expect("dir");
    let store = Store::open(dir.path()).expect("opens");
    keeps_records(&store).await;
    drop(store);
    let store = Store::open(dir.path()).expect("opens again");
    assert_eq!(all(&store, "things").await.expect("read").len(), 2);
    assert_eq!(store.end("book").await.expect("read"), 3);
    assert!(!store.add("r1", 2, vec![("day:b".to_owned(), vec![-1])]).await.expect("known"));
    store.release();
    assert!(matches!(store.commit(vec![put("a", "x", Expect::Anything)]).await, Err(StoreError::Released)));
    assert!(matches!(store.get("things", "a").await, Err(StoreError::Released)));
}

/// Many writers at once: each change is there, each addition once, and they share commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_share_commits_and_lose_nothing() {
    let store = Store::in_memory().expect("opens");
    let work = (0..200_u64).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let put = Write::Put {
                table: "things",
                id: format!("{number:03}"),
                value: vec![1],
                expect: Expect::Absent,
            };
            store.commit(vec![put, append("x", None)]).await.expect("written");
            // One row that everybody wants to change.
            loop {
                let row = store.get("counter", "n").await.expect("read");
                let (count, expect) = match &row {
                    Some(row) => (row.value[0], Expect::Version(row.version)),
                    None => (0, Expect::Absent),
                };
                let put = Write::Put { table: "counter", id: "n".to_owned(), value: vec![count + 1], expect };
                match store.commit(vec![put]).await {
                    Ok(_) => break,
                    Err(StoreError::Conflict) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            store.add(&format!("r{number}"), 1, vec![("sum".to_owned(), vec![1])]).await.expect("added");
        })
    });
    for done in work.collect::<Vec<_>>() {
        done.await.expect("no panic");
    }
    assert_eq!(all(&store, "things").await.expect("read").len(), 200);
    assert_eq!(store.end("book").await.expect("read"), 200);
    assert_eq!(store.get("counter", "n").await.expect("read").expect("there").value, [200]);
    assert_eq!(store.totals("sum", None, 1).await.expect("read"), [("sum".to_owned(), vec![200])]);
}

#[test]
fn leases_are_written_together_and_outlive_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let row = |account: &str, lease: &[u8]| (account.to_owned(), lease.to_vec());
    {
        let store = Store::open(dir.path()).expect("opens");
        assert!(store.read_leases().expect("read").is_empty());
        store.write_leases(&[row("a", b"1"), row("b", b"2")]).expect("written");
        store.write_leases(&[row("b", b"3"), row("a", b""), row("c", b"4")]).expect("written");
    }
    let store = Store::open(dir.path()).expect("opens again");
    assert_eq!(store.read_leases().expect("read"), [row("b", b"3"), row("c", b"4")]);
    store.release();
    assert!(matches!(store.write_leases(&[row("b", b"5")]), Err(StoreError::Released)));
}

/// A file of the first version: its keys are there afterwards, and once.
#[tokio::test]
async fn keys_of_an_older_file_are_taken_over() {
    let dir = tempfile::tempdir().expect("dir");
    let old: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");
    let record = serde_json::json!({
        "hash": "ab".repeat(32),
        "record": {"id": "key_1", "name": "n", "tenant": "t", "scopes": ["chat"], "created": 5, "last4": "abcd"},
    });
    {
        let file = open_file(dir.path(), &dir.path().join(FILE_NAME)).expect("file");
        let db = Builder::new().create_with_backend(FileBackend::new(file).expect("file")).expect("db");
        let change = db.begin_write().expect("write");
        change.open_table(META).expect("table").insert("schema", 1).expect("insert");
        let bytes = record.to_string();
        change.open_table(old).expect("table").insert("key_1", bytes.as_bytes()).expect("insert");
        change.commit().expect("commit");
    }
    for _ in 0..2 {
        let store = Store::open(dir.path()).expect("opens");
        let keys = keys(&store).await;
        assert!(keys.find(&KeyHash::from_bytes([0xab; 32])).is_some_and(|key| key.id == "key_1"));
        assert_eq!(keys.list().len(), 1);
    }
}
