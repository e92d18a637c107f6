//! What a wire cannot carry. Why one table: whether a parameter that a platform lacks is refused, left out on request, or
//! left out because it only advises, must not depend on which encoder happened to look.

use serde_json::Value;

use super::{Job, Unsupported};
use crate::api::chat::Params;
use crate::fault::Fault;

/// Keeps account of what is left out of one request.
#[derive(Debug)]
pub(super) struct Lacks {
    unsupported: Unsupported,
    dropped: Vec<String>,
}

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

impl Lacks {
    /// Nothing left out yet.
    pub(super) fn new(job: &Job<'_>) -> Self {
        Self { unsupported: job.unsupported, dropped: Vec::new() }
    }

    /// A parameter that binds cannot be carried.
    ///
    /// # Errors
    /// Unsupported, naming it, unless the route says to drop.
    pub(super) fn missing(&mut self, param: &'static str) -> Result<(), Fault> {
        if self.unsupported == Unsupported::Reject {
            return Err(Fault::unsupported(
                param,
                format!("The target platform does not support '{param}'."),
            ));
        }
        self.ignored(param);
        Ok(())
    }

    /// A parameter that only advises is left out, and named.
    pub(super) fn ignored(&mut self, param: &str) {
        if !self.dropped.iter().any(|dropped| dropped == param) {
            self.dropped.push(param.to_owned());
        }
    }

    /// Judges all parameters that say something and are not among those that the encoder `reads`.
    ///
    /// # Errors
    /// As [`Lacks::missing`].
    pub(super) fn all_but(&mut self, reads: &[&str], params: &Params) -> Result<(), Fault> {
        for (name, weight, is_set) in FIELDS {
            if reads.contains(name) || !is_set(params) {
                continue;
            }
            match weight {
                Binding => self.missing(name)?,
                Advisory => self.ignored(name),
            }
        }
        Ok(())
    }

    /// The names of what was left out.
    pub(super) fn into_dropped(self) -> Vec<String> {
        self.dropped
    }
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
