//! The lines of a text, each without what differs from one copy of a mail to the next: long words, which may be random
//! identifiers, addresses, and white space.

use super::text::{self, ByteSet};

/// Words of this many characters or more are dropped.
const LONG_WORD_CHARS: usize = 10;

/// Lines of fewer characters than this are dropped.
const MIN_LINE_CHARS: usize = 8;

/// Appends the lines of a text that are long enough, normalised, as UTF-8.
pub(super) fn append_lines(text: &[u8], lines: &mut Vec<Vec<u8>>) {
    // Most lines of most mails are too short or dropped as a whole, so that what is left of one is kept apart only then.
    let mut kept = Vec::new();
    for line in split_lines(text) {
        kept.clear();
        normalize(line, &mut kept);
        if text::has_chars(&kept, MIN_LINE_CHARS) {
            lines.push(text::into_utf8(kept.clone()));
        }
    }
}

/// The lines between Unicode's line boundaries; a pair of CR and LF leaves an empty line, which is dropped anyhow.
fn split_lines(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let (length, boundary) = first_boundary(text);
        let line = &text[..length];
        text = &text[length + boundary..];
        Some(line)
    })
}

/// Where the first line ends, and the length of the boundary there.
fn first_boundary(text: &[u8]) -> (usize, usize) {
    let mut at = 0;
    while let Some(offset) = MAY_BEGIN_BOUNDARY.position(&text[at..]) {
        at += offset;
        let boundary = match text[at..] {
            [b'\n'..=b'\r' | 0x1C..=0x1E, ..] => 1,
            [0xC2, 0x85, ..] => 2,
            [0xE2, 0x80, 0xA8 | 0xA9, ..] => 3,
            _ => {
                at += 1;
                continue;
            }
        };
        return (at, boundary);
    }
    (text.len(), 0)
}

static MAY_BEGIN_BOUNDARY: ByteSet = ByteSet::of(
    [[b'\n', b'\r'], [0x1C, 0x1E], [0xC2, 0xC2], [0xE2, 0xE2]],
    2,
);

/// Appends what is left of a line.
fn normalize(line: &[u8], kept: &mut Vec<u8>) {
    // NULs go first: they do not part words, and what they stand in is short without them.
    let without_nul: Vec<u8>;
    let line = if memchr::memchr(0, line).is_some() {
        without_nul = line.iter().copied().filter(|byte| *byte != 0).collect();
        &without_nul
    } else {
        line
    };
    let mut at = text::skip_white_space(line, 0);
    while at < line.len() {
        let end = text::end_of_word(line, at);
        kept.extend_from_slice(kept_of_word(&line[at..end]));
        at = text::skip_white_space(line, end);
    }
}

/// What is left of a word: nothing of a long one or a mail address, and of a URL what stands before it.
fn kept_of_word(word: &[u8]) -> &[u8] {
    if text::has_chars(word, LONG_WORD_CHARS) || is_mail_address(word) {
        return &[];
    }
    &word[..start_of_url(word).unwrap_or(word.len())]
}

/// An `@` with something on both sides.
fn is_mail_address(word: &[u8]) -> bool {
    let inner = word.get(1..word.len().saturating_sub(1));
    inner.is_some_and(|inner| inner.contains(&b'@'))
}

/// Where the first URL begins: letters, a colon, and something after it.
fn start_of_url(word: &[u8]) -> Option<usize> {
    let colons = (1..word.len().saturating_sub(1)).filter(|at| word[*at] == b':');
    colons
        .map(|colon| (start_of_letters(&word[..colon]), colon))
        .find_map(|(start, colon)| (start < colon).then_some(start))
}

/// Where the letters at the end of this begin.
fn start_of_letters(word: &[u8]) -> usize {
    let mut start = word.len();
    while start > 0 {
        start -= match word[..start] {
            [.., byte] if byte.is_ascii_alphabetic() => 1,
            // U+0130, U+0131 and U+017F, which are i and s where case does not count, and the Kelvin sign, which is k.
            [.., 0xC4, 0xB0 | 0xB1] | [.., 0xC5, 0xBF] => 2,
            [.., 0xE2, 0x84, 0xAA] => 3,
            _ => break,
        };
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(line: &str) -> String {
        let mut kept = Vec::new();
        normalize(line.as_bytes(), &mut kept);
        String::from_utf8(kept).unwrap()
    }

    #[test]
    fn words_that_may_be_identifiers_go() {
        assert_eq!(left("a 1234567890 b"), "ab");
        assert_eq!(left("a 123456789 b"), "a123456789b");
        assert_eq!(left("ääääääääää ööööööööö"), "ööööööööö");
        assert_eq!(left("12345\u{85}67890"), "1234567890");
    }

    #[test]
    fn mail_addresses_go() {
        assert_eq!(left("a@b c"), "c");
        assert_eq!(left("@b b@ c"), "@bb@c");
        assert_eq!(left("@@b @a@ é@é c"), "@a@c");
    }

    #[test]
    fn urls_go_and_what_is_before_them_stays() {
        assert_eq!(left("(http://x y"), "(y");
        assert_eq!(left("a: :b 1:b"), "a::b1:b");
        assert_eq!(left("é:x ſ:x \u{212A}i:x a::"), "é:x");
        assert_eq!(left("1:a:b"), "1:");
        assert_eq!(left("a:b:c"), "");
    }

    #[test]
    fn nuls_go_before_words_are_measured() {
        assert_eq!(left("12345\x0067890 a"), "a");
        assert_eq!(left("@\0b"), "@b");
    }

    #[test]
    fn lines_end_where_unicode_says() {
        let text = "a\nb\rc\r\nd\u{B}e\u{C}f\u{1C}g\u{1D}h\u{1E}i\u{1F}j\u{85}k\u{2028}l\u{2029}m";
        let lines: Vec<_> = split_lines(text.as_bytes())
            .filter(|line| !line.is_empty())
            .collect();
        assert_eq!(lines.len(), 12);
        assert_eq!(lines[8], b"i\x1Fj");
    }

    #[test]
    fn short_lines_go() {
        let mut lines = Vec::new();
        append_lines(b"1 2 3 4 5 6 7\n1 2 3 4 5 6 7 8\n", &mut lines);
        assert_eq!(lines, [b"12345678"]);
    }
}
