//! Tools, thinking, images, JSON: the same on every platform, in its own shape.

use super::*;

const WEATHER: &str = "What is the weather in Oslo and Rome?";

fn schema() -> Value {
    json!({"type":"object","properties":{"city":{"type":"string"}},"required":["city"]})
}

fn tools() -> Value {
    json!([{"type":"function","function":{"name":"get_weather","description":"now","parameters":schema()}}])
}

/// What to add so that several calls may come.
fn parallel(platform: &str) -> Value {
    match platform {
        "qwen" => json!({"tools":tools(),"parallel_tool_calls":true}),
        "spark" => json!({"tools":tools(),"tool_calls_switch":true}),
        _ => json!({ "tools": tools() }),
    }
}

/// Calls put together from a stream, by index, never overwritten by what is empty.
fn gathered(events: &[Value]) -> Vec<(String, String, String)> {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for event in events {
        for told in event["choices"][0]["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = told["index"].as_u64().map_or(calls.len(), |index| index as usize);
            calls.resize(calls.len().max(index + 1), Default::default());
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            calls[index].0.push_str(&text(&told["id"]));
            calls[index].1.push_str(&text(&told["function"]["name"]));
            calls[index].2.push_str(&text(&told["function"]["arguments"]));
        }
    }
    calls
}

#[tokio::test]
async fn two_cities_are_two_calls_whole_and_streamed() {
    let fake = Fake::start().await;
    for door in DOORS {
        let mut more = parallel(door.platform);
        let body = door.say(&fake, WEATHER, more.clone()).await.json();
        let calls =
            body["choices"][0]["message"]["tool_calls"].as_array().unwrap_or_else(|| panic!("{body}"));
        let arguments: Vec<&Value> = calls.iter().map(|call| &call["function"]["arguments"]).collect();
        assert_eq!(
            arguments,
            [&json!("{\"city\":\"Oslo\"}"), &json!("{\"city\":\"Rome\"}")],
            "{}",
            door.platform
        );
        assert_eq!(
            (&body["usage"]["prompt_tokens"], &body["usage"]["completion_tokens"]),
            (&json!(11), &json!(8)),
            "{}",
            door.platform
        );
        more["stream"] = json!(true);
        let (events, _) = door.say(&fake, WEATHER, more).await.events();
        let calls = gathered(&events);
        assert_eq!(calls.len(), 2, "{}", door.platform);
        for (call, city) in calls.iter().zip(["Oslo", "Rome"]) {
            assert!(call.0.starts_with("call_") && call.1 == "get_weather", "{}: {call:?}", door.platform);
            assert_eq!(call.2, format!("{{\"city\":\"{city}\"}}"), "{}", door.platform);
        }
        let reasons: Vec<&str> =
            events.iter().filter_map(|event| event["choices"][0]["finish_reason"].as_str()).collect();
        let expected: &[&str] = if door.platform == "spark" { &[] } else { &["tool_calls"] };
        assert_eq!(reasons, expected, "{}", door.platform);
    }
}

#[tokio::test]
async fn results_come_back_into_words_on_every_platform() {
    let fake = Fake::start().await;
    for door in DOORS {
        let call = |id: &str, city: &str| {
            let arguments = json!({ "city": city }).to_string();
            json!({"id":id,"type":"function","function":{"name":"get_weather","arguments":arguments}})
        };
        let mut body = door.body(WEATHER);
        for (name, value) in parallel(door.platform).as_object().unwrap() {
            body[name] = value.clone();
        }
        let turns = body["messages"].as_array_mut().unwrap();
        turns.push(
            json!({"role":"assistant","content":"","tool_calls":[call("c1", "Oslo"), call("c2", "Rome")]}),
        );
        turns.push(json!({"role":"tool","tool_call_id":"c1","content":"12C"}));
        turns.push(json!({"role":"tool","tool_call_id":"c2","content":"20C"}));
        let reply = door.ask(&fake, &body).await;
        assert_eq!(
            reply.json()["choices"][0]["message"]["content"],
            "It is 12C in Oslo. It is 20C in Rome.",
            "{}: {}",
            door.platform,
            reply.text()
        );
        assert_eq!(reply.json()["usage"]["prompt_tokens"], 21, "{}", door.platform);
        // One result short is no conversation.
        body["messages"].as_array_mut().unwrap().pop();
        assert_eq!(door.ask(&fake, &body).await.status / 100, 4, "{}", door.platform);
    }
}

