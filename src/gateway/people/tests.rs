//! One suite for both stores: people, ways in and sessions as two replicas see them, with one hand on both clocks.

use std::time::Duration;

use futures_util::future::join_all;
use http::HeaderMap;
use http::header::COOKIE;

use super::*;
use crate::clock::Hand;
use crate::gateway::provider::Visitors;
use crate::identity::OwnIssuer;
use crate::oauth::{Person, Row};
use crate::redis_link::server::Server;
use crate::secret::Secret;
use crate::store::{Redis, Store};
use crate::vault::MasterKey;

struct Town {
    one: People,
    other: People,
    hand: Arc<Hand>,
    /// Its process ends when this is dropped.
    _redis: Option<Server>,
}

fn provider(name: &str, issuer: Option<&str>) -> Arc<Provider> {
    let row = Row {
        issuer: issuer.map(str::to_owned),
        authorize_url: Some("https://id.example/authorize".to_owned()),
        token_url: Some("https://id.example/token".to_owned()),
        client_id: Some("weir".to_owned()),
        person: Some(oauth_person_row()),
        ..Row::default()
    };
    Arc::new(Provider::compile(name, row).expect("a row"))
}

fn oauth_person_row() -> crate::oauth::PersonRow {
    crate::oauth::PersonRow { subject: vec![vec!["id".to_owned()]], ..Default::default() }
}

fn ground() -> Ground {
    let providers = vec![provider("a", None), provider("b", None), provider("c", Some("https://id.example"))];
    Ground {
        settings: Settings {
            providers: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
            admit: vec![Admission::Everybody],
            ..Settings::default()
        },
        oauth: oauth::Settings {
            public_url: None,
            state_ttl: Duration::from_secs(600),
            return_to: Vec::new(),
            providers,
        },
        url: "https://weir.test".to_owned(),
        vault: Arc::new(Vault::new(vec![MasterKey::for_this_process()]).expect("a vault")),
    }
}

async fn town(is_redis: bool) -> Town {
    drop(rustls::crypto::ring::default_provider().install_default());
    let (clock, hand) = Clock::manual(1_800_000_000_000);
    let redis = is_redis.then(Server::start);
    let records: Arc<dyn Records> = match &redis {
        Some(server) => Arc::new(Redis::new(server.link().await, false)),
        None => Arc::new(Store::in_memory().expect("a store")),
    };
    let ground = ground();
    let replica = async || {
        let own = Arc::new(OwnIssuer::new(clock.clone()));
        own.rename(Some("https://weir.test"), false);
        let keeper = Keeper::open(own, Arc::clone(&records), Arc::clone(&ground.vault), clock.clone()).await;
        let keeper = Arc::new(keeper.expect("opens"));
        let web = Careful::new(reqwest::Client::builder, Arc::new(|_| true)).expect("a client");
        People::new(keeper, Arc::clone(&records), Arc::new(web), ground.clone(), clock.clone())
    };
    Town { one: replica().await, other: replica().await, hand, _redis: redis }
}

fn told(subject: &str, also: &[&str]) -> Person {
    Person {
        subject: subject.to_owned(),
        also: also.iter().map(|&sid| sid.to_owned()).collect(),
        name: Some(format!("Name of {subject}")),
        email: Some("same@example.com".to_owned()),
        email_is_verified: true,
        picture: None,
    }
}

fn headers(cookie: &Secret) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let text = format!("x=y; __Host-weir-session={}", cookie.expose());
    headers.insert(COOKIE, text.parse().expect("a header"));
    headers
}

impl Town {
    async fn on(is_redis: bool, test: impl AsyncFn(&Town)) {
        test(&town(is_redis).await).await;
    }

    /// Begins with `a`, in a browser that shows these cookies: the state, and the browser afterwards.
    async fn begin(&self, browser: &HeaderMap) -> (String, HeaderMap) {
        let started = self.one.start("a", Some("/x"), browser, None).await.expect("sent");
        let url = url::Url::parse(started.url.expose()).expect("a URL");
        let state = url.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
        let mut browser = browser.clone();
        for cookie in &started.cookies {
            let cookie = cookie.to_str().expect("text");
            assert!(cookie.starts_with("__Host-weir-sign-in."), "{cookie}");
            assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=600; Secure"), "{cookie}");
            assert!(cookie.len() < 1000, "{} bytes", cookie.len());
            let pair = cookie.split(';').next().expect("a pair");
            browser.append(COOKIE, pair.parse().expect("a header"));
        }
        (state, browser)
    }

