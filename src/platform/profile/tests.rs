//! Every built-in row, and the operator's own: what a request becomes on each platform, rule by rule.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::dialect::{Failure, NoRecall};

fn row(name: &str) -> Row {
    Row::built_in(name).expect("row").expect(name)
}

fn platform(name: &str) -> Platform {
    Platform::compile(row(name)).expect("compiled")
}

fn ask(model: &str, mut fields: Value) -> Ask {
    fields["model"] = json!(model);
    if fields["messages"].is_null() {
        fields["messages"] = json!([{"role": "user", "content": "Hi"}]);
    }
    Ask::chat(Bytes::from(fields.to_string())).expect("ask")
}

struct Sent {
    path: String,
    body: Value,
    dropped: Vec<String>,
}

fn encode(
    platform: &Platform,
    model: &str,
    fields: Value,
    stream: bool,
    how: Unsupported,
) -> Result<Sent, Fault> {
    let ask = ask("alias", fields);
    let encoded = platform.encode_chat(&ask, model, stream, how, &NoRecall)?;
    let mut body: Value = serde_json::from_slice(&encoded.body).expect("json");
    assert_eq!(body["model"].take(), json!(model));
    body.as_object_mut().expect("object").remove("model");
    Ok(Sent { path: encoded.path, body, dropped: encoded.dropped })
}

/// What `fields` become on `model`, without model and messages, and what was dropped; not streamed, `unsupported: reject`.
fn fields(name: &str, model: &str, fields: Value) -> (Value, Vec<String>) {
    let mut sent = encode(&platform(name), model, fields, false, Unsupported::Reject).expect("encoded");
    sent.body.as_object_mut().expect("object").remove("messages");
    (sent.body, sent.dropped)
}

/// The same for one field that becomes `after` and is not named as dropped.
#[track_caller]
fn becomes(name: &str, model: &str, before: Value, after: Value) {
    let (body, dropped) = fields(name, model, before.clone());
    assert_eq!(body, after, "{name} {model} {before}");
    assert!(dropped.is_empty(), "{name} {model} {before}: {dropped:?}");
}

/// A parameter that is left out and named, whatever the route says.
#[track_caller]
fn is_dropped(name: &str, model: &str, parameters: &[(&str, Value)]) {
    for (parameter, value) in parameters {
        let (body, dropped) = fields(name, model, json!({*parameter: value}));
        assert_eq!(body.get(*parameter), None, "{name} {parameter}");
        assert_eq!(dropped, [*parameter], "{name}");
    }
}

/// A parameter that is refused, or left out and named, as the route says.
#[track_caller]
fn lacks(name: &str, model: &str, parameters: &[(&str, Value)]) {
    let platform = platform(name);
    for (parameter, value) in parameters {
        let asked = json!({*parameter: value});
        let fault =
            encode(&platform, model, asked.clone(), false, Unsupported::Reject).err().expect(parameter);
        assert_eq!((fault.kind(), fault.get_param()), (Kind::Unsupported, Some(*parameter)), "{name}");
        let sent = encode(&platform, model, asked, false, Unsupported::Drop).expect("dropped");
        assert_eq!(sent.body.get(*parameter), None, "{name} {parameter}");
        assert_eq!(sent.dropped, [*parameter], "{name}");
    }
}

fn advice() -> Vec<(&'static str, Value)> {
    vec![
        ("store", json!(true)),
        ("metadata", json!({"a": "b"})),
        ("safety_identifier", json!("u")),
        ("prompt_cache_key", json!("k")),
        ("prompt_cache_retention", json!("24h")),
        ("prompt_cache_options", json!({"ttl": "30m"})),
        ("prediction", json!({"type": "content", "content": "x"})),
        ("verbosity", json!("low")),
        ("moderation", json!({})),
    ]
}

fn bindings() -> Vec<(&'static str, Value)> {
    vec![("logit_bias", json!({"1": 1})), ("web_search_options", json!({}))]
}

fn more_bindings() -> Vec<(&'static str, Value)> {
    let more =
        vec![("n", json!(2)), ("audio", json!({"voice": "x"})), ("modalities", json!(["text", "audio"]))];
    bindings().into_iter().chain(more).collect()
}

fn logprobs() -> Vec<(&'static str, Value)> {
    vec![("logprobs", json!(true)), ("top_logprobs", json!(3))]
}

#[test]
fn every_built_in_row_compiles_and_says_where_it_comes_from() {
    let platforms = Platform::built_in().expect("compiled");
    let names: Vec<&str> = platforms.iter().map(|platform| platform.name.as_str()).collect();
    assert_eq!(names.len(), 13);
    for (platform, (file, _)) in platforms.iter().zip(built_in::FILES) {
        assert_eq!(platform.name.as_str(), *file, "a row is named as its file");
        let row = row(file);
        for (field, said) in
            [("source", &row.source), ("title", &row.title), ("description", &row.description)]
        {
            assert!(said.as_ref().is_some_and(|said| !said.is_empty()), "{file}: {field}");
        }
        let date = row.date.expect("date");
        assert!(date.parse::<jiff::civil::Date>().is_ok(), "{file}: {date}");
        assert!(!platform.models.is_empty(), "{file}");
        assert!(platform.base.scheme.is_secure(), "{file}");
    }
}

#[test]
fn every_file_of_the_folder_is_built_in() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config/platforms");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .expect("folder")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("name"))
        .collect();
    let mut built_in: Vec<String> = built_in::FILES.iter().map(|(name, _)| format!("{name}.yaml")).collect();
    files.sort();
    built_in.sort();
    assert_eq!(files, built_in);
}

#[test]
fn nothing_to_change_is_the_callers_own_bytes() {
    let openai = platform("openai");
    let ask = ask("gpt-4o", json!({"temperature": 0.5, "odd": {"a": 1}}));
    let encoded = openai.encode_chat(&ask, "gpt-4o", false, Unsupported::Reject, &NoRecall).expect("encoded");
    assert_eq!(encoded.body.as_ptr(), ask.body().as_ptr());
    assert_eq!((encoded.path.as_str(), encoded.dropped.len()), ("/chat/completions", 0));
}

