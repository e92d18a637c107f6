//! The end of a process's life, seen from its streams. Why in two steps: first nothing new is taken and everything may
//! finish (`/readyz` says so to the load balancer); only when the time for that is up are the remaining streams ended,
//! properly, with an error that names the reason.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How far the shutdown has come.
#[derive(Debug, Default)]
pub struct Drain {
    draining: AtomicBool,
    over: CancellationToken,
}

impl Drain {
    /// Begins: readiness is withdrawn.
    pub fn begin(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// The time is up: whatever still runs is to end now.
    pub fn end(&self) {
        self.begin();
        self.over.cancel();
    }

    /// Whether the time is up.
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Resolves when the time is up.
    pub fn over(&self) -> WaitForCancellationFutureOwned {
        self.over.clone().cancelled_owned()
    }
}
