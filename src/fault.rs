//! The one error of the request path. Why one: a caller of an OpenAI SDK must get OpenAI's shape whatever went wrong and
//! wherever, and an operator must be able to see in one table which failure becomes which answer. That table is
//! [`Kind::row`]: exhaustive on purpose, so that a new kind cannot be forgotten.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

/// Whose doing a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The caller sent something wrong, asked for too much or went away.
    Client,
    /// Weir itself: its configuration, its pool, its life cycle.
    Gateway,
    /// The platform behind it.
    Upstream,
}

/// What went wrong. Closed: every kind has one row in [`Kind::row`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    BadRequest,
    Unsupported,
    ContextTooLong,
    ContentFiltered,
    Unauthenticated,
    Forbidden,
    ModelNotAllowed,
    ModelNotFound,
    NotFound,
    MethodNotAllowed,
    TooLarge,
    UriTooLong,
    UnsupportedMedia,
    HeadersTooLarge,
    SlowClient,
    ClientGone,
    RateLimited,
    QuotaExhausted,
    Overloaded,
    NoAccount,
    PoolUnavailable,
    Shutdown,
    UpstreamError,
    UpstreamAuth,
    UpstreamIncomplete,
    UpstreamTimeout,
    Internal,
}

/// How a kind of failure is answered, logged and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// HTTP status, while no byte of the answer has been sent.
    pub status: u16,
    /// OpenAI's `error.type`.
    pub class: &'static str,
    /// OpenAI's `error.code`, unless the fault carries a more exact one.
    pub code: Option<&'static str>,
    /// Value of the metric label `outcome`.
    pub label: &'static str,
    /// Whether the operator should see it in the log at `warn` (else `debug`).
    pub loud: bool,
    /// What `x-should-retry` says; absent where the SDK's own rule is right.
    pub should_retry: Option<bool>,
}

const fn row(
    status: u16,
    class: &'static str,
    code: Option<&'static str>,
    label: &'static str,
    loud: bool,
    should_retry: Option<bool>,
) -> Row {
    Row { status, class, code, label, loud, should_retry }
}

impl Kind {
    /// Every kind, for the tests and the printed table.
    pub const ALL: [Kind; 27] = [
        Kind::BadRequest,
        Kind::Unsupported,
        Kind::ContextTooLong,
        Kind::ContentFiltered,
        Kind::Unauthenticated,
        Kind::Forbidden,
        Kind::ModelNotAllowed,
        Kind::ModelNotFound,
        Kind::NotFound,
        Kind::MethodNotAllowed,
        Kind::TooLarge,
        Kind::UriTooLong,
        Kind::UnsupportedMedia,
        Kind::HeadersTooLarge,
        Kind::SlowClient,
        Kind::ClientGone,
        Kind::RateLimited,
        Kind::QuotaExhausted,
        Kind::Overloaded,
        Kind::NoAccount,
        Kind::PoolUnavailable,
        Kind::Shutdown,
        Kind::UpstreamError,
        Kind::UpstreamAuth,
        Kind::UpstreamIncomplete,
        Kind::UpstreamTimeout,
        Kind::Internal,
    ];

    /// The answer to this kind of failure: the one table of errors.
    #[rustfmt::skip]
    pub const fn row(self) -> Row {
        const INVALID: &str = "invalid_request_error";
        const SERVER: &str = "server_error";
        match self {
            Kind::BadRequest         => row(400, INVALID, None, "bad_request", false, None),
            Kind::Unsupported        => row(400, INVALID, Some("unsupported_parameter"), "unsupported", false, None),
            Kind::ContextTooLong     => row(400, INVALID, Some("context_length_exceeded"), "context_too_long", false, None),
            Kind::ContentFiltered    => row(400, INVALID, Some("content_filter"), "content_filtered", false, None),
            Kind::Unauthenticated    => row(401, INVALID, Some("invalid_api_key"), "unauthenticated", false, None),
            Kind::Forbidden          => row(403, "permission_error", Some("insufficient_permissions"), "forbidden", false, None),
            Kind::ModelNotAllowed    => row(403, "permission_error", Some("model_not_allowed"), "forbidden", false, None),
            Kind::ModelNotFound      => row(404, INVALID, Some("model_not_found"), "not_found", false, None),
            Kind::NotFound           => row(404, INVALID, Some("not_found"), "not_found", false, None),
            Kind::MethodNotAllowed   => row(405, INVALID, Some("method_not_allowed"), "not_found", false, None),
            Kind::TooLarge           => row(413, INVALID, Some("request_too_large"), "too_large", false, None),
            Kind::UriTooLong         => row(414, INVALID, Some("uri_too_long"), "too_large", false, None),
            Kind::UnsupportedMedia   => row(415, INVALID, Some("unsupported_media_type"), "bad_request", false, None),
            Kind::HeadersTooLarge    => row(431, INVALID, Some("headers_too_large"), "too_large", false, None),
            // Not 408: both SDKs would send the request again at once.
            Kind::SlowClient         => row(400, INVALID, Some("request_timeout"), "slow_client", false, Some(false)),
            Kind::ClientGone         => row(499, INVALID, Some("client_closed_request"), "client_gone", false, None),
            Kind::RateLimited        => row(429, "rate_limit_error", Some("rate_limit_exceeded"), "rate_limited", false, None),
            Kind::QuotaExhausted     => row(429, "insufficient_quota", Some("insufficient_quota"), "quota_exhausted", false, Some(false)),
            Kind::Overloaded         => row(503, SERVER, Some("server_overloaded"), "overloaded", true, None),
            Kind::NoAccount          => row(503, SERVER, Some("no_account_available"), "no_account", true, None),
            Kind::PoolUnavailable    => row(503, SERVER, Some("pool_unavailable"), "pool_unavailable", true, None),
            Kind::Shutdown           => row(503, SERVER, Some("server_shutdown"), "shutdown", false, None),
            Kind::UpstreamError      => row(502, SERVER, Some("upstream_error"), "upstream_error", true, Some(false)),
            Kind::UpstreamAuth       => row(502, SERVER, Some("upstream_auth_failed"), "upstream_auth", true, Some(false)),
            Kind::UpstreamIncomplete => row(502, SERVER, Some("upstream_stream_incomplete"), "truncated", true, Some(false)),
            Kind::UpstreamTimeout    => row(504, SERVER, Some("upstream_timeout"), "timeout", true, Some(false)),
            Kind::Internal           => row(500, SERVER, Some("internal_error"), "internal", true, None),
        }
    }
}

