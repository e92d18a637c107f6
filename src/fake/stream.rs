//! The bytes out, at the pace and with the breaks that were asked for. Why one body type: pacing, cutting and counting
//! must be the same for every wire, and nothing but a poll of this body may decide what was "sent".

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame as HttpFrame, SizeHint};
use tokio::time::Sleep;

use crate::fake::counters::Exchange;
use crate::fake::fault::Directives;

/// Time for what was written to reach the wire before the connection is cut.
const LAST_BREATH: Duration = Duration::from_millis(5);

/// Time between the pieces of `@chunk`.
const APART: Duration = Duration::from_millis(1);

/// What a piece of a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Opening, content, comments.
    Part,
    /// Says why the answer ended.
    Finish,
    /// Usage alone.
    Usage,
    /// The end mark.
    End,
}

/// One event, framed, with the answer's tokens that it carries.
#[derive(Clone, Debug)]
pub struct Frame {
    pub bytes: Bytes,
    pub kind: Kind,
    pub tokens: u64,
}

/// A stream under construction: one buffer, cut into events at the end.
#[derive(Default)]
pub struct Roll {
    text: String,
    marks: Vec<(usize, Kind, u64)>,
}

impl Roll {
    /// Adds one event: `write` appends its bytes.
    pub fn add(&mut self, kind: Kind, tokens: u64, write: impl FnOnce(&mut String)) {
        write(&mut self.text);
        self.marks.push((self.text.len(), kind, tokens));
    }

    /// The events.
    pub fn cut(self) -> Vec<Frame> {
        let all = Bytes::from(self.text);
        let mut start = 0;
        let frames = self.marks.into_iter().map(|(end, kind, tokens)| {
            let bytes = all.slice(start..end);
            start = end;
            Frame { bytes, kind, tokens }
        });
        frames.collect()
    }
}

/// Applies the directives that change what a stream says (not when it says it).
pub fn bend(frames: &mut Vec<Frame>, asked: &Directives, ping: &Bytes, error: Option<Bytes>) {
    if asked.no_finish {
        frames.retain(|frame| frame.kind != Kind::Finish);
    }
    if asked.no_done {
        frames.retain(|frame| frame.kind != Kind::End);
    }
    if let Some(error) = error {
        // In mid-stream is where something has been said.
        let said = frames.iter().position(|frame| frame.tokens > 0).map_or(3, |at| at + 1);
        frames.truncate(if asked.inband.is_some() { 0 } else { said.max(3) });
        frames.push(Frame { bytes: error, kind: Kind::Part, tokens: 0 });
    }
    if asked.ping {
        let comment = Frame { bytes: ping.clone(), kind: Kind::Part, tokens: 0 };
        *frames = frames.drain(..).flat_map(|frame| [comment.clone(), frame]).collect();
    }
    if asked.crlf {
        for frame in frames.iter_mut() {
            frame.bytes = crlf(&frame.bytes);
        }
    }
}

/// Line ends of a frame as CR LF. JSON escapes its own, so every LF is framing.
pub fn crlf(bytes: &Bytes) -> Bytes {
    let mut out = Vec::with_capacity(bytes.len() + 8);
    let mut last = 0;
    for &byte in bytes {
        if byte == b'\n' && last != b'\r' {
            out.push(b'\r');
        }
        out.push(byte);
        last = byte;
    }
    Bytes::from(out)
}

/// What is still to be written.
enum Source {
    Frames(VecDeque<Frame>),
    /// The same bytes again and again, this many times.
    Repeat(Bytes, u64),
}

/// A response body.
pub struct Body {
    source: Source,
    /// How the body ends: at its end, or with the connection.
    cut: Option<usize>,
    /// Whether half of the event after the last goes out before the cut.
    torn: bool,
    sent: usize,
    first: Duration,
    gap: Duration,
    chunk: Option<usize>,
    /// The event that is being written.
    rest: Bytes,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whether the next piece waits for its own write.
    apart: bool,
    length: Option<u64>,
    exchange: Option<Exchange>,
}

impl Body {
    /// A whole body, of known length.
    pub fn whole(bytes: impl Into<Bytes>, tokens: u64, exchange: Option<Exchange>) -> Self {
        let bytes = bytes.into();
        let length = Some(bytes.len() as u64);
        let frames = match bytes.is_empty() {
            true => VecDeque::new(),
            false => VecDeque::from([Frame { bytes, kind: Kind::Part, tokens }]),
        };
        Self { length, ..Self::new(Source::Frames(frames), exchange) }
    }

    /// A stream of events.
    pub fn events(frames: Vec<Frame>, exchange: Option<Exchange>) -> Self {
        Self::new(Source::Frames(frames.into()), exchange)
    }

    /// `bytes`, `times` times.
    pub fn repeat(bytes: Bytes, times: u64, exchange: Option<Exchange>) -> Self {
        Self::new(Source::Repeat(bytes, times), exchange)
    }

    /// Very many zeros, gzipped: 64 MiB of blocks at most, 10 GiB unpacked.
    pub fn bomb(head: Bytes, block: Bytes, exchange: Option<Exchange>) -> Self {
        let times = (64 << 20) / block.len().max(1) as u64;
        Self { rest: head, ..Self::repeat(block, times, exchange) }
    }

    fn new(source: Source, exchange: Option<Exchange>) -> Self {
        Self {
            source,
            cut: None,
            torn: false,
            sent: 0,
            first: Duration::ZERO,
            gap: Duration::ZERO,
            chunk: None,
            rest: Bytes::new(),
            sleep: None,
            apart: false,
            length: None,
            exchange,
        }
    }

