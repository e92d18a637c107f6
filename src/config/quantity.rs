//! Quantities with their unit: `30s`, `32MiB`. Why the unit is mandatory: a bare number is milliseconds to one reader and
//! seconds to the next, and a timeout that is wrong by a thousand shows only under load.

use std::time::Duration;

use serde::Deserialize;
use serde::de::Error;

/// A length of time: a whole number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length(pub Duration);

/// A size in bytes: a whole number and `B`, `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// Longest time that is taken, a year: anything longer is a slip.
const LONGEST_MS: u64 = 366 * 86_400_000;

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_')?;
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.replace('_', "").parse().ok()?, unit.trim_start()))
}

fn length(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor).filter(|ms| *ms <= LONGEST_MS).map(Duration::from_millis)
}

fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    // Sizes are compared with lengths of buffers: what no buffer can have is a slip too.
    number
        .checked_mul(factor)
        .filter(|bytes| usize::try_from(*bytes).is_ok_and(|bytes| bytes <= isize::MAX as usize))
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        length(&text)
            .map(Length)
            .ok_or_else(|| D::Error::custom("expected a time like `500ms`, `30s`, `10m` or `2h`"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        size(&text)
            .map(Size)
            .ok_or_else(|| D::Error::custom("expected a size like `64KiB`, `32MiB` or `1GiB`"))
    }
}

/// A length of time as it is typed, in the largest unit that keeps it whole.
pub(super) fn typed(length: Duration) -> String {
    let ms = length.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.iter().find(|(factor, _)| ms > 0 && ms.is_multiple_of(*factor)) {
        Some((factor, unit)) => format!("{}{unit}", ms / factor),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_and_sizes_need_their_unit() {
        assert_eq!(length("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(length("10m"), Some(Duration::from_secs(600)));
        assert_eq!(length("2h"), Some(Duration::from_secs(7200)));
        assert_eq!(length("1 s"), Some(Duration::from_secs(1)));
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "1S",
            "1min",
            "1 s ",
            "99999999999999999999s",
            "18446744073709551615d",
            "1000000d",
        ] {
            assert_eq!(length(bad), None, "{bad}");
        }
        assert_eq!(size("32MiB"), Some(32 << 20));
        assert_eq!(size("1_024B"), Some(1024));
        for bad in ["", "32", "32MB", "32mib", "-1B", "1.5GiB", "18446744073709551615GiB", "9999999999GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_time_as_typed_reads_back(ms in 0..=LONGEST_MS) {
            let time = Duration::from_millis(ms);
            prop_assert_eq!(length(&typed(time)), Some(time));
        }

        #[test]
        fn no_text_is_too_odd(text in "\\PC*") {
            let _ = (length(&text), size(&text));
        }
    }
}
