//! A platform's row, compiled. (To be written.)

/// A compiled row.
#[derive(Clone, Debug)]
pub struct Platform {}
