//! Python's own notations of text, as charsets. A broken escape is one error, up to the byte that breaks it.

use super::Sink;

/// The largest code point.
const MAX_CODE_POINT: u32 = 0x10_FFFF;

/// Decodes `raw_unicode_escape`: Latin-1 with `\u` and `\U`.
pub(super) fn decode_raw_unicode_escape(bytes: &[u8], sink: &mut Sink) {
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'\\', [b'u', digits @ ..]) => hexadecimal(digits, 4, sink),
            (b'\\', [b'U', digits @ ..]) => hexadecimal(digits, 8, sink),
            (b'\\', [second, after @ ..]) => {
                sink.push(b'\\'.into());
                sink.push(u32::from(*second));
                after
            }
            _ => {
                sink.push(u32::from(*first));
                after
            }
        };
    }
}

/// Decodes `unicode_escape`: Latin-1 with the escapes of a string in Python's source. Those by name are errors here.
pub(super) fn decode_unicode_escape(bytes: &[u8], sink: &mut Sink) {
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'\\', []) => {
                sink.error();
                after
            }
            (b'\\', [second, after @ ..]) => escape(*second, after, sink),
            _ => {
                sink.push(u32::from(*first));
                after
            }
        };
    }
}

/// Reads an escape from its second byte on, and returns what is left.
fn escape<'a>(second: u8, after: &'a [u8], sink: &mut Sink) -> &'a [u8] {
    let code_point = match second {
        b'\n' => return after,
        b'x' => return hexadecimal(after, 2, sink),
        b'u' => return hexadecimal(after, 4, sink),
        b'U' => return hexadecimal(after, 8, sink),
        b'N' => return name(after, sink),
        b'0'..=b'7' => return octal(second, after, sink),
        b'a' => 7,
        b'b' => 8,
        b't' => 9,
        b'n' => 10,
        b'v' => 11,
        b'f' => 12,
        b'r' => 13,
        b'\\' | b'\'' | b'"' => u32::from(second),
        _ => {
            sink.push(b'\\'.into());
            u32::from(second)
        }
    };
    sink.push(code_point);
    after
}

fn hexadecimal<'a>(mut rest: &'a [u8], count: u32, sink: &mut Sink) -> &'a [u8] {
    let mut code_point = 0;
    for _ in 0..count {
        let digit = rest.first().and_then(|byte| char::from(*byte).to_digit(16));
        let Some(digit) = digit else {
            sink.error();
            return rest;
        };
        code_point = code_point << 4 | digit;
        rest = &rest[1..];
    }
    if code_point <= MAX_CODE_POINT {
        sink.push(code_point);
    } else {
        sink.error();
    }
    rest
}

fn octal<'a>(first: u8, mut rest: &'a [u8], sink: &mut Sink) -> &'a [u8] {
    let mut code_point = u32::from(first - b'0');
    for _ in 0..2 {
        let [digit @ b'0'..=b'7', after @ ..] = rest else {
            break;
        };
        code_point = code_point << 3 | u32::from(digit - b'0');
        rest = after;
    }
    sink.push(code_point);
    rest
}

fn name<'a>(rest: &'a [u8], sink: &mut Sink) -> &'a [u8] {
    sink.error();
    let Some(name) = rest.strip_prefix(b"{") else {
        return rest;
    };
    match memchr::memchr(b'}', name) {
        Some(0) => name,
        Some(end) => &name[end + 1..],
        None => &[],
    }
}
