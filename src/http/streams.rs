//! Streams of HTTP/2 whose caller does not take what we have for it. Why here: over HTTP/1 the socket shows whether bytes
//! are moving; over HTTP/2 one stream can stand still while its connection is lively (a window of zero and answered
//! pings), and its answer, its place in the account's limits and the platform's stream behind it are held for as long.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

tokio::task_local! {
    /// Whether the stream that this task serves moves.
    static MOVES: Arc<Moves>;
}

/// How the answer on one stream moves: even while the answer is being made, odd while a piece of it waits to be taken.
#[derive(Debug, Default)]
pub struct Moves(AtomicU32);

impl Moves {
    /// That of the stream whose task this is; `None` over HTTP/1.
    pub fn of_this_stream() -> Option<Arc<Self>> {
        let moves = MOVES.try_with(Arc::clone).ok()?;
        moves.note(true);
        Some(moves)
    }

    /// The caller's side asked for more and got it (now a piece waits to be taken) or did not.
    pub fn note(&self, waits: bool) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store((before | 1).wrapping_add(if waits { 2 } else { 1 }), Ordering::Relaxed);
    }

    /// Resolves when one piece has waited for at least `stall`.
    async fn stalled(&self, stall: Duration) {
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(stall).await;
            let now = self.0.load(Ordering::Relaxed);
            if now == before && now % 2 == 1 {
                return;
            }
            before = now;
        }
    }
}

/// Runs each stream in a task of its own and resets those that stand still: dropping the work resets the stream.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    /// How long a piece of an answer may wait to be taken; it is noticed after at most twice this time.
    pub stall: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let stall = self.stall;
        tokio::spawn(async move {
            let moves: Arc<Moves> = Arc::default();
            let served = MOVES.scope(Arc::clone(&moves), stream);
            tokio::select! {
                biased;
                _ = served => {}
                () = moves.stalled(stall) => tracing::debug!("a stream's caller takes nothing; it is reset"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn only_what_waits_to_be_taken_stalls() {
        let moves = Moves::default();
        let patience = Duration::from_millis(400);
        assert!(tokio::time::timeout(patience, moves.stalled(STALL)).await.is_err(), "no answer yet");
        moves.note(true);
        assert!(tokio::time::timeout(patience * 20, moves.stalled(STALL)).await.is_ok(), "nobody takes it");
        moves.note(false);
        assert!(tokio::time::timeout(patience, moves.stalled(STALL)).await.is_err(), "we are the slow ones");
        let taken = async {
            for _ in 0..200 {
                tokio::time::sleep(STALL / 25).await;
                moves.note(true);
            }
        };
        tokio::select! {
            () = taken => {}
            () = moves.stalled(STALL) => panic!("it moved all the time"),
        }
    }
}
