use std::collections::HashMap;

use super::super::super::{NoRecall, Quirks, Recall, Unsupported};
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
        model: "claude-opus-5-5",
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

fn dropped(fields: Value, quirks: &[Quirk]) -> (Value, Vec<String>) {
    run(fields, &job(quirks, Unsupported::Reject)).expect("encodes")
}

fn param_at_fault(fields: Value) -> String {
    let fault = run(fields, &job(&[], Unsupported::Drop)).expect_err("a bad request");
    assert_eq!(fault.kind().row().status, 400);
    fault.get_param().expect("a parameter").to_owned()
}

fn function() -> Value {
    json!([{"type": "function", "function": {"name": "get_weather", "description": "..", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}])
}

fn messages(list: Value) -> Value {
    body(json!({"messages": list}), &[])["messages"].clone()
}

#[test]
fn the_smallest_request() {
    let encoded = encode(&request(json!({})), &job(&[], Unsupported::Reject)).expect("encodes");
    assert_eq!(encoded.path, "/messages");
    assert_eq!(
        String::from_utf8_lossy(&encoded.body),
        r#"{"model":"claude-opus-5-5","max_tokens":4096,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}"#
    );
    let streaming = Job { stream: true, ..job(&[], Unsupported::Reject) };
    assert_eq!(run(json!({}), &streaming).expect("encodes").0["stream"], true);
}

#[test]
fn each_parameter_has_its_place() {
    let tools = function();
    let with = |extra: Value| {
        let mut fields = json!({"tools": tools});
        fields.as_object_mut().expect("object").extend(extra.as_object().expect("object").clone());
        fields
    };
    for (fields, pointer, expected) in [
        (json!({"max_tokens": 9}), "/max_tokens", json!(9)),
        (json!({"max_tokens": 9, "max_completion_tokens": 8}), "/max_tokens", json!(8)),
        (json!({"temperature": 0.5}), "/temperature", json!(0.5)),
        (json!({"temperature": 1.7}), "/temperature", json!(1.0)),
        (json!({"top_p": 0.9}), "/top_p", json!(0.9)),
        (json!({"top_k": 5}), "/top_k", json!(5)),
        (json!({"stop": "END"}), "/stop_sequences", json!(["END"])),
        (json!({"stop": ["A", "B"]}), "/stop_sequences", json!(["A", "B"])),
        (json!({"user": "u1"}), "/metadata", json!({"user_id": "u1"})),
        (json!({"safety_identifier": "s", "user": "u"}), "/metadata", json!({"user_id": "s"})),
        (json!({"service_tier": "auto"}), "/service_tier", json!("auto")),
        (json!({"service_tier": "default"}), "/service_tier", json!("standard_only")),
        (json!({"cache_control": {"type": "ephemeral"}}), "/cache_control", json!({"type": "ephemeral"})),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
            "/thinking/budget_tokens",
            json!(2000),
        ),
        (json!({"output_config": {"effort": "max"}}), "/output_config", json!({"effort": "max"})),
        (with(json!({})), "/tools/0/name", json!("get_weather")),
        (with(json!({})), "/tools/0/input_schema", tools[0]["function"]["parameters"].clone()),
        (with(json!({"tool_choice": "auto"})), "/tool_choice", json!({"type": "auto"})),
        (
            with(json!({"tool_choice": "none", "parallel_tool_calls": false})),
            "/tool_choice",
            json!({"type": "none"}),
        ),
        (with(json!({"tool_choice": "required"})), "/tool_choice", json!({"type": "any"})),
        (
            with(json!({"tool_choice": {"type": "function", "function": {"name": "get_weather"}}})),
            "/tool_choice",
            json!({"type": "tool", "name": "get_weather"}),
        ),
        (
            with(json!({"parallel_tool_calls": false})),
            "/tool_choice",
            json!({"type": "auto", "disable_parallel_tool_use": true}),
        ),
        (
            with(json!({"parallel_tool_calls": false, "tool_choice": "required"})),
            "/tool_choice",
            json!({"type": "any", "disable_parallel_tool_use": true}),
        ),
    ] {
        assert_eq!(body(fields.clone(), &[]).pointer(pointer), Some(&expected), "{fields}");
    }
}

