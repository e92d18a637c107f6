//! The house under test: the real binary in a child process, on ports and in a folder of its own, with a simulated
//! platform beside it. Why a DSL: a test should say what is asked and what must hold, not how a gateway is set up.
//!
//! ```ignore
//! let house = House::start("accounts: [{id: a, platform: openai, api_key: sk-a}]").await;
//! let answer = house.chat("gpt-4o", "Hello").await;
//! assert_eq!(answer.status, 200);
//! house.settled().await;
//! ```

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// For anything that must happen, however loaded the machine is.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The binary under test.
pub const WEIR: &str = env!("CARGO_BIN_EXE_weir");

const SECRET: &str = "an-integration-test-secret-of-forty-char";

/// A running gateway. Its process ends when this is dropped.
pub struct House {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    /// The simulated platforms.
    pub fake: SocketAddr,
    /// A good token: subject `alice` of tenant `alpha`, scopes chat and admin.
    pub token: String,
    pub client: reqwest::Client,
    folder: tempfile::TempDir,
    child: Option<Child>,
    /// Set in the process's environment.
    environment: &'static [(&'static str, &'static str)],
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// `error.code` of an error in OpenAI's shape, which is checked: four keys, the status that `status` says, an id.
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/json");
        assert!(!self.header("x-request-id").is_empty(), "no request id: {:?}", self.headers);
        let body = self.json();
        let error = body["error"].as_object().unwrap_or_else(|| panic!("not OpenAI's shape: {body}"));
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        assert!(error["type"].is_string(), "{body}");
        assert!(error.contains_key("param") && error.contains_key("code"), "{body}");
        error["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The answer read as a stream of events.
    pub fn events(&self) -> Events {
        Events::read(&self.text())
    }

    /// The assistant's text, of a whole answer.
    pub fn content(&self) -> String {
        self.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }
}

/// A stream, as an SDK sees it.
#[derive(Debug, Clone, Default)]
pub struct Events {
    pub chunks: Vec<Value>,
    pub comments: usize,
    /// `data: [DONE]` came, and nothing after it.
    pub is_done: bool,
    /// What came after the last blank line: an event that was cut.
    pub rest: String,
}

impl Events {
    /// Reads the bytes of a stream strictly: anything but comments and `data:` lines is a defect (C1, C2).
    pub fn read(text: &str) -> Self {
        let mut events = Self::default();
        let mut rest = text;
        while let Some((block, after)) = rest.split_once("\n\n") {
            rest = after;
            for line in block.split('\n') {
                assert!(!events.is_done, "bytes after [DONE]: {text}");
                if line.starts_with(':') {
                    events.comments += 1;
                    continue;
                }
                let data =
                    line.strip_prefix("data: ").unwrap_or_else(|| panic!("stray line {line:?} in {text}"));
                if data == "[DONE]" {
                    events.is_done = true;
                } else {
                    events
                        .chunks
                        .push(serde_json::from_str(data).unwrap_or_else(|_| panic!("no JSON: {data}")));
                }
            }
        }
        events.rest = rest.to_owned();
        events
    }

    /// The text of the first choice.
    pub fn text(&self) -> String {
        let parts = self.chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
        parts.collect()
    }

    pub fn finish(&self) -> Option<String> {
        let mut reasons =
            self.chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str());
        reasons.rfind(|reason| !reason.is_empty()).map(str::to_owned)
    }

    /// `error.code` of the in-band error, if there is one.
    pub fn error(&self) -> Option<String> {
        let mut errors = self.chunks.iter().filter_map(|chunk| chunk.get("error"));
        errors.next_back().map(|error| error["code"].as_str().unwrap_or_default().to_owned())
    }

    /// Whole and clean: text, a finish reason, `[DONE]`, and no error.
    pub fn is_whole(&self) -> bool {
        self.is_done && self.finish().is_some() && self.error().is_none() && self.rest.is_empty()
    }

    /// Broken, and told so: an error of `code`, `[DONE]`, and no finish reason of anybody's.
    pub fn is_broken_with(&self, code: &str) -> bool {
        self.is_done
            && self.finish().is_none()
            && self.error().as_deref() == Some(code)
            && self.rest.is_empty()
    }
}

