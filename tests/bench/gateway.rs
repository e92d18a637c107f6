//! What does a request cost, next to nginx? Run with `cargo bench --bench gateway`.
//!
//! Weir (everything on: JWT, limits of callers and accounts, metrics, JSON logs) and nginx (a plain proxy that does none of
//! it) stand one after the other between the same callers and the same mock platform, several rounds in turn. The measured
//! process has the first core to itself, callers and platform share the second. Medians over the rounds are printed,
//! with the ratio to nginx, and everything is written to `gateway.json` in cargo's folder for temporary files.
//!
//! Options after `--`: `--rounds N` (default 3); `--weir BINARY`, once or several times, to measure other builds (they
//! take turns in the same rounds: the only fair way to compare two); `--only PART` (whole, latency, first, openai, claude,
//! memory), several times to run several.
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

mod load;
mod process;
mod report;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use load::{Streams, Target, closed_loop, first_events, steady};
use process::{Running, Subject};
use report::{Report, quantile};
use weir::clock::Clock;

const CONNECTIONS: usize = 32;
const STREAMS: usize = 1000;
const WAITING: usize = 2000;
const WHOLE_FOR: Duration = Duration::from_secs(3);
const STEADY_FOR: Duration = Duration::from_secs(3);
const TICK_FOR: Duration = Duration::from_secs(4);

struct Plan {
    rounds: usize,
    subjects: Vec<Subject>,
    only: Vec<String>,
}

impl Plan {
    fn from_arguments() -> anyhow::Result<Self> {
        let mut plan = Self { rounds: 3, subjects: vec![Subject::Direct], only: Vec::new() };
        let mut builds = Vec::new();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| anyhow::anyhow!("{argument} needs a value"));
            match argument.as_str() {
                "--rounds" => plan.rounds = value()?.parse()?,
                "--weir" => builds.push(Subject::Weir(PathBuf::from(value()?))),
                "--only" => plan.only.push(value()?),
                // What cargo says to every bench.
                "--bench" => {}
                other => anyhow::bail!("unknown option {other}"),
            }
        }
        if builds.is_empty() {
            builds.push(Subject::Weir(PathBuf::from(env!("CARGO_BIN_EXE_weir"))));
        }
        if process::has_nginx() {
            plan.subjects.push(Subject::Nginx);
        } else {
            println!(
                "nginx is not installed: no floor to compare with (Debian: apt-get install nginx-light)"
            );
        }
        plan.subjects.extend(builds);
        Ok(plan)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

