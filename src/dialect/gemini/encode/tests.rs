use std::collections::HashMap;

use super::super::super::{Dialect, NoRecall, Quirks, Recall, Unsupported, laws};
use super::*;
use crate::api::ask::Ask;
use crate::fault::Kind;

struct Kept(HashMap<String, Value>);

impl Recall for Kept {
    fn recall(&self, tool_call_id: &str) -> Option<Value> {
        self.0.get(tool_call_id).cloned()
    }
}

fn job<'a>(quirks: &[Quirk], unsupported: Unsupported) -> Job<'a> {
    Job {
        model: "gemini-3.8-flash",
        stream: false,
        unsupported,
        quirks: quirks.iter().copied().collect::<Quirks>(),
        max_output: None,
        recall: &NoRecall,
    }
}

fn request(fields: Value) -> ChatRequest<'static> {
    let mut body = json!({"model": "smart", "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().expect("object").extend(fields.as_object().expect("object").clone());
    let ask = Ask::chat(body.to_string().into()).expect("an ask");
    ChatRequest::parse(Box::leak(Box::new(ask))).expect("a request")
}

fn run(fields: Value, job: &Job<'_>) -> Result<(Value, Vec<String>), Fault> {
    let encoded = encode(&request(fields), job)?;
    Ok((serde_json::from_slice(&encoded.body).expect("JSON"), encoded.dropped))
}

/// The body for `fields`, of which nothing may be left out.
fn body(fields: Value, quirks: &[Quirk]) -> Value {
    let (body, dropped) = run(fields, &job(quirks, Unsupported::Reject)).expect("encodes");
    assert!(dropped.is_empty(), "{dropped:?}");
    body
}

fn param_at_fault(fields: Value) -> String {
    let fault = run(fields, &job(&[], Unsupported::Drop)).expect_err("a bad request");
    assert_eq!(fault.kind().row().status, 400);
    fault.get_param().expect("a parameter").to_owned()
}

fn function() -> Value {
    json!([{"type": "function", "function": {"name": "get_weather", "description": "..", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": false}}}])
}

fn contents(list: Value) -> Value {
    body(json!({"messages": list}), &[])["contents"].clone()
}

#[test]
fn the_smallest_request() {
    let encoded = encode(&request(json!({})), &job(&[], Unsupported::Reject)).expect("encodes");
    assert_eq!(encoded.path, "/models/gemini-3.8-flash:generateContent");
    assert_eq!(
        String::from_utf8_lossy(&encoded.body),
        r#"{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}"#
    );
    let streaming = Job { stream: true, model: "models/gemini-3.8-flash", ..job(&[], Unsupported::Reject) };
    let encoded = encode(&request(json!({})), &streaming).expect("encodes");
    assert_eq!(encoded.path, "/models/gemini-3.8-flash:streamGenerateContent?alt=sse");
}

#[test]
fn each_parameter_has_its_place() {
    let tools = function();
    let with = |choice: Value| json!({"tools": tools, "tool_choice": choice});
    let calling = "/toolConfig/functionCallingConfig";
    let cut = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    for (fields, pointer, expected) in [
        (json!({"max_tokens": 9}), "/generationConfig/maxOutputTokens", json!(9)),
        (json!({"max_completion_tokens": 8}), "/generationConfig/maxOutputTokens", json!(8)),
        (json!({"temperature": 1.5}), "/generationConfig/temperature", json!(1.5)),
        (json!({"temperature": 3}), "/generationConfig/temperature", json!(2.0)),
        (json!({"top_p": 0.9}), "/generationConfig/topP", json!(0.9)),
        (json!({"top_k": 5}), "/generationConfig/topK", json!(5)),
        (json!({"n": 2}), "/generationConfig/candidateCount", json!(2)),
        (json!({"seed": -7}), "/generationConfig/seed", json!(-7)),
        (json!({"seed": 4294967296_i64}), "/generationConfig/seed", json!(2)),
        (json!({"presence_penalty": 0.5}), "/generationConfig/presencePenalty", json!(0.5)),
        (json!({"frequency_penalty": 0.5}), "/generationConfig/frequencyPenalty", json!(0.5)),
        (json!({"stop": "END"}), "/generationConfig/stopSequences", json!(["END"])),
        (
            json!({"logprobs": true, "top_logprobs": 3}),
            "/generationConfig",
            json!({"responseLogprobs": true, "logprobs": 3}),
        ),
        (
            json!({"modalities": ["text", "image"]}),
            "/generationConfig/responseModalities",
            json!(["TEXT", "IMAGE"]),
        ),
        (
            json!({"response_format": {"type": "json_object"}}),
            "/generationConfig",
            json!({"responseMimeType": "application/json"}),
        ),
        (json!({"service_tier": "priority"}), "/serviceTier", json!("priority")),
        (json!({"safety_settings": []}), "/safetySettings", json!([])),
        (json!({"extra_body": {"google": {"cached_content": "c"}}}), "/cachedContent", json!("c")),
        (
            json!({"extra_body": {"google": {"thinking_config": {"thinking_budget": 5}}}}),
            "/generationConfig/thinkingConfig",
            json!({"thinking_budget": 5}),
        ),
        (with(json!("auto")), calling, json!({"mode": "AUTO"})),
        (with(json!("none")), calling, json!({"mode": "NONE"})),
        (with(json!("required")), calling, json!({"mode": "ANY"})),
        (
            with(json!({"type": "function", "function": {"name": "get_weather"}})),
            calling,
            json!({"mode": "ANY", "allowedFunctionNames": ["get_weather"]}),
        ),
        (
            with(json!("auto")),
            "/tools",
            json!([{"functionDeclarations": [{"name": "get_weather", "description": "..", "parameters": cut}]}]),
        ),
    ] {
        assert_eq!(body(fields.clone(), &[]).pointer(pointer), Some(&expected), "{fields}");
    }
    let bounded = Job { max_output: Some(100), ..job(&[], Unsupported::Reject) };
    let (bounded, _) = run(json!({"max_tokens": 500}), &bounded).expect("encodes");
    assert_eq!(bounded["generationConfig"]["maxOutputTokens"], 100);
}

#[test]
fn what_changes_nothing_is_not_sent_and_not_refused() {
    let bare = body(json!({}), &[]);
    for fields in [
        json!({"n": 1}),
        json!({"presence_penalty": 0, "frequency_penalty": 0.0}),
        json!({"logprobs": false}),
        json!({"logit_bias": {}}),
        json!({"modalities": ["text"]}),
        json!({"response_format": {"type": "text"}}),
        json!({"reasoning_effort": "none"}),
        json!({"service_tier": "default"}),
        json!({"tools": [], "tool_choice": "none", "parallel_tool_calls": true}),
        json!({"stop": []}),
    ] {
        assert_eq!(body(fields.clone(), &[]), bare, "{fields}");
    }
}

#[test]
fn what_gemini_cannot_do_is_refused_or_dropped_by_the_routes_word() {
    for (fields, param) in [
        (json!({"logit_bias": {"1": 2}}), "logit_bias"),
        (json!({"modalities": ["audio"]}), "modalities"),
        (json!({"audio": {"voice": "x"}}), "audio"),
        (json!({"functions": [{"name": "f"}]}), "functions"),
        (json!({"web_search_options": {}}), "web_search_options"),
        (json!({"chat_template_kwargs": {}}), "chat_template_kwargs"),
        (json!({"extra_body": {"google": {"odd": 1}}}), "extra_body.google.odd"),
        (json!({"extra_body": {"other": {}}}), "extra_body.other"),
        (json!({"stop": ["1", "2", "3", "4", "5", "6"]}), "stop"),
        (json!({"reasoning_effort": "high"}), "reasoning_effort"),
        (json!({"tools": function(), "parallel_tool_calls": false}), "parallel_tool_calls"),
        (json!({"tools": [{"type": "custom", "custom": {"name": "x"}}]}), "tools[0]"),
        (json!({"tools": function(), "tool_choice": {"type": "allowed_tools"}}), "tool_choice"),
    ] {
        let fault = run(fields.clone(), &job(&[], Unsupported::Reject)).expect_err("refused");
        assert_eq!((fault.get_param(), fault.kind()), (Some(param), Kind::Unsupported), "{fields}");
        let (_, names) = run(fields.clone(), &job(&[], Unsupported::Drop)).expect("dropped");
        assert_eq!(names, [param], "{fields}");
    }
}

#[test]
fn advice_is_left_out_and_named_whatever_the_route_says() {
    for (fields, name) in [
        (json!({"metadata": {"a": "b"}}), "metadata"),
        (json!({"user": "u"}), "user"),
        (json!({"safety_identifier": "u"}), "safety_identifier"),
        (json!({"store": true}), "store"),
        (json!({"service_tier": "scale"}), "service_tier"),
        (json!({"prompt_cache_key": "k"}), "prompt_cache_key"),
        (json!({"parallel_tool_calls": false}), "parallel_tool_calls"),
        (json!({"messages": [{"role": "user", "name": "ann", "content": "Hi"}]}), "messages.name"),
    ] {
        let (body, names) = run(fields.clone(), &job(&[], Unsupported::Reject)).expect("encodes");
        assert_eq!(names, [name], "{fields}");
        assert_eq!(body, self::body(json!({}), &[]), "{fields}");
    }
    let warm = json!({"temperature": 0.1, "top_p": 0.5, "top_k": 3});
    let (cold, names) = run(warm, &job(&[Quirk::NoSampling], Unsupported::Reject)).expect("encodes");
    assert_eq!(names, ["temperature", "top_p", "top_k"]);
    assert_eq!(cold, self::body(json!({}), &[]));
}

#[test]
fn schemas_go_where_the_model_takes_them() {
    let tools =
        body(json!({"tools": function()}), &[Quirk::JsonSchemaTools])["tools"][0]["functionDeclarations"][0]
            .clone();
    assert_eq!(tools["parametersJsonSchema"], function()[0]["function"]["parameters"]);
    assert!(tools.get("parameters").is_none());
    for quirks in [&[][..], &[Quirk::JsonSchemaTools]] {
        let none = json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}, {"type": "function", "function": {"name": "g"}}]});
        assert_eq!(
            body(none, quirks)["tools"],
            json!([{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}])
        );
    }
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"a": {"const": "x"}}}}}});
    let config = body(format.clone(), &[])["generationConfig"].clone();
    assert_eq!(
        config["responseSchema"],
        json!({"type": "object", "properties": {"a": {"type": "string", "enum": ["x"]}}})
    );
    assert_eq!(config["responseMimeType"], "application/json");
    let config = body(format, &[Quirk::JsonSchemaTools])["generationConfig"].clone();
    assert_eq!(config["responseJsonSchema"], json!({"type": "object", "properties": {"a": {"enum": ["x"]}}}));
    assert!(config.get("responseSchema").is_none());
    let strict = json!({"tools": [{"type": "function", "function": {"name": "f", "strict": true}}]});
    assert_eq!(run(strict, &job(&[], Unsupported::Reject)).expect("encodes").1, ["tools.strict"]);
    for (fields, param) in [
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}),
            "response_format",
        ),
        (json!({"response_format": {"type": "xml"}}), "response_format"),
        (
            json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}),
            "tools[0].function.parameters",
        ),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"tools": function(), "tool_choice": "maybe"}), "tool_choice"),
        (json!({"reasoning_effort": "huge"}), "reasoning_effort"),
    ] {
        assert_eq!(param_at_fault(fields.clone()), param, "{fields}");
    }
}

