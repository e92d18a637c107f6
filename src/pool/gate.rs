//! Whether requests may pass: cooldown, circuit breaker and half-open probe as one small state machine, a pure function of
//! what happened and now. Why one for all: an account, an account for one model and a whole platform rest and
//! come back by the same rules; only what closes them differs.
//!
//! A closed gate opens a crack at its time: exactly one request is let through as a probe. Its success opens the gate,
//! its failure closes it again, for longer. Answers to requests that were under way when the gate closed change nothing.

use std::time::Duration;

use super::refusal::{Refusal, SOON, Why};
use crate::clock::Moment;

/// Without a hint, the first pause after a 429, before jitter. The first is then 1 to 2 s (never above 5 s).
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause without a hint, for 429s and for failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A hint beyond this is told to callers, but probed by one request so often: hints of days with quota free again in
/// minutes have been seen.
const PROBE_AT_LEAST_EVERY: Duration = Duration::from_secs(3600);
/// Shortest and longest pause of a platform that has too much to do, without a hint.
const SHORTEST_BREATH: Duration = Duration::from_secs(1);
const LONGEST_BREATH: Duration = Duration::from_secs(5);
/// Failures in a row that open the circuit.
pub(super) const FAILURES_TO_OPEN: u8 = 3;
/// First and longest rest of an account for a model that it may not use.
const FIRST_DENIAL: Duration = Duration::from_secs(600);
const LONGEST_DENIAL: Duration = Duration::from_secs(6 * 3600);
/// A probe after a 429 that was not refused within this time is slow, not refused: the next one may go.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// Whether, and how, a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Open,
    /// As the one probe; [`Gate::probe`] must be called if it goes.
    Probe,
    Closed(Refusal),
}

/// One gate.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    /// 429s in a row without a hint.
    ramp: u8,
    /// Failures in a row.
    failures: u8,
    /// How often in a row the circuit opened.
    trips: u8,
    /// Denials in a row.
    denials: u8,
    shut: Option<Shut>,
    probe_since: Option<Moment>,
}

#[derive(Clone, Copy, Debug)]
struct Shut {
    why: Why,
    /// When the probe may go.
    until: Moment,
    /// What callers are told.
    told: Moment,
    /// For overload: any answer that begins well ends it, also to a request from before.
    is_breath: bool,
}

/// What happened at one answer: when the request was taken, now, and a chance in 0..1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub taken: Moment,
    pub now: Moment,
    pub jitter: f64,
}

