//! Platforms are data. Why: of ten platforms seven speak one wire with small liberties; a row names those liberties from
//! closed sets, so a new OpenAI-like platform is one YAML row and no release, and an error table can be read and reviewed.
//!
//! A row is compiled once ([`Platform::compile`]); the hot path looks nothing up by name.

pub mod auth;
pub mod judge;
pub mod profile;
pub mod quirks;
pub mod rules;
