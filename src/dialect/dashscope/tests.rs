//! The samples of Alibaba's facts, and the laws.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::laws::Wire;
use super::super::trial::{Order, body, mutated, parallel_history, request};
use super::super::{Dialect, Ending, Failure, Quirk, Quirks};
use super::encode;

const WIRE: Wire = Wire { dialect: Dialect::Dashscope, quirks: Quirks(0) };

const EVENTS: &[&str] = &[
    r#"{"output":{"choices":[{"message":{"content":"","reasoning_content":"We","role":"assistant"},"finish_reason":"null"}]},"usage":{"input_tokens":9,"output_tokens":1,"total_tokens":10},"request_id":"8d1f"}"#,
    r#"{"output":{"choices":[{"message":{"content":"Hel","reasoning_content":"","role":"assistant"},"finish_reason":"null"}]},"usage":{"input_tokens":9,"output_tokens":2,"total_tokens":11},"request_id":"8d1f"}"#,
    r#"{"output":{"choices":[{"message":{"content":"lo","role":"assistant"},"finish_reason":"stop"}]},"usage":{"input_tokens":9,"output_tokens":12,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":2},"output_tokens_details":{"reasoning_tokens":4}},"request_id":"8d1f"}"#,
];

const WHOLE: &str = r#"{"output":{"choices":[{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":"Hello","reasoning_content":"We"}}]},
 "usage":{"input_tokens":9,"output_tokens":12,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":2},"output_tokens_details":{"reasoning_tokens":4}},"request_id":"8d1f"}"#;

fn sse(events: &[&str]) -> String {
    let event = |(at, data): (usize, &&str)| {
        format!("id:{}\nevent:result\n:HTTP_STATUS/200\ndata:{data}\n\n", at + 1)
    };
    events.iter().enumerate().map(event).collect()
}

#[test]
fn a_stream_and_a_whole_answer_say_the_same() {
    let answer = WIRE.whole(WHOLE).expect("whole");
    assert_eq!(WIRE.assembled(&sse(EVENTS)), answer);
    assert_eq!(answer["id"], "8d1f");
    assert_eq!(answer["choices"][0]["message"]["content"], "Hello");
    assert_eq!(answer["choices"][0]["message"]["reasoning_content"], "We");
    assert_eq!(answer["usage"]["completion_tokens"], 12);
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 4);
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
}

#[test]
fn the_laws_of_streams_hold() {
    WIRE.any_cut_gives_the_same(&sse(EVENTS));
    WIRE.cut_short_is_never_finished(&sse(EVENTS), 3);
}

