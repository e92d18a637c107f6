//! Platforms that break: whatever they send, a caller never takes a broken answer for a whole one (U1, U2, R1, R8, R10).

use crate::house::{House, question};
use crate::puppet::{
    DONE, EVENTS_HEAD, End, Puppet, Script, answer, delta, finish, good_json, good_stream, usage,
};

const JSON: &str = "content-type: application/json\r\n";

async fn scripted(more: &str) -> (House, Puppet, Script) {
    let (puppet, script) = Puppet::scripted().await;
    let house = House::start(&puppet.house(more)).await;
    (house, puppet, script)
}

/// A good answer in between: failures in a row would rest the account.
async fn good(house: &House, script: &Script) {
    script.set(answer("200 OK", JSON, &good_json()), End::Close);
    let answer = house.chat("m", "well again?").await;
    assert_eq!((answer.status, answer.content().as_str()), (200, "Hello world"), "{}", answer.text());
}

/// A whole stream in three framings: until the close, chunk by chunk, in one chunk.
fn framings(stream: &str) -> [String; 3] {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
    let chunked = |pieces: Vec<&str>| {
        let chunks = pieces.into_iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len()));
        format!("{head}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunks.collect::<String>())
    };
    let events = stream.split_inclusive("\n\n").collect();
    [format!("{EVENTS_HEAD}{stream}"), chunked(events), chunked(vec![stream])]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u1_an_answer_is_the_same_however_its_bytes_are_split() {
    let (house, _puppet, script) = scripted("").await;
    let text = "Grüße, 世界 🌊";
    let stream = format!("{}{}{}{}{DONE}", delta("Hello "), delta(text), finish(), usage());
    let mut seen = std::collections::BTreeSet::new();
    for whole in framings(&stream) {
        let sizes = (1..24).chain([31, 64, 100, 177, 500, 1000, usize::MAX]);
        for size in sizes {
            script.set_pieces(whole.clone(), size, End::Close);
            let answer = house.stream("m", "split").await;
            let events = answer.events();
            assert!(events.is_whole(), "pieces of {size}: {}", answer.text());
            assert_eq!(events.text(), format!("Hello {text}"), "pieces of {size}");
            seen.insert(answer.text());
        }
    }
    assert_eq!(seen.len(), 1, "different bytes for the same answer: {seen:?}");
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u1_translated_answers_are_the_same_however_their_bytes_are_split() {
    let house = House::start(
        "accounts:\n  - {id: c, platform: claude, api_key: sk-ant-c}\n  - {id: g, platform: gemini, api_key: AIzaG}\n",
    )
    .await;
    for model in ["claude-sonnet-4-5", "gemini-2.5-flash"] {
        let whole = house.stream(model, "@words=8 split me").await.events();
        assert!(whole.is_whole() && !whole.text().is_empty(), "{whole:?}");
        for size in [1, 2, 3, 5, 7, 16, 33, 200] {
            for line_ends in ["", "@crlf "] {
                let answer =
                    house.stream(model, &format!("@words=8 @chunk={size} {line_ends}split me")).await;
                let events = answer.events();
                assert!(events.is_whole(), "{model} by {size}: {}", answer.text());
                assert_eq!(events.text(), whole.text(), "{model} by {size}");
            }
        }
    }
    house.settled().await;
}

/// What goes wrong behind the last finish reason takes nothing from the answer; usage that was asked for and did not come
/// is told by estimate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_an_answer_is_whole_from_its_finish_reason_on() {
    let (house, _puppet, script) = scripted("").await;
    let mut asked = question("m", "tail", true);
    asked["stream_options"] = serde_json::json!({"include_usage": true});
    let error = "data: {\"error\":{\"message\":\"late\",\"type\":\"server_error\"}}\n\n";
    let garbage = "data: <html>\n\n";
    for (what, tail, tokens) in [
        ("nothing", String::new(), None),
        ("an end mark", DONE.to_owned(), None),
        ("an error", error.to_owned(), None),
        ("an error and an end mark", format!("{error}{DONE}"), None),
        ("usage, then an error", format!("{}{error}", usage()), Some(18)),
        ("usage", usage(), Some(18)),
        ("half an event", usage()[..30].to_owned(), None),
        ("no JSON", garbage.to_owned(), None),
    ] {
        for end in [End::Close, End::Reset] {
            let said = format!("{EVENTS_HEAD}{}{}{tail}", delta("All of it"), finish());
            script.set(said, end);
            let answer = house.post("/v1/chat/completions", &asked).await;
            let events = answer.events();
            assert!(events.is_whole() && events.text() == "All of it", "{what}: {}", answer.text());
            let told: Vec<_> =
                events.chunks.iter().filter_map(|chunk| chunk["usage"]["total_tokens"].as_u64()).collect();
            assert_eq!(told.len(), 1, "{what}: {}", answer.text());
            assert!(tokens.is_none_or(|tokens| told == [tokens]), "{what}: {told:?}");
            let last = events.chunks.last().expect("chunks");
            assert_eq!((&last["model"], &last["id"]), (&"m".into(), &"c1".into()), "{what}: {last}");
        }
    }
    house.settled().await;
}