#[test]
fn what_no_rule_names_is_passed_on() {
    for name in ["openai", "qwen", "baidu", "zhipu", "spark", "doubao", "huggingface", "aihubmix"] {
        let model = if name == "spark" { "4.0Ultra" } else { "some-model" };
        let asked = json!({"stream": true, "vendors_own": {"deep": [1]}, "top_k": 4});
        let sent = encode(&platform(name), model, asked, true, Unsupported::Reject).expect("encoded");
        assert_eq!(
            (&sent.body["vendors_own"], &sent.body["top_k"]),
            (&json!({"deep": [1]}), &json!(4)),
            "{name}"
        );
        assert_eq!(sent.body["stream"], json!(true), "{name}");
    }
}

#[test]
fn usage_is_asked_for_where_the_platform_must_be_asked() {
    for (name, is_asked) in [
        ("openai", true),
        ("qwen", true),
        ("baidu", true),
        ("doubao", true),
        ("huggingface", true),
        ("aihubmix", true),
        ("zhipu", false),
        ("spark", false),
    ] {
        for asked in [json!({}), json!({"stream": true, "stream_options": {"include_usage": false}})] {
            let model = if name == "spark" { "4.0Ultra" } else { "some-model" };
            let sent = encode(&platform(name), model, asked, true, Unsupported::Reject).expect("encoded");
            let wanted = is_asked.then(|| json!({"include_usage": true}));
            assert_eq!(sent.body.get("stream_options"), wanted.as_ref(), "{name}");
            assert!(sent.dropped.is_empty(), "{name}");
        }
    }
}

#[test]
fn a_stream_that_the_caller_did_not_ask_for() {
    let sent = encode(&platform("qwen"), "qwq-plus", json!({}), true, Unsupported::Reject).expect("encoded");
    assert_eq!(sent.body["stream"], json!(true));
    let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
    let sent = encode(&platform("openai"), "gpt-4o", asked, false, Unsupported::Reject).expect("encoded");
    assert_eq!((sent.body.get("stream"), sent.body.get("stream_options")), (None, None));
}

#[test]
fn openais_reasoning_models() {
    for model in ["gpt-5.4", "o1", "o3-mini", "o4-mini"] {
        let (body, dropped) =
            fields("openai", model, json!({"max_tokens": 5, "temperature": 0.1, "top_p": 0.5}));
        assert_eq!(body, json!({"max_completion_tokens": 5}), "{model}");
        assert_eq!(dropped, ["temperature", "top_p"]);
    }
    for model in ["gpt-4o", "gpt-5.2-chat-latest"] {
        becomes(
            "openai",
            model,
            json!({"max_tokens": 5, "temperature": 0.1}),
            json!({"max_tokens": 5, "temperature": 0.1}),
        );
    }
    let developer = json!({"messages": [{"role": "developer", "content": "d"}]});
    let sent =
        encode(&platform("openai"), "gpt-5.4", developer, false, Unsupported::Reject).expect("encoded");
    assert_eq!(sent.body["messages"][0]["role"], "developer");
}

#[test]
fn qwen_rules() {
    becomes("qwen", "qwen-max", json!({"temperature": 2}), json!({"temperature": 1.99}));
    becomes("qwen", "qwen-max", json!({"top_p": 1.0}), json!({"top_p": 0.999}));
    becomes("qwen", "qwen-max", json!({"top_p": 0}), json!({"top_p": 0.001}));
    becomes("qwen", "qwen-max", json!({"seed": 3_000_000_000_u64}), json!({"seed": 2_147_483_647}));
    becomes("qwen", "qwen-max", json!({"presence_penalty": -3}), json!({"presence_penalty": -2}));
    becomes("qwen", "qwen-max", json!({"max_completion_tokens": 5}), json!({"max_tokens": 5}));
    becomes("qwen", "qwen-max", json!({"frequency_penalty": 0}), json!({}));
    becomes("qwen", "qwen-max", json!({"tools": [{}]}), json!({"tools": [{}], "parallel_tool_calls": true}));
    is_dropped("qwen", "qwen-max", &advice());
    is_dropped("qwen", "qwen-max", &[("background", json!(true)), ("service_tier", json!("flex"))]);
    lacks("qwen", "qwen-max", &bindings());
    lacks("qwen", "qwen-max", &[("frequency_penalty", json!(0.5))]);
    let forced = json!({"tool_choice": "required"});
    let fault = encode(&platform("qwen"), "qwen-max", forced.clone(), false, Unsupported::Reject).err();
    assert_eq!(fault.expect("demanded").get_param(), Some("tool_choice"));
    let sent = encode(&platform("qwen"), "qwen-max", forced, false, Unsupported::Drop).expect("dropped");
    assert_eq!((&sent.body["tool_choice"], sent.dropped), (&json!("auto"), vec!["tool_choice".to_owned()]));
    let developer = json!({"messages": [{"role": "developer", "content": "d"}]});
    let sent = encode(&platform("qwen"), "qwen-max", developer, false, Unsupported::Reject).expect("encoded");
    assert_eq!(sent.body["messages"][0]["role"], "system");
}

#[test]
fn deprecated_functions_are_tools_where_the_platform_knows_only_these() {
    let asked = || json!({"functions": [{"name": "f"}], "function_call": "auto"});
    for (name, model) in
        [("qwen", "qwen-max"), ("doubao", "doubao-1-5-pro"), ("huggingface", "m"), ("baidu", "m")]
    {
        let (body, dropped) = fields(name, model, asked());
        assert_eq!(body["tools"], json!([{"type": "function", "function": {"name": "f"}}]), "{name}");
        assert!(body.get("functions").is_none() && body.get("function_call").is_none() && dropped.is_empty());
    }
    becomes("openai", "gpt-4o", asked(), asked());
    let lite = encode(&platform("spark"), "lite", asked(), false, Unsupported::Reject);
    assert_eq!(lite.err().expect("no tools").get_param(), Some("functions"));
    let lite = encode(&platform("spark"), "lite", asked(), false, Unsupported::Drop).expect("dropped");
    assert_eq!(lite.dropped, ["functions"]);
}

