//! Server-sent events, without any input or output of its own. Why sans-IO: an upstream may cut its bytes anywhere, and
//! only a decoder that is fed bytes can be shown to give the same events for every cut (see the tests).
//!
//! Follows the WHATWG event stream grammar: LF, CRLF and CR line ends, a leading byte order mark, multi-line `data`,
//! comments, fields without a space after the colon. Lines are split on CR and LF alone (never on U+2028).

use bytes::{Buf, BytesMut};
use memchr::memchr2;

/// One dispatched event, borrowed from the decoder.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Event<'a> {
    /// The `event:` field; empty where there was none.
    pub name: &'a [u8],
    /// The `data:` lines, joined with LF.
    pub data: &'a [u8],
}

impl Event<'_> {
    /// OpenAI's end mark.
    pub fn is_done(&self) -> bool {
        self.data.starts_with(b"[DONE]")
    }
}

/// Why a stream cannot be decoded any further.
#[derive(Debug, PartialEq, Eq, Clone, Copy, thiserror::Error)]
pub enum Broken {
    /// One event (or one line) is larger than the decoder may hold; the limit in bytes.
    #[error("an event of the stream is larger than {0} bytes")]
    TooLong(usize),
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Above this many bytes an empty buffer is given back rather than kept for the stream's life.
const KEEP_CAPACITY: usize = 16 * 1024;

/// Incremental decoder. Feed it with [`Decoder::feed`], then call [`Decoder::next`] until it gives none.
#[derive(Debug)]
pub struct Decoder {
    input: BytesMut,
    /// Bytes at the front of `input` known to hold no line end.
    searched: usize,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The event in `name` and `data` has been handed out: the next call starts afresh.
    handed_out: bool,
    /// The last line ended in CR: an LF that follows belongs to it.
    after_cr: bool,
    past_byte_order_mark: bool,
    limit: usize,
}

impl Decoder {
    /// A decoder that holds at most `limit` bytes of one event.
    pub fn new(limit: usize) -> Self {
        Self {
            input: BytesMut::new(),
            searched: 0,
            name: Vec::new(),
            data: Vec::new(),
            has_data: false,
            handed_out: false,
            after_cr: false,
            past_byte_order_mark: false,
            limit,
        }
    }

    /// Where the network may write by itself, at the end.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Takes in what the network gave.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next complete event, if one has arrived. Events without data are dropped, as browsers do.
    ///
    /// # Errors
    /// [`Broken::TooLong`] where one event or line exceeds the limit.
    #[expect(clippy::should_implement_trait, reason = "it lends from itself, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Event<'_>>, Broken> {
        if std::mem::take(&mut self.handed_out) {
            self.forget_event();
        }
        while let Some((line, total)) = self.find_line() {
            if line == 0 {
                self.input.advance(total);
                if self.has_data {
                    self.handed_out = true;
                    return Ok(Some(Event { name: &self.name, data: &self.data }));
                }
                self.name.clear();
                continue;
            }
            let bytes = self.input.split_to(total);
            self.take_field(bytes.get(..line).unwrap_or_default());
            if self.data.len() > self.limit {
                return Err(Broken::TooLong(self.limit));
            }
        }
        if self.input.len() > self.limit {
            return Err(Broken::TooLong(self.limit));
        }
        if self.input.is_empty() && self.input.capacity() > KEEP_CAPACITY {
            self.input = BytesMut::new();
        }
        Ok(None)
    }

    /// Whether bytes of an unfinished event are held: a stream that ends now was cut in the middle of one.
    pub fn is_mid_event(&self) -> bool {
        !self.input.is_empty() || (self.has_data && !self.handed_out)
    }

    fn forget_event(&mut self) {
        self.name.clear();
        self.has_data = false;
        if self.data.capacity() > KEEP_CAPACITY {
            self.data = Vec::new();
        } else {
            self.data.clear();
        }
    }

    /// Finds the next line: its length, and its length with its end.
    fn find_line(&mut self) -> Option<(usize, usize)> {
        if !self.past_byte_order_mark {
            if self.input.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&self.input) {
                return None;
            }
            self.past_byte_order_mark = true;
            if self.input.starts_with(BYTE_ORDER_MARK) {
                self.input.advance(BYTE_ORDER_MARK.len());
            }
        }
        if self.after_cr && !self.input.is_empty() {
            self.after_cr = false;
            if self.input.first() == Some(&b'\n') {
                self.input.advance(1);
            }
        }
        let fresh = self.input.get(self.searched..).unwrap_or_default();
        let Some(offset) = memchr2(b'\n', b'\r', fresh) else {
            self.searched = self.input.len();
            return None;
        };
        let end = self.searched + offset;
        self.after_cr = self.input.get(end) == Some(&b'\r');
        self.searched = 0;
        Some((end, end + 1))
    }

    fn take_field(&mut self, line: &[u8]) {
        let (field, value) = match memchr::memchr(b':', line) {
            Some(0) => return,
            Some(colon) => line.split_at(colon),
            None => (line, &b":"[..]),
        };
        let value = value.strip_prefix(b":").unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Plain = (String, String);

    fn events(decoder: &mut Decoder, pieces: &[&[u8]]) -> Vec<Plain> {
        let mut all = Vec::new();
        for piece in pieces {
            decoder.feed(piece);
            while let Some(event) = decoder.next().expect("within the limit") {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                all.push((text(event.name), text(event.data)));
            }
        }
        all
    }

    fn plain(name: &str, data: &str) -> Plain {
        (name.to_owned(), data.to_owned())
    }

    #[test]
    fn any_cut_gives_the_same_events() {
        let stream = "\u{FEFF}: hello\r\ndata:{\"a\":1}\r\n\r\nevent: ping\ndata: x\ndata:  y\n\nid: 7\nretry: 5\n\r\
                      event:result\rdata: \u{2028}é\r\rdata\n\ndata: [DONE]\n\n";
        let whole = events(&mut Decoder::new(1000), &[stream.as_bytes()]);
        assert_eq!(
            whole,
            [
                plain("", "{\"a\":1}"),
                plain("ping", "x\n y"),
                plain("result", "\u{2028}é"),
                plain("", ""),
                plain("", "[DONE]"),
            ]
        );
        for cut in 0..=stream.len() {
            let (left, right) = stream.as_bytes().split_at(cut);
            assert_eq!(events(&mut Decoder::new(1000), &[left, right]), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(events(&mut Decoder::new(1000), &single), whole);
    }

    #[test]
    fn an_event_over_the_limit_is_refused_however_it_arrives() {
        let mut decoder = Decoder::new(100);
        decoder.feed(&[b'x'; 101]);
        assert_eq!(decoder.next(), Err(Broken::TooLong(100)));

        let mut decoder = Decoder::new(100);
        for _ in 0..20 {
            decoder.feed(b"data: 0123456789\n");
        }
        assert_eq!(decoder.next(), Err(Broken::TooLong(100)));
    }

    #[test]
    fn knows_when_it_was_cut_in_the_middle() {
        let mut decoder = Decoder::new(100);
        assert_eq!(events(&mut decoder, &[b"data: a\n\n"]).len(), 1);
        assert!(!decoder.is_mid_event());
        decoder.feed(b"data: b\n");
        assert_eq!(decoder.next(), Ok(None));
        assert!(decoder.is_mid_event());
    }
}
