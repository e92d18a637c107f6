//! Platforms are data. Why: of ten platforms seven speak one wire with small liberties; a row names those liberties from
//! closed sets, so a new OpenAI-like platform is one YAML row and no release, and an error table can be read and reviewed.
//!
//! A row is compiled once ([`profile::Platform::compile`]); the hot path looks nothing up by name.
//!
//! [`profile`]: rows and what they compile to. [`rules`]: changes of single fields, as the row lists them. [`quirks`]: named
//! changes that need an `if`. [`judge`]: from a refusal to a verdict. [`auth`]: how a request says who calls.

pub mod auth;
pub mod judge;
pub mod profile;
mod quirks;
pub mod rules;
