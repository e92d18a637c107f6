//! Writes a chat request for Claude. Why thinking is decided first: it forbids forced tools and sampling, demands signed
//! blocks of a running tool loop, and must leave room within `max_tokens`; what collides gives way here, because the
//! platform would answer 400 for something that the caller never wrote.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::history::{self, History, Turn};
use super::super::leftovers::{Leftovers, is_set};
use super::super::{Encoded, Job, Quirk, written};
use super::turns::{self, Block, CACHE_MARK, Said};
use crate::api::chat::{ChatRequest, Function, Params, Rest, Tool, ToolChoice};
use crate::fault::Fault;

/// The bound on an answer where neither the caller nor the row names one; Claude demands one.
const DEFAULT_MAX_TOKENS: u64 = 4096;

/// The least thinking budget that Claude takes, in tokens.
const LEAST_BUDGET: u64 = 1024;

/// `reasoning_effort` as Claude's effort and as a thinking budget in tokens.
const EFFORTS: &[(&str, &str, u64)] = &[
    ("minimal", "low", 1024),
    ("low", "low", 1024),
    ("medium", "medium", 2048),
    ("high", "high", 4096),
    ("xhigh", "xhigh", 8192),
    ("max", "max", 16384),
];

#[derive(Debug, Default, Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Said<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Offer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    output_config: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<&'a Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

/// A tool on offer.
#[derive(Debug, Serialize)]
struct Offer<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Cow<'a, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<&'a Value>,
}

/// Whether and how Claude thinks.
#[derive(Debug)]
enum Thinking {
    Off,
    Adaptive,
    Budget(u64),
    /// The caller's own `thinking` object.
    Own(Value),
}

impl Thinking {
    fn is_on(&self) -> bool {
        match self {
            Thinking::Off => false,
            Thinking::Adaptive | Thinking::Budget(_) => true,
            Thinking::Own(own) => own.get("type").and_then(Value::as_str) != Some("disabled"),
        }
    }

    fn into_json(self) -> Option<Value> {
        match self {
            Thinking::Off => None,
            // Newer models leave the text of their thinking out unless asked.
            Thinking::Adaptive => Some(json!({"type": "adaptive", "display": "summarized"})),
            Thinking::Budget(tokens) => Some(json!({"type": "enabled", "budget_tokens": tokens})),
            Thinking::Own(own) => Some(own),
        }
    }
}

/// Writes a chat request for this wire.
///
/// # Errors
/// A bad request, or an unsupported parameter where the job says to reject.
pub fn encode(request: &ChatRequest<'_>, job: &Job<'_>) -> Result<Encoded, Fault> {
    let params = &request.params;
    let mut leftovers = Leftovers::new(job.unsupported);
    unsupported(params, &mut leftovers)?;
    let history = history::read(&request.messages)?;
    let max_tokens = max_tokens(params, job);
    let tools = tools(params, job, &mut leftovers)?;
    let tool_choice = tool_choice(params, &tools, &mut leftovers)?;
    let thinking = thinking(params, job, max_tokens, tool_choice.as_ref(), &history, &mut leftovers)?;
    let is_thinking = thinking.is_on();
    let mut body = Body {
        model: job.model,
        max_tokens,
        system: turns::system(&history, &mut leftovers)?,
        messages: turns::turns(&history, is_thinking, job.recall, &mut leftovers)?,
        tools,
        tool_choice,
        stop_sequences: stop_sequences(params, &mut leftovers)?,
        metadata: metadata(params, &mut leftovers),
        service_tier: service_tier(params, &mut leftovers),
        thinking: thinking.into_json(),
        output_config: output_config(params, job, &mut leftovers)?,
        cache_control: params.rest.get(CACHE_MARK),
        stream: job.stream,
        ..Body::default()
    };
    sampling(&mut body, params, is_thinking, job, &mut leftovers);
    let body = written(&body, request.length)?;
    Ok(Encoded { path: "/messages".to_owned(), headers: Vec::new(), body, dropped: leftovers.into_names() })
}

