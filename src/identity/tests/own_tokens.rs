//! Tokens that Weir makes itself: taken as made, and in no other way.

use super::*;
use crate::identity::{Claims, OWN_CLIENT, OwnIssuer, SigningKey, Timed};
use crate::keybook::Scope;

const NAME: &str = "https://weir.test";

struct House {
    identity: Identity,
    own: Arc<OwnIssuer>,
    hand: Arc<Hand>,
    /// Signs as the own issuer does.
    signer: Signer,
}

fn house() -> House {
    let (clock, hand) = Clock::manual(NOW * 1000);
    let key = SigningKey::random().expect("a key");
    let own = Arc::new(OwnIssuer::new(clock.clone()));
    own.rename(Some(NAME), true);
    let der = base64::engine::general_purpose::STANDARD.decode(key.kept().expose()).expect("base64");
    let kid: &'static str = Box::leak(key.kid().to_owned().into_boxed_str());
    let signer = Signer {
        issuer: NAME.to_owned(),
        algorithm: Algorithm::ES256,
        key: EncodingKey::from_ec_der(&der),
        kid: Some(kid),
        public_pem: None,
    };
    own.put_keys(vec![Timed { key, signs_from: 0 }]);
    let foreign = Signer::ec("ec-1");
    let jwt = vec![foreign.settings(KeySource::PublicKey(foreign.public_pem.clone().expect("a key")))];
    let settings = Settings { jwt, keys: true, ..Settings::default() };
    let identity = Identity::new(settings, Arc::new(NoKeys), clock, client()).expect("good settings");
    House { identity: identity.with_own(Arc::clone(&own)), own, hand, signer }
}

fn header(house: &House) -> Value {
    json!({"alg": "ES256", "typ": "at+jwt", "kid": house.signer.kid})
}

fn claims() -> Value {
    json!({
        "iss": NAME, "aud": NAME, "sub": "alice", "tenant": "research", "client_id": "app_1", "sid": "grant_1",
        "jti": "tok_1", "scope": "profile chat", "iat": NOW, "exp": NOW + 7200,
    })
}

fn mint(own: &OwnIssuer, client_id: &str, session: &str, scope: &str, models: Option<&[String]>) -> String {
    let (subject, tenant) = ("alice".into(), "research".into());
    let claims = Claims { subject: &subject, tenant: &tenant, client_id, session, scope, models };
    own.mint(&claims, Duration::from_secs(7200)).expect("a token").token.expose().to_owned()
}

#[test]
fn a_token_says_who_and_what_it_may() {
    let house = house();
    let models = ["qwen-*".to_owned()];
    let token = mint(&house.own, "app_1", "grant_1", "profile chat", Some(&models));
    let caller = verify(&house.identity, &token).expect("taken");
    assert_eq!((caller.tenant.as_str(), caller.subject.as_str()), ("research", "alice"));
    assert!(
        caller.has_scope(Scope::Chat)
            && !caller.has_scope(Scope::Accounts)
            && !caller.has_scope(Scope::Admin)
    );
    assert!(caller.may_use("qwen-max") && !caller.may_use("gpt-4o"));
    let ties = caller.ties.clone().expect("one of ours");
    assert!(ties.is_app() && ties.has("profile") && !ties.has("balance") && !ties.has("prof"));
    assert!(house.identity.verify_cached(&headers(&token)).is_some());
    let session = mint(&house.own, OWN_CLIENT, "ses_1", "chat accounts", None);
    let caller = verify(&house.identity, &session).expect("taken");
    assert!(caller.has_scope(Scope::Accounts) && !caller.ties.as_ref().expect("ours").is_app());
    let only_profile = mint(&house.own, "app_1", "grant_1", "profile", None);
    assert!(!verify(&house.identity, &only_profile).expect("taken").has_scope(Scope::Chat));
}

#[test]
fn a_token_dies_at_its_end_to_the_second() {
    let house = house();
    let token = mint(&house.own, "app_1", "grant_1", "chat", None);
    house.hand.advance(Duration::from_secs(7199));
    assert!(verify(&house.identity, &token).is_ok());
    house.hand.advance(Duration::from_secs(1));
    assert_refused(&house.identity, &token, "expired");
}

