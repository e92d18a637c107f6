//! The browser's process. Its pipes of the protocol are the descriptors 3 and 4, which only a shell can put there without unsafe code: it
//! does, and becomes the browser.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::profile::Profile;
use super::{BrowserError, gate};
use crate::browser::settings::{Settings, Surroundings};

/// What Chromium is called, on one system or another.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

/// Becomes the program that it is given, which reads 3 and writes 4.
const SHELL: &str = "/bin/sh";
/// What it remembers when it crashes, passwords among it, is left to nobody.
const BECOME: &str = r#"ulimit -c 0; exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

/// What is kept of what the browser complains about, in bytes.
const MAX_COMPLAINT: usize = 4096;

/// How long a killed process may take to be gone.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// Always: nothing that a person did not ask for, nothing kept, nothing reported to anybody.
const FLAGS: [&str; 20] = [
    "--remote-debugging-pipe",
    // Pages are opened by us alone.
    "--no-startup-window",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-crash-reporter",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--mute-audio",
    // Nothing of it goes to the person's keyring.
    "--password-store=basic",
    // Containers have little of /dev/shm: the profile's folder is used instead.
    "--disable-dev-shm-usage",
    // A page that is opened ahead would be opened behind the gate's back.
    "--disable-features=Prerender2,Translate,MediaRouter",
    // Whatever a name leads to: an address inside wants a permission, also by the ways that no gate sees.
    "--enable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets,LocalNetworkAccessChecksWebRTC,LocalNetworkAccessChecksWebTransport",
    // Calls go by what is asked for by name, or nowhere: datagrams would pass the gate.
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--window-size=1120,840",
];

/// A running browser: it, and every process that it starts, in a group of their own. Dropped, all of them end.
#[derive(Debug)]
pub struct Process {
    child: Child,
    complaint: JoinHandle<VecDeque<u8>>,
}

/// The program that the settings name, or the first Chromium on the path.
///
/// # Errors
/// There is none.
pub fn find(settings: &Settings, surroundings: &Surroundings) -> Result<PathBuf, BrowserError> {
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if let Some(named) = &settings.program {
        let missing = || BrowserError::Missing(format!("there is no program {}", named.display()));
        return Some(named.clone()).filter(is_program).ok_or_else(missing);
    }
    let folders =
        surroundings.variable("PATH").unwrap_or_default().split(':').filter(|path| !path.is_empty());
    let mut places = folders.flat_map(|folder| NAMES.iter().map(move |name| Path::new(folder).join(name)));
    let missing = || BrowserError::Missing(format!("none of {} is on the PATH", NAMES.join(", ")));
    places.find(is_program).ok_or_else(missing)
}

impl Process {
    /// Starts the program on a profile; gives what it reads and what it writes.
    ///
    /// # Errors
    /// The system's.
    pub fn start(
        program: &Path,
        profile: &Profile,
        settings: &Settings,
        surroundings: &Surroundings,
        on_desktop: bool,
    ) -> io::Result<(Self, ChildStdin, ChildStdout)> {
        let mut command = Command::new(SHELL);
        command.args(["-c", BECOME, "sh"]).arg(program).args(FLAGS);
        command.arg(format!("--user-data-dir={}", profile.folder().display()));
        command.arg(format!("--host-resolver-rules={}", gate::not_found(&settings.sites)));
        if !on_desktop {
            // Nobody is there to be asked for a camera.
            command.args(["--headless", "--deny-permission-prompts"]);
        }
        if !settings.sandbox {
            command.arg("--no-sandbox");
        }
        command.env_clear().envs(surroundings.variables.iter().map(|(name, value)| (name, value)));
        if !on_desktop {
            // A link to a program (`mailto:`) starts none here.
            let origins = settings.sites.iter().flat_map(|site| site.origins());
            let folder = profile.start_no_programs(origins)?;
            let path = surroundings.variable("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", folder.display()));
        }
        command
            .env("HOME", profile.folder())
            .env("TMPDIR", profile.temporary())
            .current_dir(profile.folder());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        let (Some(reads), Some(writes), Some(complains)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let complaint = tokio::spawn(listen(complains));
        Ok((Self { child, complaint }, reads, writes))
    }

    /// The last words of a browser that has ended.
    pub async fn complaint(&mut self) -> String {
        let said = tokio::time::timeout(LAST_BREATH, &mut self.complaint).await;
        let bytes: Vec<u8> = said.ok().and_then(Result::ok).unwrap_or_default().into();
        String::from_utf8_lossy(&bytes).replace(char::is_control, " ")
    }

    /// Ends it, if it has not ended by itself, and everything that it started.
    pub async fn end(&mut self) {
        self.kill();
        drop(tokio::time::timeout(LAST_BREATH, self.child.wait()).await);
    }

    /// The whole group. Only while the child is ours: later its number may be somebody else's.
    fn kill(&self) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // Where it is gone already there is nothing to do.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The end of what a browser complains about, when it has ended.
async fn listen(mut from: ChildStderr) -> VecDeque<u8> {
    let (mut buffer, mut kept) = ([0; 1024], VecDeque::new());
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        kept.extend(buffer.get(..read).unwrap_or_default());
        let too_much = kept.len().saturating_sub(MAX_COMPLAINT);
        kept.drain(..too_much);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_crashes_leaves_no_image_of_its_memory() {
        let script = format!("ulimit -S -c \"$(ulimit -H -c)\"; {BECOME}");
        let asks = ["-c", &script, "sh", SHELL, "-c", "ulimit -c >&4"];
        let output = std::process::Command::new(SHELL).args(asks).output().expect("a shell");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0", "{output:?}");
    }

    #[test]
    fn a_browser_is_found_by_name_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("chromium-browser");
        let path = format!("/nowhere::{}", folder.path().display());
        let surroundings = Surroundings { variables: vec![("PATH".into(), path)], ..Surroundings::default() };
        let missing = find(&Settings::default(), &surroundings).expect_err("nothing is there");
        assert!(missing.to_string().contains("chromium"), "{missing}");
        std::fs::write(&program, "").expect("written");
        assert!(find(&Settings::default(), &surroundings).is_err(), "no program");
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("set");
        assert_eq!(find(&Settings::default(), &surroundings).expect("found"), program);
        let named = Settings { program: Some("/nowhere/chrome".into()), ..Settings::default() };
        let missing = find(&named, &surroundings).expect_err("nothing is there");
        assert!(missing.to_string().contains("/nowhere/chrome"), "{missing}");
    }
}