/// What Claude does not have at all.
fn unsupported(params: &Params, leftovers: &mut Leftovers) -> Result<(), Fault> {
    const NONE: &str = "the model's platform has no such parameter";
    leftovers.common(params)?;
    let wants_text = |modalities: &Vec<String>| modalities.iter().all(|one| one == "text");
    for (name, given, why) in [
        ("n", params.n.is_some_and(|n| n > 1), "the model gives one choice"),
        ("logprobs", params.logprobs == Some(true), NONE),
        ("top_logprobs", params.top_logprobs.is_some_and(|top| top > 0), NONE),
        ("presence_penalty", is_set(params.presence_penalty), NONE),
        ("frequency_penalty", is_set(params.frequency_penalty), NONE),
        (
            "modalities",
            params.modalities.as_ref().is_some_and(|list| !wants_text(list)),
            "it answers in text",
        ),
    ] {
        if given {
            leftovers.cannot(name, why)?;
        }
    }
    // A best effort even at OpenAI.
    if params.seed.is_some() {
        leftovers.ignore("seed");
    }
    for name in params.rest.keys() {
        if !matches!(name.as_str(), "thinking" | "top_k" | "cache_control" | "output_config") {
            leftovers.unknown(name)?;
        }
    }
    Ok(())
}

fn max_tokens(params: &Params, job: &Job<'_>) -> u64 {
    let most = job.max_output;
    match params.max_answer_tokens() {
        Some(wanted) => most.map_or(wanted, |most| wanted.min(most)),
        None => most.unwrap_or(DEFAULT_MAX_TOKENS),
    }
}

fn effort(params: &Params) -> Result<Option<(&'static str, u64)>, Fault> {
    let Some(wanted) = params.reasoning_effort.as_deref().filter(|effort| *effort != "none") else {
        return Ok(None);
    };
    let known = EFFORTS.iter().find(|(name, ..)| *name == wanted);
    known.map(|(_, level, budget)| Some((*level, *budget))).ok_or_else(|| {
        let sentence =
            "Invalid value for 'reasoning_effort': expected none, minimal, low, medium, high, xhigh or max.";
        Fault::bad("reasoning_effort", sentence)
    })
}

fn thinking(
    params: &Params,
    job: &Job<'_>,
    max_tokens: u64,
    tool_choice: Option<&Value>,
    history: &History<'_>,
    leftovers: &mut Leftovers,
) -> Result<Thinking, Fault> {
    let effort = effort(params)?;
    if let Some(own) = params.rest.get("thinking").filter(|own| !own.is_null()) {
        return Ok(Thinking::Own(own.clone()));
    }
    let Some((_, budget)) = effort else { return Ok(Thinking::Off) };
    let adaptive = job.quirks.has(Quirk::AdaptiveThinking);
    if job.quirks.has(Quirk::Effort) && !adaptive {
        return Ok(Thinking::Off);
    }
    // A forced call and thinking exclude each other; the call is what the caller cannot do without.
    let is_forced = tool_choice.is_some_and(
        |choice| matches!(choice.get("type"), Some(Value::String(kind)) if kind == "any" || kind == "tool"),
    );
    let fits = adaptive || (max_tokens > LEAST_BUDGET && is_loop_signed(history, job));
    if is_forced || !fits {
        leftovers.ignore("reasoning_effort");
        return Ok(Thinking::Off);
    }
    if adaptive {
        return Ok(Thinking::Adaptive);
    }
    let room = if budget < max_tokens { budget } else { LEAST_BUDGET.max(max_tokens / 2) };
    Ok(Thinking::Budget(room))
}

/// Whether a budget for thinking is legal: a running tool loop must have begun with signed thinking, or do without.
fn is_loop_signed(history: &History<'_>, job: &Job<'_>) -> bool {
    match history.turns.as_slice() {
        [.., Turn::Assistant { message, .. }, Turn::Results(_)] => {
            !turns::signed_thinking(message, job.recall).is_empty()
        }
        _ => true,
    }
}

