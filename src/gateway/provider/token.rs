//! Codes and refresh tokens for new tokens, and the end of tokens. A grant is what a traded code becomes: one person, one app,
//! one chain of refresh tokens. Each refresh token has two halves: one that all of the chain share, and one of its own. So a
//! token that was used before is known for what it is, however old, although nothing of it is kept: whoever shows it has stolen
//! it, or has been stolen from, and the chain ends (RFC 9700, 4.14.2).

use serde_json::{Value, json};

use super::app::App;
use super::kept::{CODES, CONSENTS, Code, Consent, GRANTS, Grant, consent_id, drop_grant};
use super::request::Params;
use super::scope::{GrantScope, GrantScopes};
use super::visitors::Who;
use super::{OAuthCode, Provider, ProviderError, TRIES, refuse};
use crate::identity::{Claims, Seen};
use crate::ids::random_name;
use crate::opaque;
use crate::secret::Secret;
use crate::store::{Act, Expect, MAX_PAGE, StoreError, Write};

/// Most grants of one person to one app. Whoever signs in once more ends the one that was not used for the longest: a page in a
/// browser, which keeps no token, makes one each time that it is opened.
const MAX_EACH: usize = 50;

/// How every refresh token begins.
const PREFIX: &str = "weir-rt-";

/// What a client is told of a code or a refresh token that is not good, whatever the reason.
const NOT_GOOD: &str =
    "It is unknown, used, expired, revoked, or was given to another client or for another redirect URI.";

/// A refresh token taken apart.
struct Refresh {
    grant: String,
    family: Secret,
    turn: Secret,
}

impl Refresh {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(PREFIX)?.split('~');
        let (grant, family, turn) = (parts.next()?, parts.next()?, parts.next()?);
        let is_whole = parts.next().is_none() && [family, turn].iter().all(|part| part.len() == 43);
        is_whole.then(|| Self {
            grant: grant.to_owned(),
            family: Secret::new(family),
            turn: Secret::new(turn),
        })
    }

    fn text(&self) -> Secret {
        Secret::new(format!("{PREFIX}{}~{}~{}", self.grant, self.family.expose(), self.turn.expose()))
    }
}

/// What makes a grant this one and no other.
struct Seed {
    name: String,
    family: Secret,
    turn: Secret,
}

impl Seed {
    fn random() -> Self {
        Self { name: random_name("", 22), family: opaque::random(), turn: opaque::random() }
    }
}

/// A grant that is to be written, with what then is true.
struct First {
    /// Its id.
    grant: String,
    issued: Issued,
    act: Act,
    /// Grants that make room for it.
    ended: Vec<String>,
    writes: Vec<Write>,
}

/// What a client gets.
#[derive(Clone, Debug)]
pub struct Issued {
    pub access_token: Secret,
    pub refresh_token: Secret,
    pub expires_in: u64,
    pub scope: GrantScopes,
}

/// What an introspection tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Looked {
    Active(Value),
    Inactive,
}

impl Provider {
    /// Trades a code, or a refresh token, as the request's parameters say.
    ///
    /// # Errors
    /// A refusal in OAuth's words, or the store's.
    pub async fn trade(&self, app: &App, params: &Params) -> Result<Issued, ProviderError> {
        let one = |name| params.one(name).ok().flatten();
        let missing = |what| ProviderError::OAuth(OAuthCode::InvalidRequest, what);
        match one("grant_type") {
            Some("authorization_code") => {
                let code = one("code").ok_or_else(|| missing("code is missing."))?;
                let redirect_uri = one("redirect_uri").ok_or_else(|| missing("redirect_uri is missing."))?;
                self.exchange(app, code, redirect_uri, one("code_verifier")).await
            }
            Some("refresh_token") => {
                let token = one("refresh_token").ok_or_else(|| missing("refresh_token is missing."))?;
                let scope = match one("scope") {
                    None => None,
                    Some(text) => match GrantScopes::parse(text) {
                        None => {
                            return refuse(
                                OAuthCode::InvalidScope,
                                "The scopes are profile, balance and chat.",
                            );
                        }
                        some => some,
                    },
                };
                self.refresh(app, token, scope).await
            }
            Some(_) => refuse(
                OAuthCode::UnsupportedGrantType,
                "The grants are authorization_code and refresh_token.",
            ),
            None => Err(missing("grant_type is missing.")),
        }
    }

