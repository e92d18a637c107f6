//! Every sample of the platforms' facts, and the laws.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::laws::{Record, Wire};
use super::super::trial::mutated;
use super::super::{Dialect, Ending, Failure, Quirk, Quirks};
use crate::sse::Event;

const PLAIN: Wire = Wire { dialect: Dialect::Openai, quirks: NONE };
const NONE: Quirks = Quirks(0);

fn spark() -> Wire {
    Wire { dialect: Dialect::Openai, quirks: Quirks::from_iter([Quirk::ErrorsIn200]) }
}

/// Chunks as a stream; the end mark where `done`.
fn sse(chunks: &[&str], done: bool) -> String {
    let mut stream: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    if done {
        stream.push_str("data: [DONE]\n\n");
    }
    stream
}

const OPENAI: &[&str] = &[
    r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1763712000,"model":"gpt-5.4","service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x9"}"#,
    r#"{"id":"chatcmpl-1","created":1763712000,"choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":{"content":[{"token":"Hel","logprob":-0.3,"bytes":[72],"top_logprobs":[]}],"refusal":null},"finish_reason":null}],"usage":null}"#,
    r#"{"id":"chatcmpl-1","created":1763712000,"choices":[{"index":0,"delta":{"content":"lo"},"logprobs":{"content":[{"token":"lo","logprob":-0.1,"bytes":null,"top_logprobs":[]}],"refusal":null},"finish_reason":null}],"usage":null}"#,
    r#"{"id":"chatcmpl-1","created":1763712000,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}"#,
    r#"{"id":"chatcmpl-1","created":1763712000,"choices":[],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29}}"#,
];

const OPENAI_WHOLE: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1763712000,"model":"gpt-5.4","service_tier":"default","system_fingerprint":"fp_1",
    "choices":[{"index":0,"finish_reason":"stop","logprobs":{"content":[{"token":"Hel","logprob":-0.3,"bytes":[72],"top_logprobs":[]},{"token":"lo","logprob":-0.1,"bytes":null,"top_logprobs":[]}],"refusal":null},
    "message":{"role":"assistant","content":"Hello","refusal":null}}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29}}"#;

const QWEN: &[&str] = &[
    r#"{"choices":[{"delta":{"content":null,"role":"assistant","reasoning_content":""},"index":0,"logprobs":null,"finish_reason":null}],"object":"chat.completion.chunk","usage":null,"created":1764000000,"system_fingerprint":null,"model":"qwen3-max","id":"chatcmpl-3f"}"#,
    r#"{"choices":[{"delta":{"content":null,"reasoning_content":"We"},"index":0}],"id":"chatcmpl-3f"}"#,
    r#"{"choices":[{"delta":{"content":"He","reasoning_content":null},"finish_reason":null,"index":0,"logprobs":null}],"id":"chatcmpl-3f"}"#,
    r#"{"choices":[{"delta":{"content":null,"role":"assistant","tool_calls":[{"index":0,"id":"call_ab12","type":"function","function":{"name":"f","arguments":""}}]},"index":0}],"id":"chatcmpl-3f"}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\"a\""},"index":0,"id":"","type":"function"}]},"index":0}],"id":"chatcmpl-3f"}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":": 1}"},"index":0,"id":"","type":"function"}]},"index":0}],"id":"chatcmpl-3f"}"#,
    r#"{"choices":[{"delta":{},"finish_reason":"tool_calls","index":0}],"id":"chatcmpl-3f"}"#,
    r#"{"choices":[],"id":"chatcmpl-3f","usage":{"prompt_tokens":18,"completion_tokens":104,"total_tokens":122,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":64}}}"#,
];

const QWEN_WHOLE: &str = r#"{"choices":[{"message":{"role":"assistant","content":"He","reasoning_content":"We","tool_calls":[{"function":{"name":"f","arguments":"{\"a\": 1}"},"id":"call_ab12","index":0,"type":"function"}]},"finish_reason":"tool_calls","index":0,"logprobs":null}],
    "object":"chat.completion","usage":{"prompt_tokens":18,"completion_tokens":104,"total_tokens":122,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":64}},
    "created":1764000000,"system_fingerprint":null,"model":"qwen3-max","id":"chatcmpl-3f"}"#;

