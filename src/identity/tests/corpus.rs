//! Bad tokens, some hundreds, none of which opens the door (tests.md, A1).

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::*;

/// Bad token, its good twin, and what is wrong with the bad one.
type Pair = (String, String, String);

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn hs256(signed: &str, key: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(signed.as_bytes());
    encode(mac.finalize().into_bytes())
}

/// Header fields that must not be there or not be so, under a signature that is right.
fn headers_that_are_refused(signer: &Signer) -> Vec<Pair> {
    let attacker = Signer::ed("ed-1");
    let mut pairs = vec![];
    let mut add = |name: &str, value: Value| {
        let what = format!("{} with header {name} = {value}", signer.issuer);
        pairs.push((signer.heading(name, value), signer.good(), what));
    };
    for alg in
        ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "rs256", "ES512", "ES256K", "dir", "\u{0}"]
    {
        add("alg", json!(alg));
    }
    for alg in ["HS256", "HS384", "RS256", "RS384", "PS256", "ES256", "ES384", "EdDSA"] {
        if alg != format!("{:?}", signer.algorithm) {
            add("alg", json!(alg));
        }
    }
    for alg in [json!(null), json!(0), json!(true), json!([]), json!(["none"]), json!({})] {
        add("alg", alg);
    }
    for (name, value) in [
        ("crit", json!([])),
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("jku", json!("http://127.0.0.1:1/jwks")),
        ("x5u", json!("http://127.0.0.1:1/cert")),
        ("x5c", json!(["AAAA"])),
        ("jwk", attacker.jwk()),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
        ("typ", json!("dpop+jwt")),
        ("typ", json!("logout+jwt")),
        ("typ", json!("JWE")),
        ("typ", json!(7)),
        ("kid", json!(7)),
        ("kid", json!(null)),
        ("kid", json!(["ed-1"])),
        ("kid", json!("")),
        ("kid", json!("a\u{0}b")),
        ("kid", json!("k".repeat(257))),
    ] {
        add(name, value);
    }
    pairs
}

/// `alg: none` as it is meant: without a signature, and with junk for one.
fn unsigned(signer: &Signer) -> Vec<Pair> {
    let mut pairs = vec![];
    for alg in ["none", "None", "NONE", "nOnE", "HS256", "RS256"] {
        let header = json!({"alg": alg, "typ": "JWT"}).to_string();
        let signed = format!("{}.{}", encode(header), encode(signer.claims().to_string()));
        for signature in ["", "AA", "e30"] {
            let what = format!("{}: {alg} and signature {signature:?}", signer.issuer);
            pairs.push((format!("{signed}.{signature}"), signer.good(), what));
        }
    }
    pairs
}

/// The public key as if it were a shared secret.
fn confused(signer: &Signer) -> Vec<Pair> {
    let Some(pem) = &signer.public_pem else { return vec![] };
    let der = pem::bytes(pem);
    let jwk = signer.jwk();
    let part = jwk.get("n").or(jwk.get("x")).and_then(Value::as_str).expect("a parameter").to_owned();
    let secrets: Vec<(&str, Vec<u8>)> = vec![
        ("PEM", pem.clone().into_bytes()),
        ("PEM, no newline", pem.trim_end().as_bytes().to_vec()),
        ("PEM, CRLF", pem.replace('\n', "\r\n").into_bytes()),
        ("PEM, one line", pem.replace('\n', "").into_bytes()),
        ("DER", der.clone()),
        ("DER without its frame", der[24..].to_vec()),
        ("DER, base64", pem.lines().filter(|line| !line.starts_with('-')).collect::<String>().into_bytes()),
        ("JWK", jwk.to_string().into_bytes()),
        ("the number", part.clone().into_bytes()),
        ("the number, decoded", URL_SAFE_NO_PAD.decode(&part).expect("base64url")),
        ("nothing", vec![]),
    ];
    let header = |alg: &str| {
        let mut header = signer.header();
        header["alg"] = json!(alg);
        header.to_string()
    };
    let mut pairs = vec![];
    for (what, secret) in secrets {
        for alg in ["HS256".to_owned(), format!("{:?}", signer.algorithm)] {
            let signed = format!("{}.{}", encode(header(&alg)), encode(signer.claims().to_string()));
            let what = format!("{}: {alg} with {what} for a secret", signer.issuer);
            pairs.push((format!("{signed}.{}", hs256(&signed, &secret)), signer.good(), what));
        }
    }
    pairs
}

