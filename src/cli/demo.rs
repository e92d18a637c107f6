//! `weir demo`: everything in one process and nothing to set up. Why: a newcomer should see a streamed answer come through
//! authentication, routing, the pool, translation and settlement before reading a line of documentation.

use std::fs::DirBuilder;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{block_on, logs, say, serve, token, wiring};
use crate::clock::Clock;
use crate::config::watch::Live;
use crate::fake;
use crate::ids::random_name;

/// What the demo asks for: a model that lives on a platform with a wire of its own, so that translation is seen too.
const MODEL: &str = "smart";

/// The demo's files, gone with it, however it ends.
struct Folder(PathBuf);

impl Folder {
    fn make() -> anyhow::Result<Self> {
        let folder = Self(std::env::temp_dir().join(random_name("weir-demo-", 12)));
        DirBuilder::new().mode(0o700).create(&folder.0).context("cannot make a temporary folder")?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Runs the demo on `listen` (or on a free port where that one is taken).
///
/// # Errors
/// Where a part cannot be started, or the answer does not come.
pub fn run(listen: SocketAddr, once: bool) -> anyhow::Result<()> {
    let clock = Clock::system();
    let folder = Folder::make()?;
    let fake = start_fake(clock.clone())?;
    let (listen, admin) = (free(listen)?, free(SocketAddr::new(listen.ip(), 9090))?);
    let secret = random_name("", 48);
    let file = folder.0.join("weir.yaml");
    std::fs::write(&file, configuration(listen, admin, fake, &secret, &folder.0.display().to_string()))?;
    let live = Live::load(Some(&file), Box::new(|_| None)).map_err(|report| anyhow::anyhow!("{report}"))?;
    let live = Arc::new(live);
    let config = live.current();
    let _logging = logs::start(&config.log, clock.clone())?;
    let wanted = token::Wanted {
        subject: "newcomer".into(),
        tenant: Some("demo".into()),
        ttl: Duration::from_secs(86_400),
        ..token::Wanted::default()
    };
    let issuer = config.identity.jwt.first().context("the demo has an issuer")?;
    let bearer = token::mint(issuer, &wanted, clock.wall_seconds())?.expose().to_owned();
    let stop = CancellationToken::new();
    let guide = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let shown = block_on(show(listen, &bearer));
            if once || shown.is_err() {
                stop.cancel();
            }
            shown
        }
    });
    serve::run_config(live, &config, false, clock, stop)?;
    guide.join().map_err(|_| anyhow::anyhow!("the demo's client failed"))?
}

/// `wanted`, or the same address with a free port.
fn free(wanted: SocketAddr) -> anyhow::Result<SocketAddr> {
    let bound = TcpListener::bind(wanted).or_else(|_| TcpListener::bind(SocketAddr::new(wanted.ip(), 0)));
    Ok(bound.context("no port is free")?.local_addr()?)
}

fn start_fake(clock: Clock) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("simulated platforms".into()).spawn(move || {
        block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            Ok(fake::serve(listener, fake::Settings::default(), clock).await?)
        })
    })?;
    Ok(address)
}

fn configuration(
    listen: SocketAddr,
    admin: SocketAddr,
    fake: SocketAddr,
    secret: &str,
    folder: &str,
) -> String {
    let mut platforms = String::new();
    for (name, base_url) in fake::endpoints(fake) {
        platforms.push_str(&format!("  {name}: {{base_url: \"{base_url}\"}}\n"));
    }
    format!(
        r#"listen: {listen}
admin_listen: {admin}
store: embedded:{folder}/store
log: {{level: warn}}
auth:
  jwt: [{{issuer: weir-demo, audience: weir, secret: "{secret}", algorithms: [HS256], claims: {{tenant: tenant, scope: scope}}}}]
  keys: true
platforms:
{platforms}
accounts:
  - {{id: demo-claude-1, platform: claude, api_key: sk-ant-demo-1, limits: {{rpm: 600, concurrency: 50}}}}
  - {{id: demo-claude-2, platform: claude, api_key: sk-ant-demo-2, limits: {{rpm: 600, concurrency: 50}}}}
  - {{id: demo-openai, platform: openai, api_key: sk-demo-openai}}
  - {{id: demo-gemini, platform: gemini, api_key: AIzaDemoGemini000000000000000000000000}}
  - {{id: demo-qwen, platform: qwen, api_key: sk-demo-qwen}}
routes:
  - model: {MODEL}
    targets: [{{platform: claude, model: claude-sonnet-4-5}}]
    fallback: [{{platform: gemini, model: gemini-2.5-flash}}, {{platform: qwen, model: qwen-plus}}]
  - {{model: "gpt-*", targets: [{{platform: openai}}]}}
  - {{model: "claude-*", targets: [{{platform: claude}}]}}
  - {{model: "gemini-*", targets: [{{platform: gemini}}]}}
  - {{model: "qwen*", targets: [{{platform: qwen}}]}}
  - {{model: text-embedding-3-small, targets: [{{platform: openai}}]}}
"#
    )
}

