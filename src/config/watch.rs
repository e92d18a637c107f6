//! The configuration in use, and its replacement while requests run. Why polling: a file's time, length and inode once a
//! second work on every file system and for every way of writing a file (editors that rename, Kubernetes' symbolic links,
//! network shares), which notifications do not; a second is soon enough.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::report::Report;
use super::{Config, load};

/// How often files are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Where names in `${NAME}` are looked up, for as long as the process lives.
pub type OwnedEnvironment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The configuration in use. Whoever holds one from [`Live::current`] keeps it, whatever comes after.
pub struct Live {
    path: Option<PathBuf>,
    environment: OwnedEnvironment,
    current: ArcSwap<Config>,
    /// Two reloads at once would race for who is the last.
    reloading: Mutex<()>,
}

impl Live {
    /// Reads the configuration at `path` (the defaults where there is none).
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(path: Option<&Path>, environment: OwnedEnvironment) -> Result<Self, Report> {
        let config = load(path, &*environment)?;
        Ok(Self {
            path: path.map(Path::to_owned),
            environment,
            current: ArcSwap::from_pointee(config),
            reloading: Mutex::new(()),
        })
    }

    /// The configuration in use.
    pub fn current(&self) -> Arc<Config> {
        self.current.load_full()
    }

    /// Reads the configuration again and puts it in place; a wrong one changes nothing and is logged with its places.
    ///
    /// # Errors
    /// As [`load`].
    pub fn reload(&self) -> Result<Arc<Config>, Report> {
        let _alone = self.reloading.lock();
        match load(self.path.as_deref(), &*self.environment) {
            Ok(config) => {
                let config = Arc::new(config);
                let restart = needs_restart(&self.current.swap(Arc::clone(&config)), &config);
                if restart.is_empty() {
                    tracing::info!("new configuration in place");
                } else {
                    let keys = restart.join(", ");
                    tracing::warn!(
                        keys,
                        "new configuration in place; these keys hold from the next start on"
                    );
                }
                Ok(config)
            }
            Err(report) => {
                tracing::error!(%report, "the new configuration is wrong; the old one stays");
                Err(report)
            }
        }
    }

    /// The files to watch: the configuration itself, and those that its `${file:…}` name.
    fn files(&self) -> Vec<PathBuf> {
        let config = self.current.load();
        self.path.iter().chain(&config.secret_files).cloned().collect()
    }
}

/// Keys that differ between two configurations and that a running process cannot change.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let differs = [
        ("listen", old.listen.address != new.listen.address),
        ("tls", old.listen.tls != new.listen.tls),
        ("admin_listen", old.admin_listen != new.admin_listen),
        ("store", old.store != new.store),
        ("workers", old.workers != new.workers),
        ("log", old.log != new.log),
    ];
    differs.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect()
}

/// Reloads at SIGHUP and when a file changes, for ever. `on_reload` gets the new configuration, or what is wrong with it
/// (which is logged already).
///
/// # Errors
/// Where SIGHUP cannot be listened for.
pub async fn watch(live: &Live, on_reload: impl FnMut(Result<Arc<Config>, Report>)) -> std::io::Result<()> {
    watch_every(PERIOD, live, on_reload).await
}

async fn watch_every(
    period: Duration,
    live: &Live,
    mut on_reload: impl FnMut(Result<Arc<Config>, Report>),
) -> std::io::Result<()> {
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut watcher = Watcher::new(live);
    loop {
        let is_due = tokio::select! {
            _ = ticks.tick() => watcher.is_due(live),
            _ = hangup.recv() => true,
        };
        if is_due {
            on_reload(watcher.reload(live));
        }
    }
}

/// What files looked like.
type Stamps = Vec<Option<(SystemTime, u64, u64)>>;

fn stamps(live: &Live) -> Stamps {
    let stamp = |data: Metadata| Some((data.modified().ok()?, data.len(), data.ino()));
    live.files().iter().map(|path| std::fs::metadata(path).ok().and_then(stamp)).collect()
}

/// Notices that files changed, and waits until they have stopped changing: a file that is being written is read once, when
/// it is whole.
struct Watcher {
    /// As they were when they were last read.
    read: Stamps,
    /// As they were at the last look.
    seen: Stamps,
}

impl Watcher {
    fn new(live: &Live) -> Self {
        let read = stamps(live);
        Self { seen: read.clone(), read }
    }

    /// Looks at the files. Whether they are to be read again: they differ from what was read, and not from the last look.
    fn is_due(&mut self, live: &Live) -> bool {
        let now = stamps(live);
        let is_still = now == self.seen;
        self.seen = now;
        is_still && self.seen != self.read
    }

