//! A browser's profile: a folder that nobody else can read, made for one sign-in and wiped in every end.
//!
//! Beside each folder stands a file that is locked for as long as the process lives that made it. The system lets go of the lock however
//! that process ends: what is not locked at the next start is what a killed gateway left, and is wiped then, together with any
//! browser that still uses it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::ids::random_name;

/// What folders of profiles are called, before 16 random characters.
const PREFIX: &str = "weir-browser-";
const LOCK: &str = ".lock";

/// What opens a link with the program that is for it.
const OPENERS: [&str; 5] = ["xdg-open", "xdg-email", "xdg-settings", "xdg-mime", "gio"];

/// Programs that login pages are known to call, by the schemes of their links.
const SCHEMES: [&str; 24] = [
    "weixin",
    "wechat",
    "wxwork",
    "alipay",
    "alipays",
    "dingtalk",
    "feishu",
    "lark",
    "mqq",
    "mqqapi",
    "mqqopensdkapi",
    "tencent",
    "tim",
    "wtloginmqq",
    "baiduboxapp",
    "taobao",
    "tbopen",
    "snssdk1128",
    "intent",
    "market",
    "slack",
    "msteams",
    "tg",
    "whatsapp",
];

/// No connections ahead of what is asked for: they would be made past the gate.
const NO_PREDICTIONS: u8 = 2;

/// Where a browser reads what its person prefers.
const PREFERENCES: &str = "Default/Preferences";

/// A browser that is killed may still be writing for a moment.
const TRIES: u32 = 40;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// How often another name is tried where somebody sweeps at the very moment.
const NAMES: u32 = 5;

/// A folder for one browser.
#[derive(Debug)]
pub struct Profile {
    folder: PathBuf,
    lock: PathBuf,
    /// Locked while this lives.
    _held: File,
}

impl Profile {
    /// Makes one below `base`.
    ///
    /// # Errors
    /// The file system's.
    pub fn make(base: &Path) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..NAMES {
            match Self::make_as(base, &random_name(PREFIX, 16)) {
                Ok(profile) => return Ok(profile),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn make_as(base: &Path, name: &str) -> io::Result<Self> {
        let (folder, lock) = (base.join(name), base.join(format!("{name}{LOCK}")));
        let held = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&lock)?;
        // Whoever sweeps may have been quicker between these two lines: then the file is gone, or going.
        if held.try_lock().is_err() || held.metadata()?.nlink() == 0 {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let profile = Self { folder, lock, _held: held };
        for folder in [&profile.folder, &profile.temporary(), &profile.folder.join("Default")] {
            DirBuilder::new().mode(0o700).create(folder)?;
        }
        let preferences = json!({"net": {"network_prediction_options": NO_PREDICTIONS}});
        std::fs::write(profile.folder.join(PREFERENCES), preferences.to_string())?;
        Ok(profile)
    }

    /// The folder, which is the browser's home, too.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the browser puts what is temporary.
    pub fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    /// Has links to programs start none. Pages of these origins are not asked about before: nobody would see the question, and a page that
    /// waits for its answer takes nothing else. Gives the folder with the programs that do nothing, to be looked into first. They are links
    /// themselves: where the profile is, programs may not be allowed.
    ///
    /// # Errors
    /// The file system's.
    pub fn start_no_programs(&self, origins: impl Iterator<Item = String>) -> io::Result<PathBuf> {
        let folder = self.folder.join("bin");
        DirBuilder::new().mode(0o700).create(&folder)?;
        for name in OPENERS {
            std::os::unix::fs::symlink("/bin/false", folder.join(name))?;
        }
        let schemes: serde_json::Map<_, _> =
            SCHEMES.iter().map(|scheme| ((*scheme).to_owned(), true.into())).collect();
        let pairs: serde_json::Map<_, _> = origins.map(|origin| (origin, schemes.clone().into())).collect();
        let preferences = json!({"net": {"network_prediction_options": NO_PREDICTIONS}, "protocol_handler": {"allowed_origin_protocol_pairs": pairs}});
        std::fs::write(self.folder.join(PREFERENCES), preferences.to_string())?;
        Ok(folder)
    }

    /// Wipes it. Not again where nothing is left.
    fn wipe(&self) {
        wipe(&self.folder, &self.lock);
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.wipe();
    }
}

fn wipe(folder: &Path, lock: &Path) {
    for attempt in 1..=TRIES {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                if attempt == TRIES {
                    tracing::error!(folder = %folder.display(), %error, "a browser's profile could not be wiped");
                    return;
                }
                std::thread::sleep(BETWEEN_TRIES);
            }
            _ => break,
        }
    }
    // Last: while it is there, a next start tries again.
    drop(std::fs::remove_file(lock));
}

