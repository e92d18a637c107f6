//! What a caller may do wrong: each is refused in OpenAI's shape, in time, with nothing held afterwards, and the
//! connection is either closed as announced or good for the next request.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

use crate::house::{Answer, House, Raw, mint, mint_with, question, whole};

/// Any code will do.
const ANY: &str = "*";

const ONE: &str = "accounts: [{id: a, platform: openai, api_key: sk-a}]\n";

/// Sends `bytes` on `raw`, checks the refusal, and that what follows on the connection is right.
async fn refused(house: &House, raw: &mut Raw, what: &str, bytes: &[u8], status: u16, code: &str) -> Answer {
    raw.send(bytes).await;
    let answer = raw.answer().await.unwrap_or_else(|| panic!("{what}: closed without an answer"));
    let told = answer.error(status);
    assert!(code == ANY || told == code, "{what}: {}", answer.text());
    if answer.header("connection") == "close" {
        assert!(raw.answer().await.is_none(), "{what}: said to close, and did not");
        *raw = house.connect().await;
    } else {
        raw.send(&house.wire_chat("gpt-4o", "still there?", false)).await;
        let next = raw.answer().await.unwrap_or_else(|| panic!("{what}: closed without a word"));
        assert_eq!(next.status, 200, "{what}: the next request on it: {}", next.text());
    }
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_no_request_is_a_400_and_never_reaches_a_platform() {
    let house = House::start(ONE).await;
    let deep =
        format!("{{\"model\":\"gpt-4o\",\"messages\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: &[(&str, &[u8])] = &[
        ("nothing", b""),
        ("half an object", br#"{"model":"gpt-4o","messages":["#),
        ("no JSON", b"hello"),
        ("an array", b"[]"),
        ("null", b"null"),
        ("a number", b"7"),
        ("more after the end", br#"{"model":"gpt-4o","messages":[{"role":"user","content":"x"}]} x"#),
        ("a byte order mark", b"\xef\xbb\xbf{\"model\":\"gpt-4o\",\"messages\":[]}"),
        ("no UTF-8", b"{\"model\":\"gpt-4o\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\xfe\"}]}"),
        ("no UTF-8 in a name", b"{\"model\":\"gpt-4o\",\"\xc3\":1,\"messages\":[]}"),
        ("UTF-16", b"{\0\"\0m\0\"\0:\x001\0}\0"),
        ("no model", br#"{"messages":[{"role":"user","content":"x"}]}"#),
        ("a number for a model", br#"{"model":5,"messages":[{"role":"user","content":"x"}]}"#),
        ("text for messages", br#"{"model":"gpt-4o","messages":"x"}"#),
        ("an object for messages", br#"{"model":"gpt-4o","messages":{}}"#),
        ("no messages", br#"{"model":"gpt-4o"}"#),
        (
            "text for stream",
            br#"{"model":"gpt-4o","stream":"yes","messages":[{"role":"user","content":"x"}]}"#,
        ),
        (
            "a control character",
            b"{\"model\":\"gpt-4o\",\"messages\":[{\"role\":\"user\",\"content\":\"\x01\"}]}",
        ),
        ("a number too large", br#"{"model":"gpt-4o","n":1e999,"messages":[{"role":"user","content":"x"}]}"#),
        ("deep nesting", deep.as_bytes()),
    ];
    let mut raw = house.connect().await;
    let mut good = 0;
    for (what, body) in bodies {
        let bytes = house.wire("POST", "/v1/chat/completions", "", body);
        let answer = refused(&house, &mut raw, what, &bytes, 400, ANY).await;
        good += u64::from(answer.header("connection") != "close");
    }
    assert_eq!(house.counted("openai", "requests").await, good, "a platform saw a bad request");
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_not_known_gets_a_401_that_says_how_to_be() {
    let house = House::start(ONE).await;
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJpc3MiOiJob3VzZSIsImF1ZCI6IndlaXIiLCJzdWIiOiJhIiwiZXhwIjo5OTk5OTk5OTk5fQ.";
    let good = mint(json!({}));
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let tokens = [
        ("expired", mint(json!({"exp": 1_000_000_000}))),
        ("not yet good", mint(json!({"nbf": 4_000_000_000_u64}))),
        ("forged", mint_with("another-secret-of-at-least-forty-characters", json!({}))),
        ("of another issuer", mint(json!({"iss": "elsewhere"}))),
        ("for another audience", mint(json!({"aud": "elsewhere"}))),
        ("unsigned", none.to_owned()),
        ("cut", format!("{head}.{}", &signature[1..])),
        ("without an end", mint(json!({"exp": null}))),
        ("no token at all", "hello".to_owned()),
        ("no key of ours", "sk-weir-0123456789abcdefghijklmnopqrstuvwxyz".to_owned()),
    ];
    let body = question("gpt-4o", "x", false).to_string();
    let mut raw = house.connect().await;
    let send = |authorization: String| {
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\n{authorization}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut cases: Vec<(&str, String)> = vec![("nothing", send(String::new()))];
    cases.push(("another scheme", send("authorization: Basic YTpi\r\n".into())));
    cases.push(("a key elsewhere", send(format!("x-api-key: {good}\r\n"))));
    cases.extend(
        tokens.iter().map(|(what, token)| (*what, send(format!("authorization: Bearer {token}\r\n")))),
    );
    for (what, request) in &cases {
        let answer = refused(&house, &mut raw, what, request.as_bytes(), 401, "invalid_api_key").await;
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}: {:?}", answer.headers);
        assert!(!answer.text().contains(signature), "{what}: the token is told back");
    }
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_or_not_meant_so_is_said_in_json() {
    let house = House::start(ONE).await;
    let mut raw = house.connect().await;
    let chat = "/v1/chat/completions";
    let body = question("gpt-4o", "x", false).to_string();
    let unknown = question("no-such-model", "x", true).to_string();
    let long = format!("/v1/models/{}", "x".repeat(9000));
    let gzip = "content-encoding: gzip\r\n";
    let cases: &[(&str, Vec<u8>, u16, &str)] = &[
        ("a model", house.wire("POST", chat, "", unknown.as_bytes()), 404, "model_not_found"),
        ("a path", house.wire("POST", "/v1/completions/nothing", "", body.as_bytes()), 404, "not_found"),
        ("a path outside", house.wire("GET", "/../../etc/passwd", "", b""), 404, "not_found"),
        ("metrics on the public port", house.wire("GET", "/metrics", "", b""), 404, "not_found"),
        ("admin on the public port", house.wire("POST", "/admin/reload", "", b""), 404, "not_found"),
        ("a model's own page", house.wire("GET", "/v1/models/no-such", "", b""), 404, "model_not_found"),
        ("GET", house.wire("GET", chat, "", b""), 405, "method_not_allowed"),
        ("DELETE", house.wire("DELETE", chat, "", b""), 405, "method_not_allowed"),
        ("POST to a list", house.wire("POST", "/v1/models", "", b"{}"), 405, "method_not_allowed"),
        ("a compressed body", house.wire("POST", chat, gzip, body.as_bytes()), 415, "unsupported_media_type"),
        ("a long path", house.wire("GET", &long, "", b""), 414, "uri_too_long"),
    ];
    for (what, bytes, status, code) in cases {
        let answer = refused(&house, &mut raw, what, bytes, *status, code).await;
        let allowed = match (*status, *what) {
            (405, "POST to a list") => "GET,HEAD",
            (405, _) => "POST",
            _ => "",
        };
        assert_eq!(answer.header("allow"), allowed, "{what}");
    }
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_too_large_or_no_http_is_refused_in_json_and_closed() {
    let house = House::start(ONE).await;
    let many = (0..150).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    let large = format!("x-large: {}\r\n", "y".repeat(70 << 10));
    let long_path = format!("/{}", "x".repeat(70 << 10));
    let cases: &[(&str, Vec<u8>, u16, &str)] = &[
        ("many headers", house.wire("GET", "/v1/models", &many, b""), 431, "headers_too_large"),
        ("a large header", house.wire("GET", "/v1/models", &large, b""), 431, "headers_too_large"),
        ("a path beyond the head", house.wire("GET", &long_path, "", b""), 431, "headers_too_large"),
        ("no HTTP", b"hello there\r\n\r\n".to_vec(), 400, ""),
        ("a bad length", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n".to_vec(), 400, ""),
        (
            "two lengths",
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec(),
            400,
            "",
        ),
        ("a NUL", b"GET / HTTP/1.1\r\nhost: x\r\nx: \0\r\n\r\n".to_vec(), 400, ""),
    ];
    for (what, bytes, status, code) in cases {
        let mut raw = house.connect().await;
        drop(raw.stream.write_all(bytes).await);
        let answer = raw.answer().await.unwrap_or_else(|| panic!("{what}: closed without an answer"));
        assert_eq!((answer.error(*status).as_str(), *what), (*code, *what));
        assert!(raw.answer().await.is_none(), "{what}: not closed");
    }
    let under = format!("x-large: {}\r\n", "y".repeat(40 << 10));
    let mut raw = house.connect().await;
    raw.send(&house.wire("GET", "/v1/models", &under, b"")).await;
    assert_eq!(raw.answer().await.expect("an answer").status, 200, "40 KiB of head are within the limit");
}

/// R20.2: the refusal comes before everything is read, and reaches a client that goes on writing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_33_mib_body_is_a_413_that_a_client_which_keeps_writing_can_read() {
    let house = House::start(ONE).await;
    let size = 33 << 20;
    for is_chunked in [false, true] {
        let mut raw = house.connect().await;
        let framing =
            if is_chunked { "transfer-encoding: chunked".into() } else { format!("content-length: {size}") };
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {}\r\n{framing}\r\n\r\n",
            house.token
        );
        raw.send(head.as_bytes()).await;
        let piece = vec![b' '; 1 << 20];
        for _ in 0..33 {
            if is_chunked {
                raw.send(b"100000\r\n").await;
            }
            raw.send(&piece).await;
            if is_chunked {
                raw.send(b"\r\n").await;
            }
        }
        if is_chunked {
            raw.send(b"0\r\n\r\n").await;
        }
        let answer = raw.answer().await.expect("an answer");
        assert_eq!(answer.error(413), "request_too_large");
        assert!(raw.answer().await.is_none());
    }
    // By its length alone: not a byte of it has to come.
    let mut raw = house.connect().await;
    let mut bytes = house.wire("POST", "/v1/chat/completions", "", b"");
    bytes.truncate(bytes.len() - 2);
    let head = String::from_utf8(bytes)
        .expect("text")
        .replace("content-length: 0", &format!("content-length: {size}"));
    raw.send(format!("{head}\r\n").as_bytes()).await;
    let early = raw.until(b"request_too_large").await;
    assert!(early.starts_with(b"HTTP/1.1 413"));
    let (_, most) = house.memory();
    assert!(most < 200 << 20, "{most} bytes of memory");
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_before_it_sends_a_large_body_is_told_no_at_once() {
    let house = House::start(ONE).await;
    let mut raw = house.connect().await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {}\r\nexpect: 100-continue\r\n\
         content-length: {}\r\n\r\n",
        house.token,
        33 << 20
    );
    let began = Instant::now();
    raw.send(head.as_bytes()).await;
    assert_eq!(raw.answer().await.expect("an answer").error(413), "request_too_large");
    assert!(began.elapsed() < Duration::from_secs(5), "the answer ended only after {:?}", began.elapsed());
    let mut raw = house.connect().await;
    let body = question("gpt-4o", "go on", false).to_string();
    let head = head.replace(&(33 << 20).to_string(), &body.len().to_string());
    raw.send(head.as_bytes()).await;
    raw.until(b"HTTP/1.1 100 Continue\r\n\r\n").await;
    raw.send(body.as_bytes()).await;
    assert_eq!(raw.answer().await.expect("an answer").status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_and_bodies_are_cut_off_in_their_time() {
    let house =
        House::start(&format!("{ONE}timeouts: {{request_header: 300ms, client_idle: 300ms}}\n")).await;
    let began = Instant::now();
    // Nothing at all: closed without a word.
    let mut silent = house.connect().await;
    // A head that trickles.
    let mut head = house.connect().await;
    head.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: we").await;
    // A body that stops half way.
    let mut body = house.connect().await;
    let bytes = house.wire_chat("gpt-4o", "x", false);
    body.send(&bytes[..bytes.len() - 20]).await;
    assert!(silent.answer().await.is_none());
    assert_eq!(head.answer().await.expect("an answer").error(400), "request_timeout");
    let refusal = body.answer().await.expect("an answer");
    assert_eq!(refusal.error(400), "request_timeout");
    assert_eq!(refusal.header("x-should-retry"), "false");
    assert!(began.elapsed() < Duration::from_secs(10));
    // A head that trickles byte by byte gets no more time than one that stops.
    let mut trickle = house.connect().await;
    for byte in b"GET /healthz HTTP/1.1\r\nx-a: 0123456789".chunks(1) {
        if trickle.stream.write_all(byte).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(30)).await;
    }
    let cut = trickle.answer().await;
    assert!(cut.is_none_or(|answer| answer.error(400) == "request_timeout"));
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_has_said_everything_and_closes_its_half_is_gone_and_holds_nothing() {
    let house = House::start(ONE).await;
    let mut raw = house.connect().await;
    raw.send(&house.wire_chat("gpt-4o", "@first=20000 never mind", true)).await;
    crate::house::until("the platform is asked", || async {
        house.counted("openai", "in_flight").await == 1
    })
    .await;
    raw.stream.shutdown().await.expect("half closed");
    let gone = timeout(Duration::from_secs(5), raw.read_to_end()).await;
    assert!(gone.is_ok(), "a half-closed connection is kept");
    house.settled().await;
    assert_eq!(house.counted("openai", "client_gone").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_one_write_are_answered_one_after_the_other_in_order() {
    let house = House::start(ONE).await;
    let mut raw = house.connect().await;
    let mut bytes = Vec::new();
    for n in 0..20 {
        let id = format!("x-request-id: pipelined-{n}\r\n");
        let body =
            if n % 3 == 1 { "{" } else { r#"{"model":"gpt-4o","messages":[{"role":"user","content":"x"}]}"# };
        bytes.extend(house.wire("POST", "/v1/chat/completions", &id, body.as_bytes()));
    }
    raw.send(&bytes).await;
    for n in 0..20 {
        let answer = raw.answer().await.expect("an answer");
        assert_eq!(answer.header("x-request-id"), format!("pipelined-{n}"));
        assert_eq!(answer.status, if n % 3 == 1 { 400 } else { 200 });
    }
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_id_is_the_callers_own_where_it_is_harmless_and_ours_otherwise() {
    let house = House::start(ONE).await;
    let ask = |id: &str| {
        whole(house.request(&question("gpt-4o", "x", false)).header("x-request-id", id.to_owned()))
    };
    assert_eq!(ask("my-own_id.1").await.header("x-request-id"), "my-own_id.1");
    let long = "x".repeat(129);
    for bad in [long.as_str(), "with space", "a\"b", "<script>"] {
        let given = ask(bad).await;
        assert_ne!(given.header("x-request-id"), bad);
        assert!(given.header("x-request-id").len() > 8);
    }
    let (one, other) = (house.get("/v1/models").await, house.get("/v1/models").await);
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
    let admin = house.admin(http::Method::GET, "/nothing").await;
    assert_eq!(admin.error(404), "not_found");
}