    /// Reads the files again. Rightly or wrongly: not once more before they change once more.
    fn reload(&mut self, live: &Live) -> Result<Arc<Config>, Report> {
        let before = stamps(live);
        let result = live.reload();
        self.seen = stamps(live);
        // What changed while it was read is due again; a configuration that names other files begins anew.
        self.read = if before.len() == self.seen.len() { before } else { self.seen.clone() };
        result
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn live(path: &Path) -> Live {
        Live::load(Some(path), Box::new(|_| None)).unwrap()
    }

    #[test]
    fn a_wrong_file_never_replaces_a_running_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.yaml");
        fs::write(&path, "retry: {attempts: 2}\n").unwrap();
        let live = live(&path);
        let held = live.current();
        for wrong in ["retry: {attempts: 0}\n", "retry: [\n", "", "rtry: {}\n", "\u{0}"] {
            fs::write(&path, wrong).unwrap();
            let report = live.reload().unwrap_err();
            assert!(report.to_string().starts_with(path.to_str().unwrap()), "{report}");
            assert_eq!(live.current().retry.attempts, 2);
        }
        fs::remove_file(&path).unwrap();
        assert!(live.reload().unwrap_err().to_string().contains("cannot be read"));
        fs::write(&path, "retry: {attempts: 5}\n").unwrap();
        assert_eq!(live.reload().unwrap().retry.attempts, 5);
        assert_eq!(live.current().retry.attempts, 5);
        assert_eq!(held.retry.attempts, 2, "a request under way keeps its own");
    }

    #[test]
    fn a_change_is_due_once_and_only_when_it_stands_still() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.yaml");
        let secret = folder.path().join("key");
        fs::write(&secret, "sk-a\n").unwrap();
        let text =
            format!("accounts: [{{id: a, platform: openai, api_key: \"${{file:{}}}\"}}]\n", secret.display());
        fs::write(&path, &text).unwrap();
        let live = live(&path);
        let mut watcher = Watcher::new(&live);
        assert!(!watcher.is_due(&live));

        fs::write(&path, "retry: {attem").unwrap();
        assert!(!watcher.is_due(&live), "it may still be being written");
        fs::write(&path, format!("retry: {{attempts: 1}}\n{text}")).unwrap();
        assert!(!watcher.is_due(&live), "it was");
        assert!(watcher.is_due(&live));
        watcher.reload(&live).unwrap();
        assert!(!watcher.is_due(&live));

        fs::write(&secret, "sk-longer\n").unwrap();
        assert!(!watcher.is_due(&live));
        assert!(watcher.is_due(&live), "a secret's file counts too");
        watcher.reload(&live).unwrap();
        assert!(!watcher.is_due(&live));

        fs::write(&path, "wrong: {}\n").unwrap();
        watcher.is_due(&live);
        assert!(watcher.is_due(&live));
        watcher.reload(&live).unwrap_err();
        assert!(!watcher.is_due(&live), "a wrong file is reported once");
        assert!(!watcher.is_due(&live));
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let config = |text: &str| super::super::parse(text, "test", &|_| None).unwrap();
        let old = config("{}");
        assert!(needs_restart(&old, &config("retry: {attempts: 1}")).is_empty());
        let new = config("{listen: \"127.0.0.1:1\", store: memory, log: {level: debug}}");
        assert_eq!(needs_restart(&old, &new), ["listen", "store", "log"]);
    }

    #[tokio::test]
    async fn a_file_change_and_a_signal_both_reload() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.yaml");
        fs::write(&path, "retry: {attempts: 2}\n").unwrap();
        let live = live(&path);
        let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let watching = watch_every(Duration::from_millis(50), &live, |result| {
            let _ =
                sender.send(result.map(|config| config.retry.attempts).map_err(|report| report.to_string()));
        });
        let changing = async {
            // After the first look.
            tokio::time::sleep(Duration::from_millis(100)).await;
            fs::write(&path, "retry: {attempts: 4}\n").unwrap();
            assert_eq!(seen.recv().await.unwrap(), Ok(4));
            fs::write(&path, "retry: {attempts: 0}\n").unwrap();
            assert!(seen.recv().await.unwrap().unwrap_err().contains(":1:19: no attempt"));
            std::process::Command::new("kill")
                .args(["-HUP", &std::process::id().to_string()])
                .status()
                .unwrap();
            assert!(seen.recv().await.unwrap().is_err());
            assert_eq!(live.current().retry.attempts, 4);
        };
        tokio::select! {
            _ = watching => panic!("the watch ended"),
            done = tokio::time::timeout(Duration::from_secs(20), changing) => done.unwrap(),
        }
    }
}
