//! Two replicas over one store, one hand on both clocks, and people who are whoever the test says.

use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use parking_lot::RwLock;

use super::consent::CODE_LIFE;
use super::*;
use crate::clock::Hand;
use crate::gateway::issuer::Keeper;
use crate::gateway::reach::Reach;
use crate::identity::OwnIssuer;
use crate::opaque;
use crate::secret::Secret;
use crate::store::{Expect, Mark, Name, News, Row, Store};
use crate::vault::{MasterKey, Vault};

const ISSUER: &str = "https://weir.test";
const BACK: &str = "https://app.example/cb";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Everybody is welcome until they are gone.
#[derive(Debug, Default)]
struct People {
    gone: RwLock<bool>,
    mute: RwLock<bool>,
}

#[async_trait]
impl Visitors for People {
    async fn visitor(&self, _: &HeaderMap) -> Result<Option<Visitor>, StoreError> {
        Ok(None)
    }

    fn sign_in(&self, _: &str) -> Option<String> {
        None
    }

    async fn person(&self, _: &Who) -> Result<Option<Person>, StoreError> {
        let may_chat = !*self.mute.read();
        Ok((!*self.gone.read()).then(|| Person {
            may_chat,
            models: Some(vec!["qwen-*".into()]),
            ..Person::default()
        }))
    }
}

/// A store on the other side of a line: an answer may be lost on the way back, and another one come in its place.
#[derive(Debug)]
struct Line {
    store: Store,
    /// What comes in place of the next answer to a change that was made.
    instead: Mutex<Option<StoreError>>,
    /// The most changes that were made at once.
    most: Mutex<usize>,
}

impl Line {
    fn lose(&self, error: StoreError) {
        *self.instead.lock() = Some(error);
    }
}

#[async_trait]
impl Records for Line {
    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>, StoreError> {
        {
            let mut most = self.most.lock();
            *most = writes.len().max(*most);
        }
        let done = self.store.commit(writes).await?;
        match self.instead.lock().take() {
            Some(error) => Err(error),
            None => Ok(done),
        }
    }

    async fn list(&self, table: Name, after: Option<&str>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.store.list(table, after, limit).await
    }

