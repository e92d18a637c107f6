//! One issuer's verification keys, each bound to the algorithms that it is for. Why bound when loaded: a token names its
//! own algorithm, and a key that let itself be used with any would turn a public key into a shared secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::secret::Secret;

/// Most keys of one set; the rest is passed over.
const MAX_KEYS: usize = 256;

/// Smallest and largest RSA modulus, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Keys that are valid together.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    /// Grows by one with each set that differs from the one before.
    pub generation: u64,
    keys: Vec<VerifyKey>,
}

#[derive(Debug)]
struct VerifyKey {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    /// The public parameters, to see whether two sets differ; `None`: a shared secret.
    parameters: Option<AlgorithmParameters>,
    key: DecodingKey,
}

/// What looking for a key came to.
#[derive(Debug)]
pub(crate) enum Found<'s> {
    One(&'s DecodingKey),
    /// No key of that name for that algorithm.
    None,
    /// The token names no key and more than one fits.
    Ambiguous,
}

impl KeySet {
    /// A shared secret, for whatever the token says its `kid` is.
    pub fn secret(secret: &Secret, algorithms: &[Algorithm]) -> Self {
        let key = DecodingKey::from_secret(secret.expose().as_bytes());
        Self {
            generation: 0,
            keys: vec![VerifyKey { kid: None, algorithms: algorithms.to_vec(), parameters: None, key }],
        }
    }

    /// One public key, PEM, which must fit every algorithm in `wanted`.
    pub fn public_key(pem: &str, wanted: &[Algorithm]) -> Result<Self, &'static str> {
        if !pem.contains("-----BEGIN PUBLIC KEY-----") && !pem.contains("-----BEGIN RSA PUBLIC KEY-----") {
            return Err("not a PEM public key (a certificate or a private key is not taken)");
        }
        let bytes = pem.as_bytes();
        let key = DecodingKey::from_ec_pem(bytes)
            .or_else(|_| DecodingKey::from_ed_pem(bytes))
            .or_else(|_| DecodingKey::from_rsa_pem(bytes))
            .map_err(|_| "not a PEM public key that can be read")?;
        let jwk = Jwk::from_decoding_key(&key, None).map_err(|_| "not a public key of a known kind")?;
        let key = VerifyKey::new(&jwk)?;
        if !wanted.iter().all(|algorithm| key.algorithms.contains(algorithm)) {
            return Err("the public key does not fit every algorithm listed");
        }
        Ok(Self { generation: 0, keys: vec![key] })
    }

    /// A JWKS document. Keys that Weir cannot use are passed over: others' tokens may need them.
    pub fn jwks(document: &[u8]) -> Result<Self, &'static str> {
        #[derive(serde::Deserialize)]
        struct Document {
            keys: Vec<serde_json::Value>,
        }
        let document: Document = serde_json::from_slice(document).map_err(|_| "not a JWKS document")?;
        let usable = |value| VerifyKey::new(&serde_json::from_value::<Jwk>(value).ok()?).ok();
        let keys: Vec<VerifyKey> = document.keys.into_iter().filter_map(usable).take(MAX_KEYS).collect();
        if keys.is_empty() {
            return Err("a JWKS document without a usable key");
        }
        Ok(Self { generation: 0, keys })
    }

    /// This set as the successor of `before`, or `None` where the two are the same.
    pub fn after(mut self, before: &KeySet) -> Option<Self> {
        let is_same = |(ours, theirs): (&VerifyKey, &VerifyKey)| {
            ours.kid == theirs.kid
                && ours.algorithms == theirs.algorithms
                && ours.parameters == theirs.parameters
        };
        if self.keys.len() == before.keys.len() && self.keys.iter().zip(&before.keys).all(is_same) {
            return None;
        }
        self.generation = before.generation.wrapping_add(1);
        Some(self)
    }

    /// Whether there is no key at all (a URL that has not answered yet).
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key for a token that says `algorithm` and perhaps `kid`.
    pub fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Found<'_> {
        let fits = |key: &&VerifyKey| key.algorithms.contains(&algorithm) && key.answers_to(kid);
        let mut fitting = self.keys.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (None, _) => Found::None,
            (Some(only), None) => Found::One(&only.key),
            (Some(_), Some(_)) => Found::Ambiguous,
        }
    }
}