#[test]
fn what_we_would_never_write_is_not_taken() {
    let house = house();
    assert!(verify(&house.identity, &house.signer.token(&header(&house), &claims())).is_ok(), "the twin");
    for name in ["iss", "aud", "sub", "tenant", "client_id", "sid", "jti", "scope", "iat", "exp"] {
        let mut bad = claims();
        bad.as_object_mut().expect("claims").remove(name);
        assert_refused(&house.identity, &house.signer.token(&header(&house), &bad), &format!("no {name}"));
    }
    for (name, value) in [
        ("iss", json!("https://weir.test/")),
        ("aud", json!("weir")),
        ("aud", json!([NAME, "https://evil.test"])),
        ("exp", json!(NOW)),
        ("exp", json!(format!("{}", NOW + 7200))),
        ("iat", json!(NOW + 61)),
        ("sub", json!("")),
        ("sid", json!(7)),
        ("scope", json!(["chat"])),
    ] {
        let mut bad = claims();
        bad[name] = value.clone();
        let what = format!("{name} is {value}");
        assert_refused(&house.identity, &house.signer.token(&header(&house), &bad), &what);
    }
    for (name, value) in
        [("typ", json!("JWT")), ("kid", json!("other")), ("kid", Value::Null), ("typ", Value::Null)]
    {
        let mut bad = header(&house);
        match value {
            Value::Null => drop(bad.as_object_mut().expect("header").remove(name)),
            value => bad[name] = value,
        }
        assert_refused(
            &house.identity,
            &house.signer.token(&bad, &claims()),
            &format!("the header's {name}"),
        );
    }
    // Somebody else's key under our name, and a configured issuer's token under ours.
    let other = Signer { kid: house.signer.kid, ..Signer::ec("x") };
    assert_refused(&house.identity, &other.token(&header(&house), &claims()), "another key");
    let mut none = header(&house);
    none["alg"] = json!("HS256");
    let secret = Signer { issuer: NAME.into(), kid: house.signer.kid, ..Signer::hmac() };
    assert_refused(&house.identity, &secret.token(&none, &claims()), "a shared secret");
}

#[test]
fn a_remembered_token_dies_with_its_grant_its_app_its_key_and_its_name() {
    for what in ["grant", "app", "key", "name", "apps"] {
        let house = house();
        let token = mint(&house.own, "app_1", "grant_1", "chat", None);
        let session = mint(&house.own, OWN_CLIENT, "ses_1", "chat", None);
        assert!(verify(&house.identity, &token).is_ok() && verify(&house.identity, &session).is_ok());
        match what {
            "grant" => house.own.add_revoked(&["grant_1".to_owned()]),
            "app" => house.own.put_revoked(["app_1".to_owned()].into()),
            "key" => {
                let key = SigningKey::random().expect("a key");
                house.own.put_keys(vec![Timed { key, signs_from: 0 }]);
            }
            "name" => house.own.rename(None, true),
            _ => house.own.rename(Some(NAME), false),
        }
        assert_refused(&house.identity, &token, what);
        let outlives = verify(&house.identity, &session).is_ok();
        assert_eq!(outlives, ["grant", "app", "apps"].contains(&what), "{what}");
        let renewed =
            house.identity.renewed(Settings { keys: true, ..Settings::default() }).expect("settings");
        assert_refused(&renewed, &token, "after a reload");
    }
}

#[test]
fn nothing_is_made_without_a_name_or_for_too_long() {
    use crate::identity::{MAX_LIFETIME, MintError};
    let house = house();
    let (subject, tenant) = ("alice".into(), "research".into());
    let claims =
        Claims { subject: &subject, tenant: &tenant, client_id: "a", session: "s", scope: "", models: None };
    let longer = MAX_LIFETIME + Duration::from_secs(1);
    assert_eq!(house.own.mint(&claims, longer).err(), Some(MintError::TooLong));
    house.own.rename(None, true);
    assert_eq!(house.own.mint(&claims, Duration::from_secs(1)).err(), Some(MintError::Silent));
}