#[test]
fn qwen_models() {
    let qwen = platform("qwen");
    for model in ["qwq-plus", "qvq-max", "qwen3-omni-flash", "qwen3-32b", "qwen3-235b-a22b-thinking-2507"] {
        assert!(qwen.streams_only(model), "{model}");
        becomes("qwen", model, json!({"max_completion_tokens": 5}), json!({"max_tokens": 5}));
    }
    for model in ["qwq-plus", "qvq-max", "qwen3-omni-flash"] {
        is_dropped("qwen", model, &[("reasoning_effort", json!("low"))]);
    }
    for model in [
        "qwen3.8-max",
        "qwen3.5-flash",
        "qwen3-max",
        "qwen-plus",
        "qwen-flash",
        "qwen-turbo-latest",
        "qwen3-vl-plus",
        "qwen3-vl-flash",
    ] {
        assert!(!qwen.streams_only(model), "{model}");
        let bound = if model.starts_with("qwen3.") { "max_completion_tokens" } else { "max_tokens" };
        becomes(
            "qwen",
            model,
            json!({"max_completion_tokens": 5}),
            json!({"enable_thinking": false, bound: 5}),
        );
        assert!(qwen.must_stream(&ask("a", json!({"enable_thinking": true})), model), "{model}");
        assert!(!qwen.must_stream(&ask("a", json!({})), model), "{model}");
    }
    becomes("qwen", "qwen-max", json!({}), json!({}));
    becomes(
        "qwen",
        "deepseek-v4-pro",
        json!({"reasoning_effort": "low"}),
        json!({"reasoning_effort": "high"}),
    );
    assert!(qwen.must_stream(&ask("a", json!({})), "qwq-plus"));
}

#[test]
fn baidu_rules() {
    becomes("baidu", "ernie-5.1", json!({"temperature": 0}), json!({"temperature": 0.01}));
    becomes("baidu", "ernie-5.1", json!({"temperature": 1.5}), json!({"temperature": 1}));
    becomes("baidu", "ernie-5.1", json!({"top_p": 1.5}), json!({"top_p": 1}));
    becomes("baidu", "ernie-5.1", json!({"penalty_score": 0.5}), json!({"penalty_score": 1}));
    becomes(
        "baidu",
        "ernie-5.1",
        json!({"user": "u", "seed": 1, "stop": ["a"]}),
        json!({"user": "u", "seed": 1, "stop": ["a"]}),
    );
    is_dropped("baidu", "ernie-5.1", &advice());
    is_dropped("baidu", "ernie-5.1", &[("service_tier", json!("flex")), ("reasoning_effort", json!("low"))]);
    lacks("baidu", "ernie-5.1", &more_bindings());
    lacks("baidu", "ernie-5.1", &logprobs());
}

#[test]
fn zhipu_rules() {
    let model = "glm-5.3";
    becomes("zhipu", model, json!({"temperature": 0}), json!({"temperature": 0.01}));
    becomes("zhipu", model, json!({"temperature": 1}), json!({"temperature": 0.99}));
    becomes(
        "zhipu",
        model,
        json!({"top_p": 0, "max_completion_tokens": 5}),
        json!({"top_p": 0.01, "max_tokens": 5}),
    );
    becomes("zhipu", model, json!({"top_p": 1}), json!({"top_p": 0.99}));
    becomes("zhipu", model, json!({"stop": "a"}), json!({"stop": ["a"]}));
    becomes("zhipu", model, json!({"user": "alice-1"}), json!({"user_id": "alice-1"}));
    becomes("zhipu", model, json!({"tools": [{}], "tool_choice": "none"}), json!({}));
    is_dropped("zhipu", model, &advice());
    lacks("zhipu", model, &[("parallel_tool_calls", json!(false))]);
    is_dropped(
        "zhipu",
        model,
        &[("service_tier", json!("flex")), ("request_id", json!("r")), ("user", json!("bob"))],
    );
    lacks("zhipu", model, &more_bindings());
    lacks("zhipu", model, &logprobs());
    lacks("zhipu", model, &[("frequency_penalty", json!(1)), ("presence_penalty", json!(1))]);
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}});
    assert_eq!(
        fields("zhipu", model, json!({"response_format": format})).0,
        json!({"response_format": {"type": "json_object"}})
    );
    let thought = json!({"messages": [{"role": "assistant", "content": "a", "reasoning_content": "r"}]});
    let sent = encode(&platform("zhipu"), model, thought, false, Unsupported::Reject).expect("encoded");
    assert_eq!(sent.body["messages"][0]["reasoning_content"], "r");
}

#[test]
fn zhipu_thinking_by_model() {
    let effort = |level: &str| json!({"reasoning_effort": level});
    becomes("zhipu", "glm-5.3", effort("medium"), effort("high"));
    becomes("zhipu", "glm-5.3-flash", effort("none"), json!({"thinking": {"type": "disabled"}}));
    becomes("zhipu", "glm-5.2", effort("minimal"), effort("minimal"));
    becomes("zhipu", "glm-4.6", effort("high"), json!({"thinking": {"type": "enabled"}}));
    becomes("zhipu", "glm-5-turbo", effort("none"), json!({"thinking": {"type": "disabled"}}));
    for model in ["glm-4-long", "glm-4v-flash"] {
        is_dropped("zhipu", model, &[("reasoning_effort", json!("low"))]);
    }
}

#[test]
fn spark_rules() {
    let spark = platform("spark");
    for (model, path, most) in [
        ("lite", "/v1/chat/completions", 4096),
        ("generalv3", "/v1/chat/completions", 8192),
        ("pro-128k", "/v1/chat/completions", 4096),
        ("max-32k", "/v1/chat/completions", 8192),
        ("generalv3.5", "/v1/chat/completions", 8192),
        ("4.0Ultra", "/v1/chat/completions", 8192),
        ("spark-x", "/v2/chat/completions", 65535),
        ("x1", "/v2/chat/completions", 65535),
    ] {
        let sent =
            encode(&spark, model, json!({"max_completion_tokens": 100_000}), false, Unsupported::Reject);
        let sent = sent.expect("encoded");
        assert_eq!((sent.path.as_str(), &sent.body["max_tokens"]), (path, &json!(most)), "{model}");
        is_dropped("spark", model, &advice());
        is_dropped("spark", model, &[("seed", json!(1)), ("service_tier", json!("flex"))]);
        lacks("spark", model, &[("parallel_tool_calls", json!(false))]);
        lacks("spark", model, &more_bindings());
        lacks("spark", model, &logprobs());
        lacks("spark", model, &[("stop", json!("x"))]);
    }
    for (model, path) in [
        ("spark-x2", "/x2/chat/completions"),
        ("spark-x2-flash", "/agent/v1/chat/completions"),
        ("spark-x2.5-4b", "/x2/chat/completions"),
        ("unknown", "/v1/chat/completions"),
    ] {
        assert_eq!(encode(&spark, model, json!({}), false, Unsupported::Reject).expect("encoded").path, path);
    }
    let (body, dropped) = fields("spark", "spark-x2.5-4b", json!({"max_tokens": 5, "temperature": 0.2}));
    assert_eq!((body, dropped), (json!({"max_completion_tokens": 5}), vec!["temperature".to_owned()]));
}

