//! One trusted issuer: what its tokens must say, and what they say about their bearer.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use crate::clock::Clock;
use crate::identity::SettingsError;
use crate::identity::caller::{ModelRules, Scopes};
use crate::identity::keys::{Found, KeySet, Keys};
use crate::identity::settings::{self, ClaimNames, KeySource};
use crate::identity::token::{Claims, Refusal, Unverified};
use crate::ids::{Subject, TenantId};

/// Most clock difference that is forgiven, in seconds. Also how far ahead a token's `iat` may lie.
const MAX_LEEWAY: u64 = 60;

/// See the module.
#[derive(Debug)]
pub(super) struct Issuer {
    pub name: Arc<str>,
    pub keys: Keys,
    audience: Vec<String>,
    algorithms: Vec<Algorithm>,
    claims: ClaimNames,
    leeway: f64,
}

/// What a verified token says about its bearer.
#[derive(Debug)]
pub(super) struct Bearer {
    pub tenant: TenantId,
    pub subject: Subject,
    pub models: ModelRules,
    pub scopes: Scopes,
    /// Seconds since 1970, rounded down.
    pub expires: u64,
}

impl Issuer {
    /// Checks the settings and opens the source of the keys.
    pub fn open(
        settings: &settings::Issuer,
        clock: &Clock,
        client: &reqwest::Client,
    ) -> Result<Self, SettingsError> {
        let name = || settings.issuer.clone();
        if settings.issuer.is_empty() {
            return Err(SettingsError::NoIssuer);
        }
        if settings.audience.is_empty() || settings.audience.iter().any(String::is_empty) {
            return Err(SettingsError::NoAudience(name()));
        }
        if settings.algorithms.is_empty() {
            return Err(SettingsError::NoAlgorithms(name()));
        }
        if settings.leeway.as_secs_f64() > MAX_LEEWAY as f64 {
            return Err(SettingsError::Leeway(name()));
        }
        let is_secret = matches!(settings.keys, KeySource::Secret(_));
        let fits = |algorithm: &Algorithm| (algorithm.family() == AlgorithmFamily::Hmac) == is_secret;
        if let Some(wrong) = settings.algorithms.iter().find(|algorithm| !fits(algorithm)) {
            return Err(SettingsError::Algorithm { issuer: name(), algorithm: *wrong });
        }
        Ok(Self {
            name: Arc::from(settings.issuer.as_str()),
            keys: Keys::open(settings, clock, client)?,
            audience: settings.audience.clone(),
            algorithms: settings.algorithms.clone(),
            claims: settings.claims.clone(),
            leeway: settings.leeway.as_secs_f64(),
        })
    }

    /// Whether a token may say this `alg` at all.
    pub fn takes(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Verifies a token with the keys of `set`, at `now` in seconds since 1970.
    pub fn verify(&self, token: &Unverified<'_>, set: &KeySet, now: u64) -> Result<Bearer, Refusal> {
        if !self.takes(token.algorithm) {
            return Err(Refusal::Invalid("an alg that this issuer does not use"));
        }
        match set.find(token.algorithm, token.kid.as_deref()) {
            Found::One(key) => verify_signature(token, key)?,
            Found::None => return Err(Refusal::Invalid("an unknown key")),
            Found::Ambiguous => return Err(Refusal::Invalid("no kid, and more than one key fits")),
        }
        self.read(&token.claims, now)
    }

    /// What a token with a good signature says.
    fn read(&self, claims: &Claims, now: u64) -> Result<Bearer, Refusal> {
        if claims.text("iss")?.as_deref() != Some(&*self.name) {
            return Err(Refusal::Invalid("another issuer"));
        }
        if !claims.is_for(&self.audience)? {
            return Err(Refusal::Invalid("another audience"));
        }
        let expires = self.check_times(claims, now as f64)?;
        let subject = claims.name("sub")?.ok_or(Refusal::Malformed("no sub"))?;
        let list = |name: &Option<String>| name.as_ref().map_or(Ok(None), |name| claims.list(name));
        let tenant = self.claims.tenant.as_ref().map_or(Ok(None), |name| claims.name(name))?;
        Ok(Bearer {
            tenant: tenant.map_or_else(|| TenantId::from(subject.as_str()), TenantId::from),
            subject: Subject::from(subject),
            models: list(&self.claims.models)?.map_or(ModelRules::All, ModelRules::Only),
            scopes: list(&self.claims.scope)?
                .map_or(Scopes::CHAT, |names| Scopes::from_names(names.iter().map(String::as_str))),
            expires: expires as u64,
        })
    }

    /// `exp` must be there; all times given must be times.
    fn check_times(&self, claims: &Claims, now: f64) -> Result<f64, Refusal> {
        let expires = claims.time("exp")?.ok_or(Refusal::Malformed("no exp"))?;
        let not_before = claims.time("nbf")?;
        let issued = claims.time("iat")?;
        if now >= expires + self.leeway {
            return Err(Refusal::Expired);
        }
        if not_before.is_some_and(|start| start > now + self.leeway)
            || issued.is_some_and(|issued| issued > now + MAX_LEEWAY as f64)
        {
            return Err(Refusal::NotYet);
        }
        Ok(expires)
    }
}

pub(super) fn verify_signature(token: &Unverified<'_>, key: &DecodingKey) -> Result<(), Refusal> {
    let signed = token.signed.as_bytes();
    match jsonwebtoken::crypto::verify(token.signature, signed, key, token.algorithm) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refusal::Invalid("a wrong signature")),
        Err(_) => Err(Refusal::Malformed("a signature that cannot be read")),
    }
}
