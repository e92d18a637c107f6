//! A conversation for wires that know only text and at most one function call at a time. Why beside [`history`], which
//! checks and groups it: Baidu's V1 and iFlytek's frames both want strict turns, and what they lack (parallel calls, tool
//! ids, parts) must be reshaped or refused the same way on both.

use super::history;
use crate::api::chat::{ChatRequest, Content, KnownPart, Message, Part, ResponseFormat};
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

impl Turns {
    /// Reads the messages of a request.
    ///
    /// # Errors
    /// A bad request that names the message: a conversation that does not fit together, content other than text, a call
    /// whose arguments are no JSON object.
    pub(super) fn read(request: &ChatRequest<'_>) -> Result<Self, Fault> {
        let history = history::group(&request.messages)?;
        let mut turns = Self::default();
        for (at, message) in history.system {
            join(&mut turns.system, &text_only(message, at)?);
        }
        // What an assistant said beside its calls goes with the first of them.
        let mut beside = String::new();
        for turn in history.turns {
            match turn {
                history::Turn::User { at, message } => turns.list.push(Turn::User(text_only(message, at)?)),
                history::Turn::Assistant { at, message } => {
                    let text = text_only(message, at)?;
                    if message.tool_calls.is_empty() {
                        turns.list.push(Turn::Assistant(text));
                        continue;
                    }
                    for call in &message.tool_calls {
                        history::arguments(at, call)?;
                    }
                    beside = text;
                }
                history::Turn::Results(results) => {
                    for one in results {
                        let name = one.call.function.name.clone();
                        let arguments = history::arguments(one.at, one.call)?.get().to_owned();
                        let text = std::mem::take(&mut beside);
                        turns.list.push(Turn::Call { text, name: name.clone(), arguments });
                        let content = text_only(one.message, one.at)?;
                        turns.list.push(Turn::Result { name, content });
                    }
                }
            }
        }
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
pub(super) fn text_only(message: &Message<'_>, at: usize) -> Result<String, Fault> {
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
