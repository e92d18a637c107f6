//! Writes requests for Baidu's V1 wire.

use serde_json::{Map, Value, json};

use super::super::leftovers::{Leftovers, answer_bound, vendor_fields};
use super::super::turns::{Turn, Turns, join, schema_instruction};
use super::super::{Encoded, Job, Quirk};
use crate::api::chat::{ChatRequest, Params, ToolChoice};
use crate::fault::{Fault, Kind};

/// Models whose endpoint is not their own name in lower case. Source: `baidu.md`, B2.
#[rustfmt::skip]
const ENDPOINTS: &[(&str, &str)] = &[
    ("ernie-4.0-8k", "completions_pro"),
    ("ernie-4.0-8k-preview-0518", "completions_adv_pro"),
    ("ernie-3.5-8k", "completions"),
    ("ernie-bot", "completions"),
    ("ernie-bot-turbo", "eb-instant"),
    ("ernie-lite-8k-0922", "eb-instant"),
    ("ernie-lite-8k-0308", "ernie-lite-8k"),
    ("ernie-speed-8k", "ernie_speed"),
    ("ernie-character-8k", "ernie-char-8k"),
    ("ernie-functions-8k", "ernie-func-8k"),
];

/// Parameters that this wire carries, or that are judged here. `parallel_tool_calls: false` is all it can do.
const READS: &[&str] = &["top_p", "stop", "tools", "parallel_tool_calls", "response_format", "user"];

/// What is put where Baidu wants a turn and the conversation has none.
const FILLER_USER: &str = "Continue.";
const FILLER_ASSISTANT: &str = "OK.";

/// The vendor's bound on `stop`.
const MOST_STOPS: usize = 4;

/// Writes a chat request for this wire. The access token is not part of it: authentication appends it to the query.
///
/// # Errors
/// A bad request that names the message or the model, or an unsupported parameter where the job says to reject.
pub fn encode(request: &ChatRequest<'_>, job: &Job<'_>) -> Result<Encoded, Fault> {
    let params = &request.params;
    let mut leftovers = Leftovers::new(job.unsupported);
    let mut turns = Turns::read(request)?;
    let mut body: Map<String, Value> = vendor_fields(params).collect();
    sampling(params, job, &mut leftovers, &mut body)?;
    functions(params, job, &mut leftovers, &mut body)?;
    if let Some(format) = &params.response_format {
        match format.kind.as_str() {
            "text" | "json_object" => {
                body.insert("response_format".into(), format.kind.as_str().into());
            }
            "json_schema" if job.quirks.has(Quirk::SchemaAsJsonObject) => {
                turns.instruct(&schema_instruction(format).unwrap_or_default());
                body.insert("response_format".into(), "json_object".into());
            }
            _ => leftovers.missing("response_format")?,
        }
    }
    if let Some(user) = &params.user {
        body.insert("user_id".into(), user.as_str().into());
    }
    leftovers.all_but(READS, params)?;
    if turns.list.is_empty() || job.quirks.has(Quirk::SystemIntoUser) {
        turns.fold_system();
    }
    if !turns.system.is_empty() {
        body.insert("system".into(), std::mem::take(&mut turns.system).into());
    }
    let messages: Vec<Value> = alternate(turns.list).into_iter().map(written).collect();
    body.insert("messages".into(), messages.into());
    body.insert("stream".into(), job.stream.into());
    Ok(Encoded {
        path: format!("/chat/{}", endpoint(job.model)?),
        headers: Vec::new(),
        body: Value::Object(body).to_string().into(),
        dropped: leftovers.into_names(),
    })
}

/// The endpoint word of a model. A model's name may come from the caller: it must not reach out of its path segment.
fn endpoint(model: &str) -> Result<String, Fault> {
    let name = model.to_ascii_lowercase();
    if let Some((_, endpoint)) = ENDPOINTS.iter().find(|(model, _)| *model == name) {
        return Ok((*endpoint).to_owned());
    }
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(safe) {
        return Err(
            Fault::client(Kind::ModelNotFound, "The target platform has no such model.").param("model")
        );
    }
    Ok(name)
}

