//! Reads what a peer wrote, leniently. Why: a vendor may add a field, leave one out or send `null`, and none of that may
//! break an answer that can be understood; only what is not JSON at all is an error.
//!
//! Each function is for serde's `deserialize_with`: what is missing or of another type is empty.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Failure;

/// A string, borrowed where it has no escapes.
pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Cow<'de, str>, D::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let raw = <&RawValue>::deserialize(from)?.get();
    Ok(serde_json::from_str::<Text<'de>>(raw).map_or(Cow::Borrowed(""), |text| text.0))
}

/// A count.
pub(super) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(serde_json::from_str(<&RawValue>::deserialize(from)?.get()).ok())
}

/// A number that may have a fraction; 0 where it is none.
pub(super) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(serde_json::from_str(<&RawValue>::deserialize(from)?.get()).unwrap_or_default())
}

/// A flag.
pub(super) fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(<&RawValue>::deserialize(from)?.get() == "true")
}

/// An object or list as it stands; `None` for anything else.
pub(super) fn raw<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    let raw = <&RawValue>::deserialize(from)?;
    Ok(raw.get().starts_with(['{', '[']).then_some(raw))
}

/// An object or list, read as `T`; its default for anything else.
pub(super) fn object<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    from: D,
) -> Result<T, D::Error> {
    match raw(from)? {
        Some(raw) => serde_json::from_str(raw.get()).map_err(serde::de::Error::custom),
        None => Ok(T::default()),
    }
}

/// Reads a whole body or one event.
///
/// # Errors
/// [`Failure::Malformed`], without quoting the content (it may be a caller's).
pub(super) fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|wrong| {
        let (line, column) = (wrong.line(), wrong.column());
        Failure::Malformed(format!(
            "{:?} error in JSON of {} bytes at {line}:{column}",
            wrong.classify(),
            bytes.len()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Sample<'a> {
        #[serde(borrow, deserialize_with = "text")]
        text: Cow<'a, str>,
        #[serde(deserialize_with = "count")]
        count: Option<u64>,
        #[serde(deserialize_with = "flag")]
        flag: bool,
        #[serde(borrow, deserialize_with = "raw")]
        raw: Option<&'a RawValue>,
        #[serde(borrow, deserialize_with = "object")]
        inner: Option<Box<Sample<'a>>>,
    }

    #[test]
    fn a_wrong_type_is_an_empty_field_and_not_an_error() {
        for body in [
            r#"{}"#,
            r#"{"text":null,"count":null,"flag":null,"raw":null,"inner":null}"#,
            r#"{"text":5,"count":"5","flag":"true","raw":"x","inner":7,"new":[1]}"#,
        ] {
            let sample: Sample<'_> = json(body.as_bytes()).expect(body);
            assert!(sample.text.is_empty() && sample.count.is_none() && !sample.flag && sample.raw.is_none());
            assert!(sample.inner.is_none());
        }
        let sample: Sample<'_> =
            json(r#"{"text":"a\nb","count":5,"flag":true,"raw":{"x":1},"inner":{"text":"in"}}"#.as_bytes())
                .expect("ok");
        assert_eq!((&*sample.text, sample.count, sample.flag), ("a\nb", Some(5), true));
        assert_eq!(sample.raw.expect("raw").get(), r#"{"x":1}"#);
        assert_eq!(sample.inner.expect("inner").text, "in");
    }

    #[test]
    fn an_error_quotes_nothing() {
        let Err(Failure::Malformed(words)) = json::<Sample<'_>>(b"{\"text\":\"secret prompt") else {
            panic!("cut")
        };
        assert!(!words.contains("secret"), "{words}");
    }
}
