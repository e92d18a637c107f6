//! The messages of an OpenAI-like request. Why strict about order: a gateway that loses a tool result or reorders turns
//! would otherwise be forgiven by its own tests.

use serde_json::{Map, Value};

use super::fields::{missing, unknown};
use super::rows::{Row, Style};
use crate::fake::brain::{Call, Question, Role, Turn};
use crate::fake::fault::Refusal;
use crate::fake::wire::check::{self, Object};

fn bad(row: &Row, message: impl Into<String>, at: String) -> Refusal {
    let refusal = Refusal::bad(message).at(at);
    if row.style == Style::Zhipu { refusal.code("1214") } else { refusal }
}

/// Reads `messages` into the question.
pub fn read(row: &Row, fields: &Object, question: &mut Question) -> Result<(), Refusal> {
    let messages = check::list(fields, "messages")?.ok_or_else(|| missing("messages"))?;
    if messages.is_empty() {
        return Err(bad(
            row,
            "Invalid 'messages': empty array. Expected an array with minimum length 1.",
            "messages".into(),
        ));
    }
    let mut open: Vec<String> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let at = format!("messages[{index}]");
        let message = check::as_object(message, &at)?;
        let role = check::text(message, "role")?.ok_or_else(|| missing(&format!("{at}.role")))?;
        if role != "tool" && !open.is_empty() {
            return Err(unanswered(row, &open, &at));
        }
        match role {
            "system" | "developer" => system(row, message, role, index, question)?,
            "user" => question.turns.push(user(row, message, &at)?),
            "assistant" => {
                let turn = assistant(row, message, &at)?;
                open = turn.calls.iter().map(|call| call.id.clone()).collect();
                question.turns.push(turn);
            }
            "tool" => {
                let turn = result(row, message, &at)?;
                let id = turn.answers.clone().unwrap_or_default();
                let known = open.iter().position(|known| *known == id);
                let known = known.ok_or_else(|| bad(row,
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
                    format!("{at}.role")))?;
                open.remove(known);
                question.turns.push(turn);
            }
            other => {
                return Err(bad(
                    row,
                    format!(
                        "Invalid value: '{other}'. Supported roles are system, user, assistant and tool."
                    ),
                    format!("{at}.role"),
                ));
            }
        }
    }
    if !open.is_empty() {
        return Err(unanswered(row, &open, "messages"));
    }
    ends_well(row, question)
}

fn unanswered(row: &Row, open: &[String], at: &str) -> Refusal {
    let ids = open.join(", ");
    bad(
        row,
        format!(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: {ids}"
        ),
        at.to_owned(),
    )
}

/// What holds for the conversation as a whole.
fn ends_well(row: &Row, question: &Question) -> Result<(), Refusal> {
    if question.turns.is_empty() && row.style != Style::OpenAi {
        return Err(bad(row, "messages must hold a user message", "messages".into()));
    }
    if row.style == Style::Spark {
        let roles = question.turns.iter().map(|turn| turn.role).collect::<Vec<_>>();
        let doubled = roles
            .windows(2)
            .any(|pair| matches!(pair, [Role::User, Role::User] | [Role::Assistant, Role::Assistant]));
        if doubled || roles.first() != Some(&Role::User) {
            return Err(Refusal::bad("messages: user and assistant must alternate, user first"));
        }
    }
    Ok(())
}

fn system(
    row: &Row,
    message: &Object,
    role: &str,
    index: usize,
    question: &mut Question,
) -> Result<(), Refusal> {
    let at = format!("messages[{index}]");
    check::only(message, &["role", "content", "name"], &at, unknown)?;
    if role == "developer" && !row.developer {
        return Err(bad(
            row,
            "developer is not one of ['system', 'assistant', 'user', 'tool', 'function']",
            format!("{at}.role"),
        ));
    }
    if row.style == Style::Spark
        && (index > 0
            || !matches!(question.model.as_str(), "generalv3.5" | "4.0Ultra" | "max-32k" | "spark-x" | "x1"))
    {
        return Err(Refusal::bad("system message is only supported first, and by this model not at all"));
    }
    let (text, images) = content(row, message, &at)?;
    if images > 0 {
        return Err(bad(
            row,
            "Invalid content type. image_url is only allowed with role 'user'.",
            format!("{at}.content"),
        ));
    }
    if !question.system.is_empty() {
        question.system.push('\n');
    }
    question.system.push_str(&text);
    Ok(())
}

fn user(row: &Row, message: &Object, at: &str) -> Result<Turn, Refusal> {
    check::only(message, &["role", "content", "name"], at, unknown)?;
    let (text, images) = content(row, message, at)?;
    Ok(Turn { images, ..Turn::new(Role::User, text) })
}

