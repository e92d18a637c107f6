//! Tokens that Weir makes itself: for third-party apps that a person let in, and for a person's own session. Why here, beside
//! the issuers of the configuration: the same front door must take them, and more strictly than anybody else's, because we
//! know exactly what we wrote.
//!
//! Everything is in memory; `gateway::issuer` keeps keys and revocations in the store and brings them here on every replica.
//!
//! # For whoever makes tokens
//! ```text
//! own.mint(&Claims { subject, tenant, client_id: OWN_CLIENT, session: "ses_…", scope: "chat accounts", models: None }, lifetime)?
//!    -> Minted { token, id, expires }
//! ```
//! A token is an RFC 9068 access token (`typ: at+jwt`, ES256): `iss` and `aud` are the public URL, `client_id` is the app or
//! [`OWN_CLIENT`], `sid` is the grant or session that it hangs on. Where `sid` or `client_id` is revoked
//! (`gateway::issuer::Keeper::revoke`), the token is dead: here at once, on other replicas within a second.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::pkcs8::EncodePrivateKey;
use parking_lot::Mutex;
use rand::Rng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::caller::{ModelRules, Scopes, Ties};
use super::issuer::{Bearer, verify_signature};
use super::keys::{Found, KeySet};
use super::token::{Refusal, Unverified};
use crate::clock::Clock;
use crate::ids::{Subject, TenantId, random_name};
use crate::secret::Secret;

/// The `client_id` of tokens that no app holds: those of Weir's own sign-in.
pub const OWN_CLIENT: &str = "weir";

/// Longest life of a token, so that it is known when a key that no longer signs may be forgotten.
pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// What replicas' clocks may differ by, in seconds.
const SKEW: u64 = 60;

/// What a token says of itself (RFC 9068).
const TYPE: &str = "at+jwt";

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// No public URL is configured, or no key was made yet.
    #[error("no tokens are made here")]
    Silent,
    /// Longer than [`MAX_LIFETIME`].
    #[error("a token that would live for too long")]
    TooLong,
    /// The signature failed.
    #[error("a token could not be signed")]
    Unsigned,
}

/// A key that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signing key that cannot be used")]
pub struct KeyError;

/// A private key for ES256.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    /// PKCS#8, base64.
    kept: Secret,
    secret: EncodingKey,
    public: Value,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new one.
    ///
    /// # Errors
    /// None that is known.
    pub fn random() -> Result<Self, KeyError> {
        loop {
            let mut bytes = Zeroizing::new([0_u8; 32]);
            rand::rng().fill(&mut *bytes);
            // One in 2^32 is not below the curve's order.
            let Ok(key) = p256::SecretKey::from_slice(bytes.as_slice()) else { continue };
            let der = key.to_pkcs8_der().map_err(|_| KeyError)?;
            return Self::read(&Secret::new(STANDARD.encode(der.as_bytes())));
        }
    }

    /// The one that was kept as `kept`.
    ///
    /// # Errors
    /// It is none.
    pub fn read(kept: &Secret) -> Result<Self, KeyError> {
        let der = Zeroizing::new(STANDARD.decode(kept.expose()).map_err(|_| KeyError)?);
        let secret = EncodingKey::from_ec_der(&der);
        let mut jwk = Jwk::from_encoding_key(&secret, Algorithm::ES256).map_err(|_| KeyError)?;
        let kid = thumbprint(&jwk).ok_or(KeyError)?;
        jwk.common.key_id = Some(kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let public = serde_json::to_value(&jwk).map_err(|_| KeyError)?;
        Ok(Self { kid, kept: kept.clone(), secret, public })
    }

    /// Its name: what its public half is, hashed.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What is to be kept of it, encrypted.
    pub fn kept(&self) -> &Secret {
        &self.kept
    }
}

/// RFC 7638.
fn thumbprint(jwk: &Jwk) -> Option<String> {
    let AlgorithmParameters::EllipticCurve(point) = &jwk.algorithm else { return None };
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, point.x, point.y);
    Some(URL_SAFE_NO_PAD.encode(Sha256::digest(canonical)))
}

/// A key and when it begins to sign.
#[derive(Clone, Debug)]
pub struct Timed {
    pub key: SigningKey,
    /// Seconds since 1970. Known before by everybody, so that no replica meets a token of a key that it has never seen.
    pub signs_from: u64,
}

/// What a token is to say.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// Who: unique within this Weir.
    pub subject: &'a Subject,
    /// On whose limits and accounts.
    pub tenant: &'a TenantId,
    /// The app, or [`OWN_CLIENT`].
    pub client_id: &'a str,
    /// The grant or session that it hangs on. Never used for anything else, and never again.
    pub session: &'a str,
    /// Names with spaces between. Those of [`Scope`](crate::keybook::Scope) open what they open; others are for whoever reads them.
    pub scope: &'a str,
    /// Names and globs; `None`: every model.
    pub models: Option<&'a [String]>,
}

/// A new token.
#[derive(Clone, Debug)]
pub struct Minted {
    pub token: Secret,
    /// Its `jti`.
    pub id: String,
    /// Seconds since 1970.
    pub expires: u64,
}