#[test]
fn effort_follows_the_models_quirks() {
    let config = |effort: &str, quirk, model| {
        let job = Job { model, ..job(&[quirk], Unsupported::Reject) };
        run(json!({"reasoning_effort": effort}), &job)
            .map(|(body, _)| body["generationConfig"]["thinkingConfig"].clone())
    };
    for (effort, level, budget) in [
        ("minimal", "LOW", 1024),
        ("low", "LOW", 1024),
        ("medium", "HIGH", 8192),
        ("high", "HIGH", 24576),
        ("xhigh", "HIGH", 24576),
        ("max", "HIGH", 24576),
    ] {
        let by_level = config(effort, Quirk::ThinkingLevel, "gemini-3-pro").expect("encodes");
        assert_eq!(by_level, json!({"includeThoughts": true, "thinkingLevel": level}), "{effort}");
        let by_budget = config(effort, Quirk::ThinkingBudget, "gemini-2.5-pro").expect("encodes");
        assert_eq!(by_budget, json!({"includeThoughts": true, "thinkingBudget": budget}), "{effort}");
    }
    let flash = config("medium", Quirk::ThinkingLevel, "gemini-3.8-flash").expect("encodes");
    assert_eq!(flash["thinkingLevel"], "MEDIUM");
    let off = config("none", Quirk::ThinkingBudget, "gemini-2.5-flash").expect("encodes");
    assert_eq!(off, json!({"includeThoughts": false, "thinkingBudget": 0}));
    for (quirk, model) in [(Quirk::ThinkingBudget, "gemini-2.5-pro"), (Quirk::ThinkingLevel, "gemini-3-pro")]
    {
        assert_eq!(config("none", quirk, model).expect_err("cannot").get_param(), Some("reasoning_effort"));
    }
    let both = json!({"reasoning_effort": "low", "thinking_config": {"thinkingLevel": "HIGH"}});
    let (body, names) = run(both, &job(&[Quirk::ThinkingLevel], Unsupported::Reject)).expect("encodes");
    assert_eq!(body["generationConfig"]["thinkingConfig"], json!({"thinkingLevel": "HIGH"}));
    assert_eq!(names, ["reasoning_effort"]);
}

