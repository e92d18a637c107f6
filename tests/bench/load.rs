//! The callers: raw sockets, one request after the other on each, counting and timing what comes back.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use weir::clock::{Clock, Moment};

use super::upstream::missing_bytes;

/// What callers ask, and whom.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub bearer: Rc<str>,
    /// Asked for on the wire: `/v1/chat/completions`, or the platform's own path where nothing translates.
    pub path: Rc<str>,
    pub model: Rc<str>,
}

impl Target {
    /// A request whose body is 1 KiB.
    pub fn request(&self, mode: &str) -> Vec<u8> {
        let Self { address, bearer, path, model } = self;
        let stream = mode != "whole";
        let frame = |text: &str| {
            format!(
                r#"{{"model":"{model}","stream":{stream},"temperature":0.7,"max_tokens":500,"messages":[{{"role":"system","content":"You answer in few words. mode={mode}"}},{{"role":"user","content":"{text}"}}]}}"#
            )
        };
        let text = "what does a weir do to a river? ".repeat(40);
        let body = frame(text.get(..1024 - frame("").len()).unwrap_or_default());
        format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {bearer}\r\naccept: */*\r\n\
             user-agent: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await.context("the measured process is not there")?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Whether an answer's head says 200.
fn is_ok(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200")
}

async fn ask(stream: &mut TcpStream, request: &[u8], answer: &mut Vec<u8>) -> anyhow::Result<()> {
    answer.clear();
    stream.write_all(request).await?;
    while answer.is_empty() || missing_bytes(answer) > 0 {
        anyhow::ensure!(stream.read_buf(answer).await? > 0, "the connection was closed");
    }
    anyhow::ensure!(is_ok(answer), "refused: {}", String::from_utf8_lossy(answer));
    Ok(())
}

/// `connections` callers that ask again at once, for `length`. Gives how many were answered.
pub async fn closed_loop(
    clock: &Clock,
    target: &Target,
    connections: usize,
    length: Duration,
) -> anyhow::Result<u64> {
    let until = clock.now() + length;
    let request: Rc<[u8]> = target.request("whole").into();
    let callers: Vec<JoinHandle<anyhow::Result<u64>>> = (0..connections)
        .map(|_| {
            let (clock, target, request) = (clock.clone(), target.clone(), Rc::clone(&request));
            tokio::task::spawn_local(async move {
                let mut stream = target.connect().await?;
                let mut answer = Vec::with_capacity(8 * 1024);
                let mut count = 0;
                while clock.now() < until {
                    ask(&mut stream, &request, &mut answer).await?;
                    count += 1;
                }
                Ok(count)
            })
        })
        .collect();
    let mut count = 0;
    for caller in callers {
        count += caller.await??;
    }
    Ok(count)
}

struct Free {
    writers: RefCell<Vec<(usize, OwnedWriteHalf)>>,
    /// Per connection: when its request was due, and its writer while it waits.
    due: RefCell<Vec<(Moment, Option<OwnedWriteHalf>)>>,
    nanos: RefCell<Vec<u64>>,
    changed: Notify,
}

/// Requests at a steady `rate` per second for `length`, whatever the answers do. Gives the nanoseconds from when each
/// request was due to when its answer was complete: a late start counts as waiting.
pub async fn steady(
    clock: &Clock,
    target: &Target,
    connections: usize,
    rate: f64,
    length: Duration,
) -> anyhow::Result<Vec<u64>> {
    let request = target.request("whole");
    let free = Rc::new(Free {
        writers: RefCell::default(),
        due: RefCell::default(),
        nanos: RefCell::default(),
        changed: Notify::new(),
    });
    let mut readers = Vec::new();
    for number in 0..connections {
        let (mut reader, writer) = target.connect().await?.into_split();
        free.writers.borrow_mut().push((number, writer));
        free.due.borrow_mut().push((Moment::START, None));
        let (free, clock) = (Rc::clone(&free), clock.clone());
        readers.push(tokio::task::spawn_local(async move {
            let mut answer = Vec::with_capacity(8 * 1024);
            while reader.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {
                if missing_bytes(&answer) > 0 {
                    continue;
                }
                let mut all = free.due.borrow_mut();
                let Some((due, writer)) = all.get_mut(number) else { break };
                let nanos = if is_ok(&answer) { clock.now().since(*due).as_nanos() } else { u128::MAX };
                free.nanos.borrow_mut().push(u64::try_from(nanos).unwrap_or(u64::MAX));
                free.writers.borrow_mut().extend(writer.take().map(|writer| (number, writer)));
                free.changed.notify_one();
                answer.clear();
            }
        }));
    }
    send_steadily(clock, &free, &request, rate, length).await?;
    readers.iter().for_each(JoinHandle::abort);
    let mut nanos = free.nanos.take();
    // The first tenth warms up.
    nanos.drain(..nanos.len() / 10);
    anyhow::ensure!(!nanos.contains(&u64::MAX), "some requests were refused");
    Ok(nanos)
}

async fn send_steadily(
    clock: &Clock,
    free: &Free,
    request: &[u8],
    rate: f64,
    length: Duration,
) -> anyhow::Result<()> {
    let start = clock.now();
    let gap = Duration::from_secs_f64(1.0 / rate);
    let mut due = start;
    while due.since(start) < length {
        if clock.now() < due {
            // Spins on purpose: timers are too coarse for the gaps wanted here.
            tokio::task::yield_now().await;
            continue;
        }
        let next = free.writers.borrow_mut().pop();
        let Some((number, mut writer)) = next else {
            free.changed.notified().await;
            continue;
        };
        writer.write_all(request).await?;
        if let Some(slot) = free.due.borrow_mut().get_mut(number) {
            *slot = (due, Some(writer));
        }
        due = due + gap;
    }
    let patience = clock.now() + Duration::from_secs(2);
    while free.due.borrow().iter().any(|(_, writer)| writer.is_some()) && clock.now() < patience {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Nanoseconds to the first event of `count` short streams, one after the other.
pub async fn first_events(clock: &Clock, target: &Target, count: usize) -> anyhow::Result<Vec<u64>> {
    let request = target.request("short");
    let mut stream = target.connect().await?;
    let mut answer = Vec::with_capacity(8 * 1024);
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        answer.clear();
        let start = clock.now();
        stream.write_all(&request).await?;
        let mut first = None;
        while !answer.ends_with(b"\r\n0\r\n\r\n") {
            anyhow::ensure!(stream.read_buf(&mut answer).await? > 0, "a short stream was cut");
            if first.is_none() && memchr::memchr(b'@', &answer).is_some() {
                first = Some(clock.now().since(start));
            }
        }
        anyhow::ensure!(is_ok(&answer), "refused: {}", String::from_utf8_lossy(&answer));
        all.extend(first.and_then(|first| u64::try_from(first.as_nanos()).ok()));
    }
    Ok(all)
}

/// What the readers of streams have seen so far.
#[derive(Default)]
pub struct Seen {
    pub begun: u64,
    pub events: u64,
    /// From an event's making to its arrival, in microseconds.
    pub lags: Vec<u64>,
    /// A stream that ended, or an answer that was no stream.
    pub trouble: Option<String>,
}

/// Streams, read until dropped.
pub struct Streams {
    readers: Vec<JoinHandle<()>>,
    pub seen: Rc<RefCell<Seen>>,
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.readers.iter().for_each(JoinHandle::abort);
    }
}

impl Streams {
    /// Opens `count` streams and waits until each has had its first event.
    pub async fn open(clock: &Clock, target: &Target, mode: &str, count: usize) -> anyhow::Result<Self> {
        let request: Rc<[u8]> = target.request(mode).into();
        let seen: Rc<RefCell<Seen>> = Rc::default();
        let mut streams = Self { readers: Vec::with_capacity(count), seen };
        for number in 0..count {
            let stream = target.connect().await?;
            let reading = read_stream(stream, Rc::clone(&request), Rc::clone(&streams.seen), clock.clone());
            streams.readers.push(tokio::task::spawn_local(reading));
            // Not all at once: nobody's queue of waiting connections is what is measured.
            if number % 50 == 49 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        let patience = clock.now() + Duration::from_secs(20);
        while streams.seen.borrow().begun < count as u64 {
            streams.check()?;
            anyhow::ensure!(clock.now() < patience, "streams did not begin: {}", streams.seen.borrow().begun);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(streams)
    }

    /// Whether all are still well.
    pub fn check(&self) -> anyhow::Result<()> {
        match &self.seen.borrow().trouble {
            Some(trouble) => anyhow::bail!("a stream failed: {trouble}"),
            None => Ok(()),
        }
    }
}

async fn read_stream(mut stream: TcpStream, request: Rc<[u8]>, seen: Rc<RefCell<Seen>>, clock: Clock) {
    let mut bytes = Vec::with_capacity(4096);
    let mut has_begun = false;
    if stream.write_all(&request).await.is_err() {
        seen.borrow_mut().trouble = Some("not taken".into());
        return;
    }
    loop {
        bytes.clear();
        let read = stream.read_buf(&mut bytes).await.unwrap_or(0);
        let now = clock.now().as_nanos() / 1000;
        let mut seen = seen.borrow_mut();
        let refused = bytes.starts_with(b"HTTP/1.1") && !is_ok(&bytes);
        if read == 0 || refused || memmem::find(&bytes, b"\"error\"").is_some() {
            seen.trouble = Some(String::from_utf8_lossy(&bytes).into_owned());
            return;
        }
        for at in memchr::memchr_iter(b'@', &bytes) {
            seen.events += 1;
            if !std::mem::replace(&mut has_begun, true) {
                seen.begun += 1;
            }
            let digits = bytes.get(at + 1..at + 16).and_then(|digits| std::str::from_utf8(digits).ok());
            let made: Option<u64> = digits.and_then(|digits| digits.parse().ok());
            seen.lags.extend(made.map(|made| now.saturating_sub(made)));
        }
    }
}