/// R1.1, R1.2, R1.4: a stream that is cut anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u2_a_stream_cut_anywhere_is_never_taken_for_a_whole_one() {
    let (house, _puppet, script) = scripted("").await;
    let stream = good_stream();
    let first = delta("Hello").len();
    let finished = (["Hello", " ", "world"].map(delta).concat() + &finish()).len();
    let chunked = &framings(&stream)[1];
    let cuts = (0..stream.len()).step_by(61).chain([first - 1, first, first + 1, finished - 1, finished]);
    let (mut truncated, mut whole, mut refused) = (0, 0, 0);
    for cut in cuts {
        for (framing, end) in [(0, End::Close), (0, End::Reset), (1, End::Close), (1, End::Reset)] {
            let said = match framing {
                0 => format!("{EVENTS_HEAD}{}", &stream[..cut]),
                // The same place in a chunked answer, whose own end never comes.
                _ => chunked[..chunked.len() * cut / stream.len()].to_owned(),
            };
            let so_far = said.clone();
            script.set(said, end);
            let answer = house.stream("m", "cut").await;
            let what = format!("cut at {cut} ({framing}, {end:?}): {}", answer.text());
            if answer.status != 200 {
                assert_eq!(answer.error(502), "upstream_error", "{what}");
                assert!(!so_far.contains(&delta("Hello")), "a begun answer was thrown away: {what}");
                refused += 1;
                good(&house, &script).await;
                continue;
            }
            let events = answer.events();
            assert!("Hello world".starts_with(&events.text()), "{what}");
            if so_far.contains("\"finish_reason\":\"stop\"},")
                || so_far.contains("finish_reason\":\"stop\"}]}\n\n")
            {
                assert!(events.is_whole() && events.text() == "Hello world", "{what}");
                whole += 1;
            } else {
                assert!(events.is_broken_with("upstream_stream_incomplete"), "{what}");
                truncated += 1;
            }
        }
    }
    assert!(truncated > 20 && whole > 8 && refused > 4, "{truncated} {whole} {refused}");
    house.settled().await;
    let metrics = house.metrics().await;
    let counted = crate::house::sum_of(&metrics, "weir_requests_total", "outcome=\"truncated\"");
    assert_eq!(counted, f64::from(truncated));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_an_error_in_a_begun_stream_is_told_and_no_end_is_invented() {
    let (house, _puppet, script) = scripted("").await;
    let error = r#"data: {"error":{"message":"sk-leaked at internal.host","type":"server_error","code":"x"},"choices":[]}"#;
    let no_choices = r#"data: {"id":"c","choices":[],"error":{"message":"sk-leaked","code":500}}"#;
    for (what, tail) in [
        ("an error", format!("{error}\n\n")),
        ("an error, then the end mark", format!("{error}\n\n{DONE}")),
        ("an error beside empty choices", format!("{no_choices}\n\n{DONE}")),
        ("an error as a named event", format!("event: error\n{error}\n\n{DONE}")),
        ("no JSON", format!("data: {{\"choices\": [{{]]\n\n{DONE}")),
        ("a web page", "<!DOCTYPE html><html>\n\n".to_owned()),
        ("nothing", String::new()),
        ("an empty reason, which is none", delta("").replace("null", "\"\"")),
        ("an end mark without a reason", DONE.to_owned()),
        ("usage and an end mark without a reason", usage() + DONE),
    ] {
        script.set(format!("{EVENTS_HEAD}{}{tail}", delta("Half an answer")), End::Close);
        let answer = house.stream("m", "error").await;
        let events = answer.events();
        assert_eq!(answer.status, 200);
        assert_eq!(events.text(), "Half an answer", "{what}");
        assert!(events.is_broken_with("upstream_stream_incomplete"), "{what}: {}", answer.text());
        assert!(!answer.text().contains("leaked"), "{what}: {}", answer.text());
    }
    house.settled().await;
}

