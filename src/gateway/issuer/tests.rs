//! Two replicas over one store, with one hand on both clocks.

use super::*;
use crate::clock::Hand;
use crate::identity::{Claims, OWN_CLIENT};
use crate::store::Store;
use crate::vault::MasterKey;

const NAME: &str = "https://weir.test";

struct Replicas {
    one: Keeper,
    other: Keeper,
    hand: Arc<Hand>,
    store: Store,
    vault: Arc<Vault>,
}

async fn keeper(store: &Store, vault: &Arc<Vault>, clock: &Clock) -> Result<Keeper, IssuerError> {
    let own = Arc::new(OwnIssuer::new(clock.clone()));
    own.rename(Some(NAME), true);
    Keeper::open(own, Arc::new(store.clone()), Arc::clone(vault), clock.clone()).await
}

fn vault() -> Arc<Vault> {
    Arc::new(Vault::new(vec![MasterKey::for_this_process()]).expect("a vault"))
}

async fn replicas() -> Replicas {
    let (clock, hand) = Clock::manual(1_800_000_000_000);
    let (store, vault) = (Store::in_memory().expect("a store"), vault());
    let one = keeper(&store, &vault, &clock).await.expect("opens");
    let other = keeper(&store, &vault, &clock).await.expect("opens");
    one.ensure().await.expect("made");
    other.tick().await.expect("read");
    Replicas { one, other, hand, store, vault }
}

fn token(of: &Keeper, client_id: &str, session: &str) -> String {
    let claims = Claims {
        subject: &"alice".into(),
        tenant: &"t".into(),
        client_id,
        session,
        scope: "chat",
        models: None,
    };
    of.own().mint(&claims, Duration::from_secs(7200)).expect("a token").token.expose().to_owned()
}

fn knows(keeper: &Keeper, token: &str) -> bool {
    keeper.own().look_at(token).is_some()
}

