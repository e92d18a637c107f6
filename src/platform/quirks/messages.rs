//! Quirks of the messages. Why a look at the bytes first: most requests need none of this, and a parsed conversation with
//! images costs more than everything else on the path.

use memchr::memmem;
use serde_json::{Map, Value, json};

use crate::dialect::{Quirk, Quirks};
use crate::fault::Fault;
use crate::platform::rules::Draft;

/// Between two texts that become one.
const JOINT: &str = "\n\n";

/// Applies every quirk of messages; `instruction` is added to the system text.
///
/// # Errors
/// A bad request where the messages cannot be read, or hold parts that the platform does not have.
pub fn apply(draft: &mut Draft<'_>, quirks: Quirks, instruction: Option<String>) -> Result<(), Fault> {
    let Some(raw) = draft.get("messages") else {
        return Ok(());
    };
    if instruction.is_none() && !concerns(raw, quirks) {
        return Ok(());
    }
    let mut messages: Vec<Value> = serde_json::from_slice(raw)
        .map_err(|wrong| Fault::bad("messages", format!("The messages could not be read: {wrong}.")))?;
    let mut changed = false;
    for message in messages.iter_mut().filter_map(Value::as_object_mut) {
        changed |= clean(message, quirks);
    }
    if let Some(instruction) = instruction {
        instruct(&mut messages, &instruction);
        changed = true;
    }
    if quirks.has(Quirk::TextContent) {
        changed |= text_only(&mut messages)?;
    }
    if quirks.has(Quirk::OneSystemFirst) || quirks.has(Quirk::SystemIntoUser) {
        changed |= one_system(&mut messages);
    }
    if quirks.has(Quirk::SystemIntoUser) {
        changed |= system_into_user(&mut messages);
    }
    if quirks.has(Quirk::AlternateRoles) {
        changed |= alternate(&mut messages);
    }
    if changed {
        draft.set("messages", &messages);
    }
    Ok(())
}

/// Whether any quirk might change these messages: a cheap look that may be wrong in one direction only.
fn concerns(raw: &[u8], quirks: Quirks) -> bool {
    const ALWAYS: [Quirk; 4] =
        [Quirk::OneSystemFirst, Quirk::SystemIntoUser, Quirk::AlternateRoles, Quirk::TextContent];
    let holds = |needle: &str| memmem::find(raw, needle.as_bytes()).is_some();
    ALWAYS.into_iter().any(|quirk| quirks.has(quirk))
        || (quirks.has(Quirk::DeveloperToSystem) && holds("\"developer\""))
        || (!quirks.has(Quirk::WantsReasoningBack) && holds("\"reasoning_content\""))
        || (!quirks.has(Quirk::WantsExtraBack) && holds("\"extra_content\""))
        || (quirks.has(Quirk::Normalise) && LEFT_BY_ANSWERS.into_iter().any(holds))
        || has_empty_arguments(raw)
}

