//! The path of a request, from its head to the first byte of its answer. One linear function ([`Gateway::answer`]); each
//! step is one call and one `?`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::Incoming;
use indexmap::IndexMap;
use rand::Rng;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::answer::Answer;
use super::aside::{LARGE_BODY, aside};
use super::attempt::{attempt, fault_of};
use super::body;
use super::estimate::Estimate;
use super::relay::{Manner, Relay};
use super::route::{Route, Target};
use super::ticket::{OK, Spent, Ticket};
use super::trip::{Aim, Trip, Trouble, Victory, Waited, Won};
use super::{Gateway, World};
use crate::api::ask::{Ask, Task};
use crate::clock::Moment;
use crate::fault::{Fault, Kind};
use crate::identity::{Caller, Ties};
use crate::ids::{AccountId, RequestId};
use crate::keybook::Scope;
use crate::platform::judge::Verdict;
use crate::pool::settings::Strategy;
use crate::pool::{Refusal, TransportFailure, Want, Why};

/// An answer for the caller: always status 200; everything else is a [`Fault`].
#[derive(Debug)]
pub struct Reply {
    pub headers: HeaderMap,
    pub body: Answer,
}

/// What came in, besides the body.
#[derive(Debug)]
pub struct Arrival<'a> {
    pub id: &'a RequestId,
    pub headers: HeaderMap,
    pub at: Moment,
    /// The platform is named beside the model, and not in front of it.
    pub names_platform: bool,
}

impl Gateway {
    /// Answers one request: the whole path.
    ///
    /// # Errors
    /// A [`Fault`], while no byte of an answer has been sent.
    pub async fn answer(
        self: &Arc<Self>,
        task: Task,
        arrival: Arrival<'_>,
        incoming: &mut Incoming,
    ) -> Result<Reply, Fault> {
        let world = self.world();
        let Arrival { id, headers, at, names_platform } = arrival;
        let caller = self.identify(&world, &headers).await?;
        body::check_head(&headers, world.sizes.body)?;
        // They hold the connection's read buffer.
        drop(headers);
        let (bytes, held) = body::read(self, incoming, &world.sizes, &world.timeouts).await?;
        let bytes = if names_platform { prefixed(bytes).await? } else { bytes };
        let ask = read_ask(task, bytes).await?;
        let route = find_route(&world, &ask, &caller)?;
        let mut ticket = self.admit(&caller, &ask, route, id, at)?;
        let now = self.clock.now();
        let trip = Trip {
            gateway: self,
            world: &world,
            ask: &ask,
            timeouts: route.timeouts,
            route,
            deadline: now + world.retry.deadline,
            waited: Waited::default(),
        };
        self.metrics.overhead.observe(now.since(at).as_secs_f64());
        let tried = self.attempts(&trip, &caller, &mut ticket).await;
        let (aim, victory, attempts) = tried.inspect_err(|fault| ticket.fail(fault))?;
        drop(held);
        let headers = self.headers(&trip, &caller, &ticket, &aim, &victory, attempts);
        Ok(Reply { headers, body: self.deliver(&trip, victory, ticket) })
    }

    async fn identify(&self, world: &World, headers: &HeaderMap) -> Result<Arc<Caller>, Fault> {
        if headers.get("x-stainless-retry-count").is_some_and(|count| count != "0") {
            self.metrics.sdk_retries.inc();
        }
        let caller = match world.identity.verify_cached(headers) {
            Some(caller) => caller,
            None => world.identity.verify(headers).await?,
        };
        if caller.has_scope(Scope::Chat) {
            return Ok(caller);
        }
        Err(Fault::client(Kind::Forbidden, "This token or key lacks the scope 'chat'."))
    }