/// Ports below those that the system hands out for outgoing connections, so that nobody takes one in between.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 11_000 + u16::try_from(std::process::id() % 400).expect("small") * 50;
    for _ in 0..2000 {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 1500;
        if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Starts the simulated platforms on a thread of their own, for as long as the test's process lives.
pub fn start_fake(script: &str) -> SocketAddr {
    let script = weir::fake::Script::parse(script).expect("a script");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            weir::fake::serve(listener, weir::fake::Settings { script }, weir::clock::Clock::system()).await
        })
    });
    address
}

/// A signed token with these claims over the usual ones (`null` leaves one out).
pub fn mint(changes: Value) -> String {
    mint_with(SECRET, changes)
}

/// As [`mint`], signed with another secret.
pub fn mint_with(secret: &str, changes: Value) -> String {
    let now = weir::clock::Clock::system().wall_seconds();
    let mut claims = Map::new();
    let usual = json!({
        "iss": "house", "aud": "weir", "sub": "alice", "tenant": "alpha", "scope": "chat admin",
        "iat": now, "exp": now + 3600,
    });
    claims.extend(usual.as_object().expect("an object").clone());
    claims.extend(changes.as_object().expect("an object").clone());
    claims.retain(|_, value| !value.is_null());
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("signed")
}

/// A client that follows nothing and pools nothing, so that each request is a connection of its own.
pub fn client() -> reqwest::ClientBuilder {
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
}

impl House {
    /// Starts a gateway with `fragment` for its configuration. What the fragment does not set is as tests like it: every
    /// built-in platform at the simulated one, HS256 tokens, an embedded store, no delay before a drain. In the fragment
    /// `$FAKE` is the simulated platforms' address, `$FOLDER` the test's folder, `$ADMIN` the operators' port. A `platforms:` block of the fragment
    /// keeps its rows; the others are added below it.
    pub async fn start(fragment: &str) -> Self {
        Self::start_with(fragment, "").await
    }

    /// As [`Self::start`], with a script for the simulated platforms.
    pub async fn start_with(fragment: &str, script: &str) -> Self {
        Self::start_in(fragment, script, &[]).await
    }

    /// As [`Self::start_with`], with these variables in its environment.
    pub async fn start_in(
        fragment: &str,
        script: &str,
        environment: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self::start_beside(start_fake(script), fragment, environment).await
    }

    /// As [`Self::start_in`], at simulated platforms that others use, too.
    pub async fn start_beside(
        fake: SocketAddr,
        fragment: &str,
        environment: &'static [(&'static str, &'static str)],
    ) -> Self {
        for _ in 0..5 {
            let mut house = Self::plan(fake);
            house.environment = environment;
            house.write(fragment);
            house.launch(&[]);
            if house.comes_up().await {
                return house;
            }
            // Another process was quicker to take the port: once more with others.
            assert!(house.log().contains("cannot listen"), "weir did not start: {}", house.log());
        }
        panic!("no ports to be had");
    }

