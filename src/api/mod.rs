//! The OpenAI shapes that Weir accepts and emits. Why a floor of its own: whatever wire a platform speaks, a caller sees
//! exactly one dialect, and its rules (`behaviours.md` C1-C18) are kept in one place: [`writer`] for streams,
//! [`assemble`] for whole answers, [`scan`] and [`ask`] for requests.

pub mod ask;
pub mod assemble;
pub mod chat;
pub mod functions;
pub mod piece;
pub mod scan;
pub mod writer;
