//! ISO-2022 and HZ: seven bits, and sequences that shift between sets of characters.

use super::two_byte::{self, Characters, Table};
use super::{Failure, Sink};

const ESCAPE: u8 = 0x1B;
const SHIFT_OUT: u8 = 0x0E;
const SHIFT_IN: u8 = 0x0F;

/// An escape sequence ends within so many bytes.
const MAX_ESCAPE_BYTES: usize = 16;

/// Which of the ISO-2022 charsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    Jp,
    Jp1,
    Jp2,
    Jp2004,
    Jp3,
    JpExt,
    Kr,
}

impl Variant {
    /// That of this name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "iso2022_jp" => Self::Jp,
            "iso2022_jp_1" => Self::Jp1,
            "iso2022_jp_2" => Self::Jp2,
            "iso2022_jp_2004" => Self::Jp2004,
            "iso2022_jp_3" => Self::Jp3,
            "iso2022_jp_ext" => Self::JpExt,
            "iso2022_kr" => Self::Kr,
            _ => return None,
        })
    }

    /// The set of characters of one byte that an escape sequence with this end shifts to.
    fn single_set(self, end: u8) -> Option<Set> {
        Some(match (self, end) {
            (_, b'B') => Set::Ascii,
            (Self::Jp | Self::Jp1 | Self::Jp2 | Self::JpExt, b'J') => Set::Roman,
            (Self::JpExt, b'I') => Set::Katakana,
            (Self::Jp2, b'A') => Set::Latin1,
            (Self::Jp2, b'F') => Set::Greek,
            _ => return None,
        })
    }

    /// The same for characters of two bytes.
    fn double_set(self, end: u8) -> Option<Set> {
        let table = match (self, end) {
            (Self::Kr | Self::Jp2, b'C') => return Some(Set::Korean),
            (Self::Kr, _) => return None,
            (_, b'B') | (Self::Jp | Self::Jp1 | Self::Jp2 | Self::JpExt, b'@') => &two_byte::EUC_JP,
            (Self::Jp1 | Self::Jp2 | Self::JpExt, b'D') => &two_byte::JISX0212,
            (Self::Jp2, b'A') => &two_byte::GB2312,
            (Self::Jp3, b'O') => return Some(Set::Jisx0213(&two_byte::EUC_JISX0213)),
            (Self::Jp2004, b'Q') => return Some(Set::Jisx0213(&two_byte::EUC_JIS_2004)),
            (Self::Jp3 | Self::Jp2004, b'P') => &two_byte::JISX0213_PLANE_2,
            _ => return None,
        };
        Some(Set::Double(table))
    }
}

