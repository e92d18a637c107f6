//! The conversation of a generateContent request: turns, parts, calls and their results, signatures.

use serde_json::Value;

use super::read::{bad, camel, unknown};
use super::signature;
use crate::fake::brain::{Call, Question, Role, Turn};
use crate::fake::fault::Refusal;
use crate::fake::wire::check::{self, Object};

/// The documented stand-in for a signature that was lost.
const SKIP: &str = "skip_thought_signature_validator";

/// Reads the conversation.
pub fn contents(fields: &Object, question: &mut Question, key: &str) -> Result<(), Refusal> {
    let contents = check::list(fields, "contents")?.map(Vec::as_slice).unwrap_or_default();
    if contents.is_empty() {
        return Err(bad("* GenerateContentRequest.contents: contents is not specified"));
    }
    let last_words = contents.iter().rposition(says_something).unwrap_or(0);
    let mut open: Vec<(String, String)> = Vec::new();
    for (index, content) in contents.iter().enumerate() {
        let content = check::as_object(content, "contents")?;
        check::only(content, &["role", "parts"], "", unknown(&format!("contents[{index}]")))?;
        let role = match check::text(content, "role")? {
            Some("user") | None => Role::User,
            Some("model") => Role::Assistant,
            Some(_) => return Err(bad("Please use a valid role: user, model.")),
        };
        let parts = check::list(content, "parts")?.map(Vec::as_slice).unwrap_or_default();
        if parts.is_empty() {
            return Err(bad(format!(
                "* GenerateContentRequest.contents[{index}].parts: contents.parts must not be empty."
            )));
        }
        let mut reading = Reading { question, turn: Turn::new(role, ""), open: &mut open, answered: 0 };
        for (number, part) in parts.iter().enumerate() {
            let part = camel(check::as_object(part, "parts")?);
            let at = format!("contents[{index}].parts[{number}]");
            reading.part(&part, &at)?;
            if part.contains_key("functionCall") {
                let first = reading.turn.calls.len() == 1;
                signed(&part, &at, reading.question, key, first && index > last_words)?;
            }
        }
        let turn = reading.turn;
        if role == Role::User && !open.is_empty() {
            return Err(mismatch());
        }
        if !turn.calls.is_empty() {
            open = turn.calls.iter().map(|call| (call.id.clone(), call.name.clone())).collect();
        }
        if !turn.text.is_empty() || turn.images > 0 || !turn.calls.is_empty() {
            question.turns.push(turn);
        }
    }
    if open.is_empty() { Ok(()) } else { Err(mismatch()) }
}

fn mismatch() -> Refusal {
    bad(
        "Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.",
    )
}

/// Whether a content is the caller's own words: there the current turn begins.
fn says_something(content: &Value) -> bool {
    let user = content.get("role").is_none_or(|role| role == "user");
    let parts = content.get("parts").and_then(Value::as_array).into_iter().flatten();
    user && parts.clone().any(|part| part.get("text").is_some() || part.get("inlineData").is_some())
}

/// A turn under way, and what it has to do with the calls before it.
struct Reading<'a> {
    question: &'a mut Question,
    turn: Turn,
    /// Calls that wait for their results: id and name.
    open: &'a mut Vec<(String, String)>,
    answered: usize,
}

