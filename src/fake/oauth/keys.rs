//! Signing keys, ID tokens, and the documents that tell of them. Keys are made when they are first needed (an RSA key takes its
//! time) and roll over on command.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use p256::ecdsa::signature::Signer;
use parking_lot::Mutex;
use rsa::traits::PublicKeyParts;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::books::{Issued, State};
use super::call::Call;
use super::faults::Fault;
use super::rows::{Endpoint, Pkce, Style};
use crate::ids::random_name;

/// Bits of an RSA key.
const BITS: usize = 2048;

enum Secret {
    Rsa(Box<rsa::RsaPrivateKey>),
    Ec(p256::ecdsa::SigningKey),
}

/// A key pair.
pub struct Key {
    pub kid: String,
    secret: Secret,
}

fn coded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    /// A new one. `None`: the machine has no randomness.
    fn new(alg: &str) -> Option<Self> {
        let mut random = rsa::rand_core::OsRng;
        let secret = if alg == "ES256" {
            Secret::Ec(p256::ecdsa::SigningKey::random(&mut random))
        } else {
            Secret::Rsa(Box::new(rsa::RsaPrivateKey::new(&mut random, BITS).ok()?))
        };
        Some(Self { kid: random_name("key-", 8), secret })
    }

    fn alg(&self) -> &'static str {
        match self.secret {
            Secret::Rsa(_) => "RS256",
            Secret::Ec(_) => "ES256",
        }
    }

    fn public(&self) -> Value {
        let common = json!({"use":"sig","alg":self.alg(),"kid":self.kid});
        let own = match &self.secret {
            Secret::Rsa(key) => {
                json!({"kty":"RSA","n":coded(key.n().to_bytes_be()),"e":coded(key.e().to_bytes_be())})
            }
            Secret::Ec(key) => {
                let point = key.verifying_key().to_encoded_point(false);
                let part = |part: Option<&p256::FieldBytes>| part.map(coded).unwrap_or_default();
                json!({"kty":"EC","crv":"P-256","x":part(point.x()),"y":part(point.y())})
            }
        };
        let members = [common, own].into_iter().filter_map(|part| match part {
            Value::Object(members) => Some(members),
            _ => None,
        });
        Value::Object(members.flatten().collect())
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        match &self.secret {
            Secret::Rsa(key) => {
                let scheme = rsa::Pkcs1v15Sign::new::<Sha256>();
                key.sign(scheme, &Sha256::digest(text.as_bytes())).unwrap_or_default()
            }
            Secret::Ec(key) => {
                let signature: p256::ecdsa::Signature = key.sign(text.as_bytes());
                signature.to_bytes().to_vec()
            }
        }
    }
}

/// A provider's keys, the newest last.
#[derive(Default)]
pub struct Ring(Mutex<Vec<Arc<Key>>>);

impl Ring {
    /// The key that signs: the newest of the algorithm, made now if there is none.
    pub async fn signer(&self, alg: &str) -> Option<Arc<Key>> {
        let known = || self.0.lock().iter().rev().find(|key| key.alg() == alg).cloned();
        if let Some(key) = known() {
            return Some(key);
        }
        let wanted = alg.to_owned();
        let made = tokio::task::spawn_blocking(move || Key::new(&wanted)).await.ok()??;
        if let Some(key) = known() {
            return Some(key);
        }
        let made = Arc::new(made);
        self.0.lock().push(Arc::clone(&made));
        Some(made)
    }

    /// A new key signs from now on. The older ones are still told of, or (`drop_old`) no more.
    pub async fn roll(&self, alg: &str, drop_old: bool) -> Option<String> {
        let wanted = alg.to_owned();
        let made = tokio::task::spawn_blocking(move || Key::new(&wanted)).await.ok()??;
        let kid = made.kid.clone();
        let mut keys = self.0.lock();
        if drop_old {
            keys.clear();
        }
        keys.push(Arc::new(made));
        Some(kid)
    }

    /// The key set, with a key of a kind that nobody knows: whoever reads it must pass over it.
    pub fn set(&self) -> Value {
        let mut keys: Vec<Value> = self.0.lock().iter().map(|key| key.public()).collect();
        keys.push(json!({"kty":"FAKE","kid":"of-no-known-kind","use":"sig"}));
        json!({ "keys": keys })
    }
}

/// The algorithm of ID tokens.
pub fn alg(state: &State) -> String {
    state.settings.alg.clone().unwrap_or_else(|| "RS256".to_owned())
}