/// A PEM's bytes, without a crate for it.
mod pem {
    use base64::Engine;

    pub fn bytes(pem: &str) -> Vec<u8> {
        let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
    }
}

/// Signatures that are nearly right.
fn signatures(signer: &Signer) -> Vec<Pair> {
    let good = signer.good();
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let mut pairs = vec![];
    let mut add = |signature: String, what: &str| {
        let what = format!("{}: signature {what}", signer.issuer);
        pairs.push((format!("{signed}.{signature}"), good.clone(), what));
    };
    for at in (0..bytes.len()).step_by(bytes.len() / 8) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        add(encode(flipped), &format!("with bit {at} turned"));
        add(encode(&bytes[..at]), &format!("cut to {at}"));
    }
    add(encode(&bytes[..bytes.len() - 1]), "without its last byte");
    add(encode([bytes.as_slice(), &[0]].concat()), "with a byte more");
    add(encode([&[0], bytes.as_slice()].concat()), "with a zero before");
    add(encode(vec![0; bytes.len()]), "all zeros");
    add(encode(vec![255; bytes.len()]), "all ones");
    add(encode(bytes.iter().rev().copied().collect::<Vec<_>>()), "backwards");
    add(format!("{signature}="), "padded");
    add(format!("{signature}=="), "padded twice");
    add(signature.replace(['-', '_'], "+") + "+", "in another alphabet");
    add(format!("{signature}."), "and a dot");
    add(format!(" {signature}"), "after a space");
    add(non_canonical(signature), "with loose bits at its end");
    if signer.algorithm == Algorithm::ES256 {
        let half = |value: u8| vec![value; 32];
        add(encode([half(0), bytes[32..].to_vec()].concat()), "with r = 0");
        add(encode([bytes[..32].to_vec(), half(0)].concat()), "with s = 0");
        add(encode([bytes[32..].to_vec(), bytes[..32].to_vec()].concat()), "with r and s exchanged");
        let der = [&[0x30, 68, 2, 32], &bytes[..32], &[2, 32], &bytes[32..]].concat();
        add(encode(der), "as DER");
    }
    for other in [Signer::ed("ed-1"), Signer::ec("ec-1")] {
        if other.algorithm == signer.algorithm {
            add(other.sign(signed), "by another key of the same kind and name");
        }
    }
    pairs
}

/// The same bytes in base64url with other loose bits in the last character.
fn non_canonical(text: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = text.bytes().last().expect("not empty");
    let at = ALPHABET.iter().position(|byte| *byte == last).expect("base64url");
    format!("{}{}", &text[..text.len() - 1], char::from(ALPHABET[at ^ 1]))
}

/// Tokens that are not in three sound parts, signed where that can be.
fn shapes(signer: &Signer) -> Vec<Pair> {
    let good = signer.good();
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>().try_into().expect("three parts");
    let claims = signer.claims().to_string();
    let mut pairs = vec![];
    let mut add = |bad: String, what: &str| {
        pairs.push((bad, good.clone(), format!("{}: {what}", signer.issuer)));
    };
    add(format!("{header}.{payload}"), "two parts");
    add(header.to_owned(), "one part");
    add("...".to_owned(), "dots");
    add("..".to_owned(), "two dots");
    add(format!("{good}.{signature}"), "four parts");
    add(format!("{header}.{payload}.{payload}.{payload}.{signature}"), "five parts");
    add(format!(".{payload}.{signature}"), "no header");
    add(format!("{header}..{signature}"), "no payload");
    add(format!("{header}.{payload}."), "no signature");
    add(format!("{header}.{payload}{signature}"), "a dot lost");
    let padded = |text: &str| format!("{text}{}", ["=", "=", "==", "="][text.len() % 4]);
    let again = |head: &str, body: &str| format!("{head}.{body}.{}", signer.sign(&format!("{head}.{body}")));
    add(again(&padded(header), payload), "a padded header, signed so");
    add(again(header, &padded(payload)), "a padded payload, signed so");
    add(again(&format!("{header}A"), payload), "a header of impossible length");
    add(again(header, &format!("{payload}%20")), "a payload that is escaped");
    add(
        format!("{header}.{}.{signature}", encode(claims.replace("alice", "admin"))),
        "another payload, not signed",
    );
    pairs
}