#[test]
fn what_changes_nothing_is_not_sent_and_not_refused() {
    let bare = body(json!({}), &[]);
    for fields in [
        json!({"n": 1}),
        json!({"stream": false}),
        json!({"presence_penalty": 0, "frequency_penalty": 0.0}),
        json!({"logprobs": false, "top_logprobs": 0}),
        json!({"logit_bias": {}}),
        json!({"top_p": 1}),
        json!({"modalities": ["text"]}),
        json!({"response_format": {"type": "text"}}),
        json!({"reasoning_effort": "none"}),
        json!({"store": false}),
        json!({"tools": [], "tool_choice": "auto", "parallel_tool_calls": true}),
        json!({"stop": []}),
        json!({"temperature": null, "seed": null}),
    ] {
        assert_eq!(body(fields.clone(), &[]), bare, "{fields}");
    }
}

#[test]
fn what_claude_cannot_do_is_refused_or_dropped_by_the_routes_word() {
    let schema = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}});
    for (fields, param) in [
        (json!({"n": 2}), "n"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"top_logprobs": 2}), "top_logprobs"),
        (json!({"presence_penalty": 0.1}), "presence_penalty"),
        (json!({"frequency_penalty": -1}), "frequency_penalty"),
        (json!({"logit_bias": {"1": 2}}), "logit_bias"),
        (json!({"modalities": ["text", "audio"]}), "modalities"),
        (json!({"audio": {"voice": "x"}}), "audio"),
        (json!({"functions": [{"name": "f"}]}), "functions"),
        (json!({"function_call": "auto"}), "function_call"),
        (json!({"web_search_options": {}}), "web_search_options"),
        (json!({"enable_thinking": true}), "enable_thinking"),
        (json!({"stop": ["\n"]}), "stop"),
        (json!({"response_format": {"type": "json_object"}}), "response_format"),
        (json!({"response_format": schema}), "response_format"),
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
        (json!({"store": true}), "store"),
        (json!({"prediction": {"type": "content"}}), "prediction"),
        (json!({"service_tier": "flex"}), "service_tier"),
        (json!({"prompt_cache_key": "k"}), "prompt_cache_key"),
        (json!({"seed": 7}), "seed"),
        (json!({"verbosity": "low"}), "verbosity"),
        (json!({"parallel_tool_calls": false}), "parallel_tool_calls"),
        (json!({"user": "x".repeat(300)}), "user"),
        (json!({"messages": [{"role": "user", "name": "ann", "content": "Hi"}]}), "messages.name"),
        (json!({"messages": [{"role": "user", "odd\r\nx: y": 1, "content": "Hi"}]}), "messages.oddx:y"),
    ] {
        let (body, names) = dropped(fields.clone(), &[]);
        assert_eq!(names, [name], "{fields}");
        assert_eq!(body, self::body(json!({}), &[]), "{fields}");
    }
}

#[test]
fn the_bound_on_the_answer() {
    let with = |max_output, fields| {
        let job = Job { max_output, ..job(&[], Unsupported::Reject) };
        run(fields, &job).expect("encodes").0["max_tokens"].clone()
    };
    assert_eq!(with(None, json!({})), 4096);
    assert_eq!(with(Some(64000), json!({})), 64000);
    assert_eq!(with(Some(64000), json!({"max_tokens": 100})), 100);
    assert_eq!(with(Some(64000), json!({"max_tokens": 100_000})), 64000);
}

