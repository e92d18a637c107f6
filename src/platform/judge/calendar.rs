//! Moments that a platform names: midnight there, the first of a month, a date in a sentence.

use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

fn now(wall_millis: u64, timezone: &TimeZone) -> Option<Zoned> {
    let millis = i64::try_from(wall_millis).ok()?;
    Some(Timestamp::from_millisecond(millis).ok()?.to_zoned(timezone.clone()))
}

/// From now until `then`; `None` where that has passed.
pub fn until(then: Timestamp, wall_millis: u64) -> Option<Duration> {
    let then = u64::try_from(then.as_millisecond()).ok()?;
    then.checked_sub(wall_millis).filter(|millis| *millis > 0).map(Duration::from_millis)
}

/// Until midnight in `timezone`.
pub fn next_day(wall_millis: u64, timezone: &TimeZone) -> Option<Duration> {
    let midnight = now(wall_millis, timezone)?.tomorrow().ok()?.start_of_day().ok()?;
    until(midnight.timestamp(), wall_millis)
}

/// Until the first of the next month in `timezone`.
pub fn next_month(wall_millis: u64, timezone: &TimeZone) -> Option<Duration> {
    let last = now(wall_millis, timezone)?.last_of_month().ok()?;
    until(last.tomorrow().ok()?.start_of_day().ok()?.timestamp(), wall_millis)
}

/// Until the first moment that `text` names and that has not passed: `2026-11-21 18:00:00`, `2026-12-01 at 00:00 UTC`,
/// `2026-11-21T18:00:00+08:00`, `2026-12-01`. Without a zone it is meant in `timezone`.
pub fn time_in(text: &str, wall_millis: u64, timezone: &TimeZone) -> Option<Duration> {
    let starts = text.char_indices().filter(|(_, character)| character.is_ascii_digit()).map(|(at, _)| at);
    starts.filter_map(|at| moment(text.get(at..)?, timezone)).find_map(|then| until(then, wall_millis))
}

/// The moment that `text` begins with.
fn moment(text: &str, timezone: &TimeZone) -> Option<Timestamp> {
    let date: Date = text.get(..10).filter(|date| date.is_ascii())?.parse().ok()?;
    let rest = text.get(10..)?;
    let rest = rest.strip_prefix(" at ").or_else(|| rest.strip_prefix(['t', 'T', ' '])).unwrap_or(rest);
    let long = rest.get(..8).and_then(|time| time.parse::<Time>().ok()).map(|time| (time, 8));
    let short = || rest.get(..5).and_then(|time| time.parse::<Time>().ok()).map(|time| (time, 5));
    let Some((time, len)) = long.or_else(short) else {
        return date.to_zoned(timezone.clone()).ok().map(|zoned| zoned.timestamp());
    };
    let zone = zone(rest.get(len..)?.trim_start()).unwrap_or_else(|| timezone.clone());
    date.to_datetime(time).to_zoned(zone).ok().map(|zoned| zoned.timestamp())
}

/// The zone that `text` begins with: `Z`, `UTC`, `GMT`, `+0800`, `+08:00`.
fn zone(text: &str) -> Option<TimeZone> {
    let text = text.to_ascii_lowercase();
    if ["utc", "gmt", "z"].iter().any(|name| text.starts_with(name)) {
        return Some(TimeZone::UTC);
    }
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let digits: String = text.chars().skip(1).filter(|character| *character != ':').take(4).collect();
    let hours: i32 = digits.get(..2)?.parse().ok()?;
    let minutes: i32 = digits.get(2..4)?.parse().ok()?;
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok().map(TimeZone::fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T02:00:00Z: 10:00 in Shanghai.
    const NOW: u64 = 1_795_226_400_000;

    fn zone_of(name: &str) -> TimeZone {
        TimeZone::get(name).expect("zone")
    }

    #[test]
    fn days_and_months_end_where_the_platform_is() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        assert_eq!(next_day(NOW, &zone_of("Asia/Shanghai")), hours(14));
        assert_eq!(next_day(NOW, &TimeZone::UTC), hours(22));
        assert_eq!(next_month(NOW, &TimeZone::UTC), hours(22 + 9 * 24));
        // The night of 25 October 2026 has an hour more in Berlin.
        let evening = "2026-10-25T00:00:00+02:00".parse::<Timestamp>().expect("time");
        let evening = u64::try_from(evening.as_millisecond()).expect("positive");
        assert_eq!(next_day(evening, &zone_of("Europe/Berlin")), hours(25));
    }

    #[test]
    fn finds_the_moment_in_a_sentence() {
        let shanghai = zone_of("Asia/Shanghai");
        let hours =
            |text: &str| time_in(&text.to_lowercase(), NOW, &shanghai).map(|wait| wait.as_secs() / 3600);
        assert_eq!(hours("您的限额将在 2026-11-21 18:00:00 重置。"), Some(8));
        assert_eq!(hours("It will reset at 2026-11-21 18:00:00 +0800 CST."), Some(8));
        assert_eq!(hours("You will regain access on 2026-12-01 at 00:00 UTC."), Some(22 + 9 * 24));
        assert_eq!(hours("until 2026-11-21T03:00:00Z"), Some(1));
        assert_eq!(hours("until 2026-11-21T11:30"), Some(1));
        assert_eq!(hours("on 2026-11-22, maybe"), Some(14));
        assert_eq!(hours("since 2026-01-01 00:00:00 until 2026-11-21 12:00:00"), Some(2));
        for none in ["2020-01-01 00:00:00", "2026-13-01", "tid: 2025121504014619744820954697486", "重置", ""]
        {
            assert_eq!(hours(none), None, "{none}");
        }
    }
}
