//! The commands. Each is a body that takes its arguments and its output, so that a test can run it.

pub mod check;