/// Tokens whose header or payload is not one sound JSON object, signed all the same.
fn documents(signer: &Signer) -> Vec<Pair> {
    let (header_text, claims) = (signer.header().to_string(), signer.claims().to_string());
    let mut pairs = vec![];
    let mut add = |bad: String, what: &str| {
        pairs.push((bad, signer.good(), format!("{}: {what}", signer.issuer)));
    };
    for bad in ["", "[]", "\"x\"", "null", "{", "{}{}", "{\"alg\":\"HS256\",}", "\u{FEFF}{}", "{}"] {
        add(signer.raw(bad.as_bytes(), claims.as_bytes()), &format!("header {bad:?}"));
        add(signer.raw(header_text.as_bytes(), bad.as_bytes()), &format!("payload {bad:?}"));
    }
    let alg = format!("{:?}", signer.algorithm);
    for (from, to) in [
        ("{", format!("{{\"alg\":\"none\",\"alg2\":1,\"\\u0061lg\":\"{alg}\",")),
        ("{", "{\"alg\":\"none\",".to_owned()),
        ("{", format!("{{\"alg\":\"{alg}\",")),
        ("}", ",\"typ\":\"JWT\"}".to_owned()),
        ("}", ",\"t\\u0079p\":\"JWT\"}".to_owned()),
        ("}", ",\"a\":NaN}".to_owned()),
        ("}", ",\"a\":\"\u{1}\"}".to_owned()),
    ] {
        add(
            signer.raw(header_text.replace(from, &to).as_bytes(), claims.as_bytes()),
            &format!("header with {to}"),
        );
    }
    for (from, to) in [
        ("{", "{\"sub\":\"root\","),
        ("{", "{\"\\u0073ub\":\"root\","),
        ("{", "{\"exp\":9999999999,"),
        ("{", "{\"org_id\":\"admin\","),
        ("}", ",\"iss\":\"https://evil.test\"}"),
        ("}", ",\"aud\":\"other\"}"),
        ("}", ",}"),
        ("}", "}x"),
        ("}", ",\"a\":'b'}"),
    ] {
        let changed = claims.replace(from, to);
        add(signer.raw(header_text.as_bytes(), changed.as_bytes()), &format!("payload with {to}"));
    }
    let many: String = (0..140).map(|at| format!("\"c{at}\":0,")).collect();
    add(
        signer.raw(header_text.as_bytes(), claims.replace('{', &format!("{{{many}")).as_bytes()),
        "140 claims",
    );
    let deep = format!("{{\"deep\":{}{},", "[".repeat(5_000), "]".repeat(5_000));
    add(signer.raw(header_text.as_bytes(), claims.replace('{', &deep).as_bytes()), "5,000 deep");
    let mut latin = claims.clone().into_bytes();
    let at = claims.find("alice").expect("there");
    latin[at] = 0xE9;
    add(signer.raw(header_text.as_bytes(), &latin), "a payload that is not UTF-8");
    pairs
}

