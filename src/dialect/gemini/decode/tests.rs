use super::super::super::laws::{law, nonsense_law, read, same_answer, streamed, whole, whole_law};
use super::super::super::{Dialect, Ending, Failure};
use serde_json::{Value, json};

const GEMINI: Dialect = Dialect::Gemini;

fn stream(chunks: &[Value]) -> Vec<u8> {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect::<String>().into_bytes()
}

/// One chunk of one candidate.
fn chunk(parts: Value, finish: Option<&str>) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if let Some(reason) = finish {
        candidate["finishReason"] = json!(reason);
    }
    json!({"candidates": [candidate], "modelVersion": "gemini-3.8-flash", "responseId": "x1"})
}

fn counted(mut chunk: Value, usage: Value) -> Value {
    chunk["usageMetadata"] = usage;
    chunk
}

fn plain() -> Vec<Value> {
    vec![
        counted(chunk(json!([{"text": "Hel"}]), None), json!({"promptTokenCount": 4, "totalTokenCount": 4})),
        counted(
            chunk(json!([{"text": "lo \u{2028}é"}]), Some("STOP")),
            json!({"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6}),
        ),
    ]
}

fn calling() -> Vec<Value> {
    vec![
        chunk(json!([{"text": "Thinking about it", "thought": true}]), None),
        chunk(
            json!([
                {"functionCall": {"name": "get_weather", "args": {"city": "Oslo"}}, "thoughtSignature": "CpQB"},
                {"functionCall": {"id": "fc2", "name": "now"}}]),
            None,
        ),
        counted(
            chunk(json!([{"text": "", "thoughtSignature": "Last"}]), Some("STOP")),
            json!({"promptTokenCount": 40, "toolUsePromptTokenCount": 2, "cachedContentTokenCount": 7,
                   "candidatesTokenCount": 12, "thoughtsTokenCount": 30, "totalTokenCount": 84}),
        ),
    ]
}

#[test]
fn obeys_the_laws_of_streams() {
    law(GEMINI, &stream(&plain()));
    law(GEMINI, &stream(&calling()));
}

#[test]
fn the_streamed_answer_is_the_whole_answer() {
    let body = counted(
        chunk(json!([{"text": "Hello \u{2028}é"}]), Some("STOP")),
        json!({"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6}),
    );
    same_answer(GEMINI, &stream(&plain()), body.to_string().as_bytes());
    let answer = streamed(GEMINI, &stream(&plain()));
    assert_eq!(answer["id"], "x1");
    assert_eq!(answer["choices"][0]["message"]["content"], "Hello \u{2028}é");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");

    let chunks = calling();
    let parts: Vec<Value> = chunks
        .iter()
        .flat_map(|chunk| chunk["candidates"][0]["content"]["parts"].as_array().expect("parts").clone())
        .collect();
    let body = counted(chunk(json!(parts), Some("STOP")), chunks[2]["usageMetadata"].clone());
    same_answer(GEMINI, &stream(&chunks), body.to_string().as_bytes());
    whole_law(GEMINI, body.to_string().as_bytes());
    // Without `alt=sse` the same comes as a list.
    assert_eq!(
        whole(GEMINI, json!(chunks).to_string().as_bytes()),
        whole(GEMINI, body.to_string().as_bytes())
    );
}

#[test]
fn nonsense_is_survived() {
    let words = ["0", "4", "\"STOP\"", "\"parts\"", "\"content\"", "\"index\"", "\"candidates\"", "\"text\""];
    nonsense_law(GEMINI, &stream(&plain()), &words);
    let words =
        ["true", "{\"city\":\"Oslo\"}", "\"functionCall\"", "\"args\"", "\"CpQB\"", "\"name\"", "\"fc2\""];
    nonsense_law(GEMINI, &stream(&calling()), &words);
}

#[test]
fn calls_signatures_and_counts() {
    let answer = streamed(GEMINI, &stream(&calling()));
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "Thinking about it");
    assert_eq!(message["content"], Value::Null);
    assert_eq!(
        message["tool_calls"],
        json!([
            {"id": "call_#0", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\":\"Oslo\"}"},
             "extra_content": {"google": {"thought_signature": "CpQB"}}},
            {"id": "fc2", "type": "function", "function": {"name": "now", "arguments": "{}"}}])
    );
    assert_eq!(message["extra_content"], json!({"google": {"thought_signature": "Last"}}));
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    let usage = &answer["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(42), &json!(42)));
    assert_eq!(usage["total_tokens"], 84);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 7);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 30);
    // Kept under the id that the caller saw.
    let reading = read(GEMINI, [&*stream(&calling())]);
    let kept: Vec<&String> = reading.pieces.iter().filter(|piece| piece.starts_with("Remember")).collect();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].contains("call_#0") && kept[0].contains("CpQB"), "{kept:?}");
}

