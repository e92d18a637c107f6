//! Where work is done that must be finished whoever waits for it: a caller that leaves must not take with him what a provider has just
//! given, and a process that stops waits until it is kept.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// See the module.
#[derive(Debug, Default)]
pub struct Home {
    /// On threads that outlive those of requests.
    runtime: OnceLock<Handle>,
    under_way: AtomicUsize,
}

/// Counts one piece of work for as long as it is under way.
struct UnderWay(Arc<Home>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Home {
    /// Where to do the work from now on; before, where it was begun.
    pub(super) fn settle(&self, runtime: Handle) {
        let is_first = self.runtime.set(runtime).is_ok();
        debug_assert!(is_first, "set once, at the start");
    }

    /// Begins a piece of work, which goes on whether or not anybody waits for it.
    pub(in crate::gateway) fn begin<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let counted = UnderWay(Arc::clone(self));
        let work = async move {
            let _counted = counted;
            work.await
        };
        match self.runtime.get() {
            Some(runtime) => runtime.spawn(work),
            None => tokio::spawn(work),
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_begun_goes_on_without_whoever_began_it() {
        let home = Arc::new(Home::default());
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let (tell, told) = tokio::sync::oneshot::channel();
        drop(home.begin(async move {
            wait.await.expect("it is let go");
            tell.send("done").expect("somebody listens");
        }));
        tokio::task::yield_now().await;
        assert!(!home.is_quiet());
        go.send(()).expect("it waits");
        assert_eq!(told.await, Ok("done"));
        while !home.is_quiet() {
            tokio::task::yield_now().await;
        }
    }
}
