//! A port on this machine where a browser comes back to. It reads the head of a request and nothing else, and answers with a page that
//! says how it went. Browsers open connections in advance and ask for icons: each connection is read on its own, and only an
//! address that could be the awaited one goes on.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// For a browser to say what it wants.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a browser is told.
#[derive(Debug)]
pub(super) enum Reply {
    Done,
    /// Not of this sign-in.
    Stray,
    Failed(String),
}

/// For a browser to read what it is told.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A browser that waits for its answer.
pub(super) struct Back {
    reply: oneshot::Sender<Reply>,
    /// Ends when it has been told.
    told: oneshot::Receiver<()>,
}

impl Back {
    /// Answers, and waits until that has been sent: the process may end afterwards.
    pub(super) async fn send(self, reply: Reply) {
        if self.reply.send(reply).is_ok() {
            drop(tokio::time::timeout(LAST_WORDS, self.told).await);
        }
    }
}

type Came = (String, Back);

/// The port.
pub(super) struct Loopback {
    address: SocketAddr,
    came: Mutex<mpsc::Receiver<Came>>,
}

impl Loopback {
    /// Listens on `port`, or on any free one where that is 0.
    pub(super) async fn open(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let (send, came) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let send = send.clone();
                tokio::spawn(async move {
                    drop(tokio::time::timeout(PATIENCE, serve(stream, address, send)).await);
                });
            }
        });
        Ok(Self { address, came: Mutex::new(came) })
    }

    pub(super) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next address that a browser came to, whole, and where to answer.
    pub(super) async fn next(&self) -> (String, Back) {
        match self.came.lock().await.recv().await {
            Some(came) => came,
            None => std::future::pending().await,
        }
    }
}

async fn serve(mut stream: TcpStream, address: SocketAddr, send: mpsc::Sender<Came>) -> io::Result<()> {
    let mut head = Vec::new();
    let mut piece = [0; 2048];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") && head.len() < MAX_HEAD {
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            count => head.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
    }
    let (tell, told) = oneshot::channel::<()>();
    let answer = match target(&head) {
        None => page("404 Not Found", "Nothing here", "This is not the page that the sign-in comes back to."),
        Some(target) => {
            let (reply, said) = oneshot::channel();
            let sent = send.send((format!("http://{address}{target}"), Back { reply, told })).await;
            let said = if sent.is_ok() { said.await.ok() } else { None };
            match said {
                Some(Reply::Done) => {
                    page("200 OK", "Done", "The account was added. You can close this window.")
                }
                Some(Reply::Failed(why)) => page("400 Bad Request", "That did not work", &why),
                Some(Reply::Stray) | None => page(
                    "400 Bad Request",
                    "Not this sign-in",
                    "This page is of another sign-in, or of one that is over.",
                ),
            }
        }
    };
    stream.write_all(answer.as_bytes()).await?;
    let sent = stream.shutdown().await;
    drop(tell);
    sent
}

/// Path and query of a GET that carries a `state`.
fn target(head: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    let target = line.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
    let (_, query) = target.split_once('?')?;
    let has_state = url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "state");
    (target.starts_with('/') && !target.starts_with("//") && has_state).then(|| target.to_owned())
}

fn page(status: &str, title: &str, words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title} - Weir</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem}}</style>\
         <h1>{title}</h1><p id=\"text\">{words}</p></html>"
    );
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         referrer-policy: no-referrer\r\nx-content-type-options: nosniff\r\n\
         content-security-policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_a_callback_goes_on() {
        let of = |line: &str| target(format!("{line}\r\nhost: x\r\n\r\n").as_bytes());
        assert_eq!(of("GET /cb?state=s&code=c HTTP/1.1").as_deref(), Some("/cb?state=s&code=c"));
        for bad in [
            "GET /favicon.ico HTTP/1.1",
            "GET /cb?code=c HTTP/1.1",
            "POST /cb?state=s HTTP/1.1",
            "GET http://evil/cb?state=s HTTP/1.1",
            "GET //evil/cb?state=s HTTP/1.1",
            "GET /cb?state=s",
            "",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_page_says_is_text() {
        assert!(!page("400 Bad Request", "x", "<script>alert(1)</script>").contains("<script>"));
    }
}
