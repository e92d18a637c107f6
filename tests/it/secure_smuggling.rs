//! One request is one request: whatever another parser might read between the lines, we refuse and close, or serve exactly
//! what was asked (H1, H2). The oracle is the simulated platform's journal: it never shows a request that was not sent.

use std::time::Duration;

use futures_util::StreamExt;
use rand::Rng;
use tokio::time::timeout;

use crate::house::{House, question};

/// A case: what it is about, and the bytes.
struct Case {
    about: String,
    bytes: Vec<u8>,
}

/// What stands behind every case on the same connection: were it swallowed or served early, the answers would not fit.
const SENTINEL: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

struct Corpus {
    token: String,
    cases: Vec<Case>,
}

impl Corpus {
    fn body(&self) -> String {
        question("openai/gpt-4o", "outer-0000.", false).to_string()
    }

    /// A whole request that nobody sent, to stand where a body should be.
    fn smuggled(&self) -> String {
        let body = question("openai/gpt-4o", "SMUGGLED", false).to_string();
        let token = &self.token;
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// `lines` are header lines with their line ends.
    fn add(&mut self, about: &str, request_line: &str, lines: &[u8], body: &[u8]) {
        let host = "host: x\r\n";
        let mut bytes =
            format!("{request_line}\r\n{host}authorization: Bearer {}\r\n", self.token).into_bytes();
        bytes.extend_from_slice(lines);
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(SENTINEL.as_bytes());
        self.push(about, bytes);
    }

    fn post(&mut self, about: &str, lines: &[u8], body: &[u8]) {
        self.add(about, "POST /v1/chat/completions HTTP/1.1", lines, body);
    }

    /// All of it, as it is, instead of a request.
    fn whole(&mut self, about: &str, text: Vec<u8>) {
        let mut bytes = text;
        bytes.extend_from_slice(SENTINEL.as_bytes());
        self.push(about, bytes);
    }

    /// Each case asks its own question, however many bodies were made from one.
    fn push(&mut self, about: &str, mut bytes: Vec<u8>) {
        let number = format!("{:04}", self.cases.len());
        let marks: Vec<usize> = memchr::memmem::find_iter(&bytes, b"outer-").collect();
        for at in marks {
            bytes[at + 6..at + 10].copy_from_slice(number.as_bytes());
        }
        self.cases.push(Case { about: about.to_owned(), bytes });
    }

    fn good(&self) -> String {
        let (body, token) = (self.body(), &self.token);
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

const SPELLINGS: [&str; 66] = [
    "Transfer-Encoding: chunked",
    "transfer-encoding:chunked",
    "TRANSFER-ENCODING: CHUNKED",
    "Transfer-Encoding: cHuNkEd",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: chunked ",
    "Transfer-Encoding: chunked\t",
    "Transfer-Encoding:  chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: x chunked",
    "Transfer-Encoding: chunk",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: , , chunked",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: chunked;a=b",
    "Transfer-Encoding: chunked;",
    "Transfer-Encoding:",
    "Transfer-Encoding: ",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding:\n chunked",
    "Transfer-Encoding: \r\n\tchunked",
    "Transfer-Encoding\r\n: chunked",
    "X: a\r\n Transfer-Encoding: chunked",
    "X: a\nTransfer-Encoding: chunked",
    "X: a\rTransfer-Encoding: chunked",
    "X: a\r\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r",
    "Transfer-Encoding: ch\u{fc}nked",
    "Transfer-Encoding: c\u{212a}unked",
    "\"Transfer-Encoding\": chunked",
    "Transfer-Encoding:: chunked",
    "Transfer-Encoding= chunked",
    "Transfer-Encoding; chunked",
    "Transfer-Encoding chunked",
    "Transfer-Encoding: [chunked]",
    "Transfer-Encoding: {chunked}",
    "Transfer-Encoding: (c)chunked",
    "Transfer-Encoding: chunked(c)",
    "Transfer-Encoding: chunked/1.0",
    "Transfer-Encoding: =chunked",
    "Transfer-Encoding: -chunked",
    "Transfer-Encoding: deflate, chunked",
    "Transfer-Encoding: chunked, deflate, chunked",
    "Transfer-Encoding: compress",
    "Transfer-Encoding: trailers, chunked",
    "Connection: transfer-encoding\r\nTransfer-Encoding: chunked",
    "TE: chunked\r\nTransfer-Encoding: chunked",
];

/// `Transfer-Encoding: chunked`, as somebody somewhere reads it.
fn encodings() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = SPELLINGS.iter().map(|line| line.as_bytes().to_vec()).collect();
    for byte in [0_u8, 1, 7, 8, 0x0b, 0x0c, 0x0e, 0x1b, 0x1f, 0x7f, 0x80, 0x85, 0xa0, 0xff] {
        all.push([b"Transfer-Encoding:".as_slice(), &[byte], b"chunked"].concat());
        all.push([b"Transfer-Encoding: chunked".as_slice(), &[byte]].concat());
        all.push([b"Transfer-Encoding".as_slice(), &[byte], b": chunked"].concat());
        all.push([&[byte], b"Transfer-Encoding: chunked".as_slice()].concat());
        all.push([b"Transfer".as_slice(), &[byte], b"-Encoding: chunked"].concat());
    }
    all
}

fn corpus(token: &str) -> Vec<Case> {
    let mut corpus = Corpus { token: token.to_owned(), cases: Vec::new() };
    by_encoding(&mut corpus);
    by_length(&mut corpus);
    by_two_lengths(&mut corpus);
    by_chunk(&mut corpus);
    by_version(&mut corpus);
    by_lines(&mut corpus);
    by_headers(&mut corpus);
    by_request_line(&mut corpus);
    corpus.cases
}

fn by_encoding(corpus: &mut Corpus) {
    for line in encodings() {
        let shown = String::from_utf8_lossy(&line).into_owned();
        let with =
            |length: usize| [format!("Content-Length: {length}\r\n").as_bytes(), &line, b"\r\n"].concat();
        let after = |length: usize| {
            [line.as_slice(), format!("\r\nContent-Length: {length}\r\n").as_bytes()].concat()
        };
        let (body, smuggled) = (corpus.body(), corpus.smuggled());
        let hidden = format!("0\r\n\r\n{smuggled}");
        corpus.post(&format!("CL.TE {shown}"), &with(hidden.len()), hidden.as_bytes());
        corpus.post(&format!("CL.TE after {shown}"), &after(hidden.len()), hidden.as_bytes());
        let hidden = chunked(&smuggled);
        let first = hidden.find('\n').expect("a line") + 1;
        corpus.post(&format!("TE.CL {shown}"), &with(first), hidden.as_bytes());
        corpus.post(&format!("TE {shown}"), &[line.as_slice(), b"\r\n"].concat(), chunked(&body).as_bytes());
    }
}

fn by_length(corpus: &mut Corpus) {
    let body = corpus.body();
    let length = body.len();
    for spelled in [
        format!("+{length}"),
        format!("-{length}"),
        "-1".to_owned(),
        "-0".to_owned(),
        format!("0x{length:x}"),
        format!("{length:x}h"),
        format!("{}_{}", length / 10, length % 10),
        format!("{length}.0"),
        format!("{length}e0"),
        format!(" {length} "),
        format!("\t{length}"),
        format!("{length},"),
        format!(",{length}"),
        format!("{length}, {length}"),
        format!("{length},{length}"),
        format!("{length}, 0"),
        format!("0, {length}"),
        format!("{length} {length}"),
        format!("{length};a=b"),
        format!("\"{length}\""),
        format!("'{length}'"),
        format!("0{length}"),
        format!("00000000000000000000000{length}"),
        String::new(),
        " ".to_owned(),
        "x".to_owned(),
        "NaN".to_owned(),
        "18446744073709551615".to_owned(),
        "18446744073709551616".to_owned(),
        "9223372036854775808".to_owned(),
        "4294967296".to_owned(),
        "99999999999999999999999999".to_owned(),
        format!("{length}\u{0}"),
        format!("\u{b}{length}"),
        format!("{length}\u{c}"),
        format!("\u{ff11}{length}"),
        format!("\r\n {length}"),
        format!("{length}\r"),
        format!("{}", length + 1),
        format!("{}", length + 10),
        "0".to_owned(),
        "1".to_owned(),
    ] {
        corpus.post(
            &format!("Content-Length: {spelled:?}"),
            format!("Content-Length: {spelled}\r\n").as_bytes(),
            body.as_bytes(),
        );
    }
}

fn by_two_lengths(corpus: &mut Corpus) {
    let body = corpus.body();
    let length = body.len();
    let smuggled = corpus.smuggled();
    for (first, second) in
        [(0, smuggled.len()), (smuggled.len(), 0), (length, length), (1, smuggled.len()), (smuggled.len(), 1)]
    {
        let inner = if first == length { &body } else { &smuggled };
        // Two lengths: refused, or where they agree one request.
        let lines = format!("Content-Length: {first}\r\nContent-Length: {second}\r\n");
        corpus.post(&format!("{first} and {second}"), lines.as_bytes(), inner.as_bytes());
        let lines = format!("Content-Length: {first}, {second}\r\n");
        corpus.post(&format!("{first}, {second}"), lines.as_bytes(), inner.as_bytes());
        let lines = format!("content-length: {first}\r\nX: y\r\nCONTENT-LENGTH: {second}\r\n");
        corpus.post(&format!("{first} apart {second}"), lines.as_bytes(), inner.as_bytes());
        let lines = format!("Content-Length: {first}\r\nContent-Length : {second}\r\n");
        corpus.post(&format!("{first} space {second}"), lines.as_bytes(), inner.as_bytes());
    }
}

fn by_chunk(corpus: &mut Corpus) {
    let body = corpus.body();
    let (size, smuggled) = (format!("{:x}", body.len()), corpus.smuggled());
    for text in [
        format!("0x{size}\r\n{body}\r\n0\r\n\r\n"),
        format!("+{size}\r\n{body}\r\n0\r\n\r\n"),
        format!("-{size}\r\n{body}\r\n0\r\n\r\n"),
        format!(" {size}\r\n{body}\r\n0\r\n\r\n"),
        format!("{size} \r\n{body}\r\n0\r\n\r\n"),
        format!("{size}\t\r\n{body}\r\n0\r\n\r\n"),
        format!("{size};\r\n{body}\r\n0\r\n\r\n"),
        format!("{size};a=b\r\n{body}\r\n0\r\n\r\n"),
        format!("{size};a=\"\r\n{body}\r\n0\r\n\r\n"),
        format!("{size};a\n{body}\r\n0\r\n\r\n"),
        format!("{size};a\nb\r\n{body}\r\n0\r\n\r\n"),
        format!("{size};a\rb\r\n{body}\r\n0\r\n\r\n"),
        format!("{size};{}\r\n{body}\r\n0\r\n\r\n", "a".repeat(20_000)),
        format!("{size}\n{body}\n0\n\n"),
        format!("{size}\r{body}\r0\r\r"),
        format!("{size}\r\n{body}\n0\r\n\r\n"),
        format!("{size}\r\n{body}0\r\n\r\n"),
        format!("{size}\r\n{body}\r\n\r\n0\r\n\r\n"),
        format!("{size}\r\n{body}XX0\r\n\r\n"),
        format!("{size}_0\r\n{body}\r\n0\r\n\r\n"),
        format!("{size}.0\r\n{body}\r\n0\r\n\r\n"),
        format!("00000000000000000{size}\r\n{body}\r\n0\r\n\r\n"),
        format!("ffffffffffffffff\r\n{body}\r\n0\r\n\r\n"),
        format!("10000000000000000{size}\r\n{body}\r\n0\r\n\r\n"),
        format!("fffffffffffffffff{size}\r\n{body}\r\n0\r\n\r\n"),
        format!("7fffffffffffffff\r\n{body}\r\n0\r\n\r\n"),
        format!("100000000{size}\r\n{body}\r\n0\r\n\r\n"),
        format!("g\r\n{body}\r\n0\r\n\r\n"),
        format!("\r\n{body}\r\n0\r\n\r\n"),
        format!(";\r\n{body}\r\n0\r\n\r\n"),
        format!("{size}\r\n{body}\r\n-0\r\n\r\n"),
        format!("{size}\r\n{body}\r\n0 \r\n\r\n"),
        format!("{size}\r\n{body}\r\n0\r\nContent-Length: 5\r\n\r\n"),
        format!("{size}\r\n{body}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        format!("{size}\r\n{body}\r\n0\r\nHost: y\r\nAuthorization: Bearer x\r\n\r\n"),
        format!("{size}\r\n{body}\r\n0\r\nbad trailer\r\n\r\n"),
        format!("{size}\r\n{body}\r\n0\r\n: x\r\n\r\n"),
        format!("{size}\r\n{body}\r\n0\r\n{}\r\n", "X: y\r\n".repeat(3000)),
        format!("{size}\r\n{body}\r\n000\r\n\r\n"),
        format!("{size}\r\n{body}\r\n0\n\r\n"),
        format!("{size}\r\n{body}\r\n0\r\n\n"),
        format!("{size}\u{0}\r\n{body}\r\n0\r\n\r\n"),
        format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len() - 1),
        format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len() + 1),
        format!("{:x}\r\n{body}\r\n0\r\n\r\n{smuggled}", body.len() + 2),
    ] {
        let shown: String = text.chars().take(24).collect();
        let is_pipelined = text.ends_with(&smuggled);
        // Bytes behind a complete request are the next request; only where the first is refused may they not be.
        let body = if is_pipelined { text.replace("SMUGGLED", "refused") } else { text };
        corpus.post(&format!("chunk {shown:?}"), b"Transfer-Encoding: chunked\r\n", body.as_bytes());
    }
}

fn by_version(corpus: &mut Corpus) {
    let smuggled = corpus.smuggled();
    let old = corpus.body();
    corpus.add(
        "1.0 with TE",
        "POST /v1/chat/completions HTTP/1.0",
        b"Transfer-Encoding: chunked\r\n",
        chunked(&old).as_bytes(),
    );
    let hidden = format!("0\r\n\r\n{smuggled}");
    let lines = format!(
        "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: {}\r\n",
        hidden.len()
    );
    corpus.add("1.0 with both", "POST /v1/chat/completions HTTP/1.0", lines.as_bytes(), hidden.as_bytes());
}

fn by_lines(corpus: &mut Corpus) {
    for about in [
        "lf",
        "one lf",
        "cr",
        "double cr",
        "lead crlf",
        "lead lf",
        "lead space",
        "lead nul",
        "end lf",
        "end cr",
    ] {
        let good = corpus.good();
        let text = match about {
            "lf" => good.replace("\r\n", "\n"),
            "one lf" => good.replacen("\r\nauth", "\nauth", 1),
            "cr" => good.replacen("\r\nauth", "\rauth", 1),
            "double cr" => good.replacen("\r\nauth", "\r\r\nauth", 1),
            "lead crlf" => format!("\r\n\r\n{good}"),
            "lead lf" => format!("\n\n{good}"),
            "lead space" => format!(" {good}"),
            "lead nul" => format!("\0{good}"),
            "end lf" => good.replacen("\r\n\r\n", "\r\n\n", 1),
            _ => good.replacen("\r\n\r\n", "\r\n\r", 1),
        };
        corpus.whole(about, text.into_bytes());
    }
}

const ODD_LINES: [&[u8]; 24] = [
    b"X: a\r\n b",
    b"X: a\r\n\tb",
    b"X:\r\n b",
    b"X: a\0b",
    b"X\0: b",
    b"X: a\rb",
    b"X: a\nb",
    b"X Y: b",
    b"X\t: b",
    b"XY",
    b": b",
    b"X",
    b" X: b",
    b"X: \x7f",
    b"X: \x01",
    b"X\x80: b",
    b"X(: b",
    b"X\": b",
    b"Host: y",
    b"Host : y",
    b"hos\xc3\xb6t: y",
    b"Host:\r\n y",
    b"Host: x, y",
    b"Content-Length\0: 5",
];

fn by_headers(corpus: &mut Corpus) {
    for line in ODD_LINES {
        let body = corpus.body();
        let lines = [line, format!("\r\nContent-Length: {}\r\n", body.len()).as_bytes()].concat();
        corpus.post(&format!("line {:?}", String::from_utf8_lossy(line)), &lines, body.as_bytes());
    }
    for lines in [
        "Connection: upgrade\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Connection: upgrade\r\nUpgrade: x\r\n",
        "Upgrade: HTTP/2.0\r\n",
        "Expect: 100-continue\r\n",
        "Expect: 200-ok\r\n",
        "Connection: content-length\r\n",
        "Connection: close, content-length\r\n",
        "Connection: host\r\n",
        "Content-Encoding: gzip\r\n",
        "Content-Encoding: chunked\r\n",
        "Trailer: content-length\r\n",
        "TE: trailers\r\n",
    ] {
        let body = corpus.body();
        let lines = format!("{lines}Content-Length: {}\r\n", body.len());
        corpus.post(&format!("with {lines:?}"), lines.as_bytes(), body.as_bytes());
        let hidden = corpus.smuggled();
        let lines = format!(
            "{}Content-Length: {}\r\n",
            lines.replace(&format!("Content-Length: {}\r\n", body.len()), ""),
            hidden.len()
        );
        corpus.post(&format!("hiding with {lines:?}"), lines.as_bytes(), hidden.as_bytes());
    }
}

fn by_request_line(corpus: &mut Corpus) {
    for line in [
        "POST  /v1/chat/completions HTTP/1.1",
        "POST /v1/chat/completions  HTTP/1.1",
        "POST\t/v1/chat/completions\tHTTP/1.1",
        "POST /v1/chat/completions HTTP/1.1 ",
        "POST /v1/chat/completions",
        "POST /v1/chat/completions HTTP/1.2",
        "POST /v1/chat/completions HTTP/2.0",
        "POST /v1/chat/completions HTTP/0.9",
        "POST /v1/chat/completions HTTP/1",
        "POST /v1/chat/completions HTTP/11",
        "POST /v1/chat/completions http/1.1",
        "POST /v1/chat/completions HTTP/1.1x",
        "POST /v1/chat/completions HTTP /1.1",
        "POST /v1/chat completions HTTP/1.1",
        "POST /v1/chat/completions\0 HTTP/1.1",
        "POST /v1/chat/completions#x HTTP/1.1",
        "POST http://other.test/v1/chat/completions HTTP/1.1",
        "POST http://x/v1/chat/completions HTTP/1.1",
        "POST https://user:pw@other.test/v1/chat/completions HTTP/1.1",
        "POST file:///v1/chat/completions HTTP/1.1",
        "POST //x/v1/chat/completions HTTP/1.1",
        "POST v1/chat/completions HTTP/1.1",
        "POST * HTTP/1.1",
        "CONNECT x:443 HTTP/1.1",
        "CONNECT /v1/chat/completions HTTP/1.1",
        "post /v1/chat/completions HTTP/1.1",
        "P\u{d6}ST /v1/chat/completions HTTP/1.1",
        "GET /v1/chat/completions HTTP/1.1",
        "GET /v1/models HTTP/1.1",
        "HEAD /v1/models HTTP/1.1",
        "DELETE /v1/models HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "TRACE / HTTP/1.1",
        "GET / HTTP/1.1",
        "GET /nowhere HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        // What such a request carries is its body, or nothing at all; never a request of its own.
        let hidden = corpus.smuggled();
        corpus.add(
            &format!("hiding in {line:?}"),
            line,
            format!("Content-Length: {}\r\n", hidden.len()).as_bytes(),
            hidden.as_bytes(),
        );
        let body = corpus.body();
        corpus.add(line, line, format!("Content-Length: {}\r\n", body.len()).as_bytes(), body.as_bytes());
        corpus.add(
            &format!("chunked {line}"),
            line,
            b"Transfer-Encoding: chunked\r\n",
            chunked(&body).as_bytes(),
        );
    }
    let good = corpus.good();
    corpus.whole("no host", good.replacen("host: x\r\n", "", 1).into_bytes());
    corpus.whole("empty host", good.replacen("host: x\r\n", "host:\r\n", 1).into_bytes());
    corpus.whole("a path for a host", good.replacen("host: x\r\n", "host: x/y?z\r\n", 1).into_bytes());
}

/// The statuses in a run of answers, and how many of them are a model's.
fn statuses(bytes: &[u8]) -> (Vec<u16>, usize) {
    let text = String::from_utf8_lossy(bytes);
    let statuses =
        text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok()).collect();
    (statuses, text.matches("chat.completion\"").count())
}

