//! Where an answer's body ends (RFC 9112, section 6). Without a socket: bytes in, the body's bytes out, so that every cut of
//! the bytes can be tested.

use bytes::BytesMut;

/// Most bytes of chunk extensions and trailers that are skipped in one body.
const MAX_EXTRA: u32 = 16 * 1024;

/// Why a body cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("the platform's chunks are malformed")]
    Chunk,
    #[error("the platform's chunk extensions or trailers are too long")]
    TooMuch,
    #[error("the connection closed before the body was complete")]
    Cut,
}

/// What tells the end of a body, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes are still to come.
    Length(u64),
    /// Chunks, the last one empty.
    Chunked(Chunks),
    /// The body ends with the connection.
    UntilClose,
    /// The body has ended.
    Done,
}

/// Where in the chunks the next byte stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    at: At,
    /// Bytes of extensions and trailers so far.
    extra: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a chunk's size.
    Size {
        value: u64,
        digits: u8,
    },
    /// After the size, up to the line's end.
    Extension {
        size: u64,
    },
    /// At the line feed after a size.
    SizeEnd {
        size: u64,
    },
    /// In a chunk with this many bytes to come.
    Data(u64),
    /// After a chunk's bytes.
    DataReturn,
    DataEnd,
    /// At the beginning of a line after the last chunk.
    TrailerStart,
    Trailer,
    TrailerEnd,
    /// At the very last line feed.
    LastEnd,
}

impl Framing {
    /// A body in chunks.
    pub const fn chunked() -> Self {
        Self::Chunked(Chunks { at: At::Size { value: 0, digits: 0 }, extra: 0 })
    }

    /// A body of `bytes` bytes.
    pub const fn length(bytes: u64) -> Self {
        if bytes == 0 { Self::Done } else { Self::Length(bytes) }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        *self == Self::Done
    }

    /// Takes `input` in: the body's bytes in it go to `out`. Gives how many bytes of `input` belonged to the body; fewer
    /// than all only where the body has ended.
    ///
    /// # Errors
    /// [`Broken`] where the framing is not kept.
    pub fn take(&mut self, input: &[u8], out: &mut BytesMut) -> Result<usize, Broken> {
        match self {
            Self::Done => Ok(0),
            Self::UntilClose => {
                out.extend_from_slice(input);
                Ok(input.len())
            }
            Self::Length(left) => {
                let own = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                out.extend_from_slice(input.get(..own).unwrap_or_default());
                *self = Self::length(left.saturating_sub(own as u64));
                Ok(own)
            }
            Self::Chunked(chunks) => {
                let (taken, is_done) = chunks.take(input, out)?;
                if is_done {
                    *self = Self::Done;
                }
                Ok(taken)
            }
        }
    }

    /// The connection has closed.
    ///
    /// # Errors
    /// [`Broken::Cut`] where more was to come.
    pub fn close(&mut self) -> Result<(), Broken> {
        match self {
            Self::Done => Ok(()),
            Self::UntilClose => {
                *self = Self::Done;
                Ok(())
            }
            Self::Length(_) | Self::Chunked(_) => Err(Broken::Cut),
        }
    }
}

impl Chunks {
    fn take(&mut self, input: &[u8], out: &mut BytesMut) -> Result<(usize, bool), Broken> {
        let mut taken = 0;
        while let Some(&byte) = input.get(taken) {
            if let At::Data(left) = self.at {
                let rest = input.get(taken..).unwrap_or_default();
                let own = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                out.extend_from_slice(rest.get(..own).unwrap_or_default());
                taken += own;
                let left = left.saturating_sub(own as u64);
                self.at = if left == 0 { At::DataReturn } else { At::Data(left) };
                continue;
            }
            taken += 1;
            match self.step(byte)? {
                Some(next) => self.at = next,
                None => return Ok((taken, true)),
            }
        }
        Ok((taken, false))
    }