const ZHIPU: &[&str] = &[
    r#"{"id":"2026","created":1764000000,"object":"chat.completion.chunk","model":"glm-5.2","choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"The"}}]}"#,
    r#"{"id":"2026","created":1764000000,"choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}]}"#,
    r#"{"id":"2026","created":1764000000,"choices":[{"index":0,"delta":{"role":"assistant","tool_calls":[{"id":"call_8f2e","index":0,"type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}]}}]}"#,
    r#"{"id":"2026","created":1764000000,"choices":[{"index":0,"finish_reason":"tool_calls","delta":{"role":"assistant","content":""}}],"usage":{"prompt_tokens":8,"completion_tokens":42,"total_tokens":50,"prompt_tokens_details":{"cached_tokens":0}}}"#,
];

const ZHIPU_WHOLE: &str = r#"{"choices":[{"finish_reason":"tool_calls","index":0,"message":{"content":"Hi","reasoning_content":"The","role":"assistant","tool_calls":[{"id":"call_8f2e","index":0,"type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}]}}],
    "created":1764000000,"id":"2026","model":"glm-5.2","usage":{"completion_tokens":42,"prompt_tokens":8,"prompt_tokens_details":{"cached_tokens":0},"total_tokens":50}}"#;

const BAIDU: &[&str] = &[
    r#"{"id":"as-q1","object":"chat.completion.chunk","created":1764000000,"model":"ernie-x1.1","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":"Let"},"finish_reason":null,"flag":0}]}"#,
    r#"{"id":"as-q1","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null,"flag":0}]}"#,
    r#"{"id":"as-q1","choices":[{"index":0,"delta":{"content":""},"finish_reason":"normal","flag":0}],"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}"#,
];

const BAIDU_WHOLE: &str = r#"{"id":"as-q1","object":"chat.completion","created":1764000000,"model":"ernie-5.1",
    "choices":[{"index":0,"message":{"role":"assistant","content":"Hi","reasoning_content":"Let"},"finish_reason":"stop","flag":0}],
    "usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}"#;

const DOUBAO: &[&str] = &[
    r#"{"id":"0217","object":"chat.completion.chunk","created":1764000000,"model":"doubao","service_tier":"default","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":"Let"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
    r#"{"id":"0217","choices":[{"index":0,"delta":{"role":"assistant","content":"","tool_calls":[{"index":0,"id":"call_a1b2","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":null}],"usage":null}"#,
    r#"{"id":"0217","choices":[{"index":0,"delta":{"role":"assistant","content":"","tool_calls":[{"index":0,"function":{"arguments":"{\"a\":1}"}}]},"finish_reason":null}],"usage":null}"#,
    r#"{"id":"0217","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"tool_calls"}],"usage":null}"#,
    r#"{"id":"0217","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":35,"total_tokens":55,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":28}}}"#,
];

const SPARK_V1: &[&str] = &[
    r#"{"code":0,"message":"Success","sid":"cha000b0003@dx19","id":"cha000b0003@dx19","created":1764000000,"choices":[{"delta":{"role":"assistant","content":"H"},"index":0}]}"#,
    r#"{"code":0,"message":"Success","sid":"cha000b0003@dx19","id":"cha000b0003@dx19","created":1764000000,"choices":[{"delta":{"role":"assistant","content":"i"},"index":0}],"usage":{"prompt_tokens":6,"completion_tokens":2,"total_tokens":8}}"#,
];

const SPARK_V1_WHOLE: &str = r#"{"code":0,"message":"Success","sid":"cha000b0003@dx19","choices":[{"message":{"role":"assistant","content":"Hi"},"index":0}],"usage":{"prompt_tokens":6,"completion_tokens":2,"total_tokens":8}}"#;