#[test]
fn usage_is_the_last_word_and_never_a_sum() {
    let chunks: Vec<Value> = (1..=3)
        .map(|n| {
            let usage =
                json!({"promptTokenCount": 10, "candidatesTokenCount": n * 5, "thoughtsTokenCount": 3});
            counted(chunk(json!([{"text": "a"}]), (n == 3).then_some("STOP")), usage)
        })
        .collect();
    let usage = streamed(GEMINI, &stream(&chunks))["usage"].clone();
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(10), &json!(18)));
}

#[test]
fn every_finish_reason_is_one_of_openais() {
    for (theirs, ours) in [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("CONTINUATION", "length"),
        ("SAFETY", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("IMAGE_PROHIBITED_CONTENT", "content_filter"),
        ("ESCALATION", "content_filter"),
        ("MODEL_ARMOR", "content_filter"),
        ("RECITATION", "content_filter"),
        ("IMAGE_RECITATION", "content_filter"),
        ("LANGUAGE", "content_filter"),
        ("OTHER", "content_filter"),
        ("IMAGE_OTHER", "content_filter"),
        ("NO_IMAGE", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "stop"),
        ("UNEXPECTED_TOOL_CALL", "stop"),
        ("TOO_MANY_TOOL_CALLS", "stop"),
        ("MALFORMED_RESPONSE", "stop"),
        ("OF_TOMORROW", "stop"),
    ] {
        let chunks = [chunk(json!([{"text": "a"}]), None), chunk(json!([]), Some(theirs))];
        law(GEMINI, &stream(&chunks));
        assert_eq!(streamed(GEMINI, &stream(&chunks))["choices"][0]["finish_reason"], ours, "{theirs}");
    }
}

#[test]
fn nonsense_without_content_can_be_tried_again() {
    for reason in [
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "PUP_LIMITED_DISABLED",
    ] {
        let only = json!({"candidates": [{"finishReason": reason}]});
        let reported = Err(Failure::Reported(only.to_string().into_bytes()));
        let reading = read(GEMINI, [&*stream(std::slice::from_ref(&only))]);
        assert_eq!((reading.end.clone(), reading.finishes()), (reported.clone(), 0), "{reason}");
        assert_eq!(
            whole(GEMINI, only.to_string().as_bytes()).map(|_| Ending::Complete),
            reported,
            "{reason}"
        );
    }
    let thought = [
        chunk(json!([{"text": "hm", "thought": true}]), None),
        chunk(json!([]), Some("MALFORMED_FUNCTION_CALL")),
    ];
    assert!(matches!(read(GEMINI, [&*stream(&thought)]).end, Err(Failure::Reported(_))));
    let content = [chunk(json!([{"text": "a"}]), None), chunk(json!([]), Some("MISSING_THOUGHT_SIGNATURE"))];
    assert!(matches!(read(GEMINI, [&*stream(&content)]).end, Err(Failure::Reported(_))));
}

#[test]
fn a_blocked_prompt_is_an_empty_filtered_answer() {
    let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}});
    law(GEMINI, &stream(std::slice::from_ref(&blocked)));
    same_answer(GEMINI, &stream(std::slice::from_ref(&blocked)), blocked.to_string().as_bytes());
    let answer = streamed(GEMINI, &stream(&[blocked]));
    assert_eq!(answer["choices"][0]["finish_reason"], "content_filter");
    assert_eq!(answer["choices"][0]["message"]["content"], "");
    assert_eq!(answer["usage"]["prompt_tokens"], 5);
    // A blocked candidate has no content either.
    let blocked = json!({"candidates": [{"finishReason": "SAFETY"}]});
    let answer = streamed(GEMINI, &stream(&[blocked]));
    assert_eq!(answer["choices"][0]["finish_reason"], "content_filter");
    assert_eq!(answer["choices"][0]["message"]["content"], "");
}

