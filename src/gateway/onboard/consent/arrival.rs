//! Somebody has agreed: the code is traded and the account added. None of it can be had a second time, so whatever goes wrong after the
//! provider's answer ends in an account or in tokens that are given back, and in nothing between the two.

use std::time::Duration;

use super::{Back, ConsentError, Consents, Landed, Login, consent_of};
use crate::gateway::onboard::kit::{Kit, Tokens};
use crate::gateway::onboard::{AccountRecord, NewAccount, OnboardError, TRIES};
use crate::oauth::{Client, Found, Grant, OAuthError, PendingError, Person, Provider};
use crate::secret::Secret;
use crate::store::StoreError;

/// Before the second and the third question who somebody is.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];

/// For all of them: a device's question must be over before another process asks it.
const PATIENCE: Duration = Duration::from_secs(8);

/// How often others may be quicker to change an account: more often than for changes that can be asked for again.
const CHANGES: usize = 100;

/// Between two tries of a store that does not answer.
const AGAIN: Duration = Duration::from_millis(500);

impl Consents {
    /// Takes the sign-in, and does with what came back what is to be done.
    pub(super) async fn arrive(
        &self,
        found: Found<Login>,
        back: Back,
        provider: Provider,
        client: Client,
    ) -> Result<Landed, ConsentError> {
        if !self.pending.take(&found).await.map_err(PendingError::from)? {
            return Err(ConsentError::NotPending);
        }
        let login = found.what;
        if let Some(error) = &back.error {
            let said = back.error_description.as_deref().unwrap_or_default();
            return Err(ConsentError::Denied(crate::gateway::chat::printable(&format!("{error} {said}"))));
        }
        let Some(code) = &back.code else {
            return Err(ConsentError::Denied("it sent nothing back".to_owned()));
        };
        if !provider.exchange {
            return Ok(Landed { record: None, redirect_after: login.redirect_after });
        }
        let verifier = login.verifier.as_deref().map(Secret::new);
        let grant =
            self.engine.exchange(&provider, &client, &login.redirect_uri, code, verifier.as_ref()).await;
        let grant = grant.map_err(ConsentError::Provider)?;
        let record = self.take_in(&provider, &client, &login, &grant).await?;
        Ok(Landed { record: Some(record), redirect_after: login.redirect_after })
    }

    /// Makes an account of what was granted, or gives it back.
    pub(super) async fn take_in(
        &self,
        provider: &Provider,
        client: &Client,
        login: &Login,
        grant: &Grant,
    ) -> Result<AccountRecord, ConsentError> {
        let person = self.person_of(provider, client, grant).await;
        let added = match (check_scopes(provider, grant), &person) {
            (Err(error), _) => Err(error),
            (_, Err(error)) => Err(ConsentError::Provider(error.clone())),
            (Ok(()), Ok(person)) => {
                self.add(provider, login, grant, person.as_ref()).await.map_err(ConsentError::from)
            }
        };
        // Of a store that does not answer nobody knows whether it has written: then the account may live on these tokens.
        let is_unclear = matches!(
            added,
            Err(ConsentError::Onboard(OnboardError::Store(
                StoreError::Unreachable(_) | StoreError::Released
            )))
        );
        if added.is_err() && !is_unclear {
            self.hand_back(provider, client, grant, person.as_ref().ok().map(Option::as_ref)).await;
        }
        added
    }

    /// Who agreed, where the provider tells; asked again where it is in trouble.
    async fn person_of(
        &self,
        provider: &Provider,
        client: &Client,
        grant: &Grant,
    ) -> Result<Option<Person>, OAuthError> {
        if provider.userinfo_url.is_none() {
            return Ok(None);
        }
        let mut pauses = PAUSES.into_iter();
        let asked = async {
            loop {
                match self.engine.who(provider, client, grant, None).await {
                    Err(error) if error.is_transient() => match pauses.next() {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => return Err(error),
                    },
                    other => return other.map(Some),
                }
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
            let why = "it did not say in time who agreed".to_owned();
            Err(OAuthError::Unavailable { why, after: None })
        })
    }

    /// Adds the account that a consent is for; or, where this person's account of that name is there already, renews it: a new
    /// consent stands above whatever was.
    async fn add(
        &self,
        provider: &Provider,
        login: &Login,
        grant: &Grant,
        person: Option<&Person>,
    ) -> Result<AccountRecord, OnboardError> {
        let (beginner, who) = (&login.beginner, &login.beginner.who);
        let consent = consent_of(provider, grant, person, self.onboard.gateway.clock.wall_seconds());
        let kit = Kit::of_consent(Tokens::of(grant), login.api_key.as_deref().map(Secret::new));
        let new = NewAccount {
            platform: login.platform.clone(),
            account_name: login.account_name.clone(),
            owner: beginner.tenant.clone(),
            added_by: beginner.by.clone(),
            models: provider.account.as_ref().map_or_else(Vec::new, |row| row.models.clone()),
            ..NewAccount::default()
        };
        let (mut changed, mut away) = (0..CHANGES, 0..TRIES);
        loop {
            let known =
                self.onboard.of_person(beginner, &login.platform, &login.account_name, &consent, &kit).await;
            let added = match known {
                Ok(Some(held)) => self.onboard.reconsent(who, &held, consent.clone(), &kit).await,
                Ok(None) => self.onboard.add_with(who, new.clone(), consent.clone(), &kit).await,
                Err(error) => Err(error),
            };
            match added {
                // Changed or removed meanwhile: to be read again.
                Err(OnboardError::Store(StoreError::Conflict)) if changed.next().is_some() => {}
                // If it has been written all the same, it is found by its token.
                Err(OnboardError::Store(StoreError::Unreachable(why))) if away.next().is_some() => {
                    tracing::warn!(%why, "an account waits for the store");
                    tokio::time::sleep(AGAIN).await;
                }
                other => return other,
            }
        }
    }

    /// Has tokens forgotten of which no account came. `person`: who agreed, if that is known; `Some(None)`: nobody can know.
    async fn hand_back(
        &self,
        provider: &Provider,
        client: &Client,
        grant: &Grant,
        person: Option<Option<&Person>>,
    ) {
        drop(self.onboard.refresh().await);
        let is_shared = match person {
            Some(person) => {
                let subject = person.map(|person| person.subject.as_str());
                self.onboard.shares_consent("", &provider.name, subject)
            }
            // It may be anybody's: rather a token too many than an account too few.
            None => self.onboard.has_account_of(&provider.name),
        };
        if is_shared {
            return;
        }
        self.forget(provider, client, &Tokens::of(grant)).await;
    }
}

/// A consent may be to less than was asked for.
fn check_scopes(provider: &Provider, grant: &Grant) -> Result<(), ConsentError> {
    let needs = provider.account.as_ref().map_or(&[][..], |account| account.needs.as_slice());
    // A provider that does not say granted what was asked for (RFC 6749, 5.1).
    if needs.is_empty() || grant.scopes.is_empty() || needs.iter().any(|need| grant.scopes.contains(need)) {
        return Ok(());
    }
    Err(ConsentError::Denied(format!("the consent does not hold {}", needs.join(" or "))))
}
