//! Writes a chat request for Gemini. Why every field is placed by hand: this API answers 400 to a field that it does not
//! know, so nothing may pass by accident.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::history;
use super::super::leftovers::{Leftovers, is_set};
use super::super::{Encoded, Job, Quirk, written};
use super::contents::{self, Instruction, Said};
use super::schema;
use crate::api::chat::{ChatRequest, Function, Params, ToolChoice};
use crate::fault::Fault;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Instruction<'a>>,
    contents: Vec<Said<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Offers<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    generation_config: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_settings: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_content: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
}

/// All functions on offer: Gemini wants them in one place.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Offers<'a> {
    function_declarations: Vec<Offer<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Offer<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<Value>,
}

/// Extensions of Google's that a caller may send: at the top, or in `extra_body.google` as Google's own documentation
/// has it.
#[derive(Debug, Default)]
struct Extensions<'a> {
    safety_settings: Option<&'a Value>,
    cached_content: Option<&'a Value>,
    thinking_config: Option<&'a Value>,
    top_k: Option<&'a Value>,
}

/// Writes a chat request for this wire.
///
/// # Errors
/// A bad request, or an unsupported parameter where the job says to reject.
pub fn encode(request: &ChatRequest<'_>, job: &Job<'_>) -> Result<Encoded, Fault> {
    let params = &request.params;
    let mut leftovers = Leftovers::new(job.unsupported);
    leftovers.common(params)?;
    let extensions = extensions(&params.rest, &mut leftovers)?;
    advice(params, &mut leftovers);
    let history = history::read(&request.messages)?;
    let offers = offers(params, job, &mut leftovers)?;
    let body = Body {
        system_instruction: contents::instruction(&history, &mut leftovers)?,
        contents: contents::contents(&history, job, &mut leftovers)?,
        tool_config: tool_config(params, &offers, &mut leftovers)?,
        tools: if offers.is_empty() { Vec::new() } else { vec![Offers { function_declarations: offers }] },
        generation_config: generation_config(params, job, &extensions, &mut leftovers)?,
        safety_settings: extensions.safety_settings,
        cached_content: extensions.cached_content,
        service_tier: params.service_tier.as_deref().filter(|tier| is_tier(tier)),
    };
    let body = written(&body, request.length)?;
    let method = if job.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    Ok(Encoded {
        path: super::path(job.model, method),
        headers: Vec::new(),
        body,
        dropped: leftovers.into_names(),
    })
}

fn is_tier(tier: &str) -> bool {
    matches!(tier, "flex" | "priority")
}

/// Advice that Gemini does not take.
fn advice(params: &Params, leftovers: &mut Leftovers) {
    // `auto` and `default` are what Gemini does anyhow.
    let tier = params.service_tier.as_deref().unwrap_or("auto");
    for (name, given) in [
        ("user", params.user.is_some()),
        ("safety_identifier", params.safety_identifier.is_some()),
        ("service_tier", !is_tier(tier) && tier != "auto" && tier != "default"),
    ] {
        if given {
            leftovers.ignore(name);
        }
    }
}

fn extensions<'a>(rest: &'a Map<String, Value>, leftovers: &mut Leftovers) -> Result<Extensions<'a>, Fault> {
    let mut found = Extensions::default();
    for (name, value) in rest {
        if found.take(name, value) {
            continue;
        }
        match (name.as_str(), value) {
            ("extra_body", Value::Object(vendors)) => {
                for (vendor, fields) in vendors {
                    match fields {
                        Value::Object(fields) if vendor == "google" => google(fields, &mut found, leftovers)?,
                        _ => leftovers.unknown(&format!("extra_body.{vendor}"))?,
                    }
                }
            }
            _ => leftovers.unknown(name)?,
        }
    }
    Ok(found)
}

fn google<'a>(
    fields: &'a Map<String, Value>,
    found: &mut Extensions<'a>,
    leftovers: &mut Leftovers,
) -> Result<(), Fault> {
    for (name, value) in fields {
        if !found.take(name, value) {
            leftovers.unknown(&format!("extra_body.google.{name}"))?;
        }
    }
    Ok(())
}

impl<'a> Extensions<'a> {
    fn take(&mut self, name: &str, value: &'a Value) -> bool {
        let slot = match name {
            "safety_settings" | "safetySettings" => &mut self.safety_settings,
            "cached_content" | "cachedContent" => &mut self.cached_content,
            "thinking_config" | "thinkingConfig" => &mut self.thinking_config,
            "top_k" | "topK" => &mut self.top_k,
            _ => return false,
        };
        *slot = Some(value);
        true
    }
}

