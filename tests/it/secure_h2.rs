//! HTTP/2 as an attacker speaks it: what costs us more than it costs the sender ends the connection, everybody else is
//! served meanwhile, and nothing is held for a caller who does not move (H7, U6).

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};

use crate::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PREFACE, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, literal, request,
};
use crate::house::{House, PATIENCE, Raw, question, until};

const ACCOUNT: &str = "accounts: [{id: a, platform: openai, api_key: sk-a}]";

/// A house that loses its patience quickly.
async fn quick_house() -> House {
    House::start(&format!("timeouts: {{request_header: 1s, client_idle: 1s}}\n{ACCOUNT}")).await
}

async fn serves_others(house: &House) {
    let answer = house.chat("openai/gpt-4o", "still here").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Sends the same bytes over and over, until the other side has had enough. Whether it had.
async fn floods(house: &House, first: &[u8], bytes: &[u8], times: usize, reads: bool) -> bool {
    let frames = Frames::to(house.listen, &[]).await;
    let (mut reader, mut writer) = frames.split();
    let drain = async {
        let mut piece = [0; 65_536];
        while reads && !matches!(reader.read(&mut piece).await, Ok(0) | Err(_)) {}
        if !reads {
            std::future::pending::<()>().await;
        }
    };
    let pour = async {
        use tokio::io::AsyncWriteExt;
        let batch = bytes.repeat(64);
        if writer.write_all(first).await.is_err() {
            return true;
        }
        for _ in 0..times / 64 {
            match timeout(Duration::from_secs(2), writer.write_all(&batch)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return true,
                // It does not read on, as we do not: that holds nothing but two buffers.
                Err(_) => return false,
            }
        }
        // Closed, perhaps, by now; else it shall serve.
        tokio::time::sleep(Duration::from_millis(50)).await;
        writer.write_all(&frame(PING, 0, 0, &[0; 8])).await.is_err()
    };
    tokio::select! {
        () = drain => true,
        closed = pour => closed,
    }
}

#[tokio::test]
async fn floods_of_frames_end_their_connection_and_nobody_elses() {
    let house = quick_house().await;
    let before = house.memory().0;
    let head = request("POST", "/v1/chat/completions", &house.token);
    let open = frame(HEADERS, 0, 1, &head);
    let posted = frame(HEADERS, END_HEADERS, 1, &head);
    let empty = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, 0, 0, &[])].concat();
    let cookies = literal("cookie", &"x".repeat(4000)).repeat(4);
    for (name, first, bytes, must_close) in [
        ("CONTINUATION", open.clone(), frame(CONTINUATION, 0, 1, &literal("x", "y")), true),
        ("empty CONTINUATION", open, frame(CONTINUATION, 0, 1, &[]), true),
        ("large CONTINUATION", frame(HEADERS, 0, 1, &head), frame(CONTINUATION, 0, 1, &cookies), true),
        ("empty DATA", posted.clone(), frame(DATA, 0, 1, &[]), false),
        ("padded DATA", posted.clone(), frame(DATA, 8, 1, &[0]), false),
        ("DATA beyond the window", posted.clone(), frame(DATA, 0, 1, &[b' '; 16_384]), false),
        ("zero WINDOW_UPDATE", posted.clone(), frame(WINDOW_UPDATE, 0, 0, &[0; 4]), true),
        ("WINDOW_UPDATE beyond all", posted, frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), true),
        ("unasked PING answers", Vec::new(), frame(PING, ACK, 0, &[0; 8]), false),
        ("PING", Vec::new(), frame(PING, 0, 0, &[0; 8]), false),
        ("SETTINGS", Vec::new(), empty, false),
        ("PRIORITY", Vec::new(), frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0]), false),
        ("unknown frames", Vec::new(), frame(0x77, 0, 0, &[0; 32]), false),
        ("a frame too large", Vec::new(), frame(DATA, 0, 1, &[0; 20_000]), true),
        ("DATA for nobody", Vec::new(), frame(DATA, 0, 7, &[0; 8]), true),
        ("odd HEADERS", Vec::new(), frame(HEADERS, END_HEADERS, 2, &head), true),
        ("no HPACK", Vec::new(), frame(HEADERS, END_HEADERS, 1, &[0xff; 64]), true),
    ] {
        for reads in [true, false] {
            let closed =
                timeout(PATIENCE, floods(&house, &first, &bytes, 6400, reads)).await.expect("in time");
            assert!(closed || !must_close, "{name} (reads: {reads}) went on and on");
            serves_others(&house).await;
        }
    }
    house.settled().await;
    let after = house.memory().0;
    assert!(after < before + (64 << 20), "memory went from {before} to {after}");
}

