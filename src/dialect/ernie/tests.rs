//! The samples of Baidu's facts, and the laws.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::laws::Wire;
use super::super::trial::{Order, body, mutated, parallel_history, request};
use super::super::{Dialect, Ending, Failure, Quirk, Quirks};
use super::encode;

const WIRE: Wire = Wire { dialect: Dialect::Ernie, quirks: Quirks(0) };

const EVENTS: &[&str] = &[
    r#"{"id":"as-bcmt5ct4iy","object":"chat.completion","created":1680167072,"sentence_id":0,"is_end":false,"is_truncated":false,"result":"Hi ","need_clear_history":false,"finish_reason":"normal","usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}}"#,
    r#"{"id":"as-bcmt5ct4iy","object":"chat.completion","created":1680167072,"sentence_id":1,"is_end":false,"is_truncated":false,"result":"","need_clear_history":false,"finish_reason":"normal","usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}}"#,
    r#"{"id":"as-bcmt5ct4iy","object":"chat.completion","created":1680167072,"sentence_id":2,"is_end":true,"is_truncated":false,"result":"there","need_clear_history":false,"finish_reason":"normal","usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}"#,
];

const WHOLE: &str = r#"{"id":"as-bcmt5ct4iy","object":"chat.completion","created":1680167072,"result":"Hi there","is_truncated":false,"need_clear_history":false,"finish_reason":"normal","usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}"#;

const CALL: &str = r#"{"id":"as-1","created":1,"is_end":true,"result":"","finish_reason":"function_call","function_call":{"name":"f","thoughts":"I need f","arguments":"{\"a\":1}"}}"#;

fn sse(events: &[&str]) -> String {
    events.iter().map(|data| format!("data: {data}\n\n")).collect()
}

#[test]
fn a_stream_and_a_whole_answer_say_the_same() {
    let answer = WIRE.whole(WHOLE).expect("whole");
    assert_eq!(WIRE.assembled(&sse(EVENTS)), answer);
    assert_eq!((&answer["id"], &answer["created"]), (&json!("as-bcmt5ct4iy"), &json!(1_680_167_072)));
    assert_eq!(answer["choices"][0]["message"]["content"], "Hi there");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"]["total_tokens"], 9);
    let mut stream = WIRE.assembled(&sse(&[CALL]));
    let mut whole = WIRE.whole(CALL).expect("whole");
    for answer in [&mut stream, &mut whole] {
        let call = &mut answer["choices"][0]["message"]["tool_calls"][0];
        assert!(call["id"].as_str().is_some_and(|id| id.starts_with("call_")));
        call["id"] = Value::Null;
        assert_eq!(call["function"], json!({"name": "f", "arguments": "{\"a\":1}"}));
        assert_eq!(answer["choices"][0]["message"]["reasoning_content"], "I need f");
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    }
    assert_eq!(stream, whole);
}

#[test]
fn the_laws_of_streams_hold() {
    WIRE.any_cut_gives_the_same(&sse(EVENTS));
    WIRE.cut_short_is_never_finished(&sse(EVENTS), 3);
    WIRE.any_cut_gives_the_same(&sse(&[EVENTS[0], CALL]));
}

