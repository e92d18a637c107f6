//! The end of a process's life, seen from its streams. Why in two steps: first nothing new is taken and everything may
//! finish (`/readyz` says so to the load balancer); only when the time for that is up are the remaining streams ended,
//! properly, with an error that names the reason.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::fault::{Fault, Kind};

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

    /// What `work` comes to, unless the time is up before: an answer that has not begun by then is a proper refusal, and
    /// no cut connection.
    ///
    /// # Errors
    /// As `work`; [`Kind::Shutdown`] where the time was up.
    pub async fn unless_over<T>(
        &self,
        mut work: Pin<&mut impl Future<Output = Result<T, Fault>>>,
    ) -> Result<T, Fault> {
        let mut over = pin!(self.over.cancelled());
        // Whom the end wakes at present. Its list is everybody's, under one lock: entered once, and not at each poll.
        let mut waker: Option<Waker> = None;
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            let is_over = if waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                self.is_over()
            } else {
                waker = Some(context.waker().clone());
                over.as_mut().poll(context).is_ready()
            };
            if !is_over {
                return Poll::Pending;
            }
            let sentence = "The gateway is shutting down. Send the request again.";
            Poll::Ready(Err(Fault::gateway(Kind::Shutdown, sentence)))
        })
        .await
    }
}
