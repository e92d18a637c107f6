//! From a platform's refusal to a verdict. Why tables: the same status means ten things at one platform and a code means
//! two things at another; a table can be read beside the vendor's page, ordered, dated and tested row by row.
//!
//! A row's own rules are tried in order, then the shared table by status. [`report`] finds what a body says, whatever
//! its shape; [`hint`] finds when to come back; [`mask`] makes the platform's words fit for a caller.

use std::time::Duration;

use http::HeaderMap;
use jiff::tz::TimeZone;

mod calendar;
mod hint;
pub mod mask;
mod report;
mod rule;

pub use hint::{Hint, http_date, retry_after};
pub use report::{is_error, is_error_scanned};
pub use rule::{Rule, Texts, Until};

use report::Report;

/// A wait that says: by itself this never ends; a person has to pay, unlock or consent. Ten years: far enough, and no
/// sum of times with it overflows.
pub const NEVER: Duration = Duration::from_secs(315_360_000);

/// What an upstream's answer means for the account and for the request (`pool.md`, the attempt loop).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ok,
    RateLimited,
    QuotaExhausted,
    TokenExpired,
    AuthInvalid,
    NotEntitled,
    Overloaded,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
}

impl Verdict {
    /// As rows of platforms, metrics and golden files write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::TokenExpired => "token_expired",
            Self::AuthInvalid => "auth_invalid",
            Self::NotEntitled => "not_entitled",
            Self::Overloaded => "overloaded",
            Self::BadRequest => "bad_request",
            Self::ContentFiltered => "content_filtered",
            Self::ContextTooLong => "context_too_long",
        }
    }
}

/// What a verdict is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This account for this model.
    #[default]
    Model,
    /// This account for all models.
    Account,
    /// The platform as a whole: no account is to blame.
    Platform,
}

/// A verdict with what the platform said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub scope: Scope,
    /// When to try again, by the platform's own word (header, body or text). [`NEVER`] where only a person can help.
    pub retry_after: Option<Duration>,
    /// The platform's message, safe to show to the caller who is at fault (secrets and hosts masked), bounded in length.
    pub message: String,
    /// The platform's own code, for the log and for OpenAI's `code` where it is one of OpenAI's.
    pub code: Option<String>,
    /// The parameter that the platform blames.
    pub param: Option<String>,
    /// The status to answer with where the request is at fault (400, 404, 413, 422).
    pub status: u16,
}

/// OpenAI's own codes for a request at fault: shown to the caller as they are.
const OPENAI_CODES: [&str; 12] = [
    "unsupported_parameter",
    "unsupported_value",
    "invalid_value",
    "invalid_type",
    "missing_required_parameter",
    "unknown_parameter",
    "context_length_exceeded",
    "string_above_max_length",
    "array_above_max_length",
    "integer_above_max_value",
    "integer_below_min_value",
    "invalid_image_url",
];

impl Judgement {
    /// OpenAI's `error.code` for this judgement: by the verdict, or the platform's own where it is one of OpenAI's.
    pub fn openai_code(&self) -> Option<&'static str> {
        match self.verdict {
            Verdict::RateLimited => Some("rate_limit_exceeded"),
            Verdict::QuotaExhausted => Some("insufficient_quota"),
            Verdict::NotEntitled => Some("model_not_found"),
            Verdict::ContentFiltered => Some("content_filter"),
            Verdict::ContextTooLong => Some("context_length_exceeded"),
            Verdict::TokenExpired | Verdict::AuthInvalid => Some("upstream_auth_failed"),
            Verdict::Overloaded => Some("upstream_error"),
            Verdict::Ok => None,
            Verdict::BadRequest => OPENAI_CODES.into_iter().find(|code| self.code.as_deref() == Some(*code)),
        }
    }
}

/// A platform's table, compiled.
#[derive(Clone, Debug)]
pub struct Judge {
    rules: Vec<Rule>,
    hints: Vec<Hint>,
    timezone: TimeZone,
    /// What a rate limit is about where no rule says.
    cooldown: Scope,
}

impl Judge {
    /// A table of `rules`, tried in order before the shared table.
    pub fn new(rules: Vec<Rule>, hints: Vec<Hint>, timezone: TimeZone, cooldown: Scope) -> Self {
        Self { rules, hints, timezone, cooldown }
    }

