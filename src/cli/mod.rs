//! What the commands do, apart from how their arguments are read.

pub mod key;
pub mod token;