    fn admit(
        self: &Arc<Self>,
        caller: &Caller,
        ask: &Ask,
        route: &Route,
        id: &RequestId,
        at: Moment,
    ) -> Result<Ticket, Fault> {
        let guess = Estimate::of(ask);
        // By what is known of the model that comes first; which one it will be is not known yet.
        let estimate = route.targets.first().map_or(guess, |target| {
            let model = target.model_for(&ask.model);
            guess.corrected(self.calibration.gauge(&target.platform.name, model))
        });
        let admission = caller
            .limiter
            .admit(estimate.total())
            .map_err(|fault| fault.headers(caller.limiter.standing().headers()))?;
        self.pool.retry_budget().note_request();
        let label = Arc::from(route.name.as_str());
        Ok(Ticket::open(Arc::clone(self), caller, admission, id.clone(), label, guess, at))
    }

    /// Tries account after account, target after target, as far as attempts, time and the retry budget go.
    async fn attempts<'t>(
        &self,
        trip: &Trip<'t>,
        caller: &Caller,
        ticket: &mut Ticket,
    ) -> Result<(Aim<'t>, Victory, u32), Fault> {
        let order: SmallVec<[&Target; 4]> = trip.route.in_order(rand::rng().random()).collect();
        let affinity = affinity(trip, caller);
        let mut tried: SmallVec<[AccountId; 4]> = SmallVec::new();
        let mut last: Option<Fault> = None;
        for number in 1..=trip.world.retry.attempts {
            if number > 1 && !self.may_retry(trip) {
                break;
            }
            let aim = match self.choose(trip, caller, &order, &tried, affinity, ticket).await {
                Ok(aim) => aim,
                Err(refusal) => return Err(no_account(refusal, last)),
            };
            tried.push(aim.account.id.clone());
            match attempt(trip, &aim).await {
                Ok(victory) => {
                    ticket.accepted();
                    self.count_attempt(&aim, "ok");
                    return Ok((aim, victory, number));
                }
                Err(trouble) => last = Some(self.settle_trouble(&aim, trouble, ticket)?),
            }
        }
        Err(last.unwrap_or_else(|| Fault::gateway(Kind::NoAccount, "No account could be tried.")))
    }

    fn may_retry(&self, trip: &Trip<'_>) -> bool {
        let allowed = self.clock.now() < trip.deadline && self.pool.retry_budget().try_retry();
        if !allowed {
            self.metrics.retries_refused.inc();
        }
        allowed
    }

    /// The first target, in order, one of whose accounts may carry the request.
    async fn choose<'t>(
        &self,
        trip: &Trip<'t>,
        caller: &Caller,
        order: &[&'t Target],
        tried: &[AccountId],
        affinity: Option<u64>,
        ticket: &mut Ticket,
    ) -> Result<Aim<'t>, Refusal> {
        let mut refusal: Option<Refusal> = None;
        for target in order {
            let model = target.model_for(&trip.ask.model);
            let gauge = self.calibration.gauge(&target.platform.name, model);
            let want = Want {
                tenant: &caller.tenant,
                platform: &target.platform.name,
                model,
                tokens: ticket.estimate_by(gauge).total(),
                strategy: trip.route.strategy,
                affinity,
                tried,
            };
            match self.pool.obtain(&want).await {
                Ok(reservation) => {
                    let account = Arc::clone(reservation.account());
                    account.last_used.note(self.clock.wall_seconds());
                    let model = reservation.upstream_model().to_owned();
                    ticket.hold(reservation, gauge);
                    self.rehearsal.panic_in("request", &trip.ask.model);
                    return Ok(Aim { target, account, model });
                }
                Err(next) => refusal = Some(refusal.map_or(next, |before| before.sooner(next))),
            }
        }
        Err(refusal.unwrap_or(Refusal { why: Why::NoneConfigured, retry_after: None }))
    }

    /// Settles a failed attempt. `Ok` with the fault where another may follow, `Err` where none may.
    fn settle_trouble(&self, aim: &Aim<'_>, trouble: Trouble, ticket: &mut Ticket) -> Result<Fault, Fault> {
        let reservation = ticket.release(spent(&trouble));
        let goes_on = match &trouble {
            Trouble::Unfit(_) => {
                if let Some(reservation) = reservation {
                    reservation.settle_transport(TransportFailure::NotTaken);
                }
                false
            }
            Trouble::Judged(judgement) => {
                self.count_attempt(aim, judgement.verdict.as_str());
                tracing::info!(id = %ticket.id(), account = %aim.account.id, verdict = ?judgement.verdict, code = ?judgement.code, "a platform refused");
                if let Some(reservation) = reservation {
                    reservation.settle_error(judgement);
                }
                let blames_caller = matches!(
                    judgement.verdict,
                    Verdict::BadRequest | Verdict::ContentFiltered | Verdict::ContextTooLong
                );
                !blames_caller
            }
            Trouble::Transport(failure, why) => {
                self.count_attempt(aim, "transport");
                tracing::info!(id = %ticket.id(), account = %aim.account.id, ?failure, %why, "an attempt failed");
                if let Some(reservation) = reservation {
                    reservation.settle_transport(*failure);
                }
                // A platform that took the request and went silent may still be working on it: not paid for twice.
                *failure != TransportFailure::Timeout
            }
        };
        let fault = fault_of(trouble);
        if goes_on { Ok(fault) } else { Err(fault) }
    }

    fn count_attempt(&self, aim: &Aim<'_>, verdict: &str) {
        let platform = aim.account.platform.name.as_str();
        self.metrics.attempts.with_label_values(&[platform, verdict]).inc();
    }

    fn headers(
        &self,
        trip: &Trip<'_>,
        caller: &Caller,
        ticket: &Ticket,
        aim: &Aim<'_>,
        victory: &Victory,
        attempts: u32,
    ) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(20);
        let is_stream = matches!(victory.won, Won::Stream { .. } | Won::Whole { is_stream: true, .. });
        if is_stream {
            put(&mut headers, "content-type", "text/event-stream; charset=utf-8");
            put(&mut headers, "cache-control", "no-cache, no-transform");
            put(&mut headers, "x-accel-buffering", "no");
        } else {
            put(&mut headers, "content-type", "application/json");
        }
        put(&mut headers, "x-weir-platform", aim.account.platform.name.as_str());
        // Nor an app that its owner let in: it may ask models, not look at what there is.
        let is_app = caller.ties.as_ref().is_some_and(Ties::is_app);
        if !is_app && aim.account.owner.as_ref() == Some(&caller.tenant) {
            put(&mut headers, "x-weir-account", aim.account.id.as_str());
        }
        headers.insert("x-weir-attempts", HeaderValue::from(attempts));
        put(&mut headers, "x-gateway-model", &aim.model);
        if !victory.dropped.is_empty() {
            put(&mut headers, "x-gateway-dropped-params", &victory.dropped.join(","));
        }
        for (name, value) in ticket.admission().headers() {
            headers.insert(name, value);
        }
        let ours = self.clock.now().since(ticket.arrived()).saturating_sub(trip.waited.total());
        put(&mut headers, "x-gateway-overhead-ms", &milliseconds(ours));
        headers
    }

    fn deliver(self: &Arc<Self>, trip: &Trip<'_>, victory: Victory, mut ticket: Ticket) -> Answer {
        match victory.won {
            Won::Whole { body, delivered, .. } => {
                ticket.note_first_token();
                ticket.close(OK, delivered);
                Answer::Whole(body)
            }
            Won::Stream { begun, pulse } => {
                let world = trip.world;
                let manner = Manner {
                    timeouts: trip.timeouts,
                    sizes: world.sizes,
                    heartbeat: world.heartbeat,
                    on_budget: trip.route.on_budget,
                };
                Answer::Stream(Box::new(Relay::new(Arc::clone(self), begun, ticket, manner, pulse)))
            }
        }
    }
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // The name of a model is the caller's own word; beyond ASCII a header means something else to everyone who reads it.
    if let Some(value) = HeaderValue::from_str(value).ok().filter(|_| value.is_ascii()) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// To the microsecond, as `0.087`.
