//! Every metric's name, in one place. Why: a label that a caller can choose (a model's name, an error text) makes a series
//! per value and brings a Prometheus down (R23); here each label's values come from closed sets or from the operator's
//! configuration, and nothing else in the tree may name a metric.

use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

/// All metrics of one gateway, in a registry of its own (no globals: tests run many gateways in one process).
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests by route, platform and outcome. `route` is the configured pattern, never the caller's word.
    pub requests: IntCounterVec,
    /// Upstream attempts by platform and verdict.
    pub attempts: IntCounterVec,
    /// Tokens settled, by platform and kind (prompt, completion, cached, reasoning).
    pub tokens: IntCounterVec,
    /// Settlements by whether the platform named the usage (`exact`) or we estimated it (`estimated`).
    pub settlements: IntCounterVec,
    /// Streams that ended because no more tokens could be set aside, by platform and whose limit it was (`account`, `caller`).
    pub budget_stops: IntCounterVec,
    /// Attempts whose caller and model usage does not tell apart: too many at once.
    pub usage_overflow: IntCounter,
    /// Flushes of usage that the store did not take (they are tried again).
    pub usage_unflushed: IntCounter,
    /// Time that Weir itself took before the request went out, in seconds.
    pub overhead: Histogram,
    /// From the request's arrival to the first byte of content, in seconds, by platform.
    pub first_token: HistogramVec,
    /// Between two reads of a platform's stream, in seconds.
    pub event_gap: Histogram,
    /// Whole duration of requests, in seconds, by platform.
    pub duration: HistogramVec,
    /// Requests under way.
    pub in_flight: IntGauge,
    /// Streams being relayed.
    pub open_streams: IntGauge,
    /// Callers' connections.
    pub connections: IntGauge,
    /// Cooldowns begun, by platform and cause.
    pub cooldowns: IntCounterVec,
    /// Accounts by platform and state (`ready`, `cooling`, `resting`, `broken`, `expired`, `disabled`).
    pub accounts: GaugeVec,
    /// Requests that an SDK sent again by itself (`x-stainless-retry-count` above 0).
    pub sdk_retries: IntCounter,
    /// Retries that the budget refused.
    pub retries_refused: IntCounter,
    /// Configuration reloads by result (`ok`, `refused`).
    pub reloads: IntCounterVec,
    /// Refused callers by reason (the fault's label).
    pub refused: IntCounterVec,
    /// Bytes of request bodies held.
    pub body_bytes: IntGauge,
    /// Panics caught in requests.
    pub leases_lost: IntCounter,
    /// Accounts whose consent has ended.
    pub needs_reauth: IntCounter,
    /// Sign-ins at platforms' own pages that ended, by outcome (`done`, `failed`, `cancelled`, `late`, `ended`).
    pub browser_sign_ins: IntCounterVec,
    /// Browsers open for them.
    pub browsers: IntGauge,
    /// Tokens of consents that were to be renewed, by platform and outcome (`renewed`, `failed`, `ended`).
    pub renewals: IntCounterVec,
    /// 1 while the pool's authority answers.
    pub authority_up: IntGauge,
    pub replicas: IntGauge,
    pub panics: IntCounter,
}

/// Seconds, from a tenth of a millisecond to ten minutes.
const LATENCY: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0, 120.0, 300.0, 600.0,
];

/// Seconds, from two microseconds to a tenth of a second.
const OVERHEAD: &[f64] = &[
    0.000_002, 0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005,
    0.01, 0.1,
];

struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        let made = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(made.clone())).map(|()| made)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let made = IntCounter::new(name, help)?;
        self.0.register(Box::new(made.clone())).map(|()| made)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let made = IntGauge::new(name, help)?;
        self.0.register(Box::new(made.clone())).map(|()| made)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let made = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
        self.0.register(Box::new(made.clone())).map(|()| made)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<HistogramVec> {
        let made = HistogramVec::new(HistogramOpts::new(name, help).buckets(LATENCY.to_vec()), labels)?;
        self.0.register(Box::new(made.clone())).map(|()| made)
    }
}

