//! Who is asked for what operators do from a terminal ([`orders`](super::orders)). Why through the admin API in any case: the store
//! belongs to one process, and there must be one way to change it. While the gateway runs it is asked over its admin port;
//! while it does not, the same API is built here over the same store, and asked without a socket in between.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tower_service::Service;
use url::Url;
use zeroize::Zeroizing;

use super::backing::{self, Backing};
use super::wiring;
use crate::clock::Clock;
use crate::config::{Config, StoreUrl};
use crate::http::plane::{self, Operations, Plane};
use crate::ids::random_name;
use crate::pool::Pool;
use crate::secret::Secret;
use crate::store::StoreError;
use crate::vault::KEY_FILE;

/// For one question to the running gateway: a rotation or a test of an account takes its time.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Who is asked.
pub enum Office {
    Here { router: axum::Router, operator: Secret },
    There { url: Url, token: Option<Secret>, client: reqwest::Client },
}

/// What the admin API refused.
#[derive(Debug, thiserror::Error)]
#[error("refused (status {status}): {why}")]
pub(super) struct Denied {
    pub status: u16,
    pub code: String,
    pub why: String,
}

struct NothingRuns;

impl Operations for NothingRuns {
    fn reload(&self) -> Result<(), String> {
        Err("The gateway is not running.".to_owned())
    }
}

impl Office {
    /// Opens the store that the configuration names, or turns to the gateway that holds it.
    pub async fn reach(config: &Config) -> anyhow::Result<Self> {
        anyhow::ensure!(
            !matches!(config.store, StoreUrl::Memory),
            "a store in memory keeps nothing beyond its gateway's life"
        );
        let clock = Clock::system();
        let folder = wiring::state_folder(config);
        let opened = match &config.store {
            StoreUrl::Redis(address) => backing::reach(address).await,
            StoreUrl::Embedded(_) | StoreUrl::Memory => Backing::open(config, Duration::ZERO, &clock),
        };
        let backing = match opened {
            Ok(backing) => backing,
            Err(error) if matches!(error.downcast_ref(), Some(StoreError::Locked(_))) => {
                let url = format!("http://{}/", config.admin_listen).parse()?;
                let token = wiring::read_operator_token(&folder);
                return Ok(Self::There { url, token, client: wiring::back_office()? });
            }
            Err(error) => return Err(error),
        };
        let key_file = folder.join(KEY_FILE);
        let had_key = key_file.exists();
        // Nothing is spent from here: limits are the gateway's affair.
        let pool = Pool::new(config.pool.clone(), clock.clone(), None);
        let house = wiring::house(config, backing.records(), pool, None, &clock).await?;
        if !had_key && key_file.exists() {
            super::say_error(&format!(
                "made a key that encrypts the store's credentials: {}",
                key_file.display()
            ));
        }
        let staff = wiring::staff(&house, backing.records(), &clock)?;
        let operator = Secret::new(random_name("operator-", 43));
        let plane = Plane {
            // Nobody signs in from here.
            #[cfg(feature = "browser")]
            browsing: crate::gateway::onboard::browsing::Browsing::new(
                Arc::clone(&house.onboard),
                Default::default(),
            ),
            gateway: house.gateway,
            operations: Arc::new(NothingRuns),
            keys: house.keys,
            records: backing.records(),
            onboard: house.onboard,
            consents: staff.consents,
            renewals: staff.renewals,
            departures: staff.departures,
            own_url: wiring::own_url(config),
            people: house.people,
            provider: house.provider,
            operator: Arc::new(operator.clone()),
            metrics_are_open: false,
        };
        Ok(Self::Here { router: plane::admin(plane), operator })
    }

    /// Asks, and gives back what was answered.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let mut url = match self {
            Self::Here { .. } => Url::parse("http://weir/")?,
            Self::There { url, .. } => url.clone(),
        };
        match url.path_segments_mut() {
            // `extend` escapes whatever an id may hold.
            Ok(mut segments) => drop(segments.pop_if_empty().push("admin").extend(path)),
            Err(()) => anyhow::bail!("not a URL of an admin port"),
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let body = Zeroizing::new(body.map(Value::to_string).unwrap_or_default());
        let (status, bytes) = match self {
            Self::Here { router, operator } => here(router, operator, method, &url, &body).await?,
            Self::There { token, client, .. } => there(token.as_ref(), client, method, url, &body).await?,
        };
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let of = |place: &str| answer.pointer(place).and_then(Value::as_str).unwrap_or_default();
        let why = Some(of("/error/message")).filter(|why| !why.is_empty()).unwrap_or("no reason given");
        let why: String = why.chars().filter(|char| !char.is_control()).take(500).collect();
        Err(Denied { status, code: of("/error/code").to_owned(), why }.into())
    }

    /// All pages of a list.
    pub(super) async fn all(&self, path: &[&str], list: &str) -> anyhow::Result<Vec<Value>> {
        let mut found = Vec::new();
        let mut query = Vec::new();
        loop {
            let mut page = self.ask(Method::GET, path, &query, None).await?;
            if let Some(Value::Array(entries)) = page.get_mut(list).map(Value::take) {
                found.extend(entries);
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => query = vec![("after", next.to_owned())],
                None => return Ok(found),
            }
        }
    }
}

async fn here(
    router: &axum::Router,
    operator: &Secret,
    method: Method,
    url: &Url,
    body: &str,
) -> anyhow::Result<(u16, Vec<u8>)> {
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {}", operator.expose()))
        .body(axum::body::Body::from(body.to_owned()))?;
    let response = match router.clone().call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes().to_vec()))
}

async fn there(
    token: Option<&Secret>,
    client: &reqwest::Client,
    method: Method,
    url: Url,
    body: &str,
) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut request = client.request(method, url).timeout(TIMEOUT).body(body.to_owned());
    if let Some(token) = token {
        request = request.bearer_auth(token.expose());
    }
    let answer = request.send().await.context("the running gateway cannot be asked")?;
    Ok((answer.status().as_u16(), answer.bytes().await?.to_vec()))
}

/// A value of an answer for a terminal: without quotes, and without anything that a terminal would obey.
pub(super) fn text(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    text.chars().filter(|char| !char.is_control()).collect()
}