/// Waits until the gateway is up, asks it something, prints the answer as it comes, and says how to go on.
async fn show(listen: SocketAddr, bearer: &str) -> anyhow::Result<()> {
    let client = wiring::back_office()?;
    let base = format!("http://{listen}");
    for _ in 0..200 {
        match client.get(format!("{base}/readyz")).send().await {
            Ok(answer) if answer.status().is_success() => break,
            _ => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }
    say(&format!(
        "Weir is listening on {base}/v1 (simulated platforms behind it).\nAsking '{MODEL}' for a stream:\n\n  "
    ))?;
    let question = serde_json::json!({
        "model": MODEL,
        "stream": true,
        "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "Tell me what a weir does to a river."}],
    });
    let request = client.post(format!("{base}/v1/chat/completions")).bearer_auth(bearer).json(&question);
    let mut answer = request.send().await.context("the gateway did not answer")?;
    let headers = answer.headers().clone();
    anyhow::ensure!(answer.status().is_success(), "the gateway refused: {}", answer.text().await?);
    let mut events = crate::sse::Decoder::new(1 << 20);
    let mut usage = Value::Null;
    while let Some(bytes) = answer.chunk().await? {
        events.feed(&bytes);
        while let Some(event) = events.next()? {
            let Ok(chunk) = serde_json::from_slice::<Value>(event.data) else { continue };
            if let Some(text) = chunk.pointer("/choices/0/delta/content").and_then(Value::as_str) {
                say(text)?;
            }
            if let Some(total) = chunk.get("usage").filter(|usage| !usage.is_null()) {
                usage = total.clone();
            }
        }
    }
    let header =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    say(&format!(
        "\n\nAnswered by {} (model {}) in {} attempt(s); {} tokens settled; {} ms of it were Weir's.\n\n{}",
        header("x-weir-platform"),
        header("x-gateway-model"),
        header("x-weir-attempts"),
        usage.get("total_tokens").unwrap_or(&Value::Null),
        header("x-gateway-overhead-ms"),
        how_to_go_on(&base, bearer)
    ))
}

/// Without a margin: what is pasted as Python must not be indented.
fn how_to_go_on(base: &str, bearer: &str) -> String {
    format!(
        r#"Try it yourself (this token is good for a day):

export WEIR_URL={base}/v1
export WEIR_TOKEN={bearer}

curl -N "$WEIR_URL/chat/completions" -H "Authorization: Bearer $WEIR_TOKEN" \
  -d '{{"model":"{MODEL}","stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'

python3 -c 'import os, openai
client = openai.OpenAI(base_url=os.environ["WEIR_URL"], api_key=os.environ["WEIR_TOKEN"])
for chunk in client.chat.completions.create(model="{MODEL}", stream=True, messages=[{{"role": "user", "content": "Hello"}}]):
    print(chunk.choices[0].delta.content or "", end="")'

node -e 'import("openai").then(async ({{default: OpenAI}}) => {{
  const client = new OpenAI({{baseURL: process.env.WEIR_URL, apiKey: process.env.WEIR_TOKEN}});
  const stream = await client.chat.completions.create({{model: "{MODEL}", stream: true, messages: [{{role: "user", content: "Hello"}}]}});
  for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}})'

Models here: smart, gpt-*, claude-*, gemini-*, qwen*. Ctrl-C ends the demo.
"#
    )
}
