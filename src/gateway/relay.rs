//! The stream out. Why a body that polls, and no task or channel: the caller's connection asks for bytes, this asks the
//! platform's connection, in one task; a caller that reads slowly slows the platform down by itself, and a caller that
//! goes away drops this, which closes the platform's connection and settles.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Sleep;

use super::Gateway;
use super::recall::Remembering;
use super::settings::{Heartbeat, OnBudget, Sizes, Timeouts};
use super::ticket::{BUDGET, Budget, Delivered, OK, Outcome, Ticket};
use crate::api::piece::Usage;
use crate::api::writer::{DONE, KEEP_ALIVE, Writer};
use crate::clock::Moment;
use crate::dialect::splice::Splicer;
use crate::dialect::{Decoder, Ending, Failure};
use crate::fault::{Fault, Kind};
use crate::sse;
use crate::upstream::source::Source;

/// How events become the caller's stream.
#[derive(Debug)]
pub enum Flow {
    /// Passed on as they come.
    Splice(Box<Splicer>),
    /// Understood and written anew.
    Translate(Box<(Decoder, Writer)>),
}

impl Flow {
    /// Takes one event. Output goes to `out`.
    ///
    /// # Errors
    /// Where the platform reported an error or left its wire.
    pub fn push(
        &mut self,
        event: sse::Event<'_>,
        gateway: &Gateway,
        out: &mut BytesMut,
    ) -> Result<(), Failure> {
        match self {
            Flow::Splice(splicer) => splicer.push(event, out),
            Flow::Translate(both) => {
                let (decoder, writer) = &mut **both;
                let pushed = decoder.push(event, &mut Remembering { memory: &gateway.recall, inner: writer });
                out.unsplit(writer.take());
                pushed
            }
        }
    }

    /// Whether the platform's own end mark has come.
    pub fn is_done(&self) -> bool {
        match self {
            Flow::Splice(splicer) => splicer.is_done(),
            Flow::Translate(both) => both.0.is_done(),
        }
    }

    /// Whether the caller has the whole answer: every choice has been finished, whatever the platform still owes.
    fn is_told(&self) -> bool {
        match self {
            Flow::Splice(splicer) => splicer.ending() == Ending::Complete,
            Flow::Translate(both) => both.1.is_finished(),
        }
    }

    /// Bytes of text so far, about.
    fn text_bytes(&self) -> u64 {
        match self {
            Flow::Splice(splicer) => splicer.text_bytes(),
            Flow::Translate(both) => both.1.text_bytes(),
        }
    }

    fn delivered(&self) -> Delivered {
        match self {
            Flow::Splice(splicer) => Delivered {
                usage: splicer.usage(),
                bytes: splicer.text_bytes(),
                bytes_since_usage: splicer.bytes_since_usage(),
            },
            Flow::Translate(both) => Delivered {
                usage: both.1.usage(),
                bytes: both.1.text_bytes(),
                bytes_since_usage: both.1.bytes_since_usage(),
            },
        }
    }

    /// Ends the answer here, though the platform would go on, in `length`. `told` is what the caller is told of tokens.
    fn cut(&mut self, told: Usage, out: &mut BytesMut) {
        match self {
            Flow::Splice(splicer) => splicer.cut(told, out),
            Flow::Translate(both) => {
                both.1.cut(told);
                out.unsplit(both.1.take());
            }
        }
    }

    /// The platform's bytes have ended: writes what is still owed and says whether the answer is whole. `guess` is told to
    /// a caller who asked for usage where the platform named none.
    fn finish(&mut self, gateway: &Gateway, guess: Usage, out: &mut BytesMut) -> Ending {
        match self {
            Flow::Splice(splicer) => {
                let ending = splicer.ending();
                if ending == Ending::Complete {
                    splicer.end(guess, out);
                }
                ending
            }
            Flow::Translate(both) => {
                let (decoder, writer) = &mut **both;
                let ending = decoder.finish(&mut Remembering { memory: &gateway.recall, inner: writer });
                if ending == Ending::Complete {
                    writer.end(guess);
                }
                out.unsplit(writer.take());
                ending
            }
        }
    }
}

/// What the relay needs to know of its settings.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub timeouts: Timeouts,
    pub sizes: Sizes,
    pub heartbeat: Heartbeat,
    pub on_budget: OnBudget,
}