    fn plan(fake: SocketAddr) -> Self {
        Self {
            listen: local(free_port()),
            admin: local(free_port()),
            fake,
            token: mint(json!({})),
            client: client().build().expect("a client"),
            folder: tempfile::tempdir().expect("a folder"),
            child: None,
            environment: &[],
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder().join("weir.yaml")
    }

    /// Writes the configuration; a running gateway notices by itself. In one step, as an operator's tools would.
    pub fn write(&self, fragment: &str) {
        self.write_raw(&self.complete(fragment));
    }

    /// Writes exactly this as the configuration.
    pub fn write_raw(&self, text: &str) {
        let new = self.folder().join("weir.yaml.new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, self.config_file()).expect("in place");
    }

    /// The whole configuration that a fragment makes.
    pub fn complete(&self, fragment: &str) -> String {
        let folder = self.folder().display().to_string();
        let fragment = fragment.replace("$FAKE", &self.fake.to_string()).replace("$FOLDER", &folder);
        let fragment = fragment.replace("$ADMIN", &self.admin.port().to_string());
        let sets = |key: &str| fragment.lines().any(|line| line.starts_with(&format!("{key}:")));
        let mut rows = String::new();
        for (name, base_url) in weir::fake::endpoints(self.fake) {
            if !fragment.contains(&format!("\n  {name}:")) {
                rows.push_str(&format!("  {name}: {{base_url: \"{base_url}\"}}\n"));
            }
        }
        let mut whole = String::new();
        for line in fragment.lines() {
            whole.push_str(line);
            whole.push('\n');
            if line.trim_end() == "platforms:" {
                whole.push_str(&rows);
            }
        }
        if !sets("platforms") {
            whole.push_str(&format!("platforms:\n{rows}"));
        }
        let auth = format!(
            "{{keys: true, jwt: [{{issuer: house, audience: weir, secret: \"{SECRET}\", algorithms: [HS256], leeway: 1s, \
             claims: {{tenant: tenant, scope: scope, models: models}}}}]}}"
        );
        let defaults = [
            ("listen", self.listen.to_string()),
            ("admin_listen", self.admin.to_string()),
            ("store", format!("embedded:{folder}/store")),
            ("auth", auth),
            ("workers", "2".to_owned()),
            ("drain", "{delay: 0s, timeout: 5s}".to_owned()),
            ("log", "{level: debug, format: json}".to_owned()),
        ];
        for (key, value) in defaults.iter().filter(|(key, _)| !sets(key)) {
            whole.push_str(&format!("{key}: {value}\n"));
        }
        whole
    }

    fn spawn(&self, more: &[&str]) -> Child {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file()).expect("a log");
        let mut command = Command::new(WEIR);
        command.arg("serve").arg("-c").arg(self.config_file()).args(more).current_dir(self.folder());
        // Whatever is kept elsewhere goes with the folder, however the process ends.
        command.env("TMPDIR", self.folder()).envs(self.environment.iter().copied());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        command.spawn().expect("weir starts")
    }

    /// Starts the process, without waiting for anything.
    pub fn launch(&mut self, more: &[&str]) {
        self.child = Some(self.spawn(more));
    }

    /// Starts a successor that takes the sockets over; the old process is handed back.
    pub fn upgrade(&mut self) -> Child {
        let new = self.spawn(&["--upgrade"]);
        self.child.replace(new).expect("a process to take over from")
    }

    /// Starts the gateway again, after its process has ended.
    pub async fn restart(&mut self) {
        self.launch(&[]);
        assert!(self.comes_up().await, "weir did not start again: {}", self.log());
    }

    async fn comes_up(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.as_mut().is_some_and(|child| child.try_wait().expect("a child").is_some()) {
                return false;
            }
            let ready = self.client.get(self.admin_url("/readyz")).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                let met = TcpStream::connect(self.listen).await;
                assert!(met.is_ok(), "ready, and callers are refused: {met:?}");
                return true;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("weir did not get ready: {}", self.log());
    }

    fn log_file(&self) -> PathBuf {
        self.folder().join("weir.log")
    }

    /// Everything that the gateway has logged and printed.
    pub fn log(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = std::fs::File::open(self.log_file()) {
            file.read_to_end(&mut text).expect("read");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Runs another command of the binary with this configuration, and gives back what it printed.
    pub async fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(WEIR);
        command.args(arguments).arg("-c").arg(self.config_file()).stdin(Stdio::null());
        command.env("TMPDIR", self.folder());
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = timeout(PATIENCE, output).await.expect("in time").expect("joined").expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    pub fn process_id(&self) -> u32 {
        self.child.as_ref().expect("a process").id()
    }

    /// Sends a signal (`TERM`, `HUP`, …) to the gateway.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.process_id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Kills the gateway as the system would when it is out of memory.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("a process");
        child.kill().expect("killed");
        ended(&mut child).await;
    }

    /// Waits for the gateway's process to end by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a process");
        ended(&mut child).await
    }

    /// Resident memory of the gateway, in bytes: now, and at its highest.
    pub fn memory(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process_id())).expect("Linux");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
            line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// From now on the highest counts from now on.
    pub fn forget_the_highest(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.process_id()), "5").expect("Linux");
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listen)
    }

    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    /// A POST of a chat request to be changed and sent.
    pub fn request(&self, body: &Value) -> reqwest::RequestBuilder {
        self.client.post(self.url("/v1/chat/completions")).bearer_auth(&self.token).json(body)
    }

    /// Posts JSON with the usual token.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        whole(self.client.post(self.url(path)).bearer_auth(&self.token).json(body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        whole(self.client.get(self.url(path)).bearer_auth(&self.token)).await
    }

    /// One question, answered whole.
    pub async fn chat(&self, model: &str, text: &str) -> Answer {
        self.post("/v1/chat/completions", &question(model, text, false)).await
    }

    /// One question, answered as a stream, which is read to its end.
    pub async fn stream(&self, model: &str, text: &str) -> Answer {
        self.post("/v1/chat/completions", &question(model, text, true)).await
    }

    /// One question, its stream open and to be read piece by piece.
    pub async fn open(&self, model: &str, text: &str) -> reqwest::Response {
        let sent = self.request(&question(model, text, true)).send();
        timeout(PATIENCE, sent).await.expect("in time").expect("an answer")
    }

    /// A connection of our own, for what no client library would do.
    pub async fn connect(&self) -> Raw {
        Raw::to(self.listen).await
    }

    /// Sends exactly these bytes and reads until the connection closes.
    pub async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut raw = self.connect().await;
        // A refusal may come, and the connection go, before everything is written.
        drop(raw.stream.write_all(bytes).await);
        raw.read_to_end().await
    }

    /// The bytes of a request as a correct client would send it, with the usual token.
    pub fn wire(&self, method: &str, path: &str, more: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{more}\r\n",
            self.token,
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    /// As [`Self::wire`], for a chat question.
    pub fn wire_chat(&self, model: &str, text: &str, stream: bool) -> Vec<u8> {
        self.wire("POST", "/v1/chat/completions", "", question(model, text, stream).to_string().as_bytes())
    }

    /// Asks the admin port, as an operator.
    pub async fn admin(&self, method: http::Method, path: &str) -> Answer {
        whole(self.client.request(method, self.admin_url(path)).bearer_auth(&self.token)).await
    }

    pub async fn metrics(&self) -> String {
        self.admin(http::Method::GET, "/metrics").await.text()
    }

    /// The value of one series, named with its labels as Prometheus prints it; 0 where there is none.
    pub async fn metric(&self, series: &str) -> f64 {
        value_of(&self.metrics().await, series)
    }

    /// The account of that id as the operator sees it.
    pub async fn account(&self, id: &str) -> Value {
        let all = self.admin(http::Method::GET, "/admin/accounts").await.json();
        let all = all["accounts"].as_array().expect("accounts").clone();
        all.into_iter().find(|account| account["id"] == id).unwrap_or_else(|| panic!("no account {id}"))
    }

    /// The simulated platforms' books: platform, key, numbers.
    pub async fn counters(&self) -> Value {
        let url = format!("http://{}/_fake/counters", self.fake);
        whole(self.client.get(url)).await.json()["platforms"].take()
    }

    /// One number of the simulated platforms' books, summed over all keys of a platform.
    pub async fn counted(&self, platform: &str, what: &str) -> u64 {
        let books = self.counters().await;
        let keys = books[platform].as_object().cloned().unwrap_or_default();
        keys.values().map(|numbers| numbers[what].as_u64().unwrap_or(0)).sum()
    }

    /// What the platforms were sent, oldest first.
    pub async fn requests(&self) -> Vec<Value> {
        let url = format!("http://{}/_fake/requests", self.fake);
        whole(self.client.get(url)).await.json().as_array().expect("a list").clone()
    }

    /// Gives the simulated platforms another script.
    pub async fn script(&self, script: &str) {
        let url = format!("http://{}/_fake/script", self.fake);
        let answer = whole(self.client.post(url).body(script.to_owned())).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Forgets the simulated platforms' books.
    pub async fn reset(&self) {
        whole(self.client.post(format!("http://{}/_fake/reset", self.fake))).await;
    }

    /// Waits until nothing is held any more: no request in flight here or at the platform, no account's slot taken, no
    /// body's bytes counted.
    pub async fn settled(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = self.metrics().await;
            let held = ["weir_requests_in_flight", "weir_open_streams", "weir_request_body_bytes"]
                .map(|series| value_of(&metrics, series));
            let accounts = self.admin(http::Method::GET, "/admin/accounts").await.json();
            let taken: u64 = accounts["accounts"].as_array().expect("accounts").iter().map(in_flight).sum();
            let books = self.counters().await;
            let keys = books.as_object().expect("platforms").values().filter_map(Value::as_object);
            let upstream: u64 = keys.flat_map(|keys| keys.values()).map(in_flight).sum();
            if held == [0.0; 3] && taken == 0 && upstream == 0 {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "still held: (requests, streams, bytes) {held:?}, slots {taken}, upstream {upstream}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn in_flight(numbers: &Value) -> u64 {
    numbers["in_flight"].as_u64().expect("a number")
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(6000);
            let tail: String = log.chars().skip(log.chars().count().saturating_sub(6000)).collect();
            println!("--- the gateway's last words (from byte {from}):\n{tail}");
        }
    }
}

/// The value of one series in Prometheus' text.
pub fn value_of(metrics: &str, series: &str) -> f64 {
    let lines = metrics.lines().filter_map(|line| line.rsplit_once(' '));
    lines
        .into_iter()
        .find(|(name, _)| *name == series)
        .map_or(0.0, |(_, value)| value.parse().expect("a number"))
}

/// The sum of all series of one metric that carry a label.
pub fn sum_of(metrics: &str, name: &str, label: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    let values = lines.filter_map(|line| line.rsplit_once(' '));
    values.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
}

/// Waits for a process to end by itself.
pub async fn ended(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        if Instant::now() > deadline {
            drop(child.kill());
            panic!("the process did not end");
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Polls until `holds` says so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The usual chat request.
pub fn question(model: &str, text: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]})
}

