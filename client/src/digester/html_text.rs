//! The text between the tags of HTML, as Python's `html.parser` of 3.11.0 to 3.11.13 finds it when it is given all at once
//! and not told that this was all: what a construct leaves unfinished at the end, and all that follows it, is not text.

use super::html_tag::{self, Quotes, TagKind};
use super::{Unreadable, character_references, text};

/// An ampersand among so many characters at the end may be the beginning of a reference.
const MAX_REFERENCE_CHARS: usize = 34;

/// The runs of text, trimmed, with a space between them; without those in `script` and `style`.
pub(super) fn text_between_tags(html: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut reader = Reader {
        html,
        quotes: Quotes::of(html),
        text: Vec::new(),
        raw: None,
    };
    let mut at = 0;
    while at < html.len() {
        match reader.step(at)? {
            Some(next) => at = next,
            None => break,
        }
    }
    Ok(reader.text)
}

/// An element of which the content is neither tags nor text that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RawElement {
    Script,
    Style,
}

impl RawElement {
    fn of_name(name: &[u8]) -> Option<Self> {
        [Self::Script, Self::Style]
            .into_iter()
            .find(|element| name.eq_ignore_ascii_case(element.name()))
    }

    fn name(self) -> &'static [u8] {
        match self {
            Self::Script => b"script",
            Self::Style => b"style",
        }
    }
}

struct Reader<'a> {
    html: &'a [u8],
    quotes: Quotes,
    text: Vec<u8>,
    /// The element whose content is being read.
    raw: Option<RawElement>,
}