/// One stream on its way to a caller.
#[derive(Debug)]
pub struct Relay {
    gateway: Arc<Gateway>,
    /// The platform's answer; gone when the stream is over.
    source: Option<Source>,
    sse: sse::Decoder,
    flow: Flow,
    out: BytesMut,
    ticket: Ticket,
    manner: Manner,
    /// For a chunk that keeps the connection awake, where the settings want one.
    pulse: Option<Bytes>,
    began: Moment,
    last_event: Option<Moment>,
    last_sent: Moment,
    taken_bytes: u64,
    /// From so many bytes of text on, more tokens must be set aside.
    budget_bytes: u64,
    /// Since when there are none to be had: the platform is not read meanwhile.
    dry_since: Option<Moment>,
    timer: Pin<Box<Sleep>>,
    over: Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>,
    /// Whom timer and shutdown wake at present.
    waker: Option<Waker>,
}

/// What an attempt hands over once its first event has been judged.
#[derive(Debug)]
pub struct Begun {
    pub source: Source,
    pub sse: sse::Decoder,
    pub flow: Flow,
    /// What the first events have already written, or a heartbeat.
    pub out: BytesMut,
    /// When the platform's answer began.
    pub asked_at: Moment,
    /// No event has come yet: what is written is no content.
    pub is_silent: bool,
}

impl Relay {
    /// Relays what `begun` began.
    pub fn new(
        gateway: Arc<Gateway>,
        begun: Begun,
        ticket: Ticket,
        manner: Manner,
        pulse: Option<Bytes>,
    ) -> Self {
        gateway.metrics.open_streams.inc();
        let now = gateway.clock.now();
        let Begun { source, sse, flow, out, asked_at, is_silent } = begun;
        let mut relay = Self {
            over: Box::pin(gateway.drain.over()),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            gateway,
            source: Some(source),
            sse,
            flow,
            out,
            ticket,
            manner,
            pulse,
            began: asked_at,
            last_event: (!is_silent).then_some(now),
            last_sent: now,
            taken_bytes: 0,
            budget_bytes: 0,
            dry_since: None,
            waker: None,
        };
        relay.mind_the_budget();
        if !is_silent {
            relay.ticket.note_first_token();
        }
        relay.wind(now);
        // Events that came together with the first one.
        relay.take_events();
        relay
    }