#[test]
fn a_stream_is_cut_until_every_candidate_has_its_reason() {
    let of = |index: u32, text: &str, reason: Option<&str>| {
        let mut candidate = json!({"index": index, "content": {"parts": [{"text": text}]}});
        if let Some(reason) = reason {
            candidate["finishReason"] = json!(reason);
        }
        json!({"candidates": [candidate]})
    };
    let chunks =
        [of(0, "a", None), of(1, "b", None), of(0, "c", Some("STOP")), of(1, "d", Some("MAX_TOKENS"))];
    law(GEMINI, &stream(&chunks));
    for count in 0..chunks.len() {
        let reading = read(GEMINI, [&*stream(&chunks[..count])]);
        assert_eq!((reading.end.clone(), reading.finishes()), (Ok(Ending::Cut), 0), "{count}");
    }
    let answer = streamed(GEMINI, &stream(&chunks));
    assert_eq!(answer["choices"][0]["message"]["content"], "ac");
    assert_eq!(answer["choices"][1]["message"]["content"], "bd");
    assert_eq!(answer["choices"][1]["finish_reason"], "length");
    // Usage alone, after the end, breaks nothing.
    let mut late = plain();
    late.push(json!({"usageMetadata": {"promptTokenCount": 9}}));
    assert_eq!(streamed(GEMINI, &stream(&late))["usage"]["prompt_tokens"], 9);
}

#[test]
fn logprobs_get_their_bytes() {
    let mut answer = chunk(json!([{"text": "é"}]), Some("STOP"));
    answer["candidates"][0]["logprobsResult"] = json!({
        "chosenCandidates": [{"token": "é", "tokenId": 7, "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "é", "logProbability": -0.5}, {"token": "e", "logProbability": -1.5}]}]});
    let top = json!([{"token": "é", "logprob": -0.5, "bytes": [195, 169]}, {"token": "e", "logprob": -1.5, "bytes": [101]}]);
    let expected = json!({"content": [{"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": top}], "refusal": null});
    let body = answer.to_string();
    assert_eq!(whole(GEMINI, body.as_bytes()).expect("whole")["choices"][0]["logprobs"], expected);
    law(GEMINI, &stream(&[answer]));
}

#[test]
fn images_are_shown_as_data_urls() {
    let chunks = [chunk(
        json!([{"inlineData": {"mimeType": "image/png", "data": "aGk="}}, {"executableCode": {"code": "1"}}]),
        Some("STOP"),
    )];
    let message = streamed(GEMINI, &stream(&chunks))["choices"][0]["message"].clone();
    assert_eq!(
        message["images"],
        json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}])
    );
}

#[test]
fn an_error_is_reported_bare_and_never_finished() {
    let report = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"slow down"}}"#;
    let failure = Failure::Reported(report.as_bytes().to_vec());
    for body in [report.to_owned(), format!("[{report}]"), format!(" [ {report} ]")] {
        assert_eq!(whole(GEMINI, body.as_bytes()), Err(failure.clone()), "{body}");
        let mut bytes = stream(&plain()[..1]);
        bytes.extend_from_slice(format!("data: {body}\n\n").as_bytes());
        let reading = read(GEMINI, [&*bytes]);
        assert_eq!((reading.end.clone(), reading.finishes()), (Err(failure.clone()), 0), "{body}");
    }
}

#[test]
fn what_is_no_answer_is_malformed() {
    let deep = "[".repeat(200_000);
    for body in [
        "",
        "<html>",
        "{}",
        "[]",
        "[[]]",
        "5",
        r#"{"candidates":[]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"a"#,
        r#"{"candidates":[{"content":{}}]}"#,
        deep.as_str(),
    ] {
        let failure = whole(GEMINI, body.as_bytes());
        assert!(matches!(failure, Err(Failure::Malformed(_))), "{:.60} {failure:?}", body);
    }
    // Whole JSON with content is an answer, although its reason was left out.
    let answer =
        whole(GEMINI, chunk(json!([{"text": "a"}]), None).to_string().as_bytes()).expect("an answer");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[test]
fn arguments_lose_the_margin_of_a_printed_answer_and_nothing_else() {
    let args = "{\n  \"city\": \"New  York\\n\\\"x\\\" \",\n  \"at\": [\n    1.50,\n    12345678901234567890123\n  ]\n}";
    let body = format!(
        r#"{{"candidates":[{{"content":{{"parts":[{{"functionCall":{{"name":"f","args":{args}}}}}]}},"finishReason":"STOP"}}]}}"#
    );
    let answer = whole(GEMINI, body.as_bytes()).expect("whole");
    assert_eq!(
        answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"],
        r#"{"city":"New  York\n\"x\" ","at":[1.50,12345678901234567890123]}"#
    );
}
