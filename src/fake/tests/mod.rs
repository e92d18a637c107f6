//! The simulated platform against the published facts: a real listener, a real client, every dialect.

mod faults;
mod first;
mod legacy;
mod refusals;
mod samples;
mod strict;
mod talk;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::clock::{Clock, Hand};
use crate::fake::{Script, Settings, serve};

/// Milliseconds at which the tests' clock stands: 2026-11-21T02:00:00Z.
pub const NOW_MS: u64 = 1_795_226_400_000;

/// A fake on a port of its own, with a clock that stands still.
pub struct Fake {
    pub addr: SocketAddr,
    pub hand: Arc<Hand>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The body broke off.
    pub broken: bool,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The JSON of all `data:` lines, and whether `[DONE]` came.
    pub fn events(&self) -> (Vec<Value>, bool) {
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
        let done = data.clone().any(|data| data == "[DONE]");
        let all = data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap());
        (all.collect(), done)
    }
}

impl Fake {
    pub async fn start() -> Self {
        Self::with("").await
    }

    pub async fn with(script: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (clock, hand) = Clock::manual(NOW_MS);
        let settings = Settings { script: Script::parse(script).unwrap() };
        Self { addr, hand, task: tokio::spawn(serve(listener, settings, clock)) }
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply, hyper::Error> {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let task = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let (parts, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        let mut broken = false;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => bytes.extend_from_slice(frame.data_ref().unwrap()),
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        task.abort();
        let status = parts.status.as_u16();
        Ok(Reply { status, headers: parts.headers, body: Bytes::from(bytes), broken })
    }

    /// POSTs JSON with these headers.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        self.send(request("POST", path, headers, body.to_string())).await.unwrap()
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(request("GET", path, headers, String::new())).await.unwrap()
    }

    /// The counters of one key.
    pub async fn counters(&self, platform: &str, key: &str) -> Value {
        self.get("/_fake/counters", &[]).await.json()["platforms"][platform][key].clone()
    }

    /// Waits until the key's counter `name` has reached `count`.
    pub async fn until(&self, platform: &str, key: &str, name: &str, count: u64) -> Value {
        for _ in 0..300 {
            let counters = self.counters(platform, key).await;
            if counters[name].as_u64() >= Some(count) {
                return counters;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} of {key} on {platform} never reached {count}: {}", self.counters(platform, key).await)
    }
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: String) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "fake.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::from(body))).unwrap()
}

/// A platform as a test speaks to it: path, credentials, and a model that does not think unless told.
#[derive(Clone, Copy)]
pub struct Door<'a> {
    pub platform: &'a str,
    pub path: &'a str,
    pub key: &'a str,
    pub model: &'a str,
}

/// The OpenAI-like ones.
pub const DOORS: [Door<'static>; 8] = [
    Door { platform: "openai", path: "/openai/v1/chat/completions", key: "sk-a", model: "gpt-4o" },
    Door {
        platform: "qwen",
        path: "/qwen/compatible-mode/v1/chat/completions",
        key: "sk-a",
        model: "qwen3.8-max",
    },
    Door {
        platform: "zhipu",
        path: "/zhipu/api/paas/v4/chat/completions",
        key: "id1.secret1",
        model: "glm-4-flash-250414",
    },
    Door {
        platform: "doubao",
        path: "/doubao/api/v3/chat/completions",
        key: "b7c1",
        model: "doubao-1-5-pro-32k-250115",
    },
    Door {
        platform: "baidu",
        path: "/baidu/v2/chat/completions",
        key: "bce-v3/ALTAK-a/b",
        model: "ernie-5.1",
    },
    Door { platform: "spark", path: "/spark/v1/chat/completions", key: "k:s", model: "4.0Ultra" },
    Door { platform: "huggingface", path: "/huggingface/v1/chat/completions", key: "hf_a", model: "a/b" },
    Door { platform: "aihubmix", path: "/aihubmix/v1/chat/completions", key: "sk-a", model: "gpt-5.4" },
];

impl Door<'static> {
    pub fn named(name: &str) -> Self {
        *DOORS.iter().find(|door| door.platform == name).unwrap()
    }
}

impl Door<'_> {
    pub fn body(&self, text: &str) -> Value {
        json!({"model":self.model,"messages":[{"role":"user","content":text}]})
    }

    pub async fn ask(&self, fake: &Fake, body: &Value) -> Reply {
        let bearer = format!("Bearer {}", self.key);
        fake.post(self.path, &[("authorization", &bearer)], body).await
    }

    /// One user message with more fields.
    pub async fn say(&self, fake: &Fake, text: &str, more: Value) -> Reply {
        let mut body = self.body(text);
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.ask(fake, &body).await
    }
}

/// A user message to Claude, with more fields.
pub async fn claude(fake: &Fake, text: &str, more: Value) -> Reply {
    let mut body =
        json!({"model":"claude-sonnet-4-5","max_tokens":4096,"messages":[{"role":"user","content":text}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    fake.post("/claude/v1/messages", &[("x-api-key", "sk-ant-a"), ("anthropic-version", "2023-06-01")], &body)
        .await
}

/// A user message to Gemini, with more fields.
pub async fn gemini(fake: &Fake, model: &str, stream: bool, text: &str, more: Value) -> Reply {
    let mut body = json!({"contents":[{"role":"user","parts":[{"text":text}]}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let call = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    fake.post(&format!("/gemini/v1beta/models/{model}:{call}"), &[("x-goog-api-key", "AIza-a")], &body).await
}
