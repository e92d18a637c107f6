//! Where log lines go. Why a thread of its own and a bound: a log pipe that nobody reads must not hold up a request
//! (lines are dropped then), and a library that fails in a tight loop must not fill a disk.
//!
//! Why a level without a name is for our own modules: what libraries say below `warn` is theirs to choose, and some write
//! headers and URLs, with what is secret in them, at `trace`.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_log::AsLog;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::clock::{Clock, Moment};
use crate::config::{Log, LogFormat};

/// Starts logging to standard error. Lines still on their way are written when the guard is dropped.
///
/// # Errors
/// Where the level cannot be read.
pub fn start(log: &Log, clock: Clock) -> anyhow::Result<WorkerGuard> {
    let filter = EnvFilter::try_new(directives(&log.level))?;
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
    // Not `try_init`: it would also put a plain bridge for libraries that use `log` in the place of ours.
    let started = if is_json {
        tracing::subscriber::set_global_default(lines.json().flatten_event(true).finish())
    } else {
        tracing::subscriber::set_global_default(lines.with_ansi(std::io::stderr().is_terminal()).finish())
    };
    started.map_err(|error| anyhow::anyhow!("logging could not be started: {error}"))?;
    log::set_boxed_logger(Box::new(Bridge::new(clock)))
        .map_err(|error| anyhow::anyhow!("logging could not be started: {error}"))?;
    log::set_max_level(LevelFilter::current().as_log());
    Ok(guard)
}

/// The filter's directives for what the operator wrote: a level alone is for our own modules, and for libraries no finer
/// than `warn`; with a module's name it is for that module, whosever it is.
fn directives(level: &str) -> String {
    let parts = || level.split(',').map(str::trim).filter(|part| !part.is_empty());
    let alone = parts().filter(|part| !part.contains('=')).map(|part| match part {
        "trace" | "debug" | "info" => format!("warn,weir={part}"),
        _ => part.to_owned(),
    });
    // Of two directives for the same module the later one wins: what names a module comes last.
    let named = parts().filter(|part| part.contains('=')).map(str::to_owned);
    alone.chain(named).collect::<Vec<_>>().join(",")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_for_our_own_modules() {
        for (typed, meant) in [
            ("info", "warn,weir=info"),
            ("trace", "warn,weir=trace"),
            ("error", "error"),
            ("off", "off"),
            ("debug, h2=trace", "warn,weir=debug,h2=trace"),
            ("weir=debug,info", "warn,weir=info,weir=debug"),
            ("warn,weir::pool=debug", "warn,weir::pool=debug"),
        ] {
            assert_eq!(directives(typed), meant);
            assert!(EnvFilter::try_new(meant).is_ok());
        }
    }
}
