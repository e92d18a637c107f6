//! What a platform cannot be told. Why one place: whether a parameter is refused or left out is the route's decision
//! ([`Unsupported`]), not an encoder's, and what was left out must be named to the caller either way.

use serde_json::Value;

use super::Unsupported;
use crate::api::chat::{Message, Params};
use crate::fault::Fault;

/// Advice without a promise: leaving it out changes no answer's meaning, so no route refuses it.
const HARMLESS: &[&str] =
    &["verbosity", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"];

/// How long a name in the list may be, in characters, and how many names there may be.
const NAME_LEN: usize = 64;
const NAMES: usize = 64;

/// Collects what is left out of one request.
#[derive(Debug)]
pub(super) struct Leftovers {
    unsupported: Unsupported,
    dropped: Vec<String>,
}

impl Leftovers {
    pub(super) fn new(unsupported: Unsupported) -> Self {
        Self { unsupported, dropped: Vec::new() }
    }

    /// `param` means something that the platform cannot do; `why` completes "… is not supported here: ".
    ///
    /// # Errors
    /// An unsupported parameter, where the route says to reject.
    pub(super) fn cannot(&mut self, param: &str, why: &str) -> Result<(), Fault> {
        match self.unsupported {
            Unsupported::Reject => Err(refusal(param, why)),
            Unsupported::Drop => {
                self.ignore(param);
                Ok(())
            }
        }
    }

    /// `param` is advice that the platform does not take: left out and named.
    pub(super) fn ignore(&mut self, param: &str) {
        // The name may be the caller's own invention, and it goes into a header.
        let name: String = param.chars().filter(char::is_ascii_graphic).take(NAME_LEN).collect();
        if self.dropped.len() < NAMES && !self.dropped.contains(&name) {
            self.dropped.push(name);
        }
    }

    /// A field that OpenAI does not name and that is no extension of this platform either.
    ///
    /// # Errors
    /// As [`Leftovers::cannot`].
    pub(super) fn unknown(&mut self, name: &str) -> Result<(), Fault> {
        if HARMLESS.contains(&name) {
            self.ignore(name);
            return Ok(());
        }
        self.cannot(name, "the model's platform has no such parameter")
    }

    /// Names the fields of a message and of its parts that have no place here, `but` those that the wire has. Never
    /// refused: clients echo whole answers of other models.
    pub(super) fn message_fields(&mut self, message: &Message, but: &[&str]) {
        if message.name.is_some() {
            self.ignore("messages.name");
        }
        let parts = message.content.known_parts().map(|part| ("messages.content", part.rest()));
        for (prefix, rest) in std::iter::once(("messages", &message.rest)).chain(parts) {
            for (name, _) in
                rest.iter().filter(|(name, value)| !but.contains(&name.as_str()) && !value.is_null())
            {
                self.ignore(&format!("{prefix}.{name}"));
            }
        }
    }

    /// The parameters that no translated wire has.
    ///
    /// # Errors
    /// As [`Leftovers::cannot`].
    pub(super) fn common(&mut self, params: &Params) -> Result<(), Fault> {
        if params.functions.is_some() {
            self.cannot("functions", "send 'tools' instead")?;
        }
        if params.function_call.is_some() {
            self.cannot("function_call", "send 'tool_choice' instead")?;
        }
        if params.logit_bias.as_ref().is_some_and(|bias| bias.as_object().is_none_or(|map| !map.is_empty())) {
            self.cannot("logit_bias", "the model's platform has no such parameter")?;
        }
        if params.audio.is_some() {
            self.cannot("audio", "the model's platform gives no audio in this form")?;
        }
        for (name, given) in [
            ("prediction", params.prediction.is_some()),
            ("metadata", params.metadata.is_some()),
            ("store", params.store == Some(true)),
        ] {
            if given {
                self.ignore(name);
            }
        }
        Ok(())
    }

    /// The names of all that was left out, in the order in which it was met.
    pub(super) fn into_names(self) -> Vec<String> {
        self.dropped
    }
}

/// The fault for something that this platform can never be told, whatever the route says.
pub(super) fn refusal(param: &str, why: &str) -> Fault {
    Fault::unsupported(param.to_owned(), format!("'{param}' is not supported for this model: {why}."))
}

/// A number that changes nothing where it is zero (penalties).
pub(super) fn is_set(number: Option<f64>) -> bool {
    number.is_some_and(|number| number != 0.0)
}

/// The object behind a pointer of two steps: `{"google": {"thought_signature": …}}`.
pub(super) fn within<'a>(value: Option<&'a Value>, outer: &str, inner: &str) -> Option<&'a Value> {
    value?.get(outer)?.get(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_decides_between_refusing_and_naming() {
        let fault = Leftovers::new(Unsupported::Reject).cannot("seed", "no").expect_err("refused");
        assert_eq!((fault.get_param(), fault.get_code()), (Some("seed"), Some("unsupported_parameter")));
        let mut leftovers = Leftovers::new(Unsupported::Drop);
        leftovers.cannot("seed", "no").expect("dropped");
        leftovers.cannot("seed", "no").expect("dropped");
        assert_eq!(leftovers.into_names(), ["seed"]);
    }

    #[test]
    fn advice_is_named_but_never_refused() {
        let mut leftovers = Leftovers::new(Unsupported::Reject);
        leftovers.unknown("prompt_cache_key").expect("harmless");
        assert!(leftovers.unknown("web_search_options").is_err());
        let params = Params { store: Some(true), metadata: Some(serde_json::json!({})), ..Params::default() };
        leftovers.common(&params).expect("harmless");
        assert_eq!(leftovers.into_names(), ["prompt_cache_key", "metadata", "store"]);
    }
}
