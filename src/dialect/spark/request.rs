//! Writes the one frame that asks iFlytek.

use serde_json::{Map, Value, json};

use super::super::leftovers::{Leftovers, answer_bound, vendor_fields};
use super::super::turns::{Turn, Turns, join};
use super::super::{Encoded, Job, Quirk};
use crate::api::chat::{ChatRequest, Params, ToolChoice};
use crate::fault::Fault;

/// One service version.
struct Version {
    /// The HTTP interface's name of the model, which is also ours.
    model: &'static str,
    path: &'static str,
    domain: &'static str,
    /// The vendor's bound on an answer, in tokens.
    most: u64,
    /// Whether `functions` are taken.
    functions: bool,
    /// Whether a `system` message is honoured; elsewhere it goes before the user's first words.
    system: bool,
    /// Upper end of `temperature`; the lower one, 0, is refused.
    hottest: f64,
    /// Whether `top_p` exists.
    top_p: bool,
}

const fn version(model: &'static str, path: &'static str, domain: &'static str, most: u64) -> Version {
    Version { model, path, domain, most, functions: false, system: false, hottest: 1.0, top_p: false }
}

const fn able(model: &'static str, path: &'static str, domain: &'static str, most: u64) -> Version {
    Version { functions: true, system: true, ..version(model, path, domain, most) }
}

const fn reasoning(model: &'static str, path: &'static str, domain: &'static str) -> Version {
    Version { system: false, hottest: 2.0, top_p: true, ..able(model, path, domain, 65535) }
}

/// Source: `spark.md`, 1. `kjwx` lives on a host of its own, which is the platform row's matter.
const VERSIONS: &[Version] = &[
    version("lite", "/v1.1/chat", "lite", 4096),
    version("generalv2", "/v2.1/chat", "generalv2", 4096),
    version("generalv3", "/v3.1/chat", "generalv3", 8192),
    version("pro-128k", "/chat/pro-128k", "pro-128k", 4096),
    able("generalv3.5", "/v3.5/chat", "generalv3.5", 8192),
    version("max-32k", "/chat/max-32k", "max-32k", 8192),
    able("4.0Ultra", "/v4.0/chat", "4.0Ultra", 8192),
    reasoning("spark-x", "/v1/x1", "spark-x"),
    reasoning("x1", "/v1/x1", "spark-x"),
    version("kjwx", "/v1.1/chat_kjwx", "kjwx", 8192),
];

/// Tuned and open models (MaaS): one path for all, the model's id as the domain. What they can do is not documented:
/// all is let through for the platform to judge.
const OTHER: Version = Version { top_p: true, hottest: 2.0, ..able("", "/v1.1/chat", "", u64::MAX) };

/// The vendor's bound on `uid`, in bytes.
const MOST_UID: usize = 32;

/// Writes the frame: [`Encoded::path`] is the WebSocket's, [`Encoded::body`] its one text message, in which authentication
/// fills the empty `header.app_id`.
///
/// # Errors
/// A bad request that names the message, or an unsupported parameter where the job says to reject.
pub fn encode(request: &ChatRequest<'_>, job: &Job<'_>) -> Result<Encoded, Fault> {
    let params = &request.params;
    let version = VERSIONS.iter().find(|version| version.model == job.model).unwrap_or(&OTHER);
    let mut leftovers = Leftovers::new(job.unsupported);
    let mut turns = Turns::read(request)?;
    if !version.system || turns.list.is_empty() || job.quirks.has(Quirk::SystemIntoUser) {
        turns.fold_system();
    }
    let mut chat: Map<String, Value> = vendor_fields(params).collect();
    chat.insert("domain".into(), if version.domain.is_empty() { job.model } else { version.domain }.into());
    sampling(params, job, version, &mut chat);
    let mut payload = Map::from_iter([("message".to_owned(), json!({"text": messages(turns)}))]);
    if let Some(functions) = functions(params, version, &mut leftovers)? {
        payload.insert("functions".to_owned(), json!({"text": functions}));
    }
    let mut reads = vec!["tools", "parallel_tool_calls", "user"];
    if version.top_p {
        reads.push("top_p");
    }
    if job.quirks.has(Quirk::ThinkingSwitch) {
        reads.push("reasoning_effort");
    }
    leftovers.all_but(&reads, params)?;
    let mut header = Map::from_iter([("app_id".to_owned(), json!(""))]);
    match &params.user {
        Some(user) if user.len() <= MOST_UID => {
            header.insert("uid".to_owned(), json!(user));
        }
        Some(_) => leftovers.ignore("user"),
        None => {}
    }
    let frame = json!({"header": header, "parameter": {"chat": chat}, "payload": payload});
    Ok(Encoded {
        path: version.path.to_owned(),
        headers: Vec::new(),
        body: frame.to_string().into(),
        dropped: leftovers.into_names(),
    })
}

