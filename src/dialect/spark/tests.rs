//! The samples of iFlytek's facts, and the laws.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::laws::{Record, Wire};
use super::super::trial::{Order, body, mutated, parallel_history, request};
use super::super::{Dialect, Ending, Failure, Quirk, Quirks};
use super::encode;
use crate::sse::Event;

const WIRE: Wire = Wire { dialect: Dialect::Spark, quirks: Quirks(0) };

const FRAMES: &[&str] = &[
    r#"{"header":{"code":0,"message":"Success","sid":"cht000cb087","status":0},"payload":{"choices":{"status":0,"seq":0,"text":[{"content":"","reasoning_content":"We","role":"assistant","index":0}]}}}"#,
    r#"{"header":{"code":0,"message":"Success","sid":"cht000cb087","status":1},"payload":{"choices":{"status":1,"seq":1,"text":[{"content":"Hi","role":"assistant","index":0}]}}}"#,
    r#"{"header":{"code":0,"message":"Success","sid":"cht000cb087","status":2},"payload":{"choices":{"status":2,"seq":3,"text":[{"content":"!","role":"assistant","index":0}]},"usage":{"text":{"question_tokens":4,"prompt_tokens":5,"completion_tokens":9,"total_tokens":14}}}}"#,
];

const CALL: &str = r#"{"header":{"code":0,"message":"Success","sid":"c","status":2},"payload":{"choices":{"status":2,"seq":0,"text":[{"content":"","role":"assistant","content_type":"text","function_call":{"name":"f","arguments":"{\"a\":1}"},"index":0}]},"usage":{"text":{"prompt_tokens":5,"completion_tokens":9,"total_tokens":14}}}}"#;

fn frames(frames: &[&str]) -> String {
    frames.iter().map(|data| format!("data: {data}\n\n")).collect()
}