    fn put_in_force(&self, ground: &Ground) {
        for people in [&self.one, &self.other] {
            people.put_in_force(ground.clone());
        }
    }

    async fn let_in(&self, name: &str, told: &Person) -> String {
        self.one.let_in(&provider(name, None), told).await.expect("let in").0.id
    }
}

/// Runs a test over the embedded store and over a Redis.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod embedded { $(#[tokio::test] async fn $name() { super::Town::on(false, super::$name).await; })* }
        mod redis { $(#[tokio::test] async fn $name() { super::Town::on(true, super::$name).await; })* }
    };
}

on_both! {
    whoever_begins_is_not_written_down
    a_person_is_a_source_and_what_it_calls_them
    many_who_come_at_once_are_one
    ways_in_are_added_and_taken_away
    a_better_name_is_kept_beside_the_old_one
    a_session_holds_on_every_replica_until_it_ends
    sessions_are_few_and_end_by_themselves
    whoever_is_kept_out_is_out_at_once
    whoever_left_comes_in_by_no_other_way
    whoever_comes_with_an_address_that_is_not_let_in_is_signed_out
    a_session_begins_with_what_holds_then
    however_many_sessions_are_over_all_are_forgotten
}

async fn a_person_is_a_source_and_what_it_calls_them(town: &Town) {
    let ann = town.let_in("a", &told("1", &[])).await;
    // The same address and the same name elsewhere are somebody else.
    assert_ne!(town.let_in("b", &told("1", &[])).await, ann);
    assert_ne!(town.let_in("a", &told("11", &[])).await, ann);
    // Under the same name here, another issuer's subjects.
    let of = async |issuer| {
        let provider = provider("c", Some(issuer));
        town.one.let_in(&provider, &told("1", &[])).await.expect("let in").0.id
    };
    let first = of("https://id.example").await;
    assert_eq!(of("https://id.example").await, first);
    assert_ne!(of("https://id.example/").await, first);
    // What the provider says of them is taken over.
    let renamed = Person { name: Some("Renamed".to_owned()), email_is_verified: false, ..told("1", &[]) };
    let (person, _, is_new) = town.other.let_in(&provider("a", None), &renamed).await.expect("let in");
    assert_eq!((person.id.as_str(), is_new), (ann.as_str(), false));
    assert_eq!((person.name(), person.email()), (Some("Renamed"), None), "an address that nobody verified");
}