fn sampling<'a>(
    body: &mut Body<'a>,
    params: &'a Params,
    is_thinking: bool,
    job: &Job<'_>,
    leftovers: &mut Leftovers,
) {
    let never = job.quirks.has(Quirk::NoSampling);
    // Claude's scale ends at 1; OpenAI's at 2.
    let temperature = params.temperature.map(|temperature| temperature.min(1.0));
    // The default, spelled out: some models refuse it beside a temperature.
    let top_p = params.top_p.filter(|top_p| *top_p < 1.0);
    let top_k = params.rest.get("top_k").filter(|top_k| !top_k.is_null());
    // While it thinks, Claude takes its own temperature, no `top_k`, and hardly a `top_p`.
    body.temperature = temperature.filter(|warmth| !never && (!is_thinking || *warmth >= 1.0));
    body.top_p = top_p.filter(|top_p| !never && (!is_thinking || *top_p >= 0.95));
    body.top_k = top_k.filter(|_| !never && !is_thinking);
    for (name, is_lost) in [
        ("temperature", temperature.is_some() && body.temperature.is_none()),
        ("top_p", top_p.is_some() && body.top_p.is_none()),
        ("top_k", top_k.is_some() && body.top_k.is_none()),
    ] {
        if is_lost {
            leftovers.ignore(name);
        }
    }
}

fn tools<'a>(params: &'a Params, job: &Job<'_>, leftovers: &mut Leftovers) -> Result<Vec<Offer<'a>>, Fault> {
    let mut offers = Vec::new();
    for (at, tool) in params.tools.iter().flatten().enumerate() {
        match &tool.function {
            Some(function) if tool.kind == "function" => {
                offers.push(offer(at, tool, function, job, leftovers)?);
            }
            _ => leftovers.cannot(&format!("tools[{at}]"), "only tools of type 'function' are known")?,
        }
    }
    Ok(offers)
}

fn offer<'a>(
    at: usize,
    tool: &'a Tool,
    function: &'a Function,
    job: &Job<'_>,
    leftovers: &mut Leftovers,
) -> Result<Offer<'a>, Fault> {
    let strict = function.strict.filter(|strict| *strict);
    let takes_strict = job.quirks.has(Quirk::StructuredOutput);
    if strict.is_some() && !takes_strict {
        leftovers.ignore("tools.strict");
    }
    let mark = |rest: &'a Rest| rest.get(CACHE_MARK).filter(|mark| mark.is_object());
    Ok(Offer {
        name: &function.name,
        description: function.description.as_deref().filter(|text| !text.is_empty()),
        input_schema: input_schema(at, function.parameters.as_ref())?,
        strict: strict.filter(|_| takes_strict),
        cache_control: mark(&tool.rest).or_else(|| mark(&function.rest)),
    })
}

/// Claude wants an object's schema, where OpenAI lets a function without parameters have none.
fn input_schema(at: usize, parameters: Option<&Value>) -> Result<Cow<'_, Value>, Fault> {
    let wrong = |why: &str| {
        let param = format!("tools[{at}].function.parameters");
        let sentence = format!("Invalid schema for '{param}': {why}.");
        Err(Fault::bad(param, sentence))
    };
    let schema = match parameters {
        None | Some(Value::Null) => return Ok(Cow::Owned(json!({"type": "object", "properties": {}}))),
        Some(Value::Object(schema)) => schema,
        Some(_) => return wrong("it must be an object"),
    };
    match schema.get("type") {
        Some(Value::String(kind)) if kind == "object" => {
            Ok(parameters.map_or(Cow::Owned(Value::Null), Cow::Borrowed))
        }
        Some(Value::Null) | None => {
            let mut typed = Map::from_iter([("type".to_owned(), json!("object"))]);
            typed.extend(
                schema
                    .iter()
                    .filter(|(name, _)| *name != "type")
                    .map(|(name, value)| (name.clone(), value.clone())),
            );
            typed.entry("properties").or_insert_with(|| json!({}));
            Ok(Cow::Owned(Value::Object(typed)))
        }
        Some(_) => wrong("its type must be 'object'"),
    }
}

