//! Writes requests for Alibaba's native wire.

use serde_json::{Map, Value, json};

use super::super::leftovers::{Leftovers, answer_bound, vendor_fields};
use super::super::turns::{malformed, refused, schema_instruction, text_only};
use super::super::{Encoded, Job, Quirk};
use crate::api::chat::{ChatRequest, Content, KnownPart, Message, Params, Part, Role, ToolChoice};
use crate::fault::Fault;

/// Parameters that this wire carries, or that are judged here.
const READS: &[&str] = &[
    "top_p",
    "n",
    "stop",
    "presence_penalty",
    "logprobs",
    "top_logprobs",
    "tools",
    "parallel_tool_calls",
    "response_format",
    "seed",
];

/// Tokens of thinking that `reasoning_effort: low` and `medium` allow; above that the model's own bound holds.
const LOW_THINKING: u64 = 1024;
const MEDIUM_THINKING: u64 = 8192;

/// Writes a chat request for this wire.
///
/// # Errors
/// A bad request that names the message, or an unsupported parameter where the job says to reject.
pub fn encode(request: &ChatRequest<'_>, job: &Job<'_>) -> Result<Encoded, Fault> {
    let params = &request.params;
    let mut leftovers = Leftovers::new(job.unsupported);
    let mut body: Map<String, Value> = vendor_fields(params).collect();
    sampling(params, job, &mut body);
    tools(params, job, &mut leftovers, &mut body)?;
    let instruction = response_format(params, job, &mut leftovers, &mut body)?;
    let mut reads = READS.to_vec();
    if thinking(params, job, &mut body) {
        reads.push("reasoning_effort");
    }
    leftovers.all_but(&reads, params)?;
    body.insert("result_format".into(), json!("message"));
    body.insert("incremental_output".into(), json!(true));
    let body = json!({
        "model": job.model,
        "input": {"messages": messages(request, job, instruction)?},
        "parameters": body,
    });
    let task = if job.quirks.has(Quirk::Multimodal) { "multimodal-generation" } else { "text-generation" };
    let stream_headers =
        vec![("x-dashscope-sse", "enable".to_owned()), ("accept", "text/event-stream".to_owned())];
    Ok(Encoded {
        path: format!("/services/aigc/{task}/generation"),
        headers: if job.stream { stream_headers } else { Vec::new() },
        body: body.to_string().into(),
        dropped: leftovers.into_names(),
    })
}

fn sampling(params: &Params, job: &Job<'_>, body: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    let bound =
        if job.quirks.has(Quirk::CompletionTokensOnly) { "max_completion_tokens" } else { "max_tokens" };
    put(bound, answer_bound(params, job).map(Value::from));
    if !job.quirks.has(Quirk::NoSampling) {
        // Both ends are refused: the range is [0, 2) and (0, 1].
        put("temperature", params.temperature.map(|temperature| temperature.clamp(0.0, 1.99).into()));
        put("top_p", params.top_p.map(|top_p| top_p.clamp(0.001, 0.999).into()));
    }
    put("presence_penalty", params.presence_penalty.map(Value::from));
    put("seed", params.seed.map(|seed| (seed & 0x7fff_ffff).into()));
    put("n", params.n.filter(|n| *n > 1).map(Value::from));
    put("logprobs", params.logprobs.map(Value::from));
    put("top_logprobs", params.top_logprobs.map(Value::from));
    put("stop", params.stop.as_ref().map(|stop| stop.list().into()));
}

fn tools(
    params: &Params,
    job: &Job<'_>,
    leftovers: &mut Leftovers,
    body: &mut Map<String, Value>,
) -> Result<(), Fault> {
    let mut list = Vec::new();
    for tool in params.tools.iter().flatten() {
        match &tool.function {
            Some(function) if tool.kind == "function" => list.push(json!({"type": "function", "function": {
                "name": function.name,
                "description": function.description.as_deref().unwrap_or_default(),
                "parameters": function.parameters.clone().unwrap_or_else(|| json!({"type": "object", "properties": {}})),
            }})),
            _ => leftovers.missing("tools")?,
        }
    }
    if list.is_empty() {
        return Ok(());
    }
    body.insert("tools".into(), list.into());
    let parallel = params.parallel_tool_calls.or(job.quirks.has(Quirk::AskParallelTools).then_some(true));
    if let Some(parallel) = parallel {
        body.insert("parallel_tool_calls".into(), parallel.into());
    }
    let choice = match &params.tool_choice {
        None => return Ok(()),
        Some(ToolChoice::Mode(mode)) if mode == "auto" || mode == "none" => json!(mode),
        Some(ToolChoice::Mode(mode)) if mode == "required" && job.quirks.has(Quirk::NoRequiredTool) => {
            // As on the other wires: refused, or as near as the platform comes.
            leftovers.missing("tool_choice")?;
            json!("auto")
        }
        Some(choice) => match choice.function_name().filter(|_| !job.quirks.has(Quirk::OnlyAutoTool)) {
            Some(name) => json!({"type": "function", "function": {"name": name}}),
            None => return leftovers.missing("tool_choice"),
        },
    };
    body.insert("tool_choice".into(), choice);
    Ok(())
}

