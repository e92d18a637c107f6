//! Where log lines go. Why a thread of its own and a bound: a log pipe that nobody reads must not hold up a request
//! (lines are dropped then), and a library that fails in a tight loop must not fill a disk.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use parking_lot::Mutex;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::clock::{Clock, Moment};
use crate::config::{Log, LogFormat};

/// Starts logging to standard error. Lines still on their way are written when the guard is dropped.
///
/// # Errors
/// Where the level cannot be read.
pub fn start(log: &Log, clock: Clock) -> anyhow::Result<WorkerGuard> {
    let filter = EnvFilter::try_new(&log.level)?;
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_span_events(FmtSpan::NONE)
        .with_target(true);
    let is_json = match log.format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let started = if is_json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("logging could not be started: {error}"))?;
    // `try_init` has set a plain bridge for libraries that use `log` where none was set: ours comes first.
    drop(log::set_boxed_logger(Box::new(Bridge::new(clock))));
    Ok(guard)
}

/// Brings what libraries say through the `log` crate over, each place at most once a second.
struct Bridge {
    inner: tracing_log::LogTracer,
    said: Mutex<HashMap<(String, u32), Moment>>,
    clock: Clock,
}

const AT_MOST_EVERY: Duration = Duration::from_secs(1);
const MAX_PLACES: usize = 1_000;

impl Bridge {
    fn new(clock: Clock) -> Self {
        Self { inner: tracing_log::LogTracer::new(), said: Mutex::default(), clock }
    }

    fn may_speak(&self, record: &log::Record<'_>) -> bool {
        let place = (record.target().to_owned(), record.line().unwrap_or(0));
        let now = self.clock.now();
        let mut said = self.said.lock();
        if said.len() > MAX_PLACES {
            said.clear();
        }
        match said.get(&place) {
            Some(last) if now.since(*last) < AT_MOST_EVERY => false,
            _ => {
                said.insert(place, now);
                true
            }
        }
    }
}

impl log::Log for Bridge {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.inner.enabled(record.metadata()) && self.may_speak(record) {
            self.inner.log(record);
        }
    }

    fn flush(&self) {}
}