impl Gate {
    pub(super) fn check(&self, now: Moment) -> Pass {
        let Some(shut) = self.shut else { return Pass::Open };
        if now < shut.until {
            return Pass::Closed(Refusal::after(
                shut.why,
                shut.told.since(now).max(Duration::from_millis(1)),
            ));
        }
        let is_out = |since: Moment| shut.why == Why::Broken || now.since(since) < PROBE_PATIENCE;
        match self.probe_since {
            Some(since) if is_out(since) => Pass::Closed(Refusal::after(shut.why, SOON)),
            _ => Pass::Probe,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.shut.is_none()
    }

    /// The probe goes.
    pub(super) fn probe(&mut self, now: Moment) {
        self.probe_since = Some(now);
    }

    /// The probe is over and has told nothing: the next request is one again.
    pub(super) fn end_probe(&mut self) {
        self.probe_since = None;
    }

    /// The platform took a request.
    pub(super) fn accepted(&mut self, taken: Moment) {
        self.failures = 0;
        if !self.is_stale(taken) || self.shut.is_some_and(|shut| shut.is_breath) {
            *self = Self::default();
        }
    }

    /// The platform asked for a pause.
    pub(super) fn rate_limited(&mut self, event: Event, hint: Option<Duration>) {
        let hint = hint.filter(|hint| !hint.is_zero());
        let Event { taken, now, jitter } = event;
        match hint {
            Some(hint) => self.close(Why::Cooling, now + hint.min(PROBE_AT_LEAST_EVERY), now + hint),
            None if self.is_stale(taken) => {}
            None => {
                self.ramp = self.ramp.saturating_add(1);
                let until = now + pause(FIRST_PAUSE, LONGEST_PAUSE, self.ramp, jitter);
                self.close(Why::Cooling, until, until);
            }
        }
    }

    /// It failed: overloaded, a 5xx, no connection, no answer. Never touches the ramp of 429s.
    pub(super) fn failed(&mut self, event: Event, hint: Option<Duration>) {
        let Event { taken, now, jitter } = event;
        if self.is_stale(taken) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let hint = hint.filter(|hint| !hint.is_zero()).map(|hint| hint.min(LONGEST_PAUSE));
        if self.failures >= FAILURES_TO_OPEN || hint.is_some() || self.shut.is_some() {
            self.trips = self.trips.saturating_add(1);
            let until = now + hint.unwrap_or_else(|| pause(FIRST_PAUSE, LONGEST_PAUSE, self.trips, jitter));
            self.close(Why::Broken, until, until);
        }
    }

    /// It has too much to do: after so many times in a row a pause that is short, and no longer the next time.
    pub(super) fn overloaded(&mut self, event: Event, hint: Option<Duration>) {
        if self.is_stale(event.taken) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_TO_OPEN || self.shut.is_some() {
            self.breathe(event, hint);
        }
    }

    /// A short pause, which the next answer that begins well ends.
    pub(super) fn breathe(&mut self, event: Event, hint: Option<Duration>) {
        let hint = hint.filter(|hint| !hint.is_zero()).map(|hint| hint.min(LONGEST_PAUSE));
        let spread = (LONGEST_BREATH - SHORTEST_BREATH).mul_f64(event.jitter.clamp(0.0, 1.0));
        let until = event.now + hint.unwrap_or(SHORTEST_BREATH + spread);
        self.close(Why::Broken, until, until);
        if let Some(shut) = self.shut.as_mut().filter(|shut| shut.until == until) {
            shut.is_breath = true;
        }
    }

    /// It rests for a length that is known.
    pub(super) fn rest(&mut self, now: Moment, length: Duration, why: Why) {
        let until = now + length.max(Duration::from_millis(1));
        self.close(why, until, until);
    }

    /// It is not allowed at all: looked at again after long and longer pauses.
    pub(super) fn denied(&mut self, event: Event) {
        if !self.is_stale(event.taken) {
            self.denials = self.denials.saturating_add(1);
            // Counted in whole lengths: the first denial rests ten minutes, not five to ten.
            let length = pause(FIRST_DENIAL, LONGEST_DENIAL, self.denials, 1.0);
            self.rest(event.now, length, Why::Exhausted);
        }
    }

    pub(super) fn open(&mut self) {
        *self = Self::default();
    }

    /// Nothing to remember.
    pub(super) fn is_idle(&self) -> bool {
        self.shut.is_none() && self.failures == 0
    }

    /// Why and how long it is closed; zero once it waits for a probe.
    pub(super) fn closed(&self, now: Moment) -> Option<(Why, Duration)> {
        self.shut.map(|shut| (shut.why, shut.until.since(now)))
    }

    /// Whether a request taken then was under way before the gate last closed.
    pub(super) fn is_stale(&self, taken: Moment) -> bool {
        self.shut.is_some_and(|shut| taken < shut.until)
    }

    /// Closes it; a longer closure that is in force stays.
    fn close(&mut self, why: Why, until: Moment, told: Moment) {
        self.probe_since = None;
        if self.shut.is_none_or(|shut| until > shut.until) {
            self.shut = Some(Shut { why, until, told, is_breath: false });
        }
    }
}

/// The pause before try number `step` (from 1): doubling, capped, the upper half of it by chance.
fn pause(first: Duration, longest: Duration, step: u8, jitter: f64) -> Duration {
    let doublings = u32::from(step.saturating_sub(1)).min(20);
    let whole = first.saturating_mul(1 << doublings).min(longest);
    whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    fn event(taken: u64, now: u64) -> Event {
        Event { taken: second(taken), now: second(now), jitter: 1.0 }
    }

    fn wait(gate: &Gate, now: u64) -> Option<u64> {
        match gate.check(second(now)) {
            Pass::Closed(refusal) => refusal.retry_after.map(|wait| wait.as_secs()),
            Pass::Open | Pass::Probe => None,
        }
    }

    #[test]
    fn pauses_without_a_hint_begin_short_double_and_are_capped() {
        let mut gate = Gate::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            gate.rate_limited(event(now, now), None);
            let length = wait(&gate, now).unwrap();
            pauses.push(length);
            now += length;
            assert_eq!(gate.check(second(now)), Pass::Probe);
            gate.probe(second(now));
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60]);
        gate.accepted(second(now));
        assert_eq!(gate.check(second(now)), Pass::Open);
        gate.rate_limited(event(now, now), None);
        assert_eq!(wait(&gate, now), Some(2), "success forgets the ramp");
    }

    #[test]
    fn fifty_answers_to_requests_under_way_are_one_429_not_fifty() {
        let mut gate = Gate::default();
        (0..50).for_each(|_| gate.rate_limited(event(0, 1), None));
        assert_eq!(wait(&gate, 1), Some(2));
        (0..50).for_each(|_| gate.failed(event(0, 1), None));
        assert_eq!(wait(&gate, 1), Some(2));
    }

    #[test]
    fn a_success_of_a_request_from_before_does_not_open_a_closed_gate() {
        let mut gate = Gate::default();
        gate.rate_limited(event(5, 5), Some(Duration::from_secs(30)));
        gate.accepted(second(4));
        assert_eq!(wait(&gate, 6), Some(29));
    }

    #[test]
    fn only_one_probe_is_out_and_a_slow_one_after_a_429_does_not_lock_the_gate() {
        let mut gate = Gate::default();
        gate.rate_limited(event(0, 0), Some(Duration::from_secs(3)));
        assert_eq!(gate.check(second(3)), Pass::Probe);
        gate.probe(second(3));
        assert_eq!(wait(&gate, 3), Some(1));
        assert_eq!(wait(&gate, 12), Some(1));
        assert_eq!(gate.check(second(13)), Pass::Probe);
    }

    #[test]
    fn the_circuit_opens_after_failures_in_a_row_and_lets_exactly_one_through() {
        let mut gate = Gate::default();
        gate.failed(event(0, 0), None);
        gate.failed(event(0, 0), None);
        gate.accepted(second(0));
        gate.failed(event(0, 0), None);
        gate.failed(event(0, 0), None);
        assert_eq!(gate.check(second(0)), Pass::Open, "not in a row");
        gate.failed(event(0, 0), None);
        assert_eq!(wait(&gate, 0), Some(2));
        assert_eq!(gate.check(second(2)), Pass::Probe);
        gate.probe(second(2));
        assert_eq!(wait(&gate, 500), Some(1), "one probe at a time, however long it takes");
        gate.failed(event(2, 500), None);
        assert_eq!(wait(&gate, 500), Some(4));
    }

    #[test]
    fn failures_never_make_the_next_429_rest_longer() {
        let mut gate = Gate::default();
        let mut now = 0;
        for _ in 0..10 {
            gate.failed(event(now, now), None);
            now += 60;
        }
        gate.rate_limited(event(now, now), None);
        assert_eq!(wait(&gate, now), Some(2));
    }

    #[test]
    fn overload_pauses_shortly_however_often_and_any_success_ends_it() {
        let mut gate = Gate::default();
        gate.overloaded(event(0, 0), None);
        gate.overloaded(event(0, 0), None);
        assert_eq!(gate.check(second(0)), Pass::Open, "once is no overload");
        let mut now = 0;
        for _ in 0..9 {
            gate.overloaded(event(now, now), None);
            assert_eq!(wait(&gate, now), Some(5), "the longest of 1 to 5 s, and never longer");
            now += 5;
            assert_eq!(gate.check(second(now)), Pass::Probe);
        }
        gate.rate_limited(event(now, now), None);
        assert_eq!(wait(&gate, now), Some(2), "the ramp of 429s knows nothing of it");
        gate.accepted(second(now - 1));
        assert_eq!(wait(&gate, now), Some(2), "that pause is another matter");
        let mut gate = Gate::default();
        (0..3).for_each(|_| gate.overloaded(Event { jitter: 0.0, ..event(10, 10) }, None));
        assert_eq!(wait(&gate, 10), Some(1));
        gate.accepted(second(9));
        assert_eq!(gate.check(second(10)), Pass::Open, "somebody's answer has begun meanwhile");
        (0..3).for_each(|_| gate.overloaded(event(10, 10), Some(Duration::from_secs(3600))));
        assert_eq!(wait(&gate, 10), Some(60), "a hint is taken, as far as it is short");
    }

    #[test]
    fn a_hint_of_days_is_told_but_probed_every_hour() {
        let mut gate = Gate::default();
        gate.rate_limited(event(0, 0), Some(Duration::from_secs(127 * 3600)));
        assert_eq!(wait(&gate, 60), Some(127 * 3600 - 60));
        assert_eq!(gate.check(second(3599)), gate.check(second(3599)));
        assert!(wait(&gate, 3599).is_some());
        assert_eq!(gate.check(second(3600)), Pass::Probe);
    }

    #[test]
    fn a_shorter_pause_does_not_cut_a_longer_one() {
        let mut gate = Gate::default();
        gate.rest(second(0), Duration::from_secs(100), Why::Exhausted);
        gate.rate_limited(event(0, 1), Some(Duration::from_secs(5)));
        assert_eq!(wait(&gate, 10), Some(90));
    }

    #[test]
    fn a_denial_rests_ten_minutes_then_longer_then_six_hours_at_most() {
        let mut gate = Gate::default();
        let mut now = 0;
        let mut lengths = Vec::new();
        for _ in 0..8 {
            gate.denied(event(now, now));
            lengths.push(wait(&gate, now).unwrap());
            now += wait(&gate, now).unwrap();
        }
        assert_eq!(lengths, [600, 1200, 2400, 4800, 9600, 19200, 21600, 21600]);
    }
}
