//! What a person granted, for that person to look at and to take back.

use serde::Serialize;

use super::kept::{CONSENTS, Consent, GRANTS, Grant, consent_id, drop_grant};
use super::scope::{GrantScope, GrantScopes};
use super::visitors::Who;
use super::{Provider, ProviderError, TRIES};
use crate::store::{Act, Expect, MAX_PAGE, Name, Row, StoreError, Write};

/// Most grants that end in one change: others wait for as long as it takes.
const MAX_ENDED: usize = 200;

/// An app that a person let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GrantedApp {
    pub client_id: String,
    pub name: String,
    pub description: String,
    pub scope: GrantScopes,
    /// When they first agreed; seconds since 1970.
    pub granted_at: u64,
    /// When it last got a new token; seconds since 1970.
    pub last_used_at: Option<u64>,
    /// Whether it holds a refresh token now.
    pub is_active: bool,
}

impl Provider {
    /// The apps that `who` let in, in the order of their ids.
    ///
    /// # Errors
    /// The store's.
    pub async fn granted(&self, who: &Who) -> Result<Vec<GrantedApp>, ProviderError> {
        let grants = self.grants(who).await?;
        let now = self.now();
        let mut found = Vec::new();
        for row in self.rows_of(CONSENTS, who).await? {
            let consent: Consent = row.read()?;
            let Some(app) = self.app(&consent.client_id).await? else { continue };
            let mine =
                || grants.iter().map(|(_, grant)| grant).filter(|grant| grant.client_id == consent.client_id);
            found.push(GrantedApp {
                last_used_at: mine().map(|grant| grant.used).max(),
                is_active: mine().any(|grant| now < grant.expires),
                client_id: app.record.client_id,
                name: app.record.name,
                description: app.record.description,
                scope: consent.scope,
                granted_at: consent.created,
            });
        }
        Ok(found)
    }

    /// Takes back what `who` granted to an app: all of its tokens are dead, and it has to ask again.
    ///
    /// # Errors
    /// They granted it nothing, or the store's.
    pub async fn take_back(&self, who: &Who, client_id: &str) -> Result<(), ProviderError> {
        for _ in 0..TRIES {
            // Read before the grants: whatever is granted in between changes it.
            let Some((_, version)) = self.consent(who, client_id).await? else {
                return Err(ProviderError::NotFound);
            };
            let mut grants = self.grants(who).await?;
            grants.retain(|(_, grant)| grant.client_id == client_id);
            let id = consent_id(who, client_id);
            let consent = Write::Delete { table: CONSENTS, id, expect: Expect::Version(version) };
            match self.drop_grants(who, "grant.taken_back", client_id, &grants, vec![consent]).await {
                Err(StoreError::Conflict) => {}
                other => return Ok(other?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Ends every grant of `who` by which models are asked: what its tokens say of them does not hold any more. What they agreed to
    /// stays, and their apps ask anew.
    ///
    /// # Errors
    /// The store's.
    pub async fn end_chats(&self, who: &Who) -> Result<(), ProviderError> {
        for _ in 0..TRIES {
            // Written again as they are: of an app that trades its code and this, one is the first.
            let consents = self.rows_of(CONSENTS, who).await?.into_iter().map(|row| Write::Put {
                table: CONSENTS,
                id: row.id,
                value: row.value,
                expect: Expect::Version(row.version),
            });
            let consents: Vec<Write> = consents.collect();
            let mut grants = self.grants(who).await?;
            grants.retain(|(_, grant)| grant.scope.has(GrantScope::Chat));
            let done = match (grants.is_empty(), consents.is_empty()) {
                (true, true) => Ok(()),
                (true, false) => self.records.commit(consents).await.map(drop),
                (false, _) => {
                    self.drop_grants(who, "grant.chats_ended", &who.shown(), &grants, consents).await
                }
            };
            match done {
                Err(StoreError::Conflict) => {}
                other => return Ok(other?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Takes back everything that `who` granted to anybody: for a person who is gone.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_person(&self, who: &Who) -> Result<(), ProviderError> {
        for _ in 0..TRIES {
            let consents = self.rows_of(CONSENTS, who).await?;
            let grants = self.grants(who).await?;
            if consents.is_empty() && grants.is_empty() {
                return Ok(());
            }
            let deletes = consents.into_iter().map(|row| Write::Delete {
                table: CONSENTS,
                id: row.id,
                expect: Expect::Version(row.version),
            });
            let deletes = deletes.collect();
            match self.drop_grants(who, "grant.all_taken_back", &who.shown(), &grants, deletes).await {
                Err(StoreError::Conflict) => {}
                other => return Ok(other?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Ends these grants, and makes `changes` together with the last of them: should this stop half-way, the consent is still there
    /// to be taken back once more.
    async fn drop_grants(
        &self,
        who: &Who,
        what: &str,
        on: &str,
        grants: &[(String, Grant)],
        changes: Vec<Write>,
    ) -> Result<(), StoreError> {
        let mut left = grants;
        let mut changes = Some(changes);
        loop {
            let (now, later) = left.split_at(left.len().min(MAX_ENDED));
            left = later;
            let ids: Vec<String> = now.iter().map(|(id, _)| id.clone()).collect();
            let mut writes: Vec<Write> = ids.iter().map(|id| drop_grant(id)).collect();
            if left.is_empty() {
                writes.extend(changes.take().unwrap_or_default());
            }
            let act = Act::new(&who.shown(), what, on, format!("{} grants", ids.len()));
            self.keeper.revoke(act, &ids, writes).await?;
            if left.is_empty() {
                return Ok(());
            }
        }
    }

    pub(super) async fn grants(&self, who: &Who) -> Result<Vec<(String, Grant)>, StoreError> {
        let rows = self.rows_of(GRANTS, who).await?;
        rows.into_iter().map(|row| Ok((row.id.clone(), row.read()?))).collect()
    }

    /// The rows whose ids begin with the person's key.
    pub(super) async fn rows_of(&self, table: Name, who: &Who) -> Result<Vec<Row>, StoreError> {
        let prefix = format!("{}.", who.key());
        let mut found: Vec<Row> = Vec::new();
        loop {
            let after = found.last().map_or(prefix.as_str(), |row| row.id.as_str()).to_owned();
            let page = self.records.list(table, Some(&after), MAX_PAGE).await?;
            let is_full = page.len() == MAX_PAGE;
            let before = found.len();
            found.extend(page.into_iter().take_while(|row| row.id.starts_with(&prefix)));
            if !is_full || found.len() - before < MAX_PAGE {
                return Ok(found);
            }
        }
    }
}