/// A failure on the request path: what the caller may know, and what only the operator may.
#[derive(Debug)]
pub struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    who: Who,
    public: Cow<'static, str>,
    param: Option<Cow<'static, str>>,
    code: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    no_retry: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Fault {
    /// A failure of `kind`, caused by `who`, with the sentence that the caller gets to read. The sentence must name no
    /// account, host, path or credential.
    pub fn new(kind: Kind, who: Who, public: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            who,
            public: public.into(),
            param: None,
            code: None,
            retry_after: None,
            no_retry: false,
            headers: Vec::new(),
            source: None,
        }))
    }

    /// The caller's doing.
    pub fn client(kind: Kind, public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(kind, Who::Client, public)
    }

    /// Our own doing.
    pub fn gateway(kind: Kind, public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(kind, Who::Gateway, public)
    }

    /// The platform's doing.
    pub fn upstream(kind: Kind, public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(kind, Who::Upstream, public)
    }

    /// A bad request, with the parameter at fault.
    pub fn bad(param: impl Into<Cow<'static, str>>, public: impl Into<Cow<'static, str>>) -> Self {
        Self::client(Kind::BadRequest, public).param(param)
    }

    /// A parameter that the target platform does not have.
    pub fn unsupported(param: impl Into<Cow<'static, str>>, public: impl Into<Cow<'static, str>>) -> Self {
        Self::client(Kind::Unsupported, public).param(param)
    }

    /// Names the request parameter at fault (OpenAI's `error.param`).
    #[must_use]
    pub fn param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.0.param = Some(param.into());
        self
    }

    /// A more exact OpenAI `error.code` than the kind's own.
    #[must_use]
    pub fn code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.0.code = Some(code.into());
        self
    }

    /// When it is worth coming back. Rounded up to a whole second, at least 1, when sent.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Tells the SDK not to try again by itself.
    #[must_use]
    pub fn no_retry(mut self) -> Self {
        self.0.no_retry = true;
        self
    }

    /// Further headers of the answer (the caller's standing under its limits).
    #[must_use]
    pub fn headers(mut self, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> Self {
        self.0.headers.extend(headers);
        self
    }

    /// What lies beneath: for the operator's log only, never shown to a caller.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whose doing it was.
    pub fn who(&self) -> Who {
        self.0.who
    }

    /// The sentence for the caller.
    pub fn public(&self) -> &str {
        &self.0.public
    }

    /// OpenAI's `error.param`.
    pub fn get_param(&self) -> Option<&str> {
        self.0.param.as_deref()
    }

    /// OpenAI's `error.code`.
    pub fn get_code(&self) -> Option<&str> {
        self.0.code.as_deref().or(self.0.kind.row().code)
    }

    /// Further headers of the answer.
    pub fn get_headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0.headers
    }

    /// When to come back, if that helps.
    pub fn get_retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The value of `x-should-retry`, where one is due. Waits of over a minute forbid the SDK's own retry: some SDKs
    /// ignore them and come back at once.
    pub fn should_retry(&self) -> Option<bool> {
        if self.0.no_retry || self.0.retry_after.is_some_and(|wait| wait > Duration::from_secs(60)) {
            return Some(false);
        }
        self.0.kind.row().should_retry
    }

    /// What lies beneath, for the log.
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync)> {
        self.0.source.as_deref()
    }

    /// OpenAI's error body: `{"error":{"message","type","param","code"}}`, all four keys always there.
    pub fn body(&self) -> String {
        let row = self.0.kind.row();
        serde_json::json!({"error": {
            "message": self.public(),
            "type": row.class,
            "param": self.get_param(),
            "code": self.get_code(),
        }})
        .to_string()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} ({:?}): {}", self.0.kind, self.0.who, self.0.public)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_all_four_keys_and_no_inner_cause() {
        let fault = Fault::client(Kind::BadRequest, "no").source("db://user:pw@host");
        assert_eq!(
            fault.body(),
            r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}}"#
        );
    }

    #[test]
    fn no_permanent_state_uses_a_status_that_sdks_retry() {
        for kind in Kind::ALL {
            assert!(!matches!(kind.row().status, 408 | 409), "{kind:?}");
        }
    }

    #[test]
    fn a_wait_over_a_minute_forbids_the_sdks_own_retry() {
        let fault = |seconds| {
            Fault::client(Kind::RateLimited, "slow down")
                .retry_after(Duration::from_secs(seconds))
                .should_retry()
        };
        assert_eq!(fault(60), None);
        assert_eq!(fault(61), Some(false));
    }
}