/// R1.4, R1.5, R10: what comes instead of an answer, for a whole one and for a stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u2_what_is_no_answer_is_a_502_that_sdks_raise_and_leaks_nothing() {
    let (house, puppet, script) = scripted("limits: {answer: 1MiB, event: 64KiB}\n").await;
    let json = good_json();
    let leak = r#"{"error":{"message":"key sk-leaked of org-leaked at leaked.internal is wrong"}}"#;
    let in_200 = r#"{"error":{"message":"sk-leaked","type":"server_error","code":"overloaded"}}"#;
    let html = "<!DOCTYPE html><html><body>Blocked by leaked.internal</body></html>";
    let no_choices = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[]}"#;
    let events = "content-type: text/event-stream\r\n";
    let long = format!("HTTP/1.1 200 OK\r\n{JSON}content-length: {}\r\n\r\n{json}", json.len() + 10);
    let short = format!("HTTP/1.1 200 OK\r\n{JSON}content-length: {}\r\n\r\n{json}", json.len() - 10);
    let large = answer("200 OK", JSON, &json.replace("Hello", &"x".repeat(2 << 20)));
    let line = format!("{EVENTS_HEAD}data: {}", "x".repeat(1 << 20));
    let cases: Vec<(&str, String)> = vec![
        ("no choices", answer("200 OK", JSON, no_choices)),
        ("truncated JSON", answer("200 OK", JSON, &json[..json.len() / 2])),
        ("a length too long", long),
        ("a length too short", short),
        ("a web page", answer("200 OK", "content-type: text/html\r\n", html)),
        ("a web page called JSON", answer("200 OK", JSON, html)),
        ("a web page called events", answer("200 OK", events, html)),
        ("204", "HTTP/1.1 204 No Content\r\n\r\n".into()),
        ("an empty 200", answer("200 OK", JSON, "")),
        ("empty events", answer("200 OK", events, "")),
        ("the end mark alone", answer("200 OK", events, DONE)),
        ("comments alone", answer("200 OK", events, ": hello\n\n: hello\n\n")),
        ("null", answer("200 OK", JSON, "null")),
        ("an error in a 200", answer("200 OK", JSON, in_200)),
        ("an error event in a 200", answer("200 OK", events, &format!("data: {in_200}\n\n{DONE}"))),
        ("gzip", answer("200 OK", &format!("{JSON}content-encoding: gzip\r\n"), "\x1f garbage")),
        ("a redirect", answer("302 Found", "location: http://leaked.internal/\r\n", "")),
        ("500", answer("500 Internal Server Error", JSON, leak)),
        ("503 as a page", answer("503 Service Unavailable", "content-type: text/html\r\n", html)),
        ("nothing", String::new()),
        ("no HTTP", "hello\r\n\r\n".into()),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-ty".into()),
        ("a huge head", format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(200 << 10))),
        ("a bad chunk", format!("HTTP/1.1 200 OK\r\n{JSON}transfer-encoding: chunked\r\n\r\nzz\r\n{json}")),
        ("too large", large),
        ("an endless line", line),
    ];
    for (what, bytes) in cases {
        for stream in [false, true] {
            script.set(bytes.clone(), End::Close);
            let before = puppet.requests();
            let answer = house.post("/v1/chat/completions", &question("m", what, stream)).await;
            let what = format!("{what} (stream: {stream}): {}", answer.text());
            // Never a clean end, and where nothing was sent yet a true status.
            assert_eq!(answer.error(502), "upstream_error", "{what}");
            assert_eq!(answer.header("x-should-retry"), "false", "{what}");
            assert!(!answer.text().contains("leaked"), "{what}");
            assert_eq!(puppet.requests() - before, 1, "asked twice: {what}");
            good(&house, &script).await;
        }
    }
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_odd_but_whole_is_an_answer() {
    let (house, _puppet, script) = scripted("").await;
    let stream = good_stream();
    let json = good_json();
    let events = "content-type: text/event-stream\r\n";
    let hints = format!("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n{}", answer("200 OK", JSON, &json));
    script.set(hints, End::Close);
    assert_eq!(house.chat("m", "early hints").await.content(), "Hello world");
    script.set(answer("200 OK", "content-type: text/plain\r\n", &json), End::Close);
    assert_eq!(house.chat("m", "a wrong type").await.content(), "Hello world");
    for (what, bytes) in [
        ("a whole answer to who asked for a stream", answer("200 OK", JSON, &json)),
        ("a stream with a length", answer("200 OK", events, &stream)),
        (
            "comments and pings",
            answer("200 OK", events, &format!(": hi\n\n{}", stream.replace("data: {", ": ping\n\ndata: {"))),
        ),
        ("a byte order mark", answer("200 OK", events, &format!("\u{feff}{stream}"))),
        ("carriage returns alone", answer("200 OK", events, &stream.replace('\n', "\r"))),
        ("no space after the colon", answer("200 OK", events, &stream.replace("data: ", "data:"))),
        ("ids and retries", answer("200 OK", events, &format!("retry: 5\nid: 7\n{stream}"))),
        (
            "pings of all kinds",
            answer(
                "200 OK",
                events,
                &format!("event: ping\ndata:\n\ndata:\n\ndata: {{\"type\":\"ping\"}}\n\n{stream}"),
            ),
        ),
        ("no end mark", answer("200 OK", events, stream.strip_suffix(DONE).expect("an end"))),
        ("a charset", answer("200 OK", "content-type: Text/Event-Stream; charset=UTF-8\r\n", &stream)),
    ] {
        script.set(bytes, End::Close);
        let answer = house.stream("m", what).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        let events = answer.events();
        assert!(events.is_whole() && events.text() == "Hello world", "{what}: {}", answer.text());
    }
    house.settled().await;
}

