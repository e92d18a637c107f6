//! Does it speak at all.

use super::*;

#[tokio::test]
async fn every_platform_answers_the_same_words_and_counts() {
    let fake = Fake::start().await;
    for door in DOORS {
        let reply = door.say(&fake, "Hello, dear world!", json!({})).await;
        assert_eq!(reply.status, 200, "{}: {}", door.platform, reply.text());
        let body = reply.json();
        assert_eq!(
            body["choices"][0]["message"]["content"], "You said: Hello, dear world!",
            "{}",
            door.platform
        );
        let usage = &body["usage"];
        let counts = (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]);
        assert_eq!(counts, (&json!(3), &json!(5), &json!(8)), "{}", door.platform);
    }
    let reply = claude(&fake, "Hello, dear world!", json!({})).await;
    assert_eq!(reply.json()["content"][0]["text"], "You said: Hello, dear world!", "{}", reply.text());
    assert_eq!(reply.json()["usage"]["input_tokens"], 3);
    assert_eq!(reply.json()["usage"]["output_tokens"], 5);
    let reply = gemini(&fake, "gemini-2.0-flash", false, "Hello, dear world!", json!({})).await;
    let body = reply.json();
    assert_eq!(
        body["candidates"][0]["content"]["parts"][0]["text"], "You said: Hello, dear world!",
        "{body}"
    );
    assert_eq!(body["usageMetadata"]["totalTokenCount"], 8);
}

#[tokio::test]
async fn every_platform_streams_the_same_words() {
    let fake = Fake::start().await;
    for door in DOORS {
        let reply = door.say(&fake, "Hello, dear world!", json!({"stream":true})).await;
        assert_eq!(reply.status, 200, "{}: {}", door.platform, reply.text());
        let (events, done) = reply.events();
        assert!(done, "{}", door.platform);
        let words = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
        assert_eq!(words.collect::<String>(), "You said: Hello, dear world!", "{}", door.platform);
    }
    let (events, done) = claude(&fake, "Hello, dear world!", json!({"stream":true})).await.events();
    assert!(!done);
    let words = events.iter().filter_map(|event| event["delta"]["text"].as_str());
    assert_eq!(words.collect::<String>(), "You said: Hello, dear world!");
    let reply = gemini(&fake, "gemini-2.0-flash", true, "Hello, dear world!", json!({})).await;
    let (events, done) = reply.events();
    assert!(!done);
    let words =
        events.iter().filter_map(|event| event["candidates"][0]["content"]["parts"][0]["text"].as_str());
    assert_eq!(words.collect::<String>(), "You said: Hello, dear world!");
}
