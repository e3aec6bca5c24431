//! Characters. A Python string may hold lone surrogates, for which UTF-8 has no place: they count when a line is measured
//! and vanish when it is hashed. So a text is UTF-8 in which a surrogate is written as its code point would be, in three
//! bytes that begin with `0xED` and one of `0xA0` to `0xBF`.

/// Appends a character, or a surrogate.
pub(super) fn push(text: &mut Vec<u8>, code_point: u32) {
    match char::from_u32(code_point) {
        Some(char) => text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        None => text.extend_from_slice(&surrogate(code_point)),
    }
}

/// The three bytes of a code point that is no character.
fn surrogate(code_point: u32) -> [u8; 3] {
    let [_, _, high, low] = code_point.to_be_bytes();
    [
        0xE0 | (high >> 4),
        0x80 | ((high & 0x0F) << 2) | (low >> 6),
        0x80 | (low & 0x3F),
    ]
}

/// Where the character that begins at `at` ends.
pub(super) fn end_of_char(text: &[u8], at: usize) -> usize {
    let length = match text[at] {
        0..0xC0 => 1,
        0xC0..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0.. => 4,
    };
    (at + length).min(text.len())
}

/// The number of characters.
fn count(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

/// Bytes of the longest character.
const MAX_CHAR_BYTES: usize = 4;

/// Whether there are so many characters or more. Only texts of about that length have to be counted.
pub(super) fn has_chars(text: &[u8], chars: usize) -> bool {
    text.len() >= chars && (text.len() >= chars * MAX_CHAR_BYTES || count(text) >= chars)
}

/// The length in bytes of the white space character at `at`; 0 if there is none.
///
/// White space is what Python's `str.isspace` says: Unicode's, and the separators U+001C to U+001F.
pub(super) fn white_space(text: &[u8], at: usize) -> usize {
    match text[at..] {
        [b'\t'..=b'\r' | 0x1C..=b' ', ..] => 1,
        [0xC2, 0x85 | 0xA0, ..] => 2,
        [0xE1, 0x9A, 0x80, ..]
        | [0xE2, 0x80, 0x80..=0x8A | 0xA8 | 0xA9 | 0xAF, ..]
        | [0xE2, 0x81, 0x9F, ..]
        | [0xE3, 0x80, 0x80, ..] => 3,
        _ => 0,
    }
}

/// Past the word that begins at `at`: to the next white space, or the end.
pub(super) fn end_of_word(text: &[u8], mut at: usize) -> usize {
    while let Some(offset) = MAY_BEGIN_WHITE_SPACE.position(&text[at..]) {
        at += offset;
        if white_space(text, at) > 0 {
            return at;
        }
        at = end_of_char(text, at);
    }
    text.len()
}

static MAY_BEGIN_WHITE_SPACE: ByteSet = ByteSet::of(
    [[b'\t', b'\r'], [0x1C, b' '], [0xC2, 0xC2], [0xE1, 0xE3]],
    2,
);

/// Past the white space that begins at `at`.
pub(super) fn skip_white_space(text: &[u8], mut at: usize) -> usize {
    while at < text.len() {
        match white_space(text, at) {
            0 => break,
            length => at += length,
        }
    }
    at
}

/// Without white space at both ends.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    trim_end(&text[skip_white_space(text, 0)..])
}

/// Without white space at the end.
pub(super) fn trim_end(mut text: &[u8]) -> &[u8] {
    while let Some(last) = text.iter().rposition(|byte| byte & 0xC0 != 0x80) {
        if white_space(text, last) != text.len() - last {
            break;
        }
        text = &text[..last];
    }
    text
}

/// Whether a character is white space, as [`white_space`] says.
pub(super) fn is_white_space(char: char) -> bool {
    char.is_whitespace() || matches!(char, '\u{1C}'..='\u{1F}')
}

/// Bytes to look for, below and above a gap in which most of a text's bytes are.
#[derive(Debug)]
pub(super) struct ByteSet {
    is_in: [bool; 256],
    /// The first byte of the gap, and how many there are in it.
    gap: u8,
    gap_bytes: u8,
}

/// So many bytes are compared with the gap at once, which the compiler makes a few instructions of.
const CHUNK_BYTES: usize = 32;

