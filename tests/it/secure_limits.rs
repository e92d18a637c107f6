//! Sizes and patience: just under a limit is served, just over it is refused in OpenAI's shape, and callers who are slow on
//! purpose are gone in time (H3, H4, H8).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::house::{Answer, House, PATIENCE, Raw, question, until};

const ACCOUNT: &str = "accounts: [{id: a, platform: openai, api_key: sk-a}]";

/// Sends a head (whose request line and headers are given) and reads one answer.
async fn head(house: &House, line: &str, more: &str) -> Answer {
    let mut raw = house.connect().await;
    let bytes = format!("{line}\r\nhost: x\r\nauthorization: Bearer {}\r\n{more}\r\n", house.token);
    // A refusal may come before all of it is written.
    drop(raw.stream.write_all(bytes.as_bytes()).await);
    raw.answer().await.expect("an answer")
}

#[tokio::test]
async fn heads_just_under_and_just_over() {
    let house = House::start(ACCOUNT).await;
    let path = |length: usize| format!("/v1/models?{}", "x".repeat(length - "/v1/models?".len()));
    for (length, expected) in [(8 * 1024, 200), (8 * 1024 + 1, 414), (40_000, 414)] {
        let answer = head(&house, &format!("GET {} HTTP/1.1", path(length)), "").await;
        assert_eq!(answer.status, expected, "a path of {length}: {}", answer.text());
        if expected != 200 {
            assert_eq!(answer.error(414), "uri_too_long");
        }
    }
    // `host` and `authorization` count, too.
    for (count, expected) in [(97, 200), (98, 200), (99, 431), (1000, 431)] {
        let more: String = (0..count).map(|number| format!("x-{number}: y\r\n")).collect();
        let answer = head(&house, "GET /v1/models HTTP/1.1", &more).await;
        assert_eq!(answer.status, expected, "{count} headers: {}", answer.text());
    }
    for (length, expected) in [(60 * 1024, 200), (64 * 1024, 431), (200 * 1024, 431)] {
        let answer = head(&house, "GET /v1/models HTTP/1.1", &format!("x: {}\r\n", "y".repeat(length))).await;
        assert_eq!(answer.status, expected, "a head of {length}: {}", answer.text());
        if expected != 200 {
            assert_eq!(answer.error(431), "headers_too_large");
        }
    }
}

#[tokio::test]
async fn bodies_just_under_and_just_over() {
    let house = House::start(&format!("limits: {{body: 1MiB}}\n{ACCOUNT}")).await;
    let plain = question("openai/gpt-4o", "", false).to_string().len();
    for (length, expected) in [(1 << 20, 200), ((1 << 20) + 1, 413), (4 << 20, 413)] {
        let text = "x".repeat(length - plain);
        let answer = house.post("/v1/chat/completions", &question("openai/gpt-4o", &text, false)).await;
        assert_eq!(answer.status, expected, "{length}");
        // The same without saying how long it is.
        let mut raw = house.connect().await;
        let body = question("openai/gpt-4o", &text, false).to_string();
        let start = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
            house.token,
            body.len()
        );
        drop(raw.stream.write_all(format!("{start}{body}\r\n0\r\n\r\n").as_bytes()).await);
        let answer = raw.answer().await.expect("an answer");
        assert_eq!(answer.status, expected, "{length} in chunks");
    }
    for depth in [100, 127, 5000, 200_000] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let body = format!(
            r#"{{"model":"openai/gpt-4o","messages":[{{"role":"user","content":"hi"}}],"metadata":{{"x":{nested}}}}}"#
        );
        let sent = house.client.post(house.url("/v1/chat/completions")).bearer_auth(&house.token).body(body);
        let answer = crate::house::whole(sent).await;
        assert_eq!(answer.status, if depth > 100 { 400 } else { 200 }, "{depth}");
        assert_eq!(answer.text().contains("nested deeper"), depth > 100, "{depth}: {}", answer.text());
    }
    for (count, expected) in [(1000, false), (1100, true)] {
        let mut body = question("openai/gpt-4o", "hi", false);
        for number in 0..count {
            body[format!("field-{number}")] = json!(1);
        }
        let answer = house.post("/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.text().contains("too many fields"), expected, "{}", answer.text());
    }
}

#[tokio::test]
async fn many_messages_and_many_tools_pass_every_dialect() {
    let house = House::start(
        "accounts: [{id: a, platform: openai, api_key: sk-a}, {id: c, platform: claude, api_key: sk-ant-c}, {id: g, platform: gemini, api_key: AIza-g}]",
    )
    .await;
    for model in ["openai/gpt-4o", "claude/claude-sonnet-4-5", "gemini/gemini-2.5-flash"] {
        let messages: Vec<Value> = (0..10_001)
            .map(|number| json!({"role": if number % 2 == 0 { "user" } else { "assistant" }, "content": format!("m{number}")}))
            .collect();
        let answer = house.post("/v1/chat/completions", &json!({"model": model, "messages": messages})).await;
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        assert_eq!(answer.content(), "You said: m10000");
        // A platform may take fewer tools; what it says of them is its affair, and never our failure.
        let tools: Vec<Value> = (0..1000)
            .map(|number| json!({"type": "function", "function": {"name": format!("f{number}"), "parameters": {"type": "object", "properties": {}}}}))
            .collect();
        let mut body = question(model, "hi", false);
        body["tools"] = json!(tools);
        let answer = house.post("/v1/chat/completions", &body).await;
        assert!(answer.status < 500, "{model}: {}", answer.text());
        assert_eq!(
            house.requests().await.last().expect("a request")["body"].to_string().matches("\"f999\"").count(),
            1
        );
    }
}

