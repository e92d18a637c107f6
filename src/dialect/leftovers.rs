//! What a platform cannot be told. Why one place: whether a parameter is refused or left out is the route's decision
//! ([`Unsupported`]), not an encoder's, and what was left out must be named to the caller either way.

use serde_json::Value;

use super::{Job, Unsupported};
use crate::api::chat::{Message, Params};
use crate::fault::Fault;

/// Advice without a promise: leaving it out changes no answer's meaning, so no route refuses it.
const HARMLESS: &[&str] =
    &["verbosity", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"];

const NO_SUCH: &str = "the model's platform has no such parameter";

/// What Claude's and Gemini's wires have no place for.
const COMMON: &[&str] =
    &["functions", "function_call", "logit_bias", "audio", "prediction", "metadata", "store"];

/// How long a name in the list may be, in characters, and how many names there may be.
const NAME_LEN: usize = 64;
const NAMES: usize = 64;

/// How much a caller relies on a parameter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// Leaving it out changes what the caller gets: refused, unless the route says to drop.
    Binding,
    /// A hint or a label: left out without asking, and named.
    Advisory,
}

use Weight::{Advisory, Binding};

/// A parameter's name, its weight, and whether a request sets it.
type Field = (&'static str, Weight, fn(&Params) -> bool);

/// Every parameter that some wire may lack, and whether it says anything: OpenAI's own default says nothing.
#[rustfmt::skip]
const FIELDS: &[Field] = &[
    ("top_p", Binding, |params| params.top_p.is_some_and(|top_p| top_p < 1.0)),
    ("n", Binding, |params| params.n.is_some_and(|n| n > 1)),
    ("stop", Binding, |params| params.stop.as_ref().is_some_and(|stop| !stop.list().is_empty())),
    ("presence_penalty", Binding, |params| params.presence_penalty.is_some_and(|penalty| penalty != 0.0)),
    ("frequency_penalty", Binding, |params| params.frequency_penalty.is_some_and(|penalty| penalty != 0.0)),
    ("logit_bias", Binding, |params| params.logit_bias.as_ref().is_some_and(says_something)),
    ("logprobs", Binding, |params| params.logprobs == Some(true)),
    ("top_logprobs", Binding, |params| params.top_logprobs.is_some_and(|top| top > 0)),
    ("tools", Binding, |params| params.tools.as_ref().is_some_and(|tools| !tools.is_empty())),
    ("parallel_tool_calls", Binding, |params| params.parallel_tool_calls == Some(false) && params.tools.is_some()),
    ("response_format", Binding, |params| params.response_format.as_ref().is_some_and(|format| format.kind != "text")),
    ("modalities", Binding, |params| params.modalities.as_ref().is_some_and(|all| all.iter().any(|one| one != "text"))),
    ("audio", Binding, |params| params.audio.is_some()),
    ("functions", Binding, |params| params.functions.as_ref().is_some_and(says_something)),
    ("function_call", Binding, |params| params.function_call.is_some()),
    ("web_search_options", Binding, |params| params.rest.contains_key("web_search_options")),
    ("seed", Advisory, |params| params.seed.is_some()),
    ("reasoning_effort", Advisory, |params| params.reasoning_effort.is_some()),
    ("prediction", Advisory, |params| params.prediction.is_some()),
    ("service_tier", Advisory, |params| params.service_tier.as_ref().is_some_and(|tier| tier != "auto")),
    ("user", Advisory, |params| params.user.is_some()),
    ("safety_identifier", Advisory, |params| params.safety_identifier.is_some()),
    ("metadata", Advisory, |params| params.metadata.as_ref().is_some_and(says_something)),
    ("store", Advisory, |params| params.store == Some(true)),
    ("verbosity", Advisory, |params| params.rest.contains_key("verbosity")),
    ("moderation", Advisory, |params| params.rest.contains_key("moderation")),
    ("prompt_cache_key", Advisory, |params| params.rest.contains_key("prompt_cache_key")),
    ("prompt_cache_retention", Advisory, |params| params.rest.contains_key("prompt_cache_retention")),
    ("prompt_cache_options", Advisory, |params| params.rest.contains_key("prompt_cache_options")),
];

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    }
}

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
        self.missing(name)
    }

    /// Names the fields of a message and of its parts that have no place here, `but` those that the wire has. Never
    /// refused: clients echo whole answers of other models.
    pub(super) fn message_fields(&mut self, message: &Message<'_>, but: &[&str]) {
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

    /// A parameter that the platform simply does not have.
    ///
    /// # Errors
    /// As [`Leftovers::cannot`].
    pub(super) fn missing(&mut self, param: &str) -> Result<(), Fault> {
        self.cannot(param, NO_SUCH)
    }

    /// Judges the parameters that no wire with encoders of its own for all others has.
    ///
    /// # Errors
    /// As [`Leftovers::cannot`].
    pub(super) fn common(&mut self, params: &Params) -> Result<(), Fault> {
        self.judge(params, |name| COMMON.contains(&name))
    }

    /// Judges all parameters that say something and are not among those that the encoder `reads`.
    ///
    /// # Errors
    /// As [`Leftovers::cannot`].
    pub(super) fn all_but(&mut self, reads: &[&str], params: &Params) -> Result<(), Fault> {
        self.judge(params, |name| !reads.contains(&name))
    }

    fn judge(&mut self, params: &Params, is_meant: impl Fn(&str) -> bool) -> Result<(), Fault> {
        for (name, weight, is_set) in FIELDS {
            match weight {
                _ if !is_meant(name) || !is_set(params) => {}
                Binding => self.missing(name)?,
                Advisory => self.ignore(name),
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

/// The vendors' own fields of a request: what OpenAI does not name is for the platform to judge.
pub(super) fn vendor_fields(params: &Params) -> impl Iterator<Item = (String, Value)> + '_ {
    let known = |name: &str| FIELDS.iter().any(|(field, ..)| *field == name);
    let fields = params.rest.iter().filter(move |(name, _)| !known(name));
    fields.map(|(name, value)| (name.clone(), value.clone()))
}

/// The caller's bound on the answer, no higher than the model's own.
pub(super) fn answer_bound(params: &Params, job: &Job<'_>) -> Option<u64> {
    params.max_answer_tokens().map(|wanted| job.max_output.map_or(wanted, |most| wanted.min(most)))
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
        let params =
            Params { store: Some(true), metadata: Some(serde_json::json!({"a": "b"})), ..Params::default() };
        leftovers.common(&params).expect("harmless");
        assert_eq!(leftovers.into_names(), ["prompt_cache_key", "metadata", "store"]);
    }
}