#[test]
fn a_tool_loop_becomes_alternate_turns_with_results_by_name() {
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let body = body(
        json!({"messages": [
            {"role": "system", "content": "One."},
            {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "Checking.", "tool_calls": [
                call("get_time-1", "get_weather", "{\"city\": \"Oslo\"}"), call("call_abc", "get_time", ""), call("c3", "list", "{}")]},
            {"role": "tool", "tool_call_id": "call_abc", "content": "noon"},
            {"role": "tool", "tool_call_id": "get_time-1", "content": " {\"celsius\": 12.10} "},
            {"role": "tool", "tool_call_id": "c3", "content": [{"type": "text", "text": "[1,"}, {"type": "text", "text": "2]"}]},
            {"role": "user", "content": "And now?"}]}),
        &[],
    );
    assert_eq!(body["systemInstruction"], json!({"parts": [{"text": "One."}, {"text": "Two."}]}));
    assert_eq!(
        body["contents"],
        json!([
            {"role": "user", "parts": [{"text": "Weather?"}]},
            {"role": "model", "parts": [
                {"text": "Checking."},
                {"functionCall": {"id": "get_time-1", "name": "get_weather", "args": {"city": "Oslo"}}},
                {"functionCall": {"name": "get_time", "args": {}}},
                {"functionCall": {"id": "c3", "name": "list", "args": {}}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "get_time-1", "name": "get_weather", "response": {"celsius": 12.10}}},
                {"functionResponse": {"name": "get_time", "response": {"result": "noon"}}},
                {"functionResponse": {"id": "c3", "name": "list", "response": {"result": "[1,2]"}}},
                {"text": "And now?"}]}])
    );
}