fn kids(keeper: &Keeper) -> Vec<String> {
    let jwks: serde_json::Value = serde_json::from_str(&keeper.own().jwks()).expect("json");
    let keys = jwks["keys"].as_array().expect("keys").iter();
    keys.map(|key| key["kid"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn replicas_share_one_key_and_nothing_of_it_can_be_read_in_the_store() {
    let all = replicas().await;
    assert_eq!(kids(&all.one), kids(&all.other));
    assert_eq!(kids(&all.one).len(), 1);
    assert!(knows(&all.other, &token(&all.one, OWN_CLIENT, "ses_1")));
    let row = all.store.get(KEYS, RING).await.expect("read").expect("there");
    let kept = all.one.ring.lock().first().cloned().expect("a key");
    let secret = all.vault.open(KIND, &kept.kid, &kept.key).expect("opens");
    assert!(!String::from_utf8_lossy(&row.value).contains(secret.expose()));
    assert!(!all.one.own().jwks().contains("\"d\""), "a private member in a public document");
    // Another vault opens nothing, and nothing starts with it.
    let (clock, _) = Clock::manual(0);
    assert!(matches!(keeper(&all.store, &vault(), &clock).await, Err(IssuerError::Vault(_))));
    assert!(all.one.check(&vault()).is_err() && all.one.check(&all.vault).is_ok());
}

#[tokio::test]
async fn of_two_first_keys_made_at_once_one_stays() {
    let (clock, _) = Clock::manual(1_800_000_000_000);
    let (store, vault) = (Store::in_memory().expect("a store"), vault());
    let one = keeper(&store, &vault, &clock).await.expect("opens");
    let other = keeper(&store, &vault, &clock).await.expect("opens");
    let (left, right) = tokio::join!(one.ensure(), other.ensure());
    left.and(right).expect("made");
    assert_eq!(kids(&one), kids(&other));
}

#[tokio::test]
async fn a_revocation_is_in_force_here_at_once_and_there_at_the_next_tick() {
    let all = replicas().await;
    let (dead, alive) = (token(&all.one, "app_1", "grant_1"), token(&all.one, "app_2", "grant_2"));
    all.one
        .revoke(Act::new("t", "grant.revoked", "grant_1", ""), &["grant_1".to_owned()], Vec::new())
        .await
        .expect("revoked");
    assert!(!knows(&all.one, &dead) && knows(&all.one, &alive));
    all.other.tick().await.expect("read");
    assert!(!knows(&all.other, &dead) && knows(&all.other, &alive));
    // An app: all of its grants.
    all.other
        .revoke(Act::new("t", "app.deleted", "app_2", ""), &["app_2".to_owned()], Vec::new())
        .await
        .expect("revoked");
    all.one.tick().await.expect("read");
    assert!(!knows(&all.one, &alive));
    // Remembered by a process that starts now, and forgotten when no token can be alive.
    let (clock, _) = Clock::manual(1_800_000_000_000);
    assert!(!knows(&keeper(&all.store, &all.vault, &clock).await.expect("opens"), &dead));
    all.hand.advance(MAX_LIFETIME + Duration::from_secs(2 * SKEW));
    all.one.tick().await.expect("swept");
    assert!(all.store.list(REVOKED, None, 10).await.expect("read").is_empty());
}

#[tokio::test]
async fn a_new_key_is_known_before_it_signs_and_the_old_one_until_its_tokens_are_dead() {
    let all = replicas().await;
    let old = token(&all.one, OWN_CLIENT, "ses_1");
    let kid = all.one.rotate("t", false).await.expect("rotated");
    // The other replica has not looked yet, and need not: the old key still signs.
    assert!(knows(&all.other, &token(&all.one, OWN_CLIENT, "ses_2")));
    all.other.tick().await.expect("read");
    assert_eq!(kids(&all.other).len(), 2);
    all.hand.advance(AHEAD);
    let new = token(&all.one, OWN_CLIENT, "ses_3");
    let header = jsonwebtoken::decode_header(&new).expect("a header");
    assert_eq!(header.kid.as_deref(), Some(&*kid));
    assert!(knows(&all.other, &new) && knows(&all.other, &old));
    all.hand.advance(MAX_LIFETIME - AHEAD);
    all.one.tick().await.expect("swept");
    assert_eq!(kids(&all.one).len(), 2, "a token of the old key may still be alive");
    all.hand.advance(AHEAD + Duration::from_secs(2 * SKEW) + SWEEP_EVERY);
    all.one.tick().await.expect("swept");
    assert_eq!(kids(&all.one), [kid]);
}

#[tokio::test]
async fn a_key_that_leaked_is_gone_at_once_with_all_that_it_signed() {
    let all = replicas().await;
    let old = token(&all.one, OWN_CLIENT, "ses_1");
    all.one.rotate("t", true).await.expect("rotated");
    assert!(!knows(&all.one, &old));
    all.other.tick().await.expect("read");
    assert!(!knows(&all.other, &old));
    assert!(knows(&all.other, &token(&all.one, OWN_CLIENT, "ses_2")));
}

#[tokio::test]
async fn keys_move_to_the_vaults_new_key() {
    let all = replicas().await;
    let old = token(&all.one, OWN_CLIENT, "ses_1");
    let (k1, k2) = (MasterKey::for_this_process(), MasterKey::for_this_process());
    let both = |first: &MasterKey, then: &MasterKey| {
        Arc::new(Vault::new(vec![first.clone(), then.clone()]).expect("keys"))
    };
    let (clock, _) = Clock::manual(1_800_000_000_000);
    let store = Store::in_memory().expect("a store");
    let first = keeper(&store, &both(&k1, &k2), &clock).await.expect("opens");
    first.ensure().await.expect("made");
    let token = token(&first, OWN_CLIENT, "ses_1");
    first.put_vault(both(&k2, &k1));
    assert_eq!(first.reseal().await.expect("resealed"), (1, 1));
    assert_eq!(first.reseal().await.expect("nothing to do"), (1, 0));
    let only_new = Arc::new(Vault::new(vec![k2]).expect("a key"));
    assert!(knows(&keeper(&store, &only_new, &clock).await.expect("opens"), &token));
    assert!(!knows(&first, &old), "the key of another Weir");
}

/// Of two replicas one has the vault's new key already: what is sealed with it keeps no revocation back from the other.
#[tokio::test]
async fn a_ring_that_cannot_be_opened_keeps_no_revocation_back() {
    let (clock, _) = Clock::manual(1_800_000_000_000);
    let store = Store::in_memory().expect("a store");
    let (k1, k2) = (MasterKey::for_this_process(), MasterKey::for_this_process());
    let vault =
        |keys: &[&MasterKey]| Arc::new(Vault::new(keys.iter().copied().cloned().collect()).expect("keys"));
    let one = keeper(&store, &vault(&[&k1]), &clock).await.expect("opens");
    one.ensure().await.expect("made");
    let other = keeper(&store, &vault(&[&k1]), &clock).await.expect("opens");
    one.put_vault(vault(&[&k2, &k1]));
    one.reseal().await.expect("resealed");
    let (dead, alive) = (token(&one, "app_1", "grant_1"), token(&one, "app_1", "grant_2"));
    one.revoke(Act::new("t", "grant.revoked", "grant_1", ""), &["grant_1".to_owned()], Vec::new())
        .await
        .expect("revoked");
    assert!(matches!(other.tick().await, Err(IssuerError::Vault(_))), "it is said each time");
    assert!(!knows(&other, &dead) && knows(&other, &alive));
}

#[tokio::test]
async fn however_many_revocations_are_over_all_are_forgotten() {
    let all = replicas().await;
    for start in [0, 1000, 2000] {
        let rows = (start..start + 900).map(|number| Write::Put {
            table: REVOKED,
            id: format!("grant_{number}"),
            value: br#"{"until":1}"#.to_vec(),
            expect: Expect::Absent,
        });
        all.store.commit(rows.collect()).await.expect("written");
    }
    all.hand.advance(SWEEP_EVERY);
    all.one.tick().await.expect("swept");
    assert!(all.store.list(REVOKED, None, 10).await.expect("read").is_empty());
}
