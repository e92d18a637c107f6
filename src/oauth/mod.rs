//! Weir as an OAuth client: of platforms, for accounts, and of identity providers, for people. One engine; what makes providers
//! differ is data ([`Row`]) and a small closed set of quirks.
//!
//! ```text
//! Engine  what a flow needs: authorize, exchange, device code, refresh, revoke, who is it     (the `oauth2` crate speaks the standard)
//!   └─ wire   what a provider does otherwise, both ways: names, methods, encodings, where an error hides     (pure)
//!       └─ web    one request out: no redirects, a time limit, a size limit                                   (reqwest)
//! ```
//! Nothing here knows of accounts or people: a [`Grant`] comes out, and whoever asked for it keeps it. What must be kept meanwhile is in
//! [`Pending`].

mod built_in;
mod careful;
mod carried;
mod discovery;
mod engine;
mod error;
mod grant;
mod hearsay;
mod pending;
mod person;
mod resource;
mod row;
pub mod settings;
#[cfg(test)]
mod tests;
mod web;
mod who;
mod wire;

pub use careful::Careful;
pub use carried::{CARRIED, Carried, Carrier, Cookie, Packed};
pub use engine::{Authorization, DeviceCode, Engine, Polled};
pub use error::{OAuthError, Refusal};
pub use grant::Grant;
pub use hearsay::Hearsay;
pub use pending::{Begun, Found, Pending, PendingError};
pub use person::Person;
pub use row::{AccountRow, Client, Flow, PersonRow, Provider, Quirk, Row, RowError};
pub use settings::Settings;
pub use web::{Answer, Outgoing, Web};