#[tokio::test]
async fn one_request_is_one_request_however_it_is_spelled() {
    let house = House::start(
        "timeouts: {request_header: 1s, client_idle: 1s}\nlimits: {body: 1MiB}\naccounts: [{id: a, platform: openai, api_key: sk-a}]",
    )
    .await;
    let cases = corpus(&house.token);
    assert!(cases.len() >= 600, "{}", cases.len());
    for batch in cases.chunks(200) {
        house.reset().await;
        let answered = futures_util::stream::iter(batch).map(|case| {
            let house = &house;
            async move {
                let answered = timeout(Duration::from_secs(20), house.raw(&case.bytes)).await;
                (
                    case,
                    answered.unwrap_or_else(|_| {
                        panic!("still open: {}\n{}", case.about, String::from_utf8_lossy(&case.bytes))
                    }),
                )
            }
        });
        let answered: Vec<_> = answered.buffer_unordered(40).collect().await;
        let journal = house.requests().await;
        let seen: Vec<String> = journal.iter().map(|request| request["body"].to_string()).collect();
        for (case, bytes) in answered {
            let about = format!(
                "{}\n{}\n--> {}",
                case.about,
                String::from_utf8_lossy(&case.bytes),
                String::from_utf8_lossy(&bytes)
            );
            let (statuses, models) = statuses(&bytes);
            assert!(models <= 1, "two answers to one request: {about}");
            assert!(!statuses.is_empty() || bytes.is_empty(), "{about}");
            assert!(statuses.iter().all(|status| *status < 500), "{about}");
            // After a refusal of the framing nothing more may be served on the connection.
            if let Some(at) = statuses.iter().position(|status| *status == 400) {
                let is_framing = String::from_utf8_lossy(&bytes).contains("not well-formed HTTP");
                assert!(!is_framing || at + 1 == statuses.len(), "served on after a refusal: {about}");
            }
        }
        for body in &seen {
            assert!(!body.contains("SMUGGLED"), "a request that nobody sent: {body}");
            let twice = seen.iter().filter(|other| *other == body).count();
            assert_eq!(twice, 1, "sent once, served {twice} times: {body}");
        }
    }
    assert_eq!(house.metric("weir_panics_total").await, 0.0);
}