/// Slow in one of five ways; done when the gateway has closed the connection.
async fn is_slow(house: &House, way: usize) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small window");
    let mut stream =
        timeout(PATIENCE, socket.connect(house.listen)).await.expect("in time").expect("connected");
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n", house.token);
    let drip = match way % 5 {
        // A header byte now and then.
        0 => head,
        // The beginning of a body.
        1 => format!("{head}content-length: 1000\r\n\r\n{{"),
        // Not a byte.
        2 => String::new(),
        // A body byte now and then.
        3 => format!("{head}content-length: 1000\r\n\r\n{{"),
        // An answer that is not read.
        _ => {
            let mut body = question("openai/gpt-4o", "@big_tool=7000000", true);
            body["tools"] =
                json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
            let body = body.to_string();
            format!("{head}content-length: {}\r\n\r\n{body}", body.len())
        }
    };
    drop(stream.write_all(drip.as_bytes()).await);
    if way % 5 == 4 {
        // Its window stays shut until the gateway has had enough: what the system still holds for it is not ours.
        sleep(Duration::from_secs(2)).await;
        until("nothing is held for those who do not read", || async {
            house.metric("weir_open_streams").await == 0.0
        })
        .await;
        return;
    }
    loop {
        let read = timeout(Duration::from_millis(300), stream.read(&mut [0; 65_536])).await;
        match read {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) => {}
            Err(_) if matches!(way % 5, 0 | 3) => drop(stream.write_all(b"x").await),
            Err(_) => {}
        }
    }
}

/// Fifty requests, one after the other; the median time of one.
async fn quick_ones(house: &House) -> Duration {
    let mut times = Vec::new();
    for _ in 0..50 {
        let since = Instant::now();
        assert_eq!(house.chat("openai/gpt-4o", "hi").await.status, 200);
        times.push(since.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test]
async fn the_slow_are_gone_in_time_and_the_quick_are_served() {
    let house = House::start(&format!("timeouts: {{request_header: 1s, client_idle: 1s}}\n{ACCOUNT}")).await;
    let house = Arc::new(house);
    let alone = quick_ones(&house).await;
    let before = house.memory().0;
    let mut slow = JoinSet::new();
    for way in 0..500 {
        // Few that read slowly: each makes the simulated platform talk.
        let way = if way % 5 == 4 && way > 25 { 0 } else { way };
        let house = Arc::clone(&house);
        slow.spawn(
            async move { timeout(Duration::from_secs(25), is_slow(&house, way)).await.map_err(|_| way) },
        );
    }
    let quick = quick_ones(&house).await;
    let most = house.memory().0;
    while let Some(ended) = slow.join_next().await {
        assert!(matches!(ended, Ok(Ok(()))), "a slow connection stays: {ended:?}");
    }
    assert!(most < before + (40 << 20), "memory went from {before} to {most}");
    // Twice as long at most, on a machine that does nothing else.
    assert!(quick < alone * 4 + Duration::from_millis(50), "{quick:?} beside the slow, {alone:?} alone");
    house.settled().await;
}

/// A certificate for this machine, in the house's folder.
fn certificate(folder: &std::path::Path) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    (cert.display().to_string(), key.display().to_string())
}

#[tokio::test]
async fn half_a_handshake_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = certificate(folder.path());
    let house = House::start(&format!(
        "tls: {{cert: \"{cert}\", key: \"{key}\"}}\ntimeouts: {{request_header: 2s}}\n{ACCOUNT}"
    ))
    .await;
    let client = crate::house::client().danger_accept_invalid_certs(true).build().expect("a client");
    let good = || async {
        let url = format!("https://{}/v1/models", house.listen);
        let answer = crate::house::whole(client.get(url).bearer_auth(&house.token)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    good().await;
    // TLS 1.0's and 1.1's ClientHello without extensions; a bare record; plain HTTP; nothing; and half of each.
    let hello = |version: u8| {
        let mut body = vec![3, version];
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(&[0, 0, 2, 0, 0x2f, 1, 0]);
        let handshake = [&[1, 0, 0, u8::try_from(body.len()).expect("small")][..], &body].concat();
        [&[22, 3, 1, 0, u8::try_from(handshake.len()).expect("small")][..], &handshake].concat()
    };
    let since = Instant::now();
    let mut waiting = JoinSet::new();
    for number in 0..200_usize {
        let bytes: Vec<u8> = match number % 6 {
            0 => Vec::new(),
            1 => hello(3)[..20].to_vec(),
            2 => hello(1),
            3 => b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            4 => vec![22, 3, 1, 0x40, 0],
            _ => vec![0x80; 64],
        };
        let address = house.listen;
        waiting.spawn(async move {
            let mut raw = Raw::to(address).await;
            drop(raw.stream.write_all(&bytes).await);
            let came = timeout(PATIENCE, raw.read_to_end()).await.expect("closed");
            assert!(!came.starts_with(b"HTTP/1.1 2"), "{came:?}");
        });
    }
    good().await;
    while let Some(ended) = waiting.join_next().await {
        ended.expect("closed");
    }
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    good().await;
}
