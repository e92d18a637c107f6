//! A request that is being changed without being parsed. Why: most rows touch a few top-level fields; the messages, which
//! may be megabytes of image, are copied once as bytes, or not at all where nothing changes.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use smallvec::SmallVec;

use crate::api::ask::Ask;
use crate::api::scan::{self, Rewriter};

/// Fields with which a caller might try to lead a request, and our credential with it, elsewhere. They are read by other
/// gateways that may stand behind us, so they are never passed on.
const STEERING: &[&str] = &[
    "api_base",
    "api_key",
    "api_version",
    "base_url",
    "custom_host",
    "custom_llm_provider",
    "extra_headers",
    "http_proxy",
    "https_proxy",
    "proxies",
    "proxy",
    "url",
];

/// A field's name and its new value; without one it is left out.
type Edit<'a> = (Cow<'a, str>, Option<Vec<u8>>);

/// A request's top-level fields with the changes that are to be made to them.
#[derive(Debug)]
pub struct Draft<'a> {
    ask: &'a Ask,
    edits: SmallVec<[Edit<'a>; 8]>,
    dropped: Vec<String>,
}

impl<'a> Draft<'a> {
    /// Begins from what the caller sent, without the fields that are `null` (they ask for nothing, and some platforms
    /// refuse them) and without those that would steer the request elsewhere.
    pub fn new(ask: &'a Ask) -> Self {
        let mut draft = Self { ask, edits: SmallVec::new(), dropped: Vec::new() };
        for (name, _, raw) in ask.fields().iter(ask.body()) {
            if STEERING.contains(&name.as_ref()) {
                draft.dropped.push(name.clone().into_owned());
                draft.edits.push((name, None));
            } else if scan::is_null(raw) {
                draft.edits.push((name, None));
            }
        }
        draft
    }

    /// The raw value of a field as it stands now; `None` where it is absent.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        match self.edits.iter().find(|(edited, _)| edited == name) {
            Some((_, value)) => value.as_deref(),
            None => self.ask.raw(name),
        }
    }

    /// A field's value as a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name).and_then(|raw| std::str::from_utf8(raw).ok()?.parse().ok())
    }

    /// A field's value as text.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).and_then(scan::as_str)
    }

    /// Sets a field.
    pub fn set<T: Serialize + ?Sized>(&mut self, name: &'a str, value: &T) {
        // Writing to memory cannot fail; were it to, the field would be left as it is.
        if let Ok(raw) = serde_json::to_vec(value) {
            self.edit(name, Some(raw));
        }
    }

    /// Sets a field to a number, without a fraction where it has none.
    pub fn set_number(&mut self, name: &'a str, number: f64) {
        self.edit(name, Some(number.to_string().into_bytes()));
    }

    /// Leaves a field out without a word: because what it says is said otherwise, or is said anyway.
    pub fn remove(&mut self, name: &'a str) {
        if self.get(name).is_some() {
            self.edit(name, None);
        }
    }

    /// Leaves a field out, and says so to the caller where it had asked for anything.
    pub fn drop_named(&mut self, name: &'a str) {
        if self.get(name).is_some() {
            self.note(name);
            self.edit(name, None);
        }
    }

    /// Says to the caller that `name` was not honoured in full.
    pub fn note(&mut self, name: &str) {
        let says_nothing = self.get(name).is_none_or(|raw| super::is_openai_default(name, raw));
        if !says_nothing && !self.dropped.iter().any(|dropped| dropped == name) {
            self.dropped.push(name.to_owned());
        }
    }

    /// Moves a field to another name; it wins over what stood there.
    pub fn rename(&mut self, from: &'a str, to: &'a str) {
        if let Some(raw) = self.get(from).map(<[u8]>::to_vec) {
            self.edit(to, Some(raw));
            self.edit(from, None);
        }
    }

    fn edit(&mut self, name: &'a str, value: Option<Vec<u8>>) {
        match self.edits.iter_mut().find(|(edited, _)| edited == name) {
            Some((_, edited)) => *edited = value,
            None => self.edits.push((Cow::Borrowed(name), value)),
        }
    }

    /// Whether nothing is to be changed or to be told.
    pub fn is_untouched(&self) -> bool {
        self.edits.is_empty() && self.dropped.is_empty()
    }

    /// The parameters as they stand now, and the names of what was left out: the request but for its messages.
    pub fn finish_params(mut self) -> (Bytes, Vec<String>) {
        self.remove("messages");
        self.finish()
    }

    /// The request as it is to be sent, and the names of what was left out. The caller's own bytes where nothing changed.
    pub fn finish(mut self) -> (Bytes, Vec<String>) {
        let body = self.ask.body();
        if self.edits.is_empty() {
            return (body.clone(), self.dropped);
        }
        let grown: usize =
            self.edits.iter().map(|(name, raw)| name.len() + raw.as_ref().map_or(0, Vec::len)).sum();
        let mut out = Rewriter::new(body.len() + grown);
        for (name, written, raw) in self.ask.fields().iter(body) {
            match self.edits.iter().position(|(edited, _)| *edited == name) {
                None => out.copy(written, raw),
                Some(at) => {
                    if let (_, Some(raw)) = self.edits.swap_remove(at) {
                        out.copy(written, &raw);
                    }
                }
            }
        }
        for (name, raw) in self.edits.drain(..) {
            if let Some(raw) = raw {
                // Row names are checked when compiled: nothing in them needs escaping.
                out.copy(name.as_bytes(), &raw);
            }
        }
        (out.finish().into(), self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: &'static str) -> Ask {
        Ask::chat(Bytes::from_static(body.as_bytes())).expect("ask")
    }

    #[test]
    fn nothing_changed_is_the_callers_own_bytes() {
        let ask = ask(r#"{ "model":"m", "messages":[{}], "odd": {"a":1.10} }"#);
        let (bytes, _) = Draft::new(&ask).finish();
        assert_eq!(bytes.as_ptr(), ask.body().as_ptr());
    }

    #[test]
    fn unknown_fields_survive_byte_by_byte() {
        let ask = ask(r#"{"model":"m","messages":[{ "role" : "user" }],"odd":{"a":1.10},"z\u0061":[ ]}"#);
        let mut draft = Draft::new(&ask);
        draft.set("model", "other");
        draft.set("new", &true);
        let (bytes, dropped) = draft.finish();
        assert_eq!(
            &bytes[..],
            br#"{"model":"other","messages":[{ "role" : "user" }],"odd":{"a":1.10},"z\u0061":[ ],"new":true}"#
        );
        assert!(dropped.is_empty());
    }

    #[test]
    fn what_would_steer_the_request_elsewhere_is_never_passed_on() {
        let ask =
            ask(r#"{"model":"m","messages":[{}],"api_base":"http://evil","api\u005fkey":"k","stop":null}"#);
        let (bytes, dropped) = Draft::new(&ask).finish();
        assert_eq!(&bytes[..], br#"{"model":"m","messages":[{}]}"#);
        assert_eq!(dropped, ["api_base", "api_key"]);
    }

    #[test]
    fn a_field_that_was_removed_can_be_set_again() {
        let ask = ask(r#"{"model":"m","messages":[{}],"stream":true}"#);
        let mut draft = Draft::new(&ask);
        draft.remove("stream");
        assert_eq!(draft.get("stream"), None);
        draft.set("stream", &false);
        assert_eq!(draft.get("stream"), Some(&b"false"[..]));
        assert_eq!(&draft.finish().0[..], br#"{"model":"m","messages":[{}],"stream":false}"#);
    }
}