    async fn get(&self, table: Name, id: &str) -> Result<Option<Row>, StoreError> {
        self.store.get(table, id).await
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

struct Town {
    one: Arc<Provider>,
    other: Arc<Provider>,
    people: Arc<People>,
    store: Store,
    line: Arc<Line>,
    hand: Arc<Hand>,
}

async fn town() -> Town {
    let (clock, hand) = Clock::manual(1_800_000_000_000);
    let store = Store::in_memory().expect("a store");
    let vault = Arc::new(Vault::new(vec![MasterKey::for_this_process()]).expect("a vault"));
    let people = Arc::new(People::default());
    let line = Line { store: store.clone(), instead: Mutex::default(), most: Mutex::default() };
    let line = Arc::new(line);
    let replica = async || {
        let own = Arc::new(OwnIssuer::new(clock.clone()));
        own.rename(Some(ISSUER), true);
        let records: Arc<dyn Records> = line.clone();
        let keeper = Keeper::open(own, Arc::clone(&records), Arc::clone(&vault), clock.clone()).await;
        let settings = Settings { enabled: true, public_url: Some(ISSUER.into()), ..Settings::default() };
        let visitors: Arc<dyn Visitors> = people.clone();
        let provider =
            Provider::new(Arc::new(keeper.expect("opens")), records, visitors, settings, clock.clone());
        provider.tick().await.expect("ticks");
        Arc::new(provider)
    };
    let (one, other) = (replica().await, replica().await);
    Town { one, other, people, store, line, hand }
}

fn visitor(subject: &str) -> Visitor {
    Visitor {
        who: Who { tenant: "t".into(), subject: subject.into() },
        person: Person { may_chat: true, ..Person::default() },
        session: format!("session of {subject}"),
    }
}

fn params(pairs: &[(&str, &str)]) -> Params {
    Params::read(&url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
}

fn asking(client_id: &str, scope: &str, more: &[(&str, &str)]) -> Params {
    let mut pairs = vec![
        ("client_id", client_id),
        ("redirect_uri", BACK),
        ("response_type", "code"),
        ("state", "s"),
        ("scope", scope),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    pairs.extend(more);
    params(&pairs)
}

/// What stands in the query of a way back.
fn found(allowed: &Allowed, name: &str) -> Option<String> {
    let url = url::Url::parse(allowed.to.expose()).expect("a URL");
    let mut all = url.query_pairs().filter(|(known, _)| known == name).map(|(_, value)| value.into_owned());
    let one = all.next();
    assert!(all.next().is_none(), "two of {name}");
    one
}

impl Town {
    async fn app(&self, is_public: bool) -> (App, Option<Secret>) {
        let new = NewApp {
            name: "An app".into(),
            redirect_uris: vec![BACK.into()],
            is_public,
            ..NewApp::default()
        };
        let (record, secret) =
            self.one.register("t/dev", (&"dev".into(), None), new).await.expect("registered");
        let app =
            self.other.authenticate(&record.client_id, secret.as_ref()).await.expect("known over there");
        (app, secret)
    }

    async fn begin(&self, who: &Visitor, params: &Params) -> Step {
        let (app, request) = self.one.read_request(params).await.expect("read").expect("right");
        self.one.begin(who, app, request).await.expect("begun")
    }

    async fn ticket(&self, who: &Visitor, params: &Params) -> Secret {
        match self.begin(who, params).await {
            Step::Ask(asked) => asked.ticket,
            other => panic!("not asked: {other:?}"),
        }
    }

    async fn code(&self, app: &App, subject: &str, scope: &str) -> String {
        let who = visitor(subject);
        let ticket = self.ticket(&who, &asking(&app.record.client_id, scope, &[])).await;
        // Asked by one replica, answered to another.
        let allowed =
            self.other.answer(&who, ticket.expose(), Answer::Yes).await.expect("answered").expect("open");
        assert_eq!(found(&allowed, "iss").as_deref(), Some(ISSUER));
        assert_eq!(found(&allowed, "state").as_deref(), Some("s"));
        found(&allowed, "code").expect("a code")
    }

    async fn trade(&self, app: &App, code: &str) -> Result<Issued, String> {
        self.trade_with(app, code, BACK, Some(VERIFIER)).await
    }

    async fn trade_with(
        &self,
        app: &App,
        code: &str,
        back: &str,
        verifier: Option<&str>,
    ) -> Result<Issued, String> {
        let mut pairs = vec![("grant_type", "authorization_code"), ("code", code), ("redirect_uri", back)];
        pairs.extend(verifier.map(|verifier| ("code_verifier", verifier)));
        told(self.one.trade(app, &params(&pairs)).await)
    }

    async fn refresh(&self, at: &Provider, app: &App, token: &Secret) -> Result<Issued, String> {
        told(
            at.trade(app, &params(&[("grant_type", "refresh_token"), ("refresh_token", token.expose())]))
                .await,
        )
    }

    async fn granted(&self, app: &App, subject: &str, scope: &str) -> Issued {
        let code = self.code(app, subject, scope).await;
        self.trade(app, &code).await.expect("traded")
    }

    async fn ticks(&self) {
        self.one.tick().await.expect("ticks");
        self.other.tick().await.expect("ticks");
    }

    /// Whether an access token is taken by both replicas, or by none.
    async fn is_alive(&self, issued: &Issued) -> bool {
        self.ticks().await;
        let alive = |at: &Provider| at.keeper.own().look_at(issued.access_token.expose()).is_some();
        assert_eq!(alive(&self.one), alive(&self.other));
        alive(&self.one)
    }

    async fn acts(&self) -> Vec<String> {
        let entries = self.one.audit.list(0, 1000).await.expect("read");
        entries.into_iter().map(|(_, entry)| entry.act.what).collect()
    }
}

fn told<T>(result: Result<T, ProviderError>) -> Result<T, String> {
    result.map_err(|error| match error {
        ProviderError::OAuth(code, _) => code.as_str().to_owned(),
        other => format!("{other:?}"),
    })
}

const REFUSED: &str = "invalid_grant";

#[tokio::test]
async fn a_code_becomes_tokens_that_say_what_was_granted() {
    let town = town().await;
    for is_public in [true, false] {
        let (app, _) = town.app(is_public).await;
        let issued = town.granted(&app, "alice", "chat profile").await;
        assert_eq!((issued.expires_in, issued.scope.to_string().as_str()), (7200, "profile chat"));
        let seen = town.one.keeper.own().look_at(issued.access_token.expose()).expect("ours");
        assert_eq!((seen.subject.as_str(), seen.tenant.as_str()), ("alice", "t"));
        assert_eq!(&*seen.ties.client_id, app.record.client_id);
        assert!(seen.ties.has("chat") && !seen.ties.has("balance"));
        let body = issued.access_token.expose().split('.').nth(1).expect("a body").to_owned();
        let body =
            base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, body).expect("base64");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("json");
        assert_eq!(body["models"], serde_json::json!(["qwen-*"]));
    }
}

#[tokio::test]
async fn a_code_is_good_once_and_a_second_time_ends_what_the_first_gave() {
    let town = town().await;
    let (app, _) = town.app(true).await;
    let code = town.code(&app, "alice", "chat").await;
    let issued = town.trade(&app, &code).await.expect("traded");
    let bystander = town.granted(&app, "alice", "chat").await;
    assert!(town.is_alive(&issued).await);
    assert_eq!(town.trade(&app, &code).await.err().as_deref(), Some(REFUSED));
    assert!(!town.is_alive(&issued).await);
    assert_eq!(town.refresh(&town.other, &app, &issued.refresh_token).await.err().as_deref(), Some(REFUSED));
    assert!(town.is_alive(&bystander).await, "another grant of the same person and app");
    assert!(town.acts().await.contains(&"grant.code_replayed".to_owned()));
}

#[tokio::test]
async fn of_many_trades_of_one_code_at_most_one_gives_tokens_and_they_die() {
    let town = town().await;
    let (app, _) = town.app(true).await;
    let code = town.code(&app, "alice", "chat").await;
    let trades = (0..8).map(|_| town.trade(&app, &code));
    let all = futures_util::future::join_all(trades).await;
    let good: Vec<_> = all.into_iter().filter_map(Result::ok).collect();
    assert_eq!(good.len(), 1);
    assert!(!town.is_alive(&good[0]).await, "somebody else had the code");
}

#[tokio::test]
async fn a_code_is_for_its_client_its_redirect_its_verifier_and_a_minute() {
    let town = town().await;
    let (app, _) = town.app(true).await;
    let (other, _) = town.app(true).await;
    let code = town.code(&app, "alice", "chat").await;
    assert_eq!(town.trade(&other, &code).await.err().as_deref(), Some(REFUSED), "another client");
    assert!(town.trade(&app, &code).await.is_ok(), "who spoiled nothing");
    let wrong = opaque::random();
    for (back, verifier) in [
        ("https://app.example/cb/", Some(VERIFIER)),
        ("https://app.example/other", Some(VERIFIER)),
        (BACK, None),
        (BACK, Some(CHALLENGE)),
        (BACK, Some(wrong.expose())),
        (BACK, Some(&VERIFIER[1..])),
    ] {
        let code = town.code(&app, "alice", "chat").await;
        let refused = town.trade_with(&app, &code, back, verifier).await;
        assert_eq!(refused.err().as_deref(), Some(REFUSED), "{back} {verifier:?}");
        assert_eq!(town.trade(&app, &code).await.err().as_deref(), Some(REFUSED), "one try is all");
    }
    let code = town.code(&app, "alice", "chat").await;
    town.hand.advance(Duration::from_secs(CODE_LIFE - 1));
    let late = town.code(&app, "alice", "chat").await;
    assert!(town.trade(&app, &code).await.is_ok());
    town.hand.advance(Duration::from_secs(CODE_LIFE));
    assert_eq!(town.trade(&app, &late).await.err().as_deref(), Some(REFUSED));
    assert_eq!(town.trade(&app, "no code").await.err().as_deref(), Some(REFUSED));
}

#[tokio::test]
async fn a_verifier_without_a_challenge_is_a_downgrade() {
    let town = town().await;
    let (app, _) = town.app(false).await;
    let bare = |id: &str| {
        params(&[("client_id", id), ("redirect_uri", BACK), ("response_type", "code"), ("state", "s")])
    };
    let who = visitor("alice");
    for (verifier, is_good) in [(Some(VERIFIER), false), (None, true)] {
        let ticket = town.ticket(&who, &bare(&app.record.client_id)).await;
        let allowed =
            town.one.answer(&who, ticket.expose(), Answer::Yes).await.expect("answered").expect("open");
        let code = found(&allowed, "code").expect("a code");
        assert_eq!(town.trade_with(&app, &code, BACK, verifier).await.is_ok(), is_good);
    }
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_a_second_time_ends_the_chain() {
    let town = town().await;
    let (app, _) = town.app(true).await;
    let first = town.granted(&app, "alice", "chat").await;
    let second = town.refresh(&town.one, &app, &first.refresh_token).await.expect("renewed");
    let third = town.refresh(&town.other, &app, &second.refresh_token).await.expect("renewed elsewhere");
    assert!(first.refresh_token != second.refresh_token && second.refresh_token != third.refresh_token);
    assert!(town.is_alive(&third).await && town.is_alive(&first).await);
    // The oldest, two turns back.
    assert_eq!(town.refresh(&town.other, &app, &first.refresh_token).await.err().as_deref(), Some(REFUSED));
    for issued in [&first, &second, &third] {
        assert!(!town.is_alive(issued).await);
        assert_eq!(
            town.refresh(&town.one, &app, &issued.refresh_token).await.err().as_deref(),
            Some(REFUSED)
        );
    }
    let replays = town.acts().await.iter().filter(|act| *act == "grant.refresh_replayed").count();
    assert_eq!(replays, 1, "told once");
}

#[tokio::test]
async fn of_many_refreshes_at_once_at_most_one_gives_tokens() {
    let town = town().await;
    let (app, _) = town.app(true).await;
    let issued = town.granted(&app, "alice", "chat").await;
    let tries = (0..8).map(|at| {
        let at = if at % 2 == 0 { &town.one } else { &town.other };
        town.refresh(at, &app, &issued.refresh_token)
    });
    let good: Vec<_> =
        futures_util::future::join_all(tries).await.into_iter().filter_map(Result::ok).collect();
    assert_eq!(good.len(), 1);
    assert!(!town.is_alive(&good[0]).await);
}

#[tokio::test]
async fn a_refresh_token_is_for_its_client_and_dies_when_nobody_uses_it() {
    let town = town().await;
    let (app, _) = town.app(true).await;
    let (other, _) = town.app(true).await;
    let issued = town.granted(&app, "alice", "profile chat").await;
    assert_eq!(town.refresh(&town.one, &other, &issued.refresh_token).await.err().as_deref(), Some(REFUSED));
    // Less for a while, and never more.
    let ask = |scope: &str, token: &Secret| {
        params(&[("grant_type", "refresh_token"), ("refresh_token", token.expose()), ("scope", scope)])
    };
    let more = town.one.trade(&app, &ask("balance", &issued.refresh_token)).await;
    assert_eq!(told(more).err().as_deref(), Some("invalid_scope"));
    let less = town.one.trade(&app, &ask("profile", &issued.refresh_token)).await.expect("renewed");
    assert_eq!(less.scope.to_string(), "profile");
    let all = town.refresh(&town.one, &app, &less.refresh_token).await.expect("renewed");
    assert_eq!(all.scope.to_string(), "profile chat");
    let month = town.one.settings().refresh_ttl;
    town.hand.advance(month - Duration::from_secs(1));
    let last = town.refresh(&town.one, &app, &all.refresh_token).await.expect("to the last second");
    town.hand.advance(month);
    assert_eq!(town.refresh(&town.one, &app, &last.refresh_token).await.err().as_deref(), Some(REFUSED));
    town.ticks().await;
    town.hand.advance(Duration::from_secs(601));
    town.ticks().await;
    assert!(town.store.list(kept::GRANTS, None, 10).await.expect("read").is_empty(), "swept");
}

#[tokio::test]
async fn a_question_is_for_one_session_and_answered_once() {
    let town = town().await;
    let (app, _) = town.app(true).await;
    let (alice, mallory) = (visitor("alice"), visitor("mallory"));
    let ask = asking(&app.record.client_id, "chat", &[]);
    let ticket = town.ticket(&alice, &ask).await;
    let answer =
        async |who: &Visitor, ticket: &str| town.one.answer(who, ticket, Answer::Yes).await.expect("read");
    assert!(answer(&mallory, ticket.expose()).await.is_none(), "somebody else's question");
    assert!(answer(&alice, "a guess").await.is_none());
    let page = town.one.open_page(&alice).await.expect("a page");
    assert!(answer(&alice, page.expose()).await.is_none(), "a ticket of another page");
    assert!(!town.one.is_of_page(&alice, ticket.expose()).await.expect("read"));
    assert!(town.one.is_of_page(&alice, page.expose()).await.expect("read"));
    assert!(!town.one.is_of_page(&mallory, page.expose()).await.expect("read"));
    assert!(answer(&alice, ticket.expose()).await.is_some());
    assert!(answer(&alice, ticket.expose()).await.is_none(), "answered");
    let late = town.ticket(&alice, &ask).await;
    town.hand.advance(Duration::from_secs(601));
    assert!(answer(&alice, late.expose()).await.is_none(), "too late");
    let ticket = town.ticket(&alice, &ask).await;
    let no = town.other.answer(&alice, ticket.expose(), Answer::No).await.expect("read").expect("open");
    assert_eq!(found(&no, "error").as_deref(), Some("access_denied"));
    assert_eq!((found(&no, "state").as_deref(), found(&no, "code")), (Some("s"), None));
}

#[tokio::test]
async fn nobody_is_passed_by_without_having_agreed_to_all_of_it() {
    let town = town().await;
    let (app, _) = town.app(true).await;
    let id = app.record.client_id.clone();
    let auto = [("auto_authorize", "true")];
    let (alice, bob) = (visitor("alice"), visitor("bob"));
    assert!(matches!(town.begin(&alice, &asking(&id, "profile", &auto)).await, Step::Ask(_)), "never seen");
    town.granted(&app, "alice", "profile").await;
    let Step::Go(allowed) = town.begin(&alice, &asking(&id, "profile", &auto)).await else {
        panic!("asked again")
    };
    assert!(found(&allowed, "code").is_some());
    assert!(matches!(town.begin(&alice, &asking(&id, "profile", &[])).await, Step::Ask(_)), "not asked for");
    assert!(matches!(town.begin(&alice, &asking(&id, "profile chat", &auto)).await, Step::Ask(_)), "more");
    assert!(matches!(town.begin(&bob, &asking(&id, "profile", &auto)).await, Step::Ask(_)), "somebody else");
    let (second, _) = town.app(true).await;
    let other = asking(&second.record.client_id, "profile", &auto);
    assert!(matches!(town.begin(&alice, &other).await, Step::Ask(_)), "another app");
    town.one.take_back(&alice.who, &id).await.expect("taken back");
    assert!(matches!(town.begin(&alice, &asking(&id, "profile", &auto)).await, Step::Ask(_)), "taken back");
}

/// Anybody on the machine could have opened that port, or taken that scheme.
#[tokio::test]
async fn a_public_app_on_the_persons_own_machine_always_asks() {
    let town = town().await;
    let new = NewApp {
        name: "Native".into(),
        redirect_uris: vec!["http://127.0.0.1/cb".into()],
        is_public: true,
        ..NewApp::default()
    };
    let (record, _) = town.one.register("t/dev", (&"dev".into(), None), new).await.expect("registered");
    let ask = params(&[
        ("client_id", &record.client_id),
        ("redirect_uri", "http://127.0.0.1:5000/cb"),
        ("response_type", "code"),
        ("state", "s"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("auto_authorize", "true"),
    ]);
    let alice = visitor("alice");
    let ticket = town.ticket(&alice, &ask).await;
    town.one.answer(&alice, ticket.expose(), Answer::Yes).await.expect("read").expect("open");
    assert!(matches!(town.begin(&alice, &ask).await, Step::Ask(_)));
}

#[tokio::test]
async fn what_a_person_takes_back_is_dead_and_nothing_else_is() {
    let town = town().await;
    let (app, _) = town.app(true).await;
    let (other, _) = town.app(true).await;
    let (first, second) =
        (town.granted(&app, "alice", "chat").await, town.granted(&app, "alice", "profile").await);
    let (bobs, others) =
        (town.granted(&app, "bob", "chat").await, town.granted(&other, "alice", "chat").await);
    let waiting = town.code(&app, "alice", "chat").await;
    let alice = visitor("alice").who;
    let listed = town.other.granted(&alice).await.expect("listed");
    assert_eq!(listed.len(), 2);
    let mine = listed.iter().find(|one| one.client_id == app.record.client_id).expect("there");
    assert_eq!((mine.scope.to_string().as_str(), mine.is_active), ("profile chat", true));
    town.other.take_back(&alice, &app.record.client_id).await.expect("taken back");
    for dead in [&first, &second] {
        assert!(!town.is_alive(dead).await);
        assert_eq!(town.refresh(&town.one, &app, &dead.refresh_token).await.err().as_deref(), Some(REFUSED));
    }
    assert_eq!(town.trade(&app, &waiting).await.err().as_deref(), Some(REFUSED), "a code on its way");
    assert!(town.is_alive(&bobs).await && town.is_alive(&others).await);
    assert_eq!(town.one.granted(&alice).await.expect("listed").len(), 1);
    assert!(matches!(town.one.take_back(&alice, &app.record.client_id).await, Err(ProviderError::NotFound)));
    town.one.forget_person(&alice).await.expect("forgotten");
    assert!(!town.is_alive(&others).await && town.is_alive(&bobs).await);
}

#[tokio::test]
async fn whoever_is_gone_or_blocked_gets_nothing_more() {
    let town = town().await;
    let (app, _) = town.app(true).await;
    let issued = town.granted(&app, "alice", "chat").await;
    let code = town.code(&app, "alice", "chat").await;
    *town.people.mute.write() = true;
    assert!(town.refresh(&town.one, &app, &issued.refresh_token).await.is_err());
    *town.people.mute.write() = false;
    let issued = town.refresh(&town.one, &app, &issued.refresh_token).await.expect("may again");
    *town.people.gone.write() = true;
    assert_eq!(town.refresh(&town.one, &app, &issued.refresh_token).await.err().as_deref(), Some(REFUSED));
    assert_eq!(town.trade(&app, &code).await.err().as_deref(), Some(REFUSED));
    let silent = Visitor { person: Person::default(), ..visitor("carol") };
    let Step::Tell(back) = town.begin(&silent, &asking(&app.record.client_id, "chat", &[])).await else {
        panic!("asked for what they do not have, or led away by a stranger")
    };
    assert_eq!(found(&Allowed { to: back.to }, "error").as_deref(), Some("access_denied"));
}

#[tokio::test]
async fn an_app_proves_that_it_is_it_and_its_end_is_everybodys() {
    let town = town().await;
    let (app, secret) = town.app(false).await;
    let (public, _) = town.app(true).await;
    let secret = secret.expect("a secret");
    let id = &app.record.client_id;
    let refused = async |id: &str, secret: Option<&Secret>| {
        told(town.other.authenticate(id, secret).await).err().as_deref() == Some("invalid_client")
    };
    assert!(refused(id, None).await && refused(id, Some(&Secret::new(""))).await);
    assert!(refused(id, Some(&Secret::new("wrong"))).await);
    assert!(refused(id, Some(&Secret::new(opaque::hash(secret.expose())))).await, "the hash that is kept");
    assert!(refused("app_none", Some(&secret)).await && refused("app_none", None).await);
    assert!(
        refused(&public.record.client_id, Some(&secret)).await
            && refused(&public.record.client_id, Some(&Secret::new(""))).await
    );
    // Somebody else's app is not there.
    let (dev, other) = (Reach::Tenant("dev".into()), Reach::Tenant("other".into()));
    assert!(matches!(town.one.rotate_secret("o", &other, id).await, Err(ProviderError::NotFound)));
    assert!(matches!(town.one.delete_app("o", &other, id).await, Err(ProviderError::NotFound)));
    assert!(town.one.apps(&other).await.expect("listed").is_empty());
    let (_, new) = town.one.rotate_secret("d", &dev, id).await.expect("rotated");
    assert!(refused(id, Some(&secret)).await, "the old one");
    assert!(town.other.authenticate(id, Some(&new)).await.is_ok());
    assert!(matches!(
        town.one.rotate_secret("d", &dev, &public.record.client_id).await,
        Err(ProviderError::Invalid(_))
    ));
    let issued = town.granted(&app, "alice", "chat").await;
    let ticket = town.ticket(&visitor("alice"), &asking(id, "chat", &[])).await;
    town.other.delete_app("d", &dev, id).await.expect("deleted");
    assert!(!town.is_alive(&issued).await);
    assert!(refused(id, Some(&new)).await);
    let answered = town.one.answer(&visitor("alice"), ticket.expose(), Answer::Yes).await.expect("read");
    assert!(answered.is_none(), "a question of an app that is gone");
    assert!(town.one.granted(&visitor("alice").who).await.expect("listed").is_empty());
}

#[tokio::test]
async fn revocation_and_introspection_are_for_the_tokens_own_client() {
    let town = town().await;
    let (app, _) = town.app(false).await;
    let (other, _) = town.app(false).await;
    for by_access_token in [true, false] {
        let issued = town.granted(&app, "alice", "profile").await;
        let (access, refresh) = (issued.access_token.expose(), issued.refresh_token.expose());
        let active = |looked: Looked| match looked {
            Looked::Active(told) => Some(told),
            Looked::Inactive => None,
        };
        let look =
            async |who: &App, token: &str| active(town.other.introspect(who, token).await.expect("looked"));
        let told = look(&app, access).await.expect("active");
        assert_eq!(
            (told["active"].as_bool(), told["sub"].as_str(), told["scope"].as_str()),
            (Some(true), Some("alice"), Some("profile"))
        );
        assert!(look(&app, refresh).await.is_some());
        assert_eq!((look(&other, access).await, look(&other, refresh).await), (None, None));
        assert_eq!((look(&app, "garbage").await, look(&app, "weir-rt-x~y~z").await), (None, None));
        let token = if by_access_token { access } else { refresh };
        let refused = super::tests::told(town.one.revoke(&other, token).await);
        assert_eq!(refused.err().as_deref(), Some("unauthorized_client"));
        assert!(look(&app, access).await.is_some());
        town.one.revoke(&app, token).await.expect("revoked");
        town.one.revoke(&app, token).await.expect("once more changes nothing");
        town.one.revoke(&app, "garbage").await.expect("unknown is no error");
        // The other replica has not ticked: it asks the store.
        assert_eq!((look(&app, access).await, look(&app, refresh).await), (None, None));
        assert!(!town.is_alive(&issued).await);
    }
}

/// Whatever was handed out, in no table and not in the audit log; what is kept opens nothing.
#[tokio::test]
async fn nothing_that_opens_anything_can_be_read_in_the_store() {
    let town = town().await;
    let (app, secret) = town.app(false).await;
    let who = visitor("alice");
    let ticket = town.ticket(&who, &asking(&app.record.client_id, "chat", &[])).await;
    let code = town.code(&app, "alice", "chat").await;
    let spent = town.code(&app, "alice", "chat").await;
    let first = town.trade(&app, &spent).await.expect("traded");
    let second = town.refresh(&town.one, &app, &first.refresh_token).await.expect("renewed");
    let mut kept = String::new();
    for table in [
        "oauth_apps",
        "oauth_asks",
        "oauth_codes",
        "oauth_consents",
        "oauth_grants",
        "signing_keys",
        "revoked",
    ] {
        for row in town.store.list(table, None, 1000).await.expect("read") {
            kept.push_str(&format!("{} {}\n", row.id, String::from_utf8_lossy(&row.value)));
        }
    }
    for (_, entry) in town.store.read("audit", 0, 1000).await.expect("read") {
        kept.push_str(&String::from_utf8_lossy(&entry));
    }
    assert!(kept.contains(&app.record.client_id) && kept.len() > 2000);
    let mut opening =
        vec![secret.expect("a secret").expose().to_owned(), ticket.expose().to_owned(), code, spent];
    for issued in [&first, &second] {
        opening.push(issued.access_token.expose().to_owned());
        opening.extend(issued.refresh_token.expose().rsplitn(3, '~').take(2).map(str::to_owned));
    }
    opening.push(who.session);
    for secret in opening {
        assert!(secret.len() > 15 && !kept.contains(&secret), "{secret}");
    }
}

#[tokio::test]
async fn what_is_over_is_forgotten() {
    let town = town().await;
    let (app, _) = town.app(true).await;
    let (gone, _) = town.app(true).await;
    town.granted(&app, "alice", "chat").await;
    town.granted(&gone, "alice", "chat").await;
    town.ticket(&visitor("alice"), &asking(&app.record.client_id, "chat", &[])).await;
    town.code(&app, "alice", "chat").await;
    town.one.delete_app("d", &Reach::Everything, &gone.record.client_id).await.expect("deleted");
    let count = async |table| town.store.list(table, None, 1000).await.expect("read").len();
    assert_eq!((count(consent::ASKS).await, count(kept::CODES).await), (1, 3));
    town.hand.advance(Duration::from_secs(1300));
    town.ticks().await;
    assert_eq!((count(consent::ASKS).await, count(kept::CODES).await), (0, 0));
    assert_eq!((count(kept::CONSENTS).await, count(kept::GRANTS).await), (1, 1), "of the app that is there");
}

/// What a cluster's client sends again after its connection broke meets what it wrote itself; and what came too late is there
/// all the same. Neither is anybody's theft.
#[tokio::test]
async fn an_answer_that_is_lost_is_nobodys_theft() {
    let lost: [fn() -> StoreError; 2] =
        [|| StoreError::Conflict, || StoreError::Unreachable("a test".into())];
    for lost in lost {
        let town = town().await;
        let (app, _) = town.app(true).await;
        let code = town.code(&app, "alice", "chat").await;
        town.line.lose(lost());
        let first = town.trade(&app, &code).await.expect("traded");
        town.line.lose(lost());
        let second = town.refresh(&town.one, &app, &first.refresh_token).await.expect("renewed");
        let third = town.refresh(&town.other, &app, &second.refresh_token).await.expect("renewed");
        assert!(town.is_alive(&first).await && town.is_alive(&third).await);
        assert!(!town.acts().await.iter().any(|act| act.ends_with("_replayed")));
        // What is shown again later is what it ever was.
        assert_eq!(town.trade(&app, &code).await.err().as_deref(), Some(REFUSED));
        assert!(!town.is_alive(&third).await);
    }
}

#[tokio::test]
async fn open_questions_are_few_each() {
    let town = town().await;
    let (app, _) = town.app(true).await;
    let ask = asking(&app.record.client_id, "chat", &[]);
    let (alice, bob) = (visitor("alice"), visitor("bob"));
    let bobs = town.ticket(&bob, &ask).await;
    let mut tickets = Vec::new();
    for _ in 0..25 {
        tickets.push(town.ticket(&alice, &ask).await);
        town.hand.advance(Duration::from_secs(1));
    }
    assert_eq!(town.store.list(consent::ASKS, None, 100).await.expect("read").len(), 21);
    let answer = async |who: &Visitor, ticket: &Secret| {
        town.one.answer(who, ticket.expose(), Answer::Yes).await.expect("read")
    };
    assert!(answer(&alice, &tickets[4]).await.is_none(), "it made room");
    assert!(answer(&alice, &tickets[5]).await.is_some() && answer(&alice, &tickets[24]).await.is_some());
    assert!(answer(&bob, &bobs).await.is_some(), "somebody else's stay");
}

#[tokio::test]
async fn an_apps_grants_of_one_person_are_few() {
    let town = town().await;
    let (app, _) = town.app(true).await;
    let (other, _) = town.app(true).await;
    let others = town.granted(&other, "alice", "chat").await;
    let used = town.granted(&app, "alice", "chat").await;
    let mut used = used.refresh_token;
    let first = town.granted(&app, "alice", "chat").await;
    for _ in 0..49 {
        town.hand.advance(Duration::from_secs(1));
        used = town.refresh(&town.one, &app, &used).await.expect("renewed").refresh_token;
        town.granted(&app, "alice", "profile").await;
    }
    assert!(!town.is_alive(&first).await, "what was not used for the longest made room");
    assert!(town.is_alive(&others).await, "another app's stay");
    town.refresh(&town.one, &app, &used).await.expect("what is used stays");
    let count = town.store.list(kept::GRANTS, None, 1000).await.expect("read").len();
    assert_eq!(count, 51);
}

#[tokio::test]
async fn however_much_is_over_or_taken_back_no_change_is_big_and_nothing_stays() {
    let town = town().await;
    let (app, _) = town.app(true).await;
    let issued = town.granted(&app, "alice", "chat").await;
    let row = town.store.list(kept::GRANTS, None, 1).await.expect("read").remove(0);
    let (who, _) = row.id.split_once('.').expect("a person's");
    for start in [0, 1000, 2000] {
        let copies = (start..start + 900).map(|number| Write::Put {
            table: kept::GRANTS,
            id: format!("{who}.copy{number}"),
            value: row.value.clone(),
            expect: Expect::Absent,
        });
        town.store.commit(copies.collect()).await.expect("written");
        let asks = (start..start + 900).map(|number| Write::Put {
            table: consent::ASKS,
            id: format!("{number}"),
            value: br#"{"session":"","about":null,"expires":1}"#.to_vec(),
            expect: Expect::Absent,
        });
        town.store.commit(asks.collect()).await.expect("written");
    }
    town.hand.advance(Duration::from_secs(601));
    town.ticks().await;
    assert!(town.store.list(consent::ASKS, None, 10).await.expect("read").is_empty());
    *town.line.most.lock() = 0;
    town.one.take_back(&visitor("alice").who, &app.record.client_id).await.expect("taken back");
    assert!(*town.line.most.lock() <= 1000, "{} at once", town.line.most.lock());
    assert!(town.store.list(kept::GRANTS, None, 10).await.expect("read").is_empty());
    assert!(!town.is_alive(&issued).await);
}
