//! The line to Redis: made once, kept up in the background, and never waited for longer than a moment. Why not the crate's
//! own manager: a request must hear at once that Redis is gone, whatever the operating system still hopes, and must find it
//! back within a second; and what a server is good for (durable, writable, new enough) is to be known before it is trusted.
//!
//! The line lives on a thread of its own, so that it outlives whichever runtime asked for it first.

mod address;
mod connect;
mod fitness;
#[cfg(test)]
pub mod server;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, InfoDict, Script, ServerErrorKind, Value};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};

use crate::ids::random_name;

use self::connect::connect;

pub use self::address::{Address, Shape};
pub use self::fitness::Fitness;

/// A connection that is not there after so long is tried anew.
const CONNECT: Duration = Duration::from_millis(900);

/// An answer that has not come after so long will not be waited for.
const ANSWER: Duration = Duration::from_millis(450);

/// How long a server may take to write to its disk: with `appendfsync everysec` it does so every second.
const DISK: Duration = Duration::from_millis(2_500);

/// Between two looks whether the server still answers and is the one that we knew: for a line on which a loss must be noticed at
/// once, and for one where whoever asks notices it himself.
pub const QUICK: Duration = Duration::from_millis(250);
pub const CALM: Duration = Duration::from_secs(1);

/// Between two tries to connect.
const AGAIN: Duration = Duration::from_millis(100);

/// How long a question waits for a line that is down: it may be up again in a moment.
const MOMENT: Duration = Duration::from_millis(150);

/// How long after a loss all who live have told again what they know: until then nobody asks for more, or he would be given
/// what others have used already. Longer than any of us needs from one try to connect to the next.
const RECOLLECTION: Duration = Duration::from_millis(500);

/// Redis did not do what it was asked to. The text never holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub struct LinkError {
    what: String,
}

impl LinkError {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }

    fn of(error: &redis::RedisError) -> Self {
        Self::new(match error.kind() {
            _ if error.is_timeout() => "Redis did not answer in time".to_owned(),
            ErrorKind::AuthenticationFailed => "Redis refuses the user or the password".to_owned(),
            _ if let Some(why) = connect::distrust(error) => why,
            _ => format!("Redis: {error}"),
        })
    }
}

/// A line to Redis. Clones are the same line.
#[derive(Clone, Debug)]
pub struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: Address,
    line: watch::Receiver<State>,
    suspicion: Arc<Notify>,
    memory: Arc<Memory>,
    runtime: Option<Runtime>,
}

/// What is known of the server's memory.
#[derive(Debug, Default)]
struct Memory {
    /// Grows whenever the server may have forgotten.
    epoch: AtomicU64,
    /// Up to which epoch all were told again.
    recollected: AtomicU64,
}

impl Memory {
    /// The server may have forgotten what it was told.
    fn is_lost(self: &Arc<Self>) {
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        if epoch == 1 {
            // Nothing was told yet.
            self.recollected.store(1, Ordering::Release);
            return;
        }
        let memory = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(RECOLLECTION).await;
            memory.recollected.fetch_max(epoch, Ordering::AcqRel);
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whether there is a connection, or why not.
#[derive(Clone)]
enum State {
    Up(Line),
    Down(LinkError),
}

impl Debug for State {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            State::Up(_) => out.write_str("up"),
            State::Down(error) => write!(out, "down: {error}"),
        }
    }
}

#[derive(Clone)]
enum Line {
    One(MultiplexedConnection),
    Many(ClusterConnection),
}

impl Line {
    async fn ask(&mut self, question: &Cmd) -> redis::RedisResult<Value> {
        let answer = match self {
            Line::One(line) => line.req_packed_command(question).await,
            Line::Many(line) => line.req_packed_command(question).await,
        };
        answer.and_then(Value::extract_error)
    }
}