#[test]
fn effort_follows_the_models_quirks() {
    let effort = |level: &str| json!({"reasoning_effort": level, "max_tokens": 100_000});
    for (level, name, budget) in [
        ("minimal", "low", 1024),
        ("low", "low", 1024),
        ("medium", "medium", 2048),
        ("high", "high", 4096),
        ("xhigh", "xhigh", 8192),
        ("max", "max", 16384),
    ] {
        let plain = body(effort(level), &[]);
        assert_eq!(plain["thinking"], json!({"type": "enabled", "budget_tokens": budget}), "{level}");
        assert!(plain.get("output_config").is_none());
        let both = body(effort(level), &[Quirk::Effort, Quirk::AdaptiveThinking]);
        assert_eq!(both["thinking"], json!({"type": "adaptive", "display": "summarized"}));
        assert_eq!(both["output_config"], json!({"effort": name}), "{level}");
        let alone = body(effort(level), &[Quirk::Effort]);
        assert!(alone.get("thinking").is_none());
        assert_eq!(alone["output_config"], json!({"effort": name}));
    }
    assert_eq!(param_at_fault(json!({"reasoning_effort": "huge"})), "reasoning_effort");
}

#[test]
fn thinking_leaves_room_and_gives_way_to_a_forced_call() {
    let with = |fields: Value| dropped(fields, &[]);
    let (body, names) = with(json!({"reasoning_effort": "high", "max_tokens": 3000}));
    assert_eq!((&body["thinking"]["budget_tokens"], names.len()), (&json!(1500), 0));
    let (body, _) = with(json!({"reasoning_effort": "high", "max_tokens": 1025}));
    assert_eq!(body["thinking"]["budget_tokens"], 1024);
    for fields in [
        json!({"reasoning_effort": "high", "max_tokens": 1024}),
        json!({"reasoning_effort": "high", "tools": function(), "tool_choice": "required"}),
    ] {
        let (body, names) = with(fields.clone());
        assert!(body.get("thinking").is_none(), "{fields}");
        assert_eq!(names, ["reasoning_effort"], "{fields}");
    }
}

#[test]
fn sampling_gives_way_to_thinking_and_to_the_model() {
    let all = json!({"temperature": 0.2, "top_p": 0.5, "top_k": 5});
    let (body, names) = dropped(all.clone(), &[Quirk::NoSampling]);
    assert_eq!(names, ["temperature", "top_p", "top_k"]);
    assert!(body.get("temperature").is_none() && body.get("top_p").is_none() && body.get("top_k").is_none());
    let mut thinking = all;
    thinking["thinking"] = json!({"type": "adaptive"});
    assert_eq!(dropped(thinking, &[]).1, ["temperature", "top_p", "top_k"]);
    let harmless = json!({"temperature": 1, "top_p": 0.96, "reasoning_effort": "low"});
    assert_eq!(self::body(harmless, &[])["temperature"], 1.0);
    let off = json!({"temperature": 0.2, "thinking": {"type": "disabled"}});
    assert_eq!(self::body(off, &[])["temperature"], 0.2);
}

#[test]
fn a_schema_for_the_answer() {
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}});
    let body = body(format, &[Quirk::StructuredOutput]);
    assert_eq!(
        body["output_config"],
        json!({"format": {"type": "json_schema", "schema": {"type": "object"}}})
    );
    for format in [json!({"type": "json_schema", "json_schema": {"name": "n"}}), json!({"type": "xml"})] {
        assert_eq!(param_at_fault(json!({"response_format": format})), "response_format");
    }
}

#[test]
fn functions_get_an_objects_schema() {
    let tool = |parameters: Value| {
        let mut function = json!({"name": "f", "parameters": parameters});
        if parameters.is_null() {
            function = json!({"name": "f"});
        }
        json!({"tools": [{"type": "function", "function": function}]})
    };
    let none = json!({"type": "object", "properties": {}});
    assert_eq!(body(tool(Value::Null), &[])["tools"], json!([{"name": "f", "input_schema": none}]));
    assert_eq!(body(tool(json!({})), &[])["tools"][0]["input_schema"], none);
    for parameters in [json!({"type": "string"}), json!([]), json!("x")] {
        assert_eq!(param_at_fault(tool(parameters)), "tools[0].function.parameters");
    }
    let strict = json!({"tools": [{"type": "function", "function": {"name": "f", "strict": true}, "cache_control": {"type": "ephemeral"}}]});
    let tools = body(strict.clone(), &[Quirk::StructuredOutput])["tools"].clone();
    assert_eq!(
        (&tools[0]["strict"], &tools[0]["cache_control"]["type"]),
        (&json!(true), &json!("ephemeral"))
    );
    assert_eq!(dropped(strict, &[]).1, ["tools.strict"]);
    assert_eq!(param_at_fault(json!({"tool_choice": "required"})), "tool_choice");
    assert_eq!(param_at_fault(json!({"tools": function(), "tool_choice": "maybe"})), "tool_choice");
}

