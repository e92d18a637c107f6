//! Signing in at a platform's own page, where that page is its only door: Weir opens a real Chromium in a fresh profile, the account's
//! owner signs in there personally, and what the site then leaves in the browser (cookies, or an entry of its storage) becomes
//! the account's credential. Weir fills nothing in, solves nothing and pretends to be nobody: the browser says what it is, and that it is
//! driven.
//!
//! ```text
//! Site      what an operator's row says of one site: where, which hosts, what to wait for, what to keep        (pure)
//! Browser   one Chromium: its process, its profile, the line to it
//!   ├─ profile   a folder for it alone, wiped in every end; what a killed Weir left is wiped at the next start
//!   ├─ process   the program, in a process group of its own
//!   └─ line      Chromium's DevTools protocol over two pipes: no port that others could use, and a browser that ends with us
//! sign_in   one sign-in, from the login page to what it leaves; `stage` is what a person sees of it meanwhile
//!   ├─ gate      where its pages may go: to hosts of the row, and nowhere else
//!   ├─ pages     which page is shown: pop-ups come and go; pictures out, clicks and keys in
//!   └─ haul      what a site left: named cookies, entries of its storage
//! ```
//!
//! # Why no crate
//! `chromiumoxide` brings 111,000 lines of generated types for the whole protocol, of which this needs some twenty commands, and speaks it
//! over a TCP port that every user of the machine can connect to; `headless_chrome` is blocking, and `fantoccini` and `thirtyfour` need a
//! WebDriver beside the browser. Over pipes (`--remote-debugging-pipe`) the protocol is JSON between NUL bytes, which needs nothing new,
//! and Chromium ends by itself when the pipe does: also when Weir is killed.
//!
//! Without the cargo feature `browser` only the settings are there, so that a configuration can be read and refused in words.

pub mod settings;
mod site;

#[cfg(feature = "browser")]
mod engine;

#[cfg(feature = "browser")]
pub use engine::*;
pub use settings::Settings;
pub use site::{Row, RowError, Site, Source, SourceRow, WaitRow, Wanted};
