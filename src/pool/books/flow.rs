//! A rate over all replicas. What is granted is admitted at once; what a replica gives back comes back as far as the
//! bucket would be emptier today ([`Rate::settle`]), so that in no window more is used than burst, rate and the life of a
//! lease allow.

use std::collections::BTreeMap;

use super::super::bid::{Grant, Line, ReplicaId, Wait};
use super::super::limit::Fit;
use super::super::limit::rate::Rate;
use super::{COMPETES, share};
use crate::clock::Moment;

/// A rate, and who asks for some of it.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub rate: Rate,
    /// When each replica last wanted some.
    asked: BTreeMap<ReplicaId, u64>,
}

impl Default for Flow {
    fn default() -> Self {
        Self { rate: Rate::new(1, 1), asked: BTreeMap::new() }
    }
}

impl Flow {
    pub fn of(rate: Rate) -> Self {
        Self { rate, asked: BTreeMap::new() }
    }

    pub fn set(&mut self, per_minute: u64, burst: u64) {
        self.rate.set(per_minute, burst);
    }

    pub fn grant(&mut self, replica: &ReplicaId, line: &Line, now: u64) -> Grant {
        let at = moment(now);
        if line.back > 0 {
            self.rate.settle(line.back, 0, moment(line.back_since), at);
        }
        if line.over > 0 {
            self.rate.admit(line.over, at);
        }
        self.asked.retain(|_, last| last.saturating_add(COMPETES) > now);
        if line.want > 0 {
            self.asked.insert(replica.clone(), now);
        }
        let (left, _) = self.rate.left(at);
        let units = share(left, line.need, line.want, self.asked.len() as u64);
        if units > 0 {
            self.rate.admit(units, at);
        }
        let wait =
            if units > 0 || line.need == 0 { Wait::Granted } else { wait_of(self.rate.fit(line.need, at)) };
        Grant { units, left: left - units, wait, recall: false }
    }
}

fn wait_of(fit: Fit) -> Wait {
    match fit {
        Fit::Never => Wait::Never,
        Fit::After(wait) => {
            Wait::After(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
        }
        Fit::Now | Fit::WhenOthersEnd => Wait::Soon,
    }
}

/// The authority's clock as the bucket counts it.
fn moment(millis: u64) -> Moment {
    Moment::from_nanos(millis.saturating_mul(1_000_000))
}
