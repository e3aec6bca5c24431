//! Numbers as Python's `float()` and `int()` read them, since that is what `PV` and `Time` are compared as.
//!
//! Both allow surrounding white space, a sign, and single underscores between digits. Digits beyond ASCII never
//! get here: a header with other bytes is no number for the reference either.

use crate::limits::MAX_DATAGRAM_BYTES;

/// The number, which may be infinite or not a number; `None` if the text is none.
pub(crate) fn float(text: &[u8]) -> Option<f64> {
    let text = trim(text);
    if text.contains(&b'_') {
        float_with_underscores(text)
    } else {
        parse_float(text)
    }
}

/// The integer, at the end of the range if it is beyond; `None` if the text is none.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let text = trim(text);
    let (sign, digits) = match text.split_first()? {
        (b'-', digits) => (-1, digits),
        (b'+', digits) => (1, digits),
        _ => (1, text),
    };
    if digits.is_empty() || !underscores_join_digits(digits) {
        return None;
    }
    digits
        .iter()
        .filter(|&&byte| byte != b'_')
        .try_fold(0_i64, |value, byte| {
            let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
            Some(value.saturating_mul(10).saturating_add(sign * digit))
        })
}

fn trim(text: &[u8]) -> &[u8] {
    let before = text.iter().take_while(|&&byte| is_c_space(byte)).count();
    let text = &text[before..];
    let after = text
        .iter()
        .rev()
        .take_while(|&&byte| is_c_space(byte))
        .count();
    &text[..text.len() - after]
}

/// What C takes for white space. Python's strings take more for it, its numbers do not.
const fn is_c_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

fn parse_float(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Apart, because of the room it takes on the stack.
#[inline(never)]
fn float_with_underscores(text: &[u8]) -> Option<f64> {
    if !underscores_join_digits(text) {
        return None;
    }
    let mut buffer = [0; MAX_DATAGRAM_BYTES];
    let mut length = 0;
    for &byte in text.iter().filter(|&&byte| byte != b'_') {
        *buffer.get_mut(length)? = byte;
        length += 1;
    }
    parse_float(&buffer[..length])
}

fn underscores_join_digits(text: &[u8]) -> bool {
    let is_digit = |at: Option<usize>| {
        at.and_then(|at| text.get(at))
            .is_some_and(u8::is_ascii_digit)
    };
    (0..text.len())
        .filter(|&at| text[at] == b'_')
        .all(|at| is_digit(at.checked_sub(1)) && is_digit(Some(at + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_read_as_python_does() {
        for (text, value) in [
            ("2.1", 2.1),
            ("+2.1", 2.1),
            (" \t\n\x0b2e0\x0c\r", 2.0),
            (".21e1", 2.1),
            ("2_1", 21.0),
            ("2_1.0_5e1_0", 21.05e10),
            ("2.999999999999999999", 3.0),
            ("-2.", -2.0),
            ("1e400", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(float(text.as_bytes()), Some(value), "{text:?}");
        }
        assert!(float(b"nAn").is_some_and(f64::is_nan));
        for text in [
            "", " ", ".", "e1", "2,1", "2.1.0", "0x2", "_2", "2_", "2__1", "2_.1", "2e_1", "2 .1",
            "\x1f2", "2.1\0", "\u{ff12}",
        ] {
            assert_eq!(float(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn integers_are_read_as_python_does() {
        for (text, value) in [
            ("0", 0),
            (" +1_7\x0b", 17),
            ("-005", -5),
            ("99999999999999999999", i64::MAX),
            ("-99999999999999999999", i64::MIN),
        ] {
            assert_eq!(integer(text.as_bytes()), Some(value), "{text:?}");
        }
        for text in [
            "", " ", "+", "--1", "+ 1", "1.0", "0x10", "_1", "1_", "1__0", "1 0", "x", "1\x1c",
        ] {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
    }
}
