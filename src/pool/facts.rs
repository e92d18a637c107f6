//! What the pool needs to know of a platform's row. Why one place: the row is another module's and grows with every
//! platform; the pool needs a name and a time zone of it, and nothing else.

use jiff::tz::TimeZone;

use crate::ids::PlatformName;

use super::settings::Account;

/// The platform that `account` belongs to.
pub(super) fn platform_of(account: &Account) -> &PlatformName {
    &account.platform.name
}

/// The zone in which the platform's day turns. A name that is no zone (the configuration refuses it) counts as UTC.
pub(super) fn zone_of(account: &Account) -> TimeZone {
    TimeZone::get(&account.platform.timezone).unwrap_or(TimeZone::UTC)
}