/// Sends a request and reads the whole answer, within patience.
pub async fn whole(request: reqwest::RequestBuilder) -> Answer {
    let work = async {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.expect("a body").to_vec();
        Answer { status, headers, body }
    };
    timeout(PATIENCE, work).await.expect("in time")
}

/// A connection to the gateway without manners.
pub struct Raw {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    pub async fn to(address: SocketAddr) -> Self {
        let stream =
            timeout(PATIENCE, TcpStream::connect(address)).await.expect("in time").expect("connected");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("in time").expect("sent");
    }

    /// More bytes into the buffer; false at the end (or a reset).
    async fn more(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut piece)).await.expect("the connection hangs");
        let count = read.unwrap_or(0);
        self.buffer.extend_from_slice(&piece[..count]);
        count > 0
    }

    /// Reads until the other side closes.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Reads until `mark` has come, and gives back everything up to its end.
    pub async fn until(&mut self, mark: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                return self.buffer.drain(..at + mark.len()).collect();
            }
            let so_far = String::from_utf8_lossy(&self.buffer).into_owned();
            assert!(self.more().await, "closed before {:?}: {so_far}", String::from_utf8_lossy(mark));
        }
    }

    /// Reads one whole answer, by its own length or chunks. `None`: closed before one came.
    pub async fn answer(&mut self) -> Option<Answer> {
        while self.buffer.is_empty() {
            if !self.more().await {
                return None;
            }
        }
        let head = String::from_utf8(self.until(b"\r\n\r\n").await).expect("text");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().expect("a status line").split(' ').nth(1).expect("a status");
        let status = status.parse().expect("a number");
        let mut headers = http::HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').expect("a header");
            let name: http::HeaderName = name.parse().expect("a name");
            headers.append(name, value.trim().parse().expect("a value"));
        }
        let mut body = Vec::new();
        if let Some(length) = headers.get("content-length") {
            let length: usize = length.to_str().expect("text").parse().expect("a number");
            while self.buffer.len() < length {
                assert!(self.more().await, "the answer is cut");
            }
            body = self.buffer.drain(..length).collect();
        } else if headers.contains_key("transfer-encoding") {
            loop {
                let size = String::from_utf8(self.until(b"\r\n").await).expect("text");
                let size = usize::from_str_radix(size.trim(), 16).expect("a size");
                while self.buffer.len() < size + 2 {
                    assert!(self.more().await, "the answer is cut");
                }
                body.extend(self.buffer.drain(..size));
                self.buffer.drain(..2);
                if size == 0 {
                    break;
                }
            }
        }
        Some(Answer { status, headers, body })
    }

    /// Closes with a reset, as a crashed client does.
    pub fn reset(self) {
        drop(self.stream.set_zero_linger());
    }
}