/// What is in force.
#[derive(Debug, Default)]
struct State {
    /// Grows with each change: what was verified under another one is verified again.
    generation: u64,
    /// `iss` and `aud`; `None`: no token is made or taken.
    name: Option<Arc<str>>,
    /// Whether tokens of apps are taken.
    serves_apps: bool,
    keys: Vec<Timed>,
    public: KeySet,
    jwks: String,
}

/// Weir as an issuer of tokens. One per process, whatever the configuration; clones of its `Arc` are in everybody's hands.
#[derive(Debug)]
pub struct OwnIssuer {
    clock: Clock,
    state: ArcSwap<State>,
    /// Grants, sessions and apps that are revoked while tokens of theirs may still be alive.
    revoked: ArcSwap<HashSet<String>>,
    /// Apps of which no token is taken for now.
    suspended: ArcSwap<HashSet<String>>,
    changing: Mutex<()>,
}

impl OwnIssuer {
    /// One that makes and takes nothing yet.
    pub fn new(clock: Clock) -> Self {
        let state = State { jwks: r#"{"keys":[]}"#.to_owned(), ..State::default() };
        Self {
            clock,
            state: ArcSwap::from_pointee(state),
            revoked: ArcSwap::default(),
            suspended: ArcSwap::default(),
            changing: Mutex::new(()),
        }
    }

    /// Under this name from now on: the public URL, without a slash at its end. Without one, nothing is made or taken.
    /// Tokens of apps are taken where `serves_apps`.
    pub fn rename(&self, name: Option<&str>, serves_apps: bool) {
        let name = name.map(Arc::from);
        self.change(|state| {
            let is_new = state.name != name || state.serves_apps != serves_apps;
            (state.name, state.serves_apps) = (name, serves_apps);
            is_new
        });
    }

    /// With these keys from now on: tokens of others are dead.
    pub fn put_keys(&self, keys: Vec<Timed>) {
        let jwks =
            json!({"keys": keys.iter().map(|timed| &timed.key.public).collect::<Vec<_>>()}).to_string();
        self.change(|state| {
            let signs_from = |keys: &[Timed]| keys.iter().map(|timed| timed.signs_from).collect::<Vec<_>>();
            if state.jwks == jwks && signs_from(&state.keys) == signs_from(&keys) {
                return false;
            }
            state.public = KeySet::jwks(jwks.as_bytes()).unwrap_or_default();
            (state.keys, state.jwks) = (keys, jwks);
            true
        });
    }

    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let _changing = self.changing.lock();
        let before = self.state.load_full();
        let mut state = State {
            generation: before.generation,
            name: before.name.clone(),
            serves_apps: before.serves_apps,
            keys: before.keys.clone(),
            public: KeySet::jwks(before.jwks.as_bytes()).unwrap_or_default(),
            jwks: before.jwks.clone(),
        };
        if change(&mut state) {
            state.generation += 1;
            self.state.store(Arc::new(state));
        }
    }

    /// These are revoked, and no others.
    pub fn put_revoked(&self, ids: HashSet<String>) {
        let _changing = self.changing.lock();
        self.revoked.store(Arc::new(ids));
    }

    /// These are revoked, too.
    pub fn add_revoked(&self, ids: &[String]) {
        let _changing = self.changing.lock();
        let mut all = HashSet::clone(&self.revoked.load());
        all.extend(ids.iter().cloned());
        self.revoked.store(Arc::new(all));
    }

    /// Of these apps no token is taken for now, and of no others.
    pub fn put_suspended(&self, client_ids: HashSet<String>) {
        self.suspended.store(Arc::new(client_ids));
    }

    /// Whether no token of that app is taken for now.
    pub fn is_suspended(&self, client_id: &str) -> bool {
        self.suspended.load().contains(client_id)
    }

    /// Whether tokens can be made: there is a name and a key.
    pub fn is_ready(&self) -> bool {
        let state = self.state.load();
        state.name.is_some() && !state.keys.is_empty()
    }

    /// The name that tokens bear as `iss` and `aud`.
    pub fn name(&self) -> Option<Arc<str>> {
        self.state.load().name.clone()
    }

    /// The public keys, as a JWKS document.
    pub fn jwks(&self) -> String {
        self.state.load().jwks.clone()
    }

    /// Makes a token that lives for `lifetime`.
    ///
    /// # Errors
    /// See [`MintError`].
    pub fn mint(&self, claims: &Claims<'_>, lifetime: Duration) -> Result<Minted, MintError> {
        if lifetime > MAX_LIFETIME {
            return Err(MintError::TooLong);
        }
        let state = self.state.load();
        let name = state.name.as_deref().ok_or(MintError::Silent)?;
        let now = self.clock.wall_seconds();
        let key = signer(&state.keys, now).ok_or(MintError::Silent)?;
        let (id, expires) = (random_name("tok_", 22), now.saturating_add(lifetime.as_secs()));
        let mut body = json!({
            "iss": name,
            "aud": name,
            "sub": claims.subject,
            "client_id": claims.client_id,
            "iat": now,
            "exp": expires,
            "jti": id,
            "sid": claims.session,
            "tenant": claims.tenant,
            "scope": claims.scope,
        });
        if let (Some(body), Some(models)) = (body.as_object_mut(), claims.models) {
            body.insert("models".to_owned(), json!(models));
        }
        let mut header = Header::new(Algorithm::ES256);
        (header.typ, header.kid) = (Some(TYPE.to_owned()), Some(key.kid.clone()));
        let token = jsonwebtoken::encode(&header, &body, &key.secret).map_err(|_| MintError::Unsigned)?;
        Ok(Minted { token: Secret::new(token), id, expires })
    }

