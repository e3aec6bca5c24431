//! From a charset's name to its decoder.
//!
//! Case does not count, and neither does what punctuation there is between letters and digits, but for the full stop.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::east_asian::{self, EastAsian};
use super::shifting::Variant;
use super::unicode::ByteOrder;

/// How a charset is decoded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Codec {
    Ascii,
    /// The number of its table.
    SingleByte(usize),
    EastAsian(&'static EastAsian),
    Iso2022(Variant),
    Hz,
    Utf7,
    Utf8,
    Utf8WithSignature,
    Utf16(Option<ByteOrder>),
    Utf32(Option<ByteOrder>),
    UnicodeEscape,
    RawUnicodeEscape,
    Punycode,
    /// A charset by which nothing can be decoded.
    Nothing,
}

/// The decoder of the charset of this name.
pub(super) fn find(name: &str) -> Option<Codec> {
    let name = normalized(name);
    let (_, codec) = NAMES.get(name.as_str()).copied().or_else(|| {
        let (is_alias, codec) = *NAMES.get(name.replace('.', "_").as_str())?;
        // A full stop stands for an underscore in further names only.
        is_alias.then_some((is_alias, codec))
    })?;
    Some(codec)
}

/// All names, whether each is a further one, and what it stands for.
static NAMES: LazyLock<HashMap<&str, (bool, Codec)>> = LazyLock::new(|| {
    include_str!("../tables/names.txt")
        .lines()
        .filter_map(entry)
        .collect()
});

fn entry(line: &'static str) -> Option<(&'static str, (bool, Codec))> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let is_alias = words.next()? == "alias";
    let codec = match words.next()? {
        "single_byte" => Codec::SingleByte(words.next()?.parse().ok()?),
        kind => codec(kind)?,
    };
    Some((name, (is_alias, codec)))
}

fn codec(name: &str) -> Option<Codec> {
    Some(match name {
        "ascii" => Codec::Ascii,
        "hz" => Codec::Hz,
        "utf_7" => Codec::Utf7,
        "utf_8" => Codec::Utf8,
        "utf_8_sig" => Codec::Utf8WithSignature,
        "utf_16" => Codec::Utf16(None),
        "utf_16_be" => Codec::Utf16(Some(ByteOrder::Big)),
        "utf_16_le" => Codec::Utf16(Some(ByteOrder::Little)),
        "utf_32" => Codec::Utf32(None),
        "utf_32_be" => Codec::Utf32(Some(ByteOrder::Big)),
        "utf_32_le" => Codec::Utf32(Some(ByteOrder::Little)),
        "unicode_escape" => Codec::UnicodeEscape,
        "raw_unicode_escape" => Codec::RawUnicodeEscape,
        "punycode" => Codec::Punycode,
        "undefined" | "idna" => Codec::Nothing,
        _ => match Variant::of_name(name) {
            Some(variant) => Codec::Iso2022(variant),
            None => Codec::EastAsian(east_asian::of_name(name)?),
        },
    })
}

/// In lower case, with each run of punctuation between letters and digits as one underscore.
fn normalized(name: &str) -> String {
    let mut normalized = String::with_capacity(name.len());
    let mut is_apart = false;
    for byte in name.bytes() {
        if !byte.is_ascii_alphanumeric() && byte != b'.' {
            is_apart = true;
            continue;
        }
        if is_apart && !normalized.is_empty() {
            normalized.push('_');
        }
        is_apart = false;
        normalized.push(char::from(byte.to_ascii_lowercase()));
    }
    normalized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_decoder() {
        assert_eq!(
            NAMES.len(),
            include_str!("../tables/names.txt").lines().count()
        );
    }

    #[test]
    fn case_and_punctuation_do_not_count() {
        for name in ["UTF-8", " utf 8!", "utf\u{FFFD}8", "Utf8", "cp65001"] {
            assert!(matches!(find(name), Some(Codec::Utf8)), "{name}");
        }
        for name in ["utf.8", "", "-", "x-unknown", "rot13", "base64"] {
            assert!(find(name).is_none(), "{name}");
        }
        assert!(find("iso.8859.1").is_some());
    }
}