fn generation_config(
    params: &Params,
    job: &Job<'_>,
    extensions: &Extensions<'_>,
    leftovers: &mut Leftovers,
) -> Result<Map<String, Value>, Fault> {
    let mut config = Map::new();
    let sampled = !job.quirks.has(Quirk::NoSampling);
    let warmth = params.temperature.map(|temperature| temperature.min(2.0));
    let most = |wanted: u64| job.max_output.map_or(wanted, |most| wanted.min(most));
    for (name, ours, value) in [
        ("temperature", "temperature", warmth.filter(|_| sampled).map(|number| json!(number))),
        ("top_p", "topP", params.top_p.filter(|_| sampled).map(|number| json!(number))),
        ("top_k", "topK", extensions.top_k.filter(|_| sampled).cloned()),
        ("max_tokens", "maxOutputTokens", params.max_answer_tokens().map(|wanted| json!(most(wanted)))),
        ("n", "candidateCount", params.n.filter(|n| *n > 1).map(|n| json!(n))),
        ("seed", "seed", params.seed.map(|seed| json!(small_seed(seed)))),
        (
            "presence_penalty",
            "presencePenalty",
            params.presence_penalty.filter(|_| is_set(params.presence_penalty)).map(|number| json!(number)),
        ),
        (
            "frequency_penalty",
            "frequencyPenalty",
            params.frequency_penalty.filter(|_| is_set(params.frequency_penalty)).map(|number| json!(number)),
        ),
    ] {
        let lost = match name {
            "temperature" => params.temperature.is_some(),
            "top_p" => params.top_p.is_some(),
            "top_k" => extensions.top_k.is_some(),
            _ => false,
        };
        match value {
            Some(value) => {
                config.insert(ours.to_owned(), value);
            }
            None if lost => leftovers.ignore(name),
            None => {}
        }
    }
    stops(params, &mut config, leftovers)?;
    logprobs(params, &mut config);
    modalities(params, &mut config, leftovers)?;
    response_format(params, job, &mut config)?;
    thinking(params, job, extensions, &mut config, leftovers)?;
    Ok(config)
}

/// Gemini's seed has 32 bits; a larger one is folded, the same way each time.
fn small_seed(seed: i64) -> i64 {
    i32::try_from(seed).map_or(seed.rem_euclid(i64::from(i32::MAX)), i64::from)
}

fn stops(params: &Params, config: &mut Map<String, Value>, leftovers: &mut Leftovers) -> Result<(), Fault> {
    let stops = params.stop.as_ref().map(|stop| stop.list()).unwrap_or_default();
    if stops.len() > 5 {
        return leftovers.cannot("stop", "it takes at most five");
    }
    if !stops.is_empty() {
        config.insert("stopSequences".to_owned(), json!(stops));
    }
    Ok(())
}

fn logprobs(params: &Params, config: &mut Map<String, Value>) {
    if params.logprobs == Some(true) {
        config.insert("responseLogprobs".to_owned(), Value::Bool(true));
        if let Some(top) = params.top_logprobs.filter(|top| *top > 0) {
            config.insert("logprobs".to_owned(), json!(top));
        }
    }
}

fn modalities(
    params: &Params,
    config: &mut Map<String, Value>,
    leftovers: &mut Leftovers,
) -> Result<(), Fault> {
    let Some(wanted) = &params.modalities else { return Ok(()) };
    if wanted.iter().any(|one| one != "text" && one != "image") {
        return leftovers.cannot("modalities", "it answers in text, and some models in images");
    }
    if wanted.iter().any(|one| one == "image") {
        let names: Vec<String> = wanted.iter().map(|one| one.to_ascii_uppercase()).collect();
        config.insert("responseModalities".to_owned(), json!(names));
    }
    Ok(())
}

fn response_format(params: &Params, job: &Job<'_>, config: &mut Map<String, Value>) -> Result<(), Fault> {
    let Some(format) = &params.response_format else { return Ok(()) };
    let wanted = match format.kind.as_str() {
        "text" => return Ok(()),
        "json_object" => None,
        "json_schema" => {
            let given = format.json_schema.as_ref().and_then(|named| named.schema.as_ref());
            Some(given.ok_or_else(|| {
                Fault::bad("response_format", "'response_format.json_schema.schema' is missing.")
            })?)
        }
        _ => {
            let sentence =
                "Invalid value for 'response_format.type': expected text, json_object or json_schema.";
            return Err(Fault::bad("response_format", sentence));
        }
    };
    config.insert("responseMimeType".to_owned(), json!("application/json"));
    if let Some(wanted) = wanted {
        let (name, schema) = if job.quirks.has(Quirk::JsonSchemaTools) {
            ("responseJsonSchema", schema::json(wanted))
        } else {
            ("responseSchema", openapi("response_format.json_schema.schema", wanted)?)
        };
        config.insert(name.to_owned(), schema);
    }
    Ok(())
}

