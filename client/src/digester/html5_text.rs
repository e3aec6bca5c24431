//! The text between the tags of HTML, as Python's `html.parser` finds it since it keeps to HTML 5: the rules of `CPython`
//! 3.14.2, for what the older one of `html_text` fails on. It too is given all at once and not told that this was all.

use super::html_tag::Quotes;
use super::html_text::{append_run, ends_in_reference};
use super::{Unreadable, character_references};

/// The runs of text, trimmed, with a space between them; without those in `script` and `style`.
pub(super) fn text_between_tags(html: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut reader = Reader {
        html,
        quotes: Quotes::of(html),
        text: Vec::new(),
        raw: None,
    };
    let mut at = 0;
    while let Some(next) = reader.step(at)? {
        at = next;
    }
    Ok(reader.text)
}

/// What becomes of the content of an element in which no tag counts but its own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Dropped,
    /// Text in which references stand for themselves.
    Verbatim,
    /// Text in which references count.
    Text,
}

/// Elements in which no tag counts but their own end.
const RAW_ELEMENTS: [(&[u8], Content); 9] = [
    (b"script", Content::Dropped),
    (b"style", Content::Dropped),
    (b"xmp", Content::Verbatim),
    (b"iframe", Content::Verbatim),
    (b"noembed", Content::Verbatim),
    (b"noframes", Content::Verbatim),
    (PLAINTEXT, Content::Verbatim),
    (b"textarea", Content::Text),
    (b"title", Content::Text),
];

/// This one has no end.
const PLAINTEXT: &[u8] = b"plaintext";

struct Reader<'a> {
    html: &'a [u8],
    quotes: Quotes,
    text: Vec<u8>,
    /// The element whose content comes next.
    raw: Option<(&'static [u8], Content)>,
}

impl Reader<'_> {
    /// Reads text up to markup, and the markup; returns where to go on, if it does not stop there.
    fn step(&mut self, at: usize) -> Result<Option<usize>, Unreadable> {
        if let Some((name, content)) = self.raw.take() {
            return self.raw_content(name, content, at);
        }
        let html = self.html;
        let markup = memchr::memchr(b'<', &html[at..]).map_or(html.len(), |offset| at + offset);
        let is_last = markup == html.len();
        if is_last && ends_in_reference(&html[at..], |text, at| is_space(text[at])) {
            return Ok(None);
        }
        let run = character_references::resolve(&html[at..markup])?;
        append_run(&mut self.text, &run);
        if is_last {
            return Ok(None);
        }
        self.markup(markup)
    }

    fn markup(&mut self, at: usize) -> Result<Option<usize>, Unreadable> {
        let after = at + 2;
        match self.html[at + 1..] {
            [] => Ok(None),
            [b'a'..=b'z' | b'A'..=b'Z', ..] => self.start_tag(at + 1),
            [b'/', b'a'..=b'z' | b'A'..=b'Z', ..] => {
                let tag = Tag::read(self.html, after, self.quotes);
                Ok(tag.map(|tag| tag.end))
            }
            [b'!', b'-', b'-', ..] => Ok(self.comment(at + 4)),
            [b'!', ref rest @ ..] if rest.starts_with(b"[CDATA[") => Ok(self.find(b"]]>", at + 9)),
            [b'!', ref rest @ ..] if is_doctype(rest) => Ok(self.find(b">", at + 9)),
            [b'/' | b'!' | b'?', ..] => Ok(self.find(b">", after)),
            _ => {
                append_run(&mut self.text, b"<");
                Ok(Some(at + 1))
            }
        }
    }

    fn start_tag(&mut self, name: usize) -> Result<Option<usize>, Unreadable> {
        let Some(tag) = Tag::read(self.html, name, self.quotes) else {
            return Ok(None);
        };
        if tag.has_unreadable_value {
            return Err(Unreadable);
        }
        if !tag.ends_itself {
            let name = &self.html[name..tag.name_end];
            let mut elements = RAW_ELEMENTS.into_iter();
            self.raw = elements.find(|(raw, _)| name.eq_ignore_ascii_case(raw));
        }
        Ok(Some(tag.end))
    }

    /// Reads up to the end tag of the element.
    fn raw_content(
        &mut self,
        name: &[u8],
        content: Content,
        at: usize,
    ) -> Result<Option<usize>, Unreadable> {
        let html = self.html;
        let end = if name == PLAINTEXT {
            html.len()
        } else if let Some(end) = self.find_end_tag(name, at) {
            end
        } else {
            return Ok(None);
        };
        match content {
            Content::Dropped => {}
            Content::Verbatim => append_run(&mut self.text, &html[at..end]),
            Content::Text => {
                let run = character_references::resolve(&html[at..end])?;
                append_run(&mut self.text, &run);
            }
        }
        Ok(Some(end))
    }

    fn find_end_tag(&self, name: &[u8], from: usize) -> Option<usize> {
        let starts = memchr::memmem::find_iter(&self.html[from..], b"</");
        starts.map(|offset| from + offset).find(|start| {
            let found = start + 2;
            let end = found + name.len();
            let is_name = |found: &[u8]| found.eq_ignore_ascii_case(name);
            self.html.get(found..end).is_some_and(is_name)
                && self.html.get(end).is_some_and(|byte| ends_name(*byte))
        })
    }

    /// Past the comment whose text begins at `from`.
    fn comment(&self, from: usize) -> Option<usize> {
        let rest = &self.html[from..];
        let close = memchr::memchr_iter(b'>', rest)
            .find(|at| rest[..*at].ends_with(b"--") || rest[..*at].ends_with(b"--!"));
        let abrupt = || match rest {
            [b'>', ..] => Some(0),
            [b'-', b'>', ..] => Some(1),
            _ => None,
        };
        Some(from + close.or_else(abrupt)? + 1)
    }

    /// Past the next `close`.
    fn find(&self, close: &[u8], from: usize) -> Option<usize> {
        let offset = memchr::memmem::find(self.html.get(from..)?, close)?;
        Some(from + offset + close.len())
    }
}