#[test]
fn baidus_words_for_the_end_become_openais() {
    let reason = |fields: &str| {
        let body = format!(r#"{{"result":"a",{fields}}}"#);
        WIRE.whole(&body).expect(fields)["choices"][0]["finish_reason"].clone()
    };
    assert_eq!(reason(r#""finish_reason":"length""#), "length");
    assert_eq!(reason(r#""finish_reason":"content_filter""#), "content_filter");
    assert_eq!(reason(r#""finish_reason":"normal","is_truncated":true"#), "length");
    assert_eq!(
        reason(r#""finish_reason":"normal","need_clear_history":true,"ban_round":-1"#),
        "content_filter"
    );
    let answer =
        WIRE.whole(r#"{"result":"a","search_info":{"x":1},"choices":[],"model":"real"}"#).expect("valid");
    assert_eq!((&answer["search_info"]["x"], &answer["model"]), (&json!(1), &json!("m")));
    assert_eq!(answer["choices"][0]["message"]["content"], "a");
    // A verdict in an early chunk holds to the end.
    let early = EVENTS[0].replace("\"need_clear_history\":false", "\"need_clear_history\":true");
    let answer = WIRE.assembled(&sse(&[&early, EVENTS[2]]));
    assert_eq!(answer["choices"][0]["finish_reason"], "content_filter");
}

#[test]
fn errors_in_a_200_are_reported_in_every_form() {
    for error in [
        r#"{"error_code":17,"error_msg":"Open api daily request limit reached"}"#,
        r#"{"error_code":"110","error_msg":"Access token invalid","id":"as-1"}"#,
        r#"{"error":"invalid_client","error_description":"unknown client id"}"#,
    ] {
        let reported = Err(Failure::Reported(error.as_bytes().to_vec()));
        assert_eq!(WIRE.whole(error).map(|_| Ending::Cut), reported);
        assert_eq!(WIRE.pieces(&sse(&[error])).1, reported);
        assert_eq!(WIRE.pieces(&sse(&[EVENTS[0], error])).1, reported);
    }
    let fine = EVENTS[2].replace("{\"id\"", "{\"error_code\":0,\"id\"");
    assert_eq!(WIRE.pieces(&sse(&[&fine])).1, Ok(Ending::Complete));
    for body in ["<html>", "{}", "[]", r#"{"result":null}"#] {
        assert!(matches!(WIRE.whole(body), Err(Failure::Malformed(_))), "{body}");
    }
}

#[test]
fn turns_alternate_and_the_system_stands_apart() {
    let encoded = encode(&request(json!({"messages": parallel_history()})), &Order::of("ERNIE-4.0-8K").job());
    let encoded = encoded.expect("valid");
    assert_eq!(encoded.path, "/chat/completions_pro");
    assert_eq!(
        body(&encoded),
        json!({"system": "Be brief.\n\nBe kind.", "stream": true, "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "Looking.", "function_call": {"name": "f", "arguments": "{\"x\":1}"}},
            {"role": "function", "name": "f", "content": "from f"},
            {"role": "assistant", "content": "", "function_call": {"name": "g", "arguments": "{}"}},
            {"role": "function", "name": "g", "content": "from g"},
            {"role": "assistant", "content": "OK."},
            {"role": "user", "content": "So?"}]})
    );
}

#[test]
fn odd_conversations_are_put_right() {
    let messages = |messages: Value| {
        let encoded = encode(&request(json!({"messages": messages})), &Order::of("m").job()).expect("valid");
        body(&encoded)["messages"].clone()
    };
    let say = |role: &str, content: &str| json!({"role": role, "content": content});
    assert_eq!(
        messages(json!([say("assistant", "a"), say("user", "b"), say("user", "c"), say("assistant", "d")])),
        json!([
            say("user", "Continue."),
            say("assistant", "a"),
            say("user", "b\n\nc"),
            say("assistant", "d"),
            say("user", "Continue.")
        ])
    );
    assert_eq!(messages(json!([say("system", "only")])), json!([say("user", "only")]));
    assert_eq!(
        messages(json!([say("user", "a"), say("assistant", ""), say("user", "b")])),
        json!([say("user", "a\n\nb")])
    );
}

#[test]
fn a_broken_history_names_its_message() {
    let call = json!({"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    let user = json!({"role": "user", "content": "u"});
    let tool = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "r"});
    for (messages, at) in [
        (json!([user, call, user]), "messages[1]"),
        (json!([user, call]), "messages[1]"),
        (json!([user, call, tool("z")]), "messages[2]"),
        (json!([user, call, tool("a"), tool("a")]), "messages[3]"),
        (json!([user, tool("a")]), "messages[1]"),
        (json!([user, {"role": "function", "name": "f", "content": "r"}]), "messages[1]"),
        (
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]),
            "messages[0]",
        ),
    ] {
        let fault = encode(&request(json!({"messages": messages})), &Order::of("m").dropping().job());
        assert_eq!(fault.expect_err(at).get_param(), Some(at));
    }
}

#[test]
fn every_parameter_has_its_place() {
    let order = Order { stream: false, max_output: Some(2048), ..Order::of("m") };
    let asked = request(json!({
        "temperature": 0, "top_p": 0.5, "max_completion_tokens": 9999, "stop": ["x"], "user": "u", "penalty_score": 1.2,
        "response_format": {"type": "json_object"}, "seed": 5, "parallel_tool_calls": false,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
    }));
    let encoded = encode(&asked, &order.job()).expect("valid");
    assert_eq!(
        body(&encoded),
        json!({"penalty_score": 1.2, "max_output_tokens": 2048, "temperature": 0.01, "top_p": 0.5, "stop": ["x"],
            "functions": [{"name": "f", "description": "f", "parameters": {"type": "object", "properties": {}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}}, "response_format": "json_object",
            "user_id": "u", "messages": [{"role": "user", "content": "Hi"}], "stream": false})
    );
    assert_eq!(encoded.dropped, ["seed"]);
}

#[test]
fn what_it_lacks_is_refused_or_dropped_by_name() {
    for (param, asked) in [
        ("n", json!({"n": 2})),
        ("logprobs", json!({"logprobs": true})),
        ("presence_penalty", json!({"presence_penalty": 1})),
        ("stop", json!({"stop": ["a", "b", "c", "d", "e"]})),
        (
            "tool_choice",
            json!({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"}),
        ),
        (
            "response_format",
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}}),
        ),
    ] {
        let asked = request(asked);
        assert_eq!(encode(&asked, &Order::of("m").job()).expect_err(param).get_param(), Some(param));
        assert_eq!(encode(&asked, &Order::of("m").dropping().job()).expect("dropped").dropped, [param]);
    }
    let schema = request(
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}}),
    );
    let encoded = encode(&schema, &Order::of("m").with(Quirk::SchemaAsJsonObject).job()).expect("valid");
    assert_eq!(body(&encoded)["response_format"], "json_object");
    assert!(body(&encoded)["system"].as_str().is_some_and(|text| text.contains(r#"{"type":"object"}"#)));
}

#[test]
fn a_model_name_cannot_leave_its_path_segment() {
    let path = |model| encode(&request(json!({})), &Order::of(model).job()).map(|encoded| encoded.path);
    assert_eq!(path("ERNIE-Speed-8K").expect("known"), "/chat/ernie_speed");
    assert_eq!(path("ERNIE-Speed-128K").expect("own name"), "/chat/ernie-speed-128k");
    for bad in ["", "..", "../x", "a/b", "a?access_token=1", "a#b", "a%2fb", "a b", "é"] {
        assert_eq!(path(bad).expect_err(bad).get_param(), Some("model"));
    }
}

proptest! {
    #[test]
    fn no_json_makes_us_panic(json in mutated(
        EVENTS.iter().chain([&WHOLE, &CALL]).map(|&json| json.to_owned()).collect()
    )) {
        WIRE.swallow(&json);
    }

    #[test]
    fn any_conversation_becomes_an_odd_number_of_alternating_turns(roles in prop::collection::vec(0usize..4, 1..12)) {
        let mut messages = Vec::new();
        for (at, role) in roles.iter().enumerate() {
            match role {
                0 => messages.push(json!({"role": "system", "content": "s"})),
                1 => messages.push(json!({"role": "user", "content": "u"})),
                2 => messages.push(json!({"role": "assistant", "content": "a"})),
                _ => messages.extend([
                    json!({"role": "assistant", "tool_calls": [{"id": at.to_string(), "type": "function", "function": {"name": "f", "arguments": ""}}]}),
                    json!({"role": "tool", "tool_call_id": at.to_string(), "content": "r"}),
                ]),
            }
        }
        let encoded = encode(&request(json!({"messages": messages})), &Order::of("m").job()).expect("valid");
        let written = body(&encoded)["messages"].as_array().expect("list").clone();
        prop_assert_eq!(written.len() % 2, 1);
        for (at, message) in written.iter().enumerate() {
            let role = message["role"].as_str().expect("a role");
            prop_assert_eq!(role == "assistant", at % 2 == 1);
        }
        prop_assert_eq!(&written[0]["role"], "user");
    }
}
