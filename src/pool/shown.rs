//! What an account shows of itself to a choice that passes by. Why: to ask an account costs its lock and four or five places in memory
//! that nobody has touched for long; among ten thousand that is most of what a choice costs, and all but one are asked for
//! nothing. So each shows in half a cache line what it would answer, and only the one that is chosen is asked.
//!
//! A hint and never a decision: whoever chooses by it takes the account by its lock as before, and where that says no, or
//! where nothing is shown (it rests, it has nothing at hand, a limit for this model alone, a bucket that leaks with time), looks properly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::member::Score;
use crate::clock::Moment;

/// What an account with nothing in its way has at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// It can carry a request of so many tokens without asking anybody ...
    pub tokens: u64,
    /// ... before then. [`Moment::START`]: not at all.
    pub until: Moment,
    /// Remaining part of the scarcest limit, 0 to 1.
    pub headroom: f64,
    pub in_flight: u64,
    pub last_taken: Moment,
}

/// Accounts on one page of the board.
const ON_A_PAGE: usize = 1024;

type Page = [Shown; ON_A_PAGE];

/// Where accounts show themselves: side by side, since ten thousand that lie scattered over memory cost the machine a look into its
/// page tables each. The place of an account that is gone is not used again before its whole page is.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// The page that is being filled, and how many have a place there.
    page: Mutex<Option<(Arc<Page>, u16)>>,
}

/// An account's place on the board.
#[derive(Clone, Debug)]
pub(super) struct Place {
    page: Arc<Page>,
    number: u16,
}

impl Board {
    /// A place that nobody has.
    pub(super) fn place(&self) -> Place {
        let mut filling = self.page.lock();
        let open = filling.take().filter(|(_, used)| usize::from(*used) < ON_A_PAGE);
        let (page, number) = open.unwrap_or_else(|| (Arc::new(std::array::from_fn(|_| Shown::default())), 0));
        *filling = Some((Arc::clone(&page), number + 1));
        Place { page, number }
    }
}

impl Place {
    /// Shows `view`, or that one has to look.
    pub(super) fn show(&self, view: Option<View>) {
        if let Some(shown) = self.page.get(usize::from(self.number)) {
            shown.show(view);
        }
    }

    /// What is shown here that could carry a request of `tokens` at `now`; `None`: one has to look.
    pub(super) fn read(&self, tokens: u64, now: Moment) -> Option<Score> {
        self.page.get(usize::from(self.number))?.read(tokens, now)
    }
}

/// A [`View`] to be read by anybody. Its numbers are written one by one: a reader in between may see two moments mixed, and then
/// prefers the worse of two accounts.
#[derive(Debug, Default)]
struct Shown {
    tokens: AtomicU64,
    until: AtomicU64,
    last_taken: AtomicU64,
    headroom: AtomicU32,
    in_flight: AtomicU32,
}

impl Shown {
    fn show(&self, view: Option<View>) {
        let Some(view) = view else { return self.until.store(0, Ordering::Relaxed) };
        #[expect(clippy::cast_possible_truncation, reason = "a hint")]
        self.headroom.store((view.headroom as f32).to_bits(), Ordering::Relaxed);
        self.in_flight.store(u32::try_from(view.in_flight).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.last_taken.store(view.last_taken.as_nanos(), Ordering::Relaxed);
        self.tokens.store(view.tokens, Ordering::Relaxed);
        self.until.store(view.until.as_nanos(), Ordering::Relaxed);
    }

    fn read(&self, tokens: u64, now: Moment) -> Option<Score> {
        let is_good = now.as_nanos() < self.until.load(Ordering::Relaxed)
            && tokens <= self.tokens.load(Ordering::Relaxed);
        is_good.then(|| Score {
            headroom: f64::from(f32::from_bits(self.headroom.load(Ordering::Relaxed))),
            is_covered: true,
            in_flight: u64::from(self.in_flight.load(Ordering::Relaxed)),
            last_taken: Moment::from_nanos(self.last_taken.load(Ordering::Relaxed)),
        })
    }
}
