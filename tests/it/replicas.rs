//! Several gateways, one Redis, one simulated platform: all of them real processes, on ports and in folders of their own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use serde_json::Value;
use tokio::time::sleep;

use super::house::{House, question, start_fake};

/// A private Redis. Its process ends when this is dropped.
pub struct Redis {
    child: Option<Child>,
    pub port: u16,
    folder: tempfile::TempDir,
    more: Vec<String>,
}

impl Redis {
    /// A server that writes every change to its disk before it answers, with further arguments.
    pub fn start(more: &[&str]) -> Self {
        let more: Vec<String> = more.iter().map(|&word| word.to_owned()).collect();
        for _ in 0..20 {
            let port = std::net::TcpListener::bind("127.0.0.1:0")
                .expect("a port")
                .local_addr()
                .expect("bound")
                .port();
            let folder = tempfile::tempdir().expect("a folder");
            let mut redis = Self { child: None, port, folder, more: more.clone() };
            if redis.launch() {
                return redis;
            }
        }
        panic!("no redis-server starts (package redis-server)");
    }

    /// Starts the process; false where it ends at once.
    pub fn launch(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        // A file comes before all options.
        let (file, more) =
            self.more.split_at(usize::from(self.more.first().is_some_and(|word| !word.starts_with("--"))));
        command.args(file).args(["--bind", "127.0.0.1", "--save", ""]);
        let port = self.port.to_string();
        match more.iter().any(|word| word == "--tls-cert-file") {
            true => command.args(["--port", "0", "--tls-port", &port]),
            false => command.args(["--port", &port]),
        };
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(self.folder.path());
        command.args(more).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("redis-server is needed for this test (package redis-server)");
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if child.try_wait().expect("a child").is_some() {
                return false;
            }
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                self.child = Some(child);
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(child.kill());
        drop(child.wait());
        false
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a process");
        child.kill().expect("killed");
        child.wait().expect("gone");
    }

    /// Stops (`STOP`) or wakes (`CONT`) the process.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("a process").id().to_string();
        assert!(Command::new("kill").args([format!("-{name}"), id]).status().expect("kill runs").success());
    }

    /// Runs a command, and gives back what `redis-cli` prints.
    pub fn tell(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words).output();
        String::from_utf8_lossy(&output.expect("redis-cli runs").stdout).trim().to_owned()
    }

    /// What all gateways together hold of a day's or of places (`concurrency`), and how much of that is used.
    pub fn stock(&self, account: &str, limit: &str) -> (u64, u64) {
        let (mut held, mut used) = (0, 0);
        for key in self.tell(&["KEYS", &format!("weir:1:{{acct:{account}}}:{limit}*")]).lines() {
            let told = self.tell(&["HGETALL", key]);
            let lines: Vec<&str> = told.lines().collect();
            for pair in lines.chunks_exact(2).filter(|pair| pair[0].starts_with('@') || pair[0] == "gone") {
                let numbers: Vec<u64> =
                    pair[1].split(' ').map(|word| word.parse().expect("a number")).collect();
                held += numbers[0];
                used += if pair[0] == "gone" { numbers[0] } else { numbers[1] };
            }
        }
        (held, used)
    }

    /// What a gateway's configuration says of it.
    pub fn store(&self) -> String {
        store(self.port)
    }
}

/// What a gateway's configuration says of a Redis on this port.
pub fn store(port: u16) -> String {
    // All replicas encrypt with the same key: any will do here.
    let key = "ab".repeat(32);
    format!("store: redis://127.0.0.1:{port}\nvault: {{keys: [{{id: k1, key: \"{key}\"}}]}}\n")
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Gateways that share a store and a platform.
pub async fn replicas(count: usize, fragment: &str) -> Vec<House> {
    let fake = start_fake("");
    let mut houses = Vec::new();
    for _ in 0..count {
        houses.push(House::start_beside(fake, fragment, &[]).await);
    }
    houses
}

/// One account with these limits.
pub fn account(limits: &str) -> String {
    format!("accounts: [{{id: a, platform: openai, api_key: sk-a, limits: {{{limits}}}}}]\n")
}

/// A question for which the gateway sets aside exactly so many tokens.
pub fn question_of(tokens: usize, text: &str) -> Value {
    let mut body = question("openai/gpt-4o", text, false);
    let prompt = body["messages"].to_string().len().div_ceil(4);
    body["max_completion_tokens"] = (tokens - prompt).into();
    body
}

/// The status of an answer (0: none came).
pub async fn status(request: reqwest::RequestBuilder) -> u16 {
    request.send().await.map_or(0, |answer| answer.status().as_u16())
}

/// How often a status came.
pub fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|found| **found == status).count()
}

/// Asks until the answer has this status, and gives back how long that took; panics after `patience`, and at `never`.
pub async fn until_status(house: &House, wanted: u16, never: u16, patience: Duration) -> Duration {
    let began = Instant::now();
    loop {
        let found = status(house.request(&question("openai/gpt-4o", "hi", false))).await;
        assert_ne!(found, never, "after {:?}", began.elapsed());
        if found == wanted {
            return began.elapsed();
        }
        assert!(began.elapsed() < patience, "still {found}, not {wanted}");
        sleep(Duration::from_millis(20)).await;
    }
}
