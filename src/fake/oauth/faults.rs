//! What a test tells a provider to do wrong. Why apart from the flows: they stay true to the real ones, and everything that is
//! deliberately wrong is here, before or after them.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::fake::wire::Native;

/// One fault: where, how often, what. Several `what`s may be set.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// The endpoint's name, as in the counters; `redirect` is the way back to the client.
    pub on: String,
    /// Only token requests with this `grant_type` (its last part: `device_code`).
    pub grant: Option<String>,
    /// How often; null: until the faults are cleared.
    pub times: Option<u64>,
    /// Requests that pass first.
    pub skip: u64,
    /// The real work is done all the same and only its answer is lost: for `status`, `html`, `body`, `hang_s`, `nothing`.
    pub done: bool,
    /// Slow.
    pub delay_ms: u64,
    /// Silent for so long, then closed without an answer.
    pub hang_s: Option<f64>,
    /// Closed without an answer.
    pub nothing: bool,
    pub status: Option<u16>,
    pub retry_after: Option<String>,
    pub location: Option<String>,
    /// 200 and a firewall's page.
    pub html: bool,
    /// This body: a string as it is, anything else as JSON.
    pub body: Option<Value>,
    pub content_type: Option<String>,
    /// The answer, with so many bytes in a member more.
    pub big: Option<usize>,
    /// Half of the answer.
    pub truncate: bool,
    /// Members of the answer (parameters of the way back) that are set, left out, or said twice.
    pub set: Map<String, Value>,
    pub drop: Vec<String>,
    pub twice: Vec<String>,
    /// This error, in the provider's own shape; on `authorize` the way back goes at once.
    pub error: Option<String>,
    /// Claims of the ID token.
    pub claims: Map<String, Value>,
    pub drop_claims: Vec<String>,
    /// `none`: unsigned; `broken`: signature of something else; `unknown_kid`; `hmac`: HS256 with the public key.
    pub jwt: Option<String>,
}

impl Default for Fault {
    fn default() -> Self {
        Self {
            on: "token".to_owned(),
            grant: None,
            times: Some(1),
            skip: 0,
            done: false,
            delay_ms: 0,
            hang_s: None,
            nothing: false,
            status: None,
            retry_after: None,
            location: None,
            html: false,
            body: None,
            content_type: None,
            big: None,
            truncate: false,
            set: Map::new(),
            drop: Vec::new(),
            twice: Vec::new(),
            error: None,
            claims: Map::new(),
            drop_claims: Vec::new(),
            jwt: None,
        }
    }
}

const WAF: &str = "<!doctypehtml><html><head><meta charset=\"utf-8\"><meta name=\"aliyun_waf_aa\" content=\"0\"></head><body>Please wait while we check your browser.</body></html>";

impl Fault {
    /// Takes the next fault for an endpoint out of the list.
    pub fn take(faults: &mut Vec<Fault>, on: &str, grant: &str) -> Option<Fault> {
        let fits = |fault: &Fault| {
            fault.on == on
                && fault.grant.as_deref().is_none_or(|wanted| grant.rsplit(':').next() == Some(wanted))
        };
        let at = faults.iter().position(fits)?;
        let fault = faults.get_mut(at)?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        let taken = fault.clone();
        if let Some(times) = &mut fault.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                faults.remove(at);
            }
        }
        Some(taken)
    }

    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }

    /// Whether the connection ends without an answer, and after how long.
    pub fn silence(&self) -> Option<Duration> {
        match self.hang_s {
            Some(seconds) => Some(Duration::try_from_secs_f64(seconds).unwrap_or_default()),
            None => self.nothing.then_some(Duration::ZERO),
        }
    }

    /// What is answered instead.
    pub fn instead(&self) -> Option<Native> {
        if self.status.is_none() && !self.html && self.body.is_none() {
            return None;
        }
        let status = self.status.unwrap_or(200);
        let (kind, body) = match &self.body {
            _ if self.html => ("text/html; charset=utf-8", WAF.to_owned()),
            Some(Value::String(text)) => ("application/json", text.clone()),
            Some(other) => ("application/json", other.to_string()),
            None => ("text/plain", format!("status {status}")),
        };
        let kind = self.content_type.clone().unwrap_or_else(|| kind.to_owned());
        let mut native = Native { status, headers: vec![("content-type", kind)], body: body.into() };
        native.headers.extend(self.retry_after.clone().map(|wait| ("retry-after", wait)));
        native.headers.extend(self.location.clone().map(|place| ("location", place)));
        Some(native)
    }

    /// The true answer, spoilt.
    pub fn bend(&self, mut native: Native) -> Native {
        let edits = !self.set.is_empty() || !self.drop.is_empty() || self.big.is_some();
        if edits && let Ok(Value::Object(mut members)) = serde_json::from_slice::<Value>(&native.body) {
            for name in &self.drop {
                members.shift_remove(name);
            }
            members.extend(self.set.clone());
            if let Some(size) = self.big {
                members.insert("padding".to_owned(), Value::from("x".repeat(size)));
            }
            native.body = Value::Object(members).to_string().into();
        }
        if self.truncate {
            native.body = native.body.slice(..native.body.len() / 2);
        }
        native
    }

    /// The way back, spoilt.
    pub fn divert(&self, pairs: &mut Vec<(String, String)>) {
        pairs.retain(|(name, _)| !self.drop.contains(name) && !self.set.contains_key(name));
        for (name, value) in &self.set {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            pairs.push((name.clone(), value));
        }
        let again: Vec<_> = pairs.iter().filter(|(name, _)| self.twice.contains(name)).cloned().collect();
        pairs.extend(again);
    }
}

/// What `POST …/faults` takes: one or a list.
pub fn parse(body: &Bytes) -> Result<Vec<Fault>, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let list = match value {
        Value::Array(list) => list,
        one => vec![one],
    };
    let read = |value| serde_json::from_value::<Fault>(value).map_err(|error| error.to_string());
    let faults: Vec<Fault> = list.into_iter().map(read).collect::<Result<_, _>>()?;
    match faults.iter().find(|fault| super::rows::Endpoint::named(&fault.on).is_none()) {
        Some(fault) => Err(format!("there is no endpoint {:?}", fault.on)),
        None => Ok(faults),
    }
}