#[test]
fn system_text_is_hoisted_in_order() {
    let body = body(
        json!({"messages": [
            {"role": "system", "content": "One.", "cache_control": {"type": "ephemeral"}},
            {"role": "user", "content": "Hi"},
            {"role": "developer", "content": [{"type": "text", "text": "Two."}, {"type": "text", "text": " "}]}]}),
        &[],
    );
    assert_eq!(
        body["system"],
        json!([{"type": "text", "text": "One.", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "Two."}])
    );
    assert_eq!(body["messages"].as_array().expect("messages").len(), 1);
}

#[test]
fn a_callers_marks_of_what_to_cache_stand_where_they_stood() {
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let marked = |mut part: Value| {
        part["cache_control"] = mark.clone();
        part
    };
    let text = |words: &str| json!({"type": "text", "text": words});
    let image = json!({"type": "image_url", "image_url": {"url": "https://h/i.png"}});
    let asked = json!({
        "messages": [
            {"role": "system", "content": [marked(text("One.")), text("Two."), marked(text(" "))]},
            {"role": "user", "content": [marked(text("A")), marked(image), text("B")]},
            {"role": "assistant", "content": [marked(text("C"))],
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "c", "content": [marked(text("D"))]},
            {"role": "user", "content": [{"type": "text", "text": "E", "odd": 1}], "cache_control": mark},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f"}},
            {"type": "function", "function": {"name": "g", "cache_control": mark}},
        ],
    });
    let (body, dropped) = dropped(asked, &[]);
    let is_marked =
        |at: &str| body.pointer(at).unwrap_or_else(|| panic!("{at} in {body}")).get("cache_control");
    for at in [
        "/system/0",
        "/messages/0/content/0",
        "/messages/0/content/1",
        "/messages/1/content/0",
        "/messages/2/content/0/content/0",
        "/messages/2/content/1",
        "/tools/1",
    ] {
        assert_eq!(is_marked(at), Some(&mark), "{at}");
    }
    for at in ["/system/1", "/messages/0/content/2", "/messages/2/content/0", "/tools/0"] {
        assert_eq!(is_marked(at), None, "{at}");
    }
    assert_eq!(dropped, ["messages.content.odd"]);
}

#[test]
fn a_tool_loop_becomes_alternate_turns() {
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "get_weather", "arguments": arguments}});
    let said = messages(json!([
        {"role": "user", "content": "Weather?"},
        {"role": "user", "content": "Quick!"},
        {"role": "assistant", "content": "Checking.", "tool_calls": [call("toolu_01A", "{\"city\": \"Oslo\"}"), call("chatcmpl/1:2", "")]},
        {"role": "tool", "tool_call_id": "chatcmpl/1:2", "content": ""},
        {"role": "tool", "tool_call_id": "toolu_01A", "content": [{"type": "text", "text": "12C"}]},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": null, "refusal": "No."},
        {"role": "user", "content": "Why?"}]));
    let made = said[1]["content"][2]["id"].as_str().expect("id").to_owned();
    assert!(
        made.starts_with("call_")
            && made.len() <= 64
            && made.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    );
    assert_eq!(
        said,
        json!([
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}, {"type": "text", "text": "Quick!"}]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "Checking."},
                {"type": "tool_use", "id": "toolu_01A", "name": "get_weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": made, "name": "get_weather", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_01A", "content": [{"type": "text", "text": "12C"}]},
                {"type": "tool_result", "tool_use_id": made},
                {"type": "text", "text": "And now?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "No."}]},
            {"role": "user", "content": [{"type": "text", "text": "Why?"}]}])
    );
}