#[test]
fn spark_searches_the_web_only_when_asked() {
    let off = json!([{"type": "web_search", "web_search": {"enable": false}}]);
    for model in ["generalv3", "generalv3.5", "4.0Ultra"] {
        assert_eq!(fields("spark", model, json!({})).0["tools"], off, "{model}");
    }
    for model in ["lite", "spark-x"] {
        assert_eq!(fields("spark", model, json!({})).0.get("tools"), None, "{model}");
    }
    let on = json!([{"type": "web_search", "web_search": {"enable": true}}]);
    assert_eq!(fields("spark", "4.0Ultra", json!({"tools": on})).0["tools"], on);
}

#[test]
fn spark_versions_differ() {
    for model in ["lite", "generalv3", "pro-128k", "max-32k"] {
        assert_eq!(fields("spark", model, json!({"temperature": 1.5})).0["temperature"], json!(1));
        lacks("spark", model, &[("tool_choice", json!("required")), ("top_p", json!(0.5))]);
        // Pro's place for tools is taken by the word that it shall not search.
        if model != "generalv3" {
            lacks("spark", model, &[("tools", json!([{}]))]);
        }
        is_dropped("spark", model, &[("reasoning_effort", json!("low"))]);
    }
    for model in ["generalv3.5", "4.0Ultra"] {
        becomes(
            "spark",
            model,
            json!({"temperature": 0, "tools": []}),
            json!({"temperature": 0.01, "tools": [], "tool_calls_switch": true}),
        );
        becomes("spark", model, json!({"tools": [{}]}), json!({"tools": [{}], "tool_calls_switch": true}));
        lacks("spark", model, &[("top_p", json!(0.5))]);
    }
    for model in ["spark-x", "x1"] {
        becomes(
            "spark",
            model,
            json!({"temperature": 2.5, "top_p": 0.5}),
            json!({"temperature": 2, "top_p": 0.5}),
        );
        becomes(
            "spark",
            model,
            json!({"presence_penalty": -1, "frequency_penalty": 2}),
            json!({"presence_penalty": 0, "frequency_penalty": 1}),
        );
        becomes(
            "spark",
            model,
            json!({"reasoning_effort": "none"}),
            json!({"thinking": {"type": "disabled"}}),
        );
        let forced = json!({"tool_choice": {"type": "function", "function": {"name": "f"}}});
        becomes("spark", model, forced, json!({"tool_choice": {"type": "function", "name": "f"}}));
    }
    let talk = json!({"messages": [{"role": "user", "content": "a"}, {"role": "developer", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "b"}]}]});
    let messages = |model: &str| {
        encode(&platform("spark"), model, talk.clone(), false, Unsupported::Reject).expect("encoded").body["messages"].take()
    };
    assert_eq!(
        messages("4.0Ultra"),
        json!([{"role": "system", "content": "s"}, {"role": "user", "content": "a\n\nb"}])
    );
    assert_eq!(messages("lite"), json!([{"role": "user", "content": "s\n\na\n\nb"}]));
}

#[test]
fn doubao_rules() {
    let model = "doubao-seed-2-0-pro-260215";
    is_dropped("doubao", model, &advice());
    is_dropped("doubao", model, &[("user", json!("u")), ("seed", json!(1))]);
    let bindings: Vec<_> = more_bindings().into_iter().filter(|(name, _)| *name != "logit_bias").collect();
    lacks("doubao", model, &bindings);
    becomes(
        "doubao",
        model,
        json!({"max_tokens": 1, "max_completion_tokens": 2}),
        json!({"max_completion_tokens": 2}),
    );
    let effort = |level: &str| json!({"reasoning_effort": level});
    becomes("doubao", model, effort("none"), effort("minimal"));
    becomes("doubao", model, effort("xhigh"), effort("high"));
    becomes("doubao", "doubao-seed-2-1-pro-260915", effort("xhigh"), effort("max"));
    becomes("doubao", "ep-20261121100000-abcde", effort("max"), effort("high"));
    for model in
        ["doubao-seed-1-6-250615", "doubao-1-5-thinking-pro", "glm-4-7-251222", "deepseek-v3-2-251201"]
    {
        becomes("doubao", model, effort("low"), json!({"thinking": {"type": "enabled"}}));
    }
    is_dropped("doubao", "doubao-1-5-pro-32k", &[("reasoning_effort", json!("low"))]);
    let bot = encode(&platform("doubao"), "bot-1", json!({}), false, Unsupported::Reject).expect("encoded");
    assert_eq!(bot.path, "/bots/chat/completions");
}

#[test]
fn huggingface_rules() {
    let model = "org/name:groq";
    becomes("huggingface", model, json!({"max_completion_tokens": 5}), json!({"max_tokens": 5}));
    becomes(
        "huggingface",
        model,
        json!({"logprobs": true, "top_logprobs": 20}),
        json!({"logprobs": true, "top_logprobs": 5}),
    );
    is_dropped("huggingface", model, &advice());
    is_dropped("huggingface", model, &[("user", json!("u")), ("service_tier", json!("flex"))]);
    lacks("huggingface", model, &[("parallel_tool_calls", json!(false))]);
    lacks("huggingface", model, &more_bindings());
}

#[test]
fn a_providers_suffix_does_not_hide_a_models_rules() {
    let over: Row =
        serde_saphyr::from_str("models: [{id: org/thinker, quirks: [stream_only]}]").expect("row");
    let hub = Platform::compile(row("huggingface").merge(over)).expect("compiled");
    assert!(hub.streams_only("org/thinker") && hub.streams_only("org/thinker:groq"));
    assert!(!hub.streams_only("org/thinker2:groq"));
}

