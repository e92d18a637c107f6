//! draft
pub mod api;
pub mod clock;
pub mod dialect;
pub mod fault;
pub mod ids;
pub mod platform;
pub mod secret;
pub mod sse;
