//! Days and months as a platform counts them. Why by key and not by a job at midnight: a process that sleeps, restarts or
//! stalls over midnight must still find today's count at zero and yesterday's closed.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// How long a calendar limit counts before it begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pool) enum Span {
    Day,
    Month,
}

/// One day or month: its name and the wall-clock milliseconds in between which it lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::pool) struct Period {
    /// `yyyymmdd` (of the first day, for a month): grows with time.
    pub key: i32,
    /// First millisecond of it.
    pub starts: u64,
    /// First millisecond after it.
    pub ends: u64,
}

const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;

impl Period {
    /// The period around `wall_millis` in `zone`. A day may have 23 or 25 hours, and may begin at 01:00 where the clocks
    /// go forward at midnight.
    pub(in crate::pool) fn around(span: Span, wall_millis: u64, zone: &TimeZone) -> Self {
        Self::by_calendar(span, wall_millis, zone).unwrap_or_else(|| Self::by_arithmetic(wall_millis))
    }

    fn by_calendar(span: Span, wall_millis: u64, zone: &TimeZone) -> Option<Self> {
        let today =
            Timestamp::from_millisecond(i64::try_from(wall_millis).ok()?).ok()?.to_zoned(zone.clone()).date();
        let (first, next) = match span {
            Span::Day => (today, today.tomorrow().ok()?),
            Span::Month => (today.first_of_month(), today.last_of_month().tomorrow().ok()?),
        };
        let begins = |date: Date| -> Option<u64> {
            u64::try_from(date.to_zoned(zone.clone()).ok()?.timestamp().as_millisecond()).ok()
        };
        Some(Self { key: key(first), starts: begins(first)?, ends: begins(next)? })
    }

    /// For instants that no calendar reaches: days of 24 hours since 1970.
    fn by_arithmetic(wall_millis: u64) -> Self {
        let day = wall_millis / DAY_MILLIS;
        let starts = day.saturating_mul(DAY_MILLIS);
        Self { key: i32::try_from(day).unwrap_or(i32::MAX), starts, ends: starts.saturating_add(DAY_MILLIS) }
    }

    pub(in crate::pool) fn contains(&self, wall_millis: u64) -> bool {
        (self.starts..self.ends).contains(&wall_millis)
    }
}

fn key(date: Date) -> i32 {
    i32::from(date.year()) * 10_000 + i32::from(date.month()) * 100 + i32::from(date.day())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    #[test]
    fn the_day_turns_at_the_platforms_midnight_not_at_ours() {
        let shanghai = zone("Asia/Shanghai");
        let before = Period::around(Span::Day, at("2026-11-21T15:59:59.999Z"), &shanghai);
        let after = Period::around(Span::Day, at("2026-11-21T16:00:00Z"), &shanghai);
        assert_eq!((before.key, after.key), (20_261_121, 20_261_122));
        assert_eq!(before.ends, at("2026-11-21T16:00:00Z"));
        assert_eq!(after.starts, before.ends);
    }

    #[test]
    fn days_of_23_and_25_hours_follow_each_other_without_gap() {
        let newyork = zone("America/New_York");
        let hours = |text| {
            let day = Period::around(Span::Day, at(text), &newyork);
            (day.ends - day.starts) / 3_600_000
        };
        assert_eq!(hours("2026-03-08T12:00:00Z"), 23);
        assert_eq!(hours("2026-11-01T12:00:00Z"), 25);
        // The second 01:30 of the day is still the same day.
        let twice = Period::around(Span::Day, at("2026-11-01T06:30:00Z"), &newyork);
        assert_eq!(twice.key, 20_261_101);
    }

    #[test]
    fn a_day_without_midnight_begins_when_it_begins() {
        // Cairo goes from 23:59 to 01:00 on 2026-04-24.
        let day = Period::around(Span::Day, at("2026-04-24T12:00:00Z"), &zone("Africa/Cairo"));
        assert_eq!((day.key, day.starts), (20_260_424, at("2026-04-23T22:00:00Z")));
        assert_eq!((day.ends - day.starts) / 3_600_000, 23);
    }

    #[test]
    fn months_have_their_own_length_and_leap_days_exist() {
        let month = Period::around(Span::Month, at("2028-02-29T23:00:00Z"), &TimeZone::UTC);
        assert_eq!(month.key, 20_280_201);
        assert_eq!(month.ends, at("2028-03-01T00:00:00Z"));
        assert_eq!(
            Period::around(Span::Month, at("2026-12-31T23:59:59Z"), &TimeZone::UTC).ends,
            at("2027-01-01T00:00:00Z")
        );
    }

    #[test]
    fn an_absurd_clock_does_not_break_the_calendar() {
        for wall in [0, u64::MAX / 2, u64::MAX] {
            let day = Period::around(Span::Day, wall, &TimeZone::UTC);
            assert!(day.starts <= wall);
        }
    }
}
