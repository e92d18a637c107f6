//! Who may carry what: the configured accounts, laid out so that the candidates for a request are found by four look-ups,
//! whatever the number of accounts. Where an account lies is immutable once it is built; a reload builds a new roster and swaps it in. What
//! it is there (its token, its limits) may be replaced where it lies.
//!
//! An account lies in a bucket for each (tenant or everybody) x (model or any) that it is configured for. The buckets that a request
//! may draw from are disjoint, so together they are its candidates without a copy.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use smallvec::SmallVec;

use super::facts::platform_of;
use super::member::{Core, Member, Seat};
use super::refusal::{Refusal, Why};
use super::settings::Account;
use super::shown::Place;
use super::weather::Weather;
use crate::ids::{AccountId, PlatformName, TenantId};

/// All accounts.
#[derive(Debug, Default)]
pub(super) struct Roster {
    lanes: HashMap<PlatformName, Lane>,
    seats: HashMap<AccountId, Arc<Seat>>,
    /// No longer configured, but with requests under way when that was so.
    leaving: HashMap<AccountId, Arc<Seat>>,
}

/// The accounts of one platform.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub weather: Arc<Weather>,
    everybody: Shelf,
    by_tenant: HashMap<TenantId, Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    any_model: Bucket,
    by_model: HashMap<Box<str>, Bucket>,
    /// Names that accounts here made up for models of theirs: another account's platform knows no such model.
    aliases: HashSet<Box<str>>,
}

/// Accounts that are candidates for the same requests, by priority.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub entries: Vec<Entry>,
    /// Sums of the weights up to and with each entry.
    pub heights: Vec<u64>,
    /// Hashes of the ids, side by side: `sticky` reads all of them.
    pub hashes: Vec<u64>,
    /// Where they show themselves, side by side, too.
    pub shown: Vec<Place>,
    /// Where `round_robin` and `weighted` are.
    pub cursor: AtomicU64,
}

/// One account in one bucket.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub member: Arc<Member>,
    pub seat: Arc<Seat>,
    /// (The model's name, the account's own id for it); `None`: whatever was asked for.
    pub model: Option<(Arc<str>, Arc<str>)>,
    pub priority: u32,
    /// At least 1.
    weight: u32,
}

/// The candidates for one request.
pub(super) type Field<'a> = SmallVec<[&'a Bucket; 4]>;

impl Roster {
    /// A new roster, with the members of `old` that stay.
    pub(super) fn build(
        accounts: impl Iterator<Item = Arc<Account>>,
        old: &Roster,
        core: &Arc<Core>,
    ) -> Self {
        let mut roster = Self::default();
        for account in accounts {
            if roster.seats.contains_key(&account.id) {
                continue;
            }
            let platform = platform_of(&account).clone();
            let lane = roster.lanes.entry(platform.clone()).or_insert_with(|| Lane {
                weather: old.lanes.get(&platform).map(|lane| Arc::clone(&lane.weather)).unwrap_or_default(),
                ..Lane::default()
            });
            let seat = old.seat_of(&account).unwrap_or_else(|| {
                let member = old.member_for(&account, core);
                let (core, weather) = (Arc::clone(core), Arc::clone(&lane.weather));
                Arc::new(Seat { account: ArcSwap::new(Arc::clone(&account)), member, weather, core })
            });
            lane.add(&account, &seat);
            roster.seats.insert(account.id.clone(), seat);
        }
        roster.lanes.values_mut().for_each(|lane| lane.finish(core));
        let gone = old.leaving.iter().chain(&old.seats).filter(|(id, seat)| {
            let stays = roster.seats.get(*id).is_some_and(|new| Arc::ptr_eq(&new.member, &seat.member));
            !stays && seat.member.in_flight() > 0
        });
        roster.leaving = gone.map(|(id, seat)| (id.clone(), Arc::clone(seat))).collect();
        roster
    }

    /// Takes over an account that lies where it lay. False where it does not.
    pub(super) fn put(&self, account: &Arc<Account>, core: &Core) -> bool {
        let Some(seat) = self.seats.get(&account.id) else { return false };
        let old = seat.account.load_full();
        if !lie_alike(&old, account) {
            return false;
        }
        seat.member.reconfigure(&old, account, core);
        seat.account.store(Arc::clone(account));
        true
    }

    /// The seat of this very account.
    fn seat_of(&self, account: &Arc<Account>) -> Option<Arc<Seat>> {
        let seat = self.seats.get(&account.id)?;
        Arc::ptr_eq(&seat.account.load(), account).then(|| Arc::clone(seat))
    }

    /// The member that goes on under this account's id, or a new one.
    fn member_for(&self, account: &Account, core: &Core) -> Arc<Member> {
        match self.seats.get(&account.id).or_else(|| self.leaving.get(&account.id)) {
            Some(seat) if platform_of(&seat.account.load()) == platform_of(account) => {
                seat.member.reconfigure(&seat.account.load(), account, core);
                Arc::clone(&seat.member)
            }
            _ => {
                let member = Arc::new(Member::new(account, core));
                if let Some(purse) = &core.purse {
                    purse.tell(&member);
                }
                member
            }
        }
    }