fn assistant(row: &Row, message: &Object, at: &str) -> Result<Turn, Refusal> {
    let mut known = vec!["role", "content", "name", "tool_calls"];
    match row.style {
        Style::OpenAi | Style::AiHubMix => known.extend(["refusal", "audio", "annotations"]),
        Style::Doubao => known.push("encrypted_content"),
        _ => {}
    }
    if row.reasoning_back {
        known.push("reasoning_content");
    }
    check::only(message, &known, at, unknown)?;
    let mut turn = Turn::new(Role::Assistant, "");
    for (index, call) in check::list(message, "tool_calls")?.into_iter().flatten().enumerate() {
        turn.calls.push(call_back(row, call, &format!("{at}.tool_calls[{index}]"))?);
    }
    if message.contains_key("tool_calls")
        && turn.calls.is_empty()
        && check::get(message, "tool_calls").is_some()
    {
        return Err(bad(
            row,
            format!("Invalid '{at}.tool_calls': empty array. Expected an array with minimum length 1."),
            format!("{at}.tool_calls"),
        ));
    }
    if check::get(message, "content").is_some() {
        turn.text = content(row, message, at)?.0;
    } else if let Some(refusal) = check::text(message, "refusal")? {
        turn.text = refusal.to_owned();
    } else if turn.calls.is_empty() {
        return Err(bad(
            row,
            format!("Invalid value for '{at}.content': expected a string, got null."),
            format!("{at}.content"),
        ));
    }
    Ok(turn)
}

/// A call that the caller sends back.
fn call_back(row: &Row, call: &Value, at: &str) -> Result<Call, Refusal> {
    let call = check::as_object(call, at)?;
    check::only(call, &["id", "type", "function", "index"], at, unknown)?;
    if call.contains_key("index") && row.style == Style::OpenAi {
        return Err(unknown(&format!("{at}.index")));
    }
    let id =
        check::text(call, "id")?.filter(|id| !id.is_empty()).ok_or_else(|| missing(&format!("{at}.id")))?;
    if check::text(call, "type")? != Some("function") {
        return Err(missing(&format!("{at}.type")));
    }
    let function = check::object(call, "function")?.ok_or_else(|| missing(&format!("{at}.function")))?;
    check::only(function, &["name", "arguments"], &format!("{at}.function"), unknown)?;
    let name = check::text(function, "name")?.ok_or_else(|| missing(&format!("{at}.function.name")))?;
    let arguments =
        check::text(function, "arguments")?.ok_or_else(|| missing(&format!("{at}.function.arguments")))?;
    let arguments = match serde_json::from_str(arguments) {
        Ok(Value::Object(fields)) => fields,
        _ if row.style == Style::OpenAi => Map::new(),
        _ => {
            return Err(bad(
                row,
                "The \"function.arguments\" parameter of the code model must be in JSON format.",
                format!("{at}.function.arguments"),
            ));
        }
    };
    Ok(Call { id: id.to_owned(), name: name.to_owned(), arguments })
}

fn result(row: &Row, message: &Object, at: &str) -> Result<Turn, Refusal> {
    let known: &[&str] = match row.style {
        Style::OpenAi => &["role", "content", "tool_call_id"],
        _ => &["role", "content", "tool_call_id", "name"],
    };
    check::only(message, known, at, unknown)?;
    let id = check::text(message, "tool_call_id")?.ok_or_else(|| missing(&format!("{at}.tool_call_id")))?;
    let (text, _) = content(row, message, at)?;
    Ok(Turn { answers: Some(id.to_owned()), ..Turn::new(Role::Tool, text) })
}

/// Content as text and a count of images.
fn content(row: &Row, message: &Object, at: &str) -> Result<(String, u64), Refusal> {
    let at = format!("{at}.content");
    let parts = match message.get("content") {
        Some(Value::String(text)) => return Ok((text.clone(), 0)),
        Some(Value::Array(parts)) if row.parts && !parts.is_empty() => parts,
        Some(Value::Array(_)) => return Err(bad(row, "content must be a string", at)),
        None | Some(Value::Null) => return Err(missing(&at)),
        Some(_) => {
            return Err(bad(
                row,
                format!("Invalid type for '{at}': expected one of a string or array of objects."),
                at,
            ));
        }
    };
    let mut texts: Vec<&str> = Vec::new();
    let mut images = 0;
    for (index, part) in parts.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let part = check::as_object(part, &at)?;
        match check::text(part, "type")? {
            Some("text") => {
                texts.push(check::text(part, "text")?.ok_or_else(|| missing(&format!("{at}.text")))?)
            }
            Some("image_url") => {
                image(row, part, &at)?;
                images += 1;
            }
            Some("input_audio" | "file")
                if matches!(row.style, Style::OpenAi | Style::Doubao | Style::AiHubMix) => {}
            Some("refusal") if row.style == Style::OpenAi => {
                texts.extend(check::text(part, "refusal")?);
            }
            _ => return Err(bad(row, format!("Invalid value for '{at}.type'."), format!("{at}.type"))),
        }
    }
    Ok((texts.join(" "), images))
}

fn image(row: &Row, part: &Object, at: &str) -> Result<(), Refusal> {
    let holder = check::object(part, "image_url")?.ok_or_else(|| missing(&format!("{at}.image_url")))?;
    let known: &[&str] = match row.style {
        Style::Doubao => &["url", "file_id", "detail", "image_pixel_limit"],
        _ => &["url", "detail"],
    };
    check::only(holder, known, &format!("{at}.image_url"), unknown)?;
    let url = check::text(holder, "url")?.ok_or_else(|| missing(&format!("{at}.image_url.url")))?;
    let bare = row.style == Style::Zhipu && !url.is_empty();
    if url.starts_with("https://") || url.starts_with("http://") || url.starts_with("data:image/") || bare {
        return Ok(());
    }
    Err(bad(
        row,
        "Invalid image URL: expected a URL or a base64-encoded data URL with an image MIME type.",
        format!("{at}.image_url.url"),
    ))
}
