//! Apps whose owner is kept out: none of their tokens is taken and none is given for as long as that lasts, and everything that they were
//! granted is there afterwards. Why not their end: an operator who keeps somebody out may have been wrong, and everybody who had
//! let the app in would be asked again.

use std::collections::HashSet;

use super::app::{App, AppRecord, TABLE};
use super::{OAuthCode, Provider, ProviderError, refuse};
use crate::gateway::kept_out;
use crate::gateway::reach::Adder;
use crate::store::{self, StoreError};

/// Generations of both tables, as last read.
pub(super) type Known = Option<(u64, u64)>;

impl Provider {
    /// Takes over which apps' owners are kept out. Cheap where nothing has changed.
    ///
    /// # Errors
    /// The store's; what is known stays then.
    pub async fn heed_owners(&self) -> Result<(), StoreError> {
        let records = &*self.records;
        let mut known = self.owners.lock().await;
        let now = (records.generation(kept_out::TABLE).await?, records.generation(TABLE).await?);
        if *known == Some(now) {
            return Ok(());
        }
        let out = kept_out::all(records).await?;
        let (tenants, people) = (kept_out::tenants(&out), out.iter().map(|(id, _)| id.as_str()));
        let people: HashSet<&str> = people.collect();
        let rows = if out.is_empty() { Vec::new() } else { store::all(records, TABLE).await? };
        // One that cannot be read proves nothing to us, and is nobody's.
        let apps = rows.iter().filter_map(|row| App::read(row).ok()).map(|app| app.record);
        let is_theirs = |app: &AppRecord| {
            let person = app.added_by.as_ref().and_then(Adder::person);
            // Whoever registered it knows its secret, whosever tenant it is.
            tenants.contains(&app.owner) || person.is_some_and(|person| people.contains(person))
        };
        let theirs = apps.filter(is_theirs).map(|app| app.client_id);
        self.keeper.own().put_suspended(theirs.collect::<HashSet<String>>());
        *known = Some(now);
        Ok(())
    }

    /// Whether the app is out of use because its owner is kept out.
    pub(super) fn is_suspended(&self, app: &App) -> bool {
        self.keeper.own().is_suspended(&app.record.client_id)
    }

    /// The app, if it is in use.
    pub(super) fn in_use(&self, app: App) -> Result<App, ProviderError> {
        if self.is_suspended(&app) {
            return refuse(OAuthCode::UnauthorizedClient, "This app is out of use for now.");
        }
        Ok(app)
    }
}