    pub(super) fn lane(&self, platform: &PlatformName) -> Result<&Lane, Refusal> {
        self.lanes.get(platform).ok_or(Refusal::never(Why::NoneConfigured))
    }

    pub(super) fn seat(&self, id: &AccountId) -> Option<&Arc<Seat>> {
        self.seats.get(id)
    }

    /// Every account, and whether it is leaving.
    pub(super) fn everyone(&self) -> impl Iterator<Item = (&Arc<Seat>, bool)> {
        let leaving = self.leaving.values().filter(|seat| seat.member.in_flight() > 0);
        self.seats.values().map(|seat| (seat, false)).chain(leaving.map(|seat| (seat, true)))
    }
}

/// Whether two accounts of one id are candidates for the same requests, in the same order and with the same weight.
fn lie_alike(one: &Account, other: &Account) -> bool {
    platform_of(one) == platform_of(other)
        && one.platform.models == other.platform.models
        && one.tenants == other.tenants
        && one.models == other.models
        && (one.weight, one.priority) == (other.weight, other.priority)
}

impl Lane {
    fn add(&mut self, account: &Account, seat: &Arc<Seat>) {
        let tenants = &account.tenants;
        if tenants.is_empty() {
            self.everybody.add(account, seat);
        }
        for (place, tenant) in tenants.iter().enumerate() {
            if !tenants.iter().take(place).any(|earlier| earlier == tenant) {
                self.by_tenant.entry(tenant.clone()).or_default().add(account, seat);
            }
        }
    }

    fn finish(&mut self, core: &Core) {
        for shelf in self.by_tenant.values_mut().chain(std::iter::once(&mut self.everybody)) {
            shelf.any_model.finish(core);
            shelf.by_model.values_mut().for_each(|bucket| bucket.finish(core));
        }
    }

    /// The shelves that `tenant` may use: its own and everybody's.
    fn shelves(&self, tenant: &TenantId) -> impl Iterator<Item = &Shelf> {
        self.by_tenant.get(tenant).into_iter().chain(std::iter::once(&self.everybody))
    }

    /// The candidates for `tenant` and `model`; never empty.
    pub(super) fn field(&self, tenant: &TenantId, model: &str) -> Result<Field<'_>, Refusal> {
        let of_shelf = |shelf: &'_ Shelf| -> bool { !shelf.is_empty() };
        if !self.shelves(tenant).any(of_shelf) {
            return Err(Refusal::never(Why::NotThisTenant));
        }
        let is_alias = self.shelves(tenant).any(|shelf| shelf.aliases.contains(model));
        let mut field = Field::new();
        for shelf in self.shelves(tenant) {
            let any_model = (!is_alias).then_some(&shelf.any_model);
            let buckets = shelf.by_model.get(model).into_iter().chain(any_model);
            field.extend(buckets.filter(|bucket| !bucket.entries.is_empty()));
        }
        if field.is_empty() { Err(Refusal::never(Why::NotThisModel)) } else { Ok(field) }
    }

    /// Every account that `tenant` may use; some may come twice.
    pub(super) fn members(&self, tenant: &TenantId) -> impl Iterator<Item = &Arc<Member>> {
        let entries = self.shelves(tenant).flat_map(|shelf| {
            shelf
                .by_model
                .values()
                .chain(std::iter::once(&shelf.any_model))
                .flat_map(|bucket| &bucket.entries)
        });
        entries.map(|entry| &entry.member)
    }
}

impl Shelf {
    fn add(&mut self, account: &Account, seat: &Arc<Seat>) {
        let entry = |model| {
            let (member, seat) = (Arc::clone(&seat.member), Arc::clone(seat));
            Entry { member, seat, model, priority: account.priority, weight: account.weight.max(1) }
        };
        let models = &account.models;
        if models.is_empty() {
            self.any_model.entries.push(entry(None));
        }
        for (place, (name, own)) in models.iter().enumerate() {
            if !models.iter().take(place).any(|(earlier, _)| earlier == name) {
                let model = Some((Arc::from(name.as_str()), Arc::from(own.as_str())));
                self.by_model.entry(name.as_str().into()).or_default().entries.push(entry(model));
                if name != own && !account.platform.models.contains(name) {
                    self.aliases.insert(name.as_str().into());
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.any_model.entries.is_empty() && self.by_model.is_empty()
    }
}

impl Bucket {
    fn finish(&mut self, core: &Core) {
        self.entries.sort_by_key(|entry| entry.priority);
        let mut height = 0;
        let weights = self.entries.iter().map(|entry| u64::from(entry.weight));
        self.heights = weights
            .map(|weight| {
                height += weight;
                height
            })
            .collect();
        self.hashes = self.entries.iter().map(|entry| entry.member.hash).collect();
        self.shown = self.entries.iter().map(|entry| entry.member.shown.clone()).collect();
        // Replicas that start together must not walk in step.
        let start = core.dice.throw().below(1 << 32);
        self.cursor = AtomicU64::new(u64::try_from(start).unwrap_or(0));
    }
}