const SPARK_V2: &[&str] = &[
    r#"{"code":0,"message":"Success","sid":"cha","id":"cha","created":1764000000,"choices":[{"delta":{"role":"assistant","content":"","reasoning_content":"Let"},"index":0}]}"#,
    r#"{"code":0,"message":"Success","sid":"cha","id":"cha","created":1764000000,"choices":[{"delta":{"role":"assistant","content":"Hi"},"index":0}]}"#,
    r#"{"code":0,"message":"Success","sid":"cha","id":"cha","created":1764000000,"choices":[{"delta":{"role":"assistant","content":""},"index":0}],"usage":{"prompt_tokens":6,"completion_tokens":12,"total_tokens":18}}"#,
];

const TWO_CHOICES: &[&str] = &[
    r#"{"id":"c","choices":[{"index":1,"delta":{"role":"assistant","content":"b"}}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}]}"#,
    r#"{"id":"c","choices":[{"index":1,"delta":{},"finish_reason":"length"}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
];

fn finish(stream: &str) -> Value {
    PLAIN.assembled(stream)["choices"][0]["finish_reason"].clone()
}

fn ended_by(wire: Wire, chunks: &[&str]) -> Result<Ending, Failure> {
    wire.pieces(&sse(chunks, false)).1
}

fn calls(answer: &Value) -> Value {
    answer["choices"][0]["message"]["tool_calls"].clone()
}

#[test]
fn a_stream_and_a_whole_answer_say_the_same() {
    for (chunks, whole) in
        [(OPENAI, OPENAI_WHOLE), (QWEN, QWEN_WHOLE), (ZHIPU, ZHIPU_WHOLE), (BAIDU, BAIDU_WHOLE)]
    {
        assert_eq!(PLAIN.assembled(&sse(chunks, true)), PLAIN.whole(whole).expect(whole));
    }
    let mut whole = spark().whole(SPARK_V1_WHOLE).expect("whole");
    whole["created"] = json!(1_764_000_000);
    assert_eq!(spark().assembled(&sse(SPARK_V1, true)), whole);
}

#[test]
fn nothing_of_an_answer_is_lost() {
    let answer = PLAIN.whole(OPENAI_WHOLE).expect("whole");
    assert_eq!(answer["id"], "chatcmpl-1");
    assert_eq!(answer["created"], 1_763_712_000);
    assert_eq!(answer["system_fingerprint"], "fp_1");
    assert_eq!(answer["service_tier"], "default");
    assert_eq!(answer["choices"][0]["logprobs"]["content"][1]["token"], "lo");
    assert_eq!(answer["choices"][0]["message"]["content"], "Hello");
    assert_eq!(answer["usage"]["total_tokens"], 29);

    let answer = PLAIN.assembled(&sse(QWEN, true));
    let message = &answer["choices"][0]["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("He"), &json!("We")));
    assert_eq!(message["tool_calls"][0]["id"], "call_ab12");
    assert_eq!(message["tool_calls"][0]["function"], json!({"name": "f", "arguments": "{\"a\": 1}"}));
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 64);
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 3);

    assert!(PLAIN.whole(BAIDU_WHOLE).expect("whole")["choices"][0]["message"].get("flag").is_none());
    let answer = spark().assembled(&sse(SPARK_V2, true));
    assert_eq!(answer["choices"][0]["message"]["reasoning_content"], "Let");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert!(answer.get("sid").is_none() && answer.get("code").is_none() && answer.get("message").is_none());
}

#[test]
fn any_cut_of_the_bytes_gives_the_same_pieces() {
    for chunks in [OPENAI, QWEN, ZHIPU, BAIDU, DOUBAO, SPARK_V1, SPARK_V2, TWO_CHOICES] {
        PLAIN.any_cut_gives_the_same(&sse(chunks, true));
    }
    let odd = format!(": keep-alive\n\ndata:{}\r\n\r\n: keep-alive\n\ndata:  [DONE]\n\n", ZHIPU[3]);
    assert_eq!(PLAIN.pieces(&odd).1, Ok(Ending::Complete));
    PLAIN.any_cut_gives_the_same(&odd);
}

