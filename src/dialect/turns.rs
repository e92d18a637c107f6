//! A conversation for wires that know only text and at most one function call at a time. Why: Baidu's V1 and iFlytek's
//! frames both want strict turns, and what they lack (parallel calls, tool ids, parts) must be reshaped or refused the
//! same way on both.

use crate::api::chat::{ChatRequest, Content, KnownPart, Message, Part, ResponseFormat, Role};
use crate::fault::Fault;

/// One step of a conversation. Parallel calls have been put one after the other, each with its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    User(String),
    Assistant(String),
    /// The assistant called a function, maybe saying something besides.
    Call {
        text: String,
        name: String,
        arguments: String,
    },
    /// What the function gave back.
    Result {
        name: String,
        content: String,
    },
}

/// A conversation: the system's words apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Turns {
    /// All system and developer messages, joined; may be empty.
    pub system: String,
    pub list: Vec<Turn>,
}

/// Calls of one assistant message that wait for their results.
#[derive(Default)]
struct Open {
    at: usize,
    text: String,
    calls: Vec<(String, String, String, Option<String>)>,
}

impl Turns {
    /// Reads the messages of a request.
    ///
    /// # Errors
    /// A bad request that names the message: content other than text, a call whose arguments are no JSON object, a call
    /// without a result, a result without a call, the deprecated `function` forms.
    pub(super) fn read(request: &ChatRequest) -> Result<Self, Fault> {
        let mut turns = Self::default();
        let mut open = Open::default();
        for (at, message) in request.messages.iter().enumerate() {
            if message.role == Role::Tool {
                open.answer(message, at)?;
                continue;
            }
            turns.settle(std::mem::take(&mut open))?;
            let text = text_only(message, at)?;
            match message.role {
                Role::System | Role::Developer => join(&mut turns.system, &text),
                Role::User => turns.list.push(Turn::User(text)),
                Role::Assistant if message.rest.get("function_call").is_some_and(|call| !call.is_null()) => {
                    return Err(refused(
                        at,
                        "The deprecated 'function_call' is not supported: use 'tool_calls'.",
                    ));
                }
                Role::Assistant if message.tool_calls.is_empty() => turns.list.push(Turn::Assistant(text)),
                Role::Assistant => open = Open::begin(message, at, text)?,
                Role::Tool | Role::Function => {
                    return Err(refused(at, "The deprecated role 'function' is not supported: use 'tool'."));
                }
            }
        }
        turns.settle(open)?;
        Ok(turns)
    }

    /// Adds what was asked for beside the messages.
    pub(super) fn instruct(&mut self, text: &str) {
        join(&mut self.system, text);
    }

    /// Puts the system's words before the first thing that the user said.
    pub(super) fn fold_system(&mut self) {
        let system = std::mem::take(&mut self.system);
        if system.is_empty() {
            return;
        }
        match self.list.first_mut() {
            Some(Turn::User(first)) => *first = format!("{system}\n\n{first}"),
            _ => self.list.insert(0, Turn::User(system)),
        }
    }

    fn settle(&mut self, open: Open) -> Result<(), Fault> {
        let mut text = open.text;
        for (_, name, arguments, result) in open.calls {
            let Some(content) = result else {
                let sentence =
                    "An assistant message with 'tool_calls' must be followed by one tool message for each.";
                return Err(malformed(open.at, sentence));
            };
            self.list.push(Turn::Call { text: std::mem::take(&mut text), name: name.clone(), arguments });
            self.list.push(Turn::Result { name, content });
        }
        Ok(())
    }
}

impl Open {
    fn begin(message: &Message, at: usize, text: String) -> Result<Self, Fault> {
        let mut calls = Vec::with_capacity(message.tool_calls.len());
        for call in &message.tool_calls {
            if call.function.object().is_none() {
                return Err(malformed(at, "The arguments of a tool call must be a JSON object."));
            }
            let arguments = match call.function.arguments.trim() {
                "" => "{}".to_owned(),
                text => text.to_owned(),
            };
            calls.push((call.id.clone(), call.function.name.clone(), arguments, None));
        }
        Ok(Self { at, text, calls })
    }

    fn answer(&mut self, message: &Message, at: usize) -> Result<(), Fault> {
        let text = text_only(message, at)?;
        let id = message.tool_call_id.as_deref().unwrap_or_default();
        let call = self.calls.iter_mut().find(|(known, _, _, result)| known == id && result.is_none());
        let Some((_, _, _, result)) = call else {
            return Err(malformed(
                at,
                "A tool message must answer a call of the assistant message before it.",
            ));
        };
        *result = Some(text);
        Ok(())
    }
}

/// Adds text as a paragraph of its own.
pub(super) fn join(all: &mut String, text: &str) {
    if !all.is_empty() && !text.is_empty() {
        all.push_str("\n\n");
    }
    all.push_str(text);
}

/// A message's text, for a wire that carries nothing else.
///
/// # Errors
/// Unsupported, naming the message, where a part of it is no text.
pub(super) fn text_only(message: &Message, at: usize) -> Result<String, Fault> {
    let Content::Parts(parts) = &message.content else {
        let text = message.content.text();
        return Ok(if text.is_empty() { message.refusal.clone().unwrap_or_default() } else { text });
    };
    for part in parts {
        if !matches!(part, Part::Known(KnownPart::Text { .. } | KnownPart::Refusal { .. })) {
            return Err(refused(at, "The target platform takes text content only."));
        }
    }
    Ok(message.content.text())
}

/// A message that the platform cannot carry.
pub(super) fn refused(at: usize, sentence: &'static str) -> Fault {
    Fault::unsupported(format!("messages[{at}]"), sentence)
}

/// A message that is wrong on any platform.
pub(super) fn malformed(at: usize, sentence: &'static str) -> Fault {
    Fault::bad(format!("messages[{at}]"), sentence)
}

/// A JSON schema as an instruction, for platforms that only know "some JSON object".
pub(super) fn schema_instruction(format: &ResponseFormat) -> Option<String> {
    let schema = format.json_schema.as_ref()?.schema.as_ref()?;
    Some(format!("Answer with one JSON object and nothing else. It must fit this JSON Schema:\n{schema}"))
}