/// What stood between a bare LF after the last chunk and the next empty line was swallowed as trailers.
#[tokio::test]
async fn a_request_behind_a_bare_line_feed_is_not_swallowed_in_silence() {
    let house = House::start("accounts: [{id: a, platform: openai, api_key: sk-a}]").await;
    let body = question("openai/gpt-4o", "hi", false).to_string();
    for end in ["0\r\n\n", "0\r\nx: y\r\n\r\n", "0\r\n\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"] {
        for path in ["/v1/chat/completions", "/v1/models"] {
            let head =
                format!("POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n", house.token);
            let text = format!(
                "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n{end}{SENTINEL}",
                body.len()
            );
            let bytes = house.raw(text.as_bytes()).await;
            assert_eq!(statuses(&bytes).0, [400], "{}", String::from_utf8_lossy(&bytes));
        }
    }
    assert_eq!(house.requests().await.len(), 0);
}

#[tokio::test]
async fn a_request_without_one_clear_host_is_refused() {
    let house = House::start("accounts: [{id: a, platform: openai, api_key: sk-a}]").await;
    let token = &house.token;
    let head = |host: &str| {
        format!("GET /v1/models HTTP/1.1\r\n{host}authorization: Bearer {token}\r\nconnection: close\r\n\r\n")
    };
    for (host, expected) in [
        ("host: x\r\n", 200),
        ("host: 127.0.0.1:80\r\n", 200),
        ("host: [::1]:80\r\n", 200),
        ("host:\r\n", 200),
        ("", 400),
        ("host: x\r\nhost: x\r\n", 400),
        ("host: x\r\nhost: y\r\n", 400),
        ("host: x y\r\n", 400),
        ("host: x/y\r\n", 400),
        ("host: u@x\r\n", 400),
        ("host: x, y\r\n", 400),
        ("host: x:y\r\n", 400),
    ] {
        let bytes = house.raw(head(host).as_bytes()).await;
        assert_eq!(statuses(&bytes).0, [expected], "{host:?}: {}", String::from_utf8_lossy(&bytes));
    }
    for (target, expected) in
        [("http://x/v1/models", 200), ("http://y/v1/models", 400), ("HTTP://X/v1/models", 200)]
    {
        let bytes = house.raw(head("host: x\r\n").replace("/v1/models", target).as_bytes()).await;
        assert_eq!(statuses(&bytes).0, [expected], "{target}");
    }
    // HTTP/1.0 knows no Host.
    let old = head("").replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(statuses(&house.raw(old.as_bytes()).await).0, [200]);
}

