//! Claims of every wrong type and value (tests.md, A2).

use super::*;

/// Replaces the value of a claim in the text of the claims: for what no JSON library would write.
fn with_raw(signer: &Signer, name: &str, raw: &str) -> String {
    let mut claims = signer.claims();
    claims[name] = json!("@@");
    let text = claims.to_string().replace("\"@@\"", raw);
    signer.raw(signer.header().to_string().as_bytes(), text.as_bytes())
}

fn without(signer: &Signer, name: &str) -> String {
    let mut claims = signer.claims();
    claims.as_object_mut().expect("object").remove(name);
    signer.token(&signer.header(), &claims)
}

#[test]
fn times_are_numbers_or_the_token_is_refused() {
    let world = World::new();
    let wrong = [
        "\"1800003600\"",
        "\"never\"",
        "\"\"",
        "null",
        "true",
        "false",
        "[]",
        "[1800003600]",
        "{}",
        "-1",
        "-0",
        "-1800003600",
        "1e400",
        "-1e400",
        "1e13",
        "1800003600000",
        "99999999999999999999999999",
        "253402300800",
    ];
    for signer in world.signers() {
        for name in ["exp", "nbf", "iat"] {
            for raw in wrong {
                assert_refused(&world.identity, &with_raw(signer, name, raw), &format!("{name} = {raw}"));
            }
        }
        for raw in ["1800003600", "1800003600.5", "1.8000036e9", "18000036E+2", "253402300799"] {
            assert_accepted(&world.identity, &with_raw(signer, "exp", raw), &format!("exp = {raw}"));
        }
        for name in ["nbf", "iat"] {
            for raw in ["0", "1799999999", "1799999999.9", "1.7e9"] {
                assert_accepted(&world.identity, &with_raw(signer, name, raw), &format!("{name} = {raw}"));
            }
            assert_accepted(&world.identity, &without(signer, name), &format!("no {name}"));
        }
        assert_refused(&world.identity, &without(signer, "exp"), "no exp");
    }
}

#[test]
fn a_token_lives_from_its_nbf_to_its_exp_and_the_leeway() {
    let world = World::new();
    let hmac = &world.hmac;
    for (name, value, expected) in [
        ("exp", NOW + 1, true),
        ("exp", NOW, true),
        ("exp", NOW - 4, true),
        ("exp", NOW - 5, false),
        ("exp", NOW - 3600, false),
        ("exp", 0, false),
        ("nbf", NOW, true),
        ("nbf", NOW + 5, true),
        ("nbf", NOW + 6, false),
        ("nbf", NOW + 3600, false),
        ("iat", NOW + 60, true),
        ("iat", NOW + 61, false),
    ] {
        let token = hmac.claiming(name, json!(value));
        assert_eq!(
            verify(&world.identity, &token).is_ok(),
            expected,
            "{name} = now {:+}",
            value as i64 - NOW as i64
        );
    }
    let fault = verify(&world.identity, &hmac.claiming("exp", json!(NOW - 5))).expect_err("expired");
    assert!(fault.public().contains("expired"));
    // Whoever cannot sign does not learn what the claims would have done.
    let forged = hmac.claiming("exp", json!(NOW - 5));
    let fault = verify(&world.identity, &format!("{}AAAA", &forged[..forged.len() - 4])).expect_err("forged");
    assert!(!fault.public().contains("expired"));
}

#[test]
fn issuer_and_audience_are_exact() {
    let world = World::new();
    for signer in world.signers() {
        let slash = format!("{}/", signer.issuer);
        for bad in [
            json!(slash),
            json!(signer.issuer.to_uppercase()),
            json!(null),
            json!([signer.issuer]),
            json!(""),
        ] {
            assert_refused(&world.identity, &signer.claiming("iss", bad.clone()), &format!("iss = {bad}"));
        }
        assert_refused(&world.identity, &without(signer, "iss"), "no iss");
        for bad in [
            json!("other"),
            json!("Weir"),
            json!("weir "),
            json!("weir other"),
            json!(""),
            json!([]),
            json!(["other"]),
            json!([["weir"]]),
            json!(["weir", 7]),
            json!({"weir": 1}),
            json!(null),
            json!(7),
            json!(["*"]),
        ] {
            assert_refused(&world.identity, &signer.claiming("aud", bad.clone()), &format!("aud = {bad}"));
        }
        assert_refused(&world.identity, &without(signer, "aud"), "no aud");
        for good in
            [json!("weir"), json!(["weir"]), json!(["x", "weir"]), json!("weir-too"), json!("w\u{65}ir")]
        {
            assert_accepted(&world.identity, &signer.claiming("aud", good.clone()), &format!("aud = {good}"));
        }
    }
}

#[test]
fn names_are_short_plain_strings() {
    let world = World::new();
    let hmac = &world.hmac;
    for name in ["sub", "org_id"] {
        for bad in [
            json!(null),
            json!(""),
            json!(7),
            json!(["a"]),
            json!({}),
            json!(true),
            json!("a\nb"),
            json!("a\u{0}"),
            json!("\u{1b}[31m"),
            json!("x".repeat(257)),
        ] {
            assert_refused(&world.identity, &hmac.claiming(name, bad.clone()), &format!("{name} = {bad}"));
        }
    }
    assert_refused(&world.identity, &without(hmac, "sub"), "no sub");
    assert_accepted(&world.identity, &hmac.claiming("sub", json!("x".repeat(256))), "the longest sub");
    for name in ["weir_models", "scope"] {
        for bad in [
            json!(null),
            json!(7),
            json!(true),
            json!({}),
            json!([7]),
            json!([["chat"]]),
            json!(["chat", null]),
        ] {
            assert_refused(&world.identity, &hmac.claiming(name, bad.clone()), &format!("{name} = {bad}"));
        }
        assert_accepted(&world.identity, &hmac.claiming(name, json!(["chat"])), "a list");
        assert_accepted(&world.identity, &hmac.claiming(name, json!("chat x")), "a string");
    }
}