#[tokio::test]
async fn claude_calls_and_takes_results() {
    let fake = Fake::start().await;
    let tools = json!([{"name":"get_weather","description":"now","input_schema":schema()}]);
    let body = claude(&fake, WEATHER, json!({ "tools": tools })).await.json();
    assert_eq!(body["stop_reason"], "tool_use");
    let inputs: Vec<&Value> =
        body["content"].as_array().unwrap().iter().map(|block| &block["input"]["city"]).collect();
    assert_eq!(inputs, ["Oslo", "Rome"]);
    assert_eq!((&body["usage"]["input_tokens"], &body["usage"]["output_tokens"]), (&json!(11), &json!(8)));
    let one = json!({"tools":tools,"tool_choice":{"type":"auto","disable_parallel_tool_use":true}});
    assert_eq!(claude(&fake, WEATHER, one).await.json()["content"].as_array().unwrap().len(), 1);
    let mut turns = json!([{"role":"user","content":WEATHER}, {"role":"assistant","content":body["content"]},
        {"role":"user","content":[]}]);
    let results = body["content"].as_array().unwrap().iter().zip(["12C", "20C"]);
    turns[2]["content"] = results
        .map(|(call, text)| json!({"type":"tool_result","tool_use_id":call["id"],"content":text}))
        .collect();
    let answered = claude(&fake, "", json!({"messages":turns,"tools":tools})).await;
    assert_eq!(
        answered.json()["content"][0]["text"],
        "It is 12C in Oslo. It is 20C in Rome.",
        "{}",
        answered.text()
    );
    assert_eq!(answered.json()["usage"]["input_tokens"], 21);
    turns[2]["content"].as_array_mut().unwrap().insert(0, json!({"type":"text","text":"first"}));
    assert_eq!(
        claude(&fake, "", json!({"messages":turns,"tools":tools})).await.status,
        400,
        "text before results"
    );

    let (events, _) = claude(&fake, WEATHER, json!({"tools":tools,"stream":true})).await.events();
    let starts: Vec<&Value> = events.iter().filter(|event| event["type"] == "content_block_start").collect();
    assert_eq!(starts.len(), 2);
    let json: String = events
        .iter()
        .filter(|event| event["index"] == 1)
        .filter_map(|event| event["delta"]["partial_json"].as_str())
        .collect();
    assert_eq!(json, "{\"city\":\"Rome\"}");
}