impl Metrics {
    /// A fresh set.
    ///
    /// # Errors
    /// Only where two of the names below are the same: a defect that every test would show.
    #[rustfmt::skip]
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let make = Maker(&registry);
        let accounts = GaugeVec::new(Opts::new("weir_accounts", "Accounts by state."), &["platform", "state"])?;
        registry.register(Box::new(accounts.clone()))?;
        Ok(Self {
            requests: make.counters("weir_requests_total", "Requests by route, platform and outcome.", &["route", "platform", "outcome"])?,
            attempts: make.counters("weir_upstream_attempts_total", "Upstream attempts by verdict.", &["platform", "verdict"])?,
            tokens: make.counters("weir_tokens_total", "Tokens settled, by kind.", &["platform", "kind"])?,
            settlements: make.counters("weir_settlements_total", "Settlements, exact or estimated.", &["platform", "basis"])?,
            budget_stops: make.counters("weir_budget_stops_total", "Streams ended for want of tokens, by whose limit.", &["platform", "side"])?,
            usage_overflow: make.counter("weir_usage_overflow_total", "Attempts whose caller and model usage does not tell apart.")?,
            usage_unflushed: make.counter("weir_usage_unflushed_total", "Flushes of usage that the store did not take.")?,
            overhead: make.histogram("weir_overhead_seconds", "Time in Weir before the request went out.", OVERHEAD)?,
            first_token: make.histograms("weir_time_to_first_token_seconds", "Arrival to first content.", &["platform"])?,
            event_gap: make.histogram("weir_event_gap_seconds", "Between two reads of a platform's stream.", LATENCY)?,
            duration: make.histograms("weir_request_duration_seconds", "Arrival to the end of the answer.", &["platform"])?,
            in_flight: make.gauge("weir_requests_in_flight", "Requests under way.")?,
            open_streams: make.gauge("weir_open_streams", "Streams being relayed.")?,
            connections: make.gauge("weir_connections", "Callers' connections.")?,
            cooldowns: make.counters("weir_cooldowns_total", "Cooldowns begun, by cause.", &["platform", "cause"])?,
            accounts,
            sdk_retries: make.counter("weir_sdk_retries_total", "Requests that an SDK sent again by itself.")?,
            retries_refused: make.counter("weir_retries_refused_total", "Retries that the budget refused.")?,
            reloads: make.counters("weir_config_reloads_total", "Configuration reloads by result.", &["result"])?,
            refused: make.counters("weir_refused_total", "Requests refused before a route was found.", &["reason"])?,
            body_bytes: make.gauge("weir_request_body_bytes", "Bytes of request bodies held.")?,
            leases_lost: make.counter("weir_lease_lost_total", "Units of budgets that a process was granted and did not live to use or give back; they count as spent.")?,
            authority_up: make.gauge("weir_pool_authority_up", "1 while whoever grants the pool's leases answers, 0 while not.")?,
            replicas: make.gauge("weir_replicas", "Processes that share the pool's limits, as last heard.")?,
            needs_reauth: make.counter("weir_accounts_need_consent_total", "Accounts whose provider no longer renews their token: somebody must agree again.")?,
            browser_sign_ins: make.counters("weir_browser_sign_ins_total", "Sign-ins at platforms' own pages that ended, by outcome.", &["outcome"])?,
            browsers: make.gauge("weir_browsers", "Browsers open for sign-ins at platforms' own pages.")?,
            renewals: make.counters("weir_token_renewals_total", "Tokens of consents that were to be renewed, by outcome.", &["platform", "outcome"])?,
            panics: make.counter("weir_panics_total", "Panics caught in requests.")?,
            registry,
        })
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// Where the encoder fails, which it does not for well-formed metrics.
    pub fn render(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_was_counted() {
        let metrics = Metrics::new().expect("unique names");
        metrics.requests.with_label_values(&["smart", "qwen", "ok"]).inc();
        let text = metrics.render().expect("text");
        assert!(
            text.contains(r#"weir_requests_total{outcome="ok",platform="qwen",route="smart"} 1"#),
            "{text}"
        );
    }
}