fn milliseconds(length: Duration) -> String {
    let micros = length.as_micros();
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

/// `{"platform": "qwen", "model": "qwen-max", …}` as `{"model": "qwen/qwen-max", …}`; all else as it came.
fn with_platform_in_front(body: &[u8]) -> Result<Bytes, Fault> {
    let broken = |_| {
        Fault::client(Kind::BadRequest, "We could not read the body of your request: it is no JSON object.")
    };
    let mut fields: IndexMap<String, Box<RawValue>> = serde_json::from_slice(body).map_err(broken)?;
    let name = |field: &'static str| {
        let raw = fields.get(field).map_or("null", |raw| raw.get());
        let name: Option<String> = serde_json::from_str(raw).ok();
        name.filter(|name| !name.is_empty())
            .ok_or_else(|| Fault::bad(field, format!("'{field}' must be a string that names one.")))
    };
    let model = format!("{}/{}", name("platform")?, name("model")?);
    fields.shift_remove("platform");
    fields.insert("model".to_owned(), serde_json::value::to_raw_value(&model).map_err(broken)?);
    serde_json::to_vec(&fields).map(Bytes::from).map_err(broken)
}

/// [`with_platform_in_front`], on another thread where the body is large.
async fn prefixed(bytes: Bytes) -> Result<Bytes, Fault> {
    if bytes.len() <= LARGE_BODY {
        return with_platform_in_front(&bytes);
    }
    aside(move || with_platform_in_front(&bytes)).await?
}

