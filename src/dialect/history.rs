//! The turns of a conversation, checked and grouped. Why: vendors' wires want tool results together and by name, where
//! OpenAI's has one message per result and only an id; and a history that does not fit together must be a clear 400 that
//! names the message, never a guess (`behaviours.md` R9.5, R9.6).

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::api::chat::{Message, Role, ToolCall};
use crate::fault::Fault;

/// A conversation: system text apart, then turns in order.
#[derive(Debug, Default)]
pub(super) struct History<'a> {
    /// Messages of role `system` and `developer`, with their positions.
    pub system: Vec<(usize, &'a Message<'a>)>,
    pub turns: Vec<Turn<'a>>,
}

/// One turn. `at` is the position in the request's `messages`.
#[derive(Debug)]
pub(super) enum Turn<'a> {
    User {
        at: usize,
        message: &'a Message<'a>,
    },
    Assistant {
        at: usize,
        message: &'a Message<'a>,
    },
    /// The answers to all calls of the assistant turn before, in the order of the calls.
    Results(Vec<Answered<'a>>),
}

/// A call of an earlier turn and its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered<'a> {
    /// Where the answer stands in `messages`.
    pub at: usize,
    pub message: &'a Message<'a>,
    pub call: &'a ToolCall,
}

/// Calls that wait for their answers.
struct Open<'a> {
    at: usize,
    calls: &'a [ToolCall],
    positions: HashMap<&'a str, usize>,
    answers: Vec<Option<(usize, &'a Message<'a>)>>,
}

/// A bad request that names the message at fault.
pub(super) fn bad_message(at: usize, why: &str) -> Fault {
    Fault::bad(format!("messages[{at}]"), format!("messages[{at}] {why}."))
}