#[test]
fn aihubmix_rules() {
    let turn = json!({"messages": [{"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function",
        "function": {"name": "f", "arguments": ""}, "extra_content": {"google": {"thought_signature": "s"}}}]}]});
    let sent = encode(&platform("aihubmix"), "gemini-3.8-flash", turn.clone(), false, Unsupported::Reject)
        .expect("encoded");
    let call = &sent.body["messages"][0]["tool_calls"][0];
    assert_eq!(call["extra_content"]["google"]["thought_signature"], "s");
    assert_eq!(call["function"]["arguments"], "{}");
    let sent = encode(&platform("openai"), "gpt-4o", turn, false, Unsupported::Reject).expect("encoded");
    assert_eq!(sent.body["messages"][0]["tool_calls"][0].get("extra_content"), None);
    for model in ["gpt-5.4", "o1", "o3", "o4-mini"] {
        assert_eq!(
            fields("aihubmix", model, json!({"max_tokens": 5})).0,
            json!({"max_completion_tokens": 5})
        );
    }
    becomes("aihubmix", "gpt-5.2-chat-latest", json!({"max_tokens": 5}), json!({"max_tokens": 5}));
}

/// Platform, model, quirks that it has, quirks that it has not, and the bound on its answers.
type Traits = (&'static str, &'static str, &'static [Quirk], &'static [Quirk], Option<u64>);

#[test]
fn quirks_of_translated_wires_by_model() {
    #[rustfmt::skip]
    let cases: &[Traits] = &[
        ("claude", "claude-3-haiku-20240307", &[], &[Quirk::Effort, Quirk::StructuredOutput], Some(4096)),
        ("claude", "claude-3-opus-20240229", &[], &[Quirk::Effort], Some(4096)),
        ("claude", "claude-3-5-haiku-20241022", &[], &[Quirk::Effort], Some(8192)),
        ("claude", "claude-3-7-sonnet-20250219", &[], &[Quirk::AdaptiveThinking], Some(64000)),
        ("claude", "claude-opus-4-5", &[Quirk::Effort, Quirk::StructuredOutput], &[Quirk::AdaptiveThinking, Quirk::NoSampling], Some(64000)),
        ("claude", "claude-sonnet-4-5-20250929", &[Quirk::StructuredOutput], &[Quirk::Effort, Quirk::NoSampling], Some(64000)),
        ("claude", "claude-haiku-4-5", &[Quirk::StructuredOutput], &[Quirk::Effort], Some(64000)),
        ("claude", "claude-opus-4-1", &[Quirk::StructuredOutput], &[Quirk::Effort], Some(32000)),
        ("claude", "claude-opus-4-20250514", &[], &[Quirk::StructuredOutput], Some(32000)),
        ("claude", "claude-opus-4-0", &[], &[Quirk::StructuredOutput], Some(32000)),
        ("claude", "claude-sonnet-4-20250514", &[], &[Quirk::StructuredOutput], Some(64000)),
        ("claude", "claude-sonnet-4-0", &[], &[Quirk::StructuredOutput], Some(64000)),
        ("claude", "claude-opus-4-6", &[Quirk::Effort, Quirk::AdaptiveThinking], &[Quirk::NoSampling], Some(64000)),
        ("claude", "claude-opus-5-5", &[Quirk::Effort, Quirk::AdaptiveThinking, Quirk::StructuredOutput, Quirk::NoSampling], &[], Some(64000)),
        ("gemini", "gemini-1.5-pro", &[], &[Quirk::JsonSchemaTools], Some(8192)),
        ("gemini", "gemini-2.0-flash", &[], &[Quirk::ThinkingBudget, Quirk::ThinkingLevel], Some(8192)),
        ("gemini", "models/gemini-2.5-pro", &[Quirk::ThinkingBudget, Quirk::JsonSchemaTools], &[Quirk::ThinkingLevel, Quirk::ThoughtSignatures], Some(65536)),
        ("gemini", "gemini-3.8-flash", &[Quirk::ThinkingLevel, Quirk::ThoughtSignatures, Quirk::JsonSchemaTools], &[Quirk::ThinkingBudget], Some(65536)),
        ("dashscope", "qwq-plus", &[Quirk::StreamOnly], &[Quirk::Multimodal], None),
        ("dashscope", "qvq-max", &[Quirk::StreamOnly, Quirk::Multimodal], &[], None),
        ("dashscope", "qwen3-omni-flash", &[Quirk::StreamOnly, Quirk::Multimodal], &[], None),
        ("dashscope", "qwen3-vl-plus", &[Quirk::Multimodal, Quirk::QwenThinking, Quirk::NoThinkingUnlessStream], &[Quirk::StreamOnly], None),
        ("dashscope", "qwen3-vl-flash", &[Quirk::Multimodal, Quirk::NoThinkingUnlessStream], &[], None),
        ("dashscope", "qwen3-vl-8b-thinking", &[Quirk::Multimodal, Quirk::StreamOnly], &[], None),
        ("dashscope", "qwen-vl-max", &[], &[Quirk::QwenThinking], None),
        ("dashscope", "qwen2.5-vl-72b", &[Quirk::Multimodal], &[], None),
        ("dashscope", "qwen3.5-plus", &[Quirk::QwenThinking, Quirk::NoThinkingUnlessStream, Quirk::SchemaAsJsonObject], &[], None),
        ("dashscope", "qwen3-max", &[Quirk::QwenThinking], &[Quirk::StreamOnly], None),
        ("dashscope", "qwen-plus", &[Quirk::QwenThinking], &[], None),
        ("dashscope", "qwen-flash", &[Quirk::QwenThinking], &[], None),
        ("dashscope", "qwen-turbo", &[Quirk::QwenThinking], &[], None),
        ("dashscope", "qwen3-32b", &[Quirk::StreamOnly, Quirk::QwenThinking], &[], None),
        ("dashscope", "qwen3-235b-a22b", &[Quirk::StreamOnly], &[], None),
        ("dashscope", "qwen-max", &[Quirk::NoRequiredTool, Quirk::AskParallelTools], &[Quirk::QwenThinking], None),
        ("baidu-v1", "ERNIE-4.0-8K", &[Quirk::ErrorsIn200, Quirk::SchemaAsJsonObject], &[], None),
        ("spark-ws", "generalv3.5", &[Quirk::StreamOnly, Quirk::ErrorsIn200], &[Quirk::ThinkingSwitch], None),
        ("spark-ws", "spark-x", &[Quirk::ThinkingSwitch, Quirk::StreamOnly], &[], None),
        ("spark-ws", "x1", &[Quirk::ThinkingSwitch], &[], None),
    ];
    for (name, model, has, has_not, most) in cases {
        let platform = platform(name);
        let quirks = platform.quirks(model);
        has.iter().for_each(|quirk| assert!(quirks.has(*quirk), "{name} {model} has {quirk:?}"));
        has_not.iter().for_each(|quirk| assert!(!quirks.has(*quirk), "{name} {model} has not {quirk:?}"));
        assert_eq!(platform.max_output(model), *most, "{name} {model}");
    }
}

