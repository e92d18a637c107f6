//! What the operator says about browsers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::site::Site;

/// Which browser, and how it is used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program; `None`: the first Chromium on the `PATH`.
    pub program: Option<PathBuf>,
    pub window: Window,
    /// Chromium's own sandbox. Off only where the system cannot have it: pages of strangers run in this browser.
    pub sandbox: bool,
    /// How long a person may take.
    pub time_limit: Duration,
    /// Browsers open at a time.
    pub at_once: usize,
    /// Where people can sign in. Hosts come from here and from nowhere else.
    pub sites: Vec<Arc<Site>>,
}

/// Where a person sees the browser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// On this machine's desktop where there is one and only this machine reaches the gateway; relayed elsewhere.
    #[default]
    Auto,
    /// On this machine's desktop.
    Desktop,
    /// As pictures on a page of the gateway's.
    Relayed,
}

/// What of the machine a browser gets to know. Its environment is this and nothing else: ours may hold keys.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Variables that are handed on.
    pub variables: Vec<(String, String)>,
    /// Where profiles are made.
    pub folder: PathBuf,
}

impl Surroundings {
    /// Variables that a browser may need, by name: where it finds programs, a display, fonts' language, the way out.
    pub const VARIABLES: [&str; 17] = [
        "PATH",
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "XAUTHORITY",
        "XDG_RUNTIME_DIR",
        "LANG",
        "LANGUAGE",
        "LC_ALL",
        "TZ",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
    ];

    /// One of them.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is a desktop.
    pub fn has_desktop(&self) -> bool {
        ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|name| self.variable(name).is_some_and(|value| !value.is_empty()))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            program: None,
            window: Window::Auto,
            sandbox: true,
            time_limit: Duration::from_secs(600),
            at_once: 2,
            sites: Vec::new(),
        }
    }
}

impl Settings {
    /// The site where accounts of a platform are signed in to.
    pub fn for_platform(&self, platform: &str) -> Option<&Arc<Site>> {
        self.sites.iter().find(|site| site.platform == platform)
    }

    /// Whether a person sees the browser itself. `only_here`: whether only this machine reaches the gateway.
    pub fn is_on_desktop(&self, surroundings: &Surroundings, only_here: bool) -> bool {
        match self.window {
            Window::Auto => only_here && surroundings.has_desktop(),
            Window::Desktop => true,
            Window::Relayed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_opens_where_the_person_sits() {
        let desktop =
            Surroundings { variables: vec![("DISPLAY".into(), ":0".into())], ..Surroundings::default() };
        let server = Surroundings::default();
        let auto = Settings::default();
        assert!(auto.is_on_desktop(&desktop, true));
        assert!(!auto.is_on_desktop(&desktop, false), "somebody elsewhere would not see it");
        assert!(!auto.is_on_desktop(&server, true));
        assert!(Settings { window: Window::Desktop, ..auto.clone() }.is_on_desktop(&server, false));
        assert!(!Settings { window: Window::Relayed, ..auto }.is_on_desktop(&desktop, true));
    }
}
