//! What callers ask for beyond the usual, through the real binary: what a platform cannot do is refused or named, and what
//! it can is said in its own words and answered in the caller's.

use serde_json::{Value, json};

use crate::house::{Answer, House};

const ALL: &str = "\
accounts:
  - {id: c, platform: claude, api_key: sk-ant-c}
  - {id: g, platform: gemini, api_key: AIzaG}
  - {id: q, platform: qwen, api_key: sk-q}
  - {id: z, platform: zhipu, api_key: z.z}
  - {id: o, platform: openai, api_key: sk-o}
routes:
  - {model: lenient-qwen, unsupported: drop, targets: [{platform: qwen, model: qwen-max}]}
  - {model: lenient-glm, unsupported: drop, targets: [{platform: zhipu, model: glm-4.6}]}
  - {model: \"claude*\", targets: [{platform: claude}]}
  - {model: \"gemini*\", targets: [{platform: gemini}]}
  - {model: \"qwen*\", targets: [{platform: qwen}]}
  - {model: \"glm*\", targets: [{platform: zhipu}]}
  - {model: \"gpt*\", targets: [{platform: openai}]}
";

fn weather() -> Value {
    json!({"name": "get_weather", "description": "The weather in a city.", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}})
}

async fn ask(house: &House, model: &str, stream: bool, messages: Value, more: Value) -> Answer {
    let mut body = json!({"model": model, "stream": stream, "messages": messages});
    body.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    house.post("/v1/chat/completions", &body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demanded_call_is_never_turned_into_a_wish_unasked() {
    let house = House::start(ALL).await;
    let user = || json!([{"role": "user", "content": "Hello"}]);
    let tools = json!([{"type": "function", "function": weather()}]);
    let named = json!({"type": "function", "function": {"name": "get_weather"}});
    for (strict, lenient, choices) in [
        ("qwen-max", "lenient-qwen", vec![json!("required")]),
        ("glm-4.6", "lenient-glm", vec![json!("required"), named]),
    ] {
        for choice in choices {
            let more = json!({"tools": tools, "tool_choice": choice});
            let refused = ask(&house, strict, false, user(), more.clone()).await;
            assert_eq!(refused.error(400), "unsupported_parameter");
            let error = &refused.json()["error"];
            assert_eq!(
                (&error["type"], &error["param"]),
                (&json!("invalid_request_error"), &json!("tool_choice"))
            );
            let dropped = ask(&house, lenient, false, user(), more).await;
            assert_eq!((dropped.status, dropped.header("x-gateway-dropped-params")), (200, "tool_choice"));
        }
        let auto = json!({"tools": tools, "tool_choice": "auto"});
        assert_eq!(ask(&house, strict, false, user(), auto).await.status, 200);
    }
    house.settled().await;
}

/// OpenAI's deprecated `functions`: asked, called and answered in the same words on every wire.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_are_answered_with_a_function_call() {
    let house = House::start(ALL).await;
    for model in ["claude-sonnet-4-5", "gemini-2.5-flash", "qwen-max", "glm-4.6"] {
        let user = json!({"role": "user", "content": "What is the weather in Paris?"});
        let more = json!({"functions": [weather()], "function_call": "auto"});
        let whole = ask(&house, model, false, json!([user]), more.clone()).await;
        assert_eq!(whole.status, 200, "{model}: {}", whole.text());
        let choice = whole.json()["choices"][0].take();
        let call = &choice["message"]["function_call"];
        assert_eq!(
            (&choice["finish_reason"], &call["name"]),
            (&json!("function_call"), &json!("get_weather"))
        );
        assert!(choice["message"].get("tool_calls").is_none(), "{model}: {choice}");
        let arguments = call["arguments"].as_str().expect("text");
        assert!(serde_json::from_str::<Value>(arguments).expect("json").is_object(), "{model}: {arguments}");

        let events = ask(&house, model, true, json!([user]), more.clone()).await.events();
        let deltas: Vec<&Value> =
            events.chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]["function_call"]).collect();
        let joined =
            |field: &str| deltas.iter().filter_map(|delta| delta[field].as_str()).collect::<String>();
        assert_eq!(
            (joined("name").as_str(), joined("arguments").as_str()),
            ("get_weather", arguments),
            "{model}"
        );
        assert_eq!(events.finish().as_deref(), Some("function_call"), "{model}");

        let result = json!({"role": "function", "name": "get_weather", "content": "21 degrees"});
        let answered = ask(&house, model, false, json!([user, choice["message"], result]), more).await;
        assert_eq!(answered.status, 200, "{model}: {}", answered.text());
        assert!(answered.content().contains("21 degrees"), "{model}: {}", answered.text());
    }
    let stray = json!([{"role": "function", "name": "f", "content": "x"}, {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}]);
    let refused = ask(&house, "claude-sonnet-4-5", false, stray, json!({})).await;
    refused.error(400);
    assert_eq!(refused.json()["error"]["param"], "messages[0]");
    // What the platform cannot do is named in the caller's words.
    let forced = json!({"functions": [weather()], "function_call": {"name": "get_weather"}});
    let user = json!([{"role": "user", "content": "Hello"}]);
    let refused = ask(&house, "glm-4.6", false, user.clone(), forced.clone()).await;
    assert_eq!(refused.error(400), "unsupported_parameter");
    assert_eq!(refused.json()["error"]["param"], "function_call");
    let dropped = ask(&house, "lenient-glm", false, user, forced).await;
    assert_eq!((dropped.status, dropped.header("x-gateway-dropped-params")), (200, "function_call"));
    house.settled().await;
}