impl VerifyKey {
    fn new(jwk: &Jwk) -> Result<Self, &'static str> {
        let common = &jwk.common;
        if common.public_key_use.as_ref().is_some_and(|meant| *meant != PublicKeyUse::Signature) {
            return Err("a key that is not for signatures");
        }
        if common.key_operations.as_ref().is_some_and(|meant| !meant.contains(&KeyOperations::Verify)) {
            return Err("a key that is not for verifying");
        }
        let mut algorithms = fitting(&jwk.algorithm)?;
        if let Some(only) = common.key_algorithm {
            algorithms.retain(|algorithm| KeyAlgorithm::from(*algorithm) == only);
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|_| "a key that cannot be read")?;
        let Some(any) = algorithms.first() else {
            return Err("a key for an algorithm that it does not fit");
        };
        // Tries the key once: a point that is not on its curve shows here and not at the first token.
        jsonwebtoken::crypto::verify("", b"", &key, *any).map_err(|_| "a key that cannot be used")?;
        Ok(Self { kid: common.key_id.clone(), algorithms, parameters: Some(jwk.algorithm.clone()), key })
    }

    /// A key from the configuration has no name and answers to all; a key with a name only to its own, or to none given.
    fn answers_to(&self, kid: Option<&str>) -> bool {
        match (kid, &self.kid) {
            (Some(asked), Some(own)) => asked == own,
            (None, _) | (Some(_), None) => true,
        }
    }
}

/// The algorithms that a public key fits. Lengths are checked here because the library slices without asking.
fn fitting(parameters: &AlgorithmParameters) -> Result<Vec<Algorithm>, &'static str> {
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| "a key that is not base64url");
    match parameters {
        AlgorithmParameters::RSA(rsa) => {
            let (modulus, exponent) = (decode(&rsa.n)?, decode(&rsa.e)?);
            if !RSA_BITS.contains(&bits(&modulus)) {
                return Err("an RSA key of under 2048 or over 4096 bits");
            }
            let is_odd = exponent.last().is_some_and(|byte| byte & 1 == 1);
            if !is_odd || !(2..=64).contains(&bits(&exponent)) {
                return Err("an RSA key with a weak exponent");
            }
            Ok(RSA.to_vec())
        }
        AlgorithmParameters::EllipticCurve(ec) => {
            let (algorithm, len) = match ec.curve {
                EllipticCurve::P256 => (Algorithm::ES256, 32),
                EllipticCurve::P384 => (Algorithm::ES384, 48),
                _ => return Err("an elliptic curve that is not taken"),
            };
            if decode(&ec.x)?.len() != len || decode(&ec.y)?.len() != len {
                return Err("an elliptic curve key of the wrong length");
            }
            Ok(vec![algorithm])
        }
        AlgorithmParameters::OctetKeyPair(ed) => {
            if ed.curve != EllipticCurve::Ed25519 || decode(&ed.x)?.len() != 32 {
                return Err("an Edwards key that is not Ed25519");
            }
            Ok(vec![Algorithm::EdDSA])
        }
        // A secret has no place in a document that is published.
        _ => Err("a key of a kind that is not taken"),
    }
}