impl Link {
    /// Begins to connect. The server is looked at every `pulse`, [`QUICK`] or [`CALM`].
    ///
    /// # Errors
    /// The machine has no thread for it.
    pub fn new(address: Address, pulse: Duration) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("redis")
            .enable_all()
            .build()?;
        let (told, line) = watch::channel(State::Down(LinkError::new("there is no connection yet")));
        let (suspicion, memory) = (Arc::new(Notify::new()), Arc::<Memory>::default());
        let keeper = Keeper {
            address: address.clone(),
            told,
            pulse,
            suspicion: Arc::clone(&suspicion),
            memory: Arc::clone(&memory),
            known: None,
        };
        runtime.spawn(keeper.keep());
        Ok(Self(Arc::new(Inner { address, line, suspicion, memory, runtime: Some(runtime) })))
    }

    /// Where it leads.
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    /// Whether keys may lie on different servers.
    pub fn is_cluster(&self) -> bool {
        self.0.address.shape == Shape::Cluster
    }

    /// A number that grows whenever what was told may have been lost: it is then to be told again.
    pub fn epoch(&self) -> u64 {
        self.0.memory.epoch.load(Ordering::Acquire)
    }

    /// Whether the server may lack what others have told it, and will tell again in a moment. Waits for a connection first.
    ///
    /// # Errors
    /// There is none.
    pub async fn is_recollecting(&self) -> Result<bool, LinkError> {
        self.wait(MOMENT).await?;
        Ok(self.0.memory.recollected.load(Ordering::Acquire) < self.epoch())
    }

    /// Whether there is a connection that answers.
    pub fn is_up(&self) -> bool {
        matches!(*self.0.line.borrow(), State::Up(_))
    }

    /// Waits for a connection, `patience` at most.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn wait(&self, patience: Duration) -> Result<(), LinkError> {
        self.line(patience).await.map(drop)
    }

    async fn line(&self, patience: Duration) -> Result<Line, LinkError> {
        let mut line = self.0.line.clone();
        let up = line.wait_for(|state| matches!(state, State::Up(_)));
        let found =
            tokio::time::timeout(patience, up).await.ok().and_then(Result::ok).map(|state| state.clone());
        match found.unwrap_or_else(|| self.0.line.borrow().clone()) {
            State::Up(line) => Ok(line),
            State::Down(why) => Err(why),
        }
    }

    /// Asks one question.
    ///
    /// # Errors
    /// Redis is gone, does not answer in time, or refuses. Whether it was done is then not known.
    pub async fn ask<T: FromRedisValue>(&self, question: &Cmd) -> Result<T, LinkError> {
        self.ask_raw(question).await.and_then(|value| read(value))
    }

    async fn ask_raw(&self, question: &Cmd) -> Result<Value, LinkError> {
        match self.try_ask(question).await {
            Err(Failed::Redis(error)) => Err(LinkError::of(&error)),
            Err(Failed::Down(error)) => Err(error),
            Ok(value) => Ok(value),
        }
    }

    /// Runs a script: by its name, and where the server does not know it, by its text. Some proxies know no other way, and a
    /// server forgets scripts when it restarts.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        code: &str,
        keys: &[String],
        words: &[Vec<u8>],
    ) -> Result<T, LinkError> {
        let ask = |name: &str, body: &str| {
            let mut question = redis::cmd(name);
            question.arg(body).arg(keys.len()).arg(keys).arg(words);
            question
        };
        match self.try_ask(&ask("EVALSHA", script.get_hash())).await {
            Err(Failed::Redis(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.ask(&ask("EVAL", code)).await
            }
            Err(Failed::Redis(error)) => Err(LinkError::of(&error)),
            Err(Failed::Down(error)) => Err(error),
            Ok(value) => read(value),
        }
    }

    /// Runs a script, and returns once what it wrote is on the server's disk. On a connection of its own: whoever waits for a
    /// disk holds up everybody behind.
    ///
    /// # Errors
    /// As [`Self::ask`]; or it is written, but not yet on the disk.
    pub async fn run_to_disk<T: FromRedisValue>(
        &self,
        code: &str,
        keys: &[String],
        words: &[Vec<u8>],
    ) -> Result<T, LinkError> {
        let work = async {
            let mut line = connect(&self.0.address, DISK * 2).await?;
            let mut question = redis::cmd("EVAL");
            question.arg(code).arg(keys.len()).arg(keys).arg(words);
            let answer = line.ask(&question).await?;
            let millis = u64::try_from(DISK.as_millis()).unwrap_or(u64::MAX);
            let disks = line.ask(redis::cmd("WAITAOF").arg(1).arg(0).arg(millis)).await?;
            Ok((answer, redis::from_redis_value::<(u64, u64)>(disks)?.0))
        };
        let (answer, disks) = work.await.map_err(|error: redis::RedisError| LinkError::of(&error))?;
        if disks == 0 {
            return Err(LinkError::new("Redis has it in memory, and did not write it to its disk in time"));
        }
        read(answer)
    }

    async fn try_ask(&self, question: &Cmd) -> Result<Value, Failed> {
        let mut line = self.line(MOMENT).await.map_err(Failed::Down)?;
        let answer = tokio::time::timeout(ANSWER, line.ask(question)).await;
        let late = || Failed::Down(LinkError::new("Redis did not answer in time"));
        let answer = answer.map_err(|_| late()).and_then(|answer| answer.map_err(Failed::Redis));
        // What a server may get over by itself, or with another in its place, is looked at by the keeper.
        if answer.as_ref().is_err_and(|failed| !matches!(failed, Failed::Redis(error) if is_harmless(error)))
        {
            self.0.suspicion.notify_one();
        }
        answer
    }
}

enum Failed {
    Down(LinkError),
    Redis(redis::RedisError),
}

