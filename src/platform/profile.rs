//! A platform's row, compiled. (To be written.)

use crate::ids::PlatformName;

/// A compiled row.
#[derive(Clone, Debug)]
pub struct Platform {
    pub name: PlatformName,
    /// IANA name of the zone in which the platform's day turns.
    pub timezone: String,
}
