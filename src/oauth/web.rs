//! One request out, to an address from the configuration: no redirects, a time limit, a size limit. Why a trait: the flows are tested
//! without sockets.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{DATE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use url::Url;

use super::error::OAuthError;
use crate::platform::judge;

/// From connecting to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer.
const MAX_ANSWER: usize = 1 << 20;

/// What goes out. Headers and body hold secrets, and so may the URL: it has no `Debug`.
pub struct Outgoing {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

/// Sends requests.
#[async_trait]
pub trait Web: Send + Sync + Debug {
    /// Sends one and reads its answer.
    ///
    /// # Errors
    /// [`OAuthError::Unavailable`]: whether it was carried out is not known.
    async fn send(&self, outgoing: Outgoing) -> Result<Answer, OAuthError>;
}

#[async_trait]
impl Web for reqwest::Client {
    async fn send(&self, outgoing: Outgoing) -> Result<Answer, OAuthError> {
        let Outgoing { method, url, mut headers, body } = outgoing;
        // Some refuse whoever does not say what it is.
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION"))));
        let exchange = async {
            let mut answer = self.request(method, url).headers(headers).body(body).send().await?;
            let status = answer.status().as_u16();
            let retry_after = wait(answer.headers());
            let mut body = Vec::new();
            while let Some(piece) = answer.chunk().await? {
                if body.len() + piece.len() > MAX_ANSWER {
                    return Ok(None);
                }
                body.extend_from_slice(&piece);
            }
            Ok(Some(Answer { status, retry_after, body }))
        };
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(Ok(Some(answer))) if (300..400).contains(&answer.status) => Err(OAuthError::Nonsense(
                "it redirects, which is not followed with a secret in hand".to_owned(),
            )),
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(OAuthError::Nonsense("it is larger than 1 MiB".to_owned())),
            Ok(Err(error)) => Err(unavailable(&error)),
            Err(_) => {
                Err(OAuthError::Unavailable { why: "it did not answer in time".to_owned(), after: None })
            }
        }
    }
}

/// How long the other side asks us to wait. A date counts from what the clock is over there: who says one says the other (RFC 9110, 6.6.1), and
/// what our own clock says does not matter.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let there = text(DATE).and_then(judge::http_date).unwrap_or(u64::MAX);
    judge::retry_after(text(RETRY_AFTER)?, there)
}

/// Never with the URL: a secret may stand in it.
fn unavailable(error: &reqwest::Error) -> OAuthError {
    let why = match error {
        error if error.is_connect() => "no connection",
        error if error.is_timeout() => "it did not answer in time",
        _ => "the connection broke",
    };
    OAuthError::Unavailable { why: why.to_owned(), after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_may_be_a_date() {
        let after = |date: &'static str, wait: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, HeaderValue::from_static(date));
            headers.insert(RETRY_AFTER, HeaderValue::from_static(wait));
            super::wait(&headers).map(|wait| wait.as_secs_f64())
        };
        let now = "Sun, 22 Nov 2026 06:00:00 GMT";
        assert_eq!(after(now, "120"), Some(120.0));
        assert_eq!(after(now, " 1.5 "), Some(1.5));
        assert_eq!(after(now, "Sun, 22 Nov 2026 06:02:30 GMT"), Some(150.0));
        // By the clock of whoever says so, however wrong that is.
        assert_eq!(after("Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:07 GMT"), Some(7.0));
        for odd in ["Sun, 22 Nov 2026 05:59:59 GMT", now, "-1", "soon", "", "99999999999999999999"] {
            assert_eq!(after(now, odd), None, "{odd}");
        }
        // Whoever has no clock can name no date.
        assert_eq!(after("", "Sun, 22 Nov 2026 06:02:30 GMT"), None);
        assert_eq!(after("", "120"), Some(120.0));
    }
}
