//! What the reference stores of a digest in its gdbm file, read into a [`Record`].
//!
//! A value is text in one of two forms, told apart by the number of its fields:
//!
//! ```text
//! 1,R_COUNT,R_ENTERED,R_UPDATED,WL_COUNT,WL_ENTERED,WL_UPDATED   times as `2026-11-21 10:00:00[.123456]` or `None`
//! COUNT,ENTERED,UPDATED                                          of reports; times in epoch seconds
//! ```
//!
//! The times of the newer form are those on the wall of the machine that wrote them. A time that its clocks showed twice,
//! or never, when they were changed is read as the later of the two it may mean: the reference's own server answers so, and a
//! record is then kept longer rather than shorter. Fractions of a second are dropped, as in its answers.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::record::{EpochSeconds, MAX_COUNT, Record};

/// The version that the newer form states in its first field.
const VERSION: &str = "1";
const TIME_FORMAT: &str = "%Y-%m-%d %H:%M:%S%.f";
const NO_TIME: &str = "None";
/// The newer form has the most.
const MOST_FIELDS: usize = 7;

/// The value is not one the reference writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecord {
    /// Neither form has this many fields, or it is not text.
    #[error("neither the newer nor the older form of a record")]
    Form,
    /// The newer form, but of a version unknown to us and to the reference.
    #[error("a record of an unknown version")]
    Version,
    /// A count is not a decimal number of at least 0.
    #[error("{0} is not a count")]
    Count(&'static str),
    /// A time is not written as it should be, or lies before 1970 or beyond 2106.
    #[error("{0} is not a time between 1970 and 2106")]
    Time(&'static str),
}

/// Reads a stored value; `zone` is where the machine that wrote it was.
///
/// Counts beyond [`MAX_COUNT`] are cut to it.
///
/// # Errors
/// [`InvalidRecord`] says which field is wrong.
pub fn decode(value: &[u8], zone: &TimeZone) -> Result<Record, InvalidRecord> {
    let text = str::from_utf8(value).map_err(|_| InvalidRecord::Form)?;
    let fields: Vec<&str> = text.splitn(MOST_FIELDS + 1, ',').collect();
    let local = |name, text| local_time(text, zone).ok_or(InvalidRecord::Time(name));
    let epoch = |name, text| epoch_time(text).ok_or(InvalidRecord::Time(name));
    match *fields.as_slice() {
        [
            VERSION,
            r_count,
            r_entered,
            r_updated,
            wl_count,
            wl_entered,
            wl_updated,
        ] => Ok(Record {
            r_count: count("r_count", r_count)?,
            wl_count: count("wl_count", wl_count)?,
            r_entered: local("r_entered", r_entered)?,
            r_updated: local("r_updated", r_updated)?,
            wl_entered: local("wl_entered", wl_entered)?,
            wl_updated: local("wl_updated", wl_updated)?,
        }),
        [_, _, _, _, _, _, _] => Err(InvalidRecord::Version),
        [r_count, r_entered, r_updated] => Ok(Record {
            r_count: count("count", r_count)?,
            r_entered: epoch("entered", r_entered)?,
            r_updated: epoch("updated", r_updated)?,
            ..Record::EMPTY
        }),
        _ => Err(InvalidRecord::Form),
    }
}

fn count(name: &'static str, text: &str) -> Result<u64, InvalidRecord> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidRecord::Count(name));
    }
    // Digits alone fail to parse only where they are too many.
    Ok(text
        .parse()
        .map_or(MAX_COUNT, |count: u64| count.min(MAX_COUNT)))
}

fn epoch_time(text: &str) -> Option<EpochSeconds> {
    text.parse().ok()
}

