//! Weir's own keys, through the real store.

use super::*;
use crate::keybook::{KeyBook, KeyRecord, NewKey, Scope};
use crate::limits::Limits;
use crate::store::{Keys, Store};

fn new_key() -> NewKey {
    NewKey {
        name: "ci".into(),
        tenant: "research".into(),
        scopes: vec![Scope::Chat],
        models: Some(vec!["gpt-*".into()]),
        limits: None,
        expires: Some(NOW + 100),
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn create_key(keys: &Keys, new: NewKey) -> (KeyRecord, Secret) {
    block_on(keys.create("test", new, NOW)).expect("key")
}

fn with_store(takes_keys: bool) -> (Identity, Arc<Keys>, Arc<Hand>) {
    let store = Arc::new(Store::in_memory().expect("a store"));
    let store = Arc::new(block_on(Keys::load(store)).expect("keys"));
    let (clock, hand) = Clock::manual(NOW * 1000);
    let settings = Settings { keys: takes_keys, ..Settings::default() };
    let book: Arc<dyn KeyBook> = store.clone();
    (Identity::new(settings, book, clock, client()).expect("settings"), store, hand)
}

#[test]
fn a_key_is_its_tenant_with_its_rules() {
    let (identity, store, _) = with_store(true);
    let (record, key) = create_key(&store, new_key());
    let caller = verify(&identity, key.expose()).expect("good");
    assert_eq!((caller.tenant.as_str(), caller.key_id.as_deref()), ("research", Some(record.id.as_str())));
    assert!(caller.may_use("gpt-4o") && !caller.may_use("qwen-max"));
    assert!(caller.has_scope(Scope::Chat) && !caller.has_scope(Scope::Admin));
    assert!(identity.verify_cached(&headers(key.expose())).is_some());
}

#[test]
fn a_revoked_key_is_refused_at_once_though_it_was_cached() {
    let (identity, store, _) = with_store(true);
    let (record, key) = create_key(&store, new_key());
    let (_, other) = create_key(&store, new_key());
    assert_accepted(&identity, key.expose(), "live");
    block_on(store.revoke("test", &record.id, NOW)).expect("revoked");
    assert_refused(&identity, key.expose(), "revoked");
    let fault = verify(&identity, key.expose()).expect_err("revoked");
    assert!(!fault.public().contains("expired"));
    assert_accepted(&identity, other.expose(), "the other lives");
}

#[test]
fn a_key_dies_at_its_end() {
    let (identity, store, hand) = with_store(true);
    let (_, key) = create_key(&store, new_key());
    assert_accepted(&identity, key.expose(), "live");
    hand.advance(Duration::from_secs(99));
    assert_accepted(&identity, key.expose(), "its last second");
    hand.advance(Duration::from_secs(1));
    assert_refused(&identity, key.expose(), "expired");
}

#[test]
fn nothing_but_the_whole_key_opens() {
    let (identity, store, _) = with_store(true);
    let (record, key) = create_key(&store, new_key());
    let whole = key.expose().to_owned();
    let mut turned = whole.clone();
    turned.replace_range(20..21, if &whole[20..21] == "a" { "b" } else { "a" });
    let bad = [
        whole[..whole.len() - 1].to_owned(),
        format!("{whole}a"),
        whole.to_uppercase(),
        "sk-weir-".to_owned(),
        record.id,
        whole["sk-weir-".len()..].to_owned(),
        whole.replace("sk-weir-", "sk-"),
        turned,
        "sk-weir-' OR 1=1 --".to_owned(),
        "sk-weir-*".to_owned(),
        format!("sk-weir-{}", "a".repeat(43)),
    ];
    for key in bad {
        assert_refused(&identity, &key, &key);
    }
    assert_accepted(&identity, &whole, "the whole key");
}

#[test]
fn keys_are_refused_where_they_are_not_taken() {
    let (identity, store, _) = with_store(false);
    let (_, key) = create_key(&store, new_key());
    assert_refused(&identity, key.expose(), "not taken");
}

#[test]
fn a_key_with_limits_of_its_own_counts_by_itself() {
    let (identity, store, _) = with_store(true);
    let limits = Some(Limits { daily_requests: Some(1), ..Limits::default() });
    let (_, limited) = create_key(&store, NewKey { limits, ..new_key() });
    let (_, one) = create_key(&store, new_key());
    let (_, two) = create_key(&store, new_key());
    let limiter = |key: &Secret| Arc::clone(&verify(&identity, key.expose()).expect("good").limiter);
    assert!(Arc::ptr_eq(&limiter(&one), &limiter(&two)));
    drop(limiter(&limited).admit(1).expect("the first"));
    assert_eq!(limiter(&limited).admit(1).expect_err("the second").kind(), Kind::QuotaExhausted);
    assert!(limiter(&one).admit(1).is_ok());
}