/// Length of a big-endian number in bits, without leading zeros.
fn bits(number: &[u8]) -> usize {
    let significant = number.iter().skip_while(|byte| **byte == 0);
    let leading = significant.clone().next().map_or(0, |byte| byte.leading_zeros() as usize);
    significant.count() * 8 - leading
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RSA_PEM: &str = include_str!("../../../tests/keys/test-only-rsa-public.pem");
    const RSA_1024_PEM: &str = include_str!("../../../tests/keys/test-only-rsa-1024-public.pem");

    fn ed25519(kid: Option<&str>) -> serde_json::Value {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        match kid {
            Some(kid) => json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid}),
            None => json!({"kty": "OKP", "crv": "Ed25519", "x": x}),
        }
    }

    fn jwks(keys: &[serde_json::Value]) -> Result<KeySet, &'static str> {
        KeySet::jwks(json!({"keys": keys}).to_string().as_bytes())
    }

    #[test]
    fn a_public_key_must_fit_every_algorithm() {
        assert!(KeySet::public_key(RSA_PEM, &[Algorithm::RS256, Algorithm::PS512]).is_ok());
        for wrong in [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA] {
            assert!(KeySet::public_key(RSA_PEM, &[Algorithm::RS256, wrong]).is_err(), "{wrong:?}");
        }
        assert!(KeySet::public_key(RSA_1024_PEM, &[Algorithm::RS256]).is_err());
        let private = include_str!("../../../tests/keys/test-only-rsa.pem");
        assert!(KeySet::public_key(private, &[Algorithm::RS256]).is_err());
        assert!(KeySet::public_key("", &[Algorithm::RS256]).is_err());
    }

    #[test]
    fn a_key_that_cannot_be_used_is_passed_over_and_none_of_them_panics() {
        let point = |x: &str, y: &str| json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        for bad in [
            json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}),
            json!({"kty": "OKP", "crv": "Ed25519", "x": ""}),
            json!({"kty": "OKP", "crv": "P-256", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
            json!({"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}),
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
            json!({"kty": "RSA", "n": "", "e": ""}),
            json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([255; 256]), "e": "AQ"}),
            json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([255; 256]), "e": "Ag"}),
            json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([255; 1025]), "e": "AQAB"}),
            point("", ""),
            point(&URL_SAFE_NO_PAD.encode([1; 32]), &URL_SAFE_NO_PAD.encode([1; 32])),
            point(&URL_SAFE_NO_PAD.encode([0; 32]), &URL_SAFE_NO_PAD.encode([0; 31])),
            json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"}),
            json!("text"),
            json!({}),
        ] {
            assert!(jwks(std::slice::from_ref(&bad)).is_err(), "{bad}");
            let set = jwks(&[bad.clone(), ed25519(Some("good"))]).expect("one is good");
            assert_eq!(set.keys.len(), 1, "{bad}");
        }
        let mut encryption = ed25519(None);
        encryption["use"] = json!("enc");
        assert!(jwks(&[encryption]).is_err());
        let mut other_algorithm = ed25519(None);
        other_algorithm["alg"] = json!("RS256");
        assert!(jwks(&[other_algorithm]).is_err());
    }

    #[test]
    fn a_kid_is_needed_where_more_than_one_key_fits() {
        let set = jwks(&[ed25519(Some("a")), ed25519(Some("b"))]).expect("keys");
        assert!(matches!(set.find(Algorithm::EdDSA, Some("a")), Found::One(_)));
        assert!(matches!(set.find(Algorithm::EdDSA, Some("c")), Found::None));
        assert!(matches!(set.find(Algorithm::EdDSA, None), Found::Ambiguous));
        assert!(matches!(set.find(Algorithm::RS256, Some("a")), Found::None));
        let set = jwks(&[ed25519(Some("a"))]).expect("key");
        assert!(matches!(set.find(Algorithm::EdDSA, None), Found::One(_)));
        assert!(matches!(set.find(Algorithm::HS256, None), Found::None));
    }

    #[test]
    fn an_equal_set_is_no_successor() {
        let before = jwks(&[ed25519(Some("a"))]).expect("key");
        assert!(jwks(&[ed25519(Some("a"))]).expect("key").after(&before).is_none());
        let after = jwks(&[ed25519(Some("b"))]).expect("key").after(&before).expect("differs");
        assert_eq!(after.generation, before.generation + 1);
    }
}