#[tokio::test]
async fn a_refusal_before_the_body_never_mistakes_the_body_for_a_request() {
    let house =
        House::start("limits: {body: 64KiB}\naccounts: [{id: a, platform: openai, api_key: sk-a}]").await;
    let inner = String::from_utf8(house.wire_chat("openai/gpt-4o", "SMUGGLED", false)).expect("text");
    let rounds = futures_util::stream::iter(0..400).map(|number| {
        let (house, inner) = (&house, &inner);
        async move {
            let mut raw = house.connect().await;
            // Whole requests, over and over, where a body should be.
            let body = inner.repeat(1 + number % 300);
            let token = if number % 2 == 0 { "nonsense" } else { house.token.as_str() };
            let path = ["/v1/chat/completions", "/v1/embeddings", "/v1/models", "/nowhere"][number % 4];
            let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n", body.len());
            // A refusal may come before the body is written, and the connection go.
            let sent = tokio::io::AsyncWriteExt::write_all(&mut raw.stream, format!("{head}{body}").as_bytes()).await;
            let first = raw.answer().await;
            let first = first.unwrap_or_else(|| panic!("no answer before the end: {sent:?}"));
            assert!((400..500).contains(&first.status), "{}", first.text());
            if first.header("connection") != "close" {
                raw.send(&house.wire_chat("openai/gpt-4o", &format!("after-{number}."), false)).await;
                let next = raw.answer().await.expect("an answer on a connection that was kept");
                assert_eq!(next.content(), format!("You said: after-{number}."), "{}", next.text());
            }
        }
    });
    rounds.buffer_unordered(20).collect::<Vec<()>>().await;
    let journal = serde_json::to_string(&house.requests().await).expect("text");
    assert!(!journal.contains("SMUGGLED"));
}

