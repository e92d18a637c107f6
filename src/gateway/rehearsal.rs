//! Failures on purpose: a panic in the middle of a request, so that a test can show that only that request feels it. In a
//! released binary there is nothing here: it is compiled only where debug assertions are, and does nothing there without
//! the variable below.

/// Where to panic, and for which model: `PLACE=MODEL`.
#[cfg(debug_assertions)]
const VARIABLE: &str = "WEIR_REHEARSE_PANIC";

/// Panics where the environment wants a panic here.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that is what it is for")]
pub(super) fn panic_in(place: &str, model: &str) {
    let Ok(wanted) = std::env::var(VARIABLE) else { return };
    if wanted.split(',').filter_map(|one| one.split_once('=')).any(|one| one == (place, model)) {
        panic!("a rehearsed panic in the {place} of a request for {model}");
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub(super) const fn panic_in(_place: &str, _model: &str) {}