    /// The next bytes for the caller; `None` at the end.
    pub fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        // A panic would take the whole connection along, and the caller could not tell it from a bad network.
        let polled = catch_unwind(AssertUnwindSafe(|| self.poll_on(context)));
        polled.unwrap_or_else(|_| {
            self.gateway.metrics.panics.inc();
            // Perhaps half an event.
            self.out.clear();
            self.fail(&Fault::gateway(Kind::Internal, "The gateway failed on this request."));
            Poll::Ready(Some(self.out.split().freeze()))
        })
    }

    fn poll_on(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if !self.out.is_empty() {
                self.last_sent = self.gateway.clock.now();
                return Poll::Ready(Some(self.out.split().freeze()));
            }
            if self.dry_since.is_some() {
                if self.wait_for_tokens(context) {
                    continue;
                }
                return Poll::Pending;
            }
            let Some(source) = &mut self.source else { return Poll::Ready(None) };
            let before = self.sse.input().len();
            match source.poll_into(context, self.sse.input()) {
                Poll::Ready(Some(Ok(()))) => {
                    let after = self.sse.input().len();
                    self.take_bytes(after.saturating_sub(before) as u64);
                }
                Poll::Ready(None) => self.end_of_bytes(None),
                Poll::Ready(Some(Err(error))) => self.end_of_bytes(Some(error)),
                Poll::Pending => {
                    if !self.mind_the_time(context) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Whether everything has been handed out: lets the connection send the last bytes and the end in one write.
    pub fn is_over(&self) -> bool {
        self.source.is_none() && self.out.is_empty()
    }

    /// So many bytes have come into the decoder.
    fn take_bytes(&mut self, count: u64) {
        let now = self.gateway.clock.now();
        if let Some(last) = self.last_event.replace(now) {
            self.gateway.metrics.event_gap.observe(now.since(last).as_secs_f64());
        }
        self.taken_bytes += count;
        self.gateway.rehearsal.panic_in("stream", self.ticket.route());
        self.take_events();
        if self.source.is_none() {
            return;
        }
        if self.taken_bytes > self.manner.sizes.answer as u64 {
            let sentence = "The platform's answer is larger than this gateway relays.";
            self.fail(&Fault::upstream(Kind::UpstreamIncomplete, sentence));
        } else if now.since(self.began) >= self.manner.timeouts.total {
            // Asked here too: a platform that never pauses leaves the timer no turn.
            self.fail(&too_slow());
        }
    }

    fn take_events(&mut self) {
        let before = self.out.len();
        while self.source.is_some() && self.dry_since.is_none() && !self.flow.is_done() {
            let event = match self.sse.next() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(broken) => return self.fail_upstream(Failure::Malformed(broken.to_string())),
            };
            if let Err(failure) = self.flow.push(event, &self.gateway, &mut self.out) {
                // What fails behind the last word takes nothing from the answer: the caller has all of it.
                return if self.flow.is_told() { self.complete() } else { self.fail_upstream(failure) };
            }
            if self.flow.text_bytes() >= self.budget_bytes {
                self.mind_the_budget();
            }
        }
        if self.out.len() > before {
            self.ticket.note_first_token();
        }
        if self.flow.is_done() && self.source.is_some() {
            self.complete();
        }
    }

    /// The stream has used up what is set aside for it, or nearly: sets aside more, or ends it.
    fn mind_the_budget(&mut self) {
        // All of it has been said, and what is still to come is the platform's word on what it cost.
        if self.flow.is_told() || self.flow.is_done() {
            self.budget_bytes = u64::MAX;
            return;
        }
        match self.ticket.cover(self.flow.delivered()) {
            Budget::Until(bytes) => self.budget_bytes = bytes,
            Budget::Dry(_) => self.dry_since = Some(self.gateway.clock.now()),
        }
    }

    /// Tries again whether tokens can be had, for a moment: they were asked for, and may be on their way. False where there is
    /// nothing to do but wait.
    fn wait_for_tokens(&mut self, context: &mut Context<'_>) -> bool {
        let Some(since) = self.dry_since else { return true };
        let now = self.gateway.clock.now();
        match self.ticket.cover(self.flow.delivered()) {
            Budget::Dry(_) if now.since(since) < DRY_PATIENCE => {
                self.timer.as_mut().reset(tokio::time::Instant::now() + DRY_TURN);
                return Future::poll(self.timer.as_mut(), context).is_ready();
            }
            Budget::Dry(side) => self.stop(side),
            Budget::Until(bytes) => self.budget_bytes = bytes,
        }
        self.dry_since = None;
        // The timer has been used for this: whoever minds the time next winds it up again from the start.
        self.waker = None;
        self.wind(now);
        self.take_events();
        true
    }

    /// Ends the stream for want of tokens, as the settings want it. The platform's connection closes with that.
    fn stop(&mut self, side: &'static str) {
        self.ticket.note_dry(side);
        if self.manner.on_budget == OnBudget::Error {
            let sentence = "The answer was cut: the quota that it draws on is used up.";
            return self.fail_as(&Fault::client(Kind::QuotaExhausted, sentence), BUDGET);
        }
        let delivered = self.flow.delivered();
        let (told, _) = self.ticket.measure(delivered, false);
        self.flow.cut(told, &mut self.out);
        self.ticket.close(BUDGET, delivered);
        self.source = None;
    }

    fn end_of_bytes(&mut self, error: Option<String>) {
        if let Some(error) = error {
            tracing::debug!(id = %self.ticket.id(), %error, "the platform's stream broke");
        }
        self.complete();
    }

    /// The platform is done, or its bytes are: ends the stream as it deserves.
    fn complete(&mut self) {
        let (guess, _) = self.ticket.measure(Delivered { usage: None, ..self.flow.delivered() }, false);
        if self.flow.finish(&self.gateway, guess, &mut self.out) == Ending::Cut {
            let sentence = "The platform's stream ended before the answer was complete.";
            return self.fail(&Fault::upstream(Kind::UpstreamIncomplete, sentence));
        }
        self.ticket.close(OK, self.flow.delivered());
        if let Some(source) = self.source.take() {
            source.recycle(&self.gateway.upstream);
        }
    }

    fn fail_upstream(&mut self, failure: Failure) {
        let fault = match failure {
            Failure::Malformed(why) => {
                tracing::warn!(id = %self.ticket.id(), %why, "a platform left its wire in mid-stream");
                Fault::upstream(
                    Kind::UpstreamIncomplete,
                    "The platform's stream could not be read any further.",
                )
            }
            Failure::Reported(_) => {
                Fault::upstream(Kind::UpstreamIncomplete, "The platform reported an error in mid-stream.")
            }
        };
        self.fail(&fault);
    }

    /// Ends the stream with an in-band error, and no finish reason of ours.
    fn fail(&mut self, fault: &Fault) {
        self.fail_as(fault, fault.kind().row().label);
    }

    fn fail_as(&mut self, fault: &Fault, outcome: Outcome) {
        self.out.extend_from_slice(b"data: ");
        self.out.extend_from_slice(fault.body().as_bytes());
        self.out.extend_from_slice(b"\n\n");
        self.out.extend_from_slice(DONE);
        self.ticket.close(outcome, self.flow.delivered());
        self.source = None;
    }

    /// Looks at the clocks while the platform is silent. True where that wrote something.
    fn mind_the_time(&mut self, context: &mut Context<'_>) -> bool {
        let known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        if !known {
            self.waker = Some(context.waker().clone());
            if Future::poll(self.over.as_mut(), context).is_ready() {
                self.shut_down();
                return true;
            }
        } else if self.gateway.drain.is_over() {
            self.shut_down();
            return true;
        }
        if known && !self.timer.is_elapsed() {
            return false;
        }
        while Future::poll(self.timer.as_mut(), context).is_ready() {
            if self.strike() {
                return true;
            }
        }
        false
    }

    fn shut_down(&mut self) {
        let sentence = "The gateway is shutting down; the answer is not complete.";
        self.fail(&Fault::gateway(Kind::Shutdown, sentence));
    }

    /// The timer has struck: ends what has waited too long, keeps awake what has been quiet, and winds the timer.
    fn strike(&mut self) -> bool {
        let now = self.gateway.clock.now();
        let Timeouts { total, heartbeat, .. } = self.manner.timeouts;
        let (silent_since, patience) = self.silence();
        if now.since(silent_since) >= patience || now.since(self.began) >= total {
            self.fail(&too_slow());
            return true;
        }
        let beats = now.since(self.last_sent) >= heartbeat;
        if beats {
            match (&self.pulse, self.manner.heartbeat) {
                (Some(pulse), Heartbeat::Data) => self.out.extend_from_slice(pulse),
                _ => self.out.extend_from_slice(KEEP_ALIVE),
            }
            self.last_sent = now;
        }
        self.wind(now);
        beats
    }

    /// Since when the platform is silent, and how long it may be.
    fn silence(&self) -> (Moment, Duration) {
        let Timeouts { first_token, idle, .. } = self.manner.timeouts;
        self.last_event.map_or((self.began, first_token), |last| (last, idle))
    }

    /// Winds the timer for whatever is due first.
    fn wind(&mut self, now: Moment) {
        let Timeouts { total, heartbeat, .. } = self.manner.timeouts;
        let (silent_since, patience) = self.silence();
        let next = heartbeat
            .saturating_sub(now.since(self.last_sent))
            .min(patience.saturating_sub(now.since(silent_since)))
            .min(total.saturating_sub(now.since(self.began)))
            .max(Duration::from_millis(1));
        self.timer.as_mut().reset(tokio::time::Instant::now() + next);
    }
}

/// How long a stream is held up that has run out of tokens, and how often it looks for some meanwhile.
const DRY_PATIENCE: Duration = Duration::from_millis(500);
const DRY_TURN: Duration = Duration::from_millis(10);

fn too_slow() -> Fault {
    Fault::upstream(Kind::UpstreamTimeout, "The platform took too long to go on with its answer.")
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.gateway.metrics.open_streams.dec();
        // Still reading: the caller has gone. What was delivered is settled, the platform's connection closes with us.
        if self.source.is_some() {
            let label = Kind::ClientGone.row().label;
            self.ticket.close(label, self.flow.delivered());
        }
    }
}
