//! One line of an error table.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, SeqAccess, Visitor};

use super::report::Report;
use super::{Scope, Verdict};
use crate::glob;

/// A line of a row's `errors:`. Fits where everything that it names fits.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// HTTP statuses; none: any.
    #[serde(default)]
    pub status: Vec<u16>,
    /// The platform's codes, `*` for any run of characters.
    #[serde(default)]
    pub code: Texts,
    /// The platform's error type.
    #[serde(default, rename = "type")]
    pub kind: Texts,
    /// Words in the message; case does not matter.
    #[serde(default)]
    pub message: Texts,
    /// The parameter that the platform blames.
    #[serde(default)]
    pub param: Texts,
    pub verdict: Verdict,
    #[serde(default)]
    pub scope: Option<Scope>,
    #[serde(default)]
    pub until: Option<Until>,
}

impl Rule {
    /// Whether an answer is what this line is about.
    pub fn fits(&self, status: u16, report: &Report) -> bool {
        let any = |wanted: &Texts, found: &dyn Fn(&str) -> bool| {
            wanted.0.is_empty() || wanted.0.iter().any(|wanted| found(wanted))
        };
        (self.status.is_empty() || self.status.contains(&status))
            && any(&self.code, &|wanted| report.codes.iter().any(|code| glob::fits(wanted, code)))
            && any(&self.kind, &|wanted| report.kind.as_deref() == Some(wanted))
            && any(&self.param, &|wanted| report.param.as_deref() == Some(wanted))
            && any(&self.message, &|wanted| report.says(wanted))
    }
}

/// One text or several; numbers count as their digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: de::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen;

        impl<'de> Visitor<'de> for Seen {
            type Value = Vec<String>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(vec![text.to_owned()])
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(vec![number.to_string()])
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(vec![number.to_string()])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut texts = Vec::new();
                while let Some(Texts(mut item)) = items.next_element()? {
                    texts.append(&mut item);
                }
                Ok(texts)
            }
        }

        from.deserialize_any(Seen).map(Texts)
    }
}

/// How long a verdict holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Midnight in the platform's time zone.
    NextDay,
    /// The first of the next month there.
    NextMonth,
    /// The time that the body names.
    BodyTime,
    /// Until a person acts.
    Never,
    /// This long, unless the platform hints otherwise.
    Seconds(u64),
}

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: de::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen;

        impl Visitor<'_> for Seen {
            type Value = Until;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("next_day, next_month, body_time, never or a number of seconds")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Until, E> {
                match text {
                    "next_day" => Ok(Until::NextDay),
                    "next_month" => Ok(Until::NextMonth),
                    "body_time" => Ok(Until::BodyTime),
                    "never" => Ok(Until::Never),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Until, E> {
                Ok(Until::Seconds(seconds))
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Until, E> {
                u64::try_from(seconds)
                    .map(Until::Seconds)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(seconds), &self))
            }
        }

        from.deserialize_any(Seen)
    }
}
