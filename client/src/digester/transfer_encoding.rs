//! Undoing a transfer encoding, however damaged: base64, quoted-printable, uuencode. Anything else is taken as it stands.

use std::borrow::Cow;

/// The bytes that a payload stands for, under the transfer encoding of this name, in lower case.
pub(super) fn decode<'a>(name: &str, payload: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
    match name {
        "quoted-printable" => Cow::Owned(decode_quoted_printable(&payload)),
        "base64" => Cow::Owned(decode_base64(&payload)),
        "x-uuencode" | "uuencode" | "uue" | "x-uue" => {
            decode_uuencode(&payload).map_or(payload, Cow::Owned)
        }
        _ => payload,
    }
}

/// An equals sign at a line's end joins lines, and swallows all up to LF after a CR; one that makes no sense stays.
fn decode_quoted_printable(payload: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(payload.len());
    let mut rest = payload;
    while let Some(at) = memchr::memchr(b'=', rest) {
        decoded.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        match rest {
            [] => {}
            [b'\n' | b'\r', ..] => {
                let line_end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                rest = &rest[line_end..];
            }
            [b'=', ..] => {
                decoded.push(b'=');
                rest = &rest[1..];
            }
            [high, low, ..] => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = &rest[2..];
                }
                _ => decoded.push(b'='),
            },
            [_] => decoded.push(b'='),
        }
    }
    decoded.extend_from_slice(rest);
    decoded
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// First read strictly, as if as much padding stood at the end as is missing; then leniently, with the padding that is
/// there; then with all that could be needed; and if nothing helps taken as it stands, in one line.
fn decode_base64(payload: &[u8]) -> Vec<u8> {
    let mut encoded: Vec<u8> = payload.to_vec();
    encoded.retain(|byte| !matches!(byte, b'\r' | b'\n'));
    let missing = (4 - encoded.len() % 4) % 4;
    read_base64(encoded.iter().copied().chain(vec![b'='; missing]), true)
        .or_else(|| read_base64(encoded.iter().copied(), false))
        .or_else(|| read_base64(encoded.iter().copied().chain(*b"=="), false))
        .unwrap_or(encoded)
}

/// What base64 stands for, up to a whole padding; none if it ends too early, or is not perfect and `is_strict`.
fn read_base64(encoded: impl Iterator<Item = u8>, is_strict: bool) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(encoded.size_hint().0 / 4 * 3 + 3);
    let (mut place, mut bits, mut pads) = (0, 0_u32, 0);
    let mut is_padded = false;
    let mut encoded = encoded.enumerate().peekable();
    while let Some((at, byte)) = encoded.next() {
        if byte == b'=' {
            if is_strict && at == 0 {
                return None;
            }
            is_padded = true;
            pads += u32::from(place >= 2);
            if place >= 2 && place + pads >= 4 {
                let is_excess = is_strict && encoded.peek().is_some();
                return (!is_excess).then_some(decoded);
            }
            continue;
        }
        let Some(value) = base64_value(byte) else {
            if is_strict {
                return None;
            }
            continue;
        };
        if is_strict && is_padded {
            return None;
        }
        pads = 0;
        bits = bits << 6 | u32::from(value);
        place = (place + 1) % 4;
        if place != 1 {
            // Of 12 bits 4 are left over, of 18 bits 2, of 24 none.
            let unused_bits = (4 - place) % 4 * 2;
            decoded.push((bits >> unused_bits).to_le_bytes()[0]);
        }
    }
    (place == 0).then_some(decoded)
}

fn base64_value(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// The lines between `begin` and `end`; none if there is no beginning, an empty line, or one that cannot be read.
fn decode_uuencode(payload: &[u8]) -> Option<Vec<u8>> {
    let mut lines = split_lines(payload);
    lines.find(|line| is_begin(line))?;
    let mut decoded = Vec::new();
    for line in lines {
        if line.is_empty() {
            return None;
        }
        if trim(line, b" \t\r\n\x0C") == b"end" {
            break;
        }
        decoded.extend(read_uuencoded_line(line).or_else(|| {
            // Some encoders write garbage after a line: as much is taken as its length asks for.
            let length = (usize::from(line[0].wrapping_sub(b' ') & 63) * 4 + 5) / 3;
            read_uuencoded_line(&line[..length.min(line.len())])
        })?);
    }
    Some(decoded)
}

/// The lines of bytes, without their ends.
fn split_lines(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        let (line, end) = rest.split_at(length);
        let end_length = if end.starts_with(b"\r\n") {
            2
        } else {
            end.len().min(1)
        };
        rest = &end[end_length..];
        Some(line)
    })
}

/// `begin `, a mode in octal digits, and anything.
fn is_begin(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"begin ") else {
        return false;
    };
    let mode = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
    is_octal(mode)
}

/// Whether Python reads this as an octal number: white space, a sign, `0o` and single underscores are allowed.
fn is_octal(number: &[u8]) -> bool {
    let number = trim(number, b" \t\n\r\x0B\x0C");
    let number = match number {
        [b'+' | b'-', rest @ ..] => rest,
        _ => number,
    };
    let digits = match number {
        [b'0', b'o' | b'O', b'_', rest @ ..] | [b'0', b'o' | b'O', rest @ ..] => rest,
        _ => number,
    };
    let mut groups = digits.split(|byte| *byte == b'_');
    groups.all(|group| !group.is_empty() && group.iter().all(|digit| matches!(digit, b'0'..=b'7')))
}

fn trim<'a>(mut text: &'a [u8], what: &[u8]) -> &'a [u8] {
    while let [first, rest @ ..] = text
        && what.contains(first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && what.contains(last)
    {
        text = rest;
    }
    text
}

/// The bytes of one line: it begins with their number, and what is missing at its end is zero.
fn read_uuencoded_line(line: &[u8]) -> Option<Vec<u8>> {
    let (length, mut rest) = match line {
        [] => return None,
        [first, rest @ ..] => (usize::from(first.wrapping_sub(b' ') & 63), rest),
    };
    let mut decoded = Vec::with_capacity(length);
    let (mut bits, mut bit_count) = (0_u32, 0);
    while decoded.len() < length {
        let value = match rest {
            [] => 0,
            [byte @ b' '..=b'`', after @ ..] => {
                rest = after;
                (byte - b' ') & 63
            }
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            decoded.push((bits >> bit_count).to_le_bytes()[0]);
        }
    }
    let is_padding = rest.iter().all(|byte| matches!(byte, b' ' | b'`'));
    is_padding.then_some(decoded)
}