fn thinking(
    params: &Params,
    job: &Job<'_>,
    extensions: &Extensions<'_>,
    config: &mut Map<String, Value>,
    leftovers: &mut Leftovers,
) -> Result<(), Fault> {
    if let Some(own) = extensions.thinking_config {
        // Google takes one of the two; its own words win over OpenAI's.
        if params.reasoning_effort.is_some() {
            leftovers.ignore("reasoning_effort");
        }
        config.insert("thinkingConfig".to_owned(), own.clone());
        return Ok(());
    }
    let Some(effort) = params.reasoning_effort.as_deref() else { return Ok(()) };
    if !matches!(effort, "none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max") {
        let sentence =
            "Invalid value for 'reasoning_effort': expected none, minimal, low, medium, high, xhigh or max.";
        return Err(Fault::bad("reasoning_effort", sentence));
    }
    let thinking = if job.quirks.has(Quirk::ThinkingLevel) {
        level(effort, job.model).map(|level| json!({"includeThoughts": true, "thinkingLevel": level}))
    } else if job.quirks.has(Quirk::ThinkingBudget) {
        budget(effort, job.model)
            .map(|budget| json!({"includeThoughts": budget > 0, "thinkingBudget": budget}))
    } else if effort == "none" {
        return Ok(());
    } else {
        return leftovers.cannot("reasoning_effort", "the model does not think");
    };
    match thinking {
        Some(thinking) => {
            config.insert("thinkingConfig".to_owned(), thinking);
            Ok(())
        }
        None => leftovers.cannot("reasoning_effort", "the model always thinks"),
    }
}

/// Google's own table for its OpenAI-like endpoint; only the Flash models have a middle.
fn level(effort: &str, model: &str) -> Option<&'static str> {
    match effort {
        "none" => None,
        "minimal" | "low" => Some("LOW"),
        "medium" if model.contains("flash") => Some("MEDIUM"),
        _ => Some("HIGH"),
    }
}

/// Google's own table, in tokens; the Pro models cannot be told not to think.
fn budget(effort: &str, model: &str) -> Option<u32> {
    match effort {
        "none" if model.contains("pro") => None,
        "none" => Some(0),
        "minimal" | "low" => Some(1024),
        "medium" => Some(8192),
        _ => Some(24576),
    }
}

fn offers<'a>(params: &'a Params, job: &Job<'_>, leftovers: &mut Leftovers) -> Result<Vec<Offer<'a>>, Fault> {
    let mut offers = Vec::new();
    for (at, tool) in params.tools.iter().flatten().enumerate() {
        match &tool.function {
            Some(function) if tool.kind == "function" => offers.push(offer(at, function, job, leftovers)?),
            _ => leftovers.cannot(&format!("tools[{at}]"), "only tools of type 'function' are known")?,
        }
    }
    Ok(offers)
}

fn offer<'a>(
    at: usize,
    function: &'a Function,
    job: &Job<'_>,
    leftovers: &mut Leftovers,
) -> Result<Offer<'a>, Fault> {
    if function.strict == Some(true) {
        leftovers.ignore("tools.strict");
    }
    let given = function.parameters.as_ref().filter(|schema| !schema.is_null());
    if given.is_some_and(|schema| !schema.is_object()) {
        let param = format!("tools[{at}].function.parameters");
        return Err(Fault::bad(
            param.clone(),
            format!("Invalid schema for '{param}': it must be an object."),
        ));
    }
    let given = given.filter(|schema| !schema::is_empty_object(schema));
    let as_json = job.quirks.has(Quirk::JsonSchemaTools);
    let param = format!("tools[{at}].function.parameters");
    Ok(Offer {
        name: &function.name,
        description: function.description.as_deref().filter(|text| !text.is_empty()),
        parameters: given.filter(|_| !as_json).map(|schema| openapi(&param, schema)).transpose()?,
        parameters_json_schema: given.filter(|_| as_json).map(schema::json),
    })
}

fn openapi(param: &str, given: &Value) -> Result<Value, Fault> {
    schema::openapi(given).ok_or_else(|| {
        let sentence = format!("Invalid schema for '{param}': it is too large with its references followed.");
        Fault::bad(param.to_owned(), sentence)
    })
}

fn tool_config(
    params: &Params,
    offers: &[Offer<'_>],
    leftovers: &mut Leftovers,
) -> Result<Option<Value>, Fault> {
    if offers.is_empty() {
        if params.parallel_tool_calls == Some(false) {
            leftovers.ignore("parallel_tool_calls");
        }
        return match &params.tool_choice {
            Some(ToolChoice::Mode(mode)) if mode == "none" || mode == "auto" => Ok(None),
            Some(_) if params.tools.as_ref().is_none_or(Vec::is_empty) => {
                Err(Fault::bad("tool_choice", "'tool_choice' is only allowed when 'tools' are specified."))
            }
            // The tools that it names were left out, and named.
            Some(_) | None => Ok(None),
        };
    }
    if params.parallel_tool_calls == Some(false) {
        leftovers.cannot("parallel_tool_calls", "the model may always make several calls at once")?;
    }
    let mode = match &params.tool_choice {
        None => return Ok(None),
        Some(ToolChoice::Mode(mode)) => match mode.as_str() {
            "auto" => json!({"mode": "AUTO"}),
            "none" => json!({"mode": "NONE"}),
            "required" => json!({"mode": "ANY"}),
            _ => {
                let sentence =
                    "Invalid value for 'tool_choice': expected none, auto, required or a function.";
                return Err(Fault::bad("tool_choice", sentence));
            }
        },
        Some(named @ ToolChoice::Named(_)) => match named.function_name() {
            Some(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
            None => return leftovers.cannot("tool_choice", "only a function can be named").map(|()| None),
        },
    };
    Ok(Some(json!({"functionCallingConfig": mode})))
}

#[cfg(test)]
mod tests;