impl Reader<'_> {
    /// Reads text up to markup, and the markup; returns where to go on, if it does not stop there.
    fn step(&mut self, at: usize) -> Result<Option<usize>, Unreadable> {
        if let Some(element) = self.raw {
            return Ok(self.skip_content(element, at));
        }
        let html = self.html;
        let markup = memchr::memchr(b'<', &html[at..]).map_or(html.len(), |offset| at + offset);
        let is_space = |text: &[u8], at| text::white_space(text, at) > 0;
        if markup == html.len() && ends_in_reference(&html[at..], is_space) {
            return Ok(None);
        }
        if at < markup {
            let run = character_references::resolve(&html[at..markup])?;
            append_run(&mut self.text, &run);
        }
        if markup == html.len() {
            return Ok(None);
        }
        self.markup(markup)
    }

    fn markup(&mut self, at: usize) -> Result<Option<usize>, Unreadable> {
        match self.html[at + 1..] {
            [] => Ok(None),
            [b'a'..=b'z' | b'A'..=b'Z', ..] => self.start_tag(at),
            [b'!', b'-', b'-', ..] => Ok(self.find_close(at + 4, &[b"--"])),
            [b'!', b'[', ..] => self.marked_section(at),
            // An end tag ends at the next `>`, whatever it is: outside a raw element none matters.
            [b'/' | b'?', ..] => Ok(self.find_byte(b'>', at + 2)),
            [b'!', ref rest @ ..] => {
                let name = rest.first_chunk::<7>();
                let is_doctype = name.is_some_and(|name| name.eq_ignore_ascii_case(b"doctype"));
                Ok(self.find_byte(b'>', at + if is_doctype { 9 } else { 2 }))
            }
            _ => {
                append_run(&mut self.text, b"<");
                Ok(Some(at + 1))
            }
        }
    }

    fn start_tag(&mut self, at: usize) -> Result<Option<usize>, Unreadable> {
        let name_end = html_tag::end_of_name(self.html, at + 1);
        let Some(tag) = html_tag::read(self.html, name_end, self.quotes)? else {
            return Ok(None);
        };
        match tag.kind {
            TagKind::Text => append_run(&mut self.text, &self.html[at..tag.end]),
            TagKind::Opens => self.raw = RawElement::of_name(&self.html[at + 1..name_end]),
            TagKind::Empty => {}
        }
        Ok(Some(tag.end))
    }

    /// Where the end tag ends whose name begins at `at`, if it is that of this element and holds nothing else.
    fn end_of_element(&self, element: RawElement, at: usize) -> Option<usize> {
        let name = self.html.get(at..at + element.name().len())?;
        if !name.eq_ignore_ascii_case(element.name()) {
            return None;
        }
        let close = text::skip_white_space(self.html, at + name.len());
        (self.html.get(close) == Some(&b'>')).then_some(close + 1)
    }

    /// Past the end tag of a raw element.
    fn skip_content(&mut self, element: RawElement, mut at: usize) -> Option<usize> {
        loop {
            at += memchr::memmem::find(&self.html[at..], b"</")? + 2;
            let name = text::skip_white_space(self.html, at);
            if let Some(end) = self.end_of_element(element, name) {
                self.raw = None;
                return Some(end);
            }
        }
    }

    /// A marked section: `<![CDATA[ ]]>`, or `<![if ]>` as office programs write it.
    fn marked_section(&self, at: usize) -> Result<Option<usize>, Unreadable> {
        let start = at + 3;
        let rest = &self.html[start..];
        if rest.is_empty() {
            return Ok(None);
        }
        let is_part =
            |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let length = rest.iter().take_while(is_part).count();
        if !rest[0].is_ascii_alphabetic() {
            return Err(Unreadable);
        }
        if text::skip_white_space(rest, length) == rest.len() {
            return Ok(None);
        }
        match rest[..length].to_ascii_lowercase().as_slice() {
            b"temp" | b"cdata" | b"ignore" | b"include" | b"rcdata" => {
                Ok(self.find_close(start, &[b"]", b"]"]))
            }
            b"if" | b"else" | b"endif" => Ok(self.find_close(start, &[b"]"])),
            _ => Err(Unreadable),
        }
    }

    /// Past the next such byte.
    fn find_byte(&self, byte: u8, from: usize) -> Option<usize> {
        let rest = self.html.get(from..)?;
        Some(from + memchr::memchr(byte, rest)? + 1)
    }

    /// Past the next `>` that these stand before, each with white space after it or none.
    fn find_close(&self, mut from: usize, before: &[&[u8]]) -> Option<usize> {
        loop {
            let rest = self.html.get(from..)?;
            let start = from + memchr::memmem::find(rest, before[0])?;
            if let Some(end) = self.match_close(start, before) {
                return Some(end);
            }
            from = start + 1;
        }
    }

    fn match_close(&self, mut at: usize, before: &[&[u8]]) -> Option<usize> {
        for mark in before {
            if !self.html[at..].starts_with(mark) {
                return None;
            }
            at = text::skip_white_space(self.html, at + mark.len());
        }
        self.html[at..].starts_with(b">").then_some(at + 1)
    }
}

/// Appends a run of text, trimmed, with a space before it unless it is the first.
pub(super) fn append_run(text: &mut Vec<u8>, run: &[u8]) {
    let run = text::trim(run);
    if run.is_empty() {
        return;
    }
    if !text.is_empty() {
        text.push(b' ');
    }
    text.extend_from_slice(run);
}

/// Whether text at the end may break off within a reference: there is an ampersand near the end, and neither white space
/// nor a semicolon after it.
pub(super) fn ends_in_reference(text: &[u8], is_space: impl Fn(&[u8], usize) -> bool) -> bool {
    let starts = text
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte & 0xC0 != 0x80);
    let window = starts
        .rev()
        .nth(MAX_REFERENCE_CHARS - 1)
        .map_or(0, |(at, _)| at);
    let Some(ampersand) = memchr::memrchr(b'&', &text[window..]) else {
        return false;
    };
    let mut at = window + ampersand;
    while at < text.len() {
        if text[at] == b';' || is_space(text, at) {
            return false;
        }
        at = text::end_of_char(text, at);
    }
    true
}