#[test]
fn a_stream_cut_short_is_never_finished() {
    for (chunks, complete_after) in [(OPENAI, 4), (QWEN, 7), (ZHIPU, 4), (BAIDU, 3), (DOUBAO, 4)] {
        PLAIN.cut_short_is_never_finished(&sse(chunks, true), complete_after);
    }
    spark().cut_short_is_never_finished(&sse(SPARK_V1, true), 2);
    spark().cut_short_is_never_finished(&sse(SPARK_V2, true), 3);
    // One of two choices has ended: the answer has not.
    assert_eq!(ended_by(PLAIN, &TWO_CHOICES[..3]), Ok(Ending::Cut));
    assert_eq!(ended_by(PLAIN, TWO_CHOICES), Ok(Ending::Complete));
    // Usage in every chunk says nothing about the end, but on Spark.
    assert_eq!(
        ended_by(
            PLAIN,
            &[r#"{"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}"#]
        ),
        Ok(Ending::Cut)
    );
    // An end mark alone is no answer.
    assert_eq!(PLAIN.pieces("data: [DONE]\n\n").1, Ok(Ending::Cut));
}

#[test]
fn the_end_mark_ends_what_has_no_finish_reason() {
    let text = r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#;
    let call = r#"{"choices":[{"index":0,"delta":{"tool_calls":{"type":"function","id":"call_x","function":{"name":"f","arguments":"{\"a\":1}"}}}}]}"#;
    assert_eq!(finish(&sse(&[text], true)), "stop");
    assert_eq!(finish(&sse(&[call], true)), "tool_calls");
    assert_eq!(calls(&PLAIN.assembled(&sse(&[call], true)))[0]["function"]["arguments"], "{\"a\":1}");
}

#[test]
fn the_first_finish_counts() {
    // Baidu names the calls' end, then the answer's, and there usage.
    let chunks = [
        BAIDU[0],
        r#"{"id":"as-q1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},"finish_reason":"tool_calls","flag":0}]}"#,
        BAIDU[2],
    ];
    let (pieces, ending) = PLAIN.pieces(&sse(&chunks, true));
    assert_eq!(ending, Ok(Ending::Complete));
    let finishes: Vec<_> = pieces.iter().filter(|piece| piece.starts_with("Finish")).collect();
    assert_eq!(finishes, ["Finish { choice: 0, reason: ToolCalls }"]);
    assert_eq!(PLAIN.assembled(&sse(&chunks, true))["usage"]["total_tokens"], 6);
}

#[test]
fn vendors_finish_reasons_become_openais() {
    for (theirs, ours) in [
        ("stop", "stop"),
        ("normal", "stop"),
        ("eos_token", "stop"),
        ("stop_sequence", "stop"),
        ("STOP", "stop"),
        ("something new", "stop"),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("model_context_window_exceeded", "length"),
        ("sensitive", "content_filter"),
        ("SAFETY", "content_filter"),
        ("content_filter", "content_filter"),
    ] {
        let chunk =
            format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"a"}},"finish_reason":"{theirs}"}}]}}"#);
        assert_eq!(finish(&sse(&[&chunk], false)), ours, "{theirs}");
    }
}

