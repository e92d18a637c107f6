//! OpenAI's `x-ratelimit-*` headers, for the caller's own limits.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

/// Names and values to be added to an answer.
pub type Headers = SmallVec<[(HeaderName, HeaderValue); 6]>;

/// How one limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meter {
    pub limit: u64,
    pub remaining: u64,
    pub reset: Duration,
}

/// How a caller's limits stand; `None`: no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub(super) requests: Option<Meter>,
    pub(super) tokens: Option<Meter>,
}

const NAMES: [[HeaderName; 3]; 2] = [
    [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
];

impl Standing {
    /// As headers; nothing for a limit that there is not.
    pub fn headers(&self) -> Headers {
        let mut headers = Headers::new();
        for (meter, [limit, remaining, reset]) in [self.requests, self.tokens].into_iter().zip(NAMES) {
            let Some(meter) = meter else { continue };
            headers.push((limit, HeaderValue::from(meter.limit)));
            headers.push((remaining, HeaderValue::from(meter.remaining)));
            if let Ok(value) = HeaderValue::try_from(go_duration(meter.reset)) {
                headers.push((reset, value));
            }
        }
        headers
    }
}

/// A duration as Go prints it, to the millisecond, rounded up: `6m0s`, `1.5s`, `120ms`, `0s`.
pub(super) fn go_duration(length: Duration) -> String {
    let millis = length.as_nanos().div_ceil(1_000_000);
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (seconds, rest) = (millis / 1000, millis % 1000);
    let fraction =
        if rest == 0 { String::new() } else { format!(".{rest:03}").trim_end_matches('0').to_owned() };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_look_like_gos() {
        for (millis, expected) in [
            (0, "0s"),
            (1, "1ms"),
            (999, "999ms"),
            (1000, "1s"),
            (8640, "8.64s"),
            (360_000, "6m0s"),
            (90_951, "1m30.951s"),
            (3_600_000, "1h0m0s"),
            (86_400_000, "24h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), expected);
        }
        assert_eq!(go_duration(Duration::from_nanos(1)), "1ms");
    }
}