/// Reads a conversation for a wire that keeps system text apart: some message must be none.
///
/// # Errors
/// As [`group`]; or that there is no message but system text.
pub(super) fn read<'a>(messages: &'a [Message<'a>]) -> Result<History<'a>, Fault> {
    let history = group(messages)?;
    if history.turns.is_empty() {
        return Err(Fault::bad(
            "messages",
            "'messages' must hold at least one message that is not system text.",
        ));
    }
    Ok(history)
}

/// Reads a conversation.
///
/// # Errors
/// A bad request that names the message: an answer without a call, a call without an answer, an id used twice, a role
/// that has gone.
pub(super) fn group<'a>(messages: &'a [Message<'a>]) -> Result<History<'a>, Fault> {
    let mut history = History::default();
    let mut open: Option<Open<'_>> = None;
    for (at, message) in messages.iter().enumerate() {
        match message.role {
            Role::System | Role::Developer => history.system.push((at, message)),
            Role::Function => {
                return Err(bad_message(at, "has the role 'function': send role 'tool' instead"));
            }
            Role::Tool => match open.as_mut() {
                Some(open) => open.answer(at, message)?,
                None => return Err(bad_message(at, "is a tool result that follows no tool calls")),
            },
            Role::User => {
                close(&mut history, open.take())?;
                history.turns.push(Turn::User { at, message });
            }
            Role::Assistant => {
                close(&mut history, open.take())?;
                open = Open::new(at, message)?;
                history.turns.push(Turn::Assistant { at, message });
            }
        }
    }
    close(&mut history, open)?;
    Ok(history)
}

fn close<'a>(history: &mut History<'a>, open: Option<Open<'a>>) -> Result<(), Fault> {
    let Some(open) = open else { return Ok(()) };
    let mut results = Vec::with_capacity(open.calls.len());
    for (call, answer) in open.calls.iter().zip(open.answers) {
        let Some((at, message)) = answer else {
            let why = format!("has a tool call '{}' that no tool message after it answers", shown(&call.id));
            return Err(bad_message(open.at, &why));
        };
        results.push(Answered { at, message, call });
    }
    history.turns.push(Turn::Results(results));
    Ok(())
}

impl<'a> Open<'a> {
    fn new(at: usize, message: &'a Message<'a>) -> Result<Option<Self>, Fault> {
        if message.rest.get("function_call").is_some_and(|call| !call.is_null()) {
            return Err(bad_message(at, "has a 'function_call': send 'tool_calls' instead"));
        }
        let calls = message.tool_calls.as_slice();
        if calls.is_empty() {
            return Ok(None);
        }
        let mut positions = HashMap::with_capacity(calls.len());
        for (position, call) in calls.iter().enumerate() {
            if positions.insert(call.id.as_str(), position).is_some() {
                return Err(bad_message(at, "has two tool calls of the same id"));
            }
        }
        Ok(Some(Self { at, calls, positions, answers: vec![None; calls.len()] }))
    }

    fn answer(&mut self, at: usize, message: &'a Message<'a>) -> Result<(), Fault> {
        let id = message.tool_call_id.as_deref().ok_or_else(|| bad_message(at, "has no 'tool_call_id'"))?;
        let slot = self.positions.get(id).and_then(|position| self.answers.get_mut(*position));
        match slot {
            None => {
                Err(bad_message(at, "answers a tool call that the assistant message before it did not make"))
            }
            Some(Some(_)) => Err(bad_message(at, "answers a tool call that was answered before")),
            Some(empty) => {
                *empty = Some((at, message));
                Ok(())
            }
        }
    }
}

/// An id, short enough to be shown.
fn shown(id: &str) -> String {
    id.chars().take(64).collect()
}

/// A call's arguments as they came, known to be a JSON object; `""` counts as `{}`.
///
/// # Errors
/// A bad request that names the message at `at`.
pub(super) fn arguments(at: usize, call: &ToolCall) -> Result<&RawValue, Fault> {
    let text = call.function.arguments.trim();
    let text = if text.is_empty() { "{}" } else { text };
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) if raw.get().starts_with('{') => Ok(raw),
        _ => Err(bad_message(at, "has a tool call whose arguments are no JSON object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(json: &str) -> Vec<Message<'_>> {
        serde_json::from_str(json).expect("messages")
    }

    const CALL: &str = r#"{"role":"assistant","tool_calls":[{"id":"b_first","function":{"name":"f"}},{"id":"a_second","function":{"name":"g"}}]}"#;

    #[test]
    fn results_come_together_in_the_order_of_their_calls() {
        let json = format!(
            r#"[{{"role":"system","content":"s"}},{{"role":"user","content":"u"}},{CALL},
                {{"role":"tool","tool_call_id":"a_second","content":"2"}},{{"role":"developer","content":"d"}},
                {{"role":"tool","tool_call_id":"b_first","content":"1"}},{{"role":"user","content":"v"}}]"#
        );
        let messages = messages(&json);
        let history = read(&messages).expect("fits");
        assert_eq!(history.system.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 4]);
        let Turn::Results(results) = &history.turns[2] else { panic!("results third") };
        let named: Vec<_> = results.iter().map(|one| (one.at, one.call.function.name.as_str())).collect();
        assert_eq!(named, [(5, "f"), (3, "g")]);
        assert!(matches!(history.turns[3], Turn::User { at: 6, .. }));
    }

    #[test]
    fn names_the_message_that_does_not_fit() {
        let tool = |id: &str| format!(r#"{{"role":"tool","tool_call_id":"{id}","content":""}}"#);
        let (first, second, user) = (tool("b_first"), tool("a_second"), r#"{"role":"user","content":"u"}"#);
        for (json, param) in [
            (format!("[{user},{first}]"), "messages[1]"),
            (format!("[{CALL},{first}]"), "messages[0]"),
            (format!("[{CALL},{first},{user},{second}]"), "messages[0]"),
            (format!("[{CALL}]"), "messages[0]"),
            (format!("[{CALL},{first},{first},{second}]"), "messages[2]"),
            (format!("[{CALL},{first},{second},{}]", tool("other")), "messages[3]"),
            (format!(r#"[{CALL},{{"role":"tool","content":""}}]"#), "messages[1]"),
            (format!(r#"[{user},{{"role":"function","name":"f","content":""}}]"#), "messages[1]"),
            (format!(r#"[{user},{{"role":"assistant","function_call":{{"name":"f"}}}}]"#), "messages[1]"),
            (
                r#"[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f"}},{"id":"c","function":{"name":"f"}}]}]"#
                    .to_owned(),
                "messages[0]",
            ),
            (r#"[{"role":"system","content":"s"}]"#.to_owned(), "messages"),
        ] {
            let messages = messages(&json);
            let fault = read(&messages).expect_err(&json);
            assert_eq!(fault.get_param(), Some(param), "{json}");
        }
    }

    #[test]
    fn arguments_stay_as_they_came_and_must_be_an_object() {
        let call = |arguments: &str| -> ToolCall {
            serde_json::from_value(
                serde_json::json!({"id": "c", "function": {"name": "f", "arguments": arguments}}),
            )
            .expect("call")
        };
        for (text, raw) in [
            ("", "{}"),
            ("  ", "{}"),
            (" {\"n\": 12345678901234567890123} ", "{\"n\": 12345678901234567890123}"),
        ] {
            assert_eq!(arguments(0, &call(text)).expect("object").get(), raw);
        }
        for text in ["{", "[]", "null", "\"{}\"", "{} x"] {
            let call = call(text);
            assert_eq!(arguments(7, &call).expect_err(text).get_param(), Some("messages[7]"));
        }
    }
}
