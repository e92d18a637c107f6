//! DashScope's own dialect, Baidu V1, and Spark over WebSocket.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use hmac::{Hmac, Mac};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::*;

async fn dashscope(fake: &Fake, stream: bool, text: &str, parameters: Value) -> Reply {
    let body = json!({"model":"qwen-plus","input":{"messages":[{"role":"user","content":text}]},"parameters":parameters});
    let mut headers = vec![("authorization", "Bearer sk-a")];
    if stream {
        headers.extend([("x-dashscope-sse", "enable"), ("accept", "text/event-stream")]);
    }
    fake.post("/dashscope/api/v1/services/aigc/text-generation/generation", &headers, &body).await
}

#[tokio::test]
async fn dashscope_answers_text_or_messages() {
    let fake = Fake::start().await;
    let text = dashscope(&fake, false, "Hello, dear world!", json!({})).await.json();
    assert_eq!(text["output"], json!({"finish_reason":"stop","text":"You said: Hello, dear world!"}));
    assert_eq!(
        (&text["usage"]["input_tokens"], &text["usage"]["output_tokens"], &text["usage"]["total_tokens"]),
        (&json!(3), &json!(5), &json!(8))
    );
    let message = dashscope(&fake, false, "Hi", json!({"result_format":"message"})).await.json();
    assert_eq!(
        message["output"]["choices"][0]["message"],
        json!({"role":"assistant","content":"You said: Hi"})
    );
    for (parameters, words) in [
        (json!({"x":1}), "unknown parameter"),
        (json!({"temperature":2}), "temperature"),
        (
            json!({"enable_thinking":true,"result_format":"message","incremental_output":true}),
            "enable_thinking must be set to false",
        ),
        (
            json!({"tool_choice":"required","tools":[{"type":"function","function":{"name":"f"}}],"result_format":"message"}),
            "tool_choice",
        ),
    ] {
        let reply = dashscope(&fake, false, "Hi", parameters).await;
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("InvalidParameter")));
        assert!(reply.text().contains(words), "{}", reply.text());
    }
    let limited = dashscope(&fake, false, "@error=rate_limited", json!({})).await;
    assert_eq!((limited.status, &limited.json()["code"]), (429, &json!("Throttling.RateQuota")));
    let vision = json!({"model":"qwen3-vl-plus","input":{"messages":[{"role":"user","content":[{"image":"https://a/b.png"},{"text":"What?"}]}]}});
    let seen = fake
        .post(
            "/dashscope/api/v1/services/aigc/multimodal-generation/generation",
            &[("authorization", "Bearer sk-a")],
            &vision,
        )
        .await;
    assert_eq!(
        seen.json()["output"]["choices"][0]["message"]["content"],
        json!([{"text":"I see 1 image(s)."}]),
        "{}",
        seen.text()
    );
}

