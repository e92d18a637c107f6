//! When to come back, by the platform's own word. Why a list of sources per row: there is no one place; some say it in a
//! header, some in the body, some only in a sentence.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;

use super::calendar;
use super::report::Report;

/// A source of hints; a row lists those that its platform has, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hint {
    /// Header `retry-after-ms`.
    RetryAfterMs,
    /// Header `retry-after`: seconds or a date.
    RetryAfter,
    /// Google's `RetryInfo.retryDelay` in the body.
    RetryInfo,
    /// "try again in 644ms", "retry in 20.22s" in the message.
    TryAgainIn,
    /// Hugging Face's `estimated_time` in the body, in seconds.
    EstimatedTime,
    /// A date and time in the message (Zhipu, plans of several vendors).
    ResetText,
    /// Headers `anthropic-ratelimit-*-reset` of the buckets that are empty.
    AnthropicReset,
    /// Header `ratelimit` of the IETF draft: `"api";r=0;t=55`.
    RateLimit,
}

impl Hint {
    /// What this source says, if anything.
    pub fn find(
        self,
        headers: &HeaderMap,
        report: &Report,
        wall_millis: u64,
        timezone: &TimeZone,
    ) -> Option<Duration> {
        match self {
            Hint::RetryAfterMs => header(headers, "retry-after-ms").and_then(|text| millis(text.trim())),
            Hint::RetryAfter => {
                header(headers, "retry-after").and_then(|text| retry_after(text.trim(), wall_millis))
            }
            Hint::RetryInfo => retry_info(&report.json),
            Hint::TryAgainIn => try_again_in(report.text()),
            Hint::EstimatedTime => {
                report.json.get("estimated_time").and_then(Value::as_f64).and_then(seconds)
            }
            Hint::ResetText => calendar::time_in(report.text(), wall_millis, timezone),
            Hint::AnthropicReset => anthropic_reset(headers, wall_millis),
            Hint::RateLimit => header(headers, "ratelimit").and_then(rate_limit),
        }
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

fn millis(text: &str) -> Option<Duration> {
    text.parse::<f64>().ok().and_then(|millis| seconds(millis / 1000.0))
}

/// What a header `retry-after` says: seconds, or an HTTP date, where it is now `wall_millis` since 1970.
pub fn retry_after(text: &str, wall_millis: u64) -> Option<Duration> {
    if let Ok(number) = text.parse::<f64>() {
        return seconds(number);
    }
    http_date(text)?.checked_sub(wall_millis).filter(|millis| *millis > 0).map(Duration::from_millis)
}

/// An HTTP date, in milliseconds since 1970.
pub fn http_date(text: &str) -> Option<u64> {
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    u64::try_from(date.timestamp().as_millisecond()).ok()
}

/// `{"error":{"details":[{"@type":"…RetryInfo","retryDelay":"20s"}]}}`.
fn retry_info(json: &Value) -> Option<Duration> {
    let details = json.pointer("/error/details")?.as_array()?;
    let delay = details.iter().find_map(|detail| detail.get("retryDelay")?.as_str())?;
    delay.strip_suffix('s')?.parse::<f64>().ok().and_then(seconds)
}

fn try_again_in(text: &str) -> Option<Duration> {
    let after = ["try again in ", "retry in ", "retry after "]
        .iter()
        .find_map(|words| text.split_once(words).map(|(_, rest)| rest))?;
    go_duration(after)
}

/// A duration as Go writes it, at the beginning of `text`: `644ms`, `9.816s`, `1m2.5s`, `1h2m3s`. With a space before a
/// word (`20 seconds`) the word counts by its first letter.
fn go_duration(text: &str) -> Option<Duration> {
    let mut total = None;
    let mut rest = text;
    loop {
        let digits = rest
            .find(|character: char| !(character.is_ascii_digit() || character == '.'))
            .unwrap_or(rest.len());
        let Ok(number) = rest.get(..digits)?.trim_end_matches('.').parse::<f64>() else {
            return total.and_then(seconds);
        };
        let unit = rest.get(digits..)?.trim_start();
        let word = unit.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(unit.len());
        let letters = word.min(unit.find(|character: char| character.is_ascii_digit()).unwrap_or(word));
        let scale = match unit.get(..letters)? {
            "ms" | "milliseconds" => 0.001,
            "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => return total.and_then(seconds),
        };
        total = Some(total.unwrap_or(0.0) + number * scale);
        rest = unit.get(letters..)?;
    }
}

/// The latest reset among the buckets with nothing left.
fn anthropic_reset(headers: &HeaderMap, wall_millis: u64) -> Option<Duration> {
    headers
        .iter()
        .filter_map(|(name, value)| {
            let bucket = name.as_str().strip_prefix("anthropic-ratelimit-")?.strip_suffix("-remaining")?;
            (value.as_bytes() == b"0").then_some(bucket)
        })
        .filter_map(|bucket| header(headers, &format!("anthropic-ratelimit-{bucket}-reset")))
        .filter_map(|reset| calendar::until(reset.parse::<Timestamp>().ok()?, wall_millis))
        .max()
}

/// The longest `t` of the policies whose `r` is 0.
fn rate_limit(text: &str) -> Option<Duration> {
    let parameter = |policy: &str, name: &str| {
        policy
            .split(';')
            .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    text.split(',')
        .filter(|policy| parameter(policy, "r") == Some(0))
        .filter_map(|policy| parameter(policy, "t"))
        .max()
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T02:00:00Z.
    const NOW: u64 = 1_795_226_400_000;

    fn find(hint: Hint, pairs: &[(&'static str, &str)], body: &str) -> Option<f64> {
        let headers: HeaderMap = pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("value")))
            .collect();
        hint.find(&headers, &Report::read(body.as_bytes()), NOW, &TimeZone::UTC)
            .map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn headers_in_seconds_millis_and_dates() {
        assert_eq!(find(Hint::RetryAfterMs, &[("retry-after-ms", "644")], ""), Some(0.644));
        assert_eq!(find(Hint::RetryAfter, &[("retry-after", "1")], ""), Some(1.0));
        assert_eq!(find(Hint::RetryAfter, &[("retry-after", "1.5")], ""), Some(1.5));
        let date = "Sat, 21 Nov 2026 02:00:30 GMT";
        assert_eq!(find(Hint::RetryAfter, &[("retry-after", date)], ""), Some(30.0));
        assert_eq!(find(Hint::RetryAfter, &[("retry-after", "Sat, 21 Nov 2020 02:00:30 GMT")], ""), None);
        for odd in ["-5", "NaN", "inf", "1e300", "soon", ""] {
            assert_eq!(find(Hint::RetryAfter, &[("retry-after", odd)], ""), None, "{odd}");
        }
    }

    #[test]
    fn bodies_and_sentences() {
        let body =
            r#"{"error":{"details":[{"@type":"x.Help"},{"@type":"x.RetryInfo","retryDelay":"20.5s"}]}}"#;
        assert_eq!(find(Hint::RetryInfo, &[], body), Some(20.5));
        assert_eq!(
            find(Hint::EstimatedTime, &[], r#"{"error":"loading","estimated_time":20.0}"#),
            Some(20.0)
        );
        for (words, wait) in [
            ("Please try again in 644ms. Visit https://x", Some(0.644)),
            ("Please try again in 9.816s.", Some(9.816)),
            ("Please try again in 1m2.5s.", Some(62.5)),
            ("Please retry in 20.22s.", Some(20.22)),
            ("Please try again in 1h2m3s", Some(3723.0)),
            ("Please try again in 20 seconds", Some(20.0)),
            ("Please try again in 6m0s.", Some(360.0)),
            ("Please try again in a while", None),
            ("Please try again in 5 apples", None),
            ("", None),
        ] {
            let body = serde_json::json!({"error": {"message": words}}).to_string();
            let found = find(Hint::TryAgainIn, &[], &body);
            assert_eq!(
                found.map(|wait| (wait * 1000.0).round()),
                wait.map(|wait: f64| (wait * 1000.0).round()),
                "{words}"
            );
        }
    }

    #[test]
    fn anthropics_empty_buckets_say_when_they_fill() {
        let headers = [
            ("anthropic-ratelimit-requests-remaining", "999"),
            ("anthropic-ratelimit-requests-reset", "2026-11-21T03:00:00Z"),
            ("anthropic-ratelimit-input-tokens-remaining", "0"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-11-21T02:00:40Z"),
            ("anthropic-ratelimit-tokens-remaining", "0"),
            ("anthropic-ratelimit-tokens-reset", "2026-11-21T02:00:59Z"),
        ];
        assert_eq!(find(Hint::AnthropicReset, &headers, ""), Some(59.0));
        assert_eq!(find(Hint::AnthropicReset, &headers[..2], ""), None);
    }

    #[test]
    fn the_ietf_header_counts_where_nothing_remains() {
        assert_eq!(find(Hint::RateLimit, &[("ratelimit", "\"api\";r=0;t=55")], ""), Some(55.0));
        assert_eq!(find(Hint::RateLimit, &[("ratelimit", "\"api\";r=5;t=55")], ""), None);
        assert_eq!(find(Hint::RateLimit, &[("ratelimit", "\"a\";r=0;t=5, \"b\";r=0;t=9")], ""), Some(9.0));
    }
}
