//! The platform behind the measured process: raw sockets and ready-made bytes, so that it costs next to nothing. What it
//! answers is written in the request's question: `mode=whole`, `mode=short`, `mode=tick` or `mode=hold`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir::clock::Clock;

/// Between two events of one stream.
pub const TICK: Duration = Duration::from_millis(50);

/// Bytes of a whole answer's body.
const WHOLE: usize = 1024;

/// Serves until the runtime ends. Gives the address.
pub async fn start(clock: Clock) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("the mock platform needs a port")?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let mut number: u32 = 0;
        while let Ok((stream, _)) = listener.accept().await {
            number = number.wrapping_add(1);
            tokio::spawn(converse(stream, clock.clone(), number));
        }
    });
    Ok(address)
}

/// How events look on the wire.
#[derive(Clone, Copy)]
enum Style {
    OpenAi,
    Claude,
}

async fn converse(mut stream: TcpStream, clock: Clock, number: u32) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let whole = whole_answer();
    let mut request = Vec::with_capacity(8 * 1024);
    loop {
        request.clear();
        read_request(&mut stream, &mut request).await?;
        let style =
            if memmem::find(&request, b"/messages").is_some() { Style::Claude } else { Style::OpenAi };
        let mode = memmem::find(&request, b"mode=").and_then(|at| request.get(at + 5..at + 9));
        match mode? {
            b"whol" => stream.write_all(&whole).await.ok()?,
            b"shor" => {
                let mut out = opening(style);
                for _ in 0..3 {
                    push_event(&mut out, style, &clock);
                }
                push_end(&mut out, style);
                stream.write_all(&out).await.ok()?;
            }
            b"hold" => {
                let mut out = opening(style);
                push_event(&mut out, style, &clock);
                stream.write_all(&out).await.ok()?;
                // Ends when the other side closes.
                while stream.read(&mut [0; 64]).await.ok()? > 0 {}
                return None;
            }
            _ => return tick(stream, style, &clock, number).await,
        }
    }
}

/// Events until the other side closes, spread evenly over the interval by the connection's number.
async fn tick(mut stream: TcpStream, style: Style, clock: &Clock, number: u32) -> Option<()> {
    let mut out = opening(style);
    push_event(&mut out, style, clock);
    stream.write_all(&out).await.ok()?;
    let mut beat = tokio::time::Instant::now() + TICK * (number % 50) / 50;
    loop {
        beat += TICK;
        tokio::time::sleep_until(beat).await;
        out.clear();
        push_event(&mut out, style, clock);
        stream.write_all(&out).await.ok()?;
    }
}

async fn read_request(stream: &mut TcpStream, request: &mut Vec<u8>) -> Option<()> {
    let mut missing = 1;
    while missing > 0 {
        if stream.read_buf(request).await.ok()? == 0 {
            return None;
        }
        missing = missing_bytes(request);
    }
    Some(())
}

/// How many bytes a message still lacks (at least 1 while its head is not complete).
pub fn missing_bytes(message: &[u8]) -> usize {
    let Some(end) = memmem::find(message, b"\r\n\r\n") else { return 1 };
    let head = message.get(..end + 2).unwrap_or_default();
    let length = header(head, b"content-length: ").or_else(|| header(head, b"Content-Length: "));
    (end + 4 + length.unwrap_or(0)).saturating_sub(message.len())
}

fn header(head: &[u8], name: &[u8]) -> Option<usize> {
    let rest = head.get(memmem::find(head, name)? + name.len()..)?;
    let line = rest.get(..memchr::memchr(b'\r', rest)?)?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

fn whole_answer() -> Vec<u8> {
    let frame = |text: &str| {
        format!(
            r#"{{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"gpt-4o-mini","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":200,"completion_tokens":150,"total_tokens":350}}}}"#
        )
    };
    let text = "a weir holds back the river ".repeat(40);
    let fill = WHOLE.saturating_sub(frame("").len());
    let body = frame(text.get(..fill).unwrap_or_default());
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_up\r\ncontent-length: ";
    format!("{head}{}\r\n\r\n{body}", body.len()).into_bytes()
}

fn opening(style: Style) -> Vec<u8> {
    let mut out = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
                    transfer-encoding: chunked\r\n\r\n"
        .to_vec();
    if let Style::Claude = style {
        chunk(
            &mut out,
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-haiku-4-5\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":200,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        );
    }
    out
}

/// One event, whose text says when it was sent: `@` and 15 digits of microseconds.
fn push_event(out: &mut Vec<u8>, style: Style, clock: &Clock) {
    let now = clock.now().as_nanos() / 1000;
    match style {
        Style::OpenAi => chunk(
            out,
            &format!(
                "data: {{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4o-mini\",\"system_fingerprint\":\"fp_bench\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"@{now:015} \"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
            ),
        ),
        Style::Claude => chunk(
            out,
            &format!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"@{now:015} \"}}}}\n\n"
            ),
        ),
    }
}

fn push_end(out: &mut Vec<u8>, style: Style) {
    match style {
        Style::OpenAi => chunk(
            out,
            "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        ),
        Style::Claude => chunk(
            out,
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":3}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ),
    }
    out.extend_from_slice(b"0\r\n\r\n");
}

fn chunk(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes());
}