    async fn exchange(
        &self,
        app: &App,
        code: &str,
        redirect_uri: &str,
        verifier: Option<&str>,
    ) -> Result<Issued, ProviderError> {
        let client_id = &app.record.client_id;
        let id = opaque::hash(code);
        // The same in every try: an answer of the store may be lost, and whoever looks again knows their own.
        let seed = Seed::random();
        let mut made: Option<First> = None;
        // Whoever is overtaken finds it used.
        for _ in 0..TRIES {
            let Some(row) = self.records.get(CODES, &id).await? else { break };
            let kept: Code = row.read()?;
            if kept.client_id != *client_id {
                break;
            }
            if let (Some(grant), Some(made)) = (&kept.grant, &made)
                && *grant == made.grant
            {
                return Ok(made.issued.clone());
            }
            if let Some(grant) = &kept.grant {
                self.end(grant, "weir", "grant.code_replayed").await?;
                break;
            }
            if self.now() >= kept.expires {
                break;
            }
            if kept.redirect_uri != redirect_uri || !proves(kept.challenge.as_deref(), verifier) {
                // Whoever has the code and not the rest gets one try.
                let delete = Write::Delete { table: CODES, id, expect: Expect::Anything };
                let note = "with another redirect URI or PKCE verifier".to_owned();
                self.note(Act::new("weir", "app.code_refused", client_id, note), vec![delete]).await?;
                break;
            }
            let first = self.first(&seed, kept, id.clone(), row.version).await?;
            let First { act, ended, writes, .. } = &first;
            match self.keeper.revoke(act.clone(), ended, writes.clone()).await {
                Err(StoreError::Conflict | StoreError::Unreachable(_)) => made = Some(first),
                other => return Ok(other.map(|()| first.issued)?),
            }
        }
        refuse(OAuthCode::InvalidGrant, NOT_GOOD)
    }

    /// A new grant and its first tokens, nothing of it written yet.
    async fn first(&self, seed: &Seed, code: Code, id: String, version: u64) -> Result<First, ProviderError> {
        let who = Who { tenant: code.tenant.as_str().into(), subject: code.subject.as_str().into() };
        let consent = self.consent(&who, &code.client_id).await?;
        let Some((consent, seen)) = consent.filter(|(consent, _)| consent.scope.cover(code.scope)) else {
            return refuse(OAuthCode::InvalidGrant, NOT_GOOD);
        };
        let grant_id = format!("{}.{}", who.key(), seed.name);
        let refresh =
            Refresh { grant: grant_id.clone(), family: seed.family.clone(), turn: seed.turn.clone() };
        let now = self.now();
        let grant = Grant {
            client_id: code.client_id.clone(),
            tenant: code.tenant.clone(),
            subject: code.subject.clone(),
            scope: code.scope,
            created: now,
            used: now,
            expires: now + self.settings().refresh_ttl.as_secs(),
            family: opaque::hash(refresh.family.expose()),
            turn: opaque::hash(refresh.turn.expose()),
        };
        let issued = self.mint(&grant, &refresh, grant.scope).await?;
        let used = Code { grant: Some(grant_id.clone()), ..code };
        let now_used = Consent { updated: now, ..consent };
        let of_consent = consent_id(&who, &used.client_id);
        let ended = self.too_many(&who, &used.client_id).await?;
        let mut writes = vec![
            // Written again as it was: of a person who takes it back and an app that trades its code, one is the first.
            Write::put(CONSENTS, of_consent, &now_used, Expect::Version(seen))?,
            Write::put(CODES, id, &used, Expect::Version(version))?,
            Write::put(GRANTS, grant_id.as_str(), &grant, Expect::Absent)?,
        ];
        writes.extend(ended.iter().map(|id| drop_grant(id)));
        let note = format!("{} for {}", grant.scope, grant.client_id);
        let act = Act::new(&who.shown(), "grant.created", &grant_id, note);
        Ok(First { grant: grant_id, issued, act, ended, writes })
    }

    /// The grants of a person to an app that have to end before there is one more.
    async fn too_many(&self, who: &Who, client_id: &str) -> Result<Vec<String>, StoreError> {
        let mut grants = self.grants(who).await?;
        grants.retain(|(_, grant)| grant.client_id == client_id);
        grants.sort_by_key(|(_, grant)| grant.used);
        let over = (grants.len() + 1).saturating_sub(MAX_EACH).min(MAX_PAGE / 4);
        Ok(grants.into_iter().take(over).map(|(id, _)| id).collect())
    }

