//! draft
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dialect;
pub mod fault;
pub mod gateway;
pub mod identity;
pub mod ids;
pub mod limits;
pub mod platform;
pub mod pool;
pub mod secret;
pub mod sse;