#[test]
fn frames_become_an_answer() {
    let answer = WIRE.assembled(&frames(FRAMES));
    assert_eq!(answer["id"], "cht000cb087");
    assert_eq!(
        answer["choices"][0]["message"],
        json!({"role": "assistant", "content": "Hi!", "refusal": null, "reasoning_content": "We"})
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        (&answer["usage"]["prompt_tokens"], &answer["usage"]["total_tokens"]),
        (&json!(5), &json!(14))
    );

    let answer = WIRE.assembled(&frames(&[CALL]));
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"], Value::Null);
    assert_eq!(message["tool_calls"][0]["function"], json!({"name": "f", "arguments": "{\"a\":1}"}));
    assert!(message.get("content_type").is_none());
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn the_laws_of_streams_hold() {
    WIRE.any_cut_gives_the_same(&frames(FRAMES));
    WIRE.cut_short_is_never_finished(&frames(FRAMES), 3);
    WIRE.cut_short_is_never_finished(&frames(&[CALL]), 1);
}

#[test]
fn an_error_is_reported_but_a_late_filter_ends_the_answer() {
    let error =
        |code: Value| json!({"header": {"code": code, "message": "..", "sid": "c", "status": 2}}).to_string();
    for code in [json!(11200), json!("10013"), json!(10014), json!(10019), json!("x")] {
        let frame = error(code);
        let reported = Err(Failure::Reported(frame.clone().into_bytes()));
        assert_eq!(WIRE.pieces(&frames(&[&frame])).1, reported);
    }
    assert!(matches!(WIRE.pieces(&frames(&[FRAMES[1], &error(json!(11202))])).1, Err(Failure::Reported(_))));
    for code in [10014, 10019] {
        let (pieces, ending) = WIRE.pieces(&frames(&[FRAMES[1], &error(json!(code))]));
        assert_eq!(ending, Ok(Ending::Complete));
        assert_eq!(pieces.last().map(String::as_str), Some("Finish { choice: 0, reason: ContentFilter }"));
    }
    // The verdict together with the last text.
    let last = FRAMES[2].replace("\"code\":0", "\"code\":10019");
    let answer = WIRE.assembled(&frames(&[FRAMES[1], &last]));
    assert_eq!(answer["choices"][0]["message"]["content"], "Hi!");
    assert_eq!(answer["choices"][0]["finish_reason"], "content_filter");
}

#[test]
fn what_is_no_frame_is_malformed() {
    for frame in ["<html>", "[]", "{}", r#"{"header":7}"#] {
        assert!(matches!(WIRE.pieces(&frames(&[frame])).1, Err(Failure::Malformed(_))), "{frame}");
    }
    assert!(matches!(WIRE.whole(FRAMES[2]), Err(Failure::Malformed(_))));
}

#[test]
fn a_request_is_one_frame_on_its_models_path() {
    let order = Order::of("generalv3.5");
    let asked = request(json!({
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "temperature": 0, "max_tokens": 99999, "top_k": 4, "user": "u1", "seed": 1,
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
    }));
    let encoded = encode(&asked, &order.job()).expect("valid");
    assert_eq!(encoded.path, "/v3.5/chat");
    assert_eq!(
        body(&encoded),
        json!({"header": {"app_id": "", "uid": "u1"},
            "parameter": {"chat": {"domain": "generalv3.5", "temperature": 0.01, "max_tokens": 8192, "top_k": 4}},
            "payload": {
                "message": {"text": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
                "functions": {"text": [{"name": "f", "description": "d", "parameters": {"type": "object"}}]}}})
    );
    assert_eq!(encoded.dropped, ["seed"]);
}

#[test]
fn each_version_has_its_path_and_domain() {
    let place = |model| {
        let encoded = encode(&request(json!({})), &Order::of(model).job()).expect("valid");
        let domain = body(&encoded)["parameter"]["chat"]["domain"].clone();
        (encoded.path, domain.as_str().unwrap_or_default().to_owned())
    };
    for (model, path, domain) in [
        ("lite", "/v1.1/chat", "lite"),
        ("generalv3", "/v3.1/chat", "generalv3"),
        ("4.0Ultra", "/v4.0/chat", "4.0Ultra"),
        ("x1", "/v1/x1", "spark-x"),
        ("some-tuned-model", "/v1.1/chat", "some-tuned-model"),
    ] {
        assert_eq!(place(model), (path.to_owned(), domain.to_owned()));
    }
}

#[test]
fn what_a_version_lacks_is_refused_or_dropped_by_name() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    for (param, asked) in [
        ("tools", json!({"tools": tools})),
        ("top_p", json!({"top_p": 0.5})),
        ("stop", json!({"stop": "x"})),
        ("response_format", json!({"response_format": {"type": "json_object"}})),
    ] {
        let asked = request(asked);
        assert_eq!(encode(&asked, &Order::of("lite").job()).expect_err(param).get_param(), Some(param));
        let encoded = encode(&asked, &Order::of("lite").dropping().job()).expect("dropped");
        assert_eq!(encoded.dropped, [param]);
        assert!(body(&encoded)["payload"].get("functions").is_none());
    }
    let order = Order::of("spark-x").with(Quirk::ThinkingSwitch);
    let encoded =
        encode(&request(json!({"top_p": 0.5, "reasoning_effort": "none"})), &order.job()).expect("valid");
    assert_eq!(
        body(&encoded)["parameter"]["chat"],
        json!({"domain": "spark-x", "top_p": 0.5, "thinking": {"type": "disabled"}})
    );
}

#[test]
fn a_conversation_with_tools_is_told_in_words() {
    let encoded = encode(&request(json!({"messages": parallel_history()})), &Order::of("lite").job());
    let text = body(&encoded.expect("valid"))["payload"]["message"]["text"].clone();
    assert_eq!(
        text,
        json!([
            {"role": "user", "content": "Be brief.\n\nBe kind.\n\nWeather?"},
            {"role": "assistant", "content": "Looking.\n\n[Called the function f with {\"x\":1}]"},
            {"role": "user", "content": "[The function f returned:]\nfrom f"},
            {"role": "assistant", "content": "[Called the function g with {}]"},
            {"role": "user", "content": "[The function g returned:]\nfrom g\n\nSo?"},
        ])
    );
}

proptest! {
    #[test]
    fn no_json_makes_us_panic(json in mutated(
        FRAMES.iter().chain([&CALL]).map(|&json| json.to_owned()).collect()
    )) {
        WIRE.swallow(&json);
    }
}

#[test]
fn an_answer_that_reached_its_bound_was_cut() {
    for (bound, reason) in [(None, "Stop"), (Some(10_000), "Stop"), (Some(1), "Length")] {
        let mut decoder = super::super::Decoder::new(Dialect::Spark, Quirks::default()).bounded(bound);
        let mut record = Record::default();
        for frame in FRAMES {
            decoder.push(Event { name: b"", data: frame.as_bytes() }, &mut record).expect("fine");
        }
        let said = format!("Finish {{ choice: 0, reason: {reason} }}");
        assert!(record.0.contains(&said), "{bound:?}: {:?}", record.0);
    }
}
