//! Browsers for sign-ins at platforms' own pages: what they get to know of this machine, what a killed gateway left of them, and their end.
//! Without the feature `browser` there are none.

#[cfg(feature = "browser")]
use std::sync::Arc;

#[cfg(feature = "browser")]
use crate::browser::{settings::Surroundings, sweep};
#[cfg(feature = "browser")]
use crate::gateway::onboard::{Onboard, browsing::Browsing};
use crate::http::plane::Plane;

/// The browsers of this process.
#[derive(Clone)]
pub struct Browsers {
    #[cfg(feature = "browser")]
    browsing: Arc<Browsing>,
}

#[cfg(feature = "browser")]
impl Browsers {
    /// What opens them, when somebody begins. What an earlier process left is wiped first.
    pub fn browsing(onboard: &Arc<Onboard>) -> Arc<Browsing> {
        let known = |name: &str| Some((name.to_owned(), super::environment(name)?));
        let surroundings = Surroundings {
            variables: Surroundings::VARIABLES.into_iter().filter_map(known).collect(),
            folder: std::env::temp_dir(),
        };
        let swept = sweep(&surroundings.folder);
        if swept > 0 {
            tracing::warn!(count = swept, "wiped what a gateway that was killed had left of browsers");
        }
        Browsing::new(Arc::clone(onboard), surroundings)
    }

    /// Those of these handlers.
    pub fn of(plane: &Plane) -> Self {
        Self { browsing: Arc::clone(&plane.browsing) }
    }

    /// Before a successor takes over: it has the store, so nothing could be kept any more.
    pub fn hand_over(&self) {
        drop(self.browsing.stop("The gateway is being replaced. Begin again in a moment."));
    }

    /// At the end of the process: none is left.
    pub fn close(&self) {
        drop(super::block_on(async {
            self.browsing.close("The gateway is shutting down. Begin again shortly.").await;
            Ok(())
        }));
    }
}

#[cfg(not(feature = "browser"))]
impl Browsers {
    /// None.
    pub fn of(_plane: &Plane) -> Self {
        Self {}
    }

    /// Nothing.
    pub fn hand_over(&self) {}

    /// Nothing.
    pub fn close(&self) {}
}
