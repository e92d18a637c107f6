//! OpenAI's deprecated `functions`, said in today's words. Why here and once: ten wires know tools, and one rewriting of the
//! request spares each of them a second vocabulary. The answer goes back in the caller's words by
//! [`Naming`](super::writer::Naming).

use bytes::Bytes;
use memchr::memmem;
use serde_json::{Map, Value, json};

use super::ask::Ask;
use crate::fault::Fault;

/// Today's names of the parameters, and the deprecated ones.
const NAMES: [(&str, &str); 2] = [("tools", "functions"), ("tool_choice", "function_call")];

/// The same request with tools in place of functions; `None` where it speaks of none.
///
/// # Errors
/// A bad request that names what is malformed, or mixed with tools.
pub fn modernised(ask: &Ask) -> Result<Option<Ask>, Fault> {
    let in_params = NAMES.iter().any(|(_, old)| ask.raw(old).is_some());
    let in_messages =
        ask.raw("messages").is_some_and(|raw| memmem::find(raw, b"\"function_call\"").is_some());
    if !in_params && !in_messages {
        return Ok(None);
    }
    let mut body: Map<String, Value> = serde_json::from_slice(ask.body())
        .map_err(|wrong| Fault::bad("messages", format!("The request could not be read: {wrong}.")))?;
    let in_messages = rewrite_messages(body.get_mut("messages"))?;
    if in_params {
        rewrite_params(&mut body)?;
    } else if !in_messages {
        return Ok(None);
    }
    Ask::chat(Bytes::from(Value::Object(body).to_string())).map(Some)
}

/// The caller's own word for a parameter of a request that was modernised.
pub fn callers_word(param: &str) -> &str {
    NAMES.iter().find(|(new, _)| *new == param).map_or(param, |(_, old)| old)
}

fn rewrite_params(body: &mut Map<String, Value>) -> Result<(), Fault> {
    let functions = match body.shift_remove("functions") {
        Some(Value::Array(functions)) => functions,
        _ => Vec::new(),
    };
    let choice = body.shift_remove("function_call").filter(|choice| !choice.is_null());
    if functions.is_empty() {
        return Ok(());
    }
    if NAMES.iter().any(|(new, _)| body.get(*new).is_some_and(|value| !value.is_null())) {
        return Err(Fault::bad(
            "functions",
            "'functions' and 'tools' cannot be sent together: send 'tools'.",
        ));
    }
    let tools: Vec<Value> =
        functions.into_iter().map(|function| json!({"type": "function", "function": function})).collect();
    body.insert("tools".to_owned(), tools.into());
    let choice = match choice {
        None => return Ok(()),
        Some(Value::Object(named)) => json!({"type": "function", "function": named}),
        Some(mode) => mode,
    };
    body.insert("tool_choice".to_owned(), choice);
    Ok(())
}

/// Calls get ids, and results the id of the call before them. Says whether anything changed.
fn rewrite_messages(messages: Option<&mut Value>) -> Result<bool, Fault> {
    let list = messages.and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default();
    let mut changed = false;
    let mut open: Option<String> = None;
    for (at, message) in list.iter_mut().enumerate() {
        let Some(message) = message.as_object_mut() else { continue };
        match message.get("role").and_then(Value::as_str) {
            Some("assistant") => {
                open = None;
                let Some(call) = message.get("function_call").filter(|call| call.is_object()).cloned() else {
                    continue;
                };
                let id = format!("call_function_{at}");
                message.shift_remove("function_call");
                message.insert(
                    "tool_calls".to_owned(),
                    json!([{"id": id, "type": "function", "function": call}]),
                );
                open = Some(id);
                changed = true;
            }
            Some("function") => {
                let Some(id) = open.take() else {
                    let why = format!("messages[{at}] is a function's result that follows no call.");
                    return Err(Fault::bad(format!("messages[{at}]"), why));
                };
                message.shift_remove("name");
                message.insert("role".to_owned(), "tool".into());
                message.insert("tool_call_id".to_owned(), id.into());
                changed = true;
            }
            _ => {}
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(fields: Value) -> Result<Option<Value>, Fault> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
        body.as_object_mut().expect("object").extend(fields.as_object().expect("object").clone());
        let modern = modernised(&Ask::chat(Bytes::from(body.to_string()))?)?;
        Ok(modern.map(|ask| serde_json::from_slice(ask.body()).expect("json")))
    }

    #[test]
    fn functions_become_tools() {
        let functions = json!([{"name": "f", "parameters": {"type": "object"}}]);
        let tools = json!([{"type": "function", "function": functions[0]}]);
        for (old, new) in [
            (json!("none"), json!("none")),
            (json!("auto"), json!("auto")),
            (json!({"name": "f"}), json!({"type": "function", "function": {"name": "f"}})),
            (Value::Null, Value::Null),
        ] {
            let body =
                run(json!({"functions": functions, "function_call": old})).expect("fine").expect("changed");
            assert_eq!((&body["tools"], &body["tool_choice"]), (&tools, &new));
            assert!(body.get("functions").is_none() && body.get("function_call").is_none(), "{body}");
        }
        let body = run(json!({"functions": [], "function_call": "none"})).expect("fine").expect("changed");
        assert!(body.get("tools").is_none() && body.get("tool_choice").is_none(), "{body}");
    }

    #[test]
    fn calls_and_results_find_each_other() {
        let call = |name: &str| json!({"role": "assistant", "content": null, "function_call": {"name": name, "arguments": "{}"}});
        let result = |name: &str| json!({"role": "function", "name": name, "content": name});
        let messages =
            json!([{"role": "user", "content": "u"}, call("f"), result("f"), call("g"), result("g")]);
        let body = run(json!({"messages": messages})).expect("fine").expect("changed");
        for (at, name) in [(1, "f"), (3, "g")] {
            let made = &body["messages"][at]["tool_calls"][0];
            assert_eq!((&made["type"], &made["function"]["name"]), (&json!("function"), &json!(name)));
            let answer = &body["messages"][at + 1];
            assert_eq!((&answer["role"], &answer["tool_call_id"]), (&json!("tool"), &made["id"]));
            assert!(answer.get("name").is_none() && body["messages"][at].get("function_call").is_none());
        }
        assert_ne!(body["messages"][1]["tool_calls"][0]["id"], body["messages"][3]["tool_calls"][0]["id"]);
    }

    #[test]
    fn what_does_not_fit_is_named_and_what_says_nothing_stays() {
        let stray = json!([{"role": "function", "name": "f", "content": ""}, {"role": "assistant", "function_call": {"name": "f"}}]);
        assert_eq!(run(json!({"messages": stray})).expect_err("stray").get_param(), Some("messages[0]"));
        let both = run(json!({"functions": [{"name": "f"}], "tools": []})).expect_err("both");
        assert_eq!(both.get_param(), Some("functions"));
        let echo = json!([{"role": "assistant", "content": "a", "function_call": null}]);
        assert_eq!(run(json!({"messages": echo})).expect("fine"), None);
        assert_eq!(run(json!({"tools": [{}], "tool_choice": "auto"})).expect("fine"), None);
    }
}