async fn many_who_come_at_once_are_one(town: &Town) {
    let (provider, told) = (provider("a", None), told("1", &["old"]));
    let all = (0..16).map(|number| {
        let people = if number % 2 == 0 { &town.one } else { &town.other };
        people.let_in(&provider, &told)
    });
    let ids: Vec<String> = join_all(all).await.into_iter().map(|done| done.expect("let in").0.id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(town.one.list(None, 100).await.expect("read").len(), 1);
}

async fn ways_in_are_added_and_taken_away(town: &Town) {
    let (a, b) = (provider("a", None), provider("b", None));
    let ann = town.let_in("a", &told("1", &[])).await;
    let bob = town.let_in("b", &told("9", &[])).await;
    let person = town.one.add_link(&ann, &b, &told("2", &[])).await.expect("added");
    assert_eq!(person.links.len(), 2);
    assert_eq!(town.let_in("b", &told("2", &[])).await, ann, "in by either");
    // Twice is once; somebody else's is refused, and stays theirs.
    assert_eq!(town.other.add_link(&ann, &b, &told("2", &[])).await.expect("theirs").links.len(), 2);
    assert!(matches!(town.one.add_link(&ann, &b, &told("9", &[])).await, Err(PeopleError::Taken)));
    assert!(matches!(town.one.add_link(&bob, &a, &told("1", &[])).await, Err(PeopleError::Taken)));
    assert_eq!(town.let_in("b", &told("9", &[])).await, bob);
    // Taken away: whoever comes by it is somebody else.
    let (session, _) =
        town.one.begin_session(&mut person.clone(), &person.links[1].id, "x").await.expect("begun");
    let (current, _) =
        town.one.begin_session(&mut person.clone(), &person.links[1].id, "y").await.expect("begun");
    let wrong = town.one.unlink(&ann, "lnk_x", &current.id).await;
    assert!(matches!(wrong, Err(PeopleError::NotFound(_))));
    let wrong = town.one.unlink(&bob, &person.links[1].id, "").await;
    assert!(matches!(wrong, Err(PeopleError::NotFound(_))), "another's");
    let left = town.one.unlink(&ann, &person.links[1].id, &current.id).await.expect("taken away");
    assert_eq!(left.links.len(), 1);
    let alive: Vec<String> =
        town.other.sessions(&ann).await.expect("read").into_iter().map(|session| session.id).collect();
    assert_eq!(alive, [current.id], "what came by it is over, but for where it was done: {}", session.id);
    assert!(matches!(town.one.unlink(&ann, &left.links[0].id, "").await, Err(PeopleError::LastDoor)));
    assert_ne!(town.let_in("b", &told("2", &[])).await, ann);
    assert_eq!(town.let_in("a", &told("1", &[])).await, ann);
}

async fn a_better_name_is_kept_beside_the_old_one(town: &Town) {
    let ann = town.let_in("a", &told("app/open", &[])).await;
    assert_eq!(town.let_in("a", &told("union", &["app/open"])).await, ann, "known by the old name");
    assert_eq!(town.let_in("a", &told("union", &[])).await, ann, "and by the new one");
    assert_eq!(town.let_in("a", &told("app/open", &[])).await, ann, "and by the old one still");
    // A further name that is somebody else's changes nothing for either.
    let bob = town.let_in("a", &told("bob", &[])).await;
    assert_eq!(town.let_in("a", &told("union", &["bob"])).await, ann);
    assert_eq!(town.let_in("a", &told("bob", &[])).await, bob);
    let (all, _) = town.one.find(&ann).await.expect("read").expect("there");
    assert_eq!(
        (all.links.len(), all.links[0].sids.as_slice()),
        (1, &["union".to_owned(), "app/open".to_owned()][..])
    );
}

async fn a_session_holds_on_every_replica_until_it_ends(town: &Town) {
    let ann = town.one.let_in(&provider("a", None), &told("1", &[])).await.expect("let in").0;
    let (session, cookie) =
        town.one.begin_session(&mut ann.clone(), "lnk", "a browser\n").await.expect("begun");
    assert_eq!(session.agent, "a browser");
    let headers = headers(&cookie);
    let guest = town.other.guest(&headers).await.expect("read").expect("signed in");
    assert_eq!((&guest.person.id, &guest.session.id), (&ann.id, &session.id));
    assert!(town.other.is_of_page(&guest, guest.ticket.expose()) && !town.other.is_of_page(&guest, ""));
    assert!(!cookie.expose().contains(guest.ticket.expose()), "a page does not hold what the cookie is");
    let minted = town.other.mint(&guest.person, &guest.session).await.expect("minted");
    town.one.keeper.refresh().await.expect("read");
    let seen = town.one.keeper.own().look_at(minted.token.expose()).expect("alive");
    assert_eq!((seen.subject.as_str(), seen.tenant.as_str()), (ann.id.as_str(), ann.id.as_str()));
    assert_eq!((&*seen.ties.session, &*seen.ties.scope), (session.id.as_str(), "chat accounts"));
    // Nobody comes in by half of it, or by somebody else's.
    let bob = town.one.let_in(&provider("a", None), &told("2", &[])).await.expect("let in").0;
    for wrong in [
        String::new(),
        "x".to_owned(),
        format!("{}.{}.", ann.id, session.id),
        format!("{}.{}.{}", ann.id, session.id, "x".repeat(43)),
        cookie.expose().replace(&ann.id, &bob.id),
        format!("{}.x", cookie.expose()),
        cookie.expose().replace(&ann.id, "per_*"),
    ] {
        let guest = town.other.guest(&self::headers(&Secret::new(wrong.as_str()))).await.expect("read");
        assert!(guest.is_none(), "{wrong}");
    }
    town.other.sign_out(&ann, Some(&session.id)).await.expect("out");
    assert!(town.one.guest(&headers).await.expect("read").is_none());
    town.one.keeper.refresh().await.expect("read");
    assert!(town.one.keeper.own().look_at(minted.token.expose()).is_none(), "its token died with it");
    assert!(matches!(town.one.sign_out(&ann, Some(&session.id)).await, Err(PeopleError::NotFound(_))));
}

async fn sessions_are_few_and_end_by_themselves(town: &Town) {
    let ann = town.one.let_in(&provider("a", None), &told("1", &[])).await.expect("let in").0;
    let mut first = None;
    for _ in 0..52 {
        let (_, cookie) = town.one.begin_session(&mut ann.clone(), "lnk", "").await.expect("begun");
        first.get_or_insert(cookie);
        town.hand.advance(Duration::from_secs(1));
    }
    let all = town.other.sessions(&ann.id).await.expect("read");
    assert_eq!(all.len(), 50);
    assert!(all[0].created > all[49].created, "the youngest first");
    let gone = town.other.guest(&headers(&first.expect("begun"))).await.expect("read");
    assert!(gone.is_none(), "the oldest made room");
    // A token does not outlive its session.
    town.hand.advance(Duration::from_secs(14 * 86_400 - 1800));
    let minted = town.one.mint(&ann, &all[0]).await.expect("minted");
    assert_eq!(minted.expires, all[0].expires);
    town.hand.advance(Duration::from_secs(1800));
    assert!(town.other.sessions(&ann.id).await.expect("read").is_empty());
    town.one.sweep().await.expect("swept");
    assert!(town.other.session_rows(&ann.id).await.expect("read").is_empty());
}

async fn whoever_is_kept_out_is_out_at_once(town: &Town) {
    let ann = town.one.let_in(&provider("a", None), &told("1", &[])).await.expect("let in").0;
    let who = town.one.who_is(&ann);
    let begin = async || town.one.begin_session(&mut ann.clone(), "lnk", "").await.expect("begun").1;
    let is_in = async |cookie: &Secret| town.other.guest(&headers(cookie)).await.expect("read").is_some();
    let (cookie, block) = (begin().await, Change { is_blocked: Some(true), ..Change::default() });
    assert!(town.other.person(&who).await.expect("read").is_some_and(|person| person.may_chat));
    town.one.change("operator", &ann.id, &block).await.expect("blocked");
    assert!(!is_in(&cookie).await && town.other.person(&who).await.expect("read").is_none());
    let refused = town.one.let_in(&provider("a", None), &told("1", &[])).await;
    assert!(matches!(refused, Err(PeopleError::Blocked)));
    // Let in again: signed out all the same.
    let unblock = Change { is_blocked: Some(false), ..Change::default() };
    town.one.change("operator", &ann.id, &unblock).await.expect("unblocked");
    assert!(!is_in(&cookie).await);
    // On others' limits, what was granted before is nobody's.
    let cookie = begin().await;
    let moved: Change =
        serde_json::from_str(r#"{"tenant": "team", "scopes": ["accounts"]}"#).expect("a change");
    let (_, after) = town.one.change("operator", &ann.id, &moved).await.expect("moved");
    assert!(!is_in(&cookie).await && town.other.person(&who).await.expect("read").is_none());
    let now = town.other.person(&town.other.who_is(&after)).await.expect("read").expect("there");
    assert!(!now.may_chat);
    let back: Change = serde_json::from_str(r#"{"tenant": null, "scopes": null}"#).expect("a change");
    let (_, after) = town.one.change("operator", &ann.id, &back).await.expect("moved");
    assert_eq!(town.one.who_is(&after), who);
    assert!(serde_json::from_str::<Change>(r#"{"admin": true}"#).is_err());
    // Not let in any more by the configuration: at once.
    let cookie = begin().await;
    assert!(is_in(&cookie).await);
    let closed =
        Settings { admit: vec![Admission::Email("*@elsewhere.example".to_owned())], ..ground().settings };
    town.other.put_in_force(Ground { settings: closed, ..ground() });
    assert!(!is_in(&cookie).await && town.other.person(&who).await.expect("read").is_none());
    let refused = town.other.let_in(&provider("a", None), &told("1", &[])).await;
    assert!(matches!(refused, Err(PeopleError::NotAdmitted)));
    let refused = town.other.let_in(&provider("a", None), &told("new", &[])).await;
    assert!(matches!(refused, Err(PeopleError::NotAdmitted)));
    assert_eq!(
        town.one.list(None, 10).await.expect("read").len(),
        1,
        "nobody was made of who was not let in"
    );
    // Removed: should they come again, they are somebody new.
    town.one.remove("operator", &ann.id).await.expect("removed");
    assert_ne!(town.let_in("a", &told("1", &[])).await, ann.id);
}

fn by_mail() -> Ground {
    let settings =
        Settings { admit: vec![Admission::Email("*@example.com".to_owned())], ..ground().settings };
    Ground { settings, ..ground() }
}

fn with_mail(subject: &str, email: Option<&str>) -> Person {
    Person { email: email.map(str::to_owned), ..told(subject, &[]) }
}

/// What lets somebody in is the account at work; what they added to it is private, and theirs when they leave.
async fn whoever_left_comes_in_by_no_other_way(town: &Town) {
    town.put_in_force(&by_mail());
    let (a, b) = (provider("a", None), provider("b", None));
    let work = with_mail("1", Some("ann@example.com"));
    let private = with_mail("2", None);
    let ann = town.one.let_in(&a, &work).await.expect("let in").0;
    town.one.add_link(&ann.id, &b, &private).await.expect("added");
    let ttl = ground().settings.session_ttl;
    town.hand.advance(ttl - Duration::from_secs(1));
    assert_eq!(town.let_in("b", &private).await, ann.id, "in by either for as long as a session lives");
    let who = town.one.who_is(&ann);
    assert!(town.other.person(&who).await.expect("read").is_some());
    town.hand.advance(Duration::from_secs(1));
    let refused = town.other.let_in(&b, &private).await;
    assert!(matches!(refused, Err(PeopleError::NotAdmitted)), "{refused:?}");
    assert!(town.other.person(&who).await.expect("read").is_none(), "nor by an app that they let in");
    assert_eq!(town.let_in("a", &work).await, ann.id);
    assert_eq!(town.let_in("b", &private).await, ann.id, "as before");
    // Where everybody is let in there is nothing that could have ended.
    town.put_in_force(&ground());
    town.hand.advance(ttl);
    assert_eq!(town.let_in("b", &private).await, ann.id);
}

async fn whoever_comes_with_an_address_that_is_not_let_in_is_signed_out(town: &Town) {
    town.put_in_force(&by_mail());
    let (a, b) = (provider("a", None), provider("b", None));
    let ann = town.one.let_in(&a, &with_mail("1", Some("ann@example.com"))).await.expect("let in").0;
    town.one.add_link(&ann.id, &b, &with_mail("2", None)).await.expect("added");
    let (session, cookie) = town.one.begin_session(&mut ann.clone(), "lnk", "").await.expect("begun");
    let minted = town.one.mint(&ann, &session).await.expect("minted");
    let refused = town.other.let_in(&a, &with_mail("1", Some("ann@elsewhere.example"))).await;
    assert!(matches!(refused, Err(PeopleError::NotAdmitted)));
    assert!(town.one.guest(&headers(&cookie)).await.expect("read").is_none());
    assert!(town.one.sessions(&ann.id).await.expect("read").is_empty(), "it is over, and stays so");
    town.one.keeper.refresh().await.expect("read");
    assert!(town.one.keeper.own().look_at(minted.token.expose()).is_none(), "its token died with it");
    assert!(town.one.person(&town.one.who_is(&ann)).await.expect("read").is_none());
    assert!(matches!(town.one.let_in(&b, &with_mail("2", None)).await, Err(PeopleError::NotAdmitted)));
    assert_eq!(town.let_in("a", &with_mail("1", Some("ann@example.com"))).await, ann.id, "back again");
}

/// Between who somebody is and their session an operator has changed them.
async fn a_session_begins_with_what_holds_then(town: &Town) {
    let ann = town.one.let_in(&provider("a", None), &told("1", &[])).await.expect("let in").0;
    let block = Change { is_blocked: Some(true), ..Change::default() };
    town.other.change("operator", &ann.id, &block).await.expect("blocked");
    let refused = town.one.begin_session(&mut ann.clone(), "lnk", "").await;
    assert!(refused.is_err(), "{refused:?}");
    assert!(town.one.sessions(&ann.id).await.expect("read").is_empty());
    // What a token of it says is what holds.
    let moved: Change = serde_json::from_str(r#"{"is_blocked": false, "tenant": "team"}"#).expect("a change");
    town.other.change("operator", &ann.id, &moved).await.expect("moved");
    let mut person = ann.clone();
    town.one.begin_session(&mut person, "lnk", "").await.expect("begun");
    assert_eq!(town.one.who_is(&person).tenant.as_str(), "team");
}

async fn however_many_sessions_are_over_all_are_forgotten(town: &Town) {
    for start in [0, 1000] {
        let rows = (start..start + 900).map(|number| Write::Put {
            table: "person_sessions",
            id: format!("per_1.ses_{number}"),
            value: br#"{"id":"ses_1","secret":"","link":"","agent":"","created":1,"expires":2}"#.to_vec(),
            expect: crate::store::Expect::Absent,
        });
        town.one.records.commit(rows.collect()).await.expect("written");
    }
    town.one.sweep().await.expect("swept");
    assert!(town.one.records.list("person_sessions", None, 10).await.expect("read").is_empty());
}

/// What comes back where the person said no: nobody has to be asked.
fn no(state: &str) -> crate::gateway::onboard::consent::Back {
    let error = Some("access_denied".to_owned());
    crate::gateway::onboard::consent::Back { state: Some(state.to_owned()), error, ..Default::default() }
}

async fn whoever_begins_is_not_written_down(town: &Town) {
    let nobody = HeaderMap::new();
    let (state, browser) = town.begin(&nobody).await;
    for _ in 0..20_000 {
        town.one.start("a", None, &nobody, None).await.expect("sent");
    }
    for table in ["used_sign_ins", "pending_people", "pending_sign_ins", "people"] {
        assert_eq!(town.one.records.generation(table).await.expect("read"), 0, "{table}");
    }
    // Other windows of this browser, on whichever replica.
    let (second, browser) = town.begin(&browser).await;
    let (third, browser) = town.begin(&browser).await;
    let refused = async |people: &People, provider: &str, state: &str, browser: &HeaderMap| {
        people.finish(provider, no(state), browser, None).await.expect_err("nobody comes in by that")
    };
    // Strays change nothing: another provider's callback, another browser, a made-up state, a cookie that is another's.
    let (foreign, stranger) = town.begin(&nobody).await;
    let swapped: HeaderMap = browser
        .iter()
        .zip(stranger.get_all(COOKIE))
        .map(|((name, ours), theirs)| {
            let (ours, theirs) = (ours.to_str().expect("text"), theirs.to_str().expect("text"));
            let (key, value) =
                (ours.split_once('=').expect("a pair").0, theirs.split_once('=').expect("a pair").1);
            (name.clone(), format!("{key}={value}").parse().expect("a header"))
        })
        .collect();
    for (provider, state, browser) in [
        ("b", state.as_str(), &browser),
        ("a", state.as_str(), &stranger),
        ("a", foreign.as_str(), &browser),
        ("a", "made-up", &browser),
        ("a", state.as_str(), &nobody),
        ("a", state.as_str(), &swapped),
    ] {
        let told = refused(&town.other, provider, state, browser).await;
        assert!(matches!(told, PeopleError::NotPending), "{told}");
    }
    assert_eq!(town.one.records.generation("used_sign_ins").await.expect("read"), 0);
    // The first of all is still expected, and so are the others: each once, on whichever replica.
    for state in [&state, &third] {
        let told = refused(&town.other, "a", state, &browser).await;
        assert!(matches!(told, PeopleError::Denied(_)), "{told}");
        for people in [&town.one, &town.other] {
            let told = refused(people, "a", state, &browser).await;
            assert!(matches!(told, PeopleError::NotPending), "{told}");
        }
    }
    town.one.sweep().await.expect("swept");
    assert!(matches!(refused(&town.one, "a", &state, &browser).await, PeopleError::NotPending));
    // Late, though the browser shows it.
    town.hand.advance(Duration::from_secs(600));
    assert!(matches!(refused(&town.one, "a", &second, &browser).await, PeopleError::NotPending));
}
