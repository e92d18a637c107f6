//! Accounts as they are shown: those of the file and those of the store in one list, each with how it stands in this process.

use std::collections::{BTreeMap, HashMap};

use super::{AccountRecord, Onboard};
use crate::gateway::reach::Reach;
use crate::ids::AccountId;
use crate::pool::AccountState;
use crate::pool::settings::{Account, LastUsed};

/// One account, for whoever may see it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub record: AccountRecord,
    /// Whether it stands in the configuration's file, where alone it can be changed.
    pub is_of_file: bool,
    /// How it stands in this process; `None`: the pool has no place for it.
    pub state: Option<AccountState>,
    /// Seconds since 1970; `None`: never.
    pub last_used: Option<u64>,
    /// Whether its owner is kept out: then it rests, whatever else is said of it.
    pub is_resting: bool,
}

impl Listed {
    fn is_leaving(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.is_leaving)
    }
}

impl Onboard {
    /// The account of that id, if it is within `reach`.
    pub fn one(&self, reach: &Reach, id: &str) -> Option<Listed> {
        self.list(reach).into_iter().find(|listed| listed.record.id == id && !listed.is_leaving())
    }

    /// All accounts within `reach`, by id.
    pub fn list(&self, reach: &Reach) -> Vec<Listed> {
        let (leaving, staying): (Vec<_>, Vec<_>) =
            self.gateway.pool.states().into_iter().partition(|state| state.is_leaving);
        let mut states: HashMap<AccountId, AccountState> =
            staying.into_iter().map(|state| (state.id.clone(), state)).collect();
        let state = self.state.lock();
        let of_file = state.ground.accounts.iter().filter(|account| reach.has(account.owner.as_ref(), None));
        let of_store = state.held.values().filter(|held| held.is_within(reach));
        let mut all: BTreeMap<String, (AccountRecord, bool)> = BTreeMap::new();
        all.extend(
            of_store.map(|held| (held.record.id.clone(), (AccountRecord::clone(&held.record), false))),
        );
        // Where both have an id the file's counts.
        all.extend(of_file.map(|account| (account.id.as_str().to_owned(), (record_of(account), true))));
        let listed = all.into_values().map(|(record, is_of_file)| {
            let id = AccountId::from(record.id.as_str());
            let last_used = state.uses.get(&id).and_then(LastUsed::get);
            let is_resting = state.resting.has(record.owner.as_ref());
            Listed { record, is_of_file, state: states.remove(&id), last_used, is_resting }
        });
        // What is gone, and still has requests under way, is the operators' matter.
        let gone = leaving.into_iter().filter(|_| *reach == Reach::Everything).map(|state| Listed {
            record: record_of_state(&state),
            is_of_file: false,
            last_used: None,
            is_resting: false,
            state: Some(state),
        });
        let mut all: Vec<Listed> = listed.chain(gone).collect();
        all.sort_by(|one, other| one.record.id.cmp(&other.record.id));
        all
    }
}

/// As much as is known of an account that is gone.
fn record_of_state(state: &AccountState) -> AccountRecord {
    AccountRecord {
        id: state.id.as_str().to_owned(),
        platform: state.platform.clone(),
        name: String::new(),
        owner: state.owner.clone(),
        added_by: None,
        tenants: Vec::new(),
        models: Vec::new(),
        limits: Default::default(),
        model_limits: Default::default(),
        weight: 1,
        priority: 0,
        enabled: state.is_enabled,
        base_url: None,
        created: 0,
        updated: 0,
        consent: None,
    }
}

/// An account of the file, as one of the store would look.
fn record_of(account: &Account) -> AccountRecord {
    AccountRecord {
        id: account.id.as_str().to_owned(),
        platform: account.platform.name.clone(),
        name: account.id.as_str().to_owned(),
        owner: account.owner.clone(),
        added_by: None,
        tenants: account.tenants.clone(),
        models: account.models.clone(),
        limits: account.limits,
        model_limits: account
            .model_limits
            .iter()
            .map(|(model, limits)| (model.to_string(), *limits))
            .collect(),
        weight: account.weight,
        priority: account.priority,
        enabled: account.is_enabled,
        base_url: None,
        created: 0,
        updated: 0,
        consent: None,
    }
}