    async fn refresh(
        &self,
        app: &App,
        token: &str,
        scope: Option<GrantScopes>,
    ) -> Result<Issued, ProviderError> {
        let Some(shown) = Refresh::read(token) else { return refuse(OAuthCode::InvalidGrant, NOT_GOOD) };
        // The same in every try: an answer of the store may be lost, and whoever looks again knows their own.
        let next =
            Refresh { turn: opaque::random(), family: shown.family.clone(), grant: shown.grant.clone() };
        let mut made: Option<Issued> = None;
        // Whoever is overtaken finds its token used.
        for _ in 0..TRIES {
            let Some((grant, version)) = self.family(&shown).await? else { break };
            // Another client's: whoever sends it holds what is not theirs, but it is not they who decide over it.
            if grant.client_id != app.record.client_id || self.now() >= grant.expires {
                break;
            }
            if let Some(made) = made.take_if(|_| opaque::fits(next.turn.expose(), &grant.turn)) {
                return Ok(made);
            }
            if !opaque::fits(shown.turn.expose(), &grant.turn) {
                self.end(&shown.grant, "weir", "grant.refresh_replayed").await?;
                break;
            }
            let scope = scope.unwrap_or(grant.scope);
            if !grant.scope.cover(scope) {
                return refuse(OAuthCode::InvalidScope, "That is more than was granted.");
            }
            let now = self.now();
            let after = Grant {
                used: now,
                expires: now + self.settings().refresh_ttl.as_secs(),
                turn: opaque::hash(next.turn.expose()),
                ..grant
            };
            let issued = self.mint(&after, &next, scope).await?;
            let put = Write::put(GRANTS, shown.grant.as_str(), &after, Expect::Version(version))?;
            match self.records.commit(vec![put]).await {
                Err(StoreError::Conflict | StoreError::Unreachable(_)) => made = Some(issued),
                other => return Ok(other.map(|_| issued)?),
            }
        }
        refuse(OAuthCode::InvalidGrant, NOT_GOOD)
    }

    /// The grant whose chain a refresh token is of, and its row's version.
    async fn family(&self, shown: &Refresh) -> Result<Option<(Grant, u64)>, ProviderError> {
        let Some(row) = self.records.get(GRANTS, &shown.grant).await? else { return Ok(None) };
        let grant: Grant = row.read()?;
        Ok(opaque::fits(shown.family.expose(), &grant.family).then_some((grant, row.version)))
    }

    /// New tokens of a grant, for as much of it as `scope`.
    async fn mint(
        &self,
        grant: &Grant,
        refresh: &Refresh,
        scope: GrantScopes,
    ) -> Result<Issued, ProviderError> {
        let who = grant.who();
        let Some(person) = self.visitors.person(&who).await? else {
            return refuse(OAuthCode::InvalidGrant, NOT_GOOD);
        };
        if scope.has(GrantScope::Chat) && !person.may_chat {
            return refuse(OAuthCode::InvalidGrant, "The person may not ask models any more.");
        }
        let lifetime = self.settings().access_ttl;
        let scope_text = scope.to_string();
        let claims = Claims {
            subject: &who.subject,
            tenant: &who.tenant,
            client_id: &grant.client_id,
            session: &refresh.grant,
            scope: &scope_text,
            models: person.models.as_deref(),
        };
        let access_token = self.keeper.own().mint(&claims, lifetime)?.token;
        Ok(Issued { access_token, refresh_token: refresh.text(), expires_in: lifetime.as_secs(), scope })
    }

    /// Ends a grant: its refresh token, and every access token of it, everywhere.
    pub(super) async fn end(&self, grant: &str, who: &str, what: &str) -> Result<(), StoreError> {
        let delete = Write::Delete { table: GRANTS, id: grant.to_owned(), expect: Expect::Anything };
        if what.ends_with("_replayed") {
            tracing::warn!(grant, what, "somebody used a code or a refresh token twice: the grant is ended");
        }
        self.keeper.revoke(Act::new(who, what, grant, ""), &[grant.to_owned()], vec![delete]).await
    }

