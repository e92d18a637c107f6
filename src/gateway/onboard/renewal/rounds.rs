//! Who is renewed without anybody asking, and when. Why each provider has room of its own: one that hangs takes its whole patience for each
//! of its accounts, and meanwhile the tokens of all other providers must not run out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Semaphore;

use super::desk::Begun;
use super::{Cause, Renewals, is_due};
use crate::ids::AccountId;
use crate::secret::Secret;

/// Renewals of one provider's accounts under way at once, of those that nobody asked for: of all, so many for each provider that the
/// configuration names.
const AT_ONCE: usize = 8;

/// An account that is to be renewed.
struct Task {
    id: AccountId,
    stale: Secret,
    cause: Cause,
    provider: String,
    begun: Begun,
}

impl Renewals {
    /// Begins what is due, where it has not been begun before, and waits for nothing. To be called every second or so.
    pub fn tick(self: &Arc<Self>) {
        for task in self.due() {
            let (renewals, room) = (Arc::clone(self), self.room(&task.provider));
            tokio::spawn(async move { renewals.renew_in(room, task).await });
        }
        self.forget_what_is_gone();
    }

    /// What is due, and nobody is at.
    fn due(&self) -> Vec<Task> {
        let clock = &self.onboard.gateway.clock;
        let (wall, now) = (clock.wall_seconds(), clock.now());
        let state = self.onboard.state.lock();
        let due = state.held.values().filter_map(|held| {
            let access = &held.kit.tokens.as_ref()?.access;
            let id = AccountId::from(held.record.id.as_str());
            let known = self.desks.lock().get(&id).cloned();
            let cause = match &known {
                Some(desk) if desk.wants(access, now) => Cause::Refused,
                Some(desk) if desk.rests(now) => return None,
                _ if is_due(held, wall) => Cause::Due,
                _ => return None,
            };
            let begun = known.unwrap_or_else(|| self.desk(&id)).begin()?;
            let provider = held.record.consent.as_ref().map(|consent| consent.provider.clone());
            let (stale, provider) = (access.clone(), provider.unwrap_or_default());
            Some(Task { id, stale, cause, provider, begun })
        });
        due.collect()
    }

    fn room(&self, provider: &str) -> Arc<Semaphore> {
        let mut rooms = self.rooms.lock();
        let room = rooms.entry(provider.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)));
        Arc::clone(room)
    }

    /// Renews an account once its provider has room for it.
    async fn renew_in(self: &Arc<Self>, room: Arc<Semaphore>, task: Task) {
        let Ok(place) = room.acquire_owned().await else { return };
        // What has not begun by now does not begin any more: nobody need wait for it.
        if self.is_closed.load(Ordering::SeqCst) {
            return;
        }
        let renewals = Arc::clone(self);
        let work = async move {
            let Task { id, stale, cause, begun, .. } = task;
            renewals.renew_here(&id, &stale, cause).await;
            drop((place, begun));
        };
        // On a task that whoever stops this process waits for.
        drop(self.home.begin(work).await);
    }

    /// Desks of accounts that are gone, and rooms in which nobody is.
    fn forget_what_is_gone(&self) {
        let state = self.onboard.state.lock();
        self.desks
            .lock()
            .retain(|id, desk| state.held.contains_key(id.as_str()) || Arc::strong_count(desk) > 1);
        self.rooms.lock().retain(|_, room| Arc::strong_count(room) > 1);
    }
}