#[test]
fn only_openais_own_shape_is_passed_through() {
    for platform in Platform::built_in().expect("compiled") {
        assert_eq!(platform.splices("m"), platform.name.as_str() == "openai", "{}", platform.name);
    }
}

#[test]
fn where_each_platform_is_and_how_it_is_told_who_calls() {
    for (name, base, scheme) in [
        ("qwen", "https://dashscope.aliyuncs.com/compatible-mode/v1", Scheme::Bearer),
        ("openai", "https://api.openai.com/v1", Scheme::Bearer),
        ("claude", "https://api.anthropic.com/v1", Scheme::XApiKey),
        ("zhipu", "https://open.bigmodel.cn/api/paas/v4", Scheme::Bearer),
        ("spark", "https://spark-api-open.xf-yun.com", Scheme::Bearer),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta", Scheme::XGoogApiKey),
        ("huggingface", "https://router.huggingface.co/v1", Scheme::Bearer),
        ("aihubmix", "https://aihubmix.com/v1", Scheme::Bearer),
        ("dashscope", "https://dashscope.aliyuncs.com/api/v1", Scheme::Bearer),
        ("spark-ws", "wss://spark-api.xf-yun.com", Scheme::SparkWs),
    ] {
        let platform = platform(name);
        assert_eq!((platform.base.to_string().as_str(), platform.scheme), (base, scheme));
    }
    assert!(matches!(platform("baidu").scheme, Scheme::BaiduIam(_)));
    assert!(matches!(platform("baidu-v1").scheme, Scheme::BaiduV1Token(_)));
    assert!(matches!(platform("doubao").scheme, Scheme::VolcApiKey(_)));
    for name in ["qwen", "baidu", "zhipu", "spark", "doubao", "dashscope", "baidu-v1", "spark-ws"] {
        assert_eq!(platform(name).timezone, "Asia/Shanghai", "{name}");
    }
}

#[test]
fn a_plain_request_reaches_each_platforms_own_url() {
    for (name, model, url) in [
        ("qwen", "qwen-max", "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions"),
        ("openai", "gpt-4o", "https://api.openai.com/v1/chat/completions"),
        ("claude", "claude-opus-5-5", "https://api.anthropic.com/v1/messages"),
        ("baidu", "ernie-5.1", "https://qianfan.baidubce.com/v2/chat/completions"),
        ("zhipu", "glm-5.3", "https://open.bigmodel.cn/api/paas/v4/chat/completions"),
        ("spark", "4.0Ultra", "https://spark-api-open.xf-yun.com/v1/chat/completions"),
        (
            "gemini",
            "gemini-3.8-flash",
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-3.8-flash:generateContent",
        ),
        ("doubao", "ep-1", "https://ark.cn-beijing.volces.com/api/v3/chat/completions"),
        ("huggingface", "org/name", "https://router.huggingface.co/v1/chat/completions"),
        ("aihubmix", "gpt-4o", "https://aihubmix.com/v1/chat/completions"),
        (
            "dashscope",
            "qwen-max",
            "https://dashscope.aliyuncs.com/api/v1/services/aigc/text-generation/generation",
        ),
        (
            "baidu-v1",
            "ERNIE-4.0-8K",
            "https://aip.baidubce.com/rpc/2.0/ai_custom/v1/wenxinworkshop/chat/completions_pro",
        ),
        ("spark-ws", "generalv3.5", "wss://spark-api.xf-yun.com/v3.5/chat"),
    ] {
        let platform = platform(name);
        // What would lead a request elsewhere is stripped before any wire's encoder sees it.
        let ask = ask("alias", json!({"api_base": "http://evil.example", "proxy": "p", "stop": null}));
        let encoded = platform.encode_chat(&ask, model, false, Unsupported::Reject, &NoRecall).expect(name);
        assert_eq!(format!("{}{}", platform.base, encoded.path), url);
        assert_eq!(encoded.dropped, ["api_base", "proxy"], "{name}");
        assert!(!String::from_utf8_lossy(&encoded.body).contains("evil"), "{name}");
        assert!(!platform.splices(model) || name == "openai");
        drop(platform.decoder(model, &ask));
    }
}

#[test]
fn an_account_sets_only_those_headers_that_its_platform_lets_it() {
    let sent = |name: &str, header: &str| {
        let platform = platform(name).with_header(header, "v-1")?;
        let headers = platform.headers(&Encoded::default());
        Ok::<_, RowError>(headers.get(header).and_then(|value| value.to_str().ok()).map(str::to_owned))
    };
    for (name, header) in [
        ("openai", "OpenAI-Organization"),
        ("openai", "openai-project"),
        ("claude", "anthropic-workspace-id"),
        ("gemini", "x-goog-user-project"),
        ("huggingface", "X-HF-Bill-To"),
        ("aihubmix", "APP-Code"),
        ("baidu", "appid"),
        ("qwen", "X-DashScope-WorkSpace"),
        ("dashscope", "X-DashScope-WorkSpace"),
    ] {
        assert_eq!(sent(name, header).expect("allowed").as_deref(), Some("v-1"), "{name} {header}");
    }
    for (name, header) in [
        ("openai", "authorization"),
        ("claude", "anthropic-version"),
        ("spark", "x-any"),
        ("openai", "bad name"),
    ] {
        assert_eq!(sent(name, header).expect_err("refused").field, format!("headers.{header}"), "{name}");
    }
    for value in ["", " ", "a\nb"] {
        assert!(platform("openai").with_header("openai-project", value).is_err(), "{value:?}");
    }
}

#[test]
fn headers_are_the_rows_and_the_encoders() {
    let encoded = Encoded {
        headers: vec![("x-dashscope-sse", "enable".to_owned()), ("accept", "text/event-stream".to_owned())],
        ..Encoded::default()
    };
    let headers = platform("claude").headers(&encoded);
    for (name, value) in [
        ("anthropic-version", "2023-06-01"),
        ("content-type", "application/json"),
        ("x-dashscope-sse", "enable"),
        ("accept", "text/event-stream"),
    ] {
        assert_eq!(headers[name], value);
    }
    assert_eq!(platform("openai").headers(&Encoded::default())["accept"], "*/*");
}