#[test]
fn ids_that_claude_refuses_are_mapped_the_same_each_time() {
    for kept in ["toolu_01A", "call_abc-DEF_9", &"x".repeat(64)] {
        assert_eq!(turns::acceptable_id(kept), kept);
    }
    let mut seen = std::collections::HashSet::new();
    for foreign in ["", "a b", "fc:1", "fc:2", "é", &"x".repeat(65)] {
        let made = turns::acceptable_id(foreign).into_owned();
        assert_eq!(made, turns::acceptable_id(foreign));
        assert!(seen.insert(made.clone()), "{foreign} and another became {made}");
        assert_eq!(turns::acceptable_id(&made), made);
    }
}

#[test]
fn images_and_documents() {
    let part = |part: Value| messages(json!([{"role": "user", "content": [part]}]))[0]["content"][0].clone();
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let file = |file: Value| json!({"type": "file", "file": file});
    let base64 = |kind: &str, mime: &str| json!({"type": kind, "source": {"type": "base64", "media_type": mime, "data": "aGk="}});
    for mime in ["image/png", "image/gif", "image/webp", "image/jpeg"] {
        assert_eq!(part(image(&format!("data:{mime};base64,aGk="))), base64("image", mime));
    }
    assert_eq!(part(image("data:image/JPG;base64,aGk=")), base64("image", "image/jpeg"));
    assert_eq!(part(image("data:application/pdf;base64,aGk=")), base64("document", "application/pdf"));
    assert_eq!(
        part(image("https://a/b.png")),
        json!({"type": "image", "source": {"type": "url", "url": "https://a/b.png"}})
    );
    let mut named = base64("document", "application/pdf");
    named["title"] = json!("a.pdf");
    assert_eq!(
        part(file(json!({"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"}))),
        named
    );
    assert_eq!(
        part(file(json!({"file_data": "data:text/plain;base64,aGk="}))),
        json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}})
    );
    for bad in [
        image("http://a/b.png"),
        image("data:image/tiff;base64,aGk="),
        image("data:image/png,hi"),
        file(json!({"file_id": "file-1"})),
        file(json!({"file_data": "data:text/plain;base64,!!"})),
        json!({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}),
        json!({"type": "video_url", "video_url": {"url": "https://a/b.mp4"}}),
        json!({"type": "image_url", "image_url": "https://a/b.png"}),
    ] {
        let list = json!([{"role": "user", "content": "Hi"}, {"role": "user", "content": [bad]}]);
        assert_eq!(param_at_fault(json!({"messages": list})), "messages[1]", "{bad}");
    }
}

#[test]
fn a_history_that_does_not_fit_is_a_clear_400() {
    let call = |arguments: &str| json!({"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]});
    let user = json!({"role": "user", "content": "Hi"});
    let answer = json!({"role": "tool", "tool_call_id": "c", "content": "r"});
    let image = json!([{"type": "image_url", "image_url": {"url": "https://a/b.png"}}]);
    for (list, param) in [
        (json!([user, answer]), "messages[1]"),
        (json!([user, call("{}")]), "messages[1]"),
        (json!([user, call("{\"a\":"), answer]), "messages[1]"),
        (json!([user, call("[]"), answer]), "messages[1]"),
        (json!([user, {"role": "user", "content": " "}]), "messages[1]"),
        (json!([{"role": "assistant", "content": image}, user]), "messages[0]"),
        (json!([{"role": "system", "content": image}, user]), "messages[0]"),
        (json!([{"role": "system", "content": "only"}]), "messages"),
    ] {
        assert_eq!(param_at_fault(json!({"messages": list})), param, "{list}");
    }
}

#[test]
fn an_empty_assistant_turn_says_nothing_and_a_prefill_is_trimmed() {
    let said = messages(json!([
        {"role": "user", "content": "a"}, {"role": "assistant", "content": ""}, {"role": "user", "content": "b"},
        {"role": "assistant", "content": "So: \n"}]));
    assert_eq!(
        said,
        json!([
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "So:"}]}])
    );
}

