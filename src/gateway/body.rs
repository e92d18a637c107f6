//! Reading a request's body: bounded in size, in time and over all requests together. Why all three: one caller can send
//! too much, one can send too slowly, and many can do neither and still fill the memory (R20).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::Gateway;
use super::settings::{Sizes, Timeouts};
use crate::fault::{Fault, Kind};

/// Bytes taken from the budget of all requests; given back when dropped.
#[derive(Debug)]
pub struct Held {
    gateway: Arc<Gateway>,
    bytes: usize,
}

impl Held {
    fn grow(&mut self, by: usize, limit: usize) -> Result<(), Fault> {
        let before = self.gateway.body_bytes.fetch_add(by, Ordering::Relaxed);
        self.bytes += by;
        self.gateway.metrics.body_bytes.add(i64::try_from(by).unwrap_or(0));
        if before + by > limit {
            let wait = Duration::from_secs(1);
            let sentence = "The gateway holds too many large requests at once. Try again shortly.";
            return Err(Fault::gateway(Kind::Overloaded, sentence).retry_after(wait));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gateway.body_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.gateway.metrics.body_bytes.sub(i64::try_from(self.bytes).unwrap_or(0));
    }
}

/// Refuses what can be refused by the head alone.
pub fn check_head(headers: &HeaderMap, limit: usize) -> Result<(), Fault> {
    let encoding = headers.get(http::header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes);
    if !matches!(encoding, None | Some(b"identity" | b"")) {
        return Err(Fault::client(Kind::UnsupportedMedia, "Compressed request bodies are not accepted."));
    }
    let length = headers.get(http::header::CONTENT_LENGTH);
    let length: Option<u64> = length.and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        Some(length) if length > limit as u64 => Err(too_large(limit)),
        _ => Ok(()),
    }
}

fn too_large(limit: usize) -> Fault {
    Fault::client(Kind::TooLarge, format!("The request body is larger than the limit of {limit} bytes."))
}

/// A body must come at least this fast, in bytes a second, from its second piece on and after one pause: without it a byte
/// a minute, or frames without a byte, would hold a request for ever.
const SLOWEST: u64 = 1024;

/// Bodies up to this many bytes are copied out of the connection's read buffer.
const SMALL: usize = 8 * 1024;

/// `bytes` without what they are a part of: while a request waits for its platform, its connection would otherwise need a
/// second read buffer, and to copy a small body costs less than that.
fn unpinned(bytes: Bytes) -> Bytes {
    if bytes.len() <= SMALL { Bytes::copy_from_slice(&bytes) } else { bytes }
}

/// Reads the whole body. The guard keeps its bytes counted until the request has been sent on.
///
/// # Errors
/// Too large, too slow, too much held at once, or the caller went away.
pub async fn read(
    gateway: &Arc<Gateway>,
    incoming: &mut Incoming,
    sizes: &Sizes,
    timeouts: &Timeouts,
) -> Result<(Bytes, Held), Fault> {
    let mut held = Held { gateway: Arc::clone(gateway), bytes: 0 };
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut began = None;
    let too_slow = || Fault::client(Kind::SlowClient, "The request body did not arrive in time.");
    loop {
        // The common request comes in one piece and is complete by then: no timer is set up for it.
        let frame = match futures_util::FutureExt::now_or_never(incoming.frame()) {
            Some(frame) => frame,
            None => {
                tokio::time::timeout(timeouts.client_idle, incoming.frame()).await.map_err(|_| too_slow())?
            }
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            Fault::client(Kind::BadRequest, "The request body could not be read.").source(error)
        })?;
        // Nobody needs trailers here, and the codec takes whatever stands between a bare LF after the last chunk and the
        // next empty line for some: another request perhaps, which a proxy in front has sent for somebody else.
        let bytes = frame.into_data().map_err(|_| {
            Fault::client(Kind::BadRequest, "Trailers after a request's body are not accepted.")
        })?;
        if first.len() + rest.len() + bytes.len() > sizes.body {
            return Err(too_large(sizes.body));
        }
        held.grow(bytes.len(), sizes.inflight_body_bytes)?;
        if first.is_empty() && rest.is_empty() {
            first = unpinned(bytes);
            if incoming.is_end_stream() {
                break;
            }
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&bytes);
        }
        let now = gateway.clock.now();
        let fair = Duration::from_secs((first.len() + rest.len()) as u64 / SLOWEST);
        if now.since(*began.get_or_insert(now)) > timeouts.client_idle + fair {
            return Err(too_slow());
        }
    }
    let body = if rest.is_empty() { first } else { rest.freeze() };
    Ok((body, held))
}