#[test]
fn an_account_may_have_its_own_address() {
    let qwen = platform("qwen");
    let abroad = qwen.with_base_url("https://dashscope-intl.aliyuncs.com/compatible-mode/v1/").expect("url");
    assert_eq!(abroad.base.host, "dashscope-intl.aliyuncs.com");
    assert_eq!(abroad.base.path, "/compatible-mode/v1");
    assert_eq!(abroad.models, qwen.models);
    let wrong = qwen.with_base_url("wss://x/").expect_err("scheme");
    assert_eq!((wrong.platform.as_str(), wrong.field.as_str()), ("qwen", "base_url"));
}

#[test]
fn an_operators_own_platform_is_one_row() {
    let own: Row = serde_saphyr::from_str(
        "dialect: openai\nbase_url: http://10.0.0.5:8000/v1\nauth: none\nmodels: [llama-3.3-70b]\nlacks: [logit_bias]\n",
    )
    .expect("row");
    let own = Platform::compile(Row { name: Some("my-vllm".to_owned()), ..own }).expect("compiled");
    assert_eq!((own.title.as_str(), own.timezone.as_str()), ("my-vllm", "UTC"));
    assert_eq!(own.models, ["llama-3.3-70b"]);
    assert_eq!((own.scheme.clone(), own.base.port), (Scheme::None, 8000));
    assert!(own.splices("llama-3.3-70b") && own.has_embeddings());
    let sent = encode(&own, "llama-3.3-70b", json!({"a": 1}), true, Unsupported::Reject).expect("encoded");
    assert_eq!(sent.body["stream_options"], json!({"include_usage": true}));
    let fault = encode(&own, "llama-3.3-70b", json!({"logit_bias": {"1": 2}}), false, Unsupported::Reject);
    assert_eq!(fault.err().expect("lacks").get_param(), Some("logit_bias"));
    assert_eq!(own.judge(429, &HeaderMap::new(), b"", 0).verdict, judge::Verdict::RateLimited);
}

