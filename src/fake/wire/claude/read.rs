//! A Messages request, the strict way.

use serde_json::{Map, Value};

use super::signature;
use crate::fake::brain::{Call, Choice, Limit, Question, Role, Tool, Turn};
use crate::fake::fault::{Class, Refusal};
use crate::fake::wire::check::{self, Object, Range};

fn extra(name: &str) -> Refusal {
    Refusal::bad(format!("{name}: Extra inputs are not permitted"))
}

fn missing(name: &str) -> Refusal {
    Refusal::bad(format!("{name}: Field required"))
}

const FIELDS: [&str; 18] = [
    "model",
    "messages",
    "max_tokens",
    "system",
    "tools",
    "tool_choice",
    "stop_sequences",
    "stream",
    "metadata",
    "service_tier",
    "thinking",
    "output_config",
    "temperature",
    "top_p",
    "top_k",
    "container",
    "context_management",
    "mcp_servers",
];

/// Reads the body. `newer`: under version 2026-10-21; `limited`: whether `max_tokens` must be there.
pub fn question(fields: &Object, newer: bool, limited: bool) -> Result<Question, Refusal> {
    check::only(fields, &FIELDS, "", extra)?;
    let model = check::text(fields, "model")?.ok_or_else(|| missing("model"))?;
    if !model.starts_with("claude-") {
        return Err(Refusal::of(Class::NotEntitled).saying(format!("model: {model}")));
    }
    let mut question = Question { model: model.to_owned(), n: 1, ..Question::default() };
    let limit = match (check::count(fields, "max_tokens")?, limited) {
        (Some(tokens), _) => tokens,
        (None, true) => return Err(missing("max_tokens")),
        (None, false) => u64::MAX,
    };
    if limit > 128_000 && limited {
        return Err(Refusal::bad(format!(
            "max_tokens: {limit} > 128000, which is the maximum allowed number of output tokens for {model}"
        )));
    }
    question.limit = Some(Limit { tokens: limit, covers_reasoning: true });
    sampling(fields, newer)?;
    system(fields, &mut question)?;
    tools(fields, &mut question)?;
    thinking(fields, limit, &mut question)?;
    messages(fields, &mut question)?;
    for stop in check::list(fields, "stop_sequences")?.into_iter().flatten() {
        let stop = stop.as_str().filter(|stop| !stop.trim().is_empty());
        let stop = stop
            .ok_or_else(|| Refusal::bad("stop_sequences: each stop sequence must contain non-whitespace"))?;
        question.stop.push(stop.to_owned());
    }
    if let Some(metadata) = check::object(fields, "metadata")? {
        check::only(metadata, &["user_id"], "metadata", extra)?;
    }
    check::one_of(fields, "service_tier", &["auto", "standard_only"])?;
    question.stream = check::flag(fields, "stream")?.unwrap_or(false);
    question.usage = true;
    Ok(question)
}

fn sampling(fields: &Object, newer: bool) -> Result<(), Refusal> {
    for name in ["temperature", "top_p", "top_k"] {
        if newer && fields.contains_key(name) {
            return Err(extra(name));
        }
    }
    check::number(fields, "temperature", Range::closed(0.0, 1.0))
        .map_err(|_| Refusal::bad("temperature: range: 0..1"))?;
    check::number(fields, "top_p", Range::closed(0.0, 1.0))
        .map_err(|_| Refusal::bad("top_p: range: 0..1"))?;
    check::count(fields, "top_k")?;
    Ok(())
}

fn system(fields: &Object, question: &mut Question) -> Result<(), Refusal> {
    match check::get(fields, "system") {
        None => {}
        Some(Value::String(text)) => question.system.clone_from(text),
        Some(Value::Array(blocks)) => {
            for (index, block) in blocks.iter().enumerate() {
                let at = format!("system.{index}");
                let block = check::as_object(block, &at)?;
                check::only(block, &["type", "text", "cache_control", "citations"], &at, extra)?;
                let text = check::text(block, "text")?.ok_or_else(|| missing(&format!("{at}.text")))?;
                filled(text, "system")?;
                question.system.push_str(text);
                question.system.push('\n');
            }
        }
        Some(_) => return Err(Refusal::bad("system: Input should be a valid string or list")),
    }
    Ok(())
}

