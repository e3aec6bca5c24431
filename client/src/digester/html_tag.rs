//! Where an HTML start tag ends, as Python's `html.parser` of 3.11.0 to 3.11.13 finds it: by two regular expressions, which are stated
//! here as what they come down to.

use super::{Unreadable, character_references, text};

/// A start tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StartTag {
    /// Past its last byte.
    pub(super) end: usize,
    pub(super) kind: TagKind,
}

/// What it turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TagKind {
    Opens,
    /// It ends itself: `<br/>`.
    Empty,
    /// It does not end as a tag does, and so it is text.
    Text,
}

/// The last place of each kind of quotation mark, to know whether one that opens is ever closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quotes {
    last_single: Option<usize>,
    last_double: Option<usize>,
}

impl Quotes {
    pub(super) fn of(html: &[u8]) -> Self {
        Self {
            last_single: memchr::memrchr(b'\'', html),
            last_double: memchr::memrchr(b'"', html),
        }
    }

    /// Where the quotation closes that opens at `at`; none if it does not, or if no mark stands there.
    pub(super) fn close(self, html: &[u8], at: usize) -> Option<usize> {
        let mark = *html.get(at)?;
        let last = match mark {
            b'\'' => self.last_single,
            b'"' => self.last_double,
            _ => None,
        };
        let after = at + 1;
        last.filter(|last| *last > at)?;
        Some(after + memchr::memchr(mark, &html[after..])?)
    }
}

/// Past the name that begins at `at`.
pub(super) fn end_of_name(html: &[u8], at: usize) -> usize {
    let is_end = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x0C | b' ' | b'/' | b'>' | 0);
    at + html[at..]
        .iter()
        .position(is_end)
        .unwrap_or(html.len() - at)
}

/// Reads the start tag of which the name ends at `name_end`; none if it does not end.
pub(super) fn read(
    html: &[u8],
    name_end: usize,
    quotes: Quotes,
) -> Result<Option<StartTag>, Unreadable> {
    let start = skip_separators(html, name_end);
    let mut at = start;
    let mut has_unreadable_value = false;
    while let Some(attribute) = attribute(html, at, quotes) {
        if let Some(value) = attribute.value {
            has_unreadable_value |= character_references::resolve(value).is_err();
        }
        at = skip_separators(html, attribute.end);
    }
    let attributes_end = at;
    if at == start {
        at = skip_spaces_and_slashes(html, name_end);
    }
    let end = match html[at..] {
        [b'>', ..] => at + 1,
        [b'/', b'>', ..] => at + 2,
        [] | [b'/' | b'=' | b'a'..=b'z' | b'A'..=b'Z', ..] => return Ok(None),
        _ => at,
    };
    if has_unreadable_value {
        return Err(Unreadable);
    }
    let kind = match text::trim(&html[attributes_end..end]) {
        b">" => TagKind::Opens,
        b"/>" => TagKind::Empty,
        _ => TagKind::Text,
    };
    Ok(Some(StartTag { end, kind }))
}

/// Past white space, and slashes that do not end the tag.
fn skip_separators(html: &[u8], mut at: usize) -> usize {
    loop {
        at = text::skip_white_space(html, at);
        match html[at..] {
            [b'/', b'>', ..] => return at,
            [b'/', ..] => at += 1,
            _ => return at,
        }
    }
}

fn skip_spaces_and_slashes(html: &[u8], mut at: usize) -> usize {
    loop {
        at = text::skip_white_space(html, at);
        match html[at..] {
            [b'/', ..] => at += 1,
            _ => return at,
        }
    }
}

struct Attribute<'a> {
    value: Option<&'a [u8]>,
    end: usize,
}

/// The attribute at `at`, if one begins there: after white space, a slash or a quotation mark.
fn attribute(html: &[u8], at: usize, quotes: Quotes) -> Option<Attribute<'_>> {
    if !may_begin(html, at) {
        return None;
    }
    let mut end = text::end_of_char(html, at);
    while end < html.len()
        && !matches!(html[end], b'/' | b'=' | b'>')
        && text::white_space(html, end) == 0
    {
        end = text::end_of_char(html, end);
    }
    Some(match value(html, end, quotes) {
        Some((value, end)) => Attribute {
            value: Some(value),
            end,
        },
        None => Attribute { value: None, end },
    })
}

fn may_begin(html: &[u8], at: usize) -> bool {
    if at == html.len() || matches!(html[at], b'/' | b'>') || text::white_space(html, at) > 0 {
        return false;
    }
    let before = html[..at].iter().rposition(|byte| byte & 0xC0 != 0x80);
    before.is_some_and(|before| {
        matches!(html[before], b'\'' | b'"' | b'/') || text::white_space(html, before) > 0
    })
}

/// The value after the name that ends at `at`, and where it ends.
fn value(html: &[u8], at: usize, quotes: Quotes) -> Option<(&[u8], usize)> {
    let signs = text::skip_white_space(html, at);
    let sign_count = html[signs..]
        .iter()
        .take_while(|byte| **byte == b'=')
        .count();
    if sign_count == 0 {
        return None;
    }
    let after_signs = signs + sign_count;
    let start = text::skip_white_space(html, after_signs);
    if let Some(close) = quotes.close(html, start) {
        return Some((&html[start + 1..close], close + 1));
    }
    if !matches!(html.get(start), Some(b'\'' | b'"')) {
        let end = end_of_bare_value(html, start);
        return Some((&html[start..end], end));
    }
    // The quotation does not close. The value is empty if a space can stand before it, or begins with the last of several
    // equals signs; else there is none.
    if start > after_signs {
        return Some((&[], start));
    }
    (sign_count > 1).then(|| {
        let end = end_of_bare_value(html, after_signs - 1);
        (&html[after_signs - 1..end], end)
    })
}

fn end_of_bare_value(html: &[u8], mut at: usize) -> usize {
    while at < html.len() && html[at] != b'>' && text::white_space(html, at) == 0 {
        at = text::end_of_char(html, at);
    }
    at
}