    /// Judges an answer that is an error: a status other than 2xx, or an error body inside a 200. `wall_millis` counts
    /// from 1970.
    pub fn judge(&self, status: u16, headers: &HeaderMap, body: &[u8], wall_millis: u64) -> Judgement {
        let report = Report::read(body);
        let status = if status == 200 { status_within(&report) } else { status };
        let rule = self.rules.iter().find(|rule| rule.fits(status, &report));
        let verdict = rule.map_or_else(|| by_status(status), |rule| rule.verdict);
        let scope = rule.and_then(|rule| rule.scope).unwrap_or_else(|| self.usual_scope(verdict, status));
        let until = match rule {
            Some(rule) => rule.until,
            None => (verdict == Verdict::QuotaExhausted).then_some(Until::Never),
        };
        let is_callers =
            matches!(verdict, Verdict::BadRequest | Verdict::ContentFiltered | Verdict::ContextTooLong);
        let message = match &report.message {
            Some(message) if is_callers => mask::mask(message),
            _ => format!("The platform answered with status {status}."),
        };
        Judgement {
            verdict,
            scope,
            retry_after: self.wait(verdict, until, headers, &report, wall_millis),
            message,
            code: report.codes.first().map(|code| mask::mask(code)),
            param: report.param.as_deref().map(mask::mask),
            status: callers_status(status),
        }
    }

    /// Which line of the row's own table decides, for tests.
    #[cfg(test)]
    pub fn line(&self, status: u16, body: &[u8]) -> Option<usize> {
        let report = Report::read(body);
        let status = if status == 200 { status_within(&report) } else { status };
        self.rules.iter().position(|rule| rule.fits(status, &report))
    }

    /// When to come back. The platform's own word on the moment wins; a bare hint of seconds does not shorten a wait for
    /// the next day, because it is about the next try.
    fn wait(
        &self,
        verdict: Verdict,
        until: Option<Until>,
        headers: &HeaderMap,
        report: &Report,
        wall_millis: u64,
    ) -> Option<Duration> {
        const ABOUT_THE_NEXT_TRY: Duration = Duration::from_secs(60);
        let matters = matches!(verdict, Verdict::RateLimited | Verdict::QuotaExhausted | Verdict::Overloaded);
        let hint = || {
            let found =
                self.hints.iter().find_map(|hint| hint.find(headers, report, wall_millis, &self.timezone));
            found.filter(|wait| matters && !wait.is_zero()).map(|wait| wait.min(NEVER))
        };
        match until {
            None => hint(),
            Some(Until::Never) => Some(NEVER),
            Some(Until::Seconds(seconds)) => hint().or(Some(Duration::from_secs(seconds).min(NEVER))),
            Some(Until::BodyTime) => {
                calendar::time_in(report.text(), wall_millis, &self.timezone).or_else(hint)
            }
            Some(Until::NextDay) => hint()
                .filter(|wait| *wait > ABOUT_THE_NEXT_TRY)
                .or_else(|| calendar::next_day(wall_millis, &self.timezone)),
            Some(Until::NextMonth) => calendar::next_month(wall_millis, &self.timezone),
        }
    }

    fn usual_scope(&self, verdict: Verdict, status: u16) -> Scope {
        match verdict {
            Verdict::RateLimited => self.cooldown,
            Verdict::QuotaExhausted | Verdict::AuthInvalid | Verdict::TokenExpired => Scope::Account,
            Verdict::Overloaded if matches!(status, 503 | 529) => Scope::Platform,
            _ => Scope::Model,
        }
    }
}

/// The shared table: what a status means where a platform says nothing more.
const fn by_status(status: u16) -> Verdict {
    match status {
        401 => Verdict::AuthInvalid,
        402 => Verdict::QuotaExhausted,
        403 | 404 | 410 => Verdict::NotEntitled,
        429 => Verdict::RateLimited,
        // A timeout, a conflict or "too early" is not about what was asked.
        408 | 409 | 425 | 499 => Verdict::Overloaded,
        400..=498 => Verdict::BadRequest,
        // 5xx; also an error in a 200 that no rule knows, and a redirect, which is never followed.
        _ => Verdict::Overloaded,
    }
}

/// What status an error inside a 200 would have had: by its type, or by a code that is a status.
fn status_within(report: &Report) -> u16 {
    let by_kind = match report.kind.as_deref() {
        Some("invalid_request_error") => Some(400),
        Some("authentication_error") => Some(401),
        Some("permission_error") => Some(403),
        Some("not_found_error") => Some(404),
        Some("request_too_large") => Some(413),
        Some("rate_limit_error" | "rate_limit_exceeded" | "requests" | "tokens") => Some(429),
        Some("overloaded_error") => Some(529),
        _ => None,
    };
    let by_code =
        || report.codes.iter().find_map(|code| code.parse().ok().filter(|code| matches!(code, 400..=599)));
    by_kind.or_else(by_code).unwrap_or(200)
}

/// What to answer a caller who is at fault.
const fn callers_status(status: u16) -> u16 {
    match status {
        404 | 413 | 422 => status,
        _ => 400,
    }
}

#[cfg(test)]
mod tests;
