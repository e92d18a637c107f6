//! Tests of identity as a whole. The rule of the corpora: every bad token has a good twin that differs in the one thing
//! the test is about, and the twin is let in, so that no refusal can come from something else.

mod accepted;
mod cached;
mod claims;
mod corpus;
mod jwks;
mod own_tokens;
mod weir_keys;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::clock::{Clock, Hand};
use crate::fault::{Fault, Kind};
use crate::identity::settings::{ClaimNames, Issuer, KeySource};
use crate::identity::{Caller, Identity, Settings};
use crate::keybook::NoKeys;
use crate::secret::Secret;

/// Now, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

const SECRET: &str = "a-secret-for-tests-only-of-40-characters";
const RSA_PEM: &str = include_str!("../../../tests/keys/test-only-rsa.pem");
const RSA_PUBLIC_PEM: &str = include_str!("../../../tests/keys/test-only-rsa-public.pem");

/// An issuer's private side.
struct Signer {
    issuer: String,
    algorithm: Algorithm,
    key: EncodingKey,
    kid: Option<&'static str>,
    public_pem: Option<String>,
}

impl Signer {
    fn hmac() -> Self {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        Self {
            issuer: "https://hs.test".into(),
            algorithm: Algorithm::HS256,
            key,
            kid: None,
            public_pem: None,
        }
    }

    fn rsa() -> Self {
        let key = EncodingKey::from_rsa_pem(RSA_PEM.as_bytes()).expect("a key");
        let public_pem = Some(RSA_PUBLIC_PEM.to_owned());
        Self { issuer: "https://rs.test".into(), algorithm: Algorithm::RS256, key, kid: None, public_pem }
    }

    fn ec(kid: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a key");
        let public_pem = Some(pair.public_key_pem());
        Self {
            issuer: "https://es.test".into(),
            algorithm: Algorithm::ES256,
            key,
            kid: Some(kid),
            public_pem,
        }
    }

    fn ed(kid: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        // rcgen writes PKCS#8 version 2, which the signer does not read: the seed again, in version 1.
        let seed = &pair.serialized_der()[16..48];
        let frame = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
        let key = EncodingKey::from_ed_der(&[frame, seed].concat());
        let public_pem = Some(pair.public_key_pem());
        Self {
            issuer: "https://ed.test".into(),
            algorithm: Algorithm::EdDSA,
            key,
            kid: Some(kid),
            public_pem,
        }
    }

    fn header(&self) -> Value {
        let mut header = json!({"alg": format!("{:?}", self.algorithm), "typ": "JWT"});
        if let Some(kid) = self.kid {
            header["kid"] = json!(kid);
        }
        header
    }

    fn claims(&self) -> Value {
        json!({
            "iss": self.issuer, "aud": "weir", "sub": "alice", "org_id": "research",
            "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 3600,
        })
    }

    fn sign(&self, text: &str) -> String {
        jsonwebtoken::crypto::sign(text.as_bytes(), &self.key, self.algorithm).expect("signed")
    }

    /// A token of exactly these two texts.
    fn raw(&self, header: &[u8], payload: &[u8]) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.sign(&signed);
        format!("{signed}.{signature}")
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        self.raw(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    fn good(&self) -> String {
        self.token(&self.header(), &self.claims())
    }

    /// A good token with one claim changed.
    fn claiming(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims();
        claims[name] = value;
        self.token(&self.header(), &claims)
    }

    /// A good token with one header field changed.
    fn heading(&self, name: &str, value: Value) -> String {
        let mut header = self.header();
        header[name] = value;
        self.token(&header, &self.claims())
    }

    fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).expect("a public key");
        let mut jwk = serde_json::to_value(jwk).expect("json");
        if let Some(kid) = self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    fn settings(&self, keys: KeySource) -> Issuer {
        Issuer {
            issuer: self.issuer.clone(),
            audience: vec!["weir".to_owned(), "weir-too".to_owned()],
            keys,
            algorithms: vec![self.algorithm],
            claims: ClaimNames {
                tenant: Some("org_id".to_owned()),
                models: Some("weir_models".to_owned()),
                scope: Some("scope".to_owned()),
            },
            leeway: Duration::from_secs(5),
        }
    }
}

fn jwks(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()}).to_string()
}

fn client() -> reqwest::Client {
    // The process-wide choice of who does TLS: the gateway makes it when it starts.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .expect("a client")
}

fn identity(issuers: Vec<Issuer>) -> (Identity, Arc<Hand>) {
    let (clock, hand) = Clock::manual(NOW * 1000);
    let settings = Settings { jwt: issuers, keys: true, ..Settings::default() };
    (Identity::new(settings, Arc::new(NoKeys), clock, client()).expect("good settings"), hand)
}

/// Four issuers, one for each kind of key.
struct World {
    identity: Identity,
    hand: Arc<Hand>,
    hmac: Signer,
    rsa: Signer,
    ec: Signer,
    ed: Signer,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let (hmac, rsa, ec, ed) = (Signer::hmac(), Signer::rsa(), Signer::ec("ec-1"), Signer::ed("ed-1"));
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("jwks.json");
        std::fs::write(&path, jwks(&[&ed, &Signer::ed("ed-2")])).expect("written");
        let (identity, hand) = identity(vec![
            hmac.settings(KeySource::Secret(Secret::new(SECRET))),
            rsa.settings(KeySource::PublicKey(RSA_PUBLIC_PEM.to_owned())),
            ec.settings(KeySource::PublicKey(ec.public_pem.clone().expect("a public key"))),
            ed.settings(KeySource::JwksFile(path)),
        ]);
        Self { identity, hand, hmac, rsa, ec, ed, _dir: dir }
    }

    fn signers(&self) -> [&Signer; 4] {
        [&self.hmac, &self.rsa, &self.ec, &self.ed]
    }
}

fn headers(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header value");
    headers.insert(http::header::AUTHORIZATION, value);
    headers
}

fn verify(identity: &Identity, token: &str) -> Result<Arc<Caller>, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(identity.verify(&headers(token)))
}

/// Asserts a 401 that repeats nothing of the token, by either way in.
fn assert_refused(identity: &Identity, token: &str, what: &str) {
    let fault = verify(identity, token).map(|caller| format!("{caller:?}")).expect_err(what);
    assert_eq!(fault.kind(), Kind::Unauthenticated, "{what}");
    assert!(identity.verify_cached(&headers(token)).is_none(), "{what}");
    let said = format!("{} {fault:?}", fault.body());
    let told = token.split('.').filter(|part| part.len() >= 8).any(|part| said.contains(&part[..8]));
    assert!(!told, "{what}: {said}");
}

fn assert_accepted(identity: &Identity, token: &str, what: &str) {
    let caller = verify(identity, token).expect(what);
    assert_eq!(caller.tenant.as_str(), "research", "{what}");
    assert!(identity.verify_cached(&headers(token)).is_some(), "{what}");
}