/// A tool loop whose assistant turn carries `extra` fields.
fn tool_loop(extra: Value) -> Value {
    let mut assistant = json!({"role": "assistant", "content": "Checking.", "tool_calls": [{"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    assistant.as_object_mut().expect("object").extend(extra.as_object().expect("object").clone());
    json!({"reasoning_effort": "high", "max_tokens": 9000, "messages": [
        {"role": "user", "content": "Hi"}, assistant, {"role": "tool", "tool_call_id": "toolu_1", "content": "r"}]})
}

#[test]
fn signed_thinking_goes_back_first_and_unmodified() {
    let shown = json!([
        {"index": 0, "type": "thinking", "thinking": "hm", "signature": "EqQB"},
        {"index": 1, "type": "redacted_thinking", "data": "Zm9v"},
        {"index": 2, "type": "thinking", "thinking": "unsigned"}]);
    let sent = json!([
        {"type": "thinking", "thinking": "hm", "signature": "EqQB"},
        {"type": "redacted_thinking", "data": "Zm9v"},
        {"type": "text", "text": "Checking."},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]);
    let state = json!({"anthropic": {"thinking_blocks": shown}});
    // Given back by the caller.
    let echoed = tool_loop(json!({"extra_content": state}));
    assert_eq!(body(echoed.clone(), &[])["messages"][1]["content"], sent);
    // Remembered by us.
    let kept = Kept(HashMap::from([("toolu_1".to_owned(), state)]));
    let recalling = Job { recall: &kept, ..job(&[], Unsupported::Reject) };
    let (recalled, names) = run(tool_loop(json!({})), &recalling).expect("encodes");
    assert_eq!((&recalled["messages"][1]["content"], names.len()), (&sent, 0));
    // Not while thinking is off.
    let mut off = echoed;
    off["reasoning_effort"] = json!("none");
    assert_eq!(body(off, &[])["messages"][1]["content"].as_array().expect("blocks").len(), 2);
}

#[test]
fn a_budget_gives_way_when_the_running_loop_lost_its_thinking() {
    let (lost, names) = dropped(tool_loop(json!({})), &[]);
    assert!(lost.get("thinking").is_none());
    assert_eq!(names, ["reasoning_effort"]);
    assert_eq!(body(tool_loop(json!({})), &[Quirk::AdaptiveThinking])["thinking"]["type"], "adaptive");
    let mut over = tool_loop(json!({}));
    over["messages"].as_array_mut().expect("messages").push(json!({"role": "assistant", "content": "Done."}));
    over["messages"].as_array_mut().expect("messages").push(json!({"role": "user", "content": "Next."}));
    assert_eq!(body(over, &[])["thinking"]["type"], "enabled");
}

#[test]
fn every_encoded_answer_of_ours_can_be_sent_back() {
    // What the decoder shows a caller is what the encoder takes.
    let stream = json!({"type":"message","id":"m","content":[
        {"type":"thinking","thinking":"hm","signature":"S"},
        {"type":"tool_use","id":"toolu_1","name":"f","input":{"a":1}}],"stop_reason":"tool_use","usage":{}});
    let answer = super::super::super::laws::whole(
        super::super::super::Dialect::Anthropic,
        stream.to_string().as_bytes(),
    )
    .expect("whole");
    let fields = json!({"reasoning_effort": "low", "messages": [
        {"role": "user", "content": "Hi"}, answer["choices"][0]["message"],
        {"role": "tool", "tool_call_id": "toolu_1", "content": "r"}]});
    let body = body(fields, &[]);
    assert_eq!(body["messages"][1]["content"], stream["content"]);
}
