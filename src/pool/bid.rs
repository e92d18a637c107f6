//! What a replica and the authority say to each other: a bid ("so much I have used, so much I hold, so much I want") and
//! its reply. Plain data, so that the same words go to a book in memory, to a file or to Redis, and to a test that loses,
//! repeats and delays them.
//!
//! Times here are the authority's own: milliseconds since 1970 on its clock. A replica's clock never decides anything.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::ids::AccountId;

/// What is counted: one for each limit that an account may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimension {
    /// Requests per minute.
    Requests,
    /// Tokens per minute.
    Tokens,
    /// Requests under way.
    Slots,
    /// Requests per day.
    DailyRequests,
    /// Tokens per day.
    DailyTokens,
    /// Tokens per month.
    MonthlyTokens,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Dimension; 6] = [
        Dimension::Requests,
        Dimension::Tokens,
        Dimension::Slots,
        Dimension::DailyRequests,
        Dimension::DailyTokens,
        Dimension::MonthlyTokens,
    ];

    /// The name of the limit as in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Dimension::Requests => "rpm",
            Dimension::Tokens => "tpm",
            Dimension::Slots => "concurrency",
            Dimension::DailyRequests => "daily_requests",
            Dimension::DailyTokens => "daily_tokens",
            Dimension::MonthlyTokens => "monthly_budget",
        }
    }

    /// What one request of `tokens` costs in it.
    pub(super) const fn cost(self, tokens: u64) -> u64 {
        match self {
            Dimension::Tokens | Dimension::DailyTokens | Dimension::MonthlyTokens => tokens,
            Dimension::Requests | Dimension::Slots | Dimension::DailyRequests => 1,
        }
    }
}

/// Which limit of an account: of all its requests, or of those for one model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gauge {
    pub dimension: Dimension,
    /// The platform's own id of the model; `None`: all of them.
    pub model: Option<Arc<str>>,
}

impl Gauge {
    /// Its name in stores: `rpm`, or `rpm/gpt-4o` for one model.
    pub fn name(&self) -> String {
        match &self.model {
            None => self.dimension.as_str().to_owned(),
            Some(model) => format!("{}/{model}", self.dimension.as_str()),
        }
    }

    /// The gauge of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        let (dimension, model) = match name.split_once('/') {
            Some((dimension, model)) => (dimension, Some(Arc::from(model))),
            None => (name, None),
        };
        let dimension = Dimension::ALL.into_iter().find(|known| known.as_str() == dimension)?;
        Some(Self { dimension, model })
    }
}

/// One process of the gateway, from its start to its end: a restart is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(pub Arc<str>);

/// A limit's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// So many units a minute, so many at once.
    Rate { per_minute: u64, burst: u64 },
    /// So many units from `starts` to `ends`, known by `key` (year, month and day as one number).
    Budget { limit: u64, key: i32, starts: u64, ends: u64 },
    /// So many at once.
    Slots { limit: u64 },
}

impl Terms {
    /// The most that could ever be granted at once.
    pub fn most(&self) -> u64 {
        match self {
            Terms::Rate { burst, .. } => *burst,
            Terms::Budget { limit, .. } | Terms::Slots { limit } => *limit,
        }
    }

    /// Whether both count the same period, or none.
    pub(super) fn is_same_period(&self, other: &Terms) -> bool {
        match (self, other) {
            (Terms::Budget { key, .. }, Terms::Budget { key: other, .. }) => key == other,
            _ => true,
        }
    }

    /// The part of one of `replicas` that has `begun` with so many units of a period of which `left` are left for all. At
    /// least one unit: who goes on while nobody counts would rather go on.
    pub(super) fn part(self, begun: u64, left: u64, replicas: u64) -> Terms {
        let part = |whole: u64| (whole / replicas.max(1)).max(1);
        match self {
            Terms::Rate { per_minute, burst } => {
                Terms::Rate { per_minute: part(per_minute), burst: part(burst) }
            }
            Terms::Budget { limit, key, starts, ends } => {
                let more = if left == 0 { 0 } else { part(left) };
                Terms::Budget { limit: begun.saturating_add(more).min(limit), key, starts, ends }
            }
            Terms::Slots { limit } => Terms::Slots { limit: part(limit) },
        }
    }
}

/// What a replica has to say of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub gauge: Gauge,
    pub terms: Terms,
    /// Budgets: drawn in this period so far, reservations included. Slots: in use. Rates: not looked at.
    pub used: u64,
    /// Units it holds and may go on to draw from while this is under way. Rates: none of them is renewed by it.
    pub keep: u64,
    /// Nothing less than this is of use; 0: nobody waits.
    pub need: u64,
    /// What it would like to have besides `keep`; at least `need`.
    pub want: u64,
    /// Rates: units that were granted and will not be used, and when the oldest of them was granted.
    pub back: u64,
    pub back_since: u64,
    /// Rates: used beyond what was granted.
    pub over: u64,
}

/// What a replica has to say of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bid {
    pub account: AccountId,
    /// Counts up with every bid of this replica for this account: a bid that comes again is answered again and not
    /// carried out again, and one that comes late is not carried out at all.
    pub serial: u64,
    pub lines: SmallVec<[Line; 4]>,
    /// Rests that this replica has heard of from the platform.
    pub rests: SmallVec<[Rest; 1]>,
}

impl Bid {
    /// Whether it changes anything; else it asks how things stand.
    pub(super) fn says_anything(&self) -> bool {
        !self.lines.is_empty() || !self.rests.is_empty()
    }
}

/// An account, or an account for one model, is not to be chosen before an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    pub model: Option<Arc<str>>,
    /// 0: none of the account's rests is in force any more, whatever the model.
    pub until: u64,
    /// The platform said that the quota is used up (and not only: not so fast).
    pub is_exhausted: bool,
}

impl Rest {
    /// What stood against the account is forgotten.
    pub(super) const OVER: Rest = Rest { model: None, until: 0, is_exhausted: false };

    /// One that is longer ends by no clock but by somebody who pays or consents, and starts the gateway again: the account is
    /// then tried once more.
    pub(super) const LONGEST_KEPT: Duration = Duration::from_secs(40 * 86_400);
}

/// When to ask again for what was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing was refused.
    Granted,
    /// Another replica holds it unused and is being asked to give it back.
    Soon,
    /// It is in use: when a request ends, nobody knows when.
    OthersEnd,
    /// After so many milliseconds.
    After(u64),
    /// It is more than the limit itself.
    Never,
}

/// The answer to one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// New units.
    pub units: u64,
    /// What is left for everybody after that.
    pub left: u64,
    pub wait: Wait,
    /// Somebody starves: give back what is not in use.
    pub recall: bool,
}

/// The answer to a bid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The authority's clock when it answered.
    pub now: u64,
    /// Units of budgets that replicas held and took with them when they died, as far as that is news: they count as spent.
    pub lost: u64,
    /// One for each line, in order.
    pub grants: SmallVec<[Grant; 4]>,
    /// Rests that are in force, from all replicas.
    pub rests: SmallVec<[Rest; 1]>,
}

/// What happened to a bid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered(Box<Reply>),
    /// A later bid of this replica has come before it.
    Stale,
}
