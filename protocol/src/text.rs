//! Text files as Python's programs read them: their lines, and what is white space.

/// White space as Python's `str.isspace` sees it: Unicode's, and the four separators U+001C to U+001F.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The text of a file without the byte order mark that some editors put before it. Python leaves it there, which makes the
/// first line mean something else than it shows.
pub fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text)
}

/// The lines of a file: they end with LF, CRLF or CR.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = without_bom(text);
    std::iter::from_fn(move || {
        let length = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let (line, end) = rest.split_at(length.unwrap_or(rest.len()));
        let was_last = rest.is_empty();
        rest = match end {
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
            [] => &[],
        };
        (!was_last).then_some(line)
    })
}

/// The text without white space at its ends.
pub fn trim(text: &[u8]) -> &[u8] {
    match str::from_utf8(text) {
        Ok(text) => text.trim_matches(is_space).as_bytes(),
        // Python refuses such a file; what can be told apart in it is.
        Err(_) => text.trim_ascii(),
    }
}

/// The parts of a text between white space.
pub fn words(text: &[u8]) -> Vec<&[u8]> {
    let words: Vec<&[u8]> = match str::from_utf8(text) {
        Ok(text) => text.split(is_space).map(str::as_bytes).collect(),
        Err(_) => text.split(u8::is_ascii_whitespace).collect(),
    };
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_python_reads_text_files() {
        let all: Vec<_> = lines(b"a\nb\r\nc\rd\n\n\x0be").collect();
        assert_eq!(all, [&b"a"[..], b"b", b"c", b"d", b"", b"\x0be"]);
        assert_eq!(lines(b"").count(), 0);
        assert_eq!(lines(b"x\n").count(), 1);
        let other_breaks = "a\u{2028}b\u{85}c".as_bytes();
        assert_eq!(lines(other_breaks).collect::<Vec<_>>(), [other_breaks]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let text = "\u{feff}a\n\u{feff}b".as_bytes();
        let all: Vec<_> = lines(text).collect();
        assert_eq!(all, [&b"a"[..], "\u{feff}b".as_bytes()]);
    }

    #[test]
    fn white_space_is_pythons() {
        for blank in [
            " ", "\t", "\u{a0}", "\u{2028}", "\u{1c}", "\u{b}", "\u{3000}", "\u{85}",
        ] {
            let text = format!("{blank}a b{blank}{blank}c{blank}");
            let expected = format!("a b{blank}{blank}c");
            assert_eq!(trim(text.as_bytes()), expected.as_bytes(), "{blank:?}");
            assert_eq!(words(text.as_bytes()), [b"a", b"b", b"c"], "{blank:?}");
        }
        assert_eq!(trim("\u{200b}a".as_bytes()), "\u{200b}a".as_bytes());
        assert_eq!(trim(b" \xa0a\xff\t"), b"\xa0a\xff");
        assert_eq!(words(b"a \xff b"), [&b"a"[..], b"\xff", b"b"]);
    }
}
