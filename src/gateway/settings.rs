//! What the operator may say about the path of a request.

use std::time::Duration;

/// How hard to try.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Upstream attempts per request, at least 1, over accounts and fallback targets.
    pub attempts: u32,
    /// Share of requests that may be retries, 0..=1: an outage is never amplified.
    pub budget: f64,
    /// Time for all attempts together.
    pub deadline: Duration,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection to the platform, TLS included.
    pub connect: Duration,
    /// For the platform's status line and headers.
    pub response_header: Duration,
    /// For the first event of a stream, after the headers.
    pub first_token: Duration,
    /// Between two events (or reads of a body).
    pub idle: Duration,
    /// For the whole answer.
    pub total: Duration,
    /// How long a caller of a stream may hear nothing before a keep-alive is sent.
    pub heartbeat: Duration,
    /// For a caller to send a request's head.
    pub request_header: Duration,
    /// For a caller to go on sending a body, or to go on reading an answer.
    pub client_idle: Duration,
}

/// What a keep-alive looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heartbeat {
    /// An SSE comment: no SDK sees it.
    #[default]
    Comment,
    /// A chunk without content, for watchdogs that do not see comments.
    Data,
}

/// What happens to a stream that outgrows what is set aside for it, where there is no more to be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBudget {
    /// It ends as one that has reached its `max_tokens`: `finish_reason: length`.
    #[default]
    Length,
    /// It ends with an error in the stream.
    Error,
}

/// What `model` says in answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelField {
    /// The name that the caller sent.
    #[default]
    Requested,
    /// The platform's own name.
    Resolved,
}

/// Sizes beyond which a request is refused.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Largest request body, in bytes.
    pub body: usize,
    /// Largest request head, in bytes.
    pub header: usize,
    /// Bytes of request bodies held at once over all requests.
    pub inflight_body_bytes: usize,
    /// Largest whole answer of a platform, in bytes.
    pub answer: usize,
    /// Largest single event of a platform's stream, in bytes.
    pub event: usize,
}
