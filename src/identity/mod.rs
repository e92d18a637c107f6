//! Who calls: JWTs of trusted issuers, Weir's own keys, and how much each caller may.
//!
//! Only `Authorization: Bearer …` says who calls. No other header, cookie, query or body field is ever looked at: each
//! way in besides the front door has let somebody past a limit in one gateway or another.

mod cache;
mod caller;
mod id_token;
mod issuer;
mod keys;
pub mod limits;
mod own;
pub mod settings;
mod token;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use http::header::AUTHORIZATION;

use crate::clock::Clock;
use crate::fault::Fault;
use crate::ids::Subject;
use crate::keybook::{self, KeyBook, KeyHash, KeyRecord};

pub use caller::{Caller, ModelRules, Scopes, Ties};
pub use id_token::{IdTokens, Sought};
pub use own::{
    Claims, KeyError, MAX_LIFETIME, MintError, Minted, OWN_CLIENT, OwnIssuer, Seen, SigningKey, Timed,
};
pub use settings::Settings;

use cache::{Cache, Entry, Source};
use issuer::{Bearer, Issuer};
use limits::Limiters;
use token::{Refusal, Unverified};

/// Most callers that are remembered.
const CACHE_CAPACITY: usize = 10_000;

/// Why settings of identity are refused. None of them is safe to start with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("an issuer of JWTs without a name: `issuer` must be exactly the tokens' `iss`")]
    NoIssuer,
    #[error("issuer {0:?} is configured twice")]
    SameIssuer(String),
    #[error("issuer {0:?} has no audience: any token that it makes for any other service would be taken")]
    NoAudience(String),
    #[error("issuer {0:?} has no algorithms")]
    NoAlgorithms(String),
    #[error(
        "issuer {issuer:?}: {algorithm:?} does not fit where its keys come from (HS* needs `secret`, all others a public key)"
    )]
    Algorithm { issuer: String, algorithm: jsonwebtoken::Algorithm },
    #[error("issuer {0:?}: the secret is empty or shorter than 32 bytes")]
    ShortSecret(String),
    #[error("issuer {issuer:?}: {problem}")]
    Key { issuer: String, problem: &'static str },
    #[error("issuer {0:?}: the JWKS URL must be https (or http on this machine), without user and password")]
    Url(String),
    #[error("issuer {0:?}: the leeway is more than 60 s")]
    Leeway(String),
    #[error("the limit {0} of callers is 0: leave it out for no limit")]
    ZeroLimit(&'static str),
}

/// Decides who calls. One per configuration; shared by all requests.
pub struct Identity {
    issuers: Vec<Issuer>,
    places: HashMap<Arc<str>, usize>,
    takes_keys: bool,
    book: Arc<dyn KeyBook>,
    own: Arc<OwnIssuer>,
    limiters: Limiters,
    cache: Cache,
    clock: Clock,
    back_office: reqwest::Client,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Identity").field("issuers", &self.places.keys()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Checks the settings, reads JWKS files, fetches nothing yet. `back_office` must not follow redirects.
    ///
    /// # Errors
    /// Settings that would let the wrong people in.
    pub fn new(
        settings: Settings,
        keys: Arc<dyn KeyBook>,
        clock: Clock,
        back_office: reqwest::Client,
    ) -> Result<Self, SettingsError> {
        let limiters = Limiters::new(settings.default_limits, settings.tenant_limits.clone(), clock.clone());
        let own = Arc::new(OwnIssuer::new(clock.clone()));
        Self::assemble(&settings, (keys, own), clock, back_office, limiters?)
    }

    /// Takes the tokens of this issuer, too: Weir itself.
    #[must_use]
    pub fn with_own(self, own: Arc<OwnIssuer>) -> Self {
        Self { own, ..self }
    }

    /// The same under new settings: what callers have used up so far still counts.
    ///
    /// # Errors
    /// As [`Identity::new`].
    pub fn renewed(&self, settings: Settings) -> Result<Self, SettingsError> {
        let limiters = self.limiters.renewed(settings.default_limits, settings.tenant_limits.clone())?;
        let (book, own) = (Arc::clone(&self.book), Arc::clone(&self.own));
        Self::assemble(&settings, (book, own), self.clock.clone(), self.back_office.clone(), limiters)
    }

    fn assemble(
        settings: &Settings,
        (book, own): (Arc<dyn KeyBook>, Arc<OwnIssuer>),
        clock: Clock,
        back_office: reqwest::Client,
        limiters: Limiters,
    ) -> Result<Self, SettingsError> {
        let mut places = HashMap::new();
        let mut issuers = Vec::with_capacity(settings.jwt.len());
        for one in &settings.jwt {
            let issuer = Issuer::open(one, &clock, &back_office)?;
            if places.insert(Arc::clone(&issuer.name), issuers.len()).is_some() {
                return Err(SettingsError::SameIssuer(one.issuer.clone()));
            }
            issuers.push(issuer);
        }
        let cache = Cache::new(CACHE_CAPACITY);
        Ok(Self {
            issuers,
            places,
            takes_keys: settings.keys,
            book,
            own,
            limiters,
            cache,
            clock,
            back_office,
        })
    }

    /// Who calls, where that is known without waiting: the hot path. `None` says nothing about the caller; ask
    /// [`Identity::verify`].
    pub fn verify_cached(&self, headers: &http::HeaderMap) -> Option<Arc<Caller>> {
        let hash = KeyHash::of(bearer(headers).ok()?.as_bytes());
        let entry = self.cache.get(&hash, self.clock.wall_seconds())?;
        if let Source::Issuer { place, .. } = entry.source
            && self.issuers.get(place)?.keys.is_due(self.clock.now())
        {
            return None;
        }
        self.still_good(entry)
    }

    /// Who calls.
    ///
    /// # Errors
    /// 401 where that cannot be shown; 503 where an issuer's keys could not be had yet.
    pub async fn verify(&self, headers: &http::HeaderMap) -> Result<Arc<Caller>, Fault> {
        let token = bearer(headers)?;
        let hash = KeyHash::of(token.as_bytes());
        if let Some(entry) = self.cache.get(&hash, self.clock.wall_seconds()) {
            if let Source::Issuer { place, .. } = entry.source
                && let Some(issuer) = self.issuers.get(place)
            {
                issuer.keys.fresh().await?;
            }
            if let Some(caller) = self.still_good(entry) {
                return Ok(caller);
            }
        }
        let entry = if token.starts_with(keybook::PREFIX) {
            self.verify_key(&hash)?
        } else {
            self.verify_jwt(token).await?
        };
        self.cache.put(hash, entry.clone(), self.clock.wall_seconds());
        Ok(entry.caller)
    }

    /// The caller of an entry whose keys or records have not changed since.
    fn still_good(&self, entry: Entry) -> Option<Arc<Caller>> {
        let is_same = match entry.source {
            Source::Issuer { place, generation } => {
                self.issuers.get(place)?.keys.current().generation == generation
            }
            Source::Book { generation } => self.book.generation() == generation,
            Source::Own { generation } => self.own.still_holds(generation, entry.caller.ties.as_ref()),
        };
        is_same.then_some(entry.caller)
    }

    fn verify_key(&self, hash: &KeyHash) -> Result<Entry, Refusal> {
        if !self.takes_keys {
            return Err(Refusal::Invalid("keys are not taken"));
        }
        // Before the record: a change in between makes the entry one that is looked up again, never one that stays.
        let generation = self.book.generation();
        let record = self.book.find(hash).ok_or(Refusal::Invalid("no such key"))?;
        let now = self.clock.wall_seconds();
        if record.revoked.is_some() {
            return Err(Refusal::Invalid("a revoked key"));
        }
        if !record.is_live(now) {
            return Err(Refusal::Expired);
        }
        let caller = Arc::new(self.key_caller(&record));
        Ok(Entry { caller, source: Source::Book { generation } })
    }

    fn key_caller(&self, record: &KeyRecord) -> Caller {
        let limiter = match record.limits {
            Some(limits) => self.limiters.of_key(&record.id, &record.tenant, &limits),
            None => self.limiters.of_tenant(&record.tenant),
        };
        Caller {
            tenant: record.tenant.clone(),
            subject: Subject::from(record.id.as_str()),
            issuer: None,
            key_id: Some(record.id.clone()),
            models: record.models.clone().map_or(ModelRules::All, ModelRules::Only),
            scopes: record.scopes.iter().copied().collect(),
            limiter,
            expires: record.expires,
            ties: None,
        }
    }

    async fn verify_jwt(&self, token: &str) -> Result<Entry, Fault> {
        let token = Unverified::parse(token)?;
        // Not yet to be believed: it only says whose keys to try.
        let claimed = token.claims.text("iss")?.ok_or(Refusal::Malformed("no iss"))?;
        if self.own.is_named(&claimed) {
            let (bearer, ties, generation) = self.own.verify(&token)?;
            let caller = Arc::new(self.jwt_caller(Arc::from(claimed), bearer, Some(ties)));
            return Ok(Entry { caller, source: Source::Own { generation } });
        }
        let place =
            self.places.get(claimed.as_str()).copied().ok_or(Refusal::Invalid("an unknown issuer"))?;
        let issuer = self.issuers.get(place).ok_or(Refusal::Invalid("an unknown issuer"))?;
        if !issuer.takes(token.algorithm) {
            return Err(Refusal::Invalid("an alg that this issuer does not use").into());
        }
        let mut set = issuer.keys.fresh().await?;
        if matches!(set.find(token.algorithm, token.kid.as_deref()), keys::Found::None) {
            set = issuer.keys.seek().await;
        }
        let bearer = issuer.verify(&token, &set, self.clock.wall_seconds())?;
        let caller = Arc::new(self.jwt_caller(Arc::clone(&issuer.name), bearer, None));
        Ok(Entry { caller, source: Source::Issuer { place, generation: set.generation } })
    }

    fn jwt_caller(&self, issuer: Arc<str>, bearer: Bearer, ties: Option<Ties>) -> Caller {
        Caller {
            limiter: self.limiters.of_tenant(&bearer.tenant),
            tenant: bearer.tenant,
            subject: bearer.subject,
            issuer: Some(issuer),
            key_id: None,
            models: bearer.models,
            scopes: bearer.scopes,
            expires: Some(bearer.expires),
            ties,
        }
    }
}

/// What follows `Bearer` in the one Authorization header.
fn bearer(headers: &http::HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        let has_two = headers.contains_key(AUTHORIZATION);
        return Err(if has_two { Refusal::Malformed("two Authorization headers") } else { Refusal::Missing });
    };
    let text = value.to_str().map_err(|_| Refusal::Malformed("not ASCII"))?;
    let (scheme, token) = text.split_once(' ').ok_or(Refusal::Malformed("no token"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::Malformed("not Bearer"));
    }
    let token = token.trim_matches(' ');
    if token.is_empty() {
        return Err(Refusal::Missing);
    }
    if token.len() > token::MAX_LEN {
        return Err(Refusal::Malformed("longer than 16 KiB"));
    }
    Ok(token)
}
