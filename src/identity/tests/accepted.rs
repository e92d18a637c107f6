//! Who is let in as whom, by which header, and which settings are not started with.

use super::*;
use crate::identity::{ModelRules, SettingsError};
use crate::keybook::Scope;

#[test]
fn claims_say_tenant_models_and_scopes() {
    let world = World::new();
    let hmac = &world.hmac;
    let plain = verify(&world.identity, &hmac.good()).expect("good");
    assert_eq!((plain.tenant.as_str(), plain.subject.as_str()), ("research", "alice"));
    assert_eq!((plain.key_id.as_deref(), plain.issuer.as_deref()), (None, Some("https://hs.test")));
    assert_eq!(plain.models, ModelRules::All);
    assert!(
        plain.has_scope(Scope::Chat) && !plain.has_scope(Scope::Admin) && !plain.has_scope(Scope::Accounts)
    );

    let mut claims = hmac.claims();
    claims.as_object_mut().expect("object").remove("org_id");
    let alone = verify(&world.identity, &hmac.token(&hmac.header(), &claims)).expect("good");
    assert_eq!(alone.tenant.as_str(), "alice");

    for models in [json!("gpt-4o qwen-*"), json!(["gpt-4o", "qwen-*"])] {
        let some = verify(&world.identity, &hmac.claiming("weir_models", models)).expect("good");
        assert!(some.may_use("gpt-4o") && some.may_use("qwen-max") && !some.may_use("claude-3"));
    }
    let none = verify(&world.identity, &hmac.claiming("weir_models", json!([]))).expect("good");
    assert!(!none.may_use("gpt-4o"));

    let scoped = verify(&world.identity, &hmac.claiming("scope", json!("openid accounts"))).expect("good");
    assert!(scoped.has_scope(Scope::Accounts) && !scoped.has_scope(Scope::Chat));
}

#[test]
fn claims_that_are_not_configured_are_not_read() {
    let signer = Signer::hmac();
    let mut settings = signer.settings(KeySource::Secret(Secret::new(SECRET)));
    settings.claims = ClaimNames { tenant: None, models: None, scope: None };
    let (identity, _) = identity(vec![settings]);
    let mut claims = signer.claims();
    claims["scope"] = json!("admin");
    claims["weir_models"] = json!([]);
    let caller = verify(&identity, &signer.token(&signer.header(), &claims)).expect("good");
    assert_eq!(caller.tenant.as_str(), "alice");
    assert!(caller.may_use("gpt-4o") && caller.has_scope(Scope::Chat) && !caller.has_scope(Scope::Admin));
}

#[test]
fn requests_of_one_tenant_share_its_limiter() {
    let world = World::new();
    let caller = |token: String| verify(&world.identity, &token).expect("good");
    let one = caller(world.hmac.good());
    let same = caller(world.rsa.claiming("sub", json!("bob")));
    let other = caller(world.hmac.claiming("org_id", json!("sales")));
    assert!(Arc::ptr_eq(&one.limiter, &same.limiter));
    assert!(!Arc::ptr_eq(&one.limiter, &other.limiter));
}

/// A9: nothing but the one Authorization header says who calls.
#[test]
fn no_other_header_is_an_identity() {
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let alice = world.hmac.good();
    let root = world.hmac.claiming("sub", json!("root"));
    let others = [
        "x-api-key",
        "x-goog-api-key",
        "api-key",
        "cookie",
        "proxy-authorization",
        "x-forwarded-user",
        "x-auth-token",
        "x-forwarded-authorization",
        "x-forwarded-for",
        "x-real-ip",
        "x-original-url",
        "x-amzn-oidc-data",
        "x-user",
    ];
    for name in others {
        for value in [root.clone(), format!("Bearer {root}")] {
            let mut alone = HeaderMap::new();
            alone.insert(name, HeaderValue::from_str(&value).expect("a value"));
            let fault = runtime.block_on(world.identity.verify(&alone)).expect_err(name);
            assert_eq!(fault.kind(), Kind::Unauthenticated);
            let mut beside = headers(&alice);
            beside.insert(name, HeaderValue::from_str(&value).expect("a value"));
            let caller = runtime.block_on(world.identity.verify(&beside)).expect("alice");
            assert_eq!(caller.subject.as_str(), "alice", "{name}");
        }
    }
}

