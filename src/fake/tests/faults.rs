//! What goes wrong on purpose, the books about it, and the limits.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn openai() -> Door<'static> {
    Door::named("openai")
}

async fn stream(fake: &Fake, text: &str) -> Reply {
    openai().say(fake, text, json!({"stream":true})).await
}

/// A request as bytes, for a test that wants the connection in its own hands.
async fn by_hand(fake: &Fake, text: &str, stream: bool) -> TcpStream {
    let body =
        json!({"model":"gpt-4o","stream":stream,"messages":[{"role":"user","content":text}]}).to_string();
    let mut socket = TcpStream::connect(fake.addr).await.unwrap();
    let head = format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-hand\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all((head + &body).as_bytes()).await.unwrap();
    socket
}

#[expect(clippy::disallowed_methods, reason = "a pause must be felt, not told")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test]
async fn streams_break_as_asked() {
    let fake = Fake::start().await;
    let cut = stream(&fake, "a b c @cut=3").await;
    assert!(cut.broken && !cut.text().contains("[DONE]"));
    assert_eq!(cut.events().0.len(), 3);
    let torn = stream(&fake, "a b c @tear=3").await;
    assert!(
        torn.broken && torn.text().len() > cut.text().len() && !torn.text().ends_with('\n'),
        "{}",
        torn.text()
    );
    let inband = stream(&fake, "a @inband_error=rate_limited").await;
    assert_eq!((inband.status, inband.events().0.len()), (200, 1));
    assert_eq!(inband.events().0[0]["error"]["code"], "rate_limit_exceeded");
    let (mid, done) = stream(&fake, "a b c @midstream_error").await.events();
    assert_eq!((mid.len(), done, &mid[3]["error"]["code"]), (4, false, &json!("server_is_overloaded")));
    let (_, done) = stream(&fake, "a @no_done").await.events();
    assert!(!done);
    let nofinish = stream(&fake, "a @nofinish").await;
    assert!(!nofinish.text().contains("\"finish_reason\":\"stop\"") && nofinish.events().1);
    assert!(stream(&fake, "a @crlf").await.text().contains("}\r\n\r\ndata: "));
    assert!(stream(&fake, "a @ping").await.text().starts_with(": keep-alive\n\ndata: "));
    let usage = openai()
        .say(&fake, "a @usage=none", json!({"stream":true,"stream_options":{"include_usage":true}}))
        .await;
    assert!(!usage.text().contains("prompt_tokens"));
    let long = stream(&fake, "@words=1000").await;
    assert_eq!(long.events().0.len(), 1002);
}