fn tool_choice(
    params: &Params,
    tools: &[Offer<'_>],
    leftovers: &mut Leftovers,
) -> Result<Option<Value>, Fault> {
    let one_at_a_time = params.parallel_tool_calls == Some(false);
    if tools.is_empty() {
        if one_at_a_time {
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
    let mut choice = match &params.tool_choice {
        None if one_at_a_time => json!({"type": "auto"}),
        None => return Ok(None),
        Some(ToolChoice::Mode(mode)) => match mode.as_str() {
            "auto" => json!({"type": "auto"}),
            "none" => return Ok(Some(json!({"type": "none"}))),
            "required" => json!({"type": "any"}),
            _ => {
                return Err(Fault::bad(
                    "tool_choice",
                    "Invalid value for 'tool_choice': expected none, auto, required or a function.",
                ));
            }
        },
        Some(named @ ToolChoice::Named(_)) => match named.function_name() {
            Some(name) => json!({"type": "tool", "name": name}),
            None => {
                leftovers.cannot("tool_choice", "only a function can be named")?;
                return Ok(None);
            }
        },
    };
    if let Some(choice) = choice.as_object_mut().filter(|_| one_at_a_time) {
        choice.insert("disable_parallel_tool_use".to_owned(), Value::Bool(true));
    }
    Ok(Some(choice))
}

fn stop_sequences<'a>(params: &'a Params, leftovers: &mut Leftovers) -> Result<Vec<&'a str>, Fault> {
    let mut stops = Vec::new();
    for stop in params.stop.iter().flat_map(|stop| stop.list()) {
        if stop.trim().is_empty() {
            leftovers.cannot("stop", "it must hold more than white space")?;
        } else {
            stops.push(stop.as_str());
        }
    }
    Ok(stops)
}

fn metadata(params: &Params, leftovers: &mut Leftovers) -> Option<Value> {
    let (name, user) = match (&params.safety_identifier, &params.user) {
        (Some(id), _) => ("safety_identifier", id),
        (None, Some(user)) => ("user", user),
        (None, None) => return None,
    };
    if user.is_empty() || user.chars().count() > 256 {
        leftovers.ignore(name);
        return None;
    }
    Some(json!({"user_id": user}))
}

fn service_tier(params: &Params, leftovers: &mut Leftovers) -> Option<&'static str> {
    match params.service_tier.as_deref()? {
        "auto" => Some("auto"),
        "default" => Some("standard_only"),
        _ => {
            leftovers.ignore("service_tier");
            None
        }
    }
}

/// The caller's own `output_config`, with effort and format where they were asked for in OpenAI's words.
fn output_config(
    params: &Params,
    job: &Job<'_>,
    leftovers: &mut Leftovers,
) -> Result<Map<String, Value>, Fault> {
    let mut config = Map::new();
    if let Some((level, _)) = effort(params)?.filter(|_| job.quirks.has(Quirk::Effort)) {
        config.insert("effort".to_owned(), json!(level));
    }
    if let Some(schema) = format_schema(params, job, leftovers)? {
        config.insert("format".to_owned(), json!({"type": "json_schema", "schema": schema}));
    }
    if let Some(own) = params.rest.get("output_config").and_then(Value::as_object) {
        config.extend(own.clone());
    }
    Ok(config)
}

fn format_schema<'a>(
    params: &'a Params,
    job: &Job<'_>,
    leftovers: &mut Leftovers,
) -> Result<Option<&'a Value>, Fault> {
    let Some(format) = &params.response_format else { return Ok(None) };
    let schema = format.json_schema.as_ref().and_then(|named| named.schema.as_ref());
    match (format.kind.as_str(), schema) {
        ("text", _) => Ok(None),
        ("json_schema", None) => {
            Err(Fault::bad("response_format", "'response_format.json_schema.schema' is missing."))
        }
        ("json_schema", Some(schema)) if job.quirks.has(Quirk::StructuredOutput) => Ok(Some(schema)),
        ("json_schema", Some(_)) => {
            leftovers.cannot("response_format", "the model has no structured output").map(|()| None)
        }
        ("json_object", _) => leftovers
            .cannot("response_format", "the model's platform knows only 'json_schema'")
            .map(|()| None),
        _ => Err(Fault::bad(
            "response_format",
            "Invalid value for 'response_format.type': expected text, json_object or json_schema.",
        )),
    }
}

#[cfg(test)]
mod tests;
