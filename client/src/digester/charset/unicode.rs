//! ASCII and Unicode's own encodings.

use super::Sink;

/// The order of bytes in a unit of UTF-16 or UTF-32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Big,
    Little,
}

/// Decodes ASCII; each other byte is an error.
pub(super) fn decode_ascii(bytes: &[u8], sink: &mut Sink) {
    for run in bytes.chunk_by(|one, next| one.is_ascii() && next.is_ascii()) {
        if run.is_ascii() {
            sink.text.extend_from_slice(run);
        } else {
            sink.error();
        }
    }
}

/// Decodes UTF-8; each longest beginning of a character is one error.
pub(super) fn decode_utf8(bytes: &[u8], sink: &mut Sink) {
    for chunk in bytes.utf8_chunks() {
        sink.text.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            sink.error();
        }
    }
}

/// The same, but for a byte order mark at the beginning.
pub(super) fn decode_utf8_with_signature(bytes: &[u8], sink: &mut Sink) {
    decode_utf8(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes), sink);
}

/// Decodes UTF-16; without an order, by the byte order mark, or else little-endian.
pub(super) fn decode_utf16(order: Option<ByteOrder>, bytes: &[u8], sink: &mut Sink) {
    let (order, bytes) = match (order, bytes) {
        (Some(order), _) => (order, bytes),
        (None, [0xFE, 0xFF, rest @ ..]) => (ByteOrder::Big, rest),
        (None, [0xFF, 0xFE, rest @ ..]) => (ByteOrder::Little, rest),
        (None, _) => (ByteOrder::Little, bytes),
    };
    let (units, odd) = bytes.as_chunks();
    let units = units.iter().map(|unit| match order {
        ByteOrder::Big => u16::from_be_bytes(*unit),
        ByteOrder::Little => u16::from_le_bytes(*unit),
    });
    let mut ends_in_error = false;
    for decoded in char::decode_utf16(units) {
        ends_in_error = false;
        match decoded {
            Ok(char) => sink.push(char.into()),
            Err(error) => {
                ends_in_error = matches!(error.unpaired_surrogate(), 0xD800..0xDC00);
                sink.error();
            }
        }
    }
    // Half a pair at the end and half a unit after it are one error.
    if !odd.is_empty() && !ends_in_error {
        sink.error();
    }
}

/// Decodes UTF-32, in the same way.
pub(super) fn decode_utf32(order: Option<ByteOrder>, bytes: &[u8], sink: &mut Sink) {
    let (order, bytes) = match (order, bytes) {
        (Some(order), _) => (order, bytes),
        (None, [0, 0, 0xFE, 0xFF, rest @ ..]) => (ByteOrder::Big, rest),
        (None, [0xFF, 0xFE, 0, 0, rest @ ..]) => (ByteOrder::Little, rest),
        (None, _) => (ByteOrder::Little, bytes),
    };
    let (units, odd) = bytes.as_chunks();
    for unit in units {
        let code_point = match order {
            ByteOrder::Big => u32::from_be_bytes(*unit),
            ByteOrder::Little => u32::from_le_bytes(*unit),
        };
        match char::from_u32(code_point) {
            Some(_) => sink.push(code_point),
            None => sink.error(),
        }
    }
    if !odd.is_empty() {
        sink.error();
    }
}

/// The section of UTF-7 that is base64.
#[derive(Debug, Default)]
struct Section {
    bits: u32,
    bit_count: u32,
    /// The first half of a pair.
    surrogate: Option<u32>,
}

/// Decodes UTF-7, with a tolerance of its own: all of ASCII but `+` may stand for itself.
pub(super) fn decode_utf7(bytes: &[u8], sink: &mut Sink) {
    let mut section: Option<Section> = None;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if let Some(open) = &mut section {
            if let Some(value) = base64_value(byte) {
                open.add(value, sink);
                at += 1;
                continue;
            }
            let is_whole = open.bit_count < 6 && open.bits == 0;
            let surrogate = open.surrogate.take();
            section = None;
            if !is_whole {
                // The byte that ends a broken section goes with it.
                sink.error();
                at += 1;
                continue;
            }
            if let Some(surrogate) = surrogate
                && byte.is_ascii()
            {
                sink.push(surrogate);
            }
            at += usize::from(byte == b'-');
            continue;
        }
        at += 1;
        match (byte, bytes.get(at)) {
            (b'+', Some(b'-')) => {
                sink.push(b'+'.into());
                at += 1;
            }
            (b'+', Some(next)) if base64_value(*next).is_none() => {
                sink.error();
                at += 1;
            }
            (b'+', _) => section = Some(Section::default()),
            (0..0x80, _) => sink.push(byte.into()),
            _ => sink.error(),
        }
    }
    if section.is_some_and(|open| open.surrogate.is_some() || open.bit_count >= 6 || open.bits != 0)
    {
        sink.error();
    }
}

impl Section {
    fn add(&mut self, value: u32, sink: &mut Sink) {
        self.bits = self.bits << 6 | value;
        self.bit_count += 6;
        if self.bit_count < 16 {
            return;
        }
        self.bit_count -= 16;
        let unit = self.bits >> self.bit_count;
        self.bits &= (1 << self.bit_count) - 1;
        match (self.surrogate.take(), unit) {
            (Some(high), 0xDC00..0xE000) => {
                sink.push(0x1_0000 + ((high - 0xD800) << 10) + (unit - 0xDC00));
                return;
            }
            (Some(high), _) => sink.push(high),
            (None, _) => {}
        }
        if (0xD800..0xDC00).contains(&unit) {
            self.surrogate = Some(unit);
        } else {
            sink.push(unit);
        }
    }
}

fn base64_value(byte: u8) -> Option<u32> {
    Some(u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}
