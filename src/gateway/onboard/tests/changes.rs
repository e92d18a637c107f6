//! What a change of one account costs, and that it comes to the same as if all of them were read again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;

use super::*;
use crate::gateway::onboard::renewal::{Renewals, Renewed};
use crate::ids::PlatformName;
use crate::oauth::{Answer, Engine, OAuthError, Outgoing, Web};
use crate::pool::Want;
use crate::redis_link::server::Server;
use crate::store::{News, Redis, Row, Store};

/// A store that counts what is read of it.
#[derive(Debug)]
struct Counted {
    store: Arc<dyn Records>,
    rows: AtomicUsize,
    /// The next row that is asked for is read, and comes when it is let go.
    is_slow: AtomicBool,
    go: Notify,
}

impl Counted {
    fn over(store: &Arc<dyn Records>) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::clone(store),
            rows: AtomicUsize::new(0),
            is_slow: AtomicBool::new(false),
            go: Notify::new(),
        })
    }

    /// The rows that were read since this was last asked.
    fn read(&self) -> usize {
        self.rows.swap(0, Ordering::SeqCst)
    }
}

#[async_trait]
impl Records for Counted {
    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>, StoreError> {
        self.store.commit(writes).await
    }

    async fn list(&self, table: Name, after: Option<&str>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let rows = self.store.list(table, after, limit).await?;
        self.rows.fetch_add(rows.len(), Ordering::SeqCst);
        Ok(rows)
    }

    async fn get(&self, table: Name, id: &str) -> Result<Option<Row>, StoreError> {
        self.rows.fetch_add(1, Ordering::SeqCst);
        let row = self.store.get(table, id).await;
        if self.is_slow.swap(false, Ordering::SeqCst) {
            self.go.notified().await;
        }
        row
    }

    async fn generation(&self, table: Name) -> Result<u64, StoreError> {
        self.store.generation(table).await
    }

    async fn changes(&self, table: Name, since: Option<&Mark>) -> Result<News, StoreError> {
        self.store.changes(table, since).await
    }

    async fn read(&self, log: Name, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.store.read(log, from, limit).await
    }

    async fn end(&self, log: Name) -> Result<u64, StoreError> {
        self.store.end(log).await
    }

    async fn add(&self, who: &str, place: u64, deltas: Vec<(String, Vec<i64>)>) -> Result<bool, StoreError> {
        self.store.add(who, place, deltas).await
    }

    async fn added(&self, replica: &str) -> Result<u64, StoreError> {
        self.store.added(replica).await
    }

    async fn totals(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<i64>)>, StoreError> {
        self.store.totals(prefix, after, limit).await
    }

    async fn forget(&self, keys: Vec<String>) -> Result<(), StoreError> {
        self.store.forget(keys).await
    }
}

/// A provider that gives whoever asks a new token.
#[derive(Debug)]
struct Generous;

#[async_trait]
impl Web for Generous {
    async fn send(&self, _: Outgoing) -> Result<Answer, OAuthError> {
        let body = json!({"access_token": "new", "token_type": "bearer", "expires_in": 3600});
        Ok(Answer { status: 200, retry_after: None, body: body.to_string().into_bytes() })
    }
}

/// Whom the pool lets carry a tenant's requests, with what is sent to the platform: its credential, its own name of the model.
fn candidates(onboard: &Onboard, tenant: &str) -> BTreeMap<String, String> {
    let (tenant, platform) = (TenantId::from(tenant), PlatformName::from("openai"));
    let (mut found, mut tried) = (BTreeMap::new(), Vec::new());
    loop {
        let want = Want {
            tenant: &tenant,
            platform: &platform,
            model: "gpt-4o",
            tokens: 1,
            strategy: pool::settings::Strategy::default(),
            affinity: None,
            tried: &tried,
        };
        let Ok(taken) = onboard.gateway.pool.take(&want) else { return found };
        let account = Arc::clone(taken.account());
        let Credential::ApiKey(key) = &account.credential else { panic!("{:?}", account.credential) };
        found.insert(account.id.as_str().to_owned(), format!("{} {}", key.expose(), taken.upstream_model()));
        tried.push(account.id.clone());
    }
}

/// What is sent for an account that carries a tenant of its own name.
fn sent(onboard: &Onboard, id: &str) -> Option<String> {
    candidates(onboard, id).remove(id)
}