fn local_time(text: &str, zone: &TimeZone) -> Option<EpochSeconds> {
    if text == NO_TIME {
        return Some(0);
    }
    let wall = DateTime::strptime(TIME_FORMAT, text).ok()?;
    let time = zone.to_ambiguous_timestamp(wall).later().ok()?;
    time.as_second().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(value: &str) -> Result<Record, InvalidRecord> {
        decode(value.as_bytes(), &TimeZone::UTC)
    }

    fn reported(text: &str, zone: &str) -> Option<EpochSeconds> {
        let value = format!("1,1,{text},None,0,None,None");
        let zone = TimeZone::get(zone).expect("the system's time zones");
        decode(value.as_bytes(), &zone)
            .ok()
            .map(|record| record.r_entered)
    }

    #[test]
    fn the_newer_form_has_counts_and_times_of_both_kinds() {
        let value = "1,3,2026-11-21 10:00:00.123456,2026-11-21 10:00:01,2,2026-11-21 10:00:02,\
                     2026-11-21 10:00:03.999999";
        let expected = Record {
            r_count: 3,
            r_entered: 1_795_255_200,
            r_updated: 1_795_255_201,
            wl_count: 2,
            wl_entered: 1_795_255_202,
            wl_updated: 1_795_255_203,
        };
        assert_eq!(utc(value), Ok(expected));
    }

    #[test]
    fn the_older_form_has_reports_only() {
        let expected = Record {
            r_count: 1,
            r_entered: 1_500_000_000,
            r_updated: 1_500_000_001,
            ..Record::EMPTY
        };
        assert_eq!(utc("1,1500000000,1500000001"), Ok(expected));
    }

    #[test]
    fn a_record_of_nothing_is_empty() {
        assert_eq!(utc("1,0,None,None,0,None,None"), Ok(Record::EMPTY));
        assert_eq!(utc("0,0,0"), Ok(Record::EMPTY));
    }

    #[test]
    fn counts_saturate() {
        let many = "9".repeat(30);
        assert_eq!(
            utc(&format!("{many},0,0")).map(|record| record.r_count),
            Ok(MAX_COUNT)
        );
        assert_eq!(
            utc(&format!("{},0,0", u64::MAX)).map(|record| record.r_count),
            Ok(MAX_COUNT)
        );
    }

    /// The expected values are what the reference's server answers to `info` with these records in Berlin.
    #[test]
    fn wall_time_is_read_as_the_reference_reads_it() {
        let berlin = |text| reported(text, "Europe/Berlin");
        assert_eq!(berlin("2026-07-01 12:00:00"), Some(1_782_900_000));
        assert_eq!(
            berlin("2026-10-25 02:30:00"),
            Some(1_792_891_800),
            "shown twice"
        );
        assert_eq!(
            berlin("2026-03-29 02:30:00"),
            Some(1_774_747_800),
            "never shown"
        );
        assert_eq!(berlin("1970-01-01 01:00:00"), Some(0));
        assert_eq!(berlin("1970-01-01 00:30:00"), None, "before the epoch");
        assert_eq!(berlin("2200-01-01 01:00:00"), None, "beyond 32 bits");
    }

    #[test]
    fn what_the_reference_cannot_read_is_refused() {
        for (value, expected) in [
            ("", InvalidRecord::Form),
            ("garbage", InvalidRecord::Form),
            ("1,1500000000", InvalidRecord::Form),
            ("1,3,2026-11-21 10:00:00,None,0,None", InvalidRecord::Form),
            ("1,3,None,None,0,None,None,0", InvalidRecord::Form),
            ("2,3,None,None,0,None,None", InvalidRecord::Version),
            ("1,,None,None,0,None,None", InvalidRecord::Count("r_count")),
            (
                "1,-3,None,None,0,None,None",
                InvalidRecord::Count("r_count"),
            ),
            (
                "1,3,None,None,None,None,None",
                InvalidRecord::Count("wl_count"),
            ),
            (
                "1,3,2026-11-21T10:00:00,None,0,None,None",
                InvalidRecord::Time("r_entered"),
            ),
            (
                "1,3,2026-11-21 10:00:00+00:00,None,0,None,None",
                InvalidRecord::Time("r_entered"),
            ),
            ("1,3,None,,0,None,None", InvalidRecord::Time("r_updated")),
            (
                "1,3,None,None,0,2026-13-01 00:00:00,None",
                InvalidRecord::Time("wl_entered"),
            ),
            ("x,1500000000,1500000001", InvalidRecord::Count("count")),
            ("3,1500000000.5,1500000001", InvalidRecord::Time("entered")),
            ("3,1500000000,None", InvalidRecord::Time("updated")),
        ] {
            assert_eq!(utc(value), Err(expected), "{value:?}");
        }
        assert_eq!(
            decode(b"1,\xff,0", &TimeZone::UTC),
            Err(InvalidRecord::Form)
        );
    }

    proptest::proptest! {
        #[test]
        fn no_value_panics(value: Vec<u8>, text in "[0-9,:None. -]{0,80}") {
            let _ = decode(&value, &TimeZone::UTC);
            let _ = decode(text.as_bytes(), &TimeZone::UTC);
        }
    }
}
