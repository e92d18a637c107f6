//! From the store into the pool, account by account: a token that is renewed costs every replica the reading of one row and the replacing of
//! one account, however many there are.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::record::Held;
use super::{Ground, Onboard, OnboardError, State, TABLE};
use crate::gateway::World;
use crate::gateway::route::RouteTable;
use crate::ids::AccountId;
use crate::pool::settings::Account;
use crate::store::{self, Row, StoreError};

/// Rows that are asked for at once.
const AT_ONCE: usize = 16;

/// What the pool was given.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// In the order of the file.
    of_file: Vec<Arc<Account>>,
    ids_of_file: HashSet<AccountId>,
    of_store: BTreeMap<String, Arc<Account>>,
    /// What stands in the way of accounts, to be said once.
    problems: BTreeMap<String, String>,
}

/// What was read of the table.
struct Read {
    /// By id; `None`: there is no such row.
    rows: BTreeMap<String, Option<Result<Held, OnboardError>>>,
    /// Whether there are no others.
    is_all: bool,
}

impl Read {
    fn of(rows: Vec<(String, Option<Row>)>, ground: &Ground, is_all: bool) -> Self {
        let read = |row: Row| Held::read(&row, &ground.vault);
        Self { rows: rows.into_iter().map(|(id, row)| (id, row.map(read))).collect(), is_all }
    }
}

