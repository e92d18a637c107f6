//! The path of a request. (To be written.)
pub mod route;
pub mod settings;
