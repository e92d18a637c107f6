//! A Redis for one test: a real one, whose port nobody knows and whose folder goes with it.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Address, Link, QUICK};
use crate::secret::Secret;

/// A server of our own: no files, a free port, gone with the test.
pub struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
    more_folder: Option<tempfile::TempDir>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further arguments.
    pub fn start_with(more: &[&str]) -> Self {
        (0..20).find_map(|_| Self::try_start(more)).expect("a redis-server starts (package redis-server)")
    }

    /// One that is a whole cluster.
    pub fn start_cluster() -> Self {
        let server = Self::start_with(&["--cluster-enabled", "yes"]);
        server.tell(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        while !server.tell(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// A Sentinel that watches over `ward`, by the name of `main`.
    pub fn start_sentinel(ward: &Self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, format!("sentinel monitor main 127.0.0.1 {} 1\n", ward.port)).unwrap();
        let mut sentinel = Self::start_with(&[file.to_str().unwrap(), "--sentinel"]);
        sentinel.more_folder = Some(folder);
        sentinel
    }

    /// Runs a command, and gives back what `redis-cli` prints.
    fn tell(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words).output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    }

    /// The port is free until somebody else takes it: then the server ends, and the next one is tried.
    fn try_start(more: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // A file comes before all options.
        let (file, more) =
            more.split_at(usize::from(more.first().is_some_and(|word| !word.starts_with("--"))));
        let child = Command::new("redis-server")
            .args(file)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(folder.path())
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server (package redis-server) is needed for this test");
        let mut server = Self { child, port, _folder: folder, more_folder: None };
        for _ in 0..200 {
            std::thread::sleep(Duration::from_millis(20));
            if server.child.try_wait().unwrap().is_some() {
                return None;
            }
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(server);
            }
        }
        None
    }

    /// A line to it.
    pub async fn link(&self) -> Link {
        self.link_by("redis", "").await
    }

    /// A line to it, by a URL of this scheme and path.
    pub async fn link_by(&self, scheme: &str, path: &str) -> Link {
        let url = format!("{scheme}://127.0.0.1:{}{path}", self.port);
        let link = Link::new(Address::parse(&Secret::new(url)).unwrap(), QUICK).unwrap();
        link.wait(Duration::from_secs(10)).await.unwrap();
        link
    }
}

/// Something that speaks Redis' protocol and answers every command with what `answer` makes of its first word.
pub async fn start_puppet(answer: impl Fn(&str) -> String + Send + Sync + Clone + 'static) -> Link {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).await.unwrap();
                    let Some(count) = line.trim().strip_prefix('*') else { return };
                    let mut words = Vec::new();
                    for _ in 0..count.parse::<usize>().unwrap() {
                        line.clear();
                        stream.read_line(&mut line).await.unwrap();
                        let mut word = vec![0; line.trim()[1..].parse::<usize>().unwrap() + 2];
                        stream.read_exact(&mut word).await.unwrap();
                        words.push(String::from_utf8_lossy(&word).trim().to_owned());
                    }
                    stream.write_all(answer(&words[0]).as_bytes()).await.unwrap();
                }
            });
        }
    });
    let link = Link::new(Address::parse(&Secret::new(url)).unwrap(), QUICK).unwrap();
    link.wait(Duration::from_secs(10)).await.unwrap();
    link
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
