//! What goes wrong on purpose. Why words in the message: a test that speaks only OpenAI's dialect to the gateway can
//! still say, through every layer, how the platform behind it shall fail, without a side channel.

use std::time::Duration;

use crate::fake::brain::words;

/// What a platform may hold against a request or an account. Each wire has its own words for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    RateLimited,
    TokensLimited,
    Concurrency,
    DailyQuota,
    QuotaExhausted,
    TokenExpired,
    AuthInvalid,
    NotEntitled,
    Overloaded,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    ServerError,
    /// No such path or method. Not to be had by a directive.
    NoSuchPath,
}

impl Class {
    /// All of them, by the name that `@error=` takes.
    pub const NAMES: [(&'static str, Class); 13] = [
        ("rate_limited", Class::RateLimited),
        ("tokens_limited", Class::TokensLimited),
        ("concurrency", Class::Concurrency),
        ("daily_quota", Class::DailyQuota),
        ("quota_exhausted", Class::QuotaExhausted),
        ("token_expired", Class::TokenExpired),
        ("auth_invalid", Class::AuthInvalid),
        ("not_entitled", Class::NotEntitled),
        ("overloaded", Class::Overloaded),
        ("bad_request", Class::BadRequest),
        ("content_filtered", Class::ContentFiltered),
        ("context_too_long", Class::ContextTooLong),
        ("server_error", Class::ServerError),
    ];

    /// The class of that name.
    pub fn named(name: &str) -> Option<Class> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, class)| *class)
    }
}

/// A refusal, before a wire has put it in its own words.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub class: Class,
    /// The platform's words where they matter; the class's usual words otherwise.
    pub message: Option<String>,
    /// The field to blame.
    pub param: Option<String>,
    /// The platform's own code, where it is not the class's usual one.
    pub code: Option<&'static str>,
    /// When to come back.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal in the class's usual words.
    pub fn of(class: Class) -> Self {
        Self { class, message: None, param: None, code: None, retry_after: None }
    }

    /// The request is wrong.
    pub fn bad(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::of(Class::BadRequest) }
    }

    /// Blames a field.
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// With the platform's own code.
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// In these words.
    pub fn saying(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// To be tried again after `wait`.
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

/// An answer that is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wreck {
    /// Bytes that no wire knows, with the right content type.
    Garbage,
    /// 200 with a web page.
    Html,
    /// 200 without a body.
    Empty,
    /// The connection closes without a byte.
    Nothing,
    /// One line that never ends.
    EndlessLine,
    /// The same event for ever.
    EndlessStream,
    /// A small gzip body of very many zeros.
    GzipBomb,
}

/// What the caller's text (or the script) asked the fake to do.
#[derive(Clone, Debug, Default)]
pub struct Directives {
    pub error: Option<Class>,
    pub inband: Option<Class>,
    pub midstream: Option<Class>,
    pub once: bool,
    pub cut: Option<usize>,
    /// Like `cut`, and half of the next event goes out as well.
    pub tear: Option<usize>,
    pub stall: Duration,
    pub first: Duration,
    pub gap: Duration,
    pub chunk: Option<usize>,
    pub words: Option<usize>,
    pub wreck: Option<Wreck>,
    pub no_usage: bool,
    pub crlf: bool,
    pub no_done: bool,
    pub no_finish: bool,
    pub ping: bool,
    pub big_tool: Option<usize>,
    /// The platform filters the answer after it began to give it.
    pub filtered: bool,
}

impl Directives {
    /// Takes the directives out of `text`; what is left comes back with single spaces between words.
    pub fn take(&mut self, text: &str) -> String {
        let mut left = String::with_capacity(text.len());
        for word in text.split_whitespace() {
            if word.strip_prefix('@').is_some_and(|directive| self.obey(directive)) {
                continue;
            }
            if !left.is_empty() {
                left.push(' ');
            }
            left.push_str(word);
        }
        left
    }