/// A set of characters.
#[derive(Clone, Copy, Debug)]
enum Set {
    Ascii,
    /// Japan's ASCII.
    Roman,
    Katakana,
    /// Latin-1's upper half: for single characters only.
    Latin1,
    /// ISO-8859-7's upper half: for single characters only.
    Greek,
    Double(&'static Table),
    Jisx0213(&'static Table),
    Korean,
}

impl Set {
    /// Bytes in a character.
    fn width(self) -> usize {
        match self {
            Self::Double(_) | Self::Jisx0213(_) | Self::Korean => 2,
            _ => 1,
        }
    }

    /// What as many bytes as there are in a character stand for.
    fn find(self, bytes: &[u8]) -> Option<Characters> {
        match (self, bytes) {
            (Self::Roman, [b'\\']) => Some([0xA5, 0]),
            (Self::Roman, [b'~']) => Some([0x203E, 0]),
            (Self::Ascii | Self::Roman, [byte]) => Some([u32::from(*byte), 0]),
            (Self::Katakana, [byte @ 0x21..=0x5F]) => Some([0xFF61 + u32::from(byte - 0x21), 0]),
            (Self::Jisx0213(_), [0x22, 0x32]) => Some([u32::from(b'~'), 0]),
            (Self::Korean, [0x24, 0x54]) => Some([0x3164, 0]),
            (Self::Korean, pair) => in_upper_half(&two_byte::EUC_KR, pair),
            (Self::Double(table) | Self::Jisx0213(table), pair) => in_upper_half(table, pair),
            _ => None,
        }
    }
}

/// The tables hold the charsets that set the highest bit of each byte.
fn in_upper_half(table: &Table, pair: &[u8]) -> Option<Characters> {
    match pair {
        [first @ 0x21..=0x7E, second @ 0x21..=0x7E] => table.find(first | 0x80, second | 0x80),
        _ => None,
    }
}

/// Why bytes are no character.
enum Trouble {
    /// So many bytes are skipped.
    Skip(usize),
    /// Too few bytes are left to tell.
    TooFew,
    /// The reference fails.
    Crash,
}

struct Iso2022 {
    variant: Variant,
    /// Where one shifts between by escape sequences, between the first two by single bytes, and to the third for a
    /// single character.
    sets: [Set; 3],
    is_shifted: bool,
    /// Inside an escape sequence of another kind, which is text.
    is_escaping: bool,
}

/// Decodes one of the ISO-2022 charsets.
pub(super) fn decode_iso2022(
    variant: Variant,
    mut bytes: &[u8],
    sink: &mut Sink,
) -> Result<(), Failure> {
    let mut state = Iso2022 {
        variant,
        sets: [Set::Ascii; 3],
        is_shifted: false,
        is_escaping: false,
    };
    while !bytes.is_empty() {
        match state.step(bytes, sink) {
            Ok(length) => bytes = &bytes[length..],
            Err(Trouble::Skip(length)) => {
                sink.error();
                bytes = &bytes[length..];
            }
            Err(Trouble::TooFew) => {
                sink.error();
                break;
            }
            Err(Trouble::Crash) => return Err(Failure::Crash),
        }
    }
    Ok(())
}

impl Iso2022 {
    /// Reads a character or a shift, and says how many bytes it is long.
    fn step(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<usize, Trouble> {
        let byte = bytes[0];
        if self.is_escaping {
            self.is_escaping = !ends_escape(byte);
            sink.push(byte.into());
            return Ok(1);
        }
        let shifts = self.variant == Variant::Kr;
        match byte {
            ESCAPE => self.escape(bytes, sink),
            SHIFT_IN | SHIFT_OUT if shifts => {
                self.is_shifted = byte == SHIFT_OUT;
                Ok(1)
            }
            b'\n' => {
                self.is_shifted = false;
                sink.push(byte.into());
                Ok(1)
            }
            0x80.. => Err(Trouble::Skip(1)),
            0..0x20 => {
                sink.push(byte.into());
                Ok(1)
            }
            _ => character(self.sets[usize::from(self.is_shifted)], bytes, sink),
        }
    }

    fn escape(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<usize, Trouble> {
        let has_third_set = self.variant == Variant::Jp2;
        match *bytes {
            [_] => Err(Trouble::TooFew),
            [_, b'(' | b')' | b'$' | b'.' | b'&', ..] => self.shift(bytes),
            [_, b'N', ..] if has_third_set => {
                let byte = *bytes.get(2).ok_or(Trouble::TooFew)?;
                sink.push(self.third_set(byte)?);
                Ok(3)
            }
            _ => {
                sink.push(ESCAPE.into());
                self.is_escaping = true;
                Ok(1)
            }
        }
    }

    fn shift(&mut self, bytes: &[u8]) -> Result<usize, Trouble> {
        let length = self.escape_length(bytes)?;
        let sequence = &bytes[1..length];
        let single = |end| self.variant.single_set(end);
        let double = |end| self.variant.double_set(end);
        let has_third_set = self.variant == Variant::Jp2;
        let (number, set) = match *sequence {
            [b'$', end] | [b'$', b'(', end] => (0, double(end)),
            [b'(', end] => (0, single(end)),
            [b'$', b')', end] => (1, double(end)),
            [b')', end] => (1, single(end)),
            [b'.', end] if has_third_set => (2, single(end)),
            // JIS X 0208 with a prefix that tells its edition.
            [_, _, ESCAPE, b'$', b'B'] if self.variant != Variant::Kr => (0, double(b'B')),
            _ => (0, None),
        };
        self.sets[number] = set.ok_or(Trouble::Skip(length))?;
        Ok(length)
    }

    /// The length of an escape sequence, with the escape.
    fn escape_length(&self, bytes: &[u8]) -> Result<usize, Trouble> {
        let mut at = 1;
        while at < MAX_ESCAPE_BYTES {
            let byte = *bytes.get(at).ok_or(Trouble::TooFew)?;
            if ends_escape(byte) {
                return Ok(at + 1);
            }
            if self.variant != Variant::Kr && bytes[at..].starts_with(b"&@") {
                at += 2;
            }
            at += 1;
        }
        Err(Trouble::Skip(1))
    }

    fn third_set(&self, byte: u8) -> Result<u32, Trouble> {
        let code_point = match self.sets[2] {
            Set::Ascii => byte.is_ascii().then_some(byte.into()),
            Set::Latin1 => byte.is_ascii().then_some(u32::from(byte) + 0x80),
            Set::Greek => greek(byte ^ 0x80),
            _ => return Err(Trouble::Crash),
        };
        code_point.ok_or(Trouble::Skip(3))
    }
}

fn character(set: Set, bytes: &[u8], sink: &mut Sink) -> Result<usize, Trouble> {
    let width = set.width();
    let bytes = bytes.get(..width).ok_or(Trouble::TooFew)?;
    let [code_point, combining] = set.find(bytes).ok_or(Trouble::Skip(width))?;
    sink.push(code_point);
    if combining != 0 {
        sink.push(combining);
    }
    Ok(width)
}

fn ends_escape(byte: u8) -> bool {
    matches!(byte, b'@'..=b'Z')
}

/// ISO-8859-7 as it was in 1987.
fn greek(byte: u8) -> Option<u32> {
    Some(match byte {
        0xA1 => 0x2018,
        0xA2 => 0x2019,
        0xAF => 0x2015,
        0xA4 | 0xA5 | 0xAA | 0xAE | 0xD2 | 0xFF => return None,
        0..=0xB3 | 0xB7 | 0xBB | 0xBD => byte.into(),
        _ => 0x2D0 + u32::from(byte),
    })
}

/// Decodes HZ: a tilde and a brace shift between ASCII and GB 2312.
pub(super) fn decode_hz(mut bytes: &[u8], sink: &mut Sink) {
    let mut is_shifted = false;
    while let [first, rest @ ..] = bytes {
        let step = match (bytes, is_shifted) {
            ([b'~'], _) => Err(Trouble::TooFew),
            ([b'~', b'~', ..], false) => Ok((2, Some([u32::from(b'~'), 0]))),
            ([b'~', b'\n', ..], false) => Ok((2, None)),
            ([b'~', b'{', ..], false) | ([b'~', b'}', ..], true) => {
                is_shifted = !is_shifted;
                Ok((2, None))
            }
            ([b'~' | 0x80.., ..], _) => Err(Trouble::Skip(1)),
            (_, false) => Ok((1, Some([u32::from(*first), 0]))),
            ([_], true) => Err(Trouble::TooFew),
            (_, true) => match in_upper_half(&two_byte::GB2312, &bytes[..2]) {
                None => Err(Trouble::Skip(1)),
                found => Ok((2, found)),
            },
        };
        match step {
            Ok((length, found)) => {
                if let Some([code_point, _]) = found {
                    sink.push(code_point);
                }
                bytes = &bytes[length..];
            }
            Err(Trouble::TooFew) => {
                sink.error();
                return;
            }
            Err(_) => {
                sink.error();
                bytes = rest;
            }
        }
    }
}
