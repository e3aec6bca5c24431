//! HTML's character references: `&amp;`, `&#38;`, `&#x26;`, as Python's `html.unescape` reads them.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::content_type::MAX_DECIMAL_DIGITS;
use super::{Unreadable, text};

/// A name is looked for among so many characters.
const MAX_NAME_CHARS: usize = 32;

/// No name is shorter, in bytes.
const MIN_NAME_BYTES: usize = 2;

/// The text with its references resolved.
pub(super) fn resolve(text: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut resolved = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'&', rest) {
        resolved.extend_from_slice(&rest[..at]);
        rest = resolve_one(&rest[at + 1..], &mut resolved)?;
    }
    resolved.extend_from_slice(rest);
    Ok(resolved)
}

/// Resolves what stands after an ampersand, and returns what is left.
fn resolve_one<'a>(rest: &'a [u8], resolved: &mut Vec<u8>) -> Result<&'a [u8], Unreadable> {
    match rest {
        [b'#', b'x' | b'X', digits @ ..] if starts_with(digits, u8::is_ascii_hexdigit) => {
            let (digits, rest) = digits.split_at(run(digits, u8::is_ascii_hexdigit));
            push_numbered(number(digits, 16), resolved);
            Ok(rest.strip_prefix(b";").unwrap_or(rest))
        }
        [b'#', digits @ ..] if starts_with(digits, u8::is_ascii_digit) => {
            let (digits, rest) = digits.split_at(run(digits, u8::is_ascii_digit));
            if digits.len() > MAX_DECIMAL_DIGITS {
                return Err(Unreadable);
            }
            push_numbered(number(digits, 10), resolved);
            Ok(rest.strip_prefix(b";").unwrap_or(rest))
        }
        _ => {
            let (name, rest) = rest.split_at(length_of_name(rest));
            push_named(name, resolved);
            Ok(rest)
        }
    }
}

fn starts_with(text: &[u8], is: fn(&u8) -> bool) -> bool {
    text.first().is_some_and(is)
}

fn run(text: &[u8], is: fn(&u8) -> bool) -> usize {
    text.iter().take_while(|byte| is(byte)).count()
}

/// The number that these digits write; too large a one is as good as another.
fn number(digits: &[u8], radix: u32) -> u32 {
    digits.iter().fold(0_u32, |number, digit| {
        let digit = char::from(*digit).to_digit(radix).unwrap_or_default();
        number.saturating_mul(radix).saturating_add(digit)
    })
}

/// Some numbers mean what windows-1252 means by them, or nothing at all.
fn push_numbered(number: u32, resolved: &mut Vec<u8>) {
    const REPLACEMENT: u32 = 0xFFFD;
    let code_point = match number {
        0 | 0xD800..=0xDFFF | 0x11_0000.. => REPLACEMENT,
        0x80..=0x9F => WINDOWS_1252[number as usize - 0x80].into(),
        1..=8 | 0xB | 0xE..=0x1F | 0x7F | 0xFDD0..=0xFDEF => return,
        _ if number & 0xFFFE == 0xFFFE => return,
        _ => number,
    };
    text::push(resolved, code_point);
}

/// What the numbers from 0x80 on mean.
const WINDOWS_1252: [u16; 32] = [
    0x20AC, 0x81, 0x201A, 0x192, 0x201E, 0x2026, 0x2020, 0x2021, 0x2C6, 0x2030, 0x160, 0x2039,
    0x152, 0x8D, 0x17D, 0x8F, 0x90, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x2DC,
    0x2122, 0x161, 0x203A, 0x153, 0x9D, 0x17E, 0x178,
];

/// The bytes of what could be a name, with a semicolon after it.
fn length_of_name(rest: &[u8]) -> usize {
    let mut end = 0;
    let mut chars = 0;
    while chars < MAX_NAME_CHARS
        && end < rest.len()
        && !matches!(
            rest[end],
            b'\t' | b'\n' | 0x0C | b' ' | b'<' | b'&' | b'#' | b';'
        )
    {
        end = text::end_of_char(rest, end);
        chars += 1;
    }
    if end > 0 && rest.get(end) == Some(&b';') {
        end += 1;
    }
    end
}

/// The whole name, or the longest beginning of it that is one, or nothing that stands for another.
fn push_named(name: &[u8], resolved: &mut Vec<u8>) {
    let mut lengths = std::iter::once(name.len()).chain((MIN_NAME_BYTES..name.len()).rev());
    let found = lengths.find_map(|length| Some((length, NAMES.get(&name[..length])?)));
    let (length, code_points) = found.unwrap_or((0, &"26"));
    for code_point in code_points.split(' ') {
        text::push(
            resolved,
            u32::from_str_radix(code_point, 16).unwrap_or_default(),
        );
    }
    resolved.extend_from_slice(&name[length..]);
}

/// Names, those with a semicolon among them, and code points in hexadecimal.
static NAMES: LazyLock<HashMap<&[u8], &str>> = LazyLock::new(|| {
    let lines = include_str!("tables/entities.txt").lines();
    let entries = lines.filter_map(|line| line.split_once(' '));
    entries
        .map(|(name, code_points)| (name.as_bytes(), code_points))
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> String {
        String::from_utf8(resolve(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn names_need_no_semicolon_if_they_are_old() {
        assert_eq!(
            resolved("&amp;&amp &ampx &notit; &notin; &"),
            "&& &x ¬it; ∉ &"
        );
        assert_eq!(resolved("&NotEqualTilde;&b.nu;&x;"), "≂̸&b.nu;&x;");
        assert_eq!(resolved("&&lt;&#&#x;&#xg;"), "&<&#&#x;&#xg;");
    }

    #[test]
    fn numbers_may_mean_something_else() {
        assert_eq!(resolved("&#128;&#x80&#65&#X41;"), "€€AA");
        assert_eq!(
            resolved("&#0;&#xD800;&#99999999999;"),
            "\u{FFFD}\u{FFFD}\u{FFFD}"
        );
        assert_eq!(resolved("a&#1;&#11;&#xFFFE;&#x1FFFF;&#127;b&#13;"), "ab\r");
    }

    #[test]
    fn a_name_is_looked_for_among_32_characters() {
        let long = format!("&amp{}", "x".repeat(40));
        assert_eq!(resolved(&long), format!("&{}", "x".repeat(40)));
        assert_eq!(resolved("&amp\u{A0}é;"), "&\u{A0}é;");
    }

    #[test]
    fn a_number_of_too_many_digits_is_unreadable() {
        assert!(resolve(format!("&#{}", "0".repeat(4_301)).as_bytes()).is_err());
        assert_eq!(resolved(&format!("&#{};", "0".repeat(4_300))), "\u{FFFD}");
        assert_eq!(resolved(&format!("&#x{}41;", "0".repeat(5_000))), "A");
    }
}