    /// With the pace and the breaks that were asked for.
    pub fn paced(mut self, asked: &Directives) -> Self {
        self.cut = asked.cut.or(asked.tear);
        self.torn = asked.tear.is_some();
        self.first = asked.first;
        self.gap = asked.gap;
        self.chunk = asked.chunk;
        self
    }

    /// Waits for the pause before the next event.
    fn pause(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let pause = if self.sent == 0 { self.first } else { self.gap };
        if pause > Duration::ZERO {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            ready!(sleep.as_mut().poll(context));
            self.sleep = None;
        }
        Poll::Ready(())
    }

    fn next_event(&mut self) -> Option<Frame> {
        match &mut self.source {
            Source::Frames(frames) => frames.pop_front(),
            Source::Repeat(bytes, times) => {
                *times = times.checked_sub(1)?;
                Some(Frame { bytes: bytes.clone(), kind: Kind::Part, tokens: 0 })
            }
        }
    }

    fn empty(&self) -> bool {
        match &self.source {
            Source::Frames(frames) => frames.is_empty(),
            Source::Repeat(_, times) => *times == 0,
        }
    }

    /// Writes a piece of the event at hand.
    fn piece(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        if self.apart {
            // Without a pause the kernel would hand several writes to one read.
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(APART)));
            ready!(sleep.as_mut().poll(context));
            self.sleep = None;
            self.apart = false;
        }
        let size = self.chunk.unwrap_or(usize::MAX).min(self.rest.len());
        self.apart = self.chunk.is_some();
        Poll::Ready(self.rest.split_to(size))
    }

    /// The platform has said all that it will say.
    fn end(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.finish();
        }
        self.exchange = None;
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<HttpFrame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            let over = this.cut.is_some_and(|after| this.sent >= after) && !this.empty();
            if over && !this.torn {
                let dying = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_BREATH)));
                ready!(dying.as_mut().poll(context));
                this.end();
                return Poll::Ready(Some(Err(io::Error::other("cut as asked"))));
            }
            if this.empty() {
                this.end();
                return Poll::Ready(None);
            }
            ready!(this.pause(context));
            let Some(frame) = this.next_event() else { return Poll::Ready(None) };
            this.sent += 1;
            if let Some(exchange) = &this.exchange {
                exchange.served(0, frame.tokens);
            }
            this.rest = frame.bytes;
            if over {
                this.torn = false;
                this.rest.truncate(this.rest.len() / 2);
            }
        }
        let piece = ready!(this.piece(context));
        if this.rest.is_empty() && this.empty() {
            this.end();
        }
        Poll::Ready(Some(Ok(HttpFrame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) if self.sent == 0 => SizeHint::with_exact(length),
            _ => SizeHint::default(),
        }
    }
}

/// Gzip of zeros without end: a header, and a block whose every 13 bytes unpack to 2,064.
pub fn gzip_bomb() -> (Bytes, Bytes) {
    let mut bits = Bits::default();
    bits.low_first(0b011, 3); // last block, fixed codes
    bits.high_first(0b0011_0000, 8); // one literal zero
    while !bits.used.is_multiple_of(8) {
        bits.match_zeros();
    }
    let mut head = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    head.append(&mut bits.bytes);
    let mut block = Bits::default();
    for _ in 0..8 * 512 {
        block.match_zeros();
    }
    (Bytes::from(head), Bytes::from(block.bytes))
}

/// Bits in deflate's order.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    fn put(&mut self, bit: bool) {
        if self.used.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.used % 8);
        }
        self.used += 1;
    }

    fn low_first(&mut self, value: u32, count: u32) {
        (0..count).for_each(|at| self.put(value >> at & 1 == 1));
    }

    fn high_first(&mut self, value: u32, count: u32) {
        (0..count).rev().for_each(|at| self.put(value >> at & 1 == 1));
    }

    /// "258 bytes, from one back": length code 285, distance code 0.
    fn match_zeros(&mut self) {
        self.high_first(0b1100_0101, 8);
        self.high_first(0, 5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str, kind: Kind) -> Frame {
        Frame { bytes: Bytes::copy_from_slice(text.as_bytes()), kind, tokens: 1 }
    }

    #[test]
    fn directives_bend_a_stream() {
        let whole =
            || vec![frame("a\n\n", Kind::Part), frame("f\n\n", Kind::Finish), frame("e\n\n", Kind::End)];
        let bent = |asked: Directives, error: Option<Bytes>| {
            let mut frames = whole();
            bend(&mut frames, &asked, &Bytes::from_static(b":\n\n"), error);
            frames.iter().map(|frame| String::from_utf8_lossy(&frame.bytes).into_owned()).collect::<String>()
        };
        assert_eq!(bent(Directives { no_done: true, ..Directives::default() }, None), "a\n\nf\n\n");
        assert_eq!(bent(Directives { no_finish: true, ..Directives::default() }, None), "a\n\ne\n\n");
        assert_eq!(
            bent(Directives { crlf: true, ..Directives::default() }, None),
            "a\r\n\r\nf\r\n\r\ne\r\n\r\n"
        );
        let inband =
            Directives { inband: Some(crate::fake::fault::Class::Overloaded), ..Directives::default() };
        assert_eq!(bent(inband, Some(Bytes::from_static(b"x"))), "x");
    }
}