    /// Where the byte after `byte` stands; `None` at the end. `byte` belongs to no chunk's data.
    fn step(&mut self, byte: u8) -> Result<Option<At>, Broken> {
        Ok(Some(match (self.at, byte) {
            (At::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 16 => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                At::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (At::Size { value, digits: 1.. }, b'\r') => At::SizeEnd { size: value },
            (At::Size { value, digits: 1.. }, b';' | b' ' | b'\t') => At::Extension { size: value },
            (At::Extension { size }, b'\r') => At::SizeEnd { size },
            (At::Extension { size }, 0x20.. | b'\t') => {
                self.spend()?;
                At::Extension { size }
            }
            (At::SizeEnd { size: 0 }, b'\n') => At::TrailerStart,
            (At::SizeEnd { size }, b'\n') => At::Data(size),
            (At::DataReturn, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => At::Size { value: 0, digits: 0 },
            (At::TrailerStart, b'\r') => At::LastEnd,
            (At::Trailer, b'\r') => At::TrailerEnd,
            (At::TrailerEnd, b'\n') => At::TrailerStart,
            (At::TrailerStart | At::Trailer, 0x20.. | b'\t') => {
                self.spend()?;
                At::Trailer
            }
            (At::LastEnd, b'\n') => return Ok(None),
            _ => return Err(Broken::Chunk),
        }))
    }

    fn spend(&mut self) -> Result<(), Broken> {
        self.extra += 1;
        if self.extra > MAX_EXTRA { Err(Broken::TooMuch) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `pieces` one after the other: what came out, and what did not belong to the body.
    fn read(mut framing: Framing, pieces: &[&[u8]]) -> Result<(String, usize, bool), Broken> {
        let mut out = BytesMut::new();
        let mut left = 0;
        for piece in pieces {
            left += piece.len() - framing.take(piece, &mut out)?;
        }
        Ok((String::from_utf8_lossy(&out).into_owned(), left, framing.is_done()))
    }

    const CHUNKS: &[u8] =
        b"5\r\nhello\r\n00b;x=\"y\"\r\n, wide\r\nwor\r\n2 \r\nld\r\n0\r\nx-a: b\r\n\r\nHTTP/1.1";

    #[test]
    fn any_cut_of_chunks_gives_the_same_body() {
        let whole = ("hello, wide\r\nworld".to_owned(), 8, true);
        for cut in 0..=CHUNKS.len() {
            let (left, right) = CHUNKS.split_at(cut);
            assert_eq!(read(Framing::chunked(), &[left, right]), Ok(whole.clone()), "cut at {cut}");
        }
        let single: Vec<&[u8]> = CHUNKS.chunks(1).collect();
        assert_eq!(read(Framing::chunked(), &single), Ok(whole));
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for bad in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "0x5\r\n",
            ";\r\n",
            "5\n",
            "5\r\r",
            "5\r\nhello\n",
            "5\r\nhello!\r\n",
            "11111111111111111\r\n",
            "0\r\n\n",
            "0\r\nx: y\n",
            "5;\n\r\n",
            "1;\u{1}\r\n",
        ] {
            assert_eq!(read(Framing::chunked(), &[bad.as_bytes()]), Err(Broken::Chunk), "{bad:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        for opening in ["1;", "0\r\nx: "] {
            let long = format!("{opening}{}", "y".repeat(20_000));
            assert_eq!(read(Framing::chunked(), &[long.as_bytes()]), Err(Broken::TooMuch));
        }
    }

    #[test]
    fn the_largest_size_does_not_overflow() {
        let (text, left, done) = read(Framing::chunked(), &[b"ffffffffffffffff\r\nab"]).expect("fine");
        assert_eq!((text.as_str(), left, done), ("ab", 0, false));
    }

    #[test]
    fn a_length_takes_its_bytes_and_no_more() {
        assert_eq!(read(Framing::length(3), &[b"ab", b"cd"]), Ok(("abc".to_owned(), 1, true)));
        assert_eq!(read(Framing::length(0), &[b"ab"]), Ok((String::new(), 2, true)));
    }

    #[test]
    fn only_a_body_without_another_end_may_end_with_the_connection() {
        assert_eq!(Framing::UntilClose.close(), Ok(()));
        assert_eq!(Framing::Done.close(), Ok(()));
        assert_eq!(Framing::length(1).close(), Err(Broken::Cut));
        assert_eq!(Framing::chunked().close(), Err(Broken::Cut));
    }
}