    /// Follows one directive (without its `@`). False when it is none.
    fn obey(&mut self, directive: &str) -> bool {
        let (key, value) = directive.split_once('=').unwrap_or((directive, ""));
        let value = value.trim_end_matches(['.', ',', ';', '!', '?']);
        let millis = || value.parse().map(Duration::from_millis).unwrap_or_default();
        let count = || value.parse::<usize>().ok();
        match key {
            "error" => self.error = Some(Class::named(value).unwrap_or(Class::ServerError)),
            "inband_error" => self.inband = Some(Class::named(value).unwrap_or(Class::Overloaded)),
            "midstream_error" => self.midstream = Some(Class::named(value).unwrap_or(Class::Overloaded)),
            "once" => self.once = true,
            "cut" => self.cut = Some(count().unwrap_or(1)),
            "tear" => self.tear = Some(count().unwrap_or(1)),
            "stall" => self.stall = millis(),
            "first" => self.first = millis(),
            "gap" => self.gap = millis(),
            "chunk" => self.chunk = Some(count().unwrap_or(1).max(1)),
            "words" => self.words = Some(count().unwrap_or(100)),
            "usage" => self.no_usage = value == "none",
            "crlf" => self.crlf = true,
            "no_done" => self.no_done = true,
            "nofinish" => self.no_finish = true,
            "ping" => self.ping = true,
            "filtered" => self.filtered = true,
            "big_tool" => self.big_tool = Some(count().unwrap_or(1 << 20)),
            _ => match wreck(key) {
                Some(wreck) => self.wreck = Some(wreck),
                None => return false,
            },
        }
        true
    }

    /// Whether anything goes wrong, so that `@once` has something to decide.
    pub fn harmful(&self) -> bool {
        self.error.is_some()
            || self.inband.is_some()
            || self.midstream.is_some()
            || self.cut.is_some()
            || self.tear.is_some()
            || self.wreck.is_some()
            || self.no_finish
            || self.no_done
            || self.stall > Duration::ZERO
            || self.first > Duration::ZERO
    }

    /// Forgets everything that goes wrong.
    pub fn heal(&mut self) {
        *self = Self {
            gap: self.gap,
            chunk: self.chunk,
            words: self.words,
            no_usage: self.no_usage,
            crlf: self.crlf,
            ping: self.ping,
            big_tool: self.big_tool,
            filtered: self.filtered,
            ..Self::default()
        };
    }
}

fn wreck(key: &str) -> Option<Wreck> {
    Some(match key {
        "garbage" => Wreck::Garbage,
        "html" => Wreck::Html,
        "empty" => Wreck::Empty,
        "nothing" => Wreck::Nothing,
        "endless_line" => Wreck::EndlessLine,
        "endless_stream" => Wreck::EndlessStream,
        "gzip_bomb" => Wreck::GzipBomb,
        _ => return None,
    })
}

/// The text of a long answer: `count` numbered words.
pub fn filler(count: usize) -> String {
    let mut text = String::with_capacity(count * 7);
    for index in 1..=count {
        if index > 1 {
            text.push(' ');
        }
        text.push('w');
        text.push_str(&index.to_string());
    }
    debug_assert_eq!(words(&text), count as u64);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_leave_the_text_and_other_words_stay() {
        let mut asked = Directives::default();
        let left = asked.take("Hi @gap=20 there @once\n@error=overloaded mail a@b.c @you.");
        assert_eq!(left, "Hi there mail a@b.c @you.");
        assert_eq!(asked.gap, Duration::from_millis(20));
        assert_eq!(asked.error, Some(Class::Overloaded));
        assert!(asked.once && asked.harmful());
        asked.heal();
        assert!(!asked.harmful() && asked.gap == Duration::from_millis(20));
    }

    #[test]
    fn a_long_answer_has_exactly_the_words_asked_for() {
        for count in [0, 1, 7, 1000] {
            assert_eq!(words(&filler(count)), count as u64);
        }
    }
}