#[test]
fn there_is_one_authorization_header_and_it_says_bearer() {
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let token = world.hmac.good();
    let ask = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("authorization", HeaderValue::from_str(value).expect("a value"));
        }
        runtime.block_on(world.identity.verify(&headers)).is_ok()
    };
    for good in [format!("Bearer {token}"), format!("bearer {token}"), format!("BEARER   {token} ")] {
        assert!(ask(&[&good]), "{good}");
    }
    for bad in [
        String::new(),
        token.clone(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Basic {token}"),
        format!("Bearer\t{token}"),
        format!("Bearer {token} {token}"),
        format!("Bearer {token},{token}"),
        format!("Bearer=\"{token}\""),
        format!("Bearer Bearer {token}"),
        format!("Token {token}"),
    ] {
        assert!(!ask(&[&bad]), "{bad}");
    }
    let good = format!("Bearer {token}");
    assert!(!ask(&[&good, &good]), "two are one too many");
    assert!(!ask(&[]));
    let mut binary = HeaderMap::new();
    binary.insert("authorization", HeaderValue::from_bytes(b"Bearer \xFF").expect("a value"));
    assert!(runtime.block_on(world.identity.verify(&binary)).is_err());
}

#[test]
fn unsafe_settings_are_not_started_with() {
    type Change = fn(&mut Issuer);
    let pem = || KeySource::PublicKey(RSA_PUBLIC_PEM.to_owned());
    let start = |issuers: Vec<Issuer>| {
        let settings = Settings { jwt: issuers, ..Settings::default() };
        Identity::new(settings, Arc::new(NoKeys), Clock::manual(0).0, client()).map(drop)
    };
    let signer = Signer::hmac();
    let good = signer.settings(KeySource::Secret(Secret::new(SECRET)));
    assert_eq!(start(vec![good.clone()]), Ok(()));
    let cases: [(&str, Change); 11] = [
        ("no issuer", |issuer| issuer.issuer = String::new()),
        ("no audience", |issuer| issuer.audience = vec![]),
        ("an empty audience", |issuer| issuer.audience = vec!["weir".into(), String::new()]),
        ("no algorithms", |issuer| issuer.algorithms = vec![]),
        ("an empty secret", |issuer| issuer.keys = KeySource::Secret(Secret::new(""))),
        ("31 bytes", |issuer| issuer.keys = KeySource::Secret(Secret::new("x".repeat(31)))),
        ("RS256 with a secret", |issuer| issuer.algorithms.push(Algorithm::RS256)),
        ("61 s", |issuer| issuer.leeway = Duration::from_secs(61)),
        ("no such file", |issuer| {
            issuer.keys = KeySource::JwksFile("/nowhere/jwks.json".into());
            issuer.algorithms = vec![Algorithm::RS256];
        }),
        ("HS256 with a URL", |issuer| {
            issuer.keys = KeySource::JwksUrl("https://id.test/jwks".parse().expect("url"));
        }),
        ("http", |issuer| {
            issuer.keys = KeySource::JwksUrl("http://id.test/jwks".parse().expect("url"));
            issuer.algorithms = vec![Algorithm::RS256];
        }),
    ];
    for (what, change) in cases {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(start(vec![bad]).is_err(), "{what}");
    }
    assert_eq!(
        start(vec![good.clone(), good.clone()]),
        Err(SettingsError::SameIssuer("https://hs.test".into()))
    );
    let mut confused = Signer::rsa().settings(pem());
    assert_eq!(start(vec![confused.clone()]), Ok(()));
    confused.algorithms.push(Algorithm::HS256);
    assert!(matches!(start(vec![confused]), Err(SettingsError::Algorithm { .. })));
    let mut other_kind = Signer::rsa().settings(pem());
    other_kind.algorithms = vec![Algorithm::ES256];
    assert!(matches!(start(vec![other_kind]), Err(SettingsError::Key { .. })));
    let shown = format!("{:?} {}", good, SettingsError::ShortSecret("https://hs.test".into()));
    assert!(!shown.contains(SECRET));
}