async fn read_ask(task: Task, bytes: Bytes) -> Result<Ask, Fault> {
    let read = move |bytes| match task {
        Task::Chat => Ask::chat(bytes),
        Task::Embeddings => Ask::embeddings(bytes),
    };
    if bytes.len() <= LARGE_BODY {
        return read(bytes);
    }
    aside(move || read(bytes)).await?
}

fn find_route<'w>(world: &'w World, ask: &Ask, caller: &Caller) -> Result<&'w Route, Fault> {
    if !caller.may_use(&ask.model) {
        let sentence = format!("You may not use the model '{}'.", printable(&ask.model));
        return Err(Fault::client(Kind::ModelNotAllowed, sentence).param("model"));
    }
    world.routes.find(&ask.model).ok_or_else(|| {
        let sentence = format!("The model '{}' does not exist here.", printable(&ask.model));
        Fault::client(Kind::ModelNotFound, sentence).param("model")
    })
}

const fn spent(trouble: &Trouble) -> Spent {
    match trouble {
        Trouble::Unfit(_) | Trouble::Transport(TransportFailure::Connect | TransportFailure::NotTaken, _) => {
            Spent::Nothing
        }
        Trouble::Judged(_) => Spent::Request,
        Trouble::Transport(TransportFailure::Timeout | TransportFailure::Cut, _) => Spent::Prompt,
    }
}

/// A caller's own word, fit to stand in a sentence: short, and without anything a terminal would obey.
/// Nor may it be a key in the wrong place: what is said here is logged, too.
pub fn printable(text: &str) -> String {
    let begins = ["sk-", "eyJ", "Bearer "].iter().any(|mark| text.trim_start_matches('/').starts_with(mark));
    if begins || text.contains(crate::keybook::PREFIX) {
        return "(something like a key)".to_owned();
    }
    text.chars().filter(|character| !character.is_control()).take(128).collect()
}

/// What `sticky` goes by: the caller and how the conversation began.
fn affinity(trip: &Trip<'_>, caller: &Caller) -> Option<u64> {
    if trip.route.strategy != Strategy::Sticky {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    caller.tenant.hash(&mut hasher);
    caller.subject.hash(&mut hasher);
    let opening: Vec<&serde_json::value::RawValue> =
        trip.ask.raw("messages").and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or_default();
    for message in opening.iter().take(2) {
        message.get().hash(&mut hasher);
    }
    Some(hasher.finish())
}

/// No account is left: what the last attempt ran into, unless waiting helps.
fn no_account(refusal: Refusal, last: Option<Fault>) -> Fault {
    match last {
        Some(last) if refusal.retry_after.is_none() || last.kind() != Kind::RateLimited => last,
        _ => refusal.into_fault(),
    }
}