/// The claims of an ID token; `None` where none is due.
pub fn claims(
    call: &Call<'_>,
    state: &State,
    issued: &Issued,
    fault: Option<&Fault>,
) -> Option<Map<String, Value>> {
    let due = call.row.id_tokens && !issued.machine && issued.scopes.iter().any(|scope| scope == "openid");
    let person = state.people.get(&issued.person).filter(|_| due)?;
    let Value::Object(mut claims) = person.claims(call.row.style, &issued.scopes) else { return None };
    let hash = Sha256::digest(issued.access.as_bytes());
    let seconds = call.now / 1000;
    let own = json!({"iss":super::base(call, state),"aud":issued.client_id,"azp":issued.client_id,"iat":seconds,
        "exp":seconds + issued.expires_in.unwrap_or(3600),"auth_time":seconds,
        "at_hash":coded(hash.get(..16).unwrap_or_default())});
    claims.extend(own.as_object().cloned().unwrap_or_default());
    if let Some(nonce) = &issued.nonce {
        claims.insert("nonce".to_owned(), json!(nonce));
    }
    if let Some(fault) = fault {
        for name in &fault.drop_claims {
            claims.shift_remove(name);
        }
        claims.extend(fault.claims.clone());
    }
    Some(claims)
}

/// The ID token, signed, or spoilt as asked.
pub fn signed(key: &Key, claims: &Map<String, Value>, spoilt: Option<&str>) -> String {
    let alg = match spoilt {
        Some("none") => "none",
        Some("hmac") => "HS256",
        _ => key.alg(),
    };
    let kid = if spoilt == Some("unknown_kid") { "never-published" } else { &key.kid };
    let head = coded(json!({"alg":alg,"typ":"JWT","kid":kid}).to_string());
    let body = coded(Value::Object(claims.clone()).to_string());
    let text = format!("{head}.{body}");
    let signature = match spoilt {
        Some("none") => Vec::new(),
        Some("broken") => key.sign("something else"),
        Some("hmac") => Hmac::<Sha256>::new_from_slice(key.public().to_string().as_bytes())
            .map(|mut mac| {
                mac.update(text.as_bytes());
                mac.finalize().into_bytes().to_vec()
            })
            .unwrap_or_default(),
        _ => key.sign(&text),
    };
    format!("{text}.{}", coded(signature))
}

/// The discovery document.
pub fn discovery(call: &Call<'_>, state: &State) -> Value {
    let row = call.row;
    let base = super::base(call, state);
    let mut told = json!({"issuer": base, "response_types_supported":["code"],"subject_types_supported":["public"],
        "id_token_signing_alg_values_supported":["RS256", "ES256"],"scopes_supported":row.scopes,
        "claims_supported":["sub","iss","aud","exp","iat","nonce","email","email_verified","name","picture"]});
    let Some(members) = told.as_object_mut() else { return told };
    let places = [
        ("authorization_endpoint", Endpoint::Authorize),
        ("token_endpoint", Endpoint::Token),
        ("userinfo_endpoint", Endpoint::UserInfo),
        ("device_authorization_endpoint", Endpoint::Device),
        ("revocation_endpoint", Endpoint::Revoke),
        ("introspection_endpoint", Endpoint::Introspect),
        ("jwks_uri", Endpoint::Jwks),
    ];
    for (name, endpoint) in places {
        if let Some(path) = row.path_of(endpoint) {
            members.insert(name.to_owned(), json!(format!("{base}{path}")));
        }
    }
    let methods: &[&str] = match row.pkce {
        Pkce::None => &[],
        Pkce::S256 => &["S256"],
        Pkce::S256OrPlain => &["plain", "S256"],
    };
    members.insert("code_challenge_methods_supported".to_owned(), json!(methods));
    let mut grants =
        vec!["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"];
    match row.style {
        Style::HuggingFace => grants.push("urn:ietf:params:oauth:grant-type:token-exchange"),
        Style::Oidc => grants.push("client_credentials"),
        _ => {}
    }
    members.insert("grant_types_supported".to_owned(), json!(grants));
    let auth = ["client_secret_basic", "client_secret_post", "none"];
    members.insert("token_endpoint_auth_methods_supported".to_owned(), json!(auth));
    if state.settings.iss.unwrap_or(row.iss) {
        members.insert("authorization_response_iss_parameter_supported".to_owned(), json!(true));
    }
    told
}