#[tokio::test]
async fn rapid_resets_end_the_connection_or_cost_nothing() {
    let house = quick_house().await;
    let head = request("POST", "/v1/chat/completions", &house.token);
    let body = question("openai/gpt-4o", "@gap=1000 @words=100", true).to_string();
    for with_body in [false, true] {
        let mut frames = Frames::to(house.listen, &[]).await;
        let mut sent = 0;
        for number in 0..10_000_u32 {
            let stream = 2 * number + 1;
            let mut bytes = frame(HEADERS, END_HEADERS, stream, &head);
            if with_body {
                bytes.extend(frame(DATA, END_STREAM, stream, body.as_bytes()));
            }
            bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            if !frames.send(&bytes).await {
                break;
            }
            sent += 1;
        }
        // Not read from at all, it would be closed in the end; here it is closed, or all of it was taken and dropped.
        let asked = house.counted("openai", "requests").await;
        assert!(asked < 1000, "{sent} streams that were reset at once cost {asked} requests");
        serves_others(&house).await;
        drop(frames);
        house.settled().await;
    }
}

#[tokio::test]
async fn header_bombs_are_refused() {
    let house = quick_house().await;
    // Each entry of the dynamic table is named again and again: a byte on the wire, kilobytes for a reader.
    let mut bomb = request("GET", "/v1/models", &house.token);
    bomb.push(0x40);
    bomb.extend(&literal("bomb", &"x".repeat(3000))[1..]);
    bomb.extend(std::iter::repeat_n(0xbe, 12_000));
    let mut frames = Frames::to(house.listen, &[]).await;
    frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)).await;
    let first = timeout(PATIENCE, async {
        loop {
            match frames.next().await {
                Some(frame) if matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY) => return Some(frame),
                None => return None,
                _ => {}
            }
        }
    });
    let first = first.await.expect("in time");
    // 431 in HPACK is a literal; 200 would be 0x88.
    assert!(
        first.as_ref().is_none_or(|frame| frame.kind != HEADERS || frame.payload.first() != Some(&0x88)),
        "{first:?}"
    );
    serves_others(&house).await;
    let (_, most) = house.memory();
    assert!(most < 300 << 20, "{most}");
}

#[tokio::test]
async fn a_stream_that_is_reset_is_cancelled_at_the_platform() {
    let house = House::start(ACCOUNT).await;
    let head = request("POST", "/v1/chat/completions", &house.token);
    let body = question("openai/gpt-4o", "@words=1000 @gap=100", true).to_string();
    let mut frames = Frames::to(house.listen, &[]).await;
    let streams: Vec<u32> = (0..10).map(|number| 2 * number + 1).collect();
    for stream in &streams {
        let bytes =
            [frame(HEADERS, END_HEADERS, *stream, &head), frame(DATA, END_STREAM, *stream, body.as_bytes())]
                .concat();
        assert!(frames.send(&bytes).await);
    }
    for _ in &streams {
        assert!(
            timeout(PATIENCE, async { while frames.next().await.expect("open").kind != DATA {} })
                .await
                .is_ok()
        );
    }
    until("all streams run", || async { house.counted("openai", "in_flight").await == 10 }).await;
    for stream in &streams[..9] {
        assert!(frames.send(&frame(RST_STREAM, 0, *stream, &8_u32.to_be_bytes())).await);
    }
    let since = Instant::now();
    until("nine are gone", || async { house.counted("openai", "in_flight").await == 1 }).await;
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    // The tenth goes on.
    assert!(timeout(PATIENCE, frames.until(DATA, streams[9])).await.expect("in time").is_some());
    drop(frames);
    house.settled().await;
}