#[tokio::test]
async fn gemini_calls_signs_and_wants_its_signature_back() {
    let fake = Fake::start().await;
    let tools = json!([{"functionDeclarations":[{"name":"get_weather","parameters":schema()}]}]);
    let body = gemini(&fake, "gemini-3-pro", false, WEATHER, json!({ "tools": tools })).await.json();
    let content = body["candidates"][0]["content"].clone();
    let parts = content["parts"].as_array().unwrap();
    assert_eq!((parts.len(), &body["candidates"][0]["finishReason"]), (2, &json!("STOP")));
    assert!(parts[0]["thoughtSignature"].is_string() && parts[1].get("thoughtSignature").is_none());
    assert!(parts[0]["functionCall"].get("id").is_none());
    assert_eq!(body["usageMetadata"]["candidatesTokenCount"], 8);
    let response = |text: &str| json!({"functionResponse":{"name":"get_weather","response":{"result":text}}});
    let turns = |content: &Value| {
        json!({"tools":tools,"contents":[{"role":"user","parts":[{"text":WEATHER}]}, content,
            {"role":"user","parts":[response("12C"), response("20C")]}]})
    };
    let reply = gemini(&fake, "gemini-3-pro", false, "", turns(&content)).await;
    assert_eq!(
        reply.json()["candidates"][0]["content"]["parts"][0]["text"],
        "It is 12C in Oslo. It is 20C in Rome.",
        "{}",
        reply.text()
    );
    assert_eq!(reply.json()["usageMetadata"]["promptTokenCount"], 21);
    let mut bare = content.clone();
    bare["parts"][0].as_object_mut().unwrap().remove("thoughtSignature");
    let refused = gemini(&fake, "gemini-3-pro", false, "", turns(&bare)).await;
    assert!(
        refused.status == 400 && refused.text().contains("missing a thought_signature"),
        "{}",
        refused.text()
    );
    assert_eq!(
        gemini(&fake, "gemini-2.5-flash", false, "", turns(&bare)).await.status,
        200,
        "2.5 signs nothing"
    );
    bare["parts"][0]["thoughtSignature"] = json!("c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=");
    assert_eq!(
        gemini(&fake, "gemini-3-pro", false, "", turns(&bare)).await.status,
        200,
        "the documented stand-in"
    );
    let other = gemini(&fake, "gemini-3.8-flash", false, "", turns(&content)).await;
    assert!(other.text().contains("Corrupted thought signature"), "another model's signature");
    let mut short = turns(&content);
    short["contents"][2]["parts"].as_array_mut().unwrap().pop();
    assert_eq!(gemini(&fake, "gemini-3-pro", false, "", short).await.status, 400);
}

#[tokio::test]
async fn thinking_is_shown_and_counted_in_each_way() {
    let fake = Fake::start().await;
    let ways = [
        ("qwen", json!({"enable_thinking":true,"stream":true,"stream_options":{"include_usage":true}})),
        ("zhipu", json!({"thinking":{"type":"enabled"},"stream":true})),
        (
            "doubao",
            json!({"thinking":{"type":"enabled"},"stream":true,"stream_options":{"include_usage":true}}),
        ),
        ("baidu", json!({"enable_thinking":true,"stream":true,"stream_options":{"include_usage":true}})),
        (
            "huggingface",
            json!({"reasoning_effort":"low","stream":true,"stream_options":{"include_usage":true}}),
        ),
        ("aihubmix", json!({"reasoning_effort":"low","stream":true,"stream_options":{"include_usage":true}})),
    ];
    for (platform, more) in ways {
        let (events, _) = Door::named(platform).say(&fake, "Hi", more).await.events();
        let thought: String = events
            .iter()
            .filter_map(|event| event["choices"][0]["delta"]["reasoning_content"].as_str())
            .collect();
        assert_eq!(thought, "Let me think about this first.", "{platform}");
        let usage = events
            .iter()
            .rev()
            .find_map(|event| event.get("usage").filter(|usage| !usage.is_null()))
            .unwrap();
        assert_eq!(usage["completion_tokens"], 9, "{platform}");
    }
    let openai = Door { model: "gpt-5.4", ..Door::named("openai") };
    let body = openai.say(&fake, "Hi", json!({"reasoning_effort":"low"})).await.json();
    assert!(body["choices"][0]["message"].get("reasoning_content").is_none());
    assert_eq!(body["usage"]["completion_tokens"], 9);
    assert_eq!(body["usage"]["completion_tokens_details"]["reasoning_tokens"], 6);
    let thinking = json!({"thinking":{"type":"enabled","budget_tokens":1024}});
    let body = claude(&fake, "Hi", thinking).await.json();
    assert_eq!(
        (&body["content"][0]["type"], &body["usage"]["output_tokens"]),
        (&json!("thinking"), &json!(9))
    );
    let turns = json!([{"role":"user","content":"Hi"},{"role":"assistant","content":body["content"]},{"role":"user","content":"On"}]);
    assert_eq!(claude(&fake, "", json!({ "messages": turns })).await.status, 200);
    let mut forged = turns.clone();
    forged[1]["content"][0]["thinking"] = json!("Something else.");
    assert_eq!(claude(&fake, "", json!({ "messages": forged })).await.status, 400);
    let config =
        json!({"generationConfig":{"thinkingConfig":{"includeThoughts":true,"thinkingBudget":1024}}});
    let body = gemini(&fake, "gemini-2.5-flash", false, "Hi", config).await.json();
    assert_eq!(body["candidates"][0]["content"]["parts"][0]["thought"], true);
    assert_eq!(
        body["usageMetadata"],
        json!({"promptTokenCount":1,"candidatesTokenCount":3,"thoughtsTokenCount":6,
        "totalTokenCount":10,"promptTokensDetails":[{"modality":"TEXT","tokenCount":1}]})
    );
}

