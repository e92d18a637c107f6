//! A provider that hangs is nobody else's trouble.

use std::collections::HashMap;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::*;
use crate::gateway::onboard::renewal::Renewals;
use crate::oauth::{Answer, Engine, OAuthError, Outgoing, Web};
use crate::store::{Store, all};

/// Providers by their hosts. Those called slow answer once they may.
#[derive(Debug)]
struct Providers {
    may: Semaphore,
    /// Who was asked by which refresh token, in order.
    asked: Mutex<Vec<(String, String)>>,
    under_way: Mutex<HashMap<String, usize>>,
}

impl Providers {
    fn asked(&self, host: &str) -> Vec<String> {
        let asked = self.asked.lock();
        asked.iter().filter(|(of, _)| of == host).map(|(_, token)| token.clone()).collect()
    }
}

#[async_trait]
impl Web for Providers {
    async fn send(&self, outgoing: Outgoing) -> Result<Answer, OAuthError> {
        let host = outgoing.url.host_str().expect("a host").to_owned();
        let form: HashMap<String, String> =
            url::form_urlencoded::parse(&outgoing.body).into_owned().collect();
        self.asked.lock().push((host.clone(), form["refresh_token"].clone()));
        *self.under_way.lock().entry(host.clone()).or_default() += 1;
        if host.starts_with("slow") {
            self.may.acquire().await.expect("open").forget();
        }
        *self.under_way.lock().entry(host).or_default() -= 1;
        let body = json!({"access_token": "new", "token_type": "bearer", "expires_in": 3600});
        Ok(Answer { status: 200, retry_after: None, body: body.to_string().into_bytes() })
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = timeout(Duration::from_secs(60), async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

#[tokio::test]
async fn a_thousand_accounts_of_a_provider_that_hangs_keep_no_other_waiting() {
    let (clock, _hand) = clock();
    let vault = vault();
    let records: Arc<dyn Records> = Arc::new(Store::in_memory().expect("a store"));
    let onboard = replica(&clock, &records, ground(&vault, &["quick", "slow-1", "slow-2"])).await;
    let mut writes = Vec::new();
    for number in 0..1000 {
        let name = format!("slow-{}", 1 + number % 2);
        writes.push(put(&consented(&format!("acc_{number:04}"), &name, 100), &vault));
    }
    // By its id the last of all.
    writes.push(put(&consented("acc_z1", "quick", 100), &vault));
    writes.push(put(&consented("acc_z2", "quick", 2000), &vault));
    records.commit(writes).await.expect("written");
    onboard.refresh().await.expect("read");
    let web =
        Arc::new(Providers { may: Semaphore::new(0), asked: Mutex::default(), under_way: Mutex::default() });
    let renewals = Renewals::new(Arc::clone(&onboard), Engine::new(web.clone()), Arc::default());
    renewals.tick();
    until("the account of the quick one is renewed", || web.asked("quick.example").len() == 1).await;
    until("so many are under way", || web.asked.lock().len() == 1 + 2 * 8).await;
    // What becomes due meanwhile is renewed, too, and nothing is begun twice.
    let (record, kit) = consented("acc_z2", "quick", 100);
    records.commit(vec![put(&(record, kit), &vault)]).await.expect("written");
    for _ in 0..10 {
        onboard.refresh().await.expect("read");
        renewals.tick();
        sleep(Duration::from_millis(10)).await;
    }
    until("the other one, too", || web.asked("quick.example").len() == 2).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(web.asked("quick.example"), ["refresh-of-acc_z1", "refresh-of-acc_z2"]);
    for slow in ["slow-1.example", "slow-2.example"] {
        assert_eq!((web.asked(slow).len(), web.under_way.lock()[slow]), (8, 8), "{slow}");
    }
    // Once they answer, each account gets its turn, and none gets two.
    web.may.add_permits(2000);
    until("all are renewed", || web.asked.lock().len() == 1002).await;
    until("and their tokens are kept", || renewals.close(Duration::ZERO)).await;
    let kept = all(&*records, TABLE).await.expect("read");
    assert!(kept.iter().all(|row| {
        let held = Held::read(row, &vault).expect("an account");
        held.kit.access().is_some_and(|access| access.expose() == "new")
    }));
    let mut tokens: Vec<String> = web.asked.lock().iter().map(|(_, token)| token.clone()).collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 1002, "none was asked for twice");
}
