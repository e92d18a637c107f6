//! Limits as pure functions of (limit, state, now). Why pure: a limiter is only trusted when a model can be held against
//! it, and the same decision must come out in memory, in an embedded store and on a server.
//!
//! A refusal knows when to come back: that is [`Fit::After`].

pub(super) mod budget;
pub(super) mod calendar;
mod lows;
pub(super) mod rate;

use std::cell::OnceCell;
use std::time::Duration;

use super::purse::Purse;
use crate::clock::{Clock, Moment};

/// Whether an amount fits under one limit now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Now,
    /// Not now; it will after this long if nothing else is admitted meanwhile.
    After(Duration),
    /// What is under way stands in the way: it fits as soon as enough of that ends with less than was set aside.
    WhenOthersEnd,
    /// Larger than the limit itself.
    Never,
}

/// The instant of one decision. The wall clock is read only where a calendar asks for it: it costs as much as a lock.
pub(super) struct Now<'a> {
    pub moment: Moment,
    clock: &'a Clock,
    purse: Option<&'a Purse>,
    wall: OnceCell<u64>,
}

impl<'a> Now<'a> {
    pub(super) fn of(clock: &'a Clock, purse: Option<&'a Purse>) -> Self {
        Self { moment: clock.now(), clock, purse, wall: OnceCell::new() }
    }

    /// Milliseconds since 1970: by the authority's clock where there is one, so that all replicas have the same day.
    pub(super) fn wall_millis(&self) -> u64 {
        *self.wall.get_or_init(|| match self.purse {
            Some(purse) => purse.authority_millis(self.moment),
            None => self.clock.wall_millis(),
        })
    }
}
