//! What the real platforms refuse is refused.

use super::*;

/// Says "hi" with more fields to each platform; the flag tells whether it should be taken.
async fn held(table: Vec<(&str, Value, bool)>) {
    let fake = Fake::start().await;
    for (platform, more, good) in table {
        let reply = Door::named(platform).say(&fake, "hi", more.clone()).await;
        assert_eq!(reply.status == 200, good, "{platform} {more}: {}", reply.text());
        assert!(good || (400..=429).contains(&reply.status), "{platform} {more}: {}", reply.status);
    }
}

#[tokio::test]
async fn openai_and_qwen_are_held_to_their_ranges() {
    let tools = json!([{"type":"function","function":{"name":"f"}}]);
    let table: Vec<(&str, Value, bool)> = vec![
        ("openai", json!({"api_base":"http://evil"}), false),
        ("openai", json!({"temperature":2}), true),
        ("openai", json!({"temperature":2.1}), false),
        ("openai", json!({"temperature":"1"}), false),
        ("openai", json!({"temperature":null}), true),
        ("openai", json!({"n":129}), false),
        ("openai", json!({"stop":["a","b","c","d","e"]}), false),
        ("openai", json!({"stream_options":{"include_usage":true}}), false),
        ("openai", json!({"tool_choice":"required"}), false),
        ("openai", json!({"tools":tools,"tool_choice":"required"}), true),
        ("openai", json!({"tools":tools,"tool_choice":{"type":"function","function":{"name":"g"}}}), false),
        ("openai", json!({"response_format":{"type":"json_object"}}), false),
        ("openai", json!({"top_logprobs":3}), false),
        ("openai", json!({"messages":[]}), false),
        ("openai", json!({"messages":[{"role":"tool","tool_call_id":"x","content":"y"}]}), false),
        ("openai", json!({"messages":[{"role":"robot","content":"y"}]}), false),
        (
            "openai",
            json!({"messages":[{"role":"user","content":"y"},{"role":"assistant","content":"a","reasoning_content":"b"}]}),
            false,
        ),
        (
            "openai",
            json!({"messages":[{"role":"developer","content":"y"},{"role":"user","content":"y"}]}),
            true,
        ),
        ("qwen", json!({"temperature":2}), false),
        ("qwen", json!({"top_p":0}), false),
        ("qwen", json!({"frequency_penalty":1}), false),
        ("qwen", json!({"store":true}), false),
        ("qwen", json!({"tools":tools,"tool_choice":"required"}), false),
        ("qwen", json!({"enable_thinking":true}), false),
        ("qwen", json!({"n":2,"tools":tools}), false),
        ("qwen", json!({"model":"qwq-plus"}), false),
        ("qwen", json!({"model":"qwen-plus","max_completion_tokens":5}), false),
        (
            "qwen",
            json!({"messages":[{"role":"developer","content":"y"},{"role":"user","content":"y"}]}),
            false,
        ),
    ];
    held(table).await;
}