#[tokio::test]
async fn errors_within_streams_have_each_wires_shape() {
    let fake = Fake::start().await;
    let text = "a b c d @midstream_error";
    let more = json!({"stream":true});
    assert!(
        Door::named("zhipu")
            .say(&fake, text, more.clone())
            .await
            .text()
            .contains("\"finish_reason\":\"network_error\"")
    );
    assert!(
        Door::named("spark").say(&fake, text, more.clone()).await.text().contains("data:{\"code\":10012,")
    );
    assert!(
        Door::named("huggingface")
            .say(&fake, text, more.clone())
            .await
            .text()
            .contains("event: error\ndata: {\"error\":")
    );
    assert!(
        claude(&fake, text, more.clone())
            .await
            .text()
            .contains("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"")
    );
    let google = gemini(&fake, "gemini-2.5-flash", true, text, json!({})).await.text();
    assert!(google.ends_with("\"status\":\"UNAVAILABLE\"}}\r\n\r\n"), "{google}");
}

#[tokio::test]
async fn wrecks_are_what_they_say() {
    let fake = Fake::start().await;
    let html = openai().say(&fake, "@html", json!({})).await;
    assert_eq!((html.status, html.header("content-type")), (200, "text/html; charset=utf-8"));
    let empty = openai().say(&fake, "@empty", json!({})).await;
    assert_eq!((empty.status, empty.body.len()), (200, 0));
    let garbage = openai().say(&fake, "@garbage", json!({})).await;
    assert!(serde_json::from_slice::<Value>(&garbage.body).is_err());
    let bearer = format!("Bearer {}", openai().key);
    let nothing = fake
        .send(request(
            "POST",
            openai().path,
            &[("authorization", &bearer)],
            openai().body("@nothing").to_string(),
        ))
        .await;
    assert!(nothing.is_err(), "no answer at all: {nothing:?}");
    for endless in ["@endless_line", "@endless_stream", "@gzip_bomb"] {
        let mut socket = by_hand(&fake, endless, true).await;
        let mut read = vec![0; 4 << 20];
        socket.read_exact(&mut read).await.unwrap();
        let head = String::from_utf8_lossy(&read[..300]).to_lowercase();
        assert_eq!(head.contains("content-encoding: gzip"), endless == "@gzip_bomb", "{head}");
        drop(socket);
    }
    fake.until("openai", "sk-hand", "client_gone", 3).await;
}

/// Unpacks the bomb's first bytes with an independent inflater: the one in every Python, if there is one.
#[test]
fn the_bomb_is_gzip() {
    let (head, block) = crate::fake::stream::gzip_bomb();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [&head[..], &block[..]].concat()).unwrap();
    let script = "import sys,zlib; d=zlib.decompressobj(31); o=d.decompress(open(sys.argv[1],'rb').read()); print(len(o), o.count(0))";
    let Ok(output) = std::process::Command::new("python3").args(["-c", script]).arg(file.path()).output()
    else {
        return;
    };
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let lengths: Vec<usize> = told.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert!(
        lengths[0] == lengths[1] && lengths[0] > 100 * block.len(),
        "{told} {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn pauses_are_kept() {
    let fake = Fake::start().await;
    for (text, least) in [("a @stall=60", 60), ("a @first=60", 60), ("a @gap=20", 100)] {
        let began = now();
        let reply = stream(&fake, text).await;
        assert!(
            reply.events().1 && began.elapsed() >= Duration::from_millis(least),
            "{text}: {:?}",
            began.elapsed()
        );
    }
    let mut socket = by_hand(&fake, "a @first=5000", true).await;
    let mut head = [0; 15];
    tokio::time::timeout(Duration::from_secs(2), socket.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK", "headers come at once");
}

#[tokio::test]
async fn bodies_come_in_pieces_of_their_own_writes() {
    let fake = Fake::start().await;
    let mut socket = by_hand(&fake, "a @chunk=7", true).await;
    let mut all = Vec::new();
    let mut reads = 0;
    let mut buffer = [0; 1 << 16];
    while !all.ends_with(b"\r\n0\r\n\r\n") {
        let count = socket.read(&mut buffer).await.unwrap();
        all.extend_from_slice(&buffer[..count]);
        reads += 1;
    }
    assert!(String::from_utf8_lossy(&all).contains("\r\n7\r\ndata: {\r\n"));
    assert!(reads > 10, "{reads}");
}

#[tokio::test]
async fn once_hits_the_first_account_only() {
    let fake = Fake::start().await;
    let ask = |key: &'static str| {
        let fake = &fake;
        async move { Door { key, ..openai() }.say(fake, "x @error=overloaded @once", json!({})).await.status }
    };
    let ask = &ask;
    assert_eq!(
        (ask("sk-1").await, ask("sk-2").await, ask("sk-1").await, ask("sk-2").await),
        (503, 200, 503, 200)
    );
    let other =
        Door { key: "sk-2", ..openai() }.say(&fake, "another @error=overloaded @once", json!({})).await;
    assert_eq!(other.status, 503);
}

#[tokio::test]
async fn accounts_are_what_the_script_says() {
    let fake = Fake::with(
        "
accounts:
  sk-revoked: {revoked: true}
  sk-broke: {no_credit: true}
  sk-late: {expired: true}
  sk-small: {models: [gpt-4o-mini]}
  sk-slow: {rpm: 2}
  sk-day: {daily_tokens: 10}
  sk-steer: {directives: '@error=server_error'}
",
    )
    .await;
    let ask = |key: &'static str| {
        let fake = &fake;
        async move {
            let reply = Door { key, ..openai() }.say(fake, "Hi", json!({})).await;
            (reply.status, reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
        }
    };
    assert_eq!(ask("sk-revoked").await, (401, "invalid_api_key".into()));
    assert_eq!(ask("sk-broke").await, (429, "insufficient_quota".into()));
    assert_eq!(ask("sk-late").await, (401, "invalid_api_key".into()));
    assert_eq!(ask("sk-small").await, (404, "model_not_found".into()));
    assert_eq!(ask("sk-steer").await.0, 500);
    assert_eq!((ask("sk-slow").await.0, ask("sk-slow").await.0), (200, 200));
    let limited = Door { key: "sk-slow", ..openai() }.say(&fake, "Hi", json!({})).await;
    assert_eq!((limited.status, limited.header("retry-after")), (429, "60"));
    fake.hand.advance(Duration::from_secs(60));
    assert_eq!(ask("sk-slow").await.0, 200);
    assert_eq!((ask("sk-day").await.0, ask("sk-day").await.0), (200, 200));
    assert_eq!(ask("sk-day").await, (429, "insufficient_quota".into()));
    let changed = fake.send(request("POST", "/_fake/script", &[], "only_listed: true".into())).await.unwrap();
    assert_eq!(changed.status, 200);
    assert_eq!(ask("sk-day").await.0, 401);
    assert_eq!(
        fake.send(request("POST", "/_fake/script", &[], "nonsense: 1".into())).await.unwrap().status,
        400
    );
}

#[tokio::test]
async fn concurrency_is_counted_and_bounded() {
    let fake = Fake::with("accounts: {sk-one: {concurrency: 2}}").await;
    let door = Door { key: "sk-one", ..openai() };
    let (a, b, c) = tokio::join!(
        door.say(&fake, "a @first=100", json!({"stream":true})),
        door.say(&fake, "b @first=100", json!({"stream":true})),
        async {
            fake.until("openai", "sk-one", "in_flight", 2).await;
            door.say(&fake, "c", json!({})).await
        }
    );
    assert_eq!((a.status, b.status, c.status), (200, 200, 429));
    assert_eq!(door.say(&fake, "d", json!({})).await.status, 200, "places are given back");
    let told = fake.until("openai", "sk-one", "requests", 4).await;
    assert_eq!(
        (&told["max_concurrent"], &told["in_flight"], &told["streams"]),
        (&json!(3), &json!(0), &json!(2))
    );
    assert_eq!(told["statuses"], json!({"200":3,"429":1}));
}

#[tokio::test]
async fn the_books_tell_tokens_and_those_who_left() {
    let fake = Fake::start().await;
    stream(&fake, "one two").await;
    openai().say(&fake, "one two", json!({})).await;
    let told = fake.counters("openai", "sk-a").await;
    assert_eq!(
        (&told["prompt_tokens"], &told["completion_tokens"], &told["client_gone"]),
        (&json!(4), &json!(8), &json!(0))
    );
    for (text, stream) in [("@words=50 @gap=20", true), ("x @stall=3000", false), ("x @first=3000", false)] {
        let mut socket = by_hand(&fake, text, stream).await;
        if stream {
            socket.read_exact(&mut [0; 200]).await.unwrap();
        } else {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        drop(socket);
    }
    let told = fake.until("openai", "sk-hand", "client_gone", 3).await;
    assert_eq!((&told["in_flight"], &told["client_gone_at_ms"][0]), (&json!(0), &json!(NOW_MS)));
    assert!(told["completion_tokens"].as_u64().unwrap() < 10, "only what was sent: {told}");
}

#[tokio::test]
async fn the_journal_masks_credentials_and_shows_everything_else() {
    let fake = Fake::start().await;
    let bearer = "Bearer sk-secret-and-long";
    fake.post(
        "/openai/v1/chat/completions?x=1",
        &[("authorization", bearer), ("x-caller", "leaked")],
        &openai().body("hello"),
    )
    .await;
    fake.get("/gemini/v1beta/models?key=AIza-secret", &[]).await;
    let told = fake.get("/_fake/requests?last=2", &[]).await;
    assert!(!told.text().contains("secret"), "{}", told.text());
    let all = told.json();
    assert_eq!(all[0]["body"]["messages"][0]["content"], "hello");
    let headers = all[0]["headers"].as_array().unwrap();
    assert!(
        headers.contains(&json!(["x-caller", "leaked"]))
            && headers.contains(&json!(["authorization", "Bearer sk-sec…"]))
    );
    fake.send(request("POST", "/_fake/reset", &[], String::new())).await.unwrap();
    assert_eq!(fake.get("/_fake/requests", &[]).await.json(), json!([]));
    assert_eq!(fake.get("/_fake/counters", &[]).await.json(), json!({"platforms":{}}));
}

#[tokio::test]
async fn a_big_call_is_as_big_as_asked() {
    let fake = Fake::start().await;
    let tools =
        json!([{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}}}}]);
    let body = openai().say(&fake, "@big_tool=100000", json!({ "tools": tools })).await.json();
    let arguments = body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert_eq!(arguments.len(), 100_000 + "{\"blob\":\"\"}".len());
}