/// R8.1, R13: what is settled when a stream breaks: what the platform said it used, else what came through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r8_a_broken_stream_is_settled_once_for_what_came_through() {
    let (house, _puppet, script) = scripted("").await;
    script.set(format!("{EVENTS_HEAD}{}{}", delta(&"word ".repeat(400)), usage()), End::Close);
    assert!(house.stream("m", "x").await.events().is_broken_with("upstream_stream_incomplete"));
    house.settled().await;
    let exact = "weir_settlements_total{basis=\"exact\",platform=\"puppet\"}";
    let estimated = "weir_settlements_total{basis=\"estimated\",platform=\"puppet\"}";
    let completion = "weir_tokens_total{kind=\"completion\",platform=\"puppet\"}";
    assert_eq!((house.metric(exact).await, house.metric(completion).await), (1.0, 7.0));
    script.set(format!("{EVENTS_HEAD}{}", delta(&"word ".repeat(400))), End::Reset);
    assert!(house.stream("m", "x").await.events().is_broken_with("upstream_stream_incomplete"));
    house.settled().await;
    assert_eq!((house.metric(exact).await, house.metric(estimated).await), (1.0, 1.0));
    let guessed = house.metric(completion).await - 7.0;
    assert!((200.0..2000.0).contains(&guessed), "{guessed} tokens for 400 words");
}