/// Whether the server is well and only this question was wrong.
fn is_harmless(error: &redis::RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(kind) if kind != ServerErrorKind::ReadOnly)
        || error.kind() == ErrorKind::Extension
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, LinkError> {
    redis::from_redis_value(value)
        .map_err(|error| LinkError::new(format!("Redis gave an answer that is none: {error}")))
}

/// Keeps a line up.
struct Keeper {
    address: Address,
    told: watch::Sender<State>,
    pulse: Duration,
    suspicion: Arc<Notify>,
    memory: Arc<Memory>,
    /// Who the server was when last seen.
    known: Option<Identity>,
}

/// Which data a server has: as long as none of this changes, it has forgotten nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    /// The process, and the history of writes that it has: a replica that becomes a master begins another.
    process: String,
    history: String,
    /// What the first of us left there: gone where everything was deleted.
    mark: String,
}

impl Keeper {
    async fn keep(mut self) {
        loop {
            let tried = tokio::time::timeout(CONNECT, connect(&self.address, ANSWER)).await;
            match tried {
                Ok(Ok(mut line)) => {
                    let seen = tokio::time::timeout(ANSWER, look(&mut line)).await;
                    self.recognise(seen.ok().and_then(Result::ok).and_then(|seen| seen.identity), true);
                    self.told.send_replace(State::Up(line.clone()));
                    let why = self.watch_over(line).await;
                    self.is_down(why);
                }
                Ok(Err(error)) => self.is_down(connect::why_not(&self.address, &error)),
                Err(_) => self.is_down(connect::too_late(&self.address)),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Notes why there is no connection, and logs it where that is news.
    fn is_down(&self, why: LinkError) {
        let old = self.told.send_replace(State::Down(why.clone()));
        if !matches!(old, State::Down(old) if old.what == why.what) {
            tracing::warn!(redis = self.address.shown(), %why, "there is no connection to Redis");
        }
    }

    /// Looks whether this is the server that we knew, with the data that it had. Who cannot be known counts as another where
    /// the connection is new, and as the same where it is not.
    fn recognise(&mut self, found: Option<Identity>, is_new: bool) {
        let is_other = match (&found, &self.known) {
            (Some(found), Some(known)) => found != known,
            _ => is_new,
        };
        self.known = found.or(self.known.take());
        if is_other {
            self.memory.is_lost();
        }
    }

    /// Returns when the line is no longer any good.
    async fn watch_over(&mut self, mut line: Line) -> LinkError {
        loop {
            tokio::select! {
                () = self.suspicion.notified() => {}
                () = tokio::time::sleep(self.pulse) => {}
            }
            match tokio::time::timeout(ANSWER, look(&mut line)).await {
                Ok(Ok(Seen { is_replica: true, .. })) => {
                    return LinkError::new("this Redis is a replica and takes no writes");
                }
                Ok(Ok(seen)) => self.recognise(seen.identity, false),
                // It is loading its data, or refuses for another reason: it is there, and questions hear that themselves.
                Ok(Err(error)) if is_harmless(&error) => {}
                Ok(Err(error)) => return LinkError::of(&error),
                Err(_) => return LinkError::new("Redis did not answer in time"),
            }
        }
    }
}

/// What a look at the server shows.
struct Seen {
    is_replica: bool,
    /// Where it tells.
    identity: Option<Identity>,
}

/// Looks at the server, with as few commands as will do: it is done all the time. A cluster loses its parts apart from each
/// other, and the connection follows its masters by itself; there a new connection alone tells.
async fn look(line: &mut Line) -> redis::RedisResult<Seen> {
    if matches!(line, Line::Many(_)) {
        line.ask(&redis::cmd("ROLE")).await?;
        return Ok(Seen { is_replica: false, identity: None });
    }
    let info = line.ask(redis::cmd("INFO").arg("server").arg("replication")).await?;
    let info: InfoDict = redis::from_redis_value(info)?;
    if info.get::<String>("role").is_some_and(|role| role == "slave") {
        return Ok(Seen { is_replica: true, identity: None });
    }
    let new = random_name("", 16);
    let mut question = redis::cmd("SET");
    question.arg("weir:1:born").arg(&new).arg("NX").arg("GET");
    // Where it takes no writes now it does not tell, and is the same as before.
    let mark = match line.ask(&question).await {
        Ok(old) => redis::from_redis_value::<Option<String>>(old).ok().map(|old| old.unwrap_or(new)),
        Err(error) if is_harmless(&error) => None,
        Err(error) => return Err(error),
    };
    let identity = || {
        let (process, history) = (info.get("run_id")?, info.get("master_replid")?);
        Some(Identity { process, history, mark: mark? })
    };
    Ok(Seen { is_replica: false, identity: identity() })
}
