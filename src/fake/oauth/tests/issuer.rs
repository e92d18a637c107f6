//! OpenID Connect: the document, the keys, the ID token, each checked with another library than the one that signs.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::*;

const ISSUER: &str = "http://fake.test/idp/oidc";

async fn keys(idp: &Idp) -> JwkSet {
    let path = match idp.name {
        "google" => "/oauth2/v3/certs",
        "huggingface" => "/oauth/jwks",
        _ => "/jwks",
    };
    let mut told = idp.get(path, &[]).await.json();
    let keys = told["keys"].as_array_mut().unwrap();
    assert_eq!(keys.pop().unwrap()["kty"], "FAKE", "one of no known kind is always among them");
    serde_json::from_value(told).unwrap()
}

/// The claims, if the signature and issuer and audience hold.
async fn verified(idp: &Idp, token: &str, issuer: &str) -> Result<Value, String> {
    let header = jsonwebtoken::decode_header(token).map_err(|error| error.to_string())?;
    let set = keys(idp).await;
    let jwk = set.find(header.kid.as_deref().unwrap()).ok_or("unknown kid")?;
    let key = DecodingKey::from_jwk(jwk).unwrap();
    let mut rules = Validation::new(header.alg);
    assert!(matches!(header.alg, Algorithm::RS256 | Algorithm::ES256 | Algorithm::HS256));
    rules.set_issuer(&[issuer]);
    rules.set_audience(&["app"]);
    // The fake's clock is not the machine's.
    rules.validate_exp = false;
    rules.set_required_spec_claims(&["aud", "iss"]);
    jsonwebtoken::decode::<Value>(token, &key, &rules)
        .map(|data| data.claims)
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn an_id_token_holds_for_each_issuer_and_algorithm() {
    for (name, alg) in [("oidc", "RS256"), ("oidc", "ES256"), ("google", "RS256"), ("huggingface", "RS256")] {
        let idp = Idp::new(name).await;
        idp.set("settings", json!({"alg":alg})).await;
        let issuer = format!("http://fake.test/idp/{name}");
        let document = idp.get("/.well-known/openid-configuration", &[]).await.json();
        assert_eq!(document["issuer"], issuer);
        assert_eq!(document["authorization_endpoint"], format!("{issuer}{}", paths(name).0));
        let told = idp.grant(&[("nonce", "n0nce")]).await;
        let claims = verified(&idp, text(&told, "id_token"), &issuer).await.unwrap();
        assert_eq!((&claims["nonce"], &claims["email"]), (&json!("n0nce"), &json!("ann@example.com")));
        let hash = <sha2::Sha256 as sha2::Digest>::digest(text(&told, "access_token"));
        let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&hash[..16]);
        assert_eq!(claims["at_hash"], hash, "{name} {alg}");
        assert_eq!(
            claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
            told["expires_in"].as_u64().unwrap()
        );
        assert_eq!(idp.who(&told).await.json()["sub"], claims["sub"]);
        let none = idp.grant(&[("scope", "email"), ("nonce", "")]).await;
        assert!(none["id_token"].is_null(), "not without `openid`");
    }
}

#[tokio::test]
async fn the_document_is_at_both_places_and_back_comes_the_issuer() {
    let idp = Idp::new("oidc").await;
    let one = idp.get("/.well-known/openid-configuration", &[]).await.json();
    let other = idp.fake.get("/.well-known/oauth-authorization-server/idp/oidc", &[]).await.json();
    assert_eq!(one, other);
    assert_eq!(one["authorization_response_iss_parameter_supported"], true);
    assert_eq!(value(&idp.authorize(&[]).await, "iss"), ISSUER);
    idp.set("faults", json!({"on":"redirect","set":{"iss":"https://evil.example"}})).await;
    assert_eq!(value(&idp.authorize(&[]).await, "iss"), "https://evil.example");
    idp.set("settings", json!({"iss":false})).await;
    assert!(idp.authorize(&[]).await.iter().all(|(name, _)| name != "iss"));
    let grants = [("grant_type", "client_credentials")];
    let machine = idp.token(&grants).await.json();
    assert!(machine["access_token"].is_string() && machine["refresh_token"].is_null());
    assert_eq!(idp.token_as(("app", "wrong"), &grants).await.status, 401);
}

#[tokio::test]
async fn keys_roll_over() {
    let idp = Idp::new("oidc").await;
    idp.set("settings", json!({"alg":"ES256"})).await;
    let old = idp.grant(&[]).await;
    let kid = idp.set("rollover", json!({})).await["kid"].clone();
    let new = idp.grant(&[]).await;
    let header = jsonwebtoken::decode_header(text(&new, "id_token")).unwrap();
    assert_eq!(json!(header.kid), kid);
    for told in [&old, &new] {
        verified(&idp, text(told, "id_token"), ISSUER).await.unwrap();
    }
    idp.set("rollover", json!({"drop_old":true})).await;
    assert_eq!(verified(&idp, text(&new, "id_token"), ISSUER).await, Err("unknown kid".to_owned()));
}

#[tokio::test]
async fn an_id_token_may_be_wrong_in_every_way() {
    let idp = Idp::new("oidc").await;
    idp.set("settings", json!({"alg":"ES256"})).await;
    for (fault, problem) in [
        (json!({"claims":{"iss":"https://evil.example"}}), "InvalidIssuer"),
        (json!({"claims":{"aud":"other"}}), "InvalidAudience"),
        (json!({"jwt":"broken"}), "InvalidSignature"),
        (json!({"jwt":"unknown_kid"}), "unknown kid"),
        (json!({"drop_claims":["aud"]}), "Missing required claim: aud"),
    ] {
        idp.set("faults", fault.clone()).await;
        let told = idp.grant(&[]).await;
        let result = verified(&idp, text(&told, "id_token"), ISSUER).await;
        assert_eq!(result, Err(problem.to_owned()), "{fault}");
    }
    idp.set("faults", json!({"claims":{"nonce":"other"}})).await;
    let told = idp.grant(&[("nonce", "mine")]).await;
    assert_eq!(verified(&idp, text(&told, "id_token"), ISSUER).await.unwrap()["nonce"], "other");
    idp.set("faults", json!({"jwt":"none"})).await;
    assert!(text(&idp.grant(&[]).await, "id_token").ends_with('.'));
    idp.set("faults", json!({"jwt":"hmac"})).await;
    let told = idp.grant(&[]).await;
    assert_eq!(jsonwebtoken::decode_header(text(&told, "id_token")).unwrap().alg, Algorithm::HS256);
    assert_eq!(idp.report().await["faults"], json!([]));
}
