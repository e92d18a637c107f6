//! Vendor state between turns (thought signatures, signed thinking), kept by tool call id for clients that drop it
//! (R11.1). Why bounded twice: by number and by age, so that it can neither grow nor outlive its use.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

use crate::api::piece::{Piece, Sink};
use crate::clock::{Clock, Moment};
use crate::dialect::Recall;

/// The memory.
#[derive(Debug)]
pub struct Memory {
    kept: Mutex<Kept>,
    clock: Clock,
    life: Duration,
    entries: usize,
}

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<String, (Value, Moment)>,
    /// Oldest first.
    order: VecDeque<(String, Moment)>,
}

/// Larger states are not kept, in bytes of JSON.
const MAX_STATE: usize = 64 * 1024;

impl Memory {
    /// Keeps at most `entries` states, each for `life`.
    pub fn new(clock: Clock, life: Duration, entries: usize) -> Self {
        Self { kept: Mutex::default(), clock, life, entries }
    }

    /// Keeps `state` under `id`.
    pub fn remember(&self, id: &str, state: Value) {
        if state.to_string().len() > MAX_STATE {
            return;
        }
        let now = self.clock.now();
        let mut kept = self.kept.lock();
        kept.by_id.insert(id.to_owned(), (state, now));
        kept.order.push_back((id.to_owned(), now));
        while let Some((oldest, since)) = kept.order.front().cloned() {
            let expired = now.since(since) > self.life;
            if !expired && kept.order.len() <= self.entries {
                break;
            }
            kept.order.pop_front();
            // A newer state under the same id stays.
            if kept.by_id.get(&oldest).is_some_and(|(_, newest)| *newest == since) {
                kept.by_id.remove(&oldest);
            }
        }
    }
}

impl Recall for Memory {
    fn recall(&self, tool_call_id: &str) -> Option<Value> {
        let kept = self.kept.lock();
        let (state, since) = kept.by_id.get(tool_call_id)?;
        (self.clock.now().since(*since) <= self.life).then(|| state.clone())
    }
}

/// A sink that keeps what is to be remembered and hands everything on.
pub struct Remembering<'a> {
    pub memory: &'a Memory,
    pub inner: &'a mut (dyn Sink + Send),
}

impl Sink for Remembering<'_> {
    fn piece(&mut self, piece: Piece<'_>) {
        if let Piece::Remember { tool_call_id, value } = &piece {
            self.memory.remember(tool_call_id, value.clone());
        }
        self.inner.piece(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_bounded_number_for_a_bounded_time() {
        let (clock, hand) = Clock::manual(0);
        let memory = Memory::new(clock, Duration::from_secs(10), 2);
        for id in ["a", "b", "c"] {
            memory.remember(id, Value::from(id));
            hand.advance(Duration::from_secs(1));
        }
        assert_eq!(memory.recall("a"), None);
        assert_eq!(memory.recall("c"), Some(Value::from("c")));
        hand.advance(Duration::from_secs(10));
        assert_eq!(memory.recall("c"), None);
    }
}