#[tokio::test]
async fn one_renewal_among_two_thousand_reads_a_handful_of_rows() {
    let (clock, _hand) = clock();
    let vault = vault();
    let store: Arc<dyn Records> = Arc::new(Store::in_memory().expect("a store"));
    let of = |number: usize| {
        let (mut record, kit) = consented(&format!("acc_{number:04}"), "quick", 2000);
        record.tenants = vec![TenantId::from(record.id.as_str())];
        (record, kit)
    };
    for part in 0..4 {
        let writes = (part * 500..(part + 1) * 500).map(|number| put(&of(number), &vault));
        store.commit(writes.collect()).await.expect("written");
    }
    let (here, there) = (Counted::over(&store), Counted::over(&store));
    let replica = async |counted: &Arc<Counted>| {
        let records: Arc<dyn Records> = counted.clone();
        replica(&clock, &records, ground(&vault, &["quick"])).await
    };
    let (one, other) = (replica(&here).await, replica(&there).await);
    assert!(here.read() >= 2000 && there.read() >= 2000, "read once, at the start");
    let laid_out = [&one, &other].map(|replica| replica.gateway.world());
    let renewals = Renewals::new(Arc::clone(&one), Engine::new(Arc::new(Generous)), Arc::default());
    let id = AccountId::from("acc_1234");
    assert_eq!(renewals.renew_now(&id).await, Renewed::Newer);
    let read = here.read();
    assert!(read <= 6, "{read} rows where it was renewed");
    other.refresh().await.expect("read");
    assert_eq!(there.read(), 1, "and elsewhere its own");
    for (replica, then) in [&one, &other].into_iter().zip(&laid_out) {
        assert_eq!(sent(replica, "acc_1234").as_deref(), Some("new gpt-4o"));
        assert_eq!(sent(replica, "acc_1235").as_deref(), Some("access of acc_1235 gpt-4o"));
        assert!(Arc::ptr_eq(&replica.gateway.world(), then), "nothing else was laid out anew");
    }
    // Nothing new, nothing read; nor of a table of somebody else's.
    store
        .commit(vec![Write::Put {
            table: USES,
            id: "x".to_owned(),
            value: Vec::new(),
            expect: Expect::Anything,
        }])
        .await
        .expect("written");
    for (replica, counted) in [(&one, &here), (&other, &there)] {
        replica.refresh().await.expect("read");
        assert_eq!(counted.read(), 0);
    }
}

/// Somebody changes accounts, in any way that is possible.
struct Mischief {
    random: SmallRng,
    vault: Arc<Vault>,
    /// One that nobody else has.
    foreign: Arc<Vault>,
}

impl Mischief {
    fn id(&mut self) -> String {
        format!("acc_{:02}", self.random.random_range(0..12))
    }

    /// An account under any of a few ids.
    fn account(&mut self) -> (AccountRecord, Kit) {
        let (mut record, mut kit) = consented(&self.id(), "quick", 2000);
        if self.random.random_bool(0.5) {
            record.consent = None;
            let key = format!("sk-{}", self.random.random_range(0..1000));
            kit = Kit::of(Credential::ApiKey(Secret::new(key)));
        }
        record.name = format!("name {}", self.random.random_range(0..1000));
        record.tenants = vec![TenantId::from(record.id.as_str())];
        if self.random.random_bool(0.3) {
            record.tenants.push(TenantId::from("shared"));
        }
        record.weight = self.random.random_range(1..3);
        record.enabled = self.random.random_bool(0.8);
        if self.random.random_bool(0.2) {
            record.models = vec![("gpt-4o".to_owned(), "own".to_owned())];
        }
        if self.random.random_bool(0.1) {
            record.platform = PlatformName::from("there is none");
        }
        (record, kit)
    }

    /// One change, or a few at once.
    fn writes(&mut self) -> Vec<Write> {
        let mut writes: BTreeMap<String, Write> = BTreeMap::new();
        for _ in 0..self.random.random_range(1..4) {
            let account = self.account();
            let id = account.0.id.clone();
            let write = match self.random.random_range(0..10) {
                0..6 => put(&account, &self.vault),
                6 => put(&account, &self.foreign),
                _ => Write::Delete { table: TABLE, id: id.clone(), expect: Expect::Anything },
            };
            writes.insert(id, write);
        }
        writes.into_values().collect()
    }
}

/// What a replica knows and what its pool does with it, in words.
fn shown(onboard: &Onboard, ids: &[String]) -> Vec<String> {
    let listed =
        onboard.list(&Reach::Everything).into_iter().filter(|listed| ids.contains(&listed.record.id));
    let listed = listed.map(|listed| format!("{:?} {:?}", listed.record, listed.state));
    let carried = ids.iter().map(String::as_str).chain(["shared"]).map(|tenant| {
        let mut all = candidates(onboard, tenant);
        all.retain(|id, _| ids.contains(id));
        format!("{tenant}: {all:?}")
    });
    listed.chain(carried).collect()
}

