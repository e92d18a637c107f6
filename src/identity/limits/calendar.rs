//! What a caller has used up in this calendar day and month (UTC). Why by the wall clock: an operator thinks of a day's
//! tokens as what is printed on a bill.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

const DAY_MILLIS: u64 = 86_400_000;

/// A day and its month, as numbers that grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Today {
    pub day: u64,
    pub month: i32,
}

impl Today {
    /// The day at `millis` since 1970.
    pub fn at(millis: u64) -> Self {
        let date = date(millis);
        Self { day: millis / DAY_MILLIS, month: i32::from(date.year()) * 12 + i32::from(date.month()) }
    }
}

fn date(millis: u64) -> Date {
    let timestamp = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    timestamp.unwrap_or(Timestamp::MAX).to_zoned(TimeZone::UTC).date()
}

/// Time from `millis` since 1970 to the next midnight.
pub(super) fn until_tomorrow(millis: u64) -> Duration {
    Duration::from_millis(DAY_MILLIS - millis % DAY_MILLIS)
}

/// Time from `millis` since 1970 to the beginning of the next month.
pub(super) fn until_next_month(millis: u64) -> Duration {
    let date = date(millis);
    let days = date.last_of_month().day() - date.day();
    until_tomorrow(millis) + Duration::from_millis(DAY_MILLIS) * u32::from(days.unsigned_abs())
}

/// What has been used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    today: Today,
    pub day_requests: u64,
    pub day_tokens: u64,
    pub month_tokens: u64,
}

impl Used {
    /// As it stands on `today`: a new day (or month) begins at nothing. A clock set back gives nothing back.
    pub fn on(mut self, today: Today) -> Self {
        if today.day > self.today.day {
            self.day_requests = 0;
            self.day_tokens = 0;
        }
        if today.month > self.today.month {
            self.month_tokens = 0;
        }
        self.today = today;
        self
    }

    /// One more request, with `tokens`.
    pub fn add(&mut self, tokens: u64) {
        self.day_requests = self.day_requests.saturating_add(1);
        self.day_tokens = self.day_tokens.saturating_add(tokens);
        self.month_tokens = self.month_tokens.saturating_add(tokens);
    }

    /// Corrects `was` tokens, taken on the day `then`, to `is`. What was taken on another day is not given back on this.
    pub fn correct(&mut self, was: u64, is: u64, then: Today) {
        let change = |total: u64, is_same: bool| match is.checked_sub(was) {
            Some(more) => total.saturating_add(more),
            None if is_same => total.saturating_sub(was - is),
            None => total,
        };
        self.day_tokens = change(self.day_tokens, then.day == self.today.day);
        self.month_tokens = change(self.month_tokens, then.month == self.today.month);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> u64 {
        text.parse::<Timestamp>().expect("a time").as_millisecond().unsigned_abs()
    }

    #[test]
    fn knows_the_ends_of_days_and_months() {
        let now = millis("2026-01-31T23:59:59.999Z");
        assert_eq!(until_tomorrow(now), Duration::from_millis(1));
        assert_eq!(until_next_month(now), Duration::from_millis(1));
        let now = millis("2028-02-01T00:00:00Z");
        assert_eq!(until_tomorrow(now), Duration::from_hours(24));
        assert_eq!(until_next_month(now), Duration::from_hours(29 * 24));
        assert!(
            Today::at(millis("2027-01-01T00:00:00Z")).month > Today::at(millis("2026-12-31T00:00:00Z")).month
        );
        assert_eq!(Today::at(u64::MAX).month, 9999 * 12 + 12);
    }

    #[test]
    fn a_clock_set_back_gives_nothing_back() {
        let today = Today::at(millis("2026-05-02T00:00:01Z"));
        let yesterday = Today::at(millis("2026-05-01T23:59:59Z"));
        let mut used = Used::default().on(today);
        used.add(10);
        assert_eq!(used.on(yesterday).day_tokens, 10);
        assert_eq!(used.on(yesterday).on(today).day_tokens, 0);
    }

    #[test]
    fn yesterdays_reservation_is_not_given_back_today() {
        let then = Today::at(millis("2026-05-01T23:59:59Z"));
        let mut used = Used::default().on(then);
        used.add(100);
        let mut used = used.on(Today::at(millis("2026-05-02T00:00:01Z")));
        used.add(30);
        used.correct(100, 40, then);
        assert_eq!((used.day_tokens, used.month_tokens), (30, 70));
        used.correct(100, 120, then);
        assert_eq!((used.day_tokens, used.month_tokens), (50, 90));
    }
}