#[test]
fn a_model_that_broke_off_is_a_failure_after_its_text() {
    let chunk = r#"{"choices":[{"index":0,"finish_reason":"network_error","delta":{"content":"half"}}]}"#;
    let (pieces, ending) = PLAIN.pieces(&sse(&[chunk], true));
    assert_eq!(pieces, [r#"Text { choice: 0, text: "half" }"#]);
    let Err(Failure::Reported(report)) = ending else { panic!("{ending:?}") };
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(report["error"]["code"], "network_error");
    let whole = r#"{"choices":[{"finish_reason":"network_error","message":{"content":"half"}}]}"#;
    assert!(matches!(PLAIN.whole(whole), Err(Failure::Reported(_))));
}

#[test]
fn an_answer_without_a_reason_is_cut_where_it_reached_its_bound() {
    for (bound, reason) in [(None, "Stop"), (Some(3), "Stop"), (Some(2), "Length"), (Some(1), "Length")] {
        let decoder = || super::super::Decoder::new(Dialect::Openai, Quirks::default()).bounded(bound);
        let said = format!("Finish {{ choice: 0, reason: {reason} }}");
        let (mut streamed, mut whole) = (Record::default(), Record::default());
        let mut stream = decoder();
        for data in SPARK_V1.iter().copied().chain(["[DONE]"]) {
            stream.push(Event { name: b"", data: data.as_bytes() }, &mut streamed).expect("fine");
        }
        assert_eq!(stream.finish(&mut streamed), Ending::Complete);
        decoder().whole(SPARK_V1_WHOLE.as_bytes(), &mut whole).expect("fine");
        for record in [streamed, whole] {
            assert!(record.0.contains(&said), "{bound:?}: {:?}", record.0);
        }
    }
    // A reason that the platform gives is believed.
    let mut record = Record::default();
    let said =
        r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"completion_tokens":9}}"#;
    let decoder = super::super::Decoder::new(Dialect::Openai, Quirks::default());
    decoder.bounded(Some(1)).whole(said.as_bytes(), &mut record).expect("fine");
    assert!(record.0.iter().any(|piece| piece.contains("reason: Stop")), "{:?}", record.0);
}

#[test]
fn an_error_inside_a_200_is_reported_as_it_came() {
    for error in [
        r#"{"error":{"code":"InternalServiceError","message":"..","type":"InternalServerError","param":""}}"#,
        r#"{"error":"Model too busy","error_type":"overloaded"}"#,
        r#"{"error":{"message":"x"},"choices":[]}"#,
        r#"{"code":11202,"message":"AppIdQpsOverFlowError","sid":"cha"}"#,
        r#"{"code":"11202","message":"AppIdQpsOverFlowError","sid":"cha"}"#,
        r#"{"code":"InvalidApiKey","message":"no","request_id":"7f"}"#,
        r#"{"code":10013,"message":"audit","sid":"cha","choices":[{"delta":{"content":"x"},"index":0}]}"#,
    ] {
        for stream in [sse(&[error], true), sse(&[BAIDU[0], BAIDU[1], error], true)] {
            assert_eq!(
                spark().pieces(&stream).1,
                Err(Failure::Reported(error.as_bytes().to_vec())),
                "{error}"
            );
        }
        assert_eq!(spark().whole(error), Err(Failure::Reported(error.as_bytes().to_vec())));
    }
    let named = PLAIN.pieces("event: error\ndata: overloaded\n\n").1;
    assert_eq!(named, Err(Failure::Reported(br#"{"error":"overloaded"}"#.to_vec())));
    let nothing = r#"{"error":null,"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}"#;
    assert_eq!(ended_by(PLAIN, &[nothing]), Ok(Ending::Complete));
}

#[test]
fn a_late_filter_ends_the_answer_but_an_early_one_refuses_it() {
    for code in [10014, 10019] {
        let report = format!(r#"{{"code":{code},"message":"sensitive","sid":"cha"}}"#);
        let (pieces, ending) = spark().pieces(&sse(&[SPARK_V1[0], &report], false));
        assert_eq!(ending, Ok(Ending::Complete));
        assert_eq!(pieces.last().map(String::as_str), Some("Finish { choice: 0, reason: ContentFilter }"));
        let early = spark().pieces(&sse(&[&report], true)).1;
        assert_eq!(early, Err(Failure::Reported(report.into_bytes())));
    }
    let whole =
        r#"{"code":10019,"message":"s","sid":"c","choices":[{"message":{"content":"Hi"},"index":0}]}"#;
    let named = whole.replace("\"index\":0", "\"index\":0,\"finish_reason\":\"stop\"");
    assert_eq!(spark().whole(&named), spark().whole(whole));
    let answer = spark().whole(whole).expect("the text is there");
    assert_eq!(answer["choices"][0]["message"]["content"], "Hi");
    assert_eq!(answer["choices"][0]["finish_reason"], "content_filter");
}

#[test]
fn baidus_safety_verdict_is_a_content_filter() {
    let flagged =
        r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop","flag":2,"ban_round":-1}]}"#;
    let answer = PLAIN.assembled(&sse(&[flagged], true));
    assert_eq!(answer["choices"][0]["finish_reason"], "content_filter");
    assert_eq!(answer["choices"][0]["message"]["ban_round"], -1);
    // Older servers name a reason in every chunk.
    let old = |end: bool, clear: bool| {
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"a"}},"finish_reason":"normal"}}],"is_end":{end},"need_clear_history":{clear}}}"#
        )
    };
    assert_eq!(ended_by(PLAIN, &[&old(false, false)]), Ok(Ending::Cut));
    assert_eq!(finish(&sse(&[&old(false, false), &old(true, false)], false)), "stop");
    assert_eq!(finish(&sse(&[&old(false, false), &old(true, true)], false)), "content_filter");
}