fn filled(text: &str, at: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::bad(format!("{at}: text content blocks must be non-empty")));
    }
    Ok(())
}

fn tools(fields: &Object, question: &mut Question) -> Result<(), Refusal> {
    for (index, tool) in check::list(fields, "tools")?.into_iter().flatten().enumerate() {
        let at = format!("tools.{index}");
        let tool = check::as_object(tool, &at)?;
        check::only(
            tool,
            &["name", "description", "input_schema", "strict", "type", "cache_control"],
            &at,
            extra,
        )?;
        let name = check::text(tool, "name")?.ok_or_else(|| missing(&format!("{at}.name")))?;
        if !check::good_name(name, "_-") {
            return Err(Refusal::bad(format!(
                "{at}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"
            )));
        }
        let schema =
            check::object(tool, "input_schema")?.ok_or_else(|| missing(&format!("{at}.input_schema")))?;
        if schema.get("type") != Some(&Value::from("object")) {
            return Err(Refusal::bad(format!("{at}.input_schema.type: Input should be 'object'")));
        }
        question
            .tools
            .push(Tool { name: name.to_owned(), parameters: check::get(tool, "input_schema").cloned() });
    }
    question.parallel = true;
    let Some(choice) = check::object(fields, "tool_choice")? else { return Ok(()) };
    let kind = check::text(choice, "type")?.ok_or_else(|| missing("tool_choice.type"))?;
    let known: &[&str] = match kind {
        "none" => &["type"],
        "tool" => &["type", "name", "disable_parallel_tool_use"],
        _ => &["type", "disable_parallel_tool_use"],
    };
    check::only(choice, known, "tool_choice", extra)?;
    question.parallel = !check::flag(choice, "disable_parallel_tool_use")?.unwrap_or(false);
    question.choice = match kind {
        "auto" => Choice::Auto,
        "none" => Choice::None,
        "any" => Choice::Required,
        "tool" => {
            let name = check::text(choice, "name")?.ok_or_else(|| missing("tool_choice.name"))?;
            if question.tools.iter().all(|tool| tool.name != name) {
                return Err(Refusal::bad(format!("Tool '{name}' not found in provided tools")));
            }
            Choice::Named(name.to_owned())
        }
        other => {
            return Err(Refusal::bad(format!(
                "tool_choice: Input tag '{other}' does not match any of the expected tags: 'auto', 'any', 'tool', 'none'"
            )));
        }
    };
    if question.tools.is_empty() {
        return Err(Refusal::bad("tool_choice may only be specified while providing tools"));
    }
    Ok(())
}

fn thinking(fields: &Object, limit: u64, question: &mut Question) -> Result<(), Refusal> {
    if let Some(thinking) = check::object(fields, "thinking")? {
        check::only(thinking, &["type", "budget_tokens", "display"], "thinking", extra)?;
        question.reasoning = match check::text(thinking, "type")? {
            Some("enabled") => {
                let budget = check::count(thinking, "budget_tokens")?
                    .ok_or_else(|| missing("thinking.enabled.budget_tokens"))?;
                if budget < 1024 {
                    return Err(Refusal::bad(
                        "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
                    ));
                }
                if budget >= limit {
                    return Err(Refusal::bad("`max_tokens` must be greater than `thinking.budget_tokens`."));
                }
                true
            }
            Some("adaptive" | "between_tools") => true,
            Some("disabled") => false,
            _ => {
                return Err(Refusal::bad(
                    "thinking.type: Input should be 'enabled', 'adaptive', 'between_tools' or 'disabled'",
                ));
            }
        };
    }
    if question.reasoning && matches!(question.choice, Choice::Required | Choice::Named(_)) {
        return Err(Refusal::bad("Thinking may not be enabled when tool_choice forces tool use."));
    }
    if let Some(config) = check::object(fields, "output_config")? {
        check::only(config, &["effort", "format"], "output_config", extra)?;
        let effort = check::one_of(config, "effort", &["low", "medium", "high", "xhigh", "max"])?;
        question.reasoning |= effort.is_some() && !fields.contains_key("thinking");
        if let Some(format) = check::object(config, "format")? {
            check::only(format, &["type", "schema"], "output_config.format", extra)?;
            if check::text(format, "type")? != Some("json_schema") {
                return Err(Refusal::bad("output_config.format.type: Input should be 'json_schema'"));
            }
            question.json = true;
            question.schema = Some(
                check::get(format, "schema")
                    .cloned()
                    .ok_or_else(|| missing("output_config.format.schema"))?,
            );
        }
    }
    Ok(())
}