    /// Whether a token that says so of its issuer is one of ours to judge.
    pub(super) fn is_named(&self, issuer: &str) -> bool {
        self.state.load().name.as_deref() == Some(issuer)
    }

    /// What a token says, and the generation under which it may be remembered.
    pub(super) fn verify(&self, token: &Unverified<'_>) -> Result<(Bearer, Ties, u64), Refusal> {
        let state = self.state.load();
        let name = state.name.as_deref().ok_or(Refusal::Invalid("an unknown issuer"))?;
        if token.kind.as_deref() != Some(TYPE) || token.algorithm != Algorithm::ES256 {
            return Err(Refusal::Invalid("not a token as we make them"));
        }
        let kid = token.kid.as_deref().ok_or(Refusal::Malformed("no kid"))?;
        match state.public.find(Algorithm::ES256, Some(kid)) {
            Found::One(key) => verify_signature(token, key)?,
            _ => return Err(Refusal::Invalid("an unknown key")),
        }
        let (bearer, ties) = self.read(token, name)?;
        if ties.is_app() && !state.serves_apps {
            return Err(Refusal::Invalid("tokens of apps are not taken"));
        }
        if self.is_revoked(&ties) {
            return Err(Refusal::Invalid("a token that is revoked, or of an app that is suspended"));
        }
        Ok((bearer, ties, state.generation))
    }

    /// What a token with a good signature says.
    fn read(&self, token: &Unverified<'_>, name: &str) -> Result<(Bearer, Ties), Refusal> {
        let claims = &token.claims;
        let must = |what: &str| claims.name(what)?.ok_or(Refusal::Malformed("a claim is missing"));
        if claims.text("iss")?.as_deref() != Some(name) || claims.text("aud")?.as_deref() != Some(name) {
            return Err(Refusal::Invalid("another issuer or audience"));
        }
        let now = self.clock.wall_seconds();
        let expires = claims.time("exp")?.ok_or(Refusal::Malformed("no exp"))?;
        let issued = claims.time("iat")?.ok_or(Refusal::Malformed("no iat"))?;
        if now as f64 >= expires {
            return Err(Refusal::Expired);
        }
        if issued > now.saturating_add(SKEW) as f64 {
            return Err(Refusal::NotYet);
        }
        let scope = claims.text("scope")?.ok_or(Refusal::Malformed("no scope"))?;
        let bearer = Bearer {
            tenant: TenantId::from(must("tenant")?),
            subject: Subject::from(must("sub")?),
            models: claims.list("models")?.map_or(ModelRules::All, ModelRules::Only),
            scopes: Scopes::from_names(scope.split(' ')),
            expires: expires as u64,
        };
        let ties = Ties {
            client_id: Arc::from(must("client_id")?),
            session: Arc::from(must("sid")?),
            token_id: Arc::from(must("jti")?),
            scope: Arc::from(scope),
            issued: issued as u64,
        };
        Ok((bearer, ties))
    }

    /// Looks at a token as the front door would: for introspection and revocation.
    ///
    /// `None` where it is not a live token of ours.
    pub fn look_at(&self, token: &str) -> Option<Seen> {
        let token = Unverified::parse(token).ok()?;
        let (bearer, ties, _) = self.verify(&token).ok()?;
        Some(Seen { subject: bearer.subject, tenant: bearer.tenant, expires: bearer.expires, ties })
    }

    /// Whether what was verified under `generation` still holds.
    pub(super) fn still_holds(&self, generation: u64, ties: Option<&Ties>) -> bool {
        self.state.load().generation == generation && !ties.is_some_and(|ties| self.is_revoked(ties))
    }

    /// For good, or for now.
    fn is_revoked(&self, ties: &Ties) -> bool {
        let revoked = self.revoked.load();
        let is_dead = revoked.contains(&*ties.session) || revoked.contains(&*ties.client_id);
        is_dead || (ties.is_app() && self.is_suspended(&ties.client_id))
    }
}

/// A live token of ours.
#[derive(Clone, Debug)]
pub struct Seen {
    pub subject: Subject,
    pub tenant: TenantId,
    /// Seconds since 1970.
    pub expires: u64,
    pub ties: Ties,
}

/// The youngest key whose time has come; where none's has (a clock that went back), the oldest.
fn signer(keys: &[Timed], now: u64) -> Option<&SigningKey> {
    let begun = keys.iter().filter(|timed| timed.signs_from <= now).max_by_key(|timed| timed.signs_from);
    begun.or_else(|| keys.iter().min_by_key(|timed| timed.signs_from)).map(|timed| &timed.key)
}
