//! A platform that says what it should not: it quotes the key back, names the organisation that pays, an e-mail address,
//! a host of its own network and files on its disk, in headers and bodies, with any status. What it does is chosen by the
//! name of the model: `m-401`, `m-stream`, ….

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What it betrays; each is searched for in all that a caller sees.
#[derive(Clone)]
pub struct Gossip {
    pub key: String,
    pub organisation: String,
    pub email: String,
    pub host: String,
    pub file: String,
}

/// A running hostile platform.
pub struct Hostile {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

pub const STATUSES: [u16; 21] =
    [400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 501, 502, 503, 504, 529, 301, 302, 307];

/// Other ways to answer.
pub const WAYS: [&str; 9] =
    ["stream", "inband", "midstream", "cut", "html", "garbage", "nothing", "empty", "badhead"];

impl Hostile {
    pub async fn start(gossip: Gossip) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, gossip.clone(), Arc::clone(&log)));
            }
        });
        Self { address, heads }
    }

    /// The heads of all requests so far, in lower case.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().clone()
    }
}

async fn serve(mut stream: TcpStream, gossip: Gossip, log: Arc<Mutex<Vec<String>>>) {
    while let Some((head, body)) = request(&mut stream).await {
        log.lock().push(head.to_lowercase());
        let asked: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let model = asked["model"].as_str().unwrap_or_default().to_owned();
        let answer = answer(model.trim_start_matches("m-"), &gossip);
        if stream.write_all(answer.as_bytes()).await.is_err() || !answer.contains("content-length") {
            return;
        }
    }
}

async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                return Some((head, bytes[end + 4..].to_vec()));
            }
        }
        let mut piece = [0; 8192];
        match stream.read(&mut piece).await {
            Ok(count @ 1..) => bytes.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}

/// What it says about itself, as platforms do: in a sentence.
fn sentence(gossip: &Gossip) -> String {
    let Gossip { key, organisation, email, host, file } = gossip;
    format!(
        "Incorrect API key provided: {key}. Organization {organisation} ({email}) was billed. See http://{host}:8443/v1?key={key} \
         on {host}, Authorization: Bearer {key}, api_key={key} key='{key}'. Raised in {file} line 3"
    )
}

fn answer(way: &str, gossip: &Gossip) -> String {
    let said = sentence(gossip);
    let error = serde_json::json!({"error": {
        "message": said, "type": gossip.key, "param": gossip.host, "code": gossip.organisation,
    }});
    let chunk = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"hi"},"finish_reason":null}]}"#;
    let events = |text: String| head("200 OK", "text/event-stream", gossip, None) + &text;
    let whole = |status: &str, kind: &str, body: &str| head(status, kind, gossip, Some(body.len())) + body;
    match way {
        "stream" => {
            let end = chunk.replace("\"finish_reason\":null", "\"finish_reason\":\"stop\"");
            events(format!("data: {chunk}\n\ndata: {end}\n\ndata: [DONE]\n\n"))
        }
        "inband" => events(format!("data: {error}\n\n")),
        "midstream" => events(format!("data: {chunk}\n\ndata: {error}\n\n")),
        "cut" => events(format!("data: {chunk}\n\n: {said}")),
        "html" => whole("200 OK", "text/html", &format!("<html><body>{said}</body></html>")),
        "garbage" => whole("200 OK", "application/json", &format!("{{{said}")),
        "nothing" => String::new(),
        "empty" => whole("200 OK", "application/json", ""),
        "badhead" => format!("HTTP/1.1 200 OK\r\n{} : {}\r\n\r\n", gossip.host, gossip.key),
        status => whole(&format!("{status} {}", gossip.host), "application/json", &error.to_string()),
    }
}

fn head(status: &str, kind: &str, gossip: &Gossip, length: Option<usize>) -> String {
    let Gossip { key, organisation, email, host, file } = gossip;
    let mut head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nopenai-organization: {organisation}\r\nserver: {host}\r\n\
         set-cookie: session={key}\r\nlocation: http://{host}/v1?key={key}\r\nwww-authenticate: Bearer realm=\"{key}\"\r\n\
         x-request-id: {key}\r\nx-account-email: {email}\r\nx-file: {file}\r\nvia: 1.1 {host}\r\nx-should-retry: {key}\r\n\
         retry-after: 1\r\nx-ratelimit-limit-requests: {organisation}\r\n"
    );
    match length {
        Some(length) => head.push_str(&format!("content-length: {length}\r\n\r\n")),
        None => head.push_str("connection: close\r\n\r\n"),
    }
    head
}