#[tokio::test]
async fn answers_never_cross() {
    let house = House::start(
        "accounts: [{id: a, platform: openai, api_key: sk-a}, {id: c, platform: claude, api_key: sk-ant-c}]",
    )
    .await;
    let connections = futures_util::stream::iter(0..40).map(|connection| {
        let house = &house;
        async move {
            let mut raw = house.connect().await;
            let mut checked = 0;
            for number in 0..40 {
                let (stream, leaves) = (number % 3 == 0, rand::rng().random_ratio(1, 8));
                let model = if number % 2 == 0 { "openai/gpt-4o" } else { "claude/claude-sonnet-4-5" };
                let text = format!("id-{connection}-{number}.");
                raw.send(&house.wire_chat(model, &text, stream)).await;
                if leaves {
                    if rand::rng().random() {
                        raw.until(b"HTTP/1.1 200").await;
                    }
                    raw = house.connect().await;
                    continue;
                }
                let answer = raw.answer().await.expect("an answer");
                assert_eq!(answer.status, 200, "{}", answer.text());
                let said = if stream { answer.events().text() } else { answer.content() };
                assert_eq!(said, format!("You said: {text}"));
                checked += 1;
            }
            checked
        }
    });
    let checked: usize = connections.buffer_unordered(40).collect::<Vec<usize>>().await.into_iter().sum();
    assert!(checked > 1000, "{checked}");
    house.settled().await;
}