impl Reading<'_> {
    fn part(&mut self, part: &Object, at: &str) -> Result<(), Refusal> {
        check::only(part, &PART, "", unknown(at))?;
        if let Some(text) = check::text(part, "text")? {
            if check::flag(part, "thought")? != Some(true) {
                if !self.turn.text.is_empty() {
                    self.turn.text.push(' ');
                }
                self.turn.text.push_str(text);
            }
        } else if let Some(data) = check::object(part, "inlineData")? {
            self.turn.images += u64::from(is_image(data, at)?);
        } else if check::object(part, "fileData")?.is_some() {
            self.turn.images += 1;
        } else if let Some(call) = check::object(part, "functionCall")? {
            check::only(call, &["id", "name", "args"], "", unknown(&format!("{at}.function_call")))?;
            let name = named(call, at, "function_call")?.to_owned();
            let id = check::text(call, "id")?.unwrap_or_default().to_owned();
            let arguments = check::object(call, "args")?.cloned().unwrap_or_default();
            self.turn.calls.push(Call { id, name, arguments });
        } else if let Some(response) = check::object(part, "functionResponse")? {
            self.response(response, at)?;
        } else if part.get("thoughtSignature").is_none() {
            return Err(bad(format!(
                "* GenerateContentRequest.{at}.data: required oneof field 'data' must have one initialized field"
            )));
        }
        Ok(())
    }

    fn response(&mut self, response: &Object, at: &str) -> Result<(), Refusal> {
        let known = ["id", "name", "response", "willContinue", "scheduling", "parts"];
        check::only(response, &known, "", unknown(&format!("{at}.function_response")))?;
        let name = named(response, at, "function_response")?;
        let id = check::text(response, "id")?.unwrap_or_default();
        let content = check::object(response, "response")?;
        let content = content.ok_or_else(|| bad("function_response.response: missing"))?;
        let found = self.open.iter().position(|(open_id, open_name)| {
            open_name == name && (id.is_empty() || open_id.is_empty() || open_id == id)
        });
        let (call_id, name) = self.open.remove(found.ok_or_else(mismatch)?);
        self.answered += 1;
        let about = reference(self.question, call_id, name, self.answered);
        let told = Turn { answers: Some(about), ..Turn::new(Role::Tool, result_text(content)) };
        self.question.turns.push(told);
        Ok(())
    }
}

const PART: [&str; 11] = [
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "thought",
    "thoughtSignature",
    "videoMetadata",
    "mediaResolution",
];

/// The name of a call or a response, which may not be empty.
fn named<'a>(fields: &'a Object, at: &str, what: &str) -> Result<&'a str, Refusal> {
    let name = check::text(fields, "name")?.filter(|name| !name.is_empty());
    name.ok_or_else(|| bad(format!("* GenerateContentRequest.{at}.{what}.name: Name cannot be empty.")))
}

/// Whether inline data is an image; whether it is data at all.
fn is_image(data: &Object, at: &str) -> Result<bool, Refusal> {
    let data = camel(data);
    check::only(&data, &["mimeType", "data", "displayName"], "", unknown(&format!("{at}.inline_data")))?;
    let kind = check::text(&data, "mimeType")?.unwrap_or_default();
    let bytes = check::text(&data, "data")?.unwrap_or_default();
    if kind.is_empty() || bytes.is_empty() || bytes.starts_with("data:") {
        return Err(bad(format!(
            "Invalid value at '{at}.inline_data.data' (TYPE_BYTES), Base64 decoding failed"
        )));
    }
    Ok(kind.starts_with("image/"))
}

/// Calls without an id are given one, so that their results can be told apart.
fn reference(question: &mut Question, id: String, name: String, number: usize) -> String {
    if !id.is_empty() {
        return id;
    }
    let made = format!("{name}#{number}");
    let calls =
        question.turns.iter_mut().rev().find(|turn| !turn.calls.is_empty()).map(|turn| turn.calls.iter_mut());
    if let Some(call) = calls.into_iter().flatten().find(|call| call.id.is_empty() && call.name == name) {
        call.id.clone_from(&made);
    }
    made
}

/// A result's own text where it is wrapped in an object of one field.
fn result_text(content: &Object) -> String {
    let mut values = content.values();
    match (values.next(), values.next()) {
        (Some(Value::String(text)), None) => text.clone(),
        _ => Value::Object(content.clone()).to_string(),
    }
}

/// Gemini 3 wants its signature back on the first call of every step of the current turn.
fn signed(part: &Object, at: &str, question: &Question, key: &str, needed: bool) -> Result<(), Refusal> {
    if !question.model.starts_with("gemini-3") {
        return Ok(());
    }
    let name = part
        .get("functionCall")
        .and_then(|call| call.get("name"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    match check::text(part, "thoughtSignature")? {
        Some(given) if given == signature(&question.model, key, name) || skips(given) => Ok(()),
        Some(_) => Err(bad("Corrupted thought signature.")),
        None if !needed => Ok(()),
        None => Err(bad(format!(
            "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, and missing thought_signature may lead to degraded model performance. Additional data, function call `default_api:{name}`, position {at}."
        ))),
    }
}

fn skips(given: &str) -> bool {
    use base64::Engine;
    let decoded = base64::engine::general_purpose::STANDARD.decode(given);
    decoded.is_ok_and(|bytes| bytes == SKIP.as_bytes()) || given == SKIP
}