/// Sets the answer's format; gives back what has to be said to the model instead.
fn response_format(
    params: &Params,
    job: &Job<'_>,
    leftovers: &mut Leftovers,
    body: &mut Map<String, Value>,
) -> Result<Option<String>, Fault> {
    let Some(format) = &params.response_format else { return Ok(None) };
    let mut instruction = None;
    let value = match (format.kind.as_str(), &format.json_schema) {
        ("text", _) => return Ok(None),
        ("json_object", _) => json!({"type": "json_object"}),
        ("json_schema", Some(schema)) if job.quirks.has(Quirk::StructuredOutput) => {
            json!({"type": "json_schema", "json_schema": {
                "name": schema.name,
                "schema": schema.schema,
                "strict": schema.strict.unwrap_or(false),
            }})
        }
        ("json_schema", Some(_)) if job.quirks.has(Quirk::SchemaAsJsonObject) => {
            instruction = schema_instruction(format);
            json!({"type": "json_object"})
        }
        _ => {
            leftovers.missing("response_format")?;
            return Ok(None);
        }
    };
    body.insert("response_format".into(), value);
    Ok(instruction)
}

/// Sets how much the model thinks; the vendor's own fields of the caller win. Whether `reasoning_effort` was used.
fn thinking(params: &Params, job: &Job<'_>, body: &mut Map<String, Value>) -> bool {
    if job.quirks.has(Quirk::NoThinkingUnlessStream) && !job.stream {
        body.insert("enable_thinking".into(), false.into());
        body.shift_remove("thinking_budget");
        return false;
    }
    let effort = params.reasoning_effort.as_deref().filter(|_| job.quirks.has(Quirk::QwenThinking));
    let Some(effort) = effort else { return false };
    if body.contains_key("enable_thinking") || body.contains_key("thinking_budget") {
        return true;
    }
    body.insert("enable_thinking".into(), (!matches!(effort, "none" | "minimal")).into());
    let budget = match effort {
        "low" => Some(LOW_THINKING),
        "medium" => Some(MEDIUM_THINKING),
        _ => None,
    };
    body.extend(budget.map(|budget| ("thinking_budget".to_owned(), budget.into())));
    true
}

fn messages(
    request: &ChatRequest<'_>,
    job: &Job<'_>,
    instruction: Option<String>,
) -> Result<Vec<Value>, Fault> {
    let mut list = Vec::with_capacity(request.messages.len() + 1);
    for (at, message) in request.messages.iter().enumerate() {
        list.push(Value::Object(one_message(message, at, job)?));
    }
    if let Some(text) = instruction {
        let content = if job.quirks.has(Quirk::Multimodal) { json!([{"text": text}]) } else { json!(text) };
        list.insert(0, json!({"role": "system", "content": content}));
    }
    Ok(list)
}

fn one_message(message: &Message<'_>, at: usize, job: &Job<'_>) -> Result<Map<String, Value>, Fault> {
    let role = match message.role {
        Role::System | Role::Developer => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
        Role::Function => {
            return Err(refused(at, "The deprecated role 'function' is not supported: use 'tool'."));
        }
    };
    let content = if job.quirks.has(Quirk::Multimodal) {
        parts(message, at)?.into()
    } else {
        text_only(message, at)?.into()
    };
    let mut written = message.rest.clone();
    written.insert("role".into(), role.into());
    written.insert("content".into(), content);
    if let Some(id) = &message.tool_call_id {
        written.insert("tool_call_id".into(), id.as_str().into());
    }
    if let Some(reasoning) =
        message.reasoning_content.as_deref().filter(|_| job.quirks.has(Quirk::WantsReasoningBack))
    {
        written.insert("reasoning_content".into(), reasoning.into());
    }
    if !message.tool_calls.is_empty() {
        let mut calls = Vec::with_capacity(message.tool_calls.len());
        for call in &message.tool_calls {
            let function = &call.function;
            if function.object().is_none() {
                return Err(malformed(at, "The arguments of a tool call must be a JSON object."));
            }
            let arguments = if function.arguments.trim().is_empty() { "{}" } else { &function.arguments };
            calls.push(json!({
                "id": call.id,
                "type": "function",
                "function": {"name": function.name, "arguments": arguments},
            }));
        }
        written.insert("tool_calls".into(), calls.into());
    }
    Ok(written)
}

/// A message's content as this wire's list, for models that see.
fn parts(message: &Message<'_>, at: usize) -> Result<Vec<Value>, Fault> {
    let Content::Parts(parts) = &message.content else {
        return Ok(vec![json!({"text": text_only(message, at)?})]);
    };
    let mut list = Vec::with_capacity(parts.len());
    for part in parts {
        let mut written = match part {
            Part::Known(KnownPart::Text { text, .. }) => json!({"text": text}),
            Part::Known(KnownPart::Refusal { refusal, .. }) => json!({"text": refusal}),
            Part::Known(KnownPart::ImageUrl { image_url, .. }) => json!({"image": &*image_url.url}),
            _ => return Err(refused(at, "The target platform takes text and images only.")),
        };
        // Bounds on an image's pixels stand here, for one.
        if let (Part::Known(known), Value::Object(written)) = (part, &mut written) {
            written.extend(known.rest().iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        list.push(written);
    }
    Ok(list)
}