#[test]
fn what_is_no_answer_is_malformed() {
    for body in [
        "",
        "<html>",
        "{",
        "[]",
        "7",
        "{}",
        r#"{"choices":[]}"#,
        r#"{"choices":null}"#,
        r#"{"choices":[{}]}"#,
        r#"{"choices":[7]}"#,
    ] {
        assert!(matches!(PLAIN.whole(body), Err(Failure::Malformed(_))), "{body}");
    }
    for chunk in ["<html>", "{\"choices\":[", "[]", r#"{"choices":[{"index":128,"delta":{}}]}"#] {
        assert!(matches!(ended_by(PLAIN, &[chunk]), Err(Failure::Malformed(_))), "{chunk}");
    }
}

#[test]
fn a_malformed_answer_is_not_quoted_in_the_log() {
    let Err(Failure::Malformed(message)) = PLAIN.whole("{\"secret answer\": nonsense") else { panic!() };
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn tool_calls_are_told_apart_however_they_are_numbered() {
    let tools = |calls: &[&str]| {
        let chunks: Vec<String> = calls
            .iter()
            .map(|call| format!(r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{call}]}}}}]}}"#))
            .collect();
        let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
        calls_of(&PLAIN.assembled(&sse(&chunks, true)))
    };
    let two = vec![("a".into(), "f".into(), "{\"x\":1}".into()), ("b".into(), "g".into(), "{}".into())];
    // Interleaved by index; arguments before the name.
    assert_eq!(
        tools(&[
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\""}}"#,
            r#"{"index":1,"id":"b","function":{"arguments":"{"}}"#,
            r#"{"index":0,"function":{"arguments":":1}"}}"#,
            r#"{"index":1,"function":{"name":"g","arguments":"}"}}"#,
        ]),
        two
    );
    // All under one index.
    assert_eq!(
        tools(&[
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#,
            r#"{"index":0,"id":"b","function":{"name":"g","arguments":"{"}}"#,
            r#"{"index":0,"id":"","function":{"arguments":"}"}}"#,
        ]),
        two
    );
    // No index at all; arguments parsed; the name repeated.
    assert_eq!(
        tools(&[
            r#"{"id":"a","function":{"name":"f","arguments":{"x":1}}},{"id":"b","function":{"name":"g","arguments":"{"}}"#,
            r#"{"id":"b","function":{"name":"g","arguments":"}"}}"#,
        ]),
        two
    );
    let whole = r#"{"choices":[{"message":{"content":"","tool_calls":[{"index":0,"id":"","function":{"name":"f","arguments":null}},{"index":0,"id":"","function":{"name":"f","arguments":{}}}]}}]}"#;
    let answer = PLAIN.whole(whole).expect("valid");
    assert_eq!(calls(&answer).as_array().map(Vec::len), Some(2));
    assert!(calls(&answer)[1]["id"].as_str().is_some_and(|id| id.starts_with("call_")));
}

fn calls_of(answer: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let call = |call: &Value| {
        (text(&call["id"]), text(&call["function"]["name"]), text(&call["function"]["arguments"]))
    };
    calls(answer).as_array().expect("calls").iter().map(call).collect()
}