#[test]
fn text_form_and_list_content_are_read() {
    let text = |body: &str| WIRE.whole(body).expect(body)["choices"][0].clone();
    let plain = text(r#"{"output":{"finish_reason":"stop","text":"Hello"}}"#);
    assert_eq!((&plain["message"]["content"], &plain["finish_reason"]), (&json!("Hello"), &json!("stop")));
    let list = text(
        r#"{"output":{"choices":[{"finish_reason":"length","message":{"role":"assistant","content":[{"text":"He"},{"text":"llo"}]}}]}}"#,
    );
    assert_eq!((&list["message"]["content"], &list["finish_reason"]), (&json!("Hello"), &json!("length")));
    // Cut at the vendor's time limit: no reason, and no "stop" of ours.
    let cut = text(r#"{"output":{"choices":[{"finish_reason":"null","message":{"content":"Hel"}}]}}"#);
    assert_eq!(cut["finish_reason"], "length");
}

#[test]
fn what_else_an_output_holds_survives_but_cannot_rename_the_answer() {
    let body = r#"{"output":{"text":"a","finish_reason":"stop","search_info":{"x":1},"model":"real","id":"x","usage":{}},"request_id":"r"}"#;
    let answer = WIRE.whole(body).expect(body);
    assert_eq!(answer["search_info"], json!({"x": 1}));
    assert_eq!((&answer["model"], &answer["id"]), (&json!("m"), &json!("r")));
    assert_eq!(answer["usage"]["total_tokens"], 0);
}

#[test]
fn tool_calls_come_in_increments() {
    let events = [
        r#"{"output":{"choices":[{"finish_reason":"null","message":{"role":"assistant","content":"","tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]}}]}}"#,
        r#"{"output":{"choices":[{"finish_reason":"null","message":{"role":"assistant","content":"","tool_calls":[{"index":0,"id":"","type":"function","function":{"arguments":"{\"a\":1}"}}]}}]}}"#,
        r#"{"output":{"choices":[{"finish_reason":"tool_calls","message":{"role":"assistant","content":"","tool_calls":[]}}]}}"#,
    ];
    let answer = WIRE.assembled(&sse(&events));
    let call = &answer["choices"][0]["message"]["tool_calls"];
    assert_eq!(
        call,
        &json!([{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}])
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn errors_are_reported_and_nonsense_is_malformed() {
    let error = r#"{"code":"InvalidParameter","message":"no","request_id":"8d1f"}"#;
    let reported = Err(Failure::Reported(error.as_bytes().to_vec()));
    let named = format!("{}id:9\nevent:error\n:HTTP_STATUS/400\ndata:{error}\n\n", sse(&EVENTS[..1]));
    assert_eq!(WIRE.pieces(&named).1, reported);
    assert_eq!(WIRE.pieces(&sse(&[error])).1, reported);
    assert_eq!(WIRE.whole(error).map(|_| Ending::Cut), reported);
    let bare = r#"{"message":"no"}"#;
    let named = WIRE.pieces(&format!("event:error\ndata:{bare}\n\n")).1;
    assert_eq!(named, Err(Failure::Reported(bare.as_bytes().to_vec())));
    for body in ["<html>", "{}", r#"{"output":{}}"#, r#"{"output":{"choices":[]}}"#, r#"{"output":null}"#] {
        assert!(matches!(WIRE.whole(body), Err(Failure::Malformed(_))), "{body}");
    }
    assert!(matches!(WIRE.pieces("data:<html>\n\n").1, Err(Failure::Malformed(_))));
}

#[test]
fn increments_and_messages_are_always_asked_for() {
    let order = Order::of("qwen-plus");
    let asked = request(json!({"incremental_output": false, "result_format": "text", "top_k": 20}));
    let encoded = encode(&asked, &order.job()).expect("valid");
    assert_eq!(encoded.path, "/services/aigc/text-generation/generation");
    assert_eq!(
        encoded.headers,
        [("x-dashscope-sse", "enable".to_owned()), ("accept", "text/event-stream".to_owned())]
    );
    assert_eq!(
        body(&encoded),
        json!({"model": "qwen-plus", "input": {"messages": [{"role": "user", "content": "Hi"}]},
            "parameters": {"incremental_output": true, "result_format": "message", "top_k": 20}})
    );
    let order = Order { stream: false, ..order }.with(Quirk::NoThinkingUnlessStream);
    let encoded = encode(&request(json!({"enable_thinking": true})), &order.job()).expect("valid");
    assert!(encoded.headers.is_empty());
    assert_eq!(body(&encoded)["parameters"]["enable_thinking"], false);
}

#[test]
fn every_parameter_has_its_place() {
    let order = Order { max_output: Some(100), ..Order::of("m") }.with(Quirk::StructuredOutput);
    let asked = request(json!({
        "temperature": 2, "top_p": 1, "max_tokens": 500, "seed": -1, "stop": "x", "n": 2, "presence_penalty": 0.5,
        "logprobs": true, "top_logprobs": 2, "user": "u", "frequency_penalty": 0, "tool_choice": "none",
        "tools": [{"type": "function", "function": {"name": "f"}}], "parallel_tool_calls": true,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
    }));
    let encoded = encode(&asked, &order.job()).expect("valid");
    let mut parameters = body(&encoded)["parameters"].clone();
    assert_eq!(parameters["tools"][0]["function"]["name"], "f");
    parameters.as_object_mut().expect("object").remove("tools");
    assert_eq!(
        parameters,
        json!({"result_format": "message", "incremental_output": true, "temperature": 1.99, "top_p": 0.999,
            "max_tokens": 100, "seed": 2_147_483_647, "stop": ["x"], "n": 2, "presence_penalty": 0.5, "logprobs": true,
            "top_logprobs": 2, "tool_choice": "none", "parallel_tool_calls": true,
            "response_format": {"type": "json_schema",
                "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": false}}})
    );
    assert_eq!(encoded.dropped, ["user"]);
}

#[test]
fn what_it_lacks_is_refused_or_dropped_by_name() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    for (param, asked) in [
        ("frequency_penalty", json!({"frequency_penalty": 1})),
        ("logit_bias", json!({"logit_bias": {"1": 1}})),
        ("tool_choice", json!({"tools": tools, "tool_choice": "required"})),
        ("tools", json!({"tools": [{"type": "custom", "custom": {"name": "x"}}]})),
        (
            "response_format",
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s"}}}),
        ),
        ("functions", json!({"functions": [{"name": "f"}]})),
        ("modalities", json!({"modalities": ["text", "audio"]})),
    ] {
        let asked = request(asked);
        let fault = encode(&asked, &Order::of("m").job()).expect_err(param);
        assert_eq!(fault.get_param(), Some(param));
        assert_eq!(fault.get_code(), Some("unsupported_parameter"));
        let encoded = encode(&asked, &Order::of("m").dropping().job()).expect("dropped");
        assert_eq!(encoded.dropped, [param]);
    }
    let order = || Order::of("m").with(Quirk::NoRequiredTool);
    let asked = request(json!({"tools": tools, "tool_choice": "required"}));
    let fault = encode(&asked, &order().job()).expect_err("demanded");
    assert_eq!(fault.get_param(), Some("tool_choice"));
    let encoded = encode(&asked, &order().dropping().job()).expect("dropped");
    assert_eq!(body(&encoded)["parameters"]["tool_choice"], "auto");
    assert_eq!(encoded.dropped, ["tool_choice"]);
}

#[test]
fn effort_becomes_thinking_unless_the_caller_said_it_in_qwens_words() {
    let order = Order::of("m").with(Quirk::QwenThinking);
    let thinking = |fields: Value| {
        let encoded = encode(&request(fields), &order.job()).expect("valid");
        assert!(encoded.dropped.is_empty());
        let parameters = &body(&encoded)["parameters"];
        (parameters["enable_thinking"].clone(), parameters["thinking_budget"].clone())
    };
    assert_eq!(thinking(json!({"reasoning_effort": "none"})), (json!(false), Value::Null));
    assert_eq!(thinking(json!({"reasoning_effort": "low"})), (json!(true), json!(1024)));
    assert_eq!(thinking(json!({"reasoning_effort": "high"})), (json!(true), Value::Null));
    let own = json!({"reasoning_effort": "high", "enable_thinking": false});
    assert_eq!(thinking(own), (json!(false), Value::Null));
    let encoded = encode(&request(json!({"reasoning_effort": "low"})), &Order::of("m").job());
    assert_eq!(encoded.expect("valid").dropped, ["reasoning_effort"]);
}

#[test]
fn a_conversation_with_tools_keeps_its_ids() {
    let encoded = encode(&request(json!({"messages": parallel_history()})), &Order::of("m").job());
    let messages = body(&encoded.expect("valid"))["input"]["messages"].clone();
    assert_eq!(messages[1], json!({"role": "user", "content": "Weather?"}));
    assert_eq!(messages[2]["tool_calls"][1]["function"], json!({"name": "g", "arguments": "{}"}));
    assert_eq!(messages[3], json!({"role": "tool", "tool_call_id": "b", "content": "from g"}));
    assert_eq!(messages[5], json!({"role": "system", "content": "Be kind."}));
}

#[test]
fn pictures_go_to_the_multimodal_endpoint_and_nowhere_else() {
    let asked = request(json!({"messages": [
        {"role": "system", "content": "See."},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://h/i.png"}, "max_pixels": 9}, {"type": "text", "text": "What?"}]},
    ]}));
    let order = Order::of("qwen3-vl-plus").with(Quirk::Multimodal);
    let encoded = encode(&asked, &order.job()).expect("valid");
    assert_eq!(encoded.path, "/services/aigc/multimodal-generation/generation");
    let messages = &body(&encoded)["input"]["messages"];
    assert_eq!(messages[0]["content"], json!([{"text": "See."}]));
    assert_eq!(
        messages[1]["content"],
        json!([{"image": "https://h/i.png", "max_pixels": 9}, {"text": "What?"}])
    );
    let fault = encode(&asked, &Order::of("qwen-plus").dropping().job()).expect_err("text only");
    assert_eq!(fault.get_param(), Some("messages[1]"));
}

#[test]
fn a_malformed_call_names_its_message() {
    let asked =
        request(json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "[1]"}}]}]}));
    let fault = encode(&asked, &Order::of("m").job()).expect_err("no object");
    assert_eq!(fault.get_param(), Some("messages[1]"));
}

proptest! {
    #[test]
    fn no_json_makes_us_panic(json in mutated(
        EVENTS.iter().chain([&WHOLE, &r#"{"output":{"finish_reason":"stop","text":"Hello"}}"#]).map(|&json| json.to_owned()).collect()
    )) {
        WIRE.swallow(&json);
    }
}