fn main() -> anyhow::Result<()> {
    let plan = Plan::from_arguments()?;
    if process::can_pin() {
        process::pin_self()?;
    } else {
        println!("processes cannot be pinned to cores here: the numbers will waver");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = tokio::task::LocalSet::new().block_on(&runtime, measure(&plan))?;
    println!("{report}");
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("gateway.json");
    std::fs::write(&file, format!("{:#}\n", report.to_json()))?;
    println!("all rounds: {}", file.display());
    Ok(())
}

async fn measure(plan: &Plan) -> anyhow::Result<Report> {
    let clock = Clock::system();
    let platform = upstream::start(clock.clone()).await?;
    let mut report = Report::new(plan.subjects.iter().map(Subject::name).collect());
    // Half of what the floor can carry, known after its first round; a guess where there is no floor.
    let mut rate = 20_000.0;
    for round in 1..=plan.rounds {
        for (place, subject) in plan.subjects.iter().enumerate() {
            println!("round {round} of {}: {}", plan.rounds, subject.name());
            let bench = Bench { clock: &clock, platform, subject, plan };
            let mut note = |name: &'static str, value: f64| report.note(place, name, value);
            if *subject != Subject::Direct {
                bench.memory(&mut note).await?;
            }
            bench.requests(&mut rate, round, &mut note).await?;
            bench.streams(&mut note).await?;
        }
    }
    Ok(report)
}

/// One subject's turn.
struct Bench<'a> {
    clock: &'a Clock,
    platform: SocketAddr,
    subject: &'a Subject,
    plan: &'a Plan,
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
impl Bench<'_> {
    fn start(&self) -> anyhow::Result<Running> {
        Running::start(self.subject, self.platform)
    }

    /// A fresh process, so that no memory of earlier load is there to be used again.
    async fn memory(&self, note: &mut impl FnMut(&'static str, f64)) -> anyhow::Result<()> {
        if !self.plan.wants("memory") {
            return Ok(());
        }
        let running = self.start()?;
        closed_loop(self.clock, &running.target, 1, Duration::from_millis(200)).await?;
        let before = running.memory_kib()?;
        let streams = Streams::open(self.clock, &running.target, "hold", WAITING).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        streams.check()?;
        let grown = running.memory_kib()?.saturating_sub(before);
        note("memory of a waiting stream, KiB", grown as f64 / WAITING as f64);
        note("memory at rest, MiB", before as f64 / 1024.0);
        Ok(())
    }

    async fn requests(
        &self,
        rate: &mut f64,
        round: usize,
        note: &mut impl FnMut(&'static str, f64),
    ) -> anyhow::Result<()> {
        let running = self.start()?;
        let target = &running.target;
        if self.plan.wants("whole") || self.plan.wants("latency") {
            closed_loop(self.clock, target, CONNECTIONS, Duration::from_millis(300)).await?;
            let (cpu, since) = (running.cpu()?, self.clock.now());
            let count = closed_loop(self.clock, target, CONNECTIONS, WHOLE_FOR).await? as f64;
            let took = self.clock.now().since(since).as_secs_f64();
            let cpu = running.cpu()?.saturating_sub(cpu);
            note("CPU of a request, us", cpu.as_secs_f64() * 1e6 / count);
            note("requests per second", count / took);
            if *self.subject == Subject::Nginx && round == 1 {
                *rate = count / took / 2.0;
            }
        }
        // The direct path goes first, before the rate is known: its latency is taken at the guess in round 1.
        if self.plan.wants("latency") {
            let mut nanos = steady(self.clock, target, 2 * CONNECTIONS, *rate, STEADY_FOR).await?;
            note("latency at half load p50, us", quantile(&mut nanos, 0.5) / 1e3);
            note("latency at half load p99, us", quantile(&mut nanos, 0.99) / 1e3);
        }
        if self.plan.wants("first") {
            let mut nanos = first_events(self.clock, target, 1000).await?;
            note("first event p50, us", quantile(&mut nanos, 0.5) / 1e3);
            note("first event p99, us", quantile(&mut nanos, 0.99) / 1e3);
        }
        Ok(())
    }

    async fn streams(&self, note: &mut impl FnMut(&'static str, f64)) -> anyhow::Result<()> {
        let running = self.start()?;
        if self.plan.wants("openai") {
            let (cost, mut lags) = self.tick(&running, &running.target).await?;
            note("CPU of an event passed on, us", cost);
            note("lag of an event p50, us", quantile(&mut lags, 0.5));
            note("lag of an event p99, us", quantile(&mut lags, 0.99));
        }
        if self.plan.wants("claude") {
            let (cost, mut lags) = self.tick(&running, &running.claude).await?;
            note("CPU of an event translated, us", cost);
            note("lag of a translated event p99, us", quantile(&mut lags, 0.99));
        }
        Ok(())
    }

    /// Processor time per event in microseconds, and how late events were.
    async fn tick(&self, running: &Running, target: &Target) -> anyhow::Result<(f64, Vec<u64>)> {
        let streams = Streams::open(self.clock, target, "tick", STREAMS).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (cpu, before) = (running.cpu()?, streams.seen.borrow().events);
        streams.seen.borrow_mut().lags.clear();
        tokio::time::sleep(TICK_FOR).await;
        let events = streams.seen.borrow().events - before;
        let cpu = running.cpu()?.saturating_sub(cpu);
        streams.check()?;
        let lags = std::mem::take(&mut streams.seen.borrow_mut().lags);
        drop(streams);
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok((cpu.as_secs_f64() * 1e6 / events as f64, lags))
    }
}
