//! The browser itself, and a person's sign-in in it. Compiled with the feature `browser`.

mod gate;
mod haul;
mod keys;
mod line;
mod pages;
mod process;
mod profile;
mod sign_in;
mod stage;

use std::time::Duration;

use serde_json::json;

use super::settings::{Settings, Surroundings};
pub use haul::Haul;
pub use line::{Event, Events, Line, LineError};
use process::Process;
pub use profile::{Profile, sweep, users_of};
pub use sign_in::sign_in;
pub use stage::{Dialog, Frame, Input, KeyPress, Mouse, Notice, Phase, Stage, View, Wings, stage};

/// How long a browser may take to close by itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a sign-in did not come to anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrowserError {
    /// The operator's matter: there is no browser to start.
    #[error("there is no browser: {0}")]
    Missing(String),
    #[error(
        "Chromium's sandbox cannot be used here: run Weir as a user of its own (not root) where the kernel has user namespaces, or \
         write `oauth: {{browser: {{sandbox: false}}}}`"
    )]
    Sandbox,
    #[error("there is no desktop for the browser's window: write `oauth: {{browser: {{window: relayed}}}}`")]
    NoDesktop,
    /// It did not start; its last words are for the operator.
    #[error("the browser did not start: {0}")]
    Unstartable(String),
    #[error("the browser ended, or stopped answering, in the middle of the sign-in")]
    Died,
    #[error("the window was closed before the sign-in was done")]
    Closed,
    /// The login page cannot be had.
    #[error("the login page could not be opened: {0}")]
    Unreachable(String),
    #[error("`{0}` is no selector: it is what the site's row says under `expect`")]
    NoSelector(String),
    #[error("the login page has no `{0}`: the site has changed, or its row's `expect` does not fit it")]
    Unexpected(String),
    #[error("you are signed in, but the site left no {0}: it has changed, or its row does not fit it")]
    NothingLeft(String),
    #[error("what the site left cannot be used as a credential")]
    Unusable,
    #[error("nobody was at the page for too long")]
    Unattended,
}

impl BrowserError {
    /// Whether it is the operator's matter, and nothing that another try would change.
    pub fn is_of_operator(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Sandbox | Self::NoDesktop | Self::Unstartable(_))
    }

    /// What a browser means that ended right after its start.
    fn of_complaint(complaint: String) -> Self {
        let has = |words: &[&str]| words.iter().any(|word| complaint.contains(word));
        if has(&["--no-sandbox", "No usable sandbox", "SUID sandbox"]) {
            Self::Sandbox
        } else if has(&[
            "Missing X server",
            "cannot open display",
            "Failed to connect to Wayland",
            "$DISPLAY",
        ]) {
            Self::NoDesktop
        } else {
            Self::Unstartable(complaint)
        }
    }
}

impl From<LineError> for BrowserError {
    fn from(_: LineError) -> Self {
        Self::Died
    }
}

/// A running browser. To be closed; dropped, it ends and is wiped all the same, only that whoever drops it waits.
#[derive(Debug)]
pub struct Browser {
    pub line: Line,
    process: Process,
    // After the process: what it still writes is wiped, too.
    profile: Profile,
}

impl Browser {
    /// Starts one in a fresh profile.
    ///
    /// # Errors
    /// There is none, or it does not start.
    pub async fn open(
        settings: &Settings,
        surroundings: &Surroundings,
        on_desktop: bool,
    ) -> Result<(Self, Events), BrowserError> {
        let program = process::find(settings, surroundings)?;
        let unstartable = |error: std::io::Error| BrowserError::Unstartable(error.to_string());
        let profile = Profile::make(&surroundings.folder).map_err(unstartable)?;
        let started = Process::start(&program, &profile, settings, surroundings, on_desktop);
        let (process, reads, writes) = started.map_err(unstartable)?;
        let (line, events) = Line::open(reads, writes);
        let browser = Self { line, process, profile };
        if browser.line.ask(None, "Browser.getVersion", json!({})).await.is_ok() {
            return Ok((browser, events));
        }
        let Self { mut process, .. } = browser;
        process.end().await;
        Err(BrowserError::of_complaint(process.complaint().await))
    }

    /// Ends it and wipes its profile.
    pub async fn close(self) {
        let Self { line, mut process, profile } = self;
        line.tell(None, "Browser.close", json!({}));
        drop(tokio::time::timeout(FAREWELL, line.gone()).await);
        process.end().await;
        // Its files may be many: not on this thread.
        drop(tokio::task::spawn_blocking(move || drop(profile)).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_understood() {
        let of = |text: &str| BrowserError::of_complaint(text.to_owned());
        assert_eq!(
            of("[1:1:1121/2:ERROR:zygote] Running as root without --no-sandbox is not supported. See x."),
            BrowserError::Sandbox
        );
        assert_eq!(of("FATAL:zygote_host_impl_linux.cc No usable sandbox! If"), BrowserError::Sandbox);
        assert_eq!(of("ERROR:ozone_platform_x11.cc Missing X server or $DISPLAY"), BrowserError::NoDesktop);
        assert!(
            matches!(of("Segmentation fault"), BrowserError::Unstartable(words) if words.contains("fault"))
        );
    }
}