#[test]
fn images_sound_video_and_documents() {
    let part = |part: Value| contents(json!([{"role": "user", "content": [part]}]))[0]["parts"][0].clone();
    let inline = |mime: &str| json!({"inlineData": {"mimeType": mime, "data": "aGk="}});
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    assert_eq!(part(image("data:image/png;base64,aGk=")), inline("image/png"));
    assert_eq!(part(image("data:image/jpg;base64,aGk=")), inline("image/jpeg"));
    assert_eq!(
        part(image("https://a/b.png?x")),
        json!({"fileData": {"mimeType": "image/png", "fileUri": "https://a/b.png?x"}})
    );
    assert_eq!(part(image("https://youtu.be/x")), json!({"fileData": {"fileUri": "https://youtu.be/x"}}));
    for (format, mime) in [("wav", "audio/wav"), ("mp3", "audio/mp3")] {
        let audio = json!({"type": "input_audio", "input_audio": {"data": "aGk=", "format": format}});
        assert_eq!(part(audio), inline(mime));
    }
    assert_eq!(
        part(json!({"type": "video_url", "video_url": {"url": "data:video/mp4;base64,aGk="}})),
        inline("video/mp4")
    );
    let file = |file: Value| json!({"type": "file", "file": file});
    assert_eq!(
        part(file(json!({"file_data": "data:application/pdf;base64,aGk="}))),
        inline("application/pdf")
    );
    let googles = "https://generativelanguage.googleapis.com/v1beta/files/abc";
    assert_eq!(part(file(json!({"file_id": googles}))), json!({"fileData": {"fileUri": googles}}));
    for bad in [
        image("http://a/b.png"),
        image("data:image/png,hi"),
        file(json!({"file_id": "file-1"})),
        json!({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "midi"}}),
        json!({"type": "of_tomorrow"}),
    ] {
        let list = json!([{"role": "user", "content": "Hi"}, {"role": "user", "content": [bad]}]);
        assert_eq!(param_at_fault(json!({"messages": list})), "messages[1]", "{bad}");
    }
    // An image that a function gave stands after the results.
    let said = contents(json!([
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "r"}, image("data:image/png;base64,aGk=")]}]));
    assert_eq!(
        said[1]["parts"],
        json!([{"functionResponse": {"id": "c", "name": "f", "response": {"result": "r"}}}, inline("image/png")])
    );
}

