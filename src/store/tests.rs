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

fn hash(key: &crate::secret::Secret) -> KeyHash {
    KeyHash::of(key.expose().as_bytes())
}

#[test]
fn records_outlive_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let dir = dir.path().join("deep/store");
    let (kept, kept_key, revoked, revoked_key) = {
        let store = Store::open(&dir).expect("opens");
        let (kept, kept_key) = create_key(&store, new_key("a"), 1_000).expect("key");
        let (gone, revoked_key) = create_key(&store, new_key("b"), 1_001).expect("key");
        let revoked = revoke_key(&store, &gone.id, 1_500).expect("revoked");
        (kept, kept_key, revoked, revoked_key)
    };
    let store = Store::open(&dir).expect("opens again");
    assert_eq!(store.find(&hash(&kept_key)).as_deref(), Some(&kept));
    assert_eq!(store.find(&hash(&revoked_key)).as_deref(), Some(&revoked));
    assert_eq!(revoked.revoked, Some(1_500));
    assert!(store.find(&KeyHash::of(b"sk-weir-guess")).is_none());
    let names: Vec<_> = list_keys(&store).iter().map(|record| record.name.clone()).collect();
    assert_eq!(names, ["b", "a"]);
}

#[test]
fn neither_key_nor_half_of_it_is_on_the_disk() {
    let dir = tempfile::tempdir().expect("dir");
    let store = Store::open(dir.path()).expect("opens");
    let (record, key) = create_key(&store, new_key("a"), 1_000).expect("key");
    drop(store);
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

#[test]
fn damage_is_an_error_and_never_a_panic() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join(FILE_NAME);
    std::fs::write(&path, b"this is no store, but long enough to look at".repeat(100)).expect("written");
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Corrupt { .. })));
    std::fs::remove_file(&path).expect("removed");
    let store = Store::open(dir.path()).expect("opens");
    for number in 0..50 {
        create_key(&store, new_key(&number.to_string()), 1_000).expect("key");
    }
    let whole = list_keys(&store);
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
            Ok(store) => assert_eq!(list_keys(&store), whole, "byte {at}"),
            Err(StoreError::Corrupt { .. } | StoreError::Newer { .. }) => {}
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    std::fs::write(&path, &good).expect("written");
    assert_eq!(list_keys(&Store::open(dir.path()).expect("whole again")).len(), 50);
}

#[test]
fn a_newer_schema_is_not_touched() {
    let dir = tempfile::tempdir().expect("dir");
    let store = Store::open(dir.path()).expect("opens");
    let guard = store.db.write();
    let change = guard.as_ref().expect("open").begin_write().expect("write");
    change.open_table(META).expect("table").insert("schema", SCHEMA + 1).expect("insert");
    change.commit().expect("commit");
    drop(guard);
    drop(store);
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Newer { found: 2, .. })));
}

#[test]
fn every_change_is_announced() {
    let store = Store::in_memory().expect("opens");
    let before = store.generation();
    let (record, key) = create_key(&store, new_key("a"), 1_000).expect("key");
    let created = store.generation();
    revoke_key(&store, &record.id, 1_001).expect("revoked");
    let revoked = store.generation();
    assert!(before < created && created < revoked);
    assert!(!store.find(&hash(&key)).expect("still known").is_live(1_001));
    assert_eq!(revoke_key(&store, &record.id, 1_900).expect("again").revoked, Some(1_001));
    assert!(matches!(revoke_key(&store, "key_none", 1), Err(StoreError::NotFound(_))));
}

#[test]
fn keys_that_make_no_sense_are_refused() {
    let store = Store::in_memory().expect("opens");
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
        let error = create_key(&store, bad.clone(), 1_000).expect_err("makes no sense");
        assert!(matches!(error, StoreError::Invalid(_)), "{bad:?}");
    }
    assert!(list_keys(&store).is_empty());
    assert!(create_key(&store, good, 1_000).is_ok());
}
