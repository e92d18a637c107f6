//! Quirks of single fields.

use serde_json::{Value, json};

use super::Scene;
use crate::dialect::{Quirk, Quirks, Unsupported};
use crate::fault::Fault;
use crate::platform::rules::{Draft, is_openai_default};

/// Shortest and longest `user_id` that Zhipu takes, in characters.
const USER_ID_LEN: std::ops::RangeInclusive<usize> = 6..=128;

/// One bound on the answer under the name that the model takes, and not above what the model can do.
pub fn token_bound<'a>(draft: &mut Draft<'a>, scene: &Scene<'a>) {
    if draft.get("max_completion_tokens").is_some() {
        // OpenAI calls it the replacement of the other, and several platforms refuse both at once.
        draft.remove("max_tokens");
    } else if scene.quirks.has(Quirk::CompletionTokensOnly) {
        draft.rename("max_tokens", "max_completion_tokens");
    }
    let Some(bound) = scene.max_output else { return };
    for name in ["max_completion_tokens", "max_tokens"] {
        if draft.get(name).and_then(crate::api::scan::as_u64).is_some_and(|asked| asked > bound) {
            draft.set(name, &bound);
        }
    }
}

/// Parameters of sampling that reasoning models refuse. How an answer is sampled is advice; what is to be in it is not.
///
/// # Errors
/// Unsupported where the answer would lack what was asked for and the route rejects.
pub fn sampling(draft: &mut Draft<'_>, scene: &Scene<'_>) -> Result<(), Fault> {
    const ADVICE: [&str; 4] = ["temperature", "top_p", "presence_penalty", "frequency_penalty"];
    const BINDING: [&str; 3] = ["logprobs", "top_logprobs", "logit_bias"];
    if scene.quirks.has(Quirk::NoSampling) {
        ADVICE.into_iter().for_each(|name| draft.drop_named(name));
        for name in BINDING {
            let asks = draft.get(name).is_some_and(|raw| !is_openai_default(name, raw));
            if asks {
                refuse(scene, name, "this model does not take it.")?;
            }
            draft.drop_named(name);
        }
    }
    Ok(())
}

/// What changes the answer's meaning is refused, unless the route says to do without it.
fn refuse(scene: &Scene<'_>, param: &'static str, why: &str) -> Result<(), Fault> {
    match scene.unsupported {
        Unsupported::Drop => Ok(()),
        Unsupported::Reject => {
            Err(Fault::unsupported(param, format!("'{param}' is not supported as it was asked for: {why}")))
        }
    }
}

/// `tool_choice` and `parallel_tool_calls`.
///
/// # Errors
/// Unsupported where a call is demanded that the platform cannot be made to give, and the route rejects.
pub fn tools(draft: &mut Draft<'_>, scene: &Scene<'_>) -> Result<(), Fault> {
    let quirks = scene.quirks;
    let mode = draft.text("tool_choice").map(std::borrow::Cow::into_owned);
    if quirks.has(Quirk::NoRequiredTool) && mode.as_deref() == Some("required") {
        only_auto(draft, scene)?;
    }
    if quirks.has(Quirk::OnlyAutoTool) && draft.get("tool_choice").is_some() {
        match mode.as_deref() {
            Some("auto") => {}
            // No tool may be called: the same as having none.
            Some("none") => {
                draft.remove("tools");
                draft.remove("tool_choice");
            }
            _ => only_auto(draft, scene)?,
        }
    }
    if quirks.has(Quirk::FlatToolChoice) {
        flatten_choice(draft);
    }
    let has_tools = draft.get("tools").is_some_and(|tools| !is_openai_default("tools", tools));
    if quirks.has(Quirk::AskParallelTools) && has_tools && draft.get("parallel_tool_calls").is_none() {
        draft.set("parallel_tool_calls", &true);
    }
    Ok(())
}

/// A call was demanded, and the platform only leaves it to the model.
fn only_auto(draft: &mut Draft<'_>, scene: &Scene<'_>) -> Result<(), Fault> {
    refuse(scene, "tool_choice", "this model's platform cannot be made to call a tool.")?;
    draft.note("tool_choice");
    draft.set("tool_choice", "auto");
    Ok(())
}

