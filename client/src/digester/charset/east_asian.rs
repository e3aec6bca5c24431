//! Charsets of Chinese, Japanese and Korean without state. A byte that begins nothing is one error, and the next one is
//! read afresh, be it ASCII or not; at the end of the text, bytes that could begin something are one error together.

use super::Sink;
use super::two_byte::{self, Characters, Table};

/// How a charset differs from others.
#[derive(Debug)]
pub(super) struct EastAsian {
    name: &'static str,
    /// Bytes that are characters alone.
    single: fn(u8) -> Option<u32>,
    pairs: &'static Table,
    longer: Longer,
}

/// What there is beside pairs.
#[derive(Debug)]
enum Longer {
    Nothing,
    /// Three bytes that begin with `0x8F`: JIS X 0212.
    Jisx0212,
    /// The same, and the second plane of JIS X 0213.
    Triples,
    /// The same, with one character that moved since; pairs that came later are errors of two bytes.
    OldTriples,
    /// Only such pairs.
    OldPairs,
    /// Four bytes, the second and the last of them digits.
    Gb18030,
    /// Eight bytes that spell a Korean syllable.
    Syllables,
}

/// The charset of this name.
pub(super) fn of_name(name: &str) -> Option<&'static EastAsian> {
    CHARSETS.iter().find(|charset| charset.name == name)
}

const fn pairs(name: &'static str, pairs: &'static Table) -> EastAsian {
    with(name, ascii, pairs, Longer::Nothing)
}

const fn with(
    name: &'static str,
    single: fn(u8) -> Option<u32>,
    pairs: &'static Table,
    longer: Longer,
) -> EastAsian {
    EastAsian {
        name,
        single,
        pairs,
        longer,
    }
}

static CHARSETS: [EastAsian; 16] = [
    pairs("big5", &two_byte::BIG5),
    pairs("big5hkscs", &two_byte::BIG5_HKSCS),
    with("cp932", cp932, &two_byte::CP932, Longer::Nothing),
    pairs("cp949", &two_byte::CP949),
    pairs("cp950", &two_byte::CP950),
    with(
        "euc_jis_2004",
        ascii,
        &two_byte::EUC_JIS_2004,
        Longer::Triples,
    ),
    with(
        "euc_jisx0213",
        ascii,
        &two_byte::EUC_JISX0213,
        Longer::OldTriples,
    ),
    with("euc_jp", ascii, &two_byte::EUC_JP, Longer::Jisx0212),
    with("euc_kr", ascii, &two_byte::EUC_KR, Longer::Syllables),
    with("gb18030", ascii, &two_byte::GB18030, Longer::Gb18030),
    pairs("gb2312", &two_byte::GB2312),
    pairs("gbk", &two_byte::GBK),
    pairs("johab", &two_byte::JOHAB),
    with(
        "shift_jis",
        shift_jis,
        &two_byte::SHIFT_JIS,
        Longer::Nothing,
    ),
    with(
        "shift_jis_2004",
        shift_jis_2004,
        &two_byte::SHIFT_JIS_2004,
        Longer::Nothing,
    ),
    with(
        "shift_jisx0213",
        shift_jis_2004,
        &two_byte::SHIFT_JISX0213,
        Longer::OldPairs,
    ),
];

/// What bytes begin with.
enum Found {
    /// A character of so many bytes.
    Characters(usize, Characters),
    /// So many bytes that stand for nothing.
    Nothing(usize),
    /// Too few bytes to tell.
    TooFew,
}

impl Found {
    fn of(length: usize, characters: Option<Characters>) -> Self {
        characters.map_or(Self::Nothing(1), |characters| {
            Self::Characters(length, characters)
        })
    }
}

impl EastAsian {
    pub(super) fn decode(&self, mut bytes: &[u8], sink: &mut Sink) {
        while let [first, rest @ ..] = bytes {
            if let Some(code_point) = (self.single)(*first) {
                sink.push(code_point);
                bytes = rest;
                continue;
            }
            match self.longer(bytes) {
                Found::Characters(length, [code_point, combining]) => {
                    sink.push(code_point);
                    if combining != 0 {
                        sink.push(combining);
                    }
                    bytes = &bytes[length..];
                }
                Found::Nothing(length) => {
                    sink.error();
                    bytes = &bytes[length..];
                }
                Found::TooFew => {
                    sink.error();
                    return;
                }
            }
        }
    }

    fn longer(&self, bytes: &[u8]) -> Found {
        let &[first, second, ..] = bytes else {
            return Found::TooFew;
        };
        match (&self.longer, first, second) {
            (Longer::Jisx0212, 0x8F, _) => triple(bytes, |second, third| {
                two_byte::JISX0212.find(second, third)
            }),
            (Longer::Triples, 0x8F, _) => triple(bytes, either_plane),
            (Longer::OldTriples, 0x8F, _) => triple(bytes, |second, third| match (second, third) {
                (0xFD, 0xBB) => Some([0x9B1D, 0]),
                _ => either_plane(second, third),
            }),
            (Longer::Gb18030, _, b'0'..=b'9') => gb18030(bytes),
            (Longer::Syllables, SYLLABLE, FILLER) => syllable(bytes),
            (Longer::OldTriples | Longer::OldPairs, _, _) if self.pairs.has_lost(first, second) => {
                Found::Nothing(2)
            }
            _ => Found::of(2, self.pairs.find(first, second)),
        }
    }
}

