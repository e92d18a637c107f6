//! One sign-in in a browser, as everybody but the browser sees it: whose it is, who may look on, and what came of it.
//!
//! Whoever has its address has nothing: to look on, a browser must show the seat that it was given when the sitting was begun (a cookie), or
//! when its person proved to be the one who began. Each page of ours then connects once, by a ticket of its own.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::browser::{Phase, Site, View, Wings};
use crate::clock::{Clock, Moment};
use crate::gateway::onboard::consent::Initiate;
use crate::gateway::reach::{Adder, Reach};
use crate::ids::{Subject, TenantId, random_name};
use crate::secret::Secret;

/// Seats and tickets that hold at a time: somebody may open the page anew, and in another browser.
const MAX_SEATS: usize = 4;
const MAX_TICKETS: usize = 8;

/// Pages that look on at a time.
const MAX_VIEWERS: usize = 4;

/// What a sitting came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The account is there.
    Done { id: String, name: String },
    /// Why not, for its person.
    Failed(String),
    /// Its person wanted no more.
    Cancelled,
    /// It took too long.
    Late,
    /// We wanted no more.
    Ended(String),
}

impl Outcome {
    /// In metrics and answers.
    pub const fn label(&self) -> &'static str {
        match self {
            Outcome::Done { .. } => "done",
            Outcome::Failed(_) => "failed",
            Outcome::Cancelled => "cancelled",
            Outcome::Late => "late",
            Outcome::Ended(_) => "ended",
        }
    }
}

/// Whose sitting it is.
#[derive(Clone, Debug)]
pub struct Owner {
    pub tenant: TenantId,
    pub subject: Subject,
    /// Who in particular, for the account to be theirs.
    pub by: Option<Adder>,
    /// Which accounts are theirs to manage.
    pub reach: Reach,
    /// Their name in the audit log.
    pub who: String,
}

impl Owner {
    /// Whether it is the very caller, and not one whom a log calls the same; whatever else they may do by now.
    fn is(&self, other: &Self) -> bool {
        self.tenant == other.tenant && self.subject == other.subject && self.by == other.by
    }
}

/// See the module.
#[derive(Debug)]
pub struct Sitting {
    /// `bs_` and 32 characters.
    pub id: String,
    pub site: Arc<Site>,
    pub account_name: String,
    /// Where its person goes afterwards.
    pub redirect_after: Option<String>,
    /// Whether its person sees the browser on a page of ours, and not in a window of its own.
    pub is_relayed: bool,
    pub(super) owner: Owner,
    pub(super) ends: Moment,
    clock: Clock,
    wings: Wings,
    seats: Mutex<Vec<Secret>>,
    tickets: Mutex<Vec<Secret>>,
    stop: CancellationToken,
    stopped_as: Mutex<Option<Outcome>>,
    outcome: watch::Sender<Option<Outcome>>,
    /// Held by whoever looks on.
    lookers: Arc<()>,
}

/// Somebody who looks on.
#[derive(Debug)]
pub struct Viewer {
    pub sitting: Arc<Sitting>,
    pub wings: Wings,
    pub outcome: watch::Receiver<Option<Outcome>>,
    _looker: Arc<()>,
}

impl Sitting {
    pub(super) fn new(
        owner: Owner,
        site: Arc<Site>,
        ask: Initiate,
        wings: Wings,
        is_relayed: bool,
        ends: Moment,
        clock: Clock,
    ) -> Self {
        Self {
            id: random_name("bs_", 32),
            site,
            account_name: ask.account_name,
            redirect_after: ask.redirect_after,
            is_relayed,
            owner,
            ends,
            clock,
            wings,
            seats: Mutex::default(),
            tickets: Mutex::default(),
            stop: CancellationToken::new(),
            stopped_as: Mutex::default(),
            outcome: watch::Sender::new(None),
            lookers: Arc::default(),
        }
    }

    /// Whether this is who began it.
    pub fn is_of(&self, owner: &Owner) -> bool {
        self.owner.is(owner)
    }

    /// A seat for a browser of whoever began.
    pub fn give_seat(&self) -> Secret {
        give(&self.seats, MAX_SEATS)
    }

    /// Whether this is a seat of it.
    pub fn is_seat(&self, shown: &Secret) -> bool {
        self.seats.lock().iter().any(|seat| seat == shown)
    }

    /// A ticket for one page of a browser that has a seat.
    pub fn give_ticket(&self) -> Secret {
        give(&self.tickets, MAX_TICKETS)
    }

    /// Lets whoever has a ticket look on. The ticket is gone then.
    pub fn admit(self: &Arc<Self>, ticket: &Secret) -> Option<Viewer> {
        {
            let mut tickets = self.tickets.lock();
            let at = tickets.iter().position(|known| known == ticket)?;
            tickets.remove(at);
        }
        let looker = Arc::clone(&self.lookers);
        // Beside ours, and this one.
        (Arc::strong_count(&self.lookers) <= MAX_VIEWERS + 1).then(|| Viewer {
            sitting: Arc::clone(self),
            wings: self.wings.clone(),
            outcome: self.outcome.subscribe(),
            _looker: looker,
        })
    }

    /// What a person sees beside the page.
    pub fn view(&self) -> View {
        self.wings.view.borrow().clone()
    }

    /// How far it is, in a word.
    pub fn state(&self) -> &'static str {
        match (self.outcome(), self.view().phase) {
            (Some(outcome), _) => outcome.label(),
            (None, Phase::Opening) => "opening",
            (None, Phase::Waiting) => "waiting",
            (None, Phase::Taking) => "taking",
        }
    }

    /// What it came to, once it is over.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome.borrow().clone()
    }

    /// How long it may still take.
    pub fn left(&self) -> Duration {
        self.ends.since(self.clock.now())
    }

    /// Ends it, as soon as can be.
    pub fn stop(&self, outcome: Outcome) {
        self.stopped_as.lock().get_or_insert(outcome);
        self.stop.cancel();
    }

    /// Resolves when somebody has ended it.
    pub(super) async fn stopped(&self) -> Outcome {
        self.stop.cancelled().await;
        self.stopped_as.lock().clone().unwrap_or(Outcome::Cancelled)
    }

    /// It is over. The first outcome counts.
    pub(super) fn end(&self, outcome: Outcome) {
        self.outcome.send_if_modified(|known| {
            let is_first = known.is_none();
            if is_first {
                *known = Some(outcome);
            }
            is_first
        });
    }

    /// Resolves when it is over.
    pub async fn over(&self) {
        let mut outcome = self.outcome.subscribe();
        // The sender is ours: it lives.
        drop(outcome.wait_for(Option::is_some).await);
    }
}

/// A new one of at most `most`; the oldest makes room.
fn give(held: &Mutex<Vec<Secret>>, most: usize) -> Secret {
    let fresh = Secret::new(random_name("", 43));
    let mut held = held.lock();
    if held.len() >= most {
        held.remove(0);
    }
    held.push(fresh.clone());
    fresh
}