impl Onboard {
    /// Takes over what the store holds by now.
    ///
    /// # Errors
    /// The store's. A record that cannot be read is said in the log, and what was known of it stays.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        // Each for itself: what cannot be read of the one must not keep the other from being known.
        let resting = self.take_resting().await;
        self.take_accounts().await?;
        resting
    }

    async fn take_accounts(&self) -> Result<(), StoreError> {
        loop {
            let (since, ground) = {
                let state = self.state.lock();
                (state.mark.clone(), Arc::clone(&state.ground))
            };
            let news = self.records.changes(TABLE, since.as_ref()).await?;
            if since.as_ref() == Some(&news.mark) {
                return Ok(());
            }
            // Read after the mark: what changes meanwhile is among the next news once more.
            let read = match news.ids {
                Some(ids) => Read::of(self.rows(ids).await?, &ground, false),
                None => {
                    let rows = store::all(&*self.records, TABLE).await?;
                    Read::of(rows.into_iter().map(|row| (row.id.clone(), Some(row))).collect(), &ground, true)
                }
            };
            let mut state = self.state.lock();
            if !Arc::ptr_eq(&state.ground, &ground) {
                // There may be another vault by now.
                continue;
            }
            if state.mark == since {
                state.mark = Some(news.mark);
                self.take_over(&mut state, read);
                return Ok(());
            }
            // Somebody else was quicker, and may have read what is newer.
            if state.mark.as_ref().is_some_and(|mark| mark.is_as_late_as(&news.mark)) {
                return Ok(());
            }
        }
    }

    /// These rows as they are now.
    async fn rows(&self, ids: BTreeSet<String>) -> Result<Vec<(String, Option<Row>)>, StoreError> {
        let each = ids.into_iter().map(|id| async move {
            let row = self.records.get(TABLE, &id).await?;
            Ok((id, row))
        });
        stream::iter(each).buffer_unordered(AT_ONCE).try_collect().await
    }

    fn take_over(&self, state: &mut State, read: Read) {
        let Read { rows, is_all } = read;
        let mut changed = BTreeSet::new();
        if is_all {
            state.has_unread = false;
            changed.extend(state.held.keys().filter(|id| !rows.contains_key(*id)).cloned());
        }
        for id in &changed {
            state.held.remove(id);
        }
        for (id, row) in rows {
            match row {
                // Where all of it is read, the store may be another one than it was: its versions tell nothing.
                Some(Ok(held))
                    if !is_all && state.held.get(&id).is_some_and(|it| it.version == held.version) => {}
                Some(Ok(held)) => {
                    state.held.insert(id.clone(), held);
                    changed.insert(id);
                }
                Some(Err(error)) => {
                    state.has_unread = true;
                    tracing::error!(account = id, %error, "a changed account cannot be read");
                }
                None => {
                    state.held.remove(&id);
                    changed.insert(id);
                }
            }
        }
        self.place(state, &changed);
    }

    /// Puts a new configuration in force, all of it or nothing.
    ///
    /// # Errors
    /// Its vault cannot decrypt what is in the store.
    pub fn put_in_force(&self, world: World, ground: Ground) -> Result<(), OnboardError> {
        let mut state = self.state.lock();
        let held = state.held.iter().map(|(id, held)| Ok((id.clone(), held.reopened(&ground.vault)?)));
        state.held = held.collect::<Result<_, OnboardError>>()?;
        state.ground = Arc::new(ground);
        if state.has_unread {
            // The new vault may read it.
            state.mark = None;
        }
        self.gateway.replace_world(world);
        self.place_all(&mut state);
        Ok(())
    }

    /// Gives all accounts to the pool.
    pub(super) fn place_all(&self, state: &mut State) {
        let ground = Arc::clone(&state.ground);
        let of_file = ground.accounts.iter().map(|account| {
            let last_used = state.uses.entry(account.id.clone()).or_default().clone();
            Arc::new(state.resting.laid(Account { last_used, ..account.clone() }))
        });
        let of_file: Vec<Arc<Account>> = of_file.collect();
        let problems = std::mem::take(&mut state.places.problems);
        let ids_of_file = of_file.iter().map(|account| account.id.clone()).collect();
        state.places = Places { of_file, ids_of_file, of_store: BTreeMap::new(), problems };
        let ids: Vec<String> = state.held.keys().cloned().collect();
        for id in &ids {
            if let Some(account) = self.account_of(state, id) {
                state.places.of_store.insert(id.clone(), account);
            }
        }
        self.lay_out(state);
    }

    /// Gives these accounts to the pool, or takes them out of it.
    fn place(&self, state: &mut State, changed: &BTreeSet<String>) {
        let mut is_in_place = true;
        for id in changed {
            match self.account_of(state, id) {
                Some(account) => {
                    is_in_place = is_in_place && self.gateway.pool.put(&account);
                    state.places.of_store.insert(id.clone(), account);
                }
                None => is_in_place &= state.places.of_store.remove(id).is_none(),
            }
        }
        if !is_in_place {
            self.lay_out(state);
        }
    }

    /// What the pool is given of an account of the store, if anything.
    fn account_of(&self, state: &mut State, id: &str) -> Option<Arc<Account>> {
        let account = AccountId::from(id);
        // Where both have an id the file's counts.
        let held = state.held.get(id).filter(|_| !state.places.ids_of_file.contains(&account))?;
        let last_used = state.uses.entry(account).or_default().clone();
        match held.account(&state.ground.platforms, &state.ground.oauth, last_used) {
            Ok(account) => {
                state.places.problems.remove(id);
                Some(Arc::new(state.resting.laid(account)))
            }
            Err(why) => {
                if state.places.problems.get(id) != Some(&why) {
                    tracing::error!("the account {id} is left out: {why}");
                }
                state.places.problems.insert(id.to_owned(), why);
                None
            }
        }
    }

    /// Which accounts there are has changed, or whom they carry.
    fn lay_out(&self, state: &mut State) {
        let State { ground, held, places, uses, .. } = state;
        // Whoever is gone needs no time of last use, and has no problem.
        uses.retain(|id, _| places.ids_of_file.contains(id) || held.contains_key(id.as_str()));
        places.problems.retain(|id, _| held.contains_key(id));
        let accounts: Vec<Arc<Account>> =
            places.of_file.iter().chain(places.of_store.values()).cloned().collect();
        if let Some(defaults) = ground.implied_routes {
            let routes = RouteTable::by_accounts(&accounts, &ground.platforms, defaults);
            self.gateway.replace_world(World { routes, ..World::clone(&self.gateway.world()) });
        }
        self.gateway.pool.replace(accounts);
    }
}
