//! A simulated platform: `weir fake`. Why: the gateway's tests, its demo and its benches need ten platforms that cost
//! nothing, fail on demand and keep exact books. It speaks each platform's native dialect from that platform's published
//! facts and shares no code with the gateway's own dialects, so that a misreading on one side shows on the other.
//!
//! - `wire/` reads a request strictly, in its dialect, into one [`brain::Question`], and renders the answer back;
//! - `brain` answers, deterministically, the same on every wire;
//! - `fault` knows what can go wrong and the words (`@error=…`) that make it happen; `stream` does it to the bytes;
//! - `script` says who the accounts are and what they may; `counters` keeps the books;
//! - `oauth` hands out tokens: identity providers, the platforms' own OAuth, and a site to log in to;
//! - `server` is the listener that ties these together.

mod answer;
mod brain;
mod counters;
mod fault;
mod oauth;
mod script;
mod server;
mod socket;
mod stream;
mod wire;

pub use oauth::{BUTTON, FIELD, FIELD_STEP, PASSWORD, Setup};
pub use script::{Account, Script};
pub use server::{Settings, endpoints, serve};

#[cfg(test)]
mod tests;
