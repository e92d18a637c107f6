//! ID tokens of OpenID Connect: who signed in, said by an issuer that we sent somebody to. Beside what every JWT must be, an
//! ID token must be for this client alone, for this very sign-in (`nonce`), and beside this access token (`at_hash`).
//! OpenID Connect Core 1.0, 3.1.3.7 and 3.1.3.8.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::SettingsError;
use super::issuer::Issuer;
use super::keys::Found;
use super::settings::{self, ClaimNames, KeySource};
use super::token::{Claims, Refusal, Unverified};
use crate::clock::Clock;
use crate::fault::Fault;
use crate::secret::Secret;

/// What providers sign with. Never a shared secret: a public client has none.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Longest subject (OpenID Connect Core, 2).
const MAX_SUBJECT: usize = 255;

/// How often keys are sought for one token: they may just have been, and a moment later be others.
const TRIES: usize = 3;

/// Clock difference that is forgiven.
const LEEWAY: Duration = Duration::from_secs(60);

/// Verifies the ID tokens of one issuer for one client.
#[derive(Debug)]
pub struct IdTokens {
    issuer: Issuer,
    client_id: String,
    clock: Clock,
}

/// What an ID token must fit to.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'a> {
    /// As sent to the authorize page; `None` for a refreshed token, which needs none.
    pub nonce: Option<&'a Secret>,
    /// The access token that came with it.
    pub access: &'a Secret,
}

impl IdTokens {
    /// Of `issuer`, whose keys are at `jwks_url`. `algorithms` are those that the issuer says it uses, where it says so.
    ///
    /// # Errors
    /// The URL is not one that keys may come from.
    pub fn new(
        issuer: &str,
        client_id: &str,
        jwks_url: url::Url,
        algorithms: &[Algorithm],
        clock: Clock,
        back_office: &reqwest::Client,
    ) -> Result<Self, SettingsError> {
        let known = ALGORITHMS.into_iter();
        let algorithms = known.filter(|known| algorithms.is_empty() || algorithms.contains(known)).collect();
        let settings = settings::Issuer {
            issuer: issuer.to_owned(),
            audience: vec![client_id.to_owned()],
            keys: KeySource::JwksUrl(jwks_url),
            algorithms,
            claims: ClaimNames { tenant: None, models: None, scope: None },
            leeway: LEEWAY,
        };
        let issuer = Issuer::open(&settings, &clock, back_office)?;
        Ok(Self { issuer, client_id: client_id.to_owned(), clock })
    }

    /// What the token says, if it is one that was asked for; `sub` is a string in it.
    ///
    /// # Errors
    /// 401 where it is not; 503 where the issuer's keys could not be had.
    pub async fn claims(&self, token: &Secret, sought: Sought<'_>) -> Result<serde_json::Value, Fault> {
        let token = Unverified::parse(token.expose())?;
        let mut set = self.issuer.keys.fresh().await?;
        for _ in 0..TRIES {
            if !matches!(set.find(token.algorithm, token.kid.as_deref()), Found::None) {
                break;
            }
            // Signed with a key of this very moment: issuers replace them at any time.
            set = self.issuer.keys.seek_soon().await;
        }
        self.issuer.verify(&token, &set, self.clock.wall_seconds())?;
        let subject = token.claims.text("sub")?.unwrap_or_default();
        let is_good = (1..=MAX_SUBJECT).contains(&subject.len()) && subject.is_ascii();
        if !is_good || subject.contains(char::is_control) {
            return Err(Refusal::Malformed("a sub that is none").into());
        }
        self.is_ours(&token.claims)?;
        if let Some(nonce) = sought.nonce {
            let said = token.claims.text("nonce")?.map(Secret::new);
            if said.as_ref() != Some(nonce) {
                return Err(Refusal::Invalid("another nonce").into());
            }
        }
        if token.claims.time("iat")?.is_none() {
            return Err(Refusal::Malformed("no iat").into());
        }
        match token.claims.text("at_hash")? {
            Some(said) if said != at_hash(token.algorithm, sought.access) => {
                Err(Refusal::Invalid("another access token").into())
            }
            _ => Ok(token.claims.all()?),
        }
    }

    /// For several audiences only where it says that it was made for us; and never made for somebody else.
    fn is_ours(&self, claims: &Claims) -> Result<(), Refusal> {
        let is_for_several = claims.list("aud")?.is_some_and(|audience| audience.len() > 1);
        match claims.text("azp")? {
            Some(party) if party != self.client_id => Err(Refusal::Invalid("made for another client")),
            None if is_for_several => {
                Err(Refusal::Invalid("for several audiences, and it does not say for whom"))
            }
            _ => Ok(()),
        }
    }
}

/// The left half of the hash of the access token, by the hash of the signature's algorithm.
fn at_hash(algorithm: Algorithm, access: &Secret) -> String {
    let bytes = access.expose().as_bytes();
    let hash = match algorithm {
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => Sha384::digest(bytes).to_vec(),
        Algorithm::RS512 | Algorithm::PS512 | Algorithm::EdDSA => Sha512::digest(bytes).to_vec(),
        _ => Sha256::digest(bytes).to_vec(),
    };
    URL_SAFE_NO_PAD.encode(hash.get(..hash.len() / 2).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_an_access_token_is_the_standards() {
        // OpenID Connect Core, A.3: the token and its hash.
        let access = Secret::new("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y");
        assert_eq!(at_hash(Algorithm::RS256, &access), "77QmUPtjPfzWtF2AnpK9RQ");
    }
}
