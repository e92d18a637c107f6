//! Every platform against every case, at the level of the library: no sockets. Why files and not code: what goes out to a
//! platform and what a caller gets of its answer can be read, and reviewed, one small file beside the other.
//!
//! `tests/platforms/<platform>/<case>/` holds `answer*.http`, written by hand from the vendor's facts with the liberties
//! that it really takes, and beside it what Weir makes of it: `request*.json`, `expected*.json`, `expected*.sse`. The asks
//! are in `tests/platforms/_asks/`. `WEIR_BLESS=1 cargo test --test matrix` writes Weir's side anew, for a person to read.
//!
//! [`golden`] the matrix · [`laws`] what must hold for every stream · [`fuzz`] what must hold for any bytes at all

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops where its world is not as it must be, and says what it did"
)]

mod checker;
mod fixtures;
mod fuzz;
mod golden;
mod laws;
mod stage;