fn sampling(params: &Params, job: &Job<'_>, version: &Version, chat: &mut Map<String, Value>) {
    if let Some(most) = answer_bound(params, job) {
        chat.insert("max_tokens".into(), most.clamp(1, version.most).into());
    }
    if !job.quirks.has(Quirk::NoSampling) {
        let temperature = params.temperature.map(|temperature| temperature.clamp(0.01, version.hottest));
        chat.extend(temperature.map(|temperature| ("temperature".to_owned(), temperature.into())));
        let top_p = params.top_p.filter(|_| version.top_p).map(|top_p| top_p.clamp(0.01, 1.0));
        chat.extend(top_p.map(|top_p| ("top_p".to_owned(), top_p.into())));
    }
    if let Some(effort) = params.reasoning_effort.as_deref().filter(|_| job.quirks.has(Quirk::ThinkingSwitch))
    {
        let kind = if matches!(effort, "none" | "minimal") { "disabled" } else { "enabled" };
        chat.entry("thinking").or_insert_with(|| json!({"type": kind}));
    }
}

fn functions(
    params: &Params,
    version: &Version,
    leftovers: &mut Leftovers,
) -> Result<Option<Vec<Value>>, Fault> {
    let tools = params.tools.as_deref().unwrap_or_default();
    if tools.is_empty() {
        return Ok(None);
    }
    if !version.functions {
        leftovers.missing("tools")?;
        return Ok(None);
    }
    match &params.tool_choice {
        None => {}
        Some(ToolChoice::Mode(mode)) if mode == "auto" => {}
        Some(ToolChoice::Mode(mode)) if mode == "none" => return Ok(None),
        Some(_) => leftovers.missing("tool_choice")?,
    }
    let mut list = Vec::with_capacity(tools.len());
    for tool in tools {
        match &tool.function {
            Some(function) if tool.kind == "function" => list.push(json!({
                "name": function.name,
                "description": function.description.as_deref().unwrap_or(&function.name),
                "parameters": function.parameters.clone().unwrap_or_else(|| json!({"type": "object", "properties": {}})),
            })),
            _ => leftovers.missing("tools")?,
        }
    }
    Ok(Some(list).filter(|list| !list.is_empty()))
}

/// The turns as this wire's text. It has no way to hand a function's result back: earlier calls are told in words, so
/// that an agent's next turn is possible at all.
fn messages(turns: Turns) -> Vec<Value> {
    let mut list: Vec<(&'static str, String)> = Vec::with_capacity(turns.list.len() + 1);
    for turn in turns.list {
        let (role, text) = match turn {
            Turn::User(text) => ("user", text),
            Turn::Assistant(text) => ("assistant", text),
            Turn::Call { text, name, arguments } => {
                let gap = if text.is_empty() { "" } else { "\n\n" };
                ("assistant", format!("{text}{gap}[Called the function {name} with {arguments}]"))
            }
            Turn::Result { name, content } => ("user", format!("[The function {name} returned:]\n{content}")),
        };
        match list.last_mut() {
            Some((last, before)) if *last == role => join(before, &text),
            _ => list.push((role, text)),
        }
    }
    if !turns.system.is_empty() {
        list.insert(0, ("system", turns.system));
    }
    list.into_iter().map(|(role, text)| json!({"role": role, "content": text})).collect()
}