impl ByteSet {
    /// The bytes of these ranges, in order; the gap is after so many of them.
    pub(super) const fn of<const RANGES: usize>(
        ranges: [[u8; 2]; RANGES],
        before_gap: usize,
    ) -> Self {
        let mut is_in = [false; 256];
        let mut number = 0;
        while number < RANGES {
            let [first, last] = ranges[number];
            let mut byte = first as usize;
            while byte <= last as usize {
                is_in[byte] = true;
                byte += 1;
            }
            number += 1;
        }
        let gap = ranges[before_gap - 1][1] + 1;
        Self {
            is_in,
            gap,
            gap_bytes: ranges[before_gap][0] - gap,
        }
    }

    /// Where the first of them is.
    pub(super) fn position(&self, text: &[u8]) -> Option<usize> {
        let (chunks, _) = text.as_chunks::<CHUNK_BYTES>();
        let skipped = chunks.iter().take_while(|chunk| self.has_none_in(chunk));
        let start = CHUNK_BYTES * skipped.count();
        let found = text[start..]
            .iter()
            .position(|byte| self.is_in[usize::from(*byte)]);
        found.map(|offset| start + offset)
    }

    /// Whether all bytes are in the gap.
    fn has_none_in(&self, chunk: &[u8; CHUNK_BYTES]) -> bool {
        let is_in_gap = |byte: &u8| byte.wrapping_sub(self.gap) < self.gap_bytes;
        chunk.iter().fold(true, |all, byte| all & is_in_gap(byte))
    }
}

/// The text as UTF-8: without surrogates.
pub(super) fn into_utf8(mut text: Vec<u8>) -> Vec<u8> {
    let is_surrogate = |pair: &[u8]| pair[0] == 0xED && pair[1] >= 0xA0;
    if text.windows(2).any(is_surrogate) {
        let mut at = 0;
        let mut kept = Vec::with_capacity(text.len());
        while at < text.len() {
            let end = end_of_char(&text, at);
            if end - at < 2 || !is_surrogate(&text[at..end]) {
                kept.extend_from_slice(&text[at..end]);
            }
            at = end;
        }
        text = kept;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_what_python_says() {
        let spaces: Vec<u32> = (0..=u32::from(char::MAX))
            .filter(|code_point| {
                let mut text = Vec::new();
                push(&mut text, *code_point);
                white_space(&text, 0) == text.len()
            })
            .collect();
        let expected: Vec<u32> = [9..=13, 28..=32, 0x85..=0x85, 0xA0..=0xA0, 0x1680..=0x1680]
            .into_iter()
            .chain([0x2000..=0x200A, 0x2028..=0x2029, 0x202F..=0x202F])
            .chain([0x205F..=0x205F, 0x3000..=0x3000])
            .flatten()
            .collect();
        assert_eq!(spaces, expected);
        let of_chars = (0..=u32::from(char::MAX))
            .filter(|code_point| char::from_u32(*code_point).is_some_and(is_white_space));
        assert_eq!(of_chars.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn surrogates_count_until_the_text_is_written() {
        let mut text = Vec::new();
        for code_point in [0x61, 0xD83D, 0xDE00, 0xD7FF, 0xE000] {
            push(&mut text, code_point);
        }
        assert_eq!(count(&text), 5);
        assert_eq!(into_utf8(text), "a\u{D7FF}\u{E000}".as_bytes());
    }

    #[test]
    fn characters_are_counted_where_bytes_do_not_tell() {
        for (text, chars) in [("", 0), ("abc", 3), ("äöü", 3), ("\u{10FFFF}\u{10FFFF}", 2)] {
            for asked in 0..5 {
                assert_eq!(
                    has_chars(text.as_bytes(), asked),
                    chars >= asked,
                    "{text} {asked}"
                );
            }
        }
    }

    #[test]
    fn bytes_are_found_wherever_they_stand() {
        let set = ByteSet::of([[b'\n', b'\n'], [0xC2, 0xC3]], 1);
        for length in [0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 1] {
            assert_eq!(set.position(&vec![b'x'; length]), None);
            for (at, byte) in (0..length).flat_map(|at| [b'\n', 0xC2, 0xC3].map(|byte| (at, byte)))
            {
                let mut text = vec![b'x'; length];
                text[at] = byte;
                assert_eq!(set.position(&text), Some(at));
            }
            assert_eq!(set.position(&vec![0xC4; length]), None);
        }
    }

    #[test]
    fn white_space_is_trimmed_at_both_ends() {
        assert_eq!(trim("\u{3000} \u{1F}a b\u{A0}\n".as_bytes()), b"a b");
        assert_eq!(trim(b" \t"), b"");
        assert_eq!(trim_end(b" x "), b" x");
    }
}
