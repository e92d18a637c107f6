//! `weir token`: a JWT signed with a configured local secret. Why: to try the gateway, and to run it for a few people,
//! nobody should need an identity provider first.

use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use serde_json::{Map, Value};

use crate::identity::settings::{Issuer, KeySource};
use crate::keybook::Scope;
use crate::secret::Secret;

/// What the token is to say.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub subject: String,
    /// `None`: the claim is left out, and the tenant is then the subject.
    pub tenant: Option<String>,
    /// From now on; at least a second.
    pub ttl: Duration,
    /// Empty: the claim is left out, and the token may chat.
    pub scopes: Vec<Scope>,
    /// Empty: the claim is left out, and the token may use every model.
    pub models: Vec<String>,
}

/// Why no token can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    #[error("issuer {0:?} has no local secret: its tokens are made elsewhere")]
    NoSecret(String),
    #[error("issuer {issuer:?} does not read the claim for {what}: set `claims.{what}`, or leave it out")]
    NoClaim { issuer: String, what: &'static str },
    #[error("a token needs a subject")]
    NoSubject,
    #[error("a token lives at least a second")]
    NoTime,
    #[error(
        "the claim for {0} is one that every token has already (`iss`, `aud`, `sub`, `exp`, `nbf`, `iat`)"
    )]
    TakenClaim(&'static str),
    #[error("the token could not be signed")]
    Signing,
}

/// Makes a token of `issuer`, at `now` (seconds since 1970).
///
/// # Errors
/// The issuer has no secret, or does not read what is wanted.
pub fn mint(issuer: &Issuer, wanted: &Wanted, now: u64) -> Result<Secret, MintError> {
    let KeySource::Secret(secret) = &issuer.keys else {
        return Err(MintError::NoSecret(issuer.issuer.clone()));
    };
    let is_hmac = |algorithm: &&Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
    let Some(algorithm) = issuer.algorithms.iter().find(is_hmac) else {
        return Err(MintError::NoSecret(issuer.issuer.clone()));
    };
    let claims = claims(issuer, wanted, now)?;
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let token =
        jsonwebtoken::encode(&Header::new(*algorithm), &claims, &key).map_err(|_| MintError::Signing)?;
    Ok(Secret::new(token))
}

fn claims(issuer: &Issuer, wanted: &Wanted, now: u64) -> Result<Map<String, Value>, MintError> {
    if wanted.subject.is_empty() {
        return Err(MintError::NoSubject);
    }
    if wanted.ttl.as_secs() == 0 {
        return Err(MintError::NoTime);
    }
    let mut claims = Map::new();
    claims.insert("iss".into(), issuer.issuer.as_str().into());
    claims.insert("aud".into(), issuer.audience.first().map(String::as_str).into());
    claims.insert("sub".into(), wanted.subject.as_str().into());
    claims.insert("iat".into(), now.into());
    claims.insert("nbf".into(), now.into());
    claims.insert("exp".into(), now.saturating_add(wanted.ttl.as_secs()).into());
    let scopes: Vec<&str> = wanted.scopes.iter().map(|scope| scope.as_str()).collect();
    let optional: [(&'static str, &Option<String>, Option<Value>); 3] = [
        ("tenant", &issuer.claims.tenant, wanted.tenant.as_deref().map(Value::from)),
        ("scope", &issuer.claims.scope, (!scopes.is_empty()).then(|| scopes.join(" ").into())),
        (
            "models",
            &issuer.claims.models,
            (!wanted.models.is_empty()).then(|| wanted.models.as_slice().into()),
        ),
    ];
    for (what, name, value) in optional {
        let Some(value) = value else { continue };
        let name = name.clone().ok_or_else(|| MintError::NoClaim { issuer: issuer.issuer.clone(), what })?;
        if claims.get(&name).is_some_and(|given| *given != value) {
            return Err(MintError::TakenClaim(what));
        }
        claims.insert(name, value);
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::identity::settings::ClaimNames;
    use crate::identity::{Identity, Settings};
    use crate::keybook::NoKeys;

    const NOW: u64 = 1_800_000_000;

    fn issuer() -> Issuer {
        Issuer {
            issuer: "weir".into(),
            audience: vec!["weir".into(), "other".into()],
            keys: KeySource::Secret(Secret::new("a-secret-for-tests-only-of-40-characters")),
            algorithms: vec![Algorithm::HS256],
            claims: ClaimNames {
                tenant: Some("tenant".into()),
                models: Some("models".into()),
                scope: Some("scope".into()),
            },
            leeway: Duration::ZERO,
        }
    }

    fn wanted() -> Wanted {
        Wanted {
            subject: "alice".into(),
            tenant: Some("research".into()),
            ttl: Duration::from_secs(60),
            scopes: vec![Scope::Chat, Scope::Admin],
            models: vec!["gpt-*".into()],
        }
    }

    #[tokio::test]
    async fn a_minted_token_is_let_in_as_who_it_says_until_it_ends() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let (clock, hand) = Clock::manual(NOW * 1000);
        let settings = Settings { jwt: vec![issuer()], ..Settings::default() };
        let identity =
            Identity::new(settings, Arc::new(NoKeys), clock, reqwest::Client::new()).expect("good");
        let token = mint(&issuer(), &wanted(), NOW).expect("minted");
        let mut headers = http::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", token.expose()).parse().expect("a value"));
        let caller = identity.verify(&headers).await.expect("good");
        assert_eq!((caller.tenant.as_str(), caller.subject.as_str()), ("research", "alice"));
        assert!(caller.has_scope(Scope::Admin) && caller.has_scope(Scope::Chat));
        assert!(!caller.has_scope(Scope::Accounts));
        assert!(caller.may_use("gpt-4o") && !caller.may_use("qwen-max"));
        hand.advance(Duration::from_secs(60));
        assert!(identity.verify(&headers).await.is_err());
    }

    #[test]
    fn what_the_issuer_would_not_read_is_not_minted() {
        let mut deaf = issuer();
        deaf.claims.tenant = None;
        let expected = MintError::NoClaim { issuer: "weir".into(), what: "tenant" };
        assert_eq!(mint(&deaf, &wanted(), NOW).err(), Some(expected));
        assert!(mint(&deaf, &Wanted { tenant: None, ..wanted() }, NOW).is_ok());
        let mut odd = issuer();
        odd.claims.tenant = Some("sub".into());
        assert_eq!(mint(&odd, &wanted(), NOW).err(), Some(MintError::TakenClaim("tenant")));
        let mut elsewhere = issuer();
        elsewhere.keys = KeySource::PublicKey(String::new());
        assert_eq!(mint(&elsewhere, &wanted(), NOW).err(), Some(MintError::NoSecret("weir".into())));
        let nobody = Wanted { subject: String::new(), ..wanted() };
        assert_eq!(mint(&issuer(), &nobody, NOW).err(), Some(MintError::NoSubject));
        let dead = Wanted { ttl: Duration::from_millis(999), ..wanted() };
        assert_eq!(mint(&issuer(), &dead, NOW).err(), Some(MintError::NoTime));
    }
}