fn is_doctype(declaration: &[u8]) -> bool {
    let name = declaration.first_chunk::<7>();
    name.is_some_and(|name| name.eq_ignore_ascii_case(b"doctype"))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\r' | 0x0C | b' ')
}

/// What ends a tag's name.
fn ends_name(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b'/' | b'>')
}

/// A start tag or an end tag.
#[derive(Clone, Copy, Debug)]
struct Tag {
    name_end: usize,
    /// Past its last byte.
    end: usize,
    /// As `<br/>` does.
    ends_itself: bool,
    has_unreadable_value: bool,
}

impl Tag {
    /// The tag whose name begins at `name`; none if it does not end.
    fn read(html: &[u8], name: usize, quotes: Quotes) -> Option<Self> {
        let name_end = skip(html, name, |byte| !ends_name(byte));
        let mut has_unreadable_value = false;
        let mut gap = name_end;
        let mut at = skip_gap(html, gap);
        while at < html.len() && html[at] != b'>' && may_come_before_attribute(html[at - 1]) {
            // The first byte belongs to the name, whatever it is.
            let end = skip(html, at + 1, |byte| !ends_name(byte) && byte != b'=');
            gap = match value(html, end, quotes) {
                Some((value, end)) => {
                    has_unreadable_value |= character_references::resolve(value).is_err();
                    end
                }
                None => end,
            };
            at = skip_gap(html, gap);
        }
        (html.get(at) == Some(&b'>')).then(|| Self {
            name_end,
            end: at + 1,
            ends_itself: html[gap..at].ends_with(b"/"),
            has_unreadable_value,
        })
    }
}

fn skip(html: &[u8], at: usize, is: fn(u8) -> bool) -> usize {
    let length = html[at..].iter().take_while(|byte| is(**byte)).count();
    at + length
}

/// Past white space and slashes.
fn skip_gap(html: &[u8], at: usize) -> usize {
    skip(html, at, |byte| is_space(byte) || byte == b'/')
}

fn may_come_before_attribute(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b'/' | b'\'' | b'"')
}

/// The value after the name of an attribute that ends at `at`, and where it ends.
fn value(html: &[u8], at: usize, quotes: Quotes) -> Option<(&[u8], usize)> {
    let sign = skip(html, at, is_space);
    if html.get(sign) != Some(&b'=') {
        return None;
    }
    let start = skip(html, sign + 1, is_space);
    if let Some(close) = quotes.close(html, start) {
        return Some((&html[start + 1..close], close + 1));
    }
    if !matches!(html.get(start), Some(b'\'' | b'"')) {
        let end = skip(html, start, |byte| !is_space(byte) && byte != b'>');
        return Some((&html[start..end], end));
    }
    // The quotation does not close: the value is empty if a space can stand before it, else there is none.
    (start > sign + 1).then_some((&[], start))
}
