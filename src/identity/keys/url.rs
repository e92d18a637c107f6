//! Keys from a JWKS URL. One fetch at a time, never two within the cooldown (whatever tokens say), never because of an
//! address in a token. Keys that were fetched stay in use until others replace them: an issuer that is down for an hour
//! must not lock everybody out.
//!
//! While tokens come, the URL is asked every 45 s; so a key that its issuer has withdrawn is refused, and so is what
//! was verified with it, 60 s later at the latest (plus the fetch itself), as long as the URL answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::{Clock, Moment};

use super::{KeySet, MAX_JWKS};

/// Least time between two fetches.
const COOLDOWN: Duration = Duration::from_secs(30);

/// The same for a token that came straight from the issuer: nobody else can have us ask by sending one.
const SOON: Duration = Duration::from_secs(1);

/// The same while no key at all has been got yet.
const COOLDOWN_WITHOUT_KEYS: Duration = Duration::from_secs(2);

/// Age at which keys are fetched again while they go on being used.
const REFRESH_AGE: Duration = Duration::from_secs(45);

/// Age at which a token waits for the fetch, unless the last one failed.
const MAX_AGE: Duration = Duration::from_secs(60);

/// For one fetch, from connecting to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct UrlKeys {
    url: url::Url,
    issuer: String,
    clock: Clock,
    client: reqwest::Client,
    set: ArcSwap<KeySet>,
    gate: Mutex<Gate>,
    /// Nanoseconds of the moment from which [`UrlKeys::freshen`] has something to do.
    due: AtomicU64,
    /// Counts fetches that have ended, for those who wait for one.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Gate {
    is_fetching: bool,
    begun: Option<Moment>,
    succeeded: Option<Moment>,
    has_failed: bool,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("redirected")]
    Redirected,
    #[error("larger than 1 MiB")]
    TooLarge,
    #[error("{0}")]
    Document(&'static str),
}

impl UrlKeys {
    /// Nothing is fetched before the first token.
    pub fn new(url: url::Url, issuer: &str, clock: Clock, client: reqwest::Client) -> Arc<Self> {
        Arc::new(Self {
            url,
            issuer: issuer.to_owned(),
            clock,
            client,
            set: ArcSwap::default(),
            gate: Mutex::default(),
            due: AtomicU64::new(0),
            ended: watch::Sender::new(0),
        })
    }

    /// The keys as last fetched; empty before the first.
    pub fn current(&self) -> Arc<KeySet> {
        self.set.load_full()
    }

    /// Whether a fetch is due.
    pub fn is_due(&self, now: Moment) -> bool {
        now.as_nanos() >= self.due.load(Ordering::Acquire)
    }

    /// Fetches where that is due, and waits for it where the keys at hand are too old to be used without.
    pub async fn freshen(self: &Arc<Self>) {
        let now = self.clock.now();
        if !self.is_due(now) {
            return;
        }
        let must_wait = {
            let gate = self.gate.lock();
            gate.succeeded.is_none_or(|at| !gate.has_failed && now.since(at) >= MAX_AGE)
        };
        let fetch = self.begin(now, COOLDOWN);
        if let (true, Some(fetch)) = (must_wait, fetch) {
            wait(fetch).await;
        }
    }

    /// Fetches because a token names a key that is not there, unless the cooldown forbids it; waits for the fetch.
    pub async fn seek(self: &Arc<Self>) {
        if let Some(fetch) = self.begin(self.clock.now(), COOLDOWN) {
            wait(fetch).await;
        }
    }

    /// The same for a token that the issuer has just given us. Where even that is too early, waits until it is not.
    pub async fn seek_soon(self: &Arc<Self>) {
        match self.begin(self.clock.now(), SOON) {
            Some(fetch) => wait(fetch).await,
            None => tokio::time::sleep(SOON).await,
        }
    }

    /// Joins the fetch under way, or begins one; `None` where it is too early for another.
    fn begin(self: &Arc<Self>, now: Moment, cooldown: Duration) -> Option<watch::Receiver<u64>> {
        let mut gate = self.gate.lock();
        if gate.is_fetching {
            return Some(self.ended.subscribe());
        }
        let cooldown = if gate.succeeded.is_some() { cooldown } else { COOLDOWN_WITHOUT_KEYS.min(cooldown) };
        if gate.begun.is_some_and(|begun| now.since(begun) < cooldown) {
            return None;
        }
        gate.is_fetching = true;
        gate.begun = Some(now);
        let receiver = self.ended.subscribe();
        // A task of its own: the caller that began it may go away, others wait for it.
        let fetch = Fetch { keys: Arc::clone(self), has_succeeded: false };
        tokio::spawn(fetch.run());
        Some(receiver)
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let mut answer = self.client.get(self.url.clone()).timeout(TIMEOUT).send().await?;
        if *answer.url() != self.url || answer.status().is_redirection() {
            return Err(FetchError::Redirected);
        }
        if answer.status() != http::StatusCode::OK {
            return Err(FetchError::Status(answer.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > MAX_JWKS {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        KeySet::jwks(&body).map_err(FetchError::Document)
    }

    fn take(&self, set: KeySet) {
        if let Some(set) = set.after(&self.set.load()) {
            tracing::info!(issuer = self.issuer, "new keys from the JWKS URL");
            self.set.store(Arc::new(set));
        }
    }
}

/// One fetch. Its end is told even when its task is dropped half-way, or those who wait would wait for ever.
struct Fetch {
    keys: Arc<UrlKeys>,
    has_succeeded: bool,
}

impl Fetch {
    async fn run(mut self) {
        match self.keys.fetch().await {
            Ok(set) => {
                self.keys.take(set);
                self.has_succeeded = true;
            }
            Err(error) => {
                // The URL may carry a secret of its own.
                let error = match error {
                    FetchError::Http(error) => FetchError::Http(error.without_url()),
                    other => other,
                };
                tracing::warn!(issuer = self.keys.issuer, %error, "the JWKS URL does not answer; its last keys stay in use");
            }
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let now = self.keys.clock.now();
        {
            let mut gate = self.keys.gate.lock();
            gate.is_fetching = false;
            gate.has_failed = !self.has_succeeded;
            if self.has_succeeded {
                gate.succeeded = Some(now);
            }
            let again = match (self.has_succeeded, gate.succeeded) {
                (true, _) => now + REFRESH_AGE,
                (false, Some(_)) => now + COOLDOWN,
                (false, None) => Moment::START,
            };
            self.keys.due.store(again.as_nanos(), Ordering::Release);
        }
        self.keys.ended.send_modify(|count| *count = count.wrapping_add(1));
    }
}

async fn wait(mut fetch: watch::Receiver<u64>) {
    // The sender lives as long as the keys, whose owner waits here: the only error there is cannot happen.
    drop(fetch.changed().await);
}