    /// Ends the grant that a token is of, whichever kind of token it is (RFC 7009). A token that is none is no error.
    ///
    /// # Errors
    /// `unauthorized_client` for another client's; the store's.
    pub async fn revoke(&self, app: &App, token: &str) -> Result<(), ProviderError> {
        let client_id = &app.record.client_id;
        let (grant, owner) = match Refresh::read(token) {
            Some(refresh) => match self.family(&refresh).await? {
                Some((grant, _)) => (refresh.grant, grant.client_id),
                None => return Ok(()),
            },
            None => match self.keeper.own().look_at(token).filter(|seen| seen.ties.is_app()) {
                Some(Seen { ties, .. }) => (ties.session.to_string(), ties.client_id.to_string()),
                None => return Ok(()),
            },
        };
        if owner != *client_id {
            return refuse(OAuthCode::UnauthorizedClient, "The token was given to another client.");
        }
        Ok(self.end(&grant, client_id, "grant.revoked_by_app").await?)
    }

    /// What a token is (RFC 7662), for the client that it was given to; of others' tokens nothing is told.
    ///
    /// # Errors
    /// The store's.
    pub async fn introspect(&self, app: &App, token: &str) -> Result<Looked, ProviderError> {
        let client_id = &app.record.client_id;
        if let Some(refresh) = Refresh::read(token) {
            let found = self.family(&refresh).await?.filter(|(grant, _)| {
                grant.client_id == *client_id
                    && self.now() < grant.expires
                    && opaque::fits(refresh.turn.expose(), &grant.turn)
            });
            return Ok(found.map_or(Looked::Inactive, |(grant, _)| {
                Looked::Active(json!({
                    "active": true, "scope": grant.scope, "client_id": grant.client_id, "sub": grant.subject,
                    "iss": self.issuer(), "exp": grant.expires, "iat": grant.used, "token_type": "refresh_token",
                }))
            }));
        }
        let seen = self.keeper.own().look_at(token).filter(|seen| *seen.ties.client_id == **client_id);
        let Some(seen) = seen else { return Ok(Looked::Inactive) };
        // The store's word, not the memory's: another replica may have ended it just now.
        if self.records.get(GRANTS, &seen.ties.session).await?.is_none() {
            return Ok(Looked::Inactive);
        }
        Ok(Looked::Active(json!({
            "active": true, "scope": &*seen.ties.scope, "client_id": &*seen.ties.client_id, "sub": seen.subject,
            "iss": self.issuer(), "aud": self.issuer(), "exp": seen.expires, "iat": seen.ties.issued,
            "jti": &*seen.ties.token_id, "token_type": "Bearer",
        })))
    }
}

/// Whether the verifier is that of the challenge. One without the other is a downgrade or a mistake (RFC 9700, 4.8.2).
fn proves(challenge: Option<&str>, verifier: Option<&str>) -> bool {
    match (challenge, verifier) {
        (None, None) => true,
        (Some(challenge), Some(verifier)) => {
            opaque::is_verifier(verifier)
                && Secret::new(opaque::challenge(verifier)) == Secret::new(challenge)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn a_refresh_token_is_read_as_it_was_written_and_nothing_else_is() {
        let token = Refresh { grant: "g.1".into(), family: opaque::random(), turn: opaque::random() };
        let text = token.text();
        let back = Refresh::read(text.expose()).expect("one");
        assert_eq!((back.grant.as_str(), &back.family, &back.turn), ("g.1", &token.family, &token.turn));
        let bits = |half: &Secret| URL_SAFE_NO_PAD.decode(half.expose()).expect("base64").len() * 8;
        assert_eq!((bits(&back.family), bits(&back.turn)), (256, 256));
        let text = text.expose();
        for bad in ["", PREFIX, &text[1..], &text[..text.len() - 1], &format!("{text}~"), &format!("{text}a")]
        {
            assert!(Refresh::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn one_of_challenge_and_verifier_is_not_enough() {
        let verifier = opaque::random();
        let challenge = opaque::challenge(verifier.expose());
        assert!(proves(Some(&challenge), Some(verifier.expose())) && proves(None, None));
        assert!(!proves(Some(&challenge), None) && !proves(None, Some(verifier.expose())));
        assert!(!proves(Some(&challenge), Some(opaque::random().expose())));
        assert!(!proves(Some(&challenge), Some(&challenge)), "plain");
    }
}
