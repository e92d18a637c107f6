//! Bids as the script's keys and words, and its words as outcomes. Why here and not in the script's own JSON: that would
//! turn large numbers into approximate ones.
//!
//! | key | type | what |
//! | --- | --- | --- |
//! | `weir:1:{acct:ID}:answers` | hash | each replica's last serial, and what it was answered |
//! | `weir:1:{acct:ID}:rests` | hash | rests in force, by model |
//! | `weir:1:{acct:ID}:rpm`, `…:tpm/MODEL` | hash | a rate's level, its past, and who asks |
//! | `weir:1:{acct:ID}:concurrency` | hash | holders of places |
//! | `weir:1:{acct:ID}:daily_tokens:20261121` | hash | holders of that day's tokens |
//!
//! | `weir:1:{replicas}` | sorted set | replicas, by when they were last heard of |
//!
//! Each goes by itself when its time is over. A day's key is gone two days later; nothing happens at midnight.

use std::sync::Arc;

use smallvec::SmallVec;

use super::super::bid::{Bid, Gauge, Grant, Line, Outcome, ReplicaId, Reply, Rest, Terms, Wait};

/// The script counts in doubles, exact up to 2^53. Times.
const MOST_TIME: u64 = (1 << 53) - 1;

/// Units of budgets and places: sums of several must be exact too. A limit beyond a million billion tokens is this one.
const MOST_UNITS: u64 = 1 << 50;

/// Units of rates, each of which is 60,000 in a level. A rate beyond 8 billion a minute is this one; a debt beyond 150 billion
/// is that much.
const MOST_FLOW: u64 = 1 << 33;

/// What the script that counts replicas is asked.
pub(super) fn presence(replica: &ReplicaId, stays: bool, time: Option<u64>) -> (Vec<String>, Vec<Vec<u8>>) {
    let mut words = Words(vec![replica.0.as_bytes().to_vec()]);
    words.number(stays.into());
    words.time(time);
    (vec!["weir:1:{replicas}".to_owned()], words.0)
}

/// What one script is asked, with the time that tests make up.
pub(super) fn question(replica: &ReplicaId, bids: &[Bid], time: Option<u64>) -> (Vec<String>, Vec<Vec<u8>>) {
    let mut keys = Vec::with_capacity(bids.len() * 5);
    let mut words = Words(vec![replica.0.as_bytes().to_vec()]);
    words.time(time);
    words.number(bids.len() as u64);
    for bid in bids {
        let prefix = format!("weir:1:{{acct:{}}}", bid.account);
        keys.push(format!("{prefix}:answers"));
        keys.push(format!("{prefix}:rests"));
        words.number(bid.serial.min(MOST_TIME));
        words.number(bid.lines.len() as u64);
        words.number(bid.rests.len() as u64);
        for line in &bid.lines {
            keys.push(format!("{prefix}:{}", name(&line.gauge, &line.terms)));
            words.line(line);
        }
        for rest in &bid.rests {
            words.0.push(field(rest.model.as_deref()));
            words.number(rest.until.min(MOST_TIME));
            words.number(rest.is_exhausted.into());
        }
    }
    (keys, words.0)
}

fn name(gauge: &Gauge, terms: &Terms) -> String {
    match terms {
        Terms::Budget { key, .. } => format!("{}:{key}", gauge.name()),
        Terms::Rate { .. } | Terms::Slots { .. } => gauge.name(),
    }
}

/// The name of a model's rest; that of all models has no word behind its mark.
fn field(model: Option<&str>) -> Vec<u8> {
    model.map_or_else(|| b"*".to_vec(), |model| format!("={model}").into_bytes())
}

struct Words(Vec<Vec<u8>>);

impl Words {
    fn time(&mut self, time: Option<u64>) {
        self.0.push(time.map_or_else(String::new, |time| time.to_string()).into_bytes());
    }

    fn number(&mut self, number: u64) {
        self.0.push(number.to_string().into_bytes());
    }

    fn line(&mut self, line: &Line) {
        let (kind, terms, most) = match line.terms {
            Terms::Rate { per_minute, burst } => {
                ("r", [per_minute.min(MOST_FLOW), burst.min(MOST_FLOW), 0], MOST_FLOW)
            }
            Terms::Budget { limit, starts, ends, .. } => {
                ("b", [limit.min(MOST_UNITS), starts.min(MOST_TIME), ends.min(MOST_TIME)], MOST_UNITS)
            }
            Terms::Slots { limit } => ("s", [limit.min(MOST_UNITS), 0, 0], MOST_UNITS),
        };
        self.0.push(kind.as_bytes().to_vec());
        terms.into_iter().for_each(|number| self.number(number));
        let units = [line.used, line.keep, line.need, line.want, line.back];
        units.into_iter().for_each(|number| self.number(number.min(most)));
        self.number(line.back_since.min(MOST_TIME));
        self.number(line.over.min(most));
    }
}

/// What the script made of `bid`; `None` where that is not an answer to it.
pub(super) fn outcome(bid: &Bid, reply: &[Vec<u8>]) -> Option<Outcome> {
    let (head, rest) = reply.split_first()?;
    if head == b"stale" {
        return Some(Outcome::Stale);
    }
    let (grants, rests) = rest.split_at_checked(bid.lines.len())?;
    let grants: Option<SmallVec<[Grant; 4]>> = grants.iter().map(|line| grant(line)).collect();
    let rests: Option<SmallVec<[Rest; 1]>> = rests.chunks(2).map(rest_of).collect();
    let (now, lost) = std::str::from_utf8(head).ok()?.split_once(' ')?;
    let (now, lost) = (now.parse().ok()?, lost.parse().ok()?);
    Some(Outcome::Answered(Box::new(Reply { now, lost, grants: grants?, rests: rests? })))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `units left wait milliseconds recall`
fn grant(line: &[u8]) -> Option<Grant> {
    let words: SmallVec<[&[u8]; 5]> = line.split(|byte| *byte == b' ').collect();
    let [units, left, wait, millis, recall] = words.as_slice() else { return None };
    let wait = match *wait {
        b"g" => Wait::Granted,
        b"s" => Wait::Soon,
        b"o" => Wait::OthersEnd,
        b"a" => Wait::After(number(millis)?),
        b"n" => Wait::Never,
        _ => return None,
    };
    Some(Grant { units: number(units)?, left: number(left)?, wait, recall: *recall == b"1" })
}

fn rest_of(pair: &[Vec<u8>]) -> Option<Rest> {
    let [model, value] = pair else { return None };
    let model = match model.split_first()? {
        (b'*', []) => None,
        (b'=', model) => Some(Arc::from(std::str::from_utf8(model).ok()?)),
        _ => return None,
    };
    let (until, is_exhausted) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    Some(Rest { model, until: until.parse().ok()?, is_exhausted: is_exhausted == "1" })
}
