//! The shell around the gateway: sockets, routes, and the one place where a fault becomes an answer. Handlers are thin:
//! whatever decides anything lives on a lower floor.

mod host;
mod opening;
pub mod plane;
pub mod reply;
pub mod serve;
pub mod service;
mod streams;
pub mod tls;
pub mod wire;
