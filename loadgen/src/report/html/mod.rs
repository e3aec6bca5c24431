//! Pages: each one file that can be mailed, with every picture in words beside it.
//!
//! - `run`: what the page of a run says, section by section;
//! - `pictures`: its plots;
//! - `series`: the pages of a staircase and of a search;
//! - `plot`, `axis`: plots as SVG, and their scales;
//! - `page`: the frame, tables and tiles, for other pages too.

mod axis;
pub(crate) mod page;
mod pictures;
mod plot;
mod run;
pub(crate) mod series;

use axis::Axis;
use plot::{Line, Plot};
pub(crate) use run::write;

/// Microseconds in the unit that suits them, with three digits.
pub(crate) fn time(us: f64) -> String {
    const US_PER_MS: f64 = 1e3;
    const US_PER_S: f64 = 1e6;
    // What is rounded up to a thousand is one of the next unit.
    if us < 999.5 {
        format!("{} µs", three_digits(us))
    } else if us < 999.5 * US_PER_MS {
        format!("{} ms", three_digits(us / US_PER_MS))
    } else {
        format!("{} s", three_digits(us / US_PER_S))
    }
}

/// As many digits after the point as make three in all; none that are only noughts.
pub(crate) fn three_digits(number: f64) -> String {
    let digits = match number.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{number:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// With digits enough for one lost request in a million.
pub(crate) fn small_percent(share: f64) -> String {
    if share == 0.0 {
        "0 %".to_owned()
    } else {
        let digits = format!("{:.4}", share * 100.0);
        format!("{} %", digits.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A large number in thousands, millions or milliards.
pub(crate) fn short(number: f64) -> String {
    if number < 999.5 {
        three_digits(number)
    } else if number < 999.5e3 {
        format!("{}k", three_digits(number / 1e3))
    } else if number < 999.5e6 {
        format!("{}M", three_digits(number / 1e6))
    } else {
        format!("{}G", three_digits(number / 1e9))
    }
}

/// Bytes in the unit that suits them, of 1024 each.
pub(crate) fn bytes(count: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = count;
    let mut unit = 0;
    while size >= 1023.5 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(size), UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        let texts = [0.0, 0.123, 12.34, 512.2, 999.7, 1_500.0, 99_960.0, 2e6].map(time);
        let expected = [
            "0 µs", "0.12 µs", "12.3 µs", "512 µs", "1 ms", "1.5 ms", "100 ms", "2 s",
        ];
        assert_eq!(texts, expected);
        assert_eq!(
            [0.0, 1e-6, 0.001, 0.5].map(small_percent),
            ["0 %", "0.0001 %", "0.1 %", "50 %"]
        );
        assert_eq!(
            [7.0, 20_000.0, 1_250_000.0, 104e9].map(short),
            ["7", "20k", "1.25M", "104G"]
        );
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            [0.0, 1_023.0, 1_024.0, 268_435_456.0].map(bytes),
            ["0 B", "1023 B", "1 KiB", "256 MiB"]
        );
    }
}