#[tokio::test]
async fn images_json_limits_and_stops() {
    let fake = Fake::start().await;
    let image = "data:image/png;base64,iVBO";
    let parts = json!([{"type":"text","text":"What?"},{"type":"image_url","image_url":{"url":image}}]);
    let body = Door::named("openai")
        .ask(&fake, &json!({"model":"gpt-4o","messages":[{"role":"user","content":parts}]}))
        .await
        .json();
    assert_eq!(body["choices"][0]["message"]["content"], "I see 1 image(s).");
    assert_eq!(body["usage"]["prompt_tokens"], 86);
    let block = json!([{"type":"text","text":"What?"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBO"}}]);
    let seen = claude(&fake, "", json!({"messages":[{"role":"user","content":block}]})).await.json();
    assert_eq!(seen["content"][0]["text"], "I see 1 image(s).");
    assert_eq!(seen["usage"]["input_tokens"], body["usage"]["prompt_tokens"]);
    let inline = json!({"contents":[{"parts":[{"text":"What?"},{"inlineData":{"mimeType":"image/png","data":"iVBO"}}]}]});
    let seen = gemini(&fake, "gemini-2.5-flash", false, "", inline).await.json();
    assert_eq!(seen["candidates"][0]["content"]["parts"][0]["text"], "I see 1 image(s).");

    let format = json!({"type":"json_schema","json_schema":{"name":"w","schema":schema()}});
    let told = Door::named("openai").say(&fake, "Hi", json!({ "response_format": format })).await.json();
    assert_eq!(told["choices"][0]["message"]["content"], "{\"city\":\"You said: Hi\"}");
    let told =
        claude(&fake, "Hi", json!({"output_config":{"format":{"type":"json_schema","schema":schema()}}}))
            .await
            .json();
    assert_eq!(told["content"][0]["text"], "{\"city\":\"You said: Hi\"}");
    let config =
        json!({"generationConfig":{"responseMimeType":"application/json","responseSchema":schema()}});
    let told = gemini(&fake, "gemini-2.5-flash", false, "Hi", config).await.json();
    assert_eq!(told["candidates"][0]["content"]["parts"][0]["text"], "{\"city\":\"You said: Hi\"}");

    let cut = Door::named("openai").say(&fake, "a b c", json!({"max_tokens":3})).await.json();
    assert_eq!(
        (&cut["choices"][0]["finish_reason"], &cut["usage"]["completion_tokens"]),
        (&json!("length"), &json!(3))
    );
    assert_eq!(claude(&fake, "a b c", json!({"max_tokens":3})).await.json()["stop_reason"], "max_tokens");
    let config = json!({"generationConfig":{"maxOutputTokens":3}});
    assert_eq!(
        gemini(&fake, "gemini-2.5-flash", false, "a b c", config).await.json()["candidates"][0]["finishReason"],
        "MAX_TOKENS"
    );
    let stopped = claude(&fake, "a b c", json!({"stop_sequences":["b"]})).await.json();
    assert_eq!((&stopped["stop_reason"], &stopped["stop_sequence"]), (&json!("stop_sequence"), &json!("b")));
    let three = Door::named("openai").say(&fake, "a", json!({"n":3,"stream":true})).await.events().0;
    let indexes: Vec<u64> = three.iter().filter_map(|event| event["choices"][0]["index"].as_u64()).collect();
    assert_eq!(indexes[..6], [0, 1, 2, 0, 1, 2], "choices take turns");
}