#[tokio::test]
async fn a_caller_without_a_window_does_not_hold_a_platform() {
    let house = quick_house().await;
    let head = request("POST", "/v1/chat/completions", &house.token);
    let body = question("openai/gpt-4o", "@words=2000 @gap=5", true).to_string();
    // SETTINGS_INITIAL_WINDOW_SIZE 0: not a byte of an answer may be sent, ever.
    let mut frames = Frames::to(house.listen, &[(4, 0)]).await;
    for stream in [1, 3, 5] {
        let bytes =
            [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, END_STREAM, stream, body.as_bytes())]
                .concat();
        assert!(frames.send(&bytes).await);
    }
    until("the streams run", || async { house.counted("openai", "requests").await == 3 }).await;
    // The caller answers pings and is otherwise still.
    let still = async {
        while let Some(got) = frames.next().await {
            if got.kind == PING && got.flags & ACK == 0 {
                frames.send(&frame(PING, ACK, 0, &got.payload)).await;
            }
        }
    };
    tokio::select! {
        () = still => {}
        () = until("nothing is held", || async { house.counted("openai", "in_flight").await == 0 }) => {}
    }
    house.settled().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_after_its_preface_is_closed() {
    let house = quick_house().await;
    let settings = frame(SETTINGS, 0, 0, &[]);
    let head = request("POST", "/v1/chat/completions", &house.token);
    for (name, bytes) in [
        ("half a preface", PREFACE[..10].to_vec()),
        ("a preface", PREFACE.to_vec()),
        ("a preface and settings", [PREFACE, &settings].concat()),
        ("half a header block", [PREFACE, &settings, &frame(HEADERS, 0, 1, &head)].concat()),
        ("half a frame", [PREFACE, &settings, &frame(HEADERS, END_HEADERS, 1, &head)[..30]].concat()),
    ] {
        let mut raw = Raw::to(house.listen).await;
        raw.send(&bytes).await;
        assert!(
            timeout(Duration::from_secs(12), raw.read_to_end()).await.is_ok(),
            "{name} was waited for too long"
        );
    }
    // A body that does not come is answered, and so is one that comes in frames without a byte, or with one now and then.
    for bytes in [Vec::new(), frame(DATA, 0, 1, &[]), frame(DATA, 0, 1, b" ")] {
        let mut frames = Frames::to(house.listen, &[]).await;
        assert!(frames.send(&frame(HEADERS, END_HEADERS, 1, &head)).await);
        let answered = frames.trickle(&bytes, Duration::from_millis(100), HEADERS, 1);
        assert!(timeout(Duration::from_secs(12), answered).await.expect("in time").is_some(), "{bytes:?}");
    }
    serves_others(&house).await;
}

/// "MadeYouReset": the caller breaks its own streams, so that it is us who reset them, and the platform goes on for nothing.
#[tokio::test]
async fn streams_that_the_caller_makes_us_reset_are_cancelled_and_bounded() {
    let house = quick_house().await;
    let head = request("POST", "/v1/chat/completions", &house.token);
    let body = question("openai/gpt-4o", "@gap=1000 @words=100", true).to_string();
    // An increment of zero, one beyond all, and a body behind its end.
    let wrongs: [fn(u32) -> Vec<u8>; 3] = [
        |stream| frame(WINDOW_UPDATE, 0, stream, &[0; 4]),
        |stream| frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]),
        |stream| frame(DATA, END_STREAM, stream, b"more"),
    ];
    for wrong in wrongs {
        house.reset().await;
        let (mut reader, mut writer) = Frames::to(house.listen, &[]).await.split();
        let reads = tokio::spawn(async move {
            let mut piece = [0; 65_536];
            while !matches!(reader.read(&mut piece).await, Ok(0) | Err(_)) {}
        });
        let mut sent = 0;
        for number in 0..5000_u32 {
            use tokio::io::AsyncWriteExt;
            let stream = 2 * number + 1;
            let mut bytes = frame(HEADERS, END_HEADERS, stream, &head);
            bytes.extend(frame(DATA, END_STREAM, stream, body.as_bytes()));
            bytes.extend(wrong(stream));
            if !matches!(timeout(Duration::from_secs(5), writer.write_all(&bytes)).await, Ok(Ok(()))) {
                break;
            }
            sent += 1;
        }
        serves_others(&house).await;
        let asked = house.counted("openai", "requests").await;
        assert!(asked < 100, "{sent} streams made us reset them and cost {asked} requests");
        drop(writer);
        reads.abort();
        house.settled().await;
    }
}