fn sampling(
    params: &Params,
    job: &Job<'_>,
    leftovers: &mut Leftovers,
    body: &mut Map<String, Value>,
) -> Result<(), Fault> {
    if let Some(most) = answer_bound(params, job) {
        // Fewer than two are refused.
        body.insert("max_output_tokens".into(), most.max(2).into());
    }
    if !job.quirks.has(Quirk::NoSampling) {
        // The range is (0, 1].
        let temperature = params.temperature.map(|temperature| temperature.clamp(0.01, 1.0));
        body.extend(temperature.map(|temperature| ("temperature".to_owned(), temperature.into())));
        let top_p = params.top_p.map(|top_p| top_p.clamp(0.0, 1.0));
        body.extend(top_p.map(|top_p| ("top_p".to_owned(), top_p.into())));
    }
    let stops = params.stop.as_ref().map(|stop| stop.list()).unwrap_or_default();
    if stops.len() > MOST_STOPS {
        leftovers.missing("stop")?;
    } else if !stops.is_empty() {
        body.insert("stop".into(), stops.into());
    }
    Ok(())
}

fn functions(
    params: &Params,
    job: &Job<'_>,
    leftovers: &mut Leftovers,
    body: &mut Map<String, Value>,
) -> Result<(), Fault> {
    let choice = params.tool_choice.as_ref();
    if matches!(choice, Some(ToolChoice::Mode(mode)) if mode == "none") {
        return Ok(());
    }
    let mut list = Vec::new();
    for tool in params.tools.iter().flatten() {
        match &tool.function {
            // Description and parameters are mandatory here.
            Some(function) if tool.kind == "function" => list.push(json!({
                "name": function.name,
                "description": function.description.as_deref().unwrap_or(&function.name),
                "parameters": function.parameters.clone().unwrap_or_else(|| json!({"type": "object", "properties": {}})),
            })),
            _ => leftovers.missing("tools")?,
        }
    }
    if list.is_empty() {
        return Ok(());
    }
    body.insert("functions".into(), list.into());
    match choice {
        None => {}
        Some(ToolChoice::Mode(mode)) if mode == "auto" => {}
        Some(ToolChoice::Mode(mode)) if mode == "required" && job.quirks.has(Quirk::NoRequiredTool) => {}
        Some(choice) => match choice.function_name().filter(|_| !job.quirks.has(Quirk::OnlyAutoTool)) {
            Some(name) => {
                body.insert("tool_choice".into(), json!({"type": "function", "function": {"name": name}}));
            }
            None => leftovers.missing("tool_choice")?,
        },
    }
    Ok(())
}

/// The turns in strict alternation, beginning and ending with the user, hence an odd number of them. Baidu counts a
/// function's result as the user's turn.
fn alternate(turns: Vec<Turn>) -> Vec<Turn> {
    let mut list: Vec<Turn> = Vec::with_capacity(turns.len() + 2);
    for turn in turns {
        match (list.last_mut(), turn) {
            // An empty turn is refused, and says nothing.
            (_, Turn::Assistant(text)) if text.is_empty() => {}
            (Some(Turn::User(before)), Turn::User(text)) => join(before, &text),
            (Some(Turn::Assistant(before)), Turn::Assistant(text)) => join(before, &text),
            (Some(last @ Turn::Assistant(_)), Turn::Call { text, name, arguments }) => {
                let mut before =
                    if let Turn::Assistant(before) = last { std::mem::take(before) } else { String::new() };
                join(&mut before, &text);
                *last = Turn::Call { text: before, name, arguments };
            }
            (Some(Turn::Result { .. }), user @ Turn::User(_)) => {
                list.extend([Turn::Assistant(FILLER_ASSISTANT.into()), user]);
            }
            (None, assistant @ (Turn::Assistant(_) | Turn::Call { .. })) => {
                list.extend([Turn::User(FILLER_USER.into()), assistant]);
            }
            (_, turn) => list.push(turn),
        }
    }
    if matches!(list.last(), None | Some(Turn::Assistant(_))) {
        list.push(Turn::User(FILLER_USER.into()));
    }
    list
}

fn written(turn: Turn) -> Value {
    match turn {
        Turn::User(text) => json!({"role": "user", "content": text}),
        Turn::Assistant(text) => json!({"role": "assistant", "content": text}),
        Turn::Call { text, name, arguments } => {
            json!({"role": "assistant", "content": text, "function_call": {"name": name, "arguments": arguments}})
        }
        Turn::Result { name, content } => json!({"role": "function", "name": name, "content": content}),
    }
}
