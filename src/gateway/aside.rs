//! Work that would hold up every stream on its thread, done on another.

use crate::fault::{Fault, Kind};

/// Bodies above this many bytes are read and written on a thread of their own: they would hold up every stream on this one.
pub(super) const LARGE_BODY: usize = 256 * 1024;

/// Runs `work` on a thread on which nothing else waits.
///
/// # Errors
/// Where it panicked.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::gateway(Kind::Internal, "The gateway failed on this request.").source(error))
}