/// Wipes what killed gateways left below `base`, and ends browsers that still use it. Gives how many there were.
pub fn sweep(base: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(base) else { return 0 };
    let mut swept = 0;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let Some(name) = name.strip_suffix(LOCK) else { continue };
        // Somebody else's is not ours to wipe, and may be anything.
        let is_file = entry.metadata().is_ok_and(|meta| meta.is_file() && is_ours(&meta));
        let Some(_held) = is_file.then(|| left(&entry.path())).flatten() else { continue };
        let folder = base.join(name);
        end_users_of(&folder);
        wipe(&folder, &entry.path());
        swept += 1;
    }
    swept
}

/// The lock, where nobody holds it.
fn left(lock: &Path) -> Option<File> {
    let file = OpenOptions::new().write(true).open(lock).ok()?;
    file.try_lock().ok().map(|()| file)
}

fn is_ours(meta: &std::fs::Metadata) -> bool {
    meta.uid() == nix::unistd::geteuid().as_raw()
}

/// Ends browsers that use this folder as their profile: it has a name that nothing else has.
fn end_users_of(folder: &Path) {
    for pid in users_of(folder) {
        // Where it is gone already there is nothing to do.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Processes that were started with this folder as their profile.
pub fn users_of(folder: &Path) -> Vec<i32> {
    let wanted = format!("--user-data-dir={}", folder.display());
    let uses = |pid: &i32| {
        let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        line.split(|byte| *byte == 0).any(|argument| argument == wanted.as_bytes())
    };
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(uses).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(base: &Path) -> usize {
        std::fs::read_dir(base).expect("a folder").count()
    }

    #[test]
    fn a_profile_is_for_nobody_else_and_is_gone_afterwards() {
        let base = tempfile::tempdir().expect("a folder");
        let profile = Profile::make(base.path()).expect("made");
        for folder in [profile.folder().to_owned(), profile.temporary()] {
            assert_eq!(std::fs::metadata(folder).expect("there").mode() & 0o777, 0o700);
        }
        std::fs::write(profile.folder().join("Cookies"), "secret").expect("written");
        drop(profile);
        assert_eq!(names(base.path()), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_swept_and_what_is_in_use_is_not() {
        let base = tempfile::tempdir().expect("a folder");
        let alive = Profile::make(base.path()).expect("made");
        let left = base.path().join("weir-browser-0123456789abcdef");
        std::fs::create_dir_all(left.join("Default")).expect("made");
        std::fs::write(left.join("Default/Cookies"), "secret").expect("written");
        std::fs::write(base.path().join("weir-browser-0123456789abcdef.lock"), "").expect("written");
        // Of others, or of no use: left alone.
        std::fs::create_dir(base.path().join("weir-browser-nolock")).expect("made");
        std::fs::create_dir(base.path().join("weir-browser-odd.lock")).expect("made");
        let wanted = format!("--user-data-dir={}", left.display());
        // It waits for a line that never comes, without a child that would outlive it.
        let mut user = std::process::Command::new("sh")
            .args(["-c", "read -r line", "sh", &wanted])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("a process");
        while users_of(&left).is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(sweep(base.path()), 1);
        assert!(!left.exists() && alive.folder().exists());
        assert!(!user.wait().expect("ended").success(), "its browser went on");
        assert_eq!(names(base.path()), 4);
        assert_eq!(sweep(base.path()), 0);
    }
}