#[tokio::test]
async fn the_other_platforms_are_held_to_theirs() {
    let tools = json!([{"type":"function","function":{"name":"f"}}]);
    let table = vec![
        ("zhipu", json!({"temperature":1.2}), false),
        ("zhipu", json!({"top_p":0.001}), false),
        ("zhipu", json!({"stop":["a"]}), true),
        ("zhipu", json!({"stop":["a","b"]}), false),
        ("zhipu", json!({"stop":"a"}), false),
        ("zhipu", json!({"tools":tools,"tool_choice":"none"}), false),
        ("zhipu", json!({"max_completion_tokens":5}), false),
        ("zhipu", json!({"n":1}), false),
        ("zhipu", json!({"model":"glm-5.3","reasoning_effort":"medium"}), false),
        ("doubao", json!({"max_tokens":1,"max_completion_tokens":1}), false),
        ("doubao", json!({"seed":1}), false),
        ("doubao", json!({"user":"u"}), false),
        ("baidu", json!({"temperature":0}), false),
        ("baidu", json!({"temperature":1.1}), false),
        ("baidu", json!({"n":1}), false),
        ("spark", json!({"temperature":0}), false),
        ("spark", json!({"stream_options":{}}), false),
        ("spark", json!({"max_tokens":8193}), false),
        ("spark", json!({"model":"spark-lite"}), false),
        (
            "spark",
            json!({"model":"lite","messages":[{"role":"system","content":"s"},{"role":"user","content":"y"}]}),
            false,
        ),
        ("spark", json!({"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}), false),
        ("spark", json!({"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}), false),
        ("spark", json!({"tools":tools,"tool_choice":{"type":"function","function":{"name":"f"}}}), true),
        ("spark", json!({"tools":tools,"tool_choice":{"type":"function","name":"f"}}), false),
        ("huggingface", json!({"max_completion_tokens":5}), false),
        ("huggingface", json!({"model":"a/b:groq"}), true),
        ("huggingface", json!({"model":"a/b:nobody"}), false),
        ("huggingface", json!({"model":"plain"}), false),
        ("huggingface", json!({"top_logprobs":6,"logprobs":true}), false),
        ("aihubmix", json!({"temperature":3}), false),
    ];
    held(table).await;
}

#[tokio::test]
async fn openais_reasoning_models_refuse_sampling_and_max_tokens() {
    let fake = Fake::start().await;
    let door = Door { model: "gpt-5.4", ..Door::named("openai") };
    let reply = door.say(&fake, "hi", json!({"max_tokens":5})).await;
    assert_eq!(
        (&reply.json()["error"]["code"], &reply.json()["error"]["param"]),
        (&json!("unsupported_parameter"), &json!("max_tokens"))
    );
    let reply = door.say(&fake, "hi", json!({"temperature":0.5})).await;
    assert_eq!(reply.json()["error"]["code"], "unsupported_value");
    let unknown = Door::named("openai").say(&fake, "hi", json!({"x":1})).await;
    assert_eq!(
        (&unknown.json()["error"]["code"], &unknown.json()["error"]["param"]),
        (&json!("unknown_parameter"), &json!("x"))
    );
}

#[tokio::test]
async fn claude_is_strict() {
    let fake = Fake::start().await;
    let image =
        |source: Value| json!({"messages":[{"role":"user","content":[{"type":"image","source":source}]}]});
    let tool = json!([{"name":"f","input_schema":{"type":"object","properties":{}}}]);
    let table = vec![
        (json!({"max_tokens":null}), "max_tokens: Field required"),
        (json!({"n":1}), "n: Extra inputs"),
        (json!({"temperature":1.1}), "temperature"),
        (json!({"messages":[]}), "messages"),
        (
            json!({"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}]}),
            "role 'system'",
        ),
        (json!({"messages":[{"role":"assistant","content":"s"}]}), "first message"),
        (json!({"messages":[{"role":"user","content":"u"},{"role":"assistant","content":"s"}]}), "prefill"),
        (json!({"messages":[{"role":"user","content":" "}]}), "non-empty"),
        (json!({"messages":[{"role":"user","content":[]}]}), "must not be empty"),
        (json!({"messages":[{"role":"user","content":[{"type":"text","text":""}]}]}), "non-empty"),
        (
            json!({"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"x","content":"y"}]}]}),
            "unexpected `tool_use_id`",
        ),
        (image(json!({"type":"base64","media_type":"image/bmp","data":"a"})), "media_type"),
        (image(json!({"type":"base64","media_type":"image/png","data":"data:image/png;base64,a"})), "base64"),
        (json!({"stop_sequences":[" "]}), "non-whitespace"),
        (json!({"tools":[{"name":"f","input_schema":{}}]}), "input_schema.type"),
        (json!({"tools":[{"name":"f","parameters":{}}]}), "Extra inputs"),
        (json!({"tool_choice":{"type":"auto"}}), "providing tools"),
        (
            json!({"tools":tool,"tool_choice":{"type":"none","disable_parallel_tool_use":true}}),
            "Extra inputs",
        ),
        (json!({"tools":tool,"tool_choice":"auto"}), "tool_choice"),
        (json!({"thinking":{"type":"enabled","budget_tokens":100}}), "1024"),
        (json!({"thinking":{"type":"enabled","budget_tokens":4096}}), "budget_tokens"),
        (
            json!({"tools":tool,"thinking":{"type":"adaptive"},"tool_choice":{"type":"any"}}),
            "forces tool use",
        ),
    ];
    for (more, words) in table {
        let reply = claude(&fake, "hi", more.clone()).await;
        assert_eq!(reply.status, 400, "{more}: {}", reply.text());
        assert!(reply.text().contains(words), "{more}: {}", reply.text());
    }
    assert_eq!(claude(&fake, "hi", json!({"model":"gpt-4o"})).await.status, 404);
    assert_eq!(claude(&fake, "hi", json!({"temperature":1})).await.status, 200);
    let body = json!({"model":"claude-sonnet-4-5","max_tokens":9,"temperature":1,"messages":[{"role":"user","content":"u"}]});
    let newer = fake
        .post("/claude/v1/messages", &[("x-api-key", "sk-ant-a"), ("anthropic-version", "2026-10-21")], &body)
        .await;
    assert_eq!(newer.status, 400, "sampling is gone in the newer version");
}

#[tokio::test]
async fn gemini_is_strict() {
    let fake = Fake::start().await;
    let declare = |parameters: Value| json!({"tools":[{"functionDeclarations":[{"name":"f","parameters":parameters}]}]});
    let user = |parts: Value| json!({"contents":[{"role":"user","parts":parts}]});
    let table = vec![
        (json!({"max_tokens":5}), "Unknown name \"max_tokens\""),
        (json!({"generationConfig":{"n":1}}), "Unknown name \"n\""),
        (json!({"generationConfig":{"temperature":2.5}}), "temperature"),
        (json!({"generationConfig":{"candidateCount":2}}), "Multiple candidates"),
        (json!({"generationConfig":{"stopSequences":["1","2","3","4","5","6"]}}), "stop_sequences"),
        (
            json!({"generationConfig":{"responseSchema":{"type":"object","properties":{"a":{"type":"string"}}}}}),
            "mime type",
        ),
        (
            json!({"generationConfig":{"thinkingConfig":{"thinkingBudget":1,"thinkingLevel":"LOW"}}}),
            "only one",
        ),
        (json!({"contents":[]}), "contents is not specified"),
        (json!({"contents":[{"role":"assistant","parts":[{"text":"a"}]}]}), "valid role"),
        (user(json!([])), "must not be empty"),
        (user(json!([{"type":"text","text":"a"}])), "Unknown name \"type\""),
        (
            user(json!([{"functionResponse":{"name":"f","response":{"a":1}}}])),
            "number of function response parts",
        ),
        (declare(json!({"type":"object","properties":{}})), "should be non-empty for OBJECT"),
        (
            declare(
                json!({"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}),
            ),
            "additionalProperties",
        ),
        (declare(json!({"type":"object","properties":{"a":{"type":["string","null"]}}})), "type"),
        (declare(json!({"type":"object","properties":{"a":{"type":"array"}}})), "missing field"),
        (declare(json!({"type":"object","properties":{"a":{"type":"string","format":"uri"}}})), "format"),
        (declare(json!({"type":"object","properties":{"a":{"$ref":"#/$defs/b"}}})), "$ref"),
        (json!({"toolConfig":{"functionCallingConfig":{"mode":"ANY"}}}), "without function_declarations"),
        (
            json!({"safetySettings":[{"category":"HARM_CATEGORY_HARASSMENT"},{"category":"HARM_CATEGORY_HARASSMENT"}]}),
            "Duplicate",
        ),
    ];
    for (more, words) in table {
        let reply = gemini(&fake, "gemini-2.5-flash", false, "hi", more.clone()).await;
        assert_eq!(reply.status, 400, "{more}: {}", reply.text());
        assert!(
            reply.json()["error"]["message"].as_str().unwrap().contains(words),
            "{more}: {}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn gemini_takes_both_spellings_and_thinks_only_where_it_can() {
    let fake = Fake::start().await;
    let budget = json!({"generationConfig":{"thinkingConfig":{"thinkingBudget":1}}});
    assert_eq!(gemini(&fake, "gemini-2.0-flash", false, "hi", budget).await.status, 400);
    let snake =
        json!({"system_instruction":{"parts":[{"text":"s"}]},"generation_config":{"max_output_tokens":9}});
    assert_eq!(
        gemini(&fake, "gemini-2.5-flash", false, "hi", snake).await.status,
        200,
        "proto takes both spellings"
    );
    let real = json!({"tools":[{"functionDeclarations":[{"name":"f","parametersJsonSchema":{"type":"object","properties":{},"additionalProperties":false}},{"name":"g"}]}]});
    assert_eq!(gemini(&fake, "gemini-2.5-flash", false, "hi", real).await.status, 200);
}

#[tokio::test]
async fn lists_and_embeddings() {
    let fake = Fake::start().await;
    let bearer = ("authorization", "Bearer sk-a");
    let list = fake.get("/openai/v1/models", &[bearer]).await.json();
    assert_eq!((&list["object"], &list["data"][0]["object"]), (&json!("list"), &json!("model")));
    assert_eq!(fake.get("/openai/v1/models", &[]).await.status, 401);
    assert_eq!(fake.get("/huggingface/v1/models", &[]).await.status, 200, "shown to everyone");
    assert_eq!(fake.get("/openai/v1/models/gpt-4o", &[bearer]).await.json()["id"], "gpt-4o");
    let claude = fake
        .get("/claude/v1/models", &[("x-api-key", "sk-ant-a"), ("anthropic-version", "2023-06-01")])
        .await
        .json();
    assert_eq!(claude["has_more"], false);
    assert!(
        fake.get("/gemini/v1beta/models?key=AIza-a", &[]).await.json()["models"][0]["name"]
            .as_str()
            .unwrap()
            .starts_with("models/")
    );
    let ask = |more: Value| {
        let mut body = json!({"model":"text-embedding-3-small","input":["one two","three"]});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let body = fake.post("/openai/v1/embeddings", &[bearer], &ask(json!({"dimensions":3}))).await.json();
    assert_eq!(
        (body["data"][1]["embedding"].as_array().unwrap().len(), &body["usage"]["total_tokens"]),
        (3, &json!(3))
    );
    let coded = fake
        .post("/openai/v1/embeddings", &[bearer], &ask(json!({"dimensions":3,"encoding_format":"base64"})))
        .await
        .json();
    assert_eq!(coded["data"][0]["embedding"].as_str().unwrap().len(), 16, "12 bytes in base64");
    assert_eq!(fake.post("/openai/v1/embeddings", &[bearer], &ask(json!({"x":1}))).await.status, 400);
    assert_eq!(fake.post("/spark/v1/embeddings", &[bearer], &ask(json!({}))).await.status, 404);
    let google = fake
        .post(
            "/gemini/v1beta/models/gemini-embedding-001:batchEmbedContents?key=AIza-a",
            &[],
            &json!({"requests":[{"content":{"parts":[{"text":"a"}]}},{"content":{"parts":[{"text":"b"}]}}]}),
        )
        .await
        .json();
    assert_eq!(google["embeddings"].as_array().unwrap().len(), 2);
}