/// Somebody else's good token, relabelled.
fn crossed(world: &World) -> Vec<Pair> {
    let mut pairs = vec![];
    for signer in world.signers() {
        for other in world.signers() {
            if signer.issuer == other.issuer {
                continue;
            }
            let token = signer.token(&signer.header(), &other.claims());
            pairs.push((token, signer.good(), format!("{} says that it is {}", signer.issuer, other.issuer)));
        }
    }
    let kid = |kid: &str| world.ed.heading("kid", json!(kid));
    for name in ["ed-2", "ed-3", "ED-1", "ed-1 ", "../../dev/null", "' OR 1=1 --", "0", "ed-1\u{2028}"] {
        pairs.push((kid(name), world.ed.good(), format!("the kid {name:?}")));
    }
    let mut nameless = world.ed.header();
    nameless.as_object_mut().expect("object").remove("kid");
    let token = world.ed.token(&nameless, &world.ed.claims());
    pairs.push((token, world.ed.good(), "no kid and two keys".to_owned()));
    // Signed rightly with the right key, by an algorithm that the issuer is not configured for.
    for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS512] {
        let other = Signer { algorithm, ..Signer::rsa() };
        pairs.push((other.good(), world.rsa.good(), format!("{algorithm:?} for RS256")));
    }
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let other = Signer { algorithm, ..Signer::hmac() };
        pairs.push((other.good(), world.hmac.good(), format!("{algorithm:?} for HS256")));
    }
    let hmac = &world.hmac;
    let mut header = hmac.header();
    header["kid"] = json!("../../dev/null");
    let signed = format!("{}.{}", encode(header.to_string()), encode(hmac.claims().to_string()));
    for secret in [&b""[..], b"\0", b"secret", SECRET.to_uppercase().as_bytes(), &SECRET.as_bytes()[..32]] {
        pairs.push((
            format!("{signed}.{}", hs256(&signed, secret)),
            hmac.good(),
            format!("signed with {secret:?}"),
        ));
    }
    pairs
}

#[test]
fn no_bad_token_opens_the_door() {
    let world = World::new();
    let mut pairs = crossed(&world);
    for signer in world.signers() {
        pairs.extend(headers_that_are_refused(signer));
        pairs.extend(unsigned(signer));
        pairs.extend(confused(signer));
        pairs.extend(signatures(signer));
        pairs.extend(shapes(signer));
        pairs.extend(documents(signer));
    }
    let distinct: std::collections::HashSet<&String> = pairs.iter().map(|(bad, _, _)| bad).collect();
    assert!(distinct.len() >= 400, "{}", distinct.len());
    for (bad, twin, what) in &pairs {
        assert_ne!(bad, twin, "{what}");
        assert_refused(&world.identity, bad, what);
        assert_accepted(&world.identity, twin, what);
    }
}

#[test]
fn what_looks_odd_but_is_right_is_let_in() {
    let world = World::new();
    for signer in world.signers() {
        let header = signer.header();
        let spaced = format!(" {} ", serde_json::to_string_pretty(&header).expect("json"));
        let claims = signer.claims().to_string();
        for (token, what) in [
            (signer.raw(spaced.as_bytes(), claims.as_bytes()), "spaces"),
            (
                signer.raw(
                    header.to_string().replace("\"alg\"", "\"\\u0061lg\"").as_bytes(),
                    claims.as_bytes(),
                ),
                "escapes",
            ),
            (signer.heading("typ", json!("at+jwt")), "typ of an access token"),
            (signer.heading("x5t", json!("thumbprint")), "a thumbprint"),
            (signer.claiming("nested", json!({"a": [{"a": 1}]})), "nested claims"),
            (signer.claiming("aud", json!(["other", "weir-too"])), "two audiences"),
        ] {
            assert_accepted(&world.identity, &token, what);
        }
    }
}

#[test]
fn a_huge_token_costs_next_to_nothing() {
    let world = World::new();
    let header = headers(&"a.".repeat(500_000));
    let clock = Clock::system();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let best = (0..20)
        .map(|_| {
            let begin = clock.now();
            assert!(runtime.block_on(world.identity.verify(&header)).is_err());
            clock.now().since(begin)
        })
        .min()
        .expect("twenty");
    // `to_str` looks at each byte once even here, unoptimised.
    assert!(best < Duration::from_millis(20), "{best:?}");
    let fits = world.hmac.claiming("pad", json!("x".repeat(11_000)));
    assert_accepted(&world.identity, &fits, "just within the limit");
    let over = world.hmac.claiming("pad", json!("x".repeat(12_500)));
    assert_refused(&world.identity, &over, "just over the limit");
}