fn messages(fields: &Object, question: &mut Question) -> Result<(), Refusal> {
    let messages = check::list(fields, "messages")?.ok_or_else(|| missing("messages"))?;
    if messages.is_empty() {
        return Err(Refusal::bad("messages: at least one message is required"));
    }
    let mut open: Vec<String> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let at = format!("messages.{index}");
        let message = check::as_object(message, &at)?;
        check::only(message, &["role", "content"], &at, extra)?;
        let role = match check::text(message, "role")? {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("system") => return Err(Refusal::bad("role 'system' is not supported on this model")),
            _ => return Err(Refusal::bad(format!("{at}.role: Input should be 'user' or 'assistant'"))),
        };
        if index == 0 && role == Role::Assistant {
            return Err(Refusal::bad("messages: first message must use the \"user\" role"));
        }
        let before = std::mem::take(&mut open);
        let mut turn = Turn::new(role, "");
        let mut answered = Vec::new();
        match check::get(message, "content") {
            Some(Value::String(text)) => {
                filled(text, "messages")?;
                turn.text.clone_from(text);
            }
            Some(Value::Array(blocks)) if !blocks.is_empty() => {
                for (number, block) in blocks.iter().enumerate() {
                    let at = format!("{at}.content.{number}");
                    block_in(check::as_object(block, &at)?, &at, &mut turn, &mut answered, question)?;
                }
            }
            _ => return Err(Refusal::bad(format!("{at}.content: Field required, and it must not be empty"))),
        }
        settle(&at, &before, &answered)?;
        open = turn.calls.iter().map(|call| call.id.clone()).collect();
        if !turn.text.is_empty() || turn.images > 0 || !turn.calls.is_empty() {
            question.turns.push(turn);
        }
    }
    if !open.is_empty() {
        return Err(unanswered("messages", &open));
    }
    if question.turns.last().is_some_and(|turn| turn.role == Role::Assistant)
        && !question.model.contains("-3-")
    {
        return Err(Refusal::bad(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        ));
    }
    Ok(())
}

fn unanswered(at: &str, ids: &[String]) -> Refusal {
    Refusal::bad(format!(
        "{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
        ids.join(", ")
    ))
}

/// Every call of the turn before is answered here, and nothing else is.
fn settle(at: &str, open: &[String], answered: &[String]) -> Result<(), Refusal> {
    let left: Vec<String> = open.iter().filter(|id| !answered.contains(id)).cloned().collect();
    if !left.is_empty() {
        return Err(unanswered(at, &left));
    }
    match answered.iter().find(|id| !open.contains(id)) {
        Some(id) => Err(Refusal::bad(format!(
            "{at}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
        ))),
        None => Ok(()),
    }
}

fn add(text: &mut String, more: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(more);
}

