//! Streams against the samples of the facts, event by event.

use super::*;

/// The data of every event, with what is random or a time blanked out.
fn raw(reply: &Reply) -> Vec<String> {
    let blank = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        for name in ["id", "created", "model", "sid", "request_id", "responseId", "modelVersion"] {
            if let Some(fields) = value.as_object_mut() {
                fields.shift_remove(name);
            }
        }
        if let Some(message) = value.get_mut("message").and_then(Value::as_object_mut) {
            message.shift_remove("id");
        }
        value.to_string()
    };
    let text = reply.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
    data.map(|line| if line == "[DONE]" { line.to_owned() } else { blank(line) }).collect()
}

async fn stream(platform: &str, more: Value) -> Vec<String> {
    let fake = Fake::start().await;
    let mut all = json!({"stream":true});
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    raw(&Door::named(platform).say(&fake, "Hi", all).await)
}

fn usage() -> Value {
    json!({"stream_options":{"include_usage":true}})
}

#[tokio::test]
async fn openai() {
    let events = stream("openai", usage()).await;
    let head = r#""object":"chat.completion.chunk","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":["#;
    let chunk = |delta: &str, reason: &str| {
        format!(
            "{{{head}{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{reason}}}],\"usage\":null}}"
        )
    };
    assert_eq!(
        events[..4],
        [
            chunk(r#"{"role":"assistant","content":"","refusal":null}"#, "null"),
            chunk(r#"{"content":"You "}"#, "null"),
            chunk(r#"{"content":"said: "}"#, "null"),
            chunk(r#"{"content":"Hi"}"#, "null"),
        ]
    );
    assert_eq!(events[4], chunk("{}", "\"stop\""));
    assert!(
        events[5]
            .contains(r#""choices":[],"usage":{"prompt_tokens":1,"completion_tokens":3,"total_tokens":4"#),
        "{}",
        events[5]
    );
    assert_eq!(events[6..], ["[DONE]"]);
    let without = stream("openai", json!({})).await;
    assert!(without.iter().all(|event| !event.contains("usage")), "no usage unless asked");
}

#[tokio::test]
async fn qwen() {
    let events = stream("qwen", usage()).await;
    assert!(
        events[0].contains(r#""delta":{"content":"","role":"assistant"}"#)
            && events[0].contains(r#""usage":null"#)
    );
    assert!(events[1].contains(r#""delta":{"content":"You "}"#));
    assert!(
        events[4].contains(r#""delta":{"content":""}"#) && events[4].contains(r#""finish_reason":"stop""#)
    );
    assert!(events[5].contains(r#""choices":[],"usage":{"prompt_tokens":1,"completion_tokens":3,"total_tokens":4,"prompt_tokens_details":{"cached_tokens":0}}"#));
    let thinking = stream("qwen", json!({"enable_thinking":true})).await;
    assert!(thinking[0].contains(r#"{"content":null,"role":"assistant","reasoning_content":""}"#));
    assert!(thinking[1].contains(r#"{"content":null,"reasoning_content":"Let "}"#));
    assert!(thinking[7].contains(r#"{"content":"You ","reasoning_content":null}"#), "{}", thinking[7]);
}

#[tokio::test]
async fn qwens_later_tool_deltas_have_an_empty_id_and_no_name() {
    let fake = Fake::start().await;
    let tools = json!([{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]);
    let events =
        raw(&Door::named("qwen").say(&fake, "weather in Oslo", json!({"stream":true,"tools":tools})).await);
    assert!(
        events[0].contains(r#""content":null,"role":"assistant","tool_calls":[{"index":0,"id":"call_"#),
        "{}",
        events[0]
    );
    assert!(
        events[1].contains(
            r#""tool_calls":[{"index":0,"function":{"arguments":"{\"city"},"id":"","type":"function"}]"#
        ),
        "{}",
        events[1]
    );
    assert!(
        events
            .iter()
            .any(|event| event.contains(r#""delta":{},"logprobs":null,"finish_reason":"tool_calls""#))
    );
}

#[tokio::test]
async fn zhipu() {
    let events = stream("zhipu", json!({})).await;
    assert_eq!(
        events[0],
        r#"{"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"You "}}]}"#
    );
    assert_eq!(
        events[3],
        r#"{"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":3,"total_tokens":4,"prompt_tokens_details":{"cached_tokens":0}}}"#
    );
    assert_eq!(events[4..], ["[DONE]"]);
}

#[tokio::test]
async fn doubao() {
    let events = stream("doubao", usage()).await;
    assert_eq!(
        events[0],
        r#"{"object":"chat.completion.chunk","service_tier":"default","choices":[{"index":0,"delta":{"role":"assistant","content":"You "},"logprobs":null,"finish_reason":null}],"usage":null}"#
    );
    assert!(
        events[3]
            .contains(r#""delta":{"role":"assistant","content":""},"finish_reason":"stop"}],"usage":null"#),
        "{}",
        events[3]
    );
    assert!(events[4].contains(r#""choices":[],"usage":{"prompt_tokens":1"#));
}

#[tokio::test]
async fn baidu_puts_usage_into_the_finish_and_comments_in_between() {
    let fake = Fake::start().await;
    let reply = Door::named("baidu")
        .say(&fake, "Hi", json!({"stream":true,"stream_options":{"include_usage":true}}))
        .await;
    assert!(reply.text().contains("\n: keep-alive\n"));
    let events = raw(&reply);
    assert_eq!(
        events[0],
        r#"{"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"You "},"finish_reason":null,"flag":0}]}"#
    );
    assert_eq!(
        events[3],
        r#"{"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop","flag":0}],"usage":{"prompt_tokens":1,"completion_tokens":3,"total_tokens":4}}"#
    );
}

#[tokio::test]
async fn spark_has_no_finish_reason_and_usage_with_the_last_words() {
    let fake = Fake::start().await;
    let reply = Door::named("spark").say(&fake, "Hi", json!({"stream":true})).await;
    assert!(reply.text().starts_with("data:{\"code\":0,\"message\":\"Success\",\"sid\":\"cha"));
    assert!(!reply.text().contains("finish_reason") && reply.text().ends_with("data:[DONE]\n\n"));
    let events = raw(&reply);
    assert_eq!(
        events[0],
        r#"{"code":0,"message":"Success","choices":[{"index":0,"delta":{"role":"assistant","content":"You "}}]}"#
    );
    assert_eq!(
        events[2],
        r#"{"code":0,"message":"Success","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}],"usage":{"prompt_tokens":1,"completion_tokens":3,"total_tokens":4}}"#
    );
    let whole = Door::named("spark").say(&fake, "Hi", json!({})).await.json();
    let keys: Vec<&String> = whole.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["code", "message", "sid", "choices", "usage"]);
    let second = Door { path: "/spark/v2/chat/completions", model: "spark-x", ..Door::named("spark") };
    let events = raw(&second.say(&fake, "Hi", json!({"stream":true})).await);
    assert!(events[0].contains(r#"{"role":"assistant","content":"","reasoning_content":"Let "}"#));
    let last = &events[events.len() - 2];
    assert!(
        last.contains(
            r#""delta":{"role":"assistant","content":""}}],"usage":{"prompt_tokens":1,"completion_tokens":9"#
        ),
        "{last}"
    );
    let tools = json!([{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]);
    let called =
        Door::named("spark").say(&fake, "weather in Oslo and Rome", json!({ "tools": tools })).await.json();
    assert!(
        called["choices"][0]["message"]["tool_calls"].is_object(),
        "one call as an object without the switch: {called}"
    );
}

#[tokio::test]
async fn claude_names_its_events() {
    let fake = Fake::start().await;
    let reply = claude(&fake, "Hi", json!({"stream":true})).await;
    let text = reply.text();
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    let events = raw(&reply);
    assert_eq!(
        events[0],
        r#"{"type":"message_start","message":{"type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"output_tokens":1}}}"#
    );
    assert_eq!(
        events[1],
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#
    );
    assert_eq!(
        events[3],
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"You "}}"#
    );
    assert!(events[7].contains(r#""delta":{"stop_reason":"end_turn","stop_sequence":null,"stop_details":null},"usage":{"output_tokens":3"#));
    assert_eq!(reply.header("anthropic-ratelimit-requests-reset"), "2026-11-21T02:01:00Z");
    let signed = claude(&fake, "Hi", json!({"stream":true,"thinking":{"type":"adaptive"}})).await.text();
    assert!(
        signed.contains(r#"{"type":"thinking_delta","thinking":"Let "}"#)
            && signed.contains(r#""type":"signature_delta""#)
    );
}

#[tokio::test]
async fn gemini_ends_lines_with_crlf_and_its_stream_with_nothing() {
    let fake = Fake::start().await;
    let reply = gemini(&fake, "gemini-2.0-flash", true, "Hi", json!({})).await;
    assert!(reply.text().ends_with("}\r\n\r\n") && !reply.text().contains("[DONE]"));
    let events = raw(&reply);
    assert_eq!(
        events[0],
        r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"You "}]},"index":0}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1,"totalTokenCount":2,"promptTokensDetails":[{"modality":"TEXT","tokenCount":1}]}}"#
    );
    assert!(events[2].contains(r#"[{"text":"Hi"}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":3,"totalTokenCount":4"#), "{}", events[2]);
    let body = json!({"contents":[{"parts":[{"text":"Hi"}]}]});
    let array = fake
        .post(
            "/gemini/v1beta/models/gemini-2.0-flash:streamGenerateContent",
            &[("x-goog-api-key", "AIza-a")],
            &body,
        )
        .await;
    assert_eq!(array.json().as_array().unwrap().len(), 3, "without alt=sse it is one array");
}
