//! A Redis for one test: a real one, whose port nobody knows and whose folder goes with it.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Address, Link};
use crate::secret::Secret;

/// A server of our own: no files, a free port, gone with the test.
pub struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        (0..20).find_map(|_| Self::try_start()).expect("a redis-server starts (package redis-server)")
    }

    /// The port is free until somebody else takes it: then the server ends, and the next one is tried.
    fn try_start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server (package redis-server) is needed for this test");
        let mut server = Self { child, port, _folder: folder };
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

    /// Where it is.
    pub fn address(&self) -> Address {
        Address::parse(&Secret::new(format!("redis://127.0.0.1:{}", self.port))).unwrap()
    }

    /// A line to it.
    pub async fn link(&self) -> Link {
        let link = Link::new(self.address()).unwrap();
        link.wait(Duration::from_secs(10)).await.unwrap();
        link
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