#[tokio::test]
async fn dashscope_streams_and_repeats_unless_told_not_to() {
    let fake = Fake::start().await;
    let reply =
        dashscope(&fake, true, "Hi", json!({"result_format":"message","incremental_output":true})).await;
    let text = reply.text();
    assert!(text.starts_with("id:1\nevent:result\n:HTTP_STATUS/200\ndata:{\"output\":{\"choices\":[{\"finish_reason\":\"null\",\"message\":{\"role\":\"assistant\",\"content\":\"You \"}}]}"), "{text}");
    assert!(!text.contains("[DONE]"));
    let (events, _) = reply.events();
    let last = events.last().unwrap();
    assert_eq!(
        (&last["output"]["choices"][0]["finish_reason"], &last["usage"]["total_tokens"]),
        (&json!("stop"), &json!(4))
    );
    assert_eq!(events[1]["usage"]["output_tokens"], 2, "cumulative");
    let (events, _) = dashscope(&fake, true, "Hi", json!({})).await.events();
    let texts: Vec<&str> = events.iter().map(|event| event["output"]["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["You ", "You said: ", "You said: Hi", "You said: Hi"]);
    let broken = dashscope(&fake, true, "a b c @midstream_error", json!({})).await.text();
    assert!(
        broken.contains("event:error\n:HTTP_STATUS/503\ndata:{\"code\":\"ModelServingError\""),
        "{broken}"
    );
}

async fn token(fake: &Fake, secret: &str) -> Reply {
    let path = format!(
        "/baidu-v1/oauth/2.0/token?grant_type=client_credentials&client_id=ak-1&client_secret={secret}"
    );
    fake.post(&path, &[], &json!({})).await
}

async fn ernie(fake: &Fake, token: &str, body: Value) -> Reply {
    let path =
        format!("/baidu-v1/rpc/2.0/ai_custom/v1/wenxinworkshop/chat/completions_pro?access_token={token}");
    fake.post(&path, &[], &body).await
}

fn user(text: &str) -> Value {
    json!({"messages":[{"role":"user","content":text}]})
}

#[tokio::test]
async fn ernie_wants_a_token_and_odd_turns_and_says_200_to_everything() {
    let fake = Fake::with("accounts: {ak-1: {secret: sk-1, platform: baidu-v1}}").await;
    assert_eq!(token(&fake, "wrong").await.json()["error"], "invalid_client");
    let told = token(&fake, "sk-1").await.json();
    assert_eq!(told["expires_in"], 2_592_000);
    let first = told["access_token"].as_str().unwrap().to_owned();
    let answer = ernie(&fake, &first, user("Hello, dear world!")).await.json();
    assert_eq!(
        (&answer["result"], &answer["finish_reason"]),
        (&json!("You said: Hello, dear world!"), &json!("normal"))
    );
    assert_eq!(answer["usage"], json!({"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}));
    let mut more = user("Hi");
    more["temperature"] = json!(0);
    for (body, code) in [
        (more, 336_003),
        (json!({"messages":[]}), 336_003),
        (json!({"messages":[{"role":"system","content":"s"}]}), 336_003),
        (json!({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}), 336_003),
        (json!({"messages":[{"role":"user","content":""}]}), 336_003),
        (user("@error=rate_limited"), 336_501),
        (user("@error=quota_exhausted"), 19),
        (user("@error=daily_quota"), 17),
        (user("@error=overloaded"), 336_100),
        (user("@error=token_expired"), 111),
    ] {
        let reply = ernie(&fake, &first, body.clone()).await;
        assert_eq!(
            (reply.status, &reply.json()["error_code"]),
            (200, &json!(code)),
            "{body}: {}",
            reply.text()
        );
    }
    assert_eq!(ernie(&fake, "24.x", user("a")).await.json()["error_code"], 110);
    let reply =
        ernie(&fake, &first, json!({"messages":[{"role":"user","content":"Hi"}],"stream":true})).await;
    let (events, done) = reply.events();
    let ends: Vec<bool> = events.iter().map(|event| event["is_end"].as_bool().unwrap()).collect();
    assert_eq!((ends, done), (vec![false, false, true], false));
    assert_eq!(
        (&events[2]["result"], &events[2]["usage"]["total_tokens"]),
        (&json!("Hi"), &json!(4)),
        "the last event speaks"
    );
    let refused = ernie(
        &fake,
        &first,
        json!({"messages":[{"role":"user","content":"@error=overloaded"}],"stream":true}),
    )
    .await;
    assert_eq!((refused.status, refused.header("content-type")), (200, "application/json"));

    let expired = "accounts: {ak-1: {secret: sk-1, expired: true}}";
    fake.send(request("POST", "/_fake/script", &[], expired.into())).await.unwrap();
    assert_eq!(ernie(&fake, &first, user("a")).await.json()["error_code"], 111);
    let second = token(&fake, "sk-1").await.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(ernie(&fake, &second, user("a")).await.json()["result"], "You said: a", "a new token helps");
    fake.hand.advance(Duration::from_secs(2_592_001));
    assert_eq!(ernie(&fake, &second, user("a")).await.json()["error_code"], 111, "thirty days are over");
}

#[tokio::test]
async fn ernie_calls_one_function() {
    let fake = Fake::start().await;
    let token = token(&fake, "any").await.json()["access_token"].as_str().unwrap().to_owned();
    let parameters = json!({"type":"object","properties":{"city":{"type":"string"}}});
    let mut body = user("weather in Oslo and Rome");
    body["functions"] = json!([{"name":"get_weather","description":"now","parameters":parameters}]);
    let called = ernie(&fake, &token, body.clone()).await.json();
    assert_eq!((&called["result"], &called["finish_reason"]), (&json!(""), &json!("function_call")));
    assert_eq!(called["function_call"]["arguments"], "{\"city\":\"Oslo\"}");
    let turns = body["messages"].as_array_mut().unwrap();
    turns.push(json!({"role":"assistant","content":"","function_call":{"name":"get_weather","arguments":"{\"city\":\"Oslo\"}"}}));
    turns.push(json!({"role":"function","name":"get_weather","content":"12C"}));
    assert_eq!(ernie(&fake, &token, body).await.json()["result"], "It is 12C in Oslo.");
}

/// A signed URL, made after the facts and not with the fake's own code.
fn signed(fake: &Fake, secret: &str, date: &str) -> String {
    let (host, path) = (fake.addr.to_string(), "/spark-ws/v3.5/chat");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("host: {host}\ndate: {date}\nGET {path} HTTP/1.1").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let origin = format!(
        "api_key=\"key-1\", algorithm=\"hmac-sha256\", headers=\"host date request-line\", signature=\"{signature}\""
    );
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("authorization", &STANDARD.encode(origin))
        .append_pair("date", date)
        .append_pair("host", &host)
        .finish();
    format!("ws://{host}{path}?{query}")
}

const DATE: &str = "Sat, 21 Nov 2026 02:00:00 GMT";

async fn spark(fake: &Fake, body: Value) -> Vec<Value> {
    let stream = TcpStream::connect(fake.addr).await.unwrap();
    let (mut socket, _) =
        tokio_tungstenite::client_async(signed(fake, "secret-1", DATE), stream).await.unwrap();
    socket.send(Message::text(body.to_string())).await.unwrap();
    let mut frames = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message {
            frames.push(serde_json::from_str(&text).unwrap());
        }
    }
    frames
}

fn frame(text: &str) -> Value {
    json!({"header":{"app_id":"12345678","uid":"u1"},"parameter":{"chat":{"domain":"generalv3.5","max_tokens":2048}},
        "payload":{"message":{"text":[{"role":"user","content":text}]}}})
}

const SCRIPT: &str = "accounts: {key-1: {secret: secret-1}}";

#[tokio::test]
async fn spark_over_websocket() {
    let fake = Fake::with(SCRIPT).await;
    let frames = spark(&fake, frame("Hello, dear world!")).await;
    let statuses: Vec<u64> = frames.iter().map(|frame| frame["header"]["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [0, 1, 1, 1, 2]);
    let text: String = frames
        .iter()
        .map(|frame| frame["payload"]["choices"]["text"][0]["content"].as_str().unwrap())
        .collect();
    assert_eq!(text, "You said: Hello, dear world!");
    let last = &frames[4]["payload"];
    assert_eq!(
        last["usage"]["text"],
        json!({"question_tokens":3,"prompt_tokens":3,"completion_tokens":5,"total_tokens":8})
    );
    assert!(frames[..4].iter().all(|frame| frame["payload"].get("usage").is_none()));
    let mut tools = frame("weather in Oslo");
    tools["payload"]["functions"] = json!({"text":[{"name":"get_weather","description":"","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}]});
    let called = spark(&fake, tools).await;
    let call = &called[0]["payload"]["choices"]["text"][0];
    assert_eq!(
        (call["function_call"]["arguments"].as_str(), called[0]["header"]["status"].as_u64()),
        (Some("{\"city\":\"Oslo\"}"), Some(2))
    );
    for (text, code) in [
        ("@error=quota_exhausted", 11_200),
        ("@error=rate_limited", 11_202),
        ("@error=daily_quota", 11_201),
        ("@error=content_filtered", 10_013),
    ] {
        let frames = spark(&fake, frame(text)).await;
        assert_eq!(
            (frames.len(), &frames[0]["header"]["code"], &frames[0]["header"]["status"]),
            (1, &json!(code), &json!(2))
        );
    }
    let mut wrong = frame("Hi");
    wrong["parameter"]["chat"]["domain"] = json!("lite");
    assert_eq!(spark(&fake, wrong).await[0]["header"]["code"], 10_005);
    assert_eq!(spark(&fake, frame("a b c @cut=2")).await.len(), 2);
    let told = fake.counters("spark-ws", "key-1").await;
    assert_eq!(
        (&told["requests"], &told["client_gone"], &told["in_flight"]),
        (&json!(8), &json!(0), &json!(0))
    );
}

#[tokio::test]
async fn spark_checks_signature_and_date() {
    let fake = Fake::with(SCRIPT).await;
    for (secret, date, status, words) in [
        ("wrong", DATE, 401, "does not match"),
        ("secret-1", "Sat, 21 Nov 2026 02:05:01 GMT", 403, "valid date"),
        ("secret-1", "Sat, 21 Nov 2026 01:54:59 GMT", 403, "valid date"),
    ] {
        let stream = TcpStream::connect(fake.addr).await.unwrap();
        match tokio_tungstenite::client_async(signed(&fake, secret, date), stream).await {
            Err(Error::Http(response)) => {
                assert_eq!(response.status(), status);
                let body = response.body().clone().unwrap_or_default();
                assert!(String::from_utf8_lossy(&body).contains(words));
            }
            other => panic!("{other:?}"),
        }
    }
}
