//! draft
pub mod api;
pub mod clock;
pub mod config;
pub mod dialect;
pub mod fake;
pub mod fault;
// pub mod gateway;
pub mod identity;
pub mod ids;
pub mod keybook;
pub mod limits;
pub mod metrics;
pub mod platform;
pub mod pool;
pub mod secret;
pub mod sse;
pub mod store;
pub mod upstream;
