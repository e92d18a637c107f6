//! `weir account login`: an account by its owner's consent, from a terminal. Prints where to agree; then a browser comes back to a port
//! that is listened on here, or the device's code is typed in, or somebody pastes the address that a browser on another machine
//! ended up at. Whatever comes that is not the awaited one changes nothing.

mod listen;

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use http::Method;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::credential::credential;
use super::office::{Denied, Office, text};
use super::say;
use crate::clock::{Clock, Moment};
use listen::{Loopback, Reply};

/// An account by consent.
#[derive(clap::Args, Debug)]
pub struct Login {
    /// Whose account: a platform, as in `weir check`.
    platform: String,
    /// What to call it. Default: the platform's name.
    #[arg(long)]
    name: Option<String>,
    /// Whose it is to be here: who sees, manages and uses it. Default: operators manage it, everyone uses it.
    #[arg(long)]
    owner: Option<String>,
    /// By which way, where the platform has several: oauth (a browser) or device_code.
    #[arg(long)]
    flow: Option<String>,
    /// File with the platform's own key, where the sign-in does not open it.
    #[arg(long)]
    credential: Option<PathBuf>,
    /// Where to wait for the browser, on this machine. Default: any free port.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Do not wait for the browser here: it goes to the gateway's own callback, and its address is pasted.
    #[arg(long)]
    paste: bool,
}

/// Between two looks where nobody says.
const LOOK: u64 = 5;

/// Runs the sign-in. Whether an account came of it.
pub async fn run(office: &Office, wish: Login) -> anyhow::Result<bool> {
    let clock = Clock::system();
    let loopback = match wish.paste {
        true => None,
        false => {
            Some(Loopback::open(wish.port).await.context("cannot wait for the browser on this machine")?)
        }
    };
    let begun =
        office.ask(Method::POST, &["accounts", "login"], &[], Some(&body(&wish, loopback.as_ref())?)).await?;
    show(&begun)?;
    let left = begun.get("expires_in").and_then(Value::as_u64).unwrap_or(600);
    let waiting = Waiting { office, clock: clock.clone(), deadline: clock.now() + Duration::from_secs(left) };
    let account = match begun.get("user_code") {
        Some(_) => waiting.for_device(&begun).await,
        None => waiting.for_browser(loopback).await,
    };
    waiting.line("");
    let account = account?;
    let shown = if std::io::stdout().is_terminal() {
        let of = |name: &str| text(account.get(name));
        format!("{} ({} of {}) was added.\n", of("id"), of("account_name"), of("platform_id"))
    } else {
        format!("{}\n", json!({ "account": account }))
    };
    say(&shown)?;
    Ok(!account.is_null())
}

fn body(wish: &Login, loopback: Option<&Loopback>) -> anyhow::Result<Value> {
    let mut body = Map::new();
    body.insert("platform".to_owned(), json!(wish.platform));
    body.insert("account_name".to_owned(), json!(wish.name.as_ref().unwrap_or(&wish.platform)));
    let optional = [("owner", &wish.owner), ("flow", &wish.flow)];
    body.extend(
        optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?)))),
    );
    if let Some(loopback) = loopback {
        body.insert("loopback".to_owned(), json!(loopback.origin()));
    }
    if let Some(file) = &wish.credential {
        for (name, value) in credential(file)? {
            body.insert(name, Value::String(value.expose().to_owned()));
        }
    }
    Ok(Value::Object(body))
}

/// Where to agree: for a person, or as a line of JSON.
fn show(begun: &Value) -> anyhow::Result<()> {
    if !std::io::stdout().is_terminal() {
        return say(&format!("{begun}\n"));
    }
    let of = |name: &str| text(begun.get(name));
    if begun.get("user_code").is_none() {
        return say(&format!(
            "Open this page and agree:\n\n  {}\n\nIf the browser ends up at a page that cannot be shown (it runs on another machine), \
             paste the address of that page here.\n",
            of("auth_url")
        ));
    }
    say(&format!(
        "Open this page on any machine, and type in  {}\n\n  {}\n\nor open it with the code in it:\n\n  {}\n",
        of("user_code"),
        of("verification_uri"),
        of("auth_url")
    ))
}

/// What is waited with.
struct Waiting<'a> {
    office: &'a Office,
    clock: Clock,
    deadline: Moment,
}

impl Waiting<'_> {
    fn left(&self) -> Duration {
        self.deadline.since(self.clock.now())
    }

    /// How it goes, on a line that is written over.
    fn line(&self, words: &str) {
        let mut out = std::io::stderr().lock();
        if out.is_terminal() {
            drop(write!(out, "\r\x1b[K{words}"));
            drop(out.flush());
        }
    }

    fn tell_time(&self) {
        let left = self.left().as_secs();
        self.line(&format!("waiting, {}:{:02} left", left / 60, left % 60));
    }

    async fn for_device(&self, begun: &Value) -> anyhow::Result<Value> {
        let state = begun.get("state").and_then(Value::as_str).unwrap_or_default();
        let query = [("state", state.to_owned())];
        let mut pause = begun.get("interval").and_then(Value::as_u64).unwrap_or(LOOK);
        loop {
            for _ in 0..pause.clamp(1, 60) {
                self.tell_time();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let standing =
                self.office.ask(Method::GET, &["accounts", "login", "status"], &query, None).await?;
            match standing.get("status").and_then(Value::as_str) {
                Some("pending") => pause = standing.get("interval").and_then(Value::as_u64).unwrap_or(LOOK),
                Some("done") => return Ok(standing.get("account").cloned().unwrap_or_default()),
                _ => anyhow::bail!("{}", text(standing.get("message"))),
            }
        }
    }

    async fn for_browser(&self, loopback: Option<Loopback>) -> anyhow::Result<Value> {
        let mut pasted = lines();
        let (mut is_typing, mut second) = (true, tokio::time::interval(Duration::from_secs(1)));
        loop {
            let next = async {
                match &loopback {
                    Some(loopback) => loopback.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                (url, reply) = next => match self.came_to(&url).await {
                    Ok(Some(account)) => {
                        reply.send(Reply::Done).await;
                        return Ok(account);
                    }
                    Ok(None) => reply.send(Reply::Stray).await,
                    Err(error) => {
                        reply.send(Reply::Failed(error.to_string())).await;
                        return Err(error);
                    }
                },
                line = pasted.recv(), if is_typing => match line {
                    None => {
                        is_typing = false;
                        anyhow::ensure!(loopback.is_some(), "nothing was pasted");
                    }
                    Some(line) => match self.came_to(&line).await? {
                        Some(account) => return Ok(account),
                        None => self.line("That is not the address of this sign-in. Paste the whole of it:\n"),
                    },
                },
                _ = second.tick() => {
                    anyhow::ensure!(!self.left().is_zero(), "nobody agreed in time");
                    self.tell_time();
                }
            }
        }
    }

    /// Tries an address. `None`: it is not of this sign-in, which goes on.
    async fn came_to(&self, url: &str) -> anyhow::Result<Option<Value>> {
        let body = json!({ "url": url });
        match self.office.ask(Method::POST, &["accounts", "login", "callback"], &[], Some(&body)).await {
            Ok(landed) => Ok(Some(landed.get("account").cloned().unwrap_or_default())),
            Err(error)
                if error.downcast_ref::<Denied>().is_some_and(|denied| denied.code == "not_pending") =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// What is typed in, line by line; empty lines are nothing. On a thread of its own, which ends with the process.
fn lines() -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let line = line.trim();
            if !line.is_empty() && send.blocking_send(line.to_owned()).is_err() {
                break;
            }
        }
    });
    lines
}