/// One content block.
fn block_in(
    block: &Object,
    at: &str,
    turn: &mut Turn,
    answered: &mut Vec<String>,
    question: &mut Question,
) -> Result<(), Refusal> {
    let only = |known: &[&str]| check::only(block, known, at, extra);
    let user = turn.role == Role::User;
    match check::text(block, "type")? {
        Some("text") => {
            only(&["type", "text", "cache_control", "citations"])?;
            let text = check::text(block, "text")?.ok_or_else(|| missing(&format!("{at}.text")))?;
            filled(text, "messages")?;
            add(&mut turn.text, text);
        }
        Some("image") if user => {
            only(&["type", "source", "cache_control"])?;
            image(block, at)?;
            turn.images += 1;
        }
        Some("document") if user => {
            only(&["type", "source", "cache_control", "title", "context", "citations"])?
        }
        Some("tool_result") if user => {
            only(&["type", "tool_use_id", "content", "is_error", "cache_control"])?;
            if !turn.text.is_empty() || turn.images > 0 {
                return Err(Refusal::bad(format!("{at}: `tool_result` blocks must come first in a message")));
            }
            let id =
                check::text(block, "tool_use_id")?.ok_or_else(|| missing(&format!("{at}.tool_use_id")))?;
            answered.push(id.to_owned());
            let result =
                Turn { answers: Some(id.to_owned()), ..Turn::new(Role::Tool, result_text(block, at)?) };
            question.turns.push(result);
        }
        Some("tool_use") if !user => {
            only(&["type", "id", "name", "input", "cache_control"])?;
            let id = check::text(block, "id")?.ok_or_else(|| missing(&format!("{at}.id")))?;
            if id.is_empty()
                || !id.chars().all(|symbol| symbol.is_ascii_alphanumeric() || "_-".contains(symbol))
            {
                return Err(Refusal::bad(format!("{at}.id: String should match pattern '^[a-zA-Z0-9_-]+$'")));
            }
            let name = check::text(block, "name")?.ok_or_else(|| missing(&format!("{at}.name")))?;
            let input = check::object(block, "input")?.ok_or_else(|| missing(&format!("{at}.input")))?;
            turn.calls.push(Call { id: id.to_owned(), name: name.to_owned(), arguments: Map::clone(input) });
        }
        Some("thinking") if !user => {
            only(&["type", "thinking", "signature"])?;
            let thinking =
                check::text(block, "thinking")?.ok_or_else(|| missing(&format!("{at}.thinking")))?;
            let signed =
                check::text(block, "signature")?.ok_or_else(|| missing(&format!("{at}.signature")))?;
            if signed != signature(thinking) {
                return Err(Refusal::bad(format!("{at}: Invalid `signature` in `thinking` block")));
            }
        }
        Some("redacted_thinking") if !user => {}
        other => {
            return Err(Refusal::bad(format!(
                "{at}: Input tag '{}' does not match any of the expected tags",
                other.unwrap_or_default()
            )));
        }
    }
    Ok(())
}

fn image(block: &Object, at: &str) -> Result<(), Refusal> {
    let source = check::object(block, "source")?.ok_or_else(|| missing(&format!("{at}.source")))?;
    let at = format!("{at}.source");
    match check::text(source, "type")? {
        Some("base64") => {
            check::only(source, &["type", "media_type", "data"], &at, extra)?;
            let kind = check::text(source, "media_type")?.unwrap_or_default();
            if !["image/jpeg", "image/png", "image/gif", "image/webp"].contains(&kind) {
                return Err(Refusal::bad(format!(
                    "{at}.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
                )));
            }
            let data =
                check::text(source, "data")?.filter(|data| !data.is_empty() && !data.starts_with("data:"));
            data.map(|_| ()).ok_or_else(|| Refusal::bad(format!("{at}.data: invalid base64 data")))
        }
        Some("url") => check::text(source, "url")?.map(|_| ()).ok_or_else(|| missing(&format!("{at}.url"))),
        Some("file") => Ok(()),
        _ => Err(Refusal::bad(format!("{at}.type: Input should be 'base64', 'url' or 'file'"))),
    }
}

fn result_text(block: &Object, at: &str) -> Result<String, Refusal> {
    match check::get(block, "content") {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let mut text = String::new();
            for part in parts {
                let said = part.get("text").and_then(Value::as_str).unwrap_or_default();
                if part.get("type") == Some(&Value::from("text")) {
                    filled(said, "messages")?;
                }
                add(&mut text, said);
            }
            Ok(text)
        }
        Some(_) => Err(Refusal::bad(format!("{at}.content: Input should be a valid string or list"))),
    }
}
