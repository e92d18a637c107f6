//! What a consent makes of the accounts: a new one; or, where this person's account of that name is there already, new tokens for it.

use super::super::kit::Kit;
use super::super::record::{Held, sealed_row};
use super::super::{AccountRecord, Consent, NewAccount, Onboard, OnboardError, TABLE, act};
use super::Beginner;
use crate::store::{Expect, Write};

impl Onboard {
    /// Whether `beginner` may give new tokens to an account of that name that came by consent.
    pub(super) fn has_consented(&self, beginner: &Beginner, platform: &str, name: &str) -> bool {
        let reach = beginner.reach();
        let state = self.state.lock();
        state.held.values().any(|held| {
            let record = &held.record;
            record.consent.is_some()
                && record.owner == beginner.tenant
                && held.is_within(&reach)
                && record.platform.as_str() == platform
                && record.name == name
        })
    }

    /// This person's account of that name, at that platform, in the tenant of whoever began; or the one that has these very tokens. Never
    /// one that is beyond the beginner's reach: it would change hands with its tokens.
    pub(super) async fn of_person(
        &self,
        beginner: &Beginner,
        platform: &str,
        name: &str,
        consent: &Consent,
        kit: &Kit,
    ) -> Result<Option<Held>, OnboardError> {
        self.refresh().await?;
        let (state, reach) = (self.state.lock(), beginner.reach());
        let is_it = |held: &&Held| {
            let record = &held.record;
            let same = record.consent.as_ref().is_some_and(|known| {
                let is_theirs = known.subject == consent.subject && known.subject.is_some();
                known.provider == consent.provider && (is_theirs || held.kit.has_tokens_of(kit))
            });
            same && record.owner == beginner.tenant
                && held.is_within(&reach)
                && record.platform.as_str() == platform
                && record.name == name
        };
        // Their own before those of nobody in particular.
        let known = state.held.values().filter(is_it).min_by_key(|held| held.record.added_by != beginner.by);
        Ok(known.cloned())
    }

    /// Adds an account that came by consent.
    pub(super) async fn add_with(
        &self,
        who: &str,
        new: NewAccount,
        consent: Consent,
        kit: &Kit,
    ) -> Result<AccountRecord, OnboardError> {
        let mut new = new;
        // Checked as any key of that platform: what goes out is the same kind of thing.
        if let crate::platform::auth::Credential::ApiKey(key) = kit.credential() {
            new.api_key = Some(key);
        }
        let (record, _) = self.read(new)?;
        let record = AccountRecord { consent: Some(consent), ..record };
        let value = sealed_row(&record, kit, &self.vault())?;
        let put = Write::Put { table: TABLE, id: record.id.clone(), value, expect: Expect::Absent };
        self.write(act(who, "account.consented", &record), vec![put]).await?;
        Ok(record)
    }

    /// Gives an account the tokens of a new consent.
    pub(super) async fn reconsent(
        &self,
        who: &str,
        held: &Held,
        consent: Consent,
        kit: &Kit,
    ) -> Result<AccountRecord, OnboardError> {
        let updated = self.gateway.clock.wall_seconds();
        let record = AccountRecord { consent: Some(consent), updated, ..AccountRecord::clone(&held.record) };
        let value = sealed_row(&record, kit, &self.vault())?;
        let expect = Expect::Version(held.version);
        let put = Write::Put { table: TABLE, id: record.id.clone(), value, expect };
        self.write(act(who, "account.reconsented", &record), vec![put]).await?;
        Ok(record)
    }
}