#[test]
fn a_history_that_does_not_fit_is_a_clear_400() {
    let call = |arguments: &str| json!({"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]});
    let user = json!({"role": "user", "content": "Hi"});
    let answer = json!({"role": "tool", "tool_call_id": "c", "content": "r"});
    for (list, param) in [
        (json!([user, answer]), "messages[1]"),
        (json!([user, call("{}")]), "messages[1]"),
        (json!([user, call("{\"a\":"), answer]), "messages[1]"),
        (json!([user, {"role": "user", "content": ""}]), "messages[1]"),
        (json!([{"role": "system", "content": "only"}]), "messages"),
    ] {
        assert_eq!(param_at_fault(json!({"messages": list})), param, "{list}");
    }
}

/// Two steps of a tool loop; the first makes two calls, of which the first carries `state`.
fn tool_loop(state: Value) -> Value {
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let answer = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "r"});
    let mut first = call("a");
    if !state.is_null() {
        first["extra_content"] = state;
    }
    json!({"messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [first, call("b")]}, answer("a"), answer("b"),
        {"role": "assistant", "tool_calls": [call("c")]}, answer("c")]})
}

fn signatures(body: &Value) -> Vec<Value> {
    [(1, 0), (1, 1), (3, 0)]
        .map(|(turn, part)| body["contents"][turn]["parts"][part]["thoughtSignature"].clone())
        .to_vec()
}

#[test]
fn signatures_come_from_the_caller_then_from_memory_then_from_googles_stand_in() {
    use base64::Engine;
    let stand_in =
        json!(base64::engine::general_purpose::STANDARD.encode("skip_thought_signature_validator"));
    let needs = [Quirk::ThoughtSignatures];
    // Nothing known: the stand-in on the first call of each step, and only there.
    assert_eq!(
        signatures(&body(tool_loop(Value::Null), &needs)),
        [stand_in.clone(), Value::Null, stand_in.clone()]
    );
    // A model that needs none gets none.
    assert_eq!(signatures(&body(tool_loop(Value::Null), &[])), [Value::Null, Value::Null, Value::Null]);
    let state = |signature: &str| json!({"google": {"thought_signature": signature}});
    let kept = Kept(HashMap::from([("a".to_owned(), state("old")), ("c".to_owned(), state("Kept"))]));
    let recalling = Job { recall: &kept, ..job(&needs, Unsupported::Reject) };
    let (sent, _) = run(tool_loop(state("Echo")), &recalling).expect("encodes");
    assert_eq!(signatures(&sent), [json!("Echo"), Value::Null, json!("Kept")]);
}

#[test]
fn the_signature_of_a_text_goes_back_with_the_text() {
    let said = contents(json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes", "extra_content": {"google": {"thought_signature": "S"}}},
        {"role": "user", "content": "More"}]));
    assert_eq!(said[1]["parts"], json!([{"text": "Yes", "thoughtSignature": "S"}]));
}

#[test]
fn every_decoded_answer_of_ours_can_be_sent_back() {
    let part = json!({"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "CpQB"});
    let answer = json!({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]});
    let answer = laws::whole(Dialect::Gemini, answer.to_string().as_bytes()).expect("whole");
    let message = &answer["choices"][0]["message"];
    let body = body(
        json!({"messages": [
            {"role": "user", "content": "Hi"}, message,
            {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "r"}]}),
        &[Quirk::ThoughtSignatures],
    );
    assert_eq!(body["contents"][1]["parts"], json!([part]));
}
