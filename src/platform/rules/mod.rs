//! Changes to single top-level fields, as a row lists them. Why a closed set of four: what a row may say must be readable
//! by an operator and cheap on the hot path; anything with an `if` is a quirk, in code, with a name.

use serde::Deserialize;
use serde_json::Value;

use crate::api::scan;
use crate::dialect::Unsupported;
use crate::fault::Fault;

mod draft;

pub use draft::Draft;

/// One step of a row's `request:`. Steps run in order; a step on an absent field does nothing (but `default`).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// The fields are left out, and named in the answer's list of dropped parameters.
    Drop(Vec<String>),
    /// The field goes by another name; where both are there, the renamed one wins.
    Rename { from: String, to: String },
    /// A number outside of the range becomes the nearest bound.
    Clamp {
        field: String,
        #[serde(default)]
        min: Option<f64>,
        #[serde(default)]
        max: Option<f64>,
    },
    /// The field is set where the caller said nothing.
    Default { field: String, value: Value },
}

impl Operation {
    /// The fields that it touches, for validation.
    pub fn fields(&self) -> Vec<&str> {
        match self {
            Operation::Drop(names) => names.iter().map(String::as_str).collect(),
            Operation::Rename { from, to } => vec![from, to],
            Operation::Clamp { field, .. } | Operation::Default { field, .. } => vec![field],
        }
    }

    /// Applies it.
    pub fn apply<'a>(&'a self, draft: &mut Draft<'a>) {
        match self {
            Operation::Drop(names) => names.iter().for_each(|name| draft.drop_named(name)),
            Operation::Rename { from, to } => draft.rename(from, to),
            Operation::Clamp { field, min, max } => clamp(draft, field, *min, *max),
            Operation::Default { field, value } => {
                if draft.get(field).is_none() {
                    draft.set(field, value);
                }
            }
        }
    }
}

fn clamp<'a>(draft: &mut Draft<'a>, field: &'a str, min: Option<f64>, max: Option<f64>) {
    let Some(number) = draft.number(field) else {
        return;
    };
    let bound = min.filter(|min| number < *min).or_else(|| max.filter(|max| number > *max));
    if let Some(bound) = bound {
        draft.set_number(field, bound);
    }
}

/// Deals with parameters that the platform cannot do: refuses the request or leaves them out, as the route says. One that
/// says no more than OpenAI's default (`n: 1`) asks for nothing and is left out without a word.
///
/// # Errors
/// [`Kind::Unsupported`](crate::fault::Kind::Unsupported), naming the parameter.
pub fn lacking<'a>(
    draft: &mut Draft<'a>,
    lacks: &'a [String],
    unsupported: Unsupported,
    platform: &str,
) -> Result<(), Fault> {
    for name in lacks {
        let Some(raw) = draft.get(name) else { continue };
        if is_openai_default(name, raw) {
            draft.remove(name);
            continue;
        }
        match unsupported {
            Unsupported::Drop => draft.drop_named(name),
            Unsupported::Reject => {
                return Err(Fault::unsupported(
                    name.clone(),
                    format!("'{name}' is not supported by this model's platform ({platform})."),
                ));
            }
        }
    }
    Ok(())
}

/// Fields whose value says what OpenAI does anyway.
#[rustfmt::skip]
const OPENAI_DEFAULTS: &[(&str, &[&str])] = &[
    ("n", &["1"]), ("logprobs", &["false"]), ("top_logprobs", &["0"]), ("presence_penalty", &["0", "0.0"]),
    ("frequency_penalty", &["0", "0.0"]), ("temperature", &["1", "1.0"]), ("top_p", &["1", "1.0"]),
    ("store", &["false"]), ("parallel_tool_calls", &["true"]), ("service_tier", &["\"auto\"", "\"default\""]),
    ("modalities", &["[\"text\"]"]), ("logit_bias", &["{}"]), ("metadata", &["{}"]), ("tools", &["[]"]),
    ("stop", &["[]"]), ("tool_choice", &["\"auto\"", "\"none\""]), ("response_format", &["{\"type\":\"text\"}"]),
    ("encoding_format", &["\"float\""]), ("verbosity", &["\"medium\""]),
];

