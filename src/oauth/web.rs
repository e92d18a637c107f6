//! One request out, to an address from the configuration: no redirects, a time limit, a size limit. Why a trait: the flows are tested
//! without sockets.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use url::Url;

use super::error::OAuthError;

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
            let retry_after =
                answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let mut body = Vec::new();
            while let Some(piece) = answer.chunk().await? {
                if body.len() + piece.len() > MAX_ANSWER {
                    return Ok(None);
                }
                body.extend_from_slice(&piece);
            }
            Ok(Some(Answer { status, retry_after: retry_after.map(Duration::from_secs), body }))
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

/// Never with the URL: a secret may stand in it.
fn unavailable(error: &reqwest::Error) -> OAuthError {
    let why = match error {
        error if error.is_connect() => "no connection",
        error if error.is_timeout() => "it did not answer in time",
        _ => "the connection broke",
    };
    OAuthError::Unavailable { why: why.to_owned(), after: None }
}