#[test]
fn extras_survive_and_transport_does_not() {
    let chunk = r#"{"id":"","object":"x","model":"real-name","citations":["u"],"request_id":null,"error":null,"choices":[{"index":0,"moderation_hit_type":"violence","content":"not this",
        "delta":{"content":[{"type":"text","text":"a"}],"reasoning":"hm","annotations":[{"type":"url_citation"}],"audio":null,"tool_calls":[]},"finish_reason":"stop"}]}"#;
    let chunk = chunk.replace('\n', "");
    let answer = PLAIN.assembled(&sse(&[&chunk], true));
    assert_eq!(answer["model"], "m");
    assert!(answer["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-")));
    assert_eq!(answer["citations"], json!(["u"]));
    assert!(answer.get("request_id").is_none());
    let message = &answer["choices"][0]["message"];
    assert_eq!(
        message,
        &json!({"role": "assistant", "content": "a", "refusal": null, "reasoning_content": "hm",
            "annotations": [{"type": "url_citation"}], "moderation_hit_type": "violence"})
    );
}

#[test]
fn openais_rarer_answers_survive() {
    let refusal =
        r#"{"choices":[{"index":0,"message":{"content":null,"refusal":"no"},"finish_reason":"stop"}]}"#;
    let message = &PLAIN.whole(refusal).expect("valid")["choices"][0]["message"];
    assert_eq!((&message["refusal"], &message["content"]), (&json!("no"), &Value::Null));

    let custom = [
        r#"{"choices":[{"index":0,"delta":{"content":null,"tool_calls":[{"index":0,"id":"c","type":"custom","custom":{"name":"sql","input":""}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"custom":{"input":"SELECT 1"}}]},"finish_reason":"tool_calls"}]}"#,
    ];
    let answer = PLAIN.assembled(&sse(&custom, true));
    assert_eq!(
        calls(&answer),
        json!([{"id": "c", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}])
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");

    let function = [
        r#"{"choices":[{"index":0,"delta":{"function_call":{"name":"f","arguments":""}}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"function_call":{"arguments":"{}"}},"finish_reason":"function_call"}]}"#,
    ];
    let answer = PLAIN.assembled(&sse(&function, true));
    assert_eq!(answer["choices"][0]["message"]["function_call"], json!({"name": "f", "arguments": "{}"}));
    assert_eq!(answer["choices"][0]["finish_reason"], "function_call");
    let answer = PLAIN.assembled(&sse(TWO_CHOICES, true));
    assert_eq!(answer["choices"][1]["message"]["content"], "b");
    assert_eq!(answer["choices"][1]["finish_reason"], "length");
}

#[test]
fn events_that_are_no_chunks_are_passed_over() {
    let stream =
        format!("event: ping\ndata: {{}}\n\ndata: {{\"type\":\"ping\"}}\n\ndata:\n\n{}", sse(BAIDU, true));
    assert_eq!(PLAIN.pieces(&stream), PLAIN.pieces(&sse(BAIDU, true)));
}

#[test]
fn usage_beside_a_choice_and_deepseeks_cache_are_read() {
    let chunk = r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop","usage":{"prompt_tokens":9,"completion_tokens":1,"prompt_cache_hit_tokens":4}}]}"#;
    let usage = &PLAIN.assembled(&sse(&[chunk], true))["usage"];
    assert_eq!(
        (&usage["total_tokens"], &usage["prompt_tokens_details"]["cached_tokens"]),
        (&json!(10), &json!(4))
    );
}

proptest! {
    #[test]
    fn no_json_makes_us_panic(json in mutated(
        [OPENAI, QWEN, ZHIPU, BAIDU, DOUBAO, SPARK_V1, SPARK_V2].concat().into_iter()
            .chain([OPENAI_WHOLE, QWEN_WHOLE, SPARK_V1_WHOLE]).map(str::to_owned).collect()
    )) {
        PLAIN.swallow(&json);
        spark().swallow(&json);
    }
}