async fn comes_to_the_same(store: Arc<dyn Records>, seed: u64) {
    let (clock, _hand) = clock();
    let vault = vault();
    let mut mischief =
        Mischief { random: SmallRng::seed_from_u64(seed), vault: vault.clone(), foreign: self::vault() };
    let ground = || ground(&vault, &["quick"]);
    let replicas = [replica(&clock, &store, ground()).await, replica(&clock, &store, ground()).await];
    for round in 0..40 {
        // One of the two looks often, the other one hardly ever.
        for _ in 0..mischief.random.random_range(1..5) {
            store.commit(mischief.writes()).await.expect("written");
            if mischief.random.random_bool(0.5) {
                replicas[0].refresh().await.expect("read");
            }
        }
        if mischief.random.random_bool(0.05) {
            // More than anybody remembers.
            for _ in 0..1100 / 12 {
                let all = (0..12).map(|_| mischief.account()).map(|account| (account.0.id.clone(), account));
                let all: BTreeMap<_, _> = all.collect();
                store
                    .commit(all.values().map(|account| put(account, &vault)).collect())
                    .await
                    .expect("written");
            }
        }
        for replica in &replicas {
            replica.refresh().await.expect("read");
        }
        // As a gateway sees it that reads everything; what cannot be read is another matter.
        let rows = store::all(&*store, TABLE).await.expect("read");
        let clean: Arc<dyn Records> = Arc::new(Store::in_memory().expect("a store"));
        let mut readable: Vec<String> = (0..12).map(|number| format!("acc_{number:02}")).collect();
        for row in rows {
            match Held::read(&row, &vault) {
                Ok(_) => {
                    let (id, value) = (row.id, row.value);
                    let put = Write::Put { table: TABLE, id, value, expect: Expect::Absent };
                    clean.commit(vec![put]).await.expect("written");
                }
                Err(_) => readable.retain(|id| *id != row.id),
            }
        }
        let wanted = shown(&*replica(&clock, &clean, ground()).await, &readable);
        for (number, replica) in replicas.iter().enumerate() {
            assert_eq!(shown(replica, &readable), wanted, "seed {seed}, round {round}, replica {number}");
        }
    }
}

#[tokio::test]
async fn any_changes_come_to_the_same_as_reading_all() {
    for seed in 0..5 {
        comes_to_the_same(Arc::new(Store::in_memory().expect("a store")), seed).await;
    }
}

#[tokio::test]
async fn any_changes_come_to_the_same_as_reading_all_of_redis() {
    for seed in 0..2 {
        let server = Server::start();
        comes_to_the_same(Arc::new(Redis::new(server.link().await, false)), seed).await;
    }
}

#[tokio::test]
async fn an_account_that_a_new_vault_can_read_is_read_then() {
    let (clock, _hand) = clock();
    let (old, new) = (MasterKey::for_this_process(), MasterKey::for_this_process());
    let both = Arc::new(Vault::new(vec![new, old.clone()]).expect("a vault"));
    let old = Arc::new(Vault::new(vec![old]).expect("a vault"));
    let store: Arc<dyn Records> = Arc::new(Store::in_memory().expect("a store"));
    let of = |id: &str| {
        let (mut record, kit) = consented(id, "quick", 2000);
        record.tenants = vec![TenantId::from(id)];
        (record, kit)
    };
    store.commit(vec![put(&of("acc_1"), &old)]).await.expect("written");
    let onboard = replica(&clock, &store, ground(&old, &["quick"])).await;
    // Another replica has the new key already, and writes by it.
    let (record, kit) = of("acc_1");
    let record = AccountRecord { name: "new".to_owned(), ..record };
    store.commit(vec![put(&(record, kit), &both), put(&of("acc_2"), &both)]).await.expect("written");
    store.commit(vec![put(&of("acc_3"), &old)]).await.expect("written");
    onboard.refresh().await.expect("read");
    let names =
        || onboard.list(&Reach::Everything).into_iter().map(|one| one.record.name).collect::<Vec<_>>();
    assert_eq!(names(), ["acc_1", "acc_3"], "what is known stays, and what can be read comes");
    let world = World::clone(&onboard.gateway.world());
    onboard.put_in_force(world, ground(&both, &["quick"])).expect("in force");
    onboard.refresh().await.expect("read");
    assert_eq!(names(), ["new", "acc_2", "acc_3"]);
    assert!(sent(&onboard, "acc_2").is_some());
}

#[tokio::test]
async fn whoever_reads_slowly_brings_nothing_old_back() {
    let (clock, _hand) = clock();
    let vault = vault();
    let store: Arc<dyn Records> = Arc::new(Store::in_memory().expect("a store"));
    let slow = Counted::over(&store);
    let records: Arc<dyn Records> = slow.clone();
    let onboard = replica(&clock, &records, ground(&vault, &["quick"])).await;
    let write = async |name: &str| {
        let (record, kit) = consented("acc_1", "quick", 2000);
        let record = AccountRecord { name: name.to_owned(), ..record };
        store.commit(vec![put(&(record, kit), &vault)]).await.expect("written");
    };
    let name = || onboard.list(&Reach::Everything)[0].record.name.clone();
    write("none").await;
    onboard.refresh().await.expect("read");
    write("first").await;
    slow.is_slow.store(true, Ordering::SeqCst);
    let behind = tokio::spawn({
        let onboard = Arc::clone(&onboard);
        async move { onboard.refresh().await }
    });
    while slow.is_slow.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    write("second").await;
    onboard.refresh().await.expect("read");
    assert_eq!(name(), "second");
    slow.go.notify_one();
    behind.await.expect("no panic").expect("read");
    assert_eq!(name(), "second");
    write("third").await;
    onboard.refresh().await.expect("read");
    assert_eq!(name(), "third");
}