fn triple(bytes: &[u8], find: impl Fn(u8, u8) -> Option<Characters>) -> Found {
    match bytes {
        [_, second, third, ..] => Found::of(3, find(*second, *third)),
        _ => Found::TooFew,
    }
}

fn either_plane(second: u8, third: u8) -> Option<Characters> {
    let plane_2 = two_byte::JISX0213_PLANE_2.find(second, third);
    plane_2.or_else(|| two_byte::JISX0212.find(second, third))
}

/// First number, how many, first code point: 16 bits each, sorted.
const GB18030_RANGES: &[u8] = include_bytes!("../tables/gb18030.ranges");

/// The first byte from which on four bytes stand for code points above U+FFFF.
const GB18030_ASTRAL: u8 = 0x90;

fn gb18030(bytes: &[u8]) -> Found {
    let &[first, second, third, fourth, ..] = bytes else {
        return Found::TooFew;
    };
    if first < 0x81 || !(0x81..=0xFE).contains(&third) || !fourth.is_ascii_digit() {
        return Found::Nothing(1);
    }
    let number = |first: u8| {
        let tens = u32::from(first) * 10 + u32::from(second - b'0');
        (tens * 126 + u32::from(third - 0x81)) * 10 + u32::from(fourth - b'0')
    };
    let code_point = if first >= GB18030_ASTRAL {
        Some(0x1_0000 + number(first - GB18030_ASTRAL))
            .filter(|code_point| *code_point <= 0x10_FFFF)
    } else {
        gb18030_range(number(first - 0x81))
    };
    Found::of(4, code_point.map(|code_point| [code_point, 0]))
}

fn gb18030_range(number: u32) -> Option<u32> {
    let number = u16::try_from(number).ok()?;
    let (ranges, _) = GB18030_RANGES.as_chunks::<6>();
    let after = ranges.partition_point(|range| numbers(*range)[0] <= number);
    let [start, count, code_point] = numbers(ranges[after.checked_sub(1)?]);
    let offset = number - start;
    (offset < count).then(|| u32::from(code_point) + u32::from(offset))
}

fn numbers(range: [u8; 6]) -> [u16; 3] {
    [0, 2, 4].map(|at| u16::from_le_bytes([range[at], range[at + 1]]))
}

/// Each letter of a spelt syllable is a pair that begins with this,
const SYLLABLE: u8 = 0xA4;
/// and the first pair, as well as a last one that stands for nothing, ends with this.
const FILLER: u8 = 0xD4;

const FIRST_SYLLABLE: u32 = 0xAC00;
const VOWELS: u32 = 21;
const FINALS: u32 = 28;

fn syllable(bytes: &[u8]) -> Found {
    let Some(bytes) = bytes.first_chunk::<8>() else {
        return Found::TooFew;
    };
    Found::of(8, spelt(*bytes).map(|code_point| [code_point, 0]))
}

fn spelt(bytes: [u8; 8]) -> Option<u32> {
    let [_, _, SYLLABLE, initial, SYLLABLE, vowel, SYLLABLE, last] = bytes else {
        return None;
    };
    let initial = match initial {
        0xA1 | 0xA2 => initial - 0xA1,
        0xA4 => 2,
        0xA7..=0xA9 => initial - 0xA7 + 3,
        0xB1..=0xB3 => initial - 0xB1 + 6,
        0xB5..=0xBE => initial - 0xB5 + 9,
        _ => return None,
    };
    let vowel = match vowel {
        0xBF..=0xD3 => vowel - 0xBF,
        _ => return None,
    };
    let last = match last {
        FILLER => 0,
        0xA1..=0xA7 => last - 0xA1 + 1,
        0xA9..=0xB2 => last - 0xA9 + 8,
        0xB4..=0xB8 => last - 0xB4 + 18,
        0xBA..=0xBE => last - 0xBA + 23,
        _ => return None,
    };
    let [initial, vowel, last] = [initial, vowel, last].map(u32::from);
    Some(FIRST_SYLLABLE + (initial * VOWELS + vowel) * FINALS + last)
}

fn ascii(byte: u8) -> Option<u32> {
    byte.is_ascii().then_some(byte.into())
}

fn shift_jis(byte: u8) -> Option<u32> {
    match byte {
        0xA1..=0xDF => Some(0xFF61 + u32::from(byte - 0xA1)),
        _ => ascii(byte),
    }
}

fn shift_jis_2004(byte: u8) -> Option<u32> {
    match byte {
        b'\\' => Some(0xA5),
        b'~' => Some(0x203E),
        _ => shift_jis(byte),
    }
}

fn cp932(byte: u8) -> Option<u32> {
    match byte {
        0x80 => Some(0x80),
        0xA0 => Some(0xF8F0),
        0xFD..=0xFF => Some(0xF8F1 + u32::from(byte - 0xFD)),
        _ => shift_jis(byte),
    }
}
