//! Who calls: JWTs, keys of our own, and how much each caller may. (To be written.)
pub mod settings;