/// What OpenAI's answers have beside their content. The SDKs' own examples send a whole answer back as the next turn; a
/// platform that is only like OpenAI refuses what it does not know.
const LEFT_BY_ANSWERS: [&str; 4] = [r#""refusal""#, r#""annotations""#, r#""audio""#, r#""function_call""#];

/// Takes what says nothing out of an assistant's turn; a refusal becomes its text.
fn forget_empty_fields(message: &mut Map<String, Value>) -> bool {
    let says_nothing = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let mut changed = false;
    for name in LEFT_BY_ANSWERS.map(|quoted| quoted.trim_matches('"')) {
        if message.get(name).is_some_and(says_nothing) {
            message.shift_remove(name);
            changed = true;
        }
    }
    if message.get("content").is_none_or(Value::is_null)
        && message.get("refusal").is_some_and(Value::is_string)
        && let Some(refusal) = message.shift_remove("refusal")
    {
        message.insert("content".to_owned(), refusal);
        changed = true;
    }
    changed
}

/// Whether `"arguments": ""` stands anywhere.
fn has_empty_arguments(raw: &[u8]) -> bool {
    const KEY: &[u8] = b"\"arguments\"";
    memmem::find_iter(raw, KEY).any(|at| {
        let mut rest =
            raw.get(at + KEY.len()..).unwrap_or_default().iter().filter(|byte| !byte.is_ascii_whitespace());
        [b':', b'"', b'"'].iter().all(|wanted| rest.next() == Some(wanted))
    })
}

/// One message for itself: its role, what earlier answers left in it, and calls without arguments. Says whether it changed.
fn clean(message: &mut Map<String, Value>, quirks: Quirks) -> bool {
    let mut changed = false;
    if quirks.has(Quirk::DeveloperToSystem) && message.get("role") == Some(&json!("developer")) {
        message.insert("role".to_owned(), json!("system"));
        changed = true;
    }
    if !quirks.has(Quirk::WantsReasoningBack) {
        changed |= message.shift_remove("reasoning_content").is_some();
    }
    if !quirks.has(Quirk::WantsExtraBack) {
        changed |= message.shift_remove("extra_content").is_some();
    }
    if quirks.has(Quirk::Normalise) && message.get("role") == Some(&json!("assistant")) {
        changed |= forget_empty_fields(message);
    }
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten().filter_map(Value::as_object_mut) {
        if !quirks.has(Quirk::WantsExtraBack) {
            changed |= call.shift_remove("extra_content").is_some();
        }
        if let Some(arguments) = call.get_mut("function").and_then(|function| function.get_mut("arguments"))
            && arguments.as_str().is_some_and(|text| text.trim().is_empty())
        {
            *arguments = json!("{}");
            changed = true;
        }
    }
    changed
}

/// Adds words to the system text.
fn instruct(messages: &mut Vec<Value>, words: &str) {
    let system = messages.iter_mut().find(|message| matches!(role(message), "system" | "developer"));
    match system.and_then(|message| message.get_mut("content")) {
        Some(content) => *content = joined(content.take(), json!(words)),
        None => messages.insert(0, json!({"role": "system", "content": words})),
    }
}

fn role(message: &Value) -> &str {
    message.get("role").and_then(Value::as_str).unwrap_or_default()
}

/// Two contents as one: texts joined, lists of parts appended to each other.
fn joined(first: Value, second: Value) -> Value {
    match (first, second) {
        (Value::Null, other) | (other, Value::Null) => other,
        (Value::String(first), Value::String(second)) if first.is_empty() || second.is_empty() => {
            json!(first + &second)
        }
        (Value::String(first), Value::String(second)) => json!(first + JOINT + &second),
        (first, second) => Value::Array(parts(first).into_iter().chain(parts(second)).collect()),
    }
}

fn parts(content: Value) -> Vec<Value> {
    match content {
        Value::Array(parts) => parts,
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        _ => Vec::new(),
    }
}

/// Content as a string everywhere.
fn text_only(messages: &mut [Value]) -> Result<bool, Fault> {
    let mut changed = false;
    for (index, message) in messages.iter_mut().enumerate() {
        let Some(message) = message.as_object_mut() else { continue };
        let text = match message.get("content") {
            Some(Value::String(_)) => continue,
            Some(Value::Array(parts)) => join_text(parts, index)?,
            _ => String::new(),
        };
        message.insert("content".to_owned(), Value::String(text));
        changed = true;
    }
    Ok(changed)
}

fn join_text(parts: &[Value], message: usize) -> Result<String, Fault> {
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let Some(text) = part.get("text").and_then(Value::as_str) else {
            return Err(Fault::unsupported(
                format!("messages[{message}].content[{index}]"),
                format!("messages[{message}].content[{index}]: this model's platform takes text only."),
            ));
        };
        texts.push(text);
    }
    Ok(texts.join("\n"))
}

/// Every system text in one message, at the front.
fn one_system(messages: &mut Vec<Value>) -> bool {
    let is_system = |message: &Value| matches!(role(message), "system" | "developer");
    let count = messages.iter().filter(|message| is_system(message)).count();
    if count == 0 || (count == 1 && messages.first().is_some_and(is_system)) {
        return false;
    }
    let (systems, mut rest): (Vec<Value>, Vec<Value>) = messages.drain(..).partition(is_system);
    let content = systems
        .into_iter()
        .filter_map(|mut message| message.get_mut("content").map(Value::take))
        .fold(Value::Null, joined);
    messages.push(json!({"role": "system", "content": content}));
    messages.append(&mut rest);
    true
}

/// The one system text goes before the first user message's own.
fn system_into_user(messages: &mut Vec<Value>) -> bool {
    if messages.first().map(role) != Some("system") {
        return false;
    }
    let system = messages.remove(0).get_mut("content").map(Value::take).unwrap_or_default();
    match messages.iter_mut().find(|message| role(message) == "user").and_then(|user| user.get_mut("content"))
    {
        Some(content) => *content = joined(system, content.take()),
        None => messages.insert(0, json!({"role": "user", "content": system})),
    }
    true
}

/// Neighbours of the same role become one, as long as they only speak (calls and their results stay as they are).
fn alternate(messages: &mut Vec<Value>) -> bool {
    let before = messages.len();
    let speaks = |message: &Value| {
        matches!(role(message), "user" | "assistant") && message.get("tool_calls").is_none_or(Value::is_null)
    };
    let mut merged: Vec<Value> = Vec::with_capacity(messages.len());
    for mut message in messages.drain(..) {
        match merged.last_mut() {
            Some(last) if speaks(last) && speaks(&message) && role(last) == role(&message) => {
                let content = message.get_mut("content").map(Value::take).unwrap_or_default();
                let before = last.get_mut("content").map(Value::take).unwrap_or_default();
                if let Some(last) = last.as_object_mut() {
                    last.insert("content".to_owned(), joined(before, content));
                }
            }
            _ => merged.push(message),
        }
    }
    *messages = merged;
    messages.len() != before
}