#[test]
fn an_operators_row_goes_over_the_built_in_one() {
    let over: Row = serde_saphyr::from_str(
        r#"
base_url: https://dashscope-intl.aliyuncs.com/compatible-mode/v1
headers: {x-dashscope-workspace: w1}
models: [my-tune, {id: my-thinker, quirks: [stream_only]}]
errors:
  - {status: [429], message: "free allocated quota", verdict: rate_limited, scope: account, until: 90}
quota: {cooldown: account}
"#,
    )
    .expect("row");
    let merged = Platform::compile(row("qwen").merge(over)).expect("compiled");
    assert_eq!(merged.base.host, "dashscope-intl.aliyuncs.com");
    assert_eq!(merged.models, ["my-tune", "my-thinker"]);
    assert!(merged.streams_only("my-thinker") && merged.streams_only("qwq-plus"));
    assert_eq!(merged.headers(&Encoded::default())["x-dashscope-workspace"], "w1");
    assert_eq!(merged.timezone, "Asia/Shanghai");
    let free = br#"{"error":{"message":"Free allocated quota exceeded.","code":"insufficient_quota"}}"#;
    let judged = merged.judge(429, &HeaderMap::new(), free, 0);
    assert_eq!((judged.verdict, judged.scope), (judge::Verdict::RateLimited, judge::Scope::Account));
    let plain = merged.judge(429, &HeaderMap::new(), b"", 0);
    assert_eq!((plain.verdict, plain.scope), (judge::Verdict::RateLimited, judge::Scope::Account));
    assert_eq!(
        merged.judge(400, &HeaderMap::new(), br#"{"code":"Arrearage"}"#, 0).verdict,
        judge::Verdict::QuotaExhausted
    );
}

#[test]
fn a_row_that_cannot_be_says_which_field_and_why() {
    let base = "name: x\ndialect: openai\nbase_url: https://h/v1\n";
    for (extra, field) in [
        ("", ""),
        ("request: [{drop: [model]}]", "request"),
        ("request: [{rename: {from: a, to: messages}}]", "request"),
        ("request: [{default: {field: 'a\"b', value: 1}}]", "request"),
        ("request: [{clamp: {field: a}}]", "request"),
        ("request: [{clamp: {field: a, min: 2, max: 1}}]", "request"),
        ("lacks: ['']", "lacks"),
        ("embeddings: {request: [{drop: [model]}]}", "embeddings.request"),
        ("headers: {Authorization: x}", "headers.Authorization"),
        ("headers: {host: x}", "headers.host"),
        ("account_headers: [authorization]", "account_headers"),
        ("headers: {'a b': x}", "headers.a b"),
        ("headers: {a: \"x\\ny\"}", "headers.a"),
        ("paths: {chat: chat}", "paths.chat"),
        ("paths: {chat: '/a b'}", "paths.chat"),
        ("models: [{id: m, path: x}]", "models.m"),
        ("models: [{id: m, lacks: [stream]}]", "models.m"),
        ("quota: {timezone: Mars/Olympus}", "quota.timezone"),
        ("quota: {cooldown: platform}", "quota.cooldown"),
        ("token_url: nowhere", "token_url"),
    ] {
        let row: Row = serde_saphyr::from_str(&format!("{base}{extra}\n")).expect(extra);
        match Platform::compile(row) {
            Ok(_) => assert_eq!(field, "", "{extra}"),
            Err(wrong) => {
                assert_eq!((wrong.platform.as_str(), wrong.field.as_str()), ("x", field), "{wrong}")
            }
        }
    }
    let compile = |row: Row| Platform::compile(row).expect_err("wrong").field;
    assert_eq!(compile(Row::default()), "name");
    assert_eq!(compile(Row { name: Some("X y".to_owned()), ..row("openai") }), "name");
    assert_eq!(compile(Row { dialect: None, ..row("openai") }), "dialect");
    assert_eq!(compile(Row { base_url: None, ..row("openai") }), "base_url");
    assert_eq!(compile(Row { base_url: Some("wss://h/".to_owned()), ..row("openai") }), "base_url");
    assert_eq!(compile(Row { base_url: Some("https://h/".to_owned()), ..row("spark-ws") }), "base_url");
}

#[test]
fn a_row_is_read_strictly() {
    for bad in [
        "dialects: openai",
        "dialect: cobol",
        "auth: basic",
        "quirks: [no_such]",
        "paths: {images: /x}",
        "quota: {zone: UTC}",
        "retry_hint: [whenever]",
        "errors: [{status: [429]}]",
        "errors: [{status: 429, verdict: rate_limited}]",
        "errors: [{verdict: rate_limit}]",
        "errors: [{verdict: rate_limited, until: tomorrow}]",
        "errors: [{verdict: rate_limited, when: x}]",
        "models: [{quirks: []}]",
        "models: [{id: a, quirk: []}]",
        "models: [[a]]",
        "dialect: openai\ndialect: openai",
    ] {
        assert!(serde_saphyr::from_str::<Row>(bad).is_err(), "{bad}");
    }
}

fn embedding_ask(encoding: &str) -> Ask {
    let body = format!(r#"{{"model":"alias","input":"a","user":"u"{encoding}}}"#);
    Ask::embeddings(Bytes::from(body)).expect("ask")
}

#[test]
fn embeddings_are_asked_for_in_openais_shape() {
    let ask = embedding_ask(r#","encoding_format":"base64","dimensions":4"#);
    let body = |name: &str| {
        let encoded = platform(name).encode_embeddings(&ask, "e", Unsupported::Reject).expect("encoded");
        assert_eq!(encoded.path, "/embeddings");
        serde_json::from_slice::<Value>(&encoded.body).map(|body| (body, encoded.dropped)).expect("json")
    };
    let all = json!({"model": "e", "input": "a", "user": "u", "encoding_format": "base64", "dimensions": 4});
    for name in ["openai", "qwen", "aihubmix"] {
        assert_eq!(body(name), (all.clone(), vec![]), "{name}");
    }
    assert_eq!(body("baidu"), (json!({"model": "e", "input": "a", "user": "u", "dimensions": 4}), vec![]));
    assert_eq!(
        body("zhipu"),
        (json!({"model": "e", "input": "a", "dimensions": 4}), vec!["user".to_owned()])
    );
    assert_eq!(body("doubao").1, ["user"]);
    for name in ["claude", "spark", "huggingface", "dashscope", "baidu-v1", "spark-ws"] {
        assert!(!platform(name).has_embeddings(), "{name}");
        let fault = platform(name).encode_embeddings(&ask, "e", Unsupported::Reject).expect_err(name);
        assert_eq!(fault.kind(), Kind::Unsupported, "{name}");
    }
}

#[test]
fn gemini_embeddings_are_translated_and_nothing_is_lost_in_silence() {
    let gemini = platform("gemini");
    assert!(gemini.has_embeddings());
    let ask = embedding_ask(r#","encoding_format":"base64","dimensions":4"#);
    let encoded =
        gemini.encode_embeddings(&ask, "gemini-embedding-001", Unsupported::Reject).expect("encoded");
    assert_eq!(encoded.path, "/models/gemini-embedding-001:batchEmbedContents");
    let body: Value = serde_json::from_slice(&encoded.body).expect("json");
    assert_eq!(body["requests"][0]["content"]["parts"][0]["text"], "a");
    assert_eq!(body["requests"][0]["outputDimensionality"], 4);
    assert_eq!(encoded.dropped, ["user"]);
    let odd = embedding_ask(r#","task":"x""#);
    let fault = gemini.encode_embeddings(&odd, "e", Unsupported::Reject).expect_err("unknown");
    assert_eq!(fault.get_param(), Some("task"));
    assert_eq!(
        gemini.encode_embeddings(&odd, "e", Unsupported::Drop).expect("dropped").dropped,
        ["user", "task"]
    );
    let inventive = embedding_ask(r#","t\u00e4sk\r\nx: y":1"#);
    let encoded = gemini.encode_embeddings(&inventive, "e", Unsupported::Drop).expect("dropped");
    assert_eq!(encoded.dropped, ["user", "tskx:y"]);
    let answer = br#"{"embeddings":[{"values":[0.5,-2]},{"values":[1,1]}]}"#;
    let decode = |ask: &Ask| {
        let bytes = gemini.decode_embeddings(answer, ask).expect("decoded");
        serde_json::from_slice::<Value>(&bytes).expect("json")
    };
    let listed = decode(&ask);
    assert_eq!((&listed["object"], &listed["model"]), (&json!("list"), &json!("alias")));
    assert_eq!(listed["data"][0]["embedding"], "AAAAPwAAAMA=");
    let plain = decode(&embedding_ask(""));
    assert_eq!(plain["data"][1], json!({"object": "embedding", "index": 1, "embedding": [1.0, 1.0]}));
    let report = br#"{"error":{"code":429,"message":"m"}}"#;
    assert!(matches!(gemini.decode_embeddings(report, &ask), Err(Failure::Reported(_))));
}

#[test]
fn embeddings_come_back_in_the_encoding_that_was_asked_for() {
    let openai = platform("openai");
    let floats = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-2]}],"model":"e-1","usage":{"prompt_tokens":1,"total_tokens":1},"id":"x"}"#;
    let base64 = r#"{"data":[{"object":"embedding","index":0,"embedding": "AAAAPwAAAMA="}],"model":"e-1"}"#;
    let decode = |body: &str, ask: &Ask| {
        let bytes = openai.decode_embeddings(body.as_bytes(), ask).expect("decoded");
        serde_json::from_slice::<Value>(&bytes).expect("json")
    };
    for body in [floats, base64] {
        let plain = decode(body, &embedding_ask(""));
        assert_eq!((&plain["object"], &plain["model"]), (&json!("list"), &json!("alias")));
        let vector: Vec<f64> = serde_json::from_value(plain["data"][0]["embedding"].clone()).expect("floats");
        assert_eq!(vector, [0.5, -2.0]);
        let encoded = decode(body, &embedding_ask(r#","encoding_format":"base64""#));
        assert_eq!(encoded["data"][0]["embedding"], "AAAAPwAAAMA=");
        assert!(encoded["usage"]["total_tokens"].is_u64());
    }
    assert_eq!(decode(floats, &embedding_ask(""))["id"], "x");
    let reported = br#"{"error":{"message":"m"}}"#;
    assert_eq!(
        openai.decode_embeddings(reported, &embedding_ask("")),
        Err(Failure::Reported(reported.to_vec()))
    );
    for bad in ["", "<html>", "{}", r#"{"data":{}}"#, r#"{"data":[{"embedding":"%%%"}]}"#, r#"{"data":[{}]}"#]
    {
        let decoded = openai.decode_embeddings(bad.as_bytes(), &embedding_ask(""));
        assert!(matches!(decoded, Err(Failure::Malformed(_))), "{bad}");
    }
}
