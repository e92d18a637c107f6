//! What issuers say of themselves, asked once in a while: anybody who begins a sign-in could else have us ask them without end, and a
//! document that is away for a moment would keep ten thousand tokens from being renewed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::error::OAuthError;
use super::row::Provider;
use crate::clock::{Clock, Moment};

/// How long an issuer's word holds.
const FRESH: Duration = Duration::from_secs(600);

/// How long an issuer that could not be asked is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// What was made of each provider's word, by its name.
#[derive(Debug)]
pub struct Hearsay<T> {
    clock: Clock,
    slots: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Slot<T>>>>>,
}

/// What is known of a provider.
#[derive(Debug)]
struct Slot<T> {
    /// As the configuration has it: the very same.
    of: Option<Arc<Provider>>,
    known: Option<Arc<T>>,
    /// When it was asked, and for how long that holds.
    asked: Option<(Moment, Duration)>,
    /// What came of it, if nothing.
    failed: Option<OAuthError>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { of: None, known: None, asked: None, failed: None }
    }
}

impl<T> Hearsay<T> {
    /// Nothing, yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, slots: Mutex::default() }
    }

    /// What is known of a provider, by asking (`ask`) where that was long ago. Whoever comes while it is asked waits for the same
    /// answer. What was known holds on where it cannot be asked again.
    ///
    /// # Errors
    /// Nothing is known, and it could not be asked now or a moment ago.
    pub async fn of(
        &self,
        provider: &Arc<Provider>,
        ask: impl Future<Output = Result<T, OAuthError>>,
    ) -> Result<Arc<T>, OAuthError> {
        let slot = Arc::clone(self.slots.lock().entry(provider.name.clone()).or_default());
        let mut slot = slot.lock().await;
        if !slot.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, provider)) {
            *slot = Slot { of: Some(Arc::clone(provider)), ..Slot::default() };
        }
        if slot.asked.is_none_or(|(at, hold)| self.clock.now().since(at) >= hold) {
            let (failed, hold) = match ask.await {
                Ok(known) => {
                    slot.known = Some(Arc::new(known));
                    (None, FRESH)
                }
                Err(error) => (Some(error), PAUSE),
            };
            slot.failed = failed;
            slot.asked = Some((self.clock.now(), hold));
        }
        let why = || slot.failed.clone().unwrap_or(OAuthError::NotOffered("way to be asked"));
        slot.known.clone().ok_or_else(why)
    }
}
