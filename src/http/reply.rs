//! Fault to HTTP: the one place. The table itself is [`Kind::row`](crate::fault::Kind::row); here it gets its headers.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::fault::{Fault, Kind, Who};
use crate::ids::RequestId;
use crate::metrics::Metrics;

/// A fault, ready to be sent.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Makes the answer to a fault.
pub fn refusal(fault: &Fault) -> Refusal {
    let row = fault.kind().row();
    let mut headers = HeaderMap::with_capacity(8);
    headers.extend(fault.get_headers().iter().cloned());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait) = fault.get_retry_after().or_else(|| default_wait(fault)) {
        // Never 0: two of the SDKs take that for "at once".
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        let millis = wait.as_millis().max(1);
        headers.insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
        headers.insert("retry-after-ms", HeaderValue::from(u64::try_from(millis).unwrap_or(u64::MAX)));
    }
    if let Some(should) = fault.should_retry() {
        headers.insert("x-should-retry", HeaderValue::from_static(if should { "true" } else { "false" }));
    }
    if fault.kind() == Kind::Unauthenticated && !headers.contains_key(WWW_AUTHENTICATE) {
        let challenge = HeaderValue::from_static(r#"Bearer realm="weir", error="invalid_token""#);
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Refusal { status, headers, body: Bytes::from(fault.body()) }
}

/// What a page of any origin may read of an answer: it comes for a token in a header, never for cookies, so there is nothing in it
/// that the page could not have had by itself.
pub fn allow_any(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(TOLD));
}

/// Headers of ours that scripts may read, beside those that they always may.
const TOLD: &str = "www-authenticate, retry-after, retry-after-ms, x-should-retry, x-request-id, x-ratelimit-limit-requests, \
x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, \
x-ratelimit-reset-tokens, x-weir-platform, x-weir-attempts, x-gateway-model, x-gateway-dropped-params";

/// What a browser is told that asks before it lets a page of any origin ask.
pub fn permission() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    put(ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    put(ACCESS_CONTROL_ALLOW_METHODS, "GET, POST");
    put(ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, *");
    put(ACCESS_CONTROL_MAX_AGE, "600");
    headers
}

/// Waiting helps with these even where nobody said for how long, unless somebody said that it never will.
fn default_wait(fault: &Fault) -> Option<std::time::Duration> {
    let is_hopeless = fault.should_retry() == Some(false);
    let is_passing = matches!(
        fault.kind(),
        Kind::RateLimited | Kind::Overloaded | Kind::NoAccount | Kind::PoolUnavailable | Kind::Shutdown
    );
    (is_passing && !is_hopeless).then(|| std::time::Duration::from_secs(1))
}

/// Tells the operator: in the log, at the level that the table names, and in the metrics.
pub fn note(fault: &Fault, id: Option<&RequestId>, metrics: &Metrics) {
    let row = fault.kind().row();
    if fault.who() != Who::Upstream {
        metrics.refused.with_label_values(&[row.label]).inc();
    }
    let id = id.map(RequestId::as_str).unwrap_or_default();
    let cause = fault.cause().map(ToString::to_string).unwrap_or_default();
    if row.loud {
        tracing::warn!(id, kind = ?fault.kind(), who = ?fault.who(), %cause, "{}", fault.public());
    } else {
        tracing::debug!(id, kind = ?fault.kind(), who = ?fault.who(), %cause, "{}", fault.public());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_table_of_errors() {
        let rows: Vec<String> = Kind::ALL
            .iter()
            .map(|kind| {
                let row = kind.row();
                let code = row.code.unwrap_or("-");
                format!("{} {} {} ({:?})", row.status, row.class, code, kind)
            })
            .collect();
        insta::assert_snapshot!(rows.join("\n"));
    }

    #[test]
    fn a_wait_is_whole_seconds_and_never_none() {
        let fault = Fault::client(Kind::RateLimited, "slow down").retry_after(Duration::from_millis(1));
        let refusal = refusal(&fault);
        assert_eq!(refusal.headers[RETRY_AFTER], "1");
        assert_eq!(refusal.headers["retry-after-ms"], "1");
        assert_eq!(refusal.status, 429);
    }

    #[test]
    fn whoever_is_told_not_to_come_back_is_given_no_time_to_do_so() {
        let refusal = refusal(&Fault::upstream(Kind::RateLimited, "used up for good").no_retry());
        assert_eq!(refusal.headers.get(RETRY_AFTER), None);
        assert_eq!(refusal.headers["x-should-retry"], "false");
    }

    #[test]
    fn a_401_says_how_to_authenticate() {
        let refusal = refusal(&Fault::client(Kind::Unauthenticated, "who are you?"));
        assert!(refusal.headers[WWW_AUTHENTICATE].to_str().expect("text").starts_with("Bearer"));
    }
}
