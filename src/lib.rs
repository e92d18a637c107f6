//! Weir: one door to every model.
//!
//! A program points any OpenAI SDK's `base_url` at Weir. Weir authenticates the caller, picks an upstream *account* from a
//! pool of many accounts on many platforms, rewrites the request for that platform, and streams the answer back.
//!
//! # A tour, floor by floor
//! A module imports only from floors below its own, never from a neighbour (`tests/layers.rs` holds us to it).
//!
//! | floor | modules | what for |
//! | --- | --- | --- |
//! | ground | [`clock`] [`fault`] [`glob`] [`ids`] [`limits`] [`metrics`] [`secret`] [`web_url`] | injected time; the one error; names with `*`; names; what may be limited; every metric's name; strings that print as `[redacted]`; where one may be sent |
//! | 1 | [`sse`] [`keybook`] [`opaque`] [`redis_link`] | server-sent events, sans-IO; what a key of our own is; random values that open something; the line to Redis |
//! | 2 | [`api`] | the OpenAI shapes that Weir accepts and emits, and their rules |
//! | 3 | [`dialect`] | the wires that platforms speak: encode a request, decode an answer |
//! | 4 | [`platform`] | platforms as rows of data: rules, quirks, error tables, credentials on the wire |
//! | 5 | [`identity`] [`store`] [`vault`] [`pool`] [`upstream`] | who calls; what is kept; and what of it nobody may read; which account; connections out |
//! | 6 | [`oauth`] [`browser`] | Weir as a client: of platforms, for accounts, and of identity providers, for people; sign-ins at a platform's own page |
//! | 7 | [`gateway`] | the path of a request, in one linear function, and the relay of a stream; accounts, people and apps |
//! | 8 | [`config`] | as typed, as resolved, as in force; reload; check |
//! | 9 | [`http`] | sockets, TLS, life cycle, routes, and the one place where a fault becomes an answer |
//! | 10 | [`fake`] | simulated platforms and providers, sharing no code with the above |
//! | 11 | [`cli`] | arguments in, exit code out |
//!
//! # The path of a request
//! [`http::service::serve`] takes a request's head. A request of the hot path goes to
//! [`Gateway::answer`](gateway::Gateway::answer): verify the caller → read and scan the body → find the route → admit the caller →
//! take an account and its reservation → encode for the platform → send → judge → relay, or settle and try the next.
//! Everything else goes to the control plane ([`http::plane`]).

pub mod api;
pub mod browser;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dialect;
pub mod fake;
pub mod fault;
pub mod gateway;
pub mod glob;
pub mod http;
pub mod identity;
pub mod ids;
pub mod keybook;
pub mod limits;
pub mod metrics;
pub mod oauth;
pub mod opaque;
pub mod platform;
pub mod pool;
pub mod redis_link;
pub mod secret;
pub mod sse;
pub mod store;
pub mod upstream;
pub mod vault;
pub mod web_url;
