//! Times as people read them, in the time zone that `TZ` or the system names.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A second since the epoch as Python's `time.ctime()` writes it; none if the calendar does not go so far.
pub(crate) fn ctime(second: i64) -> Option<String> {
    format("%a %b %e %H:%M:%S %Y", second)
}

/// A second since the epoch as a log line begins with it.
pub(crate) fn log_time(second: i64) -> Option<String> {
    format("%Y-%m-%d %H:%M:%S", second)
}

fn format(pattern: &str, second: i64) -> Option<String> {
    let timestamp = Timestamp::from_second(second).ok()?;
    let local = timestamp.to_zoned(TimeZone::system());
    Some(local.strftime(pattern).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of local time are those of UTC on every clock in use, so the date and hour are left to the zone.
    #[test]
    fn times_have_pythons_shape() {
        let text = ctime(1_388_829_694).unwrap();
        assert_eq!(text.len(), "Sat Jan  4 10:01:34 2014".len());
        assert!(text.ends_with(":34 2014"), "{text}");
        let text = log_time(1_388_829_694).unwrap();
        assert!(text.starts_with("2014-01-0"), "{text}");
        assert!(text.ends_with(":34"), "{text}");
        assert_eq!(ctime(i64::MAX), None);
    }
}
