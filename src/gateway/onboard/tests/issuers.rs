//! What an issuer says of itself is asked once in a while, whatever the number of accounts.

use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;
use crate::gateway::onboard::renewal::{Renewals, Renewed};
use crate::oauth::{Answer, OAuthError, Outgoing, Web};
use crate::store::Store;

/// An issuer whose row says nothing else of it.
#[derive(Debug, Default)]
struct Issuer {
    is_away: Mutex<bool>,
    documents: Mutex<usize>,
    tokens: Mutex<usize>,
}

#[async_trait]
impl Web for Issuer {
    async fn send(&self, outgoing: Outgoing) -> Result<Answer, OAuthError> {
        let body = if outgoing.url.path().contains(".well-known") {
            *self.documents.lock() += 1;
            if *self.is_away.lock() {
                return Err(OAuthError::Unavailable { why: "no connection".to_owned(), after: None });
            }
            json!({
                "issuer": "https://id.example", "token_endpoint": "https://id.example/token",
                "authorization_endpoint": "https://id.example/authorize",
            })
        } else {
            *self.tokens.lock() += 1;
            json!({"access_token": "new", "token_type": "bearer", "expires_in": 3600})
        };
        Ok(Answer { status: 200, retry_after: None, body: body.to_string().into_bytes() })
    }
}

fn ground_of_issuer(vault: &Arc<Vault>) -> Ground {
    let row = ProviderRow {
        issuer: Some("https://id.example".to_owned()),
        client_id: Some("weir".to_owned()),
        ..ProviderRow::default()
    };
    let mut ground = ground(vault, &[]);
    ground.oauth.providers = vec![Arc::new(Provider::compile("id", row).expect("a row"))];
    ground
}

#[tokio::test]
async fn an_issuer_is_asked_once_for_many_renewals_and_need_not_answer_again() {
    let (clock, hand) = clock();
    let vault = vault();
    let records: Arc<dyn Records> = Arc::new(Store::in_memory().expect("a store"));
    let ids: Vec<AccountId> = (0..30).map(|number| AccountId::from(format!("acc_{number:02}"))).collect();
    let writes = ids.iter().map(|id| put(&consented(id.as_str(), "id", 7200), &vault));
    records.commit(writes.collect()).await.expect("written");
    let onboard = replica(&clock, &records, ground_of_issuer(&vault)).await;
    let web = Arc::new(Issuer::default());
    let renewals = Renewals::new(Arc::clone(&onboard), Engine::new(web.clone()), Arc::default());
    let renew = async |ids: &[AccountId], wanted: Renewed| {
        for renewed in futures_util::future::join_all(ids.iter().map(|id| renewals.renew_now(id))).await {
            assert_eq!(renewed, wanted);
        }
        (*web.documents.lock(), *web.tokens.lock())
    };
    // Nothing is known yet, and it is away: asked once, and not again at once.
    *web.is_away.lock() = true;
    assert_eq!(renew(&ids[..5], Renewed::NotNow).await, (1, 0));
    *web.is_away.lock() = false;
    hand.advance(Duration::from_secs(6));
    assert_eq!(renew(&ids[5..15], Renewed::Newer).await, (2, 10));
    hand.advance(Duration::from_secs(300));
    assert_eq!(renew(&ids[15..20], Renewed::Newer).await, (2, 15), "it is fresh");
    // Long ago, and away: what was known goes on.
    hand.advance(Duration::from_secs(301));
    *web.is_away.lock() = true;
    assert_eq!(renew(&ids[20..25], Renewed::Newer).await, (3, 20));
    // A configuration that was put in force anew asks anew.
    *web.is_away.lock() = false;
    let world = World::clone(&onboard.gateway.world());
    onboard.put_in_force(world, ground_of_issuer(&vault)).expect("in force");
    assert_eq!(renew(&ids[25..], Renewed::Newer).await, (4, 25));
}