/// Whether `raw` asks for no more than OpenAI does by default for `name`.
pub fn is_openai_default(name: &str, raw: &[u8]) -> bool {
    let Some((_, values)) = OPENAI_DEFAULTS.iter().find(|(field, _)| *field == name) else {
        return scan::is_null(raw);
    };
    let bare: Vec<u8> = raw.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    values.iter().any(|value| value.as_bytes() == bare)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ask::Ask;
    use bytes::Bytes;
    use serde_json::json;

    fn run(operations: &str, body: Value) -> (Value, Vec<String>) {
        let operations: Vec<Operation> = serde_saphyr::from_str(operations).expect("operations");
        let mut body = body;
        body["model"] = json!("m");
        body["messages"] = json!([{"role": "user", "content": "Hi"}]);
        let ask = Ask::chat(Bytes::from(body.to_string())).expect("ask");
        let mut draft = Draft::new(&ask);
        operations.iter().for_each(|operation| operation.apply(&mut draft));
        let (bytes, dropped) = draft.finish();
        let mut value: Value = serde_json::from_slice(&bytes).expect("json");
        for name in ["model", "messages"] {
            value.as_object_mut().expect("object").remove(name);
        }
        (value, dropped)
    }

    #[test]
    fn drop_leaves_out_and_names() {
        let (body, dropped) = run("- drop: [store, seed]", json!({"store": true, "a": 1}));
        assert_eq!(body, json!({"a": 1}));
        assert_eq!(dropped, ["store"]);
    }

    #[test]
    fn rename_moves_and_wins_over_the_old_name() {
        let step = "- rename: {from: max_completion_tokens, to: max_tokens}";
        assert_eq!(run(step, json!({"max_completion_tokens": 7})).0, json!({"max_tokens": 7}));
        let both = json!({"max_tokens": 3, "max_completion_tokens": 7});
        assert_eq!(run(step, both).0, json!({"max_tokens": 7}));
        assert_eq!(run(step, json!({"max_tokens": 3})).0, json!({"max_tokens": 3}));
    }

    #[test]
    fn clamp_takes_the_nearest_bound_and_leaves_the_rest() {
        let step = "- clamp: {field: temperature, min: 0.01, max: 1}";
        assert_eq!(run(step, json!({"temperature": 0})).0, json!({"temperature": 0.01}));
        assert_eq!(run(step, json!({"temperature": 1.7})).0, json!({"temperature": 1}));
        assert_eq!(run(step, json!({"temperature": 0.30})).0, json!({"temperature": 0.3}));
        assert_eq!(run(step, json!({})).0, json!({}));
    }

    #[test]
    fn default_speaks_only_for_the_silent() {
        let step = "- default: {field: tool_stream, value: {a: [1, x]}}";
        assert_eq!(run(step, json!({})).0, json!({"tool_stream": {"a": [1, "x"]}}));
        assert_eq!(run(step, json!({"tool_stream": false})).0, json!({"tool_stream": false}));
        assert_eq!(run(step, json!({"tool_stream": null})).0, json!({"tool_stream": {"a": [1, "x"]}}));
    }

    #[test]
    fn steps_run_in_order() {
        let steps = "- rename: {from: a, to: b}\n- clamp: {field: b, max: 5}\n- drop: [b]";
        assert_eq!(run(steps, json!({"a": 9})), (json!({}), vec!["b".to_owned()]));
    }

    #[test]
    fn an_unknown_step_is_refused() {
        for bad in ["- delete: [a]", "- clamp: {field: a, top: 1}", "- drop: {field: a}"] {
            assert!(serde_saphyr::from_str::<Vec<Operation>>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_lacking_is_refused_or_dropped_but_a_default_asks_for_nothing() {
        let ask = Ask::chat(Bytes::from_static(
            br#"{"model":"m","messages":[{}],"n":1,"logprobs":false,"response_format":{ "type": "text" },"seed":4}"#,
        ))
        .expect("ask");
        let lacks = ["n", "logprobs", "response_format", "seed", "stop"].map(str::to_owned);
        let fault = lacking(&mut Draft::new(&ask), &lacks, Unsupported::Reject, "P").expect_err("seed");
        assert_eq!(fault.get_param(), Some("seed"));
        assert_eq!(fault.get_code(), Some("unsupported_parameter"));
        let mut draft = Draft::new(&ask);
        lacking(&mut draft, &lacks, Unsupported::Drop, "P").expect("dropped");
        let (body, dropped) = draft.finish();
        assert_eq!(&body[..], br#"{"model":"m","messages":[{}]}"#);
        assert_eq!(dropped, ["seed"]);
    }
}