/// `{"type":"function","function":{"name":"f"}}` becomes `{"type":"function","name":"f"}`.
fn flatten_choice(draft: &mut Draft<'_>) {
    let choice: Option<Value> = draft.get("tool_choice").and_then(|raw| serde_json::from_slice(raw).ok());
    let name = choice.as_ref().and_then(|choice| choice.get("function")?.get("name")?.as_str());
    if let Some(name) = name {
        draft.set("tool_choice", &json!({"type": "function", "name": name}));
    }
}

/// `stop` as an array of at most one.
///
/// # Errors
/// Unsupported where there are more and the route rejects.
pub fn stop(draft: &mut Draft<'_>, scene: &Scene<'_>) -> Result<(), Fault> {
    if !scene.quirks.has(Quirk::OneStop) {
        return Ok(());
    }
    let stop: Option<Value> = draft.get("stop").and_then(|raw| serde_json::from_slice(raw).ok());
    match stop {
        Some(Value::String(one)) => draft.set("stop", &[one]),
        Some(Value::Array(many)) if many.len() > 1 => {
            refuse(scene, "stop", "this model's platform takes one sequence only.")?;
            draft.note("stop");
            draft.set("stop", many.get(..1).unwrap_or_default());
        }
        _ => {}
    }
    Ok(())
}

/// `user` under the platform's own name and within its bounds.
pub fn user(draft: &mut Draft<'_>, quirks: Quirks) {
    if !quirks.has(Quirk::UserId) {
        return;
    }
    let fits = draft.text("user").is_some_and(|user| USER_ID_LEN.contains(&user.chars().count()));
    if fits && draft.get("user_id").is_none() {
        draft.rename("user", "user_id");
    } else {
        draft.drop_named("user");
    }
}

/// `json_schema` where the platform knows `json_object` only: gives back the words that tell the model the schema.
///
/// # Errors
/// A bad request where `response_format` is not what OpenAI defines.
pub fn schema(draft: &mut Draft<'_>, quirks: Quirks) -> Result<Option<String>, Fault> {
    if !quirks.has(Quirk::SchemaAsJsonObject) {
        return Ok(None);
    }
    let format: Option<Value> = draft.get("response_format").and_then(|raw| serde_json::from_slice(raw).ok());
    let Some(format) = format.filter(|format| format.get("type") == Some(&json!("json_schema"))) else {
        return Ok(None);
    };
    let Some(schema) = format.get("json_schema") else {
        return Err(Fault::bad("response_format", "'response_format.json_schema' is missing."));
    };
    let schema = schema.get("schema").cloned().unwrap_or_else(|| json!({"type": "object"}));
    draft.set("response_format", &json!({"type": "json_object"}));
    Ok(Some(format!(
        "Answer with one JSON object and nothing else. It must be valid under this JSON Schema:\n{schema}"
    )))
}

/// Whether a stream is asked for, and its usage.
pub fn stream(draft: &mut Draft<'_>, scene: &Scene<'_>) {
    if !scene.stream {
        if draft.get("stream").is_some_and(|raw| raw != b"false") {
            draft.remove("stream");
        }
        draft.remove("stream_options");
        return;
    }
    if draft.get("stream") != Some(b"true") {
        draft.set("stream", &true);
    }
    if scene.quirks.has(Quirk::AskUsage) {
        ask_usage(draft);
    } else {
        draft.remove("stream_options");
    }
}

/// Usage is always asked for: without it an answer could only be settled by estimate.
fn ask_usage(draft: &mut Draft<'_>) {
    let options: Option<Value> = draft.get("stream_options").and_then(|raw| serde_json::from_slice(raw).ok());
    let mut options = match options {
        Some(Value::Object(options)) => options,
        _ => serde_json::Map::new(),
    };
    if options.get("include_usage") != Some(&Value::Bool(true)) {
        options.insert("include_usage".to_owned(), Value::Bool(true));
        draft.set("stream_options", &options);
    }
}
