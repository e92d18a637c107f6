//! What is remembered of a token belongs to that token alone, and not for longer than it lives (tests.md, A3; R14.1).

use super::*;

#[test]
fn tokens_that_differ_in_their_last_byte_never_share_an_identity() {
    let world = World::new();
    let hmac = &world.hmac;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for number in 0..10_000_u32 {
        let good = hmac.claiming("sub", json!(format!("user-{number}")));
        // The last character holds two loose bits: take one that changes the signature itself.
        let last = good.chars().last().expect("not empty");
        let turned = if last == 'A' { 'Q' } else { 'A' };
        let bad = format!("{}{turned}", &good[..good.len() - 1]);
        let ask = |token: &str| {
            let headers = headers(token);
            let cached = world.identity.verify_cached(&headers);
            cached.or_else(|| runtime.block_on(world.identity.verify(&headers)).ok())
        };
        let (first, second) = if number % 2 == 0 { (&good, &bad) } else { (&bad, &good) };
        for token in [first, second, first, second] {
            let who = ask(token).map(|caller| caller.subject.to_string());
            assert_eq!(who, (*token == good).then(|| format!("user-{number}")), "{token}");
        }
    }
}

#[test]
fn equal_beginnings_are_no_equal_tokens() {
    let world = World::new();
    let long = "x".repeat(400);
    let token = |sub: &str| {
        let mut claims = json!({"pad": long});
        for (name, value) in world.hmac.claims().as_object().expect("object") {
            claims[name] = value.clone();
        }
        claims["sub"] = json!(sub);
        world.hmac.token(&world.hmac.header(), &claims)
    };
    let (alice, mallory) = (token("alice"), token("mallory"));
    assert_eq!(alice[..500], mallory[..500]);
    for (token, expected) in [(&alice, "alice"), (&mallory, "mallory"), (&alice, "alice")] {
        assert_eq!(verify(&world.identity, token).expect("good").subject.as_str(), expected);
        assert_eq!(world.identity.verify_cached(&headers(token)).expect("known").subject.as_str(), expected);
    }
}

#[test]
fn the_cache_forgets_at_exp() {
    let world = World::new();
    let token = world.hmac.claiming("exp", json!(NOW + 100));
    let headers = headers(&token);
    assert!(world.identity.verify_cached(&headers).is_none(), "nothing is known yet");
    verify(&world.identity, &token).expect("good");
    world.hand.advance(Duration::from_secs(99));
    assert!(world.identity.verify_cached(&headers).is_some());
    world.hand.advance(Duration::from_secs(1));
    assert!(world.identity.verify_cached(&headers).is_none());
    // Within the leeway it is verified anew each time, after it refused.
    assert!(verify(&world.identity, &token).is_ok());
    assert!(world.identity.verify_cached(&headers).is_none());
    world.hand.advance(Duration::from_secs(5));
    assert_refused(&world.identity, &token, "over");
}
